/* Whole exchanges between a small initiator and the engine. The message on the
 * wire stands above each step. */
#include <criterion/criterion.h>
#include <string.h>

#include "peer.h"

static struct bench b;
static struct peer p;

static void begin(void)
{
    bench_open(&b);
    peer_open(&p, &b);
}

static void end(void)
{
    peer_close(&p);
    bench_close(&b);
}

TestSuite(engine, .init = begin, .fini = end);

Test(engine, an_ike_sa_and_its_first_child)
{
    const struct record *ike, *child;

    /* HDR(SPIi,0), SAi1, KEi, Ni, N(NATD)x2  -->  <-- HDR(SPIi,SPIr), SAr1, KEr, Nr, N(NATD)x2 */
    cr_assert(peer_init(&p));
    cr_assert(peer_got_notify(&p, N_NAT_DETECTION_SOURCE_IP));
    cr_assert_eq(b.commits, 0, "a half-open SA is not replicated");
    /* HDR, SK {IDi, AUTH, SAi2, TSi, TSr}  -->  <-- HDR, SK {IDr, AUTH, SAr2, TSi, TSr} */
    cr_assert(peer_auth(&p), "%s", b.reason);
    cr_assert_eq(b.commits, 1);
    ike = bench_record(&b, RECORD_IKE, SA_INSTALLED);
    child = bench_record(&b, RECORD_CHILD, SA_INSTALLED);
    cr_assert(ike && child);
    cr_assert_eq(ike->ike.next_in, 2);
    cr_assert_eq(ike->ike.last_response.n, b.answer_n);
    cr_assert_arr_eq(ike->ike.last_response.p, b.answer, b.answer_n);
    cr_assert_eq(child->child.spi_in >> 22, 5, "our SPI carries the slot");
    cr_assert_eq(child->child.spi_out, p.esp_spi);
    cr_assert_eq(child->child.encr_in.n, 20);
    cr_assert_arr_eq(child->child.encr_in.b, p.child.encr_out.b, 20,
                     "both ends hold the same keys");
    cr_assert_arr_eq(child->child.encr_out.b, p.child.encr_in.b, 20);
    cr_assert(!child->child.udp_encap, "no NAT, so native ESP");
    cr_assert_eq(ike_spi_slot(&b.engine->config.spi_key, ike->ike.spi_i, ike->ike.spi_r), 5);
    cr_assert_eq(ike_spi_slot(&b.engine->config.spi_key, ike->ike.spi_i, ike->ike.spi_r ^ 1), -1);
}

Test(engine, key_pairs_are_there_before_they_are_needed)
{
    size_t answered = 0;

    bench_tick(&b, 100000);
    b.hold_jobs = true; /* from now on nobody makes any */
    while (peer_init(&p)) {
        answered++;
        peer_close(&p);
        peer_open(&p, &b);
    }
    cr_expect_eq(answered, KEY_POOL);
    cr_expect_eq(b.n_held_jobs, KEY_POOL / KEY_BATCH + 1, "refills, and one for the SA that waits");
    /* HDR(SPIi,0), SAi1, KEi, Ni  -->  (its pair is made)  <-- HDR(SPIi,SPIr), SAr1, KEr, Nr */
    bench_run_held(&b);
    cr_expect(b.answer_n > 0, "the one that waited has its answer");
    cr_expect_eq(b.engine->pools[0].n, KEY_POOL);
    cr_expect_eq(b.engine->pools[0].under_way, 0);
}

Test(engine, nat_makes_udp_encapsulation_and_a_switch_to_4500_is_followed)
{
    const struct record *child;

    p.natd_fake = true;
    p.local.port = p.remote.port = 500;
    cr_assert(peer_init(&p));
    p.local.port = 4500;
    p.remote.port = 31234;
    cr_assert(peer_auth(&p));
    child = bench_record(&b, RECORD_CHILD, SA_INSTALLED);
    cr_assert(child->child.udp_encap);
    cr_assert_eq(child->child.peer.port, 31234);
    cr_assert_eq(child->child.local.port, 4500);
    cr_assert(child->child.nat & NAT_PEER);
}

