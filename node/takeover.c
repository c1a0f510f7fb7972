/* Becoming the owner of an IKE SA that another process spoke for:
 *
 *   restart    our slot owned it before this process began, or a draining node
 *              handed it to our slot: a bounded number is begun at each tick
 *   adoption   its owner is dead, and a message came that only its peer can have
 *              made: at once, and the message waits
 *   orphans    its owner has been dead for ORPHAN_S and no message came: somebody
 *              must rekey it in time and notice when its peer is gone. Of a
 *              majority's ready members each takes its share
 *
 * In any case the record gets the next term in our name and goes through the
 * barrier; only then does the engine learn of the SA, so that no two processes
 * ever answer in the same term. Two nodes that adopt at the same time write the
 * same term number; the join lets one of them win, and the other passes on what
 * it held. The engine goes on where the record stands: message IDs, the last
 * answer, an outstanding request of the gateway. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "node/node.h"
#include "proto/err.h"
#include "proto/log.h"

#define TAKEOVER_BARRIER (UINT64_C(1) << 63) /* keeps our barrier ids apart from the engine's */

enum {
    CLAIMS_PER_TICK = 256,
    ORPHAN_S = 30,        /* a restart takes less */
    ORPHAN_LOOK_S = 10,   /* so often they are looked for while a member is dead, */
    STRANGERS_EVERY = 30, /* else each so many times */
    HELD_PER_SA = 64,     /* all fragments of a message */
    HELD_BYTES_MAX = 4 << 20,
};

struct held { /* a datagram that waits for the barrier */
    struct held *next;
    struct endpoint local, peer;
    size_t n;
    uint8_t bytes[];
};

struct waiting { /* a term of ours on its way through the barrier */
    uint64_t barrier, spi;
    bool adopted;
    unsigned n_held;
    struct held *first, *last;
};

struct takeover {
    bool begun, draining;
    uint64_t *spis; /* IKE SAs of our slot not claimed yet; while draining: to hand over */
    size_t n_spis, cap_spis;
    struct waiting *waiting;
    size_t n_waiting, cap_waiting;
    uint64_t last_barrier;
    size_t held_bytes;
    uint64_t *dead_since_us; /* monotonic, by slot; 0: live */
    uint64_t orphans_looked_us;
    unsigned orphan_looks;
};

/* Room for one more of `size` bytes in *array. */
static bool reserve(void **array, size_t n, size_t *cap, size_t size)
{
    size_t wanted = *cap ? 2 * *cap : 64;
    void *grown;

    if (n < *cap)
        return true;
    grown = realloc(*array, wanted * size);
    if (!grown)
        return false;
    *array = grown;
    *cap = wanted;
    return true;
}

static struct takeover *takeover_of(struct node *node)
{
    if (!node->takeover)
        node->takeover = calloc(1, sizeof *node->takeover);
    return node->takeover;
}

static bool is_alive(const struct node *node, const struct record *record)
{
    return record && record->kind == RECORD_IKE && record->ike.state == SA_INSTALLED &&
           record->ike.not_after_ms > sync_now(node->sync, now_read()).wall_ms;
}

static bool is_ours(const struct node *node, const struct record *record)
{
    struct id128 self = sync_incarnation(node->sync);

    return is_alive(node, record) && record->ike.term.slot == node->config->node.slot &&
           id128_equal(&record->ike.term.incarnation, &self);
}

static bool to_be_resumed(const struct node *node, const struct record *record)
{
    return is_alive(node, record) && record->ike.term.slot == node->config->node.slot &&
           !is_ours(node, record);
}

static size_t ready_members(const struct node *node, bool ourselves,
                            uint16_t slots[SYNC_MEMBERS_MAX])
{
    struct sync_member_info info;
    size_t n = 0;

    for (size_t i = 0; i < node->config->mesh.n; i++) {
        uint16_t slot = node->config->mesh.members[i].slot;

        if ((ourselves || slot != node->config->node.slot) &&
            sync_member(node->sync, slot, &info) && info.state == MEMBER_READY)
            slots[n++] = slot;
    }
    return n;
}

