/* What the engine's files share. Nothing here is for other modules. */
#ifndef IKE_INTERNAL_H
#define IKE_INTERNAL_H

#include <uthash.h>

#include "ike/ike.h"
#include "ike/keys.h"
#include "ike/message.h"
#include "ike/proposal.h"
#include "ike/ts.h"
#include "proto/crypto.h"
#include "proto/err.h"
#include "proto/log.h"

enum {
    HALF_OPEN_S = 30,            /* a half-open SA lives this long */
    LINGER_S = 10,               /* a closed one answers retransmits this long */
    PREFIX_HALF_OPEN_MAX = 1024, /* likewise from one source prefix (/24, /48) */
    HALF_OPEN_MAX = 20000,       /* in total; beyond it IKE_SA_INIT is dropped */
    REQUEST_KEPT_MAX = 4096,     /* largest IKE_SA_INIT that we keep for AUTH */
    GROUP_MAX = 256,             /* records of one exchange */
    KEY_POOL = 32,               /* key pairs kept ready per group */
    KEY_BATCH = 8,               /* made by one job, so that threads are woken less often */
    STEP_ACTIONS = 1024,         /* a step of the sweep ends there */
    SWEEP_MS = 1000,             /* so often the time-outs of all SAs are looked at */
};

/* The life of an IKE SA here:
 *
 *   INIT ──(own key pair)──> INIT_SENT ──IKE_AUTH──> DERIVING ──> KEYED
 *     KEYED ──AUTH good, committed──> ESTABLISHED ──DELETE, expiry──> CLOSED
 *     KEYED ──AUTH bad──> CLOSED (answers retransmits for LINGER_S, then gone)      */
enum sa_phase {
    PHASE_INIT,
    PHASE_INIT_SENT,
    PHASE_DERIVING,
    PHASE_KEYED,
    PHASE_ESTABLISHED,
    PHASE_CLOSED,
};

/* A request of ours, from its making until its answer (window of one, RFC 7296 §2.3). It is
 * replicated before it is sent; its exact bytes stand in the record's our_request. */
enum own_kind {
    OWN_NONE,
    OWN_DPD,
    OWN_DELETE_CHILD,
    OWN_DELETE_IKE,
    OWN_REKEY_CHILD,
    OWN_REKEY_IKE
};

enum { OWN_NONCE_BYTES = 32 };

struct own_request {
    enum own_kind kind;
    uint32_t id;
    uint32_t old_spi;     /* spi_in of the Child SA that is rekeyed or deleted */
    uint32_t new_spi;     /* REKEY_CHILD: what we allotted */
    uint64_t new_ike_spi; /* REKEY_IKE: likewise */
    uint16_t group;
    struct dh_key *dh;
    uint8_t nonce[OWN_NONCE_BYTES];
    bool sent;
    unsigned tries;
    uint64_t next_us; /* monotonic: the next retransmission */
    /* It goes to this address too, or to this alone, and asks whether the peer is there. Family 0:
     * to the recorded address. Not saved: after a restart the next report begins anew. */
    struct endpoint probe_local, probe_peer;
    bool probe_alone;
    /* The peer rekeyed the same SA meanwhile (§2.8.1): what it made, the lower of its two nonces.
     */
    uint32_t rival_spi;
    uint64_t rival_ike_spi;
    uint8_t rival_low[IKE_NONCE_MAX];
    size_t rival_low_n;
};

/* What follows when a COMMIT of this SA has passed the barrier. */
enum after_commit {
    AFTER_ANSWER,    /* the kept answer leaves */
    AFTER_REQUEST,   /* our request leaves */
    AFTER_NEW_CHILD, /* our rekey is in place everywhere: use it, delete the old one */
    AFTER_NEW_IKE,   /* likewise for the IKE SA */
};

struct init_key { /* how a retransmitted IKE_SA_INIT is known: SPIi and the source, packed */
    uint8_t b[IKE_SPI_BYTES + 1 + 16 + 2];
};

struct ike_sa {
    uint64_t our_spi;
    struct init_key init_key;
    struct ip_addr init_source;
    UT_hash_handle by_spi;
    UT_hash_handle by_init;   /* only while half-open */
    UT_hash_handle by_commit; /* only while an answer is held */
    /* The one of a lineage that has its Child SAs: the newest, but for a lost collision. */
    UT_hash_handle by_lineage;
    struct ike_sa *next_doomed;
    enum sa_phase phase;
    struct record *rec; /* RECORD_IKE */

