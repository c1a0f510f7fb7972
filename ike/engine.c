/* The engine's frame: its table of IKE SAs, the way in, and the list of actions.
 *
 * A datagram goes ike_step -> on_datagram -> (by exchange) sa_init.c, auth.c,
 * child.c or informational.c. Each builds its answer as a chain of payloads;
 * answer.c seals it and keeps the bytes as the SA's last response. If the
 * exchange changed an SA, its records were gathered with group_add and leave
 * as one COMMIT, and the bytes wait for COMMITTED; otherwise they are sent at
 * once. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ike/internal.h"

enum { SUPERSEDED_GRACE_S = 30 };

struct ike_engine *ike_new(const struct ike_config *config, const struct rng *rng)
{
    struct ike_engine *e = calloc(1, sizeof *e);

    if (!e)
        return NULL;
    e->config = *config;
    e->rng = *rng;
    e->pools[0].group = DH_MODP_2048;
    e->pools[1].group = DH_MODP_1536;
    return e;
}

void ike_set_keys(struct ike_engine *e, const struct secret *spi, const struct secret *cookie,
                  const struct secret *also)
{
    e->config.spi_key = *spi;
    e->config.cookie_key = *cookie;
    e->config.cookie_also = *also;
}

void ike_set_alone(struct ike_engine *e, bool alone)
{
    e->config.ask_others = !alone;
}

/* ---- actions ---- */

struct ike_action *act_add(struct ike_engine *e, enum ike_action_kind kind)
{
    if (e->n_actions == e->cap_actions) {
        size_t cap = e->cap_actions ? 2 * e->cap_actions : 16;
        struct ike_action *more = realloc(e->actions, cap * sizeof *more);

        if (!more)
            return NULL;
        e->actions = more;
        e->cap_actions = cap;
    }
    e->actions[e->n_actions] = (struct ike_action){.kind = kind};
    return &e->actions[e->n_actions++];
}

void act_send(struct ike_engine *e, const struct endpoint *local, const struct endpoint *peer,
              struct slice bytes)
{
    struct ike_action *a = act_add(e, IKE_ACT_SEND);

    if (a)
        *a = (struct ike_action){
            .kind = IKE_ACT_SEND, .local = *local, .peer = *peer, .bytes = bytes};
}

void act_failure(struct ike_engine *e, const struct id128 *tunnel, const struct request *rq,
                 const char *reason)
{
    struct ike_action *a = act_add(e, IKE_ACT_FAILURE);
    char peer[ENDPOINT_TEXT], id[ID_TEXT];

    if (tunnel)
        log_warn("ike", "negotiation failed peer=%s tunnel=%s reason=%s",
                 endpoint_format(&rq->peer, peer), id128_format(tunnel, id), reason);
    else
        log_warn("ike", "negotiation failed peer=%s reason=%s", endpoint_format(&rq->peer, peer),
                 reason);
    if (!a)
        return;
    if (reason != e->reason)
        snprintf(e->reason, sizeof e->reason, "%s", reason);
    a->peer = rq->peer;
    a->local = rq->local;
    a->reason = e->reason;
    if (tunnel)
        a->tunnel = *tunnel;
}

void explain_no_proposal(struct ike_engine *e, const struct choice_rules *rules,
                         struct slice sa_payload)
{
    char offered[IKE_TEXT_MAX / 2], allowed[IKE_TEXT_MAX / 2];

    snprintf(e->reason, sizeof e->reason,
             "no_proposal_chosen: peer offered %.200s, tunnel allows %.200s",
             proposal_describe(sa_payload, offered, sizeof offered),
             proposal_describe_rules(rules, allowed, sizeof allowed));
}

void act_job(struct ike_engine *e, struct ike_job *job)
{
    struct ike_action *a = act_add(e, IKE_ACT_JOB);

    if (!a) {
        ike_job_free(job);
        return;
    }
    a->job = job;
}

