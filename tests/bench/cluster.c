/* The parent's side: processes, orders, records. */
#include "tests/bench/cluster.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/err.h"
#include "sync/store.h"
#include "tests/bench/member.h"
#include "tests/unit/sync/samples.h"

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

uint64_t bench_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void bench_sleep_us(uint64_t us)
{
    struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};

    nanosleep(&t, NULL);
}

/* ---- processes ---- */

void cluster_open(struct bench_cluster *c)
{
    c->shared =
        mmap(NULL, sizeof *c->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (c->shared == MAP_FAILED)
        die("shared memory");
    signal(SIGPIPE, SIG_IGN);
}

void cluster_start(struct bench_cluster *c, uint16_t slot)
{
    struct bench_member *m = &c->shared->members[slot - 1];
    int fds[2];
    pid_t pid;

    memset(m, 0, sizeof *m);
    if (pipe(fds) != 0)
        die("pipe");
    fflush(NULL);
    pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(fds[1]);
        for (int i = 0; i < BENCH_MEMBERS_MAX; i++)
            if (c->pids[i])
                close(c->orders[i]);
        _exit(member_run(c, slot, fds[0]));
    }
    close(fds[0]);
    c->orders[slot - 1] = fds[1];
    c->pids[slot - 1] = pid;
    m->pid = pid;
}

void cluster_order(const struct bench_cluster *c, uint16_t slot, enum order_kind kind,
                   uint32_t number)
{
    struct order order = {kind, number};

    if (write(c->orders[slot - 1], &order, sizeof order) != sizeof order)
        die("a member is gone");
}

static bool wait_true(const _Atomic bool *flag, unsigned seconds)
{
    uint64_t until = bench_now_ns() + seconds * UINT64_C(1000000000);

    while (!*flag)
        if (bench_now_ns() > until)
            return false;
        else
            bench_sleep_us(2000);
    return true;
}

bool cluster_wait_synced(const struct bench_cluster *c, uint16_t slot, unsigned seconds)
{
    return wait_true(&c->shared->members[slot - 1].synced, seconds);
}

bool cluster_wait_ready(const struct bench_cluster *c, uint16_t slot, unsigned seconds)
{
    return wait_true(&c->shared->members[slot - 1].ready, seconds);
}

void cluster_kill(struct bench_cluster *c, uint16_t slot)
{
    if (!c->pids[slot - 1])
        return;
    kill(c->pids[slot - 1], SIGKILL);
    waitpid(c->pids[slot - 1], NULL, 0);
    close(c->orders[slot - 1]);
    c->pids[slot - 1] = 0;
}

void cluster_close(struct bench_cluster *c)
{
    for (uint16_t slot = 1; slot <= BENCH_MEMBERS_MAX; slot++)
        cluster_kill(c, slot);
    munmap(c->shared, sizeof *c->shared);
}

/* ---- journals ---- */

void bench_fill_journal(const char *path, const char *cluster, uint16_t slot,
                        const struct cluster_key *key, uint32_t pairs)
{
    enum { AT_ONCE = 1000 };
    struct store_options options = {
        .path = path, .cluster = cluster, .slot = slot, .keys = key, .n_keys = 1};
    struct sync_recovery recovery;
    struct store *store;
    uint64_t ticket = 0;
    bool failed = false;

    if (store_sqlite_open(&options, &store, &recovery) != ERR_OK)
        die(path);
    store_recovery_free(&recovery);
    for (uint32_t n = 0; n < pairs;) {
        struct sync_batch *b = calloc(1, sizeof *b);
        b->records = calloc(2 * AT_ONCE, sizeof(struct record *));
        b->vector = calloc(1, sizeof *b->vector);
        b->ticket = ++ticket;
        for (; b->n_records < 2 * AT_ONCE && n < pairs; n++, b->n_records += 2) {
            bench_pair(1, n, b->records + b->n_records);
            b->records[b->n_records]->ike.term.slot = (uint16_t)(1 + n % 3); /* whose it is */
            (void)sample_at(b->records[b->n_records], 9, 1, 2 * n + 1);
            (void)sample_at(b->records[b->n_records + 1], 9, 1, 2 * n + 2);
        }
        b->vector[b->n_vector++] = (struct sync_position){sample_id(9), 1, 2 * (uint64_t)n};
        b->epoch = 1;
        if (store->ops->submit(store, b) != ERR_OK)
            die("journal");
        while (store->ops->poll(store, &failed) + 4 < ticket && !failed)
            bench_sleep_us(1000);
    }
    store->ops->close(store);
}
