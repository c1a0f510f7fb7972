/* IKE messages as bytes: parsing a header and a chain of payloads, and building
 * them (RFC 7296 §3.1, §3.2). Everything parsed points into the caller's bytes. */
#ifndef IKE_MESSAGE_H
#define IKE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/cursor.h"
#include "proto/wire_ikev2.h"

struct payload {
    uint8_t type;
    uint8_t next; /* of an SK payload: the type of the first payload inside */
    struct slice body;
};

struct message {
    uint64_t spi_i, spi_r;
    uint8_t first, version, exchange, flags;
    uint32_t id;
    struct slice raw; /* the whole message */
    struct payload payloads[IKE_PAYLOADS_MAX];
    size_t n;
    uint8_t bad_critical; /* the unknown critical payload that made parsing fail */
};

/* ERR_TRUNCATED or ERR_INVALID; the length field must be the datagram's. */
int message_parse_header(struct slice datagram, struct message *out);
/* Appends the chain that begins with payload type `first` to m. Ends at SK.
 * ERR_INVALID: malformed. ERR_UNSUPPORTED: unknown critical payload, see bad_critical. */
int message_parse_chain(struct message *m, uint8_t first, struct slice bytes);
/* Header and outer chain in one. */
int message_parse(struct slice datagram, struct message *out);
/* Cuts the next message off a run of messages; its header tells the length. False: none is left,
 * or the rest is malformed. */
bool message_next(struct slice *run, struct message *out);
/* The first payload of a type, or NULL. */
const struct payload *message_find(const struct message *m, uint8_t type);

struct notify {
    uint8_t protocol;
    struct slice spi;
    uint16_t type;
    struct slice data;
};
bool notify_parse(struct slice body, struct notify *out);
/* The first notify of a type; false if there is none (or it is malformed). */
bool message_find_notify(const struct message *m, uint16_t type, struct notify *out);

/* A chain under construction: each payload writes its type into the one before. */
struct chain {
    struct writer w;
    uint8_t first;  /* type of the first payload */
    size_t last_at; /* offset of the payload in progress */
    bool open, any;
};

void chain_begin(struct chain *c, void *bytes, size_t cap);
void chain_open(struct chain *c, uint8_t type);
void chain_close(struct chain *c); /* patches the length; chain_open does it, too */
void chain_notify(struct chain *c, uint8_t protocol, struct slice spi, uint16_t type,
                  struct slice data);

/* Writes an IKE header; the length is patched by message_finish. */
void message_header(struct writer *w, uint64_t spi_i, uint64_t spi_r, uint8_t first,
                    uint8_t exchange, uint8_t flags, uint32_t id);
void message_finish(struct writer *w);

#endif
