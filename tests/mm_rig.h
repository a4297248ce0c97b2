/* SPDX-License-Identifier: MIT */
/* One mm for the tests of a program: its memory and its swap device. */
#pragma once

#include <signal.h>
#include <string.h>

#include "fault/signal.h"
#include "mm/mm.h"
#include "test.h"

#define WORDS (PAGE_SIZE / sizeof(u64))

static struct mm mm;
static struct mm_stats stats;

/* A device of the default size, unless the spec says another. */
/* `lower`: what is below it, or NULL. */
static inline struct swap_device *rig_open(const char *swap, struct swap_device *lower)
{
	struct swap_device_config dev_cfg;
	struct swap_device *dev;
	char err[200];

	expect_eq(swap_device_parse(swap, &dev_cfg, err, sizeof(err)), 0);
	if (!dev_cfg.size)
		dev_cfg.size = mm_default_swap_bytes(&mm);
	dev_cfg.lower = lower;
	expect_eq(swap_device_open(&dev_cfg, &dev), 0);
	return dev;
}

static inline void rig_swapon(const char *swap)
{
	expect_eq(mm_swapon(&mm, rig_open(swap, NULL)), 0);
}

/* With a device, or with none if that is NULL. */
static inline void rig_create(const struct mm_config *cfg, const char *swap)
{
	memset(&stats, 0, sizeof(stats));
	expect_eq(mm_create(&mm, cfg), 0);
	if (swap)
		rig_swapon(swap);
}

enum { RIG_WINDOW_PAGES = 1 << 16 };

/* With `limit` resident pages, of which the store takes nothing. */
static inline void rig_create_resident(u32 limit, enum vm_method method, enum swapin_policy policy, const char *swap)
{
	struct mm_config cfg = {
		.resident_pages = limit,
		.nr_pages = RIG_WINDOW_PAGES,
		.method = method,
		.policy = policy,
		.stats = &stats,
	};

	rig_create(&cfg, swap);
}

static inline u64 counter(enum mm_counter c)
{
	u64 sum = 0;

	for (int i = 0; i < STAT_SHARDS; i++)
		sum += atomic64_read(&stats.shard[i].counter[c]);
	return sum;
}

static inline u64 *map_pages(u32 nr)
{
	vpn_t start;

	expect_eq(mm_map(&mm, nr, 1, VM_READ | VM_WRITE, &start), 0);
	return (u64 *)vm_address(&mm.vm, start);
}

static inline vpn_t vpn_of(const void *p)
{
	return vm_vpn(&mm.vm, (uintptr_t)p);
}

/* Compresses to about a seventh; every page differs. */
static inline void fill_page(u64 *page, u64 seed)
{
	for (u32 w = 0; w < WORDS; w++)
		page[w] = w % 16 ? seed : seed * 0x9e3779b97f4a7c15ull + w * 0x2545f4914f6cdd1dull;
}

static inline bool page_is(const u64 *page, u64 seed)
{
	for (u32 w = 0; w < WORDS; w++) {
		if (page[w] != (w % 16 ? seed : seed * 0x9e3779b97f4a7c15ull + w * 0x2545f4914f6cdd1dull))
			return false;
	}
	return true;
}

static inline bool rig_method_works(enum vm_method m)
{
	struct vm_config cfg = { .nr_pages = 1, .nr_steal_frames = 1, .nr_plain_frames = 1, .method = m };
	struct vm vm;
	int ret;

	expect_eq(vm_open(&vm, &cfg), 0);
	ret = vm_register(&vm);
	vm_close(&vm);
	return ret == 0;
}

/* For tests in which no fault may fail. */
static inline void rig_on_sigbus(int sig, siginfo_t *info, void *uc)
{
	if (fault_signal(&mm, info, uc, NULL) != SIGNAL_SERVED)
		signal(sig, SIG_DFL);
}

/*
 * Runs the tests by each way out that this kernel has and each way in, which they find in *method and *policy. The
 * handler serves the faults.
 */
static inline void rig_run_all_ways(void (*on_sigbus)(int sig, siginfo_t *info, void *uc), enum vm_method *method,
				    enum swapin_policy *policy, void (*run_all)(void))
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

	sigfillset(&action.sa_mask);
	expect_eq(sigaction(SIGBUS, &action, NULL), 0);
	if (!rig_method_works(VM_METHOD_COPY))
		test_skip("no userfaultfd here");
	for (*method = VM_METHOD_MOVE; *method <= VM_METHOD_COPY; (*method)++) {
		if (!rig_method_works(*method)) {
			printf("# this kernel has no UFFDIO_MOVE\n");
			continue;
		}
		for (*policy = SWAPIN_DIRECT; *policy <= SWAPIN_CACHED; (*policy)++)
			run_all();
	}
}
