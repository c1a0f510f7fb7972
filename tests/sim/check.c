/* The invariants of DESIGN, held against the truth. Everything here is cheap enough to run at
 * every step: what grows is looked at where it grew. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "sync/join.h"
#include "tests/sim/sim.h"

enum {
    /* I2: T. An Update is lost, and some Announces after it; who is asked for it fails without a
     * word, and the next one, too. */
    DUE_MS = 4 * ANNOUNCE_EVERY_MS + 2 * (PULL_TIMEOUT_MS + PULL_RETRY_MS),
    STEADY_US = 1500000, /* I6: for so long nothing has stood between two members */
};

/* ---- forms ---- */

static const char *kind_of(const struct form *f)
{
    return f->kind == RECORD_IKE ? "IKE" : "Child";
}

/* What a member lacks, for the sentence. */
static const char *differs(const struct member *m, const struct form *f)
{
    static char text[128];
    const struct held_child *c = &m->children[f->fact];
    const struct held_ike *i = &m->ikes[f->fact];

    if (f->kind == RECORD_CHILD)
        snprintf(text, sizeof text, "Child SA %d (has state %u%s%s, not %u%s%s)", f->fact, c->state,
                 c->confirmed ? " confirmed" : "", c->rekeyed ? " rekeyed" : "", f->state,
                 f->confirmed ? " confirmed" : "", f->rekeyed ? " rekeyed" : "");
    else
        snprintf(text, sizeof text, "IKE SA %d (has state %u term %llu.%u, not %u %llu.%u)",
                 f->fact, i->state, (unsigned long long)i->term.number, i->revision, f->state,
                 (unsigned long long)f->term.number, f->revision);
    return text;
}

bool check_same_term(const struct term *a, const struct term *b)
{
    return term_compare(a, b) == 0;
}

static bool form_expired(const struct sim *s, const struct form *f)
{
    return fact_expired(s, f->kind == RECORD_IKE ? s->ikes[f->fact].not_after_ms
                                                 : s->children[f->fact].not_after_ms);
}

/* Does the member hold at least what the form says? */
static bool covers(const struct member *m, const struct form *f)
{
    const struct held_child *c;
    const struct held_ike *i;
    int order;

    if (f->kind == RECORD_IKE) {
        i = &m->ikes[f->fact];
        order = term_compare(&i->term, &f->term);
        return i->state >= f->state &&
               (i->state == SA_DELETED || order > 0 || (order == 0 && i->revision >= f->revision));
    }
    c = &m->children[f->fact];
    return c->state == SA_DELETED ||
           (c->state >= f->state && c->confirmed >= f->confirmed && c->rekeyed >= f->rekeyed);
}

static bool on_disk(const struct sim *s, const struct member *m, const struct form *f)
{
    uint64_t key = f->kind == RECORD_IKE ? s->ikes[f->fact].spi : s->children[f->fact].spi_in;
    const struct record *r = disk_find(&m->disk, f->kind, key);
    int order;

    if (!r)
        return false;
    if (record_state(r) == SA_DELETED)
        return true;
    if (f->kind == RECORD_CHILD)
        return r->child.state >= f->state && r->child.confirmed >= f->confirmed;
    order = term_compare(&r->ike.term, &f->term);
    return r->ike.state >= f->state &&
           (order > 0 || (order == 0 && r->ike.revision >= f->revision));
}

static bool held_once(const struct held_ike *i, const struct form *f)
{
    for (size_t k = 0; k < i->n_terms; k++)
        if (check_same_term(&i->terms[k].term, &f->term))
            return i->terms[k].revision >= f->revision;
    return i->state == SA_DELETED || i->n_terms == TERMS_MAX;
}

bool check_may_have_ended(const struct sim *s, int lineage)
{
    bool living = false;

    for (size_t i = 0; i < s->n_ikes; i++) {
        if (s->ikes[i].lineage != lineage)
            continue;
        if (s->ikes[i].ended)
            return true;
        living |= !fact_expired(s, s->ikes[i].not_after_ms);
    }
    return !living;
}

