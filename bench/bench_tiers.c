// SPDX-License-Identifier: MIT
/*
 * An ordinary program with a working set of its own: filled with the contents of a file, then accessed by a zipf
 * distribution, a part of it written to. Prints the accesses per second; what is read is verified. bench/tiers.sh runs
 * it on different devices.
 *
 *   bench_tiers DATA_FILE MIB ACCESSES WRITES_PERCENT
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "lab/zipf.h"

enum { WORDS = PAGE_SIZE / sizeof(u64) };

static void die(const char *what)
{
	fprintf(stderr, "bench_tiers: %s\n", what);
	exit(1);
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* The file again and again, the first word of each page its number. */
static void fill(u64 *m, u32 nr_pages, int fd)
{
	off_t at = 0;

	for (u32 i = 0; i < nr_pages; i++, at += PAGE_SIZE) {
		if (pread(fd, m + (size_t)i * WORDS, PAGE_SIZE, at) < (ssize_t)PAGE_SIZE) {
			at = 0;
			if (pread(fd, m + (size_t)i * WORDS, PAGE_SIZE, 0) < (ssize_t)PAGE_SIZE)
				die("the file has no page of data");
		}
		m[(size_t)i * WORDS] = i;
	}
}

int main(int argc, char **argv)
{
	static struct zipf zipf;
	u32 nr_pages = argc == 5 ? (u32)atoi(argv[2]) << 8 : 0;
	u64 accesses = argc == 5 ? (u64)atoll(argv[3]) : 0, writes = argc == 5 ? (u64)atoi(argv[4]) : 0;
	int fd = nr_pages ? open(argv[1], O_RDONLY) : -1;
	u64 random = 1, *m;
	double start;

	if (fd < 0)
		die("usage: bench_tiers DATA_FILE MIB ACCESSES WRITES_PERCENT");
	m = mmap(NULL, pages_to_bytes(nr_pages), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		die("no memory");
	zipf_init(&zipf, nr_pages, 0.99);
	start = seconds();
	fill(m, nr_pages, fd);
	printf("fill %.3f s", seconds() - start);
	start = seconds();
	for (u64 i = 0; i < accesses; i++) {
		u32 page = zipf_page(&zipf, &random);
		u64 *at = m + (size_t)page * WORDS;

		if (at[0] != page)
			die("a page is not what it was");
		if (random_next(&random) % 100 < writes)
			at[1]++;
	}
	printf(" accesses/s %.0f\n", (double)accesses / (seconds() - start));
	return 0;
}
