// SPDX-License-Identifier: MIT
#include "mm/budget.h"

#include <errno.h>

#include "base/assert.h"

enum {
	/* The resident part never shrinks below 1/16 of the limit: beyond that the store is full, not the memory. */
	RESIDENT_FLOOR_SHIFT = 4,
	STORE_MARGIN_SHIFT = 3,
	WATERMARK_SHIFT = 6,
	WATERMARK_PAGES_MIN = 32,
	WATERMARK_PAGES_MAX = 2048,
	SHARE_WORK_PAGES = 128, /* of the least grant: what remains when reclaim and its reserve have theirs */
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
	b->overhead = overhead;
	b->low = (u32)min_u64(max_u64(smaller >> WATERMARK_SHIFT, WATERMARK_PAGES_MIN), WATERMARK_PAGES_MAX);
	b->high = 2 * b->low;
	atomic64_set(&mm->stats->limit_memory, memory_pages < UINT32_MAX ? pages_to_bytes(memory_pages) : 0);
	atomic64_set(&mm->stats->limit_resident, resident_pages < UINT32_MAX ? pages_to_bytes(resident_pages) : 0);
}

/* ---- a shared limit ---- */

/* Both limits count: the grant is in pages of memory, and the same part of the resident pages goes with it. */
static bool has_two_limits(const struct budget *b)
{
	return b->memory_max < UINT32_MAX && b->resident_max < b->memory_max;
}

/* What is shared: pages of memory, or resident pages where there is no limit of memory. */
static u32 shared_pages(const struct budget *b)
{
	return b->memory_max < UINT32_MAX ? b->memory_max : b->resident_max;
}

/* What stands in `used` for the others. Neither half grows when the grant does. */
static u64 withheld_at(const struct budget *b, u32 granted)
{
	u64 missing = shared_pages(b) - granted, resident;

	if (b->memory_max == UINT32_MAX)
		return missing;
	resident = has_two_limits(b) ? DIV_ROUND_UP(missing * b->resident_max, b->memory_max) : 0;
	return resident | (missing - resident) << 32;
}

/* Relaxed: `used` alone decides. Readers of the gauges may see one changed and not yet the other. */
static u64 withheld(const struct budget *b)
{
	return b->more ? atomic64_read(&b->withheld) : 0;
}

/* a - b in both halves, neither below 0. */
static u64 subtract_halves(u64 a, u64 b)
{
	u64 resident = budget_resident(a) - min_u64(budget_resident(a), budget_resident(b));
	u64 stored = budget_stored(a) - min_u64(budget_stored(a), budget_stored(b));

	return resident | stored << 32;
}

u32 budget_share_min(u64 memory_pages, u64 resident_pages, u32 reserve, u32 overhead)
{
	u64 least = 2 * (u64)reserve + overhead + SHARE_WORK_PAGES;

	if (memory_pages < UINT32_MAX && resident_pages < memory_pages)
		least = DIV_ROUND_UP(least * memory_pages, resident_pages) + 1;
	return clamp_pages(least);
}

static u32 share_min(const struct budget *b)
{
	return budget_share_min(b->memory_max, b->resident_max, b->reserve, b->overhead);
}

void budget_share(struct mm *mm, u32 granted, bool (*more)(struct mm *mm, u32 nr, enum budget_patience patience))
{
	struct budget *b = &mm->budget;
	u64 rest = withheld_at(b, granted);

	must(granted <= shared_pages(b));
	b->more = more;
	atomic32_set(&b->granted, granted);
	atomic64_set(&b->withheld, rest);
	atomic64_fetch_add(&b->used, rest);
}

/* The gauges in between, here and below, show less than there is, never more. */
void budget_raise(struct mm *mm, u32 nr)
{
	struct budget *b = &mm->budget;
	u32 granted = atomic32_add_return(&b->granted, nr);
	u64 change = withheld_at(b, granted - nr) - withheld_at(b, granted);

	must(granted <= shared_pages(b));
	atomic64_fetch_sub(&b->used, change);
	atomic64_fetch_sub(&b->withheld, change);
}

