#include "tests/unit/sync/samples.h"

#include <stdlib.h>
#include <string.h>

#include "proto/err.h"

struct id128 sample_id(uint32_t n)
{
    struct id128 id = {{0x5a, 0x5a}};

    for (int i = 0; i < 4; i++)
        id.b[ID_BYTES - 1 - i] = (uint8_t)(n >> 8 * i);
    return id;
}

static void fill_key(struct secret *s, size_t n)
{
    uint8_t bytes[SECRET_MAX];

    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)SAMPLE_CANARY[i % (sizeof SAMPLE_CANARY - 1)];
    if (secret_set(s, bytes, n) != ERR_OK)
        abort();
}

struct cluster_key sample_cluster_key(uint32_t id)
{
    struct cluster_key k = {.id = id};

    fill_key(&k.key, CLUSTER_KEY_BYTES);
    k.key.b[0] = (uint8_t)id;
    return k;
}

static struct endpoint endpoint_of(const char *text)
{
    struct endpoint e;

    if (!endpoint_parse(text, &e))
        abort();
    return e;
}

struct record *sample_ike(uint64_t spi_r, uint32_t lineage)
{
    struct record *r = record_new(RECORD_IKE);
    struct ike_record *ike = &r->ike;
    struct secret *keys[] = {&ike->sk_d, &ike->sk_ei, &ike->sk_er, &ike->sk_pi, &ike->sk_pr};
    static const size_t sizes[] = {32, 36, 36, 32, 32};

    ike->spi_i = 0x1111111111111111;
    ike->spi_r = spi_r;
    ike->tunnel_id = sample_id(7000);
    ike->lineage = sample_id(lineage);
    ike->term = (struct term){1, 1, sample_id(1)};
    ike->revision = 1;
    ike->state = SA_INSTALLED;
    ike->suite = (struct suite){ENCR_AES_GCM_16, 256, PRF_HMAC_SHA2_256, 0, DH_MODP_2048};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        fill_key(keys[i], sizes[i]);
    ike->next_in = 2;
    ike->local = endpoint_of("192.0.2.1:4500");
    ike->peer = endpoint_of("198.51.100.7:4500");
    ike->nat = NAT_PEER;
    ike->created_ms = SAMPLE_NOW_MS;
    ike->not_after_ms = SAMPLE_NOT_AFTER_MS;
    ike->peer_id_type = 3;
    ike->fragmentation = true;
    if (blob_set(&ike->last_response, "the last response", 17) != ERR_OK ||
        blob_set(&ike->peer_id, "router@example.net", 18) != ERR_OK)
        abort();
    return r;
}

struct record *sample_child(uint32_t spi_in, uint32_t lineage)
{
    struct record *r = record_new(RECORD_CHILD);
    struct child_record *c = &r->child;
    struct ip_prefix any;

    c->spi_in = spi_in;
    c->spi_out = spi_in ^ 0x0f0f0f0f;
    c->tunnel_id = sample_id(7000);
    c->lineage = sample_id(lineage);
    c->ike_spi = 0x2222222222222222;
    c->ike_spi_r = 0x2222222222222222;
    c->suite = (struct suite){ENCR_AES_CBC, 128, 0, INTEG_HMAC_SHA2_256_128, 0};
    fill_key(&c->encr_in, 16);
    fill_key(&c->encr_out, 16);
    fill_key(&c->integ_in, 32);
    fill_key(&c->integ_out, 32);
    c->udp_encap = true;
    c->local = endpoint_of("192.0.2.1:4500");
    c->peer = endpoint_of("198.51.100.7:4500");
    c->ts_local.n = c->ts_remote.n = 1;
    if (!prefix_parse("0.0.0.0/0", &any))
        abort();
    c->ts_local.s[0] = selector_of_prefix(&any);
    if (!prefix_parse("10.1.0.0/16", &any))
        abort();
    c->ts_remote.s[0] = selector_of_prefix(&any);
    c->state = SA_INSTALLED;
    c->origin_slot = 1;
    c->created_ms = SAMPLE_NOW_MS;
    c->not_after_ms = SAMPLE_NOT_AFTER_MS;
    return r;
}

struct record *sample_endpoint(uint32_t spi_in, uint64_t move)
{
    struct record *r = record_new(RECORD_ENDPOINT);

    r->endpoint.spi_in = spi_in;
    r->endpoint.move = move;
    r->endpoint.peer = endpoint_of("[2001:db8::9]:4500");
    return r;
}

struct record *sample_at(struct record *r, uint32_t origin, uint16_t slot, uint64_t seq)
{
    r->origin = sample_id(origin);
    r->origin_slot = slot;
    r->seq = seq;
    return r;
}
