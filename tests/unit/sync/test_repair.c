/* What was lost, missed or forgotten comes back; and epochs, which must not. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/err.h"
#include "sync/join.h"
#include "tests/unit/sync/harness.h"

/* ---- pull ---- */

Test(sync_repair, a_lost_update_is_pulled)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    at(c, 3)->deaf_to[1] = true;
    put(c, 1, 1, sample_ike(0xabc, 5), NULL, NULL);
    run(c, 2);
    cr_assert_null(sync_find_ike(at(c, 3)->core, 0xabc));
    cr_assert_null(barrier_of(at(c, 1), 1));
    at(c, 3)->deaf_to[1] = false;
    run(c, 30); /* the next Announce tells; well within the barrier's time */
    cr_assert_not_null(sync_find_ike(at(c, 3)->core, 0xabc));
    cr_assert_eq(stats_of(c, 3).pulls, 1u);
    run(c, 5);
    cr_assert(barrier_of(at(c, 1), 1) && !barrier_of(at(c, 1), 1)->timed_out);
    cluster_free(c);
}

/* A gap in the numbers asks at once, and what came after it is not lost. */
Test(sync_repair, a_gap_between_updates_is_filled_under_load)
{
    struct cluster *c = cluster_new(2);

    start_all(c);
    settle(c);
    for (uint32_t i = 0; i < 200; i++) { /* every seventh Update is lost, and no time to rest */
        put(c, 1, 0, sample_child(0x400100 + i, i), NULL, NULL);
        at(c, 2)->deaf_to[1] = i % 7 == 3;
        run(c, 1);
        at(c, 2)->deaf_to[1] = false;
    }
    run(c, 100);
    cr_assert_eq(member_of(c, 2, 2).child_sas, 200u);
    cr_assert(same_digests(c));
    cr_assert_gt(stats_of(c, 2).gaps, 0u);
    cr_assert_eq(member_of(c, 2, 1).lag_records, 0u);
    cluster_free(c);
}

/* 3 cannot hear 1 at all, nor ask it: 2 has what it lacks. */
Test(sync_repair, a_third_member_covers_the_gap)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    at(c, 3)->cut_from[1] = true;
    put(c, 1, 0, sample_ike(0xabc, 5), NULL, NULL);
    run(c, 150);
    cr_assert_not_null(sync_find_ike(at(c, 3)->core, 0xabc));
    cluster_free(c);
}

Test(sync_repair, a_late_joiner_gets_all_in_pages)
{
    enum { MANY = 2000 };
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    kill_node(c, 3);
    memory_disk_free(at(c, 3)->disk);
    at(c, 3)->disk = memory_disk_new();
    for (uint32_t i = 0; i < MANY; i++) {
        struct record *r = sample_child(0x400100 + i, i);
        give(c, 1,
             &(struct sync_event){
                 .kind = SYNC_EV_PUT, .group = &r, .n_group = 1, .more = i % 100 != 99});
        if (i % 100 == 99)
            run(c, 1);
    }
    run(c, 20);
    start(c, 3);
    cr_assert(!sync_is_synced(at(c, 3)->core));
    settle(c);
    cr_assert_eq(member_of(c, 3, 3).child_sas, (uint64_t)MANY);
    cr_assert(same_digests(c));
    cr_assert_gt(stats_of(c, 3).pages, 5u);
    cr_assert_eq(stats_of(c, 3).pulls, 1u);
    cluster_free(c);
}

