/* What replication costs and how fast it is; see docs/benchmarks.md.
 *
 *     bench_sync [--smoke] [--gate] [--dir DIR] [PART...]     parts: visible bulk commits join
 *     bench_sync fill FILE CLUSTER SLOT KEY_HEX PAIRS         a journal to start a node from
 *
 * Everything runs on this machine: N members are N processes on however many cores there are, so
 * times hold the scheduler as well. Each is printed beside something that was measured in the
 * same run, among the same processes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/env.h"
#include "proto/err.h"
#include "proto/log.h"
#include "sync/store.h"
#include "tests/bench/cluster.h"

struct options {
    const char *dir;
    bool smoke, gate;
    unsigned missed;
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_sync: %s\n", what);
    exit(1);
}

static void target(struct options *o, bool met, const char *what)
{
    printf("%s: %s\n", what, met ? "PASS" : "MISSED");
    o->missed += !met;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double percentile(double *v, size_t n, double p)
{
    size_t at = (size_t)(p * (double)(n - 1) + 0.5);

    qsort(v, n, sizeof *v, compare);
    return n ? v[at] : 0;
}

static void print_times(const char *what, double *ms, size_t n)
{
    double p50 = percentile(ms, n, 0.5), p99 = percentile(ms, n, 0.99);

    printf("  %-42s %7.3f %7.3f %7.3f\n", what, p50, p99, ms[n - 1]);
}

/* Journals and what they left, of an earlier run too. */
static void forget_journals(const struct options *o)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    char path[512];

    for (int slot = 1; slot <= BENCH_MEMBERS_MAX; slot++)
        for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
            snprintf(path, sizeof path, "%s/%d.db%s", o->dir, slot, suffixes[i]);
            (void)unlink(path);
        }
}

static void start_all(struct bench_cluster *c)
{
    for (uint16_t slot = 1; slot <= c->n; slot++)
        cluster_start(c, slot);
    for (uint16_t slot = 1; slot <= c->n; slot++)
        if (!cluster_wait_ready(c, slot, 60))
            die("a member did not become ready");
}

static uint64_t cpu_of_all(const struct bench_cluster *c)
{
    uint64_t sum = 0;

    bench_sleep_us(30000); /* they report with their ticks */
    for (uint16_t i = 0; i < c->n; i++)
        sum += c->shared->members[i].cpu_ns;
    return sum;
}

static uint64_t frames_of_all(const struct bench_cluster *c)
{
    uint64_t sum = 0;

    for (uint16_t i = 0; i < c->n; i++)
        sum += c->shared->members[i].frames_in;
    return sum;
}

/* ---- an SA becomes visible ---- */

/* The last of the first n times, slot 1 left out where it has none; 0 while one is missing. */
static uint64_t last_of(const _Atomic uint64_t *times, uint16_t first, uint16_t n)
{
    uint64_t last = 0;

    for (uint16_t i = first; i < n; i++) {
        if (times[i] == 0)
            return 0;
        if (times[i] > last)
            last = times[i];
    }
    return last;
}

static double wait_last(const _Atomic uint64_t *times, uint16_t first, uint16_t n, uint64_t from)
{
    for (int i = 0; i < 5000; i++) {
        uint64_t last = last_of(times, first, n);
        if (last)
            return (double)(last - from) / 1e6;
        bench_sleep_us(1000);
    }
    die("something never arrived");
}

static void wait_raw(const struct bench_cluster *c)
{
    for (uint16_t i = 1; i < c->n; i++)
        while (!c->shared->members[i].raw_ready) {
            cluster_order(c, 1, ORDER_HOP, BENCH_SAMPLES_MAX);
            bench_sleep_us(20000);
        }
}

/* Not in step with anybody's timers. */
static void pause_between(void)
{
    bench_sleep_us(4000 + rng_u64(&rng_system) % 8000);
}

struct visible {
    double sa[BENCH_SAMPLES_MAX], first[BENCH_SAMPLES_MAX], barrier[BENCH_SAMPLES_MAX],
        hop[BENCH_SAMPLES_MAX];
};

