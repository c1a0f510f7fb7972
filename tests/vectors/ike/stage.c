#include "stage.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the engine's surroundings ---- */

enum { REFILLS_MAX = 8 };

static void fill(void *ctx, uint8_t *out, size_t n)
{
    struct stage *s = ctx;
    uint8_t block[HASH_MAX], counted[16];

    for (size_t i = 0; i < n; i++) {
        struct writer w = writer_of(counted, sizeof counted);
        struct slice part = {counted, sizeof counted};

        write_u64(&w, s->seed);
        write_u64(&w, s->drawn++);
        (void)crypto_hash(HASH_SHA256, &part, 1, block);
        out[i] = block[0];
    }
}

static bool next_iv(void *ctx, bool own, uint64_t *iv)
{
    (void)own;
    struct stage *s = ctx;

    *iv = s->next_iv++;
    return true;
}

static bool never_taken(void *ctx, uint32_t spi)
{
    (void)ctx;
    (void)spi;
    return false;
}

/* ---- setting up ---- */

void stage_begin(struct stage *s)
{
    struct ike_config *c = &s->config;

    memset(s, 0, sizeof *s);
    s->seed = 1;
    s->next_iv = iv_make(5, 1, IV_LANE_IKE, 1);
    c->slot = 5;
    c->lifetime_s = 86400;
    c->child_lifetime_s = 28800;
    c->max_children = 100;
    c->cookie_threshold = 64;
    strcpy(c->id_domain, "ipsec.example.net");
    (void)secret_set(&c->spi_key, "0123456789abcdef0123456789abcdef", 32);
    (void)secret_set(&c->cookie_key, "fedcba9876543210fedcba9876543210", 32);
    c->next_iv = next_iv;
    c->next_iv_ctx = s;
    c->esp_spi_taken = never_taken;
    strcpy(s->psk, "only for these traces");
    (void)id128_parse("f5407d8db1a542b196c59f6d04ba8bd1", &s->tunnel.id);
    strcpy(s->tunnel.account_id, "123456789");
    strcpy(s->tunnel.name, "traces");
    (void)ip_parse("192.0.2.1", &s->tunnel.anycast);
    (void)ip_parse("198.51.100.1", &s->tunnel.customer);
    s->tunnel.ipv4_id_allowed = true;
}

static bool add_selectors(struct selector_list *list, const char *text)
{
    char copy[256], *rest = copy, *one;
    struct ip_prefix prefix;

    snprintf(copy, sizeof copy, "%s", text);
    while ((one = strsep(&rest, ",")))
        if (!prefix_parse(one, &prefix) || list->n == SELECTORS_MAX)
            return false;
        else
            list->s[list->n++] = selector_of_prefix(&prefix);
    return true;
}

bool stage_set(struct stage *s, const char *key, const char *value)
{
    struct {
        const char *key;
        uint32_t *at;
    } numbers[] = {{"lifetime_s", &s->config.lifetime_s},
                   {"child_lifetime_s", &s->config.child_lifetime_s},
                   {"dpd_s", &s->config.dpd_s},
                   {"cookie_threshold", &s->config.cookie_threshold}};

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strcmp(key, numbers[i].key) == 0) {
            *numbers[i].at = (uint32_t)strtoul(value, NULL, 10);
            return true;
        }
    if (strcmp(key, "seed") == 0)
        s->seed = strtoull(value, NULL, 10);
    else if (strcmp(key, "psk") == 0)
        snprintf(s->psk, sizeof s->psk, "%s", value);
    else if (strcmp(key, "local_ts") == 0)
        return add_selectors(&s->tunnel.local_ts, value);
    else if (strcmp(key, "remote_ts") == 0)
        return add_selectors(&s->tunnel.remote_ts, value);
    else
        return false;
    return true;
}

bool stage_open(struct stage *s)
{
    struct rng rng = {fill, s};

    if (s->tunnel.local_ts.n == 0)
        (void)add_selectors(&s->tunnel.local_ts, "0.0.0.0/0,::/0");
    if (s->tunnel.remote_ts.n == 0)
        (void)add_selectors(&s->tunnel.remote_ts, "0.0.0.0/0,::/0");
    s->tunnel.psk = (const uint8_t *)s->psk;
    s->tunnel.psk_n = strlen(s->psk);
    s->engine = ike_new(&s->config, &rng);
    return s->engine && ike_set_tunnels(s->engine, &s->tunnel, 1) == ERR_OK;
}

static void forget_wants(struct stage *s)
{
    while (s->n_wants)
        free(s->wants[--s->n_wants]);
}

void stage_close(struct stage *s)
{
    forget_wants(s);
    while (s->n_jobs)
        ike_job_free(s->jobs[--s->n_jobs]);
    ike_free(s->engine);
    s->engine = NULL;
}

/* ---- text ---- */

char *hex_format(struct slice bytes, char *out)
{
    for (size_t i = 0; i < bytes.n; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes.p[i]);
    out[2 * bytes.n] = 0;
    return out;
}

