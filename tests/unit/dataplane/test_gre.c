/* GRE: what is taken, and every reason for a refusal. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/gre.h"
#include "proto/err.h"
#include "tests/unit/dataplane/rig.h"

static uint8_t inner[PACKET_MAX], packet[PACKET_MAX];

/* A GRE packet around `inner`; the checksum is made right when the flag says there is one. */
static size_t make_gre(uint16_t flags, uint16_t protocol, uint32_t key, size_t n)
{
    struct writer w = writer_of(packet, sizeof packet);

    write_u16(&w, flags);
    write_u16(&w, protocol);
    if (flags & GRE_CHECKSUM)
        write_u32(&w, 0);
    if (flags & GRE_KEY)
        write_u32(&w, key);
    if (flags & GRE_SEQUENCE)
        write_u32(&w, 1234);
    write_bytes(&w, inner, n);
    if (flags & GRE_CHECKSUM)
        write_u16_at(&w, 4, inet_fold(inet_sum(packet, w.n, 0)));
    cr_assert_not(w.bad);
    return w.n;
}

static void arrives(struct rig *rig, const char *from, size_t n)
{
    push_native(rig, IP_PROTO_GRE, from, packet, n);
    rig_run(rig);
}

Test(dataplane_gre, takes_key_checksum_and_sequence)
{
    static const uint16_t flags[] = {GRE_KEY, GRE_KEY | GRE_CHECKSUM, GRE_KEY | GRE_SEQUENCE,
                                     GRE_KEY | GRE_CHECKSUM | GRE_SEQUENCE};
    struct dp_sa_stats stats;
    struct rig rig;
    size_t n;

    rig_open(&rig, NULL);
    for (size_t i = 0; i < 4; i++) {
        n = make_udp("203.0.115.9", BEHIND_US, 1, 2, 33, inner);
        arrives(&rig, CUSTOMER, make_gre(flags[i], 0x0800, 7, n));
        expect_left(&rig, VIA_INNER, inner, n);
        n = make_udp("2001:db8::1", "2001:db8::2", 1, 2, 33, inner);
        arrives(&rig, CUSTOMER, make_gre(flags[i], 0x86dd, 7, n));
        expect_left(&rig, VIA_INNER, inner, n);
    }
    cr_assert_eq(all_drops(&rig), 0);
    cr_assert_not(dp_tunnel_get_stats(rig.dp, (struct id128[]){rig_id(4)}, &stats));
    cr_assert(dp_tunnel_get_stats(rig.dp, (struct id128[]){rig_id(3)}, &stats));
    cr_assert_eq(stats.packets_in, 8);
    cr_assert_eq(stats.packets_out, 0);
    cr_assert_neq(stats.last_in_us, 0);
    rig_close(&rig);
}

Test(dataplane_gre, leaves_with_its_key_and_ttl)
{
    static const uint8_t header[] = {0x20, 0, 0x08, 0, 0, 0, 0, 7};
    struct memory_packet p;
    struct dp_sa_stats stats;
    struct rig rig;
    size_t n;

    rig_open(&rig, NULL);
    n = make_udp(BEHIND_US, "203.0.115.9", 1, 2, 33, inner);
    push_inner(&rig, inner, n);
    rig_run(&rig);
    cr_assert(pop(&rig, &p));
    cr_assert(p.via == VIA_IP && p.protocol == IP_PROTO_GRE);
    cr_assert(endpoint_equal(&p.local, (struct endpoint[]){end(ANYCAST, 0)}));
    cr_assert(endpoint_equal(&p.peer, (struct endpoint[]){end(CUSTOMER, 0)}));
    cr_assert_eq(p.n, n + 8);
    cr_assert_eq(memcmp(p.bytes, header, 8), 0);
    cr_assert_eq(memcmp(p.bytes + 8, inner, n), 0);
    free(p.bytes);
    cr_assert(dp_tunnel_get_stats(rig.dp, (struct id128[]){rig_id(3)}, &stats));
    cr_assert(stats.packets_out == 1 && stats.bytes_out == n);
    dp_set_epoch(rig.dp, 0); /* GRE encrypts nothing and needs no epoch */
    push_inner(&rig, inner, n);
    rig_run(&rig);
    cr_assert_eq(rig.net.leaving.n, 1);
    rig_close(&rig);
}

