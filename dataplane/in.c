/* The way in, from a customer: read from top to bottom.
 *
 * A batch is classified (ESP in IP or UDP, GRE, IKE), the ESP packets among it
 * are opened together, and each inner packet is checked against its tunnel,
 * then routed: to another tunnel (hairpin: it goes on in out.c within the same
 * turn) or to the kernel. A packet that ends on the way moves one counter. One
 * whose SA may be on its way to this node waits a moment for it (hold.h). */
#include <string.h>

#include "dataplane/esp.h"
#include "dataplane/gre.h"
#include "dataplane/internal.h"
#include "proto/cursor.h"
#include "proto/wire_ikev2.h"

struct opening { /* the ESP packets of a batch, waiting for the provider */
    struct crypto_job jobs[BATCH_MAX];
    struct packet *packets[BATCH_MAX];
    size_t n;
};

static void ip_arrived(struct lane *lane, struct packet *p, struct opening *o);
static void udp_arrived(struct lane *lane, struct packet *p, struct opening *o);
static void ike_arrived(struct lane *lane, const struct packet *p);
static void esp_arrived(struct lane *lane, struct packet *p, struct opening *o);
static void esp_opened(struct lane *lane, struct packet *p, bool authentic);
static void esp_look_for_move(struct lane *lane, const struct packet *p);
static void gre_arrived(struct lane *lane, struct packet *p);
static void inner_arrived(struct lane *lane, struct packet *p, uint8_t version, uint16_t mtu);
static void inner_deliver(struct lane *lane, struct packet *p);

void in_batch(struct lane *lane, struct batch *arrived)
{
    struct opening o;

    o.n = 0;
    for (size_t i = 0; i < arrived->n; i++) {
        if (arrived->p[i]->held)
            esp_arrived(lane, arrived->p[i], &o);
        else if (arrived->p[i]->via == VIA_IP)
            ip_arrived(lane, arrived->p[i], &o);
        else
            udp_arrived(lane, arrived->p[i], &o);
    }
    if (o.n)
        lane->dp->provider->open_batch(lane->index, o.jobs, o.n);
    for (size_t i = 0; i < o.n; i++)
        esp_opened(lane, o.packets[i], o.jobs[i].ok);
}

/* ---------------------------------------------------------------- the outer packet */

/* An outer IPv4 packet with its header. The kernel has reassembled fragments; one that still
 * shows up came through another source and cannot be opened. */
static void ip_arrived(struct lane *lane, struct packet *p, struct opening *o)
{
    enum { FRAGMENT = 0x3fff };
    struct reader r = reader_of(p->data, p->n);
    uint8_t first = read_u8(&r), protocol;
    size_t header = (size_t)(first & 15) * 4;
    uint16_t total, fragment;

    p->tos = read_u8(&r);
    total = read_u16(&r);
    read_skip(&r, 2); /* identification */
    fragment = read_u16(&r);
    read_skip(&r, 1); /* TTL */
    protocol = read_u8(&r);
    read_skip(&r, 2); /* header checksum, seen by the kernel */
    p->peer = (struct endpoint){0};
    p->local = (struct endpoint){0};
    p->peer.ip.family = p->local.ip.family = 4;
    read_bytes(&r, p->peer.ip.b, 4);
    read_bytes(&r, p->local.ip.b, 4);
    if (r.bad || first >> 4 != 4 || header < IPV4_HEADER_BYTES || total < header || total > p->n ||
        (fragment & FRAGMENT)) {
        lane_drop(lane, DROP_MALFORMED_OUTER);
        return;
    }
    p->data += header;
    p->n = total - (uint32_t)header;
    if (protocol == IP_PROTO_ESP)
        esp_arrived(lane, p, o);
    else if (protocol == IP_PROTO_GRE)
        gre_arrived(lane, p);
    else
        lane_drop(lane, DROP_MALFORMED_OUTER);
}

/* Port 500 is IKE's alone; on 4500 the first octets tell keepalive, IKE and ESP apart
 * (RFC 3948 §2). */