/* ---- records as they are installed ---- */

static void hold_term(struct held_ike *held, const struct record *r)
{
    size_t k = 0;

    while (k < held->n_terms && !check_same_term(&held->terms[k].term, &r->ike.term))
        k++;
    if (k == held->n_terms && k < TERMS_MAX)
        held->terms[held->n_terms++].term = r->ike.term;
    if (k < TERMS_MAX && r->ike.revision >= held->terms[k].revision)
        held->terms[k].revision = r->ike.revision;
}

static void check_ike(struct sim *s, struct member *m, const struct record *r, int fact)
{
    struct held_ike *held = &m->ikes[fact];

    if (held->state > r->ike.state)
        sim_fail(s, "I3: IKE SA %d rose from the dead at member %d", fact, m->index);
    if (held->state && r->ike.state == SA_INSTALLED && term_compare(&held->term, &r->ike.term) > 0)
        sim_fail(s, "I6: IKE SA %d fell back to an older term at member %d", fact, m->index);
    held->state = r->ike.state;
    if (!check_same_term(&held->term, &r->ike.term))
        held->term_us = s->now.mono_us;
    held->term = r->ike.term;
    held->revision = r->ike.revision;
    hold_term(held, r);
}

/* The old SA of a rekey goes: the new one must be here, if its answer waited for us. */
static void check_break(struct sim *s, struct member *m, int old)
{
    for (size_t i = 0; i < s->n_children; i++) {
        const struct child_fact *f = &s->children[i];
        if (f->replaces == old && f->acked_by[m->index] == m->life && m->children[i].state == 0 &&
            !fact_expired(s, f->not_after_ms))
            sim_fail(s, "I7: member %d lost Child SA %d before it had %zu", m->index, old, i);
    }
}

static void check_child(struct sim *s, struct member *m, const struct record *r, int fact)
{
    struct held_child *held = &m->children[fact];
    const struct child_fact *f = &s->children[fact];

    if (held->state > r->child.state)
        sim_fail(s, "I3: Child SA %d rose from the dead at member %d", fact, m->index);
    if (held->state == SA_INSTALLED && r->child.state == SA_INSTALLED &&
        (held->confirmed > r->child.confirmed || held->rekeyed > r->child.rekeyed))
        sim_fail(s, "I7: a flag of Child SA %d fell at member %d", fact, m->index);
    if (r->child.state == SA_DELETED && !f->deleted && !fact_expired(s, f->not_after_ms) &&
        !check_may_have_ended(s, f->lineage))
        sim_fail(s, "I6: member %d deleted Child SA %d, which nobody asked for", m->index, fact);
    if (held->state != SA_DELETED && r->child.state == SA_DELETED)
        check_break(s, m, fact);
    held->state = r->child.state;
    held->confirmed = r->child.confirmed;
    held->rekeyed = r->child.rekeyed;
}

void check_log(struct sim *s, struct member *m, const struct record *r, int fact)
{
    struct life *life = &s->lives[m->life - 1];

    if (!id128_equal(&r->origin, &life->incarnation) || r->seq <= life->n_log)
        return;
    if (r->seq != life->n_log + 1) {
        sim_fail(s, "I8: member %d left out a number of its log", m->index);
        return;
    }
    life->log = sim_grow(life->log, life->n_log, &life->cap_log, sizeof *life->log);
    life->log[life->n_log++] = form_of(r, fact);
}

void check_record(struct sim *s, struct member *m, const struct record *r, int fact)
{
    if (record_state(r) == SA_INSTALLED && record_not_after_ms(r) <= member_now(s, m).wall_ms)
        sim_fail(s, "I3: member %d installed an expired SA", m->index);
    check_log(s, m, r, fact);
    if (r->kind == RECORD_IKE)
        check_ike(s, m, r, fact);
    else
        check_child(s, m, r, fact);
}

/* ---- answers ---- */

