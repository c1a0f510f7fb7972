/* The grant protocol alone (sync/grant.h), under everything that disks and networks do: many short
 * histories, each from its seed.
 *
 *   sim_grants [--seeds FIRST-LAST] [--time S] [--beyond] [--mutant NAME] [--mutants] [--verbose]
 *
 * A history has 2, 3, 5 or 7 members that start together or one by one on empty disks. For some
 * seconds: messages are lost (up to 30 %), late, doubled; members crash (what was not synced is
 * lost), restart, are cut off; disks are rolled back to an earlier state or wiped; a member's
 * directory is cloned and the clone runs beside it. Disks lose memory on one member and on fewer
 * than a quorum of its others before these have merged again; --beyond drops that limit and
 * reports how often an epoch is granted twice then.
 *
 * Checked: no (slot, epoch) is granted to two incarnations, and when the faults are over everyone
 * gets an epoch. --mutants: with each guard of the protocol removed some seed must fail. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sync/grant.h"
#include "sync/mutant.h"

enum mutant mutant_on;

enum {
    MEMBERS_MAX = 7,
    PROCS_MAX = 2 * MEMBERS_MAX, /* a clone of each */
    SNAPSHOTS = 8,
    GRANTED_MAX = 4096,
    HEARD_MAX = 4,
    TICK_US = 20000,
    TELL_US = 100000,
    DEAD_US = 500000,
    FAULTS_US = 4000000,
    HEALED_US = 12000000,
};

/* ---- chance ---- */

