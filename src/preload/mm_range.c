// SPDX-License-Identifier: MIT
/*
 * Calls on ranges of the window that may have holes, and parts that are the kernel's: they go from piece to piece, an
 * area or part of one. As in the kernel, what was done before a hole or a failure stays done.
 */
#include <errno.h>
#include <string.h>

#include "fault/hold.h"
#include "preload/mm_internal.h"
#include "sync/atomic.h"

/* MCL_FUTURE and MCL_ONFAULT of the last mlockall(). Any thread may set it; a mapping made meanwhile may miss it. */
static struct atomic32 future;

typedef long (*piece_fn)(struct mm *mm, const struct area *piece, long arg);

enum hole { HOLE_STOPS, HOLE_IS_TOLD };

/* A whole-page range, as far as it lies in the window: in full, or does it end outside? False: nothing of it does. */
struct pages {
	vpn_t start;
	u32 nr;
	bool cut;
};

static struct pages pages_of(const struct mm *mm, uintptr_t addr, size_t len)
{
	struct pages p = { .start = vm_vpn(&mm->vm, addr) };
	u64 nr = bytes_to_pages(len), left = mm->vm.nr_pages - p.start.val;

	p.nr = (u32)min_u64(nr, left);
	p.cut = nr > left;
	return p;
}

/* -ENOMEM for a hole, at once or in the end, unless `fn` fails first. */
static long for_pieces(struct mm *mm, struct pages p, enum hole hole, piece_fn fn, long arg)
{
	u32 at = p.start.val, end = at + p.nr;
	bool holes = p.cut;
	struct area piece;

	while (at < end) {
		long ret;

		if (!mm_next_area(mm, (vpn_t){ at }, end - at, &piece))
			return -ENOMEM;
		holes |= piece.start > at;
		if (piece.start > at && hole == HOLE_STOPS)
			return -ENOMEM;
		ret = fn(mm, &piece, arg);
		/* The kernel's part may have gone without our knowing: in a child, for one that was left out. */
		if (ret == -ENOMEM && (piece.prot & VM_FOREIGN) && hole == HOLE_IS_TOLD)
			holes = true;
		else if (ret)
			return ret;
		at = piece.end;
	}
	return holes ? -ENOMEM : 0;
}

u64 count_pages(struct mm *mm, vpn_t start, u32 nr, unsigned int marks)
{
	u32 at = start.val, end = at + nr;
	struct area a;
	u64 pages = 0;

	for (; mm_next_area(mm, (vpn_t){ at }, end - at, &a); at = a.end)
		pages += (a.prot & marks) == marks ? a.end - a.start : 0;
	return pages;
}

/* The call as it is, on a part that is the kernel's. */
static long ask_kernel(const struct mm *mm, long nr, const struct area *piece, long arg)
{
	return sys3(nr, area_address(mm, piece), area_bytes(piece), arg);
}

/* ---- mprotect ---- */

static long protect_piece(struct mm *mm, const struct area *piece, long prot)
{
	long ret = piece->prot & VM_FOREIGN ? ask_kernel(mm, SYS_mprotect, piece, prot) : 0;
	unsigned int rights = to_vm_prot((int)prot);
	u32 nr = piece->end - piece->start;
	vpn_t start = { piece->start };
	struct shim_visit visit;

	if (ret)
		return ret;
	visit = shim_enter();
	ret = piece->prot & VM_FOREIGN ? mm_mark(mm, start, nr, VM_ACCESS, rights) : mm_protect(mm, start, nr, rights);
	shim_leave(visit);
	return ret;
}

long range_mprotect(struct mm *mm, uintptr_t addr, size_t len, int prot)
{
	const int grows = PROT_GROWSDOWN | PROT_GROWSUP;
	struct area piece;
	struct pages p;

	if ((prot & grows) == grows || addr % PAGE_SIZE)
		return -EINVAL;
	if (!len)
		return 0;
	if (!ALIGN_UP(len, PAGE_SIZE) || addr + ALIGN_UP(len, PAGE_SIZE) <= addr)
		return -ENOMEM;
	if (prot & ~(grows | PROT_READ | PROT_WRITE | PROT_EXEC | 8 /* PROT_SEM */))
		return -EINVAL;
	if (!(prot & grows))
		return for_pieces(mm, pages_of(mm, addr, len), HOLE_STOPS, protect_piece, prot);
	/* Nothing here grows; but that a mapping is there is looked at first. */
	p = pages_of(mm, addr, prot & PROT_GROWSUP ? PAGE_SIZE : len);
	return mm_next_area(mm, p.start, p.nr, &piece) ? -EINVAL : -ENOMEM;
}

