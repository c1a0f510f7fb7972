/* anysa cluster-key rotate: one step, on one node's key file. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "node/cli.h"
#include "node/keyfile.h"
#include "proto/err.h"
#include "proto/secret.h"

enum { KEY_FILE_MAX = 4096 };

struct step {
    enum keyfile_step kind;
    uint32_t id;
    const char *word; /* the id as it was given */
    struct slice line;
};

static int parse_step(const struct cli *cli, struct step *out)
{
    if (!!cli->add + !!cli->use + !!cli->drop != 1) {
        fputs("anysa: one of --add LINE-FILE, --use ID and --drop ID at a time; see anysa "
              "cluster-key rotate --help\n",
              stderr);
        return CLI_USAGE;
    }
    *out = (struct step){.kind = cli->add ? KEYFILE_ADD : cli->use ? KEYFILE_USE : KEYFILE_DROP};
    out->word = cli->use ? cli->use : cli->drop;
    if (out->word && keyfile_id(out->word, &out->id) != ERR_OK) {
        fprintf(stderr, "anysa: '%s' is not a key id, such as stand in the key file\n", out->word);
        return CLI_USAGE;
    }
    return CLI_FINE;
}

/* ---- what the cluster says ---- */

static bool accepts(const json_t *node, uint32_t id, uint32_t check)
{
    const json_t *key;
    char text[sizeof "01234567"];
    size_t i;

    snprintf(text, sizeof text, "%08" PRIx32, check);
    json_array_foreach(json_object_get(node, "accepted_keys"), i, key)
    {
        const char *said = json_string_value(json_object_get(key, "check"));
        if (json_integer_value(json_object_get(key, "id")) == id && said && strcmp(said, text) == 0)
            return true;
    }
    return false;
}

/* Why this member speaks against the step; NULL: it does not. */
static const char *objection(const json_t *node, const struct step *step, uint32_t check)
{
    const char *state = json_string_value(json_object_get(node, "state"));
    const char *key_state = json_string_value(json_object_get(node, "key_state"));

    if (!state || strcmp(state, "dead") == 0)
        return "is dead: nobody knows which keys it has";
    if (!key_state || strcmp(key_state, "unknown") == 0)
        return "sends under a key that is not in this node's key file";
    if (step->kind == KEYFILE_USE && !accepts(node, step->id, check))
        return "does not accept that key yet: --add it there, and reload";
    if (step->kind == KEYFILE_DROP &&
        json_integer_value(json_object_get(node, "key_id")) == step->id)
        return "still sends under that key: --use the other one there, and reload";
    return NULL;
}

static int check_cluster(const struct cli *cli, const struct step *step, uint32_t check)
{
    json_t *nodes;
    const json_t *node;
    size_t i;
    int rc = cli_get_list(cli, "/v1/nodes", &nodes);

    if (rc != CLI_FINE) {
        fputs("anysa: whether this step is safe only a running node knows; --force does without\n",
              stderr);
        return rc;
    }
    json_array_foreach(nodes, i, node)
    {
        const char *why = objection(node, step, check);
        if (!why)
            continue;
        fprintf(stderr, "anysa: member %" JSON_INTEGER_FORMAT " %s\n",
                json_integer_value(json_object_get(node, "slot")), why);
        rc = CLI_FAILED;
    }
    json_decref(nodes);
    if (rc != CLI_FINE)
        fputs("anysa: nothing is changed; --force does it all the same\n", stderr);
    return rc;
}

/* The check value of the key with this id; false: it is not in the file. */
static bool check_of(const struct cli_file *f, uint32_t id, uint32_t *check)
{
    struct cluster_key keys[CLUSTER_KEYS_MAX] = {0};
    struct keyfile_error err;
    bool found = false;
    size_t n;

    if (keyfile_parse(f->p, f->n, keys, &n, &err) == ERR_OK)
        for (size_t i = 0; i < n; i++)
            found = found || (keys[i].id == id && sync_key_check(&keys[i], check) == ERR_OK);
    wipe(keys, sizeof keys);
    return found;
}

/* ---- the file ---- */

static int tell(const struct cli *cli, const struct step *step, bool changed, const char *path)
{
    static const char *const done[] = {
        [KEYFILE_ADD] = "has the new key as its second line",
        [KEYFILE_USE] = "has that key as its first line",
        [KEYFILE_DROP] = "does not have that key any more",
    };
    static const char *const next[] = {
        [KEYFILE_ADD] = "--use it when all members accept it",
        [KEYFILE_USE] = "--drop the other one when all members send under this one",
        [KEYFILE_DROP] = "then destroy the old key, in backups, too",
    };

    if (cli->json) {
        json_t *j = json_pack("{s:s, s:b}", "file", path, "changed", (int)changed);
        int rc = cli_print_json(j);
        json_decref(j);
        return rc;
    }
    printf("%s %s%s\n", path, done[step->kind], changed ? "" : " already");
    if (changed)
        printf("reload this node (SIGHUP), do the same on the others, and %s\n", next[step->kind]);
    return fflush(stdout) == 0 ? CLI_FINE : CLI_FAILED;
}

static int replace(const struct cli *cli, const struct step *step, struct cli_file *f,
                   const char *path)
{
    size_t room = f->n + step->line.n + 2, n;
    uint8_t *text = secret_alloc(room);
    const char *why = "";
    uint32_t check = 0;
    int rc = CLI_FINE, edited;

    if (!text)
        return CLI_FAILED;
    edited = keyfile_rotate(f->p, f->n, step->kind, step->id, step->line, text, &n, &why);
    if (edited != ERR_OK && edited != ERR_EXISTS) {
        fprintf(stderr, "anysa: %s: %s\n", path, why);
        rc = CLI_USAGE;
    }
    if (edited == ERR_OK && step->kind != KEYFILE_ADD && !cli->force) {
        (void)check_of(f, step->id, &check); /* it is there, or the edit had failed */
        rc = check_cluster(cli, step, check);
    }
    if (rc == CLI_FINE && edited == ERR_OK)
        rc = cli_file_stage(f, text, n);
    if (rc == CLI_FINE && edited == ERR_OK)
        rc = cli_file_commit(f);
    secret_free(text, room);
    return rc == CLI_FINE ? tell(cli, step, edited == ERR_OK, path) : rc;
}

int cli_cluster_key_rotate(const struct cli *cli, char *const *args)
{
    struct cli_file file = {.fd = -1}, line = {.fd = -1};
    struct step step;
    int rc = parse_step(cli, &step);

    if (rc == CLI_FINE && cli->add)
        rc = cli_file_open(cli->add, KEY_FILE_MAX, true, &line);
    if (rc == CLI_FINE && cli->add) {
        step.line = (struct slice){line.p, line.n};
        while (step.line.n && line.p[step.line.n - 1] == '\n')
            step.line.n--;
    }
    if (rc == CLI_FINE)
        rc = cli_file_open(args[0], KEY_FILE_MAX, true, &file);
    if (rc == CLI_FINE)
        rc = replace(cli, &step, &file, args[0]);
    cli_file_close(&file);
    cli_file_close(&line);
    return rc;
}
