/* The inside of the nng transport, shared by transport_nng.c, which has the picture, and
 * transport_req.c alone. Functions run on the loop thread where nothing else is said. */
#ifndef SYNC_TRANSPORT_NNG_H
#define SYNC_TRANSPORT_NNG_H

#include <nng/nng.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "sync/inbox.h"
#include "sync/transport.h"

enum {
    CALLS_PER_PEER = 4, /* requests under way, */
    NOTES_PER_PEER = 8, /* and frames for this one alone; more go by PUB */
    ANSWERS = 32,       /* requests being answered */
    LINKS_MAX = 2048,   /* members, and those that were and are no more */
    URL_BYTES = 320,
    TOPIC_BYTES = 2, /* of what is published: the destination's slot, or SLOT_ALL; big-endian */
    REQ_OCTETS = 1,  /* of what goes to REP: its kind */
};

struct call { /* a request of ours, or a note: a frame that is answered by nothing at once */
    struct peer_link *peer;
    bool note;
    nng_ctx ctx;
    nng_aio *aio;
    _Atomic int state;
    uint64_t id;
};

struct answer { /* a request of theirs */
    struct nng_transport *t;
    nng_ctx ctx;
    nng_aio *aio;
    _Atomic int state;
    _Atomic uint64_t since_ms; /* of ANSWER_WAITING */
    _Atomic uint64_t generation;
};

struct line { /* a connection that we dial */
    char url[URL_BYTES];
    /* under the transport's lock */
    nng_dialer dialer;
    nng_pipe pipe;      /* id 0: none */
    uint64_t dialed_ms; /* since when there is none */
};

struct peer_link {
    struct nng_transport *t;
    uint16_t slot;
    _Atomic bool gone; /* no member any more: on_watch cuts it off */
    bool cut;          /* on_watch's: it is done */
    nng_socket req;
    struct call calls[CALLS_PER_PEER + NOTES_PER_PEER]; /* notes come last */
    struct line sub_line, req_line;
    /* under the transport's lock */
    uint64_t heard_ms;
    unsigned timeouts; /* of requests, in a row */
};

struct nng_transport {
    struct transport base; /* first: ops are called with it */
    struct inbox inbox;
    pthread_mutex_t lock;
    nng_socket pub, sub, rep;
    nng_aio *watch_aio;
    uint64_t watched_ms; /* when on_watch ran last; its own */
    uint64_t polled_ms;  /* under the lock: when the loop last took what came */
    struct answer answers[ANSWERS];
    /* Links are added, and never taken away: nng's threads may be at one. */
    struct peer_link *peers[LINKS_MAX];
    _Atomic size_t n_peers;
    struct nng_transport *next_closed;
};

/* ---- transport_nng.c ---- */
/* Octets of ours, and then the frame; NULL: no memory. Any thread. */
nng_msg *mesh_msg(struct slice head, struct slice bytes);
struct slice mesh_body(nng_msg *msg);   /* lives as long as the message; any thread */
void mesh_line_down(struct line *line); /* any thread, under the lock */

/* ---- transport_req.c: requests and notes, ours and theirs ---- */
/* The contexts of a peer's REQ socket, which is open; an nng error. */
int req_open(struct peer_link *p);
/* The answer, or its failure, comes as TRANSPORT_REPLY. ERR_BUSY: too many are under way. */
int req_ask(struct peer_link *p, uint64_t id, struct slice bytes);
/* A frame for this one alone. False: there is no connection or no room; PUB reaches it, too. */
bool req_note(struct peer_link *p, struct slice bytes);
/* The contexts of our REP socket, which is open; an nng error. */
int rep_open(struct nng_transport *t);
/* Empty bytes let the request go without an answer. */
int rep_answer(struct nng_transport *t, uint64_t id, struct slice bytes);
/* Delivers what the inbox holds of these and of replies to us; ends what waits for too long. */
void req_poll(struct nng_transport *t, transport_deliver_fn *deliver, void *ctx);

#endif
