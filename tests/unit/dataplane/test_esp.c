/* ESP through the whole dataplane, against the customer of rig.c and against
 * packets of another implementation (vectors.h). */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/esp.h"
#include "proto/err.h"
#include "tests/unit/dataplane/rig.h"
#include "tests/unit/dataplane/vectors.h"

static uint8_t inner[PACKET_MAX], esp[PACKET_MAX + 400], back[PACKET_MAX + 400];
enum { SPI = 0x01400100 };

static struct child_record install(struct rig *rig, const struct suite_row *row)
{
    struct child_record r = rig_record(row, SPI, 1);

    cr_assert_eq(dp_sa_apply(rig->dp, &r), ERR_OK, "%s", row->name);
    return r;
}

/* ---- both ways, every suite, both families, both encapsulations ---- */

static void check_in(struct rig *rig, const struct child_record *r, const struct suite_row *row,
                     size_t n, bool udp)
{
    size_t sealed = peer_seal(r, row, inner, n, NULL, esp);

    if (udp)
        push_udp(rig, 4500, esp, sealed);
    else
        push_native(rig, IP_PROTO_ESP, CUSTOMER, esp, sealed);
    rig_run(rig);
    expect_left(rig, VIA_INNER, inner, n);
}

static void check_out(struct rig *rig, const struct child_record *r, const struct suite_row *row,
                      size_t n)
{
    struct memory_packet p;
    uint8_t next;

    push_inner(rig, inner, n);
    rig_run(rig);
    cr_assert(pop(rig, &p));
    cr_assert_eq(p.via, r->udp_encap ? VIA_UDP : VIA_IP);
    cr_assert(r->udp_encap || p.protocol == IP_PROTO_ESP);
    cr_assert(endpoint_equal(&p.local, &r->local));
    cr_assert(endpoint_equal(&p.peer, &r->peer));
    cr_assert_eq(peer_open(r, row, p.bytes, p.n, back, &next, NULL), n, "%s", row->name);
    cr_assert_eq(memcmp(back, inner, n), 0);
    cr_assert_eq(next, inner[0] >> 4 == 4 ? 4 : 41);
    free(p.bytes);
}

Test(dataplane_esp, every_suite_carries_both_ways)
{
    static const size_t sizes[] = {0, 1, 2, 3, 13, 14, 15, 16, 100, 1372, 1400, 9000, 60000};

    for (size_t s = 0; s < suite_row_count; s++) {
        const struct suite_row *row = &suite_rows[s];
        struct child_record r;
        struct rig rig;

        rig_open(&rig, NULL);
        r = install(&rig, row);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            size_t n = make_udp(BEHIND_ACME, BEHIND_US, 1000, 53, sizes[i], inner);

            check_in(&rig, &r, row, n, i & 1);
            check_in(&rig, &r, row, n, !(i & 1));
            n = make_udp(BEHIND_US, BEHIND_ACME, 53, 1000, sizes[i], inner);
            check_out(&rig, &r, row, n);
        }
        check_in(&rig, &r, row, make_udp("2001:db8:9::1", "2001:db8::1", 9, 9, 77, inner), true);
        cr_assert_eq(all_drops(&rig), 0);
        rig_close(&rig);
    }
}

Test(dataplane_esp, udp_encapsulation_goes_where_the_record_says)
{
    struct rig rig;
    struct child_record r;

    rig_open(&rig, NULL);
    r = rig_record(&suite_rows[0], SPI, 1);
    r.udp_encap = true;
    r.local = end(ANYCAST, 4500);
    r.peer = end(CUSTOMER, 61001);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    check_out(&rig, &r, &suite_rows[0], make_udp(BEHIND_US, BEHIND_ACME, 1, 2, 50, inner));
    r.peer = end("198.51.100.77", 61002);
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    check_out(&rig, &r, &suite_rows[0], make_udp(BEHIND_US, BEHIND_ACME, 1, 2, 50, inner));
    r.udp_encap = false;
    r.local.port = r.peer.port = 0;
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    check_out(&rig, &r, &suite_rows[0], make_udp(BEHIND_US, BEHIND_ACME, 1, 2, 50, inner));
    rig_close(&rig);
}

/* ---- another implementation's packets ---- */

