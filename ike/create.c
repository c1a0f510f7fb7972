/* CREATE_CHILD_SA, as the responder (RFC 7296 §1.3, §2.8, §2.18):
 *
 *   a new Child SA      HDR, SK {SA, Ni, [KEi], TSi, TSr}  -->
 *                                 <--  HDR, SK {SA, Nr, [KEr], TSi, TSr}
 *   rekeying one        HDR, SK {N(REKEY_SA), SA, Ni, [KEi], TSi, TSr}  -->
 *                                 <--  HDR, SK {SA, Nr, [KEr], TSi, TSr}
 *   rekeying the IKE SA HDR, SK {SA, Ni, KEi}  -->
 *                                 <--  HDR, SK {SA, Nr, KEr}
 *
 * A request with a key exchange passes through here twice: first to be checked
 * and to start the job on another thread, then, with the shared secret, to be
 * answered. A new Child SA inherits the lineage of its IKE SA; a rekeyed one
 * stays installed beside its successor until the peer deletes it. A rekeyed IKE
 * SA hands its children to the new one. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ike/internal.h"

enum { NONCE_R_BYTES = 32, OLD_GRACE_S = 30 };

struct create {
    struct ike_engine *e;
    struct ike_sa *sa;
    const struct request *rq;
    const struct message *inner;
    const struct dh_result *dh;
    struct slice offer, nonce_i, ke;
    uint16_t ke_group;
    uint8_t nonce_r[NONCE_R_BYTES];
};

static void refuse(const struct create *c, uint16_t type)
{
    answer_error(c->e, c->sa, c->rq, type, (struct slice){0});
}

/* A refusal that is no mere "later": it leaves its reason. */
static void fail(const struct create *c, uint16_t type, const char *reason)
{
    act_failure(c->e, &c->sa->rec->ike.tunnel_id, c->rq, reason);
    refuse(c, type);
}

static void refuse_group(const struct create *c, uint16_t preferred)
{
    uint8_t group[2] = {(uint8_t)(preferred >> 8), (uint8_t)preferred};

    answer_error(c->e, c->sa, c->rq, N_INVALID_KE_PAYLOAD, (struct slice){group, 2});
}

/* The payloads that every CREATE_CHILD_SA has; false: malformed. */
static bool read_common(struct create *c)
{
    const struct payload *offer = message_find(c->inner, PAYLOAD_SA);
    const struct payload *nonce = message_find(c->inner, PAYLOAD_NONCE);
    const struct payload *ke = message_find(c->inner, PAYLOAD_KE);

    if (!offer || !nonce || nonce->body.n < IKE_NONCE_MIN || nonce->body.n > IKE_NONCE_MAX)
        return false;
    c->offer = offer->body;
    c->nonce_i = nonce->body;
    if (ke) {
        struct reader r = reader_of(ke->body.p, ke->body.n);

        c->ke_group = read_u16(&r);
        read_skip(&r, 2);
        c->ke = read_slice(&r, r.left);
        return !r.bad;
    }
    return true;
}

bool exchange_job_start(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                        uint16_t group, struct slice peer_public, struct dh_key *dh)
{
    struct ike_job *job = calloc(1, sizeof *job);

    if (!job || !waiting_set(e, sa, rq->run)) {
        free(job);
        dh_free(dh);
        return false;
    }
    job->kind = JOB_EXCHANGE;
    job->our_spi = sa->our_spi;
    job->group = group;
    job->dh = dh;
    memcpy(job->peer_public, peer_public.p, peer_public.n);
    sa->waiting_local = rq->local;
    sa->waiting_peer = rq->peer;
    sa->busy = true;
    act_job(e, job);
    return true;
}

/* Whether the exchange may go on at once. Otherwise it was refused, or waits for its job. */
static bool key_exchange_done(const struct create *c, uint16_t group)
{
    if (group == DH_NONE || c->dh)
        return true;
    if (c->ke_group != group || c->ke.n == 0) {
        refuse_group(c, group);
        return false;
    }
    if (c->ke.n != dh_public_len(group)) {
        fail(c, N_INVALID_SYNTAX, "invalid_syntax: KE of a wrong length");
        return false;
    }
    if (!exchange_job_start(c->e, c->sa, c->rq, group, c->ke, pool_take(c->e, group)))
        refuse(c, N_TEMPORARY_FAILURE);
    return false;
}

