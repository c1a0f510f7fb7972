/* Published test vectors, one file per algorithm, the source of each beside it.
 * All bytes are hex strings; NULL means none. test_vectors.c runs them and checks that
 * every row of the suite table has at least one. */
#ifndef TESTS_VECTORS_PROTO_VECTORS_H
#define TESTS_VECTORS_PROTO_VECTORS_H

#include <stddef.h>
#include <stdint.h>

#include "proto/suite.h"

struct cipher_vector {
    uint16_t id; /* ENCR_... */
    uint16_t key_bits;
    const char *source, *key;
    const char *iv; /* the whole nonce for GCM: salt and explicit IV */
    const char *aad, *plain, *cipher, *tag;
};
extern const struct cipher_vector gcm_vectors[], cbc_vectors[], null_vectors[];
extern const size_t gcm_vector_count, cbc_vector_count, null_vector_count;

/* An HMAC, whole for a PRF, truncated as on the wire for an integrity transform. */
struct mac_vector {
    uint8_t type; /* TRANSFORM_PRF or TRANSFORM_INTEG */
    uint16_t id;
    const char *source, *key;
    const char *text; /* the message, as text or else as hex */
    const char *data;
    const char *mac;
};
extern const struct mac_vector mac_vectors[];
extern const size_t mac_vector_count;

/* prf+ (RFC 7296 §2.13), which is HKDF-Expand too. */
struct prf_plus_vector {
    enum hash_id hash;
    const char *source, *key, *seed, *out;
};
extern const struct prf_plus_vector prf_plus_vectors[];
extern const size_t prf_plus_vector_count;

struct hkdf_vector {
    enum hash_id hash;
    const char *source, *ikm, *salt, *info, *okm;
};
extern const struct hkdf_vector hkdf_vectors[];
extern const size_t hkdf_vector_count;

struct prime_vector {
    uint16_t id; /* DH_... */
    const char *source, *prime;
};
extern const struct prime_vector prime_vectors[];
extern const size_t prime_vector_count;

struct dh_vector {
    uint16_t id;
    const char *source;
    const char *xa, *xb; /* private exponents */
    const char *ya, *yb; /* public values */
    const char *shared;
};
extern const struct dh_vector dh_vectors[];
extern const size_t dh_vector_count;

#endif
