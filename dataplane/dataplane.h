/* The dataplane: packets in, packets out, no control logic.
 *
 * In: source -> classify (ESP, UDP 4500, GRE) -> SA or tunnel look-up -> open
 * -> selector check -> route -> sink. Out: route -> tunnel -> SA -> MSS/MTU ->
 * seal -> sink. dataplane/in.c and dataplane/out.c each read down one way.
 *
 * Threads: everything below is called on the loop thread. Packets are carried
 * by lane threads, which read the SA and route tables through read-copy-update
 * and never lock, allocate or block; they hand IKE datagrams and news to the
 * loop through bounded rings and wake it with an eventfd. */
#ifndef DATAPLANE_DATAPLANE_H
#define DATAPLANE_DATAPLANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/net.h"
#include "proto/record.h"

enum { DP_LANES_MAX = 15, DP_NAME_MAX = 16, DP_ADDRESSES_MAX = 16 };

/* Every way in which a packet can end undelivered: dataplane/drops.def. */
enum dp_drop {
#define DROP(name, text) DROP_##name,
#include "dataplane/drops.def"
#undef DROP
    DROP_COUNT
};
/* The metric label ("no_sa") and the sentence of a reason. */
const char *dp_drop_name(enum dp_drop reason);
const char *dp_drop_text(enum dp_drop reason);

struct dp_config {
    uint16_t slot;
    char tun[DP_NAME_MAX];
    char source[DP_NAME_MAX];   /* "auto" or "socket" */
    char provider[DP_NAME_MAX]; /* "auto" or "openssl" */
    unsigned lanes;             /* 1 to DP_LANES_MAX; 0: 1 */
    struct ip_addr anycast[DP_ADDRESSES_MAX];
    size_t n_anycast;
    uint32_t iv_max; /* where the IV counters end; 0: 2^32 - 1 */
};

enum dp_tunnel_type { DP_TUNNEL_IPSEC = 1, DP_TUNNEL_GRE = 2 };

struct dp_tunnel {
    struct id128 id;
    enum dp_tunnel_type type;
    struct ip_addr anycast, customer; /* outer addresses; customer may be none for IPsec */
    bool has_gre_key;
    uint32_t gre_key;
    uint8_t ttl;                        /* of the outer header; 0: 64 */
    uint16_t mtu;                       /* inner MTU; 0: worked out from the suite */
    struct ip_prefix interface_address; /* the gateway's side; family 0: none */
};

struct dp_route {
    struct ip_prefix prefix;
    struct id128 tunnel;
    uint32_t priority; /* lower wins */
    uint32_t weight;
};

struct dp_callbacks { /* called from dp_poll, on the loop thread */
    void *ctx;
    /* An IKE datagram (without the non-ESP marker). Bytes are borrowed. */
    void (*ike)(void *ctx, const struct endpoint *local, const struct endpoint *peer,
                const uint8_t *bytes, size_t n);
    /* The first authenticated packet on an SA that was installed unconfirmed. */
    void (*confirmed)(void *ctx, uint32_t spi_in);
    /* Inbound ESP whose SA is not here while the slot in its SPI is live (dp_set_live): packets are
     * held for up to 50 ms for dp_sa_apply to bring it, or for dp_miss_over. Once per SPI and lane
     * while one is held; rate-limited. */
    void (*miss)(void *ctx, uint32_t spi_in);
    /* A peer behind NAT was heard from elsewhere than its SA sends to: an authentic packet, younger
     * than any other of that SA here. It proves little (RFC 7296 §2.23): ask there before
     * following. Rate-limited. */
    void (*moved)(void *ctx, uint32_t spi_in, const struct endpoint *peer);
};

struct dp;

/* Starts liburcu's threads, which inherit what the calling one may do. ERR_OK or ERR_NOMEM. */
int dp_prepare(void);
/* Opens TUN and sockets and starts the lanes; on failure 0 is left behind and the log says
 * what is missing and the remedy. ERR_IO, ERR_UNSUPPORTED or ERR_NOMEM. */
int dp_open(const struct dp_config *config, const struct dp_callbacks *callbacks, struct dp **out);
/* Stops the lanes, closes, removes the TUN device, frees. */
void dp_close(struct dp *dp);

