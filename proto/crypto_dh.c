/* Diffie-Hellman over the MODP groups of RFC 3526.
 *
 * Two choices make it four times as fast as the library's defaults. Exponents are
 * short: twice the group's strength or more is enough in a safe-prime group (RFC 7919
 * §5.2, RFC 3526 §8). And OpenSSL's full check of the peer's value, which is another
 * exponentiation, is left out in favour of 1 < y < p-1: with a safe prime that is all
 * that RFC 6989 §2.1 asks for, since the only small subgroup is {1, p-1}. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>

#include "proto/crypto.h"
#include "proto/crypto_lib.h"
#include "proto/err.h"
#include "proto/secret.h"

static const struct group {
    uint16_t id;
    const char *name; /* OpenSSL's */
    size_t n;         /* octets of p */
    int private_bits;
    BIGNUM *(*prime)(BIGNUM *bn);
} groups[] = {
    {5, "modp_1536", 192, 224, BN_get_rfc3526_prime_1536},
    {14, "modp_2048", 256, 256, BN_get_rfc3526_prime_2048},
};
enum { GROUPS = sizeof groups / sizeof *groups };

struct dh_key {
    const struct group *group;
    EVP_PKEY *pair;
};

static const struct group *group_find(uint16_t id)
{
    for (size_t i = 0; i < GROUPS; i++)
        if (groups[i].id == id)
            return &groups[i];
    return NULL;
}

size_t dh_public_len(uint16_t group)
{
    const struct group *g = group_find(group);
    return g ? g->n : 0;
}

/* Takes the pair over, also when it fails. */
static struct dh_key *key_of(const struct group *group, EVP_PKEY *pair)
{
    struct dh_key *key = pair ? malloc(sizeof *key) : NULL;

    if (!key) {
        EVP_PKEY_free(pair);
        (void)crypto_failed();
        return NULL;
    }
    *key = (struct dh_key){group, pair};
    return key;
}

struct dh_key *dh_generate(uint16_t group)
{
    const struct group *g = group_find(group);
    EVP_PKEY_CTX *ctx;
    EVP_PKEY *pair = NULL;
    OSSL_PARAM params[3];
    int bits;

    if (!g)
        return NULL;
    bits = g->private_bits;
    params[0] =
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)(uintptr_t)g->name, 0);
    params[1] = OSSL_PARAM_construct_int(OSSL_PKEY_PARAM_DH_PRIV_LEN, &bits);
    params[2] = OSSL_PARAM_construct_end();
    ctx = EVP_PKEY_CTX_new_from_name(NULL, "DH", NULL);
    if (ctx && EVP_PKEY_keygen_init(ctx) == 1 && EVP_PKEY_CTX_set_params(ctx, params) == 1)
        (void)EVP_PKEY_generate(ctx, &pair);
    EVP_PKEY_CTX_free(ctx);
    return key_of(g, pair);
}

void dh_free(struct dh_key *key)
{
    if (!key)
        return;
    EVP_PKEY_free(key->pair); /* wipes the exponent */
    free(key);
}

/* A key object from its numbers; x may be NULL for a peer's public key. */
static EVP_PKEY *pkey_from(const struct group *g, const BIGNUM *y, const BIGNUM *x)
{
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "DH", NULL);
    OSSL_PARAM *params = NULL;
    EVP_PKEY *pkey = NULL;

    if (build && OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, g->name, 0) &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_PUB_KEY, y) &&
        (!x || OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_PRIV_KEY, x)))
        params = OSSL_PARAM_BLD_to_param(build);
    if (ctx && params && EVP_PKEY_fromdata_init(ctx) == 1)
        (void)EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_KEYPAIR, params);
    OSSL_PARAM_free(params); /* wipes the part that came from x, a secure BIGNUM */
    OSSL_PARAM_BLD_free(build);
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

struct dh_key *dh_import(uint16_t group, struct slice private_exponent)
{
    const struct group *g = group_find(group);
    BIGNUM *x = BN_secure_new(), *y = BN_new(), *two = BN_new(), *p = g ? g->prime(NULL) : NULL;
    BN_CTX *ctx = BN_CTX_secure_new();
    EVP_PKEY *pair = NULL;

