/* Trouble: which kinds a seed knows, when it strikes, and how it ends. Each seed draws a subset
 * of the kinds, so that some histories are of one kind only and others of all. */
#include "tests/sim/sim.h"

enum { MEND_LINKS = 1, MEND_SLOW, MEND_FULL, END_FADE, ROLL_BACK, END_GHOST };

static void set_noise(struct sim *s, bool noisy)
{
    for (size_t i = 0; i < s->n; i++)
        for (size_t k = 0; k < s->n; k++) {
            struct link *l = &s->links[i][k];
            l->lose = noisy ? below(s, 300) : below(s, 30);
            l->twice = noisy ? below(s, 200) : 5;
            l->late = noisy ? below(s, 200) : 5;
        }
}

void fault_plan(struct sim *s)
{
    struct plan *p = &s->plan;
    uint32_t trouble_ms = between(s, 1500, 5000);

    p->trouble_us = s->now.mono_us + 500000 + trouble_ms * 1000ULL;
    p->quiet_us = p->trouble_us + below(s, 500000);
    p->fault_every_us = between(s, 60, 900) * 1000;
    p->turn_us = chance(s, 300) ? 0 : between(s, 1, 3000);
    p->lifetime_ms = chance(s, 300) ? between(s, 1500, 5000) : 3600000;
    p->kinds = chance(s, 150) ? 0 : (uint32_t)(sim_random(s) & sim_random(s));
    p->kinds |= 1U << below(s, FAULTS);
    p->kinds |= chance(s, 200) ? 1U << FAULT_FADE : 0; /* rare events need it often */
    p->kinds &= (1U << FAULTS) - 1;
    p->ordered = chance(s, 400);
    p->n_gone = chance(s, 300) ? between(s, 1, 2) : 0;
    for (size_t i = 0; i < MEMBERS_MAX; i++)
        for (size_t k = 0; k < MEMBERS_MAX; k++)
            s->links[i][k] = (struct link){.delay_us = between(s, 50, 2000),
                                           .jitter_us = between(s, 10, 2000),
                                           .lose = below(s, 20),
                                           .twice = 5,
                                           .late = 5};
    sim_at(s, s->now.mono_us + between(s, 300, 900) * 1000ULL, (struct event){.kind = EV_FAULT});
}

static void mend_later(struct sim *s, int member, uint64_t what, uint64_t after_us)
{
    sim_at(s, s->now.mono_us + after_us,
           (struct event){.kind = EV_MEND, .b = (uint8_t)member, .id = what});
}

static void crash(struct sim *s, struct member *m)
{
    member_crash(s, m);
    sim_at(s, s->now.mono_us + between(s, 5, chance(s, 300) ? 2500 : 300) * 1000ULL,
           (struct event){.kind = EV_START, .b = (uint8_t)m->index});
}

/* As many stay as it takes to grant an epoch to any of them: most of the others. */
static bool may_go(const struct sim *s)
{
    uint32_t gone = 0;

    for (size_t i = 0; i < s->n; i++)
        gone += s->members[i].gone;
    return gone < s->plan.n_gone && s->n - 1 - (gone + 1) >= (s->n - 1) / 2 + 1;
}

static void lose(struct sim *s, struct member *m)
{
    member_crash(s, m);
    m->gone = true;
    sim_note(s, "-- %d is gone", m->index);
}

static bool is_cloned(const struct sim *s, const struct member *m)
{
    return m->forgetful && (m->life == m->unaware_life || s->members[s->n].core);
}

/* Lost memory is borne on whoever claims an epoch and on fewer than a majority of its others. A
 * copy and its original do not know that they lack what the other promised, so neither asks the
 * others before it votes: where two majorities may have no more than that slot in common, which is
 * so for an even number of members, nobody else may forget meanwhile. */
bool fault_may_forget(const struct sim *s, const struct member *m)
{
    uint32_t forgetful = 0;

    if (m->forgetful)
        return true;

    for (size_t i = 0; i < s->n; i++)
        forgetful += s->members[i].forgetful + (s->n % 2 == 0 && is_cloned(s, &s->members[i]));
    return forgetful < (s->n - 1) / 2 + 1;
}

