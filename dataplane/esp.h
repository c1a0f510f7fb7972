/* ESP in tunnel mode (RFC 4303): the layout around the crypto. esp_wrap and
 * esp_unwrap prepare a job for the provider, esp_finish reads what it opened.
 * Pure functions over one packet; any thread. */
#ifndef DATAPLANE_ESP_H
#define DATAPLANE_ESP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataplane/packet.h"
#include "dataplane/provider.h"
#include "proto/suite.h"

/* The layout of a Child suite. 0; ERR_UNSUPPORTED when it is not one that we speak, or would
 * leave packets unauthenticated. `hash` is set unless the suite is an AEAD. */
int esp_suite_of(const struct suite *suite, struct esp_suite *out, enum hash_id *hash);

/* Are the keys as long as the suite wants them, the cipher's with its salt behind it? */
bool esp_keys_fit(const struct suite *suite, struct slice encr, struct slice integ);

/* The largest inner packet whose sealed form fits an outer IPv4 packet of `outer_mtu` octets. */
uint16_t esp_inner_mtu(const struct esp_suite *suite, bool udp_encap, uint16_t outer_mtu);

/* Puts ESP header, IV, padding and trailer around an inner packet (p->data becomes the ESP header,
 * room for the ICV included in p->n). `iv` is suite->iv_bytes octets. False: no room. */
bool esp_wrap(struct packet *p, const struct esp_suite *suite, uint32_t spi, uint32_t sequence,
              const uint8_t *iv, uint8_t next_header, struct crypto_job *job);

/* Checks the lengths of an arriving ESP packet. False: malformed. */
bool esp_unwrap(const struct packet *p, const struct esp_suite *suite, struct crypto_job *job);

/* After the job succeeded: checks the trailer and the padding (1, 2, 3, ...; RFC 4303 §2.4) and
 * leaves p with the payload, TFC padding included. False: malformed. */
bool esp_finish(struct packet *p, const struct esp_suite *suite, uint8_t *next_header);

#endif
