/* The mesh over nng, which only this file and transport_req.c know.
 *
 * Each member publishes on its port and answers requests on the next one. Each dials every
 * other: one SUB socket with a dialer per peer, and one REQ socket per peer, because nng
 * would spread the requests of one socket over its peers. What is published to us the loop
 * thread takes from the SUB socket itself. Requests run on nng's threads by asynchronous
 * operations whose callbacks put what came into the inbox, or note what became of a send; the
 * loop thread drains the inbox.
 *
 * PUB sends everything to everyone. What is for one member alone (acknowledgements, forwarded
 * datagrams, votes) goes to its REP socket as a note, which is a request with an empty answer: at
 * 16 members that halves the work that an SA is. When there is no connection or no free context PUB
 * takes it. What is published begins with two octets of ours that say whom it is for, and SUB
 * subscribes to what is for all and for us. Whoever changes these octets, or the first one of a
 * request, can do no more than drop frames: what counts is in the frame.
 *
 * What nng does not do is done here. A peer that vanished without a TCP reset leaves a
 * subscription that is silent for ever: members announce themselves ten times a second, so
 * a pipe silent for SILENCE_MS is closed and dialled anew, and so is one on which several
 * requests in a row timed out (nng then sends what is still open once more: requests may
 * come twice). nng's dialers wait for connect() as long as the kernel tries, whose pauses grow with
 * every SYN that is lost, so after a long partition they would be late: a dialer that got nowhere
 * within DIAL_MS is replaced. Closing a pipe into which messages are pouring can block nng's
 * reaper for good, and its dialer then never begins again (nanomsg/nng#1824): a new one does, and
 * the time that this process itself stood still is nobody's silence.
 *
 * A REP context keeps its request until it is answered; one that nobody answers is taken back
 * after ANSWER_MS. nng_close may hang under traffic, so sockets are opened once and left to
 * the end of the process; transport close only cuts them off from the loop. Frames are sealed
 * before they come here, so it is plain tcp://. */
#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/pubsub0/sub.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/util/platform.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "proto/log.h"
#include "sync/transport_nng.h"

enum {
    /* Messages per subscriber; the oldest is dropped. All subscribers' queues share the messages,
     * so one that sleeps costs 1024 Updates of 96 KB at most. What it missed it pulls. */
    PUB_QUEUE = 1024,
    SUB_QUEUE = 4096, /* of all members together: what comes while the loop is busy */
    RECONNECT_MIN_MS = 50,
    RECONNECT_MAX_MS = 500,
    SILENCE_MS = 2000,
    DIAL_MS = 1500,
    WATCH_EVERY_MS = 500,
    FRAMES_AT_ONCE = 256, /* published ones delivered in a turn of the loop */
};

/* Closed transports stay: nng's threads may still be in their callbacks. */
static struct nng_transport *closed_transports;

static struct nng_transport *self_of(struct transport *t)
{
    return (struct nng_transport *)(void *)t;
}

static int told(const char *what, const char *url, int rv)
{
    log_error("mesh", "%s %s: %s", what, url, nng_strerror(rv));
    return ERR_IO;
}

static void url_of(const struct transport_peer *p, uint16_t port, char out[URL_BYTES])
{
    bool v6 = strchr(p->host, ':') && p->host[0] != '[';

    snprintf(out, URL_BYTES, v6 ? "tcp://[%s]:%u" : "tcp://%s:%u", p->host, port);
}

struct slice mesh_body(nng_msg *msg)
{
    return (struct slice){nng_msg_body(msg), nng_msg_len(msg)};
}

/* Octets of ours, and then the frame. */
nng_msg *mesh_msg(struct slice head, struct slice bytes)
{
    nng_msg *msg;

    if (nng_msg_alloc(&msg, 0) != 0)
        return NULL;
    if (nng_msg_append(msg, head.p, head.n) != 0 || nng_msg_append(msg, bytes.p, bytes.n) != 0) {
        nng_msg_free(msg);
        return NULL;
    }
    return msg;
}