/* Who runs in that slot now, and nobody else of the past. */
bool check_knows(const struct member *m, const struct member *o)
{
    const struct peer *p = peers_find(m->core, o->slot);
    struct id128 incarnation = sync_incarnation(o->core);

    return p && p->believed && id128_equal(&p->incarnation, &incarnation);
}

static bool takes_for_live(const struct member *m, const struct member *o)
{
    return o != m && o->core && sync_member_live(m->core, o->slot) && check_knows(m, o);
}

static bool passes(const struct member *m, const struct member *o)
{
    return barrier_passes(m->core, peers_find(m->core, o->slot));
}

static bool waits_for(const struct member *m, const struct member *o)
{
    return takes_for_live(m, o) && !passes(m, o);
}

/* It has not stood still, and nobody has begun to reach it again, just now: not even for a moment
 * between two cuts. */
static bool hears_as_before(const struct sim *s, const struct member *o)
{
    if (s->now.mono_us <= o->steady_us + READY_TOLD_MS * 1000ULL)
        return false;
    for (size_t i = 0; i < s->n; i++) {
        const struct link *l = &s->links[i][o->index];
        if (l->mended_us && s->now.mono_us <= l->mended_us + READY_TOLD_MS * 1000ULL)
            return false;
    }
    return true;
}

static bool hears(const struct member *o, const struct member *m)
{
    const struct peer *p = peers_find(o->core, m->slot);

    return p && check_knows(o, m) && since_us(o->core, p->heard_us) <= ms_us(DEAD_MS);
}

/* Who is not waited for is not ready, or does not hear us; but for the moment in which that
 * changes. */
static void check_laggard(struct sim *s, const struct member *m, const struct member *o)
{
    if (takes_for_live(m, o) && passes(m, o) && own_state(o->core) == MEMBER_READY && hears(o, m) &&
        hears_as_before(s, o) && s->now.mono_us > o->unready_us + READY_TOLD_MS * 1000ULL)
        sim_fail(s, "I1: member %d does not wait for member %d, which is ready", m->index,
                 o->index);
}

static void check_acks(struct sim *s, struct member *m, const struct waiting *w,
                       const struct member *o)
{
    for (size_t i = 0; i < w->n_forms; i++) {
        const struct form *f = &w->forms[i];
        if (form_expired(s, f))
            continue;
        if (!covers(o, f))
            sim_fail(s, "I1: member %d answers, and live member %d lacks %s", m->index, o->index,
                     differs(o, f));
        else if (f->kind == RECORD_IKE && f->state == SA_INSTALLED && f->term.slot == m->slot &&
                 !held_once(&o->ikes[f->fact], f))
            sim_fail(s, "I6: member %d answers for IKE SA %d, overtaken at member %d before",
                     m->index, f->fact, o->index);
    }
}

/* Who stood still, and was overtaken meanwhile, hears of it before it answers: from whom it takes
 * for live, while nothing stands between them. */
static bool overtaken_asleep(const struct sim *s, const struct member *m, const struct member *o,
                             int ike)
{
    uint64_t woke_us = m->woke_us;

    return woke_us && s->now.mono_us < woke_us + 2 * DEAD_MS * 1000ULL && takes_for_live(m, o) &&
           o->spoken[ike].speaks && o->ikes[ike].term_us < woke_us && o->steady_us < woke_us &&
           s->links[m->index][o->index].steady_us < woke_us &&
           s->links[o->index][m->index].steady_us < woke_us &&
           term_compare(&o->ikes[ike].term, &m->ikes[ike].term) > 0;
}

