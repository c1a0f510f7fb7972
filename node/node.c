/* anysad, as a story.
 *
 * Two cores know the protocols and do no I/O: the IKE engine (ike/) and the
 * replication core (sync/). Around them stand the parts that touch the world: the
 * journal (a SQLite file on a thread of its own), the mesh (nng's threads), the
 * dataplane (packet threads), the HTTP server. This directory is the wiring. All
 * control state lives on one libuv loop; other threads only wake it.
 *
 * Start, in this order, each step needing the one before it: the process is hardened
 * and the crypto library given our memory, so that no key ever lands in a core dump,
 * and the configuration is read (main.c); the state directory is locked; the dataplane
 * comes up and gets tunnels and routes; the journal is opened. Three threads share
 * the reading of it: one checks the file, one reads and opens its records, and the
 * loop's takes them as they come (SYNC_EV_RECOVERING) and installs them. The rest
 * (SYNC_EV_RECOVERED) lets the replication core ask for an epoch to be made durable;
 * then come the IKE engine, the mesh and HTTP. Last, what only the start needed is given up
 * (privileges.h); nothing forks, ever. If a step fails the log says what is missing and the process
 * ends with 1, having announced nothing.
 *
 * A handshake. The dataplane finds an IKE datagram and hands it to steer_ike.c,
 * which looks the SA up by our own SPI: another live node's goes there over the
 * mesh, ours goes to the engine (events.c). The engine asks for a key job (thread
 * pool), then for a COMMIT: the records of the exchange. They become a PUT; the
 * replication core answers with effects, in order: RECORD installs the SA here
 * (records.c), JOURNAL writes it, PUBLISH tells the others, who install it by the
 * same records.c and acknowledge. When the journal and every live member have it,
 * BARRIER comes back as COMMITTED, and only then the engine sends its answer.
 *
 * A packet that comes before its SA. A lane holds it when the slot in its SPI is live,
 * and reports the SPI; on_miss makes it a MISS, the replication core asks that member
 * at once (REQUEST), and the answer's RECORD installs the SA, which sets the packet
 * free. If the SA is nowhere, MISS_OVER drops it.
 *
 * Epochs and IVs. SYNC_FX_EPOCH grants this incarnation a number that no other
 * ever used. The dataplane's lanes take IVs under it, and lane 15 is the IKE
 * engine's: (epoch, counter) from 1 up, the counter starting anew only under a
 * higher epoch.
 *
 * A restart. The journal brings back what was durable, the others what was missed
 * meanwhile. Once that is complete (synced) and an epoch is granted, /readyz turns
 * 200, and takeover.c takes up the IKE SAs that this slot owned, each under the next
 * term and through the barrier.
 *
 * The end. SIGTERM or SIGINT: unready, the others are told and get our IKE SAs, then the
 * dataplane closes (kernel routes and TUN vanish), the journal is flushed, the
 * process leaves by _exit, because nng's sockets may hang when closed. A watchdog
 * ends it after NODE_STOP_LIMIT_S in any case. SIGHUP reloads tunnels and routes;
 * a bad file changes nothing. */
#include "node/node.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/api.h"
#include "node/privileges.h"
#include "proto/err.h"
#include "proto/log.h"
#include "proto/wire_ikev2.h"

/* ---- what the cores and the dataplane ask of us ---- */

/* Epoch 0 is of this process alone as long as none was granted to it. */
static bool next_iv(void *ctx, bool own, uint64_t *iv)
{
    struct node *node = ctx;

    if ((node->epoch == 0 && !own) || node->muted || node->ike_iv_counter >= node->iv_max)
        return false;
    *iv = iv_make(node->config->node.slot, node->epoch, IV_LANE_IKE, ++node->ike_iv_counter);
    return true;
}

static bool is_granted(void *ctx)
{
    const struct node *node = ctx;

    return node->epoch > 0;
}

