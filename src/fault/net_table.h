/* SPDX-License-Identifier: MIT */
/*
 * The system calls of x86-64: what their arguments point to. NET_CALLS(P, Z, A, F, G, E, N) expands to
 *   P(name, function, arguments...)            traps when a pointer argument lies in the window
 *   Z(name, nonzero, function, arguments...)   also when an argument of this bit mask is not 0
 *   A(name, function, arguments...)            traps always: its pointers are nested, or it needs emulation
 *   F(name, function, arguments...)            traps without CLONE_VM in the first argument
 *   G(name, argument)                          EBADF when the argument is the guarded descriptor
 *   E(name)                                    ENOSYS
 *   N(name)                                    no pointers, never traps
 * A call that is not listed traps on any argument, and 4 KiB are held at each.
 *
 * Arguments: _ scalar, I read by the kernel, O written, X either or both. I(n) n bytes, IL(k) args[k] bytes, IC(k, n)
 * args[k] elements of n bytes, OP(k) *args[k] bytes, ILC(k, n) args[k] but at most n bytes, STR a string,
 * ME what the function itself takes care of.
 */
#pragma once

#include <sys/syscall.h>

/* Newer than the headers of the oldest system that builds this. */
enum {
	NET_SYS_cachestat = 451,
	NET_SYS_fchmodat2 = 452,
	NET_SYS_map_shadow_stack = 453,
	NET_SYS_futex_wake = 454,
	NET_SYS_futex_wait = 455,
	NET_SYS_statmount = 457,
	NET_SYS_listmount = 458,
	NET_SYS_mseal = 462,
};

#ifndef SYS_cachestat
#define SYS_cachestat NET_SYS_cachestat
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 NET_SYS_fchmodat2
#endif
#ifndef SYS_map_shadow_stack
#define SYS_map_shadow_stack NET_SYS_map_shadow_stack
#endif
#ifndef SYS_futex_wake
#define SYS_futex_wake NET_SYS_futex_wake
#endif
#ifndef SYS_futex_wait
#define SYS_futex_wait NET_SYS_futex_wait
#endif
#ifndef SYS_statmount
#define SYS_statmount NET_SYS_statmount
#endif
#ifndef SYS_listmount
#define SYS_listmount NET_SYS_listmount
#endif
#ifndef SYS_mseal
#define SYS_mseal NET_SYS_mseal
#endif

#define _ { 0 }
#define I(n) { NET_ARG_FIXED, NET_READ, 0, n }
#define O(n) { NET_ARG_FIXED, NET_WRITE, 0, n }
#define X(n) { NET_ARG_FIXED, NET_EITHER, 0, n }
#define IL(k) { NET_ARG_LEN, NET_READ, k, 0 }
#define OL(k) { NET_ARG_LEN, NET_WRITE, k, 0 }
#define OLC(k, n) { NET_ARG_LEN, NET_WRITE, k, n }
#define IC(k, n) { NET_ARG_COUNT, NET_READ, k, n }
#define OC(k, n) { NET_ARG_COUNT, NET_WRITE, k, n }
#define OP(k) { NET_ARG_LENPTR, NET_WRITE, k, 0 }
#define STR { NET_ARG_STRING, NET_READ, 0, 0 }
#define SET(k) { NET_ARG_FDSET, NET_WRITE, k, 0 }
#define KEEP(n) { NET_ARG_FOREVER, NET_WRITE, 0, n }
#define ME { NET_ARG_SELF, 0, 0, 0 }
#define MASK { NET_ARG_MASK, NET_READ, 0, 8 }
#define MASKP { NET_ARG_MASKPTR, NET_READ, 0, 16 }
#define MSG_I(k) { NET_ARG_MSGBUF, NET_READ, k, 0 }
#define MSG_O(k) { NET_ARG_MSGBUF, NET_WRITE, k, 0 }

/* Sizes of the kernel's structures. */
enum {
	SZ_STAT = 144,
	SZ_STATFS = 120,
	SZ_STATX = 256,
	SZ_TIME = 16, /* timespec and timeval */
	SZ_TIMER = 32, /* itimerspec and itimerval */
	SZ_TIMEX = 208,
	SZ_RUSAGE = 144,
	SZ_SIGINFO = 128,
	SZ_SIGEVENT = 64,
	SZ_EPOLL = 12,
	SZ_MQATTR = 64,
	SZ_HEAD = 24, /* robust_list_head */
};

