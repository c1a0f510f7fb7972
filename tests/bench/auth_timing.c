/* Does the gateway give away whether an ID exists? The time on the wire from an IKE_AUTH request to
 * its refusal, and the refusal's octets, for a known ID with a wrong key and for an unknown ID.
 *
 * One at a time, the two kinds in random order within each pair, so that both meet the same
 * machine. The verdict is by ranks (Mann-Whitney): the chance that a random sample of one kind took
 * longer than one of the other, 0.5 where nothing can be told. Outliers do not weigh there. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/gateway.h"

enum { WRONG_PSK, UNKNOWN_ID, KINDS };
static const char *const kind_names[KINDS] = {"wrong PSK", "unknown ID"};

/* Visible is what stands out from chance (in standard errors) and is not a trifle. */
static const double chance_max = 4.0, effect_max = 0.02;

struct series {
    double *us; /* sorted in the end */
    size_t n;
    size_t octets_min, octets_max;
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double quantile(const struct series *s, double q)
{
    return s->us[(size_t)(q * (double)(s->n - 1))];
}

/* The chance that one of b took longer than one of a, ties counting half. Both are sorted. */
static double chance_longer(const struct series *a, const struct series *b)
{
    size_t below = 0, upto = 0;
    double sum = 0;

    for (size_t i = 0; i < b->n; i++) {
        while (below < a->n && a->us[below] < b->us[i])
            below++;
        while (upto < a->n && a->us[upto] <= b->us[i])
            upto++;
        sum += (double)(below + upto) / 2;
    }
    return sum / (double)a->n / (double)b->n;
}

static void print_series(const char *name, const struct series *s)
{
    printf("%-11s %6zu %7.0f %7.0f %7.0f %7.0f %7.0f %10zu", name, s->n, quantile(s, 0.05),
           quantile(s, 0.25), quantile(s, 0.5), quantile(s, 0.75), quantile(s, 0.95),
           s->octets_min);
    if (s->octets_max != s->octets_min)
        printf("-%zu", s->octets_max);
    printf("\n");
}

static bool report(const struct series *s)
{
    const struct series *a = &s[WRONG_PSK], *b = &s[UNKNOWN_ID];
    double n = (double)a->n, iqr = quantile(a, 0.75) - quantile(a, 0.25);
    double effect = chance_longer(a, b) - 0.5, error = sqrt((2 * n + 1) / (12 * n * n));
    double difference = quantile(b, 0.5) - quantile(a, 0.5);
    bool same_time = fabs(effect) <= effect_max || fabs(effect) <= chance_max * error;
    bool same_octets = a->octets_min == b->octets_min && a->octets_max == b->octets_max;

    printf("%-11s %6s %7s %7s %7s %7s %7s %10s\n", "us", "n", "5 %", "25 %", "median", "75 %",
           "95 %", "octets");
    for (int k = 0; k < KINDS; k++)
        print_series(kind_names[k], &s[k]);
    printf("\ndifference of the medians %+.1f us, %.0f %% of the quartiles' distance\n", difference,
           100 * fabs(difference) / iqr);
    printf("an unknown ID takes longer with chance %.3f (+- %.3f)   %s\n", 0.5 + effect, error,
           same_time ? "PASS: not to be told apart" : "MISSED: visible");
    printf("octets of the answer   %s\n", same_octets ? "PASS: the same" : "MISSED: they differ");
    return same_time && same_octets;
}

/* One refused login; exits unless it is refused as it should be. */
static void take_sample(struct wire *w, const struct wire_login *login, struct series *s)
{
    bool refused = wire_init(w, login) && !wire_auth(w, login) && w->bench.answer_n &&
                   peer_got_notify(&w->peer, N_AUTHENTICATION_FAILED);

    if (!refused) {
        fprintf(stderr, "AUTHENTICATION_FAILED was expected\n");
        exit(1);
    }
    s->us[s->n++] = (double)w->took_ns / 1000;
    if (s->n == 1 || w->bench.answer_n < s->octets_min)
        s->octets_min = w->bench.answer_n;
    if (w->bench.answer_n > s->octets_max)
        s->octets_max = w->bench.answer_n;
    wire_forget(w);
}

int main(int argc, char **argv)
{
    struct arguments a = {.tunnels = 1, .count = 3000};
    struct series s[KINDS] = {0};
    struct wire_login logins[KINDS];
    struct wire *w;
    bool same;

    arguments_read(&a, argc, argv);
    log_set_level(LOG_LEVEL_ERROR);
    w = wire_open(&a.gateways[0].at);
    if (!w)
        return 1;
    for (int k = 0; k < KINDS; k++) {
        s[k].us = calloc(a.count, sizeof *s[k].us);
        logins[k] = a.login;
        logins[k].psk = "not the right one, but just as long as that";
    }
    for (unsigned i = 0; i < a.count; i++) {
        unsigned first = rng_u32(&rng_system) & 1;

        /* any tunnel, and as many that do not exist: same form, same length */
        tunnel_login(&logins[WRONG_PSK], 1 + i % a.tunnels, a.domain);
        tunnel_login(&logins[UNKNOWN_ID], 1 + a.tunnels + i % a.tunnels, a.domain);
        take_sample(w, &logins[first], &s[first]);
        take_sample(w, &logins[!first], &s[!first]);
    }
    wire_close(w);
    for (int k = 0; k < KINDS; k++)
        qsort(s[k].us, s[k].n, sizeof *s[k].us, by_value);
    same = report(s);
    for (int k = 0; k < KINDS; k++)
        free(s[k].us);
    return same || !a.gate ? 0 : 1;
}
