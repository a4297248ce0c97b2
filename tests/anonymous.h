/* SPDX-License-Identifier: MIT */
/* How much memory the kernel says this process has, against what was charged. */
#pragma once

#include "test.h"

enum { ANONYMOUS_SLACK = 64 }; /* pages: what else the process may touch meanwhile */

/* Pages, counted in the page tables. */
static inline u64 anonymous_pages(void)
{
	FILE *file = fopen("/proc/self/smaps_rollup", "r");
	unsigned long long kib = 0;
	char line[128];
	int found = 0;

	expect(file != NULL);
	while (!found && fgets(line, sizeof(line), file))
		found = sscanf(line, "Anonymous: %llu kB", &kib);
	fclose(file);
	expect_eq(found, 1);
	return bytes_to_pages(kib << 10);
}

/* At least `charged` pages have come since `before`, all of them charged; a sanitizer has memory of its own. */
static inline void expect_anonymous(u64 before, u64 charged)
{
	u64 now = anonymous_pages();

	expect(now + ANONYMOUS_SLACK >= before + charged);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
	expect(now <= before + charged + ANONYMOUS_SLACK);
#endif
}
