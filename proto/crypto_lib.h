/* Shared by crypto*.c alone: the algorithms, fetched from OpenSSL's providers once
 * (a fetch walks the providers under a lock: too slow for each packet). */
#ifndef PROTO_CRYPTO_LIB_H
#define PROTO_CRYPTO_LIB_H

#include <openssl/evp.h>

#include "proto/crypto.h"

struct crypto_algs {
    EVP_MD *md[HASH_SHA512 + 1]; /* by enum hash_id */
    EVP_CIPHER *gcm128, *gcm256, *cbc128, *cbc256;
};

/* Never NULL; a member is NULL where the library lacks the algorithm. Any thread. */
const struct crypto_algs *crypto_algs(void);

/* Drops OpenSSL's queued errors of this thread and returns ERR_CRYPTO: the queue
 * would else show up in whatever OpenSSL call of this thread comes next. */
int crypto_failed(void);

#endif
