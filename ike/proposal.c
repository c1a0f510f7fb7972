/* A proposal names one protocol and a set of transforms; an answer takes one
 * transform of each type. We walk the initiator's proposals in order and, in
 * each, its transforms in order, and take the first of each type that the suite
 * table has. An integrity transform beside an AEAD is tolerated, never echoed. */
#include "ike/proposal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/err.h"
#include "proto/wire_ip.h"

enum { PROPOSAL_HEADER = 8, TRANSFORM_HEADER = 8, ATTR_SHORT = 0x8000, DESCRIBE_MAX = 4 };

struct offer { /* one proposal */
    bool last;
    uint8_t number, protocol, n_transforms;
    struct slice spi;
    struct reader transforms;
};

struct offered_transform {
    uint8_t type;
    uint16_t id, key_bits;
    bool odd; /* attributes that we do not know: not acceptable (RFC 7296 §3.3.6) */
};

static bool read_offer(struct reader *r, struct offer *out)
{
    uint8_t more = read_u8(r), spi_bytes;
    uint16_t length;
    struct reader body;

    read_skip(r, 1);
    length = read_u16(r);
    if (r->bad || length < PROPOSAL_HEADER || (more != 0 && more != PROPOSAL_MORE))
        return false;
    body = read_sub(r, length - 4U);
    out->last = more == 0;
    out->number = read_u8(&body);
    out->protocol = read_u8(&body);
    spi_bytes = read_u8(&body);
    out->n_transforms = read_u8(&body);
    out->spi = read_slice(&body, spi_bytes);
    out->transforms = body;
    return !body.bad;
}

static bool read_transform(struct reader *r, bool last, struct offered_transform *out)
{
    uint8_t more = read_u8(r);
    uint16_t length;
    struct reader body;

    read_skip(r, 1);
    length = read_u16(r);
    if (r->bad || length < TRANSFORM_HEADER || more != (last ? 0 : TRANSFORM_MORE))
        return false;
    body = read_sub(r, length - 4U);
    *out = (struct offered_transform){.type = read_u8(&body)};
    read_skip(&body, 1);
    out->id = read_u16(&body);
    while (!body.bad && body.left) {
        uint16_t attr = read_u16(&body), value = read_u16(&body);

        if (!(attr & ATTR_SHORT)) {
            read_skip(&body, value);
            out->odd = true;
        } else if ((attr & ~ATTR_SHORT) == TRANSFORM_ATTR_KEY_LENGTH) {
            out->key_bits = value;
            out->odd |= value == 0;
        } else {
            out->odd = true;
        }
    }
    return !body.bad;
}

/* The best of each type seen so far in one proposal. */
struct picks {
    const struct transform *encr, *prf, *integ, *dh;
    const struct transform *aead; /* where the first cipher finds no integrity transform */
    bool dh_offered, dh_none, esn_offered, esn_no;
    bool unknown_type; /* the whole proposal is not acceptable (RFC 7296 §3.3.6) */
};

static void pick_known(struct picks *p, const struct choice_rules *rules, const struct transform *t)
{
    bool ike = rules->protocol == PROTOCOL_IKE;

    if (!(ike ? t->in_ike : t->in_child) || (t->needs_opt_in && !rules->allow_null))
        return;
    switch (t->type) {
    case TRANSFORM_ENCR:
        if (!p->encr)
            p->encr = t;
        if (!p->aead && t->aead)
            p->aead = t;
        break;
    case TRANSFORM_PRF:
        if (!p->prf)
            p->prf = t;
        break;
    case TRANSFORM_INTEG:
        if (!p->integ)
            p->integ = t;
        break;
    case TRANSFORM_DH:
        if (!p->dh || (t->id == rules->ke_group && p->dh->id != rules->ke_group))
            p->dh = t;
        break;
    default:
        break;
    }
}

static void pick(struct picks *p, const struct choice_rules *rules,
                 const struct offered_transform *o)
{
    const struct transform *t;

    if (o->type == TRANSFORM_ESN) {
        p->esn_offered = true;
        p->esn_no |= o->id == ESN_NO && !o->odd;
        return;
    }
    if (o->type < TRANSFORM_ENCR || o->type > TRANSFORM_ESN) {
        p->unknown_type = true;
        return;
    }
    if (o->type == TRANSFORM_DH) {
        p->dh_offered = true;
        p->dh_none |= o->id == DH_NONE;
    }
    t = o->odd ? NULL : transform_find(o->type, o->id, o->key_bits);
    if (t)
        pick_known(p, rules, t);
}

