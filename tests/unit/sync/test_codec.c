/* What goes out comes back; what should not come in does not. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/err.h"
#include "sync/join.h"
#include "tests/unit/sync/samples.h"

static uint8_t room[256 * 1024];

static struct record *round_trip(const struct record *r)
{
    struct record *back = NULL;
    size_t n;

    cr_assert_eq(codec_record_encode(r, room, sizeof room, &n), ERR_OK);
    cr_assert_eq(codec_record_size(r), n);
    cr_assert_eq(codec_record_decode((struct slice){room, n}, &back), ERR_OK);
    return back;
}

static bool same(const struct record *a, const struct record *b)
{
    static uint8_t bytes_a[128 * 1024], bytes_b[128 * 1024];
    size_t n_a, n_b;

    cr_assert_eq(codec_record_encode(a, bytes_a, sizeof bytes_a, &n_a), ERR_OK);
    cr_assert_eq(codec_record_encode(b, bytes_b, sizeof bytes_b, &n_b), ERR_OK);
    return n_a == n_b && memcmp(bytes_a, bytes_b, n_a) == 0;
}

Test(codec_record, an_ike_record_comes_back_whole)
{
    struct record *r = sample_at(sample_ike(UINT64_MAX, 5), 9, SLOT_MAX, UINT64_MAX), *back;
    uint8_t big[RECORD_BLOB_MAX];

    memset(big, 0x5a, sizeof big);
    r->ike.i_am_initiator = true;
    r->ike.spi_i = 0x8000000000000001;
    r->ike.next_in = r->ike.next_out = UINT32_MAX;
    r->ike.given_up[0] = 0xc0ffee;
    r->ike.given_up[1] = 0xfffffffe;
    r->ike.n_given_up = 2;
    memset(r->ike.last_request_hash, 7, sizeof r->ike.last_request_hash);
    cr_assert_eq(blob_set(&r->ike.our_request, big, sizeof big), ERR_OK);
    cr_assert_eq(blob_set(&r->ike.our_request_state, big, sizeof big), ERR_OK);
    back = round_trip(r);
    cr_assert(same(r, back));
    cr_assert(back->ike.i_am_initiator && back->ike.spi_i == r->ike.spi_i);
    cr_assert(back->ike.our_request.n == sizeof big &&
              back->ike.our_request.p[sizeof big - 1] == 0x5a);
    cr_assert(back->origin_slot == SLOT_MAX && back->seq == UINT64_MAX);
    cr_assert_arr_eq(back->ike.sk_ei.b, r->ike.sk_ei.b, 36);
    cr_assert_eq(term_compare(&back->ike.term, &r->ike.term), 0);
    cr_assert(endpoint_equal(&back->ike.peer, &r->ike.peer));
    record_free(r);
    record_free(back);
}

Test(codec_record, a_child_record_comes_back_whole)
{
    struct record *r = sample_at(sample_child(0xffffffff, 5), 9, 0, 1), *back;

    r->child.confirmed = r->child.rekeyed = true;
    r->child.generation = 4;
    r->child.replaces_spi = 0x400099;
    for (r->child.ts_local.n = 1; r->child.ts_local.n < SELECTORS_MAX; r->child.ts_local.n++)
        r->child.ts_local.s[r->child.ts_local.n] = r->child.ts_local.s[0];
    r->child.ts_local.s[7].proto = 17;
    r->child.ts_local.s[7].port_hi = 53;
    back = round_trip(r);
    cr_assert(same(r, back));
    cr_assert_eq(back->child.ts_local.n, SELECTORS_MAX);
    cr_assert_eq(back->child.ts_local.s[7].port_hi, 53);
    cr_assert(back->child.rekeyed && back->child.replaces_spi == 0x400099);
    record_free(r);
    record_free(back);
}

Test(codec_record, the_largest_record_fits_a_message)
{
    struct record *r = sample_at(sample_ike(1, 5), 9, 1, 1), *back;
    struct blob *blobs[] = {&r->ike.last_response, &r->ike.our_request, &r->ike.our_request_state,
                            &r->ike.peer_id};
    uint8_t big[RECORD_BLOB_MAX] = {0};
    struct codec_message m = {.kind = CODEC_PULL_REPLY};
    size_t n;

    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(blob_set(blobs[i], big, sizeof big), ERR_OK);
    back = round_trip(r);
    cr_assert(same(r, back));
    m.pull_reply.records = &r;
    m.pull_reply.n_records = 1;
    cr_assert_eq(codec_encode(&m, room, sizeof room, &n), ERR_OK);
    record_free(r);
    record_free(back);
}

/* ---- what is refused: one defect each ---- */

