/* Carries the core's sealed frames between members. Two of them exist: nng
 * (PUB/SUB on the member's port, REQ/REP on port + 1) and one in memory for
 * tests; one conformance suite runs against both.
 *
 * Threads: the library's threads only enqueue and call `wake`, or make `fd` readable; the owner
 * then calls poll on the loop thread, which delivers what came. Sends may be called
 * on the loop thread only and never block; PUB drops what a slow peer does not
 * take, and the core repairs that. A request may come twice. */
#ifndef SYNC_TRANSPORT_H
#define SYNC_TRANSPORT_H

#include <stddef.h>
#include <stdint.h>

#include "proto/cursor.h"
#include "proto/net.h"
#include "proto/record.h"

enum { TRANSPORT_FRAME_MAX = 1 << 20 }; /* bytes; larger frames are refused */

struct transport_peer {
    uint16_t slot;
    char host[256]; /* name or address */
    uint16_t port;  /* PUB here, REP on port + 1 */
};

enum transport_kind { TRANSPORT_FRAME, TRANSPORT_REQUEST, TRANSPORT_REPLY };

/* Bytes are borrowed for the call. FRAME: from SUB. REQUEST: id is for reply().
 * REPLY: id is request()'s; bytes.n == 0 when it failed or timed out. */
typedef void transport_deliver_fn(void *ctx, enum transport_kind kind, uint64_t id,
                                  struct slice bytes);

struct transport {
    const struct transport_ops *ops;
    /* Readable as long as frames wait for poll; -1: `wake` tells of them as well. A frame that is
     * taken by the loop itself is there sooner than one that another thread hands over. */
    int fd;
};
struct transport_ops {
    /* To the member of that slot, or to all (SLOT_ALL). What is for all comes in order, between any
     * two members; what is for one may overtake. */
    int (*publish)(struct transport *t, uint16_t to_slot, struct slice bytes);
    int (*request)(struct transport *t, uint16_t slot, uint64_t id, struct slice bytes);
    int (*reply)(struct transport *t, uint64_t id, struct slice bytes);
    void (*poll)(struct transport *t, transport_deliver_fn *deliver, void *ctx);
    void (*close)(struct transport *t); /* frees; may leave sockets to process exit */
    /* Other peers from now on: dials those that are new, and drops those that are not among them.
     * ERR_FULL, ERR_IO or ERR_NOMEM: some are not dialled. */
    int (*set_peers)(struct transport *t, const struct transport_peer *others, size_t n);
};

/* Starts nng's threads, which inherit what the calling one may do. ERR_OK or ERR_NOMEM. */
int transport_nng_prepare(void);
/* Listens on `self` and dials every other peer; reconnects for ever. `wake` may be called
 * on any thread. 0 with *out, or ERR_IO with a log line that names the address. */
int transport_nng_open(const struct transport_peer *self, const struct transport_peer *others,
                       size_t n_others, void (*wake)(void *ctx), void *wake_ctx,
                       struct transport **out);

/* A hub joins any number of in-memory transports of one process. */
struct memory_hub;
struct memory_hub *memory_hub_new(void);
void memory_hub_free(struct memory_hub *hub);
struct transport *transport_memory_open(struct memory_hub *hub, uint16_t slot,
                                        void (*wake)(void *ctx), void *wake_ctx);

#endif
