/* A customer's router for tests: just enough of an IKEv2 initiator to hold a
 * conversation with one engine in the same process, with a fixed clock and rng. */
#ifndef TESTS_UNIT_IKE_PEER_H
#define TESTS_UNIT_IKE_PEER_H

#include "ike/internal.h"

/* The engine's surroundings. */
struct bench {
    struct ike_engine *engine;
    struct now now;
    uint64_t rng_state, next_iv;
    bool no_iv;     /* next_iv says no */
    bool ungranted; /* it says so for SAs of other processes */
    bool hold_jobs; /* jobs are kept in held_jobs until bench_run_held */
    struct ike_job *held_jobs[64];
    size_t n_held_jobs;
    bool hold_commits; /* COMMITs are kept in held_commit instead of being answered */
    uint64_t held_commit;
    uint8_t answer[IKE_MESSAGE_MAX]; /* the last SEND of the engine */
    size_t answer_n;
    uint8_t run[IKE_MESSAGE_MAX]; /* all SENDs since the last datagram */
    size_t run_n;
    bool run_over;
    unsigned answers, commits, failures;
    unsigned asks;         /* ASKs to the other members */
    size_t asked_children; /* of the last one */
    uint64_t asked_us;
    char reason[IKE_TEXT_MAX];
    struct id128 failed_tunnel;
    struct record *records[512]; /* the last COMMIT's */
    size_t n_records;
    struct endpoint answer_local, answer_peer;
    unsigned answers_in_step;          /* SENDs since the last datagram, tick or report */
    struct endpoint first_answer_peer; /* where the first of them went */
    bool show_wire;                    /* prints every message */
    const struct ike_record *keys;     /* of the message that is handed in next, for show_wire */
    /* Takes the peer's datagrams instead of the engine and hands what comes back to
     * bench_answered; NULL: the engine. tests/bench has a socket here. */
    void (*wire)(struct bench *b, struct slice bytes);
    void *wire_ctx;
};

extern const char bench_tunnel_hex[];
extern const char bench_account[];
extern const char bench_psk[];

/* Repeatable random bytes, ctx being a rng_state; all of an address family. */
void bench_fill(void *ctx, uint8_t *out, size_t n);
struct selector bench_any(uint8_t family);
void bench_open(struct bench *b);
void bench_close(struct bench *b);
void bench_datagram(struct bench *b, const struct endpoint *local, const struct endpoint *peer,
                    struct slice bytes);
/* A message of the gateway, at most IKE_MESSAGE_MAX. */
void bench_answered(struct bench *b, struct slice bytes);
void bench_tick(struct bench *b, uint64_t advance_us);
/* Only the first step of a tick, or one more of it. */
void bench_tick_step(struct bench *b, uint64_t advance_us);
/* Some node heard the peer of this Child SA there. */
void bench_moved(struct bench *b, const struct record *child, const struct endpoint *peer);
/* Another node's record came. */
void bench_told(struct bench *b, const struct record *r);
/* What the other members know of an IKE SA's peer. */
void bench_others_say(struct bench *b, uint64_t our_spi, uint64_t answered_us, uint64_t heard_us);
void bench_commit_held(struct bench *b);
void bench_run_held(struct bench *b);
/* The last committed record of a kind and state, or NULL. */
const struct record *bench_record(const struct bench *b, enum record_kind kind,
                                  enum sa_state state);

