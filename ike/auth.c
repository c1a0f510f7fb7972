/* IKE_AUTH, as the responder (RFC 7296 §1.2):
 *
 *   HDR, SK {IDi, [IDr], AUTH, SAi2, TSi, TSr}  -->
 *                         <--  HDR, SK {IDr, AUTH, SAr2, TSi, TSr}
 *
 * The first IKE_AUTH starts the derivation of the shared secret on another
 * thread and waits for it. An unknown identity is checked against a key that
 * nobody has: the work and the answer are those of a wrong pre-shared key. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ike/internal.h"

static void start_derivation(struct ike_engine *e, struct ike_sa *sa, const struct request *rq)
{
    struct ike_job *job;

    if (!waiting_set(e, sa, rq->m.raw))
        return;
    job = calloc(1, sizeof *job);
    if (!job)
        return;
    job->kind = JOB_DERIVE;
    job->our_spi = sa->our_spi;
    job->group = sa->group;
    job->dh = sa->dh;
    memcpy(job->peer_public, sa->peer_public, sizeof job->peer_public);
    sa->waiting_local = rq->local;
    sa->waiting_peer = rq->peer;
    sa->phase = PHASE_DERIVING;
    act_job(e, job);
}

void auth_wait(struct ike_engine *e, struct ike_sa *sa, const struct request *rq)
{
    if (rq->m.id != 1)
        return;
    if (sa->phase == PHASE_INIT_SENT)
        start_derivation(e, sa, rq);
    else if (sa->phase == PHASE_DERIVING) /* a fragment more, or what a forged one came before */
        (void)waiting_add(e, sa, rq->m.raw);
}

void auth_derived(struct ike_engine *e, struct ike_sa *sa, struct ike_job *job)
{
    struct request rq = {.local = sa->waiting_local, .peer = sa->waiting_peer};
    struct blob waiting = waiting_take(e, sa);
    struct slice left = {waiting.p, waiting.n};
    uint64_t our_spi = sa->our_spi;
    int rc = job->rc;

    sa->phase = PHASE_KEYED;
    dh_free(sa->dh);
    sa->dh = NULL;
    if (rc == ERR_OK)
        rc = keys_derive_ike(&sa->rec->ike, NULL, (struct slice){sa->nonce_i, sa->nonce_i_n},
                             (struct slice){sa->nonce_r, sizeof sa->nonce_r},
                             (struct slice){job->shared, dh_public_len(job->group)});
    if (rc != ERR_OK) {
        snprintf(e->reason, sizeof e->reason, "bad_ke: %s", err_text(rc));
        act_failure(e, NULL, &rq, e->reason);
        ike_sa_forget(e, sa);
        left.n = 0;
    }
    while (left.n && message_next(&left, &rq.m) && ike_sa_find(e, our_spi) == sa &&
           sa->phase == PHASE_KEYED)
        protected_message(e, sa, &rq);
    blob_free(&waiting);
}

/* Whether the peer's AUTH is right for this key. */
static bool auth_fits(const struct ike_sa *sa, struct slice psk, const struct identity *idi,
                      struct slice auth_body)
{
    struct reader r = reader_of(auth_body.p, auth_body.n);
    uint8_t method = read_u8(&r), want[HASH_MAX];
    struct slice got;
    size_t n = 0;
    int rc = keys_auth_psk(
        &sa->rec->ike, psk, (struct slice){sa->init_request.p, sa->init_request.n},
        (struct slice){sa->nonce_r, sizeof sa->nonce_r}, &sa->rec->ike.sk_pi, idi->body, want, &n);
    bool fits;

    read_skip(&r, 3);
    got = read_slice(&r, r.left);
    fits = rc == ERR_OK && !r.bad && got.n == n && crypto_equal(got.p, want, n) &&
           method == AUTH_SHARED_KEY;
    wipe(want, sizeof want);
    return fits;
}

/* AUTHENTICATION_FAILED and the like: answered under protection, then lingering. */
static void auth_refuse(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                        uint16_t type, const struct id128 *tunnel, const char *reason)
{
    e->stats.auth_failed++;
    act_failure(e, tunnel, rq, reason);
    answer_error(e, sa, rq, type, (struct slice){0});
    ike_sa_close(e, sa);
}

