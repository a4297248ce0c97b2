// SPDX-License-Identifier: MIT
#include "mm/stats.h"

#include "base/assert.h"
#include "weir.h"

/*
 * Threads have stacks of their own, at least some tens of KiB apart: an address on it names the thread well enough
 * to keep two of them off one line most of the time, without TLS and without a system call.
 */
static struct mm_stats_shard *this_shard(struct mm_stats *stats)
{
	u64 key = (u64)(uintptr_t)__builtin_frame_address(0) >> 15;

	key *= 0x9e3779b97f4a7c15ull;
	return &stats->shard[key >> 60];
}

_Static_assert(STAT_SHARDS == 16, "this_shard() takes the top four bits");

void mm_stats_add(struct mm_stats *stats, enum mm_counter counter, u64 n)
{
	check(counter < NR_MM_COUNTERS);
	atomic64_fetch_add(&this_shard(stats)->counter[counter], n);
}

void mm_stats_raise(struct atomic64 *peak, u64 value)
{
	u64 old = atomic64_read(peak);

	while (old < value && !atomic64_cas_relaxed(peak, &old, value))
		;
}

static unsigned int hist_bucket(u64 ns)
{
	unsigned int top, bucket;

	if (ns < (u64)1 << HIST_FIRST_BIT)
		return 0;
	top = 63 - (unsigned int)__builtin_clzll(ns);
	bucket = ((top - HIST_FIRST_BIT) << HIST_SUB_BITS) +
		 (unsigned int)((ns >> (top - HIST_SUB_BITS)) & ((1 << HIST_SUB_BITS) - 1));
	return bucket < HIST_BUCKETS ? bucket : HIST_BUCKETS - 1;
}

/* The middle of what hist_bucket() puts into a bucket. */
static u64 hist_value(unsigned int bucket)
{
	unsigned int top = HIST_FIRST_BIT + (bucket >> HIST_SUB_BITS);
	u64 sub = bucket & ((1 << HIST_SUB_BITS) - 1);

	return ((u64)1 << top) + ((2 * sub + 1) << (top - HIST_SUB_BITS - 1));
}

void mm_stats_fault(struct mm_stats *stats, u64 ns)
{
	struct mm_stats_shard *shard = this_shard(stats);

	atomic64_fetch_add(&shard->counter[STAT_FAULT_NS], ns);
	atomic64_fetch_add(&shard->hist[hist_bucket(ns)], 1);
	mm_stats_raise(&shard->fault_ns_max, ns);
}

static u64 counter_sum(const struct mm_stats *stats, enum mm_counter counter)
{
	u64 sum = 0;

	for (int i = 0; i < STAT_SHARDS; i++)
		sum += atomic64_read(&stats->shard[i].counter[counter]);
	return sum;
}

static u64 bucket_sum(const struct mm_stats *stats, unsigned int bucket)
{
	u64 sum = 0;

	for (int i = 0; i < STAT_SHARDS; i++)
		sum += atomic64_read(&stats->shard[i].hist[bucket]);
	return sum;
}

/* The fault time below which `permille` of a thousand faults lie. */
static u64 percentile(const struct mm_stats *stats, u64 total, unsigned int permille)
{
	u64 rank = (total * permille + 999) / 1000, seen = 0;

	for (unsigned int b = 0; b < HIST_BUCKETS; b++) {
		seen += bucket_sum(stats, b);
		if (seen >= rank && seen > 0)
			return hist_value(b);
	}
	return 0;
}

static void sum_fault_times(const struct mm_stats *stats, struct weir_stats *out)
{
	u64 total = 0;

	for (unsigned int b = 0; b < HIST_BUCKETS; b++)
		total += bucket_sum(stats, b);
	for (int i = 0; i < STAT_SHARDS; i++)
		out->fault_max_ns = max_u64(out->fault_max_ns, atomic64_read(&stats->shard[i].fault_ns_max));
	out->fault_time_ns = counter_sum(stats, STAT_FAULT_NS);
	out->fault_p50_ns = min_u64(percentile(stats, total, 500), out->fault_max_ns);
	out->fault_p99_ns = min_u64(percentile(stats, total, 990), out->fault_max_ns);
}

void mm_stats_sum(const struct mm_stats *stats, struct weir_stats *out)
{
	*out = (struct weir_stats){
		.limit_memory = atomic64_read(&stats->limit_memory),
		.limit_resident = atomic64_read(&stats->limit_resident),
		.adopted = atomic64_read(&stats->adopted),
		.resident = pages_to_bytes(atomic64_read(&stats->resident)),
		.resident_peak = pages_to_bytes(atomic64_read(&stats->resident_peak)),
		.stored = pages_to_bytes(atomic64_read(&stats->stored)),
		.stored_peak = pages_to_bytes(atomic64_read(&stats->stored_peak)),
		.total_peak = pages_to_bytes(atomic64_read(&stats->total_peak)),
		.swapped = pages_to_bytes(atomic64_read(&stats->swapped)),
		.swapped_at_peak = pages_to_bytes(atomic64_read(&stats->swapped_at_peak)),
		.pages_in = counter_sum(stats, STAT_PAGES_IN),
		.pages_ahead = counter_sum(stats, STAT_PAGES_AHEAD),
		.pages_out = counter_sum(stats, STAT_PAGES_OUT),
		.pages_out_clean = counter_sum(stats, STAT_PAGES_OUT_CLEAN),
		.faults_zero = counter_sum(stats, STAT_FAULT_ZERO),
		.faults_write = counter_sum(stats, STAT_FAULT_WRITE),
		.faults_direct = counter_sum(stats, STAT_FAULT_DIRECT),
		.faults_cached = counter_sum(stats, STAT_FAULT_CACHED),
		.faults_spurious = counter_sum(stats, STAT_FAULT_SPURIOUS),
		.pin_waits = counter_sum(stats, STAT_PIN_WAIT),
		.reclaim_direct = counter_sum(stats, STAT_RECLAIM_DIRECT),
		.reclaim_background = counter_sum(stats, STAT_RECLAIM_BACKGROUND),
		.read_errors = counter_sum(stats, STAT_READ_ERROR),
		.write_errors = counter_sum(stats, STAT_WRITE_ERROR),
		.pages_vanished = counter_sum(stats, STAT_PAGES_VANISHED),
		.pages_compacted = counter_sum(stats, STAT_PAGES_COMPACTED),
		.compact_freed = pages_to_bytes(counter_sum(stats, STAT_COMPACT_FREED)),
		.moves_unreported = atomic64_read(&stats->moves_unreported),
	};
	sum_fault_times(stats, out);
}
