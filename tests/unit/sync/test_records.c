#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "sync/join.h"
#include "sync/records.h"
#include "tests/unit/sync/samples.h"

static struct entry *put_child(struct table *t, uint32_t spi, uint32_t lineage, uint32_t origin,
                               uint64_t seq)
{
    return table_put(t, sample_at(sample_child(spi, lineage), origin, 1, seq), SAMPLE_NOT_AFTER_MS);
}

Test(sync_records, finds_among_many_and_after_growth)
{
    enum { MANY = 5000 };
    struct table *t = table_new();
    size_t n = 0;

    for (uint32_t i = 0; i < MANY; i++)
        cr_assert_not_null(put_child(t, 1000 + i, i / 3, 1, i + 1));
    for (uint32_t i = 0; i < MANY; i++)
        cr_assert_eq(table_find(t, RECORD_CHILD, 1000 + i)->held->r->seq, i + 1);
    cr_assert_null(table_find(t, RECORD_CHILD, 999));
    cr_assert_null(table_find(t, RECORD_IKE, 1000));
    cr_assert_eq(table_counts(t)->child_sas, (uint64_t)MANY);
    for (uint32_t lineage = 0; lineage < 10; lineage++) {
        struct id128 id = sample_id(lineage);
        n = 0;
        for (struct entry *e = table_lineage_first(t, &id); e; e = table_lineage_next(e))
            n++;
        cr_assert_eq(n, 3u);
    }
    for (uint32_t i = 0; i < MANY; i += 2)
        table_remove(t, table_find(t, RECORD_CHILD, 1000 + i));
    cr_assert_eq(table_counts(t)->child_sas, (uint64_t)MANY / 2);
    for (uint32_t i = 0; i < MANY; i++)
        cr_assert_eq(table_find(t, RECORD_CHILD, 1000 + i) != NULL, i % 2 == 1);
    table_free(t);
}

/* The log chain is in the order of numbers, however they came. */
Test(sync_records, a_log_is_in_order)
{
    static const uint64_t order[] = {5, 1, 9, 3, 7, 2, 8, 4, 6};
    struct table *t = table_new();
    struct id128 id = sample_id(1);
    uint64_t expected = 1;

    for (size_t i = 0; i < 9; i++)
        put_child(t, 1000 + (uint32_t)order[i], 1, 1, order[i]);
    for (struct entry *e = table_origin_find(t, &id)->first; e; e = e->log_next)
        cr_assert_eq(e->held->r->seq, expected++);
    put_child(t, 1005, 1, 2, 77); /* a later form in another log */
    expected = 0;
    for (struct entry *e = table_origin_find(t, &id)->first; e; e = e->log_next, expected++)
        cr_assert_neq(e->held->r->seq, 5u);
    cr_assert_eq(expected, 8u);
    table_free(t);
}

/* Equal contents, equal digests, whatever the order and the detours. */
Test(sync_records, the_digest_has_no_order)
{
    struct table *a = table_new(), *b = table_new();
    struct record *gone = sample_at(sample_child(1003, 1), 1, 1, 9);

    for (uint32_t i = 0; i < 10; i++)
        put_child(a, 1000 + i, 1, 1, i + 1);
    for (uint32_t i = 10; i-- > 0;)
        put_child(b, 1000 + i, 1, 2, 20 - i);
    cr_assert_arr_eq(table_counts(a)->digest, table_counts(b)->digest, 32);
    gone->child.state = SA_DELETED;
    record_normalise(gone);
    table_put(a, gone, SAMPLE_NOT_AFTER_MS);
    cr_assert_neq(memcmp(table_counts(a)->digest, table_counts(b)->digest, 32), 0);
    table_remove(b, table_find(b, RECORD_CHILD, 1003));
    cr_assert_arr_eq(table_counts(a)->digest, table_counts(b)->digest, 32);
    table_free(a);
    table_free(b);
}

Test(sync_records, a_reference_outlives_its_entry)
{
    struct table *t = table_new();
    struct held *h = held_ref(put_child(t, 1000, 1, 1, 1)->held);

    put_child(t, 1000, 1, 1, 2);
    table_remove(t, table_find(t, RECORD_CHILD, 1000));
    cr_assert_eq(h->r->seq, 1u);
    held_unref(h);
    table_free(t);
}

static void expect_ascending(const struct table *t, uint8_t origin, size_t n)
{
    struct id128 id = sample_id(origin);
    const struct origin *o = table_origin_find(t, &id);
    const struct entry *before = NULL;
    size_t count = 0;

    for (const struct entry *e = o->first; e; before = e, e = e->log_next, count++) {
        cr_assert_eq(e->log_prev, before);
        cr_assert(!before || before->held->r->seq < e->held->r->seq);
    }
    cr_assert_eq(o->last, before);
    cr_assert_eq(count, n);
}

Test(sync_records, a_journal_in_any_order_makes_logs_in_order)
{
    enum { N = 1000, STRIDE = 377 }; /* no common factor */
    struct table *t = table_new();

    table_expect(t, 2 * N);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t at = i * STRIDE % N;
        cr_assert(put_child(t, 1000 + at, at, 1, at + 1));
        cr_assert(put_child(t, 9000 + i, i, 2, i + 1)); /* one that is in order */
    }
    table_remove(t, table_find(t, RECORD_CHILD, 1500));
    table_settle(t);
    expect_ascending(t, 1, N - 1);
    expect_ascending(t, 2, N);
    cr_assert(put_child(t, 1500, 500, 1, 501)); /* from here on each finds its place */
    expect_ascending(t, 1, N);
    table_free(t);
}

