/* N replication cores in one process under virtual time, and the links between them.
 *
 * A link takes LINK_US and up to JITTER_US more, and keeps its order. So what happens within
 * LINK_US reaches nobody else within it: each member is played through such a stretch alone, with
 * its own heap of events, and its state stays in the cache meanwhile. */
#ifndef TESTS_BENCH_SCALE_WORLD_H
#define TESTS_BENCH_SCALE_WORLD_H

#include "proto/codec.h"
#include "sync/sync.h"

enum {
    LINK_US = 500,
    JITTER_US = 200,
    COMMIT_US = 200,
    TICK_US = 10000,
    BEGAN_US = 1000000, /* the time at which all start */
};

struct frame;

struct event {
    uint64_t at_us, number; /* number: a request's or ticket's */
    struct frame *frame;
    uint16_t from; /* index of a member */
    uint8_t kind;
};

struct member {
    struct sync_core *core;
    struct event *heap;
    uint32_t n_heap, cap_heap;
    uint32_t epoch;
    bool flush_due;
    bool has_sa;           /* the SA under way is installed here */
    uint64_t announced_us; /* its last Announce to all; 0: none yet */
};

/* Sums since the start, over all members. */
struct sums {
    uint64_t handled, handled_bytes;     /* frames by the members' loops, but Announces to all */
    uint64_t arrived;                    /* all frames that loops got */
    uint64_t published, published_bytes; /* frames, of which: */
    uint64_t updates, announces, acks;   /* acks: Announces to one; the rest are claims and votes */
    uint64_t announce_bytes;             /* of both */
    uint64_t intervals, interval_us;     /* between a member's Announces to all */
    uint64_t requests, installed, barriers, timed_out;
};

struct world_config {
    uint32_t n;
    uint64_t turn_us;
    uint32_t loss_per_mille; /* of published frames; requests and replies arrive */
    bool light;              /* receivers open and decode nothing (scale_light.h) */
};

struct world {
    struct member *members;
    uint32_t n;
    uint64_t now_us; /* of the member that is played, else of all */
    uint64_t turn_us, random;
    uint32_t loss_per_mille;
    uint64_t *last_us; /* by sender and receiver: when its last frame arrives */
    uint32_t asked_from;
    uint64_t asked_number; /* a request, which its step answers */
    /* of the SA under way */
    uint32_t spi, n_have;
    uint64_t all_have_us, barrier_us;
    struct sums sums;
};

void world_begin(struct world *w, const struct world_config *c);
void world_end(struct world *w);
/* One member takes an event at the present time. */
void world_step(struct world *w, uint32_t i, struct sync_event *ev);
void world_run(struct world *w, uint64_t for_us);

#endif
