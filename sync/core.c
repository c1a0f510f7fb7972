/* The replication core: one event in, a list of effects out, no socket, disk or clock.
 *
 * A turn of the core. The event is taken apart first: a frame is opened and its sender
 * judged (core_peers.c), a group of records is joined into the table (core_log.c), a page
 * of a pull is merged (core_pull.c). Each record that changed is a RECORD effect at once,
 * for the dataplane. Unless more events of this loop turn are to come, there follows what
 * follows from where we now stand: is something lacking, and whom to ask (core_pull.c); are
 * we synced; may an epoch be asked for (core_epoch.c); did a member die. Then the turn's
 * shared output leaves in this order: our records as Updates, one Announce, one JOURNAL
 * batch (core_out.c). Last, the barriers that are satisfied or overdue open
 * (core_barrier.c). So an Announce, which is the ack, never leaves before the RECORD effects
 * that it speaks for.
 *
 * What is where. A record lives in the table under its key, in the log of the incarnation
 * that published its present form (records.h). How far each log is applied here is our
 * vector. Our own log is one among them, and only grows.
 *
 *     PUT --> join --> our log: RECORD, JOURNAL, PUBLISH Update     ... BARRIER
 *     Update --> open, believe --> join --> RECORD, JOURNAL, PUBLISH Announce (ack)
 *     Announce --> liveness, acks, what do we lack? --> REQUEST
 *     REPLY --> join --> RECORD, JOURNAL ... more? REQUEST : vector moves, Announce
 *     MISS --> REQUEST to the SA's maker ... not there either? MISS_OVER (core_miss.c) */
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "proto/log.h"
#include "sync/core.h"
#include "sync/join.h"

/* ---- making ---- */

static bool text_ok(const char *s, size_t cap)
{
    size_t n = strnlen(s, cap);

    for (size_t i = 0; i < n; i++)
        if (s[i] < 0x20 || s[i] > 0x7e)
            return false;
    return n > 0 && n < cap;
}

static bool config_ok(const struct sync_config *c)
{
    bool taken[SLOT_MAX + 1] = {false};

    if (!text_ok(c->cluster, sizeof c->cluster) || !text_ok(c->name, sizeof c->name) ||
        !text_ok(c->version, sizeof c->version) || c->n_members == 0 ||
        c->n_members > SYNC_MEMBERS_MAX || c->n_keys == 0 || c->n_keys > CLUSTER_KEYS_MAX ||
        c->dead_ms == 0 || c->barrier_timeout_ms == 0)
        return false;
    for (size_t i = 0; i < c->n_members; i++) {
        if (c->members[i] > SLOT_MAX || taken[c->members[i]])
            return false;
        taken[c->members[i]] = true;
    }
    for (size_t i = 0; i < c->n_keys; i++)
        if (c->keys[i].key.n != CLUSTER_KEY_BYTES || (i && c->keys[i].id == c->keys[0].id))
            return false;
    return c->slot <= SLOT_MAX && taken[c->slot];
}

struct sync_core *sync_new(const struct sync_config *config, const struct rng *rng, struct now now)
{
    struct sync_core *core;

    if (!config_ok(config))
        return NULL;
    core = calloc(1, sizeof *core);
    if (!core)
        return NULL;
    core->ack_to = FRAME_TO_ALL;
    core->haste_ms = PULL_HASTE_MS;
    core->config = *config;
    for (size_t i = 0; i < CLUSTER_KEYS_MAX; i++)
        secret_wipe(&core->config.keys[i].key); /* the box holds them */
    core->rng = *rng;
    core->now = now;
    core->own_wall_ms = now.wall_ms;
    core->started_us = now.mono_us;
    core->told = MEMBER_JOINING;
    rng_fill(rng, core->incarnation.b, ID_BYTES);
    core->next_request = rng_u64(rng) >> 1;
    if (!peers_new(core) || !epoch_new(core)) {
        sync_free(core);
        return NULL;
    }
    core->box = frame_box_new(config->cluster, config->keys, config->n_keys, config->slot,
                              &core->incarnation);
    core->table = table_new();
    core->plain_in = secret_alloc(FRAME_MAX_BYTES);
    core->plain_out = secret_alloc(FRAME_MAX_BYTES);
    if (core->table)
        core->self = table_origin(core->table, &core->incarnation, config->slot);
    if (!core->box || !core->self || !core->plain_in || !core->plain_out) {
        sync_free(core);
        return NULL;
    }
    return core;
}

