/* Frames that must not be taken: each is refused, counted by its reason, and changes nothing. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/err.h"
#include "sync/core.h"
#include "tests/unit/sync/harness.h"
#include "tests/unit/sync/newer.h"

/* Hands bytes to a node as from SUB. */
static void inject(struct cluster *c, uint16_t to, const uint8_t *p, size_t n)
{
    give(c, to, &(struct sync_event){.kind = SYNC_EV_FRAME, .bytes = {p, n}});
}

static uint64_t refused(const struct cluster *c, uint16_t slot, enum frame_refusal why)
{
    return stats_of(c, slot).refused_by_reason[why];
}

/* The frame that the node published last, copied out. */
static uint8_t *recorded(const struct cluster *c, uint16_t slot, size_t *n)
{
    uint8_t *copy = malloc(c->last_frame_n[slot]);

    *n = c->last_frame_n[slot];
    memcpy(copy, c->last_frame[slot], *n);
    return copy;
}

static struct cluster *settled(size_t n)
{
    struct cluster *c = cluster_new(n);

    start_all(c);
    settle(c);
    run(c, 10);
    return c;
}

Test(sync_refusals, a_replayed_frame)
{
    struct cluster *c = settled(2);
    size_t n, effects;
    uint8_t *update;

    put(c, 1, 0, sample_ike(0xabc, 5), NULL, NULL);
    update = recorded(c, 1, &n);
    run(c, 3);
    effects = at(c, 2)->n_record_effects;
    inject(c, 2, update, n);
    cr_assert_eq(refused(c, 2, REFUSED_REPLAY), 1u);
    cr_assert_eq(at(c, 2)->n_record_effects, effects);
    free(update);
    cluster_free(c);
}

/* A recording does not keep a dead member alive. */
Test(sync_refusals, a_replay_does_not_raise_the_dead)
{
    struct cluster *c = settled(2);
    size_t n;
    uint8_t *frame = recorded(c, 2, &n);

    kill_node(c, 2);
    for (int i = 0; i < 80; i++) {
        run(c, 10);
        inject(c, 1, frame, n);
    }
    cr_assert(!sync_member_live(at(c, 1)->core, 2));
    cr_assert_eq(refused(c, 1, REFUSED_REPLAY), 80u);
    free(frame);
    cluster_free(c);
}

Test(sync_refusals, a_forged_or_damaged_frame)
{
    struct cluster *c = settled(2);
    uint64_t before = refused(c, 2, REFUSED_AUTH);
    size_t n;
    uint8_t *frame;

    put(c, 1, 0, sample_ike(0xabc, 5), NULL, NULL);
    lose_mail(c); /* the true one is lost */
    frame = recorded(c, 1, &n);
    for (size_t i = FRAME_HEADER_BYTES; i < n; i += 7) {
        frame[i] ^= 0x10;
        inject(c, 2, frame, n);
        frame[i] ^= 0x10;
        before++;
    }
    cr_assert_eq(refused(c, 2, REFUSED_AUTH), before);
    frame[FRAME_HEADER_BYTES - 1] ^= 1; /* the number is authenticated too */
    inject(c, 2, frame, n);
    cr_assert_eq(refused(c, 2, REFUSED_AUTH), before + 1);
    cr_assert_null(sync_find_ike(at(c, 2)->core, 0xabc));
    frame[FRAME_HEADER_BYTES - 1] ^= 1;
    inject(c, 2, frame, n); /* untouched it is taken: none of the others used it up */
    cr_assert_not_null(sync_find_ike(at(c, 2)->core, 0xabc));
    free(frame);
    cluster_free(c);
}

