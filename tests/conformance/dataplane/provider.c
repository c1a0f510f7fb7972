/* What every crypto provider must do: the bytes of the RFCs for every Child suite,
 * in batches of any mix, refusing what was changed. The other side of each check
 * is the customer of tests/unit/dataplane/rig.c and scapy's packets. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/esp.h"
#include "proto/err.h"
#include "tests/unit/dataplane/rig.h"
#include "tests/unit/dataplane/vectors.h"

enum { LANES = 3, SPI = 0x01400100, MOST = 1500 };

#define EACH_PROVIDER(p)                                                                           \
    for (size_t p##_at = 0; p##_at < provider_count; p##_at++)                                     \
        for (const struct provider_ops *p = provider_table[p##_at]; p && p->usable(); p = NULL)

struct side { /* one direction of an SA of a suite */
    const struct suite_row *row;
    struct child_record record;
    struct esp_suite suite;
    struct provider_key *key;
};

static struct side open_side(const struct provider_ops *p, const struct suite_row *row,
                             uint32_t spi, bool inbound)
{
    struct side s = {.row = row, .record = rig_record(row, spi, 1)};
    struct provider_key_config config = {.lanes = LANES};

    cr_assert_eq(esp_suite_of(&row->suite, &config.suite, &config.hash), ERR_OK);
    s.suite = config.suite;
    config.encr = secret_slice(inbound ? &s.record.encr_in : &s.record.encr_out);
    config.integ = secret_slice(inbound ? &s.record.integ_in : &s.record.integ_out);
    cr_assert_eq(p->key_new(&config, &s.key), ERR_OK, "%s %s", p->name, row->name);
    return s;
}

struct work {
    struct packet p;
    uint8_t inner[MOST];
    size_t n;
    uint8_t *room;
};

static void work_open(struct work *w)
{
    *w = (struct work){.room = malloc(PACKET_ROOM)};
    cr_assert_not_null(w->room);
}

static void reset(struct work *w)
{
    w->p = (struct packet){.room = w->room, .data = w->room + PACKET_HEADROOM};
}

/* ---- sealing ---- */

Test(conformance_provider, seals_what_the_customer_opens)
{
    static struct work work[BATCH_MAX];
    static uint8_t back[PACKET_MAX];
    struct crypto_job jobs[BATCH_MAX];

    for (size_t i = 0; i < BATCH_MAX; i++)
        work_open(&work[i]);
    EACH_PROVIDER(p)
    {
        struct side sides[8];

        for (size_t s = 0; s < 8; s++)
            sides[s] = open_side(p, &suite_rows[s], SPI + 16 * (uint32_t)s, false);
        for (size_t batch = 1; batch <= BATCH_MAX; batch = batch * 2 + 1) {
            unsigned lane = (unsigned)batch % LANES;

            for (size_t i = 0; i < batch; i++) {
                struct side *side = &sides[(i * 5 + batch) % 8];
                uint8_t iv[16] = {(uint8_t)batch, (uint8_t)i, 7};

                reset(&work[i]);
                work[i].n = make_udp("10.0.0.1", "10.0.0.2", 1, 2, i * 23 % 1400, work[i].inner);
                memcpy(work[i].p.data, work[i].inner, work[i].n);
                work[i].p.n = (uint32_t)work[i].n;
                cr_assert(
                    esp_wrap(&work[i].p, &side->suite, side->record.spi_out, 9, iv, 4, &jobs[i]));
                jobs[i].key = side->key;
            }
            p->seal_batch(lane, jobs, batch);
            for (size_t i = 0; i < batch; i++) {
                struct side *side = &sides[(i * 5 + batch) % 8];

                cr_assert(jobs[i].ok);
                cr_assert_eq(peer_open(&side->record, side->row, work[i].p.data, work[i].p.n, back,
                                       NULL, NULL),
                             work[i].n, "%s %s", p->name, side->row->name);
                cr_assert_eq(memcmp(back, work[i].inner, work[i].n), 0);
            }
        }
        for (size_t s = 0; s < 8; s++)
            p->key_free(sides[s].key);
    }
    for (size_t i = 0; i < BATCH_MAX; i++)
        free(work[i].room);
}

/* ---- opening, with some packets of the batch changed ---- */

