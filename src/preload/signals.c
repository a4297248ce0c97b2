// SPDX-License-Identifier: MIT
/*
 * Lock: record_lock, for writers of what the program asked for SIGBUS and SIGSYS; taken with all signals really
 * blocked, so that no handler of the same thread can want it, and held for a few stores on memory of our own.
 * Readers (signals_chain in a handler, a vfork child) take no lock: each record is a seqlock.
 */
#include "preload/signals.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <ucontext.h>

#include "base/assert.h"
#include "base/os.h"
#include "base/syscall.h"
#include "preload/frame.h"
#include "preload/real.h"
#include "preload/routes.h"
#include "preload/threads.h"
#include "sync/lock.h"

enum {
	SIGNAL_MAX = 64,
	MASK_BYTES = 8, /* the kernel's sigset_t; libc's has room for 1024 signals */
};

#ifndef SA_RESTORER
#define SA_RESTORER 0x04000000
#endif
/* Every flag that the kernel knows: it forgets the others, and programs look at that to learn what is supported. */
#define KERNEL_SA_FLAGS                                                                                                \
	(SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | 0x800ul | SA_RESTORER | SA_ONSTACK | SA_RESTART |           \
	 SA_NODEFER | (unsigned int)SA_RESETHAND)
#define LOCK_WAIT_NS 200000
#define MASK_NEVER (signal_raw_bit(SIGKILL) | signal_raw_bit(SIGSTOP))
/* Cancellation and setxid: libc's functions leave them alone. */
#define MASK_LIBC (signal_raw_bit(32) | signal_raw_bit(33))

/*
 * Even seq: the words belong together. Writers hold record_lock: seq odd, words, seq even, each store a release that
 * meets the acquires of record_read().
 */
struct record {
	struct atomic64 seq;
	struct atomic64 handler, flags, restorer, mask;
	struct atomic32 owned; /* set once in signals_own(), after the words (release) */
};

static struct mutex record_lock;
static struct record records[2];
/* Set once, by signals_route() (release); who installs a handler looks before and after. */
static struct atomic32 routing;
bool (*signals_unmapped)(const void *addr);
static struct atomic32 process_pid; /* 0: not active; written in signals_init() and in a fork child's only thread */
static struct atomic64 interrupting; /* signals that siginterrupt() made interrupt: signal() looks at it */
static struct atomic64 real_sigsuspend, real_ppoll, real_pselect, real_epoll_pwait, real_epoll_pwait2;

static int plain_copy_in(void *dst, uintptr_t src, size_t len)
{
	memcpy(dst, (const void *)src, len);
	return 0;
}

static int plain_copy_out(uintptr_t dst, const void *src, size_t len)
{
	memcpy((void *)dst, src, len);
	return 0;
}

int (*signals_fetch)(void *dst, uintptr_t src, size_t len) = plain_copy_in;
int (*signals_store)(uintptr_t dst, const void *src, size_t len) = plain_copy_out;

/* ---- masks ---- */

static u64 mask_change(int how, u64 mask)
{
	u64 old = 0;

	signal_raw_mask(how, mask, &old);
	return old;
}

u64 signals_block(void)
{
	return mask_change(SIG_SETMASK, ~(u64)0);
}

void signals_restore(u64 mask)
{
	mask_change(SIG_SETMASK, mask);
}

u64 signals_lock(struct mutex *m)
{
	for (;;) {
		u64 mask = signals_block();
		u32 seen = atomic32_read(&m->state); /* stale: one more turn, or the time-out */

		if (mutex_trylock(m))
			return mask;
		signals_restore(mask);
		/* The holder does not know that we sleep, hence the time. */
		sync_wait32_timeout(&m->state, seen, LOCK_WAIT_NS);
	}
}

void signals_unlock(struct mutex *m, u64 mask)
{
	mutex_unlock(m);
	signals_restore(mask);
}

static u64 set_to_mask(const sigset_t *set)
{
	u64 mask;

	memcpy(&mask, set, MASK_BYTES);
	return mask;
}

