/* How replication grows with the member list: N cores in one process under virtual time.
 *
 *     bench_scale [--sas N] [--turn US] MEMBERS...
 *
 * A link takes 0.5 ms and up to 0.2 ms more, and loses one published frame in a hundred; requests
 * arrive. A commit takes 0.2 ms. A member's loop handles what came and lets its output go once a
 * turn (0.1 ms). Times are virtual and so exact; CPU time is this machine's, all members together
 * on one thread. See docs/scaling.md. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/env.h"
#include "proto/log.h"
#include "sync/frame.h"
#include "sync/sync.h"
#include "tests/bench/cluster.h"

enum {
    LINK_US = 500,
    JITTER_US = 200,
    LOSS_PER_MILLE = 10,
    COMMIT_US = 200,
    TICK_US = 10000,
    QUIET_US = 150000, /* between two SAs: the last one's repairs are over */
    FORM_LIMIT_US = 30000000,
    ASKED = 256,
};

struct frame { /* shared by all whom it reaches */
    unsigned refs;
    size_t n;
    uint8_t bytes[];
};

struct event {
    uint64_t at_us;
    uint32_t to; /* index of a member */
    enum { FRAME, REQUEST, REPLY, JOURNALED, FLUSH, TICK } kind;
    struct frame *frame;
    uint64_t number; /* a request's or ticket's */
    uint32_t from;
};

struct member {
    struct sync_core *core;
    uint32_t epoch;
    bool flush_due;
    bool has_sa; /* the SA under way is installed here */
};

struct world {
    struct member *members;
    uint32_t n;
    uint64_t now_us, turn_us, random;
    uint64_t *last_us; /* by sender and receiver: when its last frame arrives */
    struct event *heap;
    size_t n_heap, cap_heap;
    struct {
        uint32_t from;
        uint64_t number;
    } asked[ASKED]; /* requests, until they are answered: at once */
    uint64_t n_asked;
    /* of the SA under way */
    uint32_t spi, n_have;
    uint64_t all_have_us, barrier_us;
    /* sums */
    uint64_t frames, bytes; /* delivered */
    uint64_t published, published_bytes, requests;
};

static uint64_t next_random(struct world *w)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random;
}

/* ---- the heap of events ---- */

