/* One suite that both journals pass, then what only the one on disk can show. */
#include <dirent.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "proto/err.h"
#include "sync/join.h"
#include "sync/store.h"
#include "sync/store_aside.h"
#include "sync/store_vfs.h"
#include "tests/conformance/sync/check.h"
#include "tests/unit/sync/samples.h"

static struct cluster_key keys[2];
static char directory[] = "/tmp/anysa-store-XXXXXX", path[64];
static struct memory_disk *disk;
static int wake_fd;
static _Atomic unsigned wakes;

static void on_wake(void *ctx)
{
    uint64_t one = 1;

    (void)ctx;
    wakes++;
    CHECK(write(wake_fd, &one, sizeof one) == sizeof one);
}

static struct store_options options(void)
{
    return (struct store_options){
        .path = path, .cluster = "lab", .slot = 3, .keys = keys, .n_keys = 1, .wake = on_wake};
}

static int open_sqlite(const struct store_options *o, struct store **s, struct sync_recovery *r)
{
    return store_sqlite_open(o, s, r);
}

static int open_memory(const struct store_options *o, struct store **s, struct sync_recovery *r)
{
    return store_memory_open(disk, o, s, r);
}

typedef int open_fn(const struct store_options *o, struct store **s, struct sync_recovery *r);

/* ---- batches ---- */

static struct sync_batch *batch_new(uint64_t ticket)
{
    struct sync_batch *b = calloc(1, sizeof *b);

    b->ticket = ticket;
    return b;
}

static struct sync_batch *with_record(struct sync_batch *b, struct record *r)
{
    b->records = realloc(b->records, (b->n_records + 1) * sizeof(struct record *));
    b->records[b->n_records++] = r;
    return b;
}

static struct sync_batch *with_position(struct sync_batch *b, uint32_t origin, uint64_t seq)
{
    b->vector = realloc(b->vector, (b->n_vector + 1) * sizeof *b->vector);
    b->vector[b->n_vector++] = (struct sync_position){sample_id(origin), 1, seq};
    return b;
}

static struct sync_batch *with_epoch(struct sync_batch *b, uint16_t slot, uint32_t epoch)
{
    b->epochs = realloc(b->epochs, (b->n_epochs + 1) * sizeof *b->epochs);
    b->epochs[b->n_epochs++] = (struct sync_epoch){slot, epoch};
    return b;
}

static void wait_durable(struct store *s, uint64_t ticket)
{
    struct pollfd p = {.fd = wake_fd, .events = POLLIN};
    bool failed;
    uint64_t n;

    for (int i = 0; s->ops->poll(s, &failed) < ticket; i++) {
        CHECK(!failed && i < 1000);
        if (poll(&p, 1, 5000) == 1)
            CHECK(read(wake_fd, &n, sizeof n) == sizeof n);
    }
}

static const struct record *find(const struct sync_recovery *r, uint8_t kind, uint64_t key)
{
    for (size_t i = 0; i < r->n_records; i++)
        if (r->records[i]->kind == kind && record_key(r->records[i]) == key)
            return r->records[i];
    return NULL;
}

static uint64_t position(const struct sync_recovery *r, uint32_t origin)
{
    struct id128 id = sample_id(origin);

    for (size_t i = 0; i < r->n_vector; i++)
        if (id128_equal(&r->vector[i].origin, &id))
            return r->vector[i].seq;
    return 0;
}

/* ---- the suite ---- */

static void starts_empty(open_fn *open)
{
    struct store_options o = options();
    struct sync_recovery r;
    struct store *s;
    bool failed = true;

    CHECK(open(&o, &s, &r) == ERR_OK);
    CHECK(r.journal_empty && r.epoch == 0 && r.n_records == 0 && r.n_vector == 0 &&
          r.n_epochs == 0);
    CHECK(s->ops->poll(s, &failed) == 0 && !failed);
    store_recovery_free(&r);
    s->ops->close(s);
}

