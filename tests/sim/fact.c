/* Names for what exists: from a record to its number, from an incarnation to its life. */
#include "sync/join.h"
#include "tests/sim/sim.h"

int fact_ike(struct sim *s, uint64_t spi)
{
    for (size_t i = s->n_ikes; i-- > 0;)
        if (s->ikes[i].spi == spi)
            return (int)i;
    return -1;
}

int fact_child(struct sim *s, uint32_t spi_in)
{
    for (size_t i = s->n_children; i-- > 0;)
        if (s->children[i].spi_in == spi_in)
            return (int)i;
    return -1;
}

int fact_of(struct sim *s, const struct record *r)
{
    return r->kind == RECORD_IKE     ? fact_ike(s, record_key(r))
           : r->kind == RECORD_CHILD ? fact_child(s, r->child.spi_in)
                                     : -1;
}

struct form form_of(const struct record *r, int fact)
{
    struct form f = {.kind = r->kind, .state = record_state(r), .fact = fact};

    if (r->kind == RECORD_IKE) {
        f.term = r->ike.term;
        f.revision = r->ike.revision;
    } else {
        f.confirmed = r->child.confirmed;
        f.rekeyed = r->child.rekeyed;
    }
    return f;
}

struct life *life_of(struct sim *s, const struct id128 *incarnation)
{
    for (size_t i = s->n_lives; i-- > 0;)
        if (id128_equal(&s->lives[i].incarnation, incarnation))
            return &s->lives[i];
    return NULL;
}

bool fact_expired(const struct sim *s, int64_t not_after_ms)
{
    return not_after_ms <= s->now.wall_ms + SKEW_MS;
}
