/* A journal that cannot be used is kept for a later look: renamed with what belongs to it, to the
 * next free number, and never over another. */
#ifndef SYNC_STORE_ASIDE_H
#define SYNC_STORE_ASIDE_H

enum { ASIDE_KEPT = 3 /* journals; the oldest goes when one more comes */ };

/* PATH, PATH-wal, ... become PATH.aside-N, PATH.aside-N-wal, ...; the log says so. ERR_IO when they
 * cannot be renamed, ERR_CONFIG when the path is too long. */
int store_set_aside(const char *path);

#endif
