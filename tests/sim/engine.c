/* What node/ and ike/ do with the core, as far as it matters to the core: the same records in the
 * same groups and order, the same barriers, the same rules of who may answer.
 *
 *   a request    steering (node/steering.c): the record's owner answers, a live owner gets it
 *                over the mesh; a dead owner's SA is adopted under the next term
 *   an exchange  group {IKE SA, Child SA, ...} -> PUT with a barrier -> the answer leaves
 *   a restart    the slot's IKE SAs get the next term, and pass the barrier (node/resume.c)
 *   a drain      the slot's IKE SAs get a ready member's slot and the next term
 *   own requests (ike/own.c) a Child SA is rekeyed, the old one deleted: the request's bytes are in
 * the record and past the barrier before they leave, and whoever speaks for the SA later repeats
 * them; what the answer makes passes another one traffic      `confirmed`, by any member
 * (node/records.c)
 *
 * (node/takeover.c is what restarts, adoptions and drains come from.) */
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "sync/join.h"
#include "tests/sim/sim.h"
#include "tests/unit/sync/samples.h"

enum { GROUP_MAX = 24 };

struct group {
    struct record *r[GROUP_MAX];
    size_t n;
};

/* ---- sets of children ---- */

static void include(struct spoken *sp, int child, bool in)
{
    uint64_t bit = UINT64_C(1) << (child % 64);

    if (in)
        sp->children[child / 64] |= bit;
    else
        sp->children[child / 64] &= ~bit;
}

static bool includes(const struct spoken *sp, int child)
{
    return sp->children[child / 64] >> (child % 64) & 1;
}

/* ---- ownership ---- */

static void hush(struct spoken *sp)
{
    record_free(sp->rec);
    *sp = (struct spoken){0};
}

void engine_clear(struct member *m)
{
    for (int i = 0; i < IKES_MAX; i++)
        hush(&m->spoken[i]);
}

static const struct record *ike_at(const struct sim *s, const struct member *m, int ike)
{
    return sync_find_ike(m->core, s->ikes[ike].spi);
}

static bool installed_child(const struct sim *s, const struct member *m, int child)
{
    const struct record *r = sync_find_child(m->core, s->children[child].spi_in);

    return r && r->child.state == SA_INSTALLED;
}

/* Speaks from now on as its record says (ike_restore): a newer SA of the lineage has taken the
 * children, if there is one. */
static void restore(struct sim *s, struct member *m, int ike)
{
    struct spoken *sp = &m->spoken[ike];
    const struct record *r = ike_at(s, m, ike);

    hush(sp);
    sp->speaks = true;
    sp->rec = record_clone(r);
    if (r->ike.our_request.n == sizeof sp->own)
        memcpy(&sp->own, r->ike.our_request.p, sizeof sp->own);
    for (size_t i = (size_t)ike + 1; i < s->n_ikes; i++) {
        const struct record *newer = ike_at(s, m, (int)i);
        if (s->ikes[i].lineage == s->ikes[ike].lineage && newer && newer->ike.state == SA_INSTALLED)
            sp->rekeyed = true;
    }
    for (size_t i = 0; !sp->rekeyed && i < s->n_children; i++)
        if (s->children[i].lineage == s->ikes[ike].lineage && installed_child(s, m, (int)i))
            include(sp, (int)i, true);
}

static bool is_own_term(const struct member *m, const struct term *term)
{
    struct id128 self = sync_incarnation(m->core);

    return term->slot == m->slot && id128_equal(&term->incarnation, &self);
}

/* ---- puts ---- */

static void add(struct group *g, struct record *r)
{
    if (!r || g->n == GROUP_MAX)
        abort();
    g->r[g->n++] = r;
}

static void add_clone(struct group *g, const struct record *r)
{
    add(g, record_clone(r));
}

static void note_deleted(struct sim *s, const struct record *r, int fact)
{
    if (record_state(r) != SA_DELETED)
        return;
    if (r->kind == RECORD_IKE)
        s->ikes[fact].deleted = true;
    else
        s->children[fact].deleted = true;
}

