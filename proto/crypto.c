/* Random bytes, hashes, HMAC and the key derivations made of it. */
#include "proto/crypto.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>

#include "proto/crypto_lib.h"
#include "proto/err.h"
#include "proto/secret.h"

static const struct {
    const char *name;
    size_t n;
} hashes[] = {
    [HASH_SHA1] = {"SHA1", 20},
    [HASH_SHA256] = {"SHA2-256", 32},
    [HASH_SHA384] = {"SHA2-384", 48},
    [HASH_SHA512] = {"SHA2-512", 64},
};

static struct crypto_algs algs;
static pthread_once_t algs_once = PTHREAD_ONCE_INIT;

static void fetch_algs(void)
{
    for (int i = HASH_SHA1; i <= HASH_SHA512; i++)
        algs.md[i] = EVP_MD_fetch(NULL, hashes[i].name, NULL);
    algs.gcm128 = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
    algs.gcm256 = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    algs.cbc128 = EVP_CIPHER_fetch(NULL, "AES-128-CBC", NULL);
    algs.cbc256 = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
}

const struct crypto_algs *crypto_algs(void)
{
    pthread_once(&algs_once, fetch_algs);
    return &algs;
}

int crypto_failed(void)
{
    ERR_clear_error();
    return ERR_CRYPTO;
}

int crypto_random(void *out, size_t n)
{
    uint8_t *p = out;

    for (size_t left = n; left;) {
        int part = left > INT_MAX ? INT_MAX : (int)left;
        if (RAND_bytes(p, part) != 1) {
            wipe(out, n);
            return crypto_failed();
        }
        p += part;
        left -= (size_t)part;
    }
    return ERR_OK;
}

bool crypto_equal(const void *a, const void *b, size_t n)
{
    return n == 0 || CRYPTO_memcmp(a, b, n) == 0;
}

size_t hash_len(enum hash_id hash)
{
    return hash >= HASH_SHA1 && hash <= HASH_SHA512 ? hashes[hash].n : 0;
}

static int digest(EVP_MD_CTX *ctx, enum hash_id hash, const struct slice *parts, size_t n_parts,
                  uint8_t *out)
{
    bool ok = ctx && EVP_DigestInit_ex2(ctx, crypto_algs()->md[hash], NULL) == 1;

    for (size_t i = 0; ok && i < n_parts; i++)
        if (parts[i].n)
            ok = EVP_DigestUpdate(ctx, parts[i].p, parts[i].n) == 1;
    if (ok && EVP_DigestFinal_ex(ctx, out, NULL) == 1)
        return ERR_OK;
    wipe(out, hash_len(hash));
    return crypto_failed();
}

int crypto_hash(enum hash_id hash, const struct slice *parts, size_t n_parts, uint8_t *out)
{
    EVP_MD_CTX *ctx;
    int rc;

    if (hash_len(hash) == 0)
        return ERR_UNSUPPORTED;
    ctx = EVP_MD_CTX_new();
    rc = digest(ctx, hash, parts, n_parts, out);
    EVP_MD_CTX_free(ctx);
    return rc;
}

struct hash_ctx {
    enum hash_id hash;
    EVP_MD_CTX *run;
};

struct hash_ctx *hash_new(enum hash_id hash)
{
    struct hash_ctx *ctx = hash_len(hash) ? calloc(1, sizeof *ctx) : NULL;

    if (!ctx)
        return NULL;
    ctx->hash = hash;
    ctx->run = EVP_MD_CTX_new();
    if (ctx->run)
        return ctx;
    (void)crypto_failed();
    hash_free(ctx);
    return NULL;
}

void hash_free(struct hash_ctx *ctx)
{
    if (!ctx)
        return;
    EVP_MD_CTX_free(ctx->run);
    free(ctx);
}

int hash_run(struct hash_ctx *ctx, const struct slice *parts, size_t n_parts, uint8_t *out)
{
    return digest(ctx->run, ctx->hash, parts, n_parts, out);
}

/* ---- HMAC (RFC 2104) ----
 *
 * Built on the hash: OpenSSL's own HMAC fetches the hash by name and makes a dozen allocations
 * for each key, which a handshake with its many keys would feel. */

enum { HASH_BLOCK_MAX = 128, HMAC_IPAD = 0x36, HMAC_OPAD = 0x5c };

struct hmac_ctx {
    const EVP_MD *md;
    EVP_MD_CTX *run;
    size_t n, block;             /* octets of the result, of the hash's block */
    uint8_t key[HASH_BLOCK_MAX]; /* as in the RFC: at most a block, then zeros */
};

struct hmac_ctx *hmac_new(enum hash_id hash, struct slice key)
{
    const EVP_MD *md = hash_len(hash) ? crypto_algs()->md[hash] : NULL;
    struct hmac_ctx *ctx = md ? secret_alloc(sizeof *ctx) : NULL;
    bool ok;

