/* Good configurations give exact values. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_files.h"
#include "node/config.h"
#include "proto/err.h"
#include "proto/wire_ikev2.h"

static struct config *load_good(void)
{
    struct config_error err;
    struct config *cfg;
    char line[CONFIG_ERROR_LINE];
    int rc = config_load(config_file("node.yaml"), &cfg, &err);

    cr_assert_eq(rc, ERR_OK, "%s", config_error_format(&err, line));
    return cfg;
}

static const char *ip_text(const struct ip_addr *ip)
{
    static char text[ADDR_TEXT];

    return ip_format(ip, text);
}

TestSuite(config, .init = config_files_begin, .fini = config_files_end);

Test(config, node_file_as_written)
{
    struct config *c = load_good();
    char text[ENDPOINT_TEXT];

    cr_expect_str_eq(c->node.name, "n1");
    cr_expect_eq(c->node.slot, 1);
    cr_expect_str_eq(c->node.state_dir, config_file("state"));
    cr_expect_str_eq(c->cluster.name, "lab");
    cr_expect_str_eq(c->cluster.key_file, config_file("cluster.key"));
    cr_expect_str_eq(c->cluster.id_domain, "ipsec.example.net");
    cr_expect_eq(c->anycast.n, 2);
    cr_expect_str_eq(ip_text(&c->anycast.addresses[1]), "192.0.2.2");
    cr_expect_eq(c->mesh.dead_ms, 600);
    cr_expect_str_eq(endpoint_format(&c->http.listen, text), "127.0.0.1:8081");
    cr_expect_str_eq(c->http.token, "open-sesame");
    cr_expect_eq(c->ike.barrier_timeout_ms, 251);
    cr_expect_eq(c->ike.dpd_s, 31);
    cr_expect_eq(c->ike.lifetime_s, 86401);
    cr_expect_eq(c->ike.child_lifetime_s, 28801);
    cr_expect_eq(c->ike.max_children, 101);
    cr_expect_eq(c->ike.half_open_cookie_threshold, 65);
    cr_expect_eq(c->ike.fragment_size, 1300);
    cr_expect_str_eq(c->dataplane.source, "socket");
    cr_expect_str_eq(c->dataplane.tun, "tun7");
    cr_expect_eq(c->dataplane.lanes, 1);
    cr_expect_str_eq(c->tunnels_file, config_file("tunnels.yaml"));
    config_free(c);
}

Test(config, members_by_address_and_name)
{
    struct config *c = load_good();

    cr_assert_eq(c->mesh.n, 3);
    cr_expect_str_eq(c->mesh.members[0].host, "10.99.0.1");
    cr_expect_str_eq(c->mesh.members[1].host, "node2.example.net");
    cr_expect_eq(c->mesh.members[1].slot, 2);
    cr_expect_str_eq(c->mesh.members[2].host, "2001:db8::3");
    cr_expect_eq(c->mesh.members[2].slot, SLOT_MAX);
    cr_expect_eq(c->mesh.members[2].port, 7800);
    cr_expect_eq(config_self(c), &c->mesh.members[0]);
    config_free(c);
}

Test(config, cluster_keys_in_the_file_order)
{
    struct config *c = load_good();

    cr_assert_eq(c->cluster.n_keys, 2);
    cr_expect_eq(c->cluster.keys[0].id, 7);
    cr_assert_eq(c->cluster.keys[0].key.n, CLUSTER_KEY_BYTES);
    for (int i = 0; i < CLUSTER_KEY_BYTES; i++) {
        cr_expect_eq(c->cluster.keys[0].key.b[i], i);
        cr_expect_eq(c->cluster.keys[1].key.b[i], 0xff);
    }
    cr_expect_eq(c->cluster.keys[1].id, 8);
    config_free(c);
}

Test(config, ipsec_tunnel)
{
    struct config *c = load_good();
    const struct config_tunnel *t = &c->tunnels.tunnels[0];
    char text[SELECTOR_TEXT], id[ID_TEXT];

    cr_assert_eq(c->tunnels.n_tunnels, 3);
    cr_expect_str_eq(id128_format(&t->id, id), "f5407d8db1a542b196c59f6d04ba8bd1");
    cr_expect_str_eq(t->account_id, "123456789");
    cr_expect_str_eq(t->name, "acme-ams");
    cr_expect_eq(t->type, DP_TUNNEL_IPSEC);
    cr_expect_str_eq(ip_text(&t->anycast), "192.0.2.1");
    cr_expect_str_eq(ip_text(&t->customer), "198.51.100.1");
    cr_expect_str_eq(ip_text(&t->interface_address), "10.100.0.9");
    cr_expect_eq(t->interface_bits, 31);
    cr_expect_eq(t->mtu, 1400);
    cr_expect_eq(t->ttl, 64);
    cr_assert_eq(t->psk_n, strlen("correct horse\n"), "only one newline is taken away");
    cr_expect_arr_eq(t->psk, "correct horse\n", t->psk_n);
    cr_expect(t->allow_null_cipher);
    cr_expect(t->ipv4_id_allowed);
    cr_assert_eq(t->local_ts.n, 1);
    cr_expect_str_eq(selector_format(&t->local_ts.s[0], text), "10.0.0.0/8");
    cr_assert_eq(t->remote_ts.n, 2);
    cr_expect_str_eq(selector_format(&t->remote_ts.s[1], text), "2001:db8:1::/48");
    cr_expect_eq(t->local_id_type, ID_FQDN);
    cr_expect_str_eq(t->local_id, "gw.example.net");
    cr_expect_eq(config_find_tunnel(c, &t->id), t);
    config_free(c);
}

Test(config, gre_tunnels_told_apart_by_key)
{
    struct config *c = load_good();
    const struct config_tunnel *t = &c->tunnels.tunnels[1];

    cr_expect_eq(t->type, DP_TUNNEL_GRE);
    cr_expect_str_eq(ip_text(&t->anycast), "192.0.2.2", "by the alias cloudflare_endpoint");
    cr_expect(t->has_gre_key);
    cr_expect_eq(t->gre_key, 7);
    cr_expect_eq(t->ttl, 32);
    cr_expect_eq(t->mtu, 0);
    cr_expect_null(t->psk);
    cr_expect_not(t[1].has_gre_key);
    cr_expect_str_eq(t[1].name, "Beta Amsterdam");
    config_free(c);
}

Test(config, routes)
{
    struct config *c = load_good();
    const struct config_route *r = c->tunnels.routes;
    char text[ADDR_TEXT];

    cr_assert_eq(c->tunnels.n_routes, 2);
    cr_expect_str_eq(prefix_format(&r[0].prefix, text), "203.0.113.0/24");
    cr_expect_eq(r[0].priority, 7);
    cr_expect_eq(r[0].weight, 1);
    cr_expect_str_eq(prefix_format(&r[1].prefix, text), "2001:db8:2::/48");
    cr_expect(id128_equal(&r[1].tunnel, &c->tunnels.tunnels[1].id));
    cr_expect_eq(r[1].priority, 100);
    config_free(c);
}

Test(config, members_for_every_slot)
{
    enum { ROW = 48 };
    char *rows = malloc((size_t)ROW * SYNC_MEMBERS_MAX);
    struct config *c;
    size_t n = 0;

    for (unsigned slot = 0; slot < SYNC_MEMBERS_MAX - 3; slot++)
        n += (size_t)snprintf(rows + n, ROW, "    - {slot: %u, address: \"10.0.%u.%u:7800\"}\n",
                              slot + 3 - (slot == SLOT_MAX - 3) * SLOT_MAX, slot / 256, slot % 256);
    snprintf(rows + n, ROW, "  dead_ms: 600\n");
    config_write_changed("node.yaml", good_node_yaml, "  dead_ms: 600\n", rows, 0644);
    c = load_good();
    cr_assert_eq(c->mesh.n, SYNC_MEMBERS_MAX);
    cr_expect_eq(c->mesh.members[SYNC_MEMBERS_MAX - 1].slot, 0);
    config_free(c);
    free(rows);
}

Test(config, defaults)
{
    struct config *c;
    char text[ENDPOINT_TEXT];

    config_write("node.yaml",
                 "node: {name: n1, slot: 0}\n"
                 "cluster: {name: lab, key_file: cluster.key, id_domain: example.net}\n"
                 "anycast: {addresses: [192.0.2.1, 192.0.2.2]}\n"
                 "mesh: {members: [{slot: 0, address: \"10.99.0.1:7800\"}]}\n"
                 "tunnels_file: tunnels.yaml\n",
                 0644);
    config_write_changed("tunnels.yaml", good_tunnels_yaml,
                         "    local_ts: [10.0.0.0/8]\n"
                         "    remote_ts: [203.0.113.0/24, \"2001:db8:1::/48\"]\n"
                         "    local_id: gw.example.net\n",
                         "", 0644);
    c = load_good();
    cr_expect_str_eq(c->node.state_dir, "/var/lib/anysa");
    cr_expect_eq(c->mesh.dead_ms, 500);
    cr_expect_str_eq(endpoint_format(&c->http.listen, text), "127.0.0.1:8080");
    cr_expect_str_eq(c->http.token, "");
    cr_expect_eq(c->ike.barrier_timeout_ms, 250);
    cr_expect_eq(c->ike.dpd_s, 30);
    cr_expect_eq(c->ike.lifetime_s, 86400);
    cr_expect_eq(c->ike.child_lifetime_s, 28800);
    cr_expect_eq(c->ike.max_children, 100);
    cr_expect_eq(c->ike.half_open_cookie_threshold, 64);
    cr_expect_eq(c->ike.fragment_size, 1280);
    cr_expect_str_eq(c->dataplane.source, "auto");
    cr_expect_str_eq(c->dataplane.tun, "anysa0");
    cr_expect_eq(c->dataplane.lanes, 1);
    for (int i = 0; i < 2; i++) {
        const struct selector_list *ts =
            i ? &c->tunnels.tunnels[0].remote_ts : &c->tunnels.tunnels[0].local_ts;
        char selector[SELECTOR_TEXT];
        cr_assert_eq(ts->n, 2);
        cr_expect_str_eq(selector_format(&ts->s[0], selector), "0.0.0.0/0");
        cr_expect_str_eq(selector_format(&ts->s[1], selector), "::/0");
    }
    cr_expect_eq(c->tunnels.tunnels[0].local_id_type, 0);
    config_free(c);
}

Test(config, no_tunnels_is_fine)
{
    static const char *const texts[] = {"tunnels: []\n", "tunnels:\nroutes:\n",
                                        "---\ntunnels: []\nroutes: []\n"};

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct config *c;
        config_write("tunnels.yaml", texts[i], 0644);
        c = load_good();
        cr_expect_eq(c->tunnels.n_tunnels, 0);
        cr_expect_eq(c->tunnels.n_routes, 0);
        config_free(c);
    }
}

Test(config, inline_psk_in_a_private_file)
{
    struct config *c;

    config_write_changed("tunnels.yaml", good_tunnels_yaml, "psk_file: psk/acme-ams",
                         "psk: inline-key", 0600);
    c = load_good();
    cr_assert_eq(c->tunnels.tunnels[0].psk_n, strlen("inline-key"));
    cr_expect_arr_eq(c->tunnels.tunnels[0].psk, "inline-key", strlen("inline-key"));
    config_free(c);
}

Test(config, local_id_types)
{
    static const struct {
        const char *text;
        int type;
    } rows[] = {
        {"192.0.2.1", ID_IPV4_ADDR},
        {"\"2001:db8::1\"", ID_IPV6_ADDR},
        {"ipsec@gw.example.net", ID_RFC822_ADDR},
        {"gw.example.net", ID_FQDN},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config *c;
        config_write_changed("tunnels.yaml", good_tunnels_yaml, "gw.example.net", rows[i].text,
                             0644);
        c = load_good();
        cr_expect_eq(c->tunnels.tunnels[0].local_id_type, rows[i].type, "%s", rows[i].text);
        config_free(c);
    }
}

Test(config, shared_ipsec_pair_warns_and_turns_the_ipv4_id_off)
{
    struct config *c;

    config_write_changed("tunnels.yaml", good_tunnels_yaml, "routes:\n",
                         "  - id: 00000000000000000000000000000001\n"
                         "    account_id: other\n"
                         "    name: other-ams\n"
                         "    type: ipsec\n"
                         "    anycast_endpoint: 192.0.2.1\n"
                         "    customer_endpoint: 198.51.100.1\n"
                         "    psk_file: psk/acme-ams\n"
                         "  - id: 00000000000000000000000000000002\n"
                         "    account_id: other\n"
                         "    name: no-customer\n"
                         "    type: ipsec\n"
                         "    anycast_endpoint: 192.0.2.1\n"
                         "    psk_file: psk/acme-ams\n"
                         "routes:\n",
                         0644);
    c = load_good();
    cr_assert_eq(c->tunnels.n_warnings, 1);
    cr_expect_not_null(strstr(c->tunnels.warnings[0], "tunnels.yaml:34:24: "), "%s",
                       c->tunnels.warnings[0]);
    cr_expect_not_null(strstr(c->tunnels.warnings[0], "'acme-ams' and 'other-ams'"));
    cr_expect_not(c->tunnels.tunnels[0].ipv4_id_allowed);
    cr_expect_not(c->tunnels.tunnels[3].ipv4_id_allowed);
    cr_expect_not(c->tunnels.tunnels[4].ipv4_id_allowed);
    config_free(c);
}

Test(config, reload_takes_the_new_tunnels)
{
    struct config *c = load_good();
    struct config_error err;

    config_write("tunnels.yaml", "tunnels: []\n", 0644);
    cr_assert_eq(config_reload_tunnels(c, &err), ERR_OK);
    cr_expect_eq(c->tunnels.n_tunnels, 0);
    config_free(c);
}

Test(config, bad_reload_keeps_the_old_tunnels)
{
    struct config *c = load_good();
    struct config_error err;
    char line[CONFIG_ERROR_LINE], expected[256];

    config_write_changed("tunnels.yaml", good_tunnels_yaml, "mtu: 1400", "mtu: 14", 0644);
    cr_assert_eq(config_reload_tunnels(c, &err), ERR_CONFIG);
    snprintf(expected, sizeof expected, "%s:14:10: ", config_file("tunnels.yaml"));
    cr_expect_not_null(strstr(config_error_format(&err, line), expected), "%s", line);
    cr_expect_eq(c->tunnels.n_tunnels, 3);
    cr_expect_eq(c->tunnels.tunnels[0].mtu, 1400);
    config_free(c);
}
