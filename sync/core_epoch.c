/* Epochs in the core: sync/grant.c with the mesh, the journal and belief around it; and who of
 * two processes on one slot has to stop. */
#include <stdlib.h>
#include <string.h>

#include "proto/crypto.h"
#include "proto/err.h"
#include "proto/log.h"
#include "sync/core.h"

_Static_assert(CODEC_VERDICT_MAX == GRANT_VERDICTS - 1, "every verdict fits a Vote");

/* ---- what the state machine asks for ---- */

static uint64_t journal(void *ctx, uint16_t slot, uint32_t epoch)
{
    struct sync_core *core = ctx;
    struct sync_batch *b = out_journal_batch(core);
    struct sync_epoch *more;

    if (!b)
        return 0;
    b->urgent = true;
    if (slot == core->config.slot) {
        b->epoch = epoch;
        return b->ticket;
    }
    more = realloc(b->epochs, (b->n_epochs + 1) * sizeof *more);
    if (!more)
        return 0;
    b->epochs = more;
    b->epochs[b->n_epochs++] = (struct sync_epoch){slot, epoch};
    return b->ticket;
}

static void send_claim(void *ctx, const struct grant_claim *claim)
{
    struct codec_message m = {.kind = CODEC_CLAIM,
                              .claim = {claim->epoch, claim->round, claim->members}};

    out_publish(ctx, FRAME_TO_ALL, &m);
}

/* Whom we know of the others: the believed one, unless somebody new is about. */
static size_t witness(struct sync_core *core, struct codec_witness *out)
{
    size_t n = 0;

    for (size_t i = 0; i < core->n_peers; i++) {
        const struct peer *p = &core->peers[i];
        if (!p->believed && p->n_candidates == 0)
            continue;
        out[n].slot = p->slot;
        out[n++].incarnation = peer_has_candidate(core, p) ? (struct id128){{0}} : p->incarnation;
    }
    return n;
}

/* Kept until the end of the turn: all votes of a turn leave together. Without memory for one the
 * Claim comes again. */
static void keep_vote(void *ctx, uint16_t to_slot, const struct grant_vote *vote)
{
    struct sync_core *core = ctx;
    struct turn_votes *t = &core->votes;

    if (!array_room(&t->ballots, t->n, &t->cap, sizeof *t->ballots))
        return;
    t->to_slot = t->n ? FRAME_TO_ALL : to_slot;
    t->ballots[t->n++] = (struct codec_ballot){.claimant = vote->claimant,
                                               .epoch = vote->epoch,
                                               .round = vote->round,
                                               .seen = vote->seen,
                                               .verdict = vote->verdict};
}

static void send_votes(struct sync_core *core)
{
    struct turn_votes *t = &core->votes;
    struct codec_message m = {.kind = CODEC_VOTE, .vote = {.ballots = t->ballots}};

    if (t->n == 0)
        return;
    m.vote.n_ballots = t->n;
    m.vote.witnesses = calloc(core->n_peers + 1, sizeof *m.vote.witnesses);
    if (m.vote.witnesses) {
        m.vote.n_witnesses = witness(core, m.vote.witnesses);
        out_publish(core, t->to_slot, &m);
    }
    free(m.vote.witnesses);
    t->n = 0;
}

static void granted(void *ctx, uint32_t epoch)
{
    struct sync_core *core = ctx;

    core->epoch_granted = epoch; /* told by epoch_step */
}

static const struct grant_ops ops = {journal, send_claim, keep_vote, granted};

/* Of the slots alone: where a member can be reached may differ from place to place. */
uint64_t sync_members_digest(const uint16_t *slots, size_t n)
{
    uint8_t bitmap[(SLOT_MAX + 8) / 8] = {0}, hash[HASH_MAX];
    struct slice s = {bitmap, sizeof bitmap};
    uint64_t digest = 0;

    for (size_t i = 0; i < n; i++)
        bitmap[slots[i] / 8] |= (uint8_t)(1 << (slots[i] % 8));
    if (crypto_hash(HASH_SHA256, &s, 1, hash) != ERR_OK)
        return 0;
    for (int i = 0; i < 8; i++)
        digest = digest << 8 | hash[i];
    return digest;
}

bool epoch_new(struct sync_core *core)
{
    const uint64_t digest = core->members_digest =
        sync_members_digest(core->config.members, core->config.n_members);
    struct grants_config config = {.slot = core->config.slot,
                                   .incarnation = core->incarnation,
                                   .members = core->config.members,
                                   .n_members = core->config.n_members,
                                   .members_digest = digest,
                                   .ops = &ops,
                                   .ctx = core};

    core->grants = grants_new(&config);
    return core->grants != NULL;
}

void epoch_recover(struct sync_core *core, const struct sync_recovery *recovery)
{
    struct grant_promise own = {core->config.slot, recovery->epoch};

    grants_recover(core->grants, &own, 1);
    for (size_t i = 0; i < recovery->n_epochs; i++) {
        struct grant_promise p = {recovery->epochs[i].slot, recovery->epochs[i].epoch};
        grants_recover(core->grants, &p, 1);
    }
}

/* ---- what the others say ---- */

