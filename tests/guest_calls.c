// SPDX-License-Identifier: MIT
/* Kernel accesses to memory that is paged out. See guest.h. */
#include "guest.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/bpf.h>
#include <linux/ethtool.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/if_alg.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <ucontext.h>

extern char **environ;

static int temp_file(void)
{
	char path[] = "/tmp/weir-guest-XXXXXX";
	int fd = mkstemp(path);

	expect(fd >= 0);
	unlink(path);
	return fd;
}

static void alarm_in(long us)
{
	struct itimerval t = { .it_value.tv_usec = us };

	setitimer(ITIMER_REAL, &t, NULL);
}

static int nr_alarms;

static void on_alarm(int sig)
{
	(void)sig;
	nr_alarms++;
}

static void handle_alarm(void (*handler)(int), int flags)
{
	struct sigaction act = { .sa_flags = flags };

	act.sa_handler = handler;
	sigaction(SIGALRM, &act, NULL);
}

/* ---- nested pointers ---- */

static void vectors(void)
{
	struct iovec *iov = take(sizeof(*iov) * 8);
	char *data = take(1 << 20), *back = take(1 << 20);
	int fd = temp_file();

	fill(data, 1 << 20, 1);
	for (int i = 0; i < 8; i++)
		iov[i] = (struct iovec){ data + i * 100000, 100000 };
	say(writev(fd, iov, 8));
	say(pwritev(fd, iov, 8, 5));
	say(pwritev2(fd, iov, 8, 0, 0));
	for (int i = 0; i < 8; i++)
		iov[i].iov_base = back + i * 100000;
	say(lseek(fd, 0, SEEK_SET));
	say(readv(fd, iov, 8));
	show(memcmp(data, back, 800000));
	say(preadv2(fd, iov, 8, 3, 0));
	show(memcmp(data + 3, back, 799997));
	iov[3].iov_base = NULL;
	say(preadv(fd, iov, 8, 0));
	say(pwritev(fd, iov, 8, 0));
	say(syscall(SYS_writev, fd, iov, 2000));
	say(syscall(SYS_writev, fd, iov, -1));
	say(writev(fd, (void *)8, 1));
	iov[1].iov_len = (size_t)-1;
	say(writev(fd, iov, 2));
	close(fd);
}

static void peers(void)
{
	char *a = take_string("from here"), *b = take(PAGE);
	struct iovec *iov = take(2 * sizeof(*iov));

	iov[0] = (struct iovec){ b, 10 };
	iov[1] = (struct iovec){ a, 10 };
	say(process_vm_readv(getpid(), iov, 1, iov + 1, 1, 0));
	puts(b);
	memcpy(b, "over there", 11);
	say(process_vm_writev(getpid(), iov, 1, iov + 1, 1, 0));
	puts(a);
	iov[1].iov_base = (void *)16;
	say(process_vm_readv(getpid(), iov, 1, iov + 1, 1, 0));
}

static void ioctls(void)
{
	int fds[2], pty, sock = socket(AF_INET, SOCK_DGRAM, 0), fd = temp_file(), *n = take(sizeof(int));
	struct ifreq *req = take(64 * sizeof(*req));
	struct ifconf *conf = take(sizeof(*conf)), on_stack = { 0 };
	struct ethtool_value *link = take(sizeof(*link));
	struct fiemap *map = take(3 * PAGE);
	struct termios *tio = take(sizeof(*tio));
	struct winsize *size = take(sizeof(*size));

	expect(!pipe(fds));
	expect(write(fds[1], "12345", 5) == 5);
	say(ioctl(fds[0], FIONREAD, n));
	show(*n);
	*n = 1;
	say(ioctl(fds[0], FIONBIO, n));
	say(read(fds[0], take(PAGE), 100));
	say(read(fds[0], take(PAGE), 100));
	pty = posix_openpt(O_RDWR | O_NOCTTY);
	say(ioctl(pty, TCGETS, tio));
	show(tio->c_cflag);
	tio->c_lflag &= ~(tcflag_t)ECHO;
	say(ioctl(pty, TCSETS, tio));
	size->ws_row = 77;
	say(ioctl(pty, TIOCSWINSZ, size));
	memset(size, 0, sizeof(*size));
	say(ioctl(pty, TIOCGWINSZ, size));
	show(size->ws_row);
	conf->ifc_len = on_stack.ifc_len = 64 * sizeof(*req);
	conf->ifc_req = on_stack.ifc_req = req;
	say(ioctl(sock, SIOCGIFCONF, conf));
	memset(req, 0, 64 * sizeof(*req));
	say(ioctl(sock, SIOCGIFCONF, &on_stack));
	show(conf->ifc_len == on_stack.ifc_len);
	strcpy(req->ifr_name, "lo");
	say(ioctl(sock, SIOCGIFFLAGS, req));
	show(req->ifr_flags & IFF_LOOPBACK);
	link->cmd = ETHTOOL_GLINK;
	req->ifr_data = (char *)link;
	say(ioctl(sock, SIOCETHTOOL, req));
	show(link->data);
	expect(pwrite(fd, map, PAGE, 0) == (ssize_t)PAGE);
	memset(map, 0, 3 * PAGE);
	map->fm_length = 1 << 20;
	map->fm_flags = FIEMAP_FLAG_SYNC;
	map->fm_extent_count = 20;
	say(ioctl(fd, FS_IOC_FIEMAP, map));
	show(map->fm_mapped_extents);
	say(ioctl(fd, FS_IOC_GETFLAGS, n));
	say(ioctl(fds[0], FIONREAD, (void *)8));
	say(ioctl(fds[0], TCGETS, tio));
	close(sock);
	close(pty);
	close(fd);
}

