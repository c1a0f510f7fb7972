/* What the replication core wishes, one effect at a time, in its order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/api_text.h"
#include "node/node.h"
#include "proto/err.h"
#include "proto/log.h"

enum { LAGGARDS_TEXT = 256, WARN_EVERY_US = 1000000 };

/* ---- the journal ---- */

static bool hold_back(struct node *node, struct sync_batch *batch)
{
    if (node->n_backlog == node->cap_backlog) {
        size_t cap = node->cap_backlog ? 2 * node->cap_backlog : 16;
        struct sync_batch **grown = realloc(node->backlog, cap * sizeof(struct sync_batch *));
        if (!grown)
            return false;
        node->backlog = grown;
        node->cap_backlog = cap;
    }
    node->backlog[node->n_backlog++] = batch;
    return true;
}

static void journal_refused(struct node *node, uint64_t ticket)
{
    struct sync_event event = {.kind = SYNC_EV_JOURNALED, .ticket = ticket, .failed = true};

    if (!node->journal_failed)
        log_error("node",
                  "the journal in %s failed: no IKE exchange will be completed; "
                  "free the disk or replace it and restart anysad",
                  node->config->node.state_dir);
    node->journal_failed = true;
    node_sync(node, &event);
}

/* A full store gets the batch later; those behind it wait too, so that their order stays. */
static void journal(struct node *node, struct sync_batch *batch)
{
    uint64_t ticket = batch->ticket;
    int err = node->n_backlog > 0 ? ERR_FULL : node->store->ops->submit(node->store, batch);

    if (err == ERR_OK)
        return;
    if (err == ERR_FULL && hold_back(node, batch))
        return;
    sync_batch_free(batch);
    journal_refused(node, ticket);
}

static void submit_backlog(struct node *node)
{
    size_t done = 0;

    while (done < node->n_backlog &&
           node->store->ops->submit(node->store, node->backlog[done]) == ERR_OK)
        done++;
    if (done == 0)
        return;
    node->n_backlog -= done;
    memmove(node->backlog, node->backlog + done, node->n_backlog * sizeof(struct sync_batch *));
}

void node_store_poll(struct node *node)
{
    struct sync_event event = {.kind = SYNC_EV_JOURNALED};
    bool failed = false;

    if (!node->store)
        return;
    event.ticket = node->store->ops->poll(node->store, &failed);
    submit_backlog(node);
    if (event.ticket > node->journaled) {
        node->journaled = event.ticket;
        node_sync(node, &event);
    }
    if (failed && !node->journal_failed)
        journal_refused(node, event.ticket);
}

/* ---- the mesh ---- */

static void on_delivery(void *ctx, enum transport_kind kind, uint64_t id, struct slice bytes)
{
    static const enum sync_event_kind kinds[] = {
        [TRANSPORT_FRAME] = SYNC_EV_FRAME,
        [TRANSPORT_REQUEST] = SYNC_EV_REQUEST,
        [TRANSPORT_REPLY] = SYNC_EV_REPLY,
    };
    struct sync_event event = {.kind = kinds[kind], .bytes = bytes, .request = id};

    node_sync(ctx, &event);
}

void node_transport_poll(struct node *node)
{
    if (node->transport)
        node->transport->ops->poll(node->transport, on_delivery, node);
}

static void request(struct node *node, const struct sync_effect *fx)
{
    struct sync_event refused = {.kind = SYNC_EV_REPLY, .request = fx->request};

    if (!node->transport ||
        node->transport->ops->request(node->transport, fx->slot, fx->request, fx->bytes) != ERR_OK)
        node_sync(node, &refused);
}

/* ---- the barrier ---- */

static void warn_of_laggards(struct node *node, const struct sync_effect *fx)
{
    char text[LAGGARDS_TEXT] = "";
    uint64_t now_us = now_read().mono_us;
    size_t n = 0;

    if (node->barrier_warned_us && now_us - node->barrier_warned_us < WARN_EVERY_US)
        return;
    node->barrier_warned_us = now_us;
    for (size_t i = 0; i < fx->n_laggards && n < sizeof text; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, " %u", fx->laggards[i]);
    log_warn("sync", "a barrier timed out after %llu ms; slots that had not acknowledged:%s",
             (unsigned long long)fx->barrier_us / 1000, text);
}

static void barrier(struct node *node, const struct sync_effect *fx)
{
    struct ike_event event = {.kind = IKE_EV_COMMITTED, .commit = fx->barrier};

    histogram_observe(&node->barrier_us, fx->barrier_us);
    if (fx->timed_out) {
        node->counters.barrier_timeouts++;
        warn_of_laggards(node, fx);
    }
    if (node_resume_is_barrier(fx->barrier))
        node_resume_on_barrier(node, fx->barrier);
    else if (!fx->superseded) /* else the engine has learnt of the other form as a record */
        node_ike(node, &event);
}

/* ---- the others ---- */

static void granted(struct node *node, uint32_t epoch)
{
    if (epoch <= node->epoch) /* the IKE lane's counter restarts only under a higher one */
        return;
    node->epoch = epoch;
    node->ike_iv_counter = 0;
    if (node->dp)
        dp_set_epoch(node->dp, epoch);
    log_debug("node", "encrypting under epoch %u", epoch);
}

void node_carry_out_effect(struct node *node, const struct sync_effect *fx)
{
    switch (fx->kind) {
    case SYNC_FX_RECORD:
        node_on_record(node, fx->record);
        break;
    case SYNC_FX_JOURNAL:
        journal(node, fx->batch);
        break;
    case SYNC_FX_PUBLISH:
        if (node->transport)
            node->transport->ops->publish(node->transport, fx->bytes);
        break;
    case SYNC_FX_REQUEST:
        request(node, fx);
        break;
    case SYNC_FX_REPLY:
        if (node->transport)
            node->transport->ops->reply(node->transport, fx->request, fx->bytes);
        break;
    case SYNC_FX_BARRIER:
        barrier(node, fx);
        break;
    case SYNC_FX_FORWARDED:
        node->counters.forwarded_in++;
        node_on_ike_datagram(node, &fx->forward.local, &fx->forward.peer, fx->forward.datagram,
                             true);
        break;
    case SYNC_FX_MEMBER:
        log_info("node", "slot %u is %s", fx->slot, member_state_name(fx->state));
        break;
    case SYNC_FX_EPOCH:
        granted(node, fx->epoch);
        break;
    }
}
