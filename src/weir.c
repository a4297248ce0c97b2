// SPDX-License-Identifier: MIT
/* The public library (include/weir.h) on top of the core: options, units, signals. */
#include "weir.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "base/os.h"
#include "base/syscall.h"
#include "fault/hold.h"
#include "fault/signal.h"
#include "fault/thread.h"
#include "mm/mm.h"
#include "swap/swap_device.h"

#define API __attribute__((visibility("default")))

enum { WINDOW_BYTES_MAX_SHIFT = 40 };

struct weir {
	struct mm mm;
	struct mm_stats stats;
	struct sigaction previous; /* SIGBUS before us */
	struct fault_threads threads; /* WEIR_FAULTS_THREAD, once adopted */
	void (*out_of_memory)(const char *why);
};

_Static_assert(WEIR_MEMORY_MIN == MM_LIMIT_PAGES_MIN * PAGE_SIZE, "the stated and the real minimum");

/* The process's only weir. Written by weir_init and weir_destroy, read by the handler. */
static struct weir *the_weir;

/* ---- signals ---- */

static void pass_on(struct weir *w, int sig, siginfo_t *info, void *ucontext)
{
	const struct sigaction *previous = &w->previous;

	if (previous->sa_flags & SA_SIGINFO) {
		previous->sa_sigaction(sig, info, ucontext);
	} else if (previous->sa_handler == SIG_DFL || previous->sa_handler == SIG_IGN) {
		/* A fault repeats on return and meets the default action; a signal that was sent is sent again. */
		signal(sig, SIG_DFL);
		if (info->si_code <= 0)
			raise(sig);
	} else {
		previous->sa_handler(sig);
	}
}

static void on_sigbus(int sig, siginfo_t *info, void *ucontext)
{
	struct weir *w = __atomic_load_n(&the_weir, __ATOMIC_ACQUIRE);

	if (w && fault_signal(&w->mm, info, ucontext, w->out_of_memory) == SIGNAL_NOT_OURS)
		pass_on(w, sig, info, ucontext);
}

static int install_handler(struct weir *w)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	sigfillset(&action.sa_mask);
	return sigaction(SIGBUS, &action, &w->previous) ? -errno : 0;
}

/* The core takes locks that a program's signal handler may want too, by touching memory. */
static u64 block_signals(void)
{
	u64 all = ~(u64)0, old = 0;

	sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, sizeof(all));
	return old;
}

static void restore_signals(u64 old)
{
	sys4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
}

/* ---- life ---- */

/* The window takes most of the address space that RLIMIT_AS leaves; tables and store need the rest. */
static u64 choose_window(const struct weir_options *o)
{
	u64 bytes = o->window ? o->window : (u64)1 << WINDOW_BYTES_MAX_SHIFT;
	struct rlimit as;

	if (getrlimit(RLIMIT_AS, &as) == 0 && as.rlim_cur != RLIM_INFINITY)
		bytes = min_u64(bytes, as.rlim_cur / 4);
	return ALIGN_UP(min_u64(bytes, (u64)1 << WINDOW_BYTES_MAX_SHIFT), PAGE_SIZE);
}

static int check_options(const struct weir_options *o)
{
	if (!o->memory && !o->resident)
		return -EINVAL;
	if ((o->memory && o->memory < WEIR_MEMORY_MIN) || (o->resident && o->resident < WEIR_MEMORY_MIN))
		return -EINVAL;
	if (o->vm > WEIR_VM_COPY || o->faults > WEIR_FAULTS_THREAD)
		return -EINVAL;
	return 0;
}

/* Says now what adoption would run into later. */
static int check_userfaultfd(enum vm_method method, enum vm_faults faults)
{
	struct vm_config cfg = {
		.nr_pages = 1,
		.nr_steal_frames = 1,
		.nr_plain_frames = 1,
		.method = method,
		.faults = faults,
	};
	struct vm vm;
	int ret = vm_open(&vm, &cfg);

	if (ret)
		return ret;
	ret = vm_register(&vm);
	if (!ret)
		ret = vm_manage(&vm, (vpn_t){ 0 }, 1);
	vm_close(&vm);
	return ret;
}

static int on_adopt(struct mm *mm)
{
	struct weir *w = the_weir;

	return mm->vm.faults == VM_FAULTS_THREAD ? fault_threads_start(&w->threads, mm, w->out_of_memory) : 0;
}

