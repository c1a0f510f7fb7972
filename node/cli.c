/* anysa: the command line of a cluster. Everything it knows of a node comes over HTTP. */
#include <curl/curl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "node/cli.h"

static const char default_url[] = "http://127.0.0.1:8080";

enum option_code {
    OPT_URL = 256,
    OPT_TOKEN_FILE,
    OPT_CA,
    OPT_JSON,
    OPT_VERSION,
    OPT_ID,
    OPT_ADD,
    OPT_USE,
    OPT_DROP,
    OPT_FORCE,
    OPT_YES,
    OPT_CONFIG,
    OPT_STATE_DIR,
};

static const struct option options[] = {
    {"url", required_argument, NULL, OPT_URL},
    {"token-file", required_argument, NULL, OPT_TOKEN_FILE},
    {"ca", required_argument, NULL, OPT_CA},
    {"json", no_argument, NULL, OPT_JSON},
    {"id", required_argument, NULL, OPT_ID},
    {"add", required_argument, NULL, OPT_ADD},
    {"use", required_argument, NULL, OPT_USE},
    {"drop", required_argument, NULL, OPT_DROP},
    {"force", no_argument, NULL, OPT_FORCE},
    {"yes", no_argument, NULL, OPT_YES},
    {"config", required_argument, NULL, OPT_CONFIG},
    {"state-dir", required_argument, NULL, OPT_STATE_DIR},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, OPT_VERSION},
    {0},
};

static int usage(const char *text, const char *word)
{
    fprintf(stderr, "anysa: %s%s%s%s; see anysa --help\n", text, word ? " '" : "", word ? word : "",
            word ? "'" : "");
    return CLI_USAGE;
}

/* An option of single verbs; false: it is none. */
static bool take_option(struct cli *cli, int option, const char *value)
{
    switch (option) {
    case OPT_ID:
        cli->id = value;
        return true;
    case OPT_ADD:
        cli->add = value;
        return true;
    case OPT_USE:
        cli->use = value;
        return true;
    case OPT_DROP:
        cli->drop = value;
        return true;
    case OPT_FORCE:
        return cli->force = true;
    case OPT_YES:
        return cli->yes = true;
    case OPT_CONFIG:
        cli->config = value;
        return true;
    case OPT_STATE_DIR:
        cli->state_dir = value;
        return true;
    default:
        return false;
    }
}

/* The first of the options given that the verb does not take; NULL: it takes them all. */
static const char *stray_option(const struct cli *cli, const struct cli_verb *verb)
{
    const struct {
        const char *name;
        unsigned bit;
        bool given;
    } all[] = {
        {"--id", CLI_ID, cli->id},
        {"--add", CLI_ADD, cli->add},
        {"--use", CLI_USE, cli->use},
        {"--drop", CLI_DROP, cli->drop},
        {"--force", CLI_FORCE, cli->force},
        {"--yes", CLI_YES, cli->yes},
        {"--config", CLI_CONFIG, cli->config},
        {"--state-dir", CLI_STATE_DIR, cli->state_dir},
    };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].given && !(verb->takes & all[i].bit))
            return all[i].name;
    return NULL;
}

static int run_verb(const struct cli *cli, char **words, int n, bool help)
{
    const struct cli_verb *verb;
    const char *stray;
    int used;

    if (n == 0) {
        cli_print_help(help ? stdout : stderr);
        return help ? CLI_FINE : CLI_USAGE;
    }
    verb = cli_find_verb(words, n, &used);
    if (!verb)
        return usage("unknown verb", words[0]);
    if (help) {
        cli_print_verb_help(stdout, verb);
        return CLI_FINE;
    }
    if (n - used != verb->n_args) {
        fprintf(stderr, "usage: anysa %s%s%s\n", verb->name, verb->args[0] ? " " : "", verb->args);
        return CLI_USAGE;
    }
    stray = stray_option(cli, verb);
    if (stray) {
        fprintf(stderr, "anysa: %s does not belong to this verb: %s\n", stray, verb->name);
        return CLI_USAGE;
    }
    return verb->run(cli, words + used);
}

int main(int argc, char **argv)
{
    struct cli cli = {.url = getenv("ANYSA_URL")};
    bool help = false;
    int option, rc;

    if (!cli.url || !cli.url[0])
        cli.url = default_url;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (option) {
        case OPT_URL:
            cli.url = optarg;
            break;
        case OPT_TOKEN_FILE:
            cli.token_file = optarg;
            break;
        case OPT_CA:
            cli.ca_file = optarg;
            break;
        case OPT_JSON:
            cli.json = true;
            break;
        case OPT_VERSION:
            puts("anysa " ANYSA_VERSION);
            return CLI_FINE;
        case 'h':
            help = true;
            break;
        default:
            if (take_option(&cli, option, optarg))
                break;
            return CLI_USAGE; /* getopt has said what is wrong */
        }
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return CLI_FAILED;
    rc = run_verb(&cli, argv + optind, argc - optind, help);
    curl_global_cleanup();
    return rc;
}
