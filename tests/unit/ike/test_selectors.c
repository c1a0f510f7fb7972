/* Traffic selectors (RFC 7296 §2.9): what the peer asks for, what the tunnel allows, what both
 * agree on; and that refusing them costs only the Child SA. Arrows as in test_engine.c. */
#include <criterion/criterion.h>
#include <stdio.h>
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

TestSuite(selectors, .init = begin, .fini = end);

/* "10.0.0.0/8,2001:db8::/32", each with "[PROTO/LO-HI]" if it is limited. */
static struct selector_list list_of(const char *text)
{
    struct selector_list list = {0};
    char copy[1024], *rest = copy, *one;

    strcpy(copy, text);
    while (*copy && (one = strsep(&rest, ","))) {
        unsigned proto = 0, lo = 0, hi = 65535;
        char *limits = strchr(one, '[');
        struct ip_prefix prefix;

        if (limits) {
            cr_assert_eq(sscanf(limits, "[%u/%u-%u]", &proto, &lo, &hi), 3);
            *limits = 0;
        }
        cr_assert(prefix_parse(one, &prefix), "%s", one);
        list.s[list.n] = selector_of_prefix(&prefix);
        list.s[list.n].proto = (uint8_t)proto;
        list.s[list.n].port_lo = (uint16_t)lo;
        list.s[list.n++].port_hi = (uint16_t)hi;
    }
    return list;
}

static void check_list(const char *what, const char *name, const struct selector_list *got,
                       const char *want)
{
    char a[1024], c[1024];
    struct selector_list wanted = list_of(want);

    cr_expect_str_eq(ts_describe(got, a, sizeof a), ts_describe(&wanted, c, sizeof c), "%s: %s",
                     what, name);
}

static void allow(const char *remote, const char *local)
{
    b.engine->tunnels->t.remote_ts = list_of(remote);
    b.engine->tunnels->t.local_ts = list_of(local);
}

static struct selector_list answered(uint8_t type)
{
    const struct payload *ts = message_find(&p.answer, type);
    struct selector_list list = {0};

    cr_assert(ts && ts_parse(ts->body, &list) == ERR_OK);
    return list;
}

#define ANY "0.0.0.0/0,::/0"

Test(selectors, agreed_on)
{
    struct {
        const char *what;
        const char *remote_allowed, *local_allowed;
        const char *tsi, *tsr;         /* asked for */
        const char *got_tsi, *got_tsr; /* NULL: TS_UNACCEPTABLE */
    } rows[] = {
        {"all of IPv4", ANY, ANY, "0.0.0.0/0", "0.0.0.0/0", "0.0.0.0/0", "0.0.0.0/0"},
        {"all of both families", ANY, ANY, ANY, ANY, ANY, ANY},
        {"narrow ones stay as they are", ANY, ANY, "203.0.113.16/28", "10.1.2.3/32",
         "203.0.113.16/28", "10.1.2.3/32"},
        {"several", ANY, ANY, "203.0.113.16/28,198.18.0.0/15",
         "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16", "203.0.113.16/28,198.18.0.0/15",
         "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"},
        {"IPv6", ANY, ANY, "2001:db8:16::/64", "2001:db8:1::/48", "2001:db8:16::/64",
         "2001:db8:1::/48"},
        {"protocol and ports", ANY, ANY, "203.0.113.16/28[6/0-65535]", "10.0.0.1/32[6/443-443]",
         "203.0.113.16/28[6/0-65535]", "10.0.0.1/32[6/443-443]"},
        {"ICMP type 8, as the RFC packs it", ANY, ANY, "203.0.113.16/28[1/2048-2048]",
         "0.0.0.0/0[1/2048-2048]", "203.0.113.16/28[1/2048-2048]", "0.0.0.0/0[1/2048-2048]"},
        {"narrowed to the tunnel's bounds", "203.0.113.16/28", "10.0.0.0/8,192.168.0.0/16",
         "0.0.0.0/0", "0.0.0.0/0", "203.0.113.16/28", "10.0.0.0/8,192.168.0.0/16"},
        {"narrowed on one side only", "203.0.113.0/24", ANY, "203.0.112.0/22", "10.0.0.0/8",
         "203.0.113.0/24", "10.0.0.0/8"},
        {"narrowed with its ports kept", "203.0.113.16/28", ANY, "203.0.113.0/24[17/500-600]",
         "0.0.0.0/0[17/0-65535]", "203.0.113.16/28[17/500-600]", "0.0.0.0/0[17/0-65535]"},
        {"the tunnel's ports narrow, too", ANY, "10.0.0.0/8[6/80-80],10.0.0.0/8[6/443-443]",
         "203.0.113.16/28", "10.1.0.0/16[6/0-1023]", "203.0.113.16/28",
         "10.1.0.0/16[6/80-80],10.1.0.0/16[6/443-443]"},
        {"only those that are allowed", "203.0.113.16/28,2001:db8:16::/64", ANY,
         "198.18.0.0/15,203.0.113.16/30,2001:db8:17::/64,2001:db8:16::/65", ANY,
         "203.0.113.16/30,2001:db8:16::/65", ANY},
        {"the same twice is once", ANY, ANY, "203.0.113.16/28,203.0.113.16/28", "0.0.0.0/0",
         "203.0.113.16/28", "0.0.0.0/0"},
        {"TSi outside the bounds", "203.0.113.16/28", ANY, "203.0.113.32/28", "0.0.0.0/0", NULL,
         NULL},
        {"TSr outside the bounds", ANY, "10.0.0.0/8", "203.0.113.16/28", "192.168.0.0/16", NULL,
         NULL},
        {"the other family", "203.0.113.16/28", "10.0.0.0/8", "2001:db8::/32", "2001:db8::/32",
         NULL, NULL},
        {"the other protocol", ANY, "10.0.0.0/8[6/0-65535]", "203.0.113.16/28",
         "10.0.0.0/8[17/53-53]", NULL, NULL},
    };

    cr_assert(peer_init(&p) && peer_auth(&p));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct record *child;
        struct selector_list list;

        allow(rows[i].remote_allowed, rows[i].local_allowed);
        p.tsi = list_of(rows[i].tsi);
        p.tsr = list_of(rows[i].tsr);
        b.failures = 0;
        /* HDR, SK {SA, Ni, TSi, TSr}  -->  <-- HDR, SK {SA, Nr, TSi, TSr}, or N(TS_UNACCEPTABLE) */
        cr_assert_eq(peer_rekey_child(&p, 0), rows[i].got_tsi != NULL, "%s: %s", rows[i].what,
                     b.reason);
        if (!rows[i].got_tsi) {
            cr_expect(peer_got_notify(&p, N_TS_UNACCEPTABLE), "%s", rows[i].what);
            cr_expect_eq(p.answer.n, 1, "%s", rows[i].what);
            cr_expect_eq(b.failures, 1, "%s", rows[i].what);
            cr_expect_eq(strncmp(b.reason, "ts_unacceptable: peer offered TSi ", 34), 0, "%s",
                         b.reason);
            cr_expect_not_null(strstr(b.reason, "tunnel allows "), "%s", b.reason);
            continue;
        }
        list = answered(PAYLOAD_TSI);
        check_list(rows[i].what, "TSi", &list, rows[i].got_tsi);
        list = answered(PAYLOAD_TSR);
        check_list(rows[i].what, "TSr", &list, rows[i].got_tsr);
        child = bench_record(&b, RECORD_CHILD, SA_INSTALLED);
        check_list(rows[i].what, "the record's remote", &child->child.ts_remote, rows[i].got_tsi);
        check_list(rows[i].what, "the record's local", &child->child.ts_local, rows[i].got_tsr);
    }
}

