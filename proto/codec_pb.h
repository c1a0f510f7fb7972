/* Shared by the files of the codec: the arena that unpacked messages live in and the
 * translation of records. Only codec*.c includes this. */
#ifndef PROTO_CODEC_PB_H
#define PROTO_CODEC_PB_H

#include "proto/codec.h"
#include "proto/sync.pb-c.h"

/* Far enough, and sums cannot overflow. */
#define CODEC_TIME_MAX_MS (INT64_C(1) << 50)

/* Memory for one encoding or decoding: pieces are cut from secret_alloc'ed chunks,
 * never freed one by one, and all wiped together. */
struct arena_chunk;
struct arena {
    struct arena_chunk *chunks;
    size_t chunk_left;  /* bytes still free in the newest chunk */
    size_t budget_left; /* bytes that may still be taken */
};
struct arena arena_of(size_t budget);
void *arena_alloc(struct arena *a, size_t n); /* zeroed, 16-aligned; NULL past the budget */
void arena_free(struct arena *a);
ProtobufCAllocator arena_allocator(struct arena *a);

/* The image points into `r`, which must outlive it. NULL when out of memory. */
Pb__Record *record_to_pb(struct arena *a, const struct record *r, bool with_position);
/* Copies, then checks (codec_record_check, and the position if it is wanted). */
int record_from_pb(const Pb__Record *pb, bool with_position, struct record **out);

/* ---- codec_unknown.c: what newer versions added ---- */

/* The fields that neither message knows, but for the body of kind `without`, for keeping. body may
 * be NULL. ERR_FULL when there are too many. */
int unknown_keep(const ProtobufCMessage *outer, const ProtobufCMessage *body, uint32_t without,
                 struct blob *out);
/* What was kept of either; then gives a message its own again, false when not well formed. */
bool unknown_split(const struct blob *b, struct reader *outer, struct reader *body);
bool unknown_restore(struct arena *a, struct reader r, ProtobufCMessage *m);
/* The kind of a record whose body is not known here; 0: it has none. */
uint8_t later_kind(const Pb__Record *pb);
bool later_from_pb(const Pb__Record *pb, struct record *r);
bool later_to_pb(struct arena *a, const struct record *r, Pb__Record *pb);

Pb__Endpoint *endpoint_to_pb(struct arena *a, const struct endpoint *e);
bool endpoint_from_pb(const Pb__Endpoint *pb, struct endpoint *out);
ProtobufCBinaryData pb_bytes(const void *p, size_t n);
bool id_from_pb(ProtobufCBinaryData b, struct id128 *out);

#endif