    if (x && y && two && p && ctx && private_exponent.n && private_exponent.n <= g->n &&
        BN_bin2bn(private_exponent.p, (int)private_exponent.n, x) && BN_set_word(two, 2)) {
        BN_set_flags(x, BN_FLG_CONSTTIME);
        /* 0 and 1 give public values that every peer must refuse. */
        if (!BN_is_zero(x) && !BN_is_one(x) && BN_cmp(x, p) < 0 &&
            BN_mod_exp_mont_consttime(y, two, x, p, ctx, NULL) == 1)
            pair = pkey_from(g, y, x);
    }
    BN_clear_free(x);
    BN_free(y);
    BN_free(two);
    BN_free(p);
    BN_CTX_free(ctx);
    return g ? key_of(g, pair) : NULL;
}

int dh_public(const struct dh_key *key, uint8_t *out)
{
    size_t n = key->group->n, got = 0;

    /* The encoded form is padded to the length of p. */
    if (EVP_PKEY_get_octet_string_param(key->pair, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, out, n,
                                        &got) == 1 &&
        got == n)
        return ERR_OK;
    wipe(out, n);
    return crypto_failed();
}

int dh_private(const struct dh_key *key, uint8_t *out, size_t n)
{
    BIGNUM *x = NULL;
    bool ok = EVP_PKEY_get_bn_param(key->pair, OSSL_PKEY_PARAM_PRIV_KEY, &x) == 1 &&
              BN_bn2binpad(x, out, (int)n) == (int)n;

    BN_clear_free(x);
    if (ok)
        return ERR_OK;
    wipe(out, n);
    return crypto_failed();
}

/* ---- the shared secret ---- */

static uint8_t last_value[GROUPS][DH_PUBLIC_MAX]; /* p - 1 of each group */
static pthread_once_t last_value_once = PTHREAD_ONCE_INIT;
static bool last_value_ok;

static void fill_last_values(void)
{
    bool ok = true;

    for (size_t i = 0; i < GROUPS; i++) {
        BIGNUM *p = groups[i].prime(NULL);
        ok = ok && p && BN_sub_word(p, 1) == 1 &&
             BN_bn2binpad(p, last_value[i], (int)groups[i].n) == (int)groups[i].n;
        BN_free(p);
    }
    last_value_ok = ok;
}

/* 1 < y < p-1. Nothing here is secret, so the comparison need not be constant-time. */
static bool in_range(const struct group *g, const uint8_t *y)
{
    size_t first = 0;

    pthread_once(&last_value_once, fill_last_values);
    while (first < g->n && y[first] == 0)
        first++;
    if (first == g->n || (first == g->n - 1 && y[first] == 1))
        return false;
    return last_value_ok && memcmp(y, last_value[g - groups], g->n) < 0;
}

static bool derive(EVP_PKEY *own, EVP_PKEY *peer, uint8_t *out, size_t n)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, own, NULL);
    unsigned pad = 1;
    size_t got = n;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_uint(OSSL_EXCHANGE_PARAM_PAD, &pad),
                           OSSL_PARAM_construct_end()};
    bool ok = ctx && EVP_PKEY_derive_init_ex(ctx, params) == 1 &&
              EVP_PKEY_derive_set_peer_ex(ctx, peer, 0) == 1 &&
              EVP_PKEY_derive(ctx, out, &got) == 1 && got == n;

    EVP_PKEY_CTX_free(ctx);
    return ok;
}

int dh_derive(const struct dh_key *key, struct slice peer, uint8_t *out)
{
    const struct group *g = key->group;
    EVP_PKEY *peer_key;
    BIGNUM *y;
    bool ok;

    if (peer.n != g->n || !in_range(g, peer.p)) {
        wipe(out, g->n);
        return ERR_INVALID;
    }
    y = BN_bin2bn(peer.p, (int)peer.n, NULL);
    peer_key = y ? pkey_from(g, y, NULL) : NULL;
    ok = peer_key && derive(key->pair, peer_key, out, g->n);
    EVP_PKEY_free(peer_key);
    BN_free(y);
    if (ok)
        return ERR_OK;
    wipe(out, g->n);
    return crypto_failed();
}
