/* Who answers an IKE datagram: every way out of steer(), as a table. */
#include <criterion/criterion.h>

#include "node/steering.h"
#include "proto/wire_ikev2.h"

enum { US = 1, LIVE = 2, DEAD = 3, NONE = -1 };

static bool only_live(void *ctx, uint16_t slot)
{
    (void)ctx;
    return slot == LIVE;
}

struct row {
    const char *story;
    uint8_t exchange;
    bool has_spi_r, response, forwarded, may_negotiate, engine_owns;
    int record_owner, spi_slot;
    enum steer_way way;
    enum steer_reason reason;
    uint16_t slot;
};

/* clang-format off: a row is to be read as one. */
static const struct row rows[] = {
    /*                                                  SPIr   resp   fwd    able   owns   record
       spi    */
    {"a new negotiation, able", IKE_SA_INIT, false, false, false, true, false, NONE, NONE,
     STEER_ENGINE, STEER_NEW, 0},
    {"a new negotiation, not able", IKE_SA_INIT, false, false, false, false, false, NONE, NONE,
     STEER_DROP, STEER_NOT_ABLE, 0},
    {"a new negotiation is never passed on", IKE_SA_INIT, false, false, true, true, false, NONE,
     NONE, STEER_DROP, STEER_TWICE, 0},
    {"an INIT response without SPIr", IKE_SA_INIT, false, true, false, true, false, NONE, NONE,
     STEER_DROP, STEER_UNKNOWN, 0},
    {"our record", INFORMATIONAL, true, false, false, true, true, US, NONE, STEER_ENGINE,
     STEER_OURS, 0},
    {"our record, engine not there yet", INFORMATIONAL, true, false, false, true, false, US, NONE,
     STEER_ENGINE, STEER_OURS, 0},
    {"our record, not able", INFORMATIONAL, true, false, false, false, true, US, NONE, STEER_ENGINE,
     STEER_OURS, 0},
    {"our record, forwarded", INFORMATIONAL, true, false, true, true, true, US, NONE, STEER_ENGINE,
     STEER_OURS, 0},
    {"a live node's record", INFORMATIONAL, true, false, false, true, false, LIVE, NONE,
     STEER_FORWARD, STEER_OTHERS, LIVE},
    {"a live node's record, forwarded", INFORMATIONAL, true, false, true, true, false, LIVE, NONE,
     STEER_DROP, STEER_TWICE, 0},
    {"a dead node's record", INFORMATIONAL, true, false, false, true, false, DEAD, NONE, STEER_DROP,
     STEER_OWNER_DEAD, 0},
    {"the record wins over the SPI", INFORMATIONAL, true, false, false, true, false, LIVE, US,
     STEER_FORWARD, STEER_OTHERS, LIVE},
    {"half open, ours", IKE_AUTH, true, false, false, true, true, NONE, US, STEER_ENGINE,
     STEER_OURS, 0},
    {"half open, ours, forwarded", IKE_AUTH, true, false, true, true, true, NONE, US, STEER_ENGINE,
     STEER_OURS, 0},
    {"half open, ours, forgotten", IKE_AUTH, true, false, false, true, false, NONE, US, STEER_DROP,
     STEER_FORGOTTEN, 0},
    {"half open, a live node's", IKE_AUTH, true, false, false, true, false, NONE, LIVE,
     STEER_FORWARD, STEER_OTHERS, LIVE},
    {"half open, a live node's, though we are not able", IKE_AUTH, true, false, false, false, false,
     NONE, LIVE, STEER_FORWARD, STEER_OTHERS, LIVE},
    {"half open, a live node's, forwarded", IKE_AUTH, true, false, true, true, false, NONE, LIVE,
     STEER_DROP, STEER_TWICE, 0},
    {"half open, a dead node's", IKE_AUTH, true, false, false, true, false, NONE, DEAD, STEER_DROP,
     STEER_OWNER_DEAD, 0},
    {"an SPI that no member made", IKE_AUTH, true, false, false, true, false, NONE, NONE,
     STEER_DROP, STEER_UNKNOWN, 0},
    {"the same, forwarded", IKE_AUTH, true, false, true, true, false, NONE, NONE, STEER_DROP,
     STEER_UNKNOWN, 0},
};
/* clang-format on */

Test(steering, every_way_out)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];
        struct steer_facts facts = {
            .peek = {.spi_i = 7,
                     .spi_r = r->has_spi_r ? 9 : 0,
                     .our_spi = r->has_spi_r ? 9 : 0,
                     .exchange = r->exchange,
                     .from_initiator = true,
                     .response = r->response},
            .our_slot = US,
            .forwarded = r->forwarded,
            .may_negotiate = r->may_negotiate,
            .record_owner = r->record_owner,
            .spi_slot = r->spi_slot,
            .engine_owns = r->engine_owns,
            .live = only_live,
        };
        struct steering got = steer(&facts);

        cr_expect_eq(got.way, r->way, "%s: way %d", r->story, got.way);
        cr_expect_eq(got.reason, r->reason, "%s: %s", r->story, steer_reason_name(got.reason));
        cr_expect_eq(got.slot, r->slot, "%s: slot %u", r->story, got.slot);
    }
}

Test(steering, slot_zero_is_a_slot)
{
    struct steer_facts facts = {.peek = {.our_spi = 9, .spi_r = 9, .exchange = INFORMATIONAL},
                                .our_slot = 0,
                                .record_owner = 0,
                                .spi_slot = -1,
                                .live = only_live};

    cr_expect_eq(steer(&facts).reason, STEER_OURS);
}

Test(steering, every_reason_has_a_name)
{
    for (int i = 0; i < STEER_REASON_COUNT; i++)
        cr_expect_not_null(steer_reason_name((enum steer_reason)i), "reason %d", i);
}
