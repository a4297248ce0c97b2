// SPDX-License-Identifier: MIT
#include "mm/reclaim.h"

#include <errno.h>

#include "base/mutation.h"
#include "mm/area.h"
#include "mm/budget.h"
#include "mm/compact.h"
#include "mm/demote.h"
#include "mm/fault.h"
#include "mm/frames.h"
#include "mm/kthread.h"
#include "mm/lru.h"
#include "mm/pte.h"
#include "mm/readahead.h"
#include "mm/swap_slots.h"
#include "mm/writeback.h"

enum {
	TABLES_PER_RUN = 64, /* page tables that one run looks at, at most */
	STREAMED_TABLES = 8, /* of those with streamed pages */
	LONG_RUN = FRAME_RUN / 4, /* shorter ones are filled up, as what interrupts other processors costs the same */
	LOWER_RUNS_MAX = 64, /* many of them may find only pages that are too young as yet */
	RECLAIM_RETRIES_MAX = 16, /* runs in a row that could free nothing, before it is called out of memory */
	PUT_BACK_TRIES_MAX = 10000,
	KSWAPD_IDLE_NS = 100000000,
	HELP_RUNS = 8, /* in a row, and the high watermark is not reached: that is more than one thread can do */
	RETRY_PAUSE_NS = 1000000, /* the first; each is twice as long, up to 2^RETRY_DOUBLINGS times: a second in all */
	RETRY_DOUBLINGS = 7,
};

struct reclaim_run {
	struct victim victims[FRAME_RUN];
	u32 nr;
	frame_t first; /* the run of steal frames, `used` of which hold pages */
	u32 used;
	frame_t buffer; /* of plain frames */
	/* What came of it. */
	u32 scanned; /* page tables of which every page might leave */
	u32 freed, failed;
	u32 refused; /* pages that vm_steal did not take, and that have no other way */
	u32 oldest; /* the greatest age in the page table that was looked at last */
	bool younger; /* nothing was old enough, so that younger pages may leave now: a kind of progress */
};

/* ---- choosing pages ---- */

/*
 * Held, or mlocked. mlock marks the area and then holds and releases each page; the PTE is locked here, so either the
 * mark is seen, or mlock comes to this page after it has left, and brings it in again.
 */
static bool must_stay(struct mm *mm, vpn_t vpn, u64 pte)
{
	struct area area;
	u32 seq;

	if (pte_is_held(pte))
		return !mutate(MUTATE_EVICT_HELD);
	return atomic64_read(&mm->areas.nr_locked) && area_find(&mm->areas, vpn, &area, &seq) &&
	       (area.prot & VM_LOCKED);
}

/* Locks a page if it may leave. */
static bool victim_lock(struct mm *mm, vpn_t vpn, struct victim *v)
{
	if (!pte_trylock(mm, vpn, &v->pte))
		return false;
	v->vpn = vpn;
	if (pte_is_present(v->pte) && !must_stay(mm, vpn, v->pte) &&
	    (!pte_is_under_writeback(v->pte) || mutate(MUTATE_DROP_UNWRITTEN)))
		return true;
	pte_unlock(mm, vpn, v->pte);
	return false;
}

/* Sorted by address, so that neighbours leave in one call; each page table's pages are in order already. */
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

/*
 * What of a page table is at least so old, and has all of `flags`. Returns how many of its pages that have these are
 * present, or may be in a moment; not all, if the run is full.
 */
static u32 isolate_table(struct mm *mm, struct reclaim_run *run, u32 table, u32 age, u64 flags)
{
	u32 first = table * PTES_PER_PAGE, end = (u32)min_u64(first + PTES_PER_PAGE, mm->vm.nr_pages), seen = 0;
	u32 now = lru_now(mm);

	run->oldest = 0;
	for (u32 at = first; at < end && run->nr < FRAME_RUN; at++) {
		u64 pte = pte_read(mm, (vpn_t){ at });

		if (!pte_may_be_present(pte) || (pte & flags) != flags)
			continue;
		seen++;
		run->oldest = (u32)max_u64(run->oldest, lru_age(now, pte));
		if (lru_age(now, pte) >= age && victim_lock(mm, (vpn_t){ at }, &run->victims[run->nr]))
			run->nr++;
	}
	return seen;
}

