/* The other members: whose frames are believed, who is alive, who says what.
 *
 * Belief. Any member of any time can have written an authentic frame; only one that names
 * our present incarnation shows that its writer lives now. Until then its sender is a
 * candidate: our Announce names it, so that it can see itself heard and name us back, and
 * nothing else of it is used. From then on each channel has a replay window, and whoever was
 * believed on that slot before is retired.
 *
 * Recordings. Who names us says how many of our frames it has heard, and so when it spoke, by a
 * clock that nobody can turn back. To be believed in another's place one must have heard a frame
 * that we made since belief last changed there: what was recorded or delayed before changes
 * nothing, and one number per slot remembers this however often it restarts. What was made since
 * comes from those alive since: the one believed, or two processes that share a slot by mistake.
 * These shall not take turns, so the last few retired ones are known, and believed again only
 * when the present one is silent for dead_ms, in a frame beyond all that we had of them.
 *
 * Liveness. A member lives while some live member has heard it within dead_ms; Announces
 * carry the ages of what their senders heard. */
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "proto/log.h"
#include "sync/core.h"

size_t peers_heard_room(size_t n_members)
{
    size_t heard = (CANDIDATES_MAX + 1) * n_members;

    return heard < CODEC_HEARD_MAX ? heard : CODEC_HEARD_MAX;
}

bool peers_new(struct sync_core *core)
{
    const struct sync_config *c = &core->config;

    core->cap_heard = peers_heard_room(c->n_members);
    core->heard = calloc(core->cap_heard, sizeof *core->heard);
    core->peers = calloc(c->n_members, sizeof *core->peers);
    if (!core->heard || !core->peers)
        return false;
    for (size_t i = 0; i < c->n_members; i++) {
        if (c->members[i] == c->slot)
            continue;
        core->peers[core->n_peers++].slot = c->members[i];
        core->peer_at[c->members[i]] = (uint16_t)core->n_peers;
    }
    return true;
}

struct peer *peers_find(const struct sync_core *core, uint16_t slot)
{
    uint16_t at = slot <= SLOT_MAX ? core->peer_at[slot] : 0;

    return at ? &core->peers[at - 1] : NULL;
}

static bool believed_as(const struct peer *p, const struct id128 *incarnation)
{
    return p->believed && id128_equal(&p->incarnation, incarnation);
}

static void free_says(struct peer *p)
{
    struct codec_message m = {.kind = CODEC_ANNOUNCE, .announce = p->says};

    codec_message_free(&m);
    p->says = (struct codec_announce){0};
}

/* All that was said by the incarnation before. */
void peer_forget_announce(struct peer *p)
{
    free_says(p);
    p->announced = p->tells_time = false;
    p->announce_number = 0;
    barrier_ack_forget(p);
    p->says_ack = p->acked = p->owed = p->owed_since_us = 0;
    p->laggard = p->deaf = false;
    p->lack = (struct lack){0};
}

void peers_free(struct sync_core *core)
{
    for (size_t i = 0; i < core->n_peers; i++)
        peer_forget_announce(&core->peers[i]);
    free(core->peers);
    free(core->heard);
}

/* ---- liveness ---- */

bool peer_live(const struct sync_core *core, const struct peer *p)
{
    return p->believed && !(p->announced && p->says.state == MEMBER_DEAD) &&
           since_us(core, p->heard_any_us) <= ms_us(core->config.dead_ms);
}

enum member_state peer_state(const struct sync_core *core, const struct peer *p)
{
    if (!peer_live(core, p))
        return MEMBER_DEAD;
    return p->announced ? (enum member_state)p->says.state : MEMBER_JOINING;
}

enum member_state own_state(const struct sync_core *core)
{
    if (core->leaving)
        return MEMBER_DEAD;
    if (core->draining)
        return MEMBER_DRAINING;
    if (!core->synced)
        return core->was_ready ? MEMBER_DEGRADED : MEMBER_JOINING;
    if (core->ready)
        return MEMBER_READY;
    return core->was_ready ? MEMBER_DEGRADED : MEMBER_JOINING;
}

