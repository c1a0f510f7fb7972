/* The API of a node that is made of real cores and a journal in memory, but has
 * no dataplane, mesh or loop: what the handlers say about it. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "node/api.h"
#include "node/node.h"
#include "proto/err.h"
#include "sync/store.h"

enum { SLOT = 5, SAS = 1200 };

static struct node node;
static struct memory_disk *disk;
static struct http_site site;

static void no_wake(void *ctx)
{
    (void)ctx;
}

static bool no_iv(void *ctx, bool own, uint64_t *iv)
{
    (void)ctx;
    (void)own;
    (void)iv;
    return false;
}

static bool none_taken(void *ctx, uint32_t spi)
{
    (void)ctx;
    (void)spi;
    return false;
}

static void set_up(void)
{
    static struct config_member self = {.slot = SLOT};
    struct sync_config sync = {.cluster = "lab",
                               .name = "n5",
                               .version = "0",
                               .slot = SLOT,
                               .members = {SLOT},
                               .n_members = 1,
                               .n_keys = 1,
                               .dead_ms = 500,
                               .barrier_timeout_ms = 250};
    struct ike_config ike = {.slot = SLOT, .next_iv = no_iv, .esp_spi_taken = none_taken};
    struct store_options options = {
        .cluster = "lab", .slot = SLOT, .wake = no_wake, .n_keys = 1, .keys = sync.keys};
    struct sync_recovery recovery = {0};
    struct sync_event recovered = {.kind = SYNC_EV_RECOVERED, .recovery = &recovery};

    sync.keys[0].key.n = CLUSTER_KEY_BYTES;
    ike.spi_key.n = 32;
    node.config = calloc(1, sizeof *node.config);
    strcpy(node.config->cluster.name, "lab");
    strcpy(node.config->node.name, "n5");
    node.config->node.slot = SLOT;
    node.config->mesh.members = &self;
    node.config->mesh.n = 1;
    node.last_pending = &node.first_pending;
    node.fingerprint_key.n = 32;
    disk = memory_disk_new();
    cr_assert_eq(store_memory_open(disk, &options, &node.store, &recovery), ERR_OK);
    node.sync = sync_new(&sync, &rng_system, now_read());
    node.ike = ike_new(&ike, &rng_system);
    cr_assert(node.sync && node.ike);
    node_sync(&node, &recovered);
    store_recovery_free(&recovery);
    node_flush(&node);
    node_store_poll(&node);
    node_flush(&node);
    site = api_site(&node);
}

static void tear_down(void)
{
    node.store->ops->close(node.store);
    memory_disk_free(disk);
    ike_free(node.ike);
    sync_free(node.sync);
    node_free_tunnels(&node);
    free(node.config);
}

static size_t read_all(struct http_stream *stream, char **out)
{
    size_t n = 0, got;

    *out = malloc(1 << 22);
    while ((got = stream->read(stream, *out + n, 4096)) > 0)
        n += got;
    return n;
}

/* Asks; returns the body as JSON (the caller's). */
static json_t *get(const char *target, unsigned status)
{
    struct http_url url;
    struct http_request request = {.method = "GET", .url = &url};
    struct http_reply reply = {0};
    json_t *body;

    cr_assert_eq(http_url_parse(target, &url), ERR_OK);
    http_dispatch(&site, &request, &reply);
    cr_expect_eq(reply.status, status, "%s: %u", target, reply.status);
    if (reply.stream)
        reply.n = read_all(reply.stream, &reply.body);
    body = json_loadb(reply.body, reply.n, 0, NULL);
    cr_assert_not_null(body, "%s", target);
    http_reply_free(&reply);
    return body;
}

static json_int_t number(json_t *o, const char *key)
{
    cr_expect(json_is_integer(json_object_get(o, key)), "%s", key);
    return json_integer_value(json_object_get(o, key));
}

/* An IKE SA as sync/ takes it: a suite, keys of its lengths, addresses, times. */
static struct record *ike_sa(uint64_t spi_i, uint64_t spi_r, int64_t now_ms)
{
    struct record *r = record_new(RECORD_IKE);
    struct ike_record *sa = &r->ike;
    struct secret *of_prf[] = {&sa->sk_d, &sa->sk_pi, &sa->sk_pr};

