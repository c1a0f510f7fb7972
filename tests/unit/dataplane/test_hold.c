/* ESP that comes before its SA: held, reported, delivered in order, or dropped in time. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/err.h"
#include "tests/unit/dataplane/rig.h"

enum { OTHERS = 7, SPI = OTHERS << 22 | 0x100 }; /* made by slot 7 */

static uint8_t inner[PACKET_MAX], esp[PACKET_MAX];
static const struct suite_row *const row = &suite_rows[0];

static void open_rig(struct rig *rig)
{
    rig_open(rig, NULL);
    dp_set_live(rig->dp, OTHERS, true);
}

/* A datagram of n octets on the SA of that SPI arrives. */
static void arrives(struct rig *rig, uint32_t spi, size_t n)
{
    struct child_record r = rig_record(row, spi, 1);
    size_t inner_n = make_udp(BEHIND_ACME, BEHIND_US, 1000, 53, n, inner);

    push_udp(rig, 4500, esp, peer_seal(&r, row, inner, inner_n, NULL, esp));
}

static void installs(struct rig *rig, uint32_t spi)
{
    struct child_record r = rig_record(row, spi, 1);

    cr_assert_eq(dp_sa_apply(rig->dp, &r), ERR_OK);
}

static void is_deleted(struct rig *rig, uint32_t spi)
{
    struct child_record r = rig_record(row, spi, 1);

    r.state = SA_DELETED;
    cr_assert_eq(dp_sa_apply(rig->dp, &r), ERR_OK);
}

/* The next packet that was delivered carries n octets. */
static void expect_next(struct rig *rig, size_t n)
{
    struct memory_packet p;

    cr_assert(pop(rig, &p));
    cr_assert_eq(p.via, VIA_INNER);
    cr_assert_eq(p.n, 28 + n);
    free(p.bytes);
}

static struct dp_counters counters(const struct rig *rig)
{
    struct dp_counters c;

    dp_get_counters(rig->dp, &c);
    return c;
}

static struct hold *hold(const struct rig *rig)
{
    return &rig->dp->lanes[0]->hold;
}

static void set_until(struct rig *rig, uint64_t until_us)
{
    for (unsigned i = 0; i < hold(rig)->n; i++)
        hold(rig)->order[i]->until_us = until_us;
}

/* As rig_run, but what is held does not age: a test may be slow. */
static void turns(struct rig *rig)
{
    size_t n;

    do {
        n = lane_turn(rig->dp->lanes[0], 0);
        set_until(rig, now_read().mono_us + 3600000000);
    } while (n);
    dp_poll(rig->dp);
}

/* Makes what is held as old as it may become. */
static void time_passes(struct rig *rig)
{
    set_until(rig, now_read().mono_us);
    turns(rig);
}

Test(dataplane_hold, held_and_delivered_once)
{
    struct dp_sa_stats stats;
    struct child_record r;
    struct rig rig;
    size_t n;

    open_rig(&rig);
    arrives(&rig, SPI, 21);
    turns(&rig);
    cr_assert_eq(rig.net.leaving.n, 0);
    cr_assert_eq(all_drops(&rig), 0);
    cr_assert_eq(rig.n_missed, 1);
    cr_assert_eq(rig.missed[0], SPI);
    cr_assert_eq(counters(&rig).held, 1);

    cr_assert(atomic_load(&hold(&rig)->holding), "the loop wakes the lane");
    cr_assert_gt(hold_timeout_ms(rig.dp->lanes[0], -1), 0);
    installs(&rig, SPI);
    cr_assert_eq(hold_timeout_ms(rig.dp->lanes[0], -1), 0, "even if it came before the lane slept");
    turns(&rig);
    n = make_udp(BEHIND_ACME, BEHIND_US, 1000, 53, 21, inner);
    expect_left(&rig, VIA_INNER, inner, n);
    cr_assert_eq(counters(&rig).held_released, 1);
    cr_assert_eq(counters(&rig).packets_in, 1);
    cr_assert(dp_sa_get_stats(rig.dp, SPI, &stats));
    cr_assert_eq(stats.packets_in, 1);
    cr_assert_eq(rig.n_confirmed, 1, "as of any packet");

    cr_assert(!atomic_load(&hold(&rig)->holding));
    time_passes(&rig);
    cr_assert_eq(rig.net.leaving.n, 0, "once");
    cr_assert_eq(all_drops(&rig), 0);

    r = rig_record(row, SPI + 2, 1); /* the same in native ESP */
    push_native(&rig, IP_PROTO_ESP, CUSTOMER, esp, peer_seal(&r, row, inner, n, NULL, esp));
    turns(&rig);
    installs(&rig, SPI + 2);
    turns(&rig);
    expect_left(&rig, VIA_INNER, inner, n);
    cr_assert_eq(all_drops(&rig), 0);
    rig_close(&rig);
}

