/* How values and objects look in JSON, held against DESIGN §8. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "node/api.h"
#include "node/metrics.h"
#include "proto/err.h"

Test(http_values, times)
{
    char out[TIME_TEXT];

    cr_expect_str_eq(time_format_ms(0, out), "1970-01-01T00:00:00.000Z");
    cr_expect_str_eq(time_format_ms(1767323045678, out), "2026-01-02T03:04:05.678Z");
    cr_expect_str_eq(time_format_us(1767323045678, 9, out), "2026-01-02T03:04:05.678009Z");
    cr_expect_str_eq(time_format_ms(-1, out), "1969-12-31T23:59:59.999Z");
}

Test(http_values, spis)
{
    char out[SPI_TEXT];

    cr_expect_str_eq(ike_spi_format(0xAB, out), "0x00000000000000ab");
    cr_expect_str_eq(ike_spi_format(UINT64_MAX, out), "0xffffffffffffffff");
    cr_expect_str_eq(esp_spi_format(0x400100, out), "0x00400100");
}

Test(http_values, text_that_is_not_utf8)
{
    json_t *text = json_text("a\xff"
                             "b");

    cr_expect_str_eq(json_string_value(text), "a?b");
    json_decref(text);
}

static struct child_record *child_of(struct record *r)
{
    struct child_record *sa = &r->child;

    sa->spi_in = 0x00400100;
    sa->spi_out = 0xC0FFEE00;
    sa->ike_spi_r = 0x1122334455667788;
    sa->tunnel_id.b[0] = 0xf5;
    sa->lineage.b[15] = 1;
    sa->suite = (struct suite){.encr = ENCR_AES_GCM_16, .encr_bits = 256};
    secret_set(&sa->encr_in, "canary-key-in-canary-key-in-cana", 32);
    secret_set(&sa->encr_out, "canary-key-out-canary-key-out-ca", 32);
    sa->udp_encap = true;
    endpoint_parse("198.51.100.1:4500", &sa->peer);
    sa->ts_local.n = sa->ts_remote.n = 1;
    prefix_parse("10.0.0.0/8", &(struct ip_prefix){0});
    sa->ts_local.s[0] = (struct selector){
        .port_hi = 65535, .lo = {4, {10, 0, 0, 0}}, .hi = {4, {10, 255, 255, 255}}};
    sa->ts_remote.s[0] = sa->ts_local.s[0];
    sa->origin_slot = 2;
    sa->state = SA_INSTALLED;
    sa->created_ms = 1767323045678;
    sa->not_after_ms = sa->created_ms + 28800000;
    return sa;
}

static const char *text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    cr_assert_not_null(text, "%s", key);
    return text;
}

Test(http_values, a_child_sa)
{
    static const char *const fields[] = {
        "spi_in",     "spi_out",  "tunnel_id",   "lineage",      "ike_spi_r",
        "origin",     "suite",    "encap",       "peer",         "ts_local",
        "ts_remote",  "state",    "created_at",  "installed_at", "not_after",
        "packets_in", "bytes_in", "packets_out", "bytes_out",    "key_fingerprint",
    };
    struct record *r = record_new(RECORD_CHILD);
    struct child_record *sa = child_of(r);
    struct dp_sa_stats stats = {
        .packets_in = 5, .installed_ms = sa->created_ms + 1, .installed_us = 234};
    struct secret cluster = {0}, key = {0};
    json_t *o;
    char *dump;

    secret_set(&cluster, "cluster-key-cluster-key-cluster-", 32);
    cr_assert_eq(fingerprint_key(&cluster, &key), ERR_OK);
    o = api_child_json(sa, 0x1122334455667788, &sa->peer, &stats, &key);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        cr_expect_not_null(json_object_get(o, fields[i]), "%s", fields[i]);
    cr_expect_eq(json_object_size(o), sizeof fields / sizeof *fields);
    cr_expect_str_eq(text_of(o, "spi_in"), "0x00400100");
    cr_expect_str_eq(text_of(o, "spi_out"), "0xc0ffee00");
    cr_expect_str_eq(text_of(o, "ike_spi_r"), "0x1122334455667788");
    cr_expect_str_eq(text_of(o, "suite"), "aes256gcm16");
    cr_expect_str_eq(text_of(o, "encap"), "udp");
    cr_expect_str_eq(text_of(o, "peer"), "198.51.100.1:4500");
    cr_expect_str_eq(text_of(o, "state"), "installed");
    cr_expect_str_eq(text_of(o, "installed_at"), "2026-01-02T03:04:05.679234Z");
    cr_expect_str_eq(json_string_value(json_array_get(json_object_get(o, "ts_local"), 0)),
                     "10.0.0.0/8");
    cr_expect_eq(strlen(text_of(o, "key_fingerprint")), 16);
    cr_expect_eq(json_integer_value(json_object_get(o, "origin")), 2);
    dump = json_dumps(o, 0);
    cr_expect_null(strstr(dump, "canary"));
    free(dump);
    json_decref(o);
    record_free(r);
}

Test(http_values, states_of_a_child_sa)
{
    struct record *r = record_new(RECORD_CHILD);
    struct child_record *sa = child_of(r);
    struct dp_sa_stats stats = {0};
    struct secret key = {.n = 32};
    json_t *o;

    sa->confirmed = true;
    o = api_child_json(sa, 0x1122334455667788, &sa->peer, &stats, &key);
    cr_expect_str_eq(text_of(o, "state"), "confirmed");
    json_decref(o);
    sa->rekeyed = true;
    sa->udp_encap = false;
    sa->peer.port = 0;
    o = api_child_json(sa, 0x1122334455667788, &sa->peer, &stats, &key);
    cr_expect_str_eq(text_of(o, "state"), "rekeyed");
    cr_expect_str_eq(text_of(o, "encap"), "esp");
    cr_expect_str_eq(text_of(o, "peer"), "198.51.100.1");
    json_decref(o);
    record_free(r);
}

Test(http_values, fingerprints_tell_keys_apart_and_depend_on_the_cluster)
{
    struct record *r = record_new(RECORD_CHILD);
    struct child_record *sa = child_of(r);
    struct secret a = {.n = 32}, b = {.n = 32};
    char one[FINGERPRINT_TEXT], two[FINGERPRINT_TEXT];

    b.b[0] = 1;
    fingerprint_format(&a, sa, one);
    cr_expect_str_eq(one, fingerprint_format(&a, sa, two));
    cr_expect_str_neq(one, fingerprint_format(&b, sa, two));
    sa->encr_out.b[31] ^= 1;
    cr_expect_str_neq(one, fingerprint_format(&a, sa, two));
    record_free(r);
}

Test(http_values, an_ike_sa)
{
    static const char *const fields[] = {"spi_i", "spi_r", "tunnel_id", "owner",      "term",
                                         "peer",  "nat",   "suite",     "created_at", "not_after"};
    struct record *r = record_new(RECORD_IKE);
    json_t *o;

    r->ike.spi_i = 1;
    r->ike.spi_r = 2;
    r->ike.term = (struct term){.number = 3, .slot = 4};
    r->ike.nat = NAT_PEER;
    r->ike.suite = (struct suite){
        .encr = ENCR_AES_GCM_16, .encr_bits = 256, .prf = PRF_HMAC_SHA2_256, .dh = DH_MODP_2048};
    o = api_ike_json(&r->ike);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        cr_expect_not_null(json_object_get(o, fields[i]), "%s", fields[i]);
    cr_expect_eq(json_integer_value(json_object_get(o, "owner")), 4);
    cr_expect_eq(json_integer_value(json_object_get(o, "term")), 3);
    cr_expect(json_is_true(json_object_get(o, "nat")));
    cr_expect_str_eq(text_of(o, "suite"), "aes256gcm16-prfsha256-modp2048");
    cr_expect_str_eq(text_of(o, "spi_r"), "0x0000000000000002");
    json_decref(o);
    record_free(r);
}

Test(http_values, a_member_that_was_never_heard)
{
    static const char *const fields[] = {
        "name",      "slot",   "incarnation", "state",         "epoch",
        "version",   "head",   "lag_records", "last_seen_ms",  "ike_sas",
        "child_sas", "key_id", "key_state",   "accepted_keys", "members_digest"};
    struct sync_member_info m = {.slot = 3, .state = MEMBER_DEAD};
    json_t *o = api_member_json(&m);

    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        cr_expect_not_null(json_object_get(o, fields[i]), "%s", fields[i]);
    cr_expect_str_eq(text_of(o, "state"), "dead");
    cr_expect_str_eq(text_of(o, "incarnation"), "");
    cr_expect(json_is_null(json_object_get(o, "key_id")));
    cr_expect(json_is_null(json_object_get(o, "key_state")));
    json_decref(o);
    m.key_state = MEMBER_KEY_UNKNOWN;
    m.key_id = UINT32_MAX;
    o = api_member_json(&m);
    cr_expect_eq(json_integer_value(json_object_get(o, "key_id")), UINT32_MAX);
    cr_expect_str_eq(text_of(o, "key_state"), "unknown");
    json_decref(o);
}

Test(http_values, convergence_is_of_the_living)
{
    struct sync_member_info m[3] = {
        {.state = MEMBER_READY}, {.state = MEMBER_DEAD, .sa_digest = {9}}, {.state = MEMBER_READY}};

    cr_expect(api_converged(m, 3));
    m[2].sa_digest[31] = 1;
    cr_expect_not(api_converged(m, 3));
    m[2].state = MEMBER_JOINING;
    cr_expect_not(api_converged(m, 3));
}

Test(http_values, a_tunnel_shows_no_psk)
{
    struct config_tunnel t = {.name = "acme",
                              .account_id = "1",
                              .type = DP_TUNNEL_IPSEC,
                              .psk = (uint8_t *)"canary-psk",
                              .psk_n = 10};
    struct tunnel_state state = {.config = &t, .failed_ms = 1, .reason = "wrong_psk", .up = true};
    struct dp_sa_stats stats = {0};
    json_t *o = api_tunnel_json(&state, &stats);
    char *dump = json_dumps(o, 0);

    cr_expect_null(strstr(dump, "canary"));
    cr_expect_str_eq(text_of(o, "status"), "up");
    cr_expect_str_eq(text_of(json_object_get(o, "last_failure"), "reason"), "wrong_psk");
    cr_expect_str_eq(text_of(json_object_get(o, "last_failure"), "at"), "1970-01-01T00:00:00.001Z");
    free(dump);
    json_decref(o);
}

Test(http_values, a_histogram_in_prometheus_text)
{
    struct histogram h = {0};
    struct metrics m = {0};

    histogram_observe(&h, 100);
    histogram_observe(&h, 101);
    histogram_observe(&h, 60000000);
    metrics_histogram(&m, "x_seconds", "help", &h);
    cr_expect_not_null(strstr(m.text, "# TYPE x_seconds histogram\n"));
    cr_expect_not_null(strstr(m.text, "x_seconds_bucket{le=\"0.0001\"} 1\n"));
    cr_expect_not_null(strstr(m.text, "x_seconds_bucket{le=\"0.00025\"} 2\n"));
    cr_expect_not_null(strstr(m.text, "x_seconds_bucket{le=\"5\"} 2\n"));
    cr_expect_not_null(strstr(m.text, "x_seconds_bucket{le=\"+Inf\"} 3\n"));
    cr_expect_not_null(strstr(m.text, "x_seconds_sum 60.000201\n"));
    cr_expect_not_null(strstr(m.text, "x_seconds_count 3\n"));
    free(m.text);
}

Test(http_values, labels_are_escaped)
{
    char out[METRICS_LABEL_TEXT];

    cr_expect_str_eq(metrics_label("a", "x\"\\y", out), "a=\"x\\\"\\\\y\"");
}
