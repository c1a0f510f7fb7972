/* One member more or fewer, in every way that a list may be written. */
#include <criterion/criterion.h>
#include <string.h>

#include "node/members_edit.h"
#include "proto/err.h"

static struct slice slice_of(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static void added(const char *text, const char *expected)
{
    char out[2048] = "";
    size_t n = 0;

    cr_assert_eq(members_edit_add(slice_of(text), 3, "c:1", out, &n), ERR_OK, "%s", text);
    cr_assert_leq(n, strlen(text) + MEMBERS_EDIT_ROOM);
    out[n] = 0;
    cr_expect_str_eq(out, expected);
}

static void removed(const char *text, size_t index, const char *expected)
{
    char out[2048] = "";
    size_t n = 0;

    cr_assert_eq(members_edit_remove(slice_of(text), index, out, &n), ERR_OK, "%s", text);
    out[n] = 0;
    cr_expect_str_eq(out, expected);
}

#define ONE "{slot: 1, address: \"a:1\"}"
#define TWO "{slot: 2, address: \"b:1\"}"
#define THREE "{slot: 3, address: \"c:1\"}"

Test(members_edit, on_one_line)
{
    added("mesh: {members: [" ONE "], dead_ms: 5}\n",
          "mesh: {members: [" ONE ", " THREE "], dead_ms: 5}\n");
    added("mesh:\n  members: [" ONE ", " TWO "]  # two\n",
          "mesh:\n  members: [" ONE ", " TWO ", " THREE "]  # two\n");
    removed("mesh:\n  members: [" ONE ", " TWO "]  # two\n", 0,
            "mesh:\n  members: [" TWO "]  # two\n");
    removed("mesh:\n  members: [" ONE ", " TWO "]  # two\n", 1,
            "mesh:\n  members: [" ONE "]  # two\n");
    removed("mesh:\n  members: [" ONE " ,  " TWO ", " THREE "]", 1,
            "mesh:\n  members: [" ONE " ,  " THREE "]");
}

/* Umlauts before it: libyaml counts characters. */
Test(members_edit, positions_are_bytes)
{
    added("\xef\xbb\xbf# M\xc3\xbcnchen \xe2\x82\xac\nmesh: {members: [" ONE "]} # K\xc3\xb6ln\n",
          "\xef\xbb\xbf# M\xc3\xbcnchen \xe2\x82\xac\nmesh: {members: [" ONE ", " THREE
          "]} # K\xc3\xb6ln\n");
}

Test(members_edit, in_brackets_over_lines)
{
    added("mesh:\n  members: [\n    " ONE ", # ams\n    " TWO " # fra\n  ]\n",
          "mesh:\n  members: [\n    " ONE ", # ams\n    " TWO ", # fra\n    " THREE "\n  ]\n");
    added("mesh:\n  members: [\n    " ONE ",\n    " TWO ",\n  ]\n",
          "mesh:\n  members: [\n    " ONE ",\n    " TWO ",\n    " THREE ",\n  ]\n");
    added("mesh:\n  members: [\n    " ONE ",\n    " TWO "]\n",
          "mesh:\n  members: [\n    " ONE ",\n    " TWO ", " THREE "]\n");
    removed("mesh:\n  members: [\n    " ONE ", # ams\n    " TWO " # fra\n  ]\n", 0,
            "mesh:\n  members: [\n    " TWO " # fra\n  ]\n");
    removed("mesh:\n  members: [\n    " ONE ", # ams\n    " TWO " # fra\n  ]\n", 1,
            "mesh:\n  members: [\n    " ONE ", # ams\n  ]\n");
}

Test(members_edit, lines_with_dashes)
{
    static const char text[] = "mesh:\n"
                               "  # ours\n"
                               "  members:\n"
                               "    - " ONE " # ams\n"
                               "    # the other one\n"
                               "    - slot: 2\n"
                               "      address: \"b:1\" # fra\n"
                               "\n"
                               "  # and more\n"
                               "  dead_ms: 500\n";

    added(text, "mesh:\n"
                "  # ours\n"
                "  members:\n"
                "    - " ONE " # ams\n"
                "    # the other one\n"
                "    - slot: 2\n"
                "      address: \"b:1\" # fra\n"
                "    - " THREE "\n"
                "\n"
                "  # and more\n"
                "  dead_ms: 500\n");
    removed(text, 0,
            "mesh:\n"
            "  # ours\n"
            "  members:\n"
            "    # the other one\n"
            "    - slot: 2\n"
            "      address: \"b:1\" # fra\n"
            "\n"
            "  # and more\n"
            "  dead_ms: 500\n");
    removed(text, 1,
            "mesh:\n"
            "  # ours\n"
            "  members:\n"
            "    - " ONE " # ams\n"
            "    # the other one\n"
            "\n"
            "  # and more\n"
            "  dead_ms: 500\n");
    added("mesh:\n  members:\n  - " ONE, "mesh:\n  members:\n  - " ONE "\n  - " THREE "\n");
}

Test(members_edit, what_it_does_not_understand)
{
    static const char *const texts[] = {
        "",
        "mesh: 1\n",
        "mesh: {members: 1}\n",
        "mesh: {members: []}\n",
        "mesh: {members: [1]}\n",
        "mesh: {members: [",
        "mesh:\n  members:\n    -\n      slot: 1\n",
        "members: [" ONE "]\n",
    };
    char out[2048];
    size_t n;

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cr_expect_eq(members_edit_add(slice_of(texts[i]), 3, "c:1", out, &n), ERR_INVALID, "%s",
                     texts[i]);
        cr_expect_eq(members_edit_remove(slice_of(texts[i]), 0, out, &n), ERR_INVALID, "%s",
                     texts[i]);
    }
    cr_expect_eq(members_edit_remove(slice_of("mesh: {members: [" ONE "]}"), 1, out, &n),
                 ERR_INVALID);
}
