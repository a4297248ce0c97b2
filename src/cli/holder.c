// SPDX-License-Identifier: MIT
#include "cli/holder.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/types.h"
#include "tree/pool.h"

enum { LOOK_MS = 100 };

/* Nothing of the caller's may stay open: somebody may wait for the end of a pipe. */
static void close_others(int a, int b)
{
	unsigned int low = (unsigned int)(a < b ? a : b), high = (unsigned int)(a < b ? b : a);

	if (low > 0)
		close_range(0, low - 1, 0);
	if (high > low + 1)
		close_range(low + 1, high - 1, 0);
	close_range(high + 1, ~0u, 0);
}

/* Twice empty: a process that has just begun may not have entered yet. */
static _Noreturn void hold(struct pool *pool, int fd, int command_fd)
{
	struct pollfd command = { .fd = command_fd, .events = POLLIN };
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	setsid();
	close_others(fd, command_fd);
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

int holder_start(struct pool *pool, int fd)
{
	int command_fd = (int)syscall(SYS_pidfd_open, getpid(), 0), status;
	struct sigaction old, standard = { .sa_handler = SIG_DFL };
	pid_t between;

	if (command_fd < 0)
		return -errno;
	sigaction(SIGCHLD, &standard, &old); /* an inherited "ignore" would have the kernel wait for it */
	between = fork();
	if (between == 0) {
		pid_t holder = fork();

		if (holder == 0)
			hold(pool, fd, command_fd);
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
