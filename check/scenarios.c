// SPDX-License-Identifier: MIT
#include "scenarios.h"

#include <errno.h>
#include <string.h>

#include "mm/budget.h"
#include "mm/compact.h"
#include "mm/demote.h"
#include "mm/fault.h"
#include "mm/fork.h"
#include "mm/frames.h"
#include "mm/lru.h"
#include "mm/pte.h"
#include "mm/reclaim.h"
#include "mm/swap_slots.h"
#include "mm/swapoff.h"
#include "mm/writeback.h"
#include "sim_device.h"

/* A page that is read gives its slot up: swap is always more than half full. */
#define ONE_SLOT { .nr_slots = 1, .nr_devices = 1, .discard = true }
/* A page that is read keeps its slot. */
#define FOUR_SLOTS { .nr_slots = 4, .nr_devices = 1, .discard = true }
/* Pages are not moved to frames. */
#define IN_PLACE { .nr_slots = 1, .nr_devices = 1, .discard = true, .method = VM_METHOD_COPY }
#define IN_PLACE_FOUR_SLOTS { .nr_slots = 4, .nr_devices = 1, .discard = true, .method = VM_METHOD_COPY }

/* Slots go down to a lower device. */
#define DEMOTED { .nr_slots = 1, .nr_devices = 1, .discard = true, .demotes = true }

/* A page that is written to keeps its slot for its next copy. */
#define STALE { .nr_slots = 2, .nr_devices = 1, .discard = true, .patches = true }

#define FORK_SLOTS                                                                                                     \
	{                                                                                                              \
		.nr_slots = 4, .nr_devices = 1, .discard = true, .gated = true                                         \
	}

/* ---- what threads do ---- */

static void load(u32 vpn)
{
	u64 value;

	(void)prog_load(vpn, 0, &value);
}

static void store(u32 vpn, u64 value)
{
	(void)prog_store(vpn, 0, value);
}

static void pageout(u32 vpn)
{
	u32 shard = world_enter();

	(void)mm_pageout(&world->mm, (vpn_t){ vpn }, 1);
	world_leave(shard);
}

static void load_0(void *arg)
{
	(void)arg;
	load(0);
}

static void pageout_0_to_2(void *arg)
{
	(void)arg;
	(void)mm_pageout(&world->mm, (vpn_t){ 0 }, 3);
}

/* What reclaim does when pages 0 and 3 are old enough and those between are not. */
static void evict_around(void *arg)
{
	struct mm *mm = &world->mm;
	struct victim v[2];
	frame_t buffer = frame_buffer_get(mm);
	u32 nr = 0, failed = 0;

	(void)arg;
	for (u32 at = 0; at <= 3; at += 3) {
		vpn_t vpn = { at };

		if (!pte_trylock(mm, vpn, &v[nr].pte))
			continue;
		v[nr].vpn = vpn;
		if (pte_is_present(v[nr].pte) && !pte_is_clean(v[nr].pte) && swap_alloc(mm, &v[nr].entry, 1))
			nr++;
		else
			pte_unlock(mm, vpn, v[nr].pte);
	}
	if (nr)
		(void)writeback_victims(mm, v, nr, buffer, &failed);
	frame_buffer_put(mm, buffer);
	(void)mm_pageout(mm, (vpn_t){ 1 }, 1);
}

static void load_1(void *arg)
{
	(void)arg;
	load(1);
}

static void store_0(void *arg)
{
	(void)arg;
	store(0, B);
}

static void store_0_d(void *arg)
{
	(void)arg;
	store(0, D);
}

static void store_1(void *arg)
{
	(void)arg;
	store(1, C);
}

static void store_2(void *arg)
{
	(void)arg;
	store(2, D);
}

static void store_and_load_0(void *arg)
{
	(void)arg;
	store(0, B);
	load(0);
}

static void store_and_pageout_0(void *arg)
{
	(void)arg;
	store(0, B);
	pageout(0);
}

static void load_and_pageout_0(void *arg)
{
	(void)arg;
	load(0);
	pageout(0);
}

static void pageout_0(void *arg)
{
	(void)arg;
	pageout(0);
}