static void measure_visible(struct bench_cluster *c, uint32_t count, struct visible *v)
{
    struct bench_shared *s = c->shared;

    for (uint32_t i = 0; i < count; i++) {
        cluster_order(c, 1, ORDER_SA, i);
        while (!s->sa_put_ns[i])
            bench_sleep_us(1000);
        v->sa[i] = wait_last(s->sa_installed_ns[i], 0, c->n, s->sa_put_ns[i]);
        v->first[i] = (double)(s->sa_installed_ns[i][0] - s->sa_put_ns[i]) / 1e6;
        v->barrier[i] = wait_last(&s->sa_barrier_ns[i], 0, 1, s->sa_put_ns[i]);
        pause_between();
        cluster_order(c, 1, ORDER_HOP, i);
        while (!s->hop_sent_ns[i])
            bench_sleep_us(1000);
        v->hop[i] = wait_last(s->hop_heard_ns[i], 1, c->n, s->hop_sent_ns[i]);
        pause_between();
    }
}

/* CPU time of all members per SA, above what they spend when nothing happens. */
static double cpu_per_sa(struct bench_cluster *c, uint32_t from, uint32_t count)
{
    enum { EVERY_US = 20000 };
    uint64_t idle, busy, began, frames;

    began = cpu_of_all(c);
    frames = frames_of_all(c);
    bench_sleep_us((uint64_t)count * EVERY_US);
    idle = cpu_of_all(c) - began;
    printf("  while idle: %.1f frames/s to each member, ",
           (double)(frames_of_all(c) - frames) / c->n / (count * EVERY_US / 1e6));
    printf("%.2f %% of a core\n", (double)idle / (count * EVERY_US * 1e3) / c->n * 100);
    frames = frames_of_all(c) - frames;
    frames = frames_of_all(c) + frames;
    began = cpu_of_all(c);
    for (uint32_t i = 0; i < count; i++) {
        cluster_order(c, 1, ORDER_SA, from + i);
        bench_sleep_us(EVERY_US);
    }
    busy = cpu_of_all(c) - began;
    printf("  frames per SA to each member, beyond those: %.1f\n",
           ((double)frames_of_all(c) - (double)frames) / count / c->n);
    return busy > idle ? (double)(busy - idle) / count / 1e3 : 0;
}

static void part_visible(struct options *o, uint16_t n, uint32_t count)
{
    static struct visible v;
    struct bench_cluster c = {.dir = o->dir, .base_port = 21000, .n = n, .raw = true};
    double sa, hop, cpu;

    printf("\nan SA becomes visible: %u processes, %ld cores, %u SAs one at a time\n", n,
           sysconf(_SC_NPROCESSORS_ONLN), count);
    forget_journals(o);
    cluster_open(&c);
    start_all(&c);
    cluster_order(&c, 1, ORDER_SA, BENCH_SAMPLES_MAX - 1); /* tells the size of its Update */
    bench_sleep_us(200000);
    wait_raw(&c);
    measure_visible(&c, count, &v);
    printf("  ms                                             p50     p99     max\n");
    print_times("installed in the own dataplane", v.first, count);
    print_times("installed in the dataplanes of all", v.sa, count);
    print_times("barrier: durable here, acknowledged by all", v.barrier, count);
    print_times("one raw nng hop to all others", v.hop, count);
    sa = percentile(v.sa, count, 0.99);
    hop = percentile(v.hop, count, 0.99);
    printf("  Update of %llu bytes; p99 / p99 = %.2f, p50 / p50 = %.2f\n",
           (unsigned long long)c.shared->members[0].update_bytes, sa / hop,
           percentile(v.sa, count, 0.5) / percentile(v.hop, count, 0.5));
    cpu = cpu_per_sa(&c, count, count < 250 ? count : 250);
    printf("  CPU per SA: %.0f us over all members, %.0f us each\n", cpu, cpu / n);
    target(o, sa <= 2, "installed at all, p99 <= 2 ms");
    target(o, sa <= 4 * hop, "installed at all, p99 <= 4 raw nng hops");
    cluster_close(&c);
}

