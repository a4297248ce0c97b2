// SPDX-License-Identifier: MIT
#include "swap/lower.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/os.h"
#include "swap/pages.h"
#include "swap/slot_table.h"
#include "sync/lock.h"

enum {
	BATCH_PAGES = 32, /* written at once */
	SMALL_LOANS = 8,
	SMALL_PAGES = 2, /* what one object needs */
	LARGE_PAGES = 16,
	BUFFER_PAGES = BATCH_PAGES + SMALL_LOANS * SMALL_PAGES + LARGE_PAGES,
	RESERVE_PAGES = 64, /* for the tables and buffers of what is written when memory is used up */
	SPARSE_BYTES = PAGE_SIZE / 4,
	SHORT_SHIFT = 3, /* fewer than one in eight are free */
	LOOKS_MAX = 1 << 16, /* at slots, for one batch */
	READ_RETRIES = 3,
	READ_PAUSE_NS = 10000000, /* before the first; each is four times as long */
	PAGE_TAKEN = 1 << 16, /* in a page's word, above the number of live bytes */
};

_Static_assert((int)BATCH_PAGES <= (int)SWAP_BATCH_MAX, "a batch is one call");

/* Pages that were read. Whoever has the lock has all of it; one that finds none free waits for one. */
struct lower_loan {
	struct mutex lock;
	u32 nr, nr_max;
	struct swap_io io[LARGE_PAGES];
	char *pages;
};

struct lower {
	struct swap_device *dev;
	const struct swap_memory *memory;
	struct swap_memory own; /* through which all is charged: what is refused may come from the reserve */
	struct page_account account;
	struct atomic32 reserve; /* pages that are charged, and not in use */
	struct atomic32 prepared; /* release: the buffers are charged */
	struct mutex preparing;
	struct lower_counts *counts, own_counts;

	/*
	 * By slot: 0: free; PAGE_TAKEN and the number of live bytes. Only the packer takes a slot; whoever takes away
	 * its last byte discards it and then, by a release that meets the packer's acquire, makes it 0.
	 */
	struct slot_table live;
	struct atomic64 nr_used;

	/* The packer's alone. */
	u32 hand, high_water; /* where the search for free slots goes on; slots that were ever used */
	u32 slots[BATCH_PAGES], nr_slots;
	struct swap_io io[BATCH_PAGES];
	u32 position; /* in `batch`, bytes */
	char *batch;

	char *buffers; /* BUFFER_PAGES: `batch` and the loans' */
	struct lower_loan small[SMALL_LOANS], large;
};

/* ---- memory ---- */

/* False: it has not got so much. */
static bool take_from_reserve(struct lower *l, u64 pages)
{
	u32 old = atomic32_read(&l->reserve);

	do {
		if (old < pages)
			return false;
	} while (!atomic32_cas_acquire(&l->reserve, &old, old - (u32)pages));
	/* They are charged already, and no longer ours. */
	atomic64_fetch_sub(&l->account.nr_pages, pages);
	return true;
}

static int lower_charge(void *ctx, u64 pages)
{
	struct lower *l = ctx;
	int ret = l->memory->charge ? l->memory->charge(l->memory->ctx, pages) : 0;

	return ret && take_from_reserve(l, pages) ? 0 : ret;
}

static void lower_uncharge(void *ctx, u64 pages)
{
	struct lower *l = ctx;

	if (l->memory->uncharge)
		l->memory->uncharge(l->memory->ctx, pages);
}

static void fill_reserve(struct lower *l)
{
	while (atomic32_read(&l->reserve) < RESERVE_PAGES) {
		if (l->memory->charge && l->memory->charge(l->memory->ctx, 1))
			return;
		atomic64_fetch_add(&l->account.nr_pages, 1);
		atomic32_add_return(&l->reserve, 1);
	}
}

int lower_prepare(struct lower *l)
{
	int ret = 0;

	if (likely(atomic32_load_acquire(&l->prepared)))
		return 0;
	mutex_lock(&l->preparing);
	if (!atomic32_read(&l->prepared)) {
		ret = page_account_charge(&l->account, BUFFER_PAGES);
		if (!ret) {
			fill_reserve(l);
			atomic32_store_release(&l->prepared, 1);
		}
	}
	mutex_unlock(&l->preparing);
	return ret;
}

