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
#include "tree/swaps.h"

enum { LOOK_MS = 100, HOLDER_FDS_MAX = 2 + OPTION_LIST_MAX * SWAP_FDS_MAX };

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
	struct pool *pool; /* NULL: there is none */
	struct swaps *swaps;
	int kept[HOLDER_FDS_MAX + 1]; /* the last is a pidfd of whom it ends after */
	int nr_kept;
	bool of_run;
	bool closed[SWAPS_DEVICES_MAX];
};

static void on_look(int sig)
{
	(void)sig;
}

/* What is needed no more. False: there is nothing else that this process has. */
static bool close_devices(struct holding *h)
{
	bool any = h->of_run;

	for (int i = 0; i < SWAPS_DEVICES_MAX; i++) {
		const struct swaps_device *dev = &h->swaps->device[i];

		if (atomic32_read(&dev->keeper) != (u32)getpid() || h->closed[i])
			continue;
		any |= swaps_state(dev) != SWAPS_OFF;
		if (swaps_state(dev) != SWAPS_OFF)
			continue;
		h->closed[i] = true;
		for (int k = 0; k < SWAPS_KEPT_MAX; k++) {
			if (dev->kept[k] >= 0)
				close(dev->kept[k]);
		}
	}
	return any;
}

static u32 nr_members(struct holding *h)
{
	u32 rows = 0;

	if (h->pool) {
		pool_reap(h->pool, NULL, true);
		return pool_sum(h->pool).members;
	}
	for (u32 i = 0; i < SWAPS_ROWS_MAX && i < atomic32_read(&h->swaps->nr_used); i++)
		rows += swaps_row_lives(&h->swaps->row[i]);
	return rows;
}

/* Twice empty: a process that has just begun may not have entered yet. */
static void hold(void *arg)
{
	struct holding *h = arg;
	struct pollfd end = { .fd = h->kept[h->nr_kept - 1], .events = POLLIN };
	const struct timespec look = { .tv_nsec = LOOK_MS * 1000000 };
	struct sigaction action = { .sa_handler = on_look };
	sigset_t all, but_look;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	but_look = all;
	sigdelset(&but_look, HOLDER_LOOK);
	sigaction(HOLDER_LOOK, &action, NULL);
	setsid();
	close_others(h->kept, h->nr_kept);
	prctl(PR_SET_NAME, "weir-holder");
	if (chdir("/"))
		_exit(1);
	while (ppoll(&end, 1, NULL, &but_look) < 0) {
		if (!close_devices(h))
			_exit(0);
	}
	for (int empty = 0; h->of_run && empty < 2;) {
		empty = nr_members(h) ? 0 : empty + 1;
		if (empty < 2 && ppoll(NULL, 0, &look, &but_look) < 0)
			close_devices(h);
	}
	_exit(0);
}

static int start(struct holding *h, pid_t ends_after, const int *fds, int nr, struct atomic32 *pid)
{
	int end_fd = (int)syscall(SYS_pidfd_open, ends_after, 0), ret;

	if (end_fd < 0)
		return -errno;
	must(nr <= HOLDER_FDS_MAX);
	memcpy(h->kept, fds, (size_t)nr * sizeof(*fds));
	h->kept[nr] = end_fd;
	h->nr_kept = nr + 1;
	ret = orphan_start(hold, h, pid);
	close(end_fd);
	return ret;
}

int holder_start(struct pool *pool, struct swaps *swaps, const int *fds, int nr)
{
	struct holding h = { .pool = pool, .swaps = swaps, .of_run = true };
	int ret = start(&h, getpid(), fds, nr, &swaps->holder);

	if (!ret && pool)
		atomic32_set(&pool->holder, atomic32_read(&swaps->holder));
	return ret;
}

int holder_start_for_device(struct swaps *swaps, struct swaps_device *dev, const int *fds, int nr)
{
	struct holding h = { .swaps = swaps };

	return start(&h, (pid_t)atomic32_read(&swaps->holder), fds, nr, &dev->keeper);
}
