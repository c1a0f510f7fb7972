#include "dataplane/gre.h"

#include "proto/cursor.h"
#include "proto/net.h"
#include "proto/wire_ip.h"

enum { GRE_KNOWN_FLAGS = GRE_CHECKSUM | GRE_KEY | GRE_SEQUENCE };

enum dp_drop gre_parse(const uint8_t *p, size_t n, struct gre *out)
{
    struct reader r = reader_of(p, n);
    uint16_t flags = read_u16(&r);

    *out = (struct gre){.payload = read_u16(&r)};
    if (r.bad)
        return DROP_MALFORMED_OUTER;
    /* Routing, recursion and reserved bits, and any version but 0, change what follows. */
    if (flags & ~GRE_KNOWN_FLAGS)
        return DROP_GRE_FLAGS;
    if (flags & GRE_CHECKSUM)
        read_skip(&r, GRE_OPTION_BYTES);
    if (flags & GRE_KEY) {
        out->has_key = true;
        out->key = read_u32(&r);
    }
    if (flags & GRE_SEQUENCE)
        read_skip(&r, GRE_OPTION_BYTES);
    if (r.bad)
        return DROP_MALFORMED_OUTER;
    if ((flags & GRE_CHECKSUM) && inet_fold(inet_sum(p, n, 0)) != 0)
        return DROP_GRE_CHECKSUM;
    if (out->payload != ETHERTYPE_IPV4 && out->payload != ETHERTYPE_IPV6)
        return DROP_GRE_PROTOCOL;
    out->header_bytes = (uint32_t)(n - r.left);
    return DROP_COUNT;
}

size_t gre_header_bytes(bool has_key)
{
    return GRE_HEADER_BYTES + (has_key ? GRE_OPTION_BYTES : 0);
}

size_t gre_write(uint8_t *out, bool has_key, uint32_t key, uint8_t inner_version)
{
    struct writer w = writer_of(out, gre_header_bytes(has_key));

    write_u16(&w, has_key ? GRE_KEY : 0);
    write_u16(&w, inner_version == 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6);
    if (has_key)
        write_u32(&w, key);
    return w.n;
}
