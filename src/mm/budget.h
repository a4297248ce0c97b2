/* SPDX-License-Identifier: MIT */
/*
 * The exact budget. Memory is charged before it is touched and uncharged after it is gone, so at every moment the
 * counts are at least what is there.
 *
 * Faults charge up to the limit less a reserve; reclaim, which must take a little memory in order to free more
 * (compressed copies, frames of the copy method), may use the reserve. The reserve covers every run of frames that
 * can be in work at once.
 *
 * Limits may be shared with other processes. Then only a part is granted to this one, and the rest is withheld: it
 * stands in the word of what is used, as if somebody used it, so that the fault path knows nothing of it. A grant
 * grows by budget_raise() after the others have agreed, and shrinks by budget_lower() before they are told. With both
 * limits, each process has the same part of both.
 * Context of all: any thread, also signal handlers and under the devices' locks; lockless, but for budget_more().
 */
#pragma once

#include "mm/types.h"

/*
 * Limits in pages; U32_MAX for none. `reserve` pages of each are for reclaim; `overhead` pages, which the caller will
 * charge, are resident for good.
 */
void budget_init(struct mm *mm, u64 memory_pages, u64 resident_pages, u32 reserve, u32 overhead);

/* The limits are shared; `granted` pages of them are ours. Context: after budget_init, single-threaded. */
void budget_share(struct mm *mm, u32 granted, bool (*more)(struct mm *mm, u32 nr, enum budget_patience patience));

/* The least grant that a process can work with, in pages of the shared limit; as budget_init. */
u32 budget_share_min(u64 memory_pages, u64 resident_pages, u32 reserve, u32 overhead);

/*
 * Adds to the grant; takes away: `nr` pages, fewer at the least grant, and none if they are in use or the store would
 * be all but full without them. Returns how many.
 */
void budget_raise(struct mm *mm, u32 nr);
u32 must_check budget_lower(struct mm *mm, u32 nr);

/* Whether pages that leave can make budget_lower() succeed, by a little at least. */
bool budget_may_lower(const struct mm *mm);

/* The smaller of the limits, in pages: what is granted of it. */
u64 budget_limit(const struct mm *mm);

/*
 * Asks for room for `nr` pages more, where the limits are shared. True: something was added, so try again. Sleeps
 * according to `patience`. Takes locks that nothing of the core is under; signals may be enabled.
 */
bool budget_more(struct mm *mm, u32 nr, enum budget_patience patience);

/* For a fault: false if it would pass a limit less the reserve. */
bool must_check budget_try_charge(struct mm *mm, u32 nr);

/* For reclaim: never refused. The caller has a run of frames, which bounds it. */
void budget_charge_reclaim(struct mm *mm, u32 nr);
void budget_uncharge(struct mm *mm, u32 nr); /* pages have left */
void budget_refund(struct mm *mm, u32 nr); /* pages never came */

/* The devices' memory (struct swap_memory): 0 or -ENOMEM when the store may not grow. */
int budget_charge_store(void *mm, u64 pages);
void budget_uncharge_store(void *mm, u64 pages);

/* The core's own tables: small steps, never refused, never given back. */
void budget_charge_tables(struct mm *mm, u32 nr);

/* Makes reserve of pages that the caller has charged; gives such reserve up. */
void budget_to_reserve(struct mm *mm, u32 nr);
void budget_unreserve(struct mm *mm, u32 nr);

/* What this process uses, both halves, without what is withheld. */
u64 budget_used(const struct mm *mm);

/* Pages that faults may still take. */
u64 budget_free(const struct mm *mm);

/* The watermarks of budget_free(). */
u32 budget_low(const struct mm *mm);
u32 budget_high(const struct mm *mm);

/* The store has more than 15/16 of what it may have: copies of resident pages are not kept there any more. */
bool budget_store_is_tight(const struct mm *mm);

/* More than so many percent, not counting `hollow` pages. */
bool budget_store_is_above(const struct mm *mm, u32 percent, u64 hollow);

/* Does the store take room that resident pages could have? */
bool budget_store_competes(const struct mm *mm);

static inline u64 budget_resident(u64 used)
{
	return (u32)used;
}

static inline u64 budget_stored(u64 used)
{
	return used >> 32;
}
