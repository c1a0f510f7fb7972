/* CREATE_CHILD_SA: PFS, additional Child SAs, rekeying the IKE SA. */
#include <criterion/criterion.h>
#include <string.h>

#include "peer.h"

static struct bench b;
static struct peer p;

static void begin(void)
{
    bench_open(&b);
    peer_open(&p, &b);
}

static void end(void)
{
    peer_close(&p);
    bench_close(&b);
}

TestSuite(create, .init = begin, .fini = end);

Test(create, a_child_rekey_with_pfs_in_both_groups)
{
    static const uint16_t groups[] = {DH_MODP_2048, DH_MODP_1536};

    cr_assert(peer_init(&p) && peer_auth(&p));
    for (size_t i = 0; i < 2; i++) {
        const struct record *fresh;

        p.esp.dh = groups[i];
        /* HDR, SK {N(REKEY_SA), SA, Ni, KEi, TSi, TSr}  -->  <-- HDR, SK {SA, Nr, KEr, TSi, TSr} */
        cr_assert(peer_rekey_child(&p, p.esp_spi), "%s", b.reason);
        cr_assert_not_null(message_find(&p.answer, PAYLOAD_KE));
        fresh = bench_record(&b, RECORD_CHILD, SA_INSTALLED);
        cr_assert_eq(fresh->child.suite.dh, groups[i]);
        cr_assert_arr_eq(fresh->child.encr_in.b, p.child.encr_out.b, fresh->child.encr_in.n);
        cr_assert_arr_eq(fresh->child.encr_out.b, p.child.encr_in.b, fresh->child.encr_out.n);
    }
}

Test(create, a_ke_of_the_wrong_group_is_told_ours)
{
    struct notify n;

    cr_assert(peer_init(&p) && peer_auth(&p));
    p.esp.dh = DH_MODP_2048;
    p.wrong_ke_group = DH_MODP_1536;
    cr_assert(!peer_rekey_child(&p, p.esp_spi));
    cr_assert(message_find_notify(&p.answer, N_INVALID_KE_PAYLOAD, &n));
    cr_assert_eq(n.data.n, 2);
    cr_assert_eq(n.data.p[1], DH_MODP_2048);
    p.wrong_ke_group = 0;
    cr_assert(peer_rekey_child(&p, p.esp_spi - 1), "the retry is fine");
}

Test(create, additional_children_up_to_the_cap)
{
    cr_assert(peer_init(&p) && peer_auth(&p));
    b.engine->config.max_children = 3;
    cr_assert(peer_rekey_child(&p, 0));
    cr_assert_eq(bench_record(&b, RECORD_CHILD, SA_INSTALLED)->child.replaces_spi, 0);
    cr_assert(peer_rekey_child(&p, 0));
    cr_assert(!peer_rekey_child(&p, 0));
    cr_assert(peer_got_notify(&p, N_NO_ADDITIONAL_SAS));
    cr_assert(peer_rekey_child(&p, p.esp_spi - 1), "rekeying is not capped");
}

Test(create, rekeying_the_ike_sa_hands_over_its_children)
{
    struct record *old, *fresh_copy;
    const struct record *fresh;
    uint32_t child_spi;
    uint64_t old_spi;

    cr_assert(peer_init(&p) && peer_auth(&p));
    old_spi = p.rec->ike.spi_r;
    child_spi = p.esp_spi;
    /* HDR, SK {SA, Ni, KEi}  -->  <-- HDR, SK {SA, Nr, KEr} */
    cr_assert(peer_rekey_ike(&p, &old), "%s", b.reason);
    cr_assert_eq(b.engine->stats.established, 2);
    cr_assert_eq(ike_spi_slot(&b.engine->config.spi_key, p.rec->ike.spi_i, p.rec->ike.spi_r), 5);
    fresh = NULL;
    for (size_t i = 0; i < b.n_records; i++)
        if (b.records[i]->kind == RECORD_IKE && b.records[i]->ike.spi_r == p.rec->ike.spi_r)
            fresh = b.records[i];
    cr_assert_not_null(fresh);
    cr_assert(id128_equal(&fresh->ike.lineage, &b.records[b.n_records - 1]->ike.lineage),
              "the lineage is inherited");
    cr_assert_eq(fresh->ike.next_in, 0, "message IDs start anew");
    fresh_copy = record_clone(fresh);

    /* On the old SA nothing new is made any more. */
    {
        struct record *next = p.rec;
        uint32_t next_id = p.next_id;

        p.rec = old;
        p.next_id = p.old_next_id;
        cr_assert(!peer_rekey_child(&p, child_spi));
        cr_assert(peer_got_notify(&p, N_TEMPORARY_FAILURE));
        /* HDR, SK {D(old IKE SA)}  -->  <-- HDR, SK {} */
        cr_assert(peer_delete_ike(&p));
        cr_assert_not_null(bench_record(&b, RECORD_IKE, SA_DELETED));
        cr_assert_eq(bench_record(&b, RECORD_IKE, SA_DELETED)->ike.spi_r, old_spi);
        cr_assert_null(bench_record(&b, RECORD_CHILD, SA_DELETED), "the children live on");
        p.rec = next;
        p.next_id = next_id;
    }
    /* The children answer to the new SA. */
    cr_assert(peer_rekey_child(&p, child_spi), "%s", b.reason);
    cr_assert_eq(bench_record(&b, RECORD_CHILD, SA_INSTALLED)->child.generation, 1);
    cr_assert(id128_equal(&bench_record(&b, RECORD_CHILD, SA_INSTALLED)->child.lineage,
                          &fresh_copy->ike.lineage));
    cr_assert(peer_delete_child(&p, child_spi));
    record_free(old);
    record_free(fresh_copy);
}

Test(create, an_ike_rekey_to_every_suite)
{
    struct suite offers[] = {
        suite_of(ENCR_AES_CBC, 256, PRF_HMAC_SHA2_512, INTEG_HMAC_SHA2_256_128, DH_MODP_1536),
        suite_of(ENCR_AES_GCM_16, 128, PRF_HMAC_SHA2_384, INTEG_NONE, DH_MODP_2048),
        suite_of(ENCR_AES_GCM_16, 256, PRF_HMAC_SHA2_256, INTEG_NONE, DH_MODP_1536),
    };

    cr_assert(peer_init(&p) && peer_auth(&p));
    for (size_t i = 0; i < 3; i++) {
        struct record *old;

        p.ike = offers[i];
        cr_assert(peer_rekey_ike(&p, &old), "suite %zu: %s", i, b.reason);
        cr_assert(peer_dpd(&p));
        record_free(old);
    }
}

Test(create, an_ike_rekey_without_a_known_suite_is_refused)
{
    struct record *old;

    cr_assert(peer_init(&p) && peer_auth(&p));
    p.ike.encr_bits = 192;
    cr_assert(!peer_rekey_ike(&p, &old));
    cr_assert(peer_got_notify(&p, N_NO_PROPOSAL_CHOSEN));
    cr_assert_eq(strncmp(b.reason, "no_proposal_chosen", 18), 0);
    cr_assert(peer_dpd(&p), "and the SA lives on");
}

Test(create, a_ke_outside_the_group_is_refused)
{
    struct record *old;

    cr_assert(peer_init(&p) && peer_auth(&p));
    p.bad_ke = true; /* the value 1 */
    cr_assert(!peer_rekey_ike(&p, &old));
    cr_assert(peer_got_notify(&p, N_INVALID_SYNTAX));
    p.bad_ke = false;
    cr_assert(peer_rekey_ike(&p, &old));
    record_free(old);
}
