/* SPDX-License-Identifier: MIT */
/*
 * The swap devices of one `weir run`, in shared memory as the pool (tree/pool.h) is: which there are to be, and a row
 * for each process whose memory is managed, where it says how far it is. `weir run` fills it in, `weir swapon` and
 * `weir swapoff` change it, and a thread of each such process brings that into line with what is here
 * (preload/devices.c). A program that begins opens the devices that are on.
 *
 * Devices are numbered in the order of their coming and no number is used twice. One command at a time changes the
 * states: it holds `commander`. It changes them and then raises `seq`; a process reads `seq`, does what the states ask
 * for, and then sets `done` of its row to what it has read. So when every row that lives has the present `seq`, all
 * have done it; who enters a row later has looked at the states later.
 *
 * Shared words. `commander`: 0 to id by compare-and-swap, to 0 by the same, or by anybody once that is dead. `state`:
 * by the commander, but from LEAVING to ON also by a process that would be out of memory. `seq`: up, by whoever changed
 * a state (release; meets the acquire of a process that reads it before the states). The text of a device: before its
 * first ON (release, acquire). A row's `id`: 0 to id by its process, to 0 by anybody once that is dead, by
 * compare-and-swap. What else is in a row: by its process; `error` before `done` (release, acquire), the rest are
 * figures.
 * Whoever can open the memory can change it: the user's own processes, as it is found as a descriptor of another
 * process. So lengths and numbers that matter are checked by whoever reads them.
 * Context of all: no libc; any thread.
 */
#pragma once

#include "base/types.h"
#include "sync/atomic.h"

enum {
	SWAPS_DEVICES_MAX = 16, /* in the life of a run: as in that of an mm */
	SWAPS_ROWS_MAX = 4096,
	SWAPS_TEXT = 256,
	SWAPS_SPEC = 4 * SWAPS_TEXT,
	SWAPS_KEPT_MAX = 8,
};

enum swaps_state { SWAPS_NONE, SWAPS_ON, SWAPS_LEAVING, SWAPS_OFF };

struct swaps_device {
	struct atomic32 state; /* enum swaps_state */
	int prio;
	u32 below; /* not 0: it is zram's lower device, of the device before it */
	struct atomic32 keeper; /* the process that keeps these descriptors open for others, or 0 */
	int kept[SWAPS_KEPT_MAX]; /* the holder's; -1: none */
	u64 size; /* bytes; 0: each process chooses */
	char name[SWAPS_TEXT]; /* as the user has said it, without options */
	char spec[SWAPS_SPEC]; /* what the programs open */
};

struct swaps_row {
	struct atomic64 id; /* process_id() of the process, 0: free */
	struct atomic32 tid; /* its thread for this, gone after an execve */
	struct atomic32 done;
	struct atomic32 error; /* errno of what could not be done; 0: all is as asked for */
	struct atomic32 culprit; /* the device that it was about */
	struct atomic64 resident, swapped, limit; /* pages that it has in memory, has not, and may have there */
	struct {
		struct atomic64 used, size; /* pages */
		struct atomic64 stored; /* pages of memory that the device needs for them */
		struct atomic32 on; /* 1: it is open there; 2: and its pages cost no memory */
		u32 unused;
	} device[SWAPS_DEVICES_MAX];
};

struct swaps {
	u32 magic, nr_rows;
	struct atomic32 seq; /* slept on across processes */
	struct atomic32 nr_devices; /* those below it have their text */
	struct atomic32 nr_used; /* rows below it were ever used */
	struct atomic32 holder; /* the process that keeps this memory open */
	struct atomic64 commander; /* process_id() of the command that is at work, or 0 */
	struct swaps_device device[SWAPS_DEVICES_MAX];
	struct swaps_row row[SWAPS_ROWS_MAX];
};

/* New memory, whose descriptor (closed on exec) goes to *fd. 0 or -errno. */
int must_check swaps_create(struct swaps **swaps, int *fd);

/* Maps what another process has made, by path. 0, -errno of open and mmap, or -EINVAL: it is no such thing. */
int must_check swaps_open(const char *path, struct swaps **swaps);

/*
 * Adds a device that is off as yet (SWAPS_NONE) and leaves the rest of it to the caller, and to swaps_set_state. NULL:
 * there were too many.
 */
struct swaps_device *swaps_add(struct swaps *swaps);

/* Asks all for another look, after a change of states. Returns what `done` will be. */
u32 swaps_bump(struct swaps *swaps);

void swaps_set_state(struct swaps_device *dev, enum swaps_state state);
enum swaps_state swaps_state(const struct swaps_device *dev);

/* From LEAVING to ON, all of them: before somebody is out of memory. False: there is none. */
bool must_check swaps_recall(struct swaps *swaps);

/* Takes a row for the calling process, in which nothing is done so far. NULL: there is none. */
struct swaps_row *swaps_enter(struct swaps *swaps, u32 tid);

/* Sleeps while seq is `seen`. */
void swaps_wait(struct swaps *swaps, u32 seen);

/* Has the row a process that carries requests out? Frees it if that is dead. Reads /proc. */
bool swaps_row_lives(struct swaps_row *row);

/* Becomes the one who changes states, 0; -EBUSY: another is. *was_dead: it takes over from one that was killed. */
int must_check swaps_command(struct swaps *swaps, u64 self, bool *was_dead);
void swaps_command_end(struct swaps *swaps, u64 self);
