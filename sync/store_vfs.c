/* A shim over the system's VFS. Only the database is guarded: the log's frames have checksums of
 * SQLite's own, and a page gets ours when it is carried over from there. SQLite reads and writes a
 * database in whole pages, but for the first 100 bytes, which it reads again as part of page 1.
 * Methods of version 1: neither memory maps nor shared memory, which the journal, exclusive to one
 * process, does without. */
#include "sync/store_vfs.h"

#include <sqlite3.h>
#include <stdint.h>
#include <string.h>

#include "proto/log.h"

enum { RESERVED_AT = 20, HEADER_BYTES = 100, SUMMED_BYTES = JOURNAL_PAGE_BYTES - 8 };

static const char vfs_name[] = "anysa", reader_name[] = "anysa-reader";

struct guarded { /* followed by the file of the VFS below */
    sqlite3_file base;
    bool guards;
    bool unlocked; /* of the reader's VFS */
    bool told;     /* the log has named a damaged page */
    uint8_t page[JOURNAL_PAGE_BYTES];
};

static struct guarded *self_of(sqlite3_file *f)
{
    return (struct guarded *)(void *)f;
}

static sqlite3_file *below(sqlite3_file *f)
{
    return (sqlite3_file *)(void *)(self_of(f) + 1);
}

/* Every step is a bijection of the state for a given word and of the word for a given state, so a
 * change within one word never goes unseen. The page's number is in it: a page that landed
 * elsewhere does not pass. */
static uint64_t page_sum(const uint8_t *page, sqlite3_int64 at)
{
    uint64_t h = UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)at, word;

    for (size_t i = 0; i < SUMMED_BYTES; i += sizeof word) {
        memcpy(&word, page + i, sizeof word);
        h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
    }
    return h;
}

static bool whole_page(int n, sqlite3_int64 at)
{
    return n == JOURNAL_PAGE_BYTES && at % JOURNAL_PAGE_BYTES == 0;
}

static int guarded_read(sqlite3_file *f, void *out, int n, sqlite3_int64 at)
{
    int rc = below(f)->pMethods->xRead(below(f), out, n, at);
    uint64_t sum;

    if (rc != SQLITE_OK || !self_of(f)->guards || !whole_page(n, at))
        return rc;
    memcpy(&sum, (uint8_t *)out + SUMMED_BYTES, sizeof sum);
    if (sum == page_sum(out, at))
        return SQLITE_OK;
    if (!self_of(f)->told)
        log_error("journal",
                  "page %lld is not what was written: the disk or its file system is bad",
                  (long long)(at / JOURNAL_PAGE_BYTES + 1));
    self_of(f)->told = true;
    return SQLITE_IOERR_DATA;
}

static int guarded_write(sqlite3_file *f, const void *in, int n, sqlite3_int64 at)
{
    struct guarded *g = self_of(f);
    uint64_t sum;

    if (!whole_page(n, at))
        return below(f)->pMethods->xWrite(below(f), in, n, at);
    memcpy(g->page, in, sizeof g->page);
    if (at == 0)
        g->guards = g->page[RESERVED_AT] == JOURNAL_RESERVED_BYTES;
    if (g->guards) {
        sum = page_sum(g->page, at);
        memcpy(g->page + SUMMED_BYTES, &sum, sizeof sum);
    }
    return below(f)->pMethods->xWrite(below(f), g->page, n, at);
}

/* ---- handed down ---- */

static int pass_close(sqlite3_file *f)
{
    return below(f)->pMethods->xClose(below(f));
}
static int pass_read(sqlite3_file *f, void *out, int n, sqlite3_int64 at)
{
    return below(f)->pMethods->xRead(below(f), out, n, at);
}
static int pass_write(sqlite3_file *f, const void *in, int n, sqlite3_int64 at)
{
    return below(f)->pMethods->xWrite(below(f), in, n, at);
}
static int pass_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    return below(f)->pMethods->xTruncate(below(f), size);
}
static int pass_sync(sqlite3_file *f, int flags)
{
    return below(f)->pMethods->xSync(below(f), flags);
}
static int pass_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return below(f)->pMethods->xFileSize(below(f), size);
}
static int pass_lock(sqlite3_file *f, int level)
{
    return self_of(f)->unlocked ? SQLITE_OK : below(f)->pMethods->xLock(below(f), level);
}
static int pass_unlock(sqlite3_file *f, int level)
{
    return self_of(f)->unlocked ? SQLITE_OK : below(f)->pMethods->xUnlock(below(f), level);
}
static int pass_reserved(sqlite3_file *f, int *out)
{
    *out = 0;
    return self_of(f)->unlocked ? SQLITE_OK : below(f)->pMethods->xCheckReservedLock(below(f), out);
}
static int pass_control(sqlite3_file *f, int op, void *arg)
{
    return below(f)->pMethods->xFileControl(below(f), op, arg);
}
static int pass_sector(sqlite3_file *f)
{
    return below(f)->pMethods->xSectorSize(below(f));
}
static int pass_device(sqlite3_file *f)
{
    return below(f)->pMethods->xDeviceCharacteristics(below(f));
}