/* With many members, each of several lives, the vector alone takes half a frame. */
Test(sync_repair, a_long_vector_gets_a_page_of_its_own)
{
    enum { ORIGINS = CODEC_POSITIONS_MAX - 10, LARGE = 41 };
    const uint64_t far = UINT64_C(1) << 60; /* long on the wire */
    static uint8_t response[RECORD_BLOB_MAX];
    struct cluster *c = cluster_new(2);
    struct sync_batch *batch = calloc(1, sizeof *batch);

    batch->records = calloc(ORIGINS + LARGE, sizeof(struct record *));
    batch->vector = calloc(ORIGINS, sizeof *batch->vector);
    for (uint32_t i = 0; i < ORIGINS; i++) {
        batch->records[i] = sample_at(sample_child(0x400100 + i, i), i, SLOT_MAX, far);
        batch->vector[i] =
            (struct sync_position){sample_id(i), SLOT_MAX, i < ORIGINS - 1 ? far : far + LARGE};
    }
    for (unsigned i = 0; i < LARGE; i++) {
        struct record *r =
            sample_at(sample_ike(0xabc00 + i, i), ORIGINS - 1, SLOT_MAX, far + 1 + i);
        cr_assert_eq(blob_set(&r->ike.last_response, response, sizeof response), ERR_OK);
        batch->records[ORIGINS + i] = r;
    }
    batch->n_records = ORIGINS + LARGE;
    batch->n_vector = ORIGINS;
    batch->ticket = 1;
    give_journal(c, 1, batch);
    start_all(c);
    settle(c);
    cr_assert_eq(member_of(c, 2, 2).child_sas, (uint64_t)ORIGINS);
    cr_assert_eq(member_of(c, 2, 2).ike_sas, (uint64_t)LARGE);
    cr_assert(same_digests(c));
    cr_assert_eq(stats_of(c, 2).pulls, 1u);
    cluster_free(c);
}

/* The snapshot stands still while the puller pages: changes come by their own way, and
 * nothing falls between. */
Test(sync_repair, changes_during_a_pull_are_not_missed)
{
    enum { MANY = 1000 };
    struct cluster *c = cluster_new(2);

    start(c, 1);
    for (uint32_t i = 0; i < MANY; i++) {
        struct record *r = sample_child(0x400100 + i, i);
        give(c, 1,
             &(struct sync_event){.kind = SYNC_EV_PUT, .group = &r, .n_group = 1, .more = true});
    }
    give(c, 1, &(struct sync_event){.kind = SYNC_EV_FLUSH});
    start(c, 2);
    for (uint32_t i = 0; i < 60; i++) { /* move records to the end of the log meanwhile */
        struct record *r = sample_child(0x400100 + i * 16, i * 16);
        r->child.confirmed = true;
        put(c, 1, 0, r, NULL, NULL);
        run(c, 1);
    }
    settle(c);
    run(c, 50);
    cr_assert_eq(member_of(c, 2, 2).child_sas, (uint64_t)MANY);
    cr_assert(same_digests(c));
    cluster_free(c);
}

/* Half a pull is no claim: the vector moves with the last page, and the rest comes later. */
Test(sync_repair, an_interrupted_pull_claims_nothing)
{
    enum { MANY = 2000 };
    struct cluster *c = cluster_new(2);

    start(c, 1);
    for (uint32_t i = 0; i < MANY; i++) {
        struct record *r = sample_child(0x400100 + i, i);
        give(c, 1,
             &(struct sync_event){.kind = SYNC_EV_PUT, .group = &r, .n_group = 1, .more = true});
    }
    give(c, 1, &(struct sync_event){.kind = SYNC_EV_FLUSH});
    start(c, 2);
    for (int i = 0; i < 1000 && stats_of(c, 2).pages < 2; i++)
        run(c, 1);
    at(c, 1)->answers_nobody = true;
    run(c, 200);
    cr_assert_gt(member_of(c, 2, 2).child_sas, 100u);
    cr_assert_lt(member_of(c, 2, 2).child_sas, (uint64_t)MANY);
    cr_assert_eq(member_of(c, 2, 1).lag_records, (uint64_t)MANY);
    cr_assert(!sync_is_synced(at(c, 2)->core));
    at(c, 1)->answers_nobody = false;
    settle(c);
    cr_assert_eq(member_of(c, 2, 1).lag_records, 0u);
    cr_assert(same_digests(c));
    cluster_free(c);
}

/* 1 answers for what it has from 2's log, which 3 lacks: not before 3 has it, too. */
Test(sync_repair, a_barrier_waits_for_what_came_from_another_log)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    at(c, 3)->deaf_to[2] = true;
    put(c, 2, 0, sample_child(0x400100, 5), NULL, NULL);
    run(c, 2);
    cr_assert_not_null(sync_find_child(at(c, 1)->core, 0x400100));
    cr_assert_null(sync_find_child(at(c, 3)->core, 0x400100));
    put(c, 1, 9, sample_child(0x400100, 5), NULL, NULL);
    for (int i = 0; i < 100 && !barrier_of(at(c, 1), 9); i++)
        run(c, 1);
    cr_assert(barrier_of(at(c, 1), 9) && !barrier_of(at(c, 1), 9)->timed_out);
    cr_assert_not_null(sync_find_child(at(c, 3)->core, 0x400100));
    cluster_free(c);
}

