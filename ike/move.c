/* A peer behind a NAT whose address or port changed (RFC 7296 §2.23).
 *
 *   ESP, or a request of the peer, from elsewhere       -->
 *                        <--  HDR, SK {}   there, not to where it was
 *   HDR, SK {}           -->  from there: it moved
 *
 * An authentic packet from a new address proves little: anybody on the way can hold one
 * back and send it himself. So we ask, there, with a request that nobody has seen before;
 * its answer from the same address moves the IKE SA and all Child SAs of its lineage, in
 * one group of records. Any other answer moves nothing.
 *
 * Requests of ours go one at a time, and must be answered before the next. So a probe
 * that stays unanswered goes to the recorded address, too, like any request; and a
 * request that is on its way to an address where nobody is any more goes to the new one
 * as well. That an address lied never costs the SA. Probes have their pauses, which grow
 * with failures, and a limit for all SAs together. */
#include <inttypes.h>

#include "ike/internal.h"

enum {
    PROBE_TRIES = 2,         /* to the new address alone */
    PROBE_PAUSE_MS = 2000,   /* between two probes of one SA; doubled with each failure, */
    PROBE_DOUBLINGS_MAX = 3, /* up to 16 s */
    PROBES_PER_SECOND = 512, /* of all SAs; what is too much waits */
    TRIES_LEFT_OVER = 2,     /* a request that gets a second address has most of its tries again */
};

static bool is_set(const struct endpoint *ep)
{
    return ep->ip.family != 0;
}

static bool same_ends(const struct endpoint *local_a, const struct endpoint *peer_a,
                      const struct endpoint *local_b, const struct endpoint *peer_b)
{
    return endpoint_equal(local_a, local_b) && endpoint_equal(peer_a, peer_b);
}

static void forget_candidate(struct ike_sa *sa)
{
    sa->move.local = sa->move.peer = (struct endpoint){0};
}

/* ---- the records ---- */

static const struct endpoint_record *known_endpoint(const struct ike_engine *e, uint32_t spi_in)
{
    const struct record *r = e->config.find_endpoint
                                 ? e->config.find_endpoint(e->config.find_endpoint_ctx, spi_in)
                                 : NULL;

    return r ? &r->endpoint : NULL;
}

/* To where the IKE SA is known to be. */
static void move_child(struct ike_engine *e, const struct ike_sa *sa, const struct child_record *c)
{
    const struct endpoint_record *known = known_endpoint(e, c->spi_in);
    struct record *r;

    if (!c->udp_encap || endpoint_equal(known ? &known->peer : &c->peer, &sa->rec->ike.peer))
        return;
    r = record_new(RECORD_ENDPOINT);
    if (!r)
        return;
    r->endpoint = (struct endpoint_record){
        .spi_in = c->spi_in, .move = known ? known->move + 1 : 1, .peer = sa->rec->ike.peer};
    (void)group_add(e, r);
    record_free(r);
}

/* From the last to the first: what is added or removed meanwhile makes none be forgotten. */
static void move_children(struct ike_engine *e, struct ike_sa *sa)
{
    if (sa->move.children_left > sa->n_children)
        sa->move.children_left = sa->n_children;
    while (sa->move.children_left && e->n_group < GROUP_MAX)
        move_child(e, sa, &sa->children[--sa->move.children_left]->child);
}

/* ---- hints ---- */

/* The latest counts. */
static void note(struct ike_sa *sa, const struct endpoint *local, const struct endpoint *peer)
{
    const struct ike_record *rec = &sa->rec->ike;

    if (sa->phase != PHASE_ESTABLISHED || !(rec->nat & NAT_PEER) || peer->port == 0 ||
        !ip_equal(&local->ip, &rec->local.ip) || peer->ip.family != rec->peer.ip.family)
        return;
    if (same_ends(local, peer, &rec->local, &rec->peer)) {
        forget_candidate(sa);
        return;
    }
    sa->move.local = *local;
    sa->move.peer = *peer;
}

static struct ike_sa *leader(const struct ike_engine *e, const struct id128 *lineage)
{
    struct ike_sa *sa;

    HASH_FIND(by_lineage, e->by_lineage, lineage, sizeof *lineage, sa);
    return sa;
}

void move_noticed(struct ike_engine *e, struct ike_sa *sa, const struct request *rq)
{
    struct ike_sa *lead = leader(e, &sa->rec->ike.lineage);

    if (!lead)
        return;
    note(lead, &rq->local, &rq->peer);
    move_continue(e, lead);
}

void move_reported(struct ike_engine *e, const struct ike_event *event)
{
    const struct child_record *child = &event->record->child;
    struct ike_sa *sa = leader(e, &child->lineage);

    for (size_t i = 0; sa && i < sa->n_children; i++) {
        const struct child_record *mine = &sa->children[i]->child;

        if (mine->spi_in != child->spi_in || !mine->udp_encap || !(mine->nat & NAT_PEER))
            continue;
        note(sa, &sa->rec->ike.local, &event->peer);
        if (endpoint_equal(&event->peer, &sa->rec->ike.peer))
            move_child(e, sa, mine); /* that is known, but not of this one */
        if (e->n_group)
            group_commit(e, NULL);
        move_continue(e, sa);
        return;
    }
}

