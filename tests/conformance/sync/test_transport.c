/* One suite that every transport passes: three members, publications, requests, refusals. */
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "proto/env.h"
#include "proto/err.h"
#include "sync/transport.h"
#include "tests/conformance/sync/check.h"

enum { MEMBERS = 3, KEPT = 4096, WAIT_MS = 5000 };

struct got {
    enum transport_kind kind;
    uint64_t id;
    size_t n;
    uint32_t first; /* of the bytes, big-endian; 0 when fewer than 4 */
    uint8_t last;
};

struct member {
    uint16_t slot;
    struct transport *t;
    int wake_fd;
    struct got got[KEPT];
    size_t n_got;
    bool echo; /* answer each request with its own bytes reversed in order of arrival */
};

struct maker {
    const char *name;
    bool (*open)(struct member *m, uint16_t slot);
};

static void on_wake(void *ctx)
{
    struct member *m = ctx;
    uint64_t one = 1;

    CHECK(write(m->wake_fd, &one, sizeof one) == sizeof one);
}

static void deliver(void *ctx, enum transport_kind kind, uint64_t id, struct slice bytes)
{
    struct member *m = ctx;
    struct got g = {.kind = kind, .id = id, .n = bytes.n};
    struct reader r = reader_of(bytes.p, bytes.n);

    g.first = read_u32(&r);
    if (bytes.n)
        g.last = bytes.p[bytes.n - 1];
    CHECK(m->n_got < KEPT);
    m->got[m->n_got++] = g;
    if (kind == TRANSPORT_REQUEST && m->echo)
        CHECK(m->t->ops->reply(m->t, id, bytes) == ERR_OK);
}

/* Sleeps until woken, as a loop does: a missing wake-up shows as a time-out. */
static void turn(struct member *m, int ms)
{
    struct pollfd p[2] = {{.fd = m->wake_fd, .events = POLLIN}, {.fd = m->t->fd, .events = POLLIN}};
    uint64_t count;

    if (poll(p, 2, ms) > 0 && p[0].revents)
        CHECK(read(m->wake_fd, &count, sizeof count) == sizeof count);
    m->t->ops->poll(m->t, deliver, m);
}

static size_t count(const struct member *m, enum transport_kind kind, uint32_t first)
{
    size_t n = 0;

    for (size_t i = 0; i < m->n_got; i++)
        n += m->got[i].kind == kind && m->got[i].first == first;
    return n;
}

static struct slice number(uint32_t v, uint8_t out[4])
{
    struct writer w = writer_of(out, 4);

    write_u32(&w, v);
    return (struct slice){out, 4};
}

/* Publications are lost until the subscription stands: say hello until all have heard all. */
static void meet(struct member *m)
{
    uint64_t until = now_read().mono_us + (uint64_t)WAIT_MS * 1000;
    bool met = false;
    uint8_t b[4];

    while (!met) {
        CHECK(now_read().mono_us < until);
        met = true;
        for (int i = 0; i < MEMBERS; i++)
            CHECK(m[i].t->ops->publish(m[i].t, SLOT_ALL, number(0xaa00 + m[i].slot, b)) == ERR_OK);
        for (int i = 0; i < MEMBERS; i++)
            turn(&m[i], 10);
        for (int i = 0; i < MEMBERS; i++)
            for (int k = 0; k < MEMBERS; k++)
                met &= i == k || count(&m[i], TRANSPORT_FRAME, 0xaa00 + m[k].slot) > 0;
    }
    for (int i = 0; i < MEMBERS; i++) {
        CHECK(count(&m[i], TRANSPORT_FRAME, 0xaa00 + m[i].slot) == 0); /* not our own */
        for (int k = 0; k < 20; k++) /* let the rest of the hellos come */
            turn(&m[i], 5);
        m[i].n_got = 0;
    }
}