static void topic_of(uint16_t slot, uint8_t out[TOPIC_BYTES])
{
    struct writer w = writer_of(out, TOPIC_BYTES);

    write_u16(&w, slot);
}

/* ---- subscriptions ---- */

static int subscribe(nng_socket sub, uint16_t slot)
{
    uint8_t topic[TOPIC_BYTES];

    topic_of(slot, topic);
    return nng_socket_set(sub, NNG_OPT_SUB_SUBSCRIBE, topic, sizeof topic);
}

static void heard(struct nng_transport *t, int pipe, uint64_t now_ms)
{
    pthread_mutex_lock(&t->lock);
    t->polled_ms = now_ms;
    for (size_t i = 0; i < t->n_peers; i++)
        if (nng_pipe_id(t->peers[i]->sub_line.pipe) == pipe)
            t->peers[i]->heard_ms = now_ms;
    pthread_mutex_unlock(&t->lock);
}

/* Delivers what the SUB socket holds, on the loop thread: one change of threads fewer than by
 * an asynchronous receive. What is more than a turn's worth leaves the fd readable. */
static void take_published(struct nng_transport *t, transport_deliver_fn *deliver, void *ctx)
{
    uint64_t now_ms = nng_clock();

    heard(t, -1, now_ms);
    for (int i = 0; i < FRAMES_AT_ONCE; i++) {
        nng_msg *msg;
        if (nng_recvmsg(t->sub, &msg, NNG_FLAG_NONBLOCK) != 0)
            return;
        heard(t, nng_pipe_id(nng_msg_get_pipe(msg)), now_ms);
        if (nng_msg_trim(msg, TOPIC_BYTES) == 0)
            deliver(ctx, TRANSPORT_FRAME, 0, mesh_body(msg));
        nng_msg_free(msg);
    }
}

void mesh_line_down(struct line *line)
{
    line->pipe = (nng_pipe)NNG_PIPE_INITIALIZER;
    line->dialed_ms = nng_clock();
}

static void on_sub_pipe(nng_pipe pipe, nng_pipe_ev ev, void *arg)
{
    struct nng_transport *t = arg;
    int dialer = nng_dialer_id(nng_pipe_dialer(pipe));

    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->n_peers; i++) {
        struct peer_link *p = t->peers[i];
        if (ev == NNG_PIPE_EV_ADD_POST && nng_dialer_id(p->sub_line.dialer) == dialer) {
            p->sub_line.pipe = pipe;
            p->heard_ms = nng_clock();
        } else if (ev == NNG_PIPE_EV_REM_POST &&
                   nng_pipe_id(p->sub_line.pipe) == nng_pipe_id(pipe)) {
            mesh_line_down(&p->sub_line);
        }
    }
    pthread_mutex_unlock(&t->lock);
}

static int dial(struct nng_transport *t, nng_socket s, struct line *line)
{
    nng_dialer dialer;
    int rv;

    pthread_mutex_lock(&t->lock);
    rv = nng_dialer_create(&dialer, s, line->url);
    if (rv == 0)
        line->dialer = dialer;
    line->dialed_ms = nng_clock();
    pthread_mutex_unlock(&t->lock);
    return rv ? rv : nng_dialer_start(dialer, NNG_FLAG_NONBLOCK);
}

/* A new dialer for a line that is down for too long. */
static void dial_anew(struct nng_transport *t, nng_socket s, struct line *line)
{
    nng_dialer old;
    bool due;

    pthread_mutex_lock(&t->lock);
    old = line->dialer;
    due = nng_pipe_id(line->pipe) <= 0 && nng_clock() - line->dialed_ms > DIAL_MS;
    pthread_mutex_unlock(&t->lock);
    if (!due)
        return;
    (void)nng_dialer_close(old);
    (void)dial(t, s, line); /* without memory: once more at a later look */
}

