/* The story of a record: published, installed everywhere, acknowledged, answered for. */
#include <criterion/criterion.h>
#include <string.h>

#include "sync/core.h"
#include "tests/unit/sync/harness.h"

Test(sync_core, three_new_nodes_find_each_other)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    cr_assert(!sync_is_synced(at(c, 1)->core));
    settle(c);
    cr_assert_leq(c->now.mono_us, 1000000u + 30000, "settled after %lu us",
                  c->now.mono_us - 1000000);
    run(c, 2); /* the epochs are announced */
    for (uint16_t slot = 1; slot <= 3; slot++) {
        cr_assert_eq(at(c, slot)->epoch, 1u);
        for (uint16_t other = 1; other <= 3; other++)
            cr_assert(sync_member_live(at(c, slot)->core, other));
        cr_assert_eq(stats_of(c, slot).refused_by_reason[REFUSED_AUTH], 0u);
    }
    cr_assert_str_eq(member_of(c, 1, 3).name, "n3");
    cr_assert_eq(member_of(c, 1, 3).epoch, 1u);
    cluster_free(c);
}

Test(sync_core, deletion_reaches_all_and_wins_over_what_comes_late)
{
    struct cluster *c = cluster_new(3);
    struct record *gone = sample_child(0x400100, 5), *again = sample_child(0x400100, 5);

    start_all(c);
    settle(c);
    put(c, 1, 0, sample_ike(0xabc, 5), sample_child(0x400100, 5), NULL);
    run(c, 5);
    gone->child.state = SA_DELETED;
    put(c, 2, 0, gone, NULL, NULL);
    run(c, 5);
    again->child.confirmed = true; /* 3 has not heard... it has: nothing revives it */
    put(c, 3, 0, again, NULL, NULL);
    run(c, 5);
    for (uint16_t slot = 1; slot <= 3; slot++) {
        cr_assert_eq(record_of(at(c, slot), RECORD_CHILD, 0x400100)->state, SA_DELETED);
        cr_assert_eq(record_of(at(c, slot), RECORD_CHILD, 0x400100)->key_bytes, 0u);
        cr_assert_eq(sync_find_child(at(c, slot)->core, 0x400100)->child.state, SA_DELETED);
    }
    cr_assert(same_digests(c));
    cr_assert_eq(member_of(c, 3, 1).child_sas, 0u);
    cluster_free(c);
}

/* The SA of a lineage goes, and with it children that its deleter had never heard of. */
Test(sync_core, a_deleted_lineage_deletes_its_children_wherever_they_were_made)
{
    struct cluster *c = cluster_new(3);
    struct record *gone = sample_ike(0xabc, 5);

    start_all(c);
    settle(c);
    put(c, 1, 0, sample_ike(0xabc, 5), sample_child(0x400100, 5), sample_child(0x400300, 6));
    run(c, 5);
    for (uint16_t other = 1; other <= 2; other++)
        at(c, 3)->cut_from[other] = true;
    put(c, 3, 0, sample_child(0x400200, 5), NULL, NULL); /* during the partition */
    gone->ike.state = SA_DELETED;
    gone->ike.lineage_over = true;
    put(c, 1, 0, gone, NULL, NULL);
    run(c, 2500);
    cr_assert_eq(record_of(at(c, 2), RECORD_CHILD, 0x400100)->state, SA_DELETED);
    memset(at(c, 3)->cut_from, 0, sizeof at(c, 3)->cut_from);
    run(c, 2500);
    for (uint16_t slot = 1; slot <= 3; slot++) {
        cr_assert_eq(record_of(at(c, slot), RECORD_CHILD, 0x400100)->state, SA_DELETED);
        cr_assert_eq(record_of(at(c, slot), RECORD_CHILD, 0x400200)->state, SA_DELETED);
        cr_assert_eq(record_of(at(c, slot), RECORD_CHILD, 0x400300)->state, SA_INSTALLED);
    }
    cr_assert(same_digests(c));
    cluster_free(c);
}

