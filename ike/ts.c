#include "ike/ts.h"

#include <stdio.h>
#include <string.h>

#include "proto/err.h"

enum { TS_HEADER = 8 };

int ts_parse(struct slice body, struct selector_list *out)
{
    struct reader r = reader_of(body.p, body.n);
    uint8_t count = read_u8(&r);

    *out = (struct selector_list){0};
    read_skip(&r, 3);
    for (unsigned i = 0; i < count; i++) {
        uint8_t type = read_u8(&r), proto = read_u8(&r);
        uint16_t length = read_u16(&r);
        struct reader ts;
        struct selector s = {.proto = proto};
        uint8_t family = type == TS_IPV4_ADDR_RANGE ? 4 : type == TS_IPV6_ADDR_RANGE ? 6 : 0;
        size_t bytes = family == 4 ? 4 : 16;
        uint8_t lo[16], hi[16];

        if (r.bad || length < TS_HEADER)
            return ERR_INVALID;
        ts = read_sub(&r, length - 4U);
        if (r.bad)
            return ERR_INVALID;
        if (!family)
            continue;
        s.port_lo = read_u16(&ts);
        s.port_hi = read_u16(&ts);
        read_bytes(&ts, lo, bytes);
        read_bytes(&ts, hi, bytes);
        if (ts.bad || ts.left)
            return ERR_INVALID;
        s.lo = ip_from_bytes(family, lo);
        s.hi = ip_from_bytes(family, hi);
        /* OPAQUE (65535-0) and inverted ranges select nothing that we could check. */
        if (s.port_lo > s.port_hi || ip_compare(&s.lo, &s.hi) > 0)
            continue;
        if (out->n < SELECTORS_MAX)
            out->s[out->n++] = s;
    }
    return r.bad || r.left || count == 0 ? ERR_INVALID : ERR_OK;
}

static bool same_selector(const struct selector *a, const struct selector *b)
{
    return a->proto == b->proto && a->port_lo == b->port_lo && a->port_hi == b->port_hi &&
           ip_equal(&a->lo, &b->lo) && ip_equal(&a->hi, &b->hi);
}

static void add_once(struct selector_list *list, const struct selector *s)
{
    for (unsigned i = 0; i < list->n; i++)
        if (same_selector(&list->s[i], s))
            return;
    if (list->n < SELECTORS_MAX)
        list->s[list->n++] = *s;
}

bool ts_narrow(const struct selector_list *offered, const struct selector_list *allowed,
               struct selector_list *out)
{
    *out = (struct selector_list){0};
    for (unsigned i = 0; i < offered->n; i++)
        for (unsigned k = 0; k < allowed->n; k++) {
            struct selector common;

            if (selector_intersect(&offered->s[i], &allowed->s[k], &common))
                add_once(out, &common);
        }
    return out->n > 0;
}

void ts_write(struct chain *c, uint8_t payload_type, const struct selector_list *list)
{
    chain_open(c, payload_type);
    write_u8(&c->w, list->n);
    write_zeros(&c->w, 3);
    for (unsigned i = 0; i < list->n; i++) {
        const struct selector *s = &list->s[i];
        size_t bytes = ip_len(&s->lo);

        write_u8(&c->w, s->lo.family == 4 ? TS_IPV4_ADDR_RANGE : TS_IPV6_ADDR_RANGE);
        write_u8(&c->w, s->proto);
        write_u16(&c->w, (uint16_t)(TS_HEADER + 2 * bytes));
        write_u16(&c->w, s->port_lo);
        write_u16(&c->w, s->port_hi);
        write_bytes(&c->w, s->lo.b, bytes);
        write_bytes(&c->w, s->hi.b, bytes);
    }
    chain_close(c);
}

char *ts_describe(const struct selector_list *list, char *out, size_t n)
{
    char one[SELECTOR_TEXT];

    out[0] = 0;
    for (unsigned i = 0; i < list->n; i++) {
        size_t used = strlen(out);

        snprintf(out + used, n - used, "%s%s", i ? ", " : "", selector_format(&list->s[i], one));
    }
    return out;
}
