/* SPDX-License-Identifier: MIT */
/*
 * Who a process is, in 36 bits that fit a shared word beside other things: its pid, and the low bits of its start time,
 * which tell it from a later one with that pid. By such a name others see that it has ended, however it ended.
 * Context of all: any thread, also signal handlers; reads /proc.
 */
#pragma once

#include "base/types.h"

enum { PROCESS_PID_BITS = 22, PROCESS_START_BITS = 14, PROCESS_ID_BITS = PROCESS_PID_BITS + PROCESS_START_BITS };

struct process {
	u64 pid, start, threads;
	char state;
};

/* Reads /proc/NAME/stat. 0 or -errno. */
int must_check process_read(const char *name, struct process *process);

/*
 * The calling process. Where /proc is out of reach, as after chroot: what the kernel says of it there, from elsewhere.
 * Right if it has just been forked.
 */
void process_read_self(struct process *process);

u64 process_id(const struct process *process);
u64 process_own_id(void);
u32 process_id_pid(u64 id);

/* Equal, but for the slack in a start time that was not read from /proc. */
bool process_is(u64 id, const struct process *process);

/* A zombie has no memory any more, unless it is but the first thread of a process that goes on. */
bool process_is_dead(u64 id);

/* Does /proc show us what we are? Otherwise it is missing, or another's, and says nothing about the others either. */
bool process_can_judge(u64 self);
