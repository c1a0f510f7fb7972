/* What the gateway asks: liveness checks, rekeys, deletions; and collisions
 * with what the peer asks at the same time. Arrows: "<--" the gateway asks. */
#include <criterion/criterion.h>
#include <string.h>

#include "peer.h"

static struct bench b;
static struct peer p;
static bool majority;

static bool may_give_up(void *ctx)
{
    (void)ctx;
    return majority;
}

static void begin(void)
{
    bench_open(&b);
    b.engine->config.may_give_up = may_give_up;
    majority = true;
    peer_open(&p, &b);
    cr_assert(peer_init(&p) && peer_auth(&p));
    bench_tick(&b, 1000000); /* fills the pool of key pairs */
    b.answer_n = 0;
}

static void end(void)
{
    peer_close(&p);
    bench_close(&b);
}

TestSuite(own, .init = begin, .fini = end);

enum { S = 1000000 };

/* Ages the first Child SA, or the IKE SA, to where a rekey is due for certain. */
static void age_child(void)
{
    struct ike_sa *sa = ike_sa_find(b.engine, p.rec->ike.spi_r);

    sa->children[0]->child.created_ms = b.now.wall_ms - 27000 * 1000LL;
    sa->children[0]->child.not_after_ms = b.now.wall_ms + 1800 * 1000LL;
    bench_tick(&b, S);
}

static void age_ike(void)
{
    struct ike_sa *sa = ike_sa_find(b.engine, p.rec->ike.spi_r);

    sa->rec->ike.created_ms = b.now.wall_ms - 80000 * 1000LL;
    sa->rec->ike.not_after_ms = b.now.wall_ms + 6400 * 1000LL;
    bench_tick(&b, S);
}

Test(own, a_silent_peer_is_asked_repeatedly_and_then_given_up)
{
    uint8_t first[512];
    size_t n;

    b.engine->config.dpd_s = 30;
    bench_tick(&b, 28 * S);
    cr_assert_eq(b.answer_n, 0);
    bench_tick(&b, 2 * S);
    /* <--  HDR, SK {} */
    cr_assert(peer_asked(&p));
    cr_assert_eq(p.asked.exchange, INFORMATIONAL);
    cr_assert_eq(p.asked.n, 0);
    cr_assert_eq(p.asked.id, 0, "our own message IDs begin at 0");
    n = b.answer_n;
    memcpy(first, b.answer, n);
    for (int i = 1; i < 6; i++) {
        b.answer_n = 0;
        bench_tick(&b, (1U << i) * S);
        cr_assert_eq(b.answer_n, n, "try %d", i);
        cr_assert_arr_eq(b.answer, first, n, "the very same bytes");
    }
    majority = false;
    b.answer_n = 0;
    bench_tick(&b, 70ULL * S);
    cr_assert_eq(b.answer_n, n, "a minority keeps asking");
    cr_assert_null(bench_record(&b, RECORD_IKE, SA_DELETED));
    majority = true;
    bench_tick(&b, 40ULL * S);
    cr_assert_not_null(bench_record(&b, RECORD_IKE, SA_DELETED));
    cr_assert_not_null(bench_record(&b, RECORD_CHILD, SA_DELETED));
    cr_assert_eq(b.engine->stats.timeouts, 1);
}

/* ---- the peer may be heard elsewhere ---- */

static uint64_t our_spi(void)
{
    return p.rec->ike.spi_r;
}

Test(own, the_other_members_are_asked_before_the_peer_is)
{
    b.engine->config.dpd_s = 30;
    b.engine->config.ask_others = true;
    bench_tick(&b, 31 * S);
    cr_assert_eq(b.asks, 1);
    cr_assert_eq(b.asked_children, 1);
    cr_assert_eq(b.answer_n, 0, "the peer is not asked yet");
    bench_others_say(&b, our_spi(), b.asked_us, b.now.mono_us - 4 * S);
    bench_tick(&b, 25 * S);
    cr_assert_eq(b.answer_n, 0, "it was heard 29 s ago");
    cr_assert_eq(b.asks, 1);
    bench_tick(&b, 2 * S);
    cr_assert_eq(b.asks, 2);
    bench_others_say(&b, our_spi(), b.asked_us, 0);
    bench_tick(&b, S);
    cr_assert(peer_asked(&p), "nobody heard it");
}

