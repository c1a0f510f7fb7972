/* The dataplane as the loop sees it: installing, confirming, counting, reloading. */
#include <criterion/criterion.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "tests/unit/dataplane/rig.h"

static uint8_t inner[PACKET_MAX], esp[PACKET_MAX], back[PACKET_MAX];
enum { SPI = 0x01400100, SPI_2 = 0x01400200 };
static const struct suite_row *const row = &suite_rows[1];

static size_t arrives(struct rig *rig, const struct child_record *r, const char *src,
                      const char *dst)
{
    size_t n = make_udp(src, dst, 1000, 53, 40, inner);

    push_udp(rig, 4500, esp, peer_seal(r, row, inner, n, NULL, esp));
    rig_run(rig);
    return n;
}

static void leave_nothing(struct rig *rig)
{
    struct memory_packet p;

    while (pop(rig, &p))
        free(p.bytes);
}

/* ---- confirmation ---- */

Test(dataplane_dp, the_first_authentic_packet_confirms_once)
{
    struct child_record r = rig_record(row, SPI, 1);
    struct rig rig;

    rig_open(&rig, NULL);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    arrives(&rig, &r, BEHIND_ACME, BEHIND_US);
    arrives(&rig, &r, BEHIND_ACME, BEHIND_US);
    cr_assert_eq(rig.n_confirmed, 1);
    cr_assert_eq(rig.confirmed[0], SPI);
    r.confirmed = true;
    r.spi_in = SPI_2;
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    arrives(&rig, &r, BEHIND_ACME, BEHIND_US);
    cr_assert_eq(rig.n_confirmed, 1, "this one was confirmed already");
    rig_close(&rig);
}

Test(dataplane_dp, the_wake_fd_tells_of_work)
{
    struct child_record r = rig_record(row, SPI, 1);
    struct rig rig;
    struct pollfd p;

    rig_open(&rig, NULL);
    p = (struct pollfd){.fd = dp_wake_fd(rig.dp), .events = POLLIN};
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    cr_assert_eq(poll(&p, 1, 0), 0);
    push_udp(
        &rig, 4500, esp,
        peer_seal(&r, row, inner, make_udp(BEHIND_ACME, BEHIND_US, 1, 2, 3, inner), NULL, esp));
    (void)lane_turn(rig.dp->lanes[0], 0);
    cr_assert_eq(poll(&p, 1, 0), 1);
    dp_poll(rig.dp);
    cr_assert_eq(poll(&p, 1, 0), 0);
    cr_assert_eq(rig.n_confirmed, 1);
    rig_close(&rig);
}

/* ---- applying records ---- */

Test(dataplane_dp, another_sa_with_the_same_spi_is_refused)
{
    struct child_record r = rig_record(row, SPI, 1), other;
    struct rig rig;

    rig_open(&rig, NULL);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK, "the same again");
    other = r;
    other.spi_out++;
    cr_assert_eq(dp_sa_apply(rig.dp, &other), ERR_EXISTS);
    other = r;
    other.lineage = rig_id(99);
    cr_assert_eq(dp_sa_apply(rig.dp, &other), ERR_EXISTS);
    other = r;
    other.tunnel_id = rig_id(2);
    cr_assert_eq(dp_sa_apply(rig.dp, &other), ERR_EXISTS);
    cr_assert_eq(rig.dp->sas.n, 1);
    rig_close(&rig);
}

Test(dataplane_dp, records_that_cannot_be_are_refused)
{
    struct child_record good = rig_record(row, SPI, 1), r;
    struct rig rig;

    rig_open(&rig, NULL);
    r = good;
    r.spi_in = 255;
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_INVALID);
    r = good;
    r.spi_out = 0;
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_INVALID);
    r = good;
    r.ts_remote.n = 0;
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_INVALID);
    r = good;
    r.ts_local.n = SELECTORS_MAX + 1;
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_INVALID);
    r = good;
    r.udp_encap = true; /* without a port */
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_INVALID);
    r = good;
    r.peer.ip = addr("2001:db8::1");
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_UNSUPPORTED);
    r = good;
    r.state = SA_ABSENT;
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_INVALID);
    r = good;
    r.not_after_ms = now_read().wall_ms - 1;
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_STALE, "an expired record is never installed");
    cr_assert_eq(rig.dp->sas.n, 0);
    rig_close(&rig);
}

/* ---- counters ---- */

