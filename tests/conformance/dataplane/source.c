/* What every packet source must do, told once and played over each of them.
 *
 *     customer 198.51.100.1 ===== 192.0.2.1 dataplane --- 10.1.0.5 inner host
 *              203.0.113.9 behind it (tunnel 1), 203.0.115.9 (GRE, tunnel 3)
 *
 * `memory` plays it in this process. `socket` plays it in a network namespace of
 * its own, with all addresses on lo and plain sockets as customer and inner host;
 * without the right to make one it is skipped. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/err.h"
#include "tests/unit/dataplane/rig.h"

enum { SPI = 0x01400100, SKIP = 77, WAIT_MS = 3000 };

#define CHECK(what)                                                                                \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "%s:%d: over %s: not so: %s\n", __FILE__, __LINE__, world->name,       \
                    #what);                                                                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

struct wire { /* one datagram at the customer's side */
    uint8_t protocol;
    uint16_t dp_port, customer_port; /* UDP only */
    uint8_t tos, ttl;                /* as received; 0 where the way does not show it */
    uint8_t bytes[PACKET_MAX];
    size_t n;
};

struct world {
    const char *name;
    struct rig rig; /* of a socket world only dp and what the callbacks heard */
    void (*wire_send)(struct world *world, const struct wire *w);
    bool (*wire_recv)(struct world *world,
                      struct wire *w); /* w->protocol and ports say from where */
    void (*inner_send)(struct world *world, const uint8_t *packet, size_t n);
    size_t (*inner_recv)(struct world *world, uint8_t *packet); /* 0: nothing came */
    void (*wait_loop)(struct world *world);         /* until the loop was woken, then polls */
    int esp, gre, udp4500, udp500, inner, listener; /* sockets */
};

static struct wire wire;
static uint8_t packet[PACKET_MAX], back[PACKET_MAX], got[PACKET_MAX];

/* ---------------------------------------------------------------- the story */

static void native_in(struct world *world, const struct child_record *sa, size_t size)
{
    size_t n = make_udp(BEHIND_ACME, BEHIND_US, 1000, 53, size, packet);

    wire = (struct wire){.protocol = IP_PROTO_ESP};
    wire.n = peer_seal(sa, &suite_rows[0], packet, n, NULL, wire.bytes);
    world->wire_send(world, &wire);
    CHECK(world->inner_recv(world, got) == n);
    CHECK(memcmp(got + 20, packet + 20, n - 20) == 0);
}

static void encapsulated_in(struct world *world, const struct child_record *sa)
{
    size_t n = make_udp(BEHIND_ACME, BEHIND_US, 1000, 53, 99, packet);

    wire = (struct wire){.protocol = IP_PROTO_UDP, .dp_port = 4500, .customer_port = 4500};
    wire.n = peer_seal(sa, &suite_rows[0], packet, n, NULL, wire.bytes);
    world->wire_send(world, &wire);
    CHECK(world->inner_recv(world, got) == n);
    CHECK(memcmp(got + 20, packet + 20, n - 20) == 0);
}

static void set_ip_checksum(uint8_t *ip)
{
    uint16_t sum;

    memset(ip + 10, 0, 2);
    sum = inet_fold(inet_sum(ip, 20, 0));
    ip[10] = (uint8_t)(sum >> 8);
    ip[11] = (uint8_t)sum;
}

static void sealed_out(struct world *world, const struct child_record *sa)
{
    size_t n = make_udp(BEHIND_US, BEHIND_ACME, 53, 1000, 200, packet);

    packet[1] = 0x28; /* a DSCP */
    set_ip_checksum(packet);
    wire = (struct wire){.protocol = sa->udp_encap ? IP_PROTO_UDP : IP_PROTO_ESP};
    if (sa->udp_encap)
        wire.dp_port = wire.customer_port = 4500;
    world->inner_send(world, packet, n);
    CHECK(world->wire_recv(world, &wire));
    CHECK(wire.tos == 0 || wire.tos == 0x28);
    CHECK(wire.ttl == 0 || wire.ttl == 64);
    CHECK(peer_open(sa, &suite_rows[0], wire.bytes, wire.n, back, NULL, NULL) == n);
    CHECK(memcmp(back, packet, n) == 0);
}

