// SPDX-License-Identifier: MIT
/*
 * The shim's life: what it reads from the environment, the window, the devices, and the moment of adoption, when the
 * net and the handlers come in. Before that moment the program runs with nothing of ours but the wrappers.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "base/parse.h"
#include "base/print.h"
#include "base/syscall.h"
#include "fault/hold.h"
#include "fault/net.h"
#include "fault/signal.h"
#include "preload/env.h"
#include "preload/mm.h"
#include "preload/quiesce.h"
#include "preload/shim.h"
#include "preload/signals.h"
#include "preload/threads.h"

_Static_assert(SHIM_WINDOW == NET_WINDOW, "the net's filter knows the window by its address");

enum { STATUS_CANNOT = 125 };

enum state { STATE_NEW, STATE_STARTING, STATE_OFF, STATE_ON };

/* Written while the process has one thread (the allocator's first call, or our constructor). */
static enum state state;
static struct mm the_mm;
static struct mm_stats own_stats;
static bool net_is_armed;

/* ---- signals ---- */

/* SIGSYS stays open: a thread that waits for a lock of ours can still be parked by the adopter (quiesce.h). */
u64 shim_block_signals(void)
{
	u64 mask = ~((u64)1 << (SIGSYS - 1)), old = 0;

	sys4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &old, sizeof(mask));
	return old;
}

void shim_restore_signals(u64 mask)
{
	sys4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
}

static void on_sigbus(int sig, siginfo_t *info, void *ucontext)
{
	if (fault_signal(&the_mm, info, ucontext, NULL) == SIGNAL_NOT_OURS)
		signals_chain(sig, info, ucontext);
}

/* ---- what the net needs ---- */

static int net_hold_range(uintptr_t addr, size_t len, bool write)
{
	int ret = hold_range(&the_mm, addr, len, write);

	return ret == -EIO ? -EFAULT : ret;
}

static void net_release_range(uintptr_t addr, size_t len)
{
	release_range(&the_mm, addr, len);
}

/*
 * A child would have no userfaultfd on its copy of the window and read pages that are out as zeros: refused, and said
 * once. Before adoption the window is ordinary memory, and a child is as good as its parent.
 */
