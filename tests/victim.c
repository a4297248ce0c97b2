// SPDX-License-Identifier: MIT
/*
 * An ordinary program for `weir run` to run: nothing of weir in it. Each mode does one kind of work on more memory
 * than the limit, checks its own results, and prints "ok" and its peak RSS in KiB.
 *
 *   victim MODE MIB
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define expect(cond)                                                                                                   \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			fprintf(stderr, "victim: line %d: %s (errno %d)\n", __LINE__, #cond, errno);                   \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

enum { PAGE = 4096, WORDS = PAGE / 8 };

static unsigned long hash(unsigned long x)
{
	x ^= x >> 31;
	x *= 0x9e3779b97f4a7c15ul;
	return x ^ x >> 29;
}

/* `sparse`: one word in that many is random, so it sets the compression ratio. */
static void fill(unsigned long *m, size_t pages, unsigned long seed, unsigned int sparse)
{
	for (size_t i = 0; i < pages * WORDS; i++)
		m[i] = i % sparse ? seed : hash(seed + i);
}

static void verify(const unsigned long *m, size_t pages, unsigned long seed, unsigned int sparse)
{
	for (size_t i = 0; i < pages * WORDS; i++)
		expect(m[i] == (i % sparse ? seed : hash(seed + i)));
}

static void work(size_t mib, unsigned int sparse)
{
	size_t pages = mib << 8;
	unsigned long *m = malloc(mib << 20);

	expect(m);
	fill(m, pages, 42, sparse);
	for (int pass = 0; pass < 2; pass++)
		verify(m, pages, 42, sparse);
	free(m);
}

static void zeros(size_t mib)
{
	char *m = malloc(mib << 20);

	expect(m);
	memset(m, 0, mib << 20);
	for (size_t i = 0; i < mib << 20; i += 512)
		expect(m[i] == 0);
}

/* Small objects, freed and allocated again in another order. */
static void churn(size_t mib)
{
	size_t n = mib << 12; /* of 256 bytes */
	unsigned long **p = calloc(n, sizeof(*p));

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < n; i++) {
			if (p[i])
				continue;
			p[i] = malloc(200 + i % 50);
			p[i][0] = i;
			p[i][20] = ~i;
		}
		for (size_t i = 0; i < n; i++)
			expect(p[i][0] == i && p[i][20] == ~i);
		for (size_t i = (size_t)round; i < n; i += 2) {
			free(p[i]);
			p[i] = NULL;
		}
	}
}

static void *thread_main(void *arg)
{
	work((size_t)arg, 16);
	return NULL;
}

static void threads(size_t mib)
{
	pthread_t t[8];

	for (int i = 0; i < 8; i++)
		expect(!pthread_create(&t[i], NULL, thread_main, (void *)(mib / 8)));
	for (int i = 0; i < 8; i++)
		expect(!pthread_join(t[i], NULL));
}

/* The kernel reads and writes memory that is out: files, pipes, sockets, iovecs, stdio, names. */
static void syscalls(size_t mib)
{
	size_t bytes = mib << 20, pages = mib << 8;
	unsigned long *m = malloc(bytes), *copy = malloc(bytes);
	char *path = strdup("/tmp/weir-victim-XXXXXX"), *line = NULL;
	size_t line_size = 0;
	struct iovec iov[4];
	int fds[2], fd;
	FILE *f;

	fill(m, pages, 7, 16);
	fd = mkstemp(path);
	expect(fd >= 0);
	expect(write(fd, m, bytes) == (ssize_t)bytes);
	expect(pread(fd, copy, bytes, 0) == (ssize_t)bytes);
	expect(!memcmp(m, copy, bytes));
	memset(copy, 0, bytes);
	for (int i = 0; i < 4; i++)
		iov[i] = (struct iovec){ (char *)copy + (size_t)i * bytes / 4, bytes / 4 };
	expect(lseek(fd, 0, SEEK_SET) == 0);
	expect(readv(fd, iov, 4) == (ssize_t)bytes);
	expect(!memcmp(m, copy, bytes));
	memset(copy, 0, bytes);
	f = fdopen(fd, "r+");
	rewind(f);
	expect(fread(copy, 1, bytes, f) == bytes);
	expect(!memcmp(m, copy, bytes));
	fclose(f);
	unlink(path);

	for (int kind = 0; kind < 2; kind++) {
		expect(!(kind ? socketpair(AF_UNIX, SOCK_STREAM, 0, fds) : pipe(fds)));
		for (size_t at = 0; at < bytes; at += 65536) {
			size_t got = 0;

			expect(write(fds[1], (char *)m + at, 16384) == 16384);
			while (got < 16384) {
				ssize_t r = read(fds[0], (char *)copy + at + got, 16384 - got);

				expect(r > 0);
				got += (size_t)r;
			}
			expect(!memcmp((char *)m + at, (char *)copy + at, 16384));
		}
		close(fds[0]);
		close(fds[1]);
	}
	f = popen("echo a line of output", "r");
	expect(f && getline(&line, &line_size, f) == 17);
	expect(pclose(f) == 0);
	verify(m, pages, 7, 16);
}

