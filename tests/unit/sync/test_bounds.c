/* Memory is bounded: each queue of the replication core is pushed over its edge. What the disk
 * makes wait is in tests/conformance/sync/test_store_faults.c, what a sleeping subscriber does in
 * test_asleep.c there; docs/operating.md has the whole list. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/codec.h"
#include "proto/err.h"
#include "sync/core.h"
#include "sync/inbox.h"
#include "tests/unit/sync/harness.h"

/* ---- what nng's threads hand over ---- */

struct drained {
    size_t frames, requests, bytes;
    uint32_t first, last;
};

static void on_drained(void *ctx, enum transport_kind kind, uint64_t id, struct slice bytes)
{
    struct drained *d = ctx;
    uint32_t number;

    (void)id;
    d->bytes += bytes.n;
    if (kind == TRANSPORT_REQUEST) {
        d->requests++;
        return;
    }
    memcpy(&number, bytes.p, sizeof number);
    d->first = d->frames++ ? d->first : number;
    d->last = number;
}

static struct drained flood(uint32_t frames, size_t each_bytes)
{
    struct inbox in;
    struct drained d = {0};
    uint8_t *bytes = calloc(1, each_bytes);

    inbox_init(&in, NULL, NULL);
    inbox_push(&in, TRANSPORT_REQUEST, 1, (struct slice){bytes, each_bytes});
    for (uint32_t i = 0; i < frames; i++) {
        memcpy(bytes, &i, sizeof i);
        inbox_push(&in, TRANSPORT_FRAME, 0, (struct slice){bytes, each_bytes});
        cr_assert_leq(in.n_bytes, (size_t)INBOX_BYTES_MAX);
    }
    cr_assert(in.n_frames <= INBOX_FRAMES_MAX);
    cr_assert_eq(inbox_dropped(&in), frames - in.n_frames);
    inbox_drain(&in, on_drained, &d);
    inbox_close(&in);
    free(bytes);
    return d;
}

Test(sync_bounds, the_inbox_drops_its_oldest_frames)
{
    struct drained d = flood(INBOX_FRAMES_MAX + 500, 100);

    cr_assert(d.frames == INBOX_FRAMES_MAX && d.first == 500 && d.requests == 1);
    cr_assert_eq(d.last, (uint32_t)INBOX_FRAMES_MAX + 499);
    d = flood(1000, 100000);
    cr_assert(d.frames < 700 && d.frames > 600 && d.last == 999 && d.requests == 1);
}

/* ---- answers held back ---- */

/* A disk that hangs, and far more exchanges than there may be barriers: the oldest end first, and
 * since their records are on no disk their answers must not leave. */
Test(sync_bounds, barriers_are_bounded)
{
    enum { MORE = 100 };
    struct cluster *c = cluster_new(1);
    struct sync_event flush = {.kind = SYNC_EV_FLUSH};
    struct sync_effects rest;
    uint64_t ended = 0;

    start(c, 1);
    settle(c);
    for (uint64_t i = 1; i <= BARRIERS_MAX + MORE; i++) {
        struct record *r = sample_endpoint(0x400100, i);
        struct sync_event ev = {
            .kind = SYNC_EV_PUT, .more = true, .group = &r, .n_group = 1, .barrier = i};
        struct sync_effects fx = sync_step(at(c, 1)->core, &ev, c->now);
        for (size_t k = 0; k < fx.n; k++)
            if (fx.fx[k].kind == SYNC_FX_BARRIER) {
                cr_assert(fx.fx[k].superseded && fx.fx[k].barrier == ++ended);
            }
        cr_assert_leq(stats_of(c, 1).held_back, (uint64_t)BARRIERS_MAX);
    }
    cr_assert_eq(ended, (uint64_t)MORE);
    sync_batch_free(at(c, 1)->core->batch); /* the harness's disk is not asked to hold all this */
    at(c, 1)->core->batch = NULL;
    rest = sync_step(at(c, 1)->core, &flush, c->now);
    for (size_t k = 0; k < rest.n; k++)
        if (rest.fx[k].kind == SYNC_FX_JOURNAL)
            sync_batch_free(rest.fx[k].batch);
    cluster_free(c);
}

