/* The target of an HTTP request: path and query, percent-decoded. Pure; any thread.
 *
 * libmicrohttpd would decode leniently (a "%zz" stays, a "%00" cuts the text
 * short), so the server hands in the raw target and this is the only decoder. */
#ifndef NODE_HTTP_URL_H
#define NODE_HTTP_URL_H

#include <stddef.h>

enum { HTTP_URL_MAX = 2048, HTTP_PARAMS_MAX = 8 }; /* bytes, NUL included; parameters */

struct http_url { /* points into itself: not to be copied */
    char text[HTTP_URL_MAX];
    const char *path;
    struct {
        const char *name, *value;
    } params[HTTP_PARAMS_MAX];
    size_t n_params;
};

/* 0; ERR_FULL when it is too long or has too many parameters; ERR_INVALID when it does not
 * begin with '/', holds a control character or a malformed escape, or escapes a NUL. */
int http_url_parse(const char *raw, struct http_url *out);

/* The value of the first parameter of that name, or NULL. */
const char *http_url_param(const struct http_url *url, const char *name);

#endif
