/* SPDX-License-Identifier: MIT */
/* What a step did, in words; and the steps of a run in one column per thread, as in the patch's commit message. */
#pragma once

#include <stdio.h>

#include "world.h"

/* Called by the seams; they do nothing unless a trace is wanted. */
void trace_read(uintptr_t addr, u64 value);
void trace_change(uintptr_t addr, u64 old, u64 new);
void trace_sleep(uintptr_t addr);
void trace_wake(uintptr_t addr);
void trace_page(const char *what, u32 vpn, const struct content *data);
void trace_slot(const char *what, const struct sim_device *d, u32 slot, const struct content *data);

/* The run that was just traced; `all` shows also the steps on hints and counters. */
void trace_print(FILE *out, bool all);
