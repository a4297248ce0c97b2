// SPDX-License-Identifier: MIT
#include "fault/thread.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/os.h"
#include "base/print.h"
#include "base/syscall.h"
#include "fault/gate.h"
#include "fault/signal.h"
#include "mm/fault.h"
#include "mm/pte.h"

enum {
	LOOK_MS = 100,	     /* how often an idle handler looks whether it is to stop */
	TICK_NS = 10000000,  /* of the usher */
	IDLE_TICKS = 10,     /* without a fault: the usher goes to sleep */
	SIGHTINGS = 16,	     /* the usher's memory: a processor without a fault in it needs no handler */
	USHER_FROM = 256,    /* messages that a process must have for an usher to be worth its while */
	STAT_CPU_FIELD = 39, /* of /proc/PID/stat */
};

/* ---- one fault ---- */

/* The page is SIGBUS from now on. If it cannot be (it is not what the core takes it for), the thread gets the signal.
 */
static void refuse_page(struct mm *mm, const struct vm_fault *fault)
{
	u64 pte = pte_lock(mm, fault->vpn);
	int err = pte_is_present(pte) ? -EEXIST : vm_poison(&mm->vm, fault->vpn);
	siginfo_t info;

	pte_unlock(mm, fault->vpn, pte);
	if (!err)
		return;
	memset(&info, 0, sizeof(info));
	info.si_signo = SIGBUS;
	info.si_code = BUS_ADRERR;
	info.si_addr = (void *)vm_address(&mm->vm, fault->vpn);
	sys4(SYS_rt_tgsigqueueinfo, sys0(SYS_getpid), fault->tid, SIGBUS, &info);
}

/*
 * FAULT_UNMAPPED needs nothing: the range is being unmapped, and without access rights the next try is SIGSEGV by the
 * kernel itself. The gate is left before the thread wakes, as that thread may fork.
 */
static void serve(struct fault_threads *ft, const struct vm_fault *fault)
{
	struct mm *mm = ft->mm;
	u32 shard = gate_enter(&core_gate);
	enum fault_result result = handle_mm_fault(mm, fault->vpn, fault->write);

	fault_tell(mm, result, fault->vpn);
	if (result == FAULT_IO_ERROR || result == FAULT_LOST)
		refuse_page(mm, fault);
	gate_leave(&core_gate, shard);
	if (result == FAULT_OOM)
		fault_out_of_memory(mm, ft->out_of_memory);
	vm_wake(&mm->vm, fault->vpn);
}

/* ---- handlers ---- */

static void usher_call(struct fault_threads *ft);

static void handler_serve(struct fault_handler *h)
{
	struct fault_threads *ft = h->all;
	struct vm_fault faults[VM_FAULTS_MAX];
	/* Stale is harmless. What one takes, another cannot serve meanwhile. */
	u32 batch = atomic32_read(&ft->nr_running) > 1 ? 1 : VM_FAULTS_MAX;
	long nr = vm_next_faults(&ft->mm->vm, faults, batch, LOOK_MS);

	for (long i = 0; i < nr; i++) {
		atomic32_set(&h->tid, faults[i].tid);
		serve(ft, &faults[i]);
	}
	if (nr <= 0)
		return;
	if (atomic32_add_return(&h->nr_served, (u32)nr) >= USHER_FROM)
		usher_call(ft);
}

/* The last one stays: another may have been asked to leave at the same time. */
static void handler_park(struct fault_handler *h)
{
	struct fault_threads *ft = h->all;
	u32 running = atomic32_read(&ft->nr_running), state = HANDLER_LEAVES;

	do {
		if (running <= 1)
			return;
	} while (!atomic32_cas_acquire(&ft->nr_running, &running, running - 1));
	if (atomic32_cas_acquire(&h->state, &state, HANDLER_PARKED)) {
		atomic_full_barrier(); /* parked before we look at stop; meets fault_threads_stop */
		while (atomic32_load_acquire(&h->state) == HANDLER_PARKED && !atomic32_read(&ft->stop))
			sync_wait32(&h->state, HANDLER_PARKED);
	}
	atomic32_add_return(&ft->nr_running, 1);
}

static int handler_start(struct fault_handler *h);

/* Without it the others go on. */
static void handler_start_wanted(struct fault_threads *ft)
{
	u32 wanted = atomic32_xchg_acquire(&ft->wanted, 0);

	if (wanted)
		(void)!handler_start(&ft->handlers[wanted - 1]);
}

