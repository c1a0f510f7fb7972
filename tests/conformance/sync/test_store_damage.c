/* Whatever became of the journal's files: opening them never ends the process, and what comes out
 * is a history that was durable, whole and unchanged, or a new journal beside the one set aside.
 * Each byte of a table of places is flipped in turn; `test_sync_store_damage all` takes them all.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "proto/log.h"
#include "sync/store_vfs.h"
#include "tests/conformance/sync/check.h"
#include "tests/conformance/sync/store_rig.h"

enum { BATCHES = 40, LATER = 12, WAL_HEADER = 32, WAL_FRAME = 24 + JOURNAL_PAGE_BYTES };

static struct rig rig;
static char wal_path[80];
static struct image db, wal; /* a process that was killed: most in the database, LATER in the log */
static struct image whole_db; /* closed in order: all in the database */
static unsigned recovered, cut, aside;
static char last_words[256]; /* of the log */

static struct store *open_new(void)
{
    struct store_options o = rig_options(&rig);
    struct sync_recovery r;
    struct store *s;

    CHECK(store_sqlite_open(&o, &s, &r) == ERR_OK);
    store_recovery_free(&r);
    return s;
}

static void make_images(void)
{
    struct store *s = open_new();

    for (uint32_t i = 1; i <= BATCHES; i++)
        CHECK(s->ops->submit(s, rig_batch(i)) == ERR_OK);
    s->ops->close(s); /* all into the database */
    s = open_new();
    for (uint32_t i = BATCHES + 1; i <= BATCHES + LATER; i++) {
        CHECK(s->ops->submit(s, rig_batch(i)) == ERR_OK);
        rig_wait(s, i);
    }
    db = image_read(rig.path);
    wal = image_read(wal_path);
    s->ops->close(s);
    whole_db = image_read(rig.path);
    CHECK(db.n >= 8 * JOURNAL_PAGE_BYTES && wal.n >= WAL_HEADER + LATER * WAL_FRAME);
    CHECK(image_read(wal_path).n == 0);
}

/* ---- records taken while the journal is read, as the node does ---- */

struct taken {
    struct record *records[BATCHES + LATER];
    size_t n;
};
static unsigned forgotten; /* records that had been taken when the damage showed */

static void take(void *ctx, struct sync_recovery *part)
{
    struct taken *t = ctx;

    CHECK(t->n + part->n_records <= sizeof t->records / sizeof t->records[0]);
    memcpy(t->records + t->n, part->records, part->n_records * sizeof(struct record *));
    t->n += part->n_records;
}

static void forget(void *ctx)
{
    struct taken *t = ctx;

    forgotten += (unsigned)t->n;
    while (t->n)
        record_free(t->records[--t->n]);
}

static void hand_over(struct taken *t, struct sync_recovery *r)
{
    CHECK(r->n_records == 0);
    r->records = calloc(t->n + 1, sizeof(struct record *));
    memcpy(r->records, t->records, t->n * sizeof(struct record *));
    r->n_records = t->n;
}

enum outcome { EMPTY, CUT, ALL };

/* Opens what stands in the directory. */
static enum outcome look(uint32_t *n)
{
    struct store_options o = rig_options(&rig);
    struct sync_recovery r;
    struct store *s;
    struct taken taken = {.n = 0};
    enum outcome outcome;
    int rc;

    o.take = take;
    o.forget = forget;
    o.read_ctx = &taken;
    rc = store_sqlite_open(&o, &s, &r);

    if (rc != ERR_OK)
        fprintf(stderr, "%s: %s\n", err_text(rc), last_words);
    CHECK(rc == ERR_OK);
    hand_over(&taken, &r);
    *n = rig_history(&r, 0);
    if (r.journal_empty) {
        CHECK(*n == 0);
        outcome = EMPTY;
        aside++;
    } else if (r.journal_cut) {
        outcome = CUT;
        cut++;
    } else {
        outcome = ALL;
        recovered++;
    }
    store_recovery_free(&r);
    s->ops->close(s);
    return outcome;
}

static enum outcome look_at(const struct image *d, const struct image *w, uint32_t *n)
{
    rig_clear(&rig);
    image_write(d, rig.path);
    image_write(w, wal_path);
    return look(n);
}

/* A flipped byte of the database shows in its page: all is well (a page that the log holds anew, a
 * byte of the header that is not kept), or the journal is set aside. */
