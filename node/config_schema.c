/* The two files as libcyaml schemas. A new key starts as a row here.
 *
 * Every value arrives as a string of any length: libcyaml would quote a value
 * that it refuses in its message, and some values are secret. It allocates
 * through wiping_memory, so nothing that it held stays in freed memory. (What
 * libyaml holds while libcyaml reads cannot be reached: an inline psk may leave
 * a copy in freed memory, a psk_file never does.) */
#include <cyaml/cyaml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/config_internal.h"
#include "proto/err.h"

#define REQUIRED(key, type)                                                                        \
    CYAML_FIELD_STRING_PTR(#key, CYAML_FLAG_POINTER, type, key, 0, CYAML_UNLIMITED)
#define OPTIONAL(key, type)                                                                        \
    CYAML_FIELD_STRING_PTR(#key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, type, key, 0,           \
                           CYAML_UNLIMITED)
#define SECTION(key, flags, type, fields)                                                          \
    CYAML_FIELD_MAPPING_PTR(#key, CYAML_FLAG_POINTER | (flags), type, key, fields)
#define LIST(key, flags, type, count, entry, min)                                                  \
    CYAML_FIELD_SEQUENCE_COUNT(#key, CYAML_FLAG_POINTER | (flags), type, key, count, entry, min,   \
                               CYAML_UNLIMITED)

static const cyaml_schema_value_t string_entry = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED),
};

/* ---- node.yaml ---- */

