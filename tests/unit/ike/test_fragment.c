/* Messages in fragments (RFC 7383), both ways. */
#include <criterion/criterion.h>
#include <string.h>

#include "peer.h"

static struct bench b;
static struct peer p;

static void begin(void)
{
    bench_open(&b);
    peer_open(&p, &b);
    p.fragmentation = true;
}

static void end(void)
{
    peer_close(&p);
    bench_close(&b);
}

TestSuite(fragment, .init = begin, .fini = end);

/* An INFORMATIONAL of about `n` octets of payload: notifies that nobody knows. */
static void fill_chain(struct chain *c, uint8_t *bytes, size_t cap, size_t n)
{
    static const uint8_t data[40];

    chain_begin(c, bytes, cap);
    while (c->w.n < n)
        chain_notify(c, 0, (struct slice){0}, 40000, (struct slice){data, sizeof data});
}

static void establish(void)
{
    p.cut = 0;
    cr_assert(peer_init(&p) && peer_auth(&p), "%s", b.reason);
}

/* Seals and sends one fragment of the next request. */
static void send_fragment(const struct chain *c, uint16_t number, uint16_t total)
{
    cr_assert(peer_seal_fragment(&p, INFORMATIONAL, 0, p.next_id, c, number, total));
    peer_send(&p);
}

static size_t messages_in_run(void)
{
    struct slice left = {b.run, b.run_n};
    struct message m;
    size_t n = 0;

    while (left.n && message_next(&left, &m))
        n++;
    return n;
}

Test(fragment, is_announced_to_who_announced_it)
{
    struct notify n;

    cr_assert(peer_init(&p));
    cr_assert(message_find_notify(&p.answer, N_FRAGMENTATION_SUPPORTED, &n));
    peer_close(&p);
    peer_open(&p, &b);
    p.rec->ike.spi_i++;
    cr_assert(peer_init(&p));
    cr_assert(!message_find_notify(&p.answer, N_FRAGMENTATION_SUPPORTED, &n));
}

Test(fragment, an_ike_auth_in_any_order)
{
    /* HDR, SKF {IDi, AUTH, ...} 1/n, ... n/n  -->  <-- HDR, SK {IDr, AUTH, ...} */
    for (int backwards = 0; backwards < 2; backwards++) {
        p.backwards = backwards;
        p.cut = 60;
        cr_assert(peer_init(&p) && peer_auth(&p), "%s", b.reason);
        cr_assert_geq(b.engine->stats.reassembled, 1);
        cr_assert_eq(b.engine->held_bytes, 0);
        end();
        begin();
    }
}

Test(fragment, of_an_ike_auth_wait_for_the_keys)
{
    p.cut = 60;
    cr_assert(peer_init(&p));
    b.hold_jobs = true;
    cr_assert(!peer_auth(&p), "nothing can be opened yet");
    cr_assert_gt(b.engine->held_bytes, 0);
    peer_send(&p); /* the last one again: kept once */
    bench_run_held(&b);
    cr_assert_eq(b.engine->stats.auth_ok, 1);
    cr_assert_eq(b.engine->held_bytes, 0);
}

Test(fragment, forged_ones_before_the_keys_do_no_harm)
{
    uint8_t bytes[512];
    struct chain c;

    p.cut = 60;
    cr_assert(peer_init(&p));
    b.hold_jobs = true;
    fill_chain(&c, bytes, sizeof bytes, 150);
    cr_assert(peer_seal_fragment(&p, IKE_AUTH, 0, 1, &c, 1, 3));
    p.request[p.request_n - 1] ^= 1;
    peer_send(&p);
    cr_assert(!peer_auth(&p));
    bench_run_held(&b);
    cr_assert_eq(b.engine->stats.auth_ok, 1);
    cr_assert_eq(b.engine->stats.malformed, 1);
}

Test(fragment, what_waits_for_the_keys_is_bounded)
{
    static uint8_t junk[1200];
    struct writer w;

    cr_assert(peer_init(&p));
    b.hold_jobs = true;
    for (unsigned i = 0; i < 100; i++) {
        w = writer_of(junk, sizeof junk);
        message_header(&w, p.rec->ike.spi_i, p.rec->ike.spi_r, PAYLOAD_SKF, IKE_AUTH,
                       IKE_FLAG_INITIATOR, 1);
        write_u16(&w, 0);
        write_u16(&w, sizeof junk - IKE_HEADER_BYTES);
        write_u32(&w, i << 16 | 100);
        w.n = sizeof junk;
        message_finish(&w);
        bench_datagram(&b, &p.local, &p.remote, (struct slice){junk, sizeof junk});
    }
    cr_assert_leq(b.engine->held_bytes, IKE_MESSAGE_MAX);
    bench_run_held(&b);
    cr_assert_eq(b.engine->held_bytes, 0);
    cr_assert_eq(b.engine->stats.malformed, IKE_MESSAGE_MAX / sizeof junk);
}

