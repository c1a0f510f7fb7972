/* A record is installed here, whether it was made on this node or on another:
 * origin and replica share this one path. The replication core acknowledges a
 * record to the others only after this file has dealt with it. */
#include <inttypes.h>
#include <stdlib.h>

#include "node/node.h"
#include "proto/err.h"
#include "proto/log.h"

/* From a Child SA's creation at its origin to its installation here. Both are wall clocks, so
 * the figure is as good as the nodes' clocks agree; what a restart or a late join brings is
 * no news and does not count. */
static bool is_news(const struct node *node, const struct child_record *sa)
{
    return sa->origin_slot != node->config->node.slot && sa->created_ms >= node->started_ms &&
           sync_is_synced(node->sync);
}

static void observe_lag(struct node *node, const struct child_record *sa, struct now now)
{
    int64_t ms = now.wall_ms - sa->created_ms;

    histogram_observe(&node->sync_lag_us, ms > 0 ? (uint64_t)ms * 1000 : 0);
}

/* The peer may have moved before the Child SA was installed here, or does so now. */
static int follow_peer(struct node *node, uint32_t spi_in)
{
    const struct record *moved = sync_find_endpoint(node->sync, spi_in);

    return moved && node->dp ? dp_sa_move(node->dp, spi_in, &moved->endpoint.peer) : ERR_OK;
}

static void install_endpoint(struct node *node, uint32_t spi_in)
{
    int err = follow_peer(node, spi_in);

    if (err == ERR_OK)
        return;
    node->counters.install_failed++;
    log_error("node", "Child SA 0x%08" PRIx32 ": its peer's move was not followed: %s", spi_in,
              err_text(err));
}

/* ---- what may be sealed before an epoch is granted ---- */

static bool is_own(const struct node *node, uint32_t spi_in)
{
    for (size_t i = 0; i < node->own.n; i++)
        if (node->own.spi[i] == spi_in)
            return true;
    return false;
}

void node_note_own(struct node *node, struct record *const *group, size_t n)
{
    for (size_t i = 0; i < n && node->epoch == 0; i++) {
        const struct child_record *sa = &group[i]->child;
        size_t cap = node->own.cap ? 2 * node->own.cap : 64;
        uint32_t *more;

        if (group[i]->kind != RECORD_CHILD || sa->state != SA_INSTALLED ||
            sync_find_child(node->sync, sa->spi_in))
            continue;
        if (node->own.n == node->own.cap) {
            more = realloc(node->own.spi, cap * sizeof *more);
            if (!more)
                return; /* it is sealed once an epoch is granted */
            node->own.spi = more;
            node->own.cap = cap;
        }
        node->own.spi[node->own.n++] = sa->spi_in;
    }
}

static void install_child(struct node *node, const struct child_record *sa)
{
    struct now now = sync_now(node->sync, now_read());
    struct dp_sa_stats stats;
    bool news;
    int err;

    if (!node->dp)
        return; /* it is down already */
    if (sa->state == SA_DELETED || sa->not_after_ms <= now.wall_ms) {
        dp_sa_retire(node->dp, sa->spi_in); /* what is under way may still come */
        return;
    }
    if (!node_find_tunnel(node, &sa->tunnel_id)) {
        node->counters.unknown_tunnel += !dp_sa_get_stats(node->dp, sa->spi_in, &stats);
        return;
    }
    if (node->no_install)
        return;
    news = is_news(node, sa) && !dp_sa_get_stats(node->dp, sa->spi_in, &stats);
    err = dp_sa_apply(node->dp, sa);
    if (err == ERR_OK && node->epoch == 0 && is_own(node, sa->spi_in))
        dp_sa_own(node->dp, sa->spi_in);
    if (err == ERR_OK)
        err = follow_peer(node, sa->spi_in);
    if (err != ERR_OK) {
        node->counters.install_failed++;
        log_error("node", "Child SA 0x%08" PRIx32 " was not installed: %s", sa->spi_in,
                  err_text(err));
    } else if (news) {
        observe_lag(node, sa, now);
    }
}

