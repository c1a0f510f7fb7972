#include "tests/fuzz/fake_crypto.h"

#include <stdlib.h>
#include <string.h>

#include "proto/crypto.h"
#include "proto/err.h"
#include "proto/secret.h"

static uint64_t random_state;

void fake_crypto_reset(void)
{
    random_state = 1;
}

/* ---- one mixing function stands for all of them ---- */

static uint64_t mix(uint64_t h, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3ULL; /* FNV-1a */
    return h;
}

static uint64_t mix_slices(uint64_t h, const struct slice *parts, size_t n_parts)
{
    for (size_t i = 0; i < n_parts; i++)
        h = mix(h, parts[i].p, parts[i].n);
    return h;
}

/* splitmix64 */
static uint64_t next_word(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ULL;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

static void expand(uint64_t h, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        uint64_t word = next_word(&h);

        memcpy(out + i, &word, n - i < 8 ? n - i : 8);
    }
}

int crypto_random(void *out, size_t n)
{
    expand(random_state++, out, n);
    return ERR_OK;
}

/* A loop and one comparison: the fuzzer learns nothing of what would have fitted. */
bool crypto_equal(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;
    unsigned differ = 0;

    for (size_t i = 0; i < n; i++)
        differ |= x[i] ^ y[i];
    return differ == 0;
}

/* ---- hashes and what is made of them ---- */

size_t hash_len(enum hash_id hash)
{
    static const size_t lengths[] = {0, 20, 32, 48, 64};

    return hash >= HASH_SHA1 && hash <= HASH_SHA512 ? lengths[hash] : 0;
}

int crypto_hash(enum hash_id hash, const struct slice *parts, size_t n_parts, uint8_t *out)
{
    if (!hash_len(hash))
        return ERR_UNSUPPORTED;
    expand(mix_slices(hash, parts, n_parts), out, hash_len(hash));
    return ERR_OK;
}

struct hmac_ctx {
    enum hash_id hash;
    uint64_t keyed;
};

static uint64_t keyed_of(enum hash_id hash, struct slice key)
{
    return mix(0xcbf29ce484222325ULL + hash, key.p, key.n);
}

struct hmac_ctx *hmac_new(enum hash_id hash, struct slice key)
{
    struct hmac_ctx *ctx = hash_len(hash) ? malloc(sizeof *ctx) : NULL;

    if (ctx)
        *ctx = (struct hmac_ctx){hash, keyed_of(hash, key)};
    return ctx;
}

void hmac_free(struct hmac_ctx *ctx)
{
    free(ctx);
}

int hmac_run(struct hmac_ctx *ctx, const struct slice *parts, size_t n_parts, uint8_t *out)
{
    expand(mix_slices(ctx->keyed, parts, n_parts), out, hash_len(ctx->hash));
    return ERR_OK;
}

int crypto_hmac(enum hash_id hash, struct slice key, const struct slice *parts, size_t n_parts,
                uint8_t *out)
{
    struct hmac_ctx ctx = {hash, keyed_of(hash, key)};

    return hash_len(hash) ? hmac_run(&ctx, parts, n_parts, out) : ERR_UNSUPPORTED;
}

int crypto_prf_plus(enum hash_id hash, struct slice key, const struct slice *seed_parts,
                    size_t n_parts, uint8_t *out, size_t n)
{
    size_t len = hash_len(hash);

    if (len == 0 || n > 255 * len) {
        wipe(out, n);
        return len ? ERR_INVALID : ERR_UNSUPPORTED;
    }
    expand(mix_slices(keyed_of(hash, key), seed_parts, n_parts), out, n);
    return ERR_OK;
}

int crypto_hkdf(enum hash_id hash, struct slice key, struct slice salt, struct slice info,
                uint8_t *out, size_t n)
{
    struct slice parts[] = {salt, info};

    return crypto_prf_plus(hash, key, parts, 2, out, n);
}

/* ---- ciphers: one octet of "key stream", a tag of everything ---- */

static void mask(uint64_t keyed, const uint8_t *in, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = in[i] ^ (uint8_t)(keyed >> 32);
}

struct gcm_ctx {
    uint64_t keyed;
};

struct gcm_ctx *gcm_new(struct slice key)
{
    struct gcm_ctx *ctx = key.n == 16 || key.n == 32 ? malloc(sizeof *ctx) : NULL;

    if (ctx)
        ctx->keyed = keyed_of(HASH_SHA1, key);
    return ctx;
}

void gcm_free(struct gcm_ctx *ctx)
{
    free(ctx);
}

static void tag_of(uint64_t keyed, struct slice aad, const uint8_t *cipher, size_t n,
                   uint8_t tag[GCM_TAG])
{
    uint64_t lengths[] = {aad.n, n};
    uint64_t h = mix(keyed, (const uint8_t *)lengths, sizeof lengths);

    expand(mix(mix(h, aad.p, aad.n), cipher, n), tag, GCM_TAG);
}

