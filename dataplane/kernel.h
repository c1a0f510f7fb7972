/* The kernel's side of the TUN device: link up, addresses, routes, by rtnetlink.
 *
 * Every route that we make carries our own protocol number, so that none of
 * anybody else's is ever replaced or removed. Loop thread only. */
#ifndef DATAPLANE_KERNEL_H
#define DATAPLANE_KERNEL_H

#include <stddef.h>

#include "proto/net.h"

enum {
    KERNEL_ROUTE_PROTOCOL = 157, /* shown by `ip route` as "proto 157" */
    KERNEL_ROUTE_METRIC = 1570,  /* a route of the host's own for the same prefix goes first */
};

struct kernel_list { /* sorted, without repetition */
    struct ip_prefix *p;
    size_t n;
};

struct kernel {
    int netlink; /* -1: there is no kernel interface, all calls do nothing */
    unsigned ifindex;
    struct kernel_list routes, addresses; /* in force, made by us */
};

/* ifindex 0: nothing to do, now and later. 0 or ERR_IO (said in the log). */
int kernel_open(struct kernel *k, unsigned ifindex, unsigned mtu);
/* Removes routes and addresses. */
void kernel_close(struct kernel *k);

/* Makes the routes towards the TUN exactly these; so for its addresses. Lists may be in any order,
 * with repetitions. What fails is named in the log and tried again by the next call: ERR_IO. */
int kernel_set_routes(struct kernel *k, const struct ip_prefix *p, size_t n);
int kernel_set_addresses(struct kernel *k, const struct ip_prefix *p, size_t n);

#endif
