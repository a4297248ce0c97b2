/* SPDX-License-Identifier: MIT */
/*
 * What the file device keeps its pages in, found by PATH:
 *
 *   a directory, or a name that is not there   a file without a name in that directory (O_TMPFILE), gone with the last
 *                                              process that has it open, however that ends
 *   a regular file                             the file, locked; if it is empty it grows to the device's size
 *   a block device                             the device, opened exclusively: not while it is mounted or in use
 *
 * What exists and has data is used only if it says that it is swap space (mkswap, or an earlier run), or with force=on.
 * Its first page is its label and stays; pages of swap begin at the second.
 * Context: not from signal handlers.
 */
#pragma once

#include "swap/swap_device.h"

struct file_backing {
	int fd;
	u32 nr_pages; /* with the first, which is the label's */
	u32 memory_align; /* of buffers; 1: any */
	bool direct; /* O_DIRECT is on */
	bool punch; /* the file was empty: what is discarded goes back to the disk */
	u64 dev, ino;
};

/*
 * Opens what cfg->target says, and claims it: for as long as this descriptor, or a copy of it, is open nobody else can
 * have it. On failure -errno and one line in `err`, which begins with "file: ".
 */
int must_check file_backing_open(const struct swap_device_config *cfg, struct file_backing *b, char *err,
				 size_t err_size);

/* Opens what another process has claimed and keeps open, by its /proc/PID/fd/N. 0 or -errno. */
int must_check file_backing_join(const struct swap_device_config *cfg, struct file_backing *b);

/* Is the descriptor still that file? */
bool file_backing_is_open(const struct file_backing *b);
