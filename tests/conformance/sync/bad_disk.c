#include "tests/conformance/sync/bad_disk.h"

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tests/conformance/sync/check.h"

enum { FILES = 4, SECTOR = 512, FILE_MAX = 16 << 20, NAME_MAX_BYTES = 128 };
enum sector_state { CLEAN, DIRTY };

struct disk_file {
    char name[NAME_MAX_BYTES]; /* empty: free */
    uint8_t *cached, *durable;
    size_t n, n_durable;
    uint8_t *state; /* of each sector */
};
struct handle {
    sqlite3_file base;
    struct disk_file *file;
};

static struct disk_file files[FILES];
static _Atomic int mode;
static _Atomic unsigned failures;
static uint64_t seed_test, seed_disk; /* a row of numbers for each thread */

static uint64_t next_random(uint64_t *s)
{
    uint64_t z = *s += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t bad_disk_random(uint64_t below)
{
    return next_random(&seed_test) % below;
}

/* One call in `of` fails while the disk is in this mode. */
static bool fails(enum disk_fault fault, uint64_t of)
{
    int now = mode;

    if (now != DISK_DEAD && (now != (int)fault || next_random(&seed_disk) % of != 0))
        return false;
    failures++;
    return true;
}

static struct disk_file *file_of(sqlite3_file *f)
{
    return ((struct handle *)(void *)f)->file;
}

static struct disk_file *find(const char *name)
{
    for (size_t i = 0; i < FILES; i++)
        if (files[i].name[0] && strcmp(files[i].name, name) == 0)
            return &files[i];
    return NULL;
}

static void forget(struct disk_file *d)
{
    free(d->cached);
    free(d->durable);
    free(d->state);
    *d = (struct disk_file){0};
}

static int disk_close(sqlite3_file *f)
{
    (void)f;
    return SQLITE_OK;
}

static int disk_read(sqlite3_file *f, void *out, int n, sqlite3_int64 at)
{
    struct disk_file *d = file_of(f);
    size_t there = (size_t)at < d->n ? d->n - (size_t)at : 0;

    if (fails(DISK_DEAD, 1))
        return SQLITE_IOERR_READ;
    if (there > (size_t)n)
        there = (size_t)n;
    memcpy(out, d->cached + at, there);
    memset((uint8_t *)out + there, 0, (size_t)n - there);
    return there == (size_t)n ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static void put(struct disk_file *d, const void *in, size_t n, size_t at)
{
    CHECK(at + n <= FILE_MAX);
    memcpy(d->cached + at, in, n);
    for (size_t s = at / SECTOR; n && s <= (at + n - 1) / SECTOR; s++)
        d->state[s] = DIRTY;
    if (at + n > d->n)
        d->n = at + n;
}

static int disk_write(sqlite3_file *f, const void *in, int n, sqlite3_int64 at)
{
    struct disk_file *d = file_of(f);

    if ((size_t)at + (size_t)n > d->n && fails(DISK_FULL, 1))
        return mode == DISK_DEAD ? SQLITE_IOERR_WRITE : SQLITE_FULL;
    if (fails(DISK_EIO_WRITE, 6)) {
        if (mode != DISK_DEAD)
            put(d, in, (size_t)n / 2, (size_t)at);
        return SQLITE_IOERR_WRITE;
    }
    put(d, in, (size_t)n, (size_t)at);
    return SQLITE_OK;
}

static int disk_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    struct disk_file *d = file_of(f);

    if (fails(DISK_DEAD, 1))
        return SQLITE_IOERR_TRUNCATE;
    if ((size_t)size < d->n) {
        memset(d->cached + size, 0, d->n - (size_t)size);
        memset(d->durable + size, 0, FILE_MAX - (size_t)size);
    }
    d->n = (size_t)size;
    if (d->n_durable > d->n)
        d->n_durable = d->n;
    return SQLITE_OK;
}

static void bring_out(struct disk_file *d, size_t sector)
{
    size_t at = sector * SECTOR;

    memcpy(d->durable + at, d->cached + at, SECTOR);
    d->state[sector] = CLEAN;
    if (d->n_durable < at + SECTOR)
        d->n_durable = at + SECTOR < d->n ? at + SECTOR : d->n;
}

static int disk_sync(sqlite3_file *f, int flags)
{
    struct disk_file *d = file_of(f);
    bool dead, failed;

    while (mode == DISK_HANGS)
        usleep(1000);
    dead = mode == DISK_DEAD;
    failed = dead || fails(DISK_EIO_SYNC, 3);
    (void)flags;
    for (size_t s = 0; s * SECTOR < d->n && !dead; s++)
        if (d->state[s] == DIRTY) {
            if (!failed)
                bring_out(d, s);
            d->state[s] = CLEAN; /* lost, but nobody will say so again */
        }
    return failed ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}

static int disk_size(sqlite3_file *f, sqlite3_int64 *size)
{
    *size = (sqlite3_int64)file_of(f)->n;
    return SQLITE_OK;
}

static int disk_lock(sqlite3_file *f, int level)
{
    (void)f, (void)level;
    return SQLITE_OK;
}

static int disk_reserved(sqlite3_file *f, int *out)
{
    (void)f;
    *out = 0;
    return SQLITE_OK;
}

static int disk_control(sqlite3_file *f, int op, void *arg)
{
    (void)f, (void)op, (void)arg;
    return SQLITE_NOTFOUND;
}

static int disk_sector(sqlite3_file *f)
{
    (void)f;
    return SECTOR;
}

/* As SQLite takes every file on Linux to be. Without it a commit is padded by frames that are
 * synced with the next one only, and a failed fsync then loses what no retry writes again. */
static int disk_device(sqlite3_file *f)
{
    (void)f;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods methods = {
    .iVersion = 1,
    .xClose = disk_close,
    .xRead = disk_read,
    .xWrite = disk_write,
    .xTruncate = disk_truncate,
    .xSync = disk_sync,
    .xFileSize = disk_size,
    .xLock = disk_lock,
    .xUnlock = disk_lock,
    .xCheckReservedLock = disk_reserved,
    .xFileControl = disk_control,
    .xSectorSize = disk_sector,
    .xDeviceCharacteristics = disk_device,
};

static int disk_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *out_flags)
{
    struct disk_file *d = name ? find(name) : NULL;

    (void)vfs;
    f->pMethods = NULL;
    if (!name)
        return SQLITE_CANTOPEN;
    for (size_t i = 0; !d && i < FILES; i++)
        if (!files[i].name[0]) {
            d = &files[i];
            snprintf(d->name, sizeof d->name, "%s", name);
            d->cached = calloc(1, FILE_MAX);
            d->durable = calloc(1, FILE_MAX);
            d->state = calloc(1, FILE_MAX / SECTOR);
        }
    CHECK(d && d->cached && d->durable && d->state);
    ((struct handle *)(void *)f)->file = d;
    f->pMethods = &methods;
    if (out_flags)
        *out_flags = flags;
    return SQLITE_OK;
}

static int disk_delete(sqlite3_vfs *vfs, const char *name, int sync_directory)
{
    struct disk_file *d = find(name);

    (void)vfs, (void)sync_directory;
    if (fails(DISK_DEAD, 1))
        return SQLITE_IOERR_DELETE;
    if (d)
        forget(d);
    return SQLITE_OK;
}

static int disk_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    (void)vfs, (void)flags;
    *out = find(name) != NULL;
    return SQLITE_OK;
}

