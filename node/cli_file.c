/* Editing a configuration or key file: read under a lock, written beside, renamed into place. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/cli.h"
#include "node/config_internal.h"
#include "proto/err.h"
#include "proto/secret.h"

_Static_assert(sizeof((struct cli_file *)0)->path >= PATH_MAX, "a resolved path fits");

enum { MODE_BITS = 07777 };

static int failed(const char *what, const char *path)
{
    fprintf(stderr, "anysa: cannot %s %s: %s\n", what, path, strerror(errno));
    return CLI_FAILED;
}

/* Another editor may have put a new file into its place while we waited for the old one. */
static int lock(struct cli_file *f)
{
    struct stat ours, now;

    f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (f->fd < 0)
        return failed("open", f->path);
    if (flock(f->fd, LOCK_EX | LOCK_NB) != 0) {
        fprintf(stderr, "anysa: %s is being edited by another process; try again\n", f->path);
        return CLI_FAILED;
    }
    if (fstat(f->fd, &ours) != 0 || stat(f->path, &now) != 0)
        return failed("look at", f->path);
    if (ours.st_ino != now.st_ino || ours.st_dev != now.st_dev) {
        fprintf(stderr, "anysa: %s has just been replaced; try again\n", f->path);
        return CLI_FAILED;
    }
    return CLI_FINE;
}

int cli_file_open(const char *path, size_t max, bool secret, struct cli_file *f)
{
    struct config_error err = {.line = 0};
    struct config_source src = {.file = path, .err = &err};
    struct file_bytes bytes;
    int rc;

    *f = (struct cli_file){.fd = -1};
    if (!realpath(path, f->path))
        return failed("find", path);
    rc = lock(f);
    if (rc != CLI_FINE)
        return rc;
    if (config_read_file((struct config_at){.src = &src}, f->path, max, secret, &bytes) != ERR_OK) {
        fprintf(stderr, "anysa: %s\n", err.text);
        return CLI_USAGE;
    }
    f->p = secret_alloc(bytes.n + 1);
    if (f->p) {
        memcpy(f->p, bytes.p, bytes.n);
        f->n = bytes.n;
    }
    file_bytes_free(&bytes);
    return f->p ? CLI_FINE : CLI_FAILED;
}

static bool write_all(int fd, const uint8_t *p, size_t n)
{
    while (n) {
        ssize_t put = write(fd, p, n);
        if (put < 0 && errno != EINTR)
            return false;
        if (put > 0) {
            p += put;
            n -= (size_t)put;
        }
    }
    return true;
}

int cli_file_stage(struct cli_file *f, const uint8_t *p, size_t n)
{
    struct stat st;
    int fd, rc = CLI_FINE;

    snprintf(f->temp, sizeof f->temp, "%s.new-XXXXXX", f->path);
    fd = mkostemp(f->temp, O_CLOEXEC); /* 0600 */
    if (fd < 0) {
        rc = failed("make", f->temp);
        f->temp[0] = 0;
        return rc;
    }
    /* The owner first: a change of it may take mode bits away. */
    if (fstat(f->fd, &st) != 0 || fchown(fd, st.st_uid, st.st_gid) != 0 ||
        fchmod(fd, st.st_mode & MODE_BITS) != 0 || !write_all(fd, p, n) || fsync(fd) != 0)
        rc = failed("write", f->temp);
    if (close(fd) != 0 && rc == CLI_FINE)
        rc = failed("write", f->temp);
    return rc;
}

int cli_file_commit(struct cli_file *f)
{
    char copy[sizeof f->path];
    const char *dir;
    int fd;

    if (rename(f->temp, f->path) != 0)
        return failed("replace", f->path);
    f->temp[0] = 0;
    memcpy(copy, f->path, sizeof copy);
    dir = dirname(copy);
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        int rc = failed("make the change durable in", dir);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    close(fd);
    return CLI_FINE;
}

void cli_file_close(struct cli_file *f)
{
    if (f->temp[0])
        (void)unlink(f->temp);
    if (f->p)
        secret_free(f->p, f->n + 1);
    if (f->fd >= 0)
        close(f->fd);
    *f = (struct cli_file){.fd = -1};
}
