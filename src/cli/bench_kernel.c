// SPDX-License-Identifier: MIT
#include "cli/bench_kernel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

#include "base/os.h"
#include "cli/undo.h"

#define ZRAM_CONTROL "/sys/class/zram-control/hot_add"
#define ZSWAP "/sys/module/zswap/parameters/enabled"

enum { PRIORITY_MAX = 32767, PATH_SIZE = 192, TRIES = 100, TRY_US = 20000 };

static struct {
	bool v2;
	char memory_root[PATH_SIZE], cpu_root[PATH_SIZE]; /* empty: there is none */
	char memory[PATH_SIZE + 32], cpu[PATH_SIZE + 32]; /* our cgroups; in v2 one */
	char zram[16]; /* number of our device */
	const char *algo;
	u64 disk_bytes;
	bool swap_on;
	u64 kswapd_ns; /* at the beginning of the run */
} side;

static int printf_like(3, 4) explain(char *why, size_t size, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, size, fmt, ap);
	va_end(ap);
	return -1;
}

/* ---- cgroups ---- */

static const char *path_of(char *buf, const char *dir, const char *name)
{
	snprintf(buf, PATH_MAX, "%s/%s", dir, name);
	return buf;
}

static bool has_word(const char *path, const char *word)
{
	char text[512];

	file_line(path, text, sizeof(text));
	for (char *save, *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		if (!strcmp(w, word))
			return true;
	}
	return false;
}

/* Version 1 where the memory controller is there, else version 2. False: neither has it. */
static bool find_cgroups(void)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	char path[PATH_MAX], unified[PATH_SIZE] = "";
	struct mntent *m;

	side.memory_root[0] = side.cpu_root[0] = '\0';
	while (mounts && (m = getmntent(mounts))) {
		bool v1 = !strcmp(m->mnt_type, "cgroup");

		if (strlen(m->mnt_dir) >= PATH_SIZE)
			continue;
		if (v1 && hasmntopt(m, "memory"))
			strcpy(side.memory_root, m->mnt_dir);
		if (v1 && hasmntopt(m, "cpuacct"))
			strcpy(side.cpu_root, m->mnt_dir);
		if (!strcmp(m->mnt_type, "cgroup2") &&
		    has_word(path_of(path, m->mnt_dir, "cgroup.controllers"), "memory"))
			strcpy(unified, m->mnt_dir);
	}
	if (mounts)
		endmntent(mounts);
	side.v2 = !side.memory_root[0];
	if (side.v2)
		strcpy(side.memory_root, unified);
	return side.memory_root[0] != '\0';
}

/* In version 2 a cgroup has a controller if its parent hands it down. */
static int hand_down_memory(void)
{
	char path[PATH_MAX];
	int ret;

	path_of(path, side.memory_root, "cgroup.subtree_control");
	if (!side.v2 || has_word(path, "memory"))
		return 0;
	ret = undo_note(UNDO_WRITE, path, "-memory");
	return ret ? ret : file_write(path, "+memory");
}

static int make_cgroup(const char *root, char *dir)
{
	int ret;

	snprintf(dir, PATH_SIZE + 32, "%s/weir-bench-%d", root, (int)getpid());
	ret = undo_note(UNDO_CGROUP, dir, "");
	return ret ? ret : mkdir(dir, 0755) ? -errno : 0;
}

static int make_cgroups(void)
{
	int ret = hand_down_memory();

	if (!ret)
		ret = make_cgroup(side.memory_root, side.memory);
	if (!ret && !side.v2 && side.cpu_root[0])
		ret = make_cgroup(side.cpu_root, side.cpu);
	if (side.v2)
		strcpy(side.cpu, side.memory);
	return ret;
}

/* ---- zram ---- */

static int zram_write(const char *attribute, const char *text)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/block/zram%s/%s", side.zram, attribute);
	return file_write(path, text);
}

static int add_zram(void)
{
	if (!file_line(ZRAM_CONTROL, side.zram, sizeof(side.zram))[0])
		return -ENODEV;
	return undo_note(UNDO_ZRAM, "zram", side.zram);
}

/* The chosen one of the list is in brackets. */
static bool zram_has_algo(char *list, size_t size)
{
	char path[PATH_MAX], chosen[32];

	snprintf(path, sizeof(path), "/sys/block/zram%s/comp_algorithm", side.zram);
	snprintf(chosen, sizeof(chosen), "[%s]", side.algo);
	file_line(path, list, size);
	return has_word(path, side.algo) || has_word(path, chosen);
}

