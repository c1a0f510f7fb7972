/* What newer versions add to a record, kept without being understood: fields, and whole kinds.
 *
 * record.unknown holds: u32 length of the Record's own, those fields as they stood on the wire,
 * then those of its body; in the order of their numbers, so that equal fields are equal octets.
 * Fields inside a record's smaller messages (Term, Suite, Endpoint, Selector) are not kept: these
 * never grow (sync.proto). */
#include "proto/codec_pb.h"

#include <string.h>

#include "proto/err.h"

enum {
    UNKNOWN_FIELDS_MAX = 64, /* per level */
    TAG_MAX = (1 << 29) - 1, /* protobuf's, which protobuf-c does not enforce */
};

/* ---- fields ---- */

struct fields {
    const ProtobufCMessageUnknownField *f[UNKNOWN_FIELDS_MAX];
    unsigned n;
};

/* In the order of their numbers, and as they came where a number recurs. */
static bool fields_of(const ProtobufCMessage *m, uint32_t without, struct fields *out)
{
    out->n = 0;
    for (unsigned i = 0; m && i < m->n_unknown_fields; i++) {
        const ProtobufCMessageUnknownField *f = &m->unknown_fields[i];
        unsigned at = out->n;
        if (f->tag == without)
            continue;
        if (f->tag == 0 || f->tag > TAG_MAX || out->n == UNKNOWN_FIELDS_MAX)
            return false;
        for (; at > 0 && out->f[at - 1]->tag > f->tag; at--)
            out->f[at] = out->f[at - 1];
        out->f[at] = f;
        out->n++;
    }
    return true;
}

static uint64_t field_key(const ProtobufCMessageUnknownField *f)
{
    return (uint64_t)f->tag << 3 | (uint64_t)f->wire_type;
}

static size_t fields_size(const struct fields *fields)
{
    size_t n = 0;

    for (unsigned i = 0; i < fields->n; i++) {
        n += 1 + fields->f[i]->len;
        for (uint64_t v = field_key(fields->f[i]); v >= 128; v >>= 7)
            n++;
    }
    return n;
}

static void fields_write(struct writer *w, const struct fields *fields)
{
    for (unsigned i = 0; i < fields->n; i++) {
        uint64_t v = field_key(fields->f[i]);
        for (; v >= 128; v >>= 7)
            write_u8(w, (uint8_t)(v | 128));
        write_u8(w, (uint8_t)v);
        write_bytes(w, fields->f[i]->data, fields->f[i]->len);
    }
}

static int keep_fields(const struct fields *outer, const struct fields *body, struct blob *out)
{
    size_t n_outer = fields_size(outer), n_body = fields_size(body);
    struct writer w;

    if (n_outer + n_body == 0)
        return ERR_OK;
    if (4 + n_outer + n_body > RECORD_BLOB_MAX)
        return ERR_FULL;
    out->p = secret_alloc(4 + n_outer + n_body);
    if (!out->p)
        return ERR_NOMEM;
    out->n = (uint32_t)(4 + n_outer + n_body);
    w = writer_of(out->p, out->n);
    write_u32(&w, (uint32_t)n_outer);
    fields_write(&w, outer);
    fields_write(&w, body);
    return w.bad || w.n != out->n ? ERR_INVALID : ERR_OK;
}

int unknown_keep(const ProtobufCMessage *outer, const ProtobufCMessage *body, uint32_t without,
                 struct blob *out)
{
    struct fields of_outer, of_body;

    if (!fields_of(outer, without, &of_outer) || !fields_of(body, 0, &of_body))
        return ERR_FULL;
    return keep_fields(&of_outer, &of_body, out);
}

static uint64_t read_varint(struct reader *r)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = read_u8(r);
        v |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return v;
    }
    r->bad = true;
    return 0;
}

/* The bytes of one field's value, a length prefix included. */
static struct slice read_field_value(struct reader *r, unsigned wire_type)
{
    const uint8_t *start = r->p;

    switch (wire_type) {
    case PROTOBUF_C_WIRE_TYPE_VARINT:
        (void)read_varint(r);
        break;
    case PROTOBUF_C_WIRE_TYPE_64BIT:
        read_skip(r, 8);
        break;
    case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
        read_skip(r, read_varint(r));
        break;
    case PROTOBUF_C_WIRE_TYPE_32BIT:
        read_skip(r, 4);
        break;
    default:
        r->bad = true;
    }
    return r->bad ? (struct slice){0} : (struct slice){start, (size_t)(r->p - start)};
}