void sync_free(struct sync_core *core)
{
    if (!core)
        return;
    out_free(core);
    peers_free(core);
    grants_free(core->grants);
    free(core->votes.ballots);
    pull_free(core);
    barrier_free(core);
    free(core->derived);
    table_free(core->table);
    frame_box_free(core->box);
    free(core);
}

/* ---- the step ---- */

static void forward(struct sync_core *core, const struct sync_forward *f)
{
    struct codec_message m = {.kind = CODEC_FORWARD};

    if (f->datagram.n == 0 || f->datagram.n > CODEC_DATAGRAM_MAX || f->to_slot == core->config.slot)
        return;
    m.forward.local = f->local;
    m.forward.peer = f->peer;
    m.forward.datagram = (uint8_t *)(uintptr_t)f->datagram.p;
    m.forward.n_datagram = f->datagram.n;
    out_publish(core, f->to_slot, &m);
}

static void tell_moved(struct sync_core *core, const struct sync_moved *moved)
{
    struct codec_message m = {.kind = CODEC_MOVED};

    if (moved->to_slot == core->config.slot)
        return;
    m.moved.spi_in = moved->spi_in;
    m.moved.peer = moved->peer;
    out_publish(core, moved->to_slot, &m);
}

static void tell_activity(struct sync_core *core, struct sync_activity *a)
{
    struct codec_message m = {.kind = CODEC_ACTIVITY};

    m.activity = (struct codec_activity){.round = a->round,
                                         .answer = a->answer,
                                         .n = a->n,
                                         .spi_in = a->spi_in,
                                         .age_ms = a->answer ? a->age_ms : NULL};
    out_publish(core, a->answer ? a->slot : FRAME_TO_ALL, &m);
}

static void journaled(struct sync_core *core, const struct sync_event *ev)
{
    if (ev->failed != core->journal_failed) {
        if (ev->failed)
            log_error("sync", "the journal refuses to write: an answer waits for its time-out and "
                              "for a peer that "
                              "has its records");
        else
            log_info("sync", "the journal writes again");
        core->journal_failed = ev->failed;
    }
    if (ev->ticket > core->journaled && ev->ticket <= core->last_ticket)
        core->journaled = ev->ticket;
}

static void tick(struct sync_core *core)
{
    if (!core->recovered)
        return;
    clock_tick(core);
    barrier_tick(core);
    log_expire(core);
    log_retire(core);
    pull_look_all(core);
}

static void take_event(struct sync_core *core, const struct sync_event *ev)
{
    switch (ev->kind) {
    case SYNC_EV_RECOVERING:
        if (!core->recovered)
            log_recover_some(core, ev->recovery);
        break;
    case SYNC_EV_RECOVERED:
        if (!core->recovered)
            log_recover(core, ev->recovery);
        break;
    case SYNC_EV_FRAME:
        if (core->recovered)
            peers_frame(core, ev->bytes);
        break;
    case SYNC_EV_REQUEST:
        peers_request(core, ev->bytes, ev->request);
        break;
    case SYNC_EV_REPLY:
        peers_reply(core, ev->bytes, ev->request);
        break;
    case SYNC_EV_PUT:
        log_put(core, ev->group, ev->n_group, ev->barrier);
        break;
    case SYNC_EV_JOURNALED:
        journaled(core, ev);
        break;
    case SYNC_EV_FORWARD:
        forward(core, &ev->forward);
        break;
    case SYNC_EV_MOVED:
        tell_moved(core, &ev->moved);
        break;
    case SYNC_EV_ACTIVITY:
        tell_activity(core, ev->activity);
        free(ev->activity);
        break;
    case SYNC_EV_MISS:
        miss_take(core, ev->spi_in);
        break;
    case SYNC_EV_DRAIN:
        core->draining = ev->draining;
        core->leaving = ev->leaving;
        core->announce_wanted = true;
        break;
    case SYNC_EV_TICK:
        tick(core);
        break;
    case SYNC_EV_EPOCH:
        grants_want_next(core->grants);
        break;
    case SYNC_EV_MEMBERS:
        members_set(core, ev->members, ev->n_members);
        break;
    case SYNC_EV_FLUSH:
        break;
    }
}

/* What follows from where we now stand; then the turn's shared output. */
static void end_turn(struct sync_core *core)
{
    pull_step(core);
    synced_step(core);
    epoch_step(core);
    peers_tell(core);
    out_flush(core);
    barrier_step(core);
}

