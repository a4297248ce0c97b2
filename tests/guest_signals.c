// SPDX-License-Identifier: MIT
/* A program's own signals, masks and faults. See guest.h. */
#include "guest.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static sigset_t full;
static sigjmp_buf out;
static int caught, caught_code, caught_value, on_own_stack;
static void *caught_addr;
static bool leave_by_jump;
static char *own_stack;
enum { OWN_STACK = 1 << 16 };

static void on_signal(int sig, siginfo_t *info, void *ucontext)
{
	char here;

	(void)ucontext;
	caught = sig;
	caught_code = info->si_code;
	caught_addr = info->si_code > 0 ? info->si_addr : NULL;
	caught_value = info->si_code == SI_QUEUE ? info->si_value.sival_int : 0;
	on_own_stack = own_stack && &here >= own_stack && &here < own_stack + OWN_STACK;
	page_out();
	if (leave_by_jump)
		siglongjmp(out, 1);
}

static void handle(int sig, int flags)
{
	struct sigaction act = { .sa_flags = SA_SIGINFO | flags };

	act.sa_sigaction = on_signal;
	expect(!sigaction(sig, &act, NULL));
	caught = 0;
}

static void poke(char *p)
{
	char *at = p;

	__asm__("" : "+r"(at)); /* the compiler knows nothing of it */
	__atomic_store_n(at, 1, __ATOMIC_RELAXED);
}

static void peek(const char *p)
{
	const char *at = p;

	__asm__("" : "+r"(at));
	(void)__atomic_load_n(at, __ATOMIC_RELAXED);
}

/* What a touch of the page brings. */
static void fault(const char *what, char *p, bool write)
{
	caught = 0;
	leave_by_jump = true;
	page_out();
	if (!sigsetjmp(out, 1)) {
		if (write)
			poke(p);
		else
			peek(p);
		printf("%s: nothing\n", what);
	} else {
		printf("%s: signal %d code %d at %ld\n", what, caught, caught_code,
		       (long)((char *)caught_addr - p));
	}
	leave_by_jump = false;
}

static char *truncated_file(void)
{
	char path[] = "/tmp/weir-guest-XXXXXX";
	int fd = mkstemp(path);
	char *p;

	expect(fd >= 0 && !ftruncate(fd, 2 * PAGE));
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	expect(p != MAP_FAILED && !ftruncate(fd, PAGE));
	unlink(path);
	close(fd);
	return p;
}

static void own_faults(void)
{
	static const int flags[] = { 0, SA_NODEFER, SA_ONSTACK, (int)(unsigned int)SA_RESETHAND, SA_RESTART };
	char *m = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *file = truncated_file();

	memset(m, 1, 4 * PAGE);
	expect(!mprotect(m + PAGE, PAGE, PROT_NONE));
	expect(!mprotect(m + 2 * PAGE, PAGE, PROT_READ));
	expect(!munmap(m + 3 * PAGE, PAGE));
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		char *gone[] = { m + PAGE, m + 2 * PAGE, m + 3 * PAGE + 5, (char *)16, (char *)0x7f1200000000 };

		for (size_t k = 0; k < ARRAY_SIZE(gone); k++) {
			handle(SIGSEGV, flags[i]);
			fault("read", gone[k], false);
			handle(SIGSEGV, flags[i]);
			fault("write", gone[k], true);
		}
		handle(SIGBUS, flags[i]);
		fault("beyond the file", file + PAGE + 9, false);
		handle(SIGBUS, flags[i]);
		fault("beyond the file", file + PAGE + 9, true);
		fault("in the file", file + 9, true);
	}
	handle(SIGSEGV, 0);
	leave_by_jump = true;
	if (!sigsetjmp(out, 1))
		poke((char *)0x8000000000000000ul);
	printf("not canonical: signal %d code %d\n", caught, caught_code);
	leave_by_jump = false;
}

static void fixed_up(int sig, siginfo_t *info, void *ucontext)
{
	(void)ucontext;
	caught = sig;
	expect(!mprotect((void *)((uintptr_t)info->si_addr & ~(PAGE - 1)), PAGE, PROT_READ | PROT_WRITE));
}

/* A handler that repairs and returns, as garbage collectors have it. */
static void repaired_faults(void)
{
	struct sigaction act = { .sa_flags = SA_SIGINFO };
	char *m = take(64 * PAGE);

	act.sa_sigaction = fixed_up;
	sigaction(SIGSEGV, &act, NULL);
	memset(m, 7, 64 * PAGE);
	for (int round = 0; round < 3; round++) {
		page_out();
		expect(!mprotect(m, 64 * PAGE, round == 1 ? PROT_READ : PROT_NONE));
		for (size_t i = 0; i < 64; i++)
			m[i * PAGE]++;
	}
	show(m[0] + m[63 * PAGE] + m[5]);
	show(caught);
}

