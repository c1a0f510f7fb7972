/* The table of verbs, and JSON as people read it. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config_files.h"
#include "node/cli.h"

/* What `print` writes; the caller frees it. */
static char *help_of(const struct cli_verb *verb)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    cr_assert_not_null(f);
    if (verb)
        cli_print_verb_help(f, verb);
    else
        cli_print_help(f);
    cr_assert_eq(fclose(f), 0);
    return text;
}

Test(cli, every_verb_has_its_row_and_help)
{
    char *all = help_of(NULL);

    for (size_t i = 0; i < cli_verbs_n; i++) {
        const struct cli_verb *v = &cli_verbs[i];
        char *help = help_of(v), usage[128];

        cr_expect(v->name[0] && v->help[0] && v->args && v->run, "row %zu", i);
        snprintf(usage, sizeof usage, "usage: anysa %s", v->name);
        cr_expect_not_null(strstr(help, usage), "%s", v->name);
        cr_expect_not_null(strstr(help, v->help), "%s", v->name);
        cr_expect_not_null(strstr(all, v->name), "%s", v->name);
        cr_expect_eq(strstr(help, "Not supported") != NULL, v->run == cli_unsupported);
        free(help);
    }
    free(all);
}

Test(cli, the_contract_has_its_verbs)
{
    static const char *const names[] = {
        "status",
        "nodes",
        "tunnels",
        "sas",
        "routes",
        "events",
        "drain",
        "resume",
        "check",
        "purge",
        "psk generate",
        "cluster-key generate",
        "cluster-key rotate",
        "member add",
        "member remove",
    };

    cr_expect_eq(cli_verbs_n, sizeof names / sizeof names[0]);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char copy[32], *words[2], *save = NULL;
        int n = 0, used = 0;
        const struct cli_verb *v;

        snprintf(copy, sizeof copy, "%s", names[i]);
        for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
            words[n++] = w;
        v = cli_find_verb(words, n, &used);
        cr_assert_not_null(v, "%s", names[i]);
        cr_expect_str_eq(v->name, names[i]);
        cr_expect_eq(used, n);
    }
}

Test(cli, half_a_verb_is_none)
{
    char *half[] = {(char *)"psk"}, *start[] = {(char *)"stat"}, *empty[] = {(char *)""};
    char *wrong[] = {(char *)"psk", (char *)"generated"};
    int used;

    cr_expect_null(cli_find_verb(half, 1, &used));
    cr_expect_null(cli_find_verb(start, 1, &used));
    cr_expect_null(cli_find_verb(empty, 1, &used));
    cr_expect_null(cli_find_verb(wrong, 2, &used));
    cr_expect_null(cli_find_verb(half, 0, &used));
}

Test(cli, unsupported_verbs_are_a_usage_error)
{
    struct cli cli = {.url = "http://127.0.0.1:1"};
    size_t unsupported = 0;

    for (size_t i = 0; i < cli_verbs_n; i++) {
        if (cli_verbs[i].run != cli_unsupported)
            continue;
        unsupported++;
        cr_expect_eq(cli_verbs[i].run(&cli, NULL), CLI_USAGE);
    }
    cr_expect_eq(unsupported, 1);
}

Test(cli, cells)
{
    static const struct {
        const char *json, *text;
    } rows[] = {
        {"\"a\"", "a"},         {"1", "1"},
        {"true", "yes"},        {"false", "no"},
        {"null", "-"},          {"[]", ""},
        {"[\"a\", 2]", "a, 2"}, {"{\"a\":1}", "{\"a\":1}"},
        {"1.5", "1.5"},         {"\"a\\u001bb\"", "a?b"},
    };
    char *missing = cli_cell(NULL);

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *j = json_loads(rows[i].json, JSON_DECODE_ANY, NULL);
        char *text = cli_cell(j);
        cr_expect_str_eq(text, rows[i].text);
        free(text);
        json_decref(j);
    }
    cr_expect_str_eq(missing, "-");
    free(missing);
}

Test(cli, table_survives_missing_fields)
{
    static const struct cli_column columns[] = {
        {"NAME", "name", NULL, 0}, {"WHY", "last.why", NULL, 3}, {"T", "t", "also", 0}};
    json_t *items = json_loads("[{\"name\": \"n1\", \"last\": {\"why\": \"abcdef\"}, \"also\": 4},"
                               " {}, 7, {\"last\": null}]",
                               0, NULL);
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    cli_print_table(f, columns, 3, items);
    cli_print_table(f, columns, 3, NULL);
    fclose(f);
    cr_expect_str_eq(text, "NAME  WHY  T\n"
                           "n1    abc  4\n"
                           "-     -    -\n"
                           "-     -    -\n"
                           "-     -    -\n"
                           "NAME  WHY  T\n");
    free(text);
    json_decref(items);
}

