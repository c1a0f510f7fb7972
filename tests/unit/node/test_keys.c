/* The cluster's keys of a running node, through a rotation. */
#include <criterion/criterion.h>
#include <string.h>

#include "ike/internal.h"
#include "node/keys.h"
#include "proto/err.h"
#include "tests/unit/sync/samples.h"

static struct node_keys keys;
static struct cluster_key old, fresh;

static void begin(void)
{
    keys = (struct node_keys){.n = 0};
    old = sample_cluster_key(1);
    fresh = sample_cluster_key(2);
    cr_assert_eq(keys_take(&keys, &old, 1, 0), ERR_OK);
}

TestSuite(keys, .init = begin);

static void file_says(struct cluster_key first, const struct cluster_key *second, uint64_t now_us)
{
    struct cluster_key file[2] = {first};

    if (second)
        file[1] = *second;
    cr_assert_eq(keys_compare(&keys, file, second ? 2 : 1), KEYS_CHANGED);
    cr_assert_eq(keys_take(&keys, file, second ? 2 : 1, now_us), ERR_OK);
}

/* "12": sealed under 1, opened under 1 and 2. */
static void expect_in_use(const char *ids)
{
    struct cluster_key in_use[SYNC_KEYS_MAX];
    size_t n = keys_in_use(&keys, in_use);

    cr_assert_eq(n, strlen(ids), "%zu keys, not %s", n, ids);
    for (size_t i = 0; i < n; i++)
        cr_expect_eq(in_use[i].id, (uint32_t)(ids[i] - '0'), "%zu of %s", i, ids);
}

static uint64_t spi_under(const struct cluster_key *key)
{
    struct node_keys other = {.n = 0};

    cr_assert_eq(keys_take(&other, key, 1, 0), ERR_OK);
    return spi_make(&other.known[0].spi, 7, 99, 5);
}

Test(keys, a_rotation)
{
    uint64_t of_old = spi_under(&old), of_fresh = spi_under(&fresh);

    expect_in_use("1");
    cr_expect_eq(keys_spi_slot(&keys, 5, of_old), 7);
    cr_expect_eq(keys_spi_slot(&keys, 5, of_fresh), -1);
    cr_expect_eq(keys_cookie_also(&keys)->n, 0);

    file_says(old, &fresh, 1);
    expect_in_use("12");
    cr_expect_eq(keys_spi_slot(&keys, 5, of_fresh), 7, "another node may send under it already");
    cr_expect_eq(keys_cookie_also(&keys)->n, 32);

    file_says(fresh, &old, 2);
    expect_in_use("12"); /* the journal is not wrapped yet */
    keys_send(&keys, 3);
    expect_in_use("21");
    cr_expect_eq(keys_spi_slot(&keys, 5, of_old), 7);

    file_says(fresh, NULL, 4);
    expect_in_use("2");
    cr_expect_eq(keys_spi_slot(&keys, 5, of_old), 7, "half-open SAs are made under it yet");
    cr_expect_eq(keys_cookie_also(&keys)->n, 32);
    keys_expire(&keys, 4 + NODE_KEY_LINGER_MS * 1000ULL - 1);
    cr_expect_eq(keys_spi_slot(&keys, 5, of_old), 7);
    keys_expire(&keys, 4 + NODE_KEY_LINGER_MS * 1000ULL);
    cr_expect_eq(keys_spi_slot(&keys, 5, of_old), -1);
    cr_expect_eq(keys_spi_slot(&keys, 5, of_fresh), 7);
    cr_expect_eq(keys_cookie_also(&keys)->n, 0);
}

Test(keys, the_one_that_sends_outlives_the_file)
{
    file_says(old, &fresh, 1);
    file_says(fresh, NULL, 2); /* the step between was left out */
    expect_in_use("12");
    keys_expire(&keys, UINT64_MAX);
    expect_in_use("12");
    keys_send(&keys, 3);
    expect_in_use("2");
}

Test(keys, and_back)
{
    file_says(old, &fresh, 1);
    file_says(fresh, &old, 2);
    file_says(old, &fresh, 3);
    expect_in_use("12");
    file_says(fresh, &old, 4);
    keys_send(&keys, 5);
    file_says(old, &fresh, 6);
    keys_send(&keys, 7);
    expect_in_use("12");
    file_says(old, NULL, 8);
    expect_in_use("1");
}

Test(keys, what_is_no_step_of_a_rotation)
{
    struct cluster_key clash = sample_cluster_key(3), both[2] = {old, fresh};

    cr_expect_eq(keys_compare(&keys, &old, 1), KEYS_SAME);
    cr_expect_eq(keys_compare(&keys, &fresh, 1), KEYS_FOREIGN);
    cr_expect_eq(keys_compare(&keys, both, 2), KEYS_CHANGED);
    clash.id = old.id;
    cr_expect_eq(keys_compare(&keys, &clash, 1), KEYS_CLASH);
    file_says(old, &fresh, 1);
    file_says(old, NULL, 2);
    cr_expect_eq(keys_compare(&keys, &fresh, 1), KEYS_FOREIGN, "what lingers is not in use");
}

/* However often the file changes within a minute, what is in use stays. */
Test(keys, there_is_always_room)
{
    for (uint32_t i = 3; i < 40; i++) {
        struct cluster_key next = sample_cluster_key(i);
        file_says(old, &next, i);
        cr_expect_leq(keys.n, NODE_KEYS_MAX);
        cr_assert_eq(keys.known[0].cluster.id, 1);
    }
    file_says(old, &fresh, 50);
    expect_in_use("12");
}
