/* SA payloads that a suite alone cannot say: several proposals, several lengths, duplicates, the
 * longest of all. What the peer offers stands in the tables below, what comes of it beside it. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "peer.h"

static struct bench b;
static struct peer p;

static void begin(void)
{
    bench_open(&b);
    peer_open(&p, &b);
}

static void end(void)
{
    peer_close(&p);
    bench_close(&b);
}

TestSuite(proposals, .init = begin, .fini = end);

/* ---- writing them ---- */

struct transform_offer {
    uint8_t type;
    uint16_t id, bits; /* bits 0: no key length */
};

enum { ROW_TRANSFORMS = 8, ROW_PROPOSALS = 3, SPI = 0x11223300 };

struct row {
    const char *what;
    const char *suite; /* that is chosen; NULL: refused */
    struct transform_offer offer[ROW_PROPOSALS][ROW_TRANSFORMS];
    uint8_t number;   /* of the proposal that is chosen, 0: 1 */
    uint16_t repeat;  /* each transform so often; 0: once */
    uint8_t protocol; /* instead of IKE or ESP */
};

static uint8_t body[8192];

static void write_transform(struct writer *w, const struct transform_offer *t, bool last)
{
    write_u8(w, last ? 0 : TRANSFORM_MORE);
    write_u8(w, 0);
    write_u16(w, t->bits ? 12 : 8);
    write_u8(w, t->type);
    write_u8(w, 0);
    write_u16(w, t->id);
    if (t->bits) {
        write_u16(w, 0x8000 | TRANSFORM_ATTR_KEY_LENGTH);
        write_u16(w, t->bits);
    }
}

static void write_one(struct writer *w, const struct transform_offer *list, unsigned repeat,
                      uint8_t number, uint8_t protocol, uint8_t spi_bytes, bool last)
{
    size_t at = w->n;
    unsigned n = 0, left;

    while (n < ROW_TRANSFORMS && list[n].type)
        n++;
    left = n * repeat;
    write_u8(w, last ? 0 : PROPOSAL_MORE);
    write_u8(w, 0);
    write_u16(w, 0);
    write_u8(w, number);
    write_u8(w, protocol);
    write_u8(w, spi_bytes);
    write_u8(w, (uint8_t)left);
    if (spi_bytes)
        write_u32(w, SPI);
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < repeat; k++)
            write_transform(w, &list[i], --left == 0);
    write_u16_at(w, at + 2, (uint16_t)(w->n - at));
}

static struct slice write_row(const struct row *row, uint8_t protocol)
{
    struct writer w = writer_of(body, sizeof body);
    unsigned n = 0;

    while (n < ROW_PROPOSALS && row->offer[n][0].type)
        n++;
    for (unsigned i = 0; i < n; i++)
        write_one(&w, row->offer[i], row->repeat ? row->repeat : 1, (uint8_t)(i + 1),
                  row->protocol ? row->protocol : protocol, protocol == PROTOCOL_ESP ? 4 : 0,
                  i + 1 == n);
    cr_assert(!w.bad);
    return (struct slice){w.p, w.n};
}

/* 255 transforms, the most that the count octet can say: useless ones, and then `last`. */
static struct slice write_255(const struct transform_offer *last, unsigned n, uint8_t protocol)
{
    struct writer w = writer_of(body, sizeof body);
    struct transform_offer useless = {TRANSFORM_ENCR, 3, 0};

    write_zeros(&w, 4);
    write_u8(&w, 1);
    write_u8(&w, protocol);
    write_u8(&w, protocol == PROTOCOL_ESP ? 4 : 0);
    write_u8(&w, 255);
    if (protocol == PROTOCOL_ESP)
        write_u32(&w, SPI);
    for (unsigned i = 0; i + n < 255; i++)
        write_transform(&w, &useless, n == 0 && i == 254);
    for (unsigned i = 0; i < n; i++)
        write_transform(&w, &last[i], i + 1 == n);
    write_u16_at(&w, 2, (uint16_t)w.n);
    return (struct slice){w.p, w.n};
}

/* ---- reading the answer ---- */

/* The transforms of the answer's only proposal, as "1/20/256 2/5 4/14"; its number goes to *number.
 */
