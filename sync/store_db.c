/* Tables: `meta` names the schema, the slot, the cluster and holds the wrapped journal key;
 * `epochs` the highest epoch seen of each slot, ours among them; `vector` how far each log is
 * applied; `records` the latest form of each record. Of a record only what is needed to
 * find, order and expire it is in the clear: kind, key (an SPI), lineage, log position,
 * state, not_after. The body is sealed (store_seal.h).
 *
 * The file is ours alone: exclusive locking mode, so there is no shared-memory file, and a
 * second process is told ERR_BUSY rather than sharing or setting aside a live journal. */
#include "sync/store_db.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/codec.h"
#include "proto/err.h"
#include "proto/log.h"
#include "sync/join.h"
#include "sync/store_seal.h"
#include "sync/store_vfs.h"

enum {
    SCHEMA_VERSION = 2, /* in user_version, too; 2: pages with checksums */
    BODY_MAX = 6 * RECORD_BLOB_MAX + 1024,
    APPLICATION_ID = 0x616e7973,
    LOG_KEPT_BYTES = 8 << 20, /* of the write-ahead log, after a larger transaction */
    TOLD_EVERY_MS = 60000,    /* a failure that goes on */
};

static const char schema[] =
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE epochs(slot INTEGER PRIMARY KEY, epoch INTEGER NOT NULL);"
    "CREATE TABLE vector(origin BLOB PRIMARY KEY, slot INTEGER NOT NULL, seq INTEGER NOT NULL)"
    " WITHOUT ROWID;"
    "CREATE TABLE records(kind INTEGER NOT NULL, key INTEGER NOT NULL, lineage BLOB,"
    " origin BLOB NOT NULL, seq INTEGER NOT NULL, state INTEGER NOT NULL,"
    " not_after INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY(kind, key));";

enum statement {
    BEGIN,
    COMMIT,
    PUT_RECORD,
    PUT_VECTOR,
    PUT_EPOCH,
    EXPIRE,
    EXPIRE_ENDPOINTS,
    EXPIRE_VECTOR,
    STATEMENTS
};
static const char *const statements[STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [PUT_RECORD] = "INSERT OR REPLACE INTO records VALUES(?,?,?,?,?,?,?,?)",
    [PUT_VECTOR] = "INSERT OR REPLACE INTO vector VALUES(?,?,?)",
    [PUT_EPOCH] = "INSERT INTO epochs VALUES(?1,?2) ON CONFLICT(slot) DO UPDATE"
                  " SET epoch = max(epoch, excluded.epoch)",
    [EXPIRE] = "DELETE FROM records WHERE not_after <= ?",
    [EXPIRE_ENDPOINTS] = "DELETE FROM records WHERE kind = 3 AND key NOT IN"
                         " (SELECT key FROM records WHERE kind = 2 AND state = 1)",
    /* Giving up a claim is always safe: what it covered is pulled once more, and is nothing. */
    [EXPIRE_VECTOR] = "DELETE FROM vector WHERE origin NOT IN (SELECT origin FROM records)",
};

struct db {
    sqlite3 *sql;
    sqlite3_stmt *prepared[STATEMENTS];
    sqlite3_stmt *reading; /* a reader's, under way; NULL once it has ended */
    struct journal_seal *seal;
    uint16_t slot;
    char cluster[SYNC_NAME_MAX];
    uint8_t *plain;            /* BODY_MAX, secret_alloc'ed */
    uint8_t *sealed;           /* BODY_MAX + SEAL_OVERHEAD_BYTES */
    char why[STORE_WHY_BYTES]; /* the last failure */
    uint64_t told_us;          /* when the log heard of it */
};

/* ---- small helpers ---- */