Test(sync_refusals, a_truncated_or_oversized_frame)
{
    struct cluster *c = settled(2);
    uint8_t *big = calloc(1, FRAME_MAX_BYTES + 1);
    uint64_t form, all;
    size_t n;
    uint8_t *frame = recorded(c, 1, &n);

    form = refused(c, 2, REFUSED_FORM);
    for (size_t cut = 0; cut < FRAME_OVERHEAD_BYTES; cut++)
        inject(c, 2, frame, cut);
    cr_assert_eq(refused(c, 2, REFUSED_FORM), form + FRAME_OVERHEAD_BYTES);
    all = stats_of(c, 2).frames_refused;
    for (size_t cut = FRAME_OVERHEAD_BYTES; cut < n; cut++)
        inject(c, 2, frame, cut);
    cr_assert_eq(stats_of(c, 2).frames_refused, all + (n - FRAME_OVERHEAD_BYTES));
    memcpy(big, frame, FRAME_HEADER_BYTES);
    inject(c, 2, big, FRAME_MAX_BYTES + 1);
    frame[0]++; /* a version to come */
    inject(c, 2, frame, n);
    frame[0]--;
    cr_assert_eq(refused(c, 2, REFUSED_VERSION), 1u);
    frame[1] = 9; /* a channel that is none */
    inject(c, 2, frame, n);
    cr_assert_eq(refused(c, 2, REFUSED_FORM), form + FRAME_OVERHEAD_BYTES + 2);
    free(frame);
    free(big);
    cluster_free(c);
}

/* Another cluster on the same wires, by name; and one of our name with another key. */
Test(sync_refusals, another_cluster)
{
    struct cluster *c = settled(2), *other = cluster_new(2);
    uint64_t unproven = refused(c, 1, REFUSED_UNPROVEN);

    other->name = "plant";
    start_all(other);
    inject(c, 1, other->last_frame[2], other->last_frame_n[2]);
    cr_assert_eq(refused(c, 1, REFUSED_CLUSTER), 1u);
    cluster_free(other);

    other = cluster_new(2);
    other->key_id = 2; /* a key id that we do not have */
    start_all(other);
    inject(c, 1, other->last_frame[2], other->last_frame_n[2]);
    cr_assert_eq(refused(c, 1, REFUSED_CLUSTER), 1u);
    cr_assert_eq(refused(c, 1, REFUSED_KEY), 1u);
    cr_assert_eq(refused(c, 1, REFUSED_UNPROVEN), unproven);
    cluster_free(other);
    cluster_free(c);
}

/* A member that came back with a key that the others have no more is named; one that is heard
 * is not, whatever is forged in its name. */
Test(sync_refusals, a_member_with_a_stale_key_is_named)
{
    struct cluster *c = settled(2), *other = cluster_new(2);
    struct sync_member_info info = member_of(c, 1, 2);

    cr_assert(info.key_state == MEMBER_KEY_SAME && info.key_id == c->key_id);
    info = member_of(c, 1, 1);
    cr_assert(info.key_state == MEMBER_KEY_SAME && info.key_id == c->key_id, "our own");
    other->key_id = 77;
    start_all(other);
    inject(c, 1, other->last_frame[2], other->last_frame_n[2]);
    info = member_of(c, 1, 2);
    cr_assert_eq(info.key_state, MEMBER_KEY_SAME, "it is heard");

    kill_node(c, 2);
    run(c, 5000);
    info = member_of(c, 1, 2);
    cr_assert(info.state == MEMBER_DEAD && info.key_state == MEMBER_KEY_SAME);
    inject(c, 1, other->last_frame[2], other->last_frame_n[2]);
    info = member_of(c, 1, 2);
    cr_assert(info.key_state == MEMBER_KEY_UNKNOWN && info.key_id == 77);
    start(c, 2);
    run(c, 500);
    info = member_of(c, 1, 2);
    cr_assert(info.key_state == MEMBER_KEY_SAME && info.key_id == c->key_id);
    cluster_free(other);
    cluster_free(c);
}

