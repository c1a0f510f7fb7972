#include "tests/unit/dataplane/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "proto/wire_ip.h"

/* Not assert: it must also count in builds with NDEBUG. */
static void must(bool so, const char *what)
{
    if (!so) {
        fprintf(stderr, "rig: %s\n", what);
        abort();
    }
}

const struct suite_row suite_rows[] = {
    {"aes128gcm16", {20, 128, 0, 0, 0}, 16, 4, 8, 16, 4, 0, 0},
    {"aes256gcm16", {20, 256, 0, 0, 0}, 32, 4, 8, 16, 4, 0, 0},
    {"aes128-sha256", {12, 128, 0, 12, 0}, 16, 0, 16, 16, 16, 32, HASH_SHA256},
    {"aes256-sha256", {12, 256, 0, 12, 0}, 32, 0, 16, 16, 16, 32, HASH_SHA256},
    {"aes128-sha1", {12, 128, 0, 2, 0}, 16, 0, 16, 12, 16, 20, HASH_SHA1},
    {"aes256-sha1", {12, 256, 0, 2, 0}, 32, 0, 16, 12, 16, 20, HASH_SHA1},
    {"null-sha256", {11, 0, 0, 12, 0}, 0, 0, 0, 16, 4, 32, HASH_SHA256},
    {"null-sha1", {11, 0, 0, 2, 0}, 0, 0, 0, 12, 4, 20, HASH_SHA1},
};
const size_t suite_row_count = sizeof suite_rows / sizeof *suite_rows;

/* ---------------------------------------------------------------- small values */

struct id128 rig_id(unsigned n)
{
    struct id128 id = {{0xaa}};

    id.b[ID_BYTES - 1] = (uint8_t)n;
    id.b[ID_BYTES - 2] = (uint8_t)(n >> 8);
    return id;
}

struct ip_addr addr(const char *text)
{
    struct ip_addr a;

    must(ip_parse(text, &a), text);
    return a;
}

struct endpoint end(const char *ip, uint16_t port)
{
    return (struct endpoint){addr(ip), port};
}

struct selector_list select_prefixes(const char *v4, const char *v6)
{
    struct selector_list l = {0};
    const char *both[] = {v4, v6};

    for (int i = 0; i < 2; i++) {
        struct ip_prefix p;

        if (!both[i])
            continue;
        must(prefix_parse(both[i], &p), both[i]);
        l.s[l.n++] = selector_of_prefix(&p);
    }
    return l;
}

size_t from_hex(const char *hex, uint8_t *out)
{
    size_t n = strlen(hex) / 2;

    for (size_t i = 0; i < n; i++) {
        unsigned v;
        must(sscanf(hex + 2 * i, "%2x", &v) == 1, "hex");
        out[i] = (uint8_t)v;
    }
    return n;
}

/* ---------------------------------------------------------------- the dataplane */

static void heard_ike(void *ctx, const struct endpoint *local, const struct endpoint *peer,
                      const uint8_t *bytes, size_t n)
{
    struct rig *rig = ctx;

    rig->n_ike++;
    rig->ike_local = *local;
    rig->ike_peer = *peer;
    rig->ike_n = n;
    memcpy(rig->ike_bytes, bytes, n < sizeof rig->ike_bytes ? n : sizeof rig->ike_bytes);
}

static void heard_confirmed(void *ctx, uint32_t spi)
{
    struct rig *rig = ctx;

    if (rig->n_confirmed < HEARD_MAX)
        rig->confirmed[rig->n_confirmed++] = spi;
}

static void heard_miss(void *ctx, uint32_t spi)
{
    struct rig *rig = ctx;

    if (rig->n_missed < HEARD_MAX)
        rig->missed[rig->n_missed] = spi;
    rig->n_missed++;
}

static void heard_moved(void *ctx, uint32_t spi, const struct endpoint *peer)
{
    struct rig *rig = ctx;

    rig->moved = spi;
    rig->moved_to = *peer;
    rig->n_moved++;
}