    /* half-open */
    uint16_t group;
    struct dh_key *dh;
    uint8_t peer_public[DH_PUBLIC_MAX];
    uint8_t nonce_i[IKE_NONCE_MAX], nonce_r[32];
    size_t nonce_i_n;
    struct choice init_choice;
    bool answer_natd;
    struct blob init_request, init_response;
    struct blob waiting; /* the run of a request that waits for a key exchange */
    struct endpoint waiting_local, waiting_peer;

    /* established */
    struct record **children; /* RECORD_CHILD, not deleted */
    size_t n_children, cap_children;
    bool busy;     /* a request waits for a key exchange; others stay unanswered */
    bool rekeyed;  /* another IKE SA took over, the peer will delete this one */
    bool restored; /* its keys were derived by another process */
    bool may_jump; /* restored: the peer's message ID may be ahead of ours */

    struct fragments *fragments[2]; /* of a request, of a response; NULL: none */
    struct own_request own;
    struct { /* move.c: where the peer was heard, until it is known whether it is there */
        struct endpoint local, peer; /* family 0: nowhere new */
        uint64_t next_us;            /* monotonic: no probe before */
        unsigned failed;             /* probes in a row */
        size_t children_left;        /* to be told that the peer moved: the first so many */
    } move;
    uint64_t last_in_us;           /* monotonic: last authenticated IKE message */
    uint64_t retry_us;             /* monotonic: no rekey of ours before */
    uint16_t pfs_group;            /* that the peer asked for; 0: none */
    uint32_t rekey_after_permille; /* 0-100, drawn at creation: when in its life we rekey */

    uint64_t commit; /* what follows is held until this is committed; 0: nothing is held */
    enum after_commit after;
    uint32_t new_child_spi, old_child_spi; /* AFTER_NEW_CHILD: to use, to delete; 0: none */
    bool close_after_commit;
    struct endpoint answer_local, answer_peer;
    uint64_t began_us, until_us; /* monotonic */
    struct { /* liveness.c: what the other members were asked; monotonic, 0: never */
        uint64_t asked_us, answered_us; /* answered: by all, what was asked then */
        uint64_t heard_us;              /* when the last of them heard the peer */
    } others;
};

struct ike_job {
    enum { JOB_KEYGEN, JOB_REFILL, JOB_DERIVE, JOB_EXCHANGE } kind;
    uint64_t our_spi; /* the SA that waits; 0: REFILL, none does */
    uint16_t group;
    struct dh_key
        *dh; /* KEYGEN: made here. DERIVE: the SA's, lent. EXCHANGE: the job's, made if NULL */
    uint8_t peer_public[DH_PUBLIC_MAX], shared[DH_PUBLIC_MAX];
    struct dh_key *batch[KEY_BATCH]; /* REFILL: made here */
    int rc;
};

struct tunnel {
    struct ike_tunnel t;
    UT_hash_handle by_id;
    uint8_t *psk;
    size_t psk_n;
};

struct key_pool {
    uint16_t group;
    struct dh_key *keys[KEY_POOL];
    size_t n, under_way; /* key pairs here, in REFILL jobs */
};

struct source_prefix { /* half-open SAs from one */
    uint8_t b[7];
    uint32_t n;
    UT_hash_handle hh;
};

struct ike_engine {
    struct ike_config config;
    struct rng rng;
    struct tunnel *tunnels;
    struct ike_sa *by_spi, *by_init, *by_commit, *by_lineage;
    struct source_prefix *prefixes;
    uint64_t probe_window_us; /* move.c: this second's probes */
    unsigned probes;
    uint64_t next_sweep_us;    /* monotonic: when time-outs are looked for again */
    struct ike_sa *sweep_next; /* where the present sweep goes on; NULL: it is over */
    struct key_pool pools[2];
    struct ike_stats stats;
    uint64_t last_commit;
    struct now now; /* of this step */

    /* the actions of this step and the bytes they point to */
    struct ike_action *actions;
    size_t n_actions, cap_actions;
    struct record *group[GROUP_MAX + 2];
    size_t n_group;
    bool group_given;                 /* this step's group left with a COMMIT */
    uint8_t scratch[IKE_MESSAGE_MAX]; /* a stateless answer */
    uint8_t plain[IKE_MESSAGE_MAX];   /* the opened payloads of this step's message */
    uint8_t run[IKE_MESSAGE_MAX];     /* its datagrams, if it came in fragments */
    uint8_t inner[IKE_MESSAGE_MAX];   /* payloads being built */
    char reason[IKE_TEXT_MAX];
    size_t held_bytes;     /* of datagrams that wait: fragments, requests */
    struct ike_sa *doomed; /* freed at the next step, since actions may point into it */
};

