/* SPDX-License-Identifier: MIT */
/* The way of a fault: from the address to a page in the window. */
#pragma once

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

/* Does a read fault leave the copy where it is, so that the page can leave again for free? */
bool keeps_slot(struct mm *mm, vpn_t vpn, u64 pte, bool write);

/*
 * Installs a page's contents and unlocks its PTE, which is locked and names the entry of `pte`. With `keep` the page
 * goes in write-protected in one step and the slot keeps its user; else the caller drops it, after FAULT_DONE. The
 * page has been charged. FAULT_OOM or FAULT_LOST: nothing has changed.
 */
enum fault_result install_page(struct mm *mm, vpn_t vpn, u64 pte, const void *data, bool keep);

/* For callers that are not a fault: 0, -ENOMEM, -EIO; a page that is unmapped meanwhile is no error. */
int fault_errno(enum fault_result result);
