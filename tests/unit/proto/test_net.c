#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "proto/net.h"

static struct ip_addr ip(const char *text)
{
    struct ip_addr a;

    cr_assert(ip_parse(text, &a), "%s", text);
    return a;
}

static struct ip_prefix prefix(const char *text)
{
    struct ip_prefix p;

    cr_assert(prefix_parse(text, &p), "%s", text);
    return p;
}

/* ---- addresses ---- */

Test(ip, texts_that_come_back_as_they_were)
{
    static const char *const texts[] = {"0.0.0.0",
                                        "192.0.2.1",
                                        "255.255.255.255",
                                        "::",
                                        "::1",
                                        "2001:db8::1",
                                        "fe80::1:2:3:4",
                                        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                                        "::ffff:192.0.2.1"};
    char out[ADDR_TEXT];

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct ip_addr a = ip(texts[i]);

        cr_expect(a.family == (strchr(texts[i], ':') ? 6 : 4));
        cr_expect_str_eq(ip_format(&a, out), texts[i]);
    }
}

Test(ip, malformed_texts_are_refused)
{
    static const char *const texts[] = {"",          " ",         "1",          "1.2.3",
                                        "1.2.3.4.5", "1.2.3.256", "01.2.3.4",   "1.2.3.4 ",
                                        " 1.2.3.4",  "1.2.3.-4",  "0x1.2.3.4",  "::1::",
                                        ":::",       "g::1",      "fe80::1%lo", "1:2:3:4:5:6:7:8:9",
                                        "[::1]",     "1.2.3.4/8", "localhost"};
    struct ip_addr a = {.family = 9};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        cr_expect(!ip_parse(texts[i], &a), "%s", texts[i]);
    cr_expect(a.family == 9, "out is left alone");
}

Test(ip, bytes_beyond_the_address_are_zero)
{
    uint8_t bytes[16];
    struct ip_addr a;

    memset(bytes, 0xee, sizeof bytes);
    a = ip_from_bytes(4, bytes);
    cr_expect(a.b[3] == 0xee && a.b[4] == 0 && a.b[15] == 0);
    a = ip_from_bytes(6, bytes);
    cr_expect(a.b[15] == 0xee && ip_len(&a) == 16);
    a = ip_from_bytes(7, bytes);
    cr_expect(a.family == 0 && ip_len(&a) == 0, "no such family is no address");
}

Test(ip, none_formats_as_nothing)
{
    struct ip_addr none = {0};
    char out[ADDR_TEXT] = "x";

    cr_expect_str_eq(ip_format(&none, out), "");
}

Test(ip, order_is_family_then_bytes)
{
    struct ip_addr a = ip("10.0.0.1"), b = ip("10.0.0.2"), c = ip("9.255.0.0"), d = ip("::");
    struct ip_addr none = {0};

    cr_expect(ip_compare(&a, &b) < 0 && ip_compare(&b, &a) > 0);
    cr_expect(ip_compare(&c, &a) < 0);
    cr_expect(ip_compare(&b, &d) < 0 && ip_compare(&none, &c) < 0);
    cr_expect(ip_equal(&a, &a) && !ip_equal(&a, &b) && ip_equal(&none, &none));
}

/* ---- endpoints ---- */

Test(endpoint, texts_that_come_back_as_they_were)
{
    static const char *const texts[] = {"192.0.2.1:500", "1.2.3.4:65535", "[::1]:4500",
                                        "[2001:db8::1]:1", "[::ffff:1.2.3.4]:9"};
    char out[ENDPOINT_TEXT];
    struct endpoint e;

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cr_assert(endpoint_parse(texts[i], &e), "%s", texts[i]);
        cr_expect_str_eq(endpoint_format(&e, out), texts[i]);
    }
}

Test(endpoint, malformed_texts_are_refused)
{
    static const char *const texts[] = {
        "",
        "1.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:0",
        "1.2.3.4:65536",
        "1.2.3.4:+5",
        "1.2.3.4: 5",
        "1.2.3.4:5x",
        "1.2.3.4:05",
        "1.2.3.4:-1",
        ":5",
        "[]:5",
        "[::1]",
        "[::1]5",
        "::1:5",
        "[1.2.3.4]:5",
        "[::1:5",
        "::1]:5",
        "[[::1]]:5",
        "[::1]]:5",
        "host:5",
        "[",
        ":",
        "]:5",
        "1.2.3.4:99999999999999999999",
        "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff:and:much:more:than:fits:into:it]:5"};
    struct endpoint e = {.port = 9};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        cr_expect(!endpoint_parse(texts[i], &e), "%s", texts[i]);
    cr_expect(e.port == 9);
}