int group_add(struct ike_engine *e, const struct record *r)
{
    struct record *copy;

    if (e->n_group == sizeof e->group / sizeof *e->group)
        return ERR_FULL;
    copy = record_clone(r);
    if (!copy)
        return ERR_NOMEM;
    e->group[e->n_group++] = copy;
    return ERR_OK;
}

void group_drop(struct ike_engine *e)
{
    while (e->n_group)
        record_free(e->group[--e->n_group]);
}

void group_commit(struct ike_engine *e, struct ike_sa *sa)
{
    group_commit_then(e, sa, AFTER_ANSWER);
}

void group_commit_then(struct ike_engine *e, struct ike_sa *sa, enum after_commit after)
{
    struct ike_action *a = act_add(e, IKE_ACT_COMMIT);

    if (!a) {
        group_drop(e);
        return;
    }
    a->records = e->group;
    a->n_records = e->n_group;
    e->group_given = true;
    if (sa) {
        sa->after = after;
        a->commit = ++e->last_commit;
        sa->commit = a->commit;
        HASH_ADD(by_commit, e->by_commit, commit, sizeof sa->commit, sa);
    }
}

/* ---- the table of IKE SAs ---- */

struct ike_sa *ike_sa_new(struct ike_engine *e)
{
    struct ike_sa *sa = secret_alloc(sizeof *sa);

    if (!sa)
        return NULL;
    sa->rec = record_new(RECORD_IKE);
    if (!sa->rec) {
        secret_free(sa, sizeof *sa);
        return NULL;
    }
    sa->began_us = e->now.mono_us;
    sa->rekey_after_permille = rng_u32(&e->rng) % 101;
    return sa;
}

struct ike_sa *ike_sa_successor(struct ike_engine *e, const struct ike_sa *old)
{
    const struct ike_record *o = &old->rec->ike;
    struct ike_sa *sa = ike_sa_new(e);
    struct ike_record *rec;

    if (!sa)
        return NULL;
    rec = &sa->rec->ike;
    rec->tunnel_id = o->tunnel_id;
    rec->lineage = o->lineage;
    rec->term = (struct term){1, e->config.slot, e->config.incarnation};
    rec->state = SA_INSTALLED;
    rec->nat = o->nat;
    rec->created_ms = e->now.wall_ms;
    rec->not_after_ms = e->now.wall_ms + (int64_t)e->config.lifetime_s * 1000;
    rec->peer_id_type = o->peer_id_type;
    (void)blob_set(&rec->peer_id, o->peer_id.p, o->peer_id.n);
    sa->phase = PHASE_ESTABLISHED;
    memcpy(rec->given_up, o->given_up, sizeof rec->given_up);
    rec->n_given_up = o->n_given_up;
    rec->fragmentation = o->fragmentation; /* as IKE_SA_INIT agreed (RFC 7383 §2.3) */
    sa->answer_natd = old->answer_natd;
    return sa;
}

void ike_sa_enter(struct ike_engine *e, struct ike_sa *sa, uint64_t our_spi)
{
    sa->our_spi = our_spi;
    HASH_ADD(by_spi, e->by_spi, our_spi, sizeof sa->our_spi, sa);
    e->stats.established++;
}

void ike_sa_discard(struct ike_sa *sa)
{
    record_free(sa->rec);
    secret_free(sa, sizeof *sa);
}

static void no_longer_lead(struct ike_engine *e, struct ike_sa *sa)
{
    if (sa->by_lineage.tbl) {
        HASH_DELETE(by_lineage, e->by_lineage, sa);
        sa->by_lineage.tbl = NULL;
    }
}

void ike_sa_lead(struct ike_engine *e, struct ike_sa *sa)
{
    struct ike_sa *before;

    HASH_FIND(by_lineage, e->by_lineage, &sa->rec->ike.lineage, sizeof(struct id128), before);
    if (before)
        no_longer_lead(e, before);
    HASH_ADD_KEYPTR(by_lineage, e->by_lineage, &sa->rec->ike.lineage, sizeof(struct id128), sa);
}