static void load_vector(const struct esp_vector *v, struct child_record *r, bool inbound)
{
    struct suite_row none = {.suite = {v->encr, v->encr_bits, 0, v->integ, 0}};
    uint8_t key[SECRET_MAX];

    *r = rig_record(&none, inbound ? v->spi : v->spi + 1, 1);
    r->spi_out = inbound ? v->spi + 1 : v->spi;
    secret_set(&r->encr_in, key, from_hex(v->encr_key, key));
    secret_set(&r->integ_in, key, from_hex(v->integ_key, key));
    r->encr_out = r->encr_in;
    r->integ_out = r->integ_in;
}

Test(dataplane_esp, opens_packets_of_another_implementation)
{
    for (size_t i = 0; i < sizeof esp_vectors / sizeof *esp_vectors; i++) {
        const struct esp_vector *v = &esp_vectors[i];
        struct child_record r;
        struct rig rig;
        size_t n = from_hex(v->esp, esp), plain = from_hex(v->inner, inner);

        rig_open(&rig, NULL);
        load_vector(v, &r, true);
        cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK, "%s", v->name);
        push_native(&rig, IP_PROTO_ESP, CUSTOMER, esp, n);
        rig_run(&rig);
        cr_assert_eq(all_drops(&rig), 0, "%s", v->name);
        expect_left(&rig, VIA_INNER, inner, plain);
        rig_close(&rig);
    }
}

Test(dataplane_esp, seals_the_same_octets_as_another_implementation)
{
    static uint8_t room[PACKET_ROOM];

    for (size_t i = 0; i < sizeof esp_vectors / sizeof *esp_vectors; i++) {
        const struct esp_vector *v = &esp_vectors[i];
        struct packet p = {.room = room, .data = room + PACKET_HEADROOM};
        struct provider_key_config config = {.lanes = 1};
        struct suite suite = {v->encr, v->encr_bits, 0, v->integ, 0};
        struct crypto_job job;
        uint8_t key[64], mac[64], iv[16];
        size_t n = from_hex(v->esp, esp);

        cr_assert_eq(esp_suite_of(&suite, &config.suite, &config.hash), ERR_OK);
        config.encr = (struct slice){key, from_hex(v->encr_key, key)};
        config.integ = (struct slice){mac, from_hex(v->integ_key, mac)};
        from_hex(v->iv, iv);
        p.n = (uint32_t)from_hex(v->inner, p.data);
        cr_assert(esp_wrap(&p, &config.suite, v->spi, v->sequence, iv, i & 1 ? 41 : 4, &job));
        cr_assert_eq(provider_openssl.key_new(&config, &job.key), ERR_OK);
        provider_openssl.seal_batch(0, &job, 1);
        cr_assert(job.ok);
        cr_assert_eq(p.n, n, "%s", v->name);
        cr_assert_eq(memcmp(p.data, esp, n), 0, "%s", v->name);
        provider_openssl.key_free(job.key);
    }
}

/* ---- what must not pass ---- */

Test(dataplane_esp, any_changed_bit_fails_the_check)
{
    for (size_t s = 0; s < suite_row_count; s++) {
        const struct suite_row *row = &suite_rows[s];
        size_t n, sealed, tried = 0;
        struct rig rig;
        struct child_record r;

        rig_open(&rig, NULL);
        r = install(&rig, row);
        n = make_udp(BEHIND_ACME, BEHIND_US, 1000, 53, 20, inner);
        sealed = peer_seal(&r, row, inner, n, NULL, esp);
        for (size_t bit = 32; bit < sealed * 8; bit++) { /* the SPI only chooses the SA */
            esp[bit / 8] ^= (uint8_t)(1 << bit % 8);
            push_native(&rig, IP_PROTO_ESP, CUSTOMER, esp, sealed);
            rig_run(&rig);
            esp[bit / 8] ^= (uint8_t)(1 << bit % 8);
            tried++;
        }
        cr_assert_eq(drops(&rig, DROP_AUTH_FAILED), tried, "%s", row->name);
        cr_assert_eq(rig.net.leaving.n, 0);
        cr_assert_eq(rig.n_confirmed, 0, "nothing was authentic");
        rig_close(&rig);
    }
}

