#include "sync/store_load.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "proto/log.h"
#include "proto/thread.h"

enum { PART_RECORDS = 256 };

struct part {
    struct part *next;
    size_t n;
    struct record *records[PART_RECORDS];
};

struct load {
    const struct store_options *options;
    struct db *db;     /* the checker's alone */
    struct db *reader; /* the reading thread's alone */
    atomic_bool stop;  /* the journal is damaged, or there is no memory */
    /* under the lock */
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct part *first, **last;
    bool read_all;
    int read_rc;
    int check_rc; /* the checker's; read once it has ended */
};

static void part_free(struct part *p)
{
    for (size_t i = 0; p && i < p->n; i++)
        record_free(p->records[i]);
    free(p);
}

/* ---- the two threads ---- */

static void *check(void *arg)
{
    struct load *l = arg;

    thread_begin("anysa-check");
    l->check_rc = db_check(l->db);
    if (l->check_rc != ERR_OK)
        atomic_store(&l->stop, true);
    return NULL;
}

/* NULL at the end, or on failure. */
static struct part *read_part(struct load *l, int *rc)
{
    struct part *p = malloc(sizeof *p);

    if (!p) {
        *rc = ERR_NOMEM;
        return NULL;
    }
    p->next = NULL;
    *rc = db_read_some(l->reader, p->records, PART_RECORDS, &p->n);
    if (*rc == ERR_OK && p->n)
        return p;
    part_free(p);
    return NULL;
}

static void *read_all(void *arg)
{
    struct load *l = arg;
    struct part *p;
    int rc = ERR_OK;

    thread_begin("anysa-read");
    while (!atomic_load(&l->stop) && (p = read_part(l, &rc)) != NULL) {
        pthread_mutex_lock(&l->lock);
        *l->last = p;
        l->last = &p->next;
        pthread_cond_signal(&l->news);
        pthread_mutex_unlock(&l->lock);
    }
    pthread_mutex_lock(&l->lock);
    l->read_all = true;
    l->read_rc = rc;
    pthread_cond_signal(&l->news);
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- the caller's side ---- */

static struct part *next_part(struct load *l)
{
    struct part *p;

    pthread_mutex_lock(&l->lock);
    while (!l->first && !l->read_all)
        pthread_cond_wait(&l->news, &l->lock);
    p = l->first;
    if (p) {
        l->first = p->next;
        if (!l->first)
            l->last = &l->first;
    }
    pthread_mutex_unlock(&l->lock);
    return p;
}

static int keep(struct sync_recovery *r, size_t *cap, struct part *p)
{
    if (r->n_records + p->n > *cap) {
        size_t more = 2 * *cap + PART_RECORDS;
        struct record **all = realloc(r->records, more * sizeof(struct record *));
        if (!all)
            return ERR_NOMEM;
        r->records = all;
        *cap = more;
    }
    memcpy(r->records + r->n_records, p->records, p->n * sizeof(struct record *));
    r->n_records += p->n;
    p->n = 0;
    return ERR_OK;
}

static int take_parts(struct load *l, struct sync_recovery *recovery)
{
    size_t expected = recovery->n_expected, cap = 0;
    struct part *p;
    int rc = ERR_OK;

    while ((p = next_part(l)) != NULL) {
        struct sync_recovery some = {
            .records = p->records, .n_records = p->n, .n_expected = expected};
        if (atomic_load(&l->stop)) {
            part_free(p);
            continue;
        }
        if (l->options->take) {
            l->options->take(l->options->read_ctx, &some);
            p->n = 0;
        } else if (keep(recovery, &cap, p) != ERR_OK) {
            rc = ERR_NOMEM;
            atomic_store(&l->stop, true);
        }
        part_free(p);
    }
    return rc;
}

/* Both threads, or neither is left when it fails. */
static int run(struct load *l, struct sync_recovery *recovery)
{
    pthread_t checker, reader;
    int rc;

    if (pthread_create(&checker, NULL, check, l) != 0)
        return ERR_IO;
    if (pthread_create(&reader, NULL, read_all, l) != 0) {
        pthread_join(checker, NULL);
        return ERR_IO;
    }
    rc = take_parts(l, recovery);
    pthread_join(reader, NULL);
    pthread_join(checker, NULL);
    if (rc == ERR_OK)
        rc = l->check_rc != ERR_OK ? l->check_rc : l->read_rc;
    return rc;
}

int store_load(struct db *db, const struct store_options *options, struct sync_recovery *recovery)
{
    struct load l = {.options = options, .db = db};
    int rc = db_open_reader(options, &l.reader);

    if (rc != ERR_OK)
        return rc;
    recovery->n_expected = db_expected_records(l.reader);
    l.last = &l.first;
    pthread_mutex_init(&l.lock, NULL);
    pthread_cond_init(&l.news, NULL);
    rc = run(&l, recovery);
    pthread_cond_destroy(&l.news);
    pthread_mutex_destroy(&l.lock);
    db_close(l.reader);
    if (rc == ERR_OK)
        rc = db_read_rest(db, options, recovery);
    if (rc != ERR_OK && options->forget)
        options->forget(options->read_ctx);
    return rc;
}
