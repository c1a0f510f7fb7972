#include "tests/conformance/sync/store_rig.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "sync/join.h"
#include "tests/conformance/sync/check.h"
#include "tests/unit/sync/samples.h"

enum { LOG = 50, LOG_SLOT = 1, OTHER_SLOT = 7, FIRST_SPI = 0x10000 };

void rig_begin(struct rig *rig)
{
    /* In memory: thousands of journals are made and nothing real is lost with the power. */
    snprintf(rig->directory, sizeof rig->directory, "%s/anysa-store-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    CHECK(mkdtemp(rig->directory));
    snprintf(rig->path, sizeof rig->path, "%s/journal.db", rig->directory);
    rig->key = sample_cluster_key(1);
}

void rig_clear(struct rig *rig)
{
    DIR *d = opendir(rig->directory);
    struct dirent *e;
    char name[512];

    while ((e = readdir(d)) != NULL) {
        snprintf(name, sizeof name, "%s/%s", rig->directory, e->d_name);
        (void)unlink(name);
    }
    closedir(d);
}

void rig_end(struct rig *rig)
{
    rig_clear(rig);
    (void)rmdir(rig->directory);
}

struct store_options rig_options(struct rig *rig)
{
    return (struct store_options){
        .path = rig->path, .cluster = "lab", .slot = 3, .keys = &rig->key, .n_keys = 1};
}

struct sync_batch *rig_batch(uint32_t i)
{
    struct sync_batch *b = calloc(1, sizeof *b);

    b->ticket = i;
    b->records = calloc(1, sizeof(struct record *));
    b->records[b->n_records++] = sample_at(sample_child(FIRST_SPI + i, i), LOG, LOG_SLOT, i);
    b->vector = calloc(1, sizeof *b->vector);
    b->vector[b->n_vector++] = (struct sync_position){sample_id(LOG), LOG_SLOT, i};
    b->epochs = calloc(1, sizeof *b->epochs);
    b->epochs[b->n_epochs++] = (struct sync_epoch){OTHER_SLOT, i};
    b->epoch = i;
    return b;
}

static void check_record(const struct record *r, uint32_t n, bool *seen)
{
    struct record *made;
    uint32_t i = (uint32_t)r->seq;
    enum join_result same = JOIN_BOTH;
    struct record *both = NULL;

    CHECK(r->seq >= 1 && r->seq <= n && !seen[i]);
    seen[i] = true;
    made = sample_at(sample_child(FIRST_SPI + i, i), LOG, LOG_SLOT, i);
    CHECK(r->kind == made->kind && record_key(r) == record_key(made));
    CHECK(id128_equal(&r->origin, &made->origin) && r->origin_slot == LOG_SLOT);
    CHECK(record_join(made, r, &same, &both) == ERR_OK && same == JOIN_SAME);
    record_free(made);
}

uint32_t rig_history(const struct sync_recovery *r, uint32_t least)
{
    uint32_t n = r->n_vector ? (uint32_t)r->vector[0].seq : 0;
    struct id128 log = sample_id(LOG);
    bool *seen = calloc(n + 1, sizeof *seen);

    if (n < least || r->n_records != n)
        fprintf(stderr, "%u at least, %zu records, position %u\n", least, r->n_records, n);
    CHECK(n >= least && r->n_records == n && r->n_vector == (n > 0));
    CHECK(n == 0 || (id128_equal(&r->vector[0].origin, &log) && r->vector[0].slot == LOG_SLOT));
    CHECK(r->epoch == n && r->n_epochs == (n > 0));
    CHECK(n == 0 || (r->epochs[0].slot == OTHER_SLOT && r->epochs[0].epoch == n));
    for (size_t i = 0; i < r->n_records; i++)
        check_record(r->records[i], n, seen);
    free(seen);
    return n;
}

void rig_wait(struct store *s, uint64_t ticket)
{
    bool failed;

    for (int i = 0; s->ops->poll(s, &failed) < ticket; i++) {
        CHECK(i < 20000);
        usleep(500);
    }
}

struct image image_read(const char *path)
{
    struct image image = {0};
    FILE *f = fopen(path, "rb");

    if (!f)
        return image;
    CHECK(fseek(f, 0, SEEK_END) == 0);
    image.n = (size_t)ftell(f);
    CHECK(fseek(f, 0, SEEK_SET) == 0);
    image.bytes = malloc(image.n + 1);
    CHECK(image.bytes && fread(image.bytes, 1, image.n, f) == image.n);
    fclose(f);
    return image;
}

void image_write(const struct image *image, const char *path)
{
    FILE *f;

    (void)unlink(path);
    if (image->n == 0)
        return;
    f = fopen(path, "wb");
    CHECK(f && fwrite(image->bytes, 1, image->n, f) == image->n && fclose(f) == 0);
}

void image_free(struct image *image)
{
    free(image->bytes);
    *image = (struct image){0};
}