static void gives_back_what_was_durable(open_fn *open)
{
    struct store_options o = options();
    struct sync_recovery r;
    struct store *s;
    struct sync_batch *b = batch_new(1);
    const struct record *ike, *child;

    CHECK(open(&o, &s, &r) == ERR_OK);
    store_recovery_free(&r);
    with_record(b, sample_at(sample_ike(0xffffffffffffff01, 5), 50, 1, 1));
    with_record(b, sample_at(sample_child(0x1000, 5), 50, 1, 2));
    with_record(b, sample_at(sample_endpoint(0x1000, 3), 51, 2, UINT64_MAX));
    with_position(with_position(b, 50, 2), 51, UINT64_MAX);
    with_epoch(b, 7, 41);
    b->epoch = 12;
    CHECK(s->ops->submit(s, b) == ERR_OK);
    wait_durable(s, 1);
    s->ops->close(s);

    CHECK(open(&o, &s, &r) == ERR_OK);
    CHECK(!r.journal_empty && r.epoch == 12 && r.n_records == 3);
    CHECK(r.n_epochs == 1 && r.epochs[0].slot == 7 && r.epochs[0].epoch == 41);
    CHECK(position(&r, 50) == 2 && position(&r, 51) == UINT64_MAX);
    ike = find(&r, RECORD_IKE, 0xffffffffffffff01);
    child = find(&r, RECORD_CHILD, 0x1000);
    CHECK(ike && child && find(&r, RECORD_ENDPOINT, 0x1000));
    CHECK(ike->seq == 1 && ike->origin_slot == 1 && ike->ike.sk_ei.n == 36);
    CHECK(memcmp(ike->ike.sk_ei.b, SAMPLE_CANARY, sizeof SAMPLE_CANARY - 1) == 0);
    CHECK(ike->ike.last_response.n == 17 && child->child.integ_out.n == 32);
    store_recovery_free(&r);
    s->ops->close(s);
}

/* What a newer version wrote is in the journal as it came: a field beside ours, a kind of its own.
 */
static void keeps_what_it_does_not_know(open_fn *open)
{
    static const uint8_t field[] = {0, 0, 0, 3, 0xc0, 0x02, 7}; /* of the record: number 40, 7 */
    static const uint8_t body[] = {0x09, 5,    0,    0,    0,    0,    0,    0, 0, /* key 5 */
                                   0x10, 3,                                        /* revision 3 */
                                   0x18, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40, /* not after 2^41 */
                                   0x22, 2,    'h',  'i'};
    struct store_options o = options();
    struct sync_recovery r;
    struct store *s;
    struct record *child = sample_at(sample_child(0x3000, 5), 50, 1, 11);
    struct record *later = sample_at(record_new((enum record_kind)9), 50, 1, 12);
    const struct record *found;

    CHECK(blob_set(&child->unknown, field, sizeof field) == ERR_OK);
    later->later.key = 5;
    later->later.revision = 3;
    later->later.not_after_ms = INT64_C(1) << 41;
    CHECK(blob_set(&later->later.body, body, sizeof body) == ERR_OK);
    CHECK(open(&o, &s, &r) == ERR_OK);
    store_recovery_free(&r);
    CHECK(s->ops->submit(s, with_record(with_record(batch_new(1), child), later)) == ERR_OK);
    wait_durable(s, 1);
    s->ops->close(s);
    CHECK(open(&o, &s, &r) == ERR_OK);
    found = find(&r, RECORD_CHILD, 0x3000);
    CHECK(found && found->unknown.n == sizeof field &&
          memcmp(found->unknown.p, field, sizeof field) == 0);
    found = find(&r, 9, 5);
    CHECK(found && found->later.revision == 3 && found->later.not_after_ms == INT64_C(1) << 41 &&
          found->later.body.n == sizeof body &&
          memcmp(found->later.body.p, body, sizeof body) == 0);
    store_recovery_free(&r);
    s->ops->close(s);
}

static void keeps_the_last_form(open_fn *open)
{
    struct store_options o = options();
    struct sync_recovery r;
    struct store *s;
    struct record *r2 = sample_at(sample_child(0x1000, 5), 50, 1, 9);

    r2->child.confirmed = true;
    CHECK(open(&o, &s, &r) == ERR_OK);
    store_recovery_free(&r);
    CHECK(s->ops->submit(s, with_position(with_record(batch_new(1), r2), 50, 9)) == ERR_OK);
    CHECK(s->ops->submit(s, with_epoch(batch_new(2), 7, 40)) == ERR_OK); /* lower: ignored */
    wait_durable(s, 2);
    s->ops->close(s);

    CHECK(open(&o, &s, &r) == ERR_OK);
    CHECK(r.n_records == 3 && position(&r, 50) == 9 && r.epochs[0].epoch == 41);
    CHECK(find(&r, RECORD_CHILD, 0x1000)->child.confirmed);
    store_recovery_free(&r);
    s->ops->close(s);
}

