// SPDX-License-Identifier: MIT
/*
 * What happens to a trapped call: its arguments are held by the table's description and it is performed, or its own
 * function does that. Runs in the SIGSYS handler with the thread's own signal mask: handlers of the program may run at
 * any point, so nothing here holds a lock or shared state.
 */
#include <linux/fiemap.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <linux/sockios.h>
#include <sched.h>
#include <string.h>

#include "base/assert.h"
#include "fault/net_internal.h"
#include "fault/net_table.h"
#include "fault/signal_raw.h"

enum {
	PATH_BYTES = 4096,
	EXEC_STRING_BYTES = 128 << 10, /* the kernel's MAX_ARG_STRLEN */
	EXEC_TRIES = 100,
	EXEC_PAUSE_NS = 2000000,
	FUTEX_TRIES = 100,
	NESTED_WORDS = 32, /* of a structure, that may be pointers */
	NESTED_OLD_BYTES = 96, /* of a structure of which only the request's number is known */
	NESTED_BYTES = 64 << 10, /* held behind each */
	/* asm/socket.h, whose other names clash with libc's */
	OPT_SOL_SOCKET = 1,
	OPT_ATTACH_FILTER = 26,
	OPT_ATTACH_REUSEPORT_CBPF = 51,
	OPT_ZEROCOPY = 60,
	PRCTL_SET_VMA = 0x53564d41,
	SECCOMP_FILTER_OP = 1,
};

/* The requests of terminals, FIONREAD and the like ('T') point to nothing from their structures. */
const struct net_special net_specials[] = {
	{ SYS_ioctl, 1, true, 0xff00, 'T' << 8 },
	{ SYS_setsockopt, 2, false, ~0u, OPT_ATTACH_FILTER },
	{ SYS_setsockopt, 2, false, ~0u, OPT_ATTACH_REUSEPORT_CBPF },
	{ SYS_setsockopt, 2, false, ~0u, OPT_ZEROCOPY },
	{ SYS_prctl, 0, false, ~0u, PR_SET_SECCOMP },
};
const unsigned int net_specials_nr = ARRAY_SIZE(net_specials);

static long hold_mask(struct net_trap *t, int i)
{
	int err;

	if (!t->args[i])
		return 0;
	err = net_fetch(&t->mask, (uintptr_t)t->args[i], sizeof(t->mask));
	if (err)
		return err;
	t->mask &= ~SIGNAL_RAW_NEVER_BLOCKED;
	t->args[i] = (long)&t->mask;
	return 0;
}

static long hold_maskptr(struct net_trap *t, int i)
{
	int err;

	if (!t->args[i])
		return 0;
	err = net_fetch(&t->maskptr, (uintptr_t)t->args[i], sizeof(t->maskptr));
	if (err)
		return err;
	t->args[i] = (long)&t->maskptr;
	if (!t->maskptr.mask)
		return 0;
	err = net_fetch(&t->mask, t->maskptr.mask, sizeof(t->mask));
	t->mask &= ~SIGNAL_RAW_NEVER_BLOCKED;
	t->maskptr.mask = (uintptr_t)&t->mask;
	return err;
}

/* How many bytes the argument points to, where that is a matter of the other arguments; 0 for none. */
static size_t arg_length(const struct net_trap *t, const struct net_arg *a)
{
	size_t by = (size_t)t->args[a->by], bytes;
	u32 len;

	switch (a->kind) {
	case NET_ARG_FIXED:
	case NET_ARG_FOREVER:
		return a->size;
	case NET_ARG_LEN:
		return a->size && by > a->size ? a->size : by;
	case NET_ARG_COUNT:
		/* Counts are ints or small longs: one that overflows is the kernel's to refuse. */
		return __builtin_mul_overflow(by, (size_t)a->size, &bytes) ? 0 : bytes;
	case NET_ARG_LENPTR:
		return net_fetch(&len, by, sizeof(len)) ? 0 : len;
	case NET_ARG_FDSET:
		return (int)by > 0 ? ALIGN_UP((size_t)(int)by, 64) / 8 : 0;
	case NET_ARG_MSGBUF:
		return by <= INT32_MAX ? by + sizeof(long) : 0;
	default:
		return 0;
	}
}

