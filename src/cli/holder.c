// SPDX-License-Identifier: MIT
#include "cli/holder.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/assert.h"
#include "cli/options.h"
#include "cli/orphan.h"
#include "swap/swap_device.h"
#include "tree/pool.h"

enum { LOOK_MS = 100, HOLDER_FDS_MAX = 1 + OPTION_LIST_MAX * SWAP_FDS_MAX };

/* Nothing of the caller's may stay open: somebody may wait for the end of a pipe. */
static void close_others(const int *fds, int nr)
{
	unsigned int from = 0;

	for (;;) {
		unsigned int next = ~0u;

		for (int i = 0; i < nr; i++) {
			if ((unsigned int)fds[i] >= from && (unsigned int)fds[i] < next)
				next = (unsigned int)fds[i];
		}
		if (next > from)
			close_range(from, next - (next != ~0u), 0);
		if (next == ~0u)
			return;
		from = next + 1;
	}
}

struct holding {
	struct pool *pool;
	int kept[HOLDER_FDS_MAX + 1]; /* the last is a pidfd of the command */
	int nr_kept;
};

/* Twice empty: a process that has just begun may not have entered yet. */
static void hold(void *arg)
{
	const struct holding *h = arg;
	struct pollfd command = { .fd = h->kept[h->nr_kept - 1], .events = POLLIN };
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	setsid();
	close_others(h->kept, h->nr_kept);
	prctl(PR_SET_NAME, "weir-holder");
	if (chdir("/"))
		_exit(1);
	while (poll(&command, 1, -1) < 0)
		;
	for (int empty = 0; empty < 2;) {
		pool_reap(h->pool, NULL, true);
		empty = pool_sum(h->pool).members ? 0 : empty + 1;
		if (empty < 2)
			poll(NULL, 0, LOOK_MS);
	}
	_exit(0);
}

int holder_start(struct pool *pool, const int *fds, int nr)
{
	struct holding h = { .pool = pool, .nr_kept = nr + 1 };
	int command_fd = (int)syscall(SYS_pidfd_open, getpid(), 0), ret;

	if (command_fd < 0)
		return -errno;
	must(nr <= HOLDER_FDS_MAX);
	memcpy(h.kept, fds, (size_t)nr * sizeof(*fds));
	h.kept[nr] = command_fd;
	ret = orphan_start(hold, &h, &pool->holder);
	close(command_fd);
	return ret;
}
