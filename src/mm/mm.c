// SPDX-License-Identifier: MIT
#include "mm/mm.h"

#include <errno.h>

#include "mm/area.h"
#include "mm/budget.h"
#include "mm/demote.h"
#include "mm/fault.h"
#include "mm/frames.h"
#include "mm/lru.h"
#include "mm/move.h"
#include "mm/pte.h"
#include "mm/readahead.h"
#include "mm/reclaim.h"
#include "mm/swap_slots.h"

enum {
	ZAP_RUN = VM_RUN_MAX,
	GAP_MIN = 2, /* protected pages together: below that, a call costs more than their faults */
	STEAL_MIN = 8, /* neighbours: below that, one call for each costs more than a copy */
	HELD_SHIFT = 1, /* at most half of what is not locked may be held */
	LOCKED_SHIFT = 1, /* at most half of the limit may be locked */
	DEFAULT_SWAP_SHIFT = 5,
};

/* ---- life ---- */

static u64 limit_or_none(u64 pages)
{
	return pages ? pages : UINT32_MAX;
}

static u64 smaller_limit(const struct mm_config *cfg)
{
	return min_u64(limit_or_none(cfg->memory_pages), limit_or_none(cfg->resident_pages));
}

/*
 * Runs of frames: one per reclaimer that can usefully work, but never more than 1/8 of the limit; of a shared one, in
 * which many processes must have their reserve, 1/128 for good (frames.h).
 */
static u32 choose_nr_runs(const struct mm_config *cfg, bool shared)
{
	u64 runs = min_u64(cfg->nr_cpus + 2, FRAME_RUNS_MAX);

	return (u32)max_u64(min_u64(runs, smaller_limit(cfg) / (shared ? 128 : 8) / FRAME_RUN), 2);
}

/*
 * Buffers: for the reclaimers, and for faults that read ahead, one of each at least; otherwise never more than 1/16 of
 * the limit, of a shared one 1/256 for good.
 */
static u32 choose_nr_buffers(const struct mm_config *cfg, bool shared)
{
	u64 buffers = min_u64(cfg->nr_cpus + cfg->nr_cpus / 2 + 2, FRAME_BUFFERS_MAX);

	return (u32)max_u64(min_u64(buffers, smaller_limit(cfg) / (shared ? 256 : 16) / FRAME_RUN), 2);
}

static u32 nr_plain_frames(u32 nr_buffers)
{
	return nr_buffers * FRAME_RUN + READ_FRAMES;
}

u32 mm_share_min(const struct mm_config *cfg)
{
	return budget_share_min(limit_or_none(cfg->memory_pages), limit_or_none(cfg->resident_pages),
				choose_nr_runs(cfg, true) * FRAME_RUN, nr_plain_frames(choose_nr_buffers(cfg, true)));
}

static size_t pte_tables_bytes(u32 nr_pages)
{
	return DIV_ROUND_UP(nr_pages, PTES_PER_PAGE) * sizeof(struct atomic64);
}

static int tables_alloc(struct mm *mm, u32 nr_pages, const struct frame_numbers *numbers, u64 limit_pages)
{
	mm->ptes = vm_table_alloc((size_t)nr_pages * sizeof(struct atomic64));
	mm->pte_tables = vm_table_alloc(pte_tables_bytes(nr_pages));
	if (!mm->ptes || !mm->pte_tables)
		return -ENOMEM;
	if (area_init(&mm->areas) || frames_init(&mm->frames, numbers))
		return -ENOMEM;
	return lru_init(mm, nr_pages, limit_pages);
}

static void tables_free(struct mm *mm)
{
	u32 nr_pages = mm->vm.nr_pages;

	vm_table_free(mm->ptes, (size_t)nr_pages * sizeof(struct atomic64));
	vm_table_free(mm->pte_tables, pte_tables_bytes(nr_pages));
	area_destroy(&mm->areas);
	lru_destroy(&mm->lru);
	frames_destroy(&mm->frames);
}

