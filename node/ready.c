#include "node/node.h"
#include "proto/log.h"

enum { TELL_WAITING_MS = 3000 };

struct readiness node_readiness(const struct node *node)
{
    struct readiness r = {.n = 0};

    if (!sync_is_synced(node->sync))
        r.reasons[r.n++] = "not_synced";
    if (node->epoch == 0) {
        r.details[r.n] = sync_epoch_obstacle(node->sync);
        r.reasons[r.n++] = "no_epoch";
    }
    if (node->iv_exhausted) {
        r.details[r.n] = sync_epoch_obstacle(node->sync);
        r.reasons[r.n++] = "iv_exhausted";
    }
    if (!node->dp)
        r.reasons[r.n++] = "dataplane_down";
    if (node->draining)
        r.reasons[r.n++] = "draining";
    if (node->journal_failed) {
        r.details[r.n] = node->journal_why;
        r.reasons[r.n++] = "journal_failed";
    }
    return r;
}

void node_update_ready(struct node *node)
{
    struct readiness r = node_readiness(node);
    bool ready = r.n == 0;

    if (!ready && !node->was_ready && !node->told_waiting && r.n > 0 &&
        now_read().wall_ms - node->started_ms > TELL_WAITING_MS) {
        node->told_waiting = true;
        log_warn("node", "not ready yet: %s%s", r.reasons[0],
                 sync_is_synced(node->sync)
                     ? ""
                     : " (waiting for other members: are they up, and reachable on the mesh?)");
    }
    if (ready == node->ready)
        return;
    node->ready = ready;
    sync_set_ready(node->sync, ready);
    if (ready && !node->was_ready)
        log_info("node", "ready, %lld ms after the start",
                 (long long)(now_read().wall_ms - node->started_ms));
    else if (ready)
        log_info("node", "ready again");
    else
        log_warn("node", "not ready any more: %s%s%s", r.reasons[0], r.details[0] ? ": " : "",
                 r.details[0] ? r.details[0] : "");
    node->was_ready |= ready;
}
