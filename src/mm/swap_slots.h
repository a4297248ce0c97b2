/* SPDX-License-Identifier: MIT */
/*
 * Swap devices and their slots: which device a new slot comes from, and what it takes to end one.
 *
 * The word in the swap table (swap_table.h) says whether a slot is free; a bitmap beside it finds free ones quickly.
 * Slots are taken lowest first, so that the tables stay compact.
 * Context: any thread, also signal handlers, unless it says otherwise. Nothing here sleeps but swap_wait().
 */
#pragma once

#include "mm/swap_table.h"
#include "mm/types.h"

/* The device and slot of an entry. The entry must come from a PTE or a pin: the device cannot leave under it. */
static inline struct swap_info *swap_info(struct mm *mm, swp_entry_t entry)
{
	must(swp_type(entry) < SWAP_TYPES_MAX);
	return &mm->swap[swp_type(entry)];
}

static inline struct atomic64 *swap_slot(struct mm *mm, swp_entry_t entry)
{
	struct swap_info *si = swap_info(mm, entry);

	must(swp_offset(entry) < si->nr_slots);
	return &si->table[swp_offset(entry)];
}

/*
 * Hands out up to `nr` slots, each with count 1 and pinned by the caller, from the first devices that have some; where
 * memory for stored pages is all but used up, from those first that do not keep them there.
 * Returns how many; 0: swap is full.
 */
u32 swap_alloc(struct mm *mm, swp_entry_t *entries, u32 nr);

/* swap_free: one PTE less names the slot; the last one discards it. */
void swap_free(struct mm *mm, swp_entry_t entry);

/* The direct swap-in's pin: see slot_prepare. */
int must_check swapcache_prepare(struct mm *mm, swp_entry_t entry);
void swapcache_clear(struct mm *mm, swp_entry_t entry);

/* Ends what slot_* reported as SLOT_LAST: discards the data and makes the slot free. */
void swap_finish(struct mm *mm, swp_entry_t entry, enum slot_left left);

/* Sleeps until whoever has the slot pinned or locked lets go. swap_relax: a losing faulter does, in mm->relax's way. */
void swap_wait(struct mm *mm, swp_entry_t entry);
void swap_relax(struct mm *mm, swp_entry_t entry);

/* Read and write, with their errors counted; the slot is pinned, no lock is held. */
int must_check swap_read(struct mm *mm, swp_entry_t entry, void *page);

/*
 * The same for many: the caller has all the pins and sets the pages; io[i].slot and io[i].err are the results of
 * entries[i]. Written in runs of at most swap_batch_max(), as what is in work cannot be taken back any more.
 */
void swap_read_pages(struct mm *mm, const swp_entry_t *entries, struct swap_io *io, u32 nr);
void swap_write_pages(struct mm *mm, const swp_entry_t *entries, struct swap_io *io, u32 nr);

/* Synchronous devices gain nothing by batches, others all. */
static inline bool swap_is_synchronous(struct mm *mm, swp_entry_t entry)
{
	return (swap_info(mm, entry)->dev_flags & SWAP_SYNCHRONOUS_IO) != 0;
}

static inline u32 swap_batch_max(struct mm *mm, swp_entry_t entry)
{
	return swap_is_synchronous(mm, entry) ? 1 : FRAME_RUN;
}

/* Has it gone to a lower device? A hint. */
static inline bool swap_is_below(struct mm *mm, swp_entry_t entry)
{
	const struct swap_info *si = swap_info(mm, entry);

	return (si->dev_flags & SWAP_DEMOTES) && si->dev->ops->is_below(si->dev, swp_offset(entry));
}

/* Is it in the memory of a device that would send it below? A hint. */
static inline bool swap_is_above(struct mm *mm, swp_entry_t entry)
{
	return (swap_info(mm, entry)->dev_flags & SWAP_DEMOTES) && !swap_is_below(mm, entry);
}

/* Is it worth keeping the slot of a page that is written to, as its next copy costs less there? A hint. */
static inline bool swap_patches(struct mm *mm, swp_entry_t entry)
{
	const struct swap_info *si = swap_info(mm, entry);

	return (si->dev_flags & SWAP_PATCHES) && atomic32_read(&si->state) == SWAP_ON &&
	       si->dev->ops->patches(si->dev, swp_offset(entry));
}

/* Pins a slot that its page has kept, to be written again. False: somebody has it, or the device takes nothing now. */
bool must_check swap_reuse(struct mm *mm, swp_entry_t entry);

/* For messages: where the slot's data lies. */
static inline void swap_place(struct mm *mm, swp_entry_t entry, struct swap_place *place)
{
	swap_device_place(swap_info(mm, entry)->dev, swp_offset(entry), place);
}

/* Are clean pages to give their slots up early? (swap or its memory more than half full) */
bool swap_is_tight(struct mm *mm);

/* Takes the device in use. 0, -ENOSPC (too many were added), -ENOMEM; on error the device stays the caller's. */
int must_check swap_add(struct mm *mm, struct swap_device *dev);

/* The first of that name that is on. Context: swap_lock held. */
struct swap_info *swap_find(struct mm *mm, const char *name);

/*
 * Stops and resumes the handing out of slots. False: the state was not `from`, and stays. Full barrier. LEAVING begins
 * with the swap_lock held.
 */
bool swap_change_state(struct swap_info *si, enum swap_state from, enum swap_state to);

/* Closes a device that is LEAVING and has no slot in use; false: it was recalled. Context: swap_lock held. */
bool must_check swap_remove(struct swap_info *si);

/* Before somebody is out of memory: devices that are LEAVING hand out slots again. False: there is none. */
bool must_check swap_recall(struct mm *mm);

/* Closes all devices and frees the tables. No other thread uses the mm. */
void swap_destroy(struct mm *mm);

/* All devices' slots in use. */
u64 swap_used(struct mm *mm);
