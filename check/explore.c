// SPDX-License-Identifier: MIT
#include "explore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hash.h"
#include "reduce.h"

enum {
	CLOCK_RUNS = 64, /* the time is looked at so often */
	SEEN_MIN = 1 << 16,
	SEEN_MAX = 1 << 26, /* half a gigabyte */
};

static const struct scenario *scenario;

static struct {
	const struct search *search;
	u32 replay; /* steps that are given by the run before */
	u32 raced; /* SEARCH_DPOR: steps of this run that were looked at for races */
	const struct schedule *schedule;
	/* SEARCH_ALL: the states that were there, an open hash table */
	u64 *seen;
	u8 *seen_asleep; /* who slept each time that the state was met */
	u64 seen_size, seen_nr;
	bool seen_full, livelock;
	u64 states, ends, ends_hash;
	/* SEARCH_RANDOM */
	u64 random;
	u32 priority[THREADS_MAX], change[THREADS_MAX], nr_changes, length;
} x;

bool explore_load(const struct scenario *sc, enum swapin_policy policy, enum swapin_relax relax)
{
	struct world_config cfg = sc->world;

	scenario = sc;
	cfg.reports_misuse = policy != SWAPIN_DIRECT_UNSAFE;
	sched_time_stands = sc->time_stands;
	sched_classify = world_classify;
	sched_name = world_name;
	return world_create(&cfg, policy, relax, sc->setup);
}

/* ---- one run ---- */

static void at_rest(void *arg)
{
	(void)arg;
	if (scenario->at_rest)
		scenario->at_rest();
	world_check();
}

static u32 max_u32(u32 a, u32 b)
{
	return a > b ? a : b;
}

static void take_schedule(struct schedule *schedule)
{
	schedule->nr = 0;
	for (u32 i = 0; i < sched_nr_steps(); i++) {
		for (u32 op = 0; op < sched_step_ops(i) && schedule->nr < OPS_MAX; op++)
			schedule->thread[schedule->nr++] = (u8)sched_step_thread(i);
	}
}

static void account(struct search_result *r, enum run_end end)
{
	struct run_counts counts = sched_counts();

	r->runs++;
	r->steps_max = max_u32(r->steps_max, sched_nr_steps());
	r->spins_max = max_u32(r->spins_max, counts.spins);
	r->timeouts_max = max_u32(r->timeouts_max, counts.timeouts);
	r->waits_max = max_u32(r->waits_max, (u32)world->counter[STAT_PIN_WAIT]);
	if (end != RUN_FOUND)
		return;
	r->finding = *sched_finding();
	take_schedule(&r->schedule);
}

static u32 lowest(u32 threads)
{
	return (u32)__builtin_ctz(threads);
}

/* The first choice at a state; `choices` are all that there will be. */
static int choose_first(struct branch *b, u32 choices, u32 preferred)
{
	b->choices = (u8)choices;
	b->done = 0;
	b->chosen = (u8)preferred;
	return b->chosen;
}

/* ---- SEARCH_ALL ---- */

static void seen_alloc(u64 size)
{
	x.seen_size = size;
	x.seen = calloc(size, sizeof(*x.seen));
	x.seen_asleep = calloc(size, sizeof(*x.seen_asleep));
	must(x.seen && x.seen_asleep);
}

static void seen_clear(void)
{
	if (!x.seen)
		seen_alloc(SEEN_MIN);
	memset(x.seen, 0, x.seen_size * sizeof(*x.seen));
	x.seen_nr = x.states = x.ends = x.ends_hash = 0;
	x.seen_full = false;
}

static u64 seen_find(u64 state)
{
	u64 at = state & (x.seen_size - 1);

	while (x.seen[at] && x.seen[at] != state)
		at = (at + 1) & (x.seen_size - 1);
	return at;
}

static void seen_grow(void)
{
	u64 *old = x.seen, size = x.seen_size;
	u8 *old_asleep = x.seen_asleep;

	seen_alloc(size * 4);
	for (u64 i = 0; i < size; i++) {
		u64 at = old[i] ? seen_find(old[i]) : 0;

		if (!old[i])
			continue;
		x.seen[at] = old[i];
		x.seen_asleep[at] = old_asleep[i];
	}
	free(old);
	free(old_asleep);
}

/* Enters a state; false: it was there, or there is no room. `at`: its place. */
static bool seen_add(u64 state, u64 *at)
{
	*at = seen_find(state);
	if (x.seen[*at])
		return false;
	if (x.seen_nr * 2 > x.seen_size) {
		if (x.seen_size >= SEEN_MAX) {
			x.seen_full = true;
			return false;
		}
		seen_grow();
		*at = seen_find(state);
	}
	x.seen[*at] = state;
	x.seen_nr++;
	return true;
}

