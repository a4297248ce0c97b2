// SPDX-License-Identifier: MIT
#include "tree/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/os.h"
#include "base/process.h"
#include "base/syscall.h"
#include "sync/wait.h"

enum {
	MAGIC = 0x77656972,
	LEVEL_ROUNDS_MAX = 16,
	TAKE_TRIES = 4,
};

#define REAP_NS 20000000ull
#define TRIM_NS 100000000ull
#define WANT_NS 500000000ull /* how long a process counts as short after it last said so */
#define JOIN_WAIT_NS 5000000ull

_Static_assert(sizeof(struct pool_slot) == 64, "one line each");
_Static_assert(PROCESS_ID_BITS + POOL_GRANT_BITS == 64, "process and grant are one word");

static u32 word_grant(u64 word)
{
	return (u32)word & POOL_PAGES_MAX;
}

static u64 word_id(u64 word)
{
	return word & ~(u64)POOL_PAGES_MAX;
}

static u64 word_process(u64 word)
{
	return word >> POOL_GRANT_BITS;
}

/* ---- sleeping across processes: the shared kind of futex ---- */

static void shared_wait(struct atomic32 *word, u32 seen, u64 ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };

	sys4(SYS_futex, &word->v, FUTEX_WAIT, seen, &ts);
}

static void shared_bump(struct atomic32 *word)
{
	atomic32_add_return(word, 1);
	sys3(SYS_futex, &word->v, FUTEX_WAKE, INT_MAX);
}

void pool_wait(struct pool *pool, u32 seen, u64 ns)
{
	shared_wait(&pool->changed, seen, ns);
}

/* ---- life ---- */

static size_t pool_bytes(u32 nr_slots)
{
	return ALIGN_UP(sizeof(struct pool) + nr_slots * sizeof(struct pool_slot), PAGE_SIZE);
}

int pool_create(u32 limit, u32 least, u32 nr_cpus, struct pool **pool, int *fd)
{
	u32 nr_slots = (u32)min_u64(limit / max_u64(least, 1), POOL_SLOTS_MAX);
	size_t bytes = pool_bytes(nr_slots);
	int err;

	if (nr_slots < 2 || limit > POOL_PAGES_MAX)
		return -EINVAL;
	*fd = os_shared_create("weir-pool", bytes);
	if (*fd < 0)
		return *fd;
	*pool = os_shared_map(*fd, bytes, &err);
	if (err) {
		sys1(SYS_close, *fd);
		return err;
	}
	(*pool)->limit = limit;
	(*pool)->least = least;
	(*pool)->nr_cpus = nr_cpus;
	(*pool)->nr_slots = nr_slots;
	(*pool)->magic = MAGIC;
	return 0;
}

int pool_open(const char *path, struct pool **pool)
{
	long fd = sys4(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0), bytes;
	int err;

	if (fd < 0)
		return (int)fd;
	bytes = sys3(SYS_lseek, fd, 0, SEEK_END);
	err = bytes < (long)PAGE_SIZE || bytes > (long)pool_bytes(POOL_SLOTS_MAX) ? -EINVAL : 0;
	if (!err)
		*pool = os_shared_map((int)fd, (size_t)bytes, &err);
	sys1(SYS_close, fd);
	if (!err && ((*pool)->magic != MAGIC || pool_bytes((*pool)->nr_slots) != (size_t)bytes)) {
		sys2(SYS_munmap, *pool, bytes);
		err = -EINVAL;
	}
	return err;
}

/* ---- grants ---- */

struct pool_totals pool_sum(const struct pool *pool)
{
	struct pool_totals totals = { 0 };

	for (u32 i = 0; i < atomic32_load_acquire(&pool->nr_used); i++) {
		u64 word = atomic64_read(&pool->slot[i].word);

		totals.members += word != 0;
		totals.granted += word_grant(word);
	}
	return totals;
}

static void raise_peak(struct atomic64 *peak, u64 value)
{
	u64 old = atomic64_read(peak);

	while (old < value && !atomic64_cas_relaxed(peak, &old, value))
		;
}

u32 pool_granted(const struct pool_member *m)
{
	return word_grant(atomic64_read(&m->slot->word));
}

bool pool_is_member(const struct pool_member *m)
{
	return word_id(atomic64_read(&m->slot->word)) == m->id;
}

static bool add_grant(struct pool_member *m, s64 nr)
{
	u64 old = atomic64_read(&m->slot->word);

	do {
		if (word_id(old) != m->id)
			return false;
		must((s64)word_grant(old) + nr >= 0);
	} while (!atomic64_cas_acq_rel(&m->slot->word, &old, old + (u64)nr));
	return true;
}

