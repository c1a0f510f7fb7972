/* A lane's IVs (DESIGN §5): slot | epoch | lane | counter.
 *
 * Everything that keeps (key, IV) pairs apart is here. One struct iv belongs to
 * one lane's thread and outlives every SA, so installing an SA anew resets
 * nothing. The counter starts over only under a higher epoch. */
#ifndef DATAPLANE_IV_H
#define DATAPLANE_IV_H

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/dataplane.h"
#include "proto/record.h"

struct iv {
    uint16_t slot;
    uint8_t lane;
    uint32_t epoch; /* in use; 0: none granted yet */
    uint32_t last;  /* counter last given out under it; 0 none yet */
    uint32_t max;   /* where the counter ends */
};

static inline struct iv iv_of(uint16_t slot, uint8_t lane, uint32_t max)
{
    return (struct iv){.slot = slot, .lane = lane, .max = max ? max : UINT32_MAX};
}

/* Takes up what is granted: nothing happens unless it is a higher epoch. */
static inline void iv_grant(struct iv *iv, uint32_t granted)
{
    if (granted > iv->epoch && granted <= EPOCH_MAX) {
        iv->epoch = granted;
        iv->last = 0;
    }
}

/* The next IV and, as its low half, the ESP sequence number: never 0. `granted` is the epoch in
 * force; 0 as long as none was ever granted: then only SAs of this process's own making are
 * sealed, for nobody else ever used their keys in epoch 0 of our slot. Returns DROP_COUNT when
 * fine, else why nothing may be encrypted. */
static inline enum dp_drop iv_next(struct iv *iv, uint32_t granted, bool own, uint64_t *out)
{
    if (granted != iv->epoch || (granted == 0 && !own))
        return DROP_NO_EPOCH;
    if (iv->last >= iv->max)
        return DROP_IV_EXHAUSTED;
    *out = iv_make(iv->slot, iv->epoch, iv->lane, ++iv->last);
    return DROP_COUNT;
}

#endif
