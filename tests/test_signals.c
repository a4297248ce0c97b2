// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <spawn.h>
#include <sys/resource.h>

#include "preload/routes.h"
#include "signal_rig.h"

/* System V's calls are old, and wrapped all the same. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

extern char **environ;

static sigset_t full;
static char *beyond; /* a page of a file that is empty: a touch is a SIGBUS that nobody can serve */
static sigjmp_buf escape;
static struct atomic32 calls;
static siginfo_t seen_info;
static u64 seen_mask;

static void touch(void)
{
	*(char *)__atomic_load_n(&beyond, __ATOMIC_RELAXED) = 1;
}

static void note(int sig)
{
	(void)sig;
	seen_mask = rig_mask();
	atomic32_add_return(&calls, 1);
}

static void note_info(int sig, siginfo_t *info, void *ucontext)
{
	expect(ucontext);
	seen_info = *info;
	note(sig);
}

static void jump(int sig, siginfo_t *info, void *ucontext)
{
	note_info(sig, info, ucontext);
	siglongjmp(escape, 1);
}

static void install(int sig, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction act = { .sa_flags = SA_SIGINFO | flags };

	act.sa_sigaction = handler;
	sigemptyset(&act.sa_mask);
	expect_eq(sigaction(sig, &act, NULL), 0);
}

static uintptr_t kernel_handler(int sig)
{
	struct signal_raw_action act;

	expect_eq(signal_raw_action(sig, NULL, &act), 0);
	return act.handler;
}

static void open_beyond(void)
{
	int fd = memfd_create("beyond", MFD_CLOEXEC);

	expect(fd >= 0);
	beyond = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	expect(beyond != MAP_FAILED);
	close(fd);
}

/* ---- masks ---- */

static void expect_blocked(int sig, bool blocked)
{
	u64 mask = rig_mask();

	expect_eq(mask & SIGNAL_RAW_NEVER_BLOCKED, 0);
	expect_eq(!!(mask & signal_raw_bit(sig)), blocked);
}

static void test_masks_are_stripped(void)
{
	sigset_t old, now, bus;

	expect_eq(sigprocmask(SIG_BLOCK, &full, &old), 0);
	expect_blocked(SIGUSR1, true);
	expect(!sigismember(&old, SIGUSR1));
	expect_eq(sigprocmask(SIG_SETMASK, &old, &now), 0);
	expect_blocked(SIGUSR1, false);
	expect(sigismember(&now, SIGUSR1) == 1);

	expect_eq(pthread_sigmask(SIG_SETMASK, &full, &old), 0);
	expect_blocked(SIGUSR1, true);
	expect_eq(pthread_sigmask(SIG_UNBLOCK, &full, NULL), 0);
	expect_blocked(SIGUSR1, false);
	expect_eq(pthread_sigmask(77, &full, NULL), EINVAL);
	errno = 0;
	expect_eq(sigprocmask(77, &full, NULL), -1);
	expect_eq(errno, EINVAL);

	sigemptyset(&bus);
	sigaddset(&bus, SIGBUS);
	sigaddset(&bus, SIGSYS);
	expect_eq(sigprocmask(SIG_BLOCK, &bus, NULL), 0);
	expect_blocked(SIGUSR1, false);
	expect_eq(sighold(SIGBUS), 0);
	expect_eq(sighold(SIGUSR1), 0);
	expect_blocked(SIGUSR1, true);
	expect(sigset(SIGUSR1, SIG_DFL) == SIG_HOLD);
	expect_blocked(SIGUSR1, false);
	expect(sigset(SIGSYS, SIG_HOLD) == SIG_DFL);
	expect_eq(sigrelse(SIGBUS), 0);
	expect_eq(sighold(0), -1);
	expect_blocked(SIGUSR1, false);
}

