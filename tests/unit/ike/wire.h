/* A wire message as one line for people, opened where the keys are known:
 *
 *   IKE_AUTH request 1, 284 octets: SK{IDi 65, AUTH 40, N(INITIAL_CONTACT), SA 44, TSi 24, TSr 24}
 */
#ifndef TESTS_UNIT_IKE_WIRE_H
#define TESTS_UNIT_IKE_WIRE_H

#include "ike/internal.h"

enum { WIRE_TEXT = 2048 };

/* keys: of the IKE SA that the message belongs to, or NULL. Returns out. */
char *wire_line(struct slice message, const struct ike_record *keys, char out[WIRE_TEXT]);

#endif