static long hold_arg(struct net_trap *t, int i)
{
	const struct net_arg *a = &t->call->arg[i];
	uintptr_t addr = (uintptr_t)t->args[i];

	if (a->kind == NET_ARG_MASK)
		return hold_mask(t, i);
	if (a->kind == NET_ARG_MASKPTR)
		return hold_maskptr(t, i);
	/* A length that reaches into the window from below it cannot be: another mapping lies there. */
	if (!net_in_window(addr))
		return 0;
	if (a->kind == NET_ARG_STRING)
		return net_hold_string(t, addr, PATH_BYTES);
	if (a->kind == NET_ARG_FOREVER) {
		long err = net_state.ops->hold(addr, a->size, a->dir != NET_READ);

		return err == -EFAULT ? 0 : err;
	}
	return net_hold(t, addr, arg_length(t, a), a->dir);
}

int net_hold_args(struct net_trap *t)
{
	for (int i = 0; i < 6; i++) {
		long err;

		if (t->call->arg[i].kind == NET_ARG_SCALAR || t->call->arg[i].kind == NET_ARG_SELF)
			continue;
		err = hold_arg(t, i);
		if (err)
			return (int)err;
	}
	return 0;
}

static long do_generic(struct net_trap *t)
{
	int err = net_hold_args(t);

	return err ? err : net_syscall(t->nr, t->args);
}

static long do_signal(struct net_trap *t)
{
	long result = 0;

	if (net_state.ops->signal_call(t->nr, t->args, t->uc, &result))
		return result;
	return do_generic(t);
}

static long do_mm(struct net_trap *t)
{
	bool ours = t->nr == SYS_mlockall || t->nr == SYS_munlockall;
	int err;

	for (int i = 0; i < 6; i++) {
		if (t->call->arg[i].kind != NET_ARG_SELF || (t->nr == SYS_mincore && i == 2))
			continue;
		ours |= net_in_window((uintptr_t)t->args[i]);
	}
	err = net_hold_args(t);
	if (!err && t->nr == SYS_mincore)
		err = net_hold(t, (uintptr_t)t->args[2], DIV_ROUND_UP((size_t)t->args[1], PAGE_SIZE), NET_WRITE);
	if (err)
		return err;
	return ours ? net_state.ops->mm_call(t->nr, t->args) : net_syscall(t->nr, t->args);
}

/* The child goes on here, on its copy of this stack, and gets its own stack when the handler returns. */
static long do_fork(struct net_trap *t)
{
	bool is_clone = t->nr == SYS_clone;
	long stack = is_clone ? t->args[1] : 0;
	int err = 0;
	long ret;

	if (is_clone) {
		err = net_hold(t, (uintptr_t)t->args[2], 4, NET_WRITE);
		if (!err)
			err = net_hold(t, (uintptr_t)t->args[3], 4, NET_WRITE);
		t->args[1] = 0;
	}
	if (err)
		return err;
	ret = net_state.ops->fork_call(t->nr, t->args);
	if (ret == 0) {
		net_forget_holds();
		if (stack)
			t->uc->uc_mcontext.gregs[REG_RSP] = stack;
	}
	return ret;
}

static bool touch_vector(uintptr_t vec)
{
	uintptr_t pointers[32];

	if (!vec)
		return true;
	for (;;) {
		size_t left = (PAGE_SIZE - (vec & ~PAGE_MASK)) / sizeof(uintptr_t);
		size_t nr = min_u64(left ? left : 1, ARRAY_SIZE(pointers));

		if (net_fetch(pointers, vec, nr * sizeof(uintptr_t)))
			return false;
		for (size_t i = 0; i < nr; i++) {
			if (!pointers[i])
				return true;
			if (!net_touch_string(pointers[i], EXEC_STRING_BYTES))
				return false;
		}
		vec += nr * sizeof(uintptr_t);
	}
}

static bool exec_touch(const struct net_trap *t, int path)
{
	bool good = net_touch_string((uintptr_t)t->args[path], PATH_BYTES);

	good = touch_vector((uintptr_t)t->args[path + 1]) && good;
	return touch_vector((uintptr_t)t->args[path + 2]) && good;
}

/*
 * After a success nobody could release a hold, and in a vfork child it would stay with the parent. So the strings are
 * only made resident; if reclaim was faster than the kernel's copy of them, again while reclaim pauses for a moment.
 */
static long do_execve(struct net_trap *t)
{
	int path = t->nr == SYS_execveat ? 1 : 0;
	long ret = -EFAULT;
	bool good = true;

	for (int i = 0; i < EXEC_TRIES && ret == -EFAULT && good; i++) {
		good = exec_touch(t, path);
		if (i > 0 && good) {
			net_state.ops->pause((u64)EXEC_PAUSE_NS << min_u64((u64)i, 5));
			good = exec_touch(t, path);
		}
		ret = net_syscall(t->nr, t->args);
	}
	return ret;
}