static void handler_main(void *arg)
{
	struct fault_handler *h = arg;
	struct fault_threads *ft = h->all;
	u64 mask[ARRAY_SIZE(ft->cpus)] = { 0 };

	mask[h->cpu / 64] = (u64)1 << (h->cpu % 64);
	os_run_on(mask, sizeof(mask)); /* not allowed (any more): then anywhere */
	atomic32_add_return(&ft->nr_running, 1);
	while (!atomic32_load_acquire(&ft->stop)) {
		handler_serve(h);
		if (unlikely(atomic32_read(&ft->wanted)))
			handler_start_wanted(ft);
		if (atomic32_read(&h->state) == HANDLER_LEAVES)
			handler_park(h);
	}
}

static int handler_start(struct fault_handler *h)
{
	u32 none = HANDLER_NONE;
	int ret;

	if (!atomic32_cas_acquire(&h->state, &none, HANDLER_RUNS))
		return 0; /* asked for twice */
	ret = sync_thread_start(&h->thread, handler_main, h);
	if (ret)
		atomic32_set(&h->state, HANDLER_NONE);
	else
		atomic32_store_release(&h->started, 1);
	return ret;
}

static struct fault_handler *handler_of_cpu(struct fault_threads *ft, int cpu)
{
	for (u32 i = 0; i < ft->nr_handlers; i++) {
		if ((int)ft->handlers[i].cpu == cpu)
			return &ft->handlers[i];
	}
	return NULL;
}

/* ---- the usher ---- */

struct sighting {
	u32 tid;
	int cpu;
};

struct usher {
	struct sighting seen[SIGHTINGS];
	u32 nr_seen;			   /* ever */
	u32 nr_served[FAULT_HANDLERS_MAX]; /* at the last tick */
};

/* Where a thread runs, or ran last; -1 without /proc. */
static int cpu_of_thread(u32 tid)
{
	char path[64], text[1024];
	const char *p;
	int cpu = 0;

	print_to(path, sizeof(path), "/proc/self/task/%u/stat", tid);
	if (os_read_file(path, text, sizeof(text)) <= 0)
		return -1;
	p = strrchr(text, ')'); /* the name before it may hold anything */
	for (int field = 2; p && field < STAT_CPU_FIELD; field++)
		p = strchr(p + 1, ' ');
	if (!p)
		return -1;
	for (p++; *p >= '0' && *p <= '9'; p++)
		cpu = cpu * 10 + *p - '0';
	return cpu;
}

/* Whom did the handlers serve since the last tick? True: somebody. */
static bool usher_look(struct fault_threads *ft, struct usher *u)
{
	bool any = false;

	for (u32 i = 0; i < ft->nr_handlers; i++) {
		struct fault_handler *h = &ft->handlers[i];
		u32 served = atomic32_read(&h->nr_served);

		if (served == u->nr_served[i])
			continue;
		u->nr_served[i] = served;
		any = true;
		u->seen[u->nr_seen % SIGHTINGS].tid = atomic32_read(&h->tid);
		u->seen[u->nr_seen % SIGHTINGS].cpu = cpu_of_thread(atomic32_read(&h->tid));
		u->nr_seen++;
	}
	return any;
}

/*
 * Faults on this processor? A thread that is alone counts where it was last: two handlers that both serve it would
 * only make it wander.
 */
static bool usher_wants(const struct usher *u, int cpu)
{
	const struct sighting *last = &u->seen[(u->nr_seen - 1) % SIGHTINGS];
	u32 nr = (u32)min_u64(u->nr_seen, SIGHTINGS);
	bool alone = true, found = false;

	for (u32 i = 0; i < nr; i++) {
		alone &= u->seen[i].tid == last->tid;
		found |= u->seen[i].cpu == cpu;
	}
	return alone ? last->cpu == cpu : found;
}

/* A new thread shares its creator's descriptors, so a handler must start it: one a tick is soon enough. */
static void usher_send(struct fault_handler *h, bool wanted)
{
	u32 state = atomic32_load_acquire(&h->state);

	if (wanted && state == HANDLER_NONE) {
		atomic32_store_release(&h->all->wanted, (u32)(h - h->all->handlers) + 1);
	} else if (wanted && state != HANDLER_RUNS) {
		while (state != HANDLER_RUNS && !atomic32_cas_acquire(&h->state, &state, HANDLER_RUNS))
			;
		sync_wake32_all(&h->state);
	} else if (!wanted && state == HANDLER_RUNS) {
		(void)!atomic32_cas_acquire(&h->state, &state, HANDLER_LEAVES);
	}
}

static void usher_tick(struct fault_threads *ft, struct usher *u)
{
	/* A processor that is not ours to run on has no handler: nobody is sent away for it. */
	if (!handler_of_cpu(ft, u->seen[(u->nr_seen - 1) % SIGHTINGS].cpu))
		return;
	for (u32 i = 0; i < ft->nr_handlers; i++)
		usher_send(&ft->handlers[i], usher_wants(u, (int)ft->handlers[i].cpu));
}

