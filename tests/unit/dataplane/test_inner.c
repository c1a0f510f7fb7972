/* Reading and editing the inner packet. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/dataplane/rig.h"

static uint8_t p[PACKET_MAX];

/* ---- parsing ---- */

Test(dataplane_inner, reads_addresses_ports_and_lengths)
{
    struct inner in;
    size_t n = make_udp("10.0.0.1", "203.0.113.9", 1000, 53, 10, p);

    cr_assert(inner_parse(p, n, &in));
    cr_assert_eq(in.version, 4);
    cr_assert_eq(in.total, n);
    cr_assert_eq(in.l4, 20);
    cr_assert(in.ports_known && in.src_port == 1000 && in.dst_port == 53);
    cr_assert(inner_parse(p, n + 100, &in), "what follows is padding");
    cr_assert_eq(in.total, n);

    n = make_udp("2001:db8::1", "2001:db8::2", 1000, 53, 10, p);
    cr_assert(inner_parse(p, n, &in));
    cr_assert_eq(in.version, 6);
    cr_assert_eq(in.total, n);
    cr_assert_eq(in.l4, 40);
    cr_assert(in.ports_known && in.dst_port == 53);
}

Test(dataplane_inner, every_cut_is_refused)
{
    struct inner in;

    for (int six = 0; six < 2; six++) {
        size_t n = make_udp(six ? "2001:db8::1" : "10.0.0.1", six ? "2001:db8::2" : "10.0.0.2", 1,
                            2, 10, p);
        for (size_t cut = 0; cut < n; cut++)
            cr_assert_not(inner_parse(p, cut, &in), "%zu", cut);
    }
}

Test(dataplane_inner, malformed_ipv4_is_refused)
{
    struct inner in;
    size_t n = make_udp("10.0.0.1", "10.0.0.2", 1, 2, 10, p);

    p[0] = 0x44;
    cr_assert_not(inner_parse(p, n, &in), "a header of 16 octets");
    p[0] = 0x4f;
    cr_assert_not(inner_parse(p, n, &in), "a header longer than the packet");
    p[0] = 0x55;
    cr_assert_not(inner_parse(p, n, &in), "version 5");
    p[0] = 0x45;
    p[8]++;
    cr_assert_not(inner_parse(p, n, &in), "a wrong checksum");
}

Test(dataplane_inner, icmp_and_fragments)
{
    static const uint8_t echo[] = {8, 1, 0, 0, 0, 1, 0, 1};
    struct inner in;
    size_t n = make_ip("10.0.0.1", "10.0.0.2", 1, echo, sizeof echo, p);

    cr_assert(inner_parse(p, n, &in));
    cr_assert(in.ports_known && in.src_port == 0x0801 && in.dst_port == 0x0801);

    n = make_udp("10.0.0.1", "10.0.0.2", 1, 2, 10, p);
    p[7] = 5; /* a later fragment */
    p[11] = (uint8_t)(p[11] - 5);
    cr_assert(inner_parse(p, n, &in));
    cr_assert(!in.ports_known && in.l4 == 0);
}

/* Puts extension headers between the IPv6 header and a UDP header with ports 7 and 9. */
static size_t make_extended(const uint8_t *ext, size_t n, uint8_t first)
{
    static uint8_t body[PACKET_MAX];

    memset(body, 0, n + 8);
    memcpy(body, ext, n);
    body[n + 1] = 7;
    body[n + 3] = 9;
    body[n + 5] = 8;
    return make_ip("2001:db8::1", "2001:db8::2", first, body, n + 8, p);
}

Test(dataplane_inner, ipv6_extension_headers_are_walked)
{
    static const uint8_t chain[] = {
        60, 0, 1, 4,  0, 0, 0, 0,                         /* hop by hop, then destination options */
        43, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 16 octets, then routing */
        44, 0, 0, 0,  0, 0, 0, 0,                         /* then fragment */
        17, 0, 0, 1,  0, 0, 0, 1,                         /* the first one, more follow */
    };
    static const uint8_t later[] = {17, 0, 0, 9, 0, 0, 0, 1};
    static const uint8_t too_long[] = {17, 9, 0, 0, 0, 0, 0, 0};
    uint8_t many[9 * 8] = {0};
    struct inner in;
    size_t n = make_extended(chain, sizeof chain, 0);

    cr_assert(inner_parse(p, n, &in));
    cr_assert_eq(in.proto, 17);
    cr_assert_eq(in.l4, 40 + sizeof chain);
    cr_assert(in.ports_known && in.src_port == 7 && in.dst_port == 9);

    n = make_extended(later, sizeof later, 44);
    cr_assert(inner_parse(p, n, &in));
    cr_assert(in.proto == 17 && !in.ports_known && in.l4 == 0);

    n = make_extended(too_long, sizeof too_long, 60);
    cr_assert_not(inner_parse(p, n, &in));
    n = make_extended(many, sizeof many, 0);
    cr_assert_not(inner_parse(p, n, &in), "nine headers");
}