static void leaves_out_the_expired(open_fn *open)
{
    struct store_options o = options();
    struct sync_recovery r;
    struct store *s;
    struct record *old = sample_at(sample_child(0x2000, 6), 50, 1, 10);

    old->child.not_after_ms = 1000;
    CHECK(open(&o, &s, &r) == ERR_OK);
    store_recovery_free(&r);
    CHECK(s->ops->submit(s, with_record(batch_new(1), old)) == ERR_OK);
    wait_durable(s, 1);
    s->ops->close(s);
    CHECK(open(&o, &s, &r) == ERR_OK);
    CHECK(r.n_records == 3 && !find(&r, RECORD_CHILD, 0x2000));
    store_recovery_free(&r);
    s->ops->close(s);
}

/* What was submitted is finished by close, without anyone polling. */
static void finishes_at_close(open_fn *open)
{
    struct store_options o = options();
    struct sync_recovery r;
    struct store *s;

    CHECK(open(&o, &s, &r) == ERR_OK);
    store_recovery_free(&r);
    for (uint32_t i = 0; i < 500; i++)
        CHECK(
            s->ops->submit(s, with_record(batch_new(i + 1), sample_at(sample_child(0x10000 + i, i),
                                                                      50, 1, 100 + i))) == ERR_OK);
    s->ops->close(s);
    CHECK(open(&o, &s, &r) == ERR_OK);
    CHECK(r.n_records == 503);
    store_recovery_free(&r);
    s->ops->close(s);
}

static void suite(const char *name, open_fn *open)
{
    starts_empty(open);
    gives_back_what_was_durable(open);
    keeps_the_last_form(open);
    leaves_out_the_expired(open);
    finishes_at_close(open);
    keeps_what_it_does_not_know(open);
    printf("%s: passed\n", name);
}

/* ---- on disk only ---- */

/* Far fewer transactions than batches: those that wait while one is written share the next. */
static void commits_in_groups(void)
{
    enum { BATCHES = 2000 };
    struct store_options o = options();
    struct sync_recovery r;
    struct store *s;
    unsigned before = wakes;

    CHECK(store_sqlite_open(&o, &s, &r) == ERR_OK);
    store_recovery_free(&r);
    for (uint32_t i = 0; i < BATCHES; i++)
        CHECK(
            s->ops->submit(s, with_record(batch_new(i + 1), sample_at(sample_child(0x20000 + i, i),
                                                                      50, 1, 1000 + i))) == ERR_OK);
    wait_durable(s, BATCHES);
    printf("%u transactions for %u batches\n", wakes - before, BATCHES);
    CHECK(wakes - before < BATCHES / 2);
    s->ops->close(s);
}

/* Batch `ticket`: that much of the log is applied. */
static struct sync_batch *claims(uint32_t origin, uint64_t ticket)
{
    return with_position(batch_new(ticket), origin, ticket);
}

/* What nobody waits for waits for more; what is urgent takes it along at once; nothing waits for
 * ever, and close waits for nothing. */
static void gathers_what_nobody_waits_for(void)
{
    enum { ROUNDS = 20, LEAST_US = 9000 };
    struct store_options o = options();
    struct sync_recovery r;
    struct store *s;
    struct sync_batch *b;
    uint64_t ticket = 0, began_us, least_us = UINT64_MAX;

    CHECK(store_sqlite_open(&o, &s, &r) == ERR_OK);
    store_recovery_free(&r);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        began_us = now_read().mono_us;
        CHECK(s->ops->submit(s, claims(61, ++ticket)) == ERR_OK);
        wait_durable(s, ticket);
        CHECK(now_read().mono_us - began_us >= LEAST_US);
        began_us = now_read().mono_us;
        CHECK(s->ops->submit(s, claims(61, ++ticket)) == ERR_OK);
        b = claims(61, ++ticket);
        b->urgent = true;
        CHECK(s->ops->submit(s, b) == ERR_OK);
        wait_durable(s, ticket);
        if (now_read().mono_us - began_us < least_us)
            least_us = now_read().mono_us - began_us;
    }
    CHECK(least_us < LEAST_US); /* of so many, however busy the machine */
    CHECK(s->ops->submit(s, claims(61, ++ticket)) == ERR_OK);
    s->ops->close(s);
    CHECK(store_sqlite_open(&o, &s, &r) == ERR_OK);
    CHECK(position(&r, 61) == ticket);
    store_recovery_free(&r);
    s->ops->close(s);
}