static long net_fork(long nr, const long args[6])
{
	static struct atomic32 told;

	if (mm_is_adopted(&the_mm)) {
		if (!atomic32_xchg_acquire(&told, 1))
			print_err("pid %d: fork refused: not possible once the program has passed its memory limit; "
				  "posix_spawn and vfork work, or raise --memory", (int)sys0(SYS_getpid));
		return -ENOSYS;
	}
	return sys6(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
}

static bool net_chain(int sig, void *info, void *ucontext)
{
	return quiesce_ack(info, ucontext) || signals_chain(sig, info, ucontext);
}

/* A stack of the program's own in the window: the kernel writes there as long as the thread lives, and after. */
static int hold_for_good(uintptr_t addr, size_t bytes)
{
	return hold_range(&the_mm, addr, bytes, true);
}

static const struct net_ops net_ops = {
	.hold = net_hold_range,
	.release = net_release_range,
	.mm_call = mm_syscall,
	.fork_call = net_fork,
	.signal_call = signals_call,
	.chain = net_chain,
};

/* ---- fork before adoption ---- */

/* The forking thread's mask between prepare and end. Guarded by areas.lock. */
static u64 fork_mask;

/* The areas must be whole in the child, and the locks free. Signals stay blocked for as long as they are held. */
static void fork_prepare(void)
{
	u64 mask = shim_block_signals();

	mutex_lock(&the_mm.areas.lock);
	fork_mask = mask;
	signals_fork_begin();
	threads_fork_begin();
}

static void fork_end(bool child)
{
	u64 mask = fork_mask;

	threads_fork_end(child);
	signals_fork_end(child);
	mutex_unlock(&the_mm.areas.lock);
	shim_restore_signals(mask);
}

static void fork_parent(void)
{
	fork_end(false);
}

static void fork_child(void)
{
	fork_end(true);
}

/* ---- adoption ---- */

/* Until the net brings its own handler, SIGSYS is what parks a thread. */
static void on_sigsys(int sig, siginfo_t *info, void *ucontext)
{
	net_chain(sig, info, ucontext);
}

/* Filter in, with every other thread parked outside the kernel. */
static int arm_net(struct mm *mm)
{
	int ret = signals_own(SIGSYS, on_sigsys, 0, SA_RESTART | SA_NODEFER);

	if (!ret)
		ret = quiesce_park();
	if (ret)
		return ret;
	ret = net_arm(SHIM_WINDOW, (size_t)mm->vm.nr_pages << PAGE_SHIFT, mm->vm.uffd, &net_ops);
	quiesce_release();
	return ret;
}

static int on_adopt(struct mm *mm)
{
	int ret = signals_own(SIGBUS, on_sigbus, ~((u64)1 << (SIGSYS - 1)), 0);

	if (!ret && !net_is_armed)
		ret = arm_net(mm);
	net_is_armed = !ret;
	if (ret)
		print_err("pid %d: cannot manage memory beyond the limit: error %d (seccomp or signals refused); "
			  "see `weir probe`", (int)sys0(SYS_getpid), -ret);
	return ret;
}

/* ---- the beginning ---- */

static _Noreturn void give_up(const char *what, int err)
{
	print_err("pid %d: %s (error %d); see `weir probe`", (int)sys0(SYS_getpid), what, -err);
	sys1(SYS_exit_group, STATUS_CANNOT);
	__builtin_unreachable();
}

static u64 env_bytes(const char *name)
{
	const char *text = getenv(name);
	u64 bytes = 0;

	if (text && (parse_size(text, &bytes) || bytes < MM_LIMIT_PAGES_MIN * PAGE_SIZE))
		give_up("a limit in the environment is not a number of bytes, or too small", -EINVAL);
	return bytes;
}

static bool env_is(const char *name, const char *value)
{
	const char *text = getenv(name);

	return text && !strcmp(text, value);
}

/*
 * The parent's block of counters, if it is meant for this process: "<fd>:<pid>". An exec in between keeps the pid and
 * may have lost the descriptor to something else, so what is there must look like it: a memfd of that size.
 */
static struct mm_stats *env_stats(void)
{
	const char *text = getenv(WEIR_ENV_STATS), *colon = text ? strchr(text, ':') : NULL;
	char fd_text[16];
	struct stat st;
	s64 fd, pid;
	void *map;

	if (!colon || (size_t)(colon - text) >= sizeof(fd_text))
		return &own_stats;
	memcpy(fd_text, text, (size_t)(colon - text));
	fd_text[colon - text] = '\0';
	if (parse_int(fd_text, 0, INT32_MAX, &fd) || parse_int(colon + 1, 1, INT32_MAX, &pid) ||
	    pid != sys0(SYS_getpid))
		return &own_stats;
	if (fstat((int)fd, &st) || st.st_size != sizeof(struct mm_stats) || sys2(SYS_fcntl, fd, 1034) < 0)
		return &own_stats;
	map = (void *)sys6(SYS_mmap, NULL, sizeof(struct mm_stats), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return (uintptr_t)map > -4096ul ? &own_stats : map;
}

static void open_swap(struct mm *mm)
{
	const char *spec = getenv(WEIR_ENV_SWAP);
	struct swap_device_config cfg;
	struct swap_device *dev;
	char err[160];
	int ret = swap_device_parse(spec ? spec : "zram", &cfg, err, sizeof(err));

	if (ret)
		give_up(err, ret);
	if (!cfg.size)
		cfg.size = mm_default_swap_bytes(mm);
	ret = swap_device_open(&cfg, &dev);
	if (!ret)
		ret = mm_swapon(mm, dev);
	if (ret)
		give_up("the swap device cannot be opened", ret);
}

static void start(u64 memory, u64 resident)
{
	struct mm_config cfg = {
		.memory_pages = memory >> PAGE_SHIFT,
		.resident_pages = resident >> PAGE_SHIFT,
		.window_hint = SHIM_WINDOW,
		.nr_pages = (u32)(SHIM_WINDOW_BYTES >> PAGE_SHIFT),
		.nr_cpus = os_nr_cpus(),
		.method = env_is(WEIR_ENV_VM, "copy") ? VM_METHOD_COPY :
			  env_is(WEIR_ENV_VM, "move") ? VM_METHOD_MOVE : VM_METHOD_AUTO,
		.stats = env_stats(),
		.on_adopt = on_adopt,
	};
	bool inherited = net_inherited();
	int ret;

	signals_init();
	threads_init(SHIM_WINDOW, SHIM_WINDOW_BYTES);
	threads_hold = hold_for_good;
	threads_leave = net_thread_exit;
	signals_fetch = net_fetch;
	signals_store = net_store;
	ret = mm_create(&the_mm, &cfg);
	if (ret)
		give_up("the window cannot be reserved: too little address space (ulimit -v), or its place is taken",
			ret);
	open_swap(&the_mm);
	if (inherited) {
		ret = signals_own(SIGSYS, on_sigsys, 0, SA_RESTART | SA_NODEFER);
		if (!ret)
			ret = net_arm_inherited(SHIM_WINDOW, SHIM_WINDOW_BYTES, -1, &net_ops);
		if (ret)
			give_up("the inherited system-call filter cannot be served", ret);
	}
	pthread_atfork(fork_prepare, fork_parent, fork_child);
}

static void init(void)
{
	u64 memory, resident;

	if (!environ)
		return; /* too early to know */
	state = STATE_STARTING;
	memory = env_bytes(WEIR_ENV_MEMORY);
	resident = env_bytes(WEIR_ENV_RESIDENT);
	if (!memory && !resident) {
		state = STATE_OFF;
		return;
	}
	start(memory, resident);
	state = STATE_ON;
	if (env_is(WEIR_ENV_ADOPT, "now") && mm_adopt(&the_mm))
		give_up("memory cannot be managed", -ENOSYS);
}

struct mm *shim_mm(void)
{
	if (unlikely(state == STATE_NEW))
		init();
	return likely(state == STATE_ON) ? &the_mm : NULL;
}

__attribute__((constructor(101))) static void shim_constructor(void)
{
	if (shim_mm() && threads_attach_self())
		give_up("no memory for the signal stack", -ENOMEM);
}
