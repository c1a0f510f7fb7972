/* The cluster key file: one or two lines `ID HEX64`, the first one sends.
 * ID is a decimal number below 2^32, or a name of up to 32 letters, digits, '-',
 * '_' and '.', which stands for the first 32 bits of its SHA2-256. HEX64 is 32
 * bytes in hex. Any thread. */
#ifndef NODE_KEYFILE_H
#define NODE_KEYFILE_H

#include <stddef.h>
#include <stdint.h>

#include "sync/sync.h"

struct keyfile_error {
    unsigned line, column; /* from 1 */
    const char *text;      /* what is wrong; remedy. Static */
};

enum { KEYFILE_LINE = 10 + 1 + 2 * CLUSTER_KEY_BYTES + 2 }; /* with newline and NUL */

/* 0 with *n (1 to CLUSTER_KEYS_MAX) keys, which the caller wipes; else ERR_CONFIG with *err
 * filled, *n 0 and no key left behind. An empty line is skipped. */
int keyfile_parse(const uint8_t *text, size_t len, struct cluster_key keys[CLUSTER_KEYS_MAX],
                  size_t *n, struct keyfile_error *err);

/* An id as the file has it, number or name: ERR_OK with *id, or ERR_CONFIG. */
int keyfile_id(const char *text, uint32_t *id);

/* One step of a rotation, on the text of a key file. */
enum keyfile_step {
    KEYFILE_ADD,  /* `line` (without newline) comes last: it is accepted */
    KEYFILE_USE,  /* the key with this id comes first: it sends */
    KEYFILE_DROP, /* the key with this id, which must not send, goes */
};
/* Writes the new text, at most len + line.n + 2 bytes. ERR_EXISTS: nothing is to be done; or
 * ERR_CONFIG: with *why, static. Bytes in `out` are key bytes: wipe it. */
int keyfile_rotate(const uint8_t *text, size_t len, enum keyfile_step step, uint32_t id,
                   struct slice line, uint8_t *out, size_t *n_out, const char **why);

/* A line of the file, with its newline. `out` holds key bytes: wipe it. */
void keyfile_line(uint32_t id, const uint8_t key[CLUSTER_KEY_BYTES], char out[KEYFILE_LINE]);

#endif
