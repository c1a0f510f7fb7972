/* Stands in for proto's crypto and key memory, so that histories cost what the replication core
 * costs: with the real ones most of the time goes into ciphers, digests and wiping. What the core
 * relies on stays true of them: equal in, equal out; another key, nonce, header or text, another
 * tag; memory comes zeroed. `sim_real` is the same simulator with the real ones (CMakeLists.txt).
 */
#include <stdlib.h>
#include <string.h>

#include "proto/codec_pb.h"
#include "proto/crypto.h"
#include "proto/err.h"
#include "proto/secret.h"
#include "tests/sim/message.h"
#include "tests/sim/sim.h"

/* ---- one mixing function stands for all of them, eight bytes at a time ---- */

static uint64_t mix_word(uint64_t h, uint64_t word)
{
    h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 32;
}

static uint64_t mix(uint64_t h, const uint8_t *p, size_t n)
{
    uint64_t word;

    h = mix_word(h, n);
    for (; n >= sizeof word; p += sizeof word, n -= sizeof word) {
        memcpy(&word, p, sizeof word);
        h = mix_word(h, word);
    }
    word = 0;
    if (n)
        memcpy(&word, p, n);
    return mix_word(h, word);
}

static void expand(uint64_t h, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i += sizeof h) {
        h = mix_word(h, i + 1);
        memcpy(out + i, &h, n - i < sizeof h ? n - i : sizeof h);
    }
}

/* ---- hashes; chance is the simulator's own ---- */

int crypto_random(void *out, size_t n)
{
    (void)out;
    (void)n;
    return ERR_UNSUPPORTED;
}

int crypto_hash(enum hash_id hash, const struct slice *parts, size_t n_parts, uint8_t *out)
{
    uint64_t h = hash;

    for (size_t i = 0; i < n_parts; i++)
        h = mix(h, parts[i].p, parts[i].n);
    expand(h, out, 32); /* the core knows SHA2-256 alone */
    return ERR_OK;
}

struct hash_ctx {
    enum hash_id hash;
};

struct hash_ctx *hash_new(enum hash_id hash)
{
    struct hash_ctx *ctx = calloc(1, sizeof *ctx);

    if (ctx)
        ctx->hash = hash;
    return ctx;
}

void hash_free(struct hash_ctx *ctx)
{
    free(ctx);
}

int hash_run(struct hash_ctx *ctx, const struct slice *parts, size_t n_parts, uint8_t *out)
{
    return crypto_hash(ctx->hash, parts, n_parts, out);
}

int crypto_hkdf(enum hash_id hash, struct slice key, struct slice salt, struct slice info,
                uint8_t *out, size_t n)
{
    uint64_t h = mix(hash, key.p, key.n);

    expand(mix(mix(h, salt.p, salt.n), info.p, info.n), out, n);
    return ERR_OK;
}

/* ---- AES-GCM: the text stays as it is, the tag is a keyed checksum ---- */

struct gcm_ctx {
    uint64_t keyed;
};

struct gcm_ctx *gcm_new(struct slice key)
{
    struct gcm_ctx *ctx = malloc(sizeof *ctx);

    if (ctx)
        ctx->keyed = mix(0, key.p, key.n);
    return ctx;
}

void gcm_free(struct gcm_ctx *ctx)
{
    free(ctx);
}

static void tag_of(const struct gcm_ctx *ctx, const uint8_t *nonce, struct slice aad,
                   const uint8_t *text, size_t n, uint8_t tag[GCM_TAG])
{
    uint64_t h = mix(ctx->keyed, nonce, GCM_NONCE);

    expand(mix(mix(h, aad.p, aad.n), text, n), tag, GCM_TAG);
}

int gcm_seal(struct gcm_ctx *ctx, const uint8_t nonce[GCM_NONCE], struct slice aad,
             const uint8_t *in, size_t n, uint8_t *out, uint8_t *tag)
{
    memmove(out, in, n);
    tag_of(ctx, nonce, aad, out, n, tag);
    return ERR_OK;
}

int gcm_open(struct gcm_ctx *ctx, const uint8_t nonce[GCM_NONCE], struct slice aad,
             const uint8_t *in, size_t n, uint8_t *out, const uint8_t *tag)
{
    uint8_t wanted[GCM_TAG];

    tag_of(ctx, nonce, aad, in, n, wanted);
    if (memcmp(wanted, tag, GCM_TAG) != 0)
        return ERR_AUTH;
    memmove(out, in, n);
    return ERR_OK;
}

/* ---- key memory: no locks, no wiping; pieces of the usual sizes are used again ---- */

enum { CLASSES = 12, FIRST_BITS = 6 }; /* 64 bytes to 128 KiB */
static union piece {
    union piece *next;
} * pool[CLASSES];

static unsigned class_of(size_t n)
{
    unsigned c = 0;

    while (c < CLASSES && (size_t)1 << (FIRST_BITS + c) < n)
        c++;
    return c;
}

void *secret_alloc(size_t n)
{
    unsigned c = class_of(n);
    union piece *p;

    if (c == CLASSES)
        return NULL;
    p = pool[c];
    if (p)
        pool[c] = p->next;
    else
        p = malloc((size_t)1 << (FIRST_BITS + c));
    return p ? memset(p, 0, n) : NULL;
}

