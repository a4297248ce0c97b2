// SPDX-License-Identifier: MIT
#include "world.h"

#include <stdio.h>
#include <string.h>

#include "hash.h"
#include "mm/area.h"
#include "mm/budget.h"
#include "mm/fault.h"
#include "mm/fork.h"
#include "mm/pte.h"
#include "mm/swap_slots.h"
#include "sim_device.h"

enum {
	TABLES_BYTES = 96 << 10,
	LARGE_BYTES = AREAS_MAX * sizeof(struct area), /* of the area table only its beginning is ever used */
	LARGE_USED_BYTES = 1 << 10,
	GAUGES_BYTES = offsetof(struct mm_stats, shard),
	CHILDREN = 1024,
};

struct arena {
	struct world world;
	_Alignas(64) u8 tables[TABLES_BYTES];
};

static struct arena arena, saved;
static _Alignas(64) u8 large[LARGE_BYTES], large_saved[LARGE_USED_BYTES];
static struct mm_stats stats;
static size_t tables_used;
static bool large_used;
static struct world_config config;
static u64 children[CHILDREN]; /* states at a fork whose child was in order */
static u64 clock_word;

struct world *const world = &arena.world;

/* ---- the core's tables ---- */

void *vm_table_alloc(size_t bytes)
{
	void *table = &arena.tables[tables_used];

	if (bytes > TABLES_BYTES) {
		must(!large_used && bytes <= sizeof(large));
		large_used = true;
		return large;
	}
	tables_used += ALIGN_UP(bytes, (size_t)64);
	must(tables_used <= sizeof(arena.tables));
	return table;
}

void vm_table_free(void *table, size_t bytes)
{
	(void)table;
	(void)bytes;
}

/* ---- statistics: nobody decides on them, so they are no steps; only the counters are kept ---- */

void mm_stats_add(struct mm_stats *st, enum mm_counter counter, u64 n)
{
	(void)st;
	world->counter[counter] += n;
}

void mm_stats_fault(struct mm_stats *st, u64 ns)
{
	(void)st;
	(void)ns;
}

void mm_stats_raise(struct atomic64 *peak, u64 value)
{
	if (peak->v < value)
		peak->v = value;
	/* The peaks are not part of the state, so the limit is looked at at once. */
	must(peak != &stats.total_peak || value <= world->mm.budget.memory_max || !world->mm.budget.memory_max);
}

/* ---- life ---- */

struct creation {
	enum swapin_policy policy;
	enum swapin_relax relax;
	void (*setup)(void);
};

static void create(void *arg)
{
	static const char *const names[WORLD_DEVICES_MAX] = { "sim0", "sim1" };
	const struct creation *c = arg;
	struct mm_config cfg = {
		.memory_pages = MM_LIMIT_PAGES_MIN,
		.nr_pages = WORLD_PAGES,
		.method = config.method == VM_METHOD_AUTO ? VM_METHOD_MOVE : config.method,
		.policy = c->policy,
		.no_readahead = config.no_readahead,
		.relax = c->relax,
		.lab = true,
		.stats = &stats,
	};
	vpn_t start;

	world->stats = &stats;
	must(!mm_create(&world->mm, &cfg));
	for (u32 i = 0; i < config.nr_devices; i++) {
		sim_device_init(&world->device[i], names[i], &config);
		must(!mm_swapon(&world->mm, &world->device[i].dev));
	}
	must(!mm_map(&world->mm, WORLD_PAGES, 1, VM_READ | VM_WRITE, &start));
	must(start.val == 0);
	must(!mm_adopt(&world->mm));
	c->setup();
}

bool world_create(const struct world_config *cfg, enum swapin_policy policy, enum swapin_relax relax,
		  void (*setup)(void))
{
	struct creation c = { policy, relax, setup };

	config = *cfg;
	sched_forget_objects();
	sched_reset();
	memset(&arena, 0, sizeof(arena));
	memset(large, 0, LARGE_USED_BYTES);
	memset(&stats, 0, sizeof(stats));
	memset(children, 0, sizeof(children));
	tables_used = 0;
	large_used = false;
	if (!sched_alone(create, &c))
		return false;
	memcpy(&saved, &arena, offsetof(struct arena, tables) + tables_used);
	memcpy(large_saved, large, LARGE_USED_BYTES);
	return true;
}

