#include "node/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/config_internal.h"
#include "node/keyfile.h"
#include "proto/crypto.h"
#include "proto/err.h"

static const char name_characters[] = "._-";

enum {
    DEFAULT_DEAD_MS = 500,
    DEFAULT_BARRIER_TIMEOUT_MS = 250,
    DEFAULT_DPD_S = 30,
    DEFAULT_LIFETIME_S = 86400,
    DEFAULT_CHILD_LIFETIME_S = 28800,
    DEFAULT_MAX_CHILDREN = 100,
    DEFAULT_HALF_OPEN_COOKIE_THRESHOLD = 64,
    DEFAULT_FRAGMENT_SIZE = 1280,
    DEFAULT_HTTP_PORT = 8080,
};

/* Ranges. An announcement leaves every 100 ms, so less than two of them prove no death. */
enum {
    DEAD_MS_MIN = 200,
    DEAD_MS_MAX = 60000,
    BARRIER_TIMEOUT_MS_MAX = 60000,
    DPD_S_MAX = 86400,
    LIFETIME_S_MIN = 10,
    LIFETIME_S_MAX = 30 * 86400,
    MAX_CHILDREN_MAX = 10000,
    HALF_OPEN_MAX = 1000000,
    FRAGMENT_SIZE_MIN = 400,
    FRAGMENT_SIZE_MAX = 9000,
    MEMBER_PORT_MAX = 65534, /* REP listens on port + 1 */
};

static struct config_at at(const struct config_source *src, const char *key)
{
    return (struct config_at){.src = src, .key = key};
}

static void set_defaults(struct config *c)
{
    static const uint8_t loopback[] = {127, 0, 0, 1};

    snprintf(c->node.state_dir, sizeof c->node.state_dir, "/var/lib/anysa");
    c->mesh.dead_ms = DEFAULT_DEAD_MS;
    c->http.listen = (struct endpoint){ip_from_bytes(4, loopback), DEFAULT_HTTP_PORT};
    c->ike.barrier_timeout_ms = DEFAULT_BARRIER_TIMEOUT_MS;
    c->ike.dpd_s = DEFAULT_DPD_S;
    c->ike.lifetime_s = DEFAULT_LIFETIME_S;
    c->ike.child_lifetime_s = DEFAULT_CHILD_LIFETIME_S;
    c->ike.max_children = DEFAULT_MAX_CHILDREN;
    c->ike.half_open_cookie_threshold = DEFAULT_HALF_OPEN_COOKIE_THRESHOLD;
    c->ike.fragment_size = DEFAULT_FRAGMENT_SIZE;
    snprintf(c->dataplane.source, sizeof c->dataplane.source, "auto");
    snprintf(c->dataplane.tun, sizeof c->dataplane.tun, "anysa0");
    c->dataplane.lanes = 1;
}

static int take_node(const struct config_source *src, const struct raw_node *raw, struct config *c)
{
    uint32_t slot = 0;
    int rc = config_word(at(src, "node.name"), raw->name, name_characters, c->node.name,
                         sizeof c->node.name);

    if (rc == ERR_OK)
        rc = config_u32(at(src, "node.slot"), raw->slot, 0, SLOT_MAX, &slot);
    if (rc == ERR_OK && raw->state_dir)
        rc =
            config_join_path(at(src, "node.state_dir"), c->path, raw->state_dir, c->node.state_dir);
    c->node.slot = (uint16_t)slot;
    return rc;
}

static int read_keys(struct config_at place, const char *path,
                     struct cluster_key keys[CLUSTER_KEYS_MAX], size_t *n)
{
    struct config_source src = {.file = path, .err = place.src->err};
    struct keyfile_error bad;
    struct file_bytes f;
    int rc = config_read_file(place, path, KEY_FILE_MAX, true, &f);

    *n = 0;
    if (rc != ERR_OK)
        return rc;
    if (keyfile_parse(f.p, f.n, keys, n, &bad) != ERR_OK)
        rc = config_fail_line(&src, bad.line, bad.column, "%s", bad.text);
    file_bytes_free(&f);
    return rc;
}

static int take_cluster(const struct config_source *src, const struct raw_cluster *raw,
                        struct config *c)
{
    struct config_at key_file = at(src, "cluster.key_file");
    int rc = config_word(at(src, "cluster.name"), raw->name, name_characters, c->cluster.name,
                         sizeof c->cluster.name);