Test(fragment, a_rekey_with_pfs_waits_whole_for_its_key_exchange)
{
    establish();
    p.cut = 100;
    p.backwards = true;
    p.esp.dh = DH_MODP_2048;
    cr_assert(peer_rekey_child(&p, p.esp_spi), "%s", b.reason);
    cr_assert_eq(b.engine->held_bytes, 0);
    cr_assert_eq(b.engine->stats.reassembled, 1);
}

Test(fragment, duplicates_and_forgeries_between_them_are_dropped)
{
    uint8_t bytes[512], forged[256];
    struct chain c;

    establish();
    p.cut = 100;
    fill_chain(&c, bytes, sizeof bytes, 250);
    send_fragment(&c, 2, 3);
    send_fragment(&c, 2, 3);
    cr_assert(peer_seal_fragment(&p, INFORMATIONAL, 0, p.next_id, &c, 1, 3));
    memcpy(forged, p.request, p.request_n);
    forged[40] ^= 1;
    bench_datagram(&b, &p.local, &p.remote, (struct slice){forged, p.request_n});
    cr_assert_eq(b.engine->stats.malformed, 1);
    peer_send(&p);
    cr_assert_eq(b.answer_n, 0, "3/3 is missing");
    send_fragment(&c, 3, 3);
    cr_assert_gt(b.answer_n, 0);
}

Test(fragment, a_finer_cut_replaces_a_coarser_one_but_not_the_other_way)
{
    uint8_t bytes[512];
    struct chain c;

    establish();
    fill_chain(&c, bytes, sizeof bytes, 250);
    p.cut = 150;
    send_fragment(&c, 1, 2);
    p.cut = 100;
    send_fragment(&c, 1, 3);
    p.cut = 150;
    send_fragment(&c, 2, 2);
    cr_assert_eq(b.answer_n, 0, "of the coarser cut, which is over");
    p.cut = 100;
    send_fragment(&c, 2, 3);
    send_fragment(&c, 3, 3);
    cr_assert_gt(b.answer_n, 0);
}

Test(fragment, the_first_one_again_gets_the_answer_again)
{
    uint8_t bytes[512], answer[IKE_MESSAGE_MAX];
    struct chain c;
    size_t n;

    establish();
    fill_chain(&c, bytes, sizeof bytes, 250);
    p.cut = 100;
    send_fragment(&c, 1, 3);
    send_fragment(&c, 2, 3);
    send_fragment(&c, 3, 3);
    n = b.answer_n;
    memcpy(answer, b.answer, n);
    peer_send(&p);
    cr_assert_eq(b.answer_n, 0, "the third again: no answer (RFC 7383 §2.6.1)");
    send_fragment(&c, 1, 3);
    cr_assert(b.answer_n == n && memcmp(answer, b.answer, n) == 0);
    p.cut = 60; /* cut anew */
    send_fragment(&c, 1, 5);
    cr_assert(b.answer_n == n && memcmp(answer, b.answer, n) == 0);
    p.request[p.request_n - 1] ^= 1;
    peer_send(&p);
    cr_assert_eq(b.answer_n, 0, "a forged one gets nothing");
}

Test(fragment, numbers_that_cannot_be_are_refused)
{
    static const uint16_t bad[][2] = {{0, 2}, {3, 2}, {1, 0}, {1, IKE_FRAGMENTS_MAX + 1}};
    uint8_t bytes[512];
    struct fragment f = {.first = PAYLOAD_NOTIFY};
    struct chain c;

    establish();
    fill_chain(&c, bytes, sizeof bytes, 50);
    f.piece = (struct slice){bytes, c.w.n};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        f.number = bad[i][0];
        f.total = bad[i][1];
        if (f.total == 0)
            continue; /* cannot even be sealed as an SKF */
        cr_assert(skf_seal(&p.rec->ike, true, INFORMATIONAL, 0, p.next_id, &f, p.iv++,
                           &b.engine->rng, p.request, sizeof p.request, &p.request_n) == ERR_OK);
        peer_send(&p);
        cr_assert_eq(b.answer_n, 0);
    }
    cr_assert_eq(b.engine->stats.malformed, 3);
    cr_assert_eq(b.engine->held_bytes, 0);
}

