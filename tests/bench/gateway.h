/* The process under measurement, seen from outside, and what its programs have in common on the
 * command line. */
#ifndef TESTS_BENCH_GATEWAY_H
#define TESTS_BENCH_GATEWAY_H

#include <sys/types.h>

#include "tests/bench/wire.h"

enum { GATEWAYS_MAX = 4 };

struct gateway {
    char name[32];
    struct endpoint at;
    pid_t pid;
};

/* CPU time of all its threads, user and system, nanoseconds; exits when there is no such process.
 */
uint64_t gateway_cpu_ns(const struct gateway *g);
/* Anonymous memory in octets (Pss_Anon: heap, stacks, locked pages). */
uint64_t gateway_memory_bytes(const struct gateway *g);

struct arguments {
    char domain[IKE_DOMAIN_MAX], psk[256];
    struct wire_login login; /* its ID is that of tunnel 1 */
    unsigned tunnels, rounds, count, concurrency, memory;
    bool gate; /* a missed target is a failure */
    struct gateway gateways[GATEWAYS_MAX];
    size_t n_gateways;
};

/* --domain ACCOUNT.DOMAIN --psk-file FILE --tsi PREFIX --tsr PREFIX [--tunnels N] [--rounds N]
 * [--count N] [--concurrency N] [--memory N] [--gate] NAME,ADDRESS:PORT,PID...; defaults are what
 * *a holds. Exits with 2 on a mistake. */
void arguments_read(struct arguments *a, int argc, char **argv);

/* The IKE ID of a tunnel; they are numbered from 1, and the number is the tunnel's id. */
void tunnel_login(struct wire_login *login, unsigned number, const char *domain);

#endif
