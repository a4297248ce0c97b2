// SPDX-License-Identifier: MIT
/*
 * An ordinary program of several processes for `weir run` to run; each checks its own memory.
 *
 *   family MODE COUNT MIB
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define expect(cond)                                                                                                   \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			fprintf(stderr, "family: line %d: %s\n", __LINE__, #cond);                                     \
			_exit(1);                                                                                      \
		}                                                                                                      \
	} while (0)

enum { WORDS = 512, PASSES = 3 };

static const char *self_path;

static unsigned long hash(unsigned long x)
{
	x ^= x >> 31;
	x *= 0x9e3779b97f4a7c15ul;
	return x ^ x >> 29;
}

/* Compresses to about a seventh. */
static void fill(unsigned long *m, size_t mib, unsigned long seed)
{
	for (size_t i = 0; i < (mib << 8) * WORDS; i++)
		m[i] = i % 16 ? seed : hash(seed + i);
}

static void verify(const unsigned long *m, size_t mib, unsigned long seed)
{
	for (size_t i = 0; i < (mib << 8) * WORDS; i++)
		expect(m[i] == (i % 16 ? seed : hash(seed + i)));
}

static void work(size_t mib, unsigned long seed)
{
	unsigned long *m = malloc(mib << 20);

	expect(m);
	fill(m, mib, seed);
	for (int pass = 0; pass < PASSES; pass++)
		verify(m, mib, seed);
	free(m);
}

static pid_t start(void (*child)(size_t mib, unsigned long seed), size_t mib, unsigned long seed)
{
	pid_t pid = fork();

	expect(pid >= 0);
	if (pid)
		return pid;
	child(mib, seed);
	_exit(0);
}

static void await_all(int count)
{
	int status;

	for (int i = 0; i < count; i++)
		expect(wait(&status) > 0 && status == 0);
}

/* Children at the same time, each with memory of its own. */
static void forks(int count, size_t mib)
{
	for (int i = 0; i < count; i++)
		start(work, mib, (unsigned long)i);
	await_all(count);
}

static void exec_worker(size_t mib, unsigned long seed)
{
	char text[24];

	(void)seed;
	snprintf(text, sizeof(text), "%zu", mib);
	execl(self_path, self_path, "work", "1", text, NULL);
	_exit(1);
}

/* The same as programs of their own. */
static void execs(int count, size_t mib)
{
	for (int i = 0; i < count; i++)
		start(exec_worker, mib, 0);
	await_all(count);
}

static unsigned long *inherited;

static void rewrite(size_t mib, unsigned long seed)
{
	usleep(150000);
	verify(inherited, mib, 77);
	fill(inherited, mib, seed);
	for (int pass = 0; pass < PASSES; pass++)
		verify(inherited, mib, seed);
}

/* Children that write all that they inherit. */
static void inherit(int count, size_t mib)
{
	inherited = malloc(mib << 20);
	fill(inherited, mib, 77);
	for (int i = 0; i < count; i++)
		start(rewrite, mib, (unsigned long)i);
	verify(inherited, mib, 77);
	await_all(count);
	verify(inherited, mib, 77);
}

static void fill_for_ever(size_t mib, unsigned long seed)
{
	unsigned long *m = malloc(mib << 20);

	for (;;)
		fill(m, mib, seed++);
}

/* Children are killed while they swap; then all of the limit is there for one that could not do with a part of it. */
static void killed(int count, size_t mib)
{
	int status;

	for (int round = 0; round < 3; round++) {
		pid_t pids[16];

		for (int i = 0; i < count; i++)
			pids[i] = start(fill_for_ever, mib, (unsigned long)i);
		usleep(400000 + 37000 * (unsigned int)round);
		for (int i = 0; i < count; i++) {
			kill(pids[i], SIGKILL);
			expect(waitpid(pids[i], &status, 0) == pids[i] && WIFSIGNALED(status));
		}
	}
	work(3 * mib, 5);
}

static void nothing(size_t mib, unsigned long seed)
{
	(void)mib;
	(void)seed;
	execlp("true", "true", NULL);
	_exit(1);
}

/* One after the other, more than there is room for at once. */
static void shorts(int count, size_t mib)
{
	unsigned long *m = malloc(mib << 20);

	fill(m, mib, 3);
	for (int i = 0; i < count; i++) {
		start(nothing, 0, 0);
		await_all(1);
	}
	verify(m, mib, 3);
}

/* One that has grown rich is stopped for good: the others go on, and end. */
static void stopped(int count, size_t mib)
{
	pid_t rich = start(fill_for_ever, 2 * mib, 1);
	int status;

	usleep(400000);
	kill(rich, SIGSTOP);
	forks(count, mib);
	kill(rich, SIGKILL);
	expect(waitpid(rich, &status, 0) == rich && WIFSIGNALED(status));
}

static int wake_fd[2];

/* Asleep in the kernel while its memory is taken from it. */
static void sleep_and_verify(size_t mib, unsigned long seed)
{
	unsigned long *m = malloc(mib << 20);
	char byte;

	fill(m, mib, seed);
	expect(read(wake_fd[0], &byte, 1) == 1);
	verify(m, mib, seed);
}

/* Who came first has most of the limit, unmanaged, and sleeps; those who come later get their share of it. */
static void asleep(int count, size_t mib)
{
	int status;
	pid_t first;

	expect(!pipe(wake_fd));
	first = start(sleep_and_verify, mib, 9);
	usleep(300000);
	for (int i = 0; i < count; i++)
		start(exec_worker, 2 * mib, 0);
	for (int i = 0; i < count; i++)
		expect(waitpid(-1, &status, 0) != first && status == 0);
	expect(write(wake_fd[1], "x", 1) == 1);
	await_all(1);
}

/* More processes than there is room for: those who come too late are refused, and the others are not harmed. */
static void crowd(int count, size_t mib)
{
	char text[24];
	int status, refused = 0;

	for (int i = 0; i < count; i++) {
		pid_t pid = fork();

		expect(pid >= 0);
		if (pid == 0) {
			snprintf(text, sizeof(text), "%zu", mib);
			execl(self_path, self_path, "wait", "1", text, NULL);
			_exit(1);
		}
	}
	for (int i = 0; i < count; i++) {
		expect(wait(&status) > 0);
		expect(status == 0 || status == 125 << 8);
		refused += status != 0;
	}
	printf("refused %d\n", refused);
}

int main(int argc, char **argv)
{
	const char *mode = argc == 4 ? argv[1] : "";
	int count = argc == 4 ? atoi(argv[2]) : 0;
	size_t mib = argc == 4 ? (size_t)atol(argv[3]) : 0;

	self_path = argv[0];
	if (!strcmp(mode, "work"))
		work(mib, 1);
	else if (!strcmp(mode, "wait"))
		sleep(8);
	else if (!strcmp(mode, "forks"))
		forks(count, mib);
	else if (!strcmp(mode, "execs"))
		execs(count, mib);
	else if (!strcmp(mode, "inherit"))
		inherit(count, mib);
	else if (!strcmp(mode, "killed"))
		killed(count, mib);
	else if (!strcmp(mode, "shorts"))
		shorts(count, mib);
	else if (!strcmp(mode, "stopped"))
		stopped(count, mib);
	else if (!strcmp(mode, "asleep"))
		asleep(count, mib);
	else if (!strcmp(mode, "crowd"))
		crowd(count, mib);
	else
		return fprintf(stderr, "usage: family MODE COUNT MIB\n"), 2;
	return 0;
}
