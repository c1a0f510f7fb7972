#include "tests/unit/sync/newer.h"

#include <criterion/criterion.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/err.h"

enum { ROOM = 8192 };

static void varint(struct writer *w, uint64_t v)
{
    for (; v >= 128; v >>= 7)
        write_u8(w, (uint8_t)(v | 128));
    write_u8(w, (uint8_t)v);
}

static void text_field(struct writer *w, uint32_t number, const char *text)
{
    varint(w, (uint64_t)number << 3 | 2);
    varint(w, strlen(text));
    write_bytes(w, text, strlen(text));
}

static uint64_t read_varint(struct reader *r)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = read_u8(r);
        v |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            break;
    }
    return v;
}

static struct record *decoded(const uint8_t *p, size_t n)
{
    struct record *r;

    cr_assert_eq(codec_record_decode((struct slice){p, n}, &r), ERR_OK);
    return r;
}

/* Copies a record's fields; into the body goes one more. */
static void graft(struct reader *r, struct writer *w, uint32_t number, const char *inner)
{
    while (r->left) {
        uint64_t key = read_varint(r), n;
        struct slice value;

        varint(w, key);
        if ((key & 7) == 0) {
            varint(w, read_varint(r));
            continue;
        }
        cr_assert_eq(key & 7, 2u);
        n = read_varint(r);
        value = read_slice(r, n);
        if (key >> 3 >= 5 && inner) { /* 5 to 7: the body */
            uint8_t more[256];
            struct writer m = writer_of(more, sizeof more);
            text_field(&m, number, inner);
            varint(w, n + m.n);
            write_bytes(w, value.p, value.n);
            write_bytes(w, more, m.n);
        } else {
            varint(w, n);
            write_bytes(w, value.p, value.n);
        }
    }
}

struct record *newer_fields(struct record *r, uint32_t number, const char *outer, const char *inner)
{
    static uint8_t in[ROOM], out[ROOM];
    struct writer w = writer_of(out, sizeof out);
    struct reader reader;
    struct record *newer;
    bool placed = r->seq != 0;
    size_t n;

    if (!placed) /* alone, a record is encoded with its place in a log */
        r->seq = 1;
    cr_assert_eq(codec_record_encode(r, in, sizeof in, &n), ERR_OK);
    reader = reader_of(in, n);
    graft(&reader, &w, number, inner);
    if (outer)
        text_field(&w, number, outer);
    cr_assert(!w.bad && !reader.bad);
    newer = decoded(out, w.n);
    record_free(r);
    return newer;
}

struct record *newer_kind(uint64_t key, uint64_t revision, int64_t not_after_ms, const char *text)
{
    uint8_t body[256], out[512], zero[ID_BYTES] = {0};
    struct writer b = writer_of(body, sizeof body), w = writer_of(out, sizeof out);

    varint(&b, 1 << 3 | 1);
    for (int i = 0; i < 8; i++)
        write_u8(&b, (uint8_t)(key >> 8 * i));
    varint(&b, 2 << 3);
    varint(&b, revision);
    varint(&b, 3 << 3);
    varint(&b, (uint64_t)not_after_ms);
    text_field(&b, 4, text);
    varint(&w, 1 << 3); /* version */
    varint(&w, RECORD_VERSION + 1);
    varint(&w, 2 << 3 | 2); /* its place in a log */
    varint(&w, ID_BYTES);
    write_bytes(&w, zero, sizeof zero);
    varint(&w, 4 << 3);
    varint(&w, 1);
    varint(&w, NEWER_KIND << 3 | 2);
    varint(&w, b.n);
    write_bytes(&w, body, b.n);
    cr_assert(!b.bad && !w.bad);
    return decoded(out, w.n);
}

bool newer_holds(const struct record *r, const char *text)
{
    static uint8_t room[ROOM];
    size_t n;

    cr_assert_eq(codec_record_encode(r, room, sizeof room, &n), ERR_OK);
    return memmem(room, n, text, strlen(text)) != NULL;
}