static int err_code(struct db *db, int rc)
{
    /* What a page's checksum refuses comes as an I/O error, but reading again will not help. */
    if (db->sql && sqlite3_extended_errcode(db->sql) == SQLITE_IOERR_DATA)
        return ERR_INVALID;
    switch (rc & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_SCHEMA:
    case SQLITE_ERROR: /* a table or column is not what it should be */
    case SQLITE_MISMATCH:
    case SQLITE_CONSTRAINT:
        return ERR_INVALID;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ERR_BUSY;
    case SQLITE_NOMEM:
        return ERR_NOMEM;
    default:
        return ERR_IO;
    }
}

static int err_of(struct db *db, int rc, const char *what)
{
    char why[STORE_WHY_BYTES];
    int err;

    if (rc == SQLITE_OK || rc == SQLITE_DONE || rc == SQLITE_ROW)
        return ERR_OK;
    err = err_code(db, rc);
    snprintf(why, sizeof why, "%s: %s%s", what,
             db->sql ? sqlite3_errmsg(db->sql) : sqlite3_errstr(rc),
             err == ERR_INVALID ? " (it is damaged)" : "");
    if (strcmp(why, db->why) != 0 ||
        now_read().mono_us - db->told_us > (uint64_t)TOLD_EVERY_MS * 1000) {
        log_error("journal", "%s", why);
        db->told_us = now_read().mono_us;
    }
    memcpy(db->why, why, sizeof why);
    return err;
}

const char *db_why(const struct db *db)
{
    return db->why;
}

static int run(struct db *db, const char *sql)
{
    return err_of(db, sqlite3_exec(db->sql, sql, NULL, NULL, NULL), "cannot run a statement");
}

static int prepare(struct db *db, const char *sql, sqlite3_stmt **out)
{
    return err_of(db, sqlite3_prepare_v2(db->sql, sql, -1, out, NULL), "cannot read the schema");
}

static int meta_put(struct db *db, const char *name, const void *value, size_t n)
{
    sqlite3_stmt *st;
    int rc = prepare(db, "INSERT OR REPLACE INTO meta VALUES(?,?)", &st);

    if (rc != ERR_OK)
        return rc;
    sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_blob(st, 2, value, (int)n, SQLITE_STATIC);
    rc = err_of(db, sqlite3_step(st), "cannot write");
    sqlite3_finalize(st);
    return rc;
}

/* Exactly n bytes, else ERR_INVALID. */
static int meta_get(struct db *db, const char *name, void *value, size_t n)
{
    sqlite3_stmt *st;
    int rc = prepare(db, "SELECT value FROM meta WHERE name = ?", &st), step;

    if (rc != ERR_OK)
        return rc;
    sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
    step = sqlite3_step(st);
    rc = err_of(db, step, "cannot read");
    if (rc == ERR_OK && (step != SQLITE_ROW || (size_t)sqlite3_column_bytes(st, 0) != n))
        rc = ERR_INVALID;
    if (rc == ERR_OK)
        memcpy(value, sqlite3_column_blob(st, 0), n);
    sqlite3_finalize(st);
    return rc;
}

static int single_int(struct db *db, const char *sql, int64_t *out)
{
    sqlite3_stmt *st;
    int rc = prepare(db, sql, &st), step;

    if (rc != ERR_OK)
        return rc;
    step = sqlite3_step(st);
    rc = step == SQLITE_ROW ? ERR_OK : err_of(db, step, "cannot read");
    *out = step == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    sqlite3_finalize(st);
    return rc;
}

/* ---- opening ---- */

struct identity { /* meta.identity, big-endian */
    uint8_t bytes[4 + 2 + STORE_CLUSTER_BYTES];
};

static int identity_of(const struct store_options *o, struct identity *out)
{
    struct writer w = writer_of(out->bytes, sizeof out->bytes);
    uint8_t cluster[STORE_CLUSTER_BYTES];
    int rc = journal_cluster(o->cluster, cluster);

    write_u32(&w, SCHEMA_VERSION);
    write_u16(&w, o->slot);
    write_bytes(&w, cluster, sizeof cluster);
    return rc;
}

