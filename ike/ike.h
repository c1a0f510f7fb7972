/* The IKEv2 responder (RFC 7296), without I/O: ike_step(engine, event, now) -> actions.
 *
 * How a message travels. The node takes a datagram from a socket, decides by
 * its SPIs that it is ours (steering), and hands it in as IKE_EV_DATAGRAM. The
 * engine checks, opens and answers it. An answer that changes no SA leaves as
 * IKE_ACT_SEND at once. An answer that makes, rekeys or deletes an SA is kept:
 * IKE_ACT_COMMIT carries the records of the exchange, and only when the node
 * says IKE_EV_COMMITTED (they are durable here and installed at every live
 * node) does IKE_ACT_SEND follow; a retransmitted request stays unanswered
 * until then and gets the very same bytes afterwards.
 *
 * Diffie-Hellman is slow: IKE_ACT_JOB asks the node to run ike_job_run on some
 * other thread and to bring the job back as IKE_EV_JOB. The shared secret is
 * derived only when IKE_AUTH arrives.
 *
 * The engine speaks only for the IKE SAs that this node owns. It runs on one
 * thread; it takes no clock, socket or random byte but what is handed in. */
#ifndef IKE_IKE_H
#define IKE_IKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/cursor.h"
#include "proto/env.h"
#include "proto/net.h"
#include "proto/record.h"

enum { IKE_TEXT_MAX = 512, IKE_ACCOUNT_MAX = 64, IKE_DOMAIN_MAX = 256, IKE_ID_MAX = 256 };

/* What the engine knows of an IPsec tunnel. */
struct ike_tunnel {
    struct id128 id;
    char account_id[IKE_ACCOUNT_MAX];
    char name[IKE_ACCOUNT_MAX];
    struct ip_addr anycast, customer; /* customer: family 0 when not set */
    bool ipv4_id_allowed;             /* customer set, and the pair is not shared */
    const uint8_t *psk;               /* borrowed for ike_set_tunnels, which copies */
    size_t psk_n;
    bool allow_null_cipher;
    struct selector_list local_ts, remote_ts; /* bounds of TSr and TSi */
    uint8_t local_id_type;                    /* 0: ID_IPV4_ADDR of the anycast address addressed */
    char local_id[IKE_ID_MAX];                /* text (FQDN, RFC822) or address */
};

typedef void ike_visit_fn(void *ctx, const struct record *ike);

struct ike_config {
    uint16_t slot;
    struct id128 incarnation; /* of this process, for the terms it writes */
    char id_domain[IKE_DOMAIN_MAX];
    struct secret spi_key;     /* cluster-wide, keys the MAC in our SPIs: 32 octets */
    struct secret cookie_key;  /* cluster-wide, keys our cookies: 32 octets */
    struct secret cookie_also; /* one that other nodes' cookies may be under; n 0: none */
    uint32_t cookie_threshold; /* half-open SAs from which on a COOKIE is asked for; 0: always */
    uint32_t lifetime_s, child_lifetime_s, max_children;
    uint32_t fragment_size; /* largest datagram to a peer that takes fragments; 0: 1228 octets */
    uint32_t dpd_s;         /* silence after which we ask whether the peer lives; 0: never */
    /* A fresh 64-bit IV of lane 15 under the granted epoch; false: none may be used now. own: for
     * an SA whose keys this process derived, on which epoch 0 will do. */
    bool (*next_iv)(void *ctx, bool own, uint64_t *iv);
    void *next_iv_ctx;
    /* Whether an epoch is granted: until then our SPIs come from a range of their own, so that they
     * clash with none of another process of our slot. NULL: yes. Takes next_iv_ctx. */
    bool (*granted)(void *ctx);
    /* Whether an ESP SPI or an IKE SPI of ours is taken anywhere in the cluster. */
    bool (*esp_spi_taken)(void *ctx, uint32_t spi);
    void *spi_ctx;
    /* Calls f for each installed IKE SA of a tunnel, anywhere in the cluster, that was applied here
     * before `before_us` (monotonic). NULL: none are known. */
    void (*each_ike)(void *ctx, const struct id128 *tunnel, uint64_t before_us, ike_visit_fn *f,
                     void *f_ctx);
    void *each_ike_ctx;
    /* Monotonic microseconds of the last authenticated packet on a Child SA, 0 never. NULL:
     * unknown. */
    uint64_t (*last_inbound_us)(void *ctx, uint32_t spi_in);
    /* Whether a time-out may end an SA: not in a minority of the members. NULL: yes. */
    bool (*may_give_up)(void *ctx);
    /* Other members may hear a peer: IKE_ACT_ASK is answered. False: we are alone. */
    bool ask_others;
    void *liveness_ctx;
    /* The endpoint record of a Child SA that is known here, or NULL. NULL: there are none. */
    const struct record *(*find_endpoint)(void *ctx, uint32_t spi_in);
    void *find_endpoint_ctx;
};

struct ike_engine;

/* Work for another thread. The engine makes it, the node runs it, the engine frees it. */
struct ike_job;
void ike_job_run(struct ike_job *job); /* any thread; touches nothing but the job */
void ike_job_free(struct ike_job *job);

