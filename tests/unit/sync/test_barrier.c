/* An answer waits until its records would survive us: our disk, the others' acks, the time-out, and
 * what takes its SA meanwhile. */
#include <criterion/criterion.h>

#include "tests/unit/sync/harness.h"

/* The IKE SA as 3 has it once it took it over. */
static struct record *taken_by_3(uint64_t spi_r, uint32_t lineage)
{
    struct record *r = sample_ike(spi_r, lineage);

    r->ike.term = (struct term){2, 3, sample_id(3)};
    return r;
}

/* PUT at 1 -> Update -> 2 and 3 install -> Announce (ack) -> barrier, with no time-out. */
Test(sync_barrier, a_group_is_installed_everywhere_before_its_barrier_opens)
{
    struct cluster *c = cluster_new(3);
    const struct seen_barrier *b;

    start_all(c);
    settle(c);
    put(c, 1, 77, sample_ike(0xabc, 5), sample_child(0x400100, 5), NULL);
    cr_assert_not_null(record_of(at(c, 1), RECORD_CHILD, 0x400100));
    cr_assert_null(barrier_of(at(c, 1), 77));
    run(c, 1); /* the Update arrives; the acks are on their way */
    for (uint16_t slot = 2; slot <= 3; slot++) {
        cr_assert_not_null(record_of(at(c, slot), RECORD_IKE, 0xabc));
        cr_assert_eq(record_of(at(c, slot), RECORD_CHILD, 0x400100)->key_bytes, 16u);
    }
    cr_assert_null(barrier_of(at(c, 1), 77));
    run(c, 1);
    b = barrier_of(at(c, 1), 77);
    cr_assert_not_null(b);
    cr_assert(!b->timed_out && !b->superseded && b->n_laggards == 0);
    cr_assert(same_digests(c));
    cr_assert_eq(stats_of(c, 1).pulls + stats_of(c, 2).pulls, 0u);
    cr_assert_eq(member_of(c, 1, 2).ike_sas, 1u);
    cluster_free(c);
}

Test(sync_barrier, a_barrier_waits_for_the_own_disk)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    at(c, 1)->disk_held = true;
    put(c, 1, 5, sample_ike(0xabc, 5), NULL, NULL);
    run(c, 100);
    cr_assert_null(barrier_of(at(c, 1), 5));
    at(c, 1)->disk_held = false;
    run(c, 2);
    cr_assert(!barrier_of(at(c, 1), 5)->timed_out);

    at(c, 1)->disk_held = true;
    put(c, 1, 6, sample_ike(0xabd, 6), NULL, NULL);
    run(c, 4000);
    cr_assert_null(barrier_of(at(c, 1), 6), "a slow disk of ours is never excused");
    at(c, 1)->disk_held = false;
    run(c, 20);
    cr_assert_not_null(barrier_of(at(c, 1), 6));
    cluster_free(c);
}

/* A disk that refuses: peers that have the records stand in for it, after the time-out. */
Test(sync_barrier, a_barrier_excuses_a_disk_that_refuses_if_a_peer_has_the_records)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    at(c, 1)->disk_broken = true;
    put(c, 1, 6, sample_ike(0xabd, 6), NULL, NULL);
    run(c, 240);
    cr_assert_null(barrier_of(at(c, 1), 6));
    run(c, 20);
    cr_assert(barrier_of(at(c, 1), 6)->timed_out);
    cr_assert_eq(barrier_of(at(c, 1), 6)->n_laggards, 1u);
    cr_assert_eq(barrier_of(at(c, 1), 6)->laggards[0], 1u);

    for (uint16_t from = 2; from <= 3; from++)
        at(c, from)->deaf_to[1] = at(c, from)->cut_from[1] = true;
    put(c, 1, 7, sample_ike(0xabe, 6), NULL, NULL);
    run(c, 4000);
    cr_assert_null(barrier_of(at(c, 1), 7), "nobody has it");
    at(c, 1)->disk_broken = false;
    run(c, 1000);
    cr_assert_not_null(barrier_of(at(c, 1), 7));
    cluster_free(c);
}

/* 3 hears 1 no more, and cannot ask either: alive for 2, silent to 1. */
Test(sync_barrier, a_barrier_times_out_and_names_the_laggard)
{
    struct cluster *c = cluster_new(3);
    const struct seen_barrier *b;

    start_all(c);
    settle(c);
    at(c, 3)->cut_from[1] = true;
    put(c, 1, 9, sample_ike(0xabc, 5), NULL, NULL);
    run(c, 249);
    cr_assert_null(barrier_of(at(c, 1), 9));
    run(c, 10);
    b = barrier_of(at(c, 1), 9);
    cr_assert_not_null(b);
    cr_assert(b->timed_out);
    cr_assert_eq(b->n_laggards, 1u);
    cr_assert_eq(b->laggards[0], 3u);
    cr_assert_eq(stats_of(c, 1).barrier_timeouts, 1u);
    cluster_free(c);
}