static void pageout_1(void *arg)
{
	(void)arg;
	pageout(1);
}

static void pageout_2(void *arg)
{
	(void)arg;
	pageout(2);
}

static void pageout_3(void *arg)
{
	(void)arg;
	pageout(3);
}

static void will_need_0(void *arg)
{
	int ret = mm_will_need(&world->mm, (vpn_t){ 0 }, 1);

	(void)arg;
	if (ret && !(world->may_fail & 1))
		sched_found(FOUND_ERROR, "WILLNEED failed: error %d", ret);
}

static void drop_0(void *arg)
{
	(void)arg;
	drop_begins(0, 1);
	mm_drop(&world->mm, (vpn_t){ 0 }, 1);
	drop_ends(0, 1);
}

static void unmap_0(void *arg)
{
	(void)arg;
	if (mm_unmap(&world->mm, (vpn_t){ 0 }, 1))
		sched_found(FOUND_ERROR, "munmap failed");
}

static void remap_0(void *arg)
{
	(void)arg;
	drop_begins(0, 1);
	if (mm_map_fixed(&world->mm, (vpn_t){ 0 }, 1, VM_READ | VM_WRITE))
		sched_found(FOUND_ERROR, "mmap failed");
	drop_ends(0, 1);
}

/* Changes the rights of a page that nobody uses: the areas' array is rewritten. */
static void protect_7(void *arg)
{
	(void)arg;
	if (mm_protect(&world->mm, (vpn_t){ 7 }, 1, VM_READ))
		sched_found(FOUND_ERROR, "mprotect failed");
}

static void swapoff_0(void *arg)
{
	int ret = mm_swapoff(&world->mm, "sim0");

	(void)arg;
	if (ret)
		sched_found(FOUND_ERROR, "swapoff failed, and there is room: error %d", ret);
}

/* One that another thread takes back fails, and everything is as it was. */
static void swapoff_recalled(void *arg)
{
	int ret = mm_swapoff(&world->mm, "sim0");

	(void)arg;
	if (ret && ret != -ENOMEM)
		sched_found(FOUND_ERROR, "swapoff failed: error %d", ret);
}

static void recall(void *arg)
{
	(void)arg;
	(void)!swap_recall(&world->mm);
}

/* A step, and then it is given up. */
static void swapoff_cancelled(void *arg)
{
	struct swapoff off;

	(void)arg;
	if (swapoff_begin(&world->mm, 0, &off))
		sched_found(FOUND_ERROR, "swapoff cannot begin");
	if (swapoff_step(&world->mm, &off, 1) < 0)
		sched_found(FOUND_ERROR, "swapoff failed, and there is room");
	swapoff_cancel(&world->mm, 0);
}

/* As fault/hold.c does for a system call that writes to the page. */
static void hold(vpn_t vpn)
{
	struct mm *mm = &world->mm;
	int ret;

	sched_fresh();
	while ((ret = mm_hold_page(mm, vpn, true)) == -EAGAIN) {
		if (handle_mm_fault(mm, vpn, true) != FAULT_DONE)
			sched_found(FOUND_ERROR, "a page to be held could not be faulted in");
	}
	if (ret)
		sched_found(FOUND_ERROR, "a page could not be held: error %d", ret);
	kernel_access(vpn.val, true, C);
	kernel_access(vpn.val, false, 0);
	mm_release_page(mm, vpn);
}

static void hold_0(void *arg)
{
	(void)arg;
	hold((vpn_t){ 0 });
}

static void hold_1(void *arg)
{
	(void)arg;
	hold((vpn_t){ 1 });
}

static void hold_and_read_0(void *arg)
{
	struct mm *mm = &world->mm;
	vpn_t vpn = { 0 };

	(void)arg;
	sched_fresh();
	while (mm_hold_page(mm, vpn, false) == -EAGAIN) {
		if (handle_mm_fault(mm, vpn, false) != FAULT_DONE)
			sched_found(FOUND_ERROR, "a page to be held could not be faulted in");
	}
	kernel_access(0, false, 0);
	mm_release_page(mm, vpn);
}