/* After an IKE rekey the old SA's tombstone may come before the new SA's record, which has changed
 * since: whoever joins late must not take the Child SAs for orphans. */
Test(sync_core, a_late_joiner_keeps_the_children_of_a_rekeyed_ike_sa)
{
    struct cluster *c = cluster_new(3);
    struct record *old = sample_ike(0xabc, 5), *changed = sample_ike(0xdef, 5);

    start_all(c);
    settle(c);
    put(c, 1, 0, sample_ike(0xabc, 5), sample_child(0x400100, 5), NULL);
    run(c, 5);
    kill_node(c, 3);
    put(c, 1, 0, sample_ike(0xdef, 5), NULL, NULL);
    old->ike.state = SA_DELETED;
    put(c, 1, 0, old, NULL, NULL);
    changed->ike.revision++; /* moves behind the tombstone in the log */
    put(c, 1, 0, changed, sample_child(0x400200, 5), NULL);
    run(c, 5);
    start(c, 3);
    run(c, 3000);
    for (uint16_t slot = 1; slot <= 3; slot++)
        for (uint32_t spi = 0x400100; spi <= 0x400200; spi += 0x100) {
            const struct record *r = sync_find_child(at(c, slot)->core, spi);
            cr_assert(r && r->child.state == SA_INSTALLED, "node %u", slot);
        }
    cr_assert(same_digests(c));
    cluster_free(c);
}

/* The old SA of an IKE rekey goes before its successor is known here: from the journal, or from
 * another log, since an adopter writes the successor anew. The children live on. */
Test(sync_core, a_rekeyed_ike_sa_takes_no_children_along_in_whatever_order)
{
    struct cluster *c = cluster_new(2);
    struct record *old = sample_ike(0xabc, 5);

    start_all(c);
    settle(c);
    old->ike.state = SA_DELETED;
    put(c, 1, 0, old, sample_child(0x400100, 5), NULL);
    run(c, 100);
    put(c, 2, 0, sample_ike(0xdef, 5), NULL, NULL);
    run(c, 100);
    for (uint16_t slot = 1; slot <= 2; slot++)
        cr_assert_eq(record_of(at(c, slot), RECORD_CHILD, 0x400100)->state, SA_INSTALLED);
    cr_assert(same_digests(c));
    cluster_free(c);
}

/* What is deleted with its IKE SA is published, for those who hear of the IKE SA otherwise. */
Test(sync_core, children_deleted_with_their_ike_sa_are_news_of_their_own)
{
    struct cluster *c = cluster_new(2);
    struct record *gone = sample_ike(0xabc, 5), *child = sample_child(0x400100, 5);
    uint64_t head;

    start_all(c);
    settle(c);
    put(c, 1, 0, sample_ike(0xabc, 5), sample_child(0x400100, 5), NULL);
    head = member_of(c, 1, 1).head;
    gone->ike.state = child->child.state = SA_DELETED;
    gone->ike.lineage_over = true;
    put(c, 1, 0, gone, child, NULL);
    cr_assert_eq(member_of(c, 1, 1).head, head + 2);
    cluster_free(c);
}

/* Both sides learn something of one SA: the join is a third record, and all end with it. */
Test(sync_core, a_join_that_differs_from_both_is_published)
{
    struct cluster *c = cluster_new(3);
    struct record *confirmed = sample_child(0x400100, 5), *rekeyed = sample_child(0x400100, 5);

    start_all(c);
    settle(c);
    put(c, 1, 0, sample_child(0x400100, 5), NULL, NULL);
    run(c, 5);
    at(c, 1)->cut_from[2] = true;
    confirmed->child.confirmed = true;
    rekeyed->child.rekeyed = true;
    put(c, 1, 0, confirmed, NULL, NULL);
    put(c, 2, 0, rekeyed, NULL, NULL);
    run(c, 300);
    for (uint16_t slot = 1; slot <= 3; slot++) {
        const struct record *r = sync_find_child(at(c, slot)->core, 0x400100);
        cr_assert(r->child.confirmed && r->child.rekeyed, "node %u", slot);
    }
    cr_assert(same_digests(c));
    cluster_free(c);
}

