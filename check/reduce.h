/* SPDX-License-Identifier: MIT */
/*
 * Partial-order reduction: which of the schedules that a search could try differ in nothing but the order of steps that
 * do not conflict.
 *
 * Two steps conflict if they use the same shared object and not both only look at it (sched_step_uses: words, pages,
 * frames, slots of devices, locks, queues of sleepers), or if one woke the thread of the other; a timeout, which comes
 * only when nobody can run, conflicts with all. Swapping neighbours that do not conflict changes neither what each of
 * them does nor the state after both, but for what nobody decides on (world_classify).
 *
 * Sleep sets (Godefroid 1996). When all that begins with thread t here has been explored, t sleeps: it need not run in
 * what is explored next before something has conflicted with its step. An exception are threads that came back to a
 * state of the same run: their branch was left for good there, so that nothing that follows counts as explored by it.
 */
#pragma once

#include "scheduler.h"

/* A state of the run at hand, before the step of the same number. */
struct branch {
	u8 enabled, choices, done, chosen;
	u8 arrived; /* SEARCH_PRIORITY */
	u8 asleep; /* need not be chosen here, nor any of its later steps, before a conflict */
	u8 cyclic; /* threads by which a run came back to a state before this */
	u32 preemptions; /* SEARCH_BOUNDED and SEARCH_DPOR: before this step */
	u32 timeouts; /* SEARCH_DPOR: before this step */
	u64 state; /* SEARCH_ALL, and SEARCH_DPOR where it is needed, else 0 */
	u64 stacks; /* SEARCH_DPOR: the threads' part of it */
	struct step_uses uses[THREADS_MAX]; /* what the step of each in `done` and `asleep` does here */
	/* SEARCH_DPOR: how many steps of the run happen before each thread's next step, and up to this step itself. */
	u16 before[THREADS_MAX][THREADS_MAX], upto[THREADS_MAX];
};

extern struct branch branches[STEPS_MAX + 1];

/* Who sleeps before `step`, which was not there before in this run. */
void reduce_sleep(u32 step);

/* The chosen thread has been explored: what its step did is kept. */
void reduce_done(u32 step);

/* The state before `to` is that before `from` again. */
void reduce_cycle(u32 from, u32 to);

/*
 * Dynamic partial-order reduction by source sets (Abdulla et al. 2014, for steps that can block). `step` has been run:
 * with each earlier step that conflicts with it and could as well have come after it, a choice is added where that one
 * was made, unless there is one already that leads there.
 *
 * With a bound on preemptions the other order may be out of reach from there. Then no race is left out because of
 * another, nobody sleeps, and each choice is also added where the thread that loses by it was switched to (Coons et al.
 * 2013): coming in there costs nothing.
 */
void reduce_races(u32 step, bool bounded);

/* What happened before `step`, which was not there before in this run. All steps before it are through reduce_races. */
void reduce_order(u32 step);
