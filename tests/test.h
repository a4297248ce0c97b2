/* SPDX-License-Identifier: MIT */
/*
 * The little that a test program needs. One program per module, exit status 0 passed, 1 failed, 77 skipped.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"

#define expect(cond)                                                                                                   \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			fprintf(stderr, "%s:%d: %s: failed: %s\n", __FILE__, __LINE__, __func__, #cond);               \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

#define expect_eq(a, b)                                                                                                \
	do {                                                                                                           \
		long long a_ = (long long)(a), b_ = (long long)(b);                                                    \
		if (a_ != b_) {                                                                                        \
			fprintf(stderr, "%s:%d: %s is %lld, not %s = %lld\n", __FILE__, __LINE__, #a, a_, #b, b_); \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

#define test_skip(why)                                                                                                 \
	do {                                                                                                           \
		printf("skipped: %s\n", why);                                                                          \
		exit(77);                                                                                              \
	} while (0)

#define run_test(fn)                                                                                                   \
	do {                                                                                                           \
		fn();                                                                                                  \
		printf("ok %s\n", #fn);                                                                                \
		fflush(stdout);                                                                                        \
	} while (0)

/* xorshift64*: the same sequence for the same seed everywhere. */
static inline u64 test_random(u64 *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}