static void test_handler_masks_are_stripped(void)
{
	struct sigaction act = { .sa_flags = 0 }, old;

	act.sa_handler = note;
	act.sa_mask = full;
	expect_eq(sigaction(SIGUSR1, &act, NULL), 0);
	atomic32_set(&calls, 0);
	raise(SIGUSR1);
	expect_eq(atomic32_read(&calls), 1);
	expect(seen_mask & signal_raw_bit(SIGUSR2));
	expect_eq(seen_mask & SIGNAL_RAW_NEVER_BLOCKED, 0);
	expect_eq(sigaction(SIGUSR1, NULL, &old), 0);
	expect(old.sa_handler == note);
	expect(sigismember(&old.sa_mask, SIGUSR2) == 1);
	expect(signal(SIGUSR1, SIG_DFL) == note);
}

static void *send_sigbus(void *arg)
{
	usleep(50000);
	expect_eq(pthread_kill(*(pthread_t *)arg, SIGBUS), 0);
	return NULL;
}

/* A temporary mask of all signals: SIGBUS ends the wait nevertheless. */
static void test_waits_are_stripped(void)
{
	pthread_t self = pthread_self(), sender;
	struct pollfd none = { .fd = -1 };
	struct timespec long_time = { .tv_sec = 20 };

	install(SIGBUS, note_info, 0);
	for (int i = 0; i < 3; i++) {
		expect_eq(pthread_create(&sender, NULL, send_sigbus, &self), 0);
		errno = 0;
		if (i == 0)
			expect_eq(sigsuspend(&full), -1);
		else if (i == 1)
			expect_eq(ppoll(&none, 1, &long_time, &full), -1);
		else
			expect_eq(pselect(0, NULL, NULL, NULL, &long_time, &full), -1);
		expect_eq(errno, EINTR);
		expect_eq(pthread_join(sender, NULL), 0);
		expect_eq(seen_info.si_code, SI_TKILL);
	}
	signal(SIGBUS, SIG_DFL);
}

/* ---- dispositions ---- */

static void test_ours_cannot_be_taken(void)
{
	struct sigaction act = { .sa_flags = 0 };

	act.sa_handler = SIG_IGN;
	for (int i = 0; i < 2; i++) {
		int sig = i ? SIGSYS : SIGBUS;
		uintptr_t ours = i ? (uintptr_t)rig_on_sigsys : (uintptr_t)rig_on_sigbus;

		expect(signal(sig, SIG_IGN) == SIG_DFL);
		expect_eq(kernel_handler(sig), ours);
		expect(signal(sig, note) == SIG_IGN);
		expect_eq(kernel_handler(sig), ours);
		expect(sysv_signal(sig, SIG_DFL) == note);
		expect_eq(kernel_handler(sig), ours);
		expect_eq(sigaction(sig, &act, NULL), 0);
		expect_eq(kernel_handler(sig), ours);
		expect_eq(sigignore(sig), 0);
		expect(sigset(sig, SIG_DFL) == SIG_IGN);
		expect_eq(kernel_handler(sig), ours);
	}
	/* Others go to the kernel, and libc's own errors stay. */
	expect(signal(SIGUSR1, note) == SIG_DFL);
	expect_eq(kernel_handler(SIGUSR1), (uintptr_t)note);
	expect(signal(SIGUSR1, SIG_DFL) == note);
	expect(signal(SIGKILL, note) == SIG_ERR);
	expect(signal(0, note) == SIG_ERR);
	expect(signal(65, note) == SIG_ERR);
	expect_eq(sigaction(32, NULL, &act), -1);
	expect_eq(errno, EINVAL);
}

static void test_round_trips(void)
{
	static const int flags[] = { 0, SA_SIGINFO, (int)(unsigned int)SA_RESETHAND,
				     SA_NODEFER | SA_RESTART | SA_ONSTACK };
	static const int sigs[] = { SIGBUS, SIGSYS, SIGUSR2 };

	for (size_t s = 0; s < ARRAY_SIZE(sigs); s++) {
		for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
			struct sigaction act = { .sa_flags = flags[i] }, old;

			act.sa_handler = note;
			sigemptyset(&act.sa_mask);
			sigaddset(&act.sa_mask, SIGUSR1);
			expect_eq(sigaction(sigs[s], &act, NULL), 0);
			memset(&old, 0xff, sizeof(old));
			expect_eq(sigaction(sigs[s], NULL, &old), 0);
			expect(old.sa_handler == note);
			expect_eq(old.sa_flags & ~0x04000000, flags[i]);
			expect(sigismember(&old.sa_mask, SIGUSR1) == 1);
			expect(sigismember(&old.sa_mask, SIGUSR2) == 0);
		}
		expect(signal(sigs[s], SIG_DFL) == note);
	}
	expect(signal(SIGBUS, note) == SIG_DFL);
	expect_eq(siginterrupt(SIGBUS, 1), 0);
	expect(signal(SIGBUS, SIG_DFL) == note);
}