/* What mkswap writes: a header of version 1 with the number of the last page. */
static int make_swap(const char *path, u64 bytes)
{
	char header[PAGE_SIZE] = "";
	u32 version = 1, last = (u32)(bytes / PAGE_SIZE - 1);
	int fd = open(path, O_WRONLY | O_CLOEXEC), ret = 0;

	if (fd < 0)
		return -errno;
	memcpy(header + 1024, &version, sizeof(version));
	memcpy(header + 1028, &last, sizeof(last));
	memcpy(header + PAGE_SIZE - 10, "SWAPSPACE2", 10);
	if (pwrite(fd, header, sizeof(header), 0) != sizeof(header))
		ret = -EIO;
	if (close(fd) && !ret)
		ret = -errno;
	return ret;
}

static int swap_off(const char *path)
{
	if (side.swap_on && swapoff(path))
		return -errno;
	side.swap_on = false;
	return 0;
}

/* The device may still be looked at by others (udev) when it is to be reset. */
static int reset_zram(void)
{
	int ret = zram_write("reset", "1");

	for (int i = 0; i < TRIES && ret == -EBUSY; i++) {
		usleep(TRY_US);
		ret = zram_write("reset", "1");
	}
	return ret;
}

static int renew_zram(const char **step)
{
	char path[64], size[24];
	int ret;

	snprintf(path, sizeof(path), "/dev/zram%s", side.zram);
	snprintf(size, sizeof(size), "%llu", (unsigned long long)side.disk_bytes);
	*step = "swapoff";
	ret = swap_off(path);
	*step = "reset";
	if (!ret)
		ret = reset_zram();
	if (!ret) {
		*step = "comp_algorithm";
		ret = zram_write(*step, side.algo);
	}
	if (!ret) {
		*step = "disksize";
		ret = zram_write(*step, size);
	}
	if (!ret) {
		*step = "mkswap";
		ret = make_swap(path, side.disk_bytes);
	}
	if (!ret) {
		*step = "swapon";
		ret = swapon(path, SWAP_FLAG_PREFER | PRIORITY_MAX) ? -errno : 0;
	}
	side.swap_on = !ret;
	return ret;
}

/* ---- one run ---- */

