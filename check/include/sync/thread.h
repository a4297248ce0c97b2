/* SPDX-License-Identifier: MIT */
/*
 * FIRST SEAM, part 4, as the model checker has it. A thread of weir's own runs only where a scenario makes one of its
 * threads of it (sync_thread_run); else it never runs. Whoever joins waits for that only if the scenario says that it
 * runs already.
 */
#pragma once

#include "base/types.h"
#include "sync/atomic.h"

struct sync_thread {
	void (*fn)(void *arg);
	void *arg;
	bool runs;
	struct atomic32 ended;
};

int must_check sync_thread_start(struct sync_thread *t, void (*fn)(void *arg), void *arg);
void sync_thread_join(struct sync_thread *t);

void sync_thread_run(struct sync_thread *t);
