/* The whole room at work: three cores over nng and on disk, two of them on loop threads of this
 * process, the third a process of its own, which is killed and comes back.
 *
 *     node 1: PUT -> fsync, publish -> barrier, 200 times one after the other, then in bulk
 *     node 3: kill -9; node 1 goes on; node 3 again: synced, with all that there is
 *
 * Prints how long things took. The loop here is what node/ does with libuv. */
#include <arpa/inet.h>
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "proto/err.h"
#include "sync/store.h"
#include "sync/sync.h"
#include "sync/transport.h"
#include "tests/conformance/sync/check.h"
#include "tests/unit/sync/samples.h"

enum { NODES = 3, ONE_BY_ONE = 200, BULK = 3000, WAIT_US = 20 * 1000 * 1000 };

struct loop {
    uint16_t slot;
    struct sync_core *core;
    struct store *store;
    struct transport *transport;
    int wake_fd;
    pthread_t thread;
    _Atomic bool stop;
    _Atomic bool synced;
    _Atomic uint32_t epoch;
    _Atomic uint64_t child_sas, barriers, last_barrier_us, timeouts;
    /* put by the main thread, taken by the loop */
    pthread_mutex_t lock;
    struct record *todo[BULK];
    size_t n_todo;
    uint64_t next_barrier;
    bool said_durable;
    uint64_t durable;
};

static char directory[] = "/tmp/anysa-mesh-XXXXXX";
static uint16_t ports[NODES];
static struct loop loops[NODES];

static void on_wake(void *ctx)
{
    const struct loop *l = ctx;
    uint64_t one = 1;

    CHECK(write(l->wake_fd, &one, sizeof one) == sizeof one);
}

/* ---- one loop ---- */

static void give(struct loop *l, const struct sync_event *ev)
{
    struct sync_effects fx = sync_step(l->core, ev, now_read());

    for (size_t i = 0; i < fx.n; i++) {
        const struct sync_effect *e = &fx.fx[i];
        switch (e->kind) {
        case SYNC_FX_JOURNAL:
            CHECK(l->store->ops->submit(l->store, e->batch) == ERR_OK);
            break;
        case SYNC_FX_PUBLISH:
            CHECK(l->transport->ops->publish(l->transport, e->slot, e->bytes) == ERR_OK);
            break;
        case SYNC_FX_REQUEST:
            (void)l->transport->ops->request(l->transport, e->slot, e->request, e->bytes);
            break;
        case SYNC_FX_REPLY:
            (void)l->transport->ops->reply(l->transport, e->request, e->bytes);
            break;
        case SYNC_FX_BARRIER:
            l->last_barrier_us = e->barrier_us;
            l->timeouts += e->timed_out;
            l->barriers++;
            break;
        case SYNC_FX_EPOCH:
            l->epoch = e->epoch;
            break;
        default:
            break;
        }
    }
}

static void deliver(void *ctx, enum transport_kind kind, uint64_t id, struct slice bytes)
{
    static const enum sync_event_kind kinds[] = {
        [TRANSPORT_FRAME] = SYNC_EV_FRAME,
        [TRANSPORT_REQUEST] = SYNC_EV_REQUEST,
        [TRANSPORT_REPLY] = SYNC_EV_REPLY,
    };

    give(ctx,
         &(struct sync_event){.kind = kinds[kind], .bytes = bytes, .request = id, .more = true});
}

static void take_todo(struct loop *l)
{
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < l->n_todo; i++)
        give(l, &(struct sync_event){.kind = SYNC_EV_PUT,
                                     .group = &l->todo[i],
                                     .n_group = 1,
                                     .barrier = ++l->next_barrier,
                                     .more = true});
    l->n_todo = 0;
    pthread_mutex_unlock(&l->lock);
}

static void turn(struct loop *l)
{
    struct pollfd p[2] = {{.fd = l->wake_fd, .events = POLLIN},
                          {.fd = l->transport->fd, .events = POLLIN}};
    struct sync_event journaled = {.kind = SYNC_EV_JOURNALED, .more = true};
    struct sync_member_info info[NODES];
    uint64_t n;

    if (poll(p, 2, 10) > 0 && p[0].revents)
        CHECK(read(l->wake_fd, &n, sizeof n) == sizeof n);
    l->transport->ops->poll(l->transport, deliver, l);
    journaled.ticket = l->store->ops->poll(l->store, &journaled.failed);
    if (journaled.ticket > l->durable)
        give(l, &journaled);
    l->durable = journaled.ticket;
    take_todo(l);
    give(l,
         &(struct sync_event){.kind = SYNC_EV_TICK}); /* without `more`: the turn's output leaves */
    l->synced = sync_is_synced(l->core);
    for (size_t i = sync_members(l->core, info, NODES); i-- > 0;)
        if (info[i].slot == l->slot)
            l->child_sas = info[i].child_sas;
}

