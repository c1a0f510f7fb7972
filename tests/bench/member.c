/* One member: what node/ does with the replication core, without IKE and packets. */
#include "tests/bench/member.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "dataplane/internal.h"
#include "dataplane/source_memory.h"
#include "proto/err.h"
#include "proto/log.h"
#include "sync/frame.h"
#include "sync/store.h"
#include "sync/transport.h"

enum {
    TICK_MS = 10,
    BULK_AT_ONCE = 64,   /* pairs in one turn, */
    BULK_WAITING = 1024, /* while so many wait for their barriers */
    BARRIER_BULK = 1u << 30,
};

struct member {
    const struct bench_cluster *c;
    struct bench_shared *shared;
    struct bench_member *self;
    uint16_t slot;
    int wake_fd, orders_fd;
    struct sync_core *core;
    struct transport *transport;
    struct store *store;
    struct dp *dp;
    struct memory_net net;
    struct raw *raw;
    uint64_t journaled, refused; /* refused: a request that could not be sent */
    uint32_t put, epoch;
    uint32_t bulk_left, bulk_waiting;
    bool flush_due, quit;
};

static void wake(void *ctx)
{
    const struct member *m = ctx;
    uint64_t one = 1;

    if (write(m->wake_fd, &one, sizeof one) < 0)
        return; /* full: awake anyway */
}

/* ---- effects ---- */

/* Which of the timed SAs it is; UINT32_MAX: none. */
static uint32_t timed(uint32_t spi_in)
{
    uint32_t n = (spi_in & 0x3fffff) - 256;

    return spi_in >> 22 == 1 && n < BENCH_SAMPLES_MAX ? n : UINT32_MAX;
}

static void on_record(struct member *m, const struct record *r)
{
    struct dp_sa_stats stats;
    uint32_t n;

    if (r->kind != RECORD_CHILD)
        return;
    (void)dp_sa_get_stats(m->dp, r->child.spi_in, &stats); /* as node/records.c does */
    if (dp_sa_apply(m->dp, &r->child) != ERR_OK)
        abort();
    n = timed(r->child.spi_in);
    if (n != UINT32_MAX && !m->shared->sa_installed_ns[n][m->slot - 1])
        m->shared->sa_installed_ns[n][m->slot - 1] = bench_now_ns();
}

static void on_barrier(struct member *m, const struct sync_effect *fx)
{
    m->self->barrier_timeouts += fx->timed_out;
    if (fx->barrier >= BARRIER_BULK) {
        m->bulk_waiting--;
        m->self->bulk_done++;
    } else {
        m->shared->sa_barrier_ns[fx->barrier - 1] = bench_now_ns();
    }
}

static void carry_out(struct member *m, const struct sync_effect *fx)
{
    switch (fx->kind) {
    case SYNC_FX_RECORD:
        on_record(m, fx->record);
        break;
    case SYNC_FX_JOURNAL:
        (void)m->store->ops->submit(m->store, fx->batch);
        break;
    case SYNC_FX_PUBLISH:
        if (m->put) {
            m->self->update_bytes = fx->bytes.n;
            m->put = 0;
        }
        (void)m->transport->ops->publish(m->transport, fx->slot, fx->bytes);
        break;
    case SYNC_FX_REQUEST:
        if (m->transport->ops->request(m->transport, fx->slot, fx->request, fx->bytes) != ERR_OK)
            m->refused = fx->request;
        break;
    case SYNC_FX_REPLY:
        (void)m->transport->ops->reply(m->transport, fx->request, fx->bytes);
        break;
    case SYNC_FX_BARRIER:
        on_barrier(m, fx);
        break;
    case SYNC_FX_EPOCH:
        m->epoch = fx->epoch;
        dp_set_epoch(m->dp, fx->epoch);
        break;
    default: /* of no concern here */
        break;
    }
}

static void step(struct member *m, struct sync_event *event)
{
    struct sync_effects fx;

    event->more = event->kind != SYNC_EV_FLUSH;
    m->flush_due = event->more;
    fx = sync_step(m->core, event, now_read());
    for (size_t i = 0; i < fx.n; i++)
        carry_out(m, &fx.fx[i]);
}