struct sync_effects sync_step(struct sync_core *core, const struct sync_event *event,
                              struct now now)
{
    uint64_t pause_us = now.mono_us > core->now.mono_us ? now.mono_us - core->now.mono_us : 0;

    out_begin(core);
    core->own_wall_ms = now.wall_ms;
    core->now = sync_now(core, now);
    if (pause_us > ms_us(core->config.dead_ms) / 2)
        peers_stall(core, pause_us);
    take_event(core, event);
    if (!event->more && event->kind != SYNC_EV_RECOVERING)
        end_turn(core);
    return (struct sync_effects){core->fx, core->n_fx};
}

/* ---- questions ---- */

static const struct record *find(const struct sync_core *core, enum record_kind kind, uint64_t key)
{
    const struct entry *e = table_find(core->table, kind, key);

    return e && e->expires_ms > core->now.wall_ms ? e->held->r : NULL;
}

const struct record *sync_find_ike(const struct sync_core *core, uint64_t our_spi)
{
    return find(core, RECORD_IKE, our_spi);
}

const struct record *sync_find_child(const struct sync_core *core, uint32_t spi_in)
{
    return find(core, RECORD_CHILD, spi_in);
}

const struct record *sync_find_endpoint(const struct sync_core *core, uint32_t spi_in)
{
    return find(core, RECORD_ENDPOINT, spi_in);
}

const struct record *sync_find_lineage_ike(const struct sync_core *core,
                                           const struct id128 *lineage)
{
    const struct record *newest = NULL;

    for (struct entry *e = table_lineage_first(core->table, lineage); e;
         e = table_lineage_next(e)) {
        const struct record *r = e->held->r;

        if (r->kind == RECORD_IKE && r->ike.state == SA_INSTALLED &&
            e->expires_ms > core->now.wall_ms &&
            (!newest || r->ike.created_ms > newest->ike.created_ms))
            newest = r;
    }
    return newest;
}

void sync_each_of_lineage(const struct sync_core *core, const struct id128 *lineage,
                          void (*f)(void *ctx, const struct record *r), void *ctx)
{
    for (struct entry *e = table_lineage_first(core->table, lineage); e;
         e = table_lineage_next(e)) {
        const struct record *r = e->held->r;

        if (record_state(r) == SA_INSTALLED && e->expires_ms > core->now.wall_ms)
            f(ctx, r);
    }
}

bool sync_is_caught_up(const struct sync_core *core, struct now now)
{
    /* The first to be woken may not be the core. */
    return core->stalled_us == 0 &&
           now.mono_us <= core->now.mono_us + ms_us(core->config.dead_ms) / 2;
}

struct each {
    const struct sync_core *core;
    enum record_kind kind;
    bool (*f)(void *ctx, const struct record *r);
    void *ctx;
};

static bool each_entry(void *ctx, struct entry *e)
{
    const struct each *each = ctx;

    if (e->kind != each->kind || e->expires_ms <= each->core->now.wall_ms ||
        record_state(e->held->r) != SA_INSTALLED)
        return true;
    return each->f(each->ctx, e->held->r);
}

void sync_each(const struct sync_core *core, enum record_kind kind,
               bool (*f)(void *ctx, const struct record *r), void *ctx)
{
    struct each each = {core, kind, f, ctx};

    table_each(core->table, each_entry, &each);
}

static void copy_text(char *out, size_t cap, const char *s)
{
    size_t n = strnlen(s, cap - 1);

    memcpy(out, s, n);
    out[n] = 0;
}

const char *member_key_name(enum member_key key)
{
    static const char *const names[] = {NULL, "same", "other", "unknown"};

    return names[key];
}

int sync_set_keys(struct sync_core *core, const struct cluster_key *keys, size_t n)
{
    int rc = frame_box_set_keys(core->box, keys, n);

    if (rc == ERR_OK)
        core->announce_wanted = true; /* the others want to know which ones we take */
    return rc;
}

static void member_key_info(const struct sync_core *core, const struct peer *p,
                            struct sync_member_info *out)
{
    if (p->foreign_us > p->heard_us + (uint64_t)core->config.dead_ms * 1000) {
        out->key_state = MEMBER_KEY_UNKNOWN;
        out->key_id = p->foreign_key_id;
    } else if (p->believed) {
        out->key_id = p->key_id;
        out->key_state = p->key_id == frame_key_id(core->box) ? MEMBER_KEY_SAME : MEMBER_KEY_OTHER;
    }
}

