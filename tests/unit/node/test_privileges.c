/* What a process may still do once system calls are forbidden. Each test is a process of its own.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node/privileges.h"
#include "proto/err.h"
#include "proto/thread.h"

static void *answer(void *arg)
{
    *(int *)arg = 42;
    return NULL;
}

/* Runs `body` in a child, since a filter stays; 0 when all that it wants is so. */
static void in_child(int (*body)(void))
{
    int status;
    pid_t child = fork();

    if (child == 0)
        _exit(body());
    cr_assert(child > 0 && waitpid(child, &status, 0) == child);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "wish %d was not fulfilled",
              WEXITSTATUS(status));
}

/* Returns the number of the first wish that is not fulfilled. */
#define WISH(number, condition)                                                                    \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return number;                                                                         \
    } while (0)

static int forbidden(void)
{
    static char *const none[] = {NULL};
    struct iovec here = {(void *)none, 1};

    WISH(1, privileges_forbid_calls() == ERR_OK);
    WISH(2, execve("/bin/true", none, none) == -1 && errno == EPERM);
    WISH(3, fork() == -1 && errno == EPERM);
    WISH(4, syscall(SYS_clone3, NULL, 0) == -1 && errno == ENOSYS);
    WISH(5, ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1 && errno == EPERM);
    WISH(6, process_vm_readv(getpid(), &here, 1, &here, 1, 0) == -1 && errno == EPERM);
    WISH(7, mount("none", "/tmp", "tmpfs", 0, NULL) == -1 && errno == EPERM);
    WISH(8, syscall(SYS_bpf, 0, NULL, 0) == -1 && errno == EPERM);
    WISH(9, syscall(SYS_keyctl, 0, 0, 0) == -1 && errno == EPERM);
    WISH(10, setuid(getuid()) == -1 && errno == EPERM);
    WISH(11, syscall(SYS_io_uring_setup, 1, NULL) == -1 && errno == ENOSYS);
    return 0;
}

static int still_possible(void)
{
    pthread_t thread;
    int number = 0;
    FILE *f;

    WISH(1, privileges_forbid_calls() == ERR_OK);
    WISH(2, pthread_create(&thread, NULL, answer, &number) == 0);
    WISH(3, pthread_join(thread, NULL) == 0 && number == 42);
    f = fopen("/proc/self/status", "re");
    WISH(4, f != NULL);
    fclose(f);
    WISH(5, privileges_forbid_calls() == ERR_OK); /* a second time changes nothing */
    return 0;
}

static int capability_mask(uint64_t *effective)
{
    char line[128];
    FILE *f = fopen("/proc/thread-self/status", "re");
    unsigned long long value = 0;

    if (!f)
        return 1;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "CapEff: %llx", &value) == 1)
            break;
    fclose(f);
    *effective = value;
    return 0;
}

static void *rights_of_a_thread(void *effective)
{
    thread_begin("a-thread");
    (void)capability_mask(effective);
    return NULL;
}

static int capabilities(void)
{
    uint64_t before, after, in_thread;
    pthread_t thread;

    WISH(1, capability_mask(&before) == 0);
    WISH(2,
         thread_keep_capabilities(CAPABILITY(CAP_NET_ADMIN) | CAPABILITY(CAP_IPC_LOCK)) == ERR_OK);
    WISH(3, capability_mask(&after) == 0);
    WISH(4, after == (before & (CAPABILITY(CAP_NET_ADMIN) | CAPABILITY(CAP_IPC_LOCK))));
    WISH(5, pthread_create(&thread, NULL, rights_of_a_thread, &in_thread) == 0);
    WISH(6, pthread_join(thread, NULL) == 0);
    WISH(7, in_thread == (before & CAPABILITY(CAP_IPC_LOCK)));
    WISH(8, capability_mask(&in_thread) == 0 && in_thread == after);
    WISH(9, thread_keep_capabilities(~UINT64_C(0)) == ERR_OK);
    WISH(10, capability_mask(&in_thread) == 0 && in_thread == after);
    return 0;
}

Test(privileges, calls_that_a_node_never_makes_fail)
{
    in_child(forbidden);
}

Test(privileges, threads_and_files_go_on_working)
{
    in_child(still_possible);
}

Test(privileges, capabilities_go_and_do_not_return)
{
    in_child(capabilities);
}