Test(cli, check, .init = config_files_begin, .fini = config_files_end)
{
    struct cli cli = {.json = true};
    char path[256];
    char *args[] = {path};

    snprintf(path, sizeof path, "%s", config_file("node.yaml"));
    cr_expect_eq(cli_check(&cli, args), CLI_FINE);
    cli.json = false;
    cr_expect_eq(cli_check(&cli, args), CLI_FINE);
    config_write("tunnels.yaml", "tunnels: 1\n", 0644);
    cr_expect_eq(cli_check(&cli, args), CLI_USAGE);
}

Test(cli, nobody_answers)
{
    struct cli cli = {.url = "http://127.0.0.1:1"};

    cr_expect_eq(cli_nodes(&cli, NULL), CLI_FAILED);
    cr_expect_eq(cli_status(&cli, NULL), CLI_FAILED);
    cli.url = "file:///etc/passwd";
    cr_expect_eq(cli_nodes(&cli, NULL), CLI_FAILED);
}

Test(cli, cluster_key_ids)
{
    static const char *const bad[] = {"", "-1", "k1", "4294967296", "1x", " 1"};
    struct cli cli = {.id = NULL};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cli.id = bad[i];
        cr_expect_eq(cli_cluster_key_generate(&cli, NULL), CLI_USAGE, "'%s'", bad[i]);
    }
}

/* ---- cluster-key rotate, on files ---- */

static void expect_keys(const char *name, const char *text)
{
    char got[512] = "";
    FILE *f = fopen(config_file(name), "r");

    cr_assert_not_null(f);
    cr_assert_lt(fread(got, 1, sizeof got - 1, f), sizeof got);
    fclose(f);
    cr_expect_str_eq(got, text);
}

Test(cli, rotate, .init = config_files_begin, .fini = config_files_end)
{
#define OLD "1 1111111111111111111111111111111111111111111111111111111111111111\n"
#define NEW "2 2222222222222222222222222222222222222222222222222222222222222222\n"
    struct cli cli = {.url = "http://127.0.0.1:1"};
    char path[256], line[256], link[256];
    char *args[] = {path};
    struct stat st;

    config_write("rotate.key", OLD, 0600);
    config_write("new.key", NEW, 0600);
    snprintf(path, sizeof path, "%s", config_file("rotate.key"));
    snprintf(line, sizeof line, "%s", config_file("new.key"));
    cr_expect_eq(cli_cluster_key_rotate(&cli, args), CLI_USAGE, "no step");
    cli.add = line;
    cli.use = "2";
    cr_expect_eq(cli_cluster_key_rotate(&cli, args), CLI_USAGE, "two steps");
    cli.use = NULL;
    cr_expect_eq(cli_cluster_key_rotate(&cli, args), CLI_FINE);
    expect_keys("rotate.key", OLD NEW);
    cr_expect_eq(cli_cluster_key_rotate(&cli, args), CLI_FINE, "again");
    expect_keys("rotate.key", OLD NEW);
    cr_assert_eq(stat(path, &st), 0);
    cr_expect_eq(st.st_mode & 07777, 0600);

    cli.add = NULL;
    cli.use = "2";
    cr_expect_eq(cli_cluster_key_rotate(&cli, args), CLI_FAILED, "no node says that it is safe");
    expect_keys("rotate.key", OLD NEW);
    cli.force = true;
    cr_expect_eq(cli_cluster_key_rotate(&cli, args), CLI_FINE);
    expect_keys("rotate.key", NEW OLD);
    cli.use = NULL;
    cli.drop = "2";
    cr_expect_eq(cli_cluster_key_rotate(&cli, args), CLI_USAGE, "it sends");
    expect_keys("rotate.key", NEW OLD);
    cli.drop = "1";
    cli.force = false;
    cr_expect_eq(cli_cluster_key_rotate(&cli, args), CLI_FAILED);
    cli.force = true;
    snprintf(link, sizeof link, "%s", config_file("link.key")); /* a link stays one */
    cr_assert_eq(symlink(path, link), 0);
    args[0] = link;
    cr_expect_eq(cli_cluster_key_rotate(&cli, args), CLI_FINE);
    expect_keys("rotate.key", NEW);
    cr_assert_eq(lstat(link, &st), 0);
    cr_expect(S_ISLNK(st.st_mode));
    unlink(link);

    args[0] = path;
    config_write("rotate.key", OLD, 0644);
    cli = (struct cli){.add = line};
    cr_expect_eq(cli_cluster_key_rotate(&cli, args), CLI_USAGE, "others may read it");
    cli.add = "no/such/file";
    cr_expect_eq(cli_cluster_key_rotate(&cli, args), CLI_FAILED);
#undef OLD
#undef NEW
}