/* A map of the kernel's: the structure holds the addresses of key and value as plain numbers. */
static void bpf_maps(void)
{
	union bpf_attr *attr = take(sizeof(*attr)), local;
	long *key = take(8), *value = take(8);
	int fd;

	memset(&local, 0, sizeof(local));
	local.map_type = BPF_MAP_TYPE_HASH;
	local.key_size = local.value_size = 8;
	local.max_entries = 4;
	*attr = local;
	page_out();
	fd = (int)syscall(SYS_bpf, BPF_MAP_CREATE, attr, sizeof(*attr));
	printf("bpf map: %s\n", fd >= 0 ? "made" : strerrorname_np(errno));
	memset(&local, 0, sizeof(local));
	local.map_fd = (unsigned int)fd;
	local.key = (uintptr_t)key;
	local.value = (uintptr_t)value;
	*key = 7;
	*value = 1234;
	*attr = local;
	say(syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, attr, sizeof(*attr)));
	*value = 0;
	say(syscall(SYS_bpf, BPF_MAP_LOOKUP_ELEM, &local, sizeof(local)));
	show(*value);
	if (fd >= 0)
		close(fd);
}

static void exec_once(char *path, char **argv, char **envp, bool fork_first)
{
	int status;
	pid_t pid;

	page_out();
	fflush(stdout);
	pid = fork_first ? fork() : vfork();
	if (pid == 0) {
		execve(path, argv, envp);
		_exit(99);
	}
	expect(waitpid(pid, &status, 0) == pid);
	show(status);
}

static void execs(void)
{
	char **argv = take(200 * sizeof(char *)), **envp = take(200 * sizeof(char *)), *path = take_string("/bin/sh");
	char *big = take(70000);

	argv[0] = take_string("sh");
	argv[1] = take_string("-c");
	argv[2] = take_string("echo $HELLO $# ${#1}; exit 5");
	argv[3] = take_string("x");
	memset(big, 'a', 69999);
	argv[4] = big;
	for (int i = 5; i < 150; i++)
		argv[i] = take_string("more");
	envp[0] = take_string("HELLO=there");
	exec_once(path, argv, envp, false);
	exec_once(path, argv, envp, true);
	argv[4] = (char *)24;
	say(execve(path, argv, envp));
	say(execve(take_string("/nonexistent"), argv, envp));
	say(execve((char *)8, argv, envp));
}

/* ---- futexes and locks ---- */

static unsigned int *word;
static long woken_result;

static void *wait_main(void *arg)
{
	(void)arg;
	woken_result = syscall(SYS_futex, word, FUTEX_WAIT, 1, NULL, NULL, 0);
	return NULL;
}

static void wake_one(int op, unsigned int *from)
{
	pthread_t t;
	long woken = 0;

	woken_result = -99;
	*word = 1;
	pthread_create(&t, NULL, wait_main, NULL);
	if (op == FUTEX_CMP_REQUEUE) {
		while (syscall(SYS_futex, word, FUTEX_CMP_REQUEUE, 0, 1, from, 1) != 1)
			page_out();
		show(woken_result);
	}
	while (woken == 0) {
		page_out();
		woken = syscall(SYS_futex, from, op == FUTEX_CMP_REQUEUE ? FUTEX_WAKE : op, 1,
				op == FUTEX_WAKE_OP ? 1 : 0, op == FUTEX_WAKE_OP ? from + 1 : NULL,
				FUTEX_OP(FUTEX_OP_SET, 5, FUTEX_OP_CMP_EQ, 99));
	}
	pthread_join(t, NULL);
	printf("op %d: woken %ld result %ld\n", op, woken, woken_result);
}

