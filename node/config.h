/* The configuration: node.yaml and the tunnels file as typed values.
 *
 * How a file becomes values. libcyaml reads it against a schema into plain C
 * strings and numbers (config_schema.c); a second look at libyaml's events
 * remembers where each value stood (config_where.c); config.c and
 * config_tunnels.c turn the strings into addresses, prefixes and keys, and
 * config_check.c compares them with each other. The first error ends the load
 * and names file, line, column and remedy; nothing is left behind.
 *
 * Key bytes: the struct config, the PSKs and the token live in secret_alloc's
 * memory and are wiped by config_free; what libcyaml holds of an inline psk is
 * wiped when it lets go of it.
 *
 * Threads: a config belongs to one thread; nothing here keeps global state. */
#ifndef NODE_CONFIG_H
#define NODE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataplane/dataplane.h"
#include "ike/ike.h"
#include "proto/net.h"
#include "proto/record.h"
#include "proto/secret.h"
#include "sync/sync.h"

enum {
    CONFIG_PATH_MAX = 1024, /* bytes of a path with its NUL */
    CONFIG_HOST_MAX = 256,  /* of a mesh member's name or address */
    CONFIG_PSK_MAX = 256,   /* bytes of a pre-shared key */
    CONFIG_TOKEN_MAX = 256, /* bytes of the HTTP token */
    CONFIG_ERROR_TEXT = 640,
};

/* Where and what: FILE:LINE:COLUMN: what is wrong; remedy. */
struct config_error {
    char file[CONFIG_PATH_MAX];
    unsigned line, column;        /* from 1 */
    char text[CONFIG_ERROR_TEXT]; /* never key material */
};
enum { CONFIG_ERROR_LINE = CONFIG_PATH_MAX + CONFIG_ERROR_TEXT + 32 };
char *config_error_format(const struct config_error *err, char out[CONFIG_ERROR_LINE]);

struct config_member {
    uint16_t slot;
    char host[CONFIG_HOST_MAX]; /* an address, or a name that nng resolves */
    uint16_t port;              /* PUB; REP on port + 1 */
};

struct config_tunnel {
    struct id128 id;
    char account_id[IKE_ACCOUNT_MAX];
    char name[IKE_ACCOUNT_MAX];
    enum dp_tunnel_type type;
    struct ip_addr anycast;
    struct ip_addr customer;          /* family 0: not set (IPsec only) */
    struct ip_addr interface_address; /* the gateway's side, host bits kept; family 0: not set */
    uint8_t interface_bits;           /* prefix length of it */
    uint16_t mtu;                     /* inner, bytes; 0: worked out from the suite */
    uint8_t ttl;                      /* of the outer header; default 64 */
    /* IPsec */
    uint8_t *psk; /* owned, secret_alloc(psk_n) */
    size_t psk_n; /* 1 to CONFIG_PSK_MAX for IPsec, 0 for GRE */
    bool allow_null_cipher;
    bool ipv4_id_allowed; /* customer is set (IPv4) and no other IPsec tunnel has the same pair */
    struct selector_list local_ts, remote_ts; /* bounds of TSr and TSi; default any v4 and v6 */
    uint8_t local_id_type;                    /* RFC 7296 ID type; 0: the anycast address */
    char local_id[IKE_ID_MAX];                /* as written; "" when the type is 0 */
    /* GRE */
    bool has_gre_key;
    uint32_t gre_key;
};

struct config_route {
    struct ip_prefix prefix;
    struct id128 tunnel; /* one of the tunnels */
    uint32_t priority;   /* lower wins; default 100 */
    uint32_t weight;     /* default 1 */
};

/* The tunnels file. Everything in it is owned. */
struct config_tunnels {
    struct config_tunnel *tunnels;
    size_t n_tunnels;
    struct config_route *routes;
    size_t n_routes;
    char **warnings; /* sentences for the log, with FILE:LINE:COLUMN */
    size_t n_warnings;
};

struct config {
    char path[CONFIG_PATH_MAX]; /* as given */
    struct {
        char name[SYNC_NAME_MAX];
        uint16_t slot;
        char state_dir[CONFIG_PATH_MAX]; /* relative ones made relative to the config file */
    } node;
    struct {
        char name[SYNC_NAME_MAX];
        char key_file[CONFIG_PATH_MAX];
        char id_domain[IKE_DOMAIN_MAX];            /* lower case */
        struct cluster_key keys[CLUSTER_KEYS_MAX]; /* the first one sends */
        size_t n_keys;
    } cluster;
    struct {
        struct ip_addr addresses[DP_ADDRESSES_MAX];
        size_t n;
    } anycast;
    struct {
        struct config_member *members; /* in the file's order, ours among them */
        size_t n;
        uint32_t dead_ms;
    } mesh;
    struct {
        struct endpoint listen;
        char token[CONFIG_TOKEN_MAX + 1]; /* "": none asked for */
        char *tls_cert, *tls_key;         /* PEM; owned, the key secret_malloc'ed; NULL: no TLS */
    } http;
    struct {
        uint32_t barrier_timeout_ms, dpd_s, lifetime_s, child_lifetime_s, max_children;
        uint32_t half_open_cookie_threshold;
        uint32_t fragment_size; /* of an IP packet with a fragment of an IKE message */
    } ike;
    struct {
        char source[DP_NAME_MAX]; /* "auto" or "socket" */
        char tun[DP_NAME_MAX];
        unsigned lanes; /* 1 */
    } dataplane;
    char tunnels_file[CONFIG_PATH_MAX];
    struct config_tunnels tunnels;
};

/* Reads the node file, the key, token and PSK files and the tunnels file. 0 with *out, which
 * the caller frees by config_free; or ERR_CONFIG or ERR_NOMEM with *err filled and *out NULL. */
int config_load(const char *path, struct config **out, struct config_error *err);
/* Reads the tunnels file and its PSK files again and replaces cfg->tunnels: pointers into the
 * old ones die. On failure (as above) the old ones stay. */
int config_reload_tunnels(struct config *cfg, struct config_error *err);
/* Reads the key file again into keys, which the caller wipes; cfg stays as it is. On failure (as
 * above) *n is 0. */
int config_read_keys(const struct config *cfg, struct cluster_key keys[CLUSTER_KEYS_MAX], size_t *n,
                     struct config_error *err);
/* Reads the member list of the node file again; *members is the caller's to free. As above. */
int config_read_members(const struct config *cfg, struct config_member **members, size_t *n,
                        struct config_error *err);
void config_free(struct config *cfg); /* wipes; NULL is fine */

/* NULL when the id is unknown. Borrowed from cfg. */
const struct config_tunnel *config_find_tunnel(const struct config *cfg, const struct id128 *id);
/* Our own row in the member list; never NULL. */
const struct config_member *config_self(const struct config *cfg);

#endif
