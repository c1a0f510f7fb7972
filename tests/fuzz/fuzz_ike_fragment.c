/* Fragments of protected messages (RFC 7383) in any order, number and total, under the right keys
 * or not, against a model of what must come of them.
 *
 * Octet 0: 1 CBC, 2 we began the IKE SA. Then datagrams: what (1 forged, 2 a response, 4 31 s
 * later, 8 the message ID before, 16 the one after, 32 an SK payload, 64 a zero number), number,
 * total, length, so many octets. A message is put together exactly when the last of its fragments
 * comes, and what waits is counted to the octet. */
#include <string.h>

#include "tests/fuzz/ike_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum {
    FORGED = 1,
    RESPONSE = 2,
    LATER = 4,
    ID_BEFORE = 8,
    ID_AFTER = 16,
    WHOLE = 32,
    ZERO = 64,
    DATAGRAMS_MAX = 100,
};

struct model { /* the message that is being put together */
    uint32_t id;
    uint16_t total, have;
    bool part[IKE_FRAGMENTS_MAX + 1];
    size_t bytes;
};

/* What a right fragment does; true when the message is complete with it. */
static bool expect(struct model *m, uint32_t id, const struct fragment *f, size_t bytes)
{
    bool same = m->total && m->id == id;

    if (f->number < 1 || f->number > f->total || f->total > IKE_FRAGMENTS_MAX)
        return false;
    if (same && (f->total < m->total || (f->total == m->total && m->part[f->number])))
        return false;
    if (!same || f->total > m->total)
        *m = (struct model){.id = id, .total = f->total};
    m->part[f->number] = true;
    m->have++;
    m->bytes += bytes;
    return m->have == m->total;
}

static void one(struct world *w, struct ike_sa *sa, struct reader *r, struct model *m)
{
    static uint8_t bytes[512];
    const struct ike_record *rec = &sa->rec->ike;
    const struct ike_stats *stats = &w->engine->stats;
    uint64_t joined = stats->reassembled, lost = stats->fragments_lost;
    uint8_t what = read_u8(r);
    struct fragment f = {.first = PAYLOAD_NOTIFY, .number = read_u8(r), .total = read_u8(r)};
    bool complete = false;
    uint32_t id;
    size_t n;

    f.piece = read_slice(r, read_u8(r));
    if (r->bad)
        return;
    if (what & WHOLE)
        f.total = 0;
    if (what & ZERO)
        f.number = 0;
    if (what & LATER)
        world_tick(w, 31000000);
    if (world_sa(w, true) != sa)
        return;
    if (stats->fragments_lost != lost)
        *m = (struct model){0};
    lost = stats->fragments_lost;
    id = rec->next_in + (what & ID_AFTER ? 1 : 0) - (what & ID_BEFORE ? 1 : 0);
    if (skf_seal(rec, !rec->i_am_initiator, INFORMATIONAL, what & RESPONSE ? IKE_FLAG_RESPONSE : 0,
                 id, &f, w->next_iv++, &w->engine->rng, bytes, sizeof bytes, &n) != ERR_OK)
        return;
    if (what & FORGED)
        bytes[n - 1] ^= 1;
    else if (!(what & (RESPONSE | WHOLE)) &&
             (id == rec->next_in || (sa->may_jump && id > rec->next_in)))
        complete = expect(m, id, &f, n);
    world_datagram(w, (struct slice){bytes, n});
    if (stats->fragments_lost != lost) { /* too long altogether: all of it goes */
        REQUIRE(m->bytes > IKE_MESSAGE_MAX);
        *m = (struct model){0};
        complete = false;
    }
    REQUIRE(stats->reassembled - joined == (complete ? 1 : 0));
    if (complete)
        *m = (struct model){0};
    REQUIRE(w->engine->held_bytes <= IKE_MESSAGE_MAX);
    if (world_sa(w, true) == sa && m->total)
        REQUIRE(w->engine->held_bytes == m->bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct world w;
    struct reader r = reader_of(data, n);
    uint8_t octet = read_u8(&r);
    struct world_options options = {
        .cbc = octet & 1, .initiator = octet & 2, .fragments = true, .children = 1};
    struct model m = {0};
    struct ike_sa *sa;

    log_set_level(LOG_LEVEL_ERROR + 1);
    world_open(&w, &options);
    world_preset(&w);
    sa = world_sa(&w, true);
    for (int i = 0; i < DATAGRAMS_MAX && r.left && !r.bad && world_sa(&w, true) == sa &&
                    sa->phase == PHASE_ESTABLISHED;
         i++)
        one(&w, sa, &r, &m);
    world_close(&w);
    return 0;
}
