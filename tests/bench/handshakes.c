/* What a handshake costs the responder: IKE_SA_INIT and IKE_AUTH with a Child SA, PSK, DH 14.
 *
 * Each gateway on the command line gets the same number of handshakes in turn, round after round,
 * so that whatever else the machine does meets all of them alike. Counted is the CPU time of the
 * gateway's process, all threads, until SETTLE_MS after the last answer (journal and key pool then
 * are at rest again). The first gateway is ours, the second what it is compared to.
 *
 * What Diffie-Hellman has of it: during our rounds a thread times, now and then, the functions that
 * a node calls once per handshake, so that it meets the same cold caches and busy neighbours.
 *
 * Memory is what MEMORY handshakes more leave behind. They come last, because a gateway may be
 * slower with many SAs; that is another question. */
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
    PROBE_EVERY_MS = 20,
    PROBES = 3, /* in a row, after one to warm up: a node's threads do one after the other */
    CONCURRENCY_MAX = 64,
};
static const double target_ratio = 0.25, target_dh = 0.70;

struct tally {
    uint64_t cpu_ns, handshakes;
    double memory_kib; /* of an IKE SA with its Child SA */
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

struct probe {
    pthread_t thread;
    atomic_bool stop;
    uint64_t ns, n; /* of n times a key pair, its public value and a shared secret */
};

static uint64_t dh_once_ns(struct slice peer_public)
{
    uint8_t own_public[DH_PUBLIC_MAX], shared[DH_PUBLIC_MAX];
    uint64_t began = thread_ns();
    struct dh_key *own = dh_generate(DH_MODP_2048);

    if (!own || dh_public(own, own_public) != ERR_OK ||
        dh_derive(own, peer_public, shared) != ERR_OK)
        exit(1);
    dh_free(own);
    return thread_ns() - began;
}

static void *run_probe(void *arg)
{
    struct probe *probe = arg;
    uint8_t peer_public[DH_PUBLIC_MAX];
    struct dh_key *peer = dh_generate(DH_MODP_2048);

    if (!peer || dh_public(peer, peer_public) != ERR_OK)
        exit(1);
    while (!atomic_load(&probe->stop)) {
        (void)dh_once_ns((struct slice){peer_public, dh_public_len(DH_MODP_2048)});
        for (int i = 0; i < PROBES; i++)
            probe->ns += dh_once_ns((struct slice){peer_public, dh_public_len(DH_MODP_2048)});
        probe->n += PROBES;
        usleep(PROBE_EVERY_MS * 1000);
    }
    dh_free(peer);
    return NULL;
}

static void probe_start(struct probe *probe)
{
    atomic_store(&probe->stop, false);
    if (pthread_create(&probe->thread, NULL, run_probe, probe) != 0)
        exit(1);
}

static void probe_stop(struct probe *probe)
{
    atomic_store(&probe->stop, true);
    pthread_join(probe->thread, NULL);
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
               us_each(&tallies[i]), tallies[i].memory_kib);
    printf("\nDH in a handshake of %s: %.0f us, the rest: %.0f us\n", a->gateways[0].name, dh_us,
           other_us);
    if (a->n_gateways > 1)
        met = verdict("CPU per handshake, ratio", us_each(ours) / us_each(&tallies[1]), "",
                      target_ratio, true);
    return verdict("share of it that is DH", 100 * dh_us / us_each(ours), " %", 100 * target_dh,
                   false) &&
           met;
}

static void measure_cpu(const struct arguments *a, struct tally *tallies, struct probe *probe)
{
    printf("%u rounds of %u handshakes, %u at a time; us of CPU each\n", a->rounds, a->count,
           a->concurrency);
    for (unsigned r = 0; r < a->rounds; r++) {
        printf("round %-2u", r + 1);
        for (size_t i = 0; i < a->n_gateways; i++) {
            uint64_t cpu = gateway_cpu_ns(&a->gateways[i]);

            if (i == 0)
                probe_start(probe);
            run_load(a, &a->gateways[i], a->count);
            if (i == 0)
                probe_stop(probe);
            settle();
            cpu = gateway_cpu_ns(&a->gateways[i]) - cpu;
            tallies[i].cpu_ns += cpu;
            tallies[i].handshakes += a->count;
            printf("   %s %5.0f", a->gateways[i].name, (double)cpu / 1000 / a->count);
        }
        printf("\n");
    }
}

static double measure_memory(const struct arguments *a, const struct gateway *g)
{
    uint64_t before = gateway_memory_bytes(g);

    run_load(a, g, a->memory);
    settle();
    return (double)(gateway_memory_bytes(g) - before) / 1024 / a->memory;
}

int main(int argc, char **argv)
{
    struct arguments a = {
        .tunnels = 1, .rounds = 8, .count = 150, .concurrency = 32, .memory = 2000};
    struct tally tallies[GATEWAYS_MAX] = {0};
    struct probe probe = {0};

    arguments_read(&a, argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    log_set_level(LOG_LEVEL_ERROR);
    for (size_t i = 0; i < a.n_gateways; i++) {
        run_load(&a, &a.gateways[i], WARM_UP < a.count ? WARM_UP : a.count);
        settle();
    }
    measure_cpu(&a, tallies, &probe);
    for (size_t i = 0; i < a.n_gateways; i++)
        tallies[i].memory_kib = measure_memory(&a, &a.gateways[i]);
    return report(&a, tallies, (double)probe.ns / 1000 / (double)probe.n) || !a.gate ? 0 : 1;
}