/* clang-format off */
#define NET_CALLS_FILES(P, Z, A, F, G, E, N) \
	P(read, net_do_read, _, ME) P(write, net_do_write, _, ME) \
	P(pread64, net_do_pread, _, ME) P(pwrite64, net_do_pwrite, _, ME) \
	A(readv, net_do_readv, _, ME) A(writev, net_do_writev, _, ME) \
	A(preadv, net_do_preadv, _, ME) A(pwritev, net_do_pwritev, _, ME) \
	A(preadv2, net_do_preadv, _, ME) A(pwritev2, net_do_pwritev, _, ME) \
	A(vmsplice, net_do_vmsplice, _, ME) \
	A(process_vm_readv, net_do_process_vm, _, ME, _, ME) A(process_vm_writev, net_do_process_vm, _, ME, _, ME) \
	G(close, 0) G(dup2, 1) G(dup3, 1) A(close_range, do_close_range) N(dup) N(lseek) \
	P(open, NULL, STR) P(openat, NULL, _, STR) P(openat2, NULL, _, STR, IL(3)) P(creat, NULL, STR) \
	P(stat, NULL, STR, O(SZ_STAT)) P(lstat, NULL, STR, O(SZ_STAT)) P(fstat, NULL, _, O(SZ_STAT)) \
	P(newfstatat, NULL, _, STR, O(SZ_STAT)) P(statx, NULL, _, STR, _, _, O(SZ_STATX)) \
	P(statfs, NULL, STR, O(SZ_STATFS)) P(fstatfs, NULL, _, O(SZ_STATFS)) P(ustat, NULL, _, O(32)) \
	P(access, NULL, STR) P(faccessat, NULL, _, STR) P(faccessat2, NULL, _, STR) \
	P(getdents, NULL, _, OL(2)) P(getdents64, NULL, _, OL(2)) P(getcwd, NULL, OLC(1, 4096)) \
	P(chdir, NULL, STR) N(fchdir) P(chroot, NULL, STR) P(rename, NULL, STR, STR) \
	P(renameat, NULL, _, STR, _, STR) P(renameat2, NULL, _, STR, _, STR) P(mkdir, NULL, STR) \
	P(mkdirat, NULL, _, STR) P(rmdir, NULL, STR) P(link, NULL, STR, STR) P(linkat, NULL, _, STR, _, STR) \
	P(unlink, NULL, STR) P(unlinkat, NULL, _, STR) P(symlink, NULL, STR, STR) P(symlinkat, NULL, STR, _, STR) \
	P(readlink, NULL, STR, OLC(2, 4096)) P(readlinkat, NULL, _, STR, OLC(3, 4096)) \
	P(mknod, NULL, STR) P(mknodat, NULL, _, STR) P(chmod, NULL, STR) P(fchmodat, NULL, _, STR) \
	P(fchmodat2, NULL, _, STR) N(fchmod) P(chown, NULL, STR) P(lchown, NULL, STR) N(fchown) \
	P(fchownat, NULL, _, STR) P(utime, NULL, STR, I(16)) P(utimes, NULL, STR, I(32)) \
	P(futimesat, NULL, _, STR, I(32)) P(utimensat, NULL, _, STR, I(32)) \
	P(truncate, NULL, STR) N(ftruncate) N(fallocate) N(fadvise64) N(readahead) N(sync_file_range) \
	N(fsync) N(fdatasync) N(sync) N(syncfs) N(flock) N(umask) P(fcntl, NULL, _, _, X(32)) \
	P(ioctl, do_ioctl, _, _, ME) P(sendfile, NULL, _, _, O(8)) P(copy_file_range, NULL, _, O(8), _, O(8)) \
	P(splice, NULL, _, O(8), _, O(8)) N(tee) P(pipe, NULL, O(8)) P(pipe2, NULL, O(8)) \
	P(setxattr, NULL, STR, STR, IL(3)) P(lsetxattr, NULL, STR, STR, IL(3)) P(fsetxattr, NULL, _, STR, IL(3)) \
	P(getxattr, NULL, STR, STR, OLC(3, 65536)) P(lgetxattr, NULL, STR, STR, OLC(3, 65536)) \
	P(fgetxattr, NULL, _, STR, OLC(3, 65536)) P(listxattr, NULL, STR, OLC(2, 65536)) \
	P(llistxattr, NULL, STR, OLC(2, 65536)) P(flistxattr, NULL, _, OLC(2, 65536)) \
	P(removexattr, NULL, STR, STR) P(lremovexattr, NULL, STR, STR) P(fremovexattr, NULL, _, STR) \
	P(name_to_handle_at, NULL, _, STR, O(136), O(8)) P(open_by_handle_at, NULL, _, I(136)) \
	P(inotify_add_watch, NULL, _, STR) N(inotify_init) N(inotify_init1) N(inotify_rm_watch) \
	N(fanotify_init) P(fanotify_mark, NULL, _, _, _, _, STR) P(memfd_create, NULL, STR) N(memfd_secret) \
	P(cachestat, NULL, _, I(16), O(40)) P(statmount, NULL, I(64), OL(2)) P(listmount, NULL, I(64), OC(2, 8)) \
	P(mount, NULL, STR, STR, STR, _, X(4096)) P(umount2, NULL, STR) P(pivot_root, NULL, STR, STR) \
	P(open_tree, NULL, _, STR) P(move_mount, NULL, _, STR, _, STR) P(fsopen, NULL, STR) N(fsmount) \
	P(fsconfig, NULL, _, _, STR, X(4096)) P(fspick, NULL, _, STR) P(mount_setattr, NULL, _, STR, _, IL(4)) \
	P(swapon, NULL, STR) P(swapoff, NULL, STR) P(acct, NULL, STR) P(quotactl, NULL, _, STR, _, X(4096))

