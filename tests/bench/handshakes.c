/* What a handshake costs the responder: IKE_SA_INIT and IKE_AUTH with a Child SA, PSK, DH 14.
 *
 * Each gateway on the command line gets the same number of handshakes in turn, round after round,
 * so that whatever else the machine does meets all of them alike. Counted is the CPU time of the
 * gateway's process, all threads, until SETTLE_MS after the last answer (journal and key pool then
 * are at rest again). What Diffie-Hellman has of it is timed between the rounds: the functions that
 * a node calls once per handshake. The first gateway is ours, the second what it is compared to. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/gateway.h"

enum {
    SETTLE_MS = 300,
    WARM_UP = 64,
    DH_RUNS = 200, /* between two rounds */
    CONCURRENCY_MAX = 64,
};
static const double target_ratio = 0.25, target_dh = 0.70;

struct tally {
    uint64_t cpu_ns, memory_bytes, handshakes;
};

/* ---- load ---- */

struct load {
    const struct arguments *a;
    const struct gateway *gateway;
    atomic_int left;
    atomic_uint failed, retransmits;
};

static void *run_worker(void *arg)
{
    struct load *load = arg;
    struct wire *w = wire_open(&load->gateway->at);
    struct wire_login login = load->a->login;
    int left;

    while (w && (left = atomic_fetch_sub(&load->left, 1)) > 0) {
        tunnel_login(&login, 1 + (unsigned)left % load->a->tunnels, load->a->domain);
        if (!wire_init(w, &login) || !wire_auth(w, &login))
            atomic_fetch_add(&load->failed, 1);
        wire_forget(w);
    }
    if (w)
        atomic_fetch_add(&load->retransmits, w->retransmits);
    wire_close(w);
    return NULL;
}

/* Exits unless all of them succeed: a refusal is cheap and would flatter. */
static void run_load(const struct arguments *a, const struct gateway *g, unsigned count)
{
    struct load load = {.a = a, .gateway = g};
    pthread_t workers[CONCURRENCY_MAX];
    unsigned n = a->concurrency < CONCURRENCY_MAX ? a->concurrency : CONCURRENCY_MAX;

    atomic_store(&load.left, (int)count);
    for (unsigned i = 0; i < n; i++)
        if (pthread_create(&workers[i], NULL, run_worker, &load) != 0)
            exit(1);
    for (unsigned i = 0; i < n; i++)
        pthread_join(workers[i], NULL);
    if (atomic_load(&load.failed) || atomic_load(&load.left) > 0) {
        fprintf(stderr, "%s: %u of %u handshakes failed\n", g->name, atomic_load(&load.failed),
                count);
        exit(1);
    }
    if (atomic_load(&load.retransmits))
        printf("  (%s: %u requests were sent again)\n", g->name, atomic_load(&load.retransmits));
}

static void settle(void)
{
    usleep(SETTLE_MS * 1000);
}

/* ---- Diffie-Hellman alone ---- */

static uint64_t thread_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Nanoseconds of a key pair, its public value and a shared secret. */
static uint64_t dh_cost_ns(void)
{
    uint8_t peer_public[DH_PUBLIC_MAX], own_public[DH_PUBLIC_MAX], shared[DH_PUBLIC_MAX];
    size_t n = dh_public_len(DH_MODP_2048);
    struct dh_key *peer = dh_generate(DH_MODP_2048);
    uint64_t began;

    if (!peer || dh_public(peer, peer_public) != ERR_OK)
        exit(1);
    began = thread_ns();
    for (int i = 0; i < DH_RUNS; i++) {
        struct dh_key *own = dh_generate(DH_MODP_2048);

        if (!own || dh_public(own, own_public) != ERR_OK ||
            dh_derive(own, (struct slice){peer_public, n}, shared) != ERR_OK)
            exit(1);
        dh_free(own);
    }
    began = thread_ns() - began;
    dh_free(peer);
    return began / DH_RUNS;
}

/* ---- the report ---- */

static double us_each(const struct tally *t)
{
    return (double)t->cpu_ns / 1000 / (double)t->handshakes;
}

static bool verdict(const char *what, double value, const char *unit, double target, bool at_most)
{
    bool met = at_most ? value <= target : value >= target;

    printf("%-34s %.3g%s   target %s %.3g%s   %s\n", what, value, unit,
           at_most ? "<=" : ">=", target, unit, met ? "PASS" : "MISSED");
    return met;
}

static bool report(const struct arguments *a, const struct tally *tallies, double dh_us)
{
    const struct tally *ours = &tallies[0];
    double other_us = us_each(ours) - dh_us;
    bool met = true;

    printf("\n%-14s %18s %14s %20s\n", "", "handshakes/CPU-s", "us each", "KiB per IKE+Child SA");
    for (size_t i = 0; i < a->n_gateways; i++)
        printf("%-14s %18.0f %14.0f %20.1f\n", a->gateways[i].name, 1e6 / us_each(&tallies[i]),
               us_each(&tallies[i]),
               (double)tallies[i].memory_bytes / 1024 / (double)tallies[i].handshakes);
    printf("\nDH of a handshake, timed alone: %.0f us; the rest of %s's: %.0f us\n", dh_us,
           a->gateways[0].name, other_us);
    if (a->n_gateways > 1)
        met = verdict("CPU per handshake, ratio", us_each(ours) / us_each(&tallies[1]), "",
                      target_ratio, true);
    return verdict("share of it that is DH", 100 * dh_us / us_each(ours), " %", 100 * target_dh,
                   false) &&
           met;
}

int main(int argc, char **argv)
{
    struct arguments a = {.tunnels = 1, .rounds = 5, .count = 500, .concurrency = 32};
    struct tally tallies[GATEWAYS_MAX] = {0};
    uint64_t before[GATEWAYS_MAX], dh_ns = 0;
    double dh_us;

    arguments_read(&a, argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    log_set_level(LOG_LEVEL_ERROR);
    for (size_t i = 0; i < a.n_gateways; i++) {
        run_load(&a, &a.gateways[i], WARM_UP < a.count ? WARM_UP : a.count);
        settle();
        before[i] = gateway_memory_bytes(&a.gateways[i]);
    }
    (void)dh_cost_ns();
    printf("%u rounds of %u handshakes, %u at a time; us of CPU each\n", a.rounds, a.count,
           a.concurrency);
    for (unsigned r = 0; r < a.rounds; r++) {
        uint64_t dh = dh_cost_ns();

        dh_ns += dh;
        printf("round %-2u  dh %4.0f", r + 1, (double)dh / 1000);
        for (size_t i = 0; i < a.n_gateways; i++) {
            uint64_t cpu = gateway_cpu_ns(&a.gateways[i]);

            run_load(&a, &a.gateways[i], a.count);
            settle();
            cpu = gateway_cpu_ns(&a.gateways[i]) - cpu;
            tallies[i].cpu_ns += cpu;
            tallies[i].handshakes += a.count;
            printf("   %s %5.0f", a.gateways[i].name, (double)cpu / 1000 / a.count);
        }
        printf("\n");
    }
    for (size_t i = 0; i < a.n_gateways; i++)
        tallies[i].memory_bytes = gateway_memory_bytes(&a.gateways[i]) - before[i];
    dh_us = (double)dh_ns / 1000 / a.rounds;
    return report(&a, tallies, dh_us) || !a.gate ? 0 : 1;
}
