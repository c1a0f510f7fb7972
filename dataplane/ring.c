/* Messages lie one after the other in a power of two of octets, each behind an
 * 8-octet header with its length. One that would cross the end begins at the
 * start instead, behind a header that says so. Positions run freely and wrap. */
#include "dataplane/ring.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER = 8 };
#define SKIP_TO_START UINT32_MAX

struct ring {
    uint32_t mask;
    uint8_t *bytes;
    _Alignas(64) _Atomic uint32_t head; /* written up to here */
    uint32_t pending;                   /* head after the reserved message */
    _Alignas(64) _Atomic uint32_t tail; /* read up to here */
};

struct ring *ring_new(uint32_t bytes)
{
    struct ring *r;

    if (bytes < 64 || (bytes & (bytes - 1)) != 0)
        return NULL;
    r = aligned_alloc(64, (sizeof *r + 63) / 64 * 64);
    if (!r)
        return NULL;
    memset(r, 0, sizeof *r);
    r->mask = bytes - 1;
    r->bytes = aligned_alloc(64, bytes);
    if (!r->bytes) {
        free(r);
        return NULL;
    }
    return r;
}

void ring_free(struct ring *r)
{
    if (!r)
        return;
    free(r->bytes);
    free(r);
}

static uint32_t spanned(uint32_t n)
{
    return HEADER + ((n + 7) & ~7u);
}

void *ring_reserve(struct ring *r, uint32_t n)
{
    uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
    uint32_t free_bytes = r->mask + 1 - (head - tail), at = head & r->mask;
    uint32_t to_end = r->mask + 1 - at, skipped = 0;

    if (n > r->mask || spanned(n) > r->mask + 1)
        return NULL;
    if (spanned(n) > to_end)
        skipped = to_end;
    if (skipped + spanned(n) > free_bytes)
        return NULL;
    if (skipped) {
        uint32_t mark = SKIP_TO_START;
        memcpy(r->bytes + at, &mark, sizeof mark);
        at = 0;
    }
    memcpy(r->bytes + at, &n, sizeof n);
    r->pending = head + skipped + spanned(n);
    return r->bytes + at + HEADER;
}

void ring_commit(struct ring *r)
{
    atomic_store_explicit(&r->head, r->pending, memory_order_release);
}

const void *ring_peek(struct ring *r, uint32_t *n)
{
    uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&r->head, memory_order_acquire);
    uint32_t at = tail & r->mask;

    if (tail == head)
        return NULL;
    memcpy(n, r->bytes + at, sizeof *n);
    if (*n == SKIP_TO_START) {
        tail += r->mask + 1 - at;
        atomic_store_explicit(&r->tail, tail, memory_order_release);
        at = 0;
        memcpy(n, r->bytes, sizeof *n);
    }
    return r->bytes + at + HEADER;
}

void ring_release(struct ring *r)
{
    uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed), n;

    memcpy(&n, r->bytes + (tail & r->mask), sizeof n);
    atomic_store_explicit(&r->tail, tail + spanned(n), memory_order_release);
}
