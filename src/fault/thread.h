/* SPDX-License-Identifier: MIT */
/*
 * Faults by message (VM_FAULTS_THREAD): the faulting thread sleeps in the kernel while a handler thread of weir's own
 * serves the page. Accesses by the kernel fault the same way, so system calls need no help.
 *
 * A message that crosses to another processor costs several times the work itself, and the kernel does not choose the
 * reader, so there is a handler per processor, bound to it, and of these only those run that have faults of their own:
 * an usher looks where the faulting threads are, every 10 ms, has handlers started and woken and sends them away.
 *
 * What differs from a SIGBUS in the thread: a page that cannot be read back is poisoned, so the SIGBUS may have the
 * code BUS_MCEERR_AR, comes again at each access until the range is unmapped or dropped, and is EFAULT in a system
 * call.
 *
 * Locking: none; states are atomic. Handlers take what handle_mm_fault() takes. Nobody who holds a lock of the core, or
 * closed its gate, may touch the window: the handler that would serve it might sleep on just that.
 */
#pragma once

#include "mm/mm.h"

enum { FAULT_HANDLERS_MAX = 64 };

enum fault_handler_state {
	HANDLER_NONE, /* no thread */
	HANDLER_RUNS,
	HANDLER_LEAVES, /* asked to: parks after its next message, if another runs */
	HANDLER_PARKED,
};

struct fault_threads;

struct fault_handler {
	struct sync_thread thread;
	struct fault_threads *all;
	u32 cpu;
	/*
	 * NONE -> RUNS: who starts the thread. RUNS -> LEAVES, LEAVES or PARKED -> RUNS: the usher, by
	 * compare-and-swap. LEAVES -> PARKED: the handler, likewise.
	 */
	struct atomic32 state;
	struct atomic32 started; /* has a thread to join: set by who starts it, cleared by the joiner */
	/* Hints for the usher, written by the handler. */
	struct atomic32 tid; /* whom it served last */
	struct atomic32 nr_served;
};

struct fault_threads {
	struct mm *mm;
	void (*out_of_memory)(const char *why);
	struct fault_handler handlers[FAULT_HANDLERS_MAX];
	u32 nr_handlers;	    /* processors that we may run on; constant after the start */
	u64 cpus[16];		    /* their mask */
	struct atomic32 nr_running; /* handlers that take messages: never falls to 0 */
	struct atomic32 wanted;	    /* 1 + the handler to start next: set by the usher, taken by a handler */
	struct atomic32 stop;
	struct sync_thread usher;
	struct atomic32 usher_started;
	struct atomic32 usher_wake;   /* bumped by who wakes it */
	struct atomic32 usher_asleep; /* set by the usher; cleared by who wakes it */
};

/*
 * Starts the first handler, on this processor. Between vm_register() and vm_manage(). `out_of_memory` as in
 * fault_signal(), but called on a handler, which has no libc to speak of. Does nothing when it has been done. `ft` is
 * zeroed before the first time. 0 or -errno.
 */
int must_check fault_threads_start(struct fault_threads *ft, struct mm *mm, void (*out_of_memory)(const char *why));

/* The same in a forked child, which has copies of the parent's threads' stacks and no threads. */
int must_check fault_threads_start_in_child(struct fault_threads *ft);

/* Ends all threads; takes up to a tenth of a second. Nobody touches the window any more. */
void fault_threads_stop(struct fault_threads *ft);
