// SPDX-License-Identifier: MIT
/*
 * No lock: one caller at a time. Each thread that is asked has a request, whose address is the cookie. Only the caller
 * writes it, before the signal is sent, except for `acked`. A handler that comes late, after its request timed out,
 * finds no tid there, or another thread's, and leaves it alone.
 */
#include "preload/quiesce.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <ucontext.h>

#include "base/assert.h"
#include "base/os.h"
#include "base/print.h"
#include "base/syscall.h"
#include "preload/signals.h"
#include "sync/wait.h"

#define RESEND_NS ((u64)20000000) /* a SIGSYS of the program's own, pending at the same time, swallows ours */

/* Long, as many busy threads on few processors take their time; it ends only what would never end. */
u64 quiesce_ns_max = 30000000000;

enum {
	TID_MAX = 4 << 20, /* the kernel's PID_MAX_LIMIT */
	EXEMPT_MAX = 64,
	REQUESTS_MAX = 256, /* threads asked at once: the wait for a busy CPU is shared */
	PATH_BYTES = 64,
	DIRENTS_BYTES = 8192,
	CALL_RUNNING = -2, /* on a CPU, or about to be: anywhere */
	CALL_NONE = -1, /* asleep outside any system call */
};

/* One line of /proc/self/task/TID/syscall: the call that the thread sleeps in, with user-mode registers. */
struct sleeping_call {
	long nr;
	u64 args[6];
	u64 sp, pc;
};

struct request {
	struct atomic64 asked; /* run and tid, 0: not in use; stored last (release), loaded first (acquire) */
	struct atomic64 acked; /* becomes what was asked: stored by the handler (release), meets is_acked() */
	struct atomic32 nr; /* ~0: unknown, begin nothing again */
	struct atomic64 args[6], sp, pc;
};

static struct request requests[REQUESTS_MAX];
static struct atomic32 nr_acks; /* counts up with each `acked`: the caller sleeps on it */
/* Counts the runs, so that a late handler can tell. Odd: stay in the handler until it has changed. Caller's alone. */
static struct atomic32 run;

/* Only ever grow: a slot is claimed by the count, then filled (release, meets thread_is_exempt()). */
static struct atomic32 nr_exempt, exempt[EXEMPT_MAX];

struct quiesce {
	uintptr_t window;
	size_t bytes;
	bool park;
	u64 deadline_ns;
	u64 *done; /* bitmap by tid: this thread needs no more looking at */
	u32 nr_seen; /* in this pass, not yet done when it began */
	u32 nr_asked; /* requests in use */
	bool saw_self;
};

void quiesce_exempt(u32 tid)
{
	u32 i = atomic32_add_return(&nr_exempt, 1) - 1;

	must(i < EXEMPT_MAX);
	atomic32_store_release(&exempt[i], tid);
}

void quiesce_forget_exempt(void)
{
	for (u32 i = 0; i < EXEMPT_MAX; i++)
		atomic32_set(&exempt[i], 0);
	atomic32_set(&nr_exempt, 0);
}

static bool thread_is_exempt(u32 tid)
{
	for (int i = 0; i < EXEMPT_MAX; i++)
		if (atomic32_load_acquire(&exempt[i]) == tid)
			return true;
	return false;
}

/* ---- in the handler of the thread that is asked ---- */

/*
 * Calls that the kernel ends with EINTR after any handler, SA_RESTART or not, and that only wait: with EINTR nothing
 * has happened yet, and to begin again is what the program would see without our signal. A relative timeout starts
 * anew, unless the kernel has written back what is left of it.
 */
static bool call_only_waits(u32 nr)
{
	switch (nr) {
	case SYS_poll:
	case SYS_ppoll:
	case SYS_select:
	case SYS_pselect6:
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
	case 441: /* epoll_pwait2 */
	case SYS_nanosleep:
	case SYS_clock_nanosleep:
	case SYS_pause:
	case SYS_futex:
	case 449: /* futex_waitv */
	case SYS_rt_sigsuspend:
	case SYS_rt_sigtimedwait:
	case SYS_semop:
	case SYS_semtimedop:
	case SYS_msgsnd:
	case SYS_msgrcv:
	case SYS_io_getevents:
	case 333: /* io_pgetevents */
	case SYS_read:
	case SYS_readv:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_recvmmsg:
	case SYS_write:
	case SYS_writev:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_accept:
	case SYS_accept4:
		return true;
	default:
		return false;
	}
}

