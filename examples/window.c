// SPDX-License-Identifier: MIT
/*
 * A window of memory larger than what it may keep in RAM: 256 MiB of records in 64 MiB.
 *
 *   cc window.c $(pkg-config --cflags --libs weir) && ./a.out
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <weir.h>

enum { RECORDS = 1 << 20 };

struct record {
	unsigned long id;
	char name[248];
};

static void must_be_zero(const char *what, int err)
{
	if (err) {
		fprintf(stderr, "%s: %s\n", what, strerror(-err));
		exit(1);
	}
}

int main(void)
{
	/* Everything together, compressed copies and tables included, stays within 64 MiB. */
	struct weir_options options = { .memory = 64u << 20 };
	struct weir_stats stats;
	struct record *records;
	struct weir *weir;
	int fds[2];

	must_be_zero("weir_init", weir_init(&options, &weir));
	must_be_zero("weir_swapon", weir_swapon(weir, "zram:algo=lz4"));

	/* Ordinary memory from here on: pages that do not fit leave and come back by themselves. */
	records = weir_map(weir, RECORDS * sizeof(*records));
	if (!records)
		return 1;
	for (unsigned long i = 0; i < RECORDS; i++) {
		records[i].id = i;
		snprintf(records[i].name, sizeof(records[i].name), "record number %lu", i);
	}
	for (unsigned long i = 0; i < RECORDS; i++) {
		if (records[i].id != i)
			return 1;
	}

	/* The kernel cannot fault pages in: what a system call touches is held for its duration. */
	if (pipe(fds))
		return 1;
	must_be_zero("weir_hold", weir_hold(weir, &records[0], sizeof(records[0]), 0));
	if (write(fds[1], &records[0], sizeof(records[0])) != sizeof(records[0]))
		return 1;
	weir_release(weir, &records[0], sizeof(records[0]));

	weir_stats(weir, &stats);
	printf("%lu MiB in use, at most %lu MiB of memory: %lu pages out, %lu in\n",
	       (unsigned long)(RECORDS * sizeof(*records) >> 20), (unsigned long)(stats.total_peak >> 20),
	       (unsigned long)stats.pages_out, (unsigned long)stats.pages_in);

	must_be_zero("weir_unmap", weir_unmap(weir, records, RECORDS * sizeof(*records)));
	weir_destroy(weir);
	return 0;
}
