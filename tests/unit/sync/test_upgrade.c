/* A rolling upgrade: what a newer member writes passes through one that does not understand it, to
 * a third, through the journal and through joins, without a change. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/err.h"
#include "sync/join.h"
#include "tests/unit/sync/harness.h"
#include "tests/unit/sync/newer.h"

static bool same_unknown(const struct record *a, const struct record *b)
{
    return a && b && a->unknown.n == b->unknown.n && a->unknown.n > 0 &&
           memcmp(a->unknown.p, b->unknown.p, a->unknown.n) == 0;
}

struct search {
    uint64_t key;
    const struct record *found;
};

static bool matches(void *ctx, const struct record *r)
{
    struct search *s = ctx;

    if (record_key(r) == s->key)
        s->found = r;
    return !s->found;
}

static const struct record *find_newer(struct cluster *c, uint16_t slot, uint64_t key)
{
    struct search s = {.key = key};

    sync_each(at(c, slot)->core, (enum record_kind)NEWER_KIND, matches, &s);
    return s.found;
}

/* 1 and 2 are up and settled; 3 is not, and knows nothing. */
static void two_of_three(struct cluster *c)
{
    start_all(c);
    settle(c);
    kill_node(c, 3);
    memory_disk_free(at(c, 3)->disk);
    at(c, 3)->disk = memory_disk_new();
    run(c, 1000);
}

/* 1 is newer, 2 is not; 3 comes when 1 is gone and has all from 2, which restarted meanwhile and
 * has changed one of the records on its own account. */
Test(sync_upgrade, unknown_fields_pass_through)
{
    struct cluster *c = cluster_new(3);
    struct record *ike = newer_fields(sample_ike(0xabc, 5), 40, "of the record", "of the IKE SA");
    struct record *child = newer_fields(sample_child(0x400100, 5), 41, NULL, "of the Child SA");
    struct record *kept_ike = record_clone(ike), *kept_child = record_clone(child), *changed;

    two_of_three(c);
    put(c, 1, 7, ike, child, NULL);
    run(c, 20);
    cr_assert(barrier_of(at(c, 1), 7) && !barrier_of(at(c, 1), 7)->timed_out);
    cr_assert(same_unknown(sync_find_ike(at(c, 2)->core, 0xabc), kept_ike));
    kill_node(c, 1);
    kill_node(c, 2);
    start(c, 2);
    run(c, 1500);
    cr_assert(same_unknown(sync_find_child(at(c, 2)->core, 0x400100), kept_child));
    changed = record_clone(sync_find_child(at(c, 2)->core, 0x400100));
    changed->child.confirmed = true;
    put(c, 2, 0, changed, NULL, NULL);
    start(c, 3);
    run(c, 1500);
    cr_assert(same_unknown(sync_find_ike(at(c, 3)->core, 0xabc), kept_ike));
    cr_assert(same_unknown(sync_find_child(at(c, 3)->core, 0x400100), kept_child));
    cr_assert(sync_find_child(at(c, 3)->core, 0x400100)->child.confirmed);
    cr_assert(newer_holds(sync_find_ike(at(c, 3)->core, 0xabc), "of the IKE SA"));
    cr_assert(same_digests(c));
    record_free(kept_ike);
    record_free(kept_child);
    cluster_free(c);
}

/* Two members on two sides of a partition, with fields of two newer versions: both survive, on all
 * members alike, and of one field with two values the same one everywhere. */
Test(sync_upgrade, unknown_fields_of_two_forms_are_joined)
{
    struct cluster *c = cluster_new(3);
    const struct record *r;

    start_all(c);
    settle(c);
    for (uint16_t slot = 1; slot <= 3; slot++)
        for (uint16_t other = 1; other <= 3; other++)
            at(c, slot)->deaf_to[other] = at(c, slot)->cut_from[other] = true;
    put(c, 1, 0,
        newer_fields(newer_fields(sample_child(0x400100, 5), 40, "one", NULL), 41, "low", 0), NULL,
        NULL);
    put(c, 2, 0,
        newer_fields(newer_fields(sample_child(0x400100, 5), 41, "up!", NULL), 42, NULL, "two"),
        NULL, NULL);
    for (uint16_t slot = 1; slot <= 3; slot++) {
        memset(at(c, slot)->deaf_to, 0, sizeof at(c, slot)->deaf_to);
        memset(at(c, slot)->cut_from, 0, sizeof at(c, slot)->cut_from);
    }
    run(c, 3000);
    r = sync_find_child(at(c, 1)->core, 0x400100);
    cr_assert(r && newer_holds(r, "one") && newer_holds(r, "two") && newer_holds(r, "up!"));
    cr_assert(!newer_holds(r, "low"));
    for (uint16_t slot = 2; slot <= 3; slot++)
        cr_assert(same_unknown(sync_find_child(at(c, slot)->core, 0x400100), r), "slot %u", slot);
    cr_assert(same_digests(c));
    cluster_free(c);
}