static int death(void (*fn)(void))
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		fn();
		_exit(42);
	}
	expect(waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void null_write(void)
{
	poke((char *)8);
}

static void unmapped_write(void)
{
	char *m = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(m, PAGE);
	poke(m);
}

static void unmapped_write_ignored(void)
{
	signal(SIGSEGV, SIG_IGN);
	unmapped_write();
}

static void unmapped_write_blocked(void)
{
	handle(SIGSEGV, 0);
	sigprocmask(SIG_SETMASK, &full, NULL);
	unmapped_write();
}

static void write_in_handler(int sig)
{
	(void)sig;
	unmapped_write();
}

static void fault_in_segv_handler(void)
{
	signal(SIGSEGV, write_in_handler);
	unmapped_write();
}

static void bus_default(void)
{
	peek(truncated_file() + PAGE);
}

static void bus_ignored(void)
{
	signal(SIGBUS, SIG_IGN);
	bus_default();
}

static void bus_sent(void)
{
	raise(SIGBUS);
}

static void bus_sent_ignored(void)
{
	signal(SIGBUS, SIG_IGN);
	kill(getpid(), SIGBUS);
	_exit(7);
}

static void sys_sent(void)
{
	kill(getpid(), SIGSYS);
}

static void reset_hand(void)
{
	handle(SIGBUS, (int)(unsigned int)SA_RESETHAND);
	raise(SIGBUS);
	raise(SIGBUS);
}

static void aborted(void)
{
	abort();
}

static void trapped(void)
{
	__builtin_trap();
}

static void deaths(void)
{
	say(death(null_write));
	say(death(unmapped_write));
	say(death(unmapped_write_ignored));
	say(death(unmapped_write_blocked));
	say(death(fault_in_segv_handler));
	say(death(bus_default));
	say(death(bus_ignored));
	say(death(bus_sent));
	say(death(bus_sent_ignored));
	say(death(sys_sent));
	say(death(reset_hand));
	say(death(aborted));
	say(death(trapped));
}

static void sent_signals(void)
{
	static const int sigs[] = { SIGBUS, SIGSYS, SIGSEGV, SIGUSR1 };
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	for (size_t i = 0; i < ARRAY_SIZE(sigs); i++) {
		union sigval value = { .sival_int = 1234 + (int)i };

		handle(sigs[i], 0);
		say(kill(getpid(), sigs[i]));
		printf("signal %d code %d\n", caught, caught_code);
		say(raise(sigs[i]));
		printf("signal %d code %d\n", caught, caught_code);
		say(syscall(SYS_tgkill, getpid(), gettid(), sigs[i]));
		printf("signal %d code %d\n", caught, caught_code);
		say(sigqueue(getpid(), sigs[i], value));
		printf("signal %d code %d value %d\n", caught, caught_code, caught_value);
		say(pthread_sigqueue(pthread_self(), sigs[i], value));
		printf("signal %d code %d value %d\n", caught, caught_code, caught_value);
		caught = 0;
		say(syscall(SYS_pidfd_send_signal, pidfd, sigs[i], NULL, 0));
		printf("signal %d code %d\n", caught, caught_code);
	}
	close(pidfd);
}

static void altstacks(void)
{
	stack_t ss = { 0 }, old;

	own_stack = take(OWN_STACK);
	ss.ss_sp = own_stack;
	ss.ss_size = OWN_STACK;
	say(sigaltstack(NULL, &old));
	show(old.ss_flags);
	say(sigaltstack(&ss, &old));
	handle(SIGUSR1, 0);
	raise(SIGUSR1);
	printf("signal %d\n", caught);
	handle(SIGUSR1, SA_ONSTACK);
	for (int i = 0; i < 3; i++) {
		page_out();
		raise(SIGUSR1);
		printf("signal %d\n", caught);
	}
	ss.ss_size = 100;
	say(sigaltstack(&ss, NULL));
	ss.ss_flags = 77;
	say(sigaltstack(&ss, NULL));
	say(sigaltstack(NULL, &old));
	show(old.ss_sp == own_stack && old.ss_size == OWN_STACK);
	ss.ss_flags = SS_DISABLE;
	say(sigaltstack(&ss, &old));
	say(sigaltstack(NULL, &old));
	show(old.ss_flags);
}

static int depth;

#pragma GCC diagnostic ignored "-Winfinite-recursion"
static int overflow(int n)
{
	char buf[4096];

	__atomic_store_n(&buf[0], (char)n, __ATOMIC_RELAXED);
	__atomic_store_n(&depth, n, __ATOMIC_RELAXED);
	return overflow(n + 1) + __atomic_load_n(&buf[0], __ATOMIC_RELAXED);
}

/* Java, Go and many interpreters find the end of their stack like this. */
static void stack_overflow(void)
{
	stack_t ss = { .ss_size = OWN_STACK };

	ss.ss_sp = own_stack = take(OWN_STACK);
	sigaltstack(&ss, NULL);
	for (int i = 0; i < 3; i++) {
		handle(SIGSEGV, SA_ONSTACK);
		leave_by_jump = true;
		if (!sigsetjmp(out, 1))
			overflow(0);
		printf("signal %d code %d, %d\n", caught, caught_code, depth > 500);
	}
	leave_by_jump = false;
}

/* Works on absent memory: without the two signals the first touch would kill. */
static unsigned long work(void)
{
	static char *m;
	unsigned long sum = 0;

	if (!m)
		m = take(64 * PAGE);
	page_out();
	for (size_t i = 0; i < 64; i++)
		sum += (unsigned char)++m[i * PAGE];
	return sum;
}

static void work_in_handler(int sig)
{
	printf("in handler %d: %lu\n", sig, work());
}

static void *work_main(void *arg)
{
	(void)arg;
	printf("in thread: %lu\n", work());
	return NULL;
}

/* Everything blocked, by every way there is. */
static void masks(void)
{
	struct sigaction act = { .sa_flags = 0 };
	unsigned long all = ~0ul, old = 0, none = 0;
	struct timespec soon = { .tv_nsec = 1000000 };
	struct epoll_event e;
	sigset_t now;
	pthread_t t;
	int ep = epoll_create1(0);

	say(sigprocmask(SIG_BLOCK, &full, NULL));
	show(work());
	pthread_create(&t, NULL, work_main, NULL);
	pthread_join(t, NULL);
	sigprocmask(SIG_SETMASK, NULL, &now);
	show(sigismember(&now, SIGUSR1) + sigismember(&now, SIGTERM));
	say(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, 8));
	show(work());
	say(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8));
	act.sa_handler = work_in_handler;
	act.sa_mask = full;
	sigaction(SIGUSR1, &act, NULL);
	raise(SIGUSR1);
	say(ppoll(NULL, 0, &soon, &full));
	say(pselect(0, NULL, NULL, NULL, &soon, &full));
	say(epoll_pwait(ep, &e, 1, 1, &full));
	say(syscall(441, ep, &e, 1, &soon, &full, 8));
	show(work());
	sigprocmask(SIG_BLOCK, &act.sa_mask, NULL);
	raise(SIGUSR1);
	sigpending(&now);
	show(sigismember(&now, SIGUSR1));
	sigfillset(&now);
	sigdelset(&now, SIGUSR1);
	say(sigsuspend(&now));
	sigprocmask(SIG_UNBLOCK, &full, NULL);
	show(work());
}

