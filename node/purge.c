/* Drops every SA of the cluster: the remedy when more was forgotten than epochs can bear.
 *
 * This node buries all that it knows, its own and the others', in groups that are replicated as any
 * deletion is. The owner of each IKE SA tells its router once; a router that does not hear it finds
 * out by its own liveness checks. Nothing is held back for it: what is negotiated meanwhile stays.
 */
#include <stdlib.h>

#include "node/node.h"
#include "proto/log.h"
#include "sync/join.h"

enum { AT_ONCE = 512, GROUP = 64 };

struct purge {
    struct purge_key {
        enum record_kind kind;
        uint64_t key;
    } * keys;
    size_t n, room, at;
    bool no_memory;
};

static bool note(void *ctx, const struct record *r)
{
    struct purge *p = ctx;
    size_t room = p->room ? 2 * p->room : 1024;
    struct purge_key *more;

    if (p->n == p->room) {
        more = realloc(p->keys, room * sizeof *more);
        if (!more) {
            p->no_memory = true;
            return false;
        }
        p->keys = more;
        p->room = room;
    }
    p->keys[p->n++] = (struct purge_key){(enum record_kind)r->kind, record_key(r)};
    return true;
}

bool node_purge(struct node *node, struct node_purged *out)
{
    struct purge *p;

    *out = (struct node_purged){0};
    if (node->purge) /* one is under way: it is as good */
        return true;
    p = calloc(1, sizeof *p);
    if (!p)
        return false;
    sync_each(node->sync, RECORD_IKE, note, p); /* with the lineage its children go */
    out->ike_sas = p->n;
    sync_each(node->sync, RECORD_CHILD, note, p);
    out->child_sas = p->n - out->ike_sas;
    if (p->no_memory) {
        free(p->keys);
        free(p);
        return false;
    }
    log_warn("node", "purge: %zu IKE SAs and %zu Child SAs are deleted on all nodes", out->ike_sas,
             out->child_sas);
    node->purge = p;
    return true;
}

/* NULL: it is gone by itself, or there is no memory (then it stays). */
static struct record *buried(const struct node *node, const struct purge_key *k)
{
    const struct record *r = k->kind == RECORD_IKE ? sync_find_ike(node->sync, k->key)
                                                   : sync_find_child(node->sync, (uint32_t)k->key);
    struct record *copy = r && record_state(r) == SA_INSTALLED ? record_clone(r) : NULL;

    if (!copy)
        return NULL;
    record_bury(copy);
    if (copy->kind == RECORD_IKE)
        copy->ike.lineage_over = true;
    return copy;
}

void node_purge_tick(struct node *node)
{
    struct purge *p = node->purge;
    struct record *group[GROUP];
    size_t left = AT_ONCE;

    while (p && left && p->at < p->n) {
        struct sync_event event = {.kind = SYNC_EV_PUT, .group = group};
        for (; event.n_group < GROUP && left && p->at < p->n; p->at++, left--) {
            group[event.n_group] = buried(node, &p->keys[p->at]);
            event.n_group += group[event.n_group] != NULL;
        }
        node->purging = true;
        if (event.n_group)
            node_sync(node, &event);
        node->purging = false;
    }
    if (!p || p->at < p->n)
        return;
    log_info("node", "purge: done");
    node_purge_free(node);
}

void node_purge_free(struct node *node)
{
    if (node->purge)
        free(node->purge->keys);
    free(node->purge);
    node->purge = NULL;
}
