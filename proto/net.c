#include "proto/net.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

enum { PORT_MAX = 65535 };

struct ip_addr ip_from_bytes(uint8_t family, const void *bytes)
{
    struct ip_addr a = {.family = family};
    size_t n = ip_len(&a);

    if (n)
        memcpy(a.b, bytes, n);
    else
        a.family = 0;
    return a;
}

bool ip_is_loopback(const struct ip_addr *ip)
{
    static const uint8_t one[16] = {[15] = 1};

    return ip->family == 4 ? ip->b[0] == 127 : memcmp(ip->b, one, sizeof one) == 0;
}

bool ip_equal(const struct ip_addr *a, const struct ip_addr *b)
{
    return ip_compare(a, b) == 0;
}

int ip_compare(const struct ip_addr *a, const struct ip_addr *b)
{
    if (a->family != b->family)
        return a->family < b->family ? -1 : 1;
    return memcmp(a->b, b->b, ip_len(a));
}

bool ip_parse(const char *text, struct ip_addr *out)
{
    uint8_t bytes[16];
    uint8_t family = strchr(text, ':') ? 6 : 4;

    if (inet_pton(family == 4 ? AF_INET : AF_INET6, text, bytes) != 1)
        return false;
    *out = ip_from_bytes(family, bytes);
    return true;
}

char *ip_format(const struct ip_addr *a, char out[ADDR_TEXT])
{
    out[0] = 0;
    if (a->family == 4 || a->family == 6)
        inet_ntop(a->family == 4 ? AF_INET : AF_INET6, a->b, out, ADDR_TEXT);
    return out;
}

/* A decimal number up to `max` that fills the whole text: no sign, no space, no
 * leading zero, so that every value has one spelling. */
static bool parse_number(const char *text, uint32_t max, uint32_t *out)
{
    uint32_t v = 0;

    if (!*text || (text[0] == '0' && text[1]))
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        v = v * 10 + (uint32_t)(*text - '0');
        if (v > max)
            return false;
    }
    *out = v;
    return true;
}

/* Parses the address in the n characters at text. */
static bool parse_part(const char *text, size_t n, struct ip_addr *out)
{
    char part[ADDR_TEXT];

    if (n >= sizeof part)
        return false;
    memcpy(part, text, n);
    part[n] = 0;
    return ip_parse(part, out);
}

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
    return a->port == b->port && ip_equal(&a->ip, &b->ip);
}

bool endpoint_parse(const char *text, struct endpoint *out)
{
    const char *colon = strrchr(text, ':');
    struct ip_addr ip;
    uint32_t port;
    bool brackets = text[0] == '[';

    if (!colon || !parse_number(colon + 1, PORT_MAX, &port) || port == 0)
        return false;
    if (brackets) {
        if (colon - text < 2 || colon[-1] != ']' ||
            !parse_part(text + 1, (size_t)(colon - text) - 2, &ip))
            return false;
    } else if (!parse_part(text, (size_t)(colon - text), &ip)) {
        return false;
    }
    /* Without brackets the last colon of an IPv6 address would pass for the port's. */
    if (brackets != (ip.family == 6))
        return false;
    *out = (struct endpoint){ip, (uint16_t)port};
    return true;
}

char *endpoint_format(const struct endpoint *e, char out[ENDPOINT_TEXT])
{
    char ip[ADDR_TEXT];

    ip_format(&e->ip, ip);
    if (e->port == 0)
        snprintf(out, ENDPOINT_TEXT, "%s", ip);
    else
        snprintf(out, ENDPOINT_TEXT, e->ip.family == 6 ? "[%s]:%u" : "%s:%u", ip, e->port);
    return out;
}

/* The part of byte i that belongs to the first `bits` bits. */
static uint8_t mask_byte(unsigned bits, size_t i)
{
    unsigned before = (unsigned)i * 8;

    if (bits >= before + 8)
        return 0xff;
    return bits <= before ? 0 : (uint8_t)(0xff << (8 - (bits - before)));
}

bool prefix_parse_loose(const char *text, struct ip_prefix *out, struct ip_addr *host)
{
    const char *slash = strchr(text, '/');
    size_t n = slash ? (size_t)(slash - text) : strlen(text);
    struct ip_addr ip;
    uint32_t bits;

    if (!parse_part(text, n, &ip))
        return false;
    bits = (uint32_t)ip_len(&ip) * 8;
    if (slash && !parse_number(slash + 1, bits, &bits))
        return false;
    if (host)
        *host = ip;
    for (size_t i = 0; i < ip_len(&ip); i++)
        ip.b[i] &= mask_byte(bits, i);
    *out = (struct ip_prefix){ip, (uint8_t)bits};
    return true;
}

bool prefix_parse(const char *text, struct ip_prefix *out)
{
    struct ip_prefix p;
    struct ip_addr host;

    if (!prefix_parse_loose(text, &p, &host) || !ip_equal(&p.ip, &host))
        return false;
    *out = p;
    return true;
}

char *prefix_format(const struct ip_prefix *p, char out[ADDR_TEXT])
{
    size_t n = strlen(ip_format(&p->ip, out));

    if (n)
        snprintf(out + n, ADDR_TEXT - n, "/%u", p->bits);
    return out;
}

bool prefix_contains(const struct ip_prefix *p, const struct ip_addr *a)
{
    if (p->ip.family != a->family)
        return false;
    for (size_t i = 0; i < ip_len(a) && i * 8 < p->bits; i++)
        if ((a->b[i] ^ p->ip.b[i]) & mask_byte(p->bits, i))
            return false;
    return true;
}

