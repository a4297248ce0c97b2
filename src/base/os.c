// SPDX-License-Identifier: MIT
#include "base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/spares.h"
#include "base/syscall.h"

/* Newer than the system headers: the caller's own process (Linux 6.15), to whom all advice is open (6.13). */
#ifndef PIDFD_SELF_THREAD_GROUP
#define PIDFD_SELF_THREAD_GROUP -10001
#endif

enum { CLOSE_UNSHARE = 1 << 1 };

#ifndef SYS_close_range /* 5.9 */
#define SYS_close_range 436
#endif

static bool is_error(long ret)
{
	return (unsigned long)ret > -4096UL;
}

void *os_reserve(size_t bytes)
{
	long ret = sys6(SYS_mmap, NULL, ALIGN_UP(bytes, PAGE_SIZE), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return is_error(ret) ? NULL : (void *)ret;
}

void os_release(void *addr, size_t bytes)
{
	sys3(SYS_madvise, addr, bytes, MADV_DONTNEED);
}

u32 os_release_ranges(const struct iovec *ranges, u32 nr)
{
	long done = nr > 1 ? sys5(SYS_process_madvise, PIDFD_SELF_THREAD_GROUP, ranges, nr, MADV_DONTNEED, 0) : 0;
	u32 gone = 0;

	for (; gone < nr && done >= (long)ranges[gone].iov_len; gone++)
		done -= (long)ranges[gone].iov_len;
	return gone;
}

void os_unreserve(void *addr, size_t bytes)
{
	if (addr)
		sys2(SYS_munmap, addr, ALIGN_UP(bytes, PAGE_SIZE));
}

int os_shared_create(const char *name, size_t bytes)
{
	long fd = sys2(SYS_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING), err;

	if (fd < 0)
		return (int)fd;
	err = sys2(SYS_ftruncate, fd, bytes);
	if (!err)
		err = sys3(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	if (!err)
		return (int)fd;
	sys1(SYS_close, fd);
	return (int)err;
}

void *os_shared_map(int fd, size_t bytes, int *err)
{
	long addr = sys6(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	*err = (unsigned long)addr > -4096ul ? (int)addr : 0;
	return *err ? NULL : (void *)addr;
}

long os_read_file(const char *path, char *buf, size_t size)
{
	long fd = sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	size_t len = 0;
	long ret = 0;

	if (is_error(fd))
		return fd;
	while (len < size - 1) {
		ret = sys3(SYS_read, fd, buf + len, size - 1 - len);
		if (ret <= 0)
			break;
		len += (size_t)ret;
	}
	sys1(SYS_close, fd);
	buf[len] = '\0';
	return ret < 0 ? ret : (long)len;
}

void os_write(int fd, const char *buf, size_t len)
{
	while (len > 0) {
		long ret = sys3(SYS_write, fd, buf, len);

		if (ret <= 0)
			return;
		buf += ret;
		len -= (size_t)ret;
	}
}

unsigned int os_nr_cpus(void)
{
	u64 mask[128] = { 0 };
	long bytes = sys3(SYS_sched_getaffinity, 0, sizeof(mask), mask);
	unsigned int nr = 0;

	for (long i = 0; i < bytes / (long)sizeof(u64); i++)
		nr += (unsigned int)__builtin_popcountll(mask[i]);
	return nr ? nr : 1;
}

void os_cpus(u64 *mask, size_t bytes)
{
	memset(mask, 0, bytes);
	sys3(SYS_sched_getaffinity, 0, bytes, mask);
}

int os_run_on(const u64 *mask, size_t bytes)
{
	return (int)sys3(SYS_sched_setaffinity, 0, bytes, mask);
}

int os_own_descriptors(void)
{
	return (int)sys3(SYS_close_range, 0, ~0u, CLOSE_UNSHARE);
}

int os_gettid(void)
{
	return (int)sys0(SYS_gettid);
}

void os_sleep_until_ns(u64 ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };

	while (sys4(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == -EINTR)
		;
}

enum { NOFILE = 7 }; /* RLIMIT_NOFILE */

u64 os_nofile_raise(void)
{
	u64 limit[2] = { 0 }, old;

	if (sys4(SYS_prlimit64, 0, NOFILE, NULL, limit))
		return 0;
	old = limit[0];
	limit[0] = limit[1];
	return limit[0] > old && !sys4(SYS_prlimit64, 0, NOFILE, limit, NULL) ? old : 0;
}

void os_nofile_restore(u64 limit)
{
	u64 now[2];

	if (!limit || sys4(SYS_prlimit64, 0, NOFILE, NULL, now))
		return;
	now[0] = limit;
	sys4(SYS_prlimit64, 0, NOFILE, now, NULL);
}

enum { FD_MIN = 900, FD_ROOM = 32 };

int os_fd_raise(int fd)
{
	u64 limit[2] = { 0 };
	long min = FD_MIN, high = spares_take(fd);

	if (high >= 0)
		return (int)high;
	sys4(SYS_prlimit64, 0, NOFILE, NULL, limit);
	if (limit[0] < FD_MIN + FD_ROOM)
		min = limit[0] > FD_ROOM ? (long)(limit[0] - FD_ROOM) : 0;
	high = sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, min);
	if (is_error(high))
		return fd;
	sys1(SYS_close, fd);
	return (int)high;
}
