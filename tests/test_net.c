// SPDX-License-Identifier: MIT
/*
 * The net alone: every class of call, exec and fork, threads, signals in the middle of trapped calls, and the filter
 * that lives on after execve. How the window is faked: net_fake.h. Transfers: test_net_io.c.
 */
#include "net_fake.h"

#include <arpa/inet.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <setjmp.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>

static void test_sockets(void)
{
	int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0), conn, type;
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr), *len_at;
	struct sockaddr *at;

	begin();
	at = take_copy(&addr, sizeof(addr));
	len_at = take_copy(&len, sizeof(len));
	expect_eq(bind(server, at, len), 0);
	expect_eq(listen(server, 1), 0);
	expect_eq(getsockname(server, at, len_at), 0);
	expect_eq(connect(client, at, len), 0);
	conn = accept(server, at, len_at);
	expect(conn >= 0);
	get(&addr, at, sizeof(addr));
	expect_eq(addr.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	expect_eq(getsockopt(conn, SOL_SOCKET, SO_TYPE, at, len_at), 0);
	get(&type, at, sizeof(type));
	expect_eq(type, SOCK_STREAM);
	expect_eq(send(client, take_string("abc"), 3, 0), 3);
	expect_eq(recv(conn, at, 2, 0), 2);
	expect(holds_string(at, "ab"));
	expect_eq(setsockopt(conn, SOL_SOCKET, SO_ZEROCOPY, &(int){ 1 }, sizeof(int)), -1);
	expect_eq(errno, ENOPROTOOPT);
	close(server);
	close(client);
	close(conn);
	finish(0);
}

static void test_poll(void)
{
	struct pollfd p = { .events = POLLIN };
	struct epoll_event e = { .events = EPOLLIN, .data.u32 = 42 };
	struct timespec soon = { .tv_nsec = 1000 };
	struct {
		void *set;
		size_t size;
	} mask = { .size = 8 };
	sigset_t all;
	fd_set set;
	int fds[2], ep = epoll_create1(0);

	begin();
	sigfillset(&all);
	expect_eq(pipe(fds), 0);
	expect_eq(write(fds[1], take_string("x"), 1), 1);
	p.fd = fds[0];
	expect_eq(poll(take_copy(&p, sizeof(p)), 1, 0), 1);
	/* libc's versions of these look at the times themselves. */
	expect_eq(syscall(SYS_ppoll, take_copy(&p, sizeof(p)), 1, take_copy(&soon, sizeof(soon)),
			  take_copy(&all, sizeof(all)), 8), 1);
	FD_ZERO(&set);
	FD_SET(fds[0], &set);
	fd_set *at = take_copy(&set, sizeof(set));

	expect_eq(syscall(SYS_select, fds[0] + 1, at, NULL, NULL, take_copy(&soon, sizeof(soon))), 1);
	mask.set = take_copy(&all, sizeof(all));
	expect_eq(syscall(SYS_pselect6, fds[0] + 1, at, NULL, NULL, take_copy(&soon, sizeof(soon)),
			  take_copy(&mask, sizeof(mask))), 1);
	get(&set, at, sizeof(set));
	expect(FD_ISSET(fds[0], &set));
	expect_eq(epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], take_copy(&e, sizeof(e))), 0);
	struct epoll_event *events = take(10 * sizeof(e));

	expect_eq(epoll_wait(ep, events, 10, 0), 1);
	get(&e, events, sizeof(e));
	expect_eq(e.data.u32, 42);
	expect_eq(epoll_pwait(ep, events, 10, 0, take_copy(&all, sizeof(all))), 1);
	close(ep);
	close(fds[0]);
	close(fds[1]);
	finish(0);
}

struct waiter {
	u32 *word;
	long result;
	int tid;
	bool pi;
};

static void *futex_waiter(void *arg)
{
	struct waiter *w = arg;
	struct timespec *limit = take_copy(&(struct timespec){ .tv_sec = 10 }, sizeof(*limit));

	__atomic_store_n(&w->tid, os_gettid(), __ATOMIC_RELEASE);
	w->result = syscall(SYS_futex, w->word, FUTEX_WAIT_PRIVATE, 5, limit, NULL, 0);
	return NULL;
}