static void open_rig(struct rig *rig, const struct dp_config *sockets, uint32_t iv_max)
{
    struct dp_config config = {.slot = 5, .provider = "auto", .lanes = 1, .iv_max = iv_max};
    struct dp_callbacks callbacks = {rig, heard_ike, heard_confirmed, heard_miss, heard_moved};
    struct dp_tunnel tunnels[3] = {0};
    struct dp_route routes[3] = {0};
    const char *prefixes[] = {"203.0.113.0/24", "203.0.114.0/24", "203.0.115.0/24"};

    *rig = (struct rig){0};
    config.anycast[config.n_anycast++] = addr(ANYCAST);
    if (sockets)
        must(dp_open(sockets, &callbacks, &rig->dp) == ERR_OK, "dp_open");
    else
        must(dp_open_with(&config, &callbacks, &source_memory, &rig->net, false, &rig->dp) ==
                 ERR_OK,
             "dp_open_with");
    for (unsigned i = 0; i < 3; i++) {
        tunnels[i].id = rig_id(i + 1);
        tunnels[i].type = DP_TUNNEL_IPSEC;
        tunnels[i].anycast = addr(ANYCAST);
        routes[i].tunnel = tunnels[i].id;
        routes[i].priority = 100;
        must(prefix_parse(prefixes[i], &routes[i].prefix), "prefix");
    }
    tunnels[2].type = DP_TUNNEL_GRE;
    tunnels[2].customer = addr(CUSTOMER);
    tunnels[2].has_gre_key = true;
    tunnels[2].gre_key = 7;
    must(dp_set_tunnels(rig->dp, tunnels, 3, routes, 3) == ERR_OK, "dp_set_tunnels");
}

void rig_open(struct rig *rig, const struct dp_config *sockets)
{
    open_rig(rig, sockets, 0);
    dp_set_epoch(rig->dp, 9);
}

void rig_open_ungranted(struct rig *rig, uint32_t iv_max)
{
    open_rig(rig, NULL, iv_max);
}

void rig_close(struct rig *rig)
{
    dp_close(rig->dp);
    memory_clear(&rig->net);
}

void rig_run(struct rig *rig)
{
    while (lane_turn(rig->dp->lanes[0], 0))
        ;
    dp_poll(rig->dp);
}

struct child_record rig_record(const struct suite_row *row, uint32_t spi_in, unsigned tunnel)
{
    struct child_record r = {.spi_in = spi_in,
                             .spi_out = spi_in + 1,
                             .tunnel_id = rig_id(tunnel),
                             .lineage = rig_id(1000 + tunnel),
                             .suite = row->suite,
                             .local = {addr(ANYCAST), 0},
                             .peer = {addr(CUSTOMER), 0},
                             .state = SA_INSTALLED,
                             .created_ms = 1000};
    uint8_t key[SECRET_MAX];
    struct secret *secrets[] = {&r.encr_in, &r.encr_out, &r.integ_in, &r.integ_out};

    for (int i = 0; i < 4; i++) {
        for (size_t k = 0; k < sizeof key; k++)
            key[k] = (uint8_t)(spi_in * 31 + k * 7 + (unsigned)i * 101);
        must(secret_set(secrets[i], key, i < 2 ? row->key + row->salt : row->mac_key) == ERR_OK,
             "secret");
    }
    r.ts_local = select_prefixes("0.0.0.0/0", "::/0");
    r.ts_remote = r.ts_local;
    return r;
}

/* ---------------------------------------------------------------- the customer's ESP */

static void peer_mac(const struct suite_row *row, const struct secret *key, const uint8_t *bytes,
                     size_t n, uint8_t out[HASH_MAX])
{
    struct slice part = {bytes, n};

    must(crypto_hmac(row->hash, secret_slice(key), &part, 1, out) == ERR_OK, "hmac");
}

static struct gcm_ctx *peer_gcm(const struct suite_row *row, const struct secret *key,
                                const uint8_t *iv, uint8_t nonce[GCM_NONCE])
{
    memcpy(nonce, key->b + row->key, 4);
    memcpy(nonce + 4, iv, 8);
    return gcm_new((struct slice){key->b, row->key});
}

size_t peer_seal_text(const struct child_record *sa, const struct suite_row *row,
                      const uint8_t *text, size_t n, uint8_t *esp)
{
    static uint32_t sequence = 100;
    uint8_t *iv = esp + 8, *at = iv + row->iv, nonce[GCM_NONCE], mac[HASH_MAX];
    struct writer w = writer_of(esp, 8);

    write_u32(&w, sa->spi_in);
    write_u32(&w, ++sequence);
    for (size_t i = 0; i < row->iv; i++)
        iv[i] = (uint8_t)(sequence * 17 + i * 3);
    memmove(at, text, n);
    if (row->salt) {
        struct gcm_ctx *gcm = peer_gcm(row, &sa->encr_in, iv, nonce);
        must(gcm_seal(gcm, nonce, (struct slice){esp, 8}, at, n, at, at + n) == ERR_OK, "gcm_seal");
        gcm_free(gcm);
        return (size_t)(at - esp) + n + 16;
    }
    if (row->key) {
        struct cbc_ctx *cbc = cbc_new(secret_slice(&sa->encr_in));
        must(cbc_encrypt(cbc, iv, at, n, at) == ERR_OK, "cbc_encrypt");
        cbc_free(cbc);
    }
    peer_mac(row, &sa->integ_in, esp, (size_t)(at - esp) + n, mac);
    memcpy(at + n, mac, row->icv);
    return (size_t)(at - esp) + n + row->icv;
}

