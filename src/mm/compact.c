// SPDX-License-Identifier: MIT
#include "mm/compact.h"

#include "base/mutation.h"
#include "mm/swap_slots.h"

enum { COMPACT_RUN = 32 /* slots that are pinned at once: some tens of microseconds */ };

_Static_assert((int)COMPACT_RUN <= (int)SWAP_BATCH_MAX, "a run is one call");

static u32 compact_device(struct mm *mm, struct swap_info *si)
{
	const struct swap_device_ops *ops = si->dev->ops;
	u32 slots[COMPACT_RUN], nr = ops->sparse(si->dev, slots, COMPACT_RUN), pinned = 0, moved, nr_pages;

	for (u32 i = 0; i < nr; i++) {
		if (mutate(MUTATE_COMPACT_UNPINNED) || !swapcache_prepare(mm, swp_entry(si->type, slots[i])))
			slots[pinned++] = slots[i];
	}
	if (!pinned)
		return 0;
	moved = ops->compact(si->dev, slots, pinned, &nr_pages);
	for (u32 i = 0; i < pinned; i++) {
		if (!mutate(MUTATE_COMPACT_UNPINNED))
			swapcache_clear(mm, swp_entry(si->type, slots[i]));
	}
	mm_stats_add(mm->stats, STAT_PAGES_COMPACTED, moved);
	mm_stats_add(mm->stats, STAT_COMPACT_FREED, nr_pages);
	return moved;
}

static bool compacts(const struct swap_info *si)
{
	return (si->dev_flags & SWAP_COMPACTS) && atomic32_load_acquire(&si->state) == SWAP_ON;
}

u32 compact_run(struct mm *mm)
{
	u32 nr_swap = atomic32_load_acquire(&mm->nr_swap), moved = 0;
	bool wanted = false;

	for (u32 type = 0; type < nr_swap; type++)
		wanted |= compacts(&mm->swap[type]);
	/* The lock is held by swapoff, which empties the device anyway, and by fork, which waits for us. */
	if (!wanted || !mutex_trylock(&mm->swap_lock))
		return 0;
	for (u32 type = 0; type < nr_swap; type++) {
		if (compacts(&mm->swap[type]))
			moved += compact_device(mm, &mm->swap[type]);
	}
	mutex_unlock(&mm->swap_lock);
	return moved;
}
