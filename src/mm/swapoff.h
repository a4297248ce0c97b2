/* SPDX-License-Identifier: MIT */
/*
 * Taking a swap device out of use. Its state is LEAVING meanwhile: it hands out no slots, and all that lies there comes
 * in, for which other pages may leave to other devices. Nothing is lost if it ends early: the device hands out slots
 * again, and what is still there stays there.
 *
 * In steps, so that those who must wait for it (fork) come in between, and so that it can be given up at any time: by
 * its owner, or by whoever would be out of memory otherwise (swap_recall). The state tells who was first: from LEAVING
 * to ON and to OFF by compare-and-swap.
 * Context of all: signals blocked, no lock held; they sleep, unless it says otherwise. One caller at a time for a
 * device; other threads may do anything else.
 */
#pragma once

#include "mm/types.h"

struct swapoff {
	u32 type; /* the device */
	u32 at; /* the page to be looked at next */
	u32 passes; /* over all pages, done */
};

/* 0, or -ENOENT: the device is not on. */
int must_check swapoff_begin(struct mm *mm, u32 type, struct swapoff *off);

/*
 * Looks at up to `nr` pages. 1: there is more to do; 0: the device is closed. Otherwise it is on again: -ENOMEM (it
 * does not fit, or another needed it), -EIO (a page cannot be read). Not to be called any more after 0 or an error.
 */
int must_check swapoff_step(struct mm *mm, struct swapoff *off, u32 nr);

/* Pages that are on a device and not in memory. Looks at all of them. */
u64 swapoff_nr_absent(struct mm *mm);

/* The device is on again. Also by another thread than the owner's, and in a forked child. */
void swapoff_cancel(struct mm *mm, u32 type);