/* ---- slots ---- */

static struct atomic32 *live_of(const struct lower *l, u32 slot)
{
	return slot_table_entry(&l->live, slot);
}

static void give_slot(struct lower *l, u32 slot)
{
	if (l->dev->flags & SWAP_DISCARD)
		l->dev->ops->discard(l->dev, slot);
	atomic64_fetch_sub(&l->nr_used, 1);
	atomic32_store_release(live_of(l, slot), 0);
}

static void put_bytes(struct lower *l, u32 slot, u32 bytes)
{
	u32 left = atomic32_sub_return(live_of(l, slot), bytes);

	must((left & PAGE_TAKEN) && left - PAGE_TAKEN <= PAGE_SIZE - bytes);
	if (left == PAGE_TAKEN)
		give_slot(l, slot);
}

static void take_slot(struct lower *l, u32 slot)
{
	atomic32_set(live_of(l, slot), PAGE_TAKEN);
	atomic64_fetch_add(&l->nr_used, 1);
	l->slots[l->nr_slots++] = slot;
}

/*
 * New ones as long as more than half of the old ones are in use: among the others there are neighbours, and they are
 * soon found.
 */
static void take_slots(struct lower *l)
{
	bool grows = atomic64_read(&l->nr_used) * 2 >= l->high_water && l->high_water < l->dev->nr_slots;
	u32 looks = grows ? 0 : (u32)min_u64(l->high_water, LOOKS_MAX);

	l->nr_slots = 0;
	for (; looks > 0 && l->nr_slots < BATCH_PAGES; looks--) {
		u32 slot = l->hand;

		l->hand = slot + 1 < l->high_water ? slot + 1 : 0;
		if (!atomic32_load_acquire(live_of(l, slot)))
			take_slot(l, slot);
	}
	while (l->nr_slots < BATCH_PAGES && l->high_water < l->dev->nr_slots &&
	       !slot_table_charge(&l->live, l->high_water))
		take_slot(l, l->high_water++);
}

/* What of the object lies in its first page. */
static u32 bytes_in_first(const struct lower_object *object)
{
	return (u32)min_u64(object->size, PAGE_SIZE - object->place % PAGE_SIZE);
}

static u32 slot_of(const struct lower_object *object)
{
	return (u32)(object->place >> PAGE_SHIFT);
}

void lower_free(struct lower *l, const struct lower_object *object)
{
	u32 first = bytes_in_first(object);

	put_bytes(l, slot_of(object), first);
	if (object->size > first)
		put_bytes(l, slot_of(object) + 1, object->size - first);
}

bool lower_is_short(const struct lower *l)
{
	return l->dev->nr_slots - atomic64_read(&l->nr_used) < l->dev->nr_slots >> SHORT_SHIFT;
}

bool lower_is_sparse(const struct lower *l, const struct lower_object *object)
{
	return atomic32_read(live_of(l, slot_of(object))) - PAGE_TAKEN <= SPARSE_BYTES;
}

/* ---- a batch ---- */

bool lower_begin(struct lower *l)
{
	must(atomic32_read(&l->prepared));
	fill_reserve(l);
	l->position = 0;
	take_slots(l);
	return l->nr_slots > 0;
}

/* May an object go on from this page of the batch to the next? */
static bool has_neighbour(const struct lower *l, u32 page)
{
	return page + 1 < l->nr_slots && l->slots[page + 1] == l->slots[page] + 1;
}

s64 lower_pack(struct lower *l, const void *data, u32 size)
{
	u32 at = l->position, offset = at % PAGE_SIZE;

	must(size > 0 && size <= PAGE_SIZE);
	if (offset + size > PAGE_SIZE && !has_neighbour(l, at / PAGE_SIZE))
		at = (u32)ALIGN_UP(at, PAGE_SIZE);
	if (at + size > l->nr_slots * PAGE_SIZE)
		return -ENOSPC;
	memcpy(l->batch + at, data, size);
	l->position = at + size;
	return at;
}

