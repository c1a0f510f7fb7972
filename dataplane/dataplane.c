/* The dataplane as the loop sees it.
 *
 * A packet never comes here. It arrives at a lane's source (source_socket.c), is
 * carried by that lane's thread (lane.c) down in.c or out.c and leaves through
 * the source again: run to completion, one batch a turn. What the lanes read is
 * written here, on the loop thread, and published through read-copy-update: the
 * SA table (sa.c), each tunnel's configuration and order of SAs (tunnel.c), the
 * routes (fib.c). What lanes have to say comes back through rings and dp_poll.
 *
 * Formats: ESP tunnel mode, RFC 4303, with AES-GCM (RFC 4106), AES-CBC (RFC 3602),
 * HMAC-SHA2-256-128 (RFC 4868), HMAC-SHA1-96 (RFC 2404) and NULL (RFC 2410); in UDP,
 * RFC 3948; GRE, RFC 2784 and 2890. No anti-replay and no ESN: many nodes send
 * under one SA. Crypto is behind provider.h, the outside behind source.h. */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dataplane/internal.h"
#include "proto/err.h"
#include "proto/log.h"
#include "proto/wire_ikev2.h"

enum {
    TUN_MTU = 1500,      /* larger inner packets are the kernel's to refuse or fragment */
    POLL_MESSAGES = 256, /* of one ring in one dp_poll: the loop has other work */
};

/* ---------------------------------------------------------------- opening and closing */

static int check_config(const struct dp_config *c)
{
    if (c->slot > SLOT_MAX) {
        log_error("dataplane", "slot %u is beyond %d", c->slot, SLOT_MAX);
        return ERR_INVALID;
    }
    if (c->lanes > DP_LANES_MAX) {
        log_error("dataplane", "%u lanes are too many: set dataplane.lanes to %d or less", c->lanes,
                  DP_LANES_MAX);
        return ERR_INVALID;
    }
    if (c->n_anycast > DP_ADDRESSES_MAX)
        return ERR_FULL;
    return ERR_OK;
}

static int open_tables(struct dp *dp)
{
    int rc;

    dp->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (dp->wake_fd < 0)
        return ERR_IO;
    dp->lingering_end = &dp->lingering;
    rc = sa_table_open(&dp->sas);
    if (rc == ERR_OK)
        rc = tunnel_table_open(&dp->tunnels);
    if (rc == ERR_OK)
        rc = fib_new(NULL, 0, NULL, 0, &dp->fib);
    return rc;
}

static int open_lane(struct dp *dp, void *source_ctx)
{
    struct source_config config = {.dp = &dp->config, .lane = dp->n_lanes, .ctx = source_ctx};
    struct lane *lane = lane_new(dp, dp->n_lanes);
    int rc;

    if (!lane)
        return ERR_NOMEM;
    rc = dp->source->open(&config, &lane->source);
    if (rc != ERR_OK) {
        lane_free(lane);
        return rc;
    }
    dp->lanes[dp->n_lanes++] = lane;
    return ERR_OK;
}

int dp_open_with(const struct dp_config *config, const struct dp_callbacks *callbacks,
                 const struct source_ops *source, void *source_ctx, bool threads, struct dp **out)
{
    struct dp *dp;
    unsigned lanes = config->lanes ? config->lanes : 1;
    int rc = check_config(config);

    if (rc != ERR_OK)
        return rc;
    dp = calloc(1, sizeof *dp);
    if (!dp)
        return ERR_NOMEM;
    rcu_join();
    dp->config = *config;
    dp->config.lanes = lanes;
    dp->callbacks = *callbacks;
    dp->source = source;
    dp->kernel.netlink = -1;
    dp->provider = provider_find(config->provider[0] ? config->provider : "auto");
    if (!dp->provider) {
        log_error("dataplane", "no crypto provider \"%s\"", config->provider);
        rc = ERR_UNSUPPORTED;
    }
    dp->wake_fd = -1;
    if (rc == ERR_OK)
        rc = open_tables(dp);
    for (unsigned i = 0; i < lanes && rc == ERR_OK; i++)
        rc = open_lane(dp, source_ctx);
    if (rc == ERR_OK)
        rc = kernel_open(&dp->kernel, source->inner_ifindex(dp->lanes[0]->source), TUN_MTU);
    for (unsigned i = 0; i < dp->n_lanes && rc == ERR_OK && threads; i++)
        rc = lane_start(dp->lanes[i]);
    if (rc != ERR_OK) {
        dp_close(dp);
        return rc;
    }
    *out = dp;
    return ERR_OK;
}

int dp_prepare(void)
{
    return rcu_prepare();
}

