#include "dataplane/tunnel.h"

#include <stdlib.h>
#include <string.h>

#include "dataplane/esp.h"
#include "proto/err.h"
#include "proto/wire_ip.h"

enum { FIRST_BUCKETS = 64, OUTER_MTU = 1500 };

/* ---------------------------------------------------------------- the table */

int tunnel_table_open(struct tunnel_table *t)
{
    t->by_id = cds_lfht_new(FIRST_BUCKETS, FIRST_BUCKETS, 0,
                            CDS_LFHT_AUTO_RESIZE | CDS_LFHT_ACCOUNTING, NULL);
    return t->by_id ? ERR_OK : ERR_NOMEM;
}

void tunnel_table_close(struct tunnel_table *t)
{
    if (t->by_id)
        (void)cds_lfht_destroy(t->by_id, NULL);
    t->by_id = NULL;
}

static unsigned long hash_id(const struct id128 *id)
{
    uint64_t a, b;

    memcpy(&a, id->b, sizeof a);
    memcpy(&b, id->b + sizeof a, sizeof b);
    a = (a ^ b >> 29 ^ b) * 0x9e3779b97f4a7c15u;
    return (unsigned long)(a ^ a >> 32);
}

static int match_id(struct cds_lfht_node *node, const void *key)
{
    return id128_equal(&caa_container_of(node, struct tunnel, node)->id, key);
}

struct tunnel *tunnel_find(const struct tunnel_table *t, const struct id128 *id)
{
    struct cds_lfht_iter at;
    struct cds_lfht_node *node;

    /* Only the loop thread removes tunnels, so the answer outlives the read lock there. */
    rcu_read_lock();
    cds_lfht_lookup(t->by_id, hash_id(id), match_id, id, &at);
    node = cds_lfht_iter_get_node(&at);
    rcu_read_unlock();
    return node ? caa_container_of(node, struct tunnel, node) : NULL;
}

struct tunnel *tunnel_get(struct tunnel_table *t, const struct id128 *id, unsigned lanes)
{
    struct tunnel *tunnel = tunnel_find(t, id);
    size_t n = sizeof *tunnel + lanes * sizeof(struct traffic);

    if (tunnel)
        return tunnel;
    tunnel = aligned_alloc(64, (n + 63) / 64 * 64);
    if (!tunnel)
        return NULL;
    memset(tunnel, 0, n);
    tunnel->id = *id;
    tunnel->lanes = lanes;
    rcu_read_lock();
    cds_lfht_add(t->by_id, hash_id(id), &tunnel->node);
    rcu_read_unlock();
    return tunnel;
}

static void free_tunnel(struct rcu_head *head)
{
    free(caa_container_of(head, struct tunnel, rcu));
}

static void free_conf(struct rcu_head *head)
{
    free(caa_container_of(head, struct tunnel_conf, rcu));
}

static void free_choice(struct rcu_head *head)
{
    free(caa_container_of(head, struct sa_choice, rcu));
}

void tunnel_drop_unused(struct tunnel_table *t, struct tunnel *tunnel)
{
    if (tunnel->conf || tunnel->n_sas)
        return;
    rcu_read_lock();
    (void)cds_lfht_del(t->by_id, &tunnel->node);
    rcu_read_unlock();
    call_rcu(&tunnel->rcu, free_tunnel);
}

void tunnel_each(struct tunnel_table *t, void (*f)(void *ctx, struct tunnel *tunnel), void *ctx)
{
    struct cds_lfht_iter at;
    struct cds_lfht_node *node;

    rcu_read_lock();
    cds_lfht_first(t->by_id, &at);
    while ((node = cds_lfht_iter_get_node(&at)) != NULL) {
        cds_lfht_next(t->by_id, &at);
        f(ctx, caa_container_of(node, struct tunnel, node));
    }
    rcu_read_unlock();
}

void tunnel_configure(struct tunnel *tunnel, struct tunnel_conf *conf)
{
    struct tunnel_conf *was = tunnel->conf;

    rcu_assign_pointer(tunnel->conf, conf);
    if (was)
        call_rcu(&was->rcu, free_conf);
}

/* ---------------------------------------------------------------- its SAs */

void tunnel_add_sa(struct tunnel *tunnel, struct sa *sa)
{
    sa->hot.tunnel = tunnel;
    sa->next = tunnel->sas;
    tunnel->sas = sa;
    tunnel->n_sas++;
}

