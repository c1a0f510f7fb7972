#include <criterion/criterion.h>
#include <string.h>

#include "proto/err.h"
#include "sync/frame.h"
#include "tests/unit/sync/samples.h"

static struct frame_box *box_of(uint32_t key_id, uint16_t slot, uint32_t incarnation)
{
    struct cluster_key key = sample_cluster_key(key_id);
    struct id128 id = sample_id(incarnation);

    return frame_box_new("lab", &key, 1, slot, &id);
}

static enum frame_refusal open_it(struct frame_box *box, const uint8_t *p, size_t n,
                                  const struct frame_binding *reply_to, uint8_t *plain,
                                  size_t *n_out)
{
    struct frame_header h;
    enum frame_refusal why = frame_peek(box, (struct slice){p, n}, &h);

    *n_out = 0;
    return why == FRAME_TAKEN ? frame_open(box, (struct slice){p, n}, &h, reply_to, plain, n_out)
                              : why;
}

Test(sync_frame, a_header_says_what_it_should)
{
    struct frame_box *a = box_of(1, 7, 100), *b = box_of(1, 8, 101);
    uint8_t sealed[128], plain[128];
    struct id128 id = sample_id(100);
    struct frame_header h;
    size_t n;

    cr_assert_eq(frame_seal(a, FRAME_PUB, 8, NULL, (const uint8_t *)"hello", 5, sealed), ERR_OK);
    cr_assert_eq(frame_peek(b, (struct slice){sealed, 5 + FRAME_OVERHEAD_BYTES}, &h), FRAME_TAKEN);
    cr_assert(h.channel == FRAME_PUB && h.slot == 7 && h.to_slot == 8 && h.key_id == 1);
    cr_assert(h.number == 1 && id128_equal(&h.incarnation, &id));
    cr_assert_eq(open_it(b, sealed, 5 + FRAME_OVERHEAD_BYTES, NULL, plain, &n), FRAME_TAKEN);
    cr_assert(n == 5 && memcmp(plain, "hello", 5) == 0);
    cr_assert_null(memmem(sealed, sizeof sealed, "hello", 5));
    frame_box_free(a);
    frame_box_free(b);
}

/* One counter for all channels: no nonce comes twice. */
Test(sync_frame, numbers_never_recur_across_channels)
{
    struct frame_box *a = box_of(1, 7, 100);
    struct frame_binding to = {sample_id(5), 9};
    uint8_t sealed[128];
    struct frame_header h;

    for (uint64_t i = 1; i <= 30; i++) {
        enum frame_channel channel = (enum frame_channel)(1 + i % 3);
        cr_assert_eq(
            frame_seal(a, channel, 1, channel == FRAME_REPLY ? &to : NULL, NULL, 0, sealed),
            ERR_OK);
        cr_assert_eq(frame_peek(a, (struct slice){sealed, FRAME_OVERHEAD_BYTES}, &h), FRAME_TAKEN);
        cr_assert_eq(h.number, i);
    }
    frame_box_free(a);
}

