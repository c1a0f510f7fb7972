/* sim: plays histories of a cluster and says which of them went wrong.
 *
 *   sim [--seeds A-B] [--time S]   all of them, or as many as S seconds allow; the first that
 *                                  fails ends it
 *   sim --seed N [--trace]         one, told step by step
 *   sim --hash ...                 a line per seed with the hash of its trace
 *   sim --keep-going ...           goes on after a failure
 *   sim --without NAME ...         with that guard of sync/mutant.def switched off
 *   sim --mutants                  the gate: with any one guard of sync/mutant.def switched off,
 *                                  some seed below 10,000 fails */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/log.h"
#include "sync/mutant.h"
#include "tests/sim/sim.h"

struct options {
    uint64_t first, last;
    double seconds; /* 0: no limit */
    bool trace, hash, keep_going, mutants;
};

static void to_stdout(enum log_level level, const char *area, const char *text)
{
    (void)level;
    printf("                %s: %s\n", area, text);
}

static void to_nowhere(enum log_level level, const char *area, const char *text)
{
    (void)level;
    (void)area;
    (void)text;
}

static double seconds_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void add_up(struct totals *sum, const struct totals *t)
{
    sum->seeds++;
    sum->events += t->events;
    sum->steps += t->steps;
    sum->frames += t->frames;
    sum->answers += t->answers;
    sum->timeouts += t->timeouts;
    sum->superseded += t->superseded;
    sum->laggings += t->laggings;
    sum->forgotten += t->forgotten;
    sum->ghosts += t->ghosts;
    sum->conflicts += t->conflicts;
    sum->short_of += t->short_of;
    sum->adoptions += t->adoptions;
    sum->resumed += t->resumed;
    sum->own_rekeys += t->own_rekeys;
    sum->handed_over += t->handed_over;
    sum->crashes += t->crashes;
    sum->pulls += t->pulls;
    sum->children += t->children;
    sum->virtual_ms += t->virtual_ms;
    sum->heal_ms += t->heal_ms;
    if (t->heal_ms > sum->heal_ms_max)
        sum->heal_ms_max = t->heal_ms;
}

/* True when all is well. */
static bool play(const struct options *o, struct sim *s, uint64_t seed, struct totals *sum)
{
    bool well;

    s->tracing = o->trace;
    sim_play(s, seed);
    well = !s->failed;
    s->totals.children = s->n_children;
    add_up(sum, &s->totals);
    if (o->hash)
        printf("%llu %016llx\n", (unsigned long long)seed, (unsigned long long)s->trace);
    if (!well)
        printf("seed %llu: %s\n    replay: sim --seed %llu --trace\n", (unsigned long long)seed,
               s->failure, (unsigned long long)seed);
    sim_clear(s);
    return well;
}

static void report(const struct totals *t, double seconds, uint64_t failed)
{
    double n = t->seeds ? (double)t->seeds : 1;

    printf("%llu seeds, %llu failed, in %.1f s: %.0f seeds/s\n", (unsigned long long)t->seeds,
           (unsigned long long)failed, seconds, (double)t->seeds / (seconds > 0 ? seconds : 1));
    printf("a seed: %.1f virtual s, %.0f events, %.0f frames, %.1f answers, %.1f Child SAs, "
           "%.1f crashes, %.1f pulls\n",
           (double)t->virtual_ms / n / 1000, (double)t->events / n, (double)t->frames / n,
           (double)t->answers / n, (double)t->children / n, (double)t->crashes / n,
           (double)t->pulls / n);
    printf(
        "a seed: %.3f disks set back or lost, %.3f copies of members, %.3f processes that stopped "
        "for another of their slot\n",
        (double)t->forgotten / n, (double)t->ghosts / n, (double)t->conflicts / n);
    printf("a seed: %.3f laggards found, %.3f barriers passed without them\n",
           (double)t->laggings / n, (double)t->short_of / n);
    printf("a seed: %.2f barriers timed out, %.2f superseded, %.2f IKE SAs adopted, %.2f taken up "
           "again, %.2f handed over, %.2f rekeys by a node; agreed %.0f ms after the heal, at "
           "worst %llu\n",
           (double)t->timeouts / n, (double)t->superseded / n, (double)t->adoptions / n,
           (double)t->resumed / n, (double)t->handed_over / n, (double)t->own_rekeys / n,
           (double)t->heal_ms / n, (unsigned long long)t->heal_ms_max);
}

