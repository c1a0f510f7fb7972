/* A peer behind a NAT at a new address. Arrows: "<--" the gateway asks; the address
 * stands behind it where it matters. */
#include <criterion/criterion.h>
#include <string.h>

#include "peer.h"

static struct bench b;
static struct peer p;
static struct endpoint home, away;
static struct record known; /* an endpoint record of any Child SA; kind 0: none */

enum { S = 1000000 };

static const struct record *find_endpoint(void *ctx, uint32_t spi_in)
{
    (void)ctx;
    (void)spi_in;
    return known.kind ? &known : NULL;
}

static void establish(bool behind_nat)
{
    bench_open(&b);
    b.engine->config.find_endpoint = find_endpoint;
    known = (struct record){0};
    peer_open(&p, &b);
    p.natd_fake = behind_nat;
    cr_assert(peer_init(&p) && peer_auth(&p));
    bench_tick(&b, S);
    b.answer_n = 0;
    home = p.remote;
    (void)endpoint_parse("203.0.113.80:1024", &away);
}

static void begin(void)
{
    establish(true);
}

static void end(void)
{
    peer_close(&p);
    bench_close(&b);
}

TestSuite(move, .init = begin, .fini = end);

static struct ike_sa *sa(void)
{
    return ike_sa_find(b.engine, p.responder ? p.rec->ike.spi_i : p.rec->ike.spi_r);
}

static bool recorded_at(const struct endpoint *where)
{
    return endpoint_equal(&sa()->rec->ike.peer, where);
}

/* Some node heard ESP of this SA from there. */
static void reported(uint32_t spi_in, const struct endpoint *from)
{
    struct record *child = record_clone(sa()->children[0]);

    child->child.spi_in = spi_in;
    b.answer_n = 0;
    bench_moved(&b, child, from);
    record_free(child);
}

/* A request of ours left, and to there. */
static bool asked_at(const struct endpoint *where)
{
    return peer_asked(&p) && endpoint_equal(&b.answer_peer, where);
}

static void respond_from(const struct endpoint *where)
{
    p.remote = *where;
    peer_respond_empty(&p);
}

static size_t endpoints_committed(const struct endpoint *where, uint64_t move)
{
    size_t n = 0;

    for (size_t i = 0; i < b.n_records; i++)
        n += b.records[i]->kind == RECORD_ENDPOINT &&
             endpoint_equal(&b.records[i]->endpoint.peer, where) &&
             b.records[i]->endpoint.move == move;
    return n;
}

Test(move, esp_from_elsewhere_is_asked_about_there_and_the_answer_moves_all)
{
    uint32_t first = p.child.spi_out, revision;
    unsigned commits;

    cr_assert(peer_rekey_child(&p, 0), "a second Child SA: %s", b.reason);
    revision = sa()->rec->ike.revision;
    reported(first, &away);
    /* <--  HDR, SK {}   to the new address */
    cr_assert(asked_at(&away));
    cr_assert_eq(p.asked.exchange, INFORMATIONAL);
    cr_assert_eq(p.asked.n, 0);
    cr_assert(recorded_at(&home), "nothing moves before the answer");
    known.kind = RECORD_ENDPOINT;
    known.endpoint.move = 6;
    commits = b.commits;
    /* HDR, SK {}  -->   from there */
    respond_from(&away);
    cr_assert(recorded_at(&away));
    cr_assert_gt(sa()->rec->ike.revision, revision);
    cr_assert_eq(b.commits, commits + 1, "one group");
    cr_assert_eq(endpoints_committed(&away, 7), 2);
    cr_assert(endpoint_equal(&bench_record(&b, RECORD_IKE, SA_INSTALLED)->ike.peer, &away));
    cr_assert_eq(b.engine->stats.moves, 1);
    /* and all that is said later goes there */
    b.engine->config.dpd_s = 30;
    b.answer_n = 0;
    bench_tick(&b, 31 * S);
    cr_assert(asked_at(&away));
}

Test(move, a_request_from_elsewhere_is_answered_there_and_asked_about)
{
    cr_assert(peer_dpd(&p), "one from home");
    p.remote = away;
    /* HDR, SK {}  -->   from elsewhere:  <--  the answer, then  <--  HDR, SK {} */
    (void)peer_dpd(&p);
    cr_assert_eq(b.answers_in_step, 2);
    cr_assert(endpoint_equal(&b.first_answer_peer, &away), "the answer");
    cr_assert(asked_at(&away));
    cr_assert(recorded_at(&home));
    respond_from(&away);
    cr_assert(recorded_at(&away));
}

