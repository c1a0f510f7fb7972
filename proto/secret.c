/* Heap secrets come from page runs that are locked and excluded from dumps. A free piece is zero
 * but for its link, so what is handed out need not be cleared again.
 * Sizes are rounded up by a quarter at most (multiples of 64, so that pieces are aligned to
 * cache lines) and kept on free lists, so a process with a million keys makes few system calls. */
#include "proto/secret.h"

#include <pthread.h>
#include <stdbool.h>
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
    LARGEST_BYTES = 1 << 30, /* no secret is larger: a size beyond it is a mistake */
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

/* The smallest that holds n; CLASSES when none does. */
static int class_of(size_t n)
{
    int high;

    if (n > RUN_BYTES)
        return CLASSES;
    if (n <= SMALL)
        return n ? (int)((n - 1) / STEP) : 0;
    high = 63 - __builtin_clzll(n - 1); /* at least 8 */
    return (high - 7) * 4 + (int)((n - 1 - ((size_t)1 << high)) >> (high - 2));
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

static void *alloc_large(size_t n)
{
    return calloc(1, n);
}

static void free_large(void *bytes, size_t n)
{
    secret_free(bytes, n);
}

struct secret_memory secret_memory(void)
{
    return (struct secret_memory){0};
}
#else
struct free_piece {
    struct free_piece *next; /* all else is zero */
};

struct class
{
    struct free_piece *free;
    uint8_t *fresh; /* zeroed pieces that nobody had yet */
    size_t fresh_bytes;
};

static pthread_mutex_t pool_lock = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP; /* held for a moment */
static struct class pool[CLASSES];
static struct secret_memory held;
static bool told;

/* Under pool_lock. */
static void tell_unlocked(void)
{
    struct rlimit limit = {0, 0};

    if (told)
        return;
    told = true;
    (void)getrlimit(RLIMIT_MEMLOCK, &limit);
    log_warn("secret",
             "key memory cannot be locked beyond %zu KiB and may reach swap: RLIMIT_MEMLOCK is "
             "%llu KiB; grant CAP_IPC_LOCK or raise it (LimitMEMLOCK=infinity, --ulimit "
             "memlock=-1)",
             held.locked_bytes / 1024, (unsigned long long)limit.rlim_cur / 1024);
}

/* A page run, locked and kept out of dumps. Locking may be refused (RLIMIT_MEMLOCK): that is
 * said once and the memory is used all the same. */
static void *map_run(size_t n)
{
    void *run = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool locked;

    if (run == MAP_FAILED)
        return NULL;
    (void)madvise(run, n, MADV_DONTDUMP);
    locked = mlock(run, n) == 0;
    pthread_mutex_lock(&pool_lock);
    if (locked) {
        held.locked_bytes += n;
    } else {
        held.unlocked_bytes += n;
        tell_unlocked();
    }
    pthread_mutex_unlock(&pool_lock);
    return run;
}

static size_t class_bytes(int class)
{
    int quarter = class % 4 + 1, doublings = class / 4 - 1;

    if (doublings < 0)
        return (size_t)quarter * STEP;
    return ((size_t)SMALL << doublings) + (size_t)quarter * ((size_t)STEP << doublings);
}

/* Adds one run of pages to a class. Without the lock: the kernel clears the pages meanwhile. */
static int grow(int class)
{
    size_t piece = class_bytes(class);
    struct class *c = &pool[class];
    uint8_t *run = map_run(RUN_BYTES);

    if (!run)
        return ERR_NOMEM;
    pthread_mutex_lock(&pool_lock);
    for (; c->fresh_bytes >= piece; c->fresh += piece, c->fresh_bytes -= piece) {
        struct free_piece *f = (struct free_piece *)(void *)c->fresh; /* of another thread's run */
        f->next = c->free;
        c->free = f;
    }
    c->fresh = run;
    c->fresh_bytes = RUN_BYTES;
    pthread_mutex_unlock(&pool_lock);
    return ERR_OK;
}

/* NULL: there is none at present. */
static void *take_piece(struct class *c, size_t piece)
{
    struct free_piece *f;

    pthread_mutex_lock(&pool_lock);
    f = c->free;
    if (f) {
        c->free = f->next;
        f->next = NULL;
    } else if (c->fresh_bytes >= piece) {
        f = (struct free_piece *)(void *)c->fresh;
        c->fresh += piece;
        c->fresh_bytes -= piece;
    }
    pthread_mutex_unlock(&pool_lock);
    return f;
}

void *secret_alloc(size_t n)
{
    int class = class_of(n);
    void *piece;

    if (class >= CLASSES)
        return NULL;
    while ((piece = take_piece(&pool[class], class_bytes(class))) == NULL)
        if (grow(class) != ERR_OK)
            return NULL;
    return piece;
}

void secret_free(void *bytes, size_t n)
{
    struct class *c = &pool[class_of(n)];
    struct free_piece *f = bytes;

    if (!bytes)
        return;
    wipe(bytes, n);
    pthread_mutex_lock(&pool_lock);
    f->next = c->free;
    c->free = f;
    pthread_mutex_unlock(&pool_lock);
}

/* A run of its own, given back to the system. */
static void *alloc_large(size_t n)
{
    return map_run(n);
}

static void free_large(void *bytes, size_t n)
{
    (void)munmap(bytes, n); /* the kernel clears pages before anybody else sees them */
    pthread_mutex_lock(&pool_lock);
    if (held.unlocked_bytes >= n) /* which of the two it was, the kernel alone knows */
        held.unlocked_bytes -= n;
    else
        held.locked_bytes -= n;
    pthread_mutex_unlock(&pool_lock);
}

struct secret_memory secret_memory(void)
{
    struct secret_memory now;

    pthread_mutex_lock(&pool_lock);
    now = held;
    pthread_mutex_unlock(&pool_lock);
    return now;
}
#endif

/* ---- in the manner of malloc ---- */

struct sized {                 /* before the caller's bytes */
    _Alignas(16) size_t bytes; /* header included */
};
_Static_assert(sizeof(struct sized) == 16, "what follows is aligned as malloc's is");

static struct sized *sized_of(void *bytes)
{
    return (struct sized *)bytes - 1;
}

void *secret_malloc(size_t n)
{
    size_t bytes = n + sizeof(struct sized);
    struct sized *s;

    if (n > LARGEST_BYTES)
        return NULL;
    s = bytes <= RUN_BYTES ? secret_alloc(bytes) : alloc_large(bytes);
    if (!s)
        return NULL;
    s->bytes = bytes;
    return s + 1;
}

void secret_release(void *bytes)
{
    struct sized *s;

    if (!bytes)
        return;
    s = sized_of(bytes);
    if (s->bytes <= RUN_BYTES)
        secret_free(s, s->bytes);
    else
        free_large(s, s->bytes);
}

void *secret_realloc(void *bytes, size_t n)
{
    size_t before = bytes ? sized_of(bytes)->bytes - sizeof(struct sized) : 0;
    void *moved = n ? secret_malloc(n) : NULL;

    if (!moved && n)
        return NULL;
    if (moved && before)
        memcpy(moved, bytes, before < n ? before : n);
    secret_release(bytes);
    return moved;
}

/* ---- the process ---- */

int secret_harden_process(void)
{
    struct rlimit none = {0, 0}, all = {RLIM_INFINITY, RLIM_INFINITY};

    if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0) != 0)
        return ERR_IO;
    if (setrlimit(RLIMIT_MEMLOCK, &all) != 0 && getrlimit(RLIMIT_MEMLOCK, &all) == 0) {
        all.rlim_cur = all.rlim_max;
        (void)setrlimit(RLIMIT_MEMLOCK, &all);
    }
    return ERR_OK;
}