static void write_nonce_and_ke(struct chain *chain, const struct create *c, uint16_t group)
{
    chain_open(chain, PAYLOAD_NONCE);
    write_bytes(&chain->w, c->nonce_r, sizeof c->nonce_r);
    if (group != DH_NONE) {
        chain_open(chain, PAYLOAD_KE);
        write_u16(&chain->w, group);
        write_u16(&chain->w, 0);
        write_bytes(&chain->w, c->dh->public_value, dh_public_len(group));
    }
    chain_close(chain);
}

/* ---- Child SAs ---- */

/* The child that N(REKEY_SA) names: by the SPI that the peer expects inbound. */
static struct record *child_of_peer_spi(const struct ike_sa *sa, struct slice spi_field)
{
    struct reader r = reader_of(spi_field.p, spi_field.n);
    uint32_t spi = read_u32(&r);

    if (r.bad || r.left)
        return NULL;
    for (size_t i = 0; i < sa->n_children; i++)
        if (sa->children[i]->child.spi_out == spi)
            return sa->children[i];
    return NULL;
}

static void answer_child(const struct create *c, struct record *child, const struct choice *choice)
{
    struct ike_engine *e = c->e;
    struct ike_sa *sa = c->sa;
    struct chain chain;

    chain_begin(&chain, e->inner, sizeof e->inner);
    proposal_write(&chain, choice, PROTOCOL_ESP, child->child.spi_in, 4);
    write_nonce_and_ke(&chain, c, choice->suite.dh);
    ts_write(&chain, PAYLOAD_TSI, &child->child.ts_remote);
    ts_write(&chain, PAYLOAD_TSR, &child->child.ts_local);
    if (answer_seal(e, sa, c->rq, &chain) != ERR_OK || group_add(e, sa->rec) != ERR_OK ||
        group_add(e, child) != ERR_OK || ike_sa_add_child(sa, child) != ERR_OK) {
        record_free(child);
        group_drop(e);
        return;
    }
    if (child->child.replaces_spi) {
        e->stats.rekeys++;
        log_info("ike",
                 "Child SA in=0x%08" PRIx32 " rekeyed to in=0x%08" PRIx32 " out=0x%08" PRIx32,
                 child->child.replaces_spi, child->child.spi_in, child->child.spi_out);
    } else {
        log_info("ike", "additional Child SA in=0x%08" PRIx32 " out=0x%08" PRIx32,
                 child->child.spi_in, child->child.spi_out);
    }
    group_commit(e, sa);
}

/* The peer gives up an SA that we do not know; another node may, and bring it later. */
static void answer_unknown_child(const struct create *c, const struct notify *rekey,
                                 struct chain *chain)
{
    struct reader r = reader_of(rekey->spi.p, rekey->spi.n);
    uint32_t spi = read_u32(&r);
    bool noted = rekey->protocol == PROTOCOL_ESP && !r.bad && !r.left &&
                 given_up_note(&c->sa->rec->ike, spi);

    if (answer_seal(c->e, c->sa, c->rq, chain) != ERR_OK)
        return;
    if (noted && group_add(c->e, c->sa->rec) == ERR_OK)
        group_commit(c->e, c->sa);
    else
        answer_send(c->e, c->sa);
}

