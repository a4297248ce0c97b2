// SPDX-License-Identifier: MIT
#include "mm/area.h"

#include <errno.h>
#include <string.h>

int area_init(struct area_set *set)
{
	*set = (struct area_set){ 0 };
	set->areas = vm_table_alloc(AREAS_MAX * sizeof(struct area));
	return set->areas ? 0 : -ENOMEM;
}

void area_destroy(struct area_set *set)
{
	vm_table_free(set->areas, AREAS_MAX * sizeof(struct area));
	set->areas = NULL;
}

/* Index of the first area that ends after `page`: the one that has it, or the next. */
__attribute__((no_sanitize("thread"))) static u32 area_index(const struct area *areas, u32 nr, u32 page)
{
	u32 low = 0, high = nr;

	while (low < high) {
		u32 mid = low + (high - low) / 2;

		if (areas[mid].end <= page)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/*
 * Reads the array while it may be changing. What comes out of a torn read is thrown away, as seq has moved; the array
 * itself never does, and the index stays within AREAS_MAX. Writer: seq odd (full barrier), change, seq even (release).
 */
__attribute__((no_sanitize("thread"))) bool area_next(struct area_set *set, vpn_t vpn, struct area *area, u32 *seq)
{
	for (;;) {
		u32 before = atomic32_load_acquire(&set->seq);
		u32 nr, i;
		bool found;

		if (before & 1) {
			sync_wait32(&set->seq, before);
			continue;
		}
		nr = atomic32_read(&set->nr);
		i = area_index(set->areas, nr, vpn.val);
		found = i < nr;
		if (found)
			*area = set->areas[i];
		atomic_full_barrier(); /* the reads above come before the second look at seq */
		if (atomic32_read(&set->seq) == before) {
			*seq = before;
			return found;
		}
	}
}

bool area_find(struct area_set *set, vpn_t vpn, struct area *area, u32 *seq)
{
	return area_next(set, vpn, area, seq) && area->start <= vpn.val;
}

bool area_unchanged(struct area_set *set, u32 seq)
{
	atomic_full_barrier(); /* the caller's PTE lock comes before this look; meets area_write_begin */
	return atomic32_read(&set->seq) == seq;
}

static void area_write_begin(struct area_set *set)
{
	must(mutex_is_locked(&set->lock));
	atomic32_set(&set->seq, atomic32_read(&set->seq) + 1);
	atomic_full_barrier(); /* odd before the array changes, and before the zapper looks at any PTE */
}

static void area_write_end(struct area_set *set)
{
	atomic32_store_release(&set->seq, atomic32_read(&set->seq) + 1);
	atomic_full_barrier(); /* even before the zapper looks at any PTE */
	sync_wake32_all(&set->seq);
}

bool area_find_gap(struct area_set *set, u32 nr_pages, u32 nr, u32 align, vpn_t *start)
{
	u32 from = set->cursor, nr_areas = atomic32_read(&set->nr);

	for (int pass = 0; pass < 2; pass++, from = 0) {
		u64 at = ALIGN_UP((u64)from, align);
		u32 i = area_index(set->areas, nr_areas, (u32)at);

		for (; at + nr <= nr_pages; at = ALIGN_UP((u64)set->areas[i++].end, align)) {
			if (i < nr_areas && set->areas[i].start < at + nr)
				continue;
			*start = (vpn_t){ (u32)at };
			set->cursor = (u32)at + nr;
			return true;
		}
	}
	return false;
}

bool area_is_free(const struct area_set *set, vpn_t start, u32 nr)
{
	u32 nr_areas = atomic32_read(&set->nr);
	u32 i = area_index(set->areas, nr_areas, start.val);

	return i == nr_areas || set->areas[i].start >= start.val + nr;
}

bool area_is_mapped(const struct area_set *set, vpn_t start, u32 nr)
{
	u32 nr_areas = atomic32_read(&set->nr), at = start.val, end = start.val + nr;

	for (u32 i = area_index(set->areas, nr_areas, at); i < nr_areas && at < end; i++) {
		if (set->areas[i].start > at)
			return false;
		at = set->areas[i].end;
	}
	return at >= end;
}

/* Pages of the range that are locked, or those that are accessible. */
static u64 count_range(const struct area_set *set, vpn_t start, u32 nr, bool locked)
{
	u32 nr_areas = atomic32_read(&set->nr), end = start.val + nr;
	u64 sum = 0;

	for (u32 i = area_index(set->areas, nr_areas, start.val); i < nr_areas && set->areas[i].start < end; i++) {
		const struct area *a = &set->areas[i];

		if (locked ? a->prot & VM_LOCKED : area_counts(a->prot))
			sum += min_u64(a->end, end) - max_u64(a->start, start.val);
	}
	return sum;
}

u64 area_accessible(const struct area_set *set, vpn_t start, u32 nr)
{
	return count_range(set, start, nr, false);
}

u64 area_locked(const struct area_set *set, vpn_t start, u32 nr)
{
	return count_range(set, start, nr, true);
}

/* Replaces areas [first, first + gone) by `nr_new` others. */
static void area_splice(struct area_set *set, u32 first, u32 gone, const struct area *new, u32 nr_new)
{
	u32 nr = atomic32_read(&set->nr);

	memmove(&set->areas[first + nr_new], &set->areas[first + gone], (nr - first - gone) * sizeof(struct area));
	memcpy(&set->areas[first], new, nr_new * sizeof(struct area));
	atomic32_set(&set->nr, nr - gone + nr_new);
}

/* What [start, end) cuts off its neighbours stays; `middle`, if any, goes between. Equal neighbours merge. */
static int area_replace(struct area_set *set, u32 start, u32 end, const struct area *middle)
{
	u32 nr = atomic32_read(&set->nr), first = area_index(set->areas, nr, start), last = first, nr_new = 0;
	struct area pieces[3] = { { 0 } }, parts[3];

	while (last < nr && set->areas[last].start < end)
		last++;
	if (middle && first > 0 && set->areas[first - 1].end == start)
		first--; /* a neighbour to merge with */
	if (middle && last < nr && set->areas[last].start == end)
		last++;
	if (middle)
		pieces[1] = *middle;
	if (first < last) {
		pieces[0] = (struct area){ set->areas[first].start, start, set->areas[first].prot };
		pieces[2] = (struct area){ end, set->areas[last - 1].end, set->areas[last - 1].prot };
	}
	for (int i = 0; i < 3; i++) {
		if (pieces[i].start >= pieces[i].end)
			continue;
		if (nr_new && parts[nr_new - 1].end == pieces[i].start && parts[nr_new - 1].prot == pieces[i].prot)
			parts[nr_new - 1].end = pieces[i].end;
		else
			parts[nr_new++] = pieces[i];
	}
	if (nr - (last - first) + nr_new > AREAS_MAX)
		return -ENOMEM;
	area_write_begin(set);
	area_splice(set, first, last - first, parts, nr_new);
	area_write_end(set);
	return 0;
}

/* What an area of this kind, or none, over the range does to the counts. Context: before the change. */
struct counts {
	u64 accessible, locked;
};

static struct counts counts_change(const struct area_set *set, vpn_t start, u32 nr, unsigned int prot)
{
	return (struct counts){
		.accessible = (area_counts(prot) ? nr : 0) - count_range(set, start, nr, false),
		.locked = (prot & VM_LOCKED ? nr : 0) - count_range(set, start, nr, true),
	};
}

static void counts_apply(struct area_set *set, struct counts c)
{
	set->nr_accessible += c.accessible;
	if (c.locked)
		atomic64_fetch_add(&set->nr_locked, c.locked);
}

int area_set_range(struct area_set *set, vpn_t start, u32 nr, unsigned int prot)
{
	struct area middle = { start.val, start.val + nr, prot };
	struct counts change = counts_change(set, start, nr, prot);
	int ret;

	must(nr > 0 && mutex_is_locked(&set->lock));
	ret = area_replace(set, middle.start, middle.end, &middle);
	if (!ret)
		counts_apply(set, change);
	return ret;
}

int area_clear_range(struct area_set *set, vpn_t start, u32 nr)
{
	struct counts change = counts_change(set, start, nr, VM_NONE);
	int ret;

	must(nr > 0 && mutex_is_locked(&set->lock));
	ret = area_replace(set, start.val, start.val + nr, NULL);
	if (!ret)
		counts_apply(set, change);
	return ret;
}

int area_change_range(struct area_set *set, vpn_t start, u32 nr, unsigned int clear, unsigned int add)
{
	u32 end = start.val + nr, seq;
	struct area a;

	for (u32 at = start.val; at < end && area_next(set, (vpn_t){ at }, &a, &seq) && a.start < end; at = a.end) {
		u32 from = (u32)max_u64(a.start, start.val), to = (u32)min_u64(a.end, end);
		unsigned int prot = (a.prot & ~clear) | add;
		int ret = prot == a.prot ? 0 : area_set_range(set, (vpn_t){ from }, to - from, prot);

		if (ret)
			return ret;
	}
	return 0;
}
