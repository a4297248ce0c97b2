// SPDX-License-Identifier: MIT
/*
 * Where should userfaultfd messages be read? Ways to place the reading threads, with nothing of weir around them: a
 * fault is 2 us of work and a UFFDIO_COPY, and the program does 1 us of its own between two faults. Interleaved.
 *
 *   bench_handlers [ROUNDS]
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/types.h"
#include "sync/wait.h"
#include "vm/uffd_abi.h"

enum { PAGES = 2048, ROUNDS_MAX = 101, CPUS_MAX = 64, SERVICE_NS = 2000, OWN_NS = 1000, SPIN_NS = 50000, LOOK_MS = 20 };

enum way {
	WAY_SIGNAL,	    /* no reader: SIGBUS in the faulting thread */
	WAY_ONE_FREE,	    /* one reader, where the scheduler puts it */
	WAY_ONE_SPINS,	    /* the same, spinning for 50 us before it sleeps */
	WAY_EACH_FREE,	    /* as many readers as processors, not bound */
	WAY_EACH_EXCLUSIVE, /* one bound to each processor, woken one at a time (EPOLLEXCLUSIVE) */
	WAY_EACH_BOUND,	    /* one bound to each processor, all woken */
	WAY_RIGHT_ONE,	    /* one, bound to the processor where the program begins */
	NR_WAYS,
};

static const char *const names[NR_WAYS] = {
	"SIGBUS", "one, free", "one, spinning", "each, free", "each, bound, exclusive", "each, bound", "one, right CPU",
};

static char page[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static enum way way;
static int uffd, nr_cpus, stop;
static char *region;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void work(u64 ns)
{
	u64 started = sync_clock_ns();

	while (sync_clock_ns() - started < ns)
		;
}

static void bind_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (int i = 0; i < nr_cpus; i++) {
		if (cpu < 0 || i == cpu)
			CPU_SET(i, &set);
	}
	sched_setaffinity(0, sizeof(set), &set);
}

static void serve(u64 addr)
{
	struct uffdio_copy copy = { .dst = addr & PAGE_MASK, .src = (u64)(uintptr_t)page, .len = PAGE_SIZE };

	work(SERVICE_NS);
	if (ioctl(uffd, UFFDIO_COPY, &copy))
		fail("UFFDIO_COPY");
}

static void on_sigbus(int sig, siginfo_t *info, void *uc)
{
	(void)sig;
	(void)uc;
	serve((u64)(uintptr_t)info->si_addr);
}

/* False: nothing within LOOK_MS. */
static bool wait_for_message(int epoll)
{
	struct pollfd fd = { .fd = uffd, .events = POLLIN };
	struct epoll_event event;
	u64 started = sync_clock_ns();

	if (way == WAY_EACH_EXCLUSIVE)
		return epoll_wait(epoll, &event, 1, LOOK_MS) > 0;
	while (way == WAY_ONE_SPINS && sync_clock_ns() - started < SPIN_NS) {
		if (poll(&fd, 1, 0) > 0)
			return true;
	}
	return poll(&fd, 1, LOOK_MS) > 0;
}

static void *reader_main(void *arg)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLEXCLUSIVE };
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct uffd_msg msg;

	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, uffd, &event))
		fail("epoll");
	if (way >= WAY_EACH_EXCLUSIVE)
		bind_to((int)(long)arg);
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		if (wait_for_message(epoll) && read(uffd, &msg, sizeof(msg)) == sizeof(msg))
			serve(msg.arg.pagefault.address);
	}
	close(epoll);
	return NULL;
}

struct toucher {
	pthread_t thread;
	int first, nr;
};

/* Begins on the first processors, and may go where it likes. */
static void *toucher_main(void *arg)
{
	struct toucher *t = arg;

	bind_to(t->first / t->nr % nr_cpus);
	bind_to(-1);
	for (int i = t->first; i < t->first + t->nr; i++) {
		__atomic_load_n(region + (size_t)i * PAGE_SIZE, __ATOMIC_RELAXED);
		work(OWN_NS);
	}
	return NULL;
}

static void open_uffd(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = way == WAY_SIGNAL ? UFFD_FEATURE_SIGBUS : 0 };
	struct uffdio_register reg = {
		.range = { .start = (u64)(uintptr_t)region, .len = (u64)PAGES * PAGE_SIZE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		fail("userfaultfd");
}

/* us per page, wall, all threads together. */
static double measure(int nr_touchers)
{
	int nr_readers = way == WAY_SIGNAL ? 0 : way >= WAY_EACH_FREE && way != WAY_RIGHT_ONE ? nr_cpus : 1;
	pthread_t readers[CPUS_MAX];
	struct toucher t[2];
	u64 ns;

	madvise(region, (size_t)PAGES * PAGE_SIZE, MADV_DONTNEED);
	open_uffd();
	stop = 0;
	for (long i = 0; i < nr_readers; i++) {
		if (pthread_create(&readers[i], NULL, reader_main, (void *)i))
			fail("pthread_create");
	}
	ns = sync_clock_ns();
	for (int i = 0; i < nr_touchers; i++) {
		t[i] = (struct toucher){ .first = i * (PAGES / nr_touchers), .nr = PAGES / nr_touchers };
		if (pthread_create(&t[i].thread, NULL, toucher_main, &t[i]))
			fail("pthread_create");
	}
	for (int i = 0; i < nr_touchers; i++)
		pthread_join(t[i].thread, NULL);
	ns = sync_clock_ns() - ns;
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	for (int i = 0; i < nr_readers; i++)
		pthread_join(readers[i], NULL);
	close(uffd);
	return (double)ns / 1000.0 / PAGES;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void bench(int nr_touchers, int rounds)
{
	static double us[NR_WAYS][ROUNDS_MAX];

	for (int r = 0; r < rounds; r++) {
		for (way = 0; way < NR_WAYS; way++)
			us[way][r] = measure(nr_touchers);
	}
	for (way = 0; way < NR_WAYS; way++) {
		qsort(us[way], (size_t)rounds, sizeof(us[way][0]), compare);
		printf("%d thread%s  %-24s %6.2f us per page  (%.2f to %.2f)\n", nr_touchers,
		       nr_touchers > 1 ? "s" : " ", names[way], us[way][rounds / 2], us[way][0], us[way][rounds - 1]);
	}
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	int rounds = argc > 1 ? atoi(argv[1]) : 9;

	if (rounds < 1 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: bench_handlers [ROUNDS (1 to %d)]\n", ROUNDS_MAX);
		return 2;
	}
	nr_cpus = (int)min_u64((u64)sysconf(_SC_NPROCESSORS_ONLN), CPUS_MAX);
	region = mmap(NULL, (size_t)PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (region == MAP_FAILED)
		fail("mmap");
	madvise(region, (size_t)PAGES * PAGE_SIZE, MADV_NOHUGEPAGE);
	sigaction(SIGBUS, &action, NULL);
	for (int threads = 1; threads <= 2; threads++)
		bench(threads, rounds);
	return 0;
}