/* What was advised cold goes first. */
static void isolate_cold(struct mm *mm, struct reclaim_run *run)
{
	u32 table;

	while (run->nr < FRAME_RUN && lru_take_hinted(mm, LRU_COLD, &table)) {
		(void)isolate_table(mm, run, table, 0, PTE_COLD);
		if (run->nr == FRAME_RUN)
			lru_give_hinted(mm, LRU_COLD, table);
	}
}

/* What came in ahead of streams, and has been there for long enough. */
static void isolate_streamed(struct mm *mm, struct reclaim_run *run)
{
	u32 left = STREAMED_TABLES, table;

	for (; left > 0 && run->nr < FRAME_RUN && lru_take_hinted(mm, LRU_STREAMED, &table); left--) {
		u32 before = run->nr, seen = isolate_table(mm, run, table, lru_depth(mm), PTE_STREAMED);

		if (seen > run->nr - before || run->nr == FRAME_RUN)
			lru_give_hinted(mm, LRU_STREAMED, table);
	}
}

/* Each page table at most once. */
static void isolate_oldest(struct mm *mm, struct reclaim_run *run)
{
	u64 left = min_u64(lru_length(mm), TABLES_PER_RUN);
	bool younger = false;
	u32 table;

	for (; left > 0 && run->nr < FRAME_RUN && lru_take(mm, &table); left--) {
		u32 age = atomic32_read(&mm->lru.evict_age), before = run->nr;
		u32 seen = isolate_table(mm, run, table, age, 0);

		lru_adapt(mm, age, seen, run->nr - before, run->oldest);
		lru_give(mm, table, seen, run->nr == FRAME_RUN);
		if (age > 0)
			younger = true;
		else
			run->scanned++;
	}
	run->younger = younger && !run->nr;
}

static void isolate_range(struct mm *mm, struct reclaim_run *run, vpn_t start, u32 nr)
{
	must(nr <= FRAME_RUN);
	for (u32 i = 0; i < nr; i++) {
		vpn_t vpn = { start.val + i };

		if (pte_is_present(pte_read(mm, vpn)) && victim_lock(mm, vpn, &run->victims[run->nr]))
			run->nr++;
	}
}

/* ---- clean pages ---- */

/* Drops the clean victims; the dirty ones remain. */
static void reclaim_clean(struct mm *mm, struct reclaim_run *run)
{
	struct victim clean[FRAME_RUN];
	u32 nr_clean = 0, dirty = 0;

	for (u32 i = 0; i < run->nr; i++) {
		u64 pte = run->victims[i].pte;

		if (pte_is_clean(pte) || (mutate(MUTATE_DROP_STALE) && pte_is_stale(pte))) {
			clean[nr_clean++] = run->victims[i];
			lru_clean_left(mm, pte);
		} else {
			run->victims[dirty++] = run->victims[i];
		}
	}
	if (nr_clean) {
		drop_clean_victims(mm, clean, nr_clean);
		mm_stats_add(mm->stats, STAT_PAGES_OUT_CLEAN, nr_clean);
	}
	run->freed += nr_clean;
	run->nr = dirty;
}

/* ---- dirty pages: into frames ---- */

/* A stale copy is about to be written over, from here on as if its slot were new. False: the victim needs one. */
static bool reuse_slot(struct mm *mm, struct victim *v)
{
	bool reused;

	if (!pte_is_stale(v->pte))
		return false;
	v->entry = pte_to_swp_entry(v->pte);
	v->pte = pte_without_stale(v->pte);
	reused = swap_reuse(mm, v->entry);
	if (!reused)
		swap_free(mm, v->entry);
	return reused;
}

/* Gives every victim a slot; those that get none stay, as the youngest, and swap is full. */
static void assign_slots(struct mm *mm, struct reclaim_run *run)
{
	swp_entry_t entries[FRAME_RUN];
	bool needs[FRAME_RUN];
	u32 nr = 0, got, used = 0, left = 0;

	for (u32 i = 0; i < run->nr; i++) {
		needs[i] = !reuse_slot(mm, &run->victims[i]);
		nr += needs[i];
	}
	got = nr ? swap_alloc(mm, entries, nr) : 0;
	for (u32 i = 0; i < run->nr; i++) {
		struct victim *v = &run->victims[i];

		if (needs[i] && used == got) {
			pte_unlock(mm, v->vpn, pte_with_stamp(v->pte, lru_now(mm)));
			continue;
		}
		if (needs[i])
			v->entry = entries[used++];
		run->victims[left++] = *v;
	}
	run->failed += run->nr - left;
	run->nr = left;
}

