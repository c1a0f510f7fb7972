/* Child SAs: negotiation, and CREATE_CHILD_SA as the responder (RFC 7296 §1.3, §2.8):
 *
 *   HDR, SK {N(REKEY_SA), SA, Ni, TSi, TSr}  -->
 *                         <--  HDR, SK {SA, Nr, TSi, TSr}
 *
 * The new SA inherits the lineage of the one it replaces; both stay installed
 * until the peer deletes the old one. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ike/internal.h"
#include "proto/wire_ip.h"

static uint32_t draw_esp_spi(struct ike_engine *e)
{
    uint32_t spi;

    do
        spi = (uint32_t)e->config.slot << 22 | (rng_u32(&e->rng) & 0x3fffff);
    while (spi < ESP_SPI_MIN || e->config.esp_spi_taken(e->config.spi_ctx, spi));
    return spi;
}

/* ESP goes in UDP behind a NAT (§2.23), and on the NAT-T port with a peer that cannot detect one.
 */
static void set_ends(const struct ike_sa *sa, const struct child_request *cr,
                     struct child_record *child)
{
    const struct ike_record *ike = &sa->rec->ike;

    child->udp_encap =
        cr->replaces ? cr->replaces->child.udp_encap
                     : ike->nat != 0 || (ike->local.port == IKE_NATT_PORT && !sa->answer_natd);
    child->nat = ike->nat;
    child->local = ike->local;
    child->peer = ike->peer;
    if (!child->udp_encap)
        child->local.port = child->peer.port = 0;
}

static uint16_t refuse_child(struct ike_engine *e, const struct request *rq, const struct tunnel *t,
                             uint16_t type)
{
    act_failure(e, &t->t.id, rq, e->reason);
    return type;
}

static uint16_t choose_suite(struct ike_engine *e, const struct tunnel *t,
                             const struct child_request *cr, struct choice *choice,
                             const struct request *rq)
{
    struct choice_rules rules = {
        .protocol = PROTOCOL_ESP, .allow_null = t->t.allow_null_cipher, .ignore_dh = cr->in_auth};
    char offered[IKE_TEXT_MAX / 2], allowed[IKE_TEXT_MAX / 2];
    int rc = proposal_choose(cr->sa, &rules, choice);

    if (rc == ERR_OK && choice->suite.dh == DH_NONE)
        return 0;
    if (rc == ERR_INVALID) {
        snprintf(e->reason, sizeof e->reason, "invalid_syntax: malformed ESP proposal");
        return refuse_child(e, rq, t, N_INVALID_SYNTAX);
    }
    rules.ignore_dh = true; /* perfect forward secrecy is not offered by this version */
    snprintf(e->reason, sizeof e->reason,
             "no_proposal_chosen: peer offered %.200s, tunnel allows %.200s",
             proposal_describe(cr->sa, offered, sizeof offered),
             proposal_describe_rules(&rules, allowed, sizeof allowed));
    return refuse_child(e, rq, t, N_NO_PROPOSAL_CHOSEN);
}

static uint16_t choose_selectors(struct ike_engine *e, const struct tunnel *t,
                                 const struct child_request *cr, struct child_record *child,
                                 const struct request *rq)
{
    struct selector_list tsi, tsr;
    char a[IKE_TEXT_MAX / 4], b[IKE_TEXT_MAX / 4];

    if (ts_parse(cr->tsi, &tsi) != ERR_OK || ts_parse(cr->tsr, &tsr) != ERR_OK) {
        snprintf(e->reason, sizeof e->reason, "invalid_syntax: malformed traffic selectors");
        return refuse_child(e, rq, t, N_INVALID_SYNTAX);
    }
    if (ts_narrow(&tsi, &t->t.remote_ts, &child->ts_remote) &&
        ts_narrow(&tsr, &t->t.local_ts, &child->ts_local))
        return 0;
    snprintf(e->reason, sizeof e->reason, "ts_unacceptable: peer offered TSi %s TSr %s",
             ts_describe(&tsi, a, sizeof a), ts_describe(&tsr, b, sizeof b));
    return refuse_child(e, rq, t, N_TS_UNACCEPTABLE);
}

uint16_t child_negotiate(struct ike_engine *e, struct ike_sa *sa, const struct tunnel *tunnel,
                         const struct child_request *cr, struct record **out, struct choice *choice,
                         const struct request *rq)
{
    const struct ike_record *ike = &sa->rec->ike;
    struct record *r;
    struct child_record *child;
    uint16_t error = choose_suite(e, tunnel, cr, choice, rq);

    if (error)
        return error;
    r = record_new(RECORD_CHILD);
    if (!r)
        return N_TEMPORARY_FAILURE;
    child = &r->child;
    error = choose_selectors(e, tunnel, cr, child, rq);
    child->suite = choice->suite;
    if (!error &&
        keys_derive_child(ike, cr->nonce_i, cr->nonce_r, (struct slice){0}, true, child) != ERR_OK)
        error = N_TEMPORARY_FAILURE;
    if (error) {
        record_free(r);
        return error;
    }
    child->spi_in = draw_esp_spi(e);
    child->spi_out = choice->peer_spi;
    child->tunnel_id = ike->tunnel_id;
    child->lineage = ike->lineage;
    child->ike_spi = sa->our_spi;
    child->ike_spi_r = ike->spi_r;
    set_ends(sa, cr, child);
    child->state = SA_INSTALLED;
    child->origin_slot = e->config.slot;
    child->created_ms = e->now.wall_ms;
    child->not_after_ms = e->now.wall_ms + (int64_t)e->config.child_lifetime_s * 1000;
    if (cr->replaces) {
        child->generation = cr->replaces->child.generation + 1;
        child->replaces_spi = cr->replaces->child.spi_in;
    }
    *out = r;
    return 0;
}

