// SPDX-License-Identifier: MIT
#include "mm/writeback.h"

#include "base/mutation.h"
#include "mm/budget.h"
#include "mm/lru.h"
#include "mm/pte.h"
#include "mm/swap_slots.h"

/*
 * Taking away the right to write interrupts all processors that run the program, which costs as much as four faults.
 * So victims are protected in few calls, and what is present between them along with them: at worst, these pages take
 * a fault at their next write, or they are made writable again when the victims have left.
 */
enum { GAP_MAX = 256 };

/* ---- protect ---- */

/* What has become of pages between victims. */
enum gap_end { GAP_AS_IT_WAS, GAP_PROTECTED, GAP_WRITABLE };

/*
 * The pages between two victims, present or not, their PTEs locked by us: none may come in writable meanwhile. What
 * they are unlocked with is what their locked words say, and whether they are protected now.
 */
static void gap_unlock(struct mm *mm, u32 from, u32 to, enum gap_end end)
{
	for (u32 at = from; at < to; at++) {
		u64 pte = pte_read(mm, (vpn_t){ at }) & ~(PTE_LOCKED | PTE_WAITERS);

		if (end == GAP_PROTECTED && pte_is_present(pte) && !pte_is_clean(pte))
			pte |= PTE_PROTECTED;
		else if (end == GAP_WRITABLE)
			pte &= ~PTE_PROTECTED;
		pte_unlock(mm, (vpn_t){ at }, pte);
	}
}

/*
 * Locks what is between two victims. False if that is too much, or a page must stay writable: a system call that holds
 * a page cannot take a fault on it.
 */
static bool gap_lock(struct mm *mm, u32 from, u32 to)
{
	u32 at = from;

	if (to - from > GAP_MAX)
		return false;
	for (; at < to; at++) {
		u64 pte;

		if (!pte_trylock(mm, (vpn_t){ at }, &pte))
			break;
		if (pte_is_held(pte) && !mutate(MUTATE_PROTECT_HELD)) {
			pte_unlock(mm, (vpn_t){ at }, pte);
			break;
		}
	}
	if (at < to)
		gap_unlock(mm, from, at, GAP_AS_IT_WAS);
	return at == to;
}

/* Protects a group of victims and what stands between them. False: the kernel cannot do all of it at once. */
static bool protect_span(struct mm *mm, const struct victim *v, u32 nr)
{
	return !vm_protect(&mm->vm, v[0].vpn, v[nr - 1].vpn.val - v[0].vpn.val + 1);
}

/* From here on the page is clean, its copy to come; or it stays as it is, and its slot has no user. */
static void victim_begin(struct mm *mm, struct victim *v, bool is_protected)
{
	if (is_protected) {
		pte_unlock(mm, v->vpn, pte_make_clean(v->entry) | PTE_WRITEBACK | (v->pte & PTE_AGE_MASK));
	} else {
		swap_free(mm, v->entry);
		pte_unlock(mm, v->vpn, v->pte);
	}
}

static void protect_victims(struct mm *mm, struct victim *v, u32 nr)
{
	for (u32 i = 0, group; i < nr; i += group) {
		bool done;

		group = 1;
		while (i + group < nr && gap_lock(mm, v[i + group - 1].vpn.val + 1, v[i + group].vpn.val))
			group++;
		done = protect_span(mm, &v[i], group);
		for (u32 k = i; k + 1 < i + group; k++)
			gap_unlock(mm, v[k].vpn.val + 1, v[k + 1].vpn.val, GAP_PROTECTED);
		/* Something else may be mapped in between: one by one. */
		for (u32 k = i; k < i + group; k++)
			victim_begin(mm, &v[k], done || protect_span(mm, &v[k], 1));
	}
}

/* ---- copy, write ---- */

/* Is the page still what it was when its writeback began? Without the lock a hint. */
static bool is_ours(const struct victim *v, u64 pte)
{
	return pte_is_under_writeback(pte) && pte_to_swp_entry(pte).val == v->entry.val;
}

/* Copies of the pages, in one call; what is written to meanwhile may be torn, and is then not used. */
static void copy_victims(struct mm *mm, const struct victim *v, u32 nr, frame_t buffer, bool *copied)
{
	vpn_t vpns[FRAME_RUN];
	u32 done = 0;

	for (u32 i = 0; i < nr; i++)
		vpns[i] = v[i].vpn;
	while (done < nr) {
		u32 got = vm_read_pages(&mm->vm, &vpns[done], (frame_t){ buffer.val + done }, nr - done);

		for (u32 i = done; i < done + got; i++)
			copied[i] = true;
		done += got;
		if (done < nr)
			copied[done++] = false;
	}
}

/* Victims on their way to the device: indices into the run's. */
struct write_batch {
	u32 victim[FRAME_RUN];
	swp_entry_t entries[FRAME_RUN];
	struct swap_io io[FRAME_RUN];
	u32 nr;
};

static void write_batch(struct mm *mm, struct write_batch *batch, bool *written, u32 *failed)
{
	swap_write_pages(mm, batch->entries, batch->io, batch->nr);
	for (u32 i = 0; i < batch->nr; i++) {
		written[batch->victim[i]] = !batch->io[i].err;
		*failed += batch->io[i].err != 0;
	}
	batch->nr = 0;
}