/* Two dispositions, each with its own flags and mask; nobody may see a mixture. */
static struct atomic32 stop;

static void set_pair(struct sigaction *act, int which)
{
	*act = (struct sigaction){ .sa_flags = which ? SA_NODEFER : SA_RESTART };
	act->sa_handler = which ? note : SIG_IGN;
	sigaddset(&act->sa_mask, which ? SIGUSR1 : SIGUSR2);
}

static void *swap_dispositions(void *arg)
{
	struct sigaction act, old;

	for (int i = 0; !atomic32_load_acquire(&stop); i++) {
		set_pair(&act, i & 1);
		expect_eq(sigaction(SIGBUS, &act, i & 2 ? NULL : &old), 0);
	}
	return arg;
}

static void test_dispositions_are_not_torn(void)
{
	struct sigaction act;
	pthread_t threads[2];

	atomic32_set(&stop, 0);
	set_pair(&act, 0);
	expect_eq(sigaction(SIGBUS, &act, NULL), 0);
	for (int i = 0; i < 2; i++)
		expect_eq(pthread_create(&threads[i], NULL, swap_dispositions, NULL), 0);
	for (int i = 0; i < 20000; i++) {
		int which;

		expect_eq(sigaction(SIGBUS, NULL, &act), 0);
		which = act.sa_handler == note;
		expect(which || act.sa_handler == SIG_IGN);
		expect_eq(act.sa_flags & ~0x04000000, which ? SA_NODEFER : SA_RESTART);
		expect_eq(sigismember(&act.sa_mask, SIGUSR1), which);
		expect_eq(sigismember(&act.sa_mask, SIGUSR2), !which);
		if (i % 16 == 0)
			raise(SIGBUS);
	}
	atomic32_store_release(&stop, 1);
	for (int i = 0; i < 2; i++)
		expect_eq(pthread_join(threads[i], NULL), 0);
	signal(SIGBUS, SIG_DFL);
}

/* ---- signals_chain() ---- */

static void chain_faults(int nr)
{
	install(SIGBUS, jump, 0);
	atomic32_set(&calls, 0);
	for (int i = 0; i < nr; i++) {
		if (sigsetjmp(escape, 1) == 0) {
			touch();
			abort(); /* not reached */
		}
		expect(seen_info.si_addr == beyond);
		expect_eq(seen_info.si_code, BUS_ADRERR);
		expect_eq(rig_mask(), 0);
	}
	expect_eq(atomic32_read(&calls), nr);
	signal(SIGBUS, SIG_DFL);
}

static void test_chain_fault_and_jump(void)
{
	chain_faults(1000);
}

static void test_chain_mask_and_reset(void)
{
	struct sigaction act = { .sa_flags = (int)(unsigned int)SA_RESETHAND }, old;
	sigset_t hup;

	act.sa_handler = note;
	sigaddset(&act.sa_mask, SIGUSR1);
	sigaddset(&act.sa_mask, SIGSYS);
	sigemptyset(&hup);
	sigaddset(&hup, SIGHUP);
	sigprocmask(SIG_BLOCK, &hup, NULL);
	expect_eq(sigaction(SIGBUS, &act, NULL), 0);
	atomic32_set(&calls, 0);
	raise(SIGBUS);
	expect_eq(atomic32_read(&calls), 1);
	expect_eq(seen_mask, signal_raw_bit(SIGUSR1) | signal_raw_bit(SIGHUP));
	expect_eq(rig_mask(), signal_raw_bit(SIGHUP));
	sigprocmask(SIG_UNBLOCK, &hup, NULL);
	expect_eq(sigaction(SIGBUS, NULL, &old), 0);
	expect(old.sa_handler == SIG_DFL);
	expect_eq(old.sa_flags & (int)(unsigned int)SA_RESETHAND, (int)(unsigned int)SA_RESETHAND);

	signal(SIGSYS, note);
	raise(SIGSYS);
	expect_eq(atomic32_read(&calls), 2);
	signal(SIGSYS, SIG_DFL);
}

