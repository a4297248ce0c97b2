// SPDX-License-Identifier: MIT
#include "fault/hold.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

#include "base/syscall.h"
#include "fault/gate.h"
#include "mm/fault.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

/* Before adoption the kernel serves first touches: make it. An atomic OR of nothing is a write that changes nothing. */
static void touch_page(struct mm *mm, vpn_t vpn, bool write)
{
	u8 *p = (u8 *)vm_address(&mm->vm, vpn);

	if (write)
		__atomic_fetch_or(p, 0, __ATOMIC_RELAXED);
	else
		(void)__atomic_load_n(p, __ATOMIC_RELAXED);
}

static int fault_in(struct mm *mm, vpn_t vpn, bool write)
{
	u64 all = ~(u64)0, old;
	enum fault_result result;
	u32 shard;

	sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, sizeof(all));
	shard = gate_enter(&core_gate);
	result = handle_mm_fault(mm, vpn, write);
	gate_leave(&core_gate, shard);
	sys4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
	switch (result) {
	case FAULT_DONE:
		return 0;
	case FAULT_UNMAPPED:
		return -EFAULT;
	case FAULT_OOM:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

/*
 * A file may end before what the program has mapped of it: the kernel is asked, as whoever holds a page may touch it.
 * What is not readable but writable x86 makes readable. Kernels before 5.14 cannot tell, and are believed to have let
 * us.
 */
static int ask_foreign(struct mm *mm, vpn_t vpn)
{
	uintptr_t addr = vm_address(&mm->vm, vpn);
	long ret = sys3(SYS_madvise, addr, PAGE_SIZE, MADV_POPULATE_READ);

	if (ret == -EINVAL)
		ret = sys3(SYS_madvise, addr, PAGE_SIZE, MADV_POPULATE_WRITE);
	return ret && !sys3(SYS_madvise, addr, 0, MADV_POPULATE_READ) ? -EFAULT : 0;
}

static int hold_page(struct mm *mm, vpn_t vpn, bool write)
{
	int ret = mm_is_foreign(mm, vpn) && mm_may_access(mm, vpn, write) ? ask_foreign(mm, vpn) : 0;

	if (ret)
		return ret;
	do {
		bool adopted = mm_is_adopted(mm);

		if (!adopted && mm_may_access(mm, vpn, write))
			touch_page(mm, vpn, write);
		ret = mm_hold_page(mm, vpn, write);
		if (ret == -EAGAIN && adopted) {
			ret = fault_in(mm, vpn, write);
			if (!ret)
				ret = -EAGAIN;
		}
	} while (ret == -EAGAIN);
	return ret;
}

int hold_range(struct mm *mm, uintptr_t addr, size_t bytes, bool write)
{
	uintptr_t first = addr & PAGE_MASK, last;

	if (!bytes)
		return 0;
	if (!vm_owns(&mm->vm, addr) || addr + bytes - 1 < addr || !vm_owns(&mm->vm, addr + bytes - 1))
		return -EFAULT;
	last = (addr + bytes - 1) & PAGE_MASK;
	for (uintptr_t at = first; at <= last; at += PAGE_SIZE) {
		int ret = hold_page(mm, vm_vpn(&mm->vm, at), write);

		if (ret) {
			if (at > first)
				release_range(mm, first, at - first);
			return ret;
		}
	}
	return 0;
}

void release_range(struct mm *mm, uintptr_t addr, size_t bytes)
{
	uintptr_t last = (addr + bytes - 1) & PAGE_MASK;

	for (uintptr_t at = addr & PAGE_MASK; bytes && at <= last; at += PAGE_SIZE)
		mm_release_page(mm, vm_vpn(&mm->vm, at));
}