void world_restore(void)
{
	memcpy(&arena, &saved, offsetof(struct arena, tables) + tables_used);
	memcpy(large, large_saved, LARGE_USED_BYTES);
	memset(&stats, 0, GAUGES_BYTES);
}

const struct world_config *world_cfg(void)
{
	return &config;
}

/* ---- what addresses mean ---- */

static bool is_in(uintptr_t addr, const void *start, size_t bytes)
{
	return addr - (uintptr_t)start < bytes;
}

/*
 * Private: the statistics' gauges and the number of holds, as nobody decides on them (the limit of holds is far away).
 * The hints of the slot map, as a map of one word is searched with the same outcome whatever they say. The budget's
 * word and the queue of pages, unless the scenario makes the budget tight: while every charge succeeds nobody can tell
 * the one, and nobody pops the other. The pool of frames, unless the scenario can use it up: frames are alike.
 */
u8 world_classify(uintptr_t addr)
{
	const struct mm *mm = &world->mm;

	if (is_in(addr, &stats, sizeof(stats)) || is_in(addr, &mm->nr_held, sizeof(mm->nr_held)))
		return OBJ_PRIVATE;
	if (is_in(addr, &mm->budget.used, sizeof(mm->budget.used)) && !config.budget_matters)
		return OBJ_PRIVATE;
	/* No world is long enough to change what these say. */
	if (is_in(addr, &mm->lru.keep_score, sizeof(mm->lru.keep_score)) ||
	    is_in(addr, &mm->lru.keep_ended, sizeof(mm->lru.keep_ended)) ||
	    is_in(addr, &mm->lru.missed, sizeof(mm->lru.missed)))
		return OBJ_PRIVATE;
	if (is_in(addr, &mm->lru, sizeof(mm->lru)) && !config.budget_matters)
		return OBJ_PRIVATE;
	if (is_in(addr, &mm->frames, sizeof(mm->frames)) && !config.frames_matter)
		return OBJ_PRIVATE;
	for (u32 i = 0; i < config.nr_devices; i++) {
		const struct slot_map *map = &mm->swap[i].map;

		if (is_in(addr, &map->hint, sizeof(map->hint)) || is_in(addr, map->full, sizeof(*map->full)))
			return OBJ_PRIVATE;
	}
	return 0;
}

enum place world_place(uintptr_t addr, u32 *index)
{
	const struct mm *mm = &world->mm;

	if (is_in(addr, mm->ptes, mm->vm.nr_pages * sizeof(struct atomic64))) {
		*index = (u32)((addr - (uintptr_t)mm->ptes) / sizeof(struct atomic64));
		return PLACE_PTE;
	}
	for (u32 i = 0; i < config.nr_devices; i++) {
		const struct swap_info *si = &mm->swap[i];

		if (!is_in(addr, si->table, si->nr_slots * sizeof(struct atomic64)))
			continue;
		*index = (u32)((addr - (uintptr_t)si->table) / sizeof(struct atomic64)) + i * 10;
		return PLACE_SLOT;
	}
	return PLACE_OTHER;
}

static bool name_device_word(uintptr_t addr, char name[NAME_CHARS])
{
	for (u32 i = 0; i < config.nr_devices; i++) {
		const struct swap_info *si = &world->mm.swap[i];
		const struct sim_device *d = &world->device[i];
		const char *what = NULL;

		if (is_in(addr, si->map.bits, sizeof(u64)))
			what = "slot map";
		else if (is_in(addr, si->map.full, sizeof(u64)) || is_in(addr, &si->map, sizeof(si->map)))
			what = "slot hints";
		else if (is_in(addr, &si->used, sizeof(si->used)))
			what = "slots used";
		else if (is_in(addr, &si->state, sizeof(si->state)))
			what = "swap state";
		else if (is_in(addr, d->slot, sizeof(d->slot)))
			what = "slot data";
		else if (is_in(addr, &d->writing, sizeof(d->writing)))
			what = "stuck write";
		if (what) {
			snprintf(name, NAME_CHARS, "%s", what);
			return true;
		}
	}
	return false;
}

