/* The inside of the replication core, shared by core*.c alone. core.c opens with the whole
 * picture; each section below names its file. All on the loop thread. */
#ifndef SYNC_CORE_H
#define SYNC_CORE_H

#include "proto/codec.h"
#include "sync/frame.h"
#include "sync/grant.h"
#include "sync/mutant.h"
#include "sync/records.h"
#include "sync/sync.h"

#ifndef SYNC_PAGE_BYTES /* tests make pages small */
#define SYNC_PAGE_BYTES (96 * 1024)
#endif
#ifndef SYNC_ORIGIN_KEEP_MS /* and the memory of logs short */
#define SYNC_ORIGIN_KEEP_MS 60000
#endif

enum {
    ANNOUNCE_EVERY_MS = 100,  /* at the latest */
    ANNOUNCE_BARRIER_MS = 20, /* at the latest while a barrier waits: a lost Update shows sooner */
    REMIND_MS = 50, /* an answer waits for one member: it gets an Announce of its own so often */
    HEARSAY_GRACE_MS = 30,  /* a third member's vector may be ahead of what is under way to us */
    DEAF_GRACE_MS = 300,    /* who does not hear us may not hear our question: others first */
    PULL_TIMEOUT_MS = 1000, /* of a page, at least; the transport reports most failures sooner */
    PULL_HASTE_MS = 100, /* of a short one, where another could be asked; doubled after each such */
    PULL_HASTE_RECORDS = 64, /* short: so many are lacking */
    PULL_RETRY_MS = 50,      /* after a failed pull */
    PULL_BACKLOG = 32,       /* batches under way to the disk: pages wait beyond that */
    PULL_IDLE_MS = 500,      /* after one that brought nothing */
    MISS_PULL_EVERY_MS = 20, /* one member is asked for misses at most so often */
    MISS_PULL_TIMEOUT_MS = 100,
    MISS_KEEP_MS = 50, /* so long the dataplane holds packets for it */
    MISSES_MAX = 64,
    SNAPSHOT_IDLE_MS = 5000,
    SNAPSHOT_LIFE_MS = 600000, /* in use or not: it holds the forms of its time */
    BARRIERS_MAX = 65536,      /* answers held back; one more, and the oldest's time is over */
    ORIGIN_KEEP_MS = SYNC_ORIGIN_KEEP_MS, /* a log without records: longer than clocks differ */
    RETIRE_EVERY_MS = ORIGIN_KEEP_MS / 60,
    SNAPSHOTS_MAX = 4,
    PAGE_BYTES = SYNC_PAGE_BYTES, /* of records in a pull page or an Update */
    POSITION_BYTES = 36,          /* of a vector's entry, encoded, at most */
    CANDIDATES_MAX = 4,           /* unproven incarnations remembered per member */
    RETIRED_MAX = 4,              /* incarnations remembered that were believed before */
    STRAYS_AT_ONCE = 256,         /* of a dead member's log, published again in one turn */
    DERIVED_KEEP_MS = 1000,       /* before a tombstone that follows from others is published */
    UNSYNCED_MS = 1000,           /* lacking something for so long ends being synced */
    ENDPOINT_KEEP_MS = 86400000,  /* an endpoint record whose Child SA is unknown */
    RIVAL_SLACK_MS =
        100, /* under way, before a process of our slot that was heard counts as alive */
    REFUSAL_TOLD_EVERY_MS = 60000, /* a log line per reason */
    LAGGARDS_TOLD_EVERY_MS = 1000, /* a log line for each */
    LAGGARD_MS = 2000,             /* longer than UNSYNCED_MS: it knows, and is not ready */
    CLOCK_EVERY_MS = 100,          /* between looks at the others' clocks */
    CLOCK_JITTER_MS = 1000,        /* by so much time does not go back; by more a clock was set */
    CLOCK_TOLD_MS = 2000,          /* a clock that is off by more is named */
};

/* An incarnation that sent authentic frames but none yet that names ours. */
struct candidate {
    struct id128 incarnation;
    uint64_t heard_us;
    uint64_t number; /* the highest of its frames */
};

/* An incarnation that was believed before the present one. */
struct retired {
    struct id128 incarnation;
    uint64_t highest;  /* frame number, of all channels: what comes again must be beyond */
    uint64_t heard_us; /* when the last such came, or it was the believed one; 0: it has left */
    uint32_t epoch;    /* granted to it */
};

/* What its last Announce leaves us to fetch. */
struct lack {
    size_t entries;   /* log positions that it has and we do not */
    uint64_t records; /* at most: by their numbers */
    bool direct;      /* its own log is among them: lost, not under way */
    uint64_t since_us;
};

/* An ack waits until we know all that its sender knew: a higher term may be among it. Newer
 * Announces do not replace it, or under load it would wait for ever. */
