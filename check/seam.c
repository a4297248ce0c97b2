// SPDX-License-Identifier: MIT
/* The first seam: shared words, sleeping and threads, each access a step of the scheduler. */
#include "base/mutation.h"
#include "trace.h"
#include "world.h"

/* The call site, inlined functions included: all that tells one look from another. */
#define CALLER __builtin_return_address(0)

/* Is this access a step? If so it has begun, and `obj` is what it touches. */
static bool step_begin(const void *addr, int *obj)
{
	if (!sched_running())
		return false;
	*obj = sched_object_of(addr);
	if (*obj < 0)
		return false;
	sched_op(*obj, true);
	return true;
}

static bool read_begin(const void *addr, const void *pc)
{
	int obj;

	if (!sched_running())
		return false;
	obj = sched_object_of(addr);
	if (obj < 0)
		return false;
	sched_op_read(obj, pc);
	return true;
}

static void changed(const void *addr, int obj, u64 old, u64 new)
{
	if (old != new)
		sched_changed(obj);
	trace_change((uintptr_t)addr, old, new);
}

/* After a look at the same word it belongs to the step of the look (scheduler.h), and cannot fail because of others. */
static bool cas_begin(const void *addr, int *obj)
{
	if (!sched_running())
		return false;
	*obj = sched_object_of(addr);
	if (*obj < 0)
		return false;
	if (!sched_just_read(addr)) {
		const struct sched_use use = { *obj, true, true };

		sched_op_many(&use, 1);
	} else {
		sched_also_maybe(*obj);
	}
	return true;
}

/* What both widths of word have. */
#define SEAM_WORD(bits)                                                                                                \
	u##bits seam_read##bits(const struct atomic##bits *a)                                                          \
	{                                                                                                              \
		if (read_begin(a, CALLER))                                                                             \
			trace_read((uintptr_t)a, a->v);                                                                \
		return a->v;                                                                                           \
	}                                                                                                              \
                                                                                                                       \
	bool seam_cas##bits(struct atomic##bits *a, u##bits *old, u##bits new)                                         \
	{                                                                                                              \
		int obj;                                                                                               \
		bool is_step = cas_begin(a, &obj);                                                                     \
                                                                                                                       \
		if (a->v != *old) {                                                                                    \
			*old = a->v;                                                                                   \
			return false;                                                                                  \
		}                                                                                                      \
		a->v = new;                                                                                            \
		if (is_step) {                                                                                         \
			sched_wrote(obj);                                                                              \
			changed(a, obj, *old, new);                                                                    \
		}                                                                                                      \
		return true;                                                                                           \
	}

/* A read-modify-write: `old` and `n` become `new`; returns the old value. */
#define SEAM_RMW(name, bits, new)                                                                                      \
	u##bits seam_##name##bits(struct atomic##bits *a, u##bits n)                                                   \
	{                                                                                                              \
		int obj;                                                                                               \
		bool is_step = step_begin(a, &obj);                                                                    \
		u##bits old = a->v;                                                                                    \
                                                                                                                       \
		a->v = (new);                                                                                          \
		if (is_step)                                                                                           \
			changed(a, obj, old, a->v);                                                                    \
		return old;                                                                                            \
	}

SEAM_WORD(64)
SEAM_RMW(xchg, 64, n)
SEAM_RMW(add, 64, old + n)
SEAM_RMW(or, 64, old | n)
SEAM_RMW(and, 64, old & n)
SEAM_WORD(32)
SEAM_RMW(xchg, 32, n)
SEAM_RMW(add, 32, old + n)

void seam_spin(void)
{
	sched_spin();
}

/* ---- sleeping ---- */

/* The queue of a word is an object of its own, named by the byte after the word's first. */
static int queue_of(const void *word)
{
	return sched_object_of((const char *)word + 1);
}

/* Looks and goes to sleep in one step, as futex(2) does. Words of the own stack are slept on for the timeout only. */
static void wait_on(const void *word, u32 seen, u64 timeout_ns, const void *pc)
{
	u32 now;

	if (!sched_running())
		sched_found(FOUND_DEADLOCK, "a single thread sleeps");
	if (sched_object_of(word) < 0) {
		sched_note(false, "sleep for a while");
		sched_sleep(world_clock_object(), timeout_ns);
		return;
	}
	sched_op_wait(sched_object_of(word), queue_of(word), pc);
	now = *(const u32 *)word; /* the low half of a 64-bit word comes first */
	if (now != seen)
		return;
	trace_sleep((uintptr_t)word);
	sched_sleep(queue_of(word), timeout_ns);
}

static void wake_on(const void *word, bool all)
{
	if (!sched_running() || sched_object_of(word) < 0)
		return;
	sched_also_maybe(queue_of(word));
	trace_wake((uintptr_t)word);
	sched_wake(queue_of(word), all);
}

void sync_wait64(struct atomic64 *word, u32 seen_low)
{
	wait_on(word, seen_low, 0, CALLER);
}

void sync_wake64(struct atomic64 *word)
{
	wake_on(word, !mutate(MUTATE_WAKE_ONE));
}

void sync_wait32(struct atomic32 *word, u32 seen)
{
	wait_on(word, seen, 0, CALLER);
}

void sync_wait32_timeout(struct atomic32 *word, u32 seen, u64 timeout_ns)
{
	wait_on(word, seen, timeout_ns, CALLER);
}

void sync_wake32_one(struct atomic32 *word)
{
	wake_on(word, false);
}

void sync_wake32_all(struct atomic32 *word)
{
	wake_on(word, true);
}

void sync_yield(void)
{
	sched_spin();
}

/* Time is not a thing that the core may decide on. */
u64 sync_clock_ns(void)
{
	return 0;
}

u32 sync_thread_id(void)
{
	return (u32)sched_self() + 1;
}

int sync_thread_start(struct sync_thread *t, void (*fn)(void *arg), void *arg)
{
	*t = (struct sync_thread){ .fn = fn, .arg = arg };
	return 0;
}

void sync_thread_run(struct sync_thread *t)
{
	t->fn(t->arg);
	if (!t->runs)
		return;
	atomic32_set(&t->ended, 1);
	sync_wake32_all(&t->ended);
}

void sync_thread_join(struct sync_thread *t)
{
	while (t->runs && !atomic32_read(&t->ended))
		sync_wait32(&t->ended, 0);
}
