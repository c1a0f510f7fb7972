#include "node/api.h"
#include "node/api_page.h"

/* ---- one tunnel ---- */

static json_t *address_or_null(const struct ip_addr *a)
{
    char text[ADDR_TEXT];

    return a->family ? json_string(ip_format(a, text)) : json_null();
}

static json_t *interface_or_null(const struct config_tunnel *t)
{
    char text[ADDR_TEXT];

    if (!t->interface_address.family)
        return json_null();
    return json_sprintf("%s/%u", ip_format(&t->interface_address, text), t->interface_bits);
}

static json_t *failure_or_null(const struct tunnel_state *tunnel)
{
    if (tunnel->failed_ms == 0)
        return json_null();
    return json_pack("{s:o, s:o}", "reason", json_text(tunnel->reason), "at",
                     json_time(tunnel->failed_ms));
}

static void add_ipsec(json_t *o, const struct config_tunnel *t)
{
    json_object_set_new(o, "allow_null_cipher", json_boolean(t->allow_null_cipher));
    json_object_set_new(o, "local_ts", json_selectors(&t->local_ts));
    json_object_set_new(o, "remote_ts", json_selectors(&t->remote_ts));
    json_object_set_new(o, "local_id", t->local_id[0] ? json_text(t->local_id) : json_null());
}

static void add_gre(json_t *o, const struct config_tunnel *t)
{
    json_object_set_new(o, "gre_key", t->has_gre_key ? json_integer(t->gre_key) : json_null());
    json_object_set_new(o, "ttl", json_integer(t->ttl));
}

json_t *api_tunnel_json(const struct tunnel_state *tunnel, const struct dp_sa_stats *stats)
{
    const struct config_tunnel *t = tunnel->config;
    bool ipsec = t->type == DP_TUNNEL_IPSEC;
    char id[ID_TEXT];
    json_t *o = json_pack("{s:s, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:s, s:o}", "id",
                          id128_format(&t->id, id), "account_id", json_text(t->account_id), "name",
                          json_text(t->name), "type", ipsec ? "ipsec" : "gre", "anycast_endpoint",
                          address_or_null(&t->anycast), "customer_endpoint",
                          address_or_null(&t->customer), "interface_address", interface_or_null(t),
                          "mtu", t->mtu ? json_integer(t->mtu) : json_null(), "status",
                          tunnel->up ? "up" : "down", "last_failure", failure_or_null(tunnel));

    if (!o)
        return NULL;
    if (ipsec)
        add_ipsec(o, t);
    else
        add_gre(o, t);
    json_object_set_new(o, "packets_in", json_counter(stats->packets_in));
    json_object_set_new(o, "bytes_in", json_counter(stats->bytes_in));
    json_object_set_new(o, "packets_out", json_counter(stats->packets_out));
    json_object_set_new(o, "bytes_out", json_counter(stats->bytes_out));
    return o;
}

/* ---- which tunnels are up ---- */

static bool mark(void *ctx, const struct record *record)
{
    struct node *node = ctx;
    struct tunnel_state *t = node_find_tunnel(node, &record->child.tunnel_id);
    struct dp_sa_stats stats;

    if (t && !t->up && dp_sa_get_stats(node->dp, record->child.spi_in, &stats))
        t->up = true;
    return true;
}

/* A GRE tunnel has no state and is always up; an IPsec tunnel is while it has a Child SA here. */
static void mark_all(struct node *node)
{
    for (size_t i = 0; i < node->tunnels.n; i++)
        node->tunnels.t[i].up = node->tunnels.t[i].config->type == DP_TUNNEL_GRE;
    if (node->dp)
        sync_each(node->sync, RECORD_CHILD, mark, node);
}

static json_t *render(const struct node *node, const struct tunnel_state *tunnel)
{
    struct dp_sa_stats stats = {0};

    if (node->dp && !dp_tunnel_get_stats(node->dp, &tunnel->id, &stats))
        stats = (struct dp_sa_stats){0};
    return api_tunnel_json(tunnel, &stats);
}

/* ---- handlers ---- */

/* Numbers are places in the file, from 1; a reload may shorten the list under a long page. */
static json_t *render_tunnel(void *ctx, uint64_t number)
{
    const struct node *node = ctx;
    const struct config_tunnels *config = &node->config->tunnels;
    const struct tunnel_state *t = number <= config->n_tunnels
                                       ? node_find_tunnel(node, &config->tunnels[number - 1].id)
                                       : NULL;

    return t ? render(node, t) : NULL;
}

void api_get_tunnels(void *ctx, const struct http_request *request, struct http_reply *reply)
{
    struct node *node = ctx;
    struct page page;

    if (!page_begin(request, &page, reply))
        return;
    mark_all(node);
    for (size_t i = 0; i < node->config->tunnels.n_tunnels; i++)
        page_offer(&page, i + 1);
    page_send(&page, render_tunnel, ctx, reply);
}

void api_get_tunnel(void *ctx, const struct http_request *request, struct http_reply *reply)
{
    struct node *node = ctx;
    const struct tunnel_state *t;
    struct id128 id;

    if (!id128_parse(request->id, &id) || !(t = node_find_tunnel(node, &id))) {
        http_reply_error(reply, 404, "not_found", "no such tunnel");
        return;
    }
    mark_all(node);
    http_reply_json(reply, 200, render(node, t));
}

json_t *api_route_json(const struct config_route *route)
{
    char prefix[ADDR_TEXT], tunnel[ID_TEXT];

    return json_pack("{s:s, s:s, s:I, s:I}", "prefix", prefix_format(&route->prefix, prefix),
                     "tunnel_id", id128_format(&route->tunnel, tunnel), "priority",
                     (json_int_t)route->priority, "weight", (json_int_t)route->weight);
}

static json_t *render_route(void *ctx, uint64_t number)
{
    const struct node *node = ctx;
    const struct config_tunnels *config = &node->config->tunnels;

    return number <= config->n_routes ? api_route_json(&config->routes[number - 1]) : NULL;
}

void api_get_routes(void *ctx, const struct http_request *request, struct http_reply *reply)
{
    const struct node *node = ctx;
    struct page page;

    if (!page_begin(request, &page, reply))
        return;
    for (size_t i = 0; i < node->config->tunnels.n_routes; i++)
        page_offer(&page, i + 1);
    page_send(&page, render_route, ctx, reply);
}