static int write_wrapped(struct db *db, const struct cluster_key *key)
{
    uint8_t wrapped[WRAPPED_KEY_BYTES], id[4];
    struct writer w = writer_of(id, sizeof id);
    int rc = journal_wrap(db->seal, key, db->cluster, db->slot, wrapped);

    write_u32(&w, key->id);
    if (rc == ERR_OK)
        rc = meta_put(db, "key_id", id, sizeof id);
    if (rc == ERR_OK)
        rc = meta_put(db, "key", wrapped, sizeof wrapped);
    return rc;
}

static int make_schema(struct db *db, const struct store_options *o)
{
    struct identity identity;
    int rc = identity_of(o, &identity);

    db->seal = journal_seal_new();
    if (!db->seal)
        return ERR_CRYPTO;
    if (rc == ERR_OK)
        rc = run(db, schema);
    if (rc == ERR_OK)
        rc = meta_put(db, "identity", identity.bytes, sizeof identity.bytes);
    if (rc == ERR_OK)
        rc = write_wrapped(db, &o->keys[0]);
    return rc;
}

/* Whose it is. A journal of another slot is in order, and most likely somebody gave two nodes one
 * directory: ERR_CONFIG. One of another cluster is of no use to this one. */
static int check_identity(struct db *db, const struct store_options *o)
{
    struct identity ours, theirs = {{0}};
    struct reader r = reader_of(theirs.bytes, sizeof theirs.bytes);
    uint32_t version;
    uint16_t slot;
    int rc = identity_of(o, &ours);

    if (rc == ERR_OK)
        rc = meta_get(db, "identity", theirs.bytes, sizeof theirs.bytes);
    if (rc != ERR_OK)
        return rc;
    version = read_u32(&r);
    slot = read_u16(&r);
    if (version != SCHEMA_VERSION) {
        log_error("journal", "%s has layout %u, and this version reads %d", o->path, version,
                  SCHEMA_VERSION);
        return ERR_INVALID;
    }
    if (memcmp(r.p, ours.bytes + sizeof ours.bytes - STORE_CLUSTER_BYTES, STORE_CLUSTER_BYTES) !=
        0) {
        log_error("journal", "%s is of another cluster than %s", o->path, o->cluster);
        return ERR_INVALID;
    }
    if (slot != o->slot) {
        log_error("journal",
                  "%s is the journal of slot %u, and this node is slot %u: give each node a "
                  "state_dir of its own; after a change of node.slot, move the file away to begin "
                  "a new one",
                  o->path, slot, o->slot);
        return ERR_CONFIG;
    }
    return ERR_OK;
}

/* Opens the journal key with the cluster key that wrapped it; wraps it anew under the first.
 * ERR_CONFIG: none of ours did. */
static int open_key(struct db *db, const struct store_options *o)
{
    uint8_t wrapped[WRAPPED_KEY_BYTES], id[4];
    struct reader r;
    uint32_t key_id;
    int rc = meta_get(db, "key_id", id, sizeof id);

    if (rc == ERR_OK)
        rc = meta_get(db, "key", wrapped, sizeof wrapped);
    if (rc != ERR_OK)
        return rc;
    r = reader_of(id, sizeof id);
    key_id = read_u32(&r);
    for (size_t i = 0; i < o->n_keys && !db->seal; i++)
        if (o->keys[i].id == key_id)
            (void)journal_unwrap(wrapped, &o->keys[i], o->cluster, o->slot, &db->seal);
    if (!db->seal) {
        /* Not damage but most likely a wrong key file: setting a good journal aside would lose it.
         */
        log_error(
            "journal",
            "%s is sealed under a cluster key that is not configured (id %u): put the right key "
            "into key_file, or move the journal away to begin a new one",
            o->path, key_id);
        return ERR_CONFIG;
    }
    return key_id == o->keys[0].id ? ERR_OK : write_wrapped(db, &o->keys[0]);
}