int dp_open(const struct dp_config *config, const struct dp_callbacks *callbacks, struct dp **out)
{
    const char *name = config->source;

    if (name[0] && strcmp(name, "auto") != 0 && strcmp(name, source_socket.name) != 0) {
        log_error("dataplane", "no packet source \"%s\": use auto or socket", name);
        return ERR_UNSUPPORTED;
    }
    return dp_open_with(config, callbacks, &source_socket, NULL, true, out);
}

static void choose_again(struct tunnel *tunnel)
{
    if (tunnel_choose(tunnel) != ERR_OK)
        log_error("dataplane", "out of memory: a tunnel sends nothing until its SAs change");
}

static int choose_soon(struct dp *dp, struct tunnel *tunnel)
{
    if (!dp->bulk)
        return tunnel_choose(tunnel);
    tunnel->stale = true;
    return ERR_OK;
}

void dp_bulk_begin(struct dp *dp, size_t expected)
{
    dp->bulk = true;
    sa_table_expect(&dp->sas, expected);
}

static void choose_if_stale(void *ctx, struct tunnel *tunnel)
{
    (void)ctx;
    if (tunnel->stale)
        choose_again(tunnel);
}

void dp_bulk_end(struct dp *dp)
{
    dp->bulk = false;
    tunnel_each(&dp->tunnels, choose_if_stale, NULL);
}

static void stop_lingering(struct dp *dp, struct sa *sa)
{
    struct sa **at = &dp->lingering;

    while (*at && *at != sa)
        at = &(*at)->linger_next;
    if (!*at)
        return;
    *at = sa->linger_next;
    if (!*at)
        dp->lingering_end = at;
}

/* The SA table or `gone` has changed: lanes that hold packets look again. hold.c tells the order.
 */
static void tell_lanes(struct dp *dp)
{
    atomic_fetch_add(&dp->sa_changes, 1);
    for (unsigned i = 0; i < dp->n_lanes; i++)
        if (atomic_load(&dp->lanes[i]->hold.holding))
            dp->source->wake(dp->lanes[i]->source);
}

static void set_gone(struct dp *dp, uint32_t spi_in, uint32_t for_us)
{
    gone_add(&dp->gone, spi_in, now_read().mono_us, for_us);
    tell_lanes(dp);
}

static void remove_sa(struct dp *dp, struct sa *sa)
{
    struct tunnel *tunnel = sa->hot.tunnel;

    if (sa->lingering)
        stop_lingering(dp, sa);
    sa_table_del(&dp->sas, sa);
    tunnel_del_sa(tunnel, sa);
    choose_again(tunnel);
    sa_free_later(sa);
    tunnel_drop_unused(&dp->tunnels, tunnel);
}

/* Empties a tunnel; the last SA's removal frees it unless it is configured. */
static void clear_tunnel(void *ctx, struct tunnel *tunnel)
{
    struct dp *dp = ctx;

    if (tunnel->conf)
        tunnel_configure(tunnel, NULL);
    if (!tunnel->sas)
        tunnel_drop_unused(&dp->tunnels, tunnel);
    for (struct sa *sa = tunnel->sas, *next; sa; sa = next) {
        next = sa->next;
        remove_sa(dp, sa);
    }
}

void dp_close(struct dp *dp)
{
    if (!dp)
        return;
    for (unsigned i = 0; i < dp->n_lanes; i++)
        lane_stop(dp->lanes[i]);
    kernel_close(&dp->kernel);
    for (unsigned i = 0; i < dp->n_lanes; i++) {
        dp->source->close(dp->lanes[i]->source);
        lane_free(dp->lanes[i]);
    }
    if (dp->tunnels.by_id)
        tunnel_each(&dp->tunnels, clear_tunnel, dp);
    rcu_barrier();
    sa_table_close(&dp->sas);
    tunnel_table_close(&dp->tunnels);
    fib_free_now(dp->fib);
    if (dp->wake_fd >= 0)
        (void)close(dp->wake_fd);
    rcu_leave();
    free(dp);
}

/* ---------------------------------------------------------------- from and to the lanes */

int dp_wake_fd(const struct dp *dp)
{
    return dp->wake_fd;
}

static bool poll_ike(struct dp *dp, struct ring *ring)
{
    const uint8_t *at;
    uint32_t n;

    for (int i = 0; i < POLL_MESSAGES; i++) {
        struct ike_note note;

        at = ring_peek(ring, &n);
        if (!at)
            return false;
        memcpy(&note, at, sizeof note);
        if (dp->callbacks.ike)
            dp->callbacks.ike(dp->callbacks.ctx, &note.local, &note.peer, at + sizeof note,
                              n - sizeof note);
        ring_release(ring);
    }
    return true;
}

