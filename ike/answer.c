/* Answers: sealing, keeping, sending. The kept bytes are what a retransmitted
 * request gets again (RFC 7296 §2.1), on this node or after a restart. */
#include "ike/internal.h"

void chain_error(struct chain *c, uint16_t type)
{
    chain_notify(c, 0, (struct slice){0}, type, (struct slice){0});
}

int answer_seal(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                const struct chain *inner)
{
    struct ike_record *rec = &sa->rec->ike;
    struct slice raw = rq->m.raw;
    struct outgoing o = {rq->m.exchange, IKE_FLAG_RESPONSE, rq->m.id};
    uint8_t hash[HASH_MAX];
    int rc = crypto_hash(HASH_SHA256, &raw, 1, hash);

    if (rc == ERR_OK)
        rc = message_seal(e, rec, &o, inner, &rec->last_response);
    if (rc == ERR_BUSY)
        return rc;
    if (rc != ERR_OK) {
        log_error("ike", "cannot build an answer: %s", err_text(rc));
        return rc;
    }
    __builtin_memcpy(rec->last_request_hash, hash, sizeof rec->last_request_hash);
    rec->next_in = rq->m.id + 1;
    rec->revision++;
    sa->answer_local = rq->local;
    sa->answer_peer = rq->peer;
    return ERR_OK;
}

void answer_send(struct ike_engine *e, struct ike_sa *sa)
{
    act_send_run(e, &sa->answer_local, &sa->answer_peer, &sa->rec->ike.last_response);
}

void answer_error(struct ike_engine *e, struct ike_sa *sa, const struct request *rq, uint16_t type,
                  struct slice data)
{
    struct chain c;

    chain_begin(&c, e->inner, sizeof e->inner);
    chain_notify(&c, 0, (struct slice){0}, type, data);
    if (answer_seal(e, sa, rq, &c) == ERR_OK)
        answer_send(e, sa);
}
