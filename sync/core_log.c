/* Records in: from our own exchanges (PUT), from others' logs, from the journal; joined
 * into the table, and what the joins entail. */
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "proto/log.h"
#include "sync/core.h"
#include "sync/join.h"

static int64_t expiry_of(const struct sync_core *core, const struct record *r)
{
    const struct entry *child;

    if (MUTANT(TOMBSTONE) && record_state(r) == SA_DELETED)
        return core->now.wall_ms + 50;
    if (r->kind != RECORD_ENDPOINT)
        return record_keep_until_ms(r);
    child = table_find(core->table, RECORD_CHILD, r->endpoint.spi_in);
    return child ? child->expires_ms : core->now.wall_ms + ENDPOINT_KEEP_MS;
}

static bool expired(const struct sync_core *core, const struct record *r)
{
    return record_keep_until_ms(r) <= core->now.wall_ms && !MUTANT(EXPIRED);
}

/* An endpoint record lives as long as its Child SA, whichever of the two came first. This follows
 * from the records here, so nobody publishes it. */
static void settle_endpoint(struct sync_core *core, const struct entry *child)
{
    struct entry *moved = table_find(core->table, RECORD_ENDPOINT, child->held->r->child.spi_in);

    if (!moved)
        return;
    if (record_state(child->held->r) == SA_DELETED)
        table_remove(core->table, moved);
    else
        moved->expires_ms = child->expires_ms;
}

/* An endpoint of a Child SA that is deleted. */
static bool is_orphan(const struct sync_core *core, const struct record *r)
{
    const struct entry *child;

    if (r->kind != RECORD_ENDPOINT)
        return false;
    child = table_find(core->table, RECORD_CHILD, r->endpoint.spi_in);
    return child && record_state(child->held->r) == SA_DELETED;
}

/* Without memory the deleter's word must do. */
static void note_derived(struct sync_core *core, uint32_t spi_in)
{
    if (array_room(&core->derived, core->n_derived, &core->cap_derived, sizeof *core->derived))
        core->derived[core->n_derived++] = (struct derived){spi_in, core->now.mono_us};
}

/* Puts a record into the table and tells node and journal. Takes r; NULL: no memory. */
static struct entry *install(struct sync_core *core, struct record *r, bool journal)
{
    struct entry *e;

    barrier_moves(core, r);
    e = table_put(core->table, r, expiry_of(core, r));
    if (!e) {
        log_error("sync", "out of memory or origins: a record is lost here");
        core->journal_torn = true;
        return NULL;
    }
    if (e->held->r->kind == RECORD_CHILD)
        settle_endpoint(core, e);
    if (e->held->r->derived)
        note_derived(core, e->held->r->child.spi_in);
    out_record(core, e->held);
    if (journal)
        out_journal(core, e->held->r);
    return e;
}

/* ---- a deleted lineage deletes its children ----
 * The rule is a function of the records here, so every member comes to the same; who deletes
 * the IKE SA publishes the children's tombstones as well. The tombstone of an IKE SA says whether
 * the lineage ended with it: the old SA of an IKE rekey does not end it, and its successor's record
 * may well come later, from another log or another row of the journal. The child's tombstone keeps
 * the child's log position. */

static bool lineage_over(const struct sync_core *core, const struct id128 *lineage)
{
    for (struct entry *e = table_lineage_first(core->table, lineage); e; e = table_lineage_next(e))
        if (e->held->r->kind == RECORD_IKE && record_state(e->held->r) == SA_DELETED &&
            (e->held->r->ike.lineage_over || MUTANT(LINEAGE)))
            return true;
    return false;
}

static struct entry *installed_child(const struct sync_core *core, const struct id128 *lineage)
{
    struct entry *e = table_lineage_first(core->table, lineage);

    while (e && (e->held->r->kind != RECORD_CHILD || record_state(e->held->r) == SA_DELETED))
        e = table_lineage_next(e);
    return e;
}

/* ---- our own log ---- */

/* Gives r our next number, installs, journals and publishes it. Takes r. */
static struct entry *originate(struct sync_core *core, struct record *r, bool group_start)
{
    struct entry *e;

    r->origin = core->incarnation;
    r->origin_slot = core->config.slot;
    r->seq = core->self->seq + 1;
    r->derived = false;
    e = install(core, r, true);
    if (!e)
        return NULL;
    origin_raise(core->self, r->seq);
    out_unsent(core, e->held, group_start);
    return e;
}

/* Our own deletion's are published: whoever misses the IKE SA's tombstone, because it expired
 * first, learns of them all the same. */
