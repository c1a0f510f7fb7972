/* From a datagram to its answerer: gathers the facts for steer() and carries out
 * what it decides. */
#include "node/node.h"
#include "proto/err.h"

bool node_may_negotiate(const struct node *node)
{
    return sync_is_synced(node->sync) && !node->muted;
}

bool node_may_adopt(const struct node *node)
{
    return node->epoch > 0 && node_may_negotiate(node);
}

static bool is_live(void *ctx, uint16_t slot)
{
    return sync_member_live(ctx, slot);
}

static struct steering decide(const struct node *node, const struct ike_peek *peek,
                              const struct record *record, bool forwarded)
{
    struct steer_facts facts = {
        .peek = *peek,
        .our_slot = node->config->node.slot,
        .forwarded = forwarded,
        .may_negotiate = node_may_negotiate(node),
        .may_adopt = node_may_adopt(node),
        .caught_up = sync_is_caught_up(node->sync, now_read()),
        .record_owner = record ? record->ike.term.slot : -1,
        .spi_slot = -1,
        .live = is_live,
        .live_ctx = node->sync,
    };

    if (!record && !steer_is_init(peek)) {
        facts.spi_slot = keys_spi_slot(&node->keys, peek->spi_i, peek->our_spi);
        facts.engine_owns = ike_owns(node->ike, peek->our_spi);
    }
    return steer(&facts);
}

void node_on_ike_datagram(struct node *node, const struct endpoint *local,
                          const struct endpoint *peer, struct slice bytes, bool forwarded)
{
    struct ike_event to_engine = {
        .kind = IKE_EV_DATAGRAM, .local = *local, .peer = *peer, .bytes = bytes};
    struct sync_event to_other = {.kind = SYNC_EV_FORWARD,
                                  .forward = {.local = *local, .peer = *peer, .datagram = bytes}};
    const struct record *record = NULL;
    struct ike_peek peek;
    struct steering where;

    if (ike_peek(bytes, &peek) != ERR_OK) {
        where = (struct steering){.way = STEER_DROP, .reason = STEER_MALFORMED};
    } else {
        record = sync_find_ike(node->sync, peek.our_spi);
        where = decide(node, &peek, record, forwarded);
    }
    node->counters.steered[where.reason]++;
    switch (where.way) {
    case STEER_ENGINE:
        node_ike(node, &to_engine);
        break;
    case STEER_FORWARD:
        to_other.forward.to_slot = where.slot;
        node_sync(node, &to_other);
        break;
    case STEER_ADOPT:
        node_adopt(node, record, local, peer, bytes);
        break;
    case STEER_DROP:
        break;
    }
}