/* ---- in bulk ---- */

static void part_bulk(struct options *o, uint16_t n, uint32_t pairs)
{
    struct bench_cluster c = {.dir = o->dir, .base_port = 21100, .n = n};
    uint64_t began, cpu, done_ns;
    double seconds;

    printf("\nSAs in bulk: %u members, %u pairs of IKE SA and Child SA from one of them\n", n,
           pairs);
    forget_journals(o);
    cluster_open(&c);
    start_all(&c);
    cpu = cpu_of_all(&c);
    began = bench_now_ns();
    cluster_order(&c, 1, ORDER_BULK, pairs);
    for (uint16_t i = 0; i < n; i++)
        while (c.shared->members[i].child_sas < pairs || c.shared->members[0].bulk_done < pairs) {
            bench_sleep_us(2000);
            if (bench_now_ns() - began > UINT64_C(120000000000))
                die("the bulk never ended");
        }
    done_ns = bench_now_ns();
    seconds = (double)(done_ns - began) / 1e9;
    cpu = cpu_of_all(&c) - cpu;
    printf("  %.0f pairs/s durable at the origin, installed and acknowledged by all; barrier "
           "time-outs: %llu\n",
           pairs / seconds, (unsigned long long)c.shared->members[0].barrier_timeouts);
    printf("  CPU per pair and member: %.1f us (a core to itself would do %.0f/s)\n",
           (double)cpu / pairs / n / 1e3, 1e9 * pairs * n / (double)cpu);
    cluster_close(&c);
}

/* ---- the journal alone ---- */

/* Bytes that a commit of one pair writes to the log, about: a frame for each page it touches. */
enum { COMMIT_BYTES = 4 * (4096 + 24), LOG_BYTES = 1000 * (4096 + 24) };

static double syncs_per_second(const struct options *o, double seconds)
{
    static uint8_t bytes[COMMIT_BYTES];
    char path[512];
    uint64_t began, now;
    unsigned n = 0;
    int fd;

    snprintf(path, sizeof path, "%s/sync.tmp", o->dir);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        die("cannot write in --dir");
    for (size_t at = 0; at < LOG_BYTES; at += sizeof bytes) /* a log that is written anew */
        if (pwrite(fd, bytes, sizeof bytes, (off_t)at) != (ssize_t)sizeof bytes)
            die("cannot write in --dir");
    (void)fsync(fd);
    began = now = bench_now_ns();
    while ((double)(now - began) < seconds * 1e9) {
        off_t at = (off_t)(n % (LOG_BYTES / COMMIT_BYTES)) * COMMIT_BYTES;
        memset(bytes, (int)n, sizeof bytes);
        if (pwrite(fd, bytes, sizeof bytes, at) != (ssize_t)sizeof bytes || fdatasync(fd) != 0)
            die("cannot write in --dir");
        n++;
        now = bench_now_ns();
    }
    close(fd);
    (void)unlink(path);
    return n / ((double)(now - began) / 1e9);
}

static struct sync_batch *batch_of(uint64_t ticket, uint32_t first, uint32_t pairs)
{
    struct sync_batch *b = calloc(1, sizeof *b);

    b->records = calloc(2 * pairs, sizeof(struct record *));
    b->ticket = ticket;
    b->urgent = true;
    for (uint32_t i = 0; i < pairs; i++, b->n_records += 2)
        bench_pair(1, first + i, b->records + b->n_records);
    for (size_t i = 0; i < b->n_records; i++) {
        b->records[i]->origin.b[0] = 9;
        b->records[i]->seq = 2 * (uint64_t)first + i + 1;
    }
    return b;
}

struct journal {
    struct store *store;
    uint64_t ticket;
    uint32_t pairs;
    int woken[2];
};

static void wake_pipe(void *ctx)
{
    const struct journal *j = ctx;

    if (write(j->woken[1], "", 1) < 0)
        return;
}