/* A thread may sleep for long, and the word is looked at only before: it is touched, and again if it had left. */
static long futex_wait(struct net_trap *t, enum net_dir dir)
{
	unsigned int mark = t->pushed;
	long ret = -EFAULT;

	for (int i = 0; i < FUTEX_TRIES && ret == -EFAULT; i++) {
		int err = net_hold(t, (uintptr_t)t->args[0], 4, dir);

		if (err)
			return err;
		if (t->pushed == mark && net_in_window((uintptr_t)t->args[0]))
			return net_syscall(t->nr, t->args); /* not mapped: the kernel says so */
		if (i < FUTEX_TRIES - 1)
			net_trap_release_to(t, mark);
		ret = net_syscall(t->nr, t->args);
	}
	return ret;
}

/*
 * The word of a private futex is only compared, and not even that by a wake: then a clean page stays clean. That of a
 * shared one must be writable for the kernel to find the page.
 */
static long do_futex(struct net_trap *t)
{
	int op = (int)t->args[1] & FUTEX_CMD_MASK, err = 0;
	enum net_dir dir = t->args[1] & FUTEX_PRIVATE_FLAG ? NET_READ : NET_EITHER;
	bool waits = op == FUTEX_WAIT || op == FUTEX_WAIT_BITSET;
	bool pi = op == FUTEX_LOCK_PI || op == FUTEX_LOCK_PI2 || op == FUTEX_TRYLOCK_PI || op == FUTEX_UNLOCK_PI;
	bool requeues = op == FUTEX_REQUEUE || op == FUTEX_CMP_REQUEUE;
	bool requeues_pi = op == FUTEX_CMP_REQUEUE_PI || op == FUTEX_WAIT_REQUEUE_PI;

	if (waits || pi || op == FUTEX_WAIT_REQUEUE_PI)
		err = net_hold(t, (uintptr_t)t->args[3], SZ_TIME, NET_READ);
	if (!err && waits)
		return futex_wait(t, dir);
	if (!err && (op != FUTEX_WAKE || dir != NET_READ))
		err = net_hold(t, (uintptr_t)t->args[0], 4, pi ? NET_EITHER : dir);
	if (!err && (requeues || requeues_pi || op == FUTEX_WAKE_OP))
		err = net_hold(t, (uintptr_t)t->args[4], 4, requeues ? dir : NET_WRITE);
	return err ? err : net_syscall(t->nr, t->args);
}

static long do_futex_waitv(struct net_trap *t)
{
	struct futex_waitv w;
	unsigned int nr = (unsigned int)t->args[1];
	int err = net_hold_args(t);

	if (!err && nr <= FUTEX_WAITV_MAX)
		err = net_hold(t, (uintptr_t)t->args[0], nr * sizeof(w), NET_READ);
	for (unsigned int i = 0; !err && nr <= FUTEX_WAITV_MAX && i < nr; i++) {
		if (net_fetch(&w, (uintptr_t)t->args[0] + i * sizeof(w), sizeof(w)))
			break;
		err = net_hold(t, w.uaddr, 4, w.flags & FUTEX_PRIVATE_FLAG ? NET_READ : NET_EITHER);
	}
	return err ? err : net_syscall(t->nr, t->args);
}

/* In pieces, around what is guarded. */
static long do_close_range(struct net_trap *t)
{
	unsigned int first = (unsigned int)t->args[0], last = (unsigned int)t->args[1];
	long flags = t->args[2], ret = 0;
	bool any = false;

	if (first > last)
		return net_syscall(t->nr, t->args);
	for (unsigned int i = 0; !ret && i < net_guards.nr && first <= last; i++) {
		const struct net_guard *g = &net_guards.guard[i];

		if (g->last < first || g->first > last)
			continue;
		if (g->first > first) {
			ret = sys3(t->nr, first, g->first - 1, flags);
			any = true;
		}
		first = g->last + 1;
	}
	if (!ret && first <= last) {
		ret = sys3(t->nr, first, last, flags);
		any = true;
	}
	/* Bad flags are found by a range that closes nothing. */
	return any ? ret : sys3(t->nr, ~0u, ~0u, flags);
}

