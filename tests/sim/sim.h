/* A simulated cluster: N real replication cores in one process, under virtual time.
 *
 * What is real: sync/core*.c with all below it (join, records, frames, codec). What is modelled:
 * the network between members (net.c), their journals (disk.c), what `node` and `ike` do with the
 * core (member.c, engine.c), customers' routers (router.c), and trouble (fault.c). One heap of
 * events, ordered by time and then by age, drives everything; one seed decides everything, so a
 * seed is a history that can be told again.
 *
 * Beside the cluster stands the truth (facts): every SA that was ever made, what was answered to
 * whom, and what every member really holds. check.c compares the two at every step. Each check
 * bears the number of the invariant in DESIGN (I1 to I11).
 *
 * A history has two parts: trouble, then everything heals, but for members that are gone for good,
 * and the cluster has LIVENESS_MS to agree. Members and facts are named by small numbers; -1 is
 * none. */
#ifndef TESTS_SIM_H
#define TESTS_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync/core.h"

enum {
    MEMBERS_MIN = 3,
    MEMBERS_MAX = 7,
    PROCESSES_MAX = MEMBERS_MAX + 1, /* with a copy of one */
    ROUTERS_MAX = 3,
    IKES_MAX = 96,
    CHILDREN_MAX = 320, /* a multiple of 64 */
    LIVES_MAX = 96,     /* starts of members, in all */
    TAPES_MAX = 64,     /* frames that somebody recorded */
    TERMS_MAX = 6,      /* remembered per member and IKE SA */
    TICK_US = 10000,
    DEAD_MS = 500,
    BARRIER_MS = 250,
    LIVENESS_MS = 12000,  /* the promise: after a heal all agree within it */
    SKEW_MS = 40,         /* members' wall clocks agree within twice that, */
    SLOW_MS = 10000,      /* but for one, in some histories, that is so far behind */
    READY_TOLD_MS = 1500, /* until all know that one is ready, though frames are lost */
    CLOCK_MS = 1000,      /* after which it keeps the others' time, if there are two of them */
};

/* ---- chance ---- */
struct sim;
uint64_t sim_random(struct sim *s);
uint32_t below(struct sim *s, uint32_t n);               /* 0..n-1 */
uint32_t between(struct sim *s, uint32_t a, uint32_t b); /* a..b */
bool chance(struct sim *s, uint32_t permille);

/* ---- events ---- */
enum sim_kind {
    EV_FRAME,    /* bytes from a to b */
    EV_REQUEST,  /* bytes from a to b; id: the call */
    EV_REPLY,    /* bytes to b, may be none; id: the call */
    EV_TICK,     /* b's timer */
    EV_FLUSH,    /* b's loop turn ends */
    EV_DISK,     /* b's transaction is over */
    EV_DATAGRAM, /* a router's request (ask) at b; id 1: forwarded already */
    EV_TRAFFIC,  /* an ESP packet of child SA id at b */
    EV_ANSWER,   /* answer to router a */
    EV_ROUTER,   /* router a's timer */
    EV_START,    /* b comes up */
    EV_STOP,     /* b's orderly end is over */
    EV_FAULT,    /* time for trouble */
    EV_MEND,     /* one trouble of b ends; id: which */
    EV_REPLAY,   /* a recorded frame comes again */
    EV_DUE,      /* check.c: a put of member b is due everywhere; id: which */
};

struct packet { /* shared bytes */
    uint32_t refs;
    uint32_t life; /* of its sender */
    uint32_t seen; /* bits of the members that took it from the wire */
    size_t n;
    uint8_t b[];
};

enum ask_kind {
    ASK_NEW,
    ASK_ALIVE,
    ASK_CHILD,
    ASK_REKEY_CHILD,
    ASK_REKEY_IKE,
    ASK_DELETE_CHILD,
    ASK_DELETE_IKE,
    /* the gateway's own requests, and what the router answers */
    ASK_OWN_REKEY,
    ASK_OWN_DELETE,
};

/* An IKE request, or its answer, as it travels; copied by value into datagrams and records. */
struct ask {
    uint8_t kind; /* enum ask_kind */
    uint8_t router;
    bool contact; /* NEW: INITIAL_CONTACT */
    bool refused; /* answer */
    uint32_t serial;
    uint32_t message_id;
    int32_t ike, child;         /* asked about */
    int32_t new_ike, new_child; /* answer */
};