static void forget(struct sim *s, struct member *m, struct disk *old)
{
    if (m->gone || !fault_may_forget(s, m))
        return;
    sim_note(s, "-- the disk of %d is %s", m->index, old ? "set back" : "lost");
    s->totals.forgotten++;
    crash(s, m);
    disk_forget(&m->disk, old);
    m->forgetful = true;
    m->unaware_life = 0;
    m->forgot_life = (uint32_t)s->n_lives;
}

static void clone(struct sim *s, struct member *m)
{
    ghost_start(s, m, chance(s, 600));
    mend_later(s, 0, MEND_LINKS, between(s, 700, 2500) * 1000ULL);
    mend_later(s, 0, END_GHOST, between(s, 500, 4000) * 1000ULL);
}

static void fade(struct sim *s, struct member *m)
{
    if (!m->core)
        return;
    sim_note(s, "-- %d fades", m->index);
    s->fading = m->index + 1;
    for (int i = 0; i < (int)s->n; i++)
        if (i != m->index) {
            net_cut(s, i, m->index, true);
            s->links[m->index][i].lose = 500;
        }
    sim_at(
        s, s->now.mono_us + between(s, 100, 2500) * 1000ULL,
        (struct event){.kind = EV_MEND, .b = (uint8_t)m->index, .life = m->life, .id = END_FADE});
    /* Who is left and the one that fades may both take over what another leaves behind. */
    if (chance(s, 500))
        crash(s, &s->members[(size_t)(m->index + 1) % s->n]);
}

static void end_fade(struct sim *s, struct member *m)
{
    s->fading = 0;
    for (int i = 0; i < (int)s->n; i++) {
        s->links[m->index][i].lose = below(s, 20);
        net_cut(s, i, m->index, false);
    }
    if (may_go(s))
        lose(s, m);
    else
        crash(s, m);
}

/* It hears nobody, or only one whom it cannot ask. */
static void lag(struct sim *s, const struct member *m)
{
    int heard = chance(s, 500) ? (int)below(s, (uint32_t)s->n) : m->index;

    sim_note(s, "-- %d lags", m->index);
    for (int i = 0; i < (int)s->n; i++)
        if (i == heard && i != m->index)
            net_cut(s, m->index, i, true);
        else if (i != m->index)
            net_cut(s, i, m->index, true);
    mend_later(s, 0, MEND_LINKS, between(s, 2200, 4500) * 1000ULL);
}

static void drain(struct sim *s, struct member *m)
{
    struct sync_event ev = {.kind = SYNC_EV_DRAIN, .draining = true};

    if (!member_runs(s, m) || m->draining)
        return;
    m->draining = true;
    member_step(s, m, &ev);
    sim_at(s, s->now.mono_us + 100000,
           (struct event){.kind = EV_STOP, .b = (uint8_t)m->index, .life = m->life});
    sim_at(s, s->now.mono_us + between(s, 150, 1500) * 1000ULL,
           (struct event){.kind = EV_START, .b = (uint8_t)m->index});
}

static void split(struct sim *s, bool one)
{
    uint32_t side = one ? 1U << below(s, (uint32_t)s->n) : below(s, 1U << s->n);

    sim_note(s, "-- split %#x", side);
    for (int i = 0; i < (int)s->n; i++)
        for (int k = 0; k < (int)s->n; k++)
            if (i != k && (side >> i & 1) != (side >> k & 1))
                net_cut(s, i, k, true);
    mend_later(s, 0, MEND_LINKS, between(s, 50, 2500) * 1000ULL);
}

static void cut_pair(struct sim *s, bool both, uint32_t ms)
{
    int a = (int)below(s, (uint32_t)s->n), b = (int)below(s, (uint32_t)s->n);

    if (a == b)
        return;
    sim_note(s, "-- cut %d -> %d%s for %u ms", a, b, both ? " and back" : "", ms);
    net_cut(s, a, b, true);
    if (both)
        net_cut(s, b, a, true);
    mend_later(s, 0, MEND_LINKS, ms * 1000ULL);
}

