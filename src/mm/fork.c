// SPDX-License-Identifier: MIT
#include "mm/fork.h"

#include "base/mutation.h"
#include "mm/mm.h"
#include "mm/pte.h"
#include "mm/reclaim.h"

/*
 * The locks that a thread may sleep with outside of the core's short sections are taken; all others are free, since
 * nobody is inside. With the background thread stopped no frame is in use and no slot is pinned.
 */
void mm_fork_begin(struct mm *mm)
{
	mutex_lock(&mm->areas.lock);
	mutex_lock(&mm->swap_lock);
	if (!mutate(MUTATE_FORK_RUNNING))
		kswapd_stop(mm);
	must((u32)__builtin_popcountll(atomic64_read(&mm->frames.free_runs)) == mm->frames.nr_runs);
}

/* Without its thread the mm still works: faulting threads reclaim themselves. */
static void fork_end(struct mm *mm)
{
	if (mm_is_adopted(mm) && kswapd_start(mm))
		mm->kswapd.started = false;
	mutex_unlock(&mm->swap_lock);
	mutex_unlock(&mm->areas.lock);
}

void mm_fork_parent(struct mm *mm)
{
	fork_end(mm);
}

/* Protects clean pages again, in runs of neighbours. */
static int protect_clean(struct mm *mm, u32 first)
{
	u32 end = (u32)min_u64((u64)first + PTES_PER_PAGE, mm->vm.nr_pages);
	int ret = 0;

	for (u32 at = first, nr; !ret && at < end; at += nr) {
		nr = 1;
		if (!pte_is_protected(pte_read(mm, (vpn_t){ at })))
			continue;
		while (at + nr < end && pte_is_protected(pte_read(mm, (vpn_t){ at + nr })))
			nr++;
		if (!mutate(MUTATE_FORK_WRITABLE))
			ret = vm_protect(&mm->vm, (vpn_t){ at }, nr);
	}
	return ret;
}

int mm_fork_child(struct mm *mm, struct mm_stats *stats)
{
	int ret = 0;

	*stats = *mm->stats;
	mm->stats = stats;
	if (mm_is_adopted(mm)) {
		ret = vm_fork_child(&mm->vm);
		if (!ret && !mutate(MUTATE_FORK_UNMANAGED))
			ret = mm_manage_window(mm);
		for (u32 at = 0; !ret && at < mm->vm.nr_pages; at += PTES_PER_PAGE) {
			if (mm_table_is_touched(mm, at))
				ret = protect_clean(mm, at);
		}
	}
	fork_end(mm);
	return ret;
}
