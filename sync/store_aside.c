#include "sync/store_aside.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/err.h"
#include "proto/log.h"

static const char *const parts[] = {"", "-wal", "-shm", "-journal"};
enum {
    PARTS = sizeof parts / sizeof *parts,
    TRIES = 16,
    NUMBER_MAX = 1000000000, /* a larger one is no work of ours */
};

/* The number of PATH.aside-N, whichever part of it; 0: another file. */
static uint64_t number_of(const char *name, const char *base)
{
    size_t n = strlen(base);
    char *end;
    uint64_t number;

    if (strncmp(name, base, n) != 0 || strncmp(name + n, ".aside-", 7) != 0 || name[n + 7] < '0' ||
        name[n + 7] > '9')
        return 0;
    number = strtoull(name + n + 7, &end, 10);
    for (size_t i = 0; i < PARTS; i++)
        if (strcmp(end, parts[i]) == 0)
            return number < NUMBER_MAX ? number : 0;
    return 0;
}

struct census {
    size_t n; /* journals set aside */
    uint64_t lowest, highest;
};

static struct census count(const char *directory, const char *base)
{
    struct census c = {.lowest = UINT64_MAX};
    DIR *d = opendir(directory);
    struct dirent *e;

    while (d && (e = readdir(d)) != NULL) {
        uint64_t number = number_of(e->d_name, base);
        if (number == 0)
            continue;
        c.n += e->d_name[strlen(e->d_name) - 1] >= '0' && e->d_name[strlen(e->d_name) - 1] <= '9';
        c.lowest = number < c.lowest ? number : c.lowest;
        c.highest = number > c.highest ? number : c.highest;
    }
    if (d)
        closedir(d);
    return c;
}

static void remove_one(const char *path, uint64_t number)
{
    char name[PATH_MAX];

    for (size_t i = 0; i < PARTS; i++)
        if (snprintf(name, sizeof name, "%s.aside-%llu%s", path, (unsigned long long)number,
                     parts[i]) < (int)sizeof name)
            (void)unlink(name);
    log_info("journal", "%s.aside-%llu is removed: later ones are kept", path,
             (unsigned long long)number);
}

static int move(const char *path, uint64_t number)
{
    char from[PATH_MAX], to[PATH_MAX];

    for (size_t i = 0; i < PARTS; i++) {
        if (snprintf(from, sizeof from, "%s%s", path, parts[i]) >= (int)sizeof from ||
            snprintf(to, sizeof to, "%s.aside-%llu%s", path, (unsigned long long)number,
                     parts[i]) >= (int)sizeof to)
            return ERR_CONFIG;
        if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0 ||
            errno == ENOENT) /* the database itself may be what is missing */
            continue;
        if (errno == EINVAL || errno == ENOSYS) { /* a file system that cannot promise it */
            if (access(to, F_OK) != 0 && rename(from, to) == 0)
                continue;
        }
        log_error("journal", "cannot set %s aside: %m", from);
        return ERR_IO;
    }
    return ERR_OK;
}

int store_set_aside(const char *path)
{
    char directory[PATH_MAX];
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    struct census c;
    int rc;

    if (snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - path + 1) : 1,
                 slash ? path : ".") >= (int)sizeof directory)
        return ERR_CONFIG;
    c = count(directory, base);
    for (int tries = 0; c.n >= ASIDE_KEPT && tries < TRIES; tries++) {
        remove_one(path, c.lowest);
        c = count(directory, base);
    }
    rc = move(path, c.highest + 1);
    if (rc == ERR_OK)
        log_error(
            "journal",
            "%s cannot be used and is set aside as %s.aside-%llu; a new one is begun, and what "
            "it held comes from the other members",
            path, path, (unsigned long long)(c.highest + 1));
    return rc;
}
