/* Handshakes one at a time, out of step with all timers, each a line on stdout:
 *
 *     0xSPI SENT TOOK      the gateway's ESP SPI; when IKE_AUTH left, in microseconds of the wall
 *                          clock; microseconds until its answer
 *     dh TOOK              the same machine's time for the shared secret that lies in between
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "proto/crypto.h"
#include "proto/err.h"
#include "proto/log.h"
#include "tests/bench/gateway.h"

enum { PAUSE_US = 8000 };

/* As the node's thread pool does it; the best of some. */
static double dh_us(void)
{
    enum { TIMES = 15 };
    struct dh_key *a = dh_generate(DH_MODP_2048), *b = dh_generate(DH_MODP_2048);
    uint8_t public[DH_PUBLIC_MAX], shared[DH_PUBLIC_MAX];
    double best = 1e9;

    if (!a || !b || dh_public(b, public) != ERR_OK)
        exit(1);
    for (int i = 0; i < TIMES; i++) {
        uint64_t began = wire_now_ns();
        if (dh_derive(a, (struct slice){public, dh_public_len(DH_MODP_2048)}, shared) != ERR_OK)
            exit(1);
        if ((double)(wire_now_ns() - began) / 1000 < best)
            best = (double)(wire_now_ns() - began) / 1000;
    }
    dh_free(a);
    dh_free(b);
    return best;
}

int main(int argc, char **argv)
{
    struct arguments a = {.tunnels = 1, .count = 500};
    struct wire *w;

    arguments_read(&a, argc, argv);
    log_set_level(LOG_LEVEL_ERROR);
    w = wire_open(&a.gateways[0].at);
    if (!w)
        return 1;
    for (unsigned i = 0; i < a.count; i++) {
        struct wire_login login = a.login;

        tunnel_login(&login, 1 + i % a.tunnels, a.domain);
        if (!wire_init(w, &login) || !wire_auth(w, &login)) {
            fprintf(stderr, "handshake %u failed\n", i);
            return 1;
        }
        printf("0x%08" PRIx32 " %" PRIu64 " %" PRIu64 "\n", w->peer.child.spi_out, w->sent_us,
               w->took_ns / 1000);
        wire_forget(w);
        usleep(PAUSE_US / 2 + rng_u32(&rng_system) % PAUSE_US);
    }
    printf("dh %.0f\n", dh_us());
    wire_close(w);
    return 0;
}
