/* Edge cases and misuse; that the algorithms are right is shown in tests/vectors. */
#include <criterion/criterion.h>
#include <openssl/err.h>
#include <pthread.h>
#include <string.h>

#include "proto/crypto.h"
#include "proto/err.h"

#define BYTES(text) ((struct slice){(const uint8_t *)(text), sizeof(text) - 1})

static const uint8_t zeros[512];

static bool all_zero(const void *bytes, size_t n)
{
    return memcmp(bytes, zeros, n) == 0;
}

static struct slice key_of(size_t n)
{
    static const uint8_t key[64] = {1, 2, 3, 4, 5, 6, 7, 8};
    return (struct slice){key, n};
}

/* ---- random, comparison ---- */

Test(random, fills_all_and_does_not_repeat)
{
    uint8_t a[64] = {0}, b[64] = {0};

    cr_expect(crypto_random(a, sizeof a) == ERR_OK && crypto_random(b, sizeof b) == ERR_OK);
    cr_expect(memcmp(a, b, sizeof a) != 0);
    cr_expect(!all_zero(a, 16) && !all_zero(a + 48, 16));
    cr_expect(crypto_random(a, 0) == ERR_OK);
}

Test(equal, every_byte_counts)
{
    uint8_t a[32] = {0}, b[32] = {0};

    cr_expect(crypto_equal(a, b, 32) && crypto_equal(NULL, NULL, 0));
    for (size_t i = 0; i < 32; i++) {
        b[i] = 0x80;
        cr_expect(!crypto_equal(a, b, 32), "byte %zu", i);
        cr_expect(crypto_equal(a, b, i), "bytes before %zu", i);
        b[i] = 0;
    }
}

/* ---- hashes, HMAC, derivation ---- */

Test(hash, parts_are_one_message)
{
    struct slice whole = BYTES("abcdefgh");
    struct slice parts[] = {BYTES("ab"), {NULL, 0}, BYTES("cdefg"), BYTES("h")};
    uint8_t a[HASH_MAX], b[HASH_MAX];

    for (int h = HASH_SHA1; h <= HASH_SHA512; h++) {
        cr_expect(crypto_hash(h, &whole, 1, a) == ERR_OK);
        cr_expect(crypto_hash(h, parts, 4, b) == ERR_OK);
        cr_expect_arr_eq(a, b, hash_len(h));
        cr_expect(crypto_hmac(h, key_of(20), &whole, 1, a) == ERR_OK);
        cr_expect(crypto_hmac(h, key_of(20), parts, 4, b) == ERR_OK);
        cr_expect_arr_eq(a, b, hash_len(h));
    }
}

/* FIPS 180: SHA-256 of nothing begins e3b0c442. */
Test(hash, of_nothing)
{
    uint8_t out[HASH_MAX];

    cr_expect(crypto_hash(HASH_SHA256, NULL, 0, out) == ERR_OK);
    cr_expect_arr_eq(out, ((uint8_t[]){0xe3, 0xb0, 0xc4, 0x42}), 4);
}

Test(hash, lengths)
{
    cr_expect(hash_len(HASH_SHA1) == 20 && hash_len(HASH_SHA256) == 32);
    cr_expect(hash_len(HASH_SHA384) == 48 && hash_len(HASH_SHA512) == HASH_MAX);
    cr_expect(hash_len(0) == 0 && hash_len(99) == 0);
}

Test(hash, unknown_ones_are_refused)
{
    struct slice part = BYTES("x");
    uint8_t out[HASH_MAX];

    cr_expect(crypto_hash(0, &part, 1, out) == ERR_UNSUPPORTED);
    cr_expect(crypto_hmac(99, key_of(20), &part, 1, out) == ERR_UNSUPPORTED);
    cr_expect(crypto_prf_plus(0, key_of(20), &part, 1, out, 10) == ERR_UNSUPPORTED);
    cr_expect(crypto_hkdf(0, key_of(20), part, part, out, 10) == ERR_UNSUPPORTED);
    cr_expect_null(hmac_new(0, key_of(20)));
}

