/* While the disk refuses or hangs, what waits for it is kept in one form per record: memory grows
 * with what the node knows, not with how long the fault lasts. */
#ifndef SYNC_STORE_MERGE_H
#define SYNC_STORE_MERGE_H

#include "sync/sync.h"

/* Makes one batch of n, in their order: the last form of each record, but none that is expired by
 * wall_ms; the highest position of each log, the highest epoch of each slot, the last ticket.
 * Writing it leaves what writing all of them in one transaction would. Returns how many batches
 * remain: 1 in batches[0], or n, all untouched, when out of memory. Any thread. */
size_t store_merge(struct sync_batch **batches, size_t n, int64_t wall_ms);

#endif