static void ignore_sent(void)
{
	signal(SIGBUS, SIG_IGN);
	signal(SIGSYS, SIG_IGN);
	for (int i = 0; i < 100; i++) {
		expect_eq(kill(getpid(), SIGBUS), 0);
		expect_eq(raise(SIGSYS), 0);
	}
	_exit(42);
}

static void ignore_fault(void)
{
	signal(SIGBUS, SIG_IGN);
	touch();
}

static void send_bus(void)
{
	kill(getpid(), SIGBUS);
}

static void send_sys(void)
{
	raise(SIGSYS);
}

static void reset_twice(void)
{
	install(SIGBUS, note_info, (int)(unsigned int)SA_RESETHAND);
	atomic32_set(&calls, 0);
	raise(SIGBUS);
	if (atomic32_read(&calls) != 1)
		_exit(1);
	raise(SIGBUS);
}

static void test_default_actions(void)
{
	static const struct {
		void (*fn)(void);
		int sig;
	} deaths[] = {
		{ touch, SIGBUS },    { ignore_fault, SIGBUS }, { send_bus, SIGBUS },
		{ send_sys, SIGSYS }, { reset_twice, SIGBUS },
	};
	int status;

	for (size_t i = 0; i < ARRAY_SIZE(deaths); i++) {
		status = rig_in_child(deaths[i].fn);
		expect(WIFSIGNALED(status));
		expect_eq(WTERMSIG(status), deaths[i].sig);
	}
	status = rig_in_child(ignore_sent);
	expect(WIFEXITED(status));
	expect_eq(WEXITSTATUS(status), 42);
}

/* ---- children ---- */

static void test_vfork_child_changes_nothing(void)
{
	struct sigaction old;
	pid_t pid;
	int status;

	install(SIGBUS, note_info, 0);
	signal(SIGUSR1, note);
	pid = vfork();
	if (pid == 0) {
		struct sigaction child;
		bool good = signals_in_vfork_child();

		good &= (uintptr_t)signal(SIGBUS, SIG_DFL) == (uintptr_t)note_info;
		good &= sigaction(SIGBUS, NULL, &child) == 0 && child.sa_sigaction == note_info;
		good &= kernel_handler(SIGBUS) == (uintptr_t)rig_on_sigbus;
		good &= signal(SIGUSR1, SIG_DFL) == note && kernel_handler(SIGUSR1) == 0;
		good &= sigprocmask(SIG_SETMASK, &full, NULL) == 0 && !(rig_mask() & SIGNAL_RAW_NEVER_BLOCKED);
		_exit(good ? 42 : 1);
	}
	expect(pid > 0);
	expect_eq(waitpid(pid, &status, 0), pid);
	expect(WIFEXITED(status));
	expect_eq(WEXITSTATUS(status), 42);
	expect(!signals_in_vfork_child());
	expect_eq(sigaction(SIGBUS, NULL, &old), 0);
	expect(old.sa_sigaction == note_info);
	expect(signal(SIGUSR1, SIG_DFL) == note);
	signal(SIGBUS, SIG_DFL);
}

static void fork_again(void)
{
	int status;

	install(SIGBUS, note_info, 0);
	expect(!signals_in_vfork_child());
	status = rig_in_child(send_bus); /* its own record says note_info */
	expect(WIFEXITED(status));
	signal(SIGBUS, SIG_DFL);
	send_bus();
}

