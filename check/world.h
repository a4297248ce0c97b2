/* SPDX-License-Identifier: MIT */
/*
 * The world of a scenario: the real src/mm over a simulated address space and swap devices, and the truth about what
 * the program has stored, against which each load is held.
 *
 * Fault model. The vm: install finds the page present (-EEXIST) or succeeds; steal succeeds, or finds it absent;
 * without it (VM_METHOD_COPY) pages are protected, read and dropped. A device: reads and writes fail where the
 * scenario says so, a slot keeps its data until it is discarded, what is read from an empty slot is garbage; a write
 * can be stuck until the scenario lets it go. Threads are preempted anywhere, not killed. Timeouts come when nobody
 * can run.
 *
 * Everything that changes in a run lies in one arena, which is copied back before each run: the same as creating the
 * mm anew, and a hundred times faster.
 */
#pragma once

#include "fault/gate.h"
#include "mm/mm.h"
#include "scheduler.h"

enum {
	WORLD_PAGES = 8, /* of the window */
	WORLD_WORDS = 2, /* of a page: the rest of it does not matter */
	WORLD_SLOTS_MAX = 8,
	WORLD_DEVICES_MAX = 2,
	WORLD_FRAMES_MAX = 5 * FRAME_RUN,
	GARBAGE = 0x6a6a, /* what an empty slot reads as */
};

struct content {
	u64 word[WORLD_WORDS];
};

struct sim_page {
	bool present, protect;
	bool unmanaged; /* a touch of it while it is absent is no fault: it reads as zero */
	u8 rights; /* enum vm_prot */
	struct content data;
	/* What a load of each word may see: the last store, or what a drop in progress may make of it. */
	struct content now, also;
	bool written[WORLD_WORDS]; /* since the drop began */
};

struct sim_device {
	struct swap_device dev;
	struct content slot[WORLD_SLOTS_MAX];
	bool full[WORLD_SLOTS_MAX];
	u8 users[WORLD_SLOTS_MAX]; /* operations in progress */
	bool is_closed, stuck;
	u32 fail_reads, fail_writes; /* so many of the next ones */
	u64 bad; /* reads of slots with this in the first word fail, if it is not 0 */
	struct atomic32 writing;
};

struct world_config {
	u32 nr_slots; /* of each device */
	u32 nr_devices;
	bool discard; /* SWAP_DISCARD */
	bool demotes; /* SWAP_DEMOTES */
	bool compacts; /* SWAP_COMPACTS */
	bool patches; /* SWAP_PATCHES */
	bool asynchronous; /* not SWAP_SYNCHRONOUS_IO: batches, and the swap cache */
	enum vm_method method;
	bool budget_matters; /* it is tight: its word and the queue of pages are shared state like any other */
	bool no_readahead;
	bool frames_matter; /* there may be too few */
	bool gated; /* everybody goes through the gate, as somebody forks */
	bool reports_misuse; /* reading an empty slot, or two users of a slot at a time, is a finding */
};

struct world {
	struct mm mm;
	struct mm_stats *stats;
	struct sim_page page[WORLD_PAGES];
	struct content frame[WORLD_FRAMES_MAX];
	bool frame_full[WORLD_FRAMES_MAX];
	u32 frame_readers[WORLD_FRAMES_MAX], frame_writers[WORLD_FRAMES_MAX]; /* devices at work on them */
	struct sim_device device[WORLD_DEVICES_MAX];
	u32 nr_drops; /* in progress, all of the same pages */
	bool may_be_unmapped; /* what a fault may end in */
	u32 may_fail; /* likewise: bit per page that the device cannot read back */
	u32 ballast; /* pages charged to make the budget tight */
	struct gate gate;
	u32 nr_inside; /* the core; counted where it is gated */
	struct atomic32 flag; /* for scenarios */
	u32 var[4]; /* likewise */
	u64 counter[NR_MM_COUNTERS]; /* the last: not part of the state */
};

extern struct world *const world;

/*
 * Creates the mm, as `cfg` says, with an empty window; then setup(), alone, and the arena is saved. False: it ended in
 * a finding.
 */
bool must_check world_create(const struct world_config *cfg, enum swapin_policy policy, enum swapin_relax relax,
			     void (*setup)(void));

/* Back to where world_create left it. */
void world_restore(void);

/* At rest: contents, counts, invariants. Alone. */
void world_check(void);

u8 world_classify(uintptr_t addr);
void world_name(uintptr_t addr, char name[NAME_CHARS]);
int world_clock_object(void);
const struct world_config *world_cfg(void);

/* A device begins or ends its work on a page, if that is a frame; somebody else looks at a frame or changes it. */
bool world_is_frame(const void *page);
void world_frame_use(const void *page, bool write, bool begin);
void world_frame_check(u32 frame, bool write);

/* Of all that a run can change, but for what nobody decides on. */
u64 world_hash(void);
u64 world_end_hash(void);

/* Kinds of address, for the traces. */
enum place { PLACE_OTHER, PLACE_PTE, PLACE_SLOT };
enum place world_place(uintptr_t addr, u32 *index);
void content_name(const struct content *c, char name[NAME_CHARS]);

/* ---- what the program does ---- */

enum access_end {
	ACCESS_DONE,
	ACCESS_SEGV, /* not mapped */
	ACCESS_BUS, /* its copy could not be read */
};

/* One load or store, with the faults that it takes; the value that is loaded is held against the truth. */
enum access_end prog_load(u32 vpn, u32 word, u64 *value);
enum access_end prog_store(u32 vpn, u32 word, u64 value);

/* A system call's access to a held page: it must be there. */
void kernel_access(u32 vpn, bool write, u64 value);

/* Around whatever makes the pages read as zero: meanwhile loads may see either. */
void drop_begins(u32 vpn, u32 nr);
void drop_ends(u32 vpn, u32 nr);

/* Around every use of the core, if the world is gated. */
u32 world_enter(void);
void world_leave(u32 shard);

/*
 * The system call, all memory being copied at one moment, and the child's whole life: the parent's world is put aside,
 * the child makes its memory its own again, uses all of its pages, sends them all out and brings them back, and is
 * checked at rest. It runs at once and alone, as no step of it can be seen by the parent.
 */
void world_fork(void);

/* The values of the scenarios: letters in the traces. */
enum { ZERO, A, B, C, D };