typedef void spoil_fn(struct record *r);
#define SPOIL(name, statement)                                                                     \
    static void name(struct record *r)                                                             \
    {                                                                                              \
        statement;                                                                                 \
    }
/* clang-format off: a row is to be read as one. */
SPOIL(slot_too_high, r->origin_slot = SLOT_MAX + 1)
SPOIL(no_seq, r->seq = 0)
SPOIL(no_version, r->version = 0)
SPOIL(term_slot, r->ike.term.slot = SLOT_MAX + 1)
SPOIL(ike_state, r->ike.state = 3)
SPOIL(ike_absent, r->ike.state = SA_ABSENT)
SPOIL(no_spi, r->ike.spi_r = 0)
SPOIL(short_key, r->ike.sk_ei.n--)
SPOIL(long_key, r->ike.sk_er.n++)
SPOIL(short_prf_key, r->ike.sk_d.n = 20)
SPOIL(aead_with_integ_key, r->ike.sk_ai.n = 32)
SPOIL(aead_with_integ, r->ike.suite.integ = INTEG_HMAC_SHA2_256_128)
SPOIL(no_such_cipher, r->ike.suite.encr = 99)
SPOIL(no_such_prf, r->ike.suite.prf = 99)
SPOIL(no_such_group, r->ike.suite.dh = 99)
SPOIL(nat_bits, r->ike.nat = 4)
SPOIL(no_address, r->ike.peer.ip.family = 0)
SPOIL(mixed_families, r->ike.peer.ip.family = 6)
SPOIL(before_1970, r->ike.created_ms = -1)
SPOIL(too_late, r->ike.not_after_ms = INT64_MAX)
SPOIL(low_spi, r->child.spi_in = 255)
SPOIL(no_spi_out, r->child.spi_out = 0)
SPOIL(child_state, r->child.state = 9)
SPOIL(child_key, r->child.encr_in.n = 0)
SPOIL(child_integ, r->child.integ_in.n = 20)
SPOIL(cbc_without_integ, r->child.suite.integ = 0)
SPOIL(child_slot, r->child.origin_slot = SLOT_MAX + 1)
SPOIL(selector_family, r->child.ts_local.s[0].lo.family = 6)
SPOIL(selector_order, r->child.ts_remote.s[0].lo.b[0] = 200)
SPOIL(selector_ports, (r->child.ts_remote.s[0].port_lo = 9, r->child.ts_remote.s[0].port_hi = 8))
SPOIL(moved_low_spi, r->endpoint.spi_in = 1)
SPOIL(moved_nowhere, r->endpoint.peer.ip.family = 0)
/* clang-format on */