Test(dataplane_esp, every_cut_is_refused)
{
    for (size_t s = 0; s < suite_row_count; s++) {
        const struct suite_row *row = &suite_rows[s];
        struct rig rig;
        struct child_record r;
        size_t n, sealed;

        rig_open(&rig, NULL);
        r = install(&rig, row);
        n = make_udp(BEHIND_ACME, BEHIND_US, 1000, 53, 20, inner);
        sealed = peer_seal(&r, row, inner, n, NULL, esp);
        for (size_t cut = 2; cut < sealed; cut++) {
            push_udp(&rig, 4500, esp, cut);
            push_native(&rig, IP_PROTO_ESP, CUSTOMER, esp, cut);
        }
        rig_run(&rig);
        cr_assert_eq(rig.net.leaving.n, 0);
        cr_assert_eq(all_drops(&rig), 2 * (sealed - 2));
        cr_assert_eq(drops(&rig, DROP_MALFORMED_OUTER), 4, "%s: 2 and 3 octets hold no SPI",
                     row->name);
        rig_close(&rig);
    }
}

static void arrives(struct rig *rig, const struct child_record *r, size_t n,
                    const struct peer_options *o)
{
    push_native(rig, IP_PROTO_ESP, CUSTOMER, esp, peer_seal(r, &suite_rows[0], inner, n, o, esp));
    rig_run(rig);
}

Test(dataplane_esp, padding_trailer_and_dummies)
{
    struct rig rig;
    struct child_record r;
    size_t n;

    rig_open(&rig, NULL);
    r = install(&rig, &suite_rows[0]);
    n = make_udp(BEHIND_ACME, BEHIND_US, 1000, 53, 21, inner);

    arrives(&rig, &r, n, &(struct peer_options){.extra_blocks = 62}); /* up to 251 octets */
    expect_left(&rig, VIA_INNER, inner, n);
    arrives(&rig, &r, n, &(struct peer_options){.tfc = 700});
    expect_left(&rig, VIA_INNER, inner, n);
    cr_assert_eq(all_drops(&rig), 0);

    arrives(&rig, &r, n, &(struct peer_options){.extra_blocks = 1, .bad_padding = true});
    cr_assert_eq(drops(&rig, DROP_MALFORMED_ESP), 1);
    arrives(&rig, &r, n, &(struct peer_options){.pad_length = 255});
    cr_assert_eq(drops(&rig, DROP_MALFORMED_ESP), 2);
    arrives(&rig, &r, n, &(struct peer_options){.next_header = 59});
    cr_assert_eq(drops(&rig, DROP_DUMMY), 1);
    arrives(&rig, &r, n, &(struct peer_options){.next_header = 41});
    cr_assert_eq(drops(&rig, DROP_MALFORMED_INNER), 1, "an IPv4 packet as IPv6");
    arrives(&rig, &r, n, &(struct peer_options){.next_header = 17});
    cr_assert_eq(drops(&rig, DROP_MALFORMED_INNER), 2, "transport mode");
    arrives(&rig, &r, n - 1, NULL);
    cr_assert_eq(drops(&rig, DROP_MALFORMED_INNER), 3, "an inner packet cut short");
    inner[8]--; /* TTL, but not the checksum */
    arrives(&rig, &r, n, NULL);
    cr_assert_eq(drops(&rig, DROP_MALFORMED_INNER), 4);
    cr_assert_eq(rig.net.leaving.n, 0);
    rig_close(&rig);
}

