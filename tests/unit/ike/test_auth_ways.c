/* IKE_AUTH in ways that are not the usual one: without a Child SA, without a key that we have,
 * once more for the same peer. Arrows as in test_engine.c. */
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

TestSuite(auth_ways, .init = begin, .fini = end);

/* ---- childless initiation (RFC 6023) ---- */

Test(auth_ways, childless)
{
    const struct record *child;
    struct id128 lineage;

    /* HDR, SAi1, KEi, Ni  -->  <-- HDR, SAr1, KEr, Nr, N(CHILDLESS_IKEV2_SUPPORTED) */
    cr_assert(peer_init(&p));
    cr_assert(peer_got_notify(&p, N_CHILDLESS_IKEV2_SUPPORTED));
    p.childless = true;
    /* HDR, SK {IDi, AUTH}  -->  <-- HDR, SK {IDr, AUTH} */
    cr_assert(peer_auth(&p), "%s", b.reason);
    cr_assert_eq(p.answer.n, 2);
    cr_assert_eq(b.commits, 1);
    cr_assert_eq(b.n_records, 1);
    cr_assert_eq(b.failures, 0);
    lineage = bench_record(&b, RECORD_IKE, SA_INSTALLED)->ike.lineage;
    cr_assert(peer_dpd(&p));
    /* HDR, SK {SA, Ni, TSi, TSr}  -->  <-- HDR, SK {SA, Nr, TSi, TSr} */
    cr_assert(peer_rekey_child(&p, 0), "%s", b.reason);
    child = bench_record(&b, RECORD_CHILD, SA_INSTALLED);
    cr_assert(id128_equal(&child->child.lineage, &lineage));
    cr_assert_eq(child->child.generation, 0);
    cr_assert_arr_eq(child->child.encr_in.b, p.child.encr_out.b, child->child.encr_in.n);
}

Test(auth_ways, childless_and_its_first_child_has_pfs)
{
    struct record *old;

    p.childless = true;
    cr_assert(peer_init(&p) && peer_auth(&p));
    p.esp.dh = DH_MODP_2048;
    /* HDR, SK {SA, Ni, KEi, TSi, TSr}  -->  <-- HDR, SK {SA, Nr, KEr, TSi, TSr} */
    cr_assert(peer_rekey_child(&p, 0), "%s", b.reason);
    cr_assert_eq(bench_record(&b, RECORD_CHILD, SA_INSTALLED)->child.suite.dh, DH_MODP_2048);
    cr_assert(peer_delete_child(&p, p.esp_spi), "and back to none");
    cr_assert(peer_rekey_ike(&p, &old), "an IKE SA without children is rekeyed, too");
    record_free(old);
    cr_assert(peer_rekey_child(&p, 0));
}

static bool with_sa, with_ts;

static void a_part_of_it(struct chain *c)
{
    if (with_sa)
        peer_write_offer(c, &p.esp, PROTOCOL_ESP, p.esp_spi, false);
    if (with_ts)
        ts_write(c, PAYLOAD_TSI, &p.tsi);
}

Test(auth_ways, half_of_a_child_is_malformed)
{
    for (int i = 1; i <= 3; i++) {
        with_sa = i & 1;
        with_ts = i & 2;
        if (i > 1)
            peer_open(&p, &b);
        cr_assert(peer_init(&p));
        p.childless = true;
        p.extra = a_part_of_it;
        b.failures = 0;
        cr_assert(!peer_auth(&p));
        cr_assert(peer_got_notify(&p, N_INVALID_SYNTAX));
        cr_assert_eq(b.failures, 1);
        cr_assert_str_eq(b.reason, "invalid_syntax: not all of SA, TSi and TSr");
        cr_assert_eq(b.commits, 0);
        if (i < 3)
            peer_close(&p);
    }
}

/* ---- keys that are not ours ---- */