Test(codec_record, refuses_each_defect)
{
    static const struct {
        spoil_fn *spoil;
        const char *name;
        enum record_kind kind;
    } rows[] = {
/* clang-format off */
#define ROW(kind, f) {f, #f, kind}
        ROW(RECORD_IKE, slot_too_high),     ROW(RECORD_IKE, no_seq),
        ROW(RECORD_IKE, no_version),        ROW(RECORD_IKE, term_slot),
        ROW(RECORD_IKE, ike_state),         ROW(RECORD_IKE, ike_absent),
        ROW(RECORD_IKE, no_spi),            ROW(RECORD_IKE, short_key),
        ROW(RECORD_IKE, long_key),          ROW(RECORD_IKE, short_prf_key),
        ROW(RECORD_IKE, aead_with_integ_key), ROW(RECORD_IKE, aead_with_integ),
        ROW(RECORD_IKE, no_such_cipher),    ROW(RECORD_IKE, no_such_prf),
        ROW(RECORD_IKE, no_such_group),     ROW(RECORD_IKE, nat_bits),
        ROW(RECORD_IKE, no_address),        ROW(RECORD_IKE, mixed_families),
        ROW(RECORD_IKE, before_1970),       ROW(RECORD_IKE, too_late),
        ROW(RECORD_CHILD, low_spi),         ROW(RECORD_CHILD, no_spi_out),
        ROW(RECORD_CHILD, child_state),     ROW(RECORD_CHILD, child_key),
        ROW(RECORD_CHILD, child_integ),     ROW(RECORD_CHILD, cbc_without_integ),
        ROW(RECORD_CHILD, child_slot),      ROW(RECORD_CHILD, selector_family),
        ROW(RECORD_CHILD, selector_order),  ROW(RECORD_CHILD, selector_ports),
        ROW(RECORD_ENDPOINT, moved_low_spi), ROW(RECORD_ENDPOINT, moved_nowhere),
    };
    /* clang-format on */

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct record *r = rows[i].kind == RECORD_IKE     ? sample_ike(0xabc, 5)
                           : rows[i].kind == RECORD_CHILD ? sample_child(0x400100, 5)
                                                          : sample_endpoint(0x400100, 1);
        struct record *back = NULL;
        size_t n;
        sample_at(r, 9, 1, 1);
        cr_assert_eq(codec_record_check(r), ERR_OK);
        rows[i].spoil(r);
        cr_assert_eq(codec_record_encode(r, room, sizeof room, &n), ERR_OK, "%s", rows[i].name);
        cr_assert_neq(codec_record_decode((struct slice){room, n}, &back), ERR_OK, "%s",
                      rows[i].name);
        cr_assert_null(back);
        record_free(r);
    }
}

Test(codec_record, refuses_every_truncation)
{
    struct record *r = sample_at(sample_child(0x400100, 5), 9, 1, 1), *back;
    size_t n;

    cr_assert_eq(codec_record_encode(r, room, sizeof room, &n), ERR_OK);
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *exact = malloc(cut + 1); /* so that a sanitizer sees reading past it */
        memcpy(exact, room, cut);
        cr_assert_neq(codec_record_decode((struct slice){exact, cut}, &back), ERR_OK, "%zu", cut);
        free(exact);
    }
    cr_assert_eq(codec_record_encode(r, room, n - 1, &n), ERR_FULL);
    record_free(r);
}

/* ---- newer versions ---- */

static size_t append_field(uint8_t *out, size_t n, uint32_t tag, const char *text)
{
    size_t len = strlen(text);

    cr_assert(tag >= 16 && tag < 2048 && len < 128);
    out[n++] = (uint8_t)((tag << 3 | 2) & 127) | 128;
    out[n++] = (uint8_t)(tag >> 4);
    out[n++] = (uint8_t)len;
    memcpy(out + n, text, len);
    return n + len;
}

/* Fields that we do not know, in the record and in its body, pass through us unharmed. */
Test(codec_record, relays_fields_of_newer_versions)
{
    struct record *r = sample_at(sample_endpoint(0x400100, 1), 9, 1, 1), *back, *again;
    uint8_t body[256];
    size_t n, at;

    cr_assert_eq(codec_record_encode(r, room, sizeof room, &n), ERR_OK);
    for (at = 0; at < n && room[at] != (7 << 3 | 2); at++) /* the endpoint, the last field */
        ;
    cr_assert_eq(at + 2 + room[at + 1], n);
    memcpy(body, room + at + 2, room[at + 1]);
    room[at + 1] = (uint8_t)append_field(body, room[at + 1], 20, "inner");
    memcpy(room + at + 2, body, room[at + 1]);
    n = append_field(room, at + 2 + room[at + 1], 30, "outer one");
    n = append_field(room, n, 31, "outer two");

    cr_assert_eq(codec_record_decode((struct slice){room, n}, &back), ERR_OK);
    cr_assert_gt(back->unknown.n, 0u);
    cr_assert_eq(codec_record_encode(back, room, sizeof room, &n), ERR_OK);
    cr_assert_not_null(memmem(room, n, "inner", 5));
    cr_assert_not_null(memmem(room, n, "outer one", 9));
    cr_assert_not_null(memmem(room, n, "outer two", 9));
    cr_assert_eq(codec_record_decode((struct slice){room, n}, &again), ERR_OK);
    cr_assert(same(back, again));
    record_free(r);
    record_free(back);
    record_free(again);
}

