#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"

const char bench_tunnel_hex[] = "f5407d8db1a542b196c59f6d04ba8bd1";
const char bench_account[] = "123456789";
const char bench_psk[] = "a shared key of the tests";

/* ---- the engine's surroundings ---- */

void bench_fill(void *ctx, uint8_t *out, size_t n)
{
    uint64_t *s = ctx;

    for (size_t i = 0; i < n; i++) { /* xorshift64 */
        *s ^= *s << 13;
        *s ^= *s >> 7;
        *s ^= *s << 17;
        out[i] = (uint8_t)(*s >> 24);
    }
}

static bool next_iv(void *ctx, bool own, uint64_t *iv)
{
    struct bench *b = ctx;

    if (b->no_iv || (b->ungranted && !own))
        return false;
    *iv = b->next_iv++;
    return true;
}

static bool granted(void *ctx)
{
    struct bench *b = ctx;

    return !b->ungranted;
}

static bool never_taken(void *ctx, uint32_t spi)
{
    (void)ctx;
    (void)spi;
    return false;
}

struct selector bench_any(uint8_t family)
{
    struct ip_prefix p = {.ip = {.family = family}};

    return selector_of_prefix(&p);
}

static void drop_records(struct bench *b)
{
    while (b->n_records)
        record_free(b->records[--b->n_records]);
}

void bench_open(struct bench *b)
{
    struct ike_config config = {
        .slot = 5, .lifetime_s = 86400, .child_lifetime_s = 28800, .max_children = 100};
    struct ike_tunnel t = {0};
    struct rng rng;

    memset(b, 0, sizeof *b);
    b->show_wire = getenv("ANYSA_WIRE") != NULL;
    b->rng_state = 88172645463325252ULL;
    b->now = (struct now){1000000, 1700000000000};
    b->next_iv = iv_make(5, 1, IV_LANE_IKE, 1);
    rng = (struct rng){bench_fill, &b->rng_state};
    strcpy(config.id_domain, "ipsec.example.net");
    (void)secret_set(&config.spi_key, "0123456789abcdef0123456789abcdef", 32);
    (void)secret_set(&config.cookie_key, "fedcba9876543210fedcba9876543210", 32);
    config.cookie_threshold = 64;
    config.next_iv = next_iv;
    config.next_iv_ctx = b;
    config.granted = granted;
    config.esp_spi_taken = never_taken;
    b->engine = ike_new(&config, &rng);

    (void)id128_parse(bench_tunnel_hex, &t.id);
    strcpy(t.account_id, bench_account);
    strcpy(t.name, "acme");
    (void)ip_parse("192.0.2.1", &t.anycast);
    (void)ip_parse("198.51.100.1", &t.customer);
    t.ipv4_id_allowed = true;
    t.psk = (const uint8_t *)bench_psk;
    t.psk_n = strlen(bench_psk);
    t.local_ts.s[t.local_ts.n++] = bench_any(4);
    t.local_ts.s[t.local_ts.n++] = bench_any(6);
    t.remote_ts = t.local_ts;
    (void)ike_set_tunnels(b->engine, &t, 1);
}

void bench_close(struct bench *b)
{
    drop_records(b);
    ike_free(b->engine);
}

/* With ANYSA_WIRE in the environment: each message as it passes, "-->" to the engine. */
static void show(const struct bench *b, const char *arrow, struct slice message)
{
    const struct ike_record *keys = b->keys;
    char line[WIRE_TEXT];
    struct message m;

    if (!b->show_wire)
        return;
    if (!keys && message_parse_header(message, &m) == ERR_OK)
        for (const struct ike_sa *sa = b->engine->by_spi; sa; sa = sa->by_spi.next)
            if (sa->rec->ike.spi_i == m.spi_i && sa->rec->ike.spi_r == m.spi_r)
                keys = &sa->rec->ike;
    printf("%s  %s\n", arrow, wire_line(message, keys, line));
}

void bench_answered(struct bench *b, struct slice bytes)
{
    memcpy(b->answer, bytes.p, bytes.n);
    b->answer_n = bytes.n;
    b->answers++;
    if (b->run_over)
        b->run_n = 0;
    b->run_over = false;
    if (b->run_n + bytes.n <= sizeof b->run) {
        memcpy(b->run + b->run_n, bytes.p, bytes.n);
        b->run_n += bytes.n;
    }
}

