// SPDX-License-Identifier: MIT
/*
 * Tests the model checker: without a fault in src/mm it must find nothing, and each deliberate fault (base/mutation.h)
 * must be found by one of the scenarios; so must what is wrong with the ways to swap in that are not ours. Built with
 * -DWEIR_MUTATIONS.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mutation.h"
#include "explore.h"

enum {
	SCENARIOS_MAX = 96,
	SECONDS_MAX = 20, /* of processor time: one search for a fault; */
	SECONDS_TO_THE_END = 120, /* and one where nothing is wrong */
};

int weir_mutation;

static const char *const mutation_names[NR_MUTATIONS] = {
	[MUTATE_NOTHING] = "nothing",
	[MUTATE_UNPIN_EARLY] = "unpin early",
	[MUTATE_SKIP_LOOK] = "skip look",
	[MUTATE_SKIP_PTE_SAME] = "skip pte_same",
	[MUTATE_CLEAN_WRITABLE] = "clean writable",
	[MUTATE_WP_KEEPS_SLOT] = "wp keeps slot",
	[MUTATE_WP_STAYS_CLEAN] = "wp stays clean",
	[MUTATE_KEEP_DIRTY] = "keep dirty",
	[MUTATE_TAKE_BACK_NO_PUT] = "take back, no put",
	[MUTATE_AREA_UNCHECKED] = "area unchecked",
	[MUTATE_PTE_NO_WAKE] = "pte no wake",
	[MUTATE_HOLD_LOCKED] = "hold locked",
	[MUTATE_HOLDS_LOST] = "holds lost",
	[MUTATE_SLOT_NO_WAKE] = "slot no wake",
	[MUTATE_PUBLISH_NO_WAKE] = "publish no wake",
	[MUTATE_WAKE_ONE] = "wake one",
	[MUTATE_SLEEP_UNANNOUNCED] = "sleep unannounced",
	[MUTATE_FREE_PINNED] = "free pinned",
	[MUTATE_DETACH_LOCKED] = "detach locked",
	[MUTATE_DISCARD_LATE] = "discard late",
	[MUTATE_EVICT_HELD] = "evict held",
	[MUTATE_NO_PUT_BACK] = "no put back",
	[MUTATE_FRAME_NO_BUMP] = "frame no bump",
	[MUTATE_TABLE_NO_LOOK] = "table no look",
	[MUTATE_PROTECT_HELD] = "protect held",
	[MUTATE_DROP_UNSEEN] = "drop unseen",
	[MUTATE_RELEASE_CLEAN] = "release clean",
	[MUTATE_DROP_UNWRITTEN] = "drop unwritten",
	[MUTATE_GATE_LETS_IN] = "gate lets in",
	[MUTATE_GATE_NO_DRAIN] = "gate no drain",
	[MUTATE_GATE_NO_WAKE] = "gate no wake",
	[MUTATE_LEAVE_NO_WAKE] = "leave no wake",
	[MUTATE_FORK_WRITABLE] = "fork writable",
	[MUTATE_FORK_UNMANAGED] = "fork unmanaged",
	[MUTATE_FORK_RUNNING] = "fork running",
	[MUTATE_DEMOTE_UNPINNED] = "demote unpinned",
	[MUTATE_DROP_STALE] = "drop stale",
	[MUTATE_REUSE_UNPINNED] = "reuse unpinned",
	[MUTATE_COMPACT_UNPINNED] = "compact unpinned",
};

/* One search; they are tried from the shortest on. */
struct trial {
	const struct scenario *scenario;
	enum swapin_policy policy;
	u64 runs; /* without a fault */
};

static struct trial trials[2 * SCENARIOS_MAX];
static u32 nr_trials;
static struct search_result result;

/* True if something was found. */
static bool search(const struct trial *t, enum swapin_relax relax, u32 seconds_max)
{
	struct search search = { .mode = t->scenario->priority ? SEARCH_PRIORITY : SEARCH_ALL,
				 .seconds_max = seconds_max };

	if (!explore_load(t->scenario, t->policy, relax)) {
		result.finding = *sched_finding();
		return true;
	}
	explore_search(&search, &result);
	return result.finding.kind != FOUND_NOTHING;
}

static int by_runs(const void *a, const void *b)
{
	u64 x = ((const struct trial *)a)->runs, y = ((const struct trial *)b)->runs;

	return x < y ? -1 : x > y;
}