struct timed {
    uint64_t at_us, order;
    size_t event;
};

struct event {
    uint64_t at_us;
    size_t next_free;
    enum sim_kind kind;
    uint8_t a, b;
    uint32_t life; /* of b: void in another one; 0: any */
    uint64_t id;
    struct packet *packet;
    struct ask ask;
};

void sim_at(struct sim *s, uint64_t at_us, struct event ev); /* takes a reference of packet */
void packet_drop(struct packet *p);

/* ---- the truth ---- */
struct ike_fact {
    uint64_t spi;
    uint32_t made_life; /* of its maker */
    int lineage;        /* number of its first IKE SA */
    int router;
    int64_t not_after_ms;
    bool deleted; /* a tombstone was put somewhere */
    bool ended;   /* ... that was meant to end the lineage */
};

struct child_fact {
    uint32_t spi_in;
    int ike; /* that made it */
    int lineage;
    int replaces; /* child, or -1 */
    int64_t not_after_ms;
    bool accepted; /* its answer arrived */
    bool at_risk;  /* it left by time-out before our disk had the record */
    bool deleted;  /* a tombstone was put somewhere */
    /* By member, 0: none. Lives that the barriers of the answers waited for: that it was made; that
     * it was deleted, if no time-out ended that barrier. The answering member has it on disk. */
    uint32_t acked_by[MEMBERS_MAX], buried_by[MEMBERS_MAX];
    int answerer, burier; /* members; -1: none */
};

struct form { /* what a log entry says of a fact */
    uint8_t kind, state;
    bool confirmed, rekeyed;
    int32_t fact;
    struct term term;
    uint32_t revision;
};

struct life { /* one incarnation */
    struct id128 incarnation;
    int member;
    uint64_t started_us, ended_us; /* 0: it runs */
    struct form *log;              /* [0] is number 1 */
    size_t n_log, cap_log;
    uint32_t epochs[4];
    size_t n_epochs;
};

/* ---- a member ---- */
struct disk {
    bool used;
    struct record **records;
    size_t n_records, cap_records;
    struct sync_position *vector;
    size_t n_vector, cap_vector;
    uint32_t epochs[MEMBERS_MAX]; /* by member */
    struct sync_batch **queue;    /* the first n_busy are being written */
    size_t n_queue, cap_queue, n_busy;
    uint64_t durable, told;
    bool failing, told_failing; /* it refuses to write */
    uint32_t slow_us;
};

struct held_child {
    uint8_t state;
    bool confirmed, rekeyed;
    /* Since when this life's vector covers that it was made, that it was deleted; 0: it does not.
     * From then on whoever is synced with us knows it. */
    uint64_t known_us, gone_us;
};

struct held_ike {
    uint8_t state;
    struct term term;
    uint32_t revision;
    struct {
        struct term term;
        uint32_t revision; /* the highest held of this term */
    } terms[TERMS_MAX];
    size_t n_terms;
    uint64_t term_us; /* when the present term came */
    uint64_t gone_us; /* as in held_child */
};

struct spoken { /* an IKE SA that this member's engine speaks for */
    bool speaks;
    bool rekeyed;
    struct record *rec;
    uint64_t commit; /* an answer or request waits for this barrier; 0: none */
    struct ask own;  /* our outstanding request: also in the record; kind 0: none */
    int replaced;    /* Child SA that a rekey of ours is to delete, + 1; 0: none */
    uint64_t children[CHILDREN_MAX / 64];
};

enum waiting_kind {
    WAIT_ANSWER,
    WAIT_RESUME,
    WAIT_ADOPT,
    WAIT_REQUEST, /* of ours: it leaves then */
    WAIT_CHANGE,  /* by a rekey of ours: the old SA may go then */
};
struct waiting { /* for a barrier */
    uint64_t barrier;
    enum waiting_kind kind;
    struct ask answer;
    int ike;
    struct form forms[24];
    size_t n_forms;
    uint64_t put_us;
    uint64_t last_seq;
};