/* The frame must show the very call that was seen in /proc, at its end: every register that it leaves alone agrees. */
static void begin_call_again(const struct request *r, ucontext_t *uc)
{
	static const int arg_register[6] = { REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9 };
	u32 nr = atomic32_read(&r->nr);
	greg_t *regs = uc->uc_mcontext.gregs;

	if (!call_only_waits(nr) || regs[REG_RAX] != -EINTR)
		return;
	if ((u64)regs[REG_RIP] != atomic64_read(&r->pc) || (u64)regs[REG_RSP] != atomic64_read(&r->sp))
		return;
	for (int i = 0; i < 6; i++)
		if ((u64)regs[arg_register[i]] != atomic64_read(&r->args[i]))
			return;
	regs[REG_RIP] -= 2; /* the two bytes of `syscall` */
	regs[REG_RAX] = nr;
}

static void strip_context_mask(ucontext_t *uc)
{
	u64 mask;

	memcpy(&mask, &uc->uc_sigmask, sizeof(mask));
	mask &= ~SIGNAL_RAW_NEVER_BLOCKED;
	memcpy(&uc->uc_sigmask, &mask, sizeof(mask));
}

static u64 make_asked(u32 in_run, u32 tid)
{
	return (u64)in_run << 32 | tid;
}

static void acknowledge(struct request *r, u64 asked)
{
	atomic64_store_release(&r->acked, asked);
	atomic32_add_return(&nr_acks, 1);
	sync_wake32_all(&nr_acks);
}

/* Blocked meanwhile: a handler of the program could leave by siglongjmp, or enter a section of libc's. */
static void stay_parked(struct request *r, u64 asked)
{
	u32 in_run = (u32)(asked >> 32);
	u64 mask = signals_block();

	acknowledge(r, asked);
	while (atomic32_load_acquire(&run) == in_run)
		sync_wait32(&run, in_run);
	signals_restore(mask);
}

static struct request *find_request(u32 tid)
{
	for (int i = 0; i < REQUESTS_MAX; i++)
		if ((u32)atomic64_load_acquire(&requests[i].asked) == tid)
			return &requests[i];
	return NULL;
}

bool quiesce_ack(const siginfo_t *info, void *ucontext)
{
	uintptr_t offset = (uintptr_t)info->si_value.sival_ptr - (uintptr_t)requests;
	u32 tid = (u32)os_gettid();
	struct request *r = NULL;
	u64 asked;

	if (info->si_code == SI_QUEUE && offset < sizeof(requests) && offset % sizeof(requests[0]) == 0)
		r = &requests[offset / sizeof(requests[0])];
	else if (info->si_code == SI_USER && info->si_pid == 0)
		r = find_request(tid); /* the kernel forgets the cookie when RLIMIT_SIGPENDING is used up */
	if (!r)
		return false;
	asked = atomic64_load_acquire(&r->asked);
	if ((u32)asked != tid)
		return true;
	begin_call_again(r, ucontext);
	strip_context_mask(ucontext);
	if (asked >> 32 & 1)
		stay_parked(r, asked);
	else
		acknowledge(r, asked);
	return true;
}

/* ---- looking at a thread from outside ---- */

static const char *parse_word(const char *p, unsigned int base, u64 *value)
{
	*value = 0;
	while (*p == ' ')
		p++;
	if (p[0] == '0' && p[1] == 'x')
		p += 2;
	for (;; p++) {
		unsigned int digit = *p >= '0' && *p <= '9' ? (unsigned int)(*p - '0') :
				     *p >= 'a' && *p <= 'f' ? (unsigned int)(*p - 'a') + 10 :
							      99;

		if (digit >= base)
			return p;
		*value = *value * base + digit;
	}
}

static void parse_call(const char *line, struct sleeping_call *call)
{
	u64 nr;

	*call = (struct sleeping_call){ .nr = CALL_RUNNING };
	if (line[0] == '-')
		call->nr = CALL_NONE;
	if (line[0] < '0' || line[0] > '9')
		return;
	line = parse_word(line, 10, &nr);
	for (int i = 0; i < 6; i++)
		line = parse_word(line, 16, &call->args[i]);
	line = parse_word(line, 16, &call->sp);
	parse_word(line, 16, &call->pc);
	call->nr = (long)nr;
}

static long read_task_file(u32 tid, const char *name, char *buf, size_t size)
{
	char path[PATH_BYTES];

	print_to(path, sizeof(path), "/proc/self/task/%u/%s", tid, name);
	return os_read_file(path, buf, size);
}

/* 0, -ESRCH when the thread is gone, or another -errno. */
static int read_call(u32 tid, struct sleeping_call *call)
{
	char line[256];
	long len = read_task_file(tid, "syscall", line, sizeof(line));

	if (len == -ENOENT)
		return -ESRCH;
	if (len < 0)
		return (int)len;
	parse_call(line, call);
	return 0;
}