struct waitv {
	uint64_t val, uaddr;
	uint32_t flags, reserved;
};

static void futexes(void)
{
	struct timespec *soon = take_copy(&(struct timespec){ .tv_nsec = 2000000 }, sizeof(*soon)), at;
	struct waitv *v = take(3 * sizeof(*v));
	unsigned int *other = take(8);

	word = take(8);
	*word = 5;
	say(syscall(SYS_futex, word, FUTEX_WAIT, 4, soon, NULL, 0));
	say(syscall(SYS_futex, word, FUTEX_WAIT, 5, soon, NULL, 0));
	say(syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 5, soon, NULL, 0));
	say(syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0));
	say(syscall(SYS_futex, 8, FUTEX_WAIT, 5, NULL, NULL, 0));
	wake_one(FUTEX_WAKE, word);
	wake_one(FUTEX_CMP_REQUEUE, other);
	wake_one(FUTEX_WAKE_OP, word);
	show(word[1]);
	*word = 0;
	say(syscall(SYS_futex, word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	show(*word == (unsigned int)gettid());
	say(syscall(SYS_futex, word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
	say(syscall(SYS_futex, word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
	show(*word);
	for (int i = 0; i < 3; i++)
		v[i] = (struct waitv){ 3, (uintptr_t)take_copy(&(int){ 3 }, 4), 2, 0 };
	clock_gettime(CLOCK_MONOTONIC, &at);
	*soon = at;
	say(syscall(449, v, 3, 0, soon, CLOCK_MONOTONIC));
	v[2].val = 4;
	say(syscall(449, v, 3, 0, NULL, CLOCK_MONOTONIC));
}

struct locks {
	pthread_mutex_t plain, pi, shared, recursive;
	pthread_cond_t cond;
	pthread_rwlock_t rw;
	pthread_barrier_t barrier;
	sem_t sem;
	long count, turn;
};

static void *lock_main(void *arg)
{
	struct locks *l = arg;

	for (int i = 0; i < 200; i++) {
		pthread_mutex_lock(&l->pi);
		l->count++;
		pthread_mutex_unlock(&l->pi);
		pthread_mutex_lock(&l->shared);
		l->count++;
		pthread_mutex_unlock(&l->shared);
		pthread_rwlock_wrlock(&l->rw);
		l->count++;
		pthread_rwlock_unlock(&l->rw);
		sem_wait(&l->sem);
		l->count++;
		sem_post(&l->sem);
		if (i % 20 == 0)
			pthread_barrier_wait(&l->barrier);
		pthread_mutex_lock(&l->plain);
		l->turn++;
		pthread_cond_broadcast(&l->cond);
		while (l->turn < 4 * (i + 1))
			pthread_cond_wait(&l->cond, &l->plain);
		pthread_mutex_unlock(&l->plain);
		if (i % 10 == 0)
			page_out();
	}
	return NULL;
}

static void locks(void)
{
	struct locks *l = take(sizeof(*l));
	pthread_mutexattr_t attr;
	pthread_t t[4];
	long result = 0;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&l->shared, &attr);
	pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&l->pi, &attr);
	pthread_mutex_init(&l->plain, NULL);
	pthread_cond_init(&l->cond, NULL);
	pthread_rwlock_init(&l->rw, NULL);
	pthread_barrier_init(&l->barrier, NULL, 4);
	sem_init(&l->sem, 1, 1);
	/* Every lock is under count's own lock in turn; the sums show that none was missed. */
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, lock_main, l);
	for (int i = 0; i < 4; i++)
		result += pthread_join(t[i], NULL);
	show(result);
	show(l->turn);
}

static pthread_mutex_t *robust_mutex;

static void *die_holding(void *arg)
{
	(void)arg;
	for (int i = 0; i < 3; i++)
		pthread_mutex_lock(robust_mutex + i * 200);
	page_out();
	if (arg)
		syscall(SYS_exit, 0);
	return NULL;
}

/* The holder dies while the page with its mutex is out: the next one is told. */
static void robust(void)
{
	pthread_mutexattr_t attr;
	pthread_t t;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	robust_mutex = take(600 * sizeof(*robust_mutex));
	for (int i = 0; i < 3; i++)
		pthread_mutex_init(robust_mutex + i * 200, &attr);
	for (int round = 0; round < 20; round++) {
		pthread_create(&t, NULL, die_holding, round % 2 ? &t : NULL);
		pthread_join(t, NULL);
		page_out();
		for (int i = 0; i < 3; i++) {
			struct timespec limit;
			int result;

			clock_gettime(CLOCK_REALTIME, &limit);
			limit.tv_sec += 5;
			result = pthread_mutex_timedlock(robust_mutex + i * 200, &limit);
			printf("round %d: %s\n", round, result == EOWNERDEAD ? "EOWNERDEAD" : "no");
			expect(result == EOWNERDEAD);
			pthread_mutex_consistent(robust_mutex + i * 200);
			pthread_mutex_unlock(robust_mutex + i * 200);
		}
	}
}

/* ---- stacks ---- */

static int recurse(int depth)
{
	char buf[1000];

	memset(buf, depth, sizeof(buf));
	if (depth % 8 == 0)
		page_out();
	return depth ? recurse(depth - 1) + buf[depth % 1000] - depth : buf[1];
}

static void *stack_main(void *arg)
{
	show(recurse(100));
	return arg;
}

static void thread_stacks(void)
{
	char *stack = take(1 << 18);
	pthread_attr_t attr;
	pthread_t t;

	pthread_attr_init(&attr);
	for (int i = 0; i < 300; i++) {
		int result;

		pthread_attr_setstack(&attr, stack, 1 << 18);
		result = pthread_create(&t, &attr, stack_main, NULL);
		if (result) {
			printf("pthread_create: %s\n", strerrorname_np(result));
			return;
		}
		pthread_join(t, NULL);
	}
}

static ucontext_t main_context, co_context;

static void co_main(void)
{
	for (int i = 0; i < 5; i++) {
		show(recurse(60));
		page_out();
		swapcontext(&co_context, &main_context);
	}
}

/* Contexts and their stacks in the arena; every switch saves the mask by a call from the absent stack. */
static void coroutines(void)
{
	ucontext_t *co = take(sizeof(*co));

	getcontext(&co_context);
	co_context.uc_stack.ss_sp = take(1 << 17);
	co_context.uc_stack.ss_size = 1 << 17;
	co_context.uc_link = &main_context;
	makecontext(&co_context, co_main, 0);
	for (int i = 0; i < 6; i++) {
		page_out();
		swapcontext(&main_context, &co_context);
	}
	(void)co;
	puts("done");
}

static int nr_ticks;

static void on_tick(int sig)
{
	char buf[2000];

	memset(buf, sig, sizeof(buf));
	nr_ticks += buf[sig] == sig;
}

static void co_ticks(void)
{
	while (__atomic_load_n(&nr_ticks, __ATOMIC_RELAXED) < 300) {
		char here;

		/* What lies below this frame, where the kernel writes the signal's. */
		madvise((char *)((uintptr_t)&here & ~(PAGE - 1)) - 8 * PAGE, 9 * PAGE, MADV_PAGEOUT);
		kill(getpid(), SIGUSR1);
	}
}

/* Signals that arrive on a coroutine's stack of which nothing is present; the handler wants no stack of its own. */
static void coroutine_signals(void)
{
	struct sigaction act = { .sa_flags = SA_RESTART };

	act.sa_handler = on_tick;
	sigaction(SIGUSR1, &act, NULL);
	getcontext(&co_context);
	co_context.uc_stack.ss_sp = take(1 << 17);
	co_context.uc_stack.ss_size = 1 << 17;
	co_context.uc_link = &main_context;
	makecontext(&co_context, co_ticks, 0);
	swapcontext(&main_context, &co_context);
	show(nr_ticks);
}

/* ---- interrupted and cancelled calls ---- */

static void interrupts(void)
{
	char *buf = take(PAGE);
	int fds[2], *n = take(4);
	struct pollfd *p = take(sizeof(*p));
	struct epoll_event *e = take(sizeof(*e) * 8);
	struct timespec *t = take_copy(&(struct timespec){ .tv_sec = 20 }, sizeof(*t)), *left = take(sizeof(*left));
	int ep = epoll_create1(0);

	expect(!pipe(fds));
	p->fd = fds[0];
	p->events = POLLIN;
	e->events = EPOLLIN;
	expect(!epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], e));
	for (int restart = 0; restart < 2; restart++) {
		handle_alarm(on_alarm, restart ? SA_RESTART : 0);
		alarm_in(20000);
		say(poll(p, 1, 20000));
		alarm_in(20000);
		say(epoll_wait(ep, e, 8, 20000));
		alarm_in(20000);
		say(nanosleep(t, left));
		show(left->tv_sec >= 18);
		alarm_in(20000);
		say(syscall(SYS_futex, n, FUTEX_WAIT, 0, t, NULL, 0) == 0 || restart);
		alarm_in(0);
		if (restart)
			break;
		alarm_in(20000);
		say(read(fds[0], buf, PAGE));
		alarm_in(20000);
		say(waitid(P_ALL, 0, (siginfo_t *)take(PAGE), WEXITED));
	}
	show(nr_alarms >= 9);
}