Test(codec_record, a_kind_of_a_newer_version_is_unsupported)
{
    struct record *back;
    size_t n = append_field(room, 0, 40, "a body of another kind");

    cr_assert_eq(codec_record_decode((struct slice){room, n}, &back), ERR_UNSUPPORTED);
}

/* ---- messages ---- */

static struct codec_message there_and_back(const struct codec_message *m)
{
    struct codec_message back;
    size_t n;

    cr_assert_eq(codec_encode(m, room, sizeof room, &n), ERR_OK);
    cr_assert_eq(codec_decode((struct slice){room, n}, &back), ERR_OK);
    cr_assert_eq(back.kind, m->kind);
    return back;
}

Test(codec_message, an_update_keeps_groups_and_numbers)
{
    struct record *records[3] = {sample_ike(1, 5), sample_child(0x400100, 5),
                                 sample_child(0x400200, 6)};
    uint32_t sizes[2] = {2, 1};
    struct codec_message m = {.kind = CODEC_UPDATE}, back;

    m.update = (struct codec_update){sample_id(9), 41, records, 3, sizes, 2};
    back = there_and_back(&m);
    cr_assert(back.update.n_records == 3 && back.update.n_groups == 2);
    cr_assert(back.update.group_sizes[0] == 2 && back.update.group_sizes[1] == 1);
    for (uint64_t i = 0; i < 3; i++) {
        cr_assert_eq(back.update.records[i]->seq, 41 + i);
        cr_assert(id128_equal(&back.update.records[i]->origin, &m.update.origin));
        record_free(records[i]);
    }
    codec_message_free(&back);
}

Test(codec_message, an_announce_comes_back_whole)
{
    struct log_position applied[2] = {{sample_id(1), 1, 5}, {sample_id(2), SLOT_MAX, UINT64_MAX}};
    struct codec_heard heard[1] = {{sample_id(2), 17, 2, true, 99, 7, true}};
    struct codec_epoch epochs[2] = {{0, 1}, {SLOT_MAX, EPOCH_MAX}};
    uint16_t sure_of[2] = {0, SLOT_MAX};
    struct codec_message m = {.kind = CODEC_ANNOUNCE}, back;
    struct codec_announce *a = &m.announce;

    *a = (struct codec_announce){.state = 4,
                                 .head = 99,
                                 .applied = applied,
                                 .n_applied = 2,
                                 .heard = heard,
                                 .n_heard = 1,
                                 .epoch = EPOCH_MAX,
                                 .epochs = epochs,
                                 .n_epochs = 2,
                                 .name = "n1",
                                 .version = "0.1.0",
                                 .tells_epochs = true,
                                 .sure_of = sure_of,
                                 .n_sure_of = 2,
                                 .keys = {{1, 2}, {UINT32_MAX, 0x01020304}},
                                 .n_keys = 2,
                                 .members = UINT64_MAX - 1,
                                 .wall_ms = CODEC_WALL_MS_MAX,
                                 .ike_sas = 3,
                                 .child_sas = 4};
    memset(a->sa_digest, 0xd1, sizeof a->sa_digest);
    back = there_and_back(&m);
    cr_assert(back.announce.head == 99 && back.announce.state == 4 &&
              back.announce.epoch == EPOCH_MAX);
    cr_assert(back.announce.n_applied == 2 && back.announce.applied[1].seq == UINT64_MAX);
    cr_assert(back.announce.heard[0].age_ms == 17 && back.announce.heard[0].believed);
    cr_assert_eq(back.announce.heard[0].number, 99u);
    cr_assert(back.announce.heard[0].epoch == 7 && back.announce.heard[0].rival);
    cr_assert(back.announce.tells_epochs && !back.announce.sure);
    cr_assert(back.announce.n_sure_of == 2 && back.announce.sure_of[1] == SLOT_MAX);
    cr_assert_eq(back.announce.n_keys, 2u);
    cr_assert(back.announce.keys[1].id == UINT32_MAX && back.announce.keys[1].check == 0x01020304);
    cr_assert_eq(back.announce.members, UINT64_MAX - 1);
    cr_assert(back.announce.epochs[1].epoch == EPOCH_MAX &&
              back.announce.epochs[1].slot == SLOT_MAX);
    cr_assert_str_eq(back.announce.name, "n1");
    cr_assert(back.announce.child_sas == 4 && back.announce.sa_digest[31] == 0xd1);
    codec_message_free(&back);
}