/* 3 has the child that 2 made in a part of its own; 1 ends the lineage without knowing it. 2
 * derives the child's end, and says so to 3, which sleeps through it all, when the lineage's end is
 * long expired: nothing else tells 3. */
Test(sync_repair, what_follows_from_an_end_outlives_that_end)
{
    struct cluster *c = cluster_new(3);
    struct record *ike = sample_ike(0xabc, 5), *end = sample_ike(0xabc, 5);
    struct record *child = sample_child(0x400100, 5);

    ike->ike.not_after_ms = end->ike.not_after_ms = SAMPLE_NOW_MS + 4000;
    end->ike.state = SA_DELETED;
    end->ike.lineage_over = true;
    end->ike.revision = ike->ike.revision + 1;
    start_all(c);
    settle(c);
    put(c, 1, 0, ike, NULL, NULL);
    run(c, 50);
    at(c, 1)->cut_from[2] = at(c, 1)->cut_from[3] = true;
    put(c, 2, 0, child, NULL, NULL);
    run(c, 50);
    kill_node(c, 3);
    put(c, 1, 0, end, NULL, NULL);
    run(c, 50);
    at(c, 1)->cut_from[2] = at(c, 1)->cut_from[3] = false;
    run(c, 2500);
    cr_assert_eq(sync_find_child(at(c, 2)->core, 0x400100)->child.state, SA_DELETED);
    run(c, 2500); /* past the end of the IKE SA */
    start(c, 3);
    settle(c);
    run(c, 500);
    cr_assert_eq(sync_find_child(at(c, 3)->core, 0x400100)->child.state, SA_DELETED);
    cr_assert(same_digests(c));
    cluster_free(c);
}

/* 1 makes a child that 2 and 3 get. 4, which does not know it, ends its lineage, and 2, cut off
 * from 1, derives the child's end. 3 is down by then. */
static struct cluster *child_ended_at_2(void)
{
    struct cluster *c = cluster_new(4);
    struct record *end = sample_ike(0xabc, 5), *child = sample_child(0x400100, 5);

    child->child.confirmed = false;
    start_all(c);
    settle(c);
    for (uint16_t slot = 1; slot < 4; slot++)
        at(c, 4)->cut_from[slot] = true;
    put(c, 1, 0, child, NULL, NULL);
    run(c, 100);
    cr_assert_not_null(sync_find_child(at(c, 3)->core, 0x400100));
    kill_node(c, 3);
    at(c, 1)->cut_from[2] = true;
    end->ike.state = SA_DELETED;
    end->ike.lineage_over = true;
    end->ike.not_after_ms = c->now.wall_ms - SYNC_CLOCK_SLACK_MS + 400; /* kept for 400 ms */
    put(c, 4, 0, end, NULL, NULL);
    at(c, 4)->cut_from[2] = false;
    run(c, 150);
    cr_assert_eq(sync_find_child(at(c, 2)->core, 0x400100)->child.state, SA_DELETED);
    cr_assert(sync_find_child(at(c, 2)->core, 0x400100)->derived);
    return c;
}

static struct record *confirmed_child(void)
{
    struct record *child = sample_child(0x400100, 5);

    child->child.confirmed = true;
    return child;
}

/* When the lineage's end is expired 3 comes back and asks 2: what 2 says that 3 has by then, it
 * must have. Sooner than what is derived is published at any rate. */
static void asks_2_when_the_end_is_forgotten(struct cluster *c)
{
    kill_node(c, 1);
    run(c, 200);
    cr_assert_null(sync_find_ike(at(c, 2)->core, 0xabc));
    start(c, 3);
    run(c, 300);
    cr_assert_eq(member_of(c, 3, 2).lag_records, 0u);
    cr_assert_eq(sync_find_child(at(c, 3)->core, 0x400100)->child.state, SA_DELETED);
}

/* 2 hears of 1 that the child was confirmed. */
Test(sync_repair, a_derived_end_hides_nothing_from_who_asks)
{
    struct cluster *c = child_ended_at_2();

    put(c, 1, 0, confirmed_child(), NULL, NULL);
    at(c, 1)->cut_from[2] = false;
    run(c, 100);
    kill_node(c, 4);
    asks_2_when_the_end_is_forgotten(c);
    cluster_free(c);
}