    sa->spi_i = spi_i;
    sa->spi_r = spi_r;
    sa->term = (struct term){1, SLOT, sync_incarnation(node.sync)};
    sa->state = SA_INSTALLED;
    sa->suite = (struct suite){
        .encr = ENCR_AES_GCM_16, .encr_bits = 256, .prf = PRF_HMAC_SHA2_256, .dh = DH_MODP_2048};
    for (size_t i = 0; i < sizeof of_prf / sizeof *of_prf; i++)
        of_prf[i]->n = 32;
    sa->sk_ei.n = sa->sk_er.n = 36;
    sa->local = (struct endpoint){{4, {192, 0, 2, 1}}, 500};
    sa->peer = (struct endpoint){{4, {198, 51, 100, 1}}, 500};
    sa->created_ms = now_ms;
    sa->not_after_ms = now_ms + 3600000;
    return r;
}

static void put_ike_sas(void)
{
    struct now now = now_read();

    for (uint64_t i = 1; i <= SAS; i++) {
        struct record *r = ike_sa(1000 + i, i * 7919 % 100003, now.wall_ms);
        struct sync_event put = {.kind = SYNC_EV_PUT, .group = &r, .n_group = 1};

        node_sync(&node, &put);
    }
    node_flush(&node);
}

Test(http_node, readiness_names_what_is_missing, .init = set_up, .fini = tear_down)
{
    json_t *body = get("/readyz", 503);
    json_t *reasons = json_object_get(body, "reasons");

    /* One member, journal recovered, epoch durable: only the dataplane is not there. */
    cr_expect_eq(json_array_size(reasons), 1);
    cr_expect_str_eq(json_string_value(json_array_get(reasons, 0)), "dataplane_down");
    json_decref(body);
    node.draining = node.journal_failed = true;
    memcpy(node.journal_why, "no room", sizeof "no room");
    body = get("/readyz", 503);
    cr_expect_eq(json_array_size(json_object_get(body, "reasons")), 3);
    cr_expect_str_eq(
        json_string_value(json_object_get(json_object_get(body, "details"), "journal_failed")),
        "no room");
    json_decref(body);
    json_decref(get("/healthz", 200));
}

Test(http_node, the_cluster, .init = set_up, .fini = tear_down)
{
    json_t *body, *nodes, *self;

    put_ike_sas();
    body = get("/v1/cluster", 200);
    nodes = json_object_get(body, "nodes");
    cr_expect_str_eq(json_string_value(json_object_get(body, "name")), "lab");
    cr_expect(json_is_true(json_object_get(body, "converged")));
    cr_expect_eq(strlen(json_string_value(json_object_get(body, "sa_digest"))), 64);
    cr_expect_eq(number(json_object_get(body, "totals"), "ike_sas"), SAS);
    cr_assert_eq(json_array_size(nodes), 1);
    self = json_array_get(nodes, 0);
    cr_expect_eq(number(self, "slot"), SLOT);
    cr_expect_eq(number(self, "epoch"), 1);
    cr_expect_eq(number(self, "last_seen_ms"), 0);
    cr_expect_eq(number(self, "ike_sas"), SAS);
    json_decref(body);
}

static void walk_ike_sas(unsigned limit)
{
    char target[128], last[SPI_TEXT] = "";
    size_t total = 0;
    bool more = true;

    snprintf(target, sizeof target, "/v1/ike-sas?limit=%u", limit);
    while (more) {
        json_t *body = get(target, 200), *item;
        const char *next = json_string_value(json_object_get(body, "next_cursor"));
        size_t i;

        json_array_foreach(json_object_get(body, "items"), i, item)
        {
            const char *spi = json_string_value(json_object_get(item, "spi_r"));
            cr_assert(strcmp(last, spi) < 0, "%s after %s", spi, last);
            strcpy(last, spi);
            total++;
        }
        more = next != NULL;
        if (more)
            snprintf(target, sizeof target, "/v1/ike-sas?limit=%u&cursor=%s", limit, next);
        json_decref(body);
    }
    cr_expect_eq(total, SAS);
}

Test(http_node, pages_of_ike_sas_are_ordered_and_whole, .init = set_up, .fini = tear_down)
{
    put_ike_sas();
    walk_ike_sas(64);
    walk_ike_sas(500);
    walk_ike_sas(10000);
}

static void put(struct record *r)
{
    struct sync_event event = {.kind = SYNC_EV_PUT, .group = &r, .n_group = 1};

    node_sync(&node, &event);
}