Test(conformance_provider, opens_what_is_right_and_nothing_else)
{
    static struct work work[BATCH_MAX];
    struct crypto_job jobs[BATCH_MAX];

    for (size_t i = 0; i < BATCH_MAX; i++)
        work_open(&work[i]);
    EACH_PROVIDER(p)
    {
        struct side sides[8];

        for (size_t s = 0; s < 8; s++)
            sides[s] = open_side(p, &suite_rows[s], SPI + 16 * (uint32_t)s, true);
        for (size_t round = 0; round < 40; round++) {
            for (size_t i = 0; i < BATCH_MAX; i++) {
                struct side *side = &sides[(i * 3 + round) % 8];

                reset(&work[i]);
                work[i].n =
                    make_udp("10.0.0.1", "10.0.0.2", 1, 2, (i * 31 + round) % 1400, work[i].inner);
                work[i].p.n = (uint32_t)peer_seal(&side->record, side->row, work[i].inner,
                                                  work[i].n, NULL, work[i].p.data);
                if (i % 3 == 0)
                    work[i].p.data[4 + (i * 37 + round * 11) % (work[i].p.n - 4)] ^= 0x10;
                cr_assert(esp_unwrap(&work[i].p, &side->suite, &jobs[i]));
                jobs[i].key = side->key;
            }
            p->open_batch((unsigned)round % LANES, jobs, BATCH_MAX);
            for (size_t i = 0; i < BATCH_MAX; i++) {
                struct side *side = &sides[(i * 3 + round) % 8];
                uint8_t next;

                cr_assert_eq(jobs[i].ok, i % 3 != 0, "%s %s", p->name, side->row->name);
                if (!jobs[i].ok)
                    continue;
                cr_assert(esp_finish(&work[i].p, &side->suite, &next));
                cr_assert_eq(next, 4);
                cr_assert_eq(work[i].p.n, work[i].n);
                cr_assert_eq(memcmp(work[i].p.data, work[i].inner, work[i].n), 0);
            }
        }
        for (size_t s = 0; s < 8; s++)
            p->key_free(sides[s].key);
    }
    for (size_t i = 0; i < BATCH_MAX; i++)
        free(work[i].room);
}

/* ---- packets of another implementation, both ways ---- */

Test(conformance_provider, agrees_with_another_implementation)
{
    static uint8_t room[PACKET_ROOM], esp[PACKET_MAX], inner[PACKET_MAX];

    EACH_PROVIDER(p)
    {
        for (size_t i = 0; i < sizeof esp_vectors / sizeof *esp_vectors; i++) {
            const struct esp_vector *v = &esp_vectors[i];
            struct suite suite = {v->encr, v->encr_bits, 0, v->integ, 0};
            struct provider_key_config config = {.lanes = 1};
            struct packet packet = {.room = room, .data = room + PACKET_HEADROOM};
            uint8_t key[64], mac[64], iv[16], next;
            struct provider_key *handle;
            struct crypto_job job;
            size_t n = from_hex(v->esp, esp), plain = from_hex(v->inner, inner);

            cr_assert_eq(esp_suite_of(&suite, &config.suite, &config.hash), ERR_OK);
            config.encr = (struct slice){key, from_hex(v->encr_key, key)};
            config.integ = (struct slice){mac, from_hex(v->integ_key, mac)};
            cr_assert_eq(p->key_new(&config, &handle), ERR_OK);

            memcpy(packet.data, inner, plain);
            packet.n = (uint32_t)plain;
            from_hex(v->iv, iv);
            cr_assert(esp_wrap(&packet, &config.suite, v->spi, v->sequence, iv,
                               inner[0] >> 4 == 4 ? 4 : 41, &job));
            job.key = handle;
            p->seal_batch(0, &job, 1);
            cr_assert(job.ok && packet.n == n && memcmp(packet.data, esp, n) == 0, "%s", v->name);

            cr_assert(esp_unwrap(&packet, &config.suite, &job));
            job.key = handle;
            p->open_batch(0, &job, 1);
            cr_assert(job.ok && esp_finish(&packet, &config.suite, &next));
            cr_assert(packet.n == plain && memcmp(packet.data, inner, plain) == 0, "%s", v->name);
            p->key_free(handle);
        }
    }
}

/* ---- keys ---- */

Test(conformance_provider, wrong_key_lengths_are_refused)
{
    static const uint8_t zeros[64];

    EACH_PROVIDER(p)
    {
        for (size_t s = 0; s < suite_row_count; s++) {
            const struct suite_row *row = &suite_rows[s];
            size_t right = (size_t)row->key + row->salt;

            for (size_t n = 0; n <= sizeof zeros; n++) {
                struct provider_key_config config = {.lanes = 1, .encr = {zeros, n}};
                struct provider_key *key = NULL;

                cr_assert_eq(esp_suite_of(&row->suite, &config.suite, &config.hash), ERR_OK);
                config.integ = (struct slice){zeros, row->mac_key};
                /* one length may serve two suites: 128 and 256 bits are told apart by the length */
                if (n == right || (row->key && (n == 16u + row->salt || n == 32u + row->salt)))
                    continue;
                cr_assert_eq(p->key_new(&config, &key), ERR_INVALID, "%s %zu", row->name, n);
                cr_assert_null(key);
            }
        }
        p->key_free(NULL);
    }
}

Test(conformance_provider, are_found_by_name)
{
    cr_assert_not_null(provider_find("auto"));
    cr_assert_eq(provider_find("openssl"), &provider_openssl);
    cr_assert_null(provider_find("no such"));
}
