#include "dataplane/lane.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dataplane/internal.h"
#include "proto/crypto.h"
#include "proto/err.h"
#include "proto/secret.h"
#include "proto/thread.h"

struct lane *lane_new(struct dp *dp, unsigned index)
{
    struct lane *lane = aligned_alloc(64, (sizeof *lane + 63) / 64 * 64);
    unsigned held;

    if (!lane)
        return NULL;
    memset(lane, 0, sizeof *lane);
    lane->dp = dp;
    lane->index = index;
    lane->iv = iv_of(dp->config.slot, (uint8_t)index, dp->config.iv_max);
    held = HOLD_MAX / dp->config.lanes;
    lane->memory = malloc((size_t)(BATCH_MAX + held) * PACKET_ROOM);
    lane->ike = ring_new(IKE_RING_BYTES);
    lane->news = ring_new(NEWS_RING_BYTES);
    if (!lane->memory || !lane->ike || !lane->news) {
        lane_free(lane);
        return NULL;
    }
    for (size_t i = 0; i < BATCH_MAX; i++)
        lane->packets[i].room = lane->memory + i * PACKET_ROOM;
    hold_init(&lane->hold, held, lane->memory + (size_t)BATCH_MAX * PACKET_ROOM);
    return lane;
}

void lane_free(struct lane *lane)
{
    if (!lane)
        return;
    ring_free(lane->ike);
    ring_free(lane->news);
    free(lane->memory);
    wipe(lane->random, sizeof lane->random);
    free(lane);
}

static void *lane_main(void *arg)
{
    struct lane *lane = arg;

    thread_begin("anysa-lane");
    rcu_join();
    while (!atomic_load_explicit(&lane->stop, memory_order_acquire))
        (void)lane_turn(lane, -1);
    rcu_leave();
    return NULL;
}

int lane_start(struct lane *lane)
{
    int rc = pthread_create(&lane->thread, NULL, lane_main, lane);

    lane->threaded = rc == 0;
    return rc == 0 ? ERR_OK : ERR_IO;
}

void lane_stop(struct lane *lane)
{
    if (!lane->threaded)
        return;
    atomic_store_explicit(&lane->stop, true, memory_order_release);
    lane->dp->source->wake(lane->source);
    pthread_join(lane->thread, NULL);
    lane->threaded = false;
}

/* ---------------------------------------------------------------- one turn */

/* Gives a batch to the source; what it does not take is counted as dropped. */
static void send_all(struct lane *lane, struct batch *b, tally *packets, tally *bytes)
{
    if (!b->n)
        return;
    for (size_t i = 0; i < b->n; i++)
        b->p[i]->sent = false;
    lane->dp->source->send(lane->source, b->p, b->n);
    for (size_t i = 0; i < b->n; i++) {
        if (b->p[i]->sent) {
            tally_add(packets, 1);
            tally_add(bytes, b->p[i]->carried);
        } else {
            lane_drop(lane, DROP_SINK_FULL);
        }
    }
}

static void reset_packets(struct lane *lane, struct batch *b)
{
    for (size_t i = 0; i < BATCH_MAX; i++) {
        struct packet *p = &lane->packets[i];
        uint8_t *room = p->room;

        *p = (struct packet){.room = room, .data = room + PACKET_HEADROOM};
        b->p[i] = p;
    }
}

static void wake_loop(struct lane *lane)
{
    uint64_t one = 1;
    ssize_t n = write(lane->dp->wake_fd, &one, sizeof one);

    (void)n; /* it fails only when the count is full, and then the loop is awake */
    lane->wake_loop = false;
}