/* A request under way through the engine. */
struct request {
    struct message m; /* the datagram; of a complete run, its first */
    struct slice run; /* all of them, once complete (fragment.c) */
    struct endpoint local, peer;
};

/* engine.c */
struct ike_action *act_add(struct ike_engine *e, enum ike_action_kind kind); /* NULL: no memory */
/* 22 random bits for an SPI of ours, see ike_config.granted. */
uint32_t draw_22_bits(struct ike_engine *e);
void act_send(struct ike_engine *e, const struct endpoint *local, const struct endpoint *peer,
              struct slice bytes);
void act_failure(struct ike_engine *e, const struct id128 *tunnel, const struct request *rq,
                 const char *reason);
/* Puts into e->reason what was offered and what is allowed. */
void explain_no_proposal(struct ike_engine *e, const struct choice_rules *rules,
                         struct slice sa_payload);
void act_job(struct ike_engine *e, struct ike_job *job);
/* Answers the unknown critical payload that m met, under protection where there is an SA. */
void refuse_critical(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                     const struct message *m);
/* Adds a clone of r to the group of records that this exchange changes. */
int group_add(struct ike_engine *e, const struct record *r);
/* Emits the group as one COMMIT. With `sa` its answer is held until then. */
void group_commit(struct ike_engine *e, struct ike_sa *sa);
void group_commit_then(struct ike_engine *e, struct ike_sa *sa, enum after_commit after);
void group_drop(struct ike_engine *e);
struct ike_sa *ike_sa_new(struct ike_engine *e);
/* An IKE SA that rekeys `old`, its record filled but for SPIs, suite, ends and keys. Not in the
 * table yet: ike_sa_enter puts it there, ike_sa_discard drops it. */
struct ike_sa *ike_sa_successor(struct ike_engine *e, const struct ike_sa *old);
void ike_sa_enter(struct ike_engine *e, struct ike_sa *sa, uint64_t our_spi);
void ike_sa_discard(struct ike_sa *sa);
void ike_sa_lead(struct ike_engine *e, struct ike_sa *sa); /* becomes its lineage's by_lineage */
void ike_sa_hand_over(struct ike_engine *e, struct ike_sa *from,
                      struct ike_sa *to); /* the children */
void ike_sa_forget(struct ike_engine *e,
                   struct ike_sa *sa); /* out of the tables; freed a step later */
void ike_sa_close(struct ike_engine *e, struct ike_sa *sa); /* PHASE_CLOSED, lingering */
struct ike_sa *ike_sa_find(const struct ike_engine *e, uint64_t our_spi);
void ike_sa_drop_half_open_parts(struct ike_engine *e, struct ike_sa *sa);
int ike_sa_add_child(struct ike_sa *sa, struct record *child);
void ike_sa_remove_child(struct ike_sa *sa, size_t i);

/* engine.c: a datagram for a keyed SA or one that waits for its keys. */
void protected_message(struct ike_engine *e, struct ike_sa *sa, struct request *rq);

/* fragment.c: protected messages as runs of datagrams (RFC 7383). */
struct outgoing {
    uint8_t exchange, flags;
    uint32_t id;
};
/* Seals `inner` into one datagram, or into fragments where the peer takes them; out gets the run.
 * ERR_BUSY: no IV may be used now. */
int message_seal(struct ike_engine *e, const struct ike_record *rec, const struct outgoing *o,
                 const struct chain *inner, struct blob *out);
void act_send_run(struct ike_engine *e, const struct endpoint *local, const struct endpoint *peer,
                  const struct blob *run);
/* True once rq is complete: its run is set and m is the first datagram. Fragments are checked
 * here, a whole message is not opened yet. */
bool message_gather(struct ike_engine *e, struct ike_sa *sa, struct request *rq);
/* Opens a complete run into `inner`, which points into e->plain. ERR_AUTH: forged or garbled.
 * ERR_INVALID, ERR_UNSUPPORTED: authentic, with a bad payload chain. */
int message_open(struct ike_engine *e, const struct ike_sa *sa, const struct request *rq,
                 struct message *inner);
/* Whether the datagram is an authentic first fragment: that of a repeated request asks for the
 * answer again, however it is cut now (RFC 7383 §2.6.1). */
bool fragment_repeats(struct ike_engine *e, const struct ike_sa *sa, const struct request *rq);
void fragments_drop(struct ike_engine *e, struct ike_sa *sa);
void fragments_tick(struct ike_engine *e, struct ike_sa *sa);
/* The run that waits for a key exchange: replaced, longer by a datagram, handed out. */
bool waiting_set(struct ike_engine *e, struct ike_sa *sa, struct slice run);
bool waiting_add(struct ike_engine *e, struct ike_sa *sa, struct slice raw);
struct blob waiting_take(struct ike_engine *e, struct ike_sa *sa);

