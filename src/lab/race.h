/* SPDX-License-Identifier: MIT */
/*
 * The reproducer of "mm/swap: fix race when skipping swapcache", as in the patch's thread: workers add 1 to the first
 * word of every page, half of them from each end, while one thread keeps paging everything out. After each round every
 * page's count is compared with the number of workers that passed over it, and a second word, constant per page, tells
 * of a page that came back as another one (a misload).
 *
 * race.c needs nothing but libc, so that a lab's static /init can be built from it; what memory it runs on is the
 * target's business.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the region lies and how it is paged out. */
struct race_target {
	/* Zero-filled memory, or NULL. */
	void *(*map)(void *ctx, size_t bytes);
	void (*unmap)(void *ctx, void *region, size_t bytes);
	/* Pages out what it can. */
	void (*pageout)(void *ctx, void *region, size_t bytes);
	void *ctx;
};

enum { RACE_THREADS_MAX = 32768, RACE_LOSSES_MAX = 16 };

struct race_options {
	size_t region_bytes;
	unsigned int threads;
	uint64_t rounds_max; /* 0: no bound */
	uint64_t time_max_ns;
	bool stop_at_loss;
	/* Called about once a second and after each round, from the calling thread; may be NULL. */
	void (*progress)(const struct race_options *options, uint64_t rounds, uint64_t lost, uint64_t elapsed_ns);
};

/* One page found wrong at the end of a round. */
struct race_loss {
	size_t page;
	uint64_t round, expected, found;
	bool is_misload; /* the constant word was another page's */
};

struct race_result {
	uint64_t rounds, pages_lost, counts_lost, misloads;
	uint64_t elapsed_ns, first_loss_ns; /* 0: none */
	struct race_loss losses[RACE_LOSSES_MAX]; /* the first ones */
	unsigned int nr_losses;
};

/* 0, -EINVAL (options), -ENOMEM (region or threads), -EAGAIN (threads). */
int race_run(const struct race_options *options, const struct race_target *target, struct race_result *result);
