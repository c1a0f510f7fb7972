/* Transports that share a process: a publication is copied into every other inbox, a request
 * into one. Nothing is lost here; tests that want loss drop between core and transport. */
#include <stdlib.h>

#include "proto/err.h"
#include "sync/inbox.h"
#include "sync/transport.h"

enum { MEMBERS = 64, REQUESTS = 64 };

struct memory_transport {
    struct transport base; /* first: ops are called with it */
    struct memory_hub *hub;
    uint16_t slot;
    struct inbox inbox;
};

struct memory_hub {
    pthread_mutex_t lock;
    struct memory_transport *members[MEMBERS];
    struct {
        uint64_t id; /* as the answering side knows it; 0: free */
        uint64_t asker_id;
        uint16_t asker, answerer;
    } requests[REQUESTS];
    uint64_t next_id;
};

struct memory_hub *memory_hub_new(void)
{
    struct memory_hub *hub = calloc(1, sizeof *hub);

    if (hub)
        pthread_mutex_init(&hub->lock, NULL);
    return hub;
}

void memory_hub_free(struct memory_hub *hub)
{
    if (hub)
        pthread_mutex_destroy(&hub->lock);
    free(hub);
}

static struct memory_transport *self_of(struct transport *t)
{
    return (struct memory_transport *)(void *)t;
}

/* Under the lock. */
static struct memory_transport *member_at(struct memory_hub *hub, uint16_t slot)
{
    for (size_t i = 0; i < MEMBERS; i++)
        if (hub->members[i] && hub->members[i]->slot == slot)
            return hub->members[i];
    return NULL;
}

static int memory_publish(struct transport *t, uint16_t to_slot, struct slice bytes)
{
    struct memory_transport *self = self_of(t);

    if (bytes.n > TRANSPORT_FRAME_MAX)
        return ERR_FULL;
    pthread_mutex_lock(&self->hub->lock);
    for (size_t i = 0; i < MEMBERS; i++)
        if (self->hub->members[i] && self->hub->members[i] != self &&
            (to_slot == SLOT_ALL || to_slot == self->hub->members[i]->slot))
            inbox_push(&self->hub->members[i]->inbox, TRANSPORT_FRAME, 0, bytes);
    pthread_mutex_unlock(&self->hub->lock);
    return ERR_OK;
}

static int memory_request(struct transport *t, uint16_t slot, uint64_t id, struct slice bytes)
{
    struct memory_transport *self = self_of(t), *to;
    struct memory_hub *hub = self->hub;
    int rc = ERR_BUSY;

    if (bytes.n > TRANSPORT_FRAME_MAX)
        return ERR_FULL;
    pthread_mutex_lock(&hub->lock);
    to = member_at(hub, slot);
    if (!to) { /* like a peer that is down */
        inbox_push(&self->inbox, TRANSPORT_REPLY, id, (struct slice){NULL, 0});
        rc = ERR_OK;
    }
    for (size_t i = 0; to && rc == ERR_BUSY && i < REQUESTS; i++) {
        if (hub->requests[i].id)
            continue;
        hub->requests[i].id = ++hub->next_id;
        hub->requests[i].asker_id = id;
        hub->requests[i].asker = self->slot;
        hub->requests[i].answerer = slot;
        inbox_push(&to->inbox, TRANSPORT_REQUEST, hub->next_id, bytes);
        rc = ERR_OK;
    }
    pthread_mutex_unlock(&hub->lock);
    return rc;
}

static int memory_reply(struct transport *t, uint64_t id, struct slice bytes)
{
    struct memory_transport *self = self_of(t), *asker;
    struct memory_hub *hub = self->hub;
    int rc = ERR_NOT_FOUND;

    if (bytes.n > TRANSPORT_FRAME_MAX)
        return ERR_FULL;
    pthread_mutex_lock(&hub->lock);
    for (size_t i = 0; rc != ERR_OK && id && i < REQUESTS; i++) {
        if (hub->requests[i].id != id || hub->requests[i].answerer != self->slot)
            continue;
        asker = member_at(hub, hub->requests[i].asker);
        if (asker)
            inbox_push(&asker->inbox, TRANSPORT_REPLY, hub->requests[i].asker_id, bytes);
        hub->requests[i].id = 0;
        rc = ERR_OK;
    }
    pthread_mutex_unlock(&hub->lock);
    return rc;
}

static void memory_poll(struct transport *t, transport_deliver_fn *deliver, void *ctx)
{
    inbox_drain(&self_of(t)->inbox, deliver, ctx);
}

/* Requests that nobody will answer now fail at their askers. */
static void memory_close(struct transport *t)
{
    struct memory_transport *self = self_of(t), *asker;
    struct memory_hub *hub = self->hub;

    pthread_mutex_lock(&hub->lock);
    for (size_t i = 0; i < MEMBERS; i++)
        if (hub->members[i] == self)
            hub->members[i] = NULL;
    for (size_t i = 0; i < REQUESTS; i++) {
        if (hub->requests[i].id == 0 ||
            (hub->requests[i].answerer != self->slot && hub->requests[i].asker != self->slot))
            continue;
        asker = member_at(hub, hub->requests[i].asker);
        if (asker)
            inbox_push(&asker->inbox, TRANSPORT_REPLY, hub->requests[i].asker_id,
                       (struct slice){NULL, 0});
        hub->requests[i].id = 0;
    }
    pthread_mutex_unlock(&hub->lock);
    inbox_close(&self->inbox);
    pthread_mutex_destroy(&self->inbox.lock);
    free(self);
}

/* Whoever is on the hub is reached. */
static int memory_set_peers(struct transport *t, const struct transport_peer *others, size_t n)
{
    (void)t;
    (void)others;
    (void)n;
    return ERR_OK;
}

static const struct transport_ops memory_ops = {
    memory_publish, memory_request, memory_reply, memory_poll, memory_close, memory_set_peers,
};

struct transport *transport_memory_open(struct memory_hub *hub, uint16_t slot,
                                        void (*wake)(void *ctx), void *wake_ctx)
{
    struct memory_transport *self = calloc(1, sizeof *self);
    bool placed = false;

    if (!self)
        return NULL;
    self->base.ops = &memory_ops;
    self->base.fd = -1;
    self->hub = hub;
    self->slot = slot;
    inbox_init(&self->inbox, wake, wake_ctx);
    pthread_mutex_lock(&hub->lock);
    for (size_t i = 0; !placed && !member_at(hub, slot) && i < MEMBERS; i++)
        if (!hub->members[i]) {
            hub->members[i] = self;
            placed = true;
        }
    pthread_mutex_unlock(&hub->lock);
    if (placed)
        return &self->base;
    pthread_mutex_destroy(&self->inbox.lock);
    free(self);
    return NULL;
}