static bool poll_news(struct dp *dp, struct ring *ring)
{
    const void *at;
    uint32_t n;

    for (int i = 0; i < POLL_MESSAGES; i++) {
        struct news news;

        at = ring_peek(ring, &n);
        if (!at)
            return false;
        memcpy(&news, at, sizeof news);
        ring_release(ring);
        if (news.kind == NEWS_CONFIRMED && dp->callbacks.confirmed)
            dp->callbacks.confirmed(dp->callbacks.ctx, news.spi_in);
        else if (news.kind == NEWS_MISS && dp->callbacks.miss)
            dp->callbacks.miss(dp->callbacks.ctx, news.spi_in);
        else if (news.kind == NEWS_MOVED && dp->callbacks.moved)
            dp->callbacks.moved(dp->callbacks.ctx, news.spi_in, &news.peer);
    }
    return true;
}

void dp_poll(struct dp *dp)
{
    uint64_t count, one = 1;
    bool more = false;

    (void)!read(dp->wake_fd, &count, sizeof count);
    for (unsigned i = 0; i < dp->n_lanes; i++) {
        more |= poll_news(dp, dp->lanes[i]->news);
        more |= poll_ike(dp, dp->lanes[i]->ike);
    }
    if (more)
        (void)!write(dp->wake_fd, &one, sizeof one);
}

int dp_send_ike(struct dp *dp, const struct endpoint *local, const struct endpoint *peer,
                const uint8_t *bytes, size_t n)
{
    if (n > IKE_MESSAGE_MAX)
        return ERR_INVALID;
    return dp->source->send_ike(dp->lanes[0]->source, local, peer, bytes, n);
}

void dp_set_epoch(struct dp *dp, uint32_t epoch)
{
    if (epoch == atomic_load_explicit(&dp->epoch, memory_order_relaxed))
        return;
    if (epoch != 0) {
        if (epoch > EPOCH_MAX || epoch <= dp->highest_epoch) {
            log_error("dataplane", "epoch %u refused: %s", epoch,
                      epoch > EPOCH_MAX ? "too large" : "it is not higher than an earlier one");
            return;
        }
        dp->highest_epoch = epoch;
    }
    atomic_store_explicit(&dp->epoch, epoch, memory_order_release);
}

uint32_t dp_iv_used(const struct dp *dp)
{
    uint32_t epoch = atomic_load_explicit(&dp->epoch, memory_order_relaxed), most = 0;

    for (unsigned i = 0; i < dp->n_lanes; i++) {
        uint64_t used = tally_get(&dp->lanes[i]->counters.iv_used);
        uint32_t last = (uint32_t)used;

        if (used >> 32 == epoch && last > most) /* else it has not begun with this epoch */
            most = last;
    }
    return most;
}

/* ---------------------------------------------------------------- SAs */

/* Only this thread removes SAs, so the answer outlives the read lock. */
static struct sa *find_sa(const struct dp *dp, uint32_t spi_in)
{
    struct sa *sa;

    rcu_read_lock();
    sa = sa_find(&dp->sas, spi_in);
    rcu_read_unlock();
    return sa;
}

static int update_sa(struct dp *dp, struct sa *sa, const struct child_record *r)
{
    bool changed = false;
    int rc;

    if (!sa_is_same(sa, r) || !id128_equal(&sa->hot.tunnel->id, &r->tunnel_id))
        return ERR_EXISTS;
    rc = sa_update(sa, r, &changed);
    if (rc == ERR_OK && changed)
        rc = choose_soon(dp, sa->hot.tunnel);
    return rc;
}

static int add_sa(struct dp *dp, const struct child_record *r)
{
    struct tunnel *tunnel;
    struct sa *sa = NULL;
    int rc;

    if (r->not_after_ms && r->not_after_ms <= now_read().wall_ms)
        return ERR_STALE;
    rc = sa_new(r, dp->provider, dp->n_lanes, &sa);
    if (rc != ERR_OK)
        return rc;
    tunnel = tunnel_get(&dp->tunnels, &r->tunnel_id, dp->n_lanes);
    if (!tunnel) {
        sa_free_now(sa);
        return ERR_NOMEM;
    }
    tunnel_add_sa(tunnel, sa);
    sa_table_add(&dp->sas, sa);
    rc = choose_soon(dp, tunnel);
    if (rc != ERR_OK) {
        remove_sa(dp, sa);
        return rc;
    }
    gone_del(&dp->gone, r->spi_in);
    tell_lanes(dp);
    return ERR_OK;
}

