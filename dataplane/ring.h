/* A bounded ring of messages from one thread to one other. Neither side waits;
 * a full ring refuses. Messages are whole and in order. */
#ifndef DATAPLANE_RING_H
#define DATAPLANE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring;

/* `bytes` is a power of two of at least 64. NULL when out of memory. */
struct ring *ring_new(uint32_t bytes);
void ring_free(struct ring *r); /* both sides have stopped; NULL is fine */

/* The writing side: room for a message of n octets, aligned to 8, or NULL when full. What was
 * reserved is visible to the reader after ring_commit. */
void *ring_reserve(struct ring *r, uint32_t n);
void ring_commit(struct ring *r);

/* The reading side: the oldest message in place, or NULL; it stays until ring_release. */
const void *ring_peek(struct ring *r, uint32_t *n);
void ring_release(struct ring *r);

#endif