/* A loop that stood still heard nobody and may not judge: the pause does not count. */
void peers_stall(struct sync_core *core, uint64_t stall_us)
{
    for (size_t i = 0; i < core->n_peers; i++) {
        core->peers[i].heard_us += stall_us;
        core->peers[i].heard_any_us += stall_us;
        core->peers[i].owed_since_us += stall_us;
    }
    if (core->n_peers > 0)
        core->stalled_us = core->now.mono_us;
}

void peers_tell(struct sync_core *core)
{
    enum member_state own = own_state(core);

    for (size_t i = 0; i < core->n_peers; i++) {
        struct peer *p = &core->peers[i];
        enum member_state state = peer_state(core, p);
        struct sync_effect *fx;
        if (state == p->told || !(fx = out_add(core, SYNC_FX_MEMBER)))
            continue;
        if (state == MEMBER_DEAD || p->told == MEMBER_DEAD)
            log_info("sync", "member %u is %s", p->slot, state == MEMBER_DEAD ? "dead" : "alive");
        p->told = state;
        fx->slot = p->slot;
        fx->state = state;
    }
    if (own != core->told) {
        core->told = own;
        core->announce_wanted = true;
    }
}

/* ---- belief ---- */

/* What waited while we stood still may be older than it seems: nothing that others should hear. */
static void note_heard(struct sync_core *core, struct peer *p)
{
    p->heard_us = p->heard_any_us = core->now.mono_us;
    if (!core->stalled_us)
        p->told_us = core->now.mono_us;
}

static struct retired *find_retired(struct peer *p, const struct id128 *incarnation)
{
    for (size_t i = 0; i < p->n_retired; i++)
        if (id128_equal(&p->retired[i].incarnation, incarnation))
            return &p->retired[i];
    return NULL;
}

static bool is_recent(const struct sync_core *core, uint64_t heard_us)
{
    return heard_us && since_us(core, heard_us) <= ms_us(core->config.dead_ms);
}

bool peer_has_rival(const struct sync_core *core, const struct peer *p)
{
    for (size_t i = 0; i < p->n_retired; i++)
        if (is_recent(core, p->retired[i].heard_us))
            return true;
    return false;
}

bool peer_has_candidate(const struct sync_core *core, const struct peer *p)
{
    for (size_t i = 0; i < p->n_candidates; i++)
        if (since_us(core, p->candidates[i].heard_us) < 4 * ms_us(core->config.dead_ms))
            return true;
    return false;
}

/* The highest number heard of it: this frame's, or that of one which overtook it. */
static uint64_t note_candidate(struct sync_core *core, struct peer *p, const struct frame_header *h)
{
    struct candidate *c = NULL, *oldest = &p->candidates[0];

    for (size_t i = 0; i < p->n_candidates; i++) {
        if (id128_equal(&p->candidates[i].incarnation, &h->incarnation))
            c = &p->candidates[i];
        if (p->candidates[i].heard_us < oldest->heard_us)
            oldest = &p->candidates[i];
    }
    if (!c) {
        c = p->n_candidates < CANDIDATES_MAX ? &p->candidates[p->n_candidates++] : oldest;
        *c = (struct candidate){.incarnation = h->incarnation};
        core->announce_wanted = true; /* it waits to be named */
    }
    c->heard_us = core->now.mono_us;
    if (h->number > c->number)
        c->number = h->number;
    return c->number;
}

uint64_t peer_highest(const struct peer *p)
{
    uint64_t highest = 0;

    for (size_t i = 0; i < sizeof p->windows / sizeof *p->windows; i++)
        if (p->windows[i].highest > highest)
            highest = p->windows[i].highest;
    return highest;
}

/* Of an incarnation that is to be believed again: what its frames must be beyond; else 0. */
static uint64_t forget_retired(struct peer *p, const struct id128 *incarnation)
{
    struct retired *r = find_retired(p, incarnation);
    uint64_t highest = r ? r->highest : 0;

    if (r) {
        p->n_retired--;
        memmove(r, r + 1, (size_t)(p->retired + p->n_retired - r) * sizeof *r);
    }
    return highest;
}

static void retire(struct peer *p)
{
    if (p->n_retired < RETIRED_MAX)
        p->n_retired++;
    memmove(p->retired + 1, p->retired, (p->n_retired - 1) * sizeof *p->retired);
    p->retired[0] = (struct retired){p->incarnation, peer_highest(p),
                                     p->announced && p->says.state == MEMBER_DEAD ? 0 : p->told_us,
                                     p->announced ? p->says.epoch : 0};
}