static const char *name_mm_word(uintptr_t addr)
{
	const struct mm *mm = &world->mm;

	if (is_in(addr, &mm->budget, sizeof(mm->budget)))
		return "budget";
	if (is_in(addr, &mm->frames.waiters, sizeof(mm->frames.waiters)))
		return "frame queue";
	if (is_in(addr, &mm->frames, sizeof(mm->frames)))
		return "frame pool";
	if (is_in(addr, &mm->lru, sizeof(mm->lru)))
		return "queue";
	if (is_in(addr, mm->pte_tables, sizeof(*mm->pte_tables)))
		return "page table";
	if (is_in(addr, &mm->areas.lock, sizeof(mm->areas.lock)))
		return "areas.lock";
	if (is_in(addr, &mm->areas, sizeof(mm->areas)))
		return "area sequence";
	if (is_in(addr, &mm->swap_lock, sizeof(mm->swap_lock)))
		return "swap_lock";
	if (is_in(addr, &mm->relax_queue, sizeof(mm->relax_queue)))
		return "one queue for all";
	if (is_in(addr, &mm->kswapd, sizeof(mm->kswapd)))
		return "kswapd";
	if (is_in(addr, &mm->demoted, sizeof(mm->demoted)))
		return "demoted";
	if (is_in(addr, &world->gate, sizeof(world->gate)))
		return is_in(addr, &world->gate.closed, sizeof(world->gate.closed)) ? "gate" : "inside of gate";
	if (addr == (uintptr_t)&clock_word)
		return "the clock";
	return "a word of mm";
}

void world_name(uintptr_t addr, char name[NAME_CHARS])
{
	u32 index;

	switch (world_place(addr, &index)) {
	case PLACE_PTE:
		snprintf(name, NAME_CHARS, "PTE %u", index);
		return;
	case PLACE_SLOT:
		snprintf(name, NAME_CHARS, "slot %u", index);
		return;
	default:
		break;
	}
	if (is_in(addr, world->page, sizeof(world->page)))
		snprintf(name, NAME_CHARS, "page %u", (u32)((addr - (uintptr_t)world->page) / sizeof(struct sim_page)));
	else if (is_in(addr, world->frame, sizeof(world->frame)))
		snprintf(name, NAME_CHARS, "frame %u",
			 (u32)((addr - (uintptr_t)world->frame) / sizeof(struct content)));
	else if (!name_device_word(addr, name))
		snprintf(name, NAME_CHARS, "%s", name_mm_word(addr));
}

static void misuse(u32 frame)
{
	if (config.reports_misuse)
		sched_found(FOUND_DEVICE, "frame %u is used while a device works on it", frame);
}

void world_frame_check(u32 frame, bool write)
{
	if (world->frame_writers[frame] || (write && world->frame_readers[frame]))
		misuse(frame);
}

bool world_is_frame(const void *page)
{
	const struct content *frame = page;

	return frame >= world->frame && frame < world->frame + WORLD_FRAMES_MAX;
}

void world_frame_use(const void *page, bool write, bool begin)
{
	u32 n;

	if (!world_is_frame(page))
		return;
	n = (u32)((const struct content *)page - world->frame);
	if (begin)
		world_frame_check(n, write);
	if (write)
		world->frame_writers[n] += begin ? 1u : -1u;
	else
		world->frame_readers[n] += begin ? 1u : -1u;
}

/* The queues' chunks are pages, of which only the beginnings are ever used. */
u64 world_hash(void)
{
	enum { CHUNK_USED_BYTES = 128, CHUNKS = 4 };
	const struct lru *lru = &world->mm.lru;
	const u8 *queues[] = { (const u8 *)lru->oldest.chunks, (const u8 *)lru->hinted[LRU_COLD].chunks,
			       (const u8 *)lru->hinted[LRU_STREAMED].chunks };
	size_t small = (size_t)(queues[0] - arena.tables);
	size_t after = (size_t)(queues[2] - arena.tables) + CHUNKS * PAGE_SIZE;
	u64 hash = hash_memory(0, world, offsetof(struct world, counter));

	must(queues[0] < queues[1] && queues[1] < queues[2] && tables_used > after);
	hash = hash_memory(hash, arena.tables, small);
	hash = hash_memory(hash, arena.tables + after, tables_used - after);
	for (u32 i = 0; i < ARRAY_SIZE(queues) * CHUNKS; i++)
		hash = hash_memory(hash, queues[i / CHUNKS] + i % CHUNKS * PAGE_SIZE, CHUNK_USED_BYTES);
	return hash_memory(hash, large, LARGE_USED_BYTES);
}

