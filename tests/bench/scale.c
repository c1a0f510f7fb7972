/* How replication grows with the member list: N cores in one process under virtual time.
 *
 *     bench_scale [--sas N] [--turn US] [--loss PER_MILLE] [--light] MEMBERS...
 *
 * A link takes 0.5 ms and up to 0.2 ms more, and loses ten published frames in a thousand; requests
 * arrive. A commit takes 0.2 ms. A member's loop handles what came and lets its output go once a
 * turn (0.1 ms). Times are virtual and so exact; CPU time is this machine's, all members together
 * on one thread. With --light receivers get a copy of what the sender encoded and open and decode
 * nothing: virtual times and sizes are the same, CPU times mean little. See docs/scaling.md. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "proto/env.h"
#include "proto/log.h"
#include "tests/bench/cluster.h"
#include "tests/bench/scale_world.h"

enum {
    QUIET_US = 150000, /* the repairs of what was before are over */
    LIMIT_US = 30000000,
    STEP_US = 1000,
    FIRST_SA = 1 << 20, /* number of what each member publishes before anything is measured */
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double percentile(double *v, size_t n, double p)
{
    qsort(v, n, sizeof *v, compare);
    return v[(size_t)(p * (double)(n - 1) + 0.5)];
}

static double cpu_seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static double arriving(const struct world *w)
{
    return 1 - w->loss_per_mille / 1e3;
}

static double each(const struct world *w, uint64_t sum)
{
    return (double)sum / w->n;
}

/* ---- the parts of the story ---- */

static bool formed(const struct world *w)
{
    for (uint32_t i = 0; i < w->n; i++)
        if (!w->members[i].epoch || !sync_is_synced(w->members[i].core))
            return false;
    return true;
}

static void form(struct world *w)
{
    const struct sums *s = &w->sums;

    while (!formed(w) && w->now_us < BEGAN_US + LIMIT_US)
        world_run(w, STEP_US);
    printf("%5u members: formed after %.0f ms; by each %.1f frames published (%.1f Announces), "
           "%.0f handled\n",
           w->n, (double)(w->now_us - BEGAN_US) / 1e3, each(w, s->published),
           each(w, s->announces + s->acks), each(w, s->arrived));
    if (!formed(w)) {
        printf("      that is, not formed\n");
        exit(1);
    }
    world_run(w, QUIET_US);
}

static struct sync_event put_of(uint32_t origin, uint32_t number, struct record *pair[2])
{
    bench_pair((uint16_t)(origin + 1), number, pair);
    return (struct sync_event){.kind = SYNC_EV_PUT, .group = pair, .n_group = 2, .barrier = 1};
}

/* Every log gets a record, as in a cluster that has worked for a while, and is in every vector from
 * now on: all at the same moment. A Child SA alone, to spare memory. */
static void fill(struct world *w)
{
    const struct sums before = w->sums;
    uint64_t began_us = w->now_us, all = (uint64_t)w->n * w->n;

    for (uint32_t i = 0; i < w->n; i++) {
        struct record *pair[2];
        struct sync_event put = put_of(i, FIRST_SA, pair);
        record_free(pair[0]);
        put.group = pair + 1;
        put.n_group = 1;
        world_step(w, i, &put);
    }
    while (w->sums.installed - before.installed < all && w->now_us < began_us + LIMIT_US)
        world_run(w, STEP_US);
    printf("      one SA of each at once: at all after %.0f ms",
           (double)(w->now_us - began_us) / 1e3);
    while (w->sums.barriers - before.barriers < w->n && w->now_us < began_us + LIMIT_US)
        world_run(w, STEP_US);
    printf(", all barriers after %.0f ms; %.1f frames published by each, %.1f pulls\n",
           (double)(w->now_us - began_us) / 1e3, each(w, w->sums.published - before.published),
           each(w, w->sums.requests - before.requests));
    world_run(w, QUIET_US);
}

/* While nothing happens: how often a member announces, and what. */
struct idle {
    double announces_us, bytes; /* of one member for each microsecond; of one Announce */
    double cpu_us;              /* for each frame that a loop handles; ticks among it */
};

static struct idle idle(struct world *w)
{
    const struct sums before = w->sums, *s = &w->sums;
    double cpu = cpu_seconds(), frames;
    struct idle idle;

    world_run(w, QUIET_US);
    idle.cpu_us = (cpu_seconds() - cpu) * 1e6 / (double)(s->arrived - before.arrived);
    idle.announces_us =
        (double)(s->intervals - before.intervals) / (double)(s->interval_us - before.interval_us);
    idle.bytes = (double)(s->announce_bytes - before.announce_bytes) /
                 (double)(s->announces + s->acks - before.announces - before.acks);
    frames = idle.announces_us * 1e6 * (w->n - 1) * arriving(w);
    printf("      idle: %.0f frames/s and %.3f MB/s to each member, %.2f %% of a core; an Announce "
           "has %.0f bytes\n",
           frames, frames * idle.bytes / 1e6, frames * idle.cpu_us / 1e6 * 100, idle.bytes);
    return idle;
}