static void feed(int sig)
{
	(void)sig;
	expect(write(nr_alarms, "fed", 3) == 3);
}

static void restarts(void)
{
	char *buf = take(PAGE);
	int fds[2];

	expect(!pipe(fds));
	nr_alarms = fds[1];
	handle_alarm(feed, SA_RESTART);
	for (int i = 0; i < 5; i++) {
		alarm_in(10000);
		say(read(fds[0], buf, PAGE));
	}
}

static int cancel_pipe[2];

static void *cancel_main(void *arg)
{
	read(cancel_pipe[0], arg, 1 << 18);
	return NULL;
}

/* Each would leave its holds behind: together far more than the limit. */
static void cancels(void)
{
	char *buf = take(1 << 18);

	expect(!pipe(cancel_pipe));
	for (int i = 0; i < 200; i++) {
		pthread_t t;
		void *result;

		pthread_create(&t, NULL, cancel_main, buf);
		if (i % 2)
			usleep(500);
		pthread_cancel(t);
		pthread_join(t, &result);
		expect(result == PTHREAD_CANCELED);
	}
	page_out();
	expect(write(cancel_pipe[1], "x", 1) == 1);
	say(read(cancel_pipe[0], buf, 1 << 18));
}

static sigjmp_buf jump_out;

static void on_jump(int sig)
{
	siglongjmp(jump_out, sig);
}