/* All or nothing. Others see the attempt: two at once may both fail where one would fit, never both succeed. */
static bool raise_grant(struct pool_member *m, u32 nr)
{
	struct pool_totals totals;

	if ((u64)pool_granted(m) + nr > m->pool->limit)
		return false;
	if (!add_grant(m, nr))
		return false;
	atomic_full_barrier(); /* our grant is seen before we read the others'; meets itself in the other process */
	totals = pool_sum(m->pool);
	if (totals.granted > m->pool->limit) {
		add_grant(m, -(s64)nr);
		return false;
	}
	raise_peak(&m->pool->granted_peak, totals.granted);
	raise_peak(&m->pool->members_peak, totals.members);
	return true;
}

static bool is_short(const struct pool_slot *slot, u64 now)
{
	return atomic32_read(&slot->want) && now - atomic64_read(&slot->want_ns) < WANT_NS;
}

/* What members with less than `granted` wait for. */
static u64 wanted_by_poorer(const struct pool_member *m, u32 granted)
{
	u64 sum = 0, now = sync_clock_ns();

	for (u32 i = 0; i < atomic32_load_acquire(&m->pool->nr_used); i++) {
		const struct pool_slot *slot = &m->pool->slot[i];
		u64 word = atomic64_read(&slot->word);

		if (word && slot != m->slot && word_grant(word) < granted && is_short(slot, now))
			sum += atomic32_read(&slot->want);
	}
	return sum;
}

u32 pool_take(struct pool_member *m, u32 least, u32 most)
{
	u64 kept = wanted_by_poorer(m, pool_granted(m));

	for (int try = 0; try < TAKE_TRIES; try++) {
		u64 gone = pool_sum(m->pool).granted + kept, nr;

		nr = min_u64(m->pool->limit - min_u64(m->pool->limit, gone), most);
		if (nr < least || !nr)
			return 0;
		if (raise_grant(m, (u32)nr))
			return (u32)nr;
		most = (u32)max_u64(nr / 2, least); /* another was as quick: less will fit */
	}
	return 0;
}

void pool_give(struct pool_member *m, u32 nr)
{
	add_grant(m, -(s64)nr);
	shared_bump(&m->pool->changed);
}

/* ---- the dead ---- */

void pool_reap(struct pool *pool, const struct pool_member *self, bool now)
{
	u64 last = atomic64_read(&pool->reaped_ns), clock = sync_clock_ns();

	if (!now && (clock - last < REAP_NS || !atomic64_cas_relaxed(&pool->reaped_ns, &last, clock)))
		return;
	if (self && !process_can_judge(word_process(self->id)))
		return;
	for (u32 i = 0; i < atomic32_load_acquire(&pool->nr_used); i++) {
		u64 word = atomic64_read(&pool->slot[i].word);

		/* Read again: the owner, if it lives, may have changed its grant, and then it is not dead. */
		if (word && process_is_dead(word_process(word)) && atomic64_cas_acq_rel(&pool->slot[i].word, &word, 0))
			shared_bump(&pool->changed);
	}
}

/* ---- fair shares ---- */

/* The parts of the records that decide, as the member sees them now. It counts as short itself. */
struct rival {
	u32 granted;
	bool is_short, can_give;
};

static struct rival look_at(const struct pool_member *m, const struct pool_slot *slot, u64 now)
{
	return (struct rival){
		.granted = word_grant(atomic64_read(&slot->word)),
		.is_short = slot == m->slot || is_short(slot, now),
		.can_give = slot == m->slot || atomic32_read(&slot->can_give) != 0,
	};
}

/*
 * The level at which those who are short end up if everybody above it gives: the limit divided by those who have, or
 * want, at least that much, after the others have got what they have. Members that cannot give keep what they have.
 */
static u32 fair_level(const struct pool_member *m, u64 now)
{
	u32 level = 0;

	for (int round = 0; round < LEVEL_ROUNDS_MAX; round++) {
		u64 left = m->pool->limit;
		u32 nr = 0, next;

		for (u32 i = 0; i < atomic32_load_acquire(&m->pool->nr_used); i++) {
			struct rival r;

			if (!atomic64_read(&m->pool->slot[i].word))
				continue;
			r = look_at(m, &m->pool->slot[i], now);
			if (r.is_short || (r.can_give && r.granted >= level))
				nr++;
			else
				left -= min_u64(left, r.granted);
		}
		next = nr ? (u32)(left / nr) : 0;
		if (next <= level)
			break;
		level = next;
	}
	return level;
}

/* Those who have more than enough are asked for it by one process, and not all the time. */
static void ask_to_trim(struct pool_member *m, u64 now)
{
	u64 last = atomic64_read(&m->pool->trimmed_ns);

	if (now - last < TRIM_NS || !atomic64_cas_relaxed(&m->pool->trimmed_ns, &last, now))
		return;
	for (u32 i = 0; i < atomic32_load_acquire(&m->pool->nr_used); i++) {
		struct pool_slot *slot = &m->pool->slot[i];

		if (slot == m->slot || !atomic64_read(&slot->word) || !atomic32_read(&slot->can_give))
			continue;
		atomic32_set(&slot->trim, 1);
		shared_bump(&slot->wake);
	}
}

