// SPDX-License-Identifier: MIT
#include "swap/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/assert.h"
#include "base/os.h"
#include "base/process.h"
#include "base/syscall.h"
#include "sync/wait.h"

enum { MAGIC = 0x77656e67 };

#define LOOK_NS 500000000ull /* how often a sleeper looks whether the engine lives */
#define CLAIM_NS 10000000ull

_Static_assert(sizeof(struct ring_cell) == 64, "one line each");

/* ---- sleeping across processes: the shared kind of futex ---- */

static void shared_wait(struct atomic32 *word, u32 seen, u64 ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };

	sys4(SYS_futex, &word->v, FUTEX_WAIT, seen, &ts);
}

static void shared_wake(struct atomic32 *word)
{
	sys3(SYS_futex, &word->v, FUTEX_WAKE, INT_MAX);
}

/* ---- life ---- */

static size_t pages_offset(void)
{
	return ALIGN_UP(sizeof(struct ring), PAGE_SIZE);
}

static size_t ring_bytes(void)
{
	return pages_offset() + RING_CELLS * PAGE_SIZE;
}

int ring_map(int fd, struct ring **ring)
{
	int err = sys3(SYS_lseek, fd, 0, SEEK_END) == (long)ring_bytes() ? 0 : -EINVAL;

	if (!err)
		*ring = os_shared_map(fd, ring_bytes(), &err);
	if (err)
		return err;
	if ((*ring)->magic == MAGIC)
		return 0;
	ring_close(*ring);
	return -EINVAL;
}

int ring_create(struct ring **ring, int *fd)
{
	u32 magic = MAGIC;
	int err = 0;

	*fd = os_shared_create("weir-ring", ring_bytes());
	if (*fd < 0)
		return *fd;
	if (sys4(SYS_pwrite64, *fd, &magic, sizeof(magic), 0) != sizeof(magic))
		err = -EIO;
	if (!err)
		err = ring_map(*fd, ring);
	if (err)
		sys1(SYS_close, *fd);
	return err;
}

