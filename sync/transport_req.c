/* Requests and notes between two members, by REQ and REP: see transport_nng.c.
 *
 * Asynchronous operations of nng run them on its threads; their callbacks put what came into the
 * inbox, or note what became of a send. The loop thread drains the inbox, and answers. */
#include <nng/nng.h>
#include <nng/supplemental/util/platform.h>

#include "proto/err.h"
#include "sync/transport_nng.h"

enum {
    REQUEST_MS = 1000,
    ANSWER_MS = 5000,
    TIMEOUTS_IN_A_ROW = 3,
};

enum call_state { CALL_FREE, CALL_SENDING, CALL_RECEIVING };
enum answer_state { ANSWER_RECEIVING, ANSWER_WAITING, ANSWER_SENDING };
enum { REQ_QUESTION = 1, REQ_NOTE = 2 }; /* the first octet of what goes to REP */
#define NOTE_ID (UINT64_C(1) << 63)      /* in the inbox, with the request's id */

/* ---- our requests ---- */

static void on_req_pipe(nng_pipe pipe, nng_pipe_ev ev, void *arg)
{
    struct peer_link *p = arg;

    pthread_mutex_lock(&p->t->lock);
    if (ev == NNG_PIPE_EV_ADD_POST)
        p->req_line.pipe = pipe;
    else if (nng_pipe_id(p->req_line.pipe) == nng_pipe_id(pipe))
        mesh_line_down(&p->req_line);
    pthread_mutex_unlock(&p->t->lock);
}

/* The call is free again before its end is told, so that an answer may be followed by a
 * request at once; send_call waits for the callback to return. */
static void call_failed(struct call *c, int rv)
{
    struct inbox *inbox = &c->peer->t->inbox;
    uint64_t id = c->id;
    nng_pipe stuck = NNG_PIPE_INITIALIZER;

    pthread_mutex_lock(&c->peer->t->lock);
    if (rv == NNG_ETIMEDOUT && ++c->peer->timeouts >= TIMEOUTS_IN_A_ROW) {
        stuck = c->peer->req_line.pipe;
        c->peer->timeouts = 0;
    }
    pthread_mutex_unlock(&c->peer->t->lock);
    if (nng_pipe_id(stuck) > 0)
        (void)nng_pipe_close(stuck);
    atomic_store(&c->state, CALL_FREE);
    if (!c->note)
        inbox_push(inbox, TRANSPORT_REPLY, id, (struct slice){NULL, 0});
}

static void on_call(void *arg)
{
    struct call *c = arg;
    struct inbox *inbox = &c->peer->t->inbox;
    uint64_t id = c->id;
    int rv = nng_aio_result(c->aio);
    nng_msg *msg = nng_aio_get_msg(c->aio);

    if (atomic_load(&c->state) == CALL_SENDING) {
        if (rv != 0) {
            if (msg)
                nng_msg_free(msg);
            nng_aio_set_msg(c->aio, NULL);
            call_failed(c, rv);
            return;
        }
        atomic_store(&c->state, CALL_RECEIVING);
        nng_aio_set_timeout(c->aio, REQUEST_MS);
        nng_ctx_recv(c->ctx, c->aio);
        return;
    }
    if (rv != 0) {
        call_failed(c, rv);
        return;
    }
    pthread_mutex_lock(&c->peer->t->lock);
    c->peer->timeouts = 0;
    pthread_mutex_unlock(&c->peer->t->lock);
    nng_aio_set_msg(c->aio, NULL);
    atomic_store(&c->state, CALL_FREE);
    if (!c->note)
        inbox_push(inbox, TRANSPORT_REPLY, id, mesh_body(msg));
    nng_msg_free(msg);
}

static struct call *free_call(struct peer_link *p, size_t first, size_t n)
{
    for (size_t i = first; i < first + n; i++)
        if (atomic_load(&p->calls[i].state) == CALL_FREE)
            return &p->calls[i];
    return NULL;
}

static int send_call(struct call *c, uint8_t kind, uint64_t id, struct slice bytes)
{
    nng_msg *msg = mesh_msg((struct slice){&kind, REQ_OCTETS}, bytes);

    if (!msg)
        return ERR_NOMEM;
    nng_aio_wait(c->aio); /* its last callback may be about to return */
    c->id = id;
    atomic_store(&c->state, CALL_SENDING);
    nng_aio_set_msg(c->aio, msg);
    nng_aio_set_timeout(c->aio, REQUEST_MS);
    nng_ctx_send(c->ctx, c->aio);
    return ERR_OK;
}

int req_ask(struct peer_link *p, uint64_t id, struct slice bytes)
{
    struct call *c = free_call(p, 0, CALLS_PER_PEER);

    return c ? send_call(c, REQ_QUESTION, id, bytes) : ERR_BUSY;
}

bool req_note(struct peer_link *p, struct slice bytes)
{
    struct call *c = free_call(p, CALLS_PER_PEER, NOTES_PER_PEER);
    bool up = false;

    if (!c)
        return false;
    pthread_mutex_lock(&p->t->lock);
    up = nng_pipe_id(p->req_line.pipe) > 0;
    pthread_mutex_unlock(&p->t->lock);
    return up && send_call(c, REQ_NOTE, 0, bytes) == ERR_OK;
}

int req_open(struct peer_link *p)
{
    int rv;

    if ((rv = nng_pipe_notify(p->req, NNG_PIPE_EV_ADD_POST, on_req_pipe, p)) != 0 ||
        (rv = nng_pipe_notify(p->req, NNG_PIPE_EV_REM_POST, on_req_pipe, p)) != 0)
        return rv;
    for (size_t i = 0; i < CALLS_PER_PEER + NOTES_PER_PEER; i++) {
        struct call *c = &p->calls[i];
        c->peer = p;
        c->note = i >= CALLS_PER_PEER;
        if ((rv = nng_ctx_open(&c->ctx, p->req)) != 0 ||
            (rv = nng_aio_alloc(&c->aio, on_call, c)) != 0)
            return rv;
    }
    return 0;
}