Test(sync_refusals, a_slot_that_is_not_a_member_or_our_own)
{
    struct cluster *c = settled(2), *wider = cluster_new(3);
    size_t n;
    uint8_t *own = recorded(c, 1, &n);

    start_all(wider);
    inject(c, 1, wider->last_frame[3], wider->last_frame_n[3]);
    cr_assert_eq(refused(c, 1, REFUSED_SENDER), 1u);
    inject(c, 1, own, n); /* mirrored */
    cr_assert_eq(refused(c, 1, REFUSED_SENDER), 2u);
    free(own);
    cluster_free(wider);
    cluster_free(c);
}

/* An Update recorded in an earlier life of the cluster, played to a node that started since. */
Test(sync_refusals, a_recording_from_before_we_were_born)
{
    struct cluster *c = settled(2);
    size_t n;
    uint8_t *update;

    put(c, 1, 0, sample_ike(0xabc, 5), NULL, NULL);
    update = recorded(c, 1, &n);
    run(c, 5);
    kill_node(c, 2);
    memory_disk_free(at(c, 2)->disk);
    at(c, 2)->disk = memory_disk_new();
    at(c, 2)->cut_from[1] = true;
    start(c, 2);
    inject(c, 2, update, n);
    cr_assert_eq(refused(c, 2, REFUSED_UNPROVEN), 1u);
    cr_assert_null(sync_find_ike(at(c, 2)->core, 0xabc));
    cr_assert(!sync_member_live(at(c, 2)->core, 1));
    free(update);
    cluster_free(c);
}

/* Once a newer incarnation is believed, the older is heard no more, however fresh. */
Test(sync_refusals, a_retired_incarnation)
{
    struct cluster *c = settled(2);
    size_t n;
    uint8_t *old = recorded(c, 2, &n);

    kill_node(c, 2);
    run(c, 20);
    start(c, 2);
    settle(c);
    run(c, 5);
    inject(c, 1, old, n);
    cr_assert_eq(refused(c, 1, REFUSED_RETIRED), 1u);
    cr_assert(sync_member_live(at(c, 1)->core, 2));
    free(old);
    cluster_free(c);
}

/* Recordings of any life that named us, and it has had more than anybody remembers: they speak of
 * frames of ours from before belief changed, so they change nothing, be the present one silent. */
Test(sync_refusals, recordings_of_lives_long_past)
{
    enum { LIVES = RETIRED_MAX + 3 };
    struct cluster *c = settled(2);
    uint8_t *frames[LIVES];
    size_t n[LIVES];
    struct id128 present;

    for (int i = 0; i < LIVES; i++) {
        run(c, 120);
        frames[i] = recorded(c, 2, &n[i]);
        if (i < LIVES - 1) { /* the last that it said, and 1 has not heard it */
            kill_node(c, 2);
            start(c, 2);
            settle(c);
        }
    }
    present = sync_incarnation(at(c, 2)->core);
    cr_assert_eq(at(c, 1)->core->peers[0].n_retired, (size_t)RETIRED_MAX);
    for (int i = 0; i < LIVES - 1; i++)
        inject(c, 1, frames[i], n[i]);
    cr_assert_eq(refused(c, 1, REFUSED_RETIRED), (uint64_t)RETIRED_MAX);
    kill_node(c, 2);
    run(c, 600);
    cr_assert(!sync_member_live(at(c, 1)->core, 2));
    for (int i = 0; i < LIVES; i++)
        inject(c, 1, frames[i], n[i]);
    cr_assert(!sync_member_live(at(c, 1)->core, 2));
    cr_assert_eq(memcmp(member_of(c, 1, 2).incarnation.b, present.b, ID_BYTES), 0);
    for (int i = 0; i < LIVES; i++)
        free(frames[i]);
    cluster_free(c);
}

/* A late frame of an earlier life that names us, believed after the present one: the mistake
 * mends itself, since the earlier one is silent from then on. */
