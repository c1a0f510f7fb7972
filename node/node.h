/* anysad from the inside: what the parts of node/ share. node.c tells the story.
 *
 * Threads: all of it lives on the loop thread. Two functions are called by other
 * threads, both wake callbacks that do nothing but uv_async_send; key jobs run on
 * libuv's thread pool and touch nothing but themselves. */
#ifndef NODE_NODE_H
#define NODE_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "dataplane/dataplane.h"
#include "ike/ike.h"
#include "node/config.h"
#include "node/histogram.h"
#include "node/http.h"
#include "node/keys.h"
#include "node/steering.h"
#include "proto/record.h"
#include "sync/store.h"
#include "sync/sync.h"
#include "sync/transport.h"

enum {
    NODE_SYNC_TICK_MS = 10,
    NODE_IKE_TICK_MS = 100,
    NODE_IKE_STEPS_PER_TICK = 256, /* packets and records wait no longer than these take */
    NODE_LINGER_MS = 100,          /* after SIGTERM: the others hear that we leave, */
    NODE_LAST_WORDS_MS = 30,       /* for the mesh to bring our last Announce out */
    NODE_HAND_OVER_MS = 2000,      /* and have our IKE SAs, or we go without */
    NODE_STOP_LIMIT_S = 5,         /* after SIGTERM: then the watchdog ends the process */
    NODE_REASONS_MAX = 8,
    NODE_FAILURE_TEXT = 256,
};

/* A tunnel of the configuration and what happened to it here. */
struct tunnel_state {
    struct id128 id;
    const struct config_tunnel *config; /* borrowed; dies at a reload, with the whole table */
    bool up;                            /* as of the last question of the API */
    int64_t failed_ms;                  /* of the last failed negotiation; 0: none */
    char reason[NODE_FAILURE_TEXT];
};

struct tunnel_table { /* sorted by id; owned */
    struct tunnel_state *t;
    size_t n;
};

struct node_counters {
    uint64_t steered[STEER_REASON_COUNT];
    uint64_t forwarded_in; /* IKE datagrams that other nodes passed to us */
    uint64_t barrier_timeouts;
    uint64_t no_memory; /* events that were lost for want of memory */
    uint64_t ike_send_failed;
    uint64_t install_failed;  /* dp_sa_apply refused */
    uint64_t unknown_tunnel;  /* Child SAs stored but not installed: no such tunnel here */
    uint64_t moves_heard;     /* peers that other nodes heard elsewhere */
    uint64_t misses;          /* lanes' reports of SPIs that are not here, of live slots */
    uint64_t misses_over;     /* of these: nobody had the SA, or it was deleted */
    uint64_t resumed;         /* own IKE SAs taken up after a restart or a hand-over */
    uint64_t adopted;         /* IKE SAs of dead nodes taken over */
    uint64_t adoption_full;   /* datagrams that had no room to wait for that */
    uint64_t activity_rounds; /* questions to the others, when they last heard some peers */
    uint64_t handed_over;     /* IKE SAs given to others while draining */
    uint64_t reloads, reloads_failed;
};

struct own_spis { /* Child SAs that this process negotiated, by spi_in */
    uint32_t *spi;
    size_t n, cap;
};

struct pending;  /* events.c */
struct takeover; /* takeover.c */
struct activity; /* activity.c */
struct purge;    /* purge.c */

struct node {
    struct config *config; /* the caller's */
    int state_dir_fd;      /* holds the lock */

    uv_loop_t loop;
    uv_signal_t on_term, on_int, on_hup;
    uv_timer_t sync_tick, ike_tick, linger;
    uv_prepare_t before_sleep;
    uv_check_t after_sleep;
    uv_async_t transport_wake, store_wake;
    uv_poll_t dp_wake, frames_wake;

    struct sync_core *sync;
    struct store *store;
    struct transport *transport; /* NULL until it is open */
    struct ike_engine *ike;
    struct dp *dp;     /* NULL until it is up, and after it is down */
    int generation_fd; /* generation.c; -1: none */
    uv_poll_t generation_poll;
    struct http *http;
    struct http_site site;

    /* events.c: what waits until the step that runs now is carried out */
    struct pending *first_pending, **last_pending;
    bool stepping;
    bool flush_due;       /* a step of this turn may have held something back */
    bool purging;         /* such a one of the purge: the engine does not know of it */
    bool putting_deleted; /* the step that runs now is a PUT of ours that deletes */

