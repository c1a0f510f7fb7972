#include "proto/env.h"

#include <stdlib.h>
#include <time.h>

#include "proto/crypto.h"
#include "proto/err.h"

struct now now_read(void)
{
    struct timespec mono, wall;

    clock_gettime(CLOCK_MONOTONIC, &mono);
    clock_gettime(CLOCK_REALTIME, &wall);
    return (struct now){
        .mono_us = (uint64_t)mono.tv_sec * 1000000 + (uint64_t)mono.tv_nsec / 1000,
        .wall_ms = (int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000,
    };
}

static void fill_from_system(void *ctx, uint8_t *out, size_t n)
{
    (void)ctx;
    if (crypto_random(out, n) != ERR_OK)
        abort();
}

const struct rng rng_system = {fill_from_system, NULL};

uint32_t rng_u32(const struct rng *rng)
{
    uint32_t v;
    rng_fill(rng, &v, sizeof v);
    return v;
}

uint64_t rng_u64(const struct rng *rng)
{
    uint64_t v;
    rng_fill(rng, &v, sizeof v);
    return v;
}
