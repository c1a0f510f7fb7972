/* The joins as laws: over every pair and triple of forms of one key, order and repetition
 * make no difference. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/err.h"
#include "sync/join.h"
#include "tests/unit/sync/newer.h"
#include "tests/unit/sync/samples.h"

enum { FORMS_MAX = 64 };
static struct record *forms[FORMS_MAX];
static size_t n_forms;

static void add(struct record *r)
{
    record_normalise(r);
    cr_assert_eq(codec_record_check(r), ERR_OK);
    forms[n_forms++] = r;
}

static void free_forms(void)
{
    while (n_forms)
        record_free(forms[--n_forms]);
}

static void child_forms(void)
{
    for (unsigned bits = 0; bits < 8; bits++) {
        struct record *r = sample_child(0x400100, 5);
        r->child.confirmed = bits & 1;
        r->child.rekeyed = bits & 2;
        r->child.not_after_ms += bits & 4 ? 1000 : 0;
        add(r);
    }
    for (int i = 0; i < 3; i++) {
        struct record *r = sample_child(0x400100, i == 2 ? 6 : 5); /* the last one clashes */
        r->child.state = SA_DELETED;
        r->child.not_after_ms += i * 500;
        add(r);
    }
    add(sample_child(0x400100, 7)); /* clashes, installed */
    add(sample_child(0x400100, 5));
    forms[n_forms - 1]->child.generation = 3;   /* should not differ, but does */
    for (unsigned bits = 1; bits < 8; bits++) { /* fields of newer versions */
        struct record *r = sample_child(0x400100, 5);
        r->child.confirmed = bits & 1;
        if (bits & 2)
            r = newer_fields(r, 40, bits & 1 ? "a" : "b", NULL);
        if (bits & 4)
            r = newer_fields(r, 41, "c", bits & 2 ? "d" : "e");
        add(r);
    }
    add(newer_fields(sample_child(0x400100, 7), 40, "of one that clashes", NULL));
}

static void later_forms(void)
{
    for (uint64_t revision = 1; revision < 4; revision++) {
        add(newer_kind(9, revision, 5000, "first"));
        add(newer_kind(9, revision, 6000, "second"));
        add(newer_fields(newer_kind(9, revision, 5000, "first"), 40, "more", NULL));
        add(newer_fields(newer_kind(9, revision, 5000, "first"), 41, "other", NULL));
    }
}

static void ike_forms(void)
{
    for (unsigned bits = 0; bits < 32; bits++) {
        struct record *r = sample_ike(0xabc, 5);
        r->ike.term.number += bits & 1;
        r->ike.revision += (bits & 2) >> 1;
        r->ike.next_in += (bits & 4) >> 2;
        r->ike.state = bits & 8 ? SA_DELETED : SA_INSTALLED;
        r->ike.next_out += bits & 16 ? 7 : 0;
        r->ike.lineage_over = (bits & 24) == 24;
        if (bits & 1)
            cr_assert_eq(blob_set(&r->ike.last_response, "another", 7), ERR_OK);
        add(r);
    }
    for (unsigned bits = 0; bits < 6; bits++) {
        struct record *r = sample_ike(0xabc, 5);
        r->ike.term.number += bits & 1;
        r->ike.next_in += bits;
        add(newer_fields(r, 40 + bits / 3, bits & 2 ? "x" : "y", "z"));
    }
}

static void endpoint_forms(void)
{
    for (uint64_t move = 0; move < 4; move++)
        add(sample_endpoint(0x400100, move));
    add(sample_endpoint(0x400100, 3));
    forms[n_forms - 1]->endpoint.peer.port = 9;
}

/* The joined record itself. */
static struct record *joined(const struct record *a, const struct record *b)
{
    enum join_result result;
    struct record *third = NULL;

    cr_assert_eq(record_join(a, b, &result, &third), ERR_OK);
    cr_assert_eq(third != NULL, result == JOIN_BOTH);
    return third ? third : record_clone(result == JOIN_THEIRS ? b : a);
}

