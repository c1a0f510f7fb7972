/* Both cores are stepped here and nowhere else, and never from within a step.
 *
 * What a step returns lives only until the next step of the same core. Carrying
 * it out may well lead to another event: a BARRIER lets the IKE engine answer, a
 * COMMIT of the engine puts records into the replication core. Such an event
 * waits in a list until the whole answer of the running step is carried out, so
 * that no array is pulled away from under its reader and effects keep their
 * order. An event that comes while nothing runs is stepped in place, without a
 * copy: that is the way of every packet and frame.
 *
 * What the events of one turn of the loop can share (a journal transaction, an
 * Update, the Announce) the replication core holds back until the turn ends: then
 * node_flush lets it out, so that many handshakes cost one fsync and one frame. */
#include <stdlib.h>
#include <string.h>

#include "node/node.h"
#include "proto/log.h"

struct pending {
    struct pending *next;
    bool is_ike;
    union {
        struct sync_event sync;
        struct ike_event ike;
    };
    struct record *record; /* owned: a clone, or NULL */
    struct record **group; /* owned array of a PUT, or NULL */
    size_t n_bytes;
    uint8_t bytes[]; /* a copy */
};

static bool deletes(const struct sync_event *event)
{
    for (size_t i = 0; i < event->n_group; i++) {
        const struct record *r = event->group[i];
        if ((r->kind == RECORD_IKE && r->ike.state == SA_DELETED) ||
            (r->kind == RECORD_CHILD && r->child.state == SA_DELETED))
            return true;
    }
    return false;
}

static void step_sync(struct node *node, const struct sync_event *event)
{
    struct sync_event shared = *event;
    struct sync_effects fx;

    shared.more = event->kind != SYNC_EV_FLUSH;
    node->flush_due = shared.more;
    node->putting_deleted = event->kind == SYNC_EV_PUT && deletes(event);
    fx = sync_step(node->sync, &shared, now_read());
    for (size_t i = 0; i < fx.n; i++)
        node_carry_out_effect(node, &fx.fx[i]);
    node->putting_deleted = false;
}

static void step_ike(struct node *node, const struct ike_event *event)
{
    struct ike_actions actions = ike_step(node->ike, event, sync_now(node->sync, now_read()));

    for (size_t i = 0; i < actions.n; i++)
        node_carry_out_action(node, &actions.a[i]);
}

static void free_pending(struct pending *p)
{
    if (!p)
        return;
    record_free(p->record);
    free(p->group);
    free(p);
}

static void drain(struct node *node)
{
    struct pending *p;

    while ((p = node->first_pending) != NULL) {
        node->first_pending = p->next;
        if (!node->first_pending)
            node->last_pending = &node->first_pending;
        if (p->is_ike)
            step_ike(node, &p->ike);
        else
            step_sync(node, &p->sync);
        free_pending(p);
    }
}

static struct pending *new_pending(struct slice bytes)
{
    struct pending *p = calloc(1, sizeof *p + bytes.n);

    if (!p)
        return NULL;
    p->n_bytes = bytes.n;
    if (bytes.n > 0)
        memcpy(p->bytes, bytes.p, bytes.n);
    return p;
}

static void append(struct node *node, struct pending *p)
{
    *node->last_pending = p;
    node->last_pending = &p->next;
}

static void lost(struct node *node)
{
    node->counters.no_memory++;
    log_error("node", "out of memory: an event is lost");
}

static void wait_sync(struct node *node, const struct sync_event *event)
{
    struct slice bytes = event->kind == SYNC_EV_FORWARD ? event->forward.datagram : event->bytes;
    struct pending *p = new_pending(bytes);

    if (p && event->n_group > 0) {
        p->group = calloc(event->n_group, sizeof(struct record *));
        if (!p->group) {
            free_pending(p);
            p = NULL;
        }
    }
    if (!p) {
        for (size_t i = 0; i < event->n_group; i++)
            record_free(event->group[i]);
        free(event->activity);
        lost(node);
        return;
    }
    p->sync = *event;
    if (event->n_group > 0) {
        memcpy(p->group, event->group, event->n_group * sizeof(struct record *));
        p->sync.group = p->group;
    }
    if (event->kind == SYNC_EV_FORWARD)
        p->sync.forward.datagram.p = p->bytes;
    else
        p->sync.bytes.p = p->bytes;
    append(node, p);
}

static void wait_ike(struct node *node, const struct ike_event *event)
{
    struct pending *p = new_pending(event->bytes);

    if (p && event->record) {
        p->record = record_clone(event->record);
        if (!p->record) {
            free_pending(p);
            p = NULL;
        }
    }
    if (!p) {
        ike_job_free(event->job);
        lost(node);
        return;
    }
    p->is_ike = true;
    p->ike = *event;
    p->ike.bytes.p = p->bytes;
    p->ike.record = p->record;
    append(node, p);
}

void node_sync(struct node *node, const struct sync_event *event)
{
    if (node->stepping) {
        wait_sync(node, event);
        return;
    }
    node->stepping = true;
    step_sync(node, event);
    drain(node);
    node->stepping = false;
}

void node_flush(struct node *node)
{
    struct sync_event event = {.kind = SYNC_EV_FLUSH};

    while (node->flush_due)
        node_sync(node, &event);
}

void node_ike(struct node *node, const struct ike_event *event)
{
    if (node->stepping) {
        wait_ike(node, event);
        return;
    }
    node->stepping = true;
    step_ike(node, event);
    drain(node);
    node->stepping = false;
}
