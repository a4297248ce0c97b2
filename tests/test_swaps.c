// SPDX-License-Identifier: MIT
/*
 * The list of a run's devices: who changes it, who follows it, and what the dead leave; and the descriptors for devices
 * that come later.
 */
#include "tree/swaps.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "base/process.h"
#include "base/spares.h"
#include "test.h"

static struct swaps *swaps;
static int swaps_fd;

static void setup(void)
{
	expect_eq(swaps_create(&swaps, &swaps_fd), 0);
}

static void teardown(void)
{
	munmap(swaps, sizeof(*swaps));
	close(swaps_fd);
}

static void test_opened_by_path(void)
{
	struct swaps *other;
	char path[32];

	setup();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", swaps_fd);
	expect_eq(swaps_open(path, &other), 0);
	expect(swaps_add(swaps) == &swaps->device[0] && atomic32_read(&other->nr_devices) == 1);
	expect_eq(other->device[0].prio, -1);
	munmap(other, sizeof(*other));
	expect_eq(swaps_open("/proc/self/fd/99999", &other), -ENOENT);
	expect_eq(swaps_open("/dev/null", &other), -EINVAL);
	/* The right size does not make it one. */
	swaps->magic++;
	expect_eq(swaps_open(path, &other), -EINVAL);
	teardown();
}

static void test_no_number_is_used_twice(void)
{
	setup();
	for (int i = 0; i < SWAPS_DEVICES_MAX; i++) {
		struct swaps_device *dev = swaps_add(swaps);

		expect(dev == &swaps->device[i] && swaps_state(dev) == SWAPS_NONE);
		swaps_set_state(dev, SWAPS_OFF);
	}
	expect(!swaps_add(swaps));
	teardown();
}

static void test_recall_is_for_what_leaves(void)
{
	u32 seq;

	setup();
	swaps_set_state(swaps_add(swaps), SWAPS_ON);
	swaps_set_state(swaps_add(swaps), SWAPS_OFF);
	seq = atomic32_read(&swaps->seq);
	expect(!swaps_recall(swaps) && atomic32_read(&swaps->seq) == seq);
	swaps_set_state(&swaps->device[0], SWAPS_LEAVING);
	expect(swaps_recall(swaps) && atomic32_read(&swaps->seq) == seq + 1);
	expect(swaps_state(&swaps->device[0]) == SWAPS_ON && swaps_state(&swaps->device[1]) == SWAPS_OFF);
	teardown();
}

/* Runs fn in a child until it has ended. */
static void in_child(void (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		fn();
		_exit(0);
	}
	expect(waitpid(pid, &status, 0) == pid && status == 0);
}

static void enter(void)
{
	struct swaps_row *row = swaps_enter(swaps, (u32)os_gettid());

	expect(row && swaps_row_lives(row));
}

static void test_rows_of_the_dead(void)
{
	struct swaps_row *row;

	setup();
	in_child(enter);
	expect(atomic64_read(&swaps->row[0].id) && !swaps_row_lives(&swaps->row[0]));
	expect_eq(atomic64_read(&swaps->row[0].id), 0);
	row = swaps_enter(swaps, (u32)os_gettid());
	expect(row == &swaps->row[0] && swaps_row_lives(row));
	expect(atomic32_read(&row->done) != atomic32_read(&swaps->seq));
	/* The next program of the process finds its row; until it has entered there is no such thread. */
	atomic32_set(&row->tid, 4194303);
	expect(!swaps_row_lives(row) && atomic64_read(&row->id));
	expect(swaps_enter(swaps, (u32)os_gettid()) == row && atomic32_read(&swaps->nr_used) == 1);
	teardown();
}

static void command(void)
{
	bool was_dead;

	expect_eq(swaps_command(swaps, process_own_id(), &was_dead), 0);
}

static void test_one_command_at_a_time(void)
{
	bool was_dead;

	setup();
	expect_eq(swaps_command(swaps, process_own_id(), &was_dead), 0);
	expect(!was_dead);
	expect_eq(swaps_command(swaps, 1, &was_dead), -EBUSY);
	swaps_command_end(swaps, process_own_id());
	in_child(command);
	expect_eq(swaps_command(swaps, process_own_id(), &was_dead), 0);
	expect(was_dead);
	teardown();
}

static ino_t inode_of(int fd)
{
	struct stat st;

	expect(!fstat(fd, &st));
	return st.st_ino;
}

static void test_spare_descriptors(void)
{
	int fds[2], fd = memfd_create("a", MFD_CLOEXEC), at;
	ino_t inode = inode_of(fd);

	expect_eq(spares_take(fd), -1);
	expect_eq(spares_open(2, 200, fds), 2);
	expect(fds[0] == 200 && fds[1] == 201 && !spares_has(200));
	spares_keep(fds[0], true);
	at = os_fd_raise(fd);
	expect(at == 200 && inode_of(at) == inode && fcntl(fd, F_GETFD) < 0);
	expect(fcntl(at, F_GETFD) & FD_CLOEXEC);
	/* It is used up; what else is raised goes elsewhere. */
	fd = os_fd_raise(memfd_create("b", MFD_CLOEXEC));
	expect(fd >= 0 && !spares_has(fd));
	spares_close(fd);
	expect(fcntl(fd, F_GETFD) < 0);
	/* Closed, the number is not free for others, but for the next. */
	spares_close(at);
	expect(fcntl(at, F_GETFD) >= 0 && inode_of(at) != inode);
	expect_eq(os_fd_raise(memfd_create("c", MFD_CLOEXEC)), at);
}

int main(void)
{
	run_test(test_opened_by_path);
	run_test(test_no_number_is_used_twice);
	run_test(test_recall_is_for_what_leaves);
	run_test(test_rows_of_the_dead);
	run_test(test_one_command_at_a_time);
	run_test(test_spare_descriptors);
	return 0;
}