/* Puts the group; w says what for, or is NULL where no answer waits. */
static void put(struct sim *s, struct member *m, struct group *g, const struct waiting *w)
{
    struct sync_event ev = {.kind = SYNC_EV_PUT, .group = g->r, .n_group = g->n};
    struct waiting held = {.put_us = s->now.mono_us};

    if (w) {
        held = *w;
        held.put_us = s->now.mono_us;
        held.barrier = ev.barrier = ++m->last_barrier;
        m->waiting = sim_grow(m->waiting, m->n_waiting, &m->cap_waiting, sizeof *m->waiting);
    }
    for (size_t i = 0; i < g->n; i++) {
        int fact = fact_of(s, g->r[i]);
        note_deleted(s, g->r[i], fact);
        held.forms[held.n_forms++] = form_of(g->r[i], fact);
    }
    if (w)
        m->waiting[m->n_waiting++] = held;
    check_put(s, m, &held);
    member_step(s, m, &ev);
    check_own(s, m, &held);
}

/* ---- making SAs ---- */

static uint64_t ike_spi(struct sim *s, const struct member *m)
{
    return (uint64_t)m->slot << 54 | (sim_random(s) >> 10) | 1;
}

/* As node/ tells ike what time it is. */
static struct now engine_now(const struct sim *s, const struct member *m)
{
    return sync_now(m->core, member_now(s, m));
}

static struct record *new_ike(struct sim *s, struct member *m, int router, int lineage)
{
    int i = (int)s->n_ikes++;
    struct ike_fact *f = &s->ikes[i];
    struct record *r;
    int64_t life_ms = s->plan.lifetime_ms + below(s, s->plan.lifetime_ms);

    *f = (struct ike_fact){.spi = ike_spi(s, m), .router = router, .made_life = m->life};
    f->lineage = lineage < 0 ? i : lineage;
    f->not_after_ms = engine_now(s, m).wall_ms + life_ms;
    for (int k = 0; k < i; k++) /* a successor lives longer */
        if (s->ikes[k].lineage == f->lineage && s->ikes[k].not_after_ms >= f->not_after_ms)
            f->not_after_ms = s->ikes[k].not_after_ms + 100;
    r = sample_ike(f->spi, (uint32_t)f->lineage);
    r->ike.term = (struct term){1, m->slot, sync_incarnation(m->core)};
    r->ike.revision = 0;
    r->ike.next_in = r->ike.next_out = 0;
    r->ike.created_ms = engine_now(s, m).wall_ms;
    r->ike.not_after_ms = f->not_after_ms;
    hush(&m->spoken[i]);
    m->spoken[i].speaks = true;
    m->spoken[i].rec = r;
    return r;
}

/* Its SPI and its end are settled; nobody has it yet. */
static int plan_child(struct sim *s, struct member *m, int ike, int replaces)
{
    int i = (int)s->n_children++;
    struct child_fact *f = &s->children[i];

    *f = (struct child_fact){.ike = ike,
                             .lineage = s->ikes[ike].lineage,
                             .replaces = replaces,
                             .answerer = -1,
                             .burier = -1};
    do
        f->spi_in = (uint32_t)m->slot << 22 | below(s, 1 << 22);
    while (sync_find_child(m->core, f->spi_in) || fact_child(s, f->spi_in) != i);
    f->not_after_ms = engine_now(s, m).wall_ms + s->plan.lifetime_ms + below(s, 2000);
    return i;
}

static struct record *make_child(struct sim *s, struct member *m, int ike, int i)
{
    const struct child_fact *f = &s->children[i];
    struct record *r = sample_child(f->spi_in, (uint32_t)f->lineage);

    r->child.ike_spi = s->ikes[ike].spi;
    r->child.replaces_spi = f->replaces < 0 ? 0 : s->children[f->replaces].spi_in;
    r->child.origin_slot = m->slot;
    r->child.created_ms = engine_now(s, m).wall_ms;
    r->child.not_after_ms = f->not_after_ms;
    include(&m->spoken[ike], i, true);
    return r;
}

static struct record *new_child(struct sim *s, struct member *m, int ike, int replaces)
{
    return make_child(s, m, ike, plan_child(s, m, ike, replaces));
}

static bool room_for_more(const struct sim *s)
{
    return s->n_ikes < IKES_MAX && s->n_children < CHILDREN_MAX;
}

