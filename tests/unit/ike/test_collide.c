/* Both sides act at once (RFC 7296 §1.4.1, §2.8, §2.25), and messages get lost in between. "<--"
 * the gateway asks, "-->" the peer does; "x" a message that is lost. test_own.c has the plain
 * simultaneous rekeys. */
#include <criterion/criterion.h>
#include <string.h>

#include "peer.h"

static struct bench b;
static struct peer p;

enum { S = 1000000 };

static void begin(void)
{
    bench_open(&b);
    peer_open(&p, &b);
    cr_assert(peer_init(&p) && peer_auth(&p));
    bench_tick(&b, S); /* fills the pool of key pairs */
    b.answer_n = 0;
}

static void end(void)
{
    peer_close(&p);
    bench_close(&b);
}

TestSuite(collide, .init = begin, .fini = end);

static struct ike_sa *ours(void)
{
    return ike_sa_find(b.engine, p.rec->ike.spi_r);
}

/* Makes the gateway rekey its first Child SA, its IKE SA; delete its first Child SA, its IKE SA. */
static void we_rekey_child(void)
{
    ours()->children[0]->child.created_ms = b.now.wall_ms - 27000 * 1000LL;
    ours()->children[0]->child.not_after_ms = b.now.wall_ms + 1800 * 1000LL;
    bench_tick(&b, S);
    cr_assert(peer_asked(&p));
    cr_assert_not_null(message_find(&p.asked, PAYLOAD_TSI));
}

static void we_rekey_ike(void)
{
    ours()->rec->ike.created_ms = b.now.wall_ms - 80000 * 1000LL;
    ours()->rec->ike.not_after_ms = b.now.wall_ms + 6400 * 1000LL;
    bench_tick(&b, S);
    cr_assert(peer_asked(&p));
    cr_assert_null(message_find(&p.asked, PAYLOAD_TSI));
    cr_assert_not_null(message_find(&p.asked, PAYLOAD_KE));
}

static void we_delete_child(void)
{
    ours()->children[0]->child.created_ms = b.now.wall_ms - 28000 * 1000LL;
    ours()->children[0]->child.not_after_ms = b.now.wall_ms + 2000;
    bench_tick(&b, S);
    cr_assert(peer_asked(&p));
    cr_assert_eq(message_find(&p.asked, PAYLOAD_DELETE)->body.p[0], PROTOCOL_ESP);
}

static void we_delete_ike(void)
{
    cr_assert_eq(ike_set_tunnels(b.engine, NULL, 0), ERR_OK);
    bench_tick(&b, S);
    cr_assert(peer_asked(&p));
    cr_assert_eq(message_find(&p.asked, PAYLOAD_DELETE)->body.p[0], PROTOCOL_IKE);
}

/* The gateway's request, kept while the peer sends its own: both open into p.plain. */
static struct {
    struct message asked;
    uint8_t plain[IKE_MESSAGE_MAX], wire[IKE_MESSAGE_MAX];
    size_t wire_n;
} held;

static void hold(void)
{
    held.asked = p.asked;
    memcpy(held.plain, p.plain, sizeof held.plain);
    memcpy(held.wire, b.answer, b.answer_n);
    held.wire_n = b.answer_n;
}

static void take_up(void)
{
    p.asked = held.asked;
    memcpy(p.plain, held.plain, sizeof held.plain);
}

/* The very same request comes once more after a while. */
static void we_ask_again(void)
{
    b.answer_n = 0;
    bench_tick(&b, 2 * S);
    cr_assert_eq(b.answer_n, held.wire_n);
    cr_assert_arr_eq(b.answer, held.wire, held.wire_n);
    take_up();
}

static uint32_t deleted_spi(const struct message *m)
{
    const struct payload *d = message_find(m, PAYLOAD_DELETE);
    struct reader r = reader_of(d ? d->body.p : NULL, d ? d->body.n : 0);

    if (read_u8(&r) != PROTOCOL_ESP)
        return 0;
    read_skip(&r, 3);
    return read_u32(&r);
}

/* ---- simultaneous rekeys of a Child SA, to their end (§2.8.1) ---- */