/* What SAs took beyond the idle Announces. How many of those there were follows from the time
 * between each member's last and its one before. */
static void tell_costs(const struct world *w, const struct sums *before, const struct idle *idle,
                       double sas)
{
    const struct sums *s = &w->sums;
    double announces = (double)(s->announces - before->announces);
    double more = (double)(s->intervals - before->intervals) -
                  (double)(s->interval_us - before->interval_us) * idle->announces_us;
    double published = (double)(s->published - before->published) - (announces - more);
    double arrived = more * (w->n - 1) * arriving(w);
    double handled = (double)(s->handled - before->handled) + arrived;
    double handled_octets =
        (double)(s->handled_bytes - before->handled_bytes) + arrived * idle->bytes;

    printf("      an SA: %.1f frames published (%.1f Updates, %.1f Announces to one, %.1f to all), "
           "%.1f pulls\n",
           published / sas, (double)(s->updates - before->updates) / sas,
           (double)(s->acks - before->acks) / sas, more / sas,
           (double)(s->requests - before->requests) / sas);
    printf("      ... to each member %.1f frames and %.1f KB\n", handled / w->n / sas,
           handled_octets / w->n / sas / 1e3);
}

/* One SA at a time, each from another member. */
static void one_by_one(struct world *w, const struct idle *idle, uint32_t sas)
{
    double *visible = calloc(sas, sizeof *visible), *answered = calloc(sas, sizeof *answered);
    const struct sums before = w->sums;

    if (!visible || !answered)
        abort();
    for (uint32_t k = 0; k < sas; k++) {
        uint32_t origin = (uint32_t)(((uint64_t)k * w->n) / sas);
        struct record *pair[2];
        struct sync_event put = put_of(origin, k, pair);
        const uint64_t put_us = w->now_us;
        w->spi = pair[1]->child.spi_in;
        w->n_have = 0;
        w->barrier_us = w->all_have_us = 0;
        for (uint32_t i = 0; i < w->n; i++)
            w->members[i].has_sa = false;
        world_step(w, origin, &put);
        world_run(w, QUIET_US);
        while (w->n_have < w->n || !w->barrier_us) {
            world_run(w, STEP_US);
            if (w->now_us > put_us + LIMIT_US)
                exit(1);
        }
        visible[k] = (double)(w->all_have_us - put_us) / 1e3;
        answered[k] = (double)(w->barrier_us - put_us) / 1e3;
    }
    printf(
        "      at all: %.2f / %.2f ms, barrier: %.2f / %.2f ms (p50 / p99 of %u, virtual), timed "
        "out: %llu\n",
        percentile(visible, sas, 0.5), percentile(visible, sas, 0.99),
        percentile(answered, sas, 0.5), percentile(answered, sas, 0.99), sas,
        (unsigned long long)(w->sums.timed_out - before.timed_out));
    tell_costs(w, &before, idle, sas);
    free(visible);
    free(answered);
}

static void story(const struct world_config *config, uint32_t sas)
{
    const double cpu = cpu_seconds();
    struct rusage used;
    struct idle at_rest;
    struct world w;

    world_begin(&w, config);
    form(&w);
    fill(&w);
    at_rest = idle(&w);
    one_by_one(&w, &at_rest, sas);
    world_end(&w);
    (void)getrusage(RUSAGE_SELF, &used);
    printf("      this took %.1f s of CPU and %.2f GB at most%s\n", cpu_seconds() - cpu,
           (double)used.ru_maxrss / 1e6,
           config->light ? "; opening and decoding were imitated" : "");
}

int main(int argc, char **argv)
{
    struct world_config config = {.turn_us = 100, .loss_per_mille = 10};
    uint32_t sas = 50;

    log_set_level(LOG_LEVEL_ERROR);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        const long n = atol(argv[i]);
        config.n = (uint32_t)n;
        if (strcmp(argv[i], "--sas") == 0 && i + 1 < argc)
            sas = (uint32_t)atol(argv[++i]);
        else if (strcmp(argv[i], "--turn") == 0 && i + 1 < argc)
            config.turn_us = (uint64_t)atol(argv[++i]);
        else if (strcmp(argv[i], "--loss") == 0 && i + 1 < argc)
            config.loss_per_mille = (uint32_t)atol(argv[++i]);
        else if (strcmp(argv[i], "--light") == 0)
            config.light = true;
        else if (n >= 2 && n <= SLOT_MAX && sas > 0)
            story(&config, sas);
        else
            return fprintf(stderr, "usage: bench_scale [--sas N] [--turn US] [--loss PER_MILLE] "
                                   "[--light] MEMBERS...\n"),
                   2;
    }
    return 0;
}