/* With the first thread as many as there are processors, less one for the program. */
static u32 kswapd_helpers_max(u32 nr_cpus)
{
	return nr_cpus > 2 ? (u32)min_u64(nr_cpus - 2, KSWAPD_HELPERS_MAX) : 0;
}

int mm_create(struct mm *mm, const struct mm_config *cfg)
{
	u64 limit = smaller_limit(cfg);
	bool shared = cfg->more != NULL;
	bool no_spare = shared && cfg->nr_cpus <= 2; /* those that are there for good are enough */
	const struct frame_numbers numbers = {
		.nr_runs = choose_nr_runs(cfg, shared),
		.nr_runs_max = choose_nr_runs(cfg, no_spare),
		.nr_buffers = choose_nr_buffers(cfg, shared),
		.nr_buffers_max = choose_nr_buffers(cfg, no_spare),
	};
	struct vm_config vm = {
		.window_hint = cfg->window_hint,
		.nr_pages = cfg->nr_pages,
		.nr_steal_frames = numbers.nr_runs_max * FRAME_RUN,
		.nr_plain_frames = nr_plain_frames(numbers.nr_buffers_max),
		.method = cfg->method,
		.faults = cfg->faults,
		.moves_unreported = &cfg->stats->moves_unreported,
	};
	bool in_place = cfg->faults == VM_FAULTS_SIGNAL;
	int ret;

	if (!(cfg->memory_pages || cfg->resident_pages) || limit < MM_LIMIT_PAGES_MIN)
		return -EINVAL;
	if (!cfg->lab && !(swapin_policies[cfg->policy].safe && swapin_relaxes[cfg->relax].safe))
		return -EINVAL;
	*mm = (struct mm){ .stats = cfg->stats,
			   .policy = cfg->policy,
			   .relax = cfg->relax,
			   .keep_clean = true,
			   .readahead = !cfg->no_readahead,
			   .keep_hot = cfg->lab,
			   .reads_behind = cfg->nr_cpus > 1,
			   .kswapd.nr_helpers_max = kswapd_helpers_max(cfg->nr_cpus),
			   .writeback_percent = cfg->writeback_percent,
			   .writeback_idle_ns = cfg->writeback_idle_ns,
			   .in_place = in_place,
			   .gap_min = GAP_MIN,
			   .steal_min = !in_place || cfg->method == VM_METHOD_MOVE ? 1 : STEAL_MIN,
			   .on_adopt = cfg->on_adopt };
	ret = vm_open(&mm->vm, &vm);
	if (ret)
		return ret;
	ret = tables_alloc(mm, cfg->nr_pages, &numbers, limit);
	if (ret) {
		tables_free(mm);
		vm_close(&mm->vm);
		return ret;
	}
	budget_init(mm, limit_or_none(cfg->memory_pages), limit_or_none(cfg->resident_pages),
		    numbers.nr_runs * FRAME_RUN, frames_nr_charged(mm));
	if (shared)
		budget_share(mm, cfg->granted, cfg->more);
	return 0;
}

void mm_destroy(struct mm *mm)
{
	kwriteback_stop(mm);
	kswapd_stop(mm);
	swap_destroy(mm);
	vm_close(&mm->vm);
	tables_free(mm);
}

bool mm_is_adopted(const struct mm *mm)
{
	return atomic32_load_acquire(&mm->adopted) != 0;
}

/* ---- dropping pages ---- */

/* Locks PTEs from `at` on while they have contents, at most ZAP_RUN; returns how many. */
static u32 zap_lock(struct mm *mm, u32 at, u32 end, u64 *ptes)
{
	u32 nr = 0;

	while (nr < ZAP_RUN && at + nr < end) {
		vpn_t vpn = { at + nr };
		u64 pte = pte_read(mm, vpn);

		if (pte_is_none(pte) && !(pte & PTE_LOCKED))
			break;
		ptes[nr++] = pte_lock(mm, vpn);
	}
	return nr;
}