/* The largest that a member of a full list may ever have to send. */
Test(codec_message, a_full_announce_fits)
{
    static struct log_position applied[CODEC_POSITIONS_MAX];
    static struct codec_heard heard[CODEC_HEARD_MAX];
    static struct codec_epoch epochs[SLOT_MAX + 1];
    static uint16_t sure_of[SLOT_MAX + 1];
    struct codec_message m = {.kind = CODEC_ANNOUNCE}, back;

    for (uint32_t i = 0; i < CODEC_POSITIONS_MAX; i++)
        applied[i] = (struct log_position){sample_id(i), SLOT_MAX, UINT64_MAX};
    for (uint32_t i = 0; i < CODEC_HEARD_MAX; i++)
        heard[i] = (struct codec_heard){sample_id(i), UINT32_MAX, SLOT_MAX, true,
                                        UINT64_MAX,   EPOCH_MAX,  true};
    for (uint16_t i = 0; i <= SLOT_MAX; i++) {
        epochs[i] = (struct codec_epoch){i, EPOCH_MAX};
        sure_of[i] = SLOT_MAX;
    }
    m.announce = (struct codec_announce){.head = UINT64_MAX,
                                         .applied = applied,
                                         .n_applied = CODEC_POSITIONS_MAX,
                                         .heard = heard,
                                         .n_heard = CODEC_HEARD_MAX,
                                         .epochs = epochs,
                                         .n_epochs = SLOT_MAX + 1,
                                         .tells_epochs = true,
                                         .sure_of = sure_of,
                                         .n_sure_of = SLOT_MAX + 1,
                                         .epoch = EPOCH_MAX};
    memset(m.announce.name, 'n', CODEC_TEXT_MAX - 1);
    memset(m.announce.version, 'v', CODEC_TEXT_MAX - 1);
    back = there_and_back(&m);
    cr_assert_eq(back.announce.applied[CODEC_POSITIONS_MAX - 1].seq, UINT64_MAX);
    cr_assert_eq(back.announce.heard[CODEC_HEARD_MAX - 1].age_ms, UINT32_MAX);
    codec_message_free(&back);
}

Test(codec_message, an_announce_is_refused_for_each_defect)
{
    struct log_position applied[1] = {{sample_id(1), 1, 5}};
    struct codec_heard heard[1] = {{sample_id(2), 17, 2, true, 99, 7, true}};
    struct codec_epoch epochs[1] = {{0, 1}};
    uint16_t sure_of[1] = {1};
    struct codec_announce good = {.applied = applied,
                                  .n_applied = 1,
                                  .heard = heard,
                                  .n_heard = 1,
                                  .epochs = epochs,
                                  .n_epochs = 1,
                                  .sure_of = sure_of,
                                  .n_sure_of = 1,
                                  .name = "n1",
                                  .version = "1"};

    for (int defect = 0; defect <= 8; defect++) {
        struct codec_message m = {.kind = CODEC_ANNOUNCE, .announce = good}, back;
        size_t n;
        applied[0].slot = defect == 1 ? SLOT_MAX + 1 : 1;
        heard[0].slot = defect == 2 ? SLOT_MAX + 1 : 2;
        epochs[0].epoch = defect == 3 ? EPOCH_MAX + 1 : 1;
        m.announce.state = 1;
        if (defect == 4)
            strcpy(m.announce.version, "\x7f");
        m.announce.epoch = defect == 5 ? EPOCH_MAX + 1 : 1;
        heard[0].epoch = defect == 7 ? EPOCH_MAX + 1 : 1;
        sure_of[0] = defect == 8 ? SLOT_MAX + 1 : 1;
        if (defect == 6)
            strcpy(m.announce.name, "a\nb");
        cr_assert_eq(codec_encode(&m, room, sizeof room, &n), ERR_OK);
        cr_assert_eq(codec_decode((struct slice){room, n}, &back), defect ? ERR_INVALID : ERR_OK,
                     "%d", defect);
        codec_message_free(&back);
    }
}