Test(dataplane_gre, every_refusal_has_its_counter)
{
    static const uint16_t reserved[] = {0x4000, 0x0800, 0x0400, 0x0200, 0x0100, 0x0080,
                                        0x0040, 0x0020, 0x0010, 0x0008, 0x0001, 0x0007};
    struct rig rig;
    size_t n;

    rig_open(&rig, NULL);
    n = make_udp("203.0.115.9", BEHIND_US, 1, 2, 33, inner);
    arrives(&rig, "198.51.100.2", make_gre(GRE_KEY, 0x0800, 7, n));
    cr_assert_eq(drops(&rig, DROP_GRE_UNKNOWN), 1, "an unknown source");
    arrives(&rig, CUSTOMER, make_gre(GRE_KEY, 0x0800, 8, n));
    cr_assert_eq(drops(&rig, DROP_GRE_UNKNOWN), 2, "a wrong key");
    arrives(&rig, CUSTOMER, make_gre(0, 0x0800, 0, n));
    cr_assert_eq(drops(&rig, DROP_GRE_UNKNOWN), 3, "no key");

    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        arrives(&rig, CUSTOMER, make_gre(GRE_KEY | reserved[i], 0x0800, 7, n));
    cr_assert_eq(drops(&rig, DROP_GRE_FLAGS), sizeof reserved / sizeof *reserved);

    make_gre(GRE_KEY | GRE_CHECKSUM, 0x0800, 7, n);
    packet[20] ^= 1;
    arrives(&rig, CUSTOMER, 12 + n);
    cr_assert_eq(drops(&rig, DROP_GRE_CHECKSUM), 1);

    arrives(&rig, CUSTOMER, make_gre(GRE_KEY, 0x6558, 7, n));
    cr_assert_eq(drops(&rig, DROP_GRE_PROTOCOL), 1, "Ethernet");
    arrives(&rig, CUSTOMER, make_gre(GRE_KEY, 0x86dd, 7, n));
    cr_assert_eq(drops(&rig, DROP_MALFORMED_INNER), 1, "IPv4 as IPv6");

    make_gre(GRE_KEY, 0x0800, 7, n);
    for (size_t cut = 0; cut < 8; cut++)
        arrives(&rig, CUSTOMER, cut);
    cr_assert_eq(drops(&rig, DROP_MALFORMED_OUTER), 8);
    arrives(&rig, CUSTOMER, 8 + n - 1);
    cr_assert_eq(drops(&rig, DROP_MALFORMED_INNER), 2);
    cr_assert_eq(rig.net.leaving.n, 0);
    rig_close(&rig);
}

Test(dataplane_gre, a_tunnel_without_a_key_takes_none)
{
    struct dp_tunnel tunnels[2] = {{.id = rig_id(1), .type = DP_TUNNEL_GRE},
                                   {.id = rig_id(2), .type = DP_TUNNEL_GRE}};
    struct rig rig;
    size_t n;

    rig_open(&rig, NULL);
    for (int i = 0; i < 2; i++) {
        tunnels[i].anycast = addr(ANYCAST);
        tunnels[i].customer = addr(CUSTOMER);
    }
    cr_assert_eq(dp_set_tunnels(rig.dp, tunnels, 2, NULL, 0), ERR_EXISTS, "alike");
    tunnels[1].has_gre_key = true; /* key 0 is a key */
    cr_assert_eq(dp_set_tunnels(rig.dp, tunnels, 2, NULL, 0), ERR_OK);
    n = make_udp("203.0.115.9", BEHIND_US, 1, 2, 33, inner);
    arrives(&rig, CUSTOMER, make_gre(0, 0x0800, 0, n));
    arrives(&rig, CUSTOMER, make_gre(GRE_KEY, 0x0800, 0, n));
    arrives(&rig, CUSTOMER, make_gre(GRE_KEY, 0x0800, 1, n));
    cr_assert_eq(drops(&rig, DROP_GRE_UNKNOWN), 1);
    for (unsigned i = 1; i <= 2; i++) {
        struct dp_sa_stats stats;
        cr_assert(dp_tunnel_get_stats(rig.dp, (struct id128[]){rig_id(i)}, &stats));
        cr_assert_eq(stats.packets_in, 1);
    }
    rig_close(&rig);
}
