/* The text parsers of proto/net.h on any text: what is accepted formats to a text that
 * parses to the same value; and the selector algebra and the checksum on any bytes. */
#include <stdlib.h>
#include <string.h>

#include "proto/cursor.h"
#include "proto/net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void texts(const char *text)
{
    char out[ENDPOINT_TEXT];
    struct ip_addr ip, ip_again;
    struct endpoint e, e_again;
    struct ip_prefix p, p_again;

    if (ip_parse(text, &ip))
        MUST(ip_parse(ip_format(&ip, out), &ip_again) && ip_equal(&ip, &ip_again));
    if (endpoint_parse(text, &e))
        MUST(endpoint_parse(endpoint_format(&e, out), &e_again) && endpoint_equal(&e, &e_again));
    if (prefix_parse_loose(text, &p, &ip)) {
        MUST(prefix_contains(&p, &ip) && prefix_contains(&p, &p.ip));
        MUST(prefix_parse(prefix_format(&p, out), &p_again));
        MUST(p.bits == p_again.bits && ip_equal(&p.ip, &p_again.ip));
    } else {
        MUST(!prefix_parse(text, &p));
    }
}

static struct selector read_selector(struct reader *r)
{
    struct selector s = {.proto = read_u8(r), .port_lo = read_u16(r), .port_hi = read_u16(r)};
    uint8_t family = read_u8(r) & 1 ? 6 : 4;
    uint8_t bytes[16];

    read_bytes(r, bytes, sizeof bytes);
    s.lo = ip_from_bytes(family, bytes);
    read_bytes(r, bytes, sizeof bytes);
    s.hi = ip_from_bytes(family, bytes);
    return s;
}

/* What the common part matches, both match. */
static void selectors(struct reader r)
{
    struct selector a = read_selector(&r), b = read_selector(&r), c;
    char out[SELECTOR_TEXT];
    uint8_t proto = read_u8(&r);
    uint16_t port = read_u16(&r);

    MUST(strlen(selector_format(&a, out)) < SELECTOR_TEXT);
    if (!selector_intersect(&a, &b, &c))
        return;
    MUST(ip_compare(&c.lo, &c.hi) <= 0);
    if (selector_matches(&c, &c.lo, proto, port) && port)
        MUST(selector_matches(&a, &c.lo, proto, port) && selector_matches(&b, &c.lo, proto, port));
}

static void checksums(const uint8_t *data, size_t n)
{
    size_t half = n / 4 * 2;

    MUST(inet_fold(inet_sum(data, n, 0)) ==
         inet_fold(inet_sum(data + half, n - half, inet_sum(data, half, 0))));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char text[256];

    if (n < sizeof text) {
        memcpy(text, data, n);
        text[n] = 0;
        texts(text);
    }
    selectors(reader_of(data, n));
    checksums(data, n);
    return 0;
}
