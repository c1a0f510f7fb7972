#include "sync/frame.h"

#include <stdlib.h>
#include <string.h>

#include "proto/crypto.h"
#include "proto/err.h"

enum { OPENERS = 4 /* per slot: two incarnations, two keys */, KEY_BYTES = 32 };
static const char key_label[] = "anysa mesh frame v1", check_label[] = "anysa cluster key check v1";

/* The key schedule of a sender's incarnation, kept once a frame of it was authentic. */
struct opener {
    uint32_t key_id;
    struct id128 incarnation;
    struct gcm_ctx *gcm;
    uint64_t used; /* for eviction: when, in opens */
};

struct frame_box {
    struct cluster_key keys[FRAME_KEYS_MAX];
    uint32_t checks[FRAME_KEYS_MAX];
    size_t n_keys;
    uint8_t cluster[FRAME_CLUSTER_BYTES];
    uint16_t slot;
    struct id128 incarnation;
    struct gcm_ctx *sealer;
    uint64_t number;                   /* the last one given out */
    struct opener (*openers)[OPENERS]; /* by slot */
    uint64_t opens;
};

static const struct {
    const char *text, *name;
} refusals[] = {
#define REFUSAL(name, text) {text, #name},
#include "sync/frame_refusal.def"
#undef REFUSAL
};

_Static_assert(REFUSED_COUNT ==
                   sizeof((struct sync_stats *)0)->refused_by_reason / sizeof(uint64_t),
               "sync_stats counts every reason");

const char *frame_refusal_text(enum frame_refusal r)
{
    return r < REFUSED_COUNT ? refusals[r].text : "taken";
}

const char *frame_refusal_name(enum frame_refusal r)
{
    return r < REFUSED_COUNT ? refusals[r].name : "TAKEN";
}

static struct gcm_ctx *gcm_of(const struct cluster_key *key, const struct id128 *incarnation)
{
    uint8_t info[sizeof key_label - 1 + ID_BYTES], derived[KEY_BYTES];
    struct gcm_ctx *gcm = NULL;

    memcpy(info, key_label, sizeof key_label - 1);
    memcpy(info + sizeof key_label - 1, incarnation->b, ID_BYTES);
    if (crypto_hkdf(HASH_SHA256, secret_slice(&key->key), (struct slice){NULL, 0},
                    (struct slice){info, sizeof info}, derived, sizeof derived) == ERR_OK)
        gcm = gcm_new((struct slice){derived, sizeof derived});
    wipe(derived, sizeof derived);
    return gcm;
}

int sync_key_check(const struct cluster_key *key, uint32_t *out)
{
    struct slice info = {(const uint8_t *)check_label, sizeof check_label - 1};
    uint8_t derived[4] = {0};
    struct reader r = reader_of(derived, sizeof derived);
    int rc = crypto_hkdf(HASH_SHA256, secret_slice(&key->key), (struct slice){NULL, 0}, info,
                         derived, sizeof derived);

    *out = read_u32(&r);
    return rc;
}

/* Derived anew when next needed: an id may stand for another key now. */
static void forget_openers(struct frame_box *box)
{
    for (size_t i = 0; i <= SLOT_MAX; i++)
        for (size_t k = 0; k < OPENERS; k++) {
            gcm_free(box->openers[i][k].gcm);
            box->openers[i][k] = (struct opener){0};
        }
}

int frame_box_set_keys(struct frame_box *box, const struct cluster_key *keys, size_t n_keys)
{
    uint32_t checks[FRAME_KEYS_MAX] = {0};
    struct gcm_ctx *sealer;
    int rc = n_keys && n_keys <= FRAME_KEYS_MAX ? ERR_OK : ERR_INVALID;

    for (size_t i = 0; rc == ERR_OK && i < n_keys; i++)
        rc = sync_key_check(&keys[i], &checks[i]);
    if (rc != ERR_OK)
        return rc;
    sealer = gcm_of(&keys[0], &box->incarnation);
    if (!sealer)
        return ERR_CRYPTO;
    gcm_free(box->sealer);
    box->sealer = sealer;
    forget_openers(box);
    wipe(box->keys, sizeof box->keys);
    memcpy(box->keys, keys, n_keys * sizeof *keys);
    memcpy(box->checks, checks, sizeof checks);
    box->n_keys = n_keys;
    return ERR_OK;
}

size_t frame_box_keys(const struct frame_box *box, struct frame_key *out)
{
    for (size_t i = 0; i < box->n_keys; i++)
        out[i] = (struct frame_key){box->keys[i].id, box->checks[i]};
    return box->n_keys;
}

