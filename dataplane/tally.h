/* Counters of the packet path: each has one writer (a lane), any number of
 * readers, and no order among them. */
#ifndef DATAPLANE_TALLY_H
#define DATAPLANE_TALLY_H

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint64_t tally;

/* The one writer only: a load and a store are cheaper than a locked addition. */
static inline void tally_add(tally *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline void tally_set(tally *c, uint64_t n)
{
    atomic_store_explicit(c, n, memory_order_relaxed);
}

static inline uint64_t tally_get(const tally *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}

/* One lane's share of what an SA or a tunnel has carried: inner packets and octets. */
struct traffic {
    _Alignas(64) tally packets_in;
    tally bytes_in;
    tally packets_out;
    tally bytes_out;
    tally last_in_us; /* monotonic; 0 never */
};

#endif
