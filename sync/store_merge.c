#include "sync/store_merge.h"

#include <stdlib.h>
#include <string.h>

#include "sync/join.h"

/* Sorted by key, and among equals by age: the last of a row of equals is the one that counts. */
struct dated_record {
    struct record *r;
    size_t age;
};

static int order_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static bool same_record(const struct record *a, const struct record *b)
{
    return a->kind == b->kind && record_key(a) == record_key(b);
}

static int by_record(const void *a, const void *b)
{
    const struct dated_record *x = a, *y = b;
    int order = order_u64(x->r->kind, y->r->kind);

    order = order ? order : order_u64(record_key(x->r), record_key(y->r));
    return order ? order : order_u64(x->age, y->age);
}

static int by_position(const void *a, const void *b)
{
    const struct sync_position *x = a, *y = b;
    int order = memcmp(x->origin.b, y->origin.b, ID_BYTES);

    return order ? order : order_u64(x->seq, y->seq);
}

static int by_epoch(const void *a, const void *b)
{
    const struct sync_epoch *x = a, *y = b;
    int order = order_u64(x->slot, y->slot);

    return order ? order : order_u64(x->epoch, y->epoch);
}

/* All that the batches hold, in arrays of their own. */
struct heap {
    struct dated_record *records;
    struct sync_position *vector;
    struct sync_epoch *epochs;
    size_t n_records, n_vector, n_epochs;
};

static bool gather(struct heap *h, struct sync_batch *const *batches, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        h->n_records += batches[i]->n_records;
        h->n_vector += batches[i]->n_vector;
        h->n_epochs += batches[i]->n_epochs;
    }
    h->records = calloc(h->n_records + 1, sizeof *h->records);
    h->vector = calloc(h->n_vector + 1, sizeof *h->vector);
    h->epochs = calloc(h->n_epochs + 1, sizeof *h->epochs);
    if (!h->records || !h->vector || !h->epochs)
        return false;
    h->n_records = h->n_vector = h->n_epochs = 0;
    for (size_t i = 0; i < n; i++) {
        const struct sync_batch *b = batches[i];
        for (size_t k = 0; k < b->n_records; k++, h->n_records++)
            h->records[h->n_records] = (struct dated_record){b->records[k], h->n_records};
        for (size_t k = 0; k < b->n_vector; k++)
            h->vector[h->n_vector++] = b->vector[k];
        for (size_t k = 0; k < b->n_epochs; k++)
            h->epochs[h->n_epochs++] = b->epochs[k];
    }
    qsort(h->records, h->n_records, sizeof *h->records, by_record);
    qsort(h->vector, h->n_vector, sizeof *h->vector, by_position);
    qsort(h->epochs, h->n_epochs, sizeof *h->epochs, by_epoch);
    return true;
}

/* Into `out`, which has room for all. */
static void keep_last(struct sync_batch *out, struct heap *h, int64_t wall_ms)
{
    for (size_t i = 0; i < h->n_records; i++) {
        struct record *r = h->records[i].r;
        if ((i + 1 < h->n_records && same_record(r, h->records[i + 1].r)) ||
            record_keep_until_ms(r) <= wall_ms)
            record_free(r);
        else
            out->records[out->n_records++] = r;
    }
    for (size_t i = 0; i < h->n_vector; i++)
        if (i + 1 == h->n_vector || !id128_equal(&h->vector[i].origin, &h->vector[i + 1].origin))
            out->vector[out->n_vector++] = h->vector[i];
    for (size_t i = 0; i < h->n_epochs; i++)
        if (i + 1 == h->n_epochs || h->epochs[i].slot != h->epochs[i + 1].slot)
            out->epochs[out->n_epochs++] = h->epochs[i];
}

/* Gives back what the duplicates took; failing to is no harm. */
static void trim(struct sync_batch *b)
{
    void *smaller = realloc(b->records, (b->n_records + 1) * sizeof(struct record *));

    b->records = smaller ? smaller : b->records;
    smaller = realloc(b->vector, (b->n_vector + 1) * sizeof *b->vector);
    b->vector = smaller ? smaller : b->vector;
}

size_t store_merge(struct sync_batch **batches, size_t n, int64_t wall_ms)
{
    struct sync_batch *out = calloc(1, sizeof *out);
    struct heap h = {0};
    size_t left = n;

    if (!out || n < 2 || !gather(&h, batches, n))
        goto freed;
    out->records = calloc(h.n_records + 1, sizeof(struct record *));
    out->vector = calloc(h.n_vector + 1, sizeof *out->vector);
    out->epochs = calloc(h.n_epochs + 1, sizeof *out->epochs);
    if (!out->records || !out->vector || !out->epochs)
        goto freed;
    for (size_t i = 0; i < n; i++) {
        out->ticket = batches[i]->ticket > out->ticket ? batches[i]->ticket : out->ticket;
        out->epoch = batches[i]->epoch > out->epoch ? batches[i]->epoch : out->epoch;
    }
    keep_last(out, &h, wall_ms);
    trim(out);
    for (size_t i = 0; i < n; i++) {
        batches[i]->n_records = 0; /* they are out's, or gone */
        sync_batch_free(batches[i]);
    }
    batches[0] = out;
    out = NULL;
    left = 1;
freed:
    sync_batch_free(out);
    free(h.records);
    free(h.vector);
    free(h.epochs);
    return left;
}