static void zap_locked(struct mm *mm, u32 at, u32 nr, const u64 *ptes)
{
	u32 present = 0;

	for (u32 i = 0; i < nr; i++)
		present += pte_is_present(ptes[i]);
	/* A poisoned page is absent to us. Stale is harmless: of these pages each was poisoned under its lock. */
	if (present || atomic32_read(&mm->vm.poisoned))
		vm_zap(&mm->vm, (vpn_t){ at }, nr);
	for (u32 i = 0; i < nr; i++) {
		if (pte_has_entry(ptes[i]))
			swap_free(mm, pte_to_swp_entry(ptes[i]));
		pte_unlock(mm, (vpn_t){ at + i }, 0);
	}
	if (present)
		budget_uncharge(mm, present);
}

/*
 * Gives back frames and slots of a range. A fault that got its page in before this looks at its PTE is seen here; one
 * that comes later has seen the area go (fault.c, do_anonymous_page), or wanted the page to live on.
 */
static void zap_range(struct mm *mm, vpn_t start, u32 nr)
{
	u32 end = start.val + nr;
	u64 ptes[ZAP_RUN];

	for (u32 at = start.val; at < end;) {
		u32 got;

		if (at % PTES_PER_PAGE == 0 && !mm_table_is_touched(mm, at)) {
			at += PTES_PER_PAGE;
			continue;
		}
		got = zap_lock(mm, at, end, ptes);
		if (got)
			zap_locked(mm, at, got, ptes);
		at += got ? got : 1;
	}
}

void mm_drop_locked(struct mm *mm, vpn_t start, u32 nr)
{
	if (mm_is_adopted(mm))
		zap_range(mm, start, nr);
	else
		vm_zap(&mm->vm, start, nr);
}

void mm_drop(struct mm *mm, vpn_t start, u32 nr)
{
	if (mm_is_adopted(mm)) {
		zap_range(mm, start, nr);
		return;
	}
	mutex_lock(&mm->areas.lock);
	mm_drop_locked(mm, start, nr);
	mutex_unlock(&mm->areas.lock);
}

/* ---- mappings ---- */

/* Would [start, start + nr) with these rights bring what is handed out over the limit? Then manage, first. */
static int adopt_for(struct mm *mm, vpn_t start, u32 nr, unsigned int prot);

/* What was mapped there by others goes away, and the pages are managed again. */
static int restore_foreign(struct mm *mm, vpn_t start, u32 nr)
{
	u32 end = start.val + nr;
	int ret = 0;

	for (u32 i = 0; !ret && i < atomic32_read(&mm->areas.nr); i++) {
		const struct area *a = &mm->areas.areas[i];
		u32 from = (u32)max_u64(a->start, start.val), to = (u32)min_u64(a->end, end);

		if ((a->prot & VM_FOREIGN) && from < to)
			ret = vm_restore(&mm->vm, (vpn_t){ from }, to - from);
	}
	return ret;
}

int mm_clear_locked(struct mm *mm, vpn_t start, u32 nr)
{
	int ret;

	if (area_is_free(&mm->areas, start, nr))
		return 0;
	ret = restore_foreign(mm, start, nr);
	if (!ret && area_locked(&mm->areas, start, nr))
		ret = vm_lock_range(&mm->vm, start, nr, false);
	if (!ret)
		ret = area_clear_range(&mm->areas, start, nr);
	if (!ret)
		mm_drop_locked(mm, start, nr);
	return ret;
}

/* The kernel's side of a mapping, then ours. Context: areas.lock held, nothing is mapped there. */
static int set_locked(struct mm *mm, vpn_t start, u32 nr, unsigned int prot)
{
	int ret = vm_protect_range(&mm->vm, start, nr, prot & VM_ACCESS);

	if (ret)
		return ret;
	ret = area_set_range(&mm->areas, start, nr, prot);
	/* Without an area nobody would ever take the rights away again. */
	if (ret)
		must(!vm_protect_range(&mm->vm, start, nr, VM_NONE));
	return ret;
}