    if (rc == ERR_OK)
        rc = config_domain(at(src, "cluster.id_domain"), raw->id_domain, c->cluster.id_domain,
                           sizeof c->cluster.id_domain);
    if (rc == ERR_OK)
        rc = config_join_path(key_file, c->path, raw->key_file, c->cluster.key_file);
    if (rc == ERR_OK)
        rc = read_keys(key_file, c->cluster.key_file, c->cluster.keys, &c->cluster.n_keys);
    return rc;
}

static int take_anycast(const struct config_source *src, const struct raw_anycast *raw,
                        struct config *c)
{
    struct ip_addr *list = c->anycast.addresses;

    if (raw->n == 0 || raw->n > DP_ADDRESSES_MAX)
        return config_fail(at(src, "anycast.addresses"),
                           "%u anycast addresses; list 1 to %d of them", raw->n, DP_ADDRESSES_MAX);
    for (size_t i = 0; i < raw->n; i++) {
        struct config_at entry = {.src = src, .list = "anycast.addresses", .index = i};
        int rc = config_outer_ip(entry, raw->addresses[i], &list[i]);
        if (rc != ERR_OK)
            return rc;
        for (size_t j = 0; j < i; j++)
            if (ip_equal(&list[i], &list[j]))
                return config_fail(entry, "%s is listed twice; remove one", raw->addresses[i]);
    }
    c->anycast.n = raw->n;
    return ERR_OK;
}

/* "HOST:PORT" with an address, an [IPv6 address] or a name. */
static int take_member_address(struct config_at place, const char *text, struct config_member *m)
{
    const char *colon = strrchr(text, ':');
    struct endpoint e;
    uint32_t port = 0;
    int rc;

    if (endpoint_parse(text, &e)) {
        ip_format(&e.ip, m->host);
        port = e.port;
    } else {
        size_t n = colon ? (size_t)(colon - text) : 0;
        if (n == 0 || n >= sizeof m->host)
            return config_fail(place, "'%.80s' is not HOST:PORT; write one such as 10.99.0.1:7800",
                               text);
        memcpy(m->host, text, n);
        m->host[n] = 0;
        rc = config_u32(place, colon + 1, 1, MEMBER_PORT_MAX, &port);
        if (rc != ERR_OK)
            return rc;
        /* A name that is digits and dots only is an address with a mistake in it. */
        if (!config_is_domain(m->host) || m->host[strspn(m->host, "0123456789.")] == 0)
            return config_fail(place,
                               "'%.80s' is neither an address nor a host name; "
                               "write one such as 10.99.0.1:7800",
                               m->host);
    }
    if (port > MEMBER_PORT_MAX)
        return config_fail(place, "port %" PRIu32 " leaves no room for port + 1; use at most %d",
                           port, MEMBER_PORT_MAX);
    m->port = (uint16_t)port;
    return ERR_OK;
}

static int take_mesh(const struct config_source *src, const struct raw_mesh *raw, struct config *c)
{
    int rc = config_u32(at(src, "mesh.dead_ms"), raw->dead_ms, DEAD_MS_MIN, DEAD_MS_MAX,
                        &c->mesh.dead_ms);

    if (rc != ERR_OK)
        return rc;
    if (raw->n == 0 || raw->n > SYNC_MEMBERS_MAX)
        return config_fail(at(src, "mesh.members"),
                           "%u members; list every node of the cluster, 1 to %d of them", raw->n,
                           SYNC_MEMBERS_MAX);
    c->mesh.members = calloc(raw->n, sizeof *c->mesh.members);
    if (!c->mesh.members)
        return ERR_NOMEM;
    for (size_t i = 0; i < raw->n; i++) {
        struct config_at place = {.src = src, .list = "mesh.members", .index = i, .key = "slot"};
        uint32_t slot = 0;

        rc = config_u32(place, raw->members[i].slot, 0, SLOT_MAX, &slot);
        if (rc != ERR_OK)
            return rc;
        c->mesh.members[i].slot = (uint16_t)slot;
        place.key = "address";
        rc = take_member_address(place, raw->members[i].address, &c->mesh.members[i]);
        if (rc != ERR_OK)
            return rc;
    }
    c->mesh.n = raw->n;
    return config_check_members(src, c);
}

