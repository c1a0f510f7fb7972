/* The inside of struct dp, for this module's files and its tests. */
#ifndef DATAPLANE_INTERNAL_H
#define DATAPLANE_INTERNAL_H

#include <stdatomic.h>

#include "dataplane/dataplane.h"
#include "dataplane/fib.h"
#include "dataplane/hold.h"
#include "dataplane/kernel.h"
#include "dataplane/lane.h"
#include "dataplane/provider.h"
#include "dataplane/sa.h"
#include "dataplane/source.h"
#include "dataplane/tunnel.h"

struct dp {
    struct dp_config config;
    struct dp_callbacks callbacks;
    const struct provider_ops *provider;
    const struct source_ops *source;
    struct kernel kernel;
    int wake_fd; /* eventfd, written by lanes */

    struct sa_table sas;
    struct sa *lingering, **lingering_end; /* loop thread; oldest first */
    struct tunnel_table tunnels;
    bool bulk;              /* dp_bulk_begin: tunnels are chosen from at its end */
    struct fib *fib;        /* rcu_dereference; never NULL */
    _Atomic uint32_t epoch; /* granted; 0: seal nothing */
    uint32_t highest_epoch; /* ever granted to this process */

    /* for what lanes hold: hold.h */
    struct live_slots live;
    struct gone gone;
    _Atomic uint64_t sa_changes; /* SAs that came, and SPIs that are gone */

    unsigned n_lanes;
    struct lane *lanes[DP_LANES_MAX];
};

/* dp_open with a source of the caller's choice; `threads` false: the caller runs lane_turn. */
int dp_open_with(const struct dp_config *config, const struct dp_callbacks *callbacks,
                 const struct source_ops *source, void *source_ctx, bool threads, struct dp **out);

#endif
