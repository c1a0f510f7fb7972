/* A cluster of processes for the replication benches. Each is one member with the product's core,
 * nng transport, SQLite journal and dataplane (without sockets), and a loop that does what
 * anysad's does: take what came, then let the turn's output go. The parent orders through a pipe
 * each and reads what became of it in shared memory, by one monotonic clock. */
#ifndef TESTS_BENCH_CLUSTER_H
#define TESTS_BENCH_CLUSTER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    BENCH_MEMBERS_MAX = 16,
    BENCH_SAMPLES_MAX = 20000, /* timed SAs, and as many raw hops */
    BENCH_TUNNELS = 10000,     /* a customer or two each, as gateways have */
};

enum order_kind {
    ORDER_SA = 1, /* number: put one IKE SA with its Child SA; timed */
    ORDER_HOP,    /* number: publish as many bytes on a raw socket; timed */
    ORDER_BULK,   /* number: put so many pairs, as fast as the barriers open */
    ORDER_QUIT,
};
struct order {
    uint32_t kind, number;
};

/* Times in nanoseconds of the monotonic clock; 0: not yet. Index 0 is slot 1. */
struct bench_member {
    _Atomic pid_t pid;
    _Atomic bool synced, ready; /* ready: synced, with an epoch */
    _Atomic uint64_t ready_ns, cpu_ns, child_sas, frames_in, bytes_in, pull_bytes_in;
    _Atomic uint64_t bulk_done; /* pairs whose barrier opened */
    _Atomic uint64_t barrier_timeouts;
    _Atomic uint64_t update_bytes; /* the last Update's frame that it published */
    _Atomic uint64_t installed_ns; /* its journal was read, and all that it held installed */
    _Atomic bool raw_ready;        /* its raw subscription stands */
};
struct bench_shared {
    struct bench_member members[BENCH_MEMBERS_MAX];
    _Atomic uint64_t sa_put_ns[BENCH_SAMPLES_MAX], sa_barrier_ns[BENCH_SAMPLES_MAX];
    _Atomic uint64_t sa_installed_ns[BENCH_SAMPLES_MAX][BENCH_MEMBERS_MAX];
    _Atomic uint64_t hop_sent_ns[BENCH_SAMPLES_MAX];
    _Atomic uint64_t hop_heard_ns[BENCH_SAMPLES_MAX][BENCH_MEMBERS_MAX];
};

struct bench_cluster {
    const char *dir; /* journals, one for each slot */
    uint16_t base_port, n;
    bool raw; /* raw sockets beside the mesh: slot 1 publishes, the others subscribe */
    struct bench_shared *shared;
    int orders[BENCH_MEMBERS_MAX];
    pid_t pids[BENCH_MEMBERS_MAX];
};

uint64_t bench_now_ns(void);
void bench_sleep_us(uint64_t us);

/* Before the first member: shared memory. Exits on failure. */
void cluster_open(struct bench_cluster *c);
void cluster_start(struct bench_cluster *c, uint16_t slot);
void cluster_order(const struct bench_cluster *c, uint16_t slot, enum order_kind kind,
                   uint32_t number);
/* False when it takes longer. Without some of the others nobody gets an epoch: synced is all. */
bool cluster_wait_synced(const struct bench_cluster *c, uint16_t slot, unsigned seconds);
bool cluster_wait_ready(const struct bench_cluster *c, uint16_t slot, unsigned seconds);
void cluster_kill(struct bench_cluster *c, uint16_t slot);
void cluster_close(struct bench_cluster *c);

struct sync_config;
struct record;
struct cluster_key;
struct cluster_key bench_cluster_key(void);
/* An IKE SA and its Child SA as slot's n-th customer would have them. */
void bench_pair(uint16_t slot, uint32_t n, struct record *pair[2]);
/* The journal of a slot as it is after `pairs` such pairs of slot 1 and a stop. */
void bench_fill_journal(const char *path, const char *cluster, uint16_t slot,
                        const struct cluster_key *key, uint32_t pairs);

#endif