Test(own, a_member_that_does_not_answer_delays_the_check_but_little)
{
    b.engine->config.dpd_s = 30;
    b.engine->config.ask_others = true;
    bench_tick(&b, 30 * S);
    bench_tick(&b, S);
    cr_assert_eq(b.asks, 2, "asked again");
    cr_assert_eq(b.answer_n, 0);
    bench_tick(&b, S);
    cr_assert(peer_asked(&p));
}

/* Up to the end of the last try. */
static void exhaust_tries(void)
{
    b.engine->config.dpd_s = 30;
    b.engine->config.ask_others = true;
    bench_tick(&b, 30 * S);
    bench_others_say(&b, our_spi(), b.asked_us, 0);
    bench_tick(&b, S);
    cr_assert(peer_asked(&p));
    for (int i = 0; i < 5; i++)
        bench_tick(&b, (1U << i) * S);
    b.answer_n = 0;
    b.asks = 0;
    bench_tick(&b, 32 * S);
    cr_assert_eq(b.asks, 1, "before it gives up");
    cr_assert_null(bench_record(&b, RECORD_IKE, SA_DELETED));
}

Test(own, nobody_heard_a_silent_peer_so_it_is_given_up)
{
    exhaust_tries();
    bench_others_say(&b, our_spi(), b.asked_us, b.now.mono_us - 90 * S);
    bench_tick(&b, S);
    cr_assert_not_null(bench_record(&b, RECORD_IKE, SA_DELETED));
    cr_assert_eq(b.answer_n, 0);
}

Test(own, a_peer_that_another_member_hears_is_kept_and_asked_slowly)
{
    exhaust_tries();
    for (int i = 0; i < 20; i++) {
        bench_others_say(&b, our_spi(), b.asked_us, b.now.mono_us - 2 * S);
        b.answer_n = 0;
        for (int k = 0; k < 31; k++) {
            bench_tick(&b, S);
            bench_others_say(&b, our_spi(), 0, b.now.mono_us);
        }
        cr_assert_neq(b.answer_n, 0, "asked again");
        cr_assert_null(bench_record(&b, RECORD_IKE, SA_DELETED));
    }
    for (int i = 0; i < 70; i++) /* then it falls silent everywhere */
        bench_tick(&b, S);
    cr_assert_null(bench_record(&b, RECORD_IKE, SA_DELETED), "nobody says so");
    for (int i = 0; i < 35; i++) {
        bench_others_say(&b, our_spi(), b.asked_us, 0);
        bench_tick(&b, S);
    }
    cr_assert_not_null(bench_record(&b, RECORD_IKE, SA_DELETED));
}

Test(own, an_answer_from_before_the_last_try_ended_proves_nothing)
{
    exhaust_tries();
    bench_others_say(&b, our_spi(), b.asked_us - S, 0);
    bench_tick(&b, S / 2);
    bench_tick(&b, S);
    cr_assert_null(bench_record(&b, RECORD_IKE, SA_DELETED));
    cr_assert_geq(b.asks, 2);
}

/* Three IKE SAs: p's and two more. */
static struct peer q[2];

static void two_more(void)
{
    for (size_t i = 0; i < 2; i++) {
        peer_open(&q[i], &b);
        cr_assert(peer_init(&q[i]) && peer_auth(&q[i]));
    }
    b.engine->config.dpd_s = 30;
}

static void close_two_more(void)
{
    peer_close(&q[0]);
    peer_close(&q[1]);
}

Test(own, whatever_is_due_begins_in_the_same_second)
{
    unsigned answers;

    two_more();
    answers = b.answers;
    bench_tick(&b, 32 * S);
    cr_assert_eq(b.answers - answers, 3, "each of three silent peers is asked");
    bench_tick(&b, S / 10);
    cr_assert_eq(b.answers - answers, 3, "and not before its time again");
    close_two_more();
}

