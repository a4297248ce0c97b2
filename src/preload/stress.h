/* SPDX-License-Identifier: MIT */
/*
 * WEIR_STRESS, for tests: a thread of weir's own that throws random present pages out, so that every access of the
 * program and of the kernel meets absent pages sooner or later, whatever the limit is.
 */
#pragma once

#include "mm/mm.h"

/* Pages a second; 0 for as fast as it goes, STRESS_OFF (the default) for none. Context: one thread, at start. */
enum { STRESS_OFF = -1, STRESS_RATE_MAX = 100000000 };
void stress_init(struct mm *mm, int rate);

/* Starts the thread, if asked for: it works once the mm is adopted. Again in a forked child. 0 or -errno. */
int must_check stress_start(void);
