/* The store of records of one core, in memory.
 *
 * Every record is an entry on up to three chains: by (kind, key), by lineage, and in the
 * log of the incarnation that published its present form, in the order of numbers. An
 * origin is one incarnation's log as seen from here: how far it is applied without a gap,
 * and which stretches beyond a gap are applied already.
 *
 * Records are shared and immutable: a change puts another record in the entry's place, so a
 * snapshot is a list of references. Loop thread only. */
#ifndef SYNC_RECORDS_H
#define SYNC_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/codec.h"
#include "proto/record.h"

/* A shared record. */
struct held {
    uint32_t refs;
    struct record *r;
};
struct held *held_new(struct record *r); /* takes r, also on failure; NULL when out of memory */
struct held *held_ref(struct held *h);
void held_unref(struct held *h); /* NULL is fine */

struct entry {
    struct held *held;
    uint64_t key; /* of the record, here so that a look-up touches entries alone */
    uint8_t kind;
    bool fenced; /* an IKE SA, and an answer was held back for it: core_barrier.c */
    struct origin *origin;
    int64_t expires_ms; /* wall clock */
    struct entry *key_next;
    struct entry *lineage_next, **lineage_prev; /* prev: what points to us */
    struct entry *log_next, *log_prev;
};

enum { AHEAD_MAX = 16 };
struct stretch {
    uint64_t first, last;
};
struct origin {
    struct id128 id;
    uint16_t slot;
    bool changed;                    /* seq rose since the journal was last told */
    uint64_t seq;                    /* all up to here is applied */
    uint64_t idle_since_us;          /* seen without records from here on; 0: it has some */
    struct stretch ahead[AHEAD_MAX]; /* applied beyond gaps; ascending, apart */
    size_t n_ahead;
    struct entry *first, *last;
    struct entry *near;  /* where the last one was put: the next one belongs there or at the end */
    struct origin *next; /* in the table's bucket */
};

struct table;
struct table *table_new(void);
/* So many records will come, about, and in any order: room for them. Until table_settle the logs
 * may be out of order. */
void table_expect(struct table *t, size_t n);
void table_settle(struct table *t);
void table_free(struct table *t);

/* ---- origins ---- */
struct origin *table_origin_find(const struct table *t, const struct id128 *id);
/* Finds or makes; NULL past CODEC_POSITIONS_MAX or out of memory. */
struct origin *table_origin(struct table *t, const struct id128 *id, uint16_t slot);
size_t table_origins(const struct table *t);
struct origin *table_origin_at(const struct table *t, size_t i);
/* Forgets an origin that has no records. */
void table_origin_drop(struct table *t, struct origin *o);
/* The same, but remembers for a while how far it was applied: members retire a log at different
 * moments, and none that did must think that it lacks what the others still announce. */
void table_origin_retire(struct table *t, struct origin *o);
/* All of a log up to here is applied: the origin's seq, or a retired one's; 0. */
uint64_t table_applied(const struct table *t, const struct id128 *id);
/* first..last is applied: true when it lies beyond a gap. */
bool origin_note(struct origin *o, uint64_t first, uint64_t last);
/* All up to seq is applied. */
void origin_raise(struct origin *o, uint64_t seq);

/* ---- records ---- */
struct entry *table_find(const struct table *t, enum record_kind kind, uint64_t key);
/* Takes r and puts it under its key, in the log that its position names, which exists or can
 * be made. NULL when out of memory or origins (r is freed). */
struct entry *table_put(struct table *t, struct record *r, int64_t expires_ms);
void table_remove(struct table *t, struct entry *e);
/* The records of a lineage: first, then next; not across a put or remove. */
struct entry *table_lineage_first(const struct table *t, const struct id128 *lineage);
struct entry *table_lineage_next(struct entry *e);
/* Calls f for every entry; it must not put or remove. Stops when f returns false. */
void table_each(const struct table *t, bool (*f)(void *ctx, struct entry *e), void *ctx);
/* Looks at a part of the table, a little further each time: some entry that expires at or
 * before wall_ms, or NULL when this part has none. */
struct entry *table_sweep(struct table *t, int64_t wall_ms);

/* Over records installed (not deleted). */
struct table_counts {
    uint64_t ike_sas, child_sas;
    uint8_t digest[32]; /* exclusive-or of SHA2-256 over each one's key and state */
};
const struct table_counts *table_counts(const struct table *t);

#endif
