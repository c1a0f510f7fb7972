/* One engine on a stage where nothing is left to chance: random bytes come from a seed, IVs are
 * counted, the clock is what each event says. Every event and every action of the engine is a line
 * of text, so that a recorded history can be compared with a repeated one:
 *
 *   set KEY VALUE                        how the stage is set up
 *   tick MONO_US WALL_MS
 *   in MONO_US WALL_MS LOCAL PEER HEX    a datagram from the peer
 *   job MONO_US WALL_MS HEX|-            the oldest job is done; HEX: the private key it made
 *   commit MONO_US WALL_MS               the oldest COMMIT has passed the barrier
 *
 * and below each event, indented, what the engine wants:
 *
 *     send LOCAL PEER HEX
 *     commit KIND STATE, ...
 *     job
 *     failure REASON
 */
#ifndef TESTS_VECTORS_IKE_STAGE_H
#define TESTS_VECTORS_IKE_STAGE_H

#include "ike/internal.h"

enum { STAGE_QUEUE = 64, STAGE_WANTS = 48, STAGE_LINE = 2 * IKE_MESSAGE_MAX + 256 };

struct stage {
    struct ike_engine *engine;
    struct ike_config config;
    struct ike_tunnel tunnel;
    char psk[64];
    uint64_t seed, drawn; /* random bytes: SHA2-256 of seed and counter */
    uint64_t next_iv;
    unsigned refills;
    struct ike_job *jobs[STAGE_QUEUE]; /* oldest first */
    uint64_t commits[STAGE_QUEUE];
    size_t n_jobs, n_commits;
    char *wants[STAGE_WANTS]; /* the lines of the last event's actions */
    size_t n_wants;
    void (*send)(void *ctx, const struct endpoint *local, const struct endpoint *peer,
                 struct slice bytes); /* or NULL */
    void *send_ctx;
};

void stage_begin(struct stage *s);
/* A `set` line; false: unknown or malformed. Only before stage_open. */
bool stage_set(struct stage *s, const char *key, const char *value);
bool stage_open(struct stage *s);
void stage_close(struct stage *s);

void stage_tick(struct stage *s, struct now now);
void stage_in(struct stage *s, struct now now, const struct endpoint *local,
              const struct endpoint *peer, struct slice bytes);
/* Runs the oldest job. With `made`, its key pair is this private key; without, the job makes its
 * own, whose private key goes to `out` (*n is 0 when it made none). */
void stage_job(struct stage *s, struct now now, struct slice made, uint8_t out[DH_PRIVATE_MAX],
               size_t *n);
void stage_commit(struct stage *s, struct now now);

char *hex_format(struct slice bytes, char *out); /* out: 2n + 1 */
bool hex_parse(const char *text, uint8_t *out, size_t cap, size_t *n);

#endif