/* ---- their requests ---- */

static void answer_receive(struct answer *a)
{
    atomic_store(&a->state, ANSWER_RECEIVING);
    nng_aio_set_timeout(a->aio, NNG_DURATION_INFINITE);
    nng_ctx_recv(a->ctx, a->aio); /* also drops a request that was not answered */
}

static void answer_send(struct answer *a, nng_msg *msg)
{
    atomic_store(&a->state, ANSWER_SENDING);
    nng_aio_set_msg(a->aio, msg);
    nng_aio_set_timeout(a->aio, REQUEST_MS);
    nng_ctx_send(a->ctx, a->aio);
}

/* Takes the first octet off; 0 when there is none. */
static uint8_t req_kind(nng_msg *msg)
{
    uint8_t kind;

    if (nng_msg_len(msg) < REQ_OCTETS)
        return 0;
    kind = *(const uint8_t *)nng_msg_body(msg);
    (void)nng_msg_trim(msg, REQ_OCTETS);
    return kind;
}

static void on_answer(void *arg)
{
    struct answer *a = arg;
    int rv = nng_aio_result(a->aio);
    nng_msg *msg = nng_aio_get_msg(a->aio);
    uint8_t kind;
    uint64_t id;

    if (rv == NNG_ECLOSED || rv == NNG_ECANCELED)
        return;
    if (atomic_load(&a->state) == ANSWER_SENDING) {
        if (rv != 0 && msg)
            nng_msg_free(msg);
        nng_aio_set_msg(a->aio, NULL);
        answer_receive(a);
        return;
    }
    if (rv != 0) {
        answer_receive(a);
        return;
    }
    nng_aio_set_msg(a->aio, NULL);
    kind = req_kind(msg);
    if (kind != REQ_QUESTION && kind != REQ_NOTE) {
        nng_msg_free(msg);
        answer_receive(a);
        return;
    }
    atomic_store(&a->since_ms, nng_clock());
    atomic_store(&a->state, ANSWER_WAITING);
    id = atomic_load(&a->generation) * ANSWERS + (uint64_t)(a - a->t->answers);
    if (kind == REQ_QUESTION)
        inbox_push(&a->t->inbox, TRANSPORT_REQUEST, id, mesh_body(msg));
    else
        inbox_push(&a->t->inbox, TRANSPORT_FRAME, NOTE_ID + id, mesh_body(msg));
    nng_msg_free(msg);
}

/* The request's context, if it still waits for its answer. */
static struct answer *answer_of(struct nng_transport *t, uint64_t id)
{
    struct answer *a = &t->answers[id % ANSWERS];

    if (atomic_load(&a->state) != ANSWER_WAITING || atomic_load(&a->generation) != id / ANSWERS)
        return NULL; /* taken back meanwhile */
    nng_aio_wait(a->aio);
    atomic_fetch_add(&a->generation, 1);
    return a;
}

int rep_answer(struct nng_transport *t, uint64_t id, struct slice bytes)
{
    struct answer *a;
    nng_msg *msg = NULL;

    if (bytes.n > TRANSPORT_FRAME_MAX)
        return ERR_FULL;
    a = answer_of(t, id);
    if (!a)
        return ERR_NOT_FOUND;
    if (bytes.n)
        msg = mesh_msg((struct slice){NULL, 0}, bytes);
    if (msg)
        answer_send(a, msg);
    else
        answer_receive(a);
    return bytes.n && !msg ? ERR_NOMEM : ERR_OK;
}

/* Its answer is empty, and leaves only now that the loop has taken it: whoever floods us with notes
 * gets no more of them into the inbox than there are contexts. */
static void answer_note(struct nng_transport *t, uint64_t id)
{
    struct answer *a = answer_of(t, id);
    nng_msg *msg;

    if (!a)
        return;
    if (nng_msg_alloc(&msg, 0) == 0)
        answer_send(a, msg);
    else
        answer_receive(a);
}

int rep_open(struct nng_transport *t)
{
    int rv;

    for (size_t i = 0; i < ANSWERS; i++) {
        struct answer *a = &t->answers[i];
        a->t = t;
        if ((rv = nng_ctx_open(&a->ctx, t->rep)) != 0 ||
            (rv = nng_aio_alloc(&a->aio, on_answer, a)) != 0)
            return rv;
        answer_receive(a);
    }
    return 0;
}

/* ---- what came of both ---- */

struct delivery {
    struct nng_transport *t;
    transport_deliver_fn *deliver;
    void *ctx;
};

static void deliver_one(void *ctx, enum transport_kind kind, uint64_t id, struct slice bytes)
{
    const struct delivery *d = ctx;
    bool note = kind == TRANSPORT_FRAME;

    d->deliver(d->ctx, kind, note ? 0 : id, bytes);
    if (note)
        answer_note(d->t, id - NOTE_ID);
}

void req_poll(struct nng_transport *t, transport_deliver_fn *deliver, void *ctx)
{
    inbox_drain(&t->inbox, deliver_one, &(struct delivery){t, deliver, ctx});
    for (size_t i = 0; i < ANSWERS; i++) {
        struct answer *a = &t->answers[i];
        if (atomic_load(&a->state) == ANSWER_WAITING &&
            nng_clock() - atomic_load(&a->since_ms) > ANSWER_MS)
            (void)rep_answer(t, atomic_load(&a->generation) * ANSWERS + i, (struct slice){NULL, 0});
    }
}