/* ---- logs in the vector ---- */

/* Every life of a member is a log. Those whose records are gone leave the vector, on all members,
 * although they retire them at different times; and nobody pulls for what is retired. */
Test(sync_bounds, logs_of_earlier_lives_are_retired)
{
    enum { LIVES = 12 };
    struct cluster *c = cluster_new(3);
    uint64_t pulls;

    start_all(c);
    settle(c);
    put(c, 3, 0, sample_ike(0xabc, 5), NULL, NULL);
    for (uint32_t life = 0; life < LIVES; life++) {
        struct record *r = sample_child(0x400100 + life, 6);
        r->child.not_after_ms = c->now.wall_ms + 30000;
        put(c, 2, 0, r, NULL, NULL);
        run(c, 50);
        kill_node(c, 2);
        start(c, 2);
        settle(c);
    }
    cr_assert_geq(stats_of(c, 1).logs, (uint64_t)LIVES);
    run(c, 45000); /* all of these have expired; then a minute goes by, later on 3 than on 1 */
    at(c, 3)->paused = true;
    run(c, 5000);
    at(c, 3)->paused = false;
    run(c, 80000);
    for (uint16_t slot = 1; slot <= 3; slot++) {
        cr_assert_leq(stats_of(c, slot).logs, 3u, "slot %u has %lu", slot,
                      (unsigned long)stats_of(c, slot).logs);
        cr_assert(sync_is_synced(at(c, slot)->core));
    }
    pulls = stats_of(c, 1).pulls + stats_of(c, 2).pulls + stats_of(c, 3).pulls;
    run(c, 5000);
    cr_assert_eq(stats_of(c, 1).pulls + stats_of(c, 2).pulls + stats_of(c, 3).pulls, pulls);
    cr_assert(same_digests(c));
    cr_assert_not_null(sync_find_ike(at(c, 1)->core, 0xabc));
    cluster_free(c);
}

/* One that announces a retired log still is not asked for it, for a second time not either. */
Test(sync_bounds, a_retired_log_is_not_missed)
{
    struct cluster *c = cluster_new(2);
    struct record *r = sample_child(0x400100, 6);
    struct origin *o = NULL;
    struct id128 first_life;
    uint64_t pulls;

    start_all(c);
    settle(c);
    first_life = sync_incarnation(at(c, 2)->core);
    r->child.not_after_ms = c->now.wall_ms + 4000;
    put(c, 2, 0, r, NULL, NULL);
    run(c, 50);
    kill_node(c, 2);
    start(c, 2);
    settle(c);
    run(c, 8000); /* expired */
    o = table_origin_find(at(c, 1)->core->table, &first_life);
    cr_assert(o && !o->first);
    pulls = stats_of(c, 1).pulls;
    table_origin_retire(at(c, 1)->core->table, o); /* long before 2 does */
    run(c, 5000);
    cr_assert_eq(stats_of(c, 1).pulls, pulls);
    cr_assert(sync_is_synced(at(c, 1)->core));
    cr_assert_null(table_origin_find(at(c, 1)->core->table, &first_life));
    o = table_origin(at(c, 1)->core->table, &first_life, 2); /* should it speak again */
    cr_assert_eq(o->seq, 1u);
    cluster_free(c);
}

/* A member that was silent for long comes back in the same life: what was applied of its log then
 * counts still, and it gets its ack for it. */
