/* The journal's thread.
 *
 * The loop thread appends batches to a queue; this thread takes all that wait and makes them
 * one transaction, so many exchanges share one fsync. Batches stay in the queue's hands
 * until they are durable: when the disk refuses, they are written anew (not merely synced anew:
 * what a failed fsync leaves in the page cache is lost) every RETRY_MS, with what came meanwhile;
 * poll says `failed`, and nothing is skipped. What waits is merged (store_merge.h), here after a
 * failure and in submit when much has gathered behind a disk that hangs. Should even so much wait
 * that ERR_FULL is due, later batches are refused for good, because a vector must never be
 * written that covers records which were not; the remedy is a restart, which recovers from
 * the other members. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/err.h"
#include "proto/log.h"
#include "proto/thread.h"
#include "sync/store.h"
#include "sync/store_aside.h"
#include "sync/store_db.h"
#include "sync/store_load.h"
#include "sync/store_merge.h"
#include "sync/store_wal.h"

enum {
    WAITING_RECORDS_MAX = 4000000,
    MERGE_FROM_RECORDS = 65536, /* so much in the queue is worth a look for duplicates */
    RETRY_MS = 200,
    HANGING_MS = 5000, /* a disk that answers nothing for so long counts as failed */
    EXPIRE_EVERY_MS = 3600 * 1000,
    EXPIRE_FIRST_MS = 10 * 1000, /* after the start, which has better to do */
    QUIET_MS = 1000,             /* a good moment to expire; without one it is done an hour late */
    GATHER_MS = 10,              /* what nobody waits for waits for more, so long, */
    GATHER_RECORDS = 256,        /* or until it is so much */
};

struct sqlite_store {
    struct store base; /* first: ops are called with it */
    struct db *db;     /* the thread's alone once it runs */
    pthread_t thread;
    void (*wake)(void *ctx);
    void *wake_ctx;
    uint32_t retry_ms, hanging_ms;
    /* under the lock */
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct sync_batch **queue;
    size_t n_queue, cap_queue;
    size_t queued, merge_at;  /* records (and batches) in the queue; when to merge them */
    size_t held;              /* the same in the thread's hands */
    uint64_t queued_since_us; /* when the queue's first batch came */
    bool urgent;              /* one of them is */
    uint64_t durable;
    uint64_t held_since_us; /* when the thread took what it holds; 0: it holds nothing */
    bool failed, full, stop;
    char why[STORE_WHY_BYTES];  /* the last failure */
    struct cluster_key *rewrap; /* secret_alloc'ed: wrap the journal key under it; NULL: as it is */
    uint32_t wrapped;           /* the id of the key that it is wrapped under */
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

static size_t weight(struct sync_batch *const *batches, size_t n)
{
    size_t records = 0;

    for (size_t i = 0; i < n; i++)
        records += batches[i]->n_records + 1;
    return records;
}

/* What the thread holds: the queue's array, taken whole. */
struct hold {
    struct sync_batch **batches;
    size_t n;
};

/* Adds the queue to what is held. Under the lock. */
static void take_queue(struct sqlite_store *s, struct hold *h)
{
    struct sync_batch **all;

    if (s->n_queue == 0)
        return;
    if (h->n == 0) {
        h->batches = s->queue;
        h->n = s->n_queue;
    } else {
        all = realloc(h->batches, (h->n + s->n_queue) * sizeof(struct sync_batch *));
        if (!all)
            return; /* they wait where they are */
        memcpy(all + h->n, s->queue, s->n_queue * sizeof(struct sync_batch *));
        h->batches = all;
        h->n += s->n_queue;
        free(s->queue);
    }
    s->queue = NULL;
    s->n_queue = s->cap_queue = 0;
    s->held += s->queued;
    s->queued = 0;
    s->urgent = false;
    if (s->held_since_us == 0)
        s->held_since_us = now_read().mono_us;
}

/* What others made is theirs to keep until it is here, and comes in many small batches: a commit
 * for each would take the processor and the disk from what answers wait for. Under the lock. */
static bool gathers(const struct sqlite_store *s, uint64_t now_us)
{
    return s->n_queue && !s->urgent && !s->stop && !s->rewrap && s->queued < GATHER_RECORDS &&
           now_us < s->queued_since_us + (uint64_t)GATHER_MS * 1000;
}

/* Takes all that waits, or waits for it; none once stopped and empty, or idle. */
static struct hold take(struct sqlite_store *s, uint32_t patience_ms, bool *idle)
{
    struct hold h = {0};

