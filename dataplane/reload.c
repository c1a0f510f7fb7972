/* dp_set_tunnels: the configuration of tunnels and routes, taken over as a whole.
 *
 * Everything that can fail for want of memory or for nonsense is prepared first;
 * then the new state is published, and at last the kernel's routes follow. */
#include <stdlib.h>
#include <string.h>

#include "dataplane/internal.h"
#include "proto/err.h"
#include "proto/log.h"

struct plan {
    struct tunnel **tunnels; /* of the configuration, in its order */
    struct tunnel_conf **confs;
    size_t n_tunnels;
    struct fib_route *routes;
    size_t n_routes;
    struct fib_gre *gre;
    size_t n_gre;
    struct ip_prefix *prefixes, *addresses; /* for the kernel */
    size_t n_prefixes, n_addresses;
    struct fib *fib;
};

static int plan_alloc(struct plan *p, size_t n_tunnels, size_t n_routes)
{
    p->tunnels = calloc(n_tunnels + 1, sizeof(struct tunnel *));
    p->confs = calloc(n_tunnels + 1, sizeof(struct tunnel_conf *));
    /* a tunnel's own address and its subnet are routes too */
    p->routes = calloc(n_routes + 2 * n_tunnels + 1, sizeof *p->routes);
    p->gre = calloc(n_tunnels + 1, sizeof *p->gre);
    p->prefixes = calloc(n_routes + n_tunnels + 1, sizeof *p->prefixes);
    p->addresses = calloc(n_tunnels + 1, sizeof *p->addresses);
    if (p->tunnels && p->confs && p->routes && p->gre && p->prefixes && p->addresses)
        return ERR_OK;
    return ERR_NOMEM;
}

/* Frees what was not handed over. */
static void plan_free(struct plan *p)
{
    for (size_t i = 0; i < p->n_tunnels; i++)
        free(p->confs[i]);
    free((void *)p->tunnels);
    free((void *)p->confs);
    free(p->routes);
    free(p->gre);
    free(p->prefixes);
    free(p->addresses);
    fib_free_now(p->fib);
}

static struct ip_prefix masked(const struct ip_prefix *p)
{
    struct ip_prefix out = *p;

    for (size_t i = 0; i < ip_len(&p->ip); i++) {
        unsigned kept = p->bits > 8 * i ? p->bits - 8 * (unsigned)i : 0;
        if (kept < 8)
            out.ip.b[i] &= (uint8_t)(0xff00 >> kept);
    }
    return out;
}

static void plan_route(struct plan *p, struct ip_prefix prefix, struct tunnel *tunnel,
                       uint32_t priority, uint32_t weight)
{
    p->routes[p->n_routes++] = (struct fib_route){prefix, tunnel, priority, weight};
    if (tunnel)
        p->prefixes[p->n_prefixes++] = prefix;
}

/* The gateway's side of the tunnel is an address of this host, the rest of its subnet lies
 * behind the tunnel; any route that is configured for the same prefix goes first. */
static void plan_interface(struct plan *p, const struct dp_tunnel *t, struct tunnel *tunnel)
{
    struct ip_prefix own = t->interface_address;

    if (own.ip.family == 0)
        return;
    own.bits = (uint8_t)(8 * ip_len(&own.ip));
    p->addresses[p->n_addresses++] = own;
    plan_route(p, own, NULL, 0, 1);
    if (t->interface_address.bits < own.bits)
        plan_route(p, masked(&t->interface_address), tunnel, UINT32_MAX, 1);
}

static int bad_tunnel(const struct dp_tunnel *t, const char *why)
{
    char id[ID_TEXT];

    log_error("dataplane", "tunnel %s: %s", id128_format(&t->id, id), why);
    return ERR_INVALID;
}

