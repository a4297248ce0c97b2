// SPDX-License-Identifier: MIT
/*
 * What the net costs a system call: nothing to do for the filter (getppid), pointers to look at (read into a stack
 * buffer), and calls that trap. The window is ordinary memory and holds do nothing, so this is the net alone; the same
 * calls before and after arming. Medians of rounds with min and max.
 *
 *   bench_net [CALLS [ROUNDS]]
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/syscall.h"
#include "fault/net.h"

enum { ROUNDS_MAX = 101, BIG = 64 << 10 };

static u32 nr_calls = 200000, nr_rounds = 9;
static int zero_fd, null_fd;
static char *window;

static int bench_hold(uintptr_t addr, size_t len, bool write)
{
	(void)addr;
	(void)len;
	(void)write;
	return 0;
}

static void bench_release(uintptr_t addr, size_t len)
{
	(void)addr;
	(void)len;
}

static size_t bench_room(void)
{
	return (size_t)1 << 30;
}

static void bench_exit(int status)
{
	(void)status;
}

static long bench_call(long nr, const long args[6])
{
	return sys6(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
}

static bool bench_signal(long nr, const long args[6], void *ucontext, long *result)
{
	ucontext_t *uc = ucontext;

	*result = 0;
	return nr == SYS_rt_sigprocmask && !net_fetch(&uc->uc_sigmask, (uintptr_t)args[1], 8);
}

static bool bench_chain(int sig, void *info, void *ucontext)
{
	(void)sig;
	(void)info;
	(void)ucontext;
	return false;
}

static const struct net_ops ops = {
	.hold = bench_hold,
	.release = bench_release,
	.room = bench_room,
	.exit_call = bench_exit,
	.mm_call = bench_call,
	.fork_call = bench_call,
	.signal_call = bench_signal,
	.chain = bench_chain,
};

static void call_getppid(void)
{
	syscall(SYS_getppid);
}

static void call_read_stack(void)
{
	char c;

	syscall(SYS_read, zero_fd, &c, 1);
}

static void call_read_window(void)
{
	syscall(SYS_read, zero_fd, window, 1);
}

static void call_read_big(void)
{
	syscall(SYS_read, zero_fd, window, BIG);
}

static void call_writev_stack(void)
{
	char c = 0;
	struct iovec iov = { &c, 1 };

	syscall(SYS_writev, null_fd, &iov, 1);
}

/* The array is not where the handler can trust it, so the kernel copies it. */
static void call_writev_heap(void)
{
	static char c;
	static struct iovec iov = { &c, 1 };

	syscall(SYS_writev, null_fd, &iov, 1);
}

static void call_futex_wake(void)
{
	syscall(SYS_futex, window, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void call_sigprocmask(void)
{
	u64 none = 0;

	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
}

static const struct {
	const char *name;
	void (*call)(void);
} benches[] = {
	{ "getppid", call_getppid },
	{ "read 1 B, stack", call_read_stack },
	{ "read 1 B, window", call_read_window },
	{ "read 64 KiB, window", call_read_big },
	{ "writev 1 B, stack", call_writev_stack },
	{ "writev 1 B, static array", call_writev_heap },
	{ "futex wake, window", call_futex_wake },
	{ "rt_sigprocmask", call_sigprocmask },
};

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void measure(const char *when)
{
	double ns[ROUNDS_MAX];

	for (size_t i = 0; i < sizeof(benches) / sizeof(benches[0]); i++) {
		for (u32 r = 0; r < nr_rounds; r++) {
			double begin = now_ns();

			for (u32 n = 0; n < nr_calls; n++)
				benches[i].call();
			ns[r] = (now_ns() - begin) / nr_calls;
		}
		qsort(ns, nr_rounds, sizeof(double), compare);
		printf("%-7s %-26s %8.0f ns  (%.0f to %.0f)\n", when, benches[i].name, ns[nr_rounds / 2], ns[0],
		       ns[nr_rounds - 1]);
	}
}

int main(int argc, char **argv)
{
	struct net_counts counts;
	int err;

	nr_calls = argc > 1 ? (u32)atoi(argv[1]) : nr_calls;
	nr_rounds = argc > 2 ? (u32)atoi(argv[2]) : nr_rounds;
	if (!nr_calls || !nr_rounds || nr_rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: bench_net [CALLS [ROUNDS (1 to %d)]]\n", ROUNDS_MAX);
		return 2;
	}
	window = mmap((void *)NET_WINDOW, 1 << 20, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	zero_fd = open("/dev/zero", O_RDONLY);
	null_fd = open("/dev/null", O_WRONLY);
	if (window != (char *)NET_WINDOW || zero_fd < 0 || null_fd < 0) {
		perror("bench_net: window, /dev/zero, /dev/null");
		return 1;
	}
	memset(window, 0, 1 << 20);
	measure("native");
	err = net_arm(NET_WINDOW, 1 << 20, -1, &ops);
	if (err) {
		printf("skipped: cannot arm the net: %s\n", strerror(-err));
		return 77;
	}
	measure("armed");
	net_stats(&counts);
	printf("%llu traps, %llu failed with EFAULT\n", (unsigned long long)counts.traps,
	       (unsigned long long)counts.efaults);
	return counts.efaults ? 1 : 0;
}
