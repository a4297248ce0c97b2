// SPDX-License-Identifier: MIT
/* Runs a litmus test's two threads against each other for some time: LITMUS [SECONDS]. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "litmus.h"

enum { SPINS_MAX = 1000 };

/* Both threads start each round together and wait for each other at its end. */
static atomic_uint arrived, round_now;
static atomic_bool stop;

static void meet(void)
{
	unsigned int mine = atomic_load(&round_now);

	if (atomic_fetch_add(&arrived, 1) + 1 == LITMUS_THREADS + 1) {
		atomic_store(&arrived, 0);
		atomic_fetch_add(&round_now, 1);
		return;
	}
	for (int spins = 0; atomic_load(&round_now) == mine; spins++) {
		if (spins > SPINS_MAX)
			sched_yield();
	}
}

static void *worker(void *arg)
{
	void *(*thread)(void *) = *(void *(**)(void *))arg;

	for (;;) {
		meet();
		if (atomic_load(&stop))
			return NULL;
		thread(NULL);
		meet();
	}
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	static void *(*threads[LITMUS_THREADS])(void *) = { litmus_thread_0, litmus_thread_1 };
	double end = now() + (argc > 1 ? atof(argv[1]) : 1);
	unsigned long rounds = 0, forbidden = 0;
	pthread_t t[LITMUS_THREADS];

	for (int i = 0; i < LITMUS_THREADS; i++) {
		if (pthread_create(&t[i], NULL, worker, &threads[i]))
			return 1;
	}
	while (now() < end) {
		litmus_reset();
		meet();
		meet();
		rounds++;
		forbidden += !litmus_allowed();
	}
	atomic_store(&stop, true);
	meet();
	for (int i = 0; i < LITMUS_THREADS; i++)
		pthread_join(t[i], NULL);
	printf("%s: %lu rounds, %lu with the forbidden outcome\n", argv[0], rounds, forbidden);
	return forbidden != 0;
}