static void add_spi(struct takeover *t, uint64_t spi)
{
    if (reserve((void **)&t->spis, t->n_spis, &t->cap_spis, sizeof *t->spis))
        t->spis[t->n_spis++] = spi;
    else
        log_error("node", "out of memory: IKE SA 0x%016" PRIx64 " is not taken up", spi);
}

/* ---- the claim ---- */

/* Puts the record under the next term; barrier 0: nothing waits for it. */
static bool put_term(struct node *node, const struct record *record, const struct term *term,
                     uint64_t barrier)
{
    struct record *clone = record_clone(record);
    struct sync_event event = {
        .kind = SYNC_EV_PUT, .group = &clone, .n_group = 1, .barrier = barrier};

    if (!clone)
        return false;
    clone->ike.term = *term;
    clone->ike.revision = 0;
    node_sync(node, &event);
    return true;
}

static bool claim(struct node *node, const struct record *record, bool adopted)
{
    struct takeover *t = node->takeover;
    struct term term = {record->ike.term.number + 1, node->config->node.slot,
                        sync_incarnation(node->sync)};
    struct waiting *w;

    if (!reserve((void **)&t->waiting, t->n_waiting, &t->cap_waiting, sizeof *t->waiting))
        return false;
    w = &t->waiting[t->n_waiting++];
    *w = (struct waiting){.barrier = TAKEOVER_BARRIER | ++t->last_barrier,
                          .spi = ike_record_spi(&record->ike),
                          .adopted = adopted};
    if (put_term(node, record, &term, w->barrier))
        return true;
    t->n_waiting--;
    return false;
}

static struct waiting *find_waiting(struct takeover *t, uint64_t spi)
{
    for (size_t i = 0; i < t->n_waiting; i++)
        if (t->waiting[i].spi == spi)
            return &t->waiting[i];
    return NULL;
}

/* ---- restart ---- */

static bool collect(void *ctx, const struct record *record)
{
    struct node *node = ctx;

    if (to_be_resumed(node, record))
        add_spi(node->takeover, ike_record_spi(&record->ike));
    return true;
}

static void begin(struct node *node)
{
    struct takeover *t = node->takeover;

    t->begun = true;
    sync_each(node->sync, RECORD_IKE, collect, node);
    if (t->n_spis > 0)
        log_info("node", "taking up %zu IKE SAs that this slot owned before its restart",
                 t->n_spis);
}

/* ---- orphans ---- */

struct search {
    struct node *node;
    const uint16_t *slots; /* that are ready, ours among them: all of them agree, mostly */
    size_t n;
};

static bool is_orphan(const struct node *node, const struct record *record)
{
    uint64_t since_us;

    if (!is_alive(node, record) || record->ike.term.slot == node->config->node.slot ||
        !node->takeover->dead_since_us)
        return false;
    since_us = node->takeover->dead_since_us[record->ike.term.slot];
    return since_us && now_read().mono_us - since_us >= ORPHAN_S * 1000000ULL;
}

/* Where members disagree about who is ready two of them may claim one: the terms decide. */
static bool collect_orphans(void *ctx, const struct record *record)
{
    struct search *s = ctx;
    uint64_t spi = ike_record_spi(&record->ike);

    if (is_orphan(s->node, record) && s->slots[spi % s->n] == s->node->config->node.slot)
        add_spi(s->node->takeover, spi);
    return true;
}

/* Whether a member has been dead for long. A slot that is not in the member list is dead from the
 * first look on; records of such are looked for now and then. */
static bool someone_is_gone(struct node *node, uint64_t now_us)
{
    const struct config *config = node->config;
    struct takeover *t = node->takeover;
    bool gone = ++t->orphan_looks % STRANGERS_EVERY == 0;

    if (!t->dead_since_us) {
        t->dead_since_us = calloc(SLOT_MAX + 1, sizeof *t->dead_since_us);
        if (!t->dead_since_us)
            return false;
        for (size_t i = 0; i <= SLOT_MAX; i++)
            t->dead_since_us[i] = now_us;
    }
    for (size_t i = 0; i < config->mesh.n; i++) {
        uint16_t slot = config->mesh.members[i].slot;
        uint64_t *since_us = &t->dead_since_us[slot];

        if (slot == config->node.slot || sync_member_live(node->sync, slot))
            *since_us = 0;
        else if (*since_us == 0)
            *since_us = now_us;
        gone |= *since_us && now_us - *since_us >= ORPHAN_S * 1000000ULL;
    }
    return gone;
}