Test(dataplane_hold, what_was_held_goes_first_and_in_order)
{
    struct rig rig;

    open_rig(&rig);
    arrives(&rig, SPI, 1);
    arrives(&rig, SPI + 2, 100); /* of another SA, which never comes */
    arrives(&rig, SPI, 2);
    turns(&rig);
    arrives(&rig, SPI, 3);
    turns(&rig);
    installs(&rig, SPI);
    arrives(&rig, SPI, 4);
    turns(&rig);
    for (size_t i = 1; i <= 4; i++)
        expect_next(&rig, i);
    cr_assert_eq(hold(&rig)->n, 1);
    rig_close(&rig);
}

/* The SA may come while a turn is under way: the first packet missed it, the second would not. */
Test(dataplane_hold, nothing_overtakes_a_held_packet)
{
    struct rig rig;

    open_rig(&rig);
    arrives(&rig, SPI, 1);
    turns(&rig);
    installs(&rig, SPI);
    hold(&rig)->seen = atomic_load(&rig.dp->sa_changes); /* this turn saw no change */
    arrives(&rig, SPI, 2);
    (void)lane_turn(rig.dp->lanes[0], 0);
    cr_assert_eq(rig.net.leaving.n, 0);
    hold(&rig)->seen = 0;
    turns(&rig);
    (void)lane_turn(rig.dp->lanes[0], 0);
    expect_next(&rig, 1);
    expect_next(&rig, 2);
    cr_assert_eq(hold(&rig)->n, 0);
    rig_close(&rig);
}

Test(dataplane_hold, dropped_when_the_time_is_over)
{
    uint64_t before = now_read().mono_us;
    struct rig rig;

    open_rig(&rig);
    arrives(&rig, SPI, 1);
    rig_run(&rig);
    cr_assert_geq(hold(&rig)->order[0]->until_us, before + HOLD_US);
    cr_assert_leq(hold(&rig)->order[0]->until_us, now_read().mono_us + HOLD_US);
    cr_assert_leq(hold_timeout_ms(rig.dp->lanes[0], -1), HOLD_US / 1000, "the lane wakes for it");
    usleep(HOLD_US + 1000);
    installs(&rig, SPI); /* too late */
    rig_run(&rig);
    cr_assert_eq(rig.net.leaving.n, 0);
    cr_assert_eq(drops(&rig, DROP_NO_SA), 1);
    cr_assert_eq(all_drops(&rig), 1);
    cr_assert_eq(counters(&rig).held_released, 0);
    cr_assert_eq(hold_timeout_ms(rig.dp->lanes[0], -1), -1, "nothing to wake for");
    arrives(&rig, SPI, 2);
    rig_run(&rig);
    expect_next(&rig, 2);
    rig_close(&rig);
}

Test(dataplane_hold, there_are_64_places_and_half_of_them_for_one_spi)
{
    struct rig rig;

    open_rig(&rig);
    for (int i = 0; i < HOLD_MAX / 2 + 1; i++)
        arrives(&rig, SPI, 1);
    turns(&rig);
    cr_assert_eq(counters(&rig).held, HOLD_MAX / 2);
    cr_assert_eq(counters(&rig).held_overflow, 1);
    cr_assert_eq(drops(&rig, DROP_NO_SA), 1);
    for (int i = 0; i < HOLD_MAX / 2; i++)
        arrives(&rig, SPI + 2, 1);
    turns(&rig);
    cr_assert_eq(counters(&rig).held, HOLD_MAX);
    arrives(&rig, SPI + 4, 1); /* the 65th */
    turns(&rig);
    cr_assert_eq(counters(&rig).held, HOLD_MAX);
    cr_assert_eq(counters(&rig).held_overflow, 2);
    cr_assert_eq(drops(&rig, DROP_NO_SA), 2);
    cr_assert_eq(rig.n_missed, 2);

    installs(&rig, SPI + 2);
    time_passes(&rig); /* what is left of them is dropped, each counted once */
    cr_assert_eq(drops(&rig, DROP_NO_SA), 2 + HOLD_MAX);
    cr_assert_eq(all_drops(&rig), 2 + HOLD_MAX);
    arrives(&rig, SPI + 4, 1);
    turns(&rig);
    cr_assert_eq(counters(&rig).held, HOLD_MAX + 1, "the places are free again");
    rig_close(&rig);
}