int mm_map_fixed(struct mm *mm, vpn_t start, u32 nr, unsigned int prot)
{
	struct area_set *set = &mm->areas;
	int ret;

	must(nr > 0 && start.val + nr <= mm->vm.nr_pages);
	mutex_lock(&set->lock);
	ret = adopt_for(mm, start, nr, prot);
	if (!ret)
		ret = mm_clear_locked(mm, start, nr);
	if (!ret)
		ret = set_locked(mm, start, nr, prot);
	mutex_unlock(&set->lock);
	return ret;
}

int mm_map(struct mm *mm, u32 nr, u32 align, unsigned int prot, vpn_t *start)
{
	struct area_set *set = &mm->areas;
	int ret = -ENOMEM;

	must(nr > 0 && align > 0);
	mutex_lock(&set->lock);
	if (area_find_gap(set, mm->vm.nr_pages, nr, align, start))
		ret = adopt_for(mm, *start, nr, prot);
	if (!ret)
		ret = set_locked(mm, *start, nr, prot);
	mutex_unlock(&set->lock);
	return ret;
}

int mm_unmap(struct mm *mm, vpn_t start, u32 nr)
{
	struct area_set *set = &mm->areas;
	int ret;

	must(nr > 0 && start.val + nr <= mm->vm.nr_pages);
	mutex_lock(&set->lock);
	ret = mm_clear_locked(mm, start, nr);
	if (!ret)
		ret = vm_protect_range(&mm->vm, start, nr, VM_NONE);
	mutex_unlock(&set->lock);
	return ret;
}

int mm_map_foreign(struct mm *mm, vpn_t start, u32 nr, unsigned int prot)
{
	struct area_set *set = &mm->areas;
	int ret;

	must(nr > 0 && start.val + nr <= mm->vm.nr_pages);
	mutex_lock(&set->lock);
	ret = mm_clear_locked(mm, start, nr);
	if (!ret)
		ret = area_set_range(set, start, nr, VM_FOREIGN | prot);
	mutex_unlock(&set->lock);
	return ret;
}

bool mm_is_foreign(struct mm *mm, vpn_t vpn)
{
	unsigned int prot;

	return mm_prot_of(mm, vpn, &prot) && (prot & VM_FOREIGN);
}

int mm_protect(struct mm *mm, vpn_t start, u32 nr, unsigned int prot)
{
	struct area_set *set = &mm->areas;
	int ret;

	must(nr > 0 && start.val + nr <= mm->vm.nr_pages);
	mutex_lock(&set->lock);
	ret = area_is_mapped(set, start, nr) ? adopt_for(mm, start, nr, prot) : -ENOMEM;
	if (!ret)
		ret = vm_protect_range(&mm->vm, start, nr, prot);
	if (!ret)
		ret = area_change_range(set, start, nr, VM_ACCESS, prot);
	mutex_unlock(&set->lock);
	return ret;
}

int mm_mark(struct mm *mm, vpn_t start, u32 nr, unsigned int clear, unsigned int add)
{
	int ret;

	must(nr > 0 && !((clear | add) & VM_FOREIGN));
	mutex_lock(&mm->areas.lock);
	ret = area_change_range(&mm->areas, start, nr, clear, add);
	mutex_unlock(&mm->areas.lock);
	return ret;
}

int mm_lock(struct mm *mm, vpn_t start, u32 nr)
{
	struct area_set *set = &mm->areas;
	int ret = -EAGAIN;
	u64 locked;

	must(nr > 0 && start.val + nr <= mm->vm.nr_pages);
	mutex_lock(&set->lock);
	locked = atomic64_read(&set->nr_locked) + nr - area_locked(set, start, nr);
	if (locked <= budget_limit(mm) >> LOCKED_SHIFT)
		ret = vm_lock_range(&mm->vm, start, nr, true);
	if (!ret)
		ret = area_change_range(set, start, nr, VM_NONE, VM_LOCKED);
	mutex_unlock(&set->lock);
	return ret;
}

int mm_unlock(struct mm *mm, vpn_t start, u32 nr)
{
	int ret;

	must(nr > 0 && start.val + nr <= mm->vm.nr_pages);
	mutex_lock(&mm->areas.lock);
	ret = vm_lock_range(&mm->vm, start, nr, false);
	if (!ret)
		ret = area_change_range(&mm->areas, start, nr, VM_LOCKED, VM_NONE);
	mutex_unlock(&mm->areas.lock);
	return ret;
}