struct pending_ack {
    uint64_t ack; /* 0: none */
    uint64_t head;
    struct log_position *vector; /* owned */
    size_t n_vector;
};

struct peer {
    uint16_t slot;
    bool believed;
    struct id128 incarnation;       /* while believed */
    struct frame_window windows[3]; /* by channel - 1 */
    struct candidate candidates[CANDIDATES_MAX];
    size_t n_candidates;
    struct retired retired[RETIRED_MAX]; /* the latest first */
    size_t n_retired;
    uint64_t changed_at;        /* number of our last frame when belief changed */
    uint64_t heard_us;          /* its last believed frame */
    uint64_t told_us;           /* the same, as others are told: not what waited while we slept */
    uint32_t key_id;            /* of that one */
    uint32_t foreign_key_id;    /* of a frame that claimed to be its, under no key of ours */
    uint64_t foreign_us;        /* when that came; 0: never */
    uint64_t heard_any_us;      /* the same at any live member */
    bool announced;             /* the fields below are of this incarnation */
    uint64_t announced_us;      /* when the last Announce came */
    uint64_t announce_number;   /* frame number of the last Announce */
    struct codec_announce says; /* owned */
    uint64_t says_ack;          /* our log, as its last Announce has it */
    struct pending_ack pending; /* an earlier one that we could not count yet */
    uint64_t acked;             /* our log, once our vector covered all that came with that */
    struct lack lack;
    uint64_t owed;          /* of our log: it is to acknowledge so much, */
    uint64_t owed_since_us; /* since then */
    bool laggard;           /* has not for LAGGARD_MS: no answer waits for it */
    uint64_t reminded_us;   /* of what an answer waits for; 0: never */
    bool deaf;              /* it says that it did not hear us for dead_ms */
    bool tells_time;
    int64_t ahead_ms; /* its clock, less ours, when its last Announce came */
    uint64_t pull_failed_us;
    uint64_t miss_asked_us; /* when it was last asked for misses; 0: never */
    enum member_state told; /* the state last reported by a MEMBER effect */
};

struct unsent { /* a record of our own log that waits for the next Update */
    struct held *held;
    bool group_start;
};

struct derived { /* a Child SA's tombstone that followed from its lineage's end */
    uint32_t spi_in;
    uint64_t since_us;
};

struct fence { /* an IKE SA of a held-back group: this term must not be overtaken */
    uint64_t spi;
    struct term term;
};

struct barrier {
    uint64_t id, ticket, seq; /* wanted: journaled, and acknowledged up to */
    uint64_t started_us;
    struct fence *fences;
    size_t n_fences;
};

struct turn_votes { /* on the Claims of others, to leave at the end of the turn */
    struct codec_ballot *ballots;
    size_t n, cap;
    uint16_t to_slot;
};

struct pull {
    bool active;
    bool progress; /* it brought something */
    bool due;      /* the next page is to be asked for */
    bool miss;     /* for what the dataplane missed */
    struct peer *from;
    struct id128 incarnation;
    uint64_t request, nonce, snapshot, cursor;
    uint64_t began_us, sent_us;
};

struct miss { /* a Child SA that the dataplane missed */
    uint32_t spi_in;
    struct peer *maker; /* whose slot the SPI names */
    uint64_t since_us;
};

struct snapshot { /* what a puller pages through */
    uint64_t id;  /* 0: free */
    struct id128 requester;
    uint64_t used_us, made_us;
    struct held **held;
    size_t n;
    struct log_position *vector;
    size_t n_vector;
};

struct sync_core {
    struct sync_config config; /* without keys: the box has them */
    struct rng rng;
    struct now now;      /* its wall clock is that of sync_now */
    int64_t own_wall_ms; /* this is ours */
    int64_t median_ms;   /* of all clocks, when it was last known: */
    uint64_t median_us;  /* then; 0: never */
    int64_t behind_ms;   /* what ours lacks to the median of all; negative: it is ahead */
    uint64_t clock_us;   /* when that was looked at */
    bool clock_told;     /* that it is off */
    struct id128 incarnation;
    struct frame_box *box;
    uint64_t started_us;
    uint64_t retired_us; /* when log_retire looked last */
    uint64_t stalled_us; /* when we woke from standing still; 0: caught up since */
    bool recovered, journal_empty;

    struct table *table;
    struct origin *self; /* our own log: seq is the head */
    struct peer *peers;  /* in the order of the member list */
    size_t n_peers;
    uint16_t peer_at[SLOT_MAX + 1]; /* by slot: index in peers + 1; 0: no other member's */
    struct codec_heard *heard;      /* room for an Announce's */
    size_t cap_heard;

