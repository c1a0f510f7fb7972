#include "peer.h"

#include <string.h>

struct suite suite_of(uint16_t encr, uint16_t bits, uint16_t prf, uint16_t integ, uint16_t dh)
{
    return (struct suite){.encr = encr, .encr_bits = bits, .prf = prf, .integ = integ, .dh = dh};
}

void peer_open(struct peer *p, struct bench *b)
{
    memset(p, 0, sizeof *p);
    p->bench = b;
    (void)endpoint_parse("192.0.2.1:4500", &p->local);
    (void)endpoint_parse("198.51.100.1:4500", &p->remote);
    p->rec = record_new(RECORD_IKE);
    p->ike = suite_of(ENCR_AES_GCM_16, 256, PRF_HMAC_SHA2_256, INTEG_NONE, DH_MODP_2048);
    p->esp = suite_of(ENCR_AES_GCM_16, 128, 0, INTEG_NONE, DH_NONE);
    p->esp_spi = 0x11223300;
    p->iv = 1;
    p->id_type = ID_FQDN;
    strcpy(p->id, bench_tunnel_hex);
    strcat(p->id, ".");
    strcat(p->id, bench_account);
    strcat(p->id, ".ipsec.example.net");
    p->psk = bench_psk;
    p->natd = true;
    p->tsi.s[p->tsi.n++] = bench_any(4);
    p->tsr.s[p->tsr.n++] = bench_any(4);
    bench_fill(&b->rng_state, p->nonce_i, sizeof p->nonce_i);
    p->rec->ike.spi_i = 0x0102030405060708ULL ^ b->rng_state;
}

void peer_close(struct peer *p)
{
    record_free(p->rec);
    dh_free(p->dh);
    dh_free(p->pfs_key);
}

static void one_transform(struct writer *w, bool last, uint8_t type, uint16_t id, uint16_t bits)
{
    write_u8(w, last ? 0 : TRANSFORM_MORE);
    write_u8(w, 0);
    write_u16(w, bits ? 12 : 8);
    write_u8(w, type);
    write_u8(w, 0);
    write_u16(w, id);
    if (bits) {
        write_u16(w, 0x8000 | TRANSFORM_ATTR_KEY_LENGTH);
        write_u16(w, bits);
    }
}

void peer_write_offer(struct chain *c, const struct suite *s, uint8_t protocol, uint64_t spi,
                      bool esn_only)
{
    bool ike = protocol == PROTOCOL_IKE;
    uint8_t n = (uint8_t)(1 + (s->prf != 0) + (s->integ != 0) + (s->dh != 0) + !ike);
    size_t at;

    chain_open(c, PAYLOAD_SA);
    at = c->w.n;
    write_u32(&c->w, 0);
    write_u8(&c->w, 1);
    write_u8(&c->w, protocol);
    write_u8(&c->w, ike ? (spi ? 8 : 0) : 4);
    write_u8(&c->w, n);
    if (!ike)
        write_u32(&c->w, (uint32_t)spi);
    else if (spi)
        write_u64(&c->w, spi);
    one_transform(&c->w, --n == 0, TRANSFORM_ENCR, s->encr, s->encr_bits);
    if (s->prf)
        one_transform(&c->w, --n == 0, TRANSFORM_PRF, s->prf, 0);
    if (s->integ)
        one_transform(&c->w, --n == 0, TRANSFORM_INTEG, s->integ, 0);
    if (s->dh)
        one_transform(&c->w, --n == 0, TRANSFORM_DH, s->dh, 0);
    if (!ike)
        one_transform(&c->w, true, TRANSFORM_ESN, esn_only ? ESN_YES : ESN_NO, 0);
    write_u16_at(&c->w, at + 2, (uint16_t)(c->w.n - at));
    chain_close(c);
}

/* What the test wants to be offered in place of a suite's proposal. */
static void write_offer(const struct peer *p, struct chain *c, uint8_t protocol, uint64_t spi)
{
    struct slice raw = protocol == PROTOCOL_IKE ? p->ike_offer : p->esp_offer;

    if (raw.n == 0) {
        peer_write_offer(c, protocol == PROTOCOL_IKE ? &p->ike : &p->esp, protocol, spi,
                         p->esn_only);
        return;
    }
    chain_open(c, PAYLOAD_SA);
    write_bytes(&c->w, raw.p, raw.n);
    chain_close(c);
}

