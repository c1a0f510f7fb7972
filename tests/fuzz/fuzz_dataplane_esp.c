/* Packets from anywhere, and from behind decryption: the first octet of the input
 * says how the rest arrives. Sealed texts are sealed with the right key, so that
 * whatever stands in them reaches the code behind the integrity check.
 *
 * Besides not crashing: every packet is delivered, is IKE or moves one counter;
 * what is delivered inside is a well-formed packet, what leaves can be opened. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The rig is one file; a fuzz target links only itself and the modules. */
#include "tests/unit/dataplane/rig.c"

#include "proto/log.h"

enum { SPI = 0x01400100 };

static struct rig rig;
static struct child_record records[8];
static uint8_t buffer[PACKET_MAX], opened[PACKET_MAX];

static void open_once(void)
{
    if (rig.dp)
        return;
    log_set_level(LOG_LEVEL_ERROR);
    rig_open(&rig, NULL);
    for (uint32_t i = 0; i < 8; i++) {
        records[i] = rig_record(&suite_rows[i], SPI + 2 * i, 1);
        records[i].created_ms = i;
        if (i == 7) { /* the one that is sent on takes ports and protocols into account */
            records[i].ts_remote.s[0].proto = 17;
            records[i].ts_remote.s[1].port_lo = 1;
        }
        must(dp_sa_apply(rig.dp, &records[i]) == ERR_OK, "dp_sa_apply");
    }
    for (uint16_t slot = 0; slot <= SLOT_MAX; slot++)
        dp_set_live(rig.dp, slot, true);
}

static void push_any(uint8_t how, const uint8_t *data, size_t n)
{
    static const uint8_t gre[] = {0x20, 0, 0x08, 0, 0, 0, 0, 7};
    struct memory_packet p = {.via = VIA_IP, .bytes = (uint8_t *)(uintptr_t)data, .n = (uint32_t)n};
    const struct suite_row *row = &suite_rows[how >> 3 & 7];

    switch (how & 7) {
    case 0:
        must(memory_push(&rig.net.arriving, &p), "push");
        break;
    case 1:
        push_udp(&rig, 4500, data, n);
        break;
    case 2:
        push_native(&rig, IP_PROTO_GRE, CUSTOMER, data, n);
        break;
    case 3:
        memcpy(buffer, gre, sizeof gre);
        memcpy(buffer + sizeof gre, data, n);
        if (how & 0x80)
            memcpy(buffer + 2, "\x86\xdd", 2);
        push_native(&rig, IP_PROTO_GRE, CUSTOMER, buffer, n + sizeof gre);
        break;
    case 4:
        push_inner(&rig, data, n);
        break;
    case 5: /* a text with its own padding and trailer */
        n -= n % row->align;
        push_udp(&rig, 4500, buffer, peer_seal_text(&records[how >> 3 & 7], row, data, n, buffer));
        break;
    case 6: /* an inner packet, whatever it is */
        push_native(&rig, IP_PROTO_ESP, CUSTOMER, buffer,
                    peer_seal(&records[how >> 3 & 7], row, data, n, NULL, buffer));
        break;
    default:
        push_udp(&rig, 500, data, n);
    }
}

/* What is held for an SA that never comes is dropped at last. */
static void let_go(void)
{
    struct hold *h = &rig.dp->lanes[0]->hold;

    for (unsigned i = 0; i < h->n; i++)
        h->order[i]->until_us = 0;
    rig_run(&rig);
}

/* `most`: octets of the input; what comes out inside was part of it. */
static void check_left(const struct memory_packet *p, size_t most)
{
    struct inner in;
    struct reader r = reader_of(p->bytes, p->n);
    uint32_t spi;
    size_t which;

    if (p->via == VIA_INNER) {
        must(inner_parse(p->bytes, p->n, &in) && in.total == p->n, "delivered well-formed");
        must(p->n <= most, "nothing of older packets");
        return;
    }
    must(p->via == VIA_IP, "native");
    if (p->protocol == IP_PROTO_GRE) {
        must(p->n <= most + 8, "nothing of older packets");
        return;
    }
    spi = read_u32(&r) - 1;
    which = (spi - SPI) / 2;
    must(which < 8 && p->n < sizeof opened, "one of our SAs");
    must(peer_open(&records[which], &suite_rows[which], p->bytes, p->n, opened, NULL, NULL) != 0,
         "opens");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint64_t pushed;
    struct dp_counters c;
    struct memory_packet p;

    if (size < 1 || size > 8000)
        return 0;
    open_once();
    push_any(data[0], data + 1, size - 1);
    pushed++;
    rig_run(&rig);
    while (pop(&rig, &p)) {
        check_left(&p, size);
        free(p.bytes);
    }
    let_go();
    dp_get_counters(rig.dp, &c);
    must(c.packets_in + c.packets_out + rig.n_ike + all_drops(&rig) == pushed, "accounted for");
    if (rig.dp->lanes[0]->iv.last > UINT32_MAX - 9)
        exit(0);
    return 0;
}
