// SPDX-License-Identifier: MIT
#include "preload/trace.h"

#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/os.h"
#include "base/print.h"
#include "base/syscall.h"
#include "weir.h"

enum { PATH_BYTES = 256, NAME_BYTES = 16, LINE_BYTES = 192 };

static char trace_path[PATH_BYTES]; /* written at start; empty: off */
static int trace_pid; /* whose end is still to be told: not of a vfork()ed child that shares this memory */
static u64 inherited_in, inherited_out; /* of the forking process: it tells of them itself */

void trace_init(const char *path)
{
	size_t len = path ? strlen(path) : 0;

	if (len && len < sizeof(trace_path))
		memcpy(trace_path, path, len + 1);
	trace_pid = (int)sys0(SYS_getpid);
}

/* One write appends one whole line, whoever else writes. The file is opened anew as the program may close anything. */
static void trace_line(const char *event, const char *fmt, ...) printf_like(2, 3);
static void trace_line(const char *event, const char *fmt, ...)
{
	char line[LINE_BYTES], name[NAME_BYTES + 1] = "";
	size_t len;
	va_list ap;
	long fd;

	if (!trace_path[0])
		return;
	fd = sys4(SYS_openat, AT_FDCWD, trace_path, O_WRONLY | O_APPEND | O_CLOEXEC, 0);
	if (fd < 0)
		return;
	sys2(SYS_prctl, PR_GET_NAME, name);
	for (char *c = name; *c; c++) /* the name is one word */
		*c = *c <= ' ' ? '_' : *c;
	len = print_to(line, sizeof(line), "%s %d %s", event, (int)sys0(SYS_getpid), name);
	va_start(ap, fmt);
	len += print_va(line + len, sizeof(line) - len, fmt, ap);
	va_end(ap);
	line[min_u64(len, sizeof(line) - 1)] = '\n';
	os_write((int)fd, line, min_u64(len, sizeof(line) - 1) + 1);
	sys1(SYS_close, fd);
}

void trace_adopted(void)
{
	trace_line("adopted", "%s", "");
}

void trace_efault(long nr)
{
	trace_line("efault", " %ld", nr);
}

void trace_forked(const struct mm_stats *stats)
{
	struct weir_stats sum;

	if (!trace_path[0])
		return;
	mm_stats_sum(stats, &sum);
	inherited_in = sum.pages_in;
	inherited_out = sum.pages_out + sum.pages_out_clean;
	trace_pid = (int)sys0(SYS_getpid);
}

void trace_end(const struct mm_stats *stats)
{
	struct weir_stats sum;

	if (!trace_path[0] || trace_pid != (int)sys0(SYS_getpid))
		return;
	trace_pid = 0;
	mm_stats_sum(stats, &sum);
	trace_line("end", " resident=%llu total=%llu in=%llu out=%llu", (unsigned long long)sum.resident_peak,
		   (unsigned long long)sum.total_peak, (unsigned long long)(sum.pages_in - inherited_in),
		   (unsigned long long)(sum.pages_out + sum.pages_out_clean - inherited_out));
}