int dp_wake_fd(const struct dp *dp); /* readable when dp_poll has work */
void dp_poll(struct dp *dp);

/* Sends an IKE message from `local` (an anycast address; port 500 or 4500; the non-ESP marker
 * is added on 4500). Never blocks; ERR_IO when the system refuses. */
int dp_send_ike(struct dp *dp, const struct endpoint *local, const struct endpoint *peer,
                const uint8_t *bytes, size_t n);

/* Installs an SA or applies its newer form (endpoint, confirmed, rekeyed). SA_DELETED retires it.
 */
int dp_sa_apply(struct dp *dp, const struct child_record *sa);
/* Between these two many SAs are applied, `expected` or so: what comes in on them is carried at
 * once, but which SA of a tunnel is sent on is worked out once, at the end. */
void dp_bulk_begin(struct dp *dp, size_t expected);
void dp_bulk_end(struct dp *dp);
/* The peer is at another address now: from here on the record's is not looked at any more. Nothing
 * happens to an SA that is not here or not UDP-encapsulated. ERR_NOMEM, ERR_INVALID. */
int dp_sa_move(struct dp *dp, uint32_t spi_in, const struct endpoint *peer);
/* At once. */
void dp_sa_remove(struct dp *dp, uint32_t spi_in);
/* Nothing is sealed on it any more and it is shown no more, but packets that are under way are
 * still opened, for DP_LINGER_MS. */
enum { DP_LINGER_MS = 5000 };
void dp_sa_retire(struct dp *dp, uint32_t spi_in);
/* Removes what has lingered long enough; call it now and then. */
void dp_expire(struct dp *dp, uint64_t now_us);

/* Whether the member of that slot is alive: then packets of SAs that it made, but that are not
 * here, are held for a moment. None is at first; our own slot never is. */
void dp_set_live(struct dp *dp, uint16_t slot, bool live);
/* After `miss`: there is no such SA, or it is deleted. What is held for it drops, and for a second
 * nothing is held for it or reported. */
void dp_miss_over(struct dp *dp, uint32_t spi_in);

struct dp_sa_stats {
    uint64_t packets_in, bytes_in, packets_out, bytes_out; /* inner packets and octets, this node */
    int64_t installed_ms;  /* wall clock, when it was installed here, microsecond part below */
    uint32_t installed_us; /* 0-999 */
    uint64_t last_in_us;   /* monotonic time of the last authenticated packet, 0 never */
};
bool dp_sa_get_stats(const struct dp *dp, uint32_t spi_in, struct dp_sa_stats *out);

/* Replaces all tunnels and routes at once; SAs stay. The kernel routes towards the TUN follow:
 * one per prefix, removed when the prefix leaves and at dp_close. ERR_IO names the prefix in the
 * log. */
int dp_set_tunnels(struct dp *dp, const struct dp_tunnel *tunnels, size_t n_tunnels,
                   const struct dp_route *routes, size_t n_routes);

/* This process itself negotiated that SA, so it is sealed even while no epoch was granted yet. */
void dp_sa_own(struct dp *dp, uint32_t spi_in);
/* From now on ESP may be sealed under this epoch; 0: nothing may be sealed. Every new epoch must
 * be higher than all before it, also after a 0; another one is refused, said in the log, and
 * leaves things as they are. Before the first one SAs of our own making alone are sealed. */
void dp_set_epoch(struct dp *dp, uint32_t epoch);
/* How far the IV counters of the present epoch have come: the largest of the lanes', up to
 * 2^32 - 1. */
uint32_t dp_iv_used(const struct dp *dp);

struct dp_counters {
    uint64_t packets_in, packets_out; /* delivered, by direction: in = from customers */
    uint64_t bytes_in, bytes_out;
    uint64_t drops[DROP_COUNT];
    uint64_t moves_reported, moves_unreported; /* unreported: too many at a time */
    uint64_t held, held_released; /* ESP packets that waited for their SA; whose SA came in time */
    uint64_t held_overflow;       /* that would have, but there was no room */
};
void dp_get_counters(const struct dp *dp, struct dp_counters *out);
/* Per tunnel, GRE included. False for an unknown tunnel. */
bool dp_tunnel_get_stats(const struct dp *dp, const struct id128 *id, struct dp_sa_stats *out);

#endif
