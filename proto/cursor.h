/* Bounds-checked reading and writing of wire bytes.
 *
 * Both cursors remember their first error: after it every read gives zero,
 * every write does nothing, and the caller checks `bad` once at the end. All
 * integers are big-endian on the wire and host order in C. Nothing is copied
 * or owned: a reader points into the caller's bytes. Any thread, one at a time. */
#ifndef PROTO_CURSOR_H
#define PROTO_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Borrowed bytes. */
struct slice {
    const uint8_t *p;
    size_t n;
};

struct reader {
    const uint8_t *p;
    size_t left; /* bytes not yet read */
    bool bad;
};

struct reader reader_of(const void *bytes, size_t n);
uint8_t read_u8(struct reader *r);
uint16_t read_u16(struct reader *r);
uint32_t read_u32(struct reader *r);
uint64_t read_u64(struct reader *r);
/* n bytes in place; {NULL, 0} on error. */
struct slice read_slice(struct reader *r, size_t n);
/* Copies n bytes; zero-fills `out` on error. */
void read_bytes(struct reader *r, void *out, size_t n);
/* A reader over the next n bytes, which `r` skips; bad if there are fewer. */
struct reader read_sub(struct reader *r, size_t n);
void read_skip(struct reader *r, size_t n);

struct writer {
    uint8_t *p;
    size_t n;   /* bytes written */
    size_t cap; /* bytes of room at p */
    bool bad;
};

struct writer writer_of(void *bytes, size_t cap);
void write_u8(struct writer *w, uint8_t v);
void write_u16(struct writer *w, uint16_t v);
void write_u32(struct writer *w, uint32_t v);
void write_u64(struct writer *w, uint64_t v);
void write_bytes(struct writer *w, const void *bytes, size_t n);
void write_zeros(struct writer *w, size_t n);
/* Overwrites bytes written before; bad if they were not. */
void write_u8_at(struct writer *w, size_t at, uint8_t v);
void write_u16_at(struct writer *w, size_t at, uint16_t v);
void write_u32_at(struct writer *w, size_t at, uint32_t v);

#endif