Test(sync_bounds, the_log_of_a_member_that_comes_back_is_known)
{
    struct cluster *c = cluster_new(2);
    struct record *r = sample_child(0x400100, 6);
    struct id128 life;
    struct origin *o;
    uint64_t pulls;

    start_all(c);
    settle(c);
    life = sync_incarnation(at(c, 2)->core);
    r->child.not_after_ms = c->now.wall_ms + 4000;
    put(c, 2, 0, r, NULL, NULL);
    run(c, 8000); /* expired */
    at(c, 1)->deaf_to[2] = at(c, 1)->cut_from[2] = true;
    run(c, 1000);
    kill_node(c, 1); /* the next life of 1 believes nobody, and has 2's log from its journal */
    start(c, 1);
    o = table_origin(at(c, 1)->core->table, &life, 2);
    origin_raise(o, 1);
    table_origin_retire(at(c, 1)->core->table, o);
    pulls = stats_of(c, 1).pulls;
    at(c, 1)->deaf_to[2] = at(c, 1)->cut_from[2] = false;
    run(c, 3000);
    cr_assert(sync_is_synced(at(c, 1)->core));
    cr_assert_eq(stats_of(c, 1).pulls, pulls);
    o = table_origin_find(at(c, 1)->core->table, &life);
    cr_assert(o && o->seq == 1);
    cr_assert_eq(member_of(c, 2, 2).lag_records, 0u);
    cluster_free(c);
}

/* ---- pulls ---- */

/* A member that goes away in the midst of a pull, again and again, leaves nothing behind. */
Test(sync_bounds, half_pulled_snapshots_go)
{
    struct cluster *c = cluster_new(2);

    start(c, 1);
    start(c, 2);
    settle(c);
    kill_node(c, 2);
    for (uint32_t i = 0; i < 900; i++) /* several pages */
        put(c, 1, 0, sample_child(0x400100 + i, i), NULL, NULL);
    lose_mail(c);
    memory_disk_free(at(c, 2)->disk);
    for (int round = 0; round < 6; round++) {
        at(c, 2)->disk = memory_disk_new();
        start(c, 2);
        for (int i = 0; i < 1000 && stats_of(c, 2).pages == 0; i++)
            run(c, 1);
        cr_assert_geq(stats_of(c, 1).snapshots, 1u);
        cr_assert_leq(stats_of(c, 1).snapshots, (uint64_t)SNAPSHOTS_MAX);
        kill_node(c, 2);
        memory_disk_free(at(c, 2)->disk);
    }
    at(c, 2)->disk = memory_disk_new();
    run(c, SNAPSHOT_IDLE_MS + 100);
    cr_assert_eq(stats_of(c, 1).snapshots, 0u);
    start(c, 2);
    settle(c);
    cr_assert(same_digests(c));
    cluster_free(c);
}

/* ---- a member far behind ---- */

static size_t resident_kb(void)
{
    size_t pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    cr_assert(f && fscanf(f, "%*u %zu", &pages) == 1);
    fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE) / 1024;
}

static void churn(struct cluster *c, uint32_t from, uint32_t n)
{
    for (uint32_t i = from; i < from + n; i++) {
        struct record *r = sample_ike(0xabc00 + i % 100, i % 100);
        r->ike.revision = i;
        put(c, 1, 0, r, NULL, NULL);
        if (i % 50 == 0)
            run(c, 5);
    }
}

/* Forty thousand changes of a hundred SAs while one member hears nothing: nobody keeps more for
 * its sake, and it gets the last forms alone. */
Test(sync_bounds, a_member_far_behind_costs_nothing, .timeout = 120)
{
    struct cluster *c = cluster_new(3);
    size_t before_kb, after_kb;
    uint64_t records;

    start_all(c);
    settle(c);
    churn(c, 1, 4000);
    for (uint16_t slot = 1; slot <= 2; slot++)
        at(c, 3)->cut_from[slot] = at(c, 3)->deaf_to[slot] = true;
    churn(c, 4001, 4000);
    before_kb = resident_kb();
    churn(c, 8001, 32000);
    after_kb = resident_kb();
    cr_log_info("%zu kB, then %zu kB", before_kb, after_kb);
#if SECRET_POOLED /* the sanitizer keeps what is freed for a while */
    cr_assert_lt(after_kb, before_kb + 4096);
#endif
    cr_assert_eq(at(c, 1)->core->n_unsent, 0u);
    memset(at(c, 3)->cut_from, 0, sizeof at(c, 3)->cut_from);
    memset(at(c, 3)->deaf_to, 0, sizeof at(c, 3)->deaf_to);
    records = stats_of(c, 3).records_in;
    run(c, 4000);
    cr_assert(same_digests(c));
    cr_assert_leq(stats_of(c, 3).records_in - records, 300u);
    cluster_free(c);
}
