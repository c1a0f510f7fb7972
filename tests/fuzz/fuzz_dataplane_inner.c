/* The parsers and editors of dataplane/inner.c and gre.c over memory of exactly the
 * packet's size, where AddressSanitizer sees the first octet too far. (In a lane a
 * packet lies in a large room, and reading on would find older packets.)
 *
 * Input: MTU (2 octets), outer TOS, then the packet. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/gre.h"
#include "dataplane/inner.h"

static void must(bool so, const char *what)
{
    if (!so) {
        fprintf(stderr, "fuzz: %s\n", what);
        abort();
    }
}

static void edit(uint8_t *p, size_t n, uint16_t mtu, uint8_t tos)
{
    struct selector any = {.port_hi = UINT16_MAX};
    struct inner in, again;

    if (!inner_parse(p, n, &in))
        return;
    must(in.total <= n, "no more than was there");
    must(in.l4 <= in.total, "the upper layer is inside");
    any.lo.family = any.hi.family = in.version;
    memset(any.hi.b, 0xff, ip_len(&any.hi));
    must(inner_selected(&in, &any, 1, &in.dst, in.dst_port), "any selects all");
    (void)inner_hash(&in);
    (void)inner_clamp_mss(p, &in, mtu);
    must(!inner_clamp_mss(p, &in, mtu), "the second time there is nothing to do");
    (void)inner_hop(p, &in);
    (void)inner_ecn_out(p, &in, tos);
    must(inner_parse(p, n, &again), "still well-formed, checksum included");
    must(again.ttl == in.ttl && again.tos == in.tos && again.total == in.total, "as we noted");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gre gre;
    uint8_t *p;
    size_t n;

    if (size < 3)
        return 0;
    n = size - 3;
    p = malloc(n ? n : 1);
    if (!p)
        return 0;
    memcpy(p, data + 3, n);
    if (gre_parse(p, n, &gre) == DROP_COUNT)
        must(gre.header_bytes >= 4 && gre.header_bytes <= n, "the header is inside");
    edit(p, n, (uint16_t)(data[0] << 8 | data[1]), data[2]);
    free(p);
    return 0;
}
