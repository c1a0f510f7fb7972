#include "sync/records.h"

#include <stdlib.h>
#include <string.h>

#include "proto/crypto.h"
#include "proto/err.h"
#include "sync/join.h"
#include "sync/mutant.h"

enum {
    FIRST_BUCKETS = 256, /* a power of two */
    SWEEP_PARTS = 128,   /* a whole sweep takes so many calls */
    SWEEP_LEAST = 64,    /* buckets looked at in a call, at least */
    ORIGIN_BUCKETS = 1024,
    PAST_MAX = 1024,
};

struct past { /* a log that was retired */
    struct id128 id;
    uint64_t seq;
};

struct table {
    struct entry **keys, **lineages; /* buckets, the same number of each */
    size_t n_buckets, n_entries;
    size_t sweep_at;
    size_t n_endpoints; /* of the entries: most clusters have none, and all Child SAs are asked */
    bool unsettled;     /* logs are appended to in any order */
    struct origin **origins;
    struct origin *by_id[ORIGIN_BUCKETS];
    size_t n_origins, cap_origins;
    struct past past[PAST_MAX]; /* in turn: the oldest makes room */
    size_t next_past;
    struct table_counts counts;
    struct hash_ctx *hash; /* SHA2-256, for the digest */
};

/* ---- shared records ---- */

struct held *held_new(struct record *r)
{
    struct held *h = malloc(sizeof *h);

    if (!h) {
        record_free(r);
        return NULL;
    }
    *h = (struct held){1, r};
    return h;
}

struct held *held_ref(struct held *h)
{
    h->refs++;
    return h;
}

void held_unref(struct held *h)
{
    if (!h || --h->refs)
        return;
    record_free(h->r);
    free(h);
}

/* ---- hashing; keys are chosen by members, not by customers ---- */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static size_t key_bucket(size_t n_buckets, uint8_t kind, uint64_t key)
{
    return mix(key + ((uint64_t)kind << 56)) & (n_buckets - 1);
}

static size_t lineage_bucket(size_t n_buckets, const struct id128 *lineage)
{
    uint64_t half[2];

    memcpy(half, lineage->b, sizeof half);
    return mix(half[0] ^ mix(half[1])) & (n_buckets - 1);
}

static void link_key(struct table *t, struct entry *e)
{
    struct entry **b = &t->keys[key_bucket(t->n_buckets, e->kind, e->key)];

    e->key_next = *b;
    *b = e;
}

static void link_lineage(struct table *t, struct entry *e)
{
    const struct id128 *lineage = record_lineage(e->held->r);
    struct entry **b;

    e->lineage_next = NULL;
    e->lineage_prev = NULL;
    if (!lineage)
        return;
    b = &t->lineages[lineage_bucket(t->n_buckets, lineage)];
    e->lineage_next = *b;
    e->lineage_prev = b;
    if (*b)
        (*b)->lineage_prev = &e->lineage_next;
    *b = e;
}

static void unlink_lineage(struct entry *e)
{
    if (!e->lineage_prev)
        return;
    *e->lineage_prev = e->lineage_next;
    if (e->lineage_next)
        e->lineage_next->lineage_prev = e->lineage_prev;
    e->lineage_prev = NULL;
}

struct table *table_new(void)
{
    struct table *t = calloc(1, sizeof *t);

    if (!t)
        return NULL;
    t->n_buckets = FIRST_BUCKETS;
    t->keys = calloc(t->n_buckets, sizeof(struct entry *));
    t->lineages = calloc(t->n_buckets, sizeof(struct entry *));
    t->hash = hash_new(HASH_SHA256);
    if (!t->keys || !t->lineages || !t->hash) {
        table_free(t);
        return NULL;
    }
    return t;
}

void table_free(struct table *t)
{
    if (!t)
        return;
    for (size_t i = 0; t->keys && i < t->n_buckets; i++) {
        struct entry *e = t->keys[i];
        while (e) {
            struct entry *next = e->key_next;
            held_unref(e->held);
            free(e);
            e = next;
        }
    }
    for (size_t i = 0; i < t->n_origins; i++)
        free(t->origins[i]);
    free(t->origins);
    hash_free(t->hash);
    free(t->keys);
    free(t->lineages);
    free(t);
}

/* When there is no memory the chains just grow longer. */
static void grow(struct table *t, size_t n_buckets)
{
    size_t n_old = t->n_buckets;
    struct entry **old = t->keys;
    struct entry **keys = calloc(n_buckets, sizeof(struct entry *));
    struct entry **lineages = calloc(n_buckets, sizeof(struct entry *));

    if (!keys || !lineages) {
        free(keys);
        free(lineages);
        return;
    }
    free(t->lineages);
    t->keys = keys;
    t->lineages = lineages;
    t->n_buckets = n_buckets;
    t->sweep_at = 0;
    for (size_t i = 0; i < n_old; i++) {
        struct entry *e = old[i];
        while (e) {
            struct entry *next = e->key_next;
            link_key(t, e);
            link_lineage(t, e);
            e = next;
        }
    }
    free(old);
}

