/* What we do not know: payloads, critical or not, notifies, vendor IDs, exchanges (RFC 7296 §2.5,
 * §3.10.1). Arrows as in test_engine.c; C(n) is a critical payload of type n. */
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

TestSuite(unknown, .init = begin, .fini = end);

enum {
    TYPE = 211,
    MOBIKE_SUPPORTED = 16396,
    NO_ADDITIONAL_ADDRESSES = 16399,
    UPDATE_SA_ADDRESSES = 16400,
    COOKIE2 = 16401
};

static void add_unknown(struct chain *c, bool critical)
{
    chain_open(c, TYPE);
    if (critical)
        write_u8_at(&c->w, c->last_at + 1, 0x80);
    write_bytes(&c->w, "what is this?", 13);
    chain_close(c);
}

static void critical(struct chain *c)
{
    add_unknown(c, true);
}

static void harmless(struct chain *c)
{
    add_unknown(c, false);
}

/* The critical bit on a payload that we know says nothing (§2.5). */
static void critical_but_known(struct chain *c)
{
    chain_open(c, PAYLOAD_VENDOR);
    write_u8_at(&c->w, c->last_at + 1, 0x80);
    write_bytes(&c->w, "known", 5);
    chain_close(c);
}

/* What strongSwan and others send, and what nobody sends. */
static void many_notifies(struct chain *c)
{
    static const uint16_t types[] = {MOBIKE_SUPPORTED, NO_ADDITIONAL_ADDRESSES, 16397, 16398, 16404,
                                     16406, 16417, 16420, 16431, 16437, 16441, 40959, 40960, 65535,
                                     /* errors in a request are ignored, too */
                                     2, 40, 8191, 16383};

    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        chain_notify(c, 0, (struct slice){0}, types[i],
                     (struct slice){(const uint8_t *)"12345678", 8});
    for (unsigned i = 0; i < 10; i++) {
        chain_open(c, PAYLOAD_VENDOR);
        write_bytes(&c->w, "a vendor's identity", i);
    }
    chain_open(c, PAYLOAD_NOTIFY); /* too short to be one */
    write_u16(&c->w, 0);
    chain_open(c, PAYLOAD_CERTREQ);
    write_u8(&c->w, 4);
    chain_open(c, PAYLOAD_CP);
    write_u32(&c->w, 0x01000000);
    chain_close(c);
}

static void check_named(const char *where)
{
    struct notify n;

    cr_assert(message_find_notify(&p.answer, N_UNSUPPORTED_CRITICAL_PAYLOAD, &n), "%s", where);
    cr_assert_eq(n.data.n, 1, "%s", where);
    cr_assert_eq(n.data.p[0], TYPE, "%s: the type that is not understood", where);
    cr_assert_eq(p.answer.n, 1, "%s: and nothing else", where);
    cr_assert_eq(b.failures, 1, "%s", where);
    cr_assert_eq(strncmp(b.reason, "unsupported_critical_payload: type 211 in exchange ", 51), 0,
                 "%s: %s", where, b.reason);
    b.failures = 0;
}

Test(unknown, and_critical_in_ike_sa_init)
{
    p.extra = critical;
    /* HDR(SPIi,0), SAi1, KEi, Ni, C(211)  -->  <-- HDR(SPIi,0), N(UNSUPPORTED_CRITICAL_PAYLOAD) */
    cr_assert(!peer_init(&p));
    check_named("IKE_SA_INIT");
    cr_assert_null(b.engine->by_spi, "nothing is remembered");
    p.extra = NULL;
    cr_assert(peer_init(&p) && peer_auth(&p), "the same SPIi, without it");
}

Test(unknown, and_critical_in_answers_to_nothing)
{
    p.extra = critical;
    cr_assert(!peer_init(&p));
    b.failures = 0;
    p.init_request[19] |= IKE_FLAG_RESPONSE;
    bench_datagram(&b, &p.local, &p.remote, (struct slice){p.init_request, p.init_request_n});
    cr_assert_eq(b.answer_n, 0, "a response is never answered");
    p.init_request[19] &= (uint8_t)~IKE_FLAG_RESPONSE;
    p.init_request[15] = 1; /* SPIr */
    bench_datagram(&b, &p.local, &p.remote, (struct slice){p.init_request, p.init_request_n});
    cr_assert_eq(b.answer_n, 0, "nor is an SPI that we did not give");
    cr_assert_eq(b.failures, 0);
}

