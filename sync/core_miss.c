/* Misses: the dataplane holds a packet whose Child SA is not here.
 *
 * The slot in an ESP SPI names the member that made the SA, and that one knew the SA before its
 * peer could use it. So the answer to a pull that was asked of it after the packet came is final:
 * either it brings the SA (or its tombstone), or there is none and nobody need wait. The member
 * asked is the maker; once it failed to answer, whoever announces more than we have, without the
 * grace that hearsay gets otherwise (core_pull.c).
 *
 * Bounds. One pull at a time, as ever, and after one for a miss any other that is due goes first.
 * A member is asked for misses every MISS_PULL_EVERY_MS at most, whatever arrives: one answer
 * serves all that wait, so a flood of invented SPIs makes us ask no more often, and delays the
 * answer for an honest one by that time at most. Who does not answer within MISS_PULL_TIMEOUT_MS is
 * given up, so that the other repairs go on. */
#include "sync/core.h"

static void over(struct sync_core *core, uint32_t spi_in)
{
    struct sync_effect *fx = out_add(core, SYNC_FX_MISS_OVER);

    if (fx)
        fx->spi_in = spi_in;
}

static void forget(struct sync_core *core, size_t i)
{
    for (core->n_misses--; i < core->n_misses; i++) /* they stay in order */
        core->misses[i] = core->misses[i + 1];
}

static bool known(const struct sync_core *core, uint32_t spi_in)
{
    return table_find(core->table, RECORD_CHILD, spi_in) != NULL;
}

void miss_take(struct sync_core *core, uint32_t spi_in)
{
    struct peer *maker = peers_find(core, esp_spi_slot(spi_in)); /* NULL: ourselves, too */

    if (!core->recovered || !maker || !peer_live(core, maker) || known(core, spi_in)) {
        over(core, spi_in); /* deleted, or not to be had; harmless if installed meanwhile */
        return;
    }
    for (size_t i = 0; i < core->n_misses; i++)
        if (core->misses[i].spi_in == spi_in)
            return;
    if (core->n_misses == MISSES_MAX)
        return; /* what is asked for those serves this one, too */
    core->misses[core->n_misses++] = (struct miss){spi_in, maker, core->now.mono_us};
}

/* Heard by ourselves and hears us, and it has not failed us since that packet came. */
static bool in_reach(const struct sync_core *core, const struct peer *p, const struct miss *m)
{
    return peer_live(core, p) && since_us(core, p->heard_us) <= ms_us(core->config.dead_ms) &&
           !p->deaf && p->pull_failed_us < m->since_us;
}

static bool may_ask_now(const struct sync_core *core, const struct peer *p)
{
    return p->miss_asked_us == 0 || since_us(core, p->miss_asked_us) >= ms_us(MISS_PULL_EVERY_MS);
}

static struct peer *source_of(struct sync_core *core, const struct miss *m)
{
    struct peer *best = NULL;

    if (in_reach(core, m->maker, m))
        return may_ask_now(core, m->maker) ? m->maker : NULL;
    for (size_t i = 0; i < core->n_peers; i++) {
        struct peer *p = &core->peers[i];
        if (p->announced && p->lack.entries && in_reach(core, p, m) && may_ask_now(core, p) &&
            (!best || p->lack.entries > best->lack.entries))
            best = p;
    }
    return best;
}

/* Whom to ask now for what is missed; NULL: nobody. */
struct peer *miss_source(struct sync_core *core)
{
    struct peer *from = NULL;

    for (size_t i = 0; i < core->n_misses;) {
        if (known(core, core->misses[i].spi_in) || /* a record that came by itself */
            since_us(core, core->misses[i].since_us) > ms_us(MISS_KEEP_MS))
            forget(core, i);
        else
            i++;
    }
    for (size_t i = 0; i < core->n_misses && !from; i++)
        from = source_of(core, &core->misses[i]);
    return from;
}

/* A pull has brought all that its source had when it was asked. */
void miss_answered(struct sync_core *core)
{
    for (size_t i = 0; i < core->n_misses;) {
        const struct miss *m = &core->misses[i];

        if (m->maker != core->pull.from || m->since_us > core->pull.began_us) {
            i++;
            continue;
        }
        if (!known(core, m->spi_in))
            over(core, m->spi_in);
        forget(core, i);
    }
}