static char *answer_text(char *out, size_t n, uint8_t *number)
{
    const struct payload *sa = message_find(&p.answer, PAYLOAD_SA);
    struct reader r = reader_of(sa ? sa->body.p : NULL, sa ? sa->body.n : 0);
    unsigned spi_bytes, count;

    out[0] = 0;
    read_skip(&r, 4);
    *number = read_u8(&r);
    read_skip(&r, 1);
    spi_bytes = read_u8(&r);
    count = read_u8(&r);
    read_skip(&r, spi_bytes);
    for (unsigned i = 0; i < count; i++) {
        uint16_t length;
        unsigned type, id;
        size_t used = strlen(out);

        read_skip(&r, 2);
        length = read_u16(&r);
        type = read_u8(&r);
        read_skip(&r, 1);
        id = read_u16(&r);
        snprintf(out + used, n - used, "%s%u/%u", i ? " " : "", type, id);
        used = strlen(out);
        if (length == 12) {
            read_skip(&r, 2);
            snprintf(out + used, n - used, "/%u", (unsigned)read_u16(&r));
        }
    }
    cr_assert(!r.bad && r.left == 0);
    return out;
}

static void check_refused(const char *what)
{
    cr_expect(peer_got_notify(&p, N_NO_PROPOSAL_CHOSEN), "%s", what);
    cr_expect_eq(b.failures, 1, "%s: one reason, not %u", what, b.failures);
    cr_expect_eq(strncmp(b.reason, "no_proposal_chosen: peer offered ", 33), 0, "%s: %s", what,
                 b.reason);
    cr_expect_not_null(strstr(b.reason, ", tunnel allows aes256gcm16"), "%s: %s", what, b.reason);
    b.failures = 0;
}

static void check_answer(const struct row *row)
{
    char text[128];
    uint8_t number;

    cr_expect_str_eq(answer_text(text, sizeof text, &number), row->suite, "%s", row->what);
    cr_expect_eq(number, row->number ? row->number : 1, "%s: number %u", row->what, number);
}

/* ---- IKE ---- */

#define GCM(bits)                                                                                  \
    {                                                                                              \
        TRANSFORM_ENCR, ENCR_AES_GCM_16, bits                                                      \
    }
#define CBC(bits)                                                                                  \
    {                                                                                              \
        TRANSFORM_ENCR, ENCR_AES_CBC, bits                                                         \
    }
#define PRF(id)                                                                                    \
    {                                                                                              \
        TRANSFORM_PRF, id, 0                                                                       \
    }
#define INTEG(id)                                                                                  \
    {                                                                                              \
        TRANSFORM_INTEG, id, 0                                                                     \
    }
#define DH(id)                                                                                     \
    {                                                                                              \
        TRANSFORM_DH, id, 0                                                                        \
    }
#define ESN(id)                                                                                    \
    {                                                                                              \
        TRANSFORM_ESN, id, 0                                                                       \
    }

