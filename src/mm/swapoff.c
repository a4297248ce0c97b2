// SPDX-License-Identifier: MIT
#include "mm/swapoff.h"

#include <errno.h>

#include "mm/fault.h"
#include "mm/mm.h"
#include "mm/pte.h"
#include "mm/swap_slots.h"

enum { PASSES_MAX = 1000, WAIT_NS = 1000000 };

int swapoff_begin(struct mm *mm, u32 type, struct swapoff *off)
{
	int ret;

	*off = (struct swapoff){ .type = type };
	mutex_lock(&mm->swap_lock);
	ret = swap_change_state(&mm->swap[type], SWAP_ON, SWAP_LEAVING) ? 0 : -ENOENT;
	mutex_unlock(&mm->swap_lock);
	return ret;
}

void swapoff_cancel(struct mm *mm, u32 type)
{
	(void)!swap_change_state(&mm->swap[type], SWAP_LEAVING, SWAP_ON);
}

static void drop_stale(struct mm *mm, vpn_t vpn)
{
	u64 pte = pte_lock(mm, vpn);

	if (pte_is_stale(pte)) {
		swap_free(mm, pte_to_swp_entry(pte));
		pte = pte_without_stale(pte);
	}
	pte_unlock(mm, vpn, pte);
}

/* Makes a page let go of its slot on `si`: a swapped one comes in, a clean one becomes dirty, a stale one goes. */
static int unuse_page(struct mm *mm, struct swap_info *si, vpn_t vpn)
{
	u64 pte = pte_read(mm, vpn);

	if (!pte_has_entry(pte) || swp_type(pte_to_swp_entry(pte)) != si->type)
		return 0;
	if (pte_is_stale(pte)) {
		drop_stale(mm, vpn);
		return 0;
	}
	return fault_errno(handle_mm_fault(mm, vpn, true));
}

/* What is left is pinned or in the swap cache: sleeps until one such slot is let go. */
static void unuse_wait(struct swap_info *si)
{
	u32 nr = (u32)min_u64(atomic32_read(&si->map.high_water), si->nr_slots);
	struct atomic32 never = { 0 };

	for (u32 i = 0; i < nr; i++) {
		u64 word = slot_read(&si->table[i]);

		if (word & SLOT_HAS_CACHE) {
			slot_wait_cached(&si->table[i], word);
			return;
		}
	}
	sync_wait32_timeout(&never, 0, WAIT_NS);
}

/* There is no map from slots to pages, so all touched PTEs are looked at, again and again. */
static int unuse_some(struct mm *mm, struct swap_info *si, struct swapoff *off, u32 nr)
{
	int ret = 0;

	for (; nr && !ret && off->at < mm->vm.nr_pages; off->at++) {
		if (off->at % PTES_PER_PAGE == 0 && !mm_table_is_touched(mm, off->at)) {
			off->at += PTES_PER_PAGE - 1;
			continue;
		}
		ret = unuse_page(mm, si, (vpn_t){ off->at });
		nr--;
	}
	return ret;
}

u64 swapoff_nr_absent(struct mm *mm)
{
	u64 nr = 0;

	for (u32 at = 0; at < mm->vm.nr_pages; at++) {
		if (at % PTES_PER_PAGE == 0 && !mm_table_is_touched(mm, at))
			at += PTES_PER_PAGE - 1;
		else
			nr += pte_is_swap(pte_read(mm, (vpn_t){ at }));
	}
	return nr;
}

/* As swapoff_step. */
static int step(struct mm *mm, struct swap_info *si, struct swapoff *off, u32 nr)
{
	int ret = 0;

	if (atomic32_load_acquire(&si->state) != SWAP_LEAVING)
		return -ENOMEM;
	/*
	 * Who comes too late for a slot is counted for a moment, too: if it is none once, it is none for good. Acquire:
	 * meets swap_finish, after whose last step nobody works with the device.
	 */
	if (!off->at && !atomic64_load_acquire(&si->used))
		return swap_remove(si) ? 0 : -ENOMEM;
	ret = unuse_some(mm, si, off, nr);
	if (ret)
		return ret;
	if (off->at >= mm->vm.nr_pages) {
		off->at = 0;
		if (++off->passes == PASSES_MAX)
			return -ENOMEM;
		if (atomic64_read(&si->used))
			unuse_wait(si);
	}
	return 1;
}

int swapoff_step(struct mm *mm, struct swapoff *off, u32 nr)
{
	struct swap_info *si = &mm->swap[off->type];
	int ret;

	mutex_lock(&mm->swap_lock);
	ret = step(mm, si, off, nr);
	mutex_unlock(&mm->swap_lock);
	if (ret < 0)
		swapoff_cancel(mm, off->type);
	return ret;
}

int mm_swapoff(struct mm *mm, const char *name)
{
	struct swap_info *si;
	struct swapoff off;
	int ret = -ENOENT;

	mutex_lock(&mm->swap_lock);
	si = swap_find(mm, name);
	if (si && swap_change_state(si, SWAP_ON, SWAP_LEAVING)) {
		off = (struct swapoff){ .type = si->type };
		do
			ret = step(mm, si, &off, mm->vm.nr_pages);
		while (ret > 0);
		if (ret)
			swapoff_cancel(mm, si->type);
	}
	mutex_unlock(&mm->swap_lock);
	return ret;
}
