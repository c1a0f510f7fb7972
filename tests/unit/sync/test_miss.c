/* What the dataplane misses is asked for at once, of whom it must be asked, and no more often than
 * is good for the others. SPIs 0x40.... name slot 1, 0x80.... slot 2. */
#include <criterion/criterion.h>

#include "sync/core.h"
#include "tests/unit/sync/harness.h"

enum { SPI = 0x400100 };

static void misses(struct cluster *c, uint16_t slot, uint32_t spi)
{
    give(c, slot, &(struct sync_event){.kind = SYNC_EV_MISS, .spi_in = spi});
}

static bool has(struct cluster *c, uint16_t slot, uint32_t spi)
{
    return sync_find_child(at(c, slot)->core, spi) != NULL;
}

/* Three nodes; what 1 and 2 publish does not reach 3. */
static struct cluster *deaf_cluster(void)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    run(c, 100);
    at(c, 3)->deaf_to[1] = at(c, 3)->deaf_to[2] = true;
    at(c, 3)->n_requests = 0;
    return c;
}

Test(sync_miss, the_maker_is_asked_at_once)
{
    struct cluster *c = deaf_cluster();

    put(c, 1, 0, sample_child(SPI, 5), NULL, NULL);
    run(c, 100);
    cr_assert(!has(c, 3, SPI), "nothing else tells");
    misses(c, 3, SPI);
    cr_assert_eq(at(c, 3)->n_requests, 1u, "in the same step");
    run(c, 2);
    cr_assert(has(c, 3, SPI));
    cr_assert_not_null(record_of(at(c, 3), RECORD_CHILD, SPI));
    cr_assert_eq(at(c, 3)->n_misses_over, 0u);
    cr_assert_eq(stats_of(c, 3).miss_pulls, 1u);
    cr_assert_eq(stats_of(c, 3).pulls, stats_of(c, 1).pulls + 1);
    run(c, 100);
    cr_assert_eq(at(c, 3)->n_requests, 1u);
    cluster_free(c);
}

Test(sync_miss, one_request_serves_all_that_wait)
{
    struct cluster *c = deaf_cluster();

    put(c, 1, 0, sample_child(SPI, 5), sample_child(SPI + 1, 6), NULL);
    misses(c, 3, SPI);
    misses(c, 3, SPI);
    misses(c, 3, SPI + 1);
    cr_assert_eq(at(c, 3)->n_requests, 1u, "one is under way");
    run(c, 1);
    misses(c, 3, SPI);
    run(c, 50);
    cr_assert(has(c, 3, SPI) && has(c, 3, SPI + 1));
    cr_assert_eq(at(c, 3)->n_requests, 1u);
    cr_assert_eq(at(c, 3)->n_misses_over, 0u);
    cluster_free(c);
}

/* The answer of the maker is final, for what came before it was asked. */
Test(sync_miss, what_its_maker_does_not_have_is_over)
{
    struct cluster *c = deaf_cluster();

    misses(c, 3, SPI);
    run(c, 1);
    misses(c, 3, SPI + 1); /* too late for the request that is under way */
    run(c, 1);
    cr_assert_eq(at(c, 3)->n_misses_over, 1u);
    cr_assert_eq(at(c, 3)->miss_over, SPI);
    cr_assert_eq(at(c, 3)->n_requests, 1u);
    run(c, MISS_PULL_EVERY_MS + 5);
    cr_assert_eq(at(c, 3)->n_requests, 2u);
    cr_assert_eq(at(c, 3)->n_misses_over, 2u);
    cr_assert_eq(at(c, 3)->miss_over, SPI + 1);
    cluster_free(c);
}

Test(sync_miss, nobody_is_asked_in_vain)
{
    struct cluster *c = cluster_new(3);
    struct record *gone;

    start_all(c);
    settle(c);
    put(c, 1, 0, sample_child(SPI, 5), sample_child(SPI + 1, 6), NULL);
    run(c, 5);
    gone = sample_child(SPI, 5);
    gone->child.state = SA_DELETED;
    put(c, 1, 0, gone, NULL, NULL);
    run(c, 5);
    at(c, 3)->n_requests = 0;

    misses(c, 3, SPI); /* deleted */
    cr_assert_eq(at(c, 3)->n_misses_over, 1u);
    misses(c, 3, SPI + 1); /* installed; its tunnel may be unknown here */
    cr_assert_eq(at(c, 3)->n_misses_over, 2u);
    misses(c, 3, 0xc00100); /* our own */
    cr_assert_eq(at(c, 3)->n_misses_over, 3u);
    misses(c, 3, 0x2400100); /* no member */
    cr_assert_eq(at(c, 3)->n_misses_over, 4u);
    kill_node(c, 1);
    run(c, 700);
    misses(c, 3, SPI + 2); /* its maker is dead */
    cr_assert_eq(at(c, 3)->n_misses_over, 5u);
    cr_assert_eq(at(c, 3)->miss_over, SPI + 2);
    cr_assert_eq(at(c, 3)->n_requests, 0u);
    cr_assert_eq(stats_of(c, 3).miss_pulls, 0u);
    cluster_free(c);
}

Test(sync_miss, no_retry_is_waited_for)
{
    struct cluster *c = deaf_cluster();

    at(c, 1)->answers_nobody = true;
    put(c, 1, 0, sample_child(SPI, 5), NULL, NULL);
    run(c, 2);
    at(c, 3)->deaf_to[1] = false;
    for (unsigned ms = 0; at(c, 3)->n_requests == 0 && ms < ANNOUNCE_EVERY_MS + 10; ms++)
        run(c, 1);
    run(c, 5); /* it has failed */
    cr_assert_eq(at(c, 3)->n_requests, 1u);
    at(c, 1)->answers_nobody = false;
    misses(c, 3, SPI);
    cr_assert_eq(at(c, 3)->n_requests, 2u);
    run(c, 2);
    cr_assert(has(c, 3, SPI));
    cluster_free(c);
}

