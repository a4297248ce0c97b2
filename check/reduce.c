// SPDX-License-Identifier: MIT
#include "reduce.h"

#include <string.h>

struct branch branches[STEPS_MAX + 1];

/*
 * Do the steps conflict? And a race is a conflict that could have come out the other way round: not the end of a lock
 * before the next one who takes it; they race by how they took it.
 */
static bool uses_conflict(const struct step_uses *a, const struct step_uses *b, bool race)
{
	if (a->all || b->all)
		return true;
	for (u32 i = 0; i < a->nr; i++) {
		for (u32 j = 0; j < b->nr; j++) {
			u8 first = a->use[i].kind, second = b->use[j].kind;

			if (a->use[i].obj != b->use[j].obj || (first == USE_READ && second == USE_READ))
				continue;
			if (!race || first != USE_UNLOCK || second < USE_LOCK)
				return true;
		}
	}
	return false;
}

/* ---- sleep sets ---- */

void reduce_sleep(u32 step)
{
	struct branch *b = &branches[step], *before = b - 1;
	u32 may;

	b->asleep = b->cyclic = 0;
	if (!step)
		return;
	may = before->asleep | (before->done & ~(u32)before->cyclic);
	for (u32 t = 0; t < THREADS_MAX; t++) {
		if (!(may & 1u << t) || uses_conflict(&before->uses[t], sched_step_uses(step - 1), false))
			continue;
		b->asleep |= (u8)(1u << t);
		b->uses[t] = before->uses[t];
	}
}

void reduce_done(u32 step)
{
	struct branch *b = &branches[step];

	b->done |= (u8)(1u << b->chosen);
	b->uses[b->chosen] = *sched_step_uses(step);
}

void reduce_cycle(u32 from, u32 to)
{
	for (u32 i = from; i < to; i++)
		branches[i].cyclic |= (u8)(1u << branches[i].chosen);
}

/* ---- races ---- */

static void join(u16 a[THREADS_MAX], const u16 b[THREADS_MAX])
{
	for (u32 t = 0; t < THREADS_MAX; t++)
		a[t] = a[t] > b[t] ? a[t] : b[t];
}

/* Does step i happen before what `order` is of? */
static bool happens_before(u32 i, const u16 order[THREADS_MAX])
{
	return order[branches[i].chosen] > i;
}

/*
 * With `i` undone, what followed without it (`then`: not after i) leads to `step` as well. Returns the threads that can
 * begin that. Whoever begins it could run before i, unless it is `step` itself, which i has made possible.
 */
static u32 who_can_begin(u32 i, u32 step)
{
	u32 threads = 0, begin = 0, q = branches[step].chosen;
	u16 first[THREADS_MAX], order[THREADS_MAX];

	memcpy(order, branches[step].before[q], sizeof(order));
	for (u32 j = i + 1; j < step; j++) {
		const struct branch *b = &branches[j];
		bool begins = !(threads & 1u << b->chosen);

		if (happens_before(i, b->upto))
			continue;
		if (uses_conflict(sched_step_uses(j), sched_step_uses(step), false))
			join(order, b->upto);
		for (u32 t = 0; t < THREADS_MAX && begins; t++)
			begins = !(threads & 1u << t) || b->upto[t] <= first[t];
		if (begins)
			begin |= 1u << b->chosen;
		if (!(threads & 1u << b->chosen))
			first[b->chosen] = (u16)j;
		threads |= 1u << b->chosen;
	}
	for (u32 t = 0; t < THREADS_MAX; t++) {
		if ((threads & 1u << t) && order[t] > first[t])
			return begin;
	}
	return threads & 1u << q ? begin : begin | 1u << q;
}

/* False: they cannot come the other way round. */
static bool add_choice(u32 i, u32 step)
{
	struct branch *b = &branches[i];
	u32 begin = who_can_begin(i, step) & b->enabled, q = branches[step].chosen;

	if (!begin)
		return false;
	if (!(begin & (b->choices | b->done | b->asleep)))
		b->choices |= (u8)(begin & 1u << q ? 1u << q : begin & -begin);
	return true;
}

/* Where the thread of step i was switched to. */
static u32 block_start(u32 i)
{
	while (i && branches[i - 1].chosen == branches[i].chosen)
		i--;
	return i;
}

static void add_thread(u32 i, u32 thread)
{
	struct branch *b = &branches[i];

	b->choices |= b->enabled & 1u << thread ? (u8)(1u << thread) : b->enabled;
}

void reduce_races(u32 step, bool bounded)
{
	struct branch *b = &branches[step];
	const struct step_uses *uses = sched_step_uses(step);
	u16 order[THREADS_MAX], covered[THREADS_MAX] = { 0 };

	memcpy(order, b->before[b->chosen], sizeof(order));
	for (u32 i = step; i-- > 0;) {
		const struct step_uses *with = sched_step_uses(i);

		if (happens_before(i, b->before[b->chosen]) || !uses_conflict(with, uses, false))
			continue;
		join(order, branches[i].upto);
		if (bounded) {
			add_thread(i, b->chosen);
			add_thread(block_start(i), b->chosen);
			continue;
		}
		if (happens_before(i, covered) || !uses_conflict(with, uses, true))
			continue;
		if (add_choice(i, step))
			join(covered, branches[i].upto);
	}
	order[b->chosen] = (u16)(step + 1);
	memcpy(b->upto, order, sizeof(order));
}

void reduce_order(u32 step)
{
	struct branch *b = &branches[step], *last = b - 1;

	b->timeouts = sched_counts().timeouts;
	if (!step) {
		memset(b->before, 0, sizeof(b->before));
		return;
	}
	memcpy(b->before, last->before, sizeof(b->before));
	memcpy(b->before[last->chosen], last->upto, sizeof(last->upto));
	for (u32 t = 0; t < THREADS_MAX; t++) {
		if (sched_step_uses(step - 1)->woken & 1u << t)
			join(b->before[t], last->upto);
	}
	if (b->timeouts == last->timeouts)
		return;
	for (u32 t = 0; t < THREADS_MAX; t++) {
		for (u32 other = 0; other < THREADS_MAX; other++)
			b->before[t][other] = (u16)step;
	}
}
