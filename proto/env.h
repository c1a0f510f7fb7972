/* What the sans-I/O cores may know of the outside: the time and random bytes.
 * Both are handed in, so that a test can replay a history. */
#ifndef PROTO_ENV_H
#define PROTO_ENV_H

#include <stddef.h>
#include <stdint.h>

/* One reading of both clocks. Time-outs use `mono_us`; only not_after and what
 * people read use `wall_ms`. */
struct now {
    uint64_t mono_us; /* CLOCK_MONOTONIC, microseconds */
    int64_t wall_ms;  /* CLOCK_REALTIME, milliseconds since 1970 UTC */
};

struct now now_read(void);

struct rng {
    void (*fill)(void *ctx, uint8_t *out, size_t n);
    void *ctx;
};

/* The operating system's generator through the crypto library; aborts the
 * process if it fails: there is no safe way to go on. Any thread. */
extern const struct rng rng_system;

static inline void rng_fill(const struct rng *rng, void *out, size_t n)
{
    rng->fill(rng->ctx, out, n);
}
uint32_t rng_u32(const struct rng *rng);
uint64_t rng_u64(const struct rng *rng);

#endif
