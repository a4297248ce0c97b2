// SPDX-License-Identifier: MIT
#include "mm/move.h"

#include <errno.h>

#include "mm/budget.h"
#include "mm/lru.h"
#include "mm/mm.h"
#include "mm/pte.h"
#include "mm/swap_slots.h"

/* Two PTEs in ascending order. */
static void lock_both(struct mm *mm, vpn_t from, vpn_t to, u64 *src, u64 *dst)
{
	bool upwards = from.val < to.val;
	u64 low = pte_lock(mm, upwards ? from : to), high = pte_lock(mm, upwards ? to : from);

	*src = upwards ? low : high;
	*dst = upwards ? high : low;
}

static void unlock_both(struct mm *mm, vpn_t from, vpn_t to, u64 src, u64 dst)
{
	pte_unlock(mm, to, dst);
	pte_unlock(mm, from, src);
}

/* What is on its way to the device is known to the writer by the old page's number. */
static bool is_being_written(struct mm *mm, u64 pte, u64 *word)
{
	if (!pte_has_entry(pte))
		return false;
	*word = slot_read(swap_slot(mm, pte_to_swp_entry(pte)));
	if (pte_is_under_writeback(pte))
		return true;
	return pte_is_swap(pte) && slot_is_cached(*word) && (*word & (SLOT_DIRTY | SLOT_WRITEBACK));
}

/* A present page. The place of the copy that a page may take, for a moment in two places, is the reserve. */
static int move_present(struct mm *mm, vpn_t from, vpn_t to, u64 *src, u64 *dst)
{
	int ret;

	budget_charge_reclaim(mm, 1);
	ret = vm_move(&mm->vm, from, to);
	budget_refund(mm, 1);
	if (ret == -ENOENT) {
		/* Dropped behind our back: it reads as zero, here as there. */
		budget_uncharge(mm, 1);
		if (pte_is_stale(*src))
			swap_free(mm, pte_to_swp_entry(*src));
		*src = 0;
		return 0;
	}
	if (ret)
		return ret;
	*dst = *src & (PTE_STALE | PTE_ENTRY_MASK | PTE_AGE_MASK);
	*src = 0;
	return 0;
}

/* A clean page is what its slot says: the slot's name moves, the page goes. A swapped one has no page. */
static void move_entry(struct mm *mm, vpn_t from, u64 *src, u64 *dst)
{
	u32 left = pte_is_present(*src) ? lru_now_out(mm) : pte_stamp(*src);

	*dst = lru_departure(left, *src) | pte_make_swap(pte_to_swp_entry(*src));
	if (pte_is_present(*src)) {
		vm_zap(&mm->vm, from, 1);
		budget_uncharge(mm, 1);
	}
	*src = 0;
}

static int move_page(struct mm *mm, vpn_t from, vpn_t to)
{
	for (;;) {
		u64 src, dst, word;
		int ret = 0;

		if (pte_is_none(pte_read(mm, from)) && !(pte_read(mm, from) & PTE_LOCKED))
			return 0;
		lock_both(mm, from, to, &src, &dst);
		if (is_being_written(mm, src, &word)) {
			unlock_both(mm, from, to, src, dst);
			slot_wait_cached(swap_slot(mm, pte_to_swp_entry(src)), word);
			continue;
		}
		if (!pte_is_none(src) && pte_is_none(dst)) {
			if (pte_is_swap(src) || pte_is_clean(src))
				move_entry(mm, from, &src, &dst);
			else
				ret = move_present(mm, from, to, &src, &dst);
		}
		unlock_both(mm, from, to, src, dst);
		if (pte_is_present(dst))
			lru_add(mm, to);
		return ret;
	}
}

int move_pages(struct mm *mm, vpn_t from, vpn_t to, u32 nr)
{
	int ret = 0;

	must(mutex_is_locked(&mm->areas.lock));
	for (u32 i = 0; i < nr && !ret; i++) {
		u32 at = from.val + i;

		if (at % PTES_PER_PAGE == 0 && !mm_table_is_touched(mm, at))
			i += PTES_PER_PAGE - 1;
		else
			ret = move_page(mm, (vpn_t){ at }, (vpn_t){ to.val + i });
	}
	return ret;
}