/* What was found to be in order at rest need not be looked at again. */
static bool is_new_end(void)
{
	u64 at, end;

	if (!x.search)
		return true;
	if (!seen_add(hash_mix(world_hash(), 2) | 1, &at))
		return x.seen_full;
	end = hash_mix(world_end_hash(), 3) | 1;
	if (seen_add(end, &at)) {
		x.ends++;
		x.ends_hash += end;
	}
	return true;
}

/* The step of this run before which all was as it is before `step`, or -1. */
static int met_in_run(u32 step)
{
	for (u32 i = step; i-- > 0;) {
		if (branches[i].state == branches[step].state)
			return (int)i;
	}
	return -1;
}

/*
 * The state before `step` was there before. If that was in this run, the threads that have run since then can do so
 * for ever; and if these are all that could have, nobody will ever end it.
 */
static void close_cycle(u32 from, u32 step)
{
	u32 ran = 0, could = 0;

	for (u32 i = from; i < step; i++) {
		ran |= 1u << branches[i].chosen;
		could |= branches[i].enabled;
	}
	x.livelock = !(could & ~ran);
	reduce_cycle(from, step);
}

static enum run_end run_once(const struct strategy *strategy)
{
	enum run_end end;

	world_restore();
	sched_reset();
	for (u32 t = 0; t < THREADS_MAX && scenario->thread[t].fn; t++)
		(void)sched_thread(scenario->thread[t].name, scenario->thread[t].fn, NULL);
	end = sched_run(strategy);
	if (end == RUN_DONE && is_new_end() && !sched_alone(at_rest, NULL))
		end = RUN_FOUND;
	return end;
}

static u32 first_of(u32 threads, int last)
{
	return last >= 0 && (threads & 1u << last) ? (u32)last : lowest(threads);
}

/*
 * A state that was there before is left, but for what slept whenever it was met and does not sleep now (Godefroid's
 * sleep sets with state matching: all states are still met, by fewer steps).
 */
static int choose_all(u32 step, u32 enabled, int last)
{
	struct branch *b = &branches[step];
	u32 left;
	u64 at;
	int met;

	if (step < x.replay) {
		must(b->enabled == enabled);
		return b->chosen;
	}
	b->enabled = (u8)enabled;
	b->state = hash_mix(sched_hash(), world_hash()) | 1;
	reduce_sleep(step);
	if (x.search->unreduced)
		b->asleep = 0;
	left = enabled & ~(u32)b->asleep;
	if (seen_add(b->state, &at)) {
		x.states++;
		x.seen_asleep[at] = b->asleep;
	} else {
		if (x.seen_full)
			return -1;
		met = met_in_run(step);
		if (met >= 0)
			close_cycle((u32)met, step);
		left &= x.seen_asleep[at];
		b->asleep &= x.seen_asleep[at];
		x.seen_asleep[at] = b->asleep;
	}
	if (!left || x.livelock)
		return -1;
	return choose_first(b, left, first_of(left, last));
}

static const struct strategy strategy_all = { .choose = choose_all };

/* `ran`: the thread of the step before. */
static bool is_preemption(const struct branch *b, u32 chosen, u32 ran)
{
	return chosen != ran && (b->enabled & 1u << ran);
}

/* Preemptions before `step`. */
static u32 preemptions_before(u32 step)
{
	const struct branch *before = &branches[step - 1];

	if (step < 2)
		return 0;
	return before->preemptions + is_preemption(before, before->chosen, branches[step - 2].chosen);
}

/* ---- SEARCH_DPOR ---- */

static void find_races(void)
{
	for (; x.raced < sched_nr_steps(); x.raced++)
		reduce_races(x.raced, x.search->bounded);
}

/* Only once the threads stand as they did before is the memory looked at: a cycle is seen in its second round. */
static int met_in_dpor(u32 step)
{
	struct branch *b = &branches[step];

	b->stacks = sched_hash();
	b->state = 0;
	for (u32 i = step; i-- > 0 && !b->state;) {
		if (branches[i].stacks == b->stacks)
			b->state = hash_mix(b->stacks, world_hash()) | 1;
	}
	return b->state ? met_in_run(step) : -1;
}

/*
 * Beyond the replay one thread, to which races add others. A run that comes back to where it was ends there; whoever
 * else could have run meanwhile is tried there, as the races of what would have come next are not seen.
 */
static int choose_dpor(u32 step, u32 enabled, int last)
{
	struct branch *b = &branches[step];
	u32 awake, first;
	int met;

	find_races();
	if (step < x.replay) {
		must(b->enabled == enabled);
		return b->chosen;
	}
	b->enabled = (u8)enabled;
	b->preemptions = preemptions_before(step);
	reduce_sleep(step);
	if (x.search->bounded)
		b->asleep = 0;
	reduce_order(step);
	met = met_in_dpor(step);
	if (met >= 0) {
		close_cycle((u32)met, step);
		for (u32 i = (u32)met; i < step; i++)
			branches[i].choices = branches[i].enabled;
		return -1;
	}
	awake = enabled & ~(u32)b->asleep;
	if (!awake)
		return -1;
	first = first_of(awake, last);
	return choose_first(b, 1u << first, first);
}

