/* A dataplane with a memory source and a customer at its other end, for tests.
 *
 * The customer is a second implementation of ESP, written against the RFCs with
 * the plain primitives of proto/crypto.h and nothing of dataplane/. Buffers are
 * PACKET_MAX octets; functions that build into one return the length. */
#ifndef TESTS_DATAPLANE_RIG_H
#define TESTS_DATAPLANE_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataplane/internal.h"
#include "dataplane/source_memory.h"

#define ANYCAST "192.0.2.1"
#define CUSTOMER "198.51.100.1"
#define BEHIND_US "10.1.0.5"       /* no route to a tunnel: the kernel's */
#define BEHIND_ACME "203.0.113.9"  /* routed to tunnel 1 */
#define BEHIND_OTHER "203.0.114.9" /* routed to tunnel 2 */

struct suite_row {
    const char *name;
    struct suite suite;
    uint8_t key, salt, iv, icv, align; /* octets */
    uint8_t mac_key;
    enum hash_id hash;
};
extern const struct suite_row suite_rows[];
extern const size_t suite_row_count;

enum { HEARD_MAX = 64 };

struct rig {
    struct dp *dp;
    struct memory_net net;
    /* what the callbacks heard */
    uint32_t confirmed[HEARD_MAX], missed[HEARD_MAX];
    size_t n_confirmed, n_missed, n_ike;
    uint32_t moved; /* the last one's spi_in */
    struct endpoint moved_to;
    size_t n_moved;
    struct endpoint ike_local, ike_peer;
    uint8_t ike_bytes[64];
    size_t ike_n;
};

/* Slot 5, epoch 9 granted, tunnels 1 (IPsec), 2 (IPsec) and 3 (GRE with key 7), routes to each.
 * `sockets` NULL: the memory source; else dp_open with it, threads included. */
void rig_open(struct rig *rig, const struct dp_config *sockets);
/* In memory, no epoch yet; IV counters end at iv_max. */
void rig_open_ungranted(struct rig *rig, uint32_t iv_max);
void rig_close(struct rig *rig);
/* Lets the lane run until nothing more arrives, then dp_poll. */
void rig_run(struct rig *rig);

struct id128 rig_id(unsigned n);
struct ip_addr addr(const char *text);
struct endpoint end(const char *ip, uint16_t port);
struct selector_list select_prefixes(const char *v4, const char *v6); /* NULL: none */

/* A record for an SA of tunnel n, native ESP, any traffic, keys derived from spi_in;
 * spi_out is spi_in + 1. */
struct child_record rig_record(const struct suite_row *row, uint32_t spi_in, unsigned tunnel);

/* ---- the customer ---- */
struct peer_options {
    uint8_t next_header;  /* 0: by the inner packet's version */
    uint8_t extra_blocks; /* of padding beyond what is needed */
    uint32_t tfc;         /* zeros behind the inner packet */
    bool bad_padding;
    uint8_t pad_length; /* written instead of the true one; 0: the true one */
};
/* ESP as the customer sends it: towards our spi_in. */
size_t peer_seal(const struct child_record *sa, const struct suite_row *row, const uint8_t *inner,
                 size_t n, const struct peer_options *options, uint8_t *esp);
/* The same around a text whose padding and trailer are the caller's: n is a multiple of align. */
size_t peer_seal_text(const struct child_record *sa, const struct suite_row *row,
                      const uint8_t *text, size_t n, uint8_t *esp);
/* Opens what we sent; returns the inner length or 0. `next` and `iv` may be NULL. */
size_t peer_open(const struct child_record *sa, const struct suite_row *row, const uint8_t *esp,
                 size_t n, uint8_t *inner, uint8_t *next, uint64_t *iv);

/* ---- packets ---- */
size_t make_ip(const char *src, const char *dst, uint8_t proto, const uint8_t *payload, size_t n,
               uint8_t *out); /* of either family; TTL 64, TOS 0 */
size_t make_udp(const char *src, const char *dst, uint16_t sport, uint16_t dport, size_t n,
                uint8_t *out);
/* A SYN with the options given, padded; its checksum is right. */
size_t make_syn(const char *src, const char *dst, const uint8_t *options, size_t n, uint8_t *out);
bool checksums_right(const uint8_t *ip, size_t n); /* IPv4 header, and TCP or UDP */

/* ---- the wire ---- */
void push_native(struct rig *rig, uint8_t protocol, const char *peer, const uint8_t *bytes,
                 size_t n); /* with an outer IPv4 header */
void push_udp(struct rig *rig, uint16_t port, const uint8_t *bytes, size_t n);
void push_udp_from(struct rig *rig, const struct endpoint *peer, uint16_t port,
                   const uint8_t *bytes, size_t n);
void push_inner(struct rig *rig, const uint8_t *bytes, size_t n);
/* What left, freed by the caller's free(p.bytes); false when there is nothing. */
bool pop(struct rig *rig, struct memory_packet *p);
/* Exactly one packet left, and it is these octets by this way. */
void expect_left(struct rig *rig, uint8_t via, const uint8_t *bytes, size_t n);

uint64_t drops(const struct rig *rig, enum dp_drop reason);
uint64_t all_drops(const struct rig *rig);

size_t from_hex(const char *hex, uint8_t *out);

#endif
