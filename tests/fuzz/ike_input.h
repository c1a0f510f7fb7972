/* How the inputs of fuzz_ike_sk and fuzz_ike_message are laid out; make_ike_seeds.c writes such.
 *
 *   input = world 1 octet, op, op, ...     op = kind and flags 1 octet, argument 1 octet,
 *                                               length 2 octets, that many octets
 * A length beyond the end means what is left. */
#ifndef TESTS_FUZZ_IKE_INPUT_H
#define TESTS_FUZZ_IKE_INPUT_H

#include "tests/fuzz/ike_world.h"

enum { OPS_MAX = 8, OP_BODY_MAX = 4096 };

/* ---- the world's octet ---- */
enum {
    WORLD_CBC = 1,
    WORLD_BIG_PRF = 2,
    WORLD_NARROW = 4, /* and fragments */
    WORLD_NULL_OK = 8,
    WORLD_INITIATOR = 16,
    WORLD_HALF_OPEN = 32, /* sk: begins after IKE_SA_INIT; message: cookies are asked for */
    WORLD_CHILDREN = 64,  /* two preset Child SAs, or none; an older SA beside a half-open one */
    WORLD_LOG = 128,      /* all log lines are made and checked */
};

/* ---- the kinds of fuzz_ike_sk ---- */
enum sk_op {
    OP_REQUEST,  /* the body is a chain: sealed, sent as the peer's request */
    OP_RESPONSE, /* likewise, as the answer to our outstanding request */
    OP_TICK,     /* argument: how much time passes, bits 4 to 6: how often once more */
    OP_PLAIN,    /* the body is what stands in SK, padding included: sealed as a request */
    OP_RELEASE,  /* held jobs and commits are done */
    OP_AGAIN,    /* the last datagram once more */
    OP_RECORD,   /* another node changed an SA: argument */
    OP_RESTART,  /* the engine's SAs move to a new engine */
    OP_KINDS,
};
enum { /* beside the kind */
       OP_HOLD_JOBS = 8,
       OP_HOLD_COMMITS = 16,
       OP_BUILT = 32, /* see world_chain */
       OP_FAIL_JOBS = 64,
       OP_OLDEST_SA = 128,
};
enum { /* argument of OP_REQUEST, OP_RESPONSE, OP_PLAIN; bits 0 and 1 choose the exchange */
       ARG_GOOD_AUTH = 4, /* AUTH gets the value that the pre-shared key gives */
       ARG_NEXT_ID = 8,   /* message ID too high by one */
       ARG_NO_IV = 16,
       ARG_OTHER_PORT = 32,
       ARG_FRAGMENTS =
           64, /* sent in fragments of 200 octets; with OP_FAIL_JOBS without the first */
       ARG_BACKWARDS = 128, /* the last fragment first */
};

/* ---- fuzz_ike_message ---- */
enum {                     /* beside the kind, which is 0 */
       MSG_TICK = 8,       /* 31 s pass afterwards */
       MSG_HOLD_JOBS = 16, /* key pairs come with the next message */
       MSG_BUILT = 32,     /* body: version, exchange, flags, ID, then a chain; else a datagram */
       MSG_KNOWN_SA = 64,  /* the SPIs of the newest SA are written into it */
       MSG_OTHER_SOURCE = 128,
};
enum {                 /* argument */
       MSG_COOKIE = 1, /* N(COOKIE) of the last answer goes in front (built only) */
       MSG_NATD = 2,   /* N(NAT_DETECTION) get the hashes of the addresses, where there is room */
       MSG_LENGTH = 4, /* the length in the header is made right */
       MSG_NO_IV = 8,
       MSG_AGAIN = 16, /* sent twice */
       MSG_SPI_I = 32, /* another SPIi (built only) */
};

struct op {
    uint8_t kind, arg; /* kind: with its flags */
    struct slice body;
};
/* False: no more. */
static inline bool op_read(struct reader *r, struct op *out)
{
    size_t n;

    out->kind = read_u8(r);
    out->arg = read_u8(r);
    n = read_u16(r);
    if (n > r->left)
        n = r->left;
    if (n > OP_BODY_MAX)
        n = OP_BODY_MAX;
    out->body = read_slice(r, n);
    return !r->bad;
}

static inline struct world_options world_options_of(uint8_t octet)
{
    return (struct world_options){
        .cbc = octet & WORLD_CBC,
        .big_prf = octet & WORLD_BIG_PRF,
        .narrow = octet & WORLD_NARROW,
        .fragments = octet & WORLD_NARROW,
        .null_ok = octet & WORLD_NULL_OK,
        .initiator = octet & WORLD_INITIATOR,
        .children = octet & WORLD_CHILDREN ? 2 : 0,
    };
}

#endif
