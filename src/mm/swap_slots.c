// SPDX-License-Identifier: MIT
#include "mm/swap_slots.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/mutation.h"
#include "mm/budget.h"

enum {
	BITS = 64,
	SLOTS_PER_PAGE = PAGE_SIZE / sizeof(u64), /* of the swap table */
	TICK_NS = 4000000, /* at 250 Hz */
	READ_RETRIES = 3,
	READ_PAUSE_NS = 10000000, /* before the first; each is four times as long */
	FAILURES_MAX = 8, /* writes in a row that fail before it is the device that does */
	WRITE_PAUSE_NS = 1000000000,
	STORE_FULL_PERCENT = 90,
};

_Static_assert(SWAP_SLOTS_MAX == 1u << SWAP_OFFSET_BITS, "an entry holds every slot's number");

/* ---- the map of free slots ---- */

static u32 map_words(u32 nr_slots)
{
	return DIV_ROUND_UP(nr_slots, BITS);
}

static size_t map_bytes(u32 words)
{
	return (size_t)words * sizeof(struct atomic64);
}

static int map_init(struct slot_map *map, u32 nr_slots)
{
	u32 words = map_words(nr_slots);

	*map = (struct slot_map){ 0 };
	map->bits = vm_table_alloc(map_bytes(words));
	map->full = vm_table_alloc(map_bytes(map_words(words)));
	if (!map->bits || !map->full) {
		vm_table_free(map->bits, map_bytes(words));
		vm_table_free(map->full, map_bytes(map_words(words)));
		return -ENOMEM;
	}
	/* The bits past the end are taken for ever. */
	if (nr_slots % BITS)
		atomic64_set(&map->bits[words - 1], ~(u64)0 << (nr_slots % BITS));
	if (words % BITS)
		atomic64_set(&map->full[map_words(words) - 1], ~(u64)0 << (words % BITS));
	return 0;
}

static void map_destroy(struct slot_map *map, u32 nr_slots)
{
	vm_table_free(map->bits, map_bytes(map_words(nr_slots)));
	vm_table_free(map->full, map_bytes(map_words(map_words(nr_slots))));
}

/*
 * `full` and `hint` are advice. A bit that is freed while another thread marks its word full leaves the mark clear or
 * is found by map_take's last pass, which does not look at them.
 */
static void map_mark(struct slot_map *map, u32 word, bool full)
{
	u64 bit = (u64)1 << (word % BITS);

	if (full)
		atomic64_fetch_or(&map->full[word / BITS], bit);
	else if (atomic64_read(&map->full[word / BITS]) & bit)
		atomic64_fetch_and(&map->full[word / BITS], ~bit);
}

/* Takes up to `nr` bits of one word; returns the mask of those taken. */
static u64 map_take_from(struct slot_map *map, u32 word, u32 nr)
{
	u64 old = atomic64_read(&map->bits[word]);
	u64 mask;

	do {
		u64 free = ~old;

		mask = 0;
		for (u32 i = 0; i < nr && free; i++, free &= free - 1)
			mask |= free & -free;
		if (!mask)
			return 0;
	} while (!atomic64_cas_acquire(&map->bits[word], &old, old | mask));
	if ((old | mask) == ~(u64)0)
		map_mark(map, word, true);
	return mask;
}

/* Takes up to `nr` slots, lowest first. Returns how many. */
static u32 map_take(struct slot_map *map, u32 nr_slots, u32 *slots, u32 nr)
{
	u32 words = map_words(nr_slots), got = 0;

	for (int pass = 0; pass < 2 && got == 0; pass++) {
		for (u32 w = pass ? 0 : atomic32_read(&map->hint); w < words && got < nr; w++) {
			u64 full = atomic64_read(&map->full[w / BITS]) >> (w % BITS);
			u64 mask;

			if (pass == 0 && (full & 1)) {
				/* Skip the run of full words in one step. */
				w += (~full ? (u32)__builtin_ctzll(~full) : BITS) - 1;
				continue;
			}
			mask = map_take_from(map, w, nr - got);
			if (mask && pass == 0)
				atomic32_set(&map->hint, w);
			for (; mask; mask &= mask - 1)
				slots[got++] = w * BITS + (u32)__builtin_ctzll(mask);
		}
	}
	return got;
}