Test(sync_core, expired_records_leave_and_are_never_installed)
{
    struct cluster *c = cluster_new(2);
    struct record *brief = sample_child(0x400100, 5), *stale = sample_child(0x400200, 5);

    start_all(c);
    settle(c);
    brief->child.not_after_ms = c->now.wall_ms + 2000;
    stale->child.not_after_ms = c->now.wall_ms - 1;
    put(c, 1, 3, brief, stale, NULL);
    run(c, 5);
    cr_assert(!barrier_of(at(c, 1), 3)->timed_out);
    cr_assert_null(record_of(at(c, 1), RECORD_CHILD, 0x400200));
    cr_assert_not_null(sync_find_child(at(c, 2)->core, 0x400100));
    run(c, 4000);
    for (uint16_t slot = 1; slot <= 2; slot++) {
        cr_assert_null(sync_find_child(at(c, slot)->core, 0x400100));
        cr_assert_eq(record_of(at(c, slot), RECORD_CHILD, 0x400100)->state, SA_DELETED);
    }
    cr_assert_eq(member_of(c, 1, 1).child_sas, 0u);
    cluster_free(c);
}

/* A record that peers would refuse is not let into the log, where it would block all after it. */
Test(sync_core, a_malformed_record_of_our_own_is_dropped)
{
    struct cluster *c = cluster_new(2);
    struct record *bad = sample_child(0x400100, 5);

    start_all(c);
    settle(c);
    bad->child.encr_in.n = 5;
    put(c, 1, 3, bad, sample_ike(0xabc, 5), NULL);
    run(c, 5);
    cr_assert(!barrier_of(at(c, 1), 3)->timed_out);
    cr_assert_null(record_of(at(c, 1), RECORD_CHILD, 0x400100));
    cr_assert_not_null(sync_find_ike(at(c, 2)->core, 0xabc));
    cluster_free(c);
}

Test(sync_core, a_forwarded_datagram_reaches_its_destination_alone)
{
    struct cluster *c = cluster_new(3);
    static const uint8_t datagram[600];
    struct sync_event ev = {.kind = SYNC_EV_FORWARD};
    uint64_t refused;

    start_all(c);
    settle(c);
    refused = stats_of(c, 2).frames_refused;
    ev.forward.to_slot = 3;
    ev.forward.datagram = (struct slice){datagram, sizeof datagram};
    cr_assert(endpoint_parse("192.0.2.1:500", &ev.forward.local));
    cr_assert(endpoint_parse("198.51.100.7:500", &ev.forward.peer));
    give(c, 1, &ev);
    run(c, 50);
    cr_assert_eq(at(c, 3)->n_forwarded, 1u);
    cr_assert_eq(at(c, 3)->forwarded_bytes, 600u);
    cr_assert_eq(at(c, 2)->n_forwarded, 0u);
    cr_assert_eq(stats_of(c, 2).frames_refused, refused, "not for it is not against it");
    cluster_free(c);
}

static struct sync_activity *activity_of(bool answer, uint16_t slot)
{
    struct sync_activity *a = calloc(1, sizeof *a);

    *a = (struct sync_activity){.slot = slot, .answer = answer, .round = 9, .n = 1};
    a->spi_in[0] = 0x400100;
    a->age_ms[0] = 1500;
    return a;
}