static void add_tombstone(struct group *g, const struct record *r, bool over)
{
    struct record *t = record_clone(r);

    if (t->kind == RECORD_IKE) {
        t->ike.state = SA_DELETED;
        t->ike.revision++;
        t->ike.lineage_over = over;
    } else {
        t->child.state = SA_DELETED;
    }
    add(g, t);
}

static void add_deletion(struct sim *s, struct member *m, int ike, struct group *g)
{
    struct spoken *sp = &m->spoken[ike];

    s->ikes[ike].ended |= !sp->rekeyed;
    add_tombstone(g, sp->rec, !sp->rekeyed);
    for (size_t i = 0; i < s->n_children; i++)
        if (includes(sp, (int)i) && installed_child(s, m, (int)i) && g->n < GROUP_MAX) {
            add_tombstone(g, sync_find_child(m->core, s->children[i].spi_in), false);
            include(sp, (int)i, false);
        }
}

/* ---- answering ---- */

static void send_answer(struct sim *s, const struct member *m, const struct ask *answer)
{
    int ike = answer->kind == ASK_NEW ? answer->new_ike : answer->ike;

    check_known(s, m, ike);
    s->totals.answers++;
    if (chance(s, 30))
        return;
    sim_at(s, s->now.mono_us + between(s, 300, 5000),
           (struct event){.kind = EV_ANSWER, .a = answer->router, .ask = *answer});
}

/* The record remembers the answer, so that an adopter can repeat it. */
static void remember(struct spoken *sp, const struct ask *answer)
{
    sp->rec->ike.next_in = answer->message_id + 1;
    if (blob_set(&sp->rec->ike.last_response, answer, sizeof *answer) != ERR_OK)
        abort();
}

static void commit(struct sim *s, struct member *m, struct group *g, int ike,
                   const struct ask *answer)
{
    struct waiting w = {.kind = WAIT_ANSWER, .answer = *answer, .ike = ike};

    m->spoken[ike].commit = m->last_barrier + 1; /* before the put: it may answer within itself */
    put(s, m, g, &w);
}

static void answer_new(struct sim *s, struct member *m, const struct ask *ask)
{
    struct ask answer = *ask;
    struct group g = {.n = 0};
    struct record *ike, *child;

    if (!room_for_more(s) || m->epoch == 0 || !sync_is_synced(m->core) || m->draining)
        return;
    for (int i = 0; i < (int)s->n_ikes; i++) /* a retransmission */
        if (m->spoken[i].speaks && m->spoken[i].rec->ike.last_response.n == sizeof answer) {
            struct ask last;
            memcpy(&last, m->spoken[i].rec->ike.last_response.p, sizeof last);
            if (last.kind == ASK_NEW && last.router == ask->router && last.serial == ask->serial) {
                if (!m->spoken[i].commit)
                    send_answer(s, m, &last);
                return;
            }
        }
    answer.new_ike = (int)s->n_ikes;
    ike = new_ike(s, m, ask->router, -1);
    answer.new_child = (int)s->n_children;
    child = new_child(s, m, answer.new_ike, -1);
    remember(&m->spoken[answer.new_ike], &answer);
    add_clone(&g, ike);
    add(&g, child);
    for (int i = 0; ask->contact && i < answer.new_ike; i++) {
        const struct record *old = ike_at(s, m, i);
        if (s->ikes[i].router == ask->router && old && old->ike.state == SA_INSTALLED &&
            g.n < GROUP_MAX) {
            s->ikes[i].ended = true;
            add_tombstone(&g, old, true);
            hush(&m->spoken[i]);
        }
    }
    sim_note(s, "%d: makes IKE SA %d with Child SA %d", m->index, answer.new_ike, answer.new_child);
    commit(s, m, &g, answer.new_ike, &answer);
}

static void answer_child(struct sim *s, struct member *m, struct ask *answer, struct group *g)
{
    struct spoken *sp = &m->spoken[answer->ike];
    bool rekey = answer->kind == ASK_REKEY_CHILD;

    if (!room_for_more(s) || sp->rekeyed ||
        (rekey && (answer->child < 0 || !includes(sp, answer->child)))) {
        answer->refused = true;
        return;
    }
    answer->new_child = (int)s->n_children;
    add_clone(g, sp->rec);
    add(g, new_child(s, m, answer->ike, rekey ? answer->child : -1));
}

