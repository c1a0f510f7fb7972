/* Payload chains *inside* SK, under keys that both sides know: what a peer with a valid
 * pre-shared key, or one before authentication, could send, in any order, with jobs and
 * commits that come late, fail or never come. The input is described in ike_input.h; what
 * must hold is checked in ike_world.c. */
#include <string.h>

#include "tests/fuzz/ike_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct datagram {
    uint8_t bytes[IKE_MESSAGE_MAX];
    size_t n;
};

static void no_random(void *ctx, uint8_t *out, size_t n) /* the peer's IVs */
{
    (void)ctx;
    memset(out, 0x5a, n);
}

/* The keys under which the peer speaks. Before IKE_AUTH it knows them first: they are derived
 * in a copy here. False: there are none yet. */
static bool peer_keys(const struct ike_sa *sa, struct ike_record *out)
{
    uint8_t shared[DH_PUBLIC_MAX];

    *out = sa->rec->ike;
    if (sa->phase >= PHASE_KEYED)
        return true;
    return sa->dh &&
           dh_derive(sa->dh, (struct slice){sa->peer_public, dh_public_len(sa->group)}, shared) ==
               ERR_OK &&
           keys_derive_ike(out, NULL, (struct slice){sa->nonce_i, sa->nonce_i_n},
                           (struct slice){sa->nonce_r, sizeof sa->nonce_r},
                           (struct slice){shared, dh_public_len(sa->group)}) == ERR_OK;
}

/* Writes the right value into an AUTH payload that has the room. */
static void make_auth_good(const struct ike_sa *sa, const struct ike_record *keys, struct chain *c)
{
    struct message m = {0};
    const struct payload *id, *auth;
    uint8_t value[HASH_MAX];
    size_t n;

    if (message_parse_chain(&m, c->first, (struct slice){c->w.p, c->w.n}) != ERR_OK)
        return;
    id = message_find(&m, PAYLOAD_IDI);
    auth = message_find(&m, PAYLOAD_AUTH);
    if (!id || !auth ||
        keys_auth_psk(keys, (struct slice){(const uint8_t *)world_psk, strlen(world_psk)},
                      (struct slice){sa->init_request.p, sa->init_request.n},
                      (struct slice){sa->nonce_r, sizeof sa->nonce_r}, &keys->sk_pi, id->body,
                      value, &n) != ERR_OK ||
        auth->body.n != 4 + n)
        return;
    memcpy(c->w.p + (auth->body.p - c->w.p) + 4, value, n);
}

/* As sk_seal, but what stands inside SK, padding included, is the caller's: the first octet of
 * `plain` is the type of the first payload. */
static bool seal_plain(const struct ike_record *keys, uint8_t exchange, uint32_t id,
                       struct slice plain, struct datagram *out)
{
    bool from_initiator = !keys->i_am_initiator, aead = keys->suite.encr == ENCR_AES_GCM_16;
    const struct secret *key = from_initiator ? &keys->sk_ei : &keys->sk_er;
    const struct secret *mac_key = from_initiator ? &keys->sk_ai : &keys->sk_ar;
    struct writer w = writer_of(out->bytes, sizeof out->bytes);
    size_t iv_n = aead ? 8 : CBC_BLOCK, text_n = plain.n ? plain.n - 1 : 0, iv_at, text_at;
    uint8_t nonce[GCM_NONCE] = {0}, mac[HASH_MAX];

    if (!aead)
        text_n -= text_n % CBC_BLOCK;
    if (text_n == 0)
        return false;
    message_header(&w, keys->spi_i, keys->spi_r, PAYLOAD_SK, exchange,
                   from_initiator ? IKE_FLAG_INITIATOR : 0, id);
    write_u8(&w, plain.p[0]);
    write_u8(&w, 0);
    write_u16(&w, (uint16_t)(IKE_PAYLOAD_HEADER_BYTES + iv_n + text_n + 16));
    iv_at = w.n;
    write_zeros(&w, iv_n);
    text_at = w.n;
    write_bytes(&w, plain.p + 1, text_n);
    write_zeros(&w, 16);
    message_finish(&w);
    out->n = w.n;
    if (aead) {
        struct gcm_ctx *gcm = gcm_new((struct slice){key->b, key->n - 4U});

        memcpy(nonce, key->b + key->n - 4, 4);
        (void)gcm_seal(gcm, nonce, (struct slice){w.p, iv_at}, w.p + text_at, text_n, w.p + text_at,
                       w.p + text_at + text_n);
        gcm_free(gcm);
    } else {
        struct cbc_ctx *cbc = cbc_new(secret_slice(key));
        struct slice covered = {w.p, w.n - 16};

        (void)cbc_encrypt(cbc, w.p + iv_at, w.p + text_at, text_n, w.p + text_at);
        cbc_free(cbc);
        (void)crypto_hmac(HASH_SHA256, secret_slice(mac_key), &covered, 1, mac);
        memcpy(w.p + text_at + text_n, mac, 16);
    }
    return true;
}

/* Sends the chain as a run of fragments (RFC 7383). */
static void send_fragments(struct world *w, const struct op *op, const struct ike_record *keys,
                           const struct chain *c, const struct outgoing *o, struct datagram *d)
{
    static const struct rng rng = {no_random, NULL};
    size_t total = (c->w.n + 199) / 200;

    for (size_t k = op->kind & OP_FAIL_JOBS ? 1 : 0; k < total && total <= 80; k++) {
        size_t i = op->arg & ARG_BACKWARDS ? total - 1 - k : k;
        size_t left = c->w.n - 200 * i;
        struct fragment f = {.first = i == 0 ? c->first : PAYLOAD_NONE,
                             .piece = {c->w.p + 200 * i, left < 200 ? left : 200},
                             .number = (uint16_t)(i + 1),
                             .total = (uint16_t)total};

        if (skf_seal(keys, !keys->i_am_initiator, o->exchange, o->flags, o->id, &f, 1, &rng,
                     d->bytes, sizeof d->bytes, &d->n) == ERR_OK)
            world_datagram(w, (struct slice){d->bytes, d->n});
    }
}

