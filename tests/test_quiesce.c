// SPDX-License-Identifier: MIT
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <time.h>

#include "signal_rig.h"
#include "sync/wait.h"

extern char **environ;

enum { STEP_BYTES = 4096 };

static char *window;
static struct atomic32 stop, started;

static u64 ms_since(u64 start_ns)
{
	return (sync_clock_ns() - start_ns) / 1000000;
}

static void start(pthread_t *thread, void *(*fn)(void *), void *arg)
{
	u32 before = atomic32_load_acquire(&started);

	expect_eq(pthread_create(thread, NULL, fn, arg), 0);
	while (atomic32_load_acquire(&started) == before)
		usleep(1000);
	usleep(20000); /* into its call */
}

static void join(pthread_t thread)
{
	void *result;

	expect_eq(pthread_join(thread, &result), 0);
	expect(result == NULL);
}

static int quiesce(void)
{
	return quiesce_syscalls(RIG_WINDOW, RIG_WINDOW_BYTES);
}

/* ---- calls that sleep, each with its pointers in the window; none may see EINTR ---- */

static int pipes[3][2];
static int epoll_fd;

static void *reads(void *arg)
{
	char *buf = window + 1 * STEP_BYTES;

	atomic32_add_return(&started, 1);
	expect_eq(read(pipes[0][0], buf, 100), 5);
	expect(memcmp(buf, "hello", 5) == 0);
	return arg;
}

static void *reads_vector(void *arg)
{
	struct iovec iov = { window + 2 * STEP_BYTES, 100 }; /* on the stack: only what it names is in the window */

	atomic32_add_return(&started, 1);
	expect_eq(readv(pipes[1][0], &iov, 1), 3);
	expect(memcmp(window + 2 * STEP_BYTES, "abc", 3) == 0);
	return arg;
}

static void *waits_on_futex(void *arg)
{
	u32 *word = (u32 *)(void *)(window + 3 * STEP_BYTES);

	atomic32_add_return(&started, 1);
	expect_eq(syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0), 0);
	expect_eq(__atomic_load_n(word, __ATOMIC_RELAXED), 1);
	return arg;
}

static void *waits_on_futex_timed(void *arg)
{
	struct timespec *ts = (struct timespec *)(void *)(window + 4 * STEP_BYTES + 64);
	u64 begin = sync_clock_ns();

	ts->tv_nsec = 400000000;
	atomic32_add_return(&started, 1);
	expect_eq(syscall(SYS_futex, window + 4 * STEP_BYTES, FUTEX_WAIT, 0, ts, NULL, 0), -1);
	expect_eq(errno, ETIMEDOUT);
	expect(ms_since(begin) >= 399);
	return arg;
}

static void *waits_on_epoll(void *arg)
{
	struct epoll_event *events = (struct epoll_event *)(void *)(window + 5 * STEP_BYTES);

	atomic32_add_return(&started, 1);
	expect_eq(epoll_wait(epoll_fd, events, 8, -1), 1);
	expect_eq(events[0].data.u32, 4711);
	return arg;
}

static void *polls(void *arg)
{
	struct pollfd *fds = (struct pollfd *)(void *)(window + 6 * STEP_BYTES);

	fds->fd = pipes[2][0];
	fds->events = POLLIN;
	atomic32_add_return(&started, 1);
	expect_eq(poll(fds, 1, 20000), 1);
	return arg;
}

static void *sleeps(void *arg)
{
	struct timespec *ts = (struct timespec *)(void *)(window + 7 * STEP_BYTES);
	u64 begin = sync_clock_ns();

	ts->tv_nsec = 500000000;
	atomic32_add_return(&started, 1);
	expect_eq(nanosleep(ts, ts), 0);
	expect(ms_since(begin) >= 499);
	return arg;
}

static void *spins(void *arg)
{
	atomic32_add_return(&started, 1);
	while (!atomic32_load_acquire(&stop))
		atomic64_fetch_add(arg, 1);
	return NULL;
}

/* Its pointers are its own: nobody needs to disturb it. */
static void *reads_elsewhere(void *arg)
{
	char byte;

	atomic32_add_return(&started, 1);
	expect_eq(read(*(int *)arg, &byte, 1), 1);
	return NULL;
}

static void *(*const sleepers[])(void *) = {
	reads, reads_vector, waits_on_futex, waits_on_futex_timed, waits_on_epoll, polls, sleeps,
};

