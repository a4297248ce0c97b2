/* SPDX-License-Identifier: MIT */
/*
 * What the shim does around signals.c, threads.c and quiesce.c, in small: the two handlers, and a seccomp filter that
 * traps the signal calls made anywhere but in syscall_direct(). A SIGBUS in `rig_served` is served by making the file
 * behind it longer; all others are passed on.
 */
#pragma once

#include <dlfcn.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/os.h"
#include "base/syscall.h"
#include "preload/quiesce.h"
#include "preload/signals.h"
#include "preload/threads.h"
#include "sync/atomic.h"
#include "test.h"

#define RIG_WINDOW ((uintptr_t)0x200000000000)
#define RIG_WINDOW_BYTES ((size_t)1 << 20)
#define RIG_TRAP_DATA 0x77

static struct atomic32 rig_buses, rig_traps, rig_acks;
static struct {
	int fd;
	uintptr_t start;
	size_t bytes;
} rig_served = { .fd = -1 };

#ifdef __SANITIZE_ADDRESS__
#define RIG_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RIG_ASAN
#endif
#endif

/*
 * A handler that was left by siglongjmp leaves the marks of its frames on the alternate stack, where the sanitizer does
 * not look for them.
 */
static inline void rig_forget_frames(uintptr_t frame)
{
#ifdef RIG_ASAN
	void __asan_unpoison_memory_region(const void *addr, size_t bytes);
	stack_t ss;

	if (sys2(SYS_sigaltstack, NULL, &ss) == 0 && frame - (uintptr_t)ss.ss_sp < ss.ss_size)
		__asan_unpoison_memory_region(ss.ss_sp, frame - (uintptr_t)ss.ss_sp);
#else
	(void)frame;
#endif
}

static __attribute__((noinline)) void rig_serve_sigbus(int sig, siginfo_t *info, void *ucontext)
{
	int saved = errno;

	atomic32_add_return(&rig_buses, 1);
	if (info->si_code > 0 && rig_served.fd >= 0 && (uintptr_t)info->si_addr - rig_served.start < rig_served.bytes)
		sys2(SYS_ftruncate, rig_served.fd, rig_served.bytes);
	else
		signals_chain(sig, info, ucontext);
	errno = saved;
}

static void rig_on_sigbus(int sig, siginfo_t *info, void *ucontext)
{
	rig_forget_frames((uintptr_t)__builtin_frame_address(0));
	rig_serve_sigbus(sig, info, ucontext);
}

static __attribute__((noinline)) void rig_serve_sigsys(int sig, siginfo_t *info, void *ucontext)
{
	greg_t *regs = ((ucontext_t *)ucontext)->uc_mcontext.gregs;
	int saved = errno;

	if (quiesce_ack(info, ucontext)) {
		atomic32_add_return(&rig_acks, 1);
	} else if (info->si_code == 1 /* SYS_SECCOMP */ && info->si_errno == RIG_TRAP_DATA) {
		long args[6] = { regs[REG_RDI], regs[REG_RSI], regs[REG_RDX],
				 regs[REG_R10], regs[REG_R8],  regs[REG_R9] };
		long result = -ENOSYS;

		atomic32_add_return(&rig_traps, 1);
		if (!signals_call(info->si_syscall, args, ucontext, &result))
			result = sys6(info->si_syscall, args[0], args[1], args[2], args[3], args[4], args[5]);
		regs[REG_RAX] = result;
	} else {
		signals_chain(sig, info, ucontext);
	}
	errno = saved;
}

static void rig_on_sigsys(int sig, siginfo_t *info, void *ucontext)
{
	rig_forget_frames((uintptr_t)__builtin_frame_address(0));
	rig_serve_sigsys(sig, info, ucontext);
}

static inline void rig_start(void)
{
	signals_init();
	threads_init(RIG_WINDOW, RIG_WINDOW_BYTES);
	expect_eq(threads_attach_self(), 0);
	expect_eq(signals_own(SIGBUS, rig_on_sigbus, ~SIGNAL_RAW_NEVER_BLOCKED, 0), 0);
	expect_eq(signals_own(SIGSYS, rig_on_sigsys, 0, SA_NODEFER | SA_RESTART), 0);
}

static inline void *rig_window(void)
{
	void *window = mmap((void *)RIG_WINDOW, RIG_WINDOW_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	expect(window == (void *)RIG_WINDOW);
	return window;
}

/* Traps rt_sigaction, rt_sigprocmask, rt_sigsuspend and sigaltstack, in all threads. 0 or errno. */
static inline int rig_filter(void)
{
	const u64 pass = (u64)(uintptr_t)syscall_direct;
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigaction, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigprocmask, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigsuspend, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sigaltstack, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 12),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (u32)(pass >> 32), 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 8),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (u32)pass, 0, 2),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (u32)pass + 256, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP | RIG_TRAP_DATA),
	};
	struct sock_fprog program = { .len = ARRAY_SIZE(code), .filter = code };

	if (sys5(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return EPERM;
	return (int)-sys3(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

/* As the shim forks. */
static inline pid_t rig_fork(void)
{
	u64 mask = signals_block();
	pid_t pid;

	signals_fork_begin();
	threads_fork_begin();
	pid = fork();
	threads_fork_end(pid == 0);
	signals_fork_end(pid == 0);
	signals_restore(mask);
	return pid;
}

/* Wait status of `fn` in a child; fn returning is exit status 0. */
static inline int rig_in_child(void (*fn)(void))
{
	pid_t pid = rig_fork();
	int status;

	expect(pid >= 0);
	if (pid == 0) {
		fn();
		_exit(0);
	}
	expect_eq(waitpid(pid, &status, 0), pid);
	return status;
}

/* The thread's mask as the kernel has it. */
static inline u64 rig_mask(void)
{
	return signal_raw_mask_get();
}
