// SPDX-License-Identifier: MIT
/*
 * The file device where it differs from others: what it takes for its pages and what it refuses, a file that is cut
 * short, a disk that fills up, batches, and a fork. The rest is test_device_conformance.c.
 */
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device_pages.h"
#include "swap/file.h"

static struct page_limit account;
static char dir[] = "file-test.XXXXXX", path[64];
static _Alignas(PAGE_SIZE) u8 pages[SWAP_BATCH_MAX][PAGE_SIZE];

/* ---- what is taken, and what is refused ---- */

/* 0 or the refusal. */
static int try_spec(const char *spec, char *err, size_t size, u64 *bytes)
{
	struct swap_device_config cfg;
	int fds[SWAP_FDS_MAX], nr;

	err[0] = '\0';
	nr = swap_device_parse(spec, &cfg, err, size);
	if (nr == 0)
		nr = file_driver.share(&cfg, fds, err, size);
	if (nr < 0)
		return nr;
	*bytes = cfg.size;
	for (int i = 0; i < nr; i++)
		close(fds[i]);
	return 0;
}

static void expect_refused(int ret, const char *options, const char *why)
{
	char spec[128], err[256];
	u64 bytes;

	snprintf(spec, sizeof(spec), "file:%s%s", path, options);
	expect_eq(try_spec(spec, err, sizeof(err), &bytes), ret);
	if (!strstr(err, why)) {
		fprintf(stderr, "%s: \"%s\", expected \"%s\"\n", spec, err, why);
		exit(1);
	}
}

static void expect_taken(const char *options, u64 expected)
{
	char spec[128], err[256];
	u64 bytes = 0;

	snprintf(spec, sizeof(spec), "file:%s%s", path, options);
	if (try_spec(spec, err, sizeof(err), &bytes) != 0) {
		fprintf(stderr, "%s: %s\n", spec, err);
		exit(1);
	}
	expect_eq(bytes, expected);
}

static void make_file(const char *text, off_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	expect(fd >= 0);
	expect_eq(write(fd, text, strlen(text)), strlen(text));
	expect_eq(ftruncate(fd, size), 0);
	close(fd);
}

static void test_paths(void)
{
	struct stat st;

	snprintf(path, sizeof(path), "%s", dir);
	expect_taken("", 64ull << 30);
	expect_taken(",size=1M", 1 << 20);
	expect_taken(",size=1M,prealloc=on,direct=off", 1 << 20);
	expect_refused(-EINVAL, ",size=5000", "multiple of 4K");
	snprintf(path, sizeof(path), "%s/new", dir);
	expect_taken(",size=8K", 8192);
	expect_eq(stat(path, &st), -1);
	snprintf(path, sizeof(path), "%s/no/such", dir);
	expect_refused(-ENOENT, "", "is not there");
	snprintf(path, sizeof(path), "/dev/null");
	expect_refused(-EINVAL, "", "neither a directory nor a file nor a block device");
}

static void test_files(void)
{
	int fd;

	snprintf(path, sizeof(path), "%s/swap", dir);
	make_file("", 0);
	expect_taken(",size=1M", 1 << 20);
	make_file("", 5 << 20);
	expect_taken("", (5 << 20) - PAGE_SIZE);
	/* It says now what it is. */
	expect_taken("", (5 << 20) - PAGE_SIZE);
	expect_taken(",size=2M", 2 << 20);
	expect_refused(-EINVAL, ",size=5M", "has room for");
	make_file("a letter", 1 << 20);
	expect_refused(-EEXIST, "", "say force=on");
	expect_taken(",force=on", (1 << 20) - PAGE_SIZE);
	expect_taken("", (1 << 20) - PAGE_SIZE);
	make_file("weir swap space\n", 4096);
	expect_refused(-EINVAL, "", "too small");
	make_file("weir swap space\n", 1 << 20);
	fd = open(path, O_WRONLY);
	expect_eq(pwrite(fd, "\0SWAPSPACE2", 11, 4085), 11);
	close(fd);
	expect_taken("", (1 << 20) - PAGE_SIZE);
	unlink(path);
}

