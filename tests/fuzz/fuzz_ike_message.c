/* Unprotected bytes into the whole engine: a fresh one, one with a half-open SA
 * and one with an established SA take the input as a datagram. The first octet
 * chooses which; SPIs of the SAs are patched in so that look-ups succeed. */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/ike/peer.c" /* NOLINT(bugprone-suspicious-include) */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct bench b;
    static struct peer p;
    static unsigned uses;
    uint8_t bytes[4096];

    if (n < 1 || n > sizeof bytes)
        return 0;
    log_set_level(LOG_LEVEL_ERROR + 1);
    if (uses++ % 4096 == 0) { /* bounded state, reproducible enough */
        if (uses > 1) {
            peer_close(&p);
            bench_close(&b);
        }
        bench_open(&b);
        peer_open(&p, &b);
        (void)peer_init(&p);
        (void)peer_auth(&p);
    }
    b.engine->config.cookie_threshold = data[0] & 8 ? 0 : UINT32_MAX;
    n--;
    memcpy(bytes, data + 1, n);
    if (data[0] & 1 && n >= 16) {
        struct writer w = writer_of(bytes, 16);

        write_u64(&w, p.rec->ike.spi_i);
        write_u64(&w, p.rec->ike.spi_r);
    }
    if (data[0] & 2 && n >= IKE_HEADER_BYTES) { /* a length that fits */
        struct writer w = {.p = bytes, .n = n, .cap = n};

        write_u32_at(&w, IKE_HEADER_BYTES - 4, (uint32_t)n);
    }
    bench_datagram(&b, &p.local, &p.remote, (struct slice){bytes, n});
    if (data[0] & 4)
        bench_tick(&b, 31000000);
    return 0;
}