static const sqlite3_io_methods guarded_methods = {
    .iVersion = 1,
    .xClose = pass_close,
    .xRead = guarded_read,
    .xWrite = guarded_write,
    .xTruncate = pass_truncate,
    .xSync = pass_sync,
    .xFileSize = pass_size,
    .xLock = pass_lock,
    .xUnlock = pass_unlock,
    .xCheckReservedLock = pass_reserved,
    .xFileControl = pass_control,
    .xSectorSize = pass_sector,
    .xDeviceCharacteristics = pass_device,
};

static const sqlite3_io_methods passed_methods = {
    .iVersion = 1,
    .xClose = pass_close,
    .xRead = pass_read,
    .xWrite = pass_write,
    .xTruncate = pass_truncate,
    .xSync = pass_sync,
    .xFileSize = pass_size,
    .xLock = pass_lock,
    .xUnlock = pass_unlock,
    .xCheckReservedLock = pass_reserved,
    .xFileControl = pass_control,
    .xSectorSize = pass_sector,
    .xDeviceCharacteristics = pass_device,
};

/* ---- opening ---- */

static int guarded_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags,
                        int *out_flags)
{
    sqlite3_vfs *under = vfs->pAppData;
    struct guarded *g = self_of(f);
    uint8_t header[HEADER_BYTES];
    int rc;

    memset(g, 0, sizeof *g);
    g->unlocked = vfs->zName == reader_name;
    rc = under->xOpen(under, name, below(f), flags, out_flags);
    if (!below(f)->pMethods)
        return rc;
    f->pMethods = flags & SQLITE_OPEN_MAIN_DB ? &guarded_methods : &passed_methods;
    if (rc == SQLITE_OK && flags & SQLITE_OPEN_MAIN_DB &&
        below(f)->pMethods->xRead(below(f), header, sizeof header, 0) == SQLITE_OK)
        g->guards = header[RESERVED_AT] == JOURNAL_RESERVED_BYTES;
    return rc;
}

static sqlite3_vfs *under_of(sqlite3_vfs *vfs)
{
    return vfs->pAppData;
}
static int pass_delete(sqlite3_vfs *vfs, const char *name, int sync_directory)
{
    return under_of(vfs)->xDelete(under_of(vfs), name, sync_directory);
}
static int pass_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    return under_of(vfs)->xAccess(under_of(vfs), name, flags, out);
}
static int pass_full_path(sqlite3_vfs *vfs, const char *name, int n, char *out)
{
    return under_of(vfs)->xFullPathname(under_of(vfs), name, n, out);
}
static int pass_random(sqlite3_vfs *vfs, int n, char *out)
{
    return under_of(vfs)->xRandomness(under_of(vfs), n, out);
}
static int pass_sleep(sqlite3_vfs *vfs, int us)
{
    return under_of(vfs)->xSleep(under_of(vfs), us);
}
static int pass_time(sqlite3_vfs *vfs, double *out)
{
    return under_of(vfs)->xCurrentTime(under_of(vfs), out);
}
static int pass_last_error(sqlite3_vfs *vfs, int n, char *out)
{
    return under_of(vfs)->xGetLastError(under_of(vfs), n, out);
}

static const char *register_vfs(sqlite3_vfs *vfs, const char *name)
{
    sqlite3_vfs *under;

    if (vfs->zName)
        return vfs->zName;
    if (sqlite3_initialize() != SQLITE_OK || !(under = sqlite3_vfs_find(NULL)))
        return NULL;
    *vfs = (sqlite3_vfs){
        .iVersion = 1,
        .szOsFile = (int)sizeof(struct guarded) + under->szOsFile,
        .mxPathname = under->mxPathname,
        .zName = name,
        .pAppData = under,
        .xOpen = guarded_open,
        .xDelete = pass_delete,
        .xAccess = pass_access,
        .xFullPathname = pass_full_path,
        .xRandomness = pass_random,
        .xSleep = pass_sleep,
        .xCurrentTime = pass_time,
        .xGetLastError = pass_last_error,
    };
    if (sqlite3_vfs_register(vfs, 0) != SQLITE_OK)
        vfs->zName = NULL;
    return vfs->zName;
}

const char *store_vfs(void)
{
    static sqlite3_vfs vfs;

    return register_vfs(&vfs, vfs_name);
}

const char *store_vfs_reader(void)
{
    static sqlite3_vfs vfs;

    return register_vfs(&vfs, reader_name);
}

bool store_vfs_reserve(struct sqlite3 *sql)
{
    int bytes = JOURNAL_RESERVED_BYTES;

    return sqlite3_file_control(sql, "main", SQLITE_FCNTL_RESERVE_BYTES, &bytes) == SQLITE_OK;
}

bool store_vfs_guards(struct sqlite3 *sql)
{
    sqlite3_file *f = NULL;

    return sqlite3_file_control(sql, "main", SQLITE_FCNTL_FILE_POINTER, &f) == SQLITE_OK && f &&
           f->pMethods == &guarded_methods && self_of(f)->guards;
}
