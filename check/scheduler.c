// SPDX-License-Identifier: MIT
#include "scheduler.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"

enum {
	BUCKETS = 4096,
	LOOKS_MAX = 128, /* what a thread is known to have read since it last began something new */
	ROUNDS = 6, /* the same look at the same unchanged word, so often, is a loop */
	IDLE_TIMEOUTS_MAX = 40, /* in a row that changed nothing: nobody will ever get on */
	NOTES_MAX = 8192,
	LEAF_BYTES = 1024, /* of stack that a function may use who does not come to begin_op() */
};

enum status { READY, ASLEEP, SPINNING, FINISHED };

/* One look at a word: what a loop consists of. */
struct look {
	const void *pc;
	u16 obj;
	u32 others; /* changes by other threads, then */
};

struct thread {
	struct fiber fiber;
	const char *name;
	void (*fn)(void *arg);
	void *arg;
	enum status status;
	const struct mutex *wants; /* READY, but for this lock */
	int queue; /* ASLEEP: the object */
	u64 deadline, asleep_since; /* 0: none; for first come, first woken */
	u64 hash; /* of what the thread has in hand; valid if it has not run since */
	bool hash_valid;
	char *lowest; /* how far down its stack has been used since it last stood still */
	char *deepest; /* the same, ever */
	struct look looks[LOOKS_MAX];
	u32 nr_looks, loop_start; /* of the looks: those since the thread last changed something */
};

static struct {
	struct thread threads[THREADS_MAX + 1]; /* the last is for sched_alone */
	struct fiber main;
	u32 nr;
	int cur; /* -1: main */
	bool running, tracing, sharing_grew;
	const struct strategy *strategy;
	enum run_end end;
	struct finding finding;
	struct run_counts counts;
	u32 run, nr_steps, idle_timeouts;
	u64 now, sleeps, changes, changes_then;
	const void *just_read;
	bool step_begun; /* the step at hand has its operation */
	u32 ops; /* in it */
	u8 step_thread[STEPS_MAX + 1];
	u16 step_ops[STEPS_MAX + 1];
	struct step_uses step_uses[STEPS_MAX + 1];
	struct object objects[OBJECTS_MAX];
	u32 nr_objects;
	u16 buckets[BUCKETS];
	struct note *notes;
	u32 nr_notes;
} s;

u8 (*sched_classify)(uintptr_t addr);
void (*sched_name)(uintptr_t addr, char name[NAME_CHARS]);
bool sched_time_stands;

/* ---- small things ---- */

int sched_init(void)
{
	int ret = 0;

	s.cur = -1;
	s.notes = calloc(NOTES_MAX, sizeof(*s.notes));
	if (!s.notes)
		return -ENOMEM;
	for (int t = 0; t <= THREADS_MAX && !ret; t++)
		ret = fiber_init(&s.threads[t].fiber, (u32)t);
	return ret;
}

void sched_forget_objects(void)
{
	memset(s.buckets, 0, sizeof(s.buckets));
	s.nr_objects = 0;
}

bool sched_running(void)
{
	return s.running;
}

int sched_self(void)
{
	return s.cur;
}

u32 sched_nr_threads(void)
{
	return s.nr;
}

const char *sched_thread_name(int thread)
{
	return s.threads[thread].name;
}

u32 sched_nr_steps(void)
{
	return s.nr_steps;
}

int sched_step_thread(u32 step)
{
	return s.step_thread[step];
}

u32 sched_step_ops(u32 step)
{
	return s.step_ops[step] ? s.step_ops[step] : 1;
}

const struct step_uses *sched_step_uses(u32 step)
{
	return &s.step_uses[step];
}

const struct finding *sched_finding(void)
{
	return &s.finding;
}

struct run_counts sched_counts(void)
{
	return s.counts;
}

bool sched_sharing_grew(void)
{
	return s.sharing_grew;
}

static void set_finding(enum finding_kind kind, const char *fmt, va_list ap)
{
	s.finding.kind = kind;
	vsnprintf(s.finding.text, sizeof(s.finding.text), fmt, ap);
	s.end = RUN_FOUND;
}

