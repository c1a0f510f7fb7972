/* Reading the journal at start: the records come from one thread, pages and trees are checked by
 * another, and meanwhile the caller installs what has come. */
#ifndef SYNC_STORE_LOAD_H
#define SYNC_STORE_LOAD_H

#include "sync/store_db.h"

/* Everything, by options->take and in *recovery. Whatever it returns but 0, nothing of it counts:
 * what was taken is taken back (options->forget). Nobody else uses db meanwhile. */
int store_load(struct db *db, const struct store_options *options, struct sync_recovery *recovery);

#endif
