/* How lane and loop meet. The loop changes the SA table (or gone), counts that in dp.sa_changes,
 * then looks whether a lane is `holding` and wakes it. The lane says `holding`, then reads
 * sa_changes before it sleeps. Both in sequentially consistent order, so one of the two notices. */
#include "dataplane/hold.h"

#include <string.h>

#include "dataplane/internal.h"

/* ---------------------------------------------------------------- who is live */

void live_set(struct live_slots *l, uint16_t slot, bool live)
{
    uint64_t bit = 1ULL << slot % 64;

    if (live)
        atomic_fetch_or_explicit(&l->words[slot / 64], bit, memory_order_relaxed);
    else
        atomic_fetch_and_explicit(&l->words[slot / 64], ~bit, memory_order_relaxed);
}

bool live_has(const struct live_slots *l, uint16_t slot)
{
    return slot <= SLOT_MAX &&
           (atomic_load_explicit(&l->words[slot / 64], memory_order_relaxed) >> slot % 64 & 1);
}

/* ---------------------------------------------------------------- what is gone */

static uint32_t gone_tick(uint64_t us)
{
    return (uint32_t)(us >> 16);
}

static bool gone_match(uint64_t place, uint32_t spi, uint32_t tick)
{
    return (uint32_t)(place >> 32) == spi && (int32_t)((uint32_t)place - tick) > 0;
}

static unsigned gone_at(uint32_t spi)
{
    return (spi * 0x9e3779b1u) >> 20;
}
_Static_assert((int)GONE_PLACES == 1 << 12, "gone_at gives 12 bits");

void gone_add(struct gone *g, uint32_t spi, uint64_t now_us, uint32_t for_us)
{
    _Atomic uint64_t *place = &g->places[gone_at(spi)];
    uint32_t until = gone_tick(now_us + for_us) + 1;

    if (!gone_match(atomic_load_explicit(place, memory_order_relaxed), spi, until))
        atomic_store_explicit(place, (uint64_t)spi << 32 | until, memory_order_relaxed);
}

void gone_del(struct gone *g, uint32_t spi)
{
    _Atomic uint64_t *place = &g->places[gone_at(spi)];

    if (atomic_load_explicit(place, memory_order_relaxed) >> 32 == spi)
        atomic_store_explicit(place, 0, memory_order_relaxed);
}

bool gone_has(const struct gone *g, uint32_t spi, uint64_t now_us)
{
    return gone_match(atomic_load_explicit(&g->places[gone_at(spi)], memory_order_relaxed), spi,
                      gone_tick(now_us));
}

/* ---------------------------------------------------------------- the places */

void hold_init(struct hold *h, unsigned cap, uint8_t *memory)
{
    h->cap = cap;
    for (unsigned i = 0; i < cap; i++) {
        h->places[i].packet.room = memory + (size_t)i * PACKET_ROOM;
        h->order[i] = &h->places[i];
    }
}

/* Not sooner than its turn, and not while the ring is full: the packet waits meanwhile. */
static bool tell(struct lane *lane, uint32_t spi)
{
    struct hold *h = &lane->hold;
    uint64_t now = lane->now.mono_us;
    struct news *news;

    if (h->tell_next_us > now + (uint64_t)MISS_BURST * MISS_EVERY_US)
        return false;
    news = ring_reserve(lane->news, sizeof *news);
    if (!news)
        return false;
    *news = (struct news){.kind = NEWS_MISS, .spi_in = spi};
    ring_commit(lane->news);
    lane->wake_loop = true;
    h->tell_next_us = (h->tell_next_us > now ? h->tell_next_us : now) + MISS_EVERY_US;
    return true;
}

/* How many packets of an SPI wait; `first` is the first of them. */
static unsigned waiting(const struct hold *h, uint32_t spi, const struct held **first)
{
    unsigned n = 0;

    for (unsigned i = 0; i < h->n; i++)
        if (h->spi[i] == spi && n++ == 0)
            *first = h->order[i];
    return n;
}