static int take_token(struct config_at place, const char *name, struct config *c)
{
    char path[CONFIG_PATH_MAX];
    struct file_bytes f;
    int rc = config_join_path(place, c->path, name, path);

    if (rc == ERR_OK)
        rc = config_read_file(place, path, CONFIG_TOKEN_MAX + 1, true, &f);
    if (rc != ERR_OK)
        return rc;
    file_bytes_chop(&f);
    if (f.n == 0 || f.n > CONFIG_TOKEN_MAX)
        rc = config_fail(place, "the token in %s has %zu characters; write 1 to %d", path, f.n,
                         CONFIG_TOKEN_MAX);
    for (size_t i = 0; i < f.n && rc == ERR_OK; i++)
        if (f.p[i] <= 0x20 || f.p[i] >= 0x7f)
            rc = config_fail(place,
                             "the token in %s has a space or a special character; use one line "
                             "of letters, digits and punctuation",
                             path);
    if (rc == ERR_OK)
        memcpy(c->http.token, f.p, f.n + 1);
    file_bytes_free(&f);
    return rc;
}

/* A PEM file as a string. */
static int read_pem(struct config_at place, const struct config *c, const char *name, bool secret,
                    char **out)
{
    char path[CONFIG_PATH_MAX];
    struct file_bytes f;
    int rc = config_join_path(place, c->path, name, path);

    if (rc == ERR_OK)
        rc = config_read_file(place, path, PEM_FILE_MAX, secret, &f);
    if (rc != ERR_OK)
        return rc;
    *out = secret ? secret_malloc(f.n + 1) : malloc(f.n + 1);
    if (*out)
        memcpy(*out, f.p, f.n + 1);
    else
        rc = config_no_memory(place.src);
    file_bytes_free(&f);
    return rc;
}

static int take_tls(const struct config_source *src, const struct raw_http *raw, struct config *c)
{
    struct config_at cert = at(src, "http.tls_cert_file"), key = at(src, "http.tls_key_file");
    int rc;

    if (!raw->tls_cert_file && !raw->tls_key_file)
        return ERR_OK;
    if (!raw->tls_cert_file)
        return config_fail_mark(key, CONFIG_AT_KEY,
                                "a key without its certificate; set http.tls_cert_file as well");
    if (!raw->tls_key_file)
        return config_fail_mark(cert, CONFIG_AT_KEY,
                                "a certificate without its key; set http.tls_key_file as well");
    rc = read_pem(cert, c, raw->tls_cert_file, false, &c->http.tls_cert);
    if (rc == ERR_OK)
        rc = read_pem(key, c, raw->tls_key_file, true, &c->http.tls_key);
    if (rc != ERR_OK)
        return rc;
    switch (crypto_check_pem(c->http.tls_cert, c->http.tls_key)) {
    case PEM_FITS:
        return ERR_OK;
    case PEM_BAD_CERT:
        return config_fail(cert, "%s holds no certificate; write it in PEM, the node's own first",
                           raw->tls_cert_file);
    case PEM_BAD_KEY:
        return config_fail(key, "%s holds no private key without a passphrase; write it in PEM",
                           raw->tls_key_file);
    case PEM_MISMATCH:
    default:
        return config_fail(key, "the key in %s is not that of the certificate in %s",
                           raw->tls_key_file, raw->tls_cert_file);
    }
}

static int take_http(const struct config_source *src, const struct raw_http *raw, struct config *c)
{
    int rc;

    if (!raw)
        return ERR_OK;
    rc = take_tls(src, raw, c);
    if (rc != ERR_OK)
        return rc;
    if (raw->listen && !endpoint_parse(raw->listen, &c->http.listen))
        return config_fail(at(src, "http.listen"),
                           "'%.80s' is not ADDRESS:PORT; write one such as 127.0.0.1:8080",
                           raw->listen);
    if (raw->token_file)
        return take_token(at(src, "http.token_file"), raw->token_file, c);
    if (!ip_is_loopback(&c->http.listen.ip))
        return config_fail(at(src, "http.listen"),
                           "%.80s is not a loopback address and there is no token; set "
                           "http.token_file or listen on 127.0.0.1",
                           raw->listen);
    return ERR_OK;
}

