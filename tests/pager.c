// SPDX-License-Identifier: MIT
/*
 * A program that touches pages at random for some seconds, for tests in which its swap device fails meanwhile. Every
 * page says what it must hold; half of the touches write something new. Prints what it has done:
 *
 *   pager MIB SECONDS [THREADS]  ->  verified N rewritten N longest_ms N
 *
 * "longest" is the longest time in which no thread came on. Status 1: a page was wrong.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PAGE = 4096, WORDS = PAGE / 8, THREADS_MAX = 16 };

struct worker {
	pthread_t thread;
	uint64_t *pages;
	size_t nr;
	uint64_t seed, verified, rewritten;
};

static double seconds;
static uint64_t last_ns, longest_ns; /* relaxed atomics */

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 31;
	x *= 0x9e3779b97f4a7c15u;
	return x ^ x >> 29;
}

/* The first word is the seed of the others. */
static void page_write(uint64_t *page, uint64_t seed)
{
	page[0] = seed;
	for (size_t i = 1; i < WORDS; i++)
		page[i] = mix(seed + i);
}

static void page_verify(const uint64_t *page, size_t number)
{
	uint64_t seed = page[0];

	if (seed >> 32 != number + 1) {
		fprintf(stderr, "pager: page %zu is that of %llu\n", number, (unsigned long long)(seed >> 32) - 1);
		exit(1);
	}
	for (size_t i = 1; i < WORDS; i++) {
		if (page[i] != mix(seed + i)) {
			fprintf(stderr, "pager: page %zu is wrong at word %zu\n", number, i);
			exit(1);
		}
	}
}

static void came_on(void)
{
	uint64_t now = now_ns(), last = __atomic_exchange_n(&last_ns, now, __ATOMIC_RELAXED);
	uint64_t longest = __atomic_load_n(&longest_ns, __ATOMIC_RELAXED);

	while (now > last && now - last > longest &&
	       !__atomic_compare_exchange_n(&longest_ns, &longest, now - last, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);

	for (size_t i = 0; i < w->nr; i++) {
		page_write(w->pages + i * WORDS, (i + 1) << 32);
		came_on();
	}
	while (now_ns() < end) {
		size_t i = (w->seed = mix(w->seed + 1)) % w->nr;
		uint64_t *page = w->pages + i * WORDS;

		page_verify(page, i);
		w->verified++;
		if (w->seed >> 40 & 1) {
			page_write(page, (page[0] & ~0xffffffffull) | (uint32_t)(page[0] + 1));
			w->rewritten++;
		}
		came_on();
	}
	for (size_t i = 0; i < w->nr; i++)
		page_verify(w->pages + i * WORDS, i);
	w->verified += w->nr;
	return NULL;
}

int main(int argc, char **argv)
{
	static struct worker workers[THREADS_MAX];
	size_t mib = argc > 2 ? (size_t)atol(argv[1]) : 0, nr = argc > 3 ? (size_t)atol(argv[3]) : 2;
	uint64_t verified = 0, rewritten = 0;

	if (!mib || nr < 1 || nr > THREADS_MAX)
		return fprintf(stderr, "usage: pager MIB SECONDS [THREADS]\n"), 2;
	seconds = atof(argv[2]);
	last_ns = now_ns();
	for (size_t i = 0; i < nr; i++) {
		workers[i] = (struct worker){ .nr = (mib << 8) / nr, .seed = i };
		workers[i].pages = malloc(workers[i].nr * PAGE);
		if (!workers[i].pages || pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			return fprintf(stderr, "pager: no memory\n"), 2;
	}
	for (size_t i = 0; i < nr; i++) {
		pthread_join(workers[i].thread, NULL);
		verified += workers[i].verified;
		rewritten += workers[i].rewritten;
	}
	printf("verified %llu rewritten %llu longest_ms %llu\n", (unsigned long long)verified,
	       (unsigned long long)rewritten, (unsigned long long)(longest_ns / 1000000));
	return 0;
}
