/* SPDX-License-Identifier: MIT */
/*
 * A swap device as `weir run` and `weir swapon` prepare it: parsed, opened and claimed before any program is told, so
 * that what is wrong is said in one line and nothing has happened.
 */
#pragma once

#include "swap/swap_device.h"
#include "tree/swaps.h"

enum { DEVICE_SPEC_SIZE = SWAPS_SPEC };

struct prepared_device {
	const char *text; /* the specification as it was given */
	struct swap_device_config config;
	const struct swap_driver *driver;
	int fds[SWAP_FDS_MAX], nr_fds; /* open here, for a keeper */
	u32 keeper; /* the process that has them while they are needed, or its engine; 0: each opens its own */
	int kept[SWAP_FDS_MAX]; /* their numbers there */
};

/* 0 or -EINVAL and a line in `err`. */
int must_check device_parse(struct prepared_device *dev, const char *text, char *err, size_t err_size);

/*
 * Opens what processes share; `alone`: each is to open it for itself, so it is only tried. 0, or -errno and a line in
 * `err`. For a moment it tries again and again where an earlier run may still hold it: its holder sees a little later
 * than we that it has ended.
 */
int must_check device_prepare(struct prepared_device *dev, bool alone, char *err, size_t err_size);
void device_close(struct prepared_device *dev);

/* Somebody keeps the descriptors, by the numbers that they have here. */
void device_kept_by(struct prepared_device *dev, u32 keeper);

/* What the programs open: the device as it is, or what its keeper has; DEVICE_SPEC_SIZE. 0 or -ENAMETOOLONG. */
int must_check device_spec(const struct prepared_device *dev, char *spec);

/* Fills in an entry of the list, but for its state. 0 or -ENAMETOOLONG. */
int must_check device_enlist(const struct prepared_device *dev, struct swaps_device *listed);