static void test_futex(void)
{
	struct waiter w = { .result = -99 };
	u32 five = 5;
	pthread_t thread;
	long woken = 0;

	begin();
	w.word = take_copy(&five, sizeof(five));
	expect_eq(syscall(SYS_futex, w.word, FUTEX_WAIT_PRIVATE, 4, NULL, NULL, 0), -1);
	expect_eq(errno, EAGAIN);
	pthread_create(&thread, NULL, futex_waiter, &w);
	while (woken == 0)
		woken = syscall(SYS_futex, w.word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	expect_eq(woken, 1);
	pthread_join(thread, NULL);
	expect_eq(w.result, 0);
	expect_eq(syscall(SYS_futex, w.word, FUTEX_CMP_REQUEUE, 1, 1, take_copy(&five, 4), 5), 0);
	expect_eq(syscall(SYS_futex, w.word, FUTEX_LOCK_PI, 0, NULL, NULL, 0), -1); /* no thread has id 5 */
	finish(0);
}

static void test_files(void)
{
	char *dot, *big, cwd[PATH_MAX];
	struct stat st;
	struct utsname *names;
	int fds[2], dir;

	begin();
	dot = take_string(".");
	big = take(65536);
	expect_eq(stat(dot, (struct stat *)big), 0);
	get(&st, big, sizeof(st));
	expect(S_ISDIR(st.st_mode));
	expect_eq(syscall(SYS_statx, AT_FDCWD, dot, 0, 0x7ff, big), 0);
	dir = open(dot, O_RDONLY | O_DIRECTORY);
	expect(dir >= 0);
	expect(syscall(SYS_getdents64, dir, big, 65536) > 0);
	expect(syscall(SYS_getcwd, big, 65536) > 0);
	get(cwd, big, 1);
	expect_eq(cwd[0], '/');
	expect(readlink(take_string("/proc/self/exe"), big, 65536) > 0);
	names = take(sizeof(*names));
	expect_eq(uname(names), 0);
	expect(holds_string(names, "Linux"));
	expect_eq(sysinfo((struct sysinfo *)big), 0);
	expect_eq(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, big), 0);
	expect_eq(nanosleep(take_copy(&(struct timespec){ .tv_nsec = 1 }, 16), (void *)big), 0);
	expect_eq(pipe2((int *)big, 0), 0);
	get(fds, big, sizeof(fds));
	expect_eq(close(fds[0]) + close(fds[1]), 0);
	expect_eq(syscall(SYS_prlimit64, 0, 7, NULL, big), 0);
	expect_eq(open(take_string("/nonexistent"), O_RDONLY), -1);
	expect_eq(errno, ENOENT);
	expect_eq(syscall(SYS_sched_getaffinity, 0, 4096, big) > 0, 1);
	close(dir);
	finish(0);
}

/* A path may end anywhere, and a buffer may claim more than is mapped. */
static void test_edges(void)
{
	char *page, path[4096];
	int file = temp_file();
	ssize_t got;

	begin();
	page = take(8192);
	memset(path, '/', sizeof(path));
	path[sizeof(path) - 1] = '.';
	put(page + 10, path, 4000);
	put(page + 4094, ".", 2);
	expect_eq(access(page + 10, F_OK), 0);
	put(page + 4095, "", 1);
	fake.hole[1] = true;
	expect_eq(access(page + 4000, F_OK), 0);
	expect_eq(access(page + 4096, F_OK), -1);
	expect_eq(errno, EFAULT);
	expect_eq(pwrite(file, "0123456789", 10, 0), 10);
	got = pread(file, page + 4086, 100, 0);
	expect_eq(got, 10);
	fake.read_only[0] = true;
	expect_eq(pread(file, page, 10, 0), -1);
	expect_eq(errno, EFAULT);
	expect_eq(pwrite(file, page + 4086, 10, 0), 10);
	fake.hole[1] = false;
	fake.read_only[0] = false;
	expect_eq(syscall(600, page, page, 7, page), -1);
	expect_eq(errno, ENOSYS);
	close(file);
	finish(2);
}

