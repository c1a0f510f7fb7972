#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "node/node.h"
#include "proto/err.h"
#include "proto/log.h"

static bool is_address(const struct sockaddr *sa, const struct ip_addr *wanted)
{
    if (!sa)
        return false;
    if (sa->sa_family == AF_INET && wanted->family == 4)
        return memcmp(&((const struct sockaddr_in *)sa)->sin_addr, wanted->b, 4) == 0;
    if (sa->sa_family == AF_INET6 && wanted->family == 6)
        return memcmp(&((const struct sockaddr_in6 *)sa)->sin6_addr, wanted->b, 16) == 0;
    return false;
}

static bool on_loopback(const struct ifaddrs *list, const struct ip_addr *wanted)
{
    for (const struct ifaddrs *i = list; i; i = i->ifa_next)
        if ((i->ifa_flags & IFF_LOOPBACK) && is_address(i->ifa_addr, wanted))
            return true;
    return false;
}

int host_check_anycast(const struct config *config)
{
    struct ifaddrs *list;
    char text[ADDR_TEXT];
    int err = ERR_OK;

    if (getifaddrs(&list) != 0) {
        log_error("node", "cannot list the addresses of this host: %s", strerror(errno));
        return ERR_IO;
    }
    for (size_t i = 0; i < config->anycast.n; i++) {
        const struct ip_addr *a = &config->anycast.addresses[i];
        if (on_loopback(list, a))
            continue;
        ip_format(a, text);
        log_error("node", "the anycast address %s is not on lo; add it: ip addr add %s/%u dev lo",
                  text, text, a->family == 4 ? 32 : 128);
        err = ERR_CONFIG;
    }
    freeifaddrs(list);
    return err;
}

/* The first character of a file under /proc/sys, or -1. */
static int sysctl_value(const char *path)
{
    FILE *f = fopen(path, "re");
    int c;

    if (!f)
        return -1;
    c = fgetc(f);
    fclose(f);
    return c == EOF ? -1 : c;
}

void host_warn_sysctls(void)
{
    static const struct {
        const char *path, *name;
        int wanted;
    } wishes[] = {
        {"/proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward", '1'},
        {"/proc/sys/net/ipv4/conf/all/rp_filter", "net.ipv4.conf.all.rp_filter", '0'},
        {"/proc/sys/net/ipv4/conf/default/rp_filter", "net.ipv4.conf.default.rp_filter", '0'},
    };

    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++) {
        int value = sysctl_value(wishes[i].path);
        if (value >= 0 && value != wishes[i].wanted)
            log_warn("node", "%s is %c: inner packets may be lost; set it: sysctl -w %s=%c",
                     wishes[i].name, value, wishes[i].name, wishes[i].wanted);
    }
}

/* The journal's keys are sealed, but whoever may write here could put an older journal in its
 * place, and with it epochs that were used already. */
static bool is_ours_alone(const char *path, int fd)
{
    static const char *const files[] = {"journal.db", "journal.db-wal"};
    struct stat st;

    if (fstat(fd, &st) != 0) {
        log_error("node", "cannot look at the state directory %s: %s", path, strerror(errno));
        return false;
    }
    if (st.st_uid != geteuid()) {
        log_error("node", "the state directory %s belongs to uid %u; chown %u %s", path,
                  (unsigned)st.st_uid, (unsigned)geteuid(), path);
        return false;
    }
    if (st.st_mode & (S_IWGRP | S_IWOTH)) {
        log_error("node",
                  "others may write into the state directory %s (mode %04o); chmod 700 %s, and "
                  "remove it if they did",
                  path, (unsigned)st.st_mode & 07777, path);
        return false;
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (fstatat(fd, files[i], &st, AT_SYMLINK_NOFOLLOW) != 0 ||
            (S_ISREG(st.st_mode) && !(st.st_mode & (S_IRWXG | S_IRWXO))))
            continue;
        log_error("node", "%s/%s %s (mode %04o); chmod 600 it, or remove it", path, files[i],
                  S_ISREG(st.st_mode) ? "is open to others" : "is not a regular file",
                  (unsigned)st.st_mode & 07777);
        return false;
    }
    return true;
}

enum { STATE_LOCK_TRIES = 50 }; /* 20 ms each */

int host_take_state_dir(const char *path)
{
    int fd;

    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        log_error("node", "cannot make the state directory %s: %s", path, strerror(errno));
        return -1;
    }
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        log_error("node", "cannot open the state directory %s: %s", path, strerror(errno));
        return -1;
    }
    if (!is_ours_alone(path, fd)) {
        close(fd);
        return -1;
    }
    /* A killed predecessor may take a moment to let go: all of its threads must have ended. */
    for (int tries = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; tries++) {
        const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};

        if (tries < STATE_LOCK_TRIES) {
            nanosleep(&pause, NULL);
            continue;
        }
        log_error("node", "the state directory %s is in use by another anysad", path);
        close(fd);
        return -1;
    }
    return fd;
}
