/* A restarted node takes up the IKE SAs that its slot owned before.
 *
 * Once this incarnation is synced and may encrypt, every IKE record of our slot
 * under another incarnation gets the next term in our name and goes through the
 * barrier; only then does the engine learn of the SA, so that no two incarnations
 * ever answer in the same term. A bounded number is begun at each tick: packets
 * and frames go on meanwhile, and a peer that asks too early simply asks again. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "node/node.h"
#include "proto/err.h"
#include "proto/log.h"

#define RESUME_BARRIER (UINT64_C(1) << 63) /* keeps our barrier ids apart from the engine's */

struct child_key {
    struct id128 lineage;
    uint32_t spi_in;
};

struct ike_key { /* of every installed IKE SA, whoever owns it */
    struct id128 lineage;
    int64_t created_ms;
    uint64_t spi;
};

struct waiting { /* a term of ours on its way through the barrier */
    uint64_t barrier, spi;
};

struct resume {
    bool begun, failed;
    uint64_t *spis; /* IKE SAs not begun yet */
    size_t n_spis, cap_spis;
    struct child_key *children; /* sorted, as they stood when this began */
    size_t n_children, cap_children;
    struct ike_key *ikes; /* likewise; the last of a lineage is its newest */
    size_t n_ikes, cap_ikes;
    struct waiting *waiting;
    size_t n_waiting, cap_waiting;
    uint64_t last_barrier;
};

/* Room for one more of `size` bytes in *array. */
static bool reserve(void **array, size_t n, size_t *cap, size_t size)
{
    size_t wanted = *cap ? 2 * *cap : 64;
    void *grown;

    if (n < *cap)
        return true;
    grown = realloc(*array, wanted * size);
    if (!grown)
        return false;
    *array = grown;
    *cap = wanted;
    return true;
}

static bool to_be_resumed(const struct node *node, const struct record *record)
{
    struct id128 self = sync_incarnation(node->sync);
    const struct ike_record *ike = &record->ike;

    return ike->state == SA_INSTALLED && ike->term.slot == node->config->node.slot &&
           !id128_equal(&ike->term.incarnation, &self) && ike->not_after_ms > now_read().wall_ms;
}

static void add_spi(struct resume *r, uint64_t spi)
{
    if (!reserve((void **)&r->spis, r->n_spis, &r->cap_spis, sizeof *r->spis)) {
        r->failed = true;
        return;
    }
    r->spis[r->n_spis++] = spi;
}

static bool collect_ike(void *ctx, const struct record *record)
{
    struct node *node = ctx;
    struct resume *r = node->resume;

    if (to_be_resumed(node, record))
        add_spi(r, ike_record_spi(&record->ike));
    if (!reserve((void **)&r->ikes, r->n_ikes, &r->cap_ikes, sizeof *r->ikes)) {
        r->failed = true;
        return false;
    }
    r->ikes[r->n_ikes++] = (struct ike_key){.lineage = record->ike.lineage,
                                            .created_ms = record->ike.created_ms,
                                            .spi = ike_record_spi(&record->ike)};
    return !r->failed;
}

static bool collect_child(void *ctx, const struct record *record)
{
    struct resume *r = ctx;

    if (!reserve((void **)&r->children, r->n_children, &r->cap_children, sizeof *r->children)) {
        r->failed = true;
        return false;
    }
    r->children[r->n_children++] =
        (struct child_key){.lineage = record->child.lineage, .spi_in = record->child.spi_in};
    return true;
}

static int compare_children(const void *a, const void *b)
{
    const struct child_key *x = a, *y = b;
    int order = memcmp(x->lineage.b, y->lineage.b, ID_BYTES);

    if (order)
        return order;
    return x->spi_in < y->spi_in ? -1 : x->spi_in > y->spi_in;
}

static int compare_ikes(const void *a, const void *b)
{
    const struct ike_key *x = a, *y = b;
    int order = memcmp(x->lineage.b, y->lineage.b, ID_BYTES);

    if (order)
        return order;
    if (x->created_ms != y->created_ms)
        return x->created_ms < y->created_ms ? -1 : 1;
    return x->spi < y->spi ? -1 : x->spi > y->spi;
}

static void begin(struct node *node)
{
    struct resume *r = node->resume;

    r->begun = true;
    sync_each(node->sync, RECORD_IKE, collect_ike, node);
    if (r->n_spis > 0 && !r->failed)
        sync_each(node->sync, RECORD_CHILD, collect_child, r);
    if (r->failed)
        log_error("node", "out of memory: some IKE SAs are not taken up again");
    if (r->n_children > 0)
        qsort(r->children, r->n_children, sizeof *r->children, compare_children);
    if (r->n_ikes > 0)
        qsort(r->ikes, r->n_ikes, sizeof *r->ikes, compare_ikes);
    if (r->n_spis > 0)
        log_info("node", "taking up %zu IKE SAs that this slot owned before its restart",
                 r->n_spis);
}