void table_expect(struct table *t, size_t n)
{
    size_t n_buckets = t->n_buckets;

    t->unsettled = true;
    while (n_buckets < n)
        n_buckets *= 2;
    if (n_buckets > t->n_buckets)
        grow(t, n_buckets);
}

/* ---- origins ---- */

static size_t origin_bucket(const struct id128 *id)
{
    return lineage_bucket(ORIGIN_BUCKETS, id);
}

struct origin *table_origin_find(const struct table *t, const struct id128 *id)
{
    struct origin *o = t->by_id[origin_bucket(id)];

    while (o && !id128_equal(&o->id, id))
        o = o->next;
    return o;
}

static const struct past *past_find(const struct table *t, const struct id128 *id)
{
    for (size_t i = 0; i < PAST_MAX && i < t->next_past; i++)
        if (t->past[i].seq && id128_equal(&t->past[i].id, id))
            return &t->past[i];
    return NULL;
}

uint64_t table_applied(const struct table *t, const struct id128 *id)
{
    const struct origin *o = table_origin_find(t, id);
    const struct past *past = o ? NULL : past_find(t, id);

    return o ? o->seq : past ? past->seq : 0;
}

void table_origin_retire(struct table *t, struct origin *o)
{
    if (o->first)
        return;
    if (o->seq)
        t->past[t->next_past++ % PAST_MAX] = (struct past){o->id, o->seq};
    table_origin_drop(t, o);
}

/* The one longest without records makes room for another. */
static bool retire_idle(struct table *t)
{
    struct origin *idle = NULL;

    for (size_t i = 0; i < t->n_origins; i++) {
        struct origin *o = t->origins[i];
        if (!o->first && o->idle_since_us && (!idle || o->idle_since_us < idle->idle_since_us))
            idle = o;
    }
    if (idle)
        table_origin_retire(t, idle);
    return idle != NULL;
}

struct origin *table_origin(struct table *t, const struct id128 *id, uint16_t slot)
{
    struct origin *o = table_origin_find(t, id);

    if (o)
        return o;
    if (t->n_origins >= CODEC_POSITIONS_MAX && !retire_idle(t))
        return NULL;
    if (t->n_origins == t->cap_origins) {
        size_t cap = t->cap_origins ? t->cap_origins * 2 : 16;
        struct origin **more = realloc(t->origins, cap * sizeof(struct origin *));
        if (!more)
            return NULL;
        t->origins = more;
        t->cap_origins = cap;
    }
    o = calloc(1, sizeof *o);
    if (!o)
        return NULL;
    o->id = *id;
    o->slot = slot;
    o->seq = table_applied(t, id); /* it was retired, and is back */
    o->next = t->by_id[origin_bucket(id)];
    t->by_id[origin_bucket(id)] = o;
    t->origins[t->n_origins++] = o;
    return o;
}

size_t table_origins(const struct table *t)
{
    return t->n_origins;
}

struct origin *table_origin_at(const struct table *t, size_t i)
{
    return t->origins[i];
}

void table_origin_drop(struct table *t, struct origin *o)
{
    struct origin **at = &t->by_id[origin_bucket(&o->id)];

    if (o->first)
        return;
    while (*at != o)
        at = &(*at)->next;
    *at = o->next;
    for (size_t i = 0; i < t->n_origins; i++)
        if (t->origins[i] == o) {
            t->origins[i] = t->origins[--t->n_origins];
            free(o);
            return;
        }
}

/* Stretches that now touch the applied part become part of it. */
static void absorb(struct origin *o)
{
    size_t used = 0;

    while (used < o->n_ahead && o->ahead[used].first <= o->seq + 1) {
        if (o->ahead[used].last > o->seq)
            o->seq = o->ahead[used].last;
        used++;
    }
    o->n_ahead -= used;
    memmove(o->ahead, o->ahead + used, o->n_ahead * sizeof *o->ahead);
}

void origin_raise(struct origin *o, uint64_t seq)
{
    if (seq <= o->seq)
        return;
    o->seq = seq;
    o->changed = true;
    absorb(o);
}

