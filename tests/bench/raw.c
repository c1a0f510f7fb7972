/* One raw nng PUB/SUB hop: slot 1 publishes to all others. The time is taken in nng's callback,
 * without any loop of ours: the floor under whatever a transport over nng does. */
#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/pubsub0/sub.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/member.h"

struct raw {
    const struct bench_cluster *c;
    uint16_t slot;
    nng_socket socket;
    nng_aio *aio;
};

static void must(int rv)
{
    if (rv == 0)
        return;
    fprintf(stderr, "nng: %s\n", nng_strerror(rv));
    _Exit(1);
}

static void on_heard(void *arg)
{
    struct raw *raw = arg;
    uint64_t now = bench_now_ns();
    nng_msg *msg;
    uint32_t number;

    if (nng_aio_result(raw->aio) != 0)
        return;
    msg = nng_aio_get_msg(raw->aio);
    memcpy(&number, nng_msg_body(msg), sizeof number);
    if (number < BENCH_SAMPLES_MAX)
        raw->c->shared->hop_heard_ns[number][raw->slot - 1] = now;
    else
        raw->c->shared->members[raw->slot - 1].raw_ready = true;
    nng_msg_free(msg);
    nng_recv_aio(raw->socket, raw->aio);
}

struct raw *raw_open(const struct bench_cluster *c, uint16_t slot)
{
    struct raw *raw = calloc(1, sizeof *raw);
    char url[64];

    raw->c = c;
    raw->slot = slot;
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", c->base_port + 2 * c->n + 2);
    if (slot == 1) {
        must(nng_pub0_open(&raw->socket));
        must(nng_listen(raw->socket, url, NULL, 0));
        return raw;
    }
    must(nng_sub0_open(&raw->socket));
    must(nng_socket_set(raw->socket, NNG_OPT_SUB_SUBSCRIBE, "", 0));
    must(nng_socket_set_ms(raw->socket, NNG_OPT_RECONNMINT, 20));
    must(nng_socket_set_ms(raw->socket, NNG_OPT_RECONNMAXT, 100));
    must(nng_aio_alloc(&raw->aio, on_heard, raw));
    nng_recv_aio(raw->socket, raw->aio);
    must(nng_dial(raw->socket, url, NULL, NNG_FLAG_NONBLOCK));
    return raw;
}

void raw_publish(struct raw *raw, uint32_t number, size_t n_bytes)
{
    nng_msg *msg;

    if (n_bytes < sizeof number)
        n_bytes = sizeof number;
    if (number < BENCH_SAMPLES_MAX)
        raw->c->shared->hop_sent_ns[number] = bench_now_ns();
    must(nng_msg_alloc(&msg, n_bytes));
    memcpy(nng_msg_body(msg), &number, sizeof number);
    must(nng_sendmsg(raw->socket, msg, 0));
}
