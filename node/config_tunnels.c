/* The tunnels file: tunnels with their keys, and routes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/config_internal.h"
#include "proto/err.h"
#include "proto/wire_ikev2.h"

enum {
    MTU_MIN = 576,
    MTU_MAX = 9216,
    TTL_DEFAULT = 64,
    TTL_MAX = 255,
    PRIORITY_DEFAULT = 100,
    WEIGHT_MAX = 255,
};

/* The tunnel being read. */
struct row {
    const struct config_source *src;
    const struct config *cfg;
    size_t index;
    const struct raw_tunnel *raw;
    struct config_tunnel *t;
};

static struct config_at in(const struct row *row, const char *key)
{
    return (struct config_at){row->src, "tunnels", row->index, key};
}

/* ---- which keys belong to which type ---- */

struct key_row {
    const char *key;
    size_t offset; /* of a pointer in struct raw_tunnel */
};
#define KEY(name)                                                                                  \
    {                                                                                              \
#name, offsetof(struct raw_tunnel, name)                                                   \
    }
static const struct key_row ipsec_only[] = {
    KEY(psk), KEY(psk_file), KEY(allow_null_cipher), KEY(local_id), KEY(local_ts), KEY(remote_ts),
};
static const struct key_row gre_only[] = {KEY(gre_key)};
#undef KEY

static int refuse_keys(const struct row *row, const struct key_row *keys, size_t n,
                       const char *type)
{
    for (size_t i = 0; i < n; i++) {
        const void *p = (const char *)row->raw + keys[i].offset;
        if (*(void *const *)p)
            return config_fail_mark(in(row, keys[i].key), CONFIG_AT_KEY,
                                    "%s is for type %s only; remove it", keys[i].key, type);
    }
    return ERR_OK;
}

static int take_type(const struct row *row)
{
    const char *type = row->raw->type;

    if (strcmp(type, "ipsec") == 0) {
        row->t->type = DP_TUNNEL_IPSEC;
        return refuse_keys(row, gre_only, sizeof gre_only / sizeof gre_only[0], "gre");
    }
    if (strcmp(type, "gre") == 0) {
        row->t->type = DP_TUNNEL_GRE;
        return refuse_keys(row, ipsec_only, sizeof ipsec_only / sizeof ipsec_only[0], "ipsec");
    }
    return config_fail(in(row, "type"), "unknown type '%.40s'; use ipsec or gre", type);
}

/* ---- addresses ---- */

static bool is_anycast(const struct config *cfg, const struct ip_addr *ip)
{
    for (size_t i = 0; i < cfg->anycast.n; i++)
        if (ip_equal(&cfg->anycast.addresses[i], ip))
            return true;
    return false;
}

static int take_anycast(const struct row *row)
{
    const char *key = row->raw->anycast_endpoint ? "anycast_endpoint" : "cloudflare_endpoint";
    const char *text =
        row->raw->anycast_endpoint ? row->raw->anycast_endpoint : row->raw->cloudflare_endpoint;
    int rc;

    if (row->raw->anycast_endpoint && row->raw->cloudflare_endpoint)
        return config_fail_mark(in(row, "cloudflare_endpoint"), CONFIG_AT_KEY,
                                "anycast_endpoint is set as well; keep one of them");
    if (!text)
        return config_fail(in(row, NULL), "'anycast_endpoint' is missing; add one of "
                                          "anycast.addresses");
    rc = config_outer_ip(in(row, key), text, &row->t->anycast);
    if (rc == ERR_OK && !is_anycast(row->cfg, &row->t->anycast))
        return config_fail(in(row, key),
                           "%s is not one of anycast.addresses; add it to the node file or "
                           "choose one of those",
                           text);
    return rc;
}

static int take_customer(const struct row *row)
{
    const char *text = row->raw->customer_endpoint;
    int rc = config_outer_ip(in(row, "customer_endpoint"), text, &row->t->customer);

    if (rc != ERR_OK)
        return rc;
    if (!text && row->t->type == DP_TUNNEL_GRE)
        return config_fail(in(row, NULL),
                           "'customer_endpoint' is missing; a gre tunnel needs the address that "
                           "its packets come from");
    if (text && is_anycast(row->cfg, &row->t->customer))
        return config_fail(in(row, "customer_endpoint"),
                           "%s is one of our anycast addresses; write the customer's", text);
    return ERR_OK;
}

static int take_interface(const struct row *row)
{
    const char *text = row->raw->interface_address;
    struct ip_prefix prefix;

    if (!text)
        return ERR_OK;
    if (!prefix_parse_loose(text, &prefix, &row->t->interface_address))
        return config_fail(in(row, "interface_address"),
                           "'%.64s' is not ADDRESS/BITS; write one such as 10.100.0.8/31", text);
    row->t->interface_bits = prefix.bits;
    return ERR_OK;
}

/* ---- IPsec ---- */