Test(dataplane_dp, both_directions_are_counted_everywhere)
{
    struct child_record r = rig_record(row, SPI, 1);
    int64_t before = now_read().wall_ms;
    struct dp_sa_stats sa, tunnel;
    struct dp_counters c;
    struct rig rig;
    size_t in, out;

    rig_open(&rig, NULL);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    cr_assert(dp_sa_get_stats(rig.dp, SPI, &sa));
    cr_assert(sa.packets_in == 0 && sa.last_in_us == 0);
    cr_assert(sa.installed_ms >= before && sa.installed_ms <= now_read().wall_ms);
    cr_assert(sa.installed_us < 1000);
    in = arrives(&rig, &r, BEHIND_ACME, BEHIND_US);
    out = make_udp(BEHIND_US, BEHIND_ACME, 1, 2, 300, inner);
    push_inner(&rig, inner, out);
    push_inner(&rig, inner, out);
    rig_run(&rig);
    cr_assert(dp_sa_get_stats(rig.dp, SPI, &sa));
    cr_assert(sa.packets_in == 1 && sa.bytes_in == in);
    cr_assert(sa.packets_out == 2 && sa.bytes_out == 2 * out);
    cr_assert(sa.last_in_us != 0 && sa.last_in_us <= now_read().mono_us);
    cr_assert(dp_tunnel_get_stats(rig.dp, (struct id128[]){rig_id(1)}, &tunnel));
    cr_assert(tunnel.packets_in == 1 && tunnel.bytes_in == in);
    cr_assert(tunnel.packets_out == 2 && tunnel.bytes_out == 2 * out);
    dp_get_counters(rig.dp, &c);
    cr_assert(c.packets_in == 1 && c.bytes_in == in);
    cr_assert(c.packets_out == 2 && c.bytes_out == 2 * out);
    cr_assert_not(dp_sa_get_stats(rig.dp, SPI + 1, &sa));
    leave_nothing(&rig);
    rig_close(&rig);
}

Test(dataplane_dp, what_the_system_refuses_is_not_delivered)
{
    struct child_record r = rig_record(row, SPI, 1);
    struct dp_counters c;
    struct rig rig;

    rig_open(&rig, NULL);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    rig.net.refuse = true;
    arrives(&rig, &r, BEHIND_ACME, BEHIND_US);
    push_inner(&rig, inner, make_udp(BEHIND_US, BEHIND_ACME, 1, 2, 300, inner));
    rig_run(&rig);
    dp_get_counters(rig.dp, &c);
    cr_assert(c.packets_in == 0 && c.packets_out == 0);
    cr_assert_eq(c.drops[DROP_SINK_FULL], 2);
    rig_close(&rig);
}

/* Random octets by every way: each packet is delivered, is IKE, or moves one counter. */
Test(dataplane_dp, every_packet_is_accounted_for)
{
    struct child_record r = rig_record(row, SPI, 1);
    uint64_t state = 7, pushed = 0;
    struct dp_counters c;
    struct rig rig;

    rig_open(&rig, NULL);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    for (int i = 0; i < 20000; i++) {
        size_t n;

        for (size_t k = 0; k < 160; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            back[k] = (uint8_t)(state >> 56);
        }
        n = back[0] % 160;
        switch (back[1] % 8) {
        case 0:
            back[4] = 0x45;
            push_inner(&rig, back + 4, n);
            break;
        case 1:
            push_udp(&rig, back[2] & 1 ? 500 : 4500, back + 4, n);
            break;
        case 2:
            push_native(&rig, back[2] & 1 ? IP_PROTO_GRE : IP_PROTO_ESP, CUSTOMER, back + 4, n);
            break;
        case 3:
            back[4] = 0x20;
            memcpy(back + 5, "\0\x08\0\0\0\0\7", 7);
            push_native(&rig, IP_PROTO_GRE, CUSTOMER, back + 4, n);
            break;
        case 4:
            back[4] = 0;
            push_native(&rig, back[2], CUSTOMER, back + 4, n);
            break;
        case 5:
            push_inner(&rig, inner, make_udp(BEHIND_US, BEHIND_ACME, 1, 2, n, inner));
            break;
        case 6: /* random octets behind a right ICV */
            push_udp(&rig, 4500, esp, peer_seal(&r, row, back + 4, n, NULL, esp));
            break;
        default:
            n = make_udp(BEHIND_ACME, back[2] & 1 ? BEHIND_US : BEHIND_OTHER, 1, 2, n, inner);
            push_udp(&rig, 4500, esp, peer_seal(&r, row, inner, n, NULL, esp));
        }
        pushed++;
        if (i % 50 == 49) {
            rig_run(&rig);
            leave_nothing(&rig);
        }
    }
    dp_get_counters(rig.dp, &c);
    cr_assert_eq(c.packets_in + c.packets_out + rig.n_ike + all_drops(&rig), pushed);
    cr_assert_gt(c.packets_in, 0);
    cr_assert_gt(c.packets_out, 0);
    rig_close(&rig);
}

