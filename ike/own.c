/* Requests of ours: liveness checks, deletions, rekeys (rekey.c builds those).
 *
 * One at a time per IKE SA. The bytes are sealed once, kept in the record and
 * committed before they leave, so that whoever speaks for the SA later repeats
 * exactly these; they are repeated with growing pauses until they are answered.
 * A peer that stays silent to the end is taken as gone, unless this node stands
 * in a minority: then it keeps asking. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ike/internal.h"

enum {
    FIRST_RETRANSMIT_MS = 1000, /* doubled each time */
    TRIES_MAX = 6,              /* 1 + 2 + 4 + 8 + 16 + 32 s */
    SLOW_RETRANSMIT_MS = 30000, /* while the SA may not be given up */
    RETRY_MS = 10000,           /* pause after a refused rekey */
    HARD_MARGIN_MS = 5000,      /* an SA that nobody rekeyed is deleted this long before its end, */
    HARD_MARGIN_SHARE = 40,     /* or this part of its life, if that is less */
};

bool own_may_start(const struct ike_sa *sa)
{
    return sa->phase == PHASE_ESTABLISHED && sa->own.kind == OWN_NONE && !sa->commit && !sa->busy;
}

void own_clear(struct ike_sa *sa)
{
    dh_free(sa->own.dh);
    wipe(&sa->own, sizeof sa->own);
    blob_free(&sa->rec->ike.our_request);
    blob_free(&sa->rec->ike.our_request_state);
}

/* ---- what another process needs to go on with a request ---- */

static int save_state(struct ike_sa *sa)
{
    const struct own_request *own = &sa->own;
    uint8_t bytes[128], private_key[DH_PRIVATE_MAX];
    struct writer w = writer_of(bytes, sizeof bytes);
    size_t n = own->dh ? DH_PRIVATE_MAX : 0;
    int rc = own->dh ? dh_private(own->dh, private_key, n) : ERR_OK;

    write_u8(&w, (uint8_t)own->kind);
    write_u32(&w, own->id);
    write_u32(&w, own->old_spi);
    write_u32(&w, own->new_spi);
    write_u64(&w, own->new_ike_spi);
    write_u16(&w, own->group);
    write_bytes(&w, own->nonce, sizeof own->nonce);
    write_u8(&w, (uint8_t)n);
    write_bytes(&w, private_key, n);
    if (rc == ERR_OK)
        rc = w.bad ? ERR_FULL : blob_set(&sa->rec->ike.our_request_state, bytes, w.n);
    wipe(private_key, sizeof private_key);
    wipe(bytes, sizeof bytes);
    return rc;
}

void own_restore(struct ike_engine *e, struct ike_sa *sa)
{
    const struct blob *state = &sa->rec->ike.our_request_state;
    struct reader r = reader_of(state->p, state->n);
    struct own_request *own = &sa->own;
    struct slice private_key;

    if (state->n == 0 || sa->rec->ike.our_request.n == 0)
        return;
    own->kind = (enum own_kind)read_u8(&r);
    own->id = read_u32(&r);
    own->old_spi = read_u32(&r);
    own->new_spi = read_u32(&r);
    own->new_ike_spi = read_u64(&r);
    own->group = read_u16(&r);
    read_bytes(&r, own->nonce, sizeof own->nonce);
    private_key = read_slice(&r, read_u8(&r));
    if (private_key.n)
        own->dh = dh_import(own->group, private_key);
    if (r.bad || own->kind > OWN_REKEY_IKE || (private_key.n && !own->dh)) {
        log_warn("ike", "IKE SA 0x%016" PRIx64 ": an outstanding request cannot be taken up",
                 sa->our_spi);
        own->kind = OWN_NONE;
        return;
    }
    own->sent = true;
    own->next_us = e->now.mono_us;
}

/* ---- sending ---- */

