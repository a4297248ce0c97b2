// SPDX-License-Identifier: MIT
#include "mm/fork.h"

#include "base/mutation.h"
#include "mm/area.h"
#include "mm/demote.h"
#include "mm/frames.h"
#include "mm/mm.h"
#include "mm/pte.h"
#include "mm/reclaim.h"

/* Without its threads the mm still works: faulting threads reclaim themselves, until the store is full. */
static void fork_end(struct mm *mm)
{
	if (mm_is_adopted(mm)) {
		(void)!kswapd_start(mm);
		(void)!kwriteback_start(mm);
	}
	mutex_unlock(&mm->swap_lock);
	mutex_unlock(&mm->areas.lock);
}

/* ---- devices that the child shares with us ---- */

/* None is added or goes meanwhile: the swap lock is held. NULL: it has gone before. */
static struct swap_device *device_of(const struct mm *mm, u32 type)
{
	return mm->swap[type].dev;
}

static void devices_parent(struct mm *mm, u32 nr, int pid)
{
	for (u32 type = 0; type < nr; type++) {
		struct swap_device *dev = device_of(mm, type);

		if (dev)
			swap_device_fork_parent(dev, pid);
	}
}

static int devices_begin(struct mm *mm)
{
	u32 nr = atomic32_read(&mm->nr_swap);

	for (u32 type = 0; type < nr; type++) {
		struct swap_device *dev = device_of(mm, type);
		int ret = dev ? swap_device_fork_begin(dev) : 0;

		if (!ret)
			continue;
		devices_parent(mm, type, -1);
		return ret;
	}
	return 0;
}

static int devices_child(struct mm *mm)
{
	u32 nr = atomic32_read(&mm->nr_swap);
	int ret = 0;

	for (u32 type = 0; !ret && type < nr; type++) {
		struct swap_device *dev = device_of(mm, type);

		if (dev)
			ret = swap_device_fork_child(dev);
	}
	return ret;
}

/* ---- the parent ---- */

/*
 * The locks that a thread may sleep with outside of the core's short sections are taken; all others are free, since
 * nobody is inside. With the background thread stopped no frame is in use and no slot is pinned.
 */
int mm_fork_begin(struct mm *mm)
{
	int ret;

	mutex_lock(&mm->areas.lock);
	mutex_lock(&mm->swap_lock);
	if (!mutate(MUTATE_FORK_RUNNING))
		kswapd_stop(mm);
	kwriteback_stop(mm);
	must(frame_set_is_idle(&mm->frames.runs));
	ret = devices_begin(mm);
	if (ret)
		fork_end(mm);
	return ret;
}

void mm_forked(struct mm *mm, int pid)
{
	devices_parent(mm, atomic32_read(&mm->nr_swap), pid);
}

void mm_fork_parent(struct mm *mm)
{
	fork_end(mm);
}

/* ---- the child ---- */

/*
 * Write-protects again what was protected, in runs of neighbours, and drops the holds of threads that are not in the
 * child. The few that were held before adoption stay so.
 */
static int fork_pages(struct mm *mm, u32 first, u32 end)
{
	u32 run = 0;
	int ret = 0;

	for (u32 at = first; !ret && at < end; at++) {
		u64 pte = pte_read(mm, (vpn_t){ at });

		if (pte_is_held(pte))
			atomic64_set(&mm->ptes[at], pte & ~PTE_HOLD_MASK);
		if (pte_is_protected(pte) && !mutate(MUTATE_FORK_WRITABLE)) {
			run++;
		} else if (run) {
			ret = vm_protect(&mm->vm, (vpn_t){ at - run }, run);
			run = 0;
		}
	}
	return run && !ret ? vm_protect(&mm->vm, (vpn_t){ end - run }, run) : ret;
}

/* Only of areas, and of tables that were ever written: what was not would be read in, as zeros, page by page. */
static int fork_area(struct mm *mm, const struct area *area)
{
	int ret = 0;

	for (u32 at = area->start, end; !ret && at < area->end; at = end) {
		end = (u32)min_u64(ALIGN_DOWN((u64)at, PTES_PER_PAGE) + PTES_PER_PAGE, area->end);
		if (mm_table_is_touched(mm, at))
			ret = fork_pages(mm, at, end);
	}
	return ret;
}

/* What the program has set with madvise about a fork; and locks are not inherited. */
static int fork_areas(struct mm *mm)
{
	struct area_set *set = &mm->areas;
	struct area a;
	int ret = 0;
	u32 seq;

	for (u32 at = 0; !ret && area_next(set, (vpn_t){ at }, &a, &seq); at = a.end) {
		vpn_t start = { a.start };
		u32 nr = a.end - a.start;

		if (a.prot & VM_DONTFORK) {
			ret = mm_clear_locked(mm, start, nr);
			if (!ret)
				ret = vm_protect_range(&mm->vm, start, nr, VM_NONE);
			continue;
		}
		if (a.prot & VM_WIPEONFORK)
			mm_drop_locked(mm, start, nr);
		ret = area_change_range(set, start, nr, VM_LOCKED, VM_NONE);
	}
	return ret;
}

int mm_fork_child(struct mm *mm, struct mm_stats *stats)
{
	int ret = devices_child(mm);

	*stats = *mm->stats;
	mm->stats = stats;
	if (!ret && mm_is_adopted(mm)) {
		ret = vm_fork_child(&mm->vm);
		if (!ret && !mutate(MUTATE_FORK_UNMANAGED))
			ret = mm_manage_window(mm);
		for (u32 i = 0; !ret && i < atomic32_read(&mm->areas.nr); i++)
			ret = fork_area(mm, &mm->areas.areas[i]);
		atomic64_set(&mm->nr_held, 0);
	}
	if (!ret)
		ret = fork_areas(mm);
	fork_end(mm);
	return ret;
}
