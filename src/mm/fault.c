// SPDX-License-Identifier: MIT
/*
 * The story of a fault. handle_mm_fault() looks at the PTE and picks the step:
 *
 *   none                          do_anonymous_page()      zero pages, a run of them where the program grows
 *   present, protected, a write   do_wp_page()             the slot's copy, if any, is about to be stale
 *   swap                          do_swap_page()           direct, past the swap cache, or through it
 *
 * Every step may find that the PTE has changed under it and then returns FAULT_RETRY: the PTE is looked at again, as
 * if the program had faulted again. A loser sleeps before that, on the very word it lost.
 */
#include "mm/fault.h"

#include <errno.h>

#include "base/mutation.h"
#include "mm/area.h"
#include "mm/budget.h"
#include "mm/frames.h"
#include "mm/lru.h"
#include "mm/pte.h"
#include "mm/readahead.h"
#include "mm/reclaim.h"
#include "mm/swap_slots.h"

/* ---- first touch ---- */

enum { POPULATE_TIGHT = 8 };

/*
 * How many pages to populate at once: as many as there are present just before this one, so that a growing region
 * doubles its step and a scattered one pays for single pages. No state, no wrong guess longer than what is there.
 */
static u32 populate_run(struct mm *mm, vpn_t vpn, const struct area *area)
{
	u32 max = VM_RUN_MAX, run = 1;

	if (budget_free(mm) < budget_high(mm))
		max = POPULATE_TIGHT;
	while (run <= max && vpn.val >= area->start + run && !pte_is_none(pte_read(mm, (vpn_t){ vpn.val - run })))
		run++;
	run = (u32)min_u64(run, max);
	return (u32)min_u64(run, area->end - vpn.val);
}

/* Locks PTEs of `nr` pages from vpn on as far as they are untouched; the first is locked already. */
static u32 lock_untouched(struct mm *mm, vpn_t vpn, u32 nr, u64 *ptes)
{
	u32 got = 1;

	for (; got < nr; got++) {
		vpn_t next = { vpn.val + got };

		if (!pte_is_none(pte_read(mm, next)) || !pte_trylock(mm, next, &ptes[got]))
			break;
		if (!pte_is_none(ptes[got])) {
			pte_unlock(mm, next, ptes[got]);
			break;
		}
	}
	return got;
}

/*
 * Fault against unmap: the unmapper removes the area and then zaps each page under its PTE lock. Here the area is
 * looked up, the PTE locked, and the area's sequence compared. Equal: the unmapper has yet to come to this PTE, and
 * will find the page. Not equal: look again.
 */
static enum fault_result do_anonymous_page(struct mm *mm, vpn_t vpn)
{
	u64 ptes[VM_RUN_MAX];
	struct area area;
	long installed;
	u32 seq, nr, run;
	u32 now;

	if (!area_find(&mm->areas, vpn, &area, &seq))
		return FAULT_UNMAPPED;
	if (area.prot & VM_FOREIGN)
		return FAULT_FOREIGN;
	run = populate_run(mm, vpn, &area);
	if (run > 1 && !budget_try_charge(mm, run))
		run = 1;
	if (run == 1 && mm_charge(mm, 1))
		return FAULT_OOM;

	ptes[0] = pte_lock(mm, vpn);
	if (!pte_is_none(ptes[0]) || !(area_unchanged(&mm->areas, seq) || mutate(MUTATE_AREA_UNCHECKED))) {
		pte_unlock(mm, vpn, ptes[0]);
		budget_refund(mm, run);
		return FAULT_RETRY;
	}
	nr = lock_untouched(mm, vpn, run, ptes);
	installed = vm_install(&mm->vm, vpn, mm->vm.zeros, nr, false);
	/* The kernel had a page that the program made behind our back: it is ours to count from now on. */
	if (installed == -EEXIST)
		installed = 1;
	now = lru_now(mm);
	for (u32 i = 0; i < nr; i++)
		pte_unlock(mm, (vpn_t){ vpn.val + i },
			   (long)i < installed ? pte_with_stamp(PTE_PRESENT, now) : ptes[i]);
	lru_add_run(mm, vpn, installed);
	if ((long)run > installed)
		budget_refund(mm, run - (installed > 0 ? (u32)installed : 0));
	mm_stats_add(mm->stats, STAT_FAULT_ZERO, 1);
	if (installed > 0)
		return FAULT_DONE;
	return installed == -ENOMEM ? FAULT_OOM : FAULT_LOST;
}

