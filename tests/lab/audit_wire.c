/* Watches what the cluster sends, for hours if need be, and looks for an IV that comes twice under
 * one key. tests/lab/audit_iv.py does that for a capture in a file; this one keeps up with traffic.
 *
 *     lab_audit ANYCAST         in the namespace of a router; SIGTERM ends it
 *
 * The key of a packet is known by its destination and SPI (ESP, native or in UDP port 4500), or by
 * both IKE SPIs (IKE's SK payload, where a retransmission of the same bytes is no repetition).
 * Only suites with AES-GCM may be in use. A line a second says how many ESP packets there were.
 * Exit codes: 0 no repetition, 1 some, or the kernel let packets go unseen, 2 usage. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/cursor.h"
#include "proto/wire_ikev2.h"

enum {
    BLOCK_BYTES = 1 << 20,
    BLOCKS = 64,
    RETIRE_MS = 20,
    PIECE_BITS = 1 << 14, /* counters in one bitmap */
    SHOWN_MAX = 20,
    ESP = 50,
    UDP = 17,
    SK = 46,
    SKF = 53,
};

/* ---- tables ---- */

struct piece { /* of the counters seen under one key, slot, epoch and lane */
    struct piece *next;
    uint32_t to, spi, lane, number; /* lane: the IV's upper half */
    uint64_t bits[PIECE_BITS / 64];
};

struct message { /* of IKE */
    struct message *next;
    uint64_t spi_i, spi_r, iv, digest;
};

struct sender {
    uint32_t lane;
    uint64_t packets;
};

enum { BUCKETS = 1 << 18, SENDERS_MAX = 4096 };

static struct piece *pieces[BUCKETS];
static struct message *messages[BUCKETS];
static struct sender senders[SENDERS_MAX];
static size_t n_senders;
static uint64_t esp_packets, ike_messages, repeated, strange;
static volatile sig_atomic_t over;

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "lab_audit: no memory\n");
        exit(1);
    }
    return p;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

static void tell(const char *what, uint64_t key, uint64_t iv)
{
    if (repeated++ < SHOWN_MAX)
        printf("REPEATED: %s 0x%" PRIx64 " IV slot %u epoch %u lane %u counter %u\n", what, key,
               (unsigned)(iv >> 54), (unsigned)(iv >> 36) & 0x3ffff, (unsigned)(iv >> 32) & 15,
               (unsigned)iv);
}

static void count_sender(uint32_t lane)
{
    static size_t last;

    if (last < n_senders && senders[last].lane == lane) {
        senders[last].packets++;
        return;
    }
    for (last = 0; last < n_senders && senders[last].lane != lane; last++)
        ;
    if (last == n_senders) {
        if (n_senders == SENDERS_MAX) {
            strange++;
            return;
        }
        senders[n_senders++].lane = lane;
    }
    senders[last].packets++;
}

static void on_esp(uint32_t to, struct reader *r)
{
    uint32_t spi = read_u32(r), at;
    uint64_t iv, bit;
    struct piece **slot, *p;

    (void)read_u32(r); /* sequence number */
    iv = read_u64(r);
    if (r->bad) {
        strange++;
        return;
    }
    esp_packets++;
    count_sender((uint32_t)(iv >> 32));
    at = (uint32_t)iv / PIECE_BITS;
    slot = &pieces[mix(mix(mix(to, spi), iv >> 32), at) % BUCKETS];
    for (p = *slot;
         p && (p->to != to || p->spi != spi || p->lane != (uint32_t)(iv >> 32) || p->number != at);
         p = p->next)
        ;
    if (!p) {
        p = must(calloc(1, sizeof *p));
        *p = (struct piece){
            .next = *slot, .to = to, .spi = spi, .lane = (uint32_t)(iv >> 32), .number = at};
        *slot = p;
    }
    bit = UINT64_C(1) << (iv % 64);
    if (p->bits[(uint32_t)iv % PIECE_BITS / 64] & bit)
        tell("ESP SPI", spi, iv);
    p->bits[(uint32_t)iv % PIECE_BITS / 64] |= bit;
}

static void on_ike(struct reader r)
{
    struct message m = {.digest = 1}, **slot, *p;
    struct reader all = r;
    uint8_t first;

    m.spi_i = read_u64(&r);
    m.spi_r = read_u64(&r);
    first = read_u8(&r);
    (void)read_slice(&r, IKE_HEADER_BYTES - 17);
    if (r.bad || (first != SK && first != SKF))
        return; /* in the clear */
    (void)read_slice(&r, first == SK ? 4 : 8);
    m.iv = read_u64(&r);
    if (r.bad)
        return;
    ike_messages++;
    while (all.left >= 8)
        m.digest = mix(m.digest, read_u64(&all));
    slot = &messages[mix(mix(m.spi_i, m.spi_r), m.iv) % BUCKETS];
    for (p = *slot; p; p = p->next)
        if (p->spi_i == m.spi_i && p->spi_r == m.spi_r && p->iv == m.iv) {
            if (p->digest != m.digest)
                tell("IKE SPI", m.spi_r, m.iv);
            return;
        }
    p = must(malloc(sizeof *p));
    *p = m;
    p->next = *slot;
    *slot = p;
}

