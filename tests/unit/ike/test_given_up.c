/* Child SAs that only another node knew when their peer gave them up: the mesh was split. "-->" the
 * peer asks, "<--" the gateway answers. */
#include <criterion/criterion.h>

#include "peer.h"

static struct bench b;
static struct peer p;
static struct record *theirs; /* what another node negotiated with our peer */

enum { S = 1000000, PEER_SPI = 0x00c0ffee };

static void begin(void)
{
    bench_open(&b);
    peer_open(&p, &b);
    cr_assert(peer_init(&p) && peer_auth(&p));
    theirs = record_clone(bench_record(&b, RECORD_CHILD, SA_INSTALLED));
    theirs->child.origin_slot = 7;
    theirs->child.spi_in = 7u << 22 | 0x1234;
    theirs->child.spi_out = PEER_SPI;
    theirs->child.confirmed = true;
}

static void end(void)
{
    record_free(theirs);
    peer_close(&p);
    bench_close(&b);
}

TestSuite(given_up, .init = begin, .fini = end);

static struct ike_sa *ours(void)
{
    return ike_sa_find(b.engine, p.rec->ike.spi_r);
}

static bool buried(uint32_t spi_in)
{
    const struct record *r = bench_record(&b, RECORD_CHILD, SA_DELETED);

    return r && r->child.spi_in == spi_in && r->child.encr_in.n == 0;
}

static void expect_a_grave(void)
{
    bench_told(&b, theirs);
    cr_assert(buried(theirs->child.spi_in));
    cr_assert_eq(ours()->n_children, 1);
}

Test(given_up, after_a_rekey_of_what_nobody_knew)
{
    const struct record *ike;
    unsigned commits = b.commits;

    cr_assert(!peer_rekey_child(&p, PEER_SPI)); /* N(REKEY_SA)  -->  <--  N(CHILD_SA_NOT_FOUND) */
    cr_assert(peer_got_notify(&p, N_CHILD_SA_NOT_FOUND));
    cr_assert_eq(b.commits, commits + 1, "the answer passes the barrier");
    ike = bench_record(&b, RECORD_IKE, SA_INSTALLED);
    cr_assert(ike->ike.n_given_up == 1 && ike->ike.given_up[0] == PEER_SPI);
    expect_a_grave();
    cr_assert(!peer_rekey_child(&p, PEER_SPI));
    cr_assert_eq(ours()->rec->ike.n_given_up, 1, "once is enough");
}

Test(given_up, after_a_delete_of_what_nobody_knew)
{
    cr_assert(peer_delete_child(&p, PEER_SPI)); /* D  -->  <--  nothing */
    cr_assert_eq(bench_record(&b, RECORD_IKE, SA_INSTALLED)->ike.n_given_up, 1);
    expect_a_grave();
}

Test(given_up, an_ike_rekey_hands_it_on)
{
    struct record *old;

    cr_assert(peer_delete_child(&p, PEER_SPI));
    cr_assert(peer_rekey_ike(&p, &old));
    expect_a_grave();
    record_free(old);
}

Test(given_up, an_adopter_sweeps)
{
    const struct record *list[] = {theirs};
    struct record *ike;

    cr_assert(peer_delete_child(&p, PEER_SPI));
    ike = record_clone(bench_record(&b, RECORD_IKE, SA_INSTALLED));
    ike_free(b.engine);
    while (b.n_records)
        record_free(b.records[--b.n_records]);
    bench_open(&b);
    cr_assert_eq(ike_restore(b.engine, ike, list, 1, false, b.now), ERR_OK);
    bench_tick(&b, 2 * S);
    cr_assert(buried(theirs->child.spi_in));
    cr_assert_eq(ours()->n_children, 0);
    record_free(ike);
}

Test(given_up, what_the_peer_keeps_is_taken_in)
{
    bench_told(&b, theirs);
    cr_assert_null(bench_record(&b, RECORD_CHILD, SA_DELETED));
    cr_assert_eq(ours()->n_children, 2);
    bench_told(&b, theirs);
    cr_assert_eq(ours()->n_children, 2);
    cr_assert(peer_rekey_child(&p, PEER_SPI), "the peer may rekey it here");
    cr_assert_eq(bench_record(&b, RECORD_CHILD, SA_INSTALLED)->child.replaces_spi,
                 theirs->child.spi_in);
}

Test(given_up, an_spi_used_anew_is_not)
{
    cr_assert(peer_delete_child(&p, p.esp_spi + 1));
    cr_assert_eq(ours()->rec->ike.n_given_up, 1);
    cr_assert(peer_rekey_child(&p, p.esp_spi)); /* takes that SPI */
    cr_assert_eq(ours()->rec->ike.n_given_up, 0);
    bench_tick(&b, 2 * S);
    cr_assert_null(bench_record(&b, RECORD_CHILD, SA_DELETED));
}

Test(given_up, the_oldest_is_forgotten)
{
    for (uint32_t i = 0; i <= IKE_GIVEN_UP_MAX; i++)
        cr_assert(peer_delete_child(&p, PEER_SPI + i));
    cr_assert_eq(ours()->rec->ike.n_given_up, IKE_GIVEN_UP_MAX);
    bench_told(&b, theirs);
    cr_assert_eq(ours()->n_children, 2);
    theirs->child.spi_in++;
    theirs->child.spi_out += IKE_GIVEN_UP_MAX;
    bench_told(&b, theirs);
    cr_assert(buried(theirs->child.spi_in));
}