static void rekey_both(uint8_t octet, bool we_win)
{
    uint32_t old = p.esp_spi, old_ours = p.child.spi_out, theirs, theirs_ours, made;

    we_rekey_child(); /* <--  N(REKEY_SA), SA, Ni, KEi, TSi, TSr */
    hold();
    cr_assert(peer_rekey_child(&p, old)); /* the same  -->  <--  SA, Nr, KEr, TSi, TSr */
    theirs = p.esp_spi;
    theirs_ours = p.child.spi_out;
    take_up();
    p.low_nonce_byte = octet;
    cr_assert(peer_respond_rekey_child(&p)); /* SA, Nr, KEr, TSi, TSr  --> */
    made = p.child.spi_out;
    cr_assert_eq(ours()->n_children, 3, "until somebody deletes");
    cr_assert(peer_asked(&p)); /* <--  D(...) */
    cr_assert_eq(deleted_spi(&p.asked), we_win ? old_ours : made);
    peer_respond_empty(&p);
    /* D(...)  -->: what the peer has to delete */
    cr_assert(peer_delete_child(&p, we_win ? theirs : old));
    cr_assert_eq(deleted_spi(&p.answer), we_win ? theirs_ours : old_ours);
    cr_assert_eq(ours()->n_children, 1);
    cr_assert_eq(ours()->children[0]->child.spi_in, we_win ? made : theirs_ours);
    cr_assert_eq(ours()->own.kind, OWN_NONE);
    b.answer_n = 0;
    bench_tick(&b, 20 * S);
    cr_assert_eq(b.answer_n, 0, "nothing is left to do");
    cr_assert(peer_rekey_child(&p, we_win ? theirs + 1 : theirs), "the one that is left is whole");
}

Test(collide, both_rekey_a_child_with_pfs_and_ours_goes)
{
    p.esp.dh = DH_MODP_2048;
    rekey_both(0x00, false);
}

Test(collide, both_rekey_a_child_with_pfs_and_theirs_goes)
{
    p.esp.dh = DH_MODP_2048;
    p.low_nonce_i = true;
    rekey_both(0xff, true);
}

Test(collide, both_rekey_a_child_and_our_request_is_lost)
{
    uint32_t old = p.esp_spi, theirs_ours;

    we_rekey_child(); /* x--  N(REKEY_SA) ... */
    hold();
    cr_assert(peer_rekey_child(&p, old)); /* N(REKEY_SA) ...  -->  <--  answer */
    theirs_ours = p.child.spi_out;
    cr_assert(peer_delete_child(&p, old)); /* D(old)  -->  <--  D(ours): as usual (§2.25.1) */
    cr_assert_neq(deleted_spi(&p.answer), 0);
    we_ask_again(); /* <--  N(REKEY_SA) ..., of what is gone at the peer */
    peer_respond_notify(&p, N_CHILD_SA_NOT_FOUND); /* N(CHILD_SA_NOT_FOUND)  --> */
    cr_assert_eq(ours()->own.kind, OWN_NONE);
    cr_assert_eq(ours()->n_children, 1);
    cr_assert_eq(ours()->children[0]->child.spi_in, theirs_ours);
    cr_assert(peer_rekey_child(&p, p.esp_spi));
}

Test(collide, both_rekey_a_child_and_the_answer_to_ours_is_lost)
{
    uint32_t old = p.esp_spi, theirs_ours;

    we_rekey_child(); /* <--  N(REKEY_SA) ... */
    hold();
    cr_assert(peer_rekey_child(&p, old)); /* N(REKEY_SA) ...  -->  <--  answer */
    theirs_ours = p.child.spi_out;
    /* answer  --x; the peer has all nonces, its SA stays, and it deletes the old one */
    cr_assert(peer_delete_child(&p, old));
    we_ask_again(); /* <--  N(REKEY_SA) ... */
    p.low_nonce_byte = 0;
    cr_assert(peer_respond_rekey_child(&p)); /* the answer again  --> */
    cr_assert(peer_asked(&p)); /* <--  D(ours): the peer has it, so it must go there */
    cr_assert_eq(deleted_spi(&p.asked), p.child.spi_out);
    peer_respond_empty(&p);
    cr_assert_eq(ours()->own.kind, OWN_NONE);
    cr_assert_eq(ours()->n_children, 1);
    cr_assert_eq(ours()->children[0]->child.spi_in, theirs_ours);
}

