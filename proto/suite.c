#include "proto/suite.h"

#include <stdio.h>

/* A row is to be read as one. */
/* clang-format off */
const struct transform transform_table[] = {
    /* Encryption: AES-GCM (RFC 4106, in IKE RFC 5282), AES-CBC (RFC 3602), NULL (RFC 2410). */
    {.type = TRANSFORM_ENCR, .id = ENCR_AES_GCM_16, .key_bits = 256, .name = "aes256gcm16",
     .in_ike = true, .in_child = true, .aead = true,
     .key_bytes = 32, .salt_bytes = 4, .iv_bytes = 8, .icv_bytes = 16, .block_bytes = 1},
    {.type = TRANSFORM_ENCR, .id = ENCR_AES_GCM_16, .key_bits = 128, .name = "aes128gcm16",
     .in_ike = true, .in_child = true, .aead = true,
     .key_bytes = 16, .salt_bytes = 4, .iv_bytes = 8, .icv_bytes = 16, .block_bytes = 1},
    {.type = TRANSFORM_ENCR, .id = ENCR_AES_CBC, .key_bits = 256, .name = "aes256",
     .in_ike = true, .in_child = true,
     .key_bytes = 32, .iv_bytes = 16, .block_bytes = 16},
    {.type = TRANSFORM_ENCR, .id = ENCR_AES_CBC, .key_bits = 128, .name = "aes128",
     .in_child = true,
     .key_bytes = 16, .iv_bytes = 16, .block_bytes = 16},
    {.type = TRANSFORM_ENCR, .id = ENCR_NULL, .name = "null",
     .in_child = true, .needs_opt_in = true,
     .block_bytes = 1},
    /* Pseudo-random functions (RFC 4868 §2.4): the preferred key is as long as the output. */
    {.type = TRANSFORM_PRF, .id = PRF_HMAC_SHA2_256, .name = "prfsha256",
     .in_ike = true, .key_bytes = 32, .hash = HASH_SHA256},
    {.type = TRANSFORM_PRF, .id = PRF_HMAC_SHA2_384, .name = "prfsha384",
     .in_ike = true, .key_bytes = 48, .hash = HASH_SHA384},
    {.type = TRANSFORM_PRF, .id = PRF_HMAC_SHA2_512, .name = "prfsha512",
     .in_ike = true, .key_bytes = 64, .hash = HASH_SHA512},
    /* Integrity: truncated HMACs (RFC 4868 §2.3, RFC 2404). */
    {.type = TRANSFORM_INTEG, .id = INTEG_HMAC_SHA2_256_128, .name = "sha256",
     .in_ike = true, .in_child = true, .key_bytes = 32, .icv_bytes = 16, .hash = HASH_SHA256},
    {.type = TRANSFORM_INTEG, .id = INTEG_HMAC_SHA1_96, .name = "sha1",
     .in_child = true, .key_bytes = 20, .icv_bytes = 12, .hash = HASH_SHA1},
    /* Diffie-Hellman (RFC 3526): in a Child SA this is PFS. */
    {.type = TRANSFORM_DH, .id = DH_MODP_2048, .name = "modp2048",
     .in_ike = true, .in_child = true},
    {.type = TRANSFORM_DH, .id = DH_MODP_1536, .name = "modp1536",
     .in_ike = true, .in_child = true},
};
/* clang-format on */
const size_t transform_count = sizeof transform_table / sizeof *transform_table;

const struct transform *transform_find(uint8_t type, uint16_t id, uint16_t key_bits)
{
    for (size_t i = 0; i < transform_count; i++) {
        const struct transform *t = &transform_table[i];
        if (t->type == type && t->id == id && t->key_bits == key_bits)
            return t;
    }
    return NULL;
}

/* Appends "-name", or type and numbers of a transform that we do not have. */
static void append(char out[SUITE_TEXT], size_t *n, uint8_t type, uint16_t id, uint16_t bits)
{
    static const char *const types[] = {"", "encr", "prf", "integ", "dh"};
    const struct transform *t = transform_find(type, id, bits);
    char unknown[32];

    if (id == 0)
        return;
    if (!t && bits)
        snprintf(unknown, sizeof unknown, "%s(%u/%u)", types[type], id, bits);
    else if (!t)
        snprintf(unknown, sizeof unknown, "%s(%u)", types[type], id);
    *n += (size_t)snprintf(out + *n, SUITE_TEXT - *n, "%s%s", *n ? "-" : "", t ? t->name : unknown);
}

char *suite_format(const struct suite *s, char out[SUITE_TEXT])
{
    size_t n = 0;

    out[0] = 0;
    append(out, &n, TRANSFORM_ENCR, s->encr, s->encr_bits);
    append(out, &n, TRANSFORM_INTEG, s->integ, 0);
    append(out, &n, TRANSFORM_PRF, s->prf, 0);
    append(out, &n, TRANSFORM_DH, s->dh, 0);
    return out;
}
