/* SPDX-License-Identifier: MIT */
/*
 * In which order pages leave: the oldest first, but not one by one.
 *
 * The hardware's accessed bits are out of reach, so a page's age is how many pages have come in since it did, and how
 * long it was away how many have left since. Two clocks count them, pages resident plus pages ever freed, and the
 * latter alone, in ticks of 1/128 of the limit: each PTE has the tick of its arrival, or of its leaving, as a stamp of
 * ten bits. A full memory is then 128 to 256 ticks deep, whatever its size. (Where a store grows, two may leave for
 * each that comes: those that leave tell how much more memory would have kept a page.) A page that is wanted back
 * before a quarter of a memory's worth of others have left is hot: its age counts a 256th; if it was hot before, it is
 * so again within a whole memory's worth (the idea of ARC's and S3-FIFO's ghost queues; these figures are the best of
 * those tried, by the hit rates in docs/benchmarks.md).
 *
 * Where a device sends its coldest copies below, these are chosen by the same thought (2Q): a page that comes back
 * while its copy is in the device's memory, or within a limit's worth of others from below, is WARM. Its next copy is
 * made above and stays there for longer than those of which nothing is known, which have a small part of the room. What
 * comes back from below later leaves again for free if it can, and is below still.
 *
 * What came in ahead of a stream is likely to be wanted once, or not at all. Such pages leave first, an eighth of a
 * memory's worth after they came; so who goes through more than fits, again and again, finds what fits still there, and
 * a single pass does not push out what others use (2Q's and S3-FIFO's small queue). Their page tables stand in a queue
 * of their own. A page that comes back when it would still be there, had it not been for this rule, is not treated so
 * again; nor are a few pages of each stream, so what lies there unused gives way in time.
 *
 * Whatever takes a right away from pages interrupts every processor that runs the program, once a call. So reclaim
 * goes through the address space by page tables (512 pages), which stand in a FIFO queue, and takes from each the
 * pages that are old enough: neighbours leave together, in few calls. A table that has more than a run takes is the
 * next one's first. What is old enough (evict_age) follows what is found: down when a table has less than a quarter of
 * its pages to give, up when more than half, but not so far that pages a little younger than the oldest are missed. At
 * 0 every page may leave, so whatever can leave is found.
 *
 * A page table with a present page is in the queue: whoever installs a page sets QUEUED after that and pushes the
 * table if it was not set; whoever finds no page clears it and looks again. With a full barrier on both sides, one of
 * them sees the other.
 * Context of all: any thread with signals blocked.
 */
#pragma once

#include "mm/budget.h"
#include "mm/pte.h"
#include "mm/types.h"

enum {
	LRU_CLOCK_DEPTH = 128, /* ticks of a limit's worth of pages, at least */
	LRU_DEPTH_MIN = 16,
	LRU_HOT_SHIFT = 8,
	LRU_HOT_PART = 4, /* away for less than this part of a memory's worth, it comes back hot */
	LRU_STREAM_SHIFT = 3, /* the age of a streamed page counts so much more */
	LRU_RECENT = LRU_CLOCK_DEPTH / 16, /* ticks within which neighbours belong to the same stream */
	LRU_MISSED_PART = 4,
	LRU_JUST_NOW = 2, /* the same for a single one, which may be there by chance */
};

/* Room for the page tables of `nr_pages` pages; the clock for so many pages of memory. 0 or -ENOMEM. */
int must_check lru_init(struct mm *mm, u32 nr_pages, u64 limit_pages);
void lru_destroy(struct lru *lru);

/* What the clocks say, and how deep a memory's worth is in ticks. Hints: the counts may be stale. */
struct lru_time {
	u32 in, out; /* of those who come, and of those who leave */
	/*
	 * Of what is resident now, which is less than the limit where a store has its part. For long ages and absences;
	 * those of streams are short, and need no such care.
	 */
	u32 depth;
};

static inline u32 lru_depth_of(const struct mm *mm, u64 resident)
{
	return (u32)max_u64(resident >> mm->lru.clock_shift, LRU_DEPTH_MIN);
}

static inline struct lru_time lru_time(const struct mm *mm)
{
	u64 resident = budget_resident(budget_used(mm)), freed = atomic64_read(&mm->lru.freed);
	u32 shift = mm->lru.clock_shift;

	return (struct lru_time){ .in = (u32)((resident + freed) >> shift) & PTE_STAMP_MAX,
				  .out = (u32)(freed >> shift) & PTE_STAMP_MAX,
				  .depth = lru_depth_of(mm, resident) };
}

static inline u32 lru_now(const struct mm *mm)
{
	return lru_time(mm).in;
}

static inline u32 lru_now_out(const struct mm *mm)
{
	return (u32)(atomic64_read(&mm->lru.freed) >> mm->lru.clock_shift) & PTE_STAMP_MAX;
}

