/* Wall clocks that disagree: what expires, and when. */
#include <criterion/criterion.h>

#include "sync/core.h"
#include "sync/join.h"
#include "tests/unit/sync/harness.h"

enum { HOUR_MS = 3600000, SPI = 0x400100 };

/* Members whose clocks are off by so much. */
static struct cluster *with_clocks(size_t n, const int64_t *skews_ms)
{
    struct cluster *c = cluster_new(n);

    for (uint16_t slot = 1; slot <= n; slot++)
        at(c, slot)->skew_ms = skews_ms[slot - 1];
    start_all(c);
    settle(c);
    run(c, 2 * ANNOUNCE_EVERY_MS + CLOCK_EVERY_MS);
    return c;
}

static int64_t behind_ms(struct cluster *c, uint16_t slot)
{
    return sync_clock_behind_ms(at(c, slot)->core);
}

/* An Announce is a millisecond on the way. */
static bool about(int64_t a, int64_t b)
{
    return a - b <= 2 && b - a <= 2;
}

static bool has(struct cluster *c, uint16_t slot)
{
    const struct record *r = sync_find_child(at(c, slot)->core, SPI);

    return r && r->child.state == SA_INSTALLED;
}

static void put_brief(struct cluster *c, uint16_t slot, int64_t life_ms)
{
    struct record *r = sample_child(SPI, 5);

    r->child.not_after_ms = c->now.wall_ms + life_ms;
    put(c, slot, 0, r, NULL, NULL);
}

Test(sync_clock, one_that_is_behind_keeps_the_time_of_the_others)
{
    struct cluster *c = with_clocks(3, (const int64_t[]){0, 7, -HOUR_MS});
    struct now now = {.wall_ms = c->now.wall_ms - HOUR_MS};

    cr_assert(about(behind_ms(c, 3), HOUR_MS));
    cr_assert(about(sync_now(at(c, 3)->core, now).wall_ms, c->now.wall_ms));
    cr_assert(about(behind_ms(c, 1), 0));
    put_brief(c, 1, 1000);
    run(c, 5);
    cr_assert(has(c, 1) && has(c, 3));
    run(c, 1200);
    cr_assert(!has(c, 1) && !has(c, 3));
    cr_assert_eq(record_of(at(c, 3), RECORD_CHILD, SPI)->state, SA_DELETED);
    cluster_free(c);
}

Test(sync_clock, one_that_is_ahead_moves_nobody_else)
{
    struct cluster *c = with_clocks(3, (const int64_t[]){0, 7, HOUR_MS});

    cr_assert(about(behind_ms(c, 1), 7));
    cr_assert(about(behind_ms(c, 2), 0));
    cr_assert(about(behind_ms(c, 3), 7 - HOUR_MS), "which is told");
    cr_assert_eq(sync_now(at(c, 3)->core, c->now).wall_ms, c->now.wall_ms, "and is not set back");
    cluster_free(c);
}

/* Who of two is right nobody knows: then an SA rather lives longer. */
Test(sync_clock, a_pair_keeps_its_clocks)
{
    struct cluster *c = with_clocks(2, (const int64_t[]){0, HOUR_MS});

    cr_assert(about(behind_ms(c, 1), 0));
    cr_assert(about(behind_ms(c, 2), -HOUR_MS));
    cluster_free(c);
}

Test(sync_clock, the_dead_have_no_say)
{
    struct cluster *c = with_clocks(5, (const int64_t[]){0, HOUR_MS, HOUR_MS, HOUR_MS, 0});

    cr_assert(about(behind_ms(c, 1), HOUR_MS));
    kill_node(c, 2);
    kill_node(c, 3);
    run(c, 800);
    cr_assert(about(behind_ms(c, 1), 0));
    cluster_free(c);
}

/* Of the two that are left one is wrong, and both know which. */
Test(sync_clock, a_pair_that_was_three_remembers)
{
    struct cluster *c = with_clocks(3, (const int64_t[]){0, 0, -HOUR_MS});

    kill_node(c, 2);
    run(c, 2000);
    cr_assert(about(behind_ms(c, 3), HOUR_MS));
    cr_assert(about(behind_ms(c, 1), 0));
    cluster_free(c);
}

/* Else what had expired here would live again. */
Test(sync_clock, who_loses_sight_of_the_others_keeps_their_time)
{
    struct cluster *c = with_clocks(3, (const int64_t[]){0, 0, -HOUR_MS});

    kill_node(c, 1);
    kill_node(c, 2);
    run(c, 2000);
    cr_assert(about(behind_ms(c, 3), HOUR_MS));
    at(c, 3)->skew_ms = 0; /* somebody sets its clock */
    run(c, 200);
    cr_assert(about(behind_ms(c, 3), 0));
    cluster_free(c);
}

/* It missed the deletion and its clock says that the SA is not over: the others still know. */
Test(sync_clock, a_tombstone_outlives_its_sa_by_any_clock)
{
    struct cluster *c = with_clocks(2, (const int64_t[]){0, 10 - SYNC_CLOCK_SLACK_MS});
    struct record *gone;

    put_brief(c, 1, 5000);
    run(c, 10);
    cr_assert(has(c, 2));
    kill_node(c, 2);
    gone = record_clone(sync_find_child(at(c, 1)->core, SPI));
    gone->child.state = SA_DELETED;
    record_normalise(gone);
    put(c, 1, 0, gone, NULL, NULL);
    run(c, 10);
    c->now.wall_ms += 5000 + SYNC_CLOCK_SLACK_MS - 1000;
    start(c, 2);
    run(c, 500);
    cr_assert(!has(c, 2));
    cluster_free(c);
}