static void believe(struct sync_core *core, struct peer *p, const struct frame_header *h,
                    uint64_t heard)
{
    char text[ID_TEXT];
    uint64_t seen = forget_retired(p, &h->incarnation);

    if (p->believed)
        retire(p);
    log_info("sync", "member %u is incarnation %s", p->slot, id128_format(&h->incarnation, text));
    if (core->pull.active && core->pull.from == p)
        pull_fail(core);
    peer_forget_announce(p);
    p->believed = true;
    p->incarnation = h->incarnation;
    log_revive(core, p);
    p->changed_at = frame_box_number(core->box);
    grants_believe(core->grants, p->slot, &p->incarnation);
    p->told_us = 0;
    note_heard(core, p);
    p->n_candidates = 0;
    memset(p->windows, 0, sizeof p->windows);
    for (size_t i = 0; seen && i < sizeof p->windows / sizeof *p->windows; i++)
        frame_window_start(&p->windows[i], seen);
    frame_window_start(&p->windows[FRAME_PUB - 1], heard > seen ? heard : seen);
    if (h->channel != FRAME_PUB)
        frame_window_start(&p->windows[h->channel - 1], h->number);
    core->announce_wanted = true;
}

/* Does this message name us, and how many of our frames did its writer know? 0: it does not. */
static uint64_t frames_known(const struct sync_core *core, const struct codec_message *m)
{
    if (m->kind == CODEC_PULL_REQUEST)
        return id128_equal(&m->pull_request.to_incarnation, &core->incarnation)
                   ? m->pull_request.heard
                   : 0;
    for (size_t i = 0; m->kind == CODEC_ANNOUNCE && i < m->announce.n_heard; i++)
        if (m->announce.heard[i].slot == core->config.slot &&
            id128_equal(&m->announce.heard[i].incarnation, &core->incarnation))
            return m->announce.heard[i].number;
    return 0;
}

/* Its writer lives, and did so since belief changed. */
static bool proves_life(const struct sync_core *core, const struct peer *p,
                        const struct codec_message *m)
{
    uint64_t known = frames_known(core, m);

    return known > p->changed_at || (MUTANT(FRESH) && known);
}

/* Nobody vouches for such a header: it is shown only while that member is not heard otherwise. */
static void note_foreign_key(struct sync_core *core, const struct frame_header *h)
{
    struct peer *p = peers_find(core, h->slot);

    if (!p)
        return;
    p->foreign_key_id = h->key_id;
    p->foreign_us = core->now.mono_us;
}

/* A retired one sends again, beyond what we had of it, and has heard us since another is believed:
 * it lives, too. (What was recorded before, or comes late, shows nothing.) */
static enum frame_refusal note_rival(struct sync_core *core, const struct peer *p,
                                     struct retired *r, struct slice bytes,
                                     const struct frame_header *h)
{
    struct codec_message m = {0};
    enum frame_refusal why;
    size_t n = 0;
    int rc;

    if (h->number <= r->highest || h->channel != FRAME_PUB)
        return REFUSED_RETIRED;
    why = frame_open(core->box, bytes, h, NULL, core->plain_in, &n);
    if (why != FRAME_TAKEN)
        return why;
    rc = codec_decode((struct slice){core->plain_in, n}, &m);
    wipe(core->plain_in, n);
    r->highest = h->number;
    if (rc == ERR_OK && proves_life(core, p, &m) && !core->stalled_us)
        r->heard_us = core->now.mono_us;
    codec_message_free(&m);
    return REFUSED_RETIRED;
}

/* Counted, and told now and then: a wrong key or member list shows here. Whoever has just
 * started is unproven to all for a moment, so that is not worth a line. */
static void refuse(struct sync_core *core, enum frame_refusal why, const struct frame_header *h)
{
    uint64_t *told_us = &core->refusal_told_us[why];

    core->stats.frames_refused++;
    core->stats.refused_by_reason[why]++;
    if (why == REFUSED_KEY)
        note_foreign_key(core, h);
    if (why == REFUSED_UNPROVEN ||
        (*told_us && since_us(core, *told_us) < ms_us(REFUSAL_TOLD_EVERY_MS)))
        return;
    *told_us = core->now.mono_us;
    log_warn("sync", "a frame that claims slot %u and key id %u is refused: %s", h->slot, h->key_id,
             frame_refusal_text(why));
}