static void wait_for(struct member *m, size_t n)
{
    uint64_t until = now_read().mono_us + (uint64_t)WAIT_MS * 1000;

    while (m->n_got < n) {
        CHECK(now_read().mono_us < until);
        turn(m, 1000);
    }
}

/* Until that one has come; others may come too, a request may come again. */
static void wait_for_one(struct member *m, enum transport_kind kind, uint32_t first)
{
    uint64_t until = now_read().mono_us + (uint64_t)WAIT_MS * 1000;

    while (count(m, kind, first) == 0) {
        CHECK(now_read().mono_us < until);
        turn(m, 1000);
    }
}

static void publishes_to_all_in_order(struct member *m)
{
    enum { BURST = 500 };
    uint8_t b[4];

    for (uint32_t i = 0; i < BURST; i++)
        CHECK(m[0].t->ops->publish(m[0].t, SLOT_ALL, number(i, b)) == ERR_OK);
    for (int k = 1; k < MEMBERS; k++) {
        wait_for(&m[k], BURST);
        for (uint32_t i = 0; i < BURST; i++)
            CHECK(m[k].got[i].kind == TRANSPORT_FRAME && m[k].got[i].first == i);
        m[k].n_got = 0;
    }
    CHECK(m[0].n_got == 0);
}

/* Both kinds in turn. What is for one comes there once, in any order, and to nobody else. */
static void publishes_to_one(struct member *m)
{
    enum { ROUNDS = 50 };
    uint8_t b[4];

    for (uint32_t i = 0; i < ROUNDS; i++) {
        CHECK(m[0].t->ops->publish(m[0].t, m[1 + i % 2].slot, number(i, b)) == ERR_OK);
        CHECK(m[0].t->ops->publish(m[0].t, SLOT_ALL, number(ROUNDS + i, b)) == ERR_OK);
    }
    for (uint32_t k = 1; k < 3; k++) {
        wait_for(&m[k], ROUNDS + ROUNDS / 2);
        for (uint32_t i = 0; i < ROUNDS; i++) {
            CHECK(count(&m[k], TRANSPORT_FRAME, i) == (i % 2 == k - 1));
            CHECK(count(&m[k], TRANSPORT_FRAME, ROUNDS + i) == 1);
        }
        CHECK(m[k].n_got == ROUNDS + ROUNDS / 2);
        m[k].n_got = 0;
    }
    CHECK(m[0].n_got == 0);
}

static void carries_large_frames_and_refuses_larger(struct member *m)
{
    uint8_t *big = calloc(1, TRANSPORT_FRAME_MAX + 1);

    big[0] = 9;
    big[TRANSPORT_FRAME_MAX - 1] = 77;
    CHECK(m[1].t->ops->publish(m[1].t, SLOT_ALL, (struct slice){big, TRANSPORT_FRAME_MAX}) ==
          ERR_OK);
    wait_for(&m[2], 1);
    CHECK(m[2].got[0].n == TRANSPORT_FRAME_MAX && m[2].got[0].last == 77);
    CHECK(m[1].t->ops->publish(m[1].t, SLOT_ALL, (struct slice){big, TRANSPORT_FRAME_MAX + 1}) ==
          ERR_FULL);
    CHECK(m[1].t->ops->request(m[1].t, 1, 5, (struct slice){big, TRANSPORT_FRAME_MAX + 1}) ==
          ERR_FULL);
    free(big);
    wait_for(&m[0], 1);
    m[0].n_got = m[2].n_got = 0;
}

static void answers_requests(struct member *m)
{
    uint8_t b[4];

    m[1].echo = true;
    for (uint32_t i = 0; i < 50; i++) {
        CHECK(m[0].t->ops->request(m[0].t, 2, 1000 + i, number(i, b)) == ERR_OK);
        wait_for_one(&m[1], TRANSPORT_REQUEST, i);
        wait_for(&m[0], 1);
        CHECK(m[0].n_got == 1 && m[0].got[0].kind == TRANSPORT_REPLY &&
              m[0].got[0].id == 1000 + i && m[0].got[0].first == i);
        m[0].n_got = m[1].n_got = 0;
    }
    m[1].echo = false;
}

