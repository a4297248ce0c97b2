/* SPDX-License-Identifier: MIT */
/*
 * The page-table word and its lock.
 *
 *   63..32  swap entry (SWAP, CLEAN or STALE)
 *    31     HOT      was not away for long: its age counts less (lru.h); SWAP: was so when it left
 *    30     STREAMED  present, and came in ahead of a stream: its age counts more (lru.h)
 *   29..19  holds
 *    18     WARM     present, and came back from a device's own memory, or soon from below: for its next copy (lru.h)
 *   17..8   stamp: when the page came in, or left, by the clock of lru.h
 *    7      COLD     present, and advised to leave first
 *    6      WRITEBACK  CLEAN, but the slot does not have the data yet: it is being written from the page
 *    5      PROTECTED  present and write-protected without a slot: the first write lifts it
 *    4      CLEAN    present, write-protected, and its slot has the same data
 *    3      SWAP     absent, its copy is named by the entry
 *    2      PRESENT  in the window
 *   3 + 2   STALE    present, and the entry's slot is kept though the page has been, or may be, written to since: only
 *                    for its next copy to be written there, at less cost if little has changed
 *    1      WAITERS  somebody sleeps on this word
 *    0      LOCKED
 *   neither PRESENT nor SWAP: never touched, or dropped; reads as zero
 *
 * Who writes: state and entry, the holder of LOCKED; holds go up only while PRESENT and not LOCKED, and down at any
 * time, so the unlock is a compare-and-swap that keeps them. pte_lock's acquire meets pte_unlock's release; a hold's
 * acquire meets the same release, and reclaim's acquire in pte_trylock meets the release in pte_unhold.
 */
#pragma once

#include "base/assert.h"
#include "mm/types.h"

#define PTE_LOCKED ((u64)1 << 0)
#define PTE_WAITERS ((u64)1 << 1)
#define PTE_PRESENT ((u64)1 << 2)
#define PTE_SWAP ((u64)1 << 3)
#define PTE_STALE (PTE_PRESENT | PTE_SWAP)
#define PTE_CLEAN ((u64)1 << 4)
#define PTE_PROTECTED ((u64)1 << 5)
#define PTE_WRITEBACK ((u64)1 << 6)
#define PTE_COLD ((u64)1 << 7)
#define PTE_STAMP_SHIFT 8
#define PTE_STAMP_MAX ((u64)0x3ff)
#define PTE_STAMP_MASK (PTE_STAMP_MAX << PTE_STAMP_SHIFT)
#define PTE_WARM ((u64)1 << 18)
#define PTE_HOLD ((u64)1 << 19)
#define PTE_HOLD_MASK ((u64)0x7ff << 19)
#define PTE_STREAMED ((u64)1 << 30)
#define PTE_HOT ((u64)1 << 31)
#define PTE_ENTRY_SHIFT 32
#define PTE_ENTRY_MASK ((u64)0xffffffff << PTE_ENTRY_SHIFT)
/* What its age depends on, and how long its copy is to stay in memory. */
#define PTE_AGE_MASK (PTE_STAMP_MASK | PTE_HOT | PTE_STREAMED | PTE_WARM)
/* What names the page's contents: the rest may change without making a copy stale. */
#define PTE_CONTENT_MASK (PTE_PRESENT | PTE_SWAP | PTE_CLEAN | PTE_ENTRY_MASK)

/* A count that reached the top stays there: the page is never reclaimed again, which is safe. */
#define PTE_HOLDS_STUCK PTE_HOLD_MASK

static inline u64 pte_make_swap(swp_entry_t entry)
{
	return PTE_SWAP | (u64)entry.val << PTE_ENTRY_SHIFT;
}

static inline u64 pte_make_clean(swp_entry_t entry)
{
	return PTE_PRESENT | PTE_CLEAN | (u64)entry.val << PTE_ENTRY_SHIFT;
}

static inline u64 pte_make_stale(swp_entry_t entry)
{
	return PTE_STALE | (u64)entry.val << PTE_ENTRY_SHIFT;
}

/* Does it name a slot, whatever for? */
static inline bool pte_has_entry(u64 pte)
{
	return (pte & (PTE_SWAP | PTE_CLEAN)) != 0;
}