static void delete_children(struct sync_core *core, struct entry *changed, bool own)
{
    struct id128 lineage;
    struct entry *child;

    if (!record_lineage(changed->held->r))
        return;
    lineage = *record_lineage(changed->held->r);
    if (!lineage_over(core, &lineage))
        return;
    while ((child = installed_child(core, &lineage)) != NULL) {
        struct record *tombstone = record_clone(child->held->r);
        if (!tombstone)
            return;
        tombstone->child.state = SA_DELETED;
        tombstone->derived = !own;
        record_normalise(tombstone);
        if (own ? !originate(core, tombstone, false) : !install(core, tombstone, true))
            return;
    }
}

/* A Child SA's tombstone that was derived stands under the log position of the live SA: who has
 * pulled that position already would never get it. One that was published takes its place, never
 * the other way round. */
static bool is_made_good(const struct entry *ours, const struct record *theirs)
{
    return ours->held->r->derived && !theirs->derived;
}

static bool is_beyond_vector(const struct sync_core *core, const struct entry *e)
{
    return e->origin != core->self && e->held->r->seq > e->origin->seq;
}

/* Another record of the same SA than the one under whose position the derived tombstone stands, or
 * a tombstone that was derived from that one. Our vector will cover it: who has pulled the position
 * of ours already would be told so, and get neither. */
static bool is_hidden_by(const struct entry *ours, const struct record *theirs)
{
    return ours->held->r->derived &&
           !(id128_equal(&ours->origin->id, &theirs->origin) && theirs->seq <= ours->held->r->seq);
}

/* Publishes what is here again, under our own log. What wins a join and is beyond our vector would
 * win it unseen: the other's author takes our ack for agreement, and might speak in a term that is
 * overtaken here. */
static void show(struct sync_core *core, struct entry *e)
{
    struct record *again = record_clone(e->held->r);

    if (again)
        (void)originate(core, again, true);
}

/* Joins `theirs` (taken) with what is here. The result, when it is not ours already, is put
 * under `theirs`' own position, or under a new one of ours if `own` or if it is a third. */
static void join_in(struct sync_core *core, struct record *theirs, bool own, bool *group_start)
{
    struct entry *e = table_find(core->table, theirs->kind, record_key(theirs));
    enum join_result result = JOIN_THEIRS;
    struct record *joined = NULL;

    if (is_orphan(core, theirs)) {
        record_free(theirs);
        return;
    }
    if (e && record_join(e->held->r, theirs, &result, &joined) != ERR_OK) {
        log_error("sync", "a record could not be joined");
        core->journal_torn = true;
        record_free(theirs);
        return;
    }
    if (result == JOIN_SAME && e && !own && is_made_good(e, theirs)) {
        (void)install(core, theirs, true);
        return;
    }
    switch (result) {
    case JOIN_OURS:
        if (!own && ((is_beyond_vector(core, e) && !MUTANT(SHOW)) || is_hidden_by(e, theirs)))
            show(core, e);
        record_free(theirs);
        return;
    case JOIN_SAME:
        if (!own && is_hidden_by(e, theirs))
            show(core, e);
        record_free(theirs);
        return;
    case JOIN_THEIRS:
        e = own ? originate(core, theirs, *group_start) : install(core, theirs, !MUTANT(JOURNAL));
        break;
    case JOIN_BOTH:
        record_free(theirs);
        e = MUTANT(REORIGINATE) ? install(core, joined, true)
                                : originate(core, joined, own ? *group_start : true);
        break;
    }
    if (own)
        *group_start = false;
    if (e)
        delete_children(core, e, own);
}

/* What a group brings may be here already, from another log that the peers have not all applied:
 * their acks of our log must speak for it, too. */
static void show_for_barrier(struct sync_core *core, enum record_kind kind, uint64_t key)
{
    struct entry *e = table_find(core->table, kind, key);

    if (e && e->origin != core->self && e->expires_ms > core->now.wall_ms)
        show(core, e);
}

void log_put(struct sync_core *core, struct record **group, size_t n, uint64_t barrier)
{
    struct barrier *held_back = NULL;
    bool start = true;

    if (barrier)
        held_back = barrier_add(core, barrier, group, n);
    for (size_t i = 0; i < n; i++) {
        struct record *r = group[i];
        if (!r)
            continue;
        record_normalise(r);
        if (!core->recovered) {
            log_error("sync", "a record was made before the journal was read; dropped");
            record_free(r);
        } else if (codec_record_check(r) != ERR_OK) {
            log_error("sync", "a record of kind %d made here is not well formed; dropped", r->kind);
            record_free(r);
        } else if (expired(core, r)) {
            record_free(r);
        } else {
            enum record_kind kind = r->kind;
            uint64_t key = record_key(r);
            join_in(core, r, true, &start);
            if (barrier)
                show_for_barrier(core, kind, key);
        }
    }
    if (held_back)
        barrier_begin(core, held_back);
}

