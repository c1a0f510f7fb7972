/* The verbs that show what a node says. A missing field shows as "-". */
#include <stdlib.h>
#include <string.h>

#include "node/cli.h"

#define COLUMNS(array) (array), sizeof(array) / sizeof((array)[0])

enum { HTTP_OK = 200, SHORT_HEX = 12 };

static const struct cli_column node_columns[] = {
    {"NAME", "name", NULL, 0},
    {"SLOT", "slot", NULL, 0},
    {"STATE", "state", NULL, 0},
    {"EPOCH", "epoch", NULL, 0},
    {"HEAD", "head", NULL, 0},
    {"LAG", "lag_records", NULL, 0},
    {"SEEN-MS", "last_seen_ms", NULL, 0},
    {"IKE-SAS", "ike_sas", NULL, 0},
    {"CHILD-SAS", "child_sas", NULL, 0},
    {"KEY", "key_state", NULL, 0},
    {"INCARNATION", "incarnation", NULL, SHORT_HEX},
    {"VERSION", "version", NULL, 0},
};

static const struct cli_column tunnel_columns[] = {
    {"ID", "id", NULL, 0},
    {"NAME", "name", NULL, 0},
    {"ACCOUNT", "account_id", NULL, 0},
    {"TYPE", "type", NULL, 0},
    {"STATUS", "status", NULL, 0},
    {"ANYCAST", "anycast_endpoint", "cloudflare_endpoint", 0},
    {"CUSTOMER", "customer_endpoint", NULL, 0},
    {"PKTS-IN", "packets_in", NULL, 0},
    {"PKTS-OUT", "packets_out", NULL, 0},
    {"LAST-FAILURE", "last_failure.at", NULL, 0},
    {"REASON", "last_failure.reason", NULL, 0},
};

static const struct cli_column ike_columns[] = {
    {"SPI-I", "spi_i", NULL, 0},
    {"SPI-R", "spi_r", NULL, 0},
    {"TUNNEL", "tunnel_id", NULL, 0},
    {"OWNER", "owner", NULL, 0},
    {"TERM", "term", NULL, 0},
    {"PEER", "peer", NULL, 0},
    {"NAT", "nat", NULL, 0},
    {"SUITE", "suite", NULL, 0},
    {"CREATED", "created_at", NULL, 0},
    {"NOT-AFTER", "not_after", NULL, 0},
};

static const struct cli_column child_columns[] = {
    {"SPI-IN", "spi_in", NULL, 0},
    {"SPI-OUT", "spi_out", NULL, 0},
    {"TUNNEL", "tunnel_id", NULL, 0},
    {"STATE", "state", NULL, 0},
    {"ORIGIN", "origin", NULL, 0},
    {"ENCAP", "encap", NULL, 0},
    {"PEER", "peer", NULL, 0},
    {"SUITE", "suite", NULL, 0},
    {"LOCAL", "ts_local", NULL, 0},
    {"REMOTE", "ts_remote", NULL, 0},
    {"PKTS-IN", "packets_in", NULL, 0},
    {"BYTES-IN", "bytes_in", NULL, 0},
    {"PKTS-OUT", "packets_out", NULL, 0},
    {"BYTES-OUT", "bytes_out", NULL, 0},
    {"NOT-AFTER", "not_after", NULL, 0},
};

static const struct cli_column route_columns[] = {
    {"PREFIX", "prefix", NULL, 0},
    {"TUNNEL", "tunnel_id", "tunnel", 0},
    {"PRIORITY", "priority", NULL, 0},
    {"WEIGHT", "weight", NULL, 0},
};

static int done(void)
{
    return fflush(stdout) == 0 ? CLI_FINE : CLI_FAILED;
}

/* A list as a table, or as one page of JSON. Takes the items. */
static int show_items(const struct cli *cli, json_t *items, const struct cli_column *columns,
                      size_t n)
{
    json_t *page;
    int rc;

    if (!cli->json) {
        cli_print_table(stdout, columns, n, items);
        json_decref(items);
        return done();
    }
    page = json_pack("{s:o, s:n}", "items", items, "next_cursor");
    rc = cli_print_json(page);
    json_decref(page);
    return rc;
}

static int show_list(const struct cli *cli, const char *path, const struct cli_column *columns,
                     size_t n)
{
    json_t *items;
    int rc = cli_get_list(cli, path, &items);

    return rc == CLI_FINE ? show_items(cli, items, columns, n) : rc;
}

int cli_nodes(const struct cli *cli, char *const *args)
{
    (void)args;
    return show_list(cli, "/v1/nodes", COLUMNS(node_columns));
}

int cli_tunnels(const struct cli *cli, char *const *args)
{
    (void)args;
    return show_list(cli, "/v1/tunnels", COLUMNS(tunnel_columns));
}

int cli_routes(const struct cli *cli, char *const *args)
{
    (void)args;
    return show_list(cli, "/v1/routes", COLUMNS(route_columns));
}