static int read_blocked(u32 tid, u64 *mask)
{
	char text[4096];
	long len = read_task_file(tid, "status", text, sizeof(text));

	if (len < 0)
		return len == -ENOENT ? -ESRCH : (int)len;
	for (const char *p = text; *p; p++) {
		if (p[0] == '\n' && p[1] == 'S' && p[2] == 'i' && p[3] == 'g' && p[4] == 'B' && p[5] == 'l' &&
		    p[6] == 'k' && p[7] == ':' && p[8] == '\t') {
			parse_word(p + 9, 16, mask);
			return 0;
		}
	}
	return -ENODATA;
}

/* The pointers lie in memory that the registers point at; or a child shares our memory, and has no filter. */
static bool call_is_opaque(long nr)
{
	switch (nr) {
	case SYS_readv:
	case SYS_writev:
	case SYS_preadv:
	case SYS_pwritev:
	case 327: /* preadv2 */
	case 328: /* pwritev2 */
	case SYS_sendmsg:
	case SYS_recvmsg:
	case SYS_sendmmsg:
	case SYS_recvmmsg:
	case SYS_vmsplice:
	case SYS_process_vm_readv:
	case SYS_process_vm_writev:
	case SYS_io_submit:
	case SYS_ioctl:
	case 449: /* futex_waitv */
	case SYS_clone:
	case SYS_vfork:
	case 435: /* clone3 */
		return true;
	default:
		return false;
	}
}

static bool call_needs_push(const struct quiesce *q, const struct sleeping_call *call)
{
	if (call->nr == CALL_RUNNING || q->park)
		return true;
	if (call->nr == CALL_NONE)
		return false;
	for (int i = 0; i < 6; i++)
		if (call->args[i] - q->window < q->bytes)
			return true;
	return call_is_opaque(call->nr);
}

/* ---- asking ---- */

static long send_cookie(struct request *r)
{
	long pid = sys0(SYS_getpid);
	siginfo_t info = { .si_code = SI_QUEUE };

	info.si_signo = SIGSYS;
	info.si_pid = (pid_t)pid;
	info.si_uid = (uid_t)sys0(SYS_getuid);
	info.si_value.sival_ptr = r;
	return sys4(SYS_rt_tgsigqueueinfo, pid, (u32)atomic64_read(&r->asked), SIGSYS, &info);
}

static bool is_acked(const struct request *r)
{
	return atomic64_load_acquire(&r->acked) == atomic64_read(&r->asked);
}

/* A thread that is gone, or going, needs to give no answer. */
static void excuse(struct request *r)
{
	atomic64_set(&r->acked, atomic64_read(&r->asked));
}

static void resend_cookies(const struct quiesce *q)
{
	for (u32 i = 0; i < q->nr_asked; i++)
		if (!is_acked(&requests[i]) && send_cookie(&requests[i]) == -ESRCH)
			excuse(&requests[i]);
}

static bool all_acked(const struct quiesce *q)
{
	for (u32 i = 0; i < q->nr_asked; i++)
		if (!is_acked(&requests[i]))
			return false;
	return true;
}

/* Ends all requests. 0 or -ETIMEDOUT. */
static int wait_for_acks(struct quiesce *q)
{
	u64 now = sync_clock_ns(), resend = now + RESEND_NS;
	u32 seen = atomic32_load_acquire(&nr_acks);
	bool acked;

	while (!all_acked(q) && now < q->deadline_ns) {
		if (now >= resend) {
			resend_cookies(q);
			resend = now + RESEND_NS;
			continue;
		}
		sync_wait32_timeout(&nr_acks, seen, resend - now);
		seen = atomic32_load_acquire(&nr_acks); /* before all_acked(), which then sees what it counts */
		now = sync_clock_ns();
	}
	acked = all_acked(q);
	for (u32 i = 0; i < q->nr_asked; i++)
		atomic64_store_release(&requests[i].asked, 0);
	q->nr_asked = 0;
	return acked ? 0 : -ETIMEDOUT;
}

/* 0 or -errno. */
static int ask_thread(struct quiesce *q, u32 tid, const struct sleeping_call *call)
{
	struct request *r;
	long ret;

	if (q->nr_asked == REQUESTS_MAX) {
		int err = wait_for_acks(q);

		if (err)
			return err;
	}
	r = &requests[q->nr_asked++];
	must(atomic64_read(&r->asked) == 0);
	atomic32_set(&r->nr, call->nr >= 0 ? (u32)call->nr : ~0u);
	for (int i = 0; i < 6; i++)
		atomic64_set(&r->args[i], call->args[i]);
	atomic64_set(&r->sp, call->sp);
	atomic64_set(&r->pc, call->pc);
	atomic64_set(&r->acked, 0);
	atomic64_store_release(&r->asked, make_asked(atomic32_read(&run), tid));
	ret = send_cookie(r);
	if (ret == -ESRCH)
		excuse(r);
	/* EAGAIN: no memory in the kernel; it is sent again. */
	return ret == -ESRCH || ret == -EAGAIN ? 0 : (int)ret;
}