/* The IKE record as it is from IKE_AUTH on. */
static void fill_record(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                        const struct tunnel *tunnel, const struct identity *idi)
{
    struct ike_record *rec = &sa->rec->ike;

    rec->tunnel_id = tunnel->t.id;
    rng_fill(&e->rng, rec->lineage.b, sizeof rec->lineage.b);
    rec->term.number = 1;
    rec->term.slot = e->config.slot;
    rec->term.incarnation = e->config.incarnation;
    rec->state = SA_INSTALLED;
    rec->local = rq->local;
    rec->peer = rq->peer;
    rec->created_ms = e->now.wall_ms;
    rec->not_after_ms = e->now.wall_ms + (int64_t)e->config.lifetime_s * 1000;
    rec->peer_id_type = idi->type;
    (void)blob_set(&rec->peer_id, idi->value.p, idi->value.n);
}

static void log_established(const struct ike_engine *e, const struct ike_sa *sa,
                            const struct record *child)
{
    const struct ike_record *rec = &sa->rec->ike;
    char peer[ENDPOINT_TEXT], tunnel[ID_TEXT], suite[SUITE_TEXT];

    (void)e;
    log_info("ike", "IKE SA 0x%016" PRIx64 " established peer=%s tunnel=%s suite=%s nat=%s",
             sa->our_spi, endpoint_format(&rec->peer, peer), id128_format(&rec->tunnel_id, tunnel),
             suite_format(&rec->suite, suite), rec->nat & NAT_PEER ? "yes" : "no");
    if (child)
        log_info("ike",
                 "Child SA in=0x%08" PRIx32 " out=0x%08" PRIx32
                 " established tunnel=%s suite=%s encap=%s",
                 child->child.spi_in, child->child.spi_out, tunnel,
                 suite_format(&child->child.suite, suite), child->child.udp_encap ? "udp" : "esp");
}

struct older { /* a visit of each_ike */
    struct ike_engine *e;
    struct ike_sa *sa;
};

static void clear_one(void *ctx, const struct record *old)
{
    struct older *o = ctx;
    const struct ike_record *mine = &o->sa->rec->ike;
    struct ike_sa *here = ike_sa_find(o->e, ike_record_spi(&old->ike));

    if (here == o->sa || old->ike.peer_id_type != mine->peer_id_type ||
        old->ike.peer_id.n != mine->peer_id.n ||
        memcmp(old->ike.peer_id.p, mine->peer_id.p, mine->peer_id.n) != 0 ||
        group_add_tombstone(o->e, old) != ERR_OK)
        return;
    o->e->group[o->e->n_group - 1]->ike.lineage_over = true;
    log_info("ike", "INITIAL_CONTACT: IKE SA 0x%016" PRIx64 " of the same ID is gone",
             ike_record_spi(&old->ike));
    o->e->stats.deletes++;
    if (here && here->phase == PHASE_ESTABLISHED)
        ike_sa_forget(o->e, here);
}

/* N(INITIAL_CONTACT): the peer has no other SA (RFC 7296 §2.4). What came up beside this one,
 * after its IKE_SA_INIT, stays. The children go with their lineage. */
static void clear_older(struct ike_engine *e, struct ike_sa *sa)
{
    struct older o = {e, sa};

    if (e->config.each_ike)
        e->config.each_ike(e->config.each_ike_ctx, &sa->rec->ike.tunnel_id, sa->began_us, clear_one,
                           &o);
}

