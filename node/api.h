/* The HTTP API: the table of its routes, and how one object of each kind looks.
 * The functions that render take plain structs and ask nobody, so that tests can
 * hold them against the contract. Loop thread. Returned JSON belongs to the
 * caller; NULL when out of memory. */
#ifndef NODE_API_H
#define NODE_API_H

#include <jansson.h>

#include "node/api_text.h"
#include "node/http_router.h"
#include "node/node.h"

/* The site of a node; borrows the node and its configuration's token. */
struct http_site api_site(struct node *node);
extern const struct http_route api_routes[];
extern const size_t api_route_count;

/* ---- one object each ---- */
json_t *api_member_json(const struct sync_member_info *member);
json_t *api_tunnel_json(const struct tunnel_state *tunnel, const struct dp_sa_stats *stats);
json_t *api_route_json(const struct config_route *route);
json_t *api_ike_json(const struct ike_record *sa);
/* ike_spi_r: of the IKE SA that its lineage has now, which need not be the one that made it. */
uint64_t api_child_ike_spi_r(const struct sync_core *sync, const struct child_record *sa);
json_t *api_child_json(const struct child_record *sa, uint64_t ike_spi_r,
                       const struct endpoint *peer, const struct dp_sa_stats *stats,
                       const struct secret *fingerprint_key);

/* Whether all live members report one digest. */
bool api_converged(const struct sync_member_info *members, size_t n);

/* ---- handlers; ctx is the node ---- */
http_handler_fn api_get_healthz, api_get_readyz, api_get_cluster, api_get_nodes, api_get_tunnels,
    api_get_tunnel, api_get_routes, api_get_ike_sas, api_get_child_sas, api_get_metrics,
    api_post_drain, api_post_resume, api_post_purge;

#endif
