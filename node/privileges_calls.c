/* System calls that no part of a node ever makes, but that somebody who got into the process
 * would like to. A filter of the kernel's (seccomp) refuses them; all others pass, so a
 * library that does something new goes on working. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "node/privileges.h"
#include "proto/err.h"

#if defined(__x86_64__)
enum { ARCH = (int)AUDIT_ARCH_X86_64, FOREIGN = 0x40000000 /* x32's numbers begin here */ };
#elif defined(__aarch64__)
enum { ARCH = (int)AUDIT_ARCH_AARCH64, FOREIGN = 0x40000000 };
#else
#error "name this architecture's system call ABI"
#endif

static const uint16_t forbidden[] = {
    /* other processes, and other programs in this one */
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_process_madvise,
    SYS_kcmp,
    SYS_pidfd_open,
    SYS_pidfd_getfd,
    SYS_execve,
    SYS_execveat,
    SYS_personality,
    SYS_userfaultfd,
    SYS_perf_event_open,
    /* the kernel */
    SYS_bpf,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_kexec_file_load,
    SYS_reboot,
    SYS_syslog,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    /* the file system and namespaces */
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_open_tree,
    SYS_move_mount,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_setns,
    SYS_unshare,
    SYS_swapon,
    SYS_swapoff,
    SYS_quotactl,
    SYS_acct,
    SYS_mknodat,
    SYS_name_to_handle_at,
    SYS_open_by_handle_at,
    /* who we are, and what time it is */
    SYS_setuid,
    SYS_setgid,
    SYS_setreuid,
    SYS_setregid,
    SYS_setresuid,
    SYS_setresgid,
    SYS_setfsuid,
    SYS_setfsgid,
    SYS_setgroups,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
#ifdef __x86_64__
    SYS_fork,
    SYS_vfork,
    SYS_mknod,
    SYS_iopl,
    SYS_ioperm,
    SYS_modify_ldt,
#endif
};

/* "Not there": the C library then does without. */
static const uint16_t absent[] = {
    SYS_clone3, /* its flags lie in memory, where a filter cannot look */
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
};

enum {
    N_FORBIDDEN = sizeof forbidden / sizeof *forbidden,
    N_ABSENT = sizeof absent / sizeof *absent,
    PROGRAM_MAX = 2 * (N_FORBIDDEN + N_ABSENT) + 16,
};

struct program {
    struct sock_filter code[PROGRAM_MAX];
    unsigned short n;
};

static void add(struct program *p, uint16_t code, uint32_t k, uint8_t if_true, uint8_t if_false)
{
    p->code[p->n++] = (struct sock_filter){code, if_true, if_false, k};
}

static void load(struct program *p, size_t field)
{
    add(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)field, 0, 0);
}

static void give(struct program *p, uint32_t verdict)
{
    add(p, BPF_RET | BPF_K, verdict, 0, 0);
}

static void refuse(struct program *p, uint32_t number, uint32_t error)
{
    add(p, BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
    give(p, SECCOMP_RET_ERRNO | error);
}

static void write_program(struct program *p)
{
    load(p, offsetof(struct seccomp_data, arch));
    add(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)ARCH, 1, 0);
    give(p, SECCOMP_RET_ERRNO | ENOSYS); /* another ABI, with other numbers */
    load(p, offsetof(struct seccomp_data, nr));
    add(p, BPF_JMP | BPF_JGE | BPF_K, FOREIGN, 0, 1);
    give(p, SECCOMP_RET_ERRNO | ENOSYS);
    for (size_t i = 0; i < N_FORBIDDEN; i++)
        refuse(p, forbidden[i], EPERM);
    for (size_t i = 0; i < N_ABSENT; i++)
        refuse(p, absent[i], ENOSYS);
    /* A new thread is fine, a new process is not. */
    add(p, BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3);
    load(p, offsetof(struct seccomp_data, args[0])); /* the low half: little-endian */
    add(p, BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0);
    give(p, SECCOMP_RET_ERRNO | EPERM);
    give(p, SECCOMP_RET_ALLOW);
}

int privileges_forbid_calls(void)
{
    struct program p = {.n = 0};
    struct sock_fprog filter;

    write_program(&p);
    filter = (struct sock_fprog){p.n, p.code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return ERR_IO;
    /* Of the processor's own side channels the default is right for us: no slower loads. */
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &filter) != 0)
        return ERR_UNSUPPORTED;
    return ERR_OK;
}
