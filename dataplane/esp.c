#include "dataplane/esp.h"

#include <string.h>

#include "proto/cursor.h"
#include "proto/err.h"

int esp_suite_of(const struct suite *suite, struct esp_suite *out, enum hash_id *hash)
{
    const struct transform *encr = transform_find(TRANSFORM_ENCR, suite->encr, suite->encr_bits);
    const struct transform *integ = NULL;

    if (!encr || !encr->in_child)
        return ERR_UNSUPPORTED;
    if (encr->aead != (suite->integ == INTEG_NONE))
        return ERR_UNSUPPORTED;
    *out = (struct esp_suite){.iv_bytes = encr->iv_bytes, .icv_bytes = encr->icv_bytes, .align = 4};
    if (encr->aead) {
        out->mode = ESP_GCM;
        return ERR_OK;
    }
    integ = transform_find(TRANSFORM_INTEG, suite->integ, 0);
    if (!integ || !integ->in_child)
        return ERR_UNSUPPORTED;
    out->icv_bytes = integ->icv_bytes;
    *hash = integ->hash;
    if (suite->encr == ENCR_NULL) {
        out->mode = ESP_NULL_HMAC;
        return ERR_OK;
    }
    out->mode = ESP_CBC_HMAC;
    out->align = CBC_BLOCK;
    return ERR_OK;
}

bool esp_keys_fit(const struct suite *suite, struct slice encr, struct slice integ)
{
    const struct transform *e = transform_find(TRANSFORM_ENCR, suite->encr, suite->encr_bits);
    const struct transform *i = transform_find(TRANSFORM_INTEG, suite->integ, 0);

    return e && encr.n == (size_t)e->key_bytes + e->salt_bytes &&
           integ.n == (i ? (size_t)i->key_bytes : 0);
}

uint16_t esp_inner_mtu(const struct esp_suite *suite, bool udp_encap, uint16_t outer_mtu)
{
    uint32_t around = IPV4_HEADER_BYTES + (udp_encap ? UDP_HEADER_BYTES : 0) + ESP_HEADER_BYTES +
                      suite->iv_bytes + suite->icv_bytes;
    uint32_t text;

    if (outer_mtu < around + suite->align)
        return 0;
    text = (outer_mtu - around) / suite->align * suite->align;
    return (uint16_t)(text - ESP_TRAILER_BYTES);
}

bool esp_wrap(struct packet *p, const struct esp_suite *suite, uint32_t spi, uint32_t sequence,
              const uint8_t *iv, uint8_t next_header, struct crypto_job *job)
{
    uint32_t front = ESP_HEADER_BYTES + suite->iv_bytes;
    uint32_t pad = (uint32_t)suite->align - (p->n + ESP_TRAILER_BYTES) % suite->align;
    uint32_t text_n, total;
    struct writer w;

    if (pad == suite->align)
        pad = 0;
    text_n = p->n + pad + ESP_TRAILER_BYTES;
    total = front + text_n + suite->icv_bytes;
    if (packet_headroom(p) < front || total > PACKET_MAX - IPV4_HEADER_BYTES - UDP_HEADER_BYTES ||
        packet_tailroom(p) < pad + ESP_TRAILER_BYTES + suite->icv_bytes)
        return false;

    w = writer_of(p->data + p->n, pad + ESP_TRAILER_BYTES);
    for (uint32_t i = 1; i <= pad; i++)
        write_u8(&w, (uint8_t)i);
    write_u8(&w, (uint8_t)pad);
    write_u8(&w, next_header);

    p->data -= front;
    p->n = total;
    w = writer_of(p->data, front);
    write_u32(&w, spi);
    write_u32(&w, sequence);
    write_bytes(&w, iv, suite->iv_bytes);
    *job = (struct crypto_job){.esp = p->data, .text_n = text_n};
    return true;
}

bool esp_unwrap(const struct packet *p, const struct esp_suite *suite, struct crypto_job *job)
{
    uint32_t around = ESP_HEADER_BYTES + (uint32_t)suite->iv_bytes + suite->icv_bytes;
    uint32_t text_n;

    if (p->n < around + ESP_TRAILER_BYTES)
        return false;
    text_n = p->n - around;
    if (text_n % suite->align != 0)
        return false;
    *job = (struct crypto_job){.esp = p->data, .text_n = text_n};
    return true;
}

bool esp_finish(struct packet *p, const struct esp_suite *suite, uint8_t *next_header)
{
    uint32_t front = ESP_HEADER_BYTES + (uint32_t)suite->iv_bytes;
    struct reader r = reader_of(p->data + front, p->n - front - suite->icv_bytes);
    size_t payload_n = r.left - ESP_TRAILER_BYTES; /* with padding; esp_unwrap saw to the size */
    struct reader trailer = r;
    uint8_t pad, wrong = 0;

    read_skip(&trailer, payload_n);
    pad = read_u8(&trailer);
    *next_header = read_u8(&trailer);
    if (pad > payload_n)
        return false;
    payload_n -= pad;
    read_skip(&r, payload_n);
    for (unsigned i = 1; i <= pad; i++)
        wrong |= (uint8_t)(read_u8(&r) ^ i);
    if (trailer.bad || r.bad || wrong)
        return false;
    p->data += front;
    p->n = (uint32_t)payload_n;
    return true;
}