/* Whether the picks make a whole suite; fills it. */
static bool settle(const struct picks *p, const struct choice_rules *rules, struct suite *out)
{
    bool ike = rules->protocol == PROTOCOL_IKE;
    const struct transform *encr = p->encr && (p->encr->aead || p->integ) ? p->encr : p->aead;
    bool needs_dh;

    if (!encr || p->unknown_type)
        return false;
    if (ike && (!p->prf || !p->dh))
        return false;
    if (!ike && p->esn_offered && !p->esn_no)
        return false;
    needs_dh = ike || (!rules->ignore_dh && p->dh_offered && (!p->dh_none || rules->ke_group));
    if (needs_dh && !p->dh)
        return false;
    *out = (struct suite){
        .encr = encr->id,
        .encr_bits = encr->key_bits,
        .prf = ike ? p->prf->id : 0,
        .integ = encr->aead ? INTEG_NONE : p->integ->id,
        .dh = needs_dh ? p->dh->id : DH_NONE,
    };
    return true;
}

static int consider(struct offer *offer, const struct choice_rules *rules, struct choice *out)
{
    struct picks picks = {0};
    size_t spi_bytes = rules->protocol == PROTOCOL_ESP ? 4 : rules->ike_rekey ? IKE_SPI_BYTES : 0;
    struct reader spi = reader_of(offer->spi.p, offer->spi.n);

    for (unsigned i = 0; i < offer->n_transforms; i++) {
        struct offered_transform o;

        if (!read_transform(&offer->transforms, i + 1U == offer->n_transforms, &o))
            return ERR_INVALID;
        pick(&picks, rules, &o);
    }
    if (offer->transforms.left)
        return ERR_INVALID;
    if (offer->protocol != rules->protocol || offer->spi.n != spi_bytes)
        return ERR_UNSUPPORTED;
    *out = (struct choice){.number = offer->number, .echo_esn = picks.esn_offered};
    if (spi_bytes == 4) {
        out->peer_spi = read_u32(&spi);
        if (out->peer_spi < ESP_SPI_MIN)
            return ERR_UNSUPPORTED;
    } else if (spi_bytes) {
        out->peer_ike_spi = read_u64(&spi);
        if (out->peer_ike_spi == 0)
            return ERR_UNSUPPORTED;
    }
    return settle(&picks, rules, &out->suite) ? ERR_OK : ERR_UNSUPPORTED;
}

int proposal_choose(struct slice sa_payload, const struct choice_rules *rules, struct choice *out)
{
    struct reader r = reader_of(sa_payload.p, sa_payload.n);
    struct choice found;
    bool have = false;

    for (;;) {
        struct offer offer;
        struct choice candidate;
        int rc;

        if (!read_offer(&r, &offer))
            return ERR_INVALID;
        rc = consider(&offer, rules, &candidate);
        if (rc == ERR_INVALID)
            return rc;
        if (rc == ERR_OK && !have) {
            found = candidate;
            have = true;
        }
        if (offer.last)
            break;
    }
    if (r.left)
        return ERR_INVALID;
    if (!have)
        return ERR_UNSUPPORTED;
    *out = found;
    return ERR_OK;
}

struct answer {
    uint8_t type;
    uint16_t id, key_bits;
};

static void write_transform(struct writer *w, const struct answer *a, bool last)
{
    write_u8(w, last ? 0 : TRANSFORM_MORE);
    write_u8(w, 0);
    write_u16(w, TRANSFORM_HEADER + (a->key_bits ? 4 : 0));
    write_u8(w, a->type);
    write_u8(w, 0);
    write_u16(w, a->id);
    if (a->key_bits) {
        write_u16(w, ATTR_SHORT | TRANSFORM_ATTR_KEY_LENGTH);
        write_u16(w, a->key_bits);
    }
}

