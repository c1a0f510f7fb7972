/* IKE_SA_INIT, as the responder (RFC 7296 §1.2):
 *
 *   HDR, SAi1, KEi, Ni, [N(NAT_DETECTION_*)]  -->
 *        <--  HDR, SAr1, KEr, Nr, [N(NAT_DETECTION_*)], N(CHILDLESS_IKEV2_SUPPORTED)
 *
 * The answer may have to wait for a key pair; the shared secret is not derived
 * before IKE_AUTH comes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ike/internal.h"

int natd_hash(uint64_t spi_i, uint64_t spi_r, const struct endpoint *ep, uint8_t out[20])
{
    uint8_t bytes[2 * IKE_SPI_BYTES + 16 + 2];
    struct writer w = writer_of(bytes, sizeof bytes);
    struct slice part;

    write_u64(&w, spi_i);
    write_u64(&w, spi_r);
    write_bytes(&w, ep->ip.b, ip_len(&ep->ip));
    write_u16(&w, ep->port);
    part = (struct slice){bytes, w.n};
    return crypto_hash(HASH_SHA1, &part, 1, out);
}

/* An unprotected answer of one notify; no state is kept for it. */
void init_refuse(struct ike_engine *e, const struct request *rq, uint16_t type, struct slice data)
{
    struct writer w = writer_of(e->scratch, sizeof e->scratch);
    struct chain c;

    chain_begin(&c, e->inner, sizeof e->inner);
    chain_notify(&c, 0, (struct slice){0}, type, data);
    message_header(&w, rq->m.spi_i, 0, c.first, IKE_SA_INIT, IKE_FLAG_RESPONSE, rq->m.id);
    write_bytes(&w, c.w.p, c.w.n);
    message_finish(&w);
    if (!w.bad && !c.w.bad)
        act_send(e, &rq->local, &rq->peer, (struct slice){w.p, w.n});
}

/* Who is behind a NAT, by the hashes that the peer sent; NAT_ flags. */
static uint8_t detect_nat(const struct message *m, const struct request *rq, bool *asked)
{
    uint8_t source[20], destination[20];
    bool source_fits = false, destination_fits = false, any_source = false, any_destination = false;

    *asked = false;
    if (natd_hash(m->spi_i, 0, &rq->peer, source) != ERR_OK ||
        natd_hash(m->spi_i, 0, &rq->local, destination) != ERR_OK)
        return 0;
    for (size_t i = 0; i < m->n; i++) {
        struct notify nt;

        if (m->payloads[i].type != PAYLOAD_NOTIFY || !notify_parse(m->payloads[i].body, &nt) ||
            nt.data.n != 20)
            continue;
        if (nt.type == N_NAT_DETECTION_SOURCE_IP) {
            any_source = true;
            source_fits |= crypto_equal(nt.data.p, source, 20);
        } else if (nt.type == N_NAT_DETECTION_DESTINATION_IP) {
            any_destination = true;
            destination_fits |= crypto_equal(nt.data.p, destination, 20);
        }
    }
    *asked = any_source && any_destination;
    if (!*asked)
        return 0;
    return (uint8_t)((source_fits ? 0 : NAT_PEER) | (destination_fits ? 0 : NAT_LOCAL));
}

/* ---- key pairs ---- */

static struct key_pool *pool_of(struct ike_engine *e, uint16_t group)
{
    return &e->pools[group == e->pools[0].group ? 0 : 1];
}

/* For the SA that waits for it, or (0) a batch for the pool. */
static bool start_keygen(struct ike_engine *e, uint16_t group, uint64_t our_spi)
{
    struct ike_job *job = calloc(1, sizeof *job);

    if (!job)
        return false;
    job->kind = our_spi ? JOB_KEYGEN : JOB_REFILL;
    job->group = group;
    job->our_spi = our_spi;
    if (!our_spi)
        pool_of(e, group)->under_way += KEY_BATCH;
    act_job(e, job);
    return true;
}

struct dh_key *pool_take(struct ike_engine *e, uint16_t group)
{
    struct key_pool *pool = pool_of(e, group);

    return pool->n ? pool->keys[--pool->n] : NULL;
}

void pool_put(struct ike_engine *e, struct ike_job *refill)
{
    struct key_pool *pool = pool_of(e, refill->group);

    pool->under_way -= KEY_BATCH;
    for (size_t i = 0; i < KEY_BATCH && pool->n < KEY_POOL; i++) {
        if (refill->batch[i])
            pool->keys[pool->n++] = refill->batch[i];
        refill->batch[i] = NULL;
    }
}