/* ---- madvise ---- */

/* Touches pages in without keeping them. */
static long populate(struct mm *mm, const struct area *piece, bool write)
{
	for (u32 at = piece->start; at < piece->end; at++) {
		uintptr_t addr = vm_address(&mm->vm, (vpn_t){ at });
		int ret = hold_range(mm, addr, 1, write);

		if (ret)
			return ret == -EIO ? -EFAULT : ret;
		release_range(mm, addr, 1);
	}
	return 0;
}

static long populate_piece(struct mm *mm, const struct area *piece, long advice)
{
	bool write = advice == MADV_POPULATE_WRITE;
	long ret;

	if (piece->prot & VM_FOREIGN)
		return ask_kernel(mm, SYS_madvise, piece, advice);
	ret = populate(mm, piece, write);
	/* Rights that do not suffice are told so. */
	return ret == -EFAULT && !(piece->prot & (write ? VM_WRITE : VM_READ)) ? -EINVAL : ret;
}

/* Context: shim_enter(). */
static long advise_managed(struct mm *mm, const struct area *piece, int advice)
{
	vpn_t start = { piece->start };
	u32 nr = piece->end - piece->start;

	switch (advice) {
	case MADV_DONTNEED:
	case MADV_DONTNEED_LOCKED:
	case MADV_FREE:
		mm_drop(mm, start, nr);
		return 0;
	case MADV_WIPEONFORK:
		return mm_mark(mm, start, nr, VM_NONE, VM_WIPEONFORK);
	case MADV_KEEPONFORK:
		return mm_mark(mm, start, nr, VM_WIPEONFORK, VM_NONE);
	case MADV_DONTFORK:
		return mm_mark(mm, start, nr, VM_NONE, VM_DONTFORK);
	case MADV_DOFORK:
		return mm_mark(mm, start, nr, VM_DONTFORK, VM_NONE);
	default:
		break;
	}
	if (!mm_is_adopted(mm))
		return ask_kernel(mm, SYS_madvise, piece, advice); /* its own affair still */
	switch (advice) {
	case MADV_PAGEOUT:
		mm_pageout(mm, start, nr);
		return 0;
	case MADV_COLD:
		mm_cold(mm, start, nr);
		return 0;
	case MADV_WILLNEED:
		return mm_will_need(mm, start, nr);
	case MADV_REMOVE:   /* of shared memory only */
	case MADV_COLLAPSE: /* managed pages are small ones */
		return -EINVAL;
	default: /* access patterns, huge pages, merging, core dumps: taken note of by nobody */
		return 0;
	}
}

static bool is_about_fork(long advice)
{
	return advice == MADV_DONTFORK || advice == MADV_DOFORK;
}

static long advise_piece(struct mm *mm, const struct area *piece, long advice)
{
	struct shim_visit visit;
	long ret = 0;

	if (piece->prot & VM_FOREIGN)
		ret = ask_kernel(mm, SYS_madvise, piece, advice);
	/* What the kernel leaves out of a child is ours there. */
	if (ret || ((piece->prot & VM_FOREIGN) && !is_about_fork(advice)))
		return ret;
	if ((piece->prot & VM_LOCKED) &&
	    (advice == MADV_DONTNEED || advice == MADV_FREE || advice == MADV_COLD || advice == MADV_PAGEOUT))
		return -EINVAL;
	visit = shim_enter();
	ret = advise_managed(mm, piece, (int)advice);
	shim_leave(visit);
	return ret;
}

