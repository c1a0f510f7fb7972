#include "dataplane/sa.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dataplane/esp.h"
#include "proto/err.h"

/* ---------------------------------------------------------------- the table */

/* One MiB. The table grows by itself, but on a thread of its own: while a node with many SAs
 * starts, that thread is behind and every look-up walks. */
enum { FIRST_BUCKETS = 1 << 16 };

int sa_table_open(struct sa_table *t)
{
    *t = (struct sa_table){0};
    t->by_spi = cds_lfht_new(FIRST_BUCKETS, FIRST_BUCKETS, 0,
                             CDS_LFHT_AUTO_RESIZE | CDS_LFHT_ACCOUNTING, NULL);
    return t->by_spi ? ERR_OK : ERR_NOMEM;
}

void sa_table_close(struct sa_table *t)
{
    if (t->by_spi)
        (void)cds_lfht_destroy(t->by_spi, NULL);
    t->by_spi = NULL;
}

void sa_table_expect(struct sa_table *t, size_t n)
{
    unsigned long buckets = FIRST_BUCKETS;

    while (buckets < n && buckets < ULONG_MAX / 2)
        buckets *= 2;
    if (buckets > FIRST_BUCKETS && n > t->n)
        cds_lfht_resize(t->by_spi, buckets);
}

/* SPIs begin with the slot; the table takes the low bits of the hash. */
static unsigned long hash_spi(uint32_t spi)
{
    uint64_t h = (uint64_t)spi * 0x9e3779b97f4a7c15u;

    return (unsigned long)(h ^ h >> 32);
}

static int match_spi(struct cds_lfht_node *node, const void *key)
{
    const struct sa_hot *hot = caa_container_of(node, struct sa_hot, node);

    return hot->spi_in == *(const uint32_t *)key;
}

struct sa *sa_find(const struct sa_table *t, uint32_t spi_in)
{
    struct cds_lfht_iter at;
    struct cds_lfht_node *node;

    cds_lfht_lookup(t->by_spi, hash_spi(spi_in), match_spi, &spi_in, &at);
    node = cds_lfht_iter_get_node(&at);
    return node ? caa_container_of(node, struct sa, hot.node) : NULL;
}

void sa_table_add(struct sa_table *t, struct sa *sa)
{
    rcu_read_lock();
    cds_lfht_add(t->by_spi, hash_spi(sa->hot.spi_in), &sa->hot.node);
    rcu_read_unlock();
    t->n++;
}

void sa_table_del(struct sa_table *t, struct sa *sa)
{
    rcu_read_lock();
    if (cds_lfht_del(t->by_spi, &sa->hot.node) == 0)
        t->n--;
    rcu_read_unlock();
}

/* ---------------------------------------------------------------- one SA */

/* Any address, protocol and port of a family? */
static bool selects_family(const struct selector_list *l, uint8_t family)
{
    static const struct ip_addr zero;

    for (size_t i = 0; i < l->n; i++) {
        const struct selector *s = &l->s[i];
        struct ip_addr last = {.family = family};

        memset(last.b, 0xff, ip_len(&last));
        if (s->proto == 0 && s->port_lo == 0 && s->port_hi == UINT16_MAX &&
            s->lo.family == family && memcmp(s->lo.b, zero.b, sizeof zero.b) == 0 &&
            ip_equal(&s->hi, &last))
            return true;
    }
    return false;
}

static int outer_of(const struct child_record *r, struct sa_outer **out)
{
    struct sa_outer *outer;

    if (r->local.ip.family != 4 || r->peer.ip.family != 4)
        return ERR_UNSUPPORTED;
    if (r->udp_encap && r->peer.port == 0)
        return ERR_INVALID;
    outer = calloc(1, sizeof *outer);
    if (!outer)
        return ERR_NOMEM;
    outer->udp_encap = r->udp_encap;
    outer->local = r->local;
    outer->peer = r->peer;
    if (!r->udp_encap)
        outer->local.port = outer->peer.port = 0;
    *out = outer;
    return ERR_OK;
}

/* One allocation: the SA, the lanes' traffic, the selectors. */
static struct sa *sa_alloc(const struct child_record *r, unsigned lanes)
{
    size_t n_selectors = (size_t)r->ts_local.n + r->ts_remote.n;
    size_t n =
        sizeof(struct sa) + lanes * sizeof(struct traffic) + n_selectors * sizeof(struct selector);
    struct sa *sa = aligned_alloc(64, (n + 63) / 64 * 64);
    struct selector *s;

    if (!sa)
        return NULL;
    memset(sa, 0, n);
    sa->hot.traffic = (struct traffic *)(sa + 1);
    s = (struct selector *)(sa->hot.traffic + lanes);
    memcpy(s, r->ts_local.s, r->ts_local.n * sizeof *s);
    memcpy(s + r->ts_local.n, r->ts_remote.s, r->ts_remote.n * sizeof *s);
    sa->hot.ts_local = s;
    sa->hot.ts_remote = s + r->ts_local.n;
    sa->hot.n_local = r->ts_local.n;
    sa->hot.n_remote = r->ts_remote.n;
    return sa;
}

static void describe(struct sa *sa, const struct child_record *r)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    sa->installed_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    sa->installed_us = (uint32_t)(now.tv_nsec / 1000 % 1000);
    sa->lineage = r->lineage;
    sa->suite = r->suite;
    sa->generation = r->generation;
    sa->replaces_spi = r->replaces_spi;
    sa->rekeyed = r->rekeyed;
    sa->created_ms = r->created_ms;
    sa->hot.spi_in = r->spi_in;
    sa->hot.spi_out = r->spi_out;
    sa->hot.not_after_ms = r->not_after_ms ? r->not_after_ms : INT64_MAX;
    if (selects_family(&r->ts_local, 4) && selects_family(&r->ts_remote, 4))
        sa->hot.selects_all |= SELECTS_ALL_V4;
    if (selects_family(&r->ts_local, 6) && selects_family(&r->ts_remote, 6))
        sa->hot.selects_all |= SELECTS_ALL_V6;
    atomic_init(&sa->hot.confirmed, r->confirmed);
    atomic_init(&sa->hot.own, false);
    atomic_init(&sa->hot.proven, false);
    sa->hot.may_move = r->udp_encap && r->nat & NAT_PEER;
}

