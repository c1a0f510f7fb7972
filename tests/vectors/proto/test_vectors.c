/* Runs the published vectors and checks that every row of the suite table has one. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "proto/crypto.h"
#include "proto/err.h"
#include "vectors.h"

enum { BYTES_MAX = 512 };

struct bytes {
    uint8_t b[BYTES_MAX];
    size_t n;
};

static struct bytes unhex(const char *hex)
{
    struct bytes out = {.n = hex ? strlen(hex) / 2 : 0};
    unsigned v;

    cr_assert(out.n <= BYTES_MAX && (!hex || strlen(hex) % 2 == 0));
    for (size_t i = 0; i < out.n; i++) {
        cr_assert(sscanf(hex + 2 * i, "%2x", &v) == 1);
        out.b[i] = (uint8_t)v;
    }
    return out;
}

static struct slice slice_of(const struct bytes *b)
{
    return (struct slice){b->b, b->n};
}

static void same(const uint8_t *got, const struct bytes *want, const char *what, const char *source)
{
    cr_expect(memcmp(got, want->b, want->n) == 0, "%s differs: %s", what, source);
}

/* ---- ciphers: both directions, into other memory and in place ---- */

static void run_gcm(const struct cipher_vector *v)
{
    struct bytes key = unhex(v->key), nonce = unhex(v->iv), aad = unhex(v->aad);
    struct bytes plain = unhex(v->plain), cipher = unhex(v->cipher), tag = unhex(v->tag);
    struct gcm_ctx *ctx = gcm_new(slice_of(&key));
    uint8_t out[BYTES_MAX], got_tag[GCM_TAG];
    size_t n = plain.n;

    cr_assert(ctx && key.n * 8 == v->key_bits && nonce.n == GCM_NONCE && tag.n == GCM_TAG);
    cr_expect(gcm_seal(ctx, nonce.b, slice_of(&aad), plain.b, n, out, got_tag) == ERR_OK);
    same(out, &cipher, "sealed text", v->source);
    same(got_tag, &tag, "tag", v->source);
    cr_expect(gcm_open(ctx, nonce.b, slice_of(&aad), out, n, out, tag.b) == ERR_OK);
    same(out, &plain, "opened text", v->source);
    cr_expect(gcm_seal(ctx, nonce.b, slice_of(&aad), out, n, out, got_tag) == ERR_OK);
    same(out, &cipher, "text sealed in place", v->source);
    gcm_free(ctx);
}

static void run_cbc(const struct cipher_vector *v)
{
    struct bytes key = unhex(v->key), iv = unhex(v->iv);
    struct bytes plain = unhex(v->plain), cipher = unhex(v->cipher);
    struct cbc_ctx *ctx = cbc_new(slice_of(&key));
    uint8_t out[BYTES_MAX];

    cr_assert(ctx && key.n * 8 == v->key_bits && iv.n == CBC_BLOCK);
    cr_expect(cbc_encrypt(ctx, iv.b, plain.b, plain.n, out) == ERR_OK);
    same(out, &cipher, "encrypted text", v->source);
    cr_expect(cbc_decrypt(ctx, iv.b, out, plain.n, out) == ERR_OK);
    same(out, &plain, "decrypted text", v->source);
    cr_expect(cbc_encrypt(ctx, iv.b, out, plain.n, out) == ERR_OK);
    same(out, &cipher, "text encrypted in place", v->source);
    cbc_free(ctx);
}

Test(vectors, aes_gcm)
{
    for (size_t i = 0; i < gcm_vector_count; i++)
        run_gcm(&gcm_vectors[i]);
}

Test(vectors, aes_cbc)
{
    for (size_t i = 0; i < cbc_vector_count; i++)
        run_cbc(&cbc_vectors[i]);
}

/* There is no function for NULL: the table must say that it adds and needs nothing. */
Test(vectors, null_adds_nothing)
{
    const struct transform *row = transform_find(TRANSFORM_ENCR, ENCR_NULL, 0);

    cr_assert(row);
    cr_expect(row->key_bytes + row->salt_bytes + row->iv_bytes + row->icv_bytes == 0);
    cr_expect(row->block_bytes == 1 && !row->aead && row->needs_opt_in && !row->in_ike);
    for (size_t i = 0; i < null_vector_count; i++)
        cr_expect_str_eq(null_vectors[i].plain, null_vectors[i].cipher);
}

/* ---- MACs ---- */

static void run_mac(const struct mac_vector *v)
{
    const struct transform *row = transform_find(v->type, v->id, 0);
    struct bytes key = unhex(v->key), data = unhex(v->data), mac = unhex(v->mac);
    struct slice parts[2];
    struct hmac_ctx *ctx;
    uint8_t out[HASH_MAX];

    if (v->text) {
        data.n = strlen(v->text);
        memcpy(data.b, v->text, data.n);
    }
    cr_assert(row && (v->type == TRANSFORM_PRF || row->icv_bytes == mac.n), "%s", v->source);
    cr_expect(v->type == TRANSFORM_INTEG || hash_len(row->hash) == mac.n, "%s", v->source);
    /* In one piece, then in two. */
    parts[0] = slice_of(&data);
    cr_expect(crypto_hmac(row->hash, slice_of(&key), parts, 1, out) == ERR_OK);
    same(out, &mac, "MAC", v->source);
    parts[0] = (struct slice){data.b, 3};
    parts[1] = (struct slice){data.b + 3, data.n - 3};
    ctx = hmac_new(row->hash, slice_of(&key));
    cr_assert(ctx);
    for (int round = 0; round < 2; round++) {
        memset(out, 0, sizeof out);
        cr_expect(hmac_run(ctx, parts, 2, out) == ERR_OK);
        same(out, &mac, "MAC of a kept context", v->source);
    }
    hmac_free(ctx);
}