void lower_write(struct lower *l)
{
	u32 nr = (u32)DIV_ROUND_UP(l->position, PAGE_SIZE), failed = 0;

	for (u32 i = 0; i < nr; i++)
		l->io[i] = (struct swap_io){ .slot = l->slots[i], .page = l->batch + i * PAGE_SIZE };
	/* What an earlier batch has left there. */
	memset(l->batch + l->position, 0, nr * PAGE_SIZE - l->position);
	if (nr)
		swap_device_write_pages(l->dev, l->io, nr);
	for (u32 i = 0; i < nr; i++)
		failed += l->io[i].err != 0;
	atomic64_fetch_add(&l->counts->pages_down, nr - failed);
	atomic64_fetch_add(&l->counts->errors, failed);
}

bool lower_commit(struct lower *l, s64 position, struct lower_object *object)
{
	u32 page = (u32)position / PAGE_SIZE, first;

	object->place = ((u64)l->slots[page] << PAGE_SHIFT) + (u32)position % PAGE_SIZE;
	first = bytes_in_first(object);
	if (l->io[page].err || (object->size > first && l->io[page + 1].err))
		return false;
	atomic32_add_return(live_of(l, l->slots[page]), first);
	if (object->size > first)
		atomic32_add_return(live_of(l, l->slots[page + 1]), object->size - first);
	atomic64_fetch_add(&l->counts->objects_down, 1);
	return true;
}

void lower_count_saved(struct lower *l, u32 bytes)
{
	atomic64_fetch_add(&l->counts->recompressed, 1);
	atomic64_fetch_add(&l->counts->bytes_saved, bytes);
}

/* Nobody but the packer's caller knows of these slots as yet. */
void lower_end(struct lower *l)
{
	for (u32 i = 0; i < l->nr_slots; i++) {
		if (atomic32_read(live_of(l, l->slots[i])) == PAGE_TAKEN)
			give_slot(l, l->slots[i]);
	}
	l->nr_slots = 0;
}

/* ---- reading ---- */

/* Where the slot's page is in the loan, -1 if it is not; with `both` the next slot's must follow it. */
static int find_page(const struct lower_loan *loan, u32 slot, bool both)
{
	for (u32 i = 0; i < loan->nr; i++) {
		if (loan->io[i].slot == slot && (!both || (i + 1 < loan->nr && loan->io[i + 1].slot == slot + 1)))
			return (int)i;
	}
	return -1;
}

static void add_page(struct lower_loan *loan, u32 slot)
{
	loan->io[loan->nr] = (struct swap_io){ .slot = slot, .page = loan->pages + loan->nr * PAGE_SIZE };
	loan->nr++;
}

/* False: there is no room. */
static bool add_object(struct lower_loan *loan, const struct lower_object *object)
{
	u32 slot = slot_of(object);
	bool both = bytes_in_first(object) < object->size, has_first;

	if (find_page(loan, slot, both) >= 0)
		return true;
	has_first = both && loan->nr && loan->io[loan->nr - 1].slot == slot;
	/* No slot twice in a batch. */
	if (both && ((!has_first && find_page(loan, slot, false) >= 0) || find_page(loan, slot + 1, false) >= 0))
		return false;
	if (loan->nr + 1u + (both && !has_first) > loan->nr_max)
		return false;
	if (!has_first)
		add_page(loan, slot);
	if (both)
		add_page(loan, slot + 1);
	return true;
}

static struct lower_loan *loan_get(struct lower *l, u32 nr, u32 slot)
{
	struct lower_loan *loan = &l->small[slot % SMALL_LOANS];

	if (nr > 1 && mutex_trylock(&l->large.lock))
		return &l->large;
	for (u32 i = 0; i < SMALL_LOANS; i++) {
		if (mutex_trylock(&l->small[(slot + i) % SMALL_LOANS].lock))
			return &l->small[(slot + i) % SMALL_LOANS];
	}
	mutex_lock(&loan->lock);
	return loan;
}