Test(engine, the_answer_waits_for_the_commit)
{
    unsigned answers;

    cr_assert(peer_init(&p));
    b.hold_commits = true;
    answers = b.answers;
    cr_assert(!peer_auth(&p));
    cr_assert_eq(b.answers, answers, "nothing leaves before the barrier");
    /* the same IKE_AUTH again: still nothing */
    bench_datagram(&b, &p.local, &p.remote, (struct slice){p.request, p.request_n});
    cr_assert_eq(b.answers, answers);
    bench_commit_held(&b);
    cr_assert_eq(b.answers, answers + 1);
    /* and after it the very same bytes as often as asked */
    {
        uint8_t first[IKE_MESSAGE_MAX];
        size_t n = b.answer_n;

        memcpy(first, b.answer, n);
        bench_datagram(&b, &p.local, &p.remote, (struct slice){p.request, p.request_n});
        cr_assert_eq(b.answer_n, n);
        cr_assert_arr_eq(b.answer, first, n);
    }
    cr_assert_eq(b.commits, 1);
}

Test(engine, a_repeated_init_gets_the_same_bytes)
{
    uint8_t first[IKE_MESSAGE_MAX];
    size_t n;

    cr_assert(peer_init(&p));
    n = b.answer_n;
    memcpy(first, b.answer, n);
    bench_datagram(&b, &p.local, &p.remote, (struct slice){p.init_request, p.init_request_n});
    cr_assert_eq(b.answer_n, n);
    cr_assert_arr_eq(b.answer, first, n);
    cr_assert_eq(b.engine->stats.half_open, 1);
}

Test(engine, every_ike_suite)
{
    static const uint16_t prfs[] = {PRF_HMAC_SHA2_256, PRF_HMAC_SHA2_384, PRF_HMAC_SHA2_512};
    static const uint16_t groups[] = {DH_MODP_2048, DH_MODP_1536};
    struct suite base[] = {
        suite_of(ENCR_AES_GCM_16, 128, 0, INTEG_NONE, 0),
        suite_of(ENCR_AES_GCM_16, 256, 0, INTEG_NONE, 0),
        suite_of(ENCR_AES_GCM_16, 256, 0, INTEG_HMAC_SHA2_256_128, 0),
        suite_of(ENCR_AES_CBC, 256, 0, INTEG_HMAC_SHA2_256_128, 0),
    };

    for (size_t e = 0; e < 4; e++)
        for (size_t f = 0; f < 3; f++)
            for (size_t g = 0; g < 2; g++) {
                struct peer q;

                peer_open(&q, &b);
                q.ike = base[e];
                q.ike.prf = prfs[f];
                q.ike.dh = groups[g];
                cr_assert(peer_init(&q), "init %zu %zu %zu %s", e, f, g, b.reason);
                cr_assert(peer_auth(&q), "auth %zu %zu %zu %s", e, f, g, b.reason);
                if (base[e].encr == ENCR_AES_GCM_16)
                    cr_assert_eq(q.rec->ike.suite.integ, INTEG_NONE,
                                 "beside an AEAD it is not echoed");
                cr_assert(peer_dpd(&q));
                peer_close(&q);
            }
}