/* Close while a transaction is being written and more waits: all of it is kept. */
static void finishes_at_close_when_busy(void)
{
    struct store_options o = options();
    struct sync_recovery r;
    struct store *s;

    for (uint32_t round = 0; round < 20; round++) {
        CHECK(store_sqlite_open(&o, &s, &r) == ERR_OK);
        CHECK(round == 0 || position(&r, 60) == round);
        store_recovery_free(&r);
        for (uint32_t i = 0; i < 5; i++) {
            struct sync_batch *b = with_position(batch_new(i + 1), 60, i == 4 ? round + 1 : 0);
            CHECK(s->ops->submit(s, b) == ERR_OK);
            usleep(100);
        }
        s->ops->close(s);
    }
}

/* Every file of the directory, as bytes: does any of them hold the canary? */
static bool anything_holds(const char *canary)
{
    DIR *d = opendir(directory);
    struct dirent *e;
    bool found = false;

    CHECK(d);
    while ((e = readdir(d)) != NULL) {
        char name[512];
        struct stat st;
        uint8_t *bytes;
        FILE *f;
        snprintf(name, sizeof name, "%s/%s", directory, e->d_name);
        if (stat(name, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
            continue;
        CHECK((st.st_mode & 0777) == 0600);
        f = fopen(name, "rb");
        bytes = malloc((size_t)st.st_size);
        CHECK(f && bytes && fread(bytes, 1, (size_t)st.st_size, f) == (size_t)st.st_size);
        fclose(f);
        found |= memmem(bytes, (size_t)st.st_size, canary, strlen(canary)) != NULL;
        free(bytes);
    }
    closedir(d);
    return found;
}

/* Keys are in no file, neither while the journal is open (its log is full then) nor after. */
static void shows_no_key(void)
{
    struct store_options o = options();
    struct sync_recovery r;
    struct store *s;

    CHECK(store_sqlite_open(&o, &s, &r) == ERR_OK);
    CHECK(r.n_records > 2000);
    store_recovery_free(&r);
    CHECK(s->ops->submit(s, with_record(batch_new(1),
                                        sample_at(sample_ike(0x77, 77), 50, 1, 9999))) == ERR_OK);
    wait_durable(s, 1);
    CHECK(!anything_holds(SAMPLE_CANARY));
    CHECK(!anything_holds("router@example.net"));
    CHECK(anything_holds("CREATE TABLE")); /* the search does see the files */
    s->ops->close(s);
    CHECK(!anything_holds(SAMPLE_CANARY));
}

/* How often a journal was set aside; how many of them are kept. */
static size_t times_aside(size_t *kept)
{
    DIR *d = opendir(directory);
    struct dirent *e;
    size_t highest = 0;

    *kept = 0;
    while ((e = readdir(d)) != NULL) {
        const char *at = strstr(e->d_name, ".aside-");
        if (!at || strstr(at, "-wal"))
            continue;
        ++*kept;
        if (strtoull(at + 7, NULL, 10) > highest)
            highest = strtoull(at + 7, NULL, 10);
    }
    closedir(d);
    return highest;
}

/* Opens with these options, expecting a new journal and one more file set aside, or neither. */
static void expect(const struct store_options *o, bool set_aside)
{
    size_t kept, before = times_aside(&kept);
    struct sync_recovery r;
    struct store *s;

    CHECK(store_sqlite_open(o, &s, &r) == ERR_OK);
    CHECK(r.journal_empty == set_aside && (r.n_records == 0) == set_aside);
    CHECK(times_aside(&kept) == before + set_aside && kept <= ASIDE_KEPT);
    store_recovery_free(&r);
    CHECK(s->ops->submit(
              s, with_record(batch_new(1), sample_at(sample_child(0x9000, 1), 1, 1, 1))) == ERR_OK);
    wait_durable(s, 1);
    s->ops->close(s);
}

static void scribble(long at, const char *text, size_t n)
{
    FILE *f = fopen(path, "r+b");

    CHECK(f && fseek(f, at, SEEK_SET) == 0 && fwrite(text, 1, n, f) == n);
    fclose(f);
}

static void run_sql(const char *sql)
{
    sqlite3 *db;

    CHECK(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, store_vfs()) ==
          SQLITE_OK);
    CHECK(sqlite3_exec(db, "PRAGMA locking_mode=EXCLUSIVE", NULL, NULL, NULL) == SQLITE_OK);
    CHECK(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK);
    CHECK(sqlite3_close(db) == SQLITE_OK);
}

/* A journal that is good, but opened by mistake, stays as it is. */
static void refuses(const struct store_options *o, const struct store_options *mistake)
{
    size_t kept, before = times_aside(&kept);
    struct sync_recovery r;
    struct store *s;

    CHECK(store_sqlite_open(mistake, &s, &r) == ERR_CONFIG);
    CHECK(times_aside(&kept) == before);
    expect(o, false);
}

static void refuses_another_key(const struct store_options *o, const struct cluster_key *wrong)
{
    struct store_options other = *o;

    other.keys = wrong;
    other.n_keys = 1;
    refuses(o, &other);
}

static void sets_aside_what_it_cannot_use(void)
{
    struct store_options o = options(), other;
    char junk[8192];

    expect(&o, false);
    other = o;
    other.slot = 4;
    refuses(&o, &other);
    other = o;
    other.cluster = "plant";
    expect(&other, true);
    expect(&o, true);
    refuses_another_key(&o, &keys[1]);

    memset(junk, 'x', sizeof junk); /* not a database at all */
    scribble(0, junk, sizeof junk);
    expect(&o, true);
    memset(junk, 0xa5, sizeof junk); /* a page in the middle */
    scribble(4096, junk, 4096);
    expect(&o, true);
    run_sql("UPDATE records SET body = substr(body, 1, 40) || x'00' || substr(body, 42)");
    expect(&o, true);                            /* one bit of a sealed row */
    run_sql("UPDATE records SET key = key + 1"); /* a sealed row in another's place */
    expect(&o, true);
    run_sql("DROP TABLE vector");
    expect(&o, true);
    run_sql("PRAGMA user_version = 3"); /* a newer layout */
    expect(&o, true);
    CHECK(unlink(path) == 0); /* a database, but somebody else's */
    run_sql("CREATE TABLE songs(name TEXT)");
    expect(&o, true);
    expect(&o, false);
}

/* The second cluster key becomes the first: the journal opens, and is wrapped anew. */
static void follows_key_rotation(void)
{
    struct cluster_key both[2] = {keys[1], keys[0]};
    struct store_options o = options();

    expect(&o, false);
    o.keys = both;
    o.n_keys = 2;
    expect(&o, false);
    o.n_keys = 1; /* the old key is gone */
    expect(&o, false);
    refuses_another_key(&o, &keys[0]);
    both[0] = keys[0]; /* and back */
    both[1] = keys[1];
    o.n_keys = 2;
    expect(&o, false);
}

static void copy_file(const char *from, const char *to, off_t n)
{
    char buffer[4096];
    FILE *in = fopen(from, "r"), *out = fopen(to, "w");

    CHECK(in && out);
    while (n) {
        size_t want = n < 0 || n > (off_t)sizeof buffer ? sizeof buffer : (size_t)n;
        size_t got = fread(buffer, 1, want, in);
        if (got == 0)
            break;
        CHECK(fwrite(buffer, 1, got, out) == got);
        n -= n < 0 ? 0 : (off_t)got;
    }
    CHECK(fclose(in) == 0 && fclose(out) == 0);
}

static bool opens(const char *file, const struct cluster_key *k, size_t n)
{
    struct store_options o = options();
    struct sync_recovery r;
    struct store *s;
    bool fine;

    o.path = file;
    o.keys = k;
    o.n_keys = n;
    if (store_sqlite_open(&o, &s, &r) != ERR_OK)
        return false;
    fine = !r.journal_empty && find(&r, RECORD_CHILD, 0x1000) != NULL;
    store_recovery_free(&r);
    s->ops->close(s);
    return fine;
}

/* A rotation under way: the journal key is wrapped anew while the store runs. Wherever the disk
 * stopped in the middle of that, one of the two cluster keys opens the journal, and nothing is
 * lost; once `wrapped` says so it is the new one. */
static void is_wrapped_anew_while_it_runs(void)
{
    const struct cluster_key both[2] = {keys[1], keys[0]};
    char wal[320], copy[300], copy_wal[320], snapshot[300];
    struct store_options o = options();
    struct sync_recovery r;
    struct sync_batch *b = batch_new(1);
    unsigned by_old = 0, by_new = 0;
    struct stat st;
    struct store *s;

    snprintf(wal, sizeof wal, "%s-wal", path);
    snprintf(copy, sizeof copy, "%s/copy.db", directory);
    snprintf(copy_wal, sizeof copy_wal, "%s-wal", copy);
    snprintf(snapshot, sizeof snapshot, "%s/snapshot", directory);
    (void)unlink(path);
    (void)unlink(wal);
    CHECK(store_sqlite_open(&o, &s, &r) == ERR_OK);
    store_recovery_free(&r);
    with_record(b, sample_at(sample_child(0x1000, 5), 50, 1, 2));
    CHECK(s->ops->submit(s, b) == ERR_OK);
    wait_durable(s, 1);
    CHECK(s->ops->wrapped(s) == keys[0].id);
    CHECK(stat(wal, &st) == 0);
    CHECK(s->ops->rewrap(s, &keys[1]) == ERR_OK);
    for (int i = 0; i < 5000 && s->ops->wrapped(s) != keys[1].id; i++)
        usleep(1000);
    CHECK(s->ops->wrapped(s) == keys[1].id);

    /* Killed at any moment: the log ends anywhere behind what was durable before. */
    copy_file(path, snapshot, -1);
    for (off_t end = st.st_size;; end += 512) {
        struct stat full;
        CHECK(stat(wal, &full) == 0);
        if (end > full.st_size)
            end = full.st_size;
        for (int with_new = 0; with_new < 2; with_new++) {
            copy_file(snapshot, copy, -1);
            copy_file(wal, copy_wal, end);
            if (opens(copy, &keys[with_new], 1))
                *(with_new ? &by_new : &by_old) += 1;
        }
        copy_file(snapshot, copy, -1);
        copy_file(wal, copy_wal, end);
        CHECK(opens(copy, both, 2));
        if (end == full.st_size)
            break;
    }
    CHECK(by_old > 0 && by_new > 0);
    copy_file(snapshot, copy, -1); /* and once it was told, the old key is not needed */
    copy_file(wal, copy_wal, -1);
    CHECK(opens(copy, &keys[1], 1));

    CHECK(s->ops->rewrap(s, &keys[0]) == ERR_OK && s->ops->rewrap(s, &keys[1]) == ERR_OK);
    s->ops->close(s); /* whatever it came to: it opens by one of the two */
    CHECK(opens(path, both, 2));
    CHECK(opens(path, &keys[1], 1) && !opens(path, &keys[0], 1));
    (void)unlink(path);
    (void)unlink(wal);
    (void)!read(wake_fd, &(uint64_t){0}, 8);
}

/* A journal in use is neither shared nor set aside. */
static void refuses_a_second_process(void)
{
    struct store_options o = options();
    struct sync_recovery r;
    struct store *s;
    pid_t child;
    int status;

    child = fork();
    if (child == 0) { /* no threads yet in either */
        CHECK(store_sqlite_open(&o, &s, &r) == ERR_OK);
        CHECK(write(wake_fd, &(uint64_t){1}, 8) == 8);
        pause();
    }
    for (uint64_t n = 0; read(wake_fd, &n, sizeof n) != sizeof n;)
        usleep(1000);
    CHECK(store_sqlite_open(&o, &s, &r) == ERR_BUSY);
    kill(child, SIGKILL);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(store_sqlite_open(&o, &s, &r) == ERR_OK && !r.journal_empty);
    store_recovery_free(&r);
    s->ops->close(s);
}

static void tells_an_impossible_path(void)
{
    struct store_options o = options();
    struct sync_recovery r;
    struct store *s;

    o.path = "/proc/no/such/place/journal.db";
    CHECK(store_sqlite_open(&o, &s, &r) == ERR_IO && s == NULL);
}

static void remove_all(void)
{
    DIR *d = opendir(directory);
    struct dirent *e;
    char name[512];

    while ((e = readdir(d)) != NULL) {
        snprintf(name, sizeof name, "%s/%s", directory, e->d_name);
        (void)unlink(name);
    }
    closedir(d);
    (void)rmdir(directory);
}

int main(void)
{
    CHECK(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/journal.db", directory);
    wake_fd = eventfd(0, EFD_NONBLOCK);
    keys[0] = sample_cluster_key(1);
    keys[1] = sample_cluster_key(2);
    disk = memory_disk_new();
    suite("memory", open_memory);
    memory_disk_free(disk);
    suite("sqlite", open_sqlite);
    commits_in_groups();
    gathers_what_nobody_waits_for();
    finishes_at_close_when_busy();
    shows_no_key();
    sets_aside_what_it_cannot_use();
    follows_key_rotation();
    is_wrapped_anew_while_it_runs();
    refuses_a_second_process();
    tells_an_impossible_path();
    remove_all();
    printf("passed\n");
    return 0;
}
