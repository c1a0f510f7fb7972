/* A lane that sleeps with a packet in its hands is woken when the SA comes, however closely the
 * packet and the SA follow each other: else the packet would drop 50 ms later. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/err.h"
#include "tests/unit/dataplane/rig.h"

enum { ROUNDS = 400, MAKER = 5, FIRST_SPI = MAKER << 22 | 0x100, LOST_MAX = ROUNDS / 50 };

#define CHECK(what)                                                                                \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);                     \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* ---------------------------------------------------------------- one packet at a time */

static struct {
    int wake, arrived; /* eventfds */
    uint8_t bytes[256];
    size_t n;
    _Atomic unsigned delivered;
} net;

static int one_open(const struct source_config *config, struct source **out)
{
    static int nothing;

    (void)config;
    *out = (struct source *)(void *)&nothing;
    return ERR_OK;
}

static void one_close(struct source *s)
{
    (void)s;
}

static size_t one_recv(struct source *s, struct packet **packets, size_t n, int timeout_ms)
{
    struct pollfd fds[] = {{.fd = net.wake, .events = POLLIN},
                           {.fd = net.arrived, .events = POLLIN}};
    uint64_t count;

    (void)s, (void)n;
    (void)poll(fds, 2, timeout_ms);
    if (fds[0].revents)
        CHECK(read(net.wake, &count, sizeof count) == sizeof count);
    if (!fds[1].revents)
        return 0;
    CHECK(read(net.arrived, &count, sizeof count) == sizeof count);
    memcpy(packets[0]->data, net.bytes, net.n);
    packets[0]->n = (uint32_t)net.n;
    packets[0]->via = VIA_UDP;
    packets[0]->local = end(ANYCAST, 4500);
    packets[0]->peer = end(CUSTOMER, 4500);
    return 1;
}

static void one_send(struct source *s, struct packet **packets, size_t n)
{
    (void)s;
    for (size_t i = 0; i < n; i++)
        packets[i]->sent = true;
    atomic_fetch_add(&net.delivered, (unsigned)n);
}

static void add_one(int fd)
{
    uint64_t one = 1;

    CHECK(write(fd, &one, sizeof one) == sizeof one);
}

static void one_wake(struct source *s)
{
    (void)s;
    add_one(net.wake);
}

static int one_send_ike(struct source *s, const struct endpoint *local, const struct endpoint *peer,
                        const uint8_t *bytes, size_t n)
{
    (void)s, (void)local, (void)peer, (void)bytes, (void)n;
    return ERR_IO;
}

static unsigned one_ifindex(const struct source *s)
{
    (void)s;
    return 0;
}

static const struct source_ops source_one = {
    "one", one_open, one_close, one_recv, one_send, one_wake, one_send_ike, one_ifindex,
};

/* ---------------------------------------------------------------- the loop thread */

static uint64_t counted(struct dp *dp, bool held)
{
    struct dp_counters c;

    dp_get_counters(dp, &c);
    return held ? c.held : c.packets_in + c.drops[DROP_NO_SA];
}

static void wait_for(struct dp *dp, bool held, uint64_t wanted)
{
    for (int i = 0; i < 100000 && counted(dp, held) < wanted; i++)
        usleep(20);
    CHECK(counted(dp, held) >= wanted);
}

/* In every second round the SA comes at any moment around the packet's look at the table. */
static void play(struct dp *dp, unsigned round)
{
    struct child_record r = rig_record(&suite_rows[0], FIRST_SPI + 2 * round, 1);
    uint8_t inner[128];
    size_t n = make_udp(BEHIND_ACME, BEHIND_US, 1, 2, 60, inner);
    uint64_t held = counted(dp, true), done = counted(dp, false);
    uint64_t moment;

    net.n = peer_seal(&r, &suite_rows[0], inner, n, NULL, net.bytes);
    add_one(net.arrived);
    if (round % 2)
        wait_for(dp, true, held + 1);
    else
        for (moment = now_read().mono_us + round * 7 % 40; now_read().mono_us < moment;)
            ;
    CHECK(dp_sa_apply(dp, &r) == ERR_OK);
    wait_for(dp, false, done + 1);
    dp_sa_remove(dp, r.spi_in);
}

int main(void)
{
    struct dp_config config = {.slot = MAKER + 1, .lanes = 1};
    struct dp_tunnel tunnel = {.id = rig_id(1), .type = DP_TUNNEL_IPSEC};
    struct dp_callbacks callbacks = {0};
    struct dp_counters c;
    struct dp *dp;

    net.wake = eventfd(0, EFD_NONBLOCK);
    net.arrived = eventfd(0, EFD_NONBLOCK);
    CHECK(dp_open_with(&config, &callbacks, &source_one, NULL, true, &dp) == ERR_OK);
    CHECK(dp_set_tunnels(dp, &tunnel, 1, NULL, 0) == ERR_OK);
    dp_set_live(dp, MAKER, true);
    for (unsigned i = 0; i < ROUNDS; i++)
        play(dp, i);
    dp_get_counters(dp, &c);
    dp_close(dp);
    printf("%llu held, %llu delivered, %llu dropped\n", (unsigned long long)c.held,
           (unsigned long long)c.packets_in, (unsigned long long)c.drops[DROP_NO_SA]);
    CHECK(atomic_load(&net.delivered) == c.packets_in);
    CHECK(c.held >= ROUNDS / 2 && c.held <= ROUNDS);
    CHECK(c.drops[DROP_NO_SA] <= LOST_MAX); /* a machine so busy that the lane slept for 50 ms */
    return 0;
}
