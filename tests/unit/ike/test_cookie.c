/* Cookies and the bounds on half-open SAs. */
#include <criterion/criterion.h>
#include <string.h>

#include "peer.h"

static struct bench b;
static struct peer p;

static void begin(void)
{
    bench_open(&b);
    b.engine->config.cookie_threshold = 0; /* always */
    peer_open(&p, &b);
}

static void end(void)
{
    peer_close(&p);
    bench_close(&b);
}

TestSuite(cookie, .init = begin, .fini = end);

static void keep_cookie(void)
{
    struct notify n;

    cr_assert(message_find_notify(&p.answer, N_COOKIE, &n));
    cr_assert_leq(n.data.n, sizeof p.cookie);
    memcpy(p.cookie, n.data.p, n.data.n);
    p.cookie_n = n.data.n;
}

Test(cookie, a_cookie_is_asked_for_and_taken_by_any_node)
{
    struct bench other;

    /* HDR(SPIi,0), SAi1, KEi, Ni  -->  <-- HDR(SPIi,0), N(COOKIE) */
    cr_assert(!peer_init(&p));
    keep_cookie();
    cr_assert_null(b.engine->by_spi, "nothing is remembered");
    /* HDR(SPIi,0), N(COOKIE), SAi1, KEi, Ni  -->, and it lands on another node */
    bench_open(&other);
    other.engine->config.cookie_threshold = 0;
    p.bench = &other;
    cr_assert(peer_init(&p));
    cr_assert(peer_auth(&p), "%s", other.reason);
    p.bench = &b;
    bench_close(&other);
}

/* A rotation of the cluster key: nodes change at different moments. */
Test(cookie, the_other_keys_cookies_are_taken_as_well)
{
    struct secret old = b.engine->config.cookie_key, fresh = old, none = {.n = 0};
    const struct secret spi = b.engine->config.spi_key;

    fresh.b[0] ^= 1;
    cr_assert(!peer_init(&p));
    keep_cookie();
    ike_set_keys(b.engine, &spi, &fresh, &none);
    cr_expect(!peer_init(&p), "the old key is gone");
    ike_set_keys(b.engine, &spi, &fresh, &old);
    cr_expect(peer_init(&p));
    cr_assert(peer_auth(&p), "%s", b.reason);
}

Test(cookie, below_the_threshold_none_is_asked_for)
{
    b.engine->config.cookie_threshold = 2;
    for (int i = 0; i < 2; i++) {
        p.rec->ike.spi_i++;
        cr_assert(peer_init(&p));
    }
    p.rec->ike.spi_i++;
    cr_assert(!peer_init(&p));
    keep_cookie();
    cr_assert(peer_init(&p));
}

Test(cookie, a_cookie_is_bound_to_address_spi_nonce_and_time)
{
    struct peer saved;

    cr_assert(!peer_init(&p));
    keep_cookie();
    saved = p;
    for (int i = 0; i < 5; i++) {
        p.cookie[23] ^= i == 0;
        p.rec->ike.spi_i ^= i == 1;
        p.remote.ip.b[3] ^= i == 2;
        p.nonce_i[0] ^= i == 3;
        b.now.wall_ms += i == 4 ? 130000 : 0;
        cr_assert(!peer_init(&p), "case %d", i);
        cr_assert(peer_got_notify(&p, N_COOKIE));
        memcpy(p.cookie, saved.cookie, sizeof p.cookie);
        p.rec->ike.spi_i ^= i == 1;
        p.remote = saved.remote;
        memcpy(p.nonce_i, saved.nonce_i, sizeof p.nonce_i);
    }
    b.now.wall_ms -= 130000 - 60000; /* the window after its own */
    cr_assert(peer_init(&p));
    p.cookie_n = 3; /* malformed */
    p.rec->ike.spi_i++;
    cr_assert(!peer_init(&p));
}

Test(cookie, together_with_a_wrong_group_in_either_order)
{
    p.wrong_init_group = DH_MODP_1536;
    cr_assert(!peer_init(&p)); /* <-- N(COOKIE) */
    keep_cookie();
    cr_assert(
        !peer_init(&p)); /* N(COOKIE), KE of the wrong group  -->  <-- N(INVALID_KE_PAYLOAD) */
    cr_assert(peer_got_notify(&p, N_INVALID_KE_PAYLOAD));
    p.wrong_init_group = 0;
    cr_assert(peer_init(&p), "the same cookie is still good");
    cr_assert(peer_auth(&p));
}

Test(cookie, one_source_prefix_has_a_bounded_share)
{
    unsigned taken = 0;

    b.engine->config.cookie_threshold = UINT32_MAX;
    for (int i = 0; i < PREFIX_HALF_OPEN_MAX + 10; i++) {
        p.rec->ike.spi_i++;
        taken += peer_init(&p);
    }
    cr_assert_eq(taken, PREFIX_HALF_OPEN_MAX);
    cr_assert_eq(b.engine->stats.prefix_full, 10);
    p.remote.ip.b[2] ^= 1; /* another /24 */
    cr_assert(peer_init(&p));
    bench_tick(&b, 31000000);
    bench_tick(&b, 1000000);
    cr_assert_eq(b.engine->stats.half_open, 0);
    cr_assert_null(b.engine->prefixes, "and the count goes with them");
}
