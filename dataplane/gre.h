/* GRE (RFC 2784) with the key of RFC 2890. Pure functions; any thread. */
#ifndef DATAPLANE_GRE_H
#define DATAPLANE_GRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataplane/dataplane.h"

struct gre {
    uint32_t header_bytes;
    uint16_t payload; /* Ethertype */
    bool has_key;
    uint32_t key;
};

/* Reads the header in front of a payload, the checksum (RFC 2784 §2.3) included. DROP_COUNT when
 * fine, else why the packet must not pass. A sequence number (RFC 2890 §2.2) is skipped: it is
 * the sender's to use, and every node would see another part of the sequence. */
enum dp_drop gre_parse(const uint8_t *p, size_t n, struct gre *out);

/* Writes a header at `out` (room for 8 octets) and returns its length. */
size_t gre_write(uint8_t *out, bool has_key, uint32_t key, uint8_t inner_version);
size_t gre_header_bytes(bool has_key);

#endif