/* Found by the scheduler itself, between two steps. */
static void printf_like(2, 3) found_between(enum finding_kind kind, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	set_finding(kind, fmt, ap);
	va_end(ap);
}

void sched_found(enum finding_kind kind, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	set_finding(kind, fmt, ap);
	va_end(ap);
	if (s.cur < 0) {
		fprintf(stderr, "weir check: outside of any run: %s\n", s.finding.text);
		abort();
	}
	fiber_switch(&s.threads[s.cur].fiber, &s.main);
	abort(); /* the fiber is never run again */
}

/* ---- objects ---- */

static u32 hash_address(uintptr_t addr)
{
	return (u32)((addr * 0x9e3779b97f4a7c15ull) >> 52);
}

int sched_object_of(const void *ptr)
{
	uintptr_t addr = (uintptr_t)ptr;
	u32 b = hash_address(addr);
	struct object *o;

	if (fiber_owns(&s.threads[s.cur].fiber, ptr))
		return -1;
	for (; s.buckets[b]; b = (b + 1) % BUCKETS) {
		u16 id = (u16)(s.buckets[b] - 1);

		if (s.objects[id].addr == addr)
			return s.objects[id].flags & OBJ_PRIVATE ? -1 : id;
	}
	if (s.nr_objects == OBJECTS_MAX)
		sched_found(FOUND_ENDLESS, "more than %d shared words", OBJECTS_MAX);
	o = &s.objects[s.nr_objects++];
	*o = (struct object){ .addr = addr, .flags = sched_classify(addr) };
	s.buckets[b] = (u16)s.nr_objects;
	return o->flags & OBJ_PRIVATE ? -1 : (int)s.nr_objects - 1;
}

static struct object *object_now(int obj)
{
	struct object *o = &s.objects[obj];

	if (o->run != s.run) {
		o->run = s.run;
		o->changes = 0;
		memset(o->own, 0, sizeof(o->own));
	}
	return o;
}

/* Changes that threads other than `t` made. */
static u32 changes_by_others(int obj, int t)
{
	const struct object *o = object_now(obj);

	return o->changes - o->own[t];
}

void sched_changed(int obj)
{
	struct object *o = object_now(obj);
	struct thread *t = &s.threads[s.cur];

	o->changes++;
	o->own[s.cur]++;
	s.changes++;
	t->loop_start = t->nr_looks;
}

/* For step_uses. Taking a lock and giving it back stay two uses: neither says the same as a write. */
static void note_use(int obj, enum use_kind kind)
{
	struct step_uses *u = &s.step_uses[s.nr_steps];

	if (!s.objects[obj].shared)
		return;
	for (u32 i = 0; i < u->nr; i++) {
		if (u->use[i].obj != obj)
			continue;
		if (u->use[i].kind == USE_READ && kind == USE_WRITE)
			u->use[i].kind = USE_WRITE;
		if (u->use[i].kind == kind || (u->use[i].kind == USE_WRITE && kind == USE_READ))
			return;
	}
	must(u->nr < USES_MAX);
	u->use[u->nr].obj = (u16)obj;
	u->use[u->nr++].kind = (u8)kind;
}

static void learn_sharing(int obj, bool write)
{
	struct object *o = &s.objects[obj];

	s.just_read = NULL;
	o->users |= (u8)(1u << s.cur);
	o->written |= write;
	if (!o->shared && o->written && (o->users & (o->users - 1))) {
		o->shared = true;
		s.sharing_grew = true;
	}
}

void sched_also(int obj, bool write)
{
	learn_sharing(obj, write);
	note_use(obj, write ? USE_WRITE : USE_READ);
}

void sched_also_maybe(int obj)
{
	learn_sharing(obj, true);
	note_use(obj, USE_READ);
}

void sched_wrote(int obj)
{
	note_use(obj, USE_WRITE);
}

bool sched_just_read(const void *addr)
{
	return s.just_read == addr;
}

