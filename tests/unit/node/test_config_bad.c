/* Every mistake has a place and a remedy. Each row spoils one value of the good files. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config_files.h"
#include "node/config.h"
#include "proto/err.h"

#define TUNNEL_1 "f5407d8db1a542b196c59f6d04ba8bd1"
#define TUNNEL_2 "f5407d8db1a542b196c59f6d04ba8bd2"

struct bad {
    const char *from, *to; /* in the file; a NULL `from`: `to` is the whole text */
    const char *where;     /* FILE:LINE:COLUMN */
    const char *what;      /* a part of the sentence */
    const char *remedy;    /* another */
};

static const struct bad bad_node[] = {
    /* form */
    {NULL, "# nothing\n", "node.yaml:1:1", "empty", "README"},
    {NULL, "a\n", "node.yaml:1:1", "the file must be", "key: value"},
    {NULL, "\xff\xff\n", "node.yaml:1:1", "UTF-8", "save"},
    {NULL, "a: b\n\xc3(: c\n", "node.yaml:2:2", "UTF-8", "save"},
    {"slot: 1,", "slot: 1", "node.yaml:1:35", "YAML syntax", "brackets"},
    {"state_dir: state}", "state_dir: \"a\\0b\"}", "node.yaml:1:38", "NUL", "remove"},
    {"mesh:\n", "mesh:\n\t- x\n", "node.yaml:5:1", "YAML syntax", "indentation"},
    {"name: n1", "name: *n1", "node.yaml:1:14", "aliases", "write the value out"},
    {"node: {", "? {a: b}\n: c\nnode: {", "node.yaml:1:3", "key", "write key: value"},
    {"tunnels_file:", "---\ntunnels_file:", "node.yaml:14:1", "second document", "keep only one"},
    {"state_dir: state", "state_dir: [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]", "node.yaml:1:52",
     "too deep", "README"},
    /* keys */
    {"dead_ms: 600", "dead_msec: 600", "node.yaml:9:3", "unknown key 'dead_msec' in mesh",
     "members, dead_ms"},
    {"http: {", "http: {tls: {cert: x}, ", "node.yaml:10:8", "unknown key 'tls' in http",
     "listen, token_file"},
    {"{slot: 2, address", "{slot: 2, addres", "node.yaml:7:17",
     "unknown key 'addres' in mesh.members[1]", "slot, address"},
    {"tunnels_file: tunnels.yaml", "", "node.yaml:1:1", "'tunnels_file' is missing",
     "add tunnels_file"},
    {"name: lab, ", "", "node.yaml:2:10", "'name' is missing in cluster", "add name"},
    {"{slot: 2, ", "{", "node.yaml:7:7", "'slot' is missing in mesh.members[1]", "add slot"},
    {"slot: 1,", "slot: 1, slot: 1,", "node.yaml:1:27", "'slot' stands twice", "keep one"},
    {"{addresses: [192.0.2.1, 192.0.2.2]}", "[192.0.2.1]", "node.yaml:3:10",
     "anycast must be a group", "key: value"},
    {"addresses: [192.0.2.1, 192.0.2.2]", "addresses: 192.0.2.1", "node.yaml:3:22",
     "anycast.addresses must be a list", "write [first"},
    {"addresses: [192.0.2.1, 192.0.2.2]", "addresses: []", "node.yaml:3:22",
     "anycast.addresses is empty", "list at least one"},
    {"name: n1", "name: [n1]", "node.yaml:1:14", "node.name must be a single value",
     "write key: value"},
    /* node, cluster */
    {"name: n1", "name: ''", "node.yaml:1:14", "1 to 63 characters", "change it"},
    {"name: n1", "name: n/1", "node.yaml:1:14", "not allowed", "use letters"},
    {"slot: 1,", "slot: 1023,", "node.yaml:1:24", "'1023' is not a whole number from 0 to 1022",
     "in that range"},
    {"slot: 1,", "slot: 0x1,", "node.yaml:1:24", "'0x1' is not a whole", "in that range"},
    {"slot: 1,", "slot: -1,", "node.yaml:1:24", "'-1' is not a whole", "in that range"},
    {"slot: 1,", "slot: 01,", "node.yaml:1:24", "'01' is not a whole", "in that range"},
    {"slot: 1,", "slot: 3,", "node.yaml:1:24", "slot 3 is not among mesh.members", "add this node"},
    {"state_dir: state", "state_dir: ''", "node.yaml:1:38", "empty path", "name a file"},
    {"key_file: cluster.key", "key_file: none.key", "node.yaml:2:32", "cannot open",
     "check the path"},
    {"key_file: cluster.key", "key_file: psk", "node.yaml:2:32", "not a regular file",
     "name a file"},
    {"IPsec.Example.net", "-x.net", "node.yaml:2:56", "not a domain name", "ipsec.example.net"},
    /* anycast, mesh */
    {"192.0.2.2", "192.0.2.1", "node.yaml:3:34", "listed twice", "remove one"},
    {"192.0.2.2", "192.0.2", "node.yaml:3:34", "not an IP address", "write one"},
    {"192.0.2.2", "224.0.0.1", "node.yaml:3:34", "not a unicast address", "one host"},
    {"192.0.2.2", "\"2001:db8::1\"", "node.yaml:3:34", "not supported by this version",
     "use an IPv4 address"},
    {"{slot: 2,", "{slot: 1,", "node.yaml:7:14", "slot 1 is taken by member 1", "its own"},
    {"node2.example.net:7800", "10.99.0.1:7800", "node.yaml:7:26",
     "10.99.0.1:7800 meets that of slot 1", "its own"},
    {"node2.example.net:7800", "10.99.0.1:7801", "node.yaml:7:26", "port + 1", "its own"},
    {"node2.example.net:7800", "10.99.0.1:65535", "node.yaml:7:26", "no room", "at most 65534"},
    {"node2.example.net:7800", "node2", "node.yaml:7:26", "not HOST:PORT", "10.99.0.1:7800"},
    {"node2.example.net:7800", "10.99.0.256:7800", "node.yaml:7:26", "neither an address",
     "write one"},
    {"dead_ms: 600", "dead_ms: 100", "node.yaml:9:12", "from 200 to 60000", "in that range"},
    /* http, ike, dataplane */
    {"\"127.0.0.1:8081\", token_file: api.token", "\"0.0.0.0:8081\"", "node.yaml:10:16", "no token",
     "set http.token_file"},
    {"127.0.0.1:8081", "localhost:8081", "node.yaml:10:16", "not ADDRESS:PORT", "127.0.0.1:8080"},
    {"api.token", "none.token", "node.yaml:10:46", "cannot open", "check the path"},
    {"fragment_size: 1300", "fragment_size: 300", "node.yaml:12:98", "from 400 to 9000",
     "in that range"},
    {"dpd_s: 31", "dpd_s: 0", "node.yaml:11:39", "from 1 to 86400", "in that range"},
    {"lifetime_s: 86401", "lifetime_s: 4294967296", "node.yaml:11:55", "from 10 to 2592000",
     "in that range"},
    {"source: socket", "source: xdp", "node.yaml:13:21", "xdp is not supported by this version",
     "auto or socket"},
    {"source: socket", "source: dpdk", "node.yaml:13:21", "unknown source 'dpdk'",
     "auto or socket"},
    {"tun: tun7", "tun: a-name-too-long0", "node.yaml:13:34", "1 to 15 characters", "change it"},
    {"lanes: 1", "lanes: 16", "node.yaml:13:47", "from 1 to 15", "in that range"},
    {"tunnels.yaml", "none.yaml", "node.yaml:14:15", "cannot open", "check the path"},
};

