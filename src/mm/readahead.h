/* SPDX-License-Identifier: MIT */
/*
 * Readahead by address: swapped pages are brought in before they are touched, many by one install.
 *
 * No stream is remembered: one is seen where it has just passed. If the pages before a fault came in recently, the
 * program is on its way through them, and twice as many as they are (up to VM_RUN_MAX) are read ahead; so a window
 * doubles from fault to fault, any number of streams go on at once, forward or backward, and a touch at random, whose
 * neighbours are old or absent, reads nothing.
 *
 * Unless much memory is free, as after a program has given back what it had at its peak: then a few pages of a block
 * that are wanted, in whatever order, bring the rest of it, as a fault takes longer than several pages of a run do.
 * Context: signals blocked, no lock held. Never sleeps for another's pin or lock, never reclaims: gives up instead.
 */
#pragma once

#include "mm/types.h"

/* After a fault on a swapped page was served; `orig_pte` is what it was before. */
void readahead(struct mm *mm, vpn_t vpn, u64 orig_pte, bool write);

/*
 * By the background thread: what a stream will want after the run that its own thread has just read, so that it finds
 * every other run there, or is at work on the next one while this is.
 */
void readahead_behind(struct mm *mm);

/*
 * Instead of waiting for the background thread, which is at work on a stream's next run, vpn the first page of it: the
 * run after that. False: nothing was done.
 */
bool must_check readahead_meanwhile(struct mm *mm, vpn_t vpn, bool write);

/*
 * Instead of serving a fault on a page of a device that is not synchronous: the page and what its stream will want
 * next, in one batch of requests. False: the page is not there yet, as there is no stream, no room, or an error.
 */
bool must_check readahead_with(struct mm *mm, vpn_t vpn, bool write);

enum ra_flags {
	RA_KEEP = 1 << 0, /* the pages come in clean, and their slots keep their data */
	RA_READS = 1 << 1, /* so at least where slots lie on a lower device: nobody is going to write to the pages */
	RA_STREAMED = 1 << 2, /* nobody has asked for them but a stream, which is going to pass them (lru.h) */
	RA_FLAGS_BITS = 3,
};

/* Brings in what it can of [first, first + nr), nr <= VM_RUN_MAX; `flags` of enum ra_flags. Returns how many pages. */
u32 readahead_range(struct mm *mm, vpn_t first, u32 nr, u32 flags);
