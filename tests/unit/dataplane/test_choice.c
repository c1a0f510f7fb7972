/* Which SA a tunnel sends on (DESIGN §4, rekey without loss). */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "tests/unit/dataplane/rig.h"

static uint8_t inner[PACKET_MAX];
enum { A = 0x01400100, B = 0x01400200, C = 0x01400300 };

/* The spi_in of the SA that an inner packet leaves on; 0 when it does not leave. */
static uint32_t used_for(struct rig *rig, const char *dst, uint16_t port)
{
    struct memory_packet p;
    struct reader r;
    uint32_t spi;

    push_inner(rig, inner, make_udp(BEHIND_US, dst, 53, port, 20, inner));
    rig_run(rig);
    if (!pop(rig, &p))
        return 0;
    r = reader_of(p.bytes, p.n);
    spi = read_u32(&r) - 1; /* spi_out is spi_in + 1 */
    free(p.bytes);
    return spi;
}

static uint32_t used(struct rig *rig)
{
    return used_for(rig, BEHIND_ACME, 1000);
}

static struct child_record sa(uint32_t spi, int64_t created_ms, bool confirmed, bool rekeyed)
{
    struct child_record r = rig_record(&suite_rows[0], spi, 1);

    r.created_ms = created_ms;
    r.confirmed = confirmed;
    r.rekeyed = rekeyed;
    return r;
}

static void apply(struct rig *rig, struct child_record r)
{
    cr_assert_eq(dp_sa_apply(rig->dp, &r), ERR_OK);
}

Test(dataplane_choice, an_unconfirmed_sa_alone_is_used_at_once)
{
    struct rig rig;

    rig_open(&rig, NULL);
    cr_assert_eq(used(&rig), 0);
    cr_assert_eq(drops(&rig, DROP_NO_TUNNEL_SA), 1);
    apply(&rig, sa(A, 1000, false, false));
    cr_assert_eq(used(&rig), A);
    rig_close(&rig);
}

Test(dataplane_choice, a_new_sa_waits_for_its_confirmation)
{
    struct rig rig;

    rig_open(&rig, NULL);
    apply(&rig, sa(A, 1000, true, false));
    apply(&rig, sa(B, 2000, false, false));
    cr_assert_eq(used(&rig), A);
    apply(&rig, sa(B, 2000, true, false));
    cr_assert_eq(used(&rig), B, "the newest confirmed one");
    apply(&rig, sa(B, 2000, false, false));
    cr_assert_eq(used(&rig), B, "confirmed only rises");
    rig_close(&rig);
}

Test(dataplane_choice, a_rekey_seen_step_by_step)
{
    struct child_record b = sa(B, 2000, false, false);
    struct rig rig;

    rig_open(&rig, NULL);
    b.generation = 1;
    b.replaces_spi = A;
    apply(&rig, sa(A, 1000, true, false));
    apply(&rig, b);
    cr_assert_eq(used(&rig), A);
    apply(&rig, sa(A, 1000, true, true)); /* A marked rekeyed before B is proven */
    cr_assert_eq(used(&rig), A, "still the one that the peer surely has");
    b.confirmed = true;
    apply(&rig, b);
    cr_assert_eq(used(&rig), B);
    dp_sa_remove(rig.dp, A);
    cr_assert_eq(used(&rig), B);
    rig_close(&rig);
}

/* A router may have forgotten an older SA that the cluster still has: a rekey of the present one
 * is no reason to try that. */
Test(dataplane_choice, during_a_rekey_an_older_sa_is_no_refuge)
{
    struct child_record c = sa(C, 3000, false, false);
    struct rig rig;

    rig_open(&rig, NULL);
    c.generation = 1;
    c.replaces_spi = B;
    apply(&rig, sa(A, 1000, true, false));
    apply(&rig, sa(B, 2000, true, false));
    cr_assert_eq(used(&rig), B);
    apply(&rig, c);
    cr_assert_eq(used(&rig), B);
    apply(&rig, sa(B, 2000, true, true));
    cr_assert_eq(used(&rig), B);
    c.confirmed = true;
    apply(&rig, c);
    cr_assert_eq(used(&rig), C);
    rig_close(&rig);
}

Test(dataplane_choice, deleting_the_old_one_moves_to_the_new_one)
{
    struct child_record a = sa(A, 1000, false, false), b = sa(B, 2000, false, false);
    struct rig rig;

    rig_open(&rig, NULL);
    b.replaces_spi = A;
    apply(&rig, a);
    apply(&rig, b);
    cr_assert_eq(used(&rig), A, "a tunnel that never showed inbound traffic");
    a.state = SA_DELETED;
    apply(&rig, a);
    cr_assert_eq(used(&rig), B);
    apply(&rig, a); /* once more, for nothing */
    cr_assert_eq(used(&rig), B);
    b.state = SA_DELETED;
    apply(&rig, b);
    cr_assert_eq(used(&rig), 0);
    rig_close(&rig);
}

