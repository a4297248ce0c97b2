// SPDX-License-Identifier: MIT
#include "mm/reclaim.h"

#include <errno.h>

#include "base/mutation.h"
#include "mm/budget.h"
#include "mm/fault.h"
#include "mm/frames.h"
#include "mm/lru.h"
#include "mm/pte.h"
#include "mm/swap_slots.h"

enum {
	RECLAIM_RETRIES_MAX = 16, /* runs in a row that could free nothing, before it is called out of memory */
	PUT_BACK_TRIES_MAX = 10000,
	KSWAPD_IDLE_NS = 100000000,
	RETRY_PAUSE_NS = 1000000,
};

/* A page on its way out: its PTE is locked by us. */
struct victim {
	vpn_t vpn;
	swp_entry_t entry; /* dirty pages: the slot it goes to */
	u64 pte;
};

struct reclaim_run {
	struct victim victims[FRAME_RUN];
	u32 nr;
	frame_t first; /* the run of frames, `used` of which hold pages */
	u32 used;
	/* What came of it. `stale` entries are gone from the queue: a kind of progress. */
	u32 scanned, stale, freed, failed;
};

/* ---- choosing pages ---- */

/* Locks a page if it may leave. The PTE keeps QUEUED as it is. */
static bool victim_lock(struct mm *mm, vpn_t vpn, struct victim *v)
{
	if (!pte_trylock(mm, vpn, &v->pte))
		return false;
	v->vpn = vpn;
	if (pte_is_present(v->pte) && (!pte_is_held(v->pte) || mutate(MUTATE_EVICT_HELD)))
		return true;
	pte_unlock(mm, vpn, v->pte);
	return false;
}

/* Pages that cannot leave now go to the young end; their PTEs have QUEUED set. */
static void requeue(struct mm *mm, vpn_t vpn)
{
	u32 fresh = lru_push(&mm->lru, &vpn, 1);

	if (fresh)
		budget_charge_tables(mm, fresh);
}

/* Sorted by address, so that neighbours leave in one call. Nearly sorted input: FIFO order follows the program's. */
static void sort_victims(struct reclaim_run *run)
{
	for (u32 i = 1; i < run->nr; i++) {
		struct victim v = run->victims[i];
		u32 j = i;

		for (; j > 0 && run->victims[j - 1].vpn.val > v.vpn.val; j--)
			run->victims[j] = run->victims[j - 1];
		run->victims[j] = v;
	}
}

/* What was advised cold goes first. The pages keep QUEUED and their entries in the main queue. */
static void isolate_cold(struct mm *mm, struct reclaim_run *run)
{
	vpn_t vpns[FRAME_RUN];
	u32 nr = lru_pop(&mm->cold, vpns, FRAME_RUN);

	for (u32 i = 0; i < nr; i++) {
		if (victim_lock(mm, vpns[i], &run->victims[run->nr]))
			run->nr++;
	}
	run->scanned += nr;
	sort_victims(run);
}

/* The oldest pages. One that has gone since loses its place; one that is locked or held goes to the young end. */
static void isolate_oldest(struct mm *mm, struct reclaim_run *run)
{
	vpn_t vpns[FRAME_RUN];

	u32 nr = lru_pop(&mm->lru, vpns, FRAME_RUN);

	run->scanned += nr;
	for (u32 i = 0; i < nr; i++) {
		struct victim *v = &run->victims[run->nr];

		if (!pte_trylock(mm, vpns[i], &v->pte)) {
			requeue(mm, vpns[i]);
			continue;
		}
		must(v->pte & PTE_QUEUED);
		v->vpn = vpns[i];
		if (!pte_is_present(v->pte)) {
			pte_unlock(mm, vpns[i], v->pte & ~PTE_QUEUED);
			run->stale++;
		} else if (pte_is_held(v->pte)) {
			pte_unlock(mm, vpns[i], v->pte);
			requeue(mm, vpns[i]);
		} else {
			v->pte &= ~PTE_QUEUED;
			run->nr++;
		}
	}
	sort_victims(run);
}

static void isolate_range(struct mm *mm, struct reclaim_run *run, vpn_t start, u32 nr)
{
	must(nr <= FRAME_RUN);
	run->scanned = nr;
	for (u32 i = 0; i < nr; i++) {
		vpn_t vpn = { start.val + i };

		if (pte_is_present(pte_read(mm, vpn)) && victim_lock(mm, vpn, &run->victims[run->nr]))
			run->nr++;
	}
}