Test(proposals, of_an_ike_sa)
{
    static const struct row rows[] = {
        {"an integrity transform beside an AEAD", "1/20/256 2/5 4/14",
         .offer = {{GCM(256), PRF(5), INTEG(12), DH(14)}}},
        {"integrity NONE beside an AEAD", "1/20/256 2/5 4/14",
         .offer = {{GCM(256), INTEG(0), PRF(5), DH(14)}}},
        {"the second of three", "1/20/128 2/6 4/14",
         .offer = {{CBC(128), PRF(5), INTEG(12), DH(14)},
                   {GCM(128), PRF(6), DH(14)},
                   {GCM(256), PRF(5), DH(14)}},
         .number = 2},
        {"the first of two good ones, not the stronger", "1/12/256 2/5 3/12 4/14",
         .offer = {{CBC(256), PRF(5), INTEG(12), DH(14)}, {GCM(256), PRF(7), DH(14)}}},
        {"several key lengths: the first that we have", "1/12/256 2/5 3/12 4/14",
         .offer = {{CBC(128), CBC(192), CBC(256), PRF(5), INTEG(12), DH(14)}}},
        {"several key lengths in the peer's order", "1/20/128 2/5 4/14",
         .offer = {{GCM(192), GCM(128), GCM(256), PRF(5), DH(14)}}},
        {"a key length missing, and given", "1/20/256 2/5 4/14",
         .offer = {{GCM(0), GCM(256), PRF(5), DH(14)}}},
        {"transforms in no order at all", "1/20/256 2/7 4/14",
         .offer = {{DH(14), PRF(7), GCM(256)}}},
        {"all duplicated", "1/20/256 2/5 4/14", .offer = {{GCM(256), PRF(5), DH(14)}}, .repeat = 3},
        {"proposals duplicated", "1/20/256 2/5 4/14",
         .offer = {{GCM(256), PRF(5), DH(14)}, {GCM(256), PRF(5), DH(14)}}},
        {"a CBC without integrity beside an AEAD", "1/20/128 2/5 4/14",
         .offer = {{CBC(256), GCM(128), PRF(5), DH(14)}}},
        {"DH of the KE payload, though not the first", "1/20/256 2/5 4/14",
         .offer = {{GCM(256), PRF(5), DH(5), DH(14)}}},
        {"no key length", NULL, .offer = {{GCM(0), PRF(5), DH(14)}}},
        {"wrong key lengths", NULL,
         .offer = {{GCM(512), GCM(1), CBC(64), PRF(5), INTEG(12), DH(14)}}},
        {"no cipher", NULL, .offer = {{PRF(5), INTEG(12), DH(14)}}},
        {"no PRF", NULL, .offer = {{GCM(256), DH(14)}}},
        {"no group", NULL, .offer = {{GCM(256), PRF(5)}}},
        {"no group that we have", NULL, .offer = {{GCM(256), PRF(5), DH(19), DH(31), DH(2)}}},
        {"a transform type of RFC 9370 (§3.3.6)", NULL,
         .offer = {{GCM(256), PRF(5), DH(14), {6, 36, 0}}}},
        {"the same, and one without", "1/20/256 2/5 4/14",
         .offer = {{GCM(256), PRF(5), DH(14), {6, 36, 0}}, {GCM(256), PRF(5), DH(14)}},
         .number = 2},
        {"ESP in IKE_SA_INIT", NULL, .offer = {{GCM(256), PRF(5), DH(14)}},
         .protocol = PROTOCOL_ESP},
    };

    p.dh = dh_generate(14);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *row = &rows[i];

        p.rec->ike.spi_i++;
        p.ike_offer = write_row(row, PROTOCOL_IKE);
        /* HDR, SAi1, KEi, Ni  -->  <-- HDR, SAr1, KEr, Nr, or N(NO_PROPOSAL_CHOSEN) */
        cr_assert_eq(peer_init(&p), row->suite != NULL, "%s: %s", row->what, b.reason);
        if (row->suite)
            check_answer(row);
        else
            check_refused(row->what);
    }
}

/* ---- ESP ---- */

