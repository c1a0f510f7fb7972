/* Payload chains *inside* SK, under keys that both sides know: what a peer with
 * a valid pre-shared key, or a peer before authentication, could send. Octet 0:
 * exchange and phase; octet 1: type of the first payload; the rest: the chain. */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/ike/peer.c" /* NOLINT(bugprone-suspicious-include) */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const uint8_t exchanges[] = {IKE_AUTH, CREATE_CHILD_SA, INFORMATIONAL, 99};
    static struct dh_key *dh;
    struct bench b;
    struct peer p;
    struct chain c;
    uint8_t inner[4096];

    if (n < 2 || n > sizeof inner)
        return 0;
    log_set_level(LOG_LEVEL_ERROR + 1);
    bench_open(&b);
    peer_open(&p, &b);
    if (!dh)
        dh = dh_generate(DH_MODP_1536);
    p.ike.dh = DH_MODP_1536;
    p.dh = dh;
    if (peer_init(&p)) {
        if (data[0] & 4)
            (void)peer_auth(&p);
        chain_begin(&c, inner, sizeof inner);
        write_bytes(&c.w, data + 2, n - 2);
        c.any = true;
        c.first = data[1];
        (void)peer_request(&p, exchanges[data[0] & 3], &c);
    }
    p.dh = NULL;
    peer_close(&p);
    bench_close(&b);
    return 0;
}
