/* SPDX-License-Identifier: MIT */
/*
 * Memory of weir's own, straight from the kernel: never from malloc, never inside the managed window.
 *
 * Reserved memory costs nothing until it is touched (MAP_NORESERVE), so tables are reserved at their largest size.
 * Context of all: any thread, also signal handlers.
 */
#pragma once

#include <sys/uio.h>

#include "base/types.h"

/* Zero-filled read-write memory, `bytes` rounded up to pages; NULL when address space or RLIMIT_AS is exhausted. */
void *os_reserve(size_t bytes);

/* Gives physical pages back, the range stays and reads as zero again. */
void os_release(void *addr, size_t bytes);

/*
 * The same for many ranges by one call, with one flush of the TLBs (Linux 6.15). Returns how many of the first are
 * done: older kernels, or a filter, refuse.
 */
u32 must_check os_release_ranges(const struct iovec *ranges, u32 nr);

void os_unreserve(void *addr, size_t bytes);

/*
 * Memory that processes share: a descriptor (closed on exec) of new zero-filled memory, sealed so that nobody makes it
 * longer, or shorter under the others; or -errno. `name`: for /proc. And a mapping of it, which os_unreserve() ends;
 * *err: 0, or -errno with NULL.
 */
int must_check os_shared_create(const char *name, size_t bytes);
void *os_shared_map(int fd, size_t bytes, int *err);

/* Whole file into buf, NUL-terminated; returns its length (cut at size - 1) or -errno. */
long os_read_file(const char *path, char *buf, size_t size);

/* Writes all of it to a descriptor, ignoring errors: for messages. */
void os_write(int fd, const char *buf, size_t len);

unsigned int os_nr_cpus(void);

/* The processors that the calling thread may run on, as a bit mask; and may from now on (0 or -errno). */
void os_cpus(u64 *mask, size_t bytes);
int os_run_on(const u64 *mask, size_t bytes);

/* Gives the calling thread a table of descriptors of its own, with none in it. 0 or -errno. */
int must_check os_own_descriptors(void);

int os_gettid(void);

/* Sleeps until that monotonic time (sync_clock_ns()), whatever interrupts it. */
void os_sleep_until_ns(u64 ns);

/*
 * Raises the soft limit of descriptors for a moment, for a program that has used up its own. Returns what
 * os_nofile_restore() takes; what is open by then stays open.
 */
u64 os_nofile_raise(void);
void os_nofile_restore(u64 limit);

/* Moves a descriptor (closed on exec) out of the way of those that programs count on. Returns where it is now. */
int os_fd_raise(int fd);