Test(sync_core, everyone_is_asked_when_a_peer_was_heard_and_who_asked_is_answered)
{
    struct cluster *c = cluster_new(3);
    struct sync_event ev = {.kind = SYNC_EV_ACTIVITY, .activity = activity_of(false, 0)};

    start_all(c);
    settle(c);
    give(c, 1, &ev);
    run(c, 50);
    for (uint16_t slot = 2; slot <= 3; slot++) {
        cr_assert_eq(at(c, slot)->n_activities, 1u);
        cr_assert(!at(c, slot)->activity.answer);
        cr_assert_eq(at(c, slot)->activity.slot, 1, "who asked");
        cr_assert_eq(at(c, slot)->activity.spi_in[0], 0x400100u);
    }
    ev.activity = activity_of(true, 1);
    give(c, 3, &ev);
    run(c, 50);
    cr_assert_eq(at(c, 1)->n_activities, 1u);
    cr_assert(at(c, 1)->activity.answer);
    cr_assert_eq(at(c, 1)->activity.slot, 3, "who answered");
    cr_assert_eq(at(c, 1)->activity.round, 9u);
    cr_assert_eq(at(c, 1)->activity.age_ms[0], 1500u);
    cr_assert_eq(at(c, 2)->n_activities, 1u, "the answer is not for it");
    cluster_free(c);
}

Test(sync_core, a_moved_peer_is_told_to_the_owner_alone)
{
    struct cluster *c = cluster_new(3);
    struct sync_event ev = {.kind = SYNC_EV_MOVED, .moved = {.to_slot = 3, .spi_in = 0x400100}};

    start_all(c);
    settle(c);
    cr_assert(endpoint_parse("198.51.100.7:1024", &ev.moved.peer));
    give(c, 1, &ev);
    run(c, 50);
    cr_assert_eq(at(c, 3)->n_moved, 1u);
    cr_assert_eq(at(c, 3)->moved.spi_in, 0x400100u);
    cr_assert(endpoint_equal(&at(c, 3)->moved.peer, &ev.moved.peer));
    cr_assert_eq(at(c, 2)->n_moved, 0u);
    ev.moved.to_slot = 1;
    give(c, 1, &ev);
    run(c, 50);
    cr_assert_eq(at(c, 1)->n_moved, 0u, "not to ourselves");
    cluster_free(c);
}

/* ---- endpoints: where a peer moved to ---- */

static struct record *expiring_child(const struct cluster *c, int64_t life_ms)
{
    struct record *r = sample_child(0x400100, 5);

    r->child.created_ms = c->now.wall_ms;
    r->child.not_after_ms = c->now.wall_ms + life_ms;
    return r;
}

static bool endpoint_everywhere(struct cluster *c, uint64_t move)
{
    for (uint16_t slot = 1; slot <= c->n; slot++) {
        const struct record *r = sync_find_endpoint(at(c, slot)->core, 0x400100);

        if (move ? !r || r->endpoint.move != move : r != NULL)
            return false;
    }
    return true;
}

Test(sync_core, an_endpoint_ends_with_its_child)
{
    struct cluster *c = cluster_new(2);
    struct record *tombstone;

    start_all(c);
    settle(c);
    put(c, 1, 0, sample_endpoint(0x400100, 1), NULL, NULL); /* before its Child SA */
    put(c, 2, 0, expiring_child(c, 60000), NULL, NULL);
    put(c, 2, 0, sample_endpoint(0x400100, 2), NULL, NULL);
    run(c, 50);
    cr_assert(endpoint_everywhere(c, 2));
    cr_assert(same_digests(c));
    kill_node(c, 2);
    start(c, 2);
    settle(c);
    cr_assert(endpoint_everywhere(c, 2), "a restart keeps it");
    tombstone = expiring_child(c, 60000);
    tombstone->child.state = SA_DELETED;
    put(c, 1, 0, tombstone, NULL, NULL);
    run(c, 50);
    cr_assert(endpoint_everywhere(c, 0));
    put(c, 2, 0, sample_endpoint(0x400100, 3), NULL, NULL);
    run(c, 50);
    cr_assert(endpoint_everywhere(c, 0), "nor does a late one come in");
    cr_assert(same_digests(c));
    kill_node(c, 1);
    start(c, 1);
    settle(c);
    cr_assert(endpoint_everywhere(c, 0), "nor out of the journal");
    cluster_free(c);
}

