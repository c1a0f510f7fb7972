#include "proto/record.h"

#include <string.h>

#include "proto/err.h"

bool id128_is_zero(const struct id128 *id)
{
    static const struct id128 zero;
    return id128_equal(id, &zero);
}

char *id128_format(const struct id128 *id, char out[ID_TEXT])
{
    static const char digits[] = "0123456789abcdef";

    for (int i = 0; i < ID_BYTES; i++) {
        out[2 * i] = digits[id->b[i] >> 4];
        out[2 * i + 1] = digits[id->b[i] & 15];
    }
    out[ID_TEXT - 1] = 0;
    return out;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool id128_parse(const char *text, struct id128 *out)
{
    struct id128 id;

    if (strnlen(text, ID_TEXT) != ID_TEXT - 1)
        return false;
    for (int i = 0; i < ID_BYTES; i++) {
        int high = hex_value(text[2 * i]), low = hex_value(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        id.b[i] = (uint8_t)(high << 4 | low);
    }
    *out = id;
    return true;
}

int term_compare(const struct term *a, const struct term *b)
{
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    if (a->slot != b->slot)
        return a->slot < b->slot ? -1 : 1;
    return memcmp(a->incarnation.b, b->incarnation.b, ID_BYTES);
}

int blob_set(struct blob *b, const void *bytes, size_t n)
{
    uint8_t *p = NULL;

    if (n > RECORD_BLOB_MAX)
        return ERR_FULL;
    if (n) {
        p = secret_alloc(n);
        if (!p)
            return ERR_NOMEM;
        memcpy(p, bytes, n);
    }
    blob_free(b);
    *b = (struct blob){p, (uint32_t)n};
    return ERR_OK;
}

void blob_free(struct blob *b)
{
    if (b->p)
        secret_free(b->p, b->n);
    *b = (struct blob){0};
}

struct record *record_new(enum record_kind kind)
{
    struct record *r = secret_alloc(sizeof *r);

    if (r) {
        r->kind = (uint8_t)kind;
        r->version = RECORD_VERSION;
    }
    return r;
}

/* Calls f on every blob of a record. */
static int each_blob(struct record *r, int (*f)(struct blob *b))
{
    enum { IKE_BLOBS = 4 };
    struct blob *ike[IKE_BLOBS] = {&r->ike.last_response, &r->ike.our_request,
                                   &r->ike.our_request_state, &r->ike.peer_id};
    int rc = f(&r->unknown);

    if (r->kind == RECORD_IKE)
        for (int i = 0; i < IKE_BLOBS; i++)
            rc |= f(ike[i]);
    if (record_is_later(r->kind))
        rc |= f(&r->later.body);
    return rc;
}

static int own_copy(struct blob *b)
{
    struct blob source = *b;

    *b = (struct blob){0};
    return blob_set(b, source.p, source.n);
}

static int let_go(struct blob *b)
{
    blob_free(b);
    return 0;
}

struct record *record_clone(const struct record *r)
{
    struct record *copy = secret_alloc(sizeof *copy);

    if (!copy)
        return NULL;
    *copy = *r;
    if (each_blob(copy, own_copy) != 0) {
        record_free(copy);
        return NULL;
    }
    return copy;
}

void record_free(struct record *r)
{
    if (!r)
        return;
    (void)each_blob(r, let_go);
    secret_free(r, sizeof *r);
}

void record_bury(struct record *r)
{
    if (r->kind == RECORD_CHILD) {
        r->child.state = SA_DELETED;
        secret_wipe(&r->child.encr_in);
        secret_wipe(&r->child.encr_out);
        secret_wipe(&r->child.integ_in);
        secret_wipe(&r->child.integ_out);
    } else if (r->kind == RECORD_IKE) {
        struct ike_record *k = &r->ike;
        struct secret *keys[] = {&k->sk_d,  &k->sk_ai, &k->sk_ar, &k->sk_ei,
                                 &k->sk_er, &k->sk_pi, &k->sk_pr};

        k->state = SA_DELETED;
        k->revision++;
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
            secret_wipe(keys[i]);
        blob_free(&k->last_response);
        blob_free(&k->our_request);
        blob_free(&k->our_request_state);
    }
}