/* ---- tunnel to tunnel ---- */

Test(dataplane_dp, a_hairpin_goes_from_tunnel_to_tunnel)
{
    struct child_record r1 = rig_record(row, SPI, 1), r2 = rig_record(row, SPI_2, 2);
    struct dp_sa_stats stats;
    struct dp_counters c;
    struct memory_packet p;
    struct inner parsed;
    struct rig rig;
    size_t n;

    rig_open(&rig, NULL);
    cr_assert_eq(dp_sa_apply(rig.dp, &r1), ERR_OK);
    cr_assert_eq(dp_sa_apply(rig.dp, &r2), ERR_OK);
    n = arrives(&rig, &r1, BEHIND_ACME, BEHIND_OTHER);
    cr_assert_eq(rig.net.leaving.n, 1);
    cr_assert(pop(&rig, &p));
    cr_assert_eq(p.via, VIA_IP);
    cr_assert_eq(peer_open(&r2, row, p.bytes, p.n, back, NULL, NULL), n);
    free(p.bytes);
    cr_assert(inner_parse(back, n, &parsed), "the checksum is right");
    cr_assert_eq(parsed.ttl, 63, "one hop");
    cr_assert_eq(memcmp(back + 12, inner + 12, n - 12), 0);
    cr_assert(dp_tunnel_get_stats(rig.dp, (struct id128[]){rig_id(1)}, &stats));
    cr_assert(stats.packets_in == 1 && stats.packets_out == 0);
    cr_assert(dp_tunnel_get_stats(rig.dp, (struct id128[]){rig_id(2)}, &stats));
    cr_assert(stats.packets_in == 0 && stats.packets_out == 1);
    dp_get_counters(rig.dp, &c);
    cr_assert_eq(c.packets_out, 1);

    n = make_udp(BEHIND_ACME, BEHIND_OTHER, 1, 2, 3, inner);
    inner[8] = 1; /* the TTL runs out here */
    inner[10] = (uint8_t)(inner[10] + 63);
    if (inner[10] < 63) /* carry of one's complement */
        inner[11]++;
    cr_assert(inner_parse(inner, n, &parsed));
    push_udp(&rig, 4500, esp, peer_seal(&r1, row, inner, n, NULL, esp));
    rig_run(&rig);
    cr_assert_eq(drops(&rig, DROP_TTL), 1);
    cr_assert_eq(rig.net.leaving.n, 0);
    rig_close(&rig);
}

Test(dataplane_dp, towards_the_kernel_the_ttl_is_the_kernels)
{
    struct child_record r = rig_record(row, SPI, 1);
    struct rig rig;
    size_t n;

    rig_open(&rig, NULL);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    n = arrives(&rig, &r, BEHIND_ACME, BEHIND_US);
    expect_left(&rig, VIA_INNER, inner, n);
    rig_close(&rig);
}

/* ---- MSS through tunnels ---- */

static uint16_t mss_in(const uint8_t *p)
{
    return (uint16_t)(p[42] << 8 | p[43]);
}

Test(dataplane_dp, syns_are_clamped_both_ways)
{
    static const uint8_t mss[] = {2, 4, 0x05, 0xb4};
    struct child_record r = rig_record(row, SPI, 1);
    struct memory_packet p;
    struct rig rig;
    size_t n;

    rig_open(&rig, NULL);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    /* native AES-GCM: 1500 - 20 - 8 - 8 - 16 - 2 = 1446 */
    n = make_syn(BEHIND_ACME, BEHIND_US, mss, 4, inner);
    push_udp(&rig, 4500, esp, peer_seal(&r, row, inner, n, NULL, esp));
    rig_run(&rig);
    cr_assert(pop(&rig, &p));
    cr_assert_eq(mss_in(p.bytes), 1446 - 40);
    cr_assert(checksums_right(p.bytes, p.n));
    free(p.bytes);
    push_inner(&rig, inner, make_syn(BEHIND_US, BEHIND_ACME, mss, 4, inner));
    rig_run(&rig);
    cr_assert(pop(&rig, &p));
    cr_assert_eq(peer_open(&r, row, p.bytes, p.n, back, NULL, NULL), n);
    cr_assert_eq(mss_in(back), 1446 - 40);
    cr_assert(checksums_right(back, n));
    free(p.bytes);
    /* GRE with a key: 1500 - 20 - 8 */
    push_inner(&rig, inner, make_syn(BEHIND_US, "203.0.115.9", mss, 4, inner));
    rig_run(&rig);
    cr_assert(pop(&rig, &p));
    cr_assert_eq(mss_in(p.bytes + 8), 1472 - 40);
    free(p.bytes);
    rig_close(&rig);
}