Test(sync_refusals, a_late_frame_does_not_retire_the_living)
{
    struct cluster *c = cluster_new(2);
    struct id128 present;
    uint8_t *late;
    size_t n;

    start_all(c);
    at(c, 1)->deaf_to[2] = true; /* 2 hears 1 and names it; 1 has heard nothing yet */
    run(c, 200);
    late = recorded(c, 2, &n);
    kill_node(c, 2);
    at(c, 1)->deaf_to[2] = false;
    start(c, 2);
    settle(c);
    inject(c, 1, late, n);
    run(c, 2000);
    cr_assert(sync_member_live(at(c, 1)->core, 2));
    present = sync_incarnation(at(c, 2)->core);
    cr_assert_eq(memcmp(member_of(c, 1, 2).incarnation.b, present.b, ID_BYTES), 0);
    inject(c, 1, late, n); /* once was enough: it is behind all that we had */
    cr_assert_eq(memcmp(member_of(c, 1, 2).incarnation.b, present.b, ID_BYTES), 0);
    free(late);
    cluster_free(c);
}

/* A flood of old incarnations' frames does not keep a new one from being believed. */
Test(sync_refusals, old_recordings_do_not_crowd_out_a_newcomer)
{
    enum { LIVES = 12 };
    struct cluster *c = cluster_new(3), *past = cluster_new(3);
    uint8_t *frames[LIVES];
    size_t n[LIVES];

    c->random = 12345;
    for (int i = 0; i < LIVES; i++) {
        start(past, 2);
        frames[i] = recorded(past, 2, &n[i]);
        kill_node(past, 2);
    }
    start(c, 1);
    start(c, 3);
    for (int i = 0; i < 200; i++) {
        inject(c, 1, frames[i % 3], n[i % 3]);
        run(c, 1);
        if (i == 50)
            start(c, 2);
    }
    cr_assert(sync_member_live(at(c, 1)->core, 2));
    for (int i = 0; i < LIVES; i++)
        free(frames[i]);
    cluster_free(past);
    cluster_free(c);
}

/* What is authentic and fresh may still be nonsense: a member with a defect. */
static void seal_and_inject(struct cluster *c, struct frame_box *box, uint16_t to,
                            enum frame_channel channel, const uint8_t *plain, size_t n)
{
    uint8_t *out = malloc(n + FRAME_OVERHEAD_BYTES);

    cr_assert_eq(
        frame_seal(box, channel, channel == FRAME_PUB ? FRAME_TO_ALL : to, NULL, plain, n, out),
        ERR_OK);
    inject(c, to, out, n + FRAME_OVERHEAD_BYTES);
    free(out);
}

/* A member of our own making, slot 2, that node 1 believes. */
static struct frame_box *impostor(struct cluster *c, struct id128 *incarnation)
{
    struct cluster_key key = sample_cluster_key(1);
    struct codec_heard heard = {.slot = 1, .believed = true, .number = 1};
    struct codec_message m = {.kind = CODEC_ANNOUNCE};
    uint8_t plain[512];
    struct frame_box *box;
    size_t n;

    *incarnation = sample_id(4711);
    box = frame_box_new("lab", &key, 1, 2, incarnation);
    heard.incarnation = sync_incarnation(at(c, 1)->core);
    m.announce.state = MEMBER_JOINING;
    m.announce.heard = &heard;
    m.announce.n_heard = 1;
    strcpy(m.announce.name, "impostor");
    strcpy(m.announce.version, "0");
    cr_assert_eq(codec_encode(&m, plain, sizeof plain, &n), ERR_OK);
    seal_and_inject(c, box, 1, FRAME_PUB, plain, n);
    cr_assert(sync_member_live(at(c, 1)->core, 2));
    return box;
}