/* Nobody else, long joined to us, has long spoken in a higher term. */
static void check_owner(struct sim *s, struct member *m, int ike)
{
    const struct held_ike *held = &m->ikes[ike];
    struct id128 self = sync_incarnation(m->core);

    if (held->term.slot != m->slot || !id128_equal(&held->term.incarnation, &self))
        sim_fail(s, "I6: member %d answers for IKE SA %d in another's term", m->index, ike);
    for (size_t i = 0; i < s->n; i++) {
        const struct member *o = &s->members[i];
        const struct link *out = &s->links[m->index][i], *in = &s->links[i][m->index];
        uint64_t then = s->now.mono_us - STEADY_US;
        if (o != m && o->core && overtaken_asleep(s, m, o, ike))
            sim_fail(s,
                     "I6: member %d stood still and answers for IKE SA %d, which is member %zu's",
                     m->index, ike, i);
        if (o == m || !o->core || !o->spoken[ike].speaks ||
            s->now.mono_us - o->ikes[ike].term_us < DUE_MS * 1000ULL)
            continue; /* the news may still be on its way: barriers time out before */
        if (out->steady_us < then && in->steady_us < then && o->steady_us < then &&
            m->steady_us < then && term_compare(&o->spoken[ike].rec->ike.term, &held->term) > 0)
            sim_fail(s, "I6: members %d and %zu both speak for IKE SA %d", m->index, i, ike);
    }
}

void check_plain_answer(struct sim *s, struct member *m, int ike)
{
    if (m->ikes[ike].state != SA_INSTALLED)
        sim_fail(s, "I6: member %d answers for IKE SA %d, which is deleted here", m->index, ike);
    check_owner(s, m, ike);
}

/* A barrier passes only while its terms stand. */
void check_fence(struct sim *s, struct member *m, const struct waiting *w,
                 const struct sync_effect *fx)
{
    for (size_t i = 0; !fx->superseded && i < w->n_forms; i++) {
        const struct form *f = &w->forms[i];
        const struct held_ike *held = &m->ikes[f->fact];
        if (f->kind == RECORD_IKE && f->state == SA_INSTALLED && !form_expired(s, f) &&
            (held->state > f->state || !check_same_term(&held->term, &f->term)))
            sim_fail(s, "I6: member %d: a barrier passes, and IKE SA %d is another's or deleted",
                     m->index, f->fact);
    }
}

static void note_answer(struct sim *s, struct member *m, const struct waiting *w, bool timed_out)
{
    for (size_t i = 0; i < w->n_forms; i++) {
        struct child_fact *f = &s->children[w->forms[i].fact];
        bool buried = w->forms[i].state == SA_DELETED;
        uint32_t *by = buried ? f->buried_by : f->acked_by;
        if (w->forms[i].kind != RECORD_CHILD || (buried && timed_out))
            continue;
        for (size_t k = 0; !timed_out && k < s->n; k++)
            if (waits_for(m, &s->members[k]))
                by[k] = s->members[k].life;
        by[m->index] = m->life;
        if (buried) {
            f->burier = m->index;
            continue;
        }
        f->answerer = m->index;
        f->at_risk = !on_disk(s, m, &w->forms[i]);
    }
}

void check_answer(struct sim *s, struct member *m, const struct waiting *w,
                  const struct sync_effect *fx)
{
    if (fx->superseded) {
        if (w->kind == WAIT_ANSWER)
            sim_fail(s, "I6: member %d: a superseded answer leaves", m->index);
        return;
    }
    check_owner(s, m, w->ike);
    if (m->ikes[w->ike].state == SA_DELETED && w->answer.kind != ASK_DELETE_IKE)
        sim_fail(s, "I6: member %d answers for IKE SA %d, deleted meanwhile", m->index, w->ike);
    if (fx->timed_out && s->now.mono_us - w->put_us < BARRIER_MS * 1000ULL)
        sim_fail(s, "I1: member %d: a barrier times out early", m->index);
    for (size_t i = 0; !m->disk.told_failing && i < w->n_forms; i++)
        if (!form_expired(s, &w->forms[i]) && !on_disk(s, m, &w->forms[i]))
            sim_fail(s, "I1: member %d answers before its disk has %s SA %d", m->index,
                     kind_of(&w->forms[i]), w->forms[i].fact);
    for (size_t i = 0; !fx->timed_out && i < s->n; i++) {
        check_laggard(s, m, &s->members[i]);
        if (waits_for(m, &s->members[i]))
            check_acks(s, m, w, &s->members[i]);
    }
    note_answer(s, m, w, fx->timed_out);
}