Test(dataplane_dp, a_configured_mtu_wins)
{
    static const uint8_t mss[] = {2, 4, 0x05, 0xb4};
    struct dp_tunnel tunnel = {.id = rig_id(1), .type = DP_TUNNEL_IPSEC, .mtu = 1300, .ttl = 9};
    struct dp_route route = {.tunnel = rig_id(1)};
    struct child_record r = rig_record(row, SPI, 1);
    struct memory_packet p;
    struct rig rig;
    size_t n;

    rig_open(&rig, NULL);
    cr_assert(prefix_parse("203.0.113.0/24", &route.prefix));
    cr_assert_eq(dp_set_tunnels(rig.dp, &tunnel, 1, &route, 1), ERR_OK);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    n = make_syn(BEHIND_US, BEHIND_ACME, mss, 4, inner);
    push_inner(&rig, inner, n);
    rig_run(&rig);
    cr_assert(pop(&rig, &p));
    cr_assert_eq(p.ttl, 9);
    cr_assert_eq(peer_open(&r, row, p.bytes, p.n, back, NULL, NULL), n);
    cr_assert_eq(mss_in(back), 1260);
    free(p.bytes);
    rig_close(&rig);
}

/* ---- reload ---- */

Test(dataplane_dp, a_reload_keeps_sas_and_counters)
{
    struct dp_tunnel tunnel = {.id = rig_id(1), .type = DP_TUNNEL_IPSEC};
    struct child_record r = rig_record(row, SPI, 1);
    struct dp_sa_stats stats;
    struct rig rig;

    rig_open(&rig, NULL);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    arrives(&rig, &r, BEHIND_ACME, BEHIND_US);
    cr_assert_eq(dp_set_tunnels(rig.dp, &tunnel, 1, NULL, 0), ERR_OK);
    arrives(&rig, &r, BEHIND_ACME, BEHIND_US);
    cr_assert(dp_tunnel_get_stats(rig.dp, &tunnel.id, &stats));
    cr_assert_eq(stats.packets_in, 2);
    leave_nothing(&rig);
    push_inner(&rig, inner, make_udp(BEHIND_US, BEHIND_ACME, 1, 2, 3, inner));
    rig_run(&rig);
    cr_assert_eq(drops(&rig, DROP_NO_ROUTE), 1);

    cr_assert_eq(dp_set_tunnels(rig.dp, NULL, 0, NULL, 0), ERR_OK);
    arrives(&rig, &r, BEHIND_ACME, BEHIND_US);
    cr_assert_eq(drops(&rig, DROP_NO_TUNNEL), 1, "the tunnel has left the configuration");
    cr_assert_eq(dp_set_tunnels(rig.dp, &tunnel, 1, NULL, 0), ERR_OK);
    arrives(&rig, &r, BEHIND_ACME, BEHIND_US);
    cr_assert_eq(rig.net.leaving.n, 1);
    rig_close(&rig);
}

Test(dataplane_dp, an_sa_may_come_before_its_tunnel)
{
    struct child_record r = rig_record(row, SPI, 77);
    struct dp_tunnel tunnel = {.id = rig_id(77), .type = DP_TUNNEL_IPSEC};
    struct rig rig;

    rig_open(&rig, NULL);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    arrives(&rig, &r, BEHIND_ACME, BEHIND_US);
    cr_assert_eq(drops(&rig, DROP_NO_TUNNEL), 1);
    cr_assert_eq(dp_set_tunnels(rig.dp, &tunnel, 1, NULL, 0), ERR_OK);
    arrives(&rig, &r, BEHIND_ACME, BEHIND_US);
    cr_assert_eq(rig.net.leaving.n, 1);
    rig_close(&rig);
}

