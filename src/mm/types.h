/* SPDX-License-Identifier: MIT */
/*
 * The core's data structures. Read this first, then swap_table.h, fault.c and reclaim.c.
 *
 *   page         4 KiB of the program's memory, named by its vpn (number in the window)
 *   frame        a page-sized place out of the program's reach (vm/vm.h)
 *   PTE          our word for a page; the hardware's follows it
 *   swap entry   device type and slot offset: where a page's copy is
 *   slot         page-sized place on a swap device; its word in the swap table has a count of users and a pin
 *   swap cache   pages that are in a frame and named by a slot: on their way out, or read and not yet installed
 *   pin          exclusive use of a slot (HAS_CACHE in its word)
 *   hold         a page kept resident for a system call (count in its PTE)
 *
 * Accounting, in pages, always true (budget.h):
 *   resident = pages present in the window + steal frames in use + frames_nr_charged() (frames.h)
 *   stored   = pages of the devices' own memory + touched pages of the tables below
 *   resident <= limit_resident, resident + stored <= limit_memory
 *   swap count of a slot = PTEs that name it, whether the page is absent (swapped) or present and clean
 */
#pragma once

#include "base/types.h"
#include "mm/policy.h"
#include "mm/stats.h"
#include "swap/swap_device.h"
#include "sync/lock.h"
#include "sync/thread.h"
#include "vm/vm.h"

enum {
	SWAP_TYPES_MAX = 16, /* devices in the life of an mm */
	SWAP_OFFSET_BITS = 28,
	FRAME_RUN = VM_RUN_MAX, /* frames that are filled, written and emptied together */
	FRAME_RUNS_MAX = 32,
	FRAME_BUFFERS_MAX = 16,
	KSWAPD_HELPERS_MAX = 7,
	READ_FRAMES = 64,
	PTES_PER_PAGE = PAGE_SIZE / sizeof(u64),
};

/* Names a slot on a device. Fits the upper half of a PTE. */
typedef struct {
	u32 val;
} swp_entry_t;

static inline swp_entry_t swp_entry(u32 type, u32 offset)
{
	return (swp_entry_t){ type << SWAP_OFFSET_BITS | offset };
}

static inline u32 swp_type(swp_entry_t entry)
{
	return entry.val >> SWAP_OFFSET_BITS;
}

static inline u32 swp_offset(swp_entry_t entry)
{
	return entry.val & ((1u << SWAP_OFFSET_BITS) - 1);
}

/* What became of a fault. */
enum fault_result {
	FAULT_DONE, /* the access may be repeated */
	FAULT_RETRY, /* internal: look at the PTE again */
	FAULT_UNMAPPED, /* no mapping there: the program's own error */
	FAULT_FOREIGN, /* the program has mapped something else there, which raised the signal: its own affair */
	FAULT_OOM, /* no page could be freed */
	FAULT_IO_ERROR, /* the page's copy could not be read; it stays where it is */
	FAULT_LOST, /* the kernel has lost a page that we hold for present */
};

/* How long a process waits for others that share its limit (budget.h). */
enum budget_patience {
	BUDGET_SPARE, /* not at all, and nobody is asked for it: all of it or nothing */
	BUDGET_NOW, /* not at all, but those who have more are asked */
	BUDGET_SOON, /* for some milliseconds, if it is due to us */
	BUDGET_LAST, /* for seconds: otherwise the program ends */
};

struct mm;

/* Both counts in one word, so that the two limits are kept exactly (budget.c). */
struct budget {
	struct atomic64 used; /* resident in the low half, stored in the high half, and what is withheld in both */
	u32 resident_max; /* pages */
	u32 memory_max;
	u32 reserve; /* kept for reclaim: faults may not take it */
	struct atomic32 more_reserve; /* the same, of runs of frames that were spare; raised by budget_to_reserve() */
	u32 overhead; /* charged from adoption on, for good */
	u32 low, high; /* watermarks of free pages for the background reclaimer */
	/*
	 * Where the limits are shared with other processes: asks for `nr` pages more, which it adds by budget_raise().
	 * True: some came. NULL: the limits are ours alone, and nothing is withheld.
	 */
	bool (*more)(struct mm *mm, u32 nr, enum budget_patience patience);
	struct atomic32 granted; /* pages of the shared limit that are ours */
	struct atomic64 withheld; /* the rest, as it stands in `used` */
};