/* ---- who runs ---- */

/* Has anything that the thread has looked at since `from` changed under it? */
static bool looks_changed(const struct thread *t, u32 from)
{
	int self = (int)(t - s.threads);

	if (t->nr_looks == LOOKS_MAX)
		return true;
	for (u32 i = from; i < t->nr_looks; i++) {
		if (changes_by_others(t->looks[i].obj, self) != t->looks[i].others)
			return true;
	}
	return false;
}

static bool is_enabled(const struct thread *t)
{
	if (t->status == SPINNING)
		return looks_changed(t, t->loop_start);
	return t->status == READY && (!t->wants || !mutex_is_locked(t->wants));
}

static u32 enabled_threads(void)
{
	u32 enabled = 0;

	for (u32 i = 0; i < s.nr; i++)
		enabled |= (u32)is_enabled(&s.threads[i]) << i;
	return enabled;
}

static bool all_finished(void)
{
	for (u32 i = 0; i < s.nr; i++) {
		if (s.threads[i].status != FINISHED)
			return false;
	}
	return true;
}

/* Nobody can run, and not all have finished. */
static void report_stuck(void)
{
	char text[180] = "", name[NAME_CHARS];
	bool spins = false;

	for (u32 i = 0; i < s.nr; i++) {
		const struct thread *t = &s.threads[i];
		size_t len = strlen(text);
		const char *does = t->status == ASLEEP ? "sleeps on" : "waits for";
		uintptr_t addr = t->status == ASLEEP ? s.objects[t->queue].addr & ~(uintptr_t)1 : (uintptr_t)t->wants;

		if (t->status == FINISHED)
			continue;
		if (t->status == SPINNING) {
			spins = true;
			snprintf(text + len, sizeof(text) - len, "; %s spins", t->name);
			continue;
		}
		sched_name(addr, name);
		snprintf(text + len, sizeof(text) - len, "; %s %s %s", t->name, does, name);
	}
	found_between(spins ? FOUND_LIVELOCK : FOUND_DEADLOCK, "nobody can go on%s", text);
}

/* Time passes: the sleeper whose time is up first. False if there is none, or if it will never help. */
static bool fire_timeout(void)
{
	struct thread *first = NULL;

	for (u32 i = 0; i < s.nr; i++) {
		struct thread *t = &s.threads[i];

		if (t->status == ASLEEP && t->deadline && (!first || t->deadline < first->deadline))
			first = t;
	}
	if (!first || sched_time_stands) {
		report_stuck();
		return false;
	}
	if (s.changes != s.changes_then)
		s.idle_timeouts = 0;
	s.changes_then = s.changes;
	if (++s.idle_timeouts > IDLE_TIMEOUTS_MAX) {
		found_between(FOUND_LIVELOCK, "nothing but time passes: %s sleeps and looks again for ever",
			      first->name);
		return false;
	}
	s.now = first->deadline;
	s.counts.timeouts++;
	first->status = READY;
	return true;
}

/* The thread of the next step, or -1: s.end says why there is none. */
static int next_thread(void)
{
	u32 enabled;
	int next;

	if (all_finished())
		return -1;
	enabled = enabled_threads();
	if (!enabled && !fire_timeout())
		return -1;
	if (!enabled)
		enabled = enabled_threads();
	if (s.nr_steps == STEPS_MAX) {
		found_between(FOUND_ENDLESS, "no end after %d steps", STEPS_MAX);
		return -1;
	}
	next = s.strategy->choose(s.nr_steps, enabled, s.nr_steps ? s.step_thread[s.nr_steps - 1] : -1);
	if (next >= (int)s.nr || (next >= 0 && !(enabled & 1u << next) && s.threads[next].status != SPINNING))
		next = -1; /* a schedule of another world */
	if (next < 0)
		s.end = RUN_CUT;
	return next;
}

/* Ends the step in progress. Returns when this thread is chosen again: at the beginning of a step. */
static void step_end(void)
{
	s.just_read = NULL;
	fiber_switch(&s.threads[s.cur].fiber, &s.main);
}

