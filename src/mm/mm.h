/* SPDX-License-Identifier: MIT */
/*
 * One managed window: its life, its mappings, advice, swap devices. What include/weir.h and the shim are made of.
 *
 * Context of all, unless it says otherwise: any thread, signals blocked (a program's handler that faults must not
 * interrupt a lock holder), no lock held; they sleep.
 */
#pragma once

#include "mm/types.h"

struct mm_config {
	u64 memory_pages, resident_pages; /* limits; 0 for none, at least one is set */
	uintptr_t window_hint; /* exact address of the window, or 0 */
	u32 nr_pages; /* of the window */
	u32 nr_cpus; /* bounds how many reclaimers work at once */
	enum vm_method method;
	enum vm_faults faults;
	enum swapin_policy policy;
	enum swapin_relax relax;
	u32 writeback_percent; /* of the store's share: above it cold pages go to a lower device; 0: the default */
	u64 writeback_idle_ns; /* and without need, when they were not touched for so long; 0: not */
	bool no_readahead; /* one page a fault, for comparisons */
	bool lab; /* unsafe policies are accepted */
	struct mm_stats *stats; /* zeroed, outlives the mm */
	int (*on_adopt)(struct mm *mm);
	/* The limits are shared with other processes (mm/budget.h), and `granted` pages of them are ours; or NULL. */
	bool (*more)(struct mm *mm, u32 nr, enum budget_patience patience);
	u32 granted;
};

/* The smaller limit must be at least this: room for reclaim's reserve and for a program to run. */
#define MM_LIMIT_PAGES_MIN 2048u

/* 0, -EINVAL (limits, or an unsafe choice outside of the lab), -ENOMEM, -EEXIST (the window's place is taken). */
int must_check mm_create(struct mm *mm, const struct mm_config *cfg);

/* The least `granted` of a process with these limits and CPUs, for mm_create with `more`. */
u32 mm_share_min(const struct mm_config *cfg);

/* No other thread uses the mm or its memory any more. */
void mm_destroy(struct mm *mm);

/*
 * Maps `nr` pages, aligned to `align` pages, with enum vm_prot rights; mm_map_fixed at a place of the caller's choice,
 * over whatever is there. New pages read as zero. 0; -ENOMEM (no room, or too many mappings); what mm_adopt returns.
 */
int must_check mm_map(struct mm *mm, u32 nr, u32 align, unsigned int prot, vpn_t *start);
int must_check mm_map_fixed(struct mm *mm, vpn_t start, u32 nr, unsigned int prot);

/*
 * Gives a range up to the kernel: the caller maps something that is not anonymous private memory there. It stays taken
 * until mm_unmap or mm_map_fixed make it ours again. `prot` is what it will be, for who wants to touch it.
 */
int must_check mm_map_foreign(struct mm *mm, vpn_t start, u32 nr, unsigned int prot);
bool mm_is_foreign(struct mm *mm, vpn_t vpn);

int must_check mm_unmap(struct mm *mm, vpn_t start, u32 nr);

/* Changes the rights. -ENOMEM: not all of it is mapped. */
int must_check mm_protect(struct mm *mm, vpn_t start, u32 nr, unsigned int prot);

/*
 * Sets and clears VM_WIPEONFORK and VM_DONTFORK of what is mapped in the range; of what is foreign also VM_LOCKED and
 * the rights, when the kernel has changed them. 0 or -ENOMEM.
 */
int must_check mm_mark(struct mm *mm, vpn_t start, u32 nr, unsigned int clear, unsigned int add);

/*
 * mlock: pages that are in, or come in, do not leave before mm_unlock, and the kernel does not swap them. The caller
 * brings them in. -EAGAIN: half of the limit would be locked; -ENOMEM, -EPERM: RLIMIT_MEMLOCK, as mlock says.
 */
int must_check mm_lock(struct mm *mm, vpn_t start, u32 nr);
int must_check mm_unlock(struct mm *mm, vpn_t start, u32 nr);

/*
 * mremap: the mapping [from, from + nr), which is in one piece, goes to [to, to + new_nr), which does not overlap it
 * and loses what it had. What of it goes on beyond nr reads as zero. With `keep_from` the old range stays, empty.
 * -EFAULT: not one mapping of ours; -ENOMEM, or what the kernel said: the old range is as it was, the new one is empty.
 */
