// SPDX-License-Identifier: MIT
/*
 * The address space by userfaultfd, without privilege (UFFD_USER_MODE_ONLY): pages enter by UFFDIO_COPY, which needs
 * no TLB flush; they leave by UFFDIO_MOVE where many neighbours go and the kernel has it, else they are
 * write-protected, read and dropped.
 *
 * MOVE may take more pages than it says. In Linux 6.18 move_pages() keeps the -EAGAIN of a page that it has to try
 * again (its PTE changed at that moment, or it was being migrated), so the success that follows is not counted, and the
 * next turn ends with -EEXIST or -ENOENT on pages that have just left. So whenever it says less than all, the page map
 * is asked where the others are (moved_unreported).
 *
 * With faults by thread the descriptor serves the kernel's own accesses too, and pages that a device writes to at the
 * moment (O_DIRECT, io_uring) must stay: MOVE refuses those, so there a refused page is first made this process's own.
 */
#include "vm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "base/assert.h"
#include "base/os.h"
#include "base/syscall.h"
#include "vm/uffd_abi.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

enum {
	MOVE_RETRIES_MAX = 1000, /* of EAGAIN: the kernel's word for "somebody else holds that page table" */
	UFFD_FD_MIN = 900, /* out of the way of descriptors that programs count on */
	UFFD_FD_ROOM = 32,	 /* left above the pair */
};

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static bool is_error(long ret)
{
	return (unsigned long)ret > -4096UL;
}

static void *reserve(uintptr_t hint, size_t bytes, int prot)
{
	long ret = sys6(SYS_mmap, hint, bytes, prot,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (hint ? MAP_FIXED_NOREPLACE : 0), -1, 0);

	return is_error(ret) ? NULL : (void *)ret;
}

int vm_open(struct vm *vm, const struct vm_config *cfg)
{
	size_t window_bytes = (size_t)cfg->nr_pages << PAGE_SHIFT;
	u32 nr_frames = cfg->nr_steal_frames + cfg->nr_plain_frames;
	void *window, *frames, *zeros;
	u64 core[2] = { 0 };

	must(cfg->nr_pages > 0);
	window = reserve(cfg->window_hint, window_bytes, PROT_NONE);
	if (!window)
		return cfg->window_hint ? -EEXIST : -ENOMEM;
	frames = reserve(0, (size_t)nr_frames << PAGE_SHIFT, PROT_READ | PROT_WRITE);
	zeros = reserve(0, VM_ZERO_PAGES << PAGE_SHIFT, PROT_READ);
	if (!frames || !zeros) {
		os_unreserve(window, window_bytes);
		os_unreserve(frames, (size_t)nr_frames << PAGE_SHIFT);
		os_unreserve(zeros, VM_ZERO_PAGES << PAGE_SHIFT);
		return -ENOMEM;
	}
	/* A core has the memory that is handed out, and not a TiB of nothing. */
	sys3(SYS_madvise, window, window_bytes, MADV_DONTDUMP);
	sys4(SYS_prlimit64, 0, 4 /* RLIMIT_CORE */, NULL, core);
	/* A huge page in a frame would be more than the budget charged. */
	sys3(SYS_madvise, frames, (size_t)nr_frames << PAGE_SHIFT, MADV_NOHUGEPAGE);
	*vm = (struct vm){
		.dumps = core[0] > 0,
		.window = (uintptr_t)window,
		.nr_pages = cfg->nr_pages,
		.frames = (uintptr_t)frames,
		.nr_steal_frames = cfg->nr_steal_frames,
		.nr_frames = nr_frames,
		.zeros = zeros,
		.method = cfg->method,
		.faults = cfg->faults,
		.moves_unreported = cfg->moves_unreported,
		.uffd = -1,
		.pagemap = -1,
	};
	return 0;
}