/* Our name under the next term; the answer is node_resume_on_barrier. */
static void raise_term(struct node *node, uint64_t spi)
{
    struct resume *r = node->resume;
    const struct record *record = sync_find_ike(node->sync, spi);
    struct record *clone;
    struct sync_event event = {.kind = SYNC_EV_PUT, .group = &clone, .n_group = 1};

    if (!record || !to_be_resumed(node, record))
        return;
    if (!reserve((void **)&r->waiting, r->n_waiting, &r->cap_waiting, sizeof *r->waiting))
        return;
    clone = record_clone(record);
    if (!clone)
        return;
    clone->ike.term.number++;
    clone->ike.term.incarnation = sync_incarnation(node->sync);
    clone->ike.revision = 0;
    event.barrier = RESUME_BARRIER | ++r->last_barrier;
    r->waiting[r->n_waiting++] = (struct waiting){.barrier = event.barrier, .spi = spi};
    node_sync(node, &event);
}

void node_resume_tick(struct node *node)
{
    struct resume *r = node->resume;

    if (!r) {
        r = node->resume = calloc(1, sizeof *r);
        if (!r)
            return;
    }
    if (!r->begun) {
        if (!node_may_negotiate(node))
            return;
        begin(node);
    }
    for (int i = 0; i < NODE_RESUME_PER_TICK && r->n_spis > 0; i++)
        raise_term(node, r->spis[--r->n_spis]);
}

void node_resume_offer(struct node *node, const struct record *ike)
{
    if (node->resume && node->resume->begun && to_be_resumed(node, ike))
        add_spi(node->resume, ike_record_spi(&ike->ike));
}

bool node_resume_is_barrier(uint64_t barrier)
{
    return (barrier & RESUME_BARRIER) != 0;
}

/* ---- past the barrier ---- */

static size_t first_child(const struct resume *r, const struct id128 *lineage)
{
    size_t low = 0, high = r->n_children;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (memcmp(r->children[middle].lineage.b, lineage->b, ID_BYTES) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Whether a newer installed IKE SA of the same lineage was there when this began: a rekey
 * that was not finished. */
static bool is_superseded(const struct node *node, const struct ike_record *ike)
{
    const struct resume *r = node->resume;
    struct ike_key key = {
        .lineage = ike->lineage, .created_ms = ike->created_ms, .spi = ike_record_spi(ike)};
    const struct ike_key *at =
        r->n_ikes ? bsearch(&key, r->ikes, r->n_ikes, sizeof key, compare_ikes) : NULL;
    const struct record *next;

    if (!at || at + 1 == r->ikes + r->n_ikes || !id128_equal(&at[1].lineage, &ike->lineage))
        return false;
    next = sync_find_ike(node->sync, at[1].spi);
    return next && next->ike.state == SA_INSTALLED;
}

static void restore(struct node *node, const struct record *ike)
{
    const struct resume *r = node->resume;
    uint64_t spi = ike_record_spi(&ike->ike);
    bool superseded = is_superseded(node, &ike->ike);
    size_t first = first_child(r, &ike->ike.lineage), end = first, n = 0;
    const struct record **children;
    int err;

    while (!superseded && end < r->n_children &&
           id128_equal(&r->children[end].lineage, &ike->ike.lineage))
        end++;
    children = calloc(end - first + 1, sizeof(const struct record *));
    if (!children)
        return;
    for (size_t i = first; i < end; i++) {
        const struct record *child = sync_find_child(node->sync, r->children[i].spi_in);
        if (child && child->child.state == SA_INSTALLED)
            children[n++] = child;
    }
    err = ike_restore(node->ike, ike, children, n, superseded, now_read());
    if (err == ERR_OK)
        node->counters.resumed++;
    else
        log_warn("node", "IKE SA 0x%016" PRIx64 " was not taken up: %s", spi, err_text(err));
    free(children);
}

void node_resume_on_barrier(struct node *node, uint64_t barrier)
{
    struct resume *r = node->resume;
    struct id128 self = sync_incarnation(node->sync);
    const struct record *record;
    size_t i = 0;

    while (i < r->n_waiting && r->waiting[i].barrier != barrier)
        i++;
    if (i == r->n_waiting)
        return;
    record = sync_find_ike(node->sync, r->waiting[i].spi);
    r->waiting[i] = r->waiting[--r->n_waiting];
    if (record && record->ike.state == SA_INSTALLED &&
        id128_equal(&record->ike.term.incarnation, &self))
        restore(node, record);
}

void node_resume_free(struct node *node)
{
    struct resume *r = node->resume;

    if (!r)
        return;
    free(r->spis);
    free(r->children);
    free(r->ikes);
    free(r->waiting);
    free(r);
    node->resume = NULL;
}