/* A kind of record that nobody here knows is installed nowhere, but acknowledged, kept and passed
 * on; the higher revision wins; it ends when it says. */
Test(sync_upgrade, an_unknown_kind_is_kept_and_relayed)
{
    enum { KEY = 77, SHORT_LIVED = 78 };
    struct cluster *c = cluster_new(3);
    int64_t end_ms = SAMPLE_NOT_AFTER_MS;

    two_of_three(c);
    put(c, 1, 7, newer_kind(KEY, 2, end_ms, "a tunnel, say"), sample_ike(0xabc, 5), NULL);
    put(c, 1, 8, newer_kind(KEY, 1, end_ms, "an older form"), NULL, NULL);
    run(c, 20);
    cr_assert(barrier_of(at(c, 1), 7) && !barrier_of(at(c, 1), 7)->timed_out);
    cr_assert_eq(stats_of(c, 2).records_newer, 1u);
    cr_assert(same_digests(c));
    kill_node(c, 1);
    kill_node(c, 2);
    start(c, 2);
    run(c, 1500);
    start(c, 3);
    run(c, 1500);
    cr_assert(find_newer(c, 3, KEY) && newer_holds(find_newer(c, 3, KEY), "a tunnel, say"));
    cr_assert_eq(find_newer(c, 3, KEY)->later.revision, 2u);
    cr_assert_eq(find_newer(c, 3, KEY)->version, (uint32_t)RECORD_VERSION + 1);
    put(c, 3, 0, newer_kind(KEY, 3, end_ms, "a newer form"), NULL, NULL);
    run(c, 200);
    cr_assert(newer_holds(find_newer(c, 2, KEY), "a newer form"));
    put(c, 3, 0, newer_kind(SHORT_LIVED, 1, c->now.wall_ms + 2000, "not for long"), NULL, NULL);
    run(c, 200);
    cr_assert_not_null(find_newer(c, 2, SHORT_LIVED));
    cr_assert(same_digests(c));
    run(c, 10000);
    cr_assert_null(find_newer(c, 2, SHORT_LIVED));
    cr_assert_null(find_newer(c, 3, SHORT_LIVED));
    cr_assert_not_null(find_newer(c, 2, KEY));
    cluster_free(c);
}

/* The same octets in, the same octets out: what is not understood keeps its order and its form. */
Test(sync_upgrade, a_kind_to_come_is_encoded_as_it_came)
{
    struct record *r = newer_kind(5, 9, 1000, "text"), *back;
    uint8_t first[512], second[512];
    size_t n, m;

    r = newer_fields(r, 50, "beside the body", NULL);
    cr_assert_eq(codec_record_encode(r, first, sizeof first, &n), ERR_OK);
    cr_assert_eq(codec_record_decode((struct slice){first, n}, &back), ERR_OK);
    cr_assert_eq(codec_record_encode(back, second, sizeof second, &m), ERR_OK);
    cr_assert(n == m && memcmp(first, second, n) == 0);
    cr_assert(back->kind == NEWER_KIND && back->later.key == 5 && back->later.revision == 9 &&
              back->later.not_after_ms == 1000);
    cr_assert(newer_holds(back, "beside the body"));
    record_free(r);
    record_free(back);
}

/* Too much of it is refused at the door, not kept without a bound. */
Test(sync_upgrade, unknown_fields_are_bounded)
{
    struct record *r = sample_at(sample_endpoint(0x400100, 1), 9, 1, 1), *back;
    static uint8_t room[2 * RECORD_BLOB_MAX];
    size_t n;

    cr_assert_eq(codec_record_encode(r, room, sizeof room, &n), ERR_OK);
    for (int i = 0; i < 65; i++) { /* number 40, an integer */
        room[n++] = 0xc0;
        room[n++] = 0x02;
        room[n++] = 1;
        cr_assert_eq(codec_record_decode((struct slice){room, n}, &back),
                     i < 64 ? ERR_OK : ERR_FULL);
        record_free(back);
    }
    cr_assert_eq(codec_record_encode(r, room, sizeof room, &n), ERR_OK);
    room[n++] = 0xc2; /* number 40, 16384 octets */
    room[n++] = 0x02;
    room[n++] = 0x80;
    room[n++] = 0x80;
    room[n++] = 0x01;
    memset(room + n, 'x', RECORD_BLOB_MAX);
    cr_assert_eq(codec_record_decode((struct slice){room, n + RECORD_BLOB_MAX}, &back), ERR_FULL);
    cr_assert_null(back);
    record_free(r);
}