/* As a charge for a fault: exactly within the limits, less the reserve. */
static bool try_withhold(struct budget *b, u64 change)
{
	u64 old = atomic64_read(&b->used);

	do {
		u64 resident = budget_resident(old + change) + b->reserve;

		if (b->resident_max < UINT32_MAX && resident > b->resident_max)
			return false;
		if (b->memory_max < UINT32_MAX && resident + budget_stored(old + change) > b->memory_max)
			return false;
	} while (!atomic64_cas_relaxed(&b->used, &old, old + change));
	atomic64_fetch_add(&b->withheld, change);
	return true;
}

/* What the store may have, where `rest` is withheld, not counting that. */
static u64 stored_max(const struct budget *b, u64 rest)
{
	u64 own, keep;

	if (b->memory_max == UINT32_MAX)
		return UINT32_MAX;
	own = b->memory_max - budget_resident(rest) - budget_stored(rest);
	keep = (own >> RESIDENT_FLOOR_SHIFT) + 2 * b->reserve + b->overhead;
	return own > keep ? own - keep : 0;
}

u64 budget_used(const struct mm *mm)
{
	return subtract_halves(atomic64_read(&mm->budget.used), withheld(&mm->budget));
}

static u64 stored_now(const struct budget *b, u64 used)
{
	return budget_stored(subtract_halves(used, withheld(b)));
}

/* With less, the store would be full, or nearly: what it holds cannot be made to leave. */
static bool is_workable(const struct budget *b, u32 granted)
{
	u64 max = stored_max(b, withheld_at(b, granted));

	return stored_now(b, atomic64_read(&b->used)) <= max - (max >> STORE_MARGIN_SHIFT);
}

bool budget_may_lower(const struct mm *mm)
{
	const struct budget *b = &mm->budget;
	u32 granted = atomic32_read(&b->granted);

	return granted > share_min(b) && is_workable(b, granted - 1);
}

u32 budget_lower(struct mm *mm, u32 nr)
{
	struct budget *b = &mm->budget;
	u32 least = share_min(b), granted = atomic32_read(&b->granted);

	do {
		if (granted <= least)
			return 0;
		nr = (u32)min_u64(nr, granted - least);
		if (!nr || !is_workable(b, granted - nr))
			return 0;
	} while (!atomic32_cas_acquire(&b->granted, &granted, granted - nr));
	if (try_withhold(b, withheld_at(b, granted - nr) - withheld_at(b, granted)))
		return nr;
	atomic32_add_return(&b->granted, nr);
	return 0;
}

u64 budget_limit(const struct mm *mm)
{
	const struct budget *b = &mm->budget;
	u64 rest = withheld(b), limit = UINT32_MAX;

	if (b->resident_max < UINT32_MAX)
		limit = b->resident_max - budget_resident(rest);
	if (b->memory_max < UINT32_MAX)
		limit = min_u64(limit, b->memory_max - budget_resident(rest) - budget_stored(rest));
	return limit;
}

bool budget_more(struct mm *mm, u32 nr, enum budget_patience patience)
{
	const struct budget *b = &mm->budget;
	u64 shared = nr;

	if (!b->more)
		return false;
	if (has_two_limits(b))
		shared = DIV_ROUND_UP(shared * b->memory_max, b->resident_max);
	return b->more(mm, clamp_pages(shared), patience);
}

bool budget_store_competes(const struct mm *mm)
{
	return mm->budget.memory_max < UINT32_MAX && !has_two_limits(&mm->budget);
}

bool budget_store_is_above(const struct mm *mm, u32 percent, u64 hollow)
{
	u64 stored = stored_now(&mm->budget, atomic64_read(&mm->budget.used));

	return (stored - min_u64(stored, hollow)) * 100 > stored_max(&mm->budget, withheld(&mm->budget)) * percent;
}

bool budget_store_is_tight(const struct mm *mm)
{
	return stored_now(&mm->budget, atomic64_read(&mm->budget.used)) * 16 >
	       15 * stored_max(&mm->budget, withheld(&mm->budget));
}

