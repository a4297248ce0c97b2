/* SPDX-License-Identifier: MIT */
/*
 * A lab's own managed window in this process: any policy, any device, managed from the start. One at a time, as it
 * takes SIGBUS.
 */
#pragma once

#include "lab/race.h"
#include "mm/mm.h"

struct lab_config {
	const char *swap; /* device specification */
	size_t region_bytes;
	u64 limit_pages; /* of memory; 0: room for everything */
	enum swapin_policy policy;
	enum swapin_relax relax;
	bool no_keep; /* read faults do not keep the slot */
	bool no_readahead;
};

/* 0; -EINVAL with a line in err; -errno of userfaultfd, memory or the device. */
int must_check lab_open(const struct lab_config *cfg, char *err, size_t err_size);
void lab_close(void);

extern struct mm lab_mm;
extern struct mm_stats lab_stats;

/* The window as a target for race_run(). */
extern const struct race_target lab_race_target;
