/* Writes the hand-made inputs of the IKE fuzz targets: one well-formed conversation each, from
 * which the fuzzer goes on. See ike_input.h for their layout.
 *
 *   make_ike_seeds DIR      writes DIR/ike_sk/seed_..., DIR/ike_message/seed_..., ...  */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/fuzz/ike_input.h"

static const char *root;

struct seed {
    uint8_t bytes[16384];
    struct writer w;
};

static void begin(struct seed *s, uint8_t octet)
{
    s->w = writer_of(s->bytes, sizeof s->bytes);
    write_u8(&s->w, octet);
}

static void save(const struct seed *s, const char *target, const char *name)
{
    char path[512];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", root, target);
    (void)mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/seed_%s", root, target, name);
    f = fopen(path, "wb");
    if (!f || s->w.bad || fwrite(s->w.p, 1, s->w.n, f) != s->w.n || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

/* ---- chains ---- */

static uint8_t room[8192];

static struct chain chain(void)
{
    struct chain c;

    chain_begin(&c, room, sizeof room);
    return c;
}

static void add(struct chain *c, uint8_t type, const void *body, size_t n)
{
    chain_open(c, type);
    write_bytes(&c->w, body, n);
    chain_close(c);
}

static void add_nonce(struct chain *c)
{
    add(c, PAYLOAD_NONCE, "fedcba9876543210fedcba9876543210", 32);
}

static void add_ke(struct chain *c, uint16_t group)
{
    chain_open(c, PAYLOAD_KE);
    write_u16(&c->w, group);
    write_u16(&c->w, 0);
    for (size_t i = 0; i < dh_public_len(group); i++)
        write_u8(&c->w, 0x41);
    chain_close(c);
}

static void add_ts(struct chain *c, const char *remote, const char *local)
{
    const char *text[] = {remote, local};

    for (unsigned i = 0; i < 2; i++) {
        struct selector_list list = {.n = 1};
        struct ip_prefix p;

        if (!prefix_parse(text[i], &p))
            abort();
        list.s[0] = selector_of_prefix(&p);
        ts_write(c, i ? PAYLOAD_TSR : PAYLOAD_TSI, &list);
    }
}

static const struct suite esp_gcm = {.encr = ENCR_AES_GCM_16, .encr_bits = 128},
                          esp_gcm_pfs = {.encr = ENCR_AES_GCM_16,
                                         .encr_bits = 128,
                                         .dh = DH_MODP_2048},
                          esp_cbc = {.encr = ENCR_AES_CBC,
                                     .encr_bits = 256,
                                     .integ = INTEG_HMAC_SHA2_256_128},
                          esp_null = {.encr = ENCR_NULL, .integ = INTEG_HMAC_SHA1_96};

/* ---- ops ---- */

/* The chain as (type, length, body) over and over. */
static void write_built(struct writer *w, const struct chain *c)
{
    static struct message m;

    m = (struct message){0};
    if (c->any && message_parse_chain(&m, c->first, (struct slice){c->w.p, c->w.n}) != ERR_OK)
        abort();
    for (size_t i = 0; i < m.n; i++) {
        write_u8(w, m.payloads[i].type);
        write_u16(w, (uint16_t)m.payloads[i].body.n);
        write_bytes(w, m.payloads[i].body.p, m.payloads[i].body.n);
    }
}

static void op(struct seed *s, uint8_t kind, uint8_t arg, const struct chain *c)
{
    size_t at = s->w.n;

    write_u8(&s->w, kind);
    write_u8(&s->w, arg);
    write_u16(&s->w, 0);
    if (c)
        write_built(&s->w, c);
    write_u16_at(&s->w, at + 2, (uint16_t)(s->w.n - at - 4));
}

enum { AUTH_X = 0, CREATE_X = 1, INFO_X = 2 };

static void request(struct seed *s, uint8_t flags, uint8_t arg, const struct chain *c)
{
    op(s, OP_REQUEST | OP_BUILT | flags, arg, c);
}

static void respond(struct seed *s, uint8_t flags, uint8_t arg, const struct chain *c)
{
    op(s, OP_RESPONSE | OP_BUILT | flags, arg, c);
}

static void auth(struct seed *s, uint8_t world, uint8_t flags, uint8_t arg, const struct suite *esp,
                 bool contact)
{
    uint8_t id[128] = {ID_FQDN, 0, 0, 0}, value[4 + 64] = {AUTH_SHARED_KEY};
    struct chain c = chain();

    memcpy(id + 4, world_id, strlen(world_id));
    add(&c, PAYLOAD_IDI, id, 4 + strlen(world_id));
    add(&c, PAYLOAD_AUTH, value, 4U + (world & WORLD_BIG_PRF ? 64 : 32));
    if (contact)
        chain_error(&c, N_INITIAL_CONTACT);
    world_write_offer(&c, esp, PROTOCOL_ESP, 0x55667788);
    add_ts(&c, "172.16.5.0/24", "10.1.0.0/16");
    request(s, flags, AUTH_X | arg, &c);
}

static void create_in(struct seed *s, uint8_t flags, uint8_t arg, const struct suite *esp,
                      uint32_t rekeys)
{
    struct chain c = chain();
    uint8_t spi[4];
    struct writer w = writer_of(spi, 4);

    write_u32(&w, rekeys);
    if (rekeys)
        chain_notify(&c, PROTOCOL_ESP, (struct slice){spi, 4}, N_REKEY_SA, (struct slice){0});
    world_write_offer(&c, esp, PROTOCOL_ESP, 0x55667799);
    add_nonce(&c);
    if (esp->dh)
        add_ke(&c, esp->dh);
    add_ts(&c, "172.16.0.0/12", "10.0.0.0/8");
    request(s, flags, CREATE_X | arg, &c);
}

static void create(struct seed *s, uint8_t flags, const struct suite *esp, uint32_t rekeys)
{
    create_in(s, flags, 0, esp, rekeys);
}

static void rekey_ike(struct seed *s, uint8_t world, uint8_t flags, bool answer)
{
    struct world_options o = world_options_of(world);
    struct suite suite = world_ike_suite(&o);
    struct chain c = chain();

    world_write_offer(&c, &suite, PROTOCOL_IKE, 0x1234567812345678);
    add_nonce(&c);
    add_ke(&c, suite.dh);
    (answer ? respond : request)(s, flags, CREATE_X, &c);
}

static void answer_child(struct seed *s, uint8_t flags, const struct suite *esp)
{
    struct chain c = chain();

    world_write_offer(&c, esp, PROTOCOL_ESP, 0x5566aa01);
    add_nonce(&c);
    if (esp->dh)
        add_ke(&c, esp->dh);
    add_ts(&c, "10.0.0.0/8", "172.16.0.0/12"); /* we asked: TSi is our side */
    respond(s, flags, CREATE_X, &c);
}

static void delete_sa(struct seed *s, uint8_t flags, uint32_t spi)
{
    struct chain c = chain();

    chain_open(&c, PAYLOAD_DELETE);
    write_u8(&c.w, spi ? PROTOCOL_ESP : PROTOCOL_IKE);
    write_u8(&c.w, spi ? 4 : 0);
    write_u16(&c.w, spi ? 1 : 0);
    if (spi)
        write_u32(&c.w, spi);
    chain_close(&c);
    request(s, flags, INFO_X, &c);
}

static void answer_empty(struct seed *s)
{
    respond(s, 0, INFO_X, NULL);
}

static void answer_notify(struct seed *s, uint16_t type, struct slice data)
{
    struct chain c = chain();

    chain_notify(&c, 0, (struct slice){0}, type, data);
    respond(s, 0, CREATE_X, &c);
}

/* ---- fuzz_ike_sk ---- */

enum { WAIT_DPD = 3, WAIT_CHILD = 6, WAIT_IKE = 7, AND_ON = 8 };

static void sk_requests(uint8_t world, const char *suffix)
{
    static struct seed s;
    char name[64];

#define SAVE(what) (snprintf(name, sizeof name, what "_%s", suffix), save(&s, "ike_sk", name))
    begin(&s, world | WORLD_HALF_OPEN | WORLD_LOG);
    auth(&s, world, 0, ARG_GOOD_AUTH, &esp_gcm, true);
    create(&s, 0, &esp_gcm_pfs, 0x55667788);
    delete_sa(&s, 0, 0x55667788);
    SAVE("auth");
    begin(&s, world | WORLD_HALF_OPEN | WORLD_LOG);
    auth(&s, world, OP_HOLD_JOBS | OP_HOLD_COMMITS, 0, &esp_cbc, false);
    op(&s, OP_AGAIN, 0, NULL);
    op(&s, OP_RELEASE, 0, NULL);
    op(&s, OP_AGAIN, 0, NULL);
    SAVE("auth_wrong");
    begin(&s, world | WORLD_HALF_OPEN | WORLD_CHILDREN);
    auth(&s, world, 0, ARG_GOOD_AUTH, &esp_gcm, true);
    create(&s, 0, &esp_gcm, 0);
    SAVE("initial_contact");
    begin(&s, world | WORLD_HALF_OPEN | WORLD_NARROW);
    auth(&s, world, OP_HOLD_JOBS, ARG_GOOD_AUTH | ARG_FRAGMENTS, &esp_gcm, false);
    op(&s, OP_RELEASE, 0, NULL);
    rekey_ike(&s, world, 0, false);
    SAVE("fragments");
    begin(&s, world | WORLD_CHILDREN);
    create(&s, OP_HOLD_COMMITS, &esp_cbc, 0);
    op(&s, OP_AGAIN, 0, NULL);
    op(&s, OP_RELEASE, 0, NULL);
    op(&s, OP_AGAIN, 0, NULL);
    delete_sa(&s, 0, 0);
    SAVE("create");
    begin(&s, world | WORLD_CHILDREN | WORLD_LOG);
    rekey_ike(&s, world, OP_HOLD_JOBS, false);
    op(&s, OP_RELEASE, 0, NULL);
    create(&s, 0, &esp_gcm_pfs, WORLD_CHILD_SPI);
    delete_sa(&s, OP_OLDEST_SA, 0);
    delete_sa(&s, 0, WORLD_CHILD_SPI);
    SAVE("rekey_ike");
    begin(&s, world | WORLD_CHILDREN | WORLD_NARROW);
    create_in(&s, OP_FAIL_JOBS, ARG_FRAGMENTS | ARG_BACKWARDS, &esp_gcm_pfs, WORLD_CHILD_SPI);
    create_in(&s, OP_HOLD_JOBS, ARG_FRAGMENTS, &esp_gcm_pfs, WORLD_CHILD_SPI);
    op(&s, OP_RELEASE, 0, NULL);
    op(&s, OP_AGAIN, 0, NULL);
    SAVE("create_fragments");
#undef SAVE
}

static void sk_own(uint8_t world, const char *suffix)
{
    static const uint8_t group5[] = {0, DH_MODP_1536};
    static struct seed s;
    char name[64];

#define SAVE(what) (snprintf(name, sizeof name, what "_%s", suffix), save(&s, "ike_sk", name))
    begin(&s, world | WORLD_LOG);
    op(&s, OP_TICK, WAIT_DPD, NULL);
    answer_empty(&s);
    op(&s, OP_TICK, WAIT_DPD, NULL);
    op(&s, OP_RESTART, 0, NULL);
    op(&s, OP_TICK, 2 | AND_ON, NULL);
    answer_empty(&s);
    SAVE("dpd");
    begin(&s, world | WORLD_CHILDREN | WORLD_LOG);
    op(&s, OP_TICK, 4 | 7 << 4, NULL);
    op(&s, OP_TICK, 4, NULL);
    SAVE("silence");
    begin(&s, world | WORLD_CHILDREN | WORLD_LOG);
    op(&s, OP_TICK, WAIT_CHILD, NULL);
    answer_child(&s, 0, &esp_gcm_pfs);
    answer_empty(&s);
    op(&s, OP_TICK, 1 | AND_ON, NULL);
    answer_child(&s, OP_HOLD_COMMITS, &esp_cbc);
    op(&s, OP_RELEASE, 0, NULL);
    SAVE("own_child");
    begin(&s, world | WORLD_CHILDREN);
    op(&s, OP_TICK, WAIT_CHILD, NULL);
    create(&s, 0, &esp_gcm_pfs, WORLD_CHILD_SPI);
    answer_child(&s, 0, &esp_gcm_pfs);
    answer_empty(&s);
    op(&s, OP_RESTART, 0, NULL);
    SAVE("collision_child");
    begin(&s, world | WORLD_LOG);
    op(&s, OP_TICK, WAIT_IKE, NULL);
    rekey_ike(&s, world, 0, true);
    op(&s, OP_RESPONSE | OP_BUILT | OP_OLDEST_SA, INFO_X, NULL);
    create(&s, 0, &esp_null, 0);
    op(&s, OP_TICK, WAIT_DPD, NULL);
    SAVE("own_ike");
    begin(&s, world);
    op(&s, OP_TICK, WAIT_IKE, NULL);
    rekey_ike(&s, world, 0, false);
    rekey_ike(&s, world, OP_OLDEST_SA, true);
    delete_sa(&s, OP_OLDEST_SA, 0);
    op(&s, OP_TICK, 4 | AND_ON, NULL);
    SAVE("collision_ike");
    begin(&s, world | WORLD_CHILDREN | WORLD_LOG);
    op(&s, OP_TICK, WAIT_CHILD, NULL);
    answer_notify(&s, N_INVALID_KE_PAYLOAD, (struct slice){group5, 2});
    op(&s, OP_TICK, 2 | AND_ON, NULL);
    answer_notify(&s, N_CHILD_SA_NOT_FOUND, (struct slice){0});
    op(&s, OP_RECORD, 3, NULL);
    SAVE("refused");
#undef SAVE
}

static void sk_plain(void)
{
    static const uint8_t text[] = {PAYLOAD_NOTIFY, 0, 0, 0, 12, 0, 0, 0x40, 4, 0x5a, 1, 2, 3, 0};
    static struct seed s;

    begin(&s, 0);
    write_u8(&s.w, OP_PLAIN);
    write_u8(&s.w, INFO_X);
    write_u16(&s.w, sizeof text);
    write_bytes(&s.w, text, sizeof text);
    save(&s, "ike_sk", "plain");
    begin(&s, WORLD_CBC);
    write_u8(&s.w, OP_PLAIN);
    write_u8(&s.w, INFO_X);
    write_u16(&s.w, 33);
    write_zeros(&s.w, 32);
    write_u8(&s.w, 31);
    save(&s, "ike_sk", "plain_cbc");
}

/* ---- fuzz_ike_message ---- */

static void header(struct writer *w, uint8_t version, uint8_t exchange)
{
    write_u8(w, version);
    write_u8(w, exchange);
    write_u8(w, IKE_FLAG_INITIATOR);
    write_u8(w, 0);
}

static void init(struct seed *s, uint8_t kind, uint8_t arg, uint16_t group, uint16_t bits)
{
    struct suite suite = {
        .encr = ENCR_AES_GCM_16, .encr_bits = bits, .prf = PRF_HMAC_SHA2_256, .dh = DH_MODP_2048};
    uint8_t zeros[20] = {0};
    struct chain c = chain();
    size_t at = s->w.n;

    world_write_offer(&c, &suite, PROTOCOL_IKE, 0);
    add_ke(&c, group);
    add_nonce(&c);
    chain_notify(&c, 0, (struct slice){0}, N_NAT_DETECTION_SOURCE_IP, (struct slice){zeros, 20});
    chain_notify(&c, 0, (struct slice){0}, N_NAT_DETECTION_DESTINATION_IP,
                 (struct slice){zeros, 20});
    write_u8(&s->w, kind | MSG_BUILT);
    write_u8(&s->w, arg);
    write_u16(&s->w, 0);
    header(&s->w, IKE_VERSION_2, IKE_SA_INIT);
    write_built(&s->w, &c);
    write_u16_at(&s->w, at + 2, (uint16_t)(s->w.n - at - 4));
}

static void message_seeds(void)
{
    static const struct world_options plain = {.cbc = true, .big_prf = true};
    static uint8_t datagram[1024];
    static struct seed s;
    size_t n = world_init_request(&plain, datagram, sizeof datagram);

    begin(&s, WORLD_LOG);
    init(&s, 0, MSG_NATD | MSG_AGAIN, DH_MODP_2048, 256);
    init(&s, MSG_HOLD_JOBS | MSG_OTHER_SOURCE, 0, DH_MODP_2048, 128);
    init(&s, MSG_TICK, MSG_SPI_I, DH_MODP_2048, 256);
    save(&s, "ike_message", "init");
    begin(&s, WORLD_HALF_OPEN);
    init(&s, 0, 0, DH_MODP_2048, 256);
    init(&s, 0, MSG_COOKIE, DH_MODP_2048, 256);
    init(&s, 0, MSG_COOKIE | MSG_SPI_I, DH_MODP_2048, 256);
    save(&s, "ike_message", "cookie");
    begin(&s, WORLD_LOG);
    init(&s, 0, 0, DH_MODP_1536, 256);
    init(&s, 0, 0, DH_MODP_2048, 192);
    save(&s, "ike_message", "refused");
    begin(&s, 0);
    write_u8(&s.w, MSG_BUILT);
    write_u8(&s.w, 0);
    write_u16(&s.w, 4);
    header(&s.w, 0x30, IKE_SA_INIT);
    save(&s, "ike_message", "version_3");
    begin(&s, WORLD_CHILDREN);
    write_u8(&s.w, MSG_BUILT | MSG_KNOWN_SA);
    write_u8(&s.w, 0);
    write_u16(&s.w, 4 + 3 + 48);
    header(&s.w, IKE_VERSION_2, INFORMATIONAL);
    s.w.p[s.w.n - 1] = 2; /* the next message ID */
    write_u8(&s.w, PAYLOAD_SK);
    write_u16(&s.w, 48);
    write_zeros(&s.w, 48);
    save(&s, "ike_message", "forged");
    begin(&s, 0);
    init(&s, 0, 0, DH_MODP_2048, 256);
    write_u8(&s.w, MSG_BUILT | MSG_KNOWN_SA);
    write_u8(&s.w, 0);
    write_u16(&s.w, 4 + 3 + 48);
    header(&s.w, IKE_VERSION_2, IKE_AUTH);
    s.w.p[s.w.n - 1] = 1;
    write_u8(&s.w, PAYLOAD_SK);
    write_u16(&s.w, 48);
    write_zeros(&s.w, 48);
    save(&s, "ike_message", "forged_auth");
    begin(&s, 0);
    write_u8(&s.w, 0);
    write_u8(&s.w, MSG_NATD);
    write_u16(&s.w, (uint16_t)n);
    write_bytes(&s.w, datagram, n);
    save(&s, "ike_message", "datagram");
}

/* ---- fuzz_ike_proposal, fuzz_ike_ts ---- */

static void proposal_seeds(void)
{
    static const struct suite suites[] = {
        {ENCR_AES_GCM_16, 256, PRF_HMAC_SHA2_384, INTEG_NONE, DH_MODP_2048},
        {ENCR_AES_CBC, 256, PRF_HMAC_SHA2_256, INTEG_HMAC_SHA2_256_128, DH_MODP_1536},
        {ENCR_AES_CBC, 128, 0, INTEG_HMAC_SHA1_96, DH_MODP_2048},
        {ENCR_AES_GCM_16, 128, 0, INTEG_NONE, DH_NONE},
        {ENCR_NULL, 0, 0, INTEG_HMAC_SHA2_256_128, DH_NONE},
    };
    static struct seed s;
    struct choice offers[2] = {{.number = 1, .echo_esn = true}, {.number = 2}};

    for (unsigned i = 0; i < 5; i++) {
        uint8_t protocol = i < 2 ? PROTOCOL_IKE : PROTOCOL_ESP, spi_n = i < 1 ? 0 : i < 2 ? 8 : 4;
        struct chain c = chain();
        char name[8] = {(char)('1' + i)};

        offers[0].suite = suites[i];
        offers[1].suite = suites[i < 2 ? 1 - i : 5 - i];
        proposal_write_offers(&c, offers, 2, protocol, 0x1122334455667788, spi_n);
        begin(&s,
              (uint8_t)((protocol == PROTOCOL_ESP ? 1 : 0) | (i == 4 ? 2 : 0) | (i == 1 ? 16 : 0)));
        write_bytes(&s.w, c.w.p + IKE_PAYLOAD_HEADER_BYTES, c.w.n - IKE_PAYLOAD_HEADER_BYTES);
        save(&s, "ike_proposal", name);
    }
}

/* Lists of many transforms, in the target's own notation. */
static void proposal_list_seeds(void)
{
    static const uint8_t ike[] = {128 | 4, 0x80, 0, 0, 0, 1, 0, 5, 0, 10, 0, 11, 0, 0x80,
                                  0,       2,    0, 8, 0, 5, 0, 6, 0, 11, 4, 10, 0};
    static const uint8_t esp[] = {128 | 1 | 4, 0x80, 9,  3, 4,  2, 0,  8, 0,  9, 0,
                                  10,          0,    11, 0, 12, 0, 13, 0, 14, 0};
    static struct seed s;

    s.w = writer_of(s.bytes, sizeof s.bytes);
    write_bytes(&s.w, ike, sizeof ike);
    save(&s, "ike_proposal", "list_ike");
    s.w = writer_of(s.bytes, sizeof s.bytes);
    write_bytes(&s.w, esp, sizeof esp);
    save(&s, "ike_proposal", "list_esp");
}

static void ts_seeds(void)
{
    static const char *const pairs[][2] = {
        {"10.0.0.0/8", "10.1.0.0/16"}, {"fd00::/8", "fd00:1::/64"}, {"0.0.0.0/0", "192.0.2.7/32"}};
    static struct seed s;

    for (unsigned i = 0; i < 3; i++) {
        char name[8] = {(char)('1' + i)};
        struct message m = {0};
        struct chain c = chain();

        add_ts(&c, pairs[i][0], pairs[i][1]);
        (void)message_parse_chain(&m, c.first, (struct slice){c.w.p, c.w.n});
        begin(&s, 200);
        write_u8(&s.w, i == 1);
        write_u8(&s.w, 17);
        write_u16(&s.w, 53);
        write_bytes(&s.w, m.payloads[1].body.p + 4 + 8, 4);
        write_zeros(&s.w, 12);
        write_u16(&s.w, (uint16_t)m.payloads[0].body.n);
        write_bytes(&s.w, m.payloads[0].body.p, m.payloads[0].body.n);
        write_bytes(&s.w, m.payloads[1].body.p, m.payloads[1].body.n);
        save(&s, "ike_ts", name);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make_ike_seeds DIR\n");
        return 2;
    }
    root = argv[1];
    (void)mkdir(root, 0777);
    sk_requests(0, "gcm");
    sk_requests(WORLD_CBC | WORLD_BIG_PRF | WORLD_NARROW, "cbc");
    sk_own(0, "gcm");
    sk_own(WORLD_CBC | WORLD_BIG_PRF | WORLD_NARROW | WORLD_INITIATOR | WORLD_NULL_OK, "cbc");
    sk_plain();
    message_seeds();
    proposal_seeds();
    proposal_list_seeds();
    ts_seeds();
    return 0;
}