static void write_victims(struct mm *mm, const struct victim *v, u32 nr, frame_t buffer, bool *written, u32 *failed)
{
	struct write_batch batch;

	batch.nr = 0;
	copy_victims(mm, v, nr, buffer, written);
	for (u32 i = 0; i < nr; i++) {
		if (!written[i] || !is_ours(&v[i], pte_read(mm, v[i].vpn))) {
			written[i] = false;
			continue;
		}
		batch.victim[batch.nr] = i;
		batch.entries[batch.nr] = v[i].entry;
		batch.io[batch.nr++] = (struct swap_io){ .page = vm_frame_data(&mm->vm, (frame_t){ buffer.val + i }),
							 .warm = v[i].pte & PTE_WARM };
		if (batch.nr == swap_batch_max(mm, v[i].entry))
			write_batch(mm, &batch, written, failed);
	}
	if (batch.nr)
		write_batch(mm, &batch, written, failed);
}

/* ---- drop ---- */

/*
 * Ends the writeback of a victim and its pin. True: it can be dropped, and its PTE stays locked. Otherwise it was
 * written to, or has gone, or is held, or has no copy: then it stays, clean if there is a copy of it.
 */
static bool victim_end(struct mm *mm, struct victim *v, bool written)
{
	u64 pte = pte_lock(mm, v->vpn);
	bool leaves = false;

	if (is_ours(v, pte) || (mutate(MUTATE_DROP_UNSEEN) && pte_is_present(pte))) {
		pte &= ~PTE_WRITEBACK;
		if (!written && !mutate(MUTATE_DROP_UNWRITTEN)) {
			swap_free(mm, v->entry);
			pte = pte_with_stamp(PTE_PRESENT | PTE_PROTECTED, lru_now(mm));
		} else {
			leaves = !pte_is_held(pte) || mutate(MUTATE_EVICT_HELD);
		}
	}
	v->pte = pte;
	if (!leaves)
		pte_unlock(mm, v->vpn, pte);
	swapcache_clear(mm, v->entry);
	return leaves;
}

void drop_clean_victims(struct mm *mm, const struct victim *v, u32 nr)
{
	vpn_t vpns[FRAME_RUN];
	u32 now = lru_now_out(mm);

	must(nr <= FRAME_RUN);
	if (!nr)
		return;
	for (u32 i = 0; i < nr; i++)
		vpns[i] = v[i].vpn;
	vm_zap_pages(&mm->vm, vpns, nr);
	for (u32 i = 0; i < nr; i++)
		pte_unlock(mm, v[i].vpn, lru_departure(now, v[i].pte) | pte_make_swap(pte_to_swp_entry(v[i].pte)));
	budget_uncharge(mm, nr);
}

/* What has been written is clean, and leaves as any clean page does. */
static u32 end_victims(struct mm *mm, struct victim *v, u32 nr, const bool *written)
{
	u32 leaving = 0;

	for (u32 i = 0; i < nr; i++) {
		if (victim_end(mm, &v[i], written[i]))
			v[leaving++] = v[i];
	}
	drop_clean_victims(mm, v, leaving);
	return leaving;
}

/* ---- what stood between ---- */

/* Locks a page if it may be writable: it is not clean, so no copy of it can grow stale. */
static bool gap_page_lock(struct mm *mm, u32 at, u32 *nr_protected)
{
	vpn_t vpn = { at };
	u64 pte;

	if (!pte_trylock(mm, vpn, &pte))
		return false;
	if (pte_is_clean(pte) && !mutate(MUTATE_RELEASE_CLEAN)) {
		pte_unlock(mm, vpn, pte);
		return false;
	}
	*nr_protected += pte_is_protected(pte);
	return true;
}

/* Makes what is protected in [first, last] and need not be writable again, where enough of it lies together. */
static void release_gaps(struct mm *mm, u32 first, u32 last)
{
	for (u32 at = first; at <= last;) {
		u32 end = at, nr_protected = 0;
		enum gap_end left = GAP_AS_IT_WAS;

		while (end <= last && gap_page_lock(mm, end, &nr_protected))
			end++;
		if (nr_protected >= mm->gap_min && lru_releases_gap(mm) &&
		    !vm_unprotect(&mm->vm, (vpn_t){ at }, end - at))
			left = GAP_WRITABLE;
		gap_unlock(mm, at, end, left);
		at = end + 1;
	}
}

u32 writeback_victims(struct mm *mm, struct victim *v, u32 nr, frame_t buffer, u32 *failed)
{
	u32 first[FRAME_RUN], last[FRAME_RUN], nr_spans = 0, gone;
	bool written[FRAME_RUN];

	must(nr <= FRAME_RUN);
	/* What may have been protected by one call. */
	for (u32 i = 0; i < nr; i++) {
		if (!nr_spans || v[i].vpn.val - last[nr_spans - 1] > GAP_MAX)
			first[nr_spans++] = v[i].vpn.val;
		last[nr_spans - 1] = v[i].vpn.val;
	}
	protect_victims(mm, v, nr);
	write_victims(mm, v, nr, buffer, written, failed);
	gone = end_victims(mm, v, nr, written);
	for (u32 i = 0; i < nr_spans; i++) {
		if (last[i] > first[i])
			release_gaps(mm, first[i], last[i]);
	}
	return gone;
}