/* As reclaim does with a page table from the queue, without taking pages out. */
static void look_at_table(void *arg)
{
	struct mm *mm = &world->mm;
	bool seen = false;
	u32 table;

	(void)arg;
	if (!lru_take(mm, &table))
		return;
	for (u32 i = 0; i < WORLD_PAGES && !seen; i++)
		seen = pte_may_be_present(pte_read(mm, (vpn_t){ i }));
	lru_give(mm, table, seen, false);
}

static void demote(void *arg)
{
	(void)arg;
	(void)demote_run(&world->mm, 0);
}

static void compact(void *arg)
{
	(void)arg;
	(void)compact_run(&world->mm);
}

static void kswapd(void *arg)
{
	(void)arg;
	sync_thread_run(&world->mm.kswapd.kthread.thread);
}

static void kswapd_helper(void *arg)
{
	(void)arg;
	sync_thread_run(&world->mm.kswapd.helpers[0]);
}

static void stop_kswapd(void *arg)
{
	(void)arg;
	kswapd_stop(&world->mm);
}

static void load_0_then_stop(void *arg)
{
	(void)arg;
	load(0);
	kswapd_stop(&world->mm);
}

/* The write that is stuck cannot go on before this is through: the page must be had without it. */
static void store_0_then_unstick(void *arg)
{
	(void)arg;
	store(0, B);
	sim_device_unstick(&world->device[0]);
}

/* As preload/main.c does. */
static void fork_process(void *arg)
{
	(void)arg;
	gate_close(&world->gate);
	must(!mm_fork_begin(&world->mm));
	world_fork();
	mm_forked(&world->mm, 1);
	mm_fork_parent(&world->mm);
	gate_open(&world->gate);
}

static void fork_and_stop(void *arg)
{
	fork_process(arg);
	kswapd_stop(&world->mm);
}

/* The flag counts who is inside. */
static void visit_gate(void *arg)
{
	u32 shard = gate_enter(&world->gate);

	(void)arg;
	atomic32_add_return(&world->flag, 1);
	atomic32_sub_return(&world->flag, 1);
	gate_leave(&world->gate, shard);
}

static void visit_gate_twice(void *arg)
{
	visit_gate(arg);
	visit_gate(arg);
}

/* What the closer itself touches meanwhile is still served. */
static void close_gate(void *arg)
{
	(void)arg;
	gate_close(&world->gate);
	if (atomic32_read(&world->flag))
		sched_found(FOUND_INVARIANT, "somebody is inside, and the gate is closed");
	gate_leave(&world->gate, gate_enter(&world->gate));
	if (atomic32_read(&world->flag))
		sched_found(FOUND_INVARIANT, "somebody came in, and the gate is closed");
	gate_open(&world->gate);
}

/* ---- how the world stands before ---- */

static void setup_nothing(void)
{
}

static void setup_present(void)
{
	store(0, A);
}

static void setup_swapped(void)
{
	store(0, A);
	pageout(0);
}

static void setup_clean(void)
{
	setup_swapped();
	load(0);
}

static void setup_stale(void)
{
	setup_swapped();
	store(0, B);
}

static void setup_swapped_and_present(void)
{
	setup_swapped();
	store(1, B);
}

static void setup_two_present(void)
{
	store(0, A);
	store(1, B);
}

static void setup_three_present(void)
{
	setup_two_present();
	store(2, C);
}

/* Page 0 has just come in, and the next two follow it. */
static void setup_stream(void)
{
	setup_three_present();
	pageout(1);
	pageout(2);
}

/* A clean page between two dirty ones. */
static void setup_between(void)
{
	setup_three_present();
	pageout(1);
	load(1);
}

static void setup_stuck(void)
{
	setup_present();
	world->device[0].stuck = true;
}

static void setup_read_error(void)
{
	setup_swapped();
	world->device[0].fail_reads = 1;
	world->may_fail = 1u << 0;
}

/* What page 1 becomes cannot be read back: that must never be page 0's error. */
static void setup_bad_neighbour(void)
{
	setup_swapped_and_present();
	world->device[0].bad = B;
	world->may_fail = 1u << 1;
}

static void setup_write_error(void)
{
	setup_present();
	world->device[0].fail_writes = 1;
}

