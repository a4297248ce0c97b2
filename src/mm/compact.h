/* SPDX-License-Identifier: MIT */
/*
 * After a mass of pages was freed, what is left lies thinly in a store's memory (SWAP_COMPACTS). It is moved together,
 * so that memory goes back; swap entries and PTEs do not change.
 *
 * Each slot whose data moves is pinned meanwhile, as for any other operation: so nobody reads what moves, and a page
 * that is dropped leaves the discard to the pin's holder. When it is worth it, the device says.
 */
#pragma once

#include "mm/types.h"

/*
 * One batch of each device. Returns how many slots' data has moved; 0: there is nothing to do, or not now.
 * Context: the background thread, or tests; signals blocked, no lock held. One thread at a time.
 */
u32 compact_run(struct mm *mm);