static void auth_accept(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                        const struct message *inner, const struct tunnel *tunnel,
                        const struct identity *idi)
{
    const struct payload *offer = message_find(inner, PAYLOAD_SA);
    const struct payload *tsi = message_find(inner, PAYLOAD_TSI),
                         *tsr = message_find(inner, PAYLOAD_TSR);
    struct child_request cr = {.nonce_i = {sa->nonce_i, sa->nonce_i_n},
                               .nonce_r = {sa->nonce_r, sizeof sa->nonce_r},
                               .in_auth = true};
    uint8_t auth[HASH_MAX];
    struct record *child = NULL;
    struct choice choice;
    struct notify contact;
    uint16_t error = 0;
    struct slice id_body;
    struct chain c;
    size_t n;

    fill_record(e, sa, rq, tunnel, idi);
    if (offer && tsi && tsr) {
        cr.sa = offer->body;
        cr.tsi = tsi->body;
        cr.tsr = tsr->body;
        error = child_choose(e, tunnel, &cr, &choice, rq);
        if (!error)
            error = child_make(e, sa, tunnel, &cr, &choice, &child, rq);
    } else if (offer || tsi || tsr) { /* none at all is childless initiation (RFC 6023) */
        act_failure(e, &tunnel->t.id, rq, "invalid_syntax: not all of SA, TSi and TSr");
        error = N_INVALID_SYNTAX;
    }
    if (error == N_INVALID_SYNTAX) { /* to the peer it means that no IKE SA is made (§2.21.2) */
        answer_error(e, sa, rq, error, (struct slice){0});
        ike_sa_close(e, sa);
        return;
    }
    chain_begin(&c, e->inner, sizeof e->inner);
    chain_open(&c, PAYLOAD_IDR);
    identity_write_local(&c.w, tunnel, &rq->local.ip);
    chain_close(&c);
    id_body = (struct slice){c.w.p + IKE_PAYLOAD_HEADER_BYTES, c.w.n - IKE_PAYLOAD_HEADER_BYTES};
    if (keys_auth_psk(&sa->rec->ike, (struct slice){tunnel->psk, tunnel->psk_n},
                      (struct slice){sa->init_response.p, sa->init_response.n}, cr.nonce_i,
                      &sa->rec->ike.sk_pr, id_body, auth, &n) != ERR_OK) {
        record_free(child);
        ike_sa_forget(e, sa);
        return;
    }
    chain_open(&c, PAYLOAD_AUTH);
    write_u8(&c.w, AUTH_SHARED_KEY);
    write_zeros(&c.w, 3);
    write_bytes(&c.w, auth, n);
    chain_close(&c);
    if (child)
        child_write(&c, child, &choice);
    else if (error)
        chain_error(&c, error);
    if (answer_seal(e, sa, rq, &c) != ERR_OK || group_add(e, sa->rec) != ERR_OK ||
        (child && (group_add(e, child) != ERR_OK || ike_sa_add_child(sa, child) != ERR_OK))) {
        record_free(child);
        group_drop(e);
        ike_sa_forget(e, sa);
        return;
    }
    ike_sa_drop_half_open_parts(e, sa);
    sa->phase = PHASE_ESTABLISHED;
    ike_sa_lead(e, sa);
    e->stats.established++;
    e->stats.auth_ok++;
    log_established(e, sa, child);
    if (message_find_notify(inner, N_INITIAL_CONTACT, &contact))
        clear_older(e, sa);
    group_commit(e, sa);
}

/* Reads the opened IKE_AUTH, decides, answers. */
static void auth_decide(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                        const struct message *inner)
{
    const struct payload *idi_payload = message_find(inner, PAYLOAD_IDI);
    const struct payload *auth = message_find(inner, PAYLOAD_AUTH);
    const struct tunnel *tunnel;
    struct identity idi;
    uint8_t nobody[32];
    const char *why;
    char id_text[IKE_ID_MAX];
    struct slice psk;
    bool fits;

    if (!idi_payload || !identity_parse(idi_payload->body, &idi)) {
        auth_refuse(e, sa, rq, N_INVALID_SYNTAX, NULL, "malformed_ike_auth: no usable IDi");
        return;
    }
    identity_describe(&idi, id_text, sizeof id_text);
    tunnel = identity_find(e, &idi, &rq->local.ip, &why);
    rng_fill(&e->rng, nobody, sizeof nobody);
    psk =
        tunnel ? (struct slice){tunnel->psk, tunnel->psk_n} : (struct slice){nobody, sizeof nobody};
    fits = auth_fits(sa, psk, &idi, auth ? auth->body : (struct slice){0}); /* always that work */
    if (!auth) {
        snprintf(e->reason, sizeof e->reason, "unsupported_auth: no AUTH payload (EAP?), id %.200s",
                 id_text);
        auth_refuse(e, sa, rq, N_AUTHENTICATION_FAILED, tunnel ? &tunnel->t.id : NULL, e->reason);
        return;
    }
    if (!fits || !tunnel) {
        if (tunnel && auth->body.n && auth->body.p[0] != AUTH_SHARED_KEY)
            snprintf(e->reason, sizeof e->reason, "unsupported_auth: method %u, id %.200s",
                     (unsigned)auth->body.p[0], id_text);
        else
            snprintf(e->reason, sizeof e->reason, "%s: id %.200s", tunnel ? "wrong_psk" : why,
                     id_text);
        auth_refuse(e, sa, rq, N_AUTHENTICATION_FAILED, tunnel ? &tunnel->t.id : NULL, e->reason);
        return;
    }
    auth_accept(e, sa, rq, inner, tunnel, &idi);
}

void auth_request(struct ike_engine *e, struct ike_sa *sa, const struct request *rq)
{
    struct message inner;

    switch (message_open(e, sa, rq, &inner)) {
    case ERR_OK:
        auth_decide(e, sa, rq, &inner);
        break;
    case ERR_AUTH: /* the real one may still come */
        break;
    case ERR_UNSUPPORTED:
        refuse_critical(e, sa, rq, &inner);
        ike_sa_close(e, sa);
        break;
    default:
        auth_refuse(e, sa, rq, N_INVALID_SYNTAX, NULL, "malformed_ike_auth: bad payload chain");
    }
}