void own_launch(struct ike_engine *e, struct ike_sa *sa, uint8_t exchange,
                const struct chain *inner)
{
    struct ike_record *rec = &sa->rec->ike;
    struct outgoing o = {exchange, 0, rec->next_out};
    int rc;

    sa->own.id = o.id;
    rc = message_seal(e, rec, &o, inner, &rec->our_request);
    if (rc == ERR_OK)
        rc = save_state(sa);
    if (rc != ERR_OK || group_add(e, sa->rec) != ERR_OK) {
        own_clear(sa);
        sa->retry_us = e->now.mono_us + RETRY_MS * 1000ULL;
        return;
    }
    rec->next_out++;
    rec->revision++;
    e->group[e->n_group - 1]->ike.next_out = rec->next_out;
    e->group[e->n_group - 1]->ike.revision = rec->revision;
    group_commit_then(e, sa, AFTER_REQUEST);
}

void own_send(struct ike_engine *e, struct ike_sa *sa)
{
    uint64_t pause_ms;

    if (sa->own.kind == OWN_NONE || sa->rec->ike.our_request.n == 0)
        return;
    move_widen(sa);
    pause_ms = (uint64_t)FIRST_RETRANSMIT_MS
               << (sa->own.tries < TRIES_MAX ? sa->own.tries : TRIES_MAX);
    if (sa->own.tries >= TRIES_MAX)
        pause_ms = SLOW_RETRANSMIT_MS;
    sa->own.sent = true;
    sa->own.tries++;
    sa->own.next_us = e->now.mono_us + pause_ms * 1000;
    move_send(e, sa);
}

/* Somebody else ended it, and nothing of it can be repeated or answered any more: its peer is told
 * once, so that it need not find out. */
void own_farewell(struct ike_engine *e, struct ike_sa *sa)
{
    struct ike_record *rec = &sa->rec->ike;
    struct outgoing o = {INFORMATIONAL, 0, rec->next_out};
    struct chain c;

    chain_begin(&c, e->inner, sizeof e->inner);
    chain_open(&c, PAYLOAD_DELETE);
    write_u8(&c.w, PROTOCOL_IKE);
    write_u8(&c.w, 0);
    write_u16(&c.w, 0);
    chain_close(&c);
    if (message_seal(e, rec, &o, &c, &rec->our_request) == ERR_OK)
        act_send_run(e, &rec->local, &rec->peer, &rec->our_request);
}

void own_start_simple(struct ike_engine *e, struct ike_sa *sa, enum own_kind kind, uint32_t spi_in)
{
    struct chain c;

    sa->own = (struct own_request){.kind = kind, .old_spi = spi_in};
    chain_begin(&c, e->inner, sizeof e->inner);
    if (kind != OWN_DPD) {
        chain_open(&c, PAYLOAD_DELETE);
        write_u8(&c.w, kind == OWN_DELETE_CHILD ? PROTOCOL_ESP : PROTOCOL_IKE);
        write_u8(&c.w, kind == OWN_DELETE_CHILD ? 4 : 0);
        write_u16(&c.w, kind == OWN_DELETE_CHILD ? 1 : 0);
        if (kind == OWN_DELETE_CHILD)
            write_u32(&c.w, spi_in);
        chain_close(&c);
    }
    own_launch(e, sa, INFORMATIONAL, &c);
}

/* ---- time ---- */

/* Whether an SA is so far in its life, 0 to 1000; our rekeys begin between 800 and 900, and two
 * looks early: one may pass before we see it, one more while another rekey is under way. */
static bool due(const struct ike_engine *e, int64_t created_ms, int64_t not_after_ms,
                uint32_t permille)
{
    int64_t life = not_after_ms - created_ms;

    return life > 0 && e->now.wall_ms - created_ms >= life / 1000 * permille - 2 * SWEEP_MS;
}

static int64_t hard_margin_ms(const struct child_record *c)
{
    int64_t share = (c->not_after_ms - c->created_ms) / HARD_MARGIN_SHARE;

    return share < HARD_MARGIN_MS ? share : HARD_MARGIN_MS;
}

static bool is_replaced(const struct ike_sa *sa, uint32_t spi_in)
{
    for (size_t i = 0; i < sa->n_children; i++)
        if (sa->children[i]->child.replaces_spi == spi_in)
            return true;
    return false;
}

