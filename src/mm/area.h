/* SPDX-License-Identifier: MIT */
/*
 * Which parts of the window are mapped, and how. Sorted array: programs under jemalloc have some tens of mappings.
 *
 * Changes are made under set->lock with signals blocked. Readers look without a lock and validate: area_find() gives
 * a sequence number that area_unchanged() compares once the page's PTE is locked (fault.c has the argument).
 */
#pragma once

#include "mm/types.h"

enum { AREAS_MAX = 65536 };

int must_check area_init(struct area_set *set);
void area_destroy(struct area_set *set);

/*
 * The area of a page, false if it is not mapped; area_next: or the first one behind it, false if there is none.
 * Context: any, lockless; sleeps while a change is being made.
 */
bool area_find(struct area_set *set, vpn_t vpn, struct area *area, u32 *seq);
bool area_next(struct area_set *set, vpn_t vpn, struct area *area, u32 *seq);
bool area_unchanged(struct area_set *set, u32 seq);

/* All below: set->lock held. */

/* A gap of `nr` pages in a window of `nr_pages`, aligned to `align` pages. False if there is none. */
bool area_find_gap(struct area_set *set, u32 nr_pages, u32 nr, u32 align, vpn_t *start);

/* Is nothing of [start, start + nr) mapped? Is all of it? */
bool area_is_free(const struct area_set *set, vpn_t start, u32 nr);
bool area_is_mapped(const struct area_set *set, vpn_t start, u32 nr);

/* Maps [start, start + nr) as `prot`, over whatever was there; merges neighbours. 0 or -ENOMEM (too many areas). */
int must_check area_set_range(struct area_set *set, vpn_t start, u32 nr, unsigned int prot);

/* Of what is mapped in the range, takes away the bits `clear` of prot and adds `add`. 0 or -ENOMEM, half done. */
int must_check area_change_range(struct area_set *set, vpn_t start, u32 nr, unsigned int clear, unsigned int add);

/* Unmaps. 0 or -ENOMEM (a hole would need one area too many). */
int must_check area_clear_range(struct area_set *set, vpn_t start, u32 nr);

/* Do pages with these rights count as handed out? How many of [start, start + nr) do? */
static inline bool area_counts(unsigned int prot)
{
	return (prot & VM_ACCESS) && !(prot & VM_FOREIGN);
}

u64 area_accessible(const struct area_set *set, vpn_t start, u32 nr);
u64 area_locked(const struct area_set *set, vpn_t start, u32 nr);