/* ---- selectors ---- */

Test(dataplane_inner, selectors_of_ports_need_ports)
{
    struct selector_list l = select_prefixes("10.0.0.0/8", NULL);
    struct selector *s = &l.s[0];
    struct inner in;
    size_t n = make_udp("10.0.0.1", "10.0.0.2", 1000, 53, 10, p);

    cr_assert(inner_parse(p, n, &in));
    cr_assert(inner_selected(&in, s, 1, &in.dst, in.dst_port));
    s->proto = 17;
    s->port_lo = s->port_hi = 53;
    cr_assert(inner_selected(&in, s, 1, &in.dst, in.dst_port));
    cr_assert_not(inner_selected(&in, s, 1, &in.src, in.src_port));
    s->port_lo = 0; /* a later fragment has no ports: 0 in the range does not make it fit */
    in.ports_known = false;
    in.src_port = in.dst_port = 0;
    cr_assert_not(inner_selected(&in, s, 1, &in.dst, in.dst_port));
    s->port_lo = UINT16_MAX;
    s->port_hi = 0;
    cr_assert(inner_selected(&in, s, 1, &in.dst, in.dst_port), "opaque");
    in.ports_known = true;
    in.dst_port = 53;
    cr_assert_not(inner_selected(&in, s, 1, &in.dst, in.dst_port));
    s->port_lo = 0;
    s->port_hi = UINT16_MAX;
    s->proto = 6;
    cr_assert_not(inner_selected(&in, s, 1, &in.dst, in.dst_port));
    cr_assert_not(inner_selected(&in, s, 0, &in.dst, in.dst_port));
}

/* ---- TTL and ECN ---- */

Test(dataplane_inner, a_hop_keeps_the_checksum_right)
{
    struct inner in;

    for (unsigned ttl = 255; ttl > 1; ttl--) {
        size_t n = make_udp("10.0.0.1", "10.0.0.2", 1, 2, 3, p);
        uint16_t sum;

        p[8] = (uint8_t)ttl;
        memset(p + 10, 0, 2);
        sum = inet_fold(inet_sum(p, 20, 0));
        p[10] = (uint8_t)(sum >> 8);
        p[11] = (uint8_t)sum;
        cr_assert(inner_parse(p, n, &in));
        cr_assert(inner_hop(p, &in));
        cr_assert_eq(p[8], ttl - 1);
        cr_assert(checksums_right(p, n));
    }
    cr_assert_not(inner_hop(p, &in), "TTL 1");
    cr_assert_eq(p[8], 1);

    make_udp("2001:db8::1", "2001:db8::2", 1, 2, 3, p);
    cr_assert(inner_parse(p, 51, &in));
    cr_assert(inner_hop(p, &in));
    cr_assert_eq(p[7], 63);
}

Test(dataplane_inner, ecn_leaves_the_tunnel_as_in_rfc_6040)
{
    enum { NOT, ONE, ZERO, CE, GONE };
    static const uint8_t figure_4[4][4] = {
        /* [inner][outer] */
        [NOT] = {[NOT] = NOT, [ZERO] = NOT, [ONE] = NOT, [CE] = GONE},
        [ZERO] = {[NOT] = ZERO, [ZERO] = ZERO, [ONE] = ONE, [CE] = CE},
        [ONE] = {[NOT] = ONE, [ZERO] = ONE, [ONE] = ONE, [CE] = CE},
        [CE] = {[NOT] = CE, [ZERO] = CE, [ONE] = CE, [CE] = CE},
    };

    for (int six = 0; six < 2; six++) {
        for (uint8_t own = 0; own < 4; own++) {
            for (uint8_t outer = 0; outer < 4; outer++) {
                struct inner in;
                size_t n = make_udp(six ? "2001:db8::1" : "10.0.0.1",
                                    six ? "2001:db8::2" : "10.0.0.2", 1, 2, 3, p);
                if (six) {
                    p[0] = 0x6b;
                    p[1] = (uint8_t)(0x80 | own << 4 | 5); /* 5: flow label */
                } else {
                    p[1] = (uint8_t)(0xb8 | own);
                    p[11] = (uint8_t)(p[11] - p[1]); /* no borrow: checked below */
                    if (inet_fold(inet_sum(p, 20, 0)) != 0)
                        p[10]--;
                }
                cr_assert(inner_parse(p, n, &in));
                if (!inner_ecn_out(p, &in, (uint8_t)(0x50 | outer))) {
                    cr_assert_eq(figure_4[own][outer], GONE);
                    continue;
                }
                cr_assert(checksums_right(p, n));
                cr_assert(inner_parse(p, n, &in));
                cr_assert_eq(in.tos, 0xb8 | figure_4[own][outer], "%u %u", own, outer);
                cr_assert(!six || (p[1] & 15) == 5);
            }
        }
    }
}