void vm_close(struct vm *vm)
{
	if (vm->uffd >= 0)
		sys1(SYS_close, vm->uffd);
	if (vm->pagemap >= 0)
		sys1(SYS_close, vm->pagemap);
	os_unreserve((void *)vm->window, (size_t)vm->nr_pages << PAGE_SHIFT);
	os_unreserve((void *)vm->frames, (size_t)vm->nr_frames << PAGE_SHIFT);
	os_unreserve((void *)(uintptr_t)vm->zeros, VM_ZERO_PAGES << PAGE_SHIFT);
	vm->uffd = vm->pagemap = -1;
	vm->registered = false;
}

/* Who may have one that serves the kernel's accesses is told by a sysctl or, since 6.1, by the rights of a device. */
static long uffd_create(enum vm_faults faults)
{
	const long flags = O_CLOEXEC | O_NONBLOCK;
	long fd, dev;

	if (faults == VM_FAULTS_SIGNAL)
		return sys1(SYS_userfaultfd, flags | UFFD_USER_MODE_ONLY);
	fd = sys1(SYS_userfaultfd, flags);
	if (fd != -EPERM)
		return fd;
	dev = sys4(SYS_openat, AT_FDCWD, "/dev/userfaultfd", O_RDWR | O_CLOEXEC, 0);
	if (is_error(dev))
		return -EPERM;
	fd = sys3(SYS_ioctl, dev, USERFAULTFD_IOC_NEW, flags);
	sys1(SYS_close, dev);
	return fd;
}

/* A userfaultfd with at least `features`; what the kernel offers goes to *offered. */
static long uffd_open(enum vm_faults faults, u64 features, u64 *offered)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	long fd = uffd_create(faults);
	long ret;

	if (is_error(fd))
		return fd;
	ret = sys3(SYS_ioctl, fd, UFFDIO_API, &api);
	if (is_error(ret)) {
		sys1(SYS_close, fd);
		return ret;
	}
	*offered = api.features;
	return fd;
}

static long uffd_register(struct vm *vm, uintptr_t start, size_t bytes)
{
	struct uffdio_register reg = {
		.range = { .start = start, .len = bytes },
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	};

	return sys3(SYS_ioctl, vm->uffd, UFFDIO_REGISTER, &reg);
}

/* Asks for the offered features first: UFFDIO_API refuses unknown ones, and takes one call per descriptor. */
static long uffd_choose(struct vm *vm)
{
	const bool by_thread = vm->faults == VM_FAULTS_THREAD;
	const u64 needed = UFFD_FEATURE_PAGEFAULT_FLAG_WP |
			   (by_thread ? UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_POISON : UFFD_FEATURE_SIGBUS);
	u64 offered = 0, features = needed;
	long fd = uffd_open(vm->faults, 0, &offered);

	if (is_error(fd))
		return fd;
	sys1(SYS_close, fd);
	if ((offered & needed) != needed)
		return -EINVAL;
	if ((vm->method == VM_METHOD_MOVE || (by_thread && vm->method == VM_METHOD_AUTO)) &&
	    !(offered & UFFD_FEATURE_MOVE))
		return -EINVAL;
	if (vm->method != VM_METHOD_COPY && (offered & UFFD_FEATURE_MOVE)) {
		features |= UFFD_FEATURE_MOVE;
		vm->method = VM_METHOD_MOVE;
	} else {
		vm->method = VM_METHOD_COPY;
	}
	return uffd_open(vm->faults, features, &offered);
}

/*
 * Two neighbours out of the way of the low numbers, where RLIMIT_NOFILE leaves room for that: as high as UFFD_FD_MIN,
 * or near the limit. False: they stay where they are.
 */
