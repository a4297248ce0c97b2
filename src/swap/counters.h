/* SPDX-License-Identifier: MIT */
/*
 * A driver's counters, spread over cache lines by slot.
 *
 * A slot's plus and its minus meet in the same shard, so every shard is exact by itself and sums are right whenever the
 * device is idle. Written by whoever holds the slot's pin, relaxed: no decision hangs on a counter.
 */
#pragma once

#include "swap/swap_device.h"
#include "sync/atomic.h"

enum swap_counter {
	COUNT_PAGES, /* slots in use */
	COUNT_COMPR_BYTES,
	COUNT_SAME_PAGES,
	COUNT_HUGE_PAGES,
	COUNT_FAILED_WRITES,
	COUNT_FAILED_READS,
	COUNT_PATCHED_WRITES,
	NR_SWAP_COUNTERS,
};

/* Neighbouring slots tend to be one thread's, so 64 of them share a shard. */
enum { SWAP_COUNTER_SHARDS = 16, SWAP_COUNTER_SLOT_SHIFT = 6 };

struct swap_counters {
	struct {
		struct atomic64 count[NR_SWAP_COUNTERS];
	} __attribute__((aligned(64))) shards[SWAP_COUNTER_SHARDS];
};

/* Modulo 2^64: a negative n subtracts. */
static inline void swap_counter_add(struct swap_counters *c, u32 slot, enum swap_counter which, u64 n)
{
	u32 shard = (slot >> SWAP_COUNTER_SLOT_SHIFT) % SWAP_COUNTER_SHARDS;

	atomic64_fetch_add(&c->shards[shard].count[which], n);
}

/* Sums a moving target: each figure may lag by the operations in flight. */
static inline u64 swap_counter_sum(const struct swap_counters *c, enum swap_counter which)
{
	u64 sum = 0;

	for (int i = 0; i < SWAP_COUNTER_SHARDS; i++)
		sum += atomic64_read(&c->shards[i].count[which]);
	return sum;
}

static inline void swap_counters_report(const struct swap_counters *c, struct swap_device_stats *stats)
{
	stats->orig_data_size = pages_to_bytes(swap_counter_sum(c, COUNT_PAGES));
	stats->compr_data_size = swap_counter_sum(c, COUNT_COMPR_BYTES);
	stats->same_pages = swap_counter_sum(c, COUNT_SAME_PAGES);
	stats->huge_pages = swap_counter_sum(c, COUNT_HUGE_PAGES);
	stats->failed_writes = swap_counter_sum(c, COUNT_FAILED_WRITES);
	stats->failed_reads = swap_counter_sum(c, COUNT_FAILED_READS);
	stats->patched_writes = swap_counter_sum(c, COUNT_PATCHED_WRITES);
}