/* A victim that stays after all. */
static void victim_unlock(struct mm *mm, struct victim *v)
{
	bool queued = v->pte & PTE_QUEUED;

	pte_unlock(mm, v->vpn, v->pte | PTE_QUEUED);
	if (!queued)
		requeue(mm, v->vpn);
}

/* ---- clean pages ---- */

static bool are_neighbours(const struct victim *a, const struct victim *b)
{
	return a->vpn.val + 1 == b->vpn.val;
}

/* The slot has the same data and the page cannot change under its PTE lock: dropping it is all. */
static void drop_clean(struct mm *mm, struct victim *v, u32 nr)
{
	vm_zap(&mm->vm, v[0].vpn, nr);
	for (u32 i = 0; i < nr; i++)
		pte_unlock(mm, v[i].vpn, pte_make_swap(pte_to_swp_entry(v[i].pte)) | (v[i].pte & PTE_QUEUED));
	budget_uncharge(mm, nr);
	mm_stats_add(mm->stats, STAT_PAGES_OUT_CLEAN, nr);
}

/* Drops the clean victims, in runs of neighbours; the dirty ones remain. */
static void reclaim_clean(struct mm *mm, struct reclaim_run *run)
{
	u32 dirty = 0;

	for (u32 i = 0, nr; i < run->nr; i += nr) {
		struct victim *v = &run->victims[i];

		nr = 1;
		if (!pte_is_clean(v->pte)) {
			run->victims[dirty++] = *v;
			continue;
		}
		while (i + nr < run->nr && pte_is_clean(v[nr].pte) && are_neighbours(&v[nr - 1], &v[nr]))
			nr++;
		drop_clean(mm, v, nr);
		run->freed += nr;
	}
	run->nr = dirty;
}

/* ---- dirty pages: into frames ---- */

/* Gives every victim a slot; those that get none stay, and swap is full. */
static void assign_slots(struct mm *mm, struct reclaim_run *run)
{
	swp_entry_t entries[FRAME_RUN];
	u32 got = run->nr ? swap_alloc(mm, entries, run->nr) : 0;

	for (u32 i = 0; i < got; i++)
		run->victims[i].entry = entries[i];
	for (u32 i = got; i < run->nr; i++)
		victim_unlock(mm, &run->victims[i]);
	run->failed += run->nr - got;
	run->nr = got;
}

/* Gives back a slot that nothing was stored in. */
static void unassign_slot(struct mm *mm, struct victim *v)
{
	swap_free(mm, v->entry);
	swapcache_clear(mm, v->entry);
}

/* The page is in its frame: now the slot names the frame, then the PTE names the slot. */
static void publish_stolen(struct mm *mm, struct reclaim_run *run, struct victim *v)
{
	frame_t frame = { run->first.val + run->used++ };

	*frame_desc(mm, frame) = (struct frame_desc){ .vpn = v->vpn, .entry = v->entry };
	slot_publish(swap_slot(mm, v->entry), frame.val, true);
	pte_unlock(mm, v->vpn, pte_make_swap(v->entry) | (v->pte & PTE_QUEUED));
}

/* The kernel has no such page: the program dropped it behind our back, so it reads as zero. */
static void forget_lost(struct mm *mm, struct victim *v)
{
	unassign_slot(mm, v);
	pte_unlock(mm, v->vpn, v->pte & ~PTE_CONTENT_MASK);
	budget_uncharge(mm, 1);
}

/* Moves `nr` neighbours out as far as it goes; returns how many victims are dealt with (> 0). */
static u32 steal_neighbours(struct mm *mm, struct reclaim_run *run, struct victim *v, u32 nr)
{
	/* What a copy holds twice for a moment. MOVE copies single pages only, where it cannot move. */
	u32 twice = mm->vm.method == VM_METHOD_MOVE ? 1 : nr;
	long moved;

	budget_charge_reclaim(mm, twice);
	moved = vm_steal(&mm->vm, v[0].vpn, (frame_t){ run->first.val + run->used }, nr);
	budget_uncharge(mm, twice);
	for (long i = 0; i < moved; i++)
		publish_stolen(mm, run, &v[i]);
	if (moved > 0)
		return (u32)moved;
	if (moved == -ENOENT) {
		forget_lost(mm, v);
	} else {
		unassign_slot(mm, v);
		victim_unlock(mm, v);
	}
	return 1;
}