static void check_spawned(pid_t pid, int fd, const char *expected)
{
	char buf[64] = { 0 };
	int status;

	expect(pid > 0);
	expect(read(fd, buf, sizeof(buf) - 1) > 0);
	expect(!strcmp(buf, expected));
	expect_eq(waitpid(pid, &status, 0), pid);
	expect_eq(status, 0);
	close(fd);
}

/* All strings in the window; released pages stay, and are taken away now and then, as by a reclaimer. */
static void test_exec(void)
{
	char *argv[] = { NULL, NULL, NULL };
	char *envp[] = { NULL, NULL }, *path;
	int fds[2];
	pid_t pid;

	begin();
	fake.lazy = true;
	fake.lazy_period = 7;
	path = take_string("/proc/self/exe");
	argv[0] = take_string("test_net");
	argv[1] = take_string("greet");
	envp[0] = take_string("GREETING=hello");
	char **argv_at = take_copy(argv, sizeof(argv)), **envp_at = take_copy(envp, sizeof(envp));

	for (int i = 0; i < 10; i++) {
		expect_eq(pipe2(fds, O_CLOEXEC), 0);
		pid = vfork();
		if (pid == 0) {
			sys2(SYS_dup2, fds[1], 1);
			syscall(SYS_execve, path, argv_at, envp_at);
			_exit(9);
		}
		close(fds[1]);
		check_spawned(pid, fds[0], "hello");
	}
	expect_eq(execve(take_string("/nonexistent"), argv_at, envp_at), -1);
	expect_eq(errno, ENOENT);
	expect_eq(syscall(SYS_execveat, AT_FDCWD, path, (void *)8, NULL, 0), -1);
	expect_eq(errno, EFAULT);
	fake.lazy = false;
	put(path, "/", 1);
	finish(1);
}

static void test_spawn(void)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t all;
	int fds[2];
	pid_t pid = 0;

	begin();
	fake.lazy = true;
	fake.lazy_period = 50;
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigdefault(&attr, &all);
	for (int i = 0; i < 10; i++) {
		char *argv[] = { take_string("test_net"), take_string("greet"), NULL };
		char *envp[] = { take_string("GREETING=spawned"), NULL };

		expect_eq(pipe2(fds, O_CLOEXEC), 0);
		posix_spawn_file_actions_init(&actions);
		posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
		expect_eq(posix_spawn(&pid, "/proc/self/exe", &actions, &attr, take_copy(argv, sizeof(argv)),
				      take_copy(envp, sizeof(envp))), 0);
		posix_spawn_file_actions_destroy(&actions);
		close(fds[1]);
		check_spawned(pid, fds[0], "spawned");
	}
	posix_spawnattr_destroy(&attr);
	fake.lazy = false;
	for (size_t p = 0; p < PAGES; p++)
		page_protect(p, PROT_NONE);
	finish(0);
}

static void test_guard(void)
{
	int fd = open("/dev/null", O_RDONLY), high;

	begin();
	expect_eq(sys2(SYS_dup2, fd, GUARDED), GUARDED);
	high = dup2(fd, GUARDED + 2);
	expect_eq(high, GUARDED + 2);
	expect_eq(sys2(SYS_dup2, fd, GUARDED + 1), GUARDED + 1);
	expect_eq(close(GUARDED + 1), -1);
	expect_eq(close(GUARDED), -1);
	expect_eq(errno, EBADF);
	errno = 0;
	expect_eq(dup2(fd, GUARDED), -1);
	expect_eq(errno, EBADF);
	errno = 0;
	expect_eq(dup3(fd, GUARDED, O_CLOEXEC), -1);
	expect_eq(errno, EBADF);
	expect_eq(dup2(fd, GUARDED - 1), GUARDED - 1);
	expect_eq(close_range(GUARDED - 1, ~0u, 0), 0);
	expect_eq(fcntl(GUARDED, F_GETFD), 0);
	expect_eq(fcntl(GUARDED - 1, F_GETFD), -1);
	expect_eq(fcntl(high, F_GETFD), -1);
	expect_eq(fcntl(GUARDED + 1, F_GETFD), 0);
	expect_eq(close_range(GUARDED, GUARDED, 0), 0);
	expect_eq(close_range(GUARDED, GUARDED + 1, 0), 0);
	expect_eq(close_range(GUARDED, GUARDED, 1u << 31), -1);
	expect_eq(errno, EINVAL);
	expect_eq(fcntl(GUARDED, F_GETFD), 0);
	expect_eq(sys1(SYS_close, GUARDED), 0);
	close(fd);
	finish(0);
}