Test(engine, every_child_suite)
{
    struct suite offers[] = {
        suite_of(ENCR_AES_GCM_16, 128, 0, 0, 0),
        suite_of(ENCR_AES_GCM_16, 256, 0, 0, 0),
        suite_of(ENCR_AES_CBC, 128, 0, INTEG_HMAC_SHA2_256_128, 0),
        suite_of(ENCR_AES_CBC, 256, 0, INTEG_HMAC_SHA2_256_128, 0),
        suite_of(ENCR_AES_CBC, 128, 0, INTEG_HMAC_SHA1_96, 0),
        suite_of(ENCR_AES_CBC, 256, 0, INTEG_HMAC_SHA1_96, 0),
    };

    for (size_t i = 0; i < sizeof offers / sizeof *offers; i++) {
        struct peer q;
        const struct child_record *c;

        peer_open(&q, &b);
        q.esp = offers[i];
        cr_assert(peer_init(&q) && peer_auth(&q), "suite %zu: %s", i, b.reason);
        c = &bench_record(&b, RECORD_CHILD, SA_INSTALLED)->child;
        cr_assert_eq(c->encr_in.n, q.child.encr_out.n);
        cr_assert_arr_eq(c->encr_in.b, q.child.encr_out.b, c->encr_in.n);
        cr_assert_eq(c->integ_in.n, q.child.integ_out.n);
        cr_assert_arr_eq(c->integ_in.b, q.child.integ_out.b, c->integ_in.n);
        peer_close(&q);
    }
}

Test(engine, refusals_in_init)
{
    struct {
        const char *what;
        struct suite offer;
        uint16_t notify;
    } rows[] = {
        {"3DES", {3, 0, PRF_HMAC_SHA2_256, INTEG_HMAC_SHA2_256_128, 14}, N_NO_PROPOSAL_CHOSEN},
        {"AES-CBC-128 is not for IKE", {12, 128, 5, 12, 14}, N_NO_PROPOSAL_CHOSEN},
        {"AES-GCM-192", {20, 192, 5, 0, 14}, N_NO_PROPOSAL_CHOSEN},
        {"no key length", {20, 0, 5, 0, 14}, N_NO_PROPOSAL_CHOSEN},
        {"SHA-1 PRF", {20, 256, 2, 0, 14}, N_NO_PROPOSAL_CHOSEN},
        {"SHA-1 integrity for IKE", {12, 256, 5, 2, 14}, N_NO_PROPOSAL_CHOSEN},
        {"NULL", {11, 0, 5, 12, 14}, N_NO_PROPOSAL_CHOSEN},
        {"no integrity", {12, 256, 5, 0, 14}, N_NO_PROPOSAL_CHOSEN},
    };

    p.dh = dh_generate(14);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        p.ike = rows[i].offer;
        p.rec->ike.spi_i++;
        cr_assert(!peer_init(&p), "%s", rows[i].what);
        cr_assert(peer_got_notify(&p, rows[i].notify), "%s", rows[i].what);
        cr_assert_eq(b.failures, i + 1);
        cr_assert_eq(strncmp(b.reason, "no_proposal_chosen: peer offered ", 33), 0, "%s", b.reason);
    }
    cr_assert_eq(b.engine->stats.half_open, 0, "no state is left");
    cr_assert_null(b.engine->by_spi);
}

Test(engine, a_ke_of_another_group_is_told_ours)
{
    struct notify n;
    uint8_t *group_field;

    p.dh = dh_generate(14);
    cr_assert(peer_init(&p));
    /* The same message, but its KE says group 5 while SA offers 14 alone. */
    p.init_request[7]++; /* another SPIi */
    group_field = p.init_request + 28 + 4 + 8 + 12 + 8 + 8 + 4;
    cr_assert_eq(group_field[1], 14);
    group_field[1] = 5;
    bench_datagram(&b, &p.local, &p.remote, (struct slice){p.init_request, p.init_request_n});
    cr_assert(message_parse_header((struct slice){b.answer, b.answer_n}, &p.answer) == ERR_OK);
    cr_assert(message_parse_chain(&p.answer, p.answer.first,
                                  (struct slice){b.answer + 28, b.answer_n - 28}) == ERR_OK);
    cr_assert(message_find_notify(&p.answer, N_INVALID_KE_PAYLOAD, &n));
    cr_assert_eq(n.data.n, 2);
    cr_assert_eq(n.data.p[1], 14);
}