int db_check(struct db *db)
{
    sqlite3_stmt *st;
    int rc = prepare(db, "PRAGMA quick_check(1)", &st), step;

    if (rc != ERR_OK)
        return rc;
    step = sqlite3_step(st);
    rc = err_of(db, step, "quick_check");
    if (rc == ERR_OK && (step != SQLITE_ROW || !sqlite3_column_text(st, 0) ||
                         strcmp((const char *)sqlite3_column_text(st, 0), "ok") != 0)) {
        log_error("journal", "quick_check found damage");
        rc = ERR_INVALID;
    }
    sqlite3_finalize(st);
    return rc;
}

/* Inside one exclusive transaction: make what is new, check what is old. */
static int found(struct db *db, const struct store_options *o, bool *fresh)
{
    int64_t tables = 0, application = 0, version = 0;
    int rc = single_int(db, "SELECT count(*) FROM sqlite_master", &tables);

    if (rc == ERR_OK)
        rc = single_int(db, "PRAGMA application_id", &application);
    if (rc != ERR_OK)
        return rc;
    *fresh = tables == 0 && application == 0;
    if (*fresh)
        return make_schema(db, o);
    rc = single_int(db, "PRAGMA user_version", &version);
    if (rc != ERR_OK)
        return rc;
    if (application != APPLICATION_ID) {
        log_error("journal", "%s is a database, but not an anysa journal", o->path);
        return ERR_INVALID;
    }
    if (version != SCHEMA_VERSION || !store_vfs_guards(db->sql)) {
        log_error("journal", "%s has layout %lld, and this version reads %d", o->path,
                  (long long)version, SCHEMA_VERSION);
        return ERR_INVALID;
    }
    rc = check_identity(db, o);
    return rc == ERR_OK ? open_key(db, o) : rc;
}

/* A journal that is refused or set aside stays as it was found, its log included. */
static void keep_log(struct db *db, bool keep)
{
    (void)sqlite3_db_config(db->sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, (int)keep, NULL);
}

static int open_sql(struct db *db, const struct store_options *o)
{
    const char *vfs = store_vfs();
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    char sql[256];

    if (!vfs)
        return ERR_IO;
    if (err_of(db, sqlite3_open_v2(o->path, &db->sql, flags, vfs), "cannot open") != ERR_OK)
        return ERR_IO;
    if (!store_vfs_reserve(db->sql))
        return ERR_IO;
    keep_log(db, true);
    snprintf(sql, sizeof sql,
             "PRAGMA locking_mode=EXCLUSIVE; PRAGMA page_size=%d; PRAGMA journal_mode=WAL;"
             "PRAGMA journal_size_limit=%d; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON;"
             "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; BEGIN EXCLUSIVE",
             JOURNAL_PAGE_BYTES, LOG_KEPT_BYTES);
    return run(db, sql);
}

/* A file with our mode before SQLite sees it; its log gets the same. */
static int private_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int rc = fd >= 0 && fchmod(fd, 0600) == 0 ? ERR_OK : ERR_IO;

    if (fd >= 0)
        close(fd);
    if (rc != ERR_OK)
        log_error("journal", "cannot open %s: %m", path);
    return rc;
}

int db_open(const struct store_options *o, struct db **out, bool *fresh)
{
    struct db *db = calloc(1, sizeof *db);
    int rc;

    *out = NULL;
    *fresh = false;
    if (!db || o->n_keys == 0) {
        free(db);
        return ERR_NOMEM;
    }
    db->slot = o->slot;
    snprintf(db->cluster, sizeof db->cluster, "%s", o->cluster);
    db->plain = secret_alloc(BODY_MAX);
    db->sealed = malloc(BODY_MAX + SEAL_OVERHEAD_BYTES);
    rc = db->plain && db->sealed ? private_file(o->path) : ERR_NOMEM;
    if (rc == ERR_OK)
        rc = open_sql(db, o);
    if (rc == ERR_OK)
        rc = found(db, o, fresh);
    if (rc == ERR_OK && *fresh) {
        char sql[96];
        snprintf(sql, sizeof sql, "PRAGMA application_id=%d; PRAGMA user_version=%d",
                 APPLICATION_ID, SCHEMA_VERSION);
        rc = run(db, sql);
    }
    if (rc == ERR_OK)
        rc = run(db, "COMMIT");
    for (int i = 0; rc == ERR_OK && i < STATEMENTS; i++)
        rc = prepare(db, statements[i], &db->prepared[i]);
    if (rc != ERR_OK) {
        db_close(db);
        return rc;
    }
    *out = db;
    return ERR_OK;
}