#define NET_CALLS_SOCKETS(P, Z, A, F, G, E, N) \
	N(socket) P(socketpair, NULL, _, _, _, O(8)) P(bind, NULL, _, IL(2)) P(connect, NULL, _, IL(2)) N(listen) \
	P(accept, NULL, _, OP(2), O(4)) P(accept4, NULL, _, OP(2), O(4)) P(getsockname, NULL, _, OP(2), O(4)) \
	P(getpeername, NULL, _, OP(2), O(4)) N(shutdown) P(setsockopt, do_setsockopt, _, _, _, IL(4)) \
	P(getsockopt, NULL, _, _, _, OP(4), O(4)) \
	P(sendto, net_do_write, _, ME, _, _, IL(5)) P(recvfrom, net_do_read, _, ME, _, _, OP(5), O(4)) \
	A(sendmsg, net_do_sendmsg, _, ME) A(recvmsg, net_do_recvmsg, _, ME) \
	A(sendmmsg, net_do_sendmmsg, _, ME) A(recvmmsg, net_do_recvmmsg, _, ME, _, _, O(SZ_TIME)) \
	P(poll, NULL, OC(1, 8)) Z(ppoll, 1 << 3, NULL, OC(1, 8), _, O(SZ_TIME), MASK) \
	P(select, NULL, _, SET(0), SET(0), SET(0), O(SZ_TIME)) \
	Z(pselect6, 1 << 5, NULL, _, SET(0), SET(0), SET(0), O(SZ_TIME), MASKP) \
	N(epoll_create) N(epoll_create1) P(epoll_ctl, NULL, _, _, _, I(SZ_EPOLL)) \
	P(epoll_wait, NULL, _, OC(2, SZ_EPOLL)) Z(epoll_pwait, 1 << 4, NULL, _, OC(2, SZ_EPOLL), _, _, MASK) \
	Z(epoll_pwait2, 1 << 4, NULL, _, OC(2, SZ_EPOLL), _, I(SZ_TIME), MASK) N(eventfd) N(eventfd2)

