/* AES-GCM and AES-CBC. Contexts are keyed once: a message then costs no key schedule and no
 * allocation. GCM has one key schedule for both directions, CBC one for each. */
#include <limits.h>
#include <stdlib.h>

#include "proto/crypto.h"
#include "proto/crypto_lib.h"
#include "proto/err.h"
#include "proto/secret.h"

/* OpenSSL counts bytes in an int. */
static bool fits(size_t n)
{
    return n <= INT_MAX;
}

/* ---- AES-GCM ---- */

struct gcm_ctx {
    EVP_CIPHER_CTX *aes;
};

struct gcm_ctx *gcm_new(struct slice key)
{
    const struct crypto_algs *algs = crypto_algs();
    const EVP_CIPHER *cipher = key.n == 16 ? algs->gcm128 : algs->gcm256;
    struct gcm_ctx *ctx;

    if ((key.n != 16 && key.n != 32) || !cipher)
        return NULL;
    ctx = calloc(1, sizeof *ctx);
    if (!ctx)
        return NULL;
    ctx->aes = EVP_CIPHER_CTX_new();
    /* The default nonce length is GCM_NONCE octets. */
    if (ctx->aes && EVP_EncryptInit_ex2(ctx->aes, cipher, key.p, NULL, NULL) == 1)
        return ctx;
    (void)crypto_failed();
    gcm_free(ctx);
    return NULL;
}

void gcm_free(struct gcm_ctx *ctx)
{
    if (!ctx)
        return;
    EVP_CIPHER_CTX_free(ctx->aes); /* wipes its key schedule */
    free(ctx);
}

int gcm_seal(struct gcm_ctx *ctx, const uint8_t nonce[GCM_NONCE], struct slice aad,
             const uint8_t *in, size_t n, uint8_t *out, uint8_t *tag)
{
    EVP_CIPHER_CTX *aes = ctx->aes;
    uint8_t none[1];
    int part;
    bool ok = fits(n) && fits(aad.n) && EVP_EncryptInit_ex2(aes, NULL, NULL, nonce, NULL) == 1;

    if (ok && aad.n)
        ok = EVP_EncryptUpdate(aes, NULL, &part, aad.p, (int)aad.n) == 1;
    if (ok && n)
        ok = EVP_EncryptUpdate(aes, out, &part, in, (int)n) == 1;
    ok = ok && EVP_EncryptFinal_ex(aes, none, &part) == 1 &&
         EVP_CIPHER_CTX_ctrl(aes, EVP_CTRL_AEAD_GET_TAG, GCM_TAG, tag) == 1;
    if (ok)
        return ERR_OK;
    wipe(out, n);
    wipe(tag, GCM_TAG);
    return crypto_failed();
}

int gcm_open(struct gcm_ctx *ctx, const uint8_t nonce[GCM_NONCE], struct slice aad,
             const uint8_t *in, size_t n, uint8_t *out, const uint8_t *tag)
{
    EVP_CIPHER_CTX *aes = ctx->aes;
    void *expected = (void *)(uintptr_t)tag; /* read only; the control call lacks a const */
    uint8_t none[1];
    int part;
    bool ok = fits(n) && fits(aad.n) && EVP_DecryptInit_ex2(aes, NULL, NULL, nonce, NULL) == 1 &&
              EVP_CIPHER_CTX_ctrl(aes, EVP_CTRL_AEAD_SET_TAG, GCM_TAG, expected) == 1;

    if (ok && aad.n)
        ok = EVP_DecryptUpdate(aes, NULL, &part, aad.p, (int)aad.n) == 1;
    if (ok && n)
        ok = EVP_DecryptUpdate(aes, out, &part, in, (int)n) == 1;
    if (ok && EVP_DecryptFinal_ex(aes, none, &part) == 1)
        return ERR_OK;
    wipe(out, n);
    (void)crypto_failed();
    return ok ? ERR_AUTH : ERR_CRYPTO;
}

/* ---- AES-CBC ---- */

struct pair {
    EVP_CIPHER_CTX *seal, *open;
};

static void pair_free(struct pair *p)
{
    EVP_CIPHER_CTX_free(p->seal); /* wipes its key schedule */
    EVP_CIPHER_CTX_free(p->open);
}

static bool pair_init(struct pair *p, const EVP_CIPHER *cipher, struct slice key)
{
    p->seal = EVP_CIPHER_CTX_new();
    p->open = EVP_CIPHER_CTX_new();
    if (cipher && p->seal && p->open &&
        EVP_EncryptInit_ex2(p->seal, cipher, key.p, NULL, NULL) == 1 &&
        EVP_DecryptInit_ex2(p->open, cipher, key.p, NULL, NULL) == 1)
        return true;
    (void)crypto_failed();
    return false;
}

struct cbc_ctx {
    struct pair aes;
};

struct cbc_ctx *cbc_new(struct slice key)
{
    const struct crypto_algs *algs = crypto_algs();
    struct cbc_ctx *ctx;

    if (key.n != 16 && key.n != 32)
        return NULL;
    ctx = calloc(1, sizeof *ctx);
    if (ctx && (!pair_init(&ctx->aes, key.n == 16 ? algs->cbc128 : algs->cbc256, key) ||
                EVP_CIPHER_CTX_set_padding(ctx->aes.seal, 0) != 1 ||
                EVP_CIPHER_CTX_set_padding(ctx->aes.open, 0) != 1)) {
        cbc_free(ctx);
        return NULL;
    }
    return ctx;
}

void cbc_free(struct cbc_ctx *ctx)
{
    if (!ctx)
        return;
    pair_free(&ctx->aes);
    free(ctx);
}

/* The context knows its direction. */
static int cbc_run(EVP_CIPHER_CTX *aes, const uint8_t *iv, const uint8_t *in, size_t n,
                   uint8_t *out)
{
    int part = 0;

    if (!fits(n) || n % CBC_BLOCK) {
        wipe(out, n);
        return ERR_INVALID;
    }
    if (n == 0)
        return ERR_OK;
    if (EVP_CipherInit_ex2(aes, NULL, NULL, iv, -1, NULL) == 1 &&
        EVP_CipherUpdate(aes, out, &part, in, (int)n) == 1 && (size_t)part == n)
        return ERR_OK;
    wipe(out, n);
    return crypto_failed();
}

int cbc_encrypt(struct cbc_ctx *ctx, const uint8_t iv[CBC_BLOCK], const uint8_t *in, size_t n,
                uint8_t *out)
{
    return cbc_run(ctx->aes.seal, iv, in, n, out);
}

int cbc_decrypt(struct cbc_ctx *ctx, const uint8_t iv[CBC_BLOCK], const uint8_t *in, size_t n,
                uint8_t *out)
{
    return cbc_run(ctx->aes.open, iv, in, n, out);
}