/* Two askers at once: each answer goes to its own, whatever the order. */
static void keeps_answers_apart(struct member *m)
{
    uint8_t b[4];
    uint64_t id_of[2] = {0};

    CHECK(m[0].t->ops->request(m[0].t, 2, 1, number(0x100, b)) == ERR_OK);
    CHECK(m[2].t->ops->request(m[2].t, 2, 1, number(0x102, b)) == ERR_OK);
    wait_for(&m[1], 2);
    for (size_t i = 0; i < 2; i++)
        id_of[m[1].got[i].first == 0x102] = m[1].got[i].id;
    CHECK(m[1].t->ops->reply(m[1].t, id_of[1], number(0x202, b)) == ERR_OK);
    CHECK(m[1].t->ops->reply(m[1].t, id_of[0], number(0x200, b)) == ERR_OK);
    CHECK(m[1].t->ops->reply(m[1].t, id_of[0], number(0x200, b)) == ERR_NOT_FOUND); /* once */
    wait_for(&m[0], 1);
    wait_for(&m[2], 1);
    CHECK(m[0].got[0].first == 0x200 && m[2].got[0].first == 0x202);
    m[0].n_got = m[1].n_got = m[2].n_got = 0;
}

/* A request that is let go or goes nowhere fails, and the next ones still pass. */
static void reports_failures(struct member *m)
{
    uint8_t b[4];
    int rc;

    CHECK(m[0].t->ops->reply(m[0].t, 12345678, number(1, b)) == ERR_NOT_FOUND);
    rc = m[0].t->ops->request(m[0].t, 900, 77, number(1, b)); /* not a member */
    if (rc == ERR_OK) {
        wait_for(&m[0], 1);
        CHECK(m[0].got[0].kind == TRANSPORT_REPLY && m[0].got[0].id == 77 && m[0].got[0].n == 0);
    } else {
        CHECK(rc == ERR_NOT_FOUND);
    }
    m[0].n_got = 0;
    /* More than a transport has contexts; with nng a request let go ends by its time-out. */
    for (uint64_t round = 0; round < 6; round++) {
        uint64_t until = now_read().mono_us + (uint64_t)WAIT_MS * 1000;
        for (uint64_t i = 0; i < 4; i++)
            CHECK(m[0].t->ops->request(m[0].t, 2, 500 + 4 * round + i, number(3, b)) == ERR_OK);
        while (m[0].n_got < 4) { /* node 2 lets go what comes, twice if it comes twice */
            turn(&m[1], 50);
            for (size_t i = 0; i < m[1].n_got; i++)
                CHECK(m[1].t->ops->reply(m[1].t, m[1].got[i].id, (struct slice){NULL, 0}) ==
                      ERR_OK);
            m[1].n_got = 0;
            turn(&m[0], 50);
            CHECK(now_read().mono_us < until);
        }
        for (size_t i = 0; i < 4; i++)
            CHECK(m[0].got[i].kind == TRANSPORT_REPLY && m[0].got[i].n == 0 &&
                  m[0].got[i].id / 4 == 125 + round);
        m[0].n_got = m[1].n_got = 0;
    }
    answers_requests(m);
}

static void *publish_from_afar(void *arg)
{
    struct member *m = arg;
    uint8_t b[4];

    for (uint32_t i = 0; i < 200; i++)
        CHECK(m->t->ops->publish(m->t, SLOT_ALL, number(0x5000 + i, b)) == ERR_OK);
    return NULL;
}