/* Gives a message the fields in `r`; false when they are not well formed. */
bool unknown_restore(struct arena *a, struct reader r, ProtobufCMessage *m)
{
    ProtobufCMessageUnknownField *fields;
    unsigned n = 0;

    if (r.left == 0)
        return !r.bad;
    fields = arena_alloc(a, UNKNOWN_FIELDS_MAX * sizeof *fields);
    while (fields && r.left && n < UNKNOWN_FIELDS_MAX) {
        uint64_t key = read_varint(&r);
        struct slice value = read_field_value(&r, key & 7);
        if (r.bad || key >> 3 == 0 || key >> 3 > TAG_MAX)
            return false;
        fields[n++] =
            (ProtobufCMessageUnknownField){(uint32_t)(key >> 3), (ProtobufCWireType)(key & 7),
                                           value.n, (uint8_t *)(uintptr_t)value.p};
    }
    m->n_unknown_fields = n;
    m->unknown_fields = fields;
    return fields && r.left == 0;
}

bool unknown_split(const struct blob *b, struct reader *outer, struct reader *body)
{
    struct reader r = reader_of(b->p, b->n);

    if (b->n == 0) {
        *outer = *body = r;
        return true;
    }
    *outer = read_sub(&r, read_u32(&r));
    *body = r;
    return !r.bad;
}

/* ---- joining ---- */

struct level { /* the fields of one level, as messages to read and compare */
    ProtobufCMessage message;
    struct fields fields;
};

static bool level_of(struct arena *a, struct reader r, struct level *out)
{
    memset(out, 0, sizeof *out);
    return unknown_restore(a, r, &out->message) && fields_of(&out->message, 0, &out->fields);
}

/* How many fields from `at` on bear the same number. */
static unsigned run_of(const struct fields *x, unsigned at)
{
    unsigned n = 1;

    while (at + n < x->n && x->f[at + n]->tag == x->f[at]->tag)
        n++;
    return n;
}

static int compare_runs(const struct fields *x, unsigned xi, unsigned xn, const struct fields *y,
                        unsigned yi, unsigned yn)
{
    for (unsigned k = 0; k < xn && k < yn; k++) {
        const ProtobufCMessageUnknownField *a = x->f[xi + k], *b = y->f[yi + k];
        int order =
            a->len != b->len ? (a->len < b->len ? -1 : 1) : memcmp(a->data, b->data, a->len);
        if (order == 0 && a->wire_type != b->wire_type)
            order = a->wire_type < b->wire_type ? -1 : 1;
        if (order)
            return order;
    }
    return xn == yn ? 0 : xn < yn ? -1 : 1;
}

static bool take_run(struct fields *out, const struct fields *from, unsigned at, unsigned n)
{
    for (unsigned k = 0; k < n; k++) {
        if (out->n == UNKNOWN_FIELDS_MAX)
            return false;
        out->f[out->n++] = from->f[at + k];
    }
    return true;
}

static bool join_fields(const struct fields *x, const struct fields *y, struct fields *out)
{
    unsigned i = 0, k = 0;

    out->n = 0;
    while (i < x->n || k < y->n) {
        unsigned xn = i < x->n ? run_of(x, i) : 0, yn = k < y->n ? run_of(y, k) : 0;
        uint32_t xt = xn ? x->f[i]->tag : UINT32_MAX, yt = yn ? y->f[k]->tag : UINT32_MAX;
        bool first = xt < yt || (xt == yt && compare_runs(x, i, xn, y, k, yn) >= 0);

        if (!(first ? take_run(out, x, i, xn) : take_run(out, y, k, yn)))
            return false;
        i += xt <= yt ? xn : 0;
        k += yt <= xt ? yn : 0;
    }
    return true;
}

static int join_blobs(struct arena *a, const struct blob *x, const struct blob *y, struct blob *out)
{
    struct level xo, xb, yo, yb;
    struct fields outer, body;
    struct reader r[4];

    if (!unknown_split(x, &r[0], &r[1]) || !unknown_split(y, &r[2], &r[3]) ||
        !level_of(a, r[0], &xo) || !level_of(a, r[1], &xb) || !level_of(a, r[2], &yo) ||
        !level_of(a, r[3], &yb))
        return ERR_NOMEM; /* both are well formed */
    if (!join_fields(&xo.fields, &yo.fields, &outer) || !join_fields(&xb.fields, &yb.fields, &body))
        return ERR_FULL;
    return keep_fields(&outer, &body, out);
}