static void ike_both_ways(struct world *world)
{
    static const uint16_t ports[] = {500, 4500};
    uint8_t message[300];

    for (size_t i = 0; i < sizeof message; i++)
        message[i] = (uint8_t)(i + 1);
    for (int i = 0; i < 2; i++) {
        size_t marker = ports[i] == 4500 ? 4 : 0, before = world->rig.n_ike;

        wire =
            (struct wire){.protocol = IP_PROTO_UDP, .dp_port = ports[i], .customer_port = ports[i]};
        memcpy(wire.bytes + marker, message, sizeof message);
        wire.n = sizeof message + marker;
        world->wire_send(world, &wire);
        world->wait_loop(world);
        CHECK(world->rig.n_ike == before + 1);
        CHECK(world->rig.ike_n == sizeof message);
        CHECK(memcmp(world->rig.ike_bytes, message, sizeof world->rig.ike_bytes) == 0);
        CHECK(world->rig.ike_local.port == ports[i]);
        CHECK(world->rig.ike_peer.port == ports[i]);

        CHECK(dp_send_ike(world->rig.dp, &world->rig.ike_local, &world->rig.ike_peer, message,
                          sizeof message) == ERR_OK);
        CHECK(world->wire_recv(world, &wire));
        CHECK(wire.n == sizeof message + marker);
        CHECK(memcmp(wire.bytes, "\0\0\0\0", marker) == 0);
        CHECK(memcmp(wire.bytes + marker, message, sizeof message) == 0);
    }
}

static void gre_both_ways(struct world *world)
{
    static const uint8_t header[] = {0x20, 0, 8, 0, 0, 0, 0, 7}; /* key 7, IPv4 */
    size_t n = make_udp("203.0.115.9", BEHIND_US, 1000, 53, 60, packet);

    wire = (struct wire){.protocol = IP_PROTO_GRE, .n = n + sizeof header};
    memcpy(wire.bytes, header, sizeof header);
    memcpy(wire.bytes + sizeof header, packet, n);
    world->wire_send(world, &wire);
    CHECK(world->inner_recv(world, got) == n);
    CHECK(memcmp(got + 20, packet + 20, n - 20) == 0);

    n = make_udp(BEHIND_US, "203.0.115.9", 53, 1000, 60, packet);
    world->inner_send(world, packet, n);
    CHECK(world->wire_recv(world, &wire));
    CHECK(wire.n == n + sizeof header);
    CHECK(memcmp(wire.bytes, header, sizeof header) == 0);
    CHECK(memcmp(wire.bytes + sizeof header, packet, n) == 0);
}

static void a_burst(struct world *world, const struct child_record *sa)
{
    size_t n = 0;

    for (unsigned i = 0; i < 100; i++) {
        n = make_udp(BEHIND_ACME, BEHIND_US, (uint16_t)(2000 + i), 53, 400, packet);
        wire = (struct wire){.protocol = IP_PROTO_ESP};
        wire.n = peer_seal(sa, &suite_rows[0], packet, n, NULL, wire.bytes);
        world->wire_send(world, &wire);
    }
    for (unsigned i = 0; i < 100; i++) {
        CHECK(world->inner_recv(world, got) == n);
        CHECK((got[20] << 8 | got[21]) == (int)(2000 + i));
    }
}

enum { COUNTED_MS = 500 };

/* A packet is out before its lane counts it: the counters once they have come so far, or do not. */
static struct dp_counters counted(struct world *world, uint64_t in, uint64_t out)
{
    struct dp_counters c;

    dp_get_counters(world->rig.dp, &c);
    for (int i = 0; i < COUNTED_MS && (c.packets_in < in || c.packets_out < out); i++) {
        usleep(1000);
        dp_get_counters(world->rig.dp, &c);
    }
    return c;
}