/* Half of the IVs are used: the next epoch is asked for and taken without a pause. */
static void renew_epoch(struct node *node)
{
    struct sync_event event = {.kind = SYNC_EV_EPOCH};
    uint32_t used = node->dp ? dp_iv_used(node->dp) : 0;

    if (node->ike_iv_counter > used)
        used = node->ike_iv_counter;
    if ((used >= node->iv_max) != node->iv_exhausted) {
        node->iv_exhausted = !node->iv_exhausted;
        if (node->iv_exhausted)
            log_error(
                "node",
                "the IVs of epoch %u are used up and no other epoch is granted: packets towards "
                "customers are dropped until a majority of the other members is back",
                node->epoch);
    }
    if (node->epoch == 0 || used < node->iv_max / 2 || node->epoch_wanted == node->epoch)
        return;
    log_info("node", "half of the IVs of epoch %u are used: asking for the next", node->epoch);
    node->epoch_wanted = node->epoch;
    node_sync(node, &event);
}

void node_stop_at_once(struct node *node)
{
    node->muted = true;
    if (node->dp)
        dp_set_epoch(node->dp, 0);
    uv_stop(&node->loop);
}

static bool esp_spi_taken(void *ctx, uint32_t spi)
{
    struct node *node = ctx;

    return sync_find_child(node->sync, spi) != NULL;
}

uint64_t node_last_inbound_us(void *ctx, uint32_t spi_in)
{
    struct node *node = ctx;
    struct dp_sa_stats stats;

    return node->dp && dp_sa_get_stats(node->dp, spi_in, &stats) ? stats.last_in_us : 0;
}

bool node_has_majority(const struct node *node)
{
    const struct config *config = node->config;
    size_t live = 0;

    for (size_t i = 0; i < config->mesh.n; i++)
        live += sync_member_live(node->sync, config->mesh.members[i].slot);
    return 2 * live > config->mesh.n;
}

/* Minorities are gentle: without a majority of the members live, silence proves nothing. */
static bool may_give_up(void *ctx)
{
    return node_has_majority(ctx);
}

static void on_ike(void *ctx, const struct endpoint *local, const struct endpoint *peer,
                   const uint8_t *bytes, size_t n)
{
    node_on_ike_datagram(ctx, local, peer, (struct slice){bytes, n}, false);
}

static void on_miss(void *ctx, uint32_t spi_in)
{
    struct sync_event event = {.kind = SYNC_EV_MISS, .spi_in = spi_in};
    struct node *node = ctx;

    node->counters.misses++;
    node_sync(node, &event);
}

/* ---- the loop's callbacks ---- */

static void wake(void *async) /* any thread */
{
    uv_async_send(async);
}

static void on_transport_wake(uv_async_t *async)
{
    node_transport_poll(async->data);
}

static void on_frames(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    node_transport_poll(poll->data);
}

static void on_store_wake(uv_async_t *async)
{
    node_store_poll(async->data);
}

static void on_dp_wake(uv_poll_t *poll, int status, int events)
{
    struct node *node = poll->data;

    (void)status;
    (void)events;
    if (node->dp)
        dp_poll(node->dp);
}

static void on_sync_tick(uv_timer_t *timer)
{
    struct node *node = timer->data;
    struct sync_event event = {.kind = SYNC_EV_TICK};

    node_store_poll(node);
    node_sync(node, &event);
    if (node->dp)
        dp_expire(node->dp, now_read().mono_us);
    renew_epoch(node);
    node_keys_tick(node);
    node_purge_tick(node);
    node_update_ready(node);
    node_takeover_tick(node); /* the first one looks at every IKE SA */
}

static void on_ike_tick(uv_timer_t *timer)
{
    struct ike_event event = {.kind = IKE_EV_TICK};
    struct node *node = timer->data;
    int steps = 0;

    if (!sync_is_caught_up(node->sync, now_read()))
        return;
    do
        node_ike(node, &event);
    while (++steps < NODE_IKE_STEPS_PER_TICK && ike_tick_again(node->ike));
    node_activity_tick(node);
}