enum ike_event_kind {
    IKE_EV_DATAGRAM = 1, /* local, peer, bytes (without non-ESP marker) */
    IKE_EV_JOB,          /* job: run */
    IKE_EV_COMMITTED,    /* commit: the records of that IKE_ACT_COMMIT passed the barrier */
    IKE_EV_RECORD,       /* record: another node changed or deleted what we may own (borrowed) */
    IKE_EV_MOVED,    /* record, peer: some node heard the peer of this Child SA (borrowed) there */
    IKE_EV_ACTIVITY, /* our_spi, answered_us, heard_us: what the other members say to IKE_ACT_ASK */
    IKE_EV_TICK,     /* about every 100 ms, and again while ike_tick_again() */
};

struct ike_event {
    enum ike_event_kind kind;
    struct endpoint local, peer;
    struct slice bytes; /* borrowed */
    struct ike_job *job;
    uint64_t commit;
    const struct record *record;
    uint64_t our_spi;
    uint64_t answered_us; /* monotonic: all live members answered what was asked then; 0: not all */
    uint64_t heard_us;    /* monotonic: when the last of them heard the peer; 0: none did */
};

enum ike_action_kind {
    IKE_ACT_SEND = 1, /* local, peer, bytes */
    IKE_ACT_COMMIT,   /* commit, records: replicate, then answer IKE_EV_COMMITTED{commit} */
    IKE_ACT_JOB,      /* job */
    IKE_ACT_FAILURE,  /* a negotiation failed: tunnel (or zero), reason */
    IKE_ACT_ASK,      /* our_spi, children: ask all live members when they last heard these */
};

struct ike_action {
    enum ike_action_kind kind;
    struct endpoint local, peer;
    struct slice bytes; /* borrowed until the next ike_step */
    uint64_t commit;
    struct record **records; /* the array is borrowed, the records are the receiver's */
    size_t n_records;
    struct ike_job *job;
    struct id128 tunnel;
    uint64_t our_spi;
    struct record *const *children; /* RECORD_CHILD, borrowed until the next ike_step */
    size_t n_children;
    const char *reason; /* "wrong_psk", "no_proposal_chosen: peer offered ..., tunnel allows ..." */
};

struct ike_actions {
    const struct ike_action *a;
    size_t n;
};

/* NULL when out of memory. */
struct ike_engine *ike_new(const struct ike_config *config, const struct rng *rng);
void ike_free(struct ike_engine *engine);
/* Replaces the tunnel list; established SAs stay. 0 or ERR_NOMEM (the old list stays). */
int ike_set_tunnels(struct ike_engine *engine, const struct ike_tunnel *tunnels, size_t n);

/* The one way in. The actions belong to the engine and live until the next call;
 * they are carried out in order. */
struct ike_actions ike_step(struct ike_engine *engine, const struct ike_event *event,
                            struct now now);

/* Whether the tick before had more to do than one step holds. */
bool ike_tick_again(const struct ike_engine *engine);

/* Takes up an IKE SA that this slot owned before a restart, with the Child SAs of its lineage. The
 * records are borrowed. The node has raised the term and commits it; until then nothing is said.
 * superseded: a newer IKE SA of the lineage exists; this one gets no children and is deleted unless
 * the peer does so first. ERR_NOMEM, ERR_EXISTS. */
int ike_restore(struct ike_engine *engine, const struct record *ike,
                const struct record *const *children, size_t n_children, bool superseded,
                struct now now);

/* Another cluster key is the first one: new SPIs and cookies are under these from now on, and
 * cookies under `also` are taken, too (n 0: none). SAs, half-open ones as well, go on. */
void ike_set_keys(struct ike_engine *engine, const struct secret *spi, const struct secret *cookie,
                  const struct secret *also);

/* Whether there are no other members: then nobody is asked when a peer was last heard. */
void ike_set_alone(struct ike_engine *engine, bool alone);

/* ---- steering: what the node reads of a datagram before it knows whose it is ---- */
struct ike_peek {
    uint64_t spi_i, spi_r;
    uint64_t our_spi; /* SPIr, or SPIi where the I flag is clear */
    uint8_t exchange;
    bool from_initiator, response;
};
/* ERR_TRUNCATED, ERR_INVALID (lengths, version 1): such a datagram is dropped quietly. */
int ike_peek(struct slice datagram, struct ike_peek *out);
/* The slot that our SPI names, when its MAC is right (slot 10 | random 22 | MAC 32); else -1. */
int ike_spi_slot(const struct secret *spi_key, uint64_t spi_i, uint64_t our_spi);
/* Whether a datagram is what the peer of this IKE SA may say next, under its keys: the next
 * request or a later one, the last one again, or the answer to our outstanding request. Only then
 * is the SA of a dead node adopted. Opens SK, so it costs about 2 us. */
bool ike_fits(const struct record *ike, struct slice datagram);
/* Whether the engine holds this SA, half-open ones included. */
bool ike_owns(const struct ike_engine *engine, uint64_t our_spi);

struct ike_stats {
    uint64_t half_open, established;
    uint64_t datagrams, malformed, no_epoch, cookies, prefix_full, auth_ok, auth_failed, rekeys,
        deletes, retransmits, timeouts, reassembled, fragments_lost, moves, move_probes,
        move_probes_failed;
};
void ike_get_stats(const struct ike_engine *engine, struct ike_stats *out);

#endif
