/* One record: struct record to its protobuf image and back, and the check that
 * stands between the two. */
#include "proto/codec_pb.h"

#include <string.h>

#include "proto/err.h"
#include "proto/wire_ip.h"

enum {
    RECORD_BUDGET_BYTES = 768 * 1024,       /* what unpacking one record may take */
    RECORD_BYTES_MAX = 6 * RECORD_BLOB_MAX, /* encoded */
};

/* ---- small values ---- */

ProtobufCBinaryData pb_bytes(const void *p, size_t n)
{
    return (ProtobufCBinaryData){n, n ? (uint8_t *)(uintptr_t)p : NULL};
}

bool id_from_pb(ProtobufCBinaryData b, struct id128 *out)
{
    if (b.len != ID_BYTES)
        return false;
    memcpy(out->b, b.data, ID_BYTES);
    return true;
}

static bool ip_from_pb(ProtobufCBinaryData b, struct ip_addr *out)
{
    *out = (struct ip_addr){0};
    if (b.len == 0)
        return true;
    if (b.len != 4 && b.len != 16)
        return false;
    *out = ip_from_bytes(b.len == 4 ? 4 : 6, b.data);
    return true;
}

Pb__Endpoint *endpoint_to_pb(struct arena *a, const struct endpoint *e)
{
    Pb__Endpoint *pb = arena_alloc(a, sizeof *pb);

    if (!pb)
        return NULL;
    pb__endpoint__init(pb);
    pb->ip = pb_bytes(e->ip.b, ip_len(&e->ip));
    pb->port = e->port;
    return pb;
}

bool endpoint_from_pb(const Pb__Endpoint *pb, struct endpoint *out)
{
    *out = (struct endpoint){0};
    if (!pb)
        return true;
    if (pb->port > UINT16_MAX || !ip_from_pb(pb->ip, &out->ip))
        return false;
    out->port = (uint16_t)pb->port;
    return true;
}

static Pb__Suite *suite_to_pb(struct arena *a, const struct suite *s)
{
    Pb__Suite *pb = arena_alloc(a, sizeof *pb);

    if (!pb)
        return NULL;
    pb__suite__init(pb);
    pb->encr = s->encr;
    pb->encr_bits = s->encr_bits;
    pb->prf = s->prf;
    pb->integ = s->integ;
    pb->dh = s->dh;
    return pb;
}

static bool suite_from_pb(const Pb__Suite *pb, struct suite *out)
{
    if (!pb || (pb->encr | pb->encr_bits | pb->prf | pb->integ | pb->dh) > UINT16_MAX)
        return false;
    *out = (struct suite){(uint16_t)pb->encr, (uint16_t)pb->encr_bits, (uint16_t)pb->prf,
                          (uint16_t)pb->integ, (uint16_t)pb->dh};
    return true;
}

static Pb__Selector **selectors_to_pb(struct arena *a, const struct selector_list *list)
{
    size_t n = list->n;
    Pb__Selector **out = arena_alloc(a, n * sizeof(Pb__Selector *));
    Pb__Selector *pb = arena_alloc(a, n * sizeof *pb);

    if (!out || !pb)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        const struct selector *s = &list->s[i];
        pb__selector__init(&pb[i]);
        pb[i].proto = s->proto;
        pb[i].port_lo = s->port_lo;
        pb[i].port_hi = s->port_hi;
        pb[i].lo = pb_bytes(s->lo.b, ip_len(&s->lo));
        pb[i].hi = pb_bytes(s->hi.b, ip_len(&s->hi));
        out[i] = &pb[i];
    }
    return out;
}

static bool selectors_from_pb(Pb__Selector *const *pb, size_t n, struct selector_list *out)
{
    if (n > SELECTORS_MAX)
        return false;
    out->n = (uint8_t)n;
    for (size_t i = 0; i < n; i++) {
        struct selector *s = &out->s[i];
        if (pb[i]->proto > UINT8_MAX || (pb[i]->port_lo | pb[i]->port_hi) > UINT16_MAX ||
            !ip_from_pb(pb[i]->lo, &s->lo) || !ip_from_pb(pb[i]->hi, &s->hi))
            return false;
        s->proto = (uint8_t)pb[i]->proto;
        s->port_lo = (uint16_t)pb[i]->port_lo;
        s->port_hi = (uint16_t)pb[i]->port_hi;
    }
    return true;
}