void epoch_heard(struct sync_core *core, const struct peer *p)
{
    const struct codec_announce *a = &p->says;
    struct grant_promise said[SLOT_MAX + 1];

    if (!a->tells_epochs)
        return;
    /* Of another list: its table may lack a slot of ours, and so it is sure of none. */
    if (a->members && a->members != core->members_digest)
        return;
    for (size_t i = 0; i < a->n_epochs; i++)
        said[i] = (struct grant_promise){a->epochs[i].slot, a->epochs[i].epoch};
    grants_heard(core->grants, p->slot, a->sure, a->sure_of, a->n_sure_of, said, a->n_epochs);
}

void epoch_on_claim(struct sync_core *core, const struct peer *p, const struct codec_claim *m)
{
    struct grant_claim claim = {m->epoch, m->round, m->members};

    grants_on_claim(core->grants, p->slot, &claim, peer_has_rival(core, p));
}

void epoch_on_vote(struct sync_core *core, const struct peer *p, const struct codec_vote *m)
{
    struct grant_witness witnesses[SLOT_MAX + 1];
    const struct codec_ballot *b = NULL;
    struct grant_vote vote;

    for (size_t i = 0; i < m->n_ballots && !b; i++)
        if (id128_equal(&m->ballots[i].claimant, &core->incarnation))
            b = &m->ballots[i];
    if (!b)
        return;
    vote = (struct grant_vote){.claimant = b->claimant,
                               .epoch = b->epoch,
                               .round = b->round,
                               .verdict = b->verdict,
                               .seen = b->seen};
    for (size_t i = 0; i < m->n_witnesses; i++)
        witnesses[i] = (struct grant_witness){m->witnesses[i].slot, m->witnesses[i].incarnation};
    grants_on_vote(core->grants, p->slot, &vote, witnesses, m->n_witnesses);
}

/* ---- what we say ---- */

/* Somebody starts: promises are wanted. */
bool epoch_tables_wanted(const struct sync_core *core)
{
    for (size_t i = 0; i < core->n_peers; i++) {
        const struct peer *p = &core->peers[i];
        if (peer_has_candidate(core, p) ||
            (p->believed && (!p->announced || !p->says.sure || p->says.epoch == 0 ||
                             p->says.members != core->members_digest)))
            return true;
    }
    return false;
}

size_t epoch_tell(struct sync_core *core, struct codec_epoch *out)
{
    size_t n = 0;

    for (size_t i = 0; i < core->config.n_members; i++) {
        uint16_t slot = core->config.members[i];
        uint32_t epoch = grants_promised(core->grants, slot);
        if (epoch)
            out[n++] = (struct codec_epoch){slot, epoch};
    }
    return n;
}

/* ---- two processes on one slot ---- */

/* A member hears another process of our slot. Not the one before us, of which the last was heard
 * before we began: the other lives. Of two the one with the lower epoch stops (0: none granted);
 * of equals the one with the lower incarnation, so that both agree. */
void epoch_rival(struct sync_core *core, const struct codec_heard *h)
{
    uint64_t heard_us, age_us = ms_us(h->age_ms);
    struct sync_effect *fx;
    char text[ID_TEXT];

    if ((!h->believed && !h->rival) || id128_equal(&h->incarnation, &core->incarnation) ||
        age_us > core->now.mono_us || core->conflict || core->stalled_us)
        return; /* what waited while we stood still is older than it says */
    heard_us = core->now.mono_us - age_us;
    if (heard_us < core->started_us + ms_us(core->config.dead_ms) + ms_us(RIVAL_SLACK_MS))
        return;
    if (core->epoch > h->epoch ||
        (core->epoch == h->epoch && memcmp(core->incarnation.b, h->incarnation.b, ID_BYTES) > 0))
        return; /* it is the other one that stops */
    fx = out_add(core, SYNC_FX_CONFLICT);
    if (!fx)
        return;
    core->conflict = true;
    fx->slot = core->config.slot;
    fx->epoch = h->epoch;
    log_error(
        "sync",
        "slot %u is in use by another process, incarnation %s, epoch %u (ours is %u): give one "
        "of the two another slot, or stop it",
        core->config.slot, id128_format(&h->incarnation, text), h->epoch, core->epoch);
}

/* ---- each turn ---- */

void epoch_step(struct sync_core *core)
{
    struct sync_effect *fx;
    uint16_t sure_of[SYNC_MEMBERS_MAX];
    size_t n;
    bool sure;

    if (!core->recovered)
        return;
    grants_journaled(core->grants, core->journaled);
    grants_step(core->grants, core->now.mono_us);
    send_votes(core);
    sure = grants_sure(core->grants, sure_of, &n);
    if (sure != core->epoch_sure || n != core->epoch_n_sure)
        core->announce_wanted = true;
    core->epoch_sure = sure;
    core->epoch_n_sure = n;
    if (core->epoch_granted == core->epoch)
        return;
    fx = out_add(core, SYNC_FX_EPOCH);
    if (!fx)
        return;
    core->epoch = fx->epoch = core->epoch_granted;
    core->announce_wanted = true;
    log_info("sync", "epoch %u is granted", core->epoch);
}

const char *sync_epoch_obstacle(const struct sync_core *core)
{
    return core->n_peers ? grants_obstacle(core->grants) : NULL;
}
