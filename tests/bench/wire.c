#include "tests/bench/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
    ANSWER_WAIT_MS = 1000, /* then the request is sent again */
    TRIES = 5,
    EXPONENT_BYTES = 8,
    /* offsets in an IKE header (RFC 7296 §3.1) */
    EXCHANGE_AT = 18,
    FLAGS_AT = 19,
    ID_AT = 20,
};

uint64_t wire_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t wall_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* Late answers to earlier handshakes may stand in the socket, too. */
static bool is_answer(struct slice request, const uint8_t *got, size_t n)
{
    return n >= IKE_HEADER_BYTES && memcmp(got, request.p, IKE_SPI_BYTES) == 0 &&
           got[EXCHANGE_AT] == request.p[EXCHANGE_AT] && (got[FLAGS_AT] & IKE_FLAG_RESPONSE) &&
           memcmp(got + ID_AT, request.p + ID_AT, 4) == 0;
}

/* The bench's wire: one request, sent until it is answered or all tries are over. A node that died
 * a moment ago may let its host refuse the datagram: that is no answer. */
static void exchange(struct bench *b, struct slice bytes)
{
    struct wire *w = b->wire_ctx;

    for (unsigned i = 0; i < w->tries; i++) {
        uint64_t sent_ns = wire_now_ns(), sent_us = wall_us();
        ssize_t n;

        if (send(w->fd, bytes.p, bytes.n, 0) < 0 && errno != ECONNREFUSED)
            return;
        while ((n = recv(w->fd, w->got, sizeof w->got, 0)) >= 0 || errno == EINTR ||
               errno == ECONNREFUSED) {
            if (n < 0 || !is_answer(bytes, w->got, (size_t)n))
                continue;
            w->took_ns = wire_now_ns() - sent_ns;
            w->sent_us = sent_us;
            bench_answered(b, (struct slice){w->got, (size_t)n});
            return;
        }
        w->retransmits++;
    }
}

static bool open_socket(struct wire *w)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(w->gateway.port)}, own;
    socklen_t own_n = sizeof own;

    memcpy(&to.sin_addr, w->gateway.ip.b, 4);
    w->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (w->fd < 0 || connect(w->fd, (const struct sockaddr *)&to, sizeof to) != 0 ||
        getsockname(w->fd, (struct sockaddr *)&own, &own_n) != 0)
        return false;
    w->own.ip = ip_from_bytes(4, (const uint8_t *)&own.sin_addr);
    w->own.port = ntohs(own.sin_port);
    return true;
}

struct wire *wire_open(const struct endpoint *gateway)
{
    struct wire *w = calloc(1, sizeof *w);
    uint8_t exponent[EXPONENT_BYTES];

    if (!w)
        return NULL;
    w->fd = -1;
    bench_open(&w->bench); /* its engine is idle: only its random source is used */
    rng_fill(&rng_system, &w->bench.rng_state, sizeof w->bench.rng_state);
    w->bench.wire = exchange;
    w->bench.wire_ctx = w;
    w->gateway = *gateway;
    rng_fill(&rng_system, exponent, sizeof exponent);
    exponent[0] |= 0x80;
    w->dh = dh_import(DH_MODP_2048, (struct slice){exponent, sizeof exponent});
    if (w->dh && open_socket(w)) {
        wire_patience(w, ANSWER_WAIT_MS, TRIES);
        return w;
    }
    perror("socket to the gateway");
    wire_close(w);
    return NULL;
}

void wire_patience(struct wire *w, unsigned answer_wait_ms, unsigned tries)
{
    struct timeval wait = {.tv_sec = answer_wait_ms / 1000,
                           .tv_usec = answer_wait_ms % 1000 * 1000};

    (void)setsockopt(w->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    w->tries = tries;
}

void wire_close(struct wire *w)
{
    if (!w)
        return;
    if (w->fd >= 0)
        close(w->fd);
    dh_free(w->dh);
    bench_close(&w->bench);
    free(w);
}

static void log_in(struct peer *p, const struct wire_login *login)
{
    snprintf(p->id, sizeof p->id, "%s", login->id);
    p->psk = login->psk;
    p->tsi = login->tsi;
    p->tsr = login->tsr;
}

bool wire_init(struct wire *w, const struct wire_login *login)
{
    struct peer *p = &w->peer;

    peer_open(p, &w->bench);
    log_in(p, login);
    p->local = w->gateway;
    p->remote = w->own;
    p->dh = w->dh;
    p->esp.encr_bits = 256;
    p->esp_spi = 256 + rng_u32(&rng_system) % 0xf0000000U; /* 0-255 are reserved */
    return peer_init(p);
}

bool wire_auth(struct wire *w, const struct wire_login *login)
{
    log_in(&w->peer, login);
    return peer_auth(&w->peer);
}

void wire_forget(struct wire *w)
{
    w->peer.dh = NULL; /* the wire's */
    peer_close(&w->peer);
}