static void udp_arrived(struct lane *lane, struct packet *p, struct opening *o)
{
    struct reader r = reader_of(p->data, p->n);

    if (p->local.port == IKE_PORT) {
        ike_arrived(lane, p);
        return;
    }
    if (p->n == 1 && read_u8(&r) == 0xff) {
        lane_drop(lane, DROP_KEEPALIVE);
        return;
    }
    r = reader_of(p->data, p->n);
    if (read_u32(&r) == 0 && !r.bad) {
        p->data += NON_ESP_MARKER_BYTES;
        p->n -= NON_ESP_MARKER_BYTES;
        ike_arrived(lane, p);
        return;
    }
    esp_arrived(lane, p, o);
}

static void ike_arrived(struct lane *lane, const struct packet *p)
{
    struct ike_note note = {p->local, p->peer};
    uint8_t *at;

    if (p->n < IKE_HEADER_BYTES || p->n > IKE_MESSAGE_MAX) {
        lane_drop(lane, DROP_MALFORMED_OUTER);
        return;
    }
    at = ring_reserve(lane->ike, (uint32_t)sizeof note + p->n);
    if (!at) {
        lane_drop(lane, DROP_IKE_QUEUE);
        return;
    }
    memcpy(at, &note, sizeof note);
    memcpy(at + sizeof note, p->data, p->n);
    ring_commit(lane->ike);
    lane->wake_loop = true;
}

/* ---------------------------------------------------------------- ESP */

/* Either encapsulation is taken, whatever the SA sends in (RFC 7296 §2.23). */
static void esp_arrived(struct lane *lane, struct packet *p, struct opening *o)
{
    struct reader r = reader_of(p->data, p->n);
    uint32_t spi = read_u32(&r);
    struct sa *sa;

    if (r.bad || spi < ESP_SPI_MIN) {
        lane_drop(lane, DROP_MALFORMED_OUTER);
        return;
    }
    sa = sa_find(&lane->dp->sas, spi);
    if ((!sa || lane->hold.n) && hold_take(lane, p, spi, sa != NULL))
        return; /* it comes here again when its SA has come, behind those that wait already */
    if (!sa) {
        lane_drop(lane, DROP_NO_SA);
        return;
    }
    if (sa->hot.not_after_ms <= lane->now.wall_ms) {
        lane_drop(lane, DROP_SA_EXPIRED);
        return;
    }
    if (!esp_unwrap(p, &sa->hot.suite, &o->jobs[o->n])) {
        lane_drop(lane, DROP_MALFORMED_ESP);
        return;
    }
    o->jobs[o->n].key = sa->hot.key_in;
    o->packets[o->n++] = p;
    p->sa = sa;
    p->tunnel = sa->hot.tunnel;
}

static void esp_opened(struct lane *lane, struct packet *p, bool authentic)
{
    struct sa_hot *hot = &p->sa->hot;
    const struct tunnel_conf *conf = rcu_dereference(p->tunnel->conf);
    uint8_t next;

    if (!authentic) {
        lane_drop(lane, DROP_AUTH_FAILED);
        return;
    }
    tally_set(&hot->traffic[lane->index].last_in_us, lane->now.mono_us);
    tally_set(&p->tunnel->traffic[lane->index].last_in_us, lane->now.mono_us);
    if (!atomic_load_explicit(&hot->confirmed, memory_order_relaxed) &&
        !atomic_load_explicit(&hot->proven, memory_order_relaxed))
        lane_tell(lane, NEWS_CONFIRMED, hot->spi_in, &hot->proven);
    if (hot->may_move && p->via == VIA_UDP)
        esp_look_for_move(lane, p);

    if (!esp_finish(p, &hot->suite, &next)) {
        lane_drop(lane, DROP_MALFORMED_ESP);
        return;
    }
    if (next == IP_PROTO_NONE) {
        lane_drop(lane, DROP_DUMMY);
        return;
    }
    if (!conf || conf->t.type != DP_TUNNEL_IPSEC) {
        lane_drop(lane, DROP_NO_TUNNEL);
        return;
    }
    if (next != IP_PROTO_IPV4 && next != IP_PROTO_IPV6) {
        lane_drop(lane, DROP_MALFORMED_INNER);
        return;
    }
    inner_arrived(lane, p, next == IP_PROTO_IPV4 ? 4 : 6, tunnel_mtu(conf, p->sa));
}