void ike_sa_hand_over(struct ike_engine *e, struct ike_sa *from, struct ike_sa *to)
{
    struct record **room = to->children;
    size_t cap = to->cap_children;

    to->children = from->children;
    to->n_children = from->n_children;
    to->cap_children = from->cap_children;
    from->children = room;
    from->n_children = 0;
    from->cap_children = cap;
    to->move = from->move;
    ike_sa_lead(e, to);
}

struct ike_sa *ike_sa_find(const struct ike_engine *e, uint64_t our_spi)
{
    struct ike_sa *sa;

    HASH_FIND(by_spi, e->by_spi, &our_spi, sizeof our_spi, sa);
    return sa;
}

void ike_sa_drop_half_open_parts(struct ike_engine *e, struct ike_sa *sa)
{
    struct blob waiting;

    if (sa->by_init.tbl) {
        HASH_DELETE(by_init, e->by_init, sa);
        sa->by_init.tbl = NULL;
        e->stats.half_open--;
        prefix_leave(e, &sa->init_source);
    }
    blob_free(&sa->init_request);
    blob_free(&sa->init_response);
    waiting = waiting_take(e, sa);
    blob_free(&waiting);
    if (sa->phase != PHASE_DERIVING) { /* a job may still read it */
        dh_free(sa->dh);
        sa->dh = NULL;
    }
}

static void ike_sa_free(struct ike_sa *sa)
{
    own_clear(sa);
    while (sa->n_children)
        ike_sa_remove_child(sa, sa->n_children - 1);
    free(sa->children);
    record_free(sa->rec);
    secret_free(sa, sizeof *sa);
}

void ike_sa_forget(struct ike_engine *e, struct ike_sa *sa)
{
    if (sa->phase == PHASE_ESTABLISHED)
        e->stats.established--;
    ike_sa_drop_half_open_parts(e, sa);
    fragments_drop(e, sa);
    if (sa->commit) {
        HASH_DELETE(by_commit, e->by_commit, sa);
        sa->commit = 0;
    }
    no_longer_lead(e, sa);
    if (e->sweep_next == sa)
        e->sweep_next = sa->by_spi.next;
    HASH_DELETE(by_spi, e->by_spi, sa);
    sa->next_doomed = e->doomed;
    e->doomed = sa;
}

void ike_sa_close(struct ike_engine *e, struct ike_sa *sa)
{
    if (sa->phase == PHASE_ESTABLISHED)
        e->stats.established--;
    ike_sa_drop_half_open_parts(e, sa);
    fragments_drop(e, sa);
    own_clear(sa); /* the peer's DELETE ends what we were asking (§2.25.2) */
    while (sa->n_children)
        ike_sa_remove_child(sa, sa->n_children - 1);
    sa->phase = PHASE_CLOSED;
    sa->until_us = e->now.mono_us + LINGER_S * 1000000ULL;
}

int ike_sa_add_child(struct ike_sa *sa, struct record *child)
{
    if (sa->n_children == sa->cap_children) {
        size_t cap = sa->cap_children ? 2 * sa->cap_children : 2;
        struct record **more = realloc(sa->children, cap * sizeof(struct record *));

        if (!more)
            return ERR_NOMEM;
        sa->children = more;
        sa->cap_children = cap;
    }
    sa->children[sa->n_children++] = child;
    return ERR_OK;
}

void ike_sa_remove_child(struct ike_sa *sa, size_t i)
{
    record_free(sa->children[i]);
    sa->children[i] = sa->children[--sa->n_children];
}

static void free_doomed(struct ike_engine *e)
{
    while (e->doomed) {
        struct ike_sa *sa = e->doomed;

        e->doomed = sa->next_doomed;
        ike_sa_free(sa);
    }
}

/* ---- tunnels ---- */

static void free_tunnels(struct tunnel *all)
{
    struct tunnel *t, *next;

    HASH_ITER(by_id, all, t, next)
    {
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): iterating is safe */
        HASH_DELETE(by_id, all, t);
        secret_free(t->psk, t->psk_n);
        free(t);
    }
}