static void on_before_sleep(uv_prepare_t *prepare)
{
    node_flush(prepare->data);
}

static void on_after_sleep(uv_check_t *check)
{
    node_flush(check->data);
}

static void on_hup(uv_signal_t *handle, int number)
{
    (void)number;
    node_keys_reload(handle->data);
    node_members_reload(handle->data);
    node_reload(handle->data);
}

/* ---- the end ---- */

static void on_watchdog(int number)
{
    static const char text[] = "anysad: the orderly end took too long\n";

    (void)number;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(1);
    _exit(1);
}

/* Whether the others have all that we gave them. */
static bool may_leave(struct node *node)
{
    struct sync_member_info own;

    if (now_read().mono_us - node->stopping_us >= NODE_HAND_OVER_MS * 1000ULL)
        return true;
    if (sync_member(node->sync, node->config->node.slot, &own) && own.lag_records > 0)
        return false;
    return node_takeover_drained(node);
}

static void on_linger_over(uv_timer_t *timer)
{
    struct node *node = timer->data;

    struct sync_event last_words = {.kind = SYNC_EV_DRAIN, .draining = true, .leaving = true};

    if (!node->left && !may_leave(node))
        return; /* again in a moment */
    if (!node->left) {
        node->left = true;
        node_sync(node, &last_words);
        uv_timer_start(timer, on_linger_over, NODE_LAST_WORDS_MS, 0);
        return;
    }
    uv_timer_stop(timer);
    uv_poll_stop(&node->dp_wake);
    dp_close(node->dp);
    node->dp = NULL;
    http_close(node->http);
    node->http = NULL;
    uv_stop(&node->loop);
}

void node_drain(struct node *node, bool draining)
{
    struct sync_event event = {.kind = SYNC_EV_DRAIN, .draining = draining};

    if (node->draining == draining)
        return;
    log_info("node", draining ? "draining: the IKE SAs go to other nodes" : "in service again");
    node->draining = draining;
    node_update_ready(node);
    node_sync(node, &event);
}

static void on_stop(uv_signal_t *handle, int number)
{
    struct node *node = handle->data;
    struct sigaction action = {.sa_handler = on_watchdog};

    if (node->stopping)
        return;
    log_info("node", "%s: leaving", number == SIGTERM ? "SIGTERM" : "SIGINT");
    sigaction(SIGALRM, &action, NULL);
    alarm(NODE_STOP_LIMIT_S);
    node->stopping = true;
    node->stopping_us = now_read().mono_us;
    node_drain(node, true);
    uv_timer_start(&node->linger, on_linger_over, NODE_LINGER_MS, NODE_LINGER_MS);
}

/* ---- the start ---- */

static int open_sync(struct node *node)
{
    const struct config *config = node->config;
    struct sync_config c = {
        .version = ANYSA_VERSION,
        .slot = config->node.slot,
        .n_members = config->mesh.n,
        .n_keys = config->cluster.n_keys,
        .dead_ms = config->mesh.dead_ms,
        .barrier_timeout_ms = config->ike.barrier_timeout_ms,
    };
    struct sync_core *made;

    memcpy(c.cluster, config->cluster.name, sizeof c.cluster);
    memcpy(c.name, config->node.name, sizeof c.name);
    memcpy(c.keys, config->cluster.keys, sizeof c.keys);
    for (size_t i = 0; i < config->mesh.n; i++)
        c.members[i] = config->mesh.members[i].slot;
    made = sync_new(&c, &rng_system, now_read());
    wipe(c.keys, sizeof c.keys);
    if (!made)
        return ERR_NOMEM;
    node->sync = made;
    return ERR_OK;
}

struct recovering {
    struct node *node;
    size_t n_records;
    bool failed;
};