bool hex_parse(const char *text, uint8_t *out, size_t cap, size_t *n)
{
    *n = strlen(text) / 2;
    if (strlen(text) % 2 || *n > cap)
        return false;
    for (size_t i = 0; i < *n; i++) {
        unsigned octet;

        if (sscanf(text + 2 * i, "%2x", &octet) != 1)
            return false;
        out[i] = (uint8_t)octet;
    }
    return true;
}

__attribute__((format(printf, 2, 3))) static void want(struct stage *s, const char *format, ...)
{
    char line[STAGE_LINE];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (s->n_wants < STAGE_WANTS)
        s->wants[s->n_wants++] = strdup(line);
}

static void want_commit(struct stage *s, const struct ike_action *a)
{
    static const char *const states[] = {"absent", "installed", "deleted"};
    char text[1024] = "";

    for (size_t i = 0; i < a->n_records; i++) {
        const struct record *r = a->records[i];
        bool ike = r->kind == RECORD_IKE;
        size_t used = strlen(text);

        snprintf(text + used, sizeof text - used, "%s%s %s%s", i ? ", " : "", ike ? "ike" : "child",
                 states[ike ? r->ike.state : r->child.state],
                 !ike && r->child.confirmed ? " confirmed" : "");
    }
    want(s, "commit %s", text);
}

/* ---- events ---- */

static void step(struct stage *s, const struct ike_event *event, struct now now)
{
    struct ike_actions actions = ike_step(s->engine, event, now);
    char local[ENDPOINT_TEXT], peer[ENDPOINT_TEXT], hex[STAGE_LINE];

    forget_wants(s);
    for (size_t i = 0; i < actions.n; i++) {
        const struct ike_action *a = &actions.a[i];

        switch (a->kind) {
        case IKE_ACT_SEND:
            want(s, "send %s %s %s", endpoint_format(&a->local, local),
                 endpoint_format(&a->peer, peer), hex_format(a->bytes, hex));
            if (s->send)
                s->send(s->send_ctx, &a->local, &a->peer, a->bytes);
            break;
        case IKE_ACT_COMMIT:
            want_commit(s, a);
            for (size_t k = 0; k < a->n_records; k++)
                record_free(a->records[k]);
            if (a->commit && s->n_commits < STAGE_QUEUE)
                s->commits[s->n_commits++] = a->commit;
            break;
        case IKE_ACT_JOB:
            /* The pool gets REFILLS_MAX key pairs, each with a line of its own, and no more: later
             * ones are made when they are needed. */
            if (a->job->kind == JOB_REFILL && s->refills++ >= REFILLS_MAX) {
                ike_job_free(a->job);
                break;
            }
            want(s, "job");
            if (s->n_jobs < STAGE_QUEUE)
                s->jobs[s->n_jobs++] = a->job;
            else
                ike_job_free(a->job);
            break;
        case IKE_ACT_FAILURE:
            want(s, "failure %s", a->reason);
            break;
        case IKE_ACT_ASK: /* the stage's node is alone */
            break;
        }
    }
}

void stage_tick(struct stage *s, struct now now)
{
    struct ike_event event = {.kind = IKE_EV_TICK};

    step(s, &event, now);
}

void stage_in(struct stage *s, struct now now, const struct endpoint *local,
              const struct endpoint *peer, struct slice bytes)
{
    struct ike_event event = {
        .kind = IKE_EV_DATAGRAM, .local = *local, .peer = *peer, .bytes = bytes};

    step(s, &event, now);
}

void stage_job(struct stage *s, struct now now, struct slice made, uint8_t out[DH_PRIVATE_MAX],
               size_t *n)
{
    struct ike_event event = {.kind = IKE_EV_JOB, .job = s->jobs[0]};
    struct ike_job *job = s->jobs[0];
    bool refill = job->kind == JOB_REFILL;
    struct dh_key **fresh = refill ? &job->batch[0] : &job->dh;
    bool makes_key = job->kind != JOB_DERIVE && !job->dh;

    memmove(s->jobs, s->jobs + 1, --s->n_jobs * sizeof *s->jobs);
    *n = 0;
    if (made.n && makes_key)
        *fresh = dh_import(job->group, made);
    else if (refill)
        *fresh = dh_generate(job->group);
    if (made.n && job->kind == JOB_KEYGEN)
        job->rc = job->dh ? ERR_OK : ERR_CRYPTO;
    else if (!refill)
        ike_job_run(job);
    if (makes_key && *fresh && dh_private(*fresh, out, DH_PRIVATE_MAX) == ERR_OK)
        *n = DH_PRIVATE_MAX;
    step(s, &event, now);
}

void stage_commit(struct stage *s, struct now now)
{
    struct ike_event event = {.kind = IKE_EV_COMMITTED, .commit = s->commits[0]};

    memmove(s->commits, s->commits + 1, --s->n_commits * sizeof *s->commits);
    step(s, &event, now);
}
