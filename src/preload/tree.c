// SPDX-License-Identifier: MIT
#include "preload/tree.h"

#include <errno.h>
#include <signal.h>

#include "base/print.h"
#include "base/syscall.h"
#include "fault/gate.h"
#include "mm/budget.h"
#include "preload/devices.h"
#include "preload/quiesce.h"
#include "preload/signals.h"
#include "sync/thread.h"
#include "tree/pool.h"

enum {
	CHUNK_SHIFT = 7, /* what is taken at once: 1/128 of the limit */
	CHUNK_PAGES_MIN = 64,
	CHUNK_PAGES_MAX = 1024,
	PIECE_PAGES = 256, /* given back at once: fork waits for it */
	UNWATCHED_SHIFT = 5, /* 1/32 of the limit, as long as half of it is free */
};

#define JOIN_NS 5000000000ull
#define SOON_NS 20000000ull
#define LAST_NS 2000000000ull
#define SLICE_NS 5000000ull
#define IMPATIENT_NS 200000000ull /* after waiting in vain */
#define GRACE_NS 100000000ull
#define SETTLE_PAUSE_NS 10000000ull
#define IDLE_NS 3600000000000ull

static struct {
	struct mutex lock; /* member, and its `inherited`; never held while sleeping. Signals blocked */
	struct pool_member member;
	u64 settle_ns; /* when what was inherited is to be counted; later, when some of it last was */
	struct atomic64 impatient_ns; /* no waiting until then */
	struct atomic32 giving; /* thread that makes pages leave, and must not ask for more meanwhile */
	bool watched;
	struct sync_thread watcher;
} tree;

/* ---- the watcher ---- */

/* Pages that the mm may use beyond its grant: inherited by fork, and not counted yet. */
static u32 inherited(void)
{
	return atomic32_read(&tree.member.slot->inherited);
}

/* Of `nr` pages that are there for it: counts what was inherited first. Returns what is left. Context: lock held. */
static u32 settle(u32 nr)
{
	u32 settled = (u32)min_u64(nr, inherited());

	atomic32_set(&tree.member.slot->inherited, inherited() - settled);
	return nr - settled;
}

static void give_to_pool(u32 nr)
{
	u64 mask = signals_lock(&tree.lock);

	nr = settle(nr);
	if (nr)
		pool_give(&tree.member, nr);
	signals_unlock(&tree.lock, mask);
}

static u32 make_leave(struct mm *mm, u32 nr)
{
	u32 given;

	atomic32_set(&tree.giving, sync_thread_id());
	given = mm_give(mm, nr);
	atomic32_set(&tree.giving, 0);
	return given;
}

static void serve_trim(struct mm *mm)
{
	u32 shard = gate_enter(&core_gate);

	give_to_pool(mm_give_spare(mm, POOL_PAGES_MAX));
	gate_leave(&core_gate, shard);
}

/* In pieces, as fork waits at the gate. */
static void serve_give(struct mm *mm, u32 nr)
{
	u32 given;

	do {
		u32 shard = gate_enter(&core_gate);

		given = mm_adopt(mm) ? 0 : make_leave(mm, (u32)min_u64(nr, PIECE_PAGES));
		give_to_pool(given);
		gate_leave(&core_gate, shard);
		nr -= given;
	} while (given && nr);
}

static _Noreturn void die_over_limit(void)
{
	char size[16];

	print_err("out of memory: %s inherited by fork do not fit under the limit that all of this `weir run` share; "
		  "ending pid %d",
		  print_size(size, sizeof(size), pages_to_bytes(inherited())), (int)sys0(SYS_getpid));
	for (;;)
		sys2(SYS_kill, sys0(SYS_getpid), SIGKILL);
}

/*
 * Part of what was inherited by fork: counted from now on, or gone. False: neither could be done. That cannot go on for
 * ever, as it is over the limit.
 */
