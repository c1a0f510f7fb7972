/* The records that the benches put. */
#include <stdlib.h>

#include "proto/err.h"
#include "tests/bench/member.h"
#include "tests/unit/sync/samples.h"

struct cluster_key bench_cluster_key(void)
{
    return sample_cluster_key(1);
}

/* bench_config's ids of tunnels, from 1. */
struct id128 bench_tunnel(uint32_t n)
{
    struct id128 id = {{0}};

    id.b[ID_BYTES - 2] = (uint8_t)((n % BENCH_TUNNELS + 1) >> 8);
    id.b[ID_BYTES - 1] = (uint8_t)(n % BENCH_TUNNELS + 1);
    return id;
}

void bench_pair(uint16_t slot, uint32_t n, struct record *pair[2])
{
    static uint8_t answer[220]; /* as long as an IKE_AUTH response with one Child SA */
    uint32_t customer = (uint32_t)slot << 22 | n;

    pair[0] = sample_ike((uint64_t)slot << 54 | n, customer);
    pair[1] = sample_child((uint32_t)slot << 22 | (n + 256), customer);
    if (!pair[0] || !pair[1] ||
        blob_set(&pair[0]->ike.last_response, answer, sizeof answer) != ERR_OK)
        abort();
    pair[0]->ike.tunnel_id = pair[1]->child.tunnel_id = bench_tunnel(n);
    pair[1]->child.suite = (struct suite){ENCR_AES_GCM_16, 256, 0, 0, 0};
    if (secret_set(&pair[1]->child.encr_in, pair[0]->ike.sk_ei.b, 36) != ERR_OK ||
        secret_set(&pair[1]->child.encr_out, pair[0]->ike.sk_er.b, 36) != ERR_OK)
        abort();
    pair[1]->child.integ_in.n = pair[1]->child.integ_out.n = 0;
    pair[1]->child.ike_spi = pair[1]->child.ike_spi_r = pair[0]->ike.spi_r;
    pair[0]->ike.term.slot = pair[1]->child.origin_slot = slot;
}