static void test_fork_child_has_its_own(void)
{
	int status;

	signal(SIGBUS, SIG_IGN);
	status = rig_in_child(fork_again);
	expect(WIFSIGNALED(status));
	expect_eq(WTERMSIG(status), SIGBUS);
	expect(signal(SIGBUS, SIG_DFL) == SIG_IGN);
}

/* ---- trapped calls ---- */

static void *block_all_and_fault(void *arg)
{
	u64 all = ~(u64)0;

	expect_eq(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8), 0);
	expect_eq(rig_mask() & SIGNAL_RAW_NEVER_BLOCKED, 0);
	raise(SIGBUS);
	return arg;
}

static void trapped_actions(void)
{
	struct signal_raw_action dfl = { .handler = (uintptr_t)SIG_DFL, .mask = ~(u64)0 }, old;

	install(SIGBUS, note_info, SA_RESTART);
	expect_eq(syscall(SYS_rt_sigaction, SIGBUS, &dfl, &old, 8), 0);
	expect_eq(old.handler, (uintptr_t)note_info);
	expect_eq(old.flags & ~0x04000000ul, SA_RESTART | SA_SIGINFO);
	expect_eq(kernel_handler(SIGBUS), (uintptr_t)rig_on_sigbus);
	expect_eq(syscall(SYS_rt_sigaction, SIGBUS, &old, &dfl, 8), 0);
	expect_eq(dfl.handler, (uintptr_t)SIG_DFL);
	old.mask = ~(u64)0;
	expect_eq(syscall(SYS_rt_sigaction, SIGUSR1, &old, NULL, 8), 0);
	expect_eq(signal_raw_action(SIGUSR1, NULL, &dfl), 0);
	expect_eq(dfl.mask & SIGNAL_RAW_NEVER_BLOCKED, 0);
	expect(dfl.mask & signal_raw_bit(SIGUSR2));
	errno = 0;
	expect_eq(syscall(SYS_rt_sigaction, SIGUSR1, &old, NULL, 16), -1);
	expect_eq(errno, EINVAL);
	expect_eq(syscall(SYS_rt_sigaction, SIGKILL, &old, NULL, 8), -1);
	expect_eq(errno, EINVAL);
}

static void trapped_masks(void)
{
	u64 mask = signal_raw_bit(SIGUSR1) | SIGNAL_RAW_NEVER_BLOCKED, old = 1;

	expect_eq(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &old, 8), 0);
	expect_eq(old, 0);
	expect_eq(rig_mask(), signal_raw_bit(SIGUSR1));
	mask = signal_raw_bit(SIGUSR2) | signal_raw_bit(SIGKILL);
	expect_eq(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &mask, &old, 8), 0);
	expect_eq(old, signal_raw_bit(SIGUSR1));
	expect_eq(rig_mask(), signal_raw_bit(SIGUSR1) | signal_raw_bit(SIGUSR2));
	/* A signal that is pending comes with the return from the trap. */
	install(SIGUSR1, note_info, 0);
	atomic32_set(&calls, 0);
	raise(SIGUSR1);
	expect_eq(atomic32_read(&calls), 0);
	mask = ~(u64)0;
	expect_eq(syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &mask, NULL, 8), 0);
	expect_eq(atomic32_read(&calls), 1);
	expect_eq(rig_mask(), 0);
	errno = 0;
	expect_eq(syscall(SYS_rt_sigprocmask, 77, &mask, NULL, 8), -1);
	expect_eq(errno, EINVAL);
	expect_eq(syscall(SYS_rt_sigprocmask, 77, NULL, &old, 8), 0);
}