/* A refused packet is counted and holds nothing up. */
static void unknown_local_address(struct world *world, struct child_record sa)
{
    size_t n = make_udp(BEHIND_US, BEHIND_ACME, 53, 1000, 20, packet);
    uint64_t before = drops(&world->rig, DROP_SINK_FULL);

    sa.local.ip = addr("192.0.2.99");
    CHECK(dp_sa_apply(world->rig.dp, &sa) == ERR_OK);
    world->inner_send(world, packet, n);
    for (int i = 0; i < 100 && drops(&world->rig, DROP_SINK_FULL) == before; i++)
        usleep(10000);
    CHECK(drops(&world->rig, DROP_SINK_FULL) == before + 1);
    sa.local.ip = addr(ANYCAST);
    CHECK(dp_sa_apply(world->rig.dp, &sa) == ERR_OK);
    sealed_out(world, &sa);
}

/* ---- several lanes: each has a share, nothing comes twice or not at all ---- */

enum { SPREAD_SAS = 12, SPREAD_FLOWS = 96 };

static unsigned lanes_that(struct world *world, bool sent, const uint64_t *before)
{
    const struct dp *dp = world->rig.dp;
    unsigned n = 0;

    for (int tries = 0; tries < COUNTED_MS && n < dp->n_lanes; tries++) {
        n = 0;
        for (unsigned i = 0; i < dp->n_lanes; i++) {
            const struct lane_counters *c = &dp->lanes[i]->counters;
            n += tally_get(sent ? &c->packets_out : &c->packets_in) > before[i];
        }
        if (n < dp->n_lanes)
            usleep(1000);
    }
    return n;
}

static void note_lanes(const struct world *world, bool sent, uint64_t *before)
{
    const struct dp *dp = world->rig.dp;

    for (unsigned i = 0; i < dp->n_lanes; i++) {
        const struct lane_counters *c = &dp->lanes[i]->counters;
        before[i] = tally_get(sent ? &c->packets_out : &c->packets_in);
    }
}

static void every_lane_receives(struct world *world)
{
    uint64_t before[DP_LANES_MAX];
    struct dp_counters all;
    uint64_t sum, dropped = all_drops(&world->rig);

    dp_get_counters(world->rig.dp, &all);
    sum = all.packets_in;
    note_lanes(world, false, before);
    for (uint32_t i = 0; i < SPREAD_SAS; i++) {
        struct child_record sa = rig_record(&suite_rows[0], SPI + 100 + i, 1);
        CHECK(dp_sa_apply(world->rig.dp, &sa) == ERR_OK);
        for (size_t k = 0; k < 4; k++)
            native_in(world, &sa, 100);
    }
    CHECK(lanes_that(world, false, before) == world->rig.dp->n_lanes);
    for (uint32_t i = 0; i < SPREAD_SAS; i++) {
        struct child_record sa = rig_record(&suite_rows[0], SPI + 100 + i, 1);
        encapsulated_in(world, &sa);
    }
    CHECK(counted(world, sum + SPREAD_SAS * 5, 0).packets_in == sum + SPREAD_SAS * 5);
    CHECK(all_drops(&world->rig) == dropped);
}

static void every_lane_sends(struct world *world)
{
    static uint64_t ivs[SPREAD_FLOWS * 2];
    uint64_t before[DP_LANES_MAX];
    struct child_record sa = rig_record(&suite_rows[0], SPI, 1);

    CHECK(dp_sa_apply(world->rig.dp, &sa) == ERR_OK);
    note_lanes(world, true, before);
    for (size_t i = 0; i < SPREAD_FLOWS * 2; i++) {
        size_t n =
            make_udp(BEHIND_US, BEHIND_ACME, (uint16_t)(5000 + i % SPREAD_FLOWS), 1000, 60, packet);
        world->inner_send(world, packet, n);
        wire = (struct wire){.protocol = IP_PROTO_ESP};
        CHECK(world->wire_recv(world, &wire));
        CHECK(peer_open(&sa, &suite_rows[0], wire.bytes, wire.n, back, NULL, NULL) == n);
        memcpy(&ivs[i], wire.bytes + 8, sizeof ivs[i]);
        for (size_t k = 0; k < i; k++)
            CHECK(ivs[k] != ivs[i]);
    }
    CHECK(lanes_that(world, true, before) == world->rig.dp->n_lanes);
}

