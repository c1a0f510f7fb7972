/* Sealed frames: what the transports carry (DESIGN: Custody of keys).
 *
 * Layout, integers big-endian:
 *
 *     version 1 | channel 1 | slot 2 | destination slot 2 | key id 4 | cluster 8 |
 *     incarnation 16 | number 8 | ciphertext | tag 16
 *
 * A later version keeps version, channel and slot where they are, so that a member can tell whose
 * frames it does not understand.
 *
 * All before the ciphertext is authenticated, not hidden. AES-256-GCM under
 * HKDF-SHA2-256(cluster key, "anysa mesh frame v1" | incarnation); the nonce is four zero
 * octets and the frame number, which one counter per incarnation gives out across all
 * channels, so no (key, nonce) recurs. A reply's authenticated header goes on, unsent,
 * with the request's incarnation and nonce: it opens for nobody else and nothing else.
 *
 * Opening says only that a member wrote the frame some time. Whether its sender is
 * believed, and whether the frame is fresh, is for the core (core_peers.c). One thread. */
#ifndef SYNC_FRAME_H
#define SYNC_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/sync.h"

enum {
    FRAME_VERSION = 1,
    FRAME_CLUSTER_BYTES = 8, /* start of SHA2-256 over the cluster's name */
    FRAME_HEADER_BYTES = 42,
    FRAME_OVERHEAD_BYTES = FRAME_HEADER_BYTES + 16,
    FRAME_MAX_BYTES = 128 * 1024,
    FRAME_TO_ALL = SLOT_ALL,
    FRAME_KEYS_MAX = CLUSTER_KEYS_MAX + 1, /* the one that seals until the next one may */
};

enum frame_channel { FRAME_PUB = 1, FRAME_REQUEST = 2, FRAME_REPLY = 3 };

enum frame_refusal {
#define REFUSAL(name, text) REFUSED_##name,
#include "sync/frame_refusal.def"
#undef REFUSAL
    REFUSED_COUNT,
    FRAME_TAKEN = REFUSED_COUNT,
};
/* The sentence and the metric label ("auth", "replay", ...) of a reason. */
const char *frame_refusal_text(enum frame_refusal r);
const char *frame_refusal_name(enum frame_refusal r);

struct frame_header {
    uint8_t channel; /* enum frame_channel */
    uint16_t slot;
    uint16_t to_slot; /* FRAME_TO_ALL or one */
    uint32_t key_id;
    struct id128 incarnation;
    uint64_t number;
};

/* What a reply is tied to. */
struct frame_binding {
    struct id128 incarnation; /* the requester's */
    uint64_t nonce;           /* of its request */
};

/* Seals for one incarnation and opens everyone's. */
struct frame_box;
struct frame_box *frame_box_new(const char *cluster, const struct cluster_key *keys, size_t n_keys,
                                uint16_t slot, const struct id128 *incarnation);
void frame_box_free(struct frame_box *box);
/* Of the last frame sealed; they count from 1. */
uint64_t frame_box_number(const struct frame_box *box);

/* Writes n + FRAME_OVERHEAD_BYTES to out. reply_to: only on FRAME_REPLY, else NULL. */
int frame_seal(struct frame_box *box, enum frame_channel channel, uint16_t to_slot,
               const struct frame_binding *reply_to, const uint8_t *plain, size_t n, uint8_t *out);

/* The id of the key that it seals under. */
uint32_t frame_key_id(const struct frame_box *box);
/* From now on the first of these seals and all of them open; frame numbers go on. 0; else nothing
 * has changed: ERR_INVALID for a bad number of keys, or ERR_CRYPTO. */
int frame_box_set_keys(struct frame_box *box, const struct cluster_key *keys, size_t n_keys);
/* Each key's id and a check value, from which nothing about the key follows but whether another
 * is the same; the one that seals first. Room for FRAME_KEYS_MAX. */
struct frame_key {
    uint32_t id, check;
};
size_t frame_box_keys(const struct frame_box *box, struct frame_key *out);

/* Reads the header without believing it: FRAME_TAKEN, or REFUSED_FORM, _VERSION, _CLUSTER, _KEY. */
enum frame_refusal frame_peek(const struct frame_box *box, struct slice bytes,
                              struct frame_header *out);
/* Opens what frame_peek took; plain has room for bytes.n. FRAME_TAKEN, or REFUSED_AUTH. */
enum frame_refusal frame_open(struct frame_box *box, struct slice bytes,
                              const struct frame_header *header,
                              const struct frame_binding *reply_to, uint8_t *plain, size_t *n);

/* A replay window (as RFC 4303 §3.4.3, over frame numbers). */
enum { FRAME_WINDOW_BITS = 1024 };
struct frame_window {
    uint64_t highest;
    uint64_t seen[FRAME_WINDOW_BITS / 64];
};
/* Starts a window at `number`: nothing at or below it will be taken. */
void frame_window_start(struct frame_window *w, uint64_t number);
/* True once for each number that the window can still tell. */
bool frame_window_take(struct frame_window *w, uint64_t number);

#endif