/* From the IPv4 header on. */
static void on_packet(const uint8_t *bytes, size_t n)
{
    struct reader r = reader_of(bytes, n);
    uint8_t ihl = (uint8_t)((n ? bytes[0] & 15 : 0) * 4), protocol;
    uint16_t fragment, from_port, to_port;
    uint32_t to;

    (void)read_slice(&r, 6);
    fragment = read_u16(&r);
    (void)read_u8(&r);
    protocol = read_u8(&r);
    (void)read_slice(&r, 6);
    to = read_u32(&r);
    (void)read_slice(&r, ihl >= 20 ? ihl - 20u : 0);
    if (r.bad || (fragment & 0x1fff))
        return;
    if (protocol == ESP) {
        on_esp(to, &r);
        return;
    }
    from_port = read_u16(&r);
    to_port = read_u16(&r);
    (void)read_u32(&r);
    if (r.bad || protocol != UDP)
        return;
    if (from_port == 500 || to_port == 500) {
        on_ike(r);
    } else if (r.left > 4) {
        struct reader marker = r;
        if (read_u32(&marker) == 0)
            on_ike(marker);
        else
            on_esp(to, &r);
    }
}

/* ---- capture ---- */

static void on_signal(int number)
{
    (void)number;
    over = 1;
}

static int open_capture(uint32_t anycast, uint8_t **ring)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 12), /* the source */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, anycast, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 128),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog filter = {.len = sizeof code / sizeof *code, .filter = code};
    struct tpacket_req3 request = {.tp_block_size = BLOCK_BYTES,
                                   .tp_block_nr = BLOCKS,
                                   .tp_frame_size = 2048,
                                   .tp_frame_nr = BLOCK_BYTES / 2048 * BLOCKS,
                                   .tp_retire_blk_tov = RETIRE_MS};
    int version = TPACKET_V3, one = 1, fd;

    fd = socket(AF_PACKET, SOCK_DGRAM, 0); /* hears nothing before it is bound */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) != 0)
        return -1;
    *ring = mmap(NULL, (size_t)BLOCK_BYTES * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (*ring == MAP_FAILED)
        return -1;
    {
        struct sockaddr_ll any = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP)};
        if (bind(fd, (struct sockaddr *)&any, sizeof any) != 0)
            return -1;
    }
    return fd;
}

static void take_block(struct tpacket_block_desc *block)
{
    const uint8_t *at = (const uint8_t *)block + block->hdr.bh1.offset_to_first_pkt;

    for (uint32_t i = 0; i < block->hdr.bh1.num_pkts; i++) {
        const struct tpacket3_hdr *h = (const struct tpacket3_hdr *)(const void *)at;
        on_packet(at + h->tp_net, h->tp_snaplen);
        at += h->tp_next_offset;
    }
    __atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
}

static void capture(int fd, uint8_t *ring)
{
    time_t told = 0;

    for (unsigned at = 0;;) {
        struct tpacket_block_desc *block =
            (struct tpacket_block_desc *)(void *)(ring + (size_t)at * BLOCK_BYTES);
        if (__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) {
            take_block(block);
            at = (at + 1) % BLOCKS;
        } else {
            struct pollfd readable = {.fd = fd, .events = POLLIN};
            if (over) /* and nothing is left */
                return;
            (void)poll(&readable, 1, 100);
        }
        if (time(NULL) != told) {
            told = time(NULL);
            printf("%" PRIu64 "\n", esp_packets);
            fflush(stdout);
        }
    }
}

static int by_lane(const void *a, const void *b)
{
    const struct sender *x = a, *y = b;

    return x->lane < y->lane ? -1 : x->lane > y->lane;
}

int main(int argc, char **argv)
{
    struct tpacket_stats_v3 stats = {0};
    socklen_t length = sizeof stats;
    struct in_addr anycast;
    uint8_t *ring;
    int fd;

    if (argc != 2 || inet_pton(AF_INET, argv[1], &anycast) != 1) {
        fprintf(stderr, "usage: lab_audit ANYCAST\n");
        return 2;
    }
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    fd = open_capture(ntohl(anycast.s_addr), &ring);
    if (fd < 0) {
        fprintf(stderr, "lab_audit: %s\n", strerror(errno));
        return 1;
    }
    printf("listening\n");
    capture(fd, ring);
    if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length) != 0)
        stats.tp_drops = 1;
    qsort(senders, n_senders, sizeof *senders, by_lane);
    for (size_t i = 0; i < n_senders; i++)
        printf("slot %u epoch %u lane %u: %" PRIu64 " packets\n", senders[i].lane >> 22,
               senders[i].lane >> 4 & 0x3ffff, senders[i].lane & 15, senders[i].packets);
    printf("%" PRIu64 " ESP packets, %" PRIu64 " encrypted IKE messages, %" PRIu64
           " repeated, %" PRIu64 " not understood, %u unseen\n",
           esp_packets, ike_messages, repeated, strange, stats.tp_drops);
    return repeated || strange || stats.tp_drops || esp_packets == 0;
}