/* Children that do not fork: spawn, system, popen; with an environment that lies in the heap. */
static void spawn(size_t mib)
{
	unsigned long *m = malloc(mib << 20);
	char *argv[] = { strdup("/bin/sh"), strdup("-c"), strdup("test \"$VICTIM_VAR\" = yes"), NULL };
	int status;
	pid_t pid;

	expect(!setenv("VICTIM_VAR", "yes", 1));
	for (int i = 0; i < 5; i++) {
		fill(m, mib << 8, 3, 16);
		expect(!posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ));
		expect(waitpid(pid, &status, 0) == pid && status == 0);
		expect(system("exit 3") == 3 << 8);
		pid = vfork();
		if (pid == 0) {
			execve("/bin/sh", argv, environ);
			_exit(9);
		}
		expect(waitpid(pid, &status, 0) == pid && status == 0);
		verify(m, mib << 8, 3, 16);
	}
}

static void fork_early(size_t mib)
{
	int status;
	pid_t pid = fork();

	expect(pid >= 0);
	work(mib, 16);
	if (pid == 0)
		exit(0);
	expect(waitpid(pid, &status, 0) == pid && status == 0);
}

static void fork_late(size_t mib)
{
	unsigned long *m = malloc(mib << 20);
	int status;
	pid_t pid;

	fill(m, mib << 8, 9, 16);
	pid = fork();
	if (pid == 0) {
		sigset_t mask;

		/* What was blocked on the way is not any more. */
		expect(!pthread_sigmask(SIG_SETMASK, NULL, &mask) && !sigismember(&mask, SIGTERM));
		verify(m, mib << 8, 9, 16);
		_exit(0);
	}
	expect(pid > 0);
	verify(m, mib << 8, 9, 16);
	expect(waitpid(pid, &status, 0) == pid && status == 0);
	verify(m, mib << 8, 9, 16);
}

/* A program with an allocator of its own. */
static void own_heap(size_t mib)
{
	unsigned long *m = sbrk(0);

	m = sbrk((intptr_t)(-(uintptr_t)m % PAGE)) == (void *)-1 ? NULL : sbrk(0);
	expect(m && sbrk((intptr_t)mib << 20) == m);
	fill(m, mib << 8, 3, 16);
	verify(m, mib << 8, 3, 16);
	expect(sbrk(-((intptr_t)mib << 19)) == (char *)m + (mib << 20));
	verify(m, mib << 7, 3, 16);
	expect(!brk((char *)m + (mib << 20)));
	for (size_t i = (mib << 7) * WORDS; i < (mib << 8) * WORDS; i++)
		expect(!m[i]);
	expect(!brk(m) && sbrk(0) == (void *)m);
	expect(!brk((void *)8) && sbrk(0) == (void *)m);
	errno = 0;
	expect(sbrk(INTPTR_MAX) == (void *)-1 && errno == ENOMEM);
}

/* Limits that a program sets itself count what it has, and not what weir has reserved. */
static void limits(size_t mib)
{
	const int resources[] = { RLIMIT_AS, RLIMIT_DATA };
	struct rlimit old, limit, now;
	char *m[64];

	work(mib, 16);
	for (int r = 0; r < 2; r++) {
		int n = 0;

		expect(!getrlimit(resources[r], &old) && old.rlim_cur == RLIM_INFINITY);
		limit = (struct rlimit){ (rlim_t)(16 * mib) << 20, old.rlim_max };
		expect(!setrlimit(resources[r], &limit));
		expect(!getrlimit(resources[r], &now) && now.rlim_cur == limit.rlim_cur &&
		       now.rlim_max == limit.rlim_max);
		for (; n < 64; n++) {
			m[n] = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			if (m[n] == MAP_FAILED)
				break;
		}
		expect(n > 2 && n <= 16 && errno == ENOMEM);
		while (n--)
			expect(!munmap(m[n], mib << 20));
		expect(!setrlimit(resources[r], &old));
	}
}

static void *storm_main(void *arg)
{
	unsigned long *stop = arg;

	while (!__atomic_load_n(stop, __ATOMIC_ACQUIRE))
		work(4, 16);
	return NULL;
}

