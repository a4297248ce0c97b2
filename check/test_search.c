// SPDX-License-Identifier: MIT
/*
 * Tests the searches against each other: leaving schedules out because they are equivalent must lose neither a finding
 * nor an end that the program could have come to.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "explore.h"
#include "mm/policy.h"

enum {
	RUNS_MAX = 8000, /* larger worlds are neither searched without sleep sets, nor by DPOR, but for those below */
	DPOR_RUNS_MAX = 64000,
	BOUNDED_RUNS_MAX = 20000, /* nor with a bound on preemptions */
	PREEMPTIONS = 2,
};

/* Those that DPOR must come to the end of with `direct`, so that the comparison is one. */
static const char *const dpor_ends[] = { "stuck",      "swapoff",	"compete", "readers",	  "full",
					 "read-error", "bad-neighbour", "gate-closers" };

static struct search_result all, other;

/* False: the setup ended in a finding. */
static bool search(const struct scenario *sc, enum swapin_policy policy, enum swapin_relax relax, struct search search,
		   struct search_result *result)
{
	if (!explore_load(sc, policy, relax))
		return false;
	explore_search(&search, result);
	return true;
}

static int differs(const struct scenario *sc, enum swapin_policy policy, const char *how, const struct search_result *a,
		   const struct search_result *b)
{
	if (a->complete && b->complete && a->ends > 0 && a->ends == b->ends && a->ends_hash == b->ends_hash)
		return 0;
	printf("FAILED: %s, %s, %s: %" PRIu64 " and %" PRIu64 " ends, %s; %s\n", sc->name, swapin_policies[policy].name,
	       how, a->ends, b->ends, a->finding.kind ? a->finding.text : "nothing",
	       b->finding.kind ? b->finding.text : "nothing");
	return 1;
}

static bool dpor_must_end(const struct scenario *sc, enum swapin_policy policy)
{
	for (u32 i = 0; i < ARRAY_SIZE(dpor_ends) && policy == SWAPIN_DIRECT; i++) {
		if (!strcmp(dpor_ends[i], sc->name))
			return true;
	}
	return false;
}

static int compare_to_the_end(const struct scenario *sc, enum swapin_policy policy)
{
	struct search unreduced = { .mode = SEARCH_ALL, .unreduced = true };
	struct search dpor = { .mode = SEARCH_DPOR, .runs_max = DPOR_RUNS_MAX };
	int failed = 0;

	if (!search(sc, policy, RELAX_SLOT, (struct search){ .mode = SEARCH_ALL }, &all))
		return 1;
	printf("%-14s %-7s %9" PRIu64, sc->name, swapin_policies[policy].name, all.runs);
	if (all.runs > RUNS_MAX && !dpor_must_end(sc, policy)) {
		printf(" %9s %9s", "-", "-");
		return 0;
	}
	failed += !search(sc, policy, RELAX_SLOT, unreduced, &other);
	printf(" %9" PRIu64, other.runs);
	failed += all.runs > other.runs;
	failed += differs(sc, policy, "without sleep sets", &all, &other);
	failed += !search(sc, policy, RELAX_SLOT, dpor, &other);
	if (other.complete || other.finding.kind || dpor_must_end(sc, policy)) {
		printf(" %9" PRIu64, other.runs);
		failed += differs(sc, policy, "dpor", &all, &other);
	} else {
		printf(" %9s", "-");
	}
	return failed;
}

static int compare_bounded(const struct scenario *sc, enum swapin_policy policy)
{
	struct search bounded = { .mode = SEARCH_BOUNDED, .preemptions = PREEMPTIONS, .runs_max = BOUNDED_RUNS_MAX };
	struct search dpor = { .mode = SEARCH_DPOR, .bounded = true, .preemptions = PREEMPTIONS };

	if (!search(sc, policy, RELAX_SLOT, bounded, &all))
		return 1;
	if (!all.complete && !all.finding.kind) {
		printf(" %9s %9s\n", "-", "-");
		return 0;
	}
	if (!search(sc, policy, RELAX_SLOT, dpor, &other))
		return 1;
	printf(" %9" PRIu64 " %9" PRIu64 "\n", all.runs, other.runs);
	return differs(sc, policy, "dpor, bounded", &all, &other);
}

static int test_same_ends(void)
{
	static const enum swapin_policy policies[] = { SWAPIN_DIRECT, SWAPIN_CACHED };
	int failed = 0;

	printf("%-14s %-7s %9s %9s %9s %9s %9s\n", "scenario", "policy", "runs", "unreduced", "dpor", "bounded",
	       "and dpor");
	for (const struct scenario *sc = scenarios; sc->name; sc++) {
		for (u32 i = 0; i < ARRAY_SIZE(policies) && !sc->priority; i++) {
			failed += compare_to_the_end(sc, policies[i]);
			failed += compare_bounded(sc, policies[i]);
			fflush(stdout);
		}
	}
	return failed;
}

/* What the lab's ways to swap in are there to show, found by DPOR as well. */
static int test_findings(void)
{
	static const struct {
		const char *scenario;
		enum swapin_policy policy;
		enum swapin_relax relax;
		bool bounded;
		enum finding_kind kind;
	} known[] = {
		{ "pair", SWAPIN_DIRECT_UNSAFE, RELAX_SLOT, false, FOUND_LOSS },
		{ "pair-discard", SWAPIN_DIRECT_UNSAFE, RELAX_SLOT, false, FOUND_LOSS },
		{ "seed", SWAPIN_DIRECT_UNSAFE, RELAX_SLOT, true, FOUND_LOSS },
		{ "discard", SWAPIN_DIRECT_UNSAFE, RELAX_SLOT, true, FOUND_LOSS },
		{ "swapoff", SWAPIN_DIRECT_UNSAFE, RELAX_SLOT, false, FOUND_DEVICE },
		{ "bad-neighbour", SWAPIN_DIRECT_UNSAFE, RELAX_SLOT, false, FOUND_ERROR },
		{ "seed", SWAPIN_DIRECT_COUNT, RELAX_SLOT, false, FOUND_DEVICE },
		{ "stuck", SWAPIN_DIRECT_RETRY, RELAX_SLOT, false, FOUND_LIVELOCK },
		{ "stuck", SWAPIN_DIRECT_RETRY, RELAX_YIELD, false, FOUND_LIVELOCK },
	};
	int failed = 0;

	for (u32 i = 0; i < ARRAY_SIZE(known); i++) {
		const struct scenario *sc = scenario_find(known[i].scenario);
		struct search dpor = { .mode = SEARCH_DPOR, .bounded = known[i].bounded, .preemptions = PREEMPTIONS };

		if (search(sc, known[i].policy, known[i].relax, dpor, &other) && other.finding.kind == known[i].kind) {
			printf("%-14s %-13s %9" PRIu64 "  %s\n", sc->name, swapin_policies[known[i].policy].name,
			       other.runs, other.finding.text);
			continue;
		}
		printf("FAILED: %s, %s: %s\n", sc->name, swapin_policies[known[i].policy].name,
		       other.finding.kind ? other.finding.text : "nothing found");
		failed++;
	}
	return failed;
}

int main(void)
{
	int failed = 0;

	if (sched_init())
		return 1;
	failed += test_same_ends();
	failed += test_findings();
	printf("%d failed\n", failed);
	return failed != 0;
}