static void map_give(struct slot_map *map, u32 slot)
{
	u32 word = slot / BITS;
	u64 bit = (u64)1 << (slot % BITS);
	u64 old = atomic64_fetch_and(&map->bits[word], ~bit);

	must(old & bit);
	map_mark(map, word, false);
	if (word < atomic32_read(&map->hint))
		atomic32_set(&map->hint, word);
}

/* ---- slots ---- */

/* Charges table pages that a slot number reached for the first time makes real: swap table and bitmaps. */
static void charge_high_water(struct mm *mm, struct swap_info *si, u32 slot)
{
	u32 old = atomic32_read(&si->map.high_water);

	while (slot >= old) {
		u32 new = ALIGN_UP(slot + 1, (u32)SLOTS_PER_PAGE);

		if (atomic32_cas_acquire(&si->map.high_water, &old, new)) {
			budget_charge_tables(mm, (new - old) / SLOTS_PER_PAGE);
			return;
		}
	}
}

static u32 swap_alloc_from(struct mm *mm, struct swap_info *si, swp_entry_t *entries, u32 nr)
{
	u32 owner = sync_owner_id(), got;
	u32 slots[FRAME_RUN];

	must(nr <= FRAME_RUN);
	/* Counted before the look at the state: swapoff changes the state and then waits for the count. */
	atomic64_fetch_add(&si->used, nr);
	atomic_full_barrier();
	got = atomic32_load_acquire(&si->state) == SWAP_ON ? map_take(&si->map, si->nr_slots, slots, nr) : 0;
	for (u32 i = 0; i < got; i++) {
		charge_high_water(mm, si, slots[i]);
		/* The bit was free, so the word is 0: slot_release comes before map_give. */
		must(slot_alloc(&si->table[slots[i]], owner));
		entries[i] = swp_entry(si->type, slots[i]);
	}
	atomic64_fetch_sub(&si->used, nr - got);
	atomic64_fetch_add(&mm->stats->swapped, got);
	return got;
}

/* May slots of the device be handed out? Not while its writes fail, until it is time to try again. */
static bool swap_may_alloc(struct swap_info *si)
{
	if (atomic32_load_acquire(&si->state) != SWAP_ON)
		return false;
	return atomic32_read(&si->failures) < FAILURES_MAX || sync_clock_ns() >= atomic64_read(&si->retry_ns);
}

/* The highest priority below `prio` of any device; INT_MIN: there is none. */
static int next_prio(struct mm *mm, u32 nr_swap, s64 prio)
{
	int next = INT_MIN;

	for (u32 type = 0; type < nr_swap; type++) {
		if (mm->swap[type].prio < prio && mm->swap[type].prio > next)
			next = mm->swap[type].prio;
	}
	return next;
}

/* From the devices of one priority, each in its turn. */
static u32 swap_alloc_at(struct mm *mm, u32 nr_swap, int prio, u32 without, swp_entry_t *entries, u32 nr)
{
	struct swap_info *equal[SWAP_TYPES_MAX];
	u32 nr_equal = 0, turn = 0, got = 0;

	for (u32 type = 0; type < nr_swap; type++) {
		if (mm->swap[type].prio == prio && !(mm->swap[type].dev_flags & without) &&
		    swap_may_alloc(&mm->swap[type]))
			equal[nr_equal++] = &mm->swap[type];
	}
	if (nr_equal > 1)
		turn = atomic32_add_return(&mm->swap_turn, 1);
	for (u32 i = 0; i < nr_equal && got < nr; i++)
		got += swap_alloc_from(mm, equal[(turn + i) % nr_equal], entries + got, nr - got);
	return got;
}