static bool settle_some(struct mm *mm)
{
	u32 shard = gate_enter(&core_gate), nr;
	u64 mask = signals_lock(&tree.lock);

	nr = pool_take(&tree.member, 1, inherited());
	settle(nr);
	if (!nr)
		pool_want(&tree.member, PIECE_PAGES);
	signals_unlock(&tree.lock, mask);
	if (!nr && !mm_adopt(mm)) {
		nr = make_leave(mm, (u32)min_u64(inherited(), PIECE_PAGES));
		give_to_pool(nr);
	}
	gate_leave(&core_gate, shard);
	if (nr)
		tree.settle_ns = sync_clock_ns();
	else if (sync_clock_ns() - tree.settle_ns > LAST_NS)
		die_over_limit();
	return nr != 0;
}

/* Not while somebody forks. */
static void start_devices(struct mm *mm)
{
	u32 shard = gate_enter(&core_gate);

	devices_start(mm);
	gate_leave(&core_gate, shard);
}

static void watcher_main(void *arg)
{
	struct mm *mm = arg;
	struct pool_member *m = &tree.member;

	for (;;) {
		u32 seen = atomic32_load_acquire(&m->slot->wake);
		struct pool_request request = pool_request_take(m);
		bool late = devices_are_late(mm);
		u64 now = inherited() || late ? sync_clock_ns() : 0;

		if (request.trim)
			serve_trim(mm);
		if (request.give)
			serve_give(mm, request.give);
		if (request.trim || request.give)
			continue;
		if (late && now >= tree.settle_ns)
			start_devices(mm);
		else if (late && !inherited())
			pool_request_wait(m, seen, tree.settle_ns - now);
		else if (!inherited())
			pool_request_wait(m, seen, IDLE_NS);
		else if (now < tree.settle_ns)
			pool_request_wait(m, seen, tree.settle_ns - now);
		else if (!settle_some(mm))
			pool_request_wait(m, seen, SETTLE_PAUSE_NS);
	}
}

/* Without it we give nothing, and are not asked. Context: areas.lock held, or single-threaded. */
static void watch(struct mm *mm)
{
	/* A thread of a vfork child would end with it. */
	if (tree.watched || signals_in_vfork_child() || sync_thread_start(&tree.watcher, watcher_main, mm))
		return;
	tree.watched = true;
	quiesce_exempt(atomic32_read(&tree.watcher.tid));
	atomic32_set(&tree.member.slot->can_give, 1);
}

void tree_adopted(struct mm *mm)
{
	if (tree.member.pool)
		watch(mm);
}

/* What a process may have without being ready to give it back: little, and the least when it becomes crowded. */
static u32 unwatched_max(void)
{
	const struct pool *pool = tree.member.pool;

	if (pool_sum(pool).granted > pool->limit / 2)
		return pool->least;
	return (u32)max_u64(pool->limit >> UNWATCHED_SHIFT, pool->least);
}

/* ---- what the mm asks for ---- */

/* What is there is ours already, but nobody has told the pool: a fork that was not seen, whose parent has ended. */
static bool enter_anew(struct mm *mm, u64 wait_ns, int *ret)
{
	u32 granted = atomic32_read(&mm->budget.granted);
	struct pool_member member;

	*ret = pool_join(&member, tree.member.pool, wait_ns);
	if (*ret)
		return false;
	tree.member = member;
	atomic32_set(&tree.member.slot->inherited, granted - tree.member.pool->least);
	tree.settle_ns = sync_clock_ns() + GRACE_NS;
	/* Little is taken at once, where it is free. */
	if (inherited() && granted <= unwatched_max())
		settle(pool_take(&tree.member, 1, inherited()));
	return true;
}

static u32 take(u32 nr, enum budget_patience patience)
{
	struct pool *pool = tree.member.pool;
	u32 chunk = (u32)max_u64(min_u64(pool->limit >> CHUNK_SHIFT, CHUNK_PAGES_MAX), CHUNK_PAGES_MIN), got;

	if (patience != BUDGET_SPARE)
		return pool_take(&tree.member, (u32)min_u64(nr, CHUNK_PAGES_MIN), (u32)max_u64(nr, chunk));
	got = pool_take(&tree.member, nr, nr);
	if (got)
		return got;
	pool_reap(pool, &tree.member, true);
	return pool_take(&tree.member, nr, nr);
}

