/* A member of the cluster: its process, as node/ runs it. Every event steps the core with `more`
 * set and the turn's end flushes, as node/events.c does, unless the plan knows no turns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sync/join.h"
#include "sync/store.h"
#include "tests/sim/sim.h"
#include "tests/unit/sync/samples.h"

static void fill_random(void *ctx, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        uint64_t z = sim_random(ctx);
        memcpy(out + i, &z, n - i < 8 ? n - i : 8);
    }
}

struct now member_now(const struct sim *s, const struct member *m)
{
    return (struct now){s->now.mono_us, s->now.wall_ms + m->skew_ms};
}

struct member *member_of_slot(struct sim *s, uint16_t slot)
{
    return &s->members[(slot - 1) / 7];
}

bool member_runs(const struct sim *s, const struct member *m)
{
    return m->core && m->paused_until_us <= s->now.mono_us;
}

bool member_gone(const struct sim *s, uint16_t slot)
{
    return s->members[(slot - 1) / 7].gone;
}

/* ---- effects ---- */

static void on_record(struct sim *s, struct member *m, const struct record *r)
{
    int fact = fact_of(s, r);

    if (fact < 0) {
        sim_fail(s, "member %d holds a record that nobody made", m->index);
        return;
    }
    check_record(s, m, r, fact);
    engine_record(s, m, r, fact);
}

static void on_forwarded(struct sim *s, struct member *m, const struct sync_forward *f)
{
    struct event ev = {.kind = EV_DATAGRAM, .b = (uint8_t)m->index, .life = m->life, .id = 1};

    memcpy(&ev.ask, f->datagram.p, sizeof ev.ask);
    sim_at(s, s->now.mono_us, ev);
}

static void on_effect(struct sim *s, struct member *m, const struct sync_effect *fx)
{
    switch (fx->kind) {
    case SYNC_FX_RECORD:
        if (is_ghost(s, m))
            ghost_record(s, m, fx->record);
        else
            on_record(s, m, fx->record);
        break;
    case SYNC_FX_JOURNAL:
        disk_submit(s, m, fx->batch);
        break;
    case SYNC_FX_PUBLISH:
        net_publish(s, m, fx->bytes);
        break;
    case SYNC_FX_REQUEST:
        net_request(s, m, fx);
        break;
    case SYNC_FX_REPLY:
        net_reply(s, m, fx->request, fx->bytes);
        break;
    case SYNC_FX_BARRIER:
        engine_barrier(s, m, fx);
        break;
    case SYNC_FX_FORWARDED:
        if (!is_ghost(s, m)) /* else it is lost, as by a node that cannot answer */
            on_forwarded(s, m, &fx->forward);
        break;
    case SYNC_FX_MEMBER:
        sim_note(s, "%d: member %d is %s", m->index, member_of_slot(s, fx->slot)->index,
                 fx->state == MEMBER_DEAD ? "dead" : "alive");
        break;
    case SYNC_FX_MOVED:     /* no NAT here, */
    case SYNC_FX_ACTIVITY:  /* no packets */
    case SYNC_FX_MISS_OVER: /* and none to hold */
        break;
    case SYNC_FX_CONFLICT:
        m->conflict = true;
        if (!is_ghost(s, m) && !ghost_haunts(s, m))
            sim_fail(s, "I4: member %d stops for a rival that is not there", m->index);
        break;
    case SYNC_FX_EPOCH:
        check_epoch(s, m, fx->epoch);
        m->epoch = fx->epoch;
        break;
    }
}

void member_step(struct sim *s, struct member *m, struct sync_event *ev)
{
    struct sync_effects fx;

    ev->more = s->plan.turn_us && ev->kind != SYNC_EV_FLUSH && ev->kind != SYNC_EV_RECOVERED;
    m->putting = ev->kind == SYNC_EV_PUT;
    fx = sync_step(m->core, ev, member_now(s, m));
    s->totals.steps++;
    for (size_t i = 0; i < fx.n; i++)
        on_effect(s, m, &fx.fx[i]);
    m->putting = false;
    if (m->conflict) {
        member_conflict(s, m);
        return;
    }
    if (ev->more && !m->flush_due) {
        m->flush_due = true;
        sim_at(s, s->now.mono_us + below(s, s->plan.turn_us),
               (struct event){.kind = EV_FLUSH, .b = (uint8_t)m->index, .life = m->life});
    }
    if (!is_ghost(s, m))
        check_step(s, m);
}

/* ---- a life ---- */

static void forget(struct member *m)
{
    engine_clear(m);
    memset(m->children, 0, sizeof m->children);
    memset(m->ikes, 0, sizeof m->ikes);
    memset(m->to_resume, 0, sizeof m->to_resume);
    memset(m->verified, 0, sizeof m->verified);
    m->conflict = m->resume_begun = m->flush_due = m->was_synced = m->ready = m->draining = false;
    m->n_waiting = 0;
    m->epoch = 0;
    m->timeouts = m->vector_sum = 0;
    m->paused_until_us = m->woke_us = 0;
}

static struct sync_config config_of(const struct sim *s, const struct member *m)
{
    struct sync_config c = {.slot = m->slot,
                            .n_members = s->n,
                            .n_keys = 1,
                            .dead_ms = DEAD_MS,
                            .barrier_timeout_ms = BARRIER_MS};

