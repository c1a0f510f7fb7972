/* anysa: the command line of a cluster. Everything it knows of a node comes over HTTP. */
#include <curl/curl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "node/cli.h"

static const char default_url[] = "http://127.0.0.1:8080";

enum option_code { OPT_URL = 256, OPT_TOKEN_FILE, OPT_CA, OPT_JSON, OPT_ID, OPT_VERSION };

static const struct option options[] = {
    {"url", required_argument, NULL, OPT_URL},
    {"token-file", required_argument, NULL, OPT_TOKEN_FILE},
    {"ca", required_argument, NULL, OPT_CA},
    {"json", no_argument, NULL, OPT_JSON},
    {"id", required_argument, NULL, OPT_ID},
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

static int run_verb(const struct cli *cli, char **words, int n, bool help)
{
    const struct cli_verb *verb;
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
    if (cli->id && !verb->takes_id)
        return usage("--id does not belong to this verb:", verb->name);
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
        case OPT_ID:
            cli.id = optarg;
            break;
        case OPT_VERSION:
            puts("anysa " ANYSA_VERSION);
            return CLI_FINE;
        case 'h':
            help = true;
            break;
        default: /* getopt has said what is wrong */
            return CLI_USAGE;
        }
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return CLI_FAILED;
    rc = run_verb(&cli, argv + optind, argc - optind, help);
    curl_global_cleanup();
    return rc;
}