static void start_sleepers(pthread_t threads[])
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = 4711 };

	memset(window, 0, RIG_WINDOW_BYTES);
	for (size_t i = 0; i < ARRAY_SIZE(pipes); i++)
		expect_eq(pipe(pipes[i]), 0);
	epoll_fd = epoll_create1(0);
	expect_eq(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipes[2][0], &event), 0);
	for (size_t i = 0; i < ARRAY_SIZE(sleepers); i++)
		start(&threads[i], sleepers[i], NULL);
}

static void finish_sleepers(pthread_t threads[])
{
	u32 *word = (u32 *)(void *)(window + 3 * STEP_BYTES);

	expect_eq(write(pipes[0][1], "hello", 5), 5);
	expect_eq(write(pipes[1][1], "abc", 3), 3);
	expect_eq(write(pipes[2][1], "x", 1), 1);
	__atomic_store_n(word, 1, __ATOMIC_RELAXED);
	/* The thread may be between its handler and the futex: then it finds the word changed, and says EAGAIN. */
	usleep(50000);
	expect_eq(syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
	for (size_t i = 0; i < ARRAY_SIZE(sleepers); i++)
		join(threads[i]);
	for (size_t i = 0; i < ARRAY_SIZE(pipes); i++) {
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
	close(epoll_fd);
}

static void test_alone(void)
{
	expect_eq(quiesce(), 0);
	expect_eq(quiesce_park(), 0);
	quiesce_release();
}

static void test_sleepers_begin_again(void)
{
	static struct atomic64 spun;
	pthread_t threads[ARRAY_SIZE(sleepers)], spinner, elsewhere;
	int quiet[2];
	u32 acks;

	atomic32_set(&stop, 0);
	expect_eq(pipe(quiet), 0);
	start(&elsewhere, reads_elsewhere, &quiet[0]);
	start(&spinner, spins, &spun);
	start_sleepers(threads);
	acks = atomic32_read(&rig_acks);
	expect_eq(quiesce(), 0);
	usleep(20000);
	finish_sleepers(threads);
	expect_eq(write(quiet[1], "x", 1), 1);
	join(elsewhere);
	atomic32_store_release(&stop, 1);
	join(spinner);
	expect_eq(atomic32_read(&rig_acks) - acks, ARRAY_SIZE(sleepers) + 1);
	close(quiet[0]);
	close(quiet[1]);
}

static void test_park(void)
{
	static struct atomic64 spun;
	pthread_t threads[ARRAY_SIZE(sleepers)], spinner;

	atomic32_set(&stop, 0);
	start(&spinner, spins, &spun);
	start_sleepers(threads);
	for (int i = 0; i < 5; i++) {
		u64 before;

		expect_eq(quiesce_park(), 0);
		before = atomic64_read(&spun);
		usleep(5000);
		expect_eq(atomic64_read(&spun), before);
		quiesce_release();
		while (atomic64_read(&spun) == before)
			usleep(100);
	}
	usleep(20000);
	finish_sleepers(threads);
	atomic32_store_release(&stop, 1);
	join(spinner);
}

/* ---- threads that must be waited for ---- */

static void *blocks_sigsys(void *arg)
{
	u64 mask = signals_block();

	atomic32_add_return(&started, 1);
	usleep((unsigned int)(uintptr_t)arg * 1000);
	signals_restore(mask);
	return NULL;
}

static void test_blocked_sigsys_is_waited_for(void)
{
	u64 begin = sync_clock_ns();
	pthread_t thread;

	start(&thread, blocks_sigsys, (void *)300);
	expect_eq(quiesce(), 0);
	expect(ms_since(begin) >= 299);
	join(thread);
}

static void *forks(void *arg)
{
	pid_t pid;
	int status;

	atomic32_add_return(&started, 1);
	pid = vfork();
	if (pid == 0) {
		usleep(300000);
		sys1(SYS_exit, 0); /* not _exit(), where a sanitizer looks at the stack */
	}
	expect(pid > 0);
	expect_eq(waitpid(pid, &status, 0), pid);
	return arg;
}

/* The child has our memory and no filter. */
static void test_vfork_is_waited_for(void)
{
	u64 begin = sync_clock_ns();
	pthread_t thread;

	start(&thread, forks, NULL);
	expect_eq(quiesce(), 0);
	expect(ms_since(begin) >= 290);
	join(thread);
}

static void test_time_is_bounded(void)
{
	u64 begin = sync_clock_ns();
	pthread_t thread;

	quiesce_ns_max = 500000000;
	start(&thread, blocks_sigsys, (void *)5000);
	expect_eq(quiesce(), -ETIMEDOUT);
	expect_eq(quiesce_park(), -ETIMEDOUT);
	expect(ms_since(begin) >= 990);
	quiesce_ns_max = 30000000000;
	join(thread); /* takes the late signal */
	expect_eq(quiesce(), 0);
}

static void *is_of_weirs_own(void *arg)
{
	signals_block();
	quiesce_exempt((u32)os_gettid());
	atomic32_add_return(&started, 1);
	while (!atomic32_load_acquire(&stop))
		usleep(1000);
	return arg;
}

static void test_exempt(void)
{
	pthread_t thread;

	atomic32_set(&stop, 0);
	start(&thread, is_of_weirs_own, NULL);
	expect_eq(quiesce(), 0);
	expect_eq(quiesce_park(), 0);
	quiesce_release();
	atomic32_store_release(&stop, 1);
	join(thread);
}

/* ---- a filter that comes into a running process ---- */

static void *creates_threads(void *arg)
{
	pthread_t thread;

	while (!atomic32_load_acquire(&stop)) {
		expect_eq(pthread_create(&thread, NULL, reads_elsewhere, arg), 0);
		join(thread);
	}
	return NULL;
}

static void *spawns(void *arg)
{
	char name[] = "true", *path[] = { name, NULL };
	int status;
	pid_t pid;

	(void)arg;
	while (!atomic32_load_acquire(&stop)) {
		expect_eq(posix_spawnp(&pid, "true", NULL, NULL, path, environ), 0);
		expect_eq(waitpid(pid, &status, 0), pid);
		expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	return NULL;
}

static void park_and_filter(void)
{
	pthread_t threads[4];
	int ready[2], err;

	/* Always something to read, for reads_elsewhere(). */
	expect_eq(pipe(ready), 0);
	for (int i = 0; i < 60000; i++)
		expect_eq(write(ready[1], "x", 1), 1);
	atomic32_set(&stop, 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		expect_eq(pthread_create(&threads[i], NULL, i & 1 ? spawns : creates_threads, &ready[0]), 0);
	usleep(20000);
	expect_eq(quiesce_park(), 0);
	err = rig_filter();
	quiesce_release();
	expect_eq(quiesce(), 0);
	usleep(100000);
	atomic32_store_release(&stop, 1);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		join(threads[i]);
	_exit(err ? 77 : 0);
}

static void test_filter_into_running_process(void)
{
	for (int i = 0; i < 10; i++) {
		int status = rig_in_child(park_and_filter);

		expect(WIFEXITED(status));
		if (WEXITSTATUS(status) == 77) {
			printf("skipped: the filter, as there is no seccomp\n");
			return;
		}
		expect_eq(WEXITSTATUS(status), 0);
	}
}

/* ---- many ---- */

static void *mixes(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;
	char *buf = window + (size_t)(seed % 64) * STEP_BYTES;
	int fds[2];

	expect_eq(pipe(fds), 0);
	while (!atomic32_load_acquire(&stop)) {
		struct timespec short_time = { .tv_nsec = 100000 };

		expect_eq(write(fds[1], "12345678", 8), 8);
		expect_eq(read(fds[0], buf, 8), 8);
		expect(memcmp(buf, "12345678", 8) == 0);
		if (seed % 3 == 0)
			nanosleep(&short_time, NULL); /* it may see EINTR: asleep only after it was looked at */
	}
	close(fds[0]);
	close(fds[1]);
	return NULL;
}

static void test_many(void)
{
	static pthread_t threads[64];
	u64 begin;

	atomic32_set(&stop, 0);
	for (uintptr_t i = 0; i < ARRAY_SIZE(threads); i++)
		expect_eq(pthread_create(&threads[i], NULL, mixes, (void *)i), 0);
	begin = sync_clock_ns();
	for (int i = 0; i < 10; i++) {
		expect_eq(quiesce(), 0);
		expect_eq(quiesce_park(), 0);
		quiesce_release();
	}
	printf("%zu threads: %llu us a quiesce and a park\n", ARRAY_SIZE(threads),
	       (unsigned long long)((sync_clock_ns() - begin) / 10000));
	atomic32_store_release(&stop, 1);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		join(threads[i]);
}

int main(void)
{
	signal(SIGBUS, SIG_DFL); /* a sanitizer has its own */
	rig_start();
	if (access("/proc/self/syscall", R_OK) != 0)
		test_skip("no /proc/self/syscall");
	window = rig_window();
	run_test(test_alone);
	run_test(test_sleepers_begin_again);
	run_test(test_park);
	run_test(test_blocked_sigsys_is_waited_for);
	run_test(test_vfork_is_waited_for);
	run_test(test_time_is_bounded);
	run_test(test_exempt);
	run_test(test_filter_into_running_process);
	run_test(test_many);
	return 0;
}
