/* The SA table: Child SAs by the SPI that arriving packets carry.
 *
 * Written on the loop thread, read by lanes under rcu_read_lock. An SA's keys,
 * SPIs, suite and selectors never change; its endpoints are replaced as a whole
 * (`outer`), `confirmed` only rises. A removed SA is freed, its keys wiped, after
 * a grace period. All addresses as in proto/net.h, SPIs in host order. */
#ifndef DATAPLANE_SA_H
#define DATAPLANE_SA_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "dataplane/provider.h"
#include "dataplane/rcu.h"
#include "dataplane/tally.h"
#include "proto/record.h"

/* Where an SA's packets go; immutable, replaced through read-copy-update. */
struct sa_outer {
    bool udp_encap;
    struct endpoint local, peer;
    struct rcu_head rcu;
};

/* What a lane touches for every packet: two cache lines. */
struct sa_hot {
    struct cds_lfht_node node; /* by spi_in */
    uint32_t spi_in, spi_out;
    int64_t not_after_ms; /* wall clock; INT64_MAX: none */
    struct provider_key *key_in, *key_out;
    struct tunnel *tunnel;
    struct sa_outer *outer;  /* rcu_dereference */
    struct traffic *traffic; /* one for each lane */
    const struct selector *ts_local, *ts_remote;
    uint8_t n_local, n_remote;
    struct esp_suite suite;
    uint8_t selects_all;         /* SELECTS_ flags */
    atomic_bool confirmed;       /* as the record says */
    atomic_bool proven;          /* the confirmed news was handed to the loop */
    atomic_bool own;             /* this process negotiated it: may be sealed in epoch 0 */
    bool may_move;               /* UDP-encapsulated, and the peer is behind NAT */
    _Atomic uint32_t highest_in; /* sequence number; with may_move alone */
    tally move_told_us;          /* monotonic: when a move was last reported */
};
enum { SELECTS_ALL_V4 = 1, SELECTS_ALL_V6 = 2 }; /* any address and protocol on both sides */
_Static_assert(sizeof(struct sa_hot) <= 128, "an SA's hot part fits two cache lines");

struct sa {
    alignas(64) struct sa_hot hot;

    /* Descriptive; loop thread only. */
    struct id128 lineage;
    struct suite suite;
    uint32_t generation, replaces_spi;
    bool rekeyed;
    bool moved;                       /* the peer's address is dp_sa_move's, not the record's */
    bool lingering;                   /* deleted: still opens what is under way, never seals */
    uint64_t linger_end_us;           /* monotonic */
    struct sa *linger_next;           /* in the dataplane's list, oldest first */
    int64_t created_ms, installed_ms; /* wall clock */
    uint32_t installed_us;            /* 0-999, below installed_ms */
    struct sa *next;                  /* in the tunnel's list */
    const struct provider_ops *provider;
    struct rcu_head rcu;
    /* followed by the lanes' traffic and the selectors */
};

struct sa_table {
    struct cds_lfht *by_spi;
    uint32_t n; /* SAs; loop thread */
};

/* 0 or ERR_NOMEM. */
int sa_table_open(struct sa_table *t);
/* The table is empty and no lane runs. */
void sa_table_close(struct sa_table *t);

/* Room for so many SAs. The table grows by itself, but on a thread of its own: until that has
 * caught up every look-up walks. */
void sa_table_expect(struct sa_table *t, size_t n);

/* NULL when there is none. Within rcu_read_lock; so long the SA stays valid. */
struct sa *sa_find(const struct sa_table *t, uint32_t spi_in);

/* Builds an SA from its record, keys set up, in no table yet. 0; ERR_INVALID, ERR_UNSUPPORTED
 * (suite, address family), ERR_CRYPTO, ERR_NOMEM. */
int sa_new(const struct child_record *r, const struct provider_ops *provider, unsigned lanes,
           struct sa **out);
/* At once; for one that no lane has seen. */
void sa_free_now(struct sa *sa);
/* After a grace period. */
void sa_free_later(struct sa *sa);

void sa_table_add(struct sa_table *t, struct sa *sa);
void sa_table_del(struct sa_table *t, struct sa *sa);

/* Is the record a newer form of this SA, or a different one with the same SPI? */
bool sa_is_same(const struct sa *sa, const struct child_record *r);
/* Takes over what may change: endpoints, confirmed, rekeyed. `changed` says whether anything did.
 * 0, ERR_INVALID, ERR_UNSUPPORTED or ERR_NOMEM. */
int sa_update(struct sa *sa, const struct child_record *r, bool *changed);
/* Sends to another address from now on. 0 or ERR_NOMEM. */
int sa_move(struct sa *sa, const struct endpoint *peer);

/* Does another SA of the tunnel replace this one? */
enum sa_successor { SUCCESSOR_NONE, SUCCESSOR_UNPROVEN, SUCCESSOR_PROVEN };
/* Outbound preference of two SAs of a tunnel: negative when `a` goes first (DESIGN §4, rekey
 * without loss). Confirmed ones go first, the newest before the others. One that is being rekeyed
 * keeps its place until its successor is confirmed; after that it goes behind them, but before one
 * that nothing proves. */
int sa_prefer(const struct sa *a, enum sa_successor of_a, const struct sa *b,
              enum sa_successor of_b);

#endif