/* ---- I2: everywhere within T ---- */

/* At once at its maker, whatever else is known there. */
void check_own(struct sim *s, const struct member *m, const struct waiting *w)
{
    for (size_t i = 0; i < w->n_forms; i++)
        if (!covers(m, &w->forms[i]) && !form_expired(s, &w->forms[i]))
            sim_fail(s, "I2: member %d makes and lacks %s", m->index, differs(m, &w->forms[i]));
}

void check_put(struct sim *s, struct member *m, const struct waiting *w)
{
    struct due *d;

    s->dues = sim_grow(s->dues, s->n_dues, &s->cap_dues, sizeof *s->dues);
    d = &s->dues[s->n_dues];
    memcpy(d->forms, w->forms, sizeof d->forms);
    d->n_forms = w->n_forms;
    d->put_us = s->now.mono_us;
    sim_at(
        s, s->now.mono_us + DUE_MS * 1000ULL,
        (struct event){.kind = EV_DUE, .b = (uint8_t)m->index, .life = m->life, .id = s->n_dues++});
}

void check_due(struct sim *s, struct member *m, uint64_t id)
{
    const struct due *d = &s->dues[id];

    if (m->steady_us > d->put_us)
        return;
    for (size_t i = 0; i < s->n; i++) {
        const struct member *o = &s->members[i];
        if (o == m || !o->core || o->steady_us > d->put_us || ghost_haunts(s, o) ||
            ghost_haunts(s, m) || s->links[m->index][i].steady_us > d->put_us ||
            s->links[i][m->index].steady_us > d->put_us)
            continue;
        for (size_t k = 0; k < d->n_forms; k++)
            if (!form_expired(s, &d->forms[k]) && !covers(o, &d->forms[k]))
                sim_fail(s, "I2: member %zu lacks %s of member %d after %d ms", i,
                         differs(o, &d->forms[k]), m->index, DUE_MS);
    }
}

/* ---- every step ---- */

/* The member's vector covers this form now. */
static void note_known(const struct sim *s, struct member *m, const struct form *f)
{
    bool child = f->kind == RECORD_CHILD;
    uint64_t *gone_us = child ? &m->children[f->fact].gone_us : &m->ikes[f->fact].gone_us;

    if (child && m->children[f->fact].known_us == 0)
        m->children[f->fact].known_us = s->now.mono_us;
    if (f->state == SA_DELETED && *gone_us == 0)
        *gone_us = s->now.mono_us;
}

/* The vector is the ack: it never covers what is not installed. */
static void check_vector(struct sim *s, struct member *m)
{
    const struct table *t = m->core->table;
    uint64_t sum = 0;

    for (size_t i = 0; i < table_origins(t); i++)
        sum += table_origin_at(t, i)->seq;
    if (sum == m->vector_sum)
        return;
    m->vector_sum = sum;
    for (size_t i = 0; i < table_origins(t); i++) {
        const struct origin *o = table_origin_at(t, i);
        struct life *life = life_of(s, &o->id);
        uint64_t *done = life ? &m->verified[life - s->lives] : NULL;
        if (!life || o->seq > life->n_log) {
            sim_fail(s, "I1: member %d acknowledges what was never numbered", m->index);
            return;
        }
        for (; *done < o->seq; ++*done) {
            const struct form *f = &life->log[*done];
            if (!covers(m, f) && !form_expired(s, f))
                sim_fail(s, "I1: member %d claims number %" PRIu64 " of life %zu, yet lacks %s",
                         m->index, *done + 1, life - s->lives + 1, differs(m, f));
            note_known(s, m, f);
        }
    }
}

/* Synced: all that a live member's vector covered before we started is here. What it holds beyond
 * its vector is not promised yet: it was never acknowledged, and becomes part of a vector when its
 * maker fills the gap or a living holder publishes it again (check_agreed sees to that). The
 * tombstones that a lineage's end entails come with that end. */
