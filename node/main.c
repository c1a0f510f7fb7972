/* anysad: the command line, and nothing else. */
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "node/config.h"
#include "node/log_json.h"
#include "node/node.h"
#include "proto/crypto.h"
#include "proto/err.h"
#include "proto/log.h"
#include "proto/secret.h"

enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static const char usage[] =
    "usage: anysad --config FILE [--check] [--log-json] [--log-level LEVEL]\n"
    "       anysad --version | --help\n"
    "\n"
    "  --config FILE      the node's configuration (node.yaml)\n"
    "  --check            validate it and exit: 0 good, 2 bad\n"
    "  --log-json         log JSON objects, one per line, instead of text\n"
    "  --log-level LEVEL  debug, info (default), warn or error\n"
    "\n"
    "Runs in the foreground and logs to stderr. SIGHUP reloads tunnels and routes,\n"
    "SIGTERM drains and exits 0. Exit codes: 0 fine, 1 failed, 2 usage or configuration.\n";

struct command {
    const char *config;
    bool check, log_json, help, version;
    enum log_level level;
};

static bool parse_level(const char *text, enum log_level *out)
{
    for (int level = LOG_LEVEL_DEBUG; level <= LOG_LEVEL_ERROR; level++)
        if (strcmp(text, log_level_name((enum log_level)level)) == 0) {
            *out = (enum log_level)level;
            return true;
        }
    fprintf(stderr, "anysad: no log level '%s'; use debug, info, warn or error\n", text);
    return false;
}

static bool parse_command(int argc, char **argv, struct command *out)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check", no_argument, NULL, 'k'},
        {"log-json", no_argument, NULL, 'j'},
        {"log-level", required_argument, NULL, 'l'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option;

    *out = (struct command){.level = LOG_LEVEL_INFO};
    while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            out->config = optarg;
            break;
        case 'k':
            out->check = true;
            break;
        case 'j':
            out->log_json = true;
            break;
        case 'l':
            if (!parse_level(optarg, &out->level))
                return false;
            break;
        case 'v':
            out->version = true;
            break;
        case 'h':
            out->help = true;
            break;
        default:
            return false;
        }
    }
    if (optind < argc)
        fprintf(stderr, "anysad: unexpected argument '%s'\n", argv[optind]);
    return optind == argc;
}

static int check_or_run(const struct command *command)
{
    static struct config_error why;
    char line[CONFIG_ERROR_LINE];
    struct config *config;
    int code;

    if (config_load(command->config, &config, &why) != ERR_OK) {
        fprintf(stderr, "%s\n", config_error_format(&why, line));
        return EXIT_USAGE;
    }
    if (!command->check) {
        code = node_run(config);
        config_free(config);
        fflush(stderr);
        _exit(code); /* nng's threads still run: no destructor may meet them */
    }
    for (size_t i = 0; i < config->tunnels.n_warnings; i++)
        fprintf(stderr, "warning: %s\n", config->tunnels.warnings[i]);
    printf("%s is good: %zu tunnels, %zu routes\n", command->config, config->tunnels.n_tunnels,
           config->tunnels.n_routes);
    config_free(config);
    return EXIT_FINE;
}

/* A sanitizer wants to see each allocation of the libraries by itself. */
static int keep_keys_in_custody(void)
{
    return SECRET_POOLED ? crypto_keep_in_custody() : ERR_OK;
}

int main(int argc, char **argv)
{
    struct command command;

    if (!parse_command(argc, argv, &command)) {
        fputs("try: anysad --help\n", stderr);
        return EXIT_USAGE;
    }
    if (command.help) {
        fputs(usage, stdout);
        return EXIT_FINE;
    }
    if (command.version) {
        puts("anysad " ANYSA_VERSION);
        return EXIT_FINE;
    }
    if (!command.config) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    json_object_seed(0); /* before any thread makes an object */
    log_set_level(command.level);
    if (command.log_json)
        log_set_sink(log_json_sink);
    if (secret_harden_process() != ERR_OK || keep_keys_in_custody() != ERR_OK) {
        log_error("node", "key memory could not be kept out of core dumps; keys would not be safe");
        return EXIT_FAILED;
    }
    return check_or_run(&command);
}
