/* The source that needs nothing but sockets: raw ones for ESP and GRE and UDP 500
 * and 4500 on each anycast address, a TUN device for inner packets, all waited
 * for by one epoll. The kernel adds outer headers and fragments (its path MTU
 * discovery is off: outer packets carry no DF), checks and reassembles.
 * UDP_ENCAP is never set: the kernel would take the ESP.
 *
 * Several lanes have all of these each, and share the traffic so that a flow stays with one:
 *
 *   TUN     a queue each; the kernel goes by the inner flow, and gives a flow's packets to the
 *           lane that sent its other direction
 *   UDP     SO_REUSEPORT: by the outer addresses and ports
 *   ESP     a raw socket sees a copy of every packet of its protocol, so each has a filter:
 *   GRE     SPI modulo lanes; the peer's address modulo lanes */
#include "dataplane/source.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "proto/err.h"
#include "proto/log.h"
#include "proto/wire_ikev2.h"

enum {
    SOCKETS_EACH = 4, /* ESP, GRE, UDP 500, UDP 4500 for each address */
    RECEIVE_BUFFER_BYTES = 4 << 20,
    /* TTL and TOS, each an int */
    CONTROL_BYTES = 64,
    DEFAULT_TTL = 64,
};
_Static_assert(CONTROL_BYTES >= 2 * CMSG_SPACE(sizeof(int)), "both control messages fit");

struct port {
    int fd;
    uint8_t protocol; /* ESP, GRE or UDP; 0: the TUN device */
    struct endpoint local;
};

/* What recvmmsg and sendmmsg need for a run of packets. */
struct burst {
    struct mmsghdr msgs[BATCH_MAX];
    struct iovec iov[BATCH_MAX];
    struct sockaddr_in names[BATCH_MAX];
    _Alignas(struct cmsghdr) uint8_t control[BATCH_MAX][CONTROL_BYTES];
};

struct source {
    unsigned lane, lanes;
    int epoll, event;
    struct port tun;
    struct port ports[DP_ADDRESSES_MAX * SOCKETS_EACH];
    size_t n_ports;
    unsigned ifindex;
    struct burst burst;
};

static const char *protocol_name(uint8_t protocol)
{
    return protocol == IP_PROTO_ESP ? "ESP" : protocol == IP_PROTO_GRE ? "GRE" : "UDP";
}

/* ---------------------------------------------------------------- opening */

static int tun_open(struct source *s, const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int error;

    if (s->lanes > 1) /* the first makes the device, and no other process' is taken for it */
        request.ifr_flags |= (short)(IFF_MULTI_QUEUE | (s->lane == 0 ? IFF_TUN_EXCL : 0));

    s->tun.fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (s->tun.fd < 0) {
        log_error("dataplane",
                  "cannot open /dev/net/tun: %s; load the tun module, or give the "
                  "container the device (--device /dev/net/tun)",
                  strerror(errno));
        return ERR_IO;
    }
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (ioctl(s->tun.fd, TUNSETIFF, &request) != 0) {
        error = errno;
        log_error("dataplane", "cannot make the TUN device %s: %s; %s", name, strerror(error),
                  error == EBUSY   ? "another process holds it: is anysad running already?"
                  : error == EPERM ? "run with CAP_NET_ADMIN"
                                   : "choose another name (dataplane.tun)");
        return ERR_IO;
    }
    s->ifindex = if_nametoindex(request.ifr_name);
    return s->ifindex ? ERR_OK : ERR_IO;
}

/* Of what a raw socket sees, IPv4 headers included, this lane's share: all lanes together get every
 * packet once. What is too short to have an SPI is the first lane's, to be counted. */
static int take_share(const struct source *s, const struct port *port)
{
    const uint32_t is_short = s->lane == 0 ? UINT32_MAX : 0;
    struct sock_filter esp[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, sizeof(struct iphdr) + 4, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, is_short),
        BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_IND, 0),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, s->lanes),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, s->lane, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_filter gre[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct iphdr, saddr)),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, s->lanes),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, s->lane, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    bool is_esp = port->protocol == IP_PROTO_ESP;
    struct sock_fprog filter = {.len = is_esp ? sizeof esp / sizeof *esp : sizeof gre / sizeof *gre,
                                .filter = is_esp ? esp : gre};

    if (setsockopt(port->fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) != 0) {
        log_error("dataplane", "%s cannot be shared by several lanes: %s; set dataplane.lanes to 1",
                  protocol_name(port->protocol), strerror(errno));
        return ERR_IO;
    }
    while (recv(port->fd, NULL, 0, MSG_DONTWAIT | MSG_TRUNC) >= 0)
        ; /* what came before the filter */
    return ERR_OK;
}