Test(move, a_request_that_waits_for_its_commit_is_asked_about_afterwards)
{
    p.remote = away;
    cr_assert(peer_rekey_child(&p, 0) || b.answer_n, "%s", b.reason);
    bench_tick(&b, 2 * S);
    cr_assert(asked_at(&away));
    respond_from(&away);
    cr_assert(recorded_at(&away));
    cr_assert_eq(endpoints_committed(&away, 1), 2);
}

Test(move, an_old_request_that_somebody_sends_again_is_no_hint)
{
    cr_assert(peer_dpd(&p));
    b.answer_n = 0;
    bench_datagram(&b, &p.local, &away, (struct slice){p.request, p.request_n});
    cr_assert_gt(b.answer_n, 0, "it has its answer again");
    cr_assert(!peer_asked(&p));
    b.answer_n = 0;
    bench_tick(&b, 5 * S);
    cr_assert_eq(b.answer_n, 0);
    cr_assert_eq(b.engine->stats.move_probes, 0);
}

Test(move, a_forged_request_is_no_hint)
{
    cr_assert(peer_dpd(&p));
    p.request[p.request_n - 1] ^= 1;
    p.request[23]++; /* the next message ID */
    b.answer_n = 0;
    bench_datagram(&b, &p.local, &away, (struct slice){p.request, p.request_n});
    bench_tick(&b, 5 * S);
    cr_assert_eq(b.answer_n, 0);
    cr_assert_eq(b.engine->stats.move_probes, 0);
}

Test(move, an_answer_from_a_third_place_moves_nothing)
{
    struct endpoint third = away;

    third.port++;
    reported(p.child.spi_out, &away);
    cr_assert(asked_at(&away));
    respond_from(&third);
    cr_assert(recorded_at(&home));
    cr_assert_eq(endpoints_committed(&third, 1) + endpoints_committed(&away, 1), 0);
    cr_assert_eq(b.engine->stats.move_probes_failed, 1);
    cr_assert_eq(sa()->own.kind, OWN_NONE, "the question is over all the same");
}

Test(move, a_report_for_an_unknown_child_is_ignored)
{
    struct record *other = record_clone(sa()->children[0]);

    reported(0x01400999, &away);
    cr_assert_eq(b.answer_n, 0);
    other->child.lineage.b[0] ^= 1;
    bench_moved(&b, other, &away);
    bench_tick(&b, 5 * S);
    cr_assert_eq(b.answer_n, 0);
    record_free(other);
}

Test(move, a_report_of_the_known_address_asks_nothing)
{
    reported(p.child.spi_out, &home);
    bench_tick(&b, 5 * S);
    cr_assert_eq(b.answer_n, 0);
}

/* Another node, or another side of a partition, let one Child SA behind. */
Test(move, a_report_of_the_known_address_takes_along_a_child_that_stayed_behind)
{
    known.kind = RECORD_ENDPOINT;
    known.endpoint = (struct endpoint_record){.move = 4, .peer = away};
    reported(p.child.spi_out, &home);
    cr_assert_eq(endpoints_committed(&home, 5), 1);
    cr_assert_eq(b.answer_n, 0);
    known.endpoint.peer = home;
    while (b.n_records)
        record_free(b.records[--b.n_records]);
    reported(p.child.spi_out, &home);
    cr_assert_eq(b.n_records, 0, "it is there now");
}

Test(move, more_children_than_one_group_holds_all_move)
{
    enum { MANY = 600 };
    size_t moved;

    while (sa()->n_children < MANY) {
        struct record *r = record_clone(sa()->children[0]);

        r->child.spi_in += (uint32_t)sa()->n_children;
        cr_assert_eq(ike_sa_add_child(sa(), r), ERR_OK);
    }
    reported(p.child.spi_out, &away);
    cr_assert(asked_at(&away));
    respond_from(&away);
    moved = endpoints_committed(&away, 1);
    cr_assert_geq(moved, 200);
    cr_assert_not_null(bench_record(&b, RECORD_IKE, SA_INSTALLED), "in the first group");
    for (int i = 0; i < 4; i++) {
        while (b.n_records)
            record_free(b.records[--b.n_records]);
        bench_tick(&b, S);
        moved += endpoints_committed(&away, 1);
    }
    cr_assert_eq(moved, MANY);
}