    /* effects of this step (core_out.c) */
    struct sync_effect *fx;
    size_t n_fx, cap_fx;
    struct held **fx_held; /* records that effects borrow */
    size_t n_fx_held, cap_fx_held;
    uint8_t **buffers; /* bytes that effects borrow */
    size_t n_buffers, cap_buffers;
    uint8_t *plain_in, *plain_out; /* FRAME_MAX_BYTES each, secret_alloc'ed */

    /* what waits for the end of the turn */
    struct sync_batch *batch;
    size_t cap_batch;
    uint64_t last_ticket, journaled;
    bool journal_failed; /* the disk refuses at the moment */
    bool journal_torn;   /* a record could not be handed to it: its vector stands still */
    struct unsent *unsent;
    size_t n_unsent, cap_unsent;
    struct derived *derived; /* tombstones to be published if nobody does; the oldest first */
    size_t n_derived, cap_derived;
    bool announce_wanted; /* by all */
    uint16_t ack_to;      /* the one member that wants an Announce; FRAME_TO_ALL: none does */
    uint64_t announced_us;

    /* epochs (core_epoch.c) */
    uint32_t epoch; /* granted */
    struct grants *grants;
    struct turn_votes votes;
    uint64_t members_digest; /* of the member list */
    uint32_t epoch_granted;  /* by the others, not told yet */
    bool epoch_sure;         /* as last announced */
    size_t epoch_n_sure;
    bool conflict; /* another process has our slot, and the better claim to it */

    uint64_t laggards_told_us;
    struct barrier *barriers; /* the oldest first */
    size_t n_barriers, cap_barriers;
    bool fences_moved; /* since they were last looked through */
    struct pull pull;
    uint64_t pull_retry_us, next_request;
    uint32_t haste_ms;              /* PULL_HASTE_MS, or more after those that were in vain */
    struct miss misses[MISSES_MAX]; /* oldest first (core_miss.c) */
    size_t n_misses;
    struct snapshot snapshots[SNAPSHOTS_MAX];

    bool ready, was_ready, draining, leaving, synced;
    uint64_t lacking_since_us; /* 0: nothing is lacking */
    enum member_state told;
    struct sync_stats stats;
    uint64_t refusal_told_us[REFUSED_COUNT];
};

static inline uint64_t ms_us(uint64_t ms)
{
    return ms * 1000;
}
/* Microseconds since `then`; 0 for a time yet to come. */
static inline uint64_t since_us(const struct sync_core *core, uint64_t then)
{
    return core->now.mono_us > then ? core->now.mono_us - then : 0;
}
/* Grows an array of `size`d elements to hold one more; false when out of memory. */
bool array_room(void *array, size_t n, size_t *cap, size_t size);

/* ---- core_out.c: effects, journal batch, Updates ---- */
void out_begin(struct sync_core *core); /* gives back what the last step lent */
void out_free(struct sync_core *core);
struct sync_effect *out_add(struct sync_core *core,
                            enum sync_effect_kind kind); /* NULL: no memory */
void out_record(struct sync_core *core, struct held *held);
/* Seals a message; {NULL, 0} when it cannot be. Lives until the next step. */
struct slice out_seal(struct sync_core *core, enum frame_channel channel, uint16_t to_slot,
                      const struct frame_binding *reply_to, const struct codec_message *m);
void out_publish(struct sync_core *core, uint16_t to_slot, const struct codec_message *m);
/* Adds a record to the batch that this turn journals. */
void out_journal(struct sync_core *core, const struct record *r);
/* The ticket under which all journalled so far in this turn will be durable. */
uint64_t out_ticket(struct sync_core *core);
struct sync_batch *out_journal_batch(struct sync_core *core); /* made on demand; NULL: no memory */
void out_unsent(struct sync_core *core, struct held *held, bool group_start);
/* An upper bound of a record's encoding, in bytes. */
size_t out_size_bound(const struct record *r);
/* Memory that lives until the next step; NULL when there is none. */
uint8_t *out_lend(struct sync_core *core, size_t n);
void out_flush(struct sync_core *core);

/* ---- core_log.c: records in, joined ---- */
/* Its records, a part of them all; then the rest of it. */
void log_recover_some(struct sync_core *core, struct sync_recovery *recovery);
void log_recover(struct sync_core *core, struct sync_recovery *recovery);
void log_put(struct sync_core *core, struct record **group, size_t n, uint64_t barrier);
/* A record from another member, with its position; takes it. NULL: one that nobody here can read.
 */