static void answer_rekey_ike(struct sim *s, struct member *m, struct ask *answer, struct group *g)
{
    struct spoken *sp = &m->spoken[answer->ike];
    struct record *next;

    if (!room_for_more(s) || sp->rekeyed) {
        answer->refused = true;
        return;
    }
    answer->new_ike = (int)s->n_ikes;
    next = new_ike(s, m, answer->router, s->ikes[answer->ike].lineage);
    memcpy(m->spoken[answer->new_ike].children, sp->children, sizeof sp->children);
    memset(sp->children, 0, sizeof sp->children);
    sp->rekeyed = true;
    add_clone(g, next);
    add_clone(g, sp->rec);
}

static void answer_delete_child(struct sim *s, struct member *m, const struct ask *answer,
                                struct group *g)
{
    struct spoken *sp = &m->spoken[answer->ike];

    if (answer->child < 0 || !includes(sp, answer->child) || !installed_child(s, m, answer->child))
        return;
    add_tombstone(g, sync_find_child(m->core, s->children[answer->child].spi_in), false);
    add_clone(g, sp->rec);
    include(sp, answer->child, false);
}

static void set_answer(struct group *g, int ike_at_index, const struct spoken *sp)
{
    record_free(g->r[ike_at_index]);
    g->r[ike_at_index] = record_clone(sp->rec);
}

/* A request to an IKE SA that we speak for. */
static void handle(struct sim *s, struct member *m, const struct ask *ask)
{
    struct spoken *sp = &m->spoken[ask->ike];
    struct ask answer = *ask, last;
    struct group g = {.n = 0};
    uint32_t next = sp->rec->ike.next_in;

    if (sp->commit || ask->message_id + 1 < next ||
        sp->rec->ike.not_after_ms <= engine_now(s, m).wall_ms)
        return;
    if (ask->message_id + 1 == next) {
        if (sp->rec->ike.last_response.n == sizeof last) {
            memcpy(&last, sp->rec->ike.last_response.p, sizeof last);
            check_plain_answer(s, m, ask->ike);
            send_answer(s, m, &last);
        }
        return;
    }
    answer.new_ike = answer.new_child = -1;
    switch ((enum ask_kind)ask->kind) {
    case ASK_CHILD:
    case ASK_REKEY_CHILD:
        answer_child(s, m, &answer, &g);
        break;
    case ASK_REKEY_IKE:
        answer_rekey_ike(s, m, &answer, &g);
        break;
    case ASK_DELETE_CHILD:
        answer_delete_child(s, m, &answer, &g);
        break;
    default:
        break;
    }
    remember(sp, &answer);
    if (ask->kind == ASK_DELETE_IKE) {
        sim_note(s, "%d: deletes IKE SA %d", m->index, ask->ike);
        add_deletion(s, m, ask->ike, &g);
    } else if (g.n) {
        sp->rec->ike.revision++;
        set_answer(&g, ask->kind == ASK_REKEY_IKE || ask->kind == ASK_DELETE_CHILD ? 1 : 0, sp);
        sim_note(s, "%d: answers kind %d on IKE SA %d (child %d -> %d, ike -> %d)", m->index,
                 ask->kind, ask->ike, ask->child, answer.new_child, answer.new_ike);
    }
    if (g.n) {
        commit(s, m, &g, ask->ike, &answer);
    } else {
        check_plain_answer(s, m, ask->ike);
        check_seal(s, m, ask->ike);
        send_answer(s, m, &answer);
    }
}

/* ---- our own requests ---- */

static void send_own(struct sim *s, const struct spoken *sp)
{
    if (chance(s, 30))
        return;
    sim_at(s, s->now.mono_us + between(s, 300, 5000),
           (struct event){.kind = EV_ANSWER, .a = sp->own.router, .ask = sp->own});
}

/* Into the record, and past the barrier, before it leaves. */
static void launch(struct sim *s, struct member *m, int ike, struct ask request)
{
    struct spoken *sp = &m->spoken[ike];
    struct waiting w = {.kind = WAIT_REQUEST, .ike = ike};
    struct group g = {.n = 0};

    request.router = (uint8_t)s->ikes[ike].router;
    request.ike = ike;
    request.message_id = sp->rec->ike.next_out++;
    sp->rec->ike.revision++;
    sp->own = request;
    if (blob_set(&sp->rec->ike.our_request, &request, sizeof request) != ERR_OK)
        abort();
    add_clone(&g, sp->rec);
    sp->commit = m->last_barrier + 1;
    put(s, m, &g, &w);
}

