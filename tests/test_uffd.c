// SPDX-License-Identifier: MIT
/*
 * What vm_steal answers when UFFDIO_MOVE says less than it did, as Linux 6.18 does. The system call is made, and then a
 * part of its answer is withheld.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/syscall.h"
#include "test.h"
#include "vm/uffd_abi.h"
#include "vm/vm.h"

enum { NR_PAGES = 256 };

static struct vm vm;
static struct atomic64 unreported;

/* ---- a kernel that keeps something back ---- */

static struct {
	long answer; /* instead of success; 0: the kernel's own */
	u32 reported; /* pages that the call still tells of */
	u32 moves_max; /* the call really moves at most so many */
	u32 skip; /* calls that are left alone first */
	u32 calls;
} lie;

static long move_and_lie(struct uffdio_move *move, long nr, long a, long b)
{
	u64 asked = move->len;
	long ret;

	move->len = min_u64(asked, (u64)lie.moves_max << PAGE_SHIFT);
	ret = syscall_direct(nr, a, b, (long)move, 0, 0, 0);
	move->len = asked;
	if (ret)
		return ret;
	move->move = lie.reported ? (s64)lie.reported << PAGE_SHIFT : lie.answer;
	ret = lie.answer;
	lie.answer = 0; /* once */
	return ret;
}

static long lying_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	if (nr == SYS_ioctl && (unsigned long)b == UFFDIO_MOVE && lie.answer && lie.calls++ >= lie.skip)
		return move_and_lie((struct uffdio_move *)c, nr, a, b);
	return syscall_direct(nr, a, b, c, d, e, f);
}

/* ---- */

static u64 *page(u32 i)
{
	return (u64 *)vm_address(&vm, (vpn_t){ i });
}

static void setup(void)
{
	struct vm_config cfg = {
		.nr_pages = NR_PAGES,
		.nr_steal_frames = VM_RUN_MAX,
		.nr_plain_frames = 1,
		.method = VM_METHOD_MOVE,
		.faults = VM_FAULTS_SIGNAL,
		.moves_unreported = &unreported,
	};
	static u64 data[PAGE_SIZE / sizeof(u64)];

	atomic64_set(&unreported, 0);
	memset(&lie, 0, sizeof(lie));
	expect_eq(vm_open(&vm, &cfg), 0);
	expect_eq(vm_register(&vm), 0);
	expect_eq(vm_protect_range(&vm, (vpn_t){ 0 }, NR_PAGES, VM_READ | VM_WRITE), 0);
	expect_eq(vm_manage(&vm, (vpn_t){ 0 }, NR_PAGES), 0);
	for (u32 i = 0; i < NR_PAGES; i++) {
		data[0] = i + 1;
		expect_eq(vm_install(&vm, (vpn_t){ i }, data, 1, false), 1);
	}
}

/* The first `nr` pages of the run are in the frames, the others in the window, and nothing is in both or in neither. */
static void expect_moved(u32 first, u32 nr, u32 run)
{
	u8 present[VM_RUN_MAX];

	expect_eq(vm_resident(&vm, (vpn_t){ first }, run, present), 0);
	for (u32 i = 0; i < run; i++) {
		expect_eq(present[i], i >= nr);
		expect_eq(i < nr ? *(u64 *)vm_frame_data(&vm, (frame_t){ i }) : *page(first + i), first + i + 1);
	}
}

static void test_what_moved_is_known_whatever_the_answer(void)
{
	static const struct {
		long answer;
		u32 reported, moves, skip;
	} rows[] = {
		{ -ENOENT, 0, 64, 0 }, { -EEXIST, 0, 64, 0 }, { -EEXIST, 0, 9, 0 },  { -EAGAIN, 19, 64, 0 },
		{ -EBUSY, 0, 64, 0 },  { -EBUSY, 0, 1, 0 },   { -EAGAIN, 57, 64, 0 }, { -EAGAIN, 1, 8, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		u32 done = 0;

		setup();
		lie.answer = rows[i].answer;
		lie.reported = rows[i].reported;
		lie.moves_max = rows[i].moves;
		syscall_use_gadget(lying_syscall);
		/* As reclaim does: what is left is asked for again. Never does a page count as left that has gone. */
		while (done < VM_RUN_MAX) {
			long ret = vm_steal(&vm, (vpn_t){ 64 + done }, (frame_t){ done }, VM_RUN_MAX - done);

			expect(ret > 0);
			done += (u32)ret;
			expect_moved(64, done, VM_RUN_MAX);
		}
		syscall_use_gadget(syscall_direct);
		expect_eq(atomic64_read(&unreported), rows[i].moves - rows[i].reported);
		vm_close(&vm);
	}
}

static void test_an_absent_page_is_told(void)
{
	setup();
	vm_zap(&vm, (vpn_t){ 70 }, 1);
	expect_eq(vm_steal(&vm, (vpn_t){ 64 }, (frame_t){ 0 }, 64), 6);
	expect_moved(64, 6, 6);
	expect_eq(vm_steal(&vm, (vpn_t){ 70 }, (frame_t){ 6 }, 58), -ENOENT);
	expect_eq(atomic64_read(&unreported), 0);
	vm_close(&vm);
}

/* A frame that is not empty: the page stays, and is not taken for moved. */
static void test_a_full_frame_is_no_move(void)
{
	setup();
	expect_eq(vm_steal(&vm, (vpn_t){ 0 }, (frame_t){ 3 }, 1), 1);
	expect_eq(vm_steal(&vm, (vpn_t){ 64 }, (frame_t){ 3 }, 1), -EBUSY);
	expect_eq(*page(64), 65);
	expect_eq(vm_steal(&vm, (vpn_t){ 64 }, (frame_t){ 0 }, 64), 3);
	expect_moved(64, 3, 3);
	expect_eq(atomic64_read(&unreported), 0);
	vm_close(&vm);
}

static void test_moves_within_the_window(void)
{
	static const long answers[] = { -ENOENT, -EEXIST, -EAGAIN };

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		setup();
		vm_zap(&vm, (vpn_t){ 200 }, 2);
		lie.answer = answers[i];
		lie.moves_max = 1;
		syscall_use_gadget(lying_syscall);
		expect_eq(vm_move(&vm, (vpn_t){ 5 }, (vpn_t){ 200 }), 0);
		syscall_use_gadget(syscall_direct);
		expect_eq(*page(200), 6);
		expect_eq(vm_move(&vm, (vpn_t){ 5 }, (vpn_t){ 201 }), -ENOENT);
		vm_close(&vm);
	}
}

int main(void)
{
	if (vm_can_register(VM_FAULTS_SIGNAL, VM_METHOD_MOVE))
		test_skip("this kernel has no UFFDIO_MOVE");
	run_test(test_what_moved_is_known_whatever_the_answer);
	run_test(test_an_absent_page_is_told);
	run_test(test_a_full_frame_is_no_move);
	run_test(test_moves_within_the_window);
	return 0;
}
