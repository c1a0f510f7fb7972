/* What a step lets out: the list of effects with the memory that they borrow, the journal
 * batch, and our own log cut into Updates. */
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "proto/log.h"
#include "sync/core.h"
#include "sync/join.h"

enum { FX_KEEP = 1024 /* array elements kept for the next step */ };

bool array_room(void *array, size_t n, size_t *cap, size_t size)
{
    void **a = array, *more;
    size_t wanted = *cap ? *cap * 2 : 16;

    if (n < *cap)
        return true;
    more = realloc(*a, wanted * size);
    if (!more)
        return false;
    *a = more;
    *cap = wanted;
    return true;
}

/* ---- effects ---- */

void out_begin(struct sync_core *core)
{
    for (size_t i = 0; i < core->n_fx; i++) /* a batch that the caller took is his */
        core->fx[i].batch = NULL;
    for (size_t i = 0; i < core->n_fx_held; i++)
        held_unref(core->fx_held[i]);
    for (size_t i = 0; i < core->n_buffers; i++)
        free(core->buffers[i]);
    core->n_fx = core->n_fx_held = core->n_buffers = 0;
    if (core->cap_fx > FX_KEEP) {
        free(core->fx);
        core->fx = NULL;
        core->cap_fx = 0;
    }
}

static void drop_unsent(struct sync_core *core)
{
    for (size_t i = 0; i < core->n_unsent; i++)
        held_unref(core->unsent[i].held);
    core->n_unsent = 0;
}

void out_free(struct sync_core *core)
{
    out_begin(core);
    drop_unsent(core);
    free(core->unsent);
    free(core->fx);
    free(core->fx_held);
    free(core->buffers);
    sync_batch_free(core->batch);
    secret_free(core->plain_in, FRAME_MAX_BYTES);
    secret_free(core->plain_out, FRAME_MAX_BYTES);
}

struct sync_effect *out_add(struct sync_core *core, enum sync_effect_kind kind)
{
    struct sync_effect *fx;

    if (!array_room(&core->fx, core->n_fx, &core->cap_fx, sizeof *core->fx)) {
        log_error("sync", "out of memory: an effect is lost");
        return NULL;
    }
    fx = &core->fx[core->n_fx++];
    memset(fx, 0, sizeof *fx);
    fx->kind = kind;
    return fx;
}

void out_record(struct sync_core *core, struct held *held)
{
    struct sync_effect *fx;

    if (!array_room(&core->fx_held, core->n_fx_held, &core->cap_fx_held, sizeof(struct held *)))
        return;
    fx = out_add(core, SYNC_FX_RECORD);
    if (!fx)
        return;
    core->fx_held[core->n_fx_held++] = held_ref(held);
    fx->record = held->r;
}

uint8_t *out_lend(struct sync_core *core, size_t n)
{
    uint8_t *b;

    if (!array_room(&core->buffers, core->n_buffers, &core->cap_buffers, sizeof *core->buffers))
        return NULL;
    b = malloc(n);
    if (b)
        core->buffers[core->n_buffers++] = b;
    return b;
}

struct slice out_seal(struct sync_core *core, enum frame_channel channel, uint16_t to_slot,
                      const struct frame_binding *reply_to, const struct codec_message *m)
{
    struct slice sealed = {NULL, 0};
    uint8_t *b = NULL;
    size_t n = 0;
    int rc = codec_encode(m, core->plain_out, FRAME_MAX_BYTES - FRAME_OVERHEAD_BYTES, &n);

    if (rc == ERR_OK) {
        b = out_lend(core, n + FRAME_OVERHEAD_BYTES);
        rc = b ? frame_seal(core->box, channel, to_slot, reply_to, core->plain_out, n, b)
               : ERR_NOMEM;
        wipe(core->plain_out, n);
    }
    if (rc == ERR_OK) {
        sealed = (struct slice){b, n + FRAME_OVERHEAD_BYTES};
        core->stats.frames_out++;
    } else {
        log_error("sync", "a message of kind %d cannot be sent: %s", (int)m->kind, err_text(rc));
    }
    return sealed;
}

void out_publish(struct sync_core *core, uint16_t to_slot, const struct codec_message *m)
{
    struct slice sealed = out_seal(core, FRAME_PUB, to_slot, NULL, m);
    struct sync_effect *fx = sealed.n ? out_add(core, SYNC_FX_PUBLISH) : NULL;

    if (fx) {
        fx->bytes = sealed;
        fx->slot = to_slot;
    }
}

/* ---- the journal batch ---- */

void sync_batch_free(struct sync_batch *batch)
{
    if (!batch)
        return;
    for (size_t i = 0; i < batch->n_records; i++)
        record_free(batch->records[i]);
    free(batch->records);
    free(batch->vector);
    free(batch->epochs);
    free(batch);
}

struct sync_batch *out_journal_batch(struct sync_core *core)
{
    if (!core->batch) {
        core->batch = calloc(1, sizeof *core->batch);
        core->cap_batch = 0;
        if (core->batch)
            core->batch->ticket = ++core->last_ticket;
    }
    return core->batch;
}