/* HMAC-SHA256 of nothing under an empty key begins b613679a (the key is padded with zeros). */
Test(hmac, an_empty_key_is_a_key)
{
    uint8_t out[HASH_MAX], zero_key[HASH_MAX];
    struct slice none = {NULL, 0}, block = {zeros, 64};

    cr_expect(crypto_hmac(HASH_SHA256, none, NULL, 0, out) == ERR_OK);
    cr_expect_arr_eq(out, ((uint8_t[]){0xb6, 0x13, 0x67, 0x9a}), 4);
    cr_expect(crypto_hmac(HASH_SHA256, block, NULL, 0, zero_key) == ERR_OK);
    cr_expect_arr_eq(out, zero_key, 32);
}

/* RFC 2104 §2: a key longer than the hash's block stands for its digest; a shorter one is padded.
 */
Test(hmac, keys_around_the_block)
{
    static const size_t blocks[] = {64, 64, 128, 128};
    uint8_t key[130], digest[HASH_MAX], want[HASH_MAX], got[HASH_MAX];
    struct slice text = BYTES("text");

    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(i + 1);
    for (int hash = HASH_SHA1; hash <= HASH_SHA512; hash++) {
        size_t n = hash_len(hash), block = blocks[hash - HASH_SHA1];
        struct slice longer = {key, block + 1}, whole = {key, block}, shorter = {key, block - 1};

        cr_assert(crypto_hash(hash, &longer, 1, digest) == ERR_OK);
        cr_expect(crypto_hmac(hash, (struct slice){digest, n}, &text, 1, want) == ERR_OK);
        cr_expect(crypto_hmac(hash, longer, &text, 1, got) == ERR_OK);
        cr_expect_arr_eq(got, want, n, "hash %d: a key of block + 1", hash);
        cr_expect(crypto_hmac(hash, whole, &text, 1, got) == ERR_OK);
        cr_expect(crypto_hash(hash, &whole, 1, digest) == ERR_OK);
        cr_expect(crypto_hmac(hash, (struct slice){digest, n}, &text, 1, want) == ERR_OK);
        cr_expect_arr_neq(got, want, n, "hash %d: a whole block is the key itself", hash);
        cr_expect(crypto_hmac(hash, shorter, &text, 1, want) == ERR_OK);
        cr_expect_arr_neq(got, want, n);
    }
}

Test(hmac, a_kept_context_starts_afresh_each_time)
{
    struct hmac_ctx *ctx = hmac_new(HASH_SHA1, key_of(20));
    struct slice a = BYTES("first"), b = BYTES("second");
    uint8_t want[HASH_MAX], got[HASH_MAX];

    cr_assert(ctx);
    for (int i = 0; i < 3; i++) {
        cr_expect(hmac_run(ctx, &a, 1, got) == ERR_OK);
        cr_expect(hmac_run(ctx, &b, 1, got) == ERR_OK);
        cr_expect(crypto_hmac(HASH_SHA1, key_of(20), &b, 1, want) == ERR_OK);
        cr_expect_arr_eq(got, want, 20);
    }
    hmac_free(ctx);
    hmac_free(NULL);
}

Test(prf_plus, a_longer_output_begins_with_the_shorter)
{
    struct slice seed = BYTES("seed");
    uint8_t full[200], part[200];

    cr_assert(crypto_prf_plus(HASH_SHA256, key_of(32), &seed, 1, full, sizeof full) == ERR_OK);
    for (size_t n = 0; n <= sizeof full; n++) {
        memset(part, 0xee, sizeof part);
        cr_expect(crypto_prf_plus(HASH_SHA256, key_of(32), &seed, 1, part, n) == ERR_OK);
        cr_expect(memcmp(part, full, n) == 0 && (n == sizeof full || part[n] == 0xee), "%zu", n);
    }
}

/* The counter is one octet (RFC 7296 §2.13): 255 blocks and no more. */
Test(prf_plus, the_limit)
{
    static uint8_t out[255 * 20 + 1];
    struct slice seed = BYTES("seed");

    cr_expect(crypto_prf_plus(HASH_SHA1, key_of(20), &seed, 1, out, 255 * 20) == ERR_OK);
    cr_expect(!all_zero(out + 254 * 20, 20));
    cr_expect(crypto_prf_plus(HASH_SHA1, key_of(20), &seed, 1, out, 255 * 20 + 1) == ERR_INVALID);
    cr_expect(all_zero(out, 500), "a failure leaves nothing");
}

/* ---- AES-GCM ---- */