/* What is known of a page of PTEs, in its word of mm->pte_tables. */
#define TABLE_TOUCHED ((u64)1 << 0) /* a PTE in it was written: it is real memory */
#define TABLE_QUEUED ((u64)1 << 1) /* it has an entry in mm->lru.oldest */
#define TABLE_HINTED(hint) ((u64)1 << (2 + (hint))) /* it has an entry in mm->lru.hinted[hint] */

/* Why a page table is to be looked at before others. */
enum lru_hint {
	LRU_COLD, /* pages of it were advised cold */
	LRU_STREAMED, /* pages of it came in ahead of a stream */
	NR_LRU_HINTS,
};

/* A queue of page tables, by number, in chunks of one page (lru.c). */
struct lru_chunk;

struct lru_queue {
	struct mutex lock; /* all below */
	struct lru_chunk *chunks; /* table, index 0 unused */
	u32 nr_chunks, high_water; /* of the table: there are, were ever used */
	u32 head, tail, free; /* chunk numbers */
	u64 length;
};

/* In which order pages leave (lru.h). */
struct lru {
	struct lru_queue oldest; /* page tables with present pages, each once: QUEUED */
	struct lru_queue hinted[NR_LRU_HINTS]; /* those that a hint was given for, each at most once: HINTED */
	struct atomic64 freed; /* pages ever uncharged: with those resident, how many ever came in */
	struct atomic32 evict_age; /* pages at least so old may leave now */
	struct atomic32 keep_score; /* whether keeping slots for pages that are read has paid */
	struct atomic32 keep_ended; /* when it last ceased to, by the clock of those who come */
	struct atomic32 missed; /* how many pages that come in would be there still, had others kept no copies */
	struct atomic32 gap_score; /* writes to pages that were protected along with their neighbours */
	u32 clock_shift; /* pages that come in between two ticks, as a power of two */
};

/* One mapping: [start, end) with the same access rights. */
struct area {
	u32 start, end;
	u32 prot; /* enum vm_prot, rights and the rest */
};

/* Sorted, disjoint areas. Writers hold `lock` and make `seq` odd meanwhile; readers need no lock (area.c). */
struct area_set {
	struct mutex lock;
	struct atomic32 seq;
	struct atomic32 nr;
	struct area *areas;
	u32 cursor; /* where the search for a gap goes on */
	u64 nr_accessible; /* pages in areas with any right: what was handed out */
	struct atomic64 nr_locked; /* pages in VM_LOCKED areas; readers need no lock: see page_may_leave() */
};

/* What a steal frame holds; written by the run's owner before the slot is published with the frame. */
struct frame_desc {
	vpn_t vpn;
	swp_entry_t entry;
	bool warm; /* as its PTE was */
};

/* Runs of FRAME_RUN frames. A run's bit is in one of the two words, or it has an owner. */
struct frame_set {
	struct atomic64 free; /* acquire takes, release gives back */
	struct atomic64 spare; /* not charged for: to be had while there is room; the same */
	u32 nr, nr_max; /* those that are never spare, and all */
};

struct frame_pool {
	struct frame_set runs; /* of steal frames */
	struct frame_set buffers; /* of plain frames */
	struct atomic64 free_reads; /* bit per read frame */
	struct atomic32 waiters; /* bumped on each release: sleepers wait for a change */
	struct frame_desc *desc; /* per steal frame */
};

/* Which slots are in use, for the allocator; the truth is the slot's word (swap_slots.c). */
struct slot_map {
	struct atomic64 *bits; /* 1 = taken; acquire takes, release gives back */
	struct atomic64 *full; /* bit per word of bits: a hint that it has no free slot */
	struct atomic32 hint; /* word below which all is probably full */
	struct atomic32 high_water; /* slots ever used: what of the tables has been touched */
};

enum swap_state { SWAP_OFF, SWAP_ON, SWAP_LEAVING /* no new slots: swapoff runs */ };