/* One attempt that must fail; its answer goes to `out`. */
static size_t refused_attempt(const char *what, void (*change)(void), const char *reason,
                              uint8_t *out)
{
    peer_close(&p);
    peer_open(&p, &b);
    p.rec->ike.spi_i = 0x0102030405060708; /* the same in all of them */
    b.failures = 0;
    cr_assert(peer_init(&p), "%s", what);
    change();
    cr_assert(!peer_auth(&p), "%s", what);
    cr_assert(peer_got_notify(&p, N_AUTHENTICATION_FAILED), "%s", what);
    cr_assert_eq(p.answer.n, 1, "%s: nothing but the notify", what);
    cr_assert_eq(b.failures, 1, "%s: one reason, not %u", what, b.failures);
    cr_assert_eq(strncmp(b.reason, reason, strlen(reason)), 0, "%s: %s", what, b.reason);
    cr_assert_eq(b.commits, 0, "%s", what);
    memcpy(out, p.plain, 16);
    return b.answer_n;
}

static void wrong_psk(void)
{
    p.psk = "another key";
}

static void unknown_id(void)
{
    p.id[0] = '0';
}

static void eap(void)
{
    p.no_auth = true;
}

static void eap_of_an_unknown_id(void)
{
    p.no_auth = true;
    p.id[0] = '0';
}

static void rsa_signature(void)
{
    p.auth_method = 1;
}

static void digital_signature(void)
{
    p.auth_method = 14; /* RFC 7427 */
}

static void null_auth(void)
{
    p.auth_method = 13; /* RFC 7619 */
}

static void right_key_wrong_endpoint(void)
{
    (void)ip_parse("192.0.2.2", &b.engine->tunnels->t.anycast);
}

Test(auth_ways, refusals_look_alike_on_the_wire)
{
    struct {
        const char *what;
        void (*change)(void);
        const char *reason;
    } rows[] = {
        {"a wrong PSK", wrong_psk, "wrong_psk: id f5407d8d"},
        {"an unknown ID", unknown_id, "unknown_id: id 05407d8d"},
        {"EAP", eap, "unsupported_auth: no AUTH payload (EAP?), id f5407d8d"},
        {"EAP of an unknown ID", eap_of_an_unknown_id, "unsupported_auth: no AUTH payload (EAP?)"},
        {"an RSA signature", rsa_signature, "unsupported_auth: method 1, id f5407d8d"},
        {"a digital signature", digital_signature, "unsupported_auth: method 14, id f5407d8d"},
        {"NULL authentication", null_auth, "unsupported_auth: method 13, id f5407d8d"},
        {"another endpoint's tunnel", right_key_wrong_endpoint,
         "wrong_anycast_endpoint: id f5407d8d"},
    };
    uint8_t first[16], other[16];
    size_t n = 0;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        /* HDR, SK {IDi, [AUTH], SAi2, TSi, TSr}  -->  <-- HDR, SK {N(AUTHENTICATION_FAILED)} */
        size_t got =
            refused_attempt(rows[i].what, rows[i].change, rows[i].reason, i ? other : first);

        if (i == 0)
            n = got;
        cr_assert_eq(got, n, "%s: %zu octets, not %zu", rows[i].what, got, n);
        cr_assert(i == 0 || memcmp(first, other, 8) == 0, "%s", rows[i].what);
    }
    cr_assert_eq(b.engine->stats.auth_failed, sizeof rows / sizeof *rows);
}

Test(auth_ways, a_refusal_is_final_and_repeated_with_the_same_bytes)
{
    uint8_t first[512];
    size_t n;

    cr_assert(peer_init(&p));
    wrong_psk();
    cr_assert(!peer_auth(&p));
    n = b.answer_n;
    memcpy(first, b.answer, n);
    bench_datagram(&b, &p.local, &p.remote, (struct slice){p.request, p.request_n});
    cr_assert_eq(b.answer_n, n);
    cr_assert_arr_eq(b.answer, first, n);
    cr_assert_eq(b.failures, 1, "a retransmission is no second failure");
    p.psk = bench_psk;
    p.next_id = 1;
    cr_assert(!peer_auth(&p), "a better key comes too late");
    cr_assert_eq(b.answer_n, 0);
    cr_assert_eq(b.commits, 0);
}

/* ---- reauthentication: a new IKE SA beside the old one (§2.8.3) ---- */

