// SPDX-License-Identifier: MIT
#include "preload/stress.h"

#include "fault/gate.h"
#include "mm/area.h"
#include "mm/pte.h"

enum {
	RUN_MAX = 64, /* of pages thrown out together, in one case of four; single ones otherwise */
	PICKS_MAX = 64,
	IDLE_NS = 1000000, /* when there was nothing to throw out */
};

/* Written before the thread starts. In a forked child its copy is used again: the parent's stack stays, unused. */
static struct mm *stress_mm;
static int stress_rate = STRESS_OFF;
static struct sync_thread thread;

static u64 next_random(u64 *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* A page of what is handed out, each with the same chance. */
static bool pick_accessible(struct mm *mm, u64 *seed, vpn_t *vpn)
{
	u64 nth;
	bool found = false;

	mutex_lock(&mm->areas.lock);
	nth = mm->areas.nr_accessible ? next_random(seed) % mm->areas.nr_accessible : 0;
	for (u32 i = 0; !found && i < atomic32_read(&mm->areas.nr); i++) {
		const struct area *a = &mm->areas.areas[i];

		if (!area_counts(a->prot))
			continue;
		found = nth < a->end - a->start;
		if (found)
			vpn->val = a->start + (u32)nth;
		else
			nth -= a->end - a->start;
	}
	mutex_unlock(&mm->areas.lock);
	return found;
}

/* The first present page from there on, as far as one page of the table goes: most of what is handed out is absent. */
static bool pick_present(struct mm *mm, u64 *seed, vpn_t *vpn)
{
	u32 end;

	if (!pick_accessible(mm, seed, vpn) || !mm_table_is_touched(mm, vpn->val))
		return false;
	end = (u32)ALIGN_UP(vpn->val + 1, PTES_PER_PAGE);
	while (vpn->val < end && !pte_is_present(pte_read(mm, *vpn)))
		vpn->val++;
	return vpn->val < end;
}

/* Returns how many pages left. */
static u64 throw_out(struct mm *mm, u64 *seed)
{
	u32 shard = gate_enter(&core_gate), nr = 1;
	u64 left = 0;
	vpn_t vpn;

	for (int i = 0; i < PICKS_MAX && !left; i++) {
		if (!pick_present(mm, seed, &vpn))
			continue;
		if (next_random(seed) % 4 == 0)
			nr += (u32)(next_random(seed) % RUN_MAX);
		left = mm_pageout(mm, vpn, (u32)min_u64(nr, mm->vm.nr_pages - vpn.val));
	}
	gate_leave(&core_gate, shard);
	return left;
}

static void stress_main(void *arg)
{
	struct atomic32 never = { 0 };
	struct mm *mm = arg;
	u64 seed = (u64)sync_thread_id() * 0x9e3779b97f4a7c15ull;

	for (;;) {
		u64 left = mm_is_adopted(mm) ? throw_out(mm, &seed) : 0;

		if (!left)
			sync_wait32_timeout(&never, 0, IDLE_NS);
		else if (stress_rate)
			sync_wait32_timeout(&never, 0, left * 1000000000 / (u64)stress_rate);
	}
}

void stress_init(struct mm *mm, int rate)
{
	stress_mm = mm;
	stress_rate = rate;
}

int stress_start(void)
{
	return stress_rate == STRESS_OFF ? 0 : sync_thread_start(&thread, stress_main, stress_mm);
}