/* Only the kernel's part: the ucontext_t in a signal frame ends before the rest of libc's sigset_t. */
static void mask_to_set(u64 mask, sigset_t *set)
{
	memcpy(set, &mask, MASK_BYTES);
}

static u64 context_mask(const ucontext_t *uc)
{
	return set_to_mask(&uc->uc_sigmask);
}

bool signals_active(void)
{
	/* A stale 0 is only possible before the program has a second thread. */
	return atomic32_read(&process_pid) != 0;
}

bool signals_in_vfork_child(void)
{
	u32 pid = atomic32_read(&process_pid);

	return pid != 0 && (u32)sys0(SYS_getpid) != pid;
}

/* What a mask given by the program may still contain. */
static u64 mask_allowed(u64 mask)
{
	return signals_active() ? mask & ~SIGNAL_RAW_NEVER_BLOCKED : mask;
}

/* SIG_DFL or SIG_IGN: nothing to call. */
static bool action_is_plain(const struct signal_raw_action *act)
{
	return act->handler <= (uintptr_t)SIG_IGN;
}

/* ---- the record of the two ---- */

static struct record *record_of(int sig)
{
	return sig == SIGBUS ? &records[0] : sig == SIGSYS ? &records[1] : NULL;
}

static bool signal_is_owned(int sig)
{
	struct record *r = record_of(sig);

	return r && atomic32_load_acquire(&r->owned);
}

static void record_read(struct record *r, struct signal_raw_action *act)
{
	u64 seq;

	do {
		/* A writer is never interrupted: odd lasts as long as four stores, or a time slice. */
		while ((seq = atomic64_load_acquire(&r->seq)) & 1)
			atomic_pause();
		act->handler = atomic64_load_acquire(&r->handler);
		act->flags = atomic64_load_acquire(&r->flags);
		act->restorer = atomic64_load_acquire(&r->restorer);
		act->mask = atomic64_load_acquire(&r->mask);
		/* Relaxed: the acquires above keep this load last. */
	} while (atomic64_read(&r->seq) != seq);
}

static void record_write_locked(struct record *r, const struct signal_raw_action *act)
{
	u64 seq = atomic64_read(&r->seq);

	check(mutex_is_locked(&record_lock));
	check((seq & 1) == 0);
	atomic64_set(&r->seq, seq + 1);
	atomic64_store_release(&r->handler, act->handler);
	atomic64_store_release(&r->flags, act->flags & KERNEL_SA_FLAGS);
	atomic64_store_release(&r->restorer, act->restorer);
	atomic64_store_release(&r->mask, act->mask & ~MASK_NEVER);
	atomic64_store_release(&r->seq, seq + 2);
}

/* `old` is a copy of ours, so nothing here can fault in the window. */
static void record_exchange(struct record *r, const struct signal_raw_action *act, struct signal_raw_action *old)
{
	u64 mask;

	/* A vfork child asks (posix_spawn does, for each signal) and changes nothing: exec resets its own anyway. */
	if (!act || signals_in_vfork_child()) {
		record_read(r, old);
		return;
	}
	mask = signals_lock(&record_lock);
	record_read(r, old);
	record_write_locked(r, act);
	signals_unlock(&record_lock, mask);
}

/* As the kernel takes a handler to call it: SA_RESETHAND gives it up, once. */
static void record_take(struct record *r, struct signal_raw_action *act)
{
	struct signal_raw_action reset;
	u64 mask;

	record_read(r, act);
	if (!(act->flags & (unsigned int)SA_RESETHAND) || action_is_plain(act) || signals_in_vfork_child())
		return;
	mask = signals_lock(&record_lock);
	record_read(r, act);
	reset = *act;
	if (act->flags & (unsigned int)SA_RESETHAND)
		reset.handler = (uintptr_t)SIG_DFL;
	record_write_locked(r, &reset);
	signals_unlock(&record_lock, mask);
}

/* ---- set-up ---- */