int ike_set_tunnels(struct ike_engine *engine, const struct ike_tunnel *tunnels, size_t n)
{
    struct tunnel *all = NULL;

    for (size_t i = 0; i < n; i++) {
        struct tunnel *t = calloc(1, sizeof *t);

        if (t)
            t->psk = secret_alloc(tunnels[i].psk_n ? tunnels[i].psk_n : 1);
        if (!t || !t->psk) {
            free(t);
            free_tunnels(all);
            return ERR_NOMEM;
        }
        t->t = tunnels[i];
        t->psk_n = tunnels[i].psk_n;
        if (t->psk_n)
            memcpy(t->psk, tunnels[i].psk, t->psk_n);
        t->t.psk = t->psk;
        HASH_ADD(by_id, all, t.id, sizeof t->t.id, t);
    }
    free_tunnels(engine->tunnels);
    engine->tunnels = all;
    return ERR_OK;
}

void ike_free(struct ike_engine *engine)
{
    struct ike_sa *sa, *next;

    if (!engine)
        return;
    HASH_ITER(by_spi, engine->by_spi, sa, next)
    {
        if (sa->phase == PHASE_DERIVING)
            sa->phase = PHASE_KEYED; /* no job runs any more: its key may go */
        ike_sa_forget(engine, sa);
    }
    free_doomed(engine);
    for (size_t p = 0; p < 2; p++)
        while (engine->pools[p].n)
            dh_free(engine->pools[p].keys[--engine->pools[p].n]);
    free_tunnels(engine->tunnels);
    if (!engine->group_given)
        group_drop(engine);
    free(engine->actions);
    wipe(engine, sizeof *engine);
    free(engine);
}

/* ---- the way in ---- */

void refuse_critical(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                     const struct message *m)
{
    struct slice type = {&m->bad_critical, 1};

    snprintf(e->reason, sizeof e->reason, "unsupported_critical_payload: type %u in exchange %u",
             (unsigned)m->bad_critical, (unsigned)rq->m.exchange);
    act_failure(e, sa && sa->phase == PHASE_ESTABLISHED ? &sa->rec->ike.tunnel_id : NULL, rq,
                e->reason);
    if (sa)
        answer_error(e, sa, rq, N_UNSUPPORTED_CRITICAL_PAYLOAD, type);
    else
        init_refuse(e, rq, N_UNSUPPORTED_CRITICAL_PAYLOAD, type);
}

static void refuse_syntax(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                          const char *reason)
{
    act_failure(e, &sa->rec->ike.tunnel_id, rq, reason);
    answer_error(e, sa, rq, N_INVALID_SYNTAX, (struct slice){0});
}

/* Whether a request is the next one (RFC 7296 §2.3). The last one again gets its answer again. */
static bool is_next_request(struct ike_engine *e, const struct ike_sa *sa, const struct request *rq)
{
    const struct ike_record *rec = &sa->rec->ike;
    struct slice raw = rq->m.raw;
    uint8_t hash[HASH_MAX];

    if (rq->m.id + 1 == rec->next_in) {
        if (rec->last_response.n && crypto_hash(HASH_SHA256, &raw, 1, hash) == ERR_OK &&
            (crypto_equal(hash, rec->last_request_hash, sizeof rec->last_request_hash) ||
             fragment_repeats(e, sa, rq))) {
            e->stats.retransmits++;
            act_send_run(e, &rq->local, &rq->peer, &rec->last_response);
        }
        return false;
    }
    return sa->phase == PHASE_ESTABLISHED &&
           (rq->m.id == rec->next_in || (sa->may_jump && rq->m.id > rec->next_in));
}

