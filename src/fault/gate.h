/* SPDX-License-Identifier: MIT */
/*
 * The gate in front of the core: fork closes it, so that no thread is in the middle of a fault or of a change when the
 * child gets its copy of everything. Entering costs one addition on a line that few threads share.
 *
 * `closed` is written by the holder of `lock` (release) and read by whoever enters; the barrier in gate_enter and the
 * one in gate_close make sure that either the closer sees the visitor or the visitor sees the gate closed.
 */
#pragma once

#include "sync/lock.h"

enum { GATE_SHARDS = 16 };

struct gate {
	struct mutex lock; /* of the closer */
	struct atomic32 closed; /* thread id of the closer, 0: open */
	struct {
		struct atomic32 inside;
		u32 unused[15];
	} shard[GATE_SHARDS];
};

/* Around every use of the core. Sleeps while the gate is closed, unless the caller closed it. Returns the shard. */
u32 gate_enter(struct gate *gate);
void gate_leave(struct gate *gate, u32 shard);

/* Waits until nobody is inside, and keeps everybody else out. Context: signals blocked, not inside. */
void gate_close(struct gate *gate);
void gate_open(struct gate *gate);

/* In a forked child: the closer's copy, nobody else is there. */
void gate_open_in_child(struct gate *gate);

/* The process's gate. */
extern struct gate core_gate;
