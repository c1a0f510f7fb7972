/* The replication core, without I/O: sync_step(core, event, now) -> effects.
 *
 * How a record travels. `ike` makes a group of records (all of one exchange);
 * the node hands it in as SYNC_EV_PUT. The core gives it the next number of
 * this incarnation's log, joins it into the store of records, and asks in one
 * list of effects, to be carried out in order: install it (RECORD), make it
 * durable (JOURNAL), tell the others (PUBLISH). The others join it, install
 * it, and say so in their next Announce, whose `applied` vector is the ack.
 * When our own journal has it and every live member's vector covers it, the
 * core emits BARRIER and the held IKE response may leave; or the time-out
 * passes and BARRIER names the laggards.
 *
 * PUB/SUB may lose anything at any time. The one repair is the pull: a member
 * whose vector lacks something that another announces asks that one (REQUEST)
 * for all beyond its vector, page by page; gap, late join, heal and restart
 * are the same thing. When the dataplane misses an SA (SYNC_EV_MISS), the member
 * whose slot its SPI names is asked at once.
 *
 * Everything runs on one thread (the loop). Frames are sealed and opened in
 * here (sync/frame.h), so transports carry opaque bytes. */
#ifndef SYNC_SYNC_H
#define SYNC_SYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/cursor.h"
#include "proto/env.h"
#include "proto/net.h"
#include "proto/record.h"

enum {
    SYNC_MEMBERS_MAX = SLOT_MAX + 1,
    SYNC_NAME_MAX = 64,
    CLUSTER_KEY_BYTES = 32,
    CLUSTER_KEYS_MAX = 2
};

struct cluster_key {
    uint32_t id; /* from the key file's ID column */
    struct secret key;
};

struct sync_config {
    char cluster[SYNC_NAME_MAX]; /* part of every frame's authenticated header */
    char name[SYNC_NAME_MAX];    /* this node's */
    char version[32];
    uint16_t slot;
    uint16_t members[SYNC_MEMBERS_MAX]; /* slots, ours among them */
    size_t n_members;
    struct cluster_key keys[CLUSTER_KEYS_MAX]; /* the first seals; all open */
    size_t n_keys;
    uint32_t dead_ms;            /* silence after which a member is dead */
    uint32_t barrier_timeout_ms; /* what excuses peers; our own disk only while it refuses */
};

/* The highest epoch known to have been used by a slot. */
struct sync_epoch {
    uint16_t slot;
    uint32_t epoch;
};

/* What the journal held at start. The core takes the records (and frees them); they come in any
 * order, and as the codec found them: well formed. */
struct sync_recovery {
    bool journal_empty;        /* a new journal, or one set aside */
    bool journal_cut;          /* its last transactions are lost: consistent, but of the past */
    uint32_t epoch;            /* highest epoch this slot ever used, 0 none */
    struct sync_epoch *epochs; /* of the other slots; borrowed for the call */
    size_t n_epochs;
    struct record **records;
    size_t n_records;
    size_t n_expected;            /* records in all, about; 0 is fine */
    struct sync_position *vector; /* borrowed for the call */
    size_t n_vector;
};

/* "I have applied all that `origin` numbered up to `seq`." */
struct sync_position {
    struct id128 origin;
    uint16_t slot;
    uint64_t seq;
};

enum sync_event_kind {
    SYNC_EV_RECOVERED = 1, /* recovery: the first event, once */
    SYNC_EV_RECOVERING,    /* recovery: a part of its records, any number of times before that */
    SYNC_EV_FRAME,         /* bytes: from SUB */
    SYNC_EV_REQUEST,       /* bytes, request: a member asks us */
    SYNC_EV_REPLY,         /* bytes, request: answer to our REQUEST; n = 0: it failed */
    SYNC_EV_PUT,           /* group: records of one exchange; the core takes them */
    SYNC_EV_JOURNALED,     /* ticket: durable up to here; failed: the disk refused */
    SYNC_EV_FORWARD,       /* forward: an IKE datagram that belongs to another node */
    SYNC_EV_MOVED,         /* moved: a peer was heard from elsewhere; another node's to look at */
    SYNC_EV_ACTIVITY,      /* activity: to ask everyone, or to answer; the core takes it (free) */
    SYNC_EV_MISS,          /* spi_in: ESP came for an SA that is not here; whose slot is live */
    SYNC_EV_TICK,          /* at least every 10 ms */
    SYNC_EV_DRAIN,         /* draining: announce that we leave, or are back */
    SYNC_EV_EPOCH,         /* half of the granted epoch's IVs are used: the next one is wanted */
    SYNC_EV_MEMBERS,       /* members: another member list, with one more or one fewer */
    SYNC_EV_FLUSH,         /* the loop turn ends: let out what `more` held back */
};

