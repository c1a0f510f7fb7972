#include "tests/fuzz/ike_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire_ip.h"
#include "tests/fuzz/fake_crypto.h"

#define TUNNEL_HEX "f5407d8db1a542b196c59f6d04ba8bd1"

const char world_psk[] = "a shared key of the tests";
const char world_id[] = TUNNEL_HEX ".123456789.ipsec.example.net";

_Noreturn void world_broken(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: broken: %s\n", file, line, what);
    abort();
}

/* Half of the time of a small run would go into the allocator's quarantine of 256 MB. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=8:malloc_context_size=6";
}

/* ---- what the engine is given ---- */

static void fill(void *ctx, uint8_t *out, size_t n)
{
    uint64_t *s = ctx;

    for (size_t i = 0; i < n; i++) {
        *s = *s * 6364136223846793005ULL + 1442695040888963407ULL;
        out[i] = (uint8_t)(*s >> 56);
    }
}

static bool next_iv(void *ctx, bool own, uint64_t *iv)
{
    (void)own;
    struct world *w = ctx;

    *iv = w->next_iv++;
    return !w->no_iv;
}

static bool never_taken(void *ctx, uint32_t spi)
{
    (void)ctx;
    (void)spi;
    return false;
}

static void each_ike(void *ctx, const struct id128 *tunnel, uint64_t before_us, ike_visit_fn *f,
                     void *f_ctx)
{
    struct world *w = ctx;
    struct ike_sa *sa, *next;

    HASH_ITER(by_spi, w->engine->by_spi, sa, next)
    {
        if (sa->phase == PHASE_ESTABLISHED && sa->began_us < before_us &&
            id128_equal(&sa->rec->ike.tunnel_id, tunnel))
            f(f_ctx, sa->rec);
    }
}

/* A line of the log is printable and holds no key. */
static void check_log(enum log_level level, const char *area, const char *text)
{
    (void)level;
    (void)area;
    for (const char *p = text; *p; p++)
        REQUIRE((unsigned char)*p >= 0x20 && *p != 0x7f);
    REQUIRE(!strstr(text, world_psk));
}

static void add_range(struct selector_list *list, const char *text, uint8_t proto, uint16_t port_lo,
                      uint16_t port_hi)
{
    struct ip_prefix prefix;

    REQUIRE(prefix_parse(text, &prefix));
    list->s[list->n] = selector_of_prefix(&prefix);
    list->s[list->n].proto = proto;
    list->s[list->n].port_lo = port_lo;
    list->s[list->n++].port_hi = port_hi;
}

static void set_tunnel(struct world *w)
{
    struct ike_tunnel *t = &w->tunnel;

    *t = (struct ike_tunnel){.ipv4_id_allowed = true,
                             .psk = (const uint8_t *)world_psk,
                             .psk_n = strlen(world_psk),
                             .allow_null_cipher = w->options.null_ok};
    (void)id128_parse(TUNNEL_HEX, &t->id);
    strcpy(t->account_id, "123456789");
    strcpy(t->name, "acme");
    (void)ip_parse("192.0.2.1", &t->anycast);
    (void)ip_parse("198.51.100.1", &t->customer);
    if (w->options.narrow) {
        add_range(&t->local_ts, "10.0.0.0/8", 0, 0, 65535);
        add_range(&t->local_ts, "192.168.0.0/16", 17, 500, 4500);
        add_range(&t->remote_ts, "172.16.0.0/12", 6, 0, 65535);
        add_range(&t->remote_ts, "fd00::/8", 0, 0, 65535);
    } else {
        add_range(&t->local_ts, "0.0.0.0/0", 0, 0, 65535);
        add_range(&t->local_ts, "::/0", 0, 0, 65535);
        t->remote_ts = t->local_ts;
    }
}

