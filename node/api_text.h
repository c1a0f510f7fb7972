/* How values look in JSON (DESIGN §8, "Values in JSON"). Pure; any thread. */
#ifndef NODE_API_TEXT_H
#define NODE_API_TEXT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/net.h"
#include "proto/record.h"
#include "sync/sync.h"

enum { TIME_TEXT = 40, SPI_TEXT = 19, HEX_TEXT = 65, FINGERPRINT_TEXT = 17 };

/* RFC 3339, UTC: "2026-01-02T03:04:05.678Z". Returns out. */
char *time_format_ms(int64_t wall_ms, char out[TIME_TEXT]);
/* The same with microseconds; us is the part below wall_ms, 0-999. */
char *time_format_us(int64_t wall_ms, uint32_t us, char out[TIME_TEXT]);

char *ike_spi_format(uint64_t spi, char out[SPI_TEXT]);               /* "0x" and 16 hex digits */
char *esp_spi_format(uint32_t spi, char out[SPI_TEXT]);               /* "0x" and 8 hex digits */
char *hex_format(const uint8_t *bytes, size_t n, char out[HEX_TEXT]); /* n <= 32 */

/* A string of any bytes: what is not UTF-8 becomes '?'. NULL when out of memory. */
json_t *json_text(const char *text);
json_t *json_time(int64_t wall_ms);
json_t *json_counter(uint64_t n);
json_t *json_selectors(const struct selector_list *list);

const char *member_state_name(enum member_state state);

/* The key of fingerprints, from the cluster key. 0 or ERR_CRYPTO. */
int fingerprint_key(const struct secret *cluster_key, struct secret *out);
/* 16 hex digits that are equal on all nodes for equal keys and tell nothing of them: the
 * beginning of HMAC-SHA2-256(key, encr_in | integ_in | encr_out | integ_out). "" on failure. */
char *fingerprint_format(const struct secret *key, const struct child_record *sa,
                         char out[FINGERPRINT_TEXT]);

#endif