static bool belongs(enum frame_channel channel, enum codec_kind kind)
{
    switch (channel) {
    case FRAME_PUB:
        return kind == CODEC_UPDATE || kind == CODEC_ANNOUNCE || kind == CODEC_FORWARD ||
               kind == CODEC_MOVED || kind == CODEC_ACTIVITY || kind == CODEC_CLAIM ||
               kind == CODEC_VOTE;
    case FRAME_REQUEST:
        return kind == CODEC_PULL_REQUEST;
    case FRAME_REPLY:
        return kind == CODEC_PULL_REPLY;
    }
    return false;
}

/* Opens a frame of one channel and decides whether its sender is believed; FRAME_TAKEN with
 * *from and *m (caller: codec_message_free), or the reason why not. */
static enum frame_refusal take(struct sync_core *core, struct slice bytes,
                               const struct frame_header *h, enum frame_channel channel,
                               const struct frame_binding *reply_to, struct peer **from,
                               struct codec_message *m)
{
    struct peer *p = peers_find(core, h->slot);
    struct retired *retired;
    enum frame_refusal why;
    size_t n;
    int rc;

    if (h->channel != channel)
        return REFUSED_FORM;
    if (!p || h->slot == core->config.slot)
        return REFUSED_SENDER;
    retired = find_retired(p, &h->incarnation);
    if (retired && (h->number <= retired->highest || is_recent(core, p->heard_us)))
        return note_rival(core, p, retired, bytes, h);
    why = frame_open(core->box, bytes, h, reply_to, core->plain_in, &n);
    if (why != FRAME_TAKEN)
        return why;
    if (believed_as(p, &h->incarnation) &&
        !frame_window_take(&p->windows[channel - 1], h->number) && !MUTANT(WINDOW))
        why = REFUSED_REPLAY;
    rc = why == FRAME_TAKEN ? codec_decode((struct slice){core->plain_in, n}, m) : ERR_AUTH;
    wipe(core->plain_in, n);
    if (why == FRAME_TAKEN && rc == ERR_UNSUPPORTED && believed_as(p, &h->incarnation))
        note_heard(core, p); /* newer than us, but alive */
    if (why == FRAME_TAKEN && rc != ERR_OK)
        why = rc == ERR_UNSUPPORTED ? REFUSED_KIND : REFUSED_PAYLOAD;
    if (why != FRAME_TAKEN)
        return why;
    if (!belongs(channel, m->kind)) {
        codec_message_free(m);
        return REFUSED_PAYLOAD;
    }
    if (!believed_as(p, &h->incarnation)) {
        uint64_t heard = note_candidate(core, p, h);
        if (proves_life(core, p, m) || MUTANT(NAMED))
            believe(core, p, h, heard);
        if (!believed_as(p, &h->incarnation)) {
            codec_message_free(m);
            return REFUSED_UNPROVEN;
        }
    }
    note_heard(core, p);
    p->key_id = h->key_id;
    core->stats.frames_in++;
    *from = p;
    return FRAME_TAKEN;
}

/* ---- what they say ---- */

static void hear_of_others(struct sync_core *core, const struct codec_announce *a)
{
    for (size_t i = 0; i < a->n_heard; i++) {
        const struct codec_heard *h = &a->heard[i];
        struct peer *p = peers_find(core, h->slot);
        uint64_t age_us = ms_us(h->age_ms), at;
        if (!p || !h->believed || !believed_as(p, &h->incarnation) || age_us > core->now.mono_us)
            continue;
        at = core->now.mono_us - age_us;
        if (at > p->heard_any_us)
            p->heard_any_us = at;
    }
}

/* Of its vector only what we lack is kept, and nothing of the rest that was used already: in a
 * large cluster an Announce has thousands of entries, every member keeps one of every other, and
 * looks at them with every tick. Our own vector never goes back, so what it covers now it covers
 * as long as this Announce is remembered. */
