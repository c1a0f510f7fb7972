/* LD_PRELOAD for anysad: a disk that keeps of the journal's log what fdatasync() had reached, and
 * nothing else, when the process is killed; and that takes its time over that.
 *
 * After kill -9 the kernel still has every page that was written, synced or not, so that a node
 * which answers before its disk has caught up would never be found out. Here writes to files named
 * *-wal (SQLite's log, where every commit goes) are held back in the process, reads see them, and
 * fdatasync() or fsync() hands them to the kernel after SYNC_US. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { FDS = 1024, SYNC_US = 3000 };

struct held {
    struct held *next;
    off64_t at;
    size_t n;
    char bytes[];
};
struct file {
    int is_log;
    struct held *first, **last;
};
static struct file files[FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static struct file *log_of(int fd)
{
    return fd >= 0 && fd < FDS && files[fd].is_log ? &files[fd] : NULL;
}

static int noted(int fd, const char *path)
{
    size_t n = strlen(path);

    if (fd >= 0 && fd < FDS && n > 4 && strcmp(path + n - 4, "-wal") == 0)
        files[fd] = (struct file){.is_log = 1, .last = &files[fd].first};
    return fd;
}

int open(const char *path, int flags, ...)
{
    REAL(open);
    __builtin_va_list args;
    mode_t mode;

    __builtin_va_start(args, flags);
    mode = __builtin_va_arg(args, mode_t);
    __builtin_va_end(args);
    return noted(real(path, flags, mode), path);
}

int open64(const char *path, int flags, ...)
{
    REAL(open64);
    __builtin_va_list args;
    mode_t mode;

    __builtin_va_start(args, flags);
    mode = __builtin_va_arg(args, mode_t);
    __builtin_va_end(args);
    return noted(real(path, flags, mode), path);
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at)
{
    REAL(pwrite64);
    struct file *f = log_of(fd);
    struct held *h;

    if (!f)
        return real(fd, bytes, n, at);
    h = malloc(sizeof *h + n);
    if (!h)
        abort();
    h->next = NULL;
    h->at = at;
    h->n = n;
    memcpy(h->bytes, bytes, n);
    pthread_mutex_lock(&lock);
    *f->last = h;
    f->last = &h->next;
    pthread_mutex_unlock(&lock);
    return (ssize_t)n;
}

ssize_t pread64(int fd, void *bytes, size_t n, off64_t at)
{
    REAL(pread64);
    struct file *f = log_of(fd);
    ssize_t got;

    if (!f)
        return real(fd, bytes, n, at);
    pthread_mutex_lock(&lock);
    got = real(fd, bytes, n, at);
    if (got >= 0 && (size_t)got < n)
        memset((char *)bytes + got, 0, n - (size_t)got);
    for (struct held *h = f->first; got >= 0 && h; h = h->next) {
        off64_t from = h->at > at ? h->at : at;
        off64_t to =
            h->at + (off64_t)h->n < at + (off64_t)n ? h->at + (off64_t)h->n : at + (off64_t)n;
        if (from >= to)
            continue;
        memcpy((char *)bytes + (from - at), h->bytes + (from - h->at), (size_t)(to - from));
        if (to - at > got)
            got = to - at;
    }
    pthread_mutex_unlock(&lock);
    return got;
}

static void hand_over(int fd, struct file *f)
{
    ssize_t (*real)(int, const void *, size_t, off64_t) =
        (ssize_t(*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");

    pthread_mutex_lock(&lock);
    while (f->first) {
        struct held *h = f->first;

        if (real(fd, h->bytes, h->n, h->at) != (ssize_t)h->n)
            abort();
        f->first = h->next;
        free(h);
    }
    f->last = &f->first;
    pthread_mutex_unlock(&lock);
}

static int sync_after_a_while(int fd, int (*real)(int))
{
    struct file *f = log_of(fd);

    if (f) {
        usleep(SYNC_US);
        hand_over(fd, f);
    }
    return real(fd);
}

int fdatasync(int fd)
{
    REAL(fdatasync);

    return sync_after_a_while(fd, real);
}

int fsync(int fd)
{
    REAL(fsync);

    return sync_after_a_while(fd, real);
}

int ftruncate64(int fd, off64_t size)
{
    REAL(ftruncate64);
    struct file *f = log_of(fd);

    if (f)
        hand_over(fd, f);
    return real(fd, size);
}

int close(int fd)
{
    REAL(close);
    struct file *f = log_of(fd);

    if (f) {
        hand_over(fd, f);
        f->is_log = 0;
    }
    return real(fd);
}