static const cyaml_schema_field_t node_fields[] = {
    REQUIRED(name, struct raw_node),
    REQUIRED(slot, struct raw_node),
    OPTIONAL(state_dir, struct raw_node),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t cluster_fields[] = {
    REQUIRED(name, struct raw_cluster),
    REQUIRED(key_file, struct raw_cluster),
    REQUIRED(id_domain, struct raw_cluster),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t anycast_fields[] = {
    LIST(addresses, 0, struct raw_anycast, n, &string_entry, 1),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t member_fields[] = {
    REQUIRED(slot, struct raw_member),
    REQUIRED(address, struct raw_member),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t member_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_member, member_fields),
};

static const cyaml_schema_field_t mesh_fields[] = {
    LIST(members, 0, struct raw_mesh, n, &member_entry, 1),
    OPTIONAL(dead_ms, struct raw_mesh),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t http_fields[] = {
    OPTIONAL(listen, struct raw_http),
    OPTIONAL(token_file, struct raw_http),
    OPTIONAL(tls_cert_file, struct raw_http),
    OPTIONAL(tls_key_file, struct raw_http),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t ike_fields[] = {
    OPTIONAL(barrier_timeout_ms, struct raw_ike),
    OPTIONAL(dpd_s, struct raw_ike),
    OPTIONAL(lifetime_s, struct raw_ike),
    OPTIONAL(child_lifetime_s, struct raw_ike),
    OPTIONAL(max_children, struct raw_ike),
    OPTIONAL(half_open_cookie_threshold, struct raw_ike),
    OPTIONAL(fragment_size, struct raw_ike),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t dataplane_fields[] = {
    OPTIONAL(source, struct raw_dataplane),
    OPTIONAL(tun, struct raw_dataplane),
    OPTIONAL(lanes, struct raw_dataplane),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t config_fields[] = {
    SECTION(node, 0, struct raw_config, node_fields),
    SECTION(cluster, 0, struct raw_config, cluster_fields),
    SECTION(anycast, 0, struct raw_config, anycast_fields),
    SECTION(mesh, 0, struct raw_config, mesh_fields),
    SECTION(http, CYAML_FLAG_OPTIONAL, struct raw_config, http_fields),
    SECTION(ike, CYAML_FLAG_OPTIONAL, struct raw_config, ike_fields),
    SECTION(dataplane, CYAML_FLAG_OPTIONAL, struct raw_config, dataplane_fields),
    REQUIRED(tunnels_file, struct raw_config),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t config_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw_config, config_fields),
};

/* ---- tunnels.yaml ---- */

static const cyaml_schema_field_t tunnel_fields[] = {
    REQUIRED(id, struct raw_tunnel),
    REQUIRED(account_id, struct raw_tunnel),
    REQUIRED(name, struct raw_tunnel),
    REQUIRED(type, struct raw_tunnel),
    OPTIONAL(anycast_endpoint, struct raw_tunnel),
    OPTIONAL(cloudflare_endpoint, struct raw_tunnel),
    OPTIONAL(customer_endpoint, struct raw_tunnel),
    OPTIONAL(psk, struct raw_tunnel),
    OPTIONAL(psk_file, struct raw_tunnel),
    OPTIONAL(interface_address, struct raw_tunnel),
    OPTIONAL(allow_null_cipher, struct raw_tunnel),
    OPTIONAL(local_id, struct raw_tunnel),
    LIST(local_ts, CYAML_FLAG_OPTIONAL, struct raw_tunnel, n_local_ts, &string_entry, 1),
    LIST(remote_ts, CYAML_FLAG_OPTIONAL, struct raw_tunnel, n_remote_ts, &string_entry, 1),
    OPTIONAL(mtu, struct raw_tunnel),
    OPTIONAL(ttl, struct raw_tunnel),
    OPTIONAL(gre_key, struct raw_tunnel),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t tunnel_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_tunnel, tunnel_fields),
};

static const cyaml_schema_field_t route_fields[] = {
    REQUIRED(prefix, struct raw_route),
    REQUIRED(tunnel, struct raw_route),
    OPTIONAL(priority, struct raw_route),
    OPTIONAL(weight, struct raw_route),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t route_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_route, route_fields),
};

static const cyaml_schema_field_t tunnels_fields[] = {
    LIST(tunnels, CYAML_FLAG_POINTER_NULL, struct raw_tunnels, n_tunnels, &tunnel_entry, 0),
    LIST(routes, CYAML_FLAG_POINTER_NULL | CYAML_FLAG_OPTIONAL, struct raw_tunnels, n_routes,
         &route_entry, 0),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t tunnels_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw_tunnels, tunnels_fields),
};

/* ---- memory ---- */

/* Before each allocation; keeps it aligned for anything. */
union memory_head {
    size_t room;
    max_align_t align;
};

/* Grows by half again, since libcyaml extends a list by one entry at a time. */
static void *wiping_memory(void *ctx, void *ptr, size_t size)
{
    union memory_head *old = ptr ? (union memory_head *)ptr - 1 : NULL;
    union memory_head *new = NULL;

    (void)ctx;
    if (size) {
        if (old && old->room >= size)
            return ptr;
        size_t room = old ? size + size / 2 : size;
        new = malloc(sizeof *new + room);
        if (!new)
            return NULL;
        new->room = room;
        if (old)
            memcpy(new + 1, ptr, old->room);
    }
    if (old) {
        wipe(old, sizeof *old + old->room);
        free(old);
    }
    return new ? new + 1 : NULL;
}

/* ---- libcyaml's complaint as one sentence with a place ---- */

enum { SENTENCE_MAX = 256, KEY_MAX = 64, PARTS_MAX = 8, KNOWN_MAX = 384 };

struct part {          /* one line of the backtrace */
    char key[KEY_MAX]; /* "": a list entry */
    unsigned index;    /* of it, from 0 */
};

struct complaint {
    char sentence[SENTENCE_MAX]; /* the first error */
    struct part part[PARTS_MAX]; /* innermost first */
    unsigned n;
    unsigned line, column; /* of the innermost part */
};

/* The rest of `text` after `start`, or NULL. */
static const char *after(const char *text, const char *start)
{
    size_t n = strlen(start);

    return text && strncmp(text, start, n) == 0 ? text + n : NULL;
}

/* The rest of `text` after a number, or NULL. */
static const char *after_number(const char *text, unsigned *out)
{
    char *end;

    if (!text || *text < '0' || *text > '9')
        return NULL;
    *out = (unsigned)strtoul(text, &end, 10);
    return end;
}

/* A line "  in mapping field 'KEY' (line: L, column: C)", "  in sequence entry 'N' (...)" or
 * "  in mapping (...)". */
static void take_backtrace(struct complaint *c, const char *text)
{
    struct part p = {.index = 0};
    unsigned line, column, entry = 0;
    const char *field = after(text, "  in mapping field '");
    const char *number = after_number(after(text, "  in sequence entry '"), &entry);
    const char *place = strstr(text, " (line: ");

    place = after(after_number(after(place, " (line: "), &line), ", column: ");
    if (!after_number(place, &column) || c->n == PARTS_MAX)
        return;
    if (field)
        snprintf(p.key, sizeof p.key, "%.*s", (int)strcspn(field, "'"), field);
    p.index = entry ? entry - 1 : 0;
    if (field || number)
        c->part[c->n++] = p;
    if (!c->line) {
        c->line = line;
        c->column = column;
    }
}

__attribute__((format(printf, 3, 0))) static void take_log(cyaml_log_t level, void *ctx,
                                                           const char *format, va_list args)
{
    struct complaint *c = ctx;
    const char *sentence;
    char text[SENTENCE_MAX];

    if (level != CYAML_LOG_ERROR)
        return;
    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = 0;
    sentence = after(text, "Load: ");
    if (!sentence)
        take_backtrace(c, text);
    else if (!c->sentence[0])
        snprintf(c->sentence, sizeof c->sentence, "%s", sentence);
}

/* The path of the outer `n` parts, and the schema there (NULL when it cannot be followed). */
static const cyaml_schema_value_t *follow(const struct complaint *c, unsigned n,
                                          const cyaml_schema_value_t *schema, char *path,
                                          size_t room)
{
    size_t len = 0;

    path[0] = 0;
    for (unsigned i = c->n; i > c->n - n; i--) {
        const struct part *p = &c->part[i - 1];
        const cyaml_schema_field_t *f;

        if (!p->key[0]) {
            len += (size_t)snprintf(path + len, room - len, "[%u]", p->index);
            schema = schema && schema->type == CYAML_SEQUENCE ? schema->sequence.entry : NULL;
            continue;
        }
        len += (size_t)snprintf(path + len, room - len, "%s%s", len ? "." : "", p->key);
        f = schema && schema->type == CYAML_MAPPING ? schema->mapping.fields : NULL;
        while (f && f->key && strcmp(f->key, p->key) != 0)
            f++;
        schema = f && f->key ? &f->value : NULL;
    }
    return schema;
}

static void list_keys(const cyaml_schema_value_t *schema, char out[KNOWN_MAX])
{
    size_t len = 0;

    out[0] = 0;
    if (!schema || schema->type != CYAML_MAPPING)
        return;
    for (const cyaml_schema_field_t *f = schema->mapping.fields; f->key && len < KNOWN_MAX; f++)
        len += (size_t)snprintf(out + len, KNOWN_MAX - len, "%s%s", len ? ", " : "", f->key);
}

static int fail_unknown_key(const struct config_source *src, const struct complaint *c,
                            const cyaml_schema_value_t *schema, const char *key)
{
    char path[KEY_MAX * PARTS_MAX], child[KEY_MAX * (PARTS_MAX + 1)], known[KNOWN_MAX];

    list_keys(follow(c, c->n, schema, path, sizeof path), known);
    snprintf(child, sizeof child, "%s%s%.60s", path, path[0] ? "." : "", key);
    return config_fail_mark((struct config_at){.src = src, .key = child}, CONFIG_AT_KEY,
                            "unknown key '%.60s'%s%s; use one of: %s", key, path[0] ? " in " : "",
                            path, known);
}

static int fail_missing_key(const struct config_source *src, const struct complaint *c,
                            const cyaml_schema_value_t *schema, const char *key)
{
    char path[KEY_MAX * PARTS_MAX];

    /* The innermost part is a field of the mapping that lacks the key. */
    follow(c, c->n ? c->n - 1 : 0, schema, path, sizeof path);
    return config_fail((struct config_at){.src = src, .key = path[0] ? path : NULL},
                       "'%s' is missing%s%s; add %s: ...", key, path[0] ? " in " : "", path, key);
}

static int fail_type(const struct config_source *src, const struct complaint *c,
                     const cyaml_schema_value_t *schema, const char *type)
{
    char path[KEY_MAX * PARTS_MAX];
    const char *want = "a single value; write key: value";

    if (strncmp(type, "MAPPING", 7) == 0)
        want = "a group of keys; write {key: value, ...} or indented lines";
    else if (strncmp(type, "SEQUENCE", 8) == 0)
        want = "a list; write [first, second] or lines with a dash";
    follow(c, c->n, schema, path, sizeof path);
    return config_fail((struct config_at){.src = src, .key = path[0] ? path : NULL},
                       "%s must be %s", path[0] ? path : "the file", want);
}

static int translate(const struct config_source *src, const struct complaint *c,
                     const cyaml_schema_value_t *schema, cyaml_err_t code)
{
    char path[KEY_MAX * PARTS_MAX];
    const char *rest;

    if (code == CYAML_ERR_OOM)
        return config_no_memory(src);
    rest = after(c->sentence, "Unexpected key: ");
    if (rest)
        return fail_unknown_key(src, c, schema, rest);
    rest = after(c->sentence, "Missing required mapping field: ");
    if (rest)
        return fail_missing_key(src, c, schema, rest);
    rest = after(c->sentence, "Expecting ");
    if (rest)
        return fail_type(src, c, schema, rest);
    rest = after(c->sentence, "Mapping field already seen: ");
    if (rest) {
        follow(c, c->n, schema, path, sizeof path);
        return config_fail_mark((struct config_at){.src = src, .key = path}, CONFIG_AT_LAST_KEY,
                                "key '%s' stands twice; keep one of them", rest);
    }
    if (code == CYAML_ERR_SEQUENCE_ENTRIES_MIN && c->n) {
        follow(c, c->n, schema, path, sizeof path);
        if (strrchr(path, '[')) /* the innermost part is the entry that is not there */
            *strrchr(path, '[') = 0;
        return config_fail((struct config_at){.src = src, .key = path},
                           "%s is empty; list at least one", path);
    }
    return config_fail_line(src, c->line ? c->line : 1, c->column ? c->column : 1,
                            "%s (%s); see the example in the README", c->sentence,
                            cyaml_strerror(code));
}

/* ---- the way in ---- */

static const cyaml_config_t free_config = {
    .mem_fn = wiping_memory,
    .flags = CYAML_CFG_NO_ALIAS,
};

static int load(const struct config_source *src, const cyaml_schema_value_t *schema, void **out)
{
    struct complaint complaint = {.line = 0};
    cyaml_config_t config = {
        .log_fn = take_log,
        .log_ctx = &complaint,
        .mem_fn = wiping_memory,
        .log_level = CYAML_LOG_ERROR,
        .flags = CYAML_CFG_NO_ALIAS,
    };
    cyaml_err_t code;
    int rc = config_precheck(src);

    *out = NULL;
    if (rc != ERR_OK)
        return rc;
    code = cyaml_load_data(src->text, src->n, &config, schema, out, NULL);
    if (code != CYAML_OK)
        return translate(src, &complaint, schema, code);
    return ERR_OK;
}

int raw_config_load(const struct config_source *src, struct raw_config **out)
{
    void *data;
    int rc = load(src, &config_schema, &data);

    *out = data;
    return rc;
}

void raw_config_free(struct raw_config *raw)
{
    cyaml_free(&free_config, &config_schema, raw, 0);
}

int raw_tunnels_load(const struct config_source *src, struct raw_tunnels **out)
{
    void *data;
    int rc = load(src, &tunnels_schema, &data);

    *out = data;
    return rc;
}

void raw_tunnels_free(struct raw_tunnels *raw)
{
    cyaml_free(&free_config, &tunnels_schema, raw, 0);
}
