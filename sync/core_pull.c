/* The one repair: "send me all beyond my vector", asked of one member at a time, page by
 * page from a snapshot that the answering member holds for us. Records of a page are joined
 * as they come; our vector moves with the last page alone, so that it never claims what an
 * interrupted pull did not bring. */
#include <stdlib.h>
#include <string.h>

#include "proto/log.h"
#include "sync/core.h"

/* ---- what is missing ---- */

/* How many records of a log, up to seq, are not here. */
static uint64_t lacking(const struct sync_core *core, const struct id128 *origin, uint64_t seq)
{
    uint64_t applied = log_applied(core, origin);

    return seq > applied ? seq - applied : 0;
}

void pull_look(struct sync_core *core, struct peer *p)
{
    struct lack old = p->lack;
    const struct origin *log;
    uint64_t n;

    p->lack = (struct lack){0};
    if (!p->announced)
        return;
    log = table_origin_find(core->table, &p->incarnation);
    n = lacking(core, &p->incarnation, p->says.head);
    if (!MUTANT(GAP) && (n || (log && log->n_ahead))) {
        p->lack.direct = true;
        p->lack.entries++;
        p->lack.records += n;
    }
    for (size_t i = 0; i < p->says.n_applied; i++) {
        const struct log_position *at = &p->says.applied[i];
        if (id128_equal(&at->origin, &core->incarnation) ||
            id128_equal(&at->origin, &p->incarnation))
            continue;
        n = lacking(core, &at->origin, at->seq);
        p->lack.entries += n > 0;
        p->lack.records += n;
    }
    p->lack.since_us = old.entries ? old.since_us : core->now.mono_us;
}

void pull_look_all(struct sync_core *core)
{
    for (size_t i = 0; i < core->n_peers; i++)
        pull_look(core, &core->peers[i]);
}

/* Is it worth asking p now? What only a third member has may be on its way to us. Where a link is
 * broken one way some of what p says may still come, and a question to it would hold up all others
 * for as long as a pull may take. (But it may be its subscription alone that is broken.) */
static bool worth_asking(const struct sync_core *core, const struct peer *p)
{
    if (!p->announced || !peer_live(core, p) || p->lack.entries == 0)
        return false;
    if (since_us(core, p->heard_us) > ms_us(core->config.dead_ms))
        return false; /* others hear it, we do not */
    if (p->deaf && since_us(core, p->lack.since_us) < ms_us(DEAF_GRACE_MS))
        return false;
    return p->lack.direct || !core->synced ||
           since_us(core, p->lack.since_us) >= ms_us(HEARSAY_GRACE_MS);
}

static bool is_better(const struct peer *p, const struct peer *than)
{
    if (p->deaf != than->deaf)
        return than->deaf;
    if (p->pull_failed_us != than->pull_failed_us)
        return p->pull_failed_us < than->pull_failed_us;
    return p->lack.entries > than->lack.entries;
}

static struct peer *best_source(struct sync_core *core)
{
    struct peer *best = NULL;

    for (size_t i = 0; i < core->n_peers; i++) {
        struct peer *p = &core->peers[i];
        if (!worth_asking(core, p))
            continue;
        if (!best || is_better(p, best))
            best = p;
    }
    return best;
}

/* ---- asking ---- */

static void ask(struct sync_core *core)
{
    struct codec_message m = {.kind = CODEC_PULL_REQUEST};
    struct codec_pull_request *q = &m.pull_request;
    struct sync_effect *fx;
    struct slice sealed;

    core->pull.due = false;
    core->pull.nonce = rng_u64(&core->rng);
    core->pull.request = ++core->next_request;
    core->pull.sent_us = core->now.mono_us;
    q->to_incarnation = core->pull.incarnation;
    q->nonce = core->pull.nonce;
    q->snapshot = core->pull.snapshot;
    q->cursor = core->pull.cursor;
    q->heard = peer_highest(core->pull.from);
    if (core->pull.snapshot == 0)
        q->vector = log_vector(core, &q->n_vector);
    sealed = out_seal(core, FRAME_REQUEST, core->pull.from->slot, NULL, &m);
    free(q->vector);
    fx = sealed.n ? out_add(core, SYNC_FX_REQUEST) : NULL;
    if (!fx) {
        pull_fail(core);
        return;
    }
    fx->slot = core->pull.from->slot;
    fx->request = core->pull.request;
    fx->bytes = sealed;
}

