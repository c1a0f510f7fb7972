/* The replicated facts. A record is what one node tells all others about an
 * SA: enough to carry its traffic and, for the IKE SA, to continue its
 * exchanges. Records join (sync/join.h); they hold no clock but not_after.
 *
 * Ownership: a record made by record_new or record_clone belongs to the
 * caller and is freed by record_free, which wipes it. Its memory is
 * secret_alloc's. Integers are host order; SPIs too. */
#ifndef PROTO_RECORD_H
#define PROTO_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/net.h"
#include "proto/secret.h"
#include "proto/suite.h"

enum { ID_BYTES = 16, RECORD_BLOB_MAX = 16384, SLOT_MAX = 1022, SLOT_ALL = 0xffff };

/* 128 bits: an incarnation, a lineage, a tunnel id. */
struct id128 {
    uint8_t b[ID_BYTES];
};
static inline bool id128_equal(const struct id128 *a, const struct id128 *b)
{
    return __builtin_memcmp(a->b, b->b, ID_BYTES) == 0;
}
bool id128_is_zero(const struct id128 *id);
enum { ID_TEXT = 33 };
char *id128_format(const struct id128 *id, char out[ID_TEXT]); /* 32 lower-case hex digits */
bool id128_parse(const char *text, struct id128 *out);         /* exactly 32 hex digits */

enum record_kind {
    RECORD_IKE = 1,
    RECORD_CHILD = 2,
    RECORD_ENDPOINT = 3,
    RECORD_LATER_FIRST = 8, /* kinds of newer versions: kept and relayed, not understood */
    RECORD_LATER_LAST = 31,
};
static inline bool record_is_later(uint8_t kind)
{
    return kind >= RECORD_LATER_FIRST && kind <= RECORD_LATER_LAST;
}
enum sa_state { SA_ABSENT = 0, SA_INSTALLED = 1, SA_DELETED = 2 }; /* only rises */

/* Fences the ownership of an IKE SA: the highest (number, slot, incarnation) wins. */
struct term {
    uint64_t number;
    uint16_t slot; /* the owner's */
    struct id128 incarnation;
};
int term_compare(const struct term *a, const struct term *b);

/* Heap bytes of a record, secret_alloc'ed. */
struct blob {
    uint8_t *p;
    uint32_t n;
};
int blob_set(struct blob *b, const void *bytes, size_t n);
void blob_free(struct blob *b);

enum { NAT_LOCAL = 1, NAT_PEER = 2 }; /* flags: who sits behind a NAT */

enum { IKE_GIVEN_UP_MAX = 8 };

struct ike_record { /* key: our SPI, with the sa's side in i_am_initiator */
    uint64_t spi_i, spi_r;
    bool i_am_initiator; /* of this IKE SA (only after a rekey that we began) */
    struct id128 tunnel_id;
    struct id128 lineage;
    struct term term;
    uint32_t revision; /* rises with every change within a term */
    uint8_t state;     /* enum sa_state */
    struct suite suite;
    struct secret sk_d, sk_ai, sk_ar, sk_ei, sk_er, sk_pi, sk_pr; /* sk_e*: key and salt */
    uint32_t next_in;              /* message ID of the peer's next request */
    uint32_t next_out;             /* message ID of our next request */
    uint8_t last_request_hash[32]; /* SHA2-256 of the peer's last request, or its first fragment */
    /* The exact bytes of our answer to it and of our outstanding request (empty: none): one IKE
     * message, or all fragments of one, one after the other. */
    struct blob last_response, our_request;
    struct blob our_request_state; /* what the engine must remember with it */
    struct endpoint local, peer;
    uint8_t nat;                      /* NAT_ flags */
    int64_t created_ms, not_after_ms; /* wall clock */
    uint32_t peer_id_type;
    struct blob peer_id;
    bool fragmentation; /* both sides announced RFC 7383 */
    /* The peer's SPIs of Child SAs that it gave up while nobody here knew them, the oldest first:
     * one that turns up later is deleted. */
    uint32_t given_up[IKE_GIVEN_UP_MAX];
    uint8_t n_given_up;
    bool lineage_over; /* deleted, and all Child SAs of the lineage with it; only rises */
};

struct child_record { /* key: spi_in */
    uint32_t spi_in;  /* allotted by us */
    uint32_t spi_out; /* allotted by the peer */
    struct id128 tunnel_id;
    struct id128 lineage;
    uint64_t ike_spi; /* our SPI of the IKE SA that made it */
    uint64_t ike_spi_r;
    struct suite suite;
    struct secret encr_in, encr_out;   /* key and salt */
    struct secret integ_in, integ_out; /* empty with an AEAD */
    bool udp_encap;
    struct endpoint local, peer; /* outer; ports are 0 without UDP encapsulation */
    uint8_t nat;
    struct selector_list ts_local, ts_remote;
    uint8_t state;         /* enum sa_state */
    bool confirmed;        /* the peer has it; only rises */
    uint32_t generation;   /* 0 for the first of a lineage, +1 at each rekey */
    uint32_t replaces_spi; /* spi_in of the SA that this one rekeys, or 0 */
    bool rekeyed;          /* a later one took over; only rises */
    uint16_t origin_slot;  /* the node that negotiated it */
    int64_t created_ms, not_after_ms;
};

struct endpoint_record { /* key: spi_in; where the peer moved to behind its NAT, instead of the
                            Child SA's `peer` */
    uint32_t spi_in;
    uint64_t move; /* rises */
    struct endpoint peer;
};

struct later_record { /* a kind of a newer version, by the fields that all such kinds share */
    uint64_t key, revision;
    int64_t not_after_ms;
    struct blob body; /* the message as it came, those fields included */
};

struct record {
    uint8_t kind;     /* enum record_kind */
    uint32_t version; /* of the layout, for rolling upgrades */
    /* Log position, set by sync/: who published this form, under which number. */
    struct id128 origin;
    uint16_t origin_slot;
    uint64_t seq;
    bool derived; /* a tombstone that follows from others; its position is its live form's */
    union {
        struct ike_record ike;
        struct child_record child;
        struct endpoint_record endpoint;
        struct later_record later;
    };
    struct blob unknown; /* fields of newer versions, kept for relay */
};

enum { RECORD_VERSION = 1 };

struct record *record_new(enum record_kind kind); /* zeroed; NULL when out of memory */
struct record *record_clone(const struct record *r);
void record_free(struct record *r);
/* Makes a tombstone of an IKE SA's or Child SA's record: deleted, no key left in it. */
void record_bury(struct record *r);

/* Our SPI, the key of an IKE record. */
static inline uint64_t ike_record_spi(const struct ike_record *r)
{
    return r->i_am_initiator ? r->spi_i : r->spi_r;
}

/* ESP SPI: slot 10 bits, random 22 bits, never below 256 (RFC 4303 §2.1). */
static inline uint16_t esp_spi_slot(uint32_t spi)
{
    return (uint16_t)(spi >> 22);
}

/* 64-bit explicit IV: slot 10 | epoch 18 | lane 4 | counter 32 (NIST SP 800-38D §8.2.1). */
enum { IV_LANE_IKE = 15, EPOCH_MAX = (1 << 18) - 1 };
static inline uint64_t iv_make(uint16_t slot, uint32_t epoch, uint8_t lane, uint32_t counter)
{
    return (uint64_t)slot << 54 | (uint64_t)(epoch & EPOCH_MAX) << 36 |
           (uint64_t)(lane & 15) << 32 | counter;
}

#endif