static uint64_t state;
static uint64_t next(void)
{
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static uint64_t below(uint64_t n)
{
    return next() % n;
}
static bool chance(unsigned permille)
{
    return below(1000) < permille;
}

/* ---- the world ---- */

struct promises {
    uint32_t epoch[MEMBERS_MAX];
};

struct write { /* on its way to the disk */
    uint64_t ticket;
    uint16_t slot;
    uint32_t epoch;
};

struct known { /* incarnations of one member that a process heard */
    uint32_t believed, retired[HEARD_MAX], fresh[HEARD_MAX];
    uint64_t heard_us, fresh_us[HEARD_MAX], retired_us[HEARD_MAX];
};

struct proc { /* a running process */
    bool up;
    uint16_t member;
    uint32_t life; /* its incarnation; unique */
    bool clone;
    struct grants *g;
    struct promises disk, old[SNAPSHOTS];
    size_t n_old;
    struct write queue[256];
    size_t n_queue;
    uint64_t ticket, disk_done_us, tell_us, started_us;
    uint64_t cut_until_us;
    struct known known[MEMBERS_MAX];
};

enum kind { TABLE, CLAIM, VOTE };

struct packet {
    enum kind kind;
    uint64_t at_us;
    uint32_t from_life;
    uint16_t from, to; /* a member, a process */
    struct grant_claim claim;
    struct grant_vote vote;
    struct promises table;
    bool sure;
    uint16_t sure_of[MEMBERS_MAX];
    size_t n_sure_of;
    uint32_t believed[MEMBERS_MAX]; /* whom the sender believes */
    uint32_t named[MEMBERS_MAX][HEARD_MAX + 1];
    bool unclear[MEMBERS_MAX];
};

static struct {
    size_t n;
    uint64_t now_us;
    struct proc procs[PROCS_MAX];
    struct packet *heap;
    size_t n_heap, cap_heap;
    struct {
        uint16_t member;
        uint32_t epoch, life;
    } granted[GRANTED_MAX];
    size_t n_granted;
    bool lost[MEMBERS_MAX]; /* memory, and not merged and granted since; or to a clone */
    uint64_t clone_ended_us[MEMBERS_MAX];
    uint64_t deaf_until_us[MEMBERS_MAX][MEMBERS_MAX]; /* [to][from]: one way alone is cut */
    bool hasty;                                       /* restarts at once, many of them */
    unsigned loss;                                    /* permille */
    uint32_t lives;
    bool failed, beyond, verbose;
    uint64_t reused, merges;
} w;

static void note(const char *fmt, ...)
{
    va_list ap;

    if (!w.verbose)
        return;
    printf("%8.3f ", (double)w.now_us / 1e6);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

static struct id128 id_of(uint32_t life)
{
    struct id128 id = {{0}};

    memcpy(id.b, &life, sizeof life);
    return id;
}
static uint32_t life_of(const struct id128 *id)
{
    uint32_t life;

    memcpy(&life, id->b, sizeof life);
    return life;
}
static size_t quorum(void)
{
    return w.n > 1 ? (w.n - 1) / 2 + 1 : 0;
}

/* ---- the heap of packets ---- */

static void push(const struct packet *p)
{
    size_t i = w.n_heap;

    if (w.n_heap == w.cap_heap) {
        w.cap_heap = w.cap_heap ? 2 * w.cap_heap : 256;
        w.heap = realloc(w.heap, w.cap_heap * sizeof *w.heap);
        if (!w.heap)
            abort();
    }
    w.n_heap++;
    while (i > 0 && w.heap[(i - 1) / 2].at_us > p->at_us) {
        w.heap[i] = w.heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w.heap[i] = *p;
}

static struct packet pop(void)
{
    struct packet first = w.heap[0], last = w.heap[--w.n_heap];
    size_t i = 0, k;

    while ((k = 2 * i + 1) < w.n_heap) {
        if (k + 1 < w.n_heap && w.heap[k + 1].at_us < w.heap[k].at_us)
            k++;
        if (w.heap[k].at_us >= last.at_us)
            break;
        w.heap[i] = w.heap[k];
        i = k;
    }
    w.heap[i] = last;
    return first;
}

static void post(const struct proc *from, const struct proc *to, struct packet *p)
{
    if (from == to || !to->up || from->member == to->member || chance(w.loss) ||
        from->cut_until_us > w.now_us || to->cut_until_us > w.now_us ||
        w.deaf_until_us[to->member][from->member] > w.now_us)
        return;
    p->from = from->member;
    p->to = (uint16_t)(to - w.procs);
    p->from_life = from->life;
    for (int copies = chance(50) ? 2 : 1; copies > 0; copies--) {
        p->at_us = w.now_us + 200 + below(chance(100) ? 300000 : 3000);
        push(p);
    }
}

static void to_all(const struct proc *from, struct packet *p)
{
    for (size_t i = 0; i < PROCS_MAX; i++)
        post(from, &w.procs[i], p);
}

/* Whom a process knows: what an Announce tells, and what goes with a vote. */
static void sign(const struct proc *p, struct packet *out)
{
    for (size_t m = 0; m < w.n; m++) {
        size_t n = 0;

        out->believed[m] = p->known[m].believed;
        out->named[m][n++] = p->known[m].believed;
        out->unclear[m] = false;
        for (size_t i = 0; i < HEARD_MAX; i++)
            if (p->known[m].fresh[i] && w.now_us - p->known[m].fresh_us[i] < 4 * DEAD_US) {
                out->named[m][n++] = p->known[m].fresh[i];
                out->unclear[m] = true;
            }
        while (n <= HEARD_MAX)
            out->named[m][n++] = 0;
    }
}

/* ---- a process ---- */

static uint64_t on_journal(void *ctx, uint16_t slot, uint32_t epoch)
{
    struct proc *p = ctx;

    if (p->n_queue == sizeof p->queue / sizeof *p->queue)
        return 0;
    p->queue[p->n_queue++] = (struct write){++p->ticket, slot, epoch};
    if (p->n_queue == 1)
        p->disk_done_us = w.now_us + 100 + below(chance(100) ? 200000 : 5000);
    return p->ticket;
}

static void on_claim(void *ctx, const struct grant_claim *claim)
{
    struct packet p = {.kind = CLAIM, .claim = *claim};

    to_all(ctx, &p);
}

static void on_vote(void *ctx, uint16_t to_slot, const struct grant_vote *vote)
{
    struct packet p = {.kind = VOTE, .vote = *vote};

    sign(ctx, &p);
    for (size_t i = 0; i < PROCS_MAX; i++)
        if (w.procs[i].up && w.procs[i].member == to_slot)
            post(ctx, &w.procs[i], &p);
}

static void on_granted(void *ctx, uint32_t epoch)
{
    struct proc *p = ctx;

    note("member %u life %u: epoch %u granted", p->member, p->life, epoch);
    for (size_t i = 0; i < w.n_granted; i++)
        if (w.granted[i].member == p->member && w.granted[i].epoch == epoch) {
            if (!w.beyond)
                w.failed = true;
            w.reused++;
            note("REUSED: it was life %u's", w.granted[i].life);
        }
    if (w.n_granted == GRANTED_MAX)
        abort();
    w.granted[w.n_granted].member = p->member;
    w.granted[w.n_granted].epoch = epoch;
    w.granted[w.n_granted++].life = p->life;
}

static const struct grant_ops ops = {on_journal, on_claim, on_vote, on_granted};

static void start(struct proc *p, uint16_t member)
{
    struct grant_promise had[MEMBERS_MAX];
    uint16_t slots[MEMBERS_MAX];
    struct grants_config config = {.slot = member,
                                   .members = slots,
                                   .n_members = w.n,
                                   .members_digest = w.n,
                                   .ops = &ops,
                                   .ctx = p};

    for (uint16_t i = 0; i < w.n; i++) {
        slots[i] = i;
        had[i] = (struct grant_promise){i, p->disk.epoch[i]};
    }
    p->up = true;
    p->member = member;
    p->life = ++w.lives;
    p->n_queue = 0;
    p->ticket = 0;
    p->tell_us = p->started_us = w.now_us;
    memset(p->known, 0, sizeof p->known);
    config.incarnation = id_of(p->life);
    p->g = grants_new(&config);
    if (!p->g)
        abort();
    grants_recover(p->g, had, w.n);
    note("member %u life %u starts%s, own promise %u", member, p->life, p->clone ? " (clone)" : "",
         p->disk.epoch[member]);
}

static void stop(struct proc *p)
{
    if (p->up)
        note("member %u life %u stops", p->member, p->life);
    if (p->up && p->clone)
        w.clone_ended_us[p->member] = w.now_us;
    grants_free(p->g);
    p->g = NULL;
    p->up = false;
}

static void write_disk(struct proc *p)
{
    if (chance(300)) {
        size_t at = p->n_old < SNAPSHOTS ? p->n_old++ : below(SNAPSHOTS);

        p->old[at] = p->disk;
    }
    for (size_t i = 0; i < p->n_queue; i++)
        if (p->queue[i].epoch > p->disk.epoch[p->queue[i].slot])
            p->disk.epoch[p->queue[i].slot] = p->queue[i].epoch;
    if (p->n_queue)
        grants_journaled(p->g, p->queue[p->n_queue - 1].ticket);
    p->n_queue = 0;
}

static void tell(struct proc *p)
{
    struct packet out = {.kind = TABLE};

    p->tell_us = w.now_us + TELL_US;
    out.sure = grants_sure(p->g, out.sure_of, &out.n_sure_of);
    for (uint16_t i = 0; i < w.n; i++)
        out.table.epoch[i] = grants_promised(p->g, i);
    sign(p, &out);
    to_all(p, &out);
    if (w.lost[p->member] && out.sure && grants_epoch(p->g) && !p->clone &&
        !w.procs[MEMBERS_MAX + p->member].up && p->started_us > w.clone_ended_us[p->member]) {
        w.lost[p->member] = false;
        w.merges++;
    }
}

static void step(struct proc *p)
{
    if (p->n_queue && w.now_us >= p->disk_done_us)
        write_disk(p);
    grants_step(p->g, w.now_us);
    if (w.now_us >= p->tell_us)
        tell(p);
}

/* ---- belief, as core_peers.c has it ---- */

static bool names(const struct packet *k, const struct proc *to)
{
    for (size_t i = 0; i <= HEARD_MAX; i++)
        if (k->named[to->member][i] == to->life)
            return true;
    return false;
}

static void keep(uint32_t *list, uint64_t *times, uint32_t life)
{
    size_t at = 0;

    for (size_t i = 0; i < HEARD_MAX; i++) {
        if (list[i] == life) {
            at = i;
            break;
        }
        if (times[i] < times[at])
            at = i;
    }
    list[at] = life;
    times[at] = w.now_us;
}

static bool believe(struct proc *p, const struct packet *k)
{
    uint16_t member = k->from;
    struct known *known = &p->known[member];
    struct id128 id = id_of(k->from_life);

    if (known->believed == k->from_life) {
        known->heard_us = w.now_us;
        return true;
    }
    for (size_t i = 0; i < HEARD_MAX; i++)
        if (known->retired[i] == k->from_life) {
            known->retired_us[i] = w.now_us;
            if (w.now_us - known->heard_us <= DEAD_US)
                return false;
        }
    keep(known->fresh, known->fresh_us, k->from_life);
    if (k->kind != TABLE || !names(k, p))
        return false;
    if (known->believed) {
        keep(known->retired, known->retired_us, known->believed);
        for (size_t i = 0; i < HEARD_MAX; i++)
            if (known->retired[i] == known->believed)
                known->retired_us[i] = known->heard_us;
    }
    known->believed = k->from_life;
    known->heard_us = w.now_us;
    memset(known->fresh, 0, sizeof known->fresh);
    grants_believe(p->g, member, &id);
    return true;
}

static bool rival_lives(const struct proc *p, uint16_t member)
{
    const struct known *k = &p->known[member];

    for (size_t i = 0; i < HEARD_MAX; i++)
        if (k->retired[i] && k->retired[i] != k->believed && w.now_us - k->retired_us[i] <= DEAD_US)
            return true;
    return false;
}

static void deliver(const struct packet *k)
{
    struct proc *p = &w.procs[k->to];
    uint16_t from = k->from;
    struct grant_witness witnesses[MEMBERS_MAX];
    struct grant_promise said[MEMBERS_MAX];

    if (!p->up || !believe(p, k))
        return;
    if (k->kind == TABLE) {
        for (uint16_t i = 0; i < w.n; i++)
            said[i] = (struct grant_promise){i, k->table.epoch[i]};
        if (names(k, p))
            grants_heard(p->g, from, k->sure, k->sure_of, k->n_sure_of, said, w.n);
    } else if (k->kind == CLAIM) {
        grants_on_claim(p->g, from, &k->claim, rival_lives(p, from));
    } else if (life_of(&k->vote.claimant) == p->life) {
        size_t n = 0;

        for (uint16_t i = 0; i < w.n; i++)
            if (i != p->member && i != from && (k->believed[i] || k->unclear[i]))
                witnesses[n++] =
                    (struct grant_witness){i, id_of(k->unclear[i] ? 0 : k->believed[i])};
        grants_on_vote(p->g, from, &k->vote, witnesses, n);
    }
    grants_step(p->g, w.now_us);
}

/* ---- faults ---- */

static struct proc *proc_of(uint16_t member)
{
    return &w.procs[member];
}
static struct proc *clone_of(uint16_t member)
{
    return &w.procs[MEMBERS_MAX + member];
}

/* Whether the members in `lost` and a new one stay within what the protocol bears: whoever
 * claims, fewer than a quorum of its others; of a claimant that lost nothing, no more than one. */
static bool bearable(uint16_t more)
{
    size_t n = 0;

    for (uint16_t i = 0; i < w.n; i++)
        n += w.lost[i] || i == more;
    return w.beyond || n <= quorum();
}

static void roll_back(struct proc *p)
{
    if (!bearable(p->member) || (!chance(500) && p->n_old == 0))
        return;
    w.lost[p->member] = true;
    if (p->n_old && chance(700)) {
        p->disk = p->old[below(p->n_old)];
        note("member %u: disk rolled back, own promise %u", p->member, p->disk.epoch[p->member]);
    } else {
        memset(&p->disk, 0, sizeof p->disk);
        note("member %u: disk wiped", p->member);
    }
}

static void run_clone(uint16_t member)
{
    struct proc *p = proc_of(member), *c = clone_of(member);

    if (c->up || !bearable(member))
        return;
    w.lost[member] = true; /* what the one promises the other does not know */
    c->disk = p->n_old && chance(500) ? p->old[below(p->n_old)] : p->disk;
    c->clone = true;
    c->n_old = 0;
    c->cut_until_us = 0;
    start(c, member);
}

static void fault(void)
{
    uint16_t member = (uint16_t)below(w.n);
    struct proc *p = proc_of(member);

    switch (w.hasty && chance(600) ? 8 + below(2) : below(8)) {
    case 0:
    case 1:
        if (p->up) {
            if (p->n_queue && chance(300))
                write_disk(p); /* it had made it */
            stop(p);
        }
        break;
    case 2:
    case 3:
        if (!p->up) {
            if (chance(600))
                roll_back(p);
            start(p, member);
        }
        break;
    case 4: /* a power cut of many */
        for (uint16_t i = 0; i < w.n; i++)
            if (proc_of(i)->up && chance(600))
                stop(proc_of(i));
        break;
    case 5:
        p->cut_until_us = w.now_us + below(1500000);
        break;
    case 6:
        run_clone(member);
        break;
    case 7:
        if (clone_of(member)->up)
            stop(clone_of(member));
        else if (p->up && chance(500))
            grants_want_next(p->g);
        break;
    case 8: /* a restart that nobody misses */
        stop(p);
        if (chance(700))
            roll_back(p);
        start(p, member);
        break;
    case 9:
        w.deaf_until_us[below(w.n)][member] = w.now_us + below(1500000);
        break;
    }
}

/* ---- a history ---- */

static bool all_granted(void)
{
    for (uint16_t i = 0; i < w.n; i++)
        if (!grants_epoch(proc_of(i)->g))
            return false;
    return true;
}

static void until(uint64_t end_us, bool faults)
{
    uint64_t tick_us = w.now_us, fault_us = w.now_us + below(300000);

    while (w.now_us < end_us && !w.failed) {
        if (w.n_heap && w.heap[0].at_us < tick_us) {
            struct packet k = pop();

            w.now_us = k.at_us;
            deliver(&k);
            continue;
        }
        w.now_us = tick_us;
        tick_us += TICK_US;
        for (size_t i = 0; i < PROCS_MAX; i++)
            if (w.procs[i].up)
                step(&w.procs[i]);
        if (faults && w.now_us >= fault_us) {
            fault();
            fault_us = w.now_us + below(w.hasty ? 150000 : chance(300) ? 50000 : 400000);
        }
        if (!faults && all_granted())
            return;
    }
}

static bool play(uint64_t seed)
{
    static const size_t sizes[] = {2, 3, 5, 7};
    bool beyond = w.beyond, verbose = w.verbose;
    uint64_t reused = w.reused, merges = w.merges;
    struct packet *heap = w.heap;
    size_t cap = w.cap_heap;

    memset(&w, 0, sizeof w);
    w.beyond = beyond;
    w.verbose = verbose;
    w.reused = reused;
    w.merges = merges;
    w.heap = heap;
    w.cap_heap = cap;
    state = seed * 0x2545f4914f6cdd1dULL + 1;
    w.n = sizes[below(4)];
    w.now_us = 1000000;
    w.loss = chance(500) ? (unsigned)below(300) : 0;
    w.hasty = chance(400);
    note("seed %" PRIu64 ": %zu members, %u permille lost", seed, w.n, w.loss);
    for (uint16_t i = 0; i < w.n; i++)
        start(proc_of(i), i);
    until(w.now_us + FAULTS_US / 4, false);
    until(w.now_us + FAULTS_US, true);
    w.loss = 0;
    memset(w.deaf_until_us, 0, sizeof w.deaf_until_us);
    note("---- healed");
    for (uint16_t i = 0; i < w.n; i++) {
        stop(clone_of(i));
        proc_of(i)->cut_until_us = 0;
        if (!proc_of(i)->up)
            start(proc_of(i), i);
    }
    until(w.now_us + HEALED_US, false);
    if (!w.failed && !all_granted()) {
        w.failed = true;
        note("STUCK");
    }
    if (w.verbose)
        for (uint16_t i = 0; i < w.n; i++) {
            const char *why = grants_obstacle(proc_of(i)->g);

            note("member %u: epoch %u %s", i, grants_epoch(proc_of(i)->g), why ? why : "");
        }
    for (size_t i = 0; i < PROCS_MAX; i++)
        stop(&w.procs[i]);
    w.n_heap = 0;
    return !w.failed;
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Returns the first seed that failed, 0 none. */
static uint64_t series(uint64_t first, uint64_t last, double limit_s)
{
    double began = seconds();
    uint64_t n = 0, failed = 0;

    for (uint64_t seed = first; seed <= last && seconds() - began < limit_s; seed++, n++)
        if (!play(seed)) {
            failed = seed;
            break;
        }
    if (!mutant_on)
        printf("%" PRIu64 " histories, %.0f/s, %" PRIu64 " merges after a loss, %" PRIu64
               " epochs granted twice\n",
               n, (double)n / (seconds() - began), w.merges, w.reused);
    if (failed && !mutant_on)
        printf("FAILED: seed %" PRIu64 "; again: sim_grants --seeds %" PRIu64 "-%" PRIu64
               " --verbose\n",
               failed, failed, failed);
    return failed;
}

static const char *const mutant_names[] = {
#define GUARD(name, text) [MUTANT_##name] = #name,
    "",
#include "sync/mutant.def"
#undef GUARD
};

static int mutants(double limit_s)
{
    static const enum mutant guards[] = {MUTANT_GRANT_EPOCH, MUTANT_GRANT_FSYNC,
                                         MUTANT_GRANT_OTHERS, MUTANT_GRANT_MAJORITY,
                                         MUTANT_GRANT_SURE};
    int rc = 0;

    for (size_t i = 0; i < sizeof guards / sizeof *guards; i++) {
        uint64_t seed;

        mutant_on = guards[i];
        seed = series(1, 200000, limit_s);
        if (seed)
            printf("%-16s caught at seed %" PRIu64 "\n", mutant_names[guards[i]], seed);
        else
            printf("%-16s NOT CAUGHT\n", mutant_names[guards[i]]);
        rc |= seed == 0;
    }
    return rc;
}

int main(int argc, char **argv)
{
    uint64_t first = 1, last = 1000;
    double limit_s = 1e9;

    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--beyond"))
            w.beyond = true;
        else if (!strcmp(argv[i], "--verbose"))
            w.verbose = true;
        else if (!strcmp(argv[i], "--mutants"))
            return mutants(limit_s);
        else if (!strcmp(argv[i], "--time") && i + 1 < argc)
            limit_s = atof(argv[++i]);
        else if (!strcmp(argv[i], "--mutant") && i + 1 < argc) {
            i++;
            for (int m = 1; m < MUTANT_COUNT; m++)
                if (!strcmp(argv[i], mutant_names[m]))
                    mutant_on = (enum mutant)m;
        } else if (!strcmp(argv[i], "--seeds") && i + 1 < argc &&
                   sscanf(argv[++i], "%" SCNu64 "-%" SCNu64, &first, &last) == 2)
            ;
        else
            return fprintf(stderr, "usage: see tests/sim/grants/grants.c\n"), 2;
    }
    return series(first, last, limit_s) ? 1 : 0;
}