size_t peer_seal(const struct child_record *sa, const struct suite_row *row, const uint8_t *inner,
                 size_t n, const struct peer_options *options, uint8_t *esp)
{
    static const struct peer_options plain;
    const struct peer_options *o = options ? options : &plain;
    uint8_t *text = esp + 8 + row->iv;
    size_t at = n, pad;

    memmove(text, inner, n);
    memset(text + at, 0, o->tfc);
    at += o->tfc;
    pad = (row->align - (at + 2) % row->align) % row->align + (size_t)o->extra_blocks * row->align;
    for (size_t i = 1; i <= pad; i++)
        text[at++] = (uint8_t)(o->bad_padding && i == pad ? i + 1 : i);
    text[at++] = o->pad_length ? o->pad_length : (uint8_t)pad;
    text[at++] = o->next_header ? o->next_header : n && inner[0] >> 4 == 6 ? 41 : 4;
    return peer_seal_text(sa, row, text, at, esp);
}

size_t peer_open(const struct child_record *sa, const struct suite_row *row, const uint8_t *esp,
                 size_t n, uint8_t *inner, uint8_t *next, uint64_t *iv_out)
{
    const uint8_t *iv = esp + 8, *text = iv + row->iv;
    uint8_t nonce[GCM_NONCE], mac[HASH_MAX];
    size_t around = 8u + row->iv + row->icv, text_n = n - around, pad;
    struct reader r = reader_of(esp, n);

    if (n < around + 2 || text_n % row->align || read_u32(&r) != sa->spi_out)
        return 0;
    read_skip(&r, 4);
    if (iv_out)
        *iv_out = read_u64(&r);
    if (row->salt) {
        struct gcm_ctx *gcm = peer_gcm(row, &sa->encr_out, iv, nonce);
        int rc = gcm_open(gcm, nonce, (struct slice){esp, 8}, text, text_n, inner, text + text_n);
        gcm_free(gcm);
        if (rc != ERR_OK)
            return 0;
    } else {
        peer_mac(row, &sa->integ_out, esp, n - row->icv, mac);
        if (memcmp(mac, text + text_n, row->icv) != 0)
            return 0;
        memcpy(inner, text, text_n);
        if (row->key) {
            struct cbc_ctx *cbc = cbc_new(secret_slice(&sa->encr_out));
            must(cbc_decrypt(cbc, iv, text, text_n, inner) == ERR_OK, "cbc_decrypt");
            cbc_free(cbc);
        }
    }
    pad = inner[text_n - 2];
    if (next)
        *next = inner[text_n - 1];
    if (pad + 2 > text_n)
        return 0;
    for (size_t i = 1; i <= pad; i++)
        if (inner[text_n - 2 - pad + i - 1] != i)
            return 0;
    return text_n - 2 - pad;
}

/* ---------------------------------------------------------------- packets */

static void put_u16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

size_t make_ip(const char *src, const char *dst, uint8_t proto, const uint8_t *payload, size_t n,
               uint8_t *out)
{
    struct ip_addr s = addr(src), d = addr(dst);
    size_t header = s.family == 4 ? 20 : 40;

    if (n)
        memmove(out + header, payload, n);
    memset(out, 0, header);
    if (s.family == 4) {
        out[0] = 0x45;
        put_u16(out + 2, (unsigned)(header + n));
        put_u16(out + 4, 0x1234);
        out[8] = 64;
        out[9] = proto;
        memcpy(out + 12, s.b, 4);
        memcpy(out + 16, d.b, 4);
        put_u16(out + 10, inet_fold(inet_sum(out, 20, 0)));
    } else {
        out[0] = 0x60;
        put_u16(out + 4, (unsigned)n);
        out[6] = proto;
        out[7] = 64;
        memcpy(out + 8, s.b, 16);
        memcpy(out + 24, d.b, 16);
    }
    return header + n;
}