/* A Child SA keeps in its record which IKE SA made it; the list names the one that it has now. */
Test(http_node, a_child_sa_names_its_present_ike_sa, .init = set_up, .fini = tear_down)
{
    struct child_record child = {.lineage = {{7}}, .ike_spi_r = 0x100};
    int64_t now_ms = now_read().wall_ms;
    struct record *made_it = ike_sa(1, 0x100, now_ms), *rekeyed = ike_sa(2, 0x0f0, now_ms + 1);
    struct record *other = ike_sa(3, 0x300, now_ms + 2), *gone;

    made_it->ike.lineage = rekeyed->ike.lineage = child.lineage;
    other->ike.lineage = (struct id128){{8}};
    put(other);
    cr_expect_eq(api_child_ike_spi_r(node.sync, &child), 0x100, "as recorded, if there is none");
    put(made_it);
    cr_expect_eq(api_child_ike_spi_r(node.sync, &child), 0x100);
    gone = record_clone(rekeyed);
    put(rekeyed);
    cr_expect_eq(api_child_ike_spi_r(node.sync, &child), 0x0f0, "the newest");
    gone->ike.state = SA_DELETED;
    gone->ike.revision++;
    put(gone);
    cr_expect_eq(api_child_ike_spi_r(node.sync, &child), 0x100, "of those that are left");
    node_flush(&node);
}

Test(http_node, lists_without_anything, .init = set_up, .fini = tear_down)
{
    static const char *const lists[] = {"/v1/tunnels", "/v1/ike-sas", "/v1/child-sas",
                                        "/v1/routes"};

    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        json_t *body = get(lists[i], 200);
        cr_expect_eq(json_array_size(json_object_get(body, "items")), 0, "%s", lists[i]);
        cr_expect(json_is_null(json_object_get(body, "next_cursor")), "%s", lists[i]);
        json_decref(body);
        json_decref(get(i == 0 ? "/v1/tunnels?cursor=x" : "/v1/nodes?limit=0", 400));
    }
    json_decref(get("/v1/tunnels/nonsense", 404));
    json_decref(get("/v1/tunnels/00000000000000000000000000000000", 404));
}

Test(http_node, tunnels_and_their_failures, .init = set_up, .fini = tear_down)
{
    struct config_tunnel t[2] = {{.name = "a", .type = DP_TUNNEL_IPSEC, .id = {{9}}},
                                 {.name = "b", .type = DP_TUNNEL_GRE, .id = {{2}}}};
    json_t *body, *items;

    node.config->tunnels.tunnels = t;
    node.config->tunnels.n_tunnels = 2;
    cr_assert_eq(node_apply_tunnels(&node), ERR_OK);
    node_tunnel_failed(&node, &t[0].id, "no_proposal_chosen");
    cr_assert_eq(node_apply_tunnels(&node), ERR_OK); /* a reload keeps the failure */
    body = get("/v1/tunnels", 200);
    items = json_object_get(body, "items");
    cr_assert_eq(json_array_size(items), 2);
    cr_expect_str_eq(json_string_value(json_object_get(json_array_get(items, 0), "name")), "a");
    cr_expect_str_eq(json_string_value(json_object_get(json_array_get(items, 0), "status")),
                     "down");
    cr_expect_str_eq(json_string_value(json_object_get(json_array_get(items, 1), "status")), "up");
    json_decref(body);
    body = get("/v1/tunnels/09000000000000000000000000000000", 200);
    cr_expect_str_eq(
        json_string_value(json_object_get(json_object_get(body, "last_failure"), "reason")),
        "no_proposal_chosen");
    json_decref(body);
}

Test(http_node, metrics_name_every_reason_from_the_start, .init = set_up, .fini = tear_down)
{
    struct http_url url;
    struct http_request request = {.method = "GET", .url = &url};
    struct http_reply reply = {0};
    char series[128];

    http_url_parse("/metrics", &url);
    http_dispatch(&site, &request, &reply);
    cr_assert_eq(reply.status, 200);
    for (int i = 0; i < DROP_COUNT; i++) {
        snprintf(series, sizeof series, "anysa_drops_total{reason=\"%s\"} 0\n",
                 dp_drop_name((enum dp_drop)i));
        cr_expect_not_null(strstr(reply.body, series), "%s", series);
    }
    cr_expect_not_null(strstr(reply.body, "\nanysa_ready 0\n"));
    cr_expect_not_null(strstr(reply.body, "\nanysa_packets_total{direction=\"in\"} 0\n"));
    cr_expect_not_null(strstr(reply.body, "\nanysa_barrier_seconds_bucket{le=\"+Inf\"} 0\n"));
    cr_expect_not_null(strstr(reply.body, "\nanysa_sync_lag_seconds_count 0\n"));
    cr_expect_not_null(strstr(reply.body, "\nanysa_frames_refused_total{reason=\"auth\"} 0\n"));
    free(reply.body);
}
