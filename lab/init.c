// SPDX-License-Identifier: MIT
/*
 * The first process of the lab's guest: swap on, one run of weir with the words that follow "--" on the kernel's
 * command line, and off. From its environment, which is the command line too: LAB_SWAP   ram0 or zram0 LAB_PAGES  pages
 * of swap, with the one of its header: fewer than the device has, as scarce slots are reused soon What lab.py reads are
 * the lines that begin with "lab: ", and weir's own output.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/swap.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096 };

/* What mkswap(8) writes, as far as the kernel looks at it. */
struct swap_header {
	char boot[1024];
	uint32_t version, last_page, nr_bad_pages;
	char rest[PAGE_BYTES - 1024 - 3 * 4 - 10];
	char magic[10];
};

_Static_assert(sizeof(struct swap_header) == PAGE_BYTES, "the header is one page");

static void power_off(void)
{
	fflush(stdout);
	/* qemu runs with -no-reboot. */
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

static void must(int failed, const char *what)
{
	if (!failed)
		return;
	printf("lab: failed: %s: %s\n", what, strerror(errno));
	power_off();
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	must(fd < 0 || write(fd, text, strlen(text)) < 0 || close(fd), path);
}

/* The kernel gives up on a time stamp counter that it finds wrong; then its times are not worth much. */
static void print_clock(const char *when)
{
	const char *path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
	char name[32] = "";
	int fd = open(path, O_RDONLY);

	must(fd < 0 || read(fd, name, sizeof(name) - 1) < 0 || close(fd), path);
	name[strcspn(name, "\n")] = '\0';
	printf("lab: clock %s %s\n", when, name);
	fflush(stdout);
}

static void swap_on(const char *name, uint32_t pages)
{
	static struct swap_header header;
	char path[64], text[32];
	int fd;

	if (!strncmp(name, "zram", 4)) {
		snprintf(path, sizeof(path), "/sys/block/%s/disksize", name);
		snprintf(text, sizeof(text), "%u", pages * PAGE_BYTES);
		write_text(path, text);
	}
	snprintf(path, sizeof(path), "/dev/%s", name);
	header.version = 1;
	header.last_page = pages - 1;
	memcpy(header.magic, "SWAPSPACE2", sizeof(header.magic));
	fd = open(path, O_WRONLY);
	must(fd < 0 || write(fd, &header, sizeof(header)) != sizeof(header) || fsync(fd) || close(fd), path);
	must(swapon(path, 0), "swapon");
}

static void run_weir(char **argv)
{
	int status = 0;
	pid_t pid = fork();

	must(pid < 0, "fork");
	if (!pid) {
		execv("/weir", argv);
		_exit(127);
	}
	must(waitpid(pid, &status, 0) != pid, "wait");
	if (WIFEXITED(status))
		printf("lab: status %d\n", WEXITSTATUS(status));
	else
		printf("lab: killed by signal %d\n", WTERMSIG(status));
}

int main(int argc, char **argv)
{
	const char *swap = getenv("LAB_SWAP"), *pages = getenv("LAB_PAGES");
	struct utsname uts;

	must(mount("none", "/proc", "proc", 0, NULL), "mount /proc");
	must(mount("none", "/sys", "sysfs", 0, NULL), "mount /sys");
	must(mount("none", "/dev", "devtmpfs", 0, NULL), "mount /dev");
	errno = EINVAL;
	must(!swap || !pages || argc < 2, "LAB_SWAP, LAB_PAGES and weir's words are needed");
	must(uname(&uts), "uname");
	/* The firmware leaves its line open. */
	printf("\nlab: begin %s, %ld processors\n", uts.release, sysconf(_SC_NPROCESSORS_ONLN));
	print_clock("before");
	swap_on(swap, (uint32_t)strtoul(pages, NULL, 10));
	run_weir(argv);
	print_clock("after");
	printf("lab: end\n");
	power_off();
}
