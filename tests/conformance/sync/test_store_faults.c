/* A disk that is full, refuses writes, loses what it was asked to sync, and then the power goes:
 * whatever was told durable is there afterwards, whole transactions only, and a disk that works
 * again needs no help. `test_sync_store_faults SEED LIVES` repeats or extends the run. */
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "proto/log.h"
#include "sync/join.h"
#include "tests/conformance/sync/bad_disk.h"
#include "tests/conformance/sync/check.h"
#include "tests/conformance/sync/store_rig.h"
#include "tests/unit/sync/samples.h"

static struct rig rig;
static char last_error[256];

static void on_log(enum log_level level, const char *area, const char *text)
{
    (void)area;
    if (level == LOG_LEVEL_ERROR)
        snprintf(last_error, sizeof last_error, "%s", text);
}

static struct store *open_journal(uint32_t durable, uint32_t *n)
{
    struct store_options o = rig_options(&rig);
    struct sync_recovery r;
    struct store *s;
    int rc;

    o.retry_ms = 2;
    rc = store_sqlite_open(&o, &s, &r);
    if (rc != ERR_OK)
        fprintf(stderr, "not opened: %s\n", last_error);
    CHECK(rc == ERR_OK && (durable == 0 || !r.journal_empty) && !r.journal_cut);
    *n = rig_history(&r, durable);
    store_recovery_free(&r);
    return s;
}

/* Batches first..last, some at once and some after a while, while the disk does as it likes. */
static void write_some(struct store *s, uint32_t first, uint32_t last, enum disk_fault fault)
{
    bool failed;

    for (uint32_t i = first; i <= last; i++) {
        if (bad_disk_random(4) == 0)
            bad_disk_set(bad_disk_random(2) ? fault : DISK_FINE);
        CHECK(s->ops->submit(s, rig_batch(i)) == ERR_OK);
        if (bad_disk_random(3) == 0)
            usleep((useconds_t)bad_disk_random(3000));
        CHECK(s->ops->poll(s, &failed) <= i);
    }
}

/* Lives of a journal, one after the other, each ended by a power cut in the midst of it. */
static void survives(uint32_t lives)
{
    uint32_t durable = 0, told_failed = 0;

    for (uint32_t life = 0; life < lives; life++) {
        enum disk_fault fault = DISK_FULL + (int)bad_disk_random(3);
        uint32_t n, more = 1 + (uint32_t)bad_disk_random(40);
        struct store *s = open_journal(durable, &n);
        bool failed;

        write_some(s, n + 1, n + more, fault);
        if (bad_disk_random(2)) { /* the disk recovers, and nobody has to do anything */
            bad_disk_set(DISK_FINE);
            rig_wait(s, n + more);
        }
        bad_disk_set(DISK_DEAD);
        durable = (uint32_t)s->ops->poll(s, &failed);
        durable = durable ? durable : n;
        told_failed += failed;
        s->ops->close(s);
        bad_disk_power_cut();
    }
    printf("%u lives, %u batches durable at last, %u failed calls, %u ends while refusing\n", lives,
           durable, bad_disk_failures(), told_failed);
    CHECK(bad_disk_failures() > lives && told_failed > 0);
}

/* poll says so, why says what, and both stop by themselves. */
static void says_what_is_wrong(enum disk_fault fault, const char *words)
{
    char why[STORE_WHY_BYTES];
    uint32_t n;
    struct store *s = open_journal(0, &n);
    bool failed = false;

    s->ops->why(s, why);
    CHECK(why[0] == 0);
    bad_disk_set(fault);
    for (uint32_t i = 1; !failed; i++) {
        CHECK(i < 2000 && s->ops->submit(s, rig_batch(n + i)) == ERR_OK);
        usleep(500);
        (void)s->ops->poll(s, &failed);
        if (failed) {
            s->ops->why(s, why);
            CHECK(strstr(why, words));
            CHECK(s->ops->waiting(s) > 0);
            bad_disk_set(DISK_FINE);
            rig_wait(s, n + i);
        }
    }
    (void)s->ops->poll(s, &failed);
    s->ops->why(s, why);
    CHECK(!failed && why[0] == 0 && s->ops->waiting(s) == 0);
    s->ops->close(s);
}