static struct record *known[4];

static void each_known(void *ctx, const struct id128 *tunnel, uint64_t before_us, ike_visit_fn *f,
                       void *f_ctx)
{
    (void)ctx;
    (void)tunnel;
    (void)before_us;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i])
            f(f_ctx, known[i]);
}

Test(auth_ways, reauthentication_then_the_old_sa_is_deleted)
{
    const struct record *deleted;
    struct id128 old_lineage, new_lineage;
    uint32_t old_child, new_child;
    struct peer q;

    cr_assert(peer_init(&p) && peer_auth(&p));
    old_lineage = bench_record(&b, RECORD_IKE, SA_INSTALLED)->ike.lineage;
    old_child = p.child.spi_out;
    /* HDR, SAi1, KEi, Ni  -->  ...  HDR, SK {IDi, AUTH, SAi2, TSi, TSr}  -->, the same ID */
    peer_open(&q, &b);
    cr_assert(peer_init(&q) && peer_auth(&q));
    new_lineage = bench_record(&b, RECORD_IKE, SA_INSTALLED)->ike.lineage;
    new_child = q.child.spi_out;
    cr_assert(!id128_equal(&old_lineage, &new_lineage));
    cr_assert_neq(old_child, new_child);
    cr_assert_null(bench_record(&b, RECORD_IKE, SA_DELETED), "without INITIAL_CONTACT both stay");
    cr_assert_eq(b.engine->stats.established, 2);
    cr_assert(peer_dpd(&p) && peer_dpd(&q));
    /* HDR(old), SK {D(IKE)}  -->  <-- HDR(old), SK {} */
    cr_assert(peer_delete_ike(&p));
    cr_assert_eq(p.answer.n, 0);
    for (size_t i = 0; i < b.n_records; i++) {
        deleted = b.records[i];
        if (deleted->kind == RECORD_CHILD)
            cr_assert_eq(deleted->child.spi_in, old_child, "the new child is not touched");
        else
            cr_assert(id128_equal(&deleted->ike.lineage, &old_lineage));
    }
    cr_assert_eq(b.engine->stats.established, 1);
    cr_assert(peer_rekey_child(&q, q.esp_spi), "%s", b.reason);
    cr_assert(
        id128_equal(&bench_record(&b, RECORD_CHILD, SA_INSTALLED)->child.lineage, &new_lineage));
    peer_close(&q);
}

Test(auth_ways, reauthentication_with_initial_contact)
{
    struct id128 old_lineage, new_lineage;
    struct peer q;

    cr_assert(peer_init(&p) && peer_auth(&p));
    known[0] = record_clone(bench_record(&b, RECORD_IKE, SA_INSTALLED));
    old_lineage = known[0]->ike.lineage;
    b.engine->config.each_ike = each_known;
    peer_open(&q, &b);
    cr_assert(peer_init(&q));
    q.initial_contact = true;
    /* HDR, SK {IDi, AUTH, N(INITIAL_CONTACT), ...}  -->  <-- HDR, SK {IDr, AUTH, ...} */
    cr_assert(peer_auth(&q));
    cr_assert(id128_equal(&bench_record(&b, RECORD_IKE, SA_DELETED)->ike.lineage, &old_lineage));
    new_lineage = bench_record(&b, RECORD_IKE, SA_INSTALLED)->ike.lineage;
    cr_assert(
        id128_equal(&bench_record(&b, RECORD_CHILD, SA_INSTALLED)->child.lineage, &new_lineage));
    cr_assert_null(bench_record(&b, RECORD_CHILD, SA_DELETED),
                   "a lineage's children go with it, in sync/");
    cr_assert_eq(b.engine->stats.established, 1);
    /* HDR(old), SK {D(IKE)}  -->, which crosses: silence, and the new SA stands */
    cr_assert(!peer_delete_ike(&p));
    cr_assert_eq(b.answer_n, 0);
    cr_assert(peer_rekey_child(&q, q.esp_spi), "%s", b.reason);
    record_free(known[0]);
    known[0] = NULL;
    peer_close(&q);
}
