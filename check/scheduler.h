/* SPDX-License-Identifier: MIT */
/*
 * The scheduler under the two seams: runs the threads of a scenario one step at a time, in an order that a strategy
 * (explore.c) chooses.
 *
 * A step is one operation (an access of a shared word, a call of the simulated vm or device, a load or store of the
 * program) and whatever cannot be told apart from being done at the same moment:
 *   - the compare-and-swap of a word right after a read of it. Had the word changed in between, the loop would have
 *     looked again: the same as if it had been read later;
 *   - the wake-up after the step that ended what the sleepers wait for: a later one only keeps them asleep longer;
 *   - an unlock, which can move up to the step before it;
 *   - operations on objects that no other thread uses, or that nobody changes. Which these are is learnt by searching:
 *     if one turns out to be shared after all, the search begins anew (sched_sharing_grew).
 * Words that nobody decides on (OBJ_PRIVATE) and words on a thread's own stack are no operations at all.
 *
 * Waiting: asleep on a word, or on a lock. Time passes only when nobody can run: then the first timeout comes.
 * Spinning is the strategy's choice, enum spin.
 */
#pragma once

#include "fiber.h"
#include "sync/lock.h"

enum {
	THREADS_MAX = 5,
	STEPS_MAX = 16384, /* a run that takes more does not end */
	OBJECTS_MAX = 1024,
	NAME_CHARS = 24,
};

enum object_flags {
	OBJ_PRIVATE = 1 << 0, /* not an operation */
};

struct object {
	uintptr_t addr;
	u8 flags;
	u8 users; /* threads, in any run since sched_forget_objects */
	bool written, shared;
	u32 run; /* in which the rest is valid: changes, by all and by each */
	u32 changes, own[THREADS_MAX];
};

/* What a step does with an object: two steps conflict if they share one, and not both of them only look at it. */
enum use_kind { USE_READ, USE_WRITE, USE_LOCK, USE_UNLOCK };

enum { USES_MAX = 32 };

struct step_uses {
	u8 nr;
	u8 woken; /* threads that it woke */
	bool all; /* it uses everything */
	struct {
		u16 obj;
		u8 kind; /* enum use_kind */
	} use[USES_MAX];
};

enum finding_kind {
	FOUND_NOTHING,
	FOUND_LOSS, /* a load did not see the last store */
	FOUND_DEVICE, /* a promise to the swap device was broken */
	FOUND_DEADLOCK,
	FOUND_LIVELOCK,
	FOUND_INVARIANT, /* an assertion of src/mm */
	FOUND_ERROR, /* a fault ended as it must not */
	FOUND_ENDLESS, /* more than STEPS_MAX steps */
	NR_FINDING_KINDS,
};

struct finding {
	enum finding_kind kind;
	char text[240];
};

enum run_end { RUN_DONE, RUN_FOUND, RUN_CUT /* by the strategy */ };

/* What becomes of a thread that goes round in a loop that only looks. */
enum spin {
	SPIN_FREE, /* it goes on: the strategy sees that the state is the same again */
	SPIN_BLOCK, /* it does not run again before something that it has read has changed */
	SPIN_FOUND, /* a livelock, as whoever is chosen has the processor for itself */
};

struct strategy {
	/* One of the enabled threads, or -1 to cut the run. */
	int (*choose)(u32 step, u32 enabled, int last);
	enum spin spin;
	bool all_points; /* every operation is a step */
};

struct run_counts {
	u32 spins, timeouts;
};

/* Once. 0 or -ENOMEM. */
int must_check sched_init(void);

/* When another world is made: addresses mean other things. */
void sched_forget_objects(void);

/* Before each run: the threads, in order. */
void sched_reset(void);
int sched_thread(const char *name, void (*fn)(void *arg), void *arg);

/* Runs fn alone and without steps: setup and final checks. False if it ended in a finding. */
bool sched_alone(void (*fn)(void *arg), void *arg);

/* The same within a step of a run, as the thread that it is of. */
void sched_apart(void (*fn)(void *arg), void *arg);

enum run_end sched_run(const struct strategy *strategy);

/* After a run: was an object found to be shared that was not known to be? */
bool sched_sharing_grew(void);

/* Of the state before the next step: threads with all that they have in hand, and how they wait. Not the memory. */
u64 sched_hash(void);

bool sched_running(void);
int sched_self(void);
u32 sched_nr_threads(void);
const char *sched_thread_name(int thread);
u32 sched_nr_steps(void); /* with the one that a finding interrupted */
int sched_step_thread(u32 step);
u32 sched_step_ops(u32 step); /* operations in it, at least 1 */
const struct step_uses *sched_step_uses(u32 step); /* of shared objects */
const struct finding *sched_finding(void);
struct run_counts sched_counts(void);

/* Asked once for each address that is touched: enum object_flags. */
extern u8 (*sched_classify)(uintptr_t addr);
/* Describes an address, for messages and traces. */
extern void (*sched_name)(uintptr_t addr, char name[NAME_CHARS]);
/* Timeouts never come: who sleeps must be woken. */
extern bool sched_time_stands;

/* ---- for the seams ---- */

/* The object at an address, or -1: no operation. */
int sched_object_of(const void *addr);

/* Begins an operation on one object, or on several. */
struct sched_use {
	int obj;
	bool write;
	bool maybe; /* only if sched_wrote() says so, later in the step */
};

void sched_op(int obj, bool write);
void sched_wrote(int obj);
void sched_op_many(const struct sched_use *uses, u32 nr);
/* A look at a word. `pc`: the call site, by which a loop that only looks is known. */
void sched_op_read(int obj, const void *pc);
/* The look that decides whether to sleep: it must not be missed by who changes the word, nor by who wakes. */
void sched_op_wait(int obj, int queue, const void *pc);
/* One more object in the same operation, which is a step for another reason. */
void sched_also(int obj, bool write);
void sched_also_maybe(int obj);
/* It has to do with everything. */
void sched_also_all(void);
void sched_changed(int obj);
/* A loop goes round here. */
void sched_spin(void);
/* The thread begins something new: what it has read so far is no part of a loop. */
void sched_fresh(void);

/* The operation at hand began with a look at `addr`, and nothing has happened since. */
bool sched_just_read(const void *addr);

/* Sleeps on an object's queue, until woken or after timeout_ns (0: never). */
void sched_sleep(int obj, u64 timeout_ns);
void sched_wake(int obj, bool all);

_Noreturn void sched_found(enum finding_kind kind, const char *fmt, ...) printf_like(2, 3);

/* ---- traces ---- */

enum { NOTE_FRAMES = 12 };

struct note {
	u8 thread;
	bool minor; /* shown on demand */
	char text[100];
	void *pcs[NOTE_FRAMES];
};

/* From now on notes are kept; without, sched_note does nothing. */
void sched_trace(bool on);
bool sched_tracing(void);
void sched_note(bool minor, const char *fmt, ...) printf_like(2, 3);
u32 sched_nr_notes(void);
const struct note *sched_get_note(u32 i);
