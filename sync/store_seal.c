#include "sync/store_seal.h"

#include <string.h>

#include "proto/err.h"

static const char wrap_label[] = "anysa journal wrap v1";

struct journal_seal {
    struct secret key;
    struct gcm_ctx *gcm;
};

static struct journal_seal *seal_of(const uint8_t key[JOURNAL_KEY_BYTES])
{
    struct journal_seal *s = secret_alloc(sizeof *s);

    if (!s)
        return NULL;
    (void)secret_set(&s->key, key, JOURNAL_KEY_BYTES);
    s->gcm = gcm_new(secret_slice(&s->key));
    if (!s->gcm) {
        journal_seal_free(s);
        return NULL;
    }
    return s;
}

struct journal_seal *journal_seal_new(void)
{
    uint8_t key[JOURNAL_KEY_BYTES];
    struct journal_seal *s = NULL;

    if (crypto_random(key, sizeof key) == ERR_OK)
        s = seal_of(key);
    wipe(key, sizeof key);
    return s;
}

void journal_seal_free(struct journal_seal *s)
{
    if (!s)
        return;
    gcm_free(s->gcm);
    secret_free(s, sizeof *s);
}

int journal_cluster(const char *cluster, uint8_t out[STORE_CLUSTER_BYTES])
{
    struct slice name = {(const uint8_t *)cluster, strlen(cluster)};

    return crypto_hash(HASH_SHA256, &name, 1, out);
}

/* ---- the journal key, wrapped ---- */

enum { WRAP_AAD_BYTES = STORE_CLUSTER_BYTES + 2 };

static int wrap_context(const struct cluster_key *key, const char *cluster, uint16_t slot,
                        struct gcm_ctx **gcm, uint8_t aad[WRAP_AAD_BYTES])
{
    struct slice info = {(const uint8_t *)wrap_label, sizeof wrap_label - 1};
    uint8_t derived[32];
    int rc = crypto_hkdf(HASH_SHA256, secret_slice(&key->key), (struct slice){NULL, 0}, info,
                         derived, sizeof derived);

    *gcm = rc == ERR_OK ? gcm_new((struct slice){derived, sizeof derived}) : NULL;
    wipe(derived, sizeof derived);
    if (!*gcm)
        return ERR_CRYPTO;
    rc = journal_cluster(cluster, aad);
    aad[STORE_CLUSTER_BYTES] = (uint8_t)(slot >> 8);
    aad[STORE_CLUSTER_BYTES + 1] = (uint8_t)slot;
    return rc;
}

int journal_wrap(const struct journal_seal *s, const struct cluster_key *key, const char *cluster,
                 uint16_t slot, uint8_t out[WRAPPED_KEY_BYTES])
{
    uint8_t aad[WRAP_AAD_BYTES];
    struct gcm_ctx *gcm;
    int rc = wrap_context(key, cluster, slot, &gcm, aad);

    if (rc == ERR_OK)
        rc = crypto_random(out, GCM_NONCE);
    if (rc == ERR_OK)
        rc = gcm_seal(gcm, out, (struct slice){aad, sizeof aad}, s->key.b, JOURNAL_KEY_BYTES,
                      out + GCM_NONCE, out + GCM_NONCE + JOURNAL_KEY_BYTES);
    gcm_free(gcm);
    return rc;
}

int journal_unwrap(const uint8_t in[WRAPPED_KEY_BYTES], const struct cluster_key *key,
                   const char *cluster, uint16_t slot, struct journal_seal **out)
{
    uint8_t aad[WRAP_AAD_BYTES], plain[JOURNAL_KEY_BYTES];
    struct gcm_ctx *gcm;
    int rc = wrap_context(key, cluster, slot, &gcm, aad);

    *out = NULL;
    if (rc == ERR_OK)
        rc = gcm_open(gcm, in, (struct slice){aad, sizeof aad}, in + GCM_NONCE, JOURNAL_KEY_BYTES,
                      plain, in + GCM_NONCE + JOURNAL_KEY_BYTES);
    if (rc == ERR_OK) {
        *out = seal_of(plain);
        rc = *out ? ERR_OK : ERR_NOMEM;
    }
    wipe(plain, sizeof plain);
    gcm_free(gcm);
    return rc;
}

/* ---- rows ---- */

enum { ROW_AAD_BYTES = 9 };

static struct slice row_aad(uint8_t kind, uint64_t key, uint8_t out[ROW_AAD_BYTES])
{
    struct writer w = writer_of(out, ROW_AAD_BYTES);

    write_u8(&w, kind);
    write_u64(&w, key);
    return (struct slice){out, w.n};
}

int journal_seal_row(struct journal_seal *s, uint8_t kind, uint64_t key, const uint8_t *in,
                     size_t n, uint8_t *out)
{
    uint8_t aad[ROW_AAD_BYTES];
    int rc = crypto_random(out, GCM_NONCE);

    if (rc == ERR_OK)
        rc = gcm_seal(s->gcm, out, row_aad(kind, key, aad), in, n, out + GCM_NONCE,
                      out + GCM_NONCE + n);
    return rc;
}

int journal_open_row(struct journal_seal *s, uint8_t kind, uint64_t key, const uint8_t *in,
                     size_t n, uint8_t *out, size_t *n_out)
{
    uint8_t aad[ROW_AAD_BYTES];

    *n_out = 0;
    if (n < SEAL_OVERHEAD_BYTES)
        return ERR_TRUNCATED;
    n -= SEAL_OVERHEAD_BYTES;
    if (gcm_open(s->gcm, in, row_aad(kind, key, aad), in + GCM_NONCE, n, out, in + GCM_NONCE + n) !=
        ERR_OK)
        return ERR_AUTH;
    *n_out = n;
    return ERR_OK;
}
