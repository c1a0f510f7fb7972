#include "dataplane/inner.h"

#include "proto/cursor.h"
#include "proto/wire_ip.h"

enum {
    /* upper layers whose first four octets are ports, besides TCP and UDP */
    IP_PROTO_DCCP = 33,
    IP_PROTO_SCTP = 132,
    IP_PROTO_UDPLITE = 136,
    /* IPv6 extension headers (RFC 8200 §4) */
    EXT_HOP_BY_HOP = 0,
    EXT_ROUTING = 43,
    EXT_FRAGMENT = 44,
    EXT_AH = 51,
    EXT_DESTINATION = 60,
    EXTENSIONS_MAX = 8,
    FRAGMENT_OFFSET_V4 = 0x1fff,
    FRAGMENT_OFFSET_V6 = 0xfff8,
};

/* ---------------------------------------------------------------- parsing */

/* `r` stands at the upper-layer header of a packet that is no later fragment. */
static void parse_ports(struct reader r, struct inner *out)
{
    switch (out->proto) {
    case IP_PROTO_TCP:
    case IP_PROTO_UDP:
    case IP_PROTO_DCCP:
    case IP_PROTO_SCTP:
    case IP_PROTO_UDPLITE:
        out->src_port = read_u16(&r);
        out->dst_port = read_u16(&r);
        break;
    case IP_PROTO_ICMP:
    case IP_PROTO_ICMPV6:
        out->src_port = read_u16(&r);
        out->dst_port = out->src_port;
        break;
    default:
        return;
    }
    out->ports_known = !r.bad;
}

static bool parse_v4(const uint8_t *p, size_t n, struct inner *out)
{
    struct reader r = reader_of(p, n);
    size_t header = (size_t)(read_u8(&r) & 15) * 4;
    uint16_t fragment;

    out->tos = read_u8(&r);
    out->total = read_u16(&r);
    read_skip(&r, 2); /* identification */
    fragment = read_u16(&r);
    out->ttl = read_u8(&r);
    out->proto = read_u8(&r);
    read_skip(&r, 2); /* header checksum */
    out->src = ip_from_bytes(4, read_slice(&r, 4).p);
    out->dst = ip_from_bytes(4, read_slice(&r, 4).p);
    if (r.bad || header < IPV4_HEADER_BYTES || out->total < header || out->total > n)
        return false;
    if (inet_fold(inet_sum(p, header, 0)) != 0)
        return false;
    if (fragment & FRAGMENT_OFFSET_V4)
        return true;
    out->l4 = (uint16_t)header;
    parse_ports(reader_of(p + header, out->total - header), out);
    return true;
}

/* Walks the extension headers; `r` stands behind the fixed header. False: malformed. */
static bool parse_extensions(struct reader *r, size_t at, struct inner *out)
{
    for (int i = 0; i < EXTENSIONS_MAX; i++) {
        uint8_t next;
        size_t length;

        switch (out->proto) {
        case EXT_HOP_BY_HOP:
        case EXT_ROUTING:
        case EXT_DESTINATION:
            next = read_u8(r);
            length = ((size_t)read_u8(r) + 1) * 8;
            break;
        case EXT_AH:
            next = read_u8(r);
            length = ((size_t)read_u8(r) + 2) * 4;
            break;
        case EXT_FRAGMENT:
            next = read_u8(r);
            read_skip(r, 1);
            if (read_u16(r) & FRAGMENT_OFFSET_V6) {
                out->proto = next;
                return !r->bad;
            }
            read_skip(r, 4);
            at += 8;
            out->proto = next;
            continue;
        default:
            out->l4 = (uint16_t)at;
            parse_ports(*r, out);
            return !r->bad;
        }
        read_skip(r, length - 2);
        if (r->bad)
            return false;
        at += length;
        out->proto = next;
    }
    return false;
}

static bool parse_v6(const uint8_t *p, size_t n, struct inner *out)
{
    struct reader r = reader_of(p, n);

    out->tos = (uint8_t)(read_u16(&r) >> 4);
    read_skip(&r, 2); /* flow label */
    out->total = IPV6_HEADER_BYTES + (uint32_t)read_u16(&r);
    out->proto = read_u8(&r);
    out->ttl = read_u8(&r);
    out->src = ip_from_bytes(6, read_slice(&r, 16).p);
    out->dst = ip_from_bytes(6, read_slice(&r, 16).p);
    if (r.bad || out->total > n)
        return false;
    r.left = out->total - IPV6_HEADER_BYTES;
    return parse_extensions(&r, IPV6_HEADER_BYTES, out);
}

bool inner_parse(const uint8_t *p, size_t n, struct inner *out)
{
    *out = (struct inner){0};
    if (n < IPV4_HEADER_BYTES)
        return false;
    out->version = p[0] >> 4;
    if (out->version == 4)
        return parse_v4(p, n, out);
    return out->version == 6 && n >= IPV6_HEADER_BYTES && parse_v6(p, n, out);
}

