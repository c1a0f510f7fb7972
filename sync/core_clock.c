/* What time it is, where something expires. Everything else goes by steady clocks.
 *
 * A node whose clock is behind would keep what the others have forgotten, tombstones included, and
 * make SAs that are over when they reach the others. So the time is the later of our own clock and
 * the median of all, ours and the live members', as their Announces tell it. Of an even number it
 * is what was known before, or else the earlier of the two in the middle: one clock that is ahead
 * must not end the SAs of a pair. A clock of ours that is ahead stays what it is, and is named. The
 * median is taken while a majority of the members is heard, and goes on by the steady clock
 * otherwise. */
#include <stdlib.h>

#include "proto/log.h"
#include "sync/core.h"

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* What the median was, less our clock; by the steady clock since. */
static int64_t known_ms(const struct sync_core *core)
{
    return core->median_ms + (int64_t)(since_us(core, core->median_us) / 1000) - core->own_wall_ms;
}

/* Between the two in the middle nobody can decide but who knew better before: a third that died
 * since. */
static int64_t nearest(const struct sync_core *core, int64_t low, int64_t high)
{
    int64_t known = core->median_us ? known_ms(core) : low;

    return known < low ? low : known > high ? high : known;
}

/* Of all clocks, less ours. False while no majority of the members tells its time: then what is
 * known goes on, or a node that loses sight of the others would step back in time. */
static bool median_ms(const struct sync_core *core, int64_t *median)
{
    int64_t ahead_ms[SYNC_MEMBERS_MAX];
    size_t n = 0;

    ahead_ms[n++] = 0;
    for (size_t i = 0; i < core->n_peers; i++)
        if (core->peers[i].tells_time && peer_live(core, &core->peers[i]))
            ahead_ms[n++] = core->peers[i].ahead_ms;
    if (n <= core->config.n_members / 2)
        return false;
    qsort(ahead_ms, n, sizeof *ahead_ms, compare);
    *median = nearest(core, ahead_ms[(n - 1) / 2], ahead_ms[n / 2]);
    return true;
}

static void tell(struct sync_core *core)
{
    int64_t off_ms = core->behind_ms;
    bool off = off_ms > CLOCK_TOLD_MS || off_ms < -CLOCK_TOLD_MS;

    if (off == core->clock_told)
        return;
    core->clock_told = off;
    if (!off)
        log_info("sync", "this node's clock agrees with the others' again");
    else if (off_ms > 0)
        log_warn("sync", "this node's clock is %lld s behind the others', whose time is used",
                 (long long)(off_ms / 1000));
    else
        log_warn("sync",
                 "this node's clock is %lld s ahead of the others': SAs end early here, set it",
                 (long long)(-off_ms / 1000));
}

void clock_heard(struct sync_core *core, struct peer *p, int64_t wall_ms)
{
    if (core->stalled_us)
        return; /* it waited while we stood still: its time is over */
    if (!p->tells_time)
        core->clock_us = 0; /* look at once */
    p->tells_time = wall_ms > 0;
    p->ahead_ms = wall_ms - core->own_wall_ms;
}

void clock_tick(struct sync_core *core)
{
    int64_t median;

    if (core->clock_us && since_us(core, core->clock_us) < ms_us(CLOCK_EVERY_MS))
        return;
    core->clock_us = core->now.mono_us;
    if (MUTANT(CLOCK))
        return;
    if (median_ms(core, &median)) {
        core->median_ms = core->own_wall_ms + median;
        core->median_us = core->now.mono_us;
    }
    if (core->median_us)
        core->behind_ms = known_ms(core);
    tell(core);
}

struct now sync_now(const struct sync_core *core, struct now now)
{
    if (core->behind_ms > 0)
        now.wall_ms += core->behind_ms;
    if (now.wall_ms < core->now.wall_ms && core->now.wall_ms - now.wall_ms < CLOCK_JITTER_MS)
        now.wall_ms = core->now.wall_ms; /* what is over is over: it stands still for a moment */
    return now;
}

int64_t sync_clock_behind_ms(const struct sync_core *core)
{
    return core->behind_ms;
}
