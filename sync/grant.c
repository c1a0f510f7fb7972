/* Epoch grants, see grant.h. First what a member is to us, then the three roles: who
 * learns the promises of others, who grants, who claims. */
#include "sync/grant.h"

#include <stdlib.h>
#include <string.h>

#include "proto/log.h"
#include "sync/mutant.h"

enum {
    CLAIM_EVERY_US = 100000, /* a lost Claim or vote */
    ROUND_US = 1000000,      /* votes of one round count together */
    AGAIN_US = 20000,        /* after a refusal, the next proposal */
};

struct grant_peer {
    uint16_t slot;
    bool believed;
    struct id128 incarnation; /* while believed */

    /* its promises, as this incarnation tells them */
    bool told, sure;
    uint8_t sure_of[(SLOT_MAX + 8) / 8];

    /* what we promised its slot */
    bool we_are_sure, merged;
    uint64_t merged_ticket;
    uint32_t given; /* to holder; 0: none by this process of ours */
    struct id128 holder;
    bool vote_due;
    struct grant_vote our_vote;
    uint64_t our_vote_ticket; /* the promise behind it */

    /* its vote on our Claim, in the present round */
    bool yes;
    struct id128 voter;   /* its incarnation then */
    bool witnessed, torn; /* others say who it is; they do not agree */
    struct id128 witness;
    uint8_t refusal; /* its last verdict against us; 0 none */
};

struct grants {
    const struct grant_ops *ops;
    void *ctx;
    uint16_t slot;
    struct id128 incarnation;
    uint64_t members_digest;
    struct grant_peer *peers;
    size_t n_peers;
    uint16_t peer_at[SLOT_MAX + 1]; /* index + 1; 0: no member */
    uint32_t promised[SLOT_MAX + 1];
    uint64_t journaled, learnt_ticket;

    uint32_t epoch;  /* granted */
    uint32_t claim;  /* proposed, 0 none */
    uint32_t seen;   /* of our slot, anywhere */
    uint64_t ticket; /* of the proposal */
    uint32_t round;
    uint64_t round_us, sent_us, again_us;
    bool want_next, exhausted;
};

static size_t quorum(const struct grants *g)
{
    if (MUTANT(GRANT_MAJORITY))
        return g->n_peers / 2;
    if (MUTANT(GRANT_OTHERS)) /* a majority of all, our own disk being one vote */
        return (g->n_peers + 1) / 2;
    return g->n_peers ? g->n_peers / 2 + 1 : 0;
}

/* So many sure ones have a member in common with every quorum. */
static size_t sure_needed(const struct grants *g)
{
    return g->n_peers ? g->n_peers - (g->n_peers / 2 + 1) + 1 : 0;
}

static struct grant_peer *find(const struct grants *g, uint16_t slot)
{
    uint16_t at = slot <= SLOT_MAX ? g->peer_at[slot] : 0;

    return at ? &g->peers[at - 1] : NULL;
}

struct grants *grants_new(const struct grants_config *config)
{
    struct grants *g = calloc(1, sizeof *g);

    if (!g)
        return NULL;
    g->ops = config->ops;
    g->ctx = config->ctx;
    g->slot = config->slot;
    g->incarnation = config->incarnation;
    g->members_digest = config->members_digest;
    g->peers = calloc(config->n_members ? config->n_members : 1, sizeof *g->peers);
    if (!g->peers) {
        free(g);
        return NULL;
    }
    for (size_t i = 0; i < config->n_members; i++) {
        if (config->members[i] == config->slot)
            continue;
        g->peers[g->n_peers++].slot = config->members[i];
        g->peer_at[config->members[i]] = (uint16_t)g->n_peers;
    }
    return g;
}

bool grants_set_members(struct grants *g, const uint16_t *members, size_t n, uint64_t digest)
{
    struct grant_peer *peers = calloc(n ? n : 1, sizeof *peers);
    size_t n_peers = 0;

    if (!peers)
        return false;
    for (size_t i = 0; i < n; i++) {
        const struct grant_peer *before = find(g, members[i]);
        struct grant_peer *p = &peers[n_peers];
        if (members[i] == g->slot)
            continue;
        if (before)
            *p = *before;
        p->slot = members[i];
        /* All this was said by and about another list. */
        p->told = p->sure = p->vote_due = p->yes = p->witnessed = p->torn = false;
        memset(p->sure_of, 0, sizeof p->sure_of);
        p->refusal = 0;
        n_peers++;
    }
    free(g->peers);
    g->peers = peers;
    g->n_peers = n_peers;
    memset(g->peer_at, 0, sizeof g->peer_at);
    for (size_t i = 0; i < n_peers; i++)
        g->peer_at[peers[i].slot] = (uint16_t)(i + 1);
    g->members_digest = digest;
    g->round++; /* votes of the round before are void */
    g->sent_us = 0;
    return true;
}

void grants_free(struct grants *g)
{
    if (g)
        free(g->peers);
    free(g);
}

