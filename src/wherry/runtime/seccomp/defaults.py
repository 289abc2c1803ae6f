"""Docker's default seccomp profile, as data of our own.

Which calls are allowed, and which capability adds which, was observed on Docker Engine 28.5 by
reading the specifications that it hands to its runtime for containers with no capability, with
each one alone and with all of them. The arm calls are those without which the EABI does not work.
"""

from __future__ import annotations

from functools import cache, lru_cache

from wherry.runtime.capabilities import mask_of
from wherry.runtime.seccomp.compile import compile_filter
from wherry.runtime.seccomp.profile import Conditions, Entry, Profile, resolve
from wherry.runtime.seccomp.rules import EPERM, RET_ALLOW, Argument, Op, Rule, ret_of

_ALLOWED = """
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32
clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2
dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64
fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64
fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64
futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32
geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp
getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid
getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch
io_cancel ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set
io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self
lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek
lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create
memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect
mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall
munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open
pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl
pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev
pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg
remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe
rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr
sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64
send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid
setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid
setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt
set_thread_area set_tid_address setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget
shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat
stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee
tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat
utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
"""

# Calls that a capability opens beside what it lets them do.
_BY_CAPABILITY = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie
        lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount
        open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog
        umount umount2 unshare
    """,
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYSLOG": "syslog",
}

_BY_ARCH = {
    ("amd64",): "arch_prctl modify_ldt",
    (
        "arm64",
    ): "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
}

# personality(2): PER_LINUX, PER_LINUX32, each with UNAME26 (0x20000), and the query. Everything
# else could switch off address space randomisation.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFF_FFFF)
_AF_VSOCK = 40  # linux/socket.h: reaches the hypervisor past every network namespace
# sched.h: CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
_NEW_NAMESPACES = 0x7E02_0000
_ENOSYS = 38


@cache
def default_profile() -> Profile:
    """Return Docker's default profile."""
    admin = Conditions(capabilities=mask_of(["CAP_SYS_ADMIN"]))
    entries = [
        Entry((_allow(_ALLOWED),)),
        # Before 4.8 ptrace could step around seccomp (seccomp(2), Caveats).
        Entry(
            (_allow("process_vm_readv process_vm_writev ptrace"),),
            includes=Conditions(min_kernel=(4, 8)),
        ),
        Entry((_allow("socket", Argument(0, Op.NE, _AF_VSOCK)),)),
        Entry(tuple(_allow("personality", Argument(0, Op.EQ, value)) for value in _PERSONALITIES)),
        Entry((_allow("clone", Argument(0, Op.MASKED_EQ, _NEW_NAMESPACES, 0)),), excludes=admin),
        # clone3's flags lie behind a pointer; ENOSYS makes libc fall back to clone.
        Entry((Rule(("clone3",), ret_of("SCMP_ACT_ERRNO", _ENOSYS, "clone3")),), excludes=admin),
    ]
    entries += [
        Entry((_allow(names),), includes=Conditions(arches=arches))
        for arches, names in _BY_ARCH.items()
    ]
    entries += [
        Entry((_allow(names),), includes=Conditions(capabilities=mask_of([capability])))
        for capability, names in _BY_CAPABILITY.items()
    ]
    return Profile(
        default_ret=ret_of("SCMP_ACT_ERRNO", EPERM, "defaultAction"),
        entries=tuple(entries),
        arch_map=(
            ("SCMP_ARCH_X86_64", ("SCMP_ARCH_X86", "SCMP_ARCH_X32")),
            ("SCMP_ARCH_AARCH64", ("SCMP_ARCH_ARM",)),
        ),
    )


@lru_cache(maxsize=64)
def default_program(capabilities: int, *, arch: str, kernel: tuple[int, int]) -> bytes:
    """Return the default profile as BPF for a container with a mask of `capabilities`; cached.

    Raises Unsupported for an architecture without a table.
    """
    resolved = resolve(default_profile(), arch=arch, capabilities=capabilities, kernel=kernel)
    return compile_filter(resolved, arch=arch)


def _allow(names: str, *arguments: Argument) -> Rule:
    return Rule(tuple(names.split()), RET_ALLOW, arguments)
