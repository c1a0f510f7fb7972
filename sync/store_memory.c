/* A journal in memory. What is submitted waits until poll, as if the disk were that slow;
 * what close or poll made durable is in the disk and can be opened again. One thread. */
#include <stdlib.h>

#include "proto/err.h"
#include "sync/join.h"
#include "sync/store.h"

struct memory_disk {
    bool used; /* opened before: not an empty journal */
    struct record **records;
    struct sync_position *vector;
    uint32_t epochs[SLOT_MAX + 1];
    size_t n_records, n_vector;
};

enum { WAITING_MAX = 1024 };

struct memory_store {
    struct store base; /* first: ops are called with it */
    struct memory_disk *disk;
    struct sync_batch *waiting[WAITING_MAX];
    size_t n_waiting;
    uint64_t durable;
    uint16_t slot;
    uint32_t wrapped;
    void (*wake)(void *ctx);
    void *wake_ctx;
};

struct memory_disk *memory_disk_new(void)
{
    return calloc(1, sizeof(struct memory_disk));
}

void memory_disk_free(struct memory_disk *disk)
{
    if (!disk)
        return;
    for (size_t i = 0; i < disk->n_records; i++)
        record_free(disk->records[i]);
    free(disk->records);
    free(disk->vector);
    free(disk);
}

static struct memory_store *self_of(struct store *s)
{
    return (struct memory_store *)(void *)s;
}

static int write_record(struct memory_disk *disk, struct record **r)
{
    struct record **more;

    for (size_t i = 0; i < disk->n_records; i++)
        if (disk->records[i]->kind == (*r)->kind &&
            record_key(disk->records[i]) == record_key(*r)) {
            record_free(disk->records[i]);
            disk->records[i] = *r;
            *r = NULL;
            return ERR_OK;
        }
    more = realloc(disk->records, (disk->n_records + 1) * sizeof(struct record *));
    if (!more)
        return ERR_NOMEM;
    disk->records = more;
    disk->records[disk->n_records++] = *r;
    *r = NULL;
    return ERR_OK;
}

static int write_position(struct memory_disk *disk, const struct sync_position *p)
{
    struct sync_position *more;

    for (size_t i = 0; i < disk->n_vector; i++)
        if (id128_equal(&disk->vector[i].origin, &p->origin)) {
            disk->vector[i] = *p;
            return ERR_OK;
        }
    more = realloc(disk->vector, (disk->n_vector + 1) * sizeof *more);
    if (!more)
        return ERR_NOMEM;
    disk->vector = more;
    disk->vector[disk->n_vector++] = *p;
    return ERR_OK;
}

static void lift(uint32_t *epoch, uint32_t to)
{
    if (to > *epoch)
        *epoch = to;
}

/* The batch's records become the disk's. */
static int write_batch(struct memory_store *s, struct sync_batch *b)
{
    int rc = ERR_OK;

    for (size_t i = 0; rc == ERR_OK && i < b->n_records; i++)
        if (b->records[i])
            rc = write_record(s->disk, &b->records[i]);
    for (size_t i = 0; rc == ERR_OK && i < b->n_vector; i++)
        rc = write_position(s->disk, &b->vector[i]);
    for (size_t i = 0; rc == ERR_OK && i < b->n_epochs; i++)
        lift(&s->disk->epochs[b->epochs[i].slot], b->epochs[i].epoch);
    if (rc == ERR_OK)
        lift(&s->disk->epochs[s->slot], b->epoch);
    return rc;
}

static uint64_t memory_poll(struct store *store, bool *failed)
{
    struct memory_store *s = self_of(store);
    size_t done = 0;

    while (done < s->n_waiting && write_batch(s, s->waiting[done]) == ERR_OK) {
        s->durable = s->waiting[done]->ticket;
        sync_batch_free(s->waiting[done]);
        done++;
    }
    *failed = done < s->n_waiting;
    s->n_waiting -= done;
    for (size_t i = 0; i < s->n_waiting; i++)
        s->waiting[i] = s->waiting[i + done];
    return s->durable;
}

static int memory_submit(struct store *store, struct sync_batch *batch)
{
    struct memory_store *s = self_of(store);

    if (s->n_waiting == WAITING_MAX) {
        sync_batch_free(batch);
        return ERR_FULL;
    }
    s->waiting[s->n_waiting++] = batch;
    if (s->wake)
        s->wake(s->wake_ctx);
    return ERR_OK;
}

static void memory_close(struct store *store)
{
    struct memory_store *s = self_of(store);
    bool failed;

    (void)memory_poll(store, &failed);
    for (size_t i = 0; i < s->n_waiting; i++)
        sync_batch_free(s->waiting[i]);
    free(s);
}

static void memory_why(struct store *store, char out[STORE_WHY_BYTES])
{
    (void)store;
    out[0] = 0;
}

static size_t memory_waiting(struct store *store)
{
    return self_of(store)->n_waiting;
}

/* Nothing is sealed here. */
static int memory_rewrap(struct store *store, const struct cluster_key *key)
{
    self_of(store)->wrapped = key->id;
    return ERR_OK;
}

static uint32_t memory_wrapped(struct store *store)
{
    return self_of(store)->wrapped;
}

static const struct store_ops memory_ops = {memory_submit, memory_poll,    memory_close,
                                            memory_why,    memory_waiting, memory_rewrap,
                                            memory_wrapped};

static int read_records(const struct memory_disk *disk, struct sync_recovery *r)
{
    int64_t wall_ms = now_read().wall_ms;

    r->records = calloc(disk->n_records + 1, sizeof(struct record *));
    if (!r->records)
        return ERR_NOMEM;
    for (size_t i = 0; i < disk->n_records; i++) {
        if (record_keep_until_ms(disk->records[i]) <= wall_ms)
            continue;
        r->records[r->n_records] = record_clone(disk->records[i]);
        if (!r->records[r->n_records])
            return ERR_NOMEM;
        r->n_records++;
    }
    return ERR_OK;
}

static int read_rest(const struct memory_disk *disk, uint16_t own_slot, struct sync_recovery *r)
{
    r->journal_empty = !disk->used;
    r->epoch = disk->epochs[own_slot];
    r->vector = calloc(disk->n_vector + 1, sizeof *r->vector);
    r->epochs = calloc(SLOT_MAX + 1, sizeof *r->epochs);
    if (!r->vector || !r->epochs)
        return ERR_NOMEM;
    for (size_t i = 0; i < disk->n_vector; i++)
        r->vector[r->n_vector++] = disk->vector[i];
    for (unsigned slot = 0; slot <= SLOT_MAX; slot++)
        if (slot != own_slot && disk->epochs[slot])
            r->epochs[r->n_epochs++] = (struct sync_epoch){(uint16_t)slot, disk->epochs[slot]};
    return ERR_OK;
}

int store_memory_open(struct memory_disk *disk, const struct store_options *options,
                      struct store **out, struct sync_recovery *recovery)
{
    struct memory_store *s = calloc(1, sizeof *s);

    *out = NULL;
    *recovery = (struct sync_recovery){0};
    if (!s)
        return ERR_NOMEM;
    s->base.ops = &memory_ops;
    s->disk = disk;
    s->slot = options->slot;
    s->wrapped = options->n_keys ? options->keys[0].id : 0;
    s->wake = options->wake;
    s->wake_ctx = options->wake_ctx;
    if (read_records(disk, recovery) != ERR_OK ||
        read_rest(disk, options->slot, recovery) != ERR_OK) {
        store_recovery_free(recovery);
        free(s);
        return ERR_NOMEM;
    }
    disk->used = true;
    *out = &s->base;
    return ERR_OK;
}
