/* What a transport's own threads hand to the loop thread: a bounded queue with a wake-up.
 * Only frames are ever dropped (the oldest first, as PUB/SUB may); requests and replies are
 * bounded by the transport's contexts. push: any thread; drain, close: the loop thread. */
#ifndef SYNC_INBOX_H
#define SYNC_INBOX_H

#include <pthread.h>
#include <stdbool.h>

#include "sync/transport.h"

enum { INBOX_FRAMES_MAX = 16384, INBOX_BYTES_MAX = 64 * 1024 * 1024 };

struct inbox_item;
struct inbox {
    pthread_mutex_t lock;
    struct inbox_item *first, **last;
    size_t n_frames, n_bytes; /* bytes of all kinds */
    uint64_t dropped;         /* frames that made room */
    bool closed;
    void (*wake)(void *ctx);
    void *wake_ctx;
};

void inbox_init(struct inbox *in, void (*wake)(void *ctx), void *wake_ctx);
/* Copies the bytes and wakes the loop if it may be asleep: `wake` runs under a lock and must
 * not come back into the transport. Nothing happens once closed. */
void inbox_push(struct inbox *in, enum transport_kind kind, uint64_t id, struct slice bytes);
/* Delivers all that came; deliver may push and send. */
void inbox_drain(struct inbox *in, transport_deliver_fn *deliver, void *ctx);
uint64_t inbox_dropped(struct inbox *in);
/* Forgets what waits; from now on nothing is taken and wake is not called. */
void inbox_close(struct inbox *in);

#endif