static void add_natd(struct peer *p, struct chain *c)
{
    uint8_t hash[20];
    struct endpoint seen = p->remote;

    if (p->natd_fake)
        seen.port ^= 1;
    (void)natd_hash(p->rec->ike.spi_i, 0, &seen, hash);
    chain_notify(c, 0, (struct slice){0}, N_NAT_DETECTION_SOURCE_IP, (struct slice){hash, 20});
    (void)natd_hash(p->rec->ike.spi_i, 0, &p->local, hash);
    chain_notify(c, 0, (struct slice){0}, N_NAT_DETECTION_DESTINATION_IP, (struct slice){hash, 20});
}

static bool take_init_answer(struct peer *p)
{
    struct bench *b = p->bench;
    struct slice raw = {p->init_response, b->answer_n};
    const struct payload *ke, *nonce, *sa;
    struct choice choice;
    struct choice_rules rules = {.protocol = PROTOCOL_IKE};
    uint8_t shared[DH_PUBLIC_MAX];

    memcpy(p->init_response, b->answer, b->answer_n);
    p->init_response_n = b->answer_n;
    if (message_parse_header(raw, &p->answer) != ERR_OK ||
        message_parse_chain(&p->answer, p->answer.first,
                            (struct slice){raw.p + IKE_HEADER_BYTES, raw.n - IKE_HEADER_BYTES}) !=
            ERR_OK)
        return false;
    ke = message_find(&p->answer, PAYLOAD_KE);
    nonce = message_find(&p->answer, PAYLOAD_NONCE);
    sa = message_find(&p->answer, PAYLOAD_SA);
    if (!ke || !nonce || !sa || proposal_choose(sa->body, &rules, &choice) != ERR_OK)
        return false;
    memcpy(p->nonce_r, nonce->body.p, nonce->body.n);
    p->nonce_r_n = nonce->body.n;
    p->rec->ike.spi_r = p->answer.spi_r;
    p->rec->ike.suite = choice.suite;
    if (dh_derive(p->dh, (struct slice){ke->body.p + 4, ke->body.n - 4}, shared) != ERR_OK)
        return false;
    return keys_derive_ike(&p->rec->ike, NULL, (struct slice){p->nonce_i, sizeof p->nonce_i},
                           (struct slice){p->nonce_r, p->nonce_r_n},
                           (struct slice){shared, dh_public_len(p->ike.dh)}) == ERR_OK;
}

bool peer_init(struct peer *p)
{
    uint8_t payloads[4096], public_value[DH_PUBLIC_MAX];
    struct writer w = writer_of(p->init_request, sizeof p->init_request);
    struct chain c;

    if (!p->dh)
        p->dh = dh_generate(p->ike.dh);
    (void)dh_public(p->dh, public_value);
    chain_begin(&c, payloads, sizeof payloads);
    if (p->cookie_n)
        chain_notify(&c, 0, (struct slice){0}, N_COOKIE, (struct slice){p->cookie, p->cookie_n});
    write_offer(p, &c, PROTOCOL_IKE, 0);
    chain_open(&c, PAYLOAD_KE);
    write_u16(&c.w, p->wrong_init_group ? p->wrong_init_group : p->ike.dh);
    write_u16(&c.w, 0);
    write_bytes(&c.w, public_value, dh_public_len(p->ike.dh));
    chain_open(&c, PAYLOAD_NONCE);
    write_bytes(&c.w, p->nonce_i, sizeof p->nonce_i);
    chain_close(&c);
    if (p->natd)
        add_natd(p, &c);
    if (p->fragmentation)
        chain_notify(&c, 0, (struct slice){0}, N_FRAGMENTATION_SUPPORTED, (struct slice){0});
    if (p->extra)
        p->extra(&c);
    chain_close(&c);
    message_header(&w, p->rec->ike.spi_i, 0, c.first, IKE_SA_INIT, IKE_FLAG_INITIATOR, 0);
    write_bytes(&w, c.w.p, c.w.n);
    message_finish(&w);
    p->init_request_n = w.n;
    bench_datagram(p->bench, &p->local, &p->remote, (struct slice){w.p, w.n});
    p->next_id = 1;
    return p->bench->answer_n && take_init_answer(p);
}

