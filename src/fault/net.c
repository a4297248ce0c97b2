// SPDX-License-Identifier: MIT
/*
 * Arming the net and the SIGSYS handler. The handler runs with the program's own signal mask (SA_NODEFER, no sa_mask),
 * so a trapped call sleeps and is interrupted exactly as an untrapped one. State is written before the filter is in
 * force and only read after that; the counters are atomic.
 */
#include "fault/net.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/assert.h"
#include "fault/net_internal.h"
#include "fault/signal_raw.h"
#include "sync/atomic.h"

enum {
	FILTER_MAX = 2048,
	PROBE_ANSWER = 424242, /* no result of munmap(2), which every filter of ours traps */
	LOST_TRIES = 3,
	CODE_SECCOMP = 1, /* si_code of a trap */
};

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static struct atomic64 nr_traps, nr_efaults;

/* A syscall_fn: its seven arguments go where the kernel wants them. */
static const u8 gadget_code[] = {
	0x48, 0x89, 0xf8, /* mov %rdi, %rax */
	0x48, 0x89, 0xf7, /* mov %rsi, %rdi */
	0x48, 0x89, 0xd6, /* mov %rdx, %rsi */
	0x48, 0x89, 0xca, /* mov %rcx, %rdx */
	0x4d, 0x89, 0xc2, /* mov %r8, %r10 */
	0x4d, 0x89, 0xc8, /* mov %r9, %r8 */
	0x4c, 0x8b, 0x4c, 0x24, 0x08, /* mov 8(%rsp), %r9 */
	0x0f, 0x05, /* syscall */
	0xc3, /* ret */
};

