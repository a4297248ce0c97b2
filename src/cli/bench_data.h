/* SPDX-License-Identifier: MIT */
/* What the pages of the workload contain. */
#pragma once

#include "base/types.h"

/*
 * A descriptor of `path`, or, if that is NULL, of a copy of the largest programs and libraries below /usr/lib, a
 * sixteenth of `bytes` of each at most, and `bytes` in all if there are so many; children inherit it. `what` says what
 * it is. Or -1 after an error line.
 */
int must_check bench_data_open(const char *path, u64 bytes, char *what, size_t size);
