/* Routes, token and error bodies, without a socket. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "node/api.h"
#include "node/http_router.h"
#include "proto/err.h"

static void hello(void *ctx, const struct http_request *request, struct http_reply *reply)
{
    http_reply_json(reply, 200,
                    json_pack("{s:s, s:s}", "ctx", (const char *)ctx, "id", request->id));
}

static char here[] = "here";

static const struct http_route routes[] = {
    {"GET", "/open", hello, .open_to_all = true}, {"GET", "/closed", hello, false},
    {"GET", "/things/{id}", hello, false},        {"GET", "/things/{id}/parts", hello, false},
    {"POST", "/things/{id}", hello, false},
};

struct row {
    const char *method, *target, *token, *authorization;
    unsigned status;
    const char *code; /* of the error, or NULL */
};

static void check(const struct row *row)
{
    struct http_site site = {.routes = routes,
                             .n_routes = sizeof routes / sizeof *routes,
                             .token = row->token,
                             .ctx = here};
    struct http_url url;
    struct http_request request = {
        .method = row->method, .url = &url, .authorization = row->authorization};
    struct http_reply reply = {0};
    json_t *body;

    cr_assert_eq(http_url_parse(row->target, &url), ERR_OK);
    http_dispatch(&site, &request, &reply);
    cr_expect_eq(reply.status, row->status, "%s %s: %u", row->method, row->target, reply.status);
    cr_expect_str_eq(reply.content_type, "application/json");
    body = json_loadb(reply.body, reply.n, 0, NULL);
    cr_assert_not_null(body);
    if (row->code)
        cr_expect_str_eq(json_string_value(json_object_get(json_object_get(body, "error"), "code")),
                         row->code, "%s %s", row->method, row->target);
    cr_expect_eq(reply.challenge, row->status == 401);
    json_decref(body);
    free(reply.body);
}

Test(http_router, answers)
{
    static const struct row rows[] = {
        {"GET", "/open", "", NULL, 200, NULL},
        {"GET", "/closed", "", NULL, 200, NULL},
        {"GET", "/nothing", "", NULL, 404, "not_found"},
        {"GET", "/closed/", "", NULL, 404, "not_found"},
        {"GET", "/things/", "", NULL, 404, "not_found"},
        {"GET", "/things/7", "", NULL, 200, NULL},
        {"GET", "/things/7/parts", "", NULL, 200, NULL},
        {"GET", "/things/7/other", "", NULL, 404, "not_found"},
        {"GET", "/things/7%2fparts", "", NULL, 200, NULL}, /* decoded before it is matched */
        {"POST", "/things/7", "", NULL, 200, NULL},
        {"DELETE", "/things/7", "", NULL, 405, "method_not_allowed"},
        {"POST", "/open", "", NULL, 405, "method_not_allowed"},
        /* with a token */
        {"GET", "/open", "secret", NULL, 200, NULL},
        {"GET", "/closed", "secret", NULL, 401, "unauthorized"},
        {"GET", "/closed", "secret", "Bearer secret", 200, NULL},
        {"GET", "/closed", "secret", "bearer secret", 200, NULL},
        {"GET", "/closed", "secret", "Bearer secre", 401, "unauthorized"},
        {"GET", "/closed", "secret", "Bearer secrets", 401, "unauthorized"},
        {"GET", "/closed", "secret", "Bearer ", 401, "unauthorized"},
        {"GET", "/closed", "secret", "secret", 401, "unauthorized"},
        {"GET", "/closed", "secret", "Basic secret", 401, "unauthorized"},
        {"GET", "/nothing", "secret", NULL, 401, "unauthorized"},
        {"GET", "/nothing", "secret", "Bearer secret", 404, "not_found"},
        {"PUT", "/closed", "secret", NULL, 401, "unauthorized"},
        {"PUT", "/closed", "secret", "Bearer secret", 405, "method_not_allowed"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check(&rows[i]);
}

Test(http_router, the_id_and_the_allowed_methods)
{
    struct http_site site = {
        .routes = routes, .n_routes = sizeof routes / sizeof *routes, .token = "", .ctx = here};
    struct http_url url;
    struct http_request request = {.method = "GET", .url = &url};
    struct http_reply reply = {0};

    http_url_parse("/things/a%20b", &url);
    http_dispatch(&site, &request, &reply);
    cr_expect_str_eq(request.id, "a b");
    request.method = "PATCH";
    http_dispatch(&site, &request, &reply);
    cr_expect_eq(reply.status, 405);
    cr_expect_str_eq(reply.allow, "GET, HEAD, POST");
    free(reply.body);
}

/* Only the two health checks may be asked without the token. */
Test(http_router, what_is_open_to_all)
{
    for (size_t i = 0; i < api_route_count; i++) {
        const char *p = api_routes[i].pattern;
        bool health = strcmp(p, "/healthz") == 0 || strcmp(p, "/readyz") == 0;
        cr_expect_eq(api_routes[i].open_to_all, health, "%s", p);
    }
}