static void new_engine(struct world *w)
{
    static const uint16_t groups[] = {DH_MODP_2048, DH_MODP_1536};
    struct rng rng = {fill, &w->random};
    struct ike_config config = {
        .slot = WORLD_SLOT,
        .id_domain = "ipsec.example.net",
        .cookie_threshold = w->options.always_cookie ? 0 : 64,
        .lifetime_s = 86400,
        .child_lifetime_s = 28800,
        .max_children = 4,
        .dpd_s = 30,
        .fragment_size = 300,
        .next_iv = next_iv,
        .next_iv_ctx = w,
        .esp_spi_taken = never_taken,
        .each_ike = each_ike,
        .each_ike_ctx = w,
    };

    (void)secret_set(&config.spi_key, "0123456789abcdef0123456789abcdef", 32);
    (void)secret_set(&config.cookie_key, "fedcba9876543210fedcba9876543210", 32);
    w->engine = ike_new(&config, &rng);
    REQUIRE(w->engine && ike_set_tunnels(w->engine, &w->tunnel, 1) == ERR_OK);
    /* Pools of one key pair each; the others are under way for ever. */
    for (size_t i = 0; i < 2; i++) {
        struct key_pool *pool = &w->engine->pools[i];

        pool->keys[pool->n++] = dh_generate(groups[i]);
        pool->under_way = KEY_POOL - 1;
    }
}

void world_open(struct world *w, const struct world_options *options)
{
    fake_crypto_reset();
    log_set_sink(check_log);
    memset(w, 0, offsetof(struct world, last));
    w->last_n = 0;
    w->options = *options;
    w->random = 88172645463325252ULL;
    w->now = (struct now){1000000, 1700000000000};
    w->next_iv = iv_make(WORLD_SLOT, 1, IV_LANE_IKE, 1);
    (void)endpoint_parse("192.0.2.1:4500", &w->local);
    (void)endpoint_parse("198.51.100.1:4500", &w->peer);
    set_tunnel(w);
    new_engine(w);
}

static void drop_jobs(struct world *w)
{
    while (w->n_jobs)
        ike_job_free(w->jobs[--w->n_jobs]);
    w->n_commits = 0;
}

void world_close(struct world *w)
{
    drop_jobs(w);
    ike_free(w->engine);
}

/* ---- what it may say ---- */

static bool has_key(const struct secret *s, size_t n)
{
    return s->n == n;
}

static bool within(const struct selector_list *list, const struct selector_list *bounds)
{
    for (unsigned i = 0; i < list->n; i++) {
        const struct selector *s = &list->s[i];
        struct selector common;
        bool inside = false;

        for (unsigned k = 0; k < bounds->n && !inside; k++)
            inside = selector_intersect(s, &bounds->s[k], &common) && common.proto == s->proto &&
                     common.port_lo == s->port_lo && common.port_hi == s->port_hi &&
                     ip_equal(&common.lo, &s->lo) && ip_equal(&common.hi, &s->hi);
        if (!inside)
            return false;
    }
    return list->n > 0;
}

static void check_child(const struct world *w, const struct child_record *c)
{
    const struct transform *encr =
        transform_find(TRANSFORM_ENCR, c->suite.encr, c->suite.encr_bits);
    const struct transform *integ = transform_find(TRANSFORM_INTEG, c->suite.integ, 0);
    bool dead = c->state == SA_DELETED;
    size_t encr_n, integ_n;

    REQUIRE(dead || c->state == SA_INSTALLED);
    REQUIRE(encr && encr->in_child && (!encr->needs_opt_in || w->options.null_ok));
    REQUIRE(encr->aead ? c->suite.integ == INTEG_NONE : integ && integ->in_child);
    encr_n = dead ? 0U : (size_t)encr->key_bytes + encr->salt_bytes;
    integ_n = dead || encr->aead ? 0 : integ->key_bytes;
    REQUIRE(has_key(&c->encr_in, encr_n) && has_key(&c->encr_out, encr_n));
    REQUIRE(has_key(&c->integ_in, integ_n) && has_key(&c->integ_out, integ_n));
    REQUIRE(esp_spi_slot(c->spi_in) == WORLD_SLOT && c->spi_out >= ESP_SPI_MIN);
    REQUIRE(within(&c->ts_local, &w->tunnel.local_ts) &&
            within(&c->ts_remote, &w->tunnel.remote_ts));
    REQUIRE(c->not_after_ms > c->created_ms);
}

