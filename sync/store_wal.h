/* Was the journal's write-ahead log damaged? Pure reading; before SQLite opens it. */
#ifndef SYNC_STORE_WAL_H
#define SYNC_STORE_WAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum wal_state {
    WAL_SOUND, /* or none, or torn at its end, as a power cut leaves it: nothing durable is lost */
    WAL_DAMAGED, /* transactions that were durable cannot be read any more */
    WAL_ORPHAN,  /* a log with content beside an empty database */
};
/* path is the database's. Reads the log once; takes about as long as SQLite's own recovery. */
enum wal_state wal_look(const char *path);

#endif
