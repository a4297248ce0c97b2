/* SPDX-License-Identifier: MIT */
/*
 * Searches the schedules of a scenario.
 *
 *   SEARCH_ALL       to the end. Each run goes on until it comes to a state that was there before; then the search
 *                    goes back to the deepest state where another thread could have been chosen and repeats the way
 *                    there. A state is all memory that a run can change and all that the threads have in hand, as a
 *                    hash of 64 bits. Steps that sleep sets show to lead to known states are left out (reduce.h).
 *                    A state that is met again in the same run, with no thread left out meanwhile that could have run,
 *                    is a livelock.
 *   SEARCH_DPOR      dynamic partial-order reduction, stateless: of schedules that differ in the order of independent
 *                    steps only, one, or with a bound all of those within it that races ask for. Two threads, or three
 *                    that seldom meet, are searched to the end in seconds; two faulters and an evictor have millions
 *                    of inequivalent runs, but only some ten thousand states. States are compared within a run, so
 *                    that one that goes round for ever ends.
 *   SEARCH_BOUNDED   all schedules with up to so many preemptions
 *   SEARCH_RANDOM    PCT (Burckhardt et al. 2010): random priorities with a few random changes
 *   SEARCH_PRIORITY  fixed priorities, the highest that can runs; when each comes in is what is searched
 */
#pragma once

#include "scenarios.h"

enum { OPS_MAX = STEPS_MAX };

enum search_mode { SEARCH_ALL, SEARCH_DPOR, SEARCH_BOUNDED, SEARCH_RANDOM, SEARCH_PRIORITY };

struct search {
	enum search_mode mode;
	u32 preemptions; /* SEARCH_BOUNDED; SEARCH_DPOR if it is bounded */
	bool bounded;
	u64 seed; /* SEARCH_RANDOM */
	u64 runs_max; /* 0: no limit */
	double seconds_max; /* of CPU time; 0: no limit */
	bool unreduced; /* SEARCH_ALL without sleep sets: to check the checker */
	bool every_op; /* each operation is a step, also where it cannot matter: to check the checker */
};

/* Which thread does each operation (scheduler.h), so that it means the same whatever is known about sharing. */
struct schedule {
	u32 nr;
	u8 thread[OPS_MAX];
};

struct search_result {
	u64 runs, states; /* SEARCH_ALL: runs end where a state is met again */
	u64 ends, ends_hash; /* different ends that matter (world_end_hash), and a sum over them */
	double seconds; /* of CPU time */
	bool complete; /* explored to the end */
	struct finding finding;
	struct schedule schedule; /* of the finding */
	u32 steps_max, spins_max, timeouts_max, waits_max; /* in any one run */
};

/* Prepares the world; all below is about it. False: that ended in a finding already, sched_finding(). */
bool must_check explore_load(const struct scenario *scenario, enum swapin_policy policy, enum swapin_relax relax);

void explore_search(const struct search *search, struct search_result *result);

/* Looks for the same kind of finding with fewer preemptions; replaces the schedule if there is one. */
void explore_shorten(struct search_result *result, u64 runs_max);

/* Repeats a run. */
void explore_replay(const struct schedule *schedule, struct search_result *result);

/* "0x12.1x30.2": so many steps of each thread in turn; a count of 1 is left out. False: not of that form. */
void schedule_print(const struct schedule *schedule, char *text, size_t size);
bool must_check schedule_parse(const char *text, struct schedule *schedule);
u32 schedule_switches(const struct schedule *schedule);
