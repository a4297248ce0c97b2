// SPDX-License-Identifier: MIT
#include "mm/budget.h"

#include <errno.h>

#include "base/assert.h"

enum {
	/* The resident part never shrinks below 1/16 of the limit: beyond that the store is full, not the memory. */
	RESIDENT_FLOOR_SHIFT = 4,
	WATERMARK_SHIFT = 6,
	WATERMARK_PAGES_MIN = 32,
	WATERMARK_PAGES_MAX = 2048,
};

static u32 clamp_pages(u64 pages)
{
	return pages < UINT32_MAX ? (u32)pages : UINT32_MAX;
}

void budget_init(struct mm *mm, u64 memory_pages, u64 resident_pages, u32 reserve, u32 overhead)
{
	struct budget *b = &mm->budget;
	u64 smaller = min_u64(memory_pages, resident_pages);

	must(smaller > 2 * (u64)reserve + overhead);
	b->memory_max = clamp_pages(memory_pages);
	b->resident_max = clamp_pages(resident_pages);
	b->reserve = reserve;
	b->stored_max = b->memory_max;
	if (b->memory_max < UINT32_MAX)
		b->stored_max -= (b->memory_max >> RESIDENT_FLOOR_SHIFT) + 2 * reserve + overhead;
	b->low = (u32)min_u64(max_u64(smaller >> WATERMARK_SHIFT, WATERMARK_PAGES_MIN), WATERMARK_PAGES_MAX);
	b->high = 2 * b->low;
	atomic64_set(&mm->stats->limit_memory, memory_pages < UINT32_MAX ? pages_to_bytes(memory_pages) : 0);
	atomic64_set(&mm->stats->limit_resident, resident_pages < UINT32_MAX ? pages_to_bytes(resident_pages) : 0);
}

/* After every change: gauges for the statistics; concurrent changes may leave the older value for a moment. */
static void budget_publish(struct mm *mm, u64 used)
{
	struct mm_stats *stats = mm->stats;
	u64 resident = budget_resident(used), stored = budget_stored(used);

	atomic64_set(&stats->resident, resident);
	atomic64_set(&stats->stored, stored);
	mm_stats_raise(&stats->resident_peak, resident);
	mm_stats_raise(&stats->total_peak, resident + stored);
	if (stored > atomic64_read(&stats->stored_peak)) {
		mm_stats_raise(&stats->stored_peak, stored);
		atomic64_set(&stats->swapped_at_peak, atomic64_read(&stats->swapped));
	}
}

static u64 budget_add(struct mm *mm, u64 amount)
{
	u64 used = atomic64_fetch_add(&mm->budget.used, amount) + amount;

	budget_publish(mm, used);
	return used;
}

bool budget_try_charge(struct mm *mm, u32 nr)
{
	const struct budget *b = &mm->budget;
	u64 old = atomic64_read(&mm->budget.used);

	do {
		u64 resident = budget_resident(old) + nr;

		if (b->resident_max < UINT32_MAX && resident > b->resident_max - b->reserve)
			return false;
		if (b->memory_max < UINT32_MAX && resident + budget_stored(old) > b->memory_max - b->reserve)
			return false;
	} while (!atomic64_cas_relaxed(&mm->budget.used, &old, old + nr));
	budget_publish(mm, old + nr);
	return true;
}

void budget_charge_reclaim(struct mm *mm, u32 nr)
{
	budget_add(mm, nr);
}

void budget_refund(struct mm *mm, u32 nr)
{
	u64 old = atomic64_fetch_sub(&mm->budget.used, nr);

	must(budget_resident(old) >= nr);
	budget_publish(mm, old - nr);
}

void budget_uncharge(struct mm *mm, u32 nr)
{
	atomic64_fetch_add(&mm->lru.freed, nr);
	budget_refund(mm, nr);
}

int budget_charge_store(void *ctx, u64 pages)
{
	struct mm *mm = ctx;
	const struct budget *b = &mm->budget;
	u64 old = atomic64_read(&mm->budget.used);

	do {
		u64 stored = budget_stored(old) + pages;

		if (stored > b->stored_max)
			return -ENOMEM;
		if (b->memory_max < UINT32_MAX && stored + budget_resident(old) > b->memory_max)
			return -ENOMEM;
	} while (!atomic64_cas_relaxed(&mm->budget.used, &old, old + (pages << 32)));
	budget_publish(mm, old + (pages << 32));
	return 0;
}

void budget_uncharge_store(void *ctx, u64 pages)
{
	struct mm *mm = ctx;
	u64 old = atomic64_fetch_sub(&mm->budget.used, pages << 32);

	must(budget_stored(old) >= pages);
	budget_publish(mm, old - (pages << 32));
}

void budget_charge_tables(struct mm *mm, u32 nr)
{
	budget_add(mm, (u64)nr << 32);
}

u64 budget_free(const struct mm *mm)
{
	const struct budget *b = &mm->budget;
	u64 used = atomic64_read(&b->used); /* a hint: whoever acts on it charges for real */
	u64 resident = budget_resident(used), total = resident + budget_stored(used);
	u64 free = UINT32_MAX;

	if (b->resident_max < UINT32_MAX)
		free = resident + b->reserve < b->resident_max ? b->resident_max - b->reserve - resident : 0;
	if (b->memory_max < UINT32_MAX)
		free = min_u64(free, total + b->reserve < b->memory_max ? b->memory_max - b->reserve - total : 0);
	return free;
}