Test(dataplane_hold, all_held_are_delivered_in_one_batch)
{
    struct rig rig;

    open_rig(&rig);
    for (uint32_t i = 0; i < HOLD_MAX; i++)
        arrives(&rig, SPI + (i & 1) * 2, 1 + i);
    turns(&rig);
    installs(&rig, SPI);
    installs(&rig, SPI + 2);
    for (size_t i = 0; i < BATCH_MAX; i++) /* and a full one comes at the same time */
        arrives(&rig, SPI, 101 + i);
    turns(&rig);
    for (size_t i = 0; i < HOLD_MAX; i++)
        expect_next(&rig, 1 + i);
    for (size_t i = 0; i < BATCH_MAX; i++)
        expect_next(&rig, 101 + i);
    cr_assert_eq(all_drops(&rig), 0);
    rig_close(&rig);
}

Test(dataplane_hold, only_the_live_are_waited_for)
{
    const uint16_t slots[] = {6, 5, 0, SLOT_MAX, SLOT_MAX + 1}; /* 5: our own */
    struct rig rig;

    open_rig(&rig);
    dp_set_live(rig.dp, 5, true);
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++)
        arrives(&rig, (uint32_t)slots[i] << 22 | 0x100, 1);
    turns(&rig);
    cr_assert_eq(drops(&rig, DROP_NO_SA), 5);
    dp_set_live(rig.dp, OTHERS, false); /* it died */
    arrives(&rig, SPI, 1);
    turns(&rig);
    cr_assert_eq(drops(&rig, DROP_NO_SA), 6);
    cr_assert_eq(rig.n_missed, 0);
    cr_assert_eq(counters(&rig).held + counters(&rig).held_overflow, 0);
    dp_set_live(rig.dp, SLOT_MAX, true);
    arrives(&rig, (uint32_t)SLOT_MAX << 22 | 0x100, 1);
    turns(&rig);
    cr_assert_eq(rig.n_missed, 1);
    rig_close(&rig);
}

Test(dataplane_hold, the_deleted_are_not_waited_for)
{
    struct rig rig;

    open_rig(&rig);
    installs(&rig, SPI);
    is_deleted(&rig, SPI);
    arrives(&rig, SPI, 1); /* it lingers */
    turns(&rig);
    expect_next(&rig, 1);
    dp_expire(rig.dp, now_read().mono_us + (DP_LINGER_MS + 1) * 1000ULL);
    arrives(&rig, SPI, 1);
    turns(&rig);
    cr_assert_eq(drops(&rig, DROP_NO_SA), 1);

    is_deleted(&rig, SPI + 2); /* a tombstone of an SA that was never here */
    arrives(&rig, SPI + 2, 1);
    turns(&rig);
    cr_assert_eq(drops(&rig, DROP_NO_SA), 2);
    cr_assert_eq(rig.n_missed, 0);
    cr_assert_eq(counters(&rig).held, 0);
    rig_close(&rig);
}

Test(dataplane_hold, an_sa_that_arrives_deleted_sets_nothing_free)
{
    struct rig rig;

    open_rig(&rig);
    arrives(&rig, SPI, 1);
    arrives(&rig, SPI, 1);
    turns(&rig);
    is_deleted(&rig, SPI);
    turns(&rig);
    cr_assert_eq(drops(&rig, DROP_NO_SA), 2, "at once");
    cr_assert_eq(counters(&rig).held_released, 0);
    cr_assert_eq(hold(&rig)->n, 0);
    rig_close(&rig);
}

Test(dataplane_hold, an_spi_is_reported_once_while_held)
{
    struct rig rig;

    open_rig(&rig);
    for (int i = 0; i < 10; i++) {
        arrives(&rig, SPI, 1);
        turns(&rig);
    }
    cr_assert_eq(counters(&rig).held, 10);
    cr_assert_eq(rig.n_missed, 1);
    time_passes(&rig);
    arrives(&rig, SPI, 1);
    turns(&rig);
    cr_assert_eq(rig.n_missed, 2);
    rig_close(&rig);
}