/* Handlers that constructors before ours installed: their masks may name the two. */
static void strip_installed_masks(void)
{
	struct signal_raw_action act;

	for (int sig = 1; sig <= SIGNAL_MAX; sig++) {
		if (signal_raw_action(sig, NULL, &act) != 0 || action_is_plain(&act))
			continue;
		if (!(act.mask & SIGNAL_RAW_NEVER_BLOCKED))
			continue;
		act.mask &= ~SIGNAL_RAW_NEVER_BLOCKED;
		must(signal_raw_action(sig, &act, NULL) == 0);
	}
}

void signals_init(void)
{
	atomic32_set(&process_pid, (u32)sys0(SYS_getpid));
	mask_change(SIG_UNBLOCK, SIGNAL_RAW_NEVER_BLOCKED); /* a blocked signal is inherited over exec */
	strip_installed_masks();
}

/* Not in signals_init(), which may run inside the first malloc: a lookup that fails allocates. */
__attribute__((constructor)) static void look_up_real_functions(void)
{
	real_function(&real_sigsuspend, "sigsuspend");
	real_function(&real_ppoll, "ppoll");
	real_function(&real_pselect, "pselect");
	real_function(&real_epoll_pwait, "epoll_pwait");
	real_function(&real_epoll_pwait2, "epoll_pwait2");
}

int signals_own(int sig, signal_raw_fn handler, u64 mask, int flags)
{
	struct record *r = record_of(sig);
	struct signal_raw_action old, ours = {
		.handler = (uintptr_t)handler,
		.flags = (unsigned int)flags | SA_SIGINFO | SA_ONSTACK,
		.mask = mask,
	};
	u64 saved;
	long ret;

	must(r);
	must(signals_active());
	saved = signals_lock(&record_lock);
	ret = signal_raw_action(sig, NULL, &old);
	if (ret == 0 && !atomic32_read(&r->owned)) {
		record_write_locked(r, &old); /* before ours is installed, as that one reads it */
		atomic32_store_release(&r->owned, 1);
	}
	if (ret == 0)
		ret = signal_raw_action(sig, &ours, NULL);
	signals_unlock(&record_lock, saved);
	return (int)ret;
}

void signals_fork_begin(void)
{
	mutex_lock(&record_lock);
}

void signals_fork_end(bool child)
{
	if (child && signals_active())
		atomic32_set(&process_pid, (u32)sys0(SYS_getpid));
	mutex_unlock(&record_lock);
}

/* ---- a signal that is not ours ---- */

/* Raised by the thread's own doing, which no program can ignore. */
static bool signal_is_forced(const siginfo_t *info)
{
	return info->si_code > 0 && !(info->si_signo == SIGBUS && info->si_code == BUS_MCEERR_AO);
}

static void chain_to_default(int sig, siginfo_t *info)
{
	struct signal_raw_action dfl = { .handler = (uintptr_t)SIG_DFL };
	long pid = sys0(SYS_getpid);
	int tid = os_gettid();

	must(signal_raw_action(sig, &dfl, NULL) == 0);
	/* The access that raised a SIGBUS is repeated on return; a call that raised SIGSYS lies behind. */
	if (sig == SIGBUS && signal_is_forced(info))
		return;
	/* A thread may send itself any siginfo, so a core dump tells the true sender. */
	if (sys4(SYS_rt_tgsigqueueinfo, pid, tid, sig, info) != 0)
		sys3(SYS_tgkill, pid, tid, sig);
}