static void on_request(struct ike_engine *e, struct ike_sa *sa, const struct request *rq)
{
    struct message inner;
    int rc = message_open(e, sa, rq, &inner);

    if (rc == ERR_AUTH)
        return;
    sa->may_jump = false;
    sa->last_in_us = e->now.mono_us;
    sa->rec->ike.next_in = rq->m.id;
    if (rc == ERR_UNSUPPORTED) {
        refuse_critical(e, sa, rq, &inner);
    } else if (rc != ERR_OK) {
        refuse_syntax(e, sa, rq, "invalid_syntax: bad payload chain");
    } else if (rq->m.exchange == CREATE_CHILD_SA) {
        create_child_request(e, sa, rq, &inner, NULL);
    } else if (rq->m.exchange == INFORMATIONAL) {
        informational_request(e, sa, rq, &inner);
    } else {
        refuse_syntax(e, sa, rq, "invalid_syntax: not an exchange for this IKE SA");
    }
    move_noticed(e, sa, rq);
}

void protected_message(struct ike_engine *e, struct ike_sa *sa, struct request *rq)
{
    bool response = rq->m.flags & IKE_FLAG_RESPONSE;
    bool auth = !response && rq->m.exchange == IKE_AUTH && sa->phase < PHASE_ESTABLISHED;

    if (auth && sa->phase < PHASE_KEYED) {
        auth_wait(e, sa, rq);
        return;
    }
    if (sa->commit || sa->busy)
        return; /* the answer is on its way */
    if (response ? !own_awaits(sa, rq->m.id) : auth ? rq->m.id != 1 : !is_next_request(e, sa, rq))
        return;
    if (!message_gather(e, sa, rq))
        return;
    if (response)
        own_response(e, sa, rq);
    else if (auth)
        auth_request(e, sa, rq);
    else
        on_request(e, sa, rq);
}

/* Version 3 and later: say which one we speak, unprotected, once per datagram (§2.5). */
static void refuse_version(struct ike_engine *e, const struct request *rq)
{
    struct writer w = writer_of(e->scratch, sizeof e->scratch);
    struct chain c;

    chain_begin(&c, e->inner, sizeof e->inner);
    chain_error(&c, N_INVALID_MAJOR_VERSION);
    message_header(&w, rq->m.spi_i, rq->m.spi_r, c.first, rq->m.exchange, IKE_FLAG_RESPONSE,
                   rq->m.id);
    write_bytes(&w, c.w.p, c.w.n);
    message_finish(&w);
    if (!w.bad && !c.w.bad)
        act_send(e, &rq->local, &rq->peer, (struct slice){w.p, w.n});
}

static void on_datagram(struct ike_engine *e, const struct ike_event *event)
{
    struct request rq = {.local = event->local, .peer = event->peer};
    struct ike_sa *sa;
    bool response, begins;
    int rc;

    e->stats.datagrams++;
    if (message_parse_header(event->bytes, &rq.m) != ERR_OK) {
        e->stats.malformed++;
        return;
    }
    response = rq.m.flags & IKE_FLAG_RESPONSE;
    if (rq.m.version >> 4 != IKE_VERSION_2 >> 4) {
        if (rq.m.version >> 4 > 2 && !response)
            refuse_version(e, &rq);
        return;
    }
    rc = message_parse_chain(
        &rq.m, rq.m.first,
        (struct slice){rq.m.raw.p + IKE_HEADER_BYTES, rq.m.raw.n - IKE_HEADER_BYTES});
    begins = rq.m.exchange == IKE_SA_INIT && !response && rq.m.spi_r == 0 &&
             rq.m.flags & IKE_FLAG_INITIATOR && rq.m.id == 0;
    if (rc == ERR_UNSUPPORTED && begins) {
        refuse_critical(e, NULL, &rq, &rq.m);
        return;
    }
    if (rc != ERR_OK) {
        e->stats.malformed++;
        return;
    }
    if (rq.m.exchange == IKE_SA_INIT) {
        if (begins)
            sa_init_request(e, &rq);
        return;
    }
    sa = ike_sa_find(e, rq.m.flags & IKE_FLAG_INITIATOR ? rq.m.spi_r : rq.m.spi_i);
    if (!sa || rq.m.spi_i != sa->rec->ike.spi_i || rq.m.spi_r != sa->rec->ike.spi_r ||
        rq.m.n == 0 ||
        (rq.m.payloads[rq.m.n - 1].type != PAYLOAD_SK &&
         rq.m.payloads[rq.m.n - 1].type != PAYLOAD_SKF))
        return;
    protected_message(e, sa, &rq);
}

