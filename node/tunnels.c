/* The configuration's tunnels and routes on their way to the IKE engine and to
 * the dataplane, at start and at every reload, and what is remembered of each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/node.h"
#include "proto/err.h"
#include "proto/log.h"

/* ---- the table ---- */

static int compare_states(const void *a, const void *b)
{
    const struct tunnel_state *x = a, *y = b;

    return memcmp(x->id.b, y->id.b, ID_BYTES);
}

struct tunnel_state *node_find_tunnel(const struct node *node, const struct id128 *id)
{
    struct tunnel_state key = {.id = *id};

    if (node->tunnels.n == 0)
        return NULL;
    return bsearch(&key, node->tunnels.t, node->tunnels.n, sizeof *node->tunnels.t, compare_states);
}

static int remake_table(struct node *node)
{
    const struct config_tunnels *from = &node->config->tunnels;
    struct tunnel_table table = {.n = from->n_tunnels};

    table.t = calloc(table.n + 1, sizeof *table.t);
    if (!table.t)
        return ERR_NOMEM;
    for (size_t i = 0; i < table.n; i++) {
        const struct tunnel_state *before = node_find_tunnel(node, &from->tunnels[i].id);
        if (before)
            table.t[i] = *before;
        table.t[i].id = from->tunnels[i].id;
        table.t[i].config = &from->tunnels[i];
    }
    qsort(table.t, table.n, sizeof *table.t, compare_states);
    free(node->tunnels.t);
    node->tunnels = table;
    return ERR_OK;
}

void node_tunnel_failed(struct node *node, const struct id128 *id, const char *reason)
{
    struct tunnel_state *t = node_find_tunnel(node, id);

    if (!t)
        return;
    t->failed_ms = now_read().wall_ms;
    snprintf(t->reason, sizeof t->reason, "%s", reason ? reason : "");
}

void node_free_tunnels(struct node *node)
{
    free(node->tunnels.t);
    node->tunnels = (struct tunnel_table){0};
}

/* ---- to the engine ---- */

static struct ike_tunnel ike_form(const struct config_tunnel *from)
{
    struct ike_tunnel t = {
        .id = from->id,
        .anycast = from->anycast,
        .customer = from->customer,
        .ipv4_id_allowed = from->ipv4_id_allowed,
        .psk = from->psk,
        .psk_n = from->psk_n,
        .allow_null_cipher = from->allow_null_cipher,
        .local_ts = from->local_ts,
        .remote_ts = from->remote_ts,
        .local_id_type = from->local_id_type,
    };

    memcpy(t.account_id, from->account_id, sizeof t.account_id);
    memcpy(t.name, from->name, sizeof t.name);
    memcpy(t.local_id, from->local_id, sizeof t.local_id);
    return t;
}

int node_tunnels_to_engine(struct node *node)
{
    const struct config_tunnels *from = &node->config->tunnels;
    struct ike_tunnel *tunnels = calloc(from->n_tunnels + 1, sizeof *tunnels);
    size_t n = 0;
    int err;

    if (!tunnels)
        return ERR_NOMEM;
    for (size_t i = 0; i < from->n_tunnels; i++)
        if (from->tunnels[i].type == DP_TUNNEL_IPSEC)
            tunnels[n++] = ike_form(&from->tunnels[i]);
    err = ike_set_tunnels(node->ike, tunnels, n);
    free(tunnels); /* it held borrowed pointers to keys, no key */
    return err;
}

/* ---- to the dataplane ---- */

static struct dp_tunnel dp_form(const struct config_tunnel *from)
{
    return (struct dp_tunnel){
        .id = from->id,
        .type = from->type,
        .anycast = from->anycast,
        .customer = from->customer,
        .has_gre_key = from->has_gre_key,
        .gre_key = from->gre_key,
        .ttl = from->ttl,
        .mtu = from->mtu,
        /* The address itself, with its host bits: it answers ICMP in the tunnel's name. */
        .interface_address = {.ip = from->interface_address, .bits = from->interface_bits},
    };
}

static int apply_to_dataplane(struct node *node)
{
    const struct config_tunnels *from = &node->config->tunnels;
    struct dp_tunnel *tunnels = calloc(from->n_tunnels + 1, sizeof *tunnels);
    struct dp_route *routes = calloc(from->n_routes + 1, sizeof *routes);
    int err = ERR_NOMEM;

    if (tunnels && routes) {
        for (size_t i = 0; i < from->n_tunnels; i++)
            tunnels[i] = dp_form(&from->tunnels[i]);
        for (size_t i = 0; i < from->n_routes; i++)
            routes[i] = (struct dp_route){.prefix = from->routes[i].prefix,
                                          .tunnel = from->routes[i].tunnel,
                                          .priority = from->routes[i].priority,
                                          .weight = from->routes[i].weight};
        err = dp_set_tunnels(node->dp, tunnels, from->n_tunnels, routes, from->n_routes);
    }
    free(tunnels);
    free(routes);
    return err;
}

int node_apply_tunnels(struct node *node)
{
    const struct config_tunnels *from = &node->config->tunnels;
    int err = remake_table(node);

    for (size_t i = 0; i < from->n_warnings; i++)
        log_warn("config", "%s", from->warnings[i]);
    if (err == ERR_OK && node->ike)
        err = node_tunnels_to_engine(node);
    if (err == ERR_OK && node->dp)
        err = apply_to_dataplane(node);
    return err;
}

void node_reload(struct node *node)
{
    static struct config_error why; /* 2 KB; the loop thread alone comes here */
    char line[CONFIG_ERROR_LINE];
    int err;

    node->counters.reloads++;
    if (config_reload_tunnels(node->config, &why) != ERR_OK) {
        node->counters.reloads_failed++;
        log_error("config", "%s", config_error_format(&why, line));
        log_error("config", "the tunnels and routes stay as they were");
        return;
    }
    err = node_apply_tunnels(node);
    if (err != ERR_OK) {
        node->counters.reloads_failed++;
        log_error("node", "the new tunnels were not applied in full: %s", err_text(err));
    }
    node_install_all(node);
    log_info("node", "%zu tunnels and %zu routes loaded", node->config->tunnels.n_tunnels,
             node->config->tunnels.n_routes);
}