/* 2 says that it has what 1 made; without a miss hearsay is given a while. */
Test(sync_miss, another_is_asked_when_the_maker_fails)
{
    struct cluster *c = deaf_cluster();

    at(c, 3)->deaf_to[2] = false;
    at(c, 1)->answers_nobody = true;
    put(c, 1, 0, sample_child(SPI, 5), NULL, NULL);
    run(c, ANNOUNCE_EVERY_MS); /* 2 has it, and 3 has heard so from 2 */
    cr_assert(!has(c, 3, SPI));
    misses(c, 3, SPI);
    run(c, 4);
    cr_assert(has(c, 3, SPI));
    cr_assert_eq(at(c, 3)->n_requests, 2u);
    cluster_free(c);
}

/* A maker that is silent holds up neither this miss nor other repairs. */
Test(sync_miss, a_silent_maker_is_given_up)
{
    struct cluster *c = deaf_cluster();
    unsigned ms = 0;

    at(c, 3)->deaf_to[2] = false;
    at(c, 1)->paused = true;
    misses(c, 3, SPI);
    cr_assert_eq(at(c, 3)->n_requests, 1u);
    at(c, 3)->deaf_to[2] = true;
    put(c, 2, 0, sample_child(0x800100, 5), NULL, NULL);
    run(c, 2);
    at(c, 3)->deaf_to[2] = false;
    while (!has(c, 3, 0x800100) && ms++ < 2000)
        run(c, 1);
    cr_assert_lt(ms, MISS_PULL_TIMEOUT_MS + PULL_RETRY_MS);
    cluster_free(c);
}

/* Whatever arrives: so many requests, and no other repair waits for them. */
Test(sync_miss, a_flood_asks_no_more_often)
{
    enum { SECOND = 1000 };
    struct cluster *c = deaf_cluster();
    size_t most = SECOND / MISS_PULL_EVERY_MS + 1;
    unsigned ms = 0;

    for (uint32_t i = 0; i < SECOND; i++) { /* 3 hears again, or 1 would die */
        at(c, 3)->deaf_to[1] = at(c, 3)->deaf_to[2] = false;
        for (uint32_t k = 0; k < 10; k++)
            misses(c, 3, SPI + 10 * i + k);
        run(c, 1);
    }
    cr_assert_leq(at(c, 3)->n_requests, most);
    cr_assert_geq(at(c, 3)->n_requests, most / 2);
    cr_assert_leq(at(c, 3)->core->n_misses, MISSES_MAX);

    at(c, 3)->deaf_to[1] = true; /* an honest one in its midst */
    put(c, 1, 0, sample_child(0x600100, 5), NULL, NULL);
    misses(c, 3, 0x600100);
    for (; !has(c, 3, 0x600100) && ms < 100; ms++) {
        for (uint32_t k = 0; k < 10; k++)
            misses(c, 3, 0x500000 + 10 * ms + k);
        run(c, 1);
    }
    cr_assert_leq(ms, MISS_PULL_EVERY_MS + 5, "%u ms", ms);

    at(c, 3)->deaf_to[1] = false;
    at(c, 3)->deaf_to[2] = true; /* and a loss that no packet shows */
    at(c, 1)->deaf_to[2] = true; /* 1 cannot make it good by chance */
    put(c, 2, 0, sample_child(0x800100, 5), NULL, NULL);
    run(c, 2);
    at(c, 3)->deaf_to[2] = false;
    for (ms = 0; !has(c, 3, 0x800100) && ms < 1000; ms++) {
        misses(c, 3, 0x540000 + ms);
        run(c, 1);
    }
    cr_assert_leq(ms, ANNOUNCE_EVERY_MS + 10, "%u ms", ms);
    cluster_free(c);
}

/* 1 is heard, since it tells 3 alone what its answer waits for, and hears nothing of 3. */
Test(sync_miss, a_maker_that_does_not_hear_us_is_not_asked)
{
    struct cluster *c = cluster_new(3);
    unsigned ms = 0;

    start_all(c);
    settle(c);
    at(c, 1)->unreached_by[3] = true;
    at(c, 3)->no_stream[1] = true;
    run(c, 1000);
    put(c, 1, 9, sample_ike(0xabc, 5), sample_child(SPI, 5), NULL);
    run(c, REMIND_MS + 2);
    cr_assert_eq(stats_of(c, 1).reminders, 1u);
    misses(c, 3, SPI);
    for (; !has(c, 3, SPI) && ms < 1000; ms++)
        run(c, 1);
    cr_assert_lt(ms, (unsigned)MISS_PULL_TIMEOUT_MS - 20, "%u ms", ms);
    cr_assert_eq(stats_of(c, 3).miss_pulls, 1u);
    cluster_free(c);
}

/* So misses of many do not take the places of those who page through much. */
Test(sync_miss, an_answer_of_one_page_keeps_no_snapshot)
{
    struct cluster *c = deaf_cluster();

    put(c, 1, 0, sample_child(SPI, 5), NULL, NULL);
    misses(c, 3, SPI);
    run(c, 3);
    cr_assert(has(c, 3, SPI));
    for (size_t i = 0; i < SNAPSHOTS_MAX; i++)
        cr_assert_eq(at(c, 1)->core->snapshots[i].id, 0u);
    cluster_free(c);
}
