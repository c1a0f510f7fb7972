/* The provider that runs everywhere: one packet after the other through the
 * contexts of proto/crypto.h, keyed once per SA, direction and lane. */
#include "dataplane/provider.h"

#include <string.h>

#include "proto/err.h"
#include "proto/secret.h"
#include "proto/wire_ip.h"

struct lane_ctx {
    struct gcm_ctx *gcm;
    struct cbc_ctx *cbc;
    struct hmac_ctx *hmac;
};

struct provider_key {
    struct esp_suite suite;
    uint8_t salt[ESP_SALT_BYTES];
    unsigned lanes;
    struct lane_ctx ctx[];
};

static size_t key_bytes(unsigned lanes)
{
    return sizeof(struct provider_key) + lanes * sizeof(struct lane_ctx);
}

static bool usable(void)
{
    return true;
}

static void key_free(struct provider_key *key)
{
    if (!key)
        return;
    for (unsigned i = 0; i < key->lanes; i++) {
        gcm_free(key->ctx[i].gcm);
        cbc_free(key->ctx[i].cbc);
        hmac_free(key->ctx[i].hmac);
    }
    secret_free(key, key_bytes(key->lanes));
}

static bool ctx_open(struct lane_ctx *ctx, const struct provider_key_config *config)
{
    struct slice cipher = config->encr;

    if (config->suite.mode == ESP_GCM) {
        cipher.n -= ESP_SALT_BYTES;
        ctx->gcm = gcm_new(cipher);
        return ctx->gcm != NULL;
    }
    if (config->suite.mode == ESP_CBC_HMAC) {
        ctx->cbc = cbc_new(cipher);
        if (!ctx->cbc)
            return false;
    }
    ctx->hmac = hmac_new(config->hash, config->integ);
    return ctx->hmac != NULL;
}

static bool lengths_fit(const struct provider_key_config *c)
{
    size_t n = c->encr.n - (c->suite.mode == ESP_GCM ? ESP_SALT_BYTES : 0);

    if (c->suite.mode == ESP_NULL_HMAC)
        return c->encr.n == 0 && c->integ.n > 0;
    if (c->encr.n < ESP_SALT_BYTES || (n != 16 && n != 32))
        return false;
    return c->suite.mode == ESP_GCM ? c->integ.n == 0 : c->integ.n > 0;
}

static int key_new(const struct provider_key_config *config, struct provider_key **out)
{
    struct provider_key *key;

    if (!lengths_fit(config))
        return ERR_INVALID;
    key = secret_alloc(key_bytes(config->lanes));
    if (!key)
        return ERR_NOMEM;
    key->suite = config->suite;
    key->lanes = config->lanes;
    if (config->suite.mode == ESP_GCM)
        memcpy(key->salt, config->encr.p + config->encr.n - ESP_SALT_BYTES, ESP_SALT_BYTES);
    for (unsigned i = 0; i < config->lanes; i++) {
        if (!ctx_open(&key->ctx[i], config)) {
            key_free(key);
            return ERR_CRYPTO;
        }
    }
    *out = key;
    return ERR_OK;
}

/* Salt and explicit IV (RFC 4106 §4). */
static void make_nonce(const struct provider_key *key, const uint8_t *iv, uint8_t nonce[GCM_NONCE])
{
    memcpy(nonce, key->salt, ESP_SALT_BYTES);
    memcpy(nonce + ESP_SALT_BYTES, iv, GCM_NONCE - ESP_SALT_BYTES);
}

static bool mac(struct hmac_ctx *ctx, const struct crypto_job *job, uint8_t out[HASH_MAX])
{
    struct slice covered = {job->esp, ESP_HEADER_BYTES + job->key->suite.iv_bytes + job->text_n};

    return hmac_run(ctx, &covered, 1, out) == ERR_OK;
}

static bool seal(struct lane_ctx *ctx, struct crypto_job *job)
{
    const struct provider_key *key = job->key;
    uint8_t *iv = job->esp + ESP_HEADER_BYTES, *text = iv + key->suite.iv_bytes;
    uint8_t *icv = text + job->text_n, nonce[GCM_NONCE], digest[HASH_MAX];

    if (key->suite.mode == ESP_GCM) {
        make_nonce(key, iv, nonce);
        return gcm_seal(ctx->gcm, nonce, (struct slice){job->esp, ESP_HEADER_BYTES}, text,
                        job->text_n, text, icv) == ERR_OK;
    }
    if (key->suite.mode == ESP_CBC_HMAC &&
        cbc_encrypt(ctx->cbc, iv, text, job->text_n, text) != ERR_OK)
        return false;
    if (!mac(ctx->hmac, job, digest))
        return false;
    memcpy(icv, digest, key->suite.icv_bytes);
    return true;
}

static bool open(struct lane_ctx *ctx, struct crypto_job *job)
{
    const struct provider_key *key = job->key;
    uint8_t *iv = job->esp + ESP_HEADER_BYTES, *text = iv + key->suite.iv_bytes;
    uint8_t *icv = text + job->text_n, nonce[GCM_NONCE], digest[HASH_MAX];

    if (key->suite.mode == ESP_GCM) {
        make_nonce(key, iv, nonce);
        return gcm_open(ctx->gcm, nonce, (struct slice){job->esp, ESP_HEADER_BYTES}, text,
                        job->text_n, text, icv) == ERR_OK;
    }
    if (!mac(ctx->hmac, job, digest) || !crypto_equal(digest, icv, key->suite.icv_bytes))
        return false;
    return key->suite.mode == ESP_NULL_HMAC ||
           cbc_decrypt(ctx->cbc, iv, text, job->text_n, text) == ERR_OK;
}

static void seal_batch(unsigned lane, struct crypto_job *jobs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        jobs[i].ok = seal(&jobs[i].key->ctx[lane], &jobs[i]);
}

static void open_batch(unsigned lane, struct crypto_job *jobs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        jobs[i].ok = open(&jobs[i].key->ctx[lane], &jobs[i]);
}

const struct provider_ops provider_openssl = {
    .name = "openssl",
    .usable = usable,
    .key_new = key_new,
    .key_free = key_free,
    .seal_batch = seal_batch,
    .open_batch = open_batch,
};
