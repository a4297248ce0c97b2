// SPDX-License-Identifier: MIT
/*
 * What a thread holds for the calls it is in, innermost last. A program's handler may run in the middle of any line
 * here, take a trap of its own, and either return or jump away (siglongjmp). So the record lies in thread-local
 * memory, not on the handler's stack, which is overwritten after a jump; a call whose stack is gone is recognised at
 * the thread's next trap. A jump out of the instructions that take a hold can leak that one hold, never free one twice.
 * No lock: a record is its thread's own. A vfork child shares it with its parent, which sleeps meanwhile.
 */
#include <string.h>
#include <sys/uio.h>

#include "fault/net_internal.h"

struct held {
	uintptr_t frame; /* id of the call */
	uintptr_t addr;
	size_t len; /* 0: nothing to release */
	bool write;
};

struct net_thread {
	unsigned int nr;
	uintptr_t sp; /* of the program at the latest trap */
	struct held held[NET_HOLDS];
};

static _Thread_local struct net_thread net_thread;

struct net_state net_state;

/* Keeps the compiler's order of stores, which a handler on the same thread sees. */
static void order(void)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static bool clip(uintptr_t *start, uintptr_t *end)
{
	if (*end < *start)
		*end = UINTPTR_MAX;
	if (*start < net_state.start)
		*start = net_state.start;
	if (*end > net_state.end)
		*end = net_state.end;
	return *start < *end;
}

/* Takes the slot first, so that a nested trap records above it, then gives it its owner. */
static struct held *push(struct net_trap *t)
{
	struct net_thread *n = &net_thread;
	unsigned int i = n->nr;
	struct held *h = &n->held[i];

	if (i == NET_HOLDS)
		return NULL;
	do {
		h->frame = t->id;
		order();
		n->nr = i + 1;
		order();
	} while (h->frame != t->id);
	n->nr = i + 1;
	h->len = 0;
	t->pushed++;
	return h;
}

static bool is_top(const struct held *h, const struct net_trap *t)
{
	return net_thread.nr && h == &net_thread.held[net_thread.nr - 1] && h->frame == t->id;
}

static void pop(void)
{
	struct net_thread *n = &net_thread;
	struct held *h = &n->held[n->nr - 1];
	uintptr_t addr = h->addr;
	size_t len = h->len;

	h->len = 0;
	order();
	n->nr--;
	order();
	if (len)
		net_state.ops->release(addr, len);
}

/* Has the handler with this frame been left by a jump, as the program was at `sp` when this trap came? */
static bool is_stale(uintptr_t frame, uintptr_t sp, const stack_t *alt)
{
	uintptr_t base = (uintptr_t)alt->ss_sp;
	bool frame_on_alt = frame - base < alt->ss_size;
	bool sp_on_alt = sp - base < alt->ss_size;

	if (frame_on_alt == sp_on_alt)
		return sp >= frame;
	return frame_on_alt;
}

void net_trap_begin(struct net_trap *t)
{
	struct net_thread *n = &net_thread;

	t->pushed = 0;
	n->sp = t->sp;
	while (n->nr && is_stale(n->held[n->nr - 1].frame, t->sp, &t->uc->uc_stack))
		pop();
}

/* True if a nested trap took this call for one that was left by a jump. */
bool net_trap_lost_holds(const struct net_trap *t)
{
	const struct net_thread *n = &net_thread;
	unsigned int i = n->nr;

	while (i && n->nr - i < t->pushed && n->held[i - 1].frame == t->id)
		i--;
	return n->nr - i < t->pushed;
}

void net_trap_release_to(struct net_trap *t, unsigned int mark)
{
	struct net_thread *n = &net_thread;

	while (t->pushed > mark) {
		t->pushed--;
		if (n->nr && n->held[n->nr - 1].frame == t->id)
			pop();
	}
}

void net_forget_holds(void)
{
	struct net_thread *n = &net_thread;

	while (n->nr) {
		n->held[n->nr - 1].len = 0;
		n->nr--;
	}
}

void net_thread_exit(void)
{
	while (net_thread.nr)
		pop();
}

static int hold_dir(uintptr_t addr, size_t len, enum net_dir dir)
{
	int err = net_state.ops->hold(addr, len, dir != NET_READ);

	if (err == -EFAULT && dir == NET_EITHER)
		err = net_state.ops->hold(addr, len, false);
	return err;
}

