/* SA payload bodies: octet 0 chooses the rules, the rest is the body, as it stands or, with bit 7
 * of octet 0, as a list of pairs that build() makes one of.
 *
 * What is chosen was offered, in one and the same proposal, and is allowed; where nothing is
 * chosen, no proposal has all that a suite needs. Both are found out here in another way than
 * in ike/proposal.c: by sets. And what we would answer is acceptable itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ike/proposal.h"
#include "proto/err.h"
#include "proto/wire_ip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define REQUIRE(ok) ((ok) ? (void)0 : broken(#ok, __LINE__))

static void broken(const char *what, int line)
{
    fprintf(stderr, "fuzz_ike_proposal.c:%d: broken: %s\n", line, what);
    abort();
}

/* One proposal of a payload that is known to be well-formed. */
struct offered {
    uint8_t number, protocol;
    struct slice spi;
    uint32_t rows; /* of transform_table, that were offered without odd attributes */
    bool dh, dh_none, esn, esn_no;
    bool unknown; /* a transform type that IKEv2 of RFC 7296 does not have (§3.3.6) */
};

static unsigned be16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static void take_transform(const uint8_t *p, size_t n, struct offered *out)
{
    unsigned id = be16(p + 6), bits = 0;
    bool odd = false;

    for (size_t at = 8; at < n;) {
        unsigned attr = be16(p + at), value = be16(p + at + 2);

        if (attr == 0x8000 + TRANSFORM_ATTR_KEY_LENGTH && value)
            bits = value;
        else
            odd = true;
        at += attr & 0x8000 ? 4 : 4 + value;
    }
    out->unknown |= p[4] < TRANSFORM_ENCR || p[4] > TRANSFORM_ESN;
    out->esn |= p[4] == TRANSFORM_ESN;
    out->esn_no |= p[4] == TRANSFORM_ESN && id == ESN_NO && !odd;
    out->dh |= p[4] == TRANSFORM_DH;
    out->dh_none |= p[4] == TRANSFORM_DH && id == DH_NONE;
    for (size_t i = 0; i < transform_count && !odd; i++)
        if (transform_table[i].type == p[4] && transform_table[i].id == id &&
            transform_table[i].key_bits == bits)
            out->rows |= 1U << i;
}

/* Returns where the next proposal begins; 0: this is the last. */
static size_t take_proposal(struct slice body, size_t at, struct offered *out)
{
    const uint8_t *p = body.p + at;
    size_t end = be16(p + 2), t = 8U + p[6];

    *out = (struct offered){.number = p[4], .protocol = p[5], .spi = {p + 8, p[6]}};
    for (unsigned i = 0; i < p[7]; i++) {
        take_transform(p + t, be16(p + t + 2), out);
        t += be16(p + t + 2);
    }
    REQUIRE(t == end && at + end <= body.n);
    return p[0] ? at + end : 0;
}

/* The rows of a type that these rules allow. */
static uint32_t allowed(const struct choice_rules *rules, uint8_t type, bool aead_only)
{
    uint32_t rows = 0;

    for (size_t i = 0; i < transform_count; i++) {
        const struct transform *t = &transform_table[i];

        if (t->type == type && (rules->protocol == PROTOCOL_IKE ? t->in_ike : t->in_child) &&
            (!t->needs_opt_in || rules->allow_null) && (!aead_only || t->aead))
            rows |= 1U << i;
    }
    return rows;
}

static bool acceptable(const struct offered *o, const struct choice_rules *rules)
{
    bool ike = rules->protocol == PROTOCOL_IKE;
    size_t spi_n = !ike ? 4 : rules->ike_rekey ? 8 : 0;
    uint64_t spi = 0;
    bool dh = o->rows & allowed(rules, TRANSFORM_DH, false);

    if (o->protocol != rules->protocol || o->spi.n != spi_n)
        return false;
    for (size_t i = 0; i < spi_n; i++)
        spi = spi << 8 | o->spi.p[i];
    if (o->unknown || (spi_n && spi < (ike ? 1 : ESP_SPI_MIN)))
        return false;
    if (!(o->rows & allowed(rules, TRANSFORM_ENCR, true)) &&
        (!(o->rows & allowed(rules, TRANSFORM_ENCR, false)) ||
         !(o->rows & allowed(rules, TRANSFORM_INTEG, false))))
        return false;
    if (ike)
        return dh && o->rows & allowed(rules, TRANSFORM_PRF, false);
    if (o->esn && !o->esn_no)
        return false;
    return dh || rules->ignore_dh || !o->dh || (o->dh_none && !rules->ke_group);
}

