/* How a request travels. MHD reads the request line and calls on_target with the
 * raw target: from here on a struct exchange belongs to the request. When the
 * headers are in it calls on_request once, then again for each piece of a body
 * (which no call of ours needs: it is counted and dropped), and a last time with
 * none left: then the router makes the reply. on_completed frees the exchange. */
#include "node/http.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "proto/log.h"

enum { RUN_AT_LEAST_MS = 250, BODY_IGNORED_MAX = 1 << 20, STREAM_PIECE_BYTES = 16384 };

struct http {
    struct MHD_Daemon *daemon;
    const struct http_site *site;
    uv_poll_t poll;
    uv_timer_t timer;
    unsigned open_handles;
    uint16_t port;
    struct http_stats stats;
};

struct exchange {
    int url_error; /* of http_url_parse */
    struct http_url url;
    bool begun;
    size_t body_bytes;
};

static void *on_target(void *ctx, const char *raw, struct MHD_Connection *connection)
{
    struct exchange *x = calloc(1, sizeof *x);

    (void)ctx;
    (void)connection;
    if (x)
        x->url_error = http_url_parse(raw, &x->url);
    return x;
}

static void on_completed(void *ctx, struct MHD_Connection *connection, void **slot,
                         enum MHD_RequestTerminationCode why)
{
    (void)ctx;
    (void)connection;
    (void)why;
    free(*slot);
    *slot = NULL;
}

static ssize_t read_stream(void *ctx, uint64_t at, char *out, size_t max)
{
    struct http_stream *stream = ctx;
    size_t n = stream->read(stream, out, max);

    (void)at;
    return n > 0 ? (ssize_t)n : MHD_CONTENT_READER_END_OF_STREAM;
}

static void free_stream(void *ctx)
{
    struct http_stream *stream = ctx;

    stream->free(stream);
}

/* Takes the body or the stream. */
static struct MHD_Response *response_of(struct http_reply *reply)
{
    struct MHD_Response *response;

    if (reply->stream)
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_PIECE_BYTES,
                                                     read_stream, reply->stream, free_stream);
    else
        response = MHD_create_response_from_buffer(reply->n, reply->body ? reply->body : (void *)"",
                                                   reply->body ? MHD_RESPMEM_MUST_FREE
                                                               : MHD_RESPMEM_PERSISTENT);
    if (!response)
        http_reply_free(reply);
    return response;
}

static enum MHD_Result send_reply(struct http *http, struct MHD_Connection *connection,
                                  struct http_reply *reply)
{
    struct MHD_Response *response;
    enum MHD_Result result;

    http->stats.requests++;
    if (reply->status >= 400 && reply->status < 500)
        http->stats.refused++;
    response = response_of(reply);
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, "Content-Type", reply->content_type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (reply->allow[0])
        MHD_add_response_header(response, "Allow", reply->allow);
    if (reply->challenge)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    result = MHD_queue_response(connection, reply->status, response);
    MHD_destroy_response(response);
    return result;
}

static void make_reply(struct http *http, struct MHD_Connection *connection, const char *method,
                       const struct exchange *x, struct http_reply *reply)
{
    struct http_request request = {.url = &x->url};

    request.method = strcmp(method, "HEAD") == 0 ? "GET" : method;
    request.authorization =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Authorization");
    if (x->body_bytes > HTTP_BODY_BYTES_MAX)
        http_reply_error(reply, 413, "body_too_large", "at most %d bytes are read",
                         HTTP_BODY_BYTES_MAX);
    else if (x->url_error == ERR_FULL)
        http_reply_error(reply, 414, "target_too_long",
                         "at most %d bytes and %d parameters are read", HTTP_URL_MAX - 1,
                         HTTP_PARAMS_MAX);
    else if (x->url_error != ERR_OK)
        http_reply_error(reply, 400, "bad_target", "the request target is malformed");
    else
        http_dispatch(http->site, &request, reply);
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *body,
                                  size_t *body_bytes, void **slot)
{
    struct http *http = ctx;
    struct exchange *x = *slot;
    struct http_reply reply = {0};

    (void)url;
    (void)version;
    (void)body;
    if (!x)
        return MHD_NO;
    if (!x->begun) {
        const char *length =
            MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length");
        x->begun = true;
        if (!length || strtoull(length, NULL, 10) <= HTTP_BODY_BYTES_MAX)
            return MHD_YES;
        x->body_bytes = HTTP_BODY_BYTES_MAX + 1; /* answered before it is read */
    } else if (*body_bytes > 0) {
        x->body_bytes += *body_bytes;
        *body_bytes = 0;
        return x->body_bytes > BODY_IGNORED_MAX ? MHD_NO : MHD_YES;
    }
    make_reply(http, connection, method, x, &reply);
    return send_reply(http, connection, &reply);
}

