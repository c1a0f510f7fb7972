/* Key derivation and the protection of messages (RFC 7296 §2.13-2.17, §3.14; RFC 5282). */
#ifndef IKE_KEYS_H
#define IKE_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ike/message.h"
#include "proto/env.h"
#include "proto/record.h"

/* SKEYSEED and the seven SK_ keys into the record. `shared` is g^ir. `old` is the IKE SA
 * that this one rekeys (RFC 7296 §2.18), or NULL. */
int keys_derive_ike(struct ike_record *sa, const struct ike_record *old, struct slice nonce_i,
                    struct slice nonce_r, struct slice shared);
/* KEYMAT into the record's four keys; `shared` is empty without PFS. With
 * `peer_began` the peer's initiator-to-responder keys are our inbound ones. */
int keys_derive_child(const struct ike_record *sa, struct slice nonce_i, struct slice nonce_r,
                      struct slice shared, bool peer_began, struct child_record *child);

/* The AUTH value of a pre-shared key: prf(prf(psk, pad), message | nonce | prf(sk_p, id)).
 * `id` is the ID payload's body. out gets the PRF's length, *n tells it. */
int keys_auth_psk(const struct ike_record *sa, struct slice psk, struct slice message,
                  struct slice nonce, const struct secret *sk_p, struct slice id,
                  uint8_t out[HASH_MAX], size_t *n);

/* Opens the SK or SKF payload of m, which must be its last; the plaintext payload chain goes to
 * `plain` (at least raw.n bytes), its length to *n. from_initiator chooses the keys.
 * ERR_AUTH when it is forged, ERR_INVALID when malformed. */
int sk_open(const struct ike_record *sa, const struct message *m, bool from_initiator,
            uint8_t *plain, size_t *n);

/* Builds a whole protected message around the chain of `inner`. `iv` is the next counter
 * IV for AES-GCM; CBC draws its own. *n gets the message's length. ERR_FULL, ERR_CRYPTO. */
int sk_seal(const struct ike_record *sa, bool as_initiator, uint8_t exchange, uint8_t flags,
            uint32_t id, const struct chain *inner, uint64_t iv, const struct rng *rng,
            uint8_t *out, size_t cap, size_t *n);

/* The same for one fragment (RFC 7383 §2.5): octets `piece` of the chain, the type of the first
 * payload (in fragment 1; else 0), and which of how many, from 1. */
struct fragment {
    uint8_t first;
    struct slice piece;
    uint16_t number, total;
};
int skf_seal(const struct ike_record *sa, bool as_initiator, uint8_t exchange, uint8_t flags,
             uint32_t id, const struct fragment *f, uint64_t iv, const struct rng *rng,
             uint8_t *out, size_t cap, size_t *n);

/* How many octets of a payload chain fit into a fragment of `message_n` octets. 0: none. */
size_t skf_room(const struct ike_record *sa, bool as_initiator, size_t message_n);

#endif