/*
 * At rest: what the program and the devices have. Not the numbers of frames, nor the order of the queues of pages,
 * which world_classify() says that nobody decides on: they depend on the order of steps that do not conflict.
 */
u64 world_end_hash(void)
{
	const struct mm *mm = &world->mm;
	u64 hash = hash_memory(3, world->page, sizeof(world->page));

	hash = hash_memory(hash, mm->ptes, WORLD_PAGES * sizeof(*mm->ptes));
	for (u32 i = 0; i < config.nr_devices; i++) {
		const struct swap_info *si = &mm->swap[i];
		const struct sim_device *d = &world->device[i];

		hash = hash_memory(hash, si->table, si->nr_slots * sizeof(*si->table));
		hash = hash_memory(hash, si->map.bits, sizeof(u64));
		hash = hash_memory(hash, d->slot, sizeof(d->slot));
		for (u32 n = 0; n < WORLD_SLOTS_MAX; n++)
			hash = hash_mix(hash, d->full[n]);
		hash = hash_mix(hash, si->used.v);
		hash = hash_mix(hash, d->is_closed);
	}
	hash = hash_mix(hash, world->flag.v);
	return hash_memory(hash_memory(hash, world->var, sizeof(world->var)), large, LARGE_USED_BYTES);
}

int world_clock_object(void)
{
	return sched_object_of(&clock_word);
}

/* "A", or "AB" if the second word was ever written. */
void content_name(const struct content *c, char name[NAME_CHARS])
{
	u32 len = 0;

	if (c->word[0] == GARBAGE) {
		snprintf(name, NAME_CHARS, "garbage");
		return;
	}
	for (u32 i = 0; i < WORLD_WORDS; i++) {
		if (i == 0 || c->word[i])
			name[len++] = c->word[i] ? (char)('A' + (c->word[i] - A) % 26) : '0';
	}
	name[len] = '\0';
}

/* ---- the program ---- */

static enum access_end fault_end(u32 vpn, enum fault_result result)
{
	switch (result) {
	case FAULT_DONE:
	case FAULT_RETRY:
		return ACCESS_DONE;
	case FAULT_UNMAPPED:
		if (world->may_be_unmapped)
			return ACCESS_SEGV;
		sched_found(FOUND_ERROR, "page %u is mapped, and its fault says it is not", vpn);
	case FAULT_IO_ERROR:
		if (world->may_fail >> vpn & 1)
			return ACCESS_BUS;
		sched_found(FOUND_ERROR, "page %u cannot be read back, and no device has failed", vpn);
	case FAULT_OOM:
		sched_found(FOUND_ERROR, "out of memory for page %u, and there is enough", vpn);
	default:
		sched_found(FOUND_ERROR, "page %u could not be installed", vpn);
	}
}

u32 world_enter(void)
{
	u32 shard;

	if (!config.gated)
		return 0;
	shard = gate_enter(&world->gate);
	if (sched_running())
		sched_also(sched_object_of(&world->nr_inside), true);
	world->nr_inside++;
	return shard;
}

void world_leave(u32 shard)
{
	if (!config.gated)
		return;
	if (sched_running())
		sched_also(sched_object_of(&world->nr_inside), true);
	world->nr_inside--;
	gate_leave(&world->gate, shard);
}

static enum access_end fault(u32 vpn, bool write)
{
	enum fault_result result;
	u32 shard;

	if (!config.gated)
		return fault_end(vpn, handle_mm_fault(&world->mm, (vpn_t){ vpn }, write));
	shard = world_enter();
	result = handle_mm_fault(&world->mm, (vpn_t){ vpn }, write);
	world_leave(shard);
	return fault_end(vpn, result);
}

/* Makes the access possible: one look at the page by the processor, and fault/signal.c for what it refuses. */
static enum access_end prog_reach(u32 vpn, bool write)
{
	struct sim_page *page = &world->page[vpn];
	enum access_end end = ACCESS_DONE;

	sched_fresh();
	while (end == ACCESS_DONE) {
		if (sched_running())
			sched_op_read(sched_object_of(page), __builtin_return_address(0));
		if (!(page->rights & (write ? VM_WRITE : VM_READ)))
			return ACCESS_SEGV;
		if (!page->present && page->unmanaged)
			page->present = true;
		if (page->present && !(write && page->protect)) {
			if (sched_running())
				sched_also(sched_object_of(page), write);
			return ACCESS_DONE;
		}
		sched_note(false, "%s page %u: fault", write ? "store to" : "load from", vpn);
		end = fault(vpn, write);
	}
	return end;
}