/* 1 confirms the child and then derives its end, too: under the number of that. */
Test(sync_repair, one_derived_end_hides_no_other)
{
    struct cluster *c = child_ended_at_2();

    put(c, 1, 0, confirmed_child(), NULL, NULL);
    at(c, 4)->deaf_to[1] = true;
    at(c, 4)->cut_from[1] = false;
    run(c, 100);
    cr_assert_eq(sync_find_child(at(c, 1)->core, 0x400100)->child.state, SA_DELETED);
    cr_assert(sync_find_child(at(c, 1)->core, 0x400100)->derived);
    kill_node(c, 4);
    at(c, 1)->cut_from[2] = false;
    run(c, 100);
    asks_2_when_the_end_is_forgotten(c);
    cluster_free(c);
}

/* 1's subscription to 2 is broken: no reason to ask it never, where it alone has what 2 lacks. */
Test(sync_repair, who_does_not_hear_us_is_asked_when_nobody_else_can_be)
{
    struct cluster *c = cluster_new(2);

    start_all(c);
    settle(c);
    at(c, 1)->deaf_to[2] = true;
    run(c, 1000);
    at(c, 2)->deaf_to[1] = true;
    put(c, 1, 0, sample_ike(0xabc, 5), NULL, NULL);
    run(c, 5);
    at(c, 2)->deaf_to[1] = false;
    run(c, 250);
    cr_assert_eq(stats_of(c, 2).pulls, 0u);
    run(c, 250);
    cr_assert_not_null(sync_find_ike(at(c, 2)->core, 0xabc));
    cluster_free(c);
}

/* What 3 asks of 1 does not arrive. */
static struct cluster *one_question_is_lost(bool has_2)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    at(c, 3)->deaf_to[1] = true;
    at(c, 2)->deaf_to[1] = !has_2;
    put(c, 1, 0, sample_ike(0xabc, 5), NULL, NULL);
    run(c, 3);
    at(c, 3)->deaf_to[1] = false;
    at(c, 1)->unreached_by[3] = true;
    while (stats_of(c, 3).pulls == 0)
        run(c, 1);
    return c;
}

Test(sync_repair, another_is_asked_soon_when_one_does_not_answer)
{
    struct cluster *c = one_question_is_lost(true);

    run(c, 90);
    cr_assert_eq(stats_of(c, 3).pulls, 1u);
    run(c, 30);
    cr_assert_eq(stats_of(c, 3).pulls, 2u);
    cr_assert_not_null(sync_find_ike(at(c, 3)->core, 0xabc));
    cluster_free(c);
}

Test(sync_repair, who_alone_has_it_gets_time_to_answer)
{
    struct cluster *c = one_question_is_lost(false);

    run(c, 400);
    cr_assert_eq(stats_of(c, 3).pulls, 1u);
    cluster_free(c);
}

/* 2 alone has B, and not what 1 numbered before it; then 1 dies. 3 gets B all the same, and A when
 * 1 returns: from its journal. */
Test(sync_repair, what_a_dead_member_told_one_alone_reaches_all)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    at(c, 2)->deaf_to[1] = at(c, 3)->deaf_to[1] = true;
    put(c, 1, 0, sample_ike(0xa, 5), NULL, NULL);
    run(c, 2);
    at(c, 2)->deaf_to[1] = false;
    put(c, 1, 0, sample_ike(0xb, 6), NULL, NULL);
    at(c, 1)->answers_nobody = true;
    run(c, 2);
    kill_node(c, 1);
    cr_assert_not_null(sync_find_ike(at(c, 2)->core, 0xb));
    run(c, 400);
    cr_assert_null(sync_find_ike(at(c, 3)->core, 0xb)); /* 1 may still live */
    run(c, 400);
    cr_assert_not_null(sync_find_ike(at(c, 3)->core, 0xb));
    cr_assert_null(sync_find_ike(at(c, 2)->core, 0xa));
    cr_assert(same_digests(c));
    at(c, 3)->deaf_to[1] = false;
    start(c, 1);
    settle(c);
    run(c, 300);
    cr_assert_not_null(sync_find_ike(at(c, 3)->core, 0xa));
    cr_assert(same_digests(c));
    cluster_free(c);
}

/* 2 knows a higher term that no vector shows, since what its dead author numbered before is lost.
 * 3 must not take 2's ack for agreement with its own term. */
