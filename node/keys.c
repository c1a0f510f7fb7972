#include "node/keys.h"

#include <string.h>

#include "ike/ike.h"
#include "node/api_text.h"
#include "node/node.h"
#include "proto/crypto.h"
#include "proto/err.h"
#include "proto/log.h"

/* ---- the set of keys ---- */

static int derive(const struct secret *cluster_key, const char *info, struct secret *out)
{
    out->n = 32;
    return crypto_hkdf(HASH_SHA256, secret_slice(cluster_key), (struct slice){NULL, 0},
                       (struct slice){(const uint8_t *)info, strlen(info)}, out->b, out->n);
}

static int derive_all(const struct cluster_key *from, struct node_key *out)
{
    int rc;

    *out = (struct node_key){.cluster = *from};
    rc = derive(&from->key, "anysa ike spi", &out->spi);
    return rc == ERR_OK ? derive(&from->key, "anysa ike cookie", &out->cookie) : rc;
}

static bool same_key(const struct cluster_key *a, const struct cluster_key *b)
{
    return a->id == b->id && a->key.n == b->key.n && crypto_equal(a->key.b, b->key.b, a->key.n);
}

static struct node_key *find(struct node_keys *keys, const struct cluster_key *key)
{
    for (size_t i = 0; i < keys->n; i++)
        if (same_key(&keys->known[i].cluster, key))
            return &keys->known[i];
    return NULL;
}

static bool in_file(const struct node_keys *keys, const struct cluster_key *key)
{
    for (size_t i = 0; i < keys->n_file; i++)
        if (same_key(&keys->file[i], key))
            return true;
    return false;
}

enum keys_change keys_compare(const struct node_keys *keys, const struct cluster_key *file,
                              size_t n)
{
    bool same = n == keys->n_file, common = false;

    for (size_t i = 0; i < n; i++) {
        same = same && same_key(&file[i], &keys->file[i]);
        for (size_t k = 0; k < keys->n; k++) {
            const struct cluster_key *known = &keys->known[k].cluster;
            if (keys->known[k].until_us)
                continue;
            if (same_key(known, &file[i]))
                common = true;
            else if (known->id == file[i].id)
                return KEYS_CLASH;
        }
    }
    if (same)
        return KEYS_SAME;
    return common ? KEYS_CHANGED : KEYS_FOREIGN;
}

static void forget(struct node_keys *keys, size_t at)
{
    memmove(&keys->known[at], &keys->known[at + 1], (keys->n - at - 1) * sizeof keys->known[0]);
    wipe(&keys->known[--keys->n], sizeof keys->known[0]);
}

/* Those that are not in the file any more have their time set, but for the one that sends. */
static void retire(struct node_keys *keys, uint64_t now_us)
{
    for (size_t i = 0; i < keys->n; i++) {
        struct node_key *k = &keys->known[i];
        if (i == 0 || in_file(keys, &k->cluster))
            k->until_us = 0;
        else if (!k->until_us)
            k->until_us = now_us + NODE_KEY_LINGER_MS * 1000ULL;
    }
}

/* Makes room by forgetting the key whose time is over first. */
static void make_room(struct node_keys *keys)
{
    size_t oldest = 0;

    for (size_t i = 1; i < keys->n; i++)
        if (keys->known[i].until_us &&
            (!oldest || keys->known[i].until_us < keys->known[oldest].until_us))
            oldest = i;
    if (oldest)
        forget(keys, oldest);
}

int keys_take(struct node_keys *keys, const struct cluster_key *file, size_t n, uint64_t now_us)
{
    struct node_key fresh[CLUSTER_KEYS_MAX];
    int rc = ERR_OK;

    for (size_t i = 0; rc == ERR_OK && i < n; i++)
        rc = derive_all(&file[i], &fresh[i]);
    if (rc == ERR_OK) {
        wipe(keys->file, sizeof keys->file);
        memcpy(keys->file, file, n * sizeof *file);
        keys->n_file = n;
        retire(keys, now_us);
        for (size_t i = 0; i < n; i++) {
            if (find(keys, &file[i]))
                continue;
            if (keys->n == NODE_KEYS_MAX)
                make_room(keys);
            keys->known[keys->n++] = fresh[i];
        }
    }
    wipe(fresh, sizeof fresh);
    return rc;
}

void keys_send(struct node_keys *keys, uint64_t now_us)
{
    struct node_key *k = find(keys, &keys->file[0]), first = *k;

    *k = keys->known[0];
    keys->known[0] = first;
    wipe(&first, sizeof first);
    retire(keys, now_us);
}

void keys_expire(struct node_keys *keys, uint64_t now_us)
{
    for (size_t i = keys->n; i-- > 1;)
        if (keys->known[i].until_us && keys->known[i].until_us <= now_us)
            forget(keys, i);
}