/* The truth belongs to the page's steps; how many drops there are, to those of all pages. */
static void truth_use(u32 vpn, u32 nr, bool write)
{
	if (!sched_running())
		return;
	sched_also(sched_object_of(&world->nr_drops), write);
	for (u32 i = vpn; i < vpn + nr && write; i++)
		sched_also(sched_object_of(&world->page[i]), true);
}

/* Holds what was loaded against the truth, and learns which of two allowed values it has become. */
static void truth_check(u32 vpn, u32 word, u64 value)
{
	struct sim_page *page = &world->page[vpn];
	struct content loaded = page->data, stored = page->now;
	char is[NAME_CHARS], ought[NAME_CHARS];

	truth_use(vpn, 1, false);
	if (value == page->also.word[word]) {
		if (!world->nr_drops || value == ZERO)
			page->now.word[word] = value;
		return;
	}
	if (value == page->now.word[word]) {
		if (!world->nr_drops)
			page->also.word[word] = value;
		return;
	}
	content_name(&loaded, is);
	content_name(&stored, ought);
	sched_found(FOUND_LOSS, "page %u loads %s, and the last store made it %s: data loss", vpn, is, ought);
}

enum access_end prog_load(u32 vpn, u32 word, u64 *value)
{
	enum access_end end = prog_reach(vpn, false);
	char name[NAME_CHARS];

	if (end != ACCESS_DONE)
		return end;
	*value = world->page[vpn].data.word[word];
	if (sched_tracing()) {
		content_name(&world->page[vpn].data, name);
		sched_note(false, "load page %u -> %s", vpn, name);
	}
	truth_check(vpn, word, *value);
	return ACCESS_DONE;
}

static void store_now(u32 vpn, u32 word, u64 value)
{
	struct sim_page *page = &world->page[vpn];
	char name[NAME_CHARS];

	truth_use(vpn, 1, false);
	page->data.word[word] = page->now.word[word] = value;
	page->also.word[word] = world->nr_drops ? ZERO : value;
	page->written[word] = true;
	if (sched_tracing()) {
		content_name(&page->data, name);
		sched_note(false, "store page %u = %s", vpn, name);
	}
}

enum access_end prog_store(u32 vpn, u32 word, u64 value)
{
	enum access_end end = prog_reach(vpn, true);

	if (end == ACCESS_DONE)
		store_now(vpn, word, value);
	return end;
}

void kernel_access(u32 vpn, bool write, u64 value)
{
	struct sim_page *page = &world->page[vpn];

	if (sched_running())
		sched_op(sched_object_of(page), write);
	if (!page->present || (write && page->protect))
		sched_found(FOUND_ERROR, "the kernel finds page %u gone, and it is held", vpn);
	if (write)
		store_now(vpn, 0, value);
	else
		truth_check(vpn, 0, page->data.word[0]);
}

void drop_begins(u32 vpn, u32 nr)
{
	truth_use(vpn, nr, true);
	world->nr_drops++;
	for (u32 i = vpn; i < vpn + nr; i++) {
		world->page[i].also = (struct content){ 0 };
		memset(world->page[i].written, 0, sizeof(world->page[i].written));
	}
}

void drop_ends(u32 vpn, u32 nr)
{
	truth_use(vpn, nr, true);
	world->nr_drops--;
	for (u32 i = vpn; i < vpn + nr; i++) {
		for (u32 w = 0; w < WORLD_WORDS; w++) {
			if (!world->page[i].written[w])
				world->page[i].now.word[w] = ZERO;
		}
	}
}

/* ---- at rest ---- */

/* Every slot that no PTE names is free in all of its records, and its data is forgotten. */
static void check_slots(void)
{
	for (u32 i = 0; i < config.nr_devices; i++) {
		const struct swap_info *si = &world->mm.swap[i];
		u64 taken = si->map.bits[0].v & (((u64)1 << si->nr_slots) - 1);

		for (u32 n = 0; n < si->nr_slots; n++) {
			u64 word = si->table[n].v;

			must(slot_word_is_valid(word));
			must((word != 0) == ((taken >> n & 1) != 0));
			must(word == 0 || word == SLOT_BAD || (slot_count(word) == 1 && !(word & ~SLOT_COUNT_MASK)));
			must(slot_count(word) || !config.discard || !world->device[i].full[n]);
		}
		must((u64)__builtin_popcountll(taken) == si->used.v + si->nr_bad.v);
	}
}

