/* One text, one value. libcyaml would take "010" for eight, "1x" for one and any
 * word for true, so it delivers plain strings and the numbers are read here. */
#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "node/config_internal.h"
#include "proto/err.h"

/* A decimal number: no sign, no leading zero, nothing after it. */
static bool parse_u32(const char *text, uint32_t *out)
{
    uint64_t v = 0;

    if (!*text || (text[0] == '0' && text[1]))
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        v = v * 10 + (uint64_t)(*text - '0');
        if (v > UINT32_MAX)
            return false;
    }
    *out = (uint32_t)v;
    return true;
}

int config_u32(struct config_at at, const char *text, uint32_t min, uint32_t max, uint32_t *out)
{
    uint32_t v;

    if (!text)
        return ERR_OK;
    if (!parse_u32(text, &v) || v < min || v > max)
        return config_fail(at,
                           "'%.40s' is not a whole number from %" PRIu32 " to %" PRIu32
                           "; write one in that range",
                           text, min, max);
    *out = v;
    return ERR_OK;
}

int config_bool(struct config_at at, const char *text, bool *out)
{
    if (!text)
        return ERR_OK;
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
        return config_fail(at, "'%.40s' is neither true nor false; write true or false", text);
    *out = text[0] == 't';
    return ERR_OK;
}

int config_word(struct config_at at, const char *text, const char *also, char *out, size_t room)
{
    size_t n;

    if (!text)
        return ERR_OK;
    n = strlen(text);
    if (n == 0 || n >= room)
        return config_fail(at, "must have 1 to %zu characters, not %zu; change it", room - 1, n);
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr(also, text[i]))
            return config_fail(at,
                               "'%.80s' has a character that is not allowed; use letters, digits%s "
                               "and %s",
                               text, strchr(also, ' ') ? ", spaces" : "",
                               also[0] == ' ' ? also + 1 : also);
    memcpy(out, text, n + 1);
    return ERR_OK;
}

int config_id(struct config_at at, const char *text, struct id128 *out)
{
    if (!text)
        return ERR_OK;
    if (!id128_parse(text, out) || id128_is_zero(out))
        return config_fail(at, "'%.64s' is not a tunnel id; write 32 hex digits, not all zero",
                           text);
    return ERR_OK;
}

static bool is_unicast(const struct ip_addr *ip)
{
    return ip->b[0] != 0 && ip->b[0] < 224;
}

int config_outer_ip(struct config_at at, const char *text, struct ip_addr *out)
{
    struct ip_addr ip;

    if (!text)
        return ERR_OK;
    if (!ip_parse(text, &ip))
        return config_fail(at, "'%.64s' is not an IP address; write one such as 192.0.2.1", text);
    if (ip.family != 4)
        return config_fail(at,
                           "%.64s: IPv6 outer addresses are not supported by this version; "
                           "use an IPv4 address",
                           text);
    if (!is_unicast(&ip))
        return config_fail(at, "%.64s is not a unicast address; write that of one host", text);
    *out = ip;
    return ERR_OK;
}

int config_prefix(struct config_at at, const char *text, struct ip_prefix *out)
{
    struct ip_prefix loose;
    char suggestion[ADDR_TEXT];

    if (!text)
        return ERR_OK;
    if (prefix_parse(text, out))
        return ERR_OK;
    if (prefix_parse_loose(text, &loose, NULL))
        return config_fail(at, "prefix %.64s has host bits set; write %s", text,
                           prefix_format(&loose, suggestion));
    return config_fail(at,
                       "'%.64s' is not a prefix; write ADDRESS/BITS, with at most 32 bits for "
                       "IPv4 and 128 for IPv6",
                       text);
}

enum { LABEL_MAX = 63 };

bool config_is_domain(const char *text)
{
    size_t label = 0;
    char before = '.';

    for (const char *c = text;; c++) {
        if (*c == '.' || *c == 0) {
            if (label == 0 || label > LABEL_MAX || before == '-')
                return false;
            label = 0;
            if (*c == 0)
                return true;
        } else {
            if (!isalnum((unsigned char)*c) && !(*c == '-' && label))
                return false;
            label++;
        }
        before = *c;
    }
}

int config_domain(struct config_at at, const char *text, char *out, size_t room)
{
    size_t n = strlen(text);

    if (n >= room || !config_is_domain(text))
        return config_fail(at, "'%.80s' is not a domain name; write one such as ipsec.example.net",
                           text);
    for (size_t i = 0; i <= n; i++)
        out[i] = (char)tolower((unsigned char)text[i]);
    return ERR_OK;
}
