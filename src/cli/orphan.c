// SPDX-License-Identifier: MIT
#include "cli/orphan.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

int orphan_start(void (*fn)(void *arg), void *arg, struct atomic32 *pid)
{
	struct sigaction old, standard = { .sa_handler = SIG_DFL };
	int status, ret;
	pid_t between;

	sigaction(SIGCHLD, &standard, &old); /* an inherited "ignore" would have the kernel wait for it */
	between = fork();
	ret = between < 0 ? -errno : 0;
	if (between == 0) {
		pid_t orphan = fork();

		if (orphan == 0) {
			fn(arg);
			_exit(1);
		}
		if (orphan > 0 && pid)
			atomic32_set(pid, (u32)orphan);
		_exit(orphan > 0 ? 0 : errno);
	}
	while (!ret && waitpid(between, &status, 0) < 0 && errno == EINTR)
		;
	sigaction(SIGCHLD, &old, NULL);
	if (ret)
		return ret;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -ECHILD;
}