/* ---- others' logs ---- */

void log_merge(struct sync_core *core, struct record *r)
{
    bool start = true;

    core->stats.records_in++;
    if (!r) { /* its number counts, or the log would end here for us */
        if (core->stats.records_unreadable++ == 0)
            log_warn("sync", "a record of a newer version cannot be kept here: upgrade this node");
        return;
    }
    core->stats.records_newer += record_is_later(r->kind);
    record_normalise(r);
    if (expired(core, r) || id128_equal(&r->origin, &core->incarnation)) {
        record_free(r);
        return;
    }
    join_in(core, r, false, &start);
}

/* Only who made the records waits for the acknowledgement; all others learn of it within
 * ANNOUNCE_EVERY_MS. For several at once one Announce to all is cheaper. */
static void ack_wanted(struct sync_core *core, uint16_t slot)
{
    if (core->ack_to == FRAME_TO_ALL)
        core->ack_to = slot;
    else if (core->ack_to != slot)
        core->announce_wanted = true;
}

void log_update(struct sync_core *core, struct peer *from, struct codec_update *u)
{
    struct origin *o = table_origin(core->table, &from->incarnation, from->slot);
    uint64_t last = u->first_seq + u->n_records - 1;

    if (!o || last <= o->seq)
        return;
    for (size_t i = 0; i < u->n_records; i++) {
        if (u->records[i])
            u->records[i]->origin_slot = from->slot;
        log_merge(core, u->records[i]);
        u->records[i] = NULL;
    }
    u->n_records = 0;
    if (origin_note(o, u->first_seq, last)) {
        core->stats.gaps++;
        if (from->lack.entries == 0)
            from->lack.since_us = core->now.mono_us;
        from->lack.entries++;
        from->lack.direct = true;
    }
    ack_wanted(core, from->slot);
}

bool log_covered(struct sync_core *core, const struct log_position *pos)
{
    struct origin *o;

    if (pos->seq <= log_applied(core, &pos->origin) ||
        id128_equal(&pos->origin, &core->incarnation))
        return false;
    o = table_origin(core->table, &pos->origin, pos->slot);
    if (!o || pos->seq <= o->seq)
        return false;
    origin_raise(o, pos->seq);
    core->announce_wanted = true;
    return true;
}

uint64_t log_applied(const struct sync_core *core, const struct id128 *origin)
{
    return table_applied(core->table, origin);
}

struct log_position *log_vector(const struct sync_core *core, size_t *n)
{
    size_t n_origins = table_origins(core->table);
    struct log_position *v = calloc(n_origins ? n_origins : 1, sizeof *v);

    *n = 0;
    for (size_t i = 0; v && i < n_origins; i++) {
        const struct origin *o = table_origin_at(core->table, i);
        if (o->seq)
            v[(*n)++] = (struct log_position){o->id, o->slot, o->seq};
    }
    return v;
}

/* ---- what a dead member left half told ----
 * A record beyond our vector of its log came in a frame after a lost one, or on a page of a pull
 * that ended before its last. While its maker lives the gap will be filled. Once the maker is dead
 * and no live member covers more of that log than we do, nobody would ever ask us for it: no vector
 * shows it. So it is published again, under our own log, and the living agree without the dead. */

static bool maker_lives(struct sync_core *core, const struct origin *o)
{
    const struct peer *p = peers_find(core, o->slot);

    return p && peer_live(core, p) && id128_equal(&p->incarnation, &o->id);
}

static size_t publish_strays(struct sync_core *core, struct origin *o, size_t most)
{
    struct entry *e = o->last, *next;
    size_t n = 0;

    while (e->log_prev && e->log_prev->held->r->seq > o->seq)
        e = e->log_prev;
    for (; e && n < most; e = next) {
        next = e->log_next;
        if (e->expires_ms <= core->now.wall_ms)
            continue;
        show(core, e);
        n++;
    }
    return n;
}

void log_publish_strays(struct sync_core *core)
{
    size_t left = STRAYS_AT_ONCE;

    for (size_t i = 0; left && i < table_origins(core->table); i++) {
        struct origin *o = table_origin_at(core->table, i);
        if (o != core->self && o->last && o->last->held->r->seq > o->seq && !maker_lives(core, o))
            left -= publish_strays(core, o, left);
    }
}

/* A child that the deleter of its lineage did not know is deleted wherever the end of the lineage
 * is known; and once that tombstone expired, nowhere else. So what stays derived is published. */