/*
 * A thread that was only just chosen is at the beginning of its step already. Nothing that counts steps may be at hand
 * here: it would be left on the thread's stack, and no two states would be the same.
 */
static void begin_op(bool is_point)
{
	struct thread *t = &s.threads[s.cur];
	char *here = __builtin_frame_address(0);

	if (here < t->lowest)
		t->lowest = here;
	if (s.step_begun && is_point)
		step_end();
	s.step_begun = true;
	s.ops++;
}

static bool is_point(int obj)
{
	return s.strategy->all_points || s.objects[obj].shared;
}

void sched_op(int obj, bool write)
{
	begin_op(is_point(obj));
	sched_also(obj, write);
}

void sched_also_all(void)
{
	s.step_uses[s.nr_steps].all = true;
}

void sched_op_many(const struct sched_use *uses, u32 nr)
{
	bool point = false;

	for (u32 i = 0; i < nr; i++)
		point |= is_point(uses[i].obj);
	begin_op(point);
	for (u32 i = 0; i < nr; i++) {
		if (uses[i].maybe)
			sched_also_maybe(uses[i].obj);
		else
			sched_also(uses[i].obj, uses[i].write);
	}
}

/* ---- waiting ---- */

static void spin(struct thread *t, u32 from)
{
	t->loop_start = from;
	if (!looks_changed(t, from)) {
		s.counts.spins++;
		if (s.strategy->spin == SPIN_FOUND)
			sched_found(FOUND_LIVELOCK, "%s goes round for ever and keeps the processor from the others",
				    t->name);
		t->status = SPINNING;
		step_end();
		t->status = READY;
	}
	t->nr_looks = t->loop_start = 0;
}

void sched_spin(void)
{
	if (!s.running)
		return;
	if (s.strategy->spin != SPIN_FREE)
		spin(&s.threads[s.cur], 0);
	else
		s.counts.spins++;
}

void sched_fresh(void)
{
	if (s.running)
		s.threads[s.cur].nr_looks = s.threads[s.cur].loop_start = 0;
}

/* Counts how often the thread has been here without anything having changed. */
static void look_again(int obj, const void *pc)
{
	struct thread *t = &s.threads[s.cur];
	u32 others = changes_by_others(obj, s.cur), rounds = 1;

	for (u32 i = t->loop_start; i < t->nr_looks; i++)
		rounds += t->looks[i].pc == pc && t->looks[i].obj == obj && t->looks[i].others == others;
	if (rounds >= ROUNDS)
		spin(t, t->loop_start);
}

static void look(const struct sched_use *uses, u32 nr, const void *pc)
{
	struct thread *t = &s.threads[s.cur];
	int obj = uses[0].obj;

	if (s.strategy->spin != SPIN_FREE)
		look_again(obj, pc);
	sched_op_many(uses, nr);
	if (s.strategy->spin != SPIN_FREE && t->nr_looks < LOOKS_MAX)
		t->looks[t->nr_looks++] = (struct look){ pc, (u16)obj, changes_by_others(obj, s.cur) };
	s.just_read = (const void *)s.objects[obj].addr;
}

void sched_op_read(int obj, const void *pc)
{
	const struct sched_use use = { .obj = obj };

	look(&use, 1, pc);
}

void sched_op_wait(int obj, int queue, const void *pc)
{
	const struct sched_use uses[] = { { obj, false, false }, { queue, true, true } };

	look(uses, 2, pc);
}

void sched_sleep(int obj, u64 timeout_ns)
{
	struct thread *t = &s.threads[s.cur];

	sched_wrote(obj);
	t->status = ASLEEP;
	t->queue = obj;
	t->deadline = timeout_ns ? s.now + timeout_ns : 0;
	t->asleep_since = ++s.sleeps;
	step_end();
}