Test(selectors, that_are_not_acceptable_leave_the_ike_sa_up)
{
    allow("203.0.113.16/28", ANY);
    p.tsi = list_of("198.18.0.0/15");
    cr_assert(peer_init(&p));
    /* HDR, SK {IDi, AUTH, SAi2, TSi, TSr}  -->  <-- HDR, SK {IDr, AUTH, N(TS_UNACCEPTABLE)} */
    cr_assert(!peer_auth(&p));
    cr_assert_not_null(message_find(&p.answer, PAYLOAD_AUTH));
    cr_assert(peer_got_notify(&p, N_TS_UNACCEPTABLE));
    cr_assert_eq(b.failures, 1);
    cr_assert_not_null(bench_record(&b, RECORD_IKE, SA_INSTALLED));
    cr_assert_null(bench_record(&b, RECORD_CHILD, SA_INSTALLED));
    /* HDR, SK {SA, Ni, TSi, TSr}  -->  <-- HDR, SK {N(TS_UNACCEPTABLE)} */
    cr_assert(!peer_rekey_child(&p, 0));
    cr_assert(peer_got_notify(&p, N_TS_UNACCEPTABLE));
    /* HDR, SK {SA, Ni, TSi, TSr}  -->  <-- HDR, SK {SA, Nr, TSi, TSr} */
    p.tsi = list_of("203.0.113.16/28");
    cr_assert(peer_rekey_child(&p, 0), "%s", b.reason);
    cr_assert_eq(bench_record(&b, RECORD_CHILD, SA_INSTALLED)->child.replaces_spi, 0);
    /* and a rekey of it that asks for too much leaves it as it is */
    p.tsi = list_of("198.18.0.0/15");
    cr_assert(!peer_rekey_child(&p, p.esp_spi));
    cr_assert(peer_got_notify(&p, N_TS_UNACCEPTABLE));
    p.tsi = list_of("203.0.113.16/28");
    cr_assert(peer_rekey_child(&p, p.esp_spi - 1));
}

/* ---- payloads that no selector_list can say ---- */

static uint8_t ts_body[512];
static size_t ts_body_n;

/* IKE_AUTH without TSi from the harness: the one below stands for it. */
static void raw_tsi(struct chain *c)
{
    struct selector_list any = list_of("0.0.0.0/0");

    peer_write_offer(c, &p.esp, PROTOCOL_ESP, p.esp_spi, false);
    chain_open(c, PAYLOAD_TSI);
    write_bytes(&c->w, ts_body, ts_body_n);
    ts_write(c, PAYLOAD_TSR, &any);
}