/* The copy of a clean page is the page. */
static void check_clean(u32 vpn)
{
	u64 pte = pte_read(&world->mm, (vpn_t){ vpn });
	const struct sim_device *d;
	u32 slot;

	if (!pte_is_clean(pte))
		return;
	d = &world->device[swp_type(pte_to_swp_entry(pte))];
	slot = swp_offset(pte_to_swp_entry(pte));
	must(d->full[slot]);
	must(!memcmp(&d->slot[slot], &world->page[vpn].data, sizeof(d->slot[slot])));
}

static void check_frames(void)
{
	for (u32 i = 0; i < WORLD_FRAMES_MAX; i++)
		must(!world->frame_full[i]);
}

static void drop_ballast(void)
{
	if (world->ballast)
		budget_uncharge(&world->mm, world->ballast);
	world->ballast = 0;
}

void world_check(void)
{
	u64 value;

	drop_ballast();
	mm_assert_valid(&world->mm);
	check_slots();
	check_frames();
	must(!world->nr_drops && !world->nr_inside);
	for (u32 i = 0; i < WORLD_PAGES; i++) {
		const struct sim_page *page = &world->page[i];

		must(page->present == pte_is_present(pte_read(&world->mm, (vpn_t){ i })));
		must(page->protect == pte_is_protected(pte_read(&world->mm, (vpn_t){ i })));
		check_clean(i);
		must(page->rights || pte_is_none(pte_read(&world->mm, (vpn_t){ i })));
		for (u32 w = 0; w < WORLD_WORDS && page->rights; w++)
			(void)prog_load(i, w, &value);
	}
	mm_assert_valid(&world->mm);
	check_slots();
}

/* ---- fork ---- */

static void child_main(void *arg)
{
	static struct mm_stats child_stats;
	u64 value;
	u32 shard;

	(void)arg;
	if (mm_fork_child(&world->mm, &child_stats))
		sched_found(FOUND_ERROR, "a child could not make its memory its own");
	gate_open_in_child(&world->gate);
	for (u32 i = 0; i < WORLD_PAGES; i++) {
		if (i % 2)
			(void)prog_load(i, 0, &value);
		(void)prog_store(i, 0, D + 1 + i);
	}
	shard = world_enter();
	(void)mm_pageout(&world->mm, (vpn_t){ 0 }, WORLD_PAGES);
	world_leave(shard);
	world_check();
}

/* True if it was there before. */
static bool child_is_known(void)
{
	u64 state = world_hash() | 1, *known = &children[state >> 32 & (CHILDREN - 1)];

	if (*known == state)
		return true;
	*known = state;
	return false;
}

void world_fork(void)
{
	static struct arena parent;
	static u8 large_parent[LARGE_USED_BYTES];
	struct sched_use uses[WORLD_PAGES];
	size_t used = offsetof(struct arena, tables) + tables_used;

	for (u32 i = 0; i < WORLD_PAGES; i++)
		uses[i] = (struct sched_use){ .obj = sched_object_of(&world->page[i]) };
	sched_op_many(uses, WORLD_PAGES);
	sched_also_all();
	sched_note(false, "fork");
	if (world->nr_inside)
		sched_found(FOUND_INVARIANT, "somebody is in the core while the process forks");
	if (child_is_known())
		return;
	memcpy(&parent, &arena, used);
	memcpy(large_parent, large, LARGE_USED_BYTES);
	for (u32 i = 0; i < WORLD_PAGES; i++) {
		world->page[i].protect = false;
		world->page[i].unmanaged = true;
	}
	sched_apart(child_main, NULL);
	memcpy(&arena, &parent, used);
	memcpy(large, large_parent, LARGE_USED_BYTES);
}

_Noreturn void assert_fail(const char *expr, const char *file, int line)
{
	const char *base = strrchr(file, '/');

	sched_found(FOUND_INVARIANT, "broken invariant: %s (%s:%d)", expr, base ? base + 1 : file, line);
}