static void strike(struct sim *s, enum fault f)
{
    struct member *m = &s->members[below(s, (uint32_t)s->n)];

    switch (f) {
    case FAULT_DOUBLE:
        crash(s, &s->members[below(s, (uint32_t)s->n)]);
        crash(s, m);
        break;
    case FAULT_CRASH:
        crash(s, m);
        break;
    case FAULT_DRAIN:
        drain(s, m);
        break;
    case FAULT_PAUSE:
        member_pause(s, m, between(s, 20, 1800));
        break;
    case FAULT_SPLIT:
    case FAULT_ISOLATE:
        split(s, f == FAULT_ISOLATE);
        break;
    case FAULT_ONE_WAY:
        cut_pair(s, false, between(s, 20, 2000));
        break;
    case FAULT_BLINK:
        cut_pair(s, chance(s, 500), between(s, 1, 30));
        break;
    case FAULT_REPLAY:
        sim_note(s, "-- recordings are played");
        for (uint32_t i = between(s, 20, 120); i; i--)
            sim_at(s, s->now.mono_us + below(s, 2000) * 1000ULL, (struct event){.kind = EV_REPLAY});
        break;
    case FAULT_FADE:
        fade(s, m);
        break;
    case FAULT_LAG:
        lag(s, m);
        break;
    case FAULT_ROLLBACK:
        disk_copy(&m->old_disk, &m->disk);
        mend_later(s, m->index, ROLL_BACK, between(s, 50, 2500) * 1000ULL);
        break;
    case FAULT_WIPE:
        forget(s, m, NULL);
        break;
    case FAULT_CLONE:
        clone(s, m);
        break;
    case FAULT_DISK_SLOW:
        sim_note(s, "-- disk of %d is slow", m->index);
        m->disk.slow_us = between(s, 10000, 600000);
        mend_later(s, m->index, MEND_SLOW, between(s, 100, 2000) * 1000ULL);
        break;
    case FAULT_DISK_FULL:
        sim_note(s, "-- disk of %d is full", m->index);
        m->disk.failing = true;
        mend_later(s, m->index, MEND_FULL, between(s, 50, 1500) * 1000ULL);
        break;
    case FAULT_NOISE:
        set_noise(s, chance(s, 600));
        break;
    case FAULTS:
        break;
    }
}

void fault_strike(struct sim *s)
{
    uint32_t f = below(s, FAULTS);

    if (s->healed)
        return;
    for (int i = 0; i < FAULTS && !(s->plan.kinds >> f & 1); i++)
        f = (f + 1) % FAULTS;
    strike(s, (enum fault)f);
    sim_at(s, s->now.mono_us + between(s, 10000, 2 * s->plan.fault_every_us),
           (struct event){.kind = EV_FAULT});
}

static void mend_links(struct sim *s)
{
    for (int i = 0; i < (int)s->n; i++)
        for (int k = 0; k < (int)s->n; k++)
            net_cut(s, i, k, false);
}

void fault_mend(struct sim *s, int member, uint64_t what)
{
    if (what == MEND_LINKS)
        mend_links(s);
    else if (what == MEND_SLOW)
        s->members[member].disk.slow_us = 0;
    else if (what == MEND_FULL)
        s->members[member].disk.failing = false;
    else if (what == ROLL_BACK && !s->healed)
        forget(s, &s->members[member], &s->members[member].old_disk);
    else if (what == END_GHOST)
        ghost_end(s);
    else if (what == END_FADE && !s->healed)
        end_fade(s, &s->members[member]);
}

void fault_heal(struct sim *s)
{
    mend_links(s);
    ghost_end(s);
    set_noise(s, false);
    while (may_go(s)) /* with the end of the trouble */
        lose(s, &s->members[below(s, (uint32_t)s->n)]);
    for (size_t i = 0; i < s->n; i++) {
        struct member *m = &s->members[i];
        m->disk.slow_us = 0;
        m->disk.failing = false;
        if (m->core && m->draining)
            member_stop(s, m);
        if (!m->core && !m->gone)
            member_start(s, m);
    }
}