int sa_new(const struct child_record *r, const struct provider_ops *provider, unsigned lanes,
           struct sa **out)
{
    struct provider_key_config key = {.lanes = lanes};
    struct sa *sa;
    int rc;

    if (r->spi_in < ESP_SPI_MIN || r->spi_out < ESP_SPI_MIN || r->ts_local.n == 0 ||
        r->ts_remote.n == 0 || r->ts_local.n > SELECTORS_MAX || r->ts_remote.n > SELECTORS_MAX)
        return ERR_INVALID;
    rc = esp_suite_of(&r->suite, &key.suite, &key.hash);
    if (rc != ERR_OK)
        return rc;
    if (!esp_keys_fit(&r->suite, secret_slice(&r->encr_in), secret_slice(&r->integ_in)) ||
        !esp_keys_fit(&r->suite, secret_slice(&r->encr_out), secret_slice(&r->integ_out)))
        return ERR_INVALID;
    sa = sa_alloc(r, lanes);
    if (!sa)
        return ERR_NOMEM;
    sa->provider = provider;
    sa->hot.suite = key.suite;
    describe(sa, r);
    rc = outer_of(r, &sa->hot.outer);
    if (rc == ERR_OK) {
        key.encr = secret_slice(&r->encr_in);
        key.integ = secret_slice(&r->integ_in);
        rc = provider->key_new(&key, &sa->hot.key_in);
    }
    if (rc == ERR_OK) {
        key.encr = secret_slice(&r->encr_out);
        key.integ = secret_slice(&r->integ_out);
        rc = provider->key_new(&key, &sa->hot.key_out);
    }
    if (rc != ERR_OK) {
        sa_free_now(sa);
        return rc;
    }
    *out = sa;
    return ERR_OK;
}

void sa_free_now(struct sa *sa)
{
    sa->provider->key_free(sa->hot.key_in);
    sa->provider->key_free(sa->hot.key_out);
    free(sa->hot.outer);
    free(sa);
}

static void free_sa(struct rcu_head *head)
{
    sa_free_now(caa_container_of(head, struct sa, rcu));
}

void sa_free_later(struct sa *sa)
{
    call_rcu(&sa->rcu, free_sa);
}

static void free_outer(struct rcu_head *head)
{
    free(caa_container_of(head, struct sa_outer, rcu));
}

bool sa_is_same(const struct sa *sa, const struct child_record *r)
{
    return sa->hot.spi_out == r->spi_out && id128_equal(&sa->lineage, &r->lineage) &&
           memcmp(&sa->suite, &r->suite, sizeof sa->suite) == 0;
}

int sa_update(struct sa *sa, const struct child_record *r, bool *changed)
{
    struct sa_outer *was = sa->hot.outer, *outer = NULL;
    int rc = outer_of(r, &outer);

    if (rc != ERR_OK)
        return rc;
    *changed = false;
    if (sa->moved)
        outer->peer = was->peer;
    if (outer->udp_encap != was->udp_encap || !endpoint_equal(&outer->local, &was->local) ||
        !endpoint_equal(&outer->peer, &was->peer)) {
        rcu_assign_pointer(sa->hot.outer, outer);
        call_rcu(&was->rcu, free_outer);
        *changed = true;
    } else {
        free(outer);
    }
    if (r->confirmed && !atomic_load_explicit(&sa->hot.confirmed, memory_order_relaxed)) {
        atomic_store_explicit(&sa->hot.confirmed, true, memory_order_relaxed);
        *changed = true;
    }
    if (r->rekeyed && !sa->rekeyed) {
        sa->rekeyed = true;
        *changed = true;
    }
    return ERR_OK;
}

int sa_move(struct sa *sa, const struct endpoint *peer)
{
    struct sa_outer *was = sa->hot.outer, *outer;

    sa->moved = true;
    if (endpoint_equal(&was->peer, peer))
        return ERR_OK;
    outer = malloc(sizeof *outer);
    if (!outer)
        return ERR_NOMEM;
    *outer = *was;
    outer->peer = *peer;
    rcu_assign_pointer(sa->hot.outer, outer);
    call_rcu(&was->rcu, free_outer);
    return ERR_OK;
}

static int rank(const struct sa *sa, enum sa_successor successor)
{
    bool confirmed = atomic_load_explicit(&sa->hot.confirmed, memory_order_relaxed);

    if (successor == SUCCESSOR_PROVEN || (successor == SUCCESSOR_NONE && sa->rekeyed))
        return 1;
    if (confirmed)
        return 0;
    return successor == SUCCESSOR_UNPROVEN ? 1 : 2;
}

int sa_prefer(const struct sa *a, enum sa_successor of_a, const struct sa *b,
              enum sa_successor of_b)
{
    int rank_a = rank(a, of_a), rank_b = rank(b, of_b);

    if (rank_a != rank_b)
        return rank_a - rank_b;
    if (a->created_ms != b->created_ms)
        return a->created_ms > b->created_ms ? -1 : 1;
    if (a->generation != b->generation)
        return a->generation > b->generation ? -1 : 1;
    return a->hot.spi_in < b->hot.spi_in ? -1 : a->hot.spi_in > b->hot.spi_in;
}
