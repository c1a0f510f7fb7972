/* IVs: never one twice, whatever happens to epochs, counters and SAs. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/iv.h"
#include "proto/err.h"
#include "tests/unit/dataplane/rig.h"

static uint8_t inner[PACKET_MAX], back[PACKET_MAX];
enum { SPI = 0x01400100 };

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Sends one packet; the IV of what left, or 0 when nothing did. */
static uint64_t send_one(struct rig *rig, const struct child_record *r)
{
    struct memory_packet p;
    uint64_t iv;
    size_t n = make_udp(BEHIND_US, BEHIND_ACME, 53, 1000, 20, inner);

    push_inner(rig, inner, n);
    rig_run(rig);
    if (!pop(rig, &p))
        return 0;
    cr_assert_eq(peer_open(r, &suite_rows[0], p.bytes, p.n, back, NULL, &iv), n);
    /* the sequence number is the counter */
    cr_assert_eq((uint32_t)iv, (uint32_t)p.bytes[4] << 24 | (uint32_t)p.bytes[5] << 16 |
                                   (uint32_t)p.bytes[6] << 8 | p.bytes[7]);
    free(p.bytes);
    return iv;
}

Test(dataplane_iv, is_slot_epoch_lane_counter_from_1)
{
    struct child_record r = rig_record(&suite_rows[0], SPI, 1);
    struct rig rig;

    rig_open(&rig, NULL);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    cr_assert_eq(send_one(&rig, &r), iv_make(5, 9, 0, 1));
    cr_assert_eq(send_one(&rig, &r), iv_make(5, 9, 0, 2));
    cr_assert_eq(dp_iv_used(rig.dp), 2);
    rig_close(&rig);
}

Test(dataplane_iv, reinstalling_an_sa_resets_nothing)
{
    struct child_record r = rig_record(&suite_rows[0], SPI, 1);
    struct rig rig;

    rig_open(&rig, NULL);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    cr_assert_eq(send_one(&rig, &r), iv_make(5, 9, 0, 1));
    dp_sa_remove(rig.dp, SPI);
    cr_assert_eq(send_one(&rig, &r), 0);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    cr_assert_eq(send_one(&rig, &r), iv_make(5, 9, 0, 2));
    rig_close(&rig);
}

Test(dataplane_iv, without_an_epoch_nothing_is_sealed)
{
    struct child_record r = rig_record(&suite_rows[0], SPI, 1);
    struct rig rig;

    rig_open(&rig, NULL);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    dp_set_epoch(rig.dp, 0);
    cr_assert_eq(send_one(&rig, &r), 0);
    cr_assert_eq(drops(&rig, DROP_NO_EPOCH), 1);
    dp_set_epoch(rig.dp, 9); /* the same again: refused */
    cr_assert_eq(send_one(&rig, &r), 0);
    dp_set_epoch(rig.dp, 8);
    cr_assert_eq(send_one(&rig, &r), 0);
    dp_set_epoch(rig.dp, 10);
    cr_assert_eq(send_one(&rig, &r), iv_make(5, 10, 0, 1));
    rig_close(&rig);
}

Test(dataplane_iv, lower_equal_and_too_large_epochs_change_nothing)
{
    struct child_record r = rig_record(&suite_rows[0], SPI, 1);
    static const uint32_t refused[] = {9, 8, 1, EPOCH_MAX + 1, EPOCH_MAX + 10, UINT32_MAX};
    struct rig rig;

    rig_open(&rig, NULL);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    cr_assert_eq(send_one(&rig, &r), iv_make(5, 9, 0, 1));
    for (uint32_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        dp_set_epoch(rig.dp, refused[i]);
        cr_assert_eq(send_one(&rig, &r), iv_make(5, 9, 0, 2 + i), "%u", refused[i]);
    }
    rig_close(&rig);
}

Test(dataplane_iv, exhaustion_stops_until_a_higher_epoch)
{
    struct child_record r = rig_record(&suite_rows[0], SPI, 1);
    struct rig rig;

    rig_open(&rig, NULL);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    cr_assert_neq(send_one(&rig, &r), 0);
    rig.dp->lanes[0]->iv.last = UINT32_MAX - 2;
    cr_assert_eq(send_one(&rig, &r), iv_make(5, 9, 0, UINT32_MAX - 1));
    cr_assert_eq(send_one(&rig, &r), iv_make(5, 9, 0, UINT32_MAX));
    cr_assert_eq(dp_iv_used(rig.dp), UINT32_MAX);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(send_one(&rig, &r), 0);
    cr_assert_eq(drops(&rig, DROP_IV_EXHAUSTED), 3);
    dp_set_epoch(rig.dp, EPOCH_MAX);
    cr_assert_eq(send_one(&rig, &r), iv_make(5, EPOCH_MAX, 0, 1));
    rig_close(&rig);
}

