#include "ike/keys.h"

#include <string.h>

#include "proto/crypto.h"
#include "proto/err.h"
#include "proto/suite.h"

/* Cuts key after key off one prf+ output. */
static void cut(struct reader *r, struct secret *s, size_t n)
{
    struct slice bytes = read_slice(r, n);

    (void)secret_set(s, bytes.p, bytes.n);
}

static struct slice spi_bytes(uint64_t spi_i, uint64_t spi_r, uint8_t out[2 * IKE_SPI_BYTES])
{
    struct writer w = writer_of(out, 2 * IKE_SPI_BYTES);

    write_u64(&w, spi_i);
    write_u64(&w, spi_r);
    return (struct slice){out, w.n};
}

/* prf(Ni | Nr, g^ir), or with an older SA prf(SK_d of it, g^ir | Ni | Nr) by *its* PRF. */
static int derive_skeyseed(const struct transform *prf, const struct ike_record *old,
                           struct slice nonce_i, struct slice nonce_r, struct slice shared,
                           uint8_t seed[HASH_MAX], size_t *n)
{
    uint8_t nonces[2 * IKE_NONCE_MAX];
    struct writer w = writer_of(nonces, sizeof nonces);

    if (old) {
        const struct transform *old_prf = transform_find(TRANSFORM_PRF, old->suite.prf, 0);
        struct slice parts[] = {shared, nonce_i, nonce_r};

        if (!old_prf)
            return ERR_UNSUPPORTED;
        *n = hash_len(old_prf->hash);
        return crypto_hmac(old_prf->hash, secret_slice(&old->sk_d), parts, 3, seed);
    }
    write_bytes(&w, nonce_i.p, nonce_i.n);
    write_bytes(&w, nonce_r.p, nonce_r.n);
    if (w.bad)
        return ERR_INVALID;
    *n = hash_len(prf->hash);
    return crypto_hmac(prf->hash, (struct slice){nonces, w.n}, &shared, 1, seed);
}

int keys_derive_ike(struct ike_record *sa, const struct ike_record *old, struct slice nonce_i,
                    struct slice nonce_r, struct slice shared)
{
    const struct transform *prf = transform_find(TRANSFORM_PRF, sa->suite.prf, 0);
    const struct transform *encr =
        transform_find(TRANSFORM_ENCR, sa->suite.encr, sa->suite.encr_bits);
    const struct transform *integ = transform_find(TRANSFORM_INTEG, sa->suite.integ, 0);
    uint8_t seed[HASH_MAX], spis[2 * IKE_SPI_BYTES];
    uint8_t all[7 * SECRET_MAX];
    size_t prf_n, encr_n, integ_n, total, seed_n;
    struct reader r;
    int rc;

    if (!prf || !encr || (!encr->aead && !integ))
        return ERR_UNSUPPORTED;
    prf_n = hash_len(prf->hash);
    encr_n = (size_t)encr->key_bytes + encr->salt_bytes;
    integ_n = encr->aead ? 0 : integ->key_bytes;
    total = 3 * prf_n + 2 * encr_n + 2 * integ_n;

    rc = derive_skeyseed(prf, old, nonce_i, nonce_r, shared, seed, &seed_n);
    if (rc == ERR_OK) {
        struct slice parts[] = {nonce_i, nonce_r, spi_bytes(sa->spi_i, sa->spi_r, spis)};

        rc = crypto_prf_plus(prf->hash, (struct slice){seed, seed_n}, parts, 3, all, total);
    }
    if (rc == ERR_OK) {
        r = reader_of(all, total);
        cut(&r, &sa->sk_d, prf_n);
        cut(&r, &sa->sk_ai, integ_n);
        cut(&r, &sa->sk_ar, integ_n);
        cut(&r, &sa->sk_ei, encr_n);
        cut(&r, &sa->sk_er, encr_n);
        cut(&r, &sa->sk_pi, prf_n);
        cut(&r, &sa->sk_pr, prf_n);
    }
    wipe(seed, sizeof seed);
    wipe(all, sizeof all);
    return rc;
}

