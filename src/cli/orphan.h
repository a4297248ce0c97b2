/* SPDX-License-Identifier: MIT */
/*
 * Processes beside a run, which the command does not know: not its children, which it would have to wait for, but
 * orphans. They make a session of their own.
 */
#pragma once

#include "sync/atomic.h"

/* Runs fn(arg), which never returns, in such a process; its pid goes to *pid, shared memory, or NULL. 0 or -errno. */
int orphan_start(void (*fn)(void *arg), void *arg, struct atomic32 *pid);