/* The page is in its frame: now the slot names the frame, then the PTE names the slot. */
static void publish_stolen(struct mm *mm, struct reclaim_run *run, struct victim *v)
{
	frame_t frame = { run->first.val + run->used++ };

	*frame_desc(mm, frame) = (struct frame_desc){ .vpn = v->vpn, .entry = v->entry, .warm = v->pte & PTE_WARM };
	slot_publish(swap_slot(mm, v->entry), frame.val, true);
	pte_unlock(mm, v->vpn, lru_departure(lru_now_out(mm), v->pte) | pte_make_swap(v->entry));
}

/* Gives back a slot that nothing was stored in. */
static void unassign_slot(struct mm *mm, const struct victim *v)
{
	swap_free(mm, v->entry);
	swapcache_clear(mm, v->entry);
}

/* The kernel has no such page: the program dropped it behind our back, so it reads as zero. */
static void forget_lost(struct mm *mm, struct victim *v)
{
	unassign_slot(mm, v);
	pte_unlock(mm, v->vpn, 0);
	budget_uncharge(mm, 1);
	mm_stats_add(mm->stats, STAT_PAGES_VANISHED, 1);
}

/* The lock comes before PTE locks, and nobody waits for it here: who has it may wait for one of ours. */
static long steal_unwritable(struct mm *mm, vpn_t vpn, frame_t frame)
{
	struct area area;
	long ret = -EBUSY;
	u32 seq;

	if (!mutex_trylock(&mm->areas.lock))
		return -EBUSY;
	if (area_find(&mm->areas, vpn, &area, &seq) && (area.prot & (VM_READ | VM_WRITE | VM_FOREIGN)) == VM_READ)
		ret = vm_steal_unwritable(&mm->vm, vpn, frame, area.prot);
	mutex_unlock(&mm->areas.lock);
	return ret;
}

/* Moves neighbours out as far as it goes; returns how many victims are dealt with. */
static u32 steal_neighbours(struct mm *mm, struct reclaim_run *run, struct victim *v, u32 nr)
{
	frame_t frame = { run->first.val + run->used };
	long moved = vm_steal(&mm->vm, v[0].vpn, frame, nr);

	if (moved < 0 && moved != -ENOENT && !mm->in_place)
		moved = steal_unwritable(mm, v[0].vpn, frame);
	for (long i = 0; i < moved; i++)
		publish_stolen(mm, run, &v[i]);
	if (moved == -ENOENT)
		forget_lost(mm, v);
	return moved > 0 ? (u32)moved : moved == -ENOENT;
}

/* A device may be writing to the page, or to what it shares it with: it stays, as the youngest. */
static void keep_victim(struct mm *mm, struct reclaim_run *run, struct victim *v)
{
	unassign_slot(mm, v);
	pte_unlock(mm, v->vpn, pte_with_stamp(v->pte, lru_now(mm)));
	run->refused++;
}

/* Long runs of neighbours leave by vm_steal; what it refuses, and all others, remain if they may leave in place. */
static void steal_victims(struct mm *mm, struct reclaim_run *run)
{
	u32 left = 0;

	for (u32 i = 0, nr; i < run->nr; i += nr) {
		struct victim *v = &run->victims[i];
		u32 done = 0;

		nr = 1;
		while (i + nr < run->nr && v[nr - 1].vpn.val + 1 == v[nr].vpn.val)
			nr++;
		while (nr - done >= mm->steal_min && done < nr) {
			u32 got = steal_neighbours(mm, run, v + done, nr - done);

			if (!got && mm->in_place)
				break;
			if (!got) {
				keep_victim(mm, run, &v[done]);
				got = 1;
			}
			done += got;
		}
		for (; done < nr; done++)
			run->victims[left++] = v[done];
	}
	run->nr = left;
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
		done = install_page(mm, desc->vpn, pte, vm_frame_data(&mm->vm, frame), KEEP_NONE) == FAULT_DONE;
		if (done)
			break;
		/* The kernel itself has no page for us: the data is safe in the frame, so wait. */
		budget_refund(mm, 1);
		must(tries < PUT_BACK_TRIES_MAX);
		sync_wait32_timeout(&never, 0, RETRY_PAUSE_NS);
	}
	slot_cache_remove(slot, done, &detached);
	must(!detached); /* under writeback: slot_writeback_end detaches it */
}

