#include "tests/unit/sync/harness.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "sync/join.h"

static void fill_random(void *ctx, uint8_t *out, size_t n)
{
    struct cluster *c = ctx;

    for (size_t i = 0; i < n; i++) { /* splitmix64, a byte at a time */
        uint64_t z = c->random += UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        out[i] = (uint8_t)(z >> 40);
    }
}

struct cluster *cluster_new(size_t n)
{
    struct cluster *c = calloc(1, sizeof *c);

    c->now = (struct now){1000000, SAMPLE_NOW_MS};
    c->n = n;
    c->name = "lab";
    c->key_id = 1;
    for (size_t i = 0; i < n; i++) {
        c->nodes[i].slot = (uint16_t)(i + 1);
        c->nodes[i].disk = memory_disk_new();
    }
    return c;
}

void cluster_free(struct cluster *c)
{
    for (size_t i = 0; i < c->n; i++) {
        if (c->nodes[i].core)
            kill_node(c, c->nodes[i].slot);
        memory_disk_free(c->nodes[i].disk);
    }
    lose_mail(c);
    for (size_t i = 0; i <= NODES_MAX; i++)
        free(c->last_frame[i]);
    free(c);
}

struct node *at(struct cluster *c, uint16_t slot)
{
    return &c->nodes[slot - 1];
}

struct sync_config cluster_config(const struct cluster *c, uint16_t slot)
{
    struct sync_config config = {
        .slot = slot, .n_members = c->n, .n_keys = 1, .dead_ms = 500, .barrier_timeout_ms = 250};

    snprintf(config.cluster, sizeof config.cluster, "%s", c->name);
    snprintf(config.name, sizeof config.name, "n%u", slot);
    snprintf(config.version, sizeof config.version, "test");
    for (size_t i = 0; i < c->n; i++)
        config.members[i] = c->nodes[i].slot;
    config.keys[0] = sample_cluster_key(c->key_id);
    return config;
}

/* ---- effects ---- */

static void send(struct cluster *c, enum sync_event_kind kind, uint16_t from, uint16_t to,
                 uint64_t request, struct slice bytes)
{
    struct letter *l;

    cr_assert_lt(c->n_wire, (size_t)WIRE_MAX);
    l = &c->wire[c->n_wire++];
    *l = (struct letter){kind, from, to, false, request, malloc(bytes.n + 1), bytes.n};
    if (bytes.n)
        memcpy(l->bytes, bytes.p, bytes.n);
}

static void on_record(struct node *n, const struct record *r)
{
    struct seen_record *seen = NULL;

    n->n_record_effects++;
    for (size_t i = 0; i < n->n_records; i++)
        if (n->records[i].kind == r->kind && n->records[i].key == record_key(r))
            seen = &n->records[i];
    if (!seen && n->n_records < SEEN_MAX)
        seen = &n->records[n->n_records++];
    if (!seen)
        return; /* bulk tests look into the core instead */
    *seen = (struct seen_record){.kind = r->kind, .state = record_state(r), .key = record_key(r)};
    if (r->kind == RECORD_CHILD) {
        seen->confirmed = r->child.confirmed;
        seen->key_bytes = r->child.encr_in.n;
    }
}

static void on_barrier(struct node *n, const struct sync_effect *fx)
{
    struct seen_barrier *b = &n->barriers[n->n_barriers++];

    cr_assert_leq(n->n_barriers, (size_t)SEEN_MAX);
    b->id = fx->barrier;
    b->timed_out = fx->timed_out;
    b->superseded = fx->superseded;
    b->n_laggards = fx->n_laggards;
    for (size_t i = 0; i < fx->n_laggards; i++)
        b->laggards[i] = fx->laggards[i];
}

static struct now clock_of(const struct cluster *c, const struct node *n)
{
    return (struct now){c->now.mono_us, c->now.wall_ms + n->skew_ms};
}

static void on_publish(struct cluster *c, struct node *n, uint16_t to, struct slice bytes)
{
    n->n_published++;
    if (to != SLOT_ALL)
        n->n_to[to]++;
    free(c->last_frame[n->slot]);
    c->last_frame[n->slot] = malloc(bytes.n);
    memcpy(c->last_frame[n->slot], bytes.p, bytes.n);
    c->last_frame_n[n->slot] = bytes.n;
    for (size_t i = 0; i < c->n; i++)
        if (c->nodes[i].slot != n->slot && (to == SLOT_ALL || to == c->nodes[i].slot)) {
            send(c, SYNC_EV_FRAME, n->slot, c->nodes[i].slot, 0, bytes);
            c->wire[c->n_wire - 1].to_all = to == SLOT_ALL;
        }
}

