#include "sync/join.h"

#include <string.h>

#include "proto/codec.h"
#include "proto/err.h"
#include "sync/mutant.h"

uint64_t record_key(const struct record *r)
{
    switch (r->kind) {
    case RECORD_IKE:
        return ike_record_spi(&r->ike);
    case RECORD_CHILD:
        return r->child.spi_in;
    case RECORD_ENDPOINT:
        return r->endpoint.spi_in;
    default:
        return r->later.key;
    }
}

uint8_t record_state(const struct record *r)
{
    return r->kind == RECORD_IKE     ? r->ike.state
           : r->kind == RECORD_CHILD ? r->child.state
                                     : (uint8_t)SA_INSTALLED;
}

int64_t record_not_after_ms(const struct record *r)
{
    return r->kind == RECORD_IKE        ? r->ike.not_after_ms
           : r->kind == RECORD_CHILD    ? r->child.not_after_ms
           : r->kind == RECORD_ENDPOINT ? INT64_MAX
                                        : r->later.not_after_ms;
}

int64_t record_keep_until_ms(const struct record *r)
{
    int64_t not_after_ms = record_not_after_ms(r);

    return record_state(r) == SA_DELETED && not_after_ms <= INT64_MAX - SYNC_CLOCK_SLACK_MS
               ? not_after_ms + SYNC_CLOCK_SLACK_MS
               : not_after_ms;
}

const struct id128 *record_lineage(const struct record *r)
{
    return r->kind == RECORD_IKE     ? &r->ike.lineage
           : r->kind == RECORD_CHILD ? &r->child.lineage
                                     : NULL;
}

static void normalise_ike(struct ike_record *r)
{
    struct secret *keys[] = {&r->sk_d,  &r->sk_ai, &r->sk_ar, &r->sk_ei,
                             &r->sk_er, &r->sk_pi, &r->sk_pr};

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        secret_wipe(keys[i]);
    blob_free(&r->our_request);
    blob_free(&r->our_request_state);
}

static void normalise_child(struct child_record *r)
{
    secret_wipe(&r->encr_in);
    secret_wipe(&r->encr_out);
    secret_wipe(&r->integ_in);
    secret_wipe(&r->integ_out);
    r->confirmed = false;
    r->rekeyed = false;
}

void record_normalise(struct record *r)
{
    if (record_state(r) != SA_DELETED)
        return;
    if (r->kind == RECORD_IKE)
        normalise_ike(&r->ike);
    else if (r->kind == RECORD_CHILD)
        normalise_child(&r->child);
}

/* ---- comparing contents ---- */

/* By the encodings, positions and what nobody here understands left aside; 0 means equal. */
static int content_compare(const struct record *a, const struct record *b, int *order)
{
    enum { ROOM = 6 * RECORD_BLOB_MAX };
    struct record ca = *a, cb = *b; /* shallow: only what is left aside is changed */
    uint8_t *bytes_a = NULL, *bytes_b = NULL;
    size_t room_a, room_b, n_a, n_b;
    int rc = ERR_NOMEM;

    ca.origin = cb.origin = (struct id128){0};
    ca.origin_slot = cb.origin_slot = 0;
    ca.seq = cb.seq = 0;
    ca.derived = cb.derived = false;
    ca.unknown = cb.unknown = (struct blob){0};
    room_a = codec_record_size(&ca);
    room_b = codec_record_size(&cb);
    if (room_a == 0 || room_b == 0 || room_a > ROOM || room_b > ROOM)
        goto wiped;
    bytes_a = secret_alloc(room_a);
    bytes_b = secret_alloc(room_b);
    if (!bytes_a || !bytes_b)
        goto wiped;
    rc = codec_record_encode(&ca, bytes_a, room_a, &n_a);
    if (rc == ERR_OK)
        rc = codec_record_encode(&cb, bytes_b, room_b, &n_b);
    if (rc == ERR_OK) {
        *order = memcmp(bytes_a, bytes_b, n_a < n_b ? n_a : n_b);
        if (*order == 0 && n_a != n_b)
            *order = n_a < n_b ? -1 : 1;
    }
wiped:
    if (bytes_a)
        secret_free(bytes_a, room_a);
    if (bytes_b)
        secret_free(bytes_b, room_b);
    wipe(&ca, sizeof ca);
    wipe(&cb, sizeof cb);
    return rc;
}

/* ---- the joins: both become the joined form of themselves ----
 * Raised from each other, both are equal but where content that should be equal was not. Each of
 * these says whether it changed its `x`. */

static bool raise_u32(uint32_t *x, uint32_t y)
{
    bool less = *x < y;

    if (less)
        *x = y;
    return less;
}

static bool raise_i64(int64_t *x, int64_t y)
{
    bool less = *x < y;

    if (less)
        *x = y;
    return less;
}

static bool raise_bool(bool *x, bool y)
{
    bool less = !*x && y;

    *x |= y;
    return less;
}

static bool set_state(uint8_t *x, uint8_t state)
{
    bool differs = *x != state;

    *x = state;
    return differs;
}

static bool child_clash(const struct child_record *a, const struct child_record *b)
{
    return a->spi_out != b->spi_out || !id128_equal(&a->lineage, &b->lineage);
}