static void take_recovered(void *ctx, struct sync_recovery *part)
{
    struct recovering *r = ctx;
    struct sync_event event = {.kind = SYNC_EV_RECOVERING, .recovery = part};

    if (r->n_records == 0)
        dp_bulk_begin(r->node->dp, part->n_expected / 2); /* the other half are IKE SAs */
    r->n_records += part->n_records;
    node_sync(r->node, &event);
}

/* The journal is damaged and will be set aside: of what it gave nothing may stay. The core made
 * anew has another incarnation, and nobody has heard of either. */
static void forget_recovered(void *ctx)
{
    struct recovering *r = ctx;
    struct sync_core *was = r->node->sync;

    r->n_records = 0;
    node_remove_all(r->node);
    node_contacts_free(r->node);
    if (open_sync(r->node) == ERR_OK)
        sync_free(was);
    else
        r->failed = true;
}

/* The journal, and what it held into the core and into the dataplane. */
static int recover(struct node *node)
{
    const struct config *config = node->config;
    char path[PATH_MAX];
    struct sync_recovery recovery = {0};
    struct sync_event event = {.kind = SYNC_EV_RECOVERED, .recovery = &recovery};
    struct recovering recovering = {.node = node};
    struct store_options options = {
        .path = path,
        .cluster = config->cluster.name,
        .slot = config->node.slot,
        .keys = config->cluster.keys,
        .n_keys = config->cluster.n_keys,
        .wake = wake,
        .wake_ctx = &node->store_wake,
        .take = take_recovered,
        .forget = forget_recovered,
        .read_ctx = &recovering,
    };
    int err;

    if (snprintf(path, sizeof path, "%s/journal.db", config->node.state_dir) >= (int)sizeof path)
        return ERR_INVALID;
    err = store_sqlite_open(&options, &node->store, &recovery);
    if (err != ERR_OK)
        return err;
    log_info("node", "journal: %zu records, highest epoch %u%s", recovering.n_records,
             recovery.epoch, recovery.journal_empty ? " (new)" : "");
    if (!recovering.failed)
        node_sync(node, &event);
    dp_bulk_end(node->dp);
    store_recovery_free(&recovery);
    return recovering.failed ? ERR_NOMEM : ERR_OK;
}

static int open_ike(struct node *node)
{
    const struct config *config = node->config;
    struct ike_config c = {
        .slot = config->node.slot,
        .incarnation = sync_incarnation(node->sync),
        .spi_key = node->keys.known[0].spi,
        .lifetime_s = config->ike.lifetime_s,
        .child_lifetime_s = config->ike.child_lifetime_s,
        .cookie_key = node->keys.known[0].cookie,
        .cookie_also = *keys_cookie_also(&node->keys),
        .cookie_threshold = config->ike.half_open_cookie_threshold,
        .max_children = config->ike.max_children,
        .fragment_size = config->ike.fragment_size - IKE_PACKET_OVERHEAD,
        .dpd_s = config->ike.dpd_s,
        .each_ike = node_contacts_each,
        .each_ike_ctx = node,
        .last_inbound_us = node_last_inbound_us,
        .ask_others = config->mesh.n > 1,
        .may_give_up = may_give_up,
        .liveness_ctx = node,
        .find_endpoint = node_find_endpoint,
        .find_endpoint_ctx = node,
        .next_iv = next_iv,
        .next_iv_ctx = node,
        .granted = is_granted,
        .esp_spi_taken = esp_spi_taken,
        .spi_ctx = node,
    };

    memcpy(c.id_domain, config->cluster.id_domain, sizeof c.id_domain);
    node->ike = ike_new(&c, &rng_system);
    secret_wipe(&c.spi_key);
    secret_wipe(&c.cookie_key);
    secret_wipe(&c.cookie_also);
    return node->ike ? node_tunnels_to_engine(node) : ERR_NOMEM;
}

