// SPDX-License-Identifier: MIT
#include "mm/frames.h"

#include <errno.h>

#include "base/mutation.h"
#include "mm/budget.h"

_Static_assert(FRAME_RUNS_MAX <= 64 && FRAME_BUFFERS_MAX <= 64 && READ_FRAMES <= 64, "each pool is one word of bits");

static u64 low_bits(u32 nr)
{
	return nr == 64 ? ~(u64)0 : ((u64)1 << nr) - 1;
}

int frames_init(struct frame_pool *pool, u32 nr_runs, u32 nr_buffers)
{
	must(nr_runs > 0 && nr_runs <= FRAME_RUNS_MAX);
	must(nr_buffers > 0 && nr_buffers <= FRAME_BUFFERS_MAX);
	*pool = (struct frame_pool){ .nr_runs = nr_runs, .nr_buffers = nr_buffers };
	atomic64_set(&pool->free_runs, low_bits(nr_runs));
	atomic64_set(&pool->free_buffers, low_bits(nr_buffers));
	atomic64_set(&pool->free_reads, low_bits(READ_FRAMES));
	pool->desc = vm_table_alloc(nr_runs * FRAME_RUN * sizeof(struct frame_desc));
	return pool->desc ? 0 : -ENOMEM;
}

void frames_destroy(struct frame_pool *pool)
{
	vm_table_free(pool->desc, pool->nr_runs * FRAME_RUN * sizeof(struct frame_desc));
	pool->desc = NULL;
}

/* Takes the lowest free bit, if there is one. */
static bool bit_tryget(struct atomic64 *bits, u32 *bit)
{
	u64 old = atomic64_read(bits);

	while (old) {
		if (atomic64_cas_acquire(bits, &old, old & (old - 1))) {
			*bit = (u32)__builtin_ctzll(old);
			return true;
		}
	}
	return false;
}

/* Sleepers wait for `waiters` to change, read before the look at the bits. */
static u32 bit_get(struct frame_pool *pool, struct atomic64 *bits)
{
	for (;;) {
		u32 seen = atomic32_load_acquire(&pool->waiters), bit;

		if (bit_tryget(bits, &bit))
			return bit;
		sync_wait32(&pool->waiters, seen);
	}
}

/* Release: what was done with the frames is over before another may take them. */
static void bit_put(struct frame_pool *pool, struct atomic64 *bits, u32 bit)
{
	u64 old = atomic64_fetch_or(bits, (u64)1 << bit);

	must(!(old & (u64)1 << bit));
	if (!mutate(MUTATE_FRAME_NO_BUMP))
		atomic32_add_return(&pool->waiters, 1);
	if (old == 0)
		sync_wake32_all(&pool->waiters);
}

frame_t frame_run_get(struct mm *mm)
{
	return (frame_t){ bit_get(&mm->frames, &mm->frames.free_runs) * FRAME_RUN };
}

void frame_run_put(struct mm *mm, frame_t first, u32 used)
{
	must(first.val % FRAME_RUN == 0 && used <= FRAME_RUN);
	if (used) {
		vm_zap_frames(&mm->vm, first, used);
		budget_uncharge(mm, used);
	}
	bit_put(&mm->frames, &mm->frames.free_runs, first.val / FRAME_RUN);
}

/* Buffers come after the steal frames, the read frames after them. */
static frame_t buffer_frame(const struct mm *mm, u32 bit)
{
	return (frame_t){ mm->vm.nr_steal_frames + bit * FRAME_RUN };
}

frame_t frame_buffer_get(struct mm *mm)
{
	return buffer_frame(mm, bit_get(&mm->frames, &mm->frames.free_buffers));
}

bool frame_buffer_tryget(struct mm *mm, frame_t *first)
{
	u32 bit;

	if (!bit_tryget(&mm->frames.free_buffers, &bit))
		return false;
	*first = buffer_frame(mm, bit);
	return true;
}

void frame_buffer_put(struct mm *mm, frame_t first)
{
	must(frame_is_plain(mm, first));
	bit_put(&mm->frames, &mm->frames.free_buffers, (first.val - mm->vm.nr_steal_frames) / FRAME_RUN);
}

static u32 first_read_frame(const struct mm *mm)
{
	return mm->vm.nr_steal_frames + mm->frames.nr_buffers * FRAME_RUN;
}

frame_t frame_read_get(struct mm *mm)
{
	return (frame_t){ first_read_frame(mm) + bit_get(&mm->frames, &mm->frames.free_reads) };
}

void frame_read_put(struct mm *mm, frame_t frame)
{
	must(frame_is_plain(mm, frame));
	bit_put(&mm->frames, &mm->frames.free_reads, frame.val - first_read_frame(mm));
}
