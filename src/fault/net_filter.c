// SPDX-License-Identifier: MIT
/*
 * The seccomp filter, made from the table of calls: a binary tree over the numbers leads to one block per kind of
 * test. Numbers come first and arguments are looked at one by one, because unused argument registers hold stale
 * pointers, and because a verdict that depends on the number alone is cached by the kernel.
 * Runs once, at arming. No state.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>

#include "base/assert.h"
#include "fault/net_internal.h"

enum { RANGES_MAX = 320, TESTS_MAX = 96 };

/* Calls with equal tests share a block. */
struct test {
	u8 class, guard, mask, nonzero;
	u16 special; /* number of the call whose net_specials apply, + 1 */
	unsigned int at;
};

struct range {
	u32 first;
	unsigned int test;
};

struct maker {
	struct sock_filter *out;
	unsigned int len, max;
	int guarded_fd;
	struct test tests[TESTS_MAX];
	unsigned int nr_tests;
	struct range ranges[RANGES_MAX];
	unsigned int nr_ranges;
};

#define DATA(field) ((u32)offsetof(struct seccomp_data, field))
#define ARG_LOW(i) (DATA(args) + 8 * (u32)(i))
#define ARG_HIGH(i) (ARG_LOW(i) + 4)
#define LOAD (BPF_LD | BPF_W | BPF_ABS)
#define RETURN (BPF_RET | BPF_K)
#define IF_EQUAL (BPF_JMP | BPF_JEQ | BPF_K)
#define IF_AT_LEAST (BPF_JMP | BPF_JGE | BPF_K)
#define IF_BITS (BPF_JMP | BPF_JSET | BPF_K)
#define AND (BPF_ALU | BPF_AND | BPF_K)

static unsigned int emit(struct maker *m, unsigned int code, u32 k, unsigned int yes, unsigned int no)
{
	must(m->len < m->max);
	must(yes < 256 && no < 256);
	m->out[m->len] = (struct sock_filter){ .code = (u16)code, .jt = (u8)yes, .jf = (u8)no, .k = k };
	return m->len++;
}

static unsigned int find_test(struct maker *m, struct test test)
{
	for (unsigned int i = 0; i < m->nr_tests; i++) {
		if (!memcmp(&m->tests[i], &test, sizeof(test)))
			return i;
	}
	must(m->nr_tests < TESTS_MAX);
	m->tests[m->nr_tests] = test;
	return m->nr_tests++;
}

static unsigned int test_of(struct maker *m, long nr)
{
	const struct net_call *call = net_call_find(nr);
	struct test test;

	memset(&test, 0, sizeof(test));
	test.class = call->class;
	if (call->class == NET_PTR || call->class == NET_UNLISTED) {
		test.class = NET_PTR;
		test.mask = (u8)net_call_mask(call);
		test.nonzero = call->nonzero;
		for (unsigned int i = 0; i < net_specials_nr; i++) {
			if (net_specials[i].nr == nr)
				test.special = (u16)(nr + 1);
		}
	} else if (call->class == NET_GUARD && m->guarded_fd < 0) {
		test.class = NET_NONE;
	} else if (call->class == NET_GUARD) {
		test.guard = call->guard;
	}
	return find_test(m, test);
}

static void make_ranges(struct maker *m)
{
	unsigned int last = ~0u;

	for (u32 nr = 0; nr <= NET_NR_MAX; nr++) {
		unsigned int test = test_of(m, nr);

		if (test == last)
			continue;
		must(m->nr_ranges < RANGES_MAX);
		m->ranges[m->nr_ranges++] = (struct range){ nr, test };
		last = test;
	}
}

/* Leaves are jumps whose target is filled in when the blocks have their places; k holds the test until then. */
static void emit_tree(struct maker *m, unsigned int from, unsigned int to)
{
	unsigned int middle = (from + to) / 2, fork;

	if (to - from == 1) {
		emit(m, BPF_JMP | BPF_JA, m->ranges[from].test, 0, 0);
		return;
	}
	emit(m, IF_AT_LEAST, m->ranges[middle].first, 0, 1);
	fork = emit(m, BPF_JMP | BPF_JA, 0, 0, 0);
	emit_tree(m, from, middle);
	m->out[fork].k = m->len - fork - 1;
	emit_tree(m, middle, to);
}

