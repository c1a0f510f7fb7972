/* The way out, to a customer: read from top to bottom.
 *
 * An inner packet comes from the kernel or, by hairpin, from another tunnel. It
 * gets a route, which names a tunnel; a GRE tunnel's packets leave at once, an
 * IPsec tunnel's get an SA and an IV and are sealed together at the end. A
 * packet that ends on the way moves one counter. */
#include "dataplane/esp.h"
#include "dataplane/gre.h"
#include "dataplane/internal.h"
#include "proto/wire_ikev2.h"

struct sealing { /* the packets of a batch, waiting for the provider */
    struct crypto_job jobs[BATCH_MAX];
    struct packet *packets[BATCH_MAX];
    size_t n;
};

static bool inner_route(struct lane *lane, struct packet *p);
static void tunnel_enter(struct lane *lane, struct packet *p, struct sealing *s);
static void gre_wrap(struct lane *lane, struct packet *p, const struct tunnel_conf *conf);
static void esp_begin(struct lane *lane, struct packet *p, const struct tunnel_conf *conf,
                      struct sealing *s);
static void esp_sealed(struct lane *lane, struct packet *p, bool ok);
static void leave(struct lane *lane, struct packet *p);

void out_batch(struct lane *lane, struct batch *leaving)
{
    struct sealing s;

    s.n = 0;
    for (size_t i = 0; i < leaving->n; i++)
        if (leaving->p[i]->hairpin || inner_route(lane, leaving->p[i]))
            tunnel_enter(lane, leaving->p[i], &s);
    if (s.n)
        lane->dp->provider->seal_batch(lane->index, s.jobs, s.n);
    for (size_t i = 0; i < s.n; i++)
        esp_sealed(lane, s.packets[i], s.jobs[i].ok);
}

/* ---------------------------------------------------------------- the inner packet */

/* What the kernel sent into the TUN device; a packet by hairpin has its route already. */
static bool inner_route(struct lane *lane, struct packet *p)
{
    const struct fib *fib = rcu_dereference(lane->dp->fib);
    bool found;

    if (!inner_parse(p->data, p->n, &p->inner)) {
        lane_drop(lane, DROP_MALFORMED_INNER);
        return false;
    }
    p->n = p->carried = p->inner.total;
    p->tunnel = fib_route(fib, &p->inner.dst, inner_hash(&p->inner), &found);
    if (!p->tunnel)
        lane_drop(lane, DROP_NO_ROUTE);
    return p->tunnel != NULL;
}

/* DSCP and ECN are copied to the outer header (RFC 2983 §4.1, uniform; RFC 6040 §4.1, normal). */
static void tunnel_enter(struct lane *lane, struct packet *p, struct sealing *s)
{
    const struct tunnel_conf *conf = rcu_dereference(p->tunnel->conf);

    if (!conf) {
        lane_drop(lane, DROP_NO_TUNNEL);
        return;
    }
    p->tos = p->inner.tos;
    p->ttl = conf->t.ttl;
    if (conf->t.type == DP_TUNNEL_GRE)
        gre_wrap(lane, p, conf);
    else
        esp_begin(lane, p, conf, s);
}

/* ---------------------------------------------------------------- GRE */

static void gre_wrap(struct lane *lane, struct packet *p, const struct tunnel_conf *conf)
{
    uint32_t header = (uint32_t)gre_header_bytes(conf->t.has_gre_key);

    (void)inner_clamp_mss(p->data, &p->inner, tunnel_mtu(conf, NULL));
    if (packet_headroom(p) < header || p->n + header > PACKET_MAX - IPV4_HEADER_BYTES) {
        lane_drop(lane, DROP_TOO_BIG);
        return;
    }
    p->data -= header;
    p->n += header;
    (void)gre_write(p->data, conf->t.has_gre_key, conf->t.gre_key, p->inner.version);
    p->via = VIA_IP;
    p->protocol = IP_PROTO_GRE;
    p->local = (struct endpoint){.ip = conf->t.anycast};
    p->peer = (struct endpoint){.ip = conf->t.customer};
    leave(lane, p);
}

/* ---------------------------------------------------------------- ESP */

/* The IV's low half is the sequence number (DESIGN §5); CBC's IV must be unpredictable
 * (RFC 3602 §3) and is random instead. */
static enum dp_drop take_iv(struct lane *lane, const struct sa_hot *hot, uint32_t *sequence,
                            uint8_t iv[ESP_IV_MAX])
{
    const struct esp_suite *suite = &hot->suite;
    bool own = atomic_load_explicit(&hot->own, memory_order_relaxed);
    uint64_t counter;
    enum dp_drop wrong = iv_next(&lane->iv, lane->epoch, own, &counter);
    struct writer w = writer_of(iv, ESP_IV_MAX);

    if (wrong != DROP_COUNT)
        return wrong;
    *sequence = (uint32_t)counter;
    if (suite->mode == ESP_GCM)
        write_u64(&w, counter);
    else if (suite->iv_bytes && !lane_random(lane, iv, suite->iv_bytes))
        return DROP_CRYPTO;
    return DROP_COUNT;
}

static void esp_begin(struct lane *lane, struct packet *p, const struct tunnel_conf *conf,
                      struct sealing *s)
{
    uint8_t iv[ESP_IV_MAX] = {0};
    const struct sa_outer *outer;
    struct crypto_job *job = &s->jobs[s->n];
    enum dp_drop wrong;
    uint32_t sequence;
    struct sa *sa = tunnel_pick(p->tunnel, &p->inner, lane->now.wall_ms, &wrong);

    if (!sa) {
        lane_drop(lane, wrong);
        return;
    }
    (void)inner_clamp_mss(p->data, &p->inner, tunnel_mtu(conf, sa));
    wrong = take_iv(lane, &sa->hot, &sequence, iv);
    if (wrong != DROP_COUNT) {
        lane_drop(lane, wrong);
        return;
    }
    if (!esp_wrap(p, &sa->hot.suite, sa->hot.spi_out, sequence, iv,
                  p->inner.version == 4 ? IP_PROTO_IPV4 : IP_PROTO_IPV6, job)) {
        lane_drop(lane, DROP_TOO_BIG);
        return;
    }
    job->key = sa->hot.key_out;
    s->packets[s->n++] = p;

    outer = rcu_dereference(sa->hot.outer);
    p->sa = sa;
    p->local = outer->local;
    p->peer = outer->peer;
    p->via = outer->udp_encap ? VIA_UDP : VIA_IP;
    p->protocol = IP_PROTO_ESP;
    if (outer->udp_encap)
        p->local.port = IKE_NATT_PORT;
}

/* What could not be sealed holds plain text and must not leave. */
static void esp_sealed(struct lane *lane, struct packet *p, bool ok)
{
    struct traffic *t = &p->sa->hot.traffic[lane->index];

    if (!ok) {
        lane_drop(lane, DROP_CRYPTO);
        return;
    }
    tally_add(&t->packets_out, 1);
    tally_add(&t->bytes_out, p->carried);
    leave(lane, p);
}

static void leave(struct lane *lane, struct packet *p)
{
    struct traffic *t = &p->tunnel->traffic[lane->index];

    tally_add(&t->packets_out, 1);
    tally_add(&t->bytes_out, p->carried);
    batch_add(&lane->to_wire, p);
}