/* answer.c: seals `inner` as the answer to rq and stores it as the SA's last response. */
int answer_seal(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                const struct chain *inner);
/* Sends the stored answer now. */
void answer_send(struct ike_engine *e, struct ike_sa *sa);
void chain_error(struct chain *c, uint16_t type);
/* An answer of one error notify that changes no SA: sealed and sent. */
void answer_error(struct ike_engine *e, struct ike_sa *sa, const struct request *rq, uint16_t type,
                  struct slice data);

/* sa_init.c */
void sa_init_request(struct ike_engine *e, const struct request *rq);
void sa_init_continue(struct ike_engine *e, struct ike_sa *sa); /* the key pair is there */
void pool_refill(struct ike_engine *e);
void pool_put(struct ike_engine *e, struct ike_job *refill); /* takes what there is room for */
/* natd.c part: the NAT_DETECTION hash (RFC 7296 §2.23). */
int natd_hash(uint64_t spi_i, uint64_t spi_r, const struct endpoint *ep, uint8_t out[20]);
uint64_t spi_make(const struct secret *key, uint16_t slot, uint32_t random22, uint64_t spi_i);

/* cookie.c: COOKIE (RFC 7296 §2.6). cookie_passes is true where none is needed, or the right one
 * came; otherwise it was asked for. */
bool cookie_passes(struct ike_engine *e, const struct request *rq, struct slice nonce_i);
/* Counts half-open SAs per source prefix; false: this prefix has its share. */
bool prefix_enter(struct ike_engine *e, const struct ip_addr *ip);
void prefix_leave(struct ike_engine *e, const struct ip_addr *ip);
/* sa_init.c: an unprotected answer of one notify. */
void init_refuse(struct ike_engine *e, const struct request *rq, uint16_t type, struct slice data);

/* auth.c */
void auth_wait(struct ike_engine *e, struct ike_sa *sa, const struct request *rq); /* for keys */
void auth_request(struct ike_engine *e, struct ike_sa *sa, const struct request *rq);
void auth_derived(struct ike_engine *e, struct ike_sa *sa, struct ike_job *job);

/* identity.c */
struct identity {
    uint8_t type;
    struct slice value, body; /* body: as in the AUTH computation */
};
bool identity_parse(struct slice body, struct identity *out);
/* The tunnel that an IDi names at this anycast address; NULL with *why ("unknown_id", ...). */
const struct tunnel *identity_find(const struct ike_engine *e, const struct identity *id,
                                   const struct ip_addr *anycast, const char **why);
char *identity_describe(const struct identity *id, char *out, size_t n);
/* Writes the body of our IDr payload. */
void identity_write_local(struct writer *w, const struct tunnel *t, const struct ip_addr *anycast);

/* child.c: what IKE_AUTH and CREATE_CHILD_SA share. */
struct child_request {
    struct slice sa, tsi, tsr, nonce_i, nonce_r;
    struct slice shared; /* g^ir; empty without PFS */
    uint16_t ke_group;   /* of the KE payload; 0: none */
    bool in_auth;
    const struct record *replaces; /* the SA that is rekeyed, or NULL */
};
/* Both return 0, or the notify type to answer with; the reason then stands in e->reason and
 * was reported. child_make's record is the caller's. */
uint16_t child_choose(struct ike_engine *e, const struct tunnel *tunnel,
                      const struct child_request *cr, struct choice *choice,
                      const struct request *rq);
uint16_t child_make(struct ike_engine *e, struct ike_sa *sa, const struct tunnel *tunnel,
                    const struct child_request *cr, const struct choice *choice,
                    struct record **out, const struct request *rq);
void child_write(struct chain *c, const struct record *child, const struct choice *choice);

/* create.c: CREATE_CHILD_SA. `dh` is NULL until a key exchange that it needs is done. */
struct dh_result {
    uint8_t public_value[DH_PUBLIC_MAX];
    struct slice shared;
};
void create_child_request(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                          const struct message *inner, const struct dh_result *dh);
/* Lets a thread finish a key exchange with the peer's value; `dh` (NULL: a new pair) becomes the
 * job's. rq is kept and comes back through create_child_resume. */