/* Asks everybody who is above the level for a little. */
static bool ask_the_rich(struct pool_member *m, u32 level, u32 nr)
{
	bool asked = false;

	for (u32 i = 0; i < atomic32_load_acquire(&m->pool->nr_used); i++) {
		struct pool_slot *slot = &m->pool->slot[i];
		u32 granted = word_grant(atomic64_read(&slot->word)), ask;

		if (slot == m->slot || granted <= level || !atomic32_read(&slot->can_give))
			continue;
		ask = (u32)min_u64(granted - level, nr);
		asked = true;
		if (atomic32_read(&slot->give) >= ask)
			continue;
		atomic32_set(&slot->give, ask);
		shared_bump(&slot->wake);
	}
	return asked;
}

bool pool_want(struct pool_member *m, u32 nr)
{
	u64 now = sync_clock_ns();
	u32 level, granted = pool_granted(m);

	atomic32_set(&m->slot->want, nr);
	atomic64_set(&m->slot->want_ns, now);
	pool_reap(m->pool, m, false);
	ask_to_trim(m, now);
	level = fair_level(m, now);
	/* Near enough, or two equals would hand the same pages to and fro. */
	if (granted >= m->pool->least && granted + level / 32 >= level)
		return false;
	return ask_the_rich(m, level, (u32)max_u64(nr, m->pool->least / 8));
}

void pool_want_no_more(struct pool_member *m)
{
	if (atomic32_read(&m->slot->want))
		atomic32_set(&m->slot->want, 0);
}

struct pool_request pool_request_take(struct pool_member *m)
{
	struct pool_request request = {
		.give = atomic32_xchg_acquire(&m->slot->give, 0),
		.trim = atomic32_xchg_acquire(&m->slot->trim, 0) != 0,
	};

	return request;
}

void pool_request_wait(struct pool_member *m, u32 seen, u64 ns)
{
	shared_wait(&m->slot->wake, seen, ns);
}

/* ---- joining ---- */

static void slot_begin(struct pool_slot *slot)
{
	atomic32_set(&slot->want, 0);
	atomic32_set(&slot->give, 0);
	atomic32_set(&slot->trim, 0);
	atomic32_set(&slot->can_give, 0);
	atomic32_set(&slot->inherited, 0);
}

/* The record of this process's earlier program, whose memory went with it; or a free one. */
static bool find_slot(struct pool_member *m, const struct process *self)
{
	struct pool *pool = m->pool;
	u32 used = atomic32_load_acquire(&pool->nr_used);

	for (u32 i = 0; i < used; i++) {
		m->slot = &pool->slot[i];
		if (!process_is(word_process(atomic64_read(&m->slot->word)), self))
			continue;
		atomic64_set(&m->slot->word, m->id);
		return true;
	}
	for (u32 i = 0; i < pool->nr_slots; i++) {
		u32 seen = atomic32_load_acquire(&pool->nr_used);
		u64 none = 0;

		/* Before the slot is taken: who sums from then on looks at it. */
		while (seen <= i && !atomic32_cas_acquire(&pool->nr_used, &seen, i + 1))
			;
		m->slot = &pool->slot[i];
		if (atomic64_cas_acq_rel(&m->slot->word, &none, m->id)) {
			atomic64_fetch_add(&pool->nr_joined, 1);
			return true;
		}
	}
	m->slot = NULL;
	return false;
}

int pool_join(struct pool_member *m, struct pool *pool, u64 wait_ns)
{
	u64 deadline = sync_clock_ns() + wait_ns;
	struct process self;
	bool first = true;

	process_read_self(&self);
	*m = (struct pool_member){ .pool = pool, .id = process_id(&self) << POOL_GRANT_BITS };
	for (;;) {
		u32 seen = atomic32_load_acquire(&pool->changed);

		if (!m->slot && find_slot(m, &self))
			slot_begin(m->slot);
		if (m->slot && pool_take(m, pool->least, pool->least)) {
			pool_want_no_more(m);
			return 0;
		}
		pool_reap(pool, m, first);
		if (m->slot)
			pool_want(m, pool->least);
		if (!first && sync_clock_ns() >= deadline)
			break;
		if (!first)
			pool_wait(pool, seen, JOIN_WAIT_NS);
		first = false;
	}
	atomic64_fetch_add(&pool->nr_refused, 1);
	if (m->slot)
		atomic64_store_release(&m->slot->word, 0);
	return -EAGAIN;
}
