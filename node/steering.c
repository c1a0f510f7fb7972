/* An IKE SA is looked up by our own SPI, and its record says who owns it. Only
 * where there is no record (the exchange is half open, or the news has not come
 * yet) does the SPI itself speak: it names the slot that made it, under a MAC
 * that only members can compute. Nobody else's SPI gets any answer. */
#include "node/steering.h"

#include "proto/wire_ikev2.h"

const char *steer_reason_name(enum steer_reason reason)
{
    static const char *const names[STEER_REASON_COUNT] = {
        [STEER_NEW] = "new",
        [STEER_OURS] = "ours",
        [STEER_OTHERS] = "others",
        [STEER_NOT_ABLE] = "not_able",
        [STEER_ADOPTED] = "adopted",
        [STEER_OWNER_DEAD] = "owner_dead",
        [STEER_STALLED] = "stalled",
        [STEER_UNKNOWN] = "unknown_spi",
        [STEER_FORGOTTEN] = "forgotten",
        [STEER_TWICE] = "forwarded_twice",
        [STEER_MALFORMED] = "malformed",
    };
    return names[reason];
}

bool steer_is_init(const struct ike_peek *peek)
{
    return peek->exchange == IKE_SA_INIT && peek->from_initiator && !peek->response &&
           peek->spi_r == 0;
}

static struct steering engine(enum steer_reason why)
{
    return (struct steering){.way = STEER_ENGINE, .reason = why};
}

static struct steering drop(enum steer_reason why)
{
    return (struct steering){.way = STEER_DROP, .reason = why};
}

static struct steering others(const struct steer_facts *facts, uint16_t slot)
{
    if (facts->forwarded)
        return drop(STEER_TWICE);
    if (facts->live(facts->live_ctx, slot))
        return (struct steering){.way = STEER_FORWARD, .reason = STEER_OTHERS, .slot = slot};
    if (facts->record_owner < 0 || !facts->may_adopt)
        return drop(STEER_OWNER_DEAD);
    return (struct steering){.way = STEER_ADOPT, .reason = STEER_ADOPTED};
}

struct steering steer(const struct steer_facts *facts)
{
    int slot = facts->record_owner >= 0 ? facts->record_owner : facts->spi_slot;

    if (!facts->caught_up)
        return drop(STEER_STALLED);
    if (steer_is_init(&facts->peek)) {
        if (facts->forwarded)
            return drop(STEER_TWICE);
        return facts->may_negotiate ? engine(STEER_NEW) : drop(STEER_NOT_ABLE);
    }
    if (slot < 0)
        return drop(STEER_UNKNOWN);
    if (slot != facts->our_slot)
        return others(facts, (uint16_t)slot);
    if (facts->record_owner >= 0 || facts->engine_owns)
        return engine(STEER_OURS);
    return drop(STEER_FORGOTTEN);
}
