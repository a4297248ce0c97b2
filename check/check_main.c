// SPDX-License-Identifier: MIT
#include "check_main.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "explore.h"
#include "mm/policy.h"
#include "trace.h"

enum {
	SHORTEN_RUNS_MAX = 200000, /* per number of preemptions */
	REPLAY_CHARS = 1 << 16,
	RUNS_DEFAULT = 100000, /* of a random search */
};

enum { EXIT_CLEAN, EXIT_FOUND, EXIT_USAGE };

static struct {
	const char *name; /* of the command */
	const struct scenario *scenario; /* NULL: each */
	enum swapin_policy policy;
	enum swapin_relax relax;
	struct search search;
	bool all, json, verbose;
	u32 printed; /* --json: records so far */
} opt;

static const char usage[] =
	"Explores what threads can do to each other in the swap-in path, with the real code of src/mm.\n"
	"\n"
	"  --all               every scenario with every policy, as a table\n"
	"  --scenario NAME     one scenario (default: each)\n"
	"  --policy NAME       how a page is swapped in (default: direct)\n"
	"  --relax NAME        how the loser of a pin waits (default: slot)\n"
	"  --search NAME       how all schedules are searched: by the states that they meet (states, the\n"
	"                      default), or one of all that are equivalent, without states (dpor)\n"
	"  --preemptions N     only schedules with at most N preemptions\n"
	"  --seed N, --runs N  random schedules instead of all: N runs (default: 100000)\n"
	"  --seconds N         stop a search after N seconds of CPU time\n"
	"  --replay STRING     repeat the run that a finding names, step by step\n"
	"  --verbose           with all steps in traces, also those on hints and counters\n"
	"  --json              one record per search, without traces\n"
	"  --list              scenarios, policies and ways to wait\n"
	"  --help\n"
	"\n"
	"Columns: runs explored, states met, and `waits`: how often, at most, losers of a slot waited in one run.\n";

static const char *kind_name(enum finding_kind kind)
{
	static const char *const names[NR_FINDING_KINDS] = { "nothing", "data loss", "device", "deadlock", "livelock",
							     "invariant", "error", "endless" };

	return names[kind];
}

static void list(void)
{
	puts("Scenarios:");
	for (const struct scenario *sc = scenarios; sc->name; sc++)
		printf("  %-14s %s\n", sc->name, sc->help);
	puts("Policies:");
	for (int i = 0; i < NR_SWAPIN_POLICIES; i++)
		printf("  %-14s %s\n", swapin_policies[i].name, swapin_policies[i].help);
	puts("Ways to wait:");
	for (int i = 0; i < NR_SWAPIN_RELAXES; i++)
		printf("  %-14s %s\n", swapin_relaxes[i].name, swapin_relaxes[i].help);
}

/* ---- one search ---- */

static void print_json(const struct scenario *sc, const struct search_result *r, const char *replay)
{
	printf("%s\n  {\"scenario\": \"%s\", \"policy\": \"%s\", \"relax\": \"%s\", \"runs\": %" PRIu64
	       ", \"states\": %" PRIu64 ", \"seconds\": %.3f, \"complete\": %s, \"steps_max\": %u, \"waits_max\": %u, "
	       "\"timeouts_max\": %u, \"finding\": \"%s\", \"text\": \"%s\", \"replay\": \"%s\"}",
	       opt.printed++ ? "," : "[", sc->name, swapin_policies[opt.policy].name, swapin_relaxes[opt.relax].name,
	       r->runs, r->states, r->seconds, r->complete ? "true" : "false", r->steps_max, r->waits_max,
	       r->timeouts_max, kind_name(r->finding.kind), r->finding.text, replay);
}

static void print_row(const struct scenario *sc, const struct search_result *r)
{
	const char *outcome = r->complete ? "nothing (explored to the end)" : "nothing (not to the end)";

	if (r->finding.kind)
		outcome = r->finding.text;
	printf("%-14s %-14s %-6s %9" PRIu64 " %9" PRIu64 " %7.2f %5u  %s%s%s\n", sc->name,
	       swapin_policies[opt.policy].name, swapin_relaxes[opt.relax].name, r->runs, r->states, r->seconds,
	       r->waits_max, r->finding.kind ? kind_name(r->finding.kind) : "", r->finding.kind ? ": " : "", outcome);
	fflush(stdout);
}

static void print_head(void)
{
	printf("%-14s %-14s %-6s %9s %9s %7s %5s  %s\n", "scenario", "policy", "relax", "runs", "states", "seconds",
	       "waits", "finding");
}