static bool set_option(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

static void explain_bind(const struct port *port, int error)
{
    char text[ADDR_TEXT];

    ip_format(&port->local.ip, text);
    if (error == EADDRNOTAVAIL)
        log_error("dataplane",
                  "the anycast address %s is not on this host: add it with "
                  "`ip addr add %s/32 dev lo`",
                  text, text);
    else if (error == EADDRINUSE)
        log_error("dataplane", "UDP port %u of %s is in use: stop the other IKE daemon",
                  port->local.port, text);
    else
        log_error("dataplane", "cannot bind %s of %s: %s", protocol_name(port->protocol), text,
                  strerror(error));
}

static int port_open(struct source *s, struct port *port)
{
    bool udp = port->protocol == IP_PROTO_UDP;
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port->local.port)};

    port->fd = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_RAW) | SOCK_NONBLOCK | SOCK_CLOEXEC,
                      udp ? 0 : port->protocol);
    if (port->fd < 0) {
        log_error("dataplane", "cannot open a socket for %s: %s%s", protocol_name(port->protocol),
                  strerror(errno), errno == EPERM ? "; run with CAP_NET_RAW" : "");
        return ERR_IO;
    }
    s->n_ports++;
    if (!set_option(port->fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES))
        (void)set_option(port->fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER_BYTES);
    (void)set_option(port->fd, SOL_SOCKET, SO_SNDBUF, RECEIVE_BUFFER_BYTES);
    /* A restart may overlap with the end of its predecessor. */
    (void)set_option(port->fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (udp && s->lanes > 1)
        (void)set_option(port->fd, SOL_SOCKET, SO_REUSEPORT, 1); /* else bind says why not */
    /* Outer packets may be fragmented on their way. */
    (void)set_option(port->fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
    if (udp)
        (void)set_option(port->fd, IPPROTO_IP, IP_RECVTOS, 1);
    memcpy(&name.sin_addr, port->local.ip.b, 4);
    if (bind(port->fd, (struct sockaddr *)&name, sizeof name) != 0) {
        explain_bind(port, errno);
        return ERR_IO;
    }
    return udp || s->lanes == 1 ? ERR_OK : take_share(s, port);
}

static int watch(struct source *s, int fd, void *what)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = what};

    return epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &e) == 0 ? ERR_OK : ERR_IO;
}

static int ports_open(struct source *s, const struct ip_addr *anycast)
{
    static const struct {
        uint8_t protocol;
        uint16_t port;
    } kinds[SOCKETS_EACH] = {
        {IP_PROTO_ESP, 0},
        {IP_PROTO_GRE, 0},
        {IP_PROTO_UDP, IKE_PORT},
        {IP_PROTO_UDP, IKE_NATT_PORT},
    };

    if (anycast->family != 4) {
        char text[ADDR_TEXT];
        log_error("dataplane",
                  "the anycast address %s is not IPv4: IPv6 outer addresses are not "
                  "supported",
                  ip_format(anycast, text));
        return ERR_UNSUPPORTED;
    }
    for (int i = 0; i < SOCKETS_EACH; i++) {
        struct port *port = &s->ports[s->n_ports];

        *port = (struct port){.fd = -1, .protocol = kinds[i].protocol};
        port->local = (struct endpoint){*anycast, kinds[i].port};
        if (port_open(s, port) != ERR_OK || watch(s, port->fd, port) != ERR_OK)
            return ERR_IO;
    }
    return ERR_OK;
}

static void close_fd(int fd)
{
    if (fd >= 0)
        (void)close(fd);
}

static void socket_close(struct source *s)
{
    for (size_t i = 0; i < s->n_ports; i++)
        close_fd(s->ports[i].fd);
    close_fd(s->tun.fd);
    close_fd(s->event);
    close_fd(s->epoll);
    free(s);
}

