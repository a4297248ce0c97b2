// SPDX-License-Identifier: MIT
/*
 * Runs a command in a session of its own and looks at all of its processes again and again, each time with all of them
 * stopped, so that the figures belong to one moment. At the end it prints, on descriptor 3,
 *
 *   pss_peak_kib     most physical memory of all together (the sum of their proportional shares)
 *   over_kib         by how much it was at most above the limit and what forked children have inherited just before,
 *                    those included that have not entered the pool yet
 *   processes_peak   most processes in one look
 *   granted_peak     most pages granted in the pool of the run, and its limit
 *   fairest          the best ratio, in 1/1000, of the second largest grant to the largest, with most of the limit
 *   looks            how often it has looked
 *
 *   watch_tree COMMAND...
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/process.h"
#include "test.h"
#include "tree/pool.h"

enum { PROCESSES_MAX = 512, LOOK_US = 15000 };

static struct {
	u64 pss_peak_kib, over_kib, processes_peak, granted_peak, fairest, looks;
} found;

static struct pool *pool;

/* One line of a file in /proc that begins with `key`, or the whole file. -1: the process is gone. */
static long read_proc(pid_t pid, const char *name, char *buf, size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -1;
	n = read(fd, buf, size - 1);
	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	return n;
}

/* State and session of a process. */
static bool read_stat(pid_t pid, char *state, int *session)
{
	char text[1024], *end;
	int parent, group;

	if (read_proc(pid, "stat", text, sizeof(text)) <= 0)
		return false;
	end = strrchr(text, ')');
	return end && sscanf(end + 1, " %c %d %d %d", state, &parent, &group, session) == 4;
}

static u64 read_pss_kib(pid_t pid)
{
	char text[4096], *line;

	if (read_proc(pid, "smaps_rollup", text, sizeof(text)) <= 0)
		return 0;
	line = strstr(text, "\nPss:");
	return line ? strtoull(line + 5, NULL, 10) : 0;
}

static u32 list_processes(int of_session, pid_t *pids)
{
	DIR *proc = opendir("/proc");
	struct dirent *d;
	u32 nr = 0;

	expect(proc);
	while ((d = readdir(proc))) {
		pid_t pid = atoi(d->d_name);
		int session;
		char state;

		if (pid > 0 && read_stat(pid, &state, &session) && session == of_session && state != 'Z' &&
		    state != 'X' && nr < PROCESSES_MAX)
			pids[nr++] = pid;
	}
	closedir(proc);
	return nr;
}

/* All that exist when none of them runs: one that is stopped cannot fork. */
static u32 stop_all(int session, pid_t *pids)
{
	u32 nr = 0, before;

	do {
		before = nr;
		nr = list_processes(session, pids);
		for (u32 i = 0; i < nr; i++)
			kill(pids[i], SIGSTOP);
		for (u32 i = 0; i < nr; i++) {
			char state = 'T';
			int ignored;

			for (int tries = 0;
			     tries < 2000 && read_stat(pids[i], &state, &ignored) && !strchr("TtZXD", state); tries++)
				usleep(100);
		}
	} while (nr != before);
	return nr;
}

static void open_pool_of(pid_t pid)
{
	static char text[65536];
	long n = read_proc(pid, "environ", text, sizeof(text));

	for (long at = 0; at < n; at += (long)strlen(text + at) + 1) {
		if (!strncmp(text + at, "WEIR_TREE=", 10) && pool_open(text + at + 10, &pool))
			pool = NULL;
	}
}

/* A forked child that has not entered the pool yet, or waits for its first pages there: what it has is inherited. */
static bool is_unborn(pid_t pid, int session)
{
	for (u32 i = 0; pool && i < atomic32_read(&pool->nr_used); i++) {
		u64 word = atomic64_read(&pool->slot[i].word);

		if ((pid_t)process_id_pid(word >> POOL_GRANT_BITS) == pid && (word & POOL_PAGES_MAX))
			return false;
	}
	return pid != session;
}

/* `unborn`: of the sum. */
static void look_at_pool(u64 pss_kib, u64 unborn_kib)
{
	u64 first = 0, second = 0, sum = 0, allowed = pool->limit;

	for (u32 i = 0; i < atomic32_read(&pool->nr_used); i++) {
		u64 granted = (u32)atomic64_read(&pool->slot[i].word) & POOL_PAGES_MAX;

		sum += granted;
		if (granted)
			allowed += atomic32_read(&pool->slot[i].inherited);
		if (granted > first) {
			second = first;
			first = granted;
		} else if (granted > second) {
			second = granted;
		}
	}
	found.granted_peak = max_u64(found.granted_peak, sum);
	if (pss_kib > allowed * 4 + unborn_kib)
		found.over_kib = max_u64(found.over_kib, pss_kib - allowed * 4 - unborn_kib);
	if (first && first + second > pool->limit / 4 * 3)
		found.fairest = max_u64(found.fairest, second * 1000 / first);
}

static void look(int session)
{
	static pid_t pids[PROCESSES_MAX];
	u32 nr = stop_all(session, pids);
	u64 pss = 0, unborn = 0;

	if (!pool && nr)
		open_pool_of(pids[nr - 1]);
	for (u32 i = 0; i < nr; i++) {
		u64 kib = read_pss_kib(pids[i]);

		pss += kib;
		unborn += is_unborn(pids[i], session) ? kib : 0;
	}
	if (pool)
		look_at_pool(pss, unborn);
	for (u32 i = 0; i < nr; i++)
		kill(pids[i], SIGCONT);
	found.pss_peak_kib = max_u64(found.pss_peak_kib, pss);
	found.processes_peak = max_u64(found.processes_peak, nr);
	found.looks++;
}

int main(int argc, char **argv)
{
	int status = 0;
	pid_t child;

	expect(argc > 1);
	child = fork();
	if (child == 0) {
		setsid();
		execvp(argv[1], argv + 1);
		_exit(127);
	}
	while (waitpid(child, &status, WNOHANG) == 0) {
		usleep(LOOK_US);
		look(child);
	}
	dprintf(3,
		"pss_peak_kib %llu\nover_kib %llu\nprocesses_peak %llu\ngranted_peak %llu of %u\nfairest %llu\nlooks "
		"%llu\n",
		(unsigned long long)found.pss_peak_kib, (unsigned long long)found.over_kib,
		(unsigned long long)found.processes_peak, (unsigned long long)found.granted_peak,
		pool ? pool->limit : 0, (unsigned long long)found.fairest, (unsigned long long)found.looks);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