/* The engine speaks for the SAs of this incarnation. It must know when one was taken over or
 * deleted elsewhere, and what became certain of its Child SAs; its own deletions it knows. */
static void tell_engine(struct node *node, const struct record *record)
{
    const struct ike_record *ike = &record->ike;
    const struct child_record *child = &record->child;
    struct ike_event event = {.kind = IKE_EV_RECORD, .record = record};
    struct id128 self = sync_incarnation(node->sync);
    uint64_t spi;
    bool news;

    if (record->kind == RECORD_IKE) {
        bool ours =
            ike->term.slot == node->config->node.slot && id128_equal(&ike->term.incarnation, &self);
        spi = ike_record_spi(ike);
        news = ike->state == SA_DELETED ? !node->putting_deleted || node->purging : !ours;
    } else if (record->kind == RECORD_CHILD) {
        spi = 0; /* the engine knows it by its lineage */
        news = child->state == SA_DELETED ? !node->putting_deleted || node->purging
                                          : child->confirmed || child->rekeyed ||
                                                child->origin_slot != node->config->node.slot;
    } else {
        return;
    }
    if (news && (spi == 0 || ike_owns(node->ike, spi)))
        node_ike(node, &event);
}

void node_on_record(struct node *node, const struct record *record)
{
    if (record->kind == RECORD_CHILD)
        install_child(node, &record->child);
    else if (record->kind == RECORD_IKE)
        node_contacts_record(node, &record->ike);
    else if (record->kind == RECORD_ENDPOINT)
        install_endpoint(node, record->endpoint.spi_in);
    if (!node->ike)
        return;
    tell_engine(node, record);
    if (record->kind == RECORD_IKE)
        node_takeover_offer(node, record);
}

/* ---- all of them ---- */

static bool install_one(void *ctx, const struct record *record)
{
    struct node *node = ctx;
    struct dp_sa_stats stats;
    const struct child_record *sa = &record->child;

    if (node_find_tunnel(node, &sa->tunnel_id))
        install_child(node, sa);
    else if (dp_sa_get_stats(node->dp, sa->spi_in, &stats))
        dp_sa_remove(node->dp, sa->spi_in);
    return true;
}

void node_install_all(struct node *node)
{
    if (!node->dp)
        return;
    dp_bulk_begin(node->dp, 0);
    sync_each(node->sync, RECORD_CHILD, install_one, node);
    dp_bulk_end(node->dp);
}

static bool remove_one(void *ctx, const struct record *record)
{
    dp_sa_remove(ctx, record->child.spi_in);
    return true;
}

void node_remove_all(struct node *node)
{
    sync_each(node->sync, RECORD_CHILD, remove_one, node->dp);
}

/* ---- proof that the peer has an SA ---- */

/* A clone that says more than the stored form, or NULL when there is nothing to say. */
static struct record *with_flag(const struct record *record, bool confirmed, bool rekeyed)
{
    struct record *clone;

    if (!record || record->child.state != SA_INSTALLED ||
        ((record->child.confirmed || !confirmed) && (record->child.rekeyed || !rekeyed)))
        return NULL;
    clone = record_clone(record);
    if (!clone)
        return NULL;
    clone->child.confirmed |= confirmed;
    clone->child.rekeyed |= rekeyed;
    return clone;
}

void node_on_confirmed(void *ctx, uint32_t spi_in)
{
    struct node *node = ctx;
    const struct record *record = sync_find_child(node->sync, spi_in);
    struct record *group[2];
    struct sync_event event = {.kind = SYNC_EV_PUT, .group = group};

    if (!record)
        return;
    group[event.n_group] = with_flag(record, true, false);
    event.n_group += group[event.n_group] != NULL;
    if (record->child.replaces_spi) {
        group[event.n_group] =
            with_flag(sync_find_child(node->sync, record->child.replaces_spi), false, true);
        event.n_group += group[event.n_group] != NULL;
    }
    if (event.n_group > 0)
        node_sync(node, &event);
}
