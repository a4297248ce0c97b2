/* SPDX-License-Identifier: MIT */
/*
 * The net's tests run over a window without a pager: a page is PROT_NONE except while it is held. So a call that the
 * net misses fails with EFAULT, and a hold that is not released shows in a count. Tests read and write the window
 * through put() and get(), which hold first.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/os.h"
#include "base/syscall.h"
#include "fault/net.h"
#include "fault/signal_raw.h"
#include "test.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

enum {
	PAGES = 16384,
	GUARDED = 987, /* descriptor */
};

#define WINDOW_BYTES ((size_t)1 << 38)

/* The fake pager. One lock, taken with signals blocked, as a handler may hold too. */
static struct {
	u32 lock;
	u16 count[PAGES];
	bool hole[PAGES], read_only[PAGES];
	u32 held, held_max, limit;
	bool lazy; /* released pages stay for a while */
	u32 lazy_releases, lazy_period;
	u32 nr_mm_calls, nr_forks, nr_chained, nr_exits;
} fake;

static inline void fake_lock(u64 *mask)
{
	signal_raw_mask(SIG_BLOCK, ~SIGNAL_RAW_NEVER_BLOCKED, mask);
	while (__atomic_exchange_n(&fake.lock, 1, __ATOMIC_ACQUIRE))
		sys0(SYS_sched_yield);
}

static inline void fake_unlock(u64 mask)
{
	__atomic_store_n(&fake.lock, 0, __ATOMIC_RELEASE);
	signal_raw_mask(SIG_SETMASK, mask, NULL);
}

static inline void page_protect(size_t page, int prot)
{
	must(sys3(SYS_mprotect, NET_WINDOW + page * PAGE_SIZE, PAGE_SIZE, prot) == 0);
}

static inline void range_pages(uintptr_t addr, size_t len, size_t *first, size_t *last)
{
	must(len > 0);
	*first = (addr - NET_WINDOW) / PAGE_SIZE;
	*last = (addr + len - 1 - NET_WINDOW) / PAGE_SIZE;
}

static inline int fake_check(size_t first, size_t last, bool write)
{
	if (fake.limit && fake.held + (last - first + 1) > fake.limit)
		return -ENOMEM;
	for (size_t p = first; p <= last; p++) {
		if (p >= PAGES || fake.hole[p] || (write && fake.read_only[p]))
			return -EFAULT;
	}
	return 0;
}

static inline int fake_hold(uintptr_t addr, size_t len, bool write)
{
	size_t first, last;
	u64 mask;
	int err;

	range_pages(addr, len, &first, &last);
	fake_lock(&mask);
	err = fake_check(first, last, write);
	for (size_t p = first; !err && p <= last; p++) {
		if (fake.count[p]++ == 0)
			page_protect(p, fake.read_only[p] ? PROT_READ : PROT_READ | PROT_WRITE);
		fake.held++;
	}
	if (fake.held > fake.held_max)
		fake.held_max = fake.held;
	fake_unlock(mask);
	return err;
}

static inline void fake_release(uintptr_t addr, size_t len)
{
	size_t first, last;
	u64 mask;

	range_pages(addr, len, &first, &last);
	fake_lock(&mask);
	for (size_t p = first; p <= last; p++) {
		must(fake.count[p] > 0);
		fake.held--;
		if (--fake.count[p] > 0)
			continue;
		if (fake.lazy && ++fake.lazy_releases % fake.lazy_period)
			continue;
		page_protect(p, PROT_NONE);
	}
	fake_unlock(mask);
}

static inline size_t fake_room(void)
{
	return fake.limit ? (fake.limit > fake.held ? fake.limit - fake.held : 0) * PAGE_SIZE : (size_t)1 << 30;
}

static inline void fake_exit(int status)
{
	(void)status;
	fake.nr_exits++;
}

