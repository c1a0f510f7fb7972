/* Nested prefixes are flattened once into adjoining ranges, each with the route
 * that wins there. A look-up is then one binary search over range starts,
 * whatever the prefix lengths, alike for IPv4 and IPv6. */
#include "dataplane/fib.h"

#include <stdlib.h>
#include <string.h>

#include "proto/err.h"

typedef unsigned __int128 address; /* of either family; IPv4 in the low 32 bits */

/* The routes of one prefix and the best priority: entries first .. first + n - 1. */
struct group {
    uint32_t first, n;
    uint64_t weight; /* of all together */
};

struct share {
    struct tunnel *tunnel;
    uint32_t weight;
};

enum { NO_GROUP = -1 };

struct range {
    address start;
    int32_t group; /* or NO_GROUP */
};

struct ranges {
    struct range *r;
    size_t n;
};

struct fib {
    struct rcu_head rcu;
    struct ranges v4, v6;
    struct group *groups;
    struct share *shares;
    struct fib_gre *gre;
    size_t n_gre;
};

static address address_of(const struct ip_addr *a)
{
    size_t n = ip_len(a);
    address v = 0;

    for (size_t i = 0; i < n; i++)
        v = v << 8 | a->b[i];
    return v;
}

static address last_of(const struct ip_prefix *p)
{
    unsigned host = (unsigned)ip_len(&p->ip) * 8 - p->bits;
    address all = ~(address)0;

    return address_of(&p->ip) | (host == 0 ? 0 : all >> (128 - host));
}

/* ---------------------------------------------------------------- building */

/* Wider prefixes before those inside them; the best priority of a prefix first. */
static int by_prefix(const void *a, const void *b)
{
    const struct fib_route *x = a, *y = b;
    int order = ip_compare(&x->prefix.ip, &y->prefix.ip);

    if (order)
        return order;
    if (x->prefix.bits != y->prefix.bits)
        return x->prefix.bits < y->prefix.bits ? -1 : 1;
    if ((x->tunnel == NULL) != (y->tunnel == NULL))
        return x->tunnel == NULL ? -1 : 1;
    return x->priority < y->priority ? -1 : x->priority > y->priority;
}

static bool same_prefix(const struct fib_route *a, const struct fib_route *b)
{
    return a->prefix.bits == b->prefix.bits && ip_equal(&a->prefix.ip, &b->prefix.ip);
}

struct flatten {
    struct ranges *out;
    struct { /* the prefixes that the sweep is inside of, innermost last */
        address last;
        int32_t group;
    } stack[130];
    int depth;
};

static void emit(struct flatten *f, address start, int32_t group)
{
    struct ranges *out = f->out;

    if (out->n && out->r[out->n - 1].start == start)
        out->n--;
    if (out->n && out->r[out->n - 1].group == group)
        return;
    out->r[out->n++] = (struct range){start, group};
}

/* Leaves the prefixes that end before `start`. */
static void leave_before(struct flatten *f, address start)
{
    while (f->depth > 1 && f->stack[f->depth - 1].last < start) {
        address next = f->stack[f->depth - 1].last + 1;

        f->depth--;
        emit(f, next, f->stack[f->depth - 1].group);
    }
}

static void enter(struct flatten *f, const struct fib_route *r, int32_t group)
{
    address start = address_of(&r->prefix.ip);

    leave_before(f, start);
    f->stack[f->depth].last = last_of(&r->prefix);
    f->stack[f->depth].group = group;
    f->depth++;
    emit(f, start, group);
}

/* Routes of one family, sorted, from *at on; their groups are appended. */
static void flatten_family(struct fib *fib, struct ranges *out, const struct fib_route *routes,
                           size_t n, size_t *at, uint8_t family, uint32_t *n_groups)
{
    struct flatten f = {.out = out, .depth = 1};
    address end = family == 4 ? UINT32_MAX : ~(address)0;

    f.stack[0].last = end;
    f.stack[0].group = NO_GROUP;
    emit(&f, 0, NO_GROUP);
    while (*at < n && routes[*at].prefix.ip.family == family) {
        const struct fib_route *first = &routes[*at];
        struct group *g = &fib->groups[*n_groups];

        *g = (struct group){.first = (uint32_t)*at};
        for (; *at < n && same_prefix(&routes[*at], first); ++*at) {
            const struct fib_route *r = &routes[*at];

            if (r->priority != first->priority || !r->tunnel != !first->tunnel)
                continue;
            fib->shares[g->first + g->n] = (struct share){r->tunnel, r->weight ? r->weight : 1};
            g->weight += fib->shares[g->first + g->n].weight;
            g->n++;
        }
        enter(&f, first, (int32_t)(*n_groups)++);
    }
    while (f.depth > 1) {
        address last = f.stack[f.depth - 1].last;

        f.depth--;
        if (last < end)
            emit(&f, last + 1, f.stack[f.depth - 1].group);
    }
}

