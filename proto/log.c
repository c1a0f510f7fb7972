#include "proto/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

enum { LOG_TEXT_MAX = 1024 };

static _Atomic(log_sink_fn *) current_sink;
static _Atomic int lowest_level = LOG_LEVEL_INFO;

void log_set_level(enum log_level lowest)
{
    atomic_store(&lowest_level, (int)lowest);
}

void log_set_sink(log_sink_fn *sink)
{
    atomic_store(&current_sink, sink);
}

const char *log_level_name(enum log_level level)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    return names[level];
}

/* Text from peers may hold anything; a log line stays one printable line. */
static void make_printable(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || (unsigned char)*text == 0x7f)
            *text = '?';
}

static void write_text(enum log_level level, const char *area, const char *text)
{
    struct timespec ts;
    struct tm tm;
    char stamp[32];

    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
    fprintf(stderr, "%s.%03ldZ %-5s %s: %s\n", stamp, ts.tv_nsec / 1000000, log_level_name(level),
            area, text);
}

void log_msg(enum log_level level, const char *area, const char *format, ...)
{
    char text[LOG_TEXT_MAX];
    va_list args;
    log_sink_fn *sink;

    if ((int)level < atomic_load(&lowest_level))
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    make_printable(text);
    sink = atomic_load(&current_sink);
    (sink ? sink : write_text)(level, area, text);
}