/* Late by more than an interval: we stood still (SIGSTOP, a busy machine), and what the others
 * said meanwhile is about to be read. The same when only the loop stands still; where nothing
 * waits for it, it need not have looked. */
static bool stood_still(struct nng_transport *t)
{
    struct pollfd waits = {.fd = t->base.fd, .events = POLLIN};
    uint64_t now_ms = nng_clock(), before_ms = t->watched_ms;
    bool full = poll(&waits, 1, 0) > 0, still;

    t->watched_ms = now_ms;
    pthread_mutex_lock(&t->lock);
    still =
        now_ms - before_ms > 2 * WATCH_EVERY_MS || (full && now_ms - t->polled_ms > WATCH_EVERY_MS);
    for (size_t i = 0; still && i < t->n_peers; i++)
        t->peers[i]->heard_ms = now_ms;
    pthread_mutex_unlock(&t->lock);
    return still;
}

static void cut_off_line(struct nng_transport *t, struct line *line)
{
    nng_dialer dialer;
    nng_pipe pipe;

    pthread_mutex_lock(&t->lock);
    dialer = line->dialer;
    pipe = line->pipe;
    pthread_mutex_unlock(&t->lock);
    (void)nng_dialer_close(dialer);
    if (nng_pipe_id(pipe) > 0)
        (void)nng_pipe_close(pipe);
}

static void cut_off_peer(struct peer_link *p)
{
    if (p->cut)
        return;
    p->cut = true;
    cut_off_line(p->t, &p->sub_line);
    cut_off_line(p->t, &p->req_line);
}

/* Silent pipes are closed; their dialers begin again, or new ones. */
static void on_watch(void *arg)
{
    struct nng_transport *t = arg;

    if (nng_aio_result(t->watch_aio) != 0)
        return;
    if (stood_still(t)) {
        nng_sleep_aio(WATCH_EVERY_MS, t->watch_aio);
        return;
    }
    for (size_t i = 0; i < t->n_peers; i++) {
        struct peer_link *p = t->peers[i];
        nng_pipe silent = NNG_PIPE_INITIALIZER;
        if (atomic_load(&p->gone)) {
            cut_off_peer(p);
            continue;
        }
        pthread_mutex_lock(&t->lock);
        if (nng_pipe_id(p->sub_line.pipe) > 0 && nng_clock() - p->heard_ms > SILENCE_MS) {
            silent = p->sub_line.pipe;
            mesh_line_down(&p->sub_line);
        }
        pthread_mutex_unlock(&t->lock);
        if (nng_pipe_id(silent) > 0) {
            log_info("mesh", "member %u is silent: dialling it anew", p->slot);
            (void)nng_pipe_close(silent);
        }
        dial_anew(t, t->sub, &p->sub_line);
        dial_anew(t, p->req, &p->req_line);
    }
    nng_sleep_aio(WATCH_EVERY_MS, t->watch_aio);
}

/* ---- what we send ---- */

static struct peer_link *link_to(struct nng_transport *t, uint16_t slot)
{
    struct peer_link *p = NULL;

    for (size_t i = 0; i < t->n_peers; i++)
        if (t->peers[i]->slot == slot && !atomic_load(&t->peers[i]->gone))
            p = t->peers[i];
    return p;
}

static int nng_publish(struct transport *t, uint16_t to_slot, struct slice bytes)
{
    struct peer_link *p = to_slot == SLOT_ALL ? NULL : link_to(self_of(t), to_slot);
    uint8_t topic[TOPIC_BYTES];
    nng_msg *msg;

    if (bytes.n > TRANSPORT_FRAME_MAX)
        return ERR_FULL;
    if (p && req_note(p, bytes))
        return ERR_OK;
    topic_of(to_slot, topic);
    msg = mesh_msg((struct slice){topic, sizeof topic}, bytes);
    if (!msg)
        return ERR_NOMEM;
    if (nng_sendmsg(self_of(t)->pub, msg, NNG_FLAG_NONBLOCK) != 0) {
        nng_msg_free(msg);
        return ERR_IO;
    }
    return ERR_OK;
}

