/* What SQLite's files pass through on their way to the disk: each page of the journal's database
 * carries a checksum in eight reserved bytes at its end, written with it and checked whenever it is
 * read. SQLite checks only what its log holds; a flipped bit in the database would else be a log
 * position, an epoch or an expiry that nobody ever wrote. One thread per open file. */
#ifndef SYNC_STORE_VFS_H
#define SYNC_STORE_VFS_H

#include <stdbool.h>

struct sqlite3;

enum { JOURNAL_PAGE_BYTES = 4096, JOURNAL_RESERVED_BYTES = 8 };

/* The name for sqlite3_open_v2; registers it on the first call, above what is SQLite's default
 * then. NULL on failure. Loop thread. */
const char *store_vfs(void);
/* The same without file locks, for a second connection that only reads while the first one, in this
 * process, holds the lock and does not write. */
const char *store_vfs_reader(void);
/* Before the first statement: a database made now reserves the bytes. */
bool store_vfs_reserve(struct sqlite3 *sql);
/* Do the database's pages carry checksums? */
bool store_vfs_guards(struct sqlite3 *sql);

#endif
