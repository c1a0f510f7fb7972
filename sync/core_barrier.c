/* Barriers: an answer of ours to a customer waits here until its records would survive us. */
#include <stdlib.h>

#include "proto/log.h"
#include "sync/core.h"
#include "sync/join.h"

void barrier_free(struct sync_core *core)
{
    for (size_t i = 0; i < core->n_barriers; i++)
        free(core->barriers[i].fences);
    free(core->barriers);
}

struct barrier *barrier_add(struct sync_core *core, uint64_t id, struct record *const *group,
                            size_t n)
{
    struct barrier b = {.id = id, .started_us = core->now.mono_us};

    if (!array_room(&core->barriers, core->n_barriers, &core->cap_barriers, sizeof *core->barriers))
        return NULL;
    b.fences = calloc(n ? n : 1, sizeof *b.fences);
    if (!b.fences)
        return NULL;
    /* What the group deletes needs no fence: deleted wins, whoever raises the term meanwhile. */
    for (size_t i = 0; i < n; i++)
        if (group[i] && group[i]->kind == RECORD_IKE && group[i]->ike.state == SA_INSTALLED)
            b.fences[b.n_fences++] = (struct fence){record_key(group[i]), group[i]->ike.term};
    core->barriers[core->n_barriers] = b;
    return &core->barriers[core->n_barriers++];
}

void barrier_ack(const struct sync_core *core, struct peer *p)
{
    if (p->announced && p->pending_ack > p->acked &&
        (MUTANT(ACK_HEAD) || log_applied(core, &p->incarnation) >= p->pending_head))
        p->acked = p->pending_ack;
}

/* Has another term taken one of the SAs, or a deletion? */
static bool overtaken(const struct sync_core *core, const struct barrier *b)
{
    for (size_t i = 0; i < b->n_fences; i++) {
        const struct entry *e = table_find(core->table, RECORD_IKE, b->fences[i].spi);
        if (e && (term_compare(&e->held->r->ike.term, &b->fences[i].term) != 0 ||
                  e->held->r->ike.state == SA_DELETED))
            return true;
    }
    return false;
}

static void name_laggards(const struct sync_core *core, const struct barrier *b,
                          struct sync_effect *fx)
{
    if (core->journaled < b->ticket)
        fx->laggards[fx->n_laggards++] = core->config.slot;
    for (size_t i = 0; i < core->n_peers; i++)
        if (peer_live(core, &core->peers[i]) && core->peers[i].acked < b->seq &&
            fx->n_laggards < SYNC_MEMBERS_MAX)
            fx->laggards[fx->n_laggards++] = core->peers[i].slot;
}

/* False when there is no memory to tell: then again at the next step. */
static bool finish(struct sync_core *core, const struct barrier *b, bool timed_out, bool superseded)
{
    struct sync_effect *fx = out_add(core, SYNC_FX_BARRIER);

    if (!fx)
        return false;
    fx->barrier = b->id;
    fx->timed_out = timed_out;
    fx->superseded = superseded;
    fx->barrier_us = since_us(core, b->started_us);
    if (timed_out)
        name_laggards(core, b, fx);
    core->stats.barriers++;
    core->stats.barrier_timeouts += timed_out;
    for (size_t k = 0; k < fx->n_laggards; k++)
        log_warn("sync", "a barrier timed out: member %u has not acknowledged", fx->laggards[k]);
    return true;
}

/* Where it stands, told if that is the end; true when it is. */
static bool judge(struct sync_core *core, const struct barrier *b, uint64_t all_acked)
{
    if (!MUTANT(FENCE) && overtaken(core, b))
        return finish(core, b, false, true);
    if ((MUTANT(FSYNC) || b->ticket <= core->journaled) && (MUTANT(ACKS) || b->seq <= all_acked))
        return finish(core, b, false, false);
    if (since_us(core, b->started_us) >= ms_us(core->config.barrier_timeout_ms))
        return finish(core, b, true, false);
    return false;
}

void barrier_step(struct sync_core *core)
{
    uint64_t all_acked = UINT64_MAX;
    size_t kept = 0;

    if (core->n_barriers == 0 || core->stalled_us)
        return; /* after a stall someone else may speak for the SA: first hear it */
    for (size_t k = 0; k < core->n_peers; k++) {
        barrier_ack(core, &core->peers[k]);
        if (peer_live(core, &core->peers[k]) && core->peers[k].acked < all_acked)
            all_acked = core->peers[k].acked;
    }
    for (size_t i = 0; i < core->n_barriers; i++) {
        if (judge(core, &core->barriers[i], all_acked))
            free(core->barriers[i].fences);
        else
            core->barriers[kept++] = core->barriers[i];
    }
    core->n_barriers = kept;
}
