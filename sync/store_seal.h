/* How the journal keeps secrets: every record body is sealed by AES-256-GCM under a random
 * journal key with a fresh random nonce, and the journal key is wrapped by a key derived from
 * the cluster key. A row is bound to its kind and key, so rows cannot trade places.
 * One thread at a time. */
#ifndef SYNC_STORE_SEAL_H
#define SYNC_STORE_SEAL_H

#include "proto/crypto.h"
#include "sync/store.h"

enum {
    JOURNAL_KEY_BYTES = 32,
    WRAPPED_KEY_BYTES = GCM_NONCE + JOURNAL_KEY_BYTES + GCM_TAG,
    SEAL_OVERHEAD_BYTES = GCM_NONCE + GCM_TAG,
    STORE_CLUSTER_BYTES = 32,
};

struct journal_seal;
struct journal_seal *journal_seal_new(void); /* with a random key; NULL on failure */
void journal_seal_free(struct journal_seal *s);

/* SHA2-256 of the cluster's name: tells whose a journal is. */
int journal_cluster(const char *cluster, uint8_t out[STORE_CLUSTER_BYTES]);

/* The journal key for keeping, under one cluster key; slot and cluster are bound in. */
int journal_wrap(const struct journal_seal *s, const struct cluster_key *key, const char *cluster,
                 uint16_t slot, uint8_t out[WRAPPED_KEY_BYTES]);
/* ERR_AUTH when it was wrapped by or for another. */
int journal_unwrap(const uint8_t in[WRAPPED_KEY_BYTES], const struct cluster_key *key,
                   const char *cluster, uint16_t slot, struct journal_seal **out);

/* Writes n + SEAL_OVERHEAD_BYTES. */
int journal_seal_row(struct journal_seal *s, uint8_t kind, uint64_t key, const uint8_t *in,
                     size_t n, uint8_t *out);
/* out has room for n; *n_out gets n - SEAL_OVERHEAD_BYTES. */
int journal_open_row(struct journal_seal *s, uint8_t kind, uint64_t key, const uint8_t *in,
                     size_t n, uint8_t *out, size_t *n_out);

#endif
