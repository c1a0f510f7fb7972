#include "proto/codec_pb.h"

enum {
    FIRST_CHUNK_BYTES = 2 * 1024, /* most records; all of a chunk is wiped in the end */
    SECOND_CHUNK_BYTES = 8 * 1024,
    CHUNK_BYTES = 128 * 1024, /* secret_alloc's largest */
    PIECE_ALIGN = 16,
};

struct arena_chunk {
    struct arena_chunk *next;
    size_t bytes; /* header included */
};

struct arena arena_of(size_t budget)
{
    return (struct arena){.budget_left = budget};
}

static int add_chunk(struct arena *a, size_t at_least)
{
    size_t header = (sizeof(struct arena_chunk) + PIECE_ALIGN - 1) & ~(size_t)(PIECE_ALIGN - 1);
    size_t bytes = FIRST_CHUNK_BYTES;
    struct arena_chunk *c;

    if (a->chunks)
        bytes = a->chunks->next ? CHUNK_BYTES : SECOND_CHUNK_BYTES;
    if (at_least > CHUNK_BYTES - header)
        return 1;
    if (at_least > SECOND_CHUNK_BYTES - header)
        bytes = CHUNK_BYTES;
    else if (at_least > bytes - header)
        bytes = SECOND_CHUNK_BYTES;
    if (bytes > a->budget_left)
        return 1;
    c = secret_alloc(bytes);
    if (!c)
        return 1;
    *c = (struct arena_chunk){a->chunks, bytes};
    a->chunks = c;
    a->budget_left -= bytes;
    a->chunk_left = bytes - header;
    return 0;
}

void *arena_alloc(struct arena *a, size_t n)
{
    uint8_t *piece;

    if (n > CHUNK_BYTES)
        return NULL;
    n = n ? (n + PIECE_ALIGN - 1) & ~(size_t)(PIECE_ALIGN - 1) : PIECE_ALIGN;
    if (n > a->chunk_left && add_chunk(a, n) != 0)
        return NULL;
    piece = (uint8_t *)a->chunks + a->chunks->bytes - a->chunk_left;
    a->chunk_left -= n;
    return piece;
}

void arena_free(struct arena *a)
{
    struct arena_chunk *c = a->chunks;

    while (c) {
        struct arena_chunk *next = c->next;
        secret_free(c, c->bytes);
        c = next;
    }
    *a = (struct arena){0};
}

static void *allocator_alloc(void *arena, size_t n)
{
    return arena_alloc(arena, n);
}

static void allocator_free(void *arena, void *piece)
{
    (void)arena;
    (void)piece; /* arena_free takes all at once */
}

ProtobufCAllocator arena_allocator(struct arena *a)
{
    return (ProtobufCAllocator){allocator_alloc, allocator_free, a};
}