Test(own, the_sa_that_is_next_may_go_in_mid_sweep)
{
    unsigned answers;

    two_more();
    answers = b.answers;
    bench_tick_step(&b, 32 * S); /* p is asked; q[0] would be next */
    cr_assert_eq(b.answers - answers, 1);
    cr_assert(ike_tick_again(b.engine));
    ike_sa_forget(b.engine, ike_sa_find(b.engine, q[0].rec->ike.spi_r));
    bench_tick_step(&b, 0);
    cr_assert_eq(b.answers - answers, 2, "q[1] is asked");
    cr_assert(!ike_tick_again(b.engine), "that was the last one");
    close_two_more();
}

Test(own, an_answered_check_is_over_and_the_next_id_is_used)
{
    b.engine->config.dpd_s = 30;
    bench_tick(&b, 31 * S);
    cr_assert(peer_asked(&p));
    peer_respond_empty(&p);
    b.answer_n = 0;
    bench_tick(&b, 10 * S);
    cr_assert_eq(b.answer_n, 0, "no retransmission after the answer");
    bench_tick(&b, 30 * S);
    cr_assert(peer_asked(&p));
    cr_assert_eq(p.asked.id, 1);
}

Test(own, a_request_leaves_only_after_its_commit)
{
    b.engine->config.dpd_s = 30;
    b.hold_commits = true;
    bench_tick(&b, 31 * S);
    cr_assert_eq(b.answer_n, 0);
    cr_assert_gt(bench_record(&b, RECORD_IKE, SA_INSTALLED)->ike.our_request.n, 0);
    cr_assert_eq(bench_record(&b, RECORD_IKE, SA_INSTALLED)->ike.next_out, 1);
    bench_tick(&b, 5 * S);
    cr_assert_eq(b.answer_n, 0);
    bench_commit_held(&b);
    cr_assert(peer_asked(&p));
}

Test(own, a_child_rekey_of_ours_is_make_before_break)
{
    const struct record *fresh;
    uint32_t old_out = p.esp_spi, old_in = p.child.spi_out;
    struct notify n;

    age_child();
    /* <--  HDR, SK {N(REKEY_SA), SA, Ni, TSi, TSr} */
    cr_assert(peer_asked(&p));
    cr_assert(message_find_notify(&p.asked, N_REKEY_SA, &n));
    b.hold_commits = true;
    /* HDR, SK {SA, Nr, TSi, TSr}  --> */
    cr_assert(peer_respond_rekey_child(&p));
    fresh = bench_record(&b, RECORD_CHILD, SA_INSTALLED);
    cr_assert(!fresh->child.confirmed, "nothing is sent on it before the barrier");
    cr_assert_eq(fresh->child.replaces_spi, old_in);
    cr_assert_arr_eq(fresh->child.encr_in.b, p.child.encr_out.b, fresh->child.encr_in.n);
    cr_assert_arr_eq(fresh->child.encr_out.b, p.child.encr_in.b, fresh->child.encr_out.n);
    cr_assert(!peer_asked(&p) || p.asked.exchange != INFORMATIONAL, "and no DELETE yet");
    b.hold_commits = false;
    bench_commit_held(&b);
    /* <--  HDR, SK {D(old)} */
    cr_assert(peer_asked(&p));
    cr_assert_not_null(message_find(&p.asked, PAYLOAD_DELETE));
    cr_assert(bench_record(&b, RECORD_CHILD, SA_INSTALLED)->child.confirmed);
    peer_respond_empty(&p);
    cr_assert_eq(bench_record(&b, RECORD_CHILD, SA_DELETED)->child.spi_in, old_in);
    cr_assert_eq(bench_record(&b, RECORD_CHILD, SA_DELETED)->child.spi_out, old_out);
    cr_assert(peer_rekey_child(&p, p.esp_spi), "the peer may rekey the new one");
}

Test(own, a_rekey_with_pfs_of_ours)
{
    p.esp.dh = DH_MODP_1536;
    cr_assert(peer_rekey_child(&p, p.esp_spi));
    cr_assert(peer_delete_child(&p, p.esp_spi - 1));
    bench_tick(&b, S);
    age_child();
    cr_assert(peer_asked(&p));
    cr_assert_not_null(message_find(&p.asked, PAYLOAD_KE));
    cr_assert(peer_respond_rekey_child(&p));
    for (size_t i = 0; i < b.n_records; i++)
        if (b.records[i]->kind == RECORD_CHILD && b.records[i]->child.spi_in == p.child.spi_out)
            cr_assert_arr_eq(b.records[i]->child.encr_in.b, p.child.encr_out.b, 20);
    cr_assert(peer_asked(&p));
    cr_assert_not_null(message_find(&p.asked, PAYLOAD_DELETE));
}