Test(collide, each_rekeys_another_child)
{
    uint32_t first_ours = p.child.spi_out, second;

    cr_assert(peer_rekey_child(&p, 0));
    second = p.esp_spi;
    we_rekey_child(); /* <--  N(REKEY_SA, first) ... */
    hold();
    cr_assert(peer_rekey_child(&p, second)); /* N(REKEY_SA, second) ...  -->  <--  answer */
    take_up();
    cr_assert(peer_respond_rekey_child(&p));
    cr_assert(peer_asked(&p));
    cr_assert_eq(deleted_spi(&p.asked), first_ours, "these do not collide");
    peer_respond_empty(&p);
    cr_assert(peer_delete_child(&p, second));
    cr_assert_eq(ours()->n_children, 2);
}

/* ---- a Child SA: rekey against delete (§2.25.1) ---- */

Test(collide, we_rekey_a_child_that_the_peer_deletes)
{
    static const uint16_t answers[] = {N_TEMPORARY_FAILURE, N_CHILD_SA_NOT_FOUND};

    for (size_t i = 0; i < 2; i++) {
        if (i)
            cr_assert(peer_rekey_child(&p, 0));
        b.now.mono_us += 20ULL * S;
        we_rekey_child(); /* <--  N(REKEY_SA) ... */
        hold();
        cr_assert(peer_delete_child(&p, p.esp_spi)); /* D(old)  -->  <--  D(ours) */
        cr_assert_neq(deleted_spi(&p.answer), 0, "answered as usual");
        take_up();
        peer_respond_notify(&p, answers[i]); /* N(...)  --> */
        cr_assert_eq(ours()->own.kind, OWN_NONE);
        cr_assert_eq(ours()->n_children, 0);
        b.answer_n = 0;
        bench_tick(&b, 15 * S);
        cr_assert_eq(b.answer_n, 0, "what is gone is not rekeyed again");
    }
    cr_assert(peer_rekey_child(&p, 0), "a new one is welcome");
}

Test(collide, the_peer_rekeys_a_child_that_we_delete)
{
    uint32_t old = p.esp_spi;

    we_delete_child(); /* <--  D(ours) */
    hold();
    cr_assert(!peer_rekey_child(&p, old)); /* N(REKEY_SA) ...  -->  <--  N(TEMPORARY_FAILURE) */
    cr_assert(peer_got_notify(&p, N_TEMPORARY_FAILURE));
    cr_assert_eq(b.failures, 0, "that is no failed negotiation");
    take_up();
    peer_respond_empty(&p);                /* D  --> */
    cr_assert(!peer_rekey_child(&p, old)); /* N(REKEY_SA) ...  -->  <--  N(CHILD_SA_NOT_FOUND) */
    cr_assert(peer_got_notify(&p, N_CHILD_SA_NOT_FOUND));
    cr_assert_eq(b.failures, 1);
    cr_assert(peer_rekey_child(&p, 0));
}

Test(collide, the_peer_rekeys_what_we_have_just_rekeyed)
{
    uint32_t old = p.esp_spi, made;

    we_rekey_child();
    cr_assert(peer_respond_rekey_child(&p)); /* answer  --> */
    made = p.child.spi_out;
    cr_assert(peer_asked(&p)); /* <--  D(old) */
    hold();
    /* N(REKEY_SA, old) ...  -->, sent before the peer had our request: <--  N(TEMPORARY_FAILURE) */
    cr_assert(!peer_rekey_child(&p, old));
    cr_assert(peer_got_notify(&p, N_TEMPORARY_FAILURE));
    take_up();
    peer_respond_empty(&p);
    cr_assert_eq(ours()->n_children, 1);
    cr_assert_eq(ours()->children[0]->child.spi_in, made);
}

Test(collide, both_delete_a_child)
{
    uint32_t old = p.esp_spi;

    we_delete_child(); /* <--  D(ours) */
    hold();
    /* D(theirs)  -->  <--  {}: no DELETE in the answer then (§1.4.1) */
    cr_assert(peer_delete_child(&p, old));
    cr_assert_eq(p.answer.n, 0);
    take_up();
    peer_respond_empty(&p); /* {}  --> */
    cr_assert_eq(ours()->own.kind, OWN_NONE);
    cr_assert_eq(ours()->n_children, 0);
    cr_assert_eq(b.engine->stats.deletes, 1);
    cr_assert(peer_rekey_child(&p, 0));
}

/* ---- the IKE SA (§2.25.2) ---- */