Test(fragment, an_incomplete_or_huge_message_is_given_up)
{
    static uint8_t bytes[IKE_MESSAGE_MAX + 4000];
    struct chain c;

    establish();
    fill_chain(&c, bytes, sizeof bytes, 250);
    p.cut = 100;
    send_fragment(&c, 1, 3);
    cr_assert_gt(b.engine->held_bytes, 0);
    bench_tick(&b, 31000000);
    cr_assert_eq(b.engine->held_bytes, 0);
    cr_assert_eq(b.engine->stats.fragments_lost, 1);

    fill_chain(&c, bytes, sizeof bytes, IKE_MESSAGE_MAX + 2000);
    p.cut = 1400;
    for (uint16_t i = 1; i <= 12; i++)
        send_fragment(&c, i, 13);
    cr_assert_leq(b.engine->held_bytes, IKE_MESSAGE_MAX);
    cr_assert_eq(b.engine->stats.fragments_lost, 2);
    p.cut = 0;
    cr_assert(peer_dpd(&p), "the SA lives on");
}

Test(fragment, without_the_announcement_they_are_refused)
{
    uint8_t bytes[512];
    struct chain c;

    p.fragmentation = false;
    establish();
    fill_chain(&c, bytes, sizeof bytes, 150);
    p.cut = 100;
    send_fragment(&c, 1, 2);
    send_fragment(&c, 2, 2);
    cr_assert_eq(b.answer_n, 0);
    cr_assert_eq(b.engine->stats.malformed, 2);
}

Test(fragment, a_long_answer_is_cut_and_repeated_alike)
{
    uint8_t run[IKE_MESSAGE_MAX];
    size_t n;

    b.engine->config.fragment_size = 128;
    cr_assert(peer_init(&p) && peer_auth(&p), "%s", b.reason);
    cr_assert_gt(messages_in_run(), 2);
    n = b.run_n;
    memcpy(run, b.run, n);
    peer_send(&p);
    cr_assert(b.run_n == n && memcmp(run, b.run, n) == 0);
    for (struct slice left = {run, n}; left.n;) {
        struct message m;

        cr_assert(message_next(&left, &m));
        cr_assert_leq(m.raw.n, 128);
        cr_assert_eq(m.payloads[0].next, left.n == n - m.raw.n ? PAYLOAD_IDR : PAYLOAD_NONE,
                     "only the first names the payload inside (§2.5)");
    }
}

Test(fragment, a_cbc_sa_cuts_and_joins_too)
{
    b.engine->config.fragment_size = 128;
    p.ike = suite_of(ENCR_AES_CBC, 256, PRF_HMAC_SHA2_256, INTEG_HMAC_SHA2_256_128, DH_MODP_1536);
    p.cut = 70;
    cr_assert(peer_init(&p) && peer_auth(&p), "%s", b.reason);
    cr_assert_gt(messages_in_run(), 2);
    for (struct slice left = {b.run, b.run_n}; left.n;) {
        struct message m;

        cr_assert(message_next(&left, &m));
        cr_assert_leq(m.raw.n, 128);
    }
}

Test(fragment, no_iv_twice_within_a_run)
{
    uint64_t first = b.next_iv;

    b.engine->config.fragment_size = 128;
    cr_assert(peer_init(&p) && peer_auth(&p));
    cr_assert_eq(b.next_iv - first, messages_in_run());
}

Test(fragment, our_request_is_cut_and_its_answer_joined)
{
    struct record *old;

    b.engine->config.fragment_size = 200;
    establish();
    bench_tick(&b, 81000ULL * 1000000); /* the IKE SA is due */
    for (int i = 0; i < 3 && !(peer_asked(&p) && p.asked.exchange == CREATE_CHILD_SA &&
                               !message_find(&p.asked, PAYLOAD_TSI));
         i++) {
        cr_assert(peer_asked(&p));
        if (message_find(&p.asked, PAYLOAD_TSI))
            cr_assert(peer_respond_rekey_child(&p));
        else
            peer_respond_empty(&p);
        bench_tick(&b, 1000000);
    }
    cr_assert(peer_asked(&p));
    cr_assert_gt(messages_in_run(), 1);
    p.cut = 120;
    p.backwards = true;
    cr_assert(peer_respond_rekey_ike(&p, &old));
    record_free(old);
    p.responder = true;
    cr_assert_geq(b.engine->stats.reassembled, 1);
    p.cut = 100;
    cr_assert(peer_dpd(&p), "the new SA takes fragments, too");
}