Test(unknown, and_critical_in_ike_auth)
{
    cr_assert(peer_init(&p));
    p.extra = critical;
    /* HDR, SK {IDi, AUTH, SAi2, TSi, TSr, C(211)}  -->
     *                               <-- HDR, SK {N(UNSUPPORTED_CRITICAL_PAYLOAD)} */
    cr_assert(!peer_auth(&p));
    check_named("IKE_AUTH");
    cr_assert_eq(b.commits, 0);
    cr_assert_eq(b.engine->stats.half_open, 0);
    p.extra = NULL;
    cr_assert(!peer_auth(&p), "it is over");
}

Test(unknown, and_critical_on_an_established_sa)
{
    uint8_t payloads[64];
    struct chain c;

    cr_assert(peer_init(&p) && peer_auth(&p));
    p.extra = critical;
    /* HDR, SK {SA, Ni, TSi, TSr, C(211)}  -->  <-- HDR, SK {N(UNSUPPORTED_CRITICAL_PAYLOAD)} */
    cr_assert(!peer_rekey_child(&p, 0));
    check_named("CREATE_CHILD_SA");
    cr_assert(memcmp(&b.failed_tunnel, &bench_record(&b, RECORD_IKE, SA_INSTALLED)->ike.tunnel_id,
                     sizeof b.failed_tunnel) == 0);
    /* HDR, SK {C(211), D(IKE)}  -->  <-- HDR, SK {N(UNSUPPORTED_CRITICAL_PAYLOAD)} */
    chain_begin(&c, payloads, sizeof payloads);
    critical(&c);
    chain_open(&c, PAYLOAD_DELETE);
    write_u32(&c.w, 0x01000000);
    chain_close(&c);
    cr_assert(peer_request(&p, INFORMATIONAL, &c));
    check_named("INFORMATIONAL");
    cr_assert_null(bench_record(&b, RECORD_IKE, SA_DELETED), "nothing of the message is done");
    p.extra = NULL;
    cr_assert(peer_rekey_child(&p, 0), "the IKE SA lives on");
}

Test(unknown, but_not_critical)
{
    uint8_t payloads[64];
    struct chain c;

    p.extra = harmless;
    cr_assert(peer_init(&p));
    cr_assert(peer_auth(&p), "%s", b.reason);
    cr_assert(peer_rekey_child(&p, p.esp_spi));
    chain_begin(&c, payloads, sizeof payloads);
    harmless(&c);
    cr_assert(peer_request(&p, INFORMATIONAL, &c));
    cr_assert_eq(p.answer.n, 0);
    cr_assert_eq(b.failures, 0);
}

Test(unknown, critical_bits_on_known_payloads_say_nothing)
{
    p.extra = critical_but_known;
    cr_assert(peer_init(&p) && peer_auth(&p) && peer_rekey_child(&p, p.esp_spi));
}

Test(unknown, notifies_and_vendor_ids)
{
    uint8_t payloads[1024];
    unsigned commits;
    struct chain c;

    p.extra = many_notifies;
    /* HDR, SAi1, KEi, Ni, N(...)x18, V x10, CERTREQ, CP  -->  <-- as ever */
    cr_assert(peer_init(&p));
    cr_assert(!peer_got_notify(&p, MOBIKE_SUPPORTED), "not answered, so the peer will not use it");
    cr_assert(peer_auth(&p), "%s", b.reason);
    cr_assert(!peer_got_notify(&p, MOBIKE_SUPPORTED));
    cr_assert(peer_rekey_child(&p, p.esp_spi), "%s", b.reason);
    cr_assert(peer_dpd(&p)); /* what it confirmed is committed here */
    commits = b.commits;
    /* HDR, SK {N(...)x18, V x10, ...}  -->  <-- HDR, SK {} */
    chain_begin(&c, payloads, sizeof payloads);
    many_notifies(&c);
    cr_assert(peer_request(&p, INFORMATIONAL, &c));
    cr_assert_eq(p.answer.n, 0);
    cr_assert_eq(b.commits, commits);
    cr_assert_eq(b.failures, 0);
}