static int plan_tunnel(struct dp *dp, struct plan *p, const struct dp_tunnel *t)
{
    struct tunnel *tunnel;
    struct tunnel_conf *conf;

    if (t->type != DP_TUNNEL_IPSEC && t->type != DP_TUNNEL_GRE)
        return bad_tunnel(t, "unknown type");
    if (t->type == DP_TUNNEL_GRE && (t->anycast.family != 4 || t->customer.family != 4))
        return bad_tunnel(t, "GRE needs IPv4 anycast_endpoint and customer_endpoint");
    if (t->interface_address.bits > 8 * ip_len(&t->interface_address.ip))
        return bad_tunnel(t, "bad interface_address");
    tunnel = tunnel_get(&dp->tunnels, &t->id, dp->n_lanes);
    conf = calloc(1, sizeof *conf);
    if (!tunnel || !conf) {
        free(conf);
        return ERR_NOMEM;
    }
    conf->t = *t;
    p->tunnels[p->n_tunnels] = tunnel;
    p->confs[p->n_tunnels++] = conf;
    if (tunnel->wanted)
        return bad_tunnel(t, "configured twice");
    tunnel->wanted = true;
    if (t->type == DP_TUNNEL_GRE)
        p->gre[p->n_gre++] = (struct fib_gre){t->anycast, t->customer, t->has_gre_key,
                                              t->has_gre_key ? t->gre_key : 0, tunnel};
    plan_interface(p, t, tunnel);
    return ERR_OK;
}

static int plan_make(struct dp *dp, struct plan *p, const struct dp_tunnel *tunnels,
                     size_t n_tunnels, const struct dp_route *routes, size_t n_routes)
{
    char text[ADDR_TEXT];
    int rc = plan_alloc(p, n_tunnels, n_routes);

    for (size_t i = 0; i < n_tunnels && rc == ERR_OK; i++)
        rc = plan_tunnel(dp, p, &tunnels[i]);
    for (size_t i = 0; i < n_routes && rc == ERR_OK; i++) {
        const struct dp_route *r = &routes[i];
        struct tunnel *tunnel = tunnel_find(&dp->tunnels, &r->tunnel);

        if (!tunnel || !tunnel->wanted || ip_len(&r->prefix.ip) == 0 ||
            r->prefix.bits > 8 * ip_len(&r->prefix.ip)) {
            log_error("dataplane", "route %s names no configured tunnel or has a bad prefix",
                      prefix_format(&r->prefix, text));
            return ERR_INVALID;
        }
        plan_route(p, masked(&r->prefix), tunnel, r->priority, r->weight);
    }
    if (rc == ERR_OK) {
        rc = fib_new(p->routes, p->n_routes, p->gre, p->n_gre, &p->fib);
        if (rc == ERR_EXISTS)
            log_error("dataplane", "two GRE tunnels have equal endpoints and keys");
    }
    return rc;
}

static void forget_unwanted(void *ctx, struct tunnel *tunnel)
{
    struct dp *dp = ctx;

    if (!tunnel->wanted && tunnel->conf)
        tunnel_configure(tunnel, NULL);
    tunnel->wanted = false;
    tunnel_drop_unused(&dp->tunnels, tunnel);
}

/* A failed plan leaves no trace but tunnels without configuration or SAs. */
static void unmark(void *ctx, struct tunnel *tunnel)
{
    struct dp *dp = ctx;

    tunnel->wanted = false;
    tunnel_drop_unused(&dp->tunnels, tunnel);
}

int dp_set_tunnels(struct dp *dp, const struct dp_tunnel *tunnels, size_t n_tunnels,
                   const struct dp_route *routes, size_t n_routes)
{
    struct plan plan = {0};
    struct fib *was = dp->fib;
    int rc = plan_make(dp, &plan, tunnels, n_tunnels, routes, n_routes), kernel;

    if (rc != ERR_OK) {
        tunnel_each(&dp->tunnels, unmark, dp);
        plan_free(&plan);
        return rc;
    }
    for (size_t i = 0; i < plan.n_tunnels; i++) {
        tunnel_configure(plan.tunnels[i], plan.confs[i]);
        plan.confs[i] = NULL;
    }
    rcu_assign_pointer(dp->fib, plan.fib);
    plan.fib = NULL;
    fib_free_later(was);
    tunnel_each(&dp->tunnels, forget_unwanted, dp);

    /* Addresses first: the kernel may use one as the source along a new route. */
    rc = kernel_set_addresses(&dp->kernel, plan.addresses, plan.n_addresses);
    kernel = kernel_set_routes(&dp->kernel, plan.prefixes, plan.n_prefixes);
    plan_free(&plan);
    return rc != ERR_OK ? rc : kernel;
}
