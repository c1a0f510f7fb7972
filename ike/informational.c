/* INFORMATIONAL, as the responder (RFC 7296 §1.4): liveness checks, DELETE of
 * Child SAs and of the IKE SA. */
#include <inttypes.h>

#include "ike/internal.h"

void confirm_children(struct ike_engine *e, struct ike_sa *sa)
{
    for (size_t i = 0; i < sa->n_children; i++) {
        struct child_record *c = &sa->children[i]->child;

        if (c->confirmed)
            continue;
        c->confirmed = true;
        (void)group_add(e, sa->children[i]);
    }
}

/* A tombstone: no key is left in it. */
int group_add_tombstone(struct ike_engine *e, const struct record *r)
{
    if (group_add(e, r) != ERR_OK)
        return ERR_NOMEM;
    record_bury(e->group[e->n_group - 1]);
    return ERR_OK;
}

void group_add_deleted_child(struct ike_engine *e, struct ike_sa *sa, size_t i)
{
    (void)group_add_tombstone(e, sa->children[i]);
    ike_sa_remove_child(sa, i);
}

void group_add_deletion(struct ike_engine *e, struct ike_sa *sa)
{
    sa->rec->ike.lineage_over = sa->by_lineage.tbl && !sa->rekeyed;
    (void)group_add_tombstone(e, sa->rec);
    while (sa->n_children)
        group_add_deleted_child(e, sa, sa->n_children - 1);
}

static size_t find_child_by_peer_spi(const struct ike_sa *sa, uint32_t spi)
{
    size_t i;

    for (i = 0; i < sa->n_children && sa->children[i]->child.spi_out != spi; i++)
        ;
    return i;
}

/* One more SPI in the answer's DELETE; its count is written at *count_at in the end. */
static void add_deleted(struct chain *c, uint32_t spi_in, size_t *count_at, unsigned before)
{
    if (before == 0) {
        chain_open(c, PAYLOAD_DELETE);
        write_u8(&c->w, PROTOCOL_ESP);
        write_u8(&c->w, 4);
        *count_at = c->w.n;
        write_u16(&c->w, 0);
    }
    write_u32(&c->w, spi_in);
}

/* DELETE of ESP SAs: ours of each pair go into the answer's DELETE, but for one that we are
 * deleting, too (§1.4.1). Whether the IKE SA's record
 * changed. */
static bool delete_children(struct ike_engine *e, struct ike_sa *sa, struct slice body,
                            struct chain *c)
{
    struct reader r = reader_of(body.p, body.n);
    uint8_t protocol = read_u8(&r), spi_bytes = read_u8(&r);
    uint16_t count = read_u16(&r), deleted = 0;
    size_t count_at = 0;
    bool any = false;

    if (r.bad || protocol != PROTOCOL_ESP || spi_bytes != 4 || r.left != (size_t)count * 4)
        return false;
    for (unsigned i = 0; i < count && e->n_group < GROUP_MAX; i++) {
        uint32_t spi = read_u32(&r);
        size_t at = find_child_by_peer_spi(sa, spi);

        if (at == sa->n_children) {
            any |= given_up_note(&sa->rec->ike, spi);
            continue;
        }
        if (!(sa->own.kind == OWN_DELETE_CHILD &&
              sa->own.old_spi == sa->children[at]->child.spi_in))
            add_deleted(c, sa->children[at]->child.spi_in, &count_at, deleted++);
        log_info("ike", "Child SA in=0x%08" PRIx32 " out=0x%08" PRIx32 " deleted by the peer",
                 sa->children[at]->child.spi_in, spi);
        group_add_deleted_child(e, sa, at);
        e->stats.deletes++;
        any = true;
    }
    if (deleted)
        write_u16_at(&c->w, count_at, deleted);
    chain_close(c);
    return any;
}

void informational_request(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                           const struct message *inner)
{
    bool delete_ike = false, deleted = false;
    struct chain c;

    confirm_children(e, sa);
    chain_begin(&c, e->inner, sizeof e->inner);
    for (size_t i = 0; i < inner->n; i++) {
        const struct payload *p = &inner->payloads[i];

        if (p->type != PAYLOAD_DELETE || p->body.n < 1)
            continue;
        if (p->body.p[0] == PROTOCOL_IKE)
            delete_ike = true;
        else
            deleted |= delete_children(e, sa, p->body, &c);
    }
    if (delete_ike) {
        log_info("ike", "IKE SA 0x%016" PRIx64 " deleted by the peer", sa->our_spi);
        chain_begin(&c, e->inner, sizeof e->inner);
    }
    if (answer_seal(e, sa, rq, &c) != ERR_OK) {
        group_drop(e);
        return;
    }
    if (delete_ike) {
        e->stats.deletes++;
        group_add_deletion(e, sa);
        sa->close_after_commit = true;
        group_commit(e, sa);
    } else if (deleted) {
        (void)group_add(e, sa->rec);
        group_commit(e, sa);
    } else {
        answer_send(e, sa);
        if (e->n_group)
            group_commit(e, NULL);
    }
}