static void jumps(void)
{
	char *buf = take(1 << 18);
	static int jumped;

	expect(!pipe(cancel_pipe));
	handle_alarm(on_jump, 0);
	while (__atomic_load_n(&jumped, __ATOMIC_RELAXED) < 200) {
		if (sigsetjmp(jump_out, 1)) {
			__atomic_fetch_add(&jumped, 1, __ATOMIC_RELAXED);
			continue;
		}
		alarm_in(700);
		read(cancel_pipe[0], buf, 1 << 18);
		expect(false /* read returned */);
	}
	show(jumped);
	handle_alarm(SIG_DFL, 0);
	expect(write(cancel_pipe[1], "x", 1) == 1);
	say(read(cancel_pipe[0], buf, 1 << 18));
}

static int blocked_pipe[2];

static void *blocked_main(void *arg)
{
	while (read(blocked_pipe[0], arg, 1 << 18) > 0)
		;
	return NULL;
}

/* Many threads sleep in reads of 256 KiB each, while the main thread works with the kernel. */
static void many_blocked(void)
{
	enum { NR = 200 };
	pthread_t t[NR];
	char *data = take(2 << 20), *back = take(2 << 20);
	int fd = temp_file();

	expect(!pipe(blocked_pipe));
	for (int i = 0; i < NR; i++)
		expect(!pthread_create(&t[i], NULL, blocked_main, take(1 << 18)));
	usleep(100000);
	fill(data, 2 << 20, 3);
	for (int i = 0; i < 5; i++) {
		say(pwrite(fd, data, 2 << 20, 0));
		say(pread(fd, back, 2 << 20, 0));
		show(memcmp(data, back, 2 << 20));
		say(access(take_string("/"), F_OK));
	}
	close(blocked_pipe[1]);
	for (int i = 0; i < NR; i++)
		pthread_join(t[i], NULL);
	puts("joined");
}

/* ---- big transfers ---- */

enum { BIG = (40 << 20) + 777 };

