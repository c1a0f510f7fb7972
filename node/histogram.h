/* A histogram of durations with fixed bounds, as Prometheus wants it. Loop thread. */
#ifndef NODE_HISTOGRAM_H
#define NODE_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

enum { HISTOGRAM_BOUNDS = 14 };
extern const uint64_t histogram_bounds_us[HISTOGRAM_BOUNDS]; /* upper bounds, inclusive */

struct histogram {                          /* all zero: empty */
    uint64_t buckets[HISTOGRAM_BOUNDS + 1]; /* each observation once; the last has no bound */
    uint64_t count, sum_us;
};

void histogram_observe(struct histogram *h, uint64_t us);

#endif