Test(sync_repair, a_term_beyond_the_vector_overtakes_who_does_not_know_it)
{
    struct cluster *c = cluster_new(3);
    struct record *high = sample_ike(0xb, 6), *low = sample_ike(0xb, 6);

    high->ike.term = (struct term){.number = 9, .slot = 1};
    low->ike.term = (struct term){.number = 8, .slot = 3};
    start_all(c);
    settle(c);
    at(c, 2)->deaf_to[1] = at(c, 3)->deaf_to[1] = true;
    put(c, 1, 0, sample_ike(0xa, 5), NULL, NULL);
    run(c, 2);
    at(c, 2)->deaf_to[1] = false;
    put(c, 1, 0, high, NULL, NULL);
    at(c, 1)->answers_nobody = true;
    run(c, 2);
    kill_node(c, 1);
    put(c, 3, 7, low, NULL, NULL);
    run(c, 20); /* 1 may still live for all they know */
    cr_assert_eq(sync_find_ike(at(c, 3)->core, 0xb)->ike.term.number, 9u);
    cr_assert(barrier_of(at(c, 3), 7) && barrier_of(at(c, 3), 7)->superseded);
    cluster_free(c);
}

Test(sync_repair, a_healed_partition_has_both_sides)
{
    struct cluster *c = cluster_new(4);

    start_all(c);
    settle(c);
    for (uint16_t a = 1; a <= 2; a++)
        at(c, a)->cut_from[3] = at(c, a)->cut_from[4] = true;
    run(c, 700);
    cr_assert(!sync_member_live(at(c, 1)->core, 4));
    put(c, 1, 1, sample_ike(0x11, 1), NULL, NULL);
    put(c, 3, 2, sample_ike(0x33, 3), NULL, NULL);
    run(c, 5);
    cr_assert(!barrier_of(at(c, 1), 1)->timed_out); /* only the reachable are waited for */
    cr_assert(!barrier_of(at(c, 3), 2)->timed_out);
    for (uint16_t a = 1; a <= 2; a++)
        memset(at(c, a)->cut_from, 0, sizeof at(c, a)->cut_from);
    run(c, 300);
    for (uint16_t slot = 1; slot <= 4; slot++) {
        cr_assert_not_null(sync_find_ike(at(c, slot)->core, 0x11));
        cr_assert_not_null(sync_find_ike(at(c, slot)->core, 0x33));
    }
    cr_assert(same_digests(c));
    cluster_free(c);
}

Test(sync_repair, being_synced_is_lost_with_what_one_lacks_for_long)
{
    struct cluster *c = cluster_new(2);

    start_all(c);
    settle(c);
    at(c, 1)->answers_nobody = true;
    at(c, 2)->deaf_to[1] = true;
    put(c, 1, 0, sample_child(0x400100, 5), NULL, NULL);
    run(c, 2);
    at(c, 2)->deaf_to[1] = false;
    run(c, 900);
    cr_assert(sync_is_synced(at(c, 2)->core), "a short lack is no lack");
    run(c, 400);
    cr_assert(!sync_is_synced(at(c, 2)->core));
    cr_assert_lt(at(c, 2)->n_requests, 40u, "asking goes on, not in haste");
    at(c, 1)->answers_nobody = false;
    settle(c);
    cr_assert(same_digests(c));
    cluster_free(c);
}

/* ---- restart ---- */

Test(sync_repair, a_restarted_node_has_its_records_and_is_another_incarnation)
{
    struct cluster *c = cluster_new(3);
    struct id128 before, after;

    start_all(c);
    settle(c);
    put(c, 1, 1, sample_ike(0xabc, 5), sample_child(0x400100, 5), NULL);
    run(c, 5);
    before = sync_incarnation(at(c, 1)->core);
    kill_node(c, 1);
    run(c, 100);
    put(c, 2, 0, sample_ike(0xdef, 6), NULL, NULL); /* while it is away */
    run(c, 50);
    start(c, 1);
    after = sync_incarnation(at(c, 1)->core);
    cr_assert(!id128_equal(&before, &after));
    cr_assert_not_null(record_of(at(c, 1), RECORD_CHILD, 0x400100), "installed from the journal");
    settle(c);
    cr_assert_not_null(sync_find_ike(at(c, 1)->core, 0xdef));
    cr_assert_lt(stats_of(c, 1).records_in, 3u, "the journal's vector spares the rest");
    cr_assert_eq(member_of(c, 2, 1).state, MEMBER_JOINING);
    run(c, 20);
    after = member_of(c, 2, 1).incarnation;
    cr_assert(!id128_equal(&before, &after));
    put(c, 1, 9, sample_ike(0x999, 9), NULL, NULL);
    run(c, 3);
    cr_assert(barrier_of(at(c, 1), 9) && !barrier_of(at(c, 1), 9)->timed_out);
    cr_assert(same_digests(c));
    cluster_free(c);
}