static void expect_enosys(long nr)
{
	errno = 0;
	expect_eq(syscall(nr, 1, NULL, 0, 0, 0, 0), -1);
	expect_eq(errno, ENOSYS);
}

static void test_refused(void)
{
	begin();
	expect_enosys(SYS_io_uring_setup);
	expect_enosys(SYS_io_setup);
	expect_enosys(SYS_clone3);
	expect_enosys(SYS_process_madvise);
	expect_eq(prctl(0x53564d41, 0, take(4096), 4096, "name"), -1);
	expect_eq(errno, EINVAL);
	finish(0);
}

static int alarm_pipe[2];
static char *alarm_page;
static int nr_alarms;
static sigjmp_buf alarm_jump;

/* Makes a trapped call of its own. */
static void on_alarm(int sig)
{
	(void)sig;
	nr_alarms++;
	must(write(alarm_pipe[1], alarm_page, 4) == 4);
}

static void on_alarm_quiet(int sig)
{
	(void)sig;
	nr_alarms++;
}

static void on_alarm_jump(int sig)
{
	(void)sig;
	siglongjmp(alarm_jump, 1);
}

static void alarm_in(long us)
{
	struct itimerval t = { .it_value.tv_usec = us };

	expect_eq(setitimer(ITIMER_REAL, &t, NULL), 0);
}

static void test_interrupts(void)
{
	struct sigaction act = { .sa_handler = on_alarm_quiet };
	char *at;

	begin();
	at = take(4096);
	alarm_page = take_string("tick");
	nr_alarms = 0;
	expect_eq(pipe(alarm_pipe), 0);
	expect_eq(sigaction(SIGALRM, &act, NULL), 0);
	alarm_in(20000);
	expect_eq(read(alarm_pipe[0], at, 4), -1);
	expect_eq(errno, EINTR);
	expect_eq(nr_alarms, 1);
	/* The handler feeds the call that it interrupts, which goes on in the gadget. */
	act.sa_handler = on_alarm;
	act.sa_flags = SA_RESTART;
	expect_eq(sigaction(SIGALRM, &act, NULL), 0);
	alarm_in(20000);
	expect_eq(read(alarm_pipe[0], at, 4), 4);
	expect(holds_string(at, "tick"));
	expect_eq(nr_alarms, 2);
	/* sigsuspend and a mask in ppoll. */
	sigset_t block, none;

	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGALRM);
	expect_eq(sigprocmask(SIG_BLOCK, &block, NULL), 0);
	alarm_in(20000);
	expect_eq(sigsuspend(&none), -1);
	expect_eq(errno, EINTR);
	alarm_in(20000);
	expect_eq(ppoll(NULL, 0, NULL, &none), -1);
	expect_eq(errno, EINTR);
	expect_eq(nr_alarms, 4);
	expect_eq(sigprocmask(SIG_UNBLOCK, &block, NULL), 0);
	close(alarm_pipe[0]);
	close(alarm_pipe[1]);
	finish(0);
}

static void jump_once(int flags)
{
	struct sigaction act = { .sa_handler = on_alarm_jump, .sa_flags = flags };
	char *at = take(65536);

	expect_eq(sigaction(SIGALRM, &act, NULL), 0);
	if (sigsetjmp(alarm_jump, 1) == 0) {
		alarm_in(20000);
		read(alarm_pipe[0], at, 65536);
		expect(false);
	}
	expect(fake.held == 16 || fake.held == 0);
	/* Any trapped call of the thread clears the record up. */
	expect_eq(pread(alarm_pipe[0], at, 1, 0), -1);
	expect_eq(fake.held, 0);
}