static void spawned(void)
{
	char *argv[] = { take_string("sh"), take_string("-c"), take_string("grep SigBlk: /proc/self/status; exit 3"),
			 NULL };
	posix_spawnattr_t attr;
	sigset_t some;
	int status;
	pid_t pid;

	sigemptyset(&some);
	sigaddset(&some, SIGUSR1);
	handle(SIGBUS, 0);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigdefault(&attr, &full);
	posix_spawnattr_setsigmask(&attr, &some);
	for (int i = 0; i < 3; i++) {
		fflush(stdout);
		page_out();
		expect(!posix_spawn(&pid, "/bin/sh", NULL, &attr, argv, environ));
		expect(waitpid(pid, &status, 0) == pid);
		show(status);
		show(work());
	}
	raise(SIGBUS);
	show(caught);
	pid = vfork();
	if (!pid) {
		signal(SIGBUS, SIG_DFL);
		signal(SIGSYS, SIG_IGN);
		_exit(work() ? 5 : 6);
	}
	expect(waitpid(pid, &status, 0) == pid);
	show(status);
	caught = 0;
	raise(SIGBUS);
	show(caught);
}

/* SIGBUS as a message to wait for, not a fault. */
static void waits(void)
{
	struct timespec soon = { .tv_nsec = 1000000 };
	siginfo_t info;
	sigset_t usr;

	sigemptyset(&usr);
	sigaddset(&usr, SIGUSR1);
	sigaddset(&usr, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &usr, NULL);
	raise(SIGUSR1);
	say(sigwaitinfo(&usr, &info));
	sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 77 });
	say(sigtimedwait(&usr, &info, &soon) == SIGRTMIN);
	show(info.si_value.sival_int);
	say(sigtimedwait(&usr, &info, &soon));
	int fd = signalfd(-1, &usr, SFD_NONBLOCK);
	struct signalfd_siginfo *got = take(sizeof(*got) * 4);

	raise(SIGUSR1);
	say(read(fd, got, sizeof(*got) * 4));
	show(got->ssi_signo);
	say(read(fd, got, sizeof(*got) * 4));
	close(fd);
}