/* Until all that was submitted but `behind` batches is durable. */
static void wait_durable(struct journal *j, uint64_t behind)
{
    bool failed;
    char drop;

    while (j->store->ops->poll(j->store, &failed) + behind < j->ticket)
        if (failed || read(j->woken[0], &drop, 1) < 0)
            die("the journal refuses");
}

/* So many are under way at once: those that come while the disk works share its next write. */
static double commits_per_second(struct journal *j, double seconds, unsigned at_once)
{
    uint64_t began = bench_now_ns(), now = began;
    unsigned n = 0;

    while ((double)(now - began) < seconds * 1e9) {
        j->store->ops->submit(j->store, batch_of(++j->ticket, j->pairs++, 1));
        wait_durable(j, at_once - 1);
        n++;
        now = bench_now_ns();
    }
    wait_durable(j, 0);
    return n / ((double)(now - began) / 1e9);
}

static void part_commits(struct options *o, double seconds, uint32_t bulk_pairs)
{
    enum { ROUNDS = 5, AT_ONCE = 500, AT_A_TIME = 8 };
    char path[512];
    struct cluster_key key = bench_cluster_key();
    struct sync_recovery recovery;
    struct journal j = {0};
    struct store_options options = {.path = path,
                                    .cluster = "bench",
                                    .slot = 1,
                                    .keys = &key,
                                    .n_keys = 1,
                                    .wake = wake_pipe,
                                    .wake_ctx = &j};
    double ratios[ROUNDS], syncs = 0, commits = 0, ratio, took;
    uint64_t began;

    printf("\ndurable commits, one pair each, beside write + fdatasync of as many bytes\n");
    forget_journals(o);
    snprintf(path, sizeof path, "%s/1.db", o->dir);
    if (pipe(j.woken) != 0 || store_sqlite_open(&options, &j.store, &recovery) != ERR_OK)
        die("cannot open a journal");
    store_recovery_free(&recovery);
    for (int i = 0; i < ROUNDS; i++) {
        syncs = syncs_per_second(o, seconds);
        commits = commits_per_second(&j, seconds, 1);
        ratios[i] = commits / syncs;
        printf("  %.0f commits/s, %.0f fdatasync/s: %.2f\n", commits, syncs, ratios[i]);
    }
    ratio = percentile(ratios, ROUNDS, 0.5);
    target(o, ratio >= 0.7, "durable commits >= 0.7 of the fdatasync rate");
    commits = commits_per_second(&j, seconds, AT_A_TIME);
    printf("  %d at a time, as of so many handshakes: %.0f/s, %.2f\n", AT_A_TIME, commits,
           commits / syncs);
    began = bench_now_ns();
    for (uint32_t n = 0; n < bulk_pairs; n += AT_ONCE) {
        j.store->ops->submit(j.store, batch_of(++j.ticket, j.pairs, AT_ONCE));
        j.pairs += AT_ONCE;
        wait_durable(&j, 4);
    }
    wait_durable(&j, 0);
    took = (double)(bench_now_ns() - began) / 1e9;
    printf("  in bulk: %.0f records/s (%.0f pairs/s), %u in all\n", 2 * bulk_pairs / took,
           bulk_pairs / took, 2 * bulk_pairs);
    target(o, 2 * bulk_pairs / took >= 50000, "in bulk >= 50,000 SAs/s");
    j.store->ops->close(j.store);
}

/* ---- a late joiner, and restarts, with many SAs ---- */

static double seconds_between(uint64_t from, uint64_t to)
{
    return (double)(to - from) / 1e9;
}

static double start_one(struct bench_cluster *c, uint16_t slot)
{
    const struct bench_member *m = &c->shared->members[slot - 1];
    uint64_t began = bench_now_ns();

    cluster_start(c, slot);
    if (!cluster_wait_ready(c, slot, 120))
        die("a member did not become ready");
    printf("  s: journal read and installed %.2f, then ready %.2f\n",
           seconds_between(began, m->installed_ns), seconds_between(m->installed_ns, m->ready_ns));
    return seconds_between(began, m->ready_ns);
}