/* ---- probes ---- */

static bool probe_allowed(struct ike_engine *e, struct ike_sa *sa)
{
    unsigned doublings =
        sa->move.failed < PROBE_DOUBLINGS_MAX ? sa->move.failed : PROBE_DOUBLINGS_MAX;

    if (e->now.mono_us < sa->move.next_us)
        return false;
    if (e->now.mono_us - e->probe_window_us >= 1000000) {
        e->probe_window_us = e->now.mono_us;
        e->probes = 0;
    }
    if (e->probes >= PROBES_PER_SECOND)
        return false;
    e->probes++;
    e->stats.move_probes++;
    sa->move.next_us = e->now.mono_us + ((uint64_t)PROBE_PAUSE_MS << doublings) * 1000;
    return true;
}

static void log_probe(const struct ike_sa *sa)
{
    char was[ENDPOINT_TEXT], now[ENDPOINT_TEXT];

    log_debug("ike", "IKE SA 0x%016" PRIx64 ": peer %s was heard from %s, asking there",
              sa->our_spi, endpoint_format(&sa->rec->ike.peer, was),
              endpoint_format(&sa->move.peer, now));
}

static void aim(struct own_request *own, const struct ike_sa *sa)
{
    own->probe_local = sa->move.local;
    own->probe_peer = sa->move.peer;
}

/* A request is under way to an address that may be dead: to the other one, too, from now on. */
static void add_address(struct ike_engine *e, struct ike_sa *sa)
{
    struct own_request *own = &sa->own;
    const struct blob *b = &sa->rec->ike.our_request;

    if (!own->sent || sa->busy || sa->commit || b->n == 0 ||
        same_ends(&own->probe_local, &own->probe_peer, &sa->move.local, &sa->move.peer) ||
        !probe_allowed(e, sa))
        return;
    log_probe(sa);
    aim(own, sa);
    own->probe_alone = false;
    if (own->tries > TRIES_LEFT_OVER)
        own->tries = TRIES_LEFT_OVER;
    act_send_run(e, &own->probe_local, &own->probe_peer, b);
}

void move_continue(struct ike_engine *e, struct ike_sa *sa)
{
    struct chain c;

    if (sa->move.children_left && !e->n_group && !e->group_given) { /* more than one group holds */
        move_children(e, sa);
        if (e->n_group)
            group_commit(e, NULL);
    }
    if (!is_set(&sa->move.peer) || sa->phase != PHASE_ESTABLISHED)
        return;
    if (sa->own.kind != OWN_NONE) {
        add_address(e, sa);
        return;
    }
    if (!own_may_start(sa) || sa->rekeyed || e->n_group || e->group_given || !probe_allowed(e, sa))
        return;
    log_probe(sa);
    sa->own = (struct own_request){.kind = OWN_DPD, .probe_alone = true};
    aim(&sa->own, sa);
    chain_begin(&c, e->inner, sizeof e->inner);
    own_launch(e, sa, INFORMATIONAL, &c);
}

void move_widen(struct ike_sa *sa)
{
    if (sa->own.probe_alone && sa->own.tries >= PROBE_TRIES) {
        sa->own.probe_alone = false;
        sa->own.tries = 0; /* as many as any request has */
    }
}

void move_send(struct ike_engine *e, struct ike_sa *sa)
{
    const struct ike_record *rec = &sa->rec->ike;
    const struct own_request *own = &sa->own;

    if (!own->probe_alone)
        act_send_run(e, &rec->local, &rec->peer, &rec->our_request);
    if (is_set(&own->probe_peer))
        act_send_run(e, &own->probe_local, &own->probe_peer, &rec->our_request);
}

/* ---- the answer ---- */

void move_answered(struct ike_engine *e, struct ike_sa *sa, const struct own_request *own,
                   const struct request *rq)
{
    struct ike_record *rec = &sa->rec->ike;
    char was[ENDPOINT_TEXT], now[ENDPOINT_TEXT];
    bool same_wish =
        same_ends(&own->probe_local, &own->probe_peer, &sa->move.local, &sa->move.peer);

    if (!is_set(&own->probe_peer))
        return;
    if (same_wish)
        forget_candidate(sa);
    if (!same_ends(&own->probe_local, &own->probe_peer, &rq->local, &rq->peer)) {
        sa->move.failed++;
        e->stats.move_probes_failed++;
        log_info("ike", "IKE SA 0x%016" PRIx64 ": its peer is not at %s, it answered from %s",
                 sa->our_spi, endpoint_format(&own->probe_peer, now),
                 endpoint_format(&rq->peer, was));
        return;
    }
    log_info("ike", "IKE SA 0x%016" PRIx64 ": peer moved from %s to %s, with %zu Child SAs",
             sa->our_spi, endpoint_format(&rec->peer, was), endpoint_format(&rq->peer, now),
             sa->n_children);
    rec->local = rq->local;
    rec->peer = rq->peer;
    sa->move.failed = 0;
    e->stats.moves++;
    sa->move.children_left = sa->n_children;
    move_children(e, sa);
}