static void test_in_use(void)
{
	struct swap_device_config cfg;
	struct swap_device *dev;
	char spec[128], err[256];
	pid_t pid;
	int status;

	snprintf(path, sizeof(path), "%s/swap", dir);
	make_file("", 1 << 20);
	snprintf(spec, sizeof(spec), "file:%s", path);
	expect_eq(swap_device_parse(spec, &cfg, err, sizeof(err)), 0);
	expect_eq(swap_device_open(&cfg, &dev), 0);
	expect_refused(-EAGAIN, "", "is in use");
	dev->ops->close(dev);
	expect_taken("", (1 << 20) - PAGE_SIZE);
	/* What a killed process held is free at once. */
	pid = fork();
	if (pid == 0) {
		expect_eq(swap_device_open(&cfg, &dev), 0);
		raise(SIGKILL);
	}
	expect_eq(waitpid(pid, &status, 0), pid);
	expect_taken("", (1 << 20) - PAGE_SIZE);
	unlink(path);
}

/* ---- faults ---- */

static struct swap_device *open_here(const char *options, u64 nr_slots)
{
	char spec[128];

	snprintf(spec, sizeof(spec), "file:%s%s", path, options);
	return device_open(spec, nr_slots, &account);
}

static void write_slots(struct swap_device *dev, u32 first, u32 nr)
{
	struct swap_io io[SWAP_BATCH_MAX];

	for (u32 i = 0; i < nr; i++) {
		io[i] = (struct swap_io){ .slot = first + i, .page = pages[i], .err = 1 };
		page_make(pages[i], PAGE_RANDOM, first + i);
	}
	swap_device_write_pages(dev, io, nr);
	for (u32 i = 0; i < nr; i++)
		expect_eq(io[i].err, 0);
}

/* Batches of slots `step` apart; from `lost` on they have gone. */
static void read_slots(struct swap_device *dev, u32 first, u32 nr, u32 step, u32 lost)
{
	static u8 good[PAGE_SIZE];
	struct swap_io io[SWAP_BATCH_MAX];

	memset(pages, 0xa5, sizeof(pages));
	for (u32 i = 0; i < nr; i++)
		io[i] = (struct swap_io){ .slot = first + i * step, .page = pages[i], .err = 1 };
	swap_device_read_pages(dev, io, nr);
	for (u32 i = 0; i < nr; i++) {
		expect_eq(io[i].err, io[i].slot < lost ? 0 : -EIO);
		page_make(good, PAGE_RANDOM, io[i].slot);
		expect(io[i].err || memcmp(good, pages[i], PAGE_SIZE) == 0);
		expect_eq(dev->ops->read(dev, io[i].slot, pages[i]), io[i].err);
	}
}

/* Somebody cuts the file: what is behind the cut is lost, in the middle of a request as well, and nothing else. */
static void test_short_file(void)
{
	for (int direct = 0; direct < 2; direct++) {
		struct swap_device *dev;

		snprintf(path, sizeof(path), "%s/swap", dir);
		make_file("", 0);
		dev = open_here(direct ? "" : ",direct=off", 256);
		for (u32 first = 0; first < 256; first += 64)
			write_slots(dev, first, 64);
		read_slots(dev, 0, 64, 4, 256);
		expect_eq(truncate(path, (1 + 100) * (off_t)PAGE_SIZE), 0);
		read_slots(dev, 64, 64, 1, 100);
		read_slots(dev, 1, 50, 3, 100);
		expect_eq(truncate(path, 0), 0);
		read_slots(dev, 0, 64, 1, 0);
		write_slots(dev, 0, 64);
		read_slots(dev, 0, 64, 1, 64);
		dev->ops->close(dev);
		unlink(path);
	}
}

