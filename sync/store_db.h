/* The journal's database: schema, reading all of it, writing one transaction. Only this and
 * store_db.c know SQLite; store_load.c and store_sqlite.c add the threads. One thread at a time for
 * each struct db. */
#ifndef SYNC_STORE_DB_H
#define SYNC_STORE_DB_H

#include "sync/store.h"

struct db;

/* 0; ERR_INVALID: damaged or foreign (set it aside); ERR_CONFIG, ERR_BUSY, ERR_IO as
 * store_sqlite_open. *fresh tells that it was made now. */
int db_open(const struct store_options *options, struct db **out, bool *fresh);
void db_close(struct db *db);
/* Are pages, trees and indices whole? 0, or as db_open. */
int db_check(struct db *db);
/* From now on closing it is an orderly end; before, a journal stays as it was found. */
void db_accept(struct db *db);
/* Vector and epochs. */
int db_read_rest(struct db *db, const struct store_options *options,
                 struct sync_recovery *recovery);

/* A second connection, for another thread to read the records through while `db` is used for
 * nothing but db_check. */
int db_open_reader(const struct store_options *options, struct db **out);
/* About how many. */
size_t db_expected_records(struct db *reader);
/* The next records that have not expired, at most `most`; *n is 0 when there are no more. */
int db_read_some(struct db *reader, struct record **out, size_t most, size_t *n);
/* Writes all batches in one transaction, durable on return. On failure nothing is written. */
int db_commit(struct db *db, struct sync_batch *const *batches, size_t n);
/* Wraps the journal key under this cluster key instead, durable on return, or not at all. */
int db_rewrap(struct db *db, const struct cluster_key *key);
/* Deletes what expired by wall_ms, and the positions of logs of which nothing is left. */
int db_expire(struct db *db, int64_t wall_ms);
/* SQLite's words for the last failure, until the next one. */
const char *db_why(const struct db *db);

#endif
