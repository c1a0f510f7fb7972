/* GET /metrics. A new figure is a row in one of the tables, or a few lines below. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "node/api.h"
#include "node/metrics.h"
#include "proto/secret.h"
#include "sync/frame.h"

enum { PREFIXED_NAME = 64 };

/* A counter or gauge that is one number: a row each. */
struct row {
    const char *name, *type, *help;
    size_t at; /* of the uint64_t in the struct */
};

static void rows(struct metrics *m, const struct row *row, size_t n, const void *values)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t v;
        memcpy(&v, (const char *)values + row[i].at, sizeof v);
        metrics_family(m, row[i].name, row[i].type, row[i].help);
        metrics_value(m, row[i].name, "", v);
    }
}
#define ROWS(m, table, values) rows(m, table, sizeof(table) / sizeof *(table), values)

#define AT(field) offsetof(struct node_counters, field)
static const struct row node_rows[] = {
    {"anysa_barrier_timeouts_total", "counter", "Barriers that timed out", AT(barrier_timeouts)},
    {"anysa_forwarded_in_total", "counter", "IKE datagrams that other nodes passed to this one",
     AT(forwarded_in)},
    {"anysa_ike_send_failed_total", "counter", "IKE messages that the system did not take",
     AT(ike_send_failed)},
    {"anysa_sa_install_failed_total", "counter", "Child SAs that the dataplane refused",
     AT(install_failed)},
    {"anysa_sa_unknown_tunnel_total", "counter",
     "Child SAs stored but not installed: their tunnel is not configured here", AT(unknown_tunnel)},
    {"anysa_moves_heard_total", "counter",
     "Reports of other nodes that heard a peer behind NAT at a new address", AT(moves_heard)},
    {"anysa_sa_misses_total", "counter",
     "Reports of inbound ESP whose SA is not here though the node that made it is alive",
     AT(misses)},
    {"anysa_sa_misses_over_total", "counter",
     "Of these, how often the SA was deleted or that node did not have it either", AT(misses_over)},
    {"anysa_ike_resumed_total", "counter", "Own IKE SAs taken up after a restart or a hand-over",
     AT(resumed)},
    {"anysa_ike_adopted_total", "counter", "IKE SAs of dead nodes taken over", AT(adopted)},
    {"anysa_ike_adoption_full_total", "counter",
     "IKE datagrams dropped because too many wait for an adoption", AT(adoption_full)},
    {"anysa_activity_rounds_total", "counter",
     "Questions to the other nodes, when they last heard some peers", AT(activity_rounds)},
    {"anysa_ike_handed_over_total", "counter", "IKE SAs given to others while draining",
     AT(handed_over)},
    {"anysa_reloads_total", "counter", "Reloads asked for", AT(reloads)},
    {"anysa_reloads_failed_total", "counter", "Reloads that changed nothing or not all",
     AT(reloads_failed)},
    {"anysa_events_lost_total", "counter", "Events lost for want of memory", AT(no_memory)},
};
#undef AT
#define AT(field) offsetof(struct ike_stats, field)
static const struct row ike_rows[] = {
    {"anysa_ike_half_open", "gauge", "IKE SAs without authentication yet, here", AT(half_open)},
    {"anysa_ike_owned", "gauge", "Established IKE SAs that this node speaks for", AT(established)},
    {"anysa_ike_datagrams_total", "counter", "IKE datagrams taken by the engine", AT(datagrams)},
    {"anysa_ike_malformed_total", "counter", "IKE messages that could not be read", AT(malformed)},
    {"anysa_ike_no_epoch_total", "counter", "IKE messages not answered for want of an epoch",
     AT(no_epoch)},
    {"anysa_ike_rekeys_total", "counter", "Child SAs and IKE SAs rekeyed", AT(rekeys)},
    {"anysa_ike_timeouts_total", "counter", "IKE SAs deleted because the peer fell silent",
     AT(timeouts)},
    {"anysa_ike_moves_total", "counter",
     "Peers behind NAT that were followed to a new address, by their authenticated answer from "
     "there",
     AT(moves)},
    {"anysa_ike_move_probes_total", "counter", "Addresses at which a peer behind NAT was asked for",
     AT(move_probes)},
    {"anysa_ike_move_probes_failed_total", "counter",
     "Of these, how often the peer answered from elsewhere", AT(move_probes_failed)},
    {"anysa_ike_cookies_total", "counter", "IKE_SA_INITs answered by asking for a cookie",
     AT(cookies)},
    {"anysa_ike_prefix_full_total", "counter",
     "IKE_SA_INITs dropped because their source prefix has its share", AT(prefix_full)},
    {"anysa_ike_reassembled_total", "counter", "IKE messages that came in fragments, put together",
     AT(reassembled)},
    {"anysa_ike_fragments_lost_total", "counter",
     "IKE messages in fragments given up: incomplete for 30 s, or too long", AT(fragments_lost)},
    {"anysa_ike_deletes_total", "counter", "SAs deleted", AT(deletes)},
    {"anysa_ike_retransmits_total", "counter", "Requests that came again and got the same answer",
     AT(retransmits)},
};
#undef AT
#define AT(field) offsetof(struct sync_stats, field)
static const struct row sync_rows[] = {
    {"anysa_frames_in_total", "counter", "Mesh frames taken", AT(frames_in)},
    {"anysa_frames_out_total", "counter", "Mesh frames sent", AT(frames_out)},
    {"anysa_records_in_total", "counter", "Records from other nodes", AT(records_in)},
    {"anysa_records_newer_total", "counter",
     "Records of kinds that a newer version knows: kept and relayed", AT(records_newer)},
    {"anysa_records_unreadable_total", "counter",
     "Records of a newer version that could not be kept", AT(records_unreadable)},
    {"anysa_records_out_total", "counter", "Records told to other nodes", AT(records_out)},
    {"anysa_sync_pulls_total", "counter", "Repairs begun", AT(pulls)},
    {"anysa_miss_pulls_total", "counter", "Of these, begun because a packet's SA was not here",
     AT(miss_pulls)},
    {"anysa_sync_pages_total", "counter", "Pages of repairs", AT(pages)},
    {"anysa_sync_gaps_total", "counter", "Gaps found in another node's log", AT(gaps)},
    {"anysa_sync_logs", "gauge", "Logs in the vector: members, and earlier lives with records left",
     AT(logs)},
    {"anysa_barriers_waiting", "gauge", "IKE answers held back", AT(held_back)},
    {"anysa_sync_snapshots", "gauge", "Pulls being served", AT(snapshots)},
    {"anysa_barriers_total", "counter", "Barriers passed or timed out", AT(barriers)},
    {"anysa_barriers_short_total", "counter",
     "Of these, passed without a live member that lags persistently", AT(barriers_short)},
    {"anysa_laggards_found_total", "counter",
     "How often a live member was found to lag, so that barriers wait for it no more",
     AT(laggings)},
    {"anysa_barrier_reminders_total", "counter",
     "Announces to one node alone, for which an answer had waited 50 ms", AT(reminders)},
    {"anysa_clock_behind_ms", "gauge",
     "How far this node's wall clock is behind the median of all; the median is used",
     AT(clock_behind_ms)},
    {"anysa_clock_ahead_ms", "gauge",
     "How far this node's wall clock is ahead of the median of all", AT(clock_ahead_ms)},
};
#undef AT