static bool fd_raise_pair(long *uffd, long *pagemap)
{
	u64 limit[2] = { 0 };
	long min = UFFD_FD_MIN, first, second;

	sys4(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE */, NULL, limit);
	if (limit[0] < UFFD_FD_MIN + UFFD_FD_ROOM)
		min = limit[0] > UFFD_FD_ROOM ? (long)(limit[0] - UFFD_FD_ROOM) : 0;
	for (;;) {
		first = sys3(SYS_fcntl, *uffd, F_DUPFD_CLOEXEC, min);
		if (is_error(first))
			return false;
		second = sys3(SYS_fcntl, *pagemap, F_DUPFD_CLOEXEC, first + 1);
		if (second == first + 1)
			break;
		sys1(SYS_close, first);
		if (is_error(second))
			return false;
		sys1(SYS_close, second);
		min = second;
	}
	sys1(SYS_close, *uffd);
	sys1(SYS_close, *pagemap);
	*uffd = first;
	*pagemap = second;
	return true;
}

/* The descriptor `fd` in place of what stands at `place`. */
static void fd_put(long fd, int place)
{
	if (fd == place)
		return;
	sys3(SYS_dup3, fd, place, O_CLOEXEC);
	sys1(SYS_close, fd);
}

/* Descriptors of this process's own address space; those of a parent would act on the parent's. */
static int open_descriptors(struct vm *vm)
{
	long fd = uffd_choose(vm), pagemap;

	if (is_error(fd))
		return (int)fd;
	pagemap = sys4(SYS_openat, AT_FDCWD, "/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
	if (is_error(pagemap)) {
		sys1(SYS_close, fd);
		return (int)pagemap;
	}
	if (vm->uffd >= 0) {
		fd_put(fd, vm->uffd);
		fd_put(pagemap, vm->pagemap);
		return 0;
	}
	fd_raise_pair(&fd, &pagemap);
	vm->uffd = (int)fd;
	vm->pagemap = (int)pagemap;
	return 0;
}

int vm_fork_child(struct vm *vm)
{
	u64 nofile = os_nofile_raise();
	int ret;

	/* They are the parent's, and may be the last ones. */
	sys1(SYS_close, vm->uffd);
	sys1(SYS_close, vm->pagemap);
	ret = open_descriptors(vm);
	os_nofile_restore(nofile);
	return ret ? ret : (int)uffd_register(vm, vm->frames, (size_t)vm->nr_steal_frames << PAGE_SHIFT);
}

int vm_register(struct vm *vm)
{
	u64 nofile;
	long ret;

	must(!vm->registered);
	nofile = os_nofile_raise();
	ret = open_descriptors(vm);
	os_nofile_restore(nofile);
	if (ret)
		return (int)ret;
	ret = uffd_register(vm, vm->frames, (size_t)vm->nr_steal_frames << PAGE_SHIFT);
	if (is_error(ret)) {
		sys1(SYS_close, vm->uffd);
		vm->uffd = -1;
		return (int)ret;
	}
	vm->registered = true;
	return 0;
}

int vm_can_register(enum vm_faults faults, enum vm_method method)
{
	struct vm vm = { .faults = faults, .method = method };
	long fd = uffd_choose(&vm);

	if (is_error(fd))
		return (int)fd;
	sys1(SYS_close, fd);
	return 0;
}

int vm_manage(struct vm *vm, vpn_t vpn, u32 nr)
{
	size_t bytes = (size_t)nr << PAGE_SHIFT;

	must(vm->registered);
	/* Managed memory is counted in small pages; khugepaged must not make large ones of it later. */
	sys3(SYS_madvise, vm_address(vm, vpn), bytes, MADV_NOHUGEPAGE);
	return (int)uffd_register(vm, vm_address(vm, vpn), bytes);
}

int vm_restore(struct vm *vm, vpn_t vpn, u32 nr)
{
	long ret = sys6(SYS_mmap, vm_address(vm, vpn), (size_t)nr << PAGE_SHIFT, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

	if (is_error(ret))
		return (int)ret;
	sys3(SYS_madvise, vm_address(vm, vpn), (size_t)nr << PAGE_SHIFT, MADV_DONTDUMP);
	return vm->registered ? vm_manage(vm, vpn, nr) : 0;
}

void *vm_table_alloc(size_t bytes)
{
	void *table = os_reserve(bytes);

	/* Tables are charged page by page as they are touched: no huge ones. */
	if (table) {
		sys3(SYS_madvise, table, bytes, MADV_NOHUGEPAGE);
		sys3(SYS_madvise, table, bytes, MADV_DONTDUMP);
	}
	return table;
}

void vm_table_free(void *table, size_t bytes)
{
	os_unreserve(table, bytes);
}

void *vm_frame_data(const struct vm *vm, frame_t frame)
{
	check(frame.val < vm->nr_frames);
	return (void *)(vm->frames + ((uintptr_t)frame.val << PAGE_SHIFT));
}

/*
 * A call must stay within one mapping, and the kernel keeps neighbours of equal rights apart when they grew up apart:
 * a run that it refuses with `refusal` is tried again at half the length.
 */
static bool shorten(u32 *step, long err, long refusal)
{
	if (err != refusal || *step == 1)
		return false;
	*step /= 2;
	return true;
}

/* UFFDIO_COPY of nr pages; how many were copied, or -errno of the first. */
static long uffd_copy(struct vm *vm, uintptr_t dst, uintptr_t src, u32 nr, u64 mode)
{
	u32 done = 0, step = nr;

	while (done < nr) {
		struct uffdio_copy copy = {
			.dst = dst + ((uintptr_t)done << PAGE_SHIFT),
			.src = src + ((uintptr_t)done << PAGE_SHIFT),
			.len = (u64)min_u64(step, nr - done) << PAGE_SHIFT,
			.mode = mode | UFFDIO_COPY_MODE_DONTWAKE,
		};
		long ret = sys3(SYS_ioctl, vm->uffd, UFFDIO_COPY, &copy);

		if (copy.copy > 0)
			done += (u32)(copy.copy >> PAGE_SHIFT);
		else if (is_error(ret) && ret != -EAGAIN && !shorten(&step, ret, -ENOENT))
			return done ? (long)done : ret;
	}
	return done;
}

long vm_install(struct vm *vm, vpn_t vpn, const void *src, u32 nr, bool protect)
{
	must(nr > 0 && nr <= VM_RUN_MAX);
	must(vpn.val + nr <= vm->nr_pages);
	return uffd_copy(vm, vm_address(vm, vpn), (uintptr_t)src, nr, protect ? UFFDIO_COPY_MODE_WP : 0);
}

static long uffd_protect(struct vm *vm, uintptr_t start, u32 nr, bool protect)
{
	struct uffdio_writeprotect wp = {
		.range = { .start = start, .len = (u64)nr << PAGE_SHIFT },
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : UFFDIO_WRITEPROTECT_MODE_DONTWAKE,
	};
	long ret;

	do {
		ret = sys3(SYS_ioctl, vm->uffd, UFFDIO_WRITEPROTECT, &wp);
	} while (ret == -EAGAIN);
	return ret;
}

int vm_unprotect(struct vm *vm, vpn_t vpn, u32 nr)
{
	must(vpn.val + nr <= vm->nr_pages);
	return (int)uffd_protect(vm, vm_address(vm, vpn), nr, false);
}

int vm_protect(struct vm *vm, vpn_t vpn, u32 nr)
{
	must(vpn.val + nr <= vm->nr_pages);
	return (int)uffd_protect(vm, vm_address(vm, vpn), nr, true);
}

/* pagemap's bits 63 (present) and 62 (in the kernel's swap): either way the kernel has the page. */
static int pages_present(struct vm *vm, uintptr_t addr, u32 nr, u8 *present)
{
	u64 entries[VM_RESIDENT_MAX];
	long ret;

	must(nr <= VM_RESIDENT_MAX);
	if (vm->pagemap < 0)
		return -ENOSYS;
	ret = sys4(SYS_pread64, vm->pagemap, entries, nr * sizeof(u64), (addr >> PAGE_SHIFT) * sizeof(u64));
	if (ret != (long)(nr * sizeof(u64)))
		return is_error(ret) ? (int)ret : -EIO;
	for (u32 i = 0; i < nr; i++)
		present[i] = (entries[i] >> 62) != 0;
	return 0;
}

int vm_resident(struct vm *vm, vpn_t vpn, u32 nr, u8 *present)
{
	return pages_present(vm, vm_address(vm, vpn), nr, present);
}

/* Drops pages, locked ones too. Kernels before 5.18 must be asked to unlock them first. */
static void zap(uintptr_t addr, u32 nr)
{
	size_t bytes = (size_t)nr << PAGE_SHIFT;

	if (sys3(SYS_madvise, addr, bytes, MADV_DONTNEED) != -EINVAL ||
	    sys3(SYS_madvise, addr, bytes, MADV_DONTNEED_LOCKED) == 0)
		return;
	sys2(SYS_munlock, addr, bytes);
	must(sys3(SYS_madvise, addr, bytes, MADV_DONTNEED) == 0);
}

/* Pages that are in their frames and not in the window any more, from the first on. */
static u32 moved_unreported(struct vm *vm, uintptr_t src, uintptr_t dst, u32 nr)
{
	u8 at_src[VM_RUN_MAX], at_dst[VM_RUN_MAX];
	u32 moved = 0;

	must(nr <= VM_RUN_MAX);
	if (pages_present(vm, src, nr, at_src) || pages_present(vm, dst, nr, at_dst))
		return 0; /* not known: nothing is believed gone on a guess */
	while (moved < nr && !at_src[moved] && at_dst[moved])
		moved++;
	if (moved && vm->moves_unreported)
		atomic64_fetch_add(vm->moves_unreported, moved);
	return moved;
}

/* Is the page known to be absent? */
static bool is_absent(struct vm *vm, uintptr_t addr)
{
	u8 present;

	return !pages_present(vm, addr, 1, &present) && !present;
}

/* 1 or -EBUSY. */
static long move_one(struct vm *vm, uintptr_t src, uintptr_t dst)
{
	struct uffdio_move move = { .dst = dst, .src = src, .len = PAGE_SIZE, .mode = UFFDIO_MOVE_MODE_DONTWAKE };
	long ret = -EAGAIN;

	for (int tries = 0; ret == -EAGAIN && tries < MOVE_RETRIES_MAX; tries++)
		ret = sys3(SYS_ioctl, vm->uffd, UFFDIO_MOVE, &move);
	return !ret || moved_unreported(vm, src, dst, 1) ? 1 : -EBUSY;
}

/*
 * A page that MOVE refuses is shared by fork, was so, or is pinned by a device that writes to it. With faults by signal
 * the caller has another way. By thread a write access makes the page ours alone, if we may write at all; refused
 * again, it is pinned and stays. The page is present and not write-protected, so the access is no fault for us to
 * serve: its PTE is locked, and nobody could.
 */
static long steal_refused(struct vm *vm, uintptr_t src, uintptr_t dst, long err)
{
	if (vm->faults == VM_FAULTS_SIGNAL || sys3(SYS_madvise, src, PAGE_SIZE, MADV_POPULATE_WRITE))
		return err;
	return move_one(vm, src, dst);
}

static long steal_by_move(struct vm *vm, uintptr_t src, uintptr_t dst, u32 nr)
{
	u32 done = 0, step = nr;
	long ret = 0;

	for (int tries = 0; done < nr && tries < MOVE_RETRIES_MAX;) {
		struct uffdio_move move = {
			.dst = dst + ((uintptr_t)done << PAGE_SHIFT),
			.src = src + ((uintptr_t)done << PAGE_SHIFT),
			.len = (u64)min_u64(step, nr - done) << PAGE_SHIFT,
			.mode = UFFDIO_MOVE_MODE_DONTWAKE,
		};

		ret = sys3(SYS_ioctl, vm->uffd, UFFDIO_MOVE, &move);
		if (move.move > 0) {
			done += (u32)((u64)move.move >> PAGE_SHIFT);
			tries = 0;
		} else if (ret == -EAGAIN) {
			tries++;
		} else if (!shorten(&step, ret, -EINVAL)) {
			break;
		}
	}
	if (done < nr)
		done += moved_unreported(vm, src + ((uintptr_t)done << PAGE_SHIFT),
					 dst + ((uintptr_t)done << PAGE_SHIFT), nr - done);
	if (done)
		return done;
	if (ret == -ENOENT || ret == -EEXIST)
		return is_absent(vm, src) ? -ENOENT : -EBUSY;
	return ret == -EAGAIN ? -EBUSY : steal_refused(vm, src, dst, ret);
}

/*
 * VM_METHOD_COPY with faults by thread, for tests: safe only while no device writes to the pages. Write-protected, they
 * cannot be changed by the program under the copy; what cannot be read is made writable again.
 */
static long steal_by_copy(struct vm *vm, uintptr_t src, uintptr_t dst, u32 nr)
{
	long done, ret = uffd_protect(vm, src, nr, true);

	if (is_error(ret))
		return ret;
	done = uffd_copy(vm, dst, src, nr, 0);
	if (done > 0)
		sys3(SYS_madvise, src, (size_t)done << PAGE_SHIFT, MADV_DONTNEED);
	if (done < (long)nr) {
		u32 left = nr - (done > 0 ? (u32)done : 0);

		ret = uffd_protect(vm, src + ((uintptr_t)(nr - left) << PAGE_SHIFT), left, false);
		must(!is_error(ret));
	}
	return done;
}

long vm_steal(struct vm *vm, vpn_t vpn, frame_t frame, u32 nr)
{
	uintptr_t src = vm_address(vm, vpn), dst = (uintptr_t)vm_frame_data(vm, frame);

	must(vm->method == VM_METHOD_MOVE || vm->faults == VM_FAULTS_THREAD);
	must(nr > 0 && nr <= VM_RUN_MAX);
	must(vpn.val + nr <= vm->nr_pages);
	must(frame.val + nr <= vm->nr_steal_frames);
	return vm->method == VM_METHOD_MOVE ? steal_by_move(vm, src, dst, nr) : steal_by_copy(vm, src, dst, nr);
}

long vm_steal_unwritable(struct vm *vm, vpn_t vpn, frame_t frame, unsigned int prot)
{
	uintptr_t src = vm_address(vm, vpn);
	long moved = -EBUSY;

	must(vm->faults == VM_FAULTS_THREAD);
	must(prot & VM_READ);
	if (vm->method != VM_METHOD_MOVE || uffd_protect(vm, src, 1, true))
		return -EBUSY;
	if (!sys3(SYS_mprotect, src, PAGE_SIZE, PROT_READ | PROT_WRITE)) {
		moved = move_one(vm, src, (uintptr_t)vm_frame_data(vm, frame));
		must(!sys3(SYS_mprotect, src, PAGE_SIZE, PROT_READ | (prot & VM_EXEC ? PROT_EXEC : 0)));
	}
	if (moved < 0)
		must(!uffd_protect(vm, src, 1, false));
	return moved;
}

/* A page that the program may not read, or where a filter forbids process_vm_readv: /proc/self/mem reads it. */
static bool read_by_force(uintptr_t addr, void *page)
{
	long fd = sys4(SYS_openat, AT_FDCWD, "/proc/self/mem", O_RDONLY | O_CLOEXEC, 0), ret;

	if (is_error(fd))
		return false;
	ret = sys4(SYS_pread64, fd, page, PAGE_SIZE, addr);
	sys1(SYS_close, fd);
	return ret == (long)PAGE_SIZE;
}

u32 vm_read_pages(struct vm *vm, const vpn_t *vpns, frame_t frame, u32 nr)
{
	struct iovec from[VM_RUN_MAX], to;
	u32 done = 0;
	long ret;

	must(nr > 0 && nr <= VM_RUN_MAX);
	must(frame.val >= vm->nr_steal_frames && frame.val + nr <= vm->nr_frames);
	for (u32 i = 0; i < nr; i++)
		from[i] = (struct iovec){ (void *)vm_address(vm, vpns[i]), PAGE_SIZE };
	while (done < nr) {
		to.iov_base = vm_frame_data(vm, (frame_t){ frame.val + done });
		to.iov_len = (size_t)(nr - done) << PAGE_SHIFT;
		ret = sys6(SYS_process_vm_readv, sys0(SYS_getpid), &to, 1, &from[done], nr - done, 0);
		if (ret >= (long)PAGE_SIZE)
			done += (u32)((u64)ret >> PAGE_SHIFT);
		else if (read_by_force((uintptr_t)from[done].iov_base, to.iov_base))
			done++;
		else
			break;
	}
	return done;
}

void vm_zap(struct vm *vm, vpn_t vpn, u32 nr)
{
	must(vpn.val + nr <= vm->nr_pages);
	zap(vm_address(vm, vpn), nr);
}

int vm_lock_range(struct vm *vm, vpn_t vpn, u32 nr, bool lock)
{
	must(vpn.val + nr <= vm->nr_pages);
	if (!lock)
		return (int)sys2(SYS_munlock, vm_address(vm, vpn), (size_t)nr << PAGE_SHIFT);
	return (int)sys3(SYS_mlock2, vm_address(vm, vpn), (size_t)nr << PAGE_SHIFT, MLOCK_ONFAULT);
}

/* A page that MOVE refuses: while it is write-protected the program cannot change it under the copy. */
static long move_by_copy(struct vm *vm, uintptr_t src, uintptr_t dst)
{
	long ret = uffd_protect(vm, src, 1, true);

	if (is_error(ret))
		return ret;
	ret = uffd_copy(vm, dst, src, 1, 0);
	if (ret > 0)
		zap(src, 1);
	else
		must(!is_error(uffd_protect(vm, src, 1, false)));
	return ret;
}

int vm_move(struct vm *vm, vpn_t from, vpn_t to)
{
	uintptr_t src = vm_address(vm, from), dst = vm_address(vm, to);
	long ret;

	must(vm->registered && from.val < vm->nr_pages && to.val < vm->nr_pages);
	ret = vm->method == VM_METHOD_MOVE ? steal_by_move(vm, src, dst, 1) : -EINVAL;
	if (ret <= 0 && ret != -ENOENT)
		ret = move_by_copy(vm, src, dst);
	if (ret == -EFAULT)
		ret = is_absent(vm, src) ? -ENOENT : -EBUSY;
	return ret > 0 ? 0 : ret ? (int)ret : -EBUSY;
}

/* A call must stay within one of the kernel's mappings, of which there may be more than we know. */
int vm_remap(struct vm *vm, vpn_t from, vpn_t to, u32 nr)
{
	u32 done = 0, step = nr;

	while (done < nr) {
		u32 now = (u32)min_u64(step, nr - done);
		size_t bytes = (size_t)now << PAGE_SHIFT;
		long ret = sys5(SYS_mremap, vm_address(vm, from) + ((uintptr_t)done << PAGE_SHIFT), bytes, bytes,
				MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
				vm_address(vm, to) + ((uintptr_t)done << PAGE_SHIFT));

		if (!is_error(ret))
			done += now;
		else if (ret == -EFAULT && step > 1)
			step = (step + 1) / 2;
		else
			return done && vm_remap(vm, to, from, done) ? -EIO : (int)ret;
	}
	return 0;
}

void vm_zap_pages(struct vm *vm, const vpn_t *vpns, u32 nr)
{
	struct iovec ranges[VM_RUN_MAX];
	u32 used = 0;

	must(nr > 0 && nr <= VM_RUN_MAX);
	for (u32 i = 0; i < nr; i++) {
		uintptr_t addr = vm_address(vm, vpns[i]);
		struct iovec *last = used ? &ranges[used - 1] : NULL;

		must(vpns[i].val < vm->nr_pages);
		if (last && (uintptr_t)last->iov_base + last->iov_len == addr)
			last->iov_len += PAGE_SIZE;
		else
			ranges[used++] = (struct iovec){ (void *)addr, PAGE_SIZE };
	}
	for (u32 i = os_release_ranges(ranges, used); i < used; i++)
		zap((uintptr_t)ranges[i].iov_base, (u32)(ranges[i].iov_len >> PAGE_SHIFT));
}

void vm_zap_frames(struct vm *vm, frame_t frame, u32 nr)
{
	must(frame.val + nr <= vm->nr_frames);
	sys3(SYS_madvise, vm_frame_data(vm, frame), (size_t)nr << PAGE_SHIFT, MADV_DONTNEED);
}

int vm_protect_range(struct vm *vm, vpn_t vpn, u32 nr, unsigned int prot)
{
	must(vpn.val + nr <= vm->nr_pages);
	if (vm->dumps)
		sys3(SYS_madvise, vm_address(vm, vpn), (size_t)nr << PAGE_SHIFT,
		     prot == VM_NONE ? MADV_DONTDUMP : MADV_DODUMP);
	return (int)sys3(SYS_mprotect, vm_address(vm, vpn), (size_t)nr << PAGE_SHIFT,
			 (prot & VM_READ ? PROT_READ : 0) | (prot & VM_WRITE ? PROT_WRITE : 0) |
				 (prot & VM_EXEC ? PROT_EXEC : 0));
}

/* ---- faults by message ---- */

long vm_next_faults(struct vm *vm, struct vm_fault *faults, u32 nr, int timeout_ms)
{
	struct pollfd fd = { .fd = vm->uffd, .events = POLLIN };
	struct uffd_msg msgs[VM_FAULTS_MAX];
	long ret = sys3(SYS_poll, &fd, 1, timeout_ms);
	u32 got = 0;

	must(nr > 0 && nr <= VM_FAULTS_MAX);
	if (ret > 0)
		ret = sys3(SYS_read, vm->uffd, msgs, nr * sizeof(msgs[0]));
	if (ret <= 0)
		return ret == -EAGAIN ? 0 : ret;
	for (u32 i = 0; i < (u32)ret / sizeof(msgs[0]); i++) {
		u64 flags = msgs[i].arg.pagefault.flags;

		if (msgs[i].event != UFFD_EVENT_PAGEFAULT || !vm_owns(vm, msgs[i].arg.pagefault.address))
			continue;
		faults[got++] = (struct vm_fault){
			.vpn = vm_vpn(vm, msgs[i].arg.pagefault.address),
			.write = flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP),
			.tid = msgs[i].arg.pagefault.feat.ptid,
		};
	}
	return got;
}

void vm_wake(struct vm *vm, vpn_t vpn)
{
	struct uffdio_range range = { .start = vm_address(vm, vpn), .len = PAGE_SIZE };

	sys3(SYS_ioctl, vm->uffd, UFFDIO_WAKE, &range);
}

int vm_poison(struct vm *vm, vpn_t vpn)
{
	struct uffdio_poison poison = {
		.range = { .start = vm_address(vm, vpn), .len = PAGE_SIZE },
		.mode = 0,
	};
	long ret;

	atomic32_set(&vm->poisoned, 1);
	do {
		ret = sys3(SYS_ioctl, vm->uffd, UFFDIO_POISON, &poison);
	} while (ret == -EAGAIN);
	return (int)ret;
}