Test(engine, all_identity_types)
{
    struct {
        uint8_t type;
        const char *id;
        const char *reason; /* NULL: accepted */
    } rows[] = {
        {ID_FQDN, "f5407d8db1a542b196c59f6d04ba8bd1.123456789.ipsec.example.net", NULL},
        {ID_FQDN, "F5407D8DB1A542B196C59F6D04BA8BD1.123456789.IPSEC.example.net", NULL},
        {ID_RFC822_ADDR, "ipsec@f5407d8db1a542b196c59f6d04ba8bd1.123456789.ipsec.example.net",
         NULL},
        {ID_KEY_ID, "123456789_f5407d8db1a542b196c59f6d04ba8bd1", NULL},
        {ID_IPV4_ADDR, "198.51.100.1", NULL},
        {ID_IPV4_ADDR, "198.51.100.2", "unknown_id"},
        {ID_FQDN, "f5407d8db1a542b196c59f6d04ba8bd1.123456780.ipsec.example.net", "unknown_id"},
        {ID_FQDN, "f5407d8db1a542b196c59f6d04ba8bd2.123456789.ipsec.example.net", "unknown_id"},
        {ID_FQDN, "f5407d8db1a542b196c59f6d04ba8bd1.123456789.ipsec.example.org", "unknown_id"},
        {ID_FQDN, "f5407d8db1a542b196c59f6d04ba8bd1..ipsec.example.net", "unknown_id"},
        {ID_FQDN, "short", "unknown_id"},
        {ID_RFC822_ADDR, "root@f5407d8db1a542b196c59f6d04ba8bd1.123456789.ipsec.example.net",
         "unknown_id"},
        {ID_KEY_ID, "f5407d8db1a542b196c59f6d04ba8bd1_123456789", "unknown_id"},
        {ID_KEY_ID, "_f5407d8db1a542b196c59f6d04ba8bd1", "unknown_id"},
        {ID_DER_ASN1_DN, "f5407d8db1a542b196c59f6d04ba8bd1.123456789.ipsec.example.net",
         "unknown_id"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct peer q;

        peer_open(&q, &b);
        q.id_type = rows[i].type;
        strcpy(q.id, rows[i].id);
        cr_assert(peer_init(&q));
        cr_assert_eq(peer_auth(&q), rows[i].reason == NULL, "%s: %s", rows[i].id, b.reason);
        if (rows[i].reason) {
            cr_assert(peer_got_notify(&q, N_AUTHENTICATION_FAILED));
            cr_assert_eq(strncmp(b.reason, rows[i].reason, strlen(rows[i].reason)), 0, "%s",
                         b.reason);
        }
        peer_close(&q);
    }
}

Test(engine, a_wrong_key_and_an_unknown_id_look_alike)
{
    struct peer q;
    size_t wrong_psk_n, unknown_n;

    peer_open(&q, &b);
    q.psk = "another key";
    cr_assert(peer_init(&q));
    cr_assert(!peer_auth(&q));
    cr_assert(peer_got_notify(&q, N_AUTHENTICATION_FAILED));
    cr_assert_eq(strncmp(b.reason, "wrong_psk", 9), 0);
    cr_assert_eq(q.answer.n, 1);
    wrong_psk_n = b.answer_n;
    peer_close(&q);

    peer_open(&q, &b);
    q.id[0] = '0';
    cr_assert(peer_init(&q));
    cr_assert(!peer_auth(&q));
    cr_assert(peer_got_notify(&q, N_AUTHENTICATION_FAILED));
    cr_assert_eq(strncmp(b.reason, "unknown_id", 10), 0);
    unknown_n = b.answer_n;
    peer_close(&q);

    cr_assert_eq(wrong_psk_n, unknown_n);
    cr_assert_eq(b.commits, 0);
    cr_assert_eq(b.engine->stats.half_open, 0);
    bench_tick(&b, 1000000);
    bench_tick(&b, 11000000);
    bench_tick(&b, 1000000);
    cr_assert_null(b.engine->by_spi, "no state is left");
}

Test(engine, a_child_that_cannot_be_leaves_the_ike_sa_up)
{
    /* NULL encryption without opt-in: SK {IDr, AUTH, N(NO_PROPOSAL_CHOSEN)} */
    p.esp = suite_of(ENCR_NULL, 0, 0, INTEG_HMAC_SHA2_256_128, 0);
    cr_assert(peer_init(&p));
    cr_assert(!peer_auth(&p));
    cr_assert(peer_got_notify(&p, N_NO_PROPOSAL_CHOSEN));
    cr_assert_not_null(message_find(&p.answer, PAYLOAD_AUTH));
    cr_assert_not_null(bench_record(&b, RECORD_IKE, SA_INSTALLED));
    cr_assert_null(bench_record(&b, RECORD_CHILD, SA_INSTALLED));
    cr_assert(peer_dpd(&p));
}

Test(engine, esn_alone_is_refused)
{
    p.esn_only = true;
    cr_assert(peer_init(&p));
    cr_assert(!peer_auth(&p));
    cr_assert(peer_got_notify(&p, N_NO_PROPOSAL_CHOSEN));
}

Test(engine, an_empty_selector_payload_is_malformed)
{
    p.tsi.n = 0; /* no selector at all */
    cr_assert(peer_init(&p));
    cr_assert(!peer_auth(&p));
    cr_assert(peer_got_notify(&p, N_INVALID_SYNTAX));
}

Test(engine, a_child_rekey_is_make_before_break)
{
    const struct record *fresh, *old;
    uint32_t old_spi, old_ours;
    struct id128 lineage;

    cr_assert(peer_init(&p) && peer_auth(&p));
    old_spi = p.esp_spi;
    old_ours = p.child.spi_out;
    lineage = bench_record(&b, RECORD_CHILD, SA_INSTALLED)->child.lineage;
    /* HDR, SK {N(REKEY_SA), SA, Ni, TSi, TSr}  -->  <-- HDR, SK {SA, Nr, TSi, TSr} */
    cr_assert(peer_rekey_child(&p, old_spi), "%s", b.reason);
    fresh = bench_record(&b, RECORD_CHILD, SA_INSTALLED);
    cr_assert_eq(fresh->child.replaces_spi, old_ours);
    cr_assert_eq(fresh->child.generation, 1);
    cr_assert(!fresh->child.confirmed, "nothing proves yet that the peer has it");
    cr_assert(id128_equal(&fresh->child.lineage, &lineage));
    cr_assert_arr_eq(fresh->child.encr_in.b, p.child.encr_out.b, fresh->child.encr_in.n);
    cr_assert_null(bench_record(&b, RECORD_CHILD, SA_DELETED));
    /* HDR, SK {D(old)}  -->  <-- HDR, SK {D(ours)} */
    cr_assert(peer_delete_child(&p, old_spi));
    old = bench_record(&b, RECORD_CHILD, SA_DELETED);
    cr_assert_not_null(old);
    cr_assert_eq(old->child.spi_in, old_ours);
    cr_assert_eq(old->child.encr_in.n, 0, "a tombstone holds no key");
    fresh = bench_record(&b, RECORD_CHILD, SA_INSTALLED);
    cr_assert(fresh && fresh->child.confirmed, "the DELETE proves that the peer has the new one");
    cr_assert_not_null(message_find(&p.answer, PAYLOAD_DELETE));
    /* and again */
    cr_assert(peer_rekey_child(&p, p.esp_spi));
}

Test(engine, rekey_of_what_is_not_there)
{
    cr_assert(peer_init(&p) && peer_auth(&p));
    cr_assert(!peer_rekey_child(&p, 0x99999999));
    cr_assert(peer_got_notify(&p, N_CHILD_SA_NOT_FOUND));
}

Test(engine, deleting_the_ike_sa_ends_its_children)
{
    cr_assert(peer_init(&p) && peer_auth(&p));
    cr_assert(peer_delete_ike(&p));
    cr_assert_not_null(bench_record(&b, RECORD_IKE, SA_DELETED));
    cr_assert_not_null(bench_record(&b, RECORD_CHILD, SA_DELETED));
    cr_assert_eq(b.engine->stats.established, 0);
    /* its retransmit is answered for a while, then it is gone */
    bench_datagram(&b, &p.local, &p.remote, (struct slice){p.request, p.request_n});
    cr_assert_neq(b.answer_n, 0);
    bench_tick(&b, 11000000);
    bench_tick(&b, 1000000);
    bench_datagram(&b, &p.local, &p.remote, (struct slice){p.request, p.request_n});
    cr_assert_eq(b.answer_n, 0);
}

Test(engine, forged_and_stale_requests_are_silent)
{
    unsigned answers;

    cr_assert(peer_init(&p) && peer_auth(&p));
    answers = b.answers;
    cr_assert(peer_dpd(&p));
    answers++;
    for (size_t i = 28; i < p.request_n; i++) {
        uint8_t copy[512];

        memcpy(copy, p.request, p.request_n);
        copy[23]++; /* the next message ID, so that it is not taken as a retransmit */
        copy[i] ^= 0x40;
        bench_datagram(&b, &p.local, &p.remote, (struct slice){copy, p.request_n});
    }
    p.next_id += 5; /* a gap in the message IDs */
    cr_assert(!peer_dpd(&p));
    cr_assert_eq(b.answers, answers);
}

Test(engine, without_an_epoch_nothing_is_sealed)
{
    cr_assert(peer_init(&p));
    b.no_iv = true;
    cr_assert(!peer_auth(&p));
    cr_assert_eq(b.answer_n, 0);
    cr_assert_eq(b.commits, 0);
    cr_assert_gt(b.engine->stats.no_epoch, 0);
}

Test(engine, a_restored_sa_goes_on)
{
    struct record *ike, *child;
    const struct record *list[1];

    cr_assert(peer_init(&p) && peer_auth(&p));
    ike = record_clone(bench_record(&b, RECORD_IKE, SA_INSTALLED));
    child = record_clone(bench_record(&b, RECORD_CHILD, SA_INSTALLED));
    cr_assert(peer_dpd(&p)); /* not replicated: the message ID is ahead afterwards */
    ike_free(b.engine);
    while (b.n_records)
        record_free(b.records[--b.n_records]);
    bench_open(&b);
    list[0] = child;
    cr_assert_eq(ike_restore(b.engine, ike, list, 1, false, b.now), ERR_OK);
    cr_assert_eq(ike_restore(b.engine, ike, list, 1, false, b.now), ERR_EXISTS);
    cr_assert(peer_rekey_child(&p, p.esp_spi), "a jump of the peer's message ID is accepted");
    cr_assert_eq(bench_record(&b, RECORD_CHILD, SA_INSTALLED)->child.generation, 1);
    record_free(ike);
    record_free(child);
}

Test(engine, a_record_of_another_node_ends_ours)
{
    struct ike_event event = {.kind = IKE_EV_RECORD};
    struct record *r;

    cr_assert(peer_init(&p) && peer_auth(&p));
    r = record_clone(bench_record(&b, RECORD_IKE, SA_INSTALLED));
    r->ike.term.number++;
    event.record = r;
    (void)ike_step(b.engine, &event, b.now);
    cr_assert_eq(b.engine->stats.established, 0);
    cr_assert(!peer_dpd(&p));
    record_free(r);
}

/* Nobody negotiates anew who does not know that his SA is gone. */
Test(engine, a_peer_is_told_once_when_another_node_ends_its_lineage)
{
    for (int over = 0; over < 2; over++) {
        struct record *r;
        unsigned answers;

        cr_assert(peer_init(&p) && peer_auth(&p));
        answers = b.answers;
        r = record_clone(bench_record(&b, RECORD_IKE, SA_INSTALLED));
        record_bury(r);
        r->ike.lineage_over = over;
        bench_told(&b, r);
        cr_assert_null(b.engine->by_spi);
        cr_expect_eq(b.answers, answers + (unsigned)over);
        if (over)
            cr_expect(peer_asked(&p) && message_find(&p.asked, PAYLOAD_DELETE),
                      "a DELETE of the IKE SA, under its keys");
        record_free(r);
        p.rec->ike.spi_i++;
    }
}

Test(engine, another_nodes_deletion_beats_an_answer_that_is_held)
{
    struct ike_event event = {.kind = IKE_EV_RECORD};
    struct record *r;
    unsigned answers;

    cr_assert(peer_init(&p));
    b.hold_commits = true;
    cr_assert(!peer_auth(&p));
    answers = b.answers;
    r = record_clone(bench_record(&b, RECORD_IKE, SA_INSTALLED));
    r->ike.state = SA_DELETED;
    event.record = r;
    (void)ike_step(b.engine, &event, b.now);
    bench_commit_held(&b);
    cr_assert_eq(b.answers, answers, "the held answer never leaves");
    cr_assert_null(b.engine->by_spi);
    record_free(r);
}

Test(engine, lifetime_ends_an_sa)
{
    cr_assert(peer_init(&p) && peer_auth(&p));
    bench_tick(&b, 86400ULL * 1000000 + 1);
    cr_assert_not_null(bench_record(&b, RECORD_IKE, SA_DELETED));
    cr_assert_not_null(bench_record(&b, RECORD_CHILD, SA_DELETED));
}

Test(engine, truncations_of_every_message_are_harmless)
{
    uint8_t first[REQUEST_KEPT_MAX];

    cr_assert(peer_init(&p));
    memcpy(first, p.init_request, p.init_request_n);
    for (size_t n = 0; n < p.init_request_n; n++) {
        bench_datagram(&b, &p.local, &p.remote, (struct slice){first, n});
        first[7]++;
        first[24] = first[25] = 0; /* with a length that fits as well */
        first[26] = (uint8_t)(n >> 8);
        first[27] = (uint8_t)n;
        bench_datagram(&b, &p.local, &p.remote, (struct slice){first, n});
    }
}

/* What the cluster knows, for each_ike: two records of other nodes and one of another ID. */
static struct record *known[3];
static uint64_t asked_before_us;

static void each_known(void *ctx, const struct id128 *tunnel, uint64_t before_us, ike_visit_fn *f,
                       void *f_ctx)
{
    (void)ctx;
    asked_before_us = before_us;
    for (size_t i = 0; i < 3; i++)
        if (known[i] && id128_equal(&known[i]->ike.tunnel_id, tunnel))
            f(f_ctx, known[i]);
}

Test(engine, initial_contact_ends_older_sas_of_the_same_id)
{
    struct peer q;
    unsigned deleted = 0;
    uint64_t init_us;

    cr_assert(peer_init(&p) && peer_auth(&p));
    known[0] = record_clone(bench_record(&b, RECORD_IKE, SA_INSTALLED)); /* ours */
    known[1] = record_clone(known[0]);
    known[1]->ike.spi_r ^= 1; /* another node's */
    known[2] = record_clone(known[0]);
    known[2]->ike.spi_r ^= 2;
    (void)blob_set(&known[2]->ike.peer_id, "someone else", 12);
    b.engine->config.each_ike = each_known;

    peer_open(&q, &b);
    b.now.mono_us += 5000000;
    init_us = b.now.mono_us;
    cr_assert(peer_init(&q));
    b.now.mono_us += 1000000;
    q.initial_contact = true;
    cr_assert(peer_auth(&q));
    cr_assert_eq(asked_before_us, init_us, "what came up after IKE_SA_INIT stays");
    for (size_t i = 0; i < b.n_records; i++)
        if (b.records[i]->kind == RECORD_IKE && b.records[i]->ike.state == SA_DELETED) {
            cr_assert_neq(b.records[i]->ike.spi_r, known[2]->ike.spi_r,
                          "another ID is not touched");
            deleted++;
        }
    cr_assert_eq(deleted, 2);
    cr_assert(!peer_dpd(&p), "the old one is gone here, too");
    cr_assert(peer_dpd(&q));
    peer_close(&q);
    for (size_t i = 0; i < 3; i++)
        record_free(known[i]);
}