static int take_ike(const struct config_source *src, const struct raw_ike *raw, struct config *c)
{
    static const struct row {
        const char *key;
        size_t from, to; /* offsets in struct raw_ike and in config's ike */
        uint32_t min, max;
    } rows[] = {
#define ROW(name, min, max)                                                                        \
    {"ike." #name, offsetof(struct raw_ike, name), offsetof(struct config, ike.name), min, max}
        ROW(barrier_timeout_ms, 1, BARRIER_TIMEOUT_MS_MAX),
        ROW(dpd_s, 1, DPD_S_MAX),
        ROW(lifetime_s, LIFETIME_S_MIN, LIFETIME_S_MAX),
        ROW(child_lifetime_s, LIFETIME_S_MIN, LIFETIME_S_MAX),
        ROW(max_children, 1, MAX_CHILDREN_MAX),
        ROW(half_open_cookie_threshold, 0, HALF_OPEN_MAX),
        ROW(fragment_size, FRAGMENT_SIZE_MIN, FRAGMENT_SIZE_MAX),
#undef ROW
    };

    for (size_t i = 0; raw && i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *r = &rows[i];
        const char *text = *(char *const *)(const void *)((const char *)raw + r->from);
        uint32_t *out = (uint32_t *)(void *)((char *)c + r->to);
        int rc = config_u32(at(src, r->key), text, r->min, r->max, out);
        if (rc != ERR_OK)
            return rc;
    }
    return ERR_OK;
}

static int take_dataplane(const struct config_source *src, const struct raw_dataplane *raw,
                          struct config *c)
{
    struct config_at source = at(src, "dataplane.source");
    uint32_t lanes = 1;
    int rc;

    if (!raw)
        return ERR_OK;
    rc = config_word(source, raw->source, name_characters, c->dataplane.source,
                     sizeof c->dataplane.source);
    if (rc != ERR_OK)
        return rc;
    if (strcmp(c->dataplane.source, "xdp") == 0)
        return config_fail(source, "source xdp is not supported by this version; "
                                   "use auto or socket");
    if (strcmp(c->dataplane.source, "auto") != 0 && strcmp(c->dataplane.source, "socket") != 0)
        return config_fail(source, "unknown source '%s'; use auto or socket", raw->source);
    rc = config_word(at(src, "dataplane.tun"), raw->tun, name_characters, c->dataplane.tun,
                     sizeof c->dataplane.tun);
    if (rc != ERR_OK)
        return rc;
    if (c->dataplane.tun[0] == '.')
        return config_fail(at(src, "dataplane.tun"),
                           "'%s' begins with a dot; "
                           "use a name such as anysa0",
                           raw->tun);
    rc = config_u32(at(src, "dataplane.lanes"), raw->lanes, 1, DP_LANES_MAX, &lanes);
    c->dataplane.lanes = lanes;
    return rc;
}

static int take_all(const struct config_source *src, const struct raw_config *raw, struct config *c)
{
    struct config_at tunnels = at(src, "tunnels_file");
    int rc = take_node(src, raw->node, c);

    if (rc == ERR_OK)
        rc = take_anycast(src, raw->anycast, c);
    if (rc == ERR_OK)
        rc = take_mesh(src, raw->mesh, c);
    if (rc == ERR_OK)
        rc = take_ike(src, raw->ike, c);
    if (rc == ERR_OK)
        rc = take_dataplane(src, raw->dataplane, c);
    if (rc == ERR_OK)
        rc = take_cluster(src, raw->cluster, c);
    if (rc == ERR_OK)
        rc = take_http(src, raw->http, c);
    if (rc == ERR_OK)
        rc = config_join_path(tunnels, c->path, raw->tunnels_file, c->tunnels_file);
    if (rc == ERR_OK)
        rc = config_tunnels_load(tunnels, c, &c->tunnels);
    return rc;
}

static int load_into(struct config *c, struct config_error *err)
{
    struct config_source src = {.file = c->path, .err = err};
    struct raw_config *raw;
    struct file_bytes f;
    int rc = config_read_file(at(&src, NULL), c->path, NODE_FILE_MAX, false, &f);

    if (rc != ERR_OK)
        return rc;
    src.text = f.p;
    src.n = f.n;
    rc = raw_config_load(&src, &raw);
    if (rc == ERR_OK) {
        rc = take_all(&src, raw, c);
        raw_config_free(raw);
    }
    file_bytes_free(&f);
    return rc;
}

int config_load(const char *path, struct config **out, struct config_error *err)
{
    struct config_source src = {.file = path, .err = err};
    struct config *c;
    int rc;

    *out = NULL;
    memset(err, 0, sizeof *err);
    if (strlen(path) >= CONFIG_PATH_MAX)
        return config_fail(at(&src, NULL), "the path is longer than %d bytes; move the file",
                           CONFIG_PATH_MAX - 1);
    c = secret_alloc(sizeof *c);
    if (!c)
        return config_no_memory(&src);
    snprintf(c->path, sizeof c->path, "%s", path);
    set_defaults(c);
    rc = load_into(c, err);
    if (rc == ERR_OK)
        *out = c;
    else
        config_free(c);
    return rc;
}

int config_reload_tunnels(struct config *cfg, struct config_error *err)
{
    struct config_source src = {.file = cfg->tunnels_file, .err = err};
    struct config_tunnels fresh;
    int rc;

    memset(err, 0, sizeof *err);
    rc = config_tunnels_load(at(&src, NULL), cfg, &fresh);
    if (rc != ERR_OK)
        return rc;
    config_tunnels_free(&cfg->tunnels);
    cfg->tunnels = fresh;
    return ERR_OK;
}

int config_read_keys(const struct config *cfg, struct cluster_key keys[CLUSTER_KEYS_MAX], size_t *n,
                     struct config_error *err)
{
    struct config_source src = {.file = cfg->cluster.key_file, .err = err};

    memset(err, 0, sizeof *err);
    return read_keys(at(&src, NULL), cfg->cluster.key_file, keys, n);
}

static int read_members(struct config_source *src, struct config *c)
{
    struct raw_config *raw;
    struct file_bytes f;
    int rc = config_read_file(at(src, NULL), c->path, NODE_FILE_MAX, false, &f);

    if (rc != ERR_OK)
        return rc;
    src->text = f.p;
    src->n = f.n;
    rc = raw_config_load(src, &raw);
    if (rc == ERR_OK) {
        rc = take_node(src, raw->node, c);
        if (rc == ERR_OK)
            rc = take_mesh(src, raw->mesh, c);
        raw_config_free(raw);
    }
    file_bytes_free(&f);
    return rc;
}

int config_read_members(const struct config *cfg, struct config_member **members, size_t *n,
                        struct config_error *err)
{
    struct config_source src = {.file = cfg->path, .err = err};
    struct config *c = secret_alloc(sizeof *c);
    int rc;

    memset(err, 0, sizeof *err);
    if (!c)
        return config_no_memory(&src);
    memcpy(c->path, cfg->path, sizeof c->path);
    set_defaults(c);
    rc = read_members(&src, c);
    if (rc == ERR_OK && c->node.slot != cfg->node.slot)
        rc = config_fail(at(&src, "node.slot"), "the slot of a running node stays; restart it");
    if (rc == ERR_OK) {
        *members = c->mesh.members;
        *n = c->mesh.n;
        c->mesh.members = NULL;
    }
    config_free(c);
    return rc;
}

void config_free(struct config *cfg)
{
    if (!cfg)
        return;
    config_tunnels_free(&cfg->tunnels);
    free(cfg->mesh.members);
    free(cfg->http.tls_cert);
    secret_release(cfg->http.tls_key);
    secret_free(cfg, sizeof *cfg);
}

char *config_error_format(const struct config_error *err, char out[CONFIG_ERROR_LINE])
{
    snprintf(out, CONFIG_ERROR_LINE, "%s:%u:%u: %s", err->file, err->line, err->column, err->text);
    return out;
}

const struct config_tunnel *config_find_tunnel(const struct config *cfg, const struct id128 *id)
{
    for (size_t i = 0; i < cfg->tunnels.n_tunnels; i++)
        if (id128_equal(&cfg->tunnels.tunnels[i].id, id))
            return &cfg->tunnels.tunnels[i];
    return NULL;
}

const struct config_member *config_self(const struct config *cfg)
{
    size_t i = 0;

    /* config_check_members saw to it that we are among them. */
    while (cfg->mesh.members[i].slot != cfg->node.slot)
        i++;
    return &cfg->mesh.members[i];
}