void child_write(struct chain *c, const struct record *child, const struct choice *choice)
{
    proposal_write(c, choice, PROTOCOL_ESP, child->child.spi_in);
    ts_write(c, PAYLOAD_TSI, &child->child.ts_remote);
    ts_write(c, PAYLOAD_TSR, &child->child.ts_local);
}

/* The child that N(REKEY_SA) names: by the SPI that the peer expects inbound. */
static struct record *child_of_peer_spi(const struct ike_sa *sa, struct slice spi_field)
{
    struct reader r = reader_of(spi_field.p, spi_field.n);
    uint32_t spi = read_u32(&r);

    if (r.bad || r.left)
        return NULL;
    for (size_t i = 0; i < sa->n_children; i++)
        if (sa->children[i]->child.spi_out == spi)
            return sa->children[i];
    return NULL;
}

static void answer_new_child(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                             struct record *child, const struct choice *choice,
                             struct slice nonce_r)
{
    struct chain c;

    chain_begin(&c, e->inner, sizeof e->inner);
    proposal_write(&c, choice, PROTOCOL_ESP, child->child.spi_in);
    chain_open(&c, PAYLOAD_NONCE);
    write_bytes(&c.w, nonce_r.p, nonce_r.n);
    chain_close(&c);
    ts_write(&c, PAYLOAD_TSI, &child->child.ts_remote);
    ts_write(&c, PAYLOAD_TSR, &child->child.ts_local);
    if (answer_seal(e, sa, rq, &c) != ERR_OK || group_add(e, sa->rec) != ERR_OK ||
        group_add(e, child) != ERR_OK || ike_sa_add_child(sa, child) != ERR_OK) {
        record_free(child);
        group_drop(e);
        return;
    }
    e->stats.rekeys++;
    log_info("ike", "Child SA in=0x%08" PRIx32 " rekeyed to in=0x%08" PRIx32 " out=0x%08" PRIx32,
             child->child.replaces_spi, child->child.spi_in, child->child.spi_out);
    group_commit(e, sa);
}

void create_child_request(struct ike_engine *e, struct ike_sa *sa, const struct request *rq,
                          const struct message *inner)
{
    const struct payload *offer = message_find(inner, PAYLOAD_SA),
                         *nonce = message_find(inner, PAYLOAD_NONCE);
    const struct payload *tsi = message_find(inner, PAYLOAD_TSI),
                         *tsr = message_find(inner, PAYLOAD_TSR);
    struct child_request cr = {0};
    uint8_t nonce_r[32];
    struct record *child;
    struct choice choice;
    struct tunnel *tunnel;
    struct notify rekey;
    uint16_t error;

    confirm_children(e, sa);
    if (!message_find_notify(inner, N_REKEY_SA, &rekey) || rekey.protocol != PROTOCOL_ESP || !tsi ||
        !tsr) {
        answer_error(e, sa, rq, N_NO_ADDITIONAL_SAS, (struct slice){0});
        goto done;
    }
    if (!offer || !nonce || nonce->body.n < IKE_NONCE_MIN || nonce->body.n > IKE_NONCE_MAX) {
        answer_error(e, sa, rq, N_INVALID_SYNTAX, (struct slice){0});
        goto done;
    }
    HASH_FIND(by_id, e->tunnels, &sa->rec->ike.tunnel_id, sizeof(struct id128), tunnel);
    cr.replaces = child_of_peer_spi(sa, rekey.spi);
    if (!cr.replaces || !tunnel) {
        struct chain c;

        chain_begin(&c, e->inner, sizeof e->inner);
        chain_notify(&c, PROTOCOL_ESP, rekey.spi,
                     tunnel ? N_CHILD_SA_NOT_FOUND : N_NO_ADDITIONAL_SAS, (struct slice){0});
        if (answer_seal(e, sa, rq, &c) == ERR_OK)
            answer_send(e, sa);
        goto done;
    }
    rng_fill(&e->rng, nonce_r, sizeof nonce_r);
    cr.sa = offer->body;
    cr.tsi = tsi->body;
    cr.tsr = tsr->body;
    cr.nonce_i = nonce->body;
    cr.nonce_r = (struct slice){nonce_r, sizeof nonce_r};
    error = child_negotiate(e, sa, tunnel, &cr, &child, &choice, rq);
    if (error) {
        answer_error(e, sa, rq, error, (struct slice){0});
    } else {
        answer_new_child(e, sa, rq, child, &choice, cr.nonce_r);
        return;
    }
done:
    if (e->n_group)
        group_commit(e, NULL); /* what this request confirmed */
}