bool exchange_job_start(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                        uint16_t group, struct slice peer_public, struct dh_key *dh);
void create_child_resume(struct ike_engine *e, struct ike_sa *sa, struct ike_job *job);
/* A key pair of the pool, or NULL; the caller owns it. */
struct dh_key *pool_take(struct ike_engine *e, uint16_t group);
uint32_t draw_esp_spi(struct ike_engine *e);
uint64_t draw_ike_spi(struct ike_engine *e, uint64_t spi_i);
/* own.c: requests of ours. */
bool own_may_start(const struct ike_sa *sa);
/* The last DELETE, sent once; the SA must be forgotten then. */
void own_farewell(struct ike_engine *e, struct ike_sa *sa);
void own_start_simple(struct ike_engine *e, struct ike_sa *sa, enum own_kind kind, uint32_t spi_in);
/* Seals and commits a request whose `own` is filled in. */
void own_launch(struct ike_engine *e, struct ike_sa *sa, uint8_t exchange,
                const struct chain *inner);
void own_send(struct ike_engine *e, struct ike_sa *sa);
void own_clear(struct ike_sa *sa);
void own_tick(struct ike_engine *e, struct ike_sa *sa);
bool own_awaits(const struct ike_sa *sa, uint32_t id); /* the answer of this message ID */
void own_response(struct ike_engine *e, struct ike_sa *sa, const struct request *rq);
void own_restore(struct ike_engine *e, struct ike_sa *sa);

/* liveness.c */
enum liveness_verdict {
    LIVENESS_ASK_ON, /* our request is repeated */
    LIVENESS_WAIT,   /* for what the other members say */
    LIVENESS_LOST,   /* the peer is gone */
};
/* Whether it is time to ask an idle SA's peer whether it is there. */
bool liveness_check_due(struct ike_engine *e, struct ike_sa *sa);
/* What the silence after our last try means. */
enum liveness_verdict liveness_judge(struct ike_engine *e, struct ike_sa *sa);
void liveness_give_up(struct ike_engine *e, struct ike_sa *sa);
void liveness_told(struct ike_engine *e, const struct ike_event *event);
/* move.c: the peer behind a NAT at a new address. */
/* An authentic message from there: worth a probe? rq's SA need not be its lineage's newest. */
void move_noticed(struct ike_engine *e, struct ike_sa *sa, const struct request *rq);
void move_reported(struct ike_engine *e, const struct ike_event *event);
/* Begins a probe if one is wanted and allowed now; may emit a COMMIT. */
void move_continue(struct ike_engine *e, struct ike_sa *sa);
/* Sends the outstanding request to where it belongs this time. */
void move_send(struct ike_engine *e, struct ike_sa *sa);
/* The outstanding request is not for the probed address alone any more? Before each sending. */
void move_widen(struct ike_sa *sa);
/* An authentic answer to a liveness check: the move's records join the group, if it is proven. */
void move_answered(struct ike_engine *e, struct ike_sa *sa, const struct own_request *own,
                   const struct request *rq);
/* rekey.c: rekeys that we begin. */
void rekey_child_start(struct ike_engine *e, struct ike_sa *sa, struct record *old);
void rekey_ike_start(struct ike_engine *e, struct ike_sa *sa);
void rekey_response(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                    const struct message *inner, struct ike_job *job);
void rekey_child_in_place(struct ike_engine *e, struct ike_sa *sa);
void rekey_ike_in_place(struct ike_engine *e, struct ike_sa *sa);
/* The peer rekeyed what we rekey, too: remembered for the answer to come. */
void rekey_note_rival(struct ike_sa *sa, uint32_t child_spi, uint64_t ike_spi, struct slice nonce_a,
                      struct slice nonce_b);

/* informational.c */
void informational_request(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                           const struct message *inner);
/* A later request proves that the peer has every SA that we made before (window of one). */
void confirm_children(struct ike_engine *e, struct ike_sa *sa);
/* Puts the deletion of the SA and all its children into the group. */
/* given_up.c. Has the peer given this Child SA up? given_up_note: false when that is known already.
 */
bool given_up_has(const struct ike_record *ike, uint32_t spi_out);
bool given_up_note(struct ike_record *ike, uint32_t spi_out);
void given_up_forget(struct ike_record *ike, uint32_t spi_out); /* the peer uses the SPI anew */
/* Deletes r, which another node brought, if the peer gave it up; given_up_sweep: one of sa's. */
bool given_up_arrived(struct ike_engine *e, const struct ike_sa *sa, const struct record *r);
bool given_up_sweep(struct ike_engine *e, struct ike_sa *sa);
int group_add_tombstone(struct ike_engine *e, const struct record *r);
void group_add_deletion(struct ike_engine *e, struct ike_sa *sa);
void group_add_deleted_child(struct ike_engine *e, struct ike_sa *sa, size_t i);

#endif
