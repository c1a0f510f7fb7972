/* Who is told that a record is applied: its maker at once, all others with what is announced
 * anyway. At 16 members an SA would otherwise cost each of them 15 Announces. */
#include <criterion/criterion.h>

#include "sync/core.h"
#include "tests/unit/sync/harness.h"

static struct cluster *settled(void)
{
    struct cluster *c = cluster_new(4);

    start_all(c);
    settle(c);
    run(c, 2 * ANNOUNCE_EVERY_MS);
    for (uint16_t slot = 1; slot <= 4; slot++)
        memset(at(c, slot)->n_to, 0, sizeof at(c, slot)->n_to);
    return c;
}

static bool opened(struct cluster *c, uint16_t slot, uint64_t barrier)
{
    const struct seen_barrier *b = barrier_of(at(c, slot), barrier);

    return b && !b->timed_out && !b->superseded;
}

Test(sync_acks, the_maker_alone_hears_at_once_that_its_records_are_applied)
{
    struct cluster *c = settled();

    put(c, 1, 7, sample_child(0x400100, 5), NULL, NULL);
    run(c, 3); /* the Update, then three acknowledgements */
    cr_assert(opened(c, 1, 7));
    for (uint16_t slot = 2; slot <= 4; slot++)
        for (uint16_t to = 1; to <= 4; to++)
            cr_assert_eq(at(c, slot)->n_to[to], to == 1 ? 1u : 0u, "%u to %u", slot, to);
    cluster_free(c);
}

Test(sync_acks, several_makers_in_one_turn_share_an_announce_to_all)
{
    struct cluster *c = settled();
    size_t published;

    at(c, 3)->deaf_to[1] = at(c, 3)->deaf_to[2] = true;
    put(c, 1, 7, sample_child(0x400100, 5), NULL, NULL);
    put(c, 2, 8, sample_child(0x800100, 5), NULL, NULL);
    published = at(c, 3)->n_published;
    for (uint16_t maker = 1; maker <= 2; maker++)
        give(c, 3,
             &(struct sync_event){.kind = SYNC_EV_FRAME,
                                  .more = true,
                                  .bytes = {c->last_frame[maker], c->last_frame_n[maker]}});
    give(c, 3, &(struct sync_event){.kind = SYNC_EV_FLUSH});
    cr_assert_eq(at(c, 3)->n_published - published, 1u);
    cr_assert(at(c, 3)->n_to[1] == 0 && at(c, 3)->n_to[2] == 0);
    run(c, 3);
    cr_assert(opened(c, 1, 7) && opened(c, 2, 8));
    cluster_free(c);
}

/* Nothing depends on who was told first. */
Test(sync_acks, the_others_hear_of_it_with_the_next_announce)
{
    struct cluster *c = settled();

    put(c, 1, 0, sample_child(0x400100, 5), NULL, NULL);
    run(c, ANNOUNCE_EVERY_MS + 20);
    for (uint16_t slot = 1; slot <= 4; slot++)
        for (uint16_t other = 1; other <= 4; other++)
            cr_assert_eq(member_of(c, slot, other).lag_records, 0u, "%u of %u", slot, other);
    cr_assert(same_digests(c));
    cluster_free(c);
}

/* ---- persistent laggards ---- */

static bool is_laggard(const struct cluster *c, uint16_t slot, uint16_t other)
{
    return member_of(c, slot, other).laggard;
}

/* Nothing that `makers` publish reaches 3, and nobody answers its questions. */
static void starve(struct cluster *c, bool hears_2, bool begin)
{
    at(c, 3)->deaf_to[1] = at(c, 3)->deaf_to[4] = begin;
    at(c, 3)->deaf_to[2] = begin && !hears_2;
    at(c, 1)->answers_nobody = at(c, 2)->answers_nobody = at(c, 4)->answers_nobody = begin;
}

static void a_laggard_is_passed(bool hears_2)
{
    struct cluster *c = settled();

    for (uint16_t slot = 1; slot <= 4; slot++)
        sync_set_ready(at(c, slot)->core, true);
    starve(c, hears_2, true);
    put(c, 1, 7, sample_child(0x400100, 5), NULL, NULL);
    run(c, LAGGARD_MS - 200);
    cr_assert(barrier_of(at(c, 1), 7)->timed_out);
    cr_assert(!is_laggard(c, 1, 3), "not for long enough");
    run(c, 400);
    cr_assert(is_laggard(c, 1, 3));
    cr_assert_eq(stats_of(c, 1).laggings, 1u);
    cr_assert(!is_laggard(c, 1, 2) && !is_laggard(c, 1, 4));
    put(c, 1, 8, sample_child(0x400200, 5), NULL, NULL);
    run(c, 5);
    cr_assert(opened(c, 1, 8), "without 3");
    cr_assert_eq(stats_of(c, 1).barriers_short, 1u);
    cr_assert_eq(at(c, 1)->states[3], hears_2 ? MEMBER_DEGRADED : MEMBER_READY);

    starve(c, hears_2, false);
    run(c, 2 * ANNOUNCE_EVERY_MS);
    cr_assert(!is_laggard(c, 1, 3));
    cr_assert(same_digests(c));
    starve(c, hears_2, true);
    put(c, 1, 9, sample_child(0x400300, 5), NULL, NULL);
    run(c, 300);
    cr_assert(barrier_of(at(c, 1), 9)->timed_out, "it is waited for again");
    cluster_free(c);
}

Test(sync_acks, a_member_that_lags_for_long_and_knows_it_is_not_waited_for)
{
    a_laggard_is_passed(true);
}

Test(sync_acks, a_member_that_does_not_hear_us_for_long_is_not_waited_for)
{
    a_laggard_is_passed(false);
}

/* What it does not say is not known: it may be ready. */
Test(sync_acks, a_member_that_is_not_heard_is_waited_for)
{
    struct cluster *c = settled();

    starve(c, true, true);
    at(c, 1)->deaf_to[3] = true; /* 2 and 4 hear it, so it lives */
    put(c, 1, 7, sample_child(0x400100, 5), NULL, NULL);
    run(c, 2 * LAGGARD_MS);
    cr_assert(!is_laggard(c, 1, 3));
    put(c, 1, 8, sample_child(0x400200, 5), NULL, NULL);
    run(c, 300);
    cr_assert(barrier_of(at(c, 1), 8)->timed_out);
    cluster_free(c);
}

/* A slow one that keeps acknowledging is waited for, however far behind it is. */
Test(sync_acks, a_member_that_goes_on_acknowledging_is_no_laggard)
{
    struct cluster *c = settled();

    for (uint32_t i = 0; i < 40; i++) {
        at(c, 3)->deaf_to[1] = at(c, 3)->deaf_to[2] = at(c, 3)->deaf_to[4] = i % 8 != 7;
        put(c, 1, 0, sample_child(0x400100 + i, 5), NULL, NULL);
        run(c, 100);
        cr_assert(!is_laggard(c, 1, 3));
    }
    cluster_free(c);
}
