/* Epoch grants: which epoch a process may put into its IVs (DESIGN §5). Without I/O, without
 * frames; core_epoch.c carries its messages.
 *
 * Every node keeps, on disk, a promise per slot: the highest epoch that it granted to that slot or
 * learnt to be taken. A process that starts (the claimant)
 *
 *   1. hears the promises for its slot from a quorum of the other members,
 *   2. proposes the highest + 1 and makes that durable itself,
 *   3. sends Claims until a quorum of the others has promised it, each durably: granted.
 *
 * Two quorums have a grantor in common, and a grantor promises an epoch to one incarnation only, so
 * no epoch is granted twice: not after a crash, not to a node whose disk was lost or rolled back,
 * not to a clone of it. The claimant's own disk counts for nothing among the votes, for it is
 * what may be lost.
 *
 * Grantors lose disks, too, and a rolled-back one cannot tell. So every process, when it starts,
 * is *unsure* of each slot: it promises nothing for it before it has durably merged the promises
 * of so many sure members that one of them must know whatever was granted, or of all other
 * members. That keeps epochs apart while the claimant and fewer than a quorum of the others lose
 * their memory before they have merged again.
 *
 *   others M = members - 1      quorum Q = M / 2 + 1      sure ones to be merged R = M - Q + 1
 *   members   1  2  3  4  5  6  7
 *   Q         0  1  2  2  3  3  4      R intersects every quorum
 *   R         0  1  1  2  2  3  3
 *
 * A vote of a grantor that restarted and merged since might be forgotten; therefore each vote
 * says which incarnations its sender knows of the others, and votes of other incarnations than
 * those do not count with it. One thread. */
#ifndef SYNC_GRANT_H
#define SYNC_GRANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/record.h"

enum grant_verdict {
    GRANT_YES = 1,
    GRANT_TOO_LOW,  /* `seen` is promised already */
    GRANT_UNSURE,   /* the grantor has not merged the others' promises yet */
    GRANT_RIVAL,    /* another process of that slot is alive */
    GRANT_MEMBERS,  /* the grantor has another member list */
    GRANT_VERDICTS, /* how many there are, and 0 */
};

struct grant_claim {
    uint32_t epoch;
    uint32_t round;   /* the claimant's; a vote repeats it */
    uint64_t members; /* a digest of the claimant's member list */
};

struct grant_vote {
    struct id128 claimant; /* incarnation */
    uint32_t epoch, round;
    uint8_t verdict;
    uint32_t seen; /* TOO_LOW: what is promised */
};

struct grant_promise {
    uint16_t slot;
    uint32_t epoch;
};

/* What a vote's sender knows of another member; zero: more than one incarnation. */
struct grant_witness {
    uint16_t slot;
    struct id128 incarnation;
};

struct grant_ops {
    /* Makes a promise durable, some time; returns the ticket that tells so, 0 when it cannot. */
    uint64_t (*journal)(void *ctx, uint16_t slot, uint32_t epoch);
    void (*claim)(void *ctx, const struct grant_claim *claim); /* to all others */
    void (*vote)(void *ctx, uint16_t to_slot, const struct grant_vote *vote);
    void (*granted)(void *ctx, uint32_t epoch);
};

struct grants;

struct grants_config {
    uint16_t slot;
    struct id128 incarnation;
    const uint16_t *members; /* slots, ours among them; borrowed for the call */
    size_t n_members;
    uint64_t members_digest;
    const struct grant_ops *ops;
    void *ctx;
};

struct grants *grants_new(const struct grants_config *config); /* NULL: no memory */
/* The member list has one more or one fewer; false: no memory, and nothing has changed.
 *
 * An epoch that is granted stays. Quorums of the old list and of the new one have a grantor in
 * common, as long as the two differ by one member:
 *
 *     M and M + 1 others: (M / 2 + 1) + ((M + 1) / 2 + 1) = M + 2 > M + 1
 *
 * Nobody is sure of a slot that comes: its promises may be from when it was a member before. */
bool grants_set_members(struct grants *g, const uint16_t *members, size_t n, uint64_t digest);
void grants_free(struct grants *g);
/* What the journal held: promises for any slot, ours among them. Before anything else. */
void grants_recover(struct grants *g, const struct grant_promise *promises, size_t n);

/* The believed incarnation of a member changed. */
void grants_believe(struct grants *g, uint16_t slot, const struct id128 *incarnation);
/* A member that knows our incarnation tells its promises. sure: of all slots; else of those in
 * sure_of. */
void grants_heard(struct grants *g, uint16_t slot, bool sure, const uint16_t *sure_of,
                  size_t n_sure_of, const struct grant_promise *promises, size_t n);
/* A believed member claims an epoch. rival: another process of its slot is alive. */
void grants_on_claim(struct grants *g, uint16_t slot, const struct grant_claim *claim, bool rival);
/* A believed member votes on our Claim. */
void grants_on_vote(struct grants *g, uint16_t slot, const struct grant_vote *vote,
                    const struct grant_witness *witnesses, size_t n);
/* All tickets up to this one are durable. */
void grants_journaled(struct grants *g, uint64_t ticket);
/* The next epoch is wanted while the present one lasts. */
void grants_want_next(struct grants *g);
/* After each of the above, and at least every 10 ms: what follows from it. */
void grants_step(struct grants *g, uint64_t now_us);

uint32_t grants_epoch(const struct grants *g); /* granted; 0: none */
/* Whether we are sure of every member's slot; if not, *sure_of (room for all members) gets those
 * that we are sure of. */
bool grants_sure(const struct grants *g, uint16_t *sure_of, size_t *n);
/* The promise for a slot, 0 none. */
uint32_t grants_promised(const struct grants *g, uint16_t slot);
/* Why nothing is granted, or no further epoch that is wanted; NULL: it is, or is under way. */
const char *grants_obstacle(const struct grants *g);

#endif