static void open_loop(struct loop *l)
{
    struct cluster_key key = sample_cluster_key(1);
    struct transport_peer all[NODES], others[NODES - 1];
    struct sync_config config = {.cluster = "mesh",
                                 .name = "n",
                                 .version = "t",
                                 .slot = l->slot,
                                 .n_members = NODES,
                                 .n_keys = 1,
                                 .dead_ms = 500,
                                 .barrier_timeout_ms = 15000};
    char path[128];
    struct store_options options = {.path = path,
                                    .cluster = "mesh",
                                    .slot = l->slot,
                                    .keys = &key,
                                    .n_keys = 1,
                                    .wake = on_wake,
                                    .wake_ctx = l};
    struct sync_recovery recovery;
    size_t n = 0;

    config.keys[0] = key;
    for (uint16_t i = 0; i < NODES; i++) {
        config.members[i] = (uint16_t)(i + 1);
        all[i] = (struct transport_peer){.slot = (uint16_t)(i + 1), .port = ports[i]};
        strcpy(all[i].host, "127.0.0.1");
        if (all[i].slot != l->slot)
            others[n++] = all[i];
    }
    snprintf(path, sizeof path, "%s/n%u.db", directory, l->slot);
    l->wake_fd = eventfd(0, EFD_NONBLOCK);
    pthread_mutex_init(&l->lock, NULL);
    l->core = sync_new(&config, &rng_system, now_read());
    CHECK(l->core && l->wake_fd >= 0);
    CHECK(store_sqlite_open(&options, &l->store, &recovery) == ERR_OK);
    CHECK(transport_nng_open(&all[l->slot - 1], others, n, on_wake, l, &l->transport) == ERR_OK);
    give(l, &(struct sync_event){.kind = SYNC_EV_RECOVERED, .recovery = &recovery});
    store_recovery_free(&recovery);
}

static void *loop_main(void *arg)
{
    struct loop *l = arg;

    while (!l->stop)
        turn(l);
    l->transport->ops->close(l->transport);
    l->store->ops->close(l->store);
    sync_free(l->core);
    return NULL;
}

static void start(struct loop *l, uint16_t slot)
{
    l->slot = slot;
    open_loop(l);
    CHECK(pthread_create(&l->thread, NULL, loop_main, l) == 0);
}

static void stop(struct loop *l)
{
    l->stop = true;
    on_wake(l);
    CHECK(pthread_join(l->thread, NULL) == 0);
}

/* ---- the story ---- */

#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        uint64_t until_us = now_read().mono_us + WAIT_US;                                          \
        while (!(condition)) {                                                                     \
            CHECK(now_read().mono_us < until_us);                                                  \
            usleep(50);                                                                            \
        }                                                                                          \
    } while (0)

