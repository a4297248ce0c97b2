/* SPDX-License-Identifier: MIT */
/*
 * Frames: where pages are while they are out of the program's reach.
 *
 * Steal frames come in runs of FRAME_RUN. A reclaimer owns a run from get to put: it fills frames from the first on,
 * writes them back, and gives the run back empty. The number of runs bounds how much reclaim is in work at once.
 * Buffers are runs of plain memory that pages are copied through: on their way to a device where they stand, and from
 * one when several are read at once. Read frames are single; swap-in through the swap cache reads into them. Both are
 * charged at adoption, for good: frames_nr_plain().
 * Context: any thread with signals blocked. The get functions sleep until one is free; tryget does not.
 */
#pragma once

#include "mm/types.h"

int must_check frames_init(struct frame_pool *pool, u32 nr_runs, u32 nr_buffers);
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

/* Pages of plain memory. */
static inline u32 frames_nr_plain(const struct mm *mm)
{
	return mm->frames.nr_buffers * FRAME_RUN + READ_FRAMES;
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
