/* A lane: one thread's share of the traffic, run to completion.
 *
 * A turn takes a batch from the source, walks it through in.c and out.c within
 * one read-side critical section, and gives it back to the source. A lane owns
 * its packets, IV counter, random pool and counters; towards the loop it has two
 * rings, for IKE datagrams and for news. What waits for its SA goes first (hold.h). */
#ifndef DATAPLANE_LANE_H
#define DATAPLANE_LANE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "dataplane/dataplane.h"
#include "dataplane/hold.h"
#include "dataplane/iv.h"
#include "dataplane/packet.h"
#include "dataplane/provider.h"
#include "dataplane/ring.h"
#include "dataplane/source.h"
#include "dataplane/tally.h"
#include "proto/env.h"

enum {
    LANE_RANDOM_BYTES = 4096,
    MOVE_REPEAT_US = 1000000, /* one SA's move is reported at most this often */
    MOVES_PER_SECOND = 1000,  /* and all of them together: a rebooted NAT moves many */
    IKE_RING_BYTES = 1 << 20,
    NEWS_RING_BYTES = 1 << 16,
};

/* An IKE datagram in the ring: this, then its octets. */
struct ike_note {
    struct endpoint local, peer;
};

enum news_kind { NEWS_CONFIRMED = 1, NEWS_MISS, NEWS_MOVED };
struct news {
    uint32_t kind; /* enum news_kind */
    uint32_t spi_in;
    struct endpoint peer; /* NEWS_MOVED: where from */
};

struct lane_counters {
    tally packets_in, packets_out, bytes_in, bytes_out;
    tally drops[DROP_COUNT];
    tally moves_reported, moves_unreported;
    tally held, held_released, held_overflow;
    tally iv_used; /* epoch and counter of the last IV, as in the IV: epoch << 32 | counter */
};

struct sa_hot;

struct batch {
    struct packet *p[BATCH_MAX];
    size_t n;
};

struct lane {
    struct dp *dp;
    unsigned index;
    struct source *source;
    pthread_t thread;
    bool threaded;
    atomic_bool stop;

    struct now now; /* read once a turn */
    uint32_t epoch; /* in force during this turn; 0: seal nothing */
    struct iv iv;
    uint8_t random[LANE_RANDOM_BYTES];
    size_t random_left;

    struct packet packets[BATCH_MAX];
    uint8_t *memory;                         /* of these packets and the held ones */
    struct batch to_inner, to_wire, hairpin; /* of this turn */
    bool wake_loop;                          /* something was put into a ring */

    struct ring *ike, *news;
    struct hold hold;
    uint64_t move_window_us;
    unsigned move_count;

    struct lane_counters counters;
};

/* NULL when out of memory. The source is opened and closed by the caller. */
struct lane *lane_new(struct dp *dp, unsigned index);
void lane_free(struct lane *lane);

int lane_start(struct lane *lane); /* its thread; ERR_IO */
void lane_stop(struct lane *lane); /* waits for its end */

/* One turn, waiting up to timeout_ms for packets; the thread's loop, and what tests call. Returns
 * how many packets arrived. The calling thread has joined rcu. */
size_t lane_turn(struct lane *lane, int timeout_ms);

/* For in.c and out.c, within a turn. */
void lane_drop(struct lane *lane, enum dp_drop reason);
void batch_add(struct batch *b, struct packet *p);
void lane_tell(struct lane *lane, enum news_kind kind, uint32_t spi_in, atomic_bool *told);
void lane_moved(struct lane *lane, struct sa_hot *hot, const struct endpoint *peer);
/* n unpredictable octets; false when the generator failed. */
bool lane_random(struct lane *lane, uint8_t *out, size_t n);

void in_batch(struct lane *lane, struct batch *arrived);
void out_batch(struct lane *lane, struct batch *leaving);

#endif
