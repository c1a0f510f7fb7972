/* Steering: who answers an IKE datagram? A pure decision (DESIGN §3); the caller
 * gathers the facts and carries it out. Any thread. */
#ifndef NODE_STEERING_H
#define NODE_STEERING_H

#include <stdbool.h>
#include <stdint.h>

#include "ike/ike.h"

enum steer_way { STEER_ENGINE, STEER_FORWARD, STEER_ADOPT, STEER_DROP };

/* Why: the label of a metric. */
enum steer_reason {
    STEER_NEW,        /* IKE_SA_INIT: negotiated where it arrives */
    STEER_OURS,       /* the record, or the half-open SA, is ours */
    STEER_OTHERS,     /* a live node's */
    STEER_ADOPTED,    /* its owner is dead: we become it, if the message is the peer's */
    STEER_NOT_ABLE,   /* IKE_SA_INIT, but we are not synced or have no epoch */
    STEER_OWNER_DEAD, /* likewise, but we cannot, or the SA is half open: nobody answers */
    STEER_STALLED,    /* we stood still; others may speak for our SAs by now */
    STEER_UNKNOWN,    /* no record, and the SPI is not one of this cluster's */
    STEER_FORGOTTEN,  /* the SPI names us, but the half-open SA is gone */
    STEER_TWICE,      /* forwarded to us already, and not ours: never forwarded again */
    STEER_MALFORMED,  /* set by the caller when ike_peek refuses */
    STEER_REASON_COUNT
};
const char *steer_reason_name(enum steer_reason reason); /* "owner_dead" */

struct steer_facts {
    struct ike_peek peek;
    uint16_t our_slot;
    bool forwarded;     /* it came over the mesh */
    bool may_negotiate; /* synced */
    bool may_adopt;     /* and an epoch is granted: epoch 0 is for SAs of our own making */
    bool caught_up;     /* sync_is_caught_up */
    int record_owner;   /* slot of the IKE record's owner; -1: no record */
    int spi_slot;       /* ike_spi_slot; -1: the MAC is wrong */
    bool engine_owns;   /* ike_owns */
    bool (*live)(void *ctx, uint16_t slot);
    void *live_ctx;
};

struct steering {
    enum steer_way way;
    enum steer_reason reason;
    uint16_t slot; /* STEER_FORWARD: to whom */
};

struct steering steer(const struct steer_facts *facts);

/* A request that begins an IKE SA: no SPIr yet. */
bool steer_is_init(const struct ike_peek *peek);

#endif
