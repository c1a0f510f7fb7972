/* OpenSSL keeps a key's schedule, whose first rounds are the key itself, on its own heap. So it
 * gets our memory for everything: what is locked, kept out of dumps and wiped when freed. */
#include <openssl/crypto.h>

#include "proto/crypto.h"
#include "proto/err.h"
#include "proto/secret.h"

static void *lib_malloc(size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return secret_malloc(n);
}

static void *lib_realloc(void *bytes, size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return secret_realloc(bytes, n);
}

static void lib_free(void *bytes, const char *file, int line)
{
    (void)file;
    (void)line;
    secret_release(bytes);
}

int crypto_keep_in_custody(void)
{
    return CRYPTO_set_mem_functions(lib_malloc, lib_realloc, lib_free) == 1 ? ERR_OK : ERR_INVALID;
}
