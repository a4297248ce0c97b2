/* SPDX-License-Identifier: MIT */
/*
 * Dirty pages that leave from where they stand: write-protected, copied and written to their slots while the program
 * goes on reading them, and dropped if nobody has written to them meanwhile.
 *
 *   dirty --protect--> CLEAN|WRITEBACK --written--> CLEAN --dropped--> swap
 *                         |    write fault: the page is dirty again, and its slot is freed as soon as the write ends
 *
 * The slot is pinned from swap_alloc() until the data is in it. A write takes the page back through do_wp_page(), as
 * it does with any clean page: the slot's user goes, and the pin's owner, who comes last, discards what was written.
 */
#pragma once

#include "mm/types.h"

/* A page on its way out: its PTE is locked by the reclaimer. */
struct victim {
	vpn_t vpn;
	swp_entry_t entry; /* dirty pages: the slot it goes to, pinned */
	u64 pte;
};

/* Drops clean victims, whose slots have the same data, and unlocks them: their pages cannot change meanwhile. */
void drop_clean_victims(struct mm *mm, const struct victim *v, u32 nr);

/*
 * Takes out as many of `nr` dirty victims, in order of address, as can go; unlocks them all and ends their pins.
 * `buffer` is the caller's, for `nr` frames. Returns how many left; *failed: how many a device refused.
 */
u32 writeback_victims(struct mm *mm, struct victim *v, u32 nr, frame_t buffer, u32 *failed);