void tunnel_del_sa(struct tunnel *tunnel, struct sa *sa)
{
    struct sa **at = &tunnel->sas;

    while (*at && *at != sa)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = sa->next;
    tunnel->n_sas--;
}

struct candidate {
    struct sa *sa;
    enum sa_successor successor;
};

static int by_preference(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;

    return sa_prefer(x->sa, x->successor, y->sa, y->successor);
}

/* Says so of those that others of the tunnel replace: few do, so few look through the list. */
static void mark_replaced(const struct tunnel *tunnel, struct candidate *list, uint32_t n)
{
    for (const struct sa *other = tunnel->sas; other; other = other->next) {
        bool proven = atomic_load_explicit(&other->hot.confirmed, memory_order_relaxed);

        for (uint32_t i = 0; i < n && other->replaces_spi && !other->lingering; i++)
            if (other->replaces_spi == list[i].sa->hot.spi_in &&
                id128_equal(&other->lineage, &list[i].sa->lineage) &&
                list[i].successor != SUCCESSOR_PROVEN)
                list[i].successor = proven ? SUCCESSOR_PROVEN : SUCCESSOR_UNPROVEN;
    }
}

/* The new order, or NULL when there is nothing to choose or no memory. */
static struct sa_choice *sort_choice(const struct tunnel *tunnel)
{
    struct candidate *list;
    struct sa_choice *choice;
    uint32_t n = 0;

    if (!tunnel->n_sas)
        return NULL;
    list = calloc(tunnel->n_sas, sizeof *list);
    choice = calloc(1, sizeof *choice + tunnel->n_sas * sizeof(struct sa *));
    if (list && choice) {
        for (struct sa *sa = tunnel->sas; sa; sa = sa->next)
            if (!sa->lingering)
                list[n++] = (struct candidate){sa, SUCCESSOR_NONE};
        mark_replaced(tunnel, list, n);
        qsort(list, n, sizeof *list, by_preference);
        for (choice->n = 0; choice->n < n; choice->n++)
            choice->sa[choice->n] = list[choice->n].sa;
    } else {
        free(choice);
        choice = NULL;
    }
    free(list);
    return choice;
}

int tunnel_choose(struct tunnel *tunnel)
{
    struct sa_choice *was = tunnel->choice, *choice = sort_choice(tunnel);

    tunnel->stale = false;
    rcu_assign_pointer(tunnel->choice, choice);
    if (was)
        call_rcu(&was->rcu, free_choice);
    return choice || !tunnel->n_sas ? ERR_OK : ERR_NOMEM;
}

bool sa_selects(const struct sa *sa, const struct inner *in, bool inbound)
{
    const struct sa_hot *hot = &sa->hot;

    if (hot->selects_all & (in->version == 4 ? SELECTS_ALL_V4 : SELECTS_ALL_V6))
        return true;
    if (inbound)
        return inner_selected(in, hot->ts_remote, hot->n_remote, &in->src, in->src_port) &&
               inner_selected(in, hot->ts_local, hot->n_local, &in->dst, in->dst_port);
    return inner_selected(in, hot->ts_remote, hot->n_remote, &in->dst, in->dst_port) &&
           inner_selected(in, hot->ts_local, hot->n_local, &in->src, in->src_port);
}

struct sa *tunnel_pick(const struct tunnel *tunnel, const struct inner *in, int64_t now_ms,
                       enum dp_drop *why)
{
    const struct sa_choice *choice = rcu_dereference(tunnel->choice);

    *why = DROP_NO_TUNNEL_SA;
    if (!choice)
        return NULL;
    for (uint32_t i = 0; i < choice->n; i++) {
        struct sa *sa = choice->sa[i];

        if (sa->hot.not_after_ms <= now_ms)
            continue;
        if (sa_selects(sa, in, false))
            return sa;
        *why = DROP_SELECTOR_OUT;
    }
    return NULL;
}

uint16_t tunnel_mtu(const struct tunnel_conf *conf, const struct sa *sa)
{
    if (conf->t.mtu)
        return conf->t.mtu;
    if (conf->t.type == DP_TUNNEL_GRE || !sa)
        return OUTER_MTU - IPV4_HEADER_BYTES - GRE_HEADER_BYTES -
               (conf->t.has_gre_key ? GRE_OPTION_BYTES : 0);
    return esp_inner_mtu(&sa->hot.suite, rcu_dereference(sa->hot.outer)->udp_encap, OUTER_MTU);
}
