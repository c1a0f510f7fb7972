/* The grant protocol by hand: one process of slot 1 and what the others tell it. */
#include <criterion/criterion.h>
#include <string.h>

#include "sync/grant.h"

enum { S = 1000000, MEMBERS_DIGEST = 77 };

static struct grants *g;
static uint64_t ticket, now;
static struct grant_promise journal[64]; /* by ticket */
static struct grant_claim claimed;
static unsigned claims, votes;
static struct grant_vote voted;
static uint16_t voted_to;
static uint32_t granted;

static uint64_t on_journal(void *ctx, uint16_t slot, uint32_t epoch)
{
    (void)ctx;
    journal[++ticket] = (struct grant_promise){slot, epoch};
    return ticket;
}
static void on_claim(void *ctx, const struct grant_claim *claim)
{
    (void)ctx;
    claimed = *claim;
    claims++;
}
static void on_vote(void *ctx, uint16_t to_slot, const struct grant_vote *vote)
{
    (void)ctx;
    voted = *vote;
    voted_to = to_slot;
    votes++;
}
static void on_granted(void *ctx, uint32_t epoch)
{
    (void)ctx;
    granted = epoch;
}
static const struct grant_ops ops = {on_journal, on_claim, on_vote, on_granted};

static struct id128 life(uint8_t n)
{
    return (struct id128){{n}};
}

static void begin(size_t members)
{
    static const uint16_t slots[] = {1, 2, 3, 4, 5};
    struct grants_config c = {.slot = 1,
                              .incarnation = life(1),
                              .members = slots,
                              .n_members = members,
                              .members_digest = MEMBERS_DIGEST,
                              .ops = &ops};

    g = grants_new(&c);
    cr_assert_not_null(g);
    ticket = granted = claims = votes = 0;
    now = S;
    for (uint16_t slot = 2; slot <= members; slot++) {
        struct id128 id = life((uint8_t)(10 * slot));

        grants_believe(g, slot, &id);
    }
}

static void step(uint64_t us)
{
    now += us;
    grants_step(g, now);
}
static void durable(void)
{
    grants_journaled(g, ticket);
    step(0);
}
static void hear(uint16_t slot, bool sure, uint16_t about, uint32_t epoch)
{
    struct grant_promise p = {about, epoch};

    grants_heard(g, slot, sure, NULL, 0, &p, epoch ? 1 : 0);
    step(0);
}
static void vote_of(uint16_t slot, uint8_t verdict, uint32_t seen, const struct grant_witness *w,
                    size_t n)
{
    struct grant_vote v = {.claimant = life(1),
                           .epoch = claimed.epoch,
                           .round = claimed.round,
                           .verdict = verdict,
                           .seen = seen};

    grants_on_vote(g, slot, &v, w, n);
    step(0);
}
static void claim_of(uint16_t slot, uint32_t epoch, bool rival)
{
    struct grant_claim c = {.epoch = epoch, .round = 5, .members = MEMBERS_DIGEST};

    grants_on_claim(g, slot, &c, rival);
    step(0);
}
static void end(void)
{
    grants_free(g);
}
TestSuite(grant, .fini = end);

Test(grant, alone_the_journal_grants)
{
    begin(1);
    grants_recover(g, &(struct grant_promise){1, 7}, 1);
    step(0);
    cr_assert_eq(granted, 0u, "not before it is durable");
    durable();
    cr_assert_eq(granted, 8u);
    cr_assert_eq(journal[1].epoch, 8u);
}

Test(grant, a_quorum_of_the_others_grants_the_highest_and_one)
{
    begin(3);
    hear(2, true, 1, 41);
    step(S);
    cr_assert_eq(ticket, 0u, "one of two others is no quorum");
    hear(3, true, 1, 12);
    cr_assert_eq(journal[ticket].epoch, 42u);
    cr_assert_eq(claims, 0u, "our own promise is durable first");
    durable();
    cr_assert_eq(claimed.epoch, 42u);
    cr_assert_eq(claimed.members, (uint64_t)MEMBERS_DIGEST);
    vote_of(2, GRANT_YES, 42, NULL, 0);
    cr_assert_eq(granted, 0u);
    vote_of(3, GRANT_YES, 42, NULL, 0);
    cr_assert_eq(granted, 42u);
}