Test(gcm, only_our_key_lengths)
{
    for (size_t n = 0; n <= 64; n++) {
        struct gcm_ctx *gcm = gcm_new(key_of(n));
        struct cbc_ctx *cbc = cbc_new(key_of(n));

        cr_expect((gcm != NULL) == (n == 16 || n == 32), "%zu", n);
        cr_expect((cbc != NULL) == (n == 16 || n == 32), "%zu", n);
        gcm_free(gcm);
        cbc_free(cbc);
    }
    gcm_free(NULL);
    cbc_free(NULL);
}

static const uint8_t nonce[GCM_NONCE] = {9, 9, 9};

Test(gcm, every_flipped_bit_is_seen_and_leaves_nothing)
{
    struct gcm_ctx *ctx = gcm_new(key_of(16));
    const uint8_t *text = (const uint8_t *)"twenty octets of it!";
    uint8_t aad[5] = "head", sealed[20], tag[GCM_TAG], iv[GCM_NONCE], out[20];
    struct slice head = {aad, sizeof aad};
    struct {
        uint8_t *b;
        size_t n;
    } parts[] = {{sealed, sizeof sealed}, {tag, sizeof tag}, {aad, sizeof aad}, {iv, sizeof iv}};

    memcpy(iv, nonce, sizeof iv);
    cr_assert(gcm_seal(ctx, iv, head, text, 20, sealed, tag) == ERR_OK);
    for (size_t part = 0; part < 4; part++)
        for (size_t bit = 0; bit < 8 * parts[part].n; bit++) {
            parts[part].b[bit / 8] ^= (uint8_t)(1 << bit % 8);
            memset(out, 0xee, sizeof out);
            cr_expect(gcm_open(ctx, iv, head, sealed, 20, out, tag) == ERR_AUTH &&
                          all_zero(out, 20),
                      "part %zu bit %zu", part, bit);
            parts[part].b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    cr_expect(gcm_open(ctx, iv, head, sealed, 20, out, tag) == ERR_OK,
              "the context works on after failures");
    cr_expect_arr_eq(out, text, 20);
    cr_expect(ERR_peek_error() == 0, "nothing is left in the library's queue");
    gcm_free(ctx);
}

Test(gcm, empty_text_and_empty_aad)
{
    struct gcm_ctx *ctx = gcm_new(key_of(32));
    struct slice none = {NULL, 0}, head = BYTES("head");
    uint8_t tag[GCM_TAG], with_head[GCM_TAG];

    cr_expect(gcm_seal(ctx, nonce, none, NULL, 0, NULL, tag) == ERR_OK);
    cr_expect(gcm_open(ctx, nonce, none, NULL, 0, NULL, tag) == ERR_OK);
    cr_expect(gcm_seal(ctx, nonce, head, NULL, 0, NULL, with_head) == ERR_OK);
    cr_expect(memcmp(tag, with_head, GCM_TAG) != 0);
    cr_expect(gcm_open(ctx, nonce, none, NULL, 0, NULL, with_head) == ERR_AUTH);
    gcm_free(ctx);
}

Test(gcm, all_lengths_in_place)
{
    struct gcm_ctx *ctx = gcm_new(key_of(32));
    uint8_t buf[300], tag[GCM_TAG];

    for (size_t n = 0; n <= sizeof buf; n++) {
        memset(buf, 0x77, sizeof buf);
        cr_expect(gcm_seal(ctx, nonce, key_of(8), buf, n, buf, tag) == ERR_OK);
        cr_expect(n == sizeof buf || buf[n] == 0x77);
        cr_expect(gcm_open(ctx, nonce, key_of(8), buf, n, buf, tag) == ERR_OK);
        for (size_t i = 0; i < n; i++)
            cr_assert(buf[i] == 0x77, "octet %zu of %zu", i, n);
    }
    gcm_free(ctx);
}

/* ---- AES-CBC ---- */

Test(cbc, only_whole_blocks)
{
    struct cbc_ctx *ctx = cbc_new(key_of(16));
    uint8_t iv[CBC_BLOCK] = {1}, in[64] = {5}, out[64];

    for (size_t n = 0; n <= sizeof in; n++) {
        memset(out, 0xee, sizeof out);
        cr_expect(cbc_encrypt(ctx, iv, in, n, out) == (n % 16 ? ERR_INVALID : ERR_OK), "%zu", n);
        cr_expect(n % 16 == 0 || all_zero(out, n));
        cr_expect(n == sizeof in || out[n] == 0xee, "no padding is added");
        cr_expect(cbc_decrypt(ctx, iv, out, n, out) == (n % 16 ? ERR_INVALID : ERR_OK), "%zu", n);
        cr_expect(n % 16 || memcmp(out, in, n) == 0, "%zu", n);
    }
    cbc_free(ctx);
}

Test(cbc, messages_do_not_chain)
{
    struct cbc_ctx *ctx = cbc_new(key_of(32));
    uint8_t iv[CBC_BLOCK] = {1}, in[32] = {5}, first[32], second[32];

    cr_expect(cbc_encrypt(ctx, iv, in, 32, first) == ERR_OK);
    cr_expect(cbc_decrypt(ctx, iv, in, 32, second) == ERR_OK);
    cr_expect(cbc_encrypt(ctx, iv, in, 32, second) == ERR_OK);
    cr_expect_arr_eq(first, second, 32);
    cbc_free(ctx);
}

/* ---- Diffie-Hellman ---- */

static const uint16_t groups[] = {5, 14};

Test(dh, only_our_groups)
{
    for (unsigned g = 0; g < 40; g++) {
        size_t n = g == 5 ? 192 : g == 14 ? 256 : 0;

        cr_expect(dh_public_len((uint16_t)g) == n, "group %u", g);
        if (n == 0) {
            cr_expect_null(dh_generate((uint16_t)g));
            cr_expect_null(dh_import((uint16_t)g, key_of(32)));
        }
    }
    dh_free(NULL);
}

Test(dh, both_sides_agree)
{
    for (size_t i = 0; i < 2; i++) {
        size_t n = dh_public_len(groups[i]);
        struct dh_key *a = dh_generate(groups[i]), *b = dh_generate(groups[i]);
        uint8_t ya[DH_PUBLIC_MAX], yb[DH_PUBLIC_MAX], sa[DH_PUBLIC_MAX], sb[DH_PUBLIC_MAX];

        cr_assert(a && b && dh_public(a, ya) == ERR_OK && dh_public(b, yb) == ERR_OK);
        cr_expect(memcmp(ya, yb, n) != 0);
        cr_expect(dh_derive(a, (struct slice){yb, n}, sa) == ERR_OK);
        cr_expect(dh_derive(b, (struct slice){ya, n}, sb) == ERR_OK);
        cr_expect(memcmp(sa, sb, n) == 0 && !all_zero(sa, n));
        cr_expect(dh_derive(a, (struct slice){yb, n}, sb) == ERR_OK, "a key may serve twice");
        cr_expect_arr_eq(sa, sb, n);
        dh_free(a);
        dh_free(b);
    }
}

Test(dh, an_exported_key_goes_on_elsewhere)
{
    for (size_t i = 0; i < 2; i++) {
        size_t n = dh_public_len(groups[i]);
        struct dh_key *a = dh_generate(groups[i]), *b = dh_generate(groups[i]), *moved;
        uint8_t x[DH_PRIVATE_MAX], y[DH_PUBLIC_MAX], sa[DH_PUBLIC_MAX], sb[DH_PUBLIC_MAX];

        cr_assert(a && b && dh_private(a, x, sizeof x) == ERR_OK);
        moved = dh_import(groups[i], (struct slice){x, sizeof x});
        cr_assert(moved && dh_public(a, sa) == ERR_OK && dh_public(moved, sb) == ERR_OK);
        cr_expect_arr_eq(sa, sb, n);
        cr_assert(dh_public(b, y) == ERR_OK);
        cr_expect(dh_derive(a, (struct slice){y, n}, sa) == ERR_OK);
        cr_expect(dh_derive(moved, (struct slice){y, n}, sb) == ERR_OK);
        cr_expect_arr_eq(sa, sb, n);
        dh_free(a);
        dh_free(b);
        dh_free(moved);
    }
}

/* At least twice the group's strength (RFC 3526 §8 takes 90 and 110 bits as the lower
 * estimates), and within DH_PRIVATE_MAX. */
Test(dh, exponents_are_short_but_long_enough)
{
    static const unsigned bits_min[] = {192, 225}, bits_max[] = {224, 256};

    for (size_t i = 0; i < 2; i++) {
        unsigned longest = 0;

        for (int round = 0; round < 24; round++) {
            struct dh_key *key = dh_generate(groups[i]);
            uint8_t x[DH_PUBLIC_MAX];
            unsigned bits = 8 * DH_PUBLIC_MAX, at = 0;

            cr_assert(key && dh_private(key, x, sizeof x) == ERR_OK);
            while (bits && !(x[at / 8] & 0x80 >> at % 8)) {
                at++;
                bits--;
            }
            longest = bits > longest ? bits : longest;
            dh_free(key);
        }
        cr_expect(longest >= bits_min[i] && longest <= bits_max[i], "%u bits", longest);
    }
}

Test(dh, too_little_room_for_the_exponent)
{
    struct dh_key *key = dh_generate(14);
    uint8_t x[8];

    memset(x, 0xee, sizeof x);
    cr_expect(key && dh_private(key, x, sizeof x) == ERR_CRYPTO && all_zero(x, sizeof x));
    dh_free(key);
}

/* RFC 6989 §2.1: 0, 1 and p-1 are refused, as is what is not of the group's length.
 * (tests/vectors goes to p - 1 and beyond.) */
Test(dh, bad_public_values_are_refused)
{
    for (size_t i = 0; i < 2; i++) {
        size_t n = dh_public_len(groups[i]);
        struct dh_key *key = dh_generate(groups[i]);
        uint8_t y[DH_PUBLIC_MAX + 1] = {0}, out[DH_PUBLIC_MAX];
        struct slice peer = {y, n};

        cr_assert(key);
        memset(out, 0xee, sizeof out);
        cr_expect(dh_derive(key, peer, out) == ERR_INVALID && all_zero(out, n), "0");
        y[n - 1] = 1;
        cr_expect(dh_derive(key, peer, out) == ERR_INVALID, "1");
        y[n - 1] = 2;
        cr_expect(dh_derive(key, peer, out) == ERR_OK, "2");
        y[n - 1] = 0;
        y[n - 2] = 1;
        cr_expect(dh_derive(key, peer, out) == ERR_OK, "256");
        memset(y, 0xff, sizeof y);
        cr_expect(dh_derive(key, peer, out) == ERR_INVALID, "2^n - 1");
        memset(y, 0x55, sizeof y);
        cr_expect(dh_derive(key, peer, out) == ERR_OK);
        cr_expect(dh_derive(key, (struct slice){y, n - 1}, out) == ERR_INVALID, "too short");
        cr_expect(dh_derive(key, (struct slice){y, n + 1}, out) == ERR_INVALID, "too long");
        cr_expect(dh_derive(key, (struct slice){NULL, 0}, out) == ERR_INVALID, "none");
        dh_free(key);
    }
    cr_expect(ERR_peek_error() == 0, "nothing is left in the library's queue");
}

Test(dh, bad_exponents_are_not_imported)
{
    uint8_t x[DH_PUBLIC_MAX + 1] = {0};

    cr_expect_null(dh_import(14, (struct slice){NULL, 0}));
    cr_expect_null(dh_import(14, (struct slice){x, 32}), "0");
    x[31] = 1;
    cr_expect_null(dh_import(14, (struct slice){x, 32}), "1");
    memset(x, 0xff, sizeof x);
    cr_expect_null(dh_import(14, (struct slice){x, 256}), "beyond p");
    cr_expect_null(dh_import(5, (struct slice){x, 193}), "longer than p");
    cr_expect(ERR_peek_error() == 0);
}

/* ---- threads: the pure functions are called from all of them at once ---- */

static void *everything(void *failures)
{
    uint8_t out[HASH_MAX], y[DH_PUBLIC_MAX], s[DH_PUBLIC_MAX], tag[GCM_TAG];
    struct slice seed = BYTES("seed");
    int bad = 0;

    for (int i = 0; i < 20; i++) {
        struct dh_key *key = dh_generate(5);
        struct gcm_ctx *gcm = gcm_new(key_of(16));

        bad |= !key || dh_public(key, y) || dh_derive(key, (struct slice){y, 192}, s);
        bad |= !gcm || gcm_seal(gcm, nonce, seed, y, 64, y, tag);
        bad |= crypto_prf_plus(HASH_SHA512, key_of(64), &seed, 1, out, sizeof out);
        bad |= crypto_random(out, sizeof out);
        dh_free(key);
        gcm_free(gcm);
    }
    *(int *)failures = bad;
    return NULL;
}

Test(crypto, threads)
{
    pthread_t threads[8];
    int bad[8];

    for (int i = 0; i < 8; i++)
        cr_assert(pthread_create(&threads[i], NULL, everything, &bad[i]) == 0);
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        cr_expect(bad[i] == 0);
    }
}