/* An IKE datagram on its way to the SA's owner, with the outer addresses seen. */
struct sync_forward {
    uint16_t to_slot;
    struct endpoint local, peer;
    struct slice datagram; /* borrowed */
};

/* A Child SA's peer was heard from a new address: for the owner of its IKE SA. */
struct sync_moved {
    uint16_t to_slot;
    uint32_t spi_in;
    struct endpoint peer;
};

/* When the peers of Child SAs were last heard: asked of every member before silence ends an SA.
 * The answer goes to who asked and names those SAs that were heard at all. */
enum { SYNC_ACTIVITY_MAX = 1024 };
struct sync_activity {
    uint16_t slot;  /* of an answer: to whom; of an effect: from whom */
    bool answer;    /* else a question, to all members */
    uint64_t round; /* the asker's number */
    size_t n;
    uint32_t spi_in[SYNC_ACTIVITY_MAX]; /* of an answer: in the question's order */
    uint32_t age_ms[SYNC_ACTIVITY_MAX]; /* answers: since the last authentic packet */
};

struct sync_event {
    enum sync_event_kind kind;
    /* More events of this loop turn follow: what many events can share (JOURNAL, Updates, the
     * Announce, BARRIERs, whom to pull from) waits for the first event without `more`; FLUSH is
     * one that does nothing else. RECORD, REPLY, FORWARDED, MOVED, ACTIVITY and MISS_OVER never
     * wait. With `more` left false every step lets out its own. */
    bool more;
    struct sync_recovery *recovery;
    struct slice bytes;
    uint64_t request;
    struct record **group;
    size_t n_group;
    uint64_t barrier; /* PUT: the caller's id for the BARRIER effect; 0: none wanted */
    uint64_t ticket;
    bool failed;
    struct sync_forward forward;
    struct sync_moved moved;
    struct sync_activity *activity;
    uint32_t spi_in;
    const uint16_t *members; /* slots, ours among them; borrowed for the call */
    size_t n_members;
    bool draining, leaving; /* leaving: the last words, nobody waits for us any more */
};

enum sync_effect_kind {
    SYNC_FX_RECORD = 1, /* record: install, change or remove it in the dataplane now (borrowed) */
    SYNC_FX_JOURNAL,    /* batch: write it; answer with JOURNALED{ticket} */
    SYNC_FX_PUBLISH,    /* slot, bytes on PUB: for all (SLOT_ALL), or of use to one only */
    SYNC_FX_REQUEST,    /* slot, request, bytes on REQ */
    SYNC_FX_REPLY,      /* request, bytes on REP; n = 0: refused, let the request go */
    SYNC_FX_BARRIER,    /* barrier; timed_out; superseded; laggards: slots that had not acknowledged
                         * (our own among them when the journal refuses) */
    SYNC_FX_FORWARDED,  /* forward: an IKE datagram another node passed to us (borrowed) */
    SYNC_FX_MOVED,      /* moved: another node heard the peer of an SA of ours elsewhere */
    SYNC_FX_ACTIVITY,   /* activity: a question or an answer of another node (borrowed) */
    SYNC_FX_MEMBER,     /* slot, state: a member's liveness changed */
    SYNC_FX_MISS_OVER,  /* spi_in: nobody has what was missed, or it is deleted: wait no longer */
    SYNC_FX_EPOCH,      /* epoch: granted; encryption may use it from now on */
    SYNC_FX_CONFLICT,   /* another process has our slot and a better claim to it: stop */
};

