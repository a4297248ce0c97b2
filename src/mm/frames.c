// SPDX-License-Identifier: MIT
#include "mm/frames.h"

#include <errno.h>

#include "mm/budget.h"
#include "sync/bits.h"

_Static_assert(FRAME_RUNS_MAX <= 64 && FRAME_BUFFERS_MAX <= 64 && READ_FRAMES <= 64, "each pool is one word of bits");

int frames_init(struct frame_pool *pool, u32 nr_runs, u32 nr_buffers)
{
	must(nr_runs > 0 && nr_runs <= FRAME_RUNS_MAX);
	must(nr_buffers > 0 && nr_buffers <= FRAME_BUFFERS_MAX);
	*pool = (struct frame_pool){ .nr_runs = nr_runs, .nr_buffers = nr_buffers };
	bits_init(&pool->free_runs, nr_runs);
	bits_init(&pool->free_buffers, nr_buffers);
	bits_init(&pool->free_reads, READ_FRAMES);
	pool->desc = vm_table_alloc(nr_runs * FRAME_RUN * sizeof(struct frame_desc));
	return pool->desc ? 0 : -ENOMEM;
}

void frames_destroy(struct frame_pool *pool)
{
	vm_table_free(pool->desc, pool->nr_runs * FRAME_RUN * sizeof(struct frame_desc));
	pool->desc = NULL;
}

frame_t frame_run_get(struct mm *mm)
{
	return (frame_t){ bits_get(&mm->frames.free_runs, &mm->frames.waiters) * FRAME_RUN };
}

void frame_run_put(struct mm *mm, frame_t first, u32 used)
{
	must(first.val % FRAME_RUN == 0 && used <= FRAME_RUN);
	if (used) {
		vm_zap_frames(&mm->vm, first, used);
		budget_uncharge(mm, used);
	}
	bits_put(&mm->frames.free_runs, &mm->frames.waiters, first.val / FRAME_RUN);
}

/* Buffers come after the steal frames, the read frames after them. */
static frame_t buffer_frame(const struct mm *mm, u32 bit)
{
	return (frame_t){ mm->vm.nr_steal_frames + bit * FRAME_RUN };
}

frame_t frame_buffer_get(struct mm *mm)
{
	return buffer_frame(mm, bits_get(&mm->frames.free_buffers, &mm->frames.waiters));
}

bool frame_buffer_tryget(struct mm *mm, frame_t *first)
{
	u32 bit;

	if (!bits_tryget(&mm->frames.free_buffers, &bit))
		return false;
	*first = buffer_frame(mm, bit);
	return true;
}

void frame_buffer_put(struct mm *mm, frame_t first)
{
	must(frame_is_plain(mm, first));
	bits_put(&mm->frames.free_buffers, &mm->frames.waiters, (first.val - mm->vm.nr_steal_frames) / FRAME_RUN);
}

static u32 first_read_frame(const struct mm *mm)
{
	return mm->vm.nr_steal_frames + mm->frames.nr_buffers * FRAME_RUN;
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