Test(sync_frame, every_bit_is_authenticated)
{
    struct frame_box *a = box_of(1, 7, 100), *b = box_of(1, 8, 101);
    uint8_t sealed[5 + FRAME_OVERHEAD_BYTES], plain[128];
    size_t n;

    cr_assert_eq(frame_seal(a, FRAME_PUB, FRAME_TO_ALL, NULL, (const uint8_t *)"hello", 5, sealed),
                 ERR_OK);
    for (size_t bit = 0; bit < 8 * sizeof sealed; bit++) {
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert_neq(open_it(b, sealed, sizeof sealed, NULL, plain, &n), FRAME_TAKEN, "bit %zu",
                      bit);
        cr_assert_eq(n, 0u);
        sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    cr_assert_eq(open_it(b, sealed, sizeof sealed, NULL, plain, &n), FRAME_TAKEN);
    frame_box_free(a);
    frame_box_free(b);
}

Test(sync_frame, a_reply_is_bound_to_its_request)
{
    struct frame_box *a = box_of(1, 7, 100), *b = box_of(1, 8, 101);
    struct frame_binding right = {sample_id(101), 42}, other_nonce = {sample_id(101), 43};
    struct frame_binding other_life = {sample_id(102), 42};
    uint8_t sealed[128], plain[128];
    size_t n;

    cr_assert_eq(frame_seal(a, FRAME_REPLY, 8, &right, (const uint8_t *)"hello", 5, sealed),
                 ERR_OK);
    cr_assert_eq(open_it(b, sealed, 5 + FRAME_OVERHEAD_BYTES, &other_nonce, plain, &n),
                 REFUSED_AUTH);
    cr_assert_eq(open_it(b, sealed, 5 + FRAME_OVERHEAD_BYTES, &other_life, plain, &n),
                 REFUSED_AUTH);
    cr_assert_eq(open_it(b, sealed, 5 + FRAME_OVERHEAD_BYTES, NULL, plain, &n), REFUSED_AUTH);
    cr_assert_eq(open_it(b, sealed, 5 + FRAME_OVERHEAD_BYTES, &right, plain, &n), FRAME_TAKEN);
    frame_box_free(a);
    frame_box_free(b);
}

/* Rotation: who holds both keys opens both and seals with the first. */
Test(sync_frame, two_keys_are_live_at_once)
{
    struct cluster_key both[2] = {sample_cluster_key(2), sample_cluster_key(1)};
    struct id128 id = sample_id(103);
    struct frame_box *old = box_of(1, 7, 100), *new = box_of(2, 8, 101);
    struct frame_box *between = frame_box_new("lab", both, 2, 9, &id);
    uint8_t sealed[128], plain[128];
    size_t n;

    cr_assert_eq(frame_seal(old, FRAME_PUB, FRAME_TO_ALL, NULL, plain, 1, sealed), ERR_OK);
    cr_assert_eq(open_it(between, sealed, 1 + FRAME_OVERHEAD_BYTES, NULL, plain, &n), FRAME_TAKEN);
    cr_assert_eq(open_it(new, sealed, 1 + FRAME_OVERHEAD_BYTES, NULL, plain, &n), REFUSED_KEY);
    cr_assert_eq(frame_seal(between, FRAME_PUB, FRAME_TO_ALL, NULL, plain, 1, sealed), ERR_OK);
    cr_assert_eq(open_it(new, sealed, 1 + FRAME_OVERHEAD_BYTES, NULL, plain, &n), FRAME_TAKEN);
    cr_assert_eq(open_it(old, sealed, 1 + FRAME_OVERHEAD_BYTES, NULL, plain, &n), REFUSED_KEY);
    frame_box_free(old);
    frame_box_free(new);
    frame_box_free(between);
}

/* More incarnations than contexts are kept: the oldest are made anew, nothing else changes. */
Test(sync_frame, many_senders)
{
    struct frame_box *receiver = box_of(1, 8, 101);
    uint8_t sealed[128], plain[128];
    size_t n;

    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < 300; i++) {
            struct frame_box *sender = box_of(1, 7, 1000 + i);
            cr_assert_eq(frame_seal(sender, FRAME_PUB, 8, NULL, (const uint8_t *)"x", 1, sealed),
                         ERR_OK);
            cr_assert_eq(open_it(receiver, sealed, 1 + FRAME_OVERHEAD_BYTES, NULL, plain, &n),
                         FRAME_TAKEN);
            frame_box_free(sender);
        }
    frame_box_free(receiver);
}

Test(sync_frame, reasons_have_names)
{
    cr_assert_str_eq(frame_refusal_name(REFUSED_REPLAY), "REPLAY");
    for (enum frame_refusal r = 0; r < REFUSED_COUNT; r++)
        cr_assert(strlen(frame_refusal_text(r)) > 5);
}

/* ---- the window: number, is it taken? ---- */

Test(sync_window, takes_each_number_once)
{
    static const struct {
        uint64_t number;
        bool taken;
    } story[] = {
        /* clang-format off */
        {0, false},         /* never given out */
        {1, true},          {1, false},
        {5, true},          {3, true},
        {3, false},         {5, false},
        {63, true},         {64, true},
        {65, true},         {64, false},
        {2, true},          {1000, true},
        {64, false},        {66, true},
        {1023, true},       {1024, true}, /* the first word leaves */
        {4, false},         {66, false},
        {67, true},         {100000, true},
        {1025, false},      {99999, true},
        {100000, false},    {99040, true},
        {98000, false},     {UINT64_MAX, true},
        {UINT64_MAX, false}, {UINT64_MAX - 1, true},
        {100001, false},
        /* clang-format on */
    };
    struct frame_window w = {0};

    for (size_t i = 0; i < sizeof story / sizeof *story; i++)
        cr_assert_eq(frame_window_take(&w, story[i].number), story[i].taken, "%zu: %lu", i,
                     story[i].number);
}

