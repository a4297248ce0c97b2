// SPDX-License-Identifier: MIT
#include "cli/holder.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "cli/options.h"
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

/* Twice empty: a process that has just begun may not have entered yet. */
static _Noreturn void hold(struct pool *pool, const int *fds, int nr, int command_fd)
{
	struct pollfd command = { .fd = command_fd, .events = POLLIN };
	int kept[HOLDER_FDS_MAX + 1];
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	setsid();
	memcpy(kept, fds, (size_t)nr * sizeof(*fds));
	kept[nr] = command_fd;
	close_others(kept, nr + 1);
	prctl(PR_SET_NAME, "weir-holder");
	if (chdir("/"))
		_exit(1);
	while (poll(&command, 1, -1) < 0)
		;
	for (int empty = 0; empty < 2;) {
		pool_reap(pool, NULL, true);
		empty = pool_sum(pool).members ? 0 : empty + 1;
		if (empty < 2)
			poll(NULL, 0, LOOK_MS);
	}
	_exit(0);
}

int holder_start(struct pool *pool, const int *fds, int nr)
{
	int command_fd = (int)syscall(SYS_pidfd_open, getpid(), 0), status;
	struct sigaction old, standard = { .sa_handler = SIG_DFL };
	pid_t between;

	if (command_fd < 0)
		return -errno;
	must(nr <= HOLDER_FDS_MAX);
	sigaction(SIGCHLD, &standard, &old); /* an inherited "ignore" would have the kernel wait for it */
	between = fork();
	if (between == 0) {
		pid_t holder = fork();

		if (holder == 0)
			hold(pool, fds, nr, command_fd);
		if (holder > 0)
			atomic32_set(&pool->holder, (u32)holder);
		_exit(holder > 0 ? 0 : errno);
	}
	close(command_fd);
	if (between < 0)
		return -errno;
	while (waitpid(between, &status, 0) < 0 && errno == EINTR)
		;
	sigaction(SIGCHLD, &old, NULL);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -ECHILD;
}
