/* What the IKE engine wishes, one action at a time, in its order. */
#include <stdlib.h>

#include "node/node.h"
#include "proto/err.h"

struct work {
    uv_work_t work;
    struct node *node;
    struct ike_job *job;
};

static void run_job(uv_work_t *work) /* a thread of the pool */
{
    struct work *w = work->data;

    ike_job_run(w->job);
}

static void bring_back(uv_work_t *work, int status)
{
    struct work *w = work->data;
    struct ike_event event = {.kind = IKE_EV_JOB, .job = w->job};

    (void)status; /* nothing of ours cancels it */
    node_ike(w->node, &event);
    free(w);
}

/* Without a thread to take it the job is done here: late beats never. */
static void start_job(struct node *node, struct ike_job *job)
{
    struct work *w = calloc(1, sizeof *w);
    struct ike_event event = {.kind = IKE_EV_JOB, .job = job};

    if (w) {
        w->work.data = w;
        w->node = node;
        w->job = job;
        if (uv_queue_work(&node->loop, &w->work, run_job, bring_back) == 0)
            return;
    }
    free(w);
    ike_job_run(job);
    node_ike(node, &event);
}

static void send_message(struct node *node, const struct ike_action *action)
{
    if (!node->dp || dp_send_ike(node->dp, &action->local, &action->peer, action->bytes.p,
                                 action->bytes.n) != ERR_OK)
        node->counters.ike_send_failed++;
}

static void commit(struct node *node, const struct ike_action *action)
{
    struct sync_event event = {
        .kind = SYNC_EV_PUT,
        .group = action->records,
        .n_group = action->n_records,
        .barrier = action->commit,
    };

    node_note_own(node, action->records, action->n_records);
    node_sync(node, &event);
}

void node_carry_out_action(struct node *node, const struct ike_action *action)
{
    switch (action->kind) {
    case IKE_ACT_SEND:
        send_message(node, action);
        break;
    case IKE_ACT_COMMIT:
        commit(node, action);
        break;
    case IKE_ACT_JOB:
        start_job(node, action->job);
        break;
    case IKE_ACT_FAILURE:
        node_tunnel_failed(node, &action->tunnel, action->reason);
        break;
    case IKE_ACT_ASK:
        node_activity_ask(node, action);
        break;
    }
}
