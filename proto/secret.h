/* Key material. Bytes that must never be printed, logged, shown or swapped
 * live in a struct secret and nowhere else. There is no printer on purpose.
 * A stack copy is wiped by its function; a heap copy comes from secret_alloc. */
#ifndef PROTO_SECRET_H
#define PROTO_SECRET_H

#include <stddef.h>
#include <stdint.h>

#include "proto/cursor.h"

enum { SECRET_MAX = 64 }; /* the longest key we hold: an HMAC-SHA2-512 PRF key */

struct secret {
    uint8_t n; /* bytes used */
    uint8_t b[SECRET_MAX];
};

/* 0, or ERR_FULL when n > SECRET_MAX (the secret is then empty). */
int secret_set(struct secret *s, const void *bytes, size_t n);
void secret_wipe(struct secret *s);
static inline struct slice secret_slice(const struct secret *s)
{
    return (struct slice){s->b, s->n};
}
/* Wipes any memory so that the compiler cannot drop it. */
void wipe(void *bytes, size_t n);

/* Under AddressSanitizer each secret is an allocation of its own, so that overruns, uses after
 * free and leaks show; otherwise they come from locked pages. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SECRET_POOLED 0
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define SECRET_POOLED 0
#endif
#ifndef SECRET_POOLED
#define SECRET_POOLED 1
#endif

/* Zeroed heap memory kept out of swap and core dumps where the system allows it.
 * NULL when out of memory. secret_free wipes; NULL is fine. Any thread. */
void *secret_alloc(size_t n);
void secret_free(void *bytes, size_t n);

/* The same for libraries that take an allocator in the manner of malloc: any size, aligned to
 * 16 bytes, the size remembered. Freeing and moving wipe. */
void *secret_malloc(size_t n);
void *secret_realloc(void *bytes, size_t n);
void secret_release(void *bytes);

/* Page runs that hold secrets now. */
struct secret_memory {
    size_t locked_bytes, unlocked_bytes;
};
struct secret_memory secret_memory(void);

/* Once at start, before the first secret: no core dumps, not traceable by others, as much
 * locked memory as we may have. 0 or ERR_IO. */
int secret_harden_process(void);

#endif