static int nng_request(struct transport *t, uint16_t slot, uint64_t id, struct slice bytes)
{
    struct peer_link *p = link_to(self_of(t), slot);

    if (bytes.n > TRANSPORT_FRAME_MAX)
        return ERR_FULL;
    return p ? req_ask(p, id, bytes) : ERR_NOT_FOUND;
}

static int nng_reply(struct transport *t, uint64_t id, struct slice bytes)
{
    return rep_answer(self_of(t), id, bytes);
}

static void nng_poll(struct transport *t, transport_deliver_fn *deliver, void *ctx)
{
    struct nng_transport *self = self_of(t);

    take_published(self, deliver, ctx);
    req_poll(self, deliver, ctx);
}

static void nng_cut_off(struct transport *t)
{
    struct nng_transport *self = self_of(t);

    inbox_close(&self->inbox);
    self->next_closed = closed_transports;
    closed_transports = self;
}

/* ---- opening ---- */

static int limit_size(nng_socket s)
{
    _Static_assert((int)REQ_OCTETS <= (int)TOPIC_BYTES, "requests fit");

    return nng_socket_set_size(s, NNG_OPT_RECVMAXSZ, TOPIC_BYTES + TRANSPORT_FRAME_MAX);
}

static int set_reconnect(nng_socket s)
{
    int rv = nng_socket_set_ms(s, NNG_OPT_RECONNMINT, RECONNECT_MIN_MS);

    return rv ? rv : nng_socket_set_ms(s, NNG_OPT_RECONNMAXT, RECONNECT_MAX_MS);
}

static int open_listeners(struct nng_transport *t, const struct transport_peer *self)
{
    char url[URL_BYTES];
    int rv;

    url_of(self, self->port, url);
    if ((rv = nng_pub0_open(&t->pub)) != 0 || (rv = limit_size(t->pub)) != 0 ||
        (rv = nng_socket_set_int(t->pub, NNG_OPT_SENDBUF, PUB_QUEUE)) != 0 ||
        (rv = nng_listen(t->pub, url, NULL, 0)) != 0)
        return told("cannot publish on", url, rv);
    url_of(self, (uint16_t)(self->port + 1), url);
    if ((rv = nng_rep0_open(&t->rep)) != 0 || (rv = limit_size(t->rep)) != 0 ||
        (rv = rep_open(t)) != 0)
        return told("cannot answer on", url, rv);
    if ((rv = nng_listen(t->rep, url, NULL, 0)) != 0)
        return told("cannot answer on", url, rv);
    return ERR_OK;
}

static int open_subscriber(struct nng_transport *t, uint16_t slot)
{
    int rv;

    if ((rv = nng_sub0_open(&t->sub)) != 0 || (rv = limit_size(t->sub)) != 0 ||
        (rv = set_reconnect(t->sub)) != 0 ||
        (rv = nng_socket_set_int(t->sub, NNG_OPT_RECVBUF, SUB_QUEUE)) != 0 ||
        (rv = subscribe(t->sub, SLOT_ALL)) != 0 || (rv = subscribe(t->sub, slot)) != 0 ||
        (rv = nng_pipe_notify(t->sub, NNG_PIPE_EV_ADD_POST, on_sub_pipe, t)) != 0 ||
        (rv = nng_pipe_notify(t->sub, NNG_PIPE_EV_REM_POST, on_sub_pipe, t)) != 0 ||
        (rv = nng_socket_get_int(t->sub, NNG_OPT_RECVFD, &t->base.fd)) != 0 ||
        (rv = nng_aio_alloc(&t->watch_aio, on_watch, t)) != 0)
        return told("cannot subscribe", "", rv);
    t->polled_ms = nng_clock();
    return ERR_OK;
}

static int open_peer(struct nng_transport *t, const struct transport_peer *peer,
                     struct peer_link *p)
{
    int rv;