    /* effects.c: what the store said last */
    uint64_t journaled; /* the highest durable ticket */
    bool journal_failed;
    char journal_why[STORE_WHY_BYTES]; /* while it has failed */

    /* IVs of lane 15: (epoch, counter), never the same twice */
    uint32_t epoch; /* granted; 0 none */
    uint32_t ike_iv_counter;
    uint32_t iv_max;       /* where the counters end: 2^32 - 1 but for tests */
    uint32_t epoch_wanted; /* the epoch whose successor was asked for */
    bool iv_exhausted;     /* nothing can be sealed before another epoch is granted */
    bool muted; /* another process may use our IVs: nothing is encrypted any more, exit code 1 */
    struct own_spis own; /* made while nothing was granted */

    struct takeover *takeover;
    struct activity *activity;
    struct purge *purge; /* under way; else NULL */
    struct tunnel_table tunnels;
    struct node_keys keys;         /* keys.c */
    struct secret fingerprint_key; /* derived from the cluster key that sends */

    bool ready, was_ready, draining, stopping, left;
    uint64_t stopping_us;     /* monotonic */
    bool no_install;          /* test hook: Child SAs are not installed here */
    struct contact *contacts; /* contacts.c */
    bool told_waiting;        /* the log says that we wait for others */
    int64_t started_ms;
    struct node_counters counters;
    struct histogram barrier_us, sync_lag_us;
};

/* ---- node.c ---- */
/* Monotonic, of the last authentic packet on a Child SA here; 0: none, or no such SA. */
uint64_t node_last_inbound_us(void *ctx, uint32_t spi_in);
bool node_has_majority(const struct node *node); /* of the member list live, ourselves included */
/* Readiness off and the IKE SAs to other nodes, or back. */
void node_drain(struct node *node, bool draining);
/* Runs until SIGTERM or SIGINT; returns the exit code (0, 1). The configuration is borrowed.
 * Afterwards the process must end by _exit: nng's threads are never stopped. */
int node_run(struct config *config);

/* ---- events.c: the two cores, stepped one at a time ---- */
/* Steps the core and carries out what it asks for; if a step is being carried out already,
 * the event waits for its end (bytes and the record are copied then). The records of a PUT
 * and the job of a JOB are taken in any case. */
void node_sync(struct node *node, const struct sync_event *event);
void node_ike(struct node *node, const struct ike_event *event);
/* At the end of a turn of the loop, and before it sleeps. */
void node_flush(struct node *node);

/* Another process has our slot and the better claim, or is our copy: encrypts nothing more, ends
 * the loop. */
void node_stop_at_once(struct node *node);

/* ---- generation.c: stops at once when the machine was cloned or set back ---- */
int node_generation_open(struct node *node); /* where the kernel tells nothing, so be it */
void node_generation_close(struct node *node);
bool generation_is_new(const char *uevent, size_t n);

/* ---- effects.c, actions.c: one wish of a core each ---- */
void node_carry_out_effect(struct node *node, const struct sync_effect *fx);
void node_carry_out_action(struct node *node, const struct ike_action *action);
void node_store_poll(struct node *node);     /* tickets of the store */
void node_transport_poll(struct node *node); /* what the mesh brought */

/* ---- records.c: the one install path, for own records and for the others' ---- */
void node_on_record(struct node *node, const struct record *record);
/* Notes the Child SAs that a group of ours makes, as long as no epoch is granted. */
void node_note_own(struct node *node, struct record *const *group, size_t n);
/* After a reload: installs what is stored and has a tunnel now, removes what has none any more. */
void node_install_all(struct node *node);
/* Takes every SA out of the dataplane again. */
void node_remove_all(struct node *node);
/* dp_callbacks.moved: a lane heard the peer of this SA elsewhere. Told to the owner of its IKE SA,
 * here or on another node. */
void node_on_moved(void *ctx, uint32_t spi_in, const struct endpoint *peer);
/* The same from another node; never told on. */
void node_on_moved_elsewhere(struct node *node, uint32_t spi_in, const struct endpoint *peer);
/* Where a Child SA's peer is: its record's, or where it moved to. */
const struct endpoint *node_child_peer(const struct node *node, const struct child_record *sa);
const struct record *node_find_endpoint(void *ctx, uint32_t spi_in); /* for the engine */
/* dp_callbacks.confirmed: the peer has sent on this SA, so it has it. */
void node_on_confirmed(void *ctx, uint32_t spi_in);