static void test_jumps(void)
{
	stack_t stack = { .ss_sp = malloc(65536), .ss_size = 65536 };

	begin();
	expect_eq(pipe(alarm_pipe), 0);
	for (int i = 0; i < 5; i++)
		jump_once(0);
	expect_eq(sigaltstack(&stack, NULL), 0);
	for (int i = 0; i < 5; i++)
		jump_once(i & 1 ? SA_ONSTACK : 0);
	stack.ss_flags = SS_DISABLE;
	expect_eq(sigaltstack(&stack, NULL), 0);
	free(stack.ss_sp);
	close(alarm_pipe[0]);
	close(alarm_pipe[1]);
	finish(0);
}

static void *storm_page;

static void on_storm(int sig)
{
	char byte = 'x';

	(void)sig;
	nr_alarms++;
	must(write(alarm_pipe[1], storm_page, 1) == 1);
	must(read(alarm_pipe[0], (char *)storm_page + 1, 1) == 1);
	if (nr_alarms % 8 == 0)
		must(syscall(SYS_writev, alarm_pipe[1], &(struct iovec){ &byte, 0 }, 1) == 0);
}

/* Handlers that trap at every point of trapped calls: nothing is lost, nothing stays. */
static void test_signal_storm(void)
{
	enum { LEN = 700000 };
	struct sigaction act = { .sa_handler = on_storm, .sa_flags = SA_RESTART };
	struct itimerval every = { .it_value.tv_usec = 100, .it_interval.tv_usec = 100 }, off = { 0 };
	char *own = malloc(LEN), *back = malloc(LEN), *at;
	struct iovec iov[2];
	int file = temp_file();

	begin();
	at = take(LEN);
	storm_page = take(2);
	fill_pattern(own, LEN, 31);
	put(at, own, LEN);
	expect_eq(pipe(alarm_pipe), 0);
	expect_eq(sigaction(SIGALRM, &act, NULL), 0);
	nr_alarms = 0;
	expect_eq(setitimer(ITIMER_REAL, &every, NULL), 0);
	for (int i = 0; nr_alarms < 1000 && i < 5000; i++) {
		iov[0] = (struct iovec){ at, (size_t)i };
		iov[1] = (struct iovec){ at + i, LEN - (size_t)i };
		expect_eq(pwritev(file, iov, 2, 0), LEN);
		expect_eq(pread(file, at, LEN, 0), LEN);
		expect_eq(access("/", F_OK), 0);
	}
	expect_eq(setitimer(ITIMER_REAL, &off, NULL), 0);
	expect(nr_alarms > 0);
	get(back, at, LEN);
	expect(!memcmp(own, back, LEN));
	close(file);
	close(alarm_pipe[0]);
	close(alarm_pipe[1]);
	free(own);
	free(back);
	finish(0);
}

/* A thread that ends inside a trapped call. */
static void *cancelled_main(void *arg)
{
	char *at = arg;

	read(alarm_pipe[0], at, 4096);
	return NULL;
}

static void test_cancel(void)
{
	pthread_t thread;
	void *result;

	begin();
	expect_eq(pipe(alarm_pipe), 0);
	pthread_create(&thread, NULL, cancelled_main, take(4096));
	while (__atomic_load_n(&fake.held, __ATOMIC_RELAXED) == 0)
		usleep(1000);
	pthread_cancel(thread);
	pthread_join(thread, &result);
	expect(result == PTHREAD_CANCELED);
	close(alarm_pipe[0]);
	close(alarm_pipe[1]);
	finish(0);
}

struct worker {
	char *at;
	int file;
	int rounds;
	u64 seed;
};

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	char own[512], back[512];

	for (int i = 0; i < w->rounds; i++) {
		fill_pattern(own, sizeof(own), w->seed + (u64)i);
		put(w->at, own, sizeof(own));
		expect_eq(pwrite(w->file, w->at, sizeof(own), (off_t)w->seed * 4096), sizeof(own));
		expect_eq(pread(w->file, w->at, sizeof(own), (off_t)w->seed * 4096), sizeof(own));
		get(back, w->at, sizeof(own));
		expect(!memcmp(own, back, sizeof(own)));
	}
	return NULL;
}