/* From the first devices on that have none of the flags `without`. */
static u32 swap_alloc_without(struct mm *mm, u32 without, swp_entry_t *entries, u32 nr)
{
	u32 nr_swap = atomic32_load_acquire(&mm->nr_swap), got = 0;
	int prio = next_prio(mm, nr_swap, (s64)INT_MAX + 1);

	for (; prio > INT_MIN && got < nr; prio = next_prio(mm, nr_swap, prio))
		got += swap_alloc_at(mm, nr_swap, prio, without, entries + got, nr - got);
	return got;
}

/*
 * Devices that keep pages in memory (SWAP_SYNCHRONOUS_IO) are full when that is, too: short of it the others are asked
 * first, as these need a little of it for their tables.
 */
u32 swap_alloc(struct mm *mm, swp_entry_t *entries, u32 nr)
{
	u32 got = 0;

	if (atomic32_load_acquire(&mm->nr_swap) > 1 && budget_store_is_above(mm, STORE_FULL_PERCENT, 0))
		got = swap_alloc_without(mm, SWAP_SYNCHRONOUS_IO, entries, nr);
	return got < nr ? got + swap_alloc_without(mm, 0, entries + got, nr - got) : got;
}

void swap_finish(struct mm *mm, swp_entry_t entry, enum slot_left left)
{
	struct swap_info *si = swap_info(mm, entry);

	if (left != SLOT_LAST)
		return;
	if ((si->dev_flags & SWAP_DISCARD) && !mutate(MUTATE_DISCARD_LATE))
		si->dev->ops->discard(si->dev, swp_offset(entry));
	if (slot_read(swap_slot(mm, entry)) & SLOT_BAD) {
		/* Its bit stays taken: nobody gets it any more. */
		slot_release(swap_slot(mm, entry));
		atomic64_fetch_add(&si->nr_bad, 1);
	} else {
		slot_release(swap_slot(mm, entry));
		map_give(&si->map, swp_offset(entry));
	}
	if (mutate(MUTATE_DISCARD_LATE))
		si->dev->ops->discard(si->dev, swp_offset(entry));
	atomic64_fetch_sub(&mm->stats->swapped, 1);
	atomic64_fetch_sub_release(&si->used, 1); /* the last look at the device is over; meets swapoff */
}

void swap_free(struct mm *mm, swp_entry_t entry)
{
	swap_finish(mm, entry, slot_put(swap_slot(mm, entry)));
}

int swapcache_prepare(struct mm *mm, swp_entry_t entry)
{
	return slot_prepare(swap_slot(mm, entry), sync_owner_id());
}

void swapcache_clear(struct mm *mm, swp_entry_t entry)
{
	swap_finish(mm, entry, slot_clear(swap_slot(mm, entry)));
	if (mm->relax == RELAX_QUEUE) {
		atomic32_add_return(&mm->relax_queue, 1);
		sync_wake32_all(&mm->relax_queue);
	}
}

bool swap_reuse(struct mm *mm, swp_entry_t entry)
{
	if (!swap_may_alloc(swap_info(mm, entry)))
		return false;
	return mutate(MUTATE_REUSE_UNPINNED) || !swapcache_prepare(mm, entry);
}

/* The choices that are not ours are here to be measured and to fail (docs/race.md). */
void swap_relax(struct mm *mm, swp_entry_t entry)
{
	u32 seen = atomic32_load_acquire(&mm->relax_queue);
	struct atomic32 never = { 0 };

	switch (mm->relax) {
	case RELAX_SLOT:
		swap_wait(mm, entry);
		return;
	case RELAX_YIELD:
		sync_yield();
		break;
	case RELAX_TICK:
		sync_wait32_timeout(&never, 0, TICK_NS);
		break;
	case RELAX_QUEUE:
		if (slot_is_busy(slot_read(swap_slot(mm, entry))))
			sync_wait32_timeout(&mm->relax_queue, seen, TICK_NS);
		break;
	default:
		sync_spin_point();
		break;
	}
	mm_stats_add(mm->stats, STAT_PIN_WAIT, 1);
}