int dp_sa_apply(struct dp *dp, const struct child_record *record)
{
    struct sa *sa = find_sa(dp, record->spi_in);

    if (record->state == SA_DELETED) {
        dp_sa_retire(dp, record->spi_in);
        return ERR_OK;
    }
    if (record->state != SA_INSTALLED)
        return ERR_INVALID;
    return sa ? update_sa(dp, sa, record) : add_sa(dp, record);
}

int dp_sa_move(struct dp *dp, uint32_t spi_in, const struct endpoint *peer)
{
    struct sa *sa = find_sa(dp, spi_in);

    if (!sa || !sa->hot.outer->udp_encap)
        return ERR_OK;
    if (peer->ip.family != sa->hot.outer->peer.ip.family || peer->port == 0)
        return ERR_INVALID;
    return sa_move(sa, peer);
}

void dp_sa_remove(struct dp *dp, uint32_t spi_in)
{
    struct sa *sa = find_sa(dp, spi_in);

    if (sa)
        remove_sa(dp, sa);
}

void dp_sa_retire(struct dp *dp, uint32_t spi_in)
{
    struct sa *sa = find_sa(dp, spi_in);

    if (!sa)
        set_gone(dp, spi_in, GONE_DELETED_US);
    if (!sa || sa->lingering)
        return;
    sa->lingering = true;
    sa->linger_end_us = now_read().mono_us + DP_LINGER_MS * 1000ULL;
    sa->linger_next = NULL;
    *dp->lingering_end = sa;
    dp->lingering_end = &sa->linger_next;
    choose_again(sa->hot.tunnel);
}

void dp_expire(struct dp *dp, uint64_t now_us)
{
    while (dp->lingering && dp->lingering->linger_end_us <= now_us) {
        gone_add(&dp->gone, dp->lingering->hot.spi_in, now_us, GONE_DELETED_US);
        remove_sa(dp, dp->lingering);
    }
}

/* ---------------------------------------------------------------- SAs that are not here */

void dp_set_live(struct dp *dp, uint16_t slot, bool live)
{
    if (slot <= SLOT_MAX && slot != dp->config.slot)
        live_set(&dp->live, slot, live);
}

void dp_miss_over(struct dp *dp, uint32_t spi_in)
{
    set_gone(dp, spi_in, GONE_US);
}

static void sum_traffic(const struct traffic *t, unsigned lanes, struct dp_sa_stats *out)
{
    for (unsigned i = 0; i < lanes; i++) {
        uint64_t last = tally_get(&t[i].last_in_us);

        out->packets_in += tally_get(&t[i].packets_in);
        out->bytes_in += tally_get(&t[i].bytes_in);
        out->packets_out += tally_get(&t[i].packets_out);
        out->bytes_out += tally_get(&t[i].bytes_out);
        if (last > out->last_in_us)
            out->last_in_us = last;
    }
}

void dp_sa_own(struct dp *dp, uint32_t spi_in)
{
    struct sa *sa = find_sa(dp, spi_in);

    if (sa)
        atomic_store_explicit(&sa->hot.own, true, memory_order_relaxed);
}

bool dp_sa_get_stats(const struct dp *dp, uint32_t spi_in, struct dp_sa_stats *out)
{
    const struct sa *sa = find_sa(dp, spi_in);

    *out = (struct dp_sa_stats){0};
    if (!sa || sa->lingering)
        return false;
    sum_traffic(sa->hot.traffic, dp->n_lanes, out);
    out->installed_ms = sa->installed_ms;
    out->installed_us = sa->installed_us;
    return true;
}

/* ---------------------------------------------------------------- counters */

void dp_get_counters(const struct dp *dp, struct dp_counters *out)
{
    *out = (struct dp_counters){0};
    for (unsigned i = 0; i < dp->n_lanes; i++) {
        const struct lane_counters *c = &dp->lanes[i]->counters;

        out->packets_in += tally_get(&c->packets_in);
        out->packets_out += tally_get(&c->packets_out);
        out->bytes_in += tally_get(&c->bytes_in);
        out->bytes_out += tally_get(&c->bytes_out);
        out->moves_reported += tally_get(&c->moves_reported);
        out->moves_unreported += tally_get(&c->moves_unreported);
        out->held += tally_get(&c->held);
        out->held_released += tally_get(&c->held_released);
        out->held_overflow += tally_get(&c->held_overflow);
        for (int reason = 0; reason < DROP_COUNT; reason++)
            out->drops[reason] += tally_get(&c->drops[reason]);
    }
}

bool dp_tunnel_get_stats(const struct dp *dp, const struct id128 *id, struct dp_sa_stats *out)
{
    const struct tunnel *tunnel = tunnel_find(&dp->tunnels, id);

    *out = (struct dp_sa_stats){0};
    if (!tunnel)
        return false;
    sum_traffic(tunnel->traffic, dp->n_lanes, out);
    return true;
}