static void flip_database(const struct image *d, const struct image *w, size_t step, uint32_t full)
{
    uint32_t n;

    for (size_t at = 0; at < d->n; at += at < 128 ? 1 : step) {
        d->bytes[at] ^= (uint8_t)(1 << at % 8);
        if (look_at(d, w, &n) != EMPTY)
            CHECK(n == full);
        d->bytes[at] ^= (uint8_t)(1 << at % 8);
    }
    CHECK(look_at(d, w, &n) == ALL && n == full);
}

/* A flipped byte of the log: the history ends before its transaction; and where something durable
 * followed, that is said. */
static void flip_log(size_t step)
{
    uint32_t n;

    for (size_t at = 0; at < wal.n; at += at < WAL_HEADER + 24 ? 1 : step) {
        enum outcome outcome;
        wal.bytes[at] ^= (uint8_t)(1 << at % 8);
        outcome = look_at(&db, &wal, &n);
        CHECK(outcome != EMPTY && n >= BATCHES && n <= BATCHES + LATER);
        CHECK(outcome == CUT || n >= BATCHES + LATER - 1);
        wal.bytes[at] ^= (uint8_t)(1 << at % 8);
    }
}

/* A log cut anywhere, as by a power cut: what was whole counts. */
static void tear_log(void)
{
    struct image torn = wal;
    uint32_t n, last = BATCHES;

    for (torn.n = 0; torn.n <= wal.n; torn.n += torn.n % WAL_FRAME > 100 ? 1777 : 509) {
        CHECK(look_at(&db, &torn, &n) == ALL && n >= last && n <= BATCHES + LATER);
        last = n;
    }
    CHECK(look_at(&db, &wal, &n) == ALL && n == BATCHES + LATER);
}

static void truncate_database(void)
{
    struct image none = {0}, shorter = whole_db;
    enum outcome outcome;
    uint32_t n;

    for (shorter.n = 1; shorter.n < whole_db.n; shorter.n += 1021)
        CHECK(look_at(&shorter, &none, &n) == EMPTY);
    for (shorter.n = 1; shorter.n < db.n; shorter.n += 2039) {
        outcome = look_at(&shorter, &wal, &n); /* the log may hold all that is missing */
        CHECK(outcome == EMPTY || n == BATCHES + LATER);
    }
    CHECK(look_at(&none, &wal, &n) == EMPTY); /* a log alone */
}

/* Two pages that changed places are as they were written, but not where. */
static void swap_pages(void)
{
    struct image none = {0}, swapped = {0};
    uint32_t n;

    swapped.bytes = malloc(whole_db.n);
    swapped.n = whole_db.n;
    for (size_t at = JOURNAL_PAGE_BYTES; at + 2 * JOURNAL_PAGE_BYTES <= whole_db.n;
         at += 3 * JOURNAL_PAGE_BYTES) {
        memcpy(swapped.bytes, whole_db.bytes, whole_db.n);
        memcpy(swapped.bytes + at, whole_db.bytes + at + JOURNAL_PAGE_BYTES, JOURNAL_PAGE_BYTES);
        memcpy(swapped.bytes + at + JOURNAL_PAGE_BYTES, whole_db.bytes + at, JOURNAL_PAGE_BYTES);
        CHECK(look_at(&swapped, &none, &n) == EMPTY);
    }
    image_free(&swapped);
}

static void quiet(enum log_level level, const char *area, const char *text)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the threads that read and check */

    (void)level, (void)area;
    pthread_mutex_lock(&lock);
    snprintf(last_words, sizeof last_words, "%s", text);
    pthread_mutex_unlock(&lock);
}

int main(int argc, char **argv)
{
    size_t step = argc > 1 && strcmp(argv[1], "all") == 0 ? 1 : 331;
    struct image none = {0};

    log_set_sink(quiet);
    rig_begin(&rig);
    snprintf(wal_path, sizeof wal_path, "%s-wal", rig.path);
    make_images();
    flip_database(&whole_db, &none, step, BATCHES + LATER);
    CHECK(recovered <= 60 && aside > 100); /* the header's last bytes, and the sound file itself */
    /* Damage that only the checker sees, of an index, takes back what was read by then: whether
     * that is anything depends on which thread is quicker. */
    for (int again = 0; again < 50 && forgotten == 0; again++)
        flip_database(&whole_db, &none, step, BATCHES + LATER);
    flip_database(&db, &wal, step, BATCHES + LATER);
    flip_log(step);
    tear_log();
    truncate_database();
    swap_pages();
    rig_end(&rig);
    CHECK(forgotten > 0);
    printf("%u recovered whole, %u up to the damage, %u set aside, %u records forgotten: passed\n",
           recovered, cut, aside, forgotten);
    return 0;
}