static void test_threads(void)
{
	struct worker w[4];
	pthread_t threads[4];
	int file = temp_file();
	char *shared;

	begin();
	shared = take(4096); /* all on one page, so that holds nest across threads */
	for (int i = 0; i < 4; i++) {
		w[i] = (struct worker){ shared + i * 1024, file, 500, (u64)i + 1 };
		expect_eq(pthread_create(&threads[i], NULL, worker_main, &w[i]), 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	close(file);
	finish(0);
}

static struct worker early;
static pthread_t early_thread;
static int early_pipe[2], early_tid;

static void *early_main(void *arg)
{
	sigset_t alarms;
	char c;

	sigemptyset(&alarms);
	sigaddset(&alarms, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarms, NULL); /* they are for the main thread */
	__atomic_store_n(&early_tid, os_gettid(), __ATOMIC_RELEASE);
	expect_eq(read(early_pipe[0], &c, 1), 1);
	return worker_main(arg);
}

static void start_early_thread(void)
{
	expect_eq(pipe(early_pipe), 0);
	expect_eq(pthread_create(&early_thread, NULL, early_main, &early), 0);
	/* A thread begins with all signals blocked, and the trap of its first call could not be delivered. */
	while (__atomic_load_n(&early_tid, __ATOMIC_ACQUIRE) == 0)
		sched_yield();
}

static void test_early_thread(void)
{
	begin();
	early = (struct worker){ take(4096), temp_file(), 100, 77 };
	expect_eq(write(early_pipe[1], "x", 1), 1);
	pthread_join(early_thread, NULL);
	close(early.file);
	finish(0);
}

static void wait_for(pid_t pid)
{
	int status = -1;

	expect(pid > 0);
	expect_eq(waitpid(pid, &status, 0), pid);
	expect_eq(status, 0);
}

static int clone_main(void *arg)
{
	char *at = arg;

	return pread(0, at, 0, 0) == 0 || errno != EFAULT ? 0 : 1;
}

static void test_fork(void)
{
	u32 forks = fake.nr_forks;
	char *at, *stack = malloc(65536);
	int fds[2];
	pid_t pid;

	begin();
	at = take_string("parent");
	expect_eq(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		if (write(fds[1], at, 6) != 6 || read(fds[0], at + 8, 6) != 6 || !holds_string(at + 8, "parent"))
			_exit(1);
		_exit(fake.held == 0 ? 0 : 2);
	}
	wait_for(pid);
	expect_eq(fake.nr_forks, forks + 1);
	/* The child goes on upon a stack of its own. */
	pid = clone(clone_main, stack + 65536, SIGCHLD, at);
	wait_for(pid);
	expect_eq(fake.nr_forks, forks + 2);
	pid = vfork();
	if (pid == 0) {
		if (write(fds[1], at, 6) != 6)
			_exit(1);
		_exit(0);
	}
	wait_for(pid);
	pid = (pid_t)syscall(SYS_fork);
	if (pid == 0)
		_exit(0);
	wait_for(pid);
	expect_eq(fake.nr_forks, forks + 3);
	close(fds[0]);
	close(fds[1]);
	free(stack);
	finish(0);
}

static u64 blocked_of(int tid)
{
	char path[64], line[256];
	u64 mask = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
	f = fopen(path, "r");
	expect(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "SigBlk: %lx", &mask) == 1)
			break;
	}
	fclose(f);
	return mask;
}

static int masked_tid;

static void *masked_main(void *arg)
{
	struct timespec limit = { .tv_nsec = 300000000 };
	struct epoll_event e;
	sigset_t all;

	sigfillset(&all);
	__atomic_store_n(&masked_tid, os_gettid(), __ATOMIC_RELEASE);
	if (arg)
		expect_eq(ppoll(NULL, 0, &limit, &all), 0);
	else
		expect_eq(epoll_pwait(epoll_create1(EPOLL_CLOEXEC), &e, 1, 300, &all), 0);
	return NULL;
}