/* Frames on their way to the device, under writeback. */
struct frame_batch {
	frame_t frames[FRAME_RUN];
	swp_entry_t entries[FRAME_RUN];
	struct swap_io io[FRAME_RUN];
	u32 nr;
};

/* False: the page was taken back or dropped. */
static bool begin_writeback(struct mm *mm, frame_t frame)
{
	swp_entry_t entry = frame_desc(mm, frame)->entry;
	int ret;

	while ((ret = slot_writeback_begin(swap_slot(mm, entry), frame.val)) == -EAGAIN)
		swap_wait(mm, entry);
	return ret != -ENOENT;
}

static void end_writeback(struct mm *mm, swp_entry_t entry)
{
	enum slot_left left;

	while (slot_writeback_end(swap_slot(mm, entry), &left))
		swap_wait(mm, entry);
	swap_finish(mm, entry, left);
}

static void write_batch(struct mm *mm, struct reclaim_run *run, struct frame_batch *batch)
{
	swap_write_pages(mm, batch->entries, batch->io, batch->nr);
	for (u32 i = 0; i < batch->nr; i++) {
		if (batch->io[i].err) {
			if (!mutate(MUTATE_NO_PUT_BACK))
				put_back(mm, batch->frames[i]);
			run->failed++;
		} else {
			run->freed++;
		}
		end_writeback(mm, batch->entries[i]);
	}
	batch->nr = 0;
}

/* Writes the frames to their slots and ends their time in the swap cache. */
static void write_frames(struct mm *mm, struct reclaim_run *run)
{
	struct frame_batch batch;

	batch.nr = 0;
	for (u32 i = 0; i < run->used; i++) {
		frame_t frame = { run->first.val + i };
		swp_entry_t entry = frame_desc(mm, frame)->entry;

		if (!begin_writeback(mm, frame))
			continue;
		if (slot_count(slot_read(swap_slot(mm, entry))) == 0) {
			run->freed++;
			end_writeback(mm, entry);
			continue;
		}
		batch.frames[batch.nr] = frame;
		batch.entries[batch.nr] = entry;
		batch.io[batch.nr++] = (struct swap_io){ .page = vm_frame_data(&mm->vm, frame),
							 .warm = frame_desc(mm, frame)->warm };
		if (batch.nr == swap_batch_max(mm, entry))
			write_batch(mm, run, &batch);
	}
	if (batch.nr)
		write_batch(mm, run, &batch);
}

/* ---- one run ---- */

static bool steals(const struct mm *mm)
{
	return mm->vm.method == VM_METHOD_MOVE || !mm->in_place;
}

/* Takes isolated victims all the way out. */
static void reclaim_victims(struct mm *mm, struct reclaim_run *run)
{
	reclaim_clean(mm, run);
	assign_slots(mm, run);
	if (run->nr && steals(mm))
		steal_victims(mm, run);
	must(!run->nr || mm->in_place);
	if (run->nr)
		run->freed += writeback_victims(mm, run->victims, run->nr, run->buffer, &run->failed);
	write_frames(mm, run);
	demote_wake(mm);
}

void reclaim_pause(struct mm *mm, u64 ns)
{
	atomic64_set(&mm->reclaim_paused, sync_clock_ns() + ns);
}

static void wait_for_pause(struct mm *mm)
{
	u64 until = atomic64_read(&mm->reclaim_paused), now;
	struct atomic32 never = { 0 };

	if (likely(!until))
		return;
	now = sync_clock_ns();
	if (now < until)
		sync_wait32_timeout(&never, 0, until - now);
}

/* Frames and buffer first, in this order: nothing else is held while these are waited for. */
static void reclaim_begin(struct mm *mm, struct reclaim_run *run)
{
	run->nr = run->used = 0;
	run->scanned = run->freed = run->failed = run->refused = 0;
	run->younger = false;
	wait_for_pause(mm);
	demote_throttle(mm);
	if (steals(mm))
		run->first = frame_run_get(mm);
	run->buffer = frame_buffer_get(mm);
}

static void reclaim_end(struct mm *mm, struct reclaim_run *run)
{
	frame_buffer_put(mm, run->buffer);
	if (steals(mm))
		frame_run_put(mm, run->first, run->used);
}

