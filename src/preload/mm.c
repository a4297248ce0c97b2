// SPDX-License-Identifier: MIT
/*
 * The mmap family, interposed. Anonymous private memory comes from the window; everything else, and every address
 * outside of it, goes to the kernel as it is. No dlsym: these wrappers run before libc is fully up.
 */
#include "preload/mm.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include "base/syscall.h"
#include "fault/hold.h"
#include "preload/shim.h"
#include "preload/threads.h"

#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

static unsigned int to_vm_prot(int prot)
{
	return (prot & PROT_READ ? VM_READ : 0) | (prot & PROT_WRITE ? VM_WRITE | VM_READ : 0) |
	       (prot & PROT_EXEC ? VM_EXEC | VM_READ : 0);
}

/* What cannot live in the window: shared, file, executable or huge pages, stacks that grow, 32-bit addresses. */
static bool is_manageable(int prot, int flags)
{
	const int unmanaged = MAP_GROWSDOWN | MAP_HUGETLB | MAP_32BIT | MAP_STACK;

	return (flags & MAP_ANONYMOUS) && (flags & MAP_TYPE) == MAP_PRIVATE && !(flags & unmanaged) &&
	       !(prot & PROT_EXEC);
}

static bool in_window(const struct mm *mm, uintptr_t addr)
{
	return mm && vm_owns(&mm->vm, addr);
}

/* A range of whole pages inside the window; false if it leaves it or is malformed. */
static bool window_range(const struct mm *mm, uintptr_t addr, size_t len, vpn_t *start, u32 *nr)
{
	u64 pages = bytes_to_pages(len);

	if (addr % PAGE_SIZE || !pages || !in_window(mm, addr) || pages > mm->vm.nr_pages)
		return false;
	*start = vm_vpn(&mm->vm, addr);
	*nr = (u32)pages;
	return start->val + pages <= mm->vm.nr_pages;
}

static long map_fixed(struct mm *mm, vpn_t start, u32 nr, int prot)
{
	struct shim_visit visit = shim_enter();
	long ret = mm_map_fixed(mm, start, nr, to_vm_prot(prot));

	shim_leave(visit);
	return ret ? shim_map_error(ret) : (long)vm_address(&mm->vm, start);
}

static long map_anywhere(struct mm *mm, u32 nr, int prot)
{
	vpn_t start;
	struct shim_visit visit = shim_enter();
	long ret = mm_map(mm, nr, 1, to_vm_prot(prot), &start);

	shim_leave(visit);
	return ret ? shim_map_error(ret) : (long)vm_address(&mm->vm, start);
}

/* Something that is not ours at a fixed place in the window: the range is the kernel's until it is unmapped. */
static long map_foreign(struct mm *mm, vpn_t start, u32 nr, const long args[6])
{
	struct shim_visit visit = shim_enter();
	long ret = mm_map_foreign(mm, start, nr);

	if (!ret)
		ret = sys6(SYS_mmap, args[0], args[1], args[2], args[3], args[4], args[5]);
	shim_leave(visit);
	return ret;
}

static long do_mmap(struct mm *mm, const long args[6])
{
	uintptr_t addr = (uintptr_t)args[0];
	int prot = (int)args[2], flags = (int)args[3];
	u64 pages = bytes_to_pages((size_t)args[1]);
	bool fixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0;
	vpn_t start;
	u32 nr;

	if (!mm || (fixed && !in_window(mm, addr)))
		return sys6(SYS_mmap, args[0], args[1], args[2], args[3], args[4], args[5]);
	if (fixed && !window_range(mm, addr, (size_t)args[1], &start, &nr))
		return -EINVAL;
	if (fixed && (flags & MAP_FIXED_NOREPLACE) && !mm_is_free(mm, start, nr))
		return -EEXIST;
	if (fixed && !is_manageable(prot, flags))
		return map_foreign(mm, start, nr, args);
	if (fixed)
		return map_fixed(mm, start, nr, prot);
	if (!is_manageable(prot, flags))
		return sys6(SYS_mmap, args[0], args[1], args[2], args[3], args[4], args[5]);
	if (!pages)
		return -EINVAL;
	if (pages > mm->vm.nr_pages)
		return -ENOMEM;
	/* Hints are how allocators ask for neighbours of what they have. */
	if (window_range(mm, addr, (size_t)args[1], &start, &nr) && mm_is_free(mm, start, nr))
		return map_fixed(mm, start, nr, prot);
	return map_anywhere(mm, (u32)pages, prot);
}

static long do_munmap(struct mm *mm, uintptr_t addr, size_t len)
{
	vpn_t start;
	struct shim_visit visit;
	u32 nr;
	long ret;

	if (!window_range(mm, addr, len, &start, &nr))
		return -EINVAL;
	visit = shim_enter();
	ret = mm_unmap(mm, start, nr);
	shim_leave(visit);
	return ret;
}