Test(sync_core, an_endpoint_expires_with_its_child)
{
    struct cluster *c = cluster_new(2);

    start_all(c);
    settle(c);
    put(c, 1, 0, sample_endpoint(0x400100, 1), NULL, NULL);
    put(c, 1, 0, expiring_child(c, 2000), NULL, NULL);
    run(c, 50);
    cr_assert(endpoint_everywhere(c, 1));
    run(c, 4000);
    cr_assert(endpoint_everywhere(c, 0));
    cr_assert_null(table_find(at(c, 1)->core->table, RECORD_ENDPOINT, 0x400100));
    cr_assert(same_digests(c));
    cluster_free(c);
}

Test(sync_core, the_newest_ike_sa_of_a_lineage)
{
    struct cluster *c = cluster_new(1);
    struct record *old = sample_ike(0xaaa, 5), *fresh = sample_ike(0xbbb, 5);
    struct id128 lineage = sample_id(5), other = sample_id(6);

    start_all(c);
    settle(c);
    fresh->ike.created_ms = old->ike.created_ms + 1;
    put(c, 1, 0, old, fresh, sample_ike(0xccc, 6));
    cr_assert_eq(ike_record_spi(&sync_find_lineage_ike(at(c, 1)->core, &lineage)->ike), 0xbbbu);
    fresh = sample_ike(0xbbb, 5);
    fresh->ike.state = SA_DELETED;
    put(c, 1, 0, fresh, NULL, NULL);
    cr_assert_eq(ike_record_spi(&sync_find_lineage_ike(at(c, 1)->core, &lineage)->ike), 0xaaau);
    cr_assert_eq(ike_record_spi(&sync_find_lineage_ike(at(c, 1)->core, &other)->ike), 0xcccu);
    other = sample_id(7);
    cr_assert_null(sync_find_lineage_ike(at(c, 1)->core, &other));
    cluster_free(c);
}

/* One turn of many events lets out one Update, one batch, one Announce. */
Test(sync_core, a_turn_shares_its_output)
{
    struct cluster *c = cluster_new(2);
    size_t published, acks;

    start_all(c);
    settle(c);
    run(c, 20);
    published = at(c, 1)->n_published;
    acks = at(c, 2)->n_published;
    for (uint32_t i = 0; i < 50; i++) {
        struct record *r = sample_child(0x400100 + i, i);
        struct sync_event ev = {
            .kind = SYNC_EV_PUT, .group = &r, .n_group = 1, .more = true, .barrier = i + 1};
        give(c, 1, &ev);
    }
    cr_assert_eq(at(c, 1)->n_published, published);
    give(c, 1, &(struct sync_event){.kind = SYNC_EV_FLUSH});
    cr_assert_leq(at(c, 1)->n_published - published, 2u);
    run(c, 2);
    cr_assert_leq(at(c, 2)->n_published - acks, 2u);
    cr_assert_eq(at(c, 1)->n_barriers, 50u);
    cluster_free(c);
}

Test(sync_core, silence_is_announced_and_a_silent_member_dies)
{
    struct cluster *c = cluster_new(3);
    size_t before;

    start_all(c);
    settle(c);
    before = at(c, 1)->n_published;
    run(c, 1000);
    cr_assert_geq(at(c, 1)->n_published - before, 9u);
    cr_assert_leq(at(c, 1)->n_published - before, 13u);
    kill_node(c, 3);
    run(c, 400);
    cr_assert(sync_member_live(at(c, 1)->core, 3));
    run(c, 220);
    cr_assert(!sync_member_live(at(c, 1)->core, 3));
    cr_assert_eq(at(c, 1)->states[3], MEMBER_DEAD);
    cr_assert_eq(member_of(c, 1, 3).state, MEMBER_DEAD);
    put(c, 1, 4, sample_ike(0xabc, 5), NULL, NULL); /* the dead hold nobody up */
    run(c, 3);
    cr_assert(barrier_of(at(c, 1), 4) && !barrier_of(at(c, 1), 4)->timed_out);
    cluster_free(c);
}