Test(dataplane_dp, a_refused_reload_changes_nothing)
{
    struct dp_tunnel twice[2] = {{.id = rig_id(8), .type = DP_TUNNEL_IPSEC},
                                 {.id = rig_id(8), .type = DP_TUNNEL_IPSEC}};
    struct dp_tunnel gre = {.id = rig_id(8), .type = DP_TUNNEL_GRE};
    struct dp_tunnel none = {.id = rig_id(8)};
    struct dp_route lost = {.tunnel = rig_id(55)};
    struct child_record r = rig_record(row, SPI, 1);
    struct dp_sa_stats stats;
    struct rig rig;

    rig_open(&rig, NULL);
    cr_assert(prefix_parse("10.0.0.0/8", &lost.prefix));
    cr_assert_eq(dp_set_tunnels(rig.dp, twice, 2, NULL, 0), ERR_INVALID);
    cr_assert_eq(dp_set_tunnels(rig.dp, &gre, 1, NULL, 0), ERR_INVALID, "without addresses");
    cr_assert_eq(dp_set_tunnels(rig.dp, &none, 1, NULL, 0), ERR_INVALID, "without a type");
    cr_assert_eq(dp_set_tunnels(rig.dp, NULL, 0, &lost, 1), ERR_INVALID);
    cr_assert_not(dp_tunnel_get_stats(rig.dp, &gre.id, &stats), "no trace of it");
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    push_inner(&rig, inner, make_udp(BEHIND_US, BEHIND_ACME, 1, 2, 3, inner));
    rig_run(&rig);
    cr_assert_eq(rig.net.leaving.n, 1, "the old routes are in force");
    rig_close(&rig);
}

Test(dataplane_dp, the_interface_address_is_ours_its_subnet_the_tunnels)
{
    struct dp_tunnel tunnel = {.id = rig_id(1), .type = DP_TUNNEL_IPSEC};
    struct child_record r = rig_record(row, SPI, 1);
    struct rig rig;
    size_t n;

    rig_open(&rig, NULL);
    tunnel.interface_address = (struct ip_prefix){addr("10.100.0.9"), 31};
    cr_assert_eq(dp_set_tunnels(rig.dp, &tunnel, 1, NULL, 0), ERR_OK);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    n = arrives(&rig, &r, "10.100.0.8", "10.100.0.9");
    expect_left(&rig, VIA_INNER, inner, n);
    push_inner(&rig, inner, make_udp("10.100.0.9", "10.100.0.8", 1, 2, 3, inner));
    rig_run(&rig);
    cr_assert_eq(rig.net.leaving.n, 1);
    rig_close(&rig);
}

/* ---- opening ---- */

Test(dataplane_dp, what_is_not_supported_is_refused)
{
    struct dp_config config = {.slot = 5, .lanes = 1};
    struct dp_callbacks callbacks = {0};
    struct memory_net net = {0};
    struct dp *dp = NULL;

    config.lanes = DP_LANES_MAX + 1;
    cr_assert_eq(dp_open_with(&config, &callbacks, &source_memory, &net, false, &dp), ERR_INVALID);
    config.lanes = 1;
    config.slot = SLOT_MAX + 1;
    cr_assert_eq(dp_open_with(&config, &callbacks, &source_memory, &net, false, &dp), ERR_INVALID);
    config.slot = SLOT_MAX;
    strcpy(config.provider, "ipsecmb");
    cr_assert_eq(dp_open_with(&config, &callbacks, &source_memory, &net, false, &dp),
                 ERR_UNSUPPORTED);
    strcpy(config.source, "xdp");
    cr_assert_eq(dp_open(&config, &callbacks, &dp), ERR_UNSUPPORTED);
    cr_assert_null(dp);
}

Test(dataplane_dp, ike_answers_go_through_the_source)
{
    struct memory_packet p;
    struct rig rig;

    rig_open(&rig, NULL);
    cr_assert_eq(dp_send_ike(rig.dp, (struct endpoint[]){end(ANYCAST, 500)},
                             (struct endpoint[]){end(CUSTOMER, 500)}, inner, 100),
                 ERR_OK);
    cr_assert(memory_pop(&rig.net.ike, &p));
    cr_assert_eq(p.n, 100);
    free(p.bytes);
    cr_assert_eq(dp_send_ike(rig.dp, (struct endpoint[]){end(ANYCAST, 500)},
                             (struct endpoint[]){end(CUSTOMER, 500)}, inner, 16385),
                 ERR_INVALID);
    rig_close(&rig);
}

Test(dataplane_dp, every_drop_has_a_label_and_a_sentence)
{
    for (int i = 0; i < DROP_COUNT; i++) {
        const char *name = dp_drop_name((enum dp_drop)i);

        cr_assert_gt(strlen(name), 1);
        cr_assert_eq(strspn(name, "abcdefghijklmnopqrstuvwxyz_"), strlen(name), "%s", name);
        cr_assert_gt(strlen(dp_drop_text((enum dp_drop)i)), 5);
    }
    cr_assert_str_eq(dp_drop_name(DROP_NO_SA), "no_sa");
    cr_assert_str_eq(dp_drop_name(DROP_COUNT), "unknown");
}