static void *drain_main(void *arg)
{
	static char buf[1 << 16];
	unsigned long h = 0;
	ssize_t got;
	size_t sum = 0;

	while ((got = read(*(int *)arg, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < got; i++)
			h = h * 31 + (unsigned char)buf[i];
		sum += (size_t)got;
	}
	printf("drained %zu, hash %lx\n", sum, h);
	return NULL;
}

static void drained(int out, int in, int how, char *data)
{
	pthread_t t;

	pthread_create(&t, NULL, drain_main, &in);
	if (how == 0)
		say(write(out, data, BIG));
	else
		say(send(out, data, BIG, MSG_NOSIGNAL));
	close(out);
	pthread_join(t, NULL);
	close(in);
}

static void *feed_main(void *arg)
{
	static char buf[1 << 16];
	int fd = *(int *)arg;

	for (size_t done = 0; done < BIG;) {
		size_t len = BIG - done < sizeof(buf) ? BIG - done : sizeof(buf);
		ssize_t put;

		memset(buf, (int)(done >> 16), sizeof(buf));
		put = write(fd, buf, len);
		expect(put > 0);
		done += (size_t)put;
	}
	return NULL;
}

static void big(void)
{
	char *data = take(BIG);
	int fd = temp_file(), fds[2];
	struct iovec *iov = take(2 * sizeof(*iov));
	struct msghdr *msg = take(sizeof(*msg));
	pthread_t t;

	fill(data, BIG, 9);
	say(write(fd, data, BIG));
	memset(data, 0, BIG);
	say(pread(fd, data, BIG, 0));
	printf("%lx\n", guest_hash(data, BIG));
	say(pread(fd, data, BIG, BIG - 100));
	say(pread(fd, data, BIG, BIG));
	expect(!pipe(fds));
	drained(fds[1], fds[0], 0, data);
	expect(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
	drained(fds[1], fds[0], 1, data);
	expect(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
	pthread_create(&t, NULL, feed_main, &fds[1]);
	say(recv(fds[0], data, BIG, MSG_WAITALL));
	pthread_join(t, NULL);
	printf("%lx\n", guest_hash(data, BIG));
	iov[0] = (struct iovec){ data, 1000 };
	iov[1] = (struct iovec){ data + 1000, BIG - 1000 };
	*msg = (struct msghdr){ .msg_iov = iov, .msg_iovlen = 2 };
	pthread_create(&t, NULL, feed_main, &fds[1]);
	say(recvmsg(fds[0], msg, MSG_WAITALL));
	pthread_join(t, NULL);
	printf("%lx\n", guest_hash(data, BIG));
	expect(write(fds[1], "12345", 5) == 5);
	shutdown(fds[1], SHUT_WR);
	say(recv(fds[0], data, BIG, MSG_WAITALL));
	say(recv(fds[0], data, BIG, MSG_WAITALL));
	close(fds[0]);
	close(fds[1]);
	close(fd);
}

/* One call, one message, however large the buffer. */
static void packets(void)
{
	static const int types[] = { SOCK_DGRAM, SOCK_SEQPACKET };
	char *data = take(BIG), *back = take(BIG);
	struct iovec *iov = take(2 * sizeof(*iov));
	int fds[2], direct[2], event;
	uint64_t *count = take(8);

	fill(data, 1 << 20, 4);
	for (int i = 0; i < 2; i++) {
		int size = 212992;

		expect(!socketpair(AF_UNIX, types[i], 0, fds));
		expect(!setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)));
		expect(!fcntl(fds[1], F_SETFL, O_NONBLOCK));
		say(write(fds[0], data, 150000));
		say(read(fds[1], back, BIG));
		show(memcmp(data, back, 150000));
		say(read(fds[1], back, BIG));
		say(write(fds[0], data, 300000));
		say(recv(fds[1], back, BIG, 0));
		show(memcmp(data, back, 300000));
		say(write(fds[0], data, BIG));
		say(send(fds[0], data, BIG, 0));
		iov[0] = (struct iovec){ data, 7 };
		iov[1] = (struct iovec){ data + 7, 200000 };
		say(writev(fds[0], iov, 2));
		iov[0] = (struct iovec){ back, 100 };
		iov[1] = (struct iovec){ back + 100, BIG - 100 };
		say(readv(fds[1], iov, 2));
		show(memcmp(data, back, 200007));
		say(write(fds[0], data, 100));
		say(recv(fds[1], back, BIG, MSG_PEEK));
		say(recv(fds[1], back, 10, MSG_TRUNC));
		close(fds[0]);
		close(fds[1]);
	}
	expect(!pipe2(direct, O_DIRECT | O_NONBLOCK));
	say(write(direct[1], data, 10000));
	say(write(direct[1], data, 5));
	for (int i = 0; i < 5; i++)
		say(read(direct[0], back, BIG));
	say(write(direct[1], data, BIG));
	for (int i = 0; i < 2; i++)
		say(read(direct[0], back, 100));
	event = eventfd(3, EFD_NONBLOCK);
	say(read(event, back, BIG));
	*count = 9;
	say(write(event, count, 8));
	say(read(event, count, 8));
	show(*count);
}

/* Two writers append; what one call wrote is never torn apart. */
static void appends(void)
{
	enum { LEN = 400000, ROUNDS = 40 };
	char path[] = "/tmp/weir-guest-XXXXXX";
	char *data = take(LEN);
	int fd = mkstemp(path), status, torn = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	fd = open(path, O_RDWR | O_APPEND);
	memset(data, pid ? 'p' : 'c', LEN);
	for (int i = 0; i < ROUNDS; i++) {
		page_out();
		expect(write(fd, data, LEN) == LEN);
	}
	if (!pid)
		_exit(0);
	waitpid(pid, &status, 0);
	show(status);
	for (int i = 0; i < 2 * ROUNDS; i++) {
		expect(pread(fd, data, LEN, (off_t)i * LEN) == LEN);
		torn += memchr(data, data[0] == 'p' ? 'c' : 'p', LEN) != NULL;
	}
	show(torn);
	unlink(path);
	close(fd);
}

/* Aligned, past the page cache, larger than the limit. */
static void direct_files(void)
{
	char path[] = "/var/tmp/weir-guest-XXXXXX", *data = take(12 << 20), *back = take(12 << 20);
	int fd = mkstemp(path);

	expect(fd >= 0);
	fill(data, 12 << 20, 6);
	expect(!fcntl(fd, F_SETFL, O_DIRECT) || errno == EINVAL);
	say(pwrite(fd, data, 12 << 20, 0));
	say(pread(fd, back, 12 << 20, 0));
	show(memcmp(data, back, 12 << 20));
	say(pread(fd, back + 1, 4096, 0) == 4096 || errno == EINVAL);
	unlink(path);
	close(fd);
}

/* ---- bad pointers ---- */

static void bad_pointers(void)
{
	char *m = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = temp_file(), fds[2], sv[2];

	fill(m, 8 * PAGE, 2);
	expect(!pipe2(fds, O_NONBLOCK));
	expect(!socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, sv));
	expect(!mprotect(m + 2 * PAGE, PAGE, PROT_NONE));
	expect(!mprotect(m + 4 * PAGE, PAGE, PROT_READ));
	expect(!munmap(m + 6 * PAGE, PAGE));
	say(write(fd, m, 8 * PAGE));
	say(write(fd, m + 2 * PAGE, 1));
	say(write(fd, m + 5 * PAGE, 3 * PAGE));
	say(write(fd, m + 6 * PAGE, 3));
	say(pwrite(fd, m, 2 * PAGE, 0));
	say(pread(fd, m + PAGE, 3 * PAGE, 0));
	say(pread(fd, m + 4 * PAGE, 10, 0));
	say(pread(fd, m + 3 * PAGE + 4000, 500, 0));
	say(pread(fd, m + 6 * PAGE, 10, 0));
	say(write(fds[1], m + PAGE + 4000, 500));
	say(read(fds[0], m + 3 * PAGE + 4090, 96));
	say(write(sv[0], m + PAGE + 4000, 500));
	say(write(sv[0], m, 100));
	say(read(sv[1], m + PAGE + 4090, 100));
	say(poll((struct pollfd *)(m + 2 * PAGE), 1, 0));
	say(pipe((int *)(m + 4 * PAGE)));
	say(open(m + 6 * PAGE, O_RDONLY));
	say(syscall(SYS_futex, m + 2 * PAGE, FUTEX_WAIT, 0, NULL, NULL, 0));
	say(syscall(SYS_clock_gettime, 0, m + 4 * PAGE));
	say(syscall(SYS_rt_sigprocmask, SIG_BLOCK, m + 2 * PAGE, NULL, 8));
	say(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, m + 4 * PAGE, 8));
	say(syscall(SYS_rt_sigaction, SIGUSR1, m + 6 * PAGE, NULL, 8));
	say(syscall(SYS_sigaltstack, m + 6 * PAGE, NULL));
	say(syscall(SYS_getrandom, m + 4 * PAGE, 10, 0));
	say(syscall(SYS_getrandom, m + 3 * PAGE + 4095, 2, 0));
	close(fd);
}

