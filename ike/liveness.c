/* Whether a peer is still there (RFC 7296 §2.4).
 *
 * Its traffic may reach any node, so the owner's own ears prove little. Before it asks the peer,
 * and again before its last unanswered request ends the SA, it has every live member asked
 * (IKE_ACT_ASK) when they last opened a packet on one of the SA's Child SAs:
 *
 *   silence here for dpd_s ──ASK──> none of them heard it either ──> liveness check to the peer
 *   last try unanswered ──ASK──> none of them heard it since ──> given up
 *
 * The first is a courtesy: without an answer from all within ASK_WAIT_S the peer is asked. The
 * second is a condition: without an answer from all, or while anybody hears the peer, the request
 * is repeated slowly. */
#include <inttypes.h>

#include "ike/internal.h"

enum {
    ASK_AGAIN_MS = 900, /* less than a sweep: a lost question or answer */
    ASK_WAIT_S = 3,
    SILENCE_S = 60, /* what every member must have heard nothing for; about as long as all tries */
};

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t last_sign_of_life(const struct ike_engine *e, const struct ike_sa *sa)
{
    uint64_t last = later(later(sa->last_in_us, sa->began_us), sa->others.heard_us);

    for (size_t i = 0; e->config.last_inbound_us && i < sa->n_children; i++)
        last = later(
            last, e->config.last_inbound_us(e->config.liveness_ctx, sa->children[i]->child.spi_in));
    return last;
}

/* True once all live members have answered what was asked at `since_us` or later; asks. */
static bool others_answered(struct ike_engine *e, struct ike_sa *sa, uint64_t since_us)
{
    struct ike_action *a;

    if (!e->config.ask_others || sa->n_children == 0)
        return true;
    if (sa->others.answered_us >= since_us)
        return true;
    if (sa->others.asked_us >= since_us &&
        e->now.mono_us - sa->others.asked_us < ASK_AGAIN_MS * 1000ULL)
        return false;
    a = act_add(e, IKE_ACT_ASK);
    if (a) {
        a->our_spi = sa->our_spi;
        a->children = sa->children;
        a->n_children = sa->n_children;
        sa->others.asked_us = e->now.mono_us;
    }
    return false;
}

void liveness_told(struct ike_engine *e, const struct ike_event *event)
{
    struct ike_sa *sa = ike_sa_find(e, event->our_spi);

    if (!sa)
        return;
    sa->others.heard_us = later(sa->others.heard_us, event->heard_us);
    sa->others.answered_us = later(sa->others.answered_us, event->answered_us);
}

bool liveness_check_due(struct ike_engine *e, struct ike_sa *sa)
{
    uint64_t last = last_sign_of_life(e, sa), silent_us = last + e->config.dpd_s * 1000000ULL;

    if (!e->config.dpd_s || e->now.mono_us < silent_us || e->now.mono_us <= last ||
        (e->config.may_give_up && !e->config.may_give_up(e->config.liveness_ctx)))
        return false;
    return others_answered(e, sa, silent_us) ||
           e->now.mono_us - silent_us >= ASK_WAIT_S * 1000000ULL;
}

enum liveness_verdict liveness_judge(struct ike_engine *e, struct ike_sa *sa)
{
    if ((e->config.may_give_up && !e->config.may_give_up(e->config.liveness_ctx)) ||
        e->now.mono_us - last_sign_of_life(e, sa) < SILENCE_S * 1000000ULL)
        return LIVENESS_ASK_ON;
    if (others_answered(e, sa, sa->own.next_us))
        return LIVENESS_LOST;
    return e->now.mono_us - sa->own.next_us >= ASK_WAIT_S * 1000000ULL ? LIVENESS_ASK_ON
                                                                       : LIVENESS_WAIT;
}

void liveness_give_up(struct ike_engine *e, struct ike_sa *sa)
{
    char peer[ENDPOINT_TEXT];

    log_warn("ike", "IKE SA 0x%016" PRIx64 ": peer %s does not answer, deleted with %zu Child SAs",
             sa->our_spi, endpoint_format(&sa->rec->ike.peer, peer), sa->n_children);
    own_clear(sa);
    e->stats.timeouts++;
    group_add_deletion(e, sa);
    group_commit(e, NULL);
    ike_sa_forget(e, sa);
}
