// SPDX-License-Identifier: MIT
#include "cli/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/process.h"
#include "cli/libraries.h"
#include "cli/orphan.h"
#include "preload/env.h"
#include "swap/ring.h"

#ifndef CLOSE_RANGE_CLOEXEC /* 5.11 */
#define CLOSE_RANGE_CLOEXEC (1u << 2)
#endif

enum { FD_RING, FD_REPORT, FD_COMMAND, FD_POOL, NR_FDS };

struct launch {
	char program[PATH_MAX];
	int fd[NR_FDS]; /* -1: none */
	const struct swap_device_config *cfg;
};

static char *number_option(const char *key, u64 number)
{
	char *text;

	return asprintf(&text, "%s=%llu", key, (unsigned long long)number) < 0 ? NULL : text;
}

static char *text_option(const char *key, const char *value)
{
	char *text;

	return asprintf(&text, "%s=%s", key, value) < 0 ? NULL : text;
}

/* Nothing of the caller's stays open, and the shim, if one is in LD_PRELOAD, finds no limit. */
static void become_engine(void *arg)
{
	struct launch *launch = arg;
	const struct swap_device_config *cfg = launch->cfg;
	int null = open("/dev/null", O_RDWR);
	char number[NR_FDS][16];
	sigset_t all;
	char *argv[] = {
		launch->program,
		number[FD_RING],
		number[FD_REPORT],
		number[FD_COMMAND],
		number[FD_POOL],
		text_option("target", cfg->target),
		number_option("connections", (u64)cfg->connections),
		number_option("timeout", cfg->timeout_ns),
		number_option("overwrite", cfg->overwrite),
		number_option("size", cfg->size),
		text_option("conf", cfg->conf),
		text_option("namespace", cfg->name_space),
		text_option("user", cfg->user),
		NULL,
	};

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	setsid();
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC);
	for (int i = 0; i < NR_FDS; i++) {
		snprintf(number[i], sizeof(number[i]), "%d", launch->fd[i]);
		if (launch->fd[i] >= 0)
			fcntl(launch->fd[i], F_SETFD, 0);
	}
	unsetenv(WEIR_ENV_MEMORY);
	unsetenv(WEIR_ENV_RESIDENT);
	execv(launch->program, argv);
	_exit(127);
}

/* What the engine says: "ok", or why not; nothing if it could not even begin. */
static int read_report(int fd, const char *program, char *err, size_t err_size)
{
	size_t len = 0;
	ssize_t got;

	do {
		got = read(fd, err + len, err_size - 1 - len);
		len += got > 0 ? (size_t)got : 0;
	} while (got > 0 || (got < 0 && errno == EINTR));
	err[len] = '\0';
	if (!strcmp(err, "ok"))
		return 0;
	if (!len)
		snprintf(err, err_size, "%s ended without a word", program);
	return -EIO;
}

static int find_engine(const struct swap_driver *driver, char path[PATH_MAX], char *err, size_t err_size)
{
	if (library_find_engine(driver->engine, path) == 0)
		return 0;
	snprintf(err, err_size, "%s is not there: weir was built without its library; install %s and build weir again",
		 driver->engine, driver->package);
	return -ENOENT;
}

int engine_start(const struct swap_device_config *cfg, int pool_fd, u32 *engine, int *fds, char *err, size_t err_size)
{
	struct launch launch = { .cfg = cfg, .fd = { -1, -1, -1, pool_fd } };
	struct ring *ring = NULL;
	int report[2] = { -1, -1 };
	int ret = find_engine(swap_driver_of(cfg), launch.program, err, err_size);

	if (ret)
		return ret;
	ret = ring_create(&ring, &launch.fd[FD_RING]);
	launch.fd[FD_COMMAND] = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (!ret && (launch.fd[FD_COMMAND] < 0 || pipe2(report, O_CLOEXEC) < 0))
		ret = -errno;
	launch.fd[FD_REPORT] = report[1];
	if (!ret)
		ret = orphan_start(become_engine, &launch, NULL);
	close(report[1]);
	if (ret) {
		snprintf(err, err_size, "%s cannot be started: %s", launch.program, strerror(-ret));
	} else {
		ret = read_report(report[0], launch.program, err, err_size);
		*engine = process_id_pid(ring->engine);
		fds[ENGINE_FD_RING] = launch.fd[FD_RING];
		fds[ENGINE_FD_SPACE] = ring->space_fd;
	}
	close(report[0]);
	close(launch.fd[FD_COMMAND]);
	close(launch.fd[FD_RING]);
	if (ring)
		ring_close(ring);
	return ret;
}