/* 0: asked, or nothing to do about this thread. */
static int quiesce_thread(struct quiesce *q, u32 tid)
{
	struct sleeping_call call = { .nr = CALL_RUNNING };
	u64 blocked = 0;
	int err = read_call(tid, &call);

	if (err)
		return err == -ESRCH ? 0 : err;
	if (!call_needs_push(q, &call)) {
		/* Innocent calls too: with SIGSYS blocked the thread would die at its next trap. */
		err = read_blocked(tid, &blocked);
		if (err || !(blocked & SIGNAL_RAW_NEVER_BLOCKED))
			return err == -ESRCH ? 0 : err;
	}
	return ask_thread(q, tid, &call);
}

static int quiesce_entry(struct quiesce *q, u32 tid, u32 self)
{
	u64 bit = (u64)1 << (tid % 64);
	int err;

	if (tid == self)
		q->saw_self = true;
	if (tid == self || tid >= TID_MAX || (q->done[tid / 64] & bit))
		return 0;
	q->nr_seen++;
	err = thread_is_exempt(tid) ? 0 : quiesce_thread(q, tid);
	if (!err)
		q->done[tid / 64] |= bit;
	return err;
}

/* One pass over all threads. New ones inherit the filter, and are asked all the same. */
static int quiesce_pass(struct quiesce *q, int dir)
{
	char buf[DIRENTS_BYTES] __attribute__((aligned(8)));
	u32 self = (u32)os_gettid();
	long len;

	q->nr_seen = 0;
	sys3(SYS_lseek, dir, 0, 0);
	while ((len = sys3(SYS_getdents64, dir, buf, sizeof(buf))) > 0) {
		for (long at = 0; at < len;) {
			const struct dirent64 *d = (const struct dirent64 *)(void *)(buf + at);
			u64 tid;
			int err = 0;

			parse_word(d->d_name, 10, &tid);
			if (d->d_name[0] != '.')
				err = quiesce_entry(q, (u32)tid, self);
			if (err)
				return err;
			at += d->d_reclen;
		}
	}
	return (int)len;
}

static int quiesce_run(struct quiesce *q)
{
	long dir = sys4(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	int err;

	if (dir < 0)
		return (int)dir;
	q->deadline_ns = sync_clock_ns() + quiesce_ns_max;
	q->done = os_reserve(TID_MAX / 8);
	err = q->done ? 0 : -ENOMEM;
	/* A directory that changes while it is read may skip an entry: again, until a pass finds nobody new. */
	do {
		int timeout;

		if (!err)
			err = quiesce_pass(q, (int)dir);
		if (err)
			q->deadline_ns = 0; /* withdraw what was asked */
		timeout = wait_for_acks(q);
		if (!err)
			err = timeout;
		if (!err && sync_clock_ns() > q->deadline_ns)
			err = -ETIMEDOUT;
	} while (!err && q->nr_seen > 0);
	/* A /proc of another pid namespace names other threads. */
	if (!err && !q->saw_self)
		err = -ENXIO;
	os_unreserve(q->done, TID_MAX / 8);
	sys1(SYS_close, dir);
	return err;
}

/* Only our own threads have the two signals blocked. */
static bool is_ours(u32 tid)
{
	u64 blocked;

	return read_blocked(tid, &blocked) == 0 && (blocked & SIGNAL_RAW_NEVER_BLOCKED) == SIGNAL_RAW_NEVER_BLOCKED;
}

bool quiesce_is_last(u32 but)
{
	char buf[DIRENTS_BYTES] __attribute__((aligned(8)));
	u32 self = (u32)os_gettid(), nr_others = 0;
	long dir = sys4(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0), len;
	bool saw_self = false;

	while ((len = sys3(SYS_getdents64, dir, buf, sizeof(buf))) > 0) {
		for (long at = 0; at < len;) {
			const struct dirent64 *d = (const struct dirent64 *)(void *)(buf + at);
			u64 tid;

			parse_word(d->d_name, 10, &tid);
			saw_self |= tid == self;
			nr_others += d->d_name[0] != '.' && tid != self && tid != but && !is_ours((u32)tid);
			at += d->d_reclen;
		}
	}
	if (dir >= 0)
		sys1(SYS_close, dir);
	return saw_self && nr_others == 0;
}

int quiesce_syscalls(uintptr_t window, size_t bytes)
{
	struct quiesce q = { .window = window, .bytes = bytes };

	must(atomic32_add_return(&run, 2) % 2 == 0);
	return quiesce_run(&q);
}

int quiesce_park(void)
{
	struct quiesce q = { .park = true };
	int err;

	must(atomic32_add_return(&run, 1) % 2 == 1);
	err = quiesce_run(&q);
	if (err)
		quiesce_release();
	return err;
}

void quiesce_release(void)
{
	must(atomic32_add_return(&run, 1) % 2 == 0);
	sync_wake32_all(&run);
}