struct sync_batch { /* one transaction */
    uint64_t ticket;
    bool urgent; /* an answer or a vote of ours waits for it; others' records can wait for more */
    struct record **records; /* clones; the receiver frees them */
    size_t n_records;
    struct sync_position *vector; /* entries that changed */
    size_t n_vector;
    uint32_t epoch;            /* store as this slot's highest; 0: unchanged */
    struct sync_epoch *epochs; /* the same of other slots, as they are learnt */
    size_t n_epochs;
};

enum member_state {
    MEMBER_DEAD,
    MEMBER_JOINING,
    MEMBER_READY,
    MEMBER_DEGRADED,
    MEMBER_DRAINING,
};

struct sync_effect {
    enum sync_effect_kind kind;
    const struct record *record;
    struct sync_batch *batch; /* the receiver takes it: sync_batch_free */
    struct slice bytes;       /* borrowed until the next sync_step */
    uint64_t request;
    uint16_t slot;
    uint64_t barrier;
    bool timed_out;
    bool superseded; /* another term or a deletion won, or no room to wait: the held response must
                        not leave */
    const uint16_t *laggards; /* borrowed until the next sync_step */
    size_t n_laggards;
    uint64_t barrier_us; /* how long the barrier took */
    struct sync_forward forward;
    struct sync_moved moved;
    const struct sync_activity *activity;
    uint32_t spi_in;
    enum member_state state;
    uint32_t epoch;
};

struct sync_effects {
    const struct sync_effect *fx;
    size_t n;
};

struct sync_core;

/* NULL on bad configuration or out of memory. rng and config are copied. */
struct sync_core *sync_new(const struct sync_config *config, const struct rng *rng, struct now now);
void sync_free(struct sync_core *core);

/* The one way in. The effects belong to the core and live until the next call. */
struct sync_effects sync_step(struct sync_core *core, const struct sync_event *event,
                              struct now now);

void sync_batch_free(struct sync_batch *batch);

/* ---- questions; loop thread; pointers live until the next sync_step ---- */

/* Installed or deleted; NULL when absent. */
const struct record *sync_find_ike(const struct sync_core *core, uint64_t our_spi);
const struct record *sync_find_child(const struct sync_core *core, uint32_t spi_in);
/* Where the peer of that Child SA moved to; NULL: it never did. */
const struct record *sync_find_endpoint(const struct sync_core *core, uint32_t spi_in);
/* The IKE SA that a lineage has now: of its installed ones the newest. NULL: it has none. Costs
 * as much as the lineage has records, however many there are in all. */
const struct record *sync_find_lineage_ike(const struct sync_core *core,
                                           const struct id128 *lineage);
/* Calls f for every installed record of a lineage, IKE SAs and Child SAs. */
void sync_each_of_lineage(const struct sync_core *core, const struct id128 *lineage,
                          void (*f)(void *ctx, const struct record *r), void *ctx);
/* Calls f for every record of a kind that is installed; stops when f returns false. */
void sync_each(const struct sync_core *core, enum record_kind kind,
               bool (*f)(void *ctx, const struct record *r), void *ctx);

/* The cluster keys that frames are opened under from now on; the first one seals. They may be one
 * more than a key file has: the one that seals until the journal is wrapped under the next.
 * 0; else nothing has changed. */
int sync_set_keys(struct sync_core *core, const struct cluster_key *keys, size_t n);

/* The cluster key that a member seals its frames under, next to ours. UNKNOWN: frames that claim
 * to be its come under a key id that we do not have, and no others. */
enum member_key { MEMBER_KEY_NONE, MEMBER_KEY_SAME, MEMBER_KEY_OTHER, MEMBER_KEY_UNKNOWN };
const char *member_key_name(enum member_key key); /* NULL for NONE */

enum { SYNC_KEYS_MAX = CLUSTER_KEYS_MAX + 1 };
struct sync_key { /* a cluster key by its id, and a value that tells whether two are the same key */
    uint32_t id, check;
};

