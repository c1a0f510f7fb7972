#include "node/api.h"

/* clang-format off */
const struct http_route api_routes[] = {
    {"GET", "/healthz",         api_get_healthz,   .open_to_all = true},
    {"GET", "/readyz",          api_get_readyz,    .open_to_all = true},
    {"GET", "/v1/cluster",      api_get_cluster,   false},
    {"GET", "/v1/nodes",        api_get_nodes,     false},
    {"GET", "/v1/tunnels",      api_get_tunnels,   false},
    {"GET", "/v1/tunnels/{id}", api_get_tunnel,    false},
    {"GET", "/v1/ike-sas",      api_get_ike_sas,   false},
    {"GET", "/v1/child-sas",    api_get_child_sas, false},
    {"GET", "/v1/routes",       api_get_routes,    false},
    {"POST", "/v1/node/drain",  api_post_drain,    false},
    {"POST", "/v1/node/resume", api_post_resume,   false},
    {"POST", "/v1/purge",           api_post_purge,    false},
    {"GET", "/metrics",         api_get_metrics,   false},
};
/* clang-format on */
const size_t api_route_count = sizeof api_routes / sizeof *api_routes;

struct http_site api_site(struct node *node)
{
    return (struct http_site){.routes = api_routes,
                              .n_routes = api_route_count,
                              .token = node->config->http.token,
                              .tls_cert = node->config->http.tls_cert,
                              .tls_key = node->config->http.tls_key,
                              .ctx = node};
}

void api_get_healthz(void *ctx, const struct http_request *request, struct http_reply *reply)
{
    (void)ctx;
    (void)request;
    http_reply_json(reply, 200, json_pack("{s:s}", "status", "ok"));
}

void api_get_readyz(void *ctx, const struct http_request *request, struct http_reply *reply)
{
    struct readiness ready = node_readiness(ctx);
    json_t *reasons = json_array(), *details = json_object();

    (void)request;
    for (size_t i = 0; i < ready.n; i++) {
        json_array_append_new(reasons, json_string(ready.reasons[i]));
        if (ready.details[i])
            json_object_set_new(details, ready.reasons[i], json_text(ready.details[i]));
    }
    http_reply_json(reply, ready.n == 0 ? 200 : 503,
                    json_pack("{s:o, s:o}", "reasons", reasons, "details", details));
}

static void reply_draining(const struct node *node, struct http_reply *reply)
{
    http_reply_json(reply, 200, json_pack("{s:b}", "draining", node->draining));
}

void api_post_drain(void *ctx, const struct http_request *request, struct http_reply *reply)
{
    (void)request;
    node_drain(ctx, true);
    reply_draining(ctx, reply);
}

void api_post_resume(void *ctx, const struct http_request *request, struct http_reply *reply)
{
    struct node *node = ctx;

    (void)request;
    if (node->stopping) {
        http_reply_error(reply, 409, "stopping", "the process is about to end");
        return;
    }
    node_drain(node, false);
    reply_draining(node, reply);
}

void api_post_purge(void *ctx, const struct http_request *request, struct http_reply *reply)
{
    struct node_purged purged;

    (void)request;
    if (!node_purge(ctx, &purged)) {
        http_reply_error(reply, 500, "out_of_memory", "out of memory");
        return;
    }
    http_reply_json(reply, 200,
                    json_pack("{s:I, s:I}", "ike_sas", (json_int_t)purged.ike_sas, "child_sas",
                              (json_int_t)purged.child_sas));
}
