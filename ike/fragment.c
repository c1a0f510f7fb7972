/* Protected messages as they stand on the wire: one datagram with an SK payload, or
 * several with an SKF payload each (RFC 7383).
 *
 * Out: a message longer than IKE_FRAGMENT_MAX is cut when the peer announced
 * that it takes fragments. In: a fragment is opened as soon as it comes, so
 * that only what the peer's keys made is kept; its ciphertext waits for the
 * others. Either way a message is handled as a *run*, its datagrams one after
 * the other, in their order; a whole one is a run of one. */
#include <stdlib.h>
#include <string.h>

#include "ike/internal.h"

enum {
    HELD_BYTES_MAX = 32 << 20, /* datagrams that wait, of all SAs */
    REASSEMBLY_S = 30,         /* an incomplete message is kept this long */
};

struct fragments {
    uint32_t id;
    uint16_t total, have;
    uint64_t began_us; /* monotonic */
    size_t bytes;
    struct {
        uint8_t *p;
        size_t n;
    } part[IKE_FRAGMENTS_MAX];
};

/* ---- out ---- */

static int seal_one(struct ike_engine *e, const struct ike_record *rec, const struct outgoing *o,
                    const struct fragment *f, struct writer *run)
{
    const struct ike_sa *sa = ike_sa_find(e, ike_record_spi(rec));
    uint64_t iv;
    size_t n;
    int rc;

    if (!e->config.next_iv(e->config.next_iv_ctx, sa && !sa->restored, &iv)) {
        e->stats.no_epoch++;
        return ERR_BUSY;
    }
    rc = skf_seal(rec, rec->i_am_initiator, o->exchange, o->flags, o->id, f, iv, &e->rng,
                  run->p + run->n, run->cap - run->n, &n);
    if (rc == ERR_OK)
        run->n += n;
    return rc;
}

int message_seal(struct ike_engine *e, const struct ike_record *rec, const struct outgoing *o,
                 const struct chain *inner, struct blob *out)
{
    size_t limit = e->config.fragment_size ? e->config.fragment_size : IKE_FRAGMENT_MAX;
    size_t room = skf_room(rec, rec->i_am_initiator, limit), total = 0;
    struct fragment f = {.first = inner->any ? inner->first : PAYLOAD_NONE,
                         .piece = {inner->w.p, inner->w.n}};
    struct writer run = writer_of(e->scratch, sizeof e->scratch);
    int rc = ERR_OK;

    if (inner->w.bad || room == 0)
        return ERR_INVALID;
    /* Without the fragment header some octets more would fit; nobody misses them. */
    if (rec->fragmentation && inner->w.n > room)
        total = (inner->w.n + room - 1) / room;
    if (total > IKE_FRAGMENTS_MAX)
        return ERR_FULL;
    if (total == 0)
        rc = seal_one(e, rec, o, &f, &run);
    for (size_t i = 0; i < total && rc == ERR_OK; i++) {
        size_t left = inner->w.n - i * room;

        f.number = (uint16_t)(i + 1);
        f.total = (uint16_t)total;
        f.piece = (struct slice){inner->w.p + i * room, left < room ? left : room};
        rc = seal_one(e, rec, o, &f, &run);
        f.first = PAYLOAD_NONE;
    }
    return rc == ERR_OK ? blob_set(out, run.p, run.n) : rc;
}

void act_send_run(struct ike_engine *e, const struct endpoint *local, const struct endpoint *peer,
                  const struct blob *run)
{
    struct slice left = {run->p, run->n};
    struct message m;

    while (left.n && message_next(&left, &m))
        act_send(e, local, peer, m.raw);
}

/* ---- in ---- */

static void drop_one(struct ike_engine *e, struct ike_sa *sa, bool response)
{
    struct fragments *f = sa->fragments[response];

    if (!f)
        return;
    for (size_t i = 0; i < f->total; i++)
        free(f->part[i].p);
    e->held_bytes -= f->bytes;
    free(f);
    sa->fragments[response] = NULL;
}

void fragments_drop(struct ike_engine *e, struct ike_sa *sa)
{
    drop_one(e, sa, false);
    drop_one(e, sa, true);
}

void fragments_tick(struct ike_engine *e, struct ike_sa *sa)
{
    for (int side = 0; side < 2; side++)
        if (sa->fragments[side] &&
            e->now.mono_us - sa->fragments[side]->began_us >= REASSEMBLY_S * 1000000ULL) {
            e->stats.fragments_lost++;
            drop_one(e, sa, side);
        }
}

static bool fragment_parse(const struct message *m, uint16_t *number, uint16_t *total)
{
    const struct payload *skf = m->n ? &m->payloads[m->n - 1] : NULL;
    struct reader r;

    if (!skf || skf->type != PAYLOAD_SKF)
        return false;
    r = reader_of(skf->body.p, skf->body.n);
    *number = read_u16(&r);
    *total = read_u16(&r);
    return !r.bad && *number >= 1 && *number <= *total && *total <= IKE_FRAGMENTS_MAX;
}

/* Whether the message is as far as it goes one that this SA's peer made. */
static bool authentic(struct ike_engine *e, const struct ike_sa *sa, const struct message *m)
{
    size_t n;

    if (sk_open(&sa->rec->ike, m, !sa->rec->ike.i_am_initiator, e->plain, &n) == ERR_OK)
        return true;
    e->stats.malformed++;
    return false;
}