Test(sync_refusals, an_authentic_payload_that_makes_no_sense)
{
    struct cluster *c = cluster_new(2);
    struct record *r = sample_at(sample_child(0x400100, 5), 9, 2, 1);
    struct codec_message m = {.kind = CODEC_UPDATE};
    uint32_t one = 1;
    struct id128 incarnation;
    struct frame_box *box;
    uint8_t plain[2048];
    size_t n;

    start(c, 1);
    box = impostor(c, &incarnation);
    memset(plain, 0xff, sizeof plain);
    seal_and_inject(c, box, 1, FRAME_PUB, plain, 100); /* no such kind */
    seal_and_inject(c, box, 1, FRAME_PUB, plain, 0);   /* nothing */
    plain[0] = CODEC_ANNOUNCE;
    seal_and_inject(c, box, 1, FRAME_PUB, plain, 100); /* no protobuf */
    cr_assert_eq(refused(c, 1, REFUSED_PAYLOAD), 2u);
    cr_assert_eq(refused(c, 1, REFUSED_KIND), 1u);

    m.update.origin = sample_id(9); /* another's log */
    m.update.first_seq = 1;
    m.update.records = &r;
    m.update.n_records = 1;
    m.update.group_sizes = &one;
    m.update.n_groups = 1;
    cr_assert_eq(codec_encode(&m, plain, sizeof plain, &n), ERR_OK);
    seal_and_inject(c, box, 1, FRAME_PUB, plain, n);
    cr_assert_eq(refused(c, 1, REFUSED_PAYLOAD), 3u);
    cr_assert_null(sync_find_child(at(c, 1)->core, 0x400100));

    m.update.origin = incarnation; /* its own: taken */
    cr_assert_eq(codec_encode(&m, plain, sizeof plain, &n), ERR_OK);
    seal_and_inject(c, box, 1, FRAME_PUB, plain, n);
    cr_assert_not_null(sync_find_child(at(c, 1)->core, 0x400100));
    seal_and_inject(c, box, 1, FRAME_REQUEST, plain, n); /* the right bytes on a wrong channel */
    cr_assert_eq(refused(c, 1, REFUSED_PAYLOAD), 3u);
    cr_assert_eq(refused(c, 1, REFUSED_FORM), 1u);
    record_free(r);
    frame_box_free(box);
    cluster_free(c);
}

/* A record of a newer version that breaks the rules for such (no key, or no body that we could tell
 * as one) is lost here; the rest of its Update is not, and its log goes on. */
Test(sync_refusals, a_record_that_nobody_here_can_keep)
{
    struct cluster *c = cluster_new(2);
    struct record *r[3] = {sample_child(0x400100, 5), newer_kind(9, 1, SAMPLE_NOT_AFTER_MS, "x"),
                           sample_child(0x400200, 5)};
    struct codec_message m = {.kind = CODEC_UPDATE};
    uint32_t three = 3;
    struct id128 incarnation;
    struct frame_box *box;
    uint8_t plain[4096], *key;
    size_t n;

    start(c, 1);
    box = impostor(c, &incarnation);
    m.update = (struct codec_update){incarnation, 1, r, 3, &three, 1};
    cr_assert_eq(codec_encode(&m, plain, sizeof plain, &n), ERR_OK);
    key = memmem(plain, n, "\x09\x09\0\0\0\0\0\0\0", 9); /* field 1, fixed64 9 */
    cr_assert_not_null(key);
    *key = 7 << 3 | 1; /* no field 1 any more */
    seal_and_inject(c, box, 1, FRAME_PUB, plain, n);
    cr_assert_eq(stats_of(c, 1).records_unreadable, 1u);
    cr_assert_eq(refused(c, 1, REFUSED_PAYLOAD), 0u);
    cr_assert_not_null(sync_find_child(at(c, 1)->core, 0x400100));
    cr_assert_not_null(sync_find_child(at(c, 1)->core, 0x400200));
    cr_assert_eq(member_of(c, 1, 2).lag_records, 0u);
    cr_assert_eq(stats_of(c, 1).gaps, 0u);
    for (int i = 0; i < 3; i++)
        record_free(r[i]);
    frame_box_free(box);
    cluster_free(c);
}

