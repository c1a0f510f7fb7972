/* A source in memory, for tests and fuzzing: what is pushed arrives, what is sent
 * can be popped. One lane, everything on one thread; bytes are copied. */
#ifndef DATAPLANE_SOURCE_MEMORY_H
#define DATAPLANE_SOURCE_MEMORY_H

#include "dataplane/source.h"

enum { MEMORY_PACKETS = 256 };

struct memory_packet {
    uint8_t via, protocol, tos, ttl; /* as in struct packet */
    struct endpoint local, peer;
    uint8_t *bytes; /* owned by the queue; a popped one by the caller, who frees it */
    uint32_t n;
};

struct memory_queue {
    struct memory_packet packets[MEMORY_PACKETS];
    size_t first, n;
};

/* What the `ctx` of source_config points at; zeroed before its first use. */
struct memory_net {
    struct memory_queue arriving, leaving, ike;
    bool refuse; /* send takes nothing */
};

/* Copies the bytes; false when the queue is full or without memory. */
bool memory_push(struct memory_queue *q, const struct memory_packet *p);
/* The oldest; false when there is none. */
bool memory_pop(struct memory_queue *q, struct memory_packet *out);
void memory_clear(struct memory_net *net);

extern const struct source_ops source_memory;

#endif