static bool secret_from_pb(ProtobufCBinaryData b, struct secret *out)
{
    return secret_set(out, b.data, b.len) == ERR_OK;
}

static bool blob_from_pb(ProtobufCBinaryData b, struct blob *out)
{
    return blob_set(out, b.data, b.len) == ERR_OK;
}

static ProtobufCBinaryData secret_to_pb(const struct secret *s)
{
    return pb_bytes(s->b, s->n);
}

/* ---- to protobuf ---- */

static Pb__IkeRecord *ike_to_pb(struct arena *a, const struct ike_record *r)
{
    Pb__IkeRecord *pb = arena_alloc(a, sizeof *pb);
    Pb__Term *term = arena_alloc(a, sizeof *term);

    if (!pb || !term)
        return NULL;
    pb__ike_record__init(pb);
    pb__term__init(term);
    term->number = r->term.number;
    term->slot = r->term.slot;
    term->incarnation = pb_bytes(r->term.incarnation.b, ID_BYTES);
    pb->term = term;
    pb->spi_i = r->spi_i;
    pb->spi_r = r->spi_r;
    pb->i_am_initiator = r->i_am_initiator;
    pb->tunnel_id = pb_bytes(r->tunnel_id.b, ID_BYTES);
    pb->lineage = pb_bytes(r->lineage.b, ID_BYTES);
    pb->revision = r->revision;
    pb->state = r->state;
    pb->suite = suite_to_pb(a, &r->suite);
    pb->sk_d = secret_to_pb(&r->sk_d);
    pb->sk_ai = secret_to_pb(&r->sk_ai);
    pb->sk_ar = secret_to_pb(&r->sk_ar);
    pb->sk_ei = secret_to_pb(&r->sk_ei);
    pb->sk_er = secret_to_pb(&r->sk_er);
    pb->sk_pi = secret_to_pb(&r->sk_pi);
    pb->sk_pr = secret_to_pb(&r->sk_pr);
    pb->next_in = r->next_in;
    pb->next_out = r->next_out;
    pb->last_request_hash = pb_bytes(r->last_request_hash, sizeof r->last_request_hash);
    pb->last_response = pb_bytes(r->last_response.p, r->last_response.n);
    pb->our_request = pb_bytes(r->our_request.p, r->our_request.n);
    pb->our_request_state = pb_bytes(r->our_request_state.p, r->our_request_state.n);
    pb->local = endpoint_to_pb(a, &r->local);
    pb->peer = endpoint_to_pb(a, &r->peer);
    pb->nat = r->nat;
    pb->created_ms = r->created_ms;
    pb->not_after_ms = r->not_after_ms;
    pb->peer_id_type = r->peer_id_type;
    pb->fragmentation = r->fragmentation;
    pb->lineage_over = r->lineage_over;
    pb->n_given_up = r->n_given_up;
    pb->given_up = (uint32_t *)r->given_up; /* only read */
    pb->peer_id = pb_bytes(r->peer_id.p, r->peer_id.n);
    return pb->suite && pb->local && pb->peer ? pb : NULL;
}