static inline swp_entry_t pte_to_swp_entry(u64 pte)
{
	check(pte_has_entry(pte));
	return (swp_entry_t){ (u32)(pte >> PTE_ENTRY_SHIFT) };
}

static inline bool pte_is_none(u64 pte)
{
	return !(pte & (PTE_PRESENT | PTE_SWAP));
}

static inline bool pte_is_present(u64 pte)
{
	return (pte & PTE_PRESENT) != 0;
}

/* Present, or in a moment: somebody has it locked. */
static inline bool pte_may_be_present(u64 pte)
{
	return (pte & (PTE_PRESENT | PTE_LOCKED)) != 0;
}

static inline bool pte_is_swap(u64 pte)
{
	return (pte & PTE_STALE) == PTE_SWAP;
}

static inline bool pte_is_stale(u64 pte)
{
	return (pte & PTE_STALE) == PTE_STALE;
}

/* The word of a stale page that lets its slot go. */
static inline u64 pte_without_stale(u64 pte)
{
	return pte & ~(PTE_SWAP | PTE_ENTRY_MASK);
}

static inline bool pte_is_clean(u64 pte)
{
	return (pte & PTE_CLEAN) != 0;
}

/* Does a write to the present page fault? */
static inline bool pte_is_protected(u64 pte)
{
	return (pte & (PTE_CLEAN | PTE_PROTECTED)) != 0;
}

static inline bool pte_is_under_writeback(u64 pte)
{
	return (pte & PTE_WRITEBACK) != 0;
}

static inline bool pte_is_held(u64 pte)
{
	return (pte & PTE_HOLD_MASK) != 0;
}

static inline u32 pte_stamp(u64 pte)
{
	return (u32)((pte & PTE_STAMP_MASK) >> PTE_STAMP_SHIFT);
}

static inline u64 pte_with_stamp(u64 pte, u32 stamp)
{
	return (pte & ~PTE_STAMP_MASK) | (u64)stamp << PTE_STAMP_SHIFT;
}

/* The patch's test: does the word still name the same contents? */
static inline bool pte_same(u64 a, u64 b)
{
	return (a & PTE_CONTENT_MASK) == (b & PTE_CONTENT_MASK);
}

static inline bool pte_is_valid(u64 pte)
{
	if (pte_is_stale(pte) && pte_is_clean(pte))
		return false;
	if ((pte & PTE_HOT) && pte_is_none(pte))
		return false;
	if ((pte & (PTE_CLEAN | PTE_PROTECTED | PTE_COLD | PTE_STREAMED | PTE_WARM)) && !(pte & PTE_PRESENT))
		return false;
	if ((pte & PTE_WRITEBACK) && !(pte & PTE_CLEAN))
		return false;
	return pte_has_entry(pte) || !(pte & PTE_ENTRY_MASK);
}

/* A look without the lock: stale is harmless, as everybody looks again under it. */
static inline u64 pte_read(const struct mm *mm, vpn_t vpn)
{
	check(vpn.val < mm->vm.nr_pages);
	return atomic64_read(&mm->ptes[vpn.val]);
}

/*
 * Context of all below: any thread; signals blocked from lock to unlock, as a handler of the program that touches the
 * same page would wait for the thread it interrupted.
 */

/* Returns the word as it was, without LOCKED and WAITERS. Sleeps while another has it. */
u64 pte_lock(struct mm *mm, vpn_t vpn);

/* The same without sleeping; false if another has it. */
bool pte_trylock(struct mm *mm, vpn_t vpn, u64 *pte);

/* Sets all but the holds to what `pte` says, keeps the holds as they are, wakes sleepers. */
void pte_unlock(struct mm *mm, vpn_t vpn, u64 pte);

/* Sleeps until the word is not locked. */
void pte_wait_unlocked(struct mm *mm, vpn_t vpn);

/*
 * Holds a present page (a writable one if `write`) without any lock; with `untouched_ok` also one of which nothing is
 * known (before adoption). False: not possible now, fault it in first.
 */
bool pte_hold(struct mm *mm, vpn_t vpn, bool write, bool untouched_ok);
void pte_unhold(struct mm *mm, vpn_t vpn);
