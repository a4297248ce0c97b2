// SPDX-License-Identifier: MIT
#include "mm/readahead.h"

#include "mm/budget.h"
#include "mm/fault.h"
#include "mm/frames.h"
#include "mm/lru.h"
#include "mm/pte.h"
#include "mm/reclaim.h"
#include "mm/swap_slots.h"

enum {
	STREAM_SURE = 8, /* a window of so many pages is no accident */
	STREAM_KEEPS = 64, /* of so many runs of a stream that keeps no slots one does, to see whether that pays now */
	STREAM_SPARES = 16, /* one in so many pages that such a stream faults on is treated as any other page */
	AROUND = 16, /* pages of a block, */
	AROUND_WANTED = 3, /* of which so many make the others likely to be wanted, too */
	AROUND_FREE = 4, /* if one part in so many of memory is free */
};

/* Consecutive pages that are read: their slots are claimed, their data is in the first frames of the buffer. */
struct ra_run {
	vpn_t first;
	u32 nr;
	u64 ptes[VM_RUN_MAX];
	frame_t buffer;
	u32 flags; /* enum ra_flags */
};

struct ra_stream {
	vpn_t first;
	u32 nr;
	bool forward;
	u32 flags;
};

static vpn_t run_vpn(const struct ra_run *run, u32 i)
{
	return (vpn_t){ run->first.val + i };
}

/* ---- reading and installing ---- */

/*
 * Claims the page's slot. A synchronous device is for those policies that pass the swap cache by; from others a page
 * always comes with its neighbours if it can, under the pins of the default policy.
 */
static int claim(struct mm *mm, swp_entry_t entry)
{
	return swap_is_synchronous(mm, entry) ? swap_claim(mm, entry) : swapcache_prepare(mm, entry);
}

static void unclaim(struct mm *mm, swp_entry_t entry)
{
	if (swap_is_synchronous(mm, entry))
		swap_unclaim(mm, entry);
	else
		swapcache_clear(mm, entry);
}

/* Makes the page the run's next one. False: not now. */
static bool run_claim(struct mm *mm, struct ra_run *run, vpn_t vpn)
{
	u64 pte = pte_read(mm, vpn);
	swp_entry_t entry;

	if ((pte & PTE_LOCKED) || !pte_is_swap(pte))
		return false;
	entry = pte_to_swp_entry(pte);
	if (claim(mm, entry))
		return false;
	/* As in do_swap_page_direct(): before the claim the slot may have changed hands. */
	if (!pte_same(pte_read(mm, vpn), pte)) {
		unclaim(mm, entry);
		return false;
	}
	if (!run->nr)
		run->first = vpn;
	run->ptes[run->nr++] = pte;
	return true;
}

/* Reads all of the run; what cannot be read, and what comes after it, is left for the faults that need it. */
static void run_read(struct mm *mm, struct ra_run *run)
{
	swp_entry_t entries[VM_RUN_MAX];
	struct swap_io io[VM_RUN_MAX];
	u32 good = 0;

	for (u32 i = 0; i < run->nr; i++) {
		entries[i] = pte_to_swp_entry(run->ptes[i]);
		io[i].page = vm_frame_data(&mm->vm, (frame_t){ run->buffer.val + i });
	}
	swap_read_pages(mm, entries, io, run->nr);
	while (good < run->nr && !io[good].err)
		good++;
	for (u32 i = good; i < run->nr; i++)
		unclaim(mm, entries[i]);
	run->nr = good;
}

/* Locks the PTEs of the run that are what they were, up to the first that is not. */
static u32 run_lock(struct mm *mm, const struct ra_run *run)
{
	u32 nr = 0;

	for (; nr < run->nr; nr++) {
		u64 pte;

		if (!pte_trylock(mm, run_vpn(run, nr), &pte))
			break;
		if (!pte_same(pte, run->ptes[nr])) {
			pte_unlock(mm, run_vpn(run, nr), pte);
			break;
		}
	}
	return nr;
}

/* Whatever memory is short of, what lies on a lower device may stay there. */
static bool run_is_below(struct mm *mm, const struct ra_run *run)
{
	for (u32 i = 0; i < run->nr; i++) {
		if (!swap_is_below(mm, pte_to_swp_entry(run->ptes[i])))
			return false;
	}
	return true;
}

static bool run_stays_clean(struct mm *mm, const struct ra_run *run)
{
	return (run->flags & RA_KEEP) || ((run->flags & RA_READS) && run_is_below(mm, run));
}