static void member_info(const struct sync_core *core, const struct peer *p,
                        struct sync_member_info *out)
{
    uint64_t applied = log_applied(core, &p->incarnation);

    *out = (struct sync_member_info){.slot = p->slot, .state = peer_state(core, p)};
    member_key_info(core, p, out);
    out->last_seen_ms = since_us(core, p->believed ? p->heard_any_us : core->started_us) / 1000;
    if (!p->believed)
        return;
    out->incarnation = p->incarnation;
    copy_text(out->name, sizeof out->name, p->says.name);
    copy_text(out->version, sizeof out->version, p->says.version);
    out->epoch = p->says.epoch;
    out->head = p->says.head;
    out->lag_records = out->head > applied ? out->head - applied : 0;
    out->laggard = p->laggard;
    out->ike_sas = p->says.ike_sas;
    out->child_sas = p->says.child_sas;
    memcpy(out->sa_digest, p->says.sa_digest, sizeof out->sa_digest);
    out->members = p->says.members;
    out->n_keys = p->says.n_keys;
    for (size_t i = 0; i < p->says.n_keys; i++)
        out->keys[i] = (struct sync_key){p->says.keys[i].id, p->says.keys[i].check};
}

static void own_keys(const struct sync_core *core, struct sync_member_info *out)
{
    struct frame_key keys[FRAME_KEYS_MAX];

    out->n_keys = frame_box_keys(core->box, keys);
    for (size_t i = 0; i < out->n_keys; i++)
        out->keys[i] = (struct sync_key){keys[i].id, keys[i].check};
}

static void own_info(const struct sync_core *core, struct sync_member_info *out)
{
    *out = (struct sync_member_info){.slot = core->config.slot, .state = own_state(core)};
    out->key_state = MEMBER_KEY_SAME;
    out->key_id = frame_key_id(core->box);
    own_keys(core, out);
    out->members = core->members_digest;
    copy_text(out->name, sizeof out->name, core->config.name);
    copy_text(out->version, sizeof out->version, core->config.version);
    out->incarnation = core->incarnation;
    out->epoch = core->epoch;
    out->head = core->self->seq;
    for (size_t i = 0; i < core->n_peers; i++)
        if (peer_live(core, &core->peers[i]) && core->peers[i].acked < out->head &&
            out->head - core->peers[i].acked > out->lag_records)
            out->lag_records = out->head - core->peers[i].acked;
    out->ike_sas = table_counts(core->table)->ike_sas;
    out->child_sas = table_counts(core->table)->child_sas;
    sync_digest(core, out->sa_digest);
}

size_t sync_members(const struct sync_core *core, struct sync_member_info *out, size_t max)
{
    size_t n = core->config.n_members < max ? core->config.n_members : max;

    for (size_t i = 0; i < n; i++)
        (void)sync_member(core, core->config.members[i], &out[i]);
    return n;
}

bool sync_member(const struct sync_core *core, uint16_t slot, struct sync_member_info *out)
{
    const struct peer *p = peers_find(core, slot);

    if (p)
        member_info(core, p, out);
    else if (slot == core->config.slot)
        own_info(core, out);
    return p || slot == core->config.slot;
}

bool sync_member_live(const struct sync_core *core, uint16_t slot)
{
    const struct peer *p = peers_find(core, slot);

    return slot == core->config.slot || (p && peer_live(core, p));
}

bool sync_is_synced(const struct sync_core *core)
{
    return core->synced;
}

uint32_t sync_epoch(const struct sync_core *core)
{
    return core->epoch;
}

struct id128 sync_incarnation(const struct sync_core *core)
{
    return core->incarnation;
}

void sync_digest(const struct sync_core *core, uint8_t out[32])
{
    memcpy(out, table_counts(core->table)->digest, 32);
}

void sync_set_ready(struct sync_core *core, bool ready)
{
    core->ready = ready;
    core->was_ready |= ready;
}

void sync_get_stats(const struct sync_core *core, struct sync_stats *out)
{
    *out = core->stats;
    out->logs = table_origins(core->table);
    out->held_back = core->n_barriers;
    out->snapshots = 0;
    for (size_t i = 0; i < SNAPSHOTS_MAX; i++)
        out->snapshots += core->snapshots[i].id != 0;
    out->clock_behind_ms = core->behind_ms > 0 ? (uint64_t)core->behind_ms : 0;
    out->clock_ahead_ms = core->behind_ms < 0 ? (uint64_t)-core->behind_ms : 0;
}