struct peer {
    struct bench *bench;
    struct endpoint local, remote; /* the gateway's and ours */
    struct record *rec;            /* RECORD_IKE, as the initiator sees it */
    struct suite ike, esp;         /* what it offers */
    struct dh_key *dh, *pfs_key;
    uint16_t wrong_ke_group;   /* what KE claims, when not 0 */
    uint16_t wrong_init_group; /* likewise in IKE_SA_INIT */
    uint8_t nonce_i[32], nonce_r[IKE_NONCE_MAX];
    size_t nonce_r_n;
    uint8_t init_request[REQUEST_KEPT_MAX], init_response[IKE_MESSAGE_MAX];
    size_t init_request_n, init_response_n;
    uint8_t request[IKE_MESSAGE_MAX]; /* the last one, for retransmits */
    size_t request_n;
    uint8_t plain[IKE_MESSAGE_MAX];
    struct message answer; /* the last one, opened: its inner payloads */
    uint32_t next_id, old_next_id, esp_spi;
    uint64_t iv;
    uint8_t id_type;
    char id[IKE_ID_MAX];
    const char *psk;
    uint8_t cookie[64]; /* sent with IKE_SA_INIT when cookie_n is not 0 */
    size_t cookie_n;
    bool fragmentation; /* announced in IKE_SA_INIT */
    size_t cut;     /* requests and responses leave in fragments of this much plaintext; 0: whole */
    bool backwards; /* the last fragment first */
    struct slice ike_offer, esp_offer; /* when set: the body of the SA payload, borrowed */
    void (*extra)(struct chain *c); /* adds payloads to IKE_SA_INIT, IKE_AUTH, Child SA requests */
    uint8_t auth_method;            /* that AUTH claims, when not 0 */
    bool no_auth, childless;        /* IKE_AUTH without AUTH (EAP); without SA, TSi and TSr */
    bool natd, natd_fake, esn_only, bad_ke, initial_contact;
    bool responder;         /* of the present IKE SA: the gateway began it */
    struct message asked;   /* the gateway's last request, opened: its inner payloads */
    bool low_nonce_i;       /* rekey requests use a nonce of zeros */
    bool no_pfs;            /* rekey answers choose no group */
    uint8_t low_nonce_byte; /* rekey answers use a nonce of this octet */
    struct selector_list tsi, tsr;
    struct child_record child; /* the last negotiated */
};

void peer_open(struct peer *p, struct bench *b);
void peer_close(struct peer *p);
/* Sends IKE_SA_INIT; true when a normal answer came. Otherwise `answer` holds the notify. */
bool peer_init(struct peer *p);
/* Sends IKE_AUTH and checks the answer's AUTH; true when an answer without errors came. */
bool peer_auth(struct peer *p);
/* Seals a chain and sends it as the next request; true when an answer came and was opened. */
bool peer_request(struct peer *p, uint8_t exchange, const struct chain *inner);
/* old_spi 0: an additional Child SA. p->esp.dh: with PFS. */
bool peer_rekey_child(struct peer *p, uint32_t old_spi);
/* Goes over to the new IKE SA; *old is the caller's. */
bool peer_rekey_ike(struct peer *p, struct record **old);
bool peer_delete_child(struct peer *p, uint32_t spi);
bool peer_delete_ike(struct peer *p);
bool peer_dpd(struct peer *p);
/* Seals fragment `number` of a chain, cut as p->cut says, into p->request. */
bool peer_seal_fragment(struct peer *p, uint8_t exchange, uint8_t flags, uint32_t id,
                        const struct chain *inner, uint16_t number, uint16_t total);
void peer_send(struct peer *p); /* p->request once more */
bool peer_got_notify(const struct peer *p, uint16_t type);
void peer_write_offer(struct chain *c, const struct suite *s, uint8_t protocol, uint64_t spi,
                      bool esn_only);
/* Opens the engine's last SEND as a request of its own into `asked`; false: it is none. */
bool peer_asked(struct peer *p);
/* Answers it with these payloads. */
void peer_respond(struct peer *p, const struct chain *inner);
void peer_respond_empty(struct peer *p);
void peer_respond_notify(struct peer *p, uint16_t type);
/* Answers a rekey of a Child SA, of the IKE SA (*old is the caller's). */
bool peer_respond_rekey_child(struct peer *p);
bool peer_respond_rekey_ike(struct peer *p, struct record **old);
struct suite suite_of(uint16_t encr, uint16_t bits, uint16_t prf, uint16_t integ, uint16_t dh);

#endif