Test(grant, a_claim_that_is_not_answered_is_repeated_and_a_refused_one_raised)
{
    begin(3);
    hear(2, true, 1, 1);
    hear(3, true, 1, 1);
    durable();
    cr_assert_eq(claims, 1u);
    step(S / 10);
    cr_assert_eq(claims, 2u);
    vote_of(2, GRANT_TOO_LOW, 9, NULL, 0);
    step(S / 10);
    durable();
    cr_assert_eq(claimed.epoch, 10u);
}

Test(grant, votes_of_other_rounds_or_claimants_do_not_count)
{
    struct grant_vote v = {.claimant = life(2), .verdict = GRANT_YES};

    begin(2);
    hear(2, true, 1, 1);
    durable();
    v.epoch = claimed.epoch;
    v.round = claimed.round;
    grants_on_vote(g, 2, &v, NULL, 0); /* a recorded one, for an earlier life */
    step(0);
    v.claimant = life(1);
    v.round--;
    grants_on_vote(g, 2, &v, NULL, 0);
    step(0);
    cr_assert_eq(granted, 0u);
}

/* A grantor voted, lost its disk, merged and forgot: what it promised is nowhere. */
Test(grant, a_vote_of_an_incarnation_that_is_gone_does_not_count)
{
    struct id128 later = life(21);

    begin(3);
    hear(2, true, 1, 1);
    hear(3, true, 1, 1);
    durable();
    vote_of(2, GRANT_YES, 2, NULL, 0);
    grants_believe(g, 2, &later);
    vote_of(3, GRANT_YES, 2, NULL, 0);
    cr_assert_eq(granted, 0u);
    hear(2, true, 1, 2);
    vote_of(2, GRANT_YES, 2, NULL, 0);
    cr_assert_eq(granted, 2u);
}

Test(grant, nor_does_it_when_another_voter_knows_that_it_is_gone)
{
    struct grant_witness later = {2, life(21)}, same = {2, life(20)};

    begin(3);
    hear(2, true, 1, 1);
    hear(3, true, 1, 1);
    durable();
    vote_of(2, GRANT_YES, 2, NULL, 0);
    vote_of(3, GRANT_YES, 2, &later, 1);
    cr_assert_eq(granted, 0u);
    step(S); /* a new round */
    vote_of(2, GRANT_YES, 2, NULL, 0);
    vote_of(3, GRANT_YES, 2, &same, 1);
    cr_assert_eq(granted, 2u);
}

Test(grant, an_unsure_grantor_refuses_and_merges_first)
{
    begin(5);
    claim_of(2, 9, false);
    cr_assert_eq(voted.verdict, GRANT_UNSURE);
    hear(2, false, 2, 8);
    hear(3, true, 2, 30);
    claim_of(2, 9, false);
    cr_assert_eq(voted.verdict, GRANT_UNSURE, "one sure one of four may know nothing");
    hear(4, true, 2, 4);
    claim_of(2, 9, false);
    cr_assert_eq(voted.verdict, GRANT_UNSURE, "what was merged is not durable");
    durable();
    claim_of(2, 9, false);
    cr_assert_eq(voted.verdict, GRANT_TOO_LOW);
    cr_assert_eq(voted.seen, 30u);
}

Test(grant, all_others_together_make_sure_though_each_is_unsure)
{
    uint16_t sure_of[5];
    size_t n;

    begin(3);
    hear(2, false, 3, 6);
    cr_assert(!grants_sure(g, sure_of, &n));
    cr_assert_eq(n, 0u);
    hear(3, false, 3, 5);
    durable();
    cr_assert(grants_sure(g, sure_of, &n));
    cr_assert_eq(grants_promised(g, 3), 6u);
}

static void be_sure(void)
{
    hear(2, true, 0, 0);
    hear(3, true, 0, 0);
    durable();
    votes = 0;
}

Test(grant, a_promise_is_durable_before_the_vote_and_for_one_incarnation)
{
    struct id128 later = life(21);

    begin(3);
    be_sure();
    claim_of(2, 5, false);
    cr_assert_eq(votes, 0u);
    durable();
    cr_assert_eq(votes, 1u);
    cr_assert_eq(voted.verdict, GRANT_YES);
    cr_assert_eq(voted_to, 2);
    cr_assert_eq(voted.round, 5u);
    claim_of(2, 5, false);
    cr_assert_eq(voted.verdict, GRANT_YES, "the same one again");
    grants_believe(g, 2, &later);
    claim_of(2, 5, false);
    cr_assert_eq(voted.verdict, GRANT_TOO_LOW);
    cr_assert_eq(voted.seen, 5u);
}

