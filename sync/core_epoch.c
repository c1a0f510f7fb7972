/* Epochs: which number may stand in our IVs (DESIGN: IVs). Until grants by the other members
 * exist, an epoch that is durable in our own journal counts as granted. */
#include <stdlib.h>

#include "proto/log.h"
#include "sync/core.h"

/* Adds what was learnt of a slot to the batch of this turn. */
static void journal_epoch(struct sync_core *core, uint16_t slot, uint32_t epoch)
{
    struct sync_batch *b = out_journal_batch(core);
    struct sync_epoch *more;

    if (!b)
        return;
    more = realloc(b->epochs, (b->n_epochs + 1) * sizeof *more);
    if (!more)
        return;
    b->epochs = more;
    b->epochs[b->n_epochs++] = (struct sync_epoch){slot, epoch};
}

void epoch_saw(struct sync_core *core, uint16_t slot, uint32_t epoch)
{
    if (slot > SLOT_MAX || epoch <= core->epochs_seen[slot])
        return;
    core->epochs_seen[slot] = epoch;
    if (slot != core->config.slot)
        journal_epoch(core, slot, epoch);
}

static void ask(struct sync_core *core, uint32_t epoch)
{
    struct sync_batch *b;

    if (epoch > EPOCH_MAX) {
        if (!core->epoch_exhausted_told)
            log_error("sync", "no epoch is left for slot %u: give this node another slot",
                      core->config.slot);
        core->epoch_exhausted_told = true;
        return;
    }
    b = out_journal_batch(core);
    if (!b)
        return;
    b->epoch = epoch;
    core->epoch_asked = epoch;
    core->epoch_ticket = b->ticket;
    core->epoch_asked_us = core->now.mono_us;
    core->epochs_seen[core->config.slot] = epoch;
    core->announce_wanted = true; /* the others remember it with us */
}

/* What may be asked for at this time; 0: nothing. */
static uint32_t wanted(const struct sync_core *core)
{
    uint32_t seen = core->epochs_seen[core->config.slot];

    if (core->epoch == 0) {
        /* A journal that knows our past speaks for itself; an empty one must ask around. */
        if (core->journal_empty && core->n_peers && !core->synced)
            return 0;
        return MUTANT(EPOCH) && seen ? seen : seen + 1;
    }
    /* Others remember more than our journal did (it was rolled back): move past it. */
    if (seen > core->epoch && since_us(core, core->epoch_asked_us) >= ms_us(EPOCH_RAISE_EVERY_MS))
        return seen + 1;
    return 0;
}

void epoch_step(struct sync_core *core)
{
    uint32_t next;

    if (!core->recovered)
        return;
    if (core->epoch_asked && core->journaled >= core->epoch_ticket) {
        struct sync_effect *fx = out_add(core, SYNC_FX_EPOCH);
        if (!fx)
            return;
        core->epoch = core->epoch_asked;
        core->epoch_asked = 0;
        fx->epoch = core->epoch;
        core->announce_wanted = true;
        log_info("sync", "epoch %u is durable", core->epoch);
    }
    if (core->epoch_asked)
        return;
    next = wanted(core);
    if (next)
        ask(core, next);
}
