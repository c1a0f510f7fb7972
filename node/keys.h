/* The cluster's keys in a running node, and their change while it runs (DESIGN: Custody of keys).
 *
 * A rotation has three steps, and at each the nodes may differ for a while: all learn to open
 * under the new key; all seal under it; all forget the old one. What keeps that safe:
 *
 *   - The node seals under the key file's first line only when the journal key is wrapped under it,
 *     durably. So a node that others hear under a key opens its journal by that key, whenever it
 *     dies. Until then the key before stays in use, even where the file has it no more.
 *   - SPIs and cookies that another node made under the other key are known here; SPIs of a key
 *     that is gone for as long as a half-open SA could live.
 *   - A key file that has nothing in common with the keys in use is refused: nobody could be heard.
 *
 * Loop thread. */
#ifndef NODE_KEYS_H
#define NODE_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/sync.h"

enum { NODE_KEYS_MAX = 6, NODE_KEY_LINGER_MS = 60000 };

struct node_key { /* a cluster key, and what follows from it */
    struct cluster_key cluster;
    struct secret spi, cookie;
    uint64_t until_us; /* monotonic: gone from the file, its SPIs are known until then; 0: in use */
};

/* Lives in memory that secrets may be in. */
struct node_keys {
    struct node_key known[NODE_KEYS_MAX]; /* the first one sends */
    size_t n;
    struct cluster_key file[CLUSTER_KEYS_MAX]; /* what the key file said last */
    size_t n_file;
};

/* What a key file may be to a node that has these keys. */
enum keys_change {
    KEYS_SAME,
    KEYS_CHANGED,
    KEYS_FOREIGN, /* none of the keys in use is in it */
    KEYS_CLASH,   /* an id of ours stands for another key */
};
enum keys_change keys_compare(const struct node_keys *keys, const struct cluster_key *file,
                              size_t n);

/* Takes over what the file says; all at the end are derived. The key that sends stays until
 * keys_send. ERR_CRYPTO: nothing has changed. */
int keys_take(struct node_keys *keys, const struct cluster_key *file, size_t n, uint64_t now_us);
/* The file's first key sends now, and the one before is what the file says of it. */
void keys_send(struct node_keys *keys, uint64_t now_us);
/* Forgets keys whose time is over. */
void keys_expire(struct node_keys *keys, uint64_t now_us);
/* Those that frames are opened under, the one that seals first; at most SYNC_KEYS_MAX. */
size_t keys_in_use(const struct node_keys *keys, struct cluster_key out[SYNC_KEYS_MAX]);
void keys_wipe(struct node_keys *keys);

/* ike_spi_slot under any key that is known. */
int keys_spi_slot(const struct node_keys *keys, uint64_t spi_i, uint64_t our_spi);
/* Of the cookies that other nodes make: those of the key that comes or goes. Empty: none. */
const struct secret *keys_cookie_also(const struct node_keys *keys);

#endif
