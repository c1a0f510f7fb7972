#include "dataplane/source_memory.h"

#include <stdlib.h>
#include <string.h>

#include "proto/err.h"

struct source {
    struct memory_net *net;
};

bool memory_push(struct memory_queue *q, const struct memory_packet *p)
{
    struct memory_packet *at = &q->packets[(q->first + q->n) % MEMORY_PACKETS];

    if (q->n == MEMORY_PACKETS)
        return false;
    *at = *p;
    at->bytes = malloc(p->n + 1);
    if (!at->bytes)
        return false;
    if (p->n)
        memcpy(at->bytes, p->bytes, p->n);
    q->n++;
    return true;
}

bool memory_pop(struct memory_queue *q, struct memory_packet *out)
{
    if (!q->n)
        return false;
    *out = q->packets[q->first];
    q->first = (q->first + 1) % MEMORY_PACKETS;
    q->n--;
    return true;
}

void memory_clear(struct memory_net *net)
{
    struct memory_queue *queues[] = {&net->arriving, &net->leaving, &net->ike};
    struct memory_packet p;

    for (size_t i = 0; i < sizeof queues / sizeof *queues; i++)
        while (memory_pop(queues[i], &p))
            free(p.bytes);
}

static int mem_open(const struct source_config *config, struct source **out)
{
    struct source *s = calloc(1, sizeof *s);

    if (!s)
        return ERR_NOMEM;
    s->net = config->ctx;
    *out = s;
    return ERR_OK;
}

static void mem_close(struct source *s)
{
    free(s);
}

static size_t mem_recv(struct source *s, struct packet **packets, size_t n, int timeout_ms)
{
    struct memory_packet m;
    size_t got = 0;

    (void)timeout_ms;
    while (got < n && memory_pop(&s->net->arriving, &m)) {
        struct packet *p = packets[got];

        if (m.n <= PACKET_MAX) {
            p->data = p->room + PACKET_HEADROOM;
            memcpy(p->data, m.bytes, m.n);
            p->n = m.n;
            p->via = m.via;
            p->tos = m.tos;
            p->local = m.local;
            p->peer = m.peer;
            got++;
        }
        free(m.bytes);
    }
    return got;
}

static void mem_send(struct source *s, struct packet **packets, size_t n)
{
    for (size_t i = 0; i < n && !s->net->refuse; i++) {
        const struct packet *p = packets[i];
        struct memory_packet m = {.via = p->via,
                                  .protocol = p->protocol,
                                  .tos = p->tos,
                                  .ttl = p->ttl,
                                  .local = p->local,
                                  .peer = p->peer,
                                  .bytes = p->data,
                                  .n = p->n};

        packets[i]->sent = memory_push(&s->net->leaving, &m);
    }
}

static void mem_wake(struct source *s)
{
    (void)s; /* recv never waits */
}

static int mem_send_ike(struct source *s, const struct endpoint *local, const struct endpoint *peer,
                        const uint8_t *bytes, size_t n)
{
    struct memory_packet m = {.via = VIA_UDP, .local = *local, .peer = *peer, .n = (uint32_t)n};

    m.bytes = (uint8_t *)(uintptr_t)bytes; /* copied, not written */
    return memory_push(&s->net->ike, &m) ? ERR_OK : ERR_IO;
}

static unsigned mem_ifindex(const struct source *s)
{
    (void)s;
    return 0;
}

const struct source_ops source_memory = {
    .name = "memory",
    .open = mem_open,
    .close = mem_close,
    .recv = mem_recv,
    .send = mem_send,
    .wake = mem_wake,
    .send_ike = mem_send_ike,
    .inner_ifindex = mem_ifindex,
};
