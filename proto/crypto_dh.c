/* Diffie-Hellman over the MODP groups of RFC 3526.
 *
 * It is one constant-time exponentiation for each half. Exponents are short: twice the
 * group's strength or more is enough in a safe-prime group (RFC 7919 §5.2, RFC 3526 §8).
 * Of the peer's value 1 < y < p-1 is asked: with a safe prime that is all that RFC 6989
 * §2.1 wants, since the only small subgroup is {1, p-1}. OpenSSL's own DH would check it by
 * another exponentiation, and set up the modulus anew for every key. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>

#include "proto/crypto.h"
#include "proto/crypto_lib.h"
#include "proto/err.h"
#include "proto/secret.h"

static const struct group {
    uint16_t id;
    size_t n; /* octets of p */
    int private_bits;
    BIGNUM *(*prime)(BIGNUM *bn);
} groups[] = {
    {5, 192, 224, BN_get_rfc3526_prime_1536},
    {14, 256, 256, BN_get_rfc3526_prime_2048},
};
enum { GROUPS = sizeof groups / sizeof *groups };

/* What is worked out once for a group; read only afterwards. */
static struct modulus {
    BIGNUM *p, *two;
    BN_MONT_CTX *mont;
    uint8_t last[DH_PUBLIC_MAX]; /* p - 1 */
    bool ok;
} moduli[GROUPS];
static pthread_once_t moduli_once = PTHREAD_ONCE_INIT;

struct dh_key {
    const struct group *group;
    BIGNUM *x;                     /* private, marked for constant time */
    uint8_t public[DH_PUBLIC_MAX]; /* padded to group->n */
};

static void fill_moduli(void)
{
    BN_CTX *ctx = BN_CTX_new();

    for (size_t i = 0; i < GROUPS; i++) {
        struct modulus *m = &moduli[i];

        m->p = groups[i].prime(NULL);
        m->two = BN_new();
        m->mont = BN_MONT_CTX_new();
        if (!ctx || !m->p || !m->two || !m->mont || !BN_MONT_CTX_set(m->mont, m->p, ctx) ||
            !BN_sub(m->two, m->p, BN_value_one()) ||
            BN_bn2binpad(m->two, m->last, (int)groups[i].n) != (int)groups[i].n)
            continue;
        m->ok = BN_set_word(m->two, 2) == 1;
    }
    BN_CTX_free(ctx);
}

/* NULL when the library failed at start. */
static const struct modulus *modulus_of(const struct group *g)
{
    const struct modulus *m = &moduli[g - groups];

    pthread_once(&moduli_once, fill_moduli);
    return m->ok ? m : NULL;
}

/* base^x mod p as g->n octets. */
static bool power(const struct group *g, const BIGNUM *base, const BIGNUM *x, uint8_t *out)
{
    const struct modulus *m = modulus_of(g);
    BIGNUM *y = BN_secure_new();
    BN_CTX *ctx = BN_CTX_secure_new();
    bool ok = m && y && ctx && BN_mod_exp_mont_consttime(y, base, x, m->p, ctx, m->mont) == 1 &&
              BN_bn2binpad(y, out, (int)g->n) == (int)g->n;

    BN_clear_free(y);
    BN_CTX_free(ctx);
    return ok;
}

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

/* The pair of an exponent, which it takes over, also when it fails. 0 and 1 give public values
 * that every peer must refuse. */
static struct dh_key *key_of(const struct group *g, BIGNUM *x)
{
    const struct modulus *m = modulus_of(g);
    struct dh_key *key = m && x ? calloc(1, sizeof *key) : NULL;

    if (!key) {
        BN_clear_free(x);
        (void)crypto_failed();
        return NULL;
    }
    BN_set_flags(x, BN_FLG_CONSTTIME);
    key->group = g;
    key->x = x;
    if (!BN_is_zero(x) && !BN_is_one(x) && BN_cmp(x, m->p) < 0 && power(g, m->two, x, key->public))
        return key;
    (void)crypto_failed();
    dh_free(key);
    return NULL;
}

struct dh_key *dh_generate(uint16_t group)
{
    const struct group *g = group_find(group);
    BIGNUM *x = g ? BN_secure_new() : NULL;

    if (x && BN_priv_rand(x, g->private_bits, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1)
        return key_of(g, x);
    BN_clear_free(x);
    return NULL;
}

void dh_free(struct dh_key *key)
{
    if (!key)
        return;
    BN_clear_free(key->x);
    free(key);
}

struct dh_key *dh_import(uint16_t group, struct slice private_exponent)
{
    const struct group *g = group_find(group);
    BIGNUM *x = g ? BN_secure_new() : NULL;

    if (x && private_exponent.n && private_exponent.n <= g->n &&
        BN_bin2bn(private_exponent.p, (int)private_exponent.n, x))
        return key_of(g, x);
    BN_clear_free(x);
    return NULL;
}

int dh_public(const struct dh_key *key, uint8_t *out)
{
    memcpy(out, key->public, key->group->n);
    return ERR_OK;
}

int dh_private(const struct dh_key *key, uint8_t *out, size_t n)
{
    if (BN_bn2binpad(key->x, out, (int)n) == (int)n)
        return ERR_OK;
    wipe(out, n);
    return crypto_failed();
}

/* ---- the shared secret ---- */

/* 1 < y < p-1. Nothing here is secret, so the comparison need not be constant-time. */
static bool in_range(const struct group *g, const uint8_t *y)
{
    const struct modulus *m = modulus_of(g);
    size_t first = 0;

    while (first < g->n && y[first] == 0)
        first++;
    if (first == g->n || (first == g->n - 1 && y[first] == 1))
        return false;
    return m && memcmp(y, m->last, g->n) < 0;
}

int dh_derive(const struct dh_key *key, struct slice peer, uint8_t *out)
{
    const struct group *g = key->group;
    BIGNUM *y;
    bool ok;

    if (peer.n != g->n || !in_range(g, peer.p)) {
        wipe(out, g->n);
        return ERR_INVALID;
    }
    y = BN_bin2bn(peer.p, (int)peer.n, NULL);
    ok = y && power(g, y, key->x, out);
    BN_free(y);
    if (ok)
        return ERR_OK;
    wipe(out, g->n);
    return crypto_failed();
}