bool signals_chain(int sig, siginfo_t *info, void *ucontext)
{
	ucontext_t *uc = ucontext;
	struct record *r = record_of(sig);
	struct signal_raw_action act;
	u64 mask;

	must(r);
	record_take(r, &act);
	if (act.handler == (uintptr_t)SIG_IGN && !signal_is_forced(info))
		return true;
	if (act.handler == (uintptr_t)SIG_IGN || act.handler == (uintptr_t)SIG_DFL) {
		chain_to_default(sig, info);
		return false;
	}
	/*
	 * The mask is the interrupted thread's and sa_mask, as the kernel has it, not that of our handler. The signal
	 * itself is one of the two, so it stays open with or without SA_NODEFER. Nothing of ours is pending here: the
	 * handler may leave by siglongjmp. x86-64 passes all three arguments to every handler, SA_SIGINFO or not.
	 */
	mask = mask_change(SIG_SETMASK, (context_mask(uc) | act.mask) & ~SIGNAL_RAW_NEVER_BLOCKED);
	((signal_raw_fn)act.handler)(sig, info, uc);
	mask_change(SIG_SETMASK, mask);
	mask_to_set(context_mask(uc) & ~SIGNAL_RAW_NEVER_BLOCKED, &uc->uc_sigmask);
	return true;
}

/* ---- what the program asks, by libc or by a trapped call ---- */

/* Context: the kernel's handler, on our alternate stack, with the mask as for the program's own. */
void route_deliver(int sig, siginfo_t *info, void *ucontext, const struct signal_raw_action *act)
{
	ucontext_t *uc = ucontext;

	if (sig == SIGSEGV && info->si_code == SEGV_ACCERR && signals_unmapped && signals_unmapped(info->si_addr))
		info->si_code = SEGV_MAPERR;
	/* One that interrupts a handler stays on this very stack. A thread of libc's own has no other. */
	if ((act->flags & SA_ONSTACK) || threads_on_altstack((uintptr_t)uc->uc_mcontext.gregs[REG_RSP]) ||
	    !threads_on_altstack((uintptr_t)__builtin_frame_address(0)))
		((signal_raw_fn)act->handler)(sig, info, uc);
	else
		frame_move(sig, info, uc, act);
}

static bool wants_route(int sig, const struct signal_raw_action *act, bool routed)
{
	if (action_is_plain(act))
		return false;
	/* SIGSEGV at all times, for what it says of holes. */
	return sig == SIGSEGV || (routed && !(act->flags & SA_ONSTACK));
}

static long install_action(int sig, const struct signal_raw_action *act, struct signal_raw_action *old, bool routed)
{
	struct signal_raw_action with = *act;

	with.flags &= KERNEL_SA_FLAGS;
	if (!(with.flags & SA_RESTORER)) {
		with.flags |= SA_RESTORER;
		with.restorer = (uintptr_t)signal_raw_restorer;
	}
	if (wants_route(sig, &with, routed)) {
		route_install(&with);
		with.flags |= routed ? SA_ONSTACK : 0;
	}
	return signal_raw_action(sig, &with, old);
}

static long change_action(int sig, const struct signal_raw_action *act, struct signal_raw_action *old)
{
	bool routed = atomic32_load_acquire(&routing);
	struct signal_raw_action allowed;
	long ret;

	if (signal_is_owned(sig)) {
		record_exchange(record_of(sig), act, old);
		return 0;
	}
	if (act) {
		allowed = *act;
		allowed.mask = mask_allowed(allowed.mask);
		ret = install_action(sig, &allowed, old, routed);
		if (ret == 0 && !routed && atomic32_load_acquire(&routing))
			must(install_action(sig, &allowed, NULL, true) == 0); /* adopted meanwhile */
	} else {
		ret = signal_raw_action(sig, NULL, old);
	}
	if (ret == 0)
		route_resolve(old);
	return ret;
}

void signals_route(void)
{
	struct signal_raw_action act;

	atomic32_store_release(&routing, 1);
	for (int sig = 1; sig <= SIGNAL_MAX; sig++) {
		if (signal_is_owned(sig) || signal_raw_action(sig, NULL, &act) != 0)
			continue;
		route_resolve(&act);
		if (wants_route(sig, &act, true))
			must(install_action(sig, &act, NULL, true) == 0);
	}
}