static int set_psk(const struct row *row, struct config_at place, const void *bytes, size_t n)
{
    if (n == 0 || n > CONFIG_PSK_MAX)
        return config_fail(place,
                           "the pre-shared key has %zu bytes; use 1 to %d "
                           "(`anysa psk generate` prints a good one)",
                           n, CONFIG_PSK_MAX);
    row->t->psk = secret_alloc(n);
    if (!row->t->psk)
        return config_no_memory(row->src);
    memcpy(row->t->psk, bytes, n);
    row->t->psk_n = n;
    return ERR_OK;
}

static int read_psk_file(const struct row *row)
{
    struct config_at place = in(row, "psk_file");
    char path[CONFIG_PATH_MAX];
    struct file_bytes f;
    int rc = config_join_path(place, row->src->file, row->raw->psk_file, path);

    if (rc == ERR_OK)
        rc = config_read_file(place, path, CONFIG_PSK_MAX + 1, true, &f);
    if (rc != ERR_OK)
        return rc;
    file_bytes_chop(&f);
    rc = set_psk(row, place, f.p, f.n);
    file_bytes_free(&f);
    return rc;
}

static int take_psk(const struct row *row)
{
    int rc;

    if (row->raw->psk && row->raw->psk_file)
        return config_fail_mark(in(row, "psk_file"), CONFIG_AT_KEY,
                                "psk is set as well; keep one of them");
    if (row->raw->psk_file)
        return read_psk_file(row);
    if (!row->raw->psk)
        return config_fail(in(row, NULL), "the tunnel has no pre-shared key; add psk_file: FILE "
                                          "(`anysa psk generate` prints a key)");
    rc = config_check_secret_file(in(row, "psk"), row->src->file);
    if (rc != ERR_OK)
        return rc;
    return set_psk(row, in(row, "psk"), row->raw->psk, strlen(row->raw->psk));
}

static int take_local_id(const struct row *row)
{
    const char *text = row->raw->local_id, *sign;
    struct config_tunnel *t = row->t;
    struct ip_addr ip;
    bool good = true;

    if (!text)
        return ERR_OK;
    sign = strchr(text, '@');
    if (ip_parse(text, &ip)) {
        t->local_id_type = ip.family == 4 ? ID_IPV4_ADDR : ID_IPV6_ADDR;
    } else if (sign) {
        t->local_id_type = ID_RFC822_ADDR;
        good = sign > text && config_is_domain(sign + 1);
        for (const char *c = text; c < sign; c++)
            good = good && (unsigned char)*c > 0x20 && (unsigned char)*c < 0x7f;
    } else {
        t->local_id_type = ID_FQDN;
        good = config_is_domain(text);
    }
    if (!good || strlen(text) >= sizeof t->local_id)
        return config_fail(in(row, "local_id"),
                           "'%.80s' is not an address, a domain name or user@domain; write one "
                           "of these",
                           text);
    memcpy(t->local_id, text, strlen(text) + 1);
    return ERR_OK;
}

static void any_selectors(struct selector_list *out)
{
    const struct ip_prefix v4 = {.ip.family = 4}, v6 = {.ip.family = 6};

    out->n = 2;
    out->s[0] = selector_of_prefix(&v4);
    out->s[1] = selector_of_prefix(&v6);
}

static int take_selectors(const struct row *row, const char *key, char *const *texts, unsigned n,
                          struct selector_list *out)
{
    char entry[32];

    if (n == 0) {
        any_selectors(out);
        return ERR_OK;
    }
    if (n > SELECTORS_MAX)
        return config_fail(in(row, key), "%u prefixes; list 1 to %d of them", n, SELECTORS_MAX);
    for (unsigned i = 0; i < n; i++) {
        struct ip_prefix prefix;
        int rc;

        snprintf(entry, sizeof entry, "%s[%u]", key, i);
        rc = config_prefix(in(row, entry), texts[i], &prefix);
        if (rc != ERR_OK)
            return rc;
        out->s[i] = selector_of_prefix(&prefix);
    }
    out->n = (uint8_t)n;
    return ERR_OK;
}

static int take_ipsec(const struct row *row)
{
    const struct raw_tunnel *raw = row->raw;
    struct config_tunnel *t = row->t;
    int rc =
        config_bool(in(row, "allow_null_cipher"), raw->allow_null_cipher, &t->allow_null_cipher);

    if (rc == ERR_OK)
        rc = take_local_id(row);
    if (rc == ERR_OK)
        rc = take_selectors(row, "local_ts", raw->local_ts, raw->n_local_ts, &t->local_ts);
    if (rc == ERR_OK)
        rc = take_selectors(row, "remote_ts", raw->remote_ts, raw->n_remote_ts, &t->remote_ts);
    if (rc == ERR_OK)
        rc = take_psk(row);
    return rc;
}

/* ---- one tunnel, one route ---- */