/* What the dead node had acknowledged but not journalled is had from the others. */
Test(sync_repair, an_unwritten_journal_is_made_good_by_the_others)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    put(c, 1, 1, sample_ike(0xabc, 5), NULL, NULL);
    run(c, 5);
    kill_node(c, 2);
    memory_disk_free(at(c, 2)->disk);
    at(c, 2)->disk = memory_disk_new();
    start(c, 2);
    settle(c);
    cr_assert_not_null(sync_find_ike(at(c, 2)->core, 0xabc));
    cr_assert(same_digests(c));
    cluster_free(c);
}

Test(sync_repair, an_owner_may_resume_its_sa_at_a_higher_term)
{
    struct cluster *c = cluster_new(2);
    struct record *r;

    start_all(c);
    settle(c);
    put(c, 1, 1, sample_ike(0xabc, 5), NULL, NULL);
    run(c, 5);
    kill_node(c, 1);
    run(c, 50);
    start(c, 1);
    settle(c);
    r = record_clone(sync_find_ike(at(c, 1)->core, 0xabc));
    r->ike.term = (struct term){r->ike.term.number + 1, 1, sync_incarnation(at(c, 1)->core)};
    r->ike.revision = 1;
    put(c, 1, 2, r, NULL, NULL);
    run(c, 3);
    cr_assert(!barrier_of(at(c, 1), 2)->superseded && !barrier_of(at(c, 1), 2)->timed_out);
    cr_assert_eq(sync_find_ike(at(c, 2)->core, 0xabc)->ike.term.number, 2u);
    cluster_free(c);
}

/* ---- synced ---- */

/* The first one heard may know nothing: with one member missing, a while must pass. */
Test(sync_repair, synced_gives_the_missing_some_time)
{
    struct cluster *c = cluster_new(3);

    start(c, 1);
    start(c, 2);
    run(c, 500);
    cr_assert(!sync_is_synced(at(c, 1)->core));
    run(c, 700);
    cr_assert(sync_is_synced(at(c, 1)->core));
    cluster_free(c);
}

Test(sync_repair, nobody_is_synced_alone)
{
    struct cluster *c = cluster_new(3);

    start(c, 1);
    run(c, 5000);
    cr_assert(!sync_is_synced(at(c, 1)->core));
    cr_assert_eq(sync_epoch(at(c, 1)->core), 0u);
    cluster_free(c);
}

/* ---- epochs ---- */

Test(sync_epoch, a_single_member_has_its_journal_alone)
{
    struct cluster *c = cluster_new(1);

    start(c, 1);
    run(c, 3);
    cr_assert_eq(at(c, 1)->epoch, 1u);
    cr_assert(sync_is_synced(at(c, 1)->core));
    kill_node(c, 1);
    start(c, 1);
    run(c, 3);
    cr_assert_eq(at(c, 1)->epoch, 2u);
    cluster_free(c);
}

Test(sync_epoch, no_epoch_before_it_is_durable)
{
    struct cluster *c = cluster_new(1);

    start(c, 1);
    at(c, 1)->disk_held = true;
    run(c, 100);
    cr_assert_eq(sync_epoch(at(c, 1)->core), 0u);
    cr_assert_eq(at(c, 1)->n_epochs, 0u);
    at(c, 1)->disk_held = false;
    run(c, 2);
    cr_assert_eq(sync_epoch(at(c, 1)->core), 1u);
    cluster_free(c);
}

/* Until its earlier life is dead for certain: dead_ms. */
Test(sync_epoch, who_restarts_waits_for_its_earlier_life_to_be_dead)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    for (uint32_t life = 2; life <= 4; life++) {
        kill_node(c, 2);
        run(c, 10);
        start(c, 2);
        run(c, 300);
        cr_assert_eq(at(c, 2)->epoch, 0u);
        cr_assert_str_eq(sync_epoch_obstacle(at(c, 2)->core), "slot_in_use");
        run(c, 500);
        cr_assert_eq(at(c, 2)->epoch, life);
        settle(c);
    }
    cluster_free(c);
}

