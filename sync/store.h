/* The journal: what this node knows, durable. SQLite (WAL, synchronous=FULL)
 * on one thread of its own, and one in memory for tests; one conformance suite
 * runs against both.
 *
 * Threads: open, submit, poll and close on the loop thread; none but open and close
 * waits for the disk. All batches waiting when the store's thread is free become one
 * transaction (group commit); where none of them is urgent it waits some 10 ms for more. When a
 * transaction is durable the thread calls `wake`; poll then returns the tickets. Keys are sealed in
 * the file under the journal key, which is wrapped by the cluster key (DESIGN: Custody of keys). */
#ifndef SYNC_STORE_H
#define SYNC_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "sync/sync.h"

enum { STORE_WHY_BYTES = 128 };

struct store {
    const struct store_ops *ops;
};
struct store_ops {
    /* Takes the batch (sync_batch_free), also when it refuses it. ERR_FULL when too much waits:
     * from then on all is refused and poll says `failed`, until the store is opened anew. */
    int (*submit)(struct store *s, struct sync_batch *batch);
    /* The highest durable ticket; *failed while the disk refuses (full, I/O) or hangs: what was
     * submitted is tried again until it is durable. */
    uint64_t (*poll)(struct store *s, bool *failed);
    /* Finishes what was submitted, closes, frees. */
    void (*close)(struct store *s);
    /* Why poll says `failed`, for people; empty when it does not. */
    void (*why)(struct store *s, char out[STORE_WHY_BYTES]);
    /* Records (and batches) that wait for the disk: at most a few for each that the node knows. */
    size_t (*waiting)(struct store *s);
    /* Wraps the journal key anew, under this cluster key (copied), some time: `wrapped` tells when
     * that is durable, and until then the journal opens by the one before. Asked again, the later
     * one counts. ERR_NOMEM. */
    int (*rewrap)(struct store *s, const struct cluster_key *key);
    /* The id of the cluster key that the journal on disk is wrapped under. */
    uint32_t (*wrapped)(struct store *s);
};

struct store_options {
    const char *path; /* the database file */
    const char *cluster;
    uint16_t slot;
    const struct cluster_key *keys;
    size_t n_keys;
    void (*wake)(void *ctx); /* from the store's thread */
    void *wake_ctx;
    /* While the journal is read: takes a part of its records (those of `part`, and n_expected), so
     * that reading and installing go side by side. NULL: all come in *recovery. `forget`: those
     * taken so far are void, for the journal turned out to be damaged. Loop thread. */
    void (*take)(void *ctx, struct sync_recovery *part);
    void (*forget)(void *ctx);
    void *read_ctx;
    /* For tests; 0: 200, 5000. */
    uint32_t retry_ms;   /* between two tries to write */
    uint32_t hanging_ms; /* a disk that answers nothing for so long counts as failed */
};

/* Opens or makes the journal and reads all of it into *recovery (caller: store_recovery_free
 * after the core took the records).
 *
 *   set aside (renamed, logged), and a new one begun: a journal that is damaged, no journal of
 *   ours, of another cluster, or of a newer layout
 *
 *   ERR_CONFIG, and nothing is touched: it is sealed under a cluster key that is not among ours,
 *   or it is another slot's. It is good, and whoever started us can put the mistake right.
 *
 *   ERR_BUSY: another process has it open. ERR_IO: no file can be made or read there. */
int store_sqlite_open(const struct store_options *options, struct store **out,
                      struct sync_recovery *recovery);
/* The same contract in memory; the contents outlive close in *disk, so tests can reopen it. */
struct memory_disk;
struct memory_disk *memory_disk_new(void);
void memory_disk_free(struct memory_disk *disk);
int store_memory_open(struct memory_disk *disk, const struct store_options *options,
                      struct store **out, struct sync_recovery *recovery);

void store_recovery_free(struct sync_recovery *recovery);

#endif