/* ---- a present page ---- */

/* A hot page is going to stay. Without its slot it takes no memory twice, and if clean no fault when written to. */
static bool may_keep(struct mm *mm, bool hot)
{
	return (!hot || mm->keep_hot) && !swap_is_tight(mm);
}

/* Is it worth keeping the slot of a page that is written to? */
static bool keeping_stale_pays(struct mm *mm, swp_entry_t entry)
{
	return swap_patches(mm, entry) && lru_has_room(mm);
}

/* The PTE of a protected page that is about to be written to. */
static u64 wp_page_written(struct mm *mm, u64 pte)
{
	u64 age = pte & PTE_AGE_MASK;

	if (!pte_is_clean(pte))
		return (pte & (PTE_STALE | PTE_ENTRY_MASK)) | age;
	if (!pte_is_under_writeback(pte) && keeping_stale_pays(mm, pte_to_swp_entry(pte)) &&
	    may_keep(mm, pte & PTE_HOT))
		return pte_make_stale(pte_to_swp_entry(pte)) | age;
	if (!mutate(MUTATE_WP_KEEPS_SLOT))
		swap_free(mm, pte_to_swp_entry(pte));
	return PTE_PRESENT | age;
}

/*
 * Makes a protected page writable. A clean one ceases to be clean first: it gives its slot up, or the slot is kept as
 * stale, so none is ever taken for a copy that is not. If it is being written just now, whoever writes it finds the
 * slot without a user, and ends it.
 */
static enum fault_result do_wp_page(struct mm *mm, vpn_t vpn)
{
	u64 pte = pte_lock(mm, vpn);
	enum fault_result result = FAULT_DONE;

	if (pte_is_protected(pte)) {
		if (pte_is_clean(pte) && !pte_is_under_writeback(pte))
			lru_clean_written(mm);
		else if (!pte_is_clean(pte))
			lru_gap_written(mm);
		if (!mutate(MUTATE_WP_STAYS_CLEAN))
			pte = wp_page_written(mm, pte);
		if (vm_unprotect(&mm->vm, vpn, 1))
			result = FAULT_LOST;
		mm_stats_add(mm->stats, STAT_FAULT_WRITE, 1);
	} else {
		result = FAULT_RETRY;
	}
	pte_unlock(mm, vpn, pte);
	return result;
}

/*
 * A fault on a present page: another thread has served it since, unless the kernel has lost the page (the program
 * dropped it behind our back). Then its contents are gone by the program's own doing: it reads as zero.
 */
static enum fault_result do_present_page(struct mm *mm, vpn_t vpn, bool write)
{
	u64 pte = pte_lock(mm, vpn);
	u8 present = 1;

	if (pte_is_present(pte) && vm_resident(&mm->vm, vpn, 1, &present) == 0 && !present) {
		if (pte_has_entry(pte))
			swap_free(mm, pte_to_swp_entry(pte));
		pte = 0;
		budget_uncharge(mm, 1);
		mm_stats_add(mm->stats, STAT_PAGES_VANISHED, 1);
	} else if (pte_is_present(pte) && write && !pte_is_protected(pte)) {
		/* Never leave a dirty page write-protected, or its writer would fault for ever. */
		present = vm_unprotect(&mm->vm, vpn, 1) == 0;
	}
	pte_unlock(mm, vpn, pte);
	mm_stats_add(mm->stats, STAT_FAULT_SPURIOUS, 1);
	return present ? FAULT_DONE : FAULT_RETRY;
}