API int weir_init(const struct weir_options *options, struct weir **out)
{
	static const enum vm_method methods[] = { VM_METHOD_AUTO, VM_METHOD_MOVE, VM_METHOD_COPY };
	enum vm_faults faults = options->faults == WEIR_FAULTS_THREAD ? VM_FAULTS_THREAD : VM_FAULTS_SIGNAL;
	struct mm_config cfg = { 0 };
	struct weir *w;
	int ret = check_options(options);

	if (!ret && the_weir)
		ret = -EBUSY;
	if (!ret)
		ret = check_userfaultfd(methods[options->vm], faults);
	if (ret)
		return ret;
	w = os_reserve(sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->out_of_memory = options->out_of_memory;
	cfg.memory_pages = options->memory >> PAGE_SHIFT;
	cfg.resident_pages = options->resident >> PAGE_SHIFT;
	cfg.nr_pages = (u32)(choose_window(options) >> PAGE_SHIFT);
	cfg.nr_cpus = os_nr_cpus();
	cfg.method = methods[options->vm];
	cfg.faults = faults;
	cfg.on_adopt = on_adopt;
	cfg.stats = &w->stats;
	ret = mm_create(&w->mm, &cfg);
	if (ret)
		goto free_weir;
	__atomic_store_n(&the_weir, w, __ATOMIC_RELEASE);
	if (faults == VM_FAULTS_SIGNAL)
		ret = install_handler(w);
	if (ret)
		goto destroy_mm;
	*out = w;
	return 0;

destroy_mm:
	__atomic_store_n(&the_weir, NULL, __ATOMIC_RELEASE);
	mm_destroy(&w->mm);
free_weir:
	os_unreserve(w, sizeof(*w));
	return ret;
}

API void weir_destroy(struct weir *w)
{
	if (!w)
		return;
	if (w->mm.vm.faults == VM_FAULTS_SIGNAL)
		sigaction(SIGBUS, &w->previous, NULL);
	else
		fault_threads_stop(&w->threads);
	__atomic_store_n(&the_weir, NULL, __ATOMIC_RELEASE);
	mm_destroy(&w->mm);
	os_unreserve(w, sizeof(*w));
}

/* ---- devices ---- */

API int weir_swapon(struct weir *w, const char *spec)
{
	struct swap_device_config cfg;
	struct swap_device *dev;
	char err[160];
	u64 mask;
	int ret = swap_device_parse(spec, &cfg, err, sizeof(err));

	if (ret)
		return ret;
	if (!cfg.size)
		cfg.size = mm_default_swap_bytes(&w->mm);
	ret = swap_device_open(&cfg, &dev);
	if (ret)
		return ret;
	mask = block_signals();
	ret = mm_swapon(&w->mm, dev);
	restore_signals(mask);
	if (ret)
		dev->ops->close(dev);
	return ret;
}

API int weir_swapoff(struct weir *w, const char *name)
{
	u64 mask = block_signals();
	int ret = mm_swapoff(&w->mm, name);

	restore_signals(mask);
	return ret;
}

/* ---- memory ---- */

/* Rounds [addr, addr + bytes) out to pages of the window. */
static bool page_range(struct weir *w, const void *addr, size_t bytes, vpn_t *start, u32 *nr)
{
	uintptr_t first = (uintptr_t)addr & PAGE_MASK, end = (uintptr_t)addr + bytes;

	if (!bytes || end < (uintptr_t)addr || !vm_owns(&w->mm.vm, first) || !vm_owns(&w->mm.vm, end - 1))
		return false;
	*start = vm_vpn(&w->mm.vm, first);
	*nr = (u32)bytes_to_pages(end - first);
	return true;
}

API void *weir_map(struct weir *w, size_t bytes)
{
	u64 pages = bytes_to_pages(bytes), mask;
	vpn_t start;
	int ret;

	if (!pages || pages > w->mm.vm.nr_pages)
		return NULL;
	mask = block_signals();
	ret = mm_map(&w->mm, (u32)pages, 1, VM_READ | VM_WRITE, &start);
	restore_signals(mask);
	return ret ? NULL : (void *)vm_address(&w->mm.vm, start);
}

API int weir_unmap(struct weir *w, void *addr, size_t bytes)
{
	vpn_t start;
	u64 mask;
	u32 nr;
	int ret;

	if (!page_range(w, addr, bytes, &start, &nr) || (uintptr_t)addr % PAGE_SIZE)
		return -EINVAL;
	mask = block_signals();
	ret = mm_unmap(&w->mm, start, nr);
	restore_signals(mask);
	return ret;
}

API long weir_advise(struct weir *w, void *addr, size_t bytes, enum weir_advice advice)
{
	vpn_t start;
	long ret = 0;
	u64 mask;
	u32 nr;

	if (!page_range(w, addr, bytes, &start, &nr))
		return -EINVAL;
	mask = block_signals();
	if (!mm_is_mapped(&w->mm, start, nr))
		ret = -EINVAL;
	else if (advice == WEIR_DONTNEED)
		mm_drop(&w->mm, start, nr);
	else if (advice == WEIR_PAGEOUT)
		ret = (long)mm_pageout(&w->mm, start, nr);
	else if (advice == WEIR_COLD)
		mm_cold(&w->mm, start, nr);
	else if (advice == WEIR_WILLNEED)
		ret = mm_will_need(&w->mm, start, nr);
	else
		ret = -EINVAL;
	restore_signals(mask);
	return ret;
}

API int weir_hold(struct weir *w, const void *addr, size_t bytes, int write)
{
	return hold_range(&w->mm, (uintptr_t)addr, bytes, write != 0);
}

API void weir_release(struct weir *w, const void *addr, size_t bytes)
{
	release_range(&w->mm, (uintptr_t)addr, bytes);
}

API void weir_stats(const struct weir *w, struct weir_stats *stats)
{
	mm_stats_sum(&w->stats, stats);
}
