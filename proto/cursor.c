#include "proto/cursor.h"

#include <string.h>

struct reader reader_of(const void *bytes, size_t n)
{
    return (struct reader){.p = bytes, .left = n};
}

/* The one place that moves a reader: NULL and `bad` when n bytes are not there. */
static const uint8_t *take(struct reader *r, size_t n)
{
    const uint8_t *at = r->p;

    if (r->bad || n > r->left) {
        r->bad = true;
        r->left = 0;
        return NULL;
    }
    r->left -= n;
    if (n)
        r->p += n;
    return at;
}

uint8_t read_u8(struct reader *r)
{
    const uint8_t *b = take(r, 1);
    return b ? b[0] : 0;
}

uint16_t read_u16(struct reader *r)
{
    const uint8_t *b = take(r, 2);
    return b ? (uint16_t)(b[0] << 8 | b[1]) : 0;
}

uint32_t read_u32(struct reader *r)
{
    const uint8_t *b = take(r, 4);
    return b ? (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3] : 0;
}

uint64_t read_u64(struct reader *r)
{
    uint64_t high = read_u32(r);
    return high << 32 | read_u32(r);
}

struct slice read_slice(struct reader *r, size_t n)
{
    const uint8_t *b = take(r, n);
    return r->bad ? (struct slice){0} : (struct slice){b, n};
}

void read_bytes(struct reader *r, void *out, size_t n)
{
    const uint8_t *b = take(r, n);

    if (n == 0)
        return;
    if (b)
        memcpy(out, b, n);
    else
        memset(out, 0, n);
}

struct reader read_sub(struct reader *r, size_t n)
{
    const uint8_t *b = take(r, n);
    return (struct reader){.p = b, .left = r->bad ? 0 : n, .bad = r->bad};
}

void read_skip(struct reader *r, size_t n)
{
    (void)take(r, n);
}

struct writer writer_of(void *bytes, size_t cap)
{
    return (struct writer){.p = bytes, .cap = cap};
}

static uint8_t *room(struct writer *w, size_t n)
{
    uint8_t *at;

    if (w->bad || n > w->cap - w->n) {
        w->bad = true;
        return NULL;
    }
    at = w->p + w->n;
    w->n += n;
    return at;
}

static void put_u16(uint8_t *b, uint16_t v)
{
    b[0] = (uint8_t)(v >> 8);
    b[1] = (uint8_t)v;
}

static void put_u32(uint8_t *b, uint32_t v)
{
    put_u16(b, (uint16_t)(v >> 16));
    put_u16(b + 2, (uint16_t)v);
}

void write_u8(struct writer *w, uint8_t v)
{
    uint8_t *b = room(w, 1);
    if (b)
        *b = v;
}

void write_u16(struct writer *w, uint16_t v)
{
    uint8_t *b = room(w, 2);
    if (b)
        put_u16(b, v);
}

void write_u32(struct writer *w, uint32_t v)
{
    uint8_t *b = room(w, 4);
    if (b)
        put_u32(b, v);
}

void write_u64(struct writer *w, uint64_t v)
{
    write_u32(w, (uint32_t)(v >> 32));
    write_u32(w, (uint32_t)v);
}

void write_bytes(struct writer *w, const void *bytes, size_t n)
{
    uint8_t *b = room(w, n);
    if (b && n)
        memcpy(b, bytes, n);
}

void write_zeros(struct writer *w, size_t n)
{
    uint8_t *b = room(w, n);
    if (b && n)
        memset(b, 0, n);
}

static uint8_t *written(struct writer *w, size_t at, size_t n)
{
    if (w->bad || at > w->n || n > w->n - at) {
        w->bad = true;
        return NULL;
    }
    return w->p + at;
}

void write_u8_at(struct writer *w, size_t at, uint8_t v)
{
    uint8_t *b = written(w, at, 1);
    if (b)
        *b = v;
}

void write_u16_at(struct writer *w, size_t at, uint16_t v)
{
    uint8_t *b = written(w, at, 2);
    if (b)
        put_u16(b, v);
}

void write_u32_at(struct writer *w, size_t at, uint32_t v)
{
    uint8_t *b = written(w, at, 4);
    if (b)
        put_u32(b, v);
}
