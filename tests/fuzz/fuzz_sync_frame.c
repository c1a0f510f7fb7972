/* A core and what reaches it from the mesh. Bytes that no member sealed must be refused
 * whatever they are; bytes that a believed member did seal may say anything at all.
 *
 * Input: a row of operations, each one byte (kind), two bytes (length, big-endian), bytes. */
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/err.h"
#include "proto/log.h"
#include "sync/frame.h"

enum operation {
    RAW_FRAME,
    RAW_REQUEST,
    RAW_REPLY,
    SEALED_FRAME,
    SEALED_REQUEST,
    SEALED_REPLY,
    TIME,    /* the length is milliseconds; then a TICK */
    JOURNAL, /* all is durable */
    OPERATIONS,
};

enum { OPERATIONS_MAX = 64 };

struct bench {
    struct sync_core *core;
    struct frame_box *box; /* member 2's */
    struct id128 member;
    struct now now;
    uint64_t random, ticket;
    uint64_t request, nonce; /* the core's last to member 2 */
};

static void fill(void *ctx, uint8_t *out, size_t n)
{
    struct bench *b = ctx;

    for (size_t i = 0; i < n; i++) {
        b->random = b->random * UINT64_C(6364136223846793005) + 1442695040888963407;
        out[i] = (uint8_t)(b->random >> 56);
    }
}

/* What is the nonce of this request? Member 2 can read it. */
static void on_request(struct bench *b, const struct sync_effect *fx)
{
    static uint8_t plain[FRAME_MAX_BYTES];
    struct codec_message m;
    struct frame_header h;
    size_t n;

    if (fx->slot != 2 || frame_peek(b->box, fx->bytes, &h) != FRAME_TAKEN ||
        frame_open(b->box, fx->bytes, &h, NULL, plain, &n) != FRAME_TAKEN ||
        codec_decode((struct slice){plain, n}, &m) != ERR_OK || m.kind != CODEC_PULL_REQUEST)
        abort(); /* our own requests are well formed */
    b->request = fx->request;
    b->nonce = m.pull_request.nonce;
    codec_message_free(&m);
}

static void give(struct bench *b, const struct sync_event *ev)
{
    struct sync_effects fx = sync_step(b->core, ev, b->now);

    for (size_t i = 0; i < fx.n; i++) {
        if (fx.fx[i].kind == SYNC_FX_JOURNAL) {
            b->ticket = fx.fx[i].batch->ticket;
            sync_batch_free(fx.fx[i].batch);
        } else if (fx.fx[i].kind == SYNC_FX_REQUEST) {
            on_request(b, &fx.fx[i]);
        } else if (fx.fx[i].kind == SYNC_FX_RECORD &&
                   codec_record_check(fx.fx[i].record) != ERR_OK) {
            abort(); /* nothing malformed reaches the dataplane */
        }
    }
}

static const enum sync_event_kind kinds[] = {SYNC_EV_FRAME, SYNC_EV_REQUEST, SYNC_EV_REPLY};

static void raw(struct bench *b, unsigned channel, struct slice bytes)
{
    struct sync_stats before, after;

    sync_get_stats(b->core, &before);
    give(b, &(struct sync_event){.kind = kinds[channel], .bytes = bytes, .request = b->request});
    sync_get_stats(b->core, &after);
    if (after.frames_in != before.frames_in)
        abort();
}

static void sealed(struct bench *b, unsigned channel, struct slice plain)
{
    static const enum frame_channel channels[] = {FRAME_PUB, FRAME_REQUEST, FRAME_REPLY};
    struct frame_binding binding = {sync_incarnation(b->core), b->nonce};
    uint8_t *out = malloc(plain.n + FRAME_OVERHEAD_BYTES);

    if (frame_seal(b->box, channels[channel], channel ? 1 : FRAME_TO_ALL,
                   channel == 2 ? &binding : NULL, plain.p, plain.n, out) == ERR_OK)
        give(b, &(struct sync_event){.kind = kinds[channel],
                                     .request = b->request,
                                     .bytes = {out, plain.n + FRAME_OVERHEAD_BYTES}});
    free(out);
}

/* Member 2 names our incarnation: from here on it is believed. */
static void introduce(struct bench *b)
{
    struct codec_heard heard = {
        .slot = 1, .incarnation = sync_incarnation(b->core), .believed = true, .number = 1};
    struct codec_message m = {.kind = CODEC_ANNOUNCE};
    uint8_t plain[256];
    size_t n;

    m.announce.heard = &heard;
    m.announce.n_heard = 1;
    m.announce.state = MEMBER_JOINING;
    if (codec_encode(&m, plain, sizeof plain, &n) != ERR_OK)
        abort();
    sealed(b, 0, (struct slice){plain, n});
    if (!sync_member_live(b->core, 2))
        abort();
}

static void open_bench(struct bench *b)
{
    struct sync_config config = {.cluster = "fuzz",
                                 .name = "n1",
                                 .version = "0",
                                 .slot = 1,
                                 .members = {1, 2, 3},
                                 .n_members = 3,
                                 .n_keys = 1,
                                 .dead_ms = 500,
                                 .barrier_timeout_ms = 250};
    struct rng rng = {fill, b};
    struct sync_recovery nothing = {.journal_empty = true};

    *b = (struct bench){.now = {1000000, 1700000000000}, .random = 1};
    memset(b->member.b, 0x22, ID_BYTES);
    config.keys[0].id = 1;
    config.keys[0].key.n = CLUSTER_KEY_BYTES;
    b->core = sync_new(&config, &rng, b->now);
    b->box = frame_box_new("fuzz", config.keys, 1, 2, &b->member);
    if (!b->core || !b->box)
        abort();
    give(b, &(struct sync_event){.kind = SYNC_EV_RECOVERED, .recovery = &nothing});
    introduce(b);
}

static void operate(struct bench *b, enum operation op, struct reader *r)
{
    uint16_t n = read_u16(r);
    struct slice bytes;

    if (op == TIME) {
        b->now.mono_us += (uint64_t)n * 1000;
        b->now.wall_ms += n;
        give(b, &(struct sync_event){.kind = SYNC_EV_TICK});
        return;
    }
    if (op == JOURNAL) {
        give(b,
             &(struct sync_event){.kind = SYNC_EV_JOURNALED, .ticket = b->ticket, .failed = n & 1});
        return;
    }
    bytes = read_slice(r, n < r->left ? n : r->left);
    if (op <= RAW_REPLY)
        raw(b, op - RAW_FRAME, bytes);
    else
        sealed(b, op - SEALED_FRAME, bytes);
}

static void no_log(enum log_level level, const char *area, const char *text)
{
    (void)level;
    (void)area;
    (void)text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = reader_of(data, size);
    struct sync_member_info members[3];
    struct bench b;

    log_set_sink(no_log);
    open_bench(&b);
    for (int i = 0; i < OPERATIONS_MAX && r.left && !r.bad; i++)
        operate(&b, read_u8(&r) % OPERATIONS, &r);
    if (sync_members(b.core, members, 3) != 3)
        abort();
    sync_free(b.core);
    frame_box_free(b.box);
    return 0;
}
