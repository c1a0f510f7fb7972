/* A directory with a journal in it, batches to write, and its files as bytes; for the tests that
 * damage journals and disks. */
#ifndef TESTS_STORE_RIG_H
#define TESTS_STORE_RIG_H

#include "sync/store.h"

struct rig {
    char directory[32], path[64];
    struct cluster_key key;
};
void rig_begin(struct rig *rig);
void rig_end(struct rig *rig); /* removes all files */
void rig_clear(struct rig *rig);
struct store_options rig_options(struct rig *rig);

/* Batch i of a history, i from 1: Child SA 0x10000 + i, published as number i of log 50, the
 * position that says so, and epoch i of slot 7 and of ours. */
struct sync_batch *rig_batch(uint32_t i);
/* Does the journal hold exactly batches 1..n for some n >= least? What it holds of the wrong
 * batches, or twice, or changed, ends the test. Returns n. */
uint32_t rig_history(const struct sync_recovery *r, uint32_t least);
/* Waits until `ticket` is durable, for seconds at most. */
void rig_wait(struct store *s, uint64_t ticket);

struct image {
    uint8_t *bytes;
    size_t n;
};
struct image image_read(const char *path);                     /* empty when there is none */
void image_write(const struct image *image, const char *path); /* removes it when empty */
void image_free(struct image *image);

#endif
