/* The journal's database: schema, reading all of it, writing one transaction. Only this and
 * store_db.c know SQLite; store_sqlite.c adds the thread. One thread at a time. */
#ifndef SYNC_STORE_DB_H
#define SYNC_STORE_DB_H

#include "sync/store.h"

struct db;

/* 0; ERR_INVALID: damaged or foreign (set it aside); ERR_CONFIG, ERR_BUSY, ERR_IO as
 * store_sqlite_open. *fresh tells that it was made now. */
int db_open(const struct store_options *options, struct db **out, bool *fresh);
void db_close(struct db *db);
/* Fills records, vector and epochs. ERR_INVALID as above. */
int db_read(struct db *db, const struct store_options *options, struct sync_recovery *recovery);
/* Writes all batches in one transaction, durable on return. On failure nothing is written. */
int db_commit(struct db *db, struct sync_batch *const *batches, size_t n);
/* Wraps the journal key under this cluster key instead, durable on return, or not at all. */
int db_rewrap(struct db *db, const struct cluster_key *key);
/* Deletes what expired by wall_ms, and the positions of logs of which nothing is left. */
int db_expire(struct db *db, int64_t wall_ms);
/* SQLite's words for the last failure, until the next one. */
const char *db_why(const struct db *db);

#endif
