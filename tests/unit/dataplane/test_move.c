/* A peer behind NAT turns up at another address: what a lane reports, and what it does not. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "tests/unit/dataplane/rig.h"

static uint8_t inner[PACKET_MAX], esp[PACKET_MAX];
enum { SPI = 0x01400100, REPEAT_US = 1000000 };
static const struct suite_row *const row = &suite_rows[1];
static struct rig rig;
static struct child_record r;
static struct endpoint here, there;

static void begin(void)
{
    rig_open(&rig, NULL);
    here = end(CUSTOMER, 4711);
    there = end("198.51.100.77", 1024);
    r = rig_record(row, SPI, 1);
    r.udp_encap = true;
    r.nat = NAT_PEER;
    r.local = end(ANYCAST, 4500);
    r.peer = here;
}

static void finish(void)
{
    rig_close(&rig);
}

TestSuite(dataplane_move, .init = begin, .fini = finish);

static size_t seal(uint8_t *out)
{
    return peer_seal(&r, row, inner, make_udp(BEHIND_ACME, BEHIND_US, 1000, 53, 40, inner), NULL,
                     out);
}

static void arrives(const struct endpoint *from, const uint8_t *bytes, size_t n)
{
    push_udp_from(&rig, from, 4500, bytes, n);
    rig_run(&rig);
}

static struct sa_hot *hot(void)
{
    struct sa *sa;

    rcu_read_lock();
    sa = sa_find(&rig.dp->sas, SPI);
    rcu_read_unlock();
    return &sa->hot;
}

static uint64_t delivered(void)
{
    struct dp_counters c;

    dp_get_counters(rig.dp, &c);
    return c.packets_in;
}

Test(dataplane_move, a_younger_packet_from_elsewhere_is_delivered_and_reported)
{
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    arrives(&here, esp, seal(esp));
    cr_assert_eq(rig.n_moved, 0);
    arrives(&there, esp, seal(esp));
    cr_assert_eq(rig.n_moved, 1);
    cr_assert_eq(rig.moved, SPI);
    cr_assert(endpoint_equal(&rig.moved_to, &there));
    cr_assert_eq(delivered(), 2);
    cr_assert_eq(all_drops(&rig), 0);
}

Test(dataplane_move, another_port_is_another_place)
{
    struct endpoint port = here;

    port.port++;
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    arrives(&port, esp, seal(esp));
    cr_assert_eq(rig.n_moved, 1);
}

Test(dataplane_move, a_packet_sent_again_by_somebody_else_is_no_move)
{
    uint8_t old[PACKET_MAX], copy[PACKET_MAX];
    size_t n_old, n;

    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    n_old = seal(old);
    n = seal(esp);
    memcpy(copy, esp, n);
    arrives(&here, esp, n);
    arrives(&there, copy, n); /* the same number */
    arrives(&there, old, n_old);
    cr_assert_eq(rig.n_moved, 0);
    cr_assert_eq(delivered(), 3, "there is no replay window: both were delivered");
}

Test(dataplane_move, a_forged_packet_is_no_move_and_raises_nothing)
{
    size_t n;

    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    n = seal(esp);
    memset(esp + 4, 0xff, 4); /* the highest sequence number */
    arrives(&there, esp, n);
    cr_assert_eq(rig.n_moved, 0);
    cr_assert_eq(drops(&rig, DROP_AUTH_FAILED), 1);
    arrives(&there, esp, seal(esp));
    cr_assert_eq(rig.n_moved, 1, "the true one is still the youngest");
}

Test(dataplane_move, only_udp_from_behind_nat_moves)
{
    struct child_record native = r;

    r.nat = NAT_LOCAL;
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    arrives(&there, esp, seal(esp));
    cr_assert_eq(rig.n_moved, 0, "not behind NAT");

    r.nat = NAT_PEER;
    r.spi_in += 2;
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    push_native(&rig, IP_PROTO_ESP, "198.51.100.77", esp, seal(esp));
    rig_run(&rig);
    cr_assert_eq(rig.n_moved, 0, "native ESP into an SA in UDP");

    native.udp_encap = false;
    native.local.port = native.peer.port = 0;
    native.spi_in += 4;
    r = native;
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    arrives(&there, esp, seal(esp));
    cr_assert_eq(rig.n_moved, 0, "UDP into a native SA");
    cr_assert_eq(delivered(), 3);
}

Test(dataplane_move, one_sa_is_reported_once_a_second)
{
    struct dp_counters c;

    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    for (int i = 0; i < 20; i++)
        arrives(&there, esp, seal(esp));
    cr_assert_eq(rig.n_moved, 1);
    tally_set(&hot()->move_told_us, tally_get(&hot()->move_told_us) - REPEAT_US);
    arrives(&there, esp, seal(esp));
    cr_assert_eq(rig.n_moved, 2, "nobody followed: said again");
    dp_get_counters(rig.dp, &c);
    cr_assert_eq(c.moves_reported, 2);
    cr_assert_eq(c.moves_unreported, 0);
}

Test(dataplane_move, a_crowd_is_reported_within_bounds_and_counted)
{
    struct dp_counters c;

    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    arrives(&here, esp, seal(esp));
    rig.dp->lanes[0]->move_window_us = rig.dp->lanes[0]->now.mono_us;
    rig.dp->lanes[0]->move_count = MOVES_PER_SECOND;
    arrives(&there, esp, seal(esp));
    dp_get_counters(rig.dp, &c);
    cr_assert_eq(rig.n_moved, 0);
    cr_assert_eq(c.moves_unreported, 1);
    cr_assert_eq(delivered(), 2);
    rig.dp->lanes[0]->move_window_us -= REPEAT_US;
    arrives(&there, esp, seal(esp));
    cr_assert_eq(rig.n_moved, 1, "a later packet tells it");
}

/* Where a packet to the customer goes. */
static struct endpoint goes_to(void)
{
    struct memory_packet p;
    struct endpoint to;

    while (pop(&rig, &p))
        free(p.bytes);
    push_inner(&rig, inner, make_udp(BEHIND_US, BEHIND_ACME, 1, 2, 3, inner));
    rig_run(&rig);
    cr_assert(pop(&rig, &p));
    to = p.peer;
    free(p.bytes);
    return to;
}

Test(dataplane_move, a_moved_sa_stays_where_it_went)
{
    struct endpoint to;

    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    to = goes_to();
    cr_assert(endpoint_equal(&to, &here));
    cr_assert_eq(dp_sa_move(rig.dp, SPI, &there), ERR_OK);
    to = goes_to();
    cr_assert(endpoint_equal(&to, &there));
    arrives(&there, esp, seal(esp));
    cr_assert_eq(rig.n_moved, 0, "it is known now");
    r.confirmed = true; /* a newer form of the record, still with the first address */
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    to = goes_to();
    cr_assert(endpoint_equal(&to, &there));
    cr_assert_eq(dp_sa_move(rig.dp, SPI, &here), ERR_OK, "and back");
    to = goes_to();
    cr_assert(endpoint_equal(&to, &here));
    there.ip = addr("2001:db8::1");
    cr_assert_eq(dp_sa_move(rig.dp, SPI, &there), ERR_INVALID);
    cr_assert_eq(dp_sa_move(rig.dp, SPI + 2, &there), ERR_OK, "nothing to move");
}
