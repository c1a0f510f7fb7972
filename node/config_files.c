/* Reading whole files: bounded, regular, and with the permissions that secrets ask for. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/config_internal.h"
#include "proto/err.h"

enum { GROUP_AND_OTHERS = S_IRWXG | S_IRWXO, PERMISSIONS = 07777 };

void file_bytes_free(struct file_bytes *f)
{
    if (f->secret) {
        secret_free(f->p, f->room);
    } else if (f->p) {
        wipe(f->p, f->room);
        free(f->p);
    }
    *f = (struct file_bytes){0};
}

void file_bytes_chop(struct file_bytes *f)
{
    if (f->n && f->p[f->n - 1] == '\n')
        f->p[--f->n] = 0;
}

/* ---- who else may touch it ---- */

static bool is_ours(uid_t owner)
{
    return owner == 0 || owner == geteuid();
}

/* Whoever may write into a directory may put another file in the place of ours. */
static int check_directory(struct config_at at, const char *path)
{
    const char *slash = strrchr(path, '/');
    char dir[CONFIG_PATH_MAX];
    struct stat st;

    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) + (slash == path) : 1,
             slash ? path : ".");
    if (stat(dir, &st) != 0)
        return config_fail(at, "cannot look at %s: %s", dir, strerror(errno));
    if ((st.st_mode & (S_IWGRP | S_IWOTH)) && !(st.st_mode & S_ISVTX))
        return config_fail(at, "others may replace %s: its directory has mode %04o; chmod go-w %s",
                           path, (unsigned)st.st_mode & PERMISSIONS, dir);
    if (!is_ours(st.st_uid))
        return config_fail(at, "uid %u may replace %s: its directory is that user's; chown %u %s",
                           (unsigned)st.st_uid, path, (unsigned)geteuid(), dir);
    return ERR_OK;
}

static int check_secret(struct config_at at, const char *path, int fd, const struct stat *st)
{
    char link[64], target[CONFIG_PATH_MAX];
    ssize_t n;
    int rc;

    if (st->st_mode & GROUP_AND_OTHERS)
        return config_fail(at, "%s may be read by others (mode %04o); chmod 600 %s", path,
                           (unsigned)st->st_mode & PERMISSIONS, path);
    if (!is_ours(st->st_uid))
        return config_fail(at, "%s belongs to uid %u; chown %u %s", path, (unsigned)st->st_uid,
                           (unsigned)geteuid(), path);
    rc = check_directory(at, path);
    if (rc != ERR_OK)
        return rc;
    /* The same where a symbolic link leads to. */
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, target, sizeof target - 1);
    if (n <= 0 || target[0] != '/')
        return ERR_OK;
    target[n] = 0;
    return check_directory(at, target);
}

int config_check_secret_file(struct config_at at, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    int rc;

    if (fd < 0 || fstat(fd, &st) != 0)
        rc = config_fail(at, "cannot open %s: %s; check the path and who may read it", path,
                         strerror(errno));
    else
        rc = check_secret(at, path, fd, &st);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* What the file system says before the first byte is read. */
static int check_file(struct config_at at, const char *path, int fd, const struct stat *st,
                      size_t max, bool secret)
{
    int rc = ERR_OK;

    if (!S_ISREG(st->st_mode))
        return config_fail(at, "%s is not a regular file; name a file", path);
    if (secret)
        rc = check_secret(at, path, fd, st);
    if (rc != ERR_OK)
        return rc;
    if (st->st_size == 0)
        return config_fail(at, "%s is empty; write its content", path);
    if ((uint64_t)st->st_size > max)
        return config_fail(at, "%s has %lld bytes, at most %zu are read; is it the right file?",
                           path, (long long)st->st_size, max);
    return ERR_OK;
}

/* ---- reading ---- */

/* Reads until the end or until f->room is full. */
static int read_all(int fd, struct file_bytes *f)
{
    while (f->n < f->room) {
        ssize_t got = read(fd, f->p + f->n, f->room - f->n);
        if (got == 0)
            return ERR_OK;
        if (got < 0 && errno != EINTR)
            return ERR_IO;
        if (got > 0)
            f->n += (size_t)got;
    }
    return ERR_OK;
}

static int read_open_file(struct config_at at, int fd, const char *path, size_t max,
                          struct file_bytes *f)
{
    struct stat st;
    int rc;

    if (fstat(fd, &st) != 0)
        return config_fail(at, "cannot look at %s: %s", path, strerror(errno));
    rc = check_file(at, path, fd, &st, max, f->secret);
    if (rc != ERR_OK)
        return rc;
    f->room = (size_t)st.st_size + 1;
    f->p = f->secret ? secret_alloc(f->room) : malloc(f->room);
    if (!f->p)
        return config_no_memory(at.src);
    if (read_all(fd, f) != ERR_OK)
        return config_fail(at, "cannot read %s: %s; check the disk", path, strerror(errno));
    if (f->n != (size_t)st.st_size)
        return config_fail(at, "%s changed while it was read; try again", path);
    f->p[f->n] = 0;
    return ERR_OK;
}

int config_read_file(struct config_at at, const char *path, size_t max, bool secret,
                     struct file_bytes *out)
{
    struct file_bytes f = {.secret = secret};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int rc;

    *out = (struct file_bytes){0};
    if (fd < 0)
        return config_fail(at, "cannot open %s: %s; check the path and who may read it", path,
                           strerror(errno));
    rc = read_open_file(at, fd, path, max, &f);
    close(fd);
    if (rc != ERR_OK)
        file_bytes_free(&f);
    else
        *out = f;
    return rc;
}

int config_join_path(struct config_at at, const char *base, const char *relative,
                     char out[CONFIG_PATH_MAX])
{
    const char *slash = strrchr(base, '/');
    int dir = slash && relative[0] != '/' ? (int)(slash - base) + 1 : 0;
    int n;

    if (!relative[0])
        return config_fail(at, "an empty path; name a file");
    n = snprintf(out, CONFIG_PATH_MAX, "%.*s%s", dir, base, relative);
    if (n < 0 || n >= CONFIG_PATH_MAX)
        return config_fail(at, "the path is longer than %d bytes; move the file",
                           CONFIG_PATH_MAX - 1);
    return ERR_OK;
}
