/* Rekeys that we begin (RFC 7296 §1.3.2, §1.3.3, §2.8).
 *
 *   a Child SA   HDR, SK {N(REKEY_SA), SA, Ni, [KEi], TSi, TSr}  -->
 *                           <--  HDR, SK {SA, Nr, [KEr], TSi, TSr}
 *   the IKE SA   HDR, SK {SA, Ni, KEi}  -->  <--  HDR, SK {SA, Nr, KEr}
 *
 * We offer the suite that the SA has. The answer's records pass the barrier
 * first; only then is the new SA used for sending and the old one deleted, so no
 * node is ever without an SA that the peer has.
 *
 * Both sides may begin at once (§2.8.1): of the two new SAs the one whose
 * exchange used the lowest of the four nonces is deleted by the side that made
 * it. The other stays, and its maker deletes the old one. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ike/internal.h"

enum { REFUSED_PAUSE_S = 10, LOSER_GRACE_S = 30 };

/* ---- asking ---- */

static bool take_key(struct ike_engine *e, struct ike_sa *sa, uint16_t group)
{
    sa->own.group = group;
    if (group == DH_NONE)
        return true;
    sa->own.dh = pool_take(e, group);
    return sa->own.dh != NULL; /* the pool is refilled at the next tick */
}

static void write_nonce_and_ke(struct chain *c, const struct own_request *own)
{
    uint8_t public_value[DH_PUBLIC_MAX];

    chain_open(c, PAYLOAD_NONCE);
    write_bytes(&c->w, own->nonce, sizeof own->nonce);
    if (own->dh && dh_public(own->dh, public_value) == ERR_OK) {
        chain_open(c, PAYLOAD_KE);
        write_u16(&c->w, own->group);
        write_u16(&c->w, 0);
        write_bytes(&c->w, public_value, dh_public_len(own->group));
    }
    chain_close(c);
}

enum { CHILD_OFFERS = 3 };

/* The suite that the SA has. The first Child SA of an IKE SA says nothing about PFS, which
 * IKE_AUTH cannot have: all ways are offered then, and a peer that wants the group which KE has
 * not says so by INVALID_KE_PAYLOAD. `asked_for`: it said so before. */
static size_t child_offers(const struct child_record *old, uint16_t group, bool asked_for,
                           struct choice out[CHILD_OFFERS])
{
    const uint16_t groups[CHILD_OFFERS] = {
        group, group == DH_MODP_2048 ? DH_MODP_1536 : DH_MODP_2048, DH_NONE};
    size_t n = 0;

    for (size_t i = 0; i < CHILD_OFFERS; i++) {
        if (i && (old->suite.dh != DH_NONE || (asked_for && groups[i] != DH_NONE)))
            continue;
        out[n] = (struct choice){.number = (uint8_t)(n + 1), .suite = old->suite, .echo_esn = true};
        out[n++].suite.dh = groups[i];
    }
    return n;
}

void rekey_child_start(struct ike_engine *e, struct ike_sa *sa, struct record *old)
{
    const struct child_record *o = &old->child;
    uint16_t group = o->suite.dh ? o->suite.dh : sa->pfs_group ? sa->pfs_group : DH_MODP_2048;
    struct choice offers[CHILD_OFFERS];
    uint8_t spi[4];
    struct writer w = writer_of(spi, sizeof spi);
    struct chain c;
    size_t n;

    sa->own = (struct own_request){.kind = OWN_REKEY_CHILD, .old_spi = o->spi_in};
    if (!take_key(e, sa, group)) {
        own_clear(sa);
        return;
    }
    n = child_offers(o, group, sa->pfs_group != 0, offers);
    rng_fill(&e->rng, sa->own.nonce, sizeof sa->own.nonce);
    sa->own.new_spi = draw_esp_spi(e);
    write_u32(&w, o->spi_in);
    chain_begin(&c, e->inner, sizeof e->inner);
    chain_notify(&c, PROTOCOL_ESP, (struct slice){spi, 4}, N_REKEY_SA, (struct slice){0});
    proposal_write_offers(&c, offers, n, PROTOCOL_ESP, sa->own.new_spi, 4);
    write_nonce_and_ke(&c, &sa->own);
    ts_write(&c, PAYLOAD_TSI, &o->ts_local); /* we are the initiator of this exchange */
    ts_write(&c, PAYLOAD_TSR, &o->ts_remote);
    own_launch(e, sa, CREATE_CHILD_SA, &c);
}

