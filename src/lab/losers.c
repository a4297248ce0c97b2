// SPDX-License-Identifier: MIT
/*
 * The threads meet at a barrier before and after each race, which orders all words but the pages' counts. What a thread
 * sums up is its own until it is joined.
 */
#include "lab/losers.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

enum { PAGE_BYTES = 4096, STACK_BYTES = 64 << 10, TRIES_MAX = 100 };

struct losers {
	const struct losers_options *options;
	const struct race_target *target;
	char *region;
	unsigned int threads;
	pthread_barrier_t barrier;
	bool done; /* written between two barriers by the main thread */
	uint64_t *page; /* the one to touch: the same */
};

struct loser {
	pthread_t thread;
	struct losers *all;
	uint64_t first_ns, last_ns; /* of this race */
	uint64_t cpu_ns, minor_faults;
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t minor_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return (uint64_t)usage.ru_minflt;
}

static void touch(struct loser *l)
{
	uint64_t faults = minor_faults(), cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);

	l->first_ns = clock_ns(CLOCK_MONOTONIC);
	__atomic_fetch_add(l->all->page, 1, __ATOMIC_RELAXED);
	l->last_ns = clock_ns(CLOCK_MONOTONIC);
	l->cpu_ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
	l->minor_faults += minor_faults() - faults;
}

static void *loser_main(void *arg)
{
	struct loser *l = arg;

	for (;;) {
		pthread_barrier_wait(&l->all->barrier);
		if (l->all->done)
			return NULL;
		touch(l);
		pthread_barrier_wait(&l->all->barrier);
	}
}

static bool is_out(void *page)
{
	unsigned char resident = 1;

	return mincore(page, PAGE_BYTES, &resident) == 0 && !(resident & 1);
}

/* All threads at one page. Returns the wall time. */
static uint64_t race_for(struct losers *all, struct loser *losers, char *page)
{
	uint64_t first = UINT64_MAX, last = 0;

	all->page = (uint64_t *)(void *)page;
	pthread_barrier_wait(&all->barrier);
	pthread_barrier_wait(&all->barrier);
	for (unsigned int t = 0; t < all->threads; t++) {
		first = losers[t].first_ns < first ? losers[t].first_ns : first;
		last = losers[t].last_ns > last ? losers[t].last_ns : last;
	}
	return last - first;
}

static int run_races(struct losers *all, struct loser *losers, struct losers_result *r)
{
	uint64_t expected[LOSERS_PAGES];
	int tries = 0;

	for (size_t i = 0; i < LOSERS_PAGES; i++)
		expected[i] = *(uint64_t *)(void *)(all->region + i * PAGE_BYTES);
	while (r->races < all->options->races) {
		uint64_t before = r->races;

		all->target->pageout(all->target->ctx, all->region, LOSERS_PAGES * PAGE_BYTES);
		for (size_t i = 0; i < LOSERS_PAGES && r->races < all->options->races; i++) {
			char *page = all->region + i * PAGE_BYTES;

			if (!is_out(page))
				continue;
			r->wall_ns += race_for(all, losers, page);
			r->races++;
			expected[i] += all->threads;
			if (__atomic_load_n((uint64_t *)(void *)page, __ATOMIC_RELAXED) != expected[i])
				return -EIO;
		}
		if (r->races == before && ++tries == TRIES_MAX)
			return -EBUSY;
	}
	return 0;
}

/* Starts the threads, runs the races, ends the threads. */
static int run_threads(struct losers *all, struct losers_result *r)
{
	struct loser *losers = calloc(all->threads, sizeof(*losers));
	uint64_t lost = all->options->lost_faults ? all->options->lost_faults() : 0;
	unsigned int started;
	pthread_attr_t attr;
	int ret = 0;

	if (!losers)
		return -ENOMEM;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	/* One more: the main thread. If not all start, the others cannot leave the barrier; the caller ends the
	 * program. */
	pthread_barrier_init(&all->barrier, NULL, all->threads + 1);
	all->done = false;
	for (started = 0; !ret && started < all->threads; started += !ret) {
		losers[started].all = all;
		ret = -pthread_create(&losers[started].thread, &attr, loser_main, &losers[started]);
	}
	pthread_attr_destroy(&attr);
	if (ret)
		return ret;
	ret = run_races(all, losers, r);
	all->done = true;
	pthread_barrier_wait(&all->barrier);
	for (unsigned int t = 0; t < all->threads; t++) {
		pthread_join(losers[t].thread, NULL);
		r->cpu_ns += losers[t].cpu_ns;
		r->lost_faults += all->options->lost_faults ? 0 : losers[t].minor_faults;
	}
	if (all->options->lost_faults)
		r->lost_faults += all->options->lost_faults() - lost;
	pthread_barrier_destroy(&all->barrier);
	free(losers);
	return ret;
}

int losers_run(const struct losers_options *options, const struct race_target *target, struct losers_result *result)
{
	struct losers all = { .options = options, .target = target };
	struct losers_result alone = { 0 };
	int ret;

	memset(result, 0, sizeof(*result));
	if (options->threads < 2 || options->threads > RACE_THREADS_MAX || !options->races)
		return -EINVAL;
	all.region = target->map(target->ctx, LOSERS_PAGES * PAGE_BYTES);
	if (!all.region)
		return -ENOMEM;
	/* No page of zeroes, which swap might keep as none. */
	for (size_t i = 0; i < LOSERS_PAGES * PAGE_BYTES; i += sizeof(uint64_t))
		*(uint64_t *)(void *)(all.region + i) = i + 1;
	all.threads = 1;
	ret = run_threads(&all, &alone);
	all.threads = options->threads;
	if (!ret)
		ret = run_threads(&all, result);
	result->alone_cpu_ns = alone.cpu_ns;
	result->alone_wall_ns = alone.wall_ns;
	if (ret != -EAGAIN)
		target->unmap(target->ctx, all.region, LOSERS_PAGES * PAGE_BYTES);
	return ret;
}