/* The next thing that this SA needs from us; at most one. */
static void start_what_is_due(struct ike_engine *e, struct ike_sa *sa)
{
    struct ike_record *rec = &sa->rec->ike;
    uint32_t permille = 800 + sa->rekey_after_permille;
    struct tunnel *tunnel;

    if (sa->rekeyed) {
        if (e->now.mono_us >= sa->retry_us)
            own_start_simple(e, sa, OWN_DELETE_IKE, 0);
        return;
    }
    if (e->now.mono_us < sa->retry_us)
        return;
    HASH_FIND(by_id, e->tunnels, &rec->tunnel_id, sizeof rec->tunnel_id, tunnel);
    if (!tunnel) {
        log_info("ike",
                 "IKE SA 0x%016" PRIx64 ": its tunnel is not configured any more, deleting it",
                 sa->our_spi);
        own_start_simple(e, sa, OWN_DELETE_IKE, 0);
        return;
    }
    /* Children first: theirs is the traffic. */
    for (size_t i = 0; i < sa->n_children; i++) {
        struct child_record *c = &sa->children[i]->child;

        if (c->not_after_ms - e->now.wall_ms <= hard_margin_ms(c)) {
            own_start_simple(e, sa, OWN_DELETE_CHILD, c->spi_in);
            return;
        }
        if (due(e, c->created_ms, c->not_after_ms, permille) && !is_replaced(sa, c->spi_in)) {
            rekey_child_start(e, sa, sa->children[i]);
            return;
        }
    }
    if (due(e, rec->created_ms, rec->not_after_ms, permille)) {
        rekey_ike_start(e, sa);
        return;
    }
    if (liveness_check_due(e, sa))
        own_start_simple(e, sa, OWN_DPD, 0);
}

void own_tick(struct ike_engine *e, struct ike_sa *sa)
{
    move_continue(e, sa);
    if (sa->own.kind == OWN_NONE) {
        if (own_may_start(sa))
            start_what_is_due(e, sa);
        return;
    }
    if (!sa->own.sent || sa->busy || sa->commit || e->now.mono_us < sa->own.next_us)
        return;
    switch (sa->own.tries >= TRIES_MAX ? liveness_judge(e, sa) : LIVENESS_ASK_ON) {
    case LIVENESS_ASK_ON:
        own_send(e, sa);
        break;
    case LIVENESS_WAIT:
        break;
    case LIVENESS_LOST:
        liveness_give_up(e, sa);
        break;
    }
}

/* ---- answers ---- */

static void child_deleted(struct ike_engine *e, struct ike_sa *sa, uint32_t spi_in)
{
    for (size_t i = 0; i < sa->n_children; i++)
        if (sa->children[i]->child.spi_in == spi_in) {
            group_add_deleted_child(e, sa, i);
            e->stats.deletes++;
            return;
        }
}

bool own_awaits(const struct ike_sa *sa, uint32_t id)
{
    return sa->own.kind != OWN_NONE && sa->own.sent && id == sa->own.id;
}

void own_response(struct ike_engine *e, struct ike_sa *sa, const struct request *rq)
{
    struct ike_record *rec = &sa->rec->ike;
    uint32_t old_spi = sa->own.old_spi;
    enum own_kind kind = sa->own.kind;
    struct own_request asked;
    struct message inner;

    switch (message_open(e, sa, rq, &inner)) {
    case ERR_OK:
        break;
    case ERR_AUTH:
        return;
    default:
        e->stats.malformed++;
        return;
    }
    sa->last_in_us = e->now.mono_us;
    if (kind == OWN_REKEY_CHILD || kind == OWN_REKEY_IKE) {
        rekey_response(e, sa, rq, &inner, NULL);
        return;
    }
    asked = sa->own;
    own_clear(sa);
    rec->revision++;
    if (kind == OWN_DELETE_IKE) {
        group_add_deletion(e, sa);
        group_commit(e, NULL);
        e->stats.deletes++;
        ike_sa_forget(e, sa);
        return;
    }
    if (kind == OWN_DELETE_CHILD)
        child_deleted(e, sa, old_spi);
    else
        move_answered(e, sa, &asked, rq);
    (void)group_add(e, sa->rec);
    group_commit(e, NULL);
}