void pool_refill(struct ike_engine *e)
{
    for (size_t i = 0; i < 2; i++)
        while (e->pools[i].n + e->pools[i].under_way + KEY_BATCH <= KEY_POOL)
            if (!start_keygen(e, e->pools[i].group, 0))
                return;
}

/* ---- the exchange ---- */

static void fail_no_proposal(struct ike_engine *e, const struct request *rq,
                             const struct choice_rules *rules, struct slice sa_body)
{
    explain_no_proposal(e, rules, sa_body);
    act_failure(e, NULL, rq, e->reason);
    init_refuse(e, rq, N_NO_PROPOSAL_CHOSEN, (struct slice){0});
}

static void fail_syntax(struct ike_engine *e, const struct request *rq)
{
    act_failure(e, NULL, rq, "invalid_syntax: malformed IKE_SA_INIT");
    init_refuse(e, rq, N_INVALID_SYNTAX, (struct slice){0});
}

/* Reads KE; false when it was answered or is malformed. */
static bool take_ke(struct ike_engine *e, const struct request *rq, struct slice body,
                    const struct choice *choice, struct ike_sa *sa)
{
    struct reader r = reader_of(body.p, body.n);
    uint16_t group = read_u16(&r);
    size_t want = dh_public_len(choice->suite.dh);

    read_skip(&r, 2);
    if (r.bad) {
        fail_syntax(e, rq);
        return false;
    }
    if (group != choice->suite.dh) {
        uint8_t preferred[2] = {(uint8_t)(choice->suite.dh >> 8), (uint8_t)choice->suite.dh};

        init_refuse(e, rq, N_INVALID_KE_PAYLOAD, (struct slice){preferred, 2});
        return false;
    }
    if (r.left != want) {
        fail_syntax(e, rq);
        return false;
    }
    read_bytes(&r, sa->peer_public, want);
    sa->group = group;
    return true;
}

uint64_t draw_ike_spi(struct ike_engine *e, uint64_t spi_i)
{
    uint64_t spi;

    do
        spi = spi_make(&e->config.spi_key, e->config.slot, draw_22_bits(e), spi_i);
    while (spi == 0 || ike_sa_find(e, spi));
    return spi;
}

static uint16_t offered_group(const struct payload *ke)
{
    struct reader r = reader_of(ke->body.p, ke->body.n);

    return read_u16(&r);
}

static struct init_key init_key_of(const struct request *rq)
{
    struct init_key key;
    struct writer w = writer_of(key.b, sizeof key.b);

    write_u64(&w, rq->m.spi_i);
    write_u8(&w, rq->peer.ip.family);
    write_bytes(&w, rq->peer.ip.b, sizeof rq->peer.ip.b);
    write_u16(&w, rq->peer.port);
    return key;
}

/* Enters a half-open SA into the tables; the record has what INIT agreed on. */
static void enter(struct ike_engine *e, struct ike_sa *sa, const struct request *rq)
{
    struct ike_record *rec = &sa->rec->ike;

    rec->spi_i = rq->m.spi_i;
    rec->spi_r = draw_ike_spi(e, rq->m.spi_i);
    rec->suite = sa->init_choice.suite;
    rec->local = rq->local;
    rec->peer = rq->peer;
    sa->our_spi = rec->spi_r;
    sa->init_key = init_key_of(rq);
    sa->init_source = rq->peer.ip;
    sa->answer_local = rq->local;
    sa->answer_peer = rq->peer;
    rng_fill(&e->rng, sa->nonce_r, sizeof sa->nonce_r);
    HASH_ADD(by_spi, e->by_spi, our_spi, sizeof sa->our_spi, sa);
    HASH_ADD(by_init, e->by_init, init_key, sizeof sa->init_key, sa);
    e->stats.half_open++;
}

static bool is_retransmit(struct ike_engine *e, const struct request *rq)
{
    struct init_key key = init_key_of(rq);
    struct ike_sa *sa;

    HASH_FIND(by_init, e->by_init, &key, sizeof key, sa);
    if (!sa)
        return false;
    if (sa->init_response.n && sa->init_request.n == rq->m.raw.n &&
        crypto_equal(sa->init_request.p, rq->m.raw.p, rq->m.raw.n)) {
        e->stats.retransmits++;
        act_send(e, &rq->local, &rq->peer,
                 (struct slice){sa->init_response.p, sa->init_response.n});
    }
    return true;
}

