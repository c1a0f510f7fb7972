/* The inner packet: IPv4 or IPv6 as it stands inside a tunnel or on the TUN
 * device. inner_parse is the one place that checks its bounds; the functions
 * that edit a packet touch only octets that it has vouched for.
 *
 * All functions are pure; any thread. Ports and lengths are host order. */
#ifndef DATAPLANE_INNER_H
#define DATAPLANE_INNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/net.h"

struct inner {
    struct ip_addr src, dst;
    uint32_t total;    /* octets of the packet by its own header; never more than were there */
    uint16_t l4;       /* offset of the upper-layer header; 0 in a non-first fragment */
    uint16_t src_port; /* ICMP: type << 8 | code, here and in dst_port (RFC 7296 §3.13.1) */
    uint16_t dst_port;
    uint8_t version;  /* 4 or 6 */
    uint8_t proto;    /* of the upper layer, behind IPv6 extension headers */
    uint8_t tos;      /* DSCP and ECN */
    uint8_t ttl;      /* or hop limit */
    bool ports_known; /* false: a later fragment, or a protocol without ports */
};

/* False when the packet is malformed: wrong version, lengths that do not fit, a wrong
 * IPv4 header checksum, or too many extension headers. `n` may exceed inner.total
 * (TFC padding, RFC 4303 §2.7). */
bool inner_parse(const uint8_t *p, size_t n, struct inner *out);

/* Does one of the selectors take this address and port of the packet? A packet whose ports
 * are unknown fits only selectors of all ports or of opaque ones (RFC 4301 §7.2). */
bool inner_selected(const struct inner *in, const struct selector *s, size_t n_selectors,
                    const struct ip_addr *addr, uint16_t port);

/* One hop: false when the TTL or hop limit runs out, and the packet is then as before. */
bool inner_hop(uint8_t *p, struct inner *in);

/* Lowers the MSS option of a TCP SYN so that its segments fit `mtu`; true if it did. */
bool inner_clamp_mss(uint8_t *p, const struct inner *in, uint16_t mtu);

/* What leaving the tunnel does to ECN (RFC 6040 §4.2, figure 4): false when the packet must
 * be dropped (congestion was signalled to a transport that does not understand it). */
bool inner_ecn_out(uint8_t *p, struct inner *in, uint8_t outer_tos);

/* A number that is equal for all packets of a flow, on every node. */
uint32_t inner_hash(const struct inner *in);

#endif
