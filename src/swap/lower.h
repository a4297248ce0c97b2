/* SPDX-License-Identifier: MIT */
/*
 * What zram keeps on a lower device: objects of 1 to 4096 bytes, packed into the device's pages in batches. An object
 * lies in one page, or in two that have neighbouring slots, so that pages are full whatever the sizes are.
 *
 * Of each page the bytes that are live are counted; with the last of them the slot is discarded, and free. Objects of
 * pages of which little is live can be packed again, which frees those pages.
 *
 * One thread at a time packs (lower_begin to lower_end). Reads and frees: any thread, signal handlers too; who has
 * an object to itself reads and frees it.
 */
#pragma once

#include "swap/swap_device.h"
#include "sync/atomic.h"

struct lower;
struct lower_loan;

/* Plain memory without pointers, which may be shared; relaxed sums. */
struct lower_counts {
	struct atomic64 objects_down; /* that came to lie on the device, those packed again included */
	struct atomic64 pages_down; /* written to it */
	struct atomic64 pages_up; /* read from it, and bad ones again */
	struct atomic64 errors; /* writes that failed */
	struct atomic64 recompressed; /* objects that were compressed harder on their way */
	struct atomic64 bytes_saved; /* by that */
};

/* Where an object lies. */
struct lower_object {
	u64 place; /* slot * PAGE_SIZE + offset */
	u32 size;
};

/*
 * Takes `dev` over, unless it fails: 0 or -ENOMEM. Memory is charged to *memory, which may be filled in later, before
 * the first lower_prepare(). `counts` may be NULL.
 */
int must_check lower_open(struct swap_device *dev, const struct swap_memory *memory, struct lower_counts *counts,
			  struct lower **out);
void lower_close(struct lower *l);
struct swap_device *lower_device(struct lower *l);

/* In a forked child, whose doings are not to be counted with the parent's. */
void lower_fork_child(struct lower *l);

/*
 * Charges the buffers: before anything is kept that is to be written below one day, as then there may be no room for
 * them. 0, or what the charge was refused with. Cheap when done.
 */
int must_check lower_prepare(struct lower *l);

/* A batch: begin, pack, write, commit what was packed, end. False: no page is free. */
bool must_check lower_begin(struct lower *l);

/* Position in the batch, or -ENOSPC: it is full. */
s64 must_check lower_pack(struct lower *l, const void *data, u32 size);
void lower_write(struct lower *l);

/* Has what was packed there been written? Then it is live from here on, and `place` of *object is set. */
bool must_check lower_commit(struct lower *l, s64 position, struct lower_object *object);
void lower_end(struct lower *l);

/* An object that was committed had been made smaller by so much. */
void lower_count_saved(struct lower *l, u32 bytes);

/*
 * Reads objects, as many from the first on as there is room for, one at least; returns how many. Errors are tried
 * again. Sleeps. lower_data: the object's bytes until lower_return, or NULL: the device has failed.
 */
u32 lower_borrow(struct lower *l, const struct lower_object *objects, u32 nr, struct lower_loan **loan);
const void *lower_data(const struct lower_loan *loan, const struct lower_object *object);
void lower_return(struct lower_loan *loan);

void lower_free(struct lower *l, const struct lower_object *object);

/* Is the device short of free pages? Is most of the object's page dead, so that it is worth packing it again? Hints. */
bool lower_is_short(const struct lower *l);
bool lower_is_sparse(const struct lower *l, const struct lower_object *object);

/* For messages: where the object lies, if such a place there is. */
void lower_place(struct lower *l, const struct lower_object *object, struct swap_place *place);

/* Adds the memory of the device and of what is here. */
void lower_report(struct lower *l, struct swap_device_stats *stats);
