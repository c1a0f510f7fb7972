#include "config_files.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char good_node_yaml[] =
    "node: {name: n1, slot: 1, state_dir: state}\n"                               /* 1 */
    "cluster: {name: lab, key_file: cluster.key, id_domain: IPsec.Example.net}\n" /* 2 */
    "anycast: {addresses: [192.0.2.1, 192.0.2.2]}\n"                              /* 3 */
    "mesh:\n"                                                                     /* 4 */
    "  members:\n"                                                                /* 5 */
    "    - {slot: 1, address: \"10.99.0.1:7800\"}\n"                              /* 6 */
    "    - {slot: 2, address: \"node2.example.net:7800\"}\n"                      /* 7 */
    "    - {slot: 1022, address: \"[2001:db8::3]:7800\"}\n"                       /* 8 */
    "  dead_ms: 600\n"                                                            /* 9 */
    "http: {listen: \"127.0.0.1:8081\", token_file: api.token}\n"                 /* 10 */
    "ike: {barrier_timeout_ms: 251, dpd_s: 31, lifetime_s: 86401,\n"              /* 11 */
    "      child_lifetime_s: 28801, max_children: 101, half_open_cookie_threshold: 65, "
    "fragment_size: 1300}\n"                             /* 12 */
    "dataplane: {source: socket, tun: tun7, lanes: 1}\n" /* 13 */
    "tunnels_file: tunnels.yaml\n";                      /* 14 */

const char good_tunnels_yaml[] =
    "tunnels:\n"                                             /* 1 */
    "  - id: f5407d8db1a542b196c59f6d04ba8bd1\n"             /* 2 */
    "    account_id: \"123456789\"\n"                        /* 3 */
    "    name: acme-ams\n"                                   /* 4 */
    "    type: ipsec\n"                                      /* 5 */
    "    anycast_endpoint: 192.0.2.1\n"                      /* 6 */
    "    customer_endpoint: 198.51.100.1\n"                  /* 7 */
    "    psk_file: psk/acme-ams\n"                           /* 8 */
    "    interface_address: 10.100.0.9/31\n"                 /* 9 */
    "    allow_null_cipher: true\n"                          /* 10 */
    "    local_ts: [10.0.0.0/8]\n"                           /* 11 */
    "    remote_ts: [203.0.113.0/24, \"2001:db8:1::/48\"]\n" /* 12 */
    "    local_id: gw.example.net\n"                         /* 13 */
    "    mtu: 1400\n"                                        /* 14 */
    "  - id: f5407d8db1a542b196c59f6d04ba8bd2\n"             /* 15 */
    "    account_id: \"123456789\"\n"                        /* 16 */
    "    name: acme-gre\n"                                   /* 17 */
    "    type: gre\n"                                        /* 18 */
    "    cloudflare_endpoint: 192.0.2.2\n"                   /* 19 */
    "    customer_endpoint: 198.51.100.2\n"                  /* 20 */
    "    gre_key: 7\n"                                       /* 21 */
    "    ttl: 32\n"                                          /* 22 */
    "  - id: f5407d8db1a542b196c59f6d04ba8bd3\n"             /* 23 */
    "    account_id: beta-1\n"                               /* 24 */
    "    name: Beta Amsterdam\n"                             /* 25 */
    "    type: gre\n"                                        /* 26 */
    "    anycast_endpoint: 192.0.2.2\n"                      /* 27 */
    "    customer_endpoint: 198.51.100.2\n"                  /* 28 */
    "routes:\n"                                              /* 29 */
    "  - {prefix: 203.0.113.0/24, tunnel: f5407d8db1a542b196c59f6d04ba8bd1, priority: 7, "
    "weight: 1}\n"                                                                   /* 30 */
    "  - {prefix: \"2001:db8:2::/48\", tunnel: F5407D8DB1A542B196C59F6D04BA8BD2}\n"; /* 31 */

const char good_cluster_key[] =
    "7 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"
    "8 FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF\n";

static char directory[128];

void config_files_begin(void)
{
    snprintf(directory, sizeof directory, "/tmp/anysa-config-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    cr_assert_eq(mkdir(config_file("psk"), 0700), 0);
    config_write("node.yaml", good_node_yaml, 0644);
    config_write("tunnels.yaml", good_tunnels_yaml, 0644);
    config_write("cluster.key", good_cluster_key, 0600);
    config_write("api.token", "open-sesame\n", 0600);
    config_write("psk/acme-ams", "correct horse\n\n", 0400);
}

void config_files_end(void)
{
    char command[sizeof directory + 32];

    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    cr_assert_eq(system(command), 0); // NOLINT(cert-env33-c,bugprone-command-processor)
}

const char *config_file(const char *name)
{
    static char path[256];

    snprintf(path, sizeof path, "%s%s%s", directory, *name ? "/" : "", name);
    return path;
}

void config_write(const char *name, const char *text, mode_t mode)
{
    FILE *f;

    unlink(config_file(name));
    f = fopen(config_file(name), "w");
    cr_assert_not_null(f);
    cr_assert_eq(fwrite(text, 1, strlen(text), f), strlen(text));
    cr_assert_eq(fclose(f), 0);
    cr_assert_eq(chmod(config_file(name), mode), 0);
}

void config_write_changed(const char *name, const char *good, const char *from, const char *to,
                          mode_t mode)
{
    const char *at = strstr(good, from);
    char *text;

    cr_assert_not_null(at, "'%s' is not in %s", from, name);
    cr_assert_geq(asprintf(&text, "%.*s%s%s", (int)(at - good), good, to, at + strlen(from)), 0);
    config_write(name, text, mode);
    free(text);
}
