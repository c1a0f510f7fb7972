/* An IKEv2 initiator on a real socket: the one of tests/unit/ike/peer.h, whose datagrams go to a
 * gateway over UDP. Made to cost little itself, so that the gateway is what is measured: its
 * Diffie-Hellman pair has a tiny exponent and serves every handshake. Blocking; a wire belongs to
 * one thread. */
#ifndef TESTS_BENCH_WIRE_H
#define TESTS_BENCH_WIRE_H

#include "tests/unit/ike/peer.h"

/* Who we say we are, and what to negotiate. */
struct wire_login {
    char id[IKE_ID_MAX]; /* ID_FQDN */
    const char *psk;     /* borrowed */
    struct selector_list tsi, tsr;
};

struct wire {
    struct bench bench;
    struct peer peer;
    struct dh_key *dh;
    int fd;
    struct endpoint gateway, own;
    uint8_t got[IKE_MESSAGE_MAX];
    uint64_t took_ns; /* of the last exchange: from its (last) send to its answer */
    uint64_t sent_us; /* wall clock of that send */
    unsigned retransmits, tries;
};

uint64_t wire_now_ns(void);

/* NULL, with a line on stderr, when there is no socket or no memory. */
struct wire *wire_open(const struct endpoint *gateway);
void wire_close(struct wire *w);
/* How long an answer is waited for, and how often a request is sent; 1 s and 5 times at first. */
void wire_patience(struct wire *w, unsigned answer_wait_ms, unsigned tries);

/* IKE_SA_INIT with new SPIs. What it makes lives until wire_forget. */
bool wire_init(struct wire *w, const struct wire_login *login);
/* IKE_AUTH after it, with this or another login; true when IKE SA and Child SA are up. */
bool wire_auth(struct wire *w, const struct wire_login *login);
/* Forgets the SA on this side; the gateway is not told. */
void wire_forget(struct wire *w);

#endif
