// SPDX-License-Identifier: MIT
/*
 * The ring's words are shared with the kernel. We write the tail of the submissions (release, before the call) and the
 * head of the completions (release), and read the other two (acquire): io_uring(7).
 */
#include "swap/uring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/os.h"
#include "base/spares.h"
#include "base/syscall.h"

static u32 word_acquire(const u32 *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void word_release(u32 *word, u32 value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* ---- life ---- */

static void ring_unmap(struct uring *r)
{
	os_unreserve(r->rings, r->rings_bytes);
	os_unreserve(r->sqes, r->sqes_bytes);
	r->rings = r->sqes = NULL;
	r->ready = false;
}

static void *ring_map(int fd, size_t bytes, u64 offset)
{
	long addr = sys6(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);

	return (unsigned long)addr > -4096ul ? NULL : (void *)addr;
}

static void ring_point(struct uring *r, const struct io_uring_params *p)
{
	char *at = r->rings;
	u32 *array = (u32 *)(void *)(at + p->sq_off.array);

	r->sq_head = (u32 *)(void *)(at + p->sq_off.head);
	r->sq_tail = (u32 *)(void *)(at + p->sq_off.tail);
	r->sq_mask = (u32 *)(void *)(at + p->sq_off.ring_mask);
	r->cq_head = (u32 *)(void *)(at + p->cq_off.head);
	r->cq_tail = (u32 *)(void *)(at + p->cq_off.tail);
	r->cq_mask = (u32 *)(void *)(at + p->cq_off.ring_mask);
	r->cqes = at + p->cq_off.cqes;
	for (u32 i = 0; i < p->sq_entries; i++)
		array[i] = i;
}

/* Not IORING_SETUP_COOP_TASKRUN: who polls makes no system call by which completions could come. */
static long ring_setup(struct io_uring_params *p)
{
	*p = (struct io_uring_params){ 0 };
	return sys2(SYS_io_uring_setup, URING_ENTRIES, p);
}

/* On the number that it had, if it had one. */
static int ring_open(struct uring *r)
{
	struct io_uring_params p;
	u64 nofile = os_nofile_raise();
	long fd = ring_setup(&p);

	ring_unmap(r);
	if (fd >= 0 && r->fd >= 0) {
		sys3(SYS_dup3, fd, r->fd, O_CLOEXEC);
		sys1(SYS_close, fd);
	} else if (fd >= 0) {
		r->fd = os_fd_raise((int)fd);
	}
	os_nofile_restore(nofile);
	if (fd < 0)
		return (int)fd;
	if (!(p.features & IORING_FEAT_SINGLE_MMAP))
		return -ENOSYS;
	r->rings_bytes = max_u64(p.sq_off.array + p.sq_entries * sizeof(u32),
				 p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe));
	r->sqes_bytes = p.sq_entries * sizeof(struct io_uring_sqe);
	r->rings = ring_map(r->fd, r->rings_bytes, IORING_OFF_SQ_RING);
	r->sqes = ring_map(r->fd, r->sqes_bytes, IORING_OFF_SQES);
	if (!r->rings || !r->sqes) {
		ring_unmap(r);
		return -ENOMEM;
	}
	ring_point(r, &p);
	r->ready = true;
	return 0;
}

void uring_pool_init(struct uring_pool *pool, u32 nr)
{
	must(nr <= URING_RINGS_MAX);
	*pool = (struct uring_pool){ .nr = nr };
	for (u32 i = 0; i < URING_RINGS_MAX; i++)
		pool->rings[i].fd = -1;
	atomic32_set(&pool->free, (1u << nr) - 1);
}

void uring_pool_close(struct uring_pool *pool)
{
	for (u32 i = 0; i < pool->nr; i++) {
		ring_unmap(&pool->rings[i]);
		if (pool->rings[i].fd >= 0)
			spares_close(pool->rings[i].fd);
	}
}

void uring_pool_fork_child(struct uring_pool *pool)
{
	for (u32 i = 0; i < pool->nr; i++)
		ring_unmap(&pool->rings[i]);
	atomic32_set(&pool->free, (1u << pool->nr) - 1);
}

u32 uring_pool_begin(struct uring_pool *pool, bool anew, int *fds)
{
	u32 nr = 0;

	for (u32 i = 0; i < pool->nr && !atomic32_read(&pool->refused); i++) {
		struct uring *r = &pool->rings[i];

		if (anew)
			r->fd = -1; /* what stands there may be the program's by now */
		if ((anew || !r->ready) && ring_open(r)) {
			atomic32_set(&pool->refused, 1);
			if (r->fd >= 0)
				spares_close(r->fd);
			r->fd = -1;
			break;
		}
		fds[nr++] = r->fd;
	}
	return nr;
}

/* ---- use ---- */

static struct uring *ring_get(struct uring_pool *pool)
{
	u32 free = atomic32_read(&pool->free), bit;

	do {
		if (!free || atomic32_read(&pool->refused))
			return NULL;
		bit = (u32)__builtin_ctz(free);
	} while (!atomic32_cas_acquire(&pool->free, &free, free & ~(1u << bit)));
	return &pool->rings[bit];
}

static void ring_put(struct uring_pool *pool, struct uring *r)
{
	atomic32_add_return(&pool->free, 1u << (r - pool->rings));
}

static void ring_fill(struct uring *r, int fd, bool write, const struct uring_io *io, u32 nr)
{
	u32 tail = *r->sq_tail;

	for (u32 i = 0; i < nr; i++) {
		struct io_uring_sqe *sqe = (struct io_uring_sqe *)r->sqes + ((tail + i) & *r->sq_mask);

		*sqe = (struct io_uring_sqe){
			.opcode = write ? IORING_OP_WRITEV : IORING_OP_READV,
			.fd = fd,
			.off = io[i].offset,
			.addr = (uintptr_t)io[i].iov,
			.len = io[i].nr_iov,
			.user_data = i,
		};
	}
	word_release(r->sq_tail, tail + nr);
}

static u32 ring_collect(struct uring *r, struct uring_io *io)
{
	u32 head = *r->cq_head, tail = word_acquire(r->cq_tail), nr = tail - head;

	if (!nr)
		return 0;
	for (; head != tail; head++) {
		const struct io_uring_cqe *cqe = (const struct io_uring_cqe *)r->cqes + (head & *r->cq_mask);

		io[cqe->user_data].result = cqe->res;
	}
	word_release(r->cq_head, head);
	return nr;
}

/* What the kernel has not taken it will not look at: the tail goes back. Returns how many are under way. */
static u32 ring_withdraw(struct uring *r, u32 first, u32 nr)
{
	u32 taken = word_acquire(r->sq_head) - first;

	must(taken <= nr);
	word_release(r->sq_tail, first + taken);
	return taken;
}

/* Submits all and waits by looking; returns how many are done. */
static u32 ring_poll(struct uring *r, struct uring_io *io, u32 nr, struct sync_poll *poll)
{
	struct sync_poll_wait wait;
	u32 done = 0;

	sync_poll_begin(poll, &wait);
	if (sys6(SYS_io_uring_enter, r->fd, nr, 0, 0, NULL, 0) == nr) {
		do {
			done += ring_collect(r, io);
		} while (done < nr && sync_poll_again(poll, &wait));
	}
	sync_poll_end(poll, &wait);
	return done;
}

static void ring_run(struct uring *r, int fd, bool write, struct uring_io *io, u32 nr, struct sync_poll *poll)
{
	u32 first = *r->sq_tail, done = 0;

	for (u32 i = 0; i < nr; i++)
		io[i].result = -EAGAIN;
	ring_fill(r, fd, write, io, nr);
	if (poll)
		done = ring_poll(r, io, nr, poll);
	while (done < nr) {
		u32 unsent = *r->sq_tail - word_acquire(r->sq_head);
		long ret = sys6(SYS_io_uring_enter, r->fd, unsent, nr - done, IORING_ENTER_GETEVENTS, NULL, 0);

		done += ring_collect(r, io);
		unsent = *r->sq_tail - word_acquire(r->sq_head);
		if (ret < 0 && ret != -EINTR && unsent)
			nr = ring_withdraw(r, first, nr);
		must(ret >= 0 || ret == -EINTR || ret == -EAGAIN || ret == -EBUSY || ret == -ENOMEM || done == nr);
	}
}

bool uring_do(struct uring_pool *pool, int fd, bool write, struct uring_io *io, u32 nr, struct sync_poll *poll)
{
	struct uring *r = ring_get(pool);
	bool ready;

	must(nr <= URING_ENTRIES);
	if (!r)
		return false;
	ready = r->ready || !ring_open(r);
	if (!ready)
		atomic32_set(&pool->refused, 1);
	else
		ring_run(r, fd, write, io, nr, poll);
	ring_put(pool, r);
	return ready;
}