/* Its descriptors are its own: what it opens must not come in between the program's. */
static void usher_main(void *arg)
{
	struct fault_threads *ft = arg;
	struct usher u;
	u32 idle = 0;

	memset(&u, 0, sizeof(u));
	os_run_on(ft->cpus, sizeof(ft->cpus));
	if (os_own_descriptors())
		return;
	for (;;) {
		u32 seen = atomic32_load_acquire(&ft->usher_wake);

		/* After that look, so that the end of the sleep is not missed. */
		if (atomic32_load_acquire(&ft->stop))
			return;
		if (usher_look(ft, &u)) {
			idle = 0;
			usher_tick(ft, &u);
		} else {
			idle++;
		}
		if (idle < IDLE_TICKS) {
			sync_wait32_timeout(&ft->usher_wake, seen, TICK_NS);
		} else {
			atomic32_set(&ft->usher_asleep, 1);
			sync_wait32(&ft->usher_wake, seen);
			idle = 0;
		}
	}
}

/* A handler has something to look at. Without an usher the handlers go on as they are. */
static void usher_call(struct fault_threads *ft)
{
	u32 none = 0;

	if (likely(atomic32_read(&ft->usher_started))) {
		if (atomic32_read(&ft->usher_asleep) && atomic32_xchg_acquire(&ft->usher_asleep, 0)) {
			atomic32_add_return(&ft->usher_wake, 1);
			sync_wake32_all(&ft->usher_wake);
		}
	} else if (ft->nr_handlers > 1 && atomic32_cas_acquire(&ft->usher_started, &none, 1)) {
		if (sync_thread_start(&ft->usher, usher_main, ft))
			atomic32_set(&ft->usher_started, 2);
	}
}

/* ---- life ---- */

static int start(struct fault_threads *ft)
{
	u32 cpu = 0;
	struct fault_handler *h;

	os_cpus(ft->cpus, sizeof(ft->cpus));
	for (u32 i = 0; i < 64 * ARRAY_SIZE(ft->cpus) && ft->nr_handlers < FAULT_HANDLERS_MAX; i++) {
		if (ft->cpus[i / 64] & (u64)1 << (i % 64)) {
			h = &ft->handlers[ft->nr_handlers++];
			h->cpu = i;
			h->all = ft;
		}
	}
	sys3(SYS_getcpu, &cpu, NULL, NULL);
	h = handler_of_cpu(ft, (int)cpu);
	if (!h) {
		h = &ft->handlers[0];
		h->all = ft;
		ft->nr_handlers = (u32)max_u64(ft->nr_handlers, 1);
	}
	return handler_start(h);
}

int fault_threads_start(struct fault_threads *ft, struct mm *mm, void (*out_of_memory)(const char *why))
{
	int ret;

	if (ft->nr_handlers)
		return 0; /* an adoption that failed later on is tried again */
	memset(ft, 0, sizeof(*ft));
	ft->mm = mm;
	ft->out_of_memory = out_of_memory;
	ret = start(ft);
	if (ret)
		ft->nr_handlers = 0;
	return ret;
}

int fault_threads_start_in_child(struct fault_threads *ft)
{
	for (u32 i = 0; i < ft->nr_handlers; i++)
		sync_thread_forget(&ft->handlers[i].thread);
	sync_thread_forget(&ft->usher);
	ft->nr_handlers = 0;
	return fault_threads_start(ft, ft->mm, ft->out_of_memory);
}

/* Handlers are started by handlers, and so is the usher: when those that we know have ended, none begins. */
void fault_threads_stop(struct fault_threads *ft)
{
	bool any = true;

	atomic32_store_release(&ft->stop, 1);
	atomic_full_barrier(); /* told before we look who is parked; meets handler_park */
	while (any) {
		any = false;
		for (u32 i = 0; i < ft->nr_handlers; i++) {
			struct fault_handler *h = &ft->handlers[i];
			u32 state = HANDLER_PARKED;

			if (atomic32_cas_acquire(&h->state, &state, HANDLER_RUNS))
				sync_wake32_all(&h->state);
			if (!atomic32_load_acquire(&h->started))
				continue;
			any = true;
			sync_thread_join(&h->thread);
			atomic32_set(&h->started, 0);
		}
		if (atomic32_read(&ft->usher_started) == 1) {
			any = true;
			atomic32_add_return(&ft->usher_wake, 1);
			sync_wake32_all(&ft->usher_wake);
			sync_thread_join(&ft->usher);
			atomic32_set(&ft->usher_started, 0);
		}
	}
	ft->nr_handlers = 0;
}
