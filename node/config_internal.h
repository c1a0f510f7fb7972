/* Shared by the config*.c files only: the text being read, the place of a
 * value in it, the raw strings that libcyaml delivers, and the steps. */
#ifndef NODE_CONFIG_INTERNAL_H
#define NODE_CONFIG_INTERNAL_H

#include "node/config.h"

/* A file being read. */
struct config_source {
    const char *file;    /* its name in errors */
    const uint8_t *text; /* borrowed */
    size_t n;
    struct config_error *err;
};

/* The place of a value: KEY, or LIST[INDEX].KEY when `list` is set; KEY may go deeper
 * ("mesh.members[0].slot"). A NULL key is the file (or the list's entry) as a whole. */
struct config_at {
    const struct config_source *src;
    const char *list;
    size_t index;
    const char *key;
};

enum config_mark {
    CONFIG_AT_VALUE,
    CONFIG_AT_KEY,
    CONFIG_AT_LAST_KEY, /* the last one, where a key stands twice */
};

/* Fills src->err and returns ERR_CONFIG. The text is made printable. */
__attribute__((format(printf, 2, 3))) int config_fail(struct config_at at, const char *format, ...);
__attribute__((format(printf, 3, 4))) int
config_fail_mark(struct config_at at, enum config_mark mark, const char *format, ...);
/* The same with a position that is known already. */
__attribute__((format(printf, 4, 5))) int config_fail_line(const struct config_source *src,
                                                           unsigned line, unsigned column,
                                                           const char *format, ...);
/* Fills *err with out-of-memory and returns ERR_NOMEM. */
int config_no_memory(const struct config_source *src);

/* ---- config_where.c: libyaml's events ---- */

/* Refuses what libcyaml would take or report without a position: syntax errors, a second
 * document, aliases, keys that are no scalars, NUL characters, deep nesting, emptiness. */
int config_precheck(const struct config_source *src);
/* The place of the value at `path`, or of its nearest ancestor that exists. */
void config_where(const struct config_source *src, const char *path, enum config_mark mark,
                  unsigned *line, unsigned *column);

/* ---- config_files.c ---- */

enum {
    NODE_FILE_MAX = 1 << 20,    /* bytes */
    TUNNELS_FILE_MAX = 1 << 28, /* bytes */
    KEY_FILE_MAX = 4096,        /* bytes */
    PEM_FILE_MAX = 1 << 16,     /* bytes */
};

struct file_bytes {
    uint8_t *p; /* secret_alloc'ed when `secret`, else malloc'ed; n + 1 bytes, the last 0 */
    size_t n;
    size_t room; /* as allocated */
    bool secret;
};

/* Reads a whole regular file of 1 to max bytes. A secret one must be nobody else's: no group or
 * other permission, root's or ours, in a directory where others cannot replace it. Errors stand
 * at `at`. */
int config_read_file(struct config_at at, const char *path, size_t max, bool secret,
                     struct file_bytes *out);
/* The same demands on a file that turns out to hold a secret. */
int config_check_secret_file(struct config_at at, const char *path);
void file_bytes_free(struct file_bytes *f); /* wipes */
/* Takes one trailing newline away. */
void file_bytes_chop(struct file_bytes *f);
/* `relative` to the directory of the file `base`, unless it is absolute. Error at `at`. */
int config_join_path(struct config_at at, const char *base, const char *relative,
                     char out[CONFIG_PATH_MAX]);

/* ---- config_values.c: text to value. A NULL text leaves *out as it is. ---- */

int config_u32(struct config_at at, const char *text, uint32_t min, uint32_t max, uint32_t *out);
int config_bool(struct config_at at, const char *text, bool *out);
/* 1 to room - 1 letters, digits, and the characters of `also`. */
int config_word(struct config_at at, const char *text, const char *also, char *out, size_t room);
int config_id(struct config_at at, const char *text, struct id128 *out);
/* A unicast IPv4 address: no other outer address is supported. */
int config_outer_ip(struct config_at at, const char *text, struct ip_addr *out);
int config_prefix(struct config_at at, const char *text, struct ip_prefix *out);
/* A lower-case copy of a domain name. */
int config_domain(struct config_at at, const char *text, char *out, size_t room);
bool config_is_domain(const char *text);

/* ---- config_schema.c: what libcyaml delivers; NULL where a key is absent ---- */

struct raw_member {
    char *slot, *address;
};
struct raw_node {
    char *name, *slot, *state_dir;
};
struct raw_cluster {
    char *name, *key_file, *id_domain;
};
struct raw_anycast {
    char **addresses;
    unsigned n;
};
struct raw_mesh {
    struct raw_member *members;
    unsigned n;
    char *dead_ms;
};
struct raw_http {
    char *listen, *token_file, *tls_cert_file, *tls_key_file;
};
struct raw_ike {
    char *barrier_timeout_ms, *dpd_s, *lifetime_s, *child_lifetime_s, *max_children;
    char *half_open_cookie_threshold, *fragment_size;
};
struct raw_dataplane {
    char *source, *tun, *lanes;
};
struct raw_config {
    struct raw_node *node;
    struct raw_cluster *cluster;
    struct raw_anycast *anycast;
    struct raw_mesh *mesh;
    struct raw_http *http;
    struct raw_ike *ike;
    struct raw_dataplane *dataplane;
    char *tunnels_file;
};

struct raw_tunnel {
    char *id, *account_id, *name, *type, *anycast_endpoint, *cloudflare_endpoint;
    char *customer_endpoint, *psk, *psk_file, *interface_address, *allow_null_cipher, *local_id;
    char **local_ts, **remote_ts;
    unsigned n_local_ts, n_remote_ts;
    char *mtu, *ttl, *gre_key;
};
struct raw_route {
    char *prefix, *tunnel, *priority, *weight;
};
struct raw_tunnels {
    struct raw_tunnel *tunnels;
    unsigned n_tunnels;
    struct raw_route *routes;
    unsigned n_routes;
};

/* 0 and *out for raw_*_free, which wipes; else ERR_CONFIG or ERR_NOMEM and src->err. */
int raw_config_load(const struct config_source *src, struct raw_config **out);
void raw_config_free(struct raw_config *raw);
int raw_tunnels_load(const struct config_source *src, struct raw_tunnels **out);
void raw_tunnels_free(struct raw_tunnels *raw);

/* ---- config_tunnels.c, config_check.c ---- */

/* Reads cfg->tunnels_file into *out, the keys included; `at` is where node.yaml names it.
 * On failure *out is empty. Frees nothing of cfg. */
int config_tunnels_load(struct config_at at, const struct config *cfg, struct config_tunnels *out);
void config_tunnels_free(struct config_tunnels *t); /* wipes, leaves it empty */

/* The member list against itself and our slot. */
int config_check_members(const struct config_source *src, const struct config *cfg);
/* Tunnels and routes against each other; sets ipv4_id_allowed and the warnings. */
int config_check_tunnels(const struct config_source *src, struct config_tunnels *t);

#endif