static void keep(struct lane *lane, struct packet *p, uint32_t spi)
{
    struct hold *h = &lane->hold;
    struct held *held = h->order[h->n];
    uint8_t *room = held->packet.room;

    h->spi[h->n++] = spi;
    held->packet = *p;
    held->packet.held = true;
    p->room = room;
    held->until_us = lane->now.mono_us + HOLD_US;
    tally_add(&lane->counters.held, 1);
    atomic_store(&h->holding, true);
}

bool hold_take(struct lane *lane, struct packet *p, uint32_t spi, bool found)
{
    const struct held *first = NULL;
    struct hold *h = &lane->hold;
    unsigned before;

    if (p->held) /* once is enough */
        return false;
    if (!found && (!live_has(&lane->dp->live, esp_spi_slot(spi)) ||
                   gone_has(&lane->dp->gone, spi, lane->now.mono_us)))
        return false;
    before = waiting(h, spi, &first);
    if (found && !before)
        return false;
    if (h->n == h->cap || before >= (h->cap + 1) / 2) {
        tally_add(&lane->counters.held_overflow, !found);
        return false;
    }
    keep(lane, p, spi);
    h->order[h->n - 1]->told = first ? first->told : tell(lane, spi);
    return true;
}

enum verdict { VERDICT_WAIT, VERDICT_GO, VERDICT_DROP };

static enum verdict judge(const struct lane *lane, const struct held *held, uint32_t spi,
                          bool changed)
{
    if (held->until_us <= lane->now.mono_us)
        return VERDICT_DROP;
    if (changed && sa_find(&lane->dp->sas, spi))
        return VERDICT_GO;
    if (changed && gone_has(&lane->dp->gone, spi, lane->now.mono_us))
        return VERDICT_DROP;
    return VERDICT_WAIT;
}

/* What could not be told at once, first things first. */
static void tell_rest(struct lane *lane)
{
    struct hold *h = &lane->hold;

    for (unsigned i = 0; i < h->n; i++) {
        struct held *held = h->order[i];
        const struct held *first = held;

        if (held->told)
            continue;
        (void)waiting(h, h->spi[i], &first);
        held->told = first != held ? first->told : tell(lane, h->spi[i]);
    }
}

void hold_release(struct lane *lane, struct batch *b)
{
    struct hold *h = &lane->hold;
    struct held *freed[HOLD_MAX];
    uint64_t changes = atomic_load(&lane->dp->sa_changes);
    bool changed = changes != h->seen;
    unsigned kept = 0, n_freed = 0;

    h->seen = changes;
    rcu_read_lock();
    for (unsigned i = 0; i < h->n; i++) {
        struct held *held = h->order[i];
        enum verdict v = judge(lane, held, h->spi[i], changed);

        if (v == VERDICT_WAIT) {
            h->spi[kept] = h->spi[i];
            h->order[kept++] = held;
            continue;
        }
        freed[n_freed++] = held;
        if (v == VERDICT_GO) {
            batch_add(b, &held->packet);
            tally_add(&lane->counters.held_released, 1);
        } else {
            lane_drop(lane, DROP_NO_SA);
        }
    }
    rcu_read_unlock();
    memcpy(h->order + kept, freed, n_freed * sizeof *freed);
    h->n = kept;
    tell_rest(lane);
    if (!kept)
        atomic_store(&h->holding, false);
}

int hold_timeout_ms(struct lane *lane, int timeout_ms)
{
    struct hold *h = &lane->hold;
    uint64_t now, until;
    bool untold = false;
    int ms;

    if (!h->n)
        return timeout_ms;
    if (atomic_load(&lane->dp->sa_changes) != h->seen)
        return 0;
    for (unsigned i = 0; i < h->n; i++)
        untold |= !h->order[i]->told;
    now = now_read().mono_us;
    until = h->order[0]->until_us; /* the oldest */
    ms = until > now ? (int)((until - now + 999) / 1000) : 0;
    if (untold && ms > 1)
        ms = 1;
    return timeout_ms >= 0 && timeout_ms < ms ? timeout_ms : ms;
}