static bool equal(const struct record *a, const struct record *b)
{
    enum join_result result;
    struct record *third = NULL;

    cr_assert_eq(record_join(a, b, &result, &third), ERR_OK);
    record_free(third);
    return result == JOIN_SAME;
}

static void check_laws(void)
{
    for (size_t i = 0; i < n_forms; i++) {
        cr_assert(equal(forms[i], forms[i]), "form %zu joins itself", i);
        for (size_t k = 0; k < n_forms; k++) {
            struct record *ik = joined(forms[i], forms[k]), *ki = joined(forms[k], forms[i]);
            struct record *again = joined(ik, forms[i]);
            cr_assert(equal(ik, ki), "order of %zu and %zu", i, k);
            cr_assert(equal(again, ik), "%zu joined twice with %zu", i, k);
            cr_assert_eq(codec_record_check(ik), ERR_OK);
            for (size_t j = 0; j < n_forms; j += 3) {
                struct record *left = joined(ik, forms[j]), *kj = joined(forms[k], forms[j]);
                struct record *right = joined(forms[i], kj);
                cr_assert(equal(left, right), "grouping of %zu, %zu, %zu", i, k, j);
                record_free(left);
                record_free(kj);
                record_free(right);
            }
            record_free(ik);
            record_free(ki);
            record_free(again);
        }
    }
    free_forms();
}

Test(sync_join, child_forms_obey_the_laws)
{
    child_forms();
    check_laws();
}

Test(sync_join, ike_forms_obey_the_laws)
{
    ike_forms();
    check_laws();
}

Test(sync_join, endpoint_forms_obey_the_laws)
{
    endpoint_forms();
    check_laws();
}

Test(sync_join, forms_of_unknown_kinds_obey_the_laws)
{
    later_forms();
    check_laws();
}

Test(sync_join, delete_wins_and_leaves_no_keys)
{
    struct record *a = sample_child(0x400100, 5), *b = sample_child(0x400100, 5), *j;

    a->child.confirmed = true;
    b->child.state = SA_DELETED;
    record_normalise(b);
    j = joined(a, b);
    cr_assert_eq(j->child.state, SA_DELETED);
    cr_assert(j->child.encr_in.n == 0 && j->child.integ_out.n == 0 && !j->child.confirmed);
    record_free(j);
    j = joined(b, a);
    cr_assert_eq(j->child.state, SA_DELETED);
    record_free(j);
    record_free(a);
    record_free(b);
}

Test(sync_join, two_children_that_clash_are_both_deleted)
{
    struct record *a = sample_child(0x400100, 5), *b = sample_child(0x400100, 6), *j = joined(a, b);

    cr_assert_eq(j->child.state, SA_DELETED);
    cr_assert_eq(j->child.encr_in.n, 0u);
    record_free(j);
    record_free(a);
    record_free(b);
}

Test(sync_join, the_higher_term_wins_whole_and_message_ids_rise)
{
    struct record *a = sample_ike(0xabc, 5), *b = sample_ike(0xabc, 5), *j;

    a->ike.term.number = 2;
    a->ike.next_in = 4;
    b->ike.revision = 9; /* of the lower term: no help */
    b->ike.next_in = 6;
    b->ike.next_out = 3;
    cr_assert_eq(blob_set(&b->ike.last_response, "older", 5), ERR_OK);
    j = joined(a, b);
    cr_assert(j->ike.term.number == 2 && j->ike.revision == 1);
    cr_assert(j->ike.next_in == 6 && j->ike.next_out == 3);
    cr_assert_eq(j->ike.last_response.n, 17u);
    record_free(j);
    record_free(a);
    record_free(b);
}

/* The tombstone of an IKE SA still answers its retransmitted DELETE, without any key. */
Test(sync_join, an_ike_tombstone_keeps_the_last_response)
{
    struct record *r = sample_ike(0xabc, 5);

    r->ike.state = SA_DELETED;
    record_normalise(r);
    cr_assert_eq(r->ike.last_response.n, 17u);
    cr_assert(r->ike.sk_d.n == 0 && r->ike.sk_ei.n == 0 && r->ike.our_request.n == 0);
    cr_assert_eq(codec_record_check(r), ERR_OK);
    record_free(r);
}
