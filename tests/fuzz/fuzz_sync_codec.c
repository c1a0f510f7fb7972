/* Behind decryption: arbitrary bytes into the decoders. What decodes must encode, and come
 * back the same; a record that passes the check must join with itself.
 *
 * Input: 0x00 and a record's bytes, or a mesh message (its first byte tells the kind). */
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/err.h"
#include "sync/core.h"
#include "sync/join.h"

enum { ROOM = 256 * 1024 };
static uint8_t first[ROOM], second[ROOM];

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static void check_record(struct slice bytes)
{
    struct record *r, *back, *third = NULL;
    enum join_result result;
    size_t n, n_again;

    if (codec_record_decode(bytes, &r) != ERR_OK) {
        MUST(r == NULL);
        return;
    }
    MUST(codec_record_check(r) == ERR_OK);
    MUST(codec_record_encode(r, first, ROOM, &n) == ERR_OK && n == codec_record_size(r));
    MUST(n <= out_size_bound(r));
    MUST(codec_record_decode((struct slice){first, n}, &back) == ERR_OK);
    MUST(codec_record_encode(back, second, ROOM, &n_again) == ERR_OK);
    MUST(n == n_again && memcmp(first, second, n) == 0);
    record_normalise(r);
    record_normalise(back);
    MUST(codec_record_check(r) == ERR_OK);
    MUST(record_join(r, back, &result, &third) == ERR_OK && result == JOIN_SAME);
    record_free(r);
    record_free(back);
}

static bool has_unreadable(const struct codec_message *m)
{
    struct record *const *r = m->kind == CODEC_UPDATE       ? m->update.records
                              : m->kind == CODEC_PULL_REPLY ? m->pull_reply.records
                                                            : NULL;
    size_t n = m->kind == CODEC_UPDATE ? m->update.n_records : r ? m->pull_reply.n_records : 0;

    for (size_t i = 0; i < n; i++)
        if (!r[i])
            return true;
    return false;
}

static void check_message(struct slice bytes)
{
    struct codec_message m, back;
    size_t n, n_again;
    int rc;

    if (codec_decode(bytes, &m) != ERR_OK) {
        MUST(m.kind == 0);
        return;
    }
    if (has_unreadable(&m)) { /* of a newer version: read past, never written */
        codec_message_free(&m);
        return;
    }
    rc = codec_encode(&m, first, ROOM, &n);
    MUST(rc == ERR_OK || rc == ERR_FULL); /* absent fields may be written out, past the limit */
    if (rc == ERR_OK) {
        MUST(codec_decode((struct slice){first, n}, &back) == ERR_OK);
        MUST(codec_encode(&back, second, ROOM, &n_again) == ERR_OK);
        MUST(n == n_again && memcmp(first, second, n) == 0);
        codec_message_free(&back);
    }
    codec_message_free(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] == 0)
        check_record((struct slice){data + 1, size - 1});
    else
        check_message((struct slice){data, size});
    return 0;
}