/* Where a structure says how long the buffer behind one of its pointers is. */
static const struct {
	unsigned int request;
	u8 pointer_at, length_at, length_bytes;
} ioctl_buffers[] = {
	{ SIOCGIFCONF, 8, 0, 4 },
	{ 0x2285 /* SG_IO */, 24, 12, 4 },
	{ 0x5393 /* CDROM_SEND_PACKET */, 16, 24, 4 },
	{ 0xc0185500 /* USBDEVFS_CONTROL */, 16, 6, 2 },
	{ 0xc0185502 /* USBDEVFS_BULK */, 16, 4, 4 },
	{ 0xc0484e41 /* NVME_IOCTL_ADMIN_CMD */, 24, 36, 4 },
	{ 0xc0484e43 /* NVME_IOCTL_IO_CMD */, 24, 36, 4 },
	{ 0x8b19 /* SIOCGIWSCAN */, 16, 24, 2 },
};

/* Arrays that follow their structure. */
static const struct {
	unsigned int request;
	u8 count_at, count_bytes, size;
} ioctl_arrays[] = {
	{ FS_IOC_FIEMAP, 24, 4, 56 },
	{ FIDEDUPERANGE, 16, 2, 32 },
};

static size_t length_of(const void *words, unsigned int at, unsigned int bytes)
{
	u32 value = 0;

	memcpy(&value, (const char *)words + at, bytes);
	return value;
}

static int hold_ioctl_buffers(struct net_trap *t, unsigned int request, uintptr_t addr, const u64 *words)
{
	int err = 0;

	for (size_t i = 0; !err && i < ARRAY_SIZE(ioctl_buffers); i++) {
		if (ioctl_buffers[i].request == request)
			err = net_hold(t, words[ioctl_buffers[i].pointer_at / 8],
				       length_of(words, ioctl_buffers[i].length_at, ioctl_buffers[i].length_bytes),
				       NET_EITHER);
	}
	for (size_t i = 0; !err && i < ARRAY_SIZE(ioctl_arrays); i++) {
		if (ioctl_arrays[i].request == request)
			err = net_hold(t, addr,
				       PAGE_SIZE + ioctl_arrays[i].size * length_of(words, ioctl_arrays[i].count_at,
										    ioctl_arrays[i].count_bytes),
				       NET_EITHER);
	}
	return err;
}

/* The structure's words; fewer, and zeros, where its end is not mapped. */
static void fetch_words(uintptr_t addr, size_t size, u64 words[NESTED_WORDS])
{
	size_t nr = min_u64(size / sizeof(u64), NESTED_WORDS);

	memset(words, 0, NESTED_WORDS * sizeof(u64));
	while (nr && net_fetch(words, addr, nr * sizeof(u64)))
		nr /= 2;
}

/*
 * Words that look like addresses in the window are taken for pointers. One that only looks so costs the hold of a few
 * pages, and is left alone where there is no room for that.
 */
static void hold_nested(struct net_trap *t, const u64 words[NESTED_WORDS])
{
	for (size_t i = 0; i < NESTED_WORDS; i++)
		if (net_in_window(words[i]) && net_hold(t, words[i], NESTED_BYTES, NET_EITHER))
			return;
}

/* Newer requests have the size of their structure in them. */
static long do_ioctl(struct net_trap *t)
{
	unsigned int request = (unsigned int)t->args[1];
	size_t size = (request >> 16) & 0x3fff;
	uintptr_t addr = (uintptr_t)t->args[2];
	u64 words[NESTED_WORDS];
	int err = net_hold(t, addr, max_u64(size, PAGE_SIZE), NET_EITHER);

	if (err || addr < PAGE_SIZE || addr >> 47) /* a number, not an address */
		return err ? err : net_syscall(t->nr, t->args);
	fetch_words(addr, size ? size : NESTED_OLD_BYTES, words);
	err = hold_ioctl_buffers(t, request, addr, words);
	hold_nested(t, words);
	return err ? err : net_syscall(t->nr, t->args);
}

/* bpf and perf_event_open: attributes with pointers among them. */
static long do_attr(struct net_trap *t)
{
	u64 words[NESTED_WORDS];
	bool is_bpf = t->nr == SYS_bpf;
	uintptr_t addr = (uintptr_t)t->args[is_bpf ? 1 : 0];
	size_t size = is_bpf ? (u32)t->args[2] : 128;
	int err = net_hold(t, addr, size, NET_EITHER);

	if (!err && addr) {
		fetch_words(addr, size, words);
		hold_nested(t, words);
	}
	return err ? err : net_syscall(t->nr, t->args);
}

static long do_exit(struct net_trap *t)
{
	net_state.ops->exit_call((int)t->args[0]);
	return net_syscall(t->nr, t->args);
}

