#include "proto/thread.h"

#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/err.h"

void thread_begin(const char *name)
{
    sigset_t all;

    sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, NULL);
    (void)prctl(PR_SET_NAME, name);
    (void)thread_keep_capabilities(CAPABILITY(CAP_IPC_LOCK));
}

int thread_keep_capabilities(uint64_t these)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

    if (syscall(SYS_capget, &header, data) != 0)
        return ERR_IO;
    /* The bounding set binds programs that we would run: as far as we may (CAP_SETPCAP). */
    for (unsigned long number = 0; prctl(PR_CAPBSET_READ, number) >= 0; number++)
        if (number > 63 || !(these & CAPABILITY(number)))
            (void)prctl(PR_CAPBSET_DROP, number);
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        data[i].permitted &= (uint32_t)(these >> (32 * i));
        data[i].effective = data[i].permitted;
        data[i].inheritable = 0;
    }
    return syscall(SYS_capset, &header, data) == 0 ? ERR_OK : ERR_IO;
}