static int open_dataplane(struct node *node)
{
    const struct config *config = node->config;
    struct dp_callbacks callbacks = {.ctx = node,
                                     .ike = on_ike,
                                     .confirmed = node_on_confirmed,
                                     .miss = on_miss,
                                     .moved = node_on_moved};
    struct dp_config c = {
        .iv_max = node->iv_max,
        .slot = config->node.slot,
        .provider = "auto",
        .lanes = config->dataplane.lanes,
        .n_anycast = config->anycast.n,
    };
    int err = host_check_anycast(config);

    if (err != ERR_OK)
        return err;
    memcpy(c.tun, config->dataplane.tun, sizeof c.tun);
    memcpy(c.source, config->dataplane.source, sizeof c.source);
    memcpy(c.anycast, config->anycast.addresses, sizeof c.anycast);
    err = dp_open(&c, &callbacks, &node->dp);
    if (err != ERR_OK) {
        node->dp = NULL;
        return err;
    }
    if (node->epoch > 0)
        dp_set_epoch(node->dp, node->epoch);
    for (size_t i = 0; i < config->mesh.n; i++)
        dp_set_live(node->dp, config->mesh.members[i].slot,
                    sync_member_live(node->sync, config->mesh.members[i].slot));
    if (uv_poll_init(&node->loop, &node->dp_wake, dp_wake_fd(node->dp)) != 0)
        return ERR_IO;
    node->dp_wake.data = node;
    return uv_poll_start(&node->dp_wake, UV_READABLE, on_dp_wake) == 0 ? ERR_OK : ERR_IO;
}

static int open_mesh(struct node *node)
{
    const struct config *config = node->config;
    struct transport_peer me = node_mesh_peer(config_self(config));
    size_t n;
    struct transport_peer *others = node_mesh_others(node, &n);
    int err;

    if (!others)
        return ERR_NOMEM;
    err = transport_nng_open(&me, others, n, wake, &node->transport_wake, &node->transport);
    free(others);
    if (err != ERR_OK) {
        node->transport = NULL;
        return err;
    }
    if (node->transport->fd < 0)
        return ERR_OK;
    node->frames_wake.data = node;
    if (uv_poll_init(&node->loop, &node->frames_wake, node->transport->fd) != 0 ||
        uv_poll_start(&node->frames_wake, UV_READABLE, on_frames) != 0)
        return ERR_IO;
    return ERR_OK;
}

static int open_http(struct node *node)
{
    const struct config *config = node->config;
    char address[ENDPOINT_TEXT];

    if (!config->http.tls_cert && !ip_is_loopback(&config->http.listen.ip))
        log_warn("http",
                 "%s is no loopback address and there is no TLS: whoever sees the network sees the "
                 "token; set http.tls_cert_file and http.tls_key_file",
                 endpoint_format(&config->http.listen, address));
    node->site = api_site(node);
    return http_open(&node->loop, &node->config->http.listen, &node->site, &node->http);
}

static void watch(struct node *node, uv_signal_t *handle, int number, uv_signal_cb callback)
{
    uv_signal_init(&node->loop, handle);
    handle->data = node;
    uv_signal_start(handle, callback, number);
}

static int open_loop(struct node *node)
{
    if (uv_loop_init(&node->loop) != 0)
        return ERR_NOMEM;
    uv_async_init(&node->loop, &node->transport_wake, on_transport_wake);
    uv_async_init(&node->loop, &node->store_wake, on_store_wake);
    uv_timer_init(&node->loop, &node->sync_tick);
    uv_timer_init(&node->loop, &node->ike_tick);
    uv_timer_init(&node->loop, &node->linger);
    uv_prepare_init(&node->loop, &node->before_sleep);
    uv_check_init(&node->loop, &node->after_sleep);
    uv_prepare_start(&node->before_sleep, on_before_sleep);
    uv_check_start(&node->after_sleep, on_after_sleep);
    node->before_sleep.data = node->after_sleep.data = node;
    node->transport_wake.data = node->store_wake.data = node;
    node->sync_tick.data = node->ike_tick.data = node->linger.data = node;
    signal(SIGPIPE, SIG_IGN);
    watch(node, &node->on_term, SIGTERM, on_stop);
    watch(node, &node->on_int, SIGINT, on_stop);
    watch(node, &node->on_hup, SIGHUP, on_hup);
    return ERR_OK;
}