#define NET_CALLS_MEMORY(P, Z, A, F, G, E, N) \
	P(mmap, do_mm, ME) P(munmap, do_mm, ME) P(mprotect, do_mm, ME) P(mremap, do_mm, ME, _, _, _, ME) \
	P(madvise, do_mm, ME) P(msync, do_mm, ME) P(mlock, do_mm, ME) P(mlock2, do_mm, ME) P(munlock, do_mm, ME) \
	A(mlockall, do_mm) A(munlockall, do_mm) P(mincore, do_mm, ME, _, ME) P(mbind, do_mm, ME, _, _, X(128)) \
	P(pkey_mprotect, do_mm, ME) P(remap_file_pages, do_mm, ME) P(set_mempolicy_home_node, do_mm, ME) \
	P(mseal, do_mm, ME) P(shmat, do_mm, _, ME) P(shmdt, do_mm, ME) E(process_madvise) N(process_mrelease) \
	N(brk) N(pkey_alloc) N(pkey_free) N(map_shadow_stack) N(membarrier) N(userfaultfd) \
	P(set_mempolicy, NULL, _, X(128)) P(get_mempolicy, NULL, O(4), X(128)) \
	P(move_pages, NULL, _, _, IC(1, 8), IC(1, 4), OC(1, 4)) P(migrate_pages, NULL, _, _, X(128), X(128)) \
	E(io_setup) E(io_uring_setup) N(shmget) P(shmctl, NULL, _, _, X(128)) N(semget) N(msgget) \
	P(semop, NULL, _, IC(2, 6)) P(semtimedop, NULL, _, IC(2, 6), _, I(SZ_TIME)) P(semctl, NULL, _, _, _, X(4096)) \
	P(msgsnd, NULL, _, MSG_I(2)) P(msgrcv, NULL, _, MSG_O(2)) P(msgctl, NULL, _, _, X(128)) \
	P(mq_open, NULL, STR, _, _, I(SZ_MQATTR)) P(mq_unlink, NULL, STR) \
	P(mq_timedsend, NULL, _, IL(2), _, _, I(SZ_TIME)) P(mq_timedreceive, NULL, _, OL(2), _, O(4), I(SZ_TIME)) \
	P(mq_notify, NULL, _, I(SZ_SIGEVENT)) P(mq_getsetattr, NULL, _, I(SZ_MQATTR), O(SZ_MQATTR))

#define NET_CALLS_PROCESS(P, Z, A, F, G, E, N) \
	A(fork, do_fork) F(clone, do_fork, _, _, ME, ME) N(vfork) E(clone3) A(exit, do_exit) N(exit_group) \
	A(execve, do_execve, ME, ME, ME) A(execveat, do_execve, _, ME, ME, ME) \
	P(wait4, NULL, _, O(4), _, O(SZ_RUSAGE)) P(waitid, NULL, _, _, O(SZ_SIGINFO), _, O(SZ_RUSAGE)) \
	P(futex, do_futex, ME, _, _, ME, ME) A(futex_waitv, do_futex_waitv, ME, _, _, I(SZ_TIME)) \
	P(futex_wake, NULL, I(4)) P(futex_wait, NULL, I(4), _, _, _, I(SZ_TIME)) \
	P(set_robust_list, NULL, KEEP(SZ_HEAD)) P(get_robust_list, NULL, _, O(8), O(8)) \
	P(set_tid_address, NULL, KEEP(4)) P(rseq, NULL, KEEP(32)) P(arch_prctl, NULL, _, O(8)) N(sched_yield) \
	P(sched_setaffinity, NULL, _, _, IL(1)) P(sched_getaffinity, NULL, _, _, OL(1)) \
	P(sched_setparam, NULL, _, I(4)) P(sched_getparam, NULL, _, O(4)) P(sched_setscheduler, NULL, _, _, I(4)) \
	N(sched_getscheduler) N(sched_get_priority_max) N(sched_get_priority_min) \
	P(sched_rr_get_interval, NULL, _, O(SZ_TIME)) P(sched_setattr, NULL, _, X(128)) \
	P(sched_getattr, NULL, _, OL(2)) \
	P(getcpu, NULL, O(4), O(4)) N(getpriority) N(setpriority) N(ioprio_get) N(ioprio_set) N(kcmp) \
	P(prlimit64, NULL, _, _, I(16), O(16)) P(getrlimit, NULL, _, O(16)) P(setrlimit, NULL, _, I(16)) \
	P(getrusage, NULL, _, O(SZ_RUSAGE)) P(times, NULL, O(32)) P(sysinfo, NULL, O(112)) P(uname, NULL, O(390)) \
	P(sethostname, NULL, IL(1)) P(setdomainname, NULL, IL(1)) P(syslog, NULL, _, OL(2)) \
	P(getrandom, net_do_getrandom, ME) P(prctl, do_prctl, _, X(4096), X(4096), X(4096), X(4096)) \
	A(seccomp, do_seccomp, _, _, ME) P(ptrace, NULL, _, _, _, X(4096)) P(capget, NULL, X(8), O(24)) \
	P(capset, NULL, X(8), I(24)) P(getgroups, NULL, _, OC(0, 4)) P(setgroups, NULL, _, IC(0, 4)) \
	P(getresuid, NULL, O(4), O(4), O(4)) P(getresgid, NULL, O(4), O(4), O(4)) \
	N(getpid) N(gettid) N(getppid) N(getpgid) N(getpgrp) N(getsid) N(setsid) N(setpgid) N(getuid) N(geteuid) \
	N(getgid) N(getegid) N(setuid) N(setgid) N(setreuid) N(setregid) N(setresuid) N(setresgid) N(setfsuid) \
	N(setfsgid) N(personality) N(unshare) N(setns) N(vhangup) N(iopl) N(ioperm) N(pidfd_open) N(pidfd_getfd) \
	P(modify_ldt, NULL, _, X(4096)) A(perf_event_open, do_attr, ME) A(bpf, do_attr, _, ME) \
	P(landlock_create_ruleset, NULL, IL(1)) \
	P(landlock_add_rule, NULL, _, _, X(64)) N(landlock_restrict_self) P(finit_module, NULL, _, STR) \
	P(keyctl, NULL, _, X(4096), X(65536), X(65536), X(4096)) P(add_key, NULL, STR, STR, IL(3)) \
	P(request_key, NULL, STR, STR, STR)