static void begin_rekey(struct sim *s, struct member *m, int ike)
{
    int child = -1, seen = 0;

    for (int i = 0; i < (int)s->n_children; i++)
        if (includes(&m->spoken[ike], i) && installed_child(s, m, i) &&
            below(s, (uint32_t)++seen) == 0)
            child = i;
    if (child < 0 || !room_for_more(s))
        return;
    s->totals.own_rekeys++;
    sim_note(s, "%d: rekeys Child SA %d of IKE SA %d", m->index, child, ike);
    launch(s, m, ike,
           (struct ask){.kind = ASK_OWN_REKEY,
                        .child = child,
                        .new_ike = -1,
                        .new_child = plan_child(s, m, ike, child)});
}

static void begin_deletion(struct sim *s, struct member *m, int ike)
{
    int child = m->spoken[ike].replaced - 1;

    m->spoken[ike].replaced = 0;
    if (includes(&m->spoken[ike], child))
        launch(
            s, m, ike,
            (struct ask){.kind = ASK_OWN_DELETE, .child = child, .new_ike = -1, .new_child = -1});
}

/* The router's answer: what it changes passes the barrier; only then does the old SA go. */
static void handle_own(struct sim *s, struct member *m, const struct ask *answer)
{
    struct spoken *sp = &m->spoken[answer->ike];
    struct waiting w = {.kind = WAIT_CHANGE, .ike = answer->ike, .answer = *answer};
    struct group g = {.n = 0};
    int child = answer->child;

    if (sp->commit || sp->own.kind != answer->kind || sp->own.message_id != answer->message_id)
        return;
    sp->own = (struct ask){0};
    blob_free(&sp->rec->ike.our_request);
    sp->rec->ike.revision++;
    add_clone(&g, sp->rec);
    if (answer->kind == ASK_OWN_REKEY && !answer->refused) {
        add(&g, make_child(s, m, answer->ike, answer->new_child));
        include(sp, answer->new_child, true);
    } else if (answer->kind == ASK_OWN_DELETE && installed_child(s, m, child)) {
        add_tombstone(&g, sync_find_child(m->core, s->children[child].spi_in), false);
        include(sp, child, false);
    }
    sp->commit = m->last_barrier + 1;
    put(s, m, &g, &w);
}

static void tick_own(struct sim *s, struct member *m)
{
    for (int i = 0; i < (int)s->n_ikes; i++) {
        struct spoken *sp = &m->spoken[i];
        if (!sp->speaks || sp->commit || sp->rec->ike.not_after_ms <= engine_now(s, m).wall_ms)
            continue;
        if (sp->own.kind && chance(s, 60))
            send_own(s, sp);
        else if (!sp->own.kind && sp->replaced)
            begin_deletion(s, m, i);
        else if (!sp->own.kind && !sp->rekeyed && !s->healed && chance(s, 2))
            begin_rekey(s, m, i);
    }
}

/* ---- taking over ---- */

static void raise_term(struct sim *s, struct member *m, int ike, enum waiting_kind kind)
{
    const struct record *r = ike_at(s, m, ike);
    struct waiting w = {.kind = kind, .ike = ike};
    struct group g = {.n = 0};

    for (size_t i = 0; i < m->n_waiting; i++)
        if ((m->waiting[i].kind == WAIT_RESUME || m->waiting[i].kind == WAIT_ADOPT) &&
            m->waiting[i].ike == ike)
            return; /* under way */
    add_clone(&g, r);
    g.r[0]->ike.term.number++;
    g.r[0]->ike.term.slot = m->slot;
    g.r[0]->ike.term.incarnation = sync_incarnation(m->core);
    g.r[0]->ike.revision = 0;
    sim_note(s, "%d: %s IKE SA %d from slot %u, term %llu", m->index,
             kind == WAIT_ADOPT ? "adopts" : "resumes", ike, r->ike.term.slot,
             (unsigned long long)g.r[0]->ike.term.number);
    put(s, m, &g, &w);
}

static bool to_be_resumed(const struct member *m, const struct record *r)
{
    return r && r->ike.state == SA_INSTALLED && r->ike.term.slot == m->slot &&
           !is_own_term(m, &r->ike.term);
}