Test(collide, the_peer_deletes_the_ike_sa_that_we_rekey)
{
    struct record *old;

    we_rekey_ike(); /* <--  SA, Ni, KEi */
    hold();
    cr_assert(peer_delete_ike(&p)); /* D(IKE)  -->  <--  {} */
    cr_assert_eq(b.engine->stats.established, 0);
    cr_assert_not_null(bench_record(&b, RECORD_CHILD, SA_DELETED));
    take_up();
    cr_assert(peer_respond_rekey_ike(&p, &old)); /* SA, Nr, KEr  -->, too late */
    cr_assert_eq(b.engine->stats.established, 0, "our request is forgotten");
    cr_assert_eq(b.answer_n, 0);
    record_free(old);
    bench_tick(&b, 15 * S);
    bench_tick(&b, 2 * S);
    cr_assert_null(b.engine->by_spi);
}

Test(collide, both_delete_the_ike_sa)
{
    unsigned commits;

    we_delete_ike(); /* <--  D(IKE) */
    hold();
    cr_assert(peer_delete_ike(&p)); /* D(IKE)  -->  <--  {} */
    cr_assert_eq(p.answer.n, 0);
    commits = b.commits;
    take_up();
    {
        uint8_t request[512];
        size_t n = p.request_n;

        memcpy(request, p.request, n);
        peer_respond_empty(&p); /* {}  --> */
        cr_assert_eq(b.commits, commits, "deleted once");
        /* the peer did not get our answer: D(IKE)  -->  <--  {} */
        bench_datagram(&b, &p.local, &p.remote, (struct slice){request, n});
        cr_assert_neq(b.answer_n, 0);
    }
    b.answer_n = 0;
    bench_tick(&b, 12 * S);
    bench_tick(&b, 2 * S);
    cr_assert_eq(b.answer_n, 0, "our own is forgotten");
    cr_assert_null(b.engine->by_spi);
}

Test(collide, while_we_delete_the_ike_sa_nothing_is_made_on_it)
{
    uint32_t child = p.esp_spi;
    struct record *old;

    we_delete_ike(); /* <--  D(IKE) */
    hold();
    cr_assert(!peer_rekey_ike(&p, &old)); /* SA, Ni, KEi  -->  <--  N(TEMPORARY_FAILURE) */
    cr_assert(peer_got_notify(&p, N_TEMPORARY_FAILURE));
    cr_assert(!peer_rekey_child(&p, child)); /* N(REKEY_SA) ...  -->  <--  N(TEMPORARY_FAILURE) */
    cr_assert(peer_got_notify(&p, N_TEMPORARY_FAILURE));
    cr_assert(!peer_rekey_child(&p, 0)); /* SA, Ni, TSi, TSr  -->  <--  N(TEMPORARY_FAILURE) */
    cr_assert(peer_got_notify(&p, N_TEMPORARY_FAILURE));
    cr_assert(peer_delete_child(&p, child)); /* D  -->  <--  D: as usual */
    cr_assert_neq(deleted_spi(&p.answer), 0);
    take_up();
    peer_respond_empty(&p);
    cr_assert_eq(b.engine->stats.established, 0);
}

Test(collide, while_we_rekey_the_ike_sa_no_child_is_made_on_it)
{
    uint32_t child = p.esp_spi;
    struct record *old;

    we_rekey_ike(); /* <--  SA, Ni, KEi */
    hold();
    cr_assert(!peer_rekey_child(&p, 0)); /* SA, Ni, TSi, TSr  -->  <--  N(TEMPORARY_FAILURE) */
    cr_assert(peer_got_notify(&p, N_TEMPORARY_FAILURE));
    cr_assert(!peer_rekey_child(&p, child));
    cr_assert(peer_got_notify(&p, N_TEMPORARY_FAILURE));
    cr_assert(peer_dpd(&p));
    cr_assert(peer_delete_child(&p, child)); /* D  -->  <--  D: as usual */
    cr_assert_neq(deleted_spi(&p.answer), 0);
    take_up();
    cr_assert(peer_respond_rekey_ike(&p, &old)); /* SA, Nr, KEr  --> */
    record_free(old);
    p.responder = true;
    cr_assert(peer_rekey_child(&p, 0), "and on the new one it is");
}

Test(collide, while_we_rekey_or_delete_a_child_the_ike_sa_is_not_rekeyed)
{
    struct record *old;

    we_rekey_child();
    hold();
    cr_assert(!peer_rekey_ike(&p, &old)); /* SA, Ni, KEi  -->  <--  N(TEMPORARY_FAILURE) */
    cr_assert(peer_got_notify(&p, N_TEMPORARY_FAILURE));
    cr_assert(peer_rekey_child(&p, 0), "an additional Child SA is no collision");
    take_up();
    cr_assert(peer_respond_rekey_child(&p));
    cr_assert(peer_asked(&p)); /* <--  D(old) */
    hold();
    cr_assert(!peer_rekey_ike(&p, &old));
    cr_assert(peer_got_notify(&p, N_TEMPORARY_FAILURE));
    take_up();
    peer_respond_empty(&p);
    cr_assert(peer_rekey_ike(&p, &old), "when that is done, it is");
    record_free(old);
}

