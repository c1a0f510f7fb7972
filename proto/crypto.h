/* The one door to the crypto library (OpenSSL 3): nothing of it shows outside
 * proto/crypto*.c. All functions return 0 or an ERR_ code unless they say
 * otherwise; every failure leaves outputs wiped. Contexts belong to one thread
 * at a time; the pure functions may be called from any thread. */
#ifndef PROTO_CRYPTO_H
#define PROTO_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/cursor.h"

/* Once at start, before anything else here: from then on all that the library holds, key
 * schedules and the random generator's state included, lies in secret.h's memory.
 * ERR_INVALID when the library has memory of its own already. */
int crypto_keep_in_custody(void);

int crypto_random(void *out, size_t n);
bool crypto_equal(const void *a, const void *b, size_t n); /* constant time */

/* ---- hashes, HMAC (RFC 2104), HKDF (RFC 5869), prf+ (RFC 7296 §2.13) ---- */
enum hash_id { HASH_SHA1 = 1, HASH_SHA256, HASH_SHA384, HASH_SHA512 };
enum { HASH_MAX = 64 };

size_t hash_len(enum hash_id hash); /* bytes of its digest */
int crypto_hash(enum hash_id hash, const struct slice *parts, size_t n_parts, uint8_t *out);
/* A hash for hot paths, used for any number of messages; secrets are not for it. */
struct hash_ctx;
struct hash_ctx *hash_new(enum hash_id hash); /* NULL on failure */
void hash_free(struct hash_ctx *ctx);
int hash_run(struct hash_ctx *ctx, const struct slice *parts, size_t n_parts, uint8_t *out);
/* out gets hash_len(hash) bytes. The message is the parts one after the other. */
int crypto_hmac(enum hash_id hash, struct slice key, const struct slice *parts, size_t n_parts,
                uint8_t *out);
/* key, salt, info as in RFC 5869; salt and info may be empty. n <= 255 digests. */
int crypto_hkdf(enum hash_id hash, struct slice key, struct slice salt, struct slice info,
                uint8_t *out, size_t n);
/* The seed is the parts one after the other. n <= 255 digests, else ERR_INVALID. */
int crypto_prf_plus(enum hash_id hash, struct slice key, const struct slice *seed_parts,
                    size_t n_parts, uint8_t *out, size_t n);

/* A reusable HMAC for hot paths: keyed once, then any number of messages. */
struct hmac_ctx;
struct hmac_ctx *hmac_new(enum hash_id hash, struct slice key); /* NULL on failure */
void hmac_free(struct hmac_ctx *ctx);
int hmac_run(struct hmac_ctx *ctx, const struct slice *parts, size_t n_parts, uint8_t *out);

/* ---- a certificate and its private key, as text (RFC 7468) ---- */
enum pem_verdict { PEM_FITS, PEM_BAD_CERT, PEM_BAD_KEY, PEM_MISMATCH };
/* Of the first certificate in `cert`. Encrypted keys are bad ones. */
enum pem_verdict crypto_check_pem(const char *cert, const char *key);

/* ---- AES-GCM (NIST SP 800-38D), 12-octet nonce, 16-octet tag ---- */
enum { GCM_NONCE = 12, GCM_TAG = 16 };
struct gcm_ctx;
struct gcm_ctx *gcm_new(struct slice key); /* 16 or 32 octets; NULL on failure */
void gcm_free(struct gcm_ctx *ctx);
/* in and out may be the same memory. tag points at GCM_TAG octets. */
int gcm_seal(struct gcm_ctx *ctx, const uint8_t nonce[GCM_NONCE], struct slice aad,
             const uint8_t *in, size_t n, uint8_t *out, uint8_t *tag);
/* ERR_AUTH when the tag does not fit; out is wiped then. */
int gcm_open(struct gcm_ctx *ctx, const uint8_t nonce[GCM_NONCE], struct slice aad,
             const uint8_t *in, size_t n, uint8_t *out, const uint8_t *tag);

/* ---- AES-CBC without padding; n is a multiple of 16 ---- */
enum { CBC_BLOCK = 16 };
struct cbc_ctx;
struct cbc_ctx *cbc_new(struct slice key); /* 16 or 32 octets; both directions; NULL on failure */
void cbc_free(struct cbc_ctx *ctx);
int cbc_encrypt(struct cbc_ctx *ctx, const uint8_t iv[CBC_BLOCK], const uint8_t *in, size_t n,
                uint8_t *out);
int cbc_decrypt(struct cbc_ctx *ctx, const uint8_t iv[CBC_BLOCK], const uint8_t *in, size_t n,
                uint8_t *out);

/* ---- MODP Diffie-Hellman (RFC 3526); group is the IKEv2 number, 5 or 14 ---- */
enum { DH_PUBLIC_MAX = 256 };
struct dh_key;
size_t dh_public_len(uint16_t group); /* 192, 256; 0 for a group we do not have */
/* Short exponents of at least twice the group's strength (RFC 7919 §5.2). NULL on failure. */
struct dh_key *dh_generate(uint16_t group);
void dh_free(struct dh_key *key);
/* Writes dh_public_len(group) octets, left-padded with zeros. */
int dh_public(const struct dh_key *key, uint8_t *out);
/* peer must be dh_public_len octets with 1 < y < p-1 (RFC 6989 §2.1), else ERR_INVALID.
 * out gets dh_public_len octets, left-padded (RFC 7296 §2.14). */
int dh_derive(const struct dh_key *key, struct slice peer, uint8_t *out);
/* The private exponent, so that an exchange can be replayed from vectors in tests and
 * moved between processes; the caller wipes it. dh_private writes it left-padded to n
 * octets (DH_PRIVATE_MAX hold any of dh_generate's), or fails with ERR_CRYPTO when it is
 * longer. dh_import rebuilds the pair; NULL for an exponent that is 0, 1 or >= p. */
enum { DH_PRIVATE_MAX = 32 };
int dh_private(const struct dh_key *key, uint8_t *out, size_t n);
struct dh_key *dh_import(uint16_t group, struct slice private_exponent);

#endif