static void hand_over(struct sim *s, struct member *m)
{
    const struct member *ready[MEMBERS_MAX];
    struct sync_member_info info;
    uint32_t n = 0;

    for (size_t i = 0; i < s->n; i++)
        if (&s->members[i] != m && sync_member(m->core, s->members[i].slot, &info) &&
            info.state == MEMBER_READY)
            ready[n++] = &s->members[i];
    for (size_t i = 0; n && i < s->n_ikes; i++) {
        const struct record *r = ike_at(s, m, (int)i);
        struct group g = {.n = 0};
        if (!r || r->ike.state != SA_INSTALLED || !is_own_term(m, &r->ike.term))
            continue;
        add_clone(&g, r);
        g.r[0]->ike.term = (struct term){.number = r->ike.term.number + 1,
                                         .slot = ready[s->ikes[i].spi % n]->slot};
        g.r[0]->ike.revision = 0;
        s->totals.handed_over++;
        sim_note(s, "%d: hands IKE SA %zu to slot %u", m->index, i, g.r[0]->ike.term.slot);
        put(s, m, &g, NULL);
    }
}

void engine_tick(struct sim *s, struct member *m)
{
    if (!sync_is_caught_up(m->core, member_now(s, m)))
        return;
    if (m->draining) {
        hand_over(s, m);
        return;
    }
    tick_own(s, m);
    if (!m->resume_begun) {
        if (m->epoch == 0 || !sync_is_synced(m->core))
            return;
        m->resume_begun = true;
        for (size_t i = 0; i < s->n_ikes; i++)
            m->to_resume[i] = to_be_resumed(m, ike_at(s, m, (int)i));
    }
    for (size_t i = 0; i < s->n_ikes; i++) {
        if (!m->to_resume[i])
            continue;
        m->to_resume[i] = false;
        if (to_be_resumed(m, ike_at(s, m, (int)i))) {
            s->totals.resumed++;
            raise_term(s, m, (int)i, WAIT_RESUME);
        }
    }
}

/* ---- requests in ---- */

static void forward(struct sim *s, struct member *m, uint16_t slot, const struct ask *ask)
{
    struct sync_event ev = {.kind = SYNC_EV_FORWARD};

    endpoint_parse("192.0.2.1:4500", &ev.forward.local);
    endpoint_parse("198.51.100.7:4500", &ev.forward.peer);
    ev.forward.to_slot = slot;
    ev.forward.datagram = (struct slice){(const uint8_t *)ask, sizeof *ask};
    member_step(s, m, &ev);
}

static bool may_adopt(struct sim *s, const struct member *m, const struct record *r,
                      const struct ask *ask)
{
    return m->epoch && sync_is_synced(m->core) && !m->draining &&
           (!s->healed || member_gone(s, r->ike.term.slot)) && r->ike.state == SA_INSTALLED &&
           ask->message_id + 1 >= r->ike.next_in;
}

void engine_datagram(struct sim *s, struct member *m, const struct ask *ask, bool forwarded)
{
    const struct record *r;

    if (!sync_is_caught_up(m->core, member_now(s, m)))
        return;
    if (ask->kind == ASK_NEW) {
        answer_new(s, m, ask);
        return;
    }
    r = ike_at(s, m, ask->ike);
    if (!r)
        return;
    if (r->ike.state == SA_DELETED) {
        if (ask->kind == ASK_DELETE_IKE && s->ikes[ask->ike].deleted &&
            !m->spoken[ask->ike].speaks) {
            struct ask answer = *ask;
            answer.new_ike = answer.new_child = -1;
            send_answer(s, m, &answer); /* the tombstone kept the last answer */
        }
        return;
    }
    if (r->ike.term.slot == m->slot) {
        if (m->spoken[ask->ike].speaks && ask->kind >= ASK_OWN_REKEY)
            handle_own(s, m, ask);
        else if (m->spoken[ask->ike].speaks)
            handle(s, m, ask);
    } else if (sync_member_live(m->core, r->ike.term.slot)) {
        if (!forwarded)
            forward(s, m, r->ike.term.slot, ask);
    } else if (!forwarded && ask->kind < ASK_OWN_REKEY && may_adopt(s, m, r, ask)) {
        s->totals.adoptions++;
        raise_term(s, m, ask->ike, WAIT_ADOPT);
    }
}