static void trapped_rest(void)
{
	char name[] = "true", *path[] = { name, NULL };
	stack_t mine = { .ss_sp = malloc(65536), .ss_size = 65536 }, got;
	pthread_t self = pthread_self(), thread;
	u64 all = ~(u64)0;
	posix_spawnattr_t attr;
	int status;
	pid_t pid;

	expect_eq(syscall(SYS_sigaltstack, &mine, &got), 0);
	expect(got.ss_sp != mine.ss_sp);
	expect_eq(syscall(SYS_sigaltstack, NULL, &got), 0);
	expect(got.ss_sp == mine.ss_sp);
	expect_eq(sys2(SYS_sigaltstack, NULL, &got), 0);
	expect(got.ss_sp != mine.ss_sp);
	expect(got.ss_size > 200000);

	install(SIGBUS, note_info, 0);
	expect_eq(pthread_create(&thread, NULL, send_sigbus, &self), 0);
	errno = 0;
	expect_eq(syscall(SYS_rt_sigsuspend, &all, 8), -1);
	expect_eq(errno, EINTR);
	expect_eq(pthread_join(thread, NULL), 0);
	expect_eq(rig_mask(), 0);

	expect_eq(pthread_create(&thread, NULL, block_all_and_fault, NULL), 0);
	expect_eq(pthread_join(thread, NULL), 0);

	/* libc blocks all signals around these, and resets all handlers in the child. */
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigdefault(&attr, &full);
	posix_spawnattr_setsigmask(&attr, &full);
	for (int i = 0; i < 20; i++) {
		expect_eq(posix_spawnp(&pid, "true", NULL, &attr, path, environ), 0);
		expect_eq(waitpid(pid, &status, 0), pid);
	}
	expect(WIFEXITED(status));
	expect_eq(WEXITSTATUS(status), 0);
	expect_eq(kernel_handler(SIGBUS), (uintptr_t)rig_on_sigbus);
	atomic32_set(&calls, 0);
	raise(SIGBUS);
	expect_eq(atomic32_read(&calls), 1);
	free(mine.ss_sp);
}

static void under_filter(void)
{
	int err = rig_filter();

	if (err)
		_exit(77);
	trapped_actions();
	trapped_masks();
	trapped_rest();
	chain_faults(1000); /* siglongjmp restores the mask by a trapped call */
	expect(atomic32_read(&rig_traps) > 1000);
}