static void check_ike(const struct ike_record *r)
{
    const struct transform *encr =
        transform_find(TRANSFORM_ENCR, r->suite.encr, r->suite.encr_bits);
    const struct transform *prf = transform_find(TRANSFORM_PRF, r->suite.prf, 0);
    const struct transform *integ = transform_find(TRANSFORM_INTEG, r->suite.integ, 0);
    bool dead = r->state == SA_DELETED;
    size_t encr_n, prf_n, integ_n;

    REQUIRE(dead || r->state == SA_INSTALLED);
    REQUIRE(encr && encr->in_ike && prf && prf->in_ike);
    REQUIRE(encr->aead ? r->suite.integ == INTEG_NONE : integ && integ->in_ike);
    encr_n = dead ? 0U : (size_t)encr->key_bytes + encr->salt_bytes;
    integ_n = dead || encr->aead ? 0 : integ->key_bytes;
    prf_n = dead ? 0 : hash_len(prf->hash);
    REQUIRE(has_key(&r->sk_d, prf_n) && has_key(&r->sk_pi, prf_n) && has_key(&r->sk_pr, prf_n));
    REQUIRE(has_key(&r->sk_ei, encr_n) && has_key(&r->sk_er, encr_n));
    REQUIRE(has_key(&r->sk_ai, integ_n) && has_key(&r->sk_ar, integ_n));
    REQUIRE(!dead || (!r->last_response.n && !r->our_request.n && !r->our_request_state.n));
    REQUIRE((r->our_request.n == 0) == (r->our_request_state.n == 0));
    REQUIRE(r->spi_i && r->spi_r);
}

/* What we send is what our own parser and the keys of its SA can read; fragments come in order. */
static void check_protected(const struct world *w, const struct message *m)
{
    static uint8_t plain[IKE_MESSAGE_MAX];
    static size_t at;
    static uint8_t first;
    const struct payload *sk = &m->payloads[m->n - 1];
    struct ike_sa *sa = ike_sa_find(w->engine, m->flags & IKE_FLAG_INITIATOR ? m->spi_i : m->spi_r);
    struct reader r = reader_of(sk->body.p, sk->body.n);
    uint16_t number = 1, total = 1;
    struct message inner = {.raw = m->raw};
    size_t n;

    REQUIRE(m->n == 1 && m->exchange != IKE_SA_INIT);
    if (!sa)
        return;
    if (sk->type == PAYLOAD_SKF) {
        number = read_u16(&r);
        total = read_u16(&r);
        REQUIRE(sa->rec->ike.fragmentation && number >= 1 && number <= total && total >= 2);
        REQUIRE(m->raw.n <= w->engine->config.fragment_size);
    }
    if (number == 1) {
        at = 0;
        first = sk->next;
    }
    REQUIRE(at + m->raw.n <= sizeof plain);
    REQUIRE(sk_open(&sa->rec->ike, m, sa->rec->ike.i_am_initiator, plain + at, &n) == ERR_OK);
    at += n;
    if (number == total)
        REQUIRE(message_parse_chain(&inner, first, (struct slice){plain, at}) == ERR_OK);
}

static void check_sent(struct world *w, struct slice bytes)
{
    struct message m;

    REQUIRE(bytes.n <= sizeof w->last);
    REQUIRE(message_parse(bytes, &m) == ERR_OK && m.version == IKE_VERSION_2);
    memcpy(w->last, bytes.p, bytes.n);
    w->last_n = bytes.n;
    w->sent_bytes += bytes.n;
    if (message_find(&m, PAYLOAD_SK) || message_find(&m, PAYLOAD_SKF))
        check_protected(w, &m);
    else
        REQUIRE(m.flags & IKE_FLAG_RESPONSE);
}

static void take_records(struct world *w, const struct ike_action *a)
{
    REQUIRE(a->n_records > 0);
    for (size_t i = 0; i < a->n_records; i++) {
        if (a->records[i]->kind == RECORD_CHILD)
            check_child(w, &a->records[i]->child);
        else if (a->records[i]->kind == RECORD_ENDPOINT)
            REQUIRE(a->records[i]->endpoint.move > 0 && a->records[i]->endpoint.peer.port > 0);
        else
            check_ike(&a->records[i]->ike);
        record_free(a->records[i]);
    }
}

/* ---- the node ---- */

static void step(struct world *w, const struct ike_event *event);

