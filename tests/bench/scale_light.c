#include "tests/bench/scale_light.h"

#include <stdlib.h>

#include "proto/err.h"
#include "sync/frame.h"
#include "tests/sim/message.h"

int __real_codec_encode(const struct codec_message *m, uint8_t *out, size_t cap, size_t *n);
int __wrap_codec_encode(const struct codec_message *m, uint8_t *out, size_t cap, size_t *n);
int __real_codec_decode(struct slice bytes, struct codec_message *out);
int __wrap_codec_decode(struct slice bytes, struct codec_message *out);
enum frame_refusal __real_frame_open(struct frame_box *box, struct slice bytes,
                                     const struct frame_header *header,
                                     const struct frame_binding *reply_to, uint8_t *plain,
                                     size_t *n);
enum frame_refusal __wrap_frame_open(struct frame_box *box, struct slice bytes,
                                     const struct frame_header *header,
                                     const struct frame_binding *reply_to, uint8_t *plain,
                                     size_t *n);
void __real_wipe(void *bytes, size_t n);
void __wrap_wipe(void *bytes, size_t n);
void __real_free(void *p);
void __wrap_free(void *p);

static struct {
    bool imitate;
    const struct codec_message *received;
    const uint8_t *unwritten; /* where the text would be, had the frame been opened */
    struct sealed {
        enum codec_kind kind;
        struct codec_message *copy;
    } * sealed;
    size_t n, cap;
} light;

void light_imitate(bool on)
{
    light.imitate = on;
}

void light_free(struct codec_message *m)
{
    light.received = NULL;
    if (m)
        codec_message_free(m);
    free(m);
}

void light_step(const struct codec_message *received)
{
    for (size_t i = 0; i < light.n; i++)
        light_free(light.sealed[i].copy);
    light.n = 0;
    light.received = received;
    light.unwritten = NULL;
}

enum codec_kind light_kind(size_t k)
{
    return light.sealed[k].kind;
}

struct codec_message *light_take(size_t k)
{
    struct codec_message *m = light.sealed[k].copy;

    light.sealed[k].copy = NULL;
    return m;
}

static void note(const struct codec_message *m)
{
    struct codec_message *copy = NULL;

    if (light.n == light.cap) {
        light.cap = light.cap ? 2 * light.cap : 16;
        light.sealed = realloc(light.sealed, light.cap * sizeof *light.sealed);
        if (!light.sealed)
            abort();
    }
    if (light.imitate) {
        copy = malloc(sizeof *copy);
        if (!copy)
            abort();
        *copy = *m;
        message_own(copy);
    }
    light.sealed[light.n++] = (struct sealed){m->kind, copy};
}

int __wrap_codec_encode(const struct codec_message *m, uint8_t *out, size_t cap, size_t *n)
{
    int rc = __real_codec_encode(m, out, cap, n);

    if (rc == ERR_OK)
        note(m);
    return rc;
}

enum frame_refusal __wrap_frame_open(struct frame_box *box, struct slice bytes,
                                     const struct frame_header *header,
                                     const struct frame_binding *reply_to, uint8_t *plain,
                                     size_t *n)
{
    if (!light.received)
        return __real_frame_open(box, bytes, header, reply_to, plain, n);
    light.unwritten = plain;
    *n = bytes.n - FRAME_OVERHEAD_BYTES;
    return FRAME_TAKEN;
}

/* The arrays that the core only reads, and gives back within the step, are not even copied. */
static bool is_shared(const struct codec_message *m, const void *p)
{
    if (m->kind == CODEC_ANNOUNCE)
        return p == m->announce.heard || p == m->announce.epochs;
    return m->kind == CODEC_VOTE && (p == m->vote.ballots || p == m->vote.witnesses);
}

int __wrap_codec_decode(struct slice bytes, struct codec_message *out)
{
    const struct codec_message *m = light.received;

    if (!m)
        return __real_codec_decode(bytes, out);
    *out = *m;
    if (m->kind == CODEC_VOTE)
        return ERR_OK;
    if (m->kind == CODEC_ANNOUNCE)
        out->announce.n_heard = out->announce.n_epochs = 0;
    message_own(out);
    if (m->kind == CODEC_ANNOUNCE) {
        out->announce.heard = m->announce.heard;
        out->announce.n_heard = m->announce.n_heard;
        out->announce.epochs = m->announce.epochs;
        out->announce.n_epochs = m->announce.n_epochs;
    }
    return ERR_OK;
}

void __wrap_free(void *p)
{
    if (!p || !light.received || !is_shared(light.received, p))
        __real_free(p);
}

void __wrap_wipe(void *bytes, size_t n)
{
    if (!bytes || bytes != light.unwritten)
        __real_wipe(bytes, n);
}
