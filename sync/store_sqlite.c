/* The journal's thread.
 *
 * The loop thread appends batches to a queue; this thread takes all that wait and makes them
 * one transaction, so many exchanges share one fsync. Batches stay in the queue's hands
 * until they are durable: when the disk refuses, the same ones are tried again every
 * RETRY_MS, poll says `failed` meanwhile, and nothing is skipped. Should so much wait that
 * ERR_FULL is due, later batches are refused for good, because a vector must never be
 * written that covers records which were not; the remedy is a restart, which recovers from
 * the other members. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/err.h"
#include "proto/log.h"
#include "sync/store.h"
#include "sync/store_db.h"

enum {
    WAITING_RECORDS_MAX = 500000,
    RETRY_MS = 200,
    EXPIRE_EVERY_MS = 3600 * 1000,
};

struct sqlite_store {
    struct store base; /* first: ops are called with it */
    struct db *db;     /* the thread's alone once it runs */
    pthread_t thread;
    void (*wake)(void *ctx);
    void *wake_ctx;
    /* under the lock */
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct sync_batch **queue;
    size_t n_queue, cap_queue, waiting_records;
    uint64_t durable;
    bool failed, full, stop;
};

static struct sqlite_store *self_of(struct store *s)
{
    return (struct sqlite_store *)(void *)s;
}

/* ---- the thread ---- */

static void wait_ms(struct sqlite_store *s, uint32_t ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    (void)pthread_cond_timedwait(&s->work, &s->lock, &until);
}

/* Takes all that waits, or waits for it; NULL once stopped and empty. Expires meanwhile. */
static struct sync_batch **take(struct sqlite_store *s, size_t *n, bool *idle)
{
    struct sync_batch **batches = NULL;

    *n = 0;
    *idle = false;
    pthread_mutex_lock(&s->lock);
    if (s->n_queue == 0 && !s->stop) {
        wait_ms(s, EXPIRE_EVERY_MS / 10);
        *idle = s->n_queue == 0 && !s->stop;
    }
    if (s->n_queue) {
        batches = s->queue;
        *n = s->n_queue;
        s->queue = NULL;
        s->n_queue = s->cap_queue = 0;
    }
    pthread_mutex_unlock(&s->lock);
    return batches;
}

static void told(struct sqlite_store *s, struct sync_batch **batches, size_t n, bool failed)
{
    pthread_mutex_lock(&s->lock);
    s->failed = failed;
    for (size_t i = 0; !failed && i < n; i++) {
        if (batches[i]->ticket > s->durable)
            s->durable = batches[i]->ticket;
        s->waiting_records -= batches[i]->n_records + 1;
    }
    pthread_mutex_unlock(&s->lock);
    if (s->wake)
        s->wake(s->wake_ctx);
}

/* Until it is done, or the store is being closed. */
static void commit(struct sqlite_store *s, struct sync_batch **batches, size_t n)
{
    bool stop = false;

    while (db_commit(s->db, batches, n) != ERR_OK && !stop) {
        told(s, batches, n, true);
        pthread_mutex_lock(&s->lock);
        if (!s->stop)
            wait_ms(s, RETRY_MS);
        stop = s->stop;
        pthread_mutex_unlock(&s->lock);
    }
    if (!stop)
        told(s, batches, n, false);
    else
        log_error("journal", "closed with %zu batches that could not be written", n);
    for (size_t i = 0; i < n; i++)
        sync_batch_free(batches[i]);
    free(batches);
}

static void *thread_main(void *arg)
{
    struct sqlite_store *s = arg;
    uint64_t expired_us = now_read().mono_us;
    bool stop = false, idle;

    while (!stop) {
        size_t n;
        struct sync_batch **batches = take(s, &n, &idle);
        if (batches)
            commit(s, batches, n);
        if (idle && now_read().mono_us - expired_us > (uint64_t)EXPIRE_EVERY_MS * 1000) {
            (void)db_expire(s->db, now_read().wall_ms);
            expired_us = now_read().mono_us;
        }
        pthread_mutex_lock(&s->lock);
        stop = s->stop && s->n_queue == 0;
        pthread_mutex_unlock(&s->lock);
    }
    return NULL;
}

/* ---- the loop's side ---- */

