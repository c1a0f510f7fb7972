/* One packet on its way through a lane.
 *
 * The lane owns all packets and their memory, PACKET_ROOM octets each, from its
 * start to its end; a packet is never copied between arriving and leaving:
 * headers are taken off and put on in front of `data`, trailers behind it. */
#ifndef DATAPLANE_PACKET_H
#define DATAPLANE_PACKET_H

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/inner.h"
#include "proto/net.h"
#include "proto/wire_ip.h"

enum {
    BATCH_MAX = 64,        /* packets in one turn of a lane */
    PACKET_HEADROOM = 128, /* where a source puts arriving octets */
    PACKET_TAILROOM = 320, /* ESP padding (up to 255), trailer and ICV */
    PACKET_ROOM = PACKET_HEADROOM + PACKET_MAX + PACKET_TAILROOM,
};

/* Where a packet came from or goes to, and so what `data` begins with. */
enum packet_via {
    VIA_IP = 1, /* arriving: the outer IP header. Leaving: what follows it; `protocol` says what */
    VIA_UDP,    /* the UDP payload; ports are in `local` and `peer` */
    VIA_INNER,  /* an inner packet, from or to the kernel */
};

struct sa;
struct tunnel;

struct packet {
    uint8_t *data;
    uint32_t n; /* octets at data */
    uint8_t *room;

    uint8_t via;                 /* enum packet_via */
    uint8_t protocol;            /* leaving by VIA_IP: ESP or GRE */
    uint8_t tos, ttl;            /* of the outer header; ttl 0: the system's default */
    bool sent;                   /* set by source_ops.send */
    struct endpoint local, peer; /* outer; the ports are 0 for VIA_IP */

    /* The lane's notes on the packet. */
    struct sa *sa;         /* inbound: opened by; outbound: sealed by */
    struct tunnel *tunnel; /* the same for tunnels */
    struct inner inner;    /* valid once parsed */
    uint32_t carried;      /* inner octets, for the counters */
    bool hairpin;          /* from a tunnel to a tunnel */
    bool held;             /* it waited for its SA: hold.h; data begins with the ESP header */
};

/* Octets that can still be put in front of and behind the packet. */
static inline uint32_t packet_headroom(const struct packet *p)
{
    return (uint32_t)(p->data - p->room);
}

static inline uint32_t packet_tailroom(const struct packet *p)
{
    return PACKET_ROOM - packet_headroom(p) - p->n;
}

#endif
