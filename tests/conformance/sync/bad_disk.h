/* A disk that fails as real ones do, below SQLite: a VFS of files in memory. What was written but
 * not synced survives a power cut or does not, sector by sector. After a failed fsync the page
 * cache shows what was written, and the disk will never get it unless it is written again (Linux).
 * One store at a time; the switches may be thrown from another thread. */
#ifndef TESTS_BAD_DISK_H
#define TESTS_BAD_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum disk_fault {
    DISK_FINE,
    DISK_FULL,      /* no file may grow: ENOSPC */
    DISK_EIO_WRITE, /* some writes fail, half done */
    DISK_EIO_SYNC,  /* some fsyncs fail, and what they should have brought out is lost */
    DISK_HANGS,     /* an fsync does not return */
    DISK_DEAD,      /* nothing works any more: the moment before the power goes */
};

/* Becomes SQLite's default. Before the first journal is opened. */
void bad_disk_begin(uint64_t seed);
void bad_disk_end(void);
void bad_disk_set(enum disk_fault fault);
/* No file is open: what was not synced is kept or not, by chance. */
void bad_disk_power_cut(void);
/* How many calls failed so far. */
unsigned bad_disk_failures(void);
uint64_t bad_disk_random(uint64_t below); /* of the test's one seed; the test's thread */

#endif