/* ---- swap-in ---- */

enum keep page_keeps(struct mm *mm, vpn_t vpn, u64 pte, bool write)
{
	bool stale = pte_is_swap(pte) && keeping_stale_pays(mm, pte_to_swp_entry(pte)), hot;
	struct lru_time now;

	if (!mm->keep_clean || (write && !stale))
		return KEEP_NONE;
	now = lru_time(mm);
	hot = lru_returns_hot(&now, pte);
	/* On a lower device it takes no memory. What is wanted often lets it go, and lies in memory when it leaves. */
	if (pte_is_swap(pte) && swap_is_below(mm, pte_to_swp_entry(pte)))
		return lru_returns_soon(mm, &now, pte) ? KEEP_NONE : KEEP_CLEAN;
	if (!may_keep(mm, hot))
		return KEEP_NONE;
	if (!write && lru_keeps(mm, vpn))
		return KEEP_CLEAN;
	return stale ? KEEP_STALE : KEEP_NONE;
}

u64 page_arrival(struct mm *mm, const struct lru_time *now, u64 pte, bool streamed)
{
	swp_entry_t entry = pte_to_swp_entry(pte);
	bool warm = swap_is_above(mm, entry) || (swap_is_below(mm, entry) && lru_returns_soon(mm, now, pte));

	return lru_arrival(now, pte, streamed) | (warm ? PTE_WARM : 0);
}

u64 pte_keeping(swp_entry_t entry, enum keep keep)
{
	if (keep == KEEP_CLEAN)
		return pte_make_clean(entry);
	return keep == KEEP_STALE ? pte_make_stale(entry) : PTE_PRESENT;
}

enum fault_result install_page(struct mm *mm, vpn_t vpn, u64 pte, const void *data, enum keep keep)
{
	long ret = vm_install(&mm->vm, vpn, data, 1, keep == KEEP_CLEAN && !mutate(MUTATE_CLEAN_WRITABLE));
	struct lru_time now = lru_time(mm);
	u64 new = pte_keeping(pte_to_swp_entry(pte), keep) | page_arrival(mm, &now, pte, false);

	if (ret != 1) {
		pte_unlock(mm, vpn, pte);
		return ret == -ENOMEM ? FAULT_OOM : FAULT_LOST;
	}
	pte_unlock(mm, vpn, new);
	if (keep == KEEP_CLEAN)
		lru_kept(mm, 1);
	lru_add(mm, vpn);
	return FAULT_DONE;
}

void swap_unclaim(struct mm *mm, swp_entry_t entry)
{
	if (mm->policy == SWAPIN_DIRECT_COUNT)
		swap_free(mm, entry);
	else if (mm->policy != SWAPIN_DIRECT_UNSAFE)
		swapcache_clear(mm, entry);
}

/*
 * Past the swap cache: pin, read, install, free. The pin spans slot read to swap_free, so the slot can neither be
 * written again nor handed out while this thread has its contents in hand: that closes the ABA race, in which PTE and
 * slot number are the same again and the contents are not.
 */
static enum fault_result do_swap_page_direct(struct mm *mm, vpn_t vpn, u64 orig_pte, bool write)
{
	swp_entry_t entry = pte_to_swp_entry(orig_pte);
	_Alignas(64) u8 page[PAGE_SIZE];
	enum fault_result result = FAULT_RETRY;
	enum keep keep = page_keeps(mm, vpn, orig_pte, write);
	u64 pte;

