/* The journal: what this node knows, durable. SQLite (WAL, synchronous=FULL)
 * on one thread of its own, and one in memory for tests; one conformance suite
 * runs against both.
 *
 * Threads: open, submit, poll and close on the loop thread; none but open and close
 * waits for the disk. All batches waiting when the store's thread is free become one
 * transaction (group commit). When a transaction is durable the thread calls `wake`;
 * poll then returns the tickets. Keys are sealed in the file under the journal key,
 * which is wrapped by the cluster key (DESIGN: Custody of keys). */
#ifndef SYNC_STORE_H
#define SYNC_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "sync/sync.h"

struct store {
    const struct store_ops *ops;
};
struct store_ops {
    /* Takes the batch (sync_batch_free), also when it refuses it. ERR_FULL when too much waits:
     * from then on all is refused and poll says `failed`, until the store is opened anew. */
    int (*submit)(struct store *s, struct sync_batch *batch);
    /* The highest durable ticket; *failed while the disk refuses (full, I/O): what was submitted
     * is tried again until it is durable. */
    uint64_t (*poll)(struct store *s, bool *failed);
    /* Finishes what was submitted, closes, frees. */
    void (*close)(struct store *s);
};

struct store_options {
    const char *path; /* the database file */
    const char *cluster;
    uint16_t slot;
    const struct cluster_key *keys;
    size_t n_keys;
    void (*wake)(void *ctx); /* from the store's thread */
    void *wake_ctx;
};

/* ERR_BUSY: another process has the journal open; ERR_IO: no file can be made there.
 *
 * Opens or makes the journal and reads all of it into *recovery (caller:
 * store_recovery_free after the core took the records). A corrupt, foreign or
 * unreadable database is set aside (renamed, logged) and a new one begun. ERR_CONFIG, and nothing
 * is touched, when it is sealed under a cluster key that is not among ours. */
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