struct frame_box *frame_box_new(const char *cluster, const struct cluster_key *keys, size_t n_keys,
                                uint16_t slot, const struct id128 *incarnation)
{
    struct slice name = {(const uint8_t *)cluster, strlen(cluster)};
    uint8_t digest[HASH_MAX];
    struct frame_box *box = secret_alloc(sizeof *box);

    if (!box)
        return NULL;
    box->slot = slot;
    box->incarnation = *incarnation;
    box->openers = calloc(SLOT_MAX + 1, sizeof *box->openers);
    if (!box->openers || frame_box_set_keys(box, keys, n_keys) != ERR_OK ||
        crypto_hash(HASH_SHA256, &name, 1, digest) != ERR_OK) {
        frame_box_free(box);
        return NULL;
    }
    memcpy(box->cluster, digest, FRAME_CLUSTER_BYTES);
    return box;
}

void frame_box_free(struct frame_box *box)
{
    if (!box)
        return;
    for (size_t i = 0; box->openers && i <= SLOT_MAX; i++)
        for (size_t k = 0; k < OPENERS; k++)
            gcm_free(box->openers[i][k].gcm);
    free(box->openers);
    gcm_free(box->sealer);
    secret_free(box, sizeof *box);
}

uint64_t frame_box_number(const struct frame_box *box)
{
    return box->number;
}

/* ---- the header ---- */

static void header_write(const struct frame_box *box, const struct frame_header *h, uint8_t *out)
{
    struct writer w = writer_of(out, FRAME_HEADER_BYTES);

    write_u8(&w, FRAME_VERSION);
    write_u8(&w, h->channel);
    write_u16(&w, h->slot);
    write_u16(&w, h->to_slot);
    write_u32(&w, h->key_id);
    write_bytes(&w, box->cluster, FRAME_CLUSTER_BYTES);
    write_bytes(&w, h->incarnation.b, ID_BYTES);
    write_u64(&w, h->number);
}

enum frame_refusal frame_peek(const struct frame_box *box, struct slice bytes,
                              struct frame_header *out)
{
    struct reader r = reader_of(bytes.p, bytes.n);
    uint8_t version, cluster[FRAME_CLUSTER_BYTES];

    *out = (struct frame_header){0};
    version = read_u8(&r);
    out->channel = read_u8(&r);
    out->slot = read_u16(&r);
    if (!r.bad && version > FRAME_VERSION)
        return REFUSED_VERSION;
    if (bytes.n < FRAME_OVERHEAD_BYTES || bytes.n > FRAME_MAX_BYTES)
        return REFUSED_FORM;
    out->to_slot = read_u16(&r);
    out->key_id = read_u32(&r);
    read_bytes(&r, cluster, sizeof cluster);
    read_bytes(&r, out->incarnation.b, ID_BYTES);
    out->number = read_u64(&r);
    if (r.bad || version != FRAME_VERSION || out->channel < FRAME_PUB || out->channel > FRAME_REPLY)
        return REFUSED_FORM;
    if (memcmp(cluster, box->cluster, sizeof cluster) != 0)
        return REFUSED_CLUSTER;
    for (size_t i = 0; i < box->n_keys; i++)
        if (box->keys[i].id == out->key_id)
            return FRAME_TAKEN;
    return REFUSED_KEY;
}

uint32_t frame_key_id(const struct frame_box *box)
{
    return box->keys[0].id;
}

/* The authenticated bytes: the header, then for a reply what it is tied to. */
enum { AAD_MAX = FRAME_HEADER_BYTES + ID_BYTES + 8 };

static struct slice aad_of(const uint8_t *header, const struct frame_binding *reply_to,
                           uint8_t out[AAD_MAX])
{
    struct writer w = writer_of(out, AAD_MAX);

    write_bytes(&w, header, FRAME_HEADER_BYTES);
    if (reply_to) {
        write_bytes(&w, reply_to->incarnation.b, ID_BYTES);
        write_u64(&w, reply_to->nonce);
    }
    return (struct slice){out, w.n};
}

static void nonce_of(uint64_t number, uint8_t out[GCM_NONCE])
{
    struct writer w = writer_of(out, GCM_NONCE);

    write_u32(&w, 0);
    write_u64(&w, number);
}

/* ---- sealing and opening ---- */

