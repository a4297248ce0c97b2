/* SPDX-License-Identifier: MIT */
/*
 * Deliberate faults, one at a time, in the test of the model checker (check/test_mutations.c): each must be found.
 * Everywhere else mutate() is 0 and costs nothing.
 */
#pragma once

enum mutation {
	MUTATE_NOTHING,
	MUTATE_UNPIN_EARLY, /* the pin of a direct swap-in ends before the read */
	MUTATE_SKIP_LOOK, /* no second look at the PTE once the slot is pinned */
	MUTATE_SKIP_PTE_SAME, /* nor once the PTE is locked */
	MUTATE_CLEAN_WRITABLE, /* a clean page is not write-protected */
	MUTATE_WP_KEEPS_SLOT, /* a write to a clean page does not free the slot */
	MUTATE_WP_STAYS_CLEAN, /* nor makes the page dirty */
	MUTATE_KEEP_DIRTY, /* a page is clean though its copy is older */
	MUTATE_TAKE_BACK_NO_PUT, /* taken from the swap cache, the slot keeps its user */
	MUTATE_AREA_UNCHECKED, /* a first touch does not look whether the area is still there */
	MUTATE_PTE_NO_WAKE, /* pte_unlock does not wake */
	MUTATE_HOLD_LOCKED, /* a hold is taken while somebody has the PTE */
	MUTATE_HOLDS_LOST, /* pte_unlock forgets the holds */
	MUTATE_SLOT_NO_WAKE, /* the end of a pin wakes nobody */
	MUTATE_PUBLISH_NO_WAKE, /* a slot that comes into the swap cache wakes nobody */
	MUTATE_WAKE_ONE, /* one sleeper is woken instead of all (in the seam) */
	MUTATE_SLEEP_UNANNOUNCED, /* a sleeper does not set WAITERS */
	MUTATE_FREE_PINNED, /* the last user frees a slot that another has pinned */
	MUTATE_DETACH_LOCKED, /* writeback ends though a faulter has the frame */
	MUTATE_DISCARD_LATE, /* the slot is given back before its data is discarded */
	MUTATE_EVICT_HELD, /* a held page leaves */
	MUTATE_NO_PUT_BACK, /* a failed write loses the page */
	MUTATE_FRAME_NO_BUMP, /* a frame is given back without a change of what sleepers look at */
	MUTATE_TABLE_NO_LOOK, /* a page table leaves the queue without a second look for pages */
	MUTATE_PROTECT_HELD, /* a page that a system call writes to is write-protected */
	MUTATE_DROP_UNSEEN, /* a page that was written to during its writeback is dropped */
	MUTATE_RELEASE_CLEAN, /* a clean page between victims is made writable with the others */
	MUTATE_DROP_UNWRITTEN, /* a page is dropped before its copy is written */
	MUTATE_GATE_LETS_IN, /* a visitor does not look whether the gate is closed */
	MUTATE_GATE_NO_DRAIN, /* the closer does not wait for those who are inside */
	MUTATE_GATE_NO_WAKE, /* the gate opens and wakes nobody */
	MUTATE_LEAVE_NO_WAKE, /* the last who leaves does not wake the closer */
	MUTATE_FORK_WRITABLE, /* clean pages are not write-protected again in a child */
	MUTATE_FORK_UNMANAGED, /* a child's absent pages are not faults */
	MUTATE_FORK_RUNNING, /* fork does not wait for the background reclaimer */
	MUTATE_DEMOTE_UNPINNED, /* a slot goes to the lower device while others use it */
	MUTATE_DROP_STALE, /* a page leaves as if its stale copy were as new as it */
	MUTATE_REUSE_UNPINNED, /* a slot is written again while others use it */
	MUTATE_COMPACT_UNPINNED, /* a slot's data moves within the store while others use it */
	NR_MUTATIONS,
};

#ifdef WEIR_MUTATIONS
extern int weir_mutation;
#define mutate(id) (weir_mutation == (int)(id))
#else
#define mutate(id) 0
#endif