static void keep_what_we_lack(const struct sync_core *core, struct codec_announce *a)
{
    struct log_position *less;
    size_t kept = 0;

    for (size_t i = 0; i < a->n_applied; i++)
        if (!id128_equal(&a->applied[i].origin, &core->incarnation) &&
            a->applied[i].seq > log_applied(core, &a->applied[i].origin))
            a->applied[kept++] = a->applied[i];
    a->n_applied = kept;
    less = kept ? realloc(a->applied, kept * sizeof *less) : NULL;
    if (kept == 0)
        free(a->applied);
    if (less || kept == 0)
        a->applied = less;
    free(a->heard);
    free(a->epochs);
    a->heard = NULL;
    a->epochs = NULL;
    a->n_heard = a->n_epochs = 0;
}

static void on_announce(struct sync_core *core, struct peer *p, uint64_t number,
                        struct codec_announce *a)
{
    if (p->announced && number < p->announce_number)
        return; /* overtaken on the way */
    free_says(p);
    p->says = *a;
    *a = (struct codec_announce){0};
    p->announced = true;
    p->announce_number = number;
    p->announced_us = core->now.mono_us;
    clock_heard(core, p, p->says.wall_ms);
    for (size_t i = 0; i < p->says.n_applied; i++)
        if (id128_equal(&p->says.applied[i].origin, &core->incarnation) &&
            p->says.applied[i].seq <= core->self->seq)
            p->says_ack = p->says.applied[i].seq;
    for (size_t i = 0; i < p->says.n_heard; i++)
        if (p->says.heard[i].slot == core->config.slot) {
            if (id128_equal(&p->says.heard[i].incarnation, &core->incarnation)) {
                p->deaf = p->says.heard[i].age_ms > core->config.dead_ms;
                epoch_heard(core, p);
            } else
                epoch_rival(core, &p->says.heard[i]);
        }
    hear_of_others(core, &p->says);
    keep_what_we_lack(core, &p->says);
    barrier_ack(core, p);
    pull_look(core, p);
}

static void on_forward(struct sync_core *core, struct codec_forward *f)
{
    struct sync_effect *fx;

    if (!array_room(&core->buffers, core->n_buffers, &core->cap_buffers, sizeof *core->buffers))
        return;
    fx = out_add(core, SYNC_FX_FORWARDED);
    if (!fx)
        return;
    fx->forward.to_slot = core->config.slot;
    fx->forward.local = f->local;
    fx->forward.peer = f->peer;
    fx->forward.datagram = (struct slice){f->datagram, f->n_datagram};
    core->buffers[core->n_buffers++] = f->datagram; /* lives until the next step */
    f->datagram = NULL;
}

static void on_moved(struct sync_core *core, const struct codec_moved *m)
{
    struct sync_effect *fx = out_add(core, SYNC_FX_MOVED);

    if (fx)
        fx->moved = (struct sync_moved){core->config.slot, m->spi_in, m->peer};
}

static void on_activity(struct sync_core *core, uint16_t slot, const struct codec_activity *m)
{
    struct sync_activity *a;
    struct sync_effect *fx;

    if (m->n > SYNC_ACTIVITY_MAX ||
        !array_room(&core->buffers, core->n_buffers, &core->cap_buffers, sizeof *core->buffers))
        return;
    a = calloc(1, sizeof *a);
    fx = a ? out_add(core, SYNC_FX_ACTIVITY) : NULL;
    if (!fx) {
        free(a);
        return;
    }
    a->slot = slot;
    a->answer = m->answer;
    a->round = m->round;
    a->n = m->n;
    memcpy(a->spi_in, m->spi_in, m->n * sizeof *m->spi_in);
    if (m->answer)
        memcpy(a->age_ms, m->age_ms, m->n * sizeof *m->age_ms);
    fx->activity = a;
    core->buffers[core->n_buffers++] = (uint8_t *)a; /* lives until the next step */
}