/* Whether the row was offered and is allowed. */
static bool is_among(const struct offered *o, const struct choice_rules *rules, uint8_t type,
                     uint16_t id, uint16_t bits)
{
    uint32_t rows = o->rows & allowed(rules, type, false);

    for (size_t i = 0; i < transform_count; i++)
        if (rows >> i & 1 && transform_table[i].id == id && transform_table[i].key_bits == bits)
            return true;
    return false;
}

static void check_suite(const struct offered *o, const struct choice_rules *rules,
                        const struct choice *c)
{
    const struct suite *s = &c->suite;
    bool ike = rules->protocol == PROTOCOL_IKE;

    REQUIRE(is_among(o, rules, TRANSFORM_ENCR, s->encr, s->encr_bits));
    if (transform_find(TRANSFORM_ENCR, s->encr, s->encr_bits)->aead)
        REQUIRE(s->integ == INTEG_NONE);
    else
        REQUIRE(is_among(o, rules, TRANSFORM_INTEG, s->integ, 0));
    if (ike)
        REQUIRE(is_among(o, rules, TRANSFORM_PRF, s->prf, 0));
    else
        REQUIRE(s->prf == 0 && c->echo_esn == o->esn);
    if (s->dh) {
        REQUIRE(is_among(o, rules, TRANSFORM_DH, s->dh, 0) && (ike || !rules->ignore_dh));
        /* The group that the peer already sent a value of, where it may be. */
        if (is_among(o, rules, TRANSFORM_DH, rules->ke_group, 0))
            REQUIRE(s->dh == rules->ke_group);
    } else {
        REQUIRE(!ike && (rules->ignore_dh || !o->dh || o->dh_none));
    }
}

static void check_choice(struct slice body, const struct choice_rules *rules, int rc,
                         const struct choice *c)
{
    struct offered o;
    size_t at = 0;

    do {
        at = take_proposal(body, at, &o);
        if (acceptable(&o, rules)) {
            REQUIRE(rc == ERR_OK && c->number == o.number);
            check_suite(&o, rules, c);
            return;
        }
    } while (at);
    REQUIRE(rc == ERR_UNSUPPORTED);
}

/* What we answer must itself be acceptable, and mean the same. */
static void check_answer(const struct choice_rules *rules, const struct choice *c)
{
    uint8_t bytes[128], spi_n = rules->protocol == PROTOCOL_ESP ? 4 : rules->ike_rekey ? 8 : 0;
    struct choice again;
    struct chain chain;

    chain_begin(&chain, bytes, sizeof bytes);
    proposal_write(&chain, c, rules->protocol, 0x12345678, spi_n);
    REQUIRE(!chain.w.bad);
    REQUIRE(proposal_choose((struct slice){bytes + IKE_PAYLOAD_HEADER_BYTES,
                                           chain.w.n - IKE_PAYLOAD_HEADER_BYTES},
                            rules, &again) == ERR_OK);
    REQUIRE(memcmp(&again.suite, &c->suite, sizeof again.suite) == 0 && again.number == c->number);
}

static void check_text(struct slice body, const struct choice_rules *rules, size_t room)
{
    char *text = malloc(room);

    REQUIRE(strlen(proposal_describe(body, text, room)) < room);
    REQUIRE(strlen(proposal_describe_rules(rules, text, room)) < room);
    free(text);
}

/* ---- well-formed payloads ---- */

