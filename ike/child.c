/* A Child SA in the making: what IKE_AUTH and CREATE_CHILD_SA have in common. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ike/internal.h"
#include "proto/wire_ip.h"

uint32_t draw_22_bits(struct ike_engine *e)
{
    bool granted = !e->config.granted || e->config.granted(e->config.next_iv_ctx);

    return (rng_u32(&e->rng) & 0x1fffff) | (granted ? 0 : 0x200000);
}

uint32_t draw_esp_spi(struct ike_engine *e)
{
    uint32_t spi;

    do
        spi = (uint32_t)e->config.slot << 22 | draw_22_bits(e);
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

uint16_t child_choose(struct ike_engine *e, const struct tunnel *t, const struct child_request *cr,
                      struct choice *choice, const struct request *rq)
{
    struct choice_rules rules = {.protocol = PROTOCOL_ESP,
                                 .allow_null = t->t.allow_null_cipher,
                                 .ke_group = cr->ke_group,
                                 .ignore_dh = cr->in_auth};
    int rc = proposal_choose(cr->sa, &rules, choice);

    if (rc == ERR_OK)
        return 0;
    if (rc == ERR_INVALID) {
        snprintf(e->reason, sizeof e->reason, "invalid_syntax: malformed ESP proposal");
        return refuse_child(e, rq, t, N_INVALID_SYNTAX);
    }
    explain_no_proposal(e, &rules, cr->sa);
    return refuse_child(e, rq, t, N_NO_PROPOSAL_CHOSEN);
}

static uint16_t choose_selectors(struct ike_engine *e, const struct tunnel *t,
                                 const struct child_request *cr, struct child_record *child,
                                 const struct request *rq)
{
    struct selector_list tsi, tsr;
    char text[4][IKE_TEXT_MAX / 4];

    if (ts_parse(cr->tsi, &tsi) != ERR_OK || ts_parse(cr->tsr, &tsr) != ERR_OK) {
        snprintf(e->reason, sizeof e->reason, "invalid_syntax: malformed traffic selectors");
        return refuse_child(e, rq, t, N_INVALID_SYNTAX);
    }
    if (ts_narrow(&tsi, &t->t.remote_ts, &child->ts_remote) &&
        ts_narrow(&tsr, &t->t.local_ts, &child->ts_local))
        return 0;
    snprintf(
        e->reason, sizeof e->reason,
        "ts_unacceptable: peer offered TSi %.100s TSr %.100s, tunnel allows TSi %.100s TSr %.100s",
        ts_describe(&tsi, text[0], sizeof text[0]), ts_describe(&tsr, text[1], sizeof text[1]),
        ts_describe(&t->t.remote_ts, text[2], sizeof text[2]),
        ts_describe(&t->t.local_ts, text[3], sizeof text[3]));
    return refuse_child(e, rq, t, N_TS_UNACCEPTABLE);
}

uint16_t child_make(struct ike_engine *e, struct ike_sa *sa, const struct tunnel *tunnel,
                    const struct child_request *cr, const struct choice *choice,
                    struct record **out, const struct request *rq)
{
    const struct ike_record *ike = &sa->rec->ike;
    struct record *r = record_new(RECORD_CHILD);
    struct child_record *child;
    uint16_t error;

    if (!r)
        return N_TEMPORARY_FAILURE;
    child = &r->child;
    error = choose_selectors(e, tunnel, cr, child, rq);
    child->suite = choice->suite;
    if (!error &&
        keys_derive_child(ike, cr->nonce_i, cr->nonce_r, cr->shared, true, child) != ERR_OK)
        error = N_TEMPORARY_FAILURE;
    if (error) {
        record_free(r);
        return error;
    }
    child->spi_in = draw_esp_spi(e);
    child->spi_out = choice->peer_spi;
    given_up_forget(&sa->rec->ike, child->spi_out);
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
    proposal_write(c, choice, PROTOCOL_ESP, child->child.spi_in, 4);
    ts_write(c, PAYLOAD_TSI, &child->child.ts_remote);
    ts_write(c, PAYLOAD_TSR, &child->child.ts_local);
}