struct member {
    int index;
    uint16_t slot;
    struct sync_core *core; /* NULL: down */
    uint32_t life;          /* index into lives, + 1 */
    int64_t skew_ms;
    uint64_t paused_until_us;
    uint64_t steady_us; /* up and running since */
    uint64_t down_us;   /* when it went down last */
    uint64_t woke_us;   /* end of the last pause that was long enough to be overtaken in; 0: none */
    bool draining, flush_due, was_synced, ready, conflict;
    uint64_t unready_us;   /* last seen so */
    bool gone;             /* it never comes back: the others agree without it */
    bool forgetful;        /* its disk lost something, and it is not sure of all promises again */
    uint32_t unaware_life; /* ... and in this life it does not know: a copy of it promised */
    uint32_t forgot_life;  /* what lives up to this one had on disk may be lost */
    struct disk disk, old_disk;
    uint32_t epoch;
    struct held_child children[CHILDREN_MAX];
    struct held_ike ikes[IKES_MAX];
    struct spoken spoken[IKES_MAX];
    bool resume_begun;
    bool to_resume[IKES_MAX];
    struct waiting *waiting;
    size_t n_waiting, cap_waiting;
    uint64_t last_barrier;
    uint64_t verified[LIVES_MAX]; /* log numbers of that life that check.c has looked at */
    uint64_t vector_sum;          /* of all numbers, when it looked last */
    uint64_t timeouts;            /* barriers that timed out, by effects */
    bool putting;                 /* a PUT of ours is being carried out */
};

struct link { /* one direction */
    bool cut;
    uint32_t lose, twice, late; /* permille of PUB frames */
    uint32_t delay_us, jitter_us;
    uint64_t steady_us; /* not cut since */
    uint64_t mended_us; /* when its last cut ended; 0: never */
    uint64_t last_us;   /* arrival of the last one, where order is kept */
};

struct router {
    int ike, old_ike; /* -1: none */
    uint32_t next_id, old_next_id;
    bool children[CHILDREN_MAX];
    int delete_child; /* the old one of a rekey */
    bool waiting;
    struct ask ask;
    unsigned tries;
    int sticky; /* the member that a new SA is negotiated with */
    uint32_t serial;
};

struct call { /* a REQ on its way */
    uint8_t asker, answerer;
    uint32_t life;
    uint64_t id;
    bool over;
};

struct due { /* a put, and when: it must be everywhere a while later */
    struct form forms[24];
    size_t n_forms;
    uint64_t put_us;
};

enum fault {
    FAULT_CRASH,
    FAULT_DRAIN,
    FAULT_PAUSE,
    FAULT_SPLIT,   /* the members fall into two parts */
    FAULT_ISOLATE, /* one member from all */
    FAULT_ONE_WAY, /* one direction of one pair */
    FAULT_DISK_SLOW,
    FAULT_DISK_FULL,
    FAULT_NOISE,    /* links become lossy, late, doubling */
    FAULT_DOUBLE,   /* crash of one within the restart of another */
    FAULT_BLINK,    /* a pair is cut for a moment: one frame or two are lost */
    FAULT_FADE,     /* one hears nobody, half of what it says is lost, and then it dies */
    FAULT_REPLAY,   /* somebody on the wire plays recorded frames */
    FAULT_LAG,      /* one lives and is heard, and for long gets nothing of what the others tell */
    FAULT_ROLLBACK, /* a journal is set back to what it was a while ago */
    FAULT_WIPE,     /* a journal is lost */
    FAULT_CLONE,    /* a copy of a member's journal, taken while it runs, starts beside it */
    FAULTS,
};

struct plan {                      /* what this seed's history is made of */
    uint64_t trouble_us, quiet_us; /* when the trouble ends; when routers fall silent */
    uint32_t fault_every_us;
    uint32_t turn_us;     /* how long a loop turn gathers events; 0: none */
    uint32_t lifetime_ms; /* of SAs */
    uint32_t kinds;       /* bits of enum fault */
    bool ordered;         /* frames of a pair keep their order, as over TCP */
    uint32_t n_gone;      /* members that stay dead when all heals */
};