Test(dataplane_iv, before_the_first_epoch_only_our_own_sas_are_sealed)
{
    struct child_record own = rig_record(&suite_rows[0], SPI, 1);
    struct rig rig;

    rig_open_ungranted(&rig, 3);
    cr_assert_eq(dp_sa_apply(rig.dp, &own), ERR_OK);
    cr_assert_eq(send_one(&rig, &own), 0);
    cr_assert_eq(drops(&rig, DROP_NO_EPOCH), 1);
    dp_sa_own(rig.dp, SPI);
    for (uint32_t i = 1; i <= 3; i++)
        cr_assert_eq(send_one(&rig, &own), iv_make(5, 0, 0, i));
    cr_assert_eq(send_one(&rig, &own), 0, "the counter ends there, too");
    dp_set_epoch(rig.dp, 9);
    cr_assert_eq(send_one(&rig, &own), iv_make(5, 9, 0, 1));
    dp_set_epoch(rig.dp, 0);
    cr_assert_eq(send_one(&rig, &own), 0, "never back to epoch 0");
    rig_close(&rig);
}

/* The lane does not rely on dp_set_epoch alone: a lower epoch must not restart the counter. */
Test(dataplane_iv, a_lane_never_goes_back_to_a_lower_epoch)
{
    struct iv iv = iv_of(5, 0, 0);
    uint64_t out;

    iv_grant(&iv, 9);
    cr_assert_eq(iv_next(&iv, 9, false, &out), DROP_COUNT);
    cr_assert_eq(out, iv_make(5, 9, 0, 1));
    iv_grant(&iv, 8);
    cr_assert_eq(iv_next(&iv, 8, false, &out), DROP_NO_EPOCH);
    iv_grant(&iv, EPOCH_MAX + 10); /* would look like epoch 9 in the IV's 18 bits */
    cr_assert_eq(iv_next(&iv, EPOCH_MAX + 10, true, &out), DROP_NO_EPOCH);
    iv_grant(&iv, 9);
    cr_assert_eq(iv_next(&iv, 9, false, &out), DROP_COUNT);
    cr_assert_eq(out, iv_make(5, 9, 0, 2), "where it was");
}

/* Random grants, stale grants and pauses, counters near their end: all IVs differ. */
Test(dataplane_iv, none_comes_twice_in_a_random_history)
{
    enum { STEPS = 200000 };
    uint64_t *all = calloc(STEPS, sizeof *all), state = 1;
    struct iv iv = iv_of(1022, 3, 0);
    uint32_t granted = 0, highest = 0;
    size_t n = 0;

    cr_assert_not_null(all);
    for (int i = 0; i < STEPS; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        switch (state >> 60) {
        case 0: /* what dp_set_epoch lets through */
            granted = ++highest;
            break;
        case 1:
            granted = 0;
            break;
        case 2: /* much traffic elsewhere */
            if (iv.last && iv.last < UINT32_MAX - 9)
                iv.last = UINT32_MAX - (uint32_t)(state >> 33) % 9;
            break;
        case 3: /* a grant of before, however it came */
            granted = highest ? (uint32_t)(state >> 33) % highest + 1 : 0;
            break;
        default:
            iv_grant(&iv, granted);
            if (iv_next(&iv, granted, state & 1, &all[n]) == DROP_COUNT)
                n++;
        }
    }
    cr_assert_gt(n, STEPS / 20);
    qsort(all, n, sizeof *all, by_value);
    for (size_t i = 1; i < n; i++)
        cr_assert_neq(all[i - 1], all[i]);
    free(all);
}

Test(dataplane_iv, cbc_ivs_are_random_and_sequence_numbers_the_counter)
{
    struct child_record r = rig_record(&suite_rows[2], SPI, 1);
    static uint64_t seen[600];
    struct rig rig;
    size_t n;

    rig_open(&rig, NULL);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    for (uint32_t i = 0; i < 600; i++) { /* more than the pool of a lane holds */
        struct memory_packet p;

        n = make_udp(BEHIND_US, BEHIND_ACME, 53, 1000, 20, inner);
        push_inner(&rig, inner, n);
        rig_run(&rig);
        cr_assert(pop(&rig, &p));
        cr_assert_eq(peer_open(&r, &suite_rows[2], p.bytes, p.n, back, NULL, &seen[i]), n);
        cr_assert_eq((uint32_t)p.bytes[6] << 8 | p.bytes[7], i + 1);
        free(p.bytes);
    }
    qsort(seen, 600, sizeof *seen, by_value);
    for (size_t i = 1; i < 600; i++)
        cr_assert_neq(seen[i - 1], seen[i]);
    rig_close(&rig);
}
