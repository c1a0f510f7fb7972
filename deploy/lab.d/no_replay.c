/* Lets a strongSwan customer run without anti-replay protection.
 *
 * Gateways that send one SA's packets from many nodes ask their customers to turn
 * anti-replay off. strongSwan's user-space ESP has a window of 128 packets and no
 * option for it, so this library, preloaded into charon, wraps the one function
 * that makes an ESP context and lets every sequence number pass. Integrity is
 * still verified for each packet.
 *
 * The layouts below restate strongSwan's public interface (libipsec/esp_context.h
 * and libstrongswan's chunk_t), which is what the call passes by value.
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct chunk {
    uint8_t *ptr;
    size_t len;
};

struct esp_context {
    void *(*get_aead)(struct esp_context *);
    uint32_t (*get_seqno)(struct esp_context *);
    bool (*next_seqno)(struct esp_context *, uint32_t *);
    bool (*verify_seqno)(struct esp_context *, uint32_t);
    void (*set_authenticated_seqno)(struct esp_context *, uint32_t);
    void (*destroy)(struct esp_context *);
};

typedef struct esp_context *create_fn(int enc_alg, struct chunk enc_key, int int_alg,
                                      struct chunk int_key, bool inbound);

static bool accept_seqno(struct esp_context *context, uint32_t seqno)
{
    (void)context;
    (void)seqno;
    return true;
}

static void forget_seqno(struct esp_context *context, uint32_t seqno)
{
    (void)context;
    (void)seqno;
}

struct esp_context *esp_context_create(int enc_alg, struct chunk enc_key, int int_alg,
                                       struct chunk int_key, bool inbound)
{
    /* A plugin brought libipsec in, outside the global scope: ask the library itself. */
    void *libipsec = dlopen("libipsec.so.0", RTLD_LAZY | RTLD_NOLOAD);
    create_fn *create = libipsec ? (create_fn *)dlsym(libipsec, "esp_context_create") : NULL;
    if (!create) {
        fputs("no_replay: libipsec has no esp_context_create\n", stderr);
        abort();
    }
    struct esp_context *context = create(enc_alg, enc_key, int_alg, int_key, inbound);
    if (context && inbound) {
        context->verify_seqno = accept_seqno;
        context->set_authenticated_seqno = forget_seqno;
    }
    return context;
}