void log_merge(struct sync_core *core, struct record *r);
void log_update(struct sync_core *core, struct peer *from, struct codec_update *u);
/* All of a log up to pos is applied; false when that is no news. */
bool log_covered(struct sync_core *core, const struct log_position *pos);
/* While nothing is lacking: what dead members left beyond our vector, into our own log. */
void log_publish_strays(struct sync_core *core);
/* ... and what follows from a lineage's end, where its deleter did not know of it. */
void log_publish_derived(struct sync_core *core);
void log_expire(struct sync_core *core);
void log_retire(struct sync_core *core);
void log_revive(struct sync_core *core, const struct peer *p);
/* Our vector; *n entries, to be freed. NULL when out of memory. */
struct log_position *log_vector(const struct sync_core *core, size_t *n);
uint64_t log_applied(const struct sync_core *core, const struct id128 *origin);

/* ---- core_peers.c: frames in, belief, liveness, announcements ---- */
/* The member list, from the configuration; false when out of memory. */
bool peers_new(struct sync_core *core);
void peers_frame(struct sync_core *core, struct slice bytes);
void peers_request(struct sync_core *core, struct slice bytes, uint64_t request);
void peers_reply(struct sync_core *core, struct slice bytes, uint64_t request);
bool peer_has_candidate(const struct sync_core *core, const struct peer *p);
/* Another process of its slot that was believed before is alive. */
bool peer_has_rival(const struct sync_core *core, const struct peer *p);
struct peer *peers_find(const struct sync_core *core, uint16_t slot);
uint64_t peer_highest(const struct peer *p); /* frame number heard of the believed one */
bool peer_live(const struct sync_core *core, const struct peer *p);
enum member_state peer_state(const struct sync_core *core, const struct peer *p);
enum member_state own_state(const struct sync_core *core);
void peers_stall(struct sync_core *core, uint64_t stall_us);
void peers_tell(struct sync_core *core); /* MEMBER effects for what changed */
void peers_announce(struct sync_core *core);
void peers_free(struct sync_core *core);
void peer_forget_announce(struct peer *p); /* all that its last one said */
/* Entries of an Announce's `heard` for so many members. */
size_t peers_heard_room(size_t n_members);

/* ---- core_clock.c: what time it is where something expires ---- */
void clock_heard(struct sync_core *core, struct peer *p, int64_t wall_ms);
void clock_tick(struct sync_core *core);

/* ---- core_members.c ---- */
void members_set(struct sync_core *core, const uint16_t *slots, size_t n);

/* ---- core_pull.c: the one repair, both sides; synced ---- */
void pull_look(struct sync_core *core, struct peer *p); /* what do we lack of what it says? */
void pull_look_all(struct sync_core *core);
void pull_step(struct sync_core *core);
void pull_answer(struct sync_core *core, struct peer *from, const struct codec_pull_request *q,
                 uint64_t request);
void pull_page(struct sync_core *core, struct codec_pull_reply *page);
void pull_fail(struct sync_core *core);
void pull_free(struct sync_core *core);
void synced_step(struct sync_core *core);

/* ---- core_miss.c: what the dataplane missed ---- */
void miss_take(struct sync_core *core, uint32_t spi_in);
struct peer *miss_source(struct sync_core *core);
void miss_answered(struct sync_core *core);

/* ---- core_barrier.c ---- */
/* For a group that is about to be put; NULL when out of memory. Then, before another add, begin. */
struct barrier *barrier_add(struct sync_core *core, uint64_t id, struct record *const *group,
                            size_t n);
void barrier_begin(struct sync_core *core, struct barrier *b);
void barrier_moves(struct sync_core *core, const struct record *r); /* before r is installed */
void barrier_ack(const struct sync_core *core, struct peer *p); /* our vector or its ack moved */
void barrier_ack_forget(struct peer *p);
void barrier_step(struct sync_core *core);
void barrier_tick(struct sync_core *core); /* who lags, and who does no more */
/* It lags: no answer waits for it, though it lives. */
bool barrier_passes(const struct sync_core *core, const struct peer *p);
/* An answer has waited for this member so long that it should be told again, and alone. */
bool barrier_reminds(const struct sync_core *core, const struct peer *p);
void barrier_free(struct sync_core *core);

/* ---- core_epoch.c ---- */
bool epoch_new(struct sync_core *core);
void epoch_recover(struct sync_core *core, const struct sync_recovery *recovery);
void epoch_heard(struct sync_core *core, const struct peer *p); /* its Announce, which names us */
void epoch_on_claim(struct sync_core *core, const struct peer *p, const struct codec_claim *m);
void epoch_on_vote(struct sync_core *core, const struct peer *p, const struct codec_vote *m);
void epoch_rival(struct sync_core *core, const struct codec_heard *h);
bool epoch_tables_wanted(const struct sync_core *core);
size_t epoch_tell(struct sync_core *core, struct codec_epoch *out); /* room for all members */
void epoch_step(struct sync_core *core);

#endif
