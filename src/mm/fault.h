/* SPDX-License-Identifier: MIT */
/* The way of a fault: from the address to a page in the window. */
#pragma once

#include "mm/lru.h"
#include "mm/types.h"

/*
 * Serves one fault on a page of the window. Sleeps (PTE locks, pins, reclaim), never spins.
 * Context: the faulting thread with all signals blocked, no lock held. About 6 KiB of stack.
 */
enum fault_result handle_mm_fault(struct mm *mm, vpn_t vpn, bool write);

/*
 * After FAULT_IO_ERROR, for its message: where the page's copy lies. False: it has gone, or come in, since.
 * Context: as above.
 */
bool must_check fault_place(struct mm *mm, vpn_t vpn, struct swap_place *place);

/*
 * Claims a slot to be read past the swap cache. 0; -EMLINK: go through the swap cache; -EEXIST: another has it;
 * -ENOENT: nobody uses it any more. swap_unclaim lets go of it.
 */
int must_check swap_claim(struct mm *mm, swp_entry_t entry);
void swap_unclaim(struct mm *mm, swp_entry_t entry);

/* What becomes of the copy of a page that comes in. */
enum keep {
	KEEP_NONE, /* its slot is free */
	KEEP_STALE, /* the page is writable, and its next copy goes to the same slot */
	KEEP_CLEAN, /* the page is write-protected, and can leave again for free */
};

/* The marks (lru_arrival) of a page that comes in from the slot that `pte` names. */
u64 page_arrival(struct mm *mm, const struct lru_time *now, u64 pte, bool streamed);

/* For a fault on the page, whose PTE is `pte`, with its slot claimed; or for the neighbours of one, with a PTE of 0. */
enum keep page_keeps(struct mm *mm, vpn_t vpn, u64 pte, bool write);

/* The PTE of a page that comes in, but for its age. */
u64 pte_keeping(swp_entry_t entry, enum keep keep);

/*
 * Installs a page's contents and unlocks its PTE, which is locked and names the entry of `pte`. With KEEP_CLEAN the
 * page goes in write-protected in one step. With KEEP_NONE the caller drops the slot's user, after FAULT_DONE; else it
 * stays. The page has been charged. FAULT_OOM or FAULT_LOST: nothing has changed.
 */
enum fault_result install_page(struct mm *mm, vpn_t vpn, u64 pte, const void *data, enum keep keep);

/* For callers that are not a fault: 0, -ENOMEM, -EIO; a page that is unmapped meanwhile is no error. */
int fault_errno(enum fault_result result);
