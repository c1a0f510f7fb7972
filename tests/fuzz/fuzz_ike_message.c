/* Unprotected bytes into the whole engine, as anyone on the Internet may send them: IKE_SA_INIT
 * with cookies and NAT detection, other versions, protected messages without the keys. The input
 * is described in ike_input.h. Beyond what ike_world.c checks: nobody gets much more than he
 * sends, and an established IKE SA is not moved by what does not know its keys. */
#include <string.h>

#include "tests/fuzz/ike_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct datagram {
    uint8_t bytes[2 * OP_BODY_MAX];
    size_t n;
};

/* The hashes that say "no NAT", into the N(NAT_DETECTION) payloads of that length. */
static void fill_natd(const struct world *w, struct datagram *d)
{
    struct message m;

    if (message_parse((struct slice){d->bytes, d->n}, &m) != ERR_OK)
        return;
    for (size_t i = 0; i < m.n; i++) {
        struct notify n;

        if (m.payloads[i].type == PAYLOAD_NOTIFY && notify_parse(m.payloads[i].body, &n) &&
            n.data.n == 20 &&
            (n.type == N_NAT_DETECTION_SOURCE_IP || n.type == N_NAT_DETECTION_DESTINATION_IP))
            (void)natd_hash(m.spi_i, 0, n.type == N_NAT_DETECTION_SOURCE_IP ? &w->peer : &w->local,
                            d->bytes + (n.data.p - d->bytes));
    }
}

/* N(COOKIE) as the engine asked for it (RFC 7296 §2.6). */
static void add_cookie(const struct world *w, struct chain *c)
{
    struct message m;
    struct notify n;

    if (w->last_n && message_parse((struct slice){w->last, w->last_n}, &m) == ERR_OK &&
        message_find_notify(&m, N_COOKIE, &n))
        chain_notify(c, 0, (struct slice){0}, N_COOKIE, n.data);
}

static void build(const struct world *w, const struct op *op, struct datagram *d)
{
    struct reader r = reader_of(op->body.p, op->body.n);
    uint8_t version = read_u8(&r), exchange = read_u8(&r), flags = read_u8(&r), id = read_u8(&r);
    struct writer out = writer_of(d->bytes, sizeof d->bytes);
    static uint8_t payloads[2 * OP_BODY_MAX];
    struct chain c;

    chain_begin(&c, payloads, sizeof payloads);
    if (op->arg & MSG_COOKIE)
        add_cookie(w, &c);
    world_chain(&c, (struct slice){r.p, r.left}, true);
    message_header(&out, op->arg & MSG_SPI_I ? WORLD_SPI_I + 1 : WORLD_SPI_I, 0, c.first, exchange,
                   flags, id);
    write_bytes(&out, c.w.p, c.w.n);
    message_finish(&out);
    d->n = out.bad ? 0 : out.n;
    if (d->n)
        d->bytes[2 * IKE_SPI_BYTES + 1] = version;
}

static void write_spis(const struct world *w, struct datagram *d)
{
    const struct ike_sa *sa = world_sa(w, false);
    struct writer out = writer_of(d->bytes, sizeof d->bytes);

    if (!sa || d->n < 2 * IKE_SPI_BYTES)
        return;
    write_u64(&out, sa->rec->ike.spi_i);
    write_u64(&out, sa->rec->ike.spi_r);
}

/* Sends it and weighs what comes back, now or when the key pair is there. A whole IKE_SA_INIT
 * answer may be a little longer than its request: nonce and NAT hashes are ours to choose. */
static void send_and_weigh(struct world *w, const struct datagram *d)
{
    struct slice bytes = {d->bytes, d->n};
    struct ike_peek peek;

    w->sent_bytes = 0;
    world_datagram(w, bytes);
    REQUIRE(w->sent_bytes <= d->n + d->n / 2);
    /* The node reads the header first: what it drops, the engine does not answer either. */
    if (ike_peek(bytes, &peek) != ERR_OK)
        REQUIRE(w->sent_bytes == 0);
    else if (ike_owns(w->engine, peek.our_spi))
        REQUIRE(ike_spi_slot(&w->engine->config.spi_key, WORLD_SPI_I, peek.our_spi) == WORLD_SLOT ||
                peek.spi_i != WORLD_SPI_I);
}

static void one_message(struct world *w, const struct op *op, struct datagram *d)
{
    if (op->kind & MSG_BUILT) {
        build(w, op, d);
    } else {
        memcpy(d->bytes, op->body.p ? op->body.p : d->bytes, op->body.n);
        d->n = op->body.n;
    }
    if (op->kind & MSG_KNOWN_SA)
        write_spis(w, d);
    if (op->arg & MSG_LENGTH && d->n >= IKE_HEADER_BYTES) {
        struct writer out = {.p = d->bytes, .n = d->n, .cap = d->n};

        write_u32_at(&out, IKE_HEADER_BYTES - 4, (uint32_t)d->n);
    }
    w->peer.ip.b[2] = op->kind & MSG_OTHER_SOURCE ? 7 : 100;
    if (op->arg & MSG_NATD)
        fill_natd(w, d);
    w->no_iv = op->arg & MSG_NO_IV;
    w->hold_jobs = op->kind & MSG_HOLD_JOBS;
    send_and_weigh(w, d);
    if (op->arg & MSG_AGAIN)
        send_and_weigh(w, d);
    if (op->kind & MSG_TICK)
        world_tick(w, 31000000);
    w->no_iv = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct world w;
    static struct datagram d;
    struct reader r = reader_of(data, n);
    struct ike_sa *preset;
    struct world_options options;
    struct ike_record before;
    struct op op;
    uint8_t octet;

    if (n < 5)
        return 0;
    octet = read_u8(&r);
    options = world_options_of(octet);
    options.always_cookie = octet & WORLD_HALF_OPEN;
    log_set_level(octet & WORLD_LOG ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR + 1);
    world_open(&w, &options);
    w.engine->config.dpd_s = 0; /* the engine itself has nothing to say */
    world_preset(&w);
    preset = world_sa(&w, true);
    before = preset->rec->ike;
    for (unsigned i = 0; i < OPS_MAX && op_read(&r, &op); i++) {
        one_message(&w, &op, &d);
        w.sent_bytes = 0;
        if (!(op.kind & MSG_HOLD_JOBS))
            world_release(&w);
        REQUIRE(world_sa(&w, true) == preset);
    }
    REQUIRE(preset->phase == PHASE_ESTABLISHED && preset->n_children == w.options.children);
    REQUIRE(memcmp(&preset->rec->ike, &before, sizeof before) == 0);
    world_close(&w);
    return 0;
}
