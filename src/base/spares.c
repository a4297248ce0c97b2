// SPDX-License-Identifier: MIT
#include "base/spares.h"

#include <fcntl.h>

#include "base/os.h"
#include "base/syscall.h"
#include "sync/atomic.h"

enum { EFD_FLAGS = 02000000 /* EFD_CLOEXEC */ };

static int number[SPARES_MAX]; /* those below nr */
static struct atomic32 nr_spares;
static struct atomic64 spare; /* bit per number that is not in use: acquire takes, release gives back */

u32 spares_open(u32 nr, u64 min, int *fds)
{
	u32 opened = 0;

	for (; opened < nr; opened++) {
		long fd = sys2(SYS_eventfd2, 0, EFD_FLAGS), high;

		if (fd < 0)
			break;
		high = min ? sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, min) : -1;
		if (high >= 0)
			sys1(SYS_close, fd);
		fds[opened] = high >= 0 ? (int)high : os_fd_raise((int)fd);
	}
	return opened;
}

void spares_keep(int fd, bool is_spare)
{
	u32 nr = atomic32_read(&nr_spares);

	if (nr == SPARES_MAX)
		return;
	number[nr] = fd;
	if (is_spare)
		atomic64_fetch_or(&spare, (u64)1 << nr);
	atomic32_store_release(&nr_spares, nr + 1);
}

static int find(int fd)
{
	for (u32 i = 0; i < atomic32_load_acquire(&nr_spares); i++) {
		if (number[i] == fd)
			return (int)i;
	}
	return -1;
}

bool spares_has(int fd)
{
	return find(fd) >= 0;
}

/* Onto a number that may be above the limit. */
static long move_to(long from, int to)
{
	u64 nofile = os_nofile_raise();
	long ret = sys3(SYS_dup3, from, to, O_CLOEXEC);

	os_nofile_restore(nofile);
	if (ret >= 0)
		sys1(SYS_close, from);
	return ret;
}

int spares_take(int fd)
{
	u64 old = atomic64_read(&spare);

	while (old) {
		int i = __builtin_ctzll(old);

		if (!atomic64_cas_acquire(&spare, &old, old & (old - 1)))
			continue;
		if (move_to(fd, number[i]) >= 0)
			return number[i];
		atomic64_fetch_or(&spare, (u64)1 << i);
		break;
	}
	return -1;
}

void spares_close(int fd)
{
	int i = find(fd);
	u64 nofile;
	long holder;

	if (i < 0) {
		sys1(SYS_close, fd);
		return;
	}
	nofile = os_nofile_raise();
	holder = sys2(SYS_eventfd2, 0, EFD_FLAGS);
	os_nofile_restore(nofile);
	/* Without one the number is free, and whoever gets it cannot close it: it is not spare any more. */
	if (holder < 0)
		sys1(SYS_close, fd);
	else if (move_to(holder, fd) >= 0)
		atomic64_fetch_or(&spare, (u64)1 << i);
}