bool origin_note(struct origin *o, uint64_t first, uint64_t last)
{
    size_t at = 0;

    if (first <= o->seq + 1 || MUTANT(CONTIGUOUS)) {
        origin_raise(o, last);
        return false;
    }
    while (at < o->n_ahead && o->ahead[at].last + 1 < first)
        at++;
    if (at < o->n_ahead && o->ahead[at].first <= last + 1) { /* touches: widen, join followers */
        struct stretch *s = &o->ahead[at];
        size_t next = at + 1;
        s->first = first < s->first ? first : s->first;
        s->last = last > s->last ? last : s->last;
        while (next < o->n_ahead && o->ahead[next].first <= s->last + 1) {
            s->last = o->ahead[next].last > s->last ? o->ahead[next].last : s->last;
            next++;
        }
        memmove(&o->ahead[at + 1], &o->ahead[next], (o->n_ahead - next) * sizeof *s);
        o->n_ahead -= next - at - 1;
    } else if (o->n_ahead < AHEAD_MAX) {
        memmove(&o->ahead[at + 1], &o->ahead[at], (o->n_ahead - at) * sizeof *o->ahead);
        o->ahead[at] = (struct stretch){first, last};
        o->n_ahead++;
    } /* else: applied but not remembered; the pull brings it again */
    return true;
}

/* ---- the log chain of an origin, ascending by number ---- */

static void link_log(struct origin *o, struct entry *e, bool in_order)
{
    uint64_t seq = e->held->r->seq;
    struct entry *before = o->last;

    if (!in_order)
        seq = UINT64_MAX; /* table_settle puts it where it belongs */
    /* A pull brings the older ones in a row while Updates go on at the end. */
    if (before && before->held->r->seq > seq && o->near)
        before = o->near;
    while (before && before->log_next && before->log_next->held->r->seq <= seq)
        before = before->log_next;
    while (before && before->held->r->seq > seq)
        before = before->log_prev;
    o->near = e;
    e->origin = o;
    e->log_prev = before;
    e->log_next = before ? before->log_next : o->first;
    if (e->log_next)
        e->log_next->log_prev = e;
    else
        o->last = e;
    if (before)
        before->log_next = e;
    else
        o->first = e;
}

static void unlink_log(struct entry *e)
{
    struct origin *o = e->origin;

    if (o->near == e)
        o->near = e->log_prev ? e->log_prev : e->log_next;
    if (e->log_prev)
        e->log_prev->log_next = e->log_next;
    else
        o->first = e->log_next;
    if (e->log_next)
        e->log_next->log_prev = e->log_prev;
    else
        o->last = e->log_prev;
}

static bool is_ascending(const struct origin *o)
{
    for (const struct entry *e = o->first; e && e->log_next; e = e->log_next)
        if (e->held->r->seq > e->log_next->held->r->seq)
            return false;
    return true;
}

/* Merges two chains that ascend and end; only log_next counts. */
static struct entry *merge_chains(struct entry *a, struct entry *b)
{
    struct entry *first = NULL, **end = &first;

    while (a && b) {
        struct entry **least = a->held->r->seq <= b->held->r->seq ? &a : &b;
        *end = *least;
        end = &(*least)->log_next;
        *least = (*least)->log_next;
    }
    *end = a ? a : b;
    return first;
}

/* From below: runs[i] is empty or has 2^i entries. */
static struct entry *sort_chain(struct entry *e)
{
    enum { RUNS = 48 };
    struct entry *runs[RUNS] = {NULL}, *all = NULL;

    while (e) {
        struct entry *run = e;
        size_t i = 0;
        e = e->log_next;
        run->log_next = NULL;
        for (; i < RUNS - 1 && runs[i]; i++) {
            run = merge_chains(runs[i], run);
            runs[i] = NULL;
        }
        runs[i] = run;
    }
    for (size_t i = 0; i < RUNS; i++)
        all = merge_chains(runs[i], all);
    return all;
}

void table_settle(struct table *t)
{
    for (size_t i = 0; t->unsettled && i < t->n_origins; i++) {
        struct origin *o = t->origins[i];
        if (is_ascending(o))
            continue;
        o->first = sort_chain(o->first);
        o->last = NULL;
        for (struct entry *e = o->first; e; o->last = e, e = e->log_next)
            e->log_prev = o->last;
        o->near = o->last;
    }
    t->unsettled = false;
}

/* ---- counts and digest ---- */

/* The bytes that two members must agree on for a record to count as the same. */
static size_t digest_input(const struct record *r, uint8_t out[96])
{
    struct writer w = writer_of(out, 96);

    write_u8(&w, r->kind);
    write_u64(&w, record_key(r));
    if (r->kind == RECORD_IKE) {
        write_u64(&w, r->ike.term.number);
        write_u16(&w, r->ike.term.slot);
        write_bytes(&w, r->ike.term.incarnation.b, ID_BYTES);
        write_u32(&w, r->ike.revision);
        write_u32(&w, r->ike.next_in);
        write_u32(&w, r->ike.next_out);
    } else if (r->kind == RECORD_CHILD) {
        write_u32(&w, r->child.spi_out);
        write_bytes(&w, r->child.lineage.b, ID_BYTES);
        write_u8(&w, r->child.confirmed);
        write_u8(&w, r->child.rekeyed);
    } else if (r->kind == RECORD_ENDPOINT) {
        write_u64(&w, r->endpoint.move);
    } else {
        write_u64(&w, r->later.revision);
    }
    return w.n;
}