int ring_open(const char *path, struct ring **ring)
{
	long fd = sys4(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
	int err;

	if (fd < 0)
		return (int)fd;
	err = ring_map((int)fd, ring);
	sys1(SYS_close, fd);
	return err;
}

void ring_close(struct ring *ring)
{
	sys2(SYS_munmap, ring, ring_bytes());
}

void *ring_page(struct ring *ring, u32 cell)
{
	must(cell < RING_CELLS);
	return (char *)ring + pages_offset() + (size_t)cell * PAGE_SIZE;
}

/* ---- the engine's end ---- */

void ring_end(struct ring *ring)
{
	atomic32_store_release(&ring->ended, 1);
}

bool ring_has_ended(struct ring *ring)
{
	if (!atomic32_load_acquire(&ring->ended) && process_is_dead(ring->engine))
		ring_end(ring);
	return atomic32_load_acquire(&ring->ended) != 0;
}

/* ---- cells ---- */

static u32 claim_some(struct ring *ring, u64 id, u32 limit, u32 *cells, u32 nr)
{
	u32 at = atomic32_read(&ring->hint) % limit, got = 0;

	for (u32 i = 0; i < limit && got < nr; i++, at = at + 1 < limit ? at + 1 : 0) {
		u64 none = 0;

		/* Relaxed first look: a cell that has just come free is found the next time. */
		if (!atomic64_read(&ring->cell[at].owner) && atomic64_cas_acquire(&ring->cell[at].owner, &none, id))
			cells[got++] = at;
	}
	if (got)
		atomic32_set(&ring->hint, at);
	return got;
}

u32 ring_try_claim(struct ring *ring, u64 id, enum ring_op op, u32 *cells, u32 nr)
{
	return claim_some(ring, id, op == RING_WRITE ? RING_WRITE_CELLS : RING_CELLS, cells, nr);
}

u32 ring_claim(struct ring *ring, u64 id, enum ring_op op, u32 *cells, u32 nr)
{
	u32 got = 0;

	for (u32 looks = 0; !got; looks++) {
		u32 seen;

		if (atomic32_load_acquire(&ring->ended) || (looks % 64 == 63 && ring_has_ended(ring)))
			return 0;
		got = ring_try_claim(ring, id, op, cells, nr);
		if (got)
			break;
		/* Counted before the look: meets ring_free, which gives the cell and then looks at the count. */
		atomic32_add_return(&ring->waiters, 1);
		seen = atomic32_load_acquire(&ring->freed);
		got = ring_try_claim(ring, id, op, cells, nr);
		if (!got)
			shared_wait(&ring->freed, seen, CLAIM_NS);
		atomic32_sub_return(&ring->waiters, 1);
	}
	return got;
}

static void cell_release(struct ring *ring, struct ring_cell *cell)
{
	atomic32_set(&cell->state, CELL_IDLE);
	atomic64_store_release(&cell->owner, 0);
	atomic32_add_return(&ring->freed, 1);
	atomic_full_barrier(); /* owner and freed are written before the look at waiters; meets ring_claim */
	if (atomic32_read(&ring->waiters))
		shared_wake(&ring->freed);
}

void ring_free(struct ring *ring, u32 cell)
{
	must(ring_is_done(ring, cell));
	cell_release(ring, &ring->cell[cell]);
}

void ring_submit(struct ring *ring, const u32 *cells, u32 nr)
{
	for (u32 i = 0; i < nr; i++)
		atomic32_store_release(&ring->cell[cells[i]].state, CELL_SUBMITTED);
	atomic32_add_return(&ring->doorbell, 1);
	atomic_full_barrier(); /* the bell rings before the look at asleep; meets ring_sleep */
	if (atomic32_read(&ring->asleep) && atomic32_xchg_acquire(&ring->asleep, 0))
		shared_wake(&ring->doorbell);
}

static u32 cell_state(const struct ring_cell *cell)
{
	return atomic32_load_acquire(&cell->state) & CELL_STATE_MASK;
}

bool ring_is_done(struct ring *ring, u32 cell)
{
	return cell_state(&ring->cell[cell]) == CELL_DONE;
}

bool ring_is_running(struct ring *ring, u32 cell)
{
	return cell_state(&ring->cell[cell]) == CELL_RUNNING;
}

int ring_wait(struct ring *ring, u32 cell, u64 ns)
{
	struct atomic32 *state = &ring->cell[cell].state;
	u64 deadline = 0;

	for (;;) {
		u32 old = atomic32_load_acquire(state);
		u64 now;

		if ((old & CELL_STATE_MASK) == CELL_DONE)
			return 0;
		if (!(old & CELL_SLEEPER) && !atomic32_cas_acquire(state, &old, old | CELL_SLEEPER))
			continue;
		now = sync_clock_ns();
		if (deadline && now >= deadline)
			return -ETIMEDOUT;
		if (deadline && ring_has_ended(ring))
			return -EPIPE;
		if (!deadline)
			deadline = now + ns;
		shared_wait(state, old | CELL_SLEEPER, min_u64(deadline - now, LOOK_NS));
	}
}

/* ---- members ---- */

/* An execve has ended the threads that waited for them. */
static void free_earlier(struct ring *ring, u64 id)
{
	for (u32 i = 0; i < RING_CELLS; i++) {
		int ret = 0;

		if (atomic64_load_acquire(&ring->cell[i].owner) != id)
			continue;
		while (cell_state(&ring->cell[i]) != CELL_IDLE && (ret = ring_wait(ring, i, LOOK_NS)) == -ETIMEDOUT)
			;
		if (!ret)
			cell_release(ring, &ring->cell[i]);
	}
}

int ring_join(struct ring *ring, u64 id)
{
	free_earlier(ring, id);
	for (u32 i = 0; i < RING_MEMBERS; i++) {
		u64 old = atomic64_read(&ring->member[i]);

		if (old == id || (old == 0 && atomic64_cas_acq_rel(&ring->member[i], &old, id)))
			return 0;
	}
	return -EAGAIN;
}

void ring_leave(struct ring *ring, u64 id)
{
	for (u32 i = 0; i < RING_MEMBERS; i++) {
		u64 old = id;

		(void)!atomic64_cas_acq_rel(&ring->member[i], &old, 0);
	}
}

/* ---- the engine's side ---- */

u32 ring_collect(struct ring *ring, u32 *cells)
{
	u32 got = 0;

	for (u32 i = 0; i < RING_CELLS; i++) {
		u32 old = atomic32_load_acquire(&ring->cell[i].state);

		/* Fails when the owner adds that it sleeps. */
		while ((old & CELL_STATE_MASK) == CELL_SUBMITTED) {
			if (atomic32_cas_acquire(&ring->cell[i].state, &old, CELL_RUNNING | (old & CELL_SLEEPER))) {
				cells[got++] = i;
				break;
			}
		}
	}
	return got;
}

void ring_sleep(struct ring *ring, u32 seen, u64 ns)
{
	atomic32_set(&ring->asleep, 1);
	atomic_full_barrier(); /* asleep is seen by whoever rings after this look at the bell; meets ring_submit */
	if (atomic32_load_acquire(&ring->doorbell) == seen)
		shared_wait(&ring->doorbell, seen, ns);
	atomic32_set(&ring->asleep, 0);
}

void ring_complete(struct ring *ring, u32 cell, int err, u32 flags)
{
	struct ring_cell *c = &ring->cell[cell];

	must(cell_state(c) == CELL_RUNNING);
	c->err = err;
	c->flags = flags;
	if (atomic32_xchg_release(&c->state, CELL_DONE) & CELL_SLEEPER)
		shared_wake(&c->state);
}

/* Only the engine frees what is another's, so what it finds dead stays as it is; RUNNING cells come back later. */
u32 ring_reap(struct ring *ring)
{
	u64 dead = 0, alive = 0;
	u32 members = 0;

	for (u32 i = 0; i < RING_CELLS; i++) {
		u64 owner = atomic64_load_acquire(&ring->cell[i].owner);
		u32 state = cell_state(&ring->cell[i]);

		if (!owner || owner == alive || state == CELL_RUNNING || state == CELL_SUBMITTED)
			continue;
		if (owner != dead && !process_is_dead(owner)) {
			alive = owner;
			continue;
		}
		dead = owner;
		/* As it was before the owner's death was seen, it may have been submitted in between. */
		state = cell_state(&ring->cell[i]);
		if (state == CELL_IDLE || state == CELL_DONE)
			cell_release(ring, &ring->cell[i]);
	}
	for (u32 i = 0; i < RING_MEMBERS; i++) {
		u64 id = atomic64_read(&ring->member[i]);

		if (!id)
			continue;
		if (process_is_dead(id))
			(void)atomic64_cas_acq_rel(&ring->member[i], &id, 0);
		else
			members++;
	}
	return members;
}