static const struct strategy strategy_dpor = { .choose = choose_dpor };

/* ---- SEARCH_BOUNDED and SEARCH_PRIORITY ---- */

static int choose_bounded(u32 step, u32 enabled, int last)
{
	struct branch *b = &branches[step];
	bool goes_on = last >= 0 && (enabled & 1u << last);

	if (step < x.replay)
		return b->chosen;
	b->asleep = 0;
	b->enabled = (u8)enabled;
	b->preemptions = preemptions_before(step);
	if (!goes_on)
		return choose_first(b, enabled, lowest(enabled));
	return choose_first(b, b->preemptions < x.search->preemptions ? enabled : 1u << last, (u32)last);
}

static int choose_priority(u32 step, u32 enabled, int last)
{
	struct branch *b = &branches[step];
	u32 here, top, above;

	(void)last;
	if (step < x.replay)
		return b->chosen;
	b->asleep = 0;
	b->arrived = step ? (u8)(branches[step - 1].arrived | 1u << branches[step - 1].chosen) : 0;
	here = enabled & b->arrived;
	if (!here)
		return choose_first(b, enabled, lowest(enabled));
	top = 31 - (u32)__builtin_clz(here);
	above = enabled & ~(u32)b->arrived & ~((2u << top) - 1);
	return choose_first(b, 1u << top | above, top);
}

static const struct strategy strategy_bounded = { .choose = choose_bounded, .spin = SPIN_BLOCK };
static const struct strategy strategy_priority = { .choose = choose_priority, .spin = SPIN_FOUND };

static bool next_branch(void)
{
	for (int i = (int)sched_nr_steps() - 1; i >= 0; i--) {
		struct branch *b = &branches[i];
		u32 left;

		reduce_done((u32)i);
		left = b->choices & ~(u32)b->done & ~(u32)b->asleep;
		if (x.search->bounded && i && b->preemptions == x.search->preemptions &&
		    is_preemption(b, THREADS_MAX, branches[i - 1].chosen))
			left &= 1u << branches[i - 1].chosen;
		if (!left)
			continue;
		b->chosen = (u8)lowest(left);
		x.replay = (u32)i + 1;
		x.raced = (u32)i;
		return true;
	}
	return false;
}

/* ---- SEARCH_RANDOM ---- */

static u64 random_next(void)
{
	x.random ^= x.random << 13;
	x.random ^= x.random >> 7;
	x.random ^= x.random << 17;
	return x.random * 0x2545f4914f6cdd1dull;
}

static u32 random_below(u32 n)
{
	return (u32)((random_next() >> 32) * n >> 32);
}

/* Priorities in random order, and a few steps after which whoever runs becomes the last. */
static void random_begin(u64 run)
{
	x.random = (x.search->seed + 1) * 0x9e3779b97f4a7c15ull + run * 0xd1342543de82ef95ull;
	if (!x.random)
		x.random = 1;
	for (u32 t = 0; t < THREADS_MAX; t++)
		x.priority[t] = (random_below(1 << 20) + 1) * THREADS_MAX + t;
	x.nr_changes = random_below(THREADS_MAX);
	for (u32 i = 0; i < x.nr_changes; i++)
		x.change[i] = random_below(x.length + 1);
}

static int choose_random(u32 step, u32 enabled, int last)
{
	int best = -1;

	for (u32 i = 0; i < x.nr_changes && last >= 0; i++) {
		if (x.change[i] == step)
			x.priority[last] = i; /* below all of random_begin's */
	}
	for (u32 t = 0; t < THREADS_MAX; t++) {
		if ((enabled & 1u << t) && (best < 0 || x.priority[t] > x.priority[best]))
			best = (int)t;
	}
	return best;
}

static const struct strategy strategy_random = { .choose = choose_random, .spin = SPIN_BLOCK };

/* ---- the search ---- */

/* Of this process's CPU time: a busy machine does not make a search end early. */
static double seconds_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static const struct strategy *strategy_of(enum search_mode mode)
{
	switch (mode) {
	case SEARCH_DPOR:
		return &strategy_dpor;
	case SEARCH_BOUNDED:
		return &strategy_bounded;
	case SEARCH_RANDOM:
		return &strategy_random;
	case SEARCH_PRIORITY:
		return &strategy_priority;
	default:
		return &strategy_all;
	}
}

static bool next_run(u64 run)
{
	if (x.search->mode != SEARCH_RANDOM)
		return next_branch();
	x.length = max_u32(x.length, sched_nr_steps());
	random_begin(run);
	return true;
}