Test(dataplane_esp, unknown_expired_and_reserved_spis)
{
    struct rig rig;
    struct child_record r;
    size_t n, sealed;

    rig_open(&rig, NULL);
    r = install(&rig, &suite_rows[0]);
    n = make_udp(BEHIND_ACME, BEHIND_US, 1000, 53, 21, inner);
    sealed = peer_seal(&r, &suite_rows[0], inner, n, NULL, esp);

    esp[3] ^= 1;
    for (int i = 0; i < 5; i++)
        push_udp(&rig, 4500, esp, sealed);
    rig_run(&rig);
    cr_assert_eq(drops(&rig, DROP_NO_SA), 5);
    cr_assert_eq(rig.n_missed, 0, "nobody else could know an SA of our own slot");
    cr_assert_eq(rig.n_ike, 0);
    cr_assert_eq(rig.net.leaving.n, 0, "never an answer");

    memset(esp, 0, 4);
    esp[3] = 255;
    push_udp(&rig, 4500, esp, sealed);
    rig_run(&rig);
    cr_assert_eq(drops(&rig, DROP_MALFORMED_OUTER), 1);

    rcu_read_lock();
    sa_find(&rig.dp->sas, SPI)->hot.not_after_ms = now_read().wall_ms - 1;
    rcu_read_unlock();
    arrives(&rig, &r, n, NULL);
    cr_assert_eq(drops(&rig, DROP_SA_EXPIRED), 1);
    n = make_udp(BEHIND_US, BEHIND_ACME, 53, 1000, 21, inner);
    push_inner(&rig, inner, n);
    rig_run(&rig);
    cr_assert_eq(drops(&rig, DROP_NO_TUNNEL_SA), 1, "nor is anything sent on it");
    rig_close(&rig);
}

/* ---- port 4500: keepalive, IKE, ESP ---- */

Test(dataplane_esp, udp_is_told_apart)
{
    struct rig rig;
    uint8_t message[104] = {0};

    rig_open(&rig, NULL);
    push_udp(&rig, 4500, (const uint8_t *)"\xff", 1);
    rig_run(&rig);
    cr_assert_eq(drops(&rig, DROP_KEEPALIVE), 1);

    for (size_t i = 4; i < sizeof message; i++)
        message[i] = (uint8_t)i;
    push_udp(&rig, 4500, message, sizeof message);
    rig_run(&rig);
    cr_assert_eq(rig.n_ike, 1);
    cr_assert_eq(rig.ike_n, 100, "without the marker");
    cr_assert_eq(memcmp(rig.ike_bytes, message + 4, sizeof rig.ike_bytes), 0);
    cr_assert_eq(rig.ike_local.port, 4500);
    cr_assert_eq(rig.ike_peer.port, 4711);

    push_udp(&rig, 500, message, sizeof message);
    rig_run(&rig);
    cr_assert_eq(rig.n_ike, 2);
    cr_assert_eq(rig.ike_n, 104, "port 500 has no marker");
    cr_assert_eq(rig.ike_local.port, 500);
    cr_assert_eq(all_drops(&rig), 1);

    push_udp(&rig, 500, message, 27);
    push_udp(&rig, 500, message, 0);
    push_udp(&rig, 4500, message, 0);
    push_udp(&rig, 4500, message, 31);
    push_udp(&rig, 500, inner, 16385);
    rig_run(&rig);
    cr_assert_eq(rig.n_ike, 2);
    cr_assert_eq(drops(&rig, DROP_MALFORMED_OUTER), 5);
    rig_close(&rig);
}

Test(dataplane_esp, a_full_ike_queue_is_counted)
{
    struct rig rig;

    rig_open(&rig, NULL);
    memset(inner, 1, 16384);
    for (int i = 0; i < 100; i++) {
        push_udp(&rig, 500, inner, 16384);
        while (lane_turn(rig.dp->lanes[0], 0))
            ;
    }
    cr_assert_gt(drops(&rig, DROP_IKE_QUEUE), 0);
    dp_poll(rig.dp);
    cr_assert_eq(rig.n_ike + drops(&rig, DROP_IKE_QUEUE), 100);
    rig_close(&rig);
}

/* ---- suites that must not be ---- */

Test(dataplane_esp, unauthenticated_or_unknown_suites_are_refused)
{
    static const struct suite bad[] = {
        {11, 0, 0, 0, 0},    /* NULL without integrity */
        {12, 128, 0, 0, 0},  /* CBC without integrity */
        {20, 128, 0, 12, 0}, /* an AEAD with integrity beside it */
        {20, 192, 0, 0, 0},  /* a length that we do not speak */
        {12, 0, 0, 12, 0},   /* no length */
        {3, 0, 0, 2, 0},     /* 3DES */
        {12, 128, 0, 1, 0},  /* HMAC-MD5 */
    };
    struct rig rig;

    rig_open(&rig, NULL);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct child_record r = rig_record(&suite_rows[0], SPI, 1);

        r.suite = bad[i];
        cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_UNSUPPORTED, "%zu", i);
    }
    cr_assert_eq(rig.dp->sas.n, 0);
    rig_close(&rig);
}