static void dataplane(struct metrics *m, const struct node *node)
{
    struct dp_counters c = {0};
    char label[METRICS_LABEL_TEXT];

    if (node->dp)
        dp_get_counters(node->dp, &c);
    metrics_family(m, "anysa_packets_total", "counter",
                   "Inner packets delivered; in: from customers, out: to them");
    metrics_value(m, "anysa_packets_total", "direction=\"in\"", c.packets_in);
    metrics_value(m, "anysa_packets_total", "direction=\"out\"", c.packets_out);
    metrics_family(m, "anysa_bytes_total", "counter", "Octets of those packets");
    metrics_value(m, "anysa_bytes_total", "direction=\"in\"", c.bytes_in);
    metrics_value(m, "anysa_bytes_total", "direction=\"out\"", c.bytes_out);
    metrics_family(m, "anysa_moves_reported_total", "counter",
                   "Reports of lanes that heard a peer behind NAT at a new address");
    metrics_value(m, "anysa_moves_reported_total", "", c.moves_reported);
    metrics_family(m, "anysa_moves_unreported_total", "counter",
                   "Such packets that were not reported because there were too many");
    metrics_value(m, "anysa_moves_unreported_total", "", c.moves_unreported);
    metrics_family(m, "anysa_held_packets_total", "counter",
                   "ESP packets held for a moment because their SA was not here yet");
    metrics_value(m, "anysa_held_packets_total", "", c.held);
    metrics_family(m, "anysa_held_released_total", "counter",
                   "Of these, those whose SA came in time; the others were dropped (no_sa)");
    metrics_value(m, "anysa_held_released_total", "", c.held_released);
    metrics_family(m, "anysa_held_overflow_total", "counter",
                   "ESP packets that were not held but dropped (no_sa) for want of room");
    metrics_value(m, "anysa_held_overflow_total", "", c.held_overflow);
    metrics_family(m, "anysa_drops_total", "counter", "Packets not delivered, by reason");
    for (int i = 0; i < DROP_COUNT; i++)
        metrics_value(m, "anysa_drops_total",
                      metrics_label("reason", dp_drop_name((enum dp_drop)i), label), c.drops[i]);
}

static void handshakes(struct metrics *m, const struct node *node)
{
    struct ike_stats ike = {0};
    char label[METRICS_LABEL_TEXT];

    ike_get_stats(node->ike, &ike);
    metrics_family(m, "anysa_ike_handshakes_total", "counter", "IKE_AUTH exchanges, by result");
    metrics_value(m, "anysa_ike_handshakes_total", "result=\"ok\"", ike.auth_ok);
    metrics_value(m, "anysa_ike_handshakes_total", "result=\"failed\"", ike.auth_failed);
    ROWS(m, ike_rows, &ike);
    metrics_family(m, "anysa_ike_dropped_total", "counter",
                   "IKE datagrams that nobody answers, by reason");
    for (int i = STEER_NOT_ABLE; i < STEER_REASON_COUNT; i++)
        metrics_value(m, "anysa_ike_dropped_total",
                      metrics_label("reason", steer_reason_name((enum steer_reason)i), label),
                      node->counters.steered[i]);
    metrics_family(m, "anysa_forwarded_total", "counter",
                   "IKE datagrams passed to the node that owns their SA");
    metrics_value(m, "anysa_forwarded_total", "", node->counters.steered[STEER_OTHERS]);
}

