// SPDX-License-Identifier: MIT
/*
 * The mmap family, interposed. Anonymous private memory comes from the window; everything else, and every address
 * outside of it, goes to the kernel as it is. No dlsym where there is a window: these wrappers run before libc is up.
 */
#include "preload/mm.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/syscall.h"
#include "preload/brk.h"
#include "preload/mm_internal.h"
#include "preload/real.h"
#include "preload/threads.h"

/* What cannot live in the window: shared, file, executable or huge pages, stacks that grow, 32-bit addresses. */
static bool is_manageable(int prot, int flags)
{
	const int unmanaged = MAP_GROWSDOWN | MAP_HUGETLB | MAP_32BIT | MAP_STACK;

	return (flags & MAP_ANONYMOUS) && (flags & MAP_TYPE) == MAP_PRIVATE && !(flags & unmanaged) &&
	       !(prot & PROT_EXEC);
}

bool window_range(const struct mm *mm, uintptr_t addr, size_t len, vpn_t *start, u32 *nr)
{
	u64 pages = bytes_to_pages(len);

	if (addr % PAGE_SIZE || !pages || !in_window(mm, addr) || pages > mm->vm.nr_pages)
		return false;
	*start = vm_vpn(&mm->vm, addr);
	*nr = (u32)pages;
	return start->val + pages <= mm->vm.nr_pages;
}

static bool is_error(long ret)
{
	return ret < 0 && ret > -4096;
}

static long map_fixed(struct mm *mm, vpn_t start, u32 nr, unsigned int prot)
{
	struct shim_visit visit = shim_enter();
	long ret = mm_map_fixed(mm, start, nr, prot);

	shim_leave(visit);
	return ret ? shim_map_error(ret) : (long)vm_address(&mm->vm, start);
}

static long map_anywhere(struct mm *mm, u32 nr, unsigned int prot)
{
	vpn_t start;
	struct shim_visit visit = shim_enter();
	long ret = mm_map(mm, nr, 1, prot, &start);

	shim_leave(visit);
	return ret ? shim_map_error(ret) : (long)vm_address(&mm->vm, start);
}

static long unmap(struct mm *mm, vpn_t start, u32 nr)
{
	struct shim_visit visit = shim_enter();
	long ret = mm_unmap(mm, start, nr);

	shim_leave(visit);
	return ret;
}

/* Pages of the window that something of the kernel's is about to take, and whether it has. */
static long foreign_begin(struct mm *mm, vpn_t start, u32 nr, unsigned int prot)
{
	struct shim_visit visit = shim_enter();
	long ret = mm_map_foreign(mm, start, nr, prot);

	shim_leave(visit);
	return ret;
}

static long foreign_end(struct mm *mm, vpn_t start, u32 nr, long ret)
{
	/* Taken back, which is all that can be done. */
	if (is_error(ret) && unmap(mm, start, nr))
		return -ENOMEM;
	return ret;
}

/* ---- mmap ---- */

/* A mapping of the kernel's, with what mlockall() asked for such to come. */
static long map_kernel(uintptr_t addr, const long args[6], long flags)
{
	int future = lock_future();
	long ret;

	if (future && !(future & MCL_ONFAULT))
		flags |= MAP_LOCKED;
	else if (future && (flags & MAP_FIXED) && (size_t)args[1] < TASK_BYTES &&
		 limit_lock(shim_mm(), bytes_to_pages((size_t)args[1]), -EAGAIN))
		return -EAGAIN;
	ret = sys6(SYS_mmap, addr, args[1], args[2], flags, args[4], args[5]);
	if (is_error(ret) || !(future & MCL_ONFAULT) || !sys3(SYS_mlock2, ret, args[1], MLOCK_ONFAULT))
		return ret;
	sys2(SYS_munmap, ret, args[1]);
	return -EAGAIN;
}

/* The kernel's answer without a place in the window: what it refuses must not cost what is mapped there. */
static long map_rehearse(const long args[6])
{
	long ret = map_kernel(0, args, args[3] & ~(MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_POPULATE));

	if (is_error(ret))
		return ret;
	sys2(SYS_munmap, ret, args[1]);
	return 0;
}