Test(sync_window, starts_with_nothing_below)
{
    for (uint64_t start = 1; start < 300; start++) {
        struct frame_window w;
        frame_window_start(&w, start);
        for (uint64_t i = 1; i <= start; i++)
            cr_assert(!frame_window_take(&w, i));
        for (uint64_t i = start + 1; i < start + 200; i++)
            cr_assert(frame_window_take(&w, i));
    }
}

/* A rotation, seen by two members that are never at the same step but the next one. */
Test(sync_frame, keys_change_while_frames_go_on)
{
    struct cluster_key old = sample_cluster_key(1), fresh = sample_cluster_key(2);
    const struct cluster_key steps[][2] = {{old, fresh}, {fresh, old}, {fresh}};
    const size_t n_keys[] = {2, 2, 1};
    struct frame_box *a = box_of(1, 7, 100), *b = box_of(1, 8, 101), *stale = box_of(1, 9, 102);
    uint8_t sealed[128], plain[128];
    struct frame_key told[FRAME_KEYS_MAX];
    uint64_t number = 0;
    struct frame_header h;
    size_t n;

    for (size_t i = 0; i < 3; i++) {
        struct frame_box *const order[] = {a, b};
        for (size_t k = 0; k < 2; k++) {
            cr_assert_eq(frame_box_set_keys(order[k], steps[i], n_keys[i]), ERR_OK);
            for (size_t way = 0; way < 2; way++) {
                cr_assert_eq(
                    frame_seal(order[way], FRAME_PUB, 1, NULL, (const uint8_t *)"hello", 5, sealed),
                    ERR_OK);
                cr_expect_eq(
                    open_it(order[!way], sealed, 5 + FRAME_OVERHEAD_BYTES, NULL, plain, &n),
                    FRAME_TAKEN, "step %zu.%zu, way %zu", i, k, way);
                cr_assert_eq(
                    frame_peek(order[way], (struct slice){sealed, 5 + FRAME_OVERHEAD_BYTES}, &h),
                    FRAME_TAKEN);
                if (way == 0)
                    cr_expect_eq(h.number, ++number, "no nonce comes twice");
            }
        }
    }
    cr_assert_eq(frame_box_keys(a, told), 1);
    cr_expect_eq(told[0].id, 2);
    cr_assert_eq(frame_seal(stale, FRAME_PUB, 1, NULL, (const uint8_t *)"hello", 5, sealed),
                 ERR_OK);
    cr_expect_eq(open_it(a, sealed, 5 + FRAME_OVERHEAD_BYTES, NULL, plain, &n), REFUSED_KEY);
    cr_expect_eq(frame_box_set_keys(a, steps[0], 0), ERR_INVALID);
    cr_expect_eq(frame_box_set_keys(a, steps[0], FRAME_KEYS_MAX + 1), ERR_INVALID);
    frame_box_free(a);
    frame_box_free(b);
    frame_box_free(stale);
}

/* Whoever gives a known id to another key is not believed by what was derived before. */
Test(sync_frame, an_id_may_come_to_stand_for_another_key)
{
    struct cluster_key other = sample_cluster_key(2);
    struct frame_box *a = box_of(1, 7, 100), *b = box_of(1, 8, 101);
    struct frame_key before[FRAME_KEYS_MAX], after[FRAME_KEYS_MAX];
    uint8_t sealed[128], plain[128];
    size_t n;

    other.id = 1;
    cr_assert_eq(frame_seal(a, FRAME_PUB, 1, NULL, (const uint8_t *)"hello", 5, sealed), ERR_OK);
    cr_expect_eq(open_it(b, sealed, 5 + FRAME_OVERHEAD_BYTES, NULL, plain, &n), FRAME_TAKEN);
    frame_box_keys(b, before);
    cr_assert_eq(frame_box_set_keys(b, &other, 1), ERR_OK);
    frame_box_keys(b, after);
    cr_expect_neq(before[0].check, after[0].check);
    cr_expect_eq(open_it(b, sealed, 5 + FRAME_OVERHEAD_BYTES, NULL, plain, &n), REFUSED_AUTH);
    frame_box_free(a);
    frame_box_free(b);
}