static void finish_job(struct world *w, struct ike_job *job)
{
    struct ike_event done = {.kind = IKE_EV_JOB, .job = job};

    ike_job_run(job);
    if (w->fail_jobs)
        job->rc = ERR_CRYPTO;
    step(w, &done);
}

static void finish_commit(struct world *w, uint64_t commit)
{
    struct ike_event done = {.kind = IKE_EV_COMMITTED, .commit = commit};

    step(w, &done);
}

static bool holds_answer(const struct world *w, uint64_t commit)
{
    struct ike_sa *sa;

    HASH_FIND(by_commit, w->engine->by_commit, &commit, sizeof commit, sa);
    return sa && sa->after == AFTER_ANSWER;
}

static void step(struct world *w, const struct ike_event *event)
{
    struct ike_actions actions = ike_step(w->engine, event, w->now);
    struct ike_job *jobs[2 * KEY_POOL + 2];
    size_t n_jobs = 0, n_sent = 0, n_commits = 0;
    uint64_t commit = 0;

    for (size_t i = 0; i < actions.n; i++) {
        const struct ike_action *a = &actions.a[i];

        switch (a->kind) {
        case IKE_ACT_SEND:
            check_sent(w, a->bytes);
            n_sent++;
            break;
        case IKE_ACT_COMMIT:
            take_records(w, a);
            commit = a->commit;
            n_commits++;
            break;
        case IKE_ACT_JOB:
            REQUIRE(n_jobs < sizeof jobs / sizeof *jobs);
            jobs[n_jobs++] = a->job;
            break;
        case IKE_ACT_FAILURE:
            REQUIRE(a->reason && strlen(a->reason) < IKE_TEXT_MAX);
            break;
        case IKE_ACT_ASK:
            REQUIRE(a->n_children > 0);
            break;
        }
    }
    REQUIRE(n_commits <= 1);
    /* The answer to a request that changes an SA waits for the barrier. (A request of ours that
     * begins in the same step has a commit of its own.) */
    REQUIRE(event->kind != IKE_EV_DATAGRAM || !holds_answer(w, commit) || !n_sent);
    for (size_t i = 0; i < n_jobs; i++) {
        if (w->hold_jobs && w->n_jobs < WORLD_HELD_MAX)
            w->jobs[w->n_jobs++] = jobs[i];
        else
            finish_job(w, jobs[i]);
    }
    if (commit && w->hold_commits && w->n_commits < WORLD_HELD_MAX)
        w->commits[w->n_commits++] = commit;
    else if (commit)
        finish_commit(w, commit);
}

void world_datagram(struct world *w, struct slice bytes)
{
    /* An exact heap copy, so that the sanitizer sees any read past the end. */
    uint8_t *copy = malloc(bytes.n ? bytes.n : 1);
    struct ike_event event = {.kind = IKE_EV_DATAGRAM, .local = w->local, .peer = w->peer};

    if (bytes.n)
        memcpy(copy, bytes.p, bytes.n);
    event.bytes = (struct slice){copy, bytes.n};
    step(w, &event);
    free(copy);
}

void world_tick(struct world *w, uint64_t advance_us)
{
    struct ike_event event = {.kind = IKE_EV_TICK};

    w->now.mono_us += advance_us;
    w->now.wall_ms += (int64_t)(advance_us / 1000);
    do
        step(w, &event);
    while (ike_tick_again(w->engine));
}

void world_record(struct world *w, const struct record *r)
{
    struct ike_event event = {.kind = IKE_EV_RECORD, .record = r};

    step(w, &event);
}

void world_release(struct world *w)
{
    bool hold_jobs = w->hold_jobs, hold_commits = w->hold_commits;

    w->hold_jobs = w->hold_commits = false;
    while (w->n_jobs)
        finish_job(w, w->jobs[--w->n_jobs]);
    while (w->n_commits)
        finish_commit(w, w->commits[--w->n_commits]);
    w->hold_jobs = hold_jobs;
    w->hold_commits = hold_commits;
}

struct ike_sa *world_sa(const struct world *w, bool oldest)
{
    struct ike_sa *sa = w->engine->by_spi, *last = sa;

    /* The table keeps the order of entry. */
    for (; !oldest && last; last = last->by_spi.next)
        sa = last;
    return sa;
}