/* Two editors: the second one does not overwrite what the first one has not seen. */
Test(cli, one_editor_at_a_time, .init = config_files_begin, .fini = config_files_end)
{
    struct cli_file one, two;
    char path[256];

    config_write("some", "before", 0640);
    snprintf(path, sizeof path, "%s", config_file("some"));
    cr_assert_eq(cli_file_open(path, 100, false, &one), CLI_FINE);
    cr_expect_eq(cli_file_open(path, 100, false, &two), CLI_FAILED);
    cli_file_close(&two);
    cr_assert_eq(cli_file_stage(&one, (const uint8_t *)"after", 5), CLI_FINE);
    expect_keys("some", "before");
    cr_assert_eq(cli_file_commit(&one), CLI_FINE);
    expect_keys("some", "after");
    cli_file_close(&one);
    cr_assert_eq(cli_file_open(path, 100, false, &two), CLI_FINE);
    cr_assert_eq(cli_file_stage(&two, (const uint8_t *)"never", 5), CLI_FINE);
    cli_file_close(&two);
    expect_keys("some", "after");
}

static bool file_says(const char *name, const char *text)
{
    char got[4096] = "";
    FILE *f = fopen(config_file(name), "r");
    bool said;

    cr_assert_not_null(f);
    cr_assert_lt(fread(got, 1, sizeof got - 1, f), sizeof got);
    fclose(f);
    said = strstr(got, text);
    return said;
}

Test(cli, member, .init = config_files_begin, .fini = config_files_end)
{
    static const struct {
        const char *slot, *address;
        int rc;
    } bad[] = {
        {"x", "h:1", CLI_USAGE},   {"1023", "h:1", CLI_USAGE}, {"9", "h", CLI_USAGE},
        {"9", "h:0", CLI_USAGE},   {"9", "h:1\"}", CLI_USAGE}, {"1", "h:1", CLI_USAGE},
        {"9", "h:1 #", CLI_USAGE}, {"", "h:1", CLI_USAGE},     {"9", "", CLI_USAGE},
    };
    char path[256], *args[2] = {(char *)"9", (char *)"10.99.0.9:7800"};
    struct cli cli = {.url = "http://127.0.0.1:1", .config = path};

    snprintf(path, sizeof path, "%s", config_file("node.yaml"));
    cr_expect_eq(cli_member_add(&cli, args), CLI_FAILED, "no node says whether they agree");
    cr_expect(!file_says("node.yaml", "10.99.0.9:7800"));
    cli.force = true;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *words[2] = {(char *)bad[i].slot, (char *)bad[i].address};
        cr_expect_eq(cli_member_add(&cli, words), bad[i].rc, "%s %s", bad[i].slot, bad[i].address);
    }
    cr_expect_eq(cli_member_add(&cli, args), CLI_FINE);
    cr_expect(file_says("node.yaml", "{slot: 9, address: \"10.99.0.9:7800\"}"));
    cr_expect_eq(cli_member_add(&cli, args), CLI_FINE, "already");
    args[1] = (char *)"10.99.0.9:7900";
    cr_expect_eq(cli_member_add(&cli, args), CLI_USAGE, "elsewhere");
    cr_expect_eq(cli_member_remove(&cli, args), CLI_FINE);
    cr_expect(!file_says("node.yaml", "slot: 9"));
    cr_expect_eq(cli_member_remove(&cli, args), CLI_FINE, "already");
}

Test(cli, a_purge_is_meant)
{
    struct cli cli = {.url = "http://127.0.0.1:1"};

    cr_expect_eq(cli_purge(&cli, NULL), CLI_USAGE);
    cli.yes = true;
    cr_expect_eq(cli_purge(&cli, NULL), CLI_FAILED);
}