    p->t = t;
    p->slot = peer->slot;
    url_of(peer, peer->port, p->sub_line.url);
    url_of(peer, (uint16_t)(peer->port + 1), p->req_line.url);
    if ((rv = nng_req0_open(&p->req)) != 0 || (rv = limit_size(p->req)) != 0 ||
        (rv = set_reconnect(p->req)) != 0 || (rv = req_open(p)) != 0)
        return told("cannot dial", p->req_line.url, rv);
    if ((rv = dial(t, p->req, &p->req_line)) != 0)
        return told("cannot dial", p->req_line.url, rv);
    if ((rv = dial(t, t->sub, &p->sub_line)) != 0)
        return told("cannot dial", p->sub_line.url, rv);
    return ERR_OK;
}

static int add_peer(struct nng_transport *t, const struct transport_peer *peer)
{
    struct peer_link *p;
    size_t n = atomic_load(&t->n_peers);
    int rc;

    if (n == LINKS_MAX)
        return ERR_FULL;
    p = calloc(1, sizeof *p);
    if (!p)
        return ERR_NOMEM;
    t->peers[n] = p;
    atomic_store(&t->n_peers, n + 1);
    rc = open_peer(t, peer, p);
    if (rc != ERR_OK)
        atomic_store(&p->gone, true);
    return rc;
}

static bool leads_to(const struct peer_link *p, const struct transport_peer *peer)
{
    char url[URL_BYTES];

    url_of(peer, peer->port, url);
    return p->slot == peer->slot && strcmp(p->sub_line.url, url) == 0;
}

static int nng_set_peers(struct transport *transport, const struct transport_peer *others, size_t n)
{
    struct nng_transport *t = self_of(transport);
    size_t before = t->n_peers;
    int rc = ERR_OK;

    for (size_t i = 0; i < before; i++) {
        bool stays = false;
        for (size_t k = 0; k < n; k++)
            stays = stays || leads_to(t->peers[i], &others[k]);
        if (!stays)
            atomic_store(&t->peers[i]->gone, true);
    }
    for (size_t k = 0; k < n; k++) {
        bool known = false;
        for (size_t i = 0; i < before; i++)
            known =
                known || (!atomic_load(&t->peers[i]->gone) && leads_to(t->peers[i], &others[k]));
        if (!known && add_peer(t, &others[k]) != ERR_OK)
            rc = ERR_IO;
    }
    return rc;
}

static const struct transport_ops nng_ops = {
    nng_publish, nng_request, nng_reply, nng_poll, nng_cut_off, nng_set_peers,
};

static void nothing(void *arg)
{
    (void)arg;
}

int transport_nng_prepare(void)
{
    nng_aio *aio;

    if (nng_aio_alloc(&aio, nothing, NULL) != 0)
        return ERR_NOMEM;
    nng_aio_free(aio);
    return ERR_OK;
}

int transport_nng_open(const struct transport_peer *self, const struct transport_peer *others,
                       size_t n_others, void (*wake)(void *ctx), void *wake_ctx,
                       struct transport **out)
{
    struct nng_transport *t = calloc(1, sizeof *t);
    int rc;

    *out = NULL;
    if (!t)
        return ERR_NOMEM;
    t->base.ops = &nng_ops;
    t->base.fd = -1;
    pthread_mutex_init(&t->lock, NULL);
    inbox_init(&t->inbox, wake, wake_ctx);
    rc = open_listeners(t, self);
    if (rc == ERR_OK)
        rc = open_subscriber(t, self->slot);
    for (size_t i = 0; rc == ERR_OK && i < n_others; i++)
        rc = add_peer(t, &others[i]);
    if (rc != ERR_OK) {
        nng_cut_off(&t->base);
        return rc;
    }
    t->watched_ms = nng_clock();
    nng_sleep_aio(WATCH_EVERY_MS, t->watch_aio);
    *out = &t->base;
    return ERR_OK;
}