static void on_effect(struct cluster *c, struct node *n, const struct sync_effect *fx)
{
    switch (fx->kind) {
    case SYNC_FX_RECORD:
        on_record(n, fx->record);
        break;
    case SYNC_FX_JOURNAL:
        cr_assert_eq(n->store->ops->submit(n->store, fx->batch), ERR_OK);
        break;
    case SYNC_FX_PUBLISH:
        on_publish(c, n, fx->slot, fx->bytes);
        break;
    case SYNC_FX_REQUEST:
        n->n_requests++;
        n->last_request = fx->request;
        send(c, SYNC_EV_REQUEST, n->slot, fx->slot, fx->request, fx->bytes);
        break;
    case SYNC_FX_REPLY: /* the upper half of a request id is the asker's slot, see deliver */
        send(c, SYNC_EV_REPLY, n->slot, (uint16_t)(fx->request >> 48), fx->request, fx->bytes);
        break;
    case SYNC_FX_BARRIER:
        on_barrier(n, fx);
        break;
    case SYNC_FX_FORWARDED:
        n->n_forwarded++;
        n->forwarded_bytes = (uint16_t)fx->forward.datagram.n;
        break;
    case SYNC_FX_MOVED:
        n->n_moved++;
        n->moved = fx->moved;
        break;
    case SYNC_FX_ACTIVITY:
        n->n_activities++;
        n->activity = *fx->activity;
        break;
    case SYNC_FX_MISS_OVER:
        n->n_misses_over++;
        n->miss_over = fx->spi_in;
        break;
    case SYNC_FX_MEMBER:
        n->states[fx->slot] = fx->state;
        break;
    case SYNC_FX_EPOCH:
        n->epoch = fx->epoch;
        n->n_epochs++;
        break;
    case SYNC_FX_CONFLICT:
        n->n_conflicts++;
        break;
    }
}

void give(struct cluster *c, uint16_t slot, const struct sync_event *ev)
{
    struct node *n = at(c, slot);
    struct sync_effects fx = sync_step(n->core, ev, clock_of(c, n));

    for (size_t i = 0; i < fx.n; i++)
        on_effect(c, n, &fx.fx[i]);
}

/* ---- the wire ---- */

/* The answering core sees a request id that leads back to the asker. */
static struct {
    uint16_t asker;
    uint64_t id;
} asked[1024];
static size_t n_asked;

static bool passes(const struct cluster *c, const struct letter *l)
{
    const struct node *to = &c->nodes[l->to - 1], *from = &c->nodes[l->from - 1];

    if (!to->core || to->cut_from[l->from] || from->cut_from[l->to] || to->unreached_by[l->from])
        return false;
    if (l->kind == SYNC_EV_REQUEST && to->answers_nobody)
        return false;
    if (l->to_all && to->no_stream[l->from])
        return false;
    return l->kind != SYNC_EV_FRAME || !to->deaf_to[l->from];
}

static void deliver(struct cluster *c, struct letter *l)
{
    struct sync_event ev = {.kind = l->kind, .bytes = {l->bytes, l->n}, .request = l->request};

    if (l->kind == SYNC_EV_REQUEST) {
        size_t k = n_asked++ % 1024;
        asked[k].asker = l->from;
        asked[k].id = l->request;
        ev.request = (uint64_t)l->from << 48 | k;
        if (!passes(c, l) && !at(c, l->to)->unreached_by[l->from]) /* the transport tells */
            send(c, SYNC_EV_REPLY, l->to, l->from, ev.request, (struct slice){NULL, 0});
    }
    if (l->kind == SYNC_EV_REPLY)
        ev.request = asked[l->request & 1023].id;
    if (passes(c, l) || (l->kind == SYNC_EV_REPLY && l->n == 0 && c->nodes[l->to - 1].core))
        give(c, l->to, &ev);
    free(l->bytes);
}

void lose_mail(struct cluster *c)
{
    for (size_t i = 0; i < c->n_wire; i++)
        free(c->wire[i].bytes);
    c->n_wire = 0;
}

static void poll_disk(struct cluster *c, struct node *n)
{
    struct sync_event ev = {.kind = SYNC_EV_JOURNALED};

    if (n->disk_held)
        return;
    if (n->disk_broken) { /* whatever it holds back meanwhile */
        ev.failed = n->disk_told_broken = true;
        give(c, n->slot, &ev);
        return;
    }
    ev.ticket = n->store->ops->poll(n->store, &ev.failed);
    if (ev.ticket || n->disk_told_broken)
        give(c, n->slot, &ev);
    n->disk_told_broken = false;
}

