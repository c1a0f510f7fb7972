#include "tests/bench/scale_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/env.h"
#include "sync/frame.h"
#include "tests/bench/cluster.h"
#include "tests/bench/scale_light.h"

enum { FRAME, REQUEST, REPLY, JOURNALED, FLUSH, TICK };

struct frame { /* shared by all whom it reaches */
    uint32_t refs;
    size_t n;
    bool is_announce;           /* to all */
    struct codec_message *says; /* NULL: the bytes are really opened */
    uint8_t bytes[];            /* if not, the header alone */
};

static uint64_t next_random(struct world *w)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random;
}

/* ---- a member's heap of events ---- */

static void push(struct member *m, struct event e)
{
    uint32_t i = m->n_heap++;

    if (m->n_heap > m->cap_heap) {
        m->cap_heap = m->cap_heap ? 2 * m->cap_heap : 64;
        m->heap = realloc(m->heap, m->cap_heap * sizeof *m->heap);
        if (!m->heap)
            abort();
    }
    for (; i && m->heap[(i - 1) / 2].at_us > e.at_us; i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = e;
}

static struct event pop(struct member *m)
{
    struct event first = m->heap[0], last = m->heap[--m->n_heap];
    uint32_t i = 0, child;

    while ((child = 2 * i + 1) < m->n_heap) {
        child += child + 1 < m->n_heap && m->heap[child + 1].at_us < m->heap[child].at_us;
        if (m->heap[child].at_us >= last.at_us)
            break;
        m->heap[i] = m->heap[child];
        i = child;
    }
    m->heap[i] = last;
    return first;
}

/* ---- frames on their way ---- */

static struct frame *frame_new(struct slice bytes, struct codec_message *says)
{
    size_t kept = says ? FRAME_HEADER_BYTES : bytes.n;
    struct frame *f = malloc(sizeof *f + kept);

    if (!f)
        abort();
    *f = (struct frame){.refs = 1, .n = bytes.n, .says = says};
    if (kept)
        memcpy(f->bytes, bytes.p, kept);
    return f;
}

static void frame_drop(struct frame *f)
{
    if (--f->refs)
        return;
    light_free(f->says);
    free(f);
}

static void send_one(struct world *w, uint32_t from, uint32_t to, uint8_t kind, struct frame *f,
                     uint64_t number)
{
    uint64_t at_us = w->now_us + LINK_US + next_random(w) % JITTER_US;
    uint64_t *last_us = &w->last_us[(size_t)from * w->n + to];

    if (at_us <= *last_us) /* a connection keeps the order */
        at_us = *last_us + 1;
    *last_us = at_us;
    f->refs++;
    push(&w->members[to],
         (struct event){
             .at_us = at_us, .from = (uint16_t)from, .kind = kind, .frame = f, .number = number});
}

/* What is for one member goes the way of requests, and arrives. */
static void publish(struct world *w, uint32_t from, uint16_t to_slot, struct frame *f)
{
    if (to_slot != SLOT_ALL) {
        send_one(w, from, to_slot - 1u, FRAME, f, 0);
        return;
    }
    for (uint32_t to = 0; to < w->n; to++)
        if (to != from && next_random(w) % 1000 >= w->loss_per_mille)
            send_one(w, from, to, FRAME, f, 0);
}

static void count_published(struct world *w, struct member *m, const struct sync_effect *fx,
                            enum codec_kind kind)
{
    struct sums *s = &w->sums;

    s->published++;
    s->published_bytes += fx->bytes.n;
    s->updates += kind == CODEC_UPDATE;
    if (kind != CODEC_ANNOUNCE)
        return;
    s->announce_bytes += fx->bytes.n;
    if (fx->slot != SLOT_ALL) {
        s->acks++;
        return;
    }
    s->announces++;
    if (m->announced_us) {
        s->intervals++;
        s->interval_us += w->now_us - m->announced_us;
    }
    m->announced_us = w->now_us;
}

/* ---- one member's step ---- */

static void note_record(struct world *w, struct member *m, const struct record *r)
{
    w->sums.installed++;
    if (r->kind != RECORD_CHILD || r->child.spi_in != w->spi || m->has_sa)
        return;
    m->has_sa = true;
    w->n_have++;
    if (w->now_us > w->all_have_us)
        w->all_have_us = w->now_us;
}

/* sealed: how many of this step's effects before this one carry a message. */
static void carry_out(struct world *w, uint32_t i, const struct sync_effect *fx, size_t *sealed)
{
    struct member *m = &w->members[i];
    enum codec_kind kind = CODEC_UPDATE;
    struct frame *f = NULL;

    if (fx->kind == SYNC_FX_PUBLISH) {
        kind = light_kind(*sealed);
        count_published(w, m, fx, kind);
    }
    if (fx->kind == SYNC_FX_PUBLISH || fx->kind == SYNC_FX_REQUEST || fx->kind == SYNC_FX_REPLY)
        f = frame_new(fx->bytes, fx->bytes.n ? light_take((*sealed)++) : NULL);
    switch (fx->kind) {
    case SYNC_FX_RECORD:
        note_record(w, m, fx->record);
        break;
    case SYNC_FX_JOURNAL:
        push(m, (struct event){.at_us = w->now_us + COMMIT_US,
                               .kind = JOURNALED,
                               .number = fx->batch->ticket});
        sync_batch_free(fx->batch);
        break;
    case SYNC_FX_PUBLISH:
        f->is_announce = kind == CODEC_ANNOUNCE && fx->slot == SLOT_ALL;
        publish(w, i, fx->slot, f);
        break;
    case SYNC_FX_REQUEST:
        w->sums.requests++;
        send_one(w, i, fx->slot - 1u, REQUEST, f, fx->request);
        break;
    case SYNC_FX_REPLY:
        send_one(w, i, w->asked_from, REPLY, f, w->asked_number);
        break;
    case SYNC_FX_BARRIER:
        w->sums.barriers++;
        w->sums.timed_out += fx->timed_out;
        w->barrier_us = w->now_us;
        break;
    case SYNC_FX_EPOCH:
        m->epoch = fx->epoch;
        break;
    default: /* of no concern here */
        break;
    }
    if (f)
        frame_drop(f);
}

static struct now now_of(const struct world *w)
{
    return (struct now){.mono_us = w->now_us, .wall_ms = INT64_C(1700000000000)};
}

static void step(struct world *w, uint32_t i, struct sync_event *ev,
                 const struct codec_message *says)
{
    struct member *m = &w->members[i];
    struct sync_effects fx;
    size_t sealed = 0;

    ev->more = ev->kind != SYNC_EV_FLUSH;
    if (ev->more && !m->flush_due) {
        m->flush_due = true;
        push(m, (struct event){.at_us = w->now_us + w->turn_us, .kind = FLUSH});
    }
    light_step(says);
    fx = sync_step(m->core, ev, now_of(w));
    for (size_t k = 0; k < fx.n; k++)
        carry_out(w, i, &fx.fx[k], &sealed);
}

void world_step(struct world *w, uint32_t i, struct sync_event *ev)
{
    step(w, i, ev, NULL);
}

static void handle(struct world *w, uint32_t i, const struct event *e)
{
    static const enum sync_event_kind kinds[] = {
        [FRAME] = SYNC_EV_FRAME,         [REQUEST] = SYNC_EV_REQUEST, [REPLY] = SYNC_EV_REPLY,
        [JOURNALED] = SYNC_EV_JOURNALED, [FLUSH] = SYNC_EV_FLUSH,     [TICK] = SYNC_EV_TICK};
    struct sync_event ev = {.kind = kinds[e->kind], .ticket = e->number, .request = e->number};
    struct member *m = &w->members[i];

    w->now_us = e->at_us;
    if (e->frame) {
        ev.bytes = (struct slice){e->frame->bytes, e->frame->n};
        w->sums.arrived++;
        w->sums.handled += !e->frame->is_announce;
        w->sums.handled_bytes += e->frame->is_announce ? 0 : e->frame->n;
    }
    if (e->kind == REQUEST) {
        w->asked_from = e->from;
        w->asked_number = e->number;
    }
    if (e->kind == FLUSH)
        m->flush_due = false;
    if (e->kind == TICK)
        push(m, (struct event){.at_us = e->at_us + TICK_US, .kind = TICK});
    step(w, i, &ev, e->frame ? e->frame->says : NULL);
    if (e->frame)
        frame_drop(e->frame);
}

void world_run(struct world *w, uint64_t for_us)
{
    uint64_t from_us = w->now_us, until_us = w->now_us + for_us;

    while (from_us < until_us) {
        uint64_t end_us = from_us + LINK_US < until_us ? from_us + LINK_US : until_us;
        for (uint32_t i = 0; i < w->n; i++) {
            struct member *m = &w->members[i];
            while (m->n_heap && m->heap[0].at_us < end_us) {
                struct event e = pop(m);
                handle(w, i, &e);
            }
        }
        from_us = end_us;
    }
    w->now_us = until_us;
}

/* ---- the beginning and the end ---- */

void world_begin(struct world *w, const struct world_config *c)
{
    const uint32_t n = c->n;
    struct sync_config config = {.cluster = "scale",
                                 .version = "bench",
                                 .n_members = n,
                                 .n_keys = 1,
                                 .dead_ms = 500,
                                 .barrier_timeout_ms = 250};

    *w = (struct world){.n = n,
                        .turn_us = c->turn_us,
                        .loss_per_mille = c->loss_per_mille,
                        .random = 88172645463325252u + n,
                        .spi = 1};
    light_imitate(c->light);
    w->now_us = BEGAN_US;
    w->members = calloc(n, sizeof *w->members);
    w->last_us = calloc((size_t)n * n, sizeof *w->last_us);
    if (!w->members || !w->last_us)
        abort();
    config.keys[0] = bench_cluster_key();
    for (uint32_t i = 0; i < n; i++)
        config.members[i] = (uint16_t)(i + 1);
    for (uint32_t i = 0; i < n; i++) {
        struct sync_recovery empty = {.journal_empty = true};
        struct sync_event ev = {.kind = SYNC_EV_RECOVERED, .recovery = &empty};
        config.slot = (uint16_t)(i + 1);
        snprintf(config.name, sizeof config.name, "n%u", i + 1);
        w->members[i].core = sync_new(&config, &rng_system, now_of(w));
        if (!w->members[i].core)
            abort();
        world_step(w, i, &ev);
        push(&w->members[i],
             (struct event){.at_us = w->now_us + next_random(w) % TICK_US, .kind = TICK});
    }
}

void world_end(struct world *w)
{
    light_step(NULL);
    for (uint32_t i = 0; i < w->n; i++) {
        struct member *m = &w->members[i];
        sync_free(m->core);
        for (uint32_t k = 0; k < m->n_heap; k++)
            if (m->heap[k].frame)
                frame_drop(m->heap[k].frame);
        free(m->heap);
    }
    free(w->members);
    free(w->last_us);
}