/* ---- sets, clocks, messages ---- */

static void sets(void)
{
	fd_set *in = take(sizeof(*in)), *out = take(sizeof(*out));
	struct timeval *zero = take(sizeof(*zero));
	struct pollfd *p = take(2000 * sizeof(*p));
	struct epoll_event *e = take(500 * sizeof(*e));
	int fds[2], ep = epoll_create1(0);

	expect(!pipe(fds));
	expect(write(fds[1], "x", 1) == 1);
	FD_ZERO(in);
	FD_ZERO(out);
	FD_SET(fds[0], in);
	FD_SET(fds[1], out);
	say(select(FD_SETSIZE, in, out, NULL, zero));
	show(FD_ISSET(fds[0], in) && FD_ISSET(fds[1], out));
	say(pselect(FD_SETSIZE, in, out, NULL, (struct timespec *)zero, NULL));
	for (int i = 0; i < 1000; i++)
		p[i] = (struct pollfd){ .fd = fds[i % 2], .events = POLLIN | POLLOUT };
	say(poll(p, 1000, 0));
	show(p[999].revents);
	say(ppoll(p, 1000, (struct timespec *)zero, (sigset_t *)take(sizeof(sigset_t))));
	e->events = EPOLLIN;
	e->data.u64 = 77;
	say(epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], e));
	say(epoll_wait(ep, e, 500, 0));
	show(e->data.u64);
	close(ep);
}