int frame_seal(struct frame_box *box, enum frame_channel channel, uint16_t to_slot,
               const struct frame_binding *reply_to, const uint8_t *plain, size_t n, uint8_t *out)
{
    struct frame_header h = {
        .channel = (uint8_t)channel,
        .slot = box->slot,
        .to_slot = to_slot,
        .key_id = box->keys[0].id,
        .incarnation = box->incarnation,
    };
    uint8_t aad[AAD_MAX], nonce[GCM_NONCE];

    if (box->number == UINT64_MAX || n > FRAME_MAX_BYTES - FRAME_OVERHEAD_BYTES)
        return ERR_FULL;
    h.number = ++box->number;
    header_write(box, &h, out);
    nonce_of(h.number, nonce);
    return gcm_seal(box->sealer, nonce, aad_of(out, reply_to, aad), plain, n,
                    out + FRAME_HEADER_BYTES, out + FRAME_HEADER_BYTES + n);
}

/* Slots beyond the last one share a place; nobody believes them. */
static struct opener *openers_of(struct frame_box *box, uint16_t slot)
{
    return box->openers[slot % (SLOT_MAX + 1)];
}

static struct opener *opener_find(struct frame_box *box, const struct frame_header *h)
{
    struct opener *o = openers_of(box, h->slot);

    for (size_t i = 0; i < OPENERS; i++)
        if (o[i].gcm && o[i].key_id == h->key_id && id128_equal(&o[i].incarnation, &h->incarnation))
            return &o[i];
    return NULL;
}

static void opener_keep(struct frame_box *box, const struct frame_header *h, struct gcm_ctx *gcm)
{
    struct opener *o = openers_of(box, h->slot), *oldest = o;

    for (size_t i = 1; i < OPENERS && oldest->gcm; i++)
        if (!o[i].gcm || o[i].used < oldest->used)
            oldest = &o[i];
    gcm_free(oldest->gcm);
    *oldest = (struct opener){h->key_id, h->incarnation, gcm, box->opens};
}

enum frame_refusal frame_open(struct frame_box *box, struct slice bytes,
                              const struct frame_header *header,
                              const struct frame_binding *reply_to, uint8_t *plain, size_t *n)
{
    size_t n_plain = bytes.n - FRAME_OVERHEAD_BYTES;
    const uint8_t *sealed = bytes.p + FRAME_HEADER_BYTES;
    struct opener *known = opener_find(box, header);
    struct gcm_ctx *gcm = known ? known->gcm : NULL;
    uint8_t aad[AAD_MAX], nonce[GCM_NONCE];
    bool authentic;

    *n = 0;
    for (size_t i = 0; !gcm && i < box->n_keys; i++)
        if (box->keys[i].id == header->key_id)
            gcm = gcm_of(&box->keys[i], &header->incarnation);
    if (!gcm)
        return REFUSED_AUTH;
    nonce_of(header->number, nonce);
    authentic = gcm_open(gcm, nonce, aad_of(bytes.p, reply_to, aad), sealed, n_plain, plain,
                         sealed + n_plain) == ERR_OK;
    box->opens++;
    if (known)
        known->used = box->opens;
    else if (authentic)
        opener_keep(box, header, gcm);
    else
        gcm_free(gcm);
    if (!authentic)
        return REFUSED_AUTH;
    *n = n_plain;
    return FRAME_TAKEN;
}

/* ---- the replay window ---- */

static uint64_t *window_word(struct frame_window *w, uint64_t number)
{
    return &w->seen[number / 64 % (FRAME_WINDOW_BITS / 64)];
}

void frame_window_start(struct frame_window *w, uint64_t number)
{
    w->highest = number;
    memset(w->seen, 0xff, sizeof w->seen);
    if (number % 64 != 63) /* what comes after it in its own word is still free */
        *window_word(w, number) = (UINT64_C(2) << (number % 64)) - 1;
}

bool frame_window_take(struct frame_window *w, uint64_t number)
{
    uint64_t bit = UINT64_C(1) << (number % 64);

    if (number > w->highest) {
        uint64_t steps = number / 64 - w->highest / 64;
        if (steps > FRAME_WINDOW_BITS / 64)
            steps = FRAME_WINDOW_BITS / 64;
        for (uint64_t i = 0; i < steps; i++)
            *window_word(w, number - i * 64) = 0;
        w->highest = number;
    } else if (number == 0 || w->highest / 64 - number / 64 >= FRAME_WINDOW_BITS / 64) {
        return false;
    }
    if (*window_word(w, number) & bit)
        return false;
    *window_word(w, number) |= bit;
    return true;
}