static void check_synced_with(struct sim *s, const struct member *m, const struct member *o)
{
    uint64_t started_us = s->lives[m->life - 1].started_us;

    for (size_t k = 0; k < s->n_children; k++) {
        const struct held_child *theirs = &o->children[k], *ours = &m->children[k];
        if (fact_expired(s, s->children[k].not_after_ms))
            continue;
        if (theirs->known_us && theirs->known_us < started_us && ours->state == 0)
            sim_fail(s, "I10: member %d says it is synced, and lacks Child SA %zu of member %d",
                     m->index, k, o->index);
        if (theirs->gone_us && theirs->gone_us < started_us && ours->state == SA_INSTALLED)
            sim_fail(s, "I3: member %d says it is synced, and has Child SA %zu, deleted at %d",
                     m->index, k, o->index);
    }
    for (size_t k = 0; k < s->n_ikes; k++)
        if (o->ikes[k].gone_us && o->ikes[k].gone_us < started_us &&
            m->ikes[k].state != SA_DELETED && !fact_expired(s, s->ikes[k].not_after_ms))
            sim_fail(s, "I3: member %d says it is synced, and misses the end of IKE SA %zu at %d",
                     m->index, k, o->index);
}

static void check_synced(struct sim *s, struct member *m)
{
    for (size_t i = 0; i < s->n; i++)
        if (takes_for_live(m, &s->members[i]))
            check_synced_with(s, m, &s->members[i]);
}

/* What a core keeps beside its records; the records of a snapshot may be older ones. */
static size_t bytes_beside(const struct sync_core *core)
{
    size_t n = core->cap_fx * sizeof *core->fx + core->cap_fx_held * sizeof *core->fx_held +
               core->cap_buffers * sizeof *core->buffers + core->cap_unsent * sizeof *core->unsent +
               core->cap_barriers * sizeof *core->barriers;

    for (size_t i = 0; i < core->n_peers; i++) {
        const struct peer *p = &core->peers[i];
        n += sizeof *p + (p->says.n_applied + p->pending.n_vector) * sizeof(struct log_position) +
             p->says.n_heard * sizeof(struct codec_heard) +
             p->says.n_epochs * sizeof(struct codec_epoch);
    }
    for (size_t i = 0; i < SNAPSHOTS_MAX; i++) {
        const struct snapshot *snapshot = &core->snapshots[i];
        n += snapshot->n_vector * sizeof *snapshot->vector;
        for (size_t k = 0; k < snapshot->n; k++)
            n += sizeof snapshot->held[k] + out_size_bound(snapshot->held[k]->r);
    }
    return n;
}

/* In proportion to what there is: SAs and lives of members, whatever happened to them. */
static void check_bytes(struct sim *s, const struct member *m)
{
    enum { ROOM = 384 * 1024, PER_SA = SNAPSHOTS_MAX * 3000, PER_LIFE = 512 };
    size_t bytes = bytes_beside(m->core);

    if (bytes > ROOM + (s->n_ikes + s->n_children) * PER_SA + s->n_lives * s->n * PER_LIFE)
        sim_fail(s, "I11: member %d holds %zu bytes beside its records", m->index, bytes);
}

static void check_bounds(struct sim *s, const struct member *m)
{
    const struct sync_core *core = m->core;

    if (core->n_barriers != m->n_waiting)
        sim_fail(s, "I11: member %d: %zu barriers for %zu answers", m->index, core->n_barriers,
                 m->n_waiting);
    if (core->n_unsent > 4 * (IKES_MAX + CHILDREN_MAX))
        sim_fail(s, "I11: member %d: %zu records wait to be published", m->index, core->n_unsent);
    if (table_origins(core->table) > s->n_lives + 1)
        sim_fail(s, "I11: member %d: %zu origins", m->index, table_origins(core->table));
    for (size_t i = 0; i < core->n_peers; i++)
        if (core->peers[i].n_candidates > CANDIDATES_MAX || core->peers[i].n_retired > RETIRED_MAX)
            sim_fail(s, "I11: member %d: unbounded candidates", m->index);
    for (size_t i = 0; i < SNAPSHOTS_MAX; i++)
        if (core->snapshots[i].n > IKES_MAX + CHILDREN_MAX)
            sim_fail(s, "I11: member %d: a snapshot of %zu", m->index, core->snapshots[i].n);
}

