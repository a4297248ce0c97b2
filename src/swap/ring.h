/* SPDX-License-Identifier: MIT */
/*
 * Shared memory between the processes of a run and the engine of its remote device: the process that speaks to the
 * server, as a client library can live neither in a signal handler nor under the program's malloc.
 *
 * A request is a cell and its page of data. The cell's owner claims it, fills it, submits it and waits:
 *
 *   owner    0 --claim--> id --------------------------------------------------------> free --> 0
 *   state    IDLE -----------> SUBMITTED --engine--> RUNNING --engine--> DONE --> IDLE
 *
 * Nothing has to be repaired when a process is killed at any instant: the engine frees cells whose owner has ended, but
 * none that is RUNNING. It knows locations (pages of the device) and nothing else, and starts requests in no particular
 * order: who submits sees to it that no two requests in flight overlap. What a dead process has under way the engine
 * keeps apart from requests of others for the same locations (engine.c).
 *
 * Shared words:
 *   owner     0 to id by anybody (claim, acquire); to 0 by the owner, or the engine once that is dead (release).
 *   state     IDLE to SUBMITTED and DONE to IDLE by the owner; SUBMITTED to RUNNING to DONE by the engine. SUBMITTED
 *             (release) meets the engine's look (acquire): the cell's fields and the page are there. DONE (release)
 *             meets the owner's (acquire): result and page. SLEEPER is the owner's, added by compare-and-swap; who sets
 *             DONE finds it in the old word and wakes.
 *   doorbell, asleep, waiters, freed   see ring.c.
 *   ended     set once, by the engine or by who finds it dead.
 *   hint, told, stalled   hints, relaxed.
 * Context of all but ring_create: any thread, also signal handlers; no libc.
 */
#pragma once

#include "base/types.h"
#include "sync/atomic.h"

enum {
	RING_CELLS = 256,
	/*
	 * The others are for reads, so that a fault does not wait behind pages on their way out, and for trims: who
	 * claims one for a trim may have cells of writes, who waits for these has none.
	 */
	RING_WRITE_CELLS = 192,
	RING_MEMBERS = 4096,
	RING_TEXT = 200,
};

enum ring_op { RING_READ, RING_WRITE, RING_TRIM };

enum cell_state {
	CELL_IDLE,
	CELL_SUBMITTED,
	CELL_RUNNING,
	CELL_DONE,
	CELL_STATE_MASK = 3,
	CELL_SLEEPER = 4,
};

/*
 * A write that was sent and whose answer never came, or came for its repetition on another connection, may still be
 * carried out by the server at any later time: its location must not be written with other data in this run. Whose it
 * is does not use it again; for when that process has ended, the engine holds the extent (space_hold). So it does after
 * such a trim, which may wipe what others write there.
 */
enum cell_flags { CELL_TAINTED = 1 };

struct ring_cell {
	struct atomic64 owner; /* process_id; 0: free */
	struct atomic32 state; /* enum cell_state */
	u32 op; /* enum ring_op */
	u64 location; /* in pages */
	u32 nr; /* pages; not 1 for RING_TRIM only */
	int err; /* 0 or -errno */
	u32 flags; /* enum cell_flags, of the result */
	u32 unused[7];
};

struct ring {
	u32 magic;
	u64 nr_pages; /* of the device. Constant from the moment on when the engine is ready, as are the next two */
	u64 engine; /* its process_id */
	int space_fd; /* the engine's descriptor of the space (swap/space.h) that the processes share */
	struct atomic32 doorbell; /* bumped with each submission */
	struct atomic32 asleep; /* the engine sleeps, or is about to */
	struct atomic32 freed; /* bumped with each cell that comes free */
	struct atomic32 waiters; /* who sleep on it; one too many after a kill, which costs system calls only */
	struct atomic32 hint; /* where to look for a free cell */
	struct atomic32 ended;
	struct atomic32 told; /* that requests fail, or that the engine has ended */
	struct atomic32 retired; /* by `weir swapoff`: the engine ends when nobody uses it, though the run goes on */
	struct atomic32 stalled; /* seconds on the clock since when nothing has come, told; 0: all is well */
	char reason[RING_TEXT]; /* what the engine last found wrong, for messages; may be torn, always ends in NUL */
	struct atomic64 member[RING_MEMBERS]; /* process_ids of who has opened the device */
	struct ring_cell cell[RING_CELLS] __attribute__((aligned(64)));
};

/* A new ring in memory whose descriptor (closed on exec) goes to *fd. 0 or -errno. */
int must_check ring_create(struct ring **ring, int *fd);

/* Maps what another process has made. 0, -errno, or -EINVAL: it is no such thing. */
int must_check ring_open(const char *path, struct ring **ring);
int must_check ring_map(int fd, struct ring **ring);
void ring_close(struct ring *ring);

void *ring_page(struct ring *ring, u32 cell);

/*
 * Notes that the process uses the device, so that the engine stays. -EAGAIN: too many do. Waits for what an earlier
 * program of the process has left under way, and frees its cells. Context: this program has claimed none yet.
 */
int must_check ring_join(struct ring *ring, u64 id);

/* The process has closed the device. Context: it has no cell. */
void ring_leave(struct ring *ring, u64 id);

/*
 * Claims 1 to `nr` cells for requests of that kind, neighbours where possible; sleeps while there are none. Returns how
 * many; 0: the engine has ended.
 */
u32 must_check ring_claim(struct ring *ring, u64 id, enum ring_op op, u32 *cells, u32 nr);
/* The same at once or not at all. */
u32 must_check ring_try_claim(struct ring *ring, u64 id, enum ring_op op, u32 *cells, u32 nr);

/* Submits filled cells; one call for many rings the bell once. */
void ring_submit(struct ring *ring, const u32 *cells, u32 nr);

bool ring_is_done(struct ring *ring, u32 cell);
bool ring_is_running(struct ring *ring, u32 cell);

/* Sleeps until the request is done, at most ns. 0, -ETIMEDOUT, or -EPIPE: the engine has ended. */
int must_check ring_wait(struct ring *ring, u32 cell, u64 ns);
void ring_free(struct ring *ring, u32 cell);

bool ring_has_ended(struct ring *ring);

/* ---- for the engine ---- */

/* Takes up to RING_CELLS submitted cells, which are RUNNING then. Returns how many. */
u32 ring_collect(struct ring *ring, u32 *cells);
/* Sleeps until something may have been submitted since `seen`, which is doorbell before ring_collect; at most ns. */
void ring_sleep(struct ring *ring, u32 seen, u64 ns);
void ring_complete(struct ring *ring, u32 cell, int err, u32 flags);
/* Frees the cells of the dead. Returns how many members live. */
u32 ring_reap(struct ring *ring);
void ring_end(struct ring *ring);
