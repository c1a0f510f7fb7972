/* The member list changes while the core runs: one member comes or goes. What is known of those
 * that stay goes on, this process' epoch included. Whoever goes is dead from now on: its records
 * stay, and what only it had published is published again, as after any death. */
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "proto/log.h"
#include "sync/core.h"

/* What the new list needs, all of it made before anything changes. */
struct next {
    struct peer *peers;
    struct codec_heard *heard;
    size_t n_peers;
};

static bool is_list(const struct sync_core *core, const uint16_t *slots, size_t n)
{
    bool seen[SLOT_MAX + 1] = {false};

    if (n == 0 || n > SYNC_MEMBERS_MAX)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (slots[i] > SLOT_MAX || seen[slots[i]])
            return false;
        seen[slots[i]] = true;
    }
    return seen[core->config.slot];
}

static bool contains(const uint16_t *slots, size_t n, uint16_t slot)
{
    for (size_t i = 0; i < n; i++)
        if (slots[i] == slot)
            return true;
    return false;
}

/* The others' own memory is not copied but handed over; peers that go give it back. */
static void hand_over(struct sync_core *core, const uint16_t *slots, size_t n, struct next *next)
{
    for (size_t i = 0; i < core->n_peers; i++) {
        struct peer *p = &core->peers[i];
        struct sync_effect *fx;
        if (contains(slots, n, p->slot))
            continue;
        log_info("sync", "member %u is removed", p->slot);
        fx = p->told == MEMBER_DEAD ? NULL : out_add(core, SYNC_FX_MEMBER);
        if (fx) {
            fx->slot = p->slot;
            fx->state = MEMBER_DEAD;
        }
        peer_forget_announce(p);
    }
    for (size_t i = 0; i < n; i++) {
        const struct peer *before = peers_find(core, slots[i]);
        if (slots[i] == core->config.slot)
            continue;
        if (before)
            next->peers[next->n_peers] = *before;
        else
            log_info("sync", "member %u is added", slots[i]);
        next->peers[next->n_peers++].slot = slots[i];
    }
}

/* What points to peers. */
static void drop_pointers(struct sync_core *core)
{
    struct sync_effect *fx;

    pull_fail(core);
    for (size_t i = 0; i < core->n_misses; i++) {
        fx = out_add(core, SYNC_FX_MISS_OVER); /* a packet that comes again asks again */
        if (fx)
            fx->spi_in = core->misses[i].spi_in;
    }
    core->n_misses = 0;
}

static bool make(const struct sync_core *core, const uint16_t *slots, size_t n, struct next *next)
{
    next->peers = calloc(n, sizeof *next->peers);
    next->heard = calloc(peers_heard_room(n), sizeof *next->heard);
    return next->peers && next->heard &&
           grants_set_members(core->grants, slots, n, sync_members_digest(slots, n));
}

void members_set(struct sync_core *core, const uint16_t *slots, size_t n)
{
    struct next next = {.n_peers = 0};

    if (!is_list(core, slots, n) || !make(core, slots, n, &next)) {
        log_error("sync", "the member list stays as it was: the new one is not in order, or there "
                          "is no memory for it");
        free(next.peers);
        free(next.heard);
        return;
    }
    drop_pointers(core);
    hand_over(core, slots, n, &next);
    free(core->peers);
    free(core->heard);
    core->peers = next.peers;
    core->n_peers = next.n_peers;
    core->heard = next.heard;
    core->cap_heard = peers_heard_room(n);
    memset(core->peer_at, 0, sizeof core->peer_at);
    for (size_t i = 0; i < core->n_peers; i++)
        core->peer_at[core->peers[i].slot] = (uint16_t)(i + 1);
    memcpy(core->config.members, slots, n * sizeof *slots);
    core->config.n_members = n;
    core->members_digest = sync_members_digest(slots, n);
    core->announce_wanted = true;
}