static const struct bad bad_tunnels[] = {
    {NULL, "--- # nothing\n", "tunnels.yaml:1:1", "the file must be", "key: value"},
    {NULL, "routes: []\n", "tunnels.yaml:1:1", "'tunnels' is missing", "add tunnels"},
    {"    mtu: 1400", "    mtus: 1400", "tunnels.yaml:14:5", "unknown key 'mtus' in tunnels[0]",
     "id, account_id"},
    {"    name: acme-gre\n", "", "tunnels.yaml:15:5", "'name' is missing in tunnels[1]",
     "add name"},
    {TUNNEL_2, TUNNEL_1, "tunnels.yaml:15:9", "that of tunnel 'acme-ams'", "its own"},
    {TUNNEL_2, "f5407d8db1a542b196c59f6d04ba8bd", "tunnels.yaml:15:9", "not a tunnel id",
     "32 hex digits"},
    {TUNNEL_2, "00000000000000000000000000000000", "tunnels.yaml:15:9", "not a tunnel id",
     "not all zero"},
    {"account_id: beta-1", "account_id: beta_1", "tunnels.yaml:24:17", "not allowed", "letters"},
    {"type: ipsec", "type: wireguard", "tunnels.yaml:5:11", "unknown type 'wireguard'",
     "ipsec or gre"},
    {"anycast_endpoint: 192.0.2.1", "anycast_endpoint: 192.0.2.9", "tunnels.yaml:6:23",
     "not one of anycast.addresses", "add it to the node file"},
    {"    anycast_endpoint: 192.0.2.1\n", "", "tunnels.yaml:2:5", "'anycast_endpoint' is missing",
     "add one of"},
    {"    cloudflare_endpoint: 192.0.2.2\n",
     "    anycast_endpoint: 192.0.2.2\n    cloudflare_endpoint: 192.0.2.2\n", "tunnels.yaml:20:5",
     "anycast_endpoint is set as well", "keep one"},
    {"customer_endpoint: 198.51.100.1", "customer_endpoint: 192.0.2.2", "tunnels.yaml:7:24",
     "one of our anycast", "customer's"},
    {"    customer_endpoint: 198.51.100.2\n", "", "tunnels.yaml:15:5",
     "'customer_endpoint' is missing", "gre tunnel needs"},
    {"    gre_key: 7\n", "", "tunnels.yaml:27:24", "'acme-gre' and 'Beta Amsterdam'",
     "different gre_key"},
    {"    mtu: 1400\n", "    gre_key: 7\n", "tunnels.yaml:14:5", "gre_key is for type gre only",
     "remove it"},
    {"    gre_key: 7\n", "    psk_file: psk/acme-ams\n", "tunnels.yaml:21:5",
     "psk_file is for type ipsec only", "remove it"},
    {"    gre_key: 7\n", "    remote_ts: [0.0.0.0/0]\n", "tunnels.yaml:21:5",
     "remote_ts is for type ipsec only", "remove it"},
    {"psk_file: psk/acme-ams", "psk: visible", "tunnels.yaml:8:10", "(mode 0644)", "chmod 600 "},
    {"psk_file: psk/acme-ams", "psk_file: psk/none", "tunnels.yaml:8:15", "cannot open",
     "check the path"},
    {"    psk_file: psk/acme-ams\n", "", "tunnels.yaml:2:5", "no pre-shared key", "add psk_file"},
    {"psk_file: psk/acme-ams", "psk_file: psk/acme-ams\n    psk: a", "tunnels.yaml:8:5",
     "psk is set as well", "keep one"},
    {"10.100.0.9/31", "10.100.0.9/33", "tunnels.yaml:9:24", "not ADDRESS/BITS", "10.100.0.8/31"},
    {"allow_null_cipher: true", "allow_null_cipher: maybe", "tunnels.yaml:10:24",
     "neither true nor false", "write true or false"},
    {"local_ts: [10.0.0.0/8]", "local_ts: [10.0.0.1/8]", "tunnels.yaml:11:16", "host bits",
     "write 10.0.0.0/8"},
    {"local_ts: [10.0.0.0/8]", "local_ts: []", "tunnels.yaml:11:15", "is empty",
     "list at least one"},
    {"203.0.113.0/24, \"2001:db8:1::/48\"", "203.0.113.0/24, \"2001:db8:1::/129\"",
     "tunnels.yaml:12:33", "not a prefix", "128 for IPv6"},
    {"local_ts: [10.0.0.0/8]",
     "local_ts: [1.0.0.0/8, 2.0.0.0/8, 3.0.0.0/8, 4.0.0.0/8, 5.0.0.0/8, 6.0.0.0/8, 7.0.0.0/8, "
     "8.0.0.0/8, 9.0.0.0/8]",
     "tunnels.yaml:11:15", "9 prefixes", "1 to 8"},
    {"local_id: gw.example.net", "local_id: a b@x", "tunnels.yaml:13:15", "not an address",
     "write one of these"},
    {"mtu: 1400", "mtu: 575", "tunnels.yaml:14:10", "from 576 to 9216", "in that range"},
    {"ttl: 32", "ttl: 0", "tunnels.yaml:22:10", "from 1 to 255", "in that range"},
    {"gre_key: 7", "gre_key: 4294967296", "tunnels.yaml:21:14", "from 0 to 4294967295",
     "in that range"},
    {"tunnel: " TUNNEL_1, "tunnel: 00000000000000000000000000000001", "tunnels.yaml:30:38",
     "no tunnel has the id", "correct the route"},
    {"prefix: 203.0.113.0/24", "prefix: 203.0.113.1/24", "tunnels.yaml:30:14", "host bits",
     "write 203.0.113.0/24"},
    {"prefix: 203.0.113.0/24", "prefix: 203.0.113.0/33", "tunnels.yaml:30:14", "not a prefix",
     "32 bits"},
    {"weight: 1}", "weight: 1}\n  - {prefix: 203.0.113.0/24, tunnel: " TUNNEL_1 "}",
     "tunnels.yaml:31:14", "stands twice", "remove one"},
    {"weight: 1}", "weight: 0}", "tunnels.yaml:30:93", "from 1 to 255", "in that range"},
};