static Pb__ChildRecord *child_to_pb(struct arena *a, const struct child_record *r)
{
    Pb__ChildRecord *pb = arena_alloc(a, sizeof *pb);

    if (!pb)
        return NULL;
    pb__child_record__init(pb);
    pb->spi_in = r->spi_in;
    pb->spi_out = r->spi_out;
    pb->tunnel_id = pb_bytes(r->tunnel_id.b, ID_BYTES);
    pb->lineage = pb_bytes(r->lineage.b, ID_BYTES);
    pb->ike_spi = r->ike_spi;
    pb->ike_spi_r = r->ike_spi_r;
    pb->suite = suite_to_pb(a, &r->suite);
    pb->encr_in = secret_to_pb(&r->encr_in);
    pb->encr_out = secret_to_pb(&r->encr_out);
    pb->integ_in = secret_to_pb(&r->integ_in);
    pb->integ_out = secret_to_pb(&r->integ_out);
    pb->udp_encap = r->udp_encap;
    pb->local = endpoint_to_pb(a, &r->local);
    pb->peer = endpoint_to_pb(a, &r->peer);
    pb->nat = r->nat;
    pb->n_ts_local = r->ts_local.n;
    pb->ts_local = selectors_to_pb(a, &r->ts_local);
    pb->n_ts_remote = r->ts_remote.n;
    pb->ts_remote = selectors_to_pb(a, &r->ts_remote);
    pb->state = r->state;
    pb->confirmed = r->confirmed;
    pb->generation = r->generation;
    pb->replaces_spi = r->replaces_spi;
    pb->rekeyed = r->rekeyed;
    pb->origin_slot = r->origin_slot;
    pb->created_ms = r->created_ms;
    pb->not_after_ms = r->not_after_ms;
    return pb->suite && pb->local && pb->peer && pb->ts_local && pb->ts_remote ? pb : NULL;
}

static Pb__EndpointRecord *moved_to_pb(struct arena *a, const struct endpoint_record *r)
{
    Pb__EndpointRecord *pb = arena_alloc(a, sizeof *pb);

    if (!pb)
        return NULL;
    pb__endpoint_record__init(pb);
    pb->spi_in = r->spi_in;
    pb->move = r->move;
    pb->peer = endpoint_to_pb(a, &r->peer);
    return pb->peer ? pb : NULL;
}

Pb__Record *record_to_pb(struct arena *a, const struct record *r, bool with_position)
{
    Pb__Record *pb = arena_alloc(a, sizeof *pb);
    struct reader outer, body;

    if (!pb)
        return NULL;
    pb__record__init(pb);
    pb->version = r->version;
    if (with_position) {
        pb->origin = pb_bytes(r->origin.b, ID_BYTES);
        pb->origin_slot = r->origin_slot;
        pb->seq = r->seq;
        pb->derived = r->derived;
    }
    switch (r->kind) {
    case RECORD_IKE:
        pb->body_case = PB__RECORD__BODY_IKE;
        pb->ike = ike_to_pb(a, &r->ike);
        break;
    case RECORD_CHILD:
        pb->body_case = PB__RECORD__BODY_CHILD;
        pb->child = child_to_pb(a, &r->child);
        break;
    case RECORD_ENDPOINT:
        pb->body_case = PB__RECORD__BODY_ENDPOINT;
        pb->endpoint = moved_to_pb(a, &r->endpoint);
        break;
    default:
        return later_to_pb(a, r, pb) ? pb : NULL;
    }
    if (!pb->ike) /* one pointer, whichever the kind */
        return NULL;
    if (!unknown_split(&r->unknown, &outer, &body) || !unknown_restore(a, outer, &pb->base) ||
        !unknown_restore(a, body, (ProtobufCMessage *)pb->ike))
        return NULL;
    return pb;
}

/* ---- from protobuf ---- */