static void push(struct world *w, struct event e)
{
    size_t i = w->n_heap++;

    if (w->n_heap > w->cap_heap) {
        w->cap_heap = w->cap_heap ? 2 * w->cap_heap : 1024;
        w->heap = realloc(w->heap, w->cap_heap * sizeof *w->heap);
        if (!w->heap)
            abort();
    }
    for (; i && w->heap[(i - 1) / 2].at_us > e.at_us; i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
}

static struct event pop(struct world *w)
{
    struct event first = w->heap[0], last = w->heap[--w->n_heap];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < w->n_heap) {
        child += child + 1 < w->n_heap && w->heap[child + 1].at_us < w->heap[child].at_us;
        if (w->heap[child].at_us >= last.at_us)
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return first;
}

static struct frame *frame_of(struct slice bytes)
{
    struct frame *f = malloc(sizeof *f + bytes.n);

    if (!f)
        abort();
    f->refs = 0;
    f->n = bytes.n;
    if (bytes.n)
        memcpy(f->bytes, bytes.p, bytes.n);
    return f;
}

static void send_one(struct world *w, uint32_t from, uint32_t to, int kind, struct frame *f,
                     uint64_t number)
{
    uint64_t at_us = w->now_us + LINK_US + next_random(w) % JITTER_US;
    uint64_t *last_us = &w->last_us[(size_t)from * w->n + to];

    if (at_us <= *last_us) /* a connection keeps the order */
        at_us = *last_us + 1;
    *last_us = at_us;
    f->refs++;
    push(w,
         (struct event){
             .at_us = at_us, .to = to, .from = from, .kind = kind, .frame = f, .number = number});
}

/* ---- one member's step ---- */

static void publish(struct world *w, uint32_t from, struct slice bytes)
{
    struct frame *f = frame_of(bytes);

    w->published++;
    w->published_bytes += bytes.n;
    f->refs = 1;
    for (uint32_t to = 0; to < w->n; to++)
        if (to != from && next_random(w) % 1000 >= LOSS_PER_MILLE)
            send_one(w, from, to, FRAME, f, 0);
    if (--f->refs == 0)
        free(f);
}

static void carry_out(struct world *w, uint32_t i, const struct sync_effect *fx)
{
    struct member *m = &w->members[i];

    switch (fx->kind) {
    case SYNC_FX_RECORD:
        if (fx->record->kind == RECORD_CHILD && fx->record->child.spi_in == w->spi && !m->has_sa) {
            m->has_sa = true;
            if (++w->n_have == w->n)
                w->all_have_us = w->now_us;
        }
        break;
    case SYNC_FX_JOURNAL:
        push(w, (struct event){.at_us = w->now_us + COMMIT_US,
                               .to = i,
                               .kind = JOURNALED,
                               .number = fx->batch->ticket});
        sync_batch_free(fx->batch);
        break;
    case SYNC_FX_PUBLISH:
        publish(w, i, fx->bytes);
        break;
    case SYNC_FX_REQUEST:
        w->requests++;
        send_one(w, i, fx->slot - 1u, REQUEST, frame_of(fx->bytes), fx->request);
        break;
    case SYNC_FX_REPLY:
        send_one(w, i, w->asked[fx->request % ASKED].from, REPLY, frame_of(fx->bytes),
                 w->asked[fx->request % ASKED].number);
        break;
    case SYNC_FX_BARRIER:
        w->barrier_us = w->now_us;
        break;
    case SYNC_FX_EPOCH:
        m->epoch = fx->epoch;
        break;
    default: /* of no concern here */
        break;
    }
}

static struct now now_of(const struct world *w)
{
    return (struct now){.mono_us = w->now_us, .wall_ms = INT64_C(1700000000000)};
}

static void step(struct world *w, uint32_t i, struct sync_event *ev)
{
    struct member *m = &w->members[i];
    struct sync_effects fx;

    ev->more = ev->kind != SYNC_EV_FLUSH;
    if (ev->more && !m->flush_due) {
        m->flush_due = true;
        push(w, (struct event){.at_us = w->now_us + w->turn_us, .to = i, .kind = FLUSH});
    }
    fx = sync_step(m->core, ev, now_of(w));
    for (size_t k = 0; k < fx.n; k++)
        carry_out(w, i, &fx.fx[k]);
}

static void handle(struct world *w, const struct event *e)
{
    static const enum sync_event_kind kinds[] = {
        [FRAME] = SYNC_EV_FRAME,         [REQUEST] = SYNC_EV_REQUEST, [REPLY] = SYNC_EV_REPLY,
        [JOURNALED] = SYNC_EV_JOURNALED, [FLUSH] = SYNC_EV_FLUSH,     [TICK] = SYNC_EV_TICK};
    struct sync_event ev = {.kind = kinds[e->kind], .ticket = e->number, .request = e->number};

    w->now_us = e->at_us;
    if (e->frame) {
        ev.bytes = (struct slice){e->frame->bytes, e->frame->n};
        w->frames++;
        w->bytes += e->frame->n;
    }
    if (e->kind == REQUEST) {
        ev.request = w->n_asked++;
        w->asked[ev.request % ASKED].from = e->from;
        w->asked[ev.request % ASKED].number = e->number;
    }
    if (e->kind == FLUSH)
        w->members[e->to].flush_due = false;
    if (e->kind == TICK)
        push(w, (struct event){.at_us = e->at_us + TICK_US, .to = e->to, .kind = TICK});
    step(w, e->to, &ev);
    if (e->frame && --e->frame->refs == 0)
        free(e->frame);
}

static void run_until(struct world *w, uint64_t until_us)
{
    while (w->n_heap && w->heap[0].at_us <= until_us) {
        struct event e = pop(w);
        handle(w, &e);
    }
    w->now_us = until_us;
}

/* ---- the story ---- */

static void begin(struct world *w, uint32_t n, uint64_t turn_us)
{
    struct sync_config config = {.cluster = "scale",
                                 .version = "bench",
                                 .n_members = n,
                                 .n_keys = 1,
                                 .dead_ms = 500,
                                 .barrier_timeout_ms = 250};

    *w = (struct world){.n = n, .turn_us = turn_us, .random = 88172645463325252u + n, .spi = 1};
    w->now_us = 1000000;
    w->members = calloc(n, sizeof *w->members);
    w->last_us = calloc((size_t)n * n, sizeof *w->last_us);
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
        step(w, i, &ev);
        push(w,
             (struct event){.at_us = w->now_us + next_random(w) % TICK_US, .to = i, .kind = TICK});
    }
}