void swap_wait(struct mm *mm, swp_entry_t entry)
{
	struct atomic64 *slot = swap_slot(mm, entry);

	mm_stats_add(mm->stats, STAT_PIN_WAIT, 1);
	slot_wait(slot, slot_read(slot));
}

/* Numbers the slots of those, from the first on, that are on one device. Returns how many. */
static u32 number_slots(const swp_entry_t *entries, struct swap_io *io, u32 nr)
{
	u32 n = 0;

	for (; n < nr && swp_type(entries[n]) == swp_type(entries[0]); n++)
		io[n].slot = swp_offset(entries[n]);
	return n;
}

/*
 * What failed is read again, one by one and after a pause, where that may help: what a device at memory speed has lost
 * is lost. The pins are held meanwhile, so whoever else needs one of these pages waits as well.
 */
static void read_again(struct swap_info *si, struct swap_io *io, u32 nr)
{
	u64 pause_ns = READ_PAUSE_NS;

	for (int tries = 0; tries < READ_RETRIES; tries++, pause_ns *= 4) {
		struct atomic32 never = { 0 };
		bool paused = false;

		for (u32 i = 0; i < nr; i++) {
			if (!io[i].err)
				continue;
			if (!paused)
				sync_wait32_timeout(&never, 0, pause_ns);
			paused = true;
			io[i].err = si->dev->ops->read(si->dev, io[i].slot, io[i].page);
		}
		if (!paused)
			return;
	}
}

void swap_read_pages(struct mm *mm, const swp_entry_t *entries, struct swap_io *io, u32 nr)
{
	for (u32 i = 0, n; i < nr; i += n) {
		struct swap_info *si = swap_info(mm, entries[i]);
		u32 failed = 0;

		n = number_slots(entries + i, io + i, nr - i);
		swap_device_read_pages(si->dev, io + i, n);
		if (!(si->dev_flags & SWAP_SYNCHRONOUS_IO))
			read_again(si, io + i, n);
		for (u32 k = i; k < i + n; k++)
			failed += io[k].err != 0;
		if (failed)
			mm_stats_add(mm->stats, STAT_READ_ERROR, failed);
		mm_stats_add(mm->stats, STAT_PAGES_IN, n - failed);
	}
}

int swap_read(struct mm *mm, swp_entry_t entry, void *page)
{
	struct swap_io io = { .page = page };

	swap_read_pages(mm, &entry, &io, 1);
	return io.err;
}

/*
 * A slot that cannot be written is retired, if others can: when all of a device fails, its slots are not to blame, and
 * it is left alone for a while.
 */
static void write_failed(struct mm *mm, struct swap_info *si, u32 slot, int err)
{
	u32 failures;

	/* Full is no error: the page stays, and finds room later, or elsewhere. */
	if (err == -ENOSPC || err == -ENOMEM)
		return;
	mm_stats_add(mm->stats, STAT_WRITE_ERROR, 1);
	failures = atomic32_add_return(&si->failures, 1);
	if (failures <= FAILURES_MAX)
		slot_mark_bad(&si->table[slot]);
	if (failures >= FAILURES_MAX)
		atomic64_set(&si->retry_ns, sync_clock_ns() + WRITE_PAUSE_NS);
}

void swap_write_pages(struct mm *mm, const swp_entry_t *entries, struct swap_io *io, u32 nr)
{
	for (u32 i = 0, n; i < nr; i += n) {
		struct swap_info *si = swap_info(mm, entries[i]);
		u32 failed = 0;

		n = number_slots(entries + i, io + i, nr - i);
		swap_device_write_pages(si->dev, io + i, n);
		for (u32 k = i; k < i + n; k++) {
			if (io[k].err)
				write_failed(mm, si, io[k].slot, io[k].err);
			failed += io[k].err != 0;
		}
		mm_stats_add(mm->stats, STAT_PAGES_OUT, n - failed);
		if (failed < n && atomic32_read(&si->failures))
			atomic32_set(&si->failures, 0);
	}
}