static int gadget_map(void)
{
	static bool mapped;
	long ret;

	if (mapped)
		return 0;
	ret = sys6(SYS_mmap, NET_GADGET, PAGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (ret < 0 && ret > -4096)
		return (int)ret;
	if (ret != (long)NET_GADGET) { /* a kernel that does not know the flag */
		sys2(SYS_munmap, ret, PAGE_SIZE);
		return -EEXIST;
	}
	memcpy((void *)NET_GADGET, gadget_code, sizeof(gadget_code));
	ret = sys3(SYS_mprotect, NET_GADGET, PAGE_SIZE, PROT_READ | PROT_EXEC);
	if (ret) {
		sys2(SYS_munmap, NET_GADGET, PAGE_SIZE);
		return (int)ret;
	}
	mapped = true;
	syscall_use_gadget((syscall_fn)NET_GADGET);
	return 0;
}

static bool is_ours(const siginfo_t *info)
{
	return info->si_code == CODE_SECCOMP && info->si_errno == NET_TRAP_DATA && info->si_arch == AUDIT_ARCH_X86_64;
}

static void load_call(struct net_trap *t)
{
	const greg_t *regs = t->uc->uc_mcontext.gregs;

	t->args[0] = regs[REG_RDI];
	t->args[1] = regs[REG_RSI];
	t->args[2] = regs[REG_RDX];
	t->args[3] = regs[REG_R10];
	t->args[4] = regs[REG_R8];
	t->args[5] = regs[REG_R9];
}

/* The result goes to where the interrupted code looks for it. */
static void handle_trap(int sig, siginfo_t *info, void *ucontext)
{
	struct net_trap t = {
		.id = (uintptr_t)__builtin_frame_address(0),
		.uc = ucontext,
		.nr = info->si_syscall,
	};
	long ret = -EFAULT;
	bool lost = true;

	if (!is_ours(info)) {
		if (!net_state.ops->chain(sig, info, ucontext))
			signal_raw_die(sig);
		return;
	}
	atomic64_fetch_add(&nr_traps, 1);
	t.sp = (uintptr_t)t.uc->uc_mcontext.gregs[REG_RSP];
	net_trap_begin(&t);
	for (int i = 0; ret == -EFAULT && lost && i < LOST_TRIES; i++) {
		t.nr = info->si_syscall;
		t.pushed = 0;
		load_call(&t);
		ret = net_call_run(&t);
		lost = net_trap_lost_holds(&t);
		net_trap_release_to(&t, 0);
	}
	if (ret == -EFAULT)
		net_count_efault(info->si_syscall);
	t.uc->uc_mcontext.gregs[REG_RAX] = ret;
}

void net_count_efault(long nr)
{
	atomic64_fetch_add(&nr_efaults, 1);
	if (net_state.ops->efault)
		net_state.ops->efault(nr);
}

struct net_guards net_guards;

static int guard_range(unsigned int first, unsigned int last)
{
	struct net_guard *g = net_guards.guard;
	unsigned int at = 0, nr = net_guards.nr;

	while (at < nr && g[at].last + 1 < first)
		at++;
	/* Those that touch it become one with it. */
	while (at < nr && g[at].first <= last + 1) {
		first = g[at].first < first ? g[at].first : first;
		last = g[at].last > last ? g[at].last : last;
		memmove(&g[at], &g[at + 1], (--nr - at) * sizeof(*g));
	}
	if (nr == NET_GUARDS_MAX)
		return -ENOSPC;
	memmove(&g[at + 1], &g[at], (nr - at) * sizeof(*g));
	g[at] = (struct net_guard){ first, last };
	net_guards.nr = nr + 1;
	return 0;
}

int net_guard(int fd)
{
	return guard_range((unsigned int)fd, (unsigned int)fd);
}

static int handler_install(uintptr_t window, size_t bytes, const struct net_ops *ops)
{
	must(window == NET_WINDOW);
	must(bytes > 0 && bytes <= NET_WINDOW_BYTES_MAX);
	must(ops->hold && ops->release && ops->room && ops->exit_call && ops->mm_call && ops->fork_call &&
	     ops->signal_call && ops->chain);
	net_state = (struct net_state){ window, window + bytes, ops };
	return signal_raw_install(SIGSYS, handle_trap, SA_ONSTACK | SA_NODEFER | SA_RESTART, 0, NULL);
}

static int filter_install(void)
{
	static struct sock_filter filter[FILTER_MAX];
	const long flags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
	struct sock_fprog prog = { .filter = filter };
	struct net_text text;
	long ret = net_text_find(&text);

	if (ret)
		return (int)ret;
	prog.len = (unsigned short)net_filter_make(filter, FILTER_MAX, &text);
	ret = sys5(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (!ret)
		ret = sys3(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
	/* A positive result is a thread with a filter of its own. */
	return ret > 0 ? -EBUSY : (int)ret;
}

int net_arm(uintptr_t window, size_t bytes, int guarded_fd, const struct net_ops *ops)
{
	struct signal_raw_action before;
	int err = gadget_map();

	if (!err)
		err = signal_raw_action(SIGSYS, NULL, &before);
	if (!err && guarded_fd >= 0)
		err = guard_range((unsigned int)guarded_fd, (unsigned int)guarded_fd + NET_GUARDED - 1);
	if (!err)
		err = handler_install(window, bytes, ops);
	if (err)
		return err;
	signal_raw_mask(SIG_UNBLOCK, signal_raw_bit(SIGSYS), NULL);
	err = filter_install();
	if (err)
		signal_raw_action(SIGSYS, &before, NULL);
	return err;
}

static void answer_probe(int sig, siginfo_t *info, void *ucontext)
{
	ucontext_t *uc = ucontext;

	(void)sig;
	if (is_ours(info))
		uc->uc_mcontext.gregs[REG_RAX] = PROBE_ANSWER;
}

bool net_inherited(void)
{
	struct signal_raw_action before;
	long ret;

	if (gadget_map() || signal_raw_install(SIGSYS, answer_probe, SA_ONSTACK | SA_NODEFER, 0, &before))
		return false;
	signal_raw_mask(SIG_UNBLOCK, signal_raw_bit(SIGSYS), NULL);
	/* Our text and libc's may lie in different ranges; either way a handler is needed. */
	ret = syscall_direct(SYS_munmap, (long)NET_WINDOW, 0, 0, 0, 0, 0);
	if (ret != PROBE_ANSWER)
		ret = syscall(SYS_munmap, NET_WINDOW, 0);
	signal_raw_action(SIGSYS, &before, NULL);
	return ret == PROBE_ANSWER;
}

int net_arm_inherited(uintptr_t window, size_t bytes, int guarded_fd, const struct net_ops *ops)
{
	return net_arm(window, bytes, guarded_fd, ops);
}

void net_stats(struct net_counts *counts)
{
	/* A count that is a few behind is as good. */
	counts->traps = atomic64_read(&nr_traps);
	counts->efaults = atomic64_read(&nr_efaults);
}
