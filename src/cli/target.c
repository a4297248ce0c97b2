// SPDX-License-Identifier: MIT
#include "cli/target.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/parse.h"
#include "base/process.h"
#include "cli/engine.h"
#include "cli/holder.h"
#include "preload/env.h"
#include "swap/ring.h"
#include "sync/wait.h"

enum { STEP_MS = 10, RECOVER_MS = 5000 };

/* ---- finding the run ---- */

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* "/proc/<pid>/fd/<n>": nothing else is opened, whatever somebody has put there. */
static bool is_descriptor_path(const char *path)
{
	unsigned int pid, fd;
	int end = 0;

	return sscanf(path, "/proc/%9u/fd/%9u%n", &pid, &fd, &end) == 2 && !path[end];
}

struct found {
	char swaps[64], pool[64];
	bool memory_limited;
};

static void keep_path(char *to, const char *path)
{
	if (is_descriptor_path(path))
		snprintf(to, sizeof(((struct found *)0)->swaps), "%s", path);
}

/* 0 or -errno; what was not there is empty. */
static int read_environment(u32 pid, struct found *found)
{
	char path[32], *text = NULL;
	size_t size = 0;
	FILE *f;
	int err;

	*found = (struct found){ 0 };
	snprintf(path, sizeof(path), "/proc/%u/environ", pid);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	errno = 0;
	while (getdelim(&text, &size, '\0', f) > 0) {
		if (starts_with(text, WEIR_ENV_SWAPS "="))
			keep_path(found->swaps, text + sizeof(WEIR_ENV_SWAPS));
		else if (starts_with(text, WEIR_ENV_TREE "="))
			keep_path(found->pool, text + sizeof(WEIR_ENV_TREE));
		else if (starts_with(text, WEIR_ENV_MEMORY "="))
			found->memory_limited = true;
	}
	err = ferror(f) ? -errno : 0;
	free(text);
	fclose(f);
	return err;
}

/* `weir run --stats` stays beside its command, which is its child. */
static int find_run(u32 pid, struct found *found)
{
	int ret = read_environment(pid, found);
	char path[48];
	unsigned int child;
	FILE *f;

	if (ret || found->swaps[0])
		return ret;
	snprintf(path, sizeof(path), "/proc/%u/task/%u/children", pid, pid);
	f = fopen(path, "re");
	while (f && !found->swaps[0] && fscanf(f, "%u", &child) == 1)
		(void)!read_environment(child, found);
	if (f)
		fclose(f);
	return 0;
}

/* What is made here must be the programs' to open. */
static int become_owner(u32 pid)
{
	char path[32];
	struct passwd *user;
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%u", pid);
	if (stat(path, &st) < 0)
		return -errno;
	if (geteuid() != 0 || (st.st_uid == 0 && st.st_gid == getegid()))
		return 0;
	user = getpwuid(st.st_uid);
	if ((user ? initgroups(user->pw_name, st.st_gid) : setgroups(0, NULL)) < 0 ||
	    setresgid(st.st_gid, st.st_gid, st.st_gid) < 0 || setresuid(st.st_uid, st.st_uid, st.st_uid) < 0)
		return -errno;
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0 ? -errno : 0;
}

static int refuse(const struct target *t, int err, const char *what)
{
	if (err == -ENOENT || err == -ESRCH)
		return cli_error(CLI_FAILED, t->verb, "there is no process %u", t->pid);
	if (err == -EACCES || err == -EPERM)
		return cli_error(CLI_FAILED, t->verb, "process %u is not yours; its user, or root, may do that",
				 t->pid);
	return cli_error(CLI_FAILED, t->verb, "process %u: %s: %s", t->pid, what, strerror(-err));
}

static int open_run(struct target *t, const struct found *found)
{
	int ret = swaps_open(found->swaps, &t->swaps);

	if (ret == -EACCES || ret == -EPERM)
		return refuse(t, ret, "");
	if (ret)
		return cli_error(CLI_FAILED, t->verb, "the run of process %u has ended, or is another machine's",
				 t->pid);
	if (!found->pool[0])
		return 0;
	ret = pool_open(found->pool, &t->pool);
	if (!ret)
		t->pool_fd = open(found->pool, O_RDWR | O_CLOEXEC);
	return ret ? refuse(t, ret, "its shared limit") : 0;
}

int target_open(struct target *t, const char *verb, const char *pid)
{
	struct found found;
	s64 number;
	int ret;

	*t = (struct target){ .verb = verb, .pool_fd = -1, .self = process_own_id() };
	if (parse_int(pid, 1, INT_MAX, &number))
		return cli_error(CLI_USAGE, verb, "'%s' is not the number of a process", pid);
	t->pid = (u32)number;
	ret = become_owner(t->pid);
	if (!ret)
		ret = find_run(t->pid, &found);
	if (ret)
		return refuse(t, ret, "/proc");
	if (!found.swaps[0])
		return cli_error(CLI_FAILED, verb, "process %u does not belong to a weir run", t->pid);
	t->memory_limited = found.memory_limited;
	return open_run(t, &found);
}

/* ---- one command at a time ---- */

/* Another was killed: what it was about to take off comes back, what it was about to add never was. */
static void recover(struct target *t)
{
	for (u32 i = 0; i < target_nr_devices(t); i++) {
		struct swaps_device *dev = &t->swaps->device[i];

		if (swaps_state(dev) == SWAPS_LEAVING)
			swaps_set_state(dev, SWAPS_ON);
		if (swaps_state(dev) == SWAPS_NONE) {
			swaps_set_state(dev, SWAPS_OFF);
			target_release(dev);
		}
	}
	(void)target_request(t, RECOVER_MS);
}