Test(vectors, hmac)
{
    for (size_t i = 0; i < mac_vector_count; i++)
        run_mac(&mac_vectors[i]);
}

/* ---- key derivation ---- */

Test(vectors, prf_plus)
{
    for (size_t i = 0; i < prf_plus_vector_count; i++) {
        const struct prf_plus_vector *v = &prf_plus_vectors[i];
        struct bytes key = unhex(v->key), seed = unhex(v->seed), want = unhex(v->out);
        struct slice parts[] = {{seed.b, 4}, {seed.b + 4, seed.n - 4}};
        uint8_t out[BYTES_MAX];

        cr_expect(crypto_prf_plus(v->hash, slice_of(&key), parts, 2, out, want.n) == ERR_OK);
        same(out, &want, "prf+", v->source);
    }
}

Test(vectors, hkdf)
{
    for (size_t i = 0; i < hkdf_vector_count; i++) {
        const struct hkdf_vector *v = &hkdf_vectors[i];
        struct bytes ikm = unhex(v->ikm), salt = unhex(v->salt), info = unhex(v->info);
        struct bytes want = unhex(v->okm);
        uint8_t out[BYTES_MAX];

        cr_expect(crypto_hkdf(v->hash, slice_of(&ikm), slice_of(&salt), slice_of(&info), out,
                              want.n) == ERR_OK);
        same(out, &want, "HKDF", v->source);
    }
}

/* ---- Diffie-Hellman ---- */

/* One side of an exchange: its public value and what it derives. */
static void run_dh_side(const struct dh_vector *v, const char *x, const char *own, const char *peer)
{
    struct bytes exponent = unhex(x), y = unhex(own), other = unhex(peer);
    struct bytes shared = unhex(v->shared);
    struct dh_key *key = dh_import(v->id, slice_of(&exponent));
    uint8_t out[DH_PUBLIC_MAX], back[BYTES_MAX];

    cr_assert(key && y.n == dh_public_len(v->id) && shared.n == y.n, "%s", v->source);
    cr_expect(dh_public(key, out) == ERR_OK);
    same(out, &y, "public value", v->source);
    cr_expect(dh_derive(key, slice_of(&other), out) == ERR_OK);
    same(out, &shared, "shared secret", v->source);
    cr_expect(dh_private(key, back, exponent.n) == ERR_OK);
    same(back, &exponent, "exported exponent", v->source);
    dh_free(key);
}

Test(vectors, modp)
{
    for (size_t i = 0; i < dh_vector_count; i++) {
        const struct dh_vector *v = &dh_vectors[i];

        run_dh_side(v, v->xa, v->ya, v->yb);
        run_dh_side(v, v->xb, v->yb, v->ya);
    }
}

/* The first value that is refused is p - 1: so the prime is the published one. */
Test(vectors, modp_primes)
{
    for (size_t i = 0; i < prime_vector_count; i++) {
        struct bytes p = unhex(prime_vectors[i].prime);
        struct dh_key *key = dh_generate(prime_vectors[i].id);
        uint8_t out[DH_PUBLIC_MAX];

        cr_assert(key && p.n == dh_public_len(prime_vectors[i].id));
        cr_expect(dh_derive(key, slice_of(&p), out) == ERR_INVALID, "p");
        p.b[p.n - 1]--;
        cr_expect(dh_derive(key, slice_of(&p), out) == ERR_INVALID, "p - 1");
        p.b[p.n - 1]--;
        cr_expect(dh_derive(key, slice_of(&p), out) == ERR_OK, "p - 2");
        dh_free(key);
    }
}

/* ---- the rule ---- */

static bool cipher_has(const struct cipher_vector *v, size_t n, const struct transform *row)
{
    for (size_t i = 0; i < n; i++)
        if (v[i].id == row->id && v[i].key_bits == row->key_bits)
            return true;
    return false;
}

static bool has_vector(const struct transform *row)
{
    switch (row->type) {
    case TRANSFORM_ENCR:
        return cipher_has(gcm_vectors, gcm_vector_count, row) ||
               cipher_has(cbc_vectors, cbc_vector_count, row) ||
               cipher_has(null_vectors, null_vector_count, row);
    case TRANSFORM_PRF:
    case TRANSFORM_INTEG:
        for (size_t i = 0; i < mac_vector_count; i++)
            if (mac_vectors[i].type == row->type && mac_vectors[i].id == row->id)
                return true;
        return false;
    case TRANSFORM_DH:
        for (size_t i = 0; i < dh_vector_count; i++)
            if (dh_vectors[i].id == row->id)
                return true;
        return false;
    default:
        return false;
    }
}

Test(vectors, every_row_of_the_suite_table_has_one)
{
    cr_assert(transform_count > 0);
    for (size_t i = 0; i < transform_count; i++)
        cr_expect(has_vector(&transform_table[i]), "no vector for %s", transform_table[i].name);
}
