/* SPDX-License-Identifier: MIT */
/*
 * Counters of the core. A plain block of memory without pointers, so that it can lie in a mapping shared with the
 * parent (`weir run --stats` reads it there after the program has gone, however it went).
 *
 * Counters are spread over shards by thread, so that the fault path writes no line that all threads write.
 */
#pragma once

#include "sync/atomic.h"

struct weir_stats;

enum mm_counter {
	STAT_PAGES_IN,
	STAT_PAGES_AHEAD,
	STAT_PAGES_OUT,
	STAT_PAGES_OUT_CLEAN,
	STAT_FAULT_ZERO,
	STAT_FAULT_WRITE,
	STAT_FAULT_DIRECT,
	STAT_FAULT_CACHED,
	STAT_FAULT_SPURIOUS,
	STAT_PIN_WAIT,
	STAT_RECLAIM_DIRECT,
	STAT_RECLAIM_BACKGROUND,
	STAT_READ_ERROR,
	STAT_WRITE_ERROR,
	STAT_PAGES_VANISHED,
	STAT_PAGES_COMPACTED,
	STAT_COMPACT_FREED,
	STAT_FAULT_NS,
	NR_MM_COUNTERS,
};

enum {
	STAT_SHARDS = 16,
	/* Log-linear buckets of fault time: 8 per power of two from 2^6 ns up, error below 12.5 %. */
	HIST_SUB_BITS = 3,
	HIST_FIRST_BIT = 6,
	HIST_BUCKETS = (36 - HIST_FIRST_BIT) << HIST_SUB_BITS,
};

struct mm_stats_shard {
	struct atomic64 counter[NR_MM_COUNTERS];
	struct atomic64 hist[HIST_BUCKETS];
	struct atomic64 fault_ns_max;
} __attribute__((aligned(64)));

struct mm_stats {
	/* Limits in bytes; pages elsewhere. Written at init, adopted once. */
	struct atomic64 limit_memory, limit_resident, adopted;
	/* Gauges, kept by mm/budget.c and mm/swap_slots.c. */
	struct atomic64 resident, resident_peak, stored, stored_peak, total_peak, swapped, swapped_at_peak;
	struct atomic64 moves_unreported; /* by vm/uffd.c */
	struct mm_stats_shard shard[STAT_SHARDS];
};

/* Context of all: any, lockless. */
void mm_stats_add(struct mm_stats *stats, enum mm_counter counter, u64 n);
void mm_stats_fault(struct mm_stats *stats, u64 ns); /* one fault served, and what it took */
void mm_stats_raise(struct atomic64 *peak, u64 value); /* peak = max(peak, value) */

/* Sums the shards and converts pages to bytes, for the public struct. */
void mm_stats_sum(const struct mm_stats *stats, struct weir_stats *out);
