#ifndef TESTS_BENCH_MEMBER_H
#define TESTS_BENCH_MEMBER_H

#include "proto/record.h"
#include "tests/bench/cluster.h"

/* One member until it is told to quit; its exit code. Orders come from `orders`. */
int member_run(const struct bench_cluster *c, uint16_t slot, int orders);
struct id128 bench_tunnel(uint32_t n);

/* Raw nng beside the mesh (raw.c): what one hop costs on this machine at this time. */
struct raw;
struct raw *raw_open(const struct bench_cluster *c, uint16_t slot);
void raw_publish(struct raw *raw, uint32_t number, size_t n_bytes);

#endif
