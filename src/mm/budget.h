/* SPDX-License-Identifier: MIT */
/*
 * The exact budget. Memory is charged before it is touched and uncharged after it is gone, so at every moment the
 * counts are at least what is there.
 *
 * Faults charge up to the limit less a reserve; reclaim, which must take a little memory in order to free more
 * (compressed copies, frames of the copy method), may use the reserve. The reserve covers every run of frames that
 * can be in work at once.
 * Context of all: any thread, also signal handlers and under the devices' locks; lockless.
 */
#pragma once

#include "mm/types.h"

/*
 * Limits in pages; U32_MAX for none. `reserve` pages of each are for reclaim; `overhead` pages, which the caller will
 * charge, are resident for good.
 */
void budget_init(struct mm *mm, u64 memory_pages, u64 resident_pages, u32 reserve, u32 overhead);

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

/* Pages that faults may still take. */
u64 budget_free(const struct mm *mm);

static inline u64 budget_resident(u64 used)
{
	return (u32)used;
}

static inline u64 budget_stored(u64 used)
{
	return used >> 32;
}