Test(dataplane_esp, a_record_with_wrong_key_lengths_is_refused)
{
    struct rig rig;

    rig_open(&rig, NULL);
    for (size_t s = 0; s < suite_row_count; s++) {
        struct child_record r = rig_record(&suite_rows[s], SPI, 1);

        if (r.encr_out.n)
            r.encr_out.n--;
        else
            r.integ_out.n = 0;
        cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_INVALID, "%s", suite_rows[s].name);
        r = rig_record(&suite_rows[s], SPI, 1);
        r.integ_in.n ^= 16;
        cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_INVALID, "%s", suite_rows[s].name);
        r = rig_record(&suite_rows[s], SPI, 1);
        r.encr_in.n ^= 16 | 32; /* the length of another suite */
        cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_INVALID, "%s", suite_rows[s].name);
    }
    cr_assert_eq(rig.dp->sas.n, 0);
    rig_close(&rig);
}

/* ---- sizes ---- */

Test(dataplane_esp, the_inner_mtu_is_what_just_fits)
{
    for (size_t s = 0; s < suite_row_count; s++) {
        struct esp_suite suite;
        enum hash_id hash = 0;

        cr_assert_eq(esp_suite_of(&suite_rows[s].suite, &suite, &hash), ERR_OK);
        for (int udp = 0; udp < 2; udp++) {
            uint32_t most = esp_inner_mtu(&suite, udp, 1500);

            for (uint32_t n = most; n <= most + 1; n++) {
                uint32_t text = (n + 2 + suite.align - 1) / suite.align * suite.align;
                uint32_t outer = 20 + (udp ? 8 : 0) + 8 + suite.iv_bytes + text + suite.icv_bytes;

                cr_assert_eq(outer <= 1500, n == most, "%s", suite_rows[s].name);
            }
        }
    }
}

Test(dataplane_esp, a_packet_that_grows_too_large_is_dropped)
{
    struct rig rig;
    size_t n;

    rig_open(&rig, NULL);
    install(&rig, &suite_rows[0]);
    n = make_udp(BEHIND_US, BEHIND_ACME, 1, 2, 65535 - 28, inner);
    push_inner(&rig, inner, n);
    rig_run(&rig);
    cr_assert_eq(drops(&rig, DROP_TOO_BIG), 1);
    cr_assert_eq(rig.net.leaving.n, 0);
    rig_close(&rig);
}

/* ---- the end of an SA ---- */

Test(dataplane_esp, a_deleted_sa_still_opens_what_is_under_way_for_five_seconds)
{
    const struct suite_row *row = &suite_rows[0];
    struct child_record r;
    struct dp_sa_stats stats;
    struct memory_packet p;
    struct rig rig;
    uint64_t now_us;
    size_t n;

    rig_open(&rig, NULL);
    r = install(&rig, row);
    n = make_udp(BEHIND_ACME, BEHIND_US, 1, 2, 100, inner);
    r.state = SA_DELETED;
    cr_assert_eq(dp_sa_apply(rig.dp, &r), ERR_OK);
    now_us = now_read().mono_us;
    cr_assert(!dp_sa_get_stats(rig.dp, SPI, &stats), "it is shown no more");
    check_in(&rig, &r, row, n, false);
    dp_expire(rig.dp, now_us + 4000000);
    check_in(&rig, &r, row, n, false);

    push_inner(&rig, back, make_udp(BEHIND_US, BEHIND_ACME, 2, 1, 100, back));
    rig_run(&rig);
    cr_assert(!pop(&rig, &p), "nothing is sealed on it");
    cr_assert_eq(drops(&rig, DROP_NO_TUNNEL_SA), 1);

    dp_expire(rig.dp, now_us + 6000000);
    push_native(&rig, IP_PROTO_ESP, CUSTOMER, esp, peer_seal(&r, row, inner, n, NULL, esp));
    rig_run(&rig);
    cr_assert_eq(drops(&rig, DROP_NO_SA), 1);
    cr_assert(!pop(&rig, &p));
    rig_close(&rig);
}