/* Members on different threads, as nodes are: nothing is lost or torn at this pace. */
static void runs_beside_other_threads(struct member *m)
{
    pthread_t other;

    CHECK(pthread_create(&other, NULL, publish_from_afar, &m[2]) == 0);
    wait_for(&m[0], 200);
    CHECK(pthread_join(other, NULL) == 0);
    for (uint32_t i = 0; i < 200; i++)
        CHECK(m[0].got[i].first == 0x5000 + i);
    wait_for(&m[1], 200);
    m[0].n_got = m[1].n_got = 0;
}

/* After close the loop hears nothing more; the others go on. */
static void closes(struct member *m)
{
    uint8_t b[4];

    m[2].t->ops->close(m[2].t);
    m[2].t = NULL;
    close(m[2].wake_fd);
    m[2].wake_fd = -1;
    CHECK(m[0].t->ops->publish(m[0].t, SLOT_ALL, number(4242, b)) == ERR_OK);
    wait_for(&m[1], 1);
    CHECK(m[1].got[0].first == 4242);
    m[0].t->ops->close(m[0].t);
    m[1].t->ops->close(m[1].t);
}

/* ---- the two transports ---- */

static struct memory_hub *hub;

static bool open_memory(struct member *m, uint16_t slot)
{
    m->t = transport_memory_open(hub, slot, on_wake, m);
    return m->t != NULL;
}

static uint16_t ports[MEMBERS];

/* A port that is free together with the next one. */
static uint16_t free_port(void)
{
    for (uint16_t port = (uint16_t)(20000 + getpid() % 20000);; port = (uint16_t)(port + 2)) {
        bool is_free = true;
        for (uint16_t k = 0; k < 2; k++) {
            struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(port + k))};
            int fd = socket(AF_INET, SOCK_STREAM, 0);
            a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            is_free &= bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
            close(fd);
        }
        for (int i = 0; i < MEMBERS; i++)
            is_free &= ports[i] != port;
        if (is_free)
            return port;
    }
}

static bool open_nng(struct member *m, uint16_t slot)
{
    struct transport_peer all[MEMBERS], others[MEMBERS - 1];
    size_t n = 0;

    for (int i = 0; i < MEMBERS; i++) {
        if (ports[i] == 0)
            ports[i] = free_port();
        all[i] = (struct transport_peer){.slot = (uint16_t)(i + 1), .port = ports[i]};
        strcpy(all[i].host, "127.0.0.1");
        if (all[i].slot != slot)
            others[n++] = all[i];
    }
    return transport_nng_open(&all[slot - 1], others, n, on_wake, m, &m->t) == ERR_OK;
}

/* A port that is taken is an error with a line that says so, not a silent node. */
static void nng_tells_a_taken_port(void)
{
    struct transport_peer self = {.slot = 9, .host = "127.0.0.1", .port = ports[0]};
    struct transport *t;

    CHECK(transport_nng_open(&self, NULL, 0, NULL, NULL, &t) == ERR_IO && t == NULL);
}

static void suite(const struct maker *maker)
{
    static struct member m[MEMBERS];

    memset(m, 0, sizeof m);
    for (uint16_t i = 0; i < MEMBERS; i++) {
        m[i].slot = (uint16_t)(i + 1);
        m[i].wake_fd = eventfd(0, EFD_NONBLOCK);
        CHECK(maker->open(&m[i], m[i].slot));
    }
    meet(m);
    publishes_to_all_in_order(m);
    publishes_to_one(m);
    carries_large_frames_and_refuses_larger(m);
    answers_requests(m);
    keeps_answers_apart(m);
    reports_failures(m);
    meet(m); /* nobody has said anything for long: connections may just be made anew */
    runs_beside_other_threads(m);
    closes(m);
    printf("%s: passed\n", maker->name);
}

int main(void)
{
    static const struct maker memory = {"memory", open_memory}, nng = {"nng", open_nng};

    hub = memory_hub_new();
    suite(&memory);
    memory_hub_free(hub);
    suite(&nng);
    nng_tells_a_taken_port();
    fflush(NULL);
    _exit(0); /* nng's sockets are left to the end of the process */
}