    snprintf(c.cluster, sizeof c.cluster, "sim");
    snprintf(c.name, sizeof c.name, "n%d", m->index);
    snprintf(c.version, sizeof c.version, "sim");
    for (size_t i = 0; i < s->n; i++)
        c.members[i] = s->members[i].slot;
    c.keys[0] = sample_cluster_key(1);
    return c;
}

void member_start(struct sim *s, struct member *m)
{
    struct rng rng = {fill_random, s};
    struct sync_config config = config_of(s, m);
    struct sync_recovery recovery;
    struct sync_event ev = {.kind = SYNC_EV_RECOVERED, .recovery = &recovery};

    if (m->core || m->gone || s->n_lives == LIVES_MAX)
        return;
    forget(m);
    m->core = sync_new(&config, &rng, member_now(s, m));
    if (!m->core)
        abort();
    s->lives[s->n_lives] = (struct life){.incarnation = sync_incarnation(m->core),
                                         .member = member_of_slot(s, m->slot)->index,
                                         .started_us = s->now.mono_us};
    m->life = (uint32_t)++s->n_lives;
    m->steady_us = s->now.mono_us;
    disk_recovery(s, m, &recovery);
    sim_note(s, "%d: starts as life %u with %zu records", m->index, m->life, recovery.n_records);
    member_step(s, m, &ev);
    store_recovery_free(&recovery);
    if (!is_ghost(s, m))
        check_recovered(s, m);
    sim_at(s, s->now.mono_us + below(s, TICK_US),
           (struct event){.kind = EV_TICK, .b = (uint8_t)m->index, .life = m->life});
}

static void end(struct sim *s, struct member *m)
{
    struct sync_stats stats;

    sync_get_stats(m->core, &stats);
    s->totals.pulls += stats.pulls;
    s->totals.gaps += stats.gaps;
    s->totals.laggings += stats.laggings;
    s->totals.short_of += stats.barriers_short;
    if (stats.barrier_timeouts != m->timeouts)
        sim_fail(s, "I1: member %d counted %llu time-outs of %llu", m->index,
                 (unsigned long long)stats.barrier_timeouts, (unsigned long long)m->timeouts);
    sync_free(m->core);
    m->core = NULL;
    forget(m);
    s->lives[m->life - 1].ended_us = s->now.mono_us;
    m->life = 0;
    m->steady_us = UINT64_MAX;
    m->down_us = s->now.mono_us;
}

void member_crash(struct sim *s, struct member *m)
{
    if (!m->core)
        return;
    sim_note(s, "%d: killed", m->index);
    s->totals.crashes++;
    end(s, m);
    disk_crash(s, m);
}

/* The service manager starts it again; the copy stays where it is until somebody finds it. */
void member_conflict(struct sim *s, struct member *m)
{
    sim_note(s, "%d: stops, its slot is in use", m->index);
    s->totals.conflicts++;
    if (is_ghost(s, m)) {
        ghost_stop(s);
        return;
    }
    member_crash(s, m);
    sim_at(s, s->now.mono_us + between(s, 100, 1000) * 1000ULL,
           (struct event){.kind = EV_START, .b = (uint8_t)m->index});
}

void member_stop(struct sim *s, struct member *m)
{
    sim_note(s, "%d: stops", m->index);
    end(s, m);
    disk_finish(s, m);
}

void member_pause(struct sim *s, struct member *m, uint32_t ms)
{
    if (!member_runs(s, m))
        return;
    sim_note(s, "%d: paused for %u ms", m->index, ms);
    m->paused_until_us = s->now.mono_us + ms * 1000ULL;
    m->steady_us = m->paused_until_us;
    if (ms > DEAD_MS / 2)
        m->woke_us = m->paused_until_us;
    if (m->paused_until_us > s->pauses_end_us)
        s->pauses_end_us = m->paused_until_us;
}

/* What its disk lost it has again, of the promises: others may forget now. Of its own slot it has
 * it on disk once an epoch is granted. */
static void remember(const struct sim *s, struct member *m)
{
    uint16_t sure_of[SLOT_MAX + 1];
    size_t n;

    if (m->forgetful && m->epoch && m->life != m->unaware_life && !s->members[s->n].core &&
        grants_sure(m->core->grants, sure_of, &n))
        m->forgetful = false;
}

void member_tick(struct sim *s, struct member *m)
{
    struct sync_event ev = {.kind = SYNC_EV_TICK};
    uint32_t life = m->life;
    bool ready;

    disk_tell(s, m);
    member_step(s, m, &ev);
    if (m->life == life)
        engine_tick(s, m);
    if (m->life != life)
        return; /* it has stopped */
    remember(s, m);
    check_liveness(s, m);
    ready = sync_is_synced(m->core) && m->epoch && !m->draining && !m->disk.told_failing;
    if (ready != m->ready)
        sync_set_ready(m->core, ready);
    m->ready = ready;
    if (!ready)
        m->unready_us = s->now.mono_us;
    sim_at(s, s->now.mono_us + TICK_US - below(s, TICK_US / 4),
           (struct event){.kind = EV_TICK, .b = (uint8_t)m->index, .life = m->life});
}