int cli_sas(const struct cli *cli, char *const *args)
{
    json_t *ike, *child, *both;
    int rc = cli_get_list(cli, "/v1/ike-sas", &ike);

    (void)args;
    if (rc != CLI_FINE)
        return rc;
    rc = cli_get_list(cli, "/v1/child-sas", &child);
    if (rc != CLI_FINE) {
        json_decref(ike);
        return rc;
    }
    if (cli->json) {
        both = json_pack("{s:O, s:O}", "ike_sas", ike, "child_sas", child);
        rc = cli_print_json(both);
        json_decref(both);
    } else {
        printf("IKE SAs: %zu\n", json_array_size(ike));
        if (json_array_size(ike))
            cli_print_table(stdout, COLUMNS(ike_columns), ike);
        printf("\nChild SAs: %zu\n", json_array_size(child));
        if (json_array_size(child))
            cli_print_table(stdout, COLUMNS(child_columns), child);
        rc = done();
    }
    json_decref(ike);
    json_decref(child);
    return rc;
}

/* ---- status ---- */

static void print_totals(const json_t *cluster)
{
    const json_t *totals = json_object_get(cluster, "totals");
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(json_is_object(totals) ? totals : cluster), key,
                        value) if (json_is_integer(value))
        printf("%-13s %" JSON_INTEGER_FORMAT "\n", key, json_integer_value(value));
}

static void print_field(const char *title, const json_t *value)
{
    char *text = cli_cell(value);

    printf("%-13s %s\n", title, text ? text : "?");
    free(text);
}

/* "journal_failed: cannot write: database or disk is full" */
static void print_details(const json_t *details)
{
    const char *reason;
    json_t *text;

    json_object_foreach((json_t *)(uintptr_t)details, reason, text) print_field(reason, text);
}

static void print_status(const json_t *cluster, const json_t *ready, bool is_ready)
{
    const json_t *nodes = json_object_get(cluster, "nodes");

    print_field("cluster", json_object_get(cluster, "name"));
    print_field("converged", json_object_get(cluster, "converged"));
    print_field("sa_digest", json_object_get(cluster, "sa_digest"));
    printf("%-13s %s\n", "this node", is_ready ? "ready" : "not ready");
    if (!is_ready)
        print_field("reasons", json_object_get(ready, "reasons"));
    if (!is_ready)
        print_details(json_object_get(ready, "details"));
    print_totals(cluster);
    if (json_array_size(nodes)) {
        putchar('\n');
        cli_print_table(stdout, COLUMNS(node_columns), nodes);
    }
}

int cli_status(const struct cli *cli, char *const *args)
{
    json_t *cluster, *ready, *all;
    long status = 0, ready_status = 0;
    bool is_ready, converged;
    int rc = cli_get(cli, "/v1/cluster", &status, &cluster);

    (void)args;
    if (rc != CLI_FINE)
        return rc;
    rc = cli_get(cli, "/readyz", &ready_status, &ready);
    if (rc != CLI_FINE) {
        json_decref(cluster);
        return rc;
    }
    is_ready = ready_status == HTTP_OK;
    converged = status == HTTP_OK && json_is_true(json_object_get(cluster, "converged"));
    if (cli->json) {
        all = json_pack("{s:b, s:O*, s:O}", "ready", is_ready, "reasons",
                        json_object_get(ready, "reasons"), "cluster", cluster);
        rc = cli_print_json(all);
        json_decref(all);
    } else {
        print_status(cluster, ready, is_ready);
        rc = done();
    }
    json_decref(cluster);
    json_decref(ready);
    return rc == CLI_FINE && !(is_ready && converged) ? CLI_FAILED : rc;
}

static int order(const struct cli *cli, const char *path, const char *told)
{
    json_t *answer;
    int rc = cli_post(cli, path, &answer);

    if (rc != CLI_FINE)
        return rc;
    if (cli->json) {
        rc = cli_print_json(answer);
    } else {
        puts(told);
        rc = done();
    }
    json_decref(answer);
    return rc;
}

int cli_drain(const struct cli *cli, char *const *args)
{
    (void)args;
    return order(cli, "/v1/node/drain",
                 "draining: /readyz says so, and the IKE SAs go to other nodes");
}

int cli_resume(const struct cli *cli, char *const *args)
{
    (void)args;
    return order(cli, "/v1/node/resume", "in service again");
}

int cli_purge(const struct cli *cli, char *const *args)
{
    json_t *answer;
    int rc;

    (void)args;
    if (!cli->yes) {
        fputs("anysa: every tunnel of the cluster goes down until its router negotiates anew; say "
              "--yes if that is meant\n",
              stderr);
        return CLI_USAGE;
    }
    rc = cli_post(cli, "/v1/purge", &answer);
    if (rc != CLI_FINE)
        return rc;
    if (cli->json) {
        rc = cli_print_json(answer);
    } else {
        printf("%" JSON_INTEGER_FORMAT " IKE SAs and %" JSON_INTEGER_FORMAT
               " Child SAs are being deleted on all nodes\n",
               json_integer_value(json_object_get(answer, "ike_sas")),
               json_integer_value(json_object_get(answer, "child_sas")));
        rc = done();
    }
    json_decref(answer);
    return rc;
}