int keys_derive_child(const struct ike_record *sa, struct slice nonce_i, struct slice nonce_r,
                      struct slice shared, bool peer_began, struct child_record *child)
{
    const struct transform *prf = transform_find(TRANSFORM_PRF, sa->suite.prf, 0);
    const struct transform *encr =
        transform_find(TRANSFORM_ENCR, child->suite.encr, child->suite.encr_bits);
    const struct transform *integ = transform_find(TRANSFORM_INTEG, child->suite.integ, 0);
    struct slice seed[] = {shared, nonce_i, nonce_r};
    uint8_t all[4 * SECRET_MAX];
    size_t encr_n, integ_n;
    struct reader r;
    int rc;

    if (!prf || !encr || (!encr->aead && !integ))
        return ERR_UNSUPPORTED;
    encr_n = (size_t)encr->key_bytes + encr->salt_bytes;
    integ_n = encr->aead ? 0 : integ->key_bytes;
    rc = crypto_prf_plus(prf->hash, secret_slice(&sa->sk_d), seed, 3, all, 2 * (encr_n + integ_n));
    if (rc == ERR_OK) {
        r = reader_of(all, 2 * (encr_n + integ_n));
        cut(&r, peer_began ? &child->encr_in : &child->encr_out, encr_n);
        cut(&r, peer_began ? &child->integ_in : &child->integ_out, integ_n);
        cut(&r, peer_began ? &child->encr_out : &child->encr_in, encr_n);
        cut(&r, peer_began ? &child->integ_out : &child->integ_in, integ_n);
    }
    wipe(all, sizeof all);
    return rc;
}

int keys_auth_psk(const struct ike_record *sa, struct slice psk, struct slice message,
                  struct slice nonce, const struct secret *sk_p, struct slice id,
                  uint8_t out[HASH_MAX], size_t *n)
{
    static const char pad[] = "Key Pad for IKEv2"; /* RFC 7296 §2.15, without the NUL */
    struct slice pad_slice = {(const uint8_t *)pad, sizeof pad - 1};
    const struct transform *prf = transform_find(TRANSFORM_PRF, sa->suite.prf, 0);
    uint8_t key[HASH_MAX], maced_id[HASH_MAX];
    int rc;

    if (!prf)
        return ERR_UNSUPPORTED;
    *n = hash_len(prf->hash);
    rc = crypto_hmac(prf->hash, psk, &pad_slice, 1, key);
    if (rc == ERR_OK)
        rc = crypto_hmac(prf->hash, secret_slice(sk_p), &id, 1, maced_id);
    if (rc == ERR_OK) {
        struct slice parts[] = {message, nonce, {maced_id, *n}};

        rc = crypto_hmac(prf->hash, (struct slice){key, *n}, parts, 3, out);
    }
    wipe(key, sizeof key);
    return rc;
}

enum { FRAGMENT_HEADER = 4 };

/* What protects one direction of an IKE SA. */
struct protection {
    const struct transform *encr, *integ;
    struct slice key; /* of the cipher, without salt */
    struct slice salt;
    struct slice integ_key;
    size_t iv_n, icv_n;
};

static bool protection_of(const struct ike_record *sa, bool from_initiator, struct protection *out)
{
    const struct secret *e = from_initiator ? &sa->sk_ei : &sa->sk_er;
    const struct secret *a = from_initiator ? &sa->sk_ai : &sa->sk_ar;

    out->encr = transform_find(TRANSFORM_ENCR, sa->suite.encr, sa->suite.encr_bits);
    out->integ = transform_find(TRANSFORM_INTEG, sa->suite.integ, 0);
    if (!out->encr || (!out->encr->aead && !out->integ) ||
        e->n != out->encr->key_bytes + out->encr->salt_bytes)
        return false;
    out->key = (struct slice){e->b, out->encr->key_bytes};
    out->salt = (struct slice){e->b + out->encr->key_bytes, out->encr->salt_bytes};
    out->integ_key = secret_slice(a);
    out->iv_n = out->encr->iv_bytes;
    out->icv_n = out->encr->aead ? out->encr->icv_bytes : out->integ->icv_bytes;
    return true;
}