/* A small grant has small watermarks. */
u32 budget_low(const struct mm *mm)
{
	const struct budget *b = &mm->budget;

	if (!b->more)
		return b->low;
	return (u32)min_u64(b->low, max_u64(atomic32_read(&b->granted) >> WATERMARK_SHIFT, WATERMARK_PAGES_MIN));
}

u32 budget_high(const struct mm *mm)
{
	return mm->budget.more ? 2 * budget_low(mm) : mm->budget.high;
}

/* ---- charges ---- */

/* After every change: gauges for the statistics; concurrent changes may leave the older value for a moment. */
static void budget_publish(struct mm *mm, u64 used)
{
	struct mm_stats *stats = mm->stats;
	u64 own = mm->budget.more ? subtract_halves(used, withheld(&mm->budget)) : used;
	u64 resident = budget_resident(own), stored = budget_stored(own);

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

static u32 reserve_now(const struct budget *b)
{
	return b->reserve + atomic32_read(&b->more_reserve);
}

/* *used: what it is then. Acquire: meets budget_to_reserve(). */
static bool try_add(struct budget *b, u32 nr, u32 reserve, u64 *used)
{
	u64 old = atomic64_read(&b->used);

	do {
		u64 resident = budget_resident(old) + nr;

		if (b->resident_max < UINT32_MAX && resident > b->resident_max - reserve)
			return false;
		if (b->memory_max < UINT32_MAX && resident + budget_stored(old) > b->memory_max - reserve)
			return false;
	} while (!atomic64_cas_acquire(&b->used, &old, old + nr));
	*used = old + nr;
	return true;
}

bool budget_try_charge(struct mm *mm, u32 nr)
{
	struct budget *b = &mm->budget;
	u32 reserve = reserve_now(b), now;
	u64 used;

	while (try_add(b, nr, reserve, &used)) {
		now = reserve_now(b);
		if (now <= reserve) {
			budget_publish(mm, used);
			return true;
		}
		/* It was raised before we charged: what we have taken may be of it. */
		atomic64_fetch_sub(&b->used, nr);
		reserve = now;
	}
	return false;
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

void budget_to_reserve(struct mm *mm, u32 nr)
{
	u64 old;

	atomic32_add_return(&mm->budget.more_reserve, nr);
	/* Release: who charges after this sees the reserve. */
	old = atomic64_fetch_sub_release(&mm->budget.used, nr);
	must(budget_resident(old) >= nr);
	budget_publish(mm, old - nr);
}

void budget_unreserve(struct mm *mm, u32 nr)
{
	must(atomic32_add_return(&mm->budget.more_reserve, -nr) <= UINT32_MAX - nr);
}

void budget_uncharge(struct mm *mm, u32 nr)
{
	atomic64_fetch_add(&mm->lru.freed, nr);
	budget_refund(mm, nr);
}

static bool store_fits(const struct budget *b, u64 old, u64 pages)
{
	if (stored_now(b, old) + pages > stored_max(b, withheld(b)))
		return false;
	return b->memory_max == UINT32_MAX || budget_stored(old) + pages + budget_resident(old) <= b->memory_max;
}

int budget_charge_store(void *ctx, u64 pages)
{
	struct mm *mm = ctx;
	u64 old = atomic64_read(&mm->budget.used);

	for (;;) {
		if (!store_fits(&mm->budget, old, pages)) {
			if (!budget_more(mm, (u32)pages, BUDGET_NOW))
				return -ENOMEM;
			old = atomic64_read(&mm->budget.used);
		} else if (atomic64_cas_relaxed(&mm->budget.used, &old, old + (pages << 32))) {
			break;
		}
	}
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
	u32 reserve = reserve_now(b);

	if (b->resident_max < UINT32_MAX)
		free = resident + reserve < b->resident_max ? b->resident_max - reserve - resident : 0;
	if (b->memory_max < UINT32_MAX)
		free = min_u64(free, total + reserve < b->memory_max ? b->memory_max - reserve - total : 0);
	return free;
}