void db_accept(struct db *db)
{
    keep_log(db, false);
}

static int reader_sql(struct db *db, const struct store_options *o)
{
    const char *vfs = store_vfs_reader();
    int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX;

    if (!vfs || err_of(db, sqlite3_open_v2(o->path, &db->sql, flags, vfs), "cannot open") != ERR_OK)
        return ERR_IO;
    keep_log(db, true);
    return run(db, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA query_only=ON;"
                   "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON");
}

int db_open_reader(const struct store_options *o, struct db **out)
{
    struct db *db = calloc(1, sizeof *db);
    int rc = ERR_NOMEM;

    *out = NULL;
    if (!db)
        return rc;
    db->slot = o->slot;
    db->plain = secret_alloc(BODY_MAX);
    if (db->plain)
        rc = reader_sql(db, o);
    if (rc == ERR_OK)
        rc = open_key(db, o);
    if (rc == ERR_OK)
        rc = prepare(db, "SELECT kind, key, body FROM records WHERE not_after > ?", &db->reading);
    if (rc != ERR_OK) {
        db_close(db);
        return rc;
    }
    sqlite3_bind_int64(db->reading, 1, now_read().wall_ms);
    *out = db;
    return ERR_OK;
}

void db_close(struct db *db)
{
    if (!db)
        return;
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(db->prepared[i]);
    sqlite3_finalize(db->reading);
    sqlite3_close(db->sql);
    journal_seal_free(db->seal);
    secret_free(db->plain, BODY_MAX);
    free(db->sealed);
    free(db);
}

/* ---- reading ---- */

static bool room(void *array, size_t n, size_t *cap, size_t size)
{
    void **a = array, *more;

    if (n < *cap)
        return true;
    more = realloc(*a, (*cap ? *cap * 2 : 64) * size);
    if (!more)
        return false;
    *a = more;
    *cap = *cap ? *cap * 2 : 64;
    return true;
}

static int read_record(struct db *db, sqlite3_stmt *st, struct record **out)
{
    uint8_t kind = (uint8_t)sqlite3_column_int(st, 0);
    uint64_t key = (uint64_t)sqlite3_column_int64(st, 1);
    const uint8_t *body = sqlite3_column_blob(st, 2);
    size_t n = (size_t)sqlite3_column_bytes(st, 2), n_plain = 0;
    int rc = ERR_INVALID;

    *out = NULL;
    if (body && n <= BODY_MAX + SEAL_OVERHEAD_BYTES)
        rc = journal_open_row(db->seal, kind, key, body, n, db->plain, &n_plain);
    if (rc == ERR_OK)
        rc = codec_record_decode((struct slice){db->plain, n_plain}, out);
    wipe(db->plain, n_plain);
    if (rc == ERR_OK && ((*out)->kind != kind || record_key(*out) != key)) {
        record_free(*out);
        *out = NULL;
        rc = ERR_INVALID;
    }
    return rc == ERR_NOMEM ? rc : rc == ERR_OK ? ERR_OK : ERR_INVALID;
}

size_t db_expected_records(struct db *reader)
{
    enum { RECORDS_PER_PAGE = 6 };
    int64_t pages = 0;

    (void)single_int(reader, "PRAGMA page_count", &pages);
    return pages > 0 ? (size_t)pages * RECORDS_PER_PAGE : 0;
}

