// SPDX-License-Identifier: MIT
#include "base/process.h"

#include <errno.h>
#include <time.h>

#include "base/os.h"
#include "base/print.h"
#include "base/syscall.h"

enum {
	STAT_START_FIELD = 22,
	STAT_THREADS_FIELD = 20,
	TICKS = 100, /* a second: the unit of start times */
	START_SLACK = 2 * TICKS,
	START_MASK = (1 << PROCESS_START_BITS) - 1,
};

static const char *read_number(const char *p, u64 *value)
{
	*value = 0;
	while (*p >= '0' && *p <= '9')
		*value = *value * 10 + (u64)(*p++ - '0');
	return p;
}

int process_read(const char *name, struct process *process)
{
	char path[32], text[1024];
	const char *p = text;
	long len;

	print_to(path, sizeof(path), "/proc/%s/stat", name);
	len = os_read_file(path, text, sizeof(text));
	if (len < 0)
		return (int)len;
	read_number(text, &process->pid);
	/* The name of the program is in brackets and may hold anything. */
	for (long i = 0; i < len; i++) {
		if (text[i] == ')')
			p = text + i;
	}
	if (p == text || p[1] != ' ')
		return -EPROTO;
	p += 2;
	process->state = *p;
	for (int field = 3; field < STAT_START_FIELD; field++) {
		if (field == STAT_THREADS_FIELD)
			read_number(p, &process->threads);
		while (*p && *p++ != ' ')
			;
	}
	read_number(p, &process->start);
	return 0;
}

void process_read_self(struct process *process)
{
	struct timespec now;

	if (!process_read("self", process))
		return;
	sys2(SYS_clock_gettime, CLOCK_BOOTTIME, &now);
	*process = (struct process){
		.pid = (u64)sys0(SYS_getpid),
		.start = (u64)now.tv_sec * TICKS + (u64)now.tv_nsec / (1000000000 / TICKS),
	};
}

u64 process_id(const struct process *process)
{
	return process->pid << PROCESS_START_BITS | (process->start & START_MASK);
}

u64 process_own_id(void)
{
	struct process self;

	process_read_self(&self);
	return process_id(&self);
}

u32 process_id_pid(u64 id)
{
	return (u32)(id >> PROCESS_START_BITS);
}

bool process_is(u64 id, const struct process *process)
{
	u32 later = ((u32)id - (u32)process->start + START_SLACK) & START_MASK;

	return process_id_pid(id) == process->pid && later <= 2 * START_SLACK;
}

/* Out of /proc's sight, but there. */
static bool exists(u64 id)
{
	return sys2(SYS_kill, process_id_pid(id), 0) != -ESRCH;
}

bool process_is_dead(u64 id)
{
	struct process process;
	char name[12];
	int ret;

	print_to(name, sizeof(name), "%u", process_id_pid(id));
	ret = process_read(name, &process);
	if (ret)
		return (ret == -ENOENT || ret == -ESRCH) && !exists(id);
	if (!process_is(id, &process))
		return true;
	return (process.state == 'Z' || process.state == 'X') && process.threads <= 1;
}

bool process_can_judge(u64 self)
{
	struct process process;

	return !process_read("self", &process) && process_is(self, &process);
}