Test(collide, the_peer_deletes_the_ike_sa_whose_child_we_rekey)
{
    unsigned commits;

    we_rekey_child();
    hold();
    cr_assert(peer_delete_ike(&p)); /* D(IKE)  -->  <--  {} */
    cr_assert_eq(b.engine->stats.established, 0);
    commits = b.commits;
    take_up();
    cr_assert(peer_respond_rekey_child(&p)); /* answer  -->, too late */
    cr_assert_eq(b.commits, commits, "nothing is made of it");
    cr_assert_eq(b.answer_n, 0);
}

Test(collide, both_rekey_the_ike_sa_and_our_request_is_lost)
{
    uint64_t old_spi = p.rec->ike.spi_r;
    uint32_t child = p.esp_spi;
    struct record *old, *next, *late;

    we_rekey_ike(); /* x--  SA, Ni, KEi */
    hold();
    cr_assert(peer_rekey_ike(&p, &old)); /* SA, Ni, KEi  -->  <--  SA, Nr, KEr */
    next = p.rec;
    p.rec = old;
    p.next_id = p.old_next_id;
    cr_assert(peer_delete_ike(&p)); /* HDR(old), D(IKE)  -->  <--  {} */
    cr_assert_eq(bench_record(&b, RECORD_IKE, SA_DELETED)->ike.spi_r, old_spi);
    cr_assert_null(bench_record(&b, RECORD_CHILD, SA_DELETED), "the children moved before");
    cr_assert_eq(b.engine->stats.established, 1);
    b.answer_n = 0;
    bench_tick(&b, 3 * S);
    cr_assert_eq(b.answer_n, 0, "our request is forgotten");
    take_up();
    cr_assert(peer_respond_rekey_ike(&p, &late)); /* and an answer to it comes too late */
    cr_assert_eq(b.engine->stats.established, 1);
    record_free(p.rec);
    p.rec = next;
    p.next_id = 0;
    cr_assert(peer_rekey_child(&p, child), "%s", b.reason);
    record_free(old);
}

Test(collide, an_ike_rekey_that_is_refused_for_now_is_tried_again)
{
    struct record *old;

    we_rekey_ike();
    peer_respond_notify(&p, N_TEMPORARY_FAILURE);
    b.answer_n = 0;
    bench_tick(&b, 5 * S);
    cr_assert_eq(b.answer_n, 0);
    bench_tick(&b, 6 * S);
    cr_assert(peer_asked(&p)); /* <--  SA, Ni, KEi */
    cr_assert_eq(p.asked.id, 1, "a new request");
    cr_assert(peer_respond_rekey_ike(&p, &old));
    record_free(old);
}

/* ---- what is lost is repeated, and done once (§2.1, §2.3) ---- */

static void check_repeated(const char *what)
{
    uint8_t first[IKE_MESSAGE_MAX];
    size_t n = b.answer_n;
    unsigned commits = b.commits;

    memcpy(first, b.answer, n);
    for (int i = 0; i < 3; i++) {
        bench_datagram(&b, &p.local, &p.remote, (struct slice){p.request, p.request_n});
        cr_assert_eq(b.answer_n, n, "%s", what);
        cr_assert_arr_eq(b.answer, first, n, "%s: the very same bytes", what);
    }
    cr_assert_eq(b.commits, commits, "%s: nothing is done again", what);
}