    pthread_mutex_lock(&s->lock);
    if (s->n_queue == 0 && !s->stop)
        wait_ms(s, patience_ms);
    while (gathers(s, now_read().mono_us))
        wait_ms(s, GATHER_MS); /* or a little longer: what changes this wakes us */
    *idle = s->n_queue == 0 && !s->stop;
    take_queue(s, &h);
    pthread_mutex_unlock(&s->lock);
    return h;
}

static void told_durable(struct sqlite_store *s, const struct hold *h)
{
    pthread_mutex_lock(&s->lock);
    s->failed = false;
    for (size_t i = 0; i < h->n; i++)
        if (h->batches[i]->ticket > s->durable)
            s->durable = h->batches[i]->ticket;
    s->held = 0;
    s->held_since_us = 0;
    pthread_mutex_unlock(&s->lock);
    if (s->wake)
        s->wake(s->wake_ctx);
}

/* Waits a little, then takes what came meanwhile; false when the store is being closed. */
static bool told_failed(struct sqlite_store *s, struct hold *h)
{
    uint64_t now_us, until_us = now_read().mono_us + (uint64_t)s->retry_ms * 1000;
    bool stop;

    pthread_mutex_lock(&s->lock);
    s->failed = true;
    snprintf(s->why, sizeof s->why, "%s", db_why(s->db));
    pthread_mutex_unlock(&s->lock);
    if (s->wake)
        s->wake(s->wake_ctx);
    pthread_mutex_lock(&s->lock);
    while (!s->stop && (now_us = now_read().mono_us) < until_us)
        wait_ms(s, (uint32_t)((until_us - now_us) / 1000 + 1)); /* a submit may wake us */
    stop = s->stop;
    if (!stop)
        take_queue(s, h);
    pthread_mutex_unlock(&s->lock);
    if (stop)
        return false;
    h->n = store_merge(h->batches, h->n, now_read().wall_ms);
    pthread_mutex_lock(&s->lock);
    s->held = weight(h->batches, h->n);
    pthread_mutex_unlock(&s->lock);
    return true;
}

/* Until it is done, or the store is being closed. */
static void commit(struct sqlite_store *s, struct hold *h)
{
    bool durable, go_on = true;

    while (!(durable = db_commit(s->db, h->batches, h->n) == ERR_OK) && go_on)
        go_on = told_failed(s, h);
    if (durable)
        told_durable(s, h);
    else
        log_error("journal", "closed with %zu batches that could not be written", h->n);
    for (size_t i = 0; i < h->n; i++)
        sync_batch_free(h->batches[i]);
    free(h->batches);
}

/* A refusal of the disk is tried again at the next turn. */
static void rewrap_if_asked(struct sqlite_store *s)
{
    struct cluster_key *key;
    bool done;

    pthread_mutex_lock(&s->lock);
    key = s->rewrap;
    s->rewrap = NULL;
    pthread_mutex_unlock(&s->lock);
    if (!key)
        return;
    done = db_rewrap(s->db, key) == ERR_OK;
    pthread_mutex_lock(&s->lock);
    if (done)
        s->wrapped = key->id;
    else if (!s->rewrap) {
        s->rewrap = key;
        key = NULL;
    }
    pthread_mutex_unlock(&s->lock);
    if (key)
        secret_free(key, sizeof *key);
    if (done && s->wake)
        s->wake(s->wake_ctx);
}

static void *thread_main(void *arg)
{
    struct sqlite_store *s = arg;
    const uint64_t every_us = (uint64_t)EXPIRE_EVERY_MS * 1000;
    uint64_t expire_us = now_read().mono_us + (uint64_t)EXPIRE_FIRST_MS * 1000;
    bool stop = false, idle;

    thread_begin("anysa-journal");
    while (!stop) {
        struct hold h = take(s, QUIET_MS, &idle);
        if (h.n)
            commit(s, &h);
        rewrap_if_asked(s);
        if (now_read().mono_us >= expire_us + (idle ? 0 : every_us)) {
            (void)db_expire(s->db, now_read().wall_ms);
            expire_us = now_read().mono_us + every_us;
        }
        pthread_mutex_lock(&s->lock);
        stop = s->stop && s->n_queue == 0;
        pthread_mutex_unlock(&s->lock);
    }
    return NULL;
}

/* ---- the loop's side ---- */

/* Under the lock. */
static bool room_in_queue(struct sqlite_store *s)
{
    struct sync_batch **more;
    size_t cap = s->cap_queue ? s->cap_queue * 2 : 64;

    if (s->queued >= s->merge_at) {
        s->n_queue = store_merge(s->queue, s->n_queue, now_read().wall_ms);
        s->queued = weight(s->queue, s->n_queue);
        s->merge_at = 2 * s->queued > MERGE_FROM_RECORDS ? 2 * s->queued : MERGE_FROM_RECORDS;
    }
    if (s->queued + s->held >= WAITING_RECORDS_MAX)
        return false;
    if (s->n_queue < s->cap_queue)
        return true;
    more = realloc(s->queue, cap * sizeof(struct sync_batch *));
    if (!more)
        return false;
    s->queue = more;
    s->cap_queue = cap;
    return true;
}

static int sqlite_submit(struct store *store, struct sync_batch *batch)
{
    struct sqlite_store *s = self_of(store);
    bool was_full, full;

    pthread_mutex_lock(&s->lock);
    was_full = s->full;
    s->full = full = was_full || !room_in_queue(s);
    if (!full) {
        if (s->n_queue == 0)
            s->queued_since_us = now_read().mono_us;
        s->queue[s->n_queue++] = batch;
        s->queued += batch->n_records + 1;
        s->urgent |= batch->urgent;
        if (s->n_queue == 1 || !gathers(s, s->queued_since_us))
            pthread_cond_signal(&s->work);
    }
    pthread_mutex_unlock(&s->lock);
    if (!full)
        return ERR_OK;
    if (!was_full)
        log_error("journal",
                  "too much waits for the disk: nothing more is journalled until restart");
    sync_batch_free(batch);
    return ERR_FULL;
}

/* Under the lock. */
static bool hangs(const struct sqlite_store *s)
{
    return s->held_since_us &&
           now_read().mono_us - s->held_since_us > (uint64_t)s->hanging_ms * 1000;
}

static uint64_t sqlite_poll(struct store *store, bool *failed)
{
    struct sqlite_store *s = self_of(store);
    uint64_t durable;

    pthread_mutex_lock(&s->lock);
    durable = s->durable;
    *failed = s->failed || s->full || hangs(s);
    pthread_mutex_unlock(&s->lock);
    return durable;
}

static void sqlite_why(struct store *store, char out[STORE_WHY_BYTES])
{
    struct sqlite_store *s = self_of(store);

    pthread_mutex_lock(&s->lock);
    if (s->full)
        snprintf(out, STORE_WHY_BYTES, "too much waited for the disk: restart the node");
    else if (s->failed)
        memcpy(out, s->why, STORE_WHY_BYTES);
    else if (hangs(s))
        snprintf(out, STORE_WHY_BYTES, "the disk has not answered for %u s", s->hanging_ms / 1000);
    else
        out[0] = 0;
    pthread_mutex_unlock(&s->lock);
}

static size_t sqlite_waiting(struct store *store)
{
    struct sqlite_store *s = self_of(store);
    size_t n;

    pthread_mutex_lock(&s->lock);
    n = s->queued + s->held;
    pthread_mutex_unlock(&s->lock);
    return n;
}

static int sqlite_rewrap(struct store *store, const struct cluster_key *key)
{
    struct sqlite_store *s = self_of(store);
    struct cluster_key *copy = secret_alloc(sizeof *copy), *before;

    if (!copy)
        return ERR_NOMEM;
    *copy = *key;
    pthread_mutex_lock(&s->lock);
    before = s->rewrap;
    s->rewrap = copy;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    if (before)
        secret_free(before, sizeof *before);
    return ERR_OK;
}

static uint32_t sqlite_wrapped(struct store *store)
{
    struct sqlite_store *s = self_of(store);
    uint32_t id;

    pthread_mutex_lock(&s->lock);
    id = s->wrapped;
    pthread_mutex_unlock(&s->lock);
    return id;
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
    if (s->rewrap)
        secret_free(s->rewrap, sizeof *s->rewrap);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static const struct store_ops sqlite_ops = {sqlite_submit, sqlite_poll,    sqlite_close,
                                            sqlite_why,    sqlite_waiting, sqlite_rewrap,
                                            sqlite_wrapped};

/* ---- opening ---- */

static int open_and_read(const struct store_options *options, struct db **db,
                         struct sync_recovery *recovery)
{
    enum wal_state wal = wal_look(options->path);
    bool fresh;
    int rc;

    memset(recovery, 0, sizeof *recovery);
    if (wal == WAL_ORPHAN) {
        log_error("journal", "%s is empty or missing, but its log is there", options->path);
        return ERR_INVALID;
    }
    rc = db_open(options, db, &fresh);
    if (rc != ERR_OK)
        return rc;
    rc = store_load(*db, options, recovery);
    recovery->journal_empty = fresh;
    recovery->journal_cut = wal == WAL_DAMAGED;
    if (recovery->journal_cut)
        log_error("journal",
                  "%s-wal is damaged: what was written last is lost here and comes from the other "
                  "members",
                  options->path);
    if (rc != ERR_OK) {
        store_recovery_free(recovery);
        db_close(*db);
        *db = NULL;
        return rc;
    }
    db_accept(*db);
    return ERR_OK;
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
    s->retry_ms = options->retry_ms ? options->retry_ms : RETRY_MS;
    s->hanging_ms = options->hanging_ms ? options->hanging_ms : HANGING_MS;
    rc = open_and_read(options, &s->db, recovery);
    if (rc == ERR_INVALID) {
        rc = store_set_aside(options->path);
        if (rc == ERR_OK)
            rc = open_and_read(options, &s->db, recovery);
    }
    if (rc != ERR_OK) {
        free(s);
        return rc;
    }
    s->merge_at = MERGE_FROM_RECORDS;
    s->wrapped = options->keys[0].id; /* db_open saw to it */
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