static void look_for_orphans(struct node *node)
{
    struct takeover *t = node->takeover;
    uint16_t slots[SYNC_MEMBERS_MAX];
    struct search s = {.node = node, .slots = slots};
    uint64_t now_us = now_read().mono_us;

    if (now_us - t->orphans_looked_us < ORPHAN_LOOK_S * 1000000ULL)
        return;
    t->orphans_looked_us = now_us;
    if (!someone_is_gone(node, now_us) || !node->ready || !node_has_majority(node))
        return;
    s.n = ready_members(node, true, slots);
    if (s.n > 0)
        sync_each(node->sync, RECORD_IKE, collect_orphans, &s);
}

/* ---- drain: the live members get our IKE SAs in turn ---- */

static bool collect_ours(void *ctx, const struct record *record)
{
    struct node *node = ctx;

    if (is_ours(node, record))
        add_spi(node->takeover, ike_record_spi(&record->ike));
    return true;
}

static void hand_over_some(struct node *node)
{
    struct takeover *t = node->takeover;
    uint16_t slots[SYNC_MEMBERS_MAX];
    size_t n = ready_members(node, false, slots);

    if (!t->draining) { /* once, and whatever is established later when it is */
        t->draining = true;
        t->n_spis = 0;
    }
    if (n > 0 && t->n_spis == 0)
        sync_each(node->sync, RECORD_IKE, collect_ours, node);
    for (int i = 0; n > 0 && i < CLAIMS_PER_TICK && t->n_spis > 0; i++) {
        uint64_t spi = t->spis[--t->n_spis];
        const struct record *record = sync_find_ike(node->sync, spi);
        struct term term = {.slot = slots[spi % n]};

        if (!is_ours(node, record))
            continue;
        term.number = record->ike.term.number + 1;
        node->counters.handed_over += put_term(node, record, &term, 0);
    }
}

bool node_takeover_drained(struct node *node)
{
    uint16_t slots[SYNC_MEMBERS_MAX];
    struct ike_stats stats;

    ike_get_stats(node->ike, &stats);
    return stats.established == 0 || ready_members(node, false, slots) == 0;
}

void node_takeover_tick(struct node *node)
{
    struct takeover *t = takeover_of(node);

    if (!t || !sync_is_caught_up(node->sync, now_read()))
        return;
    if (node->draining) {
        hand_over_some(node);
        return;
    }
    if (t->draining || (!t->begun && node_may_adopt(node))) {
        t->draining = false;
        t->n_spis = 0;
        begin(node);
    }
    if (t->begun && t->n_spis == 0)
        look_for_orphans(node);
    for (int i = 0; i < CLAIMS_PER_TICK && t->n_spis > 0; i++) {
        const struct record *record = sync_find_ike(node->sync, t->spis[--t->n_spis]);

        if (!record || find_waiting(t, ike_record_spi(&record->ike)))
            continue;
        if (to_be_resumed(node, record))
            (void)claim(node, record, false);
        else if (is_orphan(node, record))
            (void)claim(node, record, true);
    }
}

void node_takeover_offer(struct node *node, const struct record *ike)
{
    if (node->takeover && node->takeover->begun && !node->draining && to_be_resumed(node, ike))
        add_spi(node->takeover, ike_record_spi(&ike->ike));
}

/* ---- adoption ---- */

static void hold(struct node *node, struct waiting *w, const struct endpoint *local,
                 const struct endpoint *peer, struct slice bytes)
{
    struct takeover *t = node->takeover;
    struct held *h;

    if (w->n_held == HELD_PER_SA || t->held_bytes + bytes.n > HELD_BYTES_MAX) {
        node->counters.adoption_full++; /* it comes again */
        return;
    }
    h = malloc(sizeof *h + bytes.n);
    if (!h)
        return;
    *h = (struct held){.local = *local, .peer = *peer, .n = bytes.n};
    memcpy(h->bytes, bytes.p, bytes.n);
    if (w->last)
        w->last->next = h;
    else
        w->first = h;
    w->last = h;
    w->n_held++;
    t->held_bytes += bytes.n;
}