/* Of the slots of a member list, in any order; 0 when it cannot be made. */
uint64_t sync_members_digest(const uint16_t *slots, size_t n);
/* 0 with the check value of a key, or ERR_CRYPTO. */
int sync_key_check(const struct cluster_key *key, uint32_t *check);

struct sync_member_info {
    uint16_t slot;
    char name[SYNC_NAME_MAX];
    char version[32];
    struct id128 incarnation;
    enum member_state state; /* our own: as we announce it */
    uint32_t epoch;
    uint64_t head; /* last number it gave out */
    uint64_t
        lag_records; /* of its log, how much the slowest of us lacks: head minus what we applied */
    uint64_t last_seen_ms; /* age; 0 for ourselves */
    bool laggard;          /* alive, but our barriers do not wait for it: see LAGGARD_MS */
    enum member_key key_state;
    uint32_t key_id;                     /* of its last frame; of ours, that we seal under */
    struct sync_key keys[SYNC_KEYS_MAX]; /* that it opens frames under */
    size_t n_keys;                       /* 0: it does not tell, or was not heard */
    uint64_t members;                    /* digest of its member list; 0: likewise */
    uint64_t ike_sas, child_sas;
    uint8_t sa_digest[32];
};
/* In the order of the member list; as many as there are, or max. */
size_t sync_members(const struct sync_core *core, struct sync_member_info *out, size_t max);
/* False when no member has that slot. */
bool sync_member(const struct sync_core *core, uint16_t slot, struct sync_member_info *out);
bool sync_member_live(const struct sync_core *core, uint16_t slot);
bool sync_is_synced(const struct sync_core *core);
/* False after this process stood still for more than half of dead_ms: the others may have taken
 * it for dead and its SAs over, so it answers no IKE until it knows what they did meanwhile. */
bool sync_is_caught_up(const struct sync_core *core, struct now now);
uint32_t sync_epoch(const struct sync_core *core); /* granted; 0 none yet */
/* Why no epoch is granted, or not the next one that is wanted: "epoch_quorum_missing",
 * "epoch_grantors_unsure", "slot_in_use", "member_lists_differ", "epochs_exhausted"; NULL: one is,
 * or the Claim is under way. */
const char *sync_epoch_obstacle(const struct sync_core *core);
struct id128 sync_incarnation(const struct sync_core *core);
/* The time to compare with a `not_after`: of the wall clocks the later of `now`'s and the live
 * members' median. */
struct now sync_now(const struct sync_core *core, struct now now);
/* How far our wall clock is behind the median of all; negative: ahead. */
int64_t sync_clock_behind_ms(const struct sync_core *core);
/* Order-free digest over all live (not deleted, not expired) records: SHA2-256 of keys and states.
 */
void sync_digest(const struct sync_core *core, uint8_t out[32]);
/* Says through the member state that this node is ready; the node decides. */
void sync_set_ready(struct sync_core *core, bool ready);

struct sync_stats {
    uint64_t frames_in, frames_out, frames_refused; /* refused: not authentic, stale or malformed */
    uint64_t records_in, records_out, pulls, pages, gaps;
    uint64_t miss_pulls; /* of the pulls: begun for what the dataplane missed */
    uint64_t barriers, barrier_timeouts;
    uint64_t laggings;       /* how often a member was found to lag: barriers wait for it no more */
    uint64_t barriers_short; /* barriers that passed without one that lags */
    uint64_t reminders;      /* Announces to one member for which an answer waited */
    uint64_t clock_behind_ms, clock_ahead_ms; /* of the median of all clocks; one of them is 0 */
    uint64_t logs, held_back, snapshots;      /* at present: of the vector, answers, pulls served */
    uint64_t records_newer;         /* of kinds that newer versions know: kept and relayed */
    uint64_t records_unreadable;    /* of no kind that could be kept */
    uint64_t refused_by_reason[11]; /* enum frame_refusal in sync/frame.h */
};
void sync_get_stats(const struct sync_core *core, struct sync_stats *out);

#endif
