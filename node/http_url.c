#include "node/http_url.h"

#include <stdbool.h>
#include <string.h>

#include "proto/err.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decodes in place; in a query '+' means a space. */
static bool decode(char *text, bool query)
{
    char *to = text;

    for (const char *from = text; *from; from++) {
        char c = *from;
        if (c == '%') {
            int high = hex_digit(from[1]);
            int low = high < 0 ? -1 : hex_digit(from[2]);
            if (low < 0 || (high == 0 && low == 0))
                return false;
            c = (char)(high << 4 | low);
            from += 2;
        } else if (c == '+' && query) {
            c = ' ';
        } else if ((unsigned char)c < 0x20 || c == 0x7f) {
            return false;
        }
        *to++ = c;
    }
    *to = 0;
    return true;
}

static int parse_params(char *query, struct http_url *out)
{
    char *rest = query;
    char *pair;

    while ((pair = strsep(&rest, "&")) != NULL) {
        char *value = strchr(pair, '=');
        if (*pair == 0)
            continue;
        if (out->n_params == HTTP_PARAMS_MAX)
            return ERR_FULL;
        if (value)
            *value++ = 0;
        else
            value = pair + strlen(pair);
        if (!decode(pair, true) || !decode(value, true))
            return ERR_INVALID;
        out->params[out->n_params].name = pair;
        out->params[out->n_params].value = value;
        out->n_params++;
    }
    return ERR_OK;
}

int http_url_parse(const char *raw, struct http_url *out)
{
    size_t n = strlen(raw);
    char *query;

    out->n_params = 0;
    out->path = "";
    if (n >= sizeof out->text)
        return ERR_FULL;
    if (raw[0] != '/')
        return ERR_INVALID;
    memcpy(out->text, raw, n + 1);
    query = strchr(out->text, '?');
    if (query)
        *query++ = 0;
    if (!decode(out->text, false))
        return ERR_INVALID;
    out->path = out->text;
    return query ? parse_params(query, out) : ERR_OK;
}

const char *http_url_param(const struct http_url *url, const char *name)
{
    for (size_t i = 0; i < url->n_params; i++)
        if (strcmp(url->params[i].name, name) == 0)
            return url->params[i].value;
    return NULL;
}