	/* The slot cannot change hands any more, but it may have before the pin: does the PTE still name it? */
	if (!pte_same(pte_read(mm, vpn), orig_pte) && !mutate(MUTATE_SKIP_LOOK))
		goto out;
	if (mutate(MUTATE_UNPIN_EARLY))
		swap_unclaim(mm, entry);
	if (swap_read(mm, entry, page)) {
		result = FAULT_IO_ERROR;
		goto out;
	}
	pte = pte_lock(mm, vpn);
	if (!pte_same(pte, orig_pte) && !mutate(MUTATE_SKIP_PTE_SAME)) {
		pte_unlock(mm, vpn, pte);
		goto out;
	}
	result = install_page(mm, vpn, pte, page, keep);
	if (result == FAULT_DONE && keep == KEEP_NONE)
		swap_free(mm, entry);
out:
	if (!mutate(MUTATE_UNPIN_EARLY))
		swap_unclaim(mm, entry);
	if (result == FAULT_DONE)
		mm_stats_add(mm->stats, STAT_FAULT_DIRECT, 1);
	return result;
}

/* Reads the slot into a frame in the swap cache, which is left locked. -EEXIST: it is pinned or in the cache now. */
static int read_into_cache(struct mm *mm, vpn_t vpn, u64 orig_pte, u64 *word)
{
	swp_entry_t entry = pte_to_swp_entry(orig_pte);
	frame_t frame = frame_read_get(mm);
	struct atomic64 *slot = swap_slot(mm, entry);
	bool detached;
	int ret = slot_cache_add(slot, frame.val);

	if (ret) {
		frame_read_put(mm, frame);
		return ret;
	}
	*word = slot_read(slot); /* ours: locked */
	/* As in do_swap_page_direct(): an error must not be another page's. */
	ret = -ESTALE;
	if (pte_same(pte_read(mm, vpn), orig_pte))
		ret = swap_read(mm, entry, vm_frame_data(&mm->vm, frame));
	if (!ret)
		return 0;
	swap_finish(mm, entry, slot_cache_remove(slot, 0, &detached));
	must(detached);
	frame_read_put(mm, frame);
	return ret == -ESTALE ? ret : -EIO;
}

/*
 * Through the swap cache: whoever finds the page there takes it back, even while it is being written out. The copy on
 * the device may be kept only if it is as new as the frame.
 */
static enum fault_result do_swap_page_cached(struct mm *mm, vpn_t vpn, u64 orig_pte, bool write)
{
	swp_entry_t entry = pte_to_swp_entry(orig_pte);
	struct atomic64 *slot = swap_slot(mm, entry);
	enum fault_result result = FAULT_RETRY;
	enum keep keep = KEEP_NONE;
	bool stays, detached;
	u64 word, pte;
	int ret = slot_cache_lock(slot, &word);

	if (ret == -ENOENT)
		ret = read_into_cache(mm, vpn, orig_pte, &word);
	if (ret == -EAGAIN || ret == -EEXIST) {
		swap_relax(mm, entry);
		return FAULT_RETRY;
	}
	if (ret)
		return ret == -EIO ? FAULT_IO_ERROR : FAULT_RETRY;

	pte = pte_lock(mm, vpn);
	if (pte_same(pte, orig_pte)) {
		if (!(word & SLOT_DIRTY) || mutate(MUTATE_KEEP_DIRTY))
			keep = page_keeps(mm, vpn, orig_pte, write);
		result = install_page(mm, vpn, pte, vm_frame_data(&mm->vm, (frame_t){ slot_frame(word) }), keep);
	} else {
		pte_unlock(mm, vpn, pte);
	}
	if (result == FAULT_DONE)
		mm_stats_add(mm->stats, STAT_FAULT_CACHED, 1);
	/* A dirty frame is the only copy: it stays for whoever still needs it, until its owner has written it. */
	stays = (word & SLOT_DIRTY) && (result != FAULT_DONE || slot_count(word) > 1);
	if (stays) {
		if (result == FAULT_DONE)
			swap_free(mm, entry);
		slot_cache_unlock(slot);
		return result;
	}
	if (mutate(MUTATE_TAKE_BACK_NO_PUT))
		keep = KEEP_CLEAN;
	swap_finish(mm, entry, slot_cache_remove(slot, result == FAULT_DONE && keep == KEEP_NONE, &detached));
	if (detached && frame_is_plain(mm, (frame_t){ slot_frame(word) }))
		frame_read_put(mm, (frame_t){ slot_frame(word) });
	return result;
}