static void make_nonce(const struct protection *p, const uint8_t *iv, uint8_t nonce[GCM_NONCE])
{
    memcpy(nonce, p->salt.p, 4);
    memcpy(nonce + 4, iv, 8);
}

static int open_gcm(const struct protection *p, struct slice aad, struct slice body, uint8_t *plain)
{
    uint8_t nonce[GCM_NONCE];
    struct gcm_ctx *ctx = gcm_new(p->key);
    size_t text_n = body.n - p->iv_n - p->icv_n;
    int rc;

    if (!ctx)
        return ERR_CRYPTO;
    make_nonce(p, body.p, nonce);
    rc = gcm_open(ctx, nonce, aad, body.p + p->iv_n, text_n, plain, body.p + p->iv_n + text_n);
    gcm_free(ctx);
    return rc;
}

static int open_cbc(const struct protection *p, struct slice raw, struct slice body, uint8_t *plain)
{
    struct slice covered = {raw.p, raw.n - p->icv_n};
    size_t text_n = body.n - p->iv_n - p->icv_n;
    uint8_t mac[HASH_MAX];
    struct cbc_ctx *ctx;
    int rc = crypto_hmac(p->integ->hash, p->integ_key, &covered, 1, mac);

    if (rc != ERR_OK)
        return rc;
    if (!crypto_equal(mac, raw.p + covered.n, p->icv_n))
        return ERR_AUTH;
    if (text_n == 0 || text_n % CBC_BLOCK)
        return ERR_INVALID;
    ctx = cbc_new(p->key);
    if (!ctx)
        return ERR_CRYPTO;
    rc = cbc_decrypt(ctx, body.p, body.p + p->iv_n, text_n, plain);
    cbc_free(ctx);
    return rc;
}

int sk_open(const struct ike_record *sa, const struct message *m, bool from_initiator,
            uint8_t *plain, size_t *n)
{
    const struct payload *sk = m->n ? &m->payloads[m->n - 1] : NULL;
    struct protection p;
    struct slice body;
    size_t text_n;
    int rc;

    if (!sk || (sk->type != PAYLOAD_SK && sk->type != PAYLOAD_SKF) ||
        !protection_of(sa, from_initiator, &p))
        return ERR_INVALID;
    body = sk->body;
    if (sk->type == PAYLOAD_SKF) { /* fragment number and total are authenticated, not encrypted */
        if (body.n < FRAGMENT_HEADER)
            return ERR_INVALID;
        body.p += FRAGMENT_HEADER;
        body.n -= FRAGMENT_HEADER;
    }
    if (body.n < p.iv_n + p.icv_n + 1)
        return ERR_INVALID;
    text_n = body.n - p.iv_n - p.icv_n;
    if (p.encr->aead) {
        struct slice aad = {m->raw.p, (size_t)(body.p - m->raw.p)};

        rc = open_gcm(&p, aad, body, plain);
    } else {
        rc = open_cbc(&p, m->raw, body, plain);
    }
    if (rc != ERR_OK)
        return rc;
    if ((size_t)plain[text_n - 1] + 1 > text_n)
        return ERR_INVALID;
    *n = text_n - 1 - plain[text_n - 1];
    return ERR_OK;
}

/* Fills IV, ciphertext and ICV in place: `body` points behind the SK payload header,
 * its plaintext (with padding) stands already behind the room for the IV. */