void peers_frame(struct sync_core *core, struct slice bytes)
{
    struct codec_message m = {0};
    struct frame_header h;
    struct peer *from = NULL;
    enum frame_refusal why = frame_peek(core->box, bytes, &h);

    if (why == FRAME_TAKEN && h.to_slot != FRAME_TO_ALL && h.to_slot != core->config.slot)
        return; /* for another member */
    if (why == FRAME_TAKEN)
        why = take(core, bytes, &h, FRAME_PUB, NULL, &from, &m);
    if (why != FRAME_TAKEN) {
        refuse(core, why, &h);
        return;
    }
    if (m.kind == CODEC_ANNOUNCE)
        on_announce(core, from, h.number, &m.announce);
    else if (m.kind == CODEC_FORWARD)
        on_forward(core, &m.forward);
    else if (m.kind == CODEC_MOVED)
        on_moved(core, &m.moved);
    else if (m.kind == CODEC_ACTIVITY)
        on_activity(core, from->slot, &m.activity);
    else if (m.kind == CODEC_CLAIM)
        epoch_on_claim(core, from, &m.claim);
    else if (m.kind == CODEC_VOTE)
        epoch_on_vote(core, from, &m.vote);
    else if (id128_equal(&m.update.origin, &from->incarnation))
        log_update(core, from, &m.update);
    else
        refuse(core, REFUSED_PAYLOAD, &h);
    codec_message_free(&m);
}

/* Every request gets its REPLY effect, so that the transport can let it go. */
static void reply_nothing(struct sync_core *core, uint64_t request)
{
    struct sync_effect *fx = out_add(core, SYNC_FX_REPLY);

    if (fx)
        fx->request = request;
}

void peers_request(struct sync_core *core, struct slice bytes, uint64_t request)
{
    struct codec_message m = {0};
    struct frame_header h;
    struct peer *from = NULL;
    enum frame_refusal why = frame_peek(core->box, bytes, &h);

    if (why == FRAME_TAKEN && h.to_slot != core->config.slot)
        why = REFUSED_SENDER;
    if (why == FRAME_TAKEN)
        why = take(core, bytes, &h, FRAME_REQUEST, NULL, &from, &m);
    if (why == FRAME_TAKEN && !id128_equal(&m.pull_request.to_incarnation, &core->incarnation)) {
        codec_message_free(&m); /* meant for an earlier life of ours */
        why = REFUSED_UNPROVEN;
    }
    if (why != FRAME_TAKEN) {
        refuse(core, why, &h);
        reply_nothing(core, request);
        return;
    }
    pull_answer(core, from, &m.pull_request, request);
    codec_message_free(&m);
}

void peers_reply(struct sync_core *core, struct slice bytes, uint64_t request)
{
    struct frame_binding binding = {core->incarnation, core->pull.nonce};
    struct codec_message m = {0};
    struct frame_header h;
    struct peer *from = NULL;
    enum frame_refusal why;

    if (!core->pull.active || request != core->pull.request)
        return; /* given up since */
    if (bytes.n == 0) {
        pull_fail(core);
        return;
    }
    why = frame_peek(core->box, bytes, &h);
    if (why == FRAME_TAKEN && (h.to_slot != core->config.slot || h.slot != core->pull.from->slot ||
                               !id128_equal(&h.incarnation, &core->pull.incarnation)))
        why = REFUSED_SENDER;
    if (why == FRAME_TAKEN)
        why = take(core, bytes, &h, FRAME_REPLY, &binding, &from, &m);
    if (why != FRAME_TAKEN) {
        refuse(core, why, &h);
        pull_fail(core);
        return;
    }
    pull_page(core, &m.pull_reply);
    codec_message_free(&m);
}

/* ---- what we say ---- */

static uint32_t age_ms_of(const struct sync_core *core, uint64_t heard_us)
{
    uint64_t age_ms = since_us(core, heard_us) / 1000;

    return age_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)age_ms;
}

/* Who sends, but is not believed: candidates, and rivals of those who are. */
static size_t heard_besides(struct sync_core *core, const struct peer *p, size_t n)
{
    for (size_t k = 0; k < p->n_candidates && n < core->cap_heard; k++)
        if (since_us(core, p->candidates[k].heard_us) < 4 * ms_us(core->config.dead_ms))
            core->heard[n++] = (struct codec_heard){.incarnation = p->candidates[k].incarnation,
                                                    .slot = p->slot,
                                                    .number = p->candidates[k].number};
    for (size_t k = 0; k < p->n_retired && n < core->cap_heard; k++)
        if (is_recent(core, p->retired[k].heard_us))
            core->heard[n++] =
                (struct codec_heard){.incarnation = p->retired[k].incarnation,
                                     .age_ms = age_ms_of(core, p->retired[k].heard_us),
                                     .slot = p->slot,
                                     .number = p->retired[k].highest,
                                     .epoch = p->retired[k].epoch,
                                     .rival = true};
    return n;
}

