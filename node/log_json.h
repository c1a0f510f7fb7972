/* A log sink that writes one JSON object per line to stderr:
 * {"time", "level", "area", "message"}. Any thread. */
#ifndef NODE_LOG_JSON_H
#define NODE_LOG_JSON_H

#include "proto/log.h"

void log_json_sink(enum log_level level, const char *area, const char *text);

#endif