    if (!ctx)
        return NULL;
    ctx->md = md;
    ctx->n = hash_len(hash);
    ctx->block = (size_t)EVP_MD_get_block_size(md);
    ctx->run = EVP_MD_CTX_new();
    ok = ctx->run && ctx->block <= sizeof ctx->key;
    if (ok && key.n > ctx->block)
        ok = crypto_hash(hash, &key, 1, ctx->key) == ERR_OK;
    else if (ok && key.n)
        memcpy(ctx->key, key.p, key.n);
    if (ok)
        return ctx;
    (void)crypto_failed();
    hmac_free(ctx);
    return NULL;
}

void hmac_free(struct hmac_ctx *ctx)
{
    if (!ctx)
        return;
    EVP_MD_CTX_free(ctx->run); /* wipes its state */
    secret_free(ctx, sizeof *ctx);
}

/* Begins a hash over the key masked with `pad`. */
static bool mac_pad(struct hmac_ctx *ctx, uint8_t pad)
{
    uint8_t masked[HASH_BLOCK_MAX];
    bool ok;

    for (size_t i = 0; i < ctx->block; i++)
        masked[i] = ctx->key[i] ^ pad;
    ok = EVP_DigestInit_ex2(ctx->run, ctx->md, NULL) == 1 &&
         EVP_DigestUpdate(ctx->run, masked, ctx->block) == 1;
    wipe(masked, sizeof masked);
    return ok;
}

static bool mac_begin(struct hmac_ctx *ctx)
{
    return mac_pad(ctx, HMAC_IPAD);
}

static bool mac_add(struct hmac_ctx *ctx, const struct slice *parts, size_t n_parts)
{
    for (size_t i = 0; i < n_parts; i++)
        if (parts[i].n && EVP_DigestUpdate(ctx->run, parts[i].p, parts[i].n) != 1)
            return false;
    return true;
}

static bool mac_end(struct hmac_ctx *ctx, uint8_t *out)
{
    return EVP_DigestFinal_ex(ctx->run, out, NULL) == 1 && mac_pad(ctx, HMAC_OPAD) &&
           EVP_DigestUpdate(ctx->run, out, ctx->n) == 1 &&
           EVP_DigestFinal_ex(ctx->run, out, NULL) == 1;
}

int hmac_run(struct hmac_ctx *ctx, const struct slice *parts, size_t n_parts, uint8_t *out)
{
    if (mac_begin(ctx) && mac_add(ctx, parts, n_parts) && mac_end(ctx, out))
        return ERR_OK;
    wipe(out, ctx->n);
    return crypto_failed();
}

int crypto_hmac(enum hash_id hash, struct slice key, const struct slice *parts, size_t n_parts,
                uint8_t *out)
{
    struct hmac_ctx *ctx = hmac_new(hash, key);
    int rc;

    if (!ctx) {
        wipe(out, hash_len(hash));
        return hash_len(hash) ? ERR_CRYPTO : ERR_UNSUPPORTED;
    }
    rc = hmac_run(ctx, parts, n_parts, out);
    hmac_free(ctx);
    return rc;
}

/* ---- key derivation ---- */

/* prf+ (RFC 7296 §2.13) and HKDF-Expand (RFC 5869 §2.3) are one construction:
 * T1 | T2 | ... with Ti = HMAC(key, Ti-1 | seed | i), i one octet from 1, T0 empty. */
int crypto_prf_plus(enum hash_id hash, struct slice key, const struct slice *seed_parts,
                    size_t n_parts, uint8_t *out, size_t n)
{
    size_t len = hash_len(hash), done = 0, take;
    uint8_t t[HASH_MAX];
    struct slice last = {t, 0}, count;
    struct hmac_ctx *ctx;
    bool ok = true;

    if (len == 0 || n > 255 * len) {
        wipe(out, n);
        return len ? ERR_INVALID : ERR_UNSUPPORTED;
    }
    ctx = hmac_new(hash, key);
    if (!ctx) {
        wipe(out, n);
        return ERR_CRYPTO;
    }
    for (uint8_t i = 1; ok && done < n; i++) {
        count = (struct slice){&i, 1};
        ok = mac_begin(ctx) && mac_add(ctx, &last, 1) && mac_add(ctx, seed_parts, n_parts) &&
             mac_add(ctx, &count, 1) && mac_end(ctx, t);
        take = n - done < len ? n - done : len;
        memcpy(out + done, t, ok ? take : 0);
        done += take;
        last.n = len;
    }
    hmac_free(ctx);
    wipe(t, sizeof t);
    if (ok)
        return ERR_OK;
    wipe(out, n);
    return crypto_failed();
}

int crypto_hkdf(enum hash_id hash, struct slice key, struct slice salt, struct slice info,
                uint8_t *out, size_t n)
{
    uint8_t prk[HASH_MAX];
    int rc;

    /* An absent salt is hash_len zeros, which HMAC pads an empty key to (RFC 5869 §2.2). */
    rc = crypto_hmac(hash, salt, &key, 1, prk);
    if (rc == ERR_OK)
        rc = crypto_prf_plus(hash, (struct slice){prk, hash_len(hash)}, &info, 1, out, n);
    else
        wipe(out, n);
    wipe(prk, sizeof prk);
    return rc;
}
