// SPDX-License-Identifier: MIT
/* Needs nothing but libc, as race.c. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "lab/race.h"
#include "lab/target_kernel.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

const char kernel_swap_hint[] = "no swap is active; as root, try: modprobe brd rd_nr=1 rd_size=32768 && "
				"mkswap /dev/ram0 && swapon /dev/ram0";

/* /proc/swaps has a heading and a line for each device. */
bool kernel_swap_is_active(void)
{
	FILE *f = fopen("/proc/swaps", "r");
	int lines = 0, c;

	while (f && (c = getc(f)) != EOF)
		lines += c == '\n';
	if (f)
		fclose(f);
	return lines > 1;
}

struct kernel_swap_counts kernel_swap_counts(void)
{
	struct kernel_swap_counts counts = { 0 };
	FILE *f = fopen("/proc/vmstat", "r");
	unsigned long long value;
	char name[64];

	while (f && fscanf(f, "%63s %llu", name, &value) == 2) {
		if (!strcmp(name, "pswpin"))
			counts.in = value;
		if (!strcmp(name, "pswpout"))
			counts.out = value;
	}
	if (f)
		fclose(f);
	return counts;
}

static void *kernel_map(void *ctx, size_t bytes)
{
	void *region = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)ctx;
	if (region == MAP_FAILED)
		return NULL;
	madvise(region, bytes, MADV_NOHUGEPAGE);
	return region;
}

static void kernel_unmap(void *ctx, void *region, size_t bytes)
{
	(void)ctx;
	munmap(region, bytes);
}

static void kernel_pageout(void *ctx, void *region, size_t bytes)
{
	(void)ctx;
	madvise(region, bytes, MADV_PAGEOUT);
}

const struct race_target kernel_race_target = {
	.map = kernel_map,
	.unmap = kernel_unmap,
	.pageout = kernel_pageout,
};
