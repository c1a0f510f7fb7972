/* Heap secrets come from page runs that are locked and excluded from dumps.
 * Sizes are rounded up by a quarter at most (multiples of 64, so that pieces are aligned to
 * cache lines) and kept on free lists, so a process with a million keys makes few system calls. */
#include "proto/secret.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "proto/err.h"
#include "proto/log.h"

enum {
    STEP = 64, /* 64, 128, 192, 256 bytes, then four sizes in each doubling */
    SMALL = 4 * STEP,
    RUN_BYTES = 128 * 1024, /* the largest size, too */
    CLASSES = 40,
};

int secret_set(struct secret *s, const void *bytes, size_t n)
{
    secret_wipe(s);
    if (n > SECRET_MAX)
        return ERR_FULL;
    if (n)
        memcpy(s->b, bytes, n);
    s->n = (uint8_t)n;
    return ERR_OK;
}

void secret_wipe(struct secret *s)
{
    wipe(s, sizeof *s);
}

void wipe(void *bytes, size_t n)
{
    if (n)
        explicit_bzero(bytes, n);
}

static size_t class_bytes(int class)
{
    int quarter = class % 4 + 1, doublings = class / 4 - 1;

    if (doublings < 0)
        return (size_t)quarter * STEP;
    return ((size_t)SMALL << doublings) + (size_t)quarter * ((size_t)STEP << doublings);
}

static int class_of(size_t n)
{
    int class = 0;

    while (class < CLASSES && class_bytes(class) < n)
        class ++;
    return class;
}

#if !SECRET_POOLED
/* The sanitizer must see each piece as an allocation of its own, or it would miss overruns,
 * uses after free and leaks in all that lives here. */
void *secret_alloc(size_t n)
{
    return class_of(n) < CLASSES ? calloc(1, n ? n : 1) : NULL;
}

void secret_free(void *bytes, size_t n)
{
    if (bytes)
        wipe(bytes, n);
    free(bytes);
}
#else
struct free_piece {
    struct free_piece *next;
};

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static struct free_piece *pool[CLASSES];

/* Adds one run of pages to a class. Locking may be refused (RLIMIT_MEMLOCK):
 * that is said once and the memory is used all the same. */
static int grow(int class)
{
    static int told;
    size_t piece = class_bytes(class);
    uint8_t *run =
        mmap(NULL, RUN_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (run == MAP_FAILED)
        return ERR_NOMEM;
    (void)madvise(run, RUN_BYTES, MADV_DONTDUMP);
    if (mlock(run, RUN_BYTES) != 0 && !told) {
        told = 1;
        log_warn("secret", "cannot lock key memory (raise RLIMIT_MEMLOCK); keys may reach swap");
    }
    for (size_t at = 0; at + piece <= RUN_BYTES; at += piece) {
        struct free_piece *f = (struct free_piece *)(void *)(run + at);
        f->next = pool[class];
        pool[class] = f;
    }
    return ERR_OK;
}

void *secret_alloc(size_t n)
{
    int class = class_of(n);
    struct free_piece *f = NULL;

    if (class >= CLASSES)
        return NULL;
    pthread_mutex_lock(&pool_lock);
    if (pool[class] || grow(class) == ERR_OK) {
        f = pool[class];
        pool[class] = f->next;
    }
    pthread_mutex_unlock(&pool_lock);
    if (f)
        memset(f, 0, class_bytes(class));
    return f;
}

void secret_free(void *bytes, size_t n)
{
    int class = class_of(n);
    struct free_piece *f = bytes;

    if (!bytes)
        return;
    wipe(bytes, n);
    pthread_mutex_lock(&pool_lock);
    f->next = pool[class];
    pool[class] = f;
    pthread_mutex_unlock(&pool_lock);
}
#endif

int secret_harden_process(void)
{
    struct rlimit none = {0, 0};

    if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0) != 0)
        return ERR_IO;
    return ERR_OK;
}