Test(endpoint, without_a_port_only_the_address_shows)
{
    struct endpoint four = {.ip = ip("192.0.2.1")}, six = {.ip = ip("::1")}, none = {.port = 5};
    char out[ENDPOINT_TEXT];

    cr_expect_str_eq(endpoint_format(&four, out), "192.0.2.1");
    cr_expect_str_eq(endpoint_format(&six, out), "::1");
    cr_expect_str_eq(endpoint_format(&none, out), ":5");
}

Test(endpoint, equality_needs_both)
{
    struct endpoint a = {ip("192.0.2.1"), 500}, b = a, c = {ip("192.0.2.2"), 500};

    cr_expect(endpoint_equal(&a, &b) && !endpoint_equal(&a, &c));
    b.port = 4500;
    cr_expect(!endpoint_equal(&a, &b));
}

/* ---- prefixes ---- */

Test(prefix, texts_and_what_they_mean)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"0.0.0.0/0", "0.0.0.0/0"},
        {"10.0.0.0/8", "10.0.0.0/8"},
        {"192.0.2.1", "192.0.2.1/32"},
        {"192.0.2.254/31", "192.0.2.254/31"},
        {"192.0.2.128/25", "192.0.2.128/25"},
        {"::/0", "::/0"},
        {"2001:db8::/33", "2001:db8::/33"},
        {"::1", "::1/128"},
        {"2001:db8::8/125", "2001:db8::8/125"},
        {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"},
    };
    char out[ADDR_TEXT];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ip_prefix p = prefix(cases[i].in);
        cr_expect_str_eq(prefix_format(&p, out), cases[i].out);
    }
}

Test(prefix, malformed_texts_are_refused)
{
    static const char *const texts[] = {"",
                                        "/8",
                                        "10.0.0.0/",
                                        "10.0.0.0/33",
                                        "::/129",
                                        "10/8",
                                        "10.0.0.0/8/8",
                                        "10.0.0.0/+8",
                                        "10.0.0.0/08",
                                        "10.0.0.0/ 8",
                                        "10.0.0.0/-1",
                                        "10.0.0.0/x",
                                        "10.0.0.0/4294967296"};
    struct ip_prefix p;

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cr_expect(!prefix_parse(texts[i], &p), "%s", texts[i]);
        cr_expect(!prefix_parse_loose(texts[i], &p, NULL), "%s", texts[i]);
    }
}

Test(prefix, host_bits_are_refused_or_split_off)
{
    struct ip_prefix p = {.bits = 77};
    struct ip_addr host;
    char out[ADDR_TEXT];

    cr_expect(!prefix_parse("10.0.0.1/31", &p) && !prefix_parse("10.128.0.0/8", &p));
    cr_expect(!prefix_parse("2001:db8::1/127", &p) && p.bits == 77);
    cr_expect(prefix_parse_loose("10.100.0.9/31", &p, &host));
    cr_expect_str_eq(prefix_format(&p, out), "10.100.0.8/31");
    cr_expect_str_eq(ip_format(&host, out), "10.100.0.9");
    cr_expect(prefix_parse_loose("2001:db8::ff/121", &p, NULL));
    cr_expect_str_eq(prefix_format(&p, out), "2001:db8::80/121");
}