static const struct bad bad_keys[] = {
    {NULL, "\n", "cluster.key:1:1", "no key", "anysa cluster-key generate"},
    {"7 ", "k/7 ", "cluster.key:1:1", "key id must be a number", "ID HEX64"},
    {NULL, "7 0000000000000000000000000000000000000000000000000000000000000000\n",
     "cluster.key:1:3", "all zeros", "anysa cluster-key generate"},
    {"7 ", " ", "cluster.key:1:1", "key id must be a number", "ID HEX64"},
    {"7 ", "a-name-of-33-characters-is-a-bit-2 ", "cluster.key:1:1", "at most 32", "ID HEX64"},
    {"7 ", "4294967296 ", "cluster.key:1:1", "key id must be a number", "ID HEX64"},
    {"7 ", "7", "cluster.key:1:1", "key id must be a number", "ID HEX64"},
    {"1e1f\n", "1e1\n", "cluster.key:1:3", "exactly 64 hex digits", "anysa cluster-key generate"},
    {"1e1f\n", "1e1f \n", "cluster.key:1:3", "exactly 64 hex digits", "one space"},
    {"1e1f\n", "1eXf\n", "cluster.key:1:65", "not a hex digit", "anysa cluster-key generate"},
    {"\n8 ", "\n7 ", "cluster.key:2:1", "stands twice", "its own id"},
    {"\n8 ", "\n9 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n8 ",
     "cluster.key:3:1", "more than two keys", "keep"},
};