void log_publish_derived(struct sync_core *core)
{
    size_t n = 0;

    for (; n < core->n_derived && n < STRAYS_AT_ONCE; n++) {
        const struct derived *d = &core->derived[n];
        struct entry *e;
        if (since_us(core, d->since_us) < ms_us(DERIVED_KEEP_MS))
            break;
        e = table_find(core->table, RECORD_CHILD, d->spi_in);
        if (e && e->held->r->derived && e->expires_ms > core->now.wall_ms)
            show(core, e);
    }
    if (n == 0)
        return;
    core->n_derived -= n;
    memmove(core->derived, core->derived + n, core->n_derived * sizeof *core->derived);
}

/* ---- the journal's ---- */

/* Origins that no record names any more are forgotten at start: giving up a claim is always
 * safe, and this keeps the vector from growing with every restart. */
static void forget_idle_origins(struct sync_core *core)
{
    for (size_t i = table_origins(core->table); i-- > 0;) {
        struct origin *o = table_origin_at(core->table, i);
        if (!o->first && o != core->self)
            table_origin_drop(core->table, o);
    }
}

/* What follows from a lineage's end was journalled together with it. It is not worked out anew: by
 * a clock that is behind, as ours may be until the others are heard, a tombstone that all have
 * forgotten would end what goes on. */
void log_recover_some(struct sync_core *core, struct sync_recovery *recovery)
{
    table_expect(core->table, recovery->n_expected);
    for (size_t i = 0; i < recovery->n_records; i++) {
        struct record *r = recovery->records[i];
        if (!r)
            continue;
        record_normalise(r);
        if (expired(core, r) || is_orphan(core, r)) {
            record_free(r);
            continue;
        }
        (void)install(core, r, false);
    }
    recovery->n_records = 0;
}

void log_recover(struct sync_core *core, struct sync_recovery *recovery)
{
    core->recovered = true;
    core->journal_empty = recovery->journal_empty || recovery->journal_cut || recovery->epoch == 0;
    epoch_recover(core, recovery);
    log_recover_some(core, recovery);
    table_settle(core->table);
    for (size_t i = 0; i < recovery->n_vector; i++) {
        const struct sync_position *p = &recovery->vector[i];
        (void)log_covered(core, &(struct log_position){p->origin, p->slot, p->seq});
    }
    forget_idle_origins(core);
    for (size_t i = 0; i < table_origins(core->table); i++)
        table_origin_at(core->table, i)->changed = false;
    core->announce_wanted = true;
}

/* ---- the end of a log ---- */

static bool speaks(const struct sync_core *core, const struct origin *o)
{
    const struct peer *p = peers_find(core, o->slot);

    return o == core->self || (p && p->believed && id128_equal(&p->incarnation, &o->id));
}

/* A log of an earlier life, whose last record is gone: it leaves our vector, which would grow with
 * every restart of any member. */
void log_retire(struct sync_core *core)
{
    if (since_us(core, core->retired_us) < ms_us(RETIRE_EVERY_MS))
        return;
    core->retired_us = core->now.mono_us;
    for (size_t i = table_origins(core->table); i-- > 0;) {
        struct origin *o = table_origin_at(core->table, i);
        if (o->first || speaks(core, o))
            o->idle_since_us = 0;
        else if (o->idle_since_us == 0)
            o->idle_since_us = core->now.mono_us;
        else if (since_us(core, o->idle_since_us) >= ms_us(ORIGIN_KEEP_MS))
            table_origin_retire(core->table, o);
    }
}

/* It was silent, and its log may have been retired: back into the vector, which is its ack. */
void log_revive(struct sync_core *core, const struct peer *p)
{
    if (log_applied(core, &p->incarnation) > 0)
        (void)table_origin(core->table, &p->incarnation, p->slot);
}

/* ---- the end of a record ---- */

/* An SA that outlived its not_after leaves the dataplane, its tombstone the table; the
 * journal drops expired rows by itself. */
void log_expire(struct sync_core *core)
{
    enum { AT_ONCE = 256 };
    struct entry *e;

    for (int i = 0; i < AT_ONCE && (e = table_sweep(core->table, core->now.wall_ms)); i++) {
        struct record *gone = NULL;
        if (record_state(e->held->r) == SA_INSTALLED && record_lineage(e->held->r))
            gone = record_clone(e->held->r);
        table_remove(core->table, e);
        if (gone) {
            struct held *held;
            if (gone->kind == RECORD_IKE)
                gone->ike.state = SA_DELETED;
            else
                gone->child.state = SA_DELETED;
            record_normalise(gone);
            held = held_new(gone);
            if (held)
                out_record(core, held);
            held_unref(held);
        }
    }
}