void rekey_ike_start(struct ike_engine *e, struct ike_sa *sa)
{
    struct choice offer = {.number = 1, .suite = sa->rec->ike.suite};
    struct chain c;

    sa->own = (struct own_request){.kind = OWN_REKEY_IKE};
    if (!take_key(e, sa, sa->rec->ike.suite.dh)) {
        own_clear(sa);
        return;
    }
    rng_fill(&e->rng, sa->own.nonce, sizeof sa->own.nonce);
    sa->own.new_ike_spi = draw_ike_spi(e, 0); /* the peer's SPI is not known yet */
    chain_begin(&c, e->inner, sizeof e->inner);
    proposal_write(&c, &offer, PROTOCOL_IKE, sa->own.new_ike_spi, IKE_SPI_BYTES);
    write_nonce_and_ke(&c, &sa->own);
    own_launch(e, sa, CREATE_CHILD_SA, &c);
}

/* ---- collisions ---- */

static int compare_nonces(struct slice a, struct slice b)
{
    int order = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);

    return order ? order : a.n < b.n ? -1 : a.n > b.n;
}

static struct slice lower(struct slice a, struct slice b)
{
    return compare_nonces(a, b) <= 0 ? a : b;
}

void rekey_note_rival(struct ike_sa *sa, uint32_t child_spi, uint64_t ike_spi, struct slice nonce_a,
                      struct slice nonce_b)
{
    struct slice low = lower(nonce_a, nonce_b);

    sa->own.rival_spi = child_spi;
    sa->own.rival_ike_spi = ike_spi;
    memcpy(sa->own.rival_low, low.p, low.n);
    sa->own.rival_low_n = low.n;
}

/* Does our new SA have to go? */
static bool we_lose(const struct own_request *own, struct slice nonce_r)
{
    struct slice ours = lower((struct slice){own->nonce, sizeof own->nonce}, nonce_r);

    return own->rival_low_n &&
           compare_nonces(ours, (struct slice){own->rival_low, own->rival_low_n}) < 0;
}

/* ---- the answer ---- */

struct reply { /* what the answer to a rekey says */
    struct slice sa, nonce, ke, tsi, tsr;
    uint16_t group;
};

static bool read_reply(const struct message *m, struct reply *out)
{
    const struct payload *sa = message_find(m, PAYLOAD_SA), *nonce = message_find(m, PAYLOAD_NONCE);
    const struct payload *ke = message_find(m, PAYLOAD_KE);
    const struct payload *tsi = message_find(m, PAYLOAD_TSI), *tsr = message_find(m, PAYLOAD_TSR);

    *out = (struct reply){0};
    if (!sa || !nonce || nonce->body.n < IKE_NONCE_MIN || nonce->body.n > IKE_NONCE_MAX)
        return false;
    out->sa = sa->body;
    out->nonce = nonce->body;
    out->tsi = tsi ? tsi->body : (struct slice){0};
    out->tsr = tsr ? tsr->body : (struct slice){0};
    if (ke) {
        struct reader r = reader_of(ke->body.p, ke->body.n);

        out->group = read_u16(&r);
        read_skip(&r, 2);
        out->ke = read_slice(&r, r.left);
        return !r.bad;
    }
    return true;
}

static struct record *find_child(const struct ike_sa *sa, uint32_t spi_in)
{
    for (size_t i = 0; i < sa->n_children; i++)
        if (sa->children[i]->child.spi_in == spi_in)
            return sa->children[i];
    return NULL;
}

/* The request is over; the SA's record says so to all. */
static void settle(struct ike_engine *e, struct ike_sa *sa)
{
    own_clear(sa);
    sa->rec->ike.revision++;
    (void)group_add(e, sa->rec);
}

/* The peer said no: later again, or never if it does not know the SA any more. */
static void refused(struct ike_engine *e, struct ike_sa *sa, const struct message *inner)
{
    uint32_t old_spi = sa->own.old_spi;
    bool gone = sa->own.kind == OWN_REKEY_CHILD;
    struct notify n;

    if (message_find_notify(inner, N_INVALID_KE_PAYLOAD, &n) && n.data.n == 2 &&
        dh_public_len((uint16_t)(n.data.p[0] << 8 | n.data.p[1])) &&
        sa->own.kind == OWN_REKEY_CHILD && sa->pfs_group == 0) {
        sa->pfs_group = (uint16_t)(n.data.p[0] << 8 | n.data.p[1]); /* once more, with that one */
        settle(e, sa);
        group_commit(e, NULL);
        return;
    }
    gone = gone && message_find_notify(inner, N_CHILD_SA_NOT_FOUND, &n);
    sa->retry_us = e->now.mono_us + REFUSED_PAUSE_S * 1000000ULL;
    log_info("ike", "IKE SA 0x%016" PRIx64 ": the peer refused our rekey%s", sa->our_spi,
             gone ? ", it has no such Child SA" : "");
    settle(e, sa);
    for (size_t i = 0; gone && i < sa->n_children; i++)
        if (sa->children[i]->child.spi_in == old_spi) {
            group_add_deleted_child(e, sa, i);
            break;
        }
    group_commit(e, NULL);
}

