/* NAT moves between the parts: from a lane to the owner of the IKE SA, who asks the
 * peer there and publishes what it finds; records.c carries that to the dataplane. */
#include "node/node.h"

static void tell_engine(struct node *node, const struct record *child, const struct endpoint *peer)
{
    struct ike_event event = {.kind = IKE_EV_MOVED, .record = child, .peer = *peer};

    if (node->ike)
        node_ike(node, &event);
}

void node_on_moved(void *ctx, uint32_t spi_in, const struct endpoint *peer)
{
    struct node *node = ctx;
    const struct record *child = sync_find_child(node->sync, spi_in), *ike;
    struct sync_event event = {.kind = SYNC_EV_MOVED, .moved = {.spi_in = spi_in, .peer = *peer}};

    ike = child ? sync_find_lineage_ike(node->sync, &child->child.lineage) : NULL;
    if (!ike)
        return;
    event.moved.to_slot = ike->ike.term.slot;
    if (event.moved.to_slot == node->config->node.slot)
        tell_engine(node, child, peer);
    else if (sync_member_live(node->sync, event.moved.to_slot))
        node_sync(node, &event);
}

void node_on_moved_elsewhere(struct node *node, uint32_t spi_in, const struct endpoint *peer)
{
    const struct record *child = sync_find_child(node->sync, spi_in);

    node->counters.moves_heard++;
    if (child)
        tell_engine(node, child, peer);
}

const struct endpoint *node_child_peer(const struct node *node, const struct child_record *sa)
{
    const struct record *moved = sync_find_endpoint(node->sync, sa->spi_in);

    return moved ? &moved->endpoint.peer : &sa->peer;
}

const struct record *node_find_endpoint(void *ctx, uint32_t spi_in)
{
    const struct node *node = ctx;

    return sync_find_endpoint(node->sync, spi_in);
}