int must_check mm_move(struct mm *mm, vpn_t from, u32 nr, vpn_t to, u32 new_nr, bool keep_from);

/* Is all of it mapped? Is nothing of it? The second is lockless, for any context. */
bool mm_is_mapped(struct mm *mm, vpn_t start, u32 nr);
bool mm_is_free(struct mm *mm, vpn_t start, u32 nr);

/*
 * What of [start, start + nr) is mapped first: the part of its area that lies in the range. False: nothing. Lockless,
 * for any context.
 */
bool mm_next_area(struct mm *mm, vpn_t start, u32 nr, struct area *area);

/* The rights of a page's mapping, false if there is none; may it be read, or written? Lockless, for any context. */
bool mm_prot_of(struct mm *mm, vpn_t vpn, unsigned int *prot);
bool mm_may_access(struct mm *mm, vpn_t vpn, bool write);

/* Drops the contents: the range reads as zero. */
void mm_drop(struct mm *mm, vpn_t start, u32 nr);

/*
 * The same, and the end of whatever is mapped in a range: nothing is, afterwards, but the rights are as they were.
 * Context: areas.lock held.
 */
void mm_drop_locked(struct mm *mm, vpn_t start, u32 nr);
int must_check mm_clear_locked(struct mm *mm, vpn_t start, u32 nr);

/* Writes out what can leave; returns how many pages left. */
u64 mm_pageout(struct mm *mm, vpn_t start, u32 nr);

/* Brings in what has a copy on a device. 0, -ENOMEM, -EIO. */
int must_check mm_will_need(struct mm *mm, vpn_t start, u32 nr);

/* Makes present pages the next to leave. Advice: what is locked just now stays where it is. */
void mm_cold(struct mm *mm, vpn_t start, u32 nr);

/* The size for a swap device when the user gives none: room for far more than any ratio will make of the limit. */
u64 mm_default_swap_bytes(const struct mm *mm);

/*
 * Begins to manage: what is resident is learnt from the kernel, and from here on touches of absent pages are faults.
 * Done by itself when what is handed out passes the limit. 0 or what on_adopt or vm_register returned.
 */
int must_check mm_adopt(struct mm *mm);
bool mm_is_adopted(const struct mm *mm);

/* Has any PTE of this page's table ever been written? */
static inline bool mm_table_is_touched(const struct mm *mm, u32 vpn)
{
	return atomic64_read(&mm->pte_tables[vpn / PTES_PER_PAGE]) & TABLE_TOUCHED;
}

/* Registers all of the window but what others have mapped in it. Context: areas.lock held. */
int must_check mm_manage_window(struct mm *mm);

/*
 * Keeps one mapped page where it is. -EAGAIN: fault it in (handle_mm_fault) and try again; before adoption the page
 * must have been touched. -EFAULT: not mapped with these rights; -ENOMEM: half of what the limit leaves unlocked is
 * held already.
 * Lockless; callable with signals enabled.
 */
int must_check mm_hold_page(struct mm *mm, vpn_t vpn, bool write);

/* How many pages may be held, and how many more just now. A stale answer is as good: mm_hold_page decides. */
u64 mm_hold_most(const struct mm *mm);
u64 mm_hold_room(const struct mm *mm);
void mm_release_page(struct mm *mm, vpn_t vpn);

/* 0 or what swap_add says. On error the device stays the caller's. */
int must_check mm_swapon(struct mm *mm, struct swap_device *dev);

/* -ENOENT, -ENOMEM (its pages do not fit), -EIO (one cannot be read); on error the device stays on. */
int must_check mm_swapoff(struct mm *mm, const char *name);

/*
 * Gives up to `nr` pages of a shared limit back; returns how many, 0 if that cannot be: from then on they are another
 * process's. mm_give_spare takes only what nobody uses, mm_give makes pages leave, which must be adopted.
 */
u32 mm_give_spare(struct mm *mm, u32 nr);
u32 mm_give(struct mm *mm, u32 nr);

/* Walks everything and asserts the invariants of types.h. The mm is quiet: no fault, no reclaim. */
void mm_assert_valid(struct mm *mm);
