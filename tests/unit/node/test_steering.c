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

/* What is so; all else is not. */
enum { SPI_R = 1, RESPONSE = 2, FORWARDED = 4, ABLE = 8, OWNS = 16, STALLED = 32 };

struct row {
    const char *story;
    uint8_t exchange;
    unsigned so;
    int record_owner, spi_slot;
    enum steer_way way;
    enum steer_reason reason;
    uint16_t slot;
};

/* The exchanges stand for all: A is IKE_SA_INIT, B any later one. */
enum { A = IKE_SA_INIT, B = INFORMATIONAL };
enum { R = SPI_R, F = FORWARDED };
#define ENGINE(why) STEER_ENGINE, STEER_##why, 0
#define DROP(why) STEER_DROP, STEER_##why, 0
#define ADOPT STEER_ADOPT, STEER_ADOPTED, 0
#define FORWARD(to) STEER_FORWARD, STEER_OTHERS, to

/* clang-format off */
static const struct row rows[] = {
    /*                                                              record  SPI */
    {"a new negotiation, able",              A, ABLE,               NONE,   NONE, ENGINE(NEW)},
    {"a new negotiation, not able",          A, 0,                  NONE,   NONE, DROP(NOT_ABLE)},
    {"a new negotiation is never passed on", A, F | ABLE,           NONE,   NONE, DROP(TWICE)},
    {"an INIT response without SPIr",        A, RESPONSE | ABLE,    NONE,   NONE, DROP(UNKNOWN)},
    {"an INIT with SPIr is no new one",      A, R | ABLE,           NONE,   NONE, DROP(UNKNOWN)},
    {"our record",                           B, R | ABLE | OWNS,    US,     NONE, ENGINE(OURS)},
    {"our record, not in the engine yet",    B, R | ABLE,           US,     NONE, ENGINE(OURS)},
    {"our record, not able",                 B, R | OWNS,           US,     NONE, ENGINE(OURS)},
    {"our record, forwarded",                B, R | F | ABLE | OWNS, US,    NONE, ENGINE(OURS)},
    {"a live node's record",                 B, R | ABLE,           LIVE,   NONE, FORWARD(LIVE)},
    {"a live node's record, forwarded",      B, R | F | ABLE,       LIVE,   NONE, DROP(TWICE)},
    {"a dead node's record",                 B, R | ABLE,           DEAD,   NONE, ADOPT},
    {"a dead node's record, a response",     B, R | RESPONSE | ABLE, DEAD,  NONE, ADOPT},
    {"a dead node's record, not able",       B, R,                  DEAD,   NONE, DROP(OWNER_DEAD)},
    {"a dead node's record, forwarded",      B, R | F | ABLE,       DEAD,   NONE, DROP(TWICE)},
    {"our record, after a stall",            B, R | ABLE | OWNS | STALLED, US, NONE, DROP(STALLED)},
    {"a new negotiation, after a stall",     A, ABLE | STALLED,     NONE,   NONE, DROP(STALLED)},
    {"the record wins over the SPI",         B, R | ABLE,           LIVE,   US,   FORWARD(LIVE)},
    {"half open, ours",                      B, R | ABLE | OWNS,    NONE,   US,   ENGINE(OURS)},
    {"half open, ours, forwarded",           B, R | F | ABLE | OWNS, NONE,  US,   ENGINE(OURS)},
    {"half open, ours, forgotten",           B, R | ABLE,           NONE,   US,   DROP(FORGOTTEN)},
    {"half open, a live node's",             B, R | ABLE,           NONE,   LIVE, FORWARD(LIVE)},
    {"half open, a live node's, not able",   B, R,                  NONE,   LIVE, FORWARD(LIVE)},
    {"half open, a live node's, forwarded",  B, R | F | ABLE,       NONE,   LIVE, DROP(TWICE)},
    {"half open, a dead node's",             B, R | ABLE,           NONE,   DEAD, DROP(OWNER_DEAD)},
    {"an SPI that no member made",           B, R | ABLE,           NONE,   NONE, DROP(UNKNOWN)},
    {"the same, forwarded",                  B, R | F | ABLE,       NONE,   NONE, DROP(UNKNOWN)},
};
/* clang-format on */

Test(steering, every_way_out)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];
        struct steer_facts facts = {
            .peek = {.spi_i = 7,
                     .spi_r = r->so & SPI_R ? 9 : 0,
                     .our_spi = r->so & SPI_R ? 9 : 0,
                     .exchange = r->exchange,
                     .from_initiator = true,
                     .response = r->so & RESPONSE},
            .our_slot = US,
            .forwarded = r->so & FORWARDED,
            .may_negotiate = r->so & ABLE,
            .may_adopt = r->so & ABLE,
            .caught_up = !(r->so & STALLED),
            .record_owner = r->record_owner,
            .spi_slot = r->spi_slot,
            .engine_owns = r->so & OWNS,
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
                                .caught_up = true,
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