static void build_transform(struct writer *w, unsigned which, uint8_t how, bool last)
{
    static const struct transform others[] = {
        {.type = TRANSFORM_ESN, .id = ESN_NO},       {.type = TRANSFORM_ESN, .id = ESN_YES},
        {.type = TRANSFORM_DH, .id = DH_NONE},       {.type = TRANSFORM_DH, .id = 19},
        {.type = TRANSFORM_INTEG, .id = INTEG_NONE}, {.type = 9, .id = 1},
    };
    size_t n_others = sizeof others / sizeof *others, at = w->n;
    const struct transform *t;

    which %= transform_count + n_others;
    t = which < transform_count ? &transform_table[which] : &others[which - transform_count];
    write_u8(w, last ? 0 : TRANSFORM_MORE);
    write_u8(w, 0);
    write_u16(w, 0);
    write_u8(w, t->type);
    write_u8(w, 0);
    write_u16(w, t->id);
    if (t->key_bits && !(how & 1)) {
        write_u16(w, 0x8000 | TRANSFORM_ATTR_KEY_LENGTH);
        write_u16(w, how & 2 ? (uint16_t)(how << 4) : t->key_bits);
    }
    if (how & 4) { /* one that nobody knows */
        write_u16(w, 0x8000 | 77);
        write_u16(w, how);
    }
    if (how & 8) { /* of any length */
        write_u16(w, TRANSFORM_ATTR_KEY_LENGTH);
        write_u16(w, how >> 4);
        write_zeros(w, how >> 4);
    }
    write_u16_at(w, at + 2, (uint16_t)(w->n - at));
}

/* Pairs of octets: 0x80 and more begin a proposal, the others are transforms of it. */
static void build(struct reader *in, const struct choice_rules *rules, struct writer *w)
{
    uint8_t number = 0;

    while (in->left >= 2 && number < 6) {
        uint8_t kind = read_u8(in), how = read_u8(in), count = 0;
        uint8_t protocol = kind & 1 ? how & 3 : rules->protocol;
        uint8_t spi_n = protocol == PROTOCOL_ESP ? 4 : rules->ike_rekey ? 8 : 0;
        size_t at = w->n;

        if (kind & 2)
            spi_n = how & 15;
        write_u32(w, 0);
        write_u8(w, ++number);
        write_u8(w, protocol);
        write_u8(w, spi_n);
        write_u8(w, 0);
        for (uint8_t i = 0; i < spi_n; i++)
            write_u8(w, kind & 4 ? 0 : how);
        while (in->left >= 2 && in->p[0] < 0x80 && count < 16) {
            unsigned which = read_u8(in);
            uint8_t t_how = read_u8(in);

            count++;
            build_transform(w, which, t_how, in->left < 2 || in->p[0] >= 0x80 || count == 16);
        }
        write_u8_at(w, at, in->left >= 2 && number < 6 ? PROPOSAL_MORE : 0);
        write_u16_at(w, at + 2, (uint16_t)(w->n - at));
        write_u8_at(w, at + 7, count);
    }
}

/* An exact copy on the heap: the sanitizer sees any read past the end. */
static struct slice body_of(const uint8_t *data, size_t n, const struct choice_rules *rules)
{
    static uint8_t room[32768];
    struct writer w = writer_of(room, sizeof room);
    struct reader in = reader_of(data + 1, n - 1);
    uint8_t *copy;

    if (data[0] & 128)
        build(&in, rules, &w);
    else
        write_bytes(&w, in.p, in.left);
    copy = malloc(w.n ? w.n : 1);
    memcpy(copy, w.p, w.n);
    return (struct slice){copy, w.n};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct choice_rules rules = {.protocol = PROTOCOL_IKE};
    struct choice choice;
    struct slice body;
    int rc;

    if (n < 1 || n > 8192)
        return 0;
    rules.protocol = data[0] & 1 ? PROTOCOL_ESP : PROTOCOL_IKE;
    rules.allow_null = data[0] & 2;
    rules.ke_group = data[0] & 32 ? 0 : data[0] & 4 ? DH_MODP_1536 : DH_MODP_2048;
    rules.ignore_dh = data[0] & 8;
    rules.ike_rekey = data[0] & 16;
    body = body_of(data, n, &rules);
    rc = proposal_choose(body, &rules, &choice);
    if (rc != ERR_INVALID)
        check_choice(body, &rules, rc, &choice);
    if (rc == ERR_OK)
        check_answer(&rules, &choice);
    check_text(body, &rules, data[0] & 64 ? 40 : 256);
    free((void *)(uintptr_t)body.p);
    return 0;
}
