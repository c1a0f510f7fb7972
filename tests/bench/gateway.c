#include "tests/bench/gateway.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t gateway_cpu_ns(const struct gateway *g)
{
    struct timespec ts;
    clockid_t clock;

    if (clock_getcpuclockid(g->pid, &clock) != 0 || clock_gettime(clock, &ts) != 0) {
        fprintf(stderr, "%s (process %d) has ended\n", g->name, (int)g->pid);
        exit(1);
    }
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t gateway_memory_bytes(const struct gateway *g)
{
    char path[64], line[128];
    unsigned long long kib = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)g->pid);
    f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "Pss_Anon: %llu kB", &kib) == 1)
            break;
    if (!f || kib == 0)
        fprintf(stderr, "cannot read the memory of %s in %s\n", g->name, path);
    if (f)
        fclose(f);
    return kib * 1024;
}

/* ---- the command line ---- */

static void usage(const char *what)
{
    fprintf(stderr, "not understood: %s (tests/bench has scripts that call this program)\n", what);
    exit(2);
}

static unsigned number(const char *text)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (*end || n < 1 || n > 1000000)
        usage(text);
    return (unsigned)n;
}

static struct selector_list prefix(const char *text)
{
    struct selector_list list = {.n = 1};
    struct ip_prefix p;

    if (!prefix_parse(text, &p))
        usage(text);
    list.s[0] = selector_of_prefix(&p);
    return list;
}

static void read_psk(struct arguments *a, const char *path)
{
    FILE *f = fopen(path, "re");

    if (!f || !fgets(a->psk, sizeof a->psk, f))
        usage(path);
    fclose(f);
    a->psk[strcspn(a->psk, "\n")] = 0;
}

static void read_gateway(struct gateway *g, const char *text)
{
    char at[ENDPOINT_TEXT];
    int pid;

    if (sscanf(text, "%31[^,],%55[^,],%d", g->name, at, &pid) != 3 || !endpoint_parse(at, &g->at) ||
        g->at.ip.family != 4)
        usage(text);
    g->pid = pid;
}

void tunnel_login(struct wire_login *login, unsigned number, const char *domain)
{
    snprintf(login->id, sizeof login->id, "%032x.%.200s", number, domain);
}

void arguments_read(struct arguments *a, int argc, char **argv)
{
    static const struct option options[] = {
        {"domain", required_argument, NULL, 'd'},
        {"psk-file", required_argument, NULL, 'p'},
        {"tsi", required_argument, NULL, 't'},
        {"tsr", required_argument, NULL, 'T'},
        {"rounds", required_argument, NULL, 'r'},
        {"count", required_argument, NULL, 'n'},
        {"concurrency", required_argument, NULL, 'c'},
        {"tunnels", required_argument, NULL, 'k'},
        {"memory", required_argument, NULL, 'm'},
        {"gate", no_argument, NULL, 'g'},

        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'd')
            snprintf(a->domain, sizeof a->domain, "%s", optarg);
        else if (option == 'k')
            a->tunnels = number(optarg);
        else if (option == 'p')
            read_psk(a, optarg);
        else if (option == 't')
            a->login.tsi = prefix(optarg);
        else if (option == 'T')
            a->login.tsr = prefix(optarg);
        else if (option == 'r')
            a->rounds = number(optarg);
        else if (option == 'n')
            a->count = number(optarg);
        else if (option == 'c')
            a->concurrency = number(optarg);
        else if (option == 'm')
            a->memory = number(optarg);
        else if (option == 'g')
            a->gate = true;
        else
            exit(2);
    }
    tunnel_login(&a->login, 1, a->domain);
    a->login.psk = a->psk;
    for (; optind < argc && a->n_gateways < GATEWAYS_MAX; optind++)
        read_gateway(&a->gateways[a->n_gateways++], argv[optind]);
    if (!a->domain[0] || !a->psk[0] || !a->login.tsi.n || !a->login.tsr.n || !a->n_gateways)
        usage("missing arguments");
}
