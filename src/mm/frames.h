/* SPDX-License-Identifier: MIT */
/*
 * Frames: where pages are while they are out of the program's reach.
 *
 * Steal frames come in runs of FRAME_RUN. A reclaimer owns a run from get to put: it fills frames from the first on,
 * writes them back, and gives the run back empty. The number of runs bounds how much reclaim is in work at once.
 * Read frames are single; swap-in through the swap cache reads into them.
 * Context: any thread with signals blocked. The get functions sleep until one is free.
 */
#pragma once

#include "mm/types.h"

int must_check frames_init(struct frame_pool *pool, u32 nr_runs);
void frames_destroy(struct frame_pool *pool);

/* The first frame of an empty run. */
frame_t frame_run_get(struct mm *mm);

/* Empties the first `used` frames (their pages are uncharged) and gives the run back. */
void frame_run_put(struct mm *mm, frame_t first, u32 used);

frame_t frame_read_get(struct mm *mm);
void frame_read_put(struct mm *mm, frame_t frame);

static inline bool frame_is_read(const struct mm *mm, frame_t frame)
{
	return frame.val >= mm->vm.nr_steal_frames;
}

static inline struct frame_desc *frame_desc(struct mm *mm, frame_t frame)
{
	check(!frame_is_read(mm, frame));
	return &mm->frames.desc[frame.val];
}