/* Requests: every one is answered or let go, and none but a believed member's is served. */
Test(sync_refusals, a_request_that_is_not_for_us)
{
    struct cluster *c = cluster_new(2);
    struct codec_message m = {.kind = CODEC_PULL_REQUEST};
    struct cluster_key key = sample_cluster_key(1);
    struct id128 incarnation = sample_id(1), own;
    struct frame_box *box = frame_box_new("lab", &key, 1, 2, &incarnation);
    uint8_t plain[256], sealed[512];
    struct sync_event ev = {.kind = SYNC_EV_REQUEST, .request = (uint64_t)2 << 48};
    size_t n;

    start(c, 1);
    run(c, 1);
    own = sync_incarnation(at(c, 1)->core);
    m.pull_request.heard = 1;
    for (int round = 0; round < 3; round++) {
        struct sync_effects fx;
        size_t replies = 0, bytes = 0;
        m.pull_request.to_incarnation = round == 2 ? own : sample_id(99); /* an earlier life */
        cr_assert_eq(codec_encode(&m, plain, sizeof plain, &n), ERR_OK);
        cr_assert_eq(frame_seal(box, FRAME_REQUEST, round == 1 ? 2 : 1, NULL, plain, n, sealed),
                     ERR_OK);
        ev.bytes = (struct slice){sealed, n + FRAME_OVERHEAD_BYTES};
        fx = sync_step(at(c, 1)->core, &ev, c->now);
        for (size_t i = 0; i < fx.n; i++) {
            if (fx.fx[i].kind == SYNC_FX_JOURNAL)
                sync_batch_free(fx.fx[i].batch);
            if (fx.fx[i].kind != SYNC_FX_REPLY)
                continue;
            replies++;
            bytes = fx.fx[i].bytes.n;
        }
        cr_assert_eq(replies, 1u, "round %d", round);
        cr_assert_eq(bytes != 0, round == 2, "round %d", round);
    }
    cr_assert_eq(refused(c, 1, REFUSED_UNPROVEN), 1u);
    cr_assert_eq(refused(c, 1, REFUSED_SENDER), 1u);
    cr_assert(sync_member_live(at(c, 1)->core, 2), "a request that names us is proof");
    frame_box_free(box);
    cluster_free(c);
}

/* A reply opens for the request that it answers alone. */
Test(sync_refusals, a_reply_to_another_request)
{
    struct cluster *c = settled(2);
    struct letter reply = {0};

    put(c, 1, 0, sample_ike(0xabc, 5), NULL, NULL);
    lose_mail(c);          /* lost */
    while (!reply.bytes) { /* hold the answer back */
        run(c, 1);
        cr_assert_lt(c->now.mono_us, 5000000u);
        for (size_t i = 0; i < c->n_wire; i++)
            if (c->wire[i].kind == SYNC_EV_REPLY) {
                reply = c->wire[i];
                c->wire[i] = c->wire[--c->n_wire];
                break;
            }
    }
    run(c, 3400); /* given up, asked again, answered */
    cr_assert_not_null(sync_find_ike(at(c, 2)->core, 0xabc));
    put(c, 1, 0, sample_ike(0xabd, 6), NULL, NULL);
    lose_mail(c);
    for (int i = 0; i < 200 && at(c, 2)->n_requests < 3; i++)
        run(c, 1); /* another request of 2's is out: give it the old answer */
    cr_assert_eq(at(c, 2)->n_requests, 3u);
    lose_mail(c);
    {
        uint64_t before = refused(c, 2, REFUSED_AUTH);
        for (int i = 0; i < 8; i++) /* the first ends the request, the rest are nobody's */
            give(c, 2,
                 &(struct sync_event){.kind = SYNC_EV_REPLY,
                                      .request = at(c, 2)->last_request,
                                      .bytes = {reply.bytes, reply.n}});
        cr_assert_eq(refused(c, 2, REFUSED_AUTH), before + 1);
    }
    free(reply.bytes);
    cluster_free(c);
}
