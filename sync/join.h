/* How two forms of one replicated fact become one, with no clocks.
 *
 * The joins below are commutative, associative and idempotent, so members that have seen
 * the same forms, in whatever order and however often, hold the same record:
 *
 *   IKE SA    The higher (term, revision) wins whole. State: deleted wins. The message ids
 *             take the maximum of each.
 *   Child SA  State: deleted wins. `confirmed` and `rekeyed` only rise; not_after takes the
 *             maximum. Two Child SAs that clash on one SPI (other lineage or peer SPI)
 *             become one deleted record: neither can be trusted to be the peer's.
 *   endpoint  The higher move wins.
 *   a kind of a newer version
 *             The higher revision wins.
 *
 * Where forms that should be equal are not, the one whose encoding is bytewise larger wins,
 * so that even then all members agree. Fields of newer versions go with the form that wins
 * whole; where none does, the joined record has each that either form has, and of two values
 * the larger. A deleted record is a tombstone: it keeps what names the SA and how long, and no
 * keys (record_normalise).
 *
 * Pure; any thread. */
#ifndef SYNC_JOIN_H
#define SYNC_JOIN_H

#include <stdint.h>

#include "proto/record.h"

enum join_result {
    JOIN_SAME,   /* both were equal */
    JOIN_OURS,   /* ours says all */
    JOIN_THEIRS, /* theirs says all */
    JOIN_BOTH,   /* a third record, to be published under our own log position */
};

/* ours and theirs have the same kind and key and are normalised. *out is set for JOIN_BOTH
 * alone (caller: record_free; its position is ours'). ERR_NOMEM, and nothing is set. */
int record_join(const struct record *ours, const struct record *theirs, enum join_result *result,
                struct record **out);

/* Brings a record into the one form of its content: tombstones lose keys and flags. The last
 * response of a deleted IKE SA stays, so that its retransmitted DELETE can be answered. */
void record_normalise(struct record *r);

/* Within a kind: our SPI of the IKE SA, or spi_in. */
uint64_t record_key(const struct record *r);
uint8_t record_state(const struct record *r); /* enum sa_state; installed where there is none */
int64_t record_not_after_ms(const struct record *r); /* INT64_MAX for endpoints */
/* Until when it is remembered: a tombstone for longer than its SA could have lived by any clock
 * that is not off by more than this. */
#ifndef SYNC_CLOCK_SLACK_MS
#define SYNC_CLOCK_SLACK_MS 60000
#endif
int64_t record_keep_until_ms(const struct record *r);
const struct id128 *record_lineage(const struct record *r); /* NULL: it has none */

#endif