/* Opens the engine's last message, whole or in fragments, into `out`. */
static bool open_run(struct peer *p, struct message *out)
{
    struct slice left = {p->bench->run, p->bench->run_n}, last = {0};
    struct message m, first;
    size_t at = 0, n;

    while (left.n) {
        struct slice here = left;

        if (!message_next(&left, &m) || m.n == 0)
            return false;
        if (m.payloads[m.n - 1].type != PAYLOAD_SKF || m.payloads[m.n - 1].body.p[1] == 1) {
            last = here;
            first = m;
        }
    }
    while (last.n) {
        if (!message_next(&last, &m) ||
            sk_open(&p->rec->ike, &m, p->responder, p->plain + at, &n) != ERR_OK)
            return false;
        at += n;
        if (last.n == 0) {
            *out =
                (struct message){.exchange = first.exchange, .id = first.id, .flags = first.flags};
            return message_parse_chain(out, first.payloads[first.n - 1].next,
                                       (struct slice){p->plain, at}) == ERR_OK;
        }
    }
    return false;
}

static bool open_answer(struct peer *p)
{
    return p->bench->answer_n && open_run(p, &p->answer);
}

bool peer_seal_fragment(struct peer *p, uint8_t exchange, uint8_t flags, uint32_t id,
                        const struct chain *inner, uint16_t number, uint16_t total)
{
    size_t at = (size_t)(number - 1) * p->cut;
    struct fragment f = {
        .first = number == 1 ? inner->first : PAYLOAD_NONE,
        .number = number,
        .total = total,
        .piece = {inner->w.p + at, inner->w.n - at < p->cut ? inner->w.n - at : p->cut}};

    return skf_seal(&p->rec->ike, !p->responder, exchange, flags, id, &f, p->iv++,
                    &p->bench->engine->rng, p->request, sizeof p->request, &p->request_n) == ERR_OK;
}

void peer_send(struct peer *p)
{
    bench_datagram(p->bench, &p->local, &p->remote, (struct slice){p->request, p->request_n});
}

/* Seals and sends a message, in fragments when p->cut says so. */
static bool send_sealed(struct peer *p, uint8_t exchange, uint8_t flags, uint32_t id,
                        const struct chain *inner)
{
    uint16_t total = p->cut ? (uint16_t)((inner->w.n + p->cut - 1) / p->cut) : 0;

    if (total == 0 &&
        sk_seal(&p->rec->ike, !p->responder, exchange, flags, id, inner, p->iv++,
                &p->bench->engine->rng, p->request, sizeof p->request, &p->request_n) != ERR_OK)
        return false;
    if (total == 0)
        peer_send(p);
    for (uint16_t i = 1; i <= total; i++) {
        uint16_t number = p->backwards ? (uint16_t)(total - i + 1) : i;

        if (!peer_seal_fragment(p, exchange, flags, id, inner, number, total))
            return false;
        peer_send(p);
    }
    return true;
}

bool peer_request(struct peer *p, uint8_t exchange, const struct chain *inner)
{
    p->bench->keys = &p->rec->ike;
    return send_sealed(p, exchange, 0, p->next_id++, inner) && open_answer(p);
}

bool peer_got_notify(const struct peer *p, uint16_t type)
{
    struct notify n;

    return message_find_notify(&p->answer, type, &n);
}

static struct slice id_body(const struct peer *p, uint8_t out[4 + IKE_ID_MAX])
{
    struct writer w = writer_of(out, 4 + IKE_ID_MAX);
    struct ip_addr ip;

    write_u8(&w, p->id_type);
    write_zeros(&w, 3);
    if (p->id_type == ID_IPV4_ADDR && ip_parse(p->id, &ip))
        write_bytes(&w, ip.b, 4);
    else
        write_bytes(&w, p->id, strlen(p->id));
    return (struct slice){out, w.n};
}

/* g^ir from the answer's KE payload; empty when it has none. */
static struct slice shared_of(struct peer *p, uint8_t out[DH_PUBLIC_MAX])
{
    const struct payload *ke = message_find(&p->answer, PAYLOAD_KE);

    if (!ke || !p->pfs_key || ke->body.n < 4 ||
        dh_derive(p->pfs_key, (struct slice){ke->body.p + 4, ke->body.n - 4}, out) != ERR_OK)
        return (struct slice){0};
    return (struct slice){out, ke->body.n - 4};
}