/* Children and grandchildren while other threads allocate, fault and free; each owns what it writes. */
static void fork_storm(size_t mib)
{
	unsigned long stop = 0, *m = malloc(mib << 20);
	pthread_t t[3];
	int status;

	fill(m, mib << 8, 21, 16);
	for (int i = 0; i < 3; i++)
		expect(!pthread_create(&t[i], NULL, storm_main, &stop));
	for (int i = 0; i < 6; i++) {
		pid_t pid = fork();

		expect(pid >= 0);
		if (pid == 0) {
			verify(m, mib << 8, 21, 16);
			fill(m, mib << 7, (unsigned long)i, 16);
			pid = fork();
			expect(pid >= 0);
			verify(m, mib << 7, (unsigned long)i, 16);
			if (pid == 0)
				_exit(0);
			expect(waitpid(pid, &status, 0) == pid && status == 0);
			_exit(0);
		}
		fill(m, mib << 6, 21, 16);
		expect(waitpid(pid, &status, 0) == pid && status == 0);
		verify(m, mib << 8, 21, 16);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
}

static sigjmp_buf escape;

static void on_signal(int sig)
{
	siglongjmp(escape, sig);
}

/* Everything blocked, handlers on every signal: faults are served all the same, and stray accesses arrive. */
static void signals(size_t mib)
{
	struct sigaction action = { .sa_handler = on_signal }, was;
	char *stray = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sigset_t all, old;
	int sig;

	sigfillset(&action.sa_mask);
	sigaction(SIGSEGV, &action, NULL);
	expect(!sigaction(SIGSEGV, NULL, &was) && was.sa_handler == on_signal);
	expect(signal(SIGSEGV, SIG_DFL) == on_signal && signal(SIGSEGV, on_signal) == SIG_DFL);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	work(mib, 16);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	for (int i = 0; i < 3; i++) {
		sig = sigsetjmp(escape, 1);
		if (!sig)
			__atomic_store_n(stray, 1, __ATOMIC_RELAXED);
		expect(sig == SIGSEGV);
	}
	work(mib, 16);
}

/* The mmap family on managed memory. */
static void mappings(size_t mib)
{
	size_t bytes = mib << 20, pages = mib << 8;
	unsigned long *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *grown;

	expect(m != MAP_FAILED);
	fill(m, pages, 5, 16);
	expect(!mprotect(m, bytes, PROT_READ));
	verify(m, pages, 5, 16);
	expect(!mprotect(m, bytes, PROT_READ | PROT_WRITE));
	grown = mremap(m, bytes, bytes + bytes / 2, MREMAP_MAYMOVE);
	expect(grown != MAP_FAILED);
	verify(grown, pages, 5, 16);
	for (size_t i = pages * WORDS; i < (pages + pages / 2) * WORDS; i += WORDS)
		expect(grown[i] == 0);
	expect(!madvise(grown, bytes / 2, MADV_DONTNEED));
	for (size_t i = 0; i < pages / 2 * WORDS; i++)
		expect(grown[i] == 0);
	for (size_t i = pages / 2 * WORDS; i < pages * WORDS; i++)
		expect(grown[i] == (i % 16 ? 5 : hash(5 + i)));
	expect(!munmap(grown, bytes + bytes / 2));
	errno = 0;
	expect(mmap(NULL, (size_t)1 << 46, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	expect(errno == ENOMEM);
}

/* The program closes every descriptor that it did not open. */
static void close_all(size_t mib)
{
	unsigned long *m = malloc(mib << 20);

	fill(m, mib << 8, 11, 16);
	for (int fd = 3; fd < 4096; fd++)
		close(fd);
	closefrom(3);
	verify(m, mib << 8, 11, 16);
}

/* Until its standard input ends; a line says that it has begun. */
static void keep(size_t mib, unsigned int sparse)
{
	unsigned long *m = malloc(mib << 20), seed = 42;
	struct pollfd end = { .fd = 0, .events = POLLIN };

	expect(m);
	fill(m, mib << 8, seed, sparse);
	expect(write(1, "filled\n", 7) == 7);
	while (!poll(&end, 1, 0)) {
		verify(m, mib << 8, seed, sparse);
		closefrom(3);
		/* The first half changes, the other is read only. */
		fill(m, mib << 7, seed, sparse);
	}
	verify(m, mib << 8, seed, sparse);
}

static long peak_rss_kib(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_maxrss;
}

int main(int argc, char **argv)
{
	size_t mib = argc == 3 ? (size_t)atol(argv[2]) : 0;
	const char *mode = argc == 3 ? argv[1] : "";

	if (!strcmp(mode, "work"))
		work(mib, 16);
	else if (!strcmp(mode, "random"))
		work(mib, 1);
	else if (!strcmp(mode, "zeros"))
		zeros(mib);
	else if (!strcmp(mode, "churn"))
		churn(mib);
	else if (!strcmp(mode, "threads"))
		threads(mib);
	else if (!strcmp(mode, "syscalls"))
		syscalls(mib);
	else if (!strcmp(mode, "spawn"))
		spawn(mib);
	else if (!strcmp(mode, "fork-early"))
		fork_early(mib);
	else if (!strcmp(mode, "fork-late"))
		fork_late(mib);
	else if (!strcmp(mode, "own-heap"))
		own_heap(mib);
	else if (!strcmp(mode, "limits"))
		limits(mib);
	else if (!strcmp(mode, "fork-storm"))
		fork_storm(mib);
	else if (!strcmp(mode, "signals"))
		signals(mib);
	else if (!strcmp(mode, "mappings"))
		mappings(mib);
	else if (!strcmp(mode, "close-all"))
		close_all(mib);
	else if (!strcmp(mode, "keep"))
		keep(mib, 16);
	else if (!strcmp(mode, "keep-random"))
		keep(mib, 1);
	else
		return fprintf(stderr, "usage: victim MODE MIB\n"), 2;
	printf("ok %ld\n", peak_rss_kib());
	return 0;
}