Test(prefix, containing)
{
    static const struct {
        const char *prefix, *addr;
        bool inside;
    } cases[] = {
        {"0.0.0.0/0", "255.1.2.3", true},
        {"0.0.0.0/0", "::1", false},
        {"10.0.0.0/8", "10.255.255.255", true},
        {"10.0.0.0/8", "11.0.0.0", false},
        {"192.0.2.0/31", "192.0.2.1", true},
        {"192.0.2.0/31", "192.0.2.2", false},
        {"192.0.2.7/32", "192.0.2.7", true},
        {"192.0.2.7/32", "192.0.2.6", false},
        {"::/0", "2001:db8::1", true},
        {"::/0", "1.2.3.4", false},
        {"2001:db8::/33", "2001:db8:7fff::", true},
        {"2001:db8::/33", "2001:db8:8000::", false},
        {"::1/128", "::1", true},
        {"::1/128", "::", false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ip_prefix p = prefix(cases[i].prefix);
        struct ip_addr a = ip(cases[i].addr);
        cr_expect(prefix_contains(&p, &a) == cases[i].inside, "%s %s", cases[i].prefix,
                  cases[i].addr);
    }
}

/* Every length of prefix, against the plain definition bit by bit. */
Test(prefix, all_lengths)
{
    struct ip_addr base = ip("2001:db8:5555:aaaa:1234:5678:9abc:def1");

    for (unsigned bits = 0; bits <= 128; bits++) {
        char text[ADDR_TEXT + 8], addr[ADDR_TEXT];
        struct ip_prefix p;

        snprintf(text, sizeof text, "%s/%u", ip_format(&base, addr), bits);
        cr_assert(prefix_parse_loose(text, &p, NULL));
        cr_expect(prefix_contains(&p, &base));
        for (unsigned flip = 0; flip < 128; flip++) {
            struct ip_addr other = base;
            other.b[flip / 8] ^= (uint8_t)(0x80 >> flip % 8);
            cr_expect(prefix_contains(&p, &other) == (flip >= bits), "/%u bit %u", bits, flip);
        }
    }
}

/* ---- selectors ---- */

static struct selector range(const char *lo, const char *hi, uint8_t proto, uint16_t port_lo,
                             uint16_t port_hi)
{
    return (struct selector){proto, port_lo, port_hi, ip(lo), ip(hi)};
}

static void formats_as(struct selector s, const char *want)
{
    char out[SELECTOR_TEXT];

    cr_expect_str_eq(selector_format(&s, out), want);
}

Test(selector, formatting)
{
    struct ip_prefix any4 = prefix("0.0.0.0/0"), any6 = prefix("::/0"), host = prefix("::1");

    formats_as(selector_of_prefix(&any4), "0.0.0.0/0");
    formats_as(selector_of_prefix(&any6), "::/0");
    formats_as(selector_of_prefix(&host), "::1/128");
    formats_as(range("10.0.0.0", "10.255.255.255", 0, 0, 65535), "10.0.0.0/8");
    formats_as(range("10.0.0.0", "10.0.0.1", 0, 0, 65535), "10.0.0.0/31");
    formats_as(range("10.0.0.1", "10.0.0.9", 0, 0, 65535), "10.0.0.1-10.0.0.9");
    formats_as(range("10.0.0.1", "10.0.0.255", 0, 0, 65535), "10.0.0.1-10.0.0.255");
    formats_as(range("10.0.0.1", "10.0.0.2", 0, 0, 65535), "10.0.0.1-10.0.0.2");
    formats_as(range("10.0.0.1", "10.0.0.1", 17, 53, 53), "10.0.0.1/32[17/53-53]");
    formats_as(range("10.0.0.1", "10.0.0.1", 6, 0, 65535), "10.0.0.1/32[6/0-65535]");
    formats_as(range("10.0.0.1", "10.0.0.1", 0, 80, 443), "10.0.0.1/32[0/80-443]");
    formats_as(range("::1", "::5", 17, 65535, 0), "::1-::5[17/opaque]");
    formats_as(range("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0",
                     "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", 255, 65534, 65535),
               "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0-"
               "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe[255/65534-65535]");
}

static void meet(struct selector a, struct selector b, const char *want)
{
    struct selector s, other;
    char out[SELECTOR_TEXT];
    bool some = selector_intersect(&a, &b, &s);

    cr_expect(some == selector_intersect(&b, &a, &other), "the order must not matter");
    cr_expect(some == (want != NULL), "%s", want ? want : "nothing");
    if (!some || !want)
        return;
    cr_expect_str_eq(selector_format(&s, out), want);
    cr_expect_str_eq(selector_format(&other, out), want);
}

Test(selector, intersection_of_addresses)
{
    struct selector any4 = range("0.0.0.0", "255.255.255.255", 0, 0, 65535);
    struct selector any6 = range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 0, 0, 65535);
    struct selector ten = range("10.0.0.0", "10.255.255.255", 0, 0, 65535);

    meet(any4, ten, "10.0.0.0/8");
    meet(ten, ten, "10.0.0.0/8");
    meet(any4, any6, NULL);
    meet(ten, range("10.1.0.0", "10.1.255.255", 0, 0, 65535), "10.1.0.0/16");
    meet(ten, range("9.0.0.0", "10.0.0.5", 0, 0, 65535), "10.0.0.0-10.0.0.5");
    meet(ten, range("10.255.255.255", "11.0.0.0", 0, 0, 65535), "10.255.255.255/32");
    meet(ten, range("11.0.0.0", "11.0.0.1", 0, 0, 65535), NULL);
    meet((struct selector){.port_hi = 65535}, (struct selector){.port_hi = 65535}, NULL);
}

Test(selector, intersection_of_protocols_and_ports)
{
    const char *a = "10.0.0.0", *b = "10.0.0.255";

    meet(range(a, b, 0, 0, 65535), range(a, b, 6, 80, 443), "10.0.0.0/24[6/80-443]");
    meet(range(a, b, 17, 0, 65535), range(a, b, 6, 0, 65535), NULL);
    meet(range(a, b, 6, 0, 100), range(a, b, 6, 80, 443), "10.0.0.0/24[6/80-100]");
    meet(range(a, b, 6, 0, 80), range(a, b, 6, 80, 443), "10.0.0.0/24[6/80-80]");
    meet(range(a, b, 6, 0, 79), range(a, b, 6, 80, 443), NULL);
}

