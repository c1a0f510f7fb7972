/* SA payloads: reading offers, choosing one, writing the answer (RFC 7296 §3.3, §2.7). */
#ifndef IKE_PROPOSAL_H
#define IKE_PROPOSAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ike/message.h"
#include "proto/suite.h"

struct choice {
    uint8_t number; /* of the proposal, echoed */
    struct suite suite;
    uint32_t peer_spi;     /* ESP only */
    uint64_t peer_ike_spi; /* IKE rekey only */
    bool echo_esn;         /* the offer had an ESN transform, so the answer has one */
};

/* What an IKE or Child SA may use here. */
struct choice_rules {
    uint8_t protocol;  /* PROTOCOL_IKE or PROTOCOL_ESP */
    bool ike_rekey;    /* IKE proposals carry the new SPI (RFC 7296 §3.3.1) */
    bool allow_null;   /* ENCR_NULL, where the tunnel opted in */
    uint16_t ke_group; /* the group of the KE payload, 0 none: preferred where it is offered */
    bool ignore_dh;    /* ESP in IKE_AUTH: a DH transform says nothing there (RFC 7296 §1.2) */
};

/* The first acceptable proposal, in the initiator's order. 0; ERR_INVALID: malformed;
 * ERR_UNSUPPORTED: nothing acceptable. */
int proposal_choose(struct slice sa_payload, const struct choice_rules *rules, struct choice *out);
/* The SA payload of the answer. our_spi goes into spi_n octets: 4 for ESP, 8
 * when an IKE SA is rekeyed, 0 in IKE_SA_INIT. */
void proposal_write(struct chain *c, const struct choice *choice, uint8_t protocol,
                    uint64_t our_spi, uint8_t spi_n);
/* An SA payload of several proposals, in order of preference. */
void proposal_write_offers(struct chain *c, const struct choice *offers, size_t n, uint8_t protocol,
                           uint64_t our_spi, uint8_t spi_n);
/* What the peer offered, for people: "aes256gcm16-prfsha256-modp2048, ...". Returns out. */
char *proposal_describe(struct slice sa_payload, char *out, size_t n);
/* What this side accepts, for people. */
char *proposal_describe_rules(const struct choice_rules *rules, char *out, size_t n);

#endif