static void *bus_wait_main(void *arg)
{
	sigset_t bus;
	int sig = 0;

	(void)arg;
	sigemptyset(&bus);
	sigaddset(&bus, SIGBUS);
	sigaddset(&bus, SIGUSR2);
	sigprocmask(SIG_BLOCK, &bus, NULL);
	sigwait(&bus, &sig);
	printf("waited: %d\n", sig);
	return NULL;
}

/* A wait for SIGBUS among others: it cannot be blocked, so whoever sends it finds the handler, or the other signal. */
static void wait_for_bus(void)
{
	pthread_t t;

	pthread_create(&t, NULL, bus_wait_main, NULL);
	usleep(20000);
	show(work());
	pthread_kill(t, SIGUSR2);
	pthread_join(t, NULL);
}

static timer_t timer;
static int nr_expired;

static void on_expire(int sig, siginfo_t *info, void *ucontext)
{
	(void)sig;
	(void)ucontext;
	nr_expired += info->si_value.sival_int;
	if (nr_expired % 8 == 0)
		work();
}

static void notify_main(union sigval value)
{
	nr_expired += value.sival_int;
	work();
}

/* Timers by signal and by libc's own thread, while memory leaves. */
static void timers(void)
{
	struct sigaction act = { .sa_flags = SA_SIGINFO | SA_RESTART };
	struct sigevent *event = take(sizeof(*event));
	struct itimerspec *every = take(sizeof(*every));
	char *m = take(256 * PAGE);

	act.sa_sigaction = on_expire;
	sigaction(SIGRTMIN + 1, &act, NULL);
	*event = (struct sigevent){ .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1 };
	event->sigev_value.sival_int = 1;
	every->it_value.tv_nsec = every->it_interval.tv_nsec = 2000000;
	say(timer_create(CLOCK_MONOTONIC, event, &timer));
	say(timer_settime(timer, 0, every, NULL));
	for (size_t i = 0; __atomic_load_n(&nr_expired, __ATOMIC_RELAXED) < 64; i++) {
		m[i % 256 * PAGE]++;
		if (i % 64 == 0)
			page_out();
	}
	timer_delete(timer);
	nr_expired = 0;
	*event = (struct sigevent){ .sigev_notify = SIGEV_THREAD, .sigev_notify_function = notify_main };
	event->sigev_value.sival_int = 1;
	say(timer_create(CLOCK_MONOTONIC, event, &timer));
	every->it_interval.tv_nsec = 3000000;
	say(timer_settime(timer, 0, every, NULL));
	while (__atomic_load_n(&nr_expired, __ATOMIC_RELAXED) < 20)
		usleep(1000);
	timer_delete(timer);
	puts("expired");
}

/* Descriptors: ours is not there for the program, however it looks. */
static void descriptors(void)
{
	int null = open("/dev/null", O_RDWR), nr_open = 0, nr_closed = 0;

	for (int fd = 0; fd < 4096; fd++)
		nr_open += fcntl(fd, F_GETFD) >= 0 && fd <= null;
	show(nr_open);
	for (int fd = null + 1; fd < 4096; fd++)
		nr_closed += close(fd) == 0 && fd < 800;
	show(nr_closed);
	show(work());
	for (int fd = null + 1; fd < 1024; fd++)
		dup2(null, fd);
	show(work());
	for (int fd = null + 1; fd < 1024; fd++)
		dup3(null, fd, O_CLOEXEC);
	show(work());
	closefrom(null + 1);
	show(work());
	say(close_range((unsigned int)null + 1, ~0u, 0));
	say(close_range((unsigned int)null + 1, ~0u, CLOSE_RANGE_CLOEXEC));
	show(work());
}

#define C(name)                                                                                                        \
	{                                                                                                              \
#name, name                                                                                            \
	}
static const struct guest_case cases[] = {
	C(own_faults), C(repaired_faults), C(deaths), C(sent_signals), C(altstacks), C(stack_overflow),
	C(masks),      C(spawned),	   C(waits),  C(wait_for_bus), C(timers),    C(descriptors),
};

int main(int argc, char **argv)
{
	sigfillset(&full);
	return guest_main(argc, argv, cases, ARRAY_SIZE(cases));
}