static char *replay_text(const struct scenario *sc, const struct search_result *r)
{
	static char text[REPLAY_CHARS];
	int len = snprintf(text, sizeof(text), "%s/%s/%s/", sc->name, swapin_policies[opt.policy].name,
			   swapin_relaxes[opt.relax].name);

	schedule_print(&r->schedule, text + len, sizeof(text) - (size_t)len);
	return text;
}

static void print_trace(const struct schedule *schedule)
{
	static struct search_result again;

	sched_trace(true);
	explore_replay(schedule, &again);
	sched_trace(false);
	putchar('\n');
	trace_print(stdout, opt.verbose);
	printf("\n%s%s%s\n", kind_name(again.finding.kind), again.finding.kind ? ": " : "", again.finding.text);
}

static bool setup_failed(const struct scenario *sc)
{
	fprintf(stderr, "%s: the setup of %s failed: %s\n", opt.name, sc->name, sched_finding()->text);
	return true;
}

/* Returns whether something was found. */
static bool search_one(const struct scenario *sc)
{
	static struct search_result r;
	struct search search = opt.search;

	if (sc->priority) {
		search.mode = SEARCH_PRIORITY;
		search.bounded = false;
	}
	if (!explore_load(sc, opt.policy, opt.relax))
		return setup_failed(sc);
	explore_search(&search, &r);
	if (r.finding.kind && !opt.all && !sc->priority)
		explore_shorten(&r, SHORTEN_RUNS_MAX);
	if (opt.json) {
		print_json(sc, &r, r.finding.kind ? replay_text(sc, &r) : "");
	} else {
		print_row(sc, &r);
		if (r.finding.kind && !opt.all) {
			print_trace(&r.schedule);
			printf("again: %s --replay %s\n", opt.name, replay_text(sc, &r));
		}
	}
	return r.finding.kind != FOUND_NOTHING;
}

/* ---- all of them ---- */

/* Only what is safe may not be found anything in; and it must be explored to the end. */
static bool search_choice(const struct scenario *sc, enum swapin_policy policy, enum swapin_relax relax)
{
	opt.policy = policy;
	opt.relax = relax;
	return search_one(sc) && swapin_policies[policy].safe && swapin_relaxes[relax].safe;
}

static int search_all(void)
{
	bool bad = false;

	for (const struct scenario *sc = scenarios; sc->name; sc++) {
		if (opt.scenario && sc != opt.scenario)
			continue;
		for (int p = 0; p < NR_SWAPIN_POLICIES; p++)
			bad |= search_choice(sc, (enum swapin_policy)p, RELAX_SLOT);
		for (int x = 0; x < NR_SWAPIN_RELAXES && sc->all_relaxes; x++) {
			if (x == RELAX_SLOT)
				continue;
			bad |= search_choice(sc, SWAPIN_DIRECT, (enum swapin_relax)x);
			bad |= search_choice(sc, SWAPIN_DIRECT_RETRY, (enum swapin_relax)x);
		}
	}
	return bad ? EXIT_FOUND : EXIT_CLEAN;
}

static int search_scenarios(void)
{
	bool found = false;

	for (const struct scenario *sc = scenarios; sc->name; sc++) {
		if (!opt.scenario || sc == opt.scenario)
			found |= search_one(sc);
	}
	return found ? EXIT_FOUND : EXIT_CLEAN;
}

/* ---- options ---- */

static int wrong(const char *what, const char *value)
{
	fprintf(stderr, "%s: %s: %s (--list and --help say what there is)\n", opt.name, what, value);
	return EXIT_USAGE;
}

static int take_scenario(const char *name)
{
	opt.scenario = scenario_find(name);
	return opt.scenario ? 0 : wrong("no such scenario", name);
}

static int take_policy(const char *name)
{
	int found = swapin_choice_find(swapin_policies, NR_SWAPIN_POLICIES, name);

	if (found < 0)
		return wrong("no such policy", name);
	opt.policy = (enum swapin_policy)found;
	return 0;
}

static int take_relax(const char *name)
{
	int found = swapin_choice_find(swapin_relaxes, NR_SWAPIN_RELAXES, name);

	if (found < 0)
		return wrong("no such way to wait", name);
	opt.relax = (enum swapin_relax)found;
	return 0;
}

static int take_mode(const char *name)
{
	bool dpor = !strcmp(name, "dpor");

	if (!dpor && strcmp(name, "states"))
		return wrong("no such search", name);
	opt.search.mode = dpor ? SEARCH_DPOR : SEARCH_ALL;
	return 0;
}