void node_adopt(struct node *node, const struct record *ike, const struct endpoint *local,
                const struct endpoint *peer, struct slice bytes)
{
    struct takeover *t = takeover_of(node);
    struct waiting *w;
    uint64_t spi;

    if (!t || !is_alive(node, ike) || !ike_fits(ike, bytes))
        return;
    spi = ike_record_spi(&ike->ike);
    if (!find_waiting(t, spi)) {
        log_info("node", "adopting IKE SA 0x%016" PRIx64 ": its owner, slot %u, is dead", spi,
                 ike->ike.term.slot);
        (void)claim(node, ike, true);
    }
    w = find_waiting(t, spi);
    if (w)
        hold(node, w, local, peer, bytes);
}

/* ---- past the barrier ---- */

bool node_takeover_is_barrier(uint64_t barrier)
{
    return (barrier & TAKEOVER_BARRIER) != 0;
}

struct family { /* what else a lineage has */
    const struct ike_record *ike;
    bool superseded; /* a newer IKE SA is there: a rekey that was not finished */
    const struct record **children;
    size_t n, cap;
};

static void meet(void *ctx, const struct record *r)
{
    struct family *f = ctx;

    if (r->kind == RECORD_CHILD) {
        if (reserve((void **)&f->children, f->n, &f->cap, sizeof(struct record *)))
            f->children[f->n++] = r;
    } else if (r->ike.created_ms > f->ike->created_ms ||
               (r->ike.created_ms == f->ike->created_ms &&
                ike_record_spi(&r->ike) > ike_record_spi(f->ike))) {
        f->superseded = true;
    }
}

static void restore(struct node *node, const struct record *ike, bool adopted)
{
    struct family f = {.ike = &ike->ike};
    int err;

    sync_each_of_lineage(node->sync, &ike->ike.lineage, meet, &f);
    err = ike_restore(node->ike, ike, f.children, f.superseded ? 0 : f.n, f.superseded,
                      sync_now(node->sync, now_read()));
    if (err == ERR_OK) {
        node->counters.adopted += adopted;
        node->counters.resumed += !adopted;
    } else {
        log_warn("node", "IKE SA 0x%016" PRIx64 " was not taken up: %s", ike_record_spi(&ike->ike),
                 err_text(err));
    }
    free(f.children);
}

/* To the engine, or to whoever won. */
static void let_go(struct node *node, struct held *first)
{
    while (first) {
        struct held *h = first;

        first = h->next;
        node->takeover->held_bytes -= h->n;
        node_on_ike_datagram(node, &h->local, &h->peer, (struct slice){h->bytes, h->n}, false);
        free(h);
    }
}

void node_takeover_on_barrier(struct node *node, uint64_t barrier)
{
    struct takeover *t = node->takeover;
    const struct record *record;
    struct waiting w;
    size_t i = 0;

    while (i < t->n_waiting && t->waiting[i].barrier != barrier)
        i++;
    if (i == t->n_waiting)
        return;
    w = t->waiting[i];
    t->waiting[i] = t->waiting[--t->n_waiting];
    record = sync_find_ike(node->sync, w.spi);
    if (is_ours(node, record))
        restore(node, record, w.adopted);
    else if (t->begun && !node->draining && to_be_resumed(node, record))
        add_spi(t, w.spi); /* it was handed to our slot while this claim was under way */
    let_go(node, w.first);
}

void node_takeover_free(struct node *node)
{
    struct takeover *t = node->takeover;

    if (!t)
        return;
    for (size_t i = 0; i < t->n_waiting; i++)
        while (t->waiting[i].first) {
            struct held *h = t->waiting[i].first;

            t->waiting[i].first = h->next;
            free(h);
        }
    free(t->spis);
    free(t->dead_since_us);
    free(t->waiting);
    free(t);
    node->takeover = NULL;
}