/* Context: tree.lock held. *due: others were asked, and will give. */
static bool more_locked(struct mm *mm, u32 nr, enum budget_patience patience, bool *due)
{
	int ignored;
	u32 got;

	if (!pool_is_member(&tree.member) && !enter_anew(mm, 0, &ignored))
		return false;
	/* What a child has inherited is counted at the latest when it needs more: then all of that comes first. */
	got = settle(take(nr + inherited(), patience));
	if (got) {
		pool_want_no_more(&tree.member);
		budget_raise(mm, got);
	} else if (patience != BUDGET_SPARE) {
		*due = pool_want(&tree.member, nr);
	}
	return got != 0;
}

/* Whether to look again, until when: asked others have some time, but not at every fault. */
static bool may_wait(enum budget_patience patience, bool due, u64 *deadline)
{
	u64 now = sync_clock_ns();

	if (patience < BUDGET_SOON || (patience == BUDGET_SOON && !due) || pool_sum(tree.member.pool).members < 2)
		return false;
	if (!*deadline) {
		if (patience == BUDGET_SOON && now < atomic64_read(&tree.impatient_ns))
			return false;
		*deadline = now + (patience == BUDGET_SOON ? SOON_NS : LAST_NS);
	}
	if (now < *deadline)
		return true;
	atomic64_set(&tree.impatient_ns, now + IMPATIENT_NS);
	return false;
}

static bool tree_more(struct mm *mm, u32 nr, enum budget_patience patience)
{
	struct pool *pool = tree.member.pool;
	u64 deadline = 0;

	for (;;) {
		u32 seen = atomic32_load_acquire(&pool->changed);
		bool due = false, got;
		u64 mask;

		if (atomic32_read(&tree.giving) && atomic32_read(&tree.giving) == sync_thread_id())
			return false;
		if (patience == BUDGET_LAST && devices_recall())
			return true;
		mask = signals_lock(&tree.lock);
		got = more_locked(mm, nr, patience, &due);
		signals_unlock(&tree.lock, mask);
		/* Of the unmanaged, in adopt_for: areas.lock is held. */
		if (got && patience == BUDGET_SPARE && pool_granted(&tree.member) > unwatched_max())
			watch(mm);
		if (got || !may_wait(patience, due, &deadline))
			return got;
		pool_wait(pool, seen, SLICE_NS);
	}
}

/* ---- life ---- */

int tree_join(const char *path, struct mm_config *cfg)
{
	struct pool *pool;
	int ret = pool_open(path, &pool);

	if (ret)
		return ret;
	ret = pool_join(&tree.member, pool, JOIN_NS);
	if (ret)
		return ret;
	cfg->nr_cpus = pool->nr_cpus;
	cfg->more = tree_more;
	cfg->granted = pool->least;
	return mm_share_min(cfg) <= pool->least ? 0 : -EINVAL;
}

void tree_fork_begin(void)
{
	mutex_lock(&tree.lock);
}

void tree_fork_parent(void)
{
	mutex_unlock(&tree.lock);
}

int tree_fork_child(struct mm *mm)
{
	int ret;

	tree.lock = (struct mutex){ 0 };
	if (!tree.member.pool)
		return 0;
	if (tree.watched)
		sync_thread_forget(&tree.watcher);
	tree.watched = false;
	atomic32_set(&tree.giving, 0);
	quiesce_forget_exempt();
	enter_anew(mm, JOIN_NS, &ret);
	return ret;
}

/* In a tree the watcher starts the thread for devices a little later: most children execute a program, or end. */
void tree_fork_child_end(struct mm *mm)
{
	if (tree.member.pool && (mm_is_adopted(mm) || inherited()))
		watch(mm);
	if (!tree.watched && mm_is_adopted(mm))
		devices_start(mm);
}