static void story(struct world *world)
{
    struct child_record sa = rig_record(&suite_rows[0], SPI, 1);
    struct dp_counters c;

    CHECK(dp_sa_apply(world->rig.dp, &sa) == ERR_OK);
    native_in(world, &sa, 100);
    world->wait_loop(world);
    CHECK(world->rig.n_confirmed == 1 && world->rig.confirmed[0] == SPI);
    native_in(world, &sa, 0);
    native_in(world, &sa, 5000);
    encapsulated_in(world, &sa);
    sealed_out(world, &sa);
    sa.udp_encap = true;
    sa.local.port = sa.peer.port = 4500;
    CHECK(dp_sa_apply(world->rig.dp, &sa) == ERR_OK);
    sealed_out(world, &sa);
    ike_both_ways(world);
    gre_both_ways(world);
    a_burst(world, &sa);
    c = counted(world, 105, 3);
    CHECK(c.packets_in == 105);
    CHECK(c.packets_out == 3);
    CHECK(all_drops(&world->rig) == 0);
    if (world->inner > 0)
        unknown_local_address(world, sa);
    printf("%s: fine\n", world->name);
}

/* ---------------------------------------------------------------- memory */

static void memory_wire_send(struct world *world, const struct wire *w)
{
    if (w->protocol == IP_PROTO_UDP) {
        struct memory_packet p = {.via = VIA_UDP,
                                  .local = end(ANYCAST, w->dp_port),
                                  .peer = end(CUSTOMER, w->customer_port),
                                  .bytes = (uint8_t *)(uintptr_t)w->bytes,
                                  .n = (uint32_t)w->n};
        CHECK(memory_push(&world->rig.net.arriving, &p));
    } else {
        push_native(&world->rig, w->protocol, CUSTOMER, w->bytes, w->n);
    }
    rig_run(&world->rig);
}

static bool memory_wire_recv(struct world *world, struct wire *w)
{
    struct memory_packet p;

    if (!pop(&world->rig, &p)) {
        if (!memory_pop(&world->rig.net.ike, &p))
            return false;
        w->n = p.local.port == 4500 ? 4 : 0;
        memset(w->bytes, 0, w->n);
        memcpy(w->bytes + w->n, p.bytes, p.n);
        w->n += p.n;
        free(p.bytes);
        return true;
    }
    CHECK(p.via == (w->protocol == IP_PROTO_UDP ? VIA_UDP : VIA_IP));
    CHECK(p.via == VIA_UDP || p.protocol == w->protocol);
    CHECK(p.local.port == w->dp_port && p.peer.port == w->customer_port);
    w->n = p.n;
    w->tos = p.tos;
    memcpy(w->bytes, p.bytes, p.n);
    free(p.bytes);
    return true;
}

static void memory_inner_send(struct world *world, const uint8_t *bytes, size_t n)
{
    push_inner(&world->rig, bytes, n);
    rig_run(&world->rig);
}

static size_t memory_inner_recv(struct world *world, uint8_t *bytes)
{
    struct memory_packet p;

    if (!pop(&world->rig, &p))
        return 0;
    CHECK(p.via == VIA_INNER);
    memcpy(bytes, p.bytes, p.n);
    free(p.bytes);
    return p.n;
}

static void memory_wait_loop(struct world *world)
{
    dp_poll(world->rig.dp);
}

static void play_memory(void)
{
    static struct world world = {.name = "memory",
                                 .wire_send = memory_wire_send,
                                 .wire_recv = memory_wire_recv,
                                 .inner_send = memory_inner_send,
                                 .inner_recv = memory_inner_recv,
                                 .wait_loop = memory_wait_loop};

    rig_open(&world.rig, NULL);
    story(&world);
    rig_close(&world.rig);
}

/* ---------------------------------------------------------------- socket */

static struct sockaddr_in name_of(const char *ip, uint16_t port)
{
    struct ip_addr a = addr(ip);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};

    memcpy(&name.sin_addr, a.b, 4);
    return name;
}

static int open_socket(struct world *world, int type, int protocol, const char *ip, uint16_t port)
{
    struct sockaddr_in name = name_of(ip, port);
    int fd = socket(AF_INET, type, protocol), size = 4 << 20;

    CHECK(fd >= 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) == 0);
    CHECK(bind(fd, (struct sockaddr *)&name, sizeof name) == 0);
    return fd;
}

