#include <criterion/criterion.h>
#include <string.h>

#include "proto/err.h"
#include "proto/record.h"

/* ---- ids, terms, numbers ---- */

Test(id128, text)
{
    struct id128 id = {{0}};
    char out[ID_TEXT];

    cr_expect(id128_is_zero(&id));
    cr_expect(id128_parse("f5407d8db1a542b196c59f6d04ba8bd1", &id) && id.b[0] == 0xf5);
    cr_expect_str_eq(id128_format(&id, out), "f5407d8db1a542b196c59f6d04ba8bd1");
    cr_expect(id128_parse("F5407D8DB1A542B196C59F6D04BA8BD1", &id));
    cr_expect_str_eq(id128_format(&id, out), "f5407d8db1a542b196c59f6d04ba8bd1");
    cr_expect(!id128_is_zero(&id));
}

Test(id128, malformed_texts_are_refused)
{
    static const char *const texts[] = {"",
                                        "f5",
                                        "f5407d8db1a542b196c59f6d04ba8bd",
                                        "f5407d8db1a542b196c59f6d04ba8bd10",
                                        "f5407d8db1a542b196c59f6d04ba8bdg",
                                        "f5407d8d-b1a5-42b1-96c5-9f6d04ba8b"};
    struct id128 id = {{7}};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        cr_expect(!id128_parse(texts[i], &id), "%s", texts[i]);
    cr_expect(id.b[0] == 7, "out is left alone");
}

Test(term, number_then_slot_then_incarnation)
{
    struct term terms[] = {
        {1, 9, {{9}}}, {2, 1, {{9}}}, {2, 3, {{1}}}, {2, 3, {{1, 1}}}, {2, 3, {{2}}}, {3, 0, {{0}}},
    };
    int n = sizeof terms / sizeof *terms;

    for (int a = 0; a < n; a++)
        for (int b = 0; b < n; b++) {
            int c = term_compare(&terms[a], &terms[b]);
            cr_expect((c < 0) == (a < b) && (c > 0) == (a > b), "%d %d", a, b);
        }
}

Test(numbers, the_iv_holds_slot_epoch_lane_and_counter)
{
    cr_expect(iv_make(0, 0, 0, 1) == 1);
    cr_expect(iv_make(1022, EPOCH_MAX, 15, UINT32_MAX) == UINT64_C(0xffbfffffffffffff));
    cr_expect(iv_make(1, 0, 0, 0) == UINT64_C(1) << 54);
    cr_expect(iv_make(0, 1, 0, 0) == UINT64_C(1) << 36);
    cr_expect(iv_make(0, 0, 1, 0) == UINT64_C(1) << 32);
    cr_expect(iv_make(0, EPOCH_MAX + 1, 0, 0) == 0, "an epoch never spills into the slot");
}

Test(numbers, the_spi_carries_the_slot)
{
    cr_expect(esp_spi_slot(0xffbfffff) == 1022 && esp_spi_slot(0x003fffff) == 0);
    cr_expect(esp_spi_slot(0x00400000) == 1);
}

Test(numbers, our_spi_of_an_ike_sa)
{
    struct ike_record r = {.spi_i = 1, .spi_r = 2};

    cr_expect(ike_record_spi(&r) == 2);
    r.i_am_initiator = true;
    cr_expect(ike_record_spi(&r) == 1);
}

/* ---- blobs ---- */

Test(blob, set_replaces_and_free_empties)
{
    struct blob b = {0};

    cr_expect(blob_set(&b, "first", 5) == ERR_OK && b.n == 5 && memcmp(b.p, "first", 5) == 0);
    cr_expect(blob_set(&b, "2nd", 3) == ERR_OK && b.n == 3 && memcmp(b.p, "2nd", 3) == 0);
    cr_expect(blob_set(&b, b.p + 1, 2) == ERR_OK && memcmp(b.p, "nd", 2) == 0, "from itself");
    cr_expect(blob_set(&b, NULL, 0) == ERR_OK && b.n == 0 && b.p == NULL);
    blob_free(&b);
    cr_expect(b.p == NULL && b.n == 0);
}

Test(blob, the_limit)
{
    static uint8_t bytes[RECORD_BLOB_MAX + 1];
    struct blob b = {0};

    cr_expect(blob_set(&b, bytes, RECORD_BLOB_MAX) == ERR_OK);
    cr_expect(blob_set(&b, bytes, RECORD_BLOB_MAX + 1) == ERR_FULL);
    cr_expect(b.n == RECORD_BLOB_MAX, "a refused one leaves the old");
    blob_free(&b);
}

