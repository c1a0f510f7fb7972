/* A member's journal, as sync/store_sqlite.c keeps it: what waits becomes one transaction, which
 * is durable as a whole, after a while, or not at all. A crash loses what was not durable; the
 * transaction being written then may have made it. A disk that refuses is tried again. */
#include <stdlib.h>
#include <string.h>

#include "sync/join.h"
#include "tests/sim/sim.h"

enum { RETRY_US = 200000 };

static void put_record(struct disk *d, struct record *r) /* takes r */
{
    for (size_t i = 0; i < d->n_records; i++)
        if (d->records[i]->kind == r->kind && record_key(d->records[i]) == record_key(r)) {
            record_free(d->records[i]);
            d->records[i] = r;
            return;
        }
    d->records = sim_grow(d->records, d->n_records, &d->cap_records, sizeof *d->records);
    d->records[d->n_records++] = r;
}

static void put_position(struct disk *d, const struct sync_position *p)
{
    for (size_t i = 0; i < d->n_vector; i++)
        if (id128_equal(&d->vector[i].origin, &p->origin)) {
            d->vector[i] = *p;
            return;
        }
    d->vector = sim_grow(d->vector, d->n_vector, &d->cap_vector, sizeof *d->vector);
    d->vector[d->n_vector++] = *p;
}

static void lift(struct sim *s, struct disk *d, uint16_t slot, uint32_t epoch)
{
    struct member *of = member_of_slot(s, slot);

    if (epoch > d->epochs[of->index])
        d->epochs[of->index] = epoch;
}

static void write_batch(struct sim *s, struct member *m, struct sync_batch *b)
{
    struct disk *d = &m->disk;

    for (size_t i = 0; i < b->n_records; i++) {
        put_record(d, b->records[i]);
        b->records[i] = NULL;
    }
    b->n_records = 0;
    for (size_t i = 0; i < b->n_vector; i++)
        put_position(d, &b->vector[i]);
    for (size_t i = 0; i < b->n_epochs; i++)
        lift(s, d, b->epochs[i].slot, b->epochs[i].epoch);
    lift(s, d, m->slot, b->epoch);
    d->durable = b->ticket;
}

/* The transaction under way: all of it. */
static void write_busy(struct sim *s, struct member *m)
{
    struct disk *d = &m->disk;

    if (d->n_busy == 0)
        return; /* there may be no queue at all yet */
    for (size_t i = 0; i < d->n_busy; i++) {
        write_batch(s, m, d->queue[i]);
        sync_batch_free(d->queue[i]);
    }
    d->n_queue -= d->n_busy;
    memmove(d->queue, d->queue + d->n_busy, d->n_queue * sizeof *d->queue);
    d->n_busy = 0;
}

static void begin(struct sim *s, struct member *m)
{
    struct disk *d = &m->disk;
    uint64_t us = 100 + below(s, 1500) + (d->slow_us ? below(s, d->slow_us) : 0);

    d->n_busy = d->n_queue;
    sim_at(s, s->now.mono_us + us,
           (struct event){.kind = EV_DISK, .b = (uint8_t)m->index, .life = m->life});
}

void disk_submit(struct sim *s, struct member *m, struct sync_batch *batch)
{
    struct disk *d = &m->disk;

    d->queue = sim_grow(d->queue, d->n_queue, &d->cap_queue, sizeof *d->queue);
    d->queue[d->n_queue++] = batch;
    if (d->n_busy == 0)
        begin(s, m);
}

void disk_done(struct sim *s, struct member *m)
{
    struct disk *d = &m->disk;

    if (d->failing) {
        sim_at(s, s->now.mono_us + RETRY_US,
               (struct event){.kind = EV_DISK, .b = (uint8_t)m->index, .life = m->life});
    } else {
        write_busy(s, m);
        if (d->n_queue)
            begin(s, m);
    }
    if (m->paused_until_us <= s->now.mono_us) /* else its next tick polls */
        disk_tell(s, m);
}

void disk_tell(struct sim *s, struct member *m)
{
    struct disk *d = &m->disk;
    bool failing = d->failing && d->n_busy;
    struct sync_event ev = {.kind = SYNC_EV_JOURNALED, .ticket = d->durable, .failed = failing};

    if (d->durable <= d->told && failing == d->told_failing)
        return;
    d->told = d->durable;
    d->told_failing = failing;
    member_step(s, m, &ev);
}

