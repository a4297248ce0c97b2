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
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "base/parse.h"
#include "base/print.h"
#include "base/spares.h"
#include "base/syscall.h"
#include "fault/gate.h"
#include "fault/hold.h"
#include "fault/net.h"
#include "fault/signal.h"
#include "fault/thread.h"
#include "mm/fork.h"
#include "mm/reclaim.h"
#include "preload/devices.h"
#include "preload/env.h"
#include "preload/mm.h"
#include "preload/mm_internal.h"
#include "preload/quiesce.h"
#include "preload/shim.h"
#include "preload/signals.h"
#include "preload/stress.h"
#include "preload/threads.h"
#include "preload/trace.h"
#include "preload/tree.h"

_Static_assert(SHIM_WINDOW == NET_WINDOW, "the net's filter knows the window by its address");

enum { STATUS_CANNOT = 125, SPARES = 16, SPARES_LIMIT_MIN = 256 };

enum state { STATE_NEW, STATE_STARTING, STATE_OFF, STATE_ON };

/* Written while the process has one thread (the allocator's first call, or our constructor). */
static enum state state;
static struct mm the_mm;
static struct run_counters own_counters;
static struct fault_threads fault_threads;
static struct atomic32 net_is_armed; /* set once, with the gate entered (release) */

/* ---- signals ---- */

/*
 * SIGSYS stays open: a thread that waits for a lock of ours can still be parked by the adopter (quiesce.h). SIGBUS too:
 * libc touches the heap between the handlers of fork.
 */
static u64 block_signals(void)
{
	u64 mask = ~((u64)1 << (SIGSYS - 1) | (u64)1 << (SIGBUS - 1)), old = 0;

	sys4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &old, sizeof(mask));
	return old;
}

static void restore_signals(u64 mask)
{
	sys4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
}

struct shim_visit shim_enter(void)
{
	struct shim_visit visit = { .mask = block_signals() };

	visit.shard = gate_enter(&core_gate);
	return visit;
}