/* From the first run on. */
static void search_begin(const struct search *search, struct search_result *r)
{
	memset(r, 0, offsetof(struct search_result, schedule));
	r->steps_max = r->spins_max = r->timeouts_max = r->waits_max = 0;
	x.search = search;
	x.replay = x.raced = 0;
	x.length = 0;
	x.livelock = false;
	seen_clear();
	if (search->mode == SEARCH_RANDOM)
		random_begin(0);
}

static bool out_of_budget(const struct search_result *r, double start)
{
	if (x.search->runs_max && r->runs >= x.search->runs_max)
		return true;
	if (x.seen_full)
		return true;
	return x.search->seconds_max > 0 && r->runs % CLOCK_RUNS == 0 && seconds_now() - start > x.search->seconds_max;
}

static void found_livelock(struct search_result *r)
{
	r->finding.kind = FOUND_LIVELOCK;
	snprintf(r->finding.text, sizeof(r->finding.text), "the same state again, and nobody who could end it");
	take_schedule(&r->schedule);
}

void explore_search(const struct search *search, struct search_result *r)
{
	struct strategy strategy = *strategy_of(search->mode);
	double start = seconds_now();

	strategy.all_points = search->every_op;
	search_begin(search, r);
	for (;;) {
		enum run_end end = run_once(&strategy);

		account(r, end);
		if (end == RUN_FOUND)
			break;
		if (search->mode == SEARCH_DPOR)
			find_races();
		if (x.livelock) {
			found_livelock(r);
			break;
		}
		if (out_of_budget(r, start))
			break;
		if (sched_sharing_grew() && !search->every_op) {
			search_begin(search, r);
		} else if (!next_run(r->runs)) {
			r->complete = true;
			break;
		}
	}
	r->states = x.states;
	r->ends = x.ends;
	r->ends_hash = x.ends_hash;
	r->seconds = seconds_now() - start;
}

void explore_shorten(struct search_result *r, u64 runs_max)
{
	u32 switches = schedule_switches(&r->schedule);
	static struct search_result shorter;

	for (u32 bound = 0; bound < switches; bound++) {
		struct search search = { .mode = SEARCH_BOUNDED, .preemptions = bound, .runs_max = runs_max };

		explore_search(&search, &shorter);
		if (shorter.finding.kind == r->finding.kind) {
			r->finding = shorter.finding;
			r->schedule = shorter.schedule;
			return;
		}
		if (!shorter.complete)
			return;
	}
}

/* ---- schedules ---- */

static int choose_replay(u32 step, u32 enabled, int last)
{
	/* One that spins, and would not be run again by itself, is if the schedule says so. */
	if (step < x.schedule->nr)
		return x.schedule->thread[step];
	return (int)(last >= 0 && (enabled & 1u << last) ? (u32)last : lowest(enabled));
}

void explore_replay(const struct schedule *schedule, struct search_result *r)
{
	struct strategy strategy = { .choose = choose_replay, .all_points = true,
				     .spin = scenario->priority ? SPIN_FOUND : SPIN_BLOCK };
	enum run_end end;

	memset(r, 0, sizeof(*r));
	x.schedule = schedule;
	x.search = NULL;
	end = run_once(&strategy);
	account(r, end);
}

u32 schedule_switches(const struct schedule *schedule)
{
	u32 switches = 0;

	for (u32 i = 1; i < schedule->nr; i++)
		switches += schedule->thread[i] != schedule->thread[i - 1];
	return switches;
}

void schedule_print(const struct schedule *schedule, char *text, size_t size)
{
	size_t len = 0;

	text[0] = '\0';
	for (u32 i = 0, nr; i < schedule->nr && len + 16 < size; i += nr) {
		nr = 1;
		while (i + nr < schedule->nr && schedule->thread[i + nr] == schedule->thread[i])
			nr++;
		len += (size_t)snprintf(text + len, size - len, "%s%u", i ? "." : "", schedule->thread[i]);
		if (nr > 1)
			len += (size_t)snprintf(text + len, size - len, "x%u", nr);
	}
}

bool schedule_parse(const char *text, struct schedule *schedule)
{
	schedule->nr = 0;
	while (*text) {
		char *end;
		unsigned long thread = strtoul(text, &end, 10), nr = 1;

		if (end == text || thread >= THREADS_MAX)
			return false;
		if (*end == 'x') {
			text = end + 1;
			nr = strtoul(text, &end, 10);
			if (end == text || nr == 0)
				return false;
		}
		if (schedule->nr + nr > OPS_MAX || (*end && *end != '.'))
			return false;
		for (; nr; nr--)
			schedule->thread[schedule->nr++] = (u8)thread;
		text = *end ? end + 1 : end;
	}
	return schedule->nr > 0;
}