Test(proposals, of_a_child_sa)
{
    static const struct row rows[] = {
        {"an integrity transform beside an AEAD", "1/20/256 5/0",
         .offer = {{GCM(256), INTEG(12), ESN(0)}}},
        {"no ESN transform", "1/20/256", .offer = {{GCM(256)}}},
        {"ESN and none", "1/20/256 5/0", .offer = {{GCM(256), ESN(1), ESN(0)}}},
        {"none and ESN", "1/20/256 5/0", .offer = {{GCM(256), ESN(0), ESN(1)}}},
        {"ESN only, and a second proposal with none", "1/20/128 5/0",
         .offer = {{GCM(256), ESN(1)}, {GCM(128), ESN(0)}}, .number = 2},
        {"several lengths, several MACs", "1/12/256 3/2 5/0",
         .offer = {{CBC(192), CBC(256), CBC(128), INTEG(14), INTEG(2), INTEG(12), ESN(0)}}},
        {"groups say nothing in IKE_AUTH", "1/20/128 5/0",
         .offer = {{GCM(128), DH(19), DH(14), ESN(0)}}},
        {"all duplicated", "1/12/128 3/12 5/0", .offer = {{CBC(128), INTEG(12), ESN(0)}},
         .repeat = 3},
        {"ESN only", NULL, .offer = {{GCM(256), ESN(1)}}},
        {"ESN only, in all proposals", NULL,
         .offer = {{GCM(256), ESN(1)}, {CBC(256), INTEG(12), ESN(1)}}},
        {"no key length", NULL, .offer = {{GCM(0), ESN(0)}, {CBC(0), INTEG(12), ESN(0)}}},
        {"wrong key lengths", NULL, .offer = {{GCM(192), CBC(192), INTEG(12), ESN(0)}}},
        {"a CBC without integrity", NULL, .offer = {{CBC(256), ESN(0)}}},
        {"implicit IVs (RFC 8750)", NULL, .offer = {{{TRANSFORM_ENCR, 30, 256}, ESN(0)}}},
        {"NULL without opt-in", NULL,
         .offer = {{{TRANSFORM_ENCR, ENCR_NULL, 0}, INTEG(12), ESN(0)}}},
        {"AH", NULL, .offer = {{INTEG(12), ESN(0)}}, .protocol = PROTOCOL_AH},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *row = &rows[i];

        if (i)
            peer_open(&p, &b);
        p.esp_offer = write_row(row, PROTOCOL_ESP);
        cr_assert(peer_init(&p));
        /* HDR, SK {IDi, AUTH, SAi2, TSi, TSr}  -->  <-- HDR, SK {IDr, AUTH, SAr2, TSi, TSr},
         * or SK {IDr, AUTH, N(NO_PROPOSAL_CHOSEN)} */
        cr_assert_eq(peer_auth(&p), row->suite != NULL, "%s: %s", row->what, b.reason);
        if (row->suite)
            check_answer(row);
        else
            check_refused(row->what);
        cr_expect(peer_dpd(&p), "%s: the IKE SA is there in any case", row->what);
        if (i + 1 < sizeof rows / sizeof *rows)
            peer_close(&p);
    }
}

Test(proposals, of_255_transforms)
{
    static const struct transform_offer ike[] = {GCM(256), PRF(5), DH(14)},
                                        esp[] = {GCM(256), ESN(0)};
    struct row row = {"255 transforms", "1/20/256 2/5 4/14", .offer = {{{0}}}};

    p.ike_offer = write_255(ike, 3, PROTOCOL_IKE);
    cr_assert(peer_init(&p), "%s", b.reason);
    check_answer(&row);
    row.suite = "1/20/256 5/0";
    p.esp_offer = write_255(esp, 2, PROTOCOL_ESP);
    cr_assert(peer_auth(&p), "%s", b.reason);
    check_answer(&row);
    p.esp_offer = write_255(NULL, 0, PROTOCOL_ESP);
    cr_assert(!peer_rekey_child(&p, 0));
    check_refused("255 useless ones");
    cr_assert_lt(strlen(b.reason), IKE_TEXT_MAX);
}

Test(proposals, that_are_malformed)
{
    static const struct row good = {"", .offer = {{GCM(256), ESN(0)}, {GCM(128), ESN(0)}}};
    struct {
        const char *what;
        size_t at;
        uint8_t value;
    } rows[] = {
        {"more proposals than there are", 32, 2},
        {"fewer proposals than there are", 0, 0},
        {"a proposal longer than the payload", 3, 0xff},
        {"a proposal shorter than its header", 3, 4},
        {"more transforms than there are", 7, 3},
        {"fewer transforms than there are", 7, 1},
        {"a transform longer than its proposal", 15, 0xff},
        {"a transform shorter than its header", 15, 3},
        {"a last transform that has a successor", 24, 3},
    };

    cr_assert(peer_init(&p) && peer_auth(&p));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        p.esp_offer = write_row(&good, PROTOCOL_ESP);
        body[rows[i].at] = rows[i].value;
        b.failures = 0;
        cr_expect(!peer_rekey_child(&p, 0), "%s", rows[i].what);
        cr_expect(peer_got_notify(&p, N_INVALID_SYNTAX), "%s", rows[i].what);
        cr_expect_eq(b.failures, 1, "%s", rows[i].what);
        cr_expect_eq(strncmp(b.reason, "invalid_syntax", 14), 0, "%s: %s", rows[i].what, b.reason);
    }
}
