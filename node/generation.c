/* Was this machine cloned, or set back to a snapshot while we ran? Then another process may go on
 * from where our memory stands, under our epoch and with our counters. A hypervisor that keeps a VM
 * generation ID tells the kernel, and the kernel (Linux 6.10 and later, driver vmgenid) says
 * NEW_VMGENID=1 in a uevent. All that is safe is a new incarnation: this one encrypts nothing more
 * and stops; the service manager starts the next. */
#include <errno.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "node/node.h"
#include "proto/err.h"
#include "proto/log.h"

enum { UEVENT_MAX = 8192, UEVENT_GROUP = 1 };

/* A uevent is strings, each with its 0. */
bool generation_is_new(const char *bytes, size_t n)
{
    static const char wanted[] = "NEW_VMGENID=1";

    while (n) {
        size_t length = strnlen(bytes, n);

        if (length == sizeof wanted - 1 && memcmp(bytes, wanted, length) == 0)
            return true;
        if (length == n)
            break;
        bytes += length + 1;
        n -= length + 1;
    }
    return false;
}

static void on_uevent(uv_poll_t *poll, int status, int events)
{
    struct node *node = poll->data;
    char bytes[UEVENT_MAX];
    struct sockaddr_nl from;
    struct iovec piece = {bytes, sizeof bytes};
    struct msghdr message = {
        .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &piece, .msg_iovlen = 1};
    ssize_t n;

    (void)status;
    (void)events;
    n = recvmsg(node->generation_fd, &message, MSG_DONTWAIT);
    if (n <= 0 || message.msg_namelen != sizeof from || from.nl_pid != 0)
        return; /* not the kernel's */
    if (!generation_is_new(bytes, (size_t)n))
        return;
    log_error("node", "this machine was cloned or set back to a snapshot: another may use the IVs "
                      "of this process, so it stops; start it again");
    node_stop_at_once(node);
}

int node_generation_open(struct node *node)
{
    struct sockaddr_nl at = {.nl_family = AF_NETLINK, .nl_groups = UEVENT_GROUP};

    node->generation_fd =
        socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
    if (node->generation_fd < 0 ||
        bind(node->generation_fd, (struct sockaddr *)&at, sizeof at) != 0) {
        log_info("node", "no word from the kernel when this machine is cloned: %s",
                 strerror(errno));
        node_generation_close(node);
        return ERR_OK;
    }
    uv_poll_init(&node->loop, &node->generation_poll, node->generation_fd);
    node->generation_poll.data = node;
    uv_poll_start(&node->generation_poll, UV_READABLE, on_uevent);
    return ERR_OK;
}

void node_generation_close(struct node *node)
{
    if (node->generation_fd < 0)
        return;
    if (node->generation_poll.data)
        uv_poll_stop(&node->generation_poll);
    close(node->generation_fd);
    node->generation_fd = -1;
}
