#include "dataplane/kernel.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/err.h"
#include "proto/log.h"

/* ---------------------------------------------------------------- requests */

struct request {
    struct nlmsghdr h;
    uint8_t body[244];
};

/* Begins a request; the family header is zero. */
static void *request_begin(struct request *q, uint16_t type, uint16_t flags, size_t header)
{
    memset(q, 0, sizeof *q);
    q->h.nlmsg_type = type;
    q->h.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    q->h.nlmsg_len = (uint32_t)NLMSG_LENGTH(header);
    return NLMSG_DATA(&q->h);
}

/* All requests here are of fixed shape and fit. */
static struct rtattr *attr(struct request *q, uint16_t type, const void *bytes, size_t n)
{
    struct rtattr *a = (struct rtattr *)((uint8_t *)q + NLMSG_ALIGN(q->h.nlmsg_len));

    a->rta_type = type;
    a->rta_len = (uint16_t)RTA_LENGTH(n);
    if (n)
        memcpy(RTA_DATA(a), bytes, n);
    q->h.nlmsg_len = NLMSG_ALIGN(q->h.nlmsg_len) + (uint32_t)RTA_ALIGN(a->rta_len);
    return a;
}

static void attr_u32(struct request *q, uint16_t type, uint32_t v)
{
    (void)attr(q, type, &v, sizeof v);
}

static void attr_end(struct request *q, struct rtattr *outer)
{
    outer->rta_len = (uint16_t)((uint8_t *)q + q->h.nlmsg_len - (uint8_t *)outer);
}

