/* From an IDi payload to a tunnel (RFC 7296 §3.5). The formats:
 *
 *   ID_RFC822_ADDR  ipsec@TUNNEL.ACCOUNT.DOMAIN
 *   ID_FQDN         TUNNEL.ACCOUNT.DOMAIN
 *   ID_KEY_ID       ACCOUNT_TUNNEL
 *   ID_IPV4_ADDR    the customer endpoint, where that is set and unambiguous */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "ike/internal.h"

bool identity_parse(struct slice body, struct identity *out)
{
    struct reader r = reader_of(body.p, body.n);

    out->body = body;
    out->type = read_u8(&r);
    read_skip(&r, 3);
    out->value = read_slice(&r, r.left);
    return !r.bad && out->value.n > 0 && out->value.n < IKE_ID_MAX;
}

char *identity_describe(const struct identity *id, char *out, size_t n)
{
    struct ip_addr ip;
    char text[ADDR_TEXT];

    if (id->type == ID_IPV4_ADDR && id->value.n == 4) {
        ip = ip_from_bytes(4, id->value.p);
        snprintf(out, n, "%s", ip_format(&ip, text));
        return out;
    }
    if (id->type == ID_FQDN || id->type == ID_RFC822_ADDR || id->type == ID_KEY_ID) {
        size_t k;

        for (k = 0; k < id->value.n && k + 1 < n; k++)
            out[k] = isgraph(id->value.p[k]) ? (char)id->value.p[k] : '?';
        out[k] = 0;
        return out;
    }
    snprintf(out, n, "(type %u, %zu octets)", (unsigned)id->type, id->value.n);
    return out;
}

static const struct tunnel *tunnel_named(const struct ike_engine *e, const char *hex,
                                         const char *account, size_t account_n)
{
    char text[ID_TEXT];
    struct id128 id;
    struct tunnel *t;

    memcpy(text, hex, ID_TEXT - 1);
    text[ID_TEXT - 1] = 0;
    if (!id128_parse(text, &id))
        return NULL;
    HASH_FIND(by_id, e->tunnels, &id, sizeof id, t);
    if (!t || strlen(t->t.account_id) != account_n ||
        memcmp(t->t.account_id, account, account_n) != 0)
        return NULL;
    return t;
}

/* TUNNEL.ACCOUNT.DOMAIN; domain names compare without case. */
static const struct tunnel *by_name(const struct ike_engine *e, const char *text, size_t n)
{
    const size_t hex_n = ID_TEXT - 1, domain_n = strlen(e->config.id_domain);
    size_t account_n;

    if (n < hex_n + 1 + 1 + 1 + domain_n || text[hex_n] != '.')
        return NULL;
    account_n = n - hex_n - 2 - domain_n;
    if (text[n - domain_n - 1] != '.' ||
        strncasecmp(text + n - domain_n, e->config.id_domain, domain_n) != 0)
        return NULL;
    return tunnel_named(e, text, text + hex_n + 1, account_n);
}

static const struct tunnel *by_key_id(const struct ike_engine *e, const char *text, size_t n)
{
    const size_t hex_n = ID_TEXT - 1;

    if (n < hex_n + 2 || text[n - hex_n - 1] != '_')
        return NULL;
    return tunnel_named(e, text + n - hex_n, text, n - hex_n - 1);
}

static const struct tunnel *by_address(const struct ike_engine *e, struct slice value,
                                       const struct ip_addr *anycast, const char **why)
{
    struct ip_addr ip;

    if (value.n != 4)
        return NULL;
    ip = ip_from_bytes(4, value.p);
    for (const struct tunnel *t = e->tunnels; t; t = t->by_id.next) {
        if (!ip_equal(&t->t.customer, &ip) || !ip_equal(&t->t.anycast, anycast))
            continue;
        if (t->t.ipv4_id_allowed)
            return t;
        *why = "ambiguous_ipv4_id";
    }
    return NULL;
}

const struct tunnel *identity_find(const struct ike_engine *e, const struct identity *id,
                                   const struct ip_addr *anycast, const char **why)
{
    static const char user[] = "ipsec@";
    const size_t user_n = sizeof user - 1;
    const char *text = (const char *)id->value.p;
    const struct tunnel *t = NULL;

    *why = "unknown_id";
    if (id->type == ID_FQDN)
        t = by_name(e, text, id->value.n);
    else if (id->type == ID_RFC822_ADDR && id->value.n > user_n &&
             strncasecmp(text, user, user_n) == 0)
        t = by_name(e, text + user_n, id->value.n - user_n);
    else if (id->type == ID_KEY_ID)
        t = by_key_id(e, text, id->value.n);
    else if (id->type == ID_IPV4_ADDR)
        t = by_address(e, id->value, anycast, why);
    if (t && !ip_equal(&t->t.anycast, anycast)) {
        *why = "wrong_anycast_endpoint";
        return NULL;
    }
    return t;
}

void identity_write_local(struct writer *w, const struct tunnel *t, const struct ip_addr *anycast)
{
    struct ip_addr ip;

    if (t && (t->t.local_id_type == ID_FQDN || t->t.local_id_type == ID_RFC822_ADDR ||
              t->t.local_id_type == ID_KEY_ID)) {
        write_u8(w, t->t.local_id_type);
        write_zeros(w, 3);
        write_bytes(w, t->t.local_id, strlen(t->t.local_id));
        return;
    }
    if (!t || t->t.local_id_type != ID_IPV4_ADDR || !ip_parse(t->t.local_id, &ip))
        ip = *anycast;
    write_u8(w, ip.family == 6 ? ID_IPV6_ADDR : ID_IPV4_ADDR);
    write_zeros(w, 3);
    write_bytes(w, ip.b, ip_len(&ip));
}
