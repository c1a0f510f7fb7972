/* The verbs that need no node. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/cli.h"
#include "node/config.h"
#include "node/keyfile.h"
#include "proto/env.h"
#include "proto/err.h"

static int print_bad_config(const struct cli *cli, const struct config_error *err)
{
    char line[CONFIG_ERROR_LINE];

    fprintf(stderr, "%s\n", config_error_format(err, line));
    if (cli->json) {
        json_t *j = json_pack("{s:b, s:{s:s, s:I, s:I, s:s}}", "ok", 0, "error", "file", err->file,
                              "line", (json_int_t)err->line, "column", (json_int_t)err->column,
                              "message", err->text);
        (void)cli_print_json(j);
        json_decref(j);
    }
    return CLI_USAGE;
}

static int print_good_config(const struct cli *cli, const struct config *cfg)
{
    const struct config_tunnels *t = &cfg->tunnels;
    json_t *warnings, *j;
    int rc;

    for (size_t i = 0; i < t->n_warnings; i++)
        fprintf(stderr, "warning: %s\n", t->warnings[i]);
    if (!cli->json) {
        printf("%s is fine: node %s, slot %u of %zu members, %zu tunnels, %zu routes, "
               "%zu warnings\n",
               cfg->path, cfg->node.name, cfg->node.slot, cfg->mesh.n, t->n_tunnels, t->n_routes,
               t->n_warnings);
        return fflush(stdout) == 0 ? CLI_FINE : CLI_FAILED;
    }
    warnings = json_array();
    for (size_t i = 0; i < t->n_warnings; i++)
        json_array_append_new(warnings, json_string(t->warnings[i]));
    j = json_pack("{s:b, s:s, s:i, s:I, s:I, s:I, s:o}", "ok", 1, "name", cfg->node.name, "slot",
                  (int)cfg->node.slot, "members", (json_int_t)cfg->mesh.n, "tunnels",
                  (json_int_t)t->n_tunnels, "routes", (json_int_t)t->n_routes, "warnings",
                  warnings);
    rc = cli_print_json(j);
    json_decref(j);
    return rc;
}

int cli_check(const struct cli *cli, char *const *args)
{
    struct config_error err;
    struct config *cfg;
    int rc = config_load(args[0], &cfg, &err);

    if (rc != ERR_OK)
        return print_bad_config(cli, &err);
    rc = print_good_config(cli, cfg);
    config_free(cfg);
    return rc;
}

/* Past stdio, whose buffer would keep a copy. */
static int write_secret(char *text)
{
    size_t n = strlen(text), done = 0;
    int rc = CLI_FINE;

    while (done < n && rc == CLI_FINE) {
        ssize_t put = write(STDOUT_FILENO, text + done, n - done);
        if (put > 0) {
            done += (size_t)put;
        } else if (put == 0 || errno != EINTR) {
            fprintf(stderr, "anysa: cannot write: %s\n", strerror(errno));
            rc = CLI_FAILED;
        }
    }
    wipe(text, n);
    return rc;
}

int cli_psk_generate(const struct cli *cli, char *const *args)
{
    uint8_t key[32];
    char text[2 * sizeof key + 2];

    (void)cli;
    (void)args;
    rng_fill(&rng_system, key, sizeof key);
    for (size_t i = 0; i < sizeof key; i++)
        snprintf(text + 2 * i, 3, "%02x", key[i]);
    snprintf(text + 2 * sizeof key, 2, "\n");
    wipe(key, sizeof key);
    return write_secret(text);
}

int cli_cluster_key_generate(const struct cli *cli, char *const *args)
{
    uint8_t key[CLUSTER_KEY_BYTES];
    char text[KEYFILE_LINE], *end;
    unsigned long long id = 1;

    (void)args;
    if (cli->id) {
        errno = 0;
        id = strtoull(cli->id, &end, 10);
        if (cli->id[0] < '0' || cli->id[0] > '9' || *end || errno || id > UINT32_MAX) {
            fprintf(stderr, "anysa: --id %s is not a number from 0 to %" PRIu32 "\n", cli->id,
                    UINT32_MAX);
            return CLI_USAGE;
        }
    }
    rng_fill(&rng_system, key, sizeof key);
    keyfile_line((uint32_t)id, key, text);
    wipe(key, sizeof key);
    return write_secret(text);
}

int cli_unsupported(const struct cli *cli, char *const *args)
{
    (void)cli;
    (void)args;
    fputs("anysa: not supported by this version; see anysa --help for what is\n", stderr);
    return CLI_USAGE;
}
