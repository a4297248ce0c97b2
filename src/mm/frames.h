/* SPDX-License-Identifier: MIT */
/*
 * Frames: where pages are while they are out of the program's reach.
 *
 * Steal frames come in runs of FRAME_RUN. A reclaimer owns a run from get to put: it fills frames from the first on,
 * writes them back, and gives the run back empty. The number of runs bounds how much reclaim is in work at once.
 * Buffers are runs of plain memory that pages are copied through: on their way to a device where they stand, and from
 * one when several are read at once. Read frames are single; swap-in through the swap cache reads into them. Both are
 * charged at adoption, for good.
 *
 * Where the limit is shared, each of many processes can only have few runs and buffers for good. Beyond these there are
 * spare ones, for which a process with a large grant keeps FRAME_RUN pages each, a buffer's memory or a run's reserve:
 * from adoption on, or when it finds no other. It gives them back when it is asked for memory, or its grant is small.
 * Context: any thread with signals blocked. The get functions sleep until one is free; tryget does not.
 */
#pragma once

#include "mm/types.h"

/* nr of runs and buffers for good, nr_max with the spare ones. 0 or -ENOMEM. */
struct frame_numbers {
	u32 nr_runs, nr_runs_max, nr_buffers, nr_buffers_max;
};
int must_check frames_init(struct frame_pool *pool, const struct frame_numbers *numbers);
void frames_destroy(struct frame_pool *pool);

/* The first frame of an empty run. */
frame_t frame_run_get(struct mm *mm);

/* Empties the first `used` frames (their pages are uncharged) and gives the run back. */
void frame_run_put(struct mm *mm, frame_t first, u32 used);

/* The first frame of a buffer. */
frame_t frame_buffer_get(struct mm *mm);
bool must_check frame_buffer_tryget(struct mm *mm, frame_t *first);
void frame_buffer_put(struct mm *mm, frame_t first);

frame_t frame_read_get(struct mm *mm);
void frame_read_put(struct mm *mm, frame_t frame);

/* Takes the spare runs and buffers that the grant allows; makes spare again what nobody uses of them. */
void frames_grow(struct mm *mm);
void frames_trim(struct mm *mm);

/* Nobody has a run, or a buffer. A hint, unless the mm is quiet. */
static inline bool frame_set_is_idle(const struct frame_set *set)
{
	u64 known = atomic64_read(&set->free) | atomic64_read(&set->spare);

	return (u32)__builtin_popcountll(known) == set->nr_max;
}

/* How many of the spare ones are not spare just now. */
static inline u32 frame_set_nr_later(const struct frame_set *set)
{
	return set->nr_max - set->nr - (u32)__builtin_popcountll(atomic64_read(&set->spare));
}

/* Pages that are charged: all plain frames, but those of spare buffers. */
static inline u32 frames_nr_charged(const struct mm *mm)
{
	const struct frame_set *buffers = &mm->frames.buffers;

	return (buffers->nr + frame_set_nr_later(buffers)) * FRAME_RUN + READ_FRAMES;
}

static inline bool frame_is_plain(const struct mm *mm, frame_t frame)
{
	return frame.val >= mm->vm.nr_steal_frames;
}

static inline struct frame_desc *frame_desc(struct mm *mm, frame_t frame)
{
	check(!frame_is_plain(mm, frame));
	return &mm->frames.desc[frame.val];
}