Test(codec_message, forward_and_pull_come_back_whole)
{
    uint8_t datagram[3] = {1, 2, 3};
    struct log_position vector[1] = {{sample_id(1), 1, 5}};
    struct record *r = sample_at(sample_ike(1, 5), 9, 3, 12);
    struct codec_message m = {.kind = CODEC_FORWARD}, back;

    cr_assert(endpoint_parse("[2001:db8::1]:500", &m.forward.local));
    cr_assert(endpoint_parse("[2001:db8::2]:501", &m.forward.peer));
    m.forward.datagram = datagram;
    m.forward.n_datagram = 3;
    back = there_and_back(&m);
    cr_assert(endpoint_equal(&back.forward.peer, &m.forward.peer) && back.forward.datagram[2] == 3);
    codec_message_free(&back);

    m = (struct codec_message){.kind = CODEC_PULL_REQUEST};
    m.pull_request =
        (struct codec_pull_request){sample_id(4), 0xfedcba9876543210, 7, 8, vector, 1, 6};
    back = there_and_back(&m);
    cr_assert(back.pull_request.nonce == 0xfedcba9876543210 && back.pull_request.snapshot == 7 &&
              back.pull_request.cursor == 8 && back.pull_request.heard == 6 &&
              back.pull_request.vector[0].seq == 5);
    codec_message_free(&back);

    m = (struct codec_message){.kind = CODEC_PULL_REPLY};
    m.pull_reply = (struct codec_pull_reply){.snapshot = 7,
                                             .records = &r,
                                             .n_records = 1,
                                             .next_cursor = 2,
                                             .more = true,
                                             .vector = vector,
                                             .n_vector = 1};
    back = there_and_back(&m);
    cr_assert(back.pull_reply.more && !back.pull_reply.expired && back.pull_reply.n_records == 1);
    cr_assert(back.pull_reply.records[0]->seq == 12 &&
              back.pull_reply.records[0]->origin_slot == 3);
    codec_message_free(&back);
    record_free(r);
}

Test(codec_message, a_forward_without_addresses_or_bytes_is_refused)
{
    uint8_t datagram[3] = {1, 2, 3};
    struct codec_message m = {.kind = CODEC_FORWARD}, back;
    size_t n;

    m.forward.datagram = datagram;
    m.forward.n_datagram = 3;
    cr_assert_eq(codec_encode(&m, room, sizeof room, &n), ERR_OK);
    cr_assert_eq(codec_decode((struct slice){room, n}, &back), ERR_INVALID);
    cr_assert(endpoint_parse("192.0.2.1:500", &m.forward.local));
    cr_assert(endpoint_parse("[2001:db8::2]:501", &m.forward.peer));
    cr_assert_eq(codec_encode(&m, room, sizeof room, &n), ERR_OK);
    cr_assert_eq(codec_decode((struct slice){room, n}, &back), ERR_INVALID);
}

Test(codec_message, a_moved_peer_comes_back_whole_or_is_refused)
{
    static const struct {
        uint32_t spi_in;
        const char *ip;
        uint16_t port;
        int expected;
    } rows[] = {{0x400100, "198.51.100.7", 1024, ERR_OK},
                {0xffffffff, "2001:db8::2", 65535, ERR_OK},
                {255, "198.51.100.7", 1024, ERR_INVALID},    /* no ESP SPI (RFC 4303 §2.1) */
                {0x400100, "198.51.100.7", 0, ERR_INVALID}}; /* nowhere to send to */

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct codec_message m = {.kind = CODEC_MOVED}, back;
        size_t n;

        m.moved.spi_in = rows[i].spi_in;
        cr_assert(ip_parse(rows[i].ip, &m.moved.peer.ip));
        m.moved.peer.port = rows[i].port;
        cr_assert_eq(codec_encode(&m, room, sizeof room, &n), ERR_OK);
        cr_assert_eq(codec_decode((struct slice){room, n}, &back), rows[i].expected, "%zu", i);
        if (rows[i].expected != ERR_OK)
            continue;
        cr_assert_eq(back.moved.spi_in, rows[i].spi_in);
        cr_assert(endpoint_equal(&back.moved.peer, &m.moved.peer));
        codec_message_free(&back);
    }
}

