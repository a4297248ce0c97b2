/* SPDX-License-Identifier: MIT */
/*
 * Changes to the machine that are undone whatever happens. Each is noted in a journal before it is made, or at once
 * after it where only the kernel gives it a name. A process of its own, the janitor, undoes them when its parent has
 * closed the journal or has died; if the janitor dies the parent does it; if both do, whoever opens the journal next.
 *
 * One at a time on a machine: the journal is locked while it is in use. For root only.
 */
#pragma once

#include "base/types.h"

enum undo_kind {
	UNDO_WRITE, /* write `text` to `path` */
	UNDO_CGROUP, /* end what runs in the cgroup `path`, and remove it */
	UNDO_ZRAM, /* end the swap on zram device `text`, and remove it */
};

/* 0; -EBUSY: another process has it; or -errno. *found: something was left behind by an earlier one, and is undone. */
int must_check undo_open(bool *found);

/* 0 or -errno: then the change must not be made. */
int must_check undo_note(enum undo_kind kind, const char *path, const char *text);

/* Undoes everything, newest first, and waits for it. 0, or -EIO: some of it could not be, as was said on stderr. */
int must_check undo_close(void);

/* Small files of the kernel. 0 or -errno. */
int must_check file_write(const char *path, const char *text);

/* First line without the newline; empty if it cannot be read. Returns buf. */
const char *file_line(const char *path, char *buf, size_t size);