void run(struct cluster *c, unsigned ms)
{
    const struct sync_event tick = {.kind = SYNC_EV_TICK};

    while (ms--) {
        static struct letter mail[WIRE_MAX];
        size_t n = c->n_wire;
        c->now.mono_us += 1000;
        c->now.wall_ms += 1;
        memcpy(mail, c->wire, n * sizeof *mail);
        c->n_wire = 0;
        for (size_t i = 0; i < n; i++)
            if (c->nodes[mail[i].to - 1].paused && c->n_wire < WIRE_MAX)
                c->wire[c->n_wire++] = mail[i];
            else
                deliver(c, &mail[i]);
        for (size_t i = 0; i < c->n; i++) {
            if (!c->nodes[i].core || c->nodes[i].paused)
                continue;
            poll_disk(c, &c->nodes[i]);
            if (c->now.wall_ms % 5 == 0)
                give(c, c->nodes[i].slot, &tick);
        }
    }
}

/* ---- nodes ---- */

void give_journal(struct cluster *c, uint16_t slot, struct sync_batch *batch)
{
    struct store_options options = {.cluster = c->name, .slot = slot};
    struct sync_recovery recovery = {0};
    struct store *store;

    cr_assert_eq(store_memory_open(at(c, slot)->disk, &options, &store, &recovery), ERR_OK);
    store_recovery_free(&recovery);
    cr_assert_eq(store->ops->submit(store, batch), ERR_OK);
    store->ops->close(store);
}

void start(struct cluster *c, uint16_t slot)
{
    struct rng rng = {fill_random, c};
    struct sync_config config = cluster_config(c, slot);
    struct store_options options = {.cluster = c->name, .slot = slot};
    struct sync_recovery recovery;
    struct sync_event ev = {.kind = SYNC_EV_RECOVERED, .recovery = &recovery};
    struct node *n = at(c, slot);
    struct node fresh = {.slot = slot, .disk = n->disk, .skew_ms = n->skew_ms};

    memcpy(fresh.deaf_to, n->deaf_to, sizeof fresh.deaf_to);
    memcpy(fresh.cut_from, n->cut_from, sizeof fresh.cut_from);
    *n = fresh;
    n->core = sync_new(&config, &rng, clock_of(c, n));
    cr_assert_not_null(n->core);
    cr_assert_eq(store_memory_open(n->disk, &options, &n->store, &recovery), ERR_OK);
    give(c, slot, &ev);
    store_recovery_free(&recovery);
}

void start_all(struct cluster *c)
{
    for (size_t i = 0; i < c->n; i++)
        start(c, c->nodes[i].slot);
}

void kill_node(struct cluster *c, uint16_t slot)
{
    struct node *n = at(c, slot);

    sync_free(n->core);
    n->core = NULL;
    n->store->ops->close(n->store);
    n->store = NULL;
}

void settle(struct cluster *c)
{
    bool done = false;

    for (int i = 0; i < 10000 && !done; i++) {
        run(c, 1);
        done = true;
        for (size_t k = 0; k < c->n; k++)
            if (c->nodes[k].core)
                done &= sync_is_synced(c->nodes[k].core) && sync_epoch(c->nodes[k].core) != 0;
    }
    cr_assert(done, "not settled after ten seconds");
}

/* ---- records ---- */

void put(struct cluster *c, uint16_t slot, uint64_t barrier, struct record *a, struct record *b,
         struct record *d)
{
    struct record *group[3];
    struct sync_event ev = {.kind = SYNC_EV_PUT, .group = group, .barrier = barrier};

    if (a)
        group[ev.n_group++] = a;
    if (b)
        group[ev.n_group++] = b;
    if (d)
        group[ev.n_group++] = d;
    give(c, slot, &ev);
}

const struct seen_barrier *barrier_of(const struct node *n, uint64_t id)
{
    for (size_t i = 0; i < n->n_barriers; i++)
        if (n->barriers[i].id == id)
            return &n->barriers[i];
    return NULL;
}

const struct seen_record *record_of(const struct node *n, uint8_t kind, uint64_t key)
{
    for (size_t i = 0; i < n->n_records; i++)
        if (n->records[i].kind == kind && n->records[i].key == key)
            return &n->records[i];
    return NULL;
}

bool same_digests(const struct cluster *c)
{
    uint8_t first[32], other[32];
    bool any = false;

    for (size_t i = 0; i < c->n; i++) {
        if (!c->nodes[i].core)
            continue;
        sync_digest(c->nodes[i].core, any ? other : first);
        if (any && memcmp(first, other, sizeof first) != 0)
            return false;
        any = true;
    }
    return true;
}

struct sync_stats stats_of(const struct cluster *c, uint16_t slot)
{
    struct sync_stats s;

    sync_get_stats(c->nodes[slot - 1].core, &s);
    return s;
}

struct sync_member_info member_of(const struct cluster *c, uint16_t slot, uint16_t other)
{
    struct sync_member_info info = {0};

    cr_assert(sync_member(c->nodes[slot - 1].core, other, &info), "no such member");
    return info;
}
