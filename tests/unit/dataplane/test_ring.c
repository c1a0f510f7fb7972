/* The ring between a lane and the loop. */
#include <criterion/criterion.h>
#include <string.h>

#include "dataplane/ring.h"

static bool push(struct ring *r, uint32_t n, uint8_t fill)
{
    void *at = ring_reserve(r, n);

    if (!at)
        return false;
    cr_assert_eq((uintptr_t)at % 8, 0);
    memset(at, fill, n);
    ring_commit(r);
    return true;
}

static void take(struct ring *r, uint32_t n, uint8_t fill)
{
    uint32_t got;
    const uint8_t *at = ring_peek(r, &got);

    cr_assert_not_null(at);
    cr_assert_eq(got, n);
    for (uint32_t i = 0; i < n; i++)
        cr_assert_eq(at[i], fill);
    ring_release(r);
}

Test(dataplane_ring, refuses_what_does_not_fit)
{
    struct ring *r = ring_new(64);
    uint32_t n;

    cr_assert_null(ring_new(48));
    cr_assert_null(ring_new(32));
    cr_assert_null(ring_peek(r, &n));
    cr_assert_not(push(r, 57, 1));
    cr_assert_not(push(r, UINT32_MAX - 3, 1));
    cr_assert(push(r, 56, 1), "exactly all of it");
    cr_assert_not(push(r, 0, 1));
    take(r, 56, 1);
    cr_assert_null(ring_peek(r, &n));
    cr_assert(push(r, 8, 2));
    cr_assert(push(r, 0, 3));
    cr_assert(push(r, 20, 4));
    cr_assert_not(push(r, 8, 5));
    take(r, 8, 2);
    take(r, 0, 3);
    take(r, 20, 4);
    ring_free(r);
}

/* All lengths and offsets, against a plain queue of what should come. */
Test(dataplane_ring, keeps_messages_whole_and_in_order)
{
    struct ring *r = ring_new(256);
    uint32_t lengths[64], first = 0, count = 0;
    uint64_t state = 3, pushed = 0, refused = 0;

    for (int i = 0; i < 200000; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        if (state >> 63) {
            uint32_t n = (uint32_t)(state >> 33) % 120;

            if (!push(r, n, (uint8_t)pushed)) {
                refused++;
                continue;
            }
            lengths[(first + count++) % 64] = n;
            pushed++;
        } else if (count) {
            take(r, lengths[first % 64], (uint8_t)(pushed - count));
            first++;
            count--;
        }
    }
    cr_assert(pushed > 1000 && refused > 1000);
    ring_free(r);
}