Test(dataplane_hold, a_miss_that_is_over_is_forgotten_for_a_second)
{
    struct rig rig;

    open_rig(&rig);
    arrives(&rig, SPI, 1);
    turns(&rig);
    dp_miss_over(rig.dp, SPI);
    turns(&rig);
    cr_assert_eq(drops(&rig, DROP_NO_SA), 1);
    arrives(&rig, SPI, 1);
    turns(&rig);
    cr_assert_eq(drops(&rig, DROP_NO_SA), 2);
    cr_assert_eq(rig.n_missed, 1);
    cr_assert(gone_has(&rig.dp->gone, SPI, now_read().mono_us));
    cr_assert(!gone_has(&rig.dp->gone, SPI, now_read().mono_us + GONE_US + 200000));
    cr_assert(!gone_has(&rig.dp->gone, SPI + 2, now_read().mono_us));

    installs(&rig, SPI); /* it was made after all */
    arrives(&rig, SPI, 1);
    turns(&rig);
    expect_next(&rig, 1);
    cr_assert(!gone_has(&rig.dp->gone, SPI, now_read().mono_us));
    rig_close(&rig);
}

/* What the loop may hear, however many SPIs are invented; each of those that found a place is told
 * in its turn, and its place comes free when the answer does. */
Test(dataplane_hold, a_flood_is_bounded_and_passes)
{
    enum { FLOOD = 2000 };
    struct rig rig;
    unsigned told = 0;

    open_rig(&rig);
    for (uint32_t i = 0; i < FLOOD; i++) {
        arrives(&rig, SPI + 2 * i, 1);
        if (i % 100 == 99)
            turns(&rig);
    }
    cr_assert_eq(counters(&rig).held, HOLD_MAX);
    cr_assert_eq(drops(&rig, DROP_NO_SA), FLOOD - HOLD_MAX);
    cr_assert_eq(counters(&rig).held_overflow, FLOOD - HOLD_MAX);
    cr_assert_geq(rig.n_missed, MISS_BURST);
    if (rig.n_missed < HOLD_MAX)
        cr_assert_leq(hold_timeout_ms(rig.dp->lanes[0], -1), 1, "others wait to be told");
    for (int i = 0; i < 2000 && rig.n_missed < HOLD_MAX; i++) {
        usleep(1000);
        turns(&rig);
    }
    cr_assert_eq(rig.n_missed, HOLD_MAX);
    for (unsigned i = 0; i < HOLD_MAX; i++)
        told += rig.missed[i] == SPI + 2 * i;
    cr_assert_eq(told, HOLD_MAX, "each once, the oldest first");

    for (unsigned i = 0; i < HOLD_MAX; i++)
        dp_miss_over(rig.dp, rig.missed[i]);
    turns(&rig);
    arrives(&rig, SPI + 2 * FLOOD, 9);
    turns(&rig);
    installs(&rig, SPI + 2 * FLOOD);
    turns(&rig);
    expect_next(&rig, 9);
    rig_close(&rig);
}

Test(dataplane_hold, reports_keep_their_pace)
{
    struct rig rig;
    uint64_t began;
    size_t most;

    open_rig(&rig);
    began = now_read().mono_us;
    for (uint32_t i = 0; i < 1000; i++) {
        arrives(&rig, SPI + 2 * i, 1);
        turns(&rig);
        for (unsigned k = 0; k < hold(&rig)->n; k++)
            if (hold(&rig)->order[k]->told)
                dp_miss_over(rig.dp, hold(&rig)->spi[k]);
        turns(&rig);
    }
    most = MISS_BURST + 1 + (now_read().mono_us - began) / MISS_EVERY_US;
    cr_assert_leq(rig.n_missed, most);
    rig_close(&rig);
}

/* Lanes share the places of the node, and each has its memory. */
Test(dataplane_hold, lanes_share_the_places)
{
    struct rig rig;
    struct lane *lane;

    open_rig(&rig);
    cr_assert_eq(hold(&rig)->cap, HOLD_MAX);
    for (unsigned lanes = 2; lanes <= DP_LANES_MAX; lanes++) {
        rig.dp->config.lanes = lanes;
        lane = lane_new(rig.dp, 1);
        cr_assert_not_null(lane);
        cr_assert_leq(lane->hold.cap * lanes, HOLD_MAX);
        cr_assert_geq(lane->hold.cap, 4);
        for (unsigned i = 0; i < lane->hold.cap; i++)
            memset(lane->hold.order[i]->packet.room, 0, PACKET_ROOM); /* for the sanitizer */
        lane_free(lane);
    }
    rig.dp->config.lanes = 1;
    rig_close(&rig);
}

Test(dataplane_hold, closing_with_packets_held)
{
    struct rig rig;

    open_rig(&rig);
    arrives(&rig, SPI, 1);
    turns(&rig);
    cr_assert_eq(hold(&rig)->n, 1);
    rig_close(&rig);
}
