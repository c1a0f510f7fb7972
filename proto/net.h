/* Addresses, prefixes, traffic selectors: small values, passed by copy or
 * const pointer, owning nothing. Address bytes are in network order, ports in
 * host order. All functions are pure; any thread. */
#ifndef PROTO_NET_H
#define PROTO_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ip_addr {
    uint8_t family; /* 4, 6, or 0 for none */
    uint8_t b[16];  /* the first 4 or all 16 are used; the rest is zero */
};

struct endpoint {
    struct ip_addr ip;
    uint16_t port; /* 0 where there is none (native ESP) */
};

struct ip_prefix {
    struct ip_addr ip; /* host bits are zero */
    uint8_t bits;
};

/* One traffic selector (RFC 7296 §3.13.1): a range of addresses and ports. */
struct selector {
    uint8_t proto;    /* IP protocol, 0 any */
    uint16_t port_lo; /* for ICMP type and code, as the RFC packs them */
    uint16_t port_hi;
    struct ip_addr lo, hi; /* same family, lo <= hi */
};

enum { SELECTORS_MAX = 8 };
struct selector_list {
    uint8_t n;
    struct selector s[SELECTORS_MAX];
};

enum { ADDR_TEXT = 48, ENDPOINT_TEXT = 56, SELECTOR_TEXT = 128 };

static inline size_t ip_len(const struct ip_addr *a)
{
    return a->family == 4 ? 4 : a->family == 6 ? 16 : 0;
}
struct ip_addr ip_from_bytes(uint8_t family, const void *bytes);
bool ip_is_loopback(const struct ip_addr *ip); /* 127.0.0.0/8 or ::1 */
bool ip_equal(const struct ip_addr *a, const struct ip_addr *b);
int ip_compare(const struct ip_addr *a, const struct ip_addr *b); /* family, then bytes */
bool ip_parse(const char *text, struct ip_addr *out);
char *ip_format(const struct ip_addr *a, char out[ADDR_TEXT]); /* returns out; "" for none */

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);
/* "1.2.3.4:5", "[::1]:5"; the port is 1 to 65535. */
bool endpoint_parse(const char *text, struct endpoint *out);
/* "ip:port", "[ip6]:port"; only the address where the port is 0. Returns out. */
char *endpoint_format(const struct endpoint *e, char out[ENDPOINT_TEXT]);

/* "a.b.c.d/n" or an address alone; false when malformed or host bits are set. */
bool prefix_parse(const char *text, struct ip_prefix *out);
/* As above, but host bits may be set and are cleared; the address itself goes to *host
 * if not NULL. */
bool prefix_parse_loose(const char *text, struct ip_prefix *out, struct ip_addr *host);
char *prefix_format(const struct ip_prefix *p, char out[ADDR_TEXT]); /* always with "/n" */
bool prefix_contains(const struct ip_prefix *p, const struct ip_addr *a);

struct selector selector_of_prefix(const struct ip_prefix *p);
/* The common part of two selectors; false when there is none. */
bool selector_intersect(const struct selector *a, const struct selector *b, struct selector *out);
/* port is 0 where the packet shows none; OPAQUE ports (65535-0) match only such packets. */
bool selector_matches(const struct selector *s, const struct ip_addr *a, uint8_t proto,
                      uint16_t port);
/* "10.0.0.0/8", "10.0.0.1-10.0.0.9", with "[proto/lo-hi]" when limited ("[17/opaque]"
 * for OPAQUE ports). Returns out. */
char *selector_format(const struct selector *s, char out[SELECTOR_TEXT]);

/* The Internet checksum (RFC 1071) over n bytes, added to `sum` in host order; fold last.
 * Of several pieces only the last may have an odd length. */
uint32_t inet_sum(const void *bytes, size_t n, uint32_t sum);
uint16_t inet_fold(uint32_t sum); /* complemented, host order */

#endif
