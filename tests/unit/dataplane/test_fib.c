/* Longest prefix, then priority, then weight: against a model that looks at every route. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/fib.h"
#include "proto/err.h"
#include "tests/unit/dataplane/rig.h"

enum { ROUTES = 400, QUESTIONS = 4000 };

static struct tunnel tunnels[64];
static uint64_t state;

static uint32_t random_u32(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

/* Few distinct bytes, so that prefixes nest and meet. */
static struct ip_addr random_addr(uint8_t family)
{
    static const uint8_t bytes[] = {0, 1, 127, 128, 254, 255};
    uint8_t b[16];

    for (int i = 0; i < 16; i++)
        b[i] = bytes[random_u32() % sizeof bytes];
    return ip_from_bytes(family, b);
}

static struct ip_prefix random_prefix(void)
{
    struct ip_prefix p = {random_addr(random_u32() % 2 ? 4 : 6), 0};

    p.bits = (uint8_t)(random_u32() % (8 * ip_len(&p.ip) + 1));
    for (unsigned bit = p.bits; bit < 8 * ip_len(&p.ip); bit++)
        p.ip.b[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
    return p;
}

/* The best route by looking at all; equal ones are told apart by the caller. */
static const struct fib_route *best_of(const struct fib_route *r, size_t n, const struct ip_addr *a)
{
    const struct fib_route *best = NULL;

    for (size_t i = 0; i < n; i++) {
        if (!prefix_contains(&r[i].prefix, a))
            continue;
        if (!best || r[i].prefix.bits > best->prefix.bits ||
            (r[i].prefix.bits == best->prefix.bits && r[i].priority < best->priority))
            best = &r[i];
    }
    return best;
}

/* Is the tunnel that of some route as good as the best? */
static bool is_as_good(const struct fib_route *r, size_t n, const struct fib_route *best,
                       const struct tunnel *t)
{
    for (size_t i = 0; i < n; i++)
        if (r[i].tunnel == t && r[i].priority == best->priority &&
            r[i].prefix.bits == best->prefix.bits && ip_equal(&r[i].prefix.ip, &best->prefix.ip))
            return true;
    return false;
}

static void compare(size_t n)
{
    struct fib_route model[ROUTES], routes[ROUTES];
    struct fib *fib;

    for (size_t i = 0; i < n; i++)
        model[i] = (struct fib_route){random_prefix(), &tunnels[random_u32() % 64],
                                      random_u32() % 3, random_u32() % 4};
    memcpy(routes, model, sizeof routes);
    cr_assert_eq(fib_new(routes, n, NULL, 0, &fib), ERR_OK);
    for (int q = 0; q < QUESTIONS; q++) {
        struct ip_addr a = random_addr(q % 2 ? 4 : 6);
        const struct fib_route *best = best_of(model, n, &a);
        bool found;
        struct tunnel *t = fib_route(fib, &a, random_u32() << 1, &found);

        cr_assert_eq(found, best != NULL);
        cr_assert(!best || is_as_good(model, n, best, t));
        cr_assert(best || !t);
    }
    fib_free_now(fib);
}

Test(dataplane_fib, agrees_with_a_naive_search)
{
    static const size_t sizes[] = {0, 1, 2, 3, 5, 10, 30, 100, ROUTES};

    for (uint64_t seed = 1; seed <= 20; seed++) {
        state = seed;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            compare(sizes[i]);
    }
}

Test(dataplane_fib, the_ends_of_the_address_space)
{
    static const char *const texts[] = {"0.0.0.0/0",
                                        "255.255.255.255/32",
                                        "0.0.0.0/32",
                                        "::/0",
                                        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
                                        "::/128"};
    struct fib_route routes[6];
    struct fib *fib;
    bool found;

    for (int i = 0; i < 6; i++) {
        routes[i] = (struct fib_route){.tunnel = &tunnels[i]};
        cr_assert(prefix_parse(texts[i], &routes[i].prefix));
    }
    cr_assert_eq(fib_new(routes, 6, NULL, 0, &fib), ERR_OK);
#define ASK(a) (fib_route(fib, (struct ip_addr[]){addr(a)}, 0, &found) - tunnels)
    cr_assert_eq(ASK("255.255.255.255"), 1);
    cr_assert_eq(ASK("255.255.255.254"), 0);
    cr_assert_eq(ASK("0.0.0.0"), 2);
    cr_assert_eq(ASK("0.0.0.1"), 0);
    cr_assert_eq(ASK("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), 4);
    cr_assert_eq(ASK("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"), 3);
    cr_assert_eq(ASK("::"), 5);
    cr_assert_eq(ASK("::1"), 3);
    fib_free_now(fib);
}

Test(dataplane_fib, flows_are_shared_by_weight_and_stay)
{
    struct fib_route routes[4];
    unsigned seen[4] = {0};
    struct fib *fib;
    bool found;

    for (unsigned i = 0; i < 4; i++) {
        routes[i] = (struct fib_route){.tunnel = &tunnels[i], .priority = i == 3, .weight = i};
        cr_assert(prefix_parse("203.0.113.0/24", &routes[i].prefix));
    }
    cr_assert_eq(fib_new(routes, 4, NULL, 0, &fib), ERR_OK);
    for (unsigned port = 0; port < 20000; port++) {
        static uint8_t p[100];
        struct inner in;
        struct tunnel *t;

        make_udp("10.0.0.1", "203.0.113.9", (uint16_t)port, 53, 0, p);
        cr_assert(inner_parse(p, 28, &in));
        t = fib_route(fib, &in.dst, inner_hash(&in), &found);
        cr_assert_eq(t, fib_route(fib, &in.dst, inner_hash(&in), &found));
        seen[t - tunnels]++;
    }
    /* weights 0 (as 1), 1, 2 of priority 0; the fourth has a worse priority */
    cr_assert(seen[0] > 4500 && seen[0] < 5500, "%u", seen[0]);
    cr_assert(seen[1] > 4500 && seen[1] < 5500, "%u", seen[1]);
    cr_assert(seen[2] > 9400 && seen[2] < 10600, "%u", seen[2]);
    cr_assert_eq(seen[3], 0);
    fib_free_now(fib);
}
