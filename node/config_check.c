/* Values against each other: what no single one of them shows. Lists are
 * compared by sorting their indices, so a million tunnels stay cheap. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "node/config_internal.h"
#include "proto/err.h"

enum { WARNINGS_MAX = 10 };

/* ---- the member list ---- */

static bool same_port(const struct config_member *a, const struct config_member *b)
{
    int apart = (int)a->port - (int)b->port; /* each takes its port and the next */

    return strcasecmp(a->host, b->host) == 0 && apart >= -1 && apart <= 1;
}

int config_check_members(const struct config_source *src, const struct config *cfg)
{
    const struct config_member *m = cfg->mesh.members;
    bool self = false;

    for (size_t i = 0; i < cfg->mesh.n; i++) {
        struct config_at place = {src, "mesh.members", i, "slot"};

        for (size_t j = 0; j < i; j++) {
            if (m[i].slot == m[j].slot)
                return config_fail(place,
                                   "slot %u is taken by member %zu (%s:%u); give each its own",
                                   m[i].slot, j + 1, m[j].host, m[j].port);
            place.key = "address";
            if (same_port(&m[i], &m[j]))
                return config_fail(place,
                                   "address %s:%u meets that of slot %u (port and port + 1); "
                                   "give each its own",
                                   m[i].host, m[i].port, m[j].slot);
            place.key = "slot";
        }
        self = self || m[i].slot == cfg->node.slot;
    }
    if (!self)
        return config_fail((struct config_at){.src = src, .key = "node.slot"},
                           "slot %u is not among mesh.members; add this node there or correct it",
                           cfg->node.slot);
    return ERR_OK;
}

/* ---- sorted views of the tunnels ---- */

struct view {
    const struct config_tunnel *tunnels;
    uint32_t *index;
    size_t n;
};

static int compare_id(const struct config_tunnel *a, const struct config_tunnel *b)
{
    return memcmp(a->id.b, b->id.b, ID_BYTES);
}

static int compare_pair(const struct config_tunnel *a, const struct config_tunnel *b)
{
    int d = ip_compare(&a->anycast, &b->anycast);

    return d ? d : ip_compare(&a->customer, &b->customer);
}

static int compare_gre(const struct config_tunnel *a, const struct config_tunnel *b)
{
    int d = compare_pair(a, b);

    if (d == 0 && a->has_gre_key != b->has_gre_key)
        d = a->has_gre_key ? 1 : -1;
    if (d == 0 && a->gre_key != b->gre_key)
        d = a->gre_key < b->gre_key ? -1 : 1;
    return d;
}

typedef int compare_fn(const struct config_tunnel *a, const struct config_tunnel *b);
struct order {
    const struct config_tunnel *tunnels;
    compare_fn *compare;
};

/* By the order, then by the place in the file. */
static int compare_index(const void *a, const void *b, void *ctx)
{
    const struct order *o = ctx;
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    int d = o->compare(&o->tunnels[i], &o->tunnels[j]);

    return d ? d : i < j ? -1 : i > j;
}

static void sort_view(struct view *v, compare_fn *compare)
{
    struct order o = {v->tunnels, compare};

    qsort_r(v->index, v->n, sizeof v->index[0], compare_index, &o);
}

static bool has_pair(const struct config_tunnel *t)
{
    return t->customer.family != 0;
}

/* All tunnels of a type; of IPsec only those with a customer endpoint. */
static void fill_view(struct view *v, const struct config_tunnels *t, enum dp_tunnel_type type)
{
    v->n = 0;
    for (size_t i = 0; i < t->n_tunnels; i++)
        if (t->tunnels[i].type == type && has_pair(&t->tunnels[i]))
            v->index[v->n++] = (uint32_t)i;
}

static int check_ids(const struct config_source *src, struct view *v,
                     const struct config_tunnels *t)
{
    char text[ID_TEXT];

    for (v->n = 0; v->n < t->n_tunnels; v->n++)
        v->index[v->n] = (uint32_t)v->n;
    sort_view(v, compare_id);
    for (size_t i = 1; i < v->n; i++) {
        const struct config_tunnel *a = &t->tunnels[v->index[i - 1]];
        const struct config_tunnel *b = &t->tunnels[v->index[i]];
        if (compare_id(a, b) == 0)
            return config_fail((struct config_at){src, "tunnels", v->index[i], "id"},
                               "id %s is that of tunnel '%s' as well; give each its own",
                               id128_format(&b->id, text), a->name);
    }
    return ERR_OK;
}

static int check_gre(const struct config_source *src, struct view *v,
                     const struct config_tunnels *t)
{
    char anycast[ADDR_TEXT], customer[ADDR_TEXT];

    fill_view(v, t, DP_TUNNEL_GRE);
    sort_view(v, compare_gre);
    for (size_t i = 1; i < v->n; i++) {
        const struct config_tunnel *a = &t->tunnels[v->index[i - 1]];
        const struct config_tunnel *b = &t->tunnels[v->index[i]];
        if (compare_gre(a, b) == 0)
            return config_fail((struct config_at){src, "tunnels", v->index[i], "customer_endpoint"},
                               "gre tunnels '%s' and '%s' have the same endpoints %s and %s and "
                               "the same key; give them different gre_key values",
                               a->name, b->name, ip_format(&b->anycast, anycast),
                               ip_format(&b->customer, customer));
    }
    return ERR_OK;
}

/* ---- warnings ---- */

