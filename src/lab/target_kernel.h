/* SPDX-License-Identifier: MIT */
/* The running kernel's own swap as a target: ordinary memory and MADV_PAGEOUT. */
#pragma once

#include "lab/race.h"

extern const struct race_target kernel_race_target;

/* Is any swap on? What to say if not: one line that names commands. */
bool kernel_swap_is_active(void);
extern const char kernel_swap_hint[];

/* Pages that the whole system has read from and written to swap since it began; zeroes where that is not told. */
struct kernel_swap_counts {
	uint64_t in, out;
};
struct kernel_swap_counts kernel_swap_counts(void);
