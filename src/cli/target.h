/* SPDX-License-Identifier: MIT */
/*
 * A run that goes on, as `weir swapon` and `weir swapoff` find it: by one of its processes, whose environment names the
 * shared memory. That, and the memory, are under /proc/PID, so the kernel decides who may: the same user, or root, who
 * becomes the owner of the process first.
 */
#pragma once

#include "cli/cli.h"
#include "tree/pool.h"
#include "tree/swaps.h"

struct target {
	const char *verb;
	u32 pid;
	struct swaps *swaps;
	struct pool *pool; /* NULL: each process has the limits for itself */
	int pool_fd; /* or -1 */
	bool memory_limited; /* there is a limit of memory, and not of its resident part alone */
	u64 self; /* process_id() of this command */
};

/* 0, or an exit status, and the line is printed. */
int must_check target_open(struct target *t, const char *verb, const char *pid);

/* Becomes the one who may change states, and clears up after one that was killed. As target_open. */
int must_check target_command(struct target *t);
void target_command_end(struct target *t);

/* How far the processes are with a request. */
struct target_progress {
	u32 waiting, stopped; /* have not done it; those of them that are stopped */
	u32 a_stopped; /* pid of one */
	u32 failed; /* pid of one that could not do it, 0: none */
	int error; /* errno */
	u32 culprit; /* the device that it was about */
	bool ended; /* the run is gone */
};

struct target_progress target_look(struct target *t, u32 seq);

/* Asks all to follow the states, and waits until they have, or only stopped ones have not, or for `ms`. */
struct target_progress target_request(struct target *t, u32 ms);

/* What all processes together have of a device, in pages. */
struct target_figures {
	u64 used, size, stored;
	u32 processes; /* that have it open */
};

struct target_figures target_figures(struct target *t, u32 device);

/* The number of a device that is in use, by its number, name or specification; -1: there is none; -2: several. */
int target_find(struct target *t, const char *name);

/* The device is off: whoever keeps it open lets go. */
void target_release(const struct swaps_device *dev);

u32 target_nr_devices(const struct target *t);