Test(own, a_first_rekey_offers_pfs_and_none_and_takes_either)
{
    uint8_t group[2] = {0, DH_MODP_1536}, payloads[64];
    struct chain c;

    age_child();
    cr_assert(peer_asked(&p));
    cr_assert_not_null(message_find(&p.asked, PAYLOAD_KE));
    /* HDR, SK {N(INVALID_KE_PAYLOAD, 5)}  --> */
    chain_begin(&c, payloads, sizeof payloads);
    chain_notify(&c, 0, (struct slice){0}, N_INVALID_KE_PAYLOAD, (struct slice){group, 2});
    peer_respond(&p, &c);
    bench_tick(&b, S);
    /* <--  the same with a KE of group 5 */
    cr_assert(peer_asked(&p));
    cr_assert_eq(message_find(&p.asked, PAYLOAD_KE)->body.p[1], DH_MODP_1536);
    p.no_pfs = true;
    /* HDR, SK {SA, Nr, TSi, TSr}  -->, no group at all */
    cr_assert(peer_respond_rekey_child(&p));
    for (size_t i = 0; i < b.n_records; i++)
        if (b.records[i]->kind == RECORD_CHILD && b.records[i]->child.spi_in == p.child.spi_out) {
            cr_assert_eq(b.records[i]->child.suite.dh, DH_NONE);
            cr_assert_arr_eq(b.records[i]->child.encr_in.b, p.child.encr_out.b, 20);
        }
    cr_assert(peer_asked(&p));
    cr_assert_not_null(message_find(&p.asked, PAYLOAD_DELETE));
}

Test(own, a_short_lived_child_is_rekeyed_not_deleted)
{
    struct ike_sa *sa = ike_sa_find(b.engine, p.rec->ike.spi_r);
    struct notify n;

    sa->children[0]->child.created_ms = b.now.wall_ms;
    sa->children[0]->child.not_after_ms = b.now.wall_ms + 12000;
    bench_tick(&b, 7 * S);
    cr_assert_eq(b.answer_n, 0);
    bench_tick(&b, 3 * S);
    cr_assert(peer_asked(&p));
    cr_assert(message_find_notify(&p.asked, N_REKEY_SA, &n));
}

Test(own, the_shortest_lives_are_renewed_in_time)
{
    struct ike_sa *sa = ike_sa_find(b.engine, p.rec->ike.spi_r);
    struct child_record *child = &sa->children[0]->child;
    struct record *old;

    /* 10 s is the least that a configuration may say; both are due late and at the same time */
    sa->rekey_after_permille = 100;
    child->created_ms = sa->rec->ike.created_ms = b.now.wall_ms;
    child->not_after_ms = sa->rec->ike.not_after_ms = b.now.wall_ms + 10000;
    b.engine->next_sweep_us = b.now.mono_us + 999999; /* a look at 6.999 s, 7.999 s, ... */
    bench_tick(&b, 7 * S - 1000);
    bench_tick(&b, S);
    cr_assert(peer_asked(&p));
    cr_assert(peer_respond_rekey_child(&p));
    cr_assert(peer_asked(&p), "the old one's DELETE");
    peer_respond_empty(&p);
    bench_tick(&b, S);
    cr_assert(peer_asked(&p));
    cr_assert_eq(p.asked.exchange, CREATE_CHILD_SA);
    cr_assert(peer_respond_rekey_ike(&p, &old));
    cr_assert_null(bench_record(&b, RECORD_IKE, SA_DELETED));
    record_free(old);
}

Test(own, a_refused_rekey_is_tried_again_later)
{
    age_child();
    cr_assert(peer_asked(&p));
    peer_respond_notify(&p, N_TEMPORARY_FAILURE);
    b.answer_n = 0;
    bench_tick(&b, 5 * S);
    cr_assert_eq(b.answer_n, 0);
    bench_tick(&b, 6 * S);
    cr_assert(peer_asked(&p));
    /* and a Child SA that the peer no longer has is gone here, too */
    peer_respond_notify(&p, N_CHILD_SA_NOT_FOUND);
    cr_assert_not_null(bench_record(&b, RECORD_CHILD, SA_DELETED));
}

