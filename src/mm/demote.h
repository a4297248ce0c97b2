/* SPDX-License-Identifier: MIT */
/*
 * Down from the store: where a device has a lower one (SWAP_DEMOTES), its cold slots go there, still compressed, before
 * the store is full, or when they are idle. Swap entries and PTEs do not change; the device knows where its slots are.
 *
 * Each slot that moves is pinned meanwhile, as for any other operation; a faulter that wants it waits for the pin, and
 * one that drops it leaves the end of it to the pin's holder. Done by a thread of its own, as the device below may be
 * slow, and reclaim goes on.
 * Context: signals blocked, no lock held; sleeps, unless it says otherwise.
 */
#pragma once

#include "mm/types.h"

/* One batch of each device. Returns how many slots have moved. One thread at a time: the background thread, or tests.
 */
u32 demote_run(struct mm *mm, u64 idle_ns);

/* After pages were stored: wakes the background thread if the store has passed the watermark. Does not sleep. */
void demote_wake(struct mm *mm);

/*
 * Where the store is full: waits, for 100 ms at most, until slots have moved. False: none have, so it does not help to
 * try again.
 */
bool must_check demote_wait(struct mm *mm);

/* Before pages are stored: where the store is all but full, waits until some slots have moved, for 100 ms at most. */
void demote_throttle(struct mm *mm);

/* The background thread; there is none without a device that has a lower one. 0 or -errno. */
int must_check kwriteback_start(struct mm *mm);
void kwriteback_stop(struct mm *mm);