static void write_proposal(struct writer *w, const struct choice *choice, uint8_t protocol,
                           uint64_t our_spi, uint8_t spi_n, bool last)
{
    const struct suite *s = &choice->suite;
    struct answer list[5];
    size_t at = w->n;
    unsigned n = 0;

    list[n++] = (struct answer){TRANSFORM_ENCR, s->encr, s->encr_bits};
    if (s->prf)
        list[n++] = (struct answer){TRANSFORM_PRF, s->prf, 0};
    if (s->integ)
        list[n++] = (struct answer){TRANSFORM_INTEG, s->integ, 0};
    if (s->dh)
        list[n++] = (struct answer){TRANSFORM_DH, s->dh, 0};
    if (protocol == PROTOCOL_ESP && choice->echo_esn)
        list[n++] = (struct answer){TRANSFORM_ESN, ESN_NO, 0};

    write_u8(w, last ? 0 : PROPOSAL_MORE);
    write_u8(w, 0);
    write_u16(w, 0);
    write_u8(w, choice->number);
    write_u8(w, protocol);
    write_u8(w, spi_n);
    write_u8(w, (uint8_t)n);
    if (spi_n == 4)
        write_u32(w, (uint32_t)our_spi);
    else if (spi_n)
        write_u64(w, our_spi);
    for (unsigned i = 0; i < n; i++)
        write_transform(w, &list[i], i + 1 == n);
    write_u16_at(w, at + 2, (uint16_t)(w->n - at));
}

void proposal_write_offers(struct chain *c, const struct choice *offers, size_t n, uint8_t protocol,
                           uint64_t our_spi, uint8_t spi_n)
{
    chain_open(c, PAYLOAD_SA);
    for (size_t i = 0; i < n; i++)
        write_proposal(&c->w, &offers[i], protocol, our_spi, spi_n, i + 1 == n);
    chain_close(c);
}

void proposal_write(struct chain *c, const struct choice *choice, uint8_t protocol,
                    uint64_t our_spi, uint8_t spi_n)
{
    proposal_write_offers(c, choice, 1, protocol, our_spi, spi_n);
}

/* Appends to a text that may be full already. */
__attribute__((format(printf, 3, 4))) static void append(char *out, size_t n, const char *format,
                                                         ...)
{
    size_t used = strlen(out);
    va_list args;

    va_start(args, format);
    vsnprintf(out + used, n - used, format, args);
    va_end(args);
}

static void describe_transform(const struct offered_transform *o, char *out, size_t n)
{
    static const char *const kinds[] = {"type", "encr", "prf", "integ", "dh", "esn"};
    const struct transform *t = transform_find(o->type, o->id, o->key_bits);

    if (o->type == TRANSFORM_ESN)
        append(out, n, "%s", o->id == ESN_NO ? "noesn" : "esn");
    else if (t)
        append(out, n, "%s", t->name);
    else
        append(out, n, "%s_%u%s", kinds[o->type <= TRANSFORM_ESN ? o->type : 0], (unsigned)o->id,
               o->odd ? "!" : "");
    if (!t && o->key_bits)
        append(out, n, "_%u", (unsigned)o->key_bits);
}

char *proposal_describe(struct slice sa_payload, char *out, size_t n)
{
    struct reader r = reader_of(sa_payload.p, sa_payload.n);
    struct offer offer = {0};

    out[0] = 0;
    for (unsigned count = 0; !offer.last && read_offer(&r, &offer); count++) {
        if (count == DESCRIBE_MAX) {
            append(out, n, ", and more");
            break;
        }
        append(out, n, "%s", count ? ", " : "");
        for (unsigned i = 0; i < offer.n_transforms; i++) {
            struct offered_transform o;

            if (!read_transform(&offer.transforms, i + 1U == offer.n_transforms, &o))
                break;
            append(out, n, "%s", i ? "-" : "");
            describe_transform(&o, out, n);
        }
    }
    return out;
}

char *proposal_describe_rules(const struct choice_rules *rules, char *out, size_t n)
{
    bool ike = rules->protocol == PROTOCOL_IKE;

    out[0] = 0;
    for (size_t i = 0; i < transform_count; i++) {
        const struct transform *t = &transform_table[i];

        if (!(ike ? t->in_ike : t->in_child) || (t->needs_opt_in && !rules->allow_null) ||
            t->type == TRANSFORM_ESN || (t->type == TRANSFORM_DH && rules->ignore_dh))
            continue;
        append(out, n, "%s%s", out[0] ? " " : "", t->name);
    }
    return out;
}