static void on_committed(struct ike_engine *e, uint64_t commit)
{
    struct ike_sa *sa;

    HASH_FIND(by_commit, e->by_commit, &commit, sizeof commit, sa);
    if (!sa)
        return;
    HASH_DELETE(by_commit, e->by_commit, sa);
    sa->commit = 0;
    switch (sa->after) {
    case AFTER_ANSWER:
        answer_send(e, sa);
        if (sa->close_after_commit)
            ike_sa_close(e, sa);
        break;
    case AFTER_REQUEST:
        own_send(e, sa);
        break;
    case AFTER_NEW_CHILD:
        rekey_child_in_place(e, sa);
        break;
    case AFTER_NEW_IKE:
        rekey_ike_in_place(e, sa);
        break;
    }
    move_continue(e, sa);
}

static void on_job(struct ike_engine *e, struct ike_job *job)
{
    struct ike_sa *sa = job->our_spi ? ike_sa_find(e, job->our_spi) : NULL;

    if (job->kind == JOB_REFILL) {
        pool_put(e, job);
    } else if (job->kind == JOB_KEYGEN) {
        if (job->dh && sa && sa->phase == PHASE_INIT && sa->group == job->group) {
            sa->dh = job->dh;
            job->dh = NULL;
            sa_init_continue(e, sa);
        }
    } else if (job->kind == JOB_EXCHANGE) {
        if (sa && sa->busy)
            create_child_resume(e, sa, job);
    } else if (sa && sa->phase == PHASE_DERIVING) {
        auth_derived(e, sa, job);
    }
    ike_job_free(job);
}

/* Another node negotiated a Child SA of a lineage that we speak for: before we took it over, or
 * while the mesh was split. */
static void child_arrived(struct ike_engine *e, struct ike_sa *sa, const struct record *r)
{
    struct record *copy;

    if (r->child.state != SA_INSTALLED || r->child.origin_slot == e->config.slot ||
        given_up_arrived(e, sa, r))
        return;
    copy = record_clone(r);
    if (copy && ike_sa_add_child(sa, copy) != ERR_OK)
        record_free(copy);
}

/* Another node changed what we hold: a deletion or a higher term ends our part in it. */
static void on_record(struct ike_engine *e, const struct record *r)
{
    struct ike_sa *sa;

    if (r->kind == RECORD_IKE) {
        sa = ike_sa_find(e, ike_record_spi(&r->ike));
        if (sa && sa->phase == PHASE_ESTABLISHED &&
            (r->ike.state == SA_DELETED || term_compare(&r->ike.term, &sa->rec->ike.term) > 0)) {
            if (r->ike.state == SA_DELETED && r->ike.lineage_over)
                own_farewell(e, sa);
            ike_sa_forget(e, sa);
        }
        return;
    }
    if (r->kind != RECORD_CHILD)
        return;
    HASH_FIND(by_lineage, e->by_lineage, &r->child.lineage, sizeof r->child.lineage, sa);
    for (size_t i = 0; sa && i < sa->n_children; i++) {
        struct child_record *mine = &sa->children[i]->child;

        if (mine->spi_in != r->child.spi_in)
            continue;
        if (r->child.state == SA_DELETED) {
            ike_sa_remove_child(sa, i);
            return;
        }
        mine->confirmed |= r->child.confirmed;
        mine->rekeyed |= r->child.rekeyed;
        return;
    }
    if (sa)
        child_arrived(e, sa, r);
}

static void look_at(struct ike_engine *e, struct ike_sa *sa)
{
    fragments_tick(e, sa);
    if (sa->commit || sa->busy || sa->phase == PHASE_DERIVING)
        return;
    if (sa->phase == PHASE_CLOSED) {
        if (e->now.mono_us >= sa->until_us)
            ike_sa_forget(e, sa);
    } else if (sa->phase < PHASE_ESTABLISHED) {
        if (e->now.mono_us - sa->began_us >= HALF_OPEN_S * 1000000ULL)
            ike_sa_forget(e, sa);
    } else if (e->now.wall_ms >= sa->rec->ike.not_after_ms) {
        log_info("ike", "IKE SA 0x%016" PRIx64 " reached its lifetime", sa->our_spi);
        group_add_deletion(e, sa);
        group_commit(e, NULL);
        ike_sa_forget(e, sa);
    } else if (!given_up_sweep(e, sa)) {
        own_tick(e, sa);
    }
}

