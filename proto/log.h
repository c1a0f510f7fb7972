/* Logging. One line per message: a level, an area ("ike", "sync", ...), text.
 *
 * Text goes to stderr unless a sink is set; node/ sets one that writes JSON.
 * Any thread may log; packet threads do not (they count instead).
 * Never pass key material: struct secret has no printer on purpose. */
#ifndef PROTO_LOG_H
#define PROTO_LOG_H

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

/* A sink gets the finished text (no newline); it must be thread-safe. */
typedef void log_sink_fn(enum log_level level, const char *area, const char *text);

void log_set_level(enum log_level lowest);
void log_set_sink(log_sink_fn *sink); /* NULL: text on stderr */
const char *log_level_name(enum log_level level);

__attribute__((format(printf, 3, 4))) void log_msg(enum log_level level, const char *area,
                                                   const char *format, ...);

#define log_debug(area, ...) log_msg(LOG_LEVEL_DEBUG, area, __VA_ARGS__)
#define log_info(area, ...) log_msg(LOG_LEVEL_INFO, area, __VA_ARGS__)
#define log_warn(area, ...) log_msg(LOG_LEVEL_WARN, area, __VA_ARGS__)
#define log_error(area, ...) log_msg(LOG_LEVEL_ERROR, area, __VA_ARGS__)

#endif
