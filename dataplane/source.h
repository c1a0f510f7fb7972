/* Where packets come from and go to: the contract that every source keeps.
 *
 * One `struct source` serves one lane. open and close are called on the loop
 * thread while the lane does not run; recv and send on the lane's thread only;
 * wake and send_ike on the loop thread, at the same time as those. Nothing but
 * recv may wait. tests/conformance/dataplane runs one suite over all sources. */
#ifndef DATAPLANE_SOURCE_H
#define DATAPLANE_SOURCE_H

#include <stddef.h>

#include "dataplane/dataplane.h"
#include "dataplane/packet.h"

struct source;

struct source_config {
    const struct dp_config *dp; /* borrowed for the call of open */
    unsigned lane;
    void *ctx; /* what the opener of the dataplane gave for this kind of source */
};

struct source_ops {
    const char *name;

    /* 0, ERR_IO, ERR_UNSUPPORTED or ERR_NOMEM; says in the log what is missing and the remedy. */
    int (*open)(const struct source_config *config, struct source **out);
    void (*close)(struct source *s);

    /* Fills up to n packets, each with PACKET_HEADROOM octets in front, and returns how many.
     * Waits up to timeout_ms for the first one (-1: until wake). Sets data, n, via, tos and, for
     * VIA_UDP, local and peer. What the kernel reports cut short is not passed on. */
    size_t (*recv)(struct source *s, struct packet **packets, size_t n, int timeout_ms);
    /* Sends all n and sets packet.sent on those that were taken. Never waits. */
    void (*send)(struct source *s, struct packet **packets, size_t n);
    /* Makes a waiting or the next recv return. */
    void (*wake)(struct source *s);

    /* One IKE message; see dp_send_ike. */
    int (*send_ike)(struct source *s, const struct endpoint *local, const struct endpoint *peer,
                    const uint8_t *bytes, size_t n);
    /* The kernel's interface for inner packets; 0 where there is none. */
    unsigned (*inner_ifindex)(const struct source *s);
};

extern const struct source_ops source_socket;

#endif