static void add(struct loop *l, struct record *r)
{
    pthread_mutex_lock(&l->lock);
    l->todo[l->n_todo++] = r;
    pthread_mutex_unlock(&l->lock);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void one_by_one(void)
{
    static uint32_t next_spi = 0x400100;
    static uint64_t took_us[ONE_BY_ONE];

    for (uint32_t i = 0; i < ONE_BY_ONE; i++) {
        uint64_t before = loops[0].barriers;
        add(&loops[0], sample_child(next_spi++, i));
        on_wake(&loops[0]);
        WAIT_FOR(loops[0].barriers > before);
        took_us[i] = loops[0].last_barrier_us;
    }
    qsort(took_us, ONE_BY_ONE, sizeof *took_us, by_value);
    printf("barrier: p50 %lu us, p99 %lu us\n", (unsigned long)took_us[ONE_BY_ONE / 2],
           (unsigned long)took_us[ONE_BY_ONE * 99 / 100]);
    CHECK(loops[0].timeouts == 0);
}

static void in_bulk(void)
{
    uint64_t began = now_read().mono_us, before = loops[0].barriers;

    for (uint32_t i = 0; i < BULK; i++)
        add(&loops[0], sample_child(0x500000 + i, 1000 + i));
    on_wake(&loops[0]);
    WAIT_FOR(loops[0].barriers == before + BULK);
    printf("bulk: %d records behind barriers in %lu ms\n", BULK,
           (unsigned long)((now_read().mono_us - began) / 1000));
    CHECK(loops[0].timeouts == 0);
    WAIT_FOR(loops[1].child_sas == ONE_BY_ONE + BULK);
}

/* ---- node 3, in a process of its own ---- */

extern char **environ;
static int child_says; /* its standard output */

static pid_t spawn_child(void)
{
    char port_texts[NODES][8];
    char name[] = "mesh";
    char *argv[] = {name, directory, port_texts[0], port_texts[1], port_texts[2], NULL};
    posix_spawn_file_actions_t actions;
    int pipe_fds[2];
    pid_t pid;

    for (int i = 0; i < NODES; i++)
        snprintf(port_texts[i], sizeof port_texts[i], "%u", ports[i]);
    CHECK(pipe(pipe_fds) == 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], 1);
    CHECK(posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    close(pipe_fds[1]);
    child_says = pipe_fds[0];
    return pid;
}

/* The number of Child SAs with which it says it is synced, and its time from the start. */
static unsigned long wait_child(unsigned long *took_ms)
{
    struct pollfd p = {.fd = child_says, .events = POLLIN};
    unsigned long sas = 0;
    char line[64] = "", *end;

    CHECK(poll(&p, 1, WAIT_US / 1000) == 1);
    CHECK(read(child_says, line, sizeof line - 1) > 0);
    sas = strtoul(line, &end, 10);
    *took_ms = strtoul(end, NULL, 10);
    return sas;
}

static void kill_child(pid_t pid)
{
    int status;

    CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid);
    close(child_says);
}

static int child_main(char **argv)
{
    uint64_t began = now_read().mono_us;
    struct loop *l = &loops[2];
    bool said = false;

    snprintf(directory, sizeof directory, "%s", argv[1]);
    for (int i = 0; i < NODES; i++)
        ports[i] = (uint16_t)strtoul(argv[2 + i], NULL, 10);
    l->slot = 3;
    open_loop(l);
    for (;;) {
        turn(l);
        if (!said && l->synced && l->epoch) {
            printf("%lu %lu\n", (unsigned long)l->child_sas,
                   (unsigned long)((now_read().mono_us - began) / 1000));
            fflush(stdout);
            said = true;
        }
        if (getppid() == 1)
            _exit(1); /* the test is gone */
    }
}

static void pick_ports(void)
{
    uint16_t port = (uint16_t)(21000 + getpid() % 18000);

    for (int i = 0; i < NODES; port = (uint16_t)(port + 2)) {
        bool is_free = true;
        for (uint16_t k = 0; k < 2; k++) {
            struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(port + k))};
            int fd = socket(AF_INET, SOCK_STREAM, 0);
            a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            is_free &= bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
            close(fd);
        }
        if (is_free)
            ports[i++] = port;
    }
}

static void remove_all(void)
{
    DIR *d = opendir(directory);
    struct dirent *e;
    char name[512];

    while ((e = readdir(d)) != NULL) {
        snprintf(name, sizeof name, "%s/%s", directory, e->d_name);
        (void)unlink(name);
    }
    closedir(d);
    (void)rmdir(directory);
}

int main(int argc, char **argv)
{
    unsigned long took_ms, sas;
    pid_t child;

    if (argc == 2 + NODES)
        return child_main(argv);
    CHECK(mkdtemp(directory));
    pick_ports();
    child = spawn_child();
    start(&loops[0], 1);
    start(&loops[1], 2);
    CHECK(wait_child(&took_ms) == 0);
    for (int i = 0; i < 2; i++)
        WAIT_FOR(loops[i].synced && loops[i].epoch >= 1);
    one_by_one();
    in_bulk();

    kill_child(child);
    add(&loops[0], sample_child(0x600000, 9999));
    on_wake(&loops[0]);
    WAIT_FOR(loops[1].child_sas == ONE_BY_ONE + BULK + 1);
    child = spawn_child();
    sas = wait_child(&took_ms);
    printf("killed and back: synced with %lu SAs after %lu ms\n", sas, took_ms);
    CHECK(sas == ONE_BY_ONE + BULK + 1);
    one_by_one(); /* and it is waited for again */
    kill_child(child);
    stop(&loops[0]);
    stop(&loops[1]);
    remove_all();
    printf("passed\n");
    fflush(NULL);
    _exit(0); /* nng's sockets are left to the end of the process */
}
