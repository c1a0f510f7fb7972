/* Sends small UDP datagrams in many flows, no more than asked for and no longer:
 *
 *     lab_flood COUNT SECONDS RATE ADDRESS...
 *
 * RATE datagrams a second at most, to all addresses in turn (port 9), from FLOWS source ports.
 * Prints how many left. Exit codes: 0 fine, 2 usage. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FLOWS = 64, BATCH = 16, BYTES = 32, TARGETS_MAX = 16 };

static double seconds_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    static char payload[BYTES];
    struct sockaddr_in to[TARGETS_MAX] = {0};
    struct mmsghdr batch[BATCH] = {0};
    struct iovec piece = {payload, sizeof payload};
    unsigned long count = argc > 4 ? strtoul(argv[1], NULL, 10) : 0, sent = 0, turn = 0;
    double limit = argc > 4 ? strtod(argv[2], NULL) : 0,
           rate = argc > 4 ? strtod(argv[3], NULL) : 0;
    int flows[FLOWS], n_targets = argc - 4;
    double began = seconds_now();

    if (count == 0 || limit <= 0 || rate <= 0 || n_targets < 1 || n_targets > TARGETS_MAX)
        return fprintf(stderr, "usage: lab_flood COUNT SECONDS RATE ADDRESS...\n"), 2;
    for (int i = 0; i < n_targets; i++) {
        to[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(9)};
        if (inet_pton(AF_INET, argv[4 + i], &to[i].sin_addr) != 1)
            return fprintf(stderr, "lab_flood: %s is no address\n", argv[4 + i]), 2;
    }
    for (int i = 0; i < FLOWS; i++)
        flows[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    while (sent < count && seconds_now() - began < limit) {
        int n;
        if ((double)sent > (seconds_now() - began) * rate) {
            usleep(1000);
            continue;
        }
        for (int i = 0; i < BATCH; i++)
            batch[i].msg_hdr = (struct msghdr){.msg_name = &to[turn % (unsigned)n_targets],
                                               .msg_namelen = sizeof *to,
                                               .msg_iov = &piece,
                                               .msg_iovlen = 1};
        n = sendmmsg(flows[turn / (unsigned)n_targets % FLOWS], batch, BATCH, 0);
        turn++;
        if (n > 0)
            sent += (unsigned long)n;
        else
            usleep(1000); /* no route for a moment, or an ICMP error of an earlier one */
    }
    printf("%lu sent\n", sent);
    return 0;
}
