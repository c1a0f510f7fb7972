/* Tunnels as the lanes see them: what is configured, which SA to send on, and
 * what was carried.
 *
 * A struct tunnel lives as long as it is configured or has SAs; its counters
 * survive a reload. Written on the loop thread, read by lanes under
 * rcu_read_lock. */
#ifndef DATAPLANE_TUNNEL_H
#define DATAPLANE_TUNNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "dataplane/dataplane.h"
#include "dataplane/inner.h"
#include "dataplane/rcu.h"
#include "dataplane/sa.h"
#include "dataplane/tally.h"

/* The SAs of a tunnel in the order of preference; immutable. */
struct sa_choice {
    struct rcu_head rcu;
    uint32_t n;
    struct sa *sa[];
};

/* A tunnel's configuration; immutable. */
struct tunnel_conf {
    struct rcu_head rcu;
    struct dp_tunnel t;
};

struct tunnel {
    struct cds_lfht_node node; /* by id */
    struct id128 id;
    struct tunnel_conf *conf; /* rcu_dereference; NULL: not configured */
    struct sa_choice *choice; /* rcu_dereference; NULL: no SA */

    /* Loop thread only. */
    struct sa *sas; /* a list through sa->next */
    uint32_t n_sas;
    unsigned lanes;
    bool wanted; /* scratch of a reload */
    bool stale;  /* has SAs that its choice does not know yet */
    struct rcu_head rcu;
    struct traffic traffic[]; /* one for each lane */
};

struct tunnel_table {
    struct cds_lfht *by_id;
};

int tunnel_table_open(struct tunnel_table *t); /* 0 or ERR_NOMEM */
void tunnel_table_close(struct tunnel_table *t);

/* Loop thread. NULL when there is none (or, for _get, no memory). */
struct tunnel *tunnel_find(const struct tunnel_table *t, const struct id128 *id);
struct tunnel *tunnel_get(struct tunnel_table *t, const struct id128 *id, unsigned lanes);
/* Frees a tunnel that is neither configured nor has SAs, after a grace period. */
void tunnel_drop_unused(struct tunnel_table *t, struct tunnel *tunnel);
/* Calls f on each; f may drop the tunnel. */
void tunnel_each(struct tunnel_table *t, void (*f)(void *ctx, struct tunnel *tunnel), void *ctx);

/* Takes over `conf` (NULL: no longer configured); the old one goes after a grace period. */
void tunnel_configure(struct tunnel *tunnel, struct tunnel_conf *conf);

/* The SA joins or leaves the tunnel's list; tunnel_choose publishes the new order. The counterpart
 * is never left pointing at an SA that has gone: without memory the choice is empty until the
 * next change, and tunnel_choose says ERR_NOMEM. */
void tunnel_add_sa(struct tunnel *tunnel, struct sa *sa);
void tunnel_del_sa(struct tunnel *tunnel, struct sa *sa);
int tunnel_choose(struct tunnel *tunnel);

/* Does the SA carry this packet? `inbound`: from the customer. Lanes. */
bool sa_selects(const struct sa *sa, const struct inner *in, bool inbound);

/* The SA to send on: the most preferred one that is alive and selects the packet; NULL, and
 * why, if there is none. Lanes, within rcu_read_lock. */
struct sa *tunnel_pick(const struct tunnel *tunnel, const struct inner *in, int64_t now_ms,
                       enum dp_drop *why);

/* The largest inner packet: as configured, else worked out for an outer MTU of 1500. `sa` may
 * be NULL for GRE. Lanes, within rcu_read_lock. */
uint16_t tunnel_mtu(const struct tunnel_conf *conf, const struct sa *sa);

#endif