/* Loads the directory and expects the sentence. */
static void expect_bad(const char *where, const char *what, const char *remedy)
{
    char line[CONFIG_ERROR_LINE], place[512];
    struct config_error err;
    struct config *cfg;
    int rc = config_load(config_file("node.yaml"), &cfg, &err);

    snprintf(place, sizeof place, "%s: ", config_file(where));
    cr_assert_eq(rc, ERR_CONFIG, "%s: %s was accepted", where, what);
    cr_assert_null(cfg);
    config_error_format(&err, line);
    cr_expect_eq(strncmp(line, place, strlen(place)), 0, "expected %s, got %s", where, line);
    cr_expect_not_null(strstr(line, what), "expected '%s' in: %s", what, line);
    cr_expect_not_null(strstr(line, remedy), "expected '%s' in: %s", remedy, line);
    cr_expect_null(strstr(line, "visible"), "a key in: %s", line);
}

static void expect_rows(const char *name, const char *good, const struct bad *rows, size_t n,
                        mode_t mode)
{
    for (size_t i = 0; i < n; i++) {
        if (rows[i].from)
            config_write_changed(name, good, rows[i].from, rows[i].to, mode);
        else
            config_write(name, rows[i].to, mode);
        expect_bad(rows[i].where, rows[i].what, rows[i].remedy);
    }
}

TestSuite(bad_config, .init = config_files_begin, .fini = config_files_end);

Test(bad_config, node_file)
{
    expect_rows("node.yaml", good_node_yaml, bad_node, sizeof bad_node / sizeof bad_node[0], 0644);
}

Test(bad_config, tunnels_file)
{
    expect_rows("tunnels.yaml", good_tunnels_yaml, bad_tunnels,
                sizeof bad_tunnels / sizeof bad_tunnels[0], 0644);
}

Test(bad_config, key_file)
{
    expect_rows("cluster.key", good_cluster_key, bad_keys, sizeof bad_keys / sizeof bad_keys[0],
                0600);
}

Test(bad_config, secrets_that_others_may_read)
{
    static const struct {
        const char *name, *where;
        mode_t mode;
    } rows[] = {
        {"cluster.key", "node.yaml:2:32", 0644}, {"cluster.key", "node.yaml:2:32", 0640},
        {"cluster.key", "node.yaml:2:32", 0610}, {"cluster.key", "node.yaml:2:32", 0602},
        {"api.token", "node.yaml:10:46", 0604},  {"psk/acme-ams", "tunnels.yaml:8:15", 0440},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char remedy[300];
        cr_assert_eq(chmod(config_file(rows[i].name), rows[i].mode), 0);
        snprintf(remedy, sizeof remedy, "chmod 600 %s", config_file(rows[i].name));
        expect_bad(rows[i].where, "may be read by others", remedy);
        cr_assert_eq(chmod(config_file(rows[i].name), 0600), 0);
    }
}

