/* Traffic selectors: what the tunnel allows and what the peer offers, both from the input.
 * Octet 0: room for descriptions; octets 1 to 20: a packet (family, protocol, port, address);
 * then two TS payload bodies, the first behind its length of 2 octets.
 *
 * A packet fits the narrowed list exactly when it fits both lists; what is written is read back
 * as it was. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ike/ts.h"
#include "proto/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define REQUIRE(ok) ((ok) ? (void)0 : broken(#ok, __LINE__))

static void broken(const char *what, int line)
{
    fprintf(stderr, "fuzz_ike_ts.c:%d: broken: %s\n", line, what);
    abort();
}

struct packet {
    struct ip_addr ip;
    uint8_t proto;
    uint16_t port;
};

static bool fits(const struct selector_list *list, const struct packet *p)
{
    for (unsigned i = 0; i < list->n; i++)
        if (selector_matches(&list->s[i], &p->ip, p->proto, p->port))
            return true;
    return false;
}

static void check_shape(const struct selector_list *list)
{
    REQUIRE(list->n <= SELECTORS_MAX);
    for (unsigned i = 0; i < list->n; i++) {
        const struct selector *s = &list->s[i];

        REQUIRE(s->lo.family == s->hi.family && ip_len(&s->lo));
        REQUIRE(ip_compare(&s->lo, &s->hi) <= 0 && s->port_lo <= s->port_hi);
    }
}

/* An exact copy on the heap, so that the sanitizer sees any read past the end. */
static int parse_copy(struct slice body, struct selector_list *out)
{
    uint8_t *copy = malloc(body.n ? body.n : 1);
    int rc;

    if (body.n)
        memcpy(copy, body.p, body.n);
    rc = ts_parse((struct slice){copy, body.n}, out);
    free(copy);
    return rc;
}

static void check_roundtrip(const struct selector_list *list)
{
    uint8_t bytes[IKE_PAYLOAD_HEADER_BYTES + 4 + SELECTORS_MAX * 40];
    struct selector_list again;
    struct message m = {0};
    struct chain c;

    chain_begin(&c, bytes, sizeof bytes);
    ts_write(&c, PAYLOAD_TSI, list);
    REQUIRE(!c.w.bad && c.first == PAYLOAD_TSI);
    REQUIRE(message_parse_chain(&m, c.first, (struct slice){c.w.p, c.w.n}) == ERR_OK && m.n == 1);
    REQUIRE(ts_parse(m.payloads[0].body, &again) == ERR_OK && again.n == list->n);
    for (unsigned i = 0; i < list->n; i++) {
        const struct selector *a = &list->s[i], *b = &again.s[i];

        REQUIRE(a->proto == b->proto && a->port_lo == b->port_lo && a->port_hi == b->port_hi);
        REQUIRE(ip_equal(&a->lo, &b->lo) && ip_equal(&a->hi, &b->hi));
    }
}

static void check_text(const struct selector_list *list, size_t room)
{
    char *text = malloc(room);

    REQUIRE(strlen(ts_describe(list, text, room)) < room);
    free(text);
}

static void check_narrowing(const struct selector_list *offered,
                            const struct selector_list *allowed, const struct packet *p)
{
    struct selector_list both;
    struct selector common;
    bool any = false;

    REQUIRE(ts_narrow(offered, allowed, &both) == (both.n > 0));
    check_shape(&both);
    for (unsigned i = 0; i < offered->n; i++)
        for (unsigned k = 0; k < allowed->n; k++)
            any |= selector_intersect(&offered->s[i], &allowed->s[k], &common);
    REQUIRE(any == (both.n > 0));
    if (fits(&both, p))
        REQUIRE(fits(offered, p) && fits(allowed, p));
    else if (both.n < SELECTORS_MAX) /* a full list may lack some */
        REQUIRE(!fits(offered, p) || !fits(allowed, p));
    if (both.n)
        check_roundtrip(&both);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct reader r = reader_of(data, n);
    struct selector_list allowed, offered;
    struct packet packet = {0};
    struct slice first;
    uint8_t room = read_u8(&r), family = read_u8(&r), address[16];

    packet.proto = read_u8(&r);
    packet.port = read_u16(&r);
    read_bytes(&r, address, sizeof address);
    packet.ip = ip_from_bytes(family & 1 ? 6 : 4, address);
    first = read_slice(&r, read_u16(&r));
    if (r.bad || parse_copy(first, &allowed) != ERR_OK)
        return 0;
    check_shape(&allowed);
    check_text(&allowed, room + 1U);
    if (parse_copy((struct slice){r.p, r.left}, &offered) != ERR_OK)
        return 0;
    check_shape(&offered);
    check_narrowing(&offered, &allowed, &packet);
    return 0;
}