/* Reads and installs the run and ends it; returns how many pages came in. */
static u32 run_finish(struct mm *mm, struct ra_run *run)
{
	u32 nr, installed = 0;
	struct lru_time now;
	u64 kept = 0; /* bit by bit */
	bool clean;

	run_read(mm, run);
	clean = run_stays_clean(mm, run);
	nr = run_lock(mm, run);
	now = lru_time(mm);
	if (nr) {
		long ret = vm_install(&mm->vm, run->first, vm_frame_data(&mm->vm, run->buffer), nr, clean);

		installed = ret > 0 ? (u32)ret : 0;
	}
	for (u32 i = 0; i < nr; i++) {
		u64 pte = run->ptes[i];
		/* As if all were written to, unless they are protected. */
		enum keep keep = clean ? KEEP_CLEAN : page_keeps(mm, run_vpn(run, i), pte, true);

		kept |= (u64)(keep != KEEP_NONE) << i;
		if (i < installed)
			pte = pte_keeping(pte_to_swp_entry(pte), keep) |
			      page_arrival(mm, &now, pte, run->flags & RA_STREAMED);
		pte_unlock(mm, run_vpn(run, i), pte);
	}
	for (u32 i = 0; i < run->nr; i++) {
		swp_entry_t entry = pte_to_swp_entry(run->ptes[i]);

		if (i < installed && !(kept >> i & 1))
			swap_free(mm, entry);
		unclaim(mm, entry);
	}
	if (clean)
		lru_kept(mm, installed);
	lru_add_run(mm, run->first, installed);
	/* Single pages leave as they grow old: to look for them costs more than they take. */
	if ((run->flags & RA_STREAMED) && installed >= STREAM_SURE)
		lru_add_hint(mm, LRU_STREAMED, run->first, installed);
	run->nr = 0;
	return installed;
}

/* Room for up to `nr` pages, without reclaim for them. */
static u32 charge_up_to(struct mm *mm, u32 nr)
{
	while (nr && !budget_try_charge(mm, nr))
		nr /= 2;
	return nr;
}

static u32 range_read(struct mm *mm, vpn_t first, u32 nr, u32 flags)
{
	struct ra_run run = { .flags = flags };
	u32 charged = charge_up_to(mm, nr), installed = 0;

	if (!charged)
		return 0;
	if (frame_buffer_tryget(mm, &run.buffer)) {
		for (u32 i = 0; i < charged; i++) {
			if (!run_claim(mm, &run, (vpn_t){ first.val + i }) && run.nr)
				installed += run_finish(mm, &run);
		}
		if (run.nr)
			installed += run_finish(mm, &run);
		frame_buffer_put(mm, run.buffer);
	}
	if (charged > installed)
		budget_refund(mm, charged - installed);
	return installed;
}

u32 readahead_range(struct mm *mm, vpn_t first, u32 nr, u32 flags)
{
	u32 installed = range_read(mm, first, nr, flags);

	mm_stats_add(mm->stats, STAT_PAGES_AHEAD, installed);
	return installed;
}

/* ---- when, and how far ---- */

/* How many pages in a row came in recently, from the one beside vpn on in steps of `step`. */
static u32 stream_length(struct mm *mm, vpn_t vpn, int step)
{
	u32 now = lru_now(mm), nr = 0, age = 0;

	while (nr < VM_RUN_MAX / 2) {
		s64 at = (s64)vpn.val + (s64)(nr + 1) * step;
		u64 pte;

		if (at < 0 || at >= mm->vm.nr_pages)
			break;
		pte = pte_read(mm, (vpn_t){ (u32)at });
		if (!pte_is_present(pte) || lru_ticks(now, pte) >= LRU_RECENT)
			break;
		age = lru_ticks(now, pte);
		nr++;
	}
	return nr == 1 && age >= LRU_JUST_NOW ? 0 : nr;
}

/* A stream that writes what it has read should not find the next pages write-protected. */
static u32 stream_flags(struct mm *mm, vpn_t behind, bool write)
{
	u64 pte = pte_read(mm, behind);
	bool tries;

	if (write || !mm->keep_clean)
		return RA_STREAMED;
	/* A hot page is never clean, whatever is done with it. */
	if (pte_is_clean(pte) || ((pte & PTE_HOT) && !mm->keep_hot))
		return RA_STREAMED | RA_READS | (page_keeps(mm, behind, 0, write) == KEEP_CLEAN ? RA_KEEP : 0);
	tries = (behind.val / VM_RUN_MAX ^ lru_now(mm)) % STREAM_KEEPS == 0;
	return RA_STREAMED | (tries && !swap_is_tight(mm) ? RA_KEEP : 0);
}

/* What the stream that vpn belongs to will want next, vpn not included. False: there is no stream. */
static bool stream_find(struct mm *mm, vpn_t vpn, bool write, struct ra_stream *s)
{
	u32 behind = stream_length(mm, vpn, -1), beyond;

	s->forward = behind > 0;
	if (behind) {
		s->nr = (u32)min_u64(2 * behind, mm->vm.nr_pages - vpn.val - 1);
		s->first = (vpn_t){ vpn.val + 1 };
		s->flags = stream_flags(mm, (vpn_t){ vpn.val - 1 }, write);
		return true;
	}
	beyond = stream_length(mm, vpn, 1);
	if (beyond) {
		s->nr = (u32)min_u64(2 * beyond, vpn.val);
		s->first = (vpn_t){ vpn.val - s->nr };
		s->flags = stream_flags(mm, (vpn_t){ vpn.val + 1 }, write);
	}
	return beyond > 0;
}