/* ---- mremap ---- */

/* One area over the range: its rights and marks in *prot. */
static bool is_one_area(struct mm *mm, vpn_t start, u32 nr, unsigned int *prot)
{
	struct area a;
	u32 seq;

	if (!area_find(&mm->areas, start, &a, &seq) || a.end < start.val + nr)
		return false;
	*prot = a.prot;
	return !(a.prot & VM_FOREIGN);
}

static int shift_pages(struct mm *mm, vpn_t from, vpn_t to, u32 nr)
{
	return mm_is_adopted(mm) ? move_pages(mm, from, to, nr) : vm_remap(&mm->vm, from, to, nr);
}

/*
 * Between two ranges that are accessible meanwhile, the new one with its own rights afterwards. After a failure all is
 * where it was, unless the kernel refuses that, too.
 */
static int move_contents(struct mm *mm, vpn_t from, vpn_t to, u32 nr, unsigned int prot)
{
	bool shifted = false;
	int ret = 0;

	/* The kernel moves nothing between a locked and an unlocked mapping. */
	if (prot & VM_LOCKED)
		ret = vm_lock_range(&mm->vm, from, nr, false);
	if (!ret)
		ret = vm_protect_range(&mm->vm, from, nr, VM_READ | VM_WRITE);
	if (!ret)
		ret = vm_protect_range(&mm->vm, to, nr, VM_READ | VM_WRITE);
	if (!ret) {
		ret = shift_pages(mm, from, to, nr);
		shifted = !ret || mm_is_adopted(mm); /* vm_remap takes back what it has done */
	}
	if (!ret)
		ret = vm_protect_range(&mm->vm, to, nr, prot & VM_ACCESS);
	if (ret) {
		if (shifted)
			(void)!shift_pages(mm, to, from, nr);
		(void)!vm_protect_range(&mm->vm, from, nr, prot & VM_ACCESS);
		if (prot & VM_LOCKED)
			(void)!vm_lock_range(&mm->vm, from, nr, true);
	}
	return ret;
}

/* The old range, when its contents have gone: it stays, unlocked, or it goes. */
static int move_finish(struct mm *mm, vpn_t from, u32 nr, unsigned int prot, bool keep_from)
{
	int ret;

	if (keep_from) {
		ret = vm_protect_range(&mm->vm, from, nr, prot & VM_ACCESS);
		return ret ? ret : area_change_range(&mm->areas, from, nr, VM_LOCKED, VM_NONE);
	}
	ret = mm_clear_locked(mm, from, nr);
	return ret ? ret : vm_protect_range(&mm->vm, from, nr, VM_NONE);
}

int mm_move(struct mm *mm, vpn_t from, u32 nr, vpn_t to, u32 new_nr, bool keep_from)
{
	struct area_set *set = &mm->areas;
	u32 moved = (u32)min_u64(nr, new_nr);
	unsigned int prot;
	int ret = -EFAULT;

	must(nr > 0 && new_nr > 0 && from.val + nr <= mm->vm.nr_pages && to.val + new_nr <= mm->vm.nr_pages);
	must(to.val >= from.val + nr || from.val >= to.val + new_nr);
	mutex_lock(&set->lock);
	if (is_one_area(mm, from, nr, &prot))
		ret = new_nr > nr ? adopt_for(mm, (vpn_t){ to.val + nr }, new_nr - nr, prot) : 0;
	if (!ret)
		ret = mm_clear_locked(mm, to, new_nr);
	if (!ret)
		ret = area_set_range(set, to, new_nr, prot);
	if (!ret && new_nr > nr)
		ret = vm_protect_range(&mm->vm, (vpn_t){ to.val + nr }, new_nr - nr, prot & VM_ACCESS);
	if (!ret)
		ret = move_contents(mm, from, to, moved, prot);
	/* Too late to give up: where the kernel does not lock the new place, it is not locked. */
	if (!ret && (prot & VM_LOCKED) && vm_lock_range(&mm->vm, to, new_nr, true))
		ret = area_change_range(set, to, new_nr, VM_LOCKED, VM_NONE);
	if (!ret)
		ret = move_finish(mm, from, nr, prot, keep_from);
	mutex_unlock(&set->lock);
	return ret;
}