static void flush(struct member *m)
{
    while (m->flush_due || m->refused) {
        struct sync_event refused = {.kind = SYNC_EV_REPLY, .request = m->refused};
        struct sync_event event = {.kind = SYNC_EV_FLUSH};
        if (m->refused) {
            m->refused = 0;
            step(m, &refused);
        }
        step(m, &event);
    }
}

static void poll_store(struct member *m)
{
    struct sync_event event = {.kind = SYNC_EV_JOURNALED};

    event.ticket = m->store->ops->poll(m->store, &event.failed);
    if (event.ticket > m->journaled || event.failed) {
        m->journaled = event.ticket;
        step(m, &event);
    }
}

static void deliver(void *ctx, enum transport_kind kind, uint64_t id, struct slice bytes)
{
    static const enum sync_event_kind kinds[] = {
        [TRANSPORT_FRAME] = SYNC_EV_FRAME,
        [TRANSPORT_REQUEST] = SYNC_EV_REQUEST,
        [TRANSPORT_REPLY] = SYNC_EV_REPLY,
    };
    struct member *m = ctx;
    struct sync_event event = {.kind = kinds[kind], .bytes = bytes, .request = id};

    m->self->frames_in++;
    m->self->bytes_in += bytes.n;
    if (kind == TRANSPORT_REPLY)
        m->self->pull_bytes_in += bytes.n;
    step(m, &event);
}

/* ---- orders ---- */

static void put_pair(struct member *m, uint32_t n, uint64_t barrier)
{
    struct record *pair[2];
    struct sync_event event = {
        .kind = SYNC_EV_PUT, .group = pair, .n_group = 2, .barrier = barrier};

    bench_pair(m->slot, n, pair);
    m->put = 1;
    step(m, &event);
}

/* Timed SAs come first; those in bulk have the numbers after them. */
static void bulk(struct member *m)
{
    for (int i = 0; i < BULK_AT_ONCE && m->bulk_left && m->bulk_waiting < BULK_WAITING; i++) {
        put_pair(m, BENCH_SAMPLES_MAX + --m->bulk_left, BARRIER_BULK);
        m->bulk_waiting++;
    }
}

static void take_orders(struct member *m)
{
    struct order order;

    while (read(m->orders_fd, &order, sizeof order) == sizeof order)
        switch ((enum order_kind)order.kind) {
        case ORDER_SA:
            m->shared->sa_put_ns[order.number] = bench_now_ns();
            put_pair(m, order.number, order.number + 1);
            break;
        case ORDER_HOP:
            raw_publish(m->raw, order.number, m->self->update_bytes);
            break;
        case ORDER_BULK:
            m->bulk_left += order.number;
            break;
        case ORDER_QUIT:
            m->quit = true;
            break;
        }
}