void pull_fail(struct sync_core *core)
{
    if (!core->pull.active)
        return;
    core->pull.from->pull_failed_us = core->now.mono_us;
    core->pull.active = false;
    if (!core->pull.miss) /* those have a pace of their own */
        core->pull_retry_us = core->now.mono_us + ms_us(PULL_RETRY_MS);
}

/* A miss waits neither for the grace of hearsay nor for a retry. But after one it is the turn of
 * what is lacking, so that no flood of misses holds that up. */
static void begin(struct sync_core *core)
{
    struct peer *missed = miss_source(core);
    struct peer *lacked = core->now.mono_us >= core->pull_retry_us ? best_source(core) : NULL;
    struct peer *from;
    bool miss;

    if (lacked) /* it may have come since, and an answer that brings nothing costs a pause */
        pull_look(core, lacked);
    if (lacked && lacked->lack.entries == 0)
        lacked = NULL;
    miss = missed && !(lacked && core->pull.miss);
    from = miss ? missed : lacked;
    if (!from)
        return;
    core->pull = (struct pull){.active = true,
                               .miss = miss,
                               .from = from,
                               .incarnation = from->incarnation,
                               .began_us = core->now.mono_us};
    core->stats.pulls++;
    if (miss) {
        from->miss_asked_us = core->now.mono_us;
        core->stats.miss_pulls++;
    }
    ask(core);
}

/* A question that was lost holds up all others. But who is busy must be given the time to answer
 * what is long to tell, and not be asked the more the busier all are. */
static bool asks_another(const struct sync_core *core)
{
    const struct peer *from = core->pull.from;

    if (core->pull.snapshot || !core->synced || from->lack.records > PULL_HASTE_RECORDS ||
        since_us(core, core->pull.sent_us) <= ms_us(core->haste_ms))
        return false;
    for (size_t i = 0; i < core->n_peers; i++)
        if (&core->peers[i] != from && worth_asking(core, &core->peers[i]))
            return true;
    return false;
}

/* No answer, or nobody left to give one. */
static bool pull_is_lost(const struct sync_core *core)
{
    uint64_t dead_us = ms_us(core->config.dead_ms), patience_us = ms_us(PULL_TIMEOUT_MS);
    uint64_t waited_us = since_us(core, core->pull.sent_us);

    if (core->pull.miss)
        return waited_us > ms_us(MISS_PULL_TIMEOUT_MS);
    if (patience_us < 2 * dead_us)
        patience_us = 2 * dead_us;
    return waited_us > patience_us ||
           (waited_us > dead_us && since_us(core, core->pull.from->heard_us) > dead_us);
}

void pull_step(struct sync_core *core)
{
    if (core->pull.active && core->pull.due) {
        if (core->journal_failed || core->last_ticket < core->journaled + PULL_BACKLOG)
            ask(core); /* else the disk is the slower one: it sets the pace */
        return;
    }
    if (core->pull.active && pull_is_lost(core))
        pull_fail(core);
    if (core->pull.active && !core->pull.miss && asks_another(core)) {
        core->haste_ms =
            core->haste_ms * 2 < PULL_TIMEOUT_MS ? core->haste_ms * 2 : PULL_TIMEOUT_MS;
        pull_fail(core);
        core->pull_retry_us = 0;
    }
    if (core->recovered && !core->pull.active)
        begin(core);
}

void pull_page(struct sync_core *core, struct codec_pull_reply *page)
{
    if (page->expired) {
        pull_fail(core);
        return;
    }
    core->stats.pages++;
    core->haste_ms = PULL_HASTE_MS;
    core->pull.progress |= page->n_records > 0;
    for (size_t i = 0; i < page->n_records; i++) {
        log_merge(core, page->records[i]);
        page->records[i] = NULL;
    }
    page->n_records = 0;
    for (size_t i = 0; MUTANT(LAST_PAGE) && i < page->n_vector; i++)
        (void)log_covered(core, &page->vector[i]);
    if (page->more && page->next_cursor > core->pull.cursor) {
        core->pull.snapshot = page->snapshot;
        core->pull.cursor = page->next_cursor;
        core->pull.due = true;
        return;
    }
    if (page->more) { /* going nowhere */
        pull_fail(core);
        return;
    }
    for (size_t i = 0; i < page->n_vector; i++)
        core->pull.progress |= log_covered(core, &page->vector[i]);
    core->pull.active = false;
    core->pull.from->pull_failed_us = 0;
    miss_answered(core);
    if (!core->pull.progress && !core->pull.miss) /* asking again at once would bring as little */
        core->pull_retry_us = core->now.mono_us + ms_us(PULL_IDLE_MS);
    pull_look_all(core);
}