static bool ike_from_pb(const Pb__IkeRecord *pb, struct ike_record *r)
{
    const Pb__Term *term = pb->term;

    if (!term || term->slot > SLOT_MAX || !id_from_pb(term->incarnation, &r->term.incarnation))
        return false;
    r->term.number = term->number;
    r->term.slot = (uint16_t)term->slot;
    if (pb->state > SA_DELETED || pb->nat > (NAT_LOCAL | NAT_PEER) ||
        pb->last_request_hash.len != sizeof r->last_request_hash ||
        pb->n_given_up > IKE_GIVEN_UP_MAX)
        return false;
    if (pb->n_given_up)
        memcpy(r->given_up, pb->given_up, pb->n_given_up * sizeof *r->given_up);
    r->n_given_up = (uint8_t)pb->n_given_up;
    memcpy(r->last_request_hash, pb->last_request_hash.data, sizeof r->last_request_hash);
    r->spi_i = pb->spi_i;
    r->spi_r = pb->spi_r;
    r->i_am_initiator = pb->i_am_initiator;
    r->revision = pb->revision;
    r->state = (uint8_t)pb->state;
    r->next_in = pb->next_in;
    r->next_out = pb->next_out;
    r->nat = (uint8_t)pb->nat;
    r->created_ms = pb->created_ms;
    r->not_after_ms = pb->not_after_ms;
    r->peer_id_type = pb->peer_id_type;
    r->fragmentation = pb->fragmentation;
    r->lineage_over = pb->lineage_over;
    return id_from_pb(pb->tunnel_id, &r->tunnel_id) && id_from_pb(pb->lineage, &r->lineage) &&
           suite_from_pb(pb->suite, &r->suite) && secret_from_pb(pb->sk_d, &r->sk_d) &&
           secret_from_pb(pb->sk_ai, &r->sk_ai) && secret_from_pb(pb->sk_ar, &r->sk_ar) &&
           secret_from_pb(pb->sk_ei, &r->sk_ei) && secret_from_pb(pb->sk_er, &r->sk_er) &&
           secret_from_pb(pb->sk_pi, &r->sk_pi) && secret_from_pb(pb->sk_pr, &r->sk_pr) &&
           blob_from_pb(pb->last_response, &r->last_response) &&
           blob_from_pb(pb->our_request, &r->our_request) &&
           blob_from_pb(pb->our_request_state, &r->our_request_state) &&
           blob_from_pb(pb->peer_id, &r->peer_id) && endpoint_from_pb(pb->local, &r->local) &&
           endpoint_from_pb(pb->peer, &r->peer);
}

static bool child_from_pb(const Pb__ChildRecord *pb, struct child_record *r)
{
    if (pb->state > SA_DELETED || pb->nat > (NAT_LOCAL | NAT_PEER) || pb->origin_slot > SLOT_MAX)
        return false;
    r->spi_in = pb->spi_in;
    r->spi_out = pb->spi_out;
    r->ike_spi = pb->ike_spi;
    r->ike_spi_r = pb->ike_spi_r;
    r->udp_encap = pb->udp_encap;
    r->nat = (uint8_t)pb->nat;
    r->state = (uint8_t)pb->state;
    r->confirmed = pb->confirmed;
    r->generation = pb->generation;
    r->replaces_spi = pb->replaces_spi;
    r->rekeyed = pb->rekeyed;
    r->origin_slot = (uint16_t)pb->origin_slot;
    r->created_ms = pb->created_ms;
    r->not_after_ms = pb->not_after_ms;
    return id_from_pb(pb->tunnel_id, &r->tunnel_id) && id_from_pb(pb->lineage, &r->lineage) &&
           suite_from_pb(pb->suite, &r->suite) && secret_from_pb(pb->encr_in, &r->encr_in) &&
           secret_from_pb(pb->encr_out, &r->encr_out) &&
           secret_from_pb(pb->integ_in, &r->integ_in) &&
           secret_from_pb(pb->integ_out, &r->integ_out) && endpoint_from_pb(pb->local, &r->local) &&
           endpoint_from_pb(pb->peer, &r->peer) &&
           selectors_from_pb(pb->ts_local, pb->n_ts_local, &r->ts_local) &&
           selectors_from_pb(pb->ts_remote, pb->n_ts_remote, &r->ts_remote);
}

static bool moved_from_pb(const Pb__EndpointRecord *pb, struct endpoint_record *r)
{
    r->spi_in = pb->spi_in;
    r->move = pb->move;
    return endpoint_from_pb(pb->peer, &r->peer);
}

static bool body_from_pb(const Pb__Record *pb, struct record *r)
{
    switch (r->kind) {
    case RECORD_IKE:
        return ike_from_pb(pb->ike, &r->ike);
    case RECORD_CHILD:
        return child_from_pb(pb->child, &r->child);
    case RECORD_ENDPOINT:
        return moved_from_pb(pb->endpoint, &r->endpoint);
    default:
        return later_from_pb(pb, r);
    }
}

static uint8_t kind_of(const Pb__Record *pb)
{
    switch (pb->body_case) {
    case PB__RECORD__BODY_IKE:
        return RECORD_IKE;
    case PB__RECORD__BODY_CHILD:
        return RECORD_CHILD;
    case PB__RECORD__BODY_ENDPOINT:
        return RECORD_ENDPOINT;
    default:
        return later_kind(pb);
    }
}

