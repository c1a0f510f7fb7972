/* The HTTP server: libmicrohttpd (TLS by its GnuTLS) inside the libuv loop. It runs no thread:
 * its epoll descriptor is polled by the loop, and MHD_run is called when that is
 * readable, when its own time-out is due, and at least every 250 ms (its accept
 * would stall after the connection limit else). Loop thread only. */
#ifndef NODE_HTTP_H
#define NODE_HTTP_H

#include <stdint.h>
#include <uv.h>

#include "node/http_router.h"
#include "proto/net.h"

enum {
    HTTP_CONNECTIONS_MAX = 256,
    HTTP_CONNECTIONS_PER_IP_MAX = 64,
    /* Request line and headers included, with the token. Above 32 KiB libmicrohttpd takes it from
     * the system and gives it back with the connection, instead of from the heap. */
    HTTP_CONNECTION_BYTES_MAX = 40960,
    HTTP_BODY_BYTES_MAX = 4096, /* of a request */
    HTTP_IDLE_S = 15,
};

struct http;

/* Listens. The site is borrowed until http_close. Port 0 takes any free one. 0 with *out, or
 * ERR_IO with a log line that names the address. */
int http_open(uv_loop_t *loop, const struct endpoint *listen, const struct http_site *site,
              struct http **out);
uint16_t http_port(const struct http *http);
/* Stops at once. The loop must run on until its handles are closed; then all is freed. */
void http_close(struct http *http);

struct http_stats {
    uint64_t requests, refused; /* refused: status 4xx */
};
struct http_stats http_get_stats(const struct http *http);

#endif