static int socket_open(const struct source_config *config, struct source **out)
{
    const struct dp_config *dp = config->dp;
    struct source *s = calloc(1, sizeof *s);
    int rc = ERR_OK;

    if (!s)
        return ERR_NOMEM;
    s->lane = config->lane;
    s->lanes = dp->lanes;
    s->tun.fd = -1;
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    s->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (s->epoll < 0 || s->event < 0 || watch(s, s->event, NULL) != ERR_OK)
        rc = ERR_IO;
    /* The TUN device first: it can be held only once, so a second process ends here. */
    if (rc == ERR_OK)
        rc = tun_open(s, dp->tun);
    for (size_t i = 0; i < dp->n_anycast && rc == ERR_OK; i++)
        rc = ports_open(s, &dp->anycast[i]);
    if (rc == ERR_OK)
        rc = watch(s, s->tun.fd, &s->tun);
    if (rc != ERR_OK) {
        socket_close(s);
        return rc;
    }
    *out = s;
    return ERR_OK;
}

/* ---------------------------------------------------------------- receiving */

static size_t tun_recv(struct source *s, struct packet **packets, size_t n)
{
    size_t got = 0;

    while (got < n) {
        struct packet *p = packets[got];
        ssize_t bytes;

        p->data = p->room + PACKET_HEADROOM;
        bytes = read(s->tun.fd, p->data, PACKET_MAX);
        if (bytes <= 0)
            break;
        p->n = (uint32_t)bytes;
        p->via = VIA_INNER;
        got++;
    }
    return got;
}

/* The TOS octet of a UDP datagram's outer header. */
static uint8_t received_tos(struct msghdr *m)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS)
            return *CMSG_DATA(c);
    return 0;
}

static size_t port_recv(struct source *s, const struct port *port, struct packet **packets,
                        size_t n)
{
    struct burst *b = &s->burst;
    bool udp = port->protocol == IP_PROTO_UDP;
    size_t got = 0;
    int count;

    for (size_t i = 0; i < n; i++) {
        packets[i]->data = packets[i]->room + PACKET_HEADROOM;
        b->iov[i] = (struct iovec){packets[i]->data, PACKET_MAX};
        b->msgs[i].msg_hdr = (struct msghdr){.msg_name = &b->names[i],
                                             .msg_namelen = sizeof b->names[i],
                                             .msg_iov = &b->iov[i],
                                             .msg_iovlen = 1,
                                             .msg_control = udp ? b->control[i] : NULL,
                                             .msg_controllen = udp ? CONTROL_BYTES : 0};
    }
    count = recvmmsg(port->fd, b->msgs, (unsigned)n, MSG_DONTWAIT, NULL);
    for (int i = 0; i < count; i++) {
        struct packet *p = packets[i];

        if (b->msgs[i].msg_hdr.msg_flags & MSG_TRUNC)
            continue;
        p->n = b->msgs[i].msg_len;
        p->via = udp ? VIA_UDP : VIA_IP;
        if (udp) {
            p->tos = received_tos(&b->msgs[i].msg_hdr);
            p->local = port->local;
            p->peer.ip = ip_from_bytes(4, &b->names[i].sin_addr);
            p->peer.port = ntohs(b->names[i].sin_port);
        }
        packets[i] = packets[got]; /* keep those that count together */
        packets[got++] = p;
    }
    return got;
}

static size_t socket_recv(struct source *s, struct packet **packets, size_t n, int timeout_ms)
{
    struct epoll_event events[DP_ADDRESSES_MAX * SOCKETS_EACH + 2];
    size_t got = 0;
    int ready = epoll_wait(s->epoll, events, sizeof events / sizeof *events, timeout_ms);

    for (int i = 0; i < ready && got < n; i++) {
        struct port *port = events[i].data.ptr;
        /* No one of them may take all the room from the others. */
        size_t share = (n - got) / (size_t)(ready - i);

        if (share == 0)
            share = 1;
        if (!port) {
            uint64_t count;
            (void)!read(s->event, &count, sizeof count);
        } else if (port == &s->tun) {
            got += tun_recv(s, packets + got, share);
        } else {
            got += port_recv(s, port, packets + got, share);
        }
    }
    return got;
}

static void socket_wake(struct source *s)
{
    uint64_t one = 1;

    (void)!write(s->event, &one, sizeof one);
}

/* ---------------------------------------------------------------- sending */