static long call_sigaction(const long args[6])
{
	struct signal_raw_action act, old = { 0 };
	long ret;

	if (args[3] != MASK_BYTES)
		return -EINVAL;
	if (args[1] && signals_fetch(&act, (uintptr_t)args[1], sizeof(act)) != 0)
		return -EFAULT;
	ret = change_action((int)args[0], args[1] ? &act : NULL, &old);
	if (ret == 0 && args[2] && signals_store((uintptr_t)args[2], &old, sizeof(old)) != 0)
		return -EFAULT;
	return ret;
}

/* SIGSYS has an empty sa_mask and SA_NODEFER: the thread's mask is the one that sigreturn restores. */
static long call_sigprocmask(const long args[6], ucontext_t *uc)
{
	u64 old = context_mask(uc), mask;

	if (args[3] != MASK_BYTES)
		return -EINVAL;
	if (args[1]) {
		if (signals_fetch(&mask, (uintptr_t)args[1], MASK_BYTES) != 0)
			return -EFAULT;
		mask &= ~MASK_NEVER;
		if ((int)args[0] == SIG_BLOCK)
			mask = old | mask;
		else if ((int)args[0] == SIG_UNBLOCK)
			mask = old & ~mask;
		else if ((int)args[0] != SIG_SETMASK)
			return -EINVAL;
		mask_to_set(mask_allowed(mask), &uc->uc_sigmask);
	}
	if (args[2] && signals_store((uintptr_t)args[2], &old, MASK_BYTES) != 0)
		return -EFAULT;
	return 0;
}

static long call_sigaltstack(const long args[6], ucontext_t *uc)
{
	stack_t ss, old;
	long ret;

	if (args[0] && signals_fetch(&ss, (uintptr_t)args[0], sizeof(ss)) != 0)
		return -EFAULT;
	ret = threads_altstack(args[0] ? &ss : NULL, &old, (uintptr_t)uc->uc_mcontext.gregs[REG_RSP], uc);
	if (ret == 0 && args[1] && signals_store((uintptr_t)args[1], &old, sizeof(old)) != 0)
		return -EFAULT;
	return ret;
}

/* The program's handlers run on top of ours; the call ends with -EINTR after the first, and sigreturn does the rest. */
static long call_sigsuspend(const long args[6])
{
	u64 mask;

	if (args[1] != MASK_BYTES)
		return -EINVAL;
	if (signals_fetch(&mask, (uintptr_t)args[0], MASK_BYTES) != 0)
		return -EFAULT;
	mask = mask_allowed(mask);
	return sys2(SYS_rt_sigsuspend, &mask, MASK_BYTES);
}

bool signals_call(long nr, const long args[6], void *ucontext, long *result)
{
	switch (nr) {
	case SYS_rt_sigprocmask:
		*result = call_sigprocmask(args, ucontext);
		return true;
	case SYS_rt_sigaction:
		*result = call_sigaction(args);
		return true;
	case SYS_sigaltstack:
		*result = call_sigaltstack(args, ucontext);
		return true;
	case SYS_rt_sigsuspend:
		*result = call_sigsuspend(args);
		return true;
	default:
		return false;
	}
}

/* ---- libc's functions ---- */

static int set_errno(long ret)
{
	if (ret >= 0)
		return 0;
	errno = (int)-ret;
	return -1;
}

struct change {
	int sig;
	bool is_set;
	struct signal_raw_action act, old;
};

/* On copies: the caller's lie on its stack. */
static long change_outside(void *arg)
{
	struct change change = *(const struct change *)arg;
	long ret = change_action(change.sig, change.is_set ? &change.act : NULL, &change.old);

	((struct change *)arg)->old = change.old;
	return ret;
}