/* Of two that clash: whose name the tombstone bears. */
static int clash_order(const struct child_record *a, const struct child_record *b)
{
    int order = memcmp(a->lineage.b, b->lineage.b, ID_BYTES);

    return order ? order : a->spi_out > b->spi_out ? 1 : -1;
}

/* Which of the two wins whole: > 0 for a, < 0 for b, 0 for either. */
static int winner_of(const struct record *a, const struct record *b)
{
    int order = 0;

    if (a->kind == RECORD_IKE) {
        order = MUTANT(TERM_WINS) ? 0 : term_compare(&a->ike.term, &b->ike.term);
        if (order == 0 && a->ike.revision != b->ike.revision)
            order = a->ike.revision > b->ike.revision ? 1 : -1;
    } else if (a->kind == RECORD_CHILD) {
        if (child_clash(&a->child, &b->child))
            order = clash_order(&a->child, &b->child);
    } else if (a->kind == RECORD_ENDPOINT) {
        if (a->endpoint.move != b->endpoint.move)
            order = a->endpoint.move > b->endpoint.move ? 1 : -1;
    } else if (a->later.revision != b->later.revision) {
        order = a->later.revision > b->later.revision ? 1 : -1;
    }
    return order;
}

static bool raise_ike(struct ike_record *x, const struct ike_record *y)
{
    bool changed = raise_u32(&x->next_in, y->next_in);

    changed |= raise_u32(&x->next_out, y->next_out);
    if (x->state != y->state)
        changed |= set_state(&x->state, SA_DELETED);
    changed |= raise_bool(&x->lineage_over, y->lineage_over);
    if (x->state == SA_DELETED)
        changed |= raise_i64(&x->not_after_ms, y->not_after_ms);
    return changed;
}

static bool raise_child(struct child_record *x, const struct child_record *y)
{
    bool changed = false;

    if (x->state != y->state || child_clash(x, y))
        changed |= set_state(&x->state, MUTANT(DELETE_WINS) ? SA_INSTALLED : SA_DELETED);
    changed |= raise_i64(&x->not_after_ms, y->not_after_ms);
    if (x->state == SA_DELETED)
        return changed; /* tombstones bear no flags */
    changed |= raise_bool(&x->rekeyed, y->rekeyed);
    if (MUTANT(FLAGS_RISE)) {
        changed |= x->confirmed;
        x->confirmed = false;
        return changed;
    }
    changed |= raise_bool(&x->confirmed, y->confirmed);
    return changed;
}

/* Raises in `r` all that only rises, from `other`; true when that changed it. */
static bool raise_from(struct record *r, const struct record *other)
{
    bool changed = false;

    if (r->kind == RECORD_IKE)
        changed = raise_ike(&r->ike, &other->ike);
    else if (r->kind == RECORD_CHILD)
        changed = raise_child(&r->child, &other->child);
    record_normalise(r);
    return changed;
}

static bool blob_equal(const struct blob *a, const struct blob *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->p, b->p, a->n) == 0);
}

/* Where neither form wins whole, both have a say in what we do not understand. */
static int join_unknown(struct record *joined, const struct record *other)
{
    struct blob both = {0};
    int rc;

    if (other->unknown.n == 0 || blob_equal(&joined->unknown, &other->unknown))
        return ERR_OK;
    rc = codec_unknown_join(&joined->unknown, &other->unknown, &both);
    if (rc == ERR_OK) {
        blob_free(&joined->unknown);
        joined->unknown = both;
    } else {
        blob_free(&both);
    }
    return rc;
}

int record_join(const struct record *ours, const struct record *theirs, enum join_result *result,
                struct record **out)
{
    int winner = winner_of(ours, theirs), rc = ERR_OK;
    bool whole = winner != 0;
    struct record *a = record_clone(ours), *b = record_clone(theirs), *joined;
    bool a_changed, b_changed, like_ours, like_theirs;

    if (!a || !b) {
        rc = ERR_NOMEM;
        goto freed;
    }
    a_changed = raise_from(a, theirs);
    b_changed = raise_from(b, ours);
    if (!whole)
        rc = content_compare(a, b, &winner);
    joined = winner >= 0 ? a : b;
    if (rc == ERR_OK && !whole)
        rc = join_unknown(joined, joined == a ? b : a);
    if (rc != ERR_OK)
        goto freed;
    /* A winner differs from the other in what made it win, however both are raised. */
    like_ours = winner >= 0 && !a_changed && blob_equal(&joined->unknown, &ours->unknown);
    like_theirs = winner <= 0 && !b_changed && blob_equal(&joined->unknown, &theirs->unknown);
    *result = like_ours && like_theirs ? JOIN_SAME
              : like_ours              ? JOIN_OURS
              : like_theirs            ? JOIN_THEIRS
                                       : JOIN_BOTH;
    if (*result == JOIN_BOTH) {
        joined->origin = ours->origin;
        joined->origin_slot = ours->origin_slot;
        joined->seq = ours->seq;
        *out = joined;
        if (joined == a)
            a = NULL;
        else
            b = NULL;
    }
freed:
    record_free(a);
    record_free(b);
    return rc;
}