/* ---- answering ---- */

static void snapshot_free(struct snapshot *s)
{
    for (size_t i = 0; i < s->n; i++)
        held_unref(s->held[i]);
    free(s->held);
    free(s->vector);
    *s = (struct snapshot){0};
}

void pull_free(struct sync_core *core)
{
    for (size_t i = 0; i < SNAPSHOTS_MAX; i++)
        snapshot_free(&core->snapshots[i]);
}

static uint64_t asked_from(const struct codec_pull_request *q, const struct id128 *origin)
{
    for (size_t i = 0; i < q->n_vector; i++)
        if (id128_equal(&q->vector[i].origin, origin))
            return q->vector[i].seq;
    return 0;
}

/* References to all records beyond the asked vector, by log and number. */
static bool snapshot_fill(struct sync_core *core, struct snapshot *s,
                          const struct codec_pull_request *q)
{
    size_t cap = 0;

    for (size_t i = 0; i < table_origins(core->table); i++) {
        struct origin *o = table_origin_at(core->table, i);
        uint64_t from = asked_from(q, &o->id);
        struct entry *e = o->last, *first = NULL;
        for (; e && e->held->r->seq > from; e = e->log_prev)
            first = e;
        for (e = first; e; e = e->log_next) {
            if (!array_room(&s->held, s->n, &cap, sizeof(struct held *)))
                return false;
            s->held[s->n++] = held_ref(e->held);
        }
    }
    s->vector = log_vector(core, &s->n_vector);
    return s->vector != NULL;
}

/* The requester's own earlier snapshot, a free one, or the one idle longest. */
static struct snapshot *snapshot_place(struct sync_core *core, const struct id128 *requester)
{
    struct snapshot *place = &core->snapshots[0];

    for (size_t i = 0; i < SNAPSHOTS_MAX; i++)
        if (core->snapshots[i].id && id128_equal(&core->snapshots[i].requester, requester))
            return &core->snapshots[i];
    for (size_t i = 1; i < SNAPSHOTS_MAX; i++)
        if (core->snapshots[i].used_us < place->used_us)
            place = &core->snapshots[i];
    return place;
}

/* `fresh` is the caller's, for a pull that begins here. */
static struct snapshot *snapshot_find(struct sync_core *core, const struct codec_pull_request *q,
                                      const struct id128 *requester, struct snapshot *fresh)
{
    if (q->snapshot == 0) {
        if (!snapshot_fill(core, fresh, q)) {
            snapshot_free(fresh);
            return NULL;
        }
        fresh->id = rng_u64(&core->rng) | 1;
        fresh->requester = *requester;
        fresh->made_us = core->now.mono_us;
        return fresh;
    }
    for (size_t i = 0; i < SNAPSHOTS_MAX; i++)
        if (core->snapshots[i].id == q->snapshot &&
            id128_equal(&core->snapshots[i].requester, requester))
            return &core->snapshots[i];
    return NULL;
}

/* A vector too long for the last records' page gets one of its own. */
static void fill_page(const struct snapshot *s, uint64_t cursor, struct codec_pull_reply *page)
{
    size_t bytes = 0, at = cursor;

    while (at < s->n) {
        size_t more = out_size_bound(s->held[at]->r);
        if (page->n_records && bytes + more > PAGE_BYTES)
            break;
        page->records[page->n_records++] = s->held[at]->r;
        bytes += more;
        at++;
    }
    page->snapshot = s->id;
    page->next_cursor = at;
    page->more =
        at < s->n || (page->n_records && bytes + s->n_vector * POSITION_BYTES > PAGE_BYTES);
    if (!page->more || MUTANT(LAST_PAGE)) {
        page->vector = s->vector;
        page->n_vector = s->n_vector;
    }
}

