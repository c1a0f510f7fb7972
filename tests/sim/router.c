/* Customers' routers: each keeps one tunnel up with whichever member answers, rekeys, adds and
 * deletes Child SAs, sends traffic, repeats what is not answered, and begins anew when nobody
 * answers for long. */
#include <string.h>

#include "tests/sim/sim.h"

enum { TRIES_MAX = 9, RETRY_US = 150000 };

static void wake_up(struct sim *s, int router, uint64_t after_us)
{
    sim_at(s, s->now.mono_us + after_us, (struct event){.kind = EV_ROUTER, .a = (uint8_t)router});
}

void router_begin(struct sim *s)
{
    s->n_routers = between(s, 1, ROUTERS_MAX);
    for (size_t i = 0; i < s->n_routers; i++) {
        s->routers[i] = (struct router){.ike = -1, .old_ike = -1, .delete_child = -1};
        wake_up(s, (int)i, 300000 + below(s, 300000));
    }
}

/* Anycast: any member that seems up; now and then one that is not any more. */
static int any_member(struct sim *s)
{
    int at = (int)below(s, (uint32_t)s->n);

    if (s->fading && s->members[s->fading - 1].core && chance(s, 400))
        return s->fading - 1; /* the network does not know yet */
    for (size_t i = 0; i < s->n && !s->members[at].core; i++)
        at = (int)below(s, (uint32_t)s->n);
    return at;
}

static void send_ask(struct sim *s, struct router *r)
{
    int to = any_member(s);

    if (r->ask.kind == ASK_NEW) { /* half-open: our SPI names the member */
        if (r->tries == 0)
            r->sticky = to;
        to = r->sticky;
    }
    if (chance(s, 30))
        return;
    sim_at(s, s->now.mono_us + between(s, 300, 5000),
           (struct event){.kind = EV_DATAGRAM, .b = (uint8_t)to, .ask = r->ask});
}

static void ask(struct sim *s, int router, enum ask_kind kind, int child)
{
    struct router *r = &s->routers[router];

    r->ask = (struct ask){.kind = (uint8_t)kind,
                          .router = (uint8_t)router,
                          .serial = ++r->serial,
                          .message_id = r->next_id++,
                          .ike = r->ike,
                          .child = child,
                          .new_ike = -1,
                          .new_child = -1};
    r->tries = 0;
    r->waiting = true;
    send_ask(s, r);
}

static int some_child(struct sim *s, const struct router *r)
{
    int found = -1;

    for (int i = 0, seen = 0; i < (int)s->n_children; i++)
        if (r->children[i] && below(s, (uint32_t)++seen) == 0)
            found = i;
    return found;
}

static unsigned count_children(const struct sim *s, const struct router *r)
{
    unsigned n = 0;

    for (size_t i = 0; i < s->n_children; i++)
        n += r->children[i];
    return n;
}

static void begin_anew(struct sim *s, int router)
{
    struct router *r = &s->routers[router];

    r->ike = r->old_ike = r->delete_child = -1;
    r->next_id = 0;
    memset(r->children, 0, sizeof r->children);
    ask(s, router, ASK_NEW, -1);
    r->ask.contact = chance(s, 300); /* its first sending went without: as good as lost */
}