struct selector selector_of_prefix(const struct ip_prefix *p)
{
    struct selector s = {.port_hi = PORT_MAX, .lo = p->ip, .hi = p->ip};

    for (size_t i = 0; i < ip_len(&p->ip); i++)
        s.hi.b[i] |= (uint8_t)~mask_byte(p->bits, i);
    return s;
}

static bool any_port(const struct selector *s)
{
    return s->port_lo == 0 && s->port_hi == PORT_MAX;
}

/* OPAQUE, "ports are not to be seen", is written 65535-0 (RFC 7296 §3.13.1). */
static bool opaque_ports(const struct selector *s)
{
    return s->port_lo == PORT_MAX && s->port_hi == 0;
}

/* Sets the ports of `out` to what a and b share. ANY includes OPAQUE (RFC 4301 §4.4.1.1). */
static bool intersect_ports(const struct selector *a, const struct selector *b,
                            struct selector *out)
{
    if (opaque_ports(a) || opaque_ports(b)) {
        if (!(opaque_ports(a) || any_port(a)) || !(opaque_ports(b) || any_port(b)))
            return false;
        out->port_lo = PORT_MAX;
        out->port_hi = 0;
        return true;
    }
    out->port_lo = a->port_lo > b->port_lo ? a->port_lo : b->port_lo;
    out->port_hi = a->port_hi < b->port_hi ? a->port_hi : b->port_hi;
    return out->port_lo <= out->port_hi;
}

bool selector_intersect(const struct selector *a, const struct selector *b, struct selector *out)
{
    struct selector s = {.proto = a->proto ? a->proto : b->proto};

    if (a->lo.family != b->lo.family || ip_len(&a->lo) == 0)
        return false;
    if (a->proto && b->proto && a->proto != b->proto)
        return false;
    s.lo = ip_compare(&a->lo, &b->lo) > 0 ? a->lo : b->lo;
    s.hi = ip_compare(&a->hi, &b->hi) < 0 ? a->hi : b->hi;
    if (ip_compare(&s.lo, &s.hi) > 0 || !intersect_ports(a, b, &s))
        return false;
    *out = s;
    return true;
}

bool selector_matches(const struct selector *s, const struct ip_addr *a, uint8_t proto,
                      uint16_t port)
{
    if (s->lo.family != a->family || ip_compare(a, &s->lo) < 0 || ip_compare(a, &s->hi) > 0)
        return false;
    if (s->proto && s->proto != proto)
        return false;
    if (opaque_ports(s))
        return port == 0;
    return port >= s->port_lo && port <= s->port_hi;
}

/* Finds the prefix that is exactly lo..hi, if there is one: after the bits that both
 * share, lo has only zeros and hi only ones. */
static bool range_is_prefix(const struct selector *s, struct ip_prefix *out)
{
    unsigned bits = 0, all = (unsigned)ip_len(&s->lo) * 8;

    while (bits < all && !((s->lo.b[bits / 8] ^ s->hi.b[bits / 8]) & 0x80 >> bits % 8))
        bits++;
    for (size_t i = 0; i < all / 8; i++) {
        uint8_t host = (uint8_t)~mask_byte(bits, i);
        if ((s->lo.b[i] & host) || (s->hi.b[i] & host) != host)
            return false;
    }
    *out = (struct ip_prefix){s->lo, (uint8_t)bits};
    return true;
}

char *selector_format(const struct selector *s, char out[SELECTOR_TEXT])
{
    char lo[ADDR_TEXT], hi[ADDR_TEXT], ports[24] = "opaque";
    struct ip_prefix prefix;
    int n;

    if (range_is_prefix(s, &prefix))
        n = snprintf(out, SELECTOR_TEXT, "%s", prefix_format(&prefix, lo));
    else
        n = snprintf(out, SELECTOR_TEXT, "%s-%s", ip_format(&s->lo, lo), ip_format(&s->hi, hi));
    if (s->proto == 0 && any_port(s))
        return out;
    if (!opaque_ports(s))
        snprintf(ports, sizeof ports, "%u-%u", s->port_lo, s->port_hi);
    snprintf(out + n, SELECTOR_TEXT - (size_t)n, "[%u/%s]", s->proto, ports);
    return out;
}

static uint16_t fold16(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* Adds four octets at a time in the machine's own byte order, which gives the same
 * sum with its octets swapped (RFC 1071 §2 B); 64 bits cannot overflow below 16 GiB. */
uint32_t inet_sum(const void *bytes, size_t n, uint32_t sum)
{
    const uint8_t *p = bytes;
    uint64_t total = 0;
    uint32_t word;
    uint16_t half;

    for (; n >= 4; n -= 4, p += 4) {
        memcpy(&word, p, 4);
        total += word;
    }
    if (n >= 2) {
        memcpy(&half, p, 2);
        total += half;
        p += 2;
        n -= 2;
    }
    if (n) { /* the odd octet counts as if a zero followed */
        half = 0;
        memcpy(&half, p, 1);
        total += half;
    }
    total = (uint64_t)sum + ntohs(fold16(total));
    return (uint32_t)total + (uint32_t)(total >> 32);
}

uint16_t inet_fold(uint32_t sum)
{
    return (uint16_t)~fold16(sum);
}