/* What goes to all stands still on its way to 3, as TCP does after a loss. */
Test(sync_barrier, who_holds_up_an_answer_is_told_alone)
{
    struct cluster *c = cluster_new(3);
    size_t to_2, to_3;

    start_all(c);
    settle(c);
    at(c, 3)->no_stream[1] = at(c, 3)->no_stream[2] = true;
    to_2 = at(c, 1)->n_to[2];
    to_3 = at(c, 1)->n_to[3];
    put(c, 1, 9, sample_ike(0xabc, 5), NULL, NULL);
    run(c, 49);
    cr_assert_eq(at(c, 1)->n_to[3], to_3);
    cr_assert_null(record_of(at(c, 3), RECORD_IKE, 0xabc));
    run(c, 16);
    cr_assert_eq(at(c, 1)->n_to[3], to_3 + 1);
    cr_assert_eq(at(c, 1)->n_to[2], to_2, "2 has acknowledged");
    cr_assert_eq(stats_of(c, 1).reminders, 1u);
    cr_assert_eq(stats_of(c, 3).pulls, 1u);
    cr_assert_not_null(record_of(at(c, 3), RECORD_IKE, 0xabc));
    cr_assert_not_null(barrier_of(at(c, 1), 9));
    cr_assert(!barrier_of(at(c, 1), 9)->timed_out);
    cluster_free(c);
}

Test(sync_barrier, reminders_keep_a_pace_and_end_with_the_answer)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    at(c, 3)->cut_from[1] = true;
    put(c, 1, 9, sample_ike(0xabc, 5), NULL, NULL);
    run(c, 260);
    cr_assert_not_null(barrier_of(at(c, 1), 9));
    cr_assert_geq(stats_of(c, 1).reminders, 4u);
    cr_assert_leq(stats_of(c, 1).reminders, 5u);
    run(c, 200);
    cr_assert_leq(stats_of(c, 1).reminders, 5u);
    cluster_free(c);
}

/* 1 is deaf to 3, and what goes to all stands still, too; but what it says to 3 alone arrives. To
 * ask it would be in vain; 2 has the records as well. */
Test(sync_barrier, who_is_told_alone_asks_nobody_that_is_deaf_to_it)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    at(c, 1)->unreached_by[3] = true;
    at(c, 3)->no_stream[1] = true;
    run(c, 1000);
    put(c, 1, 9, sample_ike(0xabc, 5), NULL, NULL);
    run(c, 150);
    cr_assert_geq(stats_of(c, 1).reminders, 1u);
    cr_assert_not_null(record_of(at(c, 3), RECORD_IKE, 0xabc));
    cluster_free(c);
}

/* The ack counts only once our vector covers the head announced with it. */
Test(sync_barrier, an_ack_waits_until_we_know_what_its_sender_knew)
{
    struct cluster *c = cluster_new(2);

    start_all(c);
    settle(c);
    at(c, 1)->deaf_to[2] = true;
    put(c, 2, 0, sample_ike(0x22, 22), NULL, NULL); /* 1 misses this */
    run(c, 2);
    at(c, 1)->deaf_to[2] = false;
    at(c, 2)->cut_from[1] = false;
    put(c, 1, 4, sample_ike(0x11, 11), NULL, NULL);
    for (int i = 0; i < 100 && !barrier_of(at(c, 1), 4); i++)
        run(c, 1);
    cr_assert(!barrier_of(at(c, 1), 4)->timed_out);
    cr_assert_not_null(sync_find_ike(at(c, 1)->core, 0x22),
                       "answered without what 2 had done before");
    cluster_free(c);
}

Test(sync_barrier, a_barrier_is_superseded_by_a_higher_term)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    at(c, 2)->deaf_to[1] = true; /* so that the barrier has to wait */
    at(c, 3)->deaf_to[1] = true;
    put(c, 3, 0, taken_by_3(0xabc, 5), NULL, NULL);
    put(c, 1, 8, sample_ike(0xabc, 5), NULL, NULL);
    run(c, 5);
    cr_assert_not_null(barrier_of(at(c, 1), 8));
    cr_assert(barrier_of(at(c, 1), 8)->superseded);
    cr_assert_eq(sync_find_ike(at(c, 1)->core, 0xabc)->ike.term.slot, 3u);
    cluster_free(c);
}

/* A dead member's higher term reached the one whose ack comes, but not us: the ack must not count
 * before we have that term, too. */
