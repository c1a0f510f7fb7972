/* Everything has healed: have all come to the same, and is it what was answered? */
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

/* With members gone for good there may be too few who remember what was promised: then nobody
 * grants an epoch until the operator says so, and IKE SAs of the slot are not taken up. */
static bool someone_gone(const struct sim *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->members[i].gone)
            return true;
    return false;
}

static const char *restless(struct sim *s, struct member *m)
{
    if (m->gone)
        return NULL;
    if (!m->core)
        return "is down";
    if (!sync_is_synced(m->core))
        return "is not synced";
    if (m->epoch == 0 && !someone_gone(s))
        return "has no epoch";
    for (size_t i = 0; i < s->n; i++)
        if (sync_member_live(m->core, s->members[i].slot) == s->members[i].gone)
            return "does not hear just the living";
    for (size_t i = 0; i < s->n; i++)
        if (&s->members[i] != m && s->members[i].core && !check_knows(m, &s->members[i]))
            return "takes another process for one of the living";
    if (m->core->n_barriers)
        return "has barriers waiting";
    if (m->epoch && !m->resume_begun)
        return "has not taken up its IKE SAs";
    if (m->core->pull.active)
        return "is pulling";
    if (m->disk.n_queue)
        return "has batches to write";
    for (size_t i = 0; i < s->n_ikes; i++)
        if (m->to_resume[i])
            return "has IKE SAs to take up";
    for (size_t i = 0; i < s->n_ikes; i++)
        if (m->spoken[i].speaks && m->spoken[i].commit)
            return "has an answer that will never leave";
    return NULL;
}

static struct member *a_living(struct sim *s)
{
    struct member *m = s->members;

    while (m->gone)
        m++;
    return m;
}

bool check_agreed(struct sim *s)
{
    uint8_t first[32], other[32];
    const struct member *one = a_living(s);

    for (size_t i = 0; i < s->n_routers; i++)
        if (s->routers[i].waiting)
            return false;
    for (size_t i = 0; i < s->n; i++)
        if (restless(s, &s->members[i]))
            return false;
    sync_digest(one->core, first);
    for (size_t i = 0; i < s->n; i++) {
        if (s->members[i].gone)
            continue;
        sync_digest(s->members[i].core, other);
        if (memcmp(first, other, sizeof first) != 0)
            return false;
    }
    return true;
}

static void fail_different(struct sim *s, const struct member *a, const struct member *b)
{
    for (size_t k = 0; k < s->n_children; k++)
        if (a->children[k].state != b->children[k].state ||
            a->children[k].confirmed != b->children[k].confirmed ||
            a->children[k].rekeyed != b->children[k].rekeyed)
            sim_fail(
                s,
                "I8: members %d and %d disagree on Child SA %zu (%u and %u) %d ms after the heal",
                a->index, b->index, k, a->children[k].state, b->children[k].state, LIVENESS_MS);
    for (size_t k = 0; k < s->n_ikes; k++)
        if (a->ikes[k].state != b->ikes[k].state ||
            !check_same_term(&a->ikes[k].term, &b->ikes[k].term) ||
            a->ikes[k].revision != b->ikes[k].revision)
            sim_fail(s, "I8: members %d and %d disagree on IKE SA %zu %d ms after the heal",
                     a->index, b->index, k, LIVENESS_MS);
}

void check_why_not(struct sim *s)
{
    for (size_t i = 0; i < s->n; i++) {
        const char *why = restless(s, &s->members[i]);
        if (why)
            sim_fail(s, "I8: member %zu %s %d ms after the heal", i, why, LIVENESS_MS);
    }
    for (size_t i = 0; i < s->n; i++)
        if (!s->members[i].gone)
            fail_different(s, a_living(s), &s->members[i]);
    sim_fail(s, "I8: digests differ, or a router waits, %d ms after the heal", LIVENESS_MS);
}

/* What was answered outlives the death of whoever answered, if one that the barrier waited for has
 * lived on: those acknowledge before their own disks have it. */
static bool outlives(const struct sim *s, int answerer, const uint32_t *by)
{
    if (answerer < 0)
        return false;
    for (size_t i = 0; i < s->n; i++)
        if (by[i] && !s->members[i].gone &&
            (((int)i == answerer && by[i] > s->members[i].forgot_life) ||
             by[i] == s->members[i].life))
            return true;
    return false;
}

/* By the true time, whatever its own clock says: two others tell it. */
static void check_end_expired(struct sim *s, size_t k)
{
    uint32_t living = 0;

    for (size_t i = 0; i < s->n; i++)
        living += !s->members[i].gone;
    for (size_t i = 0; i < s->n && living > 2; i++)
        if (!s->members[i].gone && s->members[i].children[k].state == SA_INSTALLED &&
            s->children[k].not_after_ms + CLOCK_MS < s->now.wall_ms)
            sim_fail(s, "I3: member %zu carries Child SA %zu, which is over", i, k);
}

static void check_end_child(struct sim *s, size_t k)
{
    const struct child_fact *f = &s->children[k];
    bool must = f->accepted && !f->at_risk && !f->deleted &&
                outlives(s, f->answerer, f->acked_by) && !check_may_have_ended(s, f->lineage) &&
                !fact_expired(s, f->not_after_ms);
    bool must_not = outlives(s, f->burier, f->buried_by);

    for (size_t i = 0; i < s->n; i++) {
        if (s->members[i].gone)
            continue;
        if (must && s->members[i].children[k].state != SA_INSTALLED)
            sim_fail(s, "I6: Child SA %zu, which the router accepted, is lost at member %zu", k, i);
        if (must_not && s->members[i].children[k].state == SA_INSTALLED)
            sim_fail(s, "I3: Child SA %zu, whose deletion was answered, is back at member %zu", k,
                     i);
    }
}

static void check_end_ike(struct sim *s, size_t k)
{
    const struct held_ike *held = &a_living(s)->ikes[k];
    int speakers = 0;

    for (size_t i = 0; i < s->n; i++)
        speakers += s->members[i].spoken[k].speaks;
    if (fact_expired(s, s->ikes[k].not_after_ms))
        return;
    if (speakers > 1)
        sim_fail(s, "I6: %d members speak for IKE SA %zu in the end", speakers, k);
    if (held->state == SA_INSTALLED && speakers == 0 && !member_gone(s, held->term.slot) &&
        member_of_slot(s, held->term.slot)->epoch)
        sim_fail(s, "I6: nobody speaks for IKE SA %zu in the end", k);
}

void check_end(struct sim *s)
{
    for (size_t k = 0; k < s->n_children; k++) {
        check_end_child(s, k);
        check_end_expired(s, k);
    }
    for (size_t k = 0; k < s->n_ikes; k++)
        check_end_ike(s, k);
}
