/* A member that sleeps while another publishes without end: what waits for it is bounded, in the
 * publisher's memory, and when it wakes it hears what is said then. */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "proto/env.h"
#include "proto/err.h"
#include "proto/secret.h"
#include "sync/transport.h"
#include "tests/conformance/sync/check.h"

enum {
    FRAME_BYTES = 96 * 1024, /* an Update's most */
    FRAMES = 5000,
    GROWTH_MAX_KB = 200 * 1024, /* 1024 frames, and what malloc and sockets add */
    WAIT_MS = 20000,
};
static const char last_words[] = "last";

static int wake_fd;
static bool heard, heard_last;

static void on_wake(void *ctx)
{
    uint64_t one = 1;

    (void)ctx;
    CHECK(write(wake_fd, &one, sizeof one) == sizeof one);
}

static void on_delivery(void *ctx, enum transport_kind kind, uint64_t id, struct slice bytes)
{
    (void)ctx, (void)kind, (void)id;
    heard = true;
    heard_last |= bytes.n == sizeof last_words && memcmp(bytes.p, last_words, bytes.n) == 0;
}

static void turn(struct transport *t, int ms)
{
    struct pollfd p = {.fd = wake_fd, .events = POLLIN};
    uint64_t count;

    if (poll(&p, 1, ms) == 1)
        CHECK(read(wake_fd, &count, sizeof count) == sizeof count);
    t->ops->poll(t, on_delivery, NULL);
}

static struct transport *open_member(const struct transport_peer *self,
                                     const struct transport_peer *other)
{
    struct transport *t;

    wake_fd = eventfd(0, EFD_NONBLOCK);
    CHECK(transport_nng_open(self, other, 1, on_wake, NULL, &t) == ERR_OK);
    return t;
}

static bool is_free(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool bound;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bound = bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
    close(fd);
    return bound;
}

/* The first of two ports in a row that are free now. */
static uint16_t free_port(uint16_t from)
{
    while (!is_free(from) || !is_free((uint16_t)(from + 1)))
        from = (uint16_t)(from + 2);
    return from;
}

static size_t resident_kb(void)
{
    size_t pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    CHECK(f && fscanf(f, "%*u %zu", &pages) == 1);
    fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE) / 1024;
}

/* Hears one frame, sleeps, and after it was woken hears the last. */
static void sleeper(const struct transport_peer *self, const struct transport_peer *other)
{
    uint64_t until = now_read().mono_us + 2ULL * WAIT_MS * 1000;
    struct transport *t;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody would wake us */
    t = open_member(self, other);
    while (!heard)
        turn(t, 50);
    raise(SIGSTOP);
    while (!heard_last && now_read().mono_us < until)
        turn(t, 50);
    _exit(heard_last ? 0 : 1);
}

int main(void)
{
    struct transport_peer awake = {
        .slot = 1, .host = "127.0.0.1", .port = free_port(20000 + getpid() % 20000)};
    struct transport_peer asleep = {
        .slot = 2, .host = "127.0.0.1", .port = free_port(awake.port + 2)};
    uint8_t *frame = calloc(1, FRAME_BYTES);
    size_t before_kb, after_kb;
    uint64_t until;
    pid_t child = fork(); /* before anything of nng runs */
    struct transport *t;
    int status;

    CHECK(child >= 0 && frame);
    if (child == 0)
        sleeper(&asleep, &awake);
    t = open_member(&awake, &asleep);
    while (waitpid(child, &status, WNOHANG | WUNTRACED) == 0) {
        CHECK(t->ops->publish(t, SLOT_ALL, (struct slice){frame, 8}) == ERR_OK);
        turn(t, 10);
    }
    CHECK(WIFSTOPPED(status));
    before_kb = resident_kb();
    memset(frame, 'x', FRAME_BYTES);
    for (int i = 0; i < FRAMES; i++)
        CHECK(t->ops->publish(t, SLOT_ALL, (struct slice){frame, FRAME_BYTES}) == ERR_OK);
    after_kb = resident_kb();
    printf("%d frames of %d octets to a member that sleeps: %zu kB, then %zu kB\n", FRAMES,
           FRAME_BYTES, before_kb, after_kb);
#if SECRET_POOLED /* the sanitizer keeps what is freed for a while */
    CHECK(after_kb < before_kb + GROWTH_MAX_KB);
#endif
    CHECK(kill(child, SIGCONT) == 0);
    until = now_read().mono_us + (uint64_t)WAIT_MS * 1000;
    while (waitpid(child, &status, WNOHANG) == 0) {
        CHECK(now_read().mono_us < until);
        CHECK(t->ops->publish(t, SLOT_ALL,
                              (struct slice){(const uint8_t *)last_words, sizeof last_words}) ==
              ERR_OK);
        turn(t, 20);
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    printf("passed\n");
    fflush(stdout);
    free(frame);
    _exit(0); /* nng's threads are left to the end of the process */
}