/* The core tries again with devices that take their time, and takes zram for none of them. */
static void read_again(struct lower *l, struct lower_loan *loan)
{
	u64 pause_ns = READ_PAUSE_NS;

	for (int tries = 0; tries < READ_RETRIES; tries++, pause_ns *= 4) {
		struct atomic32 never = { 0 };
		bool paused = false;

		for (u32 i = 0; i < loan->nr; i++) {
			if (!loan->io[i].err)
				continue;
			if (!paused)
				sync_wait32_timeout(&never, 0, pause_ns);
			paused = true;
			atomic64_fetch_add(&l->counts->pages_up, 1);
			loan->io[i].err = l->dev->ops->read(l->dev, loan->io[i].slot, loan->io[i].page);
		}
		if (!paused)
			return;
	}
}

u32 lower_borrow(struct lower *l, const struct lower_object *objects, u32 nr, struct lower_loan **out)
{
	struct lower_loan *loan = loan_get(l, nr, slot_of(objects));
	u32 got = 0;

	loan->nr = 0;
	while (got < nr && add_object(loan, &objects[got]))
		got++;
	must(got > 0);
	swap_device_read_pages(l->dev, loan->io, loan->nr);
	atomic64_fetch_add(&l->counts->pages_up, loan->nr);
	read_again(l, loan);
	*out = loan;
	return got;
}

const void *lower_data(const struct lower_loan *loan, const struct lower_object *object)
{
	bool both = bytes_in_first(object) < object->size;
	int page = find_page(loan, slot_of(object), both);

	must(page >= 0);
	if (loan->io[page].err || (both && loan->io[page + 1].err))
		return NULL;
	return loan->pages + (u32)page * PAGE_SIZE + object->place % PAGE_SIZE;
}

void lower_return(struct lower_loan *loan)
{
	mutex_unlock(&loan->lock);
}

/* ---- life ---- */

struct swap_device *lower_device(struct lower *l)
{
	return l->dev;
}

void lower_fork_child(struct lower *l)
{
	l->counts = &l->own_counts;
}

void lower_place(struct lower *l, const struct lower_object *object, struct swap_place *place)
{
	if (slot_of(object) >= l->dev->nr_slots)
		return;
	swap_device_place(l->dev, slot_of(object), place);
	place->offset += object->place % PAGE_SIZE;
}

void lower_report(struct lower *l, struct swap_device_stats *stats)
{
	struct swap_device_stats below = { 0 };

	l->dev->ops->stats(l->dev, &below);
	stats->mem_used_total += pages_to_bytes(atomic64_read(&l->account.nr_pages)) + below.mem_used_total;
	stats->mem_used_max += pages_to_bytes(atomic64_read(&l->account.nr_pages_max)) + below.mem_used_max;
}

static void lower_destroy(struct lower *l)
{
	page_account_uncharge(&l->account, atomic64_read(&l->account.nr_pages));
	slot_table_destroy(&l->live);
	os_unreserve(l->buffers, BUFFER_PAGES * PAGE_SIZE);
	os_unreserve(l, sizeof(*l));
}

void lower_close(struct lower *l)
{
	l->dev->ops->close(l->dev);
	lower_destroy(l);
}

static void init_loans(struct lower *l)
{
	char *page = l->buffers + BATCH_PAGES * PAGE_SIZE;

	l->batch = l->buffers;
	for (u32 i = 0; i < SMALL_LOANS; i++, page += SMALL_PAGES * PAGE_SIZE) {
		l->small[i].pages = page;
		l->small[i].nr_max = SMALL_PAGES;
	}
	l->large.pages = page;
	l->large.nr_max = LARGE_PAGES;
}

int lower_open(struct swap_device *dev, const struct swap_memory *memory, struct lower_counts *counts,
	       struct lower **out)
{
	struct lower *l = os_reserve(sizeof(*l));
	int ret;

	if (!l)
		return -ENOMEM;
	l->dev = dev;
	l->memory = memory;
	l->counts = counts ? counts : &l->own_counts;
	l->own = (struct swap_memory){ lower_charge, lower_uncharge, l };
	l->account.memory = &l->own;
	l->buffers = pages_reserve(BUFFER_PAGES * PAGE_SIZE);
	ret = l->buffers ? slot_table_init(&l->live, dev->nr_slots, sizeof(struct atomic32), &l->account) : -ENOMEM;
	if (ret) {
		lower_destroy(l);
		return ret;
	}
	init_loans(l);
	dev->memory = l->own;
	*out = l;
	return 0;
}
