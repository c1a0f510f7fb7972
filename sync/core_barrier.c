/* Barriers: an answer of ours to a customer waits here until its records would survive us. */
#include <stdlib.h>
#include <string.h>

#include "proto/log.h"
#include "sync/core.h"
#include "sync/join.h"

void barrier_free(struct sync_core *core)
{
    for (size_t i = 0; i < core->n_barriers; i++)
        free(core->barriers[i].fences);
    free(core->barriers);
}

static bool covered(const struct sync_core *core, const struct peer *p, uint64_t head,
                    const struct log_position *vector, size_t n)
{
    if (log_applied(core, &p->incarnation) < head)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!id128_equal(&vector[i].origin, &core->incarnation) &&
            log_applied(core, &vector[i].origin) < vector[i].seq)
            return false;
    return true;
}

void barrier_ack_forget(struct peer *p)
{
    free(p->pending.vector);
    p->pending = (struct pending_ack){0};
}

static void keep_pending(struct peer *p)
{
    size_t bytes = p->says.n_applied * sizeof *p->pending.vector;

    p->pending.vector = malloc(bytes ? bytes : 1);
    if (!p->pending.vector)
        return; /* the next Announce comes soon */
    if (bytes)
        memcpy(p->pending.vector, p->says.applied, bytes);
    p->pending.n_vector = p->says.n_applied;
    p->pending.ack = p->says_ack;
    p->pending.head = p->says.head;
}

