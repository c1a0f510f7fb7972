#include "node/metrics.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_BYTES = 768, FIRST_BYTES = 16384 };

__attribute__((format(printf, 2, 3))) static void line(struct metrics *m, const char *format, ...)
{
    va_list args;
    int n;

    if (m->failed)
        return;
    if (m->cap - m->n < LINE_MAX_BYTES) {
        size_t cap = m->cap ? 2 * m->cap : FIRST_BYTES;
        char *grown = realloc(m->text, cap);
        if (!grown) {
            free(m->text);
            *m = (struct metrics){.failed = 1};
            return;
        }
        m->text = grown;
        m->cap = cap;
    }
    va_start(args, format);
    n = vsnprintf(m->text + m->n, LINE_MAX_BYTES, format, args);
    va_end(args);
    if (n > 0 && n < LINE_MAX_BYTES) /* a longer line is left out whole */
        m->n += (size_t)n;
}

void metrics_family(struct metrics *m, const char *name, const char *type, const char *help)
{
    line(m, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_value(struct metrics *m, const char *name, const char *labels, uint64_t value)
{
    if (labels[0])
        line(m, "%s{%s} %" PRIu64 "\n", name, labels, value);
    else
        line(m, "%s %" PRIu64 "\n", name, value);
}

static void seconds(struct metrics *m, const char *format_name, const char *suffix, uint64_t us)
{
    line(m, "%s%s %" PRIu64 ".%06" PRIu64 "\n", format_name, suffix, us / 1000000, us % 1000000);
}

void metrics_histogram(struct metrics *m, const char *name, const char *help,
                       const struct histogram *h)
{
    uint64_t so_far = 0;

    metrics_family(m, name, "histogram", help);
    for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
        so_far += h->buckets[i];
        line(m, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, (double)histogram_bounds_us[i] / 1e6,
             so_far);
    }
    line(m, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, h->count);
    seconds(m, name, "_sum", h->sum_us);
    line(m, "%s_count %" PRIu64 "\n", name, h->count);
}

char *metrics_label(const char *name, const char *value, char out[METRICS_LABEL_TEXT])
{
    size_t n = (size_t)snprintf(out, METRICS_LABEL_TEXT - 4, "%s=\"", name);

    for (; *value && n < METRICS_LABEL_TEXT - 4; value++) {
        if (*value == '"' || *value == '\\')
            out[n++] = '\\';
        out[n++] = *value;
    }
    out[n++] = '"';
    out[n] = 0;
    return out;
}