static inline u32 lru_depth(const struct mm *mm)
{
	return lru_depth_of(mm, budget_resident(budget_used(mm)));
}

/* Ticks since the stamp. */
static inline u32 lru_ticks(u32 now, u64 pte)
{
	return (now - pte_stamp(pte)) & PTE_STAMP_MAX;
}

static inline u32 lru_age(u32 now, u64 pte)
{
	u32 ticks = lru_ticks(now, pte);

	if (pte & PTE_STREAMED)
		return ticks << LRU_STREAM_SHIFT;
	return ticks >> (pte & PTE_HOT ? LRU_HOT_SHIFT : 0);
}

static inline u32 lru_away(const struct lru_time *now, u64 old)
{
	return pte_is_swap(old) ? lru_ticks(now->out, old) : now->depth;
}

/* Was the page, whose PTE is `old` still, away for a short time only? */
static inline bool lru_returns_hot(const struct lru_time *now, u64 old)
{
	return lru_away(now, old) < (old & PTE_HOT ? now->depth : now->depth / LRU_HOT_PART);
}

/* Was it away for less than a limit's worth of others? */
static inline bool lru_returns_soon(const struct mm *mm, const struct lru_time *now, u64 old)
{
	return lru_away(now, old) < budget_limit(mm) >> mm->lru.clock_shift;
}

/* The marks of its age for a page that comes in, ahead of a stream if `streamed`; `old` is its PTE while it was out. */
static inline u64 lru_arrival(const struct lru_time *now, u64 old, bool streamed)
{
	u64 mark = 0;

	if (lru_returns_hot(now, old))
		mark = PTE_HOT;
	else if (streamed && lru_away(now, old) >= now->depth - (now->depth >> LRU_STREAM_SHIFT))
		mark = PTE_STREAMED;
	return pte_with_stamp(mark, now->in);
}

/* The marks for a page that leaves at lru_now_out(); `old` is its PTE while it was there. */
static inline u64 lru_departure(u32 now_out, u64 old)
{
	return pte_with_stamp(old & PTE_HOT, now_out);
}

/* After pages were installed and their PTEs unlocked: their page tables are to be looked at by reclaim. */
void lru_add(struct mm *mm, vpn_t vpn);
void lru_add_run(struct mm *mm, vpn_t first, long nr);

/* After PTEs of a run of pages, nr <= PTES_PER_PAGE, were marked COLD or STREAMED. */
void lru_add_hint(struct mm *mm, enum lru_hint hint, vpn_t first, u32 nr);

/* The next page table to look at; false: there is none. Whoever has taken one gives it back. */
bool must_check lru_take(struct mm *mm, u32 *table);

/* The same for those with a hint; given back if there may be more such pages. */
bool must_check lru_take_hinted(struct mm *mm, enum lru_hint hint, u32 *table);
void lru_give_hinted(struct mm *mm, enum lru_hint hint, u32 table);

/*
 * `seen`: pages of the table are present, or may be in a moment. `has_more`: the run was full before its end, so it is
 * the next one's first.
 */
void lru_give(struct mm *mm, u32 table, bool seen, bool has_more);

/* What a look at a table with `seen` present pages has found to be old enough at `age`, and the age of the oldest. */
void lru_adapt(struct mm *mm, u32 age, u32 seen, u32 old, u32 oldest);

/*
 * A page that is read keeps its slot, so that it can leave again for free, at the price of a fault if it is written to.
 * The score says whether that pays: up for each page that is kept so, and twice as far down for each that is written
 * to. Where it does not pay, it goes up for those that leave for free; but not for those that came while it did, which
 * was a memory's worth of pages ago, as they tell of that time.
 */
void lru_kept(struct mm *mm, u32 nr);
void lru_clean_left(struct mm *mm, u64 pte);
void lru_clean_written(struct mm *mm);
bool lru_keeps(const struct mm *mm, vpn_t vpn);

/*
 * A slot that is kept for a page that is written to saves most of a compression, and takes memory that other pages
 * could have. What these would do with it is seen from the pages that come back: those that were away for less than
 * the copies' part of the memory would be there still. So a fault on a swapped page tells how long it was away, and
 * copies are kept while that is short for less than one in LRU_MISSED_PART, as a fault takes that many times as long
 * as they save.
 */
void lru_came_back(struct mm *mm, vpn_t vpn, u64 old);
bool lru_has_room(const struct mm *mm);

/*
 * Pages between victims are write-protected with them (writeback.h); making them writable again costs as much as a
 * fault of one of them. So that is done as often as such faults happen.
 */
void lru_gap_written(struct mm *mm);
bool lru_releases_gap(struct mm *mm);

/* Page tables in the queue. */
u64 lru_length(struct mm *mm);