Test(own, an_ike_rekey_of_ours)
{
    struct record *old, *next;

    age_ike();
    /* <--  HDR, SK {SA, Ni, KEi} */
    cr_assert(peer_asked(&p));
    cr_assert_eq(p.asked.exchange, CREATE_CHILD_SA);
    cr_assert_null(message_find(&p.asked, PAYLOAD_TSI));
    /* HDR, SK {SA, Nr, KEr}  --> */
    cr_assert(peer_respond_rekey_ike(&p, &old));
    next = p.rec;
    cr_assert_eq(ike_spi_slot(&b.engine->config.spi_key, 0, next->ike.spi_i), 5,
                 "our SPI names the slot, with zero for the SPI that is not known yet");
    /* <--  HDR(old), SK {D(IKE)} */
    p.rec = old;
    cr_assert(peer_asked(&p));
    cr_assert_not_null(message_find(&p.asked, PAYLOAD_DELETE));
    peer_respond_empty(&p);
    cr_assert_eq(bench_record(&b, RECORD_IKE, SA_DELETED)->ike.spi_r, old->ike.spi_r);
    cr_assert_null(bench_record(&b, RECORD_CHILD, SA_DELETED));
    record_free(old);
    /* the new one works in both directions: here the gateway is the initiator */
    p.rec = next;
    p.responder = true;
    cr_assert(peer_dpd(&p));
    cr_assert(peer_rekey_child(&p, p.esp_spi), "%s", b.reason);
}

/* Both rekey the same Child SA; `octet` decides whose exchange has the lowest nonce. */
static void collide(uint8_t octet, bool we_win)
{
    uint32_t shared_old = p.esp_spi, ours, theirs;

    age_child();
    cr_assert(peer_asked(&p)); /* <--  N(REKEY_SA) ... */
    {
        struct message asked = p.asked;
        uint8_t plain[IKE_MESSAGE_MAX];

        memcpy(plain, p.plain, sizeof plain);
        cr_assert(peer_rekey_child(&p, shared_old)); /* N(REKEY_SA) ...  -->  <--  answer */
        theirs = p.child.spi_out;
        memcpy(p.plain, plain, sizeof plain);
        p.asked = asked;
    }
    p.low_nonce_byte = octet;
    cr_assert(peer_respond_rekey_child(&p)); /* the answer to ours  --> */
    ours = p.child.spi_out;
    cr_assert(peer_asked(&p)); /* <--  D(...) */
    {
        const struct payload *d = message_find(&p.asked, PAYLOAD_DELETE);
        struct reader r = reader_of(d->body.p + 4, d->body.n - 4);
        uint32_t deleted = read_u32(&r);

        cr_assert_neq(ours, theirs);
        if (we_win)
            cr_assert(deleted != ours && deleted != theirs, "the winner deletes the old one");
        else
            cr_assert_eq(deleted, ours, "the loser deletes its own new one");
    }
    peer_respond_empty(&p);
}

Test(own, both_rekey_a_child_and_ours_has_the_lowest_nonce)
{
    collide(0x00, false);
}

Test(own, both_rekey_a_child_and_theirs_has_the_lowest_nonce)
{
    p.low_nonce_i = true; /* the peer's own request has a nonce of zeros */
    collide(0xff, true);
}

