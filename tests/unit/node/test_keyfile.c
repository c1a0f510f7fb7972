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

/* ---- a rotation ---- */

#define K1 "1111111111111111111111111111111111111111111111111111111111111111"
#define K2 "2222222222222222222222222222222222222222222222222222222222222222"
#define K3 "3333333333333333333333333333333333333333333333333333333333333333"

Test(keyfile, a_rotation_step_by_step)
{
    static const struct {
        const char *text;
        enum keyfile_step step;
        const char *id, *line;
        int rc;
        const char *after; /* the file's text, or a word of the complaint */
    } rows[] = {
        {"k1 " K1 "\n", KEYFILE_ADD, NULL, "2 " K2, ERR_OK, "k1 " K1 "\n2 " K2 "\n"},
        {"\nk1 " K1, KEYFILE_ADD, NULL, "2 " K2, ERR_OK, "k1 " K1 "\n2 " K2 "\n"},
        {"k1 " K1 "\n2 " K2 "\n", KEYFILE_ADD, NULL, "2 " K2, ERR_EXISTS, NULL},
        {"2 " K2 "\nk1 " K1 "\n", KEYFILE_ADD, NULL, "2 " K2, ERR_EXISTS, NULL},
        {"2 " K1 "\n", KEYFILE_ADD, NULL, "2 " K2, ERR_CONFIG, "another key"},
        {"1 " K2 "\n", KEYFILE_ADD, NULL, "2 " K2, ERR_CONFIG, "another id"},
        {"1 " K1 "\n2 " K2 "\n", KEYFILE_ADD, NULL, "3 " K3, ERR_CONFIG, "finish"},
        {"1 " K1 "\n", KEYFILE_ADD, NULL, "2 22", ERR_CONFIG, "ID HEX64"},
        {"1 " K1 "\n", KEYFILE_ADD, NULL, "", ERR_CONFIG, "ID HEX64"},
        {"1 " K1 "\n", KEYFILE_ADD, NULL, "2 " K2 "\n3 " K3, ERR_CONFIG, "ID HEX64"},
        {"k1 " K1 "\n2 " K2 "\n", KEYFILE_USE, "2", "", ERR_OK, "2 " K2 "\nk1 " K1 "\n"},
        {"k1 " K1 "\n\n2 " K2, KEYFILE_USE, "2", "", ERR_OK, "2 " K2 "\nk1 " K1 "\n"},
        {"k1 " K1 "\n2 " K2 "\n", KEYFILE_USE, "k1", "", ERR_EXISTS, NULL},
        {"k1 " K1 "\n", KEYFILE_USE, "2", "", ERR_CONFIG, "--add"},
        {"2 " K2 "\nk1 " K1 "\n", KEYFILE_DROP, "k1", "", ERR_OK, "2 " K2 "\n"},
        {"2 " K2 "\n", KEYFILE_DROP, "k1", "", ERR_EXISTS, NULL},
        {"k1 " K1 "\n2 " K2 "\n", KEYFILE_DROP, "k1", "", ERR_CONFIG, "sends"},
        {"k1 " K1 "\n", KEYFILE_DROP, "k1", "", ERR_CONFIG, "only"},
        {"k1 " K1 "x\n", KEYFILE_DROP, "k1", "", ERR_CONFIG, "64"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct slice line = {(const uint8_t *)rows[i].line, strlen(rows[i].line)};
        uint8_t out[512] = {0};
        const char *why = "";
        uint32_t id = 0;
        size_t n;
        int rc;

        if (rows[i].id)
            cr_assert_eq(keyfile_id(rows[i].id, &id), ERR_OK);
        rc = keyfile_rotate((const uint8_t *)rows[i].text, strlen(rows[i].text), rows[i].step, id,
                            line, out, &n, &why);
        cr_expect_eq(rc, rows[i].rc, "row %zu: %d, %s", i, rc, why);
        cr_expect_leq(n, strlen(rows[i].text) + line.n + 2);
        if (rc == ERR_OK)
            cr_expect_str_eq((const char *)out, rows[i].after, "row %zu", i);
        if (rc == ERR_CONFIG)
            cr_expect_not_null(strstr(why, rows[i].after), "row %zu: %s", i, why);
    }
}

Test(keyfile, ids_from_the_command_line)
{
    uint32_t id;

    cr_assert_eq(keyfile_id("4294967295", &id), ERR_OK);
    cr_expect_eq(id, UINT32_MAX);
    cr_expect_eq(keyfile_id("k1", &id), ERR_OK);
    cr_expect_eq(keyfile_id("", &id), ERR_CONFIG);
    cr_expect_eq(keyfile_id("4294967296", &id), ERR_CONFIG);
    cr_expect_eq(keyfile_id("k1 ", &id), ERR_CONFIG);
    cr_expect_eq(keyfile_id("a/b", &id), ERR_CONFIG);
    cr_expect_eq(
        keyfile_id("0123456789012345678901234567890123456789012345678901234567890123456789", &id),
        ERR_CONFIG);
}