bool mm_is_mapped(struct mm *mm, vpn_t start, u32 nr)
{
	bool mapped;

	mutex_lock(&mm->areas.lock);
	mapped = area_is_mapped(&mm->areas, start, nr);
	mutex_unlock(&mm->areas.lock);
	return mapped;
}

bool mm_is_free(struct mm *mm, vpn_t start, u32 nr)
{
	struct area area;

	return !mm_next_area(mm, start, nr, &area);
}

bool mm_next_area(struct mm *mm, vpn_t start, u32 nr, struct area *area)
{
	u32 seq;

	if (!nr || !area_next(&mm->areas, start, area, &seq) || area->start >= start.val + nr)
		return false;
	area->start = (u32)max_u64(area->start, start.val);
	area->end = (u32)min_u64(area->end, start.val + nr);
	return true;
}

bool mm_prot_of(struct mm *mm, vpn_t vpn, unsigned int *prot)
{
	struct area area;
	u32 seq;

	if (!area_find(&mm->areas, vpn, &area, &seq))
		return false;
	*prot = area.prot;
	return true;
}

bool mm_may_access(struct mm *mm, vpn_t vpn, bool write)
{
	unsigned int prot;

	return mm_prot_of(mm, vpn, &prot) && (prot & (write ? VM_WRITE : VM_READ));
}

u64 mm_pageout(struct mm *mm, vpn_t start, u32 nr)
{
	return mm_is_adopted(mm) ? reclaim_range(mm, start, nr) : 0;
}

int mm_will_need(struct mm *mm, vpn_t start, u32 nr)
{
	bool clean = page_keeps(mm, start, 0, false) == KEEP_CLEAN;
	u32 flags = (clean ? RA_KEEP : 0) | (mm->keep_clean ? RA_READS : 0);
	int ret = 0;

	for (u32 i = 0; i < nr && mm->readahead; i += VM_RUN_MAX)
		(void)readahead_range(mm, (vpn_t){ start.val + i }, (u32)min_u64(nr - i, VM_RUN_MAX), flags);
	for (u32 i = 0; i < nr && !ret; i++) {
		vpn_t vpn = { start.val + i };

		if (pte_is_swap(pte_read(mm, vpn)))
			ret = fault_errno(handle_mm_fault(mm, vpn, false));
	}
	return ret;
}

void mm_cold(struct mm *mm, vpn_t start, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		vpn_t vpn = { start.val + i };
		u64 pte;

		if (!pte_is_present(pte_read(mm, vpn)) || !pte_trylock(mm, vpn, &pte))
			continue;
		pte_unlock(mm, vpn, pte_is_present(pte) ? pte | PTE_COLD : pte);
		lru_add_hint(mm, LRU_COLD, vpn, 1);
	}
}

u64 mm_default_swap_bytes(const struct mm *mm)
{
	u64 limit = min_u64(mm->budget.memory_max, mm->budget.resident_max);

	return min_u64(pages_to_bytes(mm->vm.nr_pages), pages_to_bytes(limit) << DEFAULT_SWAP_SHIFT);
}

/* ---- adoption ---- */

/* A page that the kernel has and we did not know of. A fault may have been here first: then it is known. */
static void adopt_page(struct mm *mm, vpn_t vpn)
{
	u64 pte = pte_lock(mm, vpn);

	if (pte_is_none(pte)) {
		budget_charge_reclaim(mm, 1);
		pte = pte_with_stamp(PTE_PRESENT, lru_now(mm));
	}
	pte_unlock(mm, vpn, pte);
	lru_add(mm, vpn);
}