void barrier_ack(const struct sync_core *core, struct peer *p)
{
    struct pending_ack *old = &p->pending;

    if (!p->announced || p->says_ack <= p->acked)
        return;
    if (MUTANT(ACK_HEAD) || covered(core, p, p->says.head, p->says.applied, p->says.n_applied)) {
        p->acked = p->says_ack;
        barrier_ack_forget(p);
        return;
    }
    if (old->ack && covered(core, p, old->head, old->vector, old->n_vector)) {
        if (old->ack > p->acked)
            p->acked = old->ack;
        barrier_ack_forget(p);
    }
    if (old->ack == 0 && p->says_ack > p->acked)
        keep_pending(p);
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

/* Without memory for their names the time-out is told all the same. */
static void name_laggards(struct sync_core *core, const struct barrier *b, struct sync_effect *fx)
{
    uint16_t *slots = (uint16_t *)(void *)out_lend(core, (core->n_peers + 1) * sizeof *slots);

    if (!slots)
        return;
    if (core->journaled < b->ticket)
        slots[fx->n_laggards++] = core->config.slot;
    for (size_t i = 0; i < core->n_peers; i++)
        if (peer_live(core, &core->peers[i]) && core->peers[i].acked < b->seq)
            slots[fx->n_laggards++] = core->peers[i].slot;
    fx->laggards = slots;
}

/* Who lags does so for every exchange: a line for each would be thousands a second. */
static void tell_laggards(struct sync_core *core, const struct sync_effect *fx)
{
    if (core->laggards_told_us &&
        since_us(core, core->laggards_told_us) < ms_us(LAGGARDS_TOLD_EVERY_MS))
        return;
    core->laggards_told_us = core->now.mono_us;
    for (size_t k = 0; k < fx->n_laggards; k++)
        log_warn("sync", "a barrier timed out: member %u has not acknowledged", fx->laggards[k]);
}

/* ---- persistent laggards ----
 * Who lives and does not acknowledge for so long would delay every answer by barrier_timeout_ms.
 * Where it hears anyone it knows that it lacks something and is not ready: no traffic should reach
 * it, and what does makes it ask. Where it does not even hear us it stands on the other side of a
 * partition, but that we still hear it. Answers wait for neither until it has all that was owed;
 * whoever hears us and calls itself ready is waited for, always. */

/* By what it said last, and lately. */
static bool may_be_passed(const struct sync_core *core, const struct peer *p)
{
    return p->announced && since_us(core, p->announced_us) <= ms_us(core->config.dead_ms) &&
           (p->says.state != MEMBER_READY || p->deaf);
}

bool barrier_passes(const struct sync_core *core, const struct peer *p)
{
    return p->laggard && may_be_passed(core, p);
}

static void settle_debt(struct sync_core *core, struct peer *p)
{
    if (p->laggard)
        log_info("sync", "member %u has caught up: answers wait for it again", p->slot);
    p->laggard = false;
    p->owed = core->self->seq;
    p->owed_since_us = core->now.mono_us;
}

void barrier_tick(struct sync_core *core)
{
    if (core->stalled_us)
        return;
    for (size_t i = 0; i < core->n_peers; i++) {
        struct peer *p = &core->peers[i];
        barrier_ack(core, p);
        if (!peer_live(core, p) || !p->announced || p->acked >= p->owed) {
            settle_debt(core, p);
        } else if (p->laggard && !may_be_passed(core, p)) {
            p->laggard = false; /* what it owes it owes since long ago */
        } else if (!p->laggard && since_us(core, p->owed_since_us) >= ms_us(LAGGARD_MS) &&
                   may_be_passed(core, p)) {
            p->laggard = true;
            p->owed = core->self->seq;
            core->stats.laggings++;
            log_warn("sync",
                     "member %u lives and has acknowledged nothing for %d s: answers do not wait "
                     "for it until it catches up",
                     p->slot, LAGGARD_MS / 1000);
        }
    }
}

/* Updates and Announces to all share one stream to each member. When that stands still, as TCP does
 * for 200 ms and more after a loss, an Announce to this one alone goes by another and makes it
 * pull, by a third. */
bool barrier_reminds(const struct sync_core *core, const struct peer *p)
{
    const struct barrier *oldest = core->barriers;

    return core->n_barriers && since_us(core, oldest->started_us) >= ms_us(REMIND_MS) &&
           p->acked < oldest->seq && peer_live(core, p) && !barrier_passes(core, p) &&
           since_us(core, p->reminded_us) >= ms_us(REMIND_MS);
}

static bool is_short(const struct sync_core *core, const struct barrier *b)
{
    for (size_t i = 0; i < core->n_peers; i++)
        if (barrier_passes(core, &core->peers[i]) && core->peers[i].acked < b->seq)
            return true;
    return false;
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
    core->stats.barriers_short += !timed_out && !superseded && is_short(core, b);
    core->stats.barrier_timeouts += timed_out;
    if (timed_out)
        tell_laggards(core, fx);
    return true;
}

static bool peer_acked(const struct sync_core *core, uint64_t seq)
{
    for (size_t i = 0; i < core->n_peers; i++)
        if (peer_live(core, &core->peers[i]) && core->peers[i].acked >= seq)
            return true;
    return false;
}

/* A time-out excuses peers that lag, and a slow disk of ours never: an answer whose records are on
 * no disk at all could be lost with every node. Only while our disk refuses or hangs does a peer
 * that has the records stand in for it. */
static bool excused(const struct sync_core *core, const struct barrier *b)
{
    return MUTANT(OWN_DISK) || b->ticket <= core->journaled ||
           (core->journal_failed && peer_acked(core, b->seq));
}

/* One too many: the oldest's time is over. What may be another's by now, or is on no disk, must not
 * leave at all. */
static void make_room(struct sync_core *core)
{
    struct barrier *oldest = &core->barriers[0];
    bool lost = core->stalled_us || overtaken(core, oldest) || !excused(core, oldest);

    if (!finish(core, oldest, !lost, lost))
        return;
    free(oldest->fences);
    memmove(oldest, oldest + 1, --core->n_barriers * sizeof *oldest);
}

struct barrier *barrier_add(struct sync_core *core, uint64_t id, struct record *const *group,
                            size_t n)
{
    struct barrier b = {.id = id, .started_us = core->now.mono_us};

    if (core->n_barriers >= BARRIERS_MAX)
        make_room(core);
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

/* Its records are in: what it waits for is known only now. */
void barrier_begin(struct sync_core *core, struct barrier *b)
{
    b->ticket = out_ticket(core);
    b->seq = core->self->seq;
    for (size_t i = 0; i < b->n_fences; i++) {
        struct entry *e = table_find(core->table, RECORD_IKE, b->fences[i].spi);
        if (e)
            e->fenced = true;
    }
    core->fences_moved |= overtaken(core, b); /* by what was here before it */
}

/* r is about to take the place of what is here. */
void barrier_moves(struct sync_core *core, const struct record *r)
{
    const struct entry *e;

    if (r->kind != RECORD_IKE || core->n_barriers == 0 || core->fences_moved)
        return;
    e = table_find(core->table, RECORD_IKE, record_key(r));
    core->fences_moved = e && e->fenced &&
                         (term_compare(&e->held->r->ike.term, &r->ike.term) != 0 ||
                          e->held->r->ike.state != r->ike.state);
}

/* Where it stands, told if that is the end; true when it is. */
static bool judge(struct sync_core *core, const struct barrier *b, uint64_t all_acked)
{
    if (!MUTANT(FENCE) && overtaken(core, b))
        return finish(core, b, false, true);
    if ((MUTANT(FSYNC) || b->ticket <= core->journaled) && (MUTANT(ACKS) || b->seq <= all_acked))
        return finish(core, b, false, false);
    if (since_us(core, b->started_us) >= ms_us(core->config.barrier_timeout_ms) && excused(core, b))
        return finish(core, b, true, false);
    return false;
}

/* Wherever they stand in the queue. */
static void drop_overtaken(struct sync_core *core)
{
    size_t kept = 0;

    core->fences_moved = false;
    for (size_t i = 0; i < core->n_barriers; i++) {
        bool lost = overtaken(core, &core->barriers[i]);
        if (lost && finish(core, &core->barriers[i], false, true)) {
            free(core->barriers[i].fences);
            continue;
        }
        core->fences_moved |= lost; /* no memory: at the next step */
        core->barriers[kept++] = core->barriers[i];
    }
    core->n_barriers = kept;
}

/* Tickets, numbers and beginnings rise along the queue: where one waits, all behind it do, but for
 * those that were overtaken. So thousands that wait, as after a start that takes up its SAs, cost a
 * turn no more than one. */
void barrier_step(struct sync_core *core)
{
    uint64_t all_acked = UINT64_MAX;
    size_t done = 0;

    if (core->n_barriers == 0 || (core->stalled_us && !MUTANT(STALL)))
        return; /* after a stall someone else may speak for the SA: first hear it */
    for (size_t k = 0; k < core->n_peers; k++) {
        barrier_ack(core, &core->peers[k]);
        if (peer_live(core, &core->peers[k]) && !barrier_passes(core, &core->peers[k]) &&
            core->peers[k].acked < all_acked)
            all_acked = core->peers[k].acked;
    }
    if (core->fences_moved && !MUTANT(FENCE))
        drop_overtaken(core);
    for (; done < core->n_barriers && judge(core, &core->barriers[done], all_acked); done++)
        free(core->barriers[done].fences);
    core->n_barriers -= done;
    if (done)
        memmove(core->barriers, core->barriers + done, core->n_barriers * sizeof *core->barriers);
}