static int open_state_dir(struct node *node)
{
    node->state_dir_fd = host_take_state_dir(node->config->node.state_dir);
    return node->state_dir_fd >= 0 ? ERR_OK : ERR_IO;
}

/* In this order; see the top of this file. */
static int open_all(struct node *node)
{
    static const struct {
        const char *what;
        int (*open)(struct node *node);
    } steps[] = {
        {"the event loop", open_loop},
        {"the machine's generation", node_generation_open},
        {"the keys", node_keys_open},
        {"the state directory", open_state_dir},
        {"the replication core", open_sync},
        {"the dataplane", open_dataplane},
        {"tunnels and routes", node_apply_tunnels},
        {"the journal", recover},
        {"the IKE engine", open_ike},
        {"the mesh", open_mesh},
        {"the HTTP server", open_http},
    };

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        int err = steps[i].open(node);
        if (err != ERR_OK) {
            log_error("node", "not started: %s did not come up (the line before says why)",
                      steps[i].what);
            return err;
        }
    }
    return ERR_OK;
}

/* What was opened so far; the mesh and the loop are left to the end of the process. */
static void close_all(struct node *node)
{
    http_close(node->http);
    node_generation_close(node);
    if (node->dp)
        dp_close(node->dp);
    node->dp = NULL;
    if (node->store)
        node->store->ops->close(node->store);
    ike_free(node->ike);
    sync_free(node->sync);
    node_activity_free(node);
    node_purge_free(node);
    node_takeover_free(node);
    node_contacts_free(node);
    node_free_tunnels(node);
    keys_wipe(&node->keys);
    secret_wipe(&node->fingerprint_key);
}

static void read_test_hooks(struct node *node)
{
    node->iv_max = UINT32_MAX;
#ifdef ANYSA_TEST_HOOKS
    const char *no_install = getenv("ANYSA_TEST_NO_INSTALL");
    const char *iv_max_text = getenv("ANYSA_TEST_IV_MAX");
    unsigned long iv_max = iv_max_text ? strtoul(iv_max_text, NULL, 10) : 0;

    if (iv_max > 0 && iv_max < UINT32_MAX) {
        node->iv_max = (uint32_t)iv_max;
        log_warn("node", "test hook: an epoch lasts for %u IVs", node->iv_max);
    }

    node->no_install = no_install && strcmp(no_install, "1") == 0;
    if (node->no_install)
        log_warn("node", "test hook: Child SAs are not installed here");
#else
    (void)node;
#endif
}

int node_run(struct config *config)
{
    struct node *node;
    char address[ENDPOINT_TEXT];
    int err;

    node = secret_alloc(sizeof *node);
    if (!node)
        return 1;
    node->config = config;
    node->generation_fd = -1;
    node->started_ms = now_read().wall_ms;
    node->last_pending = &node->first_pending;
    read_test_hooks(node);
    host_warn_sysctls();
    err = privileges_begin();
    if (err == ERR_OK)
        err = open_all(node);
    if (err == ERR_OK)
        err = privileges_end_start(config);
    if (err == ERR_OK) {
        log_info("node", "%s (slot %u of cluster %s) is up; HTTP on %s", config->node.name,
                 config->node.slot, config->cluster.name,
                 endpoint_format(&config->http.listen, address));
        uv_timer_start(&node->sync_tick, on_sync_tick, NODE_SYNC_TICK_MS, NODE_SYNC_TICK_MS);
        uv_timer_start(&node->ike_tick, on_ike_tick, NODE_IKE_TICK_MS, NODE_IKE_TICK_MS);
        uv_run(&node->loop, UV_RUN_DEFAULT);
        log_info("node", "stopped");
    }
    close_all(node);
    return err == ERR_OK && !node->muted ? 0 : 1;
}