/*
 * Where memory is free nothing leaves, so nothing is brought in for nothing more than once. There a few pages of a
 * block that were wanted one by one, vpn the last of them, bring the rest of it.
 */
static bool block_find(struct mm *mm, vpn_t vpn, bool write, struct ra_stream *s)
{
	u32 wanted = 0;

	if (budget_free(mm) < budget_limit(mm) / AROUND_FREE)
		return false;
	s->first = (vpn_t){ vpn.val / AROUND * AROUND };
	s->nr = (u32)min_u64(AROUND, mm->vm.nr_pages - s->first.val);
	s->flags = page_keeps(mm, vpn, 0, write) == KEEP_CLEAN ? RA_READS | RA_KEEP : 0;
	for (u32 i = 0; i < s->nr; i++)
		wanted += s->first.val + i == vpn.val || pte_is_present(pte_read(mm, (vpn_t){ s->first.val + i }));
	return wanted >= AROUND_WANTED;
}

/* On to the run after the stream's, which is one of the longest. False: there is none, or it is there. */
static bool stream_advance(struct mm *mm, struct ra_stream *s)
{
	u32 near; /* the page of it that comes first */

	if (s->forward ? s->first.val + 2 * VM_RUN_MAX > mm->vm.nr_pages : s->first.val < VM_RUN_MAX)
		return false;
	near = s->forward ? s->first.val + VM_RUN_MAX : s->first.val - 1;
	s->first.val = s->forward ? near : s->first.val - VM_RUN_MAX;
	return pte_is_swap(pte_read(mm, (vpn_t){ near }));
}

/* Makes vpn the first page of the stream's run, rather than the one before it. */
static void stream_include(struct ra_stream *s, vpn_t vpn)
{
	s->first.val = s->forward ? vpn.val : vpn.val + 1 - s->nr;
}

/* The hint for the background thread: the page that the run begins at, plus one, and the flags of ra_stream. */
static void ask_for_next(struct mm *mm, struct ra_stream s)
{
	if (s.nr < VM_RUN_MAX || !mm->reads_behind || !stream_advance(mm, &s))
		return;
	atomic64_set(&mm->kswapd.ahead, ((u64)s.first.val + 1) << RA_FLAGS_BITS | s.flags);
	kswapd_wake(mm);
}

void readahead_behind(struct mm *mm)
{
	u64 hint = atomic64_read(&mm->kswapd.ahead);

	if (!hint || !atomic64_cas_relaxed(&mm->kswapd.ahead, &hint, 0))
		return;
	(void)readahead_range(mm, (vpn_t){ (u32)(hint >> RA_FLAGS_BITS) - 1 }, VM_RUN_MAX,
			      (u32)hint & ((1 << RA_FLAGS_BITS) - 1));
}

/* The page that a stream has faulted on is one of its pages, as those that are read ahead. */
static void mark_streamed(struct mm *mm, vpn_t vpn, u64 orig_pte)
{
	struct lru_time now = lru_time(mm);
	u64 pte, arrival;

	if (!pte_trylock(mm, vpn, &pte))
		return;
	arrival = lru_arrival(&now, orig_pte, true);
	pte_unlock(mm, vpn, pte_is_present(pte) ? pte | (arrival & PTE_STREAMED) : pte);
}

void readahead(struct mm *mm, vpn_t vpn, u64 orig_pte, bool write)
{
	struct ra_stream s;

	if (!stream_find(mm, vpn, write, &s)) {
		if (block_find(mm, vpn, write, &s))
			(void)readahead_range(mm, s.first, s.nr, s.flags);
		return;
	}
	if (s.nr >= STREAM_SURE && vpn.val / STREAM_SURE % STREAM_SPARES)
		mark_streamed(mm, vpn, orig_pte);
	/* First, so that both are at work at the same time. */
	ask_for_next(mm, s);
	(void)readahead_range(mm, s.first, s.nr, s.flags);
}

bool readahead_meanwhile(struct mm *mm, vpn_t vpn, bool write)
{
	struct ra_stream s;

	if (!mm->readahead || !mm->reads_behind || !stream_find(mm, vpn, write, &s) || s.nr < VM_RUN_MAX)
		return false;
	stream_include(&s, vpn); /* the run that the other is reading */
	if (!stream_advance(mm, &s))
		return false;
	ask_for_next(mm, s);
	return readahead_range(mm, s.first, s.nr, s.flags) > 0;
}

bool readahead_with(struct mm *mm, vpn_t vpn, bool write)
{
	struct ra_stream s;
	bool came;
	u32 nr;

	if (stream_find(mm, vpn, write, &s)) {
		s.nr = (u32)min_u64(s.nr + 1, VM_RUN_MAX);
		stream_include(&s, vpn);
	} else if (!block_find(mm, vpn, write, &s)) {
		return false;
	}
	nr = range_read(mm, s.first, s.nr, s.flags);
	came = pte_is_present(pte_read(mm, vpn));
	mm_stats_add(mm->stats, STAT_PAGES_AHEAD, nr - (came && nr)); /* this one was asked for */
	return came;
}