/* In the middle of it all there is no room on the disk: some writes fail, their slots keep what they had. */
static void test_full_disk(void)
{
	struct swap_device *dev;
	u32 stored = 0, failed = 0;

	snprintf(path, sizeof(path), "%s/disk", dir);
	expect_eq(mkdir(path, 0700), 0);
	if (mount("none", path, "tmpfs", 0, "size=20M") != 0) {
		printf("a disk that fills up is left out: a file system cannot be mounted here\n");
		rmdir(path);
		return;
	}
	expect_refused(-ENOSPC, ",prealloc=on", "disk that is full");
	dev = open_here("", 16 << 10);
	for (u32 slot = 0; slot < 8 << 10; slot++) {
		int ret;

		page_make(pages[0], PAGE_RANDOM, slot);
		ret = dev->ops->write(dev, slot, pages[0]);
		expect(ret == 0 || ret == -ENOSPC);
		expect(ret == 0 || slot >= 3000);
		stored += ret == 0;
		failed += ret != 0;
	}
	expect(stored >= 3000 && failed >= 1000);
	page_make(pages[0], PAGE_RANDOM, 1);
	expect_eq(dev->ops->write(dev, 7, pages[0]), -ENOSPC);
	for (u32 first = 0; first + 64 <= stored; first += 64)
		read_slots(dev, first, 64, 1, stored);
	expect_refused(-ENOSPC, "", "disk that is full");
	/* Room again, as whole extents go back. */
	for (u32 slot = 0; slot < 2048; slot++)
		dev->ops->discard(dev, slot);
	for (u32 first = 0; first < 1024; first += 64)
		write_slots(dev, first, 64);
	for (u32 first = 0; first < 1024; first += 64)
		read_slots(dev, first, 64, 1, 1024);
	dev->ops->close(dev);
	expect_eq(umount(path), 0);
	rmdir(path);
}

/* ---- fork ---- */

static void test_fork(void)
{
	struct swap_device *dev;
	pid_t pid;
	int status;

	snprintf(path, sizeof(path), "%s", dir);
	dev = open_here("", 4096);
	for (u32 first = 0; first < 1024; first += 64)
		write_slots(dev, first, 64);
	expect_eq(dev->ops->fork_begin(dev), 0);
	pid = fork();
	if (pid == 0) {
		expect_eq(dev->ops->fork_child(dev), 0);
		for (u32 first = 0; first < 1024; first += 64)
			read_slots(dev, first, 64, 1, 1024);
		for (u32 slot = 0; slot < 512; slot++)
			dev->ops->discard(dev, slot);
		for (u32 first = 2048; first < 2560; first += 64)
			write_slots(dev, first, 64);
		for (u32 first = 512; first < 1024; first += 64)
			read_slots(dev, first, 64, 1, 1024);
		for (u32 first = 2048; first < 2560; first += 64)
			read_slots(dev, first, 64, 1, 4096);
		_exit(0);
	}
	dev->ops->fork_parent(dev, pid);
	for (u32 slot = 512; slot < 1024; slot++)
		dev->ops->discard(dev, slot);
	for (u32 first = 3072; first < 3584; first += 64)
		write_slots(dev, first, 64);
	expect_eq(waitpid(pid, &status, 0), pid);
	expect_eq(status, 0);
	for (u32 first = 0; first < 512; first += 64)
		read_slots(dev, first, 64, 1, 512);
	for (u32 first = 3072; first < 3584; first += 64)
		read_slots(dev, first, 64, 1, 4096);
	dev->ops->close(dev);
}

/* The descriptors are told, and opened again if the program has closed them before. */
static void test_begin(void)
{
	struct swap_device *dev;
	int fds[SWAP_FDS_MAX], nr;

	snprintf(path, sizeof(path), "%s", dir);
	dev = open_here("", 512);
	nr = dev->ops->begin(dev, false, fds);
	expect(nr >= 1);
	for (int i = 0; i < nr; i++)
		expect(fcntl(fds[i], F_GETFD) == FD_CLOEXEC);
	expect_eq(dev->ops->begin(dev, false, fds), nr);
	close_range(3, ~0u, 0);
	nr = dev->ops->begin(dev, true, fds);
	expect(nr >= 1 && fcntl(fds[0], F_GETFD) == FD_CLOEXEC);
	write_slots(dev, 0, 64);
	read_slots(dev, 0, 64, 1, 64);
	dev->ops->close(dev);
}

int main(void)
{
	expect(mkdtemp(dir));
	run_test(test_paths);
	run_test(test_files);
	run_test(test_in_use);
	run_test(test_short_file);
	run_test(test_full_disk);
	run_test(test_fork);
	run_test(test_begin);
	expect_eq(rmdir(dir), 0);
	return 0;
}
