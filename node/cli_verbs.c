/* The verbs: a new one starts as a row. */
#include <string.h>

#include "node/cli.h"

const struct cli_verb cli_verbs[] = {
    {"status", "",
     "the cluster at a glance\nExit code 1 when this node is not ready or the "
     "nodes' SA tables differ.",
     0, 0, cli_status},
    {"nodes", "", "every node of the cluster, as this one sees it", 0, 0, cli_nodes},
    {"tunnels", "", "the tunnels, whether they are up, and why not", 0, 0, cli_tunnels},
    {"sas", "", "IKE SAs and Child SAs with their traffic on this node", 0, 0, cli_sas},
    {"routes", "", "the routes into the tunnels", 0, 0, cli_routes},
    {"events", "", "SA, node and tunnel events as they happen", 0, 0, cli_unsupported},
    {"drain", "",
     "take this node out of service\n/readyz turns 503, so that the network sends nothing new "
     "here; "
     "other nodes get\nits IKE SAs. It still carries what comes.",
     0, 0, cli_drain},
    {"resume", "", "bring this node back into service", 0, 0, cli_resume},
    {"check", "FILE",
     "validate a node file and all that it names\nNothing is started. An error "
     "says file, line, column and remedy; exit code 2.",
     1, 0, cli_check},
    {"psk generate", "",
     "print a new pre-shared key\n32 random bytes in hex, one line: the "
     "content of a psk_file.",
     0, 0, cli_psk_generate},
    {"cluster-key generate", "[--id N]",
     "print a new line for the cluster's key_file\n"
     "N is the key's id, 1 unless given. The file's first line sends.",
     0, CLI_ID, cli_cluster_key_generate},
    {"cluster-key rotate", "FILE (--add LINE-FILE | --use ID | --drop ID)",
     "replace the cluster key while the cluster runs\n"
     "Edits one node's key file. Make the new line once, for all nodes:\n"
     "    anysa cluster-key generate --id 2 > new.key\n"
     "Then, each step on every node, with a reload (SIGHUP) of each, before the next one:\n"
     "    anysa cluster-key rotate cluster.key --add new.key   every node accepts it\n"
     "    anysa cluster-key rotate cluster.key --use 2         every node sends under it\n"
     "    anysa cluster-key rotate cluster.key --drop 1        no node accepts the old one\n"
     "--use is refused while a member does not accept that key, --drop while one sends under it, "
     "and\n"
     "both while a member is dead or this node does not answer; --force does it all the same.\n"
     "A step that is done already changes nothing.",
     1, CLI_ADD | CLI_USE | CLI_DROP | CLI_FORCE, cli_cluster_key_rotate},
    {"member add", "SLOT ADDRESS [--config FILE]",
     "add a node to the member list\n"
     "Edits mesh.members of one node's file (/etc/anysa/node.yaml unless given) and nothing else "
     "in\n"
     "it; ADDRESS is HOST:PORT. Do the same on every node, then the next change: while live "
     "members\n"
     "have different lists, or this node does not answer, another change is refused (--force).",
     2, CLI_CONFIG | CLI_FORCE, cli_member_add},
    {"member remove", "SLOT [--config FILE]",
     "remove a node from the member list\n"
     "As member add. Stop that node first; where it is lost for good, removing it lets the others\n"
     "grant epochs again.",
     1, CLI_CONFIG | CLI_FORCE, cli_member_remove},
    {"purge", "--yes",
     "drop every SA of the cluster\n"
     "Each router is told once and negotiates anew. For when the members have forgotten more than\n"
     "epochs can bear (docs/operating.md), or a cluster key may be known.",
     0, CLI_YES, cli_purge},
};
const size_t cli_verbs_n = sizeof cli_verbs / sizeof cli_verbs[0];

/* How many of the words spell `name`, 0 when they do not. */
static int match(const char *name, char *const *words, int n)
{
    int used = 0;

    while (used < n) {
        size_t len = strlen(words[used]);
        if (strncmp(name, words[used], len) != 0 || (name[len] != ' ' && name[len] != 0))
            return 0;
        used++;
        if (name[len] == 0)
            return used;
        name += len + 1;
    }
    return 0;
}

const struct cli_verb *cli_find_verb(char *const *words, int n, int *used)
{
    for (size_t i = 0; i < cli_verbs_n; i++) {
        *used = match(cli_verbs[i].name, words, n);
        if (*used)
            return &cli_verbs[i];
    }
    return NULL;
}

static int first_line(const char *help)
{
    return (int)strcspn(help, "\n");
}

void cli_print_help(FILE *out)
{
    fputs("usage: anysa [--url URL] [--ca FILE] [--token-file FILE] [--json] VERB\n\n", out);
    for (size_t i = 0; i < cli_verbs_n; i++) {
        const struct cli_verb *v = &cli_verbs[i];
        int width = fprintf(out, "  %s%s%s", v->name, v->args[0] ? " " : "", v->args);
        fprintf(out, "%*s%.*s%s\n", width < 34 ? 34 - width : 1, "", first_line(v->help), v->help,
                v->run == cli_unsupported ? " (not supported by this version)" : "");
    }
    fputs("\n"
          "  --url URL          the node to ask; else $ANYSA_URL, else http://127.0.0.1:8080\n"
          "  --ca FILE          certificates to trust where URL is https (else the system's)\n"
          "  --token-file FILE  holds the node's HTTP token\n"
          "  --json             for programs\n"
          "  --help             with a verb: more about it\n"
          "  --version\n\n"
          "Exit codes: 0 fine, 1 failed or unhealthy, 2 usage or configuration.\n",
          out);
}

void cli_print_verb_help(FILE *out, const struct cli_verb *verb)
{
    fprintf(out, "usage: anysa %s%s%s\n\n%s\n", verb->name, verb->args[0] ? " " : "", verb->args,
            verb->help);
    if (verb->run == cli_unsupported)
        fputs("Not supported by this version.\n", out);
}