/* All who are believed, then the others: those of one large start beyond the room wait until
 * some of the others are believed. */
static size_t heard_by_us(struct sync_core *core)
{
    _Static_assert((int)SYNC_MEMBERS_MAX <= (int)CODEC_HEARD_MAX, "all believed ones fit");
    size_t n = 0;

    for (size_t i = 0; i < core->n_peers; i++) {
        const struct peer *p = &core->peers[i];
        if (p->believed)
            core->heard[n++] = (struct codec_heard){.incarnation = p->incarnation,
                                                    .age_ms = age_ms_of(core, p->told_us),
                                                    .slot = p->slot,
                                                    .believed = true,
                                                    .number = peer_highest(p),
                                                    .epoch = p->announced ? p->says.epoch : 0};
    }
    for (size_t i = 0; i < core->n_peers; i++)
        n = heard_besides(core, &core->peers[i], n);
    return n;
}

static void announce_keys(const struct sync_core *core, struct codec_announce *a)
{
    _Static_assert((int)FRAME_KEYS_MAX == (int)CODEC_KEYS_MAX, "all keys fit an Announce");
    struct frame_key keys[FRAME_KEYS_MAX];

    a->n_keys = frame_box_keys(core->box, keys);
    for (size_t i = 0; i < a->n_keys; i++)
        a->keys[i] = (struct codec_key){keys[i].id, keys[i].check};
}

/* To one member, of its own: it reaches who has stopped hearing what goes to all. */
static void remind(struct sync_core *core, struct peer *p, const struct codec_message *m)
{
    p->reminded_us = core->now.mono_us;
    core->stats.reminders++;
    out_publish(core, p->slot, m);
}

static bool reminds_any(const struct sync_core *core)
{
    for (size_t i = 0; core->n_barriers && i < core->n_peers; i++)
        if (barrier_reminds(core, &core->peers[i]))
            return true;
    return false;
}

void peers_announce(struct sync_core *core)
{
    struct codec_epoch epochs[SLOT_MAX + 1];
    uint16_t sure_of[SLOT_MAX + 1];
    struct codec_message m = {.kind = CODEC_ANNOUNCE};
    struct codec_announce *a = &m.announce;
    uint64_t every_ms = core->n_barriers ? ANNOUNCE_BARRIER_MS : ANNOUNCE_EVERY_MS;

    bool to_all = core->announce_wanted || since_us(core, core->announced_us) >= ms_us(every_ms);

    if (!core->recovered || (!to_all && core->ack_to == FRAME_TO_ALL && !reminds_any(core)))
        return;
    a->applied = log_vector(core, &a->n_applied);
    if (!a->applied)
        return;
    a->state = (uint8_t)own_state(core);
    a->head = core->self->seq;
    a->heard = core->heard;
    a->n_heard = heard_by_us(core);
    a->epoch = core->epoch;
    a->sure_of = sure_of;
    a->sure = grants_sure(core->grants, sure_of, &a->n_sure_of);
    a->epochs = epochs;
    a->tells_epochs = epoch_tables_wanted(core);
    if (a->tells_epochs)
        a->n_epochs = epoch_tell(core, epochs);
    memcpy(a->name, core->config.name, sizeof core->config.name);
    memcpy(a->version, core->config.version, sizeof core->config.version);
    a->ike_sas = table_counts(core->table)->ike_sas;
    a->child_sas = table_counts(core->table)->child_sas;
    memcpy(a->sa_digest, table_counts(core->table)->digest, sizeof a->sa_digest);
    a->members = core->members_digest;
    a->wall_ms = core->own_wall_ms;
    announce_keys(core, a);
    if (to_all || core->ack_to != FRAME_TO_ALL)
        out_publish(core, to_all ? FRAME_TO_ALL : core->ack_to, &m);
    for (size_t i = 0; i < core->n_peers; i++)
        if (barrier_reminds(core, &core->peers[i]))
            remind(core, &core->peers[i], &m);
    free(a->applied);
    core->ack_to = FRAME_TO_ALL;
    if (!to_all)
        return;
    core->announce_wanted = false;
    core->announced_us = core->now.mono_us;
}