static int take_numbers(const struct row *row)
{
    struct config_tunnel *t = row->t;
    uint32_t mtu = 0, ttl = TTL_DEFAULT;
    int rc = config_u32(in(row, "mtu"), row->raw->mtu, MTU_MIN, MTU_MAX, &mtu);

    if (rc == ERR_OK)
        rc = config_u32(in(row, "ttl"), row->raw->ttl, 1, TTL_MAX, &ttl);
    if (rc == ERR_OK)
        rc = config_u32(in(row, "gre_key"), row->raw->gre_key, 0, UINT32_MAX, &t->gre_key);
    t->mtu = (uint16_t)mtu;
    t->ttl = (uint8_t)ttl;
    t->has_gre_key = row->raw->gre_key != NULL;
    return rc;
}

static int take_tunnel(const struct row *row)
{
    struct config_tunnel *t = row->t;
    int rc = config_id(in(row, "id"), row->raw->id, &t->id);

    if (rc == ERR_OK) /* a part of domain names and of ACCOUNT_TUNNEL: no dot, no underscore */
        rc = config_word(in(row, "account_id"), row->raw->account_id, "-", t->account_id,
                         sizeof t->account_id);
    if (rc == ERR_OK)
        rc = config_word(in(row, "name"), row->raw->name, " ._-", t->name, sizeof t->name);
    if (rc == ERR_OK)
        rc = take_type(row);
    if (rc == ERR_OK)
        rc = take_anycast(row);
    if (rc == ERR_OK)
        rc = take_customer(row);
    if (rc == ERR_OK)
        rc = take_interface(row);
    if (rc == ERR_OK)
        rc = take_numbers(row);
    if (rc == ERR_OK && t->type == DP_TUNNEL_IPSEC)
        rc = take_ipsec(row);
    return rc;
}

static int take_route(const struct config_source *src, size_t i, const struct raw_route *raw,
                      struct config_route *route)
{
    struct config_at place = {src, "routes", i, "prefix"};
    int rc = config_prefix(place, raw->prefix, &route->prefix);

    route->priority = PRIORITY_DEFAULT;
    route->weight = 1;
    place.key = "tunnel";
    if (rc == ERR_OK)
        rc = config_id(place, raw->tunnel, &route->tunnel);
    place.key = "priority";
    if (rc == ERR_OK)
        rc = config_u32(place, raw->priority, 0, UINT32_MAX, &route->priority);
    place.key = "weight";
    if (rc == ERR_OK)
        rc = config_u32(place, raw->weight, 1, WEIGHT_MAX, &route->weight);
    return rc;
}

/* ---- the file ---- */

static int take_file(const struct config_source *src, const struct config *cfg,
                     const struct raw_tunnels *raw, struct config_tunnels *out)
{
    int rc = ERR_OK;

    /* One more than needed: calloc(0) may give NULL. */
    out->tunnels = calloc((size_t)raw->n_tunnels + 1, sizeof *out->tunnels);
    out->routes = calloc((size_t)raw->n_routes + 1, sizeof *out->routes);
    if (!out->tunnels || !out->routes)
        return config_no_memory(src);
    out->n_tunnels = raw->n_tunnels;
    out->n_routes = raw->n_routes;
    for (size_t i = 0; i < raw->n_tunnels && rc == ERR_OK; i++)
        rc = take_tunnel(&(struct row){src, cfg, i, &raw->tunnels[i], &out->tunnels[i]});
    for (size_t i = 0; i < raw->n_routes && rc == ERR_OK; i++)
        rc = take_route(src, i, &raw->routes[i], &out->routes[i]);
    if (rc == ERR_OK)
        rc = config_check_tunnels(src, out);
    return rc;
}

int config_tunnels_load(struct config_at at, const struct config *cfg, struct config_tunnels *out)
{
    struct config_source src = {.file = cfg->tunnels_file, .err = at.src->err};
    struct raw_tunnels *raw;
    struct file_bytes f;
    int rc;

    *out = (struct config_tunnels){0};
    rc = config_read_file(at, cfg->tunnels_file, TUNNELS_FILE_MAX, false, &f);
    if (rc != ERR_OK)
        return rc;
    src.text = f.p;
    src.n = f.n;
    rc = raw_tunnels_load(&src, &raw);
    if (rc == ERR_OK) {
        rc = take_file(&src, cfg, raw, out);
        raw_tunnels_free(raw);
    }
    file_bytes_free(&f);
    if (rc != ERR_OK)
        config_tunnels_free(out);
    return rc;
}

void config_tunnels_free(struct config_tunnels *t)
{
    for (size_t i = 0; t->tunnels && i < t->n_tunnels; i++)
        secret_free(t->tunnels[i].psk, t->tunnels[i].psk_n);
    for (size_t i = 0; i < t->n_warnings; i++)
        free(t->warnings[i]);
    free(t->tunnels);
    free(t->routes);
    free(t->warnings);
    *t = (struct config_tunnels){0};
}
