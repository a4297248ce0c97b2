// SPDX-License-Identifier: MIT
/*
 * The seccomp filter, made from the table of calls: a binary tree over the numbers leads to one block per kind of
 * test. Numbers come first and arguments are looked at one by one, because unused argument registers hold stale
 * pointers, and because a verdict that depends on the number alone is cached by the kernel.
 *
 * A filter outlives execve, but the next program may have no shim to serve traps (a static one, a cleared
 * environment), and would die of the first. So the last test is where the call comes from: only this program's own
 * text counts, and as addresses are randomised the next program's lies elsewhere. Not counted is text below 4 GiB,
 * where every unrandomised program sits; libc never does. Runs at arming, in one thread.
 */
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>

#include "base/assert.h"
#include "fault/net_internal.h"

enum {
	RANGES_MAX = 320,
	TESTS_MAX = 96,
	TEXT_SHIFT = 20, /* places of text are compared in MiB */
	TEXT_GAP = 4, /* ranges that lie nearer are one */
	GATES = 3,
};

/* Jumps to a gate hold this until the gates have their places. */
enum gate { GATE_TRAP = UINT32_MAX - GATES, GATE_ENOSYS, GATE_EBADF };

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
	struct test tests[TESTS_MAX];
	unsigned int nr_tests;
	struct range ranges[RANGES_MAX];
	unsigned int nr_ranges;
	const struct net_text *text;
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
	if (net_state.ops->kernel_faults && !net_call_is_core(nr)) {
		test.class = NET_NONE;
	} else if (call->class == NET_PTR || call->class == NET_UNLISTED) {
		test.class = NET_PTR;
		test.mask = (u8)net_call_mask(call);
		test.nonzero = call->nonzero;
		for (unsigned int i = 0; i < net_specials_nr; i++) {
			if (net_specials[i].nr == nr)
				test.special = (u16)(nr + 1);
		}
	} else if (call->class == NET_GUARD && !net_guards.nr) {
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
		emit(m, AND, net_specials[i].mask, 0, 0);
		emit(m, IF_EQUAL, net_specials[i].value, !net_specials[i].differs, net_specials[i].differs);
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
			emit(m, AND, (u32) ~((NET_WINDOW_BYTES_MAX - 1) >> 32), 0, 0);
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

static void emit_gate(struct maker *m, u32 verdict)
{
	const struct net_text *text = m->text;
	const u32 ip = DATA(instruction_pointer);

	emit(m, LOAD, ip + 4, 0, 0);
	emit(m, BPF_ALU | BPF_LSH | BPF_K, 32 - TEXT_SHIFT, 0, 0);
	emit(m, BPF_MISC | BPF_TAX, 0, 0, 0);
	emit(m, LOAD, ip, 0, 0);
	emit(m, BPF_ALU | BPF_RSH | BPF_K, TEXT_SHIFT, 0, 0);
	emit(m, BPF_ALU | BPF_OR | BPF_X, 0, 0, 0);
	for (unsigned int i = 0; i < text->nr; i++) {
		unsigned int to_verdict = 2 * (text->nr - i) - 1;

		emit(m, IF_AT_LEAST, text->range[i].first, 0, 1);
		emit(m, BPF_JMP | BPF_JGT | BPF_K, text->range[i].last, 0, to_verdict);
	}
	emit(m, RETURN, SECCOMP_RET_ALLOW, 0, 0);
	emit(m, RETURN, verdict, 0, 0);
}

static void emit_test(struct maker *m, struct test *test)
{
	test->at = m->len;
	switch (test->class) {
	case NET_NONE:
		emit(m, RETURN, SECCOMP_RET_ALLOW, 0, 0);
		return;
	case NET_ENOSYS:
		emit(m, BPF_JMP | BPF_JA, GATE_ENOSYS, 0, 0);
		return;
	case NET_GUARD:
		emit(m, LOAD, ARG_LOW(test->guard), 0, 0);
		for (unsigned int i = 0; i < net_guards.nr; i++) {
			emit(m, IF_AT_LEAST, net_guards.guard[i].first, 0, 2);
			emit(m, BPF_JMP | BPF_JGT | BPF_K, net_guards.guard[i].last, 1, 0);
			emit(m, BPF_JMP | BPF_JA, GATE_EBADF, 0, 0);
		}
		emit(m, RETURN, SECCOMP_RET_ALLOW, 0, 0);
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
	emit(m, BPF_JMP | BPF_JA, GATE_TRAP, 0, 0);
}

static void resolve(struct maker *m, unsigned int tree, unsigned int blocks, const unsigned int gates[GATES])
{
	for (unsigned int i = tree; i < blocks; i++) {
		struct sock_filter *f = &m->out[i];
		bool is_fork = i > tree && m->out[i - 1].code == IF_AT_LEAST;

		if (f->code == (BPF_JMP | BPF_JA) && !is_fork)
			f->k = m->tests[f->k].at - i - 1;
	}
	for (unsigned int i = blocks; i < gates[0]; i++) {
		struct sock_filter *f = &m->out[i];

		if (f->code == (BPF_JMP | BPF_JA)) {
			must(f->k >= GATE_TRAP && f->k - GATE_TRAP < GATES);
			f->k = gates[f->k - GATE_TRAP] - i - 1;
		}
	}
}

unsigned int net_filter_make(struct sock_filter *out, unsigned int max, const struct net_text *text)
{
	static const u32 verdicts[GATES] = {
		SECCOMP_RET_TRAP | NET_TRAP_DATA,
		SECCOMP_RET_ERRNO | ENOSYS,
		SECCOMP_RET_ERRNO | EBADF,
	};
	static struct maker maker; /* some KiB, used by one thread at a time */
	struct maker *m = &maker;
	unsigned int tree, blocks, gates[GATES];

	memset(m, 0, sizeof(*m));
	m->out = out;
	m->max = max;
	m->text = text;
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
	for (unsigned int i = 0; i < GATES; i++) {
		gates[i] = m->len;
		emit_gate(m, verdicts[i]);
	}
	resolve(m, tree, blocks, gates);
	return m->len;
}

static void text_add(struct net_text *text, u64 start, u64 end)
{
	struct net_range *last = text->nr ? &text->range[text->nr - 1] : NULL;
	u32 first = (u32)(start >> TEXT_SHIFT), final = (u32)((end - 1) >> TEXT_SHIFT);

	if (start >> 32 == 0)
		return;
	if (last && (first <= last->last + TEXT_GAP || text->nr == NET_TEXT_MAX))
		last->last = final;
	else
		text->range[text->nr++] = (struct net_range){ first, final };
}

/* "start-end perms offset device inode path": text of files counts, which leaves out the gadget and the vdso. */
static void text_add_line(struct net_text *text, const char *p)
{
	u64 number[2] = { 0 };
	int fields = 0;

	for (int i = 0; i < 2; i++, p++) {
		for (; (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'f'); p++)
			number[i] = number[i] * 16 + (u64)(*p <= '9' ? *p - '0' : *p - 'a' + 10);
	}
	if (p[0] != 'r' || p[2] != 'x')
		return;
	for (; *p && fields < 3; p++)
		fields += *p == ' ';
	if (*p != '0')
		text_add(text, number[0], number[1]);
}

/* Lines are cut at the size of the buffer, which is far behind the inode. */
int net_text_find(struct net_text *text)
{
	char buf[512], line[128];
	size_t len = 0;
	long fd = sys4(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0), got;

	text->nr = 0;
	if (fd < 0)
		return (int)fd;
	while ((got = sys3(SYS_read, fd, buf, sizeof(buf))) > 0) {
		for (long i = 0; i < got; i++) {
			if (buf[i] != '\n') {
				if (len < sizeof(line) - 1)
					line[len++] = buf[i];
				continue;
			}
			line[len] = '\0';
			text_add_line(text, line);
			len = 0;
		}
	}
	sys1(SYS_close, fd);
	return got < 0 ? (int)got : text->nr ? 0 : -ENOENT;
}
