#include "node/keyfile.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "proto/crypto.h"
#include "proto/err.h"

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Where in the text a complaint belongs. */
struct at {
    const uint8_t *p, *end; /* the rest of the line */
    const uint8_t *line_start;
    unsigned line;
};

static int fail(const struct at *at, struct keyfile_error *err, const char *text)
{
    err->line = at->line;
    err->column = (unsigned)(at->p - at->line_start) + 1;
    err->text = text;
    return ERR_CONFIG;
}

/* An id is a number, or a short name, which stands for 32 bits of its hash. */
static bool id_char(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_' || c == '.';
}

static uint32_t id_of_name(struct slice name)
{
    uint8_t hash[HASH_MAX] = {0};
    struct reader r = reader_of(hash, 4);

    if (crypto_hash(HASH_SHA256, &name, 1, hash) != ERR_OK)
        return 0;
    return read_u32(&r);
}

static int parse_id(struct at *at, uint32_t *id, struct keyfile_error *err)
{
    static const char expected[] =
        "a key id must be a number from 0 to 4294967295 or a name of at most 32 letters, digits, "
        "'-', '_' and '.'; write `ID HEX64`, such as `anysa cluster-key generate` prints";
    enum { NAME_MAX_BYTES = 32 };
    struct at start = *at;
    bool number = true;
    uint64_t v = 0;

    for (; at->p < at->end && id_char(*at->p); at->p++) {
        number &= *at->p >= '0' && *at->p <= '9';
        if (number && v <= UINT32_MAX)
            v = v * 10 + (uint64_t)(*at->p - '0');
    }
    if (at->p == start.p || at->p - start.p > NAME_MAX_BYTES || (number && v > UINT32_MAX) ||
        at->p == at->end || *at->p != ' ')
        return fail(&start, err, expected);
    *id = number ? (uint32_t)v : id_of_name((struct slice){start.p, (size_t)(at->p - start.p)});
    at->p++;
    return ERR_OK;
}

static int parse_key(struct at *at, struct secret *key, struct keyfile_error *err)
{
    uint8_t bytes[CLUSTER_KEY_BYTES];
    struct at start = *at;
    int rc = ERR_OK;

    if (at->end - at->p != 2 * CLUSTER_KEY_BYTES)
        return fail(at, err,
                    "a key must be exactly 64 hex digits after one space; "
                    "make one with `anysa cluster-key generate`");
    for (size_t i = 0; i < sizeof bytes && rc == ERR_OK; i++, at->p += 2) {
        int high = hex_value(at->p[0]), low = hex_value(at->p[1]);
        if (high < 0 || low < 0)
            rc = fail(at, err, "not a hex digit; make a key with `anysa cluster-key generate`");
        else
            bytes[i] = (uint8_t)(high << 4 | low);
    }
    if (rc == ERR_OK && crypto_equal(bytes, (const uint8_t[CLUSTER_KEY_BYTES]){0}, sizeof bytes))
        rc = fail(&start, err, "this key is all zeros; make one with `anysa cluster-key generate`");
    if (rc == ERR_OK)
        (void)secret_set(key, bytes, sizeof bytes); /* 32 always fit */
    wipe(bytes, sizeof bytes);
    return rc;
}

static int parse_line(struct at *at, struct cluster_key *keys, size_t *n, struct keyfile_error *err)
{
    struct at start = *at;
    uint32_t id;
    int rc;

    if (*n == CLUSTER_KEYS_MAX)
        return fail(at, err, "more than two keys; keep the one that sends and one other");
    rc = parse_id(at, &id, err);
    if (rc != ERR_OK)
        return rc;
    for (size_t i = 0; i < *n; i++)
        if (keys[i].id == id)
            return fail(&start, err, "this key id stands twice; give each key its own id");
    rc = parse_key(at, &keys[*n].key, err);
    if (rc == ERR_OK)
        keys[(*n)++].id = id;
    return rc;
}

int keyfile_parse(const uint8_t *text, size_t len, struct cluster_key keys[CLUSTER_KEYS_MAX],
                  size_t *n, struct keyfile_error *err)
{
    const uint8_t *p = text, *end = text + len;
    struct at at = {.line = 0};
    int rc = ERR_OK;

    *n = 0;
    while (p < end && rc == ERR_OK) {
        const uint8_t *newline = memchr(p, '\n', (size_t)(end - p));
        at = (struct at){p, newline ? newline : end, p, at.line + 1};
        if (at.p < at.end)
            rc = parse_line(&at, keys, n, err);
        p = newline ? newline + 1 : end;
    }
    if (rc == ERR_OK && *n == 0) {
        at = (struct at){text, end, text, 1};
        rc = fail(&at, err, "no key in the file; make one with `anysa cluster-key generate`");
    }
    if (rc != ERR_OK) {
        for (size_t i = 0; i < CLUSTER_KEYS_MAX; i++)
            secret_wipe(&keys[i].key);
        *n = 0;
    }
    return rc;
}