int db_read_some(struct db *reader, struct record **out, size_t most, size_t *n)
{
    int step = SQLITE_ROW, rc = ERR_OK;

    *n = 0;
    if (!reader->reading)
        return ERR_OK;
    while (rc == ERR_OK && *n < most && (step = sqlite3_step(reader->reading)) == SQLITE_ROW) {
        rc = read_record(reader, reader->reading, &out[*n]);
        if (rc == ERR_OK)
            ++*n;
        else
            log_error("journal", "a record cannot be read: %s", err_text(rc));
    }
    if (rc == ERR_OK)
        rc = err_of(reader, step, "cannot read records");
    if (step != SQLITE_ROW) { /* another step would begin anew */
        sqlite3_finalize(reader->reading);
        reader->reading = NULL;
    }
    return rc;
}

static int read_vector(struct db *db, struct sync_recovery *recovery)
{
    sqlite3_stmt *st;
    size_t cap = 0;
    int rc = prepare(db, "SELECT origin, slot, seq FROM vector", &st), step = SQLITE_DONE;

    if (rc != ERR_OK)
        return rc;
    while (rc == ERR_OK && (step = sqlite3_step(st)) == SQLITE_ROW) {
        struct sync_position *p;
        if (!room(&recovery->vector, recovery->n_vector, &cap, sizeof *recovery->vector))
            rc = ERR_NOMEM;
        else if (sqlite3_column_bytes(st, 0) != ID_BYTES || sqlite3_column_int(st, 1) < 0 ||
                 sqlite3_column_int(st, 1) > SLOT_MAX)
            rc = ERR_INVALID;
        if (rc != ERR_OK)
            break;
        p = &recovery->vector[recovery->n_vector++];
        memcpy(p->origin.b, sqlite3_column_blob(st, 0), ID_BYTES);
        p->slot = (uint16_t)sqlite3_column_int(st, 1);
        p->seq = (uint64_t)sqlite3_column_int64(st, 2);
    }
    if (rc == ERR_OK)
        rc = err_of(db, step, "cannot read the vector");
    sqlite3_finalize(st);
    return rc;
}

static int read_epochs(struct db *db, uint16_t own_slot, struct sync_recovery *recovery)
{
    sqlite3_stmt *st;
    size_t cap = 0;
    int rc = prepare(db, "SELECT slot, epoch FROM epochs", &st), step = SQLITE_DONE;

    if (rc != ERR_OK)
        return rc;
    while (rc == ERR_OK && (step = sqlite3_step(st)) == SQLITE_ROW) {
        int64_t slot = sqlite3_column_int64(st, 0), epoch = sqlite3_column_int64(st, 1);
        if (slot < 0 || slot > SLOT_MAX || epoch < 0 || epoch > EPOCH_MAX)
            rc = ERR_INVALID;
        else if (slot == own_slot)
            recovery->epoch = (uint32_t)epoch;
        else if (!room(&recovery->epochs, recovery->n_epochs, &cap, sizeof *recovery->epochs))
            rc = ERR_NOMEM;
        else
            recovery->epochs[recovery->n_epochs++] =
                (struct sync_epoch){(uint16_t)slot, (uint32_t)epoch};
    }
    if (rc == ERR_OK)
        rc = err_of(db, step, "cannot read the epochs");
    sqlite3_finalize(st);
    return rc;
}

int db_read_rest(struct db *db, const struct store_options *options, struct sync_recovery *recovery)
{
    int rc = read_vector(db, recovery);

    return rc == ERR_OK ? read_epochs(db, options->slot, recovery) : rc;
}

/* ---- writing ---- */

static int step_once(struct db *db, enum statement which)
{
    int rc = err_of(db, sqlite3_step(db->prepared[which]), "cannot write");

    sqlite3_reset(db->prepared[which]);
    sqlite3_clear_bindings(db->prepared[which]);
    return rc;
}