void pull_answer(struct sync_core *core, struct peer *from, const struct codec_pull_request *q,
                 uint64_t request)
{
    struct frame_binding binding = {from->incarnation, q->nonce};
    struct snapshot fresh = {0};
    struct snapshot *s = snapshot_find(core, q, &from->incarnation, &fresh);
    struct codec_message m = {.kind = CODEC_PULL_REPLY};
    struct sync_effect *fx;

    if (s && q->cursor <= s->n) {
        /* A record takes more than 64 bytes of a page. */
        m.pull_reply.records = calloc(PAGE_BYTES / 64, sizeof(struct record *));
        s->used_us = core->now.mono_us;
        if (MUTANT(SNAPSHOT)) { /* a vector younger than the records */
            free(s->vector);
            s->vector = log_vector(core, &s->n_vector);
        }
        if (m.pull_reply.records)
            fill_page(s, q->cursor, &m.pull_reply);
    }
    m.pull_reply.expired = m.pull_reply.records == NULL;
    fx = out_add(core, SYNC_FX_REPLY);
    if (fx) {
        fx->request = request;
        fx->bytes = out_seal(core, FRAME_REPLY, from->slot, &binding, &m);
    }
    free(m.pull_reply.records);
    if (m.pull_reply.more && s == &fresh) { /* most answers are one page: they take no place */
        s = snapshot_place(core, &from->incarnation);
        snapshot_free(s);
        *s = fresh;
    } else {
        snapshot_free(&fresh);
    }
}

static void snapshots_expire(struct sync_core *core)
{
    for (size_t i = 0; i < SNAPSHOTS_MAX; i++)
        if (core->snapshots[i].id &&
            (since_us(core, core->snapshots[i].used_us) > ms_us(SNAPSHOT_IDLE_MS) ||
             since_us(core, core->snapshots[i].made_us) > ms_us(SNAPSHOT_LIFE_MS)))
            snapshot_free(&core->snapshots[i]);
}

/* ---- synced ---- */

/* All heads of live members covered? Another member must be heard; and since the first one
 * heard may know as little as we do, the others get a while to turn up. */
static bool covers_all(const struct sync_core *core)
{
    size_t heard = 0;

    for (size_t i = 0; i < core->n_peers; i++) {
        const struct peer *p = &core->peers[i];
        if (!peer_live(core, p))
            continue;
        if (!p->announced || (p->lack.entries && !MUTANT(SYNCED)))
            return false;
        heard++;
    }
    if (core->n_peers == 0)
        return true;
    return heard == core->n_peers ||
           (heard &&
            (core->synced || since_us(core, core->started_us) > 2 * ms_us(core->config.dead_ms)));
}

/* What waited in the queues while we stood still comes at once; an Announce that comes an interval
 * later was made after we woke. */
static bool told_since_stall(const struct sync_core *core)
{
    for (size_t i = 0; i < core->n_peers; i++) {
        const struct peer *p = &core->peers[i];

        if (peer_live(core, p) && (!p->announced || p->lack.entries ||
                                   p->announced_us < core->stalled_us + ms_us(ANNOUNCE_EVERY_MS)))
            return false;
    }
    return since_us(core, core->stalled_us) >= ms_us(ANNOUNCE_EVERY_MS);
}

void synced_step(struct sync_core *core)
{
    snapshots_expire(core);
    if (!core->recovered)
        return;
    if (core->stalled_us && (told_since_stall(core) ||
                             since_us(core, core->stalled_us) >= 2 * ms_us(core->config.dead_ms)))
        core->stalled_us = 0;
    if (covers_all(core)) {
        if (!core->synced)
            log_info("sync", "synced");
        core->synced = true;
        core->lacking_since_us = 0;
        if (!MUTANT(STRAYS))
            log_publish_strays(core);
        log_publish_derived(core);
        return;
    }
    if (!core->synced)
        return;
    for (size_t i = 0; i < core->n_peers; i++)
        if (peer_live(core, &core->peers[i]) && core->peers[i].lack.entries) {
            if (core->lacking_since_us == 0)
                core->lacking_since_us = core->now.mono_us;
            if (since_us(core, core->lacking_since_us) > ms_us(UNSYNCED_MS)) {
                log_warn("sync", "no longer synced: member %u has what we lack",
                         core->peers[i].slot);
                core->synced = false;
            }
            return;
        }
    core->lacking_since_us = 0; /* alone: what we have is what there is */
}