/* Label values are lower case. */
static const char *lower(const char *text, char out[PREFIXED_NAME])
{
    size_t n = 0;

    for (; text[n] && n < PREFIXED_NAME - 1; n++)
        out[n] = (char)(text[n] >= 'A' && text[n] <= 'Z' ? text[n] - 'A' + 'a' : text[n]);
    out[n] = 0;
    return out;
}

static void replication(struct metrics *m, const struct node *node)
{
    struct sync_stats sync = {0};
    char label[METRICS_LABEL_TEXT], name[PREFIXED_NAME];

    sync_get_stats(node->sync, &sync);
    ROWS(m, sync_rows, &sync);
    metrics_family(m, "anysa_frames_refused_total", "counter", "Mesh frames refused, by reason");
    for (int i = 0; i < REFUSED_COUNT; i++)
        metrics_value(
            m, "anysa_frames_refused_total",
            metrics_label("reason", lower(frame_refusal_name((enum frame_refusal)i), name), label),
            sync.refused_by_reason[i]);
    metrics_histogram(m, "anysa_barrier_seconds",
                      "From the records of an exchange to their barrier", &node->barrier_us);
    metrics_histogram(m, "anysa_sync_lag_seconds",
                      "From a Child SA's creation on another node to its installation here "
                      "(two wall clocks)",
                      &node->sync_lag_us);
}

static void custody(struct metrics *m)
{
    struct secret_memory held = secret_memory();

    metrics_family(m, "anysa_key_memory_bytes", "gauge",
                   "Memory set aside for keys; what is not locked may reach swap");
    metrics_value(m, "anysa_key_memory_bytes", "locked=\"yes\"", held.locked_bytes);
    metrics_value(m, "anysa_key_memory_bytes", "locked=\"no\"", held.unlocked_bytes);
}

static void states(struct metrics *m, const struct node *node)
{
    const struct config *config = node->config;
    struct sync_member_info own = {0};
    size_t live = 0;
    char name[METRICS_LABEL_TEXT], labels[METRICS_LABEL_TEXT + PREFIXED_NAME];

    metrics_label("name", node->config->node.name, name);
    snprintf(labels, sizeof labels, "%s,slot=\"%u\",version=\"%s\"", name, node->config->node.slot,
             ANYSA_VERSION);
    metrics_family(m, "anysa_node_info", "gauge", "Always 1; the labels say who this is");
    metrics_value(m, "anysa_node_info", labels, 1);
    metrics_family(m, "anysa_ready", "gauge", "1 while /readyz answers 200");
    metrics_value(m, "anysa_ready", "", node_readiness(node).n == 0);
    metrics_family(m, "anysa_epoch", "gauge", "The granted epoch; 0: none");
    metrics_value(m, "anysa_epoch", "", node->epoch);
    metrics_family(m, "anysa_journal_failed", "gauge", "1 while the disk refuses or hangs");
    metrics_value(m, "anysa_journal_failed", "", node->journal_failed);
    metrics_family(m, "anysa_journal_waiting", "gauge", "Records that wait for the disk");
    metrics_value(m, "anysa_journal_waiting", "",
                  node->store ? node->store->ops->waiting(node->store) : 0);
    for (size_t i = 0; i < config->mesh.n; i++)
        live += sync_member_live(node->sync, config->mesh.members[i].slot);
    (void)sync_member(node->sync, config->node.slot, &own);
    metrics_family(m, "anysa_ike_sas", "gauge", "IKE SAs known here, of all owners");
    metrics_value(m, "anysa_ike_sas", "", own.ike_sas);
    metrics_family(m, "anysa_child_sas", "gauge", "Child SAs known here");
    metrics_value(m, "anysa_child_sas", "", own.child_sas);
    metrics_family(m, "anysa_members", "gauge", "Members of the cluster");
    metrics_value(m, "anysa_members", "", config->mesh.n);
    metrics_family(m, "anysa_members_live", "gauge", "Members that are alive, ourselves included");
    metrics_value(m, "anysa_members_live", "", live);
}

void api_get_metrics(void *ctx, const struct http_request *request, struct http_reply *reply)
{
    const struct node *node = ctx;
    struct metrics m = {0};

    (void)request;
    states(&m, node);
    custody(&m);
    dataplane(&m, node);
    handshakes(&m, node);
    replication(&m, node);
    ROWS(&m, node_rows, &node->counters);
    if (m.text)
        http_reply_text(reply, 200, "text/plain; version=0.0.4; charset=utf-8", m.text, m.n);
    else
        http_reply_error(reply, 500, "out_of_memory", "out of memory");
}