static void setup_stale_error(void)
{
	setup_stale();
	world->device[0].fail_writes = 1;
}

/* Two that leave, a clean page and a dirty one between them, and all is made writable again where it may. */
static void setup_around(void)
{
	setup_between();
	store(3, A);
	world->mm.gap_min = 1;
	atomic32_set(&world->mm.lru.gap_score, 1);
}

static void setup_batch_error(void)
{
	setup_three_present();
	world->device[0].fail_writes = 1;
}

static void setup_unmap(void)
{
	setup_swapped();
	world->may_be_unmapped = true;
}

static void setup_unmap_stale(void)
{
	setup_unmap();
	store(0, B);
}

static void setup_unmap_untouched(void)
{
	world->may_be_unmapped = true;
}

/* Two pages are out, two are in, and no room is left: the faults must make some. */
static void setup_tight(void)
{
	struct mm *mm = &world->mm;

	for (u32 i = 4; i-- > 0;) /* downward: nothing is populated ahead */
		store(i, A + i);
	pageout(0);
	pageout(1);
	world->ballast = (u32)budget_free(mm);
	budget_charge_reclaim(mm, world->ballast);
}

/* Watermarks that so few pages can reach: the background reclaimer has something to do, and comes to an end. */
static void setup_kswapd(void)
{
	struct mm *mm = &world->mm;

	setup_tight();
	mm->budget.low = mm->budget.high = 2;
	world->ballast--;
	budget_uncharge(mm, 1);
}

/* Page 0 is clean, 1 is out, 2 was never out. */
static void setup_fork(void)
{
	store(0, A);
	store(1, B);
	store(2, C);
	pageout(0);
	pageout(1);
	load(0);
}

static void setup_helper(void)
{
	world->mm.kswapd.nr_helpers_max = 1;
	kswapd_get_help(&world->mm);
	world->mm.kswapd.helpers[0].runs = true;
}

static void setup_fork_kswapd(void)
{
	setup_kswapd();
	world->mm.kswapd.kthread.thread.runs = true;
}

/* ---- the table ---- */

#define LOAD_0 { "load", load_0 }
#define LOAD_1 { "load", load_1 }
#define STORE_0 { "store", store_0 }
#define EVICT_0 { "evict", pageout_0 }
#define EVICT_1 { "evict", pageout_1 }

