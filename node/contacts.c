/* Which IKE SAs a tunnel has in the whole cluster, and since when this node knows
 * them: what INITIAL_CONTACT must look at without walking every record. */
#include <stdlib.h>
#include <uthash.h>

#include "node/node.h"
#include "proto/log.h"

struct known_sa {
    uint64_t spi;
    uint64_t applied_us; /* monotonic */
};

struct contact { /* one tunnel */
    struct id128 tunnel;
    struct known_sa *sas;
    size_t n, cap;
    UT_hash_handle hh;
};

static void add(struct node *node, const struct ike_record *ike)
{
    struct contact *c;
    uint64_t spi = ike_record_spi(ike);

    HASH_FIND(hh, node->contacts, &ike->tunnel_id, sizeof ike->tunnel_id, c);
    if (!c) {
        c = calloc(1, sizeof *c);
        if (!c)
            return;
        c->tunnel = ike->tunnel_id;
        HASH_ADD(hh, node->contacts, tunnel, sizeof c->tunnel, c);
    }
    for (size_t i = 0; i < c->n; i++)
        if (c->sas[i].spi == spi)
            return;
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 2;
        struct known_sa *more = realloc(c->sas, cap * sizeof *more);

        if (!more)
            return;
        c->sas = more;
        c->cap = cap;
    }
    c->sas[c->n++] = (struct known_sa){spi, now_read().mono_us};
}

static void drop(struct node *node, const struct ike_record *ike)
{
    struct contact *c;
    uint64_t spi = ike_record_spi(ike);

    HASH_FIND(hh, node->contacts, &ike->tunnel_id, sizeof ike->tunnel_id, c);
    for (size_t i = 0; c && i < c->n; i++)
        if (c->sas[i].spi == spi) {
            c->sas[i] = c->sas[--c->n];
            break;
        }
    if (c && c->n == 0) {
        HASH_DELETE(hh, node->contacts, c);
        free(c->sas);
        free(c);
    }
}

void node_contacts_record(struct node *node, const struct ike_record *ike)
{
    if (ike->state == SA_INSTALLED)
        add(node, ike);
    else
        drop(node, ike);
}

/* f gets records of the replication core and must not step it. */
void node_contacts_each(void *ctx, const struct id128 *tunnel, uint64_t before_us, ike_visit_fn *f,
                        void *f_ctx)
{
    struct node *node = ctx;
    struct contact *c;

    HASH_FIND(hh, node->contacts, tunnel, sizeof *tunnel, c);
    for (size_t i = 0; c && i < c->n; i++) {
        const struct record *r = sync_find_ike(node->sync, c->sas[i].spi);

        if (r && r->ike.state == SA_INSTALLED && c->sas[i].applied_us < before_us)
            f(f_ctx, r);
    }
}

void node_contacts_free(struct node *node)
{
    struct contact *c, *next;

    HASH_ITER(hh, node->contacts, c, next)
    {
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): iterating is safe */
        HASH_DELETE(hh, node->contacts, c);
        free(c->sas);
        free(c);
    }
}