static void test_trapped_calls(void)
{
	int status = rig_in_child(under_filter);

	expect(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		printf("skipped: trapped calls, as there is no seccomp\n");
	else
		expect_eq(WEXITSTATUS(status), 0);
}

/* ---- before the shim is up ---- */

static void test_inactive_passes_through(void)
{
	struct sigaction act = { .sa_flags = 0 };
	sigset_t old;

	expect(!signals_active());
	expect_eq(sigprocmask(SIG_BLOCK, &full, &old), 0);
	expect(rig_mask() & signal_raw_bit(SIGBUS));
	act.sa_handler = note;
	act.sa_mask = full;
	expect_eq(sigaction(SIGUSR2, &act, NULL), 0);
	expect(signal(SIGSYS, SIG_IGN) == SIG_DFL);
	expect_eq(kernel_handler(SIGSYS), (uintptr_t)SIG_IGN);
	rig_start();
	/* What was there is found and put right. */
	expect(rig_mask() & signal_raw_bit(SIGUSR1));
	expect_eq(rig_mask() & SIGNAL_RAW_NEVER_BLOCKED, 0);
	expect_eq(sigprocmask(SIG_SETMASK, &old, NULL), 0);
	expect_eq(sigaction(SIGUSR2, NULL, &act), 0);
	expect(sigismember(&act.sa_mask, SIGUSR1) == 1);
	expect(sigismember(&act.sa_mask, SIGBUS) == 0);
	expect(signal(SIGUSR2, SIG_DFL) == note);
	expect(signal(SIGSYS, SIG_DFL) == SIG_IGN);
}

/* ---- after signals_route() ---- */

static struct atomic32 mixed, routed_calls;

/* Each of the two has its own mask: the kernel must never call one with the mask of the other. */
static void expect_masked(int sig)
{
	if (!(rig_mask() & signal_raw_bit(SIGUSR2)))
		atomic32_set(&mixed, 1);
	atomic32_add_return(&routed_calls, (u32)(sig == SIGUSR1));
}

static void expect_open(int sig)
{
	if (rig_mask() & signal_raw_bit(SIGUSR2))
		atomic32_set(&mixed, 1);
	atomic32_add_return(&routed_calls, (u32)(sig == SIGUSR1));
}

static void *swap_routes(void *arg)
{
	struct sigaction act, old;

	for (int i = 0; !atomic32_load_acquire(&stop); i++) {
		act = (struct sigaction){ .sa_flags = i & 1 ? SA_RESTART : SA_NODEFER };
		act.sa_handler = i & 1 ? expect_masked : expect_open;
		if (i & 1)
			sigaddset(&act.sa_mask, SIGUSR2);
		expect_eq(sigaction(SIGUSR1, &act, &old), 0);
		expect(old.sa_handler == expect_masked || old.sa_handler == expect_open);
		expect_eq(old.sa_flags & ~0x04000000, old.sa_handler == expect_masked ? SA_RESTART : SA_NODEFER);
		expect_eq(sigismember(&old.sa_mask, SIGUSR2), old.sa_handler == expect_masked);
	}
	return arg;
}

static void test_routes_are_not_torn(void)
{
	struct sigaction act = { .sa_flags = SA_NODEFER };
	pthread_t threads[2];

	act.sa_handler = expect_open;
	expect_eq(sigaction(SIGUSR1, &act, NULL), 0);
	signals_route();
	expect(kernel_handler(SIGUSR1) != (uintptr_t)expect_open);
	expect_eq(sigaction(SIGUSR1, NULL, &act), 0);
	expect(act.sa_handler == expect_open);
	atomic32_set(&stop, 0);
	for (int i = 0; i < 2; i++)
		expect_eq(pthread_create(&threads[i], NULL, swap_routes, NULL), 0);
	for (int i = 0; i < 5000; i++)
		raise(SIGUSR1);
	atomic32_store_release(&stop, 1);
	for (int i = 0; i < 2; i++)
		expect_eq(pthread_join(threads[i], NULL), 0);
	expect_eq(atomic32_read(&routed_calls), 5000);
	expect_eq(atomic32_read(&mixed), 0);
	signal(SIGUSR1, SIG_DFL);
}

/* More actions than there are entries: the last are called without weir, and all are told back as they were set. */
static void test_more_routes_than_entries(void)
{
	struct sigaction act = { 0 }, old;
	int direct = 0;

	for (uintptr_t i = 0; i < ROUTES_MAX + 100; i++) {
		uintptr_t address = 0x10000 + 16 * i; /* never called */

		act.sa_handler = (__sighandler_t)address;
		expect_eq(sigaction(SIGUSR2, &act, NULL), 0);
		direct += kernel_handler(SIGUSR2) == address;
		expect_eq(sigaction(SIGUSR2, NULL, &old), 0);
		expect((uintptr_t)old.sa_handler == address);
	}
	expect(direct >= 100);
	expect(direct < ROUTES_MAX / 2);
	act.sa_handler = note;
	act.sa_flags = SA_RESETHAND | SA_NODEFER;
	atomic32_set(&calls, 0);
	expect_eq(sigaction(SIGUSR2, &act, NULL), 0);
	raise(SIGUSR2);
	expect_eq(atomic32_read(&calls), 1);
	expect(signal(SIGUSR2, SIG_DFL) == SIG_DFL);
}

int main(void)
{
	struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
	signal(SIGBUS, SIG_DFL); /* a sanitizer has its own */
	sigfillset(&full);
	open_beyond();
	run_test(test_inactive_passes_through);
	run_test(test_masks_are_stripped);
	run_test(test_handler_masks_are_stripped);
	run_test(test_waits_are_stripped);
	run_test(test_ours_cannot_be_taken);
	run_test(test_round_trips);
	run_test(test_dispositions_are_not_torn);
	run_test(test_chain_fault_and_jump);
	run_test(test_chain_mask_and_reset);
	run_test(test_default_actions);
	run_test(test_vfork_child_changes_nothing);
	run_test(test_fork_child_has_its_own);
	run_test(test_trapped_calls);
	run_test(test_routes_are_not_torn);
	run_test(test_more_routes_than_entries);
	return 0;
}
