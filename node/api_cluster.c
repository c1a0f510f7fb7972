#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/api.h"
#include "node/api_page.h"

bool api_converged(const struct sync_member_info *members, size_t n)
{
    const uint8_t *digest = NULL;

    for (size_t i = 0; i < n; i++) {
        if (members[i].state == MEMBER_DEAD)
            continue;
        if (digest && memcmp(digest, members[i].sa_digest, sizeof members[i].sa_digest) != 0)
            return false;
        digest = members[i].sa_digest;
    }
    return true;
}

static json_t *keys_json(const struct sync_member_info *m)
{
    json_t *list = json_array();

    for (size_t i = 0; i < m->n_keys; i++) {
        char check[sizeof "01234567"];
        snprintf(check, sizeof check, "%08" PRIx32, m->keys[i].check);
        json_array_append_new(
            list, json_pack("{s:o, s:s}", "id", json_counter(m->keys[i].id), "check", check));
    }
    return list;
}

static json_t *digest_json(uint64_t digest)
{
    char text[sizeof "0123456789abcdef"];

    snprintf(text, sizeof text, "%016" PRIx64, digest);
    return digest ? json_string(text) : json_null();
}

json_t *api_member_json(const struct sync_member_info *m)
{
    char incarnation[ID_TEXT] = "";

    if (!id128_is_zero(&m->incarnation)) /* zero: never heard */
        id128_format(&m->incarnation, incarnation);
    return json_pack(
        "{s:o, s:i, s:s, s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s?, s:o, s:o, s:b}", "name",
        json_text(m->name), "slot", (int)m->slot, "incarnation", incarnation, "state",
        member_state_name(m->state), "epoch", (int)m->epoch, "version", json_text(m->version),
        "head", json_counter(m->head), "lag_records", json_counter(m->lag_records), "last_seen_ms",
        json_counter(m->last_seen_ms), "ike_sas", json_counter(m->ike_sas), "child_sas",
        json_counter(m->child_sas), "key_id",
        m->key_state == MEMBER_KEY_NONE ? json_null() : json_counter(m->key_id), "key_state",
        member_key_name(m->key_state), "accepted_keys", keys_json(m), "members_digest",
        digest_json(m->members), "laggard", (int)m->laggard);
}

static json_t *totals(const struct node *node, const struct sync_member_info *members, size_t n)
{
    const struct config_tunnels *tunnels = &node->config->tunnels;
    uint64_t live = 0, ike_sas = 0, child_sas = 0;

    for (size_t i = 0; i < n; i++) {
        live += members[i].state != MEMBER_DEAD;
        if (members[i].slot == node->config->node.slot) {
            ike_sas = members[i].ike_sas;
            child_sas = members[i].child_sas;
        }
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "nodes", json_counter(n), "nodes_live",
                     json_counter(live), "tunnels", json_counter(tunnels->n_tunnels), "routes",
                     json_counter(tunnels->n_routes), "ike_sas", json_counter(ike_sas), "child_sas",
                     json_counter(child_sas));
}

void api_get_cluster(void *ctx, const struct http_request *request, struct http_reply *reply)
{
    const struct node *node = ctx;
    struct sync_member_info *members = calloc(node->config->mesh.n, sizeof *members);
    size_t n = members ? sync_members(node->sync, members, node->config->mesh.n) : 0;
    json_t *nodes = json_array();
    uint8_t digest[32];
    char hex[HEX_TEXT];

    (void)request;
    if (!members) {
        json_decref(nodes);
        http_reply_error(reply, 500, "out_of_memory", "out of memory");
        return;
    }
    sync_digest(node->sync, digest);
    for (size_t i = 0; i < n; i++)
        json_array_append_new(nodes, api_member_json(&members[i]));
    http_reply_json(
        reply, 200,
        json_pack("{s:o, s:o, s:b, s:s, s:o}", "name", json_text(node->config->cluster.name),
                  "nodes", nodes, "converged", (int)api_converged(members, n), "sa_digest",
                  hex_format(digest, sizeof digest, hex), "totals", totals(node, members, n)));
    free(members);
}

static json_t *render_member(void *ctx, uint64_t key)
{
    const struct node *node = ctx;
    struct sync_member_info info;

    return sync_member(node->sync, (uint16_t)(key - 1), &info) ? api_member_json(&info) : NULL;
}

void api_get_nodes(void *ctx, const struct http_request *request, struct http_reply *reply)
{
    const struct node *node = ctx;
    struct page page;

    if (!page_begin(request, &page, reply))
        return;
    for (size_t i = 0; i < node->config->mesh.n; i++)
        page_offer(&page, (uint64_t)node->config->mesh.members[i].slot + 1);
    page_send(&page, render_member, ctx, reply);
}
