/* When a peer was last heard, anywhere: the mesh's part of ike/liveness.c.
 *
 * What the engine asks in one tick goes out as rounds of up to SYNC_ACTIVITY_MAX
 * Child SAs each. A round is over when every member that is live by then has
 * answered, or after ROUND_MS; the engine learns what was heard either way, and
 * whether all had spoken. Any member answers from its lanes' own statistics. */
#include <stdlib.h>
#include <string.h>

#include "node/node.h"

enum {
    ROUND_MS = 800, /* the engine asks again at its next sweep */
    ROUNDS_MAX = 128,
};

struct asked { /* an IKE SA and its part of the round's Child SAs */
    uint64_t our_spi;
    size_t first; /* in question->spi_in */
    uint64_t heard_us;
};

struct round {
    uint64_t number;   /* 0: free */
    uint64_t asked_us; /* monotonic: when the question left */
    struct sync_activity *question;
    struct asked *asked; /* SYNC_ACTIVITY_MAX: one Child SA each at least */
    size_t n_asked;
    bool answered[SLOT_MAX + 1];
};

struct activity {
    struct round rounds[ROUNDS_MAX];
    struct round *open; /* gathers questions; not sent yet */
    uint64_t last;
};

static struct activity *activity_of(struct node *node)
{
    if (!node->activity)
        node->activity = calloc(1, sizeof *node->activity);
    return node->activity;
}

static void end_round(struct round *r)
{
    free(r->question);
    free(r->asked);
    *r = (struct round){0};
}

/* ---- asking ---- */

static struct round *begin_round(struct activity *a)
{
    for (size_t i = 0; i < ROUNDS_MAX; i++) {
        struct round *r = &a->rounds[i];

        if (r->number)
            continue;
        r->question = calloc(1, sizeof *r->question);
        r->asked = calloc(SYNC_ACTIVITY_MAX, sizeof *r->asked);
        if (!r->question || !r->asked) {
            end_round(r);
            return NULL;
        }
        r->number = r->question->round = ++a->last;
        return a->open = r;
    }
    return NULL;
}

/* The question is kept: answers name its Child SAs in its order. */
static void send_question(struct node *node, struct activity *a)
{
    struct sync_event event = {.kind = SYNC_EV_ACTIVITY};

    if (!a->open)
        return;
    a->open->asked_us = now_read().mono_us;
    event.activity = malloc(sizeof *event.activity);
    if (event.activity) {
        *event.activity = *a->open->question;
        node_sync(node, &event);
        node->counters.activity_rounds++;
    }
    a->open = NULL;
}

void node_activity_ask(struct node *node, const struct ike_action *ask)
{
    struct activity *a = activity_of(node);
    struct sync_activity *q;
    struct round *r;

    if (!a || ask->n_children > SYNC_ACTIVITY_MAX)
        return;
    if (a->open && a->open->question->n + ask->n_children > SYNC_ACTIVITY_MAX)
        send_question(node, a);
    r = a->open ? a->open : begin_round(a);
    if (!r)
        return; /* the engine asks again */
    q = r->question;
    r->asked[r->n_asked++] = (struct asked){.our_spi = ask->our_spi, .first = q->n};
    for (size_t i = 0; i < ask->n_children; i++)
        q->spi_in[q->n++] = ask->children[i]->child.spi_in;
}

/* ---- answering ---- */

static void answer(struct node *node, const struct sync_activity *q)
{
    struct sync_event event = {.kind = SYNC_EV_ACTIVITY};
    struct sync_activity *out = calloc(1, sizeof *out);
    uint64_t now_us = now_read().mono_us;

    if (!out)
        return;
    out->slot = q->slot;
    out->answer = true;
    out->round = q->round;
    for (size_t i = 0; i < q->n; i++) {
        uint64_t heard_us = node_last_inbound_us(node, q->spi_in[i]), age_ms;

        if (heard_us == 0)
            continue;
        age_ms = now_us > heard_us ? (now_us - heard_us) / 1000 : 0;
        out->spi_in[out->n] = q->spi_in[i];
        out->age_ms[out->n++] = age_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)age_ms;
    }
    event.activity = out;
    node_sync(node, &event);
}

/* ---- being answered ---- */

static void tell_engine(struct node *node, struct round *r, bool by_all)
{
    struct ike_event event = {.kind = IKE_EV_ACTIVITY, .answered_us = by_all ? r->asked_us : 0};

    for (size_t i = 0; i < r->n_asked; i++) {
        event.our_spi = r->asked[i].our_spi;
        event.heard_us = r->asked[i].heard_us;
        if (by_all || event.heard_us)
            node_ike(node, &event);
    }
    end_round(r);
}

static bool all_answered(const struct node *node, const struct round *r)
{
    const struct config *config = node->config;

    for (size_t i = 0; i < config->mesh.n; i++) {
        uint16_t slot = config->mesh.members[i].slot;

        if (slot != config->node.slot && !r->answered[slot] && sync_member_live(node->sync, slot))
            return false;
    }
    return true;
}

static void take_answer(struct node *node, struct activity *a, const struct sync_activity *said)
{
    uint64_t now_us = now_read().mono_us;
    struct round *r = NULL;

    for (size_t i = 0; i < ROUNDS_MAX && !r; i++)
        if (a->rounds[i].number == said->round && said->round && &a->rounds[i] != a->open)
            r = &a->rounds[i];
    if (!r)
        return;                                           /* late */
    for (size_t i = 0, k = 0, sa = 0; i < said->n; i++) { /* both are in the same order */
        uint64_t age_us = said->age_ms[i] * 1000ULL,
                 heard_us = now_us > age_us ? now_us - age_us : 1;

        while (k < r->question->n && r->question->spi_in[k] != said->spi_in[i])
            k++;
        if (k == r->question->n)
            break;
        while (sa + 1 < r->n_asked && r->asked[sa + 1].first <= k)
            sa++;
        if (heard_us > r->asked[sa].heard_us)
            r->asked[sa].heard_us = heard_us;
    }
    r->answered[said->slot] = true;
    if (all_answered(node, r))
        tell_engine(node, r, true);
}

void node_on_activity(struct node *node, const struct sync_activity *said)
{
    struct activity *a = activity_of(node);

    if (said->answer && a)
        take_answer(node, a, said);
    else if (!said->answer)
        answer(node, said);
}

void node_activity_tick(struct node *node)
{
    struct activity *a = node->activity;
    uint64_t now_us = now_read().mono_us;

    if (!a)
        return;
    send_question(node, a);
    for (size_t i = 0; i < ROUNDS_MAX; i++) {
        struct round *r = &a->rounds[i];

        if (!r->number)
            continue;
        if (all_answered(node, r)) /* nobody else is live, or who had not answered died */
            tell_engine(node, r, true);
        else if (now_us - r->asked_us >= ROUND_MS * 1000ULL)
            tell_engine(node, r, false);
    }
}

void node_activity_free(struct node *node)
{
    if (!node->activity)
        return;
    for (size_t i = 0; i < ROUNDS_MAX; i++)
        end_round(&node->activity->rounds[i]);
    free(node->activity);
    node->activity = NULL;
}
