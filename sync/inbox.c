#include "sync/inbox.h"

#include <stdlib.h>
#include <string.h>

struct inbox_item {
    struct inbox_item *next;
    enum transport_kind kind;
    uint64_t id;
    size_t n;
    uint8_t bytes[];
};

void inbox_init(struct inbox *in, void (*wake)(void *ctx), void *wake_ctx)
{
    *in = (struct inbox){.wake = wake, .wake_ctx = wake_ctx};
    pthread_mutex_init(&in->lock, NULL);
    in->last = &in->first;
}

/* The oldest frame makes room; requests and replies stay. Under the lock. */
static void drop_oldest_frame(struct inbox *in)
{
    struct inbox_item **at = &in->first, *gone;

    while (*at && (*at)->kind != TRANSPORT_FRAME)
        at = &(*at)->next;
    gone = *at;
    if (!gone)
        return;
    *at = gone->next;
    if (in->last == &gone->next)
        in->last = at;
    in->n_frames--;
    in->n_bytes -= gone->n;
    in->dropped++;
    free(gone);
}

void inbox_push(struct inbox *in, enum transport_kind kind, uint64_t id, struct slice bytes)
{
    struct inbox_item *item;
    bool was_empty;

    if (bytes.n > TRANSPORT_FRAME_MAX)
        return;
    item = malloc(sizeof *item + bytes.n);
    if (!item)
        return;
    item->next = NULL;
    item->kind = kind;
    item->id = id;
    item->n = bytes.n;
    if (bytes.n)
        memcpy(item->bytes, bytes.p, bytes.n);
    pthread_mutex_lock(&in->lock);
    if (in->closed) {
        free(item);
    } else {
        while (kind == TRANSPORT_FRAME && in->n_frames &&
               (in->n_frames >= INBOX_FRAMES_MAX || in->n_bytes + item->n > INBOX_BYTES_MAX))
            drop_oldest_frame(in);
        was_empty = in->first == NULL;
        *in->last = item;
        in->last = &item->next;
        in->n_frames += kind == TRANSPORT_FRAME;
        in->n_bytes += item->n;
        if (was_empty && in->wake) /* under the lock: not after inbox_close returned */
            in->wake(in->wake_ctx);
    }
    pthread_mutex_unlock(&in->lock);
}

static struct inbox_item *take_all(struct inbox *in)
{
    struct inbox_item *items;

    pthread_mutex_lock(&in->lock);
    items = in->first;
    in->first = NULL;
    in->last = &in->first;
    in->n_frames = in->n_bytes = 0;
    pthread_mutex_unlock(&in->lock);
    return items;
}

void inbox_drain(struct inbox *in, transport_deliver_fn *deliver, void *ctx)
{
    struct inbox_item *item = take_all(in);

    while (item) {
        struct inbox_item *next = item->next;
        deliver(ctx, item->kind, item->id, (struct slice){item->bytes, item->n});
        free(item);
        item = next;
    }
}

uint64_t inbox_dropped(struct inbox *in)
{
    uint64_t n;

    pthread_mutex_lock(&in->lock);
    n = in->dropped;
    pthread_mutex_unlock(&in->lock);
    return n;
}

void inbox_close(struct inbox *in)
{
    struct inbox_item *item;

    pthread_mutex_lock(&in->lock);
    in->closed = true;
    pthread_mutex_unlock(&in->lock);
    item = take_all(in);
    while (item) {
        struct inbox_item *next = item->next;
        free(item);
        item = next;
    }
}