int record_from_pb(const Pb__Record *pb, bool with_position, struct record **out)
{
    uint8_t kind = kind_of(pb);
    const ProtobufCMessage *body = record_is_later(kind) ? NULL : (ProtobufCMessage *)pb->ike;
    struct record *r;
    int rc = ERR_INVALID;

    *out = NULL;
    if (kind == 0 || (!record_is_later(kind) && !body))
        return ERR_UNSUPPORTED; /* no body that anyone could keep */
    r = record_new(kind);
    if (!r)
        return ERR_NOMEM;
    r->version = pb->version;
    if (with_position) {
        if (pb->origin_slot > SLOT_MAX || pb->seq == 0 || !id_from_pb(pb->origin, &r->origin))
            goto fail;
        r->origin_slot = (uint16_t)pb->origin_slot;
        r->seq = pb->seq;
        r->derived = pb->derived;
    }
    if (!body_from_pb(pb, r))
        goto fail;
    rc = unknown_keep(&pb->base, body, kind, &r->unknown);
    if (rc == ERR_OK)
        rc = codec_record_check(r);
    if (rc != ERR_OK)
        goto fail;
    *out = r;
    return ERR_OK;
fail:
    record_free(r);
    return record_is_later(kind) && rc == ERR_INVALID ? ERR_UNSUPPORTED : rc;
}

/* ---- the check ---- */

static bool times_fit(int64_t created_ms, int64_t not_after_ms)
{
    return created_ms >= 0 && created_ms < CODEC_TIME_MAX_MS && not_after_ms >= 0 &&
           not_after_ms < CODEC_TIME_MAX_MS;
}

static bool family_known(const struct ip_addr *a)
{
    return a->family == 4 || a->family == 6;
}

static bool outer_fits(const struct endpoint *local, const struct endpoint *peer)
{
    return family_known(&local->ip) && local->ip.family == peer->ip.family;
}

/* Encryption and integrity: rows of the table that go together, keys of their lengths. A
 * tombstone has lost its keys. */
static bool keys_fit(const struct suite *s, bool tombstone, const struct secret *encr[2],
                     const struct secret *integ[2])
{
    const struct transform *e = transform_find(TRANSFORM_ENCR, s->encr, s->encr_bits);
    const struct transform *i = transform_find(TRANSFORM_INTEG, s->integ, 0);
    size_t encr_bytes, integ_bytes;

    if (!e || (s->integ != INTEG_NONE && !i) || e->aead == (s->integ != INTEG_NONE))
        return false;
    if (s->dh != DH_NONE && !transform_find(TRANSFORM_DH, s->dh, 0))
        return false;
    encr_bytes = tombstone ? 0 : (size_t)e->key_bytes + e->salt_bytes;
    integ_bytes = tombstone || e->aead ? 0 : i->key_bytes;
    for (int side = 0; side < 2; side++)
        if (encr[side]->n != encr_bytes || integ[side]->n != integ_bytes)
            return false;
    return true;
}

static bool ike_fits(const struct ike_record *r)
{
    const struct transform *prf = transform_find(TRANSFORM_PRF, r->suite.prf, 0);
    const struct secret *encr[] = {&r->sk_ei, &r->sk_er}, *integ[] = {&r->sk_ai, &r->sk_ar};
    bool tombstone = r->state == SA_DELETED && r->sk_d.n == 0;
    size_t prf_bytes;

    if (r->spi_i == 0 || r->spi_r == 0 || r->term.slot > SLOT_MAX || !prf)
        return false;
    prf_bytes = tombstone ? 0 : prf->key_bytes;
    return (r->state == SA_INSTALLED || r->state == SA_DELETED) &&
           outer_fits(&r->local, &r->peer) && r->nat <= (NAT_LOCAL | NAT_PEER) &&
           times_fit(r->created_ms, r->not_after_ms) && r->sk_d.n == prf_bytes &&
           r->sk_pi.n == prf_bytes && r->sk_pr.n == prf_bytes &&
           r->last_response.n <= RECORD_BLOB_MAX && r->our_request.n <= RECORD_BLOB_MAX &&
           r->our_request_state.n <= RECORD_BLOB_MAX && r->peer_id.n <= RECORD_BLOB_MAX &&
           keys_fit(&r->suite, tombstone, encr, integ);
}

