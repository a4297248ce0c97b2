/* SPDX-License-Identifier: MIT */
/*
 * Mapped pages in the order in which they came in: reclaim takes the oldest. The hardware's accessed bits are out of
 * reach, so this is a FIFO; a page that comes back goes to the young end.
 *
 * A page stands in the queue at most once: whoever pushes has set QUEUED in its PTE, whoever pops clears it or pushes
 * again. An entry may be stale (the page has gone since); whoever pops looks at the PTE.
 */
#pragma once

#include "mm/types.h"

/* Room for `nr_pages` entries. 0 or -ENOMEM. */
int must_check lru_init(struct lru *lru, u32 nr_pages);
void lru_destroy(struct lru *lru);

/*
 * Context: any thread with signals blocked; takes lru->lock. lru_push returns the pages of the table that became real
 * memory in this call (0 or 1), for the caller to charge.
 */
u32 must_check lru_push(struct lru *lru, const vpn_t *vpns, u32 nr);

/* Takes up to `nr` of the oldest; returns how many. */
u32 lru_pop(struct lru *lru, vpn_t *vpns, u32 nr);

u64 lru_length(struct lru *lru);