/* Whoever may write into the directory may put another file there. */
Test(bad_config, secrets_that_others_may_replace)
{
    static const struct {
        const char *dir, *where;
        mode_t mode;
    } rows[] = {
        {"psk", "tunnels.yaml:8:15", 0770},
        {"psk", "tunnels.yaml:8:15", 0702},
        {"", "node.yaml:2:32", 0775},
        {"", "node.yaml:2:32", 0757},
    };
    struct config_error err;
    struct config *cfg;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char remedy[300];
        cr_assert_eq(chmod(config_file(rows[i].dir), rows[i].mode), 0);
        snprintf(remedy, sizeof remedy, "chmod go-w %s", config_file(rows[i].dir));
        expect_bad(rows[i].where, "others may replace", remedy);
        cr_assert_eq(chmod(config_file(rows[i].dir), 01777), 0);
        cr_expect_eq(config_load(config_file("node.yaml"), &cfg, &err), ERR_OK,
                     "sticky, as /tmp is: %s", err.text);
        config_free(cfg);
        cr_assert_eq(chmod(config_file(rows[i].dir), 0700), 0);
    }
}

/* A link counts where it stands and where it leads to. */
Test(bad_config, secrets_behind_a_link)
{
    char elsewhere[300], key[300];

    snprintf(elsewhere, sizeof elsewhere, "%s", config_file("elsewhere"));
    snprintf(key, sizeof key, "%s", config_file("elsewhere/key"));
    cr_assert_eq(mkdir(elsewhere, 0700), 0);
    cr_assert_eq(rename(config_file("cluster.key"), key), 0);
    cr_assert_eq(symlink(key, config_file("cluster.key")), 0);
    cr_assert_eq(chmod(elsewhere, 0777), 0);
    expect_bad("node.yaml:2:32", "others may replace", elsewhere);
    cr_assert_eq(chmod(elsewhere, 0700), 0);
    cr_assert_eq(chmod(key, 0604), 0);
    expect_bad("node.yaml:2:32", "may be read by others", "chmod 600 ");
}

Test(bad_config, secrets_of_another_user)
{
    enum { NOBODY = 65534 };

    if (geteuid() != 0)
        cr_skip_test("only root can give files away");
    cr_assert_eq(chown(config_file("psk/acme-ams"), NOBODY, NOBODY), 0);
    expect_bad("tunnels.yaml:8:15", "belongs to uid 65534", "chown 0 ");
    cr_assert_eq(chown(config_file("psk/acme-ams"), 0, 0), 0);
    cr_assert_eq(chown(config_file("psk"), NOBODY, NOBODY), 0);
    expect_bad("tunnels.yaml:8:15", "uid 65534 may replace", "chown 0 ");
}

Test(bad_config, secrets_of_a_wrong_size)
{
    char text[400];

    memset(text, 'x', sizeof text);
    text[CONFIG_PSK_MAX + 1] = 0;
    config_write("psk/acme-ams", text, 0600);
    expect_bad("tunnels.yaml:8:15", "257 bytes", "1 to 256");
    text[CONFIG_PSK_MAX + 1] = 'x';
    text[CONFIG_PSK_MAX + 2] = 0;
    config_write("psk/acme-ams", text, 0600);
    expect_bad("tunnels.yaml:8:15", "at most 257", "right file");
    config_write("psk/acme-ams", "\n", 0600);
    expect_bad("tunnels.yaml:8:15", "0 bytes", "anysa psk generate");
    config_write("psk/acme-ams", "", 0600);
    expect_bad("tunnels.yaml:8:15", "is empty", "write its content");
    config_write("api.token", "two words\n", 0600);
    expect_bad("node.yaml:10:46", "has a space", "use one line");
    config_write("cluster.key", "", 0600);
    expect_bad("node.yaml:2:32", "is empty", "write its content");
}

Test(bad_config, files_that_are_not_there)
{
    unlink(config_file("tunnels.yaml"));
    expect_bad("node.yaml:14:15", "cannot open", "check the path");
    unlink(config_file("node.yaml"));
    expect_bad("node.yaml:1:1", "cannot open", "check the path");
    cr_assert_eq(mkdir(config_file("node.yaml"), 0700), 0);
    expect_bad("node.yaml:1:1", "not a regular file", "name a file");
}

Test(bad_config, a_key_is_never_quoted)
{
    config_write_changed("tunnels.yaml", good_tunnels_yaml, "psk_file: psk/acme-ams",
                         "psk: {visible: visible}", 0600);
    expect_bad("tunnels.yaml:8:10", "psk must be a single value", "key: value");
}
