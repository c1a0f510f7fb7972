#include "node/api.h"
#include "node/api_page.h"

static const char *child_state(const struct child_record *sa)
{
    return sa->rekeyed ? "rekeyed" : sa->confirmed ? "confirmed" : "installed";
}

json_t *api_ike_json(const struct ike_record *sa)
{
    char spi_i[SPI_TEXT], spi_r[SPI_TEXT], tunnel[ID_TEXT], lineage[ID_TEXT];
    char peer[ENDPOINT_TEXT], suite[SUITE_TEXT];

    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:o, s:s, s:b, s:s, s:o, s:o}", "spi_i",
                     ike_spi_format(sa->spi_i, spi_i), "spi_r", ike_spi_format(sa->spi_r, spi_r),
                     "tunnel_id", id128_format(&sa->tunnel_id, tunnel), "lineage",
                     id128_format(&sa->lineage, lineage), "owner", (int)sa->term.slot, "term",
                     json_counter(sa->term.number), "peer", endpoint_format(&sa->peer, peer), "nat",
                     (int)(sa->nat != 0), "suite", suite_format(&sa->suite, suite), "created_at",
                     json_time(sa->created_ms), "not_after", json_time(sa->not_after_ms));
}

static void set(json_t *object, const char *key, json_t *value)
{
    json_object_set_new_nocheck(object, key, value);
}

static void set_text(json_t *object, const char *key, const char *value)
{
    json_object_set_new_nocheck(object, key, json_string_nocheck(value));
}

uint64_t api_child_ike_spi_r(const struct sync_core *sync, const struct child_record *sa)
{
    const struct record *ike = sync_find_lineage_ike(sync, &sa->lineage);

    return ike ? ike->ike.spi_r : sa->ike_spi_r;
}

json_t *api_child_json(const struct child_record *sa, uint64_t ike_spi_r,
                       const struct endpoint *peer, const struct dp_sa_stats *stats,
                       const struct secret *fingerprint_key)
{
    char text[SUITE_TEXT + ENDPOINT_TEXT + TIME_TEXT];
    json_t *o = json_object();

    if (!o)
        return NULL;
    set_text(o, "spi_in", esp_spi_format(sa->spi_in, text));
    set_text(o, "spi_out", esp_spi_format(sa->spi_out, text));
    set_text(o, "tunnel_id", id128_format(&sa->tunnel_id, text));
    set_text(o, "lineage", id128_format(&sa->lineage, text));
    set_text(o, "ike_spi_r", ike_spi_format(ike_spi_r, text));
    set(o, "origin", json_integer(sa->origin_slot));
    set_text(o, "suite", suite_format(&sa->suite, text));
    set_text(o, "encap", sa->udp_encap ? "udp" : "esp");
    set_text(o, "peer", endpoint_format(peer, text));
    set(o, "ts_local", json_selectors(&sa->ts_local));
    set(o, "ts_remote", json_selectors(&sa->ts_remote));
    set_text(o, "state", child_state(sa));
    set_text(o, "created_at", time_format_ms(sa->created_ms, text));
    set_text(o, "installed_at", time_format_us(stats->installed_ms, stats->installed_us, text));
    set_text(o, "not_after", time_format_ms(sa->not_after_ms, text));
    set(o, "packets_in", json_counter(stats->packets_in));
    set(o, "bytes_in", json_counter(stats->bytes_in));
    set(o, "packets_out", json_counter(stats->packets_out));
    set(o, "bytes_out", json_counter(stats->bytes_out));
    set_text(o, "key_fingerprint", fingerprint_format(fingerprint_key, sa, text));
    return o;
}

/* ---- lists ---- */

struct offering {
    const struct node *node;
    struct page *page;
};

static bool offer_ike(void *ctx, const struct record *record)
{
    struct offering *to = ctx;

    page_offer(to->page, ike_record_spi(&record->ike));
    return true;
}

static bool offer_child(void *ctx, const struct record *record)
{
    struct offering *to = ctx;
    struct dp_sa_stats stats;

    if (to->node->dp && dp_sa_get_stats(to->node->dp, record->child.spi_in, &stats))
        page_offer(to->page, record->child.spi_in);
    return true;
}

static json_t *render_ike(void *ctx, uint64_t spi)
{
    const struct node *node = ctx;
    const struct record *record = sync_find_ike(node->sync, spi);

    return record && record->ike.state == SA_INSTALLED ? api_ike_json(&record->ike) : NULL;
}

static json_t *render_child(void *ctx, uint64_t spi)
{
    const struct node *node = ctx;
    const struct record *record = sync_find_child(node->sync, (uint32_t)spi);
    struct dp_sa_stats stats;

    if (!record || !node->dp || !dp_sa_get_stats(node->dp, (uint32_t)spi, &stats))
        return NULL;
    return api_child_json(&record->child, api_child_ike_spi_r(node->sync, &record->child),
                          node_child_peer(node, &record->child), &stats, &node->fingerprint_key);
}

void api_get_ike_sas(void *ctx, const struct http_request *request, struct http_reply *reply)
{
    const struct node *node = ctx;
    struct page page;
    struct offering to = {node, &page};

    if (!page_begin(request, &page, reply))
        return;
    sync_each(node->sync, RECORD_IKE, offer_ike, &to);
    page_send(&page, render_ike, ctx, reply);
}

void api_get_child_sas(void *ctx, const struct http_request *request, struct http_reply *reply)
{
    const struct node *node = ctx;
    struct page page;
    struct offering to = {node, &page};

    if (!page_begin(request, &page, reply))
        return;
    sync_each(node->sync, RECORD_CHILD, offer_child, &to);
    page_send(&page, render_child, ctx, reply);
}
