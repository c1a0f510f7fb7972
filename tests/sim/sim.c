/* The heap of events, chance, and the course of one history. */
#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/sync/samples.h"

enum {
    POLL_US = 20000,     /* how often a healed cluster is asked whether it agrees */
    STEADY_MS = 300,     /* and for how long it must */
    EVENTS_MAX = 400000, /* of one history: more is a storm */
};

/* ---- chance ---- */

uint64_t sim_random(struct sim *s) /* splitmix64 */
{
    uint64_t z = s->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint32_t below(struct sim *s, uint32_t n)
{
    return (uint32_t)((sim_random(s) >> 32) * n >> 32);
}

uint32_t between(struct sim *s, uint32_t a, uint32_t b)
{
    return a + below(s, b - a + 1);
}

bool chance(struct sim *s, uint32_t permille)
{
    return below(s, 1000) < permille;
}

/* ---- small helpers ---- */

void *sim_grow(void *array, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return array;
    *cap = *cap ? *cap * 2 : 32;
    array = realloc(array, *cap * size);
    if (!array)
        abort();
    return array;
}

void mix_in(struct sim *s, const void *bytes, size_t n)
{
    const uint8_t *b = bytes;

    for (size_t i = 0; i < n; i++) /* FNV-1a */
        s->trace = (s->trace ^ b[i]) * UINT64_C(0x100000001b3);
}

static void print_line(const struct sim *s, const char *text)
{
    printf("%10.3f ms  %s\n", (double)(s->now.mono_us - 1000000) / 1000, text);
}

void sim_note(struct sim *s, const char *format, ...)
{
    char text[512];
    va_list args;

    if (!s->tracing)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    print_line(s, text);
}

void sim_fail(struct sim *s, const char *format, ...)
{
    va_list args;

    if (s->failed)
        return;
    s->failed = true;
    va_start(args, format);
    vsnprintf(s->failure, sizeof s->failure, format, args);
    va_end(args);
    if (s->tracing)
        print_line(s, s->failure);
}

/* ---- the heap ---- */

static bool sooner(const struct timed *a, const struct timed *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

void packet_drop(struct packet *p)
{
    if (p && --p->refs == 0)
        free(p);
}

enum { NO_EVENT = 0 }; /* the first place stays empty */

static size_t place_event(struct sim *s, const struct event *ev)
{
    size_t at = s->free_event;

    if (at != NO_EVENT) {
        s->free_event = s->events[at].next_free;
    } else {
        s->n_events += s->n_events == 0;
        s->events = sim_grow(s->events, s->n_events, &s->cap_events, sizeof *s->events);
        at = s->n_events++;
    }
    s->events[at] = *ev;
    return at;
}

void sim_at(struct sim *s, uint64_t at_us, struct event ev)
{
    struct timed t = {.at_us = at_us, .order = ++s->order};
    size_t i = s->n_heap;

    ev.at_us = at_us;
    t.event = place_event(s, &ev);
    s->heap = sim_grow(s->heap, s->n_heap, &s->cap_heap, sizeof *s->heap);
    s->n_heap++;
    while (i && sooner(&t, &s->heap[(i - 1) / 2])) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = t;
}

static struct event next_event(struct sim *s)
{
    struct timed first = s->heap[0], last = s->heap[--s->n_heap];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= s->n_heap)
            break;
        if (child + 1 < s->n_heap && sooner(&s->heap[child + 1], &s->heap[child]))
            child++;
        if (!sooner(&s->heap[child], &last))
            break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    if (s->n_heap)
        s->heap[i] = last;
    s->events[first.event].next_free = s->free_event;
    s->free_event = first.event;
    return s->events[first.event];
}

/* ---- one event ---- */

static void flush(struct sim *s, struct member *m)
{
    struct sync_event ev = {.kind = SYNC_EV_FLUSH};

    m->flush_due = false;
    member_step(s, m, &ev);
}

static void at_member(struct sim *s, struct member *m, const struct event *ev)
{
    switch (ev->kind) {
    case EV_FRAME:
    case EV_REQUEST:
    case EV_REPLY:
        net_deliver(s, ev);
        break;
    case EV_TICK:
        if (is_ghost(s, m))
            ghost_tick(s, m);
        else
            member_tick(s, m);
        break;
    case EV_FLUSH:
        flush(s, m);
        break;
    case EV_DATAGRAM:
        engine_datagram(s, m, &ev->ask, ev->id != 0);
        break;
    case EV_TRAFFIC:
        engine_traffic(s, m, (int)ev->id);
        break;
    case EV_STOP:
        member_stop(s, m);
        break;
    case EV_DUE:
        check_due(s, m, ev->id);
        break;
    default:
        break;
    }
}

/* Does a stopped process keep this event waiting? Disks and time go on. */
static bool needs_process(enum sim_kind kind)
{
    return kind == EV_FRAME || kind == EV_REQUEST || kind == EV_REPLY || kind == EV_TICK ||
           kind == EV_FLUSH || kind == EV_DATAGRAM || kind == EV_TRAFFIC;
}

static void carry_out(struct sim *s, struct event *ev)
{
    struct member *m = &s->members[ev->b];

    if (ev->life && (!m->core || m->life != ev->life))
        return;
    if (needs_process(ev->kind)) {
        if (!m->core && ev->kind != EV_REQUEST)
            return;
        if (m->core && m->paused_until_us > s->now.mono_us) {
            uint64_t until = m->paused_until_us;
            sim_at(s, until, *ev);
            ev->packet = NULL; /* it went along */
            return;
        }
    }
    switch (ev->kind) {
    case EV_DISK:
        disk_done(s, m);
        break;
    case EV_ANSWER:
        router_answer(s, ev->a, &ev->ask);
        break;
    case EV_ROUTER:
        router_timer(s, ev->a);
        break;
    case EV_START:
        member_start(s, m);
        break;
    case EV_FAULT:
        fault_strike(s);
        break;
    case EV_REPLAY:
        net_replay(s);
        break;
    case EV_MEND:
        fault_mend(s, ev->b, ev->id);
        break;
    default:
        at_member(s, m, ev);
        break;
    }
}

static void run_until(struct sim *s, uint64_t until_us)
{
    while (!s->failed && s->n_heap && s->heap[0].at_us <= until_us) {
        struct event ev = next_event(s);
        uint64_t step = ev.at_us - s->now.mono_us;
        uint8_t told[] = {(uint8_t)ev.kind, ev.a, ev.b};

        s->now.mono_us = ev.at_us;
        s->now.wall_ms = SAMPLE_NOW_MS + (int64_t)(ev.at_us / 1000);
        mix_in(s, told, sizeof told);
        mix_in(s, &step, sizeof step);
        s->totals.events++;
        carry_out(s, &ev);
        packet_drop(ev.packet);
        if (s->totals.events > EVENTS_MAX)
            sim_fail(s, "I11: a storm: %d events in one history", EVENTS_MAX);
    }
    if (!s->failed && s->now.mono_us < until_us) {
        s->now.mono_us = until_us;
        s->now.wall_ms = SAMPLE_NOW_MS + (int64_t)(until_us / 1000);
    }
}

/* ---- a history ---- */

uint64_t sim_messages;

static void found_cluster(struct sim *s)
{
    s->n = between(s, MEMBERS_MIN, chance(s, 800) ? 4 : MEMBERS_MAX);
    for (size_t i = 0; i < s->n; i++) {
        struct member *m = &s->members[i];
        m->index = (int)i;
        m->slot = (uint16_t)(1 + i * 7);
        m->skew_ms = (int64_t)below(s, 2 * SKEW_MS + 1) - SKEW_MS;
        sim_at(s, s->now.mono_us + between(s, 0, 200000),
               (struct event){.kind = EV_START, .b = (uint8_t)i});
    }
    if (chance(s, 250)) /* one clock is wrong, and all of its life long */
        s->members[below(s, s->n)].skew_ms -= SLOW_MS;
}

static void live_on(struct sim *s)
{
    uint64_t agreed_us = 0, end_us = s->now.mono_us + LIVENESS_MS * 1000ULL;

    while (!s->failed && s->now.mono_us < end_us) {
        run_until(s, s->now.mono_us + POLL_US);
        if (!check_agreed(s))
            agreed_us = 0;
        else if (agreed_us == 0)
            agreed_us = s->now.mono_us;
        if (agreed_us && s->now.mono_us - agreed_us >= STEADY_MS * 1000ULL) {
            uint64_t ms = (agreed_us - s->healed_us) / 1000;
            s->totals.heal_ms = ms;
            return;
        }
    }
    check_why_not(s);
}

void sim_play(struct sim *s, uint64_t seed)
{
    s->seed = seed;
    s->random = seed * UINT64_C(0xd1342543de82ef95) + 1;
    s->trace = UINT64_C(0xcbf29ce484222325);
    sim_messages = 0;
    s->now = (struct now){1000000, SAMPLE_NOW_MS + 1000};
    fault_plan(s);
    found_cluster(s);
    router_begin(s);
    run_until(s, s->plan.trouble_us);
    if (!s->failed) {
        sim_note(s, "-- all heals");
        fault_heal(s);
        s->healed = true;
        s->healed_us = s->now.mono_us;
        live_on(s);
    }
    if (!s->failed)
        check_end(s);
    s->totals.virtual_ms = (s->now.mono_us - 1000000) / 1000;
}

void sim_clear(struct sim *s)
{
    for (size_t i = 0; i <= s->n; i++) {
        struct member *m = &s->members[i];
        engine_clear(m);
        sync_free(m->core);
        disk_free(&m->disk);
        disk_free(&m->old_disk);
        free(m->waiting);
    }
    for (size_t i = 0; i < s->n_heap; i++)
        packet_drop(s->events[s->heap[i].event].packet);
    for (size_t i = 0; i < s->n_lives; i++)
        free(s->lives[i].log);
    free(s->heap);
    free(s->events);
    net_clear(s);
    free(s->dues);
    memset(s, 0, sizeof *s);
}