static void reclaim_oldest(struct mm *mm, struct reclaim_run *run)
{
	reclaim_begin(mm, run);
	isolate_cold(mm, run);
	if (!run->nr)
		isolate_streamed(mm, run);
	if (run->nr < LONG_RUN)
		isolate_oldest(mm, run);
	sort_victims(run);
	reclaim_victims(mm, run);
	reclaim_end(mm, run);
}

u64 reclaim_range(struct mm *mm, vpn_t start, u32 nr)
{
	struct reclaim_run run;
	u64 freed = 0;

	for (u32 at = 0; at < nr; at += FRAME_RUN) {
		reclaim_begin(mm, &run);
		isolate_range(mm, &run, (vpn_t){ start.val + at }, (u32)min_u64(nr - at, FRAME_RUN));
		reclaim_victims(mm, &run);
		reclaim_end(mm, &run);
		freed += run.freed;
	}
	return freed;
}

/* ---- for a fault ---- */

void kswapd_wake(struct mm *mm)
{
	kthread_wake(&mm->kswapd.kthread);
}

/* Did this run, or any other since `*progress`, make room? */
static bool made_progress(struct mm *mm, const struct reclaim_run *run, u32 *progress)
{
	u32 now;

	if (run->freed)
		atomic32_add_return(&mm->reclaim_progress, 1);
	now = atomic32_load_acquire(&mm->reclaim_progress);
	if (now == *progress && !run->younger)
		return false;
	*progress = now;
	return true;
}

struct effort {
	u32 tries; /* runs in a row without success */
	u32 progress; /* mm->reclaim_progress at the last success */
	u64 scanned, refused; /* since then */
};

static struct effort effort_begin(struct mm *mm)
{
	return (struct effort){ .progress = atomic32_load_acquire(&mm->reclaim_progress) };
}

/* After a run without success: has all been tried twice? Refused pages may be many, and others behind them. */
static bool is_hopeless(struct mm *mm, const struct reclaim_run *run, const struct effort *effort)
{
	if (run->refused)
		return effort->refused > 2 * budget_resident(budget_used(mm));
	return run->failed || !run->scanned || effort->scanned > 2 * lru_length(mm);
}

/*
 * One run. False when nobody could free anything: RECLAIM_RETRIES_MAX runs in a row met full swap, or all of the
 * queue was looked at twice, whatever its age, and none of it could leave. What other reclaimers have in work may
 * still make room, so a run without success waits for one of them to finish: longer each time, as on a busy machine
 * whoever has the frames may not be running.
 */
static bool reclaim_once(struct mm *mm, struct effort *effort)
{
	struct reclaim_run run;

	reclaim_oldest(mm, &run);
	effort->scanned += run.scanned;
	effort->refused += run.refused;
	if (made_progress(mm, &run, &effort->progress)) {
		effort->tries = 0;
		effort->scanned = effort->refused = 0;
	} else if (is_hopeless(mm, &run, effort)) {
		u32 seen = atomic32_load_acquire(&mm->frames.waiters);

		/* The store is full, and will not be in a moment. */
		if (demote_wait(mm)) {
			effort->tries = 0;
			return true;
		}
		if (++effort->tries == RECLAIM_RETRIES_MAX)
			return false;
		sync_wait32_timeout(&mm->frames.waiters, seen,
				    RETRY_PAUSE_NS << min_u64(effort->tries - 1, RETRY_DOUBLINGS));
	}
	return true;
}

static int reclaim_for_charge(struct mm *mm, u32 nr)
{
	struct effort effort = effort_begin(mm);

	while (!budget_try_charge(mm, nr)) {
		if (budget_more(mm, nr, BUDGET_SOON))
			continue;
		mm_stats_add(mm->stats, STAT_RECLAIM_DIRECT, 1);
		if (reclaim_once(mm, &effort))
			continue;
		if (!swap_recall(mm) && !budget_more(mm, nr, BUDGET_LAST))
			return -ENOMEM;
		effort = effort_begin(mm);
	}
	return 0;
}