#define NET_CALLS_SIGNALS(P, Z, A, F, G, E, N) \
	Z(rt_sigaction, 6, do_signal, _, I(32), O(32)) Z(rt_sigprocmask, 2, do_signal, _, I(8), O(8)) \
	A(sigaltstack, do_signal, I(24), O(24)) A(rt_sigsuspend, do_signal, MASK) N(rt_sigreturn) N(restart_syscall) \
	P(rt_sigpending, NULL, O(8)) P(rt_sigtimedwait, NULL, I(8), O(SZ_SIGINFO), I(SZ_TIME)) \
	P(rt_sigqueueinfo, NULL, _, _, I(SZ_SIGINFO)) P(rt_tgsigqueueinfo, NULL, _, _, _, I(SZ_SIGINFO)) \
	P(pidfd_send_signal, NULL, _, _, I(SZ_SIGINFO)) P(signalfd, NULL, _, I(8)) P(signalfd4, NULL, _, I(8)) \
	N(kill) N(tkill) N(tgkill) N(pause) N(alarm) \
	P(nanosleep, NULL, I(SZ_TIME), O(SZ_TIME)) P(clock_nanosleep, NULL, _, _, I(SZ_TIME), O(SZ_TIME)) \
	P(clock_gettime, NULL, _, O(SZ_TIME)) P(clock_getres, NULL, _, O(SZ_TIME)) \
	P(clock_settime, NULL, _, I(SZ_TIME)) \
	P(gettimeofday, NULL, O(SZ_TIME), O(8)) P(settimeofday, NULL, I(SZ_TIME), I(8)) P(time, NULL, O(8)) \
	P(adjtimex, NULL, O(SZ_TIMEX)) P(clock_adjtime, NULL, _, O(SZ_TIMEX)) P(getitimer, NULL, _, O(SZ_TIMER)) \
	P(setitimer, NULL, _, I(SZ_TIMER), O(SZ_TIMER)) P(timer_create, NULL, _, I(SZ_SIGEVENT), O(4)) \
	P(timer_settime, NULL, _, _, I(SZ_TIMER), O(SZ_TIMER)) P(timer_gettime, NULL, _, O(SZ_TIMER)) \
	N(timer_getoverrun) N(timer_delete) N(timerfd_create) \
	P(timerfd_settime, NULL, _, _, I(SZ_TIMER), O(SZ_TIMER)) P(timerfd_gettime, NULL, _, O(SZ_TIMER))

#define NET_CALLS(P, Z, A, F, G, E, N) \
	NET_CALLS_FILES(P, Z, A, F, G, E, N) NET_CALLS_SOCKETS(P, Z, A, F, G, E, N) \
	NET_CALLS_MEMORY(P, Z, A, F, G, E, N) NET_CALLS_PROCESS(P, Z, A, F, G, E, N) \
	NET_CALLS_SIGNALS(P, Z, A, F, G, E, N)
/* clang-format on */