/* The pseudo header's sum, then the upper layer's; 0 when the checksum in it is right. */
static uint16_t l4_sum(const uint8_t *ip, size_t n)
{
    bool v4 = ip[0] >> 4 == 4;
    size_t header = v4 ? 20 : 40;
    uint32_t sum = inet_sum(ip + (v4 ? 12 : 8), v4 ? 8 : 32, 0);

    sum += v4 ? ip[9] : ip[6];
    sum += (uint32_t)(n - header);
    return inet_fold(inet_sum(ip + header, n - header, sum));
}

size_t make_udp(const char *src, const char *dst, uint16_t sport, uint16_t dport, size_t n,
                uint8_t *out)
{
    static uint8_t body[PACKET_MAX];
    size_t total, header;

    memset(body, 0, 8);
    put_u16(body, sport);
    put_u16(body + 2, dport);
    put_u16(body + 4, (unsigned)(8 + n));
    for (size_t i = 0; i < n; i++)
        body[8 + i] = (uint8_t)(i * 5 + n);
    total = make_ip(src, dst, 17, body, 8 + n, out);
    header = total - 8 - n;
    put_u16(out + header + 6, l4_sum(out, total));
    return total;
}

size_t make_syn(const char *src, const char *dst, const uint8_t *options, size_t n, uint8_t *out)
{
    uint8_t tcp[60] = {0};
    size_t length = 20 + (n + 3) / 4 * 4, total;

    put_u16(tcp, 40000);
    put_u16(tcp + 2, 443);
    tcp[12] = (uint8_t)(length / 4 << 4);
    tcp[13] = 2;
    if (n)
        memcpy(tcp + 20, options, n);
    total = make_ip(src, dst, 6, tcp, length, out);
    put_u16(out + total - length + 16, l4_sum(out, total));
    return total;
}

bool checksums_right(const uint8_t *ip, size_t n)
{
    if (ip[0] >> 4 == 4 && inet_fold(inet_sum(ip, 20, 0)) != 0)
        return false;
    return l4_sum(ip, n) == 0;
}

/* ---------------------------------------------------------------- the wire */

void push_native(struct rig *rig, uint8_t protocol, const char *peer, const uint8_t *bytes,
                 size_t n)
{
    static uint8_t packet[PACKET_MAX];
    struct memory_packet p = {.via = VIA_IP, .bytes = packet};

    p.n = (uint32_t)make_ip(peer, ANYCAST, protocol, bytes, n, packet);
    must(memory_push(&rig->net.arriving, &p), "push");
}

void push_udp(struct rig *rig, uint16_t port, const uint8_t *bytes, size_t n)
{
    struct endpoint peer = end(CUSTOMER, 4711);

    push_udp_from(rig, &peer, port, bytes, n);
}

void push_udp_from(struct rig *rig, const struct endpoint *peer, uint16_t port,
                   const uint8_t *bytes, size_t n)
{
    struct memory_packet p = {.via = VIA_UDP,
                              .local = end(ANYCAST, port),
                              .peer = *peer,
                              .bytes = (uint8_t *)(uintptr_t)bytes,
                              .n = (uint32_t)n};

    must(memory_push(&rig->net.arriving, &p), "push");
}

void push_inner(struct rig *rig, const uint8_t *bytes, size_t n)
{
    struct memory_packet p = {
        .via = VIA_INNER, .bytes = (uint8_t *)(uintptr_t)bytes, .n = (uint32_t)n};

    must(memory_push(&rig->net.arriving, &p), "push");
}

bool pop(struct rig *rig, struct memory_packet *p)
{
    return memory_pop(&rig->net.leaving, p);
}

void expect_left(struct rig *rig, uint8_t via, const uint8_t *bytes, size_t n)
{
    struct memory_packet p;

    must(rig->net.leaving.n == 1, "exactly one packet left");
    must(pop(rig, &p), "pop");
    must(p.via == via, "it left by the wrong way");
    must(p.n == n, "it left with the wrong length");
    must(n == 0 || memcmp(p.bytes, bytes, n) == 0, "it left with the wrong octets");
    free(p.bytes);
}

uint64_t drops(const struct rig *rig, enum dp_drop reason)
{
    struct dp_counters c;

    dp_get_counters(rig->dp, &c);
    return c.drops[reason];
}

uint64_t all_drops(const struct rig *rig)
{
    uint64_t n = 0;

    for (int i = 0; i < DROP_COUNT; i++)
        n += drops(rig, (enum dp_drop)i);
    return n;
}