/* A peer that moves although we never said MOBIKE_SUPPORTED: RFC 4555 leaves it without effect. */
Test(unknown, mobike_update_changes_nothing)
{
    uint8_t payloads[128];
    struct chain c;

    cr_assert(peer_init(&p) && peer_auth(&p) && peer_dpd(&p));
    chain_begin(&c, payloads, sizeof payloads);
    chain_error(&c, UPDATE_SA_ADDRESSES);
    chain_notify(&c, 0, (struct slice){0}, COOKIE2,
                 (struct slice){(const uint8_t *)"0123456789abcdef", 16});
    (void)endpoint_parse("203.0.113.99:4500", &p.remote);
    /* HDR, SK {N(UPDATE_SA_ADDRESSES), N(COOKIE2)}  -->  <-- HDR, SK {} */
    cr_assert(peer_request(&p, INFORMATIONAL, &c));
    cr_assert_eq(p.answer.n, 0);
    cr_assert(endpoint_equal(&b.answer_peer, &p.remote), "answered where it came from");
    cr_assert_neq(b.engine->by_spi->rec->ike.peer.ip.b[3], 99, "and no SA moves");
}

Test(unknown, more_payloads_than_we_read_are_malformed)
{
    uint8_t payloads[2048];
    struct chain c;

    cr_assert(peer_init(&p) && peer_auth(&p));
    chain_begin(&c, payloads, sizeof payloads);
    for (unsigned i = 0; i <= IKE_PAYLOADS_MAX; i++)
        chain_error(&c, 40960);
    cr_assert(peer_request(&p, INFORMATIONAL, &c));
    cr_assert(peer_got_notify(&p, N_INVALID_SYNTAX));
    cr_assert_eq(b.failures, 1);
    cr_assert(peer_dpd(&p));
}

Test(unknown, exchanges)
{
    struct chain c;

    cr_assert(peer_init(&p) && peer_auth(&p));
    chain_begin(&c, NULL, 0);
    /* HDR(exchange 43), SK {}  -->  <-- HDR(exchange 43), SK {N(INVALID_SYNTAX)} */
    cr_assert(peer_request(&p, 43, &c));
    cr_assert(peer_got_notify(&p, N_INVALID_SYNTAX));
    cr_assert_eq(p.answer.exchange, 43);
    cr_assert_eq(b.failures, 1);
    /* a second IKE_AUTH on an SA that is there */
    chain_begin(&c, NULL, 0);
    cr_assert(peer_request(&p, IKE_AUTH, &c));
    cr_assert(peer_got_notify(&p, N_INVALID_SYNTAX));
    cr_assert(peer_dpd(&p));
}

Test(unknown, major_versions)
{
    cr_assert(peer_init(&p));
    p.init_request[7]++; /* another SPIi */
    p.init_request[17] = 0x30;
    /* HDR(3.0)  -->  <-- HDR, N(INVALID_MAJOR_VERSION) */
    bench_datagram(&b, &p.local, &p.remote, (struct slice){p.init_request, p.init_request_n});
    cr_assert_eq(message_parse((struct slice){b.answer, b.answer_n}, &p.answer), ERR_OK);
    cr_assert(peer_got_notify(&p, N_INVALID_MAJOR_VERSION));
    cr_assert_eq(p.answer.version, IKE_VERSION_2);
    p.init_request[17] = 0x10;
    bench_datagram(&b, &p.local, &p.remote, (struct slice){p.init_request, p.init_request_n});
    cr_assert_eq(b.answer_n, 0, "IKEv1 is not answered");
    p.init_request[17] = 0x2f; /* a later minor version is ours (§2.5) */
    bench_datagram(&b, &p.local, &p.remote, (struct slice){p.init_request, p.init_request_n});
    cr_assert_eq(message_parse((struct slice){b.answer, b.answer_n}, &p.answer), ERR_OK);
    cr_assert_not_null(message_find(&p.answer, PAYLOAD_KE));
}