/* Both rekey the IKE SA. Afterwards p speaks on the SA that is to survive. */
static void collide_ike(uint8_t octet, bool we_win)
{
    struct record *old, *theirs, *ours;
    uint32_t old_next_id;

    age_ike();
    cr_assert(peer_asked(&p)); /* <--  SA, Ni, KEi */
    {
        struct message asked = p.asked;
        uint8_t plain[IKE_MESSAGE_MAX];

        memcpy(plain, p.plain, sizeof plain);
        cr_assert(peer_rekey_ike(&p, &old), "%s", b.reason); /* SA, Ni, KEi  -->  <--  answer */
        memcpy(p.plain, plain, sizeof plain);
        p.asked = asked;
    }
    theirs = p.rec;
    old_next_id = p.old_next_id;
    p.rec = old;
    p.low_nonce_byte = octet;
    cr_assert(peer_respond_rekey_ike(&p, &old)); /* the answer to ours, on the old SA  --> */
    ours = p.rec;
    cr_assert_eq(b.engine->stats.established, 3);
    if (we_win) {
        p.rec = old; /* <--  HDR(old), D(IKE) */
        cr_assert(peer_asked(&p), "the winner deletes the old one");
        cr_assert_not_null(message_find(&p.asked, PAYLOAD_DELETE));
        peer_respond_empty(&p);
        p.rec = ours;
        p.responder = true;
        p.next_id = 0;
        record_free(theirs);
    } else {
        bench_tick(&b, S); /* <--  HDR(ours), D(IKE) */
        p.rec = ours;
        p.responder = true;
        cr_assert(peer_asked(&p), "the loser deletes its own new one");
        cr_assert_not_null(message_find(&p.asked, PAYLOAD_DELETE));
        peer_respond_empty(&p);
        p.responder = false;
        p.rec = old; /* HDR(old), D(IKE)  --> */
        p.next_id = old_next_id;
        cr_assert(peer_delete_ike(&p));
        p.rec = theirs;
        p.next_id = 0;
        record_free(ours);
    }
    record_free(old);
    cr_assert_null(bench_record(&b, RECORD_CHILD, SA_DELETED), "the children live on");
    p.low_nonce_i = false;
    cr_assert(peer_rekey_child(&p, p.esp_spi), "%s", b.reason);
}

Test(own, both_rekey_the_ike_sa_and_ours_has_the_lowest_nonce)
{
    collide_ike(0x00, false);
}

Test(own, both_rekey_the_ike_sa_and_theirs_has_the_lowest_nonce)
{
    p.low_nonce_i = true;
    collide_ike(0xff, true);
}

Test(own, what_we_are_doing_makes_others_wait)
{
    struct record *old;

    age_child();
    cr_assert(peer_asked(&p));
    cr_assert(!peer_rekey_ike(&p, &old), "no IKE rekey while we rekey a child");
    cr_assert(peer_got_notify(&p, N_TEMPORARY_FAILURE));
}

Test(own, a_tunnel_that_is_removed_ends_its_sas)
{
    cr_assert_eq(ike_set_tunnels(b.engine, NULL, 0), ERR_OK);
    bench_tick(&b, S);
    /* <--  HDR, SK {D(IKE)} */
    cr_assert(peer_asked(&p));
    cr_assert_not_null(message_find(&p.asked, PAYLOAD_DELETE));
    cr_assert_null(bench_record(&b, RECORD_IKE, SA_DELETED), "not before the peer knows");
    peer_respond_empty(&p);
    cr_assert_not_null(bench_record(&b, RECORD_IKE, SA_DELETED));
    cr_assert_not_null(bench_record(&b, RECORD_CHILD, SA_DELETED));
    cr_assert_eq(b.engine->stats.established, 0);
}

Test(own, a_restart_repeats_the_outstanding_request)
{
    struct record *ike, *child;
    const struct record *list[1];
    uint8_t first[1024];
    size_t n;

    child = record_clone(bench_record(&b, RECORD_CHILD, SA_INSTALLED));
    age_ike();
    cr_assert(peer_asked(&p));
    n = b.answer_n;
    memcpy(first, b.answer, n);
    ike = record_clone(bench_record(&b, RECORD_IKE, SA_INSTALLED));
    ike_free(b.engine);
    while (b.n_records)
        record_free(b.records[--b.n_records]);
    bench_open(&b);
    list[0] = child;
    cr_assert_eq(ike_restore(b.engine, ike, list, 1, false, b.now), ERR_OK);
    b.answer_n = 0;
    bench_tick(&b, 2 * S);
    cr_assert_eq(b.answer_n, n);
    cr_assert_arr_eq(b.answer, first, n);
    {
        struct record *old;

        cr_assert(peer_asked(&p));
        cr_assert(peer_respond_rekey_ike(&p, &old), "its answer is understood here");
        cr_assert_eq(b.engine->stats.established, 2);
        record_free(old);
    }
    record_free(ike);
    record_free(child);
}