/* User and system time of the kernel's own reclaimers. */
static u64 kswapd_ns(void)
{
	DIR *dir = opendir("/proc");
	u64 ticks = 0;

	for (struct dirent *d; dir && (d = readdir(dir));) {
		unsigned long user, system;
		char path[PATH_MAX], text[1024], *name;

		if (d->d_name[0] < '1' || d->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/stat", d->d_name);
		name = strchr(file_line(path, text, sizeof(text)), '(');
		if (name && !strncmp(name, "(kswapd", 7) && (name = strrchr(name, ')')) &&
		    sscanf(name, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) == 2)
			ticks += user + system;
	}
	if (dir)
		closedir(dir);
	return ticks * (1000000000ull / (u64)sysconf(_SC_CLK_TCK));
}

/* A cgroup whose peak is to be forgotten is made anew. */
static int renew_cgroup(u64 limit, char *what)
{
	char text[24];
	int ret;

	snprintf(text, sizeof(text), "%llu", (unsigned long long)limit);
	strcpy(what, side.memory);
	/* A process that has been waited for may be counted for a moment. */
	for (int i = 0; (ret = rmdir(side.memory) ? -errno : 0) == -EBUSY && i < TRIES; i++)
		usleep(TRY_US);
	if (ret || mkdir(side.memory, 0755))
		return ret ? ret : -errno;
	ret = file_write(path_of(what, side.memory, side.v2 ? "memory.max" : "memory.limit_in_bytes"), text);
	/* Version 1 inherits it, and with 0 nothing would be swapped out. */
	if (!ret && !side.v2)
		ret = file_write(path_of(what, side.memory, "memory.swappiness"), "60");
	return ret;
}

int kernel_side_begin(u64 limit, char *why, size_t size)
{
	char what[PATH_MAX];
	const char *step;
	int ret = renew_zram(&step);

	if (ret)
		return explain(why, size, "/dev/zram%s: %s: %s", side.zram, step, strerror(-ret));
	ret = renew_cgroup(limit, what);
	if (ret)
		return explain(why, size, "%s: %s", what, strerror(-ret));
	if (side.cpu[0] && !side.v2)
		(void)!file_write(path_of(what, side.cpu, "cpuacct.usage"), "0");
	side.kswapd_ns = kswapd_ns();
	return 0;
}

int kernel_side_open(const char *algo, u64 working_set, char *why, size_t size)
{
	bool found, zswap;
	char text[128];
	int ret;

	if (geteuid())
		return explain(why, size, "the kernel's swap needs root");
	if (!find_cgroups())
		return explain(why, size, "there is no memory cgroup controller");
	if (access(ZRAM_CONTROL, R_OK))
		return explain(why, size, "the kernel has no zram; try: modprobe zram");
	ret = undo_open(&found);
	if (ret == -EBUSY)
		return explain(why, size, "another weir bench workload uses the kernel's swap");
	if (ret)
		return explain(why, size, "the kernel's swap cannot be set up: journal: %s", strerror(-ret));
	if (found)
		fprintf(stderr, "weir: bench: what an earlier run had left behind is undone\n");
	side.algo = algo;
	side.disk_bytes = ALIGN_UP(working_set + working_set / 8 + (16 << 20), PAGE_SIZE);
	zswap = file_line(ZSWAP, text, sizeof(text))[0] == 'Y';
	ret = zswap ? undo_note(UNDO_WRITE, ZSWAP, "Y") : 0;
	if (!ret && zswap)
		ret = file_write(ZSWAP, "N");
	if (!ret)
		ret = add_zram();
	if (!ret)
		ret = make_cgroups();
	if (ret)
		explain(why, size, "the kernel's swap cannot be set up: %s", strerror(-ret));
	else if (!zram_has_algo(text, sizeof(text)))
		explain(why, size, "the kernel's zram has no %s, only %s", algo, text);
	else if (!kernel_side_begin(working_set, why, size)) /* a trial */
		return 0;
	(void)!undo_close();
	return -1;
}

int kernel_side_enter(void)
{
	char path[PATH_MAX];
	int ret = file_write(path_of(path, side.memory, "cgroup.procs"), "0");

	if (!ret && !side.v2 && side.cpu[0])
		ret = file_write(path_of(path, side.cpu, "cgroup.procs"), "0");
	return ret;
}

static u64 file_number(const char *dir, const char *name)
{
	char path[PATH_MAX], text[64];

	return strtoull(file_line(path_of(path, dir, name), text, sizeof(text)), NULL, 10);
}

static u64 cgroup_cpu_ns(void)
{
	char path[PATH_MAX], text[64];
	unsigned long long us;

	if (!side.v2)
		return side.cpu[0] ? file_number(side.cpu, "cpuacct.usage") : 0;
	file_line(path_of(path, side.cpu, "cpu.stat"), text, sizeof(text));
	return sscanf(text, "usage_usec %llu", &us) == 1 ? us * 1000 : 0;
}

/* A line "oom_kill N" among others. */
static u64 oom_kills(void)
{
	char path[PATH_MAX], text[512], *at;

	path_of(path, side.memory, side.v2 ? "memory.events" : "memory.oom_control");
	if (os_read_file(path, text, sizeof(text)) < 0 || !(at = strstr(text, "oom_kill ")))
		return 0;
	return strtoull(at + strlen("oom_kill "), NULL, 10);
}

void kernel_side_measure(struct kernel_usage *usage)
{
	char path[PATH_MAX], text[256];
	unsigned long long used_max = 0;

	usage->resident_peak = file_number(side.memory, side.v2 ? "memory.peak" : "memory.max_usage_in_bytes");
	/* Linux before 5.19: it has been at its limit. */
	if (!usage->resident_peak)
		usage->resident_peak = file_number(side.memory, "memory.max");
	snprintf(path, sizeof(path), "/sys/block/zram%s/mm_stat", side.zram);
	sscanf(file_line(path, text, sizeof(text)), "%*u %*u %*u %*u %llu", &used_max);
	usage->stored_peak = used_max;
	usage->cpu_ns = cgroup_cpu_ns();
	usage->oom_kills = oom_kills();
	usage->kswapd_ns = kswapd_ns() - side.kswapd_ns;
}

int kernel_side_close(void)
{
	return undo_close();
}