static bool formed(const struct world *w)
{
    for (uint32_t i = 0; i < w->n; i++)
        if (!sync_is_synced(w->members[i].core) || !w->members[i].epoch)
            return false;
    return true;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double percentile(double *v, size_t n, double p)
{
    qsort(v, n, sizeof *v, compare);
    return v[(size_t)(p * (double)(n - 1) + 0.5)];
}

static double cpu_seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

/* One SA at a time, each from another member: everybody's log is in every vector in the end. */
static void story(uint32_t n, uint32_t sas, uint64_t turn_us)
{
    double *visible = calloc(sas, sizeof *visible), *answered = calloc(sas, sizeof *answered);
    struct world w;
    uint64_t frames, published, bytes, published_bytes, requests, idle_frames, idle_bytes, began;
    double cpu, idle_cpu;

    began = 1000000;
    begin(&w, n, turn_us);
    while (!formed(&w) && w.now_us < began + FORM_LIMIT_US)
        run_until(&w, w.now_us + 1000);
    printf("%5u members: formed after %4.0f ms (%llu published)", n,
           (double)(w.now_us - began) / 1e3, (unsigned long long)w.published);
    fflush(stdout);
    if (!formed(&w))
        exit(1);
    run_until(&w, w.now_us + 2 * QUIET_US);
    frames = w.frames, bytes = w.bytes, cpu = cpu_seconds();
    run_until(&w, w.now_us + QUIET_US);
    idle_frames = w.frames - frames, idle_bytes = w.bytes - bytes, idle_cpu = cpu_seconds() - cpu;
    frames = w.frames, bytes = w.bytes, cpu = cpu_seconds();
    published = w.published, published_bytes = w.published_bytes, requests = w.requests;
    for (uint32_t k = 0; k < sas; k++) {
        uint32_t origin = (uint32_t)(((uint64_t)k * n) / sas);
        struct record *pair[2];
        struct sync_event put = {.kind = SYNC_EV_PUT, .group = pair, .n_group = 2, .barrier = 1};
        uint64_t put_us = w.now_us;
        bench_pair((uint16_t)(origin + 1), k, pair);
        w.spi = pair[1]->child.spi_in;
        w.n_have = 0;
        w.barrier_us = w.all_have_us = 0;
        for (uint32_t i = 0; i < n; i++)
            w.members[i].has_sa = false;
        step(&w, origin, &put);
        run_until(&w, put_us + QUIET_US);
        while (!w.all_have_us || !w.barrier_us) {
            run_until(&w, w.now_us + 1000);
            if (w.now_us > put_us + FORM_LIMIT_US)
                exit(1);
        }
        visible[k] = (double)(w.all_have_us - put_us) / 1e3;
        answered[k] = (double)(w.barrier_us - put_us) / 1e3;
    }
    printf("\n      at all: %.2f / %.2f ms, barrier: %.2f / %.2f ms (p50 / p99 of %u, virtual)\n",
           percentile(visible, sas, 0.5), percentile(visible, sas, 0.99),
           percentile(answered, sas, 0.5), percentile(answered, sas, 0.99), sas);
    printf("      idle: %.0f frames/s and %.2f MB/s to each member, %.2f %% of a core\n",
           (double)idle_frames / n / (QUIET_US / 1e6), (double)idle_bytes / n / QUIET_US,
           idle_cpu / n / (QUIET_US / 1e6) * 100);
    printf("      an SA, beyond that: %.1f frames and %.1f KB to each member, %.0f us of CPU each; "
           "%.1f pulls in all; a published frame has %.0f bytes\n",
           ((double)(w.frames - frames) / sas - (double)idle_frames) / n,
           ((double)(w.bytes - bytes) / sas - (double)idle_bytes) / n / 1e3,
           ((cpu_seconds() - cpu) / sas - idle_cpu) / n * 1e6,
           (double)(w.requests - requests) / sas,
           (double)(w.published_bytes - published_bytes) / (double)(w.published - published));
    for (uint32_t i = 0; i < n; i++)
        sync_free(w.members[i].core);
    while (w.n_heap) {
        struct event e = pop(&w);
        if (e.frame && --e.frame->refs == 0)
            free(e.frame);
    }
    free(w.heap);
    free(w.members);
    free(w.last_us);
    free(visible);
    free(answered);
}

int main(int argc, char **argv)
{
    uint32_t sas = 50;
    uint64_t turn_us = 100;

    log_set_level(LOG_LEVEL_ERROR);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        long n = atol(argv[i]);
        if (strcmp(argv[i], "--sas") == 0 && i + 1 < argc)
            sas = (uint32_t)atol(argv[++i]);
        else if (strcmp(argv[i], "--turn") == 0 && i + 1 < argc)
            turn_us = (uint64_t)atol(argv[++i]);
        else if (n >= 2 && n <= SYNC_MEMBERS_MAX && sas > 0)
            story((uint32_t)n, sas, turn_us);
        else
            return fprintf(stderr, "usage: bench_scale [--sas N] [--turn US] MEMBERS...\n"), 2;
    }
    return 0;
}