void secret_free(void *bytes, size_t n)
{
    unsigned c = class_of(n);
    union piece *p = bytes;

    if (!p)
        return;
    p->next = pool[c];
    pool[c] = p;
}

int secret_set(struct secret *s, const void *bytes, size_t n)
{
    *s = (struct secret){0};
    if (n > SECRET_MAX)
        return ERR_FULL;
    if (n)
        memcpy(s->b, bytes, n);
    s->n = (uint8_t)n;
    return ERR_OK;
}

void secret_wipe(struct secret *s)
{
    *s = (struct secret){0};
}

void wipe(void *bytes, size_t n)
{
    (void)bytes;
    (void)n;
}

/* ---- the memory of one encoding: one block, zeroed as it is handed out ---- */

enum { BLOCK_BYTES = 1 << 20 };

struct arena_chunk {
    uint8_t bytes[BLOCK_BYTES];
};

static struct arena_chunk *spare; /* encodings hardly ever nest */

struct arena arena_of(size_t budget)
{
    return (struct arena){.budget_left = budget < BLOCK_BYTES ? budget : BLOCK_BYTES};
}

void *arena_alloc(struct arena *a, size_t n)
{
    uint8_t *piece;

    n = n ? (n + 15) & ~(size_t)15 : 16;
    if (n > a->budget_left)
        return NULL;
    if (!a->chunks) {
        a->chunks = spare ? spare : malloc(sizeof *a->chunks);
        spare = NULL;
    }
    if (!a->chunks)
        return NULL;
    piece = a->chunks->bytes + a->chunk_left; /* here: what is taken */
    a->chunk_left += n;
    a->budget_left -= n;
    return memset(piece, 0, n);
}

void arena_free(struct arena *a)
{
    if (spare)
        free(a->chunks);
    else
        spare = a->chunks;
    *a = (struct arena){0};
}

static void *allocator_alloc(void *arena, size_t n)
{
    return arena_alloc(arena, n);
}

static void allocator_free(void *arena, void *piece)
{
    (void)arena;
    (void)piece;
}

ProtobufCAllocator arena_allocator(struct arena *a)
{
    return (ProtobufCAllocator){allocator_alloc, allocator_free, a};
}

/* ---- messages: their bytes are a number under which a copy is kept, and a checksum ---- */

int __wrap_codec_encode(const struct codec_message *m, uint8_t *out, size_t cap, size_t *n);
int __wrap_codec_decode(struct slice bytes, struct codec_message *out);

enum { REMEMBERED = 1 << 12, TEXT_BYTES = 16 };
static struct codec_message remembered[REMEMBERED];

static void sum_position(uint64_t *sum, const struct id128 *origin, uint64_t seq)
{
    *sum = mix_word(mix(*sum, origin->b, ID_BYTES), seq);
}

static void sum_vector(uint64_t *sum, const struct log_position *vector, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum_position(sum, &vector[i].origin, vector[i].seq);
}

static void sum_records(uint64_t *sum, struct record *const *records, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum_position(sum, &records[i]->origin, records[i]->seq);
}

static uint64_t checksum(const struct codec_message *m)
{
    uint64_t sum = m->kind;

    if (m->kind == CODEC_UPDATE)
        sum_records(&sum, m->update.records, m->update.n_records);
    if (m->kind == CODEC_ANNOUNCE) {
        for (size_t i = 0; i < m->announce.n_heard; i++)
            sum_position(&sum, &m->announce.heard[i].incarnation, m->announce.heard[i].age_ms);
        sum_vector(&sum, m->announce.applied, m->announce.n_applied);
    }
    if (m->kind == CODEC_PULL_REQUEST)
        sum_vector(&sum, m->pull_request.vector, m->pull_request.n_vector);
    if (m->kind == CODEC_PULL_REPLY) {
        sum_records(&sum, m->pull_reply.records, m->pull_reply.n_records);
        sum_vector(&sum, m->pull_reply.vector, m->pull_reply.n_vector);
    }
    return sum;
}

int __wrap_codec_encode(const struct codec_message *m, uint8_t *out, size_t cap, size_t *n)
{
    uint64_t number = ++sim_messages, sum = checksum(m);
    struct codec_message *place = &remembered[number % REMEMBERED];

    if (cap < TEXT_BYTES)
        return ERR_FULL;
    codec_message_free(place);
    *place = *m;
    message_own(place);
    memcpy(out, &sum, sizeof sum);
    memcpy(out + sizeof sum, &number, sizeof number);
    *n = TEXT_BYTES;
    return ERR_OK;
}

int __wrap_codec_decode(struct slice bytes, struct codec_message *out)
{
    uint64_t number;

    *out = (struct codec_message){0};
    if (bytes.n != TEXT_BYTES)
        return ERR_INVALID;
    memcpy(&number, bytes.p + sizeof number, sizeof number);
    if (sim_messages - number >= REMEMBERED)
        return ERR_INVALID; /* as good as lost */
    *out = remembered[number % REMEMBERED];
    message_own(out);
    return ERR_OK;
}
