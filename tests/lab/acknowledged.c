/* Routers that keep book: threads that negotiate IKE SAs and Child SAs without end, and write down
 * each SA that the gateway acknowledged, the moment its answer was opened and found authentic.
 *
 *   IKE_SA_INIT, IKE_AUTH     ike SPI, child SPI
 *   CREATE_CHILD_SA           one more Child SA, a rekeyed Child SA, a rekeyed IKE SA
 *
 * One line per SA on stdout, in one write each: "ike 0x0011223344556677" or "child 0x00112233", the
 * gateway's SPIs, written as its HTTP interface does. "old 0x..." is an IKE SA that a rekey
 * replaced: the gateway may end it. Nothing is ever deleted by these routers, so all the other SAs
 * have to stay. A request without an answer is sent again, as gateways die here all the time; an
 * exchange that is given up leaves no line, whatever the gateway made of it.
 *
 * SIGTERM ends it, with totals on stderr. */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/bench/gateway.h"

enum {
    THREADS_MAX = 64,
    ANSWER_WAIT_MS = 200,
    INIT_TRIES = 5, /* a half-open SA dies with its node: soon begin anew */
    TRIES = 20,     /* dead_ms, and a restart of everything, fit in */
    THINK_MS = 120, /* between two handshakes of a thread: the machine has other work, too */
};

struct routers {
    const struct arguments *a;
    atomic_bool stop;
    atomic_uint next, handshakes, exchanges, given_up, retransmits;
};

static void note(const char *line, int n)
{
    if (write(STDOUT_FILENO, line, (size_t)n) != n)
        _exit(1);
}

static void note_ike(const char *what, uint64_t spi_r)
{
    char line[64];

    note(line, snprintf(line, sizeof line, "%s 0x%016" PRIx64 "\n", what, spi_r));
}

static void note_child(const struct peer *p)
{
    char line[64];

    note(line, snprintf(line, sizeof line, "child 0x%08" PRIx32 "\n", p->child.spi_out));
}

/* ---- one router ---- */

static bool rekey_ike(struct peer *p)
{
    struct record *old = NULL;

    if (!peer_rekey_ike(p, &old))
        return false;
    note_ike("old", old->ike.spi_r);
    note_ike("ike", p->rec->ike.spi_r);
    record_free(old);
    return true;
}

/* An additional Child SA, one for another, an IKE SA for another: a third of the routers each. */
static bool go_on(struct peer *p, unsigned number)
{
    if (number % 3 == 2)
        return rekey_ike(p);
    if (!peer_rekey_child(p, number % 3 == 1 ? p->child.spi_in : 0))
        return false;
    note_child(p);
    return true;
}

static void run_router(struct routers *r, struct wire *w, unsigned number)
{
    struct wire_login login = r->a->login;

    tunnel_login(&login, 1 + number % r->a->tunnels, r->a->domain);
    wire_patience(w, ANSWER_WAIT_MS, INIT_TRIES);
    if (!wire_init(w, &login) || !wire_auth(w, &login)) {
        atomic_fetch_add(&r->given_up, 1);
    } else {
        note_ike("ike", w->peer.rec->ike.spi_r);
        note_child(&w->peer);
        atomic_fetch_add(&r->handshakes, 1);
        wire_patience(w, ANSWER_WAIT_MS, TRIES);
        if (go_on(&w->peer, number))
            atomic_fetch_add(&r->exchanges, 1);
        else
            atomic_fetch_add(&r->given_up, 1);
    }
    wire_forget(w);
}

static void *run_routers(void *arg)
{
    struct routers *r = arg;
    struct wire *w = wire_open(&r->a->gateways[0].at);

    if (!w)
        exit(1);
    while (!atomic_load(&r->stop)) {
        run_router(r, w, atomic_fetch_add(&r->next, 1));
        usleep(THINK_MS * 1000);
    }
    atomic_fetch_add(&r->retransmits, w->retransmits);
    wire_close(w);
    return NULL;
}

int main(int argc, char **argv)
{
    struct arguments a = {.tunnels = 1, .concurrency = 8};
    struct routers r = {.a = &a};
    pthread_t threads[THREADS_MAX];
    sigset_t term;
    unsigned n;
    int number;

    arguments_read(&a, argc, argv);
    log_set_level(LOG_LEVEL_ERROR);
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &term, NULL);
    n = a.concurrency < THREADS_MAX ? a.concurrency : THREADS_MAX;
    for (unsigned i = 0; i < n; i++)
        if (pthread_create(&threads[i], NULL, run_routers, &r) != 0)
            exit(1);
    sigwait(&term, &number);
    atomic_store(&r.stop, true);
    for (unsigned i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    fprintf(stderr, "%u handshakes %u exchanges %u given-up %u retransmissions\n",
            atomic_load(&r.handshakes), atomic_load(&r.exchanges), atomic_load(&r.given_up),
            atomic_load(&r.retransmits));
    return 0;
}
