/* Records as a newer version would write them: octets that today's encoder cannot make. */
#ifndef TESTS_SYNC_NEWER_H
#define TESTS_SYNC_NEWER_H

#include "proto/record.h"

/* Gives a record fields that nobody here knows, in itself and in its body, by way of its encoding.
 * Takes r. Numbers from 32 on; NULL texts: none. */
struct record *newer_fields(struct record *r, uint32_t number, const char *outer,
                            const char *inner);
enum { NEWER_KIND = 9 };
/* A record of a kind to come, with something of its own in it; text shorter than 100. */
struct record *newer_kind(uint64_t key, uint64_t revision, int64_t not_after_ms, const char *text);
/* Is `text` among the octets of its encoding? */
bool newer_holds(const struct record *r, const char *text);

#endif