void sched_wake(int obj, bool all)
{
	struct thread *first;

	do {
		first = NULL;
		for (u32 i = 0; i < s.nr; i++) {
			struct thread *t = &s.threads[i];

			if (t->status == ASLEEP && t->queue == obj && (!first || t->asleep_since < first->asleep_since))
				first = t;
		}
		if (first) {
			first->status = READY;
			sched_wrote(obj);
			s.step_uses[s.nr_steps].woken |= (u8)(1u << (first - s.threads));
		}
	} while (first && all);
}

bool mutex_trylock(struct mutex *m)
{
	int obj = s.running ? sched_object_of(m) : -1;

	if (obj >= 0)
		sched_op(obj, true);
	if (mutex_is_locked(m))
		return false;
	m->state.v = (u32)s.cur + 1;
	return true;
}

void mutex_lock(struct mutex *m)
{
	struct thread *t = &s.threads[s.cur];
	int obj = s.running ? sched_object_of(m) : -1;

	if (obj >= 0) {
		t->wants = m;
		begin_op(is_point(obj));
		learn_sharing(obj, true);
		note_use(obj, USE_LOCK);
		while (mutex_is_locked(m)) {
			step_end();
			note_use(obj, USE_LOCK);
		}
		t->wants = NULL;
	}
	must(!mutex_is_locked(m));
	m->state.v = (u32)s.cur + 1;
}

void mutex_unlock(struct mutex *m)
{
	if (m->state.v != (u32)s.cur + 1)
		sched_found(FOUND_INVARIANT, "a lock is released by another than its owner");
	m->state.v = 0;
	if (s.running)
		note_use(sched_object_of(m), USE_UNLOCK);
}

/* ---- the state ---- */

/* What a thread has in hand: its stack, with the registers that the switch has put there. */
static u64 hash_stack(struct thread *t)
{
	const char *sp = t->fiber.sp, *top = t->fiber.stack + FIBER_STACK_BYTES;

	if (!t->hash_valid)
		t->hash = hash_memory(1, sp, (size_t)(top - sp));
	t->hash_valid = true;
	return t->hash;
}

/*
 * What calls that have returned left on the stack says nothing about the state, but would come up again in variables
 * that are not set yet. So it is wiped off whenever the thread stops.
 */
static void forget_dead_stack(struct thread *t)
{
	char *sp = t->fiber.sp, *from = t->lowest - LEAF_BYTES;

	if (!fiber_owns(&t->fiber, sp))
		return; /* something was found in sched_apart */
	if (from < t->fiber.stack)
		from = t->fiber.stack;
	if (from < sp)
		memset(from, 0, (size_t)(sp - from));
	if (from < t->deepest)
		t->deepest = from;
	t->lowest = sp;
}

/* The order of the sleepers does not matter but for waking one, and deadlines only from now on. */
u64 sched_hash(void)
{
	u64 hash = 0;

	for (u32 i = 0; i < s.nr; i++) {
		struct thread *t = &s.threads[i];

		hash = hash_mix(hash, t->status);
		if (t->status == FINISHED)
			continue;
		hash = hash_mix(hash, hash_stack(t));
		if (t->status == ASLEEP) {
			hash = hash_mix(hash, (u64)t->queue);
			hash = hash_mix(hash, t->deadline ? t->deadline - s.now : 0);
		}
	}
	return hash;
}

/* ---- runs ---- */

void sched_reset(void)
{
	s.nr = 0;
	s.nr_steps = 0;
	s.run++;
	s.counts = (struct run_counts){ 0 };
	s.finding.kind = FOUND_NOTHING;
	s.finding.text[0] = '\0';
	s.now = s.sleeps = s.changes = s.changes_then = 0;
	s.idle_timeouts = 0;
	s.nr_notes = 0;
	s.sharing_grew = false;
}

/* First code of a thread's fiber. */
static void thread_main(void *arg)
{
	struct thread *t = arg;

	t->fn(t->arg);
	t->status = FINISHED;
	step_end();
	abort();
}

static void thread_alone(void *arg)
{
	struct thread *t = arg;

	t->fn(t->arg);
	fiber_switch(&t->fiber, &s.main);
	abort();
}

