/* What a lane keeps for a moment: ESP whose SA is not here yet.
 *
 * A node may learn of an SA a little later than the peer uses it: its mesh lost the news, or it was
 * too slow for the barrier. Such a packet names, by the slot in its SPI, the node that made the SA.
 * While that one is live the packet is held, the loop is told of the SPI, and the replication core
 * asks for the SA at once. When it is installed, what was held goes the normal way in, in order
 * and before all that came later; when it is known that there is none, or after HOLD_US, the
 * packet drops as DROP_NO_SA.
 *
 * Everything here is the lane's own but for `holding` (hold.c says how the two threads meet) and
 * the two tables below, which the loop writes and lanes read without a lock: who is live, and
 * which SPIs are known to have no SA. Nothing allocates: a held packet takes its memory along and
 * leaves the lane another.
 *
 * Who floods us with invented SPIs must name a live slot to get here. The places are the bound:
 * HOLD_MAX in all, half of them for one SPI, and no packet takes the place of another. Each
 * invented SPI gives its place back as soon as the node that would have made it answers that it did
 * not, a millisecond or some tens later, and is not held again for a second. An honest packet that
 * finds all places taken drops, as it would have without them; its SA still comes with the answers
 * that the flood itself makes us ask for, since an answer brings all that we lack, not one SA. */
#ifndef DATAPLANE_HOLD_H
#define DATAPLANE_HOLD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "dataplane/packet.h"
#include "proto/record.h"

enum {
    HOLD_MAX = 64,   /* packets held by a node; its lanes share them evenly */
    HOLD_US = 50000, /* each for at most so long */
    /* SPIs told to the loop by each lane: one in MISS_EVERY_US on the average, MISS_BURST at once.
     * An SPI that must wait for its turn is held meanwhile. */
    MISS_EVERY_US = 1000,
    MISS_BURST = 32,
    GONE_PLACES = 4096,
    GONE_US = 1000000,          /* nobody had it: ask again after that */
    GONE_DELETED_US = 60000000, /* it was deleted: the loop would only say so again */
};
_Static_assert((int)HOLD_MAX <= (int)BATCH_MAX, "what is held goes on in one batch");

/* Slots of members that are live and not ours: a bit each. */
struct live_slots {
    _Atomic uint64_t words[(SLOT_MAX + 64) / 64];
};
void live_set(struct live_slots *l, uint16_t slot, bool live);
bool live_has(const struct live_slots *l, uint16_t slot);

/* SPIs for which waiting is in vain. Bounded: a newer one may take an older one's place, which
 * costs one more question. Each place is one word, the SPI and until when, in 65.536 ms. */
struct gone {
    _Atomic uint64_t places[GONE_PLACES];
};
void gone_add(struct gone *g, uint32_t spi, uint64_t now_us, uint32_t for_us);
void gone_del(struct gone *g, uint32_t spi); /* it is installed after all */
bool gone_has(const struct gone *g, uint32_t spi, uint64_t now_us);

struct held {
    struct packet packet; /* its data begins with the ESP header */
    uint64_t until_us;    /* monotonic */
    bool told;            /* the loop knows of the SPI */
};

struct hold {
    struct held places[HOLD_MAX];
    struct held *order[HOLD_MAX]; /* the first n are taken, in order of arrival */
    uint32_t spi[HOLD_MAX];       /* of these: apart, because every arriving packet looks there */
    unsigned n, cap;
    uint64_t tell_next_us; /* when the next SPI would be told at an even pace */
    uint64_t seen;         /* dp.sa_changes when all were last looked at */
    atomic_bool holding;   /* n > 0, for the loop: this lane is to be woken */
};

struct batch;
struct lane;

/* `memory`: PACKET_ROOM octets for each of cap packets; the caller's. */
void hold_init(struct hold *h, unsigned cap, uint8_t *memory);
/* Takes a packet whose SA is not here, or (found) whose SA has come while earlier packets of the
 * SPI still wait. False: it is not held, the caller goes on with it. Within a turn. */
bool hold_take(struct lane *lane, struct packet *p, uint32_t spi, bool found);
/* Out with what has found its SA (into b, in order), and with what need not wait any more. */
void hold_release(struct lane *lane, struct batch *b);
/* How long the lane may sleep: timeout_ms (-1: without end) or less. */
int hold_timeout_ms(struct lane *lane, int timeout_ms);

#endif