static const struct port *port_for(const struct source *s, uint8_t protocol,
                                   const struct endpoint *local)
{
    for (size_t i = 0; i < s->n_ports; i++)
        if (s->ports[i].protocol == protocol && endpoint_equal(&s->ports[i].local, local))
            return &s->ports[i];
    return NULL;
}

static void add_control(struct msghdr *m, struct cmsghdr **at, int type, int value)
{
    struct cmsghdr *c = *at;

    c->cmsg_level = IPPROTO_IP;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(sizeof value);
    memcpy(CMSG_DATA(c), &value, sizeof value);
    m->msg_controllen += CMSG_SPACE(sizeof value);
    *at = (struct cmsghdr *)((uint8_t *)c + CMSG_SPACE(sizeof value));
}

static void fill_message(struct burst *b, size_t i, const struct packet *p)
{
    struct msghdr *m = &b->msgs[i].msg_hdr;
    struct cmsghdr *at = (struct cmsghdr *)b->control[i];

    b->names[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(p->peer.port)};
    memcpy(&b->names[i].sin_addr, p->peer.ip.b, 4);
    b->iov[i] = (struct iovec){p->data, p->n};
    *m = (struct msghdr){.msg_name = &b->names[i],
                         .msg_namelen = sizeof b->names[i],
                         .msg_iov = &b->iov[i],
                         .msg_iovlen = 1,
                         .msg_control = b->control[i]};
    add_control(m, &at, IP_TTL, p->ttl ? p->ttl : DEFAULT_TTL);
    add_control(m, &at, IP_TOS, p->tos);
}

/* Packets of one socket; one that the system refuses does not hold up those behind it. */
static void run_send(struct source *s, int fd, struct packet **packets, size_t n)
{
    size_t at = 0;

    for (size_t i = 0; i < n; i++)
        fill_message(&s->burst, i, packets[i]);
    while (at < n) {
        int sent = sendmmsg(fd, s->burst.msgs + at, (unsigned)(n - at), MSG_DONTWAIT);

        for (int i = 0; i < sent; i++)
            packets[at + (size_t)i]->sent = true;
        at += sent > 0 ? (size_t)sent : 1;
    }
}

static const struct port *port_of(const struct source *s, const struct packet *p)
{
    if (p->via == VIA_INNER)
        return &s->tun;
    if (p->peer.ip.family != 4)
        return NULL;
    return port_for(s, p->via == VIA_UDP ? IP_PROTO_UDP : p->protocol, &p->local);
}

static void socket_send(struct source *s, struct packet **packets, size_t n)
{
    size_t end;

    for (size_t at = 0; at < n; at = end) {
        const struct port *port = port_of(s, packets[at]);

        end = at + 1;
        if (port == &s->tun) {
            packets[at]->sent = write(s->tun.fd, packets[at]->data, packets[at]->n) > 0;
            continue;
        }
        while (end < n && port_of(s, packets[end]) == port)
            end++;
        if (port)
            run_send(s, port->fd, packets + at, end - at);
    }
}

static int socket_send_ike(struct source *s, const struct endpoint *local,
                           const struct endpoint *peer, const uint8_t *bytes, size_t n)
{
    static const uint8_t marker[NON_ESP_MARKER_BYTES];
    const struct port *port = port_for(s, IP_PROTO_UDP, local);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(peer->port)};
    struct iovec iov[2] = {{(void *)(uintptr_t)marker, sizeof marker},
                           {(void *)(uintptr_t)bytes, n}}; /* read only */
    bool marked = local->port == IKE_NATT_PORT;
    struct msghdr m = {.msg_name = &name,
                       .msg_namelen = sizeof name,
                       .msg_iov = marked ? iov : iov + 1,
                       .msg_iovlen = marked ? 2 : 1};

    if (!port || peer->ip.family != 4)
        return ERR_IO;
    memcpy(&name.sin_addr, peer->ip.b, 4);
    return sendmsg(port->fd, &m, MSG_DONTWAIT) < 0 ? ERR_IO : ERR_OK;
}

static unsigned socket_ifindex(const struct source *s)
{
    return s->ifindex;
}

const struct source_ops source_socket = {
    .name = "socket",
    .open = socket_open,
    .close = socket_close,
    .recv = socket_recv,
    .send = socket_send,
    .wake = socket_wake,
    .send_ike = socket_send_ike,
    .inner_ifindex = socket_ifindex,
};