/* The patch's test, __swap_count(entry) == 1 and SWP_SYNCHRONOUS_IO, and the claim, each policy in its way. */
int swap_claim(struct mm *mm, swp_entry_t entry)
{
	struct atomic64 *slot = swap_slot(mm, entry);

	if (mm->policy == SWAPIN_CACHED || !(swap_info(mm, entry)->dev_flags & SWAP_SYNCHRONOUS_IO))
		return -EMLINK;
	if (mm->policy == SWAPIN_DIRECT_UNSAFE) {
		u64 word = slot_read(slot);

		return slot_is_cached(word) || slot_count(word) != 1 ? -EEXIST : 0;
	}
	if (mm->policy == SWAPIN_DIRECT_COUNT)
		return slot_dup_single(slot);
	return swapcache_prepare(mm, entry);
}

static enum fault_result do_swap_page(struct mm *mm, vpn_t vpn, u64 orig_pte, bool write)
{
	swp_entry_t entry = pte_to_swp_entry(orig_pte);
	enum fault_result result = FAULT_RETRY;
	int ret;

	lru_came_back(mm, vpn, orig_pte);
	if (mm->readahead && !swap_is_synchronous(mm, entry) && readahead_with(mm, vpn, write)) {
		mm_stats_add(mm->stats, STAT_FAULT_CACHED, 1);
		return FAULT_DONE;
	}
	/* First of all, while nothing is pinned: this may reclaim. */
	if (mm_charge(mm, 1))
		return FAULT_OOM;
	while ((ret = swap_claim(mm, entry)) == -EEXIST && mm->policy == SWAPIN_DIRECT_RETRY)
		swap_relax(mm, entry);
	if (ret == 0)
		result = do_swap_page_direct(mm, vpn, orig_pte, write);
	else if (ret == -EMLINK || slot_is_cached(slot_read(swap_slot(mm, entry))))
		result = do_swap_page_cached(mm, vpn, orig_pte, write);
	else if (ret == -EEXIST && !readahead_meanwhile(mm, vpn, write))
		swap_relax(mm, entry);
	if (result != FAULT_DONE)
		budget_refund(mm, 1);
	else if (mm->readahead && swap_is_synchronous(mm, entry))
		readahead(mm, vpn, orig_pte, write);
	return result;
}

enum fault_result handle_mm_fault(struct mm *mm, vpn_t vpn, bool write)
{
	u64 started = sync_clock_ns();
	enum fault_result result;

	must(vpn.val < mm->vm.nr_pages);
	do {
		u64 pte = pte_read(mm, vpn);

		if (pte & PTE_LOCKED) {
			pte_wait_unlocked(mm, vpn);
			result = FAULT_RETRY;
		} else if (pte_is_swap(pte)) {
			result = do_swap_page(mm, vpn, pte, write);
		} else if (pte_is_none(pte)) {
			result = do_anonymous_page(mm, vpn);
		} else if (write && pte_is_protected(pte)) {
			result = do_wp_page(mm, vpn);
		} else {
			result = do_present_page(mm, vpn, write);
		}
	} while (result == FAULT_RETRY);
	mm_stats_fault(mm->stats, sync_clock_ns() - started);
	return result;
}

/* While the PTE is locked it keeps its slot, and the slot its device. */
bool fault_place(struct mm *mm, vpn_t vpn, struct swap_place *place)
{
	u64 pte = pte_lock(mm, vpn);
	bool is_swap = pte_is_swap(pte);

	if (is_swap)
		swap_place(mm, pte_to_swp_entry(pte), place);
	pte_unlock(mm, vpn, pte);
	return is_swap;
}

int fault_errno(enum fault_result result)
{
	switch (result) {
	case FAULT_DONE:
	case FAULT_UNMAPPED:
		return 0;
	case FAULT_OOM:
		return -ENOMEM;
	default:
		return -EIO;
	}
}
