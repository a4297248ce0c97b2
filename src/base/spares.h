/* SPDX-License-Identifier: MIT */
/*
 * Numbers of descriptors that the program cannot close (fault/net.h), for what is opened after the net was armed: its
 * filter knows numbers and cannot be changed. An unused one is held by a descriptor without meaning.
 * Context: any thread, also signal handlers, but spares_open and spares_keep: before there are other users.
 */
#pragma once

#include "base/types.h"

enum { SPARES_MAX = 64 };

/*
 * Opens up to `nr` descriptors without meaning, from number `min` on; 0: out of the program's way. Returns how many.
 * They are to be guarded, and then spares_keep() is told.
 */
u32 spares_open(u32 nr, u64 min, int *fds);

/* This number is guarded; if it is not spare now it becomes so when what a device has there is closed. */
void spares_keep(int fd, bool is_spare);
bool spares_has(int fd);

/* Moves a descriptor (closed on exec) to a spare number. -1: there is none, and it is where it was. */
int spares_take(int fd);

/* Closes what os_fd_raise() has moved, or a descriptor that was kept. */
void spares_close(int fd);