size_t keys_in_use(const struct node_keys *keys, struct cluster_key out[SYNC_KEYS_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < keys->n; i++)
        if (!keys->known[i].until_us && n < SYNC_KEYS_MAX)
            out[n++] = keys->known[i].cluster;
    return n;
}

void keys_wipe(struct node_keys *keys)
{
    wipe(keys, sizeof *keys);
}

int keys_spi_slot(const struct node_keys *keys, uint64_t spi_i, uint64_t our_spi)
{
    int slot = -1;

    for (size_t i = 0; slot < 0 && i < keys->n; i++)
        slot = ike_spi_slot(&keys->known[i].spi, spi_i, our_spi);
    return slot;
}

const struct secret *keys_cookie_also(const struct node_keys *keys)
{
    static const struct secret none;

    for (size_t i = 1; i < keys->n; i++)
        if (!keys->known[i].until_us)
            return &keys->known[i].cookie;
    return keys->n > 1 ? &keys->known[keys->n - 1].cookie : &none;
}

/* ---- the node ---- */

int node_keys_open(struct node *node)
{
    const struct config *config = node->config;
    int err = keys_take(&node->keys, config->cluster.keys, config->cluster.n_keys, 0);

    return err == ERR_OK ? fingerprint_key(&config->cluster.keys[0].key, &node->fingerprint_key)
                         : err;
}

/* What the set says, to all who use it. */
static int spread(struct node *node)
{
    struct cluster_key in_use[SYNC_KEYS_MAX];
    const struct node_keys *keys = &node->keys;
    size_t n = keys_in_use(keys, in_use);
    int err = sync_set_keys(node->sync, in_use, n);

    wipe(in_use, sizeof in_use);
    ike_set_keys(node->ike, &keys->known[0].spi, &keys->known[0].cookie, keys_cookie_also(keys));
    return err == ERR_OK ? fingerprint_key(&keys->known[0].cluster.key, &node->fingerprint_key)
                         : err;
}

static void take_file(struct node *node, const struct cluster_key *file, size_t n)
{
    const struct cluster_key *sends = &node->keys.known[0].cluster;
    int err = keys_take(&node->keys, file, n, now_read().mono_us);

    if (err == ERR_OK)
        err = spread(node);
    if (err == ERR_OK)
        err = node->store->ops->rewrap(node->store, &file[0]);
    if (err != ERR_OK) {
        node->counters.reloads_failed++;
        log_error("node", "the new cluster keys are not in use in full: %s", err_text(err));
        return;
    }
    log_info("node", "cluster keys: frames are opened under %zu, and sealed under key id %u", n,
             sends->id);
    if (!same_key(sends, &file[0]))
        log_info("node", "key id %u will seal once the journal is wrapped under it", file[0].id);
    if (!in_file(&node->keys, sends))
        log_warn("node",
                 "key id %u was removed while it still sends: this node cannot read its journal if "
                 "it dies before it is wrapped under key id %u",
                 sends->id, file[0].id);
}

void node_keys_reload(struct node *node)
{
    static struct config_error why; /* 2 KB; the loop thread alone comes here */
    struct cluster_key file[CLUSTER_KEYS_MAX] = {0};
    char line[CONFIG_ERROR_LINE];
    size_t n;

    if (config_read_keys(node->config, file, &n, &why) != ERR_OK) {
        node->counters.reloads_failed++;
        log_error("config", "%s", config_error_format(&why, line));
        log_error("config", "the cluster keys stay as they were");
        return;
    }
    switch (keys_compare(&node->keys, file, n)) {
    case KEYS_SAME:
        break;
    case KEYS_CHANGED:
        take_file(node, file, n);
        break;
    case KEYS_CLASH:
        node->counters.reloads_failed++;
        log_error("config",
                  "%s gives an id that is in use to another key: the cluster keys stay as they "
                  "were; give the new key an id of its own",
                  node->config->cluster.key_file);
        break;
    case KEYS_FOREIGN:
        node->counters.reloads_failed++;
        log_error("config",
                  "%s has none of the keys in use: the cluster keys stay as they were; rotate step "
                  "by step (anysa cluster-key rotate --help)",
                  node->config->cluster.key_file);
        break;
    }
    wipe(file, sizeof file);
}

void node_keys_tick(struct node *node)
{
    struct node_keys *keys = &node->keys;

    keys_expire(keys, now_read().mono_us);
    if (same_key(&keys->known[0].cluster, &keys->file[0]) ||
        node->store->ops->wrapped(node->store) != keys->file[0].id)
        return;
    keys_send(keys, now_read().mono_us);
    if (spread(node) != ERR_OK)
        log_error("node", "the frames stay under the key before: %s", err_text(ERR_CRYPTO));
    else
        log_info("node", "the journal is wrapped under key id %u, and frames are sealed under it",
                 keys->known[0].cluster.id);
}
