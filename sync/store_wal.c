/* SQLite takes a write-ahead log as far as its checksums hold and forgets the rest: that is right
 * for a transaction that was being written when the power went, and silent about a flipped bit in
 * the midst of what was durable long ago. The two can be told apart. Every transaction is synced
 * before the next one is begun, so behind the first bad frame a power cut leaves frames of one
 * transaction at most: nothing follows a commit frame of the log's present salts.
 *
 * The format is SQLite's ("WAL-index format", fileformat2 §4). Integers are big-endian:
 *
 *     header 32: magic 4 | version 4 | page size 4 | checkpoint 4 | salts 8 | checksum 8
 *     frame 24 + page: page number 4 | database size after commit, else 0 4 | salts 8 | checksum 8
 *
 * The checksum goes over header and frames from the log's start, in words whose order the
 * lowest bit of the magic tells. */
#include "sync/store_wal.h"

#include <endian.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/cursor.h"
#include "sync/store_vfs.h"

enum { HEADER_BYTES = 32, FRAME_BYTES = 24, SUMMED_OF_FRAME = 8, SALT_BYTES = 8 };
static const uint32_t magic = 0x377f0682; /* words little-endian; + 1: big-endian */

struct sum {
    uint32_t a, b;
    bool big_endian;
};

static void sum_add(struct sum *s, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i + 8 <= n; i += 8) {
        uint32_t x, y;
        memcpy(&x, p + i, 4);
        memcpy(&y, p + i + 4, 4);
        x = s->big_endian ? be32toh(x) : le32toh(x);
        y = s->big_endian ? be32toh(y) : le32toh(y);
        s->a += x + s->b;
        s->b += y + s->a;
    }
}

static bool sum_is(const struct sum *s, const uint8_t *p)
{
    struct reader r = reader_of(p, 8);

    return read_u32(&r) == s->a && read_u32(&r) == s->b;
}

static bool header_ok(const uint8_t header[HEADER_BYTES], struct sum *s)
{
    struct reader r = reader_of(header, HEADER_BYTES);
    uint32_t found = read_u32(&r), page_bytes;

    (void)read_u32(&r);
    page_bytes = read_u32(&r);
    if ((found & ~UINT32_C(1)) != magic || page_bytes != JOURNAL_PAGE_BYTES)
        return false;
    *s = (struct sum){.big_endian = (found & 1) != 0};
    sum_add(s, header, HEADER_BYTES - 8);
    return sum_is(s, header + HEADER_BYTES - 8);
}

static enum wal_state look_at_frames(FILE *f, const uint8_t *salts, struct sum *s)
{
    uint8_t frame[FRAME_BYTES + JOURNAL_PAGE_BYTES];
    bool sound = true, commit_behind = false;

    while (fread(frame, sizeof frame, 1, f) == 1) {
        bool ours = memcmp(frame + SUMMED_OF_FRAME, salts, SALT_BYTES) == 0;

        if (sound && ours) {
            sum_add(s, frame, SUMMED_OF_FRAME);
            sum_add(s, frame + FRAME_BYTES, JOURNAL_PAGE_BYTES);
            if (sum_is(s, frame + FRAME_BYTES - 8))
                continue;
        }
        sound = false;
        if (ours && commit_behind)
            return WAL_DAMAGED;
        commit_behind |= ours && memcmp(frame + 4, "\0\0\0", 4) != 0;
    }
    return WAL_SOUND;
}

enum wal_state wal_look(const char *path)
{
    uint8_t header[HEADER_BYTES];
    char name[PATH_MAX];
    enum wal_state state = WAL_SOUND;
    struct stat db = {0}, wal;
    struct sum sum;
    FILE *f;

    if (snprintf(name, sizeof name, "%s-wal", path) >= (int)sizeof name ||
        !(f = fopen(name, "rbe")))
        return WAL_SOUND;
    if (fstat(fileno(f), &wal) != 0 || wal.st_size < HEADER_BYTES + FRAME_BYTES)
        state = WAL_SOUND;
    else if (stat(path, &db) != 0 || db.st_size == 0)
        state = WAL_ORPHAN;
    else if (fread(header, sizeof header, 1, f) != 1 || !header_ok(header, &sum))
        state = WAL_DAMAGED;
    else
        state = look_at_frames(f, header + 16, &sum);
    fclose(f);
    return state;
}