/* Sends and waits for the kernel's answer, which comes at once. Returns 0 or an errno. */
static int ask(const struct kernel *k, struct request *q)
{
    static uint32_t sequence;
    union {
        struct nlmsghdr h;
        uint8_t bytes[4096];
    } answer;

    q->h.nlmsg_seq = ++sequence;
    if (send(k->netlink, q, q->h.nlmsg_len, 0) < 0)
        return errno;
    for (;;) {
        ssize_t n = recv(k->netlink, &answer, sizeof answer, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if ((size_t)n < NLMSG_LENGTH(sizeof(struct nlmsgerr)) ||
            answer.h.nlmsg_type != NLMSG_ERROR || answer.h.nlmsg_seq != q->h.nlmsg_seq)
            continue;
        return -((struct nlmsgerr *)NLMSG_DATA(&answer.h))->error;
    }
}

static uint8_t family_of(const struct ip_addr *a)
{
    return a->family == 4 ? AF_INET : AF_INET6;
}

/* ---------------------------------------------------------------- what we ask for */

static int link_up(const struct kernel *k, uint32_t mtu)
{
    /* No link-local address: the kernel would send router solicitations into the tunnel. */
    uint8_t mode = IN6_ADDR_GEN_MODE_NONE;
    struct rtattr *spec, *inet6;
    struct ifinfomsg *link;
    struct request q;

    link = request_begin(&q, RTM_NEWLINK, 0, sizeof *link);
    link->ifi_index = (int)k->ifindex;
    spec = attr(&q, IFLA_AF_SPEC, NULL, 0);
    inet6 = attr(&q, AF_INET6, NULL, 0);
    (void)attr(&q, IFLA_INET6_ADDR_GEN_MODE, &mode, sizeof mode);
    attr_end(&q, inet6);
    attr_end(&q, spec);
    (void)ask(k, &q); /* fails where there is no IPv6, which is fine */

    link = request_begin(&q, RTM_NEWLINK, 0, sizeof *link);
    link->ifi_index = (int)k->ifindex;
    link->ifi_flags = IFF_UP;
    link->ifi_change = IFF_UP;
    attr_u32(&q, IFLA_MTU, mtu);
    return ask(k, &q);
}

static int route(const struct kernel *k, const struct ip_prefix *p, bool add)
{
    struct request q;
    struct rtmsg *rt;

    rt = request_begin(&q, add ? RTM_NEWROUTE : RTM_DELROUTE, add ? NLM_F_CREATE | NLM_F_EXCL : 0,
                       sizeof *rt);
    rt->rtm_family = family_of(&p->ip);
    rt->rtm_dst_len = p->bits;
    rt->rtm_table = RT_TABLE_MAIN;
    rt->rtm_protocol = KERNEL_ROUTE_PROTOCOL;
    rt->rtm_scope = p->ip.family == 4 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
    rt->rtm_type = RTN_UNICAST;
    (void)attr(&q, RTA_DST, p->ip.b, ip_len(&p->ip));
    attr_u32(&q, RTA_OIF, k->ifindex);
    attr_u32(&q, RTA_PRIORITY, KERNEL_ROUTE_METRIC);
    return ask(k, &q);
}

static int address(const struct kernel *k, const struct ip_prefix *p, bool add)
{
    struct request q;
    struct ifaddrmsg *a;

    a = request_begin(&q, add ? RTM_NEWADDR : RTM_DELADDR, add ? NLM_F_CREATE | NLM_F_EXCL : 0,
                      sizeof *a);
    a->ifa_family = family_of(&p->ip);
    a->ifa_prefixlen = p->bits;
    a->ifa_index = k->ifindex;
    a->ifa_flags = p->ip.family == 6 ? IFA_F_NODAD : 0;
    (void)attr(&q, IFA_LOCAL, p->ip.b, ip_len(&p->ip));
    if (add)
        attr_u32(&q, IFA_FLAGS, (uint32_t)a->ifa_flags | IFA_F_NOPREFIXROUTE);
    return ask(k, &q);
}

int kernel_open(struct kernel *k, unsigned ifindex, unsigned mtu)
{
    int error;

    *k = (struct kernel){.netlink = -1, .ifindex = ifindex};
    if (ifindex == 0)
        return ERR_OK;
    k->netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (k->netlink < 0) {
        log_error("dataplane", "cannot open a netlink socket: %s", strerror(errno));
        return ERR_IO;
    }
    error = link_up(k, mtu);
    if (error) {
        log_error("dataplane", "cannot bring the TUN device up: %s; run with CAP_NET_ADMIN",
                  strerror(error));
        kernel_close(k);
        return ERR_IO;
    }
    return ERR_OK;
}

void kernel_close(struct kernel *k)
{
    (void)kernel_set_routes(k, NULL, 0);
    (void)kernel_set_addresses(k, NULL, 0);
    free(k->routes.p);
    free(k->addresses.p);
    k->routes = k->addresses = (struct kernel_list){0};
    if (k->netlink >= 0)
        (void)close(k->netlink);
    k->netlink = -1;
}

/* ---------------------------------------------------------------- lists */

typedef int change_fn(const struct kernel *k, const struct ip_prefix *p, bool add);

static int by_prefix(const void *a, const void *b)
{
    const struct ip_prefix *x = a, *y = b;
    int order = ip_compare(&x->ip, &y->ip);

    return order ? order : (int)x->bits - (int)y->bits;
}

static void complain(const char *what, bool add, const struct ip_prefix *p, int error)
{
    char text[ADDR_TEXT];
    const char *remedy = "";

    if (error == EPERM)
        remedy = "; run with CAP_NET_ADMIN";
    else if (error == EEXIST)
        remedy =
            "; it exists already and is not ours: remove it, or the route from our configuration";
    else if (error == EAFNOSUPPORT || error == EOPNOTSUPP || error == EACCES)
        remedy = "; is this address family switched off (net.ipv6.conf.*.disable_ipv6)?";
    log_error("dataplane", "cannot %s the %s %s at the TUN device: %s%s", add ? "add" : "remove",
              what, prefix_format(p, text), strerror(error), remedy);
}

/* Walks both sorted lists: removes what only `have` holds, then adds what only `want` holds.
 * `have` becomes what is in force. */
static int apply(struct kernel *k, struct kernel_list *have, struct kernel_list want,
                 change_fn *change, const char *what)
{
    size_t n = 0;
    int rc = ERR_OK, error;

    for (size_t i = 0; i < have->n; i++) {
        if (want.n && bsearch(&have->p[i], want.p, want.n, sizeof *want.p, by_prefix))
            continue;
        error = change(k, &have->p[i], false);
        /* gone already, perhaps with the device: that is what we wanted */
        if (error && error != ESRCH && error != ENOENT && error != EADDRNOTAVAIL &&
            error != ENODEV) {
            complain(what, false, &have->p[i], error);
            rc = ERR_IO;
        }
    }
    for (size_t i = 0; i < want.n; i++) {
        if (!have->n || !bsearch(&want.p[i], have->p, have->n, sizeof *have->p, by_prefix)) {
            error = change(k, &want.p[i], true);
            if (error) {
                complain(what, true, &want.p[i], error);
                rc = ERR_IO;
                continue;
            }
        }
        want.p[n++] = want.p[i];
    }
    free(have->p);
    *have = (struct kernel_list){want.p, n};
    return rc;
}

static int set_list(struct kernel *k, struct kernel_list *have, const struct ip_prefix *p, size_t n,
                    change_fn *change, const char *what)
{
    struct kernel_list want = {0};

    if (k->netlink < 0)
        return ERR_OK;
    want.p = calloc(n + 1, sizeof *want.p);
    if (!want.p)
        return ERR_NOMEM;
    if (n) {
        memcpy(want.p, p, n * sizeof *p);
        qsort(want.p, n, sizeof *want.p, by_prefix);
        want.n = 1;
        for (size_t i = 1; i < n; i++)
            if (by_prefix(&want.p[want.n - 1], &want.p[i]) != 0)
                want.p[want.n++] = want.p[i];
    }
    return apply(k, have, want, change, what);
}

int kernel_set_routes(struct kernel *k, const struct ip_prefix *p, size_t n)
{
    return set_list(k, &k->routes, p, n, route, "route");
}

int kernel_set_addresses(struct kernel *k, const struct ip_prefix *p, size_t n)
{
    return set_list(k, &k->addresses, p, n, address, "address");
}