void grants_recover(struct grants *g, const struct grant_promise *promises, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (promises[i].slot <= SLOT_MAX && promises[i].epoch > g->promised[promises[i].slot])
            g->promised[promises[i].slot] = promises[i].epoch;
    g->seen = g->promised[g->slot];
}

void grants_journaled(struct grants *g, uint64_t ticket)
{
    if (ticket > g->journaled)
        g->journaled = ticket;
}

/* ---- learning ---- */

void grants_believe(struct grants *g, uint16_t slot, const struct id128 *incarnation)
{
    struct grant_peer *p = find(g, slot);

    if (!p || (p->believed && id128_equal(&p->incarnation, incarnation)))
        return;
    p->believed = true;
    p->incarnation = *incarnation;
    p->told = p->sure = false;
    memset(p->sure_of, 0, sizeof p->sure_of);
    p->vote_due = false;
    p->refusal = 0;
}

static bool is_sure_of(const struct grant_peer *p, uint16_t slot)
{
    return p->sure || (p->sure_of[slot / 8] >> (slot % 8) & 1);
}

/* Promises of others matter to us only while we are unsure: later on all that may be granted
 * without us is known to somebody in every quorum. */
static void learn(struct grants *g, const struct grant_promise *said)
{
    const struct grant_peer *about = find(g, said->slot);
    uint64_t ticket;

    if (said->slot == g->slot && said->epoch > g->seen)
        g->seen = said->epoch;
    if (!about || about->we_are_sure || said->epoch <= g->promised[said->slot])
        return;
    ticket = g->ops->journal(g->ctx, said->slot, said->epoch);
    if (!ticket)
        return; /* it will be said again */
    g->promised[said->slot] = said->epoch;
    g->learnt_ticket = ticket;
}

void grants_heard(struct grants *g, uint16_t slot, bool sure, const uint16_t *sure_of,
                  size_t n_sure_of, const struct grant_promise *promises, size_t n)
{
    struct grant_peer *p = find(g, slot);

    if (!p || !p->believed)
        return;
    for (size_t i = 0; i < n; i++)
        if (promises[i].slot <= SLOT_MAX && promises[i].epoch <= EPOCH_MAX)
            learn(g, &promises[i]);
    p->told = true;
    p->sure = sure;
    memset(p->sure_of, 0, sizeof p->sure_of);
    for (size_t i = 0; i < n_sure_of; i++)
        if (sure_of[i] <= SLOT_MAX)
            p->sure_of[sure_of[i] / 8] |= (uint8_t)(1 << (sure_of[i] % 8));
}

static void become_sure(struct grants *g, struct grant_peer *of)
{
    size_t told = 0, sure = 0;

    for (size_t i = 0; i < g->n_peers; i++) {
        const struct grant_peer *p = &g->peers[i];

        told += p->told;
        sure += p->told && p != of && is_sure_of(p, of->slot);
    }
    if (!of->merged && (sure >= sure_needed(g) || told == g->n_peers || MUTANT(GRANT_SURE))) {
        of->merged = true;
        of->merged_ticket = g->learnt_ticket;
    }
    of->we_are_sure = of->merged && g->journaled >= of->merged_ticket;
}

bool grants_sure(const struct grants *g, uint16_t *sure_of, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < g->n_peers; i++)
        if (g->peers[i].we_are_sure)
            sure_of[(*n)++] = g->peers[i].slot;
    if (*n < g->n_peers)
        return false;
    *n = 0;
    return true;
}

uint32_t grants_promised(const struct grants *g, uint16_t slot)
{
    return slot <= SLOT_MAX ? g->promised[slot] : 0;
}

/* ---- granting ---- */

static uint8_t judge(struct grants *g, struct grant_peer *p, const struct grant_claim *c,
                     bool rival)
{
    if (c->members != g->members_digest)
        return GRANT_MEMBERS;
    if (!p->we_are_sure)
        return GRANT_UNSURE;
    if (rival)
        return GRANT_RIVAL;
    if (p->given == c->epoch && id128_equal(&p->holder, &p->incarnation))
        return GRANT_YES; /* once more */
    if (c->epoch <= g->promised[p->slot] && !MUTANT(GRANT_EPOCH))
        return GRANT_TOO_LOW;
    p->our_vote_ticket = g->ops->journal(g->ctx, p->slot, c->epoch);
    if (!p->our_vote_ticket)
        return GRANT_UNSURE;
    g->promised[p->slot] = p->given = c->epoch;
    p->holder = p->incarnation;
    return GRANT_YES;
}

void grants_on_claim(struct grants *g, uint16_t slot, const struct grant_claim *claim, bool rival)
{
    struct grant_peer *p = find(g, slot);

    if (!p || !p->believed || claim->epoch == 0 || claim->epoch > EPOCH_MAX)
        return;
    p->our_vote = (struct grant_vote){.claimant = p->incarnation,
                                      .epoch = claim->epoch,
                                      .round = claim->round,
                                      .verdict = judge(g, p, claim, rival),
                                      .seen = g->promised[slot]};
    p->vote_due = true;
}