static void create_child(struct create *c, struct slice tsi, struct slice tsr)
{
    struct child_request cr = {.sa = c->offer,
                               .tsi = tsi,
                               .tsr = tsr,
                               .nonce_i = c->nonce_i,
                               .nonce_r = {c->nonce_r, sizeof c->nonce_r},
                               .ke_group = c->ke_group};
    struct record *child;
    struct choice choice;
    struct tunnel *tunnel;
    struct notify rekey;
    uint16_t error;

    HASH_FIND(by_id, c->e->tunnels, &c->sa->rec->ike.tunnel_id, sizeof(struct id128), tunnel);
    if (!tunnel) {
        fail(c, N_NO_ADDITIONAL_SAS, "no_additional_sas: the tunnel is not configured any more");
        return;
    }
    if (message_find_notify(c->inner, N_REKEY_SA, &rekey)) {
        cr.replaces = rekey.protocol == PROTOCOL_ESP ? child_of_peer_spi(c->sa, rekey.spi) : NULL;
        if (!cr.replaces) {
            struct chain chain;

            chain_begin(&chain, c->e->inner, sizeof c->e->inner);
            chain_notify(&chain, PROTOCOL_ESP, rekey.spi, N_CHILD_SA_NOT_FOUND, (struct slice){0});
            act_failure(c->e, &tunnel->t.id, c->rq, "child_sa_not_found: rekey of an unknown SPI");
            answer_unknown_child(c, &rekey, &chain);
            return;
        }
        if (c->sa->own.kind == OWN_DELETE_CHILD &&
            c->sa->own.old_spi == cr.replaces->child.spi_in) {
            refuse(c, N_TEMPORARY_FAILURE); /* we are deleting it (§2.25.1) */
            return;
        }
    } else if (c->sa->n_children >= c->e->config.max_children) {
        fail(c, N_NO_ADDITIONAL_SAS, "no_additional_sas: the IKE SA has max_children already");
        return;
    }
    error = child_choose(c->e, tunnel, &cr, &choice, c->rq);
    if (error) {
        refuse(c, error);
        return;
    }
    if (!key_exchange_done(c, choice.suite.dh))
        return;
    if (choice.suite.dh != DH_NONE)
        cr.shared = c->dh->shared;
    error = child_make(c->e, c->sa, tunnel, &cr, &choice, &child, c->rq);
    if (error) {
        refuse(c, error);
        return;
    }
    if (cr.replaces && c->sa->own.kind == OWN_REKEY_CHILD &&
        c->sa->own.old_spi == cr.replaces->child.spi_in)
        rekey_note_rival(c->sa, child->child.spi_in, 0, cr.nonce_i, cr.nonce_r);
    answer_child(c, child, &choice);
}

/* ---- the IKE SA itself ---- */

/* The successor, with keys, in the table; NULL: no memory or crypto failure. */
static struct ike_sa *make_successor(const struct create *c, const struct choice *choice)
{
    struct ike_sa *sa = ike_sa_successor(c->e, c->sa);
    struct ike_record *rec;

    if (!sa)
        return NULL;
    rec = &sa->rec->ike;
    rec->spi_i = choice->peer_ike_spi;
    rec->spi_r = draw_ike_spi(c->e, rec->spi_i);
    rec->suite = choice->suite;
    rec->local = c->sa->rec->ike.local;
    rec->peer = c->sa->rec->ike.peer; /* a new one needs proof: move.c */
    if (keys_derive_ike(rec, &c->sa->rec->ike, c->nonce_i,
                        (struct slice){c->nonce_r, sizeof c->nonce_r}, c->dh->shared) != ERR_OK) {
        ike_sa_discard(sa);
        return NULL;
    }
    ike_sa_enter(c->e, sa, rec->spi_r);
    return sa;
}

static void answer_rekey_ike(const struct create *c, const struct choice *choice)
{
    struct ike_engine *e = c->e;
    struct ike_sa *next = make_successor(c, choice);
    struct chain chain;

    if (!next) {
        refuse(c, N_TEMPORARY_FAILURE);
        return;
    }
    chain_begin(&chain, e->inner, sizeof e->inner);
    proposal_write(&chain, choice, PROTOCOL_IKE, next->our_spi, IKE_SPI_BYTES);
    write_nonce_and_ke(&chain, c, choice->suite.dh);
    if (answer_seal(e, c->sa, c->rq, &chain) != ERR_OK || group_add(e, next->rec) != ERR_OK ||
        group_add(e, c->sa->rec) != ERR_OK) {
        group_drop(e);
        ike_sa_forget(e, next);
        return;
    }
    ike_sa_hand_over(e, c->sa, next);
    c->sa->rekeyed = true; /* the peer deletes it; should it not, we do */
    c->sa->retry_us = e->now.mono_us + OLD_GRACE_S * 1000000ULL;
    if (c->sa->own.kind == OWN_REKEY_IKE)
        rekey_note_rival(c->sa, 0, next->our_spi, c->nonce_i,
                         (struct slice){c->nonce_r, sizeof c->nonce_r});
    e->stats.rekeys++;
    log_info("ike", "IKE SA 0x%016" PRIx64 " rekeyed to 0x%016" PRIx64, c->sa->our_spi,
             next->our_spi);
    group_commit(e, c->sa);
}