/* But for the group, which need not be the old one's. */
static bool same_suite(const struct suite *a, const struct suite *b)
{
    return a->encr == b->encr && a->encr_bits == b->encr_bits && a->prf == b->prf &&
           a->integ == b->integ;
}

/* The new Child SA as a record; NULL when the answer does not fit what we asked. */
static struct record *make_child(struct ike_engine *e, struct ike_sa *sa, const struct reply *reply,
                                 struct slice shared)
{
    const struct record *old = find_child(sa, sa->own.old_spi);
    struct choice_rules rules = {
        .protocol = PROTOCOL_ESP, .allow_null = true, .ke_group = sa->own.group};
    struct selector_list local, remote;
    struct choice choice;
    struct record *r;

    if (!old || proposal_choose(reply->sa, &rules, &choice) != ERR_OK ||
        !same_suite(&choice.suite, &old->child.suite) || ts_parse(reply->tsi, &local) != ERR_OK ||
        ts_parse(reply->tsr, &remote) != ERR_OK)
        return NULL;
    r = record_clone(old);
    if (!r)
        return NULL;
    if (!ts_narrow(&local, &old->child.ts_local, &r->child.ts_local) ||
        !ts_narrow(&remote, &old->child.ts_remote, &r->child.ts_remote) ||
        keys_derive_child(&sa->rec->ike, (struct slice){sa->own.nonce, sizeof sa->own.nonce},
                          reply->nonce, shared, false, &r->child) != ERR_OK) {
        record_free(r);
        return NULL;
    }
    r->child.suite = choice.suite;
    r->child.spi_in = sa->own.new_spi;
    r->child.spi_out = choice.peer_spi;
    r->child.state = SA_INSTALLED;
    r->child.confirmed = r->child.rekeyed = false;
    r->child.generation++;
    r->child.replaces_spi = old->child.spi_in;
    r->child.origin_slot = e->config.slot;
    if (r->child.udp_encap) /* the peer may have moved since the old one */
        r->child.peer = sa->rec->ike.peer;
    r->child.created_ms = e->now.wall_ms;
    r->child.not_after_ms = e->now.wall_ms + (int64_t)e->config.child_lifetime_s * 1000;
    return r;
}

static void child_answered(struct ike_engine *e, struct ike_sa *sa, const struct reply *reply,
                           struct slice shared)
{
    struct record *child = make_child(e, sa, reply, shared);
    bool lose = we_lose(&sa->own, reply->nonce);

    if (!find_child(sa, sa->own.old_spi)) {
        /* The peer deleted the old one, since its own rekey won while this answer was on its way
         * (§2.8.1). What it made for us is ours to delete. */
        uint32_t orphan = sa->own.new_spi;

        record_free(child);
        own_clear(sa);
        own_start_simple(e, sa, OWN_DELETE_CHILD, orphan);
        return;
    }
    if (!child || group_add(e, child) != ERR_OK || ike_sa_add_child(sa, child) != ERR_OK) {
        record_free(child);
        group_drop(e);
        sa->retry_us = e->now.mono_us + REFUSED_PAUSE_S * 1000000ULL;
        settle(e, sa);
        group_commit(e, NULL);
        return;
    }
    log_info("ike", "Child SA in=0x%08" PRIx32 " rekeyed by us to in=0x%08" PRIx32 "%s",
             sa->own.old_spi, child->child.spi_in, lose ? ", the peer's own rekey wins" : "");
    e->stats.rekeys++;
    sa->new_child_spi = lose ? 0 : child->child.spi_in;
    sa->old_child_spi = lose ? child->child.spi_in : sa->own.old_spi;
    settle(e, sa);
    group_commit_then(e, sa, AFTER_NEW_CHILD);
}

/* Every node has the new Child SA: send on it, and delete the old one. */
void rekey_child_in_place(struct ike_engine *e, struct ike_sa *sa)
{
    struct record *fresh = find_child(sa, sa->new_child_spi);

    if (fresh) {
        fresh->child.confirmed = true;
        (void)group_add(e, fresh);
    }
    if (find_child(sa, sa->old_child_spi))
        own_start_simple(e, sa, OWN_DELETE_CHILD, sa->old_child_spi);
    else if (e->n_group)
        group_commit(e, NULL);
}

static struct ike_sa *make_successor(struct ike_engine *e, struct ike_sa *sa,
                                     const struct reply *reply, const struct choice *choice,
                                     struct slice shared)
{
    const struct ike_record *old = &sa->rec->ike;
    struct ike_sa *next = ike_sa_successor(e, sa);
    struct ike_record *rec;