static int compare_gre(const void *a, const void *b)
{
    const struct fib_gre *x = a, *y = b;
    int order = ip_compare(&x->customer, &y->customer);

    if (!order)
        order = ip_compare(&x->anycast, &y->anycast);
    if (!order)
        order = (int)x->has_key - (int)y->has_key;
    if (!order && x->has_key)
        order = x->key < y->key ? -1 : x->key > y->key;
    return order;
}

static int build_gre(struct fib *fib, struct fib_gre *gre, size_t n)
{
    if (n == 0)
        return ERR_OK;
    qsort(gre, n, sizeof *gre, compare_gre);
    for (size_t i = 1; i < n; i++)
        if (compare_gre(&gre[i - 1], &gre[i]) == 0)
            return ERR_EXISTS;
    memcpy(fib->gre, gre, n * sizeof *gre);
    fib->n_gre = n;
    return ERR_OK;
}

int fib_new(struct fib_route *routes, size_t n_routes, struct fib_gre *gre, size_t n_gre,
            struct fib **out)
{
    struct fib *fib = calloc(1, sizeof *fib);
    uint32_t n_groups = 0;
    size_t at = 0;
    int rc = ERR_NOMEM;

    if (!fib)
        return ERR_NOMEM;
    /* A prefix opens one range and may resume its parent's behind it. */
    fib->v4.r = calloc(2 * n_routes + 1, sizeof *fib->v4.r);
    fib->v6.r = calloc(2 * n_routes + 1, sizeof *fib->v6.r);
    fib->groups = calloc(n_routes + 1, sizeof *fib->groups);
    fib->shares = calloc(n_routes + 1, sizeof *fib->shares);
    fib->gre = calloc(n_gre + 1, sizeof *fib->gre);
    if (fib->v4.r && fib->v6.r && fib->groups && fib->shares && fib->gre)
        rc = build_gre(fib, gre, n_gre);
    if (rc != ERR_OK) {
        fib_free_now(fib);
        return rc;
    }
    if (n_routes)
        qsort(routes, n_routes, sizeof *routes, by_prefix);
    flatten_family(fib, &fib->v4, routes, n_routes, &at, 4, &n_groups);
    flatten_family(fib, &fib->v6, routes, n_routes, &at, 6, &n_groups);
    *out = fib;
    return ERR_OK;
}

void fib_free_now(struct fib *fib)
{
    if (!fib)
        return;
    free(fib->v4.r);
    free(fib->v6.r);
    free(fib->groups);
    free(fib->shares);
    free(fib->gre);
    free(fib);
}

static void free_fib(struct rcu_head *head)
{
    fib_free_now(caa_container_of(head, struct fib, rcu));
}

void fib_free_later(struct fib *fib)
{
    if (fib)
        call_rcu(&fib->rcu, free_fib);
}

/* ---------------------------------------------------------------- searching */

struct tunnel *fib_route(const struct fib *fib, const struct ip_addr *dst, uint32_t flow,
                         bool *found)
{
    const struct ranges *ranges = dst->family == 4 ? &fib->v4 : &fib->v6;
    address key = address_of(dst);
    size_t low = 0, high = ranges->n; /* the range is in [low, high) */
    const struct group *g;
    uint64_t at;

    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (ranges->r[middle].start <= key)
            low = middle;
        else
            high = middle;
    }
    *found = ranges->r[low].group != NO_GROUP;
    if (!*found)
        return NULL;
    g = &fib->groups[ranges->r[low].group];
    if (g->n == 1)
        return fib->shares[g->first].tunnel;
    at = flow * g->weight >> 32;
    for (uint32_t i = g->first;; i++) {
        if (at < fib->shares[i].weight)
            return fib->shares[i].tunnel;
        at -= fib->shares[i].weight;
    }
}

struct tunnel *fib_gre(const struct fib *fib, const struct ip_addr *anycast,
                       const struct ip_addr *customer, bool has_key, uint32_t key)
{
    struct fib_gre wanted = {*anycast, *customer, has_key, key, NULL};
    const struct fib_gre *hit = NULL;

    if (fib->n_gre)
        hit = bsearch(&wanted, fib->gre, fib->n_gre, sizeof wanted, compare_gre);
    return hit ? hit->tunnel : NULL;
}
