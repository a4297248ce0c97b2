/* SPDX-License-Identifier: MIT */
/*
 * This process's swap devices. Under `weir run` they are those of the run's list (tree/swaps.h), which `weir swapon`
 * and `weir swapoff` change while programs run; a thread of weir's own, in each process whose memory is managed,
 * follows it: opens what is new, and has the pages of what leaves come in, a few at a time, as fork waits meanwhile.
 *
 * Before memory is managed nothing lies on a device, so nobody needs to follow: devices_start() catches up.
 */
#pragma once

#include "mm/mm.h"
#include "preload/env.h"

/* Opens what the run, or the environment, says. 0, or -errno and what is wrong in `err`. Context: at start, alone. */
int must_check devices_open(struct mm *mm, struct run_counters *counters, char *err, size_t err_size);

/* Is there a list that somebody may change? */
bool devices_may_change(void);

/*
 * Starts the thread, if there is a list. Without it (no memory, a vfork child, which it would end with) the devices
 * stay as they are. Context: memory is managed; the net is armed.
 */
void devices_start(struct mm *mm);

/* Is it due? Only in a forked child: elsewhere adoption starts it. */
bool devices_are_late(const struct mm *mm);

/* In a forked child, the gate closed: what the parent's thread was about to do is given up; devices_start() follows. */
void devices_fork_child(struct mm *mm);

/*
 * Somebody of the run is about to be out of memory: devices that are being taken off come back, in this process within
 * two seconds. False: there are none. Context: inside the gate; sleeps.
 */
bool must_check devices_recall(void);