static void write_ke(struct peer *p, struct chain *c, uint16_t group)
{
    uint8_t public_value[DH_PUBLIC_MAX];

    dh_free(p->pfs_key);
    p->pfs_key = group ? dh_generate(group) : NULL;
    if (!p->pfs_key)
        return;
    (void)dh_public(p->pfs_key, public_value);
    if (p->bad_ke) {
        memset(public_value, 0, sizeof public_value);
        public_value[dh_public_len(group) - 1] = 1;
    }
    chain_open(c, PAYLOAD_KE);
    write_u16(&c->w, p->wrong_ke_group ? p->wrong_ke_group : group);
    write_u16(&c->w, 0);
    write_bytes(&c->w, public_value, dh_public_len(group));
}

static bool take_child(struct peer *p, struct slice nonce_i, struct slice nonce_r)
{
    const struct payload *sa = message_find(&p->answer, PAYLOAD_SA);
    const struct payload *tsi = message_find(&p->answer, PAYLOAD_TSI);
    struct choice_rules rules = {
        .protocol = PROTOCOL_ESP, .allow_null = true, .ke_group = p->esp.dh};
    uint8_t shared[DH_PUBLIC_MAX];
    struct choice choice;

    if (!sa || !tsi || proposal_choose(sa->body, &rules, &choice) != ERR_OK)
        return false;
    p->child = (struct child_record){
        .suite = choice.suite, .spi_in = p->esp_spi, .spi_out = choice.peer_spi};
    (void)ts_parse(tsi->body, &p->child.ts_remote);
    return keys_derive_child(&p->rec->ike, nonce_i, nonce_r, shared_of(p, shared), false,
                             &p->child) == ERR_OK;
}

static bool gateway_is_authentic(struct peer *p)
{
    const struct payload *idr = message_find(&p->answer, PAYLOAD_IDR);
    const struct payload *auth = message_find(&p->answer, PAYLOAD_AUTH);
    uint8_t want[HASH_MAX];
    size_t n;

    return idr && auth &&
           keys_auth_psk(&p->rec->ike, (struct slice){(const uint8_t *)p->psk, strlen(p->psk)},
                         (struct slice){p->init_response, p->init_response_n},
                         (struct slice){p->nonce_i, sizeof p->nonce_i}, &p->rec->ike.sk_pr,
                         idr->body, want, &n) == ERR_OK &&
           auth->body.n == 4 + n && crypto_equal(auth->body.p + 4, want, n);
}

bool peer_auth(struct peer *p)
{
    uint8_t payloads[4096], idb[4 + IKE_ID_MAX], auth[HASH_MAX];
    struct slice id = id_body(p, idb);
    struct chain c;
    size_t n;

    if (keys_auth_psk(&p->rec->ike, (struct slice){(const uint8_t *)p->psk, strlen(p->psk)},
                      (struct slice){p->init_request, p->init_request_n},
                      (struct slice){p->nonce_r, p->nonce_r_n}, &p->rec->ike.sk_pi, id, auth,
                      &n) != ERR_OK)
        return false;
    chain_begin(&c, payloads, sizeof payloads);
    chain_open(&c, PAYLOAD_IDI);
    write_bytes(&c.w, id.p, id.n);
    if (!p->no_auth) {
        chain_open(&c, PAYLOAD_AUTH);
        write_u8(&c.w, p->auth_method ? p->auth_method : AUTH_SHARED_KEY);
        write_zeros(&c.w, 3);
        write_bytes(&c.w, auth, n);
    }
    chain_close(&c);
    if (p->initial_contact)
        chain_error(&c, N_INITIAL_CONTACT);
    if (!p->childless) {
        write_offer(p, &c, PROTOCOL_ESP, p->esp_spi);
        ts_write(&c, PAYLOAD_TSI, &p->tsi);
        ts_write(&c, PAYLOAD_TSR, &p->tsr);
    }
    if (p->extra)
        p->extra(&c);
    chain_close(&c);
    if (!peer_request(p, IKE_AUTH, &c) || !gateway_is_authentic(p))
        return false;
    return p->childless || take_child(p, (struct slice){p->nonce_i, sizeof p->nonce_i},
                                      (struct slice){p->nonce_r, p->nonce_r_n});
}