int keyfile_id(const char *text, uint32_t *id)
{
    char line[64];
    int n = snprintf(line, sizeof line, "%s ", text);
    const uint8_t *p = (const uint8_t *)line;
    struct keyfile_error err;
    struct at at = {p, p + n, p, 1};

    if (n < 0 || n >= (int)sizeof line || parse_id(&at, id, &err) != ERR_OK || at.p != at.end)
        return ERR_CONFIG;
    return ERR_OK;
}

/* ---- a rotation ---- */

struct lines { /* those with a key, in the file's order */
    struct slice line[CLUSTER_KEYS_MAX + 1];
    struct cluster_key keys[CLUSTER_KEYS_MAX + 1];
    size_t n;
};

static void split(const uint8_t *p, size_t len, struct lines *out)
{
    const uint8_t *end = p + len;
    size_t n = 0;

    while (p < end && n < CLUSTER_KEYS_MAX) {
        const uint8_t *newline = memchr(p, '\n', (size_t)(end - p)),
                      *stop = newline ? newline : end;
        if (stop > p)
            out->line[n++] = (struct slice){p, (size_t)(stop - p)};
        p = newline ? newline + 1 : end;
    }
}

static int refuse(const char **why, const char *text)
{
    *why = text;
    return ERR_CONFIG;
}

static int add_line(struct lines *l, struct slice line, const char **why)
{
    struct cluster_key *fresh = &l->keys[l->n];
    struct keyfile_error err;
    size_t n;
    struct cluster_key both[CLUSTER_KEYS_MAX] = {0};
    int rc = keyfile_parse(line.p, line.n, both, &n, &err);

    if (rc == ERR_OK && n != 1)
        rc = ERR_CONFIG;
    *fresh = both[0];
    wipe(both, sizeof both);
    if (rc != ERR_OK)
        return refuse(why, "the new line is not `ID HEX64`; make one with "
                           "`anysa cluster-key generate --id N`, once, for all nodes");
    for (size_t i = 0; i < l->n; i++) {
        bool same_id = l->keys[i].id == fresh->id;
        bool same_key = crypto_equal(l->keys[i].key.b, fresh->key.b, CLUSTER_KEY_BYTES);
        if (same_id && same_key)
            return ERR_EXISTS;
        if (same_id)
            return refuse(why, "its id stands for another key in the file; give the new key an id "
                               "of its own");
        if (same_key)
            return refuse(why, "its key is in the file under another id; make a new one");
    }
    if (l->n == CLUSTER_KEYS_MAX)
        return refuse(why, "two keys are in the file: finish that rotation first (--use, --drop)");
    l->line[l->n++] = line;
    return ERR_OK;
}

static int move_line(struct lines *l, enum keyfile_step step, uint32_t id, const char **why)
{
    struct slice first = l->line[0];
    size_t at = 0;

    while (at < l->n && l->keys[at].id != id)
        at++;
    if (step == KEYFILE_USE) {
        if (at == l->n)
            return refuse(why, "no key of the file has that id; --add it on all nodes first");
        if (at == 0)
            return ERR_EXISTS;
        l->line[0] = l->line[at];
        l->line[at] = first;
        return ERR_OK;
    }
    if (at == l->n)
        return ERR_EXISTS;
    if (at == 0)
        return refuse(why, l->n == 1 ? "it is the only key of the file"
                                     : "it sends; --use the other one on all nodes first");
    l->n--; /* it was the second of two */
    return ERR_OK;
}

int keyfile_rotate(const uint8_t *text, size_t len, enum keyfile_step step, uint32_t id,
                   struct slice line, uint8_t *out, size_t *n_out, const char **why)
{
    struct keyfile_error err = {.text = ""};
    struct lines l = {0};
    int rc = keyfile_parse(text, len, l.keys, &l.n, &err);

    *n_out = 0;
    if (rc != ERR_OK)
        return refuse(why, err.text);
    split(text, len, &l);
    rc = step == KEYFILE_ADD ? add_line(&l, line, why) : move_line(&l, step, id, why);
    for (size_t i = 0; rc == ERR_OK && i < l.n; i++) {
        memcpy(out + *n_out, l.line[i].p, l.line[i].n);
        *n_out += l.line[i].n;
        out[(*n_out)++] = '\n';
    }
    wipe(l.keys, sizeof l.keys);
    return rc;
}

void keyfile_line(uint32_t id, const uint8_t key[CLUSTER_KEY_BYTES], char out[KEYFILE_LINE])
{
    int n = snprintf(out, KEYFILE_LINE, "%" PRIu32 " ", id);

    for (size_t i = 0; i < CLUSTER_KEY_BYTES; i++)
        n += snprintf(out + n, (size_t)(KEYFILE_LINE - n), "%02x", key[i]);
    snprintf(out + n, (size_t)(KEYFILE_LINE - n), "\n");
}
