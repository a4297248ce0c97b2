// SPDX-License-Identifier: MIT
#include "preload/brk.h"

#include <errno.h>

#include "preload/mm_internal.h"
#include "sync/lock.h"

/* The heap begins here in the window, in eighths: mappings are handed out from its start. */
#define BREAK_EIGHTH 6

/* Under `lock`: the first byte of the heap and the one behind it; 0 before the first call. */
static struct {
	struct mutex lock;
	uintptr_t start, end;
} heap;

static long grow(struct mm *mm, vpn_t first, u32 nr)
{
	long ret = limit_address_space(mm, nr);

	if (!ret && (first.val + (u64)nr > mm->vm.nr_pages || !mm_is_free(mm, first, nr)))
		ret = -ENOMEM;
	if (!ret)
		ret = mm_map_fixed(mm, first, nr, VM_READ | VM_WRITE);
	if (!ret && lock_future() && mm_lock(mm, first, nr))
		ret = mm_unmap(mm, first, nr) ? -EIO : -ENOMEM;
	return ret ? -ENOMEM : 0;
}

/* Context: shim_enter(), heap.lock held. */
static long set_locked(struct mm *mm, uintptr_t end)
{
	uintptr_t old = ALIGN_UP(heap.end, PAGE_SIZE), new = ALIGN_UP(end, PAGE_SIZE);
	long ret = 0;

	/* Below its start the kernel leaves the break alone, and libc is content with what is above the address. */
	if (end < heap.start)
		return 0;
	if (!in_window(mm, end))
		return -ENOMEM;
	if (new > old)
		ret = grow(mm, vm_vpn(&mm->vm, old), (u32)bytes_to_pages(new - old));
	else if (new < old)
		ret = mm_unmap(mm, vm_vpn(&mm->vm, new), (u32)bytes_to_pages(old - new));
	if (!ret)
		heap.end = end;
	return ret;
}

static struct shim_visit enter(struct mm *mm)
{
	struct shim_visit visit = shim_enter();

	mutex_lock(&heap.lock);
	if (!heap.start)
		heap.start = heap.end = vm_address(&mm->vm, (vpn_t){ mm->vm.nr_pages / 8 * BREAK_EIGHTH });
	return visit;
}

static void leave(struct shim_visit visit)
{
	mutex_unlock(&heap.lock);
	shim_leave(visit);
}

long break_set(struct mm *mm, uintptr_t addr)
{
	struct shim_visit visit = enter(mm);
	long ret = set_locked(mm, addr);

	leave(visit);
	return ret;
}

long break_move(struct mm *mm, intptr_t bytes)
{
	struct shim_visit visit = enter(mm);
	bool wraps = bytes > 0 ? heap.end + (uintptr_t)bytes < heap.end : heap.end < 0 - (uintptr_t)bytes;
	long ret = (long)heap.end, err = wraps ? -ENOMEM : 0;

	if (!err && bytes)
		err = set_locked(mm, heap.end + (uintptr_t)bytes);

	leave(visit);
	return err ? err : ret;
}
