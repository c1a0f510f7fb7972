/* anysa member add, member remove: one change of the member list, in one node's file. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "node/cli.h"
#include "node/config.h"
#include "node/members_edit.h"
#include "proto/err.h"
#include "proto/secret.h"

enum { NODE_FILE_BYTES_MAX = 1 << 20, DIGEST_TEXT = 17 };
static const char default_config[] = "/etc/anysa/node.yaml";

struct change {
    uint16_t slot;
    const char *address; /* NULL: the member goes */
};

/* A member list as slots. */
struct slots {
    uint16_t slot[SYNC_MEMBERS_MAX];
    size_t n;
};

static bool has(const struct slots *s, uint16_t slot)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->slot[i] == slot)
            return true;
    return false;
}

static size_t differ(const struct slots *a, const struct slots *b)
{
    size_t n = 0;

    for (size_t i = 0; i < a->n; i++)
        n += !has(b, a->slot[i]);
    for (size_t i = 0; i < b->n; i++)
        n += !has(a, b->slot[i]);
    return n;
}

static struct slots slots_of(const struct config *cfg)
{
    struct slots s = {.n = cfg->mesh.n};

    for (size_t i = 0; i < s.n; i++)
        s.slot[i] = cfg->mesh.members[i].slot;
    return s;
}

static void digest_of(const struct slots *s, char out[DIGEST_TEXT])
{
    snprintf(out, DIGEST_TEXT, "%016" PRIx64, sync_members_digest(s->slot, s->n));
}

/* ---- what the cluster says ---- */

/* Every live member must have the list that this node runs with, or the one that is to come:
 * then the change before is finished everywhere, and this one may be under way. */
static int check_agreement(const json_t *nodes, const struct slots *running,
                           const struct slots *wanted)
{
    char now[DIGEST_TEXT], then[DIGEST_TEXT];
    const json_t *node;
    int rc = CLI_FINE;
    size_t i;

    digest_of(running, now);
    digest_of(wanted, then);
    json_array_foreach(nodes, i, node)
    {
        const char *state = json_string_value(json_object_get(node, "state"));
        const char *digest = json_string_value(json_object_get(node, "members_digest"));
        if (!state || strcmp(state, "dead") == 0 ||
            (digest && (strcmp(digest, now) == 0 || strcmp(digest, then) == 0)))
            continue;
        fprintf(stderr,
                "anysa: member %" JSON_INTEGER_FORMAT " has another member list: finish the change "
                "before on every node first\n",
                json_integer_value(json_object_get(node, "slot")));
        rc = CLI_FAILED;
    }
    return rc;
}

static int check_cluster(const struct cli *cli, const struct slots *wanted)
{
    struct slots running = {.n = 0};
    json_t *nodes;
    const json_t *node;
    size_t i;
    int rc = cli_get_list(cli, "/v1/nodes", &nodes);

    if (rc != CLI_FINE) {
        fputs("anysa: whether the members agree only a running node knows; --force does without\n",
              stderr);
        return rc;
    }
    json_array_foreach(nodes, i, node) if (running.n < SYNC_MEMBERS_MAX) running.slot[running.n++] =
        (uint16_t)json_integer_value(json_object_get(node, "slot"));
    if (differ(&running, wanted) > 1) {
        fputs("anysa: the node runs with another list than its file has: one change at a time; "
              "reload it first (SIGHUP)\n",
              stderr);
        rc = CLI_FAILED;
    } else {
        rc = check_agreement(nodes, &running, wanted);
    }
    json_decref(nodes);
    if (rc != CLI_FINE)
        fputs("anysa: nothing is changed; --force does it all the same\n", stderr);
    return rc;
}

/* ---- the file ---- */

static int bad_config(const struct config_error *err)
{
    char line[CONFIG_ERROR_LINE];

    fprintf(stderr, "anysa: %s\n", config_error_format(err, line));
    return CLI_USAGE;
}

static const struct config_member *find(const struct config *cfg, uint16_t slot)
{
    for (size_t i = 0; i < cfg->mesh.n; i++)
        if (cfg->mesh.members[i].slot == slot)
            return &cfg->mesh.members[i];
    return NULL;
}

static void print_address(const struct config_member *m, char *out, size_t room)
{
    snprintf(out, room, strchr(m->host, ':') ? "[%s]:%u" : "%s:%u", m->host, m->port);
}

/* The staged file must be what was meant, whatever its text looks like: the members of before, but
 * for the one, and in order as a configuration. */
static int check_staged(const struct cli_file *f, const struct config *before,
                        const struct change *change)
{
    struct config_error err;
    struct config *after;
    size_t k = 0;
    bool as_meant = true;

    if (config_load(f->temp, &after, &err) != ERR_OK)
        return bad_config(&err);
    for (size_t i = 0; as_meant && i < before->mesh.n; i++) {
        const struct config_member *m = &before->mesh.members[i], *now = &after->mesh.members[k];
        if (!change->address && m->slot == change->slot)
            continue;
        as_meant = k < after->mesh.n && now->slot == m->slot && now->port == m->port &&
                   strcmp(now->host, m->host) == 0;
        k++;
    }
    if (change->address)
        as_meant = as_meant && k < after->mesh.n && after->mesh.members[k++].slot == change->slot;
    as_meant = as_meant && k == after->mesh.n;
    config_free(after);
    if (!as_meant)
        fputs("anysa: the list is written in a way that cannot be edited here: edit it by hand\n",
              stderr);
    return as_meant ? CLI_FINE : CLI_FAILED;
}

