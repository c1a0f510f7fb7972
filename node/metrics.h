/* Prometheus text, written into memory. Loop thread. */
#ifndef NODE_METRICS_H
#define NODE_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "node/histogram.h"

struct metrics {
    char *text; /* malloc'ed; NULL after a failure */
    size_t n, cap;
    int failed; /* out of memory: later calls do nothing */
};

/* "# HELP" and "# TYPE" of a family; type is "counter", "gauge" or "histogram". */
void metrics_family(struct metrics *m, const char *name, const char *type, const char *help);
/* One series. labels is "" or like `reason="no_sa"`; label values come from metrics_label. */
void metrics_value(struct metrics *m, const char *name, const char *labels, uint64_t value);
/* Buckets, sum and count, in seconds. */
void metrics_histogram(struct metrics *m, const char *name, const char *help,
                       const struct histogram *h);

enum { METRICS_LABEL_TEXT = 256 };
/* `name="value"` with the value escaped; cut where it does not fit. Returns out. */
char *metrics_label(const char *name, const char *value, char out[METRICS_LABEL_TEXT]);

#endif