Test(grant, a_slot_with_a_living_rival_and_another_member_list_are_refused)
{
    struct grant_claim c = {.epoch = 5, .round = 5, .members = MEMBERS_DIGEST + 1};

    begin(3);
    be_sure();
    claim_of(2, 5, true);
    cr_assert_eq(voted.verdict, GRANT_RIVAL);
    grants_on_claim(g, 2, &c, false);
    step(0);
    cr_assert_eq(voted.verdict, GRANT_MEMBERS);
    cr_assert_eq(grants_promised(g, 2), 0u);
}

Test(grant, the_next_epoch_is_claimed_while_the_present_one_lasts)
{
    begin(2);
    hear(2, true, 1, 1);
    durable();
    vote_of(2, GRANT_YES, 2, NULL, 0);
    cr_assert_eq(grants_epoch(g), 2u);
    step(S);
    cr_assert_eq(claims, 1u, "one is enough");
    grants_want_next(g);
    step(0);
    durable();
    cr_assert_eq(claimed.epoch, 3u);
    cr_assert_eq(grants_epoch(g), 2u);
    vote_of(2, GRANT_YES, 3, NULL, 0);
    cr_assert_eq(grants_epoch(g), 3u);
}

Test(grant, the_last_epoch_is_not_wrapped)
{
    begin(1);
    grants_recover(g, &(struct grant_promise){1, EPOCH_MAX}, 1);
    step(0);
    durable();
    cr_assert_eq(granted, 0u);
    cr_assert_str_eq(grants_obstacle(g), "epochs_exhausted");
}

/* ---- the member list changes ---- */

static void members_are(size_t n, uint64_t digest)
{
    static const uint16_t slots[] = {1, 2, 3, 4, 5};

    cr_assert(grants_set_members(g, slots, n, digest));
    step(0);
}

Test(grant, nobody_is_sure_of_a_slot_that_comes)
{
    struct grant_claim c = {.epoch = 5, .round = 5, .members = 78};
    struct id128 id = life(40);

    begin(3);
    be_sure();
    members_are(4, 78);
    grants_believe(g, 4, &id);
    grants_on_claim(g, 4, &c, false);
    step(0);
    cr_assert_eq(voted.verdict, GRANT_UNSURE, "it may have been a member before");
    grants_on_claim(g, 2, &c, false);
    step(0);
    durable();
    cr_assert_eq(voted.verdict, GRANT_YES, "of those that stay we are");
    hear(2, false, 4, 6);
    hear(3, false, 0, 0);
    hear(4, false, 0, 0);
    durable();
    grants_on_claim(g, 4, &c, false);
    step(0);
    cr_assert_eq(voted.verdict, GRANT_TOO_LOW, "all others have told");
    cr_assert_eq(voted.seen, 6u);
}

Test(grant, votes_for_another_list_are_void)
{
    uint32_t round;

    begin(5);
    for (uint16_t slot = 2; slot <= 5; slot++)
        hear(slot, true, 0, 0);
    durable();
    vote_of(2, GRANT_YES, 0, NULL, 0);
    vote_of(3, GRANT_YES, 0, NULL, 0);
    round = claimed.round;
    cr_assert_eq(granted, 0u, "two of four are no quorum");
    members_are(4, 78);
    durable();
    cr_assert_eq(granted, 0u, "two of three would be, but they said it of five");
    cr_assert_neq(claimed.members, 77u, "it is claimed anew at once");
    claimed.round = round; /* what was under way then */
    vote_of(2, GRANT_YES, 0, NULL, 0);
    vote_of(3, GRANT_YES, 0, NULL, 0);
    cr_assert_eq(granted, 0u);
    step(S);
    cr_assert_eq(claimed.members, 78u);
    vote_of(2, GRANT_YES, 0, NULL, 0);
    cr_assert_eq(granted, 0u);
    vote_of(3, GRANT_YES, 0, NULL, 0);
    cr_assert_eq(granted, 1u);
}
