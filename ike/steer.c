/* What can be known of a datagram before any SA is looked up: its header, and
 * the node that our SPI names. SPI: slot 10 | random 22 | MAC 32 bits. */
#include "ike/internal.h"

static uint32_t spi_mac(const struct secret *key, uint32_t head, uint64_t spi_i)
{
    uint8_t bytes[12], mac[HASH_MAX];
    struct writer w = writer_of(bytes, sizeof bytes);
    struct slice part = {bytes, sizeof bytes};
    struct reader r;

    write_u32(&w, head);
    write_u64(&w, spi_i);
    if (crypto_hmac(HASH_SHA256, secret_slice(key), &part, 1, mac) != ERR_OK)
        return 0;
    r = reader_of(mac, 4);
    return read_u32(&r);
}

uint64_t spi_make(const struct secret *key, uint16_t slot, uint32_t random22, uint64_t spi_i)
{
    uint32_t head = (uint32_t)slot << 22 | (random22 & 0x3fffff);

    return (uint64_t)head << 32 | spi_mac(key, head, spi_i);
}

int ike_spi_slot(const struct secret *spi_key, uint64_t spi_i, uint64_t our_spi)
{
    uint32_t head = (uint32_t)(our_spi >> 32);
    uint32_t mac = spi_mac(spi_key, head, spi_i), got = (uint32_t)our_spi;

    if (!crypto_equal(&mac, &got, sizeof mac))
        return -1;
    return (int)(head >> 22);
}

int ike_peek(struct slice datagram, struct ike_peek *out)
{
    struct message m;
    int rc = message_parse_header(datagram, &m);

    if (rc != ERR_OK)
        return rc;
    if (m.version >> 4 < 2)
        return ERR_INVALID;
    *out = (struct ike_peek){
        .spi_i = m.spi_i,
        .spi_r = m.spi_r,
        .from_initiator = m.flags & IKE_FLAG_INITIATOR,
        .response = m.flags & IKE_FLAG_RESPONSE,
        .exchange = m.exchange,
    };
    out->our_spi = out->from_initiator ? m.spi_r : m.spi_i;
    return ERR_OK;
}

bool ike_fits(const struct record *ike, struct slice datagram)
{
    const struct ike_record *rec = &ike->ike;
    struct message m;
    uint8_t *plain;
    size_t n;
    bool fits;

    if (message_parse(datagram, &m) != ERR_OK || m.n == 0 || m.spi_i != rec->spi_i ||
        m.spi_r != rec->spi_r)
        return false;
    if (m.flags & IKE_FLAG_RESPONSE)
        fits = rec->our_request.n && m.id + 1 == rec->next_out;
    else
        fits = m.id + 1 >= rec->next_in;
    plain = fits ? secret_alloc(datagram.n) : NULL;
    if (!plain)
        return false;
    fits = sk_open(rec, &m, !rec->i_am_initiator, plain, &n) == ERR_OK;
    secret_free(plain, datagram.n);
    return fits;
}