struct totals {
    uint64_t seeds, events, steps, frames, answers, timeouts, superseded, adoptions, resumed;
    uint64_t own_rekeys, handed_over;
    uint64_t forgotten, ghosts, conflicts; /* disks that lost something; copies; who stopped */
    uint64_t laggings, short_of; /* laggards found, and barriers that passed without them */
    uint64_t crashes, pulls, gaps, children, virtual_ms, heal_ms, heal_ms_max;
};

struct sim {
    uint64_t seed, random;
    struct now now;     /* the true time */
    struct timed *heap; /* the soonest first */
    size_t n_heap, cap_heap;
    struct event *events; /* that the heap's entries name, and free ones */
    size_t n_events, cap_events, free_event;
    uint64_t order;
    struct plan plan;
    struct member members[PROCESSES_MAX]; /* the copy is [n] (ghost.c) */
    size_t n;
    struct link links[PROCESSES_MAX][PROCESSES_MAX]; /* [from][to] */
    struct router routers[ROUTERS_MAX];
    size_t n_routers;
    struct ike_fact ikes[IKES_MAX];
    size_t n_ikes;
    struct child_fact children[CHILDREN_MAX];
    size_t n_children;
    struct life lives[LIVES_MAX];
    size_t n_lives;
    struct packet *tapes[TAPES_MAX]; /* PUB frames of any time, to be played again */
    uint64_t n_heard;                /* frames that might have been recorded */
    struct call *calls;
    size_t n_calls, cap_calls;
    struct due *dues;
    size_t n_dues, cap_dues;
    uint64_t ghost_until_us; /* a copy ran, or runs; 0: none ever did */
    int fading;              /* the index of the member that fades, and 1; 0: none */
    bool healed, failed, tracing;
    uint64_t pauses_end_us; /* of all pauses so far */
    uint64_t healed_us;
    uint64_t trace; /* a hash of all that happened */
    char failure[512];
    struct totals totals;
};

/* ---- sim.c ---- */
extern uint64_t sim_messages; /* of this history, where fast.c keeps them */
/* Plays a seed from beginning to end. */
void sim_play(struct sim *s, uint64_t seed);
void sim_clear(struct sim *s);
/* The history is wrong: keeps the first sentence. */
__attribute__((format(printf, 2, 3))) void sim_fail(struct sim *s, const char *format, ...);
/* Joins the trace's hash, and is printed when tracing. */
__attribute__((format(printf, 2, 3))) void sim_note(struct sim *s, const char *format, ...);
void mix_in(struct sim *s, const void *bytes, size_t n);
void *sim_grow(void *array, size_t n, size_t *cap, size_t size); /* aborts without memory */

/* ---- net.c ---- */
void net_publish(struct sim *s, struct member *from, struct slice bytes);
void net_request(struct sim *s, struct member *from, const struct sync_effect *fx);
void net_reply(struct sim *s, struct member *from, uint64_t token, struct slice bytes);
void net_deliver(struct sim *s, const struct event *ev);
void net_cut(struct sim *s, int from, int to, bool cut);
void net_replay(struct sim *s); /* some recorded frame, to some member */
void net_clear(struct sim *s);
bool net_joined(const struct sim *s, int a, int b); /* both ways */

/* ---- disk.c ---- */
void disk_submit(struct sim *s, struct member *m, struct sync_batch *batch);
void disk_done(struct sim *s, struct member *m);
void disk_tell(struct sim *s, struct member *m); /* JOURNALED, if there is news */
void disk_crash(struct sim *s, struct member *m);
void disk_finish(struct sim *s, struct member *m); /* an orderly close */
void disk_free(struct disk *d);
void disk_copy(struct disk *to, const struct disk *from); /* what is durable; frees what `to` had */
void disk_forget(struct disk *d, struct disk *old);       /* back to `old`, or empty (NULL) */
void disk_recovery(struct sim *s, struct member *m, struct sync_recovery *out);
const struct record *disk_find(const struct disk *d, uint8_t kind, uint64_t key);

