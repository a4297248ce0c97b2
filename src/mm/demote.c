// SPDX-License-Identifier: MIT
#include "mm/demote.h"

#include "base/mutation.h"
#include "mm/budget.h"
#include "mm/kthread.h"
#include "mm/swap_slots.h"

enum {
	DEMOTE_RUN = FRAME_RUN, /* slots that are pinned at once */
	PERCENT_DEFAULT = 75,
	HYSTERESIS_SHIFT = 5, /* from the watermark down */
	THROTTLE_PERCENT = 95,
	LOOK_NS = 100000000, /* without being woken */
	REST_NS = 20000000, /* after nothing could be moved */
};

_Static_assert((int)DEMOTE_RUN <= (int)SWAP_BATCH_MAX, "a run is one call");

/* ---- one run ---- */

/* Pins what of the candidates is in use and not in other hands; returns how many. */
static u32 pin_candidates(struct mm *mm, struct swap_info *si, u32 *slots, u32 nr)
{
	u32 pinned = 0;

	for (u32 i = 0; i < nr; i++) {
		if (mutate(MUTATE_DEMOTE_UNPINNED) || !swapcache_prepare(mm, swp_entry(si->type, slots[i])))
			slots[pinned++] = slots[i];
	}
	return pinned;
}

static u32 demote_from(struct mm *mm, struct swap_info *si, u64 idle_ns)
{
	const struct swap_device_ops *ops = si->dev->ops;
	u32 slots[DEMOTE_RUN], nr = ops->coldest(si->dev, idle_ns, slots, DEMOTE_RUN), moved;

	nr = pin_candidates(mm, si, slots, nr);
	moved = nr ? ops->demote(si->dev, slots, nr, budget_store_is_above(mm, THROTTLE_PERCENT, 0)) : 0;
	for (u32 i = 0; i < nr; i++) {
		if (!mutate(MUTATE_DEMOTE_UNPINNED))
			swapcache_clear(mm, swp_entry(si->type, slots[i]));
	}
	return moved;
}

static bool demotes(const struct swap_info *si)
{
	return (si->dev_flags & SWAP_DEMOTES) && atomic32_load_acquire(&si->state) == SWAP_ON;
}

u32 demote_run(struct mm *mm, u64 idle_ns)
{
	u32 moved = 0;

	/* Held by swapoff, which needs nothing demoted, and by fork, which waits for us. */
	if (!mutex_trylock(&mm->swap_lock))
		return 0;
	for (u32 type = 0; type < atomic32_load_acquire(&mm->nr_swap); type++) {
		if (demotes(&mm->swap[type]))
			moved += demote_from(mm, &mm->swap[type], idle_ns);
	}
	mutex_unlock(&mm->swap_lock);
	if (moved) {
		atomic32_add_return(&mm->demoted, 1);
		sync_wake32_all(&mm->demoted);
	}
	return moved;
}

/* ---- when ---- */

static u32 watermark(const struct mm *mm)
{
	return mm->writeback_percent ? mm->writeback_percent : PERCENT_DEFAULT;
}

/* Pages are charged above the watermark; some of them may be hollow. */
static bool is_due(const struct mm *mm)
{
	return budget_store_is_above(mm, watermark(mm), 0);
}

static bool has_grown(const struct mm *mm)
{
	return is_due(mm) && budget_stored(budget_used(mm)) > atomic64_read(&mm->writeback_settled);
}

void demote_wake(struct mm *mm)
{
	struct kthread *k = &mm->kwriteback;

	/* asleep first: this is asked after each store, and the budget's words are everybody's. */
	if (atomic32_read(&k->asleep) && has_grown(mm))
		kthread_wake(k);
}

bool demote_wait(struct mm *mm)
{
	u32 seen;

	if (!mm->kwriteback.started)
		return false;
	seen = atomic32_load_acquire(&mm->demoted);
	if (!is_due(mm))
		return false;
	atomic32_add_return(&mm->demote_waiters, 1);
	atomic_full_barrier(); /* either it sees that we wait, or we that it sleeps */
	kthread_wake(&mm->kwriteback);
	sync_wait32_timeout(&mm->demoted, seen, LOOK_NS);
	atomic32_add_return(&mm->demote_waiters, (u32)-1);
	return atomic32_load_acquire(&mm->demoted) != seen;
}

void demote_throttle(struct mm *mm)
{
	if (mm->kwriteback.started && budget_store_is_above(mm, THROTTLE_PERCENT, 0))
		(void)!demote_wait(mm);
}

/*
 * Pages of the stores that hold nothing. Cold objects leave holes, and what is stored next goes there: to count them
 * as full would send down more than is in the way.
 */
static u64 hollow_pages(struct mm *mm)
{
	u64 pages = 0;

	/* They are not to be had in time. */
	if (atomic32_read(&mm->demote_waiters) || budget_store_is_above(mm, THROTTLE_PERCENT, 0))
		return 0;
	/* As in demote_run(). */
	if (!mutex_trylock(&mm->swap_lock))
		return 0;
	for (u32 type = 0; type < atomic32_load_acquire(&mm->nr_swap); type++) {
		if (demotes(&mm->swap[type]))
			pages += mm->swap[type].dev->ops->hollow(mm->swap[type].dev);
	}
	mutex_unlock(&mm->swap_lock);
	return pages;
}

/* ---- in the background ---- */

/*
 * Works from the watermark down to a little below it, and otherwise sends down what is idle, or does not compress.
 * After a run that could move nothing it rests: the device below may be failing.
 */
static void kwriteback_main(void *arg)
{
	struct mm *mm = arg;
	struct kthread *k = &mm->kwriteback;
	u32 seen, low = watermark(mm) - (watermark(mm) >> HYSTERESIS_SHIFT);
	bool working = false;

	while (!kthread_should_stop(k, &k->wake, &seen)) {
		u64 stored = budget_stored(budget_used(mm)), hollow = hollow_pages(mm);
		bool stuck;

		working = budget_store_is_above(mm, working ? low : watermark(mm), hollow);
		if (demote_run(mm, working ? 0 : mm->writeback_idle_ns ? mm->writeback_idle_ns : UINT64_MAX))
			continue;
		stuck = working;
		working = false;
		atomic64_set(&mm->writeback_settled, stored);
		atomic32_set(&k->asleep, !stuck);
		atomic_full_barrier(); /* both are seen by whoever stores after this look at the budget */
		if (stuck || !(has_grown(mm) || atomic32_read(&mm->demote_waiters)))
			sync_wait32_timeout(&k->wake, seen, stuck ? REST_NS : LOOK_NS);
		atomic32_set(&k->asleep, 0);
	}
}

int kwriteback_start(struct mm *mm)
{
	bool wanted = false;

	for (u32 type = 0; type < atomic32_read(&mm->nr_swap); type++)
		wanted |= demotes(&mm->swap[type]);
	if (!wanted || mm->kwriteback.started)
		return 0;
	return kthread_start(&mm->kwriteback, kwriteback_main, mm);
}

void kwriteback_stop(struct mm *mm)
{
	kthread_stop(&mm->kwriteback);
}