/* Something that is not ours at a fixed place in the window: the range is the kernel's until it is unmapped. */
static long map_foreign(struct mm *mm, vpn_t start, u32 nr, const long args[6])
{
	long ret = map_rehearse(args);
	bool locked = (args[3] & MAP_LOCKED) || lock_future();
	struct shim_visit visit;

	if (!ret)
		ret = foreign_begin(mm, start, nr, to_vm_prot((int)args[2]));
	if (ret)
		return ret;
	ret = map_kernel(vm_address(&mm->vm, start), args, (args[3] & ~MAP_FIXED_NOREPLACE) | MAP_FIXED);
	if (is_error(ret) || !locked)
		return foreign_end(mm, start, nr, ret);
	visit = shim_enter();
	(void)!mm_mark(mm, start, nr, VM_NONE, VM_LOCKED); /* the kernel knows, at any rate */
	shim_leave(visit);
	return ret;
}

/* What the program asks for beyond the mapping itself. */
static long map_finish(struct mm *mm, long addr, u32 nr, int prot, int flags)
{
	vpn_t start = vm_vpn(&mm->vm, (uintptr_t)addr);
	int future = lock_future();

	if (is_error(addr))
		return addr;
	if ((flags & MAP_LOCKED) || future) {
		long ret = lock_new(mm, start, nr, (flags & MAP_LOCKED) || !(future & MCL_ONFAULT));

		return ret ? ret : addr;
	}
	/* Once there is reclaim, pages come when they are wanted. */
	if ((flags & MAP_POPULATE) && !mm_is_adopted(mm))
		populate_new(mm, start, nr, to_vm_prot(prot));
	return addr;
}

/* In the window, at `start` or anywhere. */
static long map_managed(struct mm *mm, const vpn_t *start, u32 nr, int prot, int flags)
{
	u64 there = start ? count_pages(mm, *start, nr, 0) : 0;
	long ret = flags & MAP_LOCKED ? limit_lock(mm, 0, 0) : 0;

	if (!ret && ((flags & MAP_LOCKED) || lock_future()) && limit_lock(mm, nr, -EAGAIN))
		ret = -EAGAIN;
	if (!ret)
		ret = limit_address_space(mm, nr - there);
	if (ret)
		return ret;
	ret = start ? map_fixed(mm, *start, nr, to_vm_prot(prot)) : map_anywhere(mm, nr, to_vm_prot(prot));
	return map_finish(mm, ret, nr, prot, flags);
}

static long map_outside(const long args[6])
{
	return map_kernel((uintptr_t)args[0], args, args[3]);
}

/* Arguments that must fail, but not before what else may be wrong with them. */
static long map_refuse(const long args[6], bool manageable, long err)
{
	long ret = args[5] & ~PAGE_MASK ? -EINVAL : manageable ? 0 : map_rehearse(args);

	return ret == -EINVAL || ret == -EBADF ? ret : err;
}

static long do_mmap(struct mm *mm, const long args[6])
{
	uintptr_t addr = (uintptr_t)args[0];
	size_t len = (size_t)args[1];
	int prot = (int)args[2], flags = (int)args[3];
	bool fixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0, manageable = is_manageable(prot, flags), there;
	vpn_t start;
	u32 nr;

	if (!mm || (fixed ? !in_window(mm, addr) : !manageable && !in_window(mm, addr)))
		return map_outside(args);
	if (!len || (args[5] & ~PAGE_MASK))
		return map_refuse(args, manageable, -EINVAL);
	if (bytes_to_pages(len) > mm->vm.nr_pages)
		return map_refuse(args, manageable, -ENOMEM);
	if (!fixed) /* hints are how allocators ask for neighbours of what they have */
		addr &= PAGE_MASK;
	there = window_range(mm, addr, len, &start, &nr);
	if (fixed && !there)
		return map_refuse(args, manageable, addr % PAGE_SIZE ? -EINVAL : -ENOMEM);
	if (fixed && (flags & MAP_FIXED_NOREPLACE) && !mm_is_free(mm, start, nr))
		return -EEXIST;
	if (!fixed && there && !mm_is_free(mm, start, nr))
		there = false;
	if (!manageable)
		return there ? map_foreign(mm, start, nr, args) : map_outside(args);
	return map_managed(mm, there ? &start : NULL, (u32)bytes_to_pages(len), prot, flags);
}

static long do_munmap(struct mm *mm, uintptr_t addr, size_t len)
{
	vpn_t start;
	u32 nr;

	if (!window_range(mm, addr, len, &start, &nr))
		return -EINVAL;
	return unmap(mm, start, nr);
}

/* ---- mremap ---- */