/* ---- SAs that are there from the beginning ---- */

struct suite world_ike_suite(const struct world_options *o)
{
    return (struct suite){
        .encr = o->cbc ? ENCR_AES_CBC : ENCR_AES_GCM_16,
        .encr_bits = 256,
        .prf = o->big_prf ? PRF_HMAC_SHA2_512 : PRF_HMAC_SHA2_256,
        .integ = o->cbc ? INTEG_HMAC_SHA2_256_128 : INTEG_NONE,
        .dh = o->big_prf ? DH_MODP_1536 : DH_MODP_2048,
    };
}

static struct record *preset_child(const struct world *w, const struct ike_record *ike, unsigned i)
{
    struct record *r = record_new(RECORD_CHILD);
    struct child_record *c = &r->child;
    struct slice nonce = {(const uint8_t *)"0123456789abcdef", 16};

    c->suite = i % 2
                   ? (struct suite){.encr = ENCR_AES_CBC,
                                    .encr_bits = 256,
                                    .integ = INTEG_HMAC_SHA2_256_128}
                   : (struct suite){.encr = ENCR_AES_GCM_16, .encr_bits = 128, .dh = DH_MODP_2048};
    REQUIRE(keys_derive_child(ike, nonce, nonce, (struct slice){0}, true, c) == ERR_OK);
    c->spi_in = (uint32_t)WORLD_SLOT << 22 | (0x1000 + i);
    c->spi_out = WORLD_CHILD_SPI + i;
    c->tunnel_id = ike->tunnel_id;
    c->lineage = ike->lineage;
    c->ike_spi = ike_record_spi(ike);
    c->ike_spi_r = ike->spi_r;
    c->ts_local = w->tunnel.local_ts;
    c->ts_remote = w->tunnel.remote_ts;
    c->state = SA_INSTALLED;
    c->confirmed = i % 2;
    c->origin_slot = WORLD_SLOT;
    c->created_ms = w->now.wall_ms;
    c->not_after_ms = w->now.wall_ms + 28800 * 1000LL;
    return r;
}

void world_preset(struct world *w)
{
    struct record *ike = record_new(RECORD_IKE), *children[4];
    struct ike_record *r = &ike->ike;
    struct slice nonce = {(const uint8_t *)"0123456789abcdef", 16};
    uint64_t ours = spi_make(&w->engine->config.spi_key, WORLD_SLOT, 1, WORLD_SPI_I);
    unsigned n = w->options.children < 4 ? w->options.children : 4;

    r->i_am_initiator = w->options.initiator;
    r->spi_i = r->i_am_initiator ? ours : WORLD_SPI_I;
    r->spi_r = r->i_am_initiator ? WORLD_SPI_I : ours;
    r->suite = world_ike_suite(&w->options);
    REQUIRE(keys_derive_ike(r, NULL, nonce, nonce, nonce) == ERR_OK);
    r->tunnel_id = w->tunnel.id;
    memset(r->lineage.b, 7, sizeof r->lineage.b);
    r->term = (struct term){1, WORLD_SLOT, {{0}}};
    r->state = SA_INSTALLED;
    r->fragmentation = w->options.fragments;
    r->next_in = 2;
    r->local = w->local;
    r->peer = w->peer;
    r->created_ms = w->now.wall_ms;
    r->not_after_ms = w->now.wall_ms + 86400 * 1000LL;
    r->peer_id_type = ID_FQDN;
    (void)blob_set(&r->peer_id, world_id, strlen(world_id));
    for (unsigned i = 0; i < n; i++)
        children[i] = preset_child(w, r, i);
    REQUIRE(ike_restore(w->engine, ike, (const struct record *const *)children, n, false, w->now) ==
            ERR_OK);
    while (n)
        record_free(children[--n]);
    record_free(ike);
}

void world_restart(struct world *w)
{
    struct ike_engine *old = w->engine;
    struct ike_sa *sa, *next;

    drop_jobs(w);
    new_engine(w);
    HASH_ITER(by_spi, old->by_spi, sa, next)
    {
        if (sa->phase == PHASE_ESTABLISHED)
            REQUIRE(ike_restore(w->engine, sa->rec, (const struct record *const *)sa->children,
                                sa->n_children, sa->rekeyed, w->now) == ERR_OK);
    }
    ike_free(old);
}