static int hold_bpf(struct net_trap *t, uintptr_t addr)
{
	struct sock_fprog prog;
	int err = net_hold(t, addr, sizeof(prog), NET_READ);

	if (err || net_fetch(&prog, addr, sizeof(prog)))
		return err;
	return net_hold(t, (uintptr_t)prog.filter, prog.len * sizeof(struct sock_filter), NET_READ);
}

/* A zero-copy send reads the pages after it has returned: the program is told that there is no such thing. */
static long do_setsockopt(struct net_trap *t)
{
	int err = net_hold_args(t), option = (int)t->args[2];

	if (err)
		return err;
	if (t->args[1] == OPT_SOL_SOCKET && option == OPT_ZEROCOPY)
		return -ENOPROTOOPT;
	if (t->args[1] == OPT_SOL_SOCKET && (option == OPT_ATTACH_FILTER || option == OPT_ATTACH_REUSEPORT_CBPF))
		err = hold_bpf(t, (uintptr_t)t->args[3]);
	return err ? err : net_syscall(t->nr, t->args);
}

/* Names of mappings would split the window's, as a kernel without them says. */
static long do_prctl(struct net_trap *t)
{
	int err;

	if (t->args[0] == PRCTL_SET_VMA && net_in_window((uintptr_t)t->args[2]))
		return -EINVAL;
	err = net_hold_args(t);
	if (!err && t->args[0] == PR_SET_SECCOMP)
		err = hold_bpf(t, (uintptr_t)t->args[2]);
	return err ? err : net_syscall(t->nr, t->args);
}

static long do_seccomp(struct net_trap *t)
{
	int err = t->args[0] == SECCOMP_FILTER_OP ? hold_bpf(t, (uintptr_t)t->args[2])
						  : net_hold(t, (uintptr_t)t->args[2], 64, NET_EITHER);

	return err ? err : net_syscall(t->nr, t->args);
}

#define ROW_P(name, function, ...) [SYS_##name] = { .class = NET_PTR, .fn = function, .arg = { __VA_ARGS__ } },
#define ROW_Z(name, bits, function, ...)                                                                               \
	[SYS_##name] = { .class = NET_PTR, .nonzero = bits, .fn = function, .arg = { __VA_ARGS__ } },
#define ROW_A(name, function, ...) [SYS_##name] = { .class = NET_ALWAYS, .fn = function, .arg = { __VA_ARGS__ } },
#define ROW_F(name, function, ...) [SYS_##name] = { .class = NET_FORK, .fn = function, .arg = { __VA_ARGS__ } },
#define ROW_G(name, n) [SYS_##name] = { .class = NET_GUARD, .guard = n },
#define ROW_E(name) [SYS_##name] = { .class = NET_ENOSYS },
#define ROW_N(name) [SYS_##name] = { .class = NET_NONE },

static const struct net_call calls[NET_NR_MAX] = { NET_CALLS(ROW_P, ROW_Z, ROW_A, ROW_F, ROW_G, ROW_E, ROW_N) };

static const struct net_call unlisted = {
	.class = NET_UNLISTED,
	.arg = { X(4096), X(4096), X(4096), X(4096), X(4096), X(4096) },
};

const struct net_call *net_call_find(long nr)
{
	if (nr < 0 || nr >= NET_NR_MAX || calls[nr].class == NET_UNLISTED)
		return &unlisted;
	return &calls[nr];
}

bool net_call_is_core(long nr)
{
	const struct net_call *call = net_call_find(nr);

	if (call->fn == do_mm || call->fn == do_fork || call->fn == do_signal || call->fn == do_close_range ||
	    call->fn == do_prctl || call->fn == do_exit)
		return true;
	for (int i = 0; i < 6; i++) {
		u8 kind = call->arg[i].kind;

		if (kind == NET_ARG_MASK || kind == NET_ARG_MASKPTR || kind == NET_ARG_FOREVER)
			return true;
	}
	return call->class == NET_FORK || call->class == NET_GUARD || nr == 435 /* clone3 */ ||
	       nr == 440 /* process_madvise */;
}

/* Which arguments the filter looks at. Replaced masks are found by `nonzero`. */
unsigned int net_call_mask(const struct net_call *call)
{
	unsigned int mask = 0;

	for (unsigned int i = 0; i < 6; i++) {
		u8 kind = call->arg[i].kind;

		if (kind != NET_ARG_SCALAR && kind != NET_ARG_MASK && kind != NET_ARG_MASKPTR)
			mask |= 1u << i;
	}
	return mask & ~(unsigned int)call->nonzero;
}

long net_call_run(struct net_trap *t)
{
	t->call = net_call_find(t->nr);
	return t->call->fn ? t->call->fn(t) : do_generic(t);
}