/* Adds (by = 1) or takes out (by = -1) an installed record. */
static void count(struct table *t, const struct record *r, int by)
{
    uint8_t bytes[96], digest[HASH_MAX];
    struct slice part = {bytes, 0};

    if (record_state(r) != SA_INSTALLED)
        return;
    if (r->kind == RECORD_IKE)
        t->counts.ike_sas += (uint64_t)by;
    else if (r->kind == RECORD_CHILD)
        t->counts.child_sas += (uint64_t)by;
    part.n = digest_input(r, bytes);
    if (hash_run(t->hash, &part, 1, digest) != ERR_OK)
        return;
    for (size_t i = 0; i < sizeof t->counts.digest; i++)
        t->counts.digest[i] ^= digest[i];
}

const struct table_counts *table_counts(const struct table *t)
{
    return &t->counts;
}

/* ---- records ---- */

struct entry *table_find(const struct table *t, enum record_kind kind, uint64_t key)
{
    struct entry *e;

    if (kind == RECORD_ENDPOINT && t->n_endpoints == 0)
        return NULL;
    e = t->keys[key_bucket(t->n_buckets, (uint8_t)kind, key)];
    while (e && (e->key != key || e->kind != kind))
        e = e->key_next;
    return e;
}

struct entry *table_put(struct table *t, struct record *r, int64_t expires_ms)
{
    struct origin *o = table_origin(t, &r->origin, r->origin_slot);
    struct held *held = held_new(r);
    struct entry *e;

    if (!held || !o)
        goto freed;
    e = table_find(t, r->kind, record_key(r));
    if (e) {
        count(t, e->held->r, -1);
        unlink_log(e);
        unlink_lineage(e);
        held_unref(e->held);
        e->held = held;
    } else {
        e = calloc(1, sizeof *e);
        if (!e)
            goto freed;
        if (t->n_entries >= t->n_buckets)
            grow(t, 2 * t->n_buckets);
        e->held = held;
        e->kind = r->kind;
        e->key = record_key(r);
        link_key(t, e);
        t->n_entries++;
        t->n_endpoints += e->kind == RECORD_ENDPOINT;
    }
    e->expires_ms = expires_ms;
    link_lineage(t, e);
    link_log(o, e, !t->unsettled);
    count(t, r, 1);
    return e;
freed:
    held_unref(held);
    return NULL;
}

void table_remove(struct table *t, struct entry *e)
{
    struct entry **at = &t->keys[key_bucket(t->n_buckets, e->kind, e->key)];

    while (*at != e)
        at = &(*at)->key_next;
    *at = e->key_next;
    count(t, e->held->r, -1);
    unlink_log(e);
    unlink_lineage(e);
    held_unref(e->held);
    t->n_entries--;
    t->n_endpoints -= e->kind == RECORD_ENDPOINT;
    free(e);
}

static struct entry *same_lineage(struct entry *e, const struct id128 *lineage)
{
    while (e && !id128_equal(record_lineage(e->held->r), lineage))
        e = e->lineage_next;
    return e;
}

struct entry *table_lineage_first(const struct table *t, const struct id128 *lineage)
{
    return same_lineage(t->lineages[lineage_bucket(t->n_buckets, lineage)], lineage);
}

struct entry *table_lineage_next(struct entry *e)
{
    return same_lineage(e->lineage_next, record_lineage(e->held->r));
}

void table_each(const struct table *t, bool (*f)(void *ctx, struct entry *e), void *ctx)
{
    for (size_t i = 0; i < t->n_buckets; i++)
        for (struct entry *e = t->keys[i]; e; e = e->key_next)
            if (!f(ctx, e))
                return;
}

struct entry *table_sweep(struct table *t, int64_t wall_ms)
{
    size_t budget = t->n_buckets / SWEEP_PARTS;

    if (budget < SWEEP_LEAST)
        budget = SWEEP_LEAST;
    for (; budget; budget--) {
        for (struct entry *e = t->keys[t->sweep_at]; e; e = e->key_next)
            if (e->expires_ms <= wall_ms)
                return e; /* this bucket again next time */
        t->sweep_at = (t->sweep_at + 1) & (t->n_buckets - 1);
    }
    return NULL;
}
