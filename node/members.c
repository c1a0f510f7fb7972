/* The member list at a reload: one member more or fewer, while all goes on. */
#include <stdlib.h>
#include <string.h>

#include "node/node.h"
#include "proto/err.h"
#include "proto/log.h"

static bool is_same(const struct config_member *a, const struct config_member *b)
{
    return a->slot == b->slot && a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* How many of a's members b does not have so. */
static size_t missing(const struct config_member *a, size_t n_a, const struct config_member *b,
                      size_t n_b)
{
    size_t n = 0;

    for (size_t i = 0; i < n_a; i++) {
        bool found = false;
        for (size_t k = 0; k < n_b && !found; k++)
            found = is_same(&a[i], &b[k]);
        n += !found;
    }
    return n;
}

struct transport_peer *node_mesh_others(const struct node *node, size_t *n)
{
    const struct config *config = node->config;
    struct transport_peer *others = calloc(config->mesh.n, sizeof *others);

    *n = 0;
    for (size_t i = 0; others && i < config->mesh.n; i++)
        if (config->mesh.members[i].slot != config->node.slot)
            others[(*n)++] = node_mesh_peer(&config->mesh.members[i]);
    return others;
}

struct transport_peer node_mesh_peer(const struct config_member *member)
{
    struct transport_peer peer = {.slot = member->slot, .port = member->port};

    memcpy(peer.host, member->host, sizeof peer.host);
    return peer;
}

/* The core first: it refuses frames of whoever is not in its list. */
static void spread(struct node *node)
{
    const struct config *config = node->config;
    uint16_t slots[SYNC_MEMBERS_MAX];
    struct sync_event event = {
        .kind = SYNC_EV_MEMBERS, .members = slots, .n_members = config->mesh.n};
    struct transport_peer *others;
    size_t n;

    for (size_t i = 0; i < config->mesh.n; i++)
        slots[i] = config->mesh.members[i].slot;
    node_sync(node, &event);
    ike_set_alone(node->ike, config->mesh.n == 1);
    others = node_mesh_others(node, &n);
    if (!others || node->transport->ops->set_peers(node->transport, others, n) != ERR_OK) {
        node->counters.reloads_failed++;
        log_error("node", "not all members are dialled: restart this node");
    }
    free(others);
}

void node_members_reload(struct node *node)
{
    static struct config_error why; /* 2 KB; the loop thread alone comes here */
    struct config *config = node->config;
    struct config_member *members;
    char line[CONFIG_ERROR_LINE];
    size_t n, come, gone;

    if (config_read_members(config, &members, &n, &why) != ERR_OK) {
        node->counters.reloads_failed++;
        log_error("config", "%s", config_error_format(&why, line));
        log_error("config", "the member list stays as it was");
        return;
    }
    come = missing(members, n, config->mesh.members, config->mesh.n);
    gone = missing(config->mesh.members, config->mesh.n, members, n);
    if (come + gone == 0) {
        free(members);
        return;
    }
    if (come + gone > 1) {
        node->counters.reloads_failed++;
        log_error("config",
                  "%s: %zu members are new and %zu are gone: the member list stays as it was; "
                  "change one at a time, on all nodes, or restart them",
                  config->path, come, gone);
        free(members);
        return;
    }
    free(config->mesh.members);
    config->mesh.members = members;
    config->mesh.n = n;
    spread(node);
    log_info("node", "%zu members", n);
}
