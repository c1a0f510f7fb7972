/* The surroundings of one engine under a fuzzer: clock, random bytes, one tunnel,
 * and a node that carries out the engine's actions and checks each of them. A
 * world is made and torn down in every run, so that a run depends on its input
 * alone; crypto is fake_crypto.c. What a check finds wrong ends in abort(). */
#ifndef TESTS_FUZZ_IKE_WORLD_H
#define TESTS_FUZZ_IKE_WORLD_H

#include "ike/internal.h"

enum {
    WORLD_SLOT = 5,
    WORLD_HELD_MAX = 8,           /* jobs or commits that are kept back */
    WORLD_CHILD_SPI = 0x11223300, /* the peer's SPI of the first preset Child SA */
};
#define WORLD_SPI_I 0x0102030405060708ULL /* the peer's SPI */

/* What is different from one world to the next. */
struct world_options {
    bool cbc;       /* IKE SAs under AES-CBC and HMAC, not AES-GCM */
    bool big_prf;   /* SHA2-512 and group 5, not SHA2-256 and group 14 */
    bool narrow;    /* the tunnel's traffic selectors are bounded */
    bool null_ok;   /* the tunnel allows NULL encryption */
    bool initiator; /* preset IKE SA: a rekey that we began */
    bool fragments; /* the peer takes fragments (RFC 7383); ours are of 300 octets */
    bool always_cookie;
    unsigned children; /* of the preset IKE SA */
};

struct world {
    struct world_options options;
    struct ike_engine *engine;
    struct ike_tunnel tunnel;
    struct now now;
    uint64_t random, next_iv;
    struct endpoint local, peer;

    /* How actions are carried out at the moment. */
    bool hold_jobs, hold_commits; /* their answers come with world_release */
    bool fail_jobs, no_iv;
    struct ike_job *jobs[WORLD_HELD_MAX];
    uint64_t commits[WORLD_HELD_MAX];
    size_t n_jobs, n_commits;

    /* What the engine said. */
    size_t sent_bytes; /* since the caller set it to 0 */
    uint8_t last[IKE_MESSAGE_MAX];
    size_t last_n;
};

/* Ends the run as a finding when `ok` does not hold. */
#define REQUIRE(ok)                                                                                \
    do {                                                                                           \
        if (!(ok))                                                                                 \
            world_broken(#ok, __FILE__, __LINE__);                                                 \
    } while (0)
_Noreturn void world_broken(const char *what, const char *file, int line);

extern const char world_psk[], world_id[];

void world_open(struct world *w, const struct world_options *options);
void world_close(struct world *w);
/* An established IKE SA with its children, as after a restart. */
void world_preset(struct world *w);
/* The engine goes, a new one takes up its established SAs, as after a restart. */
void world_restart(struct world *w);

void world_datagram(struct world *w, struct slice bytes);
void world_tick(struct world *w, uint64_t advance_us);
void world_record(struct world *w, const struct record *r);
void world_release(struct world *w); /* jobs and commits that were held */

/* An SA of the engine: the newest, or the oldest; NULL: none. */
struct ike_sa *world_sa(const struct world *w, bool oldest);

/* Payloads from a fuzzer's bytes. Raw: the chain as it stands, the first octet is the type of
 * the first payload. Built: (type, length 2 octets, body) over and over, the headers are ours;
 * 0x8000 in the length sets the critical bit. */
void world_chain(struct chain *c, struct slice input, bool built);
/* A well-formed IKE_SA_INIT request of a world's suite into `out` of n octets; its length. */
size_t world_init_request(const struct world_options *o, uint8_t *out, size_t n);
void world_write_offer(struct chain *c, const struct suite *s, uint8_t protocol, uint64_t spi);
struct suite world_ike_suite(const struct world_options *o);

#endif