static void one_ts(struct writer *w, uint8_t type, uint16_t length, uint16_t lo, uint16_t hi,
                   const char *from, const char *to)
{
    struct ip_addr a = {0}, z = {0};

    write_u8(w, type);
    write_u8(w, 0);
    write_u16(w, length);
    write_u16(w, lo);
    write_u16(w, hi);
    (void)ip_parse(from, &a);
    (void)ip_parse(to, &z);
    write_bytes(w, a.b, ip_len(&a));
    write_bytes(w, z.b, ip_len(&z));
}

/* Sends IKE_AUTH with what was written; `count` is what the payload claims. */
static bool auth_with(struct writer *w, uint8_t count)
{
    ts_body[0] = count;
    ts_body_n = w->n;
    p.childless = true; /* raw_tsi writes SA, TSi and TSr */
    p.extra = raw_tsi;
    b.failures = 0;
    return peer_auth(&p) && message_find(&p.answer, PAYLOAD_SA);
}

static struct writer begin_ts(void)
{
    struct writer w = writer_of(ts_body, sizeof ts_body);

    write_zeros(&w, 4);
    return w;
}

Test(selectors, of_unknown_types_are_passed_over)
{
    struct writer w = begin_ts();
    struct selector_list got;

    cr_assert(peer_init(&p));
    one_ts(&w, 10, 16, 0, 65535, "192.0.2.7", "192.0.2.7"); /* TS_SECLABEL (RFC 9478), say */
    one_ts(&w, TS_IPV4_ADDR_RANGE, 16, 65535, 0, "203.0.113.16", "203.0.113.31"); /* OPAQUE */
    one_ts(&w, TS_IPV4_ADDR_RANGE, 16, 0, 65535, "203.0.113.31", "203.0.113.16"); /* inverted */
    one_ts(&w, TS_IPV4_ADDR_RANGE, 16, 0, 65535, "203.0.113.3", "203.0.113.9");
    cr_assert(auth_with(&w, 4), "%s", b.reason);
    got = answered(PAYLOAD_TSI);
    cr_assert_eq(got.n, 1);
    cr_assert_eq(got.s[0].lo.b[3], 3);
    cr_assert_eq(got.s[0].hi.b[3], 9, "a range need not be a prefix");
}

Test(selectors, of_unknown_types_alone_are_not_acceptable)
{
    struct writer w = begin_ts();

    cr_assert(peer_init(&p));
    one_ts(&w, 10, 16, 0, 65535, "192.0.2.7", "192.0.2.7");
    cr_assert(!auth_with(&w, 1));
    cr_assert(peer_got_notify(&p, N_TS_UNACCEPTABLE));
    cr_assert_eq(b.failures, 1);
}

Test(selectors, more_than_we_hold_are_narrowed_to_the_first)
{
    struct writer w = begin_ts();
    char from[32];

    cr_assert(peer_init(&p));
    for (unsigned i = 0; i < 20; i++) {
        snprintf(from, sizeof from, "203.0.113.%u", i);
        one_ts(&w, TS_IPV4_ADDR_RANGE, 16, 0, 65535, from, from);
    }
    cr_assert(auth_with(&w, 20), "%s", b.reason);
    cr_assert_eq(answered(PAYLOAD_TSI).n, SELECTORS_MAX);
    cr_assert_eq(answered(PAYLOAD_TSI).s[7].lo.b[3], 7);
}

/* INVALID_SYNTAX in the answer to IKE_AUTH means that there is no IKE SA either (§2.21.2). */
Test(selectors, that_are_malformed_end_the_negotiation)
{
    struct {
        const char *what;
        uint8_t count;
        uint16_t length;
    } rows[] = {{"none", 0, 0},
                {"more than there are", 2, 16},
                {"shorter than a header", 1, 7},
                {"shorter than its addresses", 1, 15},
                {"longer than the payload", 1, 17}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct writer w = begin_ts();

        if (i)
            peer_open(&p, &b);
        cr_assert(peer_init(&p));
        if (rows[i].count)
            one_ts(&w, TS_IPV4_ADDR_RANGE, rows[i].length, 0, 65535, "192.0.2.7", "192.0.2.7");
        cr_expect(!auth_with(&w, rows[i].count), "%s", rows[i].what);
        cr_expect(peer_got_notify(&p, N_INVALID_SYNTAX), "%s", rows[i].what);
        cr_expect_eq(b.failures, 1, "%s", rows[i].what);
        cr_expect_eq(strncmp(b.reason, "invalid_syntax", 14), 0, "%s: %s", rows[i].what, b.reason);
        cr_expect_eq(p.answer.n, 1, "%s: no AUTH", rows[i].what);
        cr_expect_eq(b.commits, 0, "%s: nothing is installed anywhere", rows[i].what);
        cr_expect(!peer_dpd(&p), "%s: no IKE SA", rows[i].what);
        if (i + 1 < sizeof rows / sizeof *rows)
            peer_close(&p);
    }
    cr_assert_eq(b.engine->stats.established, 0);
    cr_assert_eq(b.engine->stats.half_open, 0);
}
