/* The member list changes while all goes on: one comes, one goes. */
#include <criterion/criterion.h>

#include "sync/core.h"
#include "tests/unit/sync/harness.h"

static void has_members(struct cluster *c, uint16_t slot, const uint16_t *slots, size_t n)
{
    give(c, slot, &(struct sync_event){.kind = SYNC_EV_MEMBERS, .members = slots, .n_members = n});
}

static const uint16_t three[] = {1, 2, 3}, four[] = {1, 2, 3, 4};

/* Four of which the last one is down, and no member for the others. */
static struct cluster *cluster_of_three(void)
{
    struct cluster *c = cluster_new(4);

    for (uint16_t slot = 1; slot <= 3; slot++) {
        start(c, slot);
        has_members(c, slot, three, 3);
    }
    settle(c);
    return c;
}

Test(sync_members, one_comes_and_nobody_loses_its_epoch)
{
    struct cluster *c = cluster_of_three();
    struct id128 before = sync_incarnation(at(c, 1)->core);
    uint32_t epochs[4];

    put(c, 1, 1, sample_child(0x400100, 5), NULL, NULL);
    run(c, 100);
    for (uint16_t slot = 1; slot <= 3; slot++)
        epochs[slot] = sync_epoch(at(c, slot)->core);
    start(c, 4);
    run(c, 1000);
    cr_expect(!sync_member_live(at(c, 4)->core, 1), "nobody has named it yet");
    cr_expect_eq(sync_epoch(at(c, 4)->core), 0);
    for (uint16_t slot = 1; slot <= 3; slot++) {
        has_members(c, slot, four, 4);
        run(c, 300);
        put(c, 2, 10 + slot, sample_child(0x800100 + slot, 5), NULL, NULL);
        run(c, 300);
        cr_assert_not_null(barrier_of(at(c, 2), 10 + slot), "while lists differ, after %u", slot);
        cr_expect(!barrier_of(at(c, 2), 10 + slot)->timed_out);
    }
    settle(c);
    cr_expect(same_digests(c));
    cr_expect_not_null(sync_find_child(at(c, 4)->core, 0x400100));
    cr_expect_gt(sync_epoch(at(c, 4)->core), 0);
    for (uint16_t slot = 1; slot <= 3; slot++) {
        cr_expect_eq(sync_epoch(at(c, slot)->core), epochs[slot]);
        cr_expect_eq(member_of(c, 4, slot).members, member_of(c, slot, slot).members);
    }
    cr_expect(id128_equal(&before, &at(c, 1)->core->incarnation));
    cluster_free(c);
}

Test(sync_members, one_goes_and_no_barrier_waits_for_it)
{
    struct cluster *c = cluster_new(4);
    uint32_t epoch;

    start_all(c);
    settle(c);
    epoch = sync_epoch(at(c, 1)->core);
    kill_node(c, 4);
    put(c, 1, 7, sample_child(0x400100, 5), NULL, NULL);
    for (uint16_t slot = 1; slot <= 3; slot++)
        has_members(c, slot, three, 3);
    run(c, 20);
    cr_assert_not_null(barrier_of(at(c, 1), 7), "long before it counts as dead");
    cr_expect(!barrier_of(at(c, 1), 7)->timed_out);
    cr_expect_eq(at(c, 1)->states[4], MEMBER_DEAD, "and the dataplane has been told");
    cr_expect_eq(sync_epoch(at(c, 1)->core), epoch);
    start(c, 4); /* it does not know */
    run(c, 1000);
    cr_expect(!sync_member_live(at(c, 1)->core, 4));
    cr_expect(!sync_member_live(at(c, 4)->core, 1));
    cr_expect_eq(sync_epoch(at(c, 4)->core), 0);
    cr_expect_gt(stats_of(c, 1).refused_by_reason[REFUSED_SENDER], 0);
    cluster_free(c);
}