struct remap {
	uintptr_t addr, to;
	size_t len, new_len;
	int flags;
	vpn_t start;
	u32 nr, new_nr;
	unsigned int prot; /* of the mapping */
};

static long remap_check(const struct remap *r)
{
	if ((r->flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) || r->addr % PAGE_SIZE)
		return -EINVAL;
	if (!r->new_len || r->new_len > TASK_BYTES)
		return -EINVAL;
	if (!(r->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)))
		return 0;
	if (r->to % PAGE_SIZE || !(r->flags & MREMAP_MAYMOVE) || r->to > TASK_BYTES - r->new_len)
		return -EINVAL;
	if ((r->flags & MREMAP_DONTUNMAP) && r->len != r->new_len)
		return -EINVAL;
	return r->addr < r->to + r->new_len && r->to < r->addr + r->len ? -EINVAL : 0;
}

/*
 * A mapping of the kernel's to a place in the window, in two steps, as the kernel would look at its arguments before it
 * takes away what is there.
 */
static long remap_into(struct mm *mm, const struct remap *r, vpn_t to)
{
	long ret = sys6(SYS_mmap, 0, r->new_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), err;

	if (is_error(ret))
		return ret;
	err = sys5(SYS_mremap, r->addr, r->len, r->new_len, r->flags | MREMAP_FIXED, ret);
	if (is_error(err)) {
		sys2(SYS_munmap, ret, r->new_len);
		return err;
	}
	err = foreign_begin(mm, to, r->new_nr, r->prot & VM_ACCESS);
	if (err)
		return err;
	ret = sys5(SYS_mremap, ret, r->new_len, r->new_len, MREMAP_MAYMOVE | MREMAP_FIXED, vm_address(&mm->vm, to));
	if (!is_error(ret) && (r->prot & ~(VM_ACCESS | VM_FOREIGN))) {
		struct shim_visit visit = shim_enter();

		(void)!mm_mark(mm, to, r->new_nr, VM_NONE, r->prot & ~(unsigned int)(VM_ACCESS | VM_FOREIGN));
		shim_leave(visit);
	}
	return foreign_end(mm, to, r->new_nr, ret);
}

/* A mapping of the kernel's in the window that may grow where it is: the kernel must find nothing behind it. */
static long remap_in_place(struct mm *mm, const struct remap *r)
{
	vpn_t tail = { r->start.val + r->nr };
	u32 nr = r->new_nr - r->nr;
	bool room = tail.val + (u64)nr <= mm->vm.nr_pages && mm_is_free(mm, tail, nr);
	long ret = room ? foreign_begin(mm, tail, nr, r->prot & VM_ACCESS) : 0;

	if (ret)
		return ret;
	if (room)
		sys2(SYS_munmap, vm_address(&mm->vm, tail), pages_to_bytes(nr));
	ret = sys4(SYS_mremap, r->addr, r->len, r->new_len, r->flags);
	return room && ret != (long)r->addr && unmap(mm, tail, nr) ? -ENOMEM : ret;
}

