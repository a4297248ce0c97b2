// SPDX-License-Identifier: MIT
#include "mm/frames.h"

#include <errno.h>

#include "mm/budget.h"
#include "sync/bits.h"

_Static_assert(FRAME_RUNS_MAX <= 64 && FRAME_BUFFERS_MAX <= 64 && READ_FRAMES <= 64, "each pool is one word of bits");

/* Of what is granted of the limit, spare runs that were taken are at most this part, and buffers as much. */
enum { LATER_SHIFT = 6 };

static void set_init(struct frame_set *set, u32 nr, u32 nr_max)
{
	must(nr > 0 && nr <= nr_max);
	*set = (struct frame_set){ .nr = nr, .nr_max = nr_max };
	bits_init(&set->spare, nr_max);
	bits_init(&set->free, nr);
	atomic64_fetch_and(&set->spare, ~atomic64_read(&set->free));
}

int frames_init(struct frame_pool *pool, const struct frame_numbers *numbers)
{
	must(numbers->nr_runs_max <= FRAME_RUNS_MAX && numbers->nr_buffers_max <= FRAME_BUFFERS_MAX);
	*pool = (struct frame_pool){ 0 };
	set_init(&pool->runs, numbers->nr_runs, numbers->nr_runs_max);
	set_init(&pool->buffers, numbers->nr_buffers, numbers->nr_buffers_max);
	bits_init(&pool->free_reads, READ_FRAMES);
	pool->desc = vm_table_alloc(numbers->nr_runs_max * FRAME_RUN * sizeof(struct frame_desc));
	return pool->desc ? 0 : -ENOMEM;
}

void frames_destroy(struct frame_pool *pool)
{
	vm_table_free(pool->desc, pool->runs.nr_max * FRAME_RUN * sizeof(struct frame_desc));
	pool->desc = NULL;
}

/* ---- runs and buffers ---- */

/* Buffers come after the steal frames, the read frames after them. */
static frame_t buffer_frame(const struct mm *mm, u32 bit)
{
	return (frame_t){ mm->vm.nr_steal_frames + bit * FRAME_RUN };
}

/* May so many be taken besides those that are there for good? */
static bool may_have_later(const struct mm *mm, u32 nr)
{
	return (u64)nr * FRAME_RUN <= budget_limit(mm) >> LATER_SHIFT;
}

/* Takes a spare one, if there is room. Two at once may take one too many, which set_put() gives back. */
static bool set_add(struct mm *mm, struct frame_set *set, u32 *bit)
{
	if (!atomic64_read(&set->spare) || !may_have_later(mm, frame_set_nr_later(set) + 1) ||
	    !bits_tryget(&set->spare, bit))
		return false;
	if (!budget_try_charge(mm, FRAME_RUN)) {
		bits_put(&set->spare, &mm->frames.waiters, *bit);
		return false;
	}
	if (set == &mm->frames.runs)
		budget_to_reserve(mm, FRAME_RUN);
	return true;
}

/* Makes one spare again that the caller has. */
static void set_remove(struct mm *mm, struct frame_set *set, u32 bit)
{
	if (set == &mm->frames.runs) {
		budget_unreserve(mm, FRAME_RUN);
	} else {
		vm_zap_frames(&mm->vm, buffer_frame(mm, bit), FRAME_RUN);
		budget_refund(mm, FRAME_RUN);
	}
	bits_put(&set->spare, &mm->frames.waiters, bit);
}

static bool set_tryget(struct mm *mm, struct frame_set *set, u32 *bit)
{
	return bits_tryget(&set->free, bit) || set_add(mm, set, bit);
}

/* Whoever sleeps will be woken: those that are never spare have owners then, who give them back. */
static u32 set_get(struct mm *mm, struct frame_set *set)
{
	u32 bit;

	return set_tryget(mm, set, &bit) ? bit : bits_get(&set->free, &mm->frames.waiters);
}

static void set_put(struct mm *mm, struct frame_set *set, u32 bit)
{
	if (bit >= set->nr && !may_have_later(mm, frame_set_nr_later(set)))
		set_remove(mm, set, bit);
	else
		bits_put(&set->free, &mm->frames.waiters, bit);
}

static void set_trim(struct mm *mm, struct frame_set *set)
{
	for (u32 bit = set->nr; bit < set->nr_max; bit++) {
		u64 mask = (u64)1 << bit;

		if (atomic64_fetch_and(&set->free, ~mask) & mask)
			set_remove(mm, set, bit);
	}
}

/* While there is room: when there is none, more reclaimers are of use and cannot have them any more. */
void frames_grow(struct mm *mm)
{
	u32 bit;

	while (set_add(mm, &mm->frames.runs, &bit))
		bits_put(&mm->frames.runs.free, &mm->frames.waiters, bit);
	while (set_add(mm, &mm->frames.buffers, &bit))
		bits_put(&mm->frames.buffers.free, &mm->frames.waiters, bit);
}

void frames_trim(struct mm *mm)
{
	set_trim(mm, &mm->frames.runs);
	set_trim(mm, &mm->frames.buffers);
}

frame_t frame_run_get(struct mm *mm)
{
	return (frame_t){ set_get(mm, &mm->frames.runs) * FRAME_RUN };
}

void frame_run_put(struct mm *mm, frame_t first, u32 used)
{
	must(first.val % FRAME_RUN == 0 && used <= FRAME_RUN);
	if (used) {
		vm_zap_frames(&mm->vm, first, used);
		budget_uncharge(mm, used);
	}
	set_put(mm, &mm->frames.runs, first.val / FRAME_RUN);
}

frame_t frame_buffer_get(struct mm *mm)
{
	return buffer_frame(mm, set_get(mm, &mm->frames.buffers));
}

bool frame_buffer_tryget(struct mm *mm, frame_t *first)
{
	u32 bit;

	if (!set_tryget(mm, &mm->frames.buffers, &bit))
		return false;
	*first = buffer_frame(mm, bit);
	return true;
}

void frame_buffer_put(struct mm *mm, frame_t first)
{
	must(frame_is_plain(mm, first));
	set_put(mm, &mm->frames.buffers, (first.val - mm->vm.nr_steal_frames) / FRAME_RUN);
}

/* ---- read frames ---- */

static u32 first_read_frame(const struct mm *mm)
{
	return mm->vm.nr_steal_frames + mm->frames.buffers.nr_max * FRAME_RUN;
}

frame_t frame_read_get(struct mm *mm)
{
	return (frame_t){ first_read_frame(mm) + bits_get(&mm->frames.free_reads, &mm->frames.waiters) };
}

void frame_read_put(struct mm *mm, frame_t frame)
{
	must(frame_is_plain(mm, frame));
	bits_put(&mm->frames.free_reads, &mm->frames.waiters, frame.val - first_read_frame(mm));
}