Test(sync_records, the_sweep_finds_what_expired)
{
    struct table *t = table_new();
    struct entry *e;
    size_t found = 0;

    for (uint32_t i = 0; i < 1000; i++)
        table_put(t, sample_at(sample_child(1000 + i, i), 1, 1, i + 1), i % 10 ? 2000 : 1000);
    for (int call = 0; call < 400; call++)
        while ((e = table_sweep(t, 1500)) != NULL) {
            cr_assert_eq(e->expires_ms, 1000);
            table_remove(t, e);
            found++;
        }
    cr_assert_eq(found, 100u);
    table_free(t);
}

/* ---- how far a log is applied: what came, and where that leaves us ---- */

Test(sync_records, stretches_close_gaps)
{
    static const struct {
        uint64_t first, last, applied;
        bool gap;
        size_t ahead;
    } story[] = {
        /* clang-format off */
        {1, 3, 3, false, 0},    {5, 6, 3, true, 1},      {9, 9, 3, true, 2},
        {7, 8, 3, true, 1},     /* 5..9 */
        {4, 4, 9, false, 0},    {2, 3, 9, false, 0},     /* old news */
        {20, 30, 9, true, 1},   {12, 13, 9, true, 2},    {15, 16, 9, true, 3},
        {11, 40, 9, true, 1},   /* swallows all three */
        {50, 50, 9, true, 2},   {10, 10, 40, false, 1},  {41, 60, 60, false, 0},
        /* clang-format on */
    };
    struct table *t = table_new();
    struct id128 id = sample_id(1);
    struct origin *o = table_origin(t, &id, 1);

    for (size_t i = 0; i < sizeof story / sizeof *story; i++) {
        cr_assert_eq(origin_note(o, story[i].first, story[i].last), story[i].gap, "%zu", i);
        cr_assert_eq(o->seq, story[i].applied, "%zu: %lu", i, o->seq);
        cr_assert_eq(o->n_ahead, story[i].ahead, "%zu: %zu", i, o->n_ahead);
    }
    table_free(t);
}

/* Against a plain set of numbers, at random. */
Test(sync_records, stretches_agree_with_a_set)
{
    enum { TOP = 120 };
    unsigned seed = 7;

    for (int round = 0; round < 2000; round++) {
        struct table *t = table_new();
        struct id128 id = sample_id(1);
        struct origin *o = table_origin(t, &id, 1);
        bool set[TOP + 20] = {true};
        for (int i = 0; i < 60; i++) {
            uint64_t first, last, covered = 0;
            seed = seed * 1103515245 + 12345;
            first = 1 + (seed >> 8) % TOP;
            last = first + (seed >> 20) % 4;
            (void)origin_note(o, first, last);
            for (uint64_t k = first; k <= last; k++)
                set[k] = true;
            while (set[covered + 1])
                covered++;
            /* Never more than the set; less only when stretches had to be given up. */
            cr_assert_leq(o->seq, covered);
            for (size_t k = 0; k < o->n_ahead; k++) {
                cr_assert_gt(o->ahead[k].first, o->seq + 1);
                cr_assert(k == 0 || o->ahead[k].first > o->ahead[k - 1].last + 1);
                for (uint64_t v = o->ahead[k].first; v <= o->ahead[k].last; v++)
                    cr_assert(set[v]);
            }
        }
        table_free(t);
    }
}

/* Whatever comes first, is replaced or leaves. */
Test(sync_records, a_log_stays_in_order)
{
    enum { KEYS = 300, STEPS = 5000 };
    struct table *t = table_new();
    struct id128 id = sample_id(7);
    uint64_t random = 1;

    for (uint32_t step = 0; step < STEPS; step++) {
        uint32_t key = 1000 + (uint32_t)(random >> 33) % KEYS;
        struct entry *e = table_find(t, RECORD_CHILD, key);
        uint64_t last = 0;
        size_t n = 0, back = 0;

        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        if (e && random >> 62 == 0)
            table_remove(t, e);
        else
            cr_assert_not_null(put_child(t, key, 1, 7, 1 + (random >> 40) % 1000));
        for (e = table_origin_find(t, &id)->first; e; last = e->held->r->seq, e = e->log_next, n++)
            cr_assert_geq(e->held->r->seq, last);
        for (e = table_origin_find(t, &id)->last; e; e = e->log_prev)
            back++;
        cr_assert_eq(n, back);
    }
    table_free(t);
}

Test(sync_records, origins_are_bounded)
{
    struct table *t = table_new();
    struct id128 id;

    for (uint32_t i = 0; i < CODEC_POSITIONS_MAX; i++) {
        id = sample_id(i);
        cr_assert_not_null(table_origin(t, &id, 1));
    }
    id = sample_id(CODEC_POSITIONS_MAX);
    cr_assert_null(table_origin(t, &id, 1));
    cr_assert_null(put_child(t, 1000, 1, CODEC_POSITIONS_MAX, 1));
    cr_assert_not_null(put_child(t, 1000, 1, 5, 1));
    table_free(t);
}