/* 1 and 3 hear each other no more, but 2 hears both: nobody is dead. */
Test(sync_core, a_member_lives_while_any_live_member_hears_it)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    at(c, 1)->cut_from[3] = true;
    run(c, 2000);
    cr_assert(sync_member_live(at(c, 1)->core, 3));
    cr_assert(sync_member_live(at(c, 3)->core, 1));
    kill_node(c, 3);
    run(c, 1100); /* what 2 last heard ages with 2's news of it */
    cr_assert(!sync_member_live(at(c, 1)->core, 3));
    cluster_free(c);
}

/* A loop that stood still for two seconds has heard nobody, and buries nobody. */
Test(sync_core, a_stalled_loop_does_not_judge)
{
    struct cluster *c = cluster_new(2);

    start_all(c);
    settle(c);
    c->now.mono_us += 2000000;
    give(c, 1, &(struct sync_event){.kind = SYNC_EV_TICK});
    cr_assert(sync_member_live(at(c, 1)->core, 2));
    c->now.mono_us += 200000;
    give(c, 1, &(struct sync_event){.kind = SYNC_EV_TICK});
    c->now.mono_us += 200000;
    give(c, 1, &(struct sync_event){.kind = SYNC_EV_TICK});
    c->now.mono_us += 200000;
    give(c, 1, &(struct sync_event){.kind = SYNC_EV_TICK});
    cr_assert(!sync_member_live(at(c, 1)->core, 2));
    cluster_free(c);
}

Test(sync_core, states_follow_readiness_and_draining)
{
    struct cluster *c = cluster_new(2);

    start_all(c);
    settle(c);
    run(c, 5);
    cr_assert_eq(member_of(c, 2, 1).state, MEMBER_JOINING);
    sync_set_ready(at(c, 1)->core, true);
    run(c, 10);
    cr_assert_eq(member_of(c, 2, 1).state, MEMBER_READY);
    cr_assert_eq(at(c, 2)->states[1], MEMBER_READY);
    sync_set_ready(at(c, 1)->core, false);
    run(c, 10);
    cr_assert_eq(member_of(c, 2, 1).state, MEMBER_DEGRADED);
    give(c, 1, &(struct sync_event){.kind = SYNC_EV_DRAIN, .draining = true});
    run(c, 2);
    cr_assert_eq(member_of(c, 2, 1).state, MEMBER_DRAINING);
    cluster_free(c);
}

static bool count_one(void *ctx, const struct record *r)
{
    (void)r;
    ++*(size_t *)ctx;
    return true;
}

Test(sync_core, questions_see_what_is_installed)
{
    struct cluster *c = cluster_new(1);
    struct record *gone = sample_child(0x400101, 6);
    size_t n = 0;

    start_all(c);
    settle(c);
    gone->child.state = SA_DELETED;
    put(c, 1, 0, sample_ike(0xabc, 5), sample_child(0x400100, 5), gone);
    sync_each(at(c, 1)->core, RECORD_CHILD, count_one, &n);
    cr_assert_eq(n, 1u);
    cr_assert_null(sync_find_ike(at(c, 1)->core, 0xabd));
    cr_assert_eq(sync_find_child(at(c, 1)->core, 0x400101)->child.state, SA_DELETED);
    cluster_free(c);
}

