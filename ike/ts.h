/* Traffic selector payloads (RFC 7296 §3.13, §2.9). */
#ifndef IKE_TS_H
#define IKE_TS_H

#include "ike/message.h"
#include "proto/net.h"

/* ERR_INVALID: malformed. Selectors of unknown types are skipped; of more than
 * SELECTORS_MAX known ones the first are kept (narrowing allows that). */
int ts_parse(struct slice body, struct selector_list *out);
/* The parts of `offered` that lie within `allowed`, in the offer's order. False: none. */
bool ts_narrow(const struct selector_list *offered, const struct selector_list *allowed,
               struct selector_list *out);
void ts_write(struct chain *c, uint8_t payload_type, const struct selector_list *list);
/* "10.0.0.0/8, ..."; returns out. */
char *ts_describe(const struct selector_list *list, char *out, size_t n);

#endif