int codec_unknown_join(const struct blob *a, const struct blob *b, struct blob *out)
{
    struct arena arena = arena_of(64 * 1024);
    int rc = join_blobs(&arena, a, b, out);
    bool larger;

    arena_free(&arena);
    if (rc != ERR_FULL)
        return rc;
    /* More than a record may have: one side's. The longer is nearer to what others will join, so
     * this ends, too. */
    larger = a->n != b->n ? a->n > b->n : memcmp(a->p, b->p, a->n) > 0;
    return larger ? blob_set(out, a->p, a->n) : blob_set(out, b->p, b->n);
}

/* ---- kinds ----
 * Numbers 8 to 31 of a Record are bodies, and every body of these begins alike: 1 fixed64 key,
 * 2 uint64 revision, 3 int64 not_after_ms. */

uint8_t later_kind(const Pb__Record *pb)
{
    for (unsigned i = 0; i < pb->base.n_unknown_fields; i++) {
        const ProtobufCMessageUnknownField *f = &pb->base.unknown_fields[i];
        if (f->tag >= RECORD_LATER_FIRST && f->tag <= RECORD_LATER_LAST &&
            f->wire_type == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED)
            return (uint8_t)f->tag;
    }
    return 0;
}

static bool read_shared(struct reader r, struct later_record *out)
{
    enum { KEY = 1 << 3 | 1, REVISION = 2 << 3, NOT_AFTER = 3 << 3 };
    bool key = false;

    while (r.left && !r.bad) {
        uint64_t tag = read_varint(&r);
        if (tag == KEY) {
            uint8_t le[8];
            read_bytes(&r, le, sizeof le);
            for (int i = 7; i >= 0; i--)
                out->key = out->key << 8 | le[i];
            key = true;
        } else if (tag == REVISION) {
            out->revision = read_varint(&r);
        } else if (tag == NOT_AFTER) {
            out->not_after_ms = (int64_t)read_varint(&r);
        } else {
            (void)read_field_value(&r, tag & 7);
        }
    }
    return key && !r.bad;
}

bool later_from_pb(const Pb__Record *pb, struct record *r)
{
    struct reader body;
    bool found = false;

    for (unsigned i = 0; i < pb->base.n_unknown_fields; i++) {
        const ProtobufCMessageUnknownField *f = &pb->base.unknown_fields[i];
        if (f->tag != r->kind)
            continue;
        if (found)
            return false; /* one record, one body */
        found = true;
        body = reader_of(f->data, f->len);
        (void)read_varint(&body);
    }
    return found && !body.bad && blob_set(&r->later.body, body.p, body.left) == ERR_OK &&
           read_shared(body, &r->later);
}

bool later_to_pb(struct arena *a, const struct record *r, Pb__Record *pb)
{
    ProtobufCMessageUnknownField *fields;
    struct reader outer, body;
    uint8_t *value = arena_alloc(a, 5 + (size_t)r->later.body.n);
    size_t n = 0;

    if (!value || !record_is_later(r->kind) || !unknown_split(&r->unknown, &outer, &body) ||
        !unknown_restore(a, outer, &pb->base))
        return false;
    fields = arena_alloc(a, (pb->base.n_unknown_fields + 1) * sizeof *fields);
    if (!fields)
        return false;
    for (uint32_t v = r->later.body.n; v >= 128 || n == 0 || v; v >>= 7) {
        value[n++] = (uint8_t)(v >= 128 ? v | 128 : v);
        if (v < 128)
            break;
    }
    if (r->later.body.n)
        memcpy(value + n, r->later.body.p, r->later.body.n);
    fields[0] = (ProtobufCMessageUnknownField){r->kind, PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED,
                                               n + r->later.body.n, value};
    if (pb->base.n_unknown_fields)
        memcpy(fields + 1, pb->base.unknown_fields, pb->base.n_unknown_fields * sizeof *fields);
    pb->base.unknown_fields = fields;
    pb->base.n_unknown_fields++;
    return true;
}