/* ---- the mutation gate ---- */

enum { PROGRESS_SEEDS = 25000, GATE_SEEDS = 10000 };
enum mutant mutant_on;

static bool caught(enum mutant which, const char *name, const char *text, struct sim *s)
{
    double began = seconds_now();
    bool failed = false;
    uint64_t seed = 0;

    mutant_on = which;
    while (!failed && ++seed < GATE_SEEDS) {
        sim_play(s, seed);
        failed = s->failed;
        if (failed)
            printf("%-12s seed %5llu, %5.1f s  %s\n             without: %s\n", name,
                   (unsigned long long)seed, seconds_now() - began, s->failure, text);
        sim_clear(s);
    }
    mutant_on = MUTANT_NONE;
    if (!failed)
        printf("%-12s NOT CAUGHT by %d seeds\n             without: %s\n", name, GATE_SEEDS, text);
    return failed;
}

static const struct {
    const char *name, *text;
} guards[] = {
#define GUARD(name, text) {#name, text},
#define GRANT_GUARD(name, text) /* the last ones; tests/sim/grants looks after them */
#include "sync/mutant.def"
#undef GUARD
};

static bool switch_off(const char *name)
{
    for (size_t i = 0; i < sizeof guards / sizeof *guards; i++)
        if (strcmp(guards[i].name, name) == 0) {
            mutant_on = (enum mutant)(i + 1);
            return true;
        }
    return false;
}

static int gate(struct sim *s)
{
    int survivors = 0;

    for (size_t i = 0; i < sizeof guards / sizeof *guards; i++)
        survivors += !caught((enum mutant)(i + 1), guards[i].name, guards[i].text, s);
    printf("%zu mutants, %d not caught\n", sizeof guards / sizeof *guards, survivors);
    return survivors ? 1 : 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: sim [--seeds A-B | --seed N] [--time S] [--trace] [--hash] "
                    "[--keep-going] [--without GUARD] | sim --mutants\n");
    return 2;
}

static bool parse(int argc, char **argv, struct options *o)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        char *end = NULL;
        if (strcmp(argv[i], "--trace") == 0) {
            o->trace = true;
        } else if (strcmp(argv[i], "--hash") == 0) {
            o->hash = true;
        } else if (strcmp(argv[i], "--mutants") == 0) {
            o->mutants = true;
        } else if (strcmp(argv[i], "--keep-going") == 0) {
            o->keep_going = true;
        } else if (strcmp(argv[i], "--without") == 0) {
            if (!switch_off(value))
                return false;
            i++;
        } else if (strcmp(argv[i], "--seed") == 0) {
            o->first = o->last = strtoull(value, &end, 10);
            i++;
        } else if (strcmp(argv[i], "--time") == 0) {
            o->seconds = strtod(value, &end);
            i++;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            o->first = strtoull(value, &end, 10);
            if (end == value || *end != '-')
                return false;
            o->last = strtoull(end + 1, &end, 10);
            i++;
        } else {
            return false;
        }
        if (end && (end == value || *end))
            return false;
    }
    return o->first <= o->last;
}

int main(int argc, char **argv)
{
    struct options o = {.first = 1, .last = 1000};
    struct sim *s = calloc(1, sizeof *s);
    struct totals sum = {0};
    uint64_t failed = 0;
    double began = seconds_now();

    if (!s || !parse(argc, argv, &o)) {
        free(s);
        return usage();
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    log_set_sink(o.trace ? to_stdout : to_nowhere);
    if (o.mutants) {
        int rc = gate(s);
        free(s);
        return rc;
    }
    for (uint64_t seed = o.first; seed <= o.last; seed++) {
        failed += !play(&o, s, seed, &sum);
        if (o.keep_going && sum.seeds % PROGRESS_SEEDS == 0)
            printf("%llu seeds, %llu failed so far\n", (unsigned long long)sum.seeds,
                   (unsigned long long)failed);
        if ((failed && !o.keep_going) || (o.seconds > 0 && seconds_now() - began > o.seconds))
            break;
    }
    report(&sum, seconds_now() - began, failed);
    free(s);
    return failed ? 1 : 0;
}