const struct scenario scenarios[] = {
	{ .name = "seed", .help = "two faulters and an evictor, one slot: a stale copy comes back",
	  .world = { .nr_slots = 1, .nr_devices = 1 }, .setup = setup_swapped,
	  .thread = { LOAD_0, STORE_0, EVICT_0 }, .all_relaxes = true },
	{ .name = "discard", .help = "the same, and a slot forgets its data when it is freed",
	  .world = ONE_SLOT, .setup = setup_swapped,
	  .thread = { LOAD_0, { "load", load_0 }, EVICT_0 } },
	{ .name = "pair", .help = "the seed's race by two threads: one of them stores and evicts",
	  .world = { .nr_slots = 1, .nr_devices = 1 }, .setup = setup_swapped,
	  .thread = { LOAD_0, { "store, evict", store_and_pageout_0 } } },
	{ .name = "pair-discard", .help = "the same with a load, and a slot forgets its data when it is freed",
	  .world = ONE_SLOT, .setup = setup_swapped,
	  .thread = { LOAD_0, { "load, evict", load_and_pageout_0 } } },
	{ .name = "cache", .help = "a faulter, WILLNEED and an evictor: the page is in the swap cache for a while",
	  .world = FOUR_SLOTS, .setup = setup_present,
	  .thread = { LOAD_0, { "willneed", will_need_0 }, EVICT_0 }, .all_relaxes = true },
	{ .name = "stuck", .help = "the page stays in the swap cache, as its write is stuck until a faulter has got it",
	  .world = ONE_SLOT, .setup = setup_stuck,
	  .thread = { { "store", store_0_then_unstick }, EVICT_0 }, .all_relaxes = true },
	{ .name = "clean", .help = "a reader and a writer on a clean page that is being reclaimed",
	  .world = FOUR_SLOTS, .setup = setup_clean,
	  .thread = { LOAD_0, STORE_0, EVICT_0 } },
	{ .name = "unmap", .help = "a fault against munmap, the page being swapped",
	  .world = ONE_SLOT, .setup = setup_unmap,
	  .thread = { STORE_0, { "munmap", unmap_0 }, EVICT_0 } },
	{ .name = "unmap-new", .help = "a first touch against munmap",
	  .world = ONE_SLOT, .setup = setup_unmap_untouched,
	  .thread = { STORE_0, { "munmap", unmap_0 }, EVICT_0 } },
	{ .name = "remap", .help = "a fault against a mapping over the page",
	  .world = ONE_SLOT, .setup = setup_unmap,
	  .thread = { { "store, load", store_and_load_0 }, { "mmap", remap_0 }, EVICT_0 } },
	{ .name = "drop", .help = "a fault against DONTNEED",
	  .world = ONE_SLOT, .setup = setup_swapped,
	  .thread = { { "store, load", store_and_load_0 }, { "drop", drop_0 }, EVICT_0 } },
	{ .name = "swapoff", .help = "a fault against swapoff, with a second device to go to",
	  .world = { .nr_slots = 1, .nr_devices = 2, .discard = true }, .setup = setup_swapped,
	  .thread = { LOAD_0, { "swapoff", swapoff_0 } } },
	{ .name = "swapoff-evict", .help = "swapoff against an evictor",
	  .world = { .nr_slots = 1, .nr_devices = 2, .discard = true }, .setup = setup_present,
	  .thread = { EVICT_0, { "swapoff", swapoff_0 } } },
	{ .name = "swapoff-cancel", .help = "a faulter, an evictor and a swapoff that is given up after a step",
	  .world = { .nr_slots = 1, .nr_devices = 2, .discard = true }, .setup = setup_swapped,
	  .thread = { STORE_0, { "swapoff", swapoff_cancelled }, EVICT_0 } },
	{ .name = "swapoff-recall", .help = "swapoff, an evictor, and somebody who would be out of memory without",
	  .world = { .nr_slots = 1, .nr_devices = 1, .discard = true }, .setup = setup_present,
	  .thread = { EVICT_0, { "swapoff", swapoff_recalled }, { "recall", recall } } },
	{ .name = "compete", .help = "two pages, one slot",
	  .world = ONE_SLOT, .setup = setup_swapped_and_present,
	  .thread = { STORE_0, LOAD_1, EVICT_1 } },
	{ .name = "tight", .help = "two faulters that must first make room",
	  .world = { .nr_slots = 8, .nr_devices = 1, .discard = true, .no_readahead = true, .budget_matters = true,
		     .frames_matter = true },
	  .setup = setup_tight,
	  .thread = { LOAD_0, { "store", store_1 } } },
	{ .name = "readers", .help = "two readers and WILLNEED on one slot, which is kept",
	  .world = FOUR_SLOTS, .setup = setup_swapped,
	  .thread = { LOAD_0, { "load", load_0 }, { "willneed", will_need_0 } } },
	{ .name = "full", .help = "swap is full",
	  .world = ONE_SLOT, .setup = setup_two_present,
	  .thread = { STORE_0, EVICT_0, EVICT_1 } },
	{ .name = "read-error", .help = "the device fails to read once",
	  .world = ONE_SLOT, .setup = setup_read_error,
	  .thread = { LOAD_0, STORE_0, EVICT_0 } },
	{ .name = "bad-neighbour", .help = "a slot changes hands, and its new user's data cannot be read",
	  .world = ONE_SLOT, .setup = setup_bad_neighbour,
	  .thread = { LOAD_0, { "store", store_0_d }, EVICT_1 } },
	{ .name = "write-error", .help = "the device fails to write once: the page stays",
	  .world = ONE_SLOT, .setup = setup_write_error,
	  .thread = { LOAD_0, STORE_0, EVICT_0 } },
	{ .name = "priority", .help = "a pin holder without the processor, and a loser that outranks it",
	  .world = ONE_SLOT, .setup = setup_swapped,
	  .thread = { LOAD_0, EVICT_0, STORE_0 }, .priority = true, .all_relaxes = true },
	{ .name = "priority-area", .help = "a first touch that outranks whoever changes the mappings",
	  .world = ONE_SLOT, .setup = setup_nothing,
	  .thread = { { "mprotect", protect_7 }, STORE_0 }, .priority = true },
	{ .name = "hold", .help = "a system call's hold against reclaim",
	  .world = ONE_SLOT, .setup = setup_present,
	  .thread = { { "hold", hold_0 }, LOAD_0, EVICT_0 } },
	{ .name = "evictors", .help = "two evictors on one page",
	  .world = FOUR_SLOTS, .setup = setup_present,
	  .thread = { STORE_0, EVICT_0, { "evict", pageout_0 } } },
	{ .name = "takeback", .help = "a page is taken back while it is being written",
	  .world = ONE_SLOT, .setup = setup_present,
	  .thread = { LOAD_0, STORE_0, EVICT_0 } },
	{ .name = "in-place", .help = "the same, and the page is written from where it stands: protect, copy, drop",
	  .world = IN_PLACE, .setup = setup_present,
	  .thread = { LOAD_0, STORE_0, EVICT_0 } },
	{ .name = "in-place-drop", .help = "DONTNEED on a page that is being written from where it stands",
	  .world = IN_PLACE, .setup = setup_present,
	  .thread = { { "store, load", store_and_load_0 }, { "drop", drop_0 }, EVICT_0 } },
	{ .name = "in-place-hold", .help = "a system call's hold on a page that is being written from where it stands",
	  .world = IN_PLACE, .setup = setup_present,
	  .thread = { { "hold", hold_0 }, LOAD_0, EVICT_0 } },
	{ .name = "in-place-evictors", .help = "two evictors on one page, which is written from where it stands",
	  .world = IN_PLACE, .setup = setup_present,
	  .thread = { STORE_0, EVICT_0, { "evict", pageout_0 } } },
	{ .name = "in-place-error", .help = "a write fails, from where the page stands",
	  .world = IN_PLACE, .setup = setup_write_error,
	  .thread = { LOAD_0, STORE_0, EVICT_0 } },
	{ .name = "in-place-swapoff", .help = "swapoff against a page that is being written from where it stands",
	  .world = { .nr_slots = 1, .nr_devices = 2, .discard = true, .method = VM_METHOD_COPY },
	  .setup = setup_present,
	  .thread = { EVICT_0, { "swapoff", swapoff_0 } } },
	{ .name = "in-place-seed", .help = "two faulters and an evictor, one slot, pages written from where they stand",
	  .world = IN_PLACE, .setup = setup_swapped,
	  .thread = { LOAD_0, STORE_0, EVICT_0 } },
	{ .name = "between", .help = "a page between two that leave is write-protected with them, and written to",
	  .world = IN_PLACE_FOUR_SLOTS, .setup = setup_between,
	  .thread = { { "store", store_1 }, { "evict", pageout_0_to_2 } } },
	{ .name = "between-release", .help = "pages between two that leave are made writable again, and written to",
	  .world = IN_PLACE_FOUR_SLOTS, .setup = setup_around,
	  .thread = { { "store", store_1 }, { "store", store_2 }, { "evict", evict_around } } },
	{ .name = "between-hold", .help = "a system call's hold on a page between two that leave",
	  .world = IN_PLACE_FOUR_SLOTS, .setup = setup_between,
	  .thread = { { "hold", hold_1 }, { "evict", pageout_0_to_2 } } },
	{ .name = "readahead", .help = "readahead against a faulter and an evictor",
	  .world = FOUR_SLOTS, .setup = setup_stream,
	  .thread = { LOAD_1, { "store", store_2 }, { "evict", pageout_2 } } },
	{ .name = "slow-readahead", .help = "the same, and the device is not synchronous: all comes in one batch",
	  .world = { .nr_slots = 4, .nr_devices = 1, .discard = true, .asynchronous = true },
	  .setup = setup_stream,
	  .thread = { LOAD_1, { "store", store_2 }, { "evict", pageout_2 } } },
	{ .name = "slow-seed", .help = "two faulters and an evictor, one slot of a device that is not synchronous",
	  .world = { .nr_slots = 1, .nr_devices = 1, .discard = true, .asynchronous = true },
	  .setup = setup_swapped,
	  .thread = { LOAD_0, STORE_0, EVICT_0 } },
	{ .name = "slow-batch", .help = "pages that leave in one batch, of which a write fails, and two faulters",
	  .world = { .nr_slots = 4, .nr_devices = 1, .discard = true, .asynchronous = true },
	  .setup = setup_batch_error,
	  .thread = { LOAD_0, { "store", store_1 }, { "evict", pageout_0_to_2 } } },
	{ .name = "slow-in-place", .help = "the same, and they are written from where they stand",
	  .world = { .nr_slots = 4, .nr_devices = 1, .discard = true, .asynchronous = true,
		     .method = VM_METHOD_COPY },
	  .setup = setup_batch_error,
	  .thread = { LOAD_0, { "store", store_1 }, { "evict", pageout_0_to_2 } } },
	{ .name = "demote", .help = "a slot goes down while its page is wanted, written to, and leaves again",
	  .world = DEMOTED, .setup = setup_swapped,
	  .thread = { STORE_0, EVICT_0, { "demote", demote } } },
	{ .name = "demote-unmap", .help = "a slot goes down, a faulter, and munmap",
	  .world = DEMOTED, .setup = setup_unmap,
	  .thread = { LOAD_0, { "unmap", unmap_0 }, { "demote", demote } } },
	{ .name = "demote-swapoff", .help = "a slot goes down, and swapoff",
	  .world = { .nr_slots = 1, .nr_devices = 2, .discard = true, .demotes = true }, .setup = setup_swapped,
	  .thread = { { "demote", demote }, { "swapoff", swapoff_0 } } },
	{ .name = "compact", .help = "a slot's data moves while its page is wanted, written to, and leaves again",
	  .world = { .nr_slots = 1, .nr_devices = 1, .discard = true, .compacts = true }, .setup = setup_swapped,
	  .thread = { STORE_0, EVICT_0, { "compact", compact } } },
	{ .name = "stale", .help = "two faulters and an evictor: the page's next copies go to the same slot",
	  .world = STALE, .setup = setup_swapped,
	  .thread = { LOAD_0, STORE_0, EVICT_0 } },
	{ .name = "stale-pair", .help = "the same by two threads: one of them stores and evicts",
	  .world = STALE, .setup = setup_swapped,
	  .thread = { LOAD_0, { "store, evict", store_and_pageout_0 } } },
	{ .name = "stale-evictors", .help = "two evictors on a page whose slot has a stale copy, and a writer",
	  .world = STALE, .setup = setup_stale,
	  .thread = { { "store", store_0_d }, EVICT_0, EVICT_0 } },
	{ .name = "stale-in-place", .help = "a reader and a writer on a clean page that leaves from where it stands",
	  .world = { .nr_slots = 2, .nr_devices = 1, .discard = true, .patches = true, .method = VM_METHOD_COPY },
	  .setup = setup_clean,
	  .thread = { LOAD_0, STORE_0, EVICT_0 } },
	{ .name = "stale-unmap", .help = "a page whose slot has a stale copy, munmap and an evictor",
	  .world = STALE, .setup = setup_unmap_stale,
	  .thread = { { "munmap", unmap_0 }, EVICT_0 } },
	{ .name = "stale-compact", .help = "a slot's data moves while its page's next copy is about to go there",
	  .world = { .nr_slots = 2, .nr_devices = 1, .discard = true, .patches = true, .compacts = true },
	  .setup = setup_stale,
	  .thread = { LOAD_0, EVICT_0, { "compact", compact } } },
	{ .name = "stale-swapoff", .help = "swapoff of a device that holds a stale copy, and an evictor",
	  .world = { .nr_slots = 2, .nr_devices = 2, .discard = true, .patches = true }, .setup = setup_stale,
	  .thread = { EVICT_0, { "swapoff", swapoff_0 } } },
	{ .name = "stale-error", .help = "a page's next copy cannot be written: the page stays",
	  .world = STALE, .setup = setup_stale_error,
	  .thread = { LOAD_0, STORE_0, EVICT_0 } },
	{ .name = "stale-fork", .help = "a page whose slot has a stale copy, and an evictor while the process forks",
	  .world = { .nr_slots = 4, .nr_devices = 1, .discard = true, .gated = true, .patches = true },
	  .setup = setup_stale,
	  .thread = { { "store", store_0_d }, EVICT_0, { "fork", fork_process } } },
	{ .name = "frames", .help = "three evictors, two runs of frames",
	  .world = { .nr_slots = 4, .nr_devices = 1, .discard = true, .frames_matter = true },
	  .setup = setup_three_present,
	  .thread = { EVICT_0, EVICT_1, { "evict", pageout_2 } } },
	{ .name = "kswapd", .help = "a faulter, and the background reclaimer until it is stopped",
	  .world = { .nr_slots = 8, .nr_devices = 1, .discard = true, .budget_matters = true, .frames_matter = true },
	  .setup = setup_kswapd,
	  .thread = { { "load, stop", load_0_then_stop }, { "kswapd", kswapd } } },
	{ .name = "kswapd-helper", .help = "a helper of the background reclaimer that is about to sleep, and its end",
	  .world = ONE_SLOT, .setup = setup_helper,
	  .thread = { { "helper", kswapd_helper }, { "stop", stop_kswapd } } },
	{ .name = "requeue", .help = "a page comes in while reclaim finds its page table empty",
	  .world = { .nr_slots = 4, .nr_devices = 1, .discard = true, .budget_matters = true }, .setup = setup_swapped,
	  .thread = { STORE_0, { "look", look_at_table } } },
	{ .name = "hold-clean", .help = "a system call that reads a clean page, a writer and an evictor",
	  .world = FOUR_SLOTS, .setup = setup_clean,
	  .thread = { { "hold", hold_and_read_0 }, STORE_0, EVICT_0 } },
	{ .name = "swapoff-all", .help = "a faulter, swapoff and an evictor",
	  .world = { .nr_slots = 1, .nr_devices = 2, .discard = true }, .setup = setup_swapped,
	  .thread = { STORE_0, { "swapoff", swapoff_0 }, EVICT_0 } },
	{ .name = "frames-idle", .help = "four evictors with nothing to do, two runs of frames",
	  .world = { .nr_slots = 1, .nr_devices = 1, .frames_matter = true }, .setup = setup_nothing,
	  .thread = { EVICT_0, EVICT_1, { "evict", pageout_2 }, { "evict", pageout_3 } } },
	{ .name = "gate", .help = "two visitors of the gate in front of the core, and a closer",
	  .world = ONE_SLOT, .setup = setup_nothing, .time_stands = true,
	  .thread = { { "visit", visit_gate_twice }, { "visit", visit_gate }, { "close", close_gate } } },
	{ .name = "gate-closers", .help = "a visitor of the gate and two closers",
	  .world = ONE_SLOT, .setup = setup_nothing, .time_stands = true,
	  .thread = { { "visit", visit_gate_twice }, { "close", close_gate }, { "close", close_gate } } },
	{ .name = "fork", .help = "a writer on a clean page, an evictor and a faulter while the process forks",
	  .world = FORK_SLOTS, .setup = setup_fork,
	  .thread = { STORE_0, EVICT_0, LOAD_1, { "fork", fork_process } } },
	{ .name = "fork-writers", .help = "two faulters on one page while the process forks",
	  .world = FORK_SLOTS, .setup = setup_fork,
	  .thread = { LOAD_1, { "store", store_1 }, { "fork", fork_process } } },
	{ .name = "fork-kswapd", .help = "a faulter and the background reclaimer while the process forks",
	  .world = { .nr_slots = 8, .nr_devices = 1, .discard = true, .budget_matters = true, .frames_matter = true,
		     .gated = true },
	  .setup = setup_fork_kswapd,
	  .thread = { LOAD_0, { "kswapd", kswapd }, { "fork, stop", fork_and_stop } } },
	{ .name = NULL },
};

const struct scenario *scenario_find(const char *name)
{
	for (const struct scenario *sc = scenarios; sc->name; sc++) {
		if (!strcmp(sc->name, name))
			return sc;
	}
	return NULL;
}