static void steal_victims(struct mm *mm, struct reclaim_run *run)
{
	for (u32 i = 0; i < run->nr;) {
		u32 nr = 1;

		while (i + nr < run->nr && are_neighbours(&run->victims[i + nr - 1], &run->victims[i + nr]))
			nr++;
		i += steal_neighbours(mm, run, &run->victims[i], nr);
	}
}

/* ---- from frames to the device ---- */

/* A failed write leaves the page in memory: the writer takes it back as a faulter would. */
static void put_back(struct mm *mm, frame_t frame)
{
	struct frame_desc *desc = frame_desc(mm, frame);
	struct atomic64 *slot = swap_slot(mm, desc->entry);
	bool detached, done = false;
	u64 word, pte;

	while (slot_cache_lock(slot, &word))
		swap_wait(mm, desc->entry);
	for (u32 tries = 0; !done; tries++) {
		struct atomic32 never = { 0 };

		pte = pte_lock(mm, desc->vpn);
		if (!pte_is_swap(pte) || pte_to_swp_entry(pte).val != desc->entry.val) {
			pte_unlock(mm, desc->vpn, pte);
			break;
		}
		budget_charge_reclaim(mm, 1);
		done = install_page(mm, desc->vpn, pte, vm_frame_data(&mm->vm, frame), false) == FAULT_DONE;
		if (done)
			break;
		/* The kernel itself has no page for us: the data is safe in the frame, so wait. */
		budget_uncharge(mm, 1);
		must(tries < PUT_BACK_TRIES_MAX);
		sync_wait32_timeout(&never, 0, RETRY_PAUSE_NS);
	}
	slot_cache_remove(slot, done, &detached);
	must(!detached); /* under writeback: slot_writeback_end detaches it */
}

/* Writes one frame to its slot and ends its time in the swap cache. */
static void write_frame(struct mm *mm, struct reclaim_run *run, frame_t frame)
{
	swp_entry_t entry = frame_desc(mm, frame)->entry;
	struct atomic64 *slot = swap_slot(mm, entry);
	enum slot_left left;
	int ret;

	while ((ret = slot_writeback_begin(slot, frame.val)) == -EAGAIN)
		swap_wait(mm, entry);
	if (ret == -ENOENT)
		return; /* taken back or dropped */
	if (slot_count(slot_read(slot)) > 0 && swap_write(mm, entry, vm_frame_data(&mm->vm, frame))) {
		if (!mutate(MUTATE_NO_PUT_BACK))
			put_back(mm, frame);
		run->failed++;
	} else {
		run->freed++;
	}
	while (slot_writeback_end(slot, &left))
		swap_wait(mm, entry);
	swap_finish(mm, entry, left);
}

/* ---- one run ---- */

/* Takes isolated victims all the way out. */
static void reclaim_victims(struct mm *mm, struct reclaim_run *run)
{
	reclaim_clean(mm, run);
	assign_slots(mm, run);
	if (run->nr) {
		steal_victims(mm, run);
		for (u32 i = 0; i < run->used; i++)
			write_frame(mm, run, (frame_t){ run->first.val + i });
	}
}

static void reclaim_begin(struct mm *mm, struct reclaim_run *run)
{
	run->nr = run->used = 0;
	run->scanned = run->stale = run->freed = run->failed = 0;
	run->first = frame_run_get(mm);
}

static void reclaim_oldest(struct mm *mm, struct reclaim_run *run)
{
	reclaim_begin(mm, run);
	isolate_cold(mm, run);
	if (!run->nr)
		isolate_oldest(mm, run);
	reclaim_victims(mm, run);
	frame_run_put(mm, run->first, run->used);
}

u64 reclaim_range(struct mm *mm, vpn_t start, u32 nr)
{
	struct reclaim_run run;
	u64 freed = 0;

	for (u32 at = 0; at < nr; at += FRAME_RUN) {
		reclaim_begin(mm, &run);
		isolate_range(mm, &run, (vpn_t){ start.val + at }, (u32)min_u64(nr - at, FRAME_RUN));
		reclaim_victims(mm, &run);
		frame_run_put(mm, run.first, run.used);
		freed += run.freed;
	}
	return freed;
}