static int adopt_area(struct mm *mm, const struct area *area)
{
	u8 present[VM_RESIDENT_MAX];

	for (u32 at = area->start; at < area->end; at += VM_RESIDENT_MAX) {
		u32 nr = (u32)min_u64(area->end - at, VM_RESIDENT_MAX);
		int ret = vm_resident(&mm->vm, (vpn_t){ at }, nr, present);

		if (ret)
			return ret;
		for (u32 i = 0; i < nr; i++) {
			if (present[i])
				adopt_page(mm, (vpn_t){ at + i });
		}
	}
	return 0;
}

int mm_manage_window(struct mm *mm)
{
	u32 at = 0, nr_areas = atomic32_read(&mm->areas.nr);
	int ret = 0;

	for (u32 i = 0; !ret && i < nr_areas; i++) {
		const struct area *a = &mm->areas.areas[i];

		if (!(a->prot & VM_FOREIGN))
			continue;
		if (a->start > at)
			ret = vm_manage(&mm->vm, (vpn_t){ at }, a->start - at);
		at = a->end;
	}
	if (!ret && at < mm->vm.nr_pages)
		ret = vm_manage(&mm->vm, (vpn_t){ at }, mm->vm.nr_pages - at);
	return ret;
}

/*
 * Context: areas.lock held, so no page of an area is dropped meanwhile. Faults may come in from the moment of
 * registration: they find either NONE and no page in the kernel, or what adopt_page has entered.
 */
static int adopt_locked(struct mm *mm)
{
	int ret = 0;

	if (mm_is_adopted(mm))
		return 0;
	if (!mm->vm.registered) {
		ret = vm_register(&mm->vm);
		if (!ret)
			budget_charge_reclaim(mm, frames_nr_charged(mm));
	}
	if (!ret && mm->on_adopt)
		ret = mm->on_adopt(mm);
	if (!ret)
		ret = mm_manage_window(mm);
	for (u32 i = 0; !ret && i < atomic32_read(&mm->areas.nr); i++) {
		if (!(mm->areas.areas[i].prot & VM_FOREIGN))
			ret = adopt_area(mm, &mm->areas.areas[i]);
	}
	if (!ret)
		ret = kswapd_start(mm);
	if (!ret)
		ret = kwriteback_start(mm);
	if (ret)
		return ret;
	frames_grow(mm);
	atomic32_store_release(&mm->adopted, 1);
	atomic64_set(&mm->stats->adopted, 1);
	return 0;
}

int mm_adopt(struct mm *mm)
{
	int ret;

	mutex_lock(&mm->areas.lock);
	ret = adopt_locked(mm);
	mutex_unlock(&mm->areas.lock);
	return ret;
}

/* Is the limit that large, or can it be made so without taking from other processes? */
static bool cover(struct mm *mm, u64 pages)
{
	u64 limit;

	while ((limit = budget_limit(mm)) < pages) {
		if (!budget_more(mm, (u32)(pages - limit), BUDGET_SPARE))
			return false;
	}
	return true;
}

static int adopt_for(struct mm *mm, vpn_t start, u32 nr, unsigned int prot)
{
	u64 accessible = mm->areas.nr_accessible - area_accessible(&mm->areas, start, nr);

	if (area_counts(prot))
		accessible += nr;
	if (mm_is_adopted(mm) || cover(mm, accessible + mm->budget.reserve + mm->budget.overhead))
		return 0;
	return adopt_locked(mm);
}

/* ---- a shared limit ---- */

/* Context: areas.lock held. */
static u64 spare_pages(struct mm *mm)
{
	u64 limit = budget_limit(mm), needed = mm->areas.nr_accessible + mm->budget.reserve + mm->budget.overhead;
	u64 free = budget_free(mm), high = budget_high(mm);

	if (!mm_is_adopted(mm))
		return limit > needed ? limit - needed : 0;
	return free > high ? free - high : 0;
}

u32 mm_give_spare(struct mm *mm, u32 nr)
{
	u32 given;

	frames_trim(mm);
	mutex_lock(&mm->areas.lock);
	given = budget_lower(mm, (u32)min_u64(nr, spare_pages(mm)));
	mutex_unlock(&mm->areas.lock);
	return given;
}

