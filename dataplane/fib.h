/* Where packets go: routes by longest prefix, and GRE tunnels by their outer
 * addresses and key. A fib is built as a whole, immutable, published through
 * read-copy-update and searched by lanes within rcu_read_lock. */
#ifndef DATAPLANE_FIB_H
#define DATAPLANE_FIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataplane/tunnel.h"

struct fib;

/* One route as configured; tunnel NULL: the packet belongs to the kernel. */
struct fib_route {
    struct ip_prefix prefix;
    struct tunnel *tunnel; /* borrowed; outlives the fib by a grace period */
    uint32_t priority;     /* of equal prefixes the lowest wins */
    uint32_t weight;       /* shares flows among equal priorities; 0 counts as 1 */
};

struct fib_gre {
    struct ip_addr anycast, customer;
    bool has_key;
    uint32_t key;
    struct tunnel *tunnel;
};

/* The arrays are sorted in place and not kept. ERR_NOMEM; ERR_EXISTS when two GRE tunnels have
 * equal addresses and keys. */
int fib_new(struct fib_route *routes, size_t n_routes, struct fib_gre *gre, size_t n_gre,
            struct fib **out);
void fib_free_now(struct fib *fib); /* no lane has seen it, or none runs; NULL is fine */
void fib_free_later(struct fib *fib);

/* The tunnel for a destination: NULL for the kernel, or for lack of a route when *found is false.
 * `flow` chooses among routes of equal prefix and priority. */
struct tunnel *fib_route(const struct fib *fib, const struct ip_addr *dst, uint32_t flow,
                         bool *found);
/* The GRE tunnel of an arriving packet, or NULL. */
struct tunnel *fib_gre(const struct fib *fib, const struct ip_addr *anycast,
                       const struct ip_addr *customer, bool has_key, uint32_t key);

#endif