Test(codec_message, a_claim_and_a_vote_come_back_whole_or_are_refused)
{
    struct codec_witness witnesses[2] = {{sample_id(3), 3}, {sample_id(4), SLOT_MAX}};
    struct codec_ballot ballots[2] = {{sample_id(2), 5, 6, 4, 2},
                                      {sample_id(1), EPOCH_MAX, 7, 9, 1}};
    const struct codec_vote good = {ballots, 2, witnesses, 2};
    struct codec_message m = {.kind = CODEC_CLAIM, .claim = {EPOCH_MAX, 7, UINT64_MAX}}, back;

    back = there_and_back(&m);
    cr_assert(back.claim.epoch == EPOCH_MAX && back.claim.round == 7 &&
              back.claim.members == UINT64_MAX);
    m = (struct codec_message){.kind = CODEC_VOTE, .vote = good};
    back = there_and_back(&m);
    cr_assert(back.vote.n_ballots == 2 && back.vote.ballots[0].seen == 4 &&
              back.vote.ballots[0].verdict == 2);
    cr_assert(id128_equal(&back.vote.ballots[1].claimant, &ballots[1].claimant) &&
              back.vote.ballots[1].seen == 9 && back.vote.ballots[1].verdict == 1 &&
              back.vote.ballots[1].round == 7 && back.vote.ballots[1].epoch == EPOCH_MAX);
    cr_assert(back.vote.n_witnesses == 2 && back.vote.witnesses[1].slot == SLOT_MAX &&
              id128_equal(&back.vote.witnesses[1].incarnation, &witnesses[1].incarnation));
    codec_message_free(&back);
    for (int defect = 0; defect <= 7; defect++) {
        size_t n;

        m = (struct codec_message){.kind = CODEC_VOTE, .vote = good};
        ballots[1].epoch = defect == 0 ? 0 : defect == 1 ? EPOCH_MAX + 1 : 1;
        ballots[1].verdict = defect == 2 ? 0 : defect == 3 ? CODEC_VERDICT_MAX + 1 : 1;
        ballots[1].seen = defect == 4 ? EPOCH_MAX + 1 : 1;
        m.vote.n_ballots = defect == 7 ? 0 : 2;
        witnesses[0].slot = defect == 5 ? SLOT_MAX + 1 : 3;
        if (defect == 6)
            m = (struct codec_message){.kind = CODEC_CLAIM, .claim = {0, 7, 1}};
        cr_assert_eq(codec_encode(&m, room, sizeof room, &n), ERR_OK);
        cr_assert_eq(codec_decode((struct slice){room, n}, &back), ERR_INVALID, "%d", defect);
    }
}

Test(codec_message, activity_comes_back_whole_or_is_refused)
{
    static uint32_t spis[CODEC_ACTIVITY_MAX], ages[CODEC_ACTIVITY_MAX];
    static const struct {
        bool answer;
        size_t n;
        int expected;
    } rows[] = {{false, 1, ERR_OK},
                {false, CODEC_ACTIVITY_MAX, ERR_OK},
                {false, 0, ERR_INVALID}, /* asks nothing */
                {true, 0, ERR_OK},       /* heard nothing */
                {true, CODEC_ACTIVITY_MAX, ERR_OK}};

    for (size_t i = 0; i < CODEC_ACTIVITY_MAX; i++) {
        spis[i] = 0x400100 + (uint32_t)i;
        ages[i] = UINT32_MAX - (uint32_t)i;
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct codec_message m = {.kind = CODEC_ACTIVITY}, back;
        size_t n;

        m.activity = (struct codec_activity){7, rows[i].answer, rows[i].n, spis, ages};
        cr_assert_eq(codec_encode(&m, room, sizeof room, &n), ERR_OK);
        cr_assert_eq(codec_decode((struct slice){room, n}, &back), rows[i].expected, "%zu", i);
        if (rows[i].expected != ERR_OK)
            continue;
        cr_assert_eq(back.activity.round, 7u);
        cr_assert_eq(back.activity.answer, rows[i].answer);
        cr_assert_eq(back.activity.n, rows[i].n);
        cr_assert_arr_eq(back.activity.spi_in, spis, rows[i].n * sizeof *spis);
        if (rows[i].answer)
            cr_assert_arr_eq(back.activity.age_ms, ages, rows[i].n * sizeof *ages);
        codec_message_free(&back);
    }
}

