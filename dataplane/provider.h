/* Crypto providers: who seals and opens ESP, in batches.
 *
 * A provider_key is the crypto state of one direction of one SA, with what each
 * lane needs of its own, so that lanes share nothing that changes. It is made
 * and freed on the loop thread (or, when freed, by the thread that runs
 * read-copy-update's callbacks); the batch calls run on lanes. */
#ifndef DATAPLANE_PROVIDER_H
#define DATAPLANE_PROVIDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/crypto.h"
#include "proto/cursor.h"

enum esp_mode { ESP_GCM = 1, ESP_CBC_HMAC, ESP_NULL_HMAC };

/* How ESP of a suite looks on the wire (RFC 4303 §2). */
struct esp_suite {
    uint8_t mode;      /* enum esp_mode */
    uint8_t iv_bytes;  /* explicit IV: 8, 16 or 0 */
    uint8_t icv_bytes; /* 16 or 12 */
    uint8_t align;     /* the cipher text is a multiple of this: 4 or 16 */
};

enum { ESP_SALT_BYTES = 4, ESP_IV_MAX = 16 };

struct provider_key;

struct provider_key_config {
    struct esp_suite suite;
    enum hash_id hash;  /* of the HMAC; unused with GCM */
    struct slice encr;  /* key, with GCM followed by its salt (RFC 4106 §8.1); empty with NULL */
    struct slice integ; /* empty with GCM */
    unsigned lanes;
};

/* One packet: ESP header | IV | text | ICV, contiguous, worked on in place. */
struct crypto_job {
    struct provider_key *key;
    uint8_t *esp;    /* the ESP header, ESP_HEADER_BYTES: authenticated from here */
    uint32_t text_n; /* octets of text; a multiple of the suite's align */
    bool ok;         /* answer */
};

struct provider_ops {
    const char *name;
    /* False where the processor lacks what it needs. */
    bool (*usable)(void);
    /* 0, ERR_CRYPTO, ERR_INVALID (key lengths) or ERR_NOMEM. Key bytes are copied. */
    int (*key_new)(const struct provider_key_config *config, struct provider_key **out);
    void (*key_free)(struct provider_key *key); /* wipes; NULL is fine */
    /* Encrypts the text and writes the ICV. The IV stands in the packet already. */
    void (*seal_batch)(unsigned lane, struct crypto_job *jobs, size_t n);
    /* Checks the ICV in constant time and, only where it fits, decrypts the text. */
    void (*open_batch)(unsigned lane, struct crypto_job *jobs, size_t n);
};

/* All that were built in, the preferred one first. */
extern const struct provider_ops *const provider_table[];
extern const size_t provider_count;

/* The named one, or with "auto" the first usable one; NULL when there is none. */
const struct provider_ops *provider_find(const char *name);

extern const struct provider_ops provider_openssl;

#endif
