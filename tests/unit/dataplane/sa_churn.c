/* A lane at full speed while the loop thread installs, changes and removes what it
 * reads. Run under AddressSanitizer this finds what is freed too early; by itself
 * it checks that opened packets are right and sequence numbers only rise. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/err.h"
#include "tests/unit/dataplane/rig.h"

enum { SAS = 48, SECONDS = 2, MAKER = 5, FIRST_SPI = MAKER << 22 | 0x100 };

#define CHECK(what)                                                                                \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);                     \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* ---------------------------------------------------------------- a source that never rests */

struct source {
    uint64_t turn;
    uint32_t last_sequence;
};

static struct {
    uint8_t bytes[256];
    size_t n;
} sealed[SAS], plain_in, plain_out;

static int churn_open(const struct source_config *config, struct source **out)
{
    (void)config;
    *out = calloc(1, sizeof **out);
    return *out ? ERR_OK : ERR_NOMEM;
}

static void churn_close(struct source *s)
{
    free(s);
}

static size_t churn_recv(struct source *s, struct packet **packets, size_t n, int timeout_ms)
{
    (void)timeout_ms;
    for (size_t i = 0; i < n; i++) {
        struct packet *p = packets[i];
        uint64_t which = s->turn++ % (2 * SAS);
        const uint8_t *bytes = which < SAS ? sealed[which].bytes : plain_out.bytes;

        p->n = (uint32_t)(which < SAS ? sealed[which].n : plain_out.n);
        memcpy(p->data, bytes, p->n);
        p->via = which < SAS ? VIA_UDP : VIA_INNER;
        p->local = end(ANYCAST, 4500);
        p->peer = end(CUSTOMER, 4500);
    }
    return n;
}

static void churn_send(struct source *s, struct packet **packets, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct packet *p = packets[i];
        struct reader r = reader_of(p->data, p->n);
        uint32_t sequence;

        if (p->via == VIA_INNER) {
            CHECK(p->n == plain_in.n && memcmp(p->data, plain_in.bytes, p->n) == 0);
        } else {
            read_skip(&r, 4);
            sequence = read_u32(&r);
            CHECK(!r.bad && sequence > s->last_sequence);
            s->last_sequence = sequence;
        }
        packets[i]->sent = true;
    }
}

static void churn_wake(struct source *s)
{
    (void)s;
}

static int churn_send_ike(struct source *s, const struct endpoint *local,
                          const struct endpoint *peer, const uint8_t *bytes, size_t n)
{
    (void)s, (void)local, (void)peer, (void)bytes, (void)n;
    return ERR_IO;
}

static unsigned churn_ifindex(const struct source *s)
{
    (void)s;
    return 0;
}

static const struct source_ops source_churn = {
    "churn",    churn_open, churn_close,    churn_recv,
    churn_send, churn_wake, churn_send_ike, churn_ifindex,
};

/* ---------------------------------------------------------------- the loop thread */

static struct child_record records[SAS];
static uint64_t state = 1;

static uint32_t random_u32(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static void reload(struct dp *dp)
{
    struct dp_tunnel tunnels[3] = {0};
    struct dp_route routes[3] = {0};
    size_t n = random_u32() % 4;

    for (size_t i = 0; i < n; i++) {
        tunnels[i].id = rig_id((unsigned)i + 1);
        tunnels[i].type = DP_TUNNEL_IPSEC;
        routes[i].tunnel = tunnels[i].id;
        CHECK(prefix_parse("203.0.113.0/24", &routes[i].prefix));
    }
    CHECK(dp_set_tunnels(dp, tunnels, n, routes, n) == ERR_OK);
}

static void one_change(struct dp *dp)
{
    struct child_record *r = &records[random_u32() % SAS];
    struct dp_sa_stats stats;
    int rc;

    switch (random_u32() % 16) {
    case 0:
        reload(dp);
        break;
    case 1:
    case 2:
    case 3:
        dp_sa_remove(dp, r->spi_in); /* its packets are held until it comes again */
        break;
    case 4:
        dp_miss_over(dp, r->spi_in);
        dp_set_live(dp, MAKER, random_u32() % 4 != 0);
        break;
    case 5:
        r->peer.port = (uint16_t)(1024 + random_u32() % 1000);
        r->confirmed = !r->confirmed;
        r->rekeyed = random_u32() % 2;
        /* fall through */
    default:
        rc = dp_sa_apply(dp, r);
        CHECK(rc == ERR_OK);
        break;
    case 6:
        dp_poll(dp);
        (void)dp_sa_get_stats(dp, r->spi_in, &stats);
        (void)dp_tunnel_get_stats(dp, &r->tunnel_id, &stats);
        break;
    }
}

static void prepare(void)
{
    uint8_t inner[128];

    plain_in.n = make_udp(BEHIND_ACME, BEHIND_US, 1, 2, 60, plain_in.bytes);
    plain_out.n = make_udp(BEHIND_US, BEHIND_ACME, 1, 2, 60, plain_out.bytes);
    memcpy(inner, plain_in.bytes, plain_in.n);
    for (uint32_t i = 0; i < SAS; i++) {
        const struct suite_row *row = &suite_rows[i % suite_row_count];

        records[i] = rig_record(row, FIRST_SPI + 2 * i, i % 3 + 1);
        records[i].udp_encap = true;
        records[i].local = end(ANYCAST, 4500);
        records[i].peer = end(CUSTOMER, 4500);
        records[i].created_ms = i;
        sealed[i].n = peer_seal(&records[i], row, inner, plain_in.n, NULL, sealed[i].bytes);
    }
}

int main(void)
{
    struct dp_config config = {.slot = MAKER + 1, .lanes = 1};
    struct dp_callbacks callbacks = {0};
    struct dp_counters c;
    struct dp *dp;
    uint64_t stop, changes = 0;

    prepare();
    CHECK(dp_open_with(&config, &callbacks, &source_churn, NULL, true, &dp) == ERR_OK);
    dp_set_epoch(dp, 1);
    dp_set_live(dp, MAKER, true);
    stop = now_read().mono_us + SECONDS * 1000000u;
    while (now_read().mono_us < stop) {
        one_change(dp);
        changes++;
    }
    dp_get_counters(dp, &c);
    dp_close(dp);
    printf("%llu changes, %llu packets in, %llu out, %llu held, %llu of them released\n",
           (unsigned long long)changes, (unsigned long long)c.packets_in,
           (unsigned long long)c.packets_out, (unsigned long long)c.held,
           (unsigned long long)c.held_released);
    CHECK(changes > 100 && c.packets_in > 100 && c.packets_out > 100);
    CHECK(c.held > 100 && c.held_released > 10 && c.held_released <= c.held);
    CHECK(c.drops[DROP_AUTH_FAILED] == 0 && c.drops[DROP_MALFORMED_ESP] == 0);
    return 0;
}