/* Written out: what codec_encode would not make. */
Test(codec_message, activity_with_ages_and_spis_that_do_not_match_is_refused)
{
    static const uint8_t one_spi_no_age[] = {CODEC_ACTIVITY, 0x08, 1, 0x10, 1, 0x1a, 4, 0, 1, 0, 1},
                         question_with_age[] = {CODEC_ACTIVITY, 0x08, 1, 0x1a, 4, 0, 1, 0, 1,
                                                0x22,           1,    5},
                         half_an_spi[] = {CODEC_ACTIVITY, 0x08, 1, 0x1a, 2, 0, 1};
    struct codec_message back;

    cr_expect_eq(codec_decode((struct slice){one_spi_no_age, sizeof one_spi_no_age}, &back),
                 ERR_INVALID);
    cr_expect_eq(codec_decode((struct slice){question_with_age, sizeof question_with_age}, &back),
                 ERR_INVALID);
    cr_expect_eq(codec_decode((struct slice){half_an_spi, sizeof half_an_spi}, &back), ERR_INVALID);
}

/* ---- what is cheap to send and dear to hold ---- */

Test(codec_message, size_is_capped_before_unpacking)
{
    struct codec_message back;

    room[0] = CODEC_ANNOUNCE;
    memset(room + 1, 0, CODEC_MESSAGE_MAX);
    cr_assert_eq(codec_decode((struct slice){room, CODEC_MESSAGE_MAX + 1}, &back), ERR_FULL);
    cr_assert_eq(codec_decode((struct slice){room, 0}, &back), ERR_TRUNCATED);
    room[0] = 77;
    cr_assert_eq(codec_decode((struct slice){room, 5}, &back), ERR_UNSUPPORTED);
}

/* Empty submessages: two octets each on the wire, far more once unpacked. */
Test(codec_message, a_crowd_of_empty_submessages_is_refused)
{
    static const struct {
        uint8_t kind, tag;
    } crowds[] = {{CODEC_UPDATE, 3},    {CODEC_ANNOUNCE, 3},     {CODEC_ANNOUNCE, 4},
                  {CODEC_ANNOUNCE, 6},  {CODEC_PULL_REQUEST, 5}, {CODEC_PULL_REPLY, 2},
                  {CODEC_PULL_REPLY, 6}};

    for (size_t i = 0; i < sizeof crowds / sizeof *crowds; i++) {
        struct codec_message back;
        room[0] = crowds[i].kind;
        for (size_t at = 1; at + 2 <= CODEC_MESSAGE_MAX; at += 2) {
            room[at] = (uint8_t)(crowds[i].tag << 3 | 2);
            room[at + 1] = 0;
        }
        cr_assert_neq(codec_decode((struct slice){room, CODEC_MESSAGE_MAX}, &back), ERR_OK);
    }
}

Test(codec_message, an_encoding_that_is_too_large_is_full)
{
    struct record *r = sample_at(sample_child(0x400100, 5), 9, 1, 1);
    struct codec_message m = {.kind = CODEC_PULL_REPLY};
    struct record *many[1000];
    size_t n;

    for (size_t i = 0; i < 1000; i++)
        many[i] = r;
    m.pull_reply.records = many;
    m.pull_reply.n_records = 1000;
    cr_assert_eq(codec_encode(&m, room, sizeof room, &n), ERR_FULL);
    cr_assert_eq(n, 0u);
    m.pull_reply.n_records = 100;
    cr_assert_eq(codec_encode(&m, room, 100, &n), ERR_FULL);
    record_free(r);
}