void sa_init_request(struct ike_engine *e, const struct request *rq)
{
    const struct payload *sa_body = message_find(&rq->m, PAYLOAD_SA);
    const struct payload *ke = message_find(&rq->m, PAYLOAD_KE);
    const struct payload *nonce = message_find(&rq->m, PAYLOAD_NONCE);
    struct choice_rules rules = {.protocol = PROTOCOL_IKE};
    struct notify fragmentation;
    struct ike_sa *sa;
    int rc;

    if (is_retransmit(e, rq) || e->stats.half_open >= HALF_OPEN_MAX ||
        rq->m.raw.n > REQUEST_KEPT_MAX)
        return;
    if (!sa_body || !ke || !nonce || nonce->body.n < IKE_NONCE_MIN ||
        nonce->body.n > IKE_NONCE_MAX) {
        fail_syntax(e, rq);
        return;
    }
    if (!cookie_passes(e, rq, nonce->body))
        return;
    sa = ike_sa_new(e);
    if (!sa)
        return;
    rules.ke_group = offered_group(ke);
    rc = proposal_choose(sa_body->body, &rules, &sa->init_choice);
    if (rc == ERR_UNSUPPORTED)
        fail_no_proposal(e, rq, &rules, sa_body->body);
    else if (rc != ERR_OK)
        fail_syntax(e, rq);
    if (rc != ERR_OK || !take_ke(e, rq, ke->body, &sa->init_choice, sa) ||
        blob_set(&sa->init_request, rq->m.raw.p, rq->m.raw.n) != ERR_OK ||
        !prefix_enter(e, &rq->peer.ip)) {
        blob_free(&sa->init_request);
        record_free(sa->rec);
        secret_free(sa, sizeof *sa);
        return;
    }
    memcpy(sa->nonce_i, nonce->body.p, nonce->body.n);
    sa->nonce_i_n = nonce->body.n;
    sa->rec->ike.nat = detect_nat(&rq->m, rq, &sa->answer_natd);
    sa->rec->ike.fragmentation =
        message_find_notify(&rq->m, N_FRAGMENTATION_SUPPORTED, &fragmentation);
    enter(e, sa, rq);

    sa->dh = pool_take(e, sa->group);
    if (sa->dh) {
        sa_init_continue(e, sa);
    } else if (!start_keygen(e, sa->group, sa->our_spi)) {
        ike_sa_forget(e, sa);
    }
    pool_refill(e);
}

void sa_init_continue(struct ike_engine *e, struct ike_sa *sa)
{
    const struct ike_record *rec = &sa->rec->ike;
    struct writer w = writer_of(e->scratch, sizeof e->scratch);
    uint8_t public_value[DH_PUBLIC_MAX], hash[20];
    struct chain c;

    if (dh_public(sa->dh, public_value) != ERR_OK) {
        ike_sa_forget(e, sa);
        return;
    }
    chain_begin(&c, e->inner, sizeof e->inner);
    proposal_write(&c, &sa->init_choice, PROTOCOL_IKE, 0, 0);
    chain_open(&c, PAYLOAD_KE);
    write_u16(&c.w, sa->group);
    write_u16(&c.w, 0);
    write_bytes(&c.w, public_value, dh_public_len(sa->group));
    chain_open(&c, PAYLOAD_NONCE);
    write_bytes(&c.w, sa->nonce_r, sizeof sa->nonce_r);
    chain_close(&c);
    if (sa->answer_natd) {
        if (natd_hash(rec->spi_i, rec->spi_r, &sa->answer_local, hash) == ERR_OK)
            chain_notify(&c, 0, (struct slice){0}, N_NAT_DETECTION_SOURCE_IP,
                         (struct slice){hash, 20});
        if (natd_hash(rec->spi_i, rec->spi_r, &sa->answer_peer, hash) == ERR_OK)
            chain_notify(&c, 0, (struct slice){0}, N_NAT_DETECTION_DESTINATION_IP,
                         (struct slice){hash, 20});
    }
    if (rec->fragmentation)
        chain_notify(&c, 0, (struct slice){0}, N_FRAGMENTATION_SUPPORTED, (struct slice){0});
    chain_error(&c, N_CHILDLESS_IKEV2_SUPPORTED); /* RFC 6023 */
    message_header(&w, rec->spi_i, rec->spi_r, c.first, IKE_SA_INIT, IKE_FLAG_RESPONSE, 0);
    write_bytes(&w, c.w.p, c.w.n);
    message_finish(&w);
    if (w.bad || c.w.bad || blob_set(&sa->init_response, w.p, w.n) != ERR_OK) {
        ike_sa_forget(e, sa);
        return;
    }
    sa->phase = PHASE_INIT_SENT;
    act_send(e, &sa->answer_local, &sa->answer_peer, (struct slice){sa->init_response.p, w.n});
}