Test(selector, opaque_ports_meet_any_and_themselves_only)
{
    struct selector opaque = range("10.0.0.0", "10.0.0.255", 17, 65535, 0);
    struct selector any = range("10.0.0.0", "10.0.0.255", 17, 0, 65535);
    struct selector some = range("10.0.0.0", "10.0.0.255", 17, 53, 53);

    meet(opaque, any, "10.0.0.0/24[17/opaque]");
    meet(opaque, opaque, "10.0.0.0/24[17/opaque]");
    meet(opaque, some, NULL);
}

Test(selector, matching_packets)
{
    struct selector s = range("10.0.0.1", "10.0.0.9", 17, 53, 60);
    struct selector opaque = range("10.0.0.1", "10.0.0.9", 17, 65535, 0);
    struct selector any = range("10.0.0.1", "10.0.0.9", 0, 0, 65535);
    struct ip_addr first = ip("10.0.0.1"), last = ip("10.0.0.9");
    struct ip_addr before = ip("10.0.0.0"), after = ip("10.0.0.10"), six = ip("::1");

    cr_expect(selector_matches(&s, &first, 17, 53) && selector_matches(&s, &last, 17, 60));
    cr_expect(!selector_matches(&s, &before, 17, 53) && !selector_matches(&s, &after, 17, 53));
    cr_expect(!selector_matches(&s, &first, 6, 53) && !selector_matches(&s, &six, 17, 53));
    cr_expect(!selector_matches(&s, &first, 17, 52) && !selector_matches(&s, &first, 17, 61));
    cr_expect(!selector_matches(&s, &first, 17, 0), "a fragment shows no port");
    cr_expect(selector_matches(&any, &first, 17, 0) && selector_matches(&any, &first, 1, 65535));
    cr_expect(selector_matches(&opaque, &first, 17, 0) &&
              !selector_matches(&opaque, &first, 17, 9));
}

Test(selector, a_prefix_is_its_first_to_its_last_address)
{
    struct ip_prefix p = prefix("2001:db8::/33");
    struct selector s = selector_of_prefix(&p);
    struct ip_addr last = ip("2001:db8:7fff:ffff:ffff:ffff:ffff:ffff");

    cr_expect(ip_equal(&s.lo, &p.ip) && ip_equal(&s.hi, &last));
    cr_expect(s.proto == 0 && s.port_lo == 0 && s.port_hi == 65535);
}

/* ---- the Internet checksum ---- */

/* As RFC 1071 §4.1 writes it, two octets at a time. */
static uint16_t plain_checksum(const uint8_t *b, size_t n)
{
    uint32_t sum = 0;

    for (size_t i = 0; i + 1 < n; i += 2)
        sum += (uint32_t)(b[i] << 8 | b[i + 1]);
    if (n % 2)
        sum += (uint32_t)b[n - 1] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* RFC 1071 §3: the sum of 00 01 f2 03 f4 f5 f6 f7 is ddf2. */
Test(checksum, the_example_of_the_rfc)
{
    static const uint8_t b[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};

    cr_expect(inet_fold(inet_sum(b, sizeof b, 0)) == (uint16_t)~0xddf2);
}

Test(checksum, all_lengths_and_alignments)
{
    static uint8_t b[300];
    uint32_t x = 1;

    for (size_t i = 0; i < sizeof b; i++)
        b[i] = (uint8_t)((x = x * 1103515245 + 12345) >> 16);
    for (size_t at = 0; at < 9; at++)
        for (size_t n = 0; at + n <= sizeof b; n++)
            cr_assert(inet_fold(inet_sum(b + at, n, 0)) == plain_checksum(b + at, n),
                      "%zu octets at %zu", n, at);
}

Test(checksum, pieces_add_up)
{
    static uint8_t b[101];

    for (size_t i = 0; i < sizeof b; i++)
        b[i] = (uint8_t)(255 - i);
    for (size_t cut = 0; cut < sizeof b; cut += 2)
        cr_expect(inet_fold(inet_sum(b + cut, sizeof b - cut, inet_sum(b, cut, 0))) ==
                  plain_checksum(b, sizeof b));
}

Test(checksum, the_longest_packet_of_all_ones)
{
    static uint8_t b[65535];

    memset(b, 0xff, sizeof b);
    cr_expect(inet_fold(inet_sum(b, sizeof b, 0)) == plain_checksum(b, sizeof b));
    cr_expect(inet_fold(inet_sum(b, sizeof b, UINT32_MAX)) == plain_checksum(b, sizeof b),
              "a sum that is full wraps around, and adds nothing: -0");
    cr_expect(inet_fold(0) == 0xffff && inet_fold(0xffff) == 0 && inet_fold(0x1fffe) == 0);
}