/* Masks of waiting calls block all but the two signals that we live on. */
static void test_masks(void)
{
	pthread_t thread;
	sigset_t all, old;

	begin();
	for (int i = 0; i < 2; i++) {
		u64 blocked = 0;
		int tid;

		masked_tid = 0;
		pthread_create(&thread, NULL, masked_main, i ? &masked_tid : NULL);
		while ((tid = __atomic_load_n(&masked_tid, __ATOMIC_ACQUIRE)) == 0)
			sched_yield();
		for (int try = 0; try < 100 && !(blocked & signal_raw_bit(SIGUSR1)); try++) {
			usleep(1000);
			blocked = blocked_of(tid);
		}
		expect(blocked & signal_raw_bit(SIGUSR1));
		expect_eq(blocked & SIGNAL_RAW_NEVER_BLOCKED, 0);
		pthread_join(thread, NULL);
	}
	sigfillset(&all);
	expect_eq(sigprocmask(SIG_SETMASK, &all, &old), 0);
	expect_eq(signal_raw_mask_get() & SIGNAL_RAW_NEVER_BLOCKED, 0);
	expect(signal_raw_mask_get() & signal_raw_bit(SIGUSR1));
	expect_eq(sigprocmask(SIG_SETMASK, &old, NULL), 0);
	expect_eq(syscall(SYS_rt_sigprocmask, -1, take(8), NULL, 8), -1);
	expect_eq(errno, EINVAL);
	expect_eq(syscall(SYS_rt_sigprocmask, -1, 8, NULL, 8), -1);
	expect_eq(errno, EFAULT);
	finish(1);
}

static void test_chain(void)
{
	u32 chained = fake.nr_chained;

	begin();
	expect_eq(raise(SIGSYS), 0);
	expect_eq(fake.nr_chained, chained + 1);
	expect_eq(write(-1, take(8), 8), -1);
	finish(0);
}

static void test_mm_calls(void)
{
	u32 calls = fake.nr_mm_calls;
	char *at;

	begin();
	at = take(8192);
	expect_eq(madvise(at, 4096, MADV_NORMAL), 0);
	expect_eq(mprotect(at, 4096, PROT_NONE), 0);
	expect_eq(mlockall(MCL_CURRENT), 0);
	expect_eq(fake.nr_mm_calls, calls + 3);
	/* Only the vector lies in the window. */
	expect_eq(mincore((void *)((uintptr_t)&calls & PAGE_MASK), 4096, (unsigned char *)take(4096)), 0);
	expect_eq(fake.nr_mm_calls, calls + 3);
	finish(0);
}

static void *tid_address_main(void *arg)
{
	return (void *)syscall(SYS_set_tid_address, arg);
}

/* What the kernel keeps a pointer to stays for good. */
static void test_forever(void)
{
	u32 one = 1, *word;
	pthread_t thread;

	begin();
	word = take_copy(&one, sizeof(one));
	pthread_attr_t attr;

	/* glibc joins by the word that we move, so the thread is detached and we watch ours. */
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	expect_eq(pthread_create(&thread, &attr, tid_address_main, word), 0);
	while (one)
		get(&one, word, sizeof(one));
	expect_eq(fake.held, 1);
	fake_release((uintptr_t)word, 4);
	finish(0);
}

/* Calls from anywhere but our own text pass: so do those of a static program, which sits below 4 GiB. */
static void test_low_text(void)
{
	static const u8 code[] = { 0x48, 0x89, 0xf8, 0x48, 0x89, 0xf7, 0x48, 0x89, 0xd6, 0x48, 0x89, 0xca, 0x4d, 0x89,
				   0xc2, 0x4d, 0x89, 0xc8, 0x4c, 0x8b, 0x4c, 0x24, 0x08, 0x0f, 0x05, 0xc3 };
	void *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT,
			 -1, 0);
	struct net_counts now;
	struct iovec none = { 0 };
	syscall_fn call;
	u64 set = 0;

	if (low == MAP_FAILED)
		return;
	begin();
	memcpy(low, code, sizeof(code));
	memcpy(&call, &low, sizeof(call));
	net_stats(&before);
	expect_eq(call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&set, 0, 8, 0, 0), 0);
	expect_eq(call(SYS_writev, 1, (long)&none, 1, 0, 0, 0), 0);
	expect_eq(call(SYS_write, -1, NET_WINDOW, 1, 0, 0, 0), -EBADF);
	net_stats(&now);
	expect_eq(now.traps, before.traps);
	munmap(low, 4096);
}

/* Another exec'd copy: what it prints shows that its arguments and environment came through. */
static int greet_main(void)
{
	const char *greeting = getenv("GREETING");

	return greeting && write(1, greeting, strlen(greeting)) > 0 ? 0 : 1;
}

