/* A cluster of replication cores in one process, under virtual time.
 *
 * Each node is a core with a journal in memory. The harness carries the effects: what one
 * publishes reaches the others a step later, requests and replies likewise, a journal batch
 * is durable at once unless the node's disk is held. A test cuts links, holds disks, kills
 * and restarts nodes, and reads what the nodes saw. One step is one virtual millisecond. */
#ifndef TESTS_SYNC_HARNESS_H
#define TESTS_SYNC_HARNESS_H

#include "sync/frame.h"
#include "sync/store.h"
#include "tests/unit/sync/samples.h"

enum { NODES_MAX = 5, SEEN_MAX = 64, WIRE_MAX = 4096 };

struct seen_barrier {
    uint64_t id;
    bool timed_out, superseded;
    uint16_t laggards[NODES_MAX];
    size_t n_laggards;
};

struct seen_record { /* of RECORD effects: what a dataplane would hold */
    uint8_t kind, state;
    uint64_t key;
    bool confirmed;
    size_t key_bytes;
};

struct node {
    uint16_t slot;
    struct sync_core *core; /* NULL: down */
    struct memory_disk *disk;
    struct store *store;
    bool disk_held, disk_broken, disk_told_broken;
    bool paused;                      /* stands still; its mail waits */
    bool deaf_to[NODES_MAX + 1];      /* by slot: PUB frames from it are lost */
    bool no_stream[NODES_MAX + 1];    /* by slot: of these, what it sends to all alone */
    bool cut_from[NODES_MAX + 1];     /* by slot: nothing at all passes, either way */
    bool unreached_by[NODES_MAX + 1]; /* by slot: nothing of it arrives, and it is not told */
    bool answers_nobody;              /* requests to it fail */
    int64_t skew_ms;                  /* of its wall clock */
    struct seen_barrier barriers[SEEN_MAX];
    size_t n_barriers;
    struct seen_record records[SEEN_MAX];
    size_t n_records, n_record_effects;
    uint32_t epoch; /* of the last EPOCH effect */
    size_t n_epochs;
    uint16_t forwarded_bytes; /* length of the last FORWARDED datagram */
    size_t n_forwarded;
    struct sync_moved moved; /* of the last MOVED */
    size_t n_moved;
    struct sync_activity activity; /* of the last ACTIVITY */
    size_t n_activities;
    size_t n_conflicts;
    uint32_t miss_over; /* of the last MISS_OVER */
    size_t n_misses_over;
    size_t n_published, n_requests; /* effects */
    size_t n_to[NODES_MAX + 1];     /* by slot: published for that one alone */
    uint64_t last_request;
    enum member_state states[NODES_MAX + 1]; /* by slot, from MEMBER effects */
};

struct letter {                /* on the wire */
    enum sync_event_kind kind; /* FRAME, REQUEST or REPLY */
    uint16_t from, to;
    bool to_all;
    uint64_t request;
    uint8_t *bytes;
    size_t n;
};

struct cluster {
    struct now now;
    struct node nodes[NODES_MAX];
    size_t n;
    uint64_t random;
    const char *name; /* of the cluster, for configs */
    uint32_t key_id;
    struct letter wire[WIRE_MAX];
    size_t n_wire;
    uint8_t *last_frame[NODES_MAX + 1]; /* by slot: the last that it published */
    size_t last_frame_n[NODES_MAX + 1];
};

struct cluster *cluster_new(size_t n); /* nobody is up yet */
void cluster_free(struct cluster *c);
struct node *at(struct cluster *c, uint16_t slot);
struct sync_config cluster_config(const struct cluster *c, uint16_t slot);

/* Writes to the disk of a node that is down. Takes the batch. */
void give_journal(struct cluster *c, uint16_t slot, struct sync_batch *batch);
void start(struct cluster *c, uint16_t slot); /* from what its disk holds */
void start_all(struct cluster *c);
/* Ends it at once. What its store had not written is lost only if the disk was held. */
void kill_node(struct cluster *c, uint16_t slot);
void run(struct cluster *c, unsigned ms);
/* All that is on the wire is lost. */
void lose_mail(struct cluster *c);
/* Runs until all nodes that are up are synced and hold an epoch; fails the test after 10 s. */
void settle(struct cluster *c);
/* Hands one event to a node and carries what comes of it. */
void give(struct cluster *c, uint16_t slot, const struct sync_event *ev);

/* Puts up to three records (NULL: none) as one group. Takes them. */
void put(struct cluster *c, uint16_t slot, uint64_t barrier, struct record *a, struct record *b,
         struct record *d);
/* What became of a barrier; NULL while it waits. */
const struct seen_barrier *barrier_of(const struct node *n, uint64_t id);
/* The last RECORD effect of a key; NULL: none. */
const struct seen_record *record_of(const struct node *n, uint8_t kind, uint64_t key);
/* Do all nodes that are up hold the same digest? */
bool same_digests(const struct cluster *c);
struct sync_stats stats_of(const struct cluster *c, uint16_t slot);
/* As `slot` sees `other`. */
struct sync_member_info member_of(const struct cluster *c, uint16_t slot, uint16_t other);

#endif