/* ---- steer_ike.c ---- */
/* A datagram from a socket, or (forwarded) from another node. Bytes are borrowed. */
void node_on_ike_datagram(struct node *node, const struct endpoint *local,
                          const struct endpoint *peer, struct slice bytes, bool forwarded);
bool node_may_negotiate(const struct node *node);
bool node_may_adopt(const struct node *node); /* or take up what a process before us spoke for */

/* ---- takeover.c: IKE SAs that another process owned ---- */
void node_takeover_tick(struct node *node);
/* A record that names our slot, but not this process: late, or handed over. */
void node_takeover_offer(struct node *node, const struct record *ike);
/* A datagram for an SA whose owner is dead; all borrowed. Nothing happens if it is not its peer's.
 */
void node_adopt(struct node *node, const struct record *ike, const struct endpoint *local,
                const struct endpoint *peer, struct slice bytes);
void node_takeover_on_barrier(struct node *node, uint64_t barrier);
bool node_takeover_is_barrier(uint64_t barrier);
/* While draining: nothing is left that another node could have. */
bool node_takeover_drained(struct node *node);
void node_takeover_free(struct node *node);

/* ---- activity.c: when a peer was last heard, anywhere ---- */
void node_activity_ask(struct node *node, const struct ike_action *ask);
void node_on_activity(struct node *node, const struct sync_activity *said);
void node_activity_tick(struct node *node); /* after the engine's */
void node_activity_free(struct node *node);

/* contacts.c: the IKE SAs of each tunnel, for INITIAL_CONTACT. */
void node_contacts_record(struct node *node, const struct ike_record *ike);
void node_contacts_each(void *ctx, const struct id128 *tunnel, uint64_t before_us, ike_visit_fn *f,
                        void *f_ctx);
void node_contacts_free(struct node *node);

/* ---- tunnels.c ---- */
/* Hands the configuration's tunnels and routes to the engine and the dataplane (those that
 * exist). 0, ERR_NOMEM or the dataplane's. Last failures are kept. */
int node_apply_tunnels(struct node *node);
int node_tunnels_to_engine(struct node *node);
struct tunnel_state *node_find_tunnel(const struct node *node, const struct id128 *id);
void node_tunnel_failed(struct node *node, const struct id128 *id, const char *reason);
void node_reload(struct node *node); /* SIGHUP */
void node_free_tunnels(struct node *node);

/* ---- keys.c ---- */
int node_keys_open(struct node *node);    /* from the configuration */
void node_keys_reload(struct node *node); /* SIGHUP: the key file is read again */
void node_keys_tick(struct node *node);

/* ---- members.c ---- */
void node_members_reload(struct node *node); /* SIGHUP: the member list is read again */
struct transport_peer node_mesh_peer(const struct config_member *member);
/* All members but us; the caller frees them. NULL: no memory. */
struct transport_peer *node_mesh_others(const struct node *node, size_t *n);

/* ---- purge.c ---- */
struct node_purged {
    size_t ike_sas, child_sas; /* that it is about to delete; 0 while another one is under way */
};
bool node_purge(struct node *node, struct node_purged *out); /* false: no memory */
void node_purge_tick(struct node *node);
void node_purge_free(struct node *node);

/* ---- ready.c ---- */
struct readiness {
    const char *reasons[NODE_REASONS_MAX]; /* why not; static storage */
    const char *details[NODE_REASONS_MAX]; /* more about it, the node's; or NULL */
    size_t n;                              /* 0: ready */
};
struct readiness node_readiness(const struct node *node);
void node_update_ready(struct node *node); /* tells the core and the log when it changes */

/* ---- host.c: what the machine must offer ---- */
/* 0, or ERR_CONFIG with a log line that names the address and the remedy. */
int host_check_anycast(const struct config *config);
void host_warn_sysctls(void);
/* Makes the directory (0700) and locks it against a second anysad. A descriptor to keep open,
 * or -1 with a log line. */
int host_take_state_dir(const char *path);

#endif