Test(collide, an_answer_of_ours_that_is_lost_is_repeated)
{
    struct record *old;
    uint32_t first = p.esp_spi;

    cr_assert(peer_rekey_child(&p, first)); /* N(REKEY_SA) ...  -->  x--  answer */
    check_repeated("the rekey of a Child SA");
    p.esp.dh = DH_MODP_2048;
    cr_assert(peer_rekey_child(&p, 0)); /* SA, Ni, KEi, TSi, TSr  -->  x--  answer */
    check_repeated("a Child SA with PFS");
    cr_assert_eq(ours()->n_children, 3);
    cr_assert(peer_delete_child(&p, first)); /* D  -->  x--  D */
    check_repeated("a deletion");
    cr_assert_eq(ours()->n_children, 2);
    cr_assert(
        !peer_rekey_child(&p, 0x99999999)); /* N(REKEY_SA) ... -->  x--  N(CHILD_SA_NOT_FOUND) */
    check_repeated("a refusal");
    cr_assert_eq(b.failures, 1);
    cr_assert(peer_rekey_ike(&p, &old)); /* SA, Ni, KEi  -->  x--  answer */
    check_repeated("the rekey of the IKE SA");
    cr_assert_eq(b.engine->stats.established, 2);
    record_free(old);
    cr_assert(peer_dpd(&p));
    check_repeated("a liveness check");
}

Test(collide, an_answer_of_theirs_that_is_lost_is_asked_for_again)
{
    uint8_t answer[IKE_MESSAGE_MAX];
    unsigned commits;
    size_t n;

    we_rekey_child(); /* <--  N(REKEY_SA) ...; answer  --x */
    hold();
    we_ask_again();
    p.no_pfs = true;
    cr_assert(peer_respond_rekey_child(&p)); /* answer  --> */
    cr_assert_eq(ours()->n_children, 2);
    cr_assert(peer_asked(&p)); /* <--  D(old) */
    hold();
    commits = b.commits;
    /* the first answer was only late */
    n = ((uint32_t)p.request[26] << 8) | p.request[27];
    memcpy(answer, p.request, n);
    b.answer_n = 0;
    bench_datagram(&b, &p.local, &p.remote, (struct slice){answer, n});
    cr_assert_eq(b.answer_n, 0);
    cr_assert_eq(b.commits, commits, "an answer counts once");
    cr_assert_eq(ours()->n_children, 2);
    we_ask_again(); /* <--  D(old), which is lost, too */
    peer_respond_empty(&p);
    cr_assert_eq(ours()->n_children, 1);
}

Test(collide, a_request_waits_while_ours_is_not_committed)
{
    b.hold_commits = true;
    ours()->children[0]->child.created_ms = b.now.wall_ms - 27000 * 1000LL;
    ours()->children[0]->child.not_after_ms = b.now.wall_ms + 1800 * 1000LL;
    bench_tick(&b, S);
    cr_assert_eq(b.answer_n, 0, "held");
    cr_assert(!peer_dpd(&p)); /* {}  --> */
    b.hold_commits = false;
    bench_commit_held(&b); /* <--  N(REKEY_SA) ... */
    cr_assert(peer_asked(&p));
    bench_datagram(&b, &p.local, &p.remote, (struct slice){p.request, p.request_n}); /* {}  --> */
    cr_assert_neq(b.answer_n, 0, "<--  {}: the retransmission is answered");
    cr_assert_eq(b.answer[19] & IKE_FLAG_RESPONSE, IKE_FLAG_RESPONSE);
}

/* ---- our first rekey, and a peer that wants another group than the one we try ---- */

Test(collide, a_first_rekey_offers_all_groups)
{
    const struct payload *sa;
    struct choice_rules rules = {.protocol = PROTOCOL_ESP, .ke_group = DH_MODP_1536};
    struct choice choice;

    we_rekey_child(); /* <--  N(REKEY_SA), SA{14}{5}{none}, Ni, KEi(14), TSi, TSr */
    sa = message_find(&p.asked, PAYLOAD_SA);
    cr_assert_eq(message_find(&p.asked, PAYLOAD_KE)->body.p[1], DH_MODP_2048);
    cr_assert_eq(sa->body.p[0], PROPOSAL_MORE);
    cr_assert_eq(proposal_choose(sa->body, &rules, &choice), ERR_OK);
    cr_assert_eq(choice.suite.dh, DH_MODP_2048, "in our order");
    cr_assert_eq(sa->body.p[40], PROPOSAL_MORE);
    cr_assert_eq(proposal_choose((struct slice){sa->body.p + 40, sa->body.n - 40}, &rules, &choice),
                 ERR_OK);
    cr_assert_eq(choice.suite.dh, DH_MODP_1536);
    cr_assert_eq(choice.number, 2);
    rules.ke_group = 0;
    cr_assert_eq(proposal_choose((struct slice){sa->body.p + 80, sa->body.n - 80}, &rules, &choice),
                 ERR_OK);
    cr_assert_eq(choice.suite.dh, DH_NONE);
    cr_assert_eq(choice.number, 3);
}