static int disk_full_path(sqlite3_vfs *vfs, const char *name, int n, char *out)
{
    (void)vfs;
    snprintf(out, (size_t)n, "%s", name);
    return SQLITE_OK;
}

static sqlite3_vfs disk_vfs = {
    .iVersion = 1,
    .szOsFile = (int)sizeof(struct handle),
    .mxPathname = NAME_MAX_BYTES,
    .zName = "bad_disk",
    .xOpen = disk_open,
    .xDelete = disk_delete,
    .xAccess = disk_access,
    .xFullPathname = disk_full_path,
};

void bad_disk_begin(uint64_t seed)
{
    sqlite3_vfs *system;

    CHECK(sqlite3_initialize() == SQLITE_OK && (system = sqlite3_vfs_find(NULL)) != NULL);
    disk_vfs.xRandomness = system->xRandomness;
    disk_vfs.xSleep = system->xSleep;
    disk_vfs.xCurrentTime = system->xCurrentTime;
    disk_vfs.xGetLastError = system->xGetLastError;
    CHECK(sqlite3_vfs_register(&disk_vfs, 1) == SQLITE_OK);
    seed_test = seed;
    seed_disk = ~seed;
}

void bad_disk_end(void)
{
    for (size_t i = 0; i < FILES; i++)
        forget(&files[i]);
}

void bad_disk_set(enum disk_fault fault)
{
    mode = (int)fault;
}

unsigned bad_disk_failures(void)
{
    return failures;
}

void bad_disk_power_cut(void)
{
    for (size_t i = 0; i < FILES; i++) {
        struct disk_file *d = &files[i];
        size_t was = d->n;
        for (size_t s = 0; d->name[0] && s * SECTOR < d->n; s++)
            if (d->state[s] == DIRTY && next_random(&seed_test) % 2)
                bring_out(d, s);
        if (!d->name[0])
            continue;
        d->n = d->n_durable;
        memcpy(d->cached, d->durable, was);
        memset(d->cached + d->n, 0, FILE_MAX - d->n);
        memset(d->durable + d->n, 0, FILE_MAX - d->n);
        memset(d->state, CLEAN, FILE_MAX / SECTOR);
    }
    mode = DISK_FINE;
}