static int write_record(struct db *db, const struct record *r)
{
    sqlite3_stmt *st = db->prepared[PUT_RECORD];
    const struct id128 *lineage = record_lineage(r);
    uint64_t key = record_key(r);
    size_t n;
    int rc = codec_record_encode(r, db->plain, BODY_MAX, &n);

    if (rc == ERR_OK)
        rc = journal_seal_row(db->seal, r->kind, key, db->plain, n, db->sealed);
    wipe(db->plain, n);
    if (rc != ERR_OK)
        return rc;
    sqlite3_bind_int(st, 1, r->kind);
    sqlite3_bind_int64(st, 2, (int64_t)key);
    if (lineage)
        sqlite3_bind_blob(st, 3, lineage->b, ID_BYTES, SQLITE_STATIC);
    sqlite3_bind_blob(st, 4, r->origin.b, ID_BYTES, SQLITE_STATIC);
    sqlite3_bind_int64(st, 5, (int64_t)r->seq);
    sqlite3_bind_int(st, 6, record_state(r));
    sqlite3_bind_int64(st, 7, record_keep_until_ms(r));
    sqlite3_bind_blob(st, 8, db->sealed, (int)(n + SEAL_OVERHEAD_BYTES), SQLITE_STATIC);
    return step_once(db, PUT_RECORD);
}

static int write_epoch(struct db *db, uint16_t slot, uint32_t epoch)
{
    sqlite3_bind_int(db->prepared[PUT_EPOCH], 1, slot);
    sqlite3_bind_int64(db->prepared[PUT_EPOCH], 2, epoch);
    return step_once(db, PUT_EPOCH);
}

static int write_batch(struct db *db, const struct sync_batch *b)
{
    int rc = ERR_OK;

    for (size_t i = 0; rc == ERR_OK && i < b->n_records; i++)
        rc = write_record(db, b->records[i]);
    for (size_t i = 0; rc == ERR_OK && i < b->n_vector; i++) {
        sqlite3_stmt *st = db->prepared[PUT_VECTOR];
        sqlite3_bind_blob(st, 1, b->vector[i].origin.b, ID_BYTES, SQLITE_STATIC);
        sqlite3_bind_int(st, 2, b->vector[i].slot);
        sqlite3_bind_int64(st, 3, (int64_t)b->vector[i].seq);
        rc = step_once(db, PUT_VECTOR);
    }
    for (size_t i = 0; rc == ERR_OK && i < b->n_epochs; i++)
        rc = write_epoch(db, b->epochs[i].slot, b->epochs[i].epoch);
    if (rc == ERR_OK && b->epoch)
        rc = write_epoch(db, db->slot, b->epoch);
    return rc;
}

/* Ends a transaction; leaves none open whatever happens. */
static int end(struct db *db, int rc)
{
    if (rc == ERR_OK)
        rc = step_once(db, COMMIT);
    if (rc != ERR_OK && !sqlite3_get_autocommit(db->sql))
        (void)run(db, "ROLLBACK");
    return rc;
}

int db_commit(struct db *db, struct sync_batch *const *batches, size_t n)
{
    int rc = step_once(db, BEGIN);

    for (size_t i = 0; rc == ERR_OK && i < n; i++)
        rc = write_batch(db, batches[i]);
    rc = end(db, rc);
    if (rc == ERR_OK)
        db->why[0] = 0;
    return rc;
}

int db_rewrap(struct db *db, const struct cluster_key *key)
{
    int rc = step_once(db, BEGIN);

    if (rc == ERR_OK)
        rc = write_wrapped(db, key);
    return end(db, rc);
}

int db_expire(struct db *db, int64_t wall_ms)
{
    int rc = step_once(db, BEGIN);

    sqlite3_bind_int64(db->prepared[EXPIRE], 1, wall_ms);
    if (rc == ERR_OK)
        rc = step_once(db, EXPIRE);
    if (rc == ERR_OK)
        rc = step_once(db, EXPIRE_ENDPOINTS);
    if (rc == ERR_OK)
        rc = step_once(db, EXPIRE_VECTOR);
    return end(db, rc);
}
