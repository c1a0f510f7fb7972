#include "node/log_json.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/api_text.h"
#include "proto/env.h"

void log_json_sink(enum log_level level, const char *area, const char *text)
{
    char stamp[TIME_TEXT];
    json_t *line;
    char *dump;

    time_format_ms(now_read().wall_ms, stamp);
    /* A text that is not UTF-8 (an ID that a peer sent) loses its other characters. */
    line = json_pack("{s:s, s:s, s:s, s:o}", "time", stamp, "level", log_level_name(level), "area",
                     area, "message", json_text(text));
    dump = line ? json_dumps(line, JSON_COMPACT) : NULL;
    json_decref(line);
    if (dump)
        fprintf(stderr, "%s\n", dump);
    free(dump);
}