static int take_number(const char *text, u64 max, u64 *number)
{
	char *end;

	*number = strtoull(text, &end, 10);
	if (end == text || *end || *number > max)
		return wrong("not a number in range", text);
	return 0;
}

/* "scenario/policy/relax/schedule" */
static int replay(char *text)
{
	static struct schedule schedule;
	char *part[4] = { text };

	for (int i = 1; i < 4; i++) {
		part[i] = strchr(part[i - 1], '/');
		if (!part[i])
			return wrong("not a run", text);
		*part[i]++ = '\0';
	}
	if (take_scenario(part[0]) || take_policy(part[1]) || take_relax(part[2]))
		return EXIT_USAGE;
	if (!schedule_parse(part[3], &schedule))
		return wrong("not a schedule", part[3]);
	if (!explore_load(opt.scenario, opt.policy, opt.relax)) {
		setup_failed(opt.scenario);
		return EXIT_FOUND;
	}
	print_trace(&schedule);
	return sched_finding()->kind ? EXIT_FOUND : EXIT_CLEAN;
}

static const struct option options[] = {
	{ "all", no_argument, NULL, 'a' },	     { "scenario", required_argument, NULL, 's' },
	{ "policy", required_argument, NULL, 'p' },  { "relax", required_argument, NULL, 'x' },
	{ "search", required_argument, NULL, 'S' },
	{ "preemptions", required_argument, NULL, 'b' }, { "seed", required_argument, NULL, 'r' },
	{ "runs", required_argument, NULL, 'n' },    { "seconds", required_argument, NULL, 't' },
	{ "replay", required_argument, NULL, 'R' },  { "verbose", no_argument, NULL, 'v' },
	{ "json", no_argument, NULL, 'j' },	     { "list", no_argument, NULL, 'l' },
	{ "help", no_argument, NULL, 'h' },	     { NULL, 0, NULL, 0 },
};

/* One option that has a number. */
static int take_search(int c)
{
	u64 number;
	int ret = take_number(optarg, c == 'b' ? STEPS_MAX : UINT64_MAX, &number);

	switch (c) {
	case 'b':
		opt.search.bounded = true;
		opt.search.preemptions = (u32)number;
		break;
	case 't':
		opt.search.seconds_max = (double)number;
		break;
	case 'r':
		opt.search.mode = SEARCH_RANDOM;
		opt.search.seed = number;
		break;
	default:
		opt.search.runs_max = number;
		break;
	}
	return ret;
}

static int take_option(int c, char **run)
{
	switch (c) {
	case 'a':
		opt.all = true;
		return 0;
	case 's':
		return take_scenario(optarg);
	case 'p':
		return take_policy(optarg);
	case 'x':
		return take_relax(optarg);
	case 'S':
		return take_mode(optarg);
	case 'R':
		*run = optarg;
		return 0;
	case 'v':
		opt.verbose = true;
		return 0;
	case 'j':
		opt.json = true;
		return 0;
	case 'b':
	case 't':
	case 'r':
	case 'n':
		return take_search(c);
	default:
		return EXIT_USAGE;
	}
}

int check_main(int argc, char **argv)
{
	char *run = NULL;
	int c, ret;

	opt.name = strcmp(argv[0], "check") ? argv[0] : "weir check"; /* as the verb that hands over to us */
	optind = 1;
	while ((c = getopt_long(argc, argv, "hv", options, NULL)) != -1) {
		if (c == 'h') {
			printf("Usage: %s [options]\n%s", opt.name, usage);
			return EXIT_CLEAN;
		}
		if (c == 'l') {
			list();
			return EXIT_CLEAN;
		}
		if (take_option(c, &run))
			return EXIT_USAGE;
	}
	if (optind < argc)
		return wrong("too many arguments", argv[optind]);
	if (opt.search.bounded && opt.search.mode != SEARCH_DPOR)
		opt.search.mode = SEARCH_BOUNDED;
	if (opt.search.mode == SEARCH_RANDOM && !opt.search.runs_max)
		opt.search.runs_max = RUNS_DEFAULT;
	if (sched_init()) {
		fprintf(stderr, "%s: out of memory\n", opt.name);
		return EXIT_USAGE;
	}
	if (run)
		return replay(run);
	if (!opt.json)
		print_head();
	ret = opt.all ? search_all() : search_scenarios();
	if (opt.json)
		puts("\n]");
	return ret;
}
