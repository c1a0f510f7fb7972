/* record_ike TRACE KEY=VALUE...: the engine on UDP ports 500 and 4500 of 192.0.2.1, until SIGTERM.
 * Everything that happens to it goes to the file TRACE (stage.h says how), which test_replay.c
 * repeats. Run by record-all; with keys that are in the trace for all to read. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stage.h"

enum { TICK_US = 1000000 };
static const int64_t WALL_START_MS = 1700000000000;

static volatile sig_atomic_t done;
static struct now began;

static void on_signal(int signal)
{
    (void)signal;
    done = 1;
}

/* Recorded time begins at 1 s and at a fixed date. */
static struct now stage_now(void)
{
    uint64_t elapsed = now_read().mono_us - began.mono_us;

    return (struct now){1000000 + elapsed, WALL_START_MS + (int64_t)(elapsed / 1000)};
}

struct sockets {
    struct pollfd fds[2]; /* of ports 500 and 4500 */
};

static int open_port(uint16_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    (void)inet_pton(AF_INET, "192.0.2.1", &at.sin_addr);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0) {
        fprintf(stderr, "cannot bind 192.0.2.1:%u: %s\n", (unsigned)port, strerror(errno));
        exit(1);
    }
    return fd;
}

static void send_out(void *ctx, const struct endpoint *local, const struct endpoint *peer,
                     struct slice bytes)
{
    struct sockets *s = ctx;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(peer->port)};
    size_t marker = local->port == IKE_NATT_PORT ? NON_ESP_MARKER_BYTES : 0;
    uint8_t out[NON_ESP_MARKER_BYTES + IKE_MESSAGE_MAX] = {0};

    memcpy(&to.sin_addr, peer->ip.b, 4);
    memcpy(out + marker, bytes.p, bytes.n);
    if (sendto(s->fds[marker ? 1 : 0].fd, out, marker + bytes.n, 0, (struct sockaddr *)&to,
               sizeof to) < 0)
        perror("sendto");
}

/* The lines of the last event's actions, then the jobs and commits that they began. */
static void write_wants(FILE *out, const struct stage *s)
{
    for (size_t i = 0; i < s->n_wants; i++)
        fprintf(out, "  %s\n", s->wants[i]);
}

static void settle(FILE *out, struct stage *s)
{
    uint8_t key[DH_PRIVATE_MAX];
    char hex[2 * DH_PRIVATE_MAX + 1];
    size_t n;

    write_wants(out, s);
    while (s->n_jobs || s->n_commits) {
        struct now now = stage_now();

        if (s->n_jobs) {
            stage_job(s, now, (struct slice){0}, key, &n);
            fprintf(out, "job %" PRIu64 " %" PRId64 " %s\n", now.mono_us, now.wall_ms,
                    n ? hex_format((struct slice){key, n}, hex) : "-");
        } else {
            stage_commit(s, now);
            fprintf(out, "commit %" PRIu64 " %" PRId64 "\n", now.mono_us, now.wall_ms);
        }
        write_wants(out, s);
    }
    fflush(out);
}

static void take_datagram(FILE *out, struct stage *s, int fd, uint16_t port)
{
    uint8_t bytes[NON_ESP_MARKER_BYTES + IKE_MESSAGE_MAX];
    static const uint8_t marker[NON_ESP_MARKER_BYTES];
    static char hex[STAGE_LINE];
    struct sockaddr_in from;
    socklen_t from_n = sizeof from;
    ssize_t n = recvfrom(fd, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &from_n);
    char local_text[ENDPOINT_TEXT], peer_text[ENDPOINT_TEXT];
    struct endpoint local = {.port = port}, peer = {.port = ntohs(from.sin_port)};
    size_t skip = port == IKE_NATT_PORT ? NON_ESP_MARKER_BYTES : 0;
    struct now now = stage_now();
    struct slice message;

    if (n <= (ssize_t)skip || memcmp(bytes, marker, skip) != 0)
        return; /* a keepalive, or ESP */
    (void)ip_parse("192.0.2.1", &local.ip);
    peer.ip = ip_from_bytes(4, &from.sin_addr);
    message = (struct slice){bytes + skip, (size_t)n - skip};
    stage_in(s, now, &local, &peer, message);
    fprintf(out, "in %" PRIu64 " %" PRId64 " %s %s %s\n", now.mono_us, now.wall_ms,
            endpoint_format(&local, local_text), endpoint_format(&peer, peer_text),
            hex_format(message, hex));
    settle(out, s);
}

static void tick(FILE *out, struct stage *s)
{
    struct now now = stage_now();

    stage_tick(s, now);
    fprintf(out, "tick %" PRIu64 " %" PRId64 "\n", now.mono_us, now.wall_ms);
    settle(out, s);
}

int main(int argc, char **argv)
{
    struct sockets sockets = {{{.events = POLLIN}, {.events = POLLIN}}};
    static const uint16_t ports[2] = {IKE_PORT, IKE_NATT_PORT};
    static struct stage stage;
    uint64_t next_tick_us;
    FILE *out;

    if (argc < 2 || !(out = fopen(argv[1], "w"))) {
        fprintf(stderr, "usage: record_ike TRACE KEY=VALUE...\n");
        return 2;
    }
    fprintf(out, "# Recorded by tests/vectors/ike/record-all; stage.h explains the lines.\n"
                 "# Re-record all of them when the engine's own messages change.\n");
    stage_begin(&stage);
    for (int i = 2; i < argc; i++) {
        char *value = strchr(argv[i], '=');

        if (value)
            *value++ = 0;
        if (!value || !stage_set(&stage, argv[i], value)) {
            fprintf(stderr, "what is %s?\n", argv[i]);
            return 2;
        }
        fprintf(out, "set %s %s\n", argv[i], value);
    }
    for (size_t i = 0; i < 2; i++)
        sockets.fds[i].fd = open_port(ports[i]);
    stage.send = send_out;
    stage.send_ctx = &sockets;
    if (!stage_open(&stage))
        return 1;
    signal(SIGTERM, on_signal);
    began = now_read();
    next_tick_us = 0;
    while (!done) {
        uint64_t now_us = stage_now().mono_us;

        if (now_us >= next_tick_us) {
            tick(out, &stage);
            next_tick_us = now_us + TICK_US;
            continue;
        }
        if (poll(sockets.fds, 2, (int)((next_tick_us - now_us) / 1000) + 1) <= 0)
            continue;
        for (size_t i = 0; i < 2; i++)
            if (sockets.fds[i].revents & POLLIN)
                take_datagram(out, &stage, sockets.fds[i].fd, ports[i]);
    }
    stage_close(&stage);
    return fclose(out) == 0 ? 0 : 1;
}