/* A disk that hangs gives no error either: time tells. The loop does not wait for it. */
static void says_that_it_hangs(void)
{
    struct store_options o = rig_options(&rig);
    char why[STORE_WHY_BYTES];
    struct sync_recovery r;
    struct store *s;
    bool failed = false;
    uint32_t n;

    o.hanging_ms = 1000;
    CHECK(store_sqlite_open(&o, &s, &r) == ERR_OK);
    n = rig_history(&r, 0);
    store_recovery_free(&r);
    bad_disk_set(DISK_HANGS);
    CHECK(s->ops->submit(s, rig_batch(n + 1)) == ERR_OK);
    usleep(200000);
    (void)s->ops->poll(s, &failed);
    CHECK(!failed);
    for (int i = 0; i < 100 && !failed; i++) {
        usleep(100000);
        CHECK(s->ops->submit(s, rig_batch(n + 2 + (uint32_t)i)) == ERR_OK);
        CHECK(s->ops->poll(s, &failed) == 0);
    }
    s->ops->why(s, why);
    CHECK(failed && strcmp(why, "the disk has not answered for 1 s") == 0);
    bad_disk_set(DISK_FINE);
    rig_wait(s, n + 2);
    (void)s->ops->poll(s, &failed);
    CHECK(!failed);
    s->ops->close(s);
}

static struct sync_batch *change(uint32_t ticket, uint32_t of)
{
    struct sync_batch *b = calloc(1, sizeof *b);
    struct record *r = sample_at(sample_child(0x40000 + ticket % of, 1), 60, 1, ticket);

    r->child.generation = ticket;
    b->ticket = ticket;
    b->records = calloc(1, sizeof(struct record *));
    b->records[b->n_records++] = r;
    b->vector = calloc(1, sizeof *b->vector);
    b->vector[b->n_vector++] = (struct sync_position){sample_id(60), 1, ticket};
    return b;
}

/* However long the disk refuses, what waits does not outgrow what is known; and the last forms are
 * what is written in the end. */
static void waits_in_little_room(void)
{
    enum { SAS = 100, CHANGES = 300000, ROOM = 140000 };
    struct store_options o = rig_options(&rig);
    struct sync_recovery r;
    struct store *s;
    size_t most = 0;

    o.retry_ms = 20;
    bad_disk_end();
    CHECK(store_sqlite_open(&o, &s, &r) == ERR_OK && r.journal_empty);
    store_recovery_free(&r);
    bad_disk_set(DISK_FULL);
    for (uint32_t i = 1; i <= CHANGES; i++) {
        CHECK(s->ops->submit(s, change(i, SAS)) == ERR_OK);
        if (s->ops->waiting(s) > most)
            most = s->ops->waiting(s);
    }
    printf("%u changes of %u SAs while the disk was full: %zu waited at most\n", CHANGES, SAS,
           most);
    CHECK(most < ROOM);
    bad_disk_set(DISK_FINE);
    rig_wait(s, CHANGES);
    s->ops->close(s);
    CHECK(store_sqlite_open(&o, &s, &r) == ERR_OK);
    CHECK(r.n_records == SAS && r.n_vector == 1 && r.vector[0].seq == CHANGES);
    for (size_t i = 0; i < r.n_records; i++)
        CHECK(r.records[i]->seq > CHANGES - SAS &&
              r.records[i]->child.generation == r.records[i]->seq);
    store_recovery_free(&r);
    s->ops->close(s);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint32_t lives = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 120;

    log_set_sink(on_log);
    rig_begin(&rig);
    bad_disk_begin(seed);
    says_what_is_wrong(DISK_FULL, "full");
    says_what_is_wrong(DISK_EIO_WRITE, "I/O error");
    says_what_is_wrong(DISK_EIO_SYNC, "I/O error");
    says_that_it_hangs();
    bad_disk_end(); /* a fresh disk */
    survives(lives);
    waits_in_little_room();
    bad_disk_end();
    rig_end(&rig);
    printf("seed %llu: passed\n", (unsigned long long)seed);
    return 0;
}