EXPORT int sigaction(int sig, const struct sigaction *restrict act, struct sigaction *restrict old)
{
	struct change change = { .sig = sig, .is_set = act != NULL };
	struct signal_raw_action was;
	long ret;

	if (sig <= 0 || sig > SIGNAL_MAX || (MASK_LIBC & signal_raw_bit(sig)))
		return set_errno(-EINVAL);
	if (act)
		change.act = (struct signal_raw_action){
			.handler = (uintptr_t)act->sa_handler,
			.flags = (unsigned int)act->sa_flags | SA_RESTORER,
			.restorer = (uintptr_t)signal_raw_restorer,
			.mask = set_to_mask(&act->sa_mask),
		};
	ret = threads_call_outside(change_outside, &change);
	was = change.old;
	if (ret == 0 && old) {
		*old = (struct sigaction){ .sa_flags = (int)was.flags };
		old->sa_handler = (__sighandler_t)was.handler;
		old->sa_restorer = (void (*)(void))was.restorer;
		mask_to_set(was.mask, &old->sa_mask);
	}
	return set_errno(ret);
}

int __sigaction(int sig, const struct sigaction *act, struct sigaction *old);
EXPORT int __sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	return sigaction(sig, act, old);
}

static __sighandler_t install(int sig, __sighandler_t handler, u64 mask, int flags)
{
	struct sigaction act = { .sa_flags = flags }, old;

	act.sa_handler = handler;
	mask_to_set(mask, &act.sa_mask);
	if (handler == SIG_ERR) {
		errno = EINVAL;
		return SIG_ERR;
	}
	return sigaction(sig, &act, &old) < 0 ? SIG_ERR : old.sa_handler;
}

EXPORT __sighandler_t signal(int sig, __sighandler_t handler)
{
	if (sig <= 0 || sig > SIGNAL_MAX) {
		errno = EINVAL;
		return SIG_ERR;
	}
	return install(sig, handler, signal_raw_bit(sig),
		       atomic64_read(&interrupting) & signal_raw_bit(sig) ? 0 : SA_RESTART);
}

__sighandler_t bsd_signal(int sig, __sighandler_t handler);
EXPORT __sighandler_t bsd_signal(int sig, __sighandler_t handler)
{
	return signal(sig, handler);
}

EXPORT __sighandler_t __sysv_signal(int sig, __sighandler_t handler)
{
	return install(sig, handler, 0, (int)(unsigned int)SA_RESETHAND | SA_NODEFER);
}

EXPORT __sighandler_t sysv_signal(int sig, __sighandler_t handler)
{
	return __sysv_signal(sig, handler);
}

EXPORT int siginterrupt(int sig, int interrupt)
{
	struct sigaction act;

	if (sigaction(sig, NULL, &act) < 0)
		return -1;
	if (interrupt) {
		atomic64_fetch_or(&interrupting, signal_raw_bit(sig));
		act.sa_flags &= ~SA_RESTART;
	} else {
		atomic64_fetch_and(&interrupting, ~signal_raw_bit(sig));
		act.sa_flags |= SA_RESTART;
	}
	return sigaction(sig, &act, NULL);
}

static long change_mask(int how, const sigset_t *set, sigset_t *old)
{
	u64 mask = 0, was = 0;
	long ret;

	if (set) {
		mask = set_to_mask(set);
		if (how != SIG_UNBLOCK)
			mask = mask_allowed(mask & ~MASK_LIBC);
	}
	ret = sys4(SYS_rt_sigprocmask, how, set ? &mask : NULL, &was, MASK_BYTES);
	if (ret == 0 && old)
		mask_to_set(was, old);
	return ret;
}

EXPORT int sigprocmask(int how, const sigset_t *restrict set, sigset_t *restrict old)
{
	return set_errno(change_mask(how, set, old));
}

EXPORT int pthread_sigmask(int how, const sigset_t *restrict set, sigset_t *restrict old)
{
	return (int)-change_mask(how, set, old);
}

EXPORT int sigaltstack(const stack_t *restrict ss, stack_t *restrict old)
{
	stack_t asked, was;
	long ret;

	if (ss)
		asked = *ss;
	ret = threads_altstack(ss ? &asked : NULL, &was, (uintptr_t)__builtin_frame_address(0), NULL);
	if (ret == 0 && old)
		*old = was;
	return set_errno(ret);
}