/* ---- messages ---- */

void world_chain(struct chain *c, struct slice input, bool built)
{
    struct reader r = reader_of(input.p, input.n);

    if (!built) {
        c->first = read_u8(&r);
        c->any = true;
        write_bytes(&c->w, r.p, r.left);
        return;
    }
    while (r.left >= 3) {
        uint8_t type = read_u8(&r);
        uint16_t length = read_u16(&r);
        size_t n = length & 0x7ff;
        struct slice body = read_slice(&r, n < r.left ? n : r.left);

        chain_open(c, type);
        if (length & 0x8000)
            write_u8_at(&c->w, c->last_at + 1, 0x80);
        write_bytes(&c->w, body.p, body.n);
        chain_close(c);
    }
}

static void write_transform(struct writer *w, bool last, uint8_t type, uint16_t id, uint16_t bits)
{
    write_u8(w, last ? 0 : TRANSFORM_MORE);
    write_u8(w, 0);
    write_u16(w, bits ? 12 : 8);
    write_u8(w, type);
    write_u8(w, 0);
    write_u16(w, id);
    if (bits) {
        write_u16(w, 0x8000 | TRANSFORM_ATTR_KEY_LENGTH);
        write_u16(w, bits);
    }
}

void world_write_offer(struct chain *c, const struct suite *s, uint8_t protocol, uint64_t spi)
{
    bool ike = protocol == PROTOCOL_IKE;
    uint8_t n = (uint8_t)(1 + (s->prf != 0) + (s->integ != 0) + (s->dh != 0) + !ike);
    size_t at;

    chain_open(c, PAYLOAD_SA);
    at = c->w.n;
    write_u32(&c->w, 0);
    write_u8(&c->w, 1);
    write_u8(&c->w, protocol);
    write_u8(&c->w, ike ? (spi ? 8 : 0) : 4);
    write_u8(&c->w, n);
    if (!ike)
        write_u32(&c->w, (uint32_t)spi);
    else if (spi)
        write_u64(&c->w, spi);
    write_transform(&c->w, --n == 0, TRANSFORM_ENCR, s->encr, s->encr_bits);
    if (s->prf)
        write_transform(&c->w, --n == 0, TRANSFORM_PRF, s->prf, 0);
    if (s->integ)
        write_transform(&c->w, --n == 0, TRANSFORM_INTEG, s->integ, 0);
    if (s->dh)
        write_transform(&c->w, --n == 0, TRANSFORM_DH, s->dh, 0);
    if (!ike)
        write_transform(&c->w, true, TRANSFORM_ESN, ESN_NO, 0);
    write_u16_at(&c->w, at + 2, (uint16_t)(c->w.n - at));
    chain_close(c);
}

size_t world_init_request(const struct world_options *o, uint8_t *out, size_t n)
{
    struct suite suite = world_ike_suite(o);
    uint8_t payloads[1024], zeros[20] = {0};
    struct writer message = writer_of(out, n);
    struct chain c;

    chain_begin(&c, payloads, sizeof payloads);
    world_write_offer(&c, &suite, PROTOCOL_IKE, 0);
    chain_open(&c, PAYLOAD_KE);
    write_u16(&c.w, suite.dh);
    write_u16(&c.w, 0);
    for (size_t i = 0; i < dh_public_len(suite.dh); i++)
        write_u8(&c.w, 0x42);
    chain_open(&c, PAYLOAD_NONCE);
    write_bytes(&c.w, "0123456789abcdef", 16);
    chain_close(&c);
    chain_notify(&c, 0, (struct slice){0}, N_NAT_DETECTION_SOURCE_IP, (struct slice){zeros, 20});
    chain_notify(&c, 0, (struct slice){0}, N_NAT_DETECTION_DESTINATION_IP,
                 (struct slice){zeros, 20});
    if (o->fragments)
        chain_error(&c, N_FRAGMENTATION_SUPPORTED);
    message_header(&message, WORLD_SPI_I, 0, c.first, IKE_SA_INIT, IKE_FLAG_INITIATOR, 0);
    write_bytes(&message, c.w.p, c.w.n);
    message_finish(&message);
    return message.n;
}