/* A mapping of the kernel's. Where it leaves the window, that is ours again. */
static long remap_foreign(struct mm *mm, const struct remap *r)
{
	bool from_window = in_window(mm, r->addr);
	vpn_t to, left = r->start;
	u32 to_nr, left_nr = r->nr;
	long ret;

	/* Without FIXED the new address is a hint. */
	if ((r->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && window_range(mm, r->to, r->new_len, &to, &to_nr) &&
	    ((r->flags & MREMAP_FIXED) || mm_is_free(mm, to, to_nr)))
		ret = remap_into(mm, r, to);
	else if (from_window && r->len && r->new_nr > r->nr)
		ret = remap_in_place(mm, r);
	else
		ret = sys5(SYS_mremap, r->addr, r->len, r->new_len, r->flags, r->to);
	if (is_error(ret) || !from_window || (r->flags & MREMAP_DONTUNMAP))
		return ret;
	if (ret == (long)r->addr) {
		left.val += r->new_nr;
		left_nr = r->nr > r->new_nr ? r->nr - r->new_nr : 0;
	}
	return left_nr && unmap(mm, left, left_nr) ? -ENOMEM : ret;
}

/* Out of the window, to a place of the program's choice: the kernel's from here on. */
static long remap_out(struct mm *mm, const struct remap *r)
{
	size_t keep = r->len < r->new_len ? r->len : r->new_len;
	long ret = sys6(SYS_mmap, r->to, r->new_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			-1, 0);
	int prot = (r->prot & VM_READ ? PROT_READ : 0) | (r->prot & VM_WRITE ? PROT_WRITE : 0) |
		   (r->prot & VM_EXEC ? PROT_EXEC : 0);

	if (is_error(ret))
		return ret;
	if (!(r->prot & VM_READ) && range_mprotect(mm, r->addr, r->len, PROT_READ))
		return -ENOMEM;
	memcpy((void *)r->to, (const void *)r->addr, keep);
	if (prot != (PROT_READ | PROT_WRITE))
		sys3(SYS_mprotect, r->to, r->new_len, prot);
	if (r->flags & MREMAP_DONTUNMAP) {
		range_madvise(mm, r->addr, r->len, MADV_DONTNEED_LOCKED);
		range_mprotect(mm, r->addr, r->len, prot);
	} else if (unmap(mm, r->start, r->nr)) {
		return -ENOMEM;
	}
	return ret;
}

/* To a place in the window: `to`, or one that is found. */
static long remap_move(struct mm *mm, const struct remap *r, const vpn_t *to)
{
	long ret = to ? (long)vm_address(&mm->vm, *to) : map_anywhere(mm, r->new_nr, VM_NONE);
	struct shim_visit visit;
	vpn_t place;
	int err;

	if (is_error(ret))
		return ret;
	place = vm_vpn(&mm->vm, (uintptr_t)ret);
	visit = shim_enter();
	err = mm_move(mm, r->start, r->nr, place, r->new_nr, (r->flags & MREMAP_DONTUNMAP) != 0);
	shim_leave(visit);
	return err ? err : ret;
}

/* Grows a mapping where it is, if the pages behind it are free. */
static bool grow_in_place(struct mm *mm, const struct remap *r)
{
	vpn_t tail = { r->start.val + r->nr };
	struct shim_visit visit;
	bool done;

	if ((u64)r->start.val + r->new_nr > mm->vm.nr_pages)
		return false;
	visit = shim_enter();
	done = mm_is_free(mm, tail, r->new_nr - r->nr) &&
	       mm_map_fixed(mm, tail, r->new_nr - r->nr, r->prot & ~(unsigned int)VM_LOCKED) == 0;
	shim_leave(visit);
	return done;
}

static long remap_grow(struct mm *mm, const struct remap *r)
{
	u32 more = r->new_nr - r->nr;
	long ret = limit_address_space(mm, more);

	if (ret)
		return ret;
	if (grow_in_place(mm, r))
		ret = (long)r->addr;
	else
		ret = r->flags & MREMAP_MAYMOVE ? remap_move(mm, r, NULL) : -ENOMEM;
	if (!is_error(ret) && (r->prot & VM_LOCKED)) {
		vpn_t tail = { vm_vpn(&mm->vm, (uintptr_t)ret).val + r->nr };
		long err = lock_new(mm, tail, more, true);

		return err ? err : ret;
	}
	return ret;
}

static long remap_managed(struct mm *mm, const struct remap *r)
{
	vpn_t to;
	u32 to_nr;
	bool in = window_range(mm, r->to, r->new_len, &to, &to_nr);

	if (r->new_nr > r->nr && (r->prot & VM_LOCKED) && limit_lock(mm, r->new_nr - r->nr, -EAGAIN))
		return -EAGAIN;
	if (r->flags & MREMAP_FIXED) {
		if (r->new_nr > r->nr && limit_address_space(mm, r->new_nr - r->nr))
			return -ENOMEM;
		return in ? remap_move(mm, r, &to) : remap_out(mm, r);
	}
	if (r->flags & MREMAP_DONTUNMAP) {
		long ret = limit_address_space(mm, r->nr);

		return ret ? ret : remap_move(mm, r, in && mm_is_free(mm, to, to_nr) ? &to : NULL);
	}
	if (r->new_nr > r->nr)
		return remap_grow(mm, r);
	if (r->new_nr < r->nr && unmap(mm, (vpn_t){ r->start.val + r->new_nr }, r->nr - r->new_nr))
		return -ENOMEM;
	return (long)r->addr;
}

static long do_mremap(struct mm *mm, const long args[6])
{
	struct remap r = {
		.addr = (uintptr_t)args[0],
		.to = (uintptr_t)args[4],
		.len = ALIGN_UP((size_t)args[1], PAGE_SIZE),
		.new_len = ALIGN_UP((size_t)args[2], PAGE_SIZE),
		.flags = (int)args[3],
	};
	struct area area;
	long ret = remap_check(&r);

	if (ret)
		return ret;
	r.new_nr = (u32)min_u64(bytes_to_pages(r.new_len), UINT32_MAX);
	r.prot = VM_READ | VM_WRITE; /* nobody knows, of the kernel's own */
	if (!in_window(mm, r.addr))
		return remap_foreign(mm, &r);
	r.start = vm_vpn(&mm->vm, r.addr);
	if (!mm_next_area(mm, r.start, mm->vm.nr_pages - r.start.val, &area) || area.start != r.start.val)
		return -EFAULT;
	r.nr = (u32)min_u64(bytes_to_pages(r.len), UINT32_MAX);
	r.prot = area.prot;
	if (area.prot & VM_FOREIGN)
		return remap_foreign(mm, &r);
	if (!r.len)
		return -EINVAL;
	if (r.len > area_bytes(&area))
		return -EFAULT;
	if (r.new_nr > mm->vm.nr_pages)
		return -ENOMEM;
	return remap_managed(mm, &r);
}

/* ---- the family ---- */

/* Calls that change a mapping in ways that we could not follow: told as a kernel without them would. */
static long refuse(long nr)
{
	return nr == SYS_pkey_mprotect ? -EINVAL : -ENOSYS;
}

static long serve(long nr, const long args[6])
{
	struct mm *mm = shim_mm();
	uintptr_t addr = (uintptr_t)args[0];
	size_t len = (size_t)args[1];

	if (nr == SYS_mmap)
		return do_mmap(mm, args);
	if (mm && nr == SYS_mlockall)
		return lock_all(mm, (int)args[0]);
	if (mm && nr == SYS_munlockall)
		return unlock_all(mm);
	if (nr == SYS_mremap && (in_window(mm, addr) ||
				 ((args[3] & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && in_window(mm, (uintptr_t)args[4]))))
		return do_mremap(mm, args);
	if (!in_window(mm, addr))
		return sys6(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
	switch (nr) {
	case SYS_munmap:
		return do_munmap(mm, addr, len);
	case SYS_mprotect:
		return range_mprotect(mm, addr, len, (int)args[2]);
	case SYS_madvise:
		return range_madvise(mm, addr, len, (int)args[2]);
	case SYS_mlock:
		return range_mlock(mm, addr, len, 0);
	case SYS_mlock2:
		return range_mlock(mm, addr, len, (unsigned int)args[2]);
	case SYS_munlock:
		return range_munlock(mm, addr, len);
	case SYS_mincore:
		return range_mincore(mm, addr, len, (uintptr_t)args[2]);
	case SYS_msync:
		return range_msync(mm, addr, len, (int)args[2]);
	case SYS_pkey_mprotect:
		return (int)args[3] == -1 ? range_mprotect(mm, addr, len, (int)args[2]) : refuse(nr);
	case SYS_mseal: /* sealed pages could not be written out */
		return refuse(nr);
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

	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) {
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

SHIM_EXPORT int mlockall(int flags)
{
	return (int)CALL(SYS_mlockall, flags, 0, 0, 0, 0, 0);
}

SHIM_EXPORT int munlockall(void)
{
	return (int)CALL(SYS_munlockall, 0, 0, 0, 0, 0, 0);
}

SHIM_EXPORT int mincore(void *addr, size_t len, unsigned char *vec)
{
	return (int)CALL(SYS_mincore, addr, len, vec, 0, 0, 0);
}

/* As libc's, a place where a thread can be cancelled: for the kernel's mappings it is the one that waits. */
SHIM_EXPORT int msync(void *addr, size_t len, int flags)
{
	return (int)CALL(SYS_msync, addr, len, flags, 0, 0, 0);
}

/* Programs with an allocator of their own; libc's malloc asks the kernel itself. */
SHIM_EXPORT int brk(void *addr)
{
	static struct atomic64 real;
	struct mm *mm = shim_mm();

	if (!mm)
		return ((int (*)(void *))real_function(&real, "brk"))(addr);
	return (int)result(break_set(mm, (uintptr_t)addr));
}

SHIM_EXPORT void *sbrk(intptr_t bytes)
{
	static struct atomic64 real;
	struct mm *mm = shim_mm();

	if (!mm)
		return ((void *(*)(intptr_t))real_function(&real, "sbrk"))(bytes);
	return (void *)result(break_move(mm, bytes));
}