__attribute__((format(printf, 2, 0))) static void on_log(void *ctx, const char *format,
                                                         va_list args)
{
    char text[256];
    int n;

    (void)ctx;
    n = vsnprintf(text, sizeof text, format, args);
    if (n > 0 && n < (int)sizeof text && text[n - 1] == '\n')
        text[n - 1] = 0;
    log_debug("http", "%s", text);
}

/* ---- in the loop ---- */

static void on_timer(uv_timer_t *timer);

static void run(struct http *http)
{
    MHD_UNSIGNED_LONG_LONG wait_ms;

    MHD_run(http->daemon);
    if (MHD_get_timeout(http->daemon, &wait_ms) != MHD_YES || wait_ms > RUN_AT_LEAST_MS)
        wait_ms = RUN_AT_LEAST_MS;
    uv_timer_start(&http->timer, on_timer, wait_ms, 0);
}

static void on_timer(uv_timer_t *timer)
{
    run(timer->data);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    run(poll->data);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct http *http = handle->data;

    if (--http->open_handles == 0)
        free(http);
}

static const char tls_versions[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";

/* Read only; the option's type lacks a const. */
static void *pem(const char *text)
{
    return (void *)(uintptr_t)text;
}

static struct MHD_Daemon *start_daemon(struct http *http, const struct endpoint *listen)
{
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem tls[4] = {{MHD_OPTION_END, 0, NULL},
                                    {MHD_OPTION_END, 0, NULL},
                                    {MHD_OPTION_END, 0, NULL},
                                    {MHD_OPTION_END, 0, NULL}};
    struct sockaddr_storage address = {0};

    if (listen->ip.family == 6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&address;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(listen->port);
        memcpy(&in6->sin6_addr, listen->ip.b, 16);
        flags |= MHD_USE_IPv6;
    } else {
        struct sockaddr_in *in4 = (struct sockaddr_in *)&address;
        in4->sin_family = AF_INET;
        in4->sin_port = htons(listen->port);
        memcpy(&in4->sin_addr, listen->ip.b, 4);
    }
    if (http->site->tls_cert) {
        struct MHD_OptionItem with_tls[] = {
            {MHD_OPTION_HTTPS_MEM_CERT, 0, pem(http->site->tls_cert)},
            {MHD_OPTION_HTTPS_MEM_KEY, 0, pem(http->site->tls_key)},
            {MHD_OPTION_HTTPS_PRIORITIES, 0, pem(tls_versions)},
        };
        memcpy(tls, with_tls, sizeof with_tls);
        flags |= MHD_USE_TLS;
    }
    return MHD_start_daemon(
        flags, listen->port, NULL, NULL, on_request, http, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_ARRAY, tls, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address,
        MHD_OPTION_URI_LOG_CALLBACK, on_target, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        NULL, MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_MAX,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_PER_IP_MAX,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_CONNECTION_BYTES_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_IDLE_S, MHD_OPTION_END);
}

int http_open(uv_loop_t *loop, const struct endpoint *listen, const struct http_site *site,
              struct http **out)
{
    struct http *http = calloc(1, sizeof *http);
    const union MHD_DaemonInfo *info;
    char text[ENDPOINT_TEXT];

    *out = NULL;
    if (!http)
        return ERR_NOMEM;
    http->site = site;
    http->daemon = start_daemon(http, listen);
    if (!http->daemon) {
        log_error("http", "cannot listen on %s: is the address local and the port free%s?",
                  endpoint_format(listen, text),
                  site->tls_cert ? ", and the certificate good" : "");
        free(http);
        return ERR_IO;
    }
    info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_BIND_PORT);
    http->port = info ? info->port : listen->port;
    info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info || uv_poll_init(loop, &http->poll, info->epoll_fd) != 0) {
        log_error("http", "the event loop refused the server's descriptor");
        MHD_stop_daemon(http->daemon);
        free(http);
        return ERR_IO;
    }
    uv_timer_init(loop, &http->timer);
    http->open_handles = 2;
    http->poll.data = http->timer.data = http;
    uv_poll_start(&http->poll, UV_READABLE, on_readable);
    uv_timer_start(&http->timer, on_timer, RUN_AT_LEAST_MS, 0);
    *out = http;
    return ERR_OK;
}

uint16_t http_port(const struct http *http)
{
    return http->port;
}

void http_close(struct http *http)
{
    if (!http)
        return;
    uv_poll_stop(&http->poll);
    uv_timer_stop(&http->timer);
    uv_close((uv_handle_t *)&http->poll, on_handle_closed);
    uv_close((uv_handle_t *)&http->timer, on_handle_closed);
    MHD_stop_daemon(http->daemon);
    http->daemon = NULL;
}

struct http_stats http_get_stats(const struct http *http)
{
    return http->stats;
}