static bool selectors_fit(const struct selector_list *list)
{
    if (list->n > SELECTORS_MAX)
        return false;
    for (size_t i = 0; i < list->n; i++) {
        const struct selector *s = &list->s[i];
        bool opaque = s->port_lo == UINT16_MAX && s->port_hi == 0; /* RFC 7296 §3.13.1 */
        if (!family_known(&s->lo) || s->lo.family != s->hi.family ||
            ip_compare(&s->lo, &s->hi) > 0 || (s->port_lo > s->port_hi && !opaque))
            return false;
    }
    return true;
}

static bool child_fits(const struct child_record *r)
{
    const struct secret *encr[] = {&r->encr_in, &r->encr_out};
    const struct secret *integ[] = {&r->integ_in, &r->integ_out};
    bool tombstone = r->state == SA_DELETED && r->encr_in.n == 0 && r->integ_in.n == 0;

    return r->spi_in >= ESP_SPI_MIN && r->spi_out != 0 &&
           (r->state == SA_INSTALLED || r->state == SA_DELETED) &&
           outer_fits(&r->local, &r->peer) && r->nat <= (NAT_LOCAL | NAT_PEER) &&
           r->origin_slot <= SLOT_MAX && times_fit(r->created_ms, r->not_after_ms) &&
           selectors_fit(&r->ts_local) && selectors_fit(&r->ts_remote) &&
           keys_fit(&r->suite, tombstone, encr, integ);
}

int codec_record_check(const struct record *r)
{
    bool fits = false;

    if (r->version == 0 || r->origin_slot > SLOT_MAX || r->unknown.n > RECORD_BLOB_MAX)
        return ERR_INVALID;
    if (r->kind == RECORD_IKE)
        fits = ike_fits(&r->ike);
    else if (r->kind == RECORD_CHILD)
        fits = child_fits(&r->child);
    else if (r->kind == RECORD_ENDPOINT)
        fits = r->endpoint.spi_in >= ESP_SPI_MIN && family_known(&r->endpoint.peer.ip);
    else if (record_is_later(r->kind))
        fits = r->later.not_after_ms > 0 && r->later.not_after_ms < CODEC_TIME_MAX_MS &&
               r->later.body.n > 0 && r->later.body.n <= RECORD_BLOB_MAX;
    return fits ? ERR_OK : ERR_INVALID;
}

/* ---- a record alone ---- */

size_t codec_record_size(const struct record *r)
{
    struct arena a = arena_of(RECORD_BUDGET_BYTES);
    Pb__Record *pb = record_to_pb(&a, r, true);
    size_t n = pb ? pb__record__get_packed_size(pb) : 0;

    arena_free(&a);
    return n;
}

int codec_record_encode(const struct record *r, uint8_t *out, size_t cap, size_t *n)
{
    struct arena a = arena_of(RECORD_BUDGET_BYTES);
    Pb__Record *pb = record_to_pb(&a, r, true);
    int rc = ERR_OK;

    *n = 0;
    if (!pb)
        rc = ERR_NOMEM;
    else if (pb__record__get_packed_size(pb) > cap)
        rc = ERR_FULL;
    else
        *n = pb__record__pack(pb, out);
    arena_free(&a);
    return rc;
}

int codec_record_decode(struct slice bytes, struct record **out)
{
    struct arena a = arena_of(RECORD_BUDGET_BYTES);
    ProtobufCAllocator allocator = arena_allocator(&a);
    Pb__Record *pb;
    int rc = ERR_INVALID;

    *out = NULL;
    if (bytes.n > RECORD_BYTES_MAX)
        return ERR_FULL;
    pb = pb__record__unpack(&allocator, bytes.n, bytes.p);
    if (pb)
        rc = record_from_pb(pb, true, out);
    arena_free(&a);
    return rc;
}