/* Nothing may be found where nothing is wrong. Returns the number of findings. */
static int test_no_mutation(void)
{
	static const enum swapin_policy policies[] = { SWAPIN_DIRECT, SWAPIN_CACHED };
	int failed = 0;

	for (const struct scenario *sc = scenarios; sc->name; sc++) {
		for (u32 i = 0; i < ARRAY_SIZE(policies); i++) {
			struct trial *t = &trials[nr_trials++];

			*t = (struct trial){ .scenario = sc, .policy = policies[i] };
			if (search(t, RELAX_SLOT, SECONDS_TO_THE_END) || !result.complete) {
				printf("FAILED: %s, %s: %s\n", sc->name, swapin_policies[t->policy].name,
				       result.finding.kind ? result.finding.text : "not explored to the end");
				failed++;
				nr_trials--;
			}
			t->runs = result.runs;
		}
	}
	qsort(trials, nr_trials, sizeof(trials[0]), by_runs);
	return failed;
}

static int test_mutation(int id)
{
	u64 runs = 0;

	weir_mutation = id;
	for (u32 i = 0; i < nr_trials; i++) {
		const struct trial *t = &trials[i];
		bool found = search(t, RELAX_SLOT, SECONDS_MAX);

		runs += result.runs;
		if (!found)
			continue;
		printf("%-18s %-14s %-7s %9" PRIu64 "  %s\n", mutation_names[id], t->scenario->name,
		       swapin_policies[t->policy].name, runs, result.finding.text);
		return 0;
	}
	printf("FAILED: %s is not found in %" PRIu64 " runs\n", mutation_names[id], runs);
	return 1;
}

/* What the lab's ways to swap in and to wait are there to show. */
static int test_choices(void)
{
	static const struct {
		const char *scenario;
		enum swapin_policy policy;
		enum swapin_relax relax;
		enum finding_kind kind;
	} known[] = {
		{ "seed", SWAPIN_DIRECT_UNSAFE, RELAX_SLOT, FOUND_LOSS },
		{ "discard", SWAPIN_DIRECT_UNSAFE, RELAX_SLOT, FOUND_LOSS },
		{ "swapoff", SWAPIN_DIRECT_UNSAFE, RELAX_SLOT, FOUND_DEVICE },
		{ "seed", SWAPIN_DIRECT_COUNT, RELAX_SLOT, FOUND_DEVICE },
		{ "stuck", SWAPIN_DIRECT_RETRY, RELAX_SLOT, FOUND_LIVELOCK },
		{ "stuck", SWAPIN_DIRECT_RETRY, RELAX_NONE, FOUND_LIVELOCK },
		{ "stuck", SWAPIN_DIRECT_RETRY, RELAX_YIELD, FOUND_LIVELOCK },
		{ "priority", SWAPIN_DIRECT_RETRY, RELAX_SLOT, FOUND_LIVELOCK },
		{ "priority", SWAPIN_DIRECT, RELAX_NONE, FOUND_LIVELOCK },
		{ "priority", SWAPIN_DIRECT, RELAX_YIELD, FOUND_LIVELOCK },
	};
	int failed = 0;

	for (u32 i = 0; i < ARRAY_SIZE(known); i++) {
		const struct trial t = { .scenario = scenario_find(known[i].scenario), .policy = known[i].policy };

		if (search(&t, known[i].relax, SECONDS_MAX) && result.finding.kind == known[i].kind)
			continue;
		printf("FAILED: %s, %s, %s: %s\n", known[i].scenario, swapin_policies[known[i].policy].name,
		       swapin_relaxes[known[i].relax].name,
		       result.finding.kind ? result.finding.text : "nothing found");
		failed++;
	}
	return failed;
}

int main(int argc, char **argv)
{
	int failed = 0;

	if (sched_init())
		return 1;
	failed += test_no_mutation();
	failed += test_choices();
	printf("%-18s %-14s %-7s %9s  %s\n", "fault", "scenario", "policy", "runs", "finding");
	for (int id = 1; id < NR_MUTATIONS; id++) {
		if (argc < 2 || id == atoi(argv[1]))
			failed += test_mutation(id);
		fflush(stdout);
	}
	printf("%d failed\n", failed);
	return failed != 0;
}