static void report(struct member *m)
{
    struct timespec cpu;
    struct sync_member_info own;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    m->self->cpu_ns = (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec;
    if (sync_member(m->core, m->slot, &own))
        m->self->child_sas = own.child_sas;
    m->self->synced = sync_is_synced(m->core);
    if (!m->self->ready && m->epoch && sync_is_synced(m->core)) {
        m->self->ready_ns = bench_now_ns();
        m->self->ready = true;
        sync_set_ready(m->core, true);
    }
}

/* ---- the loop ---- */

static void loop(struct member *m)
{
    struct pollfd fds[3] = {{.fd = m->wake_fd, .events = POLLIN},
                            {.fd = m->orders_fd, .events = POLLIN},
                            {.fd = m->transport->fd, .events = POLLIN}};
    uint64_t tick_ns = 0;

    while (!m->quit) {
        uint64_t drop, now;
        flush(m);
        (void)poll(fds, 3, m->bulk_left && m->bulk_waiting < BULK_WAITING ? 0 : TICK_MS);
        if (fds[0].revents && read(m->wake_fd, &drop, sizeof drop) < 0 && errno != EAGAIN)
            return;
        if (fds[1].revents & POLLIN)
            take_orders(m);
        m->transport->ops->poll(m->transport, deliver, m);
        poll_store(m);
        bulk(m);
        now = bench_now_ns();
        if (now - tick_ns >= TICK_MS * 1000000u) {
            struct sync_event tick = {.kind = SYNC_EV_TICK};
            tick_ns = now;
            step(m, &tick);
            report(m);
        }
    }
}

static struct transport_peer peer_of(const struct bench_cluster *c, uint16_t slot)
{
    struct transport_peer p = {.slot = slot, .port = (uint16_t)(c->base_port + 2 * slot)};

    snprintf(p.host, sizeof p.host, "127.0.0.1");
    return p;
}

static void open_core(struct member *m)
{
    struct sync_config config = {.cluster = "bench",
                                 .version = "bench",
                                 .slot = m->slot,
                                 .n_members = m->c->n,
                                 .n_keys = 1,
                                 .dead_ms = 2000, /* more processes than cores */
                                 .barrier_timeout_ms = 2000};

    config.keys[0] = bench_cluster_key();
    snprintf(config.name, sizeof config.name, "n%u", m->slot);
    for (uint16_t i = 0; i < m->c->n; i++)
        config.members[i] = (uint16_t)(i + 1);
    m->core = sync_new(&config, &rng_system, now_read());
    if (!m->core)
        abort();
}

static void open_dp(struct member *m)
{
    static struct dp_tunnel tunnels[BENCH_TUNNELS];
    struct dp_config config = {.slot = m->slot, .provider = "auto", .lanes = 1};
    struct dp_callbacks none = {0};

    if (!ip_parse("192.0.2.1", &config.anycast[config.n_anycast++]) ||
        dp_open_with(&config, &none, &source_memory, &m->net, false, &m->dp) != ERR_OK)
        abort();
    for (uint32_t i = 0; i < BENCH_TUNNELS; i++)
        tunnels[i] = (struct dp_tunnel){
            .id = bench_tunnel(i), .type = DP_TUNNEL_IPSEC, .anycast = config.anycast[0]};
    if (dp_set_tunnels(m->dp, tunnels, BENCH_TUNNELS, NULL, 0) != ERR_OK)
        abort();
}

static void take_recovered(void *ctx, struct sync_recovery *part)
{
    struct sync_event event = {.kind = SYNC_EV_RECOVERING, .recovery = part};
    struct member *m = ctx;
    struct sync_effects fx = sync_step(m->core, &event, now_read());

    for (size_t i = 0; i < fx.n; i++)
        carry_out(m, &fx.fx[i]);
}

static void open_journal(struct member *m)
{
    char path[512];
    struct cluster_key key = bench_cluster_key();
    struct sync_recovery recovery = {0};
    struct sync_event event = {.kind = SYNC_EV_RECOVERED, .recovery = &recovery, .more = true};
    struct sync_effects fx;
    struct store_options options = {.path = path,
                                    .cluster = "bench",
                                    .slot = m->slot,
                                    .keys = &key,
                                    .n_keys = 1,
                                    .wake = wake,
                                    .wake_ctx = m,
                                    .take = take_recovered,
                                    .read_ctx = m};

    snprintf(path, sizeof path, "%s/%u.db", m->c->dir, m->slot);
    dp_bulk_begin(m->dp, 0);
    if (store_sqlite_open(&options, &m->store, &recovery) != ERR_OK)
        abort();
    fx = sync_step(m->core, &event, now_read());
    for (size_t i = 0; i < fx.n; i++)
        carry_out(m, &fx.fx[i]);
    dp_bulk_end(m->dp);
    store_recovery_free(&recovery);
    m->self->installed_ns = bench_now_ns();
}

static void open_mesh(struct member *m)
{
    struct transport_peer self = peer_of(m->c, m->slot), others[BENCH_MEMBERS_MAX];
    size_t n = 0;

    for (uint16_t slot = 1; slot <= m->c->n; slot++)
        if (slot != m->slot)
            others[n++] = peer_of(m->c, slot);
    if (transport_nng_open(&self, others, n, wake, m, &m->transport) != ERR_OK)
        abort();
}

int member_run(const struct bench_cluster *c, uint16_t slot, int orders)
{
    struct member m = {.c = c,
                       .shared = c->shared,
                       .self = &c->shared->members[slot - 1],
                       .slot = slot,
                       .orders_fd = orders,
                       .wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};

    log_set_level(LOG_LEVEL_ERROR);
    (void)fcntl(orders, F_SETFL, O_NONBLOCK);
    open_core(&m);
    open_dp(&m);
    open_journal(&m);
    open_mesh(&m);
    if (c->raw)
        m.raw = raw_open(c, slot);
    loop(&m);
    m.store->ops->close(m.store); /* nng and the rest end with the process */
    return 0;
}