long range_madvise(struct mm *mm, uintptr_t addr, size_t len, int advice)
{
	bool populates = advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE;
	/* Of no length: does this kernel know the advice? */
	long ret = sys3(SYS_madvise, addr & PAGE_MASK, 0, advice);

	/* A guard would have to be known to every fault: told as an older kernel would. */
	if (ret || addr % PAGE_SIZE || advice == MADV_GUARD_INSTALL || advice == MADV_GUARD_REMOVE)
		return ret ? ret : -EINVAL;
	if ((len && !ALIGN_UP(len, PAGE_SIZE)) || addr + ALIGN_UP(len, PAGE_SIZE) < addr)
		return -EINVAL;
	return for_pieces(mm, pages_of(mm, addr, len), populates ? HOLE_STOPS : HOLE_IS_TOLD,
			  populates ? populate_piece : advise_piece, advice);
}

/* ---- mlock ---- */

/* Marks. Pages come in once all of the range is marked, as a hole would be told before. */
static long lock_piece(struct mm *mm, const struct area *piece, long arg)
{
	struct shim_visit visit;
	long ret;

	(void)arg;
	ret = piece->prot & VM_FOREIGN ? ask_kernel(mm, SYS_mlock2, piece, MLOCK_ONFAULT) : 0;
	if (ret)
		return ret;
	visit = shim_enter();
	ret = piece->prot & VM_FOREIGN
		      ? mm_mark(mm, (vpn_t){ piece->start }, piece->end - piece->start, VM_NONE, VM_LOCKED)
		      : mm_lock(mm, (vpn_t){ piece->start }, piece->end - piece->start);
	shim_leave(visit);
	return ret;
}

static long unlock_piece(struct mm *mm, const struct area *piece, long arg)
{
	struct shim_visit visit;
	long ret;

	(void)arg;
	visit = shim_enter();
	ret = mm_unlock(mm, (vpn_t){ piece->start }, piece->end - piece->start);
	shim_leave(visit);
	return ret;
}

/* Pages that the program has no right to cannot be brought in: -ENOMEM. Out of memory is -EAGAIN. */
static long lock_populate_piece(struct mm *mm, const struct area *piece, long arg)
{
	long ret;

	(void)arg;
	if (piece->prot & VM_FOREIGN)
		return ask_kernel(mm, SYS_mlock2, piece, 0);
	if (!(piece->prot & VM_ACCESS))
		return -ENOMEM;
	ret = populate(mm, piece, (piece->prot & VM_WRITE) != 0);
	return ret == -ENOMEM ? -EAGAIN : ret ? -ENOMEM : 0;
}

/* For mlockall(), which brings in what it can. */
static long lock_populate_any(struct mm *mm, const struct area *piece, long arg)
{
	(void)lock_populate_piece(mm, piece, arg);
	return 0;
}

/* The kernel's way from a start and a length to whole pages: 0, 1 (nothing to do) or -EINVAL. */
static long lock_range(uintptr_t *addr, size_t *len)
{
	*len = ALIGN_UP(*len + (*addr & ~PAGE_MASK), PAGE_SIZE);
	*addr &= PAGE_MASK;
	if (*addr + *len < *addr)
		return -EINVAL;
	return !*len;
}

long range_mlock(struct mm *mm, uintptr_t addr, size_t len, unsigned int flags)
{
	long ret, empty = lock_range(&addr, &len);
	struct pages p = pages_of(mm, addr, len);

	if (flags & ~(unsigned int)MLOCK_ONFAULT)
		return -EINVAL;
	ret = limit_lock(mm, bytes_to_pages(len) - count_pages(mm, p.start, p.nr, VM_LOCKED), -ENOMEM);
	if (ret || empty)
		return ret ? ret : empty < 0 ? empty : 0;
	ret = for_pieces(mm, p, HOLE_STOPS, lock_piece, 0);
	if (ret || (flags & MLOCK_ONFAULT))
		return ret;
	return for_pieces(mm, p, HOLE_STOPS, lock_populate_piece, 0);
}

long range_munlock(struct mm *mm, uintptr_t addr, size_t len)
{
	long empty = lock_range(&addr, &len);

	if (empty)
		return empty < 0 ? empty : 0;
	return for_pieces(mm, pages_of(mm, addr, len), HOLE_STOPS, unlock_piece, 0);
}

/* ---- mlockall ---- */

int lock_future(void)
{
	return (int)atomic32_read(&future);
}

/* It is not inherited, nor are the locks (mm/fork.c). */
void lock_fork_child(void)
{
	atomic32_set(&future, 0);
}

