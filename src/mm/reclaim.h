/* SPDX-License-Identifier: MIT */
/*
 * The way out: pages leave in runs of the oldest. Clean ones are dropped; dirty ones move to frames in the swap cache,
 * where they can still be taken back, and are written to their slots. Done by a faulting thread that finds no room, by
 * the background reclaimer between watermarks, and by PAGEOUT.
 * Context: signals blocked, no lock held; sleeps.
 */
#pragma once

#include "mm/types.h"

/* Charges `nr` resident pages, reclaiming for them if need be. 0; -ENOMEM: nothing more can leave. */
int must_check mm_charge(struct mm *mm, u32 nr);

/*
 * Lowers the grant of a shared limit by up to `nr` pages, making pages leave for it. Returns by how many: fewer if no
 * more can leave, or others are quicker to use what has become free.
 */
u32 must_check reclaim_and_lower(struct mm *mm, u32 nr);

/* Writes out what can leave of [start, start + nr); returns how many pages left. */
u64 reclaim_range(struct mm *mm, vpn_t start, u32 nr);

/* No run of reclaim begins for so long: whoever would begin one sleeps. The last caller's word counts. */
void reclaim_pause(struct mm *mm, u64 ns);

/* The background reclaimer. 0 or -errno. */
int must_check kswapd_start(struct mm *mm);
void kswapd_stop(struct mm *mm);

/* Wakes it, if it sleeps. */
void kswapd_wake(struct mm *mm);

/* By it: starts a helper, or wakes all that sleep. */
void kswapd_get_help(struct mm *mm);
