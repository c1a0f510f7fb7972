/* What time it is, where something expires. Everything else goes by steady clocks.
 *
 * A node whose clock is behind would keep what the others have forgotten, tombstones included, and
 * make SAs that are over when they reach the others. So the time is the later of our own clock and
 * the median of all, ours and the live members', as their Announces tell it. Of an even number the
 * earlier middle one counts: one clock that is ahead must not end the SAs of a pair. A clock of
 * ours that is ahead stays what it is, and is named. */
#include <stdlib.h>

#include "proto/log.h"
#include "sync/core.h"

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* Of all clocks, less ours. */
static int64_t median_ms(const struct sync_core *core)
{
    int64_t ahead_ms[SYNC_MEMBERS_MAX];
    size_t n = 0;

    ahead_ms[n++] = 0;
    for (size_t i = 0; i < core->n_peers; i++)
        if (core->peers[i].tells_time && peer_live(core, &core->peers[i]))
            ahead_ms[n++] = core->peers[i].ahead_ms;
    qsort(ahead_ms, n, sizeof *ahead_ms, compare);
    return ahead_ms[(n - 1) / 2];
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

void clock_heard(const struct sync_core *core, struct peer *p, int64_t wall_ms)
{
    p->tells_time = wall_ms > 0;
    p->ahead_ms = wall_ms - core->own_wall_ms;
}

void clock_tick(struct sync_core *core)
{
    if (since_us(core, core->clock_us) < ms_us(CLOCK_EVERY_MS))
        return;
    core->clock_us = core->now.mono_us;
    core->behind_ms = MUTANT(CLOCK) ? 0 : median_ms(core);
    tell(core);
}

struct now sync_now(const struct sync_core *core, struct now now)
{
    if (core->behind_ms > 0)
        now.wall_ms += core->behind_ms;
    return now;
}

int64_t sync_clock_behind_ms(const struct sync_core *core)
{
    return core->behind_ms;
}