/* The exec'd copy of this program: the filter is there before the handler. */
static int inherited_main(void)
{
	char *at;
	int fds[2];

	expect(net_inherited());
	expect(net_inherited());
	/* By the gadget, as a call of libc would be trapped. */
	expect_eq(sys6(SYS_mmap, NET_WINDOW, WINDOW_BYTES, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0), NET_WINDOW);
	expect_eq(net_arm_inherited(NET_WINDOW, WINDOW_BYTES, GUARDED, &ops), 0);
	begin();
	at = take_string("inherited");
	expect_eq(pipe(fds), 0);
	expect_eq(write(fds[1], at, 9), 9);
	expect_eq(read(fds[0], at + 100, 9), 9);
	expect(holds_string(at + 100, "inherited"));
	expect_eq(close(GUARDED), -1);
	finish(0);
	test_exec();
	test_fork();
	return 0;
}

static pid_t forked_pid = -1;

static void on_alarm_fork(int sig)
{
	(void)sig;
	forked_pid = fork();
	must(write(alarm_pipe[1], alarm_page, 4) == 4);
}

/* Parent and child both go on with the call that the handler interrupted; the child's holds are gone. */
static void test_fork_in_call(void)
{
	struct sigaction act = { .sa_handler = on_alarm_fork, .sa_flags = SA_RESTART };
	bool fed;
	char *at;

	begin();
	at = take(4096);
	alarm_page = take_string("tick");
	expect_eq(pipe(alarm_pipe), 0);
	expect_eq(sigaction(SIGALRM, &act, NULL), 0);
	alarm_in(20000);
	fed = read(alarm_pipe[0], at, 4) == 4 && holds_string(at, "tick");
	if (forked_pid == 0)
		_exit(fed && fake.held == 0 ? 0 : 1);
	expect(fed);
	wait_for(forked_pid);
	close(alarm_pipe[0]);
	close(alarm_pipe[1]);
	finish(0);
}

static void exec_self(const char *arg)
{
	pid_t pid = fork();

	if (pid == 0) {
		execl("/proc/self/exe", "test_net", arg, NULL);
		_exit(9);
	}
	wait_for(pid);
}

/* The copy that arms with fixed addresses, as in a debugger, for the next copy to inherit. */
static int fixed_main(void)
{
	fake_arm();
	begin();
	exec_self("inherited");
	finish(0);
	return 0;
}

static void test_inherited(void)
{
	begin();
	if (personality(ADDR_NO_RANDOMIZE) < 0)
		return;
	exec_self("fixed");
	expect(personality(0) >= 0);
	finish(0);
}

/* A program without a shim makes all kinds of calls. Its text is elsewhere, so nothing traps. */
static void test_unserved(void)
{
	char name[] = "sh", option[] = "-c", script[] = "trap : USR1; x=$(echo unserved | cat); kill -USR1 $$; echo $x";
	char *argv[] = { name, option, script, NULL };
	posix_spawn_file_actions_t actions;
	pid_t pid = 0;
	int fds[2];

	begin();
	expect_eq(pipe2(fds, O_CLOEXEC), 0);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
	expect_eq(posix_spawn(&pid, "/bin/sh", &actions, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	check_spawned(pid, fds[0], "unserved\n");
	finish(0);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "inherited"))
		return inherited_main();
	if (argc > 1 && !strcmp(argv[1], "fixed"))
		return fixed_main();
	if (argc > 1)
		return greet_main();
	start_early_thread();
	fake_arm();
	run_test(test_sockets);
	run_test(test_poll);
	run_test(test_futex);
	run_test(test_files);
	run_test(test_edges);
	run_test(test_exec);
	run_test(test_spawn);
	run_test(test_guard);
	run_test(test_refused);
	run_test(test_interrupts);
	run_test(test_jumps);
	run_test(test_signal_storm);
	run_test(test_cancel);
	run_test(test_threads);
	run_test(test_early_thread);
	run_test(test_fork);
	run_test(test_fork_in_call);
	run_test(test_masks);
	run_test(test_chain);
	run_test(test_mm_calls);
	run_test(test_forever);
	run_test(test_low_text);
	run_test(test_inherited);
	run_test(test_unserved);
	return 0;
}