bool inner_selected(const struct inner *in, const struct selector *s, size_t n_selectors,
                    const struct ip_addr *addr, uint16_t port)
{
    for (size_t i = 0; i < n_selectors; i++) {
        bool all_ports = s[i].port_lo == 0 && s[i].port_hi == UINT16_MAX;
        bool opaque = s[i].port_lo == UINT16_MAX && s[i].port_hi == 0;

        if (in->ports_known ? opaque : !all_ports && !opaque)
            continue;
        if (selector_matches(&s[i], addr, in->proto, port))
            return true;
    }
    return false;
}

uint32_t inner_hash(const struct inner *in)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a over the 5-tuple, then a final mix */
    size_t n = ip_len(&in->src);

    for (size_t i = 0; i < n; i++)
        h = (h ^ in->src.b[i]) * 0x100000001b3u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ in->dst.b[i]) * 0x100000001b3u;
    h = (h ^ in->proto) * 0x100000001b3u;
    if (in->ports_known)
        h = (h ^ ((uint64_t)in->src_port << 16 | in->dst_port)) * 0x100000001b3u;
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    return (uint32_t)(h >> 32);
}

/* ---------------------------------------------------------------- editing */

static uint16_t load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void store_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* A checksum after one of its 16-bit words has changed (RFC 1624, equation 3). */
static void fix_checksum(uint8_t *checksum, uint16_t before, uint16_t after)
{
    uint32_t sum = (uint16_t)~load_u16(checksum) + (uint32_t)(uint16_t)~before + after;

    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    store_u16(checksum, (uint16_t)~sum);
}

bool inner_hop(uint8_t *p, struct inner *in)
{
    if (in->ttl <= 1)
        return false;
    in->ttl--;
    if (in->version == 4) {
        uint16_t before = load_u16(p + 8);
        p[8] = in->ttl;
        fix_checksum(p + 10, before, load_u16(p + 8));
    } else {
        p[7] = in->ttl;
    }
    return true;
}

static void set_ecn(uint8_t *p, struct inner *in, uint8_t ecn)
{
    in->tos = (uint8_t)((in->tos & ~3) | ecn);
    if (in->version == 4) {
        uint16_t before = load_u16(p);
        p[1] = in->tos;
        fix_checksum(p + 10, before, load_u16(p));
    } else {
        p[1] = (uint8_t)((p[1] & ~0x30) | ecn << 4);
    }
}

bool inner_ecn_out(uint8_t *p, struct inner *in, uint8_t outer_tos)
{
    enum { NOT_ECT, ECT_1, ECT_0, CE };
    uint8_t outer = outer_tos & 3, own = in->tos & 3;

    if (outer == CE && own == NOT_ECT)
        return false;
    if (outer == CE && own != CE)
        set_ecn(p, in, CE);
    else if (outer == ECT_1 && own == ECT_0)
        set_ecn(p, in, ECT_1);
    return true;
}

/* The MSS option (kind 2) of a TCP header of `n` octets, options included, or NULL. */
static uint8_t *find_mss(uint8_t *tcp, size_t n)
{
    size_t at = TCP_HEADER_BYTES;

    while (at < n) {
        uint8_t kind = tcp[at];

        if (kind == 0)
            return NULL;
        if (kind == 1) {
            at++;
            continue;
        }
        if (n - at < 2 || tcp[at + 1] < 2 || tcp[at + 1] > n - at)
            return NULL;
        if (kind == 2)
            return tcp[at + 1] == 4 ? tcp + at + 2 : NULL;
        at += tcp[at + 1];
    }
    return NULL;
}

bool inner_clamp_mss(uint8_t *p, const struct inner *in, uint16_t mtu)
{
    enum { TCP_SYN = 0x02, TCP_CHECKSUM_AT = 16, MSS_MIN = 64 };
    size_t ip = in->version == 4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES, header;
    uint16_t most, before;
    uint8_t *tcp, *mss, *checksum;

    if (in->proto != IP_PROTO_TCP || !in->l4 || in->total - in->l4 < TCP_HEADER_BYTES)
        return false;
    tcp = p + in->l4;
    header = (size_t)(tcp[12] >> 4) * 4;
    if (!(tcp[13] & TCP_SYN) || header < TCP_HEADER_BYTES || header > in->total - in->l4)
        return false;
    if (mtu < ip + TCP_HEADER_BYTES + MSS_MIN)
        return false;
    most = (uint16_t)(mtu - ip - TCP_HEADER_BYTES);
    mss = find_mss(tcp, header);
    if (!mss || load_u16(mss) <= most)
        return false;
    before = load_u16(mss);
    checksum = tcp + TCP_CHECKSUM_AT;
    store_u16(mss, most);
    /* At an odd offset the value's octets lie in two words of the sum: swapped, they
     * contribute as if they were one word the other way round (RFC 1071 §2(B)). */
    if ((mss - tcp) & 1)
        fix_checksum(checksum, __builtin_bswap16(before), __builtin_bswap16(most));
    else
        fix_checksum(checksum, before, most);
    return true;
}