static int protect(const struct protection *p, uint8_t *message, uint8_t *body, size_t text_n,
                   uint64_t iv, const struct rng *rng)
{
    uint8_t *text = body + p->iv_n, *icv = text + text_n;
    int rc;

    if (p->encr->aead) {
        struct writer w = writer_of(body, 8);
        struct slice aad = {message, (size_t)(body - message)};
        struct gcm_ctx *ctx = gcm_new(p->key);
        uint8_t nonce[GCM_NONCE];

        if (!ctx)
            return ERR_CRYPTO;
        write_u64(&w, iv);
        make_nonce(p, body, nonce);
        rc = gcm_seal(ctx, nonce, aad, text, text_n, text, icv);
        gcm_free(ctx);
    } else {
        struct slice covered = {message, (size_t)(icv - message)};
        struct cbc_ctx *ctx = cbc_new(p->key);
        uint8_t mac[HASH_MAX];

        if (!ctx)
            return ERR_CRYPTO;
        rng_fill(rng, body, p->iv_n);
        rc = cbc_encrypt(ctx, body, text, text_n, text);
        cbc_free(ctx);
        if (rc == ERR_OK)
            rc = crypto_hmac(p->integ->hash, p->integ_key, &covered, 1, mac);
        if (rc == ERR_OK)
            memcpy(icv, mac, p->icv_n);
    }
    return rc;
}

/* Padding to the cipher's block; the pad length octet counts (RFC 7296 §3.14). */
static size_t padding_of(const struct protection *p, size_t n)
{
    return p->encr->aead ? 0 : (CBC_BLOCK - (n + 1) % CBC_BLOCK) % CBC_BLOCK;
}

/* total 0: the whole chain in an SK payload. */
int skf_seal(const struct ike_record *sa, bool as_initiator, uint8_t exchange, uint8_t flags,
             uint32_t id, const struct fragment *f, uint64_t iv, const struct rng *rng,
             uint8_t *out, size_t cap, size_t *n)
{
    size_t pad, text_n, body_at, number_n = f->total ? FRAGMENT_HEADER : 0;
    struct writer w = writer_of(out, cap);
    struct protection p;
    int rc;

    if (!protection_of(sa, as_initiator, &p))
        return ERR_INVALID;
    pad = padding_of(&p, f->piece.n);
    text_n = f->piece.n + pad + 1;

    message_header(&w, sa->spi_i, sa->spi_r, f->total ? PAYLOAD_SKF : PAYLOAD_SK, exchange,
                   flags | (as_initiator ? IKE_FLAG_INITIATOR : 0), id);
    write_u8(&w, f->first);
    write_u8(&w, 0);
    write_u16(&w, (uint16_t)(IKE_PAYLOAD_HEADER_BYTES + number_n + p.iv_n + text_n + p.icv_n));
    if (f->total) {
        write_u16(&w, f->number);
        write_u16(&w, f->total);
    }
    body_at = w.n;
    write_zeros(&w, p.iv_n);
    write_bytes(&w, f->piece.p, f->piece.n);
    write_zeros(&w, pad);
    write_u8(&w, (uint8_t)pad);
    write_zeros(&w, p.icv_n);
    message_finish(&w);
    if (w.bad)
        return ERR_FULL;
    rc = protect(&p, out, out + body_at, text_n, iv, rng);
    *n = w.n;
    return rc;
}

int sk_seal(const struct ike_record *sa, bool as_initiator, uint8_t exchange, uint8_t flags,
            uint32_t id, const struct chain *inner, uint64_t iv, const struct rng *rng,
            uint8_t *out, size_t cap, size_t *n)
{
    struct fragment whole = {.first = inner->any ? inner->first : PAYLOAD_NONE,
                             .piece = {inner->w.p, inner->w.n}};

    if (inner->w.bad)
        return ERR_INVALID;
    return skf_seal(sa, as_initiator, exchange, flags, id, &whole, iv, rng, out, cap, n);
}

size_t skf_room(const struct ike_record *sa, bool as_initiator, size_t message_n)
{
    struct protection p;
    size_t fixed, room;

    if (!protection_of(sa, as_initiator, &p))
        return 0;
    fixed = IKE_HEADER_BYTES + IKE_PAYLOAD_HEADER_BYTES + FRAGMENT_HEADER + p.iv_n + p.icv_n;
    if (message_n <= fixed)
        return 0;
    room = message_n - fixed;
    if (!p.encr->aead)
        room -= room % CBC_BLOCK;
    return room ? room - 1 : 0;
}
