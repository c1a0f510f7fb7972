#include "node/http_router.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proto/crypto.h"
#include "proto/err.h"

enum { ERROR_TEXT_MAX = 256 };

static const char type_json[] = "application/json";

void http_reply_free(struct http_reply *reply)
{
    if (reply->stream)
        reply->stream->free(reply->stream);
    free(reply->body);
    *reply = (struct http_reply){0};
}

void http_reply_stream(struct http_reply *reply, unsigned status, struct http_stream *stream)
{
    http_reply_free(reply);
    reply->status = status;
    reply->content_type = type_json;
    reply->stream = stream;
}

void http_reply_text(struct http_reply *reply, unsigned status, const char *content_type,
                     char *body, size_t n)
{
    free(reply->body);
    reply->status = body ? status : 500;
    reply->content_type = content_type;
    reply->body = body;
    reply->n = body ? n : 0;
}

void http_reply_json(struct http_reply *reply, unsigned status, json_t *json)
{
    char *body = json ? json_dumps(json, JSON_COMPACT) : NULL;

    json_decref(json);
    http_reply_text(reply, status, type_json, body, body ? strlen(body) : 0);
}

void http_reply_error(struct http_reply *reply, unsigned status, const char *code,
                      const char *format, ...)
{
    char text[ERROR_TEXT_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    http_reply_json(reply, status,
                    json_pack("{s:{s:s, s:s}}", "error", "code", code, "message", text));
}

/* Whether the path fits the pattern; a free segment goes to `id`. */
static bool fits(const char *pattern, const char *path, char id[HTTP_SEGMENT_MAX])
{
    const char *open = strchr(pattern, '{');
    const char *end;
    size_t before, n;

    if (!open)
        return strcmp(pattern, path) == 0;
    before = (size_t)(open - pattern);
    if (strncmp(pattern, path, before) != 0)
        return false;
    path += before;
    end = strchrnul(path, '/');
    n = (size_t)(end - path);
    if (n == 0 || n >= HTTP_SEGMENT_MAX || strcmp(strchr(open, '}') + 1, end) != 0)
        return false;
    memcpy(id, path, n);
    id[n] = 0;
    return true;
}

/* Compares digests in constant time, so that neither content nor length leaks. */
static bool token_fits(const char *wanted, const char *authorization)
{
    static const char scheme[] = "Bearer ";
    uint8_t a[HASH_MAX], b[HASH_MAX];
    struct slice given, known = {(const uint8_t *)wanted, strlen(wanted)};

    if (!authorization || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return false;
    authorization += sizeof scheme - 1;
    given = (struct slice){(const uint8_t *)authorization, strlen(authorization)};
    if (crypto_hash(HASH_SHA256, &given, 1, a) != ERR_OK ||
        crypto_hash(HASH_SHA256, &known, 1, b) != ERR_OK)
        return false;
    return crypto_equal(a, b, hash_len(HASH_SHA256));
}

static void refuse_method(const struct http_site *site, struct http_request *request,
                          struct http_reply *reply)
{
    size_t n = 0;

    for (size_t i = 0; i < site->n_routes; i++) {
        const struct http_route *route = &site->routes[i];
        const char *head = strcmp(route->method, "GET") == 0 ? ", HEAD" : "";
        if (!fits(route->pattern, request->url->path, request->id))
            continue;
        n += (size_t)snprintf(reply->allow + n, sizeof reply->allow - n, "%s%s%s", n ? ", " : "",
                              route->method, head);
        if (n >= sizeof reply->allow)
            break;
    }
    http_reply_error(reply, 405, "method_not_allowed", "%.32s is not possible here",
                     request->method);
}

void http_dispatch(const struct http_site *site, struct http_request *request,
                   struct http_reply *reply)
{
    const struct http_route *by_path = NULL, *route = NULL;

    http_reply_free(reply);
    for (size_t i = 0; i < site->n_routes && !route; i++) {
        const struct http_route *r = &site->routes[i];
        if (!fits(r->pattern, request->url->path, request->id))
            continue;
        by_path = r;
        if (strcmp(r->method, request->method) == 0)
            route = r;
    }
    if (!(by_path && by_path->open_to_all) && site->token[0] &&
        !token_fits(site->token, request->authorization)) {
        reply->challenge = true;
        http_reply_error(reply, 401, "unauthorized", "a valid token is needed");
    } else if (!by_path) {
        http_reply_error(reply, 404, "not_found", "no such path");
    } else if (!route) {
        refuse_method(site, request, reply);
    } else {
        route->handler(site->ctx, request, reply);
    }
}
