/* SPDX-License-Identifier: MIT */
/*
 * Broken invariants stop the program; operating errors never come here.
 *
 *   must()        always on: cheap tests of bounds, state tags and ownership
 *   check()       development and test builds (-Dchecks=true)
 *
 * A failure prints one line with write(2), takes no lock and allocates nothing, so both may be used in a
 * signal handler. Under the model checker assert_fail() reports the schedule instead.
 */
#pragma once

_Noreturn void assert_fail(const char *expr, const char *file, int line);

#define must(cond)                                                                                                     \
	do {                                                                                                           \
		if (__builtin_expect(!(cond), 0))                                                                      \
			assert_fail(#cond, __FILE__, __LINE__);                                                        \
	} while (0)

#ifdef WEIR_CHECKS
#define check(cond) must(cond)
#else
#define check(cond)                                                                                                    \
	do {                                                                                                           \
		if (0)                                                                                                 \
			(void)(cond);                                                                                  \
	} while (0)
#endif