static void run(struct bench *b, const struct ike_event *event)
{
    struct ike_actions actions = ike_step(b->engine, event, b->now);
    struct ike_job *jobs[64];
    uint64_t commit = 0;
    size_t n_jobs = 0;

    for (size_t i = 0; i < actions.n; i++) {
        const struct ike_action *a = &actions.a[i];

        if (a->kind == IKE_ACT_SEND) {
            bench_answered(b, a->bytes);
            b->answer_local = a->local;
            b->answer_peer = a->peer;
            if (b->answers_in_step++ == 0)
                b->first_answer_peer = a->peer;
            show(b, "<--", a->bytes);
        } else if (a->kind == IKE_ACT_COMMIT) {
            drop_records(b);
            for (size_t k = 0; k < a->n_records; k++)
                b->records[b->n_records++] = a->records[k];
            b->commits++;
            commit = a->commit;
        } else if (a->kind == IKE_ACT_JOB) {
            jobs[n_jobs++] = a->job;
        } else if (a->kind == IKE_ACT_ASK) {
            b->asks++;
            b->asked_children = a->n_children;
            b->asked_us = b->now.mono_us;
        } else if (a->kind == IKE_ACT_FAILURE) {
            b->failures++;
            b->failed_tunnel = a->tunnel;
            strncpy(b->reason, a->reason, sizeof b->reason - 1);
        }
    }
    if (b->hold_jobs) {
        while (n_jobs && b->n_held_jobs < sizeof b->held_jobs / sizeof *b->held_jobs)
            b->held_jobs[b->n_held_jobs++] = jobs[--n_jobs];
    }
    for (size_t i = 0; i < n_jobs; i++) {
        struct ike_event done = {.kind = IKE_EV_JOB, .job = jobs[i]};

        ike_job_run(jobs[i]);
        run(b, &done);
    }
    if (commit && b->hold_commits) {
        b->held_commit = commit;
    } else if (commit) {
        struct ike_event done = {.kind = IKE_EV_COMMITTED, .commit = commit};

        run(b, &done);
    }
}

void bench_commit_held(struct bench *b)
{
    struct ike_event done = {.kind = IKE_EV_COMMITTED, .commit = b->held_commit};

    b->run_over = true;
    run(b, &done);
}

void bench_run_held(struct bench *b)
{
    size_t n = b->n_held_jobs;

    b->hold_jobs = false;
    b->n_held_jobs = 0;
    for (size_t i = 0; i < n; i++) {
        struct ike_event done = {.kind = IKE_EV_JOB, .job = b->held_jobs[i]};

        ike_job_run(b->held_jobs[i]);
        run(b, &done);
    }
}

void bench_datagram(struct bench *b, const struct endpoint *local, const struct endpoint *peer,
                    struct slice bytes)
{
    struct ike_event event = {.kind = IKE_EV_DATAGRAM, .local = *local, .peer = *peer};
    uint8_t *copy;

    b->answer_n = 0;
    b->answers_in_step = 0;
    b->run_over = true;
    if (b->wire) {
        b->wire(b, bytes);
        return;
    }
    /* An exact heap copy, so that a sanitizer sees any read past the end. */
    copy = malloc(bytes.n ? bytes.n : 1);
    if (bytes.n)
        memcpy(copy, bytes.p, bytes.n);
    event.bytes = (struct slice){copy, bytes.n};
    show(b, "-->", bytes);
    b->keys = NULL;
    run(b, &event);
    free(copy);
}

void bench_tick_step(struct bench *b, uint64_t advance_us)
{
    struct ike_event event = {.kind = IKE_EV_TICK};

    b->now.mono_us += advance_us;
    b->now.wall_ms += (int64_t)(advance_us / 1000);
    b->answers_in_step = 0;
    b->run_over = true;
    run(b, &event);
}

void bench_moved(struct bench *b, const struct record *child, const struct endpoint *peer)
{
    struct ike_event event = {.kind = IKE_EV_MOVED, .record = child, .peer = *peer};

    b->answers_in_step = 0;
    b->run_over = true;
    run(b, &event);
}

void bench_told(struct bench *b, const struct record *r)
{
    struct ike_event event = {.kind = IKE_EV_RECORD, .record = r};

    run(b, &event);
}

void bench_others_say(struct bench *b, uint64_t our_spi, uint64_t answered_us, uint64_t heard_us)
{
    struct ike_event event = {.kind = IKE_EV_ACTIVITY,
                              .our_spi = our_spi,
                              .answered_us = answered_us,
                              .heard_us = heard_us};

    run(b, &event);
}

void bench_tick(struct bench *b, uint64_t advance_us)
{
    bench_tick_step(b, advance_us);
    while (ike_tick_again(b->engine))
        bench_tick_step(b, 0);
}

const struct record *bench_record(const struct bench *b, enum record_kind kind, enum sa_state state)
{
    for (size_t i = b->n_records; i-- > 0;) {
        const struct record *r = b->records[i];

        if (r->kind == kind && (kind == RECORD_IKE ? r->ike.state : r->child.state) == state)
            return r;
    }
    return NULL;
}