Test(sync_barrier, an_ack_counts_once_we_know_what_its_sender_knew)
{
    struct cluster *c = cluster_new(3);
    struct record *later = sample_ike(0xabc, 5);

    start_all(c);
    settle(c);
    put(c, 1, 0, sample_ike(0xabc, 5), NULL, NULL);
    run(c, 5);
    at(c, 1)->deaf_to[3] = true;
    at(c, 2)->answers_nobody = true; /* so that we cannot pull it from there */
    put(c, 3, 0, taken_by_3(0xabc, 5), NULL, NULL);
    run(c, 5);
    kill_node(c, 3);
    run(c, 1000);
    later->ike.revision = 2;
    put(c, 1, 9, later, NULL, NULL);
    run(c, 100);
    cr_assert_null(barrier_of(at(c, 1), 9), "it passed while the ack's sender knew better");
    at(c, 2)->answers_nobody = false;
    run(c, 100);
    cr_assert(barrier_of(at(c, 1), 9) && barrier_of(at(c, 1), 9)->superseded);
    cluster_free(c);
}

/* INITIAL_CONTACT deletes an older SA while its owner takes it up again: the answer for the new
 * one leaves all the same, for deleted wins. */
Test(sync_barrier, what_a_group_deletes_cannot_supersede_it)
{
    struct cluster *c = cluster_new(3);
    struct record *gone = sample_ike(0xabc, 5);

    start_all(c);
    settle(c);
    put(c, 1, 0, sample_ike(0xabc, 5), NULL, NULL);
    run(c, 5);
    put(c, 3, 0, taken_by_3(0xabc, 5), NULL, NULL);
    gone->ike.state = SA_DELETED;
    put(c, 1, 8, sample_ike(0xdef, 6), gone, NULL);
    run(c, 10);
    cr_assert_not_null(barrier_of(at(c, 1), 8));
    cr_assert(!barrier_of(at(c, 1), 8)->superseded);
    cr_assert(!barrier_of(at(c, 1), 8)->timed_out);
    for (uint16_t slot = 1; slot <= 3; slot++)
        cr_assert_eq(sync_find_ike(at(c, slot)->core, 0xabc)->ike.state, SA_DELETED);
    cluster_free(c);
}

/* Our own later revision is no other's: the earlier answer may leave. */
Test(sync_barrier, a_later_revision_of_ours_does_not_supersede)
{
    struct cluster *c = cluster_new(2);
    struct record *later = sample_ike(0xabc, 5);

    start_all(c);
    settle(c);
    later->ike.revision = 2;
    put(c, 1, 1, sample_ike(0xabc, 5), NULL, NULL);
    put(c, 1, 2, later, NULL, NULL);
    run(c, 3);
    cr_assert(barrier_of(at(c, 1), 1) && !barrier_of(at(c, 1), 1)->superseded);
    cr_assert(barrier_of(at(c, 1), 2) && !barrier_of(at(c, 1), 2)->superseded);
    cluster_free(c);
}

/* Of many that wait, those alone whose SA is taken end at once, wherever they stand. */
Test(sync_barrier, what_is_overtaken_leaves_the_middle_of_the_queue)
{
    enum { MANY = 50 };
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    at(c, 2)->deaf_to[1] = at(c, 3)->deaf_to[1] = true;
    at(c, 1)->answers_nobody = true;
    for (uint32_t i = 0; i < MANY; i++)
        put(c, 1, 100 + i, sample_ike(0xa00 + i, 5 + i), NULL, NULL);
    for (uint32_t i = 10; i < MANY; i += 10)
        put(c, 3, 0, taken_by_3(0xa00 + i, 5 + i), NULL, NULL);
    run(c, 3);
    for (uint32_t i = 0; i < MANY; i++) {
        const struct seen_barrier *b = barrier_of(at(c, 1), 100 + i);
        if (i && i % 10 == 0)
            cr_assert(b && b->superseded, "%u", i);
        else
            cr_assert_null(b, "%u", i);
    }
    run(c, 260); /* barrier_timeout_ms */
    for (uint32_t i = 0; i < MANY; i++)
        cr_assert(barrier_of(at(c, 1), 100 + i)->timed_out == (i == 0 || i % 10 != 0));
    cluster_free(c);
}

/* What took the SA may have come before the answer was held back. */
Test(sync_barrier, what_is_overtaken_from_the_start_ends_at_once)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    at(c, 2)->deaf_to[1] = at(c, 3)->deaf_to[1] = true;
    put(c, 1, 7, sample_ike(0xdef, 6), NULL, NULL); /* stands before it in the queue */
    put(c, 3, 0, taken_by_3(0xabc, 5), NULL, NULL);
    run(c, 2);
    put(c, 1, 8, sample_ike(0xabc, 5), NULL, NULL);
    run(c, 1);
    cr_assert_null(barrier_of(at(c, 1), 7));
    cr_assert(barrier_of(at(c, 1), 8) && barrier_of(at(c, 1), 8)->superseded);
    cluster_free(c);
}
