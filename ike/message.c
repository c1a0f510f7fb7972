#include "ike/message.h"

#include "proto/err.h"

int message_parse_header(struct slice datagram, struct message *out)
{
    struct reader r = reader_of(datagram.p, datagram.n);
    uint32_t length;

    *out = (struct message){.raw = datagram};
    out->spi_i = read_u64(&r);
    out->spi_r = read_u64(&r);
    out->first = read_u8(&r);
    out->version = read_u8(&r);
    out->exchange = read_u8(&r);
    out->flags = read_u8(&r);
    out->id = read_u32(&r);
    length = read_u32(&r);
    if (r.bad)
        return ERR_TRUNCATED;
    if (length != datagram.n || length > IKE_MESSAGE_MAX || out->spi_i == 0)
        return ERR_INVALID;
    return ERR_OK;
}

static bool known_payload(uint8_t type)
{
    return (type >= PAYLOAD_SA && type <= PAYLOAD_EAP) || type == PAYLOAD_SKF;
}

int message_parse_chain(struct message *m, uint8_t first, struct slice bytes)
{
    struct reader r = reader_of(bytes.p, bytes.n);
    uint8_t type = first;

    while (type != PAYLOAD_NONE) {
        uint8_t next = read_u8(&r);
        bool critical = read_u8(&r) & 0x80;
        uint16_t length = read_u16(&r);
        struct slice body;

        if (r.bad || length < IKE_PAYLOAD_HEADER_BYTES)
            return ERR_INVALID;
        body = read_slice(&r, length - IKE_PAYLOAD_HEADER_BYTES);
        if (r.bad)
            return ERR_INVALID;
        if (known_payload(type)) {
            if (m->n == IKE_PAYLOADS_MAX)
                return ERR_INVALID;
            m->payloads[m->n++] = (struct payload){type, next, body};
        } else if (critical) {
            m->bad_critical = type;
            return ERR_UNSUPPORTED;
        }
        if (type == PAYLOAD_SK || type == PAYLOAD_SKF)
            break;
        type = next;
    }
    return r.left == 0 ? ERR_OK : ERR_INVALID;
}

int message_parse(struct slice datagram, struct message *out)
{
    int rc = message_parse_header(datagram, out);

    if (rc != ERR_OK)
        return rc;
    return message_parse_chain(
        out, out->first,
        (struct slice){datagram.p + IKE_HEADER_BYTES, datagram.n - IKE_HEADER_BYTES});
}

bool message_next(struct slice *run, struct message *out)
{
    struct reader r = reader_of(run->p, run->n);
    struct slice one = {run->p, 0};

    read_skip(&r, IKE_HEADER_BYTES - 4);
    one.n = read_u32(&r);
    if (r.bad || one.n > run->n || message_parse(one, out) != ERR_OK)
        return false;
    run->p += one.n;
    run->n -= one.n;
    return true;
}

const struct payload *message_find(const struct message *m, uint8_t type)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->payloads[i].type == type)
            return &m->payloads[i];
    return NULL;
}

bool notify_parse(struct slice body, struct notify *out)
{
    struct reader r = reader_of(body.p, body.n);
    uint8_t spi_bytes;

    out->protocol = read_u8(&r);
    spi_bytes = read_u8(&r);
    out->type = read_u16(&r);
    out->spi = read_slice(&r, spi_bytes);
    out->data = read_slice(&r, r.left);
    return !r.bad;
}

bool message_find_notify(const struct message *m, uint16_t type, struct notify *out)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->payloads[i].type == PAYLOAD_NOTIFY && notify_parse(m->payloads[i].body, out) &&
            out->type == type)
            return true;
    return false;
}

void chain_begin(struct chain *c, void *bytes, size_t cap)
{
    *c = (struct chain){.w = writer_of(bytes, cap)};
}

void chain_open(struct chain *c, uint8_t type)
{
    chain_close(c);
    if (c->any)
        write_u8_at(&c->w, c->last_at, type);
    else
        c->first = type;
    c->any = c->open = true;
    c->last_at = c->w.n;
    write_zeros(&c->w, IKE_PAYLOAD_HEADER_BYTES);
}

void chain_close(struct chain *c)
{
    if (!c->open)
        return;
    if (c->w.n - c->last_at > UINT16_MAX)
        c->w.bad = true;
    write_u16_at(&c->w, c->last_at + 2, (uint16_t)(c->w.n - c->last_at));
    c->open = false;
}

void chain_notify(struct chain *c, uint8_t protocol, struct slice spi, uint16_t type,
                  struct slice data)
{
    chain_open(c, PAYLOAD_NOTIFY);
    write_u8(&c->w, protocol);
    write_u8(&c->w, (uint8_t)spi.n);
    write_u16(&c->w, type);
    write_bytes(&c->w, spi.p, spi.n);
    write_bytes(&c->w, data.p, data.n);
    chain_close(c);
}

void message_header(struct writer *w, uint64_t spi_i, uint64_t spi_r, uint8_t first,
                    uint8_t exchange, uint8_t flags, uint32_t id)
{
    write_u64(w, spi_i);
    write_u64(w, spi_r);
    write_u8(w, first);
    write_u8(w, IKE_VERSION_2);
    write_u8(w, exchange);
    write_u8(w, flags);
    write_u32(w, id);
    write_u32(w, 0);
}

void message_finish(struct writer *w)
{
    write_u32_at(w, IKE_HEADER_BYTES - 4, (uint32_t)w->n);
}
