/* The suite table: one row per IKEv2 transform that we speak (the numbers are
 * IANA's, RFC 7296 §3.3.2), with all that IKE and ESP must know about it.
 * A row without a published vector in tests/vectors fails the tests.
 * NONE and the ESN values are no algorithms and have no row. */
#ifndef PROTO_SUITE_H
#define PROTO_SUITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/crypto.h"

enum transform_type {
    TRANSFORM_ENCR = 1,
    TRANSFORM_PRF = 2,
    TRANSFORM_INTEG = 3,
    TRANSFORM_DH = 4,
    TRANSFORM_ESN = 5,
};

enum {
    ENCR_NULL = 11,
    ENCR_AES_CBC = 12,
    ENCR_AES_GCM_16 = 20,
    PRF_HMAC_SHA2_256 = 5,
    PRF_HMAC_SHA2_384 = 6,
    PRF_HMAC_SHA2_512 = 7,
    INTEG_NONE = 0,
    INTEG_HMAC_SHA1_96 = 2,
    INTEG_HMAC_SHA2_256_128 = 12,
    DH_NONE = 0,
    DH_MODP_1536 = 5,
    DH_MODP_2048 = 14,
    ESN_NO = 0,
    ESN_YES = 1,
};

struct transform {
    const char *name;  /* as in the API: "aes256gcm16", "sha256", "prfsha256", "modp2048" */
    enum hash_id hash; /* of PRF and integrity rows */
    uint16_t id;       /* IANA number */
    uint16_t key_bits; /* key length attribute; 0 where the transform has none */
    uint8_t type;      /* enum transform_type */
    bool in_ike;       /* may protect an IKE SA */
    bool in_child;     /* may protect a Child SA */
    bool needs_opt_in; /* only where the tunnel allows it (NULL encryption) */
    bool aead;
    uint8_t key_bytes;   /* of the cipher or MAC, without salt */
    uint8_t salt_bytes;  /* follows the key in KEYMAT (RFC 4106 §8.1) */
    uint8_t iv_bytes;    /* explicit IV on the wire */
    uint8_t icv_bytes;   /* of the AEAD, or of the MAC */
    uint8_t block_bytes; /* of the cipher, 1 for GCM and NULL; ESP pads to 4 in any case */
};

extern const struct transform transform_table[];
extern const size_t transform_count;

/* The row, or NULL. key_bits must match exactly (0 for rows without). */
const struct transform *transform_find(uint8_t type, uint16_t id, uint16_t key_bits);

/* A chosen suite, as it stands in records. Zero fields: none. */
struct suite {
    uint16_t encr, encr_bits, prf, integ, dh;
};

enum { SUITE_TEXT = 96 };
/* "aes256gcm16-prfsha256-modp2048", "aes128-sha256"; Child suites have no PRF. Returns out. */
char *suite_format(const struct suite *s, char out[SUITE_TEXT]);

#endif