struct swap_info {
	struct swap_device *dev;
	struct atomic64 *table; /* the swap table: swap_table.h */
	struct slot_map map;
	struct atomic32 state; /* enum swap_state */
	struct atomic64 used; /* slots taken, or about to be */
	struct atomic32 failures; /* writes that failed since one succeeded; lost updates do not matter */
	struct atomic64 retry_ns; /* while it fails: not before this time (sync_clock_ns) */
	struct atomic64 nr_bad; /* slots that were retired */
	int prio; /* of dev: higher ones are used first, equal ones in turn */
	u32 dev_flags; /* of dev: readable after dev has gone */
	u32 type;
	u32 nr_slots;
};

/* A background thread. */
struct kthread {
	struct sync_thread thread;
	struct atomic32 wake; /* bumped by whoever wants it to run */
	struct atomic32 asleep;
	struct atomic32 stop;
	bool started;
};

struct kswapd {
	struct kthread kthread;
	/* Where one thread cannot keep up and there are processors for more. */
	struct sync_thread helpers[KSWAPD_HELPERS_MAX];
	struct atomic32 helper_wake, helpers_asleep;
	u32 nr_helpers, nr_helpers_max; /* started, by the first thread alone; allowed */
	u32 helpers_started; /* ever */
	struct atomic64 ahead; /* the run that a stream will want after the next (readahead.c); 0: none */
};

struct mm {
	struct vm vm;
	struct atomic64 *ptes; /* per page of the window: pte.h */
	struct atomic64 *pte_tables; /* per page of ptes: TABLE_* bits, each set and cleared by read-modify-write */
	struct area_set areas;
	struct budget budget;
	struct lru lru;
	struct frame_pool frames;
	struct swap_info swap[SWAP_TYPES_MAX];
	struct atomic32 nr_swap; /* devices ever added: those below may be looked at */
	struct atomic32 swap_turn; /* which of the devices of equal priority is next; a hint */
	struct mutex swap_lock; /* swapon, swapoff */
	struct kswapd kswapd;
	struct kthread kwriteback; /* demote.h */
	struct atomic32 demoted; /* bumped by it when pages have gone to a lower device; slept on */
	struct atomic32 demote_waiters; /* who sleep on that, having found the store full */
	struct atomic64 writeback_settled; /* pages that were stored when it found nothing to do; its own */
	u32 writeback_percent; /* of the store's share, above which they go */
	u64 writeback_idle_ns; /* or after so long; 0: not */
	struct atomic64 reclaim_paused; /* until then, by sync_clock_ns(); 0: no */
	struct atomic32 reclaim_progress; /* bumped by every run of reclaim that freed something */
	struct mm_stats *stats;
	struct atomic64 nr_held; /* holds, for their limit */
	struct atomic32 adopted; /* release: registered and scanned; before it nothing is managed */
	enum swapin_policy policy; /* how a page comes back */
	enum swapin_relax relax; /* how the loser of a pin waits */
	struct atomic32 relax_queue; /* RELAX_QUEUE: bumped at the end of each pin */
	bool keep_clean; /* read faults keep the slot */
	bool keep_hot; /* also of hot pages: in the lab, where pages come back at once */
	bool readahead; /* swap-in past the swap cache reads ahead */
	bool reads_behind; /* and the background thread helps with it: there is a processor for it */
	/*
	 * Dirty pages may also leave from where they stand (writeback.h). Not with faults by thread: there nothing is
	 * held for system calls, so a device may be writing to a page, which write protection does not stop. Only
	 * vm_steal sees that; what it refuses stays.
	 */
	bool in_place;
	u32 gap_min; /* so many pages between victims are worth a call to make them writable again */
	u32 steal_min; /* so many dirty neighbours leave by vm_steal, fewer are written where they are */
	/* Called with the descriptor open, before the window is registered: the last moment before faults. Or NULL. */
	int (*on_adopt)(struct mm *mm);
};

/*
 * Lock order, outermost first; within a line at most one at a time except PTE locks, which are taken in ascending
 * order or by trylock.
 *
 *   areas.lock
 *     swap_lock
 *       slot pin (HAS_CACHE), folio lock (LOCKED)      sleeps across device I/O
 *         PTE lock                                      sleeps across vm calls
 *           the queues' locks, the devices' own locks, waits for nothing
 */