/* ---- MSS ---- */

static uint16_t clamp(const char *src, const char *dst, const uint8_t *options, size_t n,
                      size_t mss_at, uint16_t mtu, bool *changed)
{
    struct inner in;
    size_t total = make_syn(src, dst, options, n, p);

    cr_assert(inner_parse(p, total, &in));
    *changed = inner_clamp_mss(p, &in, mtu);
    cr_assert(checksums_right(p, total), "at %zu", mss_at);
    return (uint16_t)(p[in.l4 + 20 + mss_at] << 8 | p[in.l4 + 21 + mss_at]);
}

Test(dataplane_inner, mss_is_lowered_never_raised)
{
    static const uint8_t first[] = {2, 4, 0x05, 0xb4};           /* 1460 */
    static const uint8_t small[] = {2, 4, 0x02, 0x18};           /* 536 */
    static const uint8_t odd[] = {1, 2, 4, 0x05, 0xb4, 3, 3, 7}; /* at an odd offset */
    static const uint8_t behind[] = {4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 2, 4, 0x05, 0xb4};
    bool changed;

    cr_assert_eq(clamp("10.0.0.1", "10.0.0.2", first, 4, 2, 1400, &changed), 1360);
    cr_assert(changed);
    cr_assert_eq(clamp("2001:db8::1", "2001:db8::2", first, 4, 2, 1400, &changed), 1340);
    cr_assert_eq(clamp("10.0.0.1", "10.0.0.2", odd, 8, 3, 1400, &changed), 1360);
    cr_assert_eq(clamp("10.0.0.1", "10.0.0.2", odd, 8, 3, 1277, &changed), 1237);
    cr_assert_eq(clamp("2001:db8::1", "2001:db8::2", odd, 8, 3, 1400, &changed), 1340);
    cr_assert_eq(clamp("10.0.0.1", "10.0.0.2", behind, 16, 14, 1400, &changed), 1360);
    cr_assert_eq(clamp("10.0.0.1", "10.0.0.2", small, 4, 2, 1400, &changed), 536);
    cr_assert_not(changed);
    cr_assert_eq(clamp("10.0.0.1", "10.0.0.2", first, 4, 2, 100, &changed), 1460, "no sense");
    for (uint16_t mtu = 576; mtu < 1500; mtu++)
        cr_assert_eq(clamp("10.0.0.1", "10.0.0.2", odd, 8, 3, mtu, &changed), mtu - 40);
}

Test(dataplane_inner, mss_of_broken_options_is_left_alone)
{
    static const uint8_t broken[][8] = {
        {0, 2, 4, 5, 0xb4},       /* behind the end of options */
        {3, 0, 2, 4, 5, 0xb4},    /* a length of 0 */
        {3, 1, 2, 4, 5, 0xb4},    /* a length of 1 */
        {3, 200, 2, 4, 5, 0xb4},  /* beyond the header */
        {2, 3, 5, 0xb4},          /* an MSS of the wrong length */
        {1, 1, 1, 1, 1, 1, 1, 2}, /* cut after its kind */
        {1, 1, 1, 1, 1, 1, 2, 4}, /* and after its length */
    };
    static uint8_t before[PACKET_MAX];
    struct inner in;

    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        size_t n = make_syn("10.0.0.1", "10.0.0.2", broken[i], 8, p);

        memcpy(before, p, n);
        cr_assert(inner_parse(p, n, &in));
        cr_assert_not(inner_clamp_mss(p, &in, 600), "%zu", i);
        cr_assert_eq(memcmp(before, p, n), 0);
    }
}

Test(dataplane_inner, only_a_whole_syn_is_touched)
{
    static const uint8_t mss[] = {2, 4, 0x05, 0xb4};
    struct inner in;
    size_t n = make_syn("10.0.0.1", "10.0.0.2", mss, 4, p);

    p[20 + 13] = 0x10; /* ACK alone */
    cr_assert(inner_parse(p, n, &in));
    cr_assert_not(inner_clamp_mss(p, &in, 600));
    p[20 + 13] = 0x12; /* SYN, ACK */
    cr_assert(inner_clamp_mss(p, &in, 600));
    p[20 + 12] = 0xf0; /* a header longer than the packet */
    cr_assert_not(inner_clamp_mss(p, &in, 500));
    p[20 + 12] = 0x40; /* and one that is too short */
    cr_assert_not(inner_clamp_mss(p, &in, 500));
    n = make_ip("10.0.0.1", "10.0.0.2", 6, mss, 4, p); /* no TCP header at all */
    cr_assert(inner_parse(p, n, &in));
    cr_assert_not(inner_clamp_mss(p, &in, 500));
}
