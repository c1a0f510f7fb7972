/* anysa, the command line: a table of verbs over the node's HTTP interface.
 * One thread. Functions return exit codes: 0 fine, 1 failed or unhealthy,
 * 2 usage or configuration; what went wrong stands on stderr by then. */
#ifndef NODE_CLI_H
#define NODE_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { CLI_FINE = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

struct cli {
    const char *url;        /* "http://127.0.0.1:8080", no slash at the end needed */
    const char *token_file; /* NULL: none */
    const char *ca_file;    /* whom to trust on https, PEM; NULL: the system's */
    bool json;              /* for programs */
    /* options of single verbs; NULL or false when not given */
    const char *id, *add, *use, *drop, *config, *state_dir;
    bool force, yes;
};

/* Which of these a verb takes. */
enum cli_option {
    CLI_ID = 1 << 0,        /* --id N */
    CLI_ADD = 1 << 1,       /* --add FILE */
    CLI_USE = 1 << 2,       /* --use ID */
    CLI_DROP = 1 << 3,      /* --drop ID */
    CLI_FORCE = 1 << 4,     /* --force */
    CLI_YES = 1 << 5,       /* --yes */
    CLI_CONFIG = 1 << 6,    /* --config FILE */
    CLI_STATE_DIR = 1 << 7, /* --state-dir DIR */
};

struct cli_verb {
    const char *name; /* one or two words */
    const char *args; /* as in the usage line; "" for none */
    const char *help; /* one line and, after a newline, more of it */
    int n_args;       /* words after the name, exactly */
    unsigned takes;   /* enum cli_option */
    int (*run)(const struct cli *cli, char *const *args);
};
extern const struct cli_verb cli_verbs[];
extern const size_t cli_verbs_n;

/* The verb that `words` begin with and how many words its name took; else NULL. */
const struct cli_verb *cli_find_verb(char *const *words, int n, int *used);
void cli_print_help(FILE *out);
void cli_print_verb_help(FILE *out, const struct cli_verb *verb);

/* ---- cli_http.c ---- */

/* GET url + path. On CLI_FINE *status is the HTTP status and *body (owned by the caller) its
 * JSON; a 503 is an answer, any other error is told and gives CLI_FAILED. */
int cli_get(const struct cli *cli, const char *path, long *status, json_t **body);
/* POST without a body; the answer as with cli_get. */
int cli_post(const struct cli *cli, const char *path, json_t **body);
/* All items of a list, page by page: a new array in *items. */
int cli_get_list(const struct cli *cli, const char *path, json_t **items);

/* ---- cli_file.c: a file that is edited as a whole ---- */

/* Locked against others that edit it, and read. */
struct cli_file {
    char path[4096]; /* where symbolic links lead to */
    char temp[4120]; /* "" when there is none */
    int fd;
    uint8_t *p; /* its bytes and a NUL, secret_alloc(n + 1) */
    size_t n;
};
/* CLI_FINE; or CLI_FAILED, and it is told why. secret: with the permissions of a key file. */
int cli_file_open(const char *path, size_t max, bool secret, struct cli_file *f);
/* Writes the new content beside it, with the same owner and mode, and makes it durable. */
int cli_file_stage(struct cli_file *f, const uint8_t *p, size_t n);
/* Puts what was staged into its place, durably: whoever reads it sees the old one or the new. */
int cli_file_commit(struct cli_file *f);
void cli_file_close(struct cli_file *f); /* what was staged and not committed goes */

/* ---- cli_table.c ---- */

struct cli_column {
    const char *title;
    const char *key;  /* of the item; "a.b" goes one level down */
    const char *also; /* another key to try, or NULL */
    int max;          /* characters shown, 0: all */
};
/* A header and a row per item; "-" where an item lacks the key. */
void cli_print_table(FILE *out, const struct cli_column *columns, size_t n, const json_t *items);
/* The value as people read it; the caller frees it. NULL when out of memory. */
char *cli_cell(const json_t *value);
/* Pretty, with a newline. CLI_FINE, or CLI_FAILED when stdout is gone. */
int cli_print_json(const json_t *value);

/* ---- cli_show.c, cli_local.c: the verbs ---- */

int cli_status(const struct cli *cli, char *const *args);
int cli_nodes(const struct cli *cli, char *const *args);
int cli_tunnels(const struct cli *cli, char *const *args);
int cli_sas(const struct cli *cli, char *const *args);
int cli_routes(const struct cli *cli, char *const *args);
int cli_drain(const struct cli *cli, char *const *args);
int cli_resume(const struct cli *cli, char *const *args);
int cli_check(const struct cli *cli, char *const *args);
int cli_psk_generate(const struct cli *cli, char *const *args);
int cli_cluster_key_generate(const struct cli *cli, char *const *args);
int cli_cluster_key_rotate(const struct cli *cli, char *const *args);
int cli_member_add(const struct cli *cli, char *const *args);
int cli_member_remove(const struct cli *cli, char *const *args);
int cli_purge(const struct cli *cli, char *const *args);
int cli_unsupported(const struct cli *cli, char *const *args);

#endif
