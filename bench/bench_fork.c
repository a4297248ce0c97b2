// SPDX-License-Identifier: MIT
/*
 * What fork costs a process with much memory resident: the call in the parent, its CPU time, and until a child that
 * does nothing has been waited for. An ordinary program, for bench/fork.sh to run plainly and under weir.
 *
 *   bench_fork [MIB [ROUNDS]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS_MAX = 101 };

static double now_ms(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	size_t bytes = (size_t)(argc > 1 ? atoi(argv[1]) : 1024) << 20;
	int rounds = argc > 2 ? atoi(argv[2]) : 5;
	double call_ms[ROUNDS_MAX], cpu_ms[ROUNDS_MAX], wait_ms[ROUNDS_MAX];
	char *m;

	if (!bytes || rounds < 1 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: bench_fork [MIB [ROUNDS (1 to %d)]]\n", ROUNDS_MAX);
		return 2;
	}
	m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED) {
		perror("bench_fork: mmap");
		return 1;
	}
	madvise(m, bytes, MADV_NOHUGEPAGE); /* as managed memory is */
	for (size_t i = 0; i < bytes; i += 4096)
		m[i] = (char)(i >> 12 | 1);
	for (int r = 0; r < rounds; r++) {
		double begin = now_ms(CLOCK_MONOTONIC), cpu = now_ms(CLOCK_PROCESS_CPUTIME_ID);
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		call_ms[r] = now_ms(CLOCK_MONOTONIC) - begin;
		cpu_ms[r] = now_ms(CLOCK_PROCESS_CPUTIME_ID) - cpu;
		if (pid < 0 || waitpid(pid, NULL, 0) != pid) {
			perror("bench_fork");
			return 1;
		}
		wait_ms[r] = now_ms(CLOCK_MONOTONIC) - begin;
	}
	qsort(call_ms, (size_t)rounds, sizeof(double), compare);
	qsort(cpu_ms, (size_t)rounds, sizeof(double), compare);
	qsort(wait_ms, (size_t)rounds, sizeof(double), compare);
	printf("%.2f %.2f %.2f\n", call_ms[rounds / 2], cpu_ms[rounds / 2], wait_ms[rounds / 2]);
	return 0;
}