int target_command(struct target *t)
{
	bool was_dead;

	if (swaps_command(t->swaps, t->self, &was_dead))
		return cli_error(CLI_FAILED, t->verb, "another weir swapon or swapoff is at work there (pid %u)",
				 process_id_pid(atomic64_read(&t->swaps->commander)));
	if (was_dead)
		recover(t);
	return 0;
}

void target_command_end(struct target *t)
{
	swaps_command_end(t->swaps, t->self);
}

/* ---- how far they are ---- */

u32 target_nr_devices(const struct target *t)
{
	return (u32)min_u64(atomic32_load_acquire(&t->swaps->nr_devices), SWAPS_DEVICES_MAX);
}

static u32 nr_rows(const struct target *t)
{
	return (u32)min_u64(atomic32_load_acquire(&t->swaps->nr_used), SWAPS_ROWS_MAX);
}

static bool is_stopped(u32 pid)
{
	struct process process;
	char name[12];

	snprintf(name, sizeof(name), "%u", pid);
	return process_read(name, &process) == 0 && (process.state == 'T' || process.state == 't');
}

static bool has_ended(const struct target *t)
{
	return kill((pid_t)atomic32_read(&t->swaps->holder), 0) < 0 && errno == ESRCH;
}

struct target_progress target_look(struct target *t, u32 seq)
{
	struct target_progress p = { .ended = has_ended(t) };

	for (u32 i = 0; i < nr_rows(t); i++) {
		struct swaps_row *row = &t->swaps->row[i];
		u32 pid = process_id_pid(atomic64_read(&row->id));
		bool done = (int)(atomic32_load_acquire(&row->done) - seq) >= 0;

		if (done && !atomic32_read(&row->error))
			continue;
		if (!swaps_row_lives(row))
			continue;
		if (atomic32_read(&row->error)) {
			p.failed = pid;
			p.error = (int)atomic32_read(&row->error);
			p.culprit = atomic32_read(&row->culprit);
		}
		if (done)
			continue;
		p.waiting++;
		if (!is_stopped(pid))
			continue;
		p.stopped++;
		p.a_stopped = pid;
	}
	return p;
}

struct target_progress target_request(struct target *t, u32 ms)
{
	u32 seq = swaps_bump(t->swaps);
	u64 deadline = sync_clock_ns() + (u64)ms * 1000000;
	struct target_progress p;

	while (p = target_look(t, seq), p.waiting > p.stopped && !p.ended && sync_clock_ns() < deadline)
		usleep(STEP_MS * 1000);
	return p;
}

/* ---- devices ---- */

struct target_figures target_figures(struct target *t, u32 device)
{
	struct target_figures f = { 0 };

	for (u32 i = 0; i < nr_rows(t); i++) {
		struct swaps_row *row = &t->swaps->row[i];

		if (!atomic64_read(&row->id) || !atomic32_read(&row->device[device].on) || !swaps_row_lives(row))
			continue;
		f.used += atomic64_read(&row->device[device].used);
		f.stored += atomic64_read(&row->device[device].stored);
		f.size = max_u64(f.size, atomic64_read(&row->device[device].size));
		f.processes++;
	}
	if (!f.size)
		f.size = t->swaps->device[device].size >> PAGE_SHIFT;
	return f;
}

static bool is_in_use(const struct swaps_device *dev)
{
	return swaps_state(dev) == SWAPS_ON || swaps_state(dev) == SWAPS_LEAVING;
}

int target_find(struct target *t, const char *name)
{
	u32 nr = target_nr_devices(t);
	size_t len = strcspn(name, ",");
	int found = -1;
	s64 number;

	if (!parse_int(name, 0, SWAPS_DEVICES_MAX - 1, &number))
		return number < nr && is_in_use(&t->swaps->device[number]) ? (int)number : -1;
	for (u32 i = 0; i < nr; i++) {
		const struct swaps_device *dev = &t->swaps->device[i];
		size_t own = strnlen(dev->name, sizeof(dev->name));
		/* zram:algo=zstd has its options after the colon, and is named zram. */
		bool same = (own == len && !memcmp(dev->name, name, len)) ||
			    (!memchr(dev->name, ':', own) && len > own && !memcmp(dev->name, name, own) &&
			     name[own] == ':');

		if (!is_in_use(dev) || !same)
			continue;
		if (found >= 0)
			return -2;
		found = (int)i;
	}
	return found;
}

/* Whose memory its ring is says what it is. */
static void retire_engine(u32 engine, int ring_fd)
{
	struct ring *ring;
	char path[48];

	snprintf(path, sizeof(path), "/proc/%u/fd/%d", engine, ring_fd);
	if (ring_fd < 0 || ring_open(path, &ring))
		return;
	atomic32_store_release(&ring->retired, 1);
	ring_close(ring);
}

void target_release(const struct swaps_device *dev)
{
	u32 keeper = atomic32_read(&dev->keeper);
	char path[32], name[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%u/comm", keeper);
	f = keeper ? fopen(path, "re") : NULL;
	if (f && fgets(name, sizeof(name), f) && !strcmp(name, "weir-holder\n"))
		kill((pid_t)keeper, HOLDER_LOOK);
	else if (f)
		retire_engine(keeper, dev->kept[ENGINE_FD_RING]);
	if (f)
		fclose(f);
}
