/* SPDX-License-Identifier: MIT */
/*
 * io_uring for batches: a few rings, each used by one caller at a time, who submits all of his requests and waits for
 * them with one system call. By raw system calls: those of liburing would not come from the page that the net lets
 * pass (base/syscall.h), and it would be one more library in every program.
 *
 * A ring is made when it is first needed. After fork the child's rings are the parent's: it makes its own, on the same
 * descriptors.
 * Context: any thread, also signal handlers.
 */
#pragma once

#include <sys/uio.h>

#include "base/types.h"
#include "sync/poll.h"

enum { URING_ENTRIES = 64, URING_RINGS_MAX = 4 };

/* One request: a read or write of some memory at one place of the file. */
struct uring_io {
	const struct iovec *iov;
	u32 nr_iov;
	u64 offset;
	long result; /* as preadv's or pwritev's: bytes or -errno; -EAGAIN: not even tried */
};

struct uring {
	int fd; /* -1: none yet. Keeps its number for good, as the program may not close it */
	bool ready;
	u32 *sq_head, *sq_tail, *sq_mask, *cq_head, *cq_tail, *cq_mask;
	void *sqes, *cqes;
	void *rings;
	size_t rings_bytes, sqes_bytes;
};

struct uring_pool {
	u32 nr;
	struct atomic32 free; /* bit per ring that nobody uses; acquire takes, release gives back */
	struct atomic32 refused; /* the kernel makes no rings for us */
	struct uring rings[URING_RINGS_MAX];
};

void uring_pool_init(struct uring_pool *pool, u32 nr);
void uring_pool_close(struct uring_pool *pool);
void uring_pool_fork_child(struct uring_pool *pool);

/*
 * Makes all rings now and tells their descriptors (room for URING_RINGS_MAX); returns how many. `anew`: those that are
 * there may have been closed behind our back. Context: nobody uses them.
 */
u32 uring_pool_begin(struct uring_pool *pool, bool anew, int *fds);

/*
 * Does all of it. False: no ring is free, or there are none; nothing was done. nr <= URING_ENTRIES. Unless NULL, `poll`
 * is how to wait, for as long as it may.
 */
bool must_check uring_do(struct uring_pool *pool, int fd, bool write, struct uring_io *io, u32 nr,
			 struct sync_poll *poll);