static int socket_for(const struct world *world, const struct wire *w)
{
    if (w->protocol == IP_PROTO_UDP)
        return w->customer_port == 4500 ? world->udp4500 : world->udp500;
    return w->protocol == IP_PROTO_ESP ? world->esp : world->gre;
}

static void socket_wire_send(struct world *world, const struct wire *w)
{
    struct sockaddr_in to = name_of(ANYCAST, w->dp_port);

    CHECK(sendto(socket_for(world, w), w->bytes, w->n, 0, (struct sockaddr *)&to, sizeof to) ==
          (ssize_t)w->n);
}

static bool wait_for(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, WAIT_MS) == 1;
}

static bool socket_wire_recv(struct world *world, struct wire *w)
{
    struct sockaddr_in from, expected = name_of(ANYCAST, w->dp_port);
    socklen_t length = sizeof from;
    int fd = socket_for(world, w);
    ssize_t n;

    if (!wait_for(fd))
        return false;
    n = recvfrom(fd, w->bytes, sizeof w->bytes, 0, (struct sockaddr *)&from, &length);
    CHECK(n >= 0);
    CHECK(memcmp(&from.sin_addr, &expected.sin_addr, 4) == 0);
    w->n = (size_t)n;
    if (w->protocol == IP_PROTO_UDP) {
        CHECK(from.sin_port == expected.sin_port);
        return true;
    }
    CHECK(n > 20);
    w->tos = w->bytes[1];
    w->ttl = w->bytes[8];
    CHECK((w->bytes[6] & 0x40) == 0); /* no DF */
    w->n -= 20;
    memmove(w->bytes, w->bytes + 20, w->n);
    return true;
}

static void socket_inner_send(struct world *world, const uint8_t *bytes, size_t n)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    int raw = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);

    CHECK(raw >= 0);
    memcpy(&to.sin_addr, bytes + 16, 4);
    CHECK(sendto(raw, bytes, n, 0, (struct sockaddr *)&to, sizeof to) == (ssize_t)n);
    close(raw);
}

static size_t socket_inner_recv(struct world *world, uint8_t *bytes)
{
    ssize_t n = wait_for(world->inner) ? recv(world->inner, bytes, PACKET_MAX, 0) : 0;

    CHECK(n >= 0);
    return (size_t)n;
}

static void socket_wait_loop(struct world *world)
{
    CHECK(wait_for(dp_wake_fd(world->rig.dp)));
    dp_poll(world->rig.dp);
}

static void in_shell(struct world *world, const char *command)
{
    if (system(command) != 0) {
        fprintf(stderr, "%s\n", command);
        CHECK(!"the command works");
    }
}

/* A clear refusal, nothing left behind. */
static void refuses(struct world *world, struct dp_config config, const char *ip)
{
    struct dp_callbacks none = {0};
    struct dp *dp = NULL;

    config.anycast[0] = addr(ip);
    CHECK(dp_open(&config, &none, &dp) != ERR_OK);
    CHECK(dp == NULL);
    CHECK(system("ip link show anysa-ct0 >/dev/null 2>&1") != 0);
}

static void check_kernel_routes(struct world *world)
{
    /* A prefix that the host routes itself is left alone; ours leave with the configuration. */
    struct dp_tunnel tunnel = {.id = rig_id(1), .type = DP_TUNNEL_IPSEC};
    struct dp_route route = {.tunnel = tunnel.id};
    struct ip_addr gateway;

    CHECK(prefix_parse_loose("10.100.0.9/31", &tunnel.interface_address, &gateway));
    tunnel.interface_address.ip = gateway;
    CHECK(prefix_parse("203.0.113.0/24", &route.prefix));
    in_shell(world, "ip route show proto 157 | grep -q '^203.0.115.0/24 dev anysa-ct0'");
    in_shell(world, "ip route add 203.0.116.0/24 dev lo");
    CHECK(dp_set_tunnels(world->rig.dp, &tunnel, 1, &route, 1) == ERR_OK);
    in_shell(world, "! ip route show proto 157 | grep -q '^203.0.115.0/24'");
    in_shell(world, "ip route show proto 157 | grep -q '^203.0.113.0/24'");
    in_shell(world, "ip route show proto 157 | grep -q '^10.100.0.8/31'");
    in_shell(world, "ip addr show dev anysa-ct0 | grep -q 'inet 10.100.0.9/32'");
    in_shell(world, "ip route show | grep -q '^203.0.116.0/24 dev lo'");
    CHECK(prefix_parse("2001:db8:5::/48", &route.prefix));
    tunnel.interface_address = (struct ip_prefix){addr("2001:db8:6::1"), 127};
    CHECK(dp_set_tunnels(world->rig.dp, &tunnel, 1, &route, 1) == ERR_OK);
    in_shell(world, "ip -6 route show proto 157 | grep -q '^2001:db8:5::/48 dev anysa-ct0'");
    in_shell(world, "ip -6 addr show dev anysa-ct0 | grep -q 'inet6 2001:db8:6::1/128'");
    CHECK(dp_set_tunnels(world->rig.dp, NULL, 0, NULL, 0) == ERR_OK);
    in_shell(world, "test -z \"$(ip -6 route show proto 157)\"");
    in_shell(world, "test -z \"$(ip -6 addr show dev anysa-ct0)\"");
    in_shell(world, "test -z \"$(ip route show proto 157)\"");
    in_shell(world, "test -z \"$(ip -4 addr show dev anysa-ct0)\"");
}