Test(sync_epoch, three_need_both_others)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    kill_node(c, 3);
    run(c, 600);
    kill_node(c, 2);
    run(c, 600);
    start(c, 2);
    run(c, 2000);
    cr_assert_eq(at(c, 2)->epoch, 0u);
    cr_assert_str_eq(sync_epoch_obstacle(at(c, 2)->core), "epoch_quorum_missing");
    cr_assert(sync_is_synced(at(c, 2)->core), "it may negotiate, in epoch 0");
    start(c, 3);
    settle(c);
    cr_assert_eq(at(c, 2)->epoch, 2u);
    cr_assert_eq(at(c, 3)->epoch, 2u);
    cluster_free(c);
}

Test(sync_epoch, five_need_three_of_the_four)
{
    struct cluster *c = cluster_new(5);

    start_all(c);
    settle(c);
    kill_node(c, 5);
    kill_node(c, 4);
    run(c, 600);
    start(c, 4);
    settle(c);
    cr_assert_eq(at(c, 4)->epoch, 2u);
    kill_node(c, 4);
    kill_node(c, 3);
    run(c, 600);
    start(c, 4);
    run(c, 2000);
    cr_assert_eq(at(c, 4)->epoch, 0u, "two of four are no majority");
    cluster_free(c);
}

Test(sync_epoch, the_next_one_is_granted_beside_the_present_one)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    give(c, 1, &(struct sync_event){.kind = SYNC_EV_EPOCH});
    run(c, 200);
    cr_assert_eq(at(c, 1)->epoch, 2u);
    cr_assert_eq(at(c, 1)->n_epochs, 2u);
    cr_assert_eq(at(c, 2)->epoch, 1u);
    cluster_free(c);
}

/* What a grantor promised is on its disk before it votes. */
Test(sync_epoch, no_grant_without_the_grantors_disk)
{
    struct cluster *c = cluster_new(2);

    start_all(c);
    settle(c);
    kill_node(c, 2);
    run(c, 600);
    at(c, 1)->disk_held = true;
    start(c, 2);
    run(c, 2000);
    cr_assert_eq(at(c, 2)->epoch, 0u);
    at(c, 1)->disk_held = false;
    settle(c);
    cr_assert_eq(at(c, 2)->epoch, 2u);
    cluster_free(c);
}

/* The disk is lost; the others remember, even through their own restart. */
Test(sync_epoch, a_lost_disk_goes_on_above_what_others_saw)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    for (int life = 0; life < 3; life++) {
        kill_node(c, 2);
        start(c, 2);
        settle(c);
    }
    cr_assert_eq(at(c, 2)->epoch, 4u);
    run(c, 20);
    for (uint16_t slot = 1; slot <= 3; slot++)
        kill_node(c, slot);
    memory_disk_free(at(c, 2)->disk);
    at(c, 2)->disk = memory_disk_new();
    start_all(c);
    run(c, 1);
    cr_assert_eq(at(c, 2)->epoch, 0u);
    settle(c);
    cr_assert_eq(at(c, 2)->epoch, 5u);
    cluster_free(c);
}

/* A journal that was rolled back grants too low a number: the others' memory lifts it. */
Test(sync_epoch, a_rolled_back_journal_is_lifted)
{
    struct cluster *c = cluster_new(2);

    start_all(c);
    settle(c);
    for (int life = 0; life < 3; life++) {
        kill_node(c, 2);
        start(c, 2);
        settle(c);
    }
    run(c, 20);
    kill_node(c, 2);
    memory_disk_free(at(c, 2)->disk);
    at(c, 2)->disk = memory_disk_new(); /* the disk as it was in its first life */
    {
        struct store_options o = {.cluster = "lab", .slot = 2};
        struct sync_batch *b = calloc(1, sizeof *b);
        struct sync_recovery r;
        struct store *s;
        b->ticket = 1;
        b->epoch = 1;
        cr_assert_eq(store_memory_open(at(c, 2)->disk, &o, &s, &r), 0);
        store_recovery_free(&r);
        s->ops->submit(s, b);
        s->ops->close(s);
    }
    start(c, 2);
    run(c, 1500);
    cr_assert_eq(sync_epoch(at(c, 2)->core), 5u);
    cr_assert_eq(at(c, 2)->epoch, 5u);
    cluster_free(c);
}