Test(sync_core, the_member_list_may_fill_all_slots)
{
    struct cluster *c = cluster_new(1);
    struct sync_config config = cluster_config(c, 1);
    struct sync_member_info info;
    struct sync_core *core;

    config.n_members = SYNC_MEMBERS_MAX;
    for (uint16_t slot = 0; slot < SYNC_MEMBERS_MAX; slot++)
        config.members[slot] = SLOT_MAX - slot;
    core = sync_new(&config, &rng_system, c->now);
    cr_assert_not_null(core);
    for (uint16_t slot = 0; slot < SYNC_MEMBERS_MAX; slot++) {
        cr_assert(sync_member(core, slot, &info));
        cr_assert(info.slot == slot && sync_member_live(core, slot) == (slot == 1));
    }
    cr_assert(!sync_member(core, SYNC_MEMBERS_MAX, &info));
    sync_free(core);
    config.members[5] = config.members[1000];
    cr_assert_null(sync_new(&config, &rng_system, c->now));
    cluster_free(c);
}

/* An owner that stood still was taken for dead and its SA adopted. It wakes with an answer in
 * its hands: that answer must not leave, nor any other before it knows. */
Test(sync_core, who_stood_still_listens_before_it_speaks)
{
    struct cluster *c = cluster_new(3);
    struct record *changed = sample_ike(0xabc, 5), *adopted = sample_ike(0xabc, 5);

    start_all(c);
    settle(c);
    put(c, 1, 0, sample_ike(0xabc, 5), NULL, NULL);
    run(c, 50);
    changed->ike.revision++;
    put(c, 1, 7, changed, NULL, NULL);
    lose_mail(c);
    at(c, 1)->paused = true;
    run(c, 700);
    cr_assert(!sync_member_live(at(c, 2)->core, 1));
    adopted->ike.term.number++;
    adopted->ike.term.slot = 2;
    put(c, 2, 8, adopted, NULL, NULL);
    run(c, 50);
    cr_assert_not_null(barrier_of(at(c, 2), 8));
    at(c, 1)->paused = false;
    lose_mail(c); /* what waited for it: it must ask */
    run(c, 5);
    cr_assert(!sync_is_caught_up(at(c, 1)->core, c->now));
    cr_assert_null(barrier_of(at(c, 1), 7), "past its time-out, but others may have been quicker");
    run(c, 400);
    cr_assert(sync_is_caught_up(at(c, 1)->core, c->now));
    cr_assert(barrier_of(at(c, 1), 7) && barrier_of(at(c, 1), 7)->superseded);
    cr_assert_eq(sync_find_ike(at(c, 1)->core, 0xabc)->ike.term.slot, 2);
    cluster_free(c);
}

Test(sync_core, who_stood_still_alone_goes_on_after_a_while)
{
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    at(c, 1)->paused = true;
    run(c, 400);
    kill_node(c, 2);
    kill_node(c, 3);
    lose_mail(c);
    at(c, 1)->paused = false;
    run(c, 5);
    cr_assert(!sync_is_caught_up(at(c, 1)->core, c->now));
    run(c, 1100);
    cr_assert(sync_is_caught_up(at(c, 1)->core, c->now));
    cluster_free(c);
}

Test(sync_core, last_words_spare_the_others_the_wait)
{
    const struct sync_event last_words = {.kind = SYNC_EV_DRAIN, .draining = true, .leaving = true};
    struct cluster *c = cluster_new(3);

    start_all(c);
    settle(c);
    give(c, 3, &last_words);
    kill_node(c, 3);
    run(c, 5);
    cr_assert(!sync_member_live(at(c, 1)->core, 3));
    cr_assert_eq(at(c, 1)->states[3], MEMBER_DEAD);
    put(c, 1, 4, sample_ike(0xabc, 5), NULL, NULL);
    run(c, 5);
    cr_assert(barrier_of(at(c, 1), 4) && !barrier_of(at(c, 1), 4)->timed_out);
    start(c, 3);
    settle(c);
    cr_assert(sync_member_live(at(c, 1)->core, 3), "a new incarnation lives");
    cluster_free(c);
}
