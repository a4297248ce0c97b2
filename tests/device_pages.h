/* SPDX-License-Identifier: MIT */
/*
 * Pages for the device tests, by kind and number, and a memory account that can refuse.
 */
#pragma once

#include <errno.h>

#include "swap/swap_device.h"
#include "sync/atomic.h"
#include "test.h"

enum page_kind { PAGE_ZERO, PAGE_SAME, PAGE_TEXT, PAGE_RANDOM, PAGE_SPARSE, NR_PAGE_KINDS };

/* The same page for the same kind and number; pages of different number differ, except zero ones. */
static inline void page_make(void *page, enum page_kind kind, u64 number)
{
	static const char *const words[] = { "the ", "river ", "runs ", "over ", "a weir ", "and on ", "to ", "sea, " };
	u64 seed = number * 2654435761u + kind + 1;
	u64 *word = page;
	char *text = page;

	memset(page, 0, PAGE_SIZE);
	switch (kind) {
	case PAGE_SAME:
		for (size_t i = 0; i < PAGE_SIZE / sizeof(u64); i++)
			word[i] = number + 1;
		break;
	case PAGE_TEXT:
		for (size_t i = (size_t)snprintf(text, 32, "page %llu: ", (unsigned long long)number); i < PAGE_SIZE;) {
			const char *w = words[test_random(&seed) % ARRAY_SIZE(words)];

			for (; *w && i < PAGE_SIZE; i++)
				text[i] = *w++;
		}
		break;
	case PAGE_RANDOM:
		for (size_t i = 0; i < PAGE_SIZE / sizeof(u64); i++)
			word[i] = test_random(&seed);
		break;
	case PAGE_SPARSE:
		word[0] = number;
		for (int i = 0; i < 24; i++)
			word[1 + test_random(&seed) % (PAGE_SIZE / sizeof(u64) - 1)] = test_random(&seed);
		break;
	case PAGE_ZERO:
	case NR_PAGE_KINDS:
		break;
	}
}

struct page_limit {
	struct atomic64 charged;
	struct atomic64 limit;
};

static inline int page_limit_charge(void *ctx, u64 pages)
{
	struct page_limit *a = ctx;

	if (atomic64_fetch_add(&a->charged, pages) + pages <= atomic64_read(&a->limit))
		return 0;
	atomic64_fetch_sub(&a->charged, pages);
	return -ENOMEM;
}

static inline void page_limit_uncharge(void *ctx, u64 pages)
{
	struct page_limit *a = ctx;

	expect(atomic64_fetch_sub(&a->charged, pages) >= pages);
}

static inline struct swap_memory page_limit_hooks(struct page_limit *a)
{
	atomic64_set(&a->charged, 0);
	atomic64_set(&a->limit, UINT64_MAX);
	return (struct swap_memory){ .charge = page_limit_charge, .uncharge = page_limit_uncharge, .ctx = a };
}

static inline struct swap_device *device_open(const char *spec, u64 nr_slots, struct page_limit *account)
{
	struct swap_device_config cfg;
	struct swap_device *dev = NULL;
	char err[256];

	if (swap_device_parse(spec, &cfg, err, sizeof(err)) != 0) {
		fprintf(stderr, "%s: %s\n", spec, err);
		exit(1);
	}
	cfg.size = nr_slots * PAGE_SIZE;
	expect_eq(swap_device_open(&cfg, &dev), 0);
	expect_eq(dev->nr_slots, nr_slots);
	dev->memory = page_limit_hooks(account);
	return dev;
}