Test(dataplane_choice, a_clock_that_runs_behind_does_not_revive_the_old_one)
{
    struct child_record b = sa(B, 500, true, false); /* rekeyed by a node whose clock is behind */
    struct rig rig;

    rig_open(&rig, NULL);
    b.replaces_spi = A;
    apply(&rig, sa(A, 1000, true, false));
    apply(&rig, b);
    cr_assert_eq(used(&rig), B);
    rig_close(&rig);
}

Test(dataplane_choice, the_order_of_arrival_does_not_matter)
{
    static const uint8_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                         {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

    for (int i = 0; i < 6; i++) {
        struct child_record all[3] = {sa(A, 1000, true, true), sa(B, 2000, true, false),
                                      sa(C, 3000, false, false)};
        struct rig rig;

        rig_open(&rig, NULL);
        for (int k = 0; k < 3; k++)
            apply(&rig, all[orders[i][k]]);
        cr_assert_eq(used(&rig), B);
        dp_sa_remove(rig.dp, B);
        cr_assert_eq(used(&rig), A);
        dp_sa_remove(rig.dp, A);
        cr_assert_eq(used(&rig), C);
        rig_close(&rig);
    }
}

Test(dataplane_choice, several_children_share_by_selectors)
{
    struct child_record a = sa(A, 1000, true, false), b = sa(B, 2000, false, false);
    struct rig rig;

    rig_open(&rig, NULL);
    a.ts_remote = select_prefixes("203.0.113.0/28", NULL);
    b.ts_remote = select_prefixes("203.0.113.16/28", NULL);
    apply(&rig, a);
    apply(&rig, b);
    cr_assert_eq(used_for(&rig, "203.0.113.3", 1), A);
    cr_assert_eq(used_for(&rig, "203.0.113.17", 1), B, "unconfirmed, but no other selects this");
    cr_assert_eq(used_for(&rig, "203.0.113.99", 1), 0);
    cr_assert_eq(drops(&rig, DROP_SELECTOR_OUT), 1);
    rig_close(&rig);
}

Test(dataplane_choice, selectors_hold_outbound_ports_and_sources)
{
    struct child_record a = sa(A, 1000, true, false);
    struct rig rig;

    rig_open(&rig, NULL);
    a.ts_remote.s[0].proto = 17;
    a.ts_remote.s[0].port_lo = a.ts_remote.s[0].port_hi = 1000;
    a.ts_local = select_prefixes("10.1.0.0/16", NULL);
    apply(&rig, a);
    cr_assert_eq(used_for(&rig, BEHIND_ACME, 1000), A);
    cr_assert_eq(used_for(&rig, BEHIND_ACME, 1001), 0);
    push_inner(&rig, inner, make_udp("10.2.0.1", BEHIND_ACME, 53, 1000, 20, inner));
    rig_run(&rig);
    cr_assert_eq(rig.net.leaving.n, 0);
    cr_assert_eq(drops(&rig, DROP_SELECTOR_OUT), 2);
    rig_close(&rig);
}

Test(dataplane_choice, inbound_selectors_are_checked_after_opening)
{
    static uint8_t esp[PACKET_MAX];
    struct child_record a = sa(A, 1000, true, false);
    static const struct {
        const char *src, *dst;
        bool passes;
    } cases[] = {
        {"203.0.113.9", "10.1.0.5", true},     {"203.0.114.9", "10.1.0.5", false},
        {"203.0.113.9", "10.2.0.5", false},    {"10.1.0.5", "203.0.113.9", false},
        {"2001:db8::9", "2001:db8::5", false},
    };
    struct rig rig;
    uint64_t refused = 0;

    rig_open(&rig, NULL);
    a.ts_remote = select_prefixes("203.0.113.0/24", NULL);
    a.ts_local = select_prefixes("10.1.0.0/16", NULL);
    apply(&rig, a);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = make_udp(cases[i].src, cases[i].dst, 1000, 53, 20, inner);

        push_native(&rig, IP_PROTO_ESP, CUSTOMER, esp,
                    peer_seal(&a, &suite_rows[0], inner, n, NULL, esp));
        rig_run(&rig);
        if (cases[i].passes)
            expect_left(&rig, VIA_INNER, inner, n);
        else
            cr_assert_eq(drops(&rig, DROP_SELECTOR_IN), ++refused, "%zu", i);
    }
    cr_assert_eq(rig.net.leaving.n, 0);
    rig_close(&rig);
}

Test(dataplane_choice, selectors_of_any_of_one_family_do_not_open_the_other)
{
    struct child_record a = sa(A, 1000, true, false);
    struct rig rig;

    rig_open(&rig, NULL);
    a.ts_local = a.ts_remote = select_prefixes(NULL, "::/0");
    apply(&rig, a);
    cr_assert_eq(used(&rig), 0);
    cr_assert_eq(drops(&rig, DROP_SELECTOR_OUT), 1);
    rig_close(&rig);
}