static void speak(struct world *w, const struct op *op, struct datagram *d)
{
    static const uint8_t exchanges[] = {IKE_AUTH, CREATE_CHILD_SA, INFORMATIONAL, 99};
    static const struct rng rng = {no_random, NULL};
    static uint8_t payloads[2 * OP_BODY_MAX];
    struct ike_sa *sa = world_sa(w, op->kind & OP_OLDEST_SA);
    unsigned kind = op->kind % OP_KINDS;
    struct outgoing o = {.exchange = exchanges[op->arg & 3],
                         .flags = kind == OP_RESPONSE ? IKE_FLAG_RESPONSE : 0};
    struct ike_record keys;
    struct chain c;
    bool ok = false;

    if (!sa || !peer_keys(sa, &keys))
        return;
    o.id = kind == OP_RESPONSE ? sa->own.id : sa->phase < PHASE_ESTABLISHED ? 1 : keys.next_in;
    o.id += op->arg & ARG_NEXT_ID ? 1 : 0;
    w->no_iv = op->arg & ARG_NO_IV;
    w->peer.port = op->arg & ARG_OTHER_PORT ? 31234 : 4500;
    if (kind == OP_PLAIN) {
        ok = seal_plain(&keys, o.exchange, o.id, op->body, d);
    } else {
        chain_begin(&c, payloads, sizeof payloads);
        world_chain(&c, op->body, op->kind & OP_BUILT);
        if (op->arg & ARG_GOOD_AUTH && sa->init_request.n)
            make_auth_good(sa, &keys, &c);
        if (op->arg & ARG_FRAGMENTS && !c.w.bad)
            send_fragments(w, op, &keys, &c, &o, d);
        else
            ok = sk_seal(&keys, !keys.i_am_initiator, o.exchange, o.flags, o.id, &c, 1, &rng,
                         d->bytes, sizeof d->bytes, &d->n) == ERR_OK;
    }
    if (ok)
        world_datagram(w, (struct slice){d->bytes, d->n});
    w->no_iv = false;
}

/* ---- what is no message ---- */

static void pass_time(struct world *w, uint8_t arg)
{
    static const uint32_t seconds[] = {1, 2, 12, 31, 35, 600, 27000, 79000};

    for (unsigned i = 0; i <= (arg >> 4 & 7); i++)
        world_tick(w, seconds[arg & 7] * 1000000ULL);
    if (arg & 8) /* what the first one started goes on */
        world_tick(w, 1000000);
}

/* Another node ended an SA, took it over, or saw its Child SA in use. */
static void change_elsewhere(struct world *w, const struct op *op)
{
    struct ike_sa *sa = world_sa(w, op->kind & OP_OLDEST_SA);
    struct record *r;

    if (!sa || sa->phase != PHASE_ESTABLISHED || (op->arg & 2 && sa->n_children == 0))
        return;
    r = record_clone(op->arg & 2 ? sa->children[op->arg >> 2 & (sa->n_children - 1)] : sa->rec);
    if (op->arg & 2) {
        r->child.state = op->arg & 1 ? SA_DELETED : SA_INSTALLED;
        r->child.confirmed = true;
    } else if (op->arg & 1) {
        r->ike.state = SA_DELETED;
    } else {
        r->ike.term.number += op->arg >> 2 & 1;
    }
    world_record(w, r);
    record_free(r);
}

static void begin(struct world *w, uint8_t octet)
{
    struct world_options options = world_options_of(octet);

    log_set_level(octet & WORLD_LOG ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR + 1);
    world_open(w, &options);
    if (!(octet & WORLD_HALF_OPEN) || octet & WORLD_CHILDREN)
        world_preset(w);
    if (octet & WORLD_HALF_OPEN) {
        static struct datagram init[8]; /* of each kind, made once */
        struct datagram *d = &init[octet & (WORLD_CBC | WORLD_BIG_PRF | WORLD_NARROW)];

        if (!d->n)
            d->n = world_init_request(&options, d->bytes, sizeof d->bytes);
        w->now.mono_us++; /* later than what is there */
        world_datagram(w, (struct slice){d->bytes, d->n});
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct world w;
    static struct datagram last;
    struct reader r = reader_of(data, n);
    struct op op;

    if (n < 5)
        return 0;
    last.n = 0;
    begin(&w, read_u8(&r));
    for (unsigned i = 0; i < OPS_MAX && op_read(&r, &op); i++) {
        w.hold_jobs = op.kind & OP_HOLD_JOBS;
        w.hold_commits = op.kind & OP_HOLD_COMMITS;
        w.fail_jobs = op.kind & OP_FAIL_JOBS;
        switch ((enum sk_op)(op.kind % OP_KINDS)) {
        case OP_REQUEST:
        case OP_RESPONSE:
        case OP_PLAIN:
            speak(&w, &op, &last);
            break;
        case OP_TICK:
            pass_time(&w, op.arg);
            break;
        case OP_RELEASE:
            world_release(&w);
            break;
        case OP_AGAIN:
            if (last.n)
                world_datagram(&w, (struct slice){last.bytes, last.n});
            break;
        case OP_RECORD:
            change_elsewhere(&w, &op);
            break;
        case OP_RESTART:
            world_restart(&w);
            break;
        case OP_KINDS:
            break;
        }
    }
    world_close(&w);
    return 0;
}
