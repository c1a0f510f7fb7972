#include <criterion/criterion.h>
#include <string.h>

#include "node/keyfile.h"
#include "proto/err.h"

Test(keyfile, what_is_written_is_read)
{
    uint8_t key[CLUSTER_KEY_BYTES];
    struct cluster_key keys[CLUSTER_KEYS_MAX];
    struct keyfile_error err;
    char text[KEYFILE_LINE];
    size_t n;

    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(i * 7);
    keyfile_line(4294967295U, key, text);
    cr_assert_eq(strlen(text), KEYFILE_LINE - 1U);
    cr_assert_eq(keyfile_parse((const uint8_t *)text, strlen(text), keys, &n, &err), ERR_OK);
    cr_assert_eq(n, 1);
    cr_expect_eq(keys[0].id, 4294967295U);
    cr_assert_eq(keys[0].key.n, CLUSTER_KEY_BYTES);
    cr_expect_arr_eq(keys[0].key.b, key, sizeof key);
}

Test(keyfile, newline_at_the_end_is_optional)
{
    static const char text[] =
        "\n0 00000000000000000000000000000000000000000000000000000000000000Ff";
    struct cluster_key keys[CLUSTER_KEYS_MAX];
    struct keyfile_error err;
    size_t n;

    cr_assert_eq(keyfile_parse((const uint8_t *)text, strlen(text), keys, &n, &err), ERR_OK);
    cr_expect_eq(n, 1);
    cr_expect_eq(keys[0].id, 0);
    cr_expect_eq(keys[0].key.b[31], 0xff);
}

Test(keyfile, no_key_is_left_after_an_error)
{
    static const char text[] =
        "1 1111111111111111111111111111111111111111111111111111111111111111\n"
        "2 22\n";
    struct cluster_key keys[CLUSTER_KEYS_MAX];
    struct keyfile_error err;
    size_t n;

    cr_assert_eq(keyfile_parse((const uint8_t *)text, strlen(text), keys, &n, &err), ERR_CONFIG);
    cr_expect_eq(n, 0);
    cr_expect_eq(err.line, 2);
    cr_expect_eq(err.column, 3);
    for (size_t i = 0; i < SECRET_MAX; i++)
        cr_expect_eq(keys[0].key.b[i], 0);
}

Test(keyfile, a_name_stands_for_its_hash)
{
    static const char text[] =
        "k1 1111111111111111111111111111111111111111111111111111111111111111\n"
        "k2 2222222222222222222222222222222222222222222222222222222222222222\n";
    struct cluster_key keys[CLUSTER_KEYS_MAX];
    struct keyfile_error err;
    size_t n;

    cr_assert_eq(keyfile_parse((const uint8_t *)text, strlen(text), keys, &n, &err), ERR_OK);
    cr_assert_eq(n, 2);
    cr_expect_eq(keys[0].id, 0x6ab9f1ebU);
    cr_expect_eq(keys[1].id, 0x015f7e6bU);
}