    if (!next)
        return NULL;
    rec = &next->rec->ike;
    rec->i_am_initiator = true;
    rec->spi_i = sa->own.new_ike_spi;
    rec->spi_r = choice->peer_ike_spi;
    rec->suite = choice->suite;
    rec->local = old->local;
    rec->peer = old->peer;
    if (keys_derive_ike(rec, old, (struct slice){sa->own.nonce, sizeof sa->own.nonce}, reply->nonce,
                        shared) != ERR_OK) {
        ike_sa_discard(next);
        return NULL;
    }
    ike_sa_enter(e, next, rec->spi_i);
    return next;
}

static void ike_answered(struct ike_engine *e, struct ike_sa *sa, const struct reply *reply,
                         struct slice shared)
{
    struct choice_rules rules = {
        .protocol = PROTOCOL_IKE, .ike_rekey = true, .ke_group = sa->own.group};
    struct ike_sa *next = NULL, *rival;
    struct choice choice;

    if (proposal_choose(reply->sa, &rules, &choice) == ERR_OK &&
        same_suite(&choice.suite, &sa->rec->ike.suite))
        next = make_successor(e, sa, reply, &choice, shared);
    if (!next || group_add(e, next->rec) != ERR_OK) {
        sa->retry_us = e->now.mono_us + REFUSED_PAUSE_S * 1000000ULL;
        settle(e, sa);
        group_commit(e, NULL);
        return;
    }
    log_info("ike", "IKE SA 0x%016" PRIx64 " rekeyed by us to 0x%016" PRIx64, sa->our_spi,
             next->our_spi);
    e->stats.rekeys++;
    rival = sa->own.rival_ike_spi ? ike_sa_find(e, sa->own.rival_ike_spi) : NULL;
    if (rival && we_lose(&sa->own, reply->nonce)) {
        next->rekeyed = true; /* ours goes; the peer deletes the old one */
        sa->retry_us = e->now.mono_us + LOSER_GRACE_S * 1000000ULL;
    } else {
        ike_sa_hand_over(e, rival ? rival : sa, next);
        sa->retry_us = e->now.mono_us; /* ours stays, so the old one is ours to delete */
        if (rival) {                   /* the peer deletes its own; should it not, we do */
            rival->rekeyed = true;
            rival->retry_us = e->now.mono_us + LOSER_GRACE_S * 1000000ULL;
        }
    }
    sa->rekeyed = true;
    settle(e, sa);
    group_commit_then(e, sa, AFTER_NEW_IKE);
}

/* Every node has the new IKE SA; own_tick deletes what is marked as rekeyed when its time is. */
void rekey_ike_in_place(struct ike_engine *e, struct ike_sa *sa)
{
    if (sa->retry_us <= e->now.mono_us)
        own_start_simple(e, sa, OWN_DELETE_IKE, 0);
}

/* The group that the answer chose: DH_NONE without PFS; false: not what we offered. */
static bool chosen_group(const struct own_request *own, const struct reply *reply, uint16_t *group)
{
    struct choice_rules rules = {
        .protocol = PROTOCOL_IKE, .ike_rekey = true, .ke_group = own->group};
    struct choice choice;

    if (own->kind == OWN_REKEY_CHILD)
        rules = (struct choice_rules){
            .protocol = PROTOCOL_ESP, .allow_null = true, .ke_group = own->group};
    if (proposal_choose(reply->sa, &rules, &choice) != ERR_OK)
        return false;
    *group = choice.suite.dh;
    return *group == DH_NONE || (*group == own->group && reply->group == own->group);
}

void rekey_response(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                    const struct message *inner, struct ike_job *job)
{
    struct own_request *own = &sa->own;
    struct slice shared = {0};
    struct reply reply;
    uint16_t group;

    if (!read_reply(inner, &reply) || !chosen_group(own, &reply, &group)) {
        refused(e, sa, inner);
        return;
    }
    if (group != DH_NONE && !job) {
        if (!own->dh || reply.ke.n != dh_public_len(group) ||
            !exchange_job_start(e, sa, rq, group, reply.ke, own->dh))
            refused(e, sa, inner);
        else
            own->dh = NULL; /* the job's now */
        return;
    }
    if (job && job->rc != ERR_OK) {
        refused(e, sa, inner);
        return;
    }
    if (job)
        shared = (struct slice){job->shared, dh_public_len(job->group)};
    if (own->kind == OWN_REKEY_CHILD)
        child_answered(e, sa, &reply, shared);
    else
        ike_answered(e, sa, &reply, shared);
}
