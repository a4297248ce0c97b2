/* SPDX-License-Identifier: MIT */
/*
 * Physical pages of the stores: reserved at the largest size, given back to the kernel many at a time.
 *
 * Every madvise(MADV_DONTNEED) interrupts all other CPUs that run a thread of the process, so scattered pages are
 * collected and go in one process_madvise(2), which flushes once. The caller of a batch holds the lock it lies under.
 */
#pragma once

#include <sys/uio.h>

#include "base/types.h"
#include "swap/swap_device.h"
#include "sync/atomic.h"

/* What a store holds, charged to the core. Any thread; relaxed, as the charge hook alone decides. */
struct page_account {
	const struct swap_memory *memory;
	struct atomic64 nr_pages;
	struct atomic64 nr_pages_max;
};

/* Before the pages are touched. 0, or what the hook refuses with. */
int must_check page_account_charge(struct page_account *account, u64 nr_pages);

/* After they have gone back. */
void page_account_uncharge(struct page_account *account, u64 nr_pages);

enum { PAGE_BATCH_RANGES = 64 };

struct page_batch {
	u32 nr_ranges;
	u64 nr_pages; /* added since the last flush */
	struct iovec ranges[PAGE_BATCH_RANGES];
};

/* As os_reserve, and never backed by huge pages: a touch takes one page, the one that was charged. */
void *pages_reserve(size_t bytes);

/* The pages are the batch's from here on, and gone after page_batch_flush() at the latest. */
void page_batch_add(struct page_batch *batch, void *addr, u64 nr_pages);

/* Returns how many pages went back since the last flush: the caller may uncharge them. */
u64 page_batch_flush(struct page_batch *batch);