static void drop_queue(struct disk *d)
{
    for (size_t i = 0; i < d->n_queue; i++)
        sync_batch_free(d->queue[i]);
    d->n_queue = d->n_busy = 0;
    d->durable = d->told = 0;
    d->told_failing = false;
}

void disk_crash(struct sim *s, struct member *m)
{
    if (m->disk.n_busy && !m->disk.failing && chance(s, 500))
        write_busy(s, m);
    drop_queue(&m->disk);
}

void disk_finish(struct sim *s, struct member *m)
{
    if (!m->disk.failing) {
        m->disk.n_busy = m->disk.n_queue;
        write_busy(s, m);
    }
    drop_queue(&m->disk);
}

void disk_free(struct disk *d)
{
    drop_queue(d);
    for (size_t i = 0; i < d->n_records; i++)
        record_free(d->records[i]);
    free(d->records);
    free(d->vector);
    free(d->queue);
}

void disk_copy(struct disk *to, const struct disk *from)
{
    disk_free(to);
    *to = (struct disk){.used = from->used};
    to->records = calloc(from->n_records + 1, sizeof *to->records);
    to->vector = calloc(from->n_vector + 1, sizeof *to->vector);
    if (!to->records || !to->vector)
        abort();
    to->cap_records = from->n_records + 1;
    to->cap_vector = from->n_vector + 1;
    for (size_t i = 0; i < from->n_records; i++)
        to->records[to->n_records++] = record_clone(from->records[i]);
    for (size_t i = 0; i < from->n_vector; i++)
        to->vector[to->n_vector++] = from->vector[i];
    memcpy(to->epochs, from->epochs, sizeof to->epochs);
}

void disk_forget(struct disk *d, struct disk *old)
{
    static const struct disk empty;
    bool failing = d->failing;
    uint32_t slow_us = d->slow_us;

    disk_copy(d, old ? old : &empty);
    d->failing = failing;
    d->slow_us = slow_us;
}

const struct record *disk_find(const struct disk *d, uint8_t kind, uint64_t key)
{
    for (size_t i = 0; i < d->n_records; i++)
        if (d->records[i]->kind == kind && record_key(d->records[i]) == key)
            return d->records[i];
    return NULL;
}

/* ---- opening: in the order of the real one ---- */

static int by_position(const void *a, const void *b)
{
    const struct record *x = *(struct record *const *)a, *y = *(struct record *const *)b;
    int order = memcmp(x->origin.b, y->origin.b, ID_BYTES);

    return order ? order : x->seq < y->seq ? -1 : x->seq > y->seq;
}

static void expire(struct disk *d, int64_t wall_ms)
{
    size_t kept = 0;

    for (size_t i = 0; i < d->n_records; i++) {
        if (record_keep_until_ms(d->records[i]) <= wall_ms)
            record_free(d->records[i]);
        else
            d->records[kept++] = d->records[i];
    }
    d->n_records = kept;
}

void disk_recovery(struct sim *s, struct member *m, struct sync_recovery *out)
{
    struct disk *d = &m->disk;

    *out = (struct sync_recovery){.journal_empty = !d->used,
                                  .epoch = d->epochs[member_of_slot(s, m->slot)->index]};
    d->used = true;
    expire(d, member_now(s, m).wall_ms);
    out->records = calloc(d->n_records + 1, sizeof *out->records);
    out->vector = calloc(d->n_vector + 1, sizeof *out->vector);
    out->epochs = calloc(s->n, sizeof *out->epochs);
    if (!out->records || !out->vector || !out->epochs)
        abort();
    for (size_t i = 0; i < d->n_records; i++)
        out->records[out->n_records++] = record_clone(d->records[i]);
    if (out->n_records)
        qsort(out->records, out->n_records, sizeof *out->records, by_position);
    for (size_t i = 0; i < d->n_vector; i++)
        out->vector[out->n_vector++] = d->vector[i];
    for (size_t i = 0; i < s->n; i++)
        if (s->members[i].slot != m->slot && d->epochs[i])
            out->epochs[out->n_epochs++] = (struct sync_epoch){s->members[i].slot, d->epochs[i]};
}