static void choose(struct sim *s, int router)
{
    struct router *r = &s->routers[router];
    uint32_t dice = below(s, 100);
    int child = some_child(s, r);

    if (r->ike < 0) {
        begin_anew(s, router);
    } else if (r->old_ike >= 0 && dice < 70) { /* a rekey's end */
        int current = r->ike;
        uint32_t next_id = r->next_id;
        r->ike = r->old_ike;
        r->next_id = r->old_next_id;
        ask(s, router, ASK_DELETE_IKE, -1);
        r->ike = current;
        r->next_id = next_id;
        r->old_ike = -1;
    } else if (r->delete_child >= 0 && dice < 70) {
        ask(s, router, ASK_DELETE_CHILD, r->delete_child);
        r->delete_child = -1;
    } else if (dice < 30 && child >= 0 && r->delete_child < 0) {
        ask(s, router, ASK_REKEY_CHILD, child);
    } else if (dice < 45 && count_children(s, r) < 6) {
        ask(s, router, ASK_CHILD, -1);
    } else if (dice < 60 && r->old_ike < 0) {
        ask(s, router, ASK_REKEY_IKE, -1);
    } else if (dice < 72 && child >= 0) {
        ask(s, router, ASK_DELETE_CHILD, child);
    } else if (dice < 78) {
        ask(s, router, ASK_DELETE_IKE, -1);
    } else {
        ask(s, router, ASK_ALIVE, -1);
    }
}

static void send_traffic(struct sim *s, const struct router *r)
{
    int child = some_child(s, r);

    if (child >= 0)
        sim_at(
            s, s->now.mono_us + between(s, 300, 3000),
            (struct event){.kind = EV_TRAFFIC, .b = (uint8_t)any_member(s), .id = (uint64_t)child});
}

void router_timer(struct sim *s, int router)
{
    struct router *r = &s->routers[router];

    if (s->now.mono_us > s->plan.quiet_us && !r->waiting)
        return;
    send_traffic(s, r);
    if (!r->waiting) {
        choose(s, router);
    } else if (++r->tries < TRIES_MAX) {
        send_ask(s, r);
    } else {
        sim_note(s, "router %d gives up", router);
        r->waiting = false;
        r->ike = -1;
    }
    wake_up(s, router, RETRY_US + below(s, RETRY_US));
}

static void drop_child(struct router *r, int child)
{
    if (child < 0)
        return;
    r->children[child] = false;
    if (r->delete_child == child)
        r->delete_child = -1;
}

static void accept_child(struct sim *s, struct router *r, int child)
{
    r->children[child] = true;
    s->children[child].accepted = true;
}

/* A request of the gateway; repeated, it is answered again. */
static void router_asked(struct sim *s, struct router *r, const struct ask *a)
{
    struct ask answer = *a;

    if (a->ike != r->ike && a->ike != r->old_ike)
        return;
    if (a->kind == ASK_OWN_DELETE)
        drop_child(r, a->child);
    else if (r->children[a->child] || r->children[a->new_child])
        accept_child(s, r, a->new_child);
    else
        answer.refused = true;
    if (chance(s, 30))
        return;
    sim_at(s, s->now.mono_us + between(s, 300, 5000),
           (struct event){.kind = EV_DATAGRAM, .b = (uint8_t)any_member(s), .ask = answer});
}

void router_answer(struct sim *s, int router, const struct ask *a)
{
    struct router *r = &s->routers[router];

    if (a->kind >= ASK_OWN_REKEY) {
        router_asked(s, r, a);
        return;
    }
    if (!r->waiting || a->serial != r->ask.serial)
        return;
    r->waiting = false;
    if (a->refused)
        return;
    switch ((enum ask_kind)a->kind) {
    case ASK_NEW:
        r->ike = a->new_ike;
        r->next_id = a->message_id + 1;
        accept_child(s, r, a->new_child);
        break;
    case ASK_CHILD:
        accept_child(s, r, a->new_child);
        break;
    case ASK_REKEY_CHILD:
        accept_child(s, r, a->new_child);
        r->delete_child = a->child;
        break;
    case ASK_REKEY_IKE:
        r->old_ike = r->ike;
        r->old_next_id = r->next_id;
        r->ike = a->new_ike;
        r->next_id = 0;
        break;
    case ASK_DELETE_CHILD:
        drop_child(r, a->child);
        break;
    case ASK_DELETE_IKE:
        if (a->ike == r->ike) {
            r->ike = r->old_ike = -1;
            memset(r->children, 0, sizeof r->children);
        }
        break;
    default:
        break;
    }
    if (chance(s, 500))
        send_traffic(s, r);
}