Test(move, a_peer_that_is_not_behind_nat_never_moves)
{
    end();
    establish(false);
    cr_assert_eq(sa()->rec->ike.nat & NAT_PEER, 0);
    reported(p.child.spi_out, &away);
    cr_assert_eq(b.answer_n, 0);
    p.remote = away;
    cr_assert(peer_dpd(&p), "answered where it came from");
    cr_assert(endpoint_equal(&b.answer_peer, &away));
    bench_tick(&b, 5 * S);
    cr_assert_eq(b.answers_in_step, 0);
    cr_assert(recorded_at(&home));
}

/* The address lied: the same bytes go home, too, and the SA lives. */
Test(move, silence_there_goes_back_to_the_known_address)
{
    uint8_t first[512];
    size_t n;

    reported(p.child.spi_out, &away);
    cr_assert(asked_at(&away));
    n = b.answer_n;
    memcpy(first, b.answer, n);
    bench_tick(&b, 1 * S);
    cr_assert(asked_at(&away), "once more there alone");
    cr_assert_eq(b.answers_in_step, 1);
    bench_tick(&b, 2 * S);
    cr_assert_eq(b.answers_in_step, 2, "then to both");
    cr_assert(endpoint_equal(&b.first_answer_peer, &home));
    cr_assert_eq(b.answer_n, n);
    cr_assert_arr_eq(b.answer, first, n, "the very same bytes");
    cr_assert(peer_asked(&p));
    respond_from(&home);
    cr_assert(recorded_at(&home));
    cr_assert_eq(sa()->own.kind, OWN_NONE);
    b.answer_n = 0;
    for (int i = 0; i < 100; i++)
        bench_tick(&b, S);
    cr_assert_eq(b.answer_n, 0, "it is over");
    cr_assert_null(bench_record(&b, RECORD_IKE, SA_DELETED));
}

/* The peer answers, from home, what it was asked elsewhere. */
static unsigned lie(void)
{
    if (!asked_at(&away))
        return 0;
    respond_from(&home);
    return 1;
}

Test(move, a_liar_is_asked_less_and_less_often)
{
    unsigned asked = 0;

    for (int i = 0; i < 120; i++) {
        reported(p.child.spi_out, &away);
        asked += lie();
        b.answer_n = 0;
        bench_tick(&b, S);
        asked += lie();
    }
    /* at 0, 2, 6, 14, 30, 46, 62, ... s */
    cr_assert_geq(asked, 9);
    cr_assert_leq(asked, 10);
    cr_assert(recorded_at(&home));
    bench_tick(&b, 16 * S);
    (void)lie();
    /* the truth still comes through */
    away.port = 4001;
    reported(p.child.spi_out, &away);
    bench_tick(&b, 16 * S);
    cr_assert(asked_at(&away));
    respond_from(&away);
    cr_assert(recorded_at(&away));
    cr_assert_eq(sa()->move.failed, 0);
}

Test(move, all_sas_together_have_a_limit)
{
    b.engine->probe_window_us = b.now.mono_us;
    b.engine->probes = 512;
    reported(p.child.spi_out, &away);
    cr_assert_eq(b.answer_n, 0);
    bench_tick(&b, S);
    cr_assert(asked_at(&away), "it only waited");
}

/* The NAT forgot the mapping while we were asking: the question follows the peer. */
Test(move, an_outstanding_request_goes_to_the_new_address_too)
{
    uint8_t first[512];
    size_t n;

    b.engine->config.dpd_s = 30;
    bench_tick(&b, 31 * S);
    cr_assert(asked_at(&home));
    n = b.answer_n;
    memcpy(first, b.answer, n);
    bench_tick(&b, S);
    bench_tick(&b, 2 * S);
    reported(p.child.spi_out, &away);
    cr_assert(asked_at(&away));
    cr_assert_eq(b.answer_n, n);
    cr_assert_arr_eq(b.answer, first, n, "the very same bytes");
    respond_from(&away);
    cr_assert(recorded_at(&away));
    cr_assert_eq(endpoints_committed(&away, 1), 1);
}