bool peer_rekey_child(struct peer *p, uint32_t old_spi)
{
    uint8_t payloads[4096], spi[4], nonce_i[32];
    struct writer w = writer_of(spi, 4);
    const struct payload *nonce;
    struct chain c;

    bench_fill(&p->bench->rng_state, nonce_i, sizeof nonce_i);
    if (p->low_nonce_i)
        memset(nonce_i, 0, sizeof nonce_i);
    write_u32(&w, old_spi);
    p->esp_spi++;
    chain_begin(&c, payloads, sizeof payloads);
    if (old_spi)
        chain_notify(&c, PROTOCOL_ESP, (struct slice){spi, 4}, N_REKEY_SA, (struct slice){0});
    write_offer(p, &c, PROTOCOL_ESP, p->esp_spi);
    chain_open(&c, PAYLOAD_NONCE);
    write_bytes(&c.w, nonce_i, sizeof nonce_i);
    write_ke(p, &c, p->esp.dh);
    ts_write(&c, PAYLOAD_TSI, &p->tsi);
    ts_write(&c, PAYLOAD_TSR, &p->tsr);
    if (p->extra)
        p->extra(&c);
    chain_close(&c);
    if (!peer_request(p, CREATE_CHILD_SA, &c))
        return false;
    nonce = message_find(&p->answer, PAYLOAD_NONCE);
    return nonce && take_child(p, (struct slice){nonce_i, sizeof nonce_i}, nonce->body);
}

bool peer_rekey_ike(struct peer *p, struct record **old)
{
    uint8_t payloads[4096], nonce_i[32], shared[DH_PUBLIC_MAX];
    struct choice_rules rules = {.protocol = PROTOCOL_IKE, .ike_rekey = true};
    const struct payload *nonce, *sa;
    struct record *next;
    struct choice choice;
    struct chain c;

    bench_fill(&p->bench->rng_state, nonce_i, sizeof nonce_i);
    if (p->low_nonce_i)
        memset(nonce_i, 0, sizeof nonce_i);
    next = record_new(RECORD_IKE);
    next->ike.spi_i = p->rec->ike.spi_i + 1;
    chain_begin(&c, payloads, sizeof payloads);
    peer_write_offer(&c, &p->ike, PROTOCOL_IKE, next->ike.spi_i, false);
    chain_open(&c, PAYLOAD_NONCE);
    write_bytes(&c.w, nonce_i, sizeof nonce_i);
    write_ke(p, &c, p->ike.dh);
    chain_close(&c);
    if (peer_request(p, CREATE_CHILD_SA, &c) && (sa = message_find(&p->answer, PAYLOAD_SA)) &&
        (nonce = message_find(&p->answer, PAYLOAD_NONCE)) &&
        proposal_choose(sa->body, &rules, &choice) == ERR_OK) {
        next->ike.spi_r = choice.peer_ike_spi;
        next->ike.suite = choice.suite;
        if (keys_derive_ike(&next->ike, &p->rec->ike, (struct slice){nonce_i, sizeof nonce_i},
                            nonce->body, shared_of(p, shared)) == ERR_OK) {
            *old = p->rec;
            p->old_next_id = p->next_id;
            p->rec = next;
            p->next_id = 0;
            return true;
        }
    }
    record_free(next);
    return false;
}

static bool delete_request(struct peer *p, uint8_t protocol, uint32_t spi)
{
    uint8_t payloads[64];
    struct chain c;

    chain_begin(&c, payloads, sizeof payloads);
    chain_open(&c, PAYLOAD_DELETE);
    write_u8(&c.w, protocol);
    write_u8(&c.w, protocol == PROTOCOL_ESP ? 4 : 0);
    write_u16(&c.w, protocol == PROTOCOL_ESP ? 1 : 0);
    if (protocol == PROTOCOL_ESP)
        write_u32(&c.w, spi);
    chain_close(&c);
    return peer_request(p, INFORMATIONAL, &c);
}

bool peer_delete_child(struct peer *p, uint32_t spi)
{
    return delete_request(p, PROTOCOL_ESP, spi);
}

bool peer_delete_ike(struct peer *p)
{
    return delete_request(p, PROTOCOL_IKE, 0);
}

bool peer_dpd(struct peer *p)
{
    struct chain c;

    chain_begin(&c, NULL, 0);
    return peer_request(p, INFORMATIONAL, &c);
}

/* ---- the gateway asks ---- */

bool peer_asked(struct peer *p)
{
    return p->bench->answer_n && open_run(p, &p->asked) && !(p->asked.flags & IKE_FLAG_RESPONSE);
}

void peer_respond(struct peer *p, const struct chain *inner)
{
    (void)send_sealed(p, p->asked.exchange, IKE_FLAG_RESPONSE, p->asked.id, inner);
}

void peer_respond_empty(struct peer *p)
{
    struct chain c;

    chain_begin(&c, NULL, 0);
    peer_respond(p, &c);
}