static int sqlite_submit(struct store *store, struct sync_batch *batch)
{
    struct sqlite_store *s = self_of(store);
    int rc = ERR_OK;

    pthread_mutex_lock(&s->lock);
    if (s->waiting_records + batch->n_records >= WAITING_RECORDS_MAX)
        s->full = true;
    if (!s->full && s->n_queue == s->cap_queue) {
        size_t cap = s->cap_queue ? s->cap_queue * 2 : 64;
        struct sync_batch **more = realloc(s->queue, cap * sizeof(struct sync_batch *));
        if (more) {
            s->queue = more;
            s->cap_queue = cap;
        } else {
            s->full = true;
        }
    }
    if (s->full) {
        rc = ERR_FULL;
    } else {
        s->queue[s->n_queue++] = batch;
        s->waiting_records += batch->n_records + 1;
        pthread_cond_signal(&s->work);
    }
    pthread_mutex_unlock(&s->lock);
    if (rc != ERR_OK) {
        log_error("journal",
                  "too much waits for the disk: nothing more is journalled until restart");
        sync_batch_free(batch);
    }
    return rc;
}

static uint64_t sqlite_poll(struct store *store, bool *failed)
{
    struct sqlite_store *s = self_of(store);
    uint64_t durable;

    pthread_mutex_lock(&s->lock);
    durable = s->durable;
    *failed = s->failed || s->full;
    pthread_mutex_unlock(&s->lock);
    return durable;
}

static void sqlite_close(struct store *store)
{
    struct sqlite_store *s = self_of(store);

    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    db_close(s->db);
    for (size_t i = 0; i < s->n_queue; i++)
        sync_batch_free(s->queue[i]);
    free(s->queue);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static const struct store_ops sqlite_ops = {sqlite_submit, sqlite_poll, sqlite_close};

/* ---- opening ---- */

/* Renames the database and its log; a later look at them stays possible. */
static int set_aside(const char *path)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    int64_t stamp = now_read().wall_ms;
    char from[4096], to[4096];

    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        if (snprintf(from, sizeof from, "%s%s", path, suffixes[i]) >= (int)sizeof from ||
            snprintf(to, sizeof to, "%s.aside-%lld%s", path, (long long)stamp, suffixes[i]) >=
                (int)sizeof to)
            return ERR_CONFIG;
        if (rename(from, to) != 0 && (i == 0 || errno != ENOENT)) {
            log_error("journal", "cannot set %s aside: %m", from);
            return ERR_IO;
        }
    }
    log_error("journal", "%s was unusable and is set aside as %s.aside-%lld; a new one is begun",
              path, path, (long long)stamp);
    return ERR_OK;
}

static int open_and_read(const struct store_options *options, struct db **db,
                         struct sync_recovery *recovery)
{
    bool fresh;
    int rc;

    memset(recovery, 0, sizeof *recovery);
    rc = db_open(options, db, &fresh);
    if (rc != ERR_OK)
        return rc;
    rc = db_read(*db, options, recovery);
    recovery->journal_empty = fresh;
    if (rc != ERR_OK) {
        store_recovery_free(recovery);
        db_close(*db);
        *db = NULL;
    }
    return rc;
}

int store_sqlite_open(const struct store_options *options, struct store **out,
                      struct sync_recovery *recovery)
{
    struct sqlite_store *s = calloc(1, sizeof *s);
    pthread_condattr_t monotonic;
    int rc;

    *out = NULL;
    if (!s)
        return ERR_NOMEM;
    s->base.ops = &sqlite_ops;
    s->wake = options->wake;
    s->wake_ctx = options->wake_ctx;
    rc = open_and_read(options, &s->db, recovery);
    if (rc == ERR_INVALID) {
        rc = set_aside(options->path);
        if (rc == ERR_OK)
            rc = open_and_read(options, &s->db, recovery);
    }
    if (rc != ERR_OK) {
        free(s);
        return rc;
    }
    (void)db_expire(s->db, now_read().wall_ms);
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->work, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&s->thread, NULL, thread_main, s) != 0) {
        log_error("journal", "cannot start the journal's thread");
        store_recovery_free(recovery);
        db_close(s->db);
        free(s);
        return ERR_IO;
    }
    *out = &s->base;
    return ERR_OK;
}