static void vote(struct grants *g, struct grant_peer *p)
{
    if (!p->vote_due || (p->our_vote.verdict == GRANT_YES && g->journaled < p->our_vote_ticket &&
                         !MUTANT(GRANT_FSYNC)))
        return;
    p->vote_due = false;
    g->ops->vote(g->ctx, p->slot, &p->our_vote);
}

/* ---- claiming ---- */

static void begin_round(struct grants *g, uint64_t now_us)
{
    g->round++;
    g->round_us = now_us;
    g->sent_us = 0;
    for (size_t i = 0; i < g->n_peers; i++)
        g->peers[i].yes = g->peers[i].witnessed = g->peers[i].torn = false;
}

static void note_witness(struct grants *g, const struct grant_witness *w)
{
    struct grant_peer *p = find(g, w->slot);

    if (!p)
        return;
    if (p->witnessed && !id128_equal(&p->witness, &w->incarnation))
        p->torn = true;
    p->witnessed = true;
    p->witness = w->incarnation;
}

void grants_on_vote(struct grants *g, uint16_t slot, const struct grant_vote *v,
                    const struct grant_witness *witnesses, size_t n)
{
    struct grant_peer *p = find(g, slot);

    if (!p || !p->believed || g->claim == 0 || v->epoch != g->claim || v->round != g->round ||
        !id128_equal(&v->claimant, &g->incarnation))
        return;
    if (v->verdict == GRANT_YES) {
        p->yes = true;
        p->voter = p->incarnation;
        p->refusal = 0;
        for (size_t i = 0; i < n; i++)
            note_witness(g, &witnesses[i]);
        return;
    }
    p->refusal = v->verdict;
    if (v->verdict == GRANT_TOO_LOW && v->seen <= EPOCH_MAX && v->seen >= g->claim) {
        if (v->seen > g->seen)
            g->seen = v->seen;
        g->claim = 0; /* a higher one, in a moment */
    }
}

static bool counts(const struct grant_peer *p)
{
    return p->yes && p->believed && id128_equal(&p->voter, &p->incarnation) &&
           (!p->witnessed || (!p->torn && id128_equal(&p->witness, &p->voter)));
}

static size_t votes(const struct grants *g)
{
    size_t n = 0;

    for (size_t i = 0; i < g->n_peers; i++)
        n += counts(&g->peers[i]);
    return n;
}

static size_t tellers(const struct grants *g)
{
    size_t n = 0;

    for (size_t i = 0; i < g->n_peers; i++)
        n += g->peers[i].told;
    return n;
}

static void propose(struct grants *g, uint64_t now_us)
{
    uint32_t highest = g->seen > g->promised[g->slot] ? g->seen : g->promised[g->slot];

    if (highest >= EPOCH_MAX) {
        if (!g->exhausted)
            log_error("sync", "no epoch is left for slot %u: give this node another slot", g->slot);
        g->exhausted = true;
        return;
    }
    g->ticket = g->ops->journal(g->ctx, g->slot, highest + 1);
    if (!g->ticket)
        return;
    g->claim = g->seen = g->promised[g->slot] = highest + 1;
    g->again_us = now_us + AGAIN_US;
    begin_round(g, now_us);
}

static void claim(struct grants *g, uint64_t now_us)
{
    struct grant_claim c = {.epoch = g->claim, .members = g->members_digest};

    if (g->journaled < g->ticket)
        return;
    if (votes(g) >= quorum(g)) {
        g->epoch = g->claim;
        g->claim = 0;
        g->want_next = false;
        g->ops->granted(g->ctx, g->epoch);
        return;
    }
    if (now_us - g->round_us >= ROUND_US)
        begin_round(g, now_us);
    if (g->sent_us && now_us - g->sent_us < CLAIM_EVERY_US)
        return;
    g->sent_us = now_us;
    c.round = g->round;
    g->ops->claim(g->ctx, &c);
}

void grants_want_next(struct grants *g)
{
    g->want_next = true;
}

void grants_step(struct grants *g, uint64_t now_us)
{
    for (size_t i = 0; i < g->n_peers; i++) {
        if (!g->peers[i].we_are_sure)
            become_sure(g, &g->peers[i]);
        vote(g, &g->peers[i]);
    }
    if (g->claim == 0 && (g->epoch == 0 || g->want_next) && now_us >= g->again_us &&
        tellers(g) >= quorum(g))
        propose(g, now_us);
    if (g->claim)
        claim(g, now_us);
}

/* ---- questions ---- */

uint32_t grants_epoch(const struct grants *g)
{
    return g->epoch;
}

const char *grants_obstacle(const struct grants *g)
{
    static const char *const texts[GRANT_VERDICTS] = {
        [GRANT_UNSURE] = "epoch_grantors_unsure",
        [GRANT_RIVAL] = "slot_in_use",
        [GRANT_MEMBERS] = "member_lists_differ",
    };

    if (g->epoch && !g->want_next)
        return NULL;
    if (g->exhausted)
        return "epochs_exhausted";
    for (size_t i = 0; i < g->n_peers; i++)
        if (texts[g->peers[i].refusal])
            return texts[g->peers[i].refusal];
    return tellers(g) < quorum(g) ? "epoch_quorum_missing" : NULL;
}