u32 mm_give(struct mm *mm, u32 nr)
{
	must(mm_is_adopted(mm));
	frames_trim(mm);
	return reclaim_and_lower(mm, nr);
}

/* ---- holds ---- */

u64 mm_hold_most(const struct mm *mm)
{
	u64 locked = atomic64_read(&mm->areas.nr_locked), limit = budget_limit(mm);

	return (limit - min_u64(locked, limit)) >> HELD_SHIFT;
}

u64 mm_hold_room(const struct mm *mm)
{
	u64 held = atomic64_read(&mm->nr_held), most = mm_hold_most(mm);

	return held < most ? most - held : 0;
}

static bool may_hold(struct mm *mm, u64 held)
{
	do {
		if (held < mm_hold_most(mm))
			return true;
	} while (budget_more(mm, FRAME_RUN, BUDGET_SOON));
	return false;
}

int mm_hold_page(struct mm *mm, vpn_t vpn, bool write)
{
	unsigned int prot;

	if (!mm_prot_of(mm, vpn, &prot) || !(prot & (write ? VM_WRITE : VM_READ)))
		return -EFAULT;
	/*
	 * The caller has touched it, so before adoption the kernel has it, and adoption finds it there with its hold.
	 * Adopted since the look at the flag: the PTE says present or swapped, and is believed.
	 */
	if (!pte_hold(mm, vpn, write, !mm_is_adopted(mm) || (prot & VM_FOREIGN)))
		return -EAGAIN;
	if (may_hold(mm, atomic64_fetch_add(&mm->nr_held, 1)))
		return 0;
	mm_release_page(mm, vpn);
	return -ENOMEM;
}

void mm_release_page(struct mm *mm, vpn_t vpn)
{
	pte_unhold(mm, vpn);
	atomic64_fetch_sub(&mm->nr_held, 1);
}

/* ---- swap devices ---- */

int mm_swapon(struct mm *mm, struct swap_device *dev)
{
	int ret;

	mutex_lock(&mm->swap_lock);
	ret = swap_add(mm, dev);
	/* Without its thread the device works, until the store is full. */
	if (!ret && mm_is_adopted(mm))
		(void)!kwriteback_start(mm);
	mutex_unlock(&mm->swap_lock);
	return ret;
}

/* ---- invariants ---- */

void mm_assert_valid(struct mm *mm)
{
	u64 present = 0, used = budget_used(mm), named = 0, queued = 0;
	u64 frames = mm_is_adopted(mm) ? frames_nr_charged(mm) : 0;

	for (u32 at = 0; at < mm->vm.nr_pages; at++) {
		u64 pte, table = atomic64_read(&mm->pte_tables[at / PTES_PER_PAGE]);

		if (at % PTES_PER_PAGE == 0 && !(table & TABLE_TOUCHED)) {
			at += PTES_PER_PAGE - 1;
			continue;
		}
		queued += at % PTES_PER_PAGE == 0 && (table & TABLE_QUEUED);
		pte = pte_read(mm, (vpn_t){ at });
		must(pte_is_valid(pte) && !(pte & (PTE_LOCKED | PTE_WAITERS | PTE_WRITEBACK)));
		must(!pte_is_present(pte) || (table & TABLE_QUEUED));
		present += pte_is_present(pte);
		if (pte_has_entry(pte)) {
			u64 word = slot_read(swap_slot(mm, pte_to_swp_entry(pte)));

			must(slot_word_is_valid(word) && slot_count(word) == 1 && !(word & SLOT_HAS_CACHE));
			named++;
		}
	}
	must(queued == lru_length(mm));
	must(named == swap_used(mm));
	must(present + frames == budget_resident(used));
	must(atomic64_read(&mm->frames.free_reads) == ~(u64)0 >> (64 - READ_FRAMES));
	must(frame_set_is_idle(&mm->frames.runs) && frame_set_is_idle(&mm->frames.buffers));
}