void check_step(struct sim *s, struct member *m)
{
    bool synced = sync_is_synced(m->core);

    check_vector(s, m);
    check_bounds(s, m);
    if (s->totals.steps % 64 == 0)
        check_bytes(s, m);
    if (synced && !m->was_synced) {
        m->was_synced = true;
        sim_note(s, "%d: synced", m->index);
        check_synced(s, m);
    }
}

void check_recovered(struct sim *s, struct member *m)
{
    for (size_t i = 0; i < m->disk.n_records; i++) {
        const struct record *r = m->disk.records[i];
        int fact = fact_of(s, r);
        struct form f = form_of(r, fact);
        if (!covers(m, &f) && !form_expired(s, &f))
            sim_fail(s, "I10: member %d recovered without %s, which its journal has", m->index,
                     differs(m, &f));
    }
}

/* I9: about an SA that is unknown here nobody is told anything. */
void check_known(struct sim *s, const struct member *m, int ike)
{
    if (ike < 0 || m->ikes[ike].state == 0)
        sim_fail(s, "I9: member %d answers on IKE SA %d, which it does not know", m->index, ike);
}

/* What is sealed on an SA: I5. In epoch 0 only on what this process has made. */
void check_seal(struct sim *s, const struct member *m, int ike)
{
    const struct life *own = &s->lives[m->life - 1];
    bool granted = m->epoch == 0 && s->ikes[ike].made_life == m->life;

    for (size_t k = 0; k < own->n_epochs; k++)
        granted |= own->epochs[k] == m->epoch;
    if (!granted)
        sim_fail(s, "I5: member %d seals in epoch %u, which nobody granted", m->index, m->epoch);
}

void check_epoch(struct sim *s, struct member *m, uint32_t epoch)
{
    struct life *own = &s->lives[m->life - 1];

    for (size_t i = 0; i < s->n_lives; i++)
        for (size_t k = 0; k < s->lives[i].n_epochs; k++)
            if (s->lives[i].member == own->member && s->lives[i].epochs[k] == epoch)
                sim_fail(s, "I4: epoch %u of member %d is used twice", epoch, own->member);
    if (own->n_epochs == sizeof own->epochs / sizeof *own->epochs)
        sim_fail(s, "I4: member %d takes epoch after epoch", m->index);
    else
        own->epochs[own->n_epochs++] = epoch;
}

/* The dead are known to be dead: what they said is on its way, or known to a live member, no longer
 * than this; what somebody recorded does not count. After a pause all that had waited comes at
 * once, and nobody is judged for a while. */
void check_liveness(struct sim *s, struct member *m)
{
    enum { LAST_WORDS_MS = 250 };
    uint64_t wait_us = (DEAD_MS + LAST_WORDS_MS) * 1000ULL;

    if (s->now.mono_us < s->pauses_end_us + wait_us)
        return;
    for (size_t i = 0; i < s->n; i++) {
        const struct member *o = &s->members[i];
        if (!o->core && o->down_us && s->now.mono_us > o->down_us + wait_us &&
            !ghost_haunts(s, o) && sync_member_live(m->core, o->slot))
            sim_fail(s, "I1: member %d waits for member %d, which is dead", m->index, o->index);
    }
}

/* Than that life, in its slot: one that began when that was over. */
bool check_believes_later(struct sim *s, const struct member *m, uint32_t life)
{
    const struct member *o = &s->members[s->lives[life - 1].member];
    const struct peer *p = o == m ? NULL : peers_find(m->core, o->slot);
    const struct life *believed = p && p->believed ? life_of(s, &p->incarnation) : NULL;

    return believed && s->lives[life - 1].ended_us &&
           believed->started_us >= s->lives[life - 1].ended_us;
}