int gcm_seal(struct gcm_ctx *ctx, const uint8_t nonce[GCM_NONCE], struct slice aad,
             const uint8_t *in, size_t n, uint8_t *out, uint8_t *tag)
{
    uint64_t keyed = mix(ctx->keyed, nonce, GCM_NONCE);

    mask(keyed, in, n, out);
    tag_of(keyed, aad, out, n, tag);
    return ERR_OK;
}

int gcm_open(struct gcm_ctx *ctx, const uint8_t nonce[GCM_NONCE], struct slice aad,
             const uint8_t *in, size_t n, uint8_t *out, const uint8_t *tag)
{
    uint64_t keyed = mix(ctx->keyed, nonce, GCM_NONCE);
    uint8_t want[GCM_TAG];

    tag_of(keyed, aad, in, n, want);
    if (!crypto_equal(want, tag, GCM_TAG)) {
        wipe(out, n);
        return ERR_AUTH;
    }
    mask(keyed, in, n, out);
    return ERR_OK;
}

struct cbc_ctx {
    uint64_t keyed;
};

struct cbc_ctx *cbc_new(struct slice key)
{
    struct cbc_ctx *ctx = key.n == 16 || key.n == 32 ? malloc(sizeof *ctx) : NULL;

    if (ctx)
        ctx->keyed = keyed_of(HASH_SHA256, key);
    return ctx;
}

void cbc_free(struct cbc_ctx *ctx)
{
    free(ctx);
}

int cbc_encrypt(struct cbc_ctx *ctx, const uint8_t iv[CBC_BLOCK], const uint8_t *in, size_t n,
                uint8_t *out)
{
    if (n % CBC_BLOCK) {
        wipe(out, n);
        return ERR_INVALID;
    }
    mask(mix(ctx->keyed, iv, CBC_BLOCK), in, n, out);
    return ERR_OK;
}

int cbc_decrypt(struct cbc_ctx *ctx, const uint8_t iv[CBC_BLOCK], const uint8_t *in, size_t n,
                uint8_t *out)
{
    return cbc_encrypt(ctx, iv, in, n, out);
}

/* ---- Diffie-Hellman: the shared secret is a symmetric function of the public values ---- */

struct dh_key {
    uint16_t group;
    uint8_t exponent[DH_PRIVATE_MAX];
    uint8_t public_value[DH_PUBLIC_MAX];
};

size_t dh_public_len(uint16_t group)
{
    return group == 14 ? 256 : group == 5 ? 192 : 0;
}

struct dh_key *dh_import(uint16_t group, struct slice private_exponent)
{
    size_t n = dh_public_len(group), zeros = 0;
    struct slice x = private_exponent;
    struct dh_key *key;

    while (zeros < x.n && x.p[zeros] == 0)
        zeros++;
    if (!n || x.n > n || zeros == x.n || (zeros + 1 == x.n && x.p[zeros] == 1) ||
        x.n - zeros > DH_PRIVATE_MAX)
        return NULL;
    key = calloc(1, sizeof *key);
    if (!key)
        return NULL;
    key->group = group;
    memcpy(key->exponent + DH_PRIVATE_MAX - (x.n - zeros), x.p + zeros, x.n - zeros);
    expand(mix(group, key->exponent, sizeof key->exponent), key->public_value, n);
    key->public_value[0] = 0x7f; /* within 1 < y < p-1 */
    return key;
}

struct dh_key *dh_generate(uint16_t group)
{
    uint8_t x[DH_PRIVATE_MAX];

    (void)crypto_random(x, sizeof x);
    x[0] |= 1;
    return dh_import(group, (struct slice){x, sizeof x});
}

void dh_free(struct dh_key *key)
{
    free(key);
}

int dh_public(const struct dh_key *key, uint8_t *out)
{
    memcpy(out, key->public_value, dh_public_len(key->group));
    return ERR_OK;
}

int dh_private(const struct dh_key *key, uint8_t *out, size_t n)
{
    if (n < DH_PRIVATE_MAX) {
        wipe(out, n);
        return ERR_CRYPTO;
    }
    memset(out, 0, n);
    memcpy(out + n - DH_PRIVATE_MAX, key->exponent, DH_PRIVATE_MAX);
    return ERR_OK;
}

/* 1 < y < p-1; both primes begin and end with 64 ones. */
static bool in_range(const uint8_t *y, size_t n)
{
    size_t zeros = 0, ones = 0;

    while (zeros < n && y[zeros] == 0)
        zeros++;
    while (ones < n && y[ones] == 0xff)
        ones++;
    return zeros < n - 1 + (y[n - 1] > 1) && ones < 8;
}

int dh_derive(const struct dh_key *key, struct slice peer, uint8_t *out)
{
    size_t n = dh_public_len(key->group);

    if (peer.n != n || !in_range(peer.p, n)) {
        wipe(out, n);
        return ERR_INVALID;
    }
    expand(mix(0, key->public_value, n) + mix(0, peer.p, n), out, n);
    return ERR_OK;
}