void out_journal(struct sync_core *core, const struct record *r)
{
    struct sync_batch *b = out_journal_batch(core);
    struct record *copy = b ? record_clone(r) : NULL;

    if (!copy ||
        !array_room(&b->records, b->n_records, &core->cap_batch, sizeof(struct record *))) {
        record_free(copy);
        log_error("sync", "out of memory: a record is not journalled");
        core->journal_torn = true;
        return;
    }
    b->records[b->n_records++] = copy;
    b->urgent |= id128_equal(&r->origin, &core->incarnation);
}

uint64_t out_ticket(struct sync_core *core)
{
    return core->last_ticket;
}

/* The entries of our vector that moved, into the batch. */
static void batch_vector(struct sync_core *core)
{
    size_t n = 0;

    if (core->journal_torn)
        return; /* it must not claim what it does not hold */
    for (size_t i = 0; i < table_origins(core->table); i++)
        n += table_origin_at(core->table, i)->changed;
    if (n == 0 || !out_journal_batch(core))
        return;
    core->batch->vector = calloc(n, sizeof *core->batch->vector);
    if (!core->batch->vector)
        return; /* they stay marked, for the next batch */
    for (size_t i = 0; i < table_origins(core->table); i++) {
        struct origin *o = table_origin_at(core->table, i);
        if (!o->changed)
            continue;
        core->batch->vector[core->batch->n_vector++] =
            (struct sync_position){o->id, o->slot, o->seq};
        o->changed = false;
    }
}

static void flush_batch(struct sync_core *core)
{
    struct sync_effect *fx;

    batch_vector(core);
    if (!core->batch)
        return;
    fx = out_add(core, SYNC_FX_JOURNAL);
    if (!fx)
        return; /* kept for the next turn */
    fx->batch = core->batch;
    core->batch = NULL;
}

/* ---- our own log, to the others ---- */

void out_unsent(struct sync_core *core, struct held *held, bool group_start)
{
    if (!array_room(&core->unsent, core->n_unsent, &core->cap_unsent, sizeof *core->unsent)) {
        log_error("sync", "out of memory: a record is not published; the others will pull it");
        return;
    }
    core->unsent[core->n_unsent++] = (struct unsent){held_ref(held), group_start};
}

size_t out_size_bound(const struct record *r)
{
    size_t n = 128 + r->unknown.n;

    if (r->kind == RECORD_IKE)
        return n + 320 + 7 * (SECRET_MAX + 2) + r->ike.last_response.n + r->ike.our_request.n +
               r->ike.our_request_state.n + r->ike.peer_id.n;
    if (r->kind == RECORD_CHILD)
        return n + 320 + 4 * (SECRET_MAX + 2) +
               64 * ((size_t)r->child.ts_local.n + r->child.ts_remote.n);
    return n + 64 + (record_is_later(r->kind) ? r->later.body.n : 0);
}

/* How many of the waiting records, whole groups and numbered in a row, fit in one Update
 * (at least one group). */
static size_t next_update(const struct sync_core *core, size_t at, size_t *n_groups)
{
    size_t n = 0, bytes = 0;

    *n_groups = 0;
    while (at + n < core->n_unsent) {
        size_t end = at + n, group_bytes = 0;
        do {
            group_bytes += out_size_bound(core->unsent[end].held->r);
            end++;
        } while (end < core->n_unsent && !core->unsent[end].group_start);
        if (*n_groups && (bytes + group_bytes > PAGE_BYTES ||
                          core->unsent[at + n].held->r->seq != core->unsent[at].held->r->seq + n))
            break;
        bytes += group_bytes;
        n = end - at;
        ++*n_groups;
    }
    return n;
}

static void publish_update(struct sync_core *core, size_t at, size_t n, size_t n_groups)
{
    struct codec_message m = {.kind = CODEC_UPDATE};
    size_t bytes = 0, group = 0;

    m.update.origin = core->incarnation;
    m.update.first_seq = core->unsent[at].held->r->seq;
    m.update.records = calloc(n, sizeof(struct record *));
    m.update.group_sizes = calloc(n_groups, sizeof *m.update.group_sizes);
    m.update.n_records = n;
    m.update.n_groups = n_groups;
    if (!m.update.records || !m.update.group_sizes)
        goto freed; /* the others will see the gap and pull */
    for (size_t i = 0; i < n; i++) {
        m.update.records[i] = core->unsent[at + i].held->r;
        bytes += out_size_bound(core->unsent[at + i].held->r);
        if (i && core->unsent[at + i].group_start)
            group++;
        m.update.group_sizes[group]++;
    }
    if (bytes < FRAME_MAX_BYTES - 4 * FRAME_OVERHEAD_BYTES)
        out_publish(core, FRAME_TO_ALL, &m); /* else too large for a frame: they pull it */
    core->stats.records_out += n;
freed:
    free(m.update.records);
    free(m.update.group_sizes);
}

static void flush_updates(struct sync_core *core)
{
    size_t at = 0;

    while (at < core->n_unsent) {
        size_t n_groups, n = next_update(core, at, &n_groups);
        publish_update(core, at, n, n_groups);
        at += n;
    }
    drop_unsent(core);
}

void out_flush(struct sync_core *core)
{
    /* Others wait for what is published, and the disk takes longer than the way to them. */
    if (core->n_unsent)
        flush_updates(core);
    peers_announce(core);
    flush_batch(core);
}
