/* A second process of a member's slot: its directory or its machine was cloned. It has the journal
 * of a moment and its own incarnation, hears everyone and is heard by everyone but the original,
 * votes and claims. No router reaches it, so it makes no SAs: what it does to epochs (I4) is what
 * it is for. The original stands beside it, or is cut off while the copy takes its place.
 *
 * The copy has the place after the members, and their slot's index where epochs are concerned. One
 * of the two has to stop: the copy when it is refused or has the lower epoch, else the original. */
#include <stdlib.h>

#include "sync/store.h"
#include "tests/sim/sim.h"

enum {
    HAUNTS_MS = 4000,   /* what it said is believed for some time, and the original not again */
    TOGETHER_MS = 3000, /* I4: so long two of a slot may run where everyone hears both */
};

bool is_ghost(const struct sim *s, const struct member *m)
{
    return m == &s->members[s->n];
}

static struct member *original_of(struct sim *s, const struct member *ghost)
{
    return member_of_slot(s, ghost->slot);
}

static bool haunts(const struct sim *s)
{
    return s->members[s->n].core ||
           (s->ghost_until_us && s->now.mono_us < s->ghost_until_us + HAUNTS_MS * 1000ULL);
}

bool ghost_haunts(const struct sim *s, const struct member *m)
{
    return haunts(s) && s->members[s->n].slot == m->slot;
}

/* Whichever of the two is at the address. */
struct member *ghost_or(struct sim *s, struct member *m, const struct member *from)
{
    struct member *ghost = &s->members[s->n];

    if (!ghost->core || ghost->slot != m->slot || ghost == from)
        return m;
    return !m->core || !net_joined(s, from->index, m->index) || chance(s, 500) ? ghost : m;
}

/* What the copy promises the original does not know before it starts anew. */
static void part_memories(struct member *original)
{
    original->forgetful = true;
    original->unaware_life = original->life;
}

static void join_links(struct sim *s, const struct member *m, size_t ghost)
{
    for (size_t i = 0; i < s->n; i++) {
        s->links[ghost][i] = s->links[m->index][i];
        s->links[i][ghost] = s->links[i][m->index];
        s->links[ghost][i].cut = s->links[i][ghost].cut = (int)i == m->index;
        s->links[ghost][i].steady_us = s->links[i][ghost].steady_us = s->now.mono_us;
        s->links[ghost][i].mended_us = s->links[i][ghost].mended_us = s->now.mono_us;
    }
}

void ghost_start(struct sim *s, struct member *m, bool cut_off)
{
    struct member *ghost = &s->members[s->n];

    if (!m->core || haunts(s) || m->gone || s->n_lives == LIVES_MAX || !fault_may_forget(s, m))
        return;
    sim_note(s, "-- %d is cloned%s", m->index, cut_off ? " and cut off" : "");
    s->totals.ghosts++;
    ghost->index = (int)s->n;
    ghost->slot = m->slot;
    ghost->skew_ms = m->skew_ms;
    disk_copy(&ghost->disk, &m->disk);
    for (int i = 0; cut_off && i < (int)s->n; i++)
        if (i != m->index) {
            net_cut(s, i, m->index, true);
            net_cut(s, m->index, i, true);
        }
    join_links(s, m, s->n);
    part_memories(m);
    member_start(s, ghost);
    s->ghost_until_us = s->now.mono_us;
}

void ghost_stop(struct sim *s)
{
    struct member *ghost = &s->members[s->n];

    member_crash(s, ghost);
    part_memories(original_of(s, ghost));
    s->ghost_until_us = s->now.mono_us;
}

void ghost_end(struct sim *s)
{
    struct member *ghost = &s->members[s->n];

    if (!ghost->core)
        return;
    sim_note(s, "-- the copy is stopped");
    ghost_stop(s);
}

/* Its records are what the others make; only its own log must be known to the checks. */
void ghost_record(struct sim *s, struct member *m, const struct record *r)
{
    int fact = fact_of(s, r);

    if (fact >= 0)
        check_log(s, m, r, fact);
    else
        sim_fail(s, "a copy holds a record that nobody made");
}

/* Both are heard by all, and neither stops. */
static void check_together(struct sim *s, const struct member *ghost)
{
    const struct member *m = original_of(s, ghost);
    uint64_t then = s->now.mono_us - TOGETHER_MS * 1000ULL;

    if (!member_runs(s, m) || m->steady_us > then || ghost->steady_us > then ||
        s->now.mono_us < s->pauses_end_us + TOGETHER_MS * 1000ULL)
        return;
    for (size_t i = 0; i < s->n; i++) {
        const struct member *o = &s->members[i];
        if (o != m &&
            (!o->core || o->steady_us > then || s->links[i][m->index].steady_us > then ||
             s->links[m->index][i].steady_us > then || s->links[i][ghost->index].steady_us > then))
            return;
    }
    sim_fail(s, "I4: two processes of slot %u run for %d ms", m->slot, TOGETHER_MS);
}

void ghost_tick(struct sim *s, struct member *m)
{
    struct sync_event ev = {.kind = SYNC_EV_TICK};
    uint32_t life = m->life;

    disk_tell(s, m);
    if (m->life == life)
        member_step(s, m, &ev);
    if (m->life != life)
        return; /* it has stopped */
    s->ghost_until_us = s->now.mono_us;
    sync_set_ready(m->core, sync_is_synced(m->core) && m->epoch);
    check_together(s, m);
    sim_at(s, s->now.mono_us + TICK_US,
           (struct event){.kind = EV_TICK, .b = (uint8_t)m->index, .life = m->life});
}