/* While a pull and misses are under way, of one that goes and of one that stays. */
Test(sync_members, what_was_asked_of_it_is_forgotten)
{
    for (int with_pull = 0; with_pull < 2; with_pull++) {
        struct cluster *c = cluster_new(4);

        start_all(c);
        settle(c);
        for (uint16_t slot = 1; slot <= 3; slot++) {
            at(c, slot)->deaf_to[4] = true;
            at(c, slot)->deaf_to[1] = slot != 1;
        }
        put(c, 4, 0, sample_child(0x1000100, 5), NULL, NULL);
        put(c, 1, 0, sample_child(0x400100, 6), NULL, NULL);
        if (with_pull)
            run(c, 60);
        give(c, 2, &(struct sync_event){.kind = SYNC_EV_MISS, .spi_in = 0x1000100});
        give(c, 2, &(struct sync_event){.kind = SYNC_EV_MISS, .spi_in = 0x400100});
        for (uint16_t slot = 1; slot <= 3; slot++)
            has_members(c, slot, three, 3);
        lose_mail(c);
        kill_node(c, 4);
        for (uint16_t slot = 1; slot <= 3; slot++)
            at(c, slot)->deaf_to[1] = false;
        run(c, 3000);
        cr_expect(same_digests(c));
        cr_expect_not_null(sync_find_child(at(c, 2)->core, 0x400100));
        cluster_free(c);
    }
}

/* Its table has no room for a slot that is not in its list: it does not say that nothing was
 * promised to it. */
Test(sync_members, who_has_another_list_makes_nobody_sure)
{
    struct cluster *c = cluster_of_three();
    uint16_t sure_of[SYNC_MEMBERS_MAX];
    size_t n;

    run(c, 100);
    cr_assert(grants_sure(at(c, 1)->core->grants, sure_of, &n));
    has_members(c, 1, four, 4);
    run(c, 1000);
    cr_expect(!grants_sure(at(c, 1)->core->grants, sure_of, &n));
    cr_expect_eq(n, 2, "of slots 2 and 3 as before");
    cluster_free(c);
}

/* Three, of which one is lost for good; another restarts, and needs both of its others. */
Test(sync_members, removing_a_lost_one_lets_the_others_grant)
{
    static const uint16_t two[] = {1, 2};

    for (int both = 0; both < 2; both++) {
        struct cluster *c = cluster_new(3);

        start_all(c);
        settle(c);
        kill_node(c, 3);
        kill_node(c, 1);
        run(c, 700);
        start(c, 1);
        if (both) {
            kill_node(c, 2);
            start(c, 2);
        }
        run(c, 3000);
        cr_expect_eq(sync_epoch(at(c, 1)->core), 0);
        cr_expect_not_null(sync_epoch_obstacle(at(c, 1)->core));
        has_members(c, 1, two, 2);
        run(c, 1000);
        cr_expect_eq(sync_epoch(at(c, 1)->core), 0, "the lists differ");
        has_members(c, 2, two, 2);
        settle(c);
        cr_expect_geq(sync_epoch(at(c, 1)->core), 2);
        cluster_free(c);
    }
}

Test(sync_members, a_list_that_is_not_in_order_changes_nothing)
{
    static const uint16_t twice[] = {1, 2, 2}, without_us[] = {2, 3}, beyond[] = {1, SLOT_MAX + 1};
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    has_members(c, 1, twice, 3);
    has_members(c, 1, without_us, 2);
    has_members(c, 1, beyond, 2);
    has_members(c, 1, three, 0);
    run(c, 1000);
    cr_expect(sync_member_live(at(c, 1)->core, 2) && sync_member_live(at(c, 1)->core, 3));
    cr_expect_eq(at(c, 1)->core->n_peers, 2);
    cluster_free(c);
}

Test(sync_members, from_one_to_two_and_back)
{
    static const uint16_t one[] = {1}, two[] = {1, 2};
    struct cluster *c = cluster_new(2);
    uint32_t epoch;

    start(c, 1);
    has_members(c, 1, one, 1);
    settle(c);
    epoch = sync_epoch(at(c, 1)->core);
    start(c, 2);
    has_members(c, 1, two, 2);
    settle(c);
    cr_expect_gt(sync_epoch(at(c, 2)->core), 0);
    kill_node(c, 2);
    has_members(c, 1, one, 1);
    run(c, 1000);
    cr_expect(sync_is_synced(at(c, 1)->core));
    cr_expect_eq(sync_epoch(at(c, 1)->core), epoch);
    cluster_free(c);
}