static inline long fake_mm_call(long nr, const long args[6])
{
	fake.nr_mm_calls++;
	if (nr == SYS_mincore || nr == SYS_mlockall)
		return 0;
	return sys6(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
}

static inline long fake_fork_call(long nr, const long args[6])
{
	long ret = sys6(nr, args[0], args[1], args[2], args[3], args[4], args[5]);

	fake.nr_forks++;
	for (size_t p = 0; ret == 0 && p < PAGES; p++) {
		if (fake.count[p])
			page_protect(p, PROT_NONE);
		fake.count[p] = 0;
		fake.held = 0;
	}
	return ret;
}

static inline long fake_sigprocmask(const long args[6], ucontext_t *uc)
{
	u64 now, set;

	memcpy(&now, &uc->uc_sigmask, sizeof(now));
	if (net_fetch(&set, (uintptr_t)args[1], sizeof(set)))
		return -EFAULT;
	if (args[2] && net_store((uintptr_t)args[2], &now, sizeof(now)))
		return -EFAULT;
	if (args[0] == SIG_BLOCK)
		now |= set;
	else if (args[0] == SIG_UNBLOCK)
		now &= ~set;
	else if (args[0] == SIG_SETMASK)
		now = set;
	else
		return -EINVAL;
	now &= ~SIGNAL_RAW_NEVER_BLOCKED;
	memcpy(&uc->uc_sigmask, &now, sizeof(now));
	return 0;
}

static inline bool fake_signal_call(long nr, const long args[6], void *ucontext, long *result)
{
	ucontext_t *uc = ucontext;

	if (nr == SYS_rt_sigprocmask && args[1])
		*result = fake_sigprocmask(args, uc);
	else if (nr == SYS_rt_sigaction && args[1] && (args[0] == SIGSYS || args[0] == SIGBUS))
		*result = 0;
	else if (nr == SYS_sigaltstack && args[0]) {
		/* The handler may be on the old one: sigreturn changes it. */
		memcpy(&uc->uc_stack, (void *)args[0], sizeof(stack_t));
		*result = 0;
	} else
		return false;
	return true;
}

static inline bool fake_chain(int sig, void *info, void *ucontext)
{
	(void)info;
	(void)ucontext;
	fake.nr_chained++;
	return sig == SIGSYS;
}

static void fake_pause(u64 ns)
{
	(void)ns;
}

static const struct net_ops ops = {
	.hold = fake_hold,
	.release = fake_release,
	.room = fake_room,
	.pause = fake_pause,
	.exit_call = fake_exit,
	.mm_call = fake_mm_call,
	.fork_call = fake_fork_call,
	.signal_call = fake_signal_call,
	.chain = fake_chain,
};

/* Pieces of the window for one test, and the test's own access to them. */
static uintptr_t next_free = NET_WINDOW;

static inline void *take(size_t bytes)
{
	uintptr_t at = next_free;

	next_free += ALIGN_UP(bytes, PAGE_SIZE) + PAGE_SIZE;
	expect(next_free <= NET_WINDOW + PAGES * PAGE_SIZE);
	return (void *)at;
}

static inline void put(void *at, const void *src, size_t len)
{
	expect_eq(fake_hold((uintptr_t)at, len, true), 0);
	memcpy(at, src, len);
	fake_release((uintptr_t)at, len);
}

static inline void get(void *dst, const void *at, size_t len)
{
	expect_eq(fake_hold((uintptr_t)at, len, false), 0);
	memcpy(dst, at, len);
	fake_release((uintptr_t)at, len);
}

static inline void *take_copy(const void *src, size_t len)
{
	void *at = take(len);

	put(at, src, len);
	return at;
}

static inline char *take_string(const char *s)
{
	return take_copy(s, strlen(s) + 1);
}

static inline bool holds_string(const void *at, const char *s)
{
	char buf[256];

	get(buf, at, strlen(s));
	return !memcmp(buf, s, strlen(s));
}

static struct net_counts before;

/* Around each test: nothing is held, and no trapped call failed with EFAULT that the test did not expect. */
static inline void begin(void)
{
	next_free = NET_WINDOW;
	fake.held_max = 0;
	net_stats(&before);
}

static inline void finish(u64 efaults)
{
	struct net_counts now;

	net_stats(&now);
	expect_eq(now.efaults - before.efaults, efaults);
	expect(now.traps > before.traps);
	expect_eq(fake.held, 0);
}

static inline void fill_pattern(char *p, size_t len, u64 seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (char)(test_random(&seed) >> 32);
}

static inline int temp_file(void)
{
	FILE *f = tmpfile();
	int fd;

	expect(f);
	fd = dup(fileno(f));
	fclose(f);
	return fd;
}

/* Maps the window and arms; skips the test where the kernel does not allow it. */
static inline void fake_arm(void)
{
#ifdef SANITIZED
	test_skip("the sanitizers' own system calls do not expect a net");
#endif
	void *window = mmap((void *)NET_WINDOW, WINDOW_BYTES, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	int err;

	if (window != (void *)NET_WINDOW)
		test_skip("no room for the window");
	expect(!net_inherited());
	err = net_arm(NET_WINDOW, WINDOW_BYTES, GUARDED, &ops);
	if (err == -ENOSYS || err == -EINVAL || err == -EPERM || err == -EACCES)
		test_skip("the kernel has no seccomp filters for us");
	expect_eq(err, 0);
}
