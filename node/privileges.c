#include "node/privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <uv.h>

#include "dataplane/dataplane.h"
#include "proto/err.h"
#include "proto/log.h"
#include "proto/thread.h"
#include "sync/transport.h"

static const uint64_t while_starting =
    CAPABILITY(CAP_NET_ADMIN) |        /* TUN, addresses and routes */
    CAPABILITY(CAP_NET_RAW) |          /* ESP and GRE sockets */
    CAPABILITY(CAP_NET_BIND_SERVICE) | /* UDP port 500 */
    CAPABILITY(CAP_IPC_LOCK) |         /* key memory */
    CAPABILITY(CAP_DAC_OVERRIDE) |     /* a state directory that lies behind another user's */
    CAPABILITY(CAP_SETPCAP);           /* to give up the rest */
static const uint64_t in_service = CAPABILITY(CAP_NET_ADMIN) | CAPABILITY(CAP_IPC_LOCK);

/* ---- the libraries' threads ---- */

static void no_work(uv_work_t *work)
{
    (void)work;
}

/* libuv starts its pool at the first piece of work, whichever loop it comes from. */
static int start_pool(void)
{
    uv_loop_t loop;
    uv_work_t work;
    int rc = uv_loop_init(&loop);

    if (rc != 0)
        return ERR_NOMEM;
    rc = uv_queue_work(&loop, &work, no_work, NULL);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&loop);
    return rc == 0 ? ERR_OK : ERR_IO;
}

static void *start_libraries(void *result)
{
    int *rc = result;

    thread_begin("anysa-libraries");
    *rc = start_pool();
    if (*rc == ERR_OK)
        *rc = transport_nng_prepare();
    if (*rc == ERR_OK)
        *rc = dp_prepare();
    return NULL;
}

int privileges_begin(void)
{
    pthread_t thread;
    int rc = thread_keep_capabilities(while_starting);

    if (rc != ERR_OK) {
        log_error("node", "capabilities could not be given up: %s", strerror(errno));
        return rc;
    }
    rc = privileges_forbid_calls();
    if (rc == ERR_UNSUPPORTED)
        log_warn("node", "this kernel filters no system calls (seccomp): going on without");
    else if (rc != ERR_OK)
        return rc;
    if (pthread_create(&thread, NULL, start_libraries, &rc) != 0)
        rc = ERR_IO;
    else
        (void)pthread_join(thread, NULL);
    if (rc != ERR_OK)
        log_error("node", "the libraries' threads did not start");
    return rc;
}

static void warn_unreadable(const char *path)
{
    if (access(path, R_OK) != 0)
        log_warn("node",
                 "%s can be read no more now that privileges are given up: a reload will fail; "
                 "see to it that uid %u may read it",
                 path, (unsigned)geteuid());
}

int privileges_end_start(const struct config *config)
{
    if (thread_keep_capabilities(in_service) != ERR_OK || prctl(PR_SET_DUMPABLE, 0) != 0) {
        log_error("node", "capabilities could not be given up: %s", strerror(errno));
        return ERR_IO;
    }
    warn_unreadable(config->tunnels_file);
    warn_unreadable(config->cluster.key_file);
    return ERR_OK;
}