/* ---- records ---- */

static struct record *full_ike(void)
{
    struct record *r = record_new(RECORD_IKE);

    cr_assert(r);
    r->ike.spi_i = 1;
    r->ike.spi_r = 2;
    r->ike.revision = 3;
    cr_assert(secret_set(&r->ike.sk_d, "sk_d", 4) == ERR_OK);
    cr_assert(blob_set(&r->ike.last_response, "response", 8) == ERR_OK);
    cr_assert(blob_set(&r->ike.our_request, "request", 7) == ERR_OK);
    cr_assert(blob_set(&r->ike.our_request_state, "state", 5) == ERR_OK);
    cr_assert(blob_set(&r->ike.peer_id, "peer", 4) == ERR_OK);
    cr_assert(blob_set(&r->unknown, "newer", 5) == ERR_OK);
    r->seq = 77;
    return r;
}

static bool blob_is(const struct blob *b, const char *text)
{
    return b->n == strlen(text) && memcmp(b->p, text, b->n) == 0;
}

Test(record, a_new_one_is_empty)
{
    static const enum record_kind kinds[] = {RECORD_IKE, RECORD_CHILD, RECORD_ENDPOINT};
    static const struct record empty;

    for (int i = 0; i < 3; i++) {
        struct record *r = record_new(kinds[i]);

        cr_assert(r && r->kind == kinds[i] && r->version == RECORD_VERSION);
        r->kind = 0;
        r->version = 0;
        cr_expect(memcmp(r, &empty, sizeof empty) == 0);
        r->kind = (uint8_t)kinds[i];
        record_free(r);
    }
    record_free(NULL);
}

Test(record, a_clone_shares_nothing)
{
    struct record *a = full_ike(), *b = record_clone(a);

    cr_assert(b);
    cr_expect(b->ike.last_response.p != a->ike.last_response.p);
    cr_expect(b->ike.our_request.p != a->ike.our_request.p);
    cr_expect(b->ike.our_request_state.p != a->ike.our_request_state.p);
    cr_expect(b->ike.peer_id.p != a->ike.peer_id.p && b->unknown.p != a->unknown.p);
    record_free(a);
    cr_expect(b->ike.spi_r == 2 && b->seq == 77 && b->ike.revision == 3);
    cr_expect(b->ike.sk_d.n == 4 && memcmp(b->ike.sk_d.b, "sk_d", 4) == 0);
    cr_expect(blob_is(&b->ike.last_response, "response"));
    cr_expect(blob_is(&b->ike.our_request, "request"));
    cr_expect(blob_is(&b->ike.our_request_state, "state"));
    cr_expect(blob_is(&b->ike.peer_id, "peer") && blob_is(&b->unknown, "newer"));
    record_free(b);
}

Test(record, child_and_endpoint_records_clone_too)
{
    struct record *child = record_new(RECORD_CHILD), *move = record_new(RECORD_ENDPOINT), *copy;

    cr_assert(child && move);
    child->child.spi_in = 0x00400100;
    cr_assert(secret_set(&child->child.encr_in, "0123456789abcdefsalt", 20) == ERR_OK);
    /* A child's selectors lie where an IKE record has its blobs: they must stay what they are. */
    memset(&child->child.ts_remote, 0xff, sizeof child->child.ts_remote);
    cr_assert(blob_set(&child->unknown, "x", 1) == ERR_OK);
    copy = record_clone(child);
    cr_assert(copy && copy->unknown.p != child->unknown.p);
    cr_expect(memcmp(&copy->child, &child->child, sizeof child->child) == 0);
    record_free(copy);
    move->endpoint.move = 5;
    copy = record_clone(move);
    cr_expect(copy && copy->endpoint.move == 5);
    record_free(copy);
    record_free(child);
    record_free(move);
}

/* Freed secret memory stays mapped; only the free list's pointer at its start is not zero. */
#if SECRET_POOLED /* it looks at memory after its end */
Test(record, free_wipes_keys_and_blobs)
{
    static const uint8_t zeros[sizeof(struct record)];
    struct record *r = full_ike();
    uint8_t *blob = r->ike.our_request_state.p;

    record_free(r);
    cr_expect(memcmp((uint8_t *)r + sizeof(void *), zeros, sizeof *r - sizeof(void *)) == 0);
    cr_expect(memcmp(blob + sizeof(void *), zeros, 64 - sizeof(void *)) == 0);
}
#endif