u32 reclaim_and_lower(struct mm *mm, u32 nr)
{
	struct effort effort = effort_begin(mm);
	u32 given = 0;

	/* Bounded, as others may use what becomes free before it can be taken away. */
	for (u32 runs = 0; given < nr && runs < LOWER_RUNS_MAX + 2 * nr / FRAME_RUN;) {
		u32 free = (u32)min_u64(budget_free(mm), nr - given), lowered = budget_lower(mm, free);

		given += lowered;
		if (lowered)
			continue;
		if (!budget_may_lower(mm))
			break;
		runs++;
		mm_stats_add(mm->stats, STAT_RECLAIM_BACKGROUND, 1);
		if (!reclaim_once(mm, &effort))
			break;
	}
	return given;
}

int mm_charge(struct mm *mm, u32 nr)
{
	int ret = 0;

	if (!budget_try_charge(mm, nr))
		ret = reclaim_for_charge(mm, nr);
	if (budget_free(mm) < budget_low(mm))
		kswapd_wake(mm);
	return ret;
}

/* ---- in the background ---- */

/* Works with the first thread until there is room, then sleeps until that has fallen behind again. */
static void kswapd_helper_main(void *arg)
{
	struct mm *mm = arg;
	struct kswapd *k = &mm->kswapd;
	struct reclaim_run run;
	u32 progress = 0, seen;

	while (!kthread_should_stop(&k->kthread, &k->helper_wake, &seen)) {
		if (budget_free(mm) < budget_high(mm)) {
			reclaim_oldest(mm, &run);
			mm_stats_add(mm->stats, STAT_RECLAIM_BACKGROUND, 1);
			if (made_progress(mm, &run, &progress))
				continue;
		}
		atomic32_add_return(&k->helpers_asleep, 1);
		sync_wait32(&k->helper_wake, seen);
		atomic32_add_return(&k->helpers_asleep, (u32)-1);
	}
}

void kswapd_get_help(struct mm *mm)
{
	struct kswapd *k = &mm->kswapd;

	if (atomic32_read(&k->helpers_asleep)) {
		atomic32_add_return(&k->helper_wake, 1);
		sync_wake32_all(&k->helper_wake);
	} else if (k->nr_helpers < k->nr_helpers_max) {
		if (sync_thread_start(&k->helpers[k->nr_helpers], kswapd_helper_main, mm)) {
			k->nr_helpers_max = k->nr_helpers;
			return;
		}
		k->nr_helpers++;
		k->helpers_started++;
	}
}

/*
 * Sleeps until free pages fall below the low watermark, then works up to the high one; and reads ahead for streams that
 * have reached the longest window, so that two threads work for them.
 */
static void kswapd_main(void *arg)
{
	struct mm *mm = arg;
	struct kswapd *k = &mm->kswapd;
	struct reclaim_run run;
	u32 progress = 0, runs = 0, seen;

	while (!kthread_should_stop(&k->kthread, &k->kthread.wake, &seen)) {
		bool stuck = false, compacted;

		readahead_behind(mm);
		compacted = compact_run(mm) > 0;
		if (budget_free(mm) < budget_high(mm)) {
			if (budget_more(mm, budget_high(mm), BUDGET_NOW)) {
				frames_grow(mm);
				continue;
			}
			reclaim_oldest(mm, &run);
			mm_stats_add(mm->stats, STAT_RECLAIM_BACKGROUND, 1);
			if (made_progress(mm, &run, &progress)) {
				if (++runs % HELP_RUNS == 0 && k->nr_helpers_max)
					kswapd_get_help(mm);
				continue;
			}
			stuck = true;
		}
		if (compacted)
			continue;
		runs = 0;
		atomic32_set(&k->kthread.asleep, 1);
		atomic_full_barrier(); /* asleep is seen by whoever charges after this look at the budget */
		if (!atomic64_read(&k->ahead) && (stuck || budget_free(mm) >= budget_low(mm)))
			sync_wait32_timeout(&k->kthread.wake, seen, KSWAPD_IDLE_NS);
		atomic32_set(&k->kthread.asleep, 0);
	}
}

int kswapd_start(struct mm *mm)
{
	return kthread_start(&mm->kswapd.kthread, kswapd_main, mm);
}

void kswapd_stop(struct mm *mm)
{
	struct kswapd *k = &mm->kswapd;

	if (!k->kthread.started)
		return;
	kthread_stop(&k->kthread);
	/* Now nobody starts any more of these. */
	atomic32_add_return(&k->helper_wake, 1);
	sync_wake32_all(&k->helper_wake);
	while (k->nr_helpers)
		sync_thread_join(&k->helpers[--k->nr_helpers]);
}