static void messages(void)
{
	enum { NR = 8 };
	struct mmsghdr *m = take(NR * sizeof(*m));
	struct iovec *iov = take(NR * sizeof(*iov));
	struct sockaddr_un *name = take(NR * sizeof(*name));
	char *data = take(NR * PAGE);
	int fds[2];

	expect(!socketpair(AF_UNIX, SOCK_DGRAM, 0, fds));
	for (int i = 0; i < NR; i++) {
		sprintf(data + (size_t)i * PAGE, "message %d", i);
		iov[i] = (struct iovec){ data + (size_t)i * PAGE, 10 };
		m[i].msg_hdr = (struct msghdr){ .msg_iov = iov + i, .msg_iovlen = 1 };
	}
	say(sendmmsg(fds[0], m, NR, 0));
	memset(data, 0, NR * PAGE);
	for (int i = 0; i < NR; i++) {
		m[i].msg_hdr.msg_name = name + i;
		m[i].msg_hdr.msg_namelen = sizeof(*name);
		iov[i].iov_len = PAGE;
	}
	say(recvmmsg(fds[1], m, NR, MSG_DONTWAIT, take(sizeof(struct timespec))));
	for (int i = 0; i < NR; i++)
		printf("%u %s\n", m[i].msg_len, data + (size_t)i * PAGE);
}

static void crypto(void)
{
	struct sockaddr_alg *name = take(sizeof(*name));
	char *data = take(1 << 20), *sum = take(64);
	int alg = socket(AF_ALG, SOCK_SEQPACKET, 0), op;

	show(alg < 0 ? -errno : 0);
	if (alg < 0)
		return;
	*name = (struct sockaddr_alg){ .salg_family = AF_ALG, .salg_type = "hash", .salg_name = "sha256" };
	say(bind(alg, (struct sockaddr *)name, sizeof(*name)));
	op = accept(alg, NULL, NULL);
	fill(data, 1 << 20, 8);
	say(write(op, data, 1 << 20));
	say(read(op, sum, 32));
	printf("%lx\n", guest_hash(sum, 32));
	close(op);
	close(alg);
}

/* What weir cannot do is refused as an old kernel would, and programs that ask have another way. */
static void splices(void)
{
	char *data = take(1 << 20), *back = take(1 << 20);
	struct iovec *iov = take(sizeof(*iov));
	int fds[2];

	fill(data, 1 << 16, 5);
	expect(!pipe(fds));
	*iov = (struct iovec){ data, 40000 };
	say(vmsplice(fds[1], iov, 1, 0));
	memset(data, 0, 40000);
	say(read(fds[0], back, 1 << 16));
	expect(write(fds[1], back, 20000) == 20000);
	*iov = (struct iovec){ back, 30000 };
	say(vmsplice(fds[0], iov, 1, 0));
}

static int clone_main(void *arg)
{
	return access(arg, F_OK) ? 3 : 4;
}

static void children(void)
{
	char *path = take_string("/"), *stack = take(1 << 16), *text = take_string("vfork\n");
	int status;
	pid_t pid;

	fflush(stdout);
	pid = vfork();
	if (pid == 0) {
		page_out();
		write(1, text, 6);
		_exit(access(path, F_OK) ? 1 : 2);
	}
	expect(waitpid(pid, &status, 0) == pid);
	show(status);
	pid = clone(clone_main, stack + (1 << 16), CLONE_VM | CLONE_VFORK | SIGCHLD, path);
	expect(waitpid(pid, &status, 0) == pid);
	show(status);
	pid = clone(clone_main, stack + (1 << 16), SIGCHLD, path);
	expect(waitpid(pid, &status, 0) == pid);
	show(status);
	pid = (pid_t)syscall(SYS_fork);
	if (!pid)
		_exit(access(path, F_OK) ? 5 : 6);
	expect(waitpid(pid, &status, 0) == pid);
	show(status);
	say(write(1, text, 6));
}

#define C(name)                                                                                                        \
	{                                                                                                              \
#name, name                                                                                            \
	}
static const struct guest_case cases[] = {
	C(vectors),	      C(peers),	     C(ioctls),	  C(bpf_maps),	    C(execs),
	C(futexes),	      C(locks),	     C(robust),	  C(thread_stacks), C(coroutines),
	C(coroutine_signals), C(interrupts), C(restarts), C(cancels),	    C(jumps),
	C(many_blocked),      C(big),	     C(packets),  C(appends),	    C(direct_files),
	C(bad_pointers),      C(sets),	     C(messages), C(crypto),	    C(splices),
	C(children),
};

int main(int argc, char **argv)
{
	return guest_main(argc, argv, cases, ARRAY_SIZE(cases));
}