void populate_new(struct mm *mm, vpn_t start, u32 nr, unsigned int prot)
{
	struct area piece = { start.val, start.val + nr, prot };

	if (prot & VM_ACCESS)
		(void)populate(mm, &piece, (prot & VM_WRITE) != 0); /* a failure shows at the touch */
}

long lock_new(struct mm *mm, vpn_t start, u32 nr, bool populates)
{
	struct shim_visit visit = shim_enter();
	long ret = mm_lock(mm, start, nr);
	unsigned int prot;

	if (ret)
		ret = mm_unmap(mm, start, nr) ? -ENOMEM : -EAGAIN;
	shim_leave(visit);
	if (!ret && populates && mm_prot_of(mm, start, &prot))
		populate_new(mm, start, nr, prot);
	return ret;
}

long unlock_all(struct mm *mm)
{
	struct pages all = { .start = { 0 }, .nr = mm->vm.nr_pages };

	atomic32_set(&future, 0);
	(void)for_pieces(mm, all, HOLE_IS_TOLD, unlock_piece, 0);
	return sys0(SYS_munlockall);
}

/*
 * The window's part alone: the kernel's own mlockall() would lock weir's reservations and refuse to let go of a page.
 * Text, libraries and stacks stay as they are.
 */
long lock_all(struct mm *mm, int flags)
{
	struct pages all = { .start = { 0 }, .nr = mm->vm.nr_pages };
	long ret;

	if (!flags || (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) || flags == MCL_ONFAULT)
		return -EINVAL;
	ret = limit_lock(mm, flags & MCL_CURRENT ? limit_mapped(mm) - atomic64_read(&mm->areas.nr_locked) : 0, -ENOMEM);
	if (ret)
		return ret;
	if (!(flags & MCL_CURRENT)) {
		atomic32_set(&future, (u32)flags);
		return 0;
	}
	ret = for_pieces(mm, all, HOLE_IS_TOLD, lock_piece, 0);
	if (ret == -EAGAIN || ret == -EPERM)
		return ret;
	atomic32_set(&future, (u32)(flags & MCL_FUTURE ? flags & (MCL_FUTURE | MCL_ONFAULT) : 0));
	if (!(flags & MCL_ONFAULT))
		(void)for_pieces(mm, all, HOLE_IS_TOLD, lock_populate_any, 0);
	return 0;
}

/* ---- mincore, msync ---- */

/* The kernel knows what is resident: a page in swap, compressed or not, is absent for it, as on a plain kernel. */
long range_mincore(struct mm *mm, uintptr_t addr, size_t len, uintptr_t vec)
{
	struct pages p = pages_of(mm, addr, len);
	u32 at = p.start.val, end = at + p.nr;
	struct area piece;
	long ret = 0;

	if (addr % PAGE_SIZE)
		return -EINVAL;
	if (addr + len < addr || addr + len > TASK_BYTES)
		return -ENOMEM;
	while (at < end && mm_next_area(mm, (vpn_t){ at }, end - at, &piece) && piece.start == at)
		at = piece.end;
	/* Also of nothing: the kernel looks at the vector first. */
	if (at > p.start.val || !p.nr)
		ret = sys3(SYS_mincore, addr, pages_to_bytes(at - p.start.val), vec);
	return ret ? ret : at < end || p.cut ? -ENOMEM : 0;
}

static long sync_piece(struct mm *mm, const struct area *piece, long flags)
{
	if (piece->prot & VM_FOREIGN)
		return ask_kernel(mm, SYS_msync, piece, flags);
	return (flags & MS_INVALIDATE) && (piece->prot & VM_LOCKED) ? -EBUSY : 0;
}

long range_msync(struct mm *mm, uintptr_t addr, size_t len, int flags)
{
	if ((flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) || addr % PAGE_SIZE ||
	    (flags & (MS_ASYNC | MS_SYNC)) == (MS_ASYNC | MS_SYNC))
		return -EINVAL;
	if (addr + ALIGN_UP(len, PAGE_SIZE) < addr)
		return -ENOMEM;
	return for_pieces(mm, pages_of(mm, addr, ALIGN_UP(len, PAGE_SIZE)), HOLE_IS_TOLD, sync_piece, flags);
}
