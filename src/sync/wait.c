// SPDX-License-Identifier: MIT
#include "sync/wait.h"

#include <limits.h>
#include <linux/futex.h>
#include <time.h>

#include "base/os.h"
#include "base/syscall.h"

/* The low half of a 64-bit word comes first in memory on a little-endian machine. */
static u32 *low_half(struct atomic64 *word)
{
	return (u32 *)(void *)&word->v;
}

void sync_wait64(struct atomic64 *word, u32 seen_low)
{
	sys4(SYS_futex, low_half(word), FUTEX_WAIT_PRIVATE, seen_low, NULL);
}

void sync_wake64(struct atomic64 *word)
{
	sys3(SYS_futex, low_half(word), FUTEX_WAKE_PRIVATE, INT_MAX);
}

void sync_wait32(struct atomic32 *word, u32 seen)
{
	sys4(SYS_futex, &word->v, FUTEX_WAIT_PRIVATE, seen, NULL);
}

void sync_wait32_timeout(struct atomic32 *word, u32 seen, u64 timeout_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(timeout_ns / 1000000000),
		.tv_nsec = (long)(timeout_ns % 1000000000),
	};

	sys4(SYS_futex, &word->v, FUTEX_WAIT_PRIVATE, seen, &ts);
}

void sync_wake32_one(struct atomic32 *word)
{
	sys3(SYS_futex, &word->v, FUTEX_WAKE_PRIVATE, 1);
}

void sync_wake32_all(struct atomic32 *word)
{
	sys3(SYS_futex, &word->v, FUTEX_WAKE_PRIVATE, INT_MAX);
}

void sync_yield(void)
{
	sys0(SYS_sched_yield);
}

u64 sync_clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts); /* vDSO: async-signal-safe, no system call */
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

u32 sync_thread_id(void)
{
	return (u32)os_gettid();
}