/* ---- what the core tells ---- */

void engine_record(struct sim *s, struct member *m, const struct record *r, int fact)
{
    if (r->kind == RECORD_IKE) {
        struct spoken *sp = &m->spoken[fact];
        bool other = !is_own_term(m, &r->ike.term);
        if (sp->speaks && (other || (r->ike.state == SA_DELETED && !m->putting)))
            hush(sp);
        if (m->resume_begun && to_be_resumed(m, r))
            m->to_resume[fact] = true;
    } else if (r->child.state == SA_DELETED) {
        for (size_t i = 0; i < s->n_ikes; i++)
            if (m->spoken[i].speaks)
                include(&m->spoken[i], fact, false);
    }
}

static void past_barrier(struct sim *s, struct member *m, const struct waiting *w,
                         const struct sync_effect *fx)
{
    struct spoken *sp = &m->spoken[w->ike];
    const struct record *r = ike_at(s, m, w->ike);

    /* node_takeover_on_barrier does not look at `superseded` */
    if (w->kind == WAIT_RESUME || w->kind == WAIT_ADOPT) {
        if (r && r->ike.state == SA_INSTALLED && is_own_term(m, &r->ike.term)) {
            check_answer(s, m, w, fx);
            restore(s, m, w->ike);
        } else if (m->resume_begun && to_be_resumed(m, r)) {
            m->to_resume[w->ike] = true; /* it was handed to our slot meanwhile */
        }
        return;
    }
    if (fx->superseded || !sp->speaks || sp->commit != w->barrier)
        return;
    sp->commit = 0;
    check_answer(s, m, w, fx);
    check_seal(s, m, w->ike);
    if (w->kind == WAIT_REQUEST) {
        send_own(s, sp);
        return;
    }
    if (w->kind == WAIT_CHANGE) {
        if (w->answer.kind == ASK_OWN_REKEY && !w->answer.refused)
            sp->replaced = w->answer.child + 1; /* at the next tick */
        return;
    }
    send_answer(s, m, &w->answer);
    if (w->answer.kind == ASK_DELETE_IKE)
        hush(sp);
}

void engine_barrier(struct sim *s, struct member *m, const struct sync_effect *fx)
{
    struct waiting w;
    size_t i = 0;

    m->timeouts += fx->timed_out;
    s->totals.timeouts += fx->timed_out;
    s->totals.superseded += fx->superseded;
    while (i < m->n_waiting && m->waiting[i].barrier != fx->barrier)
        i++;
    if (i == m->n_waiting) {
        sim_fail(s, "I1: member %d: a barrier that nobody asked for", m->index);
        return;
    }
    w = m->waiting[i];
    m->waiting[i] = m->waiting[--m->n_waiting];
    sim_note(s, "%d: barrier over for IKE SA %d%s%s after %llu ms", m->index, w.ike,
             fx->timed_out ? ", timed out" : "", fx->superseded ? ", superseded" : "",
             (unsigned long long)fx->barrier_us / 1000);
    check_fence(s, m, &w, fx);
    past_barrier(s, m, &w, fx);
}

/* ---- traffic ---- */

static struct record *with_flag(const struct record *r, bool confirmed, bool rekeyed)
{
    struct record *clone;

    if (!r || r->child.state != SA_INSTALLED ||
        ((r->child.confirmed || !confirmed) && (r->child.rekeyed || !rekeyed)))
        return NULL;
    clone = record_clone(r);
    clone->child.confirmed |= confirmed;
    clone->child.rekeyed |= rekeyed;
    return clone;
}

void engine_traffic(struct sim *s, struct member *m, int child)
{
    const struct record *r = sync_find_child(m->core, s->children[child].spi_in);
    struct record *flagged;
    struct group g = {.n = 0};

    if (m->children[child].state != SA_INSTALLED || !r)
        return;
    flagged = with_flag(r, true, false);
    if (flagged)
        add(&g, flagged);
    if (r->child.replaces_spi) {
        flagged = with_flag(sync_find_child(m->core, r->child.replaces_spi), false, true);
        if (flagged)
            add(&g, flagged);
    }
    if (g.n)
        put(s, m, &g, NULL);
}