/* Each condition jumps over the ALLOW at the block's end: its distance is known when all are there. */
static void emit_pointer_test(struct maker *m, const struct test *test)
{
	unsigned int begin = m->len;

	for (unsigned int i = 0; i < net_specials_nr; i++) {
		if (net_specials[i].nr + 1 != test->special)
			continue;
		emit(m, LOAD, ARG_LOW(net_specials[i].arg), 0, 0);
		emit(m, IF_EQUAL, net_specials[i].value, 1, 0);
	}
	for (unsigned int i = 0; i < 6; i++) {
		if (test->nonzero & (1u << i)) {
			emit(m, LOAD, ARG_LOW(i), 0, 0);
			emit(m, IF_EQUAL, 0, 0, 1);
			emit(m, LOAD, ARG_HIGH(i), 0, 0);
			emit(m, IF_EQUAL, 0, 0, 1);
		}
		if (test->mask & (1u << i)) {
			emit(m, LOAD, ARG_HIGH(i), 0, 0);
			emit(m, AND, (u32)~((NET_WINDOW_BYTES_MAX - 1) >> 32), 0, 0);
			emit(m, IF_EQUAL, (u32)(NET_WINDOW >> 32), 1, 0);
		}
	}
	emit(m, RETURN, SECCOMP_RET_ALLOW, 0, 0);
	for (unsigned int i = begin; i < m->len; i++) {
		struct sock_filter *f = &m->out[i];

		must(m->len - i - 1 < 256);
		if (f->jt)
			f->jt = (u8)(m->len - i - 1);
		if (f->jf)
			f->jf = (u8)(m->len - i - 1);
	}
}

/*
 * A call from the gadget goes through. So does one from below 4 GiB: a static program that is started under the filter
 * has no shim to serve its traps, and no window, and usually sits there, where libc never is.
 */
static void emit_gate(struct maker *m, u32 verdict)
{
	const u32 ip = DATA(instruction_pointer);

	emit(m, LOAD, ip + 4, 0, 0);
	emit(m, IF_EQUAL, 0, 4, 0);
	emit(m, IF_EQUAL, (u32)(NET_GADGET >> 32), 0, 4);
	emit(m, LOAD, ip, 0, 0);
	emit(m, AND, (u32)PAGE_MASK, 0, 0);
	emit(m, IF_EQUAL, (u32)NET_GADGET, 0, 1);
	emit(m, RETURN, SECCOMP_RET_ALLOW, 0, 0);
	emit(m, RETURN, verdict, 0, 0);
}

/* A block that may trap ends where the gate's address is not known yet: UINT32_MAX in k marks the jump. */
static void emit_test(struct maker *m, struct test *test)
{
	test->at = m->len;
	switch (test->class) {
	case NET_NONE:
		emit(m, RETURN, SECCOMP_RET_ALLOW, 0, 0);
		return;
	case NET_ENOSYS:
		emit(m, RETURN, SECCOMP_RET_ERRNO | ENOSYS, 0, 0);
		return;
	case NET_GUARD:
		emit(m, LOAD, ARG_LOW(test->guard), 0, 0);
		emit(m, IF_EQUAL, (u32)m->guarded_fd, 1, 0);
		emit(m, RETURN, SECCOMP_RET_ALLOW, 0, 0);
		emit_gate(m, SECCOMP_RET_ERRNO | EBADF);
		return;
	case NET_FORK:
		emit(m, LOAD, ARG_LOW(0), 0, 0);
		emit(m, IF_BITS, CLONE_VM, 0, 1);
		emit(m, RETURN, SECCOMP_RET_ALLOW, 0, 0);
		break;
	case NET_PTR:
		emit_pointer_test(m, test);
		break;
	default:
		must(test->class == NET_ALWAYS);
	}
	emit(m, BPF_JMP | BPF_JA, UINT32_MAX, 0, 0);
}

static void resolve(struct maker *m, unsigned int tree, unsigned int blocks, unsigned int gate)
{
	for (unsigned int i = tree; i < blocks; i++) {
		struct sock_filter *f = &m->out[i];
		bool is_fork = i > tree && m->out[i - 1].code == IF_AT_LEAST;

		if (f->code == (BPF_JMP | BPF_JA) && !is_fork)
			f->k = m->tests[f->k].at - i - 1;
	}
	for (unsigned int i = blocks; i < gate; i++) {
		struct sock_filter *f = &m->out[i];

		if (f->code == (BPF_JMP | BPF_JA)) {
			must(f->k == UINT32_MAX);
			f->k = gate - i - 1;
		}
	}
}

unsigned int net_filter_make(struct sock_filter *out, unsigned int max, int guarded_fd)
{
	static struct maker maker; /* some KiB, used once and by one thread */
	struct maker *m = &maker;
	unsigned int tree, blocks, gate;

	memset(m, 0, sizeof(*m));
	m->out = out;
	m->max = max;
	m->guarded_fd = guarded_fd;
	make_ranges(m);
	emit(m, LOAD, DATA(arch), 0, 0);
	emit(m, IF_EQUAL, AUDIT_ARCH_X86_64, 1, 0);
	emit(m, RETURN, SECCOMP_RET_ALLOW, 0, 0);
	emit(m, LOAD, DATA(nr), 0, 0);
	tree = m->len;
	emit_tree(m, 0, m->nr_ranges);
	blocks = m->len;
	for (unsigned int i = 0; i < m->nr_tests; i++)
		emit_test(m, &m->tests[i]);
	gate = m->len;
	emit_gate(m, SECCOMP_RET_TRAP | NET_TRAP_DATA);
	resolve(m, tree, blocks, gate);
	return m->len;
}