/* Looks at every SA once a sweep. A step has one group of records, so it ends at the first SA
 * that needs one, or at many actions; the next step goes on from there. */
static void on_tick(struct ike_engine *e)
{
    pool_refill(e);
    if (!e->sweep_next && e->now.mono_us >= e->next_sweep_us) {
        e->next_sweep_us = e->now.mono_us + SWEEP_MS * 1000ULL;
        e->sweep_next = e->by_spi;
    }
    while (e->sweep_next && e->n_group == 0 && e->n_actions < STEP_ACTIONS) {
        struct ike_sa *sa = e->sweep_next;

        e->sweep_next = sa->by_spi.next;
        look_at(e, sa);
    }
}

bool ike_tick_again(const struct ike_engine *engine)
{
    return engine->sweep_next != NULL;
}

struct ike_actions ike_step(struct ike_engine *engine, const struct ike_event *event,
                            struct now now)
{
    free_doomed(engine);
    engine->n_actions = 0;
    if (engine->group_given) /* the records went to the receiver of COMMIT */
        engine->n_group = 0;
    engine->group_given = false;
    group_drop(engine);
    engine->now = now;
    switch (event->kind) {
    case IKE_EV_DATAGRAM:
        on_datagram(engine, event);
        break;
    case IKE_EV_JOB:
        on_job(engine, event->job);
        break;
    case IKE_EV_COMMITTED:
        on_committed(engine, event->commit);
        break;
    case IKE_EV_RECORD:
        on_record(engine, event->record);
        break;
    case IKE_EV_MOVED:
        move_reported(engine, event);
        break;
    case IKE_EV_ACTIVITY:
        liveness_told(engine, event);
        break;
    case IKE_EV_TICK:
        on_tick(engine);
        break;
    }
    return (struct ike_actions){engine->actions, engine->n_actions};
}

int ike_restore(struct ike_engine *engine, const struct record *ike,
                const struct record *const *children, size_t n_children, bool superseded,
                struct now now)
{
    struct ike_sa *sa;

    engine->now = now;
    if (ike_sa_find(engine, ike_record_spi(&ike->ike)))
        return ERR_EXISTS;
    sa = ike_sa_new(engine);
    if (!sa)
        return ERR_NOMEM;
    record_free(sa->rec);
    sa->rec = record_clone(ike);
    for (size_t i = 0; sa->rec && i < n_children; i++) {
        struct record *copy = record_clone(children[i]);

        if (!copy || ike_sa_add_child(sa, copy) != ERR_OK) {
            record_free(copy);
            record_free(sa->rec);
            sa->rec = NULL;
        }
    }
    if (!sa->rec) {
        ike_sa_free(sa);
        return ERR_NOMEM;
    }
    sa->our_spi = ike_record_spi(&ike->ike);
    sa->phase = PHASE_ESTABLISHED;
    sa->may_jump = sa->restored = true;
    own_restore(engine, sa);
    if (superseded) {
        sa->rekeyed = true;
        sa->retry_us = now.mono_us + SUPERSEDED_GRACE_S * 1000000ULL;
    } else {
        ike_sa_lead(engine, sa);
    }
    HASH_ADD(by_spi, engine->by_spi, our_spi, sizeof sa->our_spi, sa);
    engine->stats.established++;
    return ERR_OK;
}

bool ike_owns(const struct ike_engine *engine, uint64_t our_spi)
{
    return ike_sa_find(engine, our_spi) != NULL;
}

void ike_get_stats(const struct ike_engine *engine, struct ike_stats *out)
{
    *out = engine->stats;
}