bool swap_is_tight(struct mm *mm)
{
	u64 slots = 0, used = 0;
	u32 nr_swap = atomic32_load_acquire(&mm->nr_swap);

	for (u32 type = 0; type < nr_swap; type++) {
		if (atomic32_read(&mm->swap[type].state) != SWAP_ON)
			continue;
		slots += mm->swap[type].nr_slots;
		used += atomic64_read(&mm->swap[type].used);
	}
	return used * 2 > slots || budget_store_is_tight(mm);
}

u64 swap_used(struct mm *mm)
{
	u32 nr_swap = atomic32_load_acquire(&mm->nr_swap);
	u64 used = 0;

	for (u32 type = 0; type < nr_swap; type++)
		used += atomic64_read(&mm->swap[type].used);
	return used;
}

/* ---- devices ---- */

int swap_add(struct mm *mm, struct swap_device *dev)
{
	u32 type = atomic32_read(&mm->nr_swap);
	struct swap_info *si;

	must(mutex_is_locked(&mm->swap_lock));
	must(dev->nr_slots > 0 && dev->nr_slots <= 1u << SWAP_OFFSET_BITS);
	if (type == SWAP_TYPES_MAX)
		return -ENOSPC;
	si = &mm->swap[type];
	*si = (struct swap_info){ .dev = dev, .type = type, .nr_slots = dev->nr_slots, .dev_flags = dev->flags };
	si->prio = dev->prio == SWAP_PRIO_DEFAULT ? -1 - (int)type : dev->prio;
	si->table = vm_table_alloc((size_t)dev->nr_slots * sizeof(struct atomic64));
	if (!si->table || map_init(&si->map, dev->nr_slots)) {
		vm_table_free(si->table, (size_t)dev->nr_slots * sizeof(struct atomic64));
		return -ENOMEM;
	}
	dev->memory = (struct swap_memory){ budget_charge_store, budget_uncharge_store, mm };
	/* Release: whoever sees the device on sees all of the above. */
	atomic32_store_release(&si->state, SWAP_ON);
	atomic32_store_release(&mm->nr_swap, type + 1);
	return 0;
}

struct swap_info *swap_find(struct mm *mm, const char *name)
{
	u32 nr_swap = atomic32_read(&mm->nr_swap);

	for (u32 type = 0; type < nr_swap; type++) {
		struct swap_info *si = &mm->swap[type];

		if (atomic32_read(&si->state) == SWAP_ON && !strcmp(si->dev->name, name))
			return si;
	}
	return NULL;
}

bool swap_change_state(struct swap_info *si, enum swap_state from, enum swap_state to)
{
	u32 old = from;
	bool changed;

	atomic_full_barrier();
	changed = atomic32_cas_acquire(&si->state, &old, to);
	atomic_full_barrier(); /* before the look at `used`; meets swap_alloc_from */
	return changed;
}

bool swap_recall(struct mm *mm)
{
	u32 nr_swap = atomic32_load_acquire(&mm->nr_swap);
	bool recalled = false;

	for (u32 type = 0; type < nr_swap; type++)
		recalled |= swap_change_state(&mm->swap[type], SWAP_LEAVING, SWAP_ON);
	return recalled;
}

/*
 * A faulter may still hold a stale entry of the device and look at its slot word, so the tables of a device that has
 * left stay, and its type is not used again, until the mm ends; only the device itself is closed.
 */
bool swap_remove(struct swap_info *si)
{
	struct swap_device *dev = si->dev;

	if (!swap_change_state(si, SWAP_LEAVING, SWAP_OFF))
		return false;
	si->dev = NULL;
	dev->ops->close(dev);
	return true;
}

void swap_destroy(struct mm *mm)
{
	u32 nr_swap = atomic32_read(&mm->nr_swap);

	for (u32 type = 0; type < nr_swap; type++) {
		struct swap_info *si = &mm->swap[type];

		if (si->dev)
			si->dev->ops->close(si->dev);
		vm_table_free(si->table, (size_t)si->nr_slots * sizeof(struct atomic64));
		map_destroy(&si->map, si->nr_slots);
	}
	atomic32_set(&mm->nr_swap, 0);
}