void peer_respond_notify(struct peer *p, uint16_t type)
{
    uint8_t payloads[64];
    struct chain c;

    chain_begin(&c, payloads, sizeof payloads);
    chain_error(&c, type);
    peer_respond(p, &c);
}

/* The nonce and KE of an answer; g^ir with the asker's KE goes to `shared`. */
static struct slice write_reply_keys(struct peer *p, struct chain *c, uint16_t group,
                                     uint8_t nonce[32], uint8_t shared[DH_PUBLIC_MAX])
{
    const struct payload *ke = message_find(&p->asked, PAYLOAD_KE);

    memset(nonce, p->low_nonce_byte, 32);
    chain_open(c, PAYLOAD_NONCE);
    write_bytes(&c->w, nonce, 32);
    write_ke(p, c, group);
    chain_close(c);
    if (!group || !ke ||
        dh_derive(p->pfs_key, (struct slice){ke->body.p + 4, ke->body.n - 4}, shared) != ERR_OK)
        return (struct slice){0};
    return (struct slice){shared, dh_public_len(group)};
}

bool peer_respond_rekey_child(struct peer *p)
{
    const struct payload *sa = message_find(&p->asked, PAYLOAD_SA);
    const struct payload *nonce = message_find(&p->asked, PAYLOAD_NONCE);
    struct choice_rules rules = {.protocol = PROTOCOL_ESP,
                                 .allow_null = true,
                                 .ke_group = p->esp.dh,
                                 .ignore_dh = p->no_pfs};
    uint8_t payloads[4096], nonce_r[32], shared[DH_PUBLIC_MAX];
    struct selector_list tsi, tsr;
    struct choice choice;
    struct slice secret;
    struct chain c;

    if (!sa || !nonce || !message_find(&p->asked, PAYLOAD_TSI) ||
        proposal_choose(sa->body, &rules, &choice) != ERR_OK)
        return false;
    (void)ts_parse(message_find(&p->asked, PAYLOAD_TSI)->body, &tsi);
    (void)ts_parse(message_find(&p->asked, PAYLOAD_TSR)->body, &tsr);
    p->esp_spi++;
    chain_begin(&c, payloads, sizeof payloads);
    proposal_write(&c, &choice, PROTOCOL_ESP, p->esp_spi, 4);
    secret = write_reply_keys(p, &c, choice.suite.dh, nonce_r, shared);
    ts_write(&c, PAYLOAD_TSI, &tsi);
    ts_write(&c, PAYLOAD_TSR, &tsr);
    p->child = (struct child_record){
        .suite = choice.suite, .spi_in = p->esp_spi, .spi_out = choice.peer_spi};
    /* We answer, so the asker's keys come first: peer_began. */
    if (keys_derive_child(&p->rec->ike, nonce->body, (struct slice){nonce_r, 32}, secret, true,
                          &p->child) != ERR_OK)
        return false;
    peer_respond(p, &c);
    return true;
}

bool peer_respond_rekey_ike(struct peer *p, struct record **old)
{
    const struct payload *sa = message_find(&p->asked, PAYLOAD_SA);
    const struct payload *nonce = message_find(&p->asked, PAYLOAD_NONCE);
    struct choice_rules rules = {
        .protocol = PROTOCOL_IKE, .ike_rekey = true, .ke_group = p->ike.dh};
    uint8_t payloads[4096], nonce_r[32], shared[DH_PUBLIC_MAX];
    struct record *next;
    struct choice choice;
    struct slice secret;
    struct chain c;
    bool ok;

    if (!sa || !nonce || proposal_choose(sa->body, &rules, &choice) != ERR_OK)
        return false;
    next = record_new(RECORD_IKE);
    next->ike.spi_i = choice.peer_ike_spi;
    next->ike.spi_r = p->rec->ike.spi_i ^ 0x5555;
    next->ike.suite = choice.suite;
    chain_begin(&c, payloads, sizeof payloads);
    proposal_write(&c, &choice, PROTOCOL_IKE, next->ike.spi_r, IKE_SPI_BYTES);
    secret = write_reply_keys(p, &c, choice.suite.dh, nonce_r, shared);
    ok = keys_derive_ike(&next->ike, &p->rec->ike, nonce->body, (struct slice){nonce_r, 32},
                         secret) == ERR_OK;
    *old = p->rec;
    peer_respond(p, &c);
    p->old_next_id = p->next_id;
    p->rec = next;
    p->next_id = 0;
    return ok;
}