static long do_mprotect(struct mm *mm, uintptr_t addr, size_t len, int prot)
{
	vpn_t start;
	struct shim_visit visit;
	u32 nr;
	long ret;

	if (addr % PAGE_SIZE)
		return -EINVAL;
	if (!len)
		return 0;
	if (!window_range(mm, addr, len, &start, &nr))
		return -ENOMEM;
	if (mm_is_foreign(mm, start))
		return sys3(SYS_mprotect, addr, len, prot);
	visit = shim_enter();
	ret = mm_protect(mm, start, nr, to_vm_prot(prot));
	shim_leave(visit);
	return ret;
}

/* Touches pages in without keeping them. */
static long populate(struct mm *mm, uintptr_t addr, size_t len, bool write)
{
	for (size_t at = 0; at < len; at += PAGE_SIZE) {
		int ret = hold_range(mm, addr + at, 1, write);

		if (ret)
			return ret;
		release_range(mm, addr + at, 1);
	}
	return 0;
}

static long do_madvise(struct mm *mm, uintptr_t addr, size_t len, int advice)
{
	vpn_t start;
	long ret = 0;
	struct shim_visit visit;
	u32 nr;

	if (addr % PAGE_SIZE)
		return -EINVAL;
	if (!len)
		return 0;
	if (!window_range(mm, addr, len, &start, &nr))
		return -ENOMEM;
	if (mm_is_foreign(mm, start))
		return sys3(SYS_madvise, addr, len, advice);
	/* A child always gets all of the window: its copy of the tables knows of no holes. */
	if (advice == MADV_DONTFORK || advice == MADV_DOFORK)
		return 0;
	/* What a fork or a touch would have to know of us is refused as older kernels do; programs have another way. */
	if (advice == MADV_WIPEONFORK || advice == MADV_GUARD_INSTALL)
		return -EINVAL;
	if (advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE)
		return populate(mm, addr, len, advice == MADV_POPULATE_WRITE);
	visit = shim_enter();
	if (!mm_is_mapped(mm, start, nr))
		ret = -ENOMEM;
	else if (advice == MADV_DONTNEED || advice == MADV_FREE)
		mm_drop(mm, start, nr);
	else if (advice == MADV_PAGEOUT)
		mm_pageout(mm, start, nr);
	else if (advice == MADV_COLD)
		mm_cold(mm, start, nr);
	else if (advice == MADV_WILLNEED)
		ret = mm_will_need(mm, start, nr);
	else if (!mm_is_adopted(mm))
		ret = sys3(SYS_madvise, addr, len, advice); /* the kernel's own affair still */
	shim_leave(visit);
	return ret;
}

/* Grows a mapping where it is, if the pages behind it are free. */
static bool grow_in_place(struct mm *mm, vpn_t start, u32 nr, u32 new_nr)
{
	vpn_t tail = { start.val + nr };
	unsigned int prot;
	struct shim_visit visit;
	bool done;

	if ((u64)start.val + new_nr > mm->vm.nr_pages || !mm_prot_of(mm, start, &prot))
		return false;
	visit = shim_enter();
	done = mm_is_free(mm, tail, new_nr - nr) && mm_map_fixed(mm, tail, new_nr - nr, prot) == 0;
	shim_leave(visit);
	return done;
}

/* Moves the contents by copying them: both ranges are the caller's, so no other thread writes them meanwhile. */
static long move_mapping(struct mm *mm, uintptr_t addr, size_t len, size_t new_len, vpn_t *fixed)
{
	long to = fixed ? map_fixed(mm, *fixed, (u32)bytes_to_pages(new_len), PROT_READ | PROT_WRITE) :
			  map_anywhere(mm, (u32)bytes_to_pages(new_len), PROT_READ | PROT_WRITE);
	unsigned int prot;
	size_t keep = len < new_len ? len : new_len;

	if (to < 0 && to > -4096)
		return to;
	if (!mm_prot_of(mm, vm_vpn(&mm->vm, addr), &prot))
		return -EFAULT;
	if (prot & VM_READ)
		memcpy((void *)to, (const void *)addr, keep);
	if (prot != (VM_READ | VM_WRITE))
		do_mprotect(mm, (uintptr_t)to, new_len,
			    (prot & VM_READ ? PROT_READ : 0) | (prot & VM_WRITE ? PROT_WRITE : 0));
	do_munmap(mm, addr, len);
	return to;
}