/* Holds pages from the start on until one is not mapped. Returns the bytes held, or -ENOMEM. */
static long hold_prefix(uintptr_t start, uintptr_t end, enum net_dir dir)
{
	uintptr_t at = start;

	while (at < end) {
		uintptr_t next = ALIGN_DOWN(at, PAGE_SIZE) + PAGE_SIZE;
		size_t len = (next < end ? next : end) - at;
		int err = hold_dir(at, len, dir);

		if (err == -EFAULT)
			break;
		if (err) {
			if (at > start)
				net_state.ops->release(start, at - start);
			return err;
		}
		at += len;
	}
	return (long)(at - start);
}

/* Small pieces in one page, as in the iovecs of a log line, need one hold only. */
static bool is_held(const struct net_trap *t, uintptr_t start, uintptr_t end, enum net_dir dir)
{
	const struct net_thread *n = &net_thread;
	const struct held *h;

	if (!t->pushed || !n->nr)
		return false;
	h = &n->held[n->nr - 1];
	return h->frame == t->id && h->len && (h->write || dir == NET_READ) &&
	       start >= ALIGN_DOWN(h->addr, PAGE_SIZE) && end <= ALIGN_UP(h->addr + h->len, PAGE_SIZE);
}

int net_hold(struct net_trap *t, uintptr_t addr, size_t len, enum net_dir dir)
{
	uintptr_t end = addr + len;
	struct held *h;
	long held;

	if (!clip(&addr, &end) || is_held(t, addr, end, dir))
		return 0;
	h = push(t);
	if (!h)
		return -ENOMEM;
	held = hold_dir(addr, end - addr, dir);
	if (held == 0)
		held = (long)(end - addr);
	else if (held == -EFAULT)
		held = hold_prefix(addr, end, dir);
	if (held <= 0) {
		net_trap_release_to(t, t->pushed - 1);
	} else if (is_top(h, t)) {
		h->addr = addr;
		h->write = dir == NET_WRITE;
		order();
		h->len = (size_t)held;
	} else {
		/* A nested trap has dropped this call's record: net_trap_lost_holds() will say so. */
		net_state.ops->release(addr, (size_t)held);
	}
	return held < 0 ? (int)held : 0;
}

int net_hold_string(struct net_trap *t, uintptr_t addr, size_t max)
{
	while (net_in_window(addr) && max) {
		size_t len = min_u64(PAGE_SIZE - (addr & ~PAGE_MASK), max);
		unsigned int before = t->pushed;
		bool was_held = is_held(t, addr, addr + len, NET_READ);
		int err = net_hold(t, addr, len, NET_READ);

		if (err || (!was_held && t->pushed == before) || memchr((const void *)addr, 0, len))
			return err;
		addr += len;
		max -= len;
	}
	return 0;
}

bool net_touch_string(uintptr_t addr, size_t max)
{
	while (net_in_window(addr) && max) {
		size_t len = min_u64(PAGE_SIZE - (addr & ~PAGE_MASK), max);
		bool end;

		if (net_state.ops->hold(addr, len, false))
			return false;
		end = memchr((const void *)addr, 0, len);
		net_state.ops->release(addr, len);
		if (end)
			return true;
		addr += len;
		max -= len;
	}
	return true;
}

/* What lies a little above the program's stack pointer is its stack frame: no need to ask the kernel. */
static bool is_on_stack(uintptr_t addr, size_t len)
{
	uintptr_t offset = addr - net_thread.sp;

	return offset < 2048 && len <= 2048 - offset;
}

static int copy_by_kernel(long nr, void *own, uintptr_t addr, size_t len)
{
	struct iovec local = { own, len }, remote = { (void *)addr, len };
	long ret = sys6(nr, sys0(SYS_getpid), &local, 1, &remote, 1, 0);

	return ret == (long)len ? 0 : -EFAULT;
}

int net_fetch(void *dst, uintptr_t src, size_t len)
{
	int err;

	if (!net_in_window(src)) {
		if (!is_on_stack(src, len))
			return copy_by_kernel(SYS_process_vm_readv, dst, src, len);
		memcpy(dst, (const void *)src, len);
		return 0;
	}
	if (len > net_state.end - src)
		return -EFAULT;
	err = net_state.ops->hold(src, len, false);
	if (err)
		return err;
	memcpy(dst, (const void *)src, len);
	net_state.ops->release(src, len);
	return 0;
}

int net_store(uintptr_t dst, const void *src, size_t len)
{
	int err;

	if (!net_in_window(dst))
		return copy_by_kernel(SYS_process_vm_writev, (void *)(uintptr_t)src, dst, len);
	if (len > net_state.end - dst)
		return -EFAULT;
	err = net_state.ops->hold(dst, len, true);
	if (err)
		return err;
	memcpy((void *)dst, src, len);
	net_state.ops->release(dst, len);
	return 0;
}