/* A peer behind NAT may come from a new address from one packet to the next. An old packet sent
 * again by somebody else is not younger than all others. (A second lane could put a lower number
 * back; what comes of that is a report too many. A peer whose numbers begin anew is followed by
 * its IKE messages alone until the next rekey.) */
static void esp_look_for_move(struct lane *lane, const struct packet *p)
{
    struct sa_hot *hot = &p->sa->hot;
    const struct sa_outer *outer = rcu_dereference(hot->outer);
    struct reader r = reader_of(p->data, p->n);
    uint32_t sequence;

    read_skip(&r, sizeof hot->spi_in);
    sequence = read_u32(&r);
    if (r.bad || sequence <= atomic_load_explicit(&hot->highest_in, memory_order_relaxed))
        return;
    atomic_store_explicit(&hot->highest_in, sequence, memory_order_relaxed);
    if (!endpoint_equal(&outer->peer, &p->peer))
        lane_moved(lane, hot, &p->peer);
}

/* ---------------------------------------------------------------- GRE */

/* GRE has no secret: its source addresses and key are all that names a tunnel. */
static void gre_arrived(struct lane *lane, struct packet *p)
{
    const struct fib *fib = rcu_dereference(lane->dp->fib);
    const struct tunnel_conf *conf;
    struct gre gre;
    enum dp_drop wrong = gre_parse(p->data, p->n, &gre);

    if (wrong != DROP_COUNT) {
        lane_drop(lane, wrong);
        return;
    }
    p->tunnel = fib_gre(fib, &p->local.ip, &p->peer.ip, gre.has_key, gre.key);
    conf = p->tunnel ? rcu_dereference(p->tunnel->conf) : NULL;
    if (!conf) {
        lane_drop(lane, DROP_GRE_UNKNOWN);
        return;
    }
    tally_set(&p->tunnel->traffic[lane->index].last_in_us, lane->now.mono_us);
    p->data += gre.header_bytes;
    p->n -= gre.header_bytes;
    inner_arrived(lane, p, gre.payload == ETHERTYPE_IPV4 ? 4 : 6, tunnel_mtu(conf, NULL));
}

/* ---------------------------------------------------------------- the inner packet */

/* Out of its tunnel: checked against what the tunnel may carry (RFC 4301 §5.2), its ECN field
 * joined with the outer one, TFC padding cut off. */
static void inner_arrived(struct lane *lane, struct packet *p, uint8_t version, uint16_t mtu)
{
    struct traffic *shares[2] = {&p->tunnel->traffic[lane->index],
                                 p->sa ? &p->sa->hot.traffic[lane->index] : NULL};

    if (!inner_parse(p->data, p->n, &p->inner) || p->inner.version != version) {
        lane_drop(lane, DROP_MALFORMED_INNER);
        return;
    }
    p->n = p->inner.total;
    if (p->sa && !sa_selects(p->sa, &p->inner, true)) {
        lane_drop(lane, DROP_SELECTOR_IN);
        return;
    }
    if (!inner_ecn_out(p->data, &p->inner, p->tos)) {
        lane_drop(lane, DROP_ECN);
        return;
    }
    (void)inner_clamp_mss(p->data, &p->inner, mtu);
    p->carried = p->n;
    for (int i = 0; i < 2; i++) {
        if (shares[i]) {
            tally_add(&shares[i]->packets_in, 1);
            tally_add(&shares[i]->bytes_in, p->n);
        }
    }
    inner_deliver(lane, p);
}

/* To another tunnel, or to the kernel. Exactly one hop is taken off the TTL on a node: here when
 * the packet turns round inside the dataplane, else by the kernel that forwards it. */
static void inner_deliver(struct lane *lane, struct packet *p)
{
    const struct fib *fib = rcu_dereference(lane->dp->fib);
    struct tunnel *tunnel;
    bool found;

    tunnel = fib_route(fib, &p->inner.dst, inner_hash(&p->inner), &found);
    p->via = VIA_INNER;
    if (!tunnel) {
        batch_add(&lane->to_inner, p);
        return;
    }
    if (!inner_hop(p->data, &p->inner)) {
        lane_drop(lane, DROP_TTL);
        return;
    }
    p->tunnel = tunnel;
    p->sa = NULL;
    p->hairpin = true;
    batch_add(&lane->hairpin, p);
}