static void part_join(struct options *o, uint32_t pairs)
{
    struct cluster_key key = bench_cluster_key();
    struct bench_cluster c = {.dir = o->dir, .base_port = 21200, .n = 3};
    const struct bench_member *m;
    double took;

    printf("\na late joiner, and a restart: 3 members, %u pairs of IKE SA and Child SA\n", pairs);
    forget_journals(o);
    for (uint16_t slot = 1; slot <= 2; slot++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%u.db", o->dir, slot);
        bench_fill_journal(path, "bench", slot, &key, pairs);
    }
    cluster_open(&c);
    cluster_start(&c, 1);
    cluster_start(&c, 2);
    if (!cluster_wait_synced(&c, 1, 120) || !cluster_wait_synced(&c, 2, 120))
        die("a member did not become synced");
    bench_sleep_us(200000);
    took = start_one(&c, 3);
    m = &c.shared->members[2];
    bench_sleep_us(50000);
    printf("  late joiner ready after %.2f s: %.1f MB pulled, %.0f bytes a pair, %llu of %u Child "
           "SAs\n",
           took, (double)m->pull_bytes_in / 1e6, (double)m->pull_bytes_in / pairs,
           (unsigned long long)m->child_sas, pairs);
    bench_sleep_us(1000000); /* its journal catches up */
    cluster_kill(&c, 1);
    bench_sleep_us(2500000); /* until the others take it for dead: they grant no epoch before */
    took = start_one(&c, 1);
    bench_sleep_us(50000);
    m = &c.shared->members[0];
    printf("  restarted member ready after %.2f s: %.3f MB pulled\n", took,
           (double)m->pull_bytes_in / 1e6);
    if (m->child_sas != pairs || c.shared->members[2].child_sas != pairs)
        die("SAs are missing");
    cluster_close(&c);
}

/* ---- the command line ---- */

static int fill(char **argv)
{
    struct cluster_key key = {.id = 1};
    uint8_t bytes[CLUSTER_KEY_BYTES];

    for (int i = 0; i < CLUSTER_KEY_BYTES; i++)
        if (sscanf(argv[3] + 2 * i, "%2hhx", &bytes[i]) != 1)
            die("KEY_HEX has 64 digits");
    if (secret_set(&key.key, bytes, sizeof bytes) != ERR_OK)
        die("the key");
    bench_fill_journal(argv[0], argv[1], (uint16_t)atoi(argv[2]), &key, (uint32_t)atol(argv[4]));
    return 0;
}

static bool wanted(int argc, char **argv, const char *part)
{
    bool any = false;

    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-') {
            i += strcmp(argv[i], "--dir") == 0;
            continue;
        }
        any = true;
        if (strcmp(argv[i], part) == 0)
            return true;
    }
    return !any;
}

int main(int argc, char **argv)
{
    struct options o = {.dir = "."};

    log_set_level(LOG_LEVEL_WARN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 7 && strcmp(argv[1], "fill") == 0)
        return fill(argv + 2);
    for (int i = 1; i < argc; i++) {
        o.smoke |= strcmp(argv[i], "--smoke") == 0;
        o.gate |= strcmp(argv[i], "--gate") == 0;
        if (strcmp(argv[i], "--dir") == 0 && i + 1 < argc)
            o.dir = argv[++i];
    }
    if (wanted(argc, argv, "visible"))
        part_visible(&o, o.smoke ? 4 : 16, o.smoke ? 20 : 1000);
    if (wanted(argc, argv, "bulk"))
        part_bulk(&o, o.smoke ? 3 : 16, o.smoke ? 500 : 10000);
    if (wanted(argc, argv, "commits"))
        part_commits(&o, o.smoke ? 0.05 : 1, o.smoke ? 1000 : 50000);
    if (wanted(argc, argv, "join"))
        part_join(&o, o.smoke ? 1000 : 100000);
    forget_journals(&o);
    return o.gate && o.missed ? 1 : 0;
}
