/* From a request to a reply, without a socket: the table of routes, the token,
 * the error bodies. Everything runs on the loop thread.
 *
 * A path is looked up first. A route that is not open to all asks for the token
 * (Authorization: Bearer), and so does an unknown path, so that without the
 * token nobody learns what there is. Then come 404 and 405. */
#ifndef NODE_HTTP_ROUTER_H
#define NODE_HTTP_ROUTER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "node/http_url.h"

enum { HTTP_ALLOW_TEXT = 64, HTTP_SEGMENT_MAX = 128 };

struct http_request {
    const char *method; /* HEAD comes as GET */
    const struct http_url *url;
    const char *authorization; /* the header's value, or NULL */
    char id[HTTP_SEGMENT_MAX]; /* what "{id}" of the pattern stood for */
};

/* A long body that is made while it is sent, piece by piece, so that the loop serves others
 * in between. Loop thread. */
struct http_stream {
    /* Writes the next bytes, 1 to max; 0: that was all. max is at least 1. */
    size_t (*read)(struct http_stream *stream, char *out, size_t max);
    void (*free)(struct http_stream *stream);
};

struct http_reply {
    unsigned status;
    const char *content_type; /* static storage */
    char *body;               /* malloc'ed; taken by whoever sends it */
    size_t n;
    struct http_stream *stream;  /* instead of a body, or NULL; taken likewise */
    char allow[HTTP_ALLOW_TEXT]; /* methods of a 405, else "" */
    bool challenge;              /* a 401 names the scheme */
};

typedef void http_handler_fn(void *ctx, const struct http_request *request,
                             struct http_reply *reply);

struct http_route {
    const char *method;
    const char *pattern; /* "/v1/tunnels/{id}": one segment is free */
    http_handler_fn *handler;
    bool open_to_all; /* no token asked for */
};

struct http_site {
    const struct http_route *routes;
    size_t n_routes;
    const char *token;              /* "": none asked for */
    const char *tls_cert, *tls_key; /* PEM; NULL: plain HTTP */
    void *ctx;                      /* for the handlers */
};

/* Fills *reply (what it held is freed). request->id is set here. */
void http_dispatch(const struct http_site *site, struct http_request *request,
                   struct http_reply *reply);

/* Frees what a reply holds. */
void http_reply_free(struct http_reply *reply);
/* Takes the reference to `json`; NULL (out of memory) becomes a 500. */
void http_reply_json(struct http_reply *reply, unsigned status, json_t *json);
/* Takes `body` (malloc'ed); NULL becomes a 500. */
void http_reply_text(struct http_reply *reply, unsigned status, const char *content_type,
                     char *body, size_t n);
/* Takes the stream, of JSON. */
void http_reply_stream(struct http_reply *reply, unsigned status, struct http_stream *stream);
/* {"error": {"code", "message"}} */
__attribute__((format(printf, 4, 5))) void http_reply_error(struct http_reply *reply,
                                                            unsigned status, const char *code,
                                                            const char *format, ...);

#endif