/* ---- for a fault ---- */

static void kswapd_wake(struct mm *mm)
{
	if (!mm->kswapd.started || !atomic32_read(&mm->kswapd.asleep))
		return;
	if (atomic32_xchg_acquire(&mm->kswapd.asleep, 0)) {
		atomic32_add_return(&mm->kswapd.wake, 1);
		sync_wake32_one(&mm->kswapd.wake);
	}
}

/* Did this run, or any other since `*progress`, make room? */
static bool made_progress(struct mm *mm, const struct reclaim_run *run, u32 *progress)
{
	u32 now;

	if (run->freed)
		atomic32_add_return(&mm->reclaim_progress, 1);
	now = atomic32_load_acquire(&mm->reclaim_progress);
	if (now == *progress && !run->stale)
		return false;
	*progress = now;
	return true;
}

/*
 * Out of memory is when nobody could free anything: RECLAIM_RETRIES_MAX runs in a row met full swap, or all of the
 * queue was looked at twice and none of it could leave. What other reclaimers have in work may still make room, so a
 * run without success waits a moment for one of them to finish.
 */
static int reclaim_for_charge(struct mm *mm, u32 nr)
{
	u32 tries = 0, progress = atomic32_load_acquire(&mm->reclaim_progress);
	struct reclaim_run run;
	u64 scanned = 0;

	while (!budget_try_charge(mm, nr)) {
		mm_stats_add(mm->stats, STAT_RECLAIM_DIRECT, 1);
		reclaim_oldest(mm, &run);
		scanned += run.scanned;
		if (made_progress(mm, &run, &progress)) {
			tries = 0;
			scanned = 0;
		} else if (run.failed || !run.scanned || scanned > 2 * lru_length(&mm->lru)) {
			u32 seen = atomic32_load_acquire(&mm->frames.waiters);

			if (++tries == RECLAIM_RETRIES_MAX)
				return -ENOMEM;
			sync_wait32_timeout(&mm->frames.waiters, seen, RETRY_PAUSE_NS);
		}
	}
	return 0;
}

int mm_charge(struct mm *mm, u32 nr)
{
	int ret = 0;

	if (!budget_try_charge(mm, nr))
		ret = reclaim_for_charge(mm, nr);
	if (budget_free(mm) < mm->budget.low)
		kswapd_wake(mm);
	return ret;
}

/* ---- in the background ---- */

/* Sleeps until free pages fall below the low watermark, then works up to the high one. */
static void kswapd_main(void *arg)
{
	struct mm *mm = arg;
	struct kswapd *k = &mm->kswapd;
	struct reclaim_run run;
	u32 progress = 0;

	while (!atomic32_load_acquire(&k->stop)) {
		u32 seen = atomic32_load_acquire(&k->wake);
		bool stuck = false;

		if (budget_free(mm) < mm->budget.high) {
			reclaim_oldest(mm, &run);
			mm_stats_add(mm->stats, STAT_RECLAIM_BACKGROUND, 1);
			if (made_progress(mm, &run, &progress))
				continue;
			stuck = true;
		}
		atomic32_set(&k->asleep, 1);
		atomic_full_barrier(); /* asleep is seen by whoever charges after this look at the budget */
		if (stuck || budget_free(mm) >= mm->budget.low)
			sync_wait32_timeout(&k->wake, seen, KSWAPD_IDLE_NS);
		atomic32_set(&k->asleep, 0);
	}
}

int kswapd_start(struct mm *mm)
{
	int ret;

	must(!mm->kswapd.started);
	atomic32_set(&mm->kswapd.stop, 0);
	ret = sync_thread_start(&mm->kswapd.thread, kswapd_main, mm);
	mm->kswapd.started = ret == 0;
	return ret;
}

void kswapd_stop(struct mm *mm)
{
	if (!mm->kswapd.started)
		return;
	atomic32_store_release(&mm->kswapd.stop, 1);
	atomic32_add_return(&mm->kswapd.wake, 1);
	sync_wake32_all(&mm->kswapd.wake);
	sync_thread_join(&mm->kswapd.thread);
	mm->kswapd.started = false;
}
