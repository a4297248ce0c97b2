// SPDX-License-Identifier: MIT
/*
 * Limits, for a program that has weir's reservations in its address space. What it sets of RLIMIT_AS and RLIMIT_DATA
 * reaches the kernel with weir's own part on top, and is told without it. RLIMIT_DATA the kernel then counts right, as
 * only what is accessible of the window is data; of RLIMIT_AS it has the whole window to count, so that is compared
 * here, with what the program has mapped of it. What is locked, in the window as elsewhere, the kernel counts itself;
 * but it is asked piece by piece, so the whole is looked at before.
 */
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/os.h"
#include "preload/mm_internal.h"

/* Pages: all of the address space, and what is private and writable. */
struct sizes {
	u64 mapped, data;
};

/* Weir's own, the window included. Written before there is a second thread. */
static struct sizes own;

/* Of /proc/self/statm; 0 where it cannot be read. */
static struct sizes kernel_sizes(void)
{
	enum { MAPPED, DATA = 5, FIELDS };
	u64 field[FIELDS] = { 0 };
	char text[128];
	const char *p = text;

	if (os_read_file("/proc/self/statm", text, sizeof(text)) <= 0)
		return (struct sizes){ 0 };
	for (int i = 0; i < FIELDS; i++, p += *p == ' ') {
		for (; *p >= '0' && *p <= '9'; p++)
			field[i] = field[i] * 10 + (u64)(*p - '0');
	}
	return (struct sizes){ .mapped = field[MAPPED], .data = field[DATA] };
}

void limit_begin(void)
{
	own = kernel_sizes();
}

void limit_end(void)
{
	struct sizes now = kernel_sizes();

	own = (struct sizes){ .mapped = now.mapped - own.mapped, .data = now.data - own.data };
}

u64 limit_mapped(struct mm *mm)
{
	u64 all = kernel_sizes().mapped;

	return count_pages(mm, (vpn_t){ 0 }, mm->vm.nr_pages, 0) + (all > own.mapped ? all - own.mapped : 0);
}

static u64 limit_of(int resource)
{
	struct rlimit limit;

	if (sys4(SYS_prlimit64, 0, resource, NULL, &limit) || limit.rlim_cur == RLIM_INFINITY)
		return UINT64_MAX;
	return limit.rlim_cur >> PAGE_SHIFT;
}

long limit_address_space(struct mm *mm, u64 pages)
{
	u64 limit = limit_of(RLIMIT_AS);

	if (limit == UINT64_MAX)
		return 0;
	/* Less than our own part: it was set past the functions below. */
	if (limit > own.mapped)
		limit -= own.mapped;
	return limit_mapped(mm) + pages <= limit ? 0 : -ENOMEM;
}

static bool may_lock_all(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { 0 } };

	return sys2(SYS_capget, &header, data) == 0 && (data[0].effective & 1u << CAP_IPC_LOCK);
}

/* VmLck in /proc/self/status, in pages; what is locked in the window where it cannot be read. */
static u64 kernel_locked(const struct mm *mm)
{
	static const char key[] = "VmLck:";
	char text[2048];
	u64 kib = 0;
	const char *p;

	if (os_read_file("/proc/self/status", text, sizeof(text)) <= 0 || !(p = strstr(text, key)))
		return atomic64_read(&mm->areas.nr_locked);
	for (p += sizeof(key) - 1; *p == ' ' || *p == '\t'; p++)
		;
	for (; *p >= '0' && *p <= '9'; p++)
		kib = kib * 10 + (u64)(*p - '0');
	return kib / (PAGE_SIZE / 1024);
}

long limit_lock(struct mm *mm, u64 pages, long refusal)
{
	u64 limit = limit_of(RLIMIT_MEMLOCK);

	if (limit == UINT64_MAX || may_lock_all())
		return 0;
	if (!limit)
		return -EPERM;
	return pages == 0 || kernel_locked(mm) + pages <= limit ? 0 : refusal;
}

/* ---- what the program sets ---- */

static rlim_t add_own(rlim_t limit, u64 own_bytes)
{
	return limit < RLIM_INFINITY - own_bytes ? limit + own_bytes : limit;
}

static rlim_t take_own(rlim_t limit, u64 own_bytes)
{
	return limit == RLIM_INFINITY || limit < own_bytes ? limit : limit - own_bytes;
}

/* As prlimit(2): 0 or -errno. */
static long do_prlimit(pid_t pid, int resource, const struct rlimit *new, struct rlimit *old)
{
	bool self = shim_mm() && (pid == 0 || pid == sys0(SYS_getpid));
	u64 bytes = pages_to_bytes(!self		     ? 0
				   : resource == RLIMIT_AS   ? own.mapped
				   : resource == RLIMIT_DATA ? own.data
							     : 0);
	struct rlimit asked, was;
	long ret;

	if (!bytes)
		return sys4(SYS_prlimit64, pid, resource, new, old);
	if (new)
		asked = (struct rlimit){ add_own(new->rlim_cur, bytes), add_own(new->rlim_max, bytes) };
	ret = sys4(SYS_prlimit64, pid, resource, new ? &asked : NULL, &was);
	if (!ret && old)
		*old = (struct rlimit){ take_own(was.rlim_cur, bytes), take_own(was.rlim_max, bytes) };
	return ret;
}

static int limit_result(long ret)
{
	if (!ret)
		return 0;
	errno = (int)-ret;
	return -1;
}

SHIM_EXPORT int prlimit(pid_t pid, enum __rlimit_resource resource, const struct rlimit *new, struct rlimit *old)
{
	return limit_result(do_prlimit(pid, (int)resource, new, old));
}

SHIM_EXPORT int getrlimit(__rlimit_resource_t resource, struct rlimit *old)
{
	return limit_result(do_prlimit(0, (int)resource, NULL, old));
}

SHIM_EXPORT int setrlimit(__rlimit_resource_t resource, const struct rlimit *new)
{
	return limit_result(do_prlimit(0, (int)resource, new, NULL));
}

/* The same structures, by another name. */
SHIM_EXPORT int prlimit64(pid_t pid, enum __rlimit_resource resource, const struct rlimit64 *new, struct rlimit64 *old)
{
	return limit_result(do_prlimit(pid, (int)resource, (const struct rlimit *)new, (struct rlimit *)old));
}

SHIM_EXPORT int getrlimit64(__rlimit_resource_t resource, struct rlimit64 *old)
{
	return limit_result(do_prlimit(0, (int)resource, NULL, (struct rlimit *)old));
}

SHIM_EXPORT int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *new)
{
	return limit_result(do_prlimit(0, (int)resource, (const struct rlimit *)new, NULL));
}