Test(move, a_rekey_that_was_under_way_is_finished_and_then_the_peer_is_asked)
{
    const struct record *fresh;

    sa()->children[0]->child.created_ms = b.now.wall_ms - 27000 * 1000LL;
    sa()->children[0]->child.not_after_ms = b.now.wall_ms + 1800 * 1000LL;
    bench_tick(&b, S);
    cr_assert(asked_at(&home));
    reported(p.child.spi_out, &away);
    cr_assert(asked_at(&away));
    p.remote = away;
    cr_assert(peer_respond_rekey_child(&p));
    cr_assert(recorded_at(&home), "that was no probe");
    /* <--  HDR, SK {D(old)}   to where it is recorded, and when it rests, elsewhere */
    cr_assert(peer_asked(&p));
    cr_assert_not_null(message_find(&p.asked, PAYLOAD_DELETE));
    fresh = sa()->children[1];
    cr_assert(endpoint_equal(&fresh->child.peer, &home));
    for (int i = 0; i < 4 && !endpoint_equal(&b.answer_peer, &away); i++)
        bench_tick(&b, S);
    cr_assert(asked_at(&away));
    respond_from(&away);
    for (int i = 0; i < 4 && !recorded_at(&away); i++) {
        b.answer_n = 0;
        bench_tick(&b, S);
        if (asked_at(&away))
            respond_from(&away);
    }
    cr_assert(recorded_at(&away));
    cr_assert_eq(sa()->n_children, 1);
}

Test(move, after_a_rekey_of_the_ike_sa_its_successor_moves)
{
    struct record *old;

    p.remote = away;
    cr_assert(peer_rekey_ike(&p, &old), "%s", b.reason);
    cr_assert(recorded_at(&home), "the successor is where the old one is known to be");
    p.next_id = 0;
    bench_tick(&b, 2 * S);
    cr_assert(asked_at(&away), "the successor asks");
    respond_from(&away);
    cr_assert(recorded_at(&away));
    cr_assert_eq(endpoints_committed(&away, 1), 1, "and has the Child SAs");
    record_free(old);
}

Test(move, children_made_later_are_where_the_peer_is)
{
    reported(p.child.spi_out, &away);
    respond_from(peer_asked(&p) ? &away : &home);
    cr_assert(recorded_at(&away));
    cr_assert(peer_rekey_child(&p, p.esp_spi));
    cr_assert(endpoint_equal(&bench_record(&b, RECORD_CHILD, SA_INSTALLED)->child.peer, &away));
    cr_assert_eq(endpoints_committed(&away, 1), 0);
    /* and those of our own rekeys */
    cr_assert(peer_delete_child(&p, p.esp_spi - 1));
    sa()->children[0]->child.created_ms = b.now.wall_ms - 27000 * 1000LL;
    sa()->children[0]->child.not_after_ms = b.now.wall_ms + 1800 * 1000LL;
    sa()->children[0]->child.peer = home; /* as one that was made before the move */
    bench_tick(&b, S);
    cr_assert(asked_at(&away));
    cr_assert(peer_respond_rekey_child(&p));
    cr_assert(endpoint_equal(&sa()->children[1]->child.peer, &away));
}

Test(move, a_restart_in_the_middle_of_a_probe_loses_nothing)
{
    struct record *child = record_clone(sa()->children[0]), *ike;
    const struct record *list[] = {child};

    reported(p.child.spi_out, &away);
    cr_assert(asked_at(&away));
    ike = record_clone(bench_record(&b, RECORD_IKE, SA_INSTALLED));
    cr_assert_gt(ike->ike.our_request.n, 0, "replicated before it left");
    bench_close(&b);
    bench_open(&b);
    cr_assert_eq(ike_restore(b.engine, ike, list, 1, false, b.now), ERR_OK);
    b.answer_n = 0;
    bench_tick(&b, 2 * S);
    cr_assert(asked_at(&home), "it goes on as a liveness check");
    reported(p.child.spi_out, &away); /* the peer goes on, too */
    cr_assert(asked_at(&away));
    respond_from(&away);
    cr_assert(recorded_at(&away));
    record_free(ike);
    record_free(child);
}

/* RFC 4555 is not ours; a peer that speaks it all the same gets an empty answer. */
Test(move, mobike_is_answered_and_moves_nobody_by_itself)
{
    enum { UPDATE_SA_ADDRESSES = 16400 };
    uint8_t payloads[64];
    struct chain c;

    chain_begin(&c, payloads, sizeof payloads);
    chain_notify(&c, 0, (struct slice){0}, UPDATE_SA_ADDRESSES, (struct slice){0});
    cr_assert(peer_request(&p, INFORMATIONAL, &c));
    cr_assert_eq(p.answer.n, 0);
    cr_assert(recorded_at(&home));
    p.remote = away;
    (void)peer_request(&p, INFORMATIONAL, &c);
    cr_assert(recorded_at(&home));
    cr_assert(asked_at(&away), "like any request from elsewhere");
}