/* System V's: each is a sigaction and a sigprocmask. */
static int mask_one(int how, int sig, sigset_t *old)
{
	sigset_t set = { 0 };

	if (sig <= 0 || sig > SIGNAL_MAX)
		return set_errno(-EINVAL);
	mask_to_set(signal_raw_bit(sig), &set);
	return sigprocmask(how, &set, old);
}

EXPORT int sighold(int sig)
{
	return mask_one(SIG_BLOCK, sig, NULL);
}

EXPORT int sigrelse(int sig)
{
	return mask_one(SIG_UNBLOCK, sig, NULL);
}

EXPORT int sigignore(int sig)
{
	return install(sig, SIG_IGN, 0, 0) == SIG_ERR ? -1 : 0;
}

EXPORT __sighandler_t sigset(int sig, __sighandler_t handler)
{
	struct sigaction act;
	sigset_t old = { 0 };

	if (handler == SIG_HOLD) {
		if (mask_one(SIG_BLOCK, sig, &old) < 0 || sigaction(sig, NULL, &act) < 0)
			return SIG_ERR;
	} else {
		act.sa_handler = install(sig, handler, 0, 0);
		if (act.sa_handler == SIG_ERR || mask_one(SIG_UNBLOCK, sig, &old) < 0)
			return SIG_ERR;
	}
	return set_to_mask(&old) & signal_raw_bit(sig) ? SIG_HOLD : act.sa_handler;
}

/*
 * Calls with a temporary mask are cancellation points, so the real ones do the waiting; only the mask is replaced. What
 * comes another way (the checked variants of fortified programs, sigpause) is the seccomp net's.
 */
static const sigset_t *set_allowed(const sigset_t *set, sigset_t *copy)
{
	if (!set)
		return NULL;
	*copy = (sigset_t){ 0 };
	mask_to_set(mask_allowed(set_to_mask(set)), copy);
	return copy;
}

EXPORT int sigsuspend(const sigset_t *set)
{
	int (*real)(const sigset_t *) =
		(int (*)(const sigset_t *))real_function(&real_sigsuspend, "sigsuspend");
	sigset_t copy;

	return real(set_allowed(set, &copy));
}

EXPORT int ppoll(struct pollfd *fds, nfds_t nr, const struct timespec *timeout, const sigset_t *set)
{
	int (*real)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *) =
		(int (*)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *))real_function(&real_ppoll,
													  "ppoll");
	sigset_t copy;

	return real(fds, nr, timeout, set_allowed(set, &copy));
}

EXPORT int pselect(int nr, fd_set *restrict in, fd_set *restrict out, fd_set *restrict except,
		   const struct timespec *restrict timeout, const sigset_t *restrict set)
{
	int (*real)(int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *) =
		(int (*)(int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *))real_function(
			&real_pselect, "pselect");
	sigset_t copy;

	return real(nr, in, out, except, timeout, set_allowed(set, &copy));
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int nr, int timeout, const sigset_t *set)
{
	int (*real)(int, struct epoll_event *, int, int, const sigset_t *) =
		(int (*)(int, struct epoll_event *, int, int, const sigset_t *))real_function(&real_epoll_pwait,
											     "epoll_pwait");
	sigset_t copy;

	return real(epfd, events, nr, timeout, set_allowed(set, &copy));
}

int epoll_pwait2(int epfd, struct epoll_event *events, int nr, const struct timespec *timeout, const sigset_t *set);
EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int nr, const struct timespec *timeout,
			const sigset_t *set)
{
	int (*real)(int, struct epoll_event *, int, const struct timespec *, const sigset_t *) =
		(int (*)(int, struct epoll_event *, int, const struct timespec *, const sigset_t *))real_function(
			&real_epoll_pwait2, "epoll_pwait2");
	sigset_t copy;

	if (!real)
		return set_errno(-ENOSYS); /* glibc before 2.35 */
	return real(epfd, events, nr, timeout, set_allowed(set, &copy));
}
