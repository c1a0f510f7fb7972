/* Cookies: an initiator shows that it can hear us before we keep state for it.
 *
 *   cookie = window 4 octets | HMAC-SHA2-256(cluster-wide key, window | Ni | IPi | SPIi), cut to 20
 *
 * A window lasts a minute of the wall clock; a cookie is good in its own and in the
 * neighbouring ones. Nothing is remembered, so any node can check any node's cookie. */
#include <stdlib.h>
#include <string.h>

#include "ike/internal.h"

enum { WINDOW_MS = 60000, WINDOW_BYTES = 4, COOKIE_MAC_BYTES = 20, COOKIE_BYTES = 24 };

static int make_cookie(const struct secret *key, const struct request *rq, struct slice nonce_i,
                       uint32_t window, uint8_t out[COOKIE_BYTES])
{
    uint8_t fixed[WINDOW_BYTES + IKE_SPI_BYTES + 1 + 16], mac[HASH_MAX];
    struct writer w = writer_of(fixed, sizeof fixed), cookie = writer_of(out, COOKIE_BYTES);
    struct slice parts[2];
    int rc;

    write_u32(&w, window);
    write_u64(&w, rq->m.spi_i);
    write_u8(&w, rq->peer.ip.family);
    write_bytes(&w, rq->peer.ip.b, sizeof rq->peer.ip.b);
    parts[0] = (struct slice){fixed, w.n};
    parts[1] = nonce_i;
    rc = crypto_hmac(HASH_SHA256, secret_slice(key), parts, 2, mac);
    write_u32(&cookie, window);
    write_bytes(&cookie, mac, COOKIE_MAC_BYTES);
    return rc;
}

static bool is_good(const struct secret *key, const struct request *rq, struct slice nonce_i,
                    struct slice got, uint32_t now_window)
{
    struct reader r = reader_of(got.p, got.n);
    uint32_t window = read_u32(&r);
    uint8_t want[COOKIE_BYTES];

    /* Unsigned distance: 0, 1 or -1. */
    return got.n == COOKIE_BYTES && now_window - window + 1 <= 2 &&
           make_cookie(key, rq, nonce_i, window, want) == ERR_OK &&
           crypto_equal(want, got.p, COOKIE_BYTES);
}

/* Under either key: nodes do not change to the next one at the same moment. */
static bool is_any_good(const struct ike_engine *e, const struct request *rq, struct slice nonce_i,
                        struct slice got, uint32_t now_window)
{
    const struct secret *also = &e->config.cookie_also;

    return is_good(&e->config.cookie_key, rq, nonce_i, got, now_window) ||
           (also->n && is_good(also, rq, nonce_i, got, now_window));
}

bool cookie_passes(struct ike_engine *e, const struct request *rq, struct slice nonce_i)
{
    uint32_t window = (uint32_t)(e->now.wall_ms / WINDOW_MS);
    uint8_t cookie[COOKIE_BYTES];
    struct notify n;

    if (e->stats.half_open < e->config.cookie_threshold)
        return true;
    if (message_find_notify(&rq->m, N_COOKIE, &n) && is_any_good(e, rq, nonce_i, n.data, window))
        return true;
    if (make_cookie(&e->config.cookie_key, rq, nonce_i, window, cookie) == ERR_OK) {
        e->stats.cookies++;
        init_refuse(e, rq, N_COOKIE, (struct slice){cookie, sizeof cookie});
    }
    return false;
}

/* ---- half-open SAs per source prefix ---- */

static void key_of(const struct ip_addr *ip, uint8_t out[7])
{
    memset(out, 0, 7);
    out[0] = ip->family;
    memcpy(out + 1, ip->b, ip->family == 4 ? 3 : 6);
}

static struct source_prefix *find_prefix(const struct ike_engine *e, const struct ip_addr *ip)
{
    struct source_prefix *p;
    uint8_t key[7];

    key_of(ip, key);
    HASH_FIND(hh, e->prefixes, key, sizeof key, p);
    return p;
}

bool prefix_enter(struct ike_engine *e, const struct ip_addr *ip)
{
    struct source_prefix *p = find_prefix(e, ip);

    if (p && p->n >= PREFIX_HALF_OPEN_MAX) {
        e->stats.prefix_full++;
        return false;
    }
    if (!p) {
        p = calloc(1, sizeof *p);
        if (!p)
            return false;
        key_of(ip, p->b);
        HASH_ADD(hh, e->prefixes, b, sizeof p->b, p);
    }
    p->n++;
    return true;
}

void prefix_leave(struct ike_engine *e, const struct ip_addr *ip)
{
    struct source_prefix *p = find_prefix(e, ip);

    if (p && --p->n == 0) {
        HASH_DELETE(hh, e->prefixes, p);
        free(p);
    }
}