static void play_socket(unsigned lanes)
{
    static struct world world_of_sockets = {.name = "socket",
                                            .wire_send = socket_wire_send,
                                            .wire_recv = socket_wire_recv,
                                            .inner_send = socket_inner_send,
                                            .inner_recv = socket_inner_recv,
                                            .wait_loop = socket_wait_loop};
    struct world *world = &world_of_sockets;
    struct dp_config config = {.slot = 5,
                               .tun = "anysa-ct0",
                               .source = "auto",
                               .provider = "auto",
                               .lanes = lanes,
                               .n_anycast = 1};

    config.anycast[0] = addr(ANYCAST);
    world->name = lanes == 1 ? "socket" : "socket, several lanes";
    in_shell(world,
             "ip link set lo up && ip addr add " ANYCAST "/32 dev lo && ip addr add " CUSTOMER
             "/32 dev lo && ip addr add " BEHIND_US "/32 dev lo && "
             "for f in all default lo; do echo 0 >/proc/sys/net/ipv4/conf/$f/rp_filter; done");
    refuses(world, config, "192.0.2.66");
    refuses(world, config, "2001:db8::1");
    rig_open(&world->rig, &config);
    world->esp = open_socket(world, SOCK_RAW, IP_PROTO_ESP, CUSTOMER, 0);
    world->gre = open_socket(world, SOCK_RAW, IP_PROTO_GRE, CUSTOMER, 0);
    world->udp4500 = open_socket(world, SOCK_DGRAM, 0, CUSTOMER, 4500);
    world->udp500 = open_socket(world, SOCK_DGRAM, 0, CUSTOMER, 500);
    world->inner = open_socket(world, SOCK_RAW, IPPROTO_UDP, BEHIND_US, 0);
    /* so that the kernel does not answer "port unreachable" */
    world->listener = open_socket(world, SOCK_DGRAM, 0, BEHIND_US, 53);
    story(world);
    if (lanes > 1) {
        every_lane_receives(world);
        every_lane_sends(world);
    }
    check_kernel_routes(world);
    if (lanes > 1) { /* the device is this process' alone */
        struct dp_callbacks none = {0};
        struct dp *dp = NULL;
        CHECK(dp_open(&config, &none, &dp) != ERR_OK);
    }
    rig_close(&world->rig);
    in_shell(world, "! ip link show anysa-ct0 >/dev/null 2>&1");
    rig_open(&world->rig, &config); /* at once again: a restart */
    rig_close(&world->rig);
    close(world->esp);
    close(world->gre);
    close(world->udp4500);
    close(world->udp500);
    close(world->inner);
    close(world->listener);
}

int main(void)
{
    play_memory();
    if (access("/dev/net/tun", R_OK | W_OK) != 0 || unshare(CLONE_NEWNET) != 0) {
        printf("socket: skipped, no network namespace or TUN device here: %s\n", strerror(errno));
        return SKIP;
    }
    play_socket(1);
    if (unshare(CLONE_NEWNET) != 0)
        return 1;
    play_socket(3);
    return 0;
}
