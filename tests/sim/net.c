/* The mesh: PUB frames may be lost, doubled, late, overtaken; a request meets its answer, a
 * failure, or nothing at all. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

enum {
    REFUSED_US = 3000,     /* the other's port is closed: the transport says so soon */
    TIMEOUT_US = 1000000,  /* what the nng transport gives a request */
    SILENT_PERMILLE = 100, /* failures that are never reported */
};

static struct packet *packet_of(struct slice bytes)
{
    struct packet *p = malloc(sizeof *p + bytes.n);

    if (!p)
        abort();
    p->refs = 1;
    p->life = p->seen = 0;
    p->n = bytes.n;
    if (bytes.n)
        memcpy(p->b, bytes.p, bytes.n);
    return p;
}

/* The tag at a frame's end stands for all of it. */
static void mix_frame(struct sim *s, struct slice bytes)
{
    size_t n = bytes.n < 16 ? bytes.n : 16;

    if (n)
        mix_in(s, bytes.p + bytes.n - n, n);
}

static uint64_t arrival(struct sim *s, struct link *l, bool in_order)
{
    uint64_t at = s->now.mono_us + l->delay_us + below(s, l->jitter_us + 1);

    if (chance(s, l->late))
        at += below(s, 100000);
    if (in_order && at < l->last_us)
        at = l->last_us;
    l->last_us = at;
    return at;
}

/* Of all frames so far each is as likely to be on the tapes. */
static void record(struct sim *s, const struct member *from, struct packet *p)
{
    uint64_t at = s->n_heard++;

    if (at >= TAPES_MAX)
        at = below(s, (uint32_t)s->n_heard);
    if (at >= TAPES_MAX)
        return;
    packet_drop(s->tapes[at]);
    s->tapes[at] = p;
    p->life = from->life;
    p->refs++;
}

/* Somebody on the wire plays to a member what it has seen, or what comes from a life that is over
 * and before the one that it believes. (What it has not seen of one that runs is late, not old, and
 * counts.) */
void net_replay(struct sim *s)
{
    uint32_t n = s->n_heard < TAPES_MAX ? (uint32_t)s->n_heard : TAPES_MAX;
    struct packet *p = n ? s->tapes[below(s, n)] : NULL;
    const struct member *m = &s->members[below(s, (uint32_t)s->n)];

    if (!p || !m->core || (!(p->seen >> m->index & 1) && !check_believes_later(s, m, p->life)))
        return;
    p->refs++;
    sim_at(s, s->now.mono_us,
           (struct event){.kind = EV_FRAME, .b = (uint8_t)m->index, .packet = p});
}

void net_clear(struct sim *s)
{
    for (size_t i = 0; i < TAPES_MAX; i++)
        packet_drop(s->tapes[i]);
    free(s->calls);
}

void net_publish(struct sim *s, struct member *from, struct slice bytes)
{
    struct packet *p = packet_of(bytes);

    mix_frame(s, bytes);
    s->totals.frames++;
    if (s->plan.kinds >> FAULT_REPLAY & 1)
        record(s, from, p);
    for (size_t i = 0; i <= s->n; i++) {
        struct link *l = &s->links[from->index][i];
        struct event ev = {
            .kind = EV_FRAME, .a = (uint8_t)from->index, .b = (uint8_t)i, .packet = p};
        if ((int)i == from->index || !s->members[i].slot || s->members[i].slot == from->slot ||
            l->cut || chance(s, l->lose))
            continue;
        p->refs++;
        sim_at(s, arrival(s, l, s->plan.ordered), ev);
        if (!s->plan.ordered && chance(s, l->twice)) {
            p->refs++;
            sim_at(s, arrival(s, l, false), ev);
        }
    }
    packet_drop(p);
}

void net_cut(struct sim *s, int from, int to, bool cut)
{
    struct link *l = &s->links[from][to];

    if (l->cut && !cut)
        l->steady_us = l->mended_us = s->now.mono_us;
    if (cut)
        l->steady_us = UINT64_MAX;
    l->cut = cut;
}

bool net_joined(const struct sim *s, int a, int b)
{
    return !s->links[a][b].cut && !s->links[b][a].cut;
}

/* ---- requests ---- */

static void fail_call(struct sim *s, uint64_t token, uint64_t after_us)
{
    const struct call *c = &s->calls[token - 1];

    if (chance(s, SILENT_PERMILLE))
        return;
    sim_at(s, s->now.mono_us + after_us,
           (struct event){.kind = EV_REPLY, .a = c->answerer, .b = c->asker, .id = token});
}

void net_request(struct sim *s, struct member *from, const struct sync_effect *fx)
{
    struct member *to = ghost_or(s, member_of_slot(s, fx->slot), from);
    uint64_t token;

    s->calls = sim_grow(s->calls, s->n_calls, &s->cap_calls, sizeof *s->calls);
    s->calls[s->n_calls] = (struct call){.asker = (uint8_t)from->index,
                                         .answerer = (uint8_t)to->index,
                                         .life = from->life,
                                         .id = fx->request};
    token = ++s->n_calls;
    mix_frame(s, fx->bytes);
    sim_at(s, arrival(s, &s->links[from->index][to->index], false),
           (struct event){.kind = EV_REQUEST,
                          .a = (uint8_t)from->index,
                          .b = (uint8_t)to->index,
                          .id = token,
                          .packet = packet_of(fx->bytes)});
}

void net_reply(struct sim *s, struct member *from, uint64_t token, struct slice bytes)
{
    const struct call *c = &s->calls[token - 1];

    mix_frame(s, bytes);
    if (!net_joined(s, c->asker, c->answerer)) {
        fail_call(s, token, TIMEOUT_US);
        return;
    }
    sim_at(s, arrival(s, &s->links[from->index][c->asker], false),
           (struct event){.kind = EV_REPLY,
                          .a = c->answerer,
                          .b = c->asker,
                          .id = token,
                          .packet = packet_of(bytes)});
}

static void deliver_request(struct sim *s, const struct event *ev)
{
    struct member *m = &s->members[ev->b];
    struct sync_event request = {
        .kind = SYNC_EV_REQUEST, .request = ev->id, .bytes = {ev->packet->b, ev->packet->n}};

    if (!net_joined(s, ev->a, ev->b))
        fail_call(s, ev->id, TIMEOUT_US);
    else if (!m->core)
        fail_call(s, ev->id, REFUSED_US);
    else
        member_step(s, m, &request);
}

static void deliver_reply(struct sim *s, const struct event *ev)
{
    struct call *c = &s->calls[ev->id - 1];
    struct member *m = &s->members[c->asker];
    struct sync_event reply = {.kind = SYNC_EV_REPLY, .request = c->id};

    if (m->life != c->life || c->over)
        return;
    c->over = true;
    if (ev->packet)
        reply.bytes = (struct slice){ev->packet->b, ev->packet->n};
    member_step(s, m, &reply);
}

void net_deliver(struct sim *s, const struct event *ev)
{
    struct sync_event frame = {.kind = SYNC_EV_FRAME};

    if (ev->kind == EV_REQUEST) {
        deliver_request(s, ev);
    } else if (ev->kind == EV_REPLY) {
        deliver_reply(s, ev);
    } else {
        frame.bytes = (struct slice){ev->packet->b, ev->packet->n};
        ev->packet->seen |= 1U << ev->b;
        member_step(s, &s->members[ev->b], &frame);
    }
}