static long do_mremap(struct mm *mm, const long args[6])
{
	uintptr_t addr = (uintptr_t)args[0];
	size_t len = ALIGN_UP((size_t)args[1], PAGE_SIZE), new_len = ALIGN_UP((size_t)args[2], PAGE_SIZE);
	int flags = (int)args[3];
	vpn_t start, to;
	u32 nr, to_nr;

	if (!window_range(mm, addr, len, &start, &nr) || !new_len || new_len > SHIM_WINDOW_BYTES)
		return -EINVAL;
	if (!mm_is_mapped(mm, start, nr))
		return -EFAULT;
	if (flags & MREMAP_FIXED) {
		if (!(flags & MREMAP_MAYMOVE) || !window_range(mm, (uintptr_t)args[4], new_len, &to, &to_nr))
			return -EINVAL;
		if (to.val < start.val + nr && start.val < to.val + to_nr)
			return -EINVAL;
		return move_mapping(mm, addr, len, new_len, &to);
	}
	if (new_len < len) {
		long ret = do_munmap(mm, addr + new_len, len - new_len);

		return ret ? ret : (long)addr;
	}
	if (new_len == len || grow_in_place(mm, start, nr, (u32)bytes_to_pages(new_len)))
		return (long)addr;
	return flags & MREMAP_MAYMOVE ? move_mapping(mm, addr, len, new_len, NULL) : -ENOMEM;
}

static long serve(long nr, const long args[6])
{
	struct mm *mm = shim_mm();
	uintptr_t addr = (uintptr_t)args[0];

	if (nr == SYS_mmap)
		return do_mmap(mm, args);
	if (!in_window(mm, addr))
		return sys6(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
	switch (nr) {
	case SYS_munmap:
		return do_munmap(mm, addr, (size_t)args[1]);
	case SYS_mprotect:
		return do_mprotect(mm, addr, (size_t)args[1], (int)args[2]);
	case SYS_madvise:
		return do_madvise(mm, addr, (size_t)args[1], (int)args[2]);
	case SYS_mremap:
		return do_mremap(mm, args);
	case SYS_mlock:
	case SYS_mlock2:
		/* Made resident once. Keeping it so would have to fit the limit. */
		return mm_is_adopted(mm) ? populate(mm, addr & PAGE_MASK, (size_t)args[1], false) : 0;
	case SYS_munlock:
		return 0;
	default:
		return sys6(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
	}
}

struct call {
	long nr, args[6];
};

/* On a copy of the arguments: the caller's lie on its stack. */
static long serve_call(void *arg)
{
	struct call call = *(const struct call *)arg;

	return serve(call.nr, call.args);
}

long mm_syscall(long nr, const long args[6])
{
	struct call call = { nr, { args[0], args[1], args[2], args[3], args[4], args[5] } };

	return threads_call_outside(serve_call, &call);
}

/* ---- what the program calls ---- */

static long result(long ret)
{
	if (ret < 0 && ret > -4096) {
		errno = (int)-ret;
		return -1;
	}
	return ret;
}

#define CALL(nr, a, b, c, d, e, f)                                                                                     \
	result(mm_syscall(nr, (const long[6]){ SYSCALL_ARG(a), SYSCALL_ARG(b), SYSCALL_ARG(c), SYSCALL_ARG(d),         \
					       SYSCALL_ARG(e), SYSCALL_ARG(f) }))

SHIM_EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	return (void *)CALL(SYS_mmap, addr, len, prot, flags, fd, off);
}

SHIM_EXPORT void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	return (void *)CALL(SYS_mmap, addr, len, prot, flags, fd, off);
}

SHIM_EXPORT int munmap(void *addr, size_t len)
{
	return (int)CALL(SYS_munmap, addr, len, 0, 0, 0, 0);
}

SHIM_EXPORT int mprotect(void *addr, size_t len, int prot)
{
	return (int)CALL(SYS_mprotect, addr, len, prot, 0, 0, 0);
}

SHIM_EXPORT int madvise(void *addr, size_t len, int advice)
{
	return (int)CALL(SYS_madvise, addr, len, advice, 0, 0, 0);
}

SHIM_EXPORT void *mremap(void *addr, size_t len, size_t new_len, int flags, ...)
{
	void *to = NULL;
	va_list ap;

	if (flags & MREMAP_FIXED) {
		va_start(ap, flags);
		to = va_arg(ap, void *);
		va_end(ap);
	}
	return (void *)CALL(SYS_mremap, addr, len, new_len, flags, to, 0);
}

SHIM_EXPORT int mlock(const void *addr, size_t len)
{
	return (int)CALL(SYS_mlock, addr, len, 0, 0, 0, 0);
}

SHIM_EXPORT int mlock2(const void *addr, size_t len, unsigned int flags)
{
	return (int)CALL(SYS_mlock2, addr, len, flags, 0, 0, 0);
}

SHIM_EXPORT int munlock(const void *addr, size_t len)
{
	return (int)CALL(SYS_munlock, addr, len, 0, 0, 0, 0);
}
