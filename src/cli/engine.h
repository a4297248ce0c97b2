/* SPDX-License-Identifier: MIT */
/*
 * Starts the engine of a remote swap device (src/engine) beside a run: an orphan in a session of its own, as the holder
 * is, which ends when the command and all processes that use the device have.
 */
#pragma once

#include <limits.h>

#include "swap/swap_device.h"

enum { ENGINE_FD_RING, ENGINE_FD_SPACE, ENGINE_FDS };

/*
 * Returns when the device is open. `pool_fd`: a descriptor of the run's pool, or -1. *engine, fds: its pid, and its
 * ENGINE_FDS descriptors, which share_spec() names to the programs. 0, or -errno and one line in err.
 */
int engine_start(const struct swap_device_config *cfg, int pool_fd, u32 *engine, int *fds, char *err, size_t err_size);