void shim_leave(struct shim_visit visit)
{
	gate_leave(&core_gate, visit.shard);
	restore_signals(visit.mask);
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

static bool is_unmapped(const void *addr)
{
	unsigned int prot;

	return vm_owns(&the_mm.vm, (uintptr_t)addr) && !mm_prot_of(&the_mm, vm_vpn(&the_mm.vm, (uintptr_t)addr), &prot);
}

static size_t net_room(void)
{
	u64 room = mm_hold_room(&the_mm), reserve = mm_hold_most(&the_mm) / 8;

	return room > reserve ? (room - reserve) << PAGE_SHIFT : 0;
}

static void net_pause(u64 ns)
{
	reclaim_pause(&the_mm, ns);
}

static _Noreturn void give_up(const char *what, int err)
{
	print_err("pid %d: %s (error %d); see `weir probe`", (int)sys0(SYS_getpid), what, -err);
	sys1(SYS_exit_group, STATUS_CANNOT);
	__builtin_unreachable();
}

/* Not in the tree: nothing has been done to the process yet, and it ends. */
static _Noreturn void refuse(int err, const char *path)
{
	int pid = (int)sys0(SYS_getpid);

	if (err == -EAGAIN)
		print_err("pid %d: no room for another process under the limit that this `weir run` shares among all "
			  "of them; raise it, or say --per-process",
			  pid);
	else
		print_err("pid %d: the limit that this `weir run` shares cannot be reached at %s (error %d); without "
			  "/proc or after a change of user say --per-process",
			  pid, path, -err);
	sys1(SYS_exit_group, STATUS_CANNOT);
	__builtin_unreachable();
}

/* ---- fork ---- */

/* The thread that is forking, from prepare to end, and its signal mask. Written with the gate closed. */
static struct atomic32 forking_tid;
static u64 fork_mask;
static int fork_error; /* not 0: there must be no fork, and nothing but the gate is prepared for it */
static int fork_pid; /* the child's, as mm_forked() was told; 0: not yet */

static bool by_thread(void)
{
	return the_mm.vm.faults == VM_FAULTS_THREAD;
}

/*
 * Nobody else is in the core from here on; what this thread touches on its way to the system call is still served, as
 * it passes the gate itself.
 */
static void fork_prepare(void)
{
	u64 mask = block_signals();

	gate_close(&core_gate);
	fork_mask = mask;
	fork_pid = 0;
	fork_error = mm_fork_begin(&the_mm);
	if (fork_error) {
		atomic32_set(&forking_tid, sync_thread_id());
		return;
	}
	tree_fork_begin();
	signals_fork_begin();
	threads_fork_begin();
	atomic32_set(&forking_tid, sync_thread_id());
}

static void fork_parent(void)
{
	u64 mask = fork_mask;

	if (atomic32_read(&forking_tid) != sync_thread_id())
		return; /* done at the system call already */
	atomic32_set(&forking_tid, 0);
	if (!fork_error) {
		threads_fork_end(false);
		signals_fork_end(false);
		tree_fork_parent();
		if (!fork_pid)
			mm_forked(&the_mm, 0);
		mm_fork_parent(&the_mm);
	}
	gate_open(&core_gate);
	restore_signals(mask);
}

/* As early as possible: whatever libc touches next must be served. */
static void fork_child(void)
{
	static struct mm_stats child_stats;
	u64 mask = fork_mask;
	int ret;

	/* Done at the system call already, but for the mask: the SIGSYS handler's return has blocked all again. */
	if (!atomic32_read(&forking_tid)) {
		restore_signals(mask);
		return;
	}
	atomic32_set(&forking_tid, 0);
	threads_fork_end(true);
	signals_fork_end(true);
	lock_fork_child();
	ret = tree_fork_child(&the_mm);
	if (ret)
		refuse(ret, "fork");
	devices_fork_child(&the_mm);
	ret = mm_fork_child(&the_mm, &child_stats);
	trace_forked(the_mm.stats);
	if (!ret && by_thread() && mm_is_adopted(&the_mm))
		ret = fault_threads_start_in_child(&fault_threads);
	if (ret)
		give_up("memory cannot be managed in a forked child", ret);
	gate_open_in_child(&core_gate);
	threads_hold_again();
	tree_fork_child_end(&the_mm);
	if (mm_is_adopted(&the_mm) && stress_start())
		give_up("WEIR_STRESS: no thread", -EAGAIN);
	restore_signals(mask);
}

/*
 * fork at the system call, from the SIGSYS handler. Reached through libc, prepare has run and the parent's end will;
 * a bare clone has neither. The child is made whole here in both cases, as libc touches the heap before it calls
 * anybody.
 */
static long net_fork(long nr, const long args[6])
{
	bool prepared = atomic32_read(&forking_tid) == sync_thread_id();
	long ret;

	if (!prepared)
		fork_prepare();
	ret = fork_error ? fork_error : sys6(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
	fork_pid = (int)ret;
	if (ret && !fork_error)
		mm_forked(&the_mm, fork_pid);
	if (ret == 0)
		fork_child();
	else if (!prepared)
		fork_parent();
	return ret;
}

/*
 * By libc. With handler threads a fault on the way to the system call would find the gate closed: there the call
 * itself is early enough, once the net can catch it.
 */
static void fork_prepare_libc(void)
{
	if (by_thread() && atomic32_load_acquire(&net_is_armed))
		return;
	fork_prepare();
	/* Since that look? */
	if (by_thread() && atomic32_load_acquire(&net_is_armed))
		fork_parent();
}

static bool net_chain(int sig, void *info, void *ucontext)
{
	return quiesce_ack(info, ucontext) || signals_chain(sig, info, ucontext);
}

/* What the kernel reads and writes as long as a thread lives, and after. */
static int hold_for_thread(uintptr_t addr, size_t bytes)
{
	return hold_range(&the_mm, addr, bytes, true);
}

/* kernel_faults is set at the start. */
static struct net_ops net_ops = {
	.hold = net_hold_range,
	.release = net_release_range,
	.room = net_room,
	.pause = net_pause,
	.exit_call = threads_exit,
	.mm_call = mm_syscall,
	.fork_call = net_fork,
	.signal_call = signals_call,
	.chain = net_chain,
	.efault = trace_efault,
};

/* ---- adoption ---- */

/* Until the net brings its own handler, SIGSYS is what parks a thread. */
static void on_sigsys(int sig, siginfo_t *info, void *ucontext)
{
	net_chain(sig, info, ucontext);
}

/* Where devices that come later are to be: above the program's own limit, where that can be. */
static void guard_spares(u64 nofile)
{
	static bool there; /* of an adoption that failed later on */
	int fds[SPARES];
	struct rlimit limit;
	u32 nr;

	/* A program that has few needs them itself. */
	if (there || signals_in_vfork_child() || sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit) ||
	    (!nofile && limit.rlim_cur < SPARES_LIMIT_MIN))
		return;
	there = true;
	nr = spares_open(SPARES, nofile, fds);
	for (u32 i = 0; i < nr; i++) {
		if (net_guard(fds[i]))
			sys1(SYS_close, fds[i]);
		else
			spares_keep(fds[i], true);
	}
}

/* What devices work with is theirs from here on: the program may have closed it, and may no longer. */
static int guard_devices(struct mm *mm)
{
	bool forked = !signals_in_vfork_child();
	int fds[SWAP_FDS_MAX], ret = 0;

	for (u32 type = 0; ret >= 0 && type < atomic32_read(&mm->nr_swap); type++) {
		struct swap_device *dev = mm->swap[type].dev;
		int nr = dev ? swap_device_begin(dev, forked, fds) : 0;

		ret = nr < 0 ? nr : 0;
		for (int i = 0; !ret && i < nr; i++) {
			ret = net_guard(fds[i]);
			spares_keep(fds[i], false);
		}
	}
	return ret;
}

/* Filter in, with every other thread parked outside the kernel. */
static int arm_net(struct mm *mm)
{
	int ret = signals_own(SIGSYS, on_sigsys, 0, SA_RESTART | SA_NODEFER);
	u64 nofile;

	if (ret)
		return ret;
	nofile = os_nofile_raise();
	ret = guard_devices(mm);
	if (!ret && devices_may_change())
		guard_spares(nofile);
	if (!ret)
		ret = quiesce_park();
	if (!ret) {
		ret = net_arm(SHIM_WINDOW, (size_t)mm->vm.nr_pages << PAGE_SHIFT, mm->vm.uffd, &net_ops);
		if (!ret)
			signals_route();
		quiesce_release();
	}
	os_nofile_restore(nofile);
	return ret;
}

static int on_adopt(struct mm *mm)
{
	int ret = by_thread() ? 0 : signals_own(SIGBUS, on_sigbus, ~((u64)1 << (SIGSYS - 1)), 0);

	tree_adopted(mm);
	if (!ret && !atomic32_load_acquire(&net_is_armed)) {
		ret = arm_net(mm);
		if (!ret)
			atomic32_store_release(&net_is_armed, 1);
	}
	if (!ret && by_thread())
		ret = fault_threads_start(&fault_threads, mm, NULL);
	if (!ret)
		ret = stress_start();
	if (!ret)
		devices_start(mm);
	if (!ret)
		trace_adopted();
	return ret;
}

static const char *refusal(long err)
{
	switch (err) {
	case -EMFILE:
		return "no file descriptor is left; raise `ulimit -n`";
	case -ENFILE:
		return "no file descriptor is left in the system; raise fs.file-max";
	case -ENOENT:
	case -ENXIO:
		return "/proc is missing, or not this process's; mount it with `mount -t proc proc /proc`";
	case -ETIMEDOUT:
		return "a thread does not answer to signals";
	case -EBUSY:
		return "a thread has a seccomp filter of its own";
	default:
		return "userfaultfd, seccomp or signals are refused; see `weir probe`";
	}
}

long shim_map_error(long err)
{
	static struct atomic32 told;

	if (err != -ENOMEM && atomic32_xchg_acquire(&told, 1) == 0)
		print_err("pid %d: memory beyond the limit cannot be managed, so there is none: %s (error %d)",
			  (int)sys0(SYS_getpid), refusal(err), (int)-err);
	return -ENOMEM;
}

/* ---- the beginning ---- */

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
static struct run_counters *env_counters(void)
{
	const char *text = getenv(WEIR_ENV_STATS), *colon = text ? strchr(text, ':') : NULL;
	char fd_text[16];
	struct stat st;
	s64 fd, pid;
	void *map;

	if (!colon || (size_t)(colon - text) >= sizeof(fd_text))
		return &own_counters;
	memcpy(fd_text, text, (size_t)(colon - text));
	fd_text[colon - text] = '\0';
	if (parse_int(fd_text, 0, INT32_MAX, &fd) || parse_int(colon + 1, 1, INT32_MAX, &pid) ||
	    pid != sys0(SYS_getpid))
		return &own_counters;
	if (fstat((int)fd, &st) || st.st_size != sizeof(struct run_counters) || sys2(SYS_fcntl, fd, 1034) < 0)
		return &own_counters;
	map = (void *)sys6(SYS_mmap, NULL, sizeof(struct run_counters), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return (uintptr_t)map > -4096ul ? &own_counters : map;
}

static int env_stress(void)
{
	const char *text = getenv(WEIR_ENV_STRESS);
	s64 rate = STRESS_OFF;

	if (text && parse_int(text, 0, STRESS_RATE_MAX, &rate))
		give_up("WEIR_STRESS is not a number of pages a second", -EINVAL);
	return (int)rate;
}

static void open_swap(struct mm *mm, struct run_counters *counters)
{
	char err[160];
	int ret = devices_open(mm, counters, err, sizeof(err));

	if (ret)
		give_up(err, ret);
}

static void start(u64 memory, u64 resident)
{
	struct run_counters *counters = env_counters();
	struct swap_writeback writeback;
	struct mm_config cfg = {
		.memory_pages = memory >> PAGE_SHIFT,
		.resident_pages = resident >> PAGE_SHIFT,
		.window_hint = SHIM_WINDOW,
		.nr_pages = (u32)(SHIM_WINDOW_BYTES >> PAGE_SHIFT),
		.nr_cpus = os_nr_cpus(),
		.method = env_is(WEIR_ENV_VM, "copy")	? VM_METHOD_COPY
			  : env_is(WEIR_ENV_VM, "move") ? VM_METHOD_MOVE
							: VM_METHOD_AUTO,
		.faults = env_is(WEIR_ENV_FAULTS, "thread") ? VM_FAULTS_THREAD : VM_FAULTS_SIGNAL,
		.stats = &counters->stats,
		.on_adopt = on_adopt,
	};
	const char *pool = getenv(WEIR_ENV_TREE);
	bool inherited = net_inherited();
	int ret = pool ? tree_join(pool, &cfg) : 0;

	if (ret)
		refuse(ret, pool);
	if (swap_writeback_parse(getenv(WEIR_ENV_WRITEBACK), &writeback))
		give_up("WEIR_WRITEBACK is not what weir run --writeback takes", -EINVAL);
	cfg.writeback_percent = writeback.watermark;
	cfg.writeback_idle_ns = writeback.idle_ns < UINT64_MAX ? writeback.idle_ns : 0;
	net_ops.kernel_faults = cfg.faults == VM_FAULTS_THREAD;
	if (cfg.faults == VM_FAULTS_THREAD && vm_can_register(cfg.faults, cfg.method))
		give_up("--faults thread is not allowed here, or no longer", -EPERM);
	signals_init();
	threads_init(SHIM_WINDOW, SHIM_WINDOW_BYTES);
	threads_hold = hold_for_thread;
	threads_release = net_release_range;
	threads_leave = net_thread_exit;
	signals_fetch = net_fetch;
	signals_store = net_store;
	signals_unmapped = is_unmapped;
	limit_begin();
	ret = mm_create(&the_mm, &cfg);
	if (ret)
		give_up("the window cannot be reserved: too little address space (ulimit -v), or its place is taken",
			ret);
	open_swap(&the_mm, counters);
	limit_end();
	stress_init(&the_mm, env_stress());
	trace_init(getenv(WEIR_ENV_TRACE));
	if (inherited) {
		ret = signals_own(SIGSYS, on_sigsys, 0, SA_RESTART | SA_NODEFER);
		if (!ret)
			ret = net_arm_inherited(SHIM_WINDOW, SHIM_WINDOW_BYTES, -1, &net_ops);
		if (ret)
			give_up("the inherited system-call filter cannot be served", ret);
	}
	pthread_atfork(fork_prepare_libc, fork_parent, fork_child);
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

__attribute__((destructor)) static void shim_destructor(void)
{
	if (state == STATE_ON)
		trace_end(the_mm.stats);
}

/* The way out of many a forked child: no destructor runs. Any context, also a vfork()ed child. */
SHIM_EXPORT void _exit(int status)
{
	if (state == STATE_ON)
		trace_end(the_mm.stats);
	for (;;)
		sys1(SYS_exit_group, status);
}

SHIM_EXPORT void _Exit(int status)
{
	_exit(status);
}