static int add_warning(const struct config_source *src, struct config_tunnels *t,
                       const struct config_error *w)
{
    char line[CONFIG_ERROR_LINE];
    char **list = realloc(t->warnings, (t->n_warnings + 1) * sizeof *list);

    if (!list)
        return config_no_memory(src);
    t->warnings = list;
    list[t->n_warnings] = strdup(config_error_format(w, line));
    if (!list[t->n_warnings])
        return config_no_memory(src);
    t->n_warnings++;
    return ERR_OK;
}

/* Tunnels index[first] to index[last] share their endpoints; the warning stands at the second. */
static int warn_shared(const struct config_source *src, const struct view *v, size_t first,
                       size_t last, struct config_tunnels *t)
{
    const struct config_tunnel *a = &t->tunnels[v->index[first]];
    const struct config_tunnel *b = &t->tunnels[v->index[first + 1]];
    struct config_error w = {.line = 0};
    struct config_source quiet = *src;
    char anycast[ADDR_TEXT], customer[ADDR_TEXT], more[32] = "";

    quiet.err = &w;
    if (last > first + 1)
        snprintf(more, sizeof more, " and %zu more", last - first - 1);
    (void)config_fail(
        (struct config_at){&quiet, "tunnels", v->index[first + 1], "customer_endpoint"},
        "ipsec tunnels '%s' and '%s'%s share the endpoints %s and %s; ID_IPV4_ADDR is off for "
        "them, so their routers must use another ID type",
        a->name, b->name, more, ip_format(&a->anycast, anycast), ip_format(&a->customer, customer));
    return add_warning(src, t, &w);
}

static int warn_rest(const struct config_source *src, struct config_tunnels *t, size_t rest)
{
    struct config_error w = {.line = 1, .column = 1};

    snprintf(w.file, sizeof w.file, "%s", src->file);
    snprintf(w.text, sizeof w.text, "%zu more endpoint pairs are shared by ipsec tunnels", rest);
    return add_warning(src, t, &w);
}

/* An IPv4 ID names no account, so a pair that two IPsec tunnels share names neither. */
static int check_pairs(const struct config_source *src, struct view *v, struct config_tunnels *t)
{
    size_t shared = 0;
    int rc = ERR_OK;

    fill_view(v, t, DP_TUNNEL_IPSEC);
    sort_view(v, compare_pair);
    for (size_t i = 0, last; i < v->n && rc == ERR_OK; i = last + 1) {
        const struct config_tunnel *a = &t->tunnels[v->index[i]];

        for (last = i; last + 1 < v->n; last++)
            if (compare_pair(a, &t->tunnels[v->index[last + 1]]) != 0)
                break;
        if (last == i) {
            t->tunnels[v->index[i]].ipv4_id_allowed = true;
            continue;
        }
        if (++shared <= WARNINGS_MAX)
            rc = warn_shared(src, v, i, last, t);
    }
    if (rc == ERR_OK && shared > WARNINGS_MAX)
        rc = warn_rest(src, t, shared - WARNINGS_MAX);
    return rc;
}

/* ---- routes ---- */

/* `v` is sorted by id. */
static bool knows(const struct view *v, const struct id128 *id)
{
    size_t low = 0, high = v->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int d = memcmp(v->tunnels[v->index[middle]].id.b, id->b, ID_BYTES);
        if (d == 0)
            return true;
        if (d < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

static int compare_routes(const struct config_route *a, const struct config_route *b)
{
    int d = ip_compare(&a->prefix.ip, &b->prefix.ip);

    if (d == 0)
        d = (int)a->prefix.bits - (int)b->prefix.bits;
    return d ? d : memcmp(a->tunnel.b, b->tunnel.b, ID_BYTES);
}

static int compare_route_index(const void *a, const void *b, void *ctx)
{
    const struct config_route *routes = ctx;
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    int d = compare_routes(&routes[i], &routes[j]);

    return d ? d : i < j ? -1 : i > j;
}

static int check_routes(const struct config_source *src, const struct view *by_id,
                        const struct config_tunnels *t, uint32_t *index)
{
    char text[ID_TEXT], prefix[ADDR_TEXT];

    for (size_t i = 0; i < t->n_routes; i++) {
        index[i] = (uint32_t)i;
        if (!knows(by_id, &t->routes[i].tunnel))
            return config_fail((struct config_at){src, "routes", i, "tunnel"},
                               "no tunnel has the id %s; add it under tunnels or correct the route",
                               id128_format(&t->routes[i].tunnel, text));
    }
    qsort_r(index, t->n_routes, sizeof index[0], compare_route_index, t->routes);
    for (size_t i = 1; i < t->n_routes; i++)
        if (compare_routes(&t->routes[index[i - 1]], &t->routes[index[i]]) == 0)
            return config_fail((struct config_at){src, "routes", index[i], "prefix"},
                               "the route for %s through this tunnel stands twice; remove one",
                               prefix_format(&t->routes[index[i]].prefix, prefix));
    return ERR_OK;
}

int config_check_tunnels(const struct config_source *src, struct config_tunnels *t)
{
    struct view v = {.tunnels = t->tunnels};
    uint32_t *routes = calloc(t->n_routes + 1, sizeof *routes);
    int rc;

    v.index = calloc(t->n_tunnels + 1, sizeof *v.index);
    if (!v.index || !routes) {
        rc = config_no_memory(src);
        goto out;
    }
    rc = check_ids(src, &v, t);
    if (rc == ERR_OK)
        rc = check_routes(src, &v, t, routes);
    if (rc == ERR_OK)
        rc = check_gre(src, &v, t);
    if (rc == ERR_OK)
        rc = check_pairs(src, &v, t);
out:
    free(v.index);
    free(routes);
    return rc;
}