/* ---- member.c ---- */
void member_start(struct sim *s, struct member *m);
void member_crash(struct sim *s, struct member *m);
void member_stop(struct sim *s, struct member *m); /* the end of a drain */
void member_step(struct sim *s, struct member *m, struct sync_event *ev);
void member_tick(struct sim *s, struct member *m);
void member_conflict(struct sim *s, struct member *m); /* it stops, and comes back a while later */
void member_pause(struct sim *s, struct member *m, uint32_t ms);
struct now member_now(const struct sim *s, const struct member *m);
struct member *member_of_slot(struct sim *s, uint16_t slot);
bool member_runs(const struct sim *s, const struct member *m);
bool member_gone(const struct sim *s, uint16_t slot);

/* ---- ghost.c: a second process of a member's slot ---- */
/* Starts from a copy of m's journal, if there is no other copy; cut_off: in m's place, which nobody
 * hears meanwhile. */
void ghost_start(struct sim *s, struct member *m, bool cut_off);
void ghost_stop(struct sim *s);
void ghost_end(struct sim *s); /* it is found and stopped, if it runs */
bool is_ghost(const struct sim *s, const struct member *m);
/* Does a copy of this member run, or did one until just now? */
bool ghost_haunts(const struct sim *s, const struct member *m);
/* The process that a request to this member reaches. */
struct member *ghost_or(struct sim *s, struct member *m, const struct member *from);
void ghost_record(struct sim *s, struct member *m, const struct record *r);
void ghost_tick(struct sim *s, struct member *m);

/* ---- engine.c: what node and ike do at a member ---- */
void engine_datagram(struct sim *s, struct member *m, const struct ask *ask, bool forwarded);
void engine_traffic(struct sim *s, struct member *m, int child);
void engine_record(struct sim *s, struct member *m, const struct record *r, int fact);
void engine_barrier(struct sim *s, struct member *m, const struct sync_effect *fx);
void engine_tick(struct sim *s, struct member *m);
void engine_clear(struct member *m);

/* ---- router.c ---- */
void router_begin(struct sim *s);
void router_timer(struct sim *s, int router);
void router_answer(struct sim *s, int router, const struct ask *answer);

/* ---- fault.c ---- */
void fault_plan(struct sim *s);
void fault_strike(struct sim *s);
void fault_mend(struct sim *s, int member, uint64_t id);
bool fault_may_forget(const struct sim *s, const struct member *m);
void fault_heal(struct sim *s);

/* ---- fact.c ---- */
int fact_ike(struct sim *s, uint64_t spi);
int fact_child(struct sim *s, uint32_t spi_in);
int fact_of(struct sim *s, const struct record *r);
struct form form_of(const struct record *r, int fact);
struct life *life_of(struct sim *s, const struct id128 *incarnation);
bool fact_expired(const struct sim *s, int64_t not_after_ms); /* perhaps, somewhere */

/* ---- check.c ---- */
void check_record(struct sim *s, struct member *m, const struct record *r, int fact);
void check_answer(struct sim *s, struct member *m, const struct waiting *w,
                  const struct sync_effect *fx);
void check_fence(struct sim *s, struct member *m, const struct waiting *w,
                 const struct sync_effect *fx);
void check_plain_answer(struct sim *s, struct member *m, int ike);
bool check_believes_later(struct sim *s, const struct member *m, uint32_t life);
void check_step(struct sim *s, struct member *m);
void check_liveness(struct sim *s, struct member *m);
void check_recovered(struct sim *s, struct member *m);
void check_epoch(struct sim *s, struct member *m, uint32_t epoch);
void check_known(struct sim *s, const struct member *m, int ike);
void check_seal(struct sim *s, const struct member *m, int ike);
void check_log(struct sim *s, struct member *m, const struct record *r, int fact);
void check_put(struct sim *s, struct member *m, const struct waiting *w);
void check_own(struct sim *s, const struct member *m, const struct waiting *w);
void check_due(struct sim *s, struct member *m, uint64_t id);
bool check_same_term(const struct term *a, const struct term *b);
bool check_may_have_ended(const struct sim *s, int lineage);
bool check_knows(const struct member *m, const struct member *o); /* believes who runs there now */

/* ---- check_end.c: after the heal ---- */
bool check_agreed(struct sim *s); /* nothing left to do? */
void check_end(struct sim *s);
void check_why_not(struct sim *s); /* fails with what still differs */

#endif
