/* Records and mesh messages to bytes and back (proto/sync.proto by protobuf-c,
 * which nothing outside codec*.c sees).
 *
 * Decoding never trusts: the size is capped before unpacking, the memory that
 * unpacking may take is bounded, then every length, range and enumeration is
 * checked, and the unpacked copy, which holds keys, lies in secret_alloc's
 * memory and is wiped. A decoder returns 0 and fills *out, or an ERR_ code and
 * leaves *out empty; on success the caller owns what *out points to and gives
 * it back to the matching _free. An encoder only reads its argument.
 *
 * Encoded bytes may hold keys in the clear: callers keep them in secret_alloc's
 * memory, or wipe them. Any thread. */
#ifndef PROTO_CODEC_H
#define PROTO_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/cursor.h"
#include "proto/net.h"
#include "proto/record.h"

enum {
    CODEC_MESSAGE_MAX =
        128 * 1024 - 512, /* bytes of one message; a sealed frame stays below 128 KiB */
    /* An Announce with as many of both as there may be, and an epoch of every slot, fits. */
    CODEC_POSITIONS_MAX = 1800, /* entries of a vector: origins, those of earlier lives too */
    CODEC_HEARD_MAX = 1200,     /* entries of Announce.heard: members, and some candidates */
    CODEC_GROUP_MAX = 1024,     /* records of one exchange */
    CODEC_TEXT_MAX = 64,        /* bytes of a name, terminator included */
    CODEC_DATAGRAM_MAX = 65535,
};

/* ---- one record ---- */

/* Are all its fields within what peers accept? 0, or ERR_INVALID. */
int codec_record_check(const struct record *r);
/* Bytes that it takes, its log position included. */
size_t codec_record_size(const struct record *r);
/* ERR_FULL when it does not fit in cap. *n gets the size. */
int codec_record_encode(const struct record *r, uint8_t *out, size_t cap, size_t *n);
/* *out: record_free. */
int codec_record_decode(struct slice bytes, struct record **out);

/* Of the unknown fields of two forms of one record: each field that either has, and where they
 * differ the larger value, so that order and repetition make no difference. ERR_NOMEM. */
int codec_unknown_join(const struct blob *a, const struct blob *b, struct blob *out);

/* ---- messages ---- */

struct log_position {
    struct id128 origin; /* an incarnation */
    uint16_t slot;
    uint64_t seq;
};

struct codec_update {
    struct id128 origin;
    uint64_t first_seq;
    /* Records in log order; decoded ones have their position filled in except origin_slot. NULL
     * stands for one of a kind that cannot be kept. */
    struct record **records;
    size_t n_records;
    uint32_t *group_sizes; /* how many records each group has; they sum to n_records */
    size_t n_groups;
};

struct codec_heard {
    struct id128 incarnation;
    uint32_t age_ms; /* since its last frame */
    uint16_t slot;
    bool believed;
    uint64_t number; /* the highest of its frames heard: this was said after it was made */
    uint32_t epoch;  /* granted to it, as far as known */
    bool rival;      /* not believed (any more), but alive */
};

struct codec_epoch {
    uint16_t slot;
    uint32_t epoch;
};

enum { CODEC_KEYS_MAX = 3 };
struct codec_key { /* a cluster key, as others may see it */
    uint32_t id, check;
};

/* The end of year 9999. */
#define CODEC_WALL_MS_MAX INT64_C(253402300799999)

struct codec_announce {
    uint8_t state; /* 0..CODEC_STATE_MAX, enum member_state */
    uint64_t head;
    struct log_position *applied;
    size_t n_applied;
    struct codec_heard *heard;
    size_t n_heard;
    uint32_t epoch;
    struct codec_epoch *epochs;
    size_t n_epochs;
    char name[CODEC_TEXT_MAX], version[CODEC_TEXT_MAX]; /* printable ASCII */
    uint64_t ike_sas, child_sas;
    uint8_t sa_digest[32];
    bool tells_epochs; /* epochs is the whole table */
    bool sure;
    uint16_t *sure_of; /* slots; where not sure of all */
    size_t n_sure_of;
    struct codec_key
        keys[CODEC_KEYS_MAX]; /* that it opens frames under; it seals under the first */
    size_t n_keys;            /* 0: an older version, which does not tell */
    uint64_t members;         /* digest of its member list; 0: likewise */
    int64_t wall_ms;          /* its own wall clock, 0..CODEC_WALL_MS_MAX; 0: likewise */
};

struct codec_claim {
    uint32_t epoch, round;
    uint64_t members;
};

struct codec_witness {
    struct id128 incarnation;
    uint16_t slot;
};

enum { CODEC_VERDICT_MAX = 5 };

struct codec_ballot {
    struct id128 claimant;
    uint32_t epoch, round, seen;
    uint8_t verdict; /* 1..CODEC_VERDICT_MAX, enum grant_verdict */
};

struct codec_vote {
    struct codec_ballot *ballots; /* one for each claimant, at least one */
    size_t n_ballots;
    struct codec_witness *witnesses;
    size_t n_witnesses;
};
enum {
    CODEC_STATE_MAX = 4,
    CODEC_STATE_NEWER = 3 /* stands for a state of a newer version: degraded */
};

struct codec_forward {
    struct endpoint local, peer;
    uint8_t *datagram;
    size_t n_datagram;
};

struct codec_moved {
    uint32_t spi_in;
    struct endpoint peer; /* with a port */
};

enum { CODEC_ACTIVITY_MAX = 1024 };

struct codec_activity {
    uint64_t round;
    bool answer;
    size_t n; /* at most CODEC_ACTIVITY_MAX */
    uint32_t *spi_in;
    uint32_t *age_ms; /* answers alone, else NULL */
};

struct codec_pull_request {
    struct id128 to_incarnation;
    uint64_t nonce;
    uint64_t snapshot;
    uint64_t cursor;
    struct log_position *vector;
    size_t n_vector;
    uint64_t heard; /* the highest frame number heard of whom it asks */
};

struct codec_pull_reply {
    uint64_t snapshot;
    struct record **records; /* with their positions; NULL as in an update */
    size_t n_records;
    uint64_t next_cursor;
    bool more;
    bool expired;
    struct log_position *vector;
    size_t n_vector;
};

/* A message is one byte that tells its kind, then its protobuf form. */
enum codec_kind {
    CODEC_UPDATE = 1,
    CODEC_ANNOUNCE = 2,
    CODEC_FORWARD = 3,
    CODEC_PULL_REQUEST = 4,
    CODEC_PULL_REPLY = 5,
    CODEC_MOVED = 6,
    CODEC_ACTIVITY = 7,
    CODEC_CLAIM = 8,
    CODEC_VOTE = 9,
};

struct codec_message {
    enum codec_kind kind;
    union {
        struct codec_update update;
        struct codec_announce announce;
        struct codec_forward forward;
        struct codec_moved moved;
        struct codec_activity activity;
        struct codec_claim claim;
        struct codec_vote vote;
        struct codec_pull_request pull_request;
        struct codec_pull_reply pull_reply;
    };
};

/* ERR_FULL when it does not fit in cap (or CODEC_MESSAGE_MAX). *n gets the size. */
int codec_encode(const struct codec_message *m, uint8_t *out, size_t cap, size_t *n);
/* ERR_UNSUPPORTED: a kind of message of a newer version. */
int codec_decode(struct slice bytes, struct codec_message *out);
/* Frees what codec_decode allocated: records too, unless the caller set n_records to 0 or
 * took some and left NULL in their places. */
void codec_message_free(struct codec_message *m);

#endif