static void rekey_ike(struct create *c)
{
    struct choice_rules rules = {
        .protocol = PROTOCOL_IKE, .ike_rekey = true, .ke_group = c->ke_group};
    struct choice choice;
    int rc = proposal_choose(c->offer, &rules, &choice);

    if (rc == ERR_INVALID) {
        fail(c, N_INVALID_SYNTAX, "invalid_syntax: malformed IKE proposal");
    } else if (rc != ERR_OK) {
        explain_no_proposal(c->e, &rules, c->offer);
        act_failure(c->e, &c->sa->rec->ike.tunnel_id, c->rq, c->e->reason);
        refuse(c, N_NO_PROPOSAL_CHOSEN);
    } else if (key_exchange_done(c, choice.suite.dh)) {
        answer_rekey_ike(c, &choice);
    }
}

/* ---- the way in ---- */

/* What we are doing to this SA forbids the request at the moment (§2.25). */
static bool in_the_way(const struct ike_sa *sa, bool about_child)
{
    enum own_kind own = sa->own.kind;

    if (sa->rekeyed || own == OWN_DELETE_IKE)
        return true;
    if (about_child)
        return own == OWN_REKEY_IKE;
    return own == OWN_REKEY_CHILD || own == OWN_DELETE_CHILD;
}

void create_child_request(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                          const struct message *inner, const struct dh_result *dh)
{
    struct create c = {.e = e, .sa = sa, .rq = rq, .inner = inner, .dh = dh};
    const struct payload *tsi = message_find(inner, PAYLOAD_TSI);
    const struct payload *tsr = message_find(inner, PAYLOAD_TSR);

    confirm_children(e, sa);
    rng_fill(&e->rng, c.nonce_r, sizeof c.nonce_r);
    if (!read_common(&c))
        fail(&c, N_INVALID_SYNTAX, "invalid_syntax: CREATE_CHILD_SA without SA or nonce");
    else if (in_the_way(sa, tsi && tsr))
        refuse(&c, N_TEMPORARY_FAILURE);
    else if (tsi && tsr)
        create_child(&c, tsi->body, tsr->body);
    else if (!tsi && !tsr)
        rekey_ike(&c);
    else
        fail(&c, N_INVALID_SYNTAX, "invalid_syntax: one of TSi and TSr");
    if (e->n_group && !e->group_given)
        group_commit(e, NULL); /* what this request confirmed */
}

/* The job is done: the message that waited is opened and handled once more. */
void create_child_resume(struct ike_engine *e, struct ike_sa *sa, struct ike_job *job)
{
    struct blob waiting = waiting_take(e, sa);
    struct slice left = {waiting.p, waiting.n};
    struct request rq = {.local = sa->waiting_local, .peer = sa->waiting_peer, .run = left};
    struct dh_result dh = {.shared = {job->shared, dh_public_len(job->group)}};
    struct message inner;

    sa->busy = false;
    if (!message_next(&left, &rq.m) || message_open(e, sa, &rq, &inner) != ERR_OK) {
        blob_free(&waiting);
        return;
    }
    if (rq.m.flags & IKE_FLAG_RESPONSE) {
        sa->own.dh = job->dh; /* lent for the job */
        job->dh = NULL;
        rekey_response(e, sa, &rq, &inner, job);
    } else if (job->rc != ERR_OK || dh_public(job->dh, dh.public_value) != ERR_OK) {
        act_failure(e, &sa->rec->ike.tunnel_id, &rq, "bad_ke: the value is outside its group");
        answer_error(e, sa, &rq, N_INVALID_SYNTAX, (struct slice){0});
    } else {
        create_child_request(e, sa, &rq, &inner, &dh);
    }
    blob_free(&waiting);
}