int sched_thread(const char *name, void (*fn)(void *arg), void *arg)
{
	struct thread *t = &s.threads[s.nr];
	struct fiber fiber = t->fiber;
	char *deepest = t->deepest ? t->deepest : fiber.stack;

	must(s.nr < THREADS_MAX);
	memset(t, 0, offsetof(struct thread, looks));
	t->nr_looks = t->loop_start = 0;
	t->fiber = fiber;
	t->name = name;
	t->fn = fn;
	t->arg = arg;
	fiber_prepare(&t->fiber, thread_main, t);
	t->deepest = t->lowest = t->fiber.sp;
	if (deepest < t->lowest)
		memset(deepest, 0, (size_t)(t->lowest - deepest));
	return (int)s.nr++;
}

bool sched_alone(void (*fn)(void *arg), void *arg)
{
	struct thread *t = &s.threads[THREADS_MAX];

	t->fn = fn;
	t->arg = arg;
	t->name = "alone";
	fiber_prepare(&t->fiber, thread_alone, t);
	s.running = false;
	s.end = RUN_DONE;
	s.cur = THREADS_MAX;
	fiber_switch(&s.main, &t->fiber);
	s.cur = -1;
	return s.end == RUN_DONE;
}

/* First code of sched_apart's fiber. */
static void thread_apart(void *arg)
{
	struct thread *t = arg;

	t->fn(t->arg);
	fiber_switch(&t->fiber, &s.threads[s.cur].fiber);
	abort();
}

void sched_apart(void (*fn)(void *arg), void *arg)
{
	struct thread *t = &s.threads[THREADS_MAX];

	t->fn = fn;
	t->arg = arg;
	fiber_prepare(&t->fiber, thread_apart, t);
	s.running = false;
	fiber_switch(&s.threads[s.cur].fiber, &t->fiber);
	s.running = true;
}

enum run_end sched_run(const struct strategy *strategy)
{
	int next;

	must(s.nr > 0 && s.cur == -1);
	s.strategy = strategy;
	s.end = RUN_DONE;
	while ((next = next_thread()) >= 0) {
		s.step_thread[s.nr_steps] = (u8)next;
		s.step_begun = false;
		s.ops = 0;
		s.step_uses[s.nr_steps].nr = s.step_uses[s.nr_steps].woken = 0;
		s.step_uses[s.nr_steps].all = false;
		s.threads[next].hash_valid = false;
		s.running = true;
		s.cur = next;
		fiber_switch(&s.main, &s.threads[next].fiber);
		forget_dead_stack(&s.threads[next]);
		s.running = false;
		s.cur = -1;
		s.step_ops[s.nr_steps] = (u16)s.ops;
		s.nr_steps++;
		if (s.end == RUN_FOUND)
			break;
	}
	return s.end;
}

/* ---- traces ---- */

void sched_trace(bool on)
{
	s.tracing = on;
}

bool sched_tracing(void)
{
	return s.tracing && s.running;
}

/* Call sites, innermost first, by the chain of frame pointers; it ends in fiber_enter, which sets it to 0. */
static void note_callers(struct note *n)
{
	const uintptr_t *frame = __builtin_frame_address(0);

	memset(n->pcs, 0, sizeof(n->pcs));
	for (int i = 0; i < NOTE_FRAMES && fiber_owns(&s.threads[s.cur].fiber, frame); i++) {
		n->pcs[i] = (void *)frame[1];
		frame = (const uintptr_t *)frame[0];
	}
}

void sched_note(bool minor, const char *fmt, ...)
{
	struct note *n;
	va_list ap;

	if (!sched_tracing() || s.nr_notes == NOTES_MAX)
		return;
	n = &s.notes[s.nr_notes++];
	n->thread = (u8)s.cur;
	n->minor = minor;
	va_start(ap, fmt);
	vsnprintf(n->text, sizeof(n->text), fmt, ap);
	va_end(ap);
	note_callers(n);
}

u32 sched_nr_notes(void)
{
	return s.nr_notes;
}

const struct note *sched_get_note(u32 i)
{
	return &s.notes[i];
}
