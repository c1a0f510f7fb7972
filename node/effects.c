/* What the replication core wishes, one effect at a time, in its order. */
#include <stdlib.h>

#include "node/api_text.h"
#include "node/node.h"
#include "proto/err.h"
#include "proto/log.h"

/* ---- the journal ---- */

/* Refused or not, the store takes the batch; a refusal shows at the next poll. */
static void journal(struct node *node, struct sync_batch *batch)
{
    node->store->ops->submit(node->store, batch);
}

void node_store_poll(struct node *node)
{
    struct sync_event event = {.kind = SYNC_EV_JOURNALED};

    if (!node->store)
        return;
    event.ticket = node->store->ops->poll(node->store, &event.failed);
    if (event.failed || node->journal_failed)
        node->store->ops->why(node->store, node->journal_why);
    if (event.ticket <= node->journaled && event.failed == node->journal_failed)
        return;
    if (event.failed && !node->journal_failed)
        log_error("node",
                  "the journal in %s cannot be written (%s): free the disk or replace it; packets "
                  "are carried meanwhile, and what waits is written when it can be",
                  node->config->node.state_dir, node->journal_why);
    node->journaled = event.ticket;
    node->journal_failed = event.failed;
    node_sync(node, &event);
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

/* The replication core has logged a time-out and its laggards. */
static void barrier(struct node *node, const struct sync_effect *fx)
{
    struct ike_event event = {.kind = IKE_EV_COMMITTED, .commit = fx->barrier};

    histogram_observe(&node->barrier_us, fx->barrier_us);
    node->counters.barrier_timeouts += fx->timed_out;
    if (node_takeover_is_barrier(fx->barrier))
        node_takeover_on_barrier(node, fx->barrier);
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
    free(node->own.spi);
    node->own = (struct own_spis){0};
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
            node->transport->ops->publish(node->transport, fx->slot, fx->bytes);
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
    case SYNC_FX_MOVED:
        node_on_moved_elsewhere(node, fx->moved.spi_in, &fx->moved.peer);
        break;
    case SYNC_FX_ACTIVITY:
        node_on_activity(node, fx->activity);
        break;
    case SYNC_FX_MISS_OVER:
        node->counters.misses_over++;
        if (node->dp)
            dp_miss_over(node->dp, fx->spi_in);
        break;
    case SYNC_FX_MEMBER:
        log_info("node", "slot %u is %s", fx->slot, member_state_name(fx->state));
        if (node->dp)
            dp_set_live(node->dp, fx->slot, fx->state != MEMBER_DEAD);
        break;
    case SYNC_FX_EPOCH:
        granted(node, fx->epoch);
        break;
    case SYNC_FX_CONFLICT:
        node_stop_at_once(node);
        break;
    }
}
