/* Records to test with: well-formed, different where they must be, and with recognisable
 * key bytes. Shared by the unit, conformance and fuzz tests of sync/. */
#ifndef TESTS_SAMPLES_H
#define TESTS_SAMPLES_H

#include "proto/record.h"
#include "sync/sync.h"

/* Wall-clock times of sample records; far enough ahead of any test's now. */
#define SAMPLE_NOW_MS INT64_C(1700000000000)
#define SAMPLE_NOT_AFTER_MS INT64_C(4000000000000)

/* What no file, log or frame may show: every sample key consists of this, repeated. */
#define SAMPLE_CANARY "CanaryKey"

struct id128 sample_id(uint32_t n);
struct cluster_key sample_cluster_key(uint32_t id);
/* An IKE SA under our SPI spi_r, of lineage sample_id(lineage), AES-256-GCM. */
struct record *sample_ike(uint64_t spi_r, uint32_t lineage);
/* A Child SA of that lineage, UDP-encapsulated, AES-128-CBC with HMAC-SHA2-256-128. */
struct record *sample_child(uint32_t spi_in, uint32_t lineage);
struct record *sample_endpoint(uint32_t spi_in, uint64_t move);
/* Gives it a log position. */
struct record *sample_at(struct record *r, uint32_t origin, uint16_t slot, uint64_t seq);

#endif
