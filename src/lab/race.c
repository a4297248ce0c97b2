// SPDX-License-Identifier: MIT
/*
 * Shared words: page counts are added to atomically, so only swap can lose an addition. `stop` is written by the main
 * thread (release) and read by all (acquire). Rounds are separated by thread creation and join.
 */
#include "lab/race.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096, STACK_BYTES = 64 << 10 };

#define MAGIC 0x5eed0000feed0000ull

/* The first two words of a page. */
struct race_page {
	uint64_t count;
	uint64_t magic;
	char rest[PAGE_BYTES - 16];
};

struct race {
	const struct race_options *options;
	const struct race_target *target;
	struct race_result *result;
	struct race_page *pages;
	size_t nr_pages;
	int stop_workers, stop_pageout;
	unsigned int running; /* workers of this round that are not done */
	uint64_t started_ns;
	uint64_t *expected; /* per page, what the counts must be: equal unless a round was cut short */
	struct seen {
		uint64_t count, magic;
	} *seen; /* per page, what verify() found */
	struct worker *workers;
};

struct worker {
	pthread_t thread;
	struct race *race;
	bool from_end;
	size_t done; /* pages that this worker has added to */
	uint64_t misloads;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t magic_of(size_t page)
{
	return MAGIC ^ (page * 0x9e3779b97f4a7c15ull);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct race *race = w->race;

	for (size_t i = 0; i < race->nr_pages; i++) {
		size_t page = w->from_end ? race->nr_pages - 1 - i : i;

		if (__atomic_load_n(&race->stop_workers, __ATOMIC_ACQUIRE))
			break;
		__atomic_fetch_add(&race->pages[page].count, 1, __ATOMIC_RELAXED);
		w->misloads += __atomic_load_n(&race->pages[page].magic, __ATOMIC_RELAXED) != magic_of(page);
		w->done++;
	}
	__atomic_fetch_sub(&race->running, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void *pageout_main(void *arg)
{
	struct race *race = arg;

	while (!__atomic_load_n(&race->stop_pageout, __ATOMIC_ACQUIRE))
		race->target->pageout(race->target->ctx, race->pages, race->nr_pages * PAGE_BYTES);
	return NULL;
}

static bool time_is_up(const struct race *race)
{
	return race->options->time_max_ns && now_ns() - race->started_ns >= race->options->time_max_ns;
}

static void report_progress(struct race *race)
{
	if (race->options->progress)
		race->options->progress(race->options, race->result->rounds, race->result->pages_lost,
					now_ns() - race->started_ns);
}

/* Until all workers are done; tells them to stop when the time is up. */
static void wait_for_workers(struct race *race)
{
	const struct timespec pause = { .tv_nsec = 10000000 };
	uint64_t told = now_ns();

	while (__atomic_load_n(&race->running, __ATOMIC_ACQUIRE)) {
		nanosleep(&pause, NULL);
		if (time_is_up(race))
			__atomic_store_n(&race->stop_workers, 1, __ATOMIC_RELEASE);
		if (now_ns() - told >= 1000000000) {
			told = now_ns();
			report_progress(race);
		}
	}
}

static int start_threads(struct race *race, void *(*main)(void *), unsigned int *started)
{
	pthread_attr_t attr;
	int err = 0;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	for (*started = 0; !err && *started < race->options->threads; *started += !err) {
		struct worker *w = &race->workers[*started];

		*w = (struct worker){ .race = race, .from_end = *started % 2 };
		err = pthread_create(&w->thread, &attr, main, w);
	}
	pthread_attr_destroy(&attr);
	return -err;
}

static void note_loss(struct race *race, size_t page, uint64_t found, bool is_misload)
{
	struct race_result *r = race->result;

	if (!r->first_loss_ns)
		r->first_loss_ns = now_ns() - race->started_ns;
	if (r->nr_losses < RACE_LOSSES_MAX)
		r->losses[r->nr_losses++] = (struct race_loss){
			.page = page, .round = r->rounds, .expected = race->expected[page],
			.found = found, .is_misload = is_misload,
		};
}

/* Looks at its share of the pages; every look may be a swap-in of a millisecond, so many threads share the work. */
static void *look_main(void *arg)
{
	struct worker *w = arg;
	struct race *race = w->race;
	size_t nr = race->options->threads, share = (race->nr_pages + nr - 1) / nr;
	size_t first = (size_t)(w - race->workers) * share;

	for (size_t page = first; page < first + share && page < race->nr_pages; page++) {
		race->seen[page].count = __atomic_load_n(&race->pages[page].count, __ATOMIC_RELAXED);
		race->seen[page].magic = __atomic_load_n(&race->pages[page].magic, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Compares every page, and takes what it finds as the start of the next round: a loss is counted once. */
static void compare(struct race *race)
{
	struct race_result *r = race->result;

	for (size_t page = 0; page < race->nr_pages; page++) {
		uint64_t count = race->seen[page].count, magic = race->seen[page].magic;

		if (magic != magic_of(page)) {
			r->misloads++;
			note_loss(race, page, magic, true);
			__atomic_store_n(&race->pages[page].magic, magic_of(page), __ATOMIC_RELAXED);
		}
		if (count != race->expected[page]) {
			r->pages_lost++;
			if (count < race->expected[page])
				r->counts_lost += race->expected[page] - count;
			note_loss(race, page, count, false);
			race->expected[page] = count;
		}
	}
}

static int verify(struct race *race)
{
	unsigned int started;
	int ret = start_threads(race, look_main, &started);

	for (unsigned int t = 0; t < started; t++)
		pthread_join(race->workers[t].thread, NULL);
	if (!ret)
		compare(race);
	return ret;
}

static int run_round(struct race *race)
{
	unsigned int started;
	int ret;

	race->stop_workers = 0;
	race->running = race->options->threads;
	ret = start_threads(race, worker_main, &started);
	if (ret) {
		__atomic_store_n(&race->stop_workers, 1, __ATOMIC_RELEASE);
		__atomic_fetch_sub(&race->running, race->options->threads - started, __ATOMIC_RELAXED);
	}
	wait_for_workers(race);
	for (unsigned int t = 0; t < started; t++) {
		struct worker *w = &race->workers[t];

		pthread_join(w->thread, NULL);
		for (size_t i = 0; i < w->done; i++)
			race->expected[w->from_end ? race->nr_pages - 1 - i : i]++;
		race->result->misloads += w->misloads;
	}
	if (!ret)
		ret = verify(race);
	if (!ret)
		race->result->rounds++;
	report_progress(race);
	return ret;
}

static int run_rounds(struct race *race)
{
	const struct race_options *o = race->options;
	int ret = 0;

	while (!ret && !time_is_up(race) && (!o->rounds_max || race->result->rounds < o->rounds_max)) {
		ret = run_round(race);
		if (o->stop_at_loss && (race->result->pages_lost || race->result->misloads))
			break;
	}
	return ret;
}

int race_run(const struct race_options *options, const struct race_target *target, struct race_result *result)
{
	struct race race = { .options = options, .target = target, .result = result };
	pthread_t pageout;
	int ret = -ENOMEM;

	memset(result, 0, sizeof(*result));
	race.nr_pages = options->region_bytes / PAGE_BYTES;
	if (!race.nr_pages || !options->threads || options->threads > RACE_THREADS_MAX)
		return -EINVAL;
	race.workers = calloc(options->threads, sizeof(*race.workers));
	race.seen = calloc(race.nr_pages, sizeof(*race.seen));
	race.expected = calloc(race.nr_pages, sizeof(*race.expected));
	race.pages = target->map(target->ctx, race.nr_pages * PAGE_BYTES);
	if (!race.workers || !race.seen || !race.expected || !race.pages)
		goto out;
	for (size_t page = 0; page < race.nr_pages; page++)
		race.pages[page].magic = magic_of(page);
	race.started_ns = now_ns();
	ret = -pthread_create(&pageout, NULL, pageout_main, &race);
	if (ret)
		goto out;
	ret = run_rounds(&race);
	__atomic_store_n(&race.stop_pageout, 1, __ATOMIC_RELEASE);
	pthread_join(pageout, NULL);
	result->elapsed_ns = now_ns() - race.started_ns;
out:
	if (race.pages)
		target->unmap(target->ctx, race.pages, race.nr_pages * PAGE_BYTES);
	free(race.expected);
	free(race.seen);
	free(race.workers);
	return ret;
}