static int stage(struct cli_file *f, const struct config *before, const struct change *change)
{
    size_t room = f->n + MEMBERS_EDIT_ROOM, n = 0, index = 0;
    char *text = malloc(room);
    struct slice old = {f->p, f->n};
    int rc;

    if (!text)
        return CLI_FAILED;
    while (!change->address && before->mesh.members[index].slot != change->slot)
        index++;
    rc = change->address ? members_edit_add(old, change->slot, change->address, text, &n)
                         : members_edit_remove(old, index, text, &n);
    if (rc != ERR_OK) {
        fputs("anysa: the list is written in a way that cannot be edited here: edit it by hand\n",
              stderr);
        rc = CLI_FAILED;
    } else {
        rc = cli_file_stage(f, (const uint8_t *)text, n);
    }
    free(text);
    return rc == CLI_FINE ? check_staged(f, before, change) : rc;
}

static int tell(const struct cli *cli, const struct change *change, bool changed, const char *path)
{
    if (cli->json) {
        json_t *j = json_pack("{s:s, s:b}", "file", path, "changed", (int)changed);
        int rc = cli_print_json(j);
        json_decref(j);
        return rc;
    }
    printf("%s: slot %u is %s the member list%s\n", path, change->slot,
           change->address ? "in" : "not in", changed ? "" : " already");
    if (changed)
        puts("reload this node (SIGHUP), and do the same on every other one; then the next change");
    return fflush(stdout) == 0 ? CLI_FINE : CLI_FAILED;
}

/* What the change comes to here. CLI_FINE with *is_done, or it is told why not. */
static int judge(const struct config *cfg, const struct change *change, bool *is_done)
{
    const struct config_member *m = find(cfg, change->slot);
    char address[CONFIG_HOST_MAX + 16];

    *is_done = false;
    if (!change->address) {
        *is_done = !m;
        if (change->slot != cfg->node.slot)
            return CLI_FINE;
        fputs("anysa: that is this node itself: stop it, and change the list on the others\n",
              stderr);
        return CLI_USAGE;
    }
    if (!m)
        return CLI_FINE;
    print_address(m, address, sizeof address);
    *is_done = strcmp(address, change->address) == 0;
    if (*is_done)
        return CLI_FINE;
    fprintf(stderr, "anysa: slot %u is a member already, at %s; choose a free slot\n", change->slot,
            address);
    return CLI_USAGE;
}

static int edit(const struct cli *cli, struct cli_file *f, const struct config *cfg,
                const struct change *change, const char *path)
{
    struct slots wanted = slots_of(cfg);
    bool is_done;
    int rc = judge(cfg, change, &is_done);

    if (rc != CLI_FINE)
        return rc;
    if (is_done)
        return tell(cli, change, false, path);
    if (change->address) {
        if (wanted.n == SYNC_MEMBERS_MAX) {
            fputs("anysa: the member list is full\n", stderr);
            return CLI_USAGE;
        }
        wanted.slot[wanted.n++] = change->slot;
    } else {
        for (size_t i = 0; i < wanted.n; i++)
            if (wanted.slot[i] == change->slot)
                wanted.slot[i] = wanted.slot[--wanted.n];
    }
    rc = stage(f, cfg, change);
    if (rc == CLI_FINE && !cli->force)
        rc = check_cluster(cli, &wanted);
    if (rc == CLI_FINE)
        rc = cli_file_commit(f);
    return rc == CLI_FINE ? tell(cli, change, true, path) : rc;
}

static int change_list(const struct cli *cli, const char *slot, const char *address)
{
    const char *path = cli->config ? cli->config : default_config;
    struct change change = {.address = address};
    struct config_error err;
    struct config *cfg;
    struct cli_file f;
    char *end;
    unsigned long n;
    int rc;

    errno = 0;
    n = strtoul(slot, &end, 10);
    if (slot[0] < '0' || slot[0] > '9' || *end || errno || n > SLOT_MAX) {
        fprintf(stderr, "anysa: '%s' is not a slot, a number from 0 to %d\n", slot, SLOT_MAX);
        return CLI_USAGE;
    }
    if (address && strpbrk(address, "\"\\ \t\n#")) {
        fprintf(stderr, "anysa: '%s' is not HOST:PORT\n", address);
        return CLI_USAGE;
    }
    change.slot = (uint16_t)n;
    rc = cli_file_open(path, NODE_FILE_BYTES_MAX, false, &f);
    if (rc == CLI_FINE) {
        if (config_load(f.path, &cfg, &err) == ERR_OK) {
            rc = edit(cli, &f, cfg, &change, path);
            config_free(cfg);
        } else {
            rc = bad_config(&err);
        }
    }
    cli_file_close(&f);
    return rc;
}

int cli_member_add(const struct cli *cli, char *const *args)
{
    return change_list(cli, args[0], args[1]);
}

int cli_member_remove(const struct cli *cli, char *const *args)
{
    return change_list(cli, args[0], NULL);
}