bool fragment_repeats(struct ike_engine *e, const struct ike_sa *sa, const struct request *rq)
{
    uint16_t number, total;

    return sa->rec->ike.fragmentation && fragment_parse(&rq->m, &number, &total) && number == 1 &&
           authentic(e, sa, &rq->m);
}

static struct fragments *fragments_begin(struct ike_engine *e, struct ike_sa *sa, bool response,
                                         uint32_t id, uint16_t total)
{
    struct fragments *f;

    drop_one(e, sa, response);
    f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->id = id;
    f->total = total;
    f->began_us = e->now.mono_us;
    sa->fragments[response] = f;
    return f;
}

static bool fragment_keep(struct ike_engine *e, struct fragments *f, uint16_t number,
                          struct slice raw)
{
    uint8_t *copy;

    if (f->bytes + raw.n > sizeof e->run || e->held_bytes + raw.n > HELD_BYTES_MAX)
        return false;
    copy = malloc(raw.n);
    if (!copy)
        return false;
    memcpy(copy, raw.p, raw.n);
    f->part[number - 1].p = copy;
    f->part[number - 1].n = raw.n;
    f->have++;
    f->bytes += raw.n;
    e->held_bytes += raw.n;
    return true;
}

/* Puts the complete message into rq, in the order of its fragments. */
static bool fragments_join(struct ike_engine *e, struct ike_sa *sa, const struct fragments *f,
                           struct request *rq)
{
    struct writer w = writer_of(e->run, sizeof e->run);
    struct slice run;

    for (size_t i = 0; i < f->total; i++)
        write_bytes(&w, f->part[i].p, f->part[i].n);
    drop_one(e, sa, rq->m.flags & IKE_FLAG_RESPONSE);
    rq->run = run = (struct slice){w.p, w.n};
    e->stats.reassembled++;
    return !w.bad && message_next(&run, &rq->m);
}

bool message_gather(struct ike_engine *e, struct ike_sa *sa, struct request *rq)
{
    bool response = rq->m.flags & IKE_FLAG_RESPONSE;
    struct fragments *f = sa->fragments[response];
    uint16_t number, total;

    if (rq->m.payloads[rq->m.n - 1].type == PAYLOAD_SK) {
        rq->run = rq->m.raw;
        return true;
    }
    if (!sa->rec->ike.fragmentation || !fragment_parse(&rq->m, &number, &total)) {
        e->stats.malformed++;
        return false;
    }
    if (f && f->id == rq->m.id &&
        (total < f->total || (total == f->total && f->part[number - 1].p)))
        return false; /* of an earlier cut, or here already (§2.6) */
    if (!authentic(e, sa, &rq->m))
        return false;
    if (!f || f->id != rq->m.id || total != f->total)
        f = fragments_begin(e, sa, response, rq->m.id, total);
    if (!f)
        return false;
    if (!fragment_keep(e, f, number, rq->m.raw)) {
        e->stats.fragments_lost++;
        drop_one(e, sa, response);
        return false;
    }
    return f->have == f->total && fragments_join(e, sa, f, rq);
}

int message_open(struct ike_engine *e, const struct ike_sa *sa, const struct request *rq,
                 struct message *inner)
{
    const struct ike_record *rec = &sa->rec->ike;
    struct slice left = rq->run;
    struct message m;
    size_t at = 0, n;

    *inner = (struct message){.spi_i = rq->m.spi_i, .spi_r = rq->m.spi_r, .raw = rq->m.raw};
    while (left.n) {
        int rc = message_next(&left, &m) ? ERR_OK : ERR_INVALID;

        if (rc == ERR_OK)
            rc = sk_open(rec, &m, !rec->i_am_initiator, e->plain + at, &n);
        if (rc != ERR_OK) {
            e->stats.malformed++;
            return ERR_AUTH;
        }
        at += n;
    }
    return message_parse_chain(inner, rq->m.payloads[rq->m.n - 1].next,
                               (struct slice){e->plain, at});
}

/* ---- requests that wait for a key exchange ---- */

struct blob waiting_take(struct ike_engine *e, struct ike_sa *sa)
{
    struct blob run = sa->waiting;

    sa->waiting = (struct blob){0};
    e->held_bytes -= run.n;
    return run;
}

bool waiting_set(struct ike_engine *e, struct ike_sa *sa, struct slice run)
{
    struct blob before = waiting_take(e, sa);
    bool kept =
        e->held_bytes + run.n <= HELD_BYTES_MAX && blob_set(&sa->waiting, run.p, run.n) == ERR_OK;

    blob_free(&before);
    e->held_bytes += sa->waiting.n;
    return kept;
}

bool waiting_add(struct ike_engine *e, struct ike_sa *sa, struct slice raw)
{
    struct slice left = {sa->waiting.p, sa->waiting.n};
    struct writer w = writer_of(e->run, sizeof e->run);
    struct message m;

    while (left.n && message_next(&left, &m))
        if (m.raw.n == raw.n && memcmp(m.raw.p, raw.p, raw.n) == 0)
            return true;
    write_bytes(&w, sa->waiting.p, sa->waiting.n);
    write_bytes(&w, raw.p, raw.n);
    return !w.bad && waiting_set(e, sa, (struct slice){w.p, w.n});
}