/* Through the lane and out: at most BATCH_MAX packets in all. */
static void carry(struct lane *lane, struct batch *arrived, struct batch *leaving)
{
    lane->to_inner.n = lane->to_wire.n = lane->hairpin.n = 0;

    rcu_read_lock();
    in_batch(lane, arrived);
    for (size_t i = 0; i < lane->hairpin.n; i++)
        batch_add(leaving, lane->hairpin.p[i]);
    out_batch(lane, leaving);
    rcu_read_unlock();

    send_all(lane, &lane->to_inner, &lane->counters.packets_in, &lane->counters.bytes_in);
    send_all(lane, &lane->to_wire, &lane->counters.packets_out, &lane->counters.bytes_out);
}

/* What waited for its SA and has it now. */
static void carry_held(struct lane *lane)
{
    struct batch held = {0}, leaving = {0};

    hold_release(lane, &held);
    if (held.n)
        carry(lane, &held, &leaving);
}

size_t lane_turn(struct lane *lane, int timeout_ms)
{
    struct batch all = {0}, arrived = {0}, leaving = {0};

    reset_packets(lane, &all);
    all.n =
        lane->dp->source->recv(lane->source, all.p, BATCH_MAX, hold_timeout_ms(lane, timeout_ms));
    if (!all.n && !lane->hold.n)
        return 0;
    for (size_t i = 0; i < all.n; i++)
        batch_add(all.p[i]->via == VIA_INNER ? &leaving : &arrived, all.p[i]);

    lane->now = now_read();
    lane->epoch = atomic_load_explicit(&lane->dp->epoch, memory_order_acquire);
    iv_grant(&lane->iv, lane->epoch);
    if (lane->hold.n)
        carry_held(lane);
    if (all.n)
        carry(lane, &arrived, &leaving);
    tally_set(&lane->counters.iv_used, (uint64_t)lane->iv.epoch << 32 | lane->iv.last);
    if (lane->wake_loop)
        wake_loop(lane);
    return all.n;
}

void batch_add(struct batch *b, struct packet *p)
{
    b->p[b->n++] = p;
}

void lane_drop(struct lane *lane, enum dp_drop reason)
{
    tally_add(&lane->counters.drops[reason], 1);
}

/* ---------------------------------------------------------------- news for the loop */

/* `told` keeps it to one message; when the ring is full the next packet tries again. */
void lane_tell(struct lane *lane, enum news_kind kind, uint32_t spi_in, atomic_bool *told)
{
    struct news *news;

    if (told && atomic_exchange_explicit(told, true, memory_order_relaxed))
        return;
    news = ring_reserve(lane->news, sizeof *news);
    if (!news) {
        if (told)
            atomic_store_explicit(told, false, memory_order_relaxed);
        return;
    }
    *news = (struct news){.kind = kind, .spi_in = spi_in};
    ring_commit(lane->news);
    lane->wake_loop = true;
}

/* What cannot be told now is told by a later packet. */
void lane_moved(struct lane *lane, struct sa_hot *hot, const struct endpoint *peer)
{
    uint64_t now = lane->now.mono_us, told = tally_get(&hot->move_told_us);
    struct news *news;

    if (told && now - told < MOVE_REPEAT_US)
        return;
    if (now - lane->move_window_us >= 1000000) {
        lane->move_window_us = now;
        lane->move_count = 0;
    }
    news = lane->move_count < MOVES_PER_SECOND ? ring_reserve(lane->news, sizeof *news) : NULL;
    if (!news) {
        tally_add(&lane->counters.moves_unreported, 1);
        return;
    }
    *news = (struct news){.kind = NEWS_MOVED, .spi_in = hot->spi_in, .peer = *peer};
    ring_commit(lane->news);
    lane->wake_loop = true;
    lane->move_count++;
    tally_set(&hot->move_told_us, now);
    tally_add(&lane->counters.moves_reported, 1);
}

bool lane_random(struct lane *lane, uint8_t *out, size_t n)
{
    if (lane->random_left < n) {
        if (crypto_random(lane->random, sizeof lane->random) != ERR_OK) {
            lane->random_left = 0;
            return false;
        }
        lane->random_left = sizeof lane->random;
    }
    lane->random_left -= n;
    memcpy(out, lane->random + lane->random_left, n);
    return true;
}
