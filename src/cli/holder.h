/* SPDX-License-Identifier: MIT */
/*
 * A process beside the run that keeps the descriptors of its pool and of its shared swap device open, under whose
 * /proc/<pid>/fd every program of the tree finds them. Not this one, which becomes the command, and not a child of it,
 * which the command would have to wait for: an orphan in a session of its own. It ends when the command and all
 * processes of the pool have.
 */
#pragma once

struct pool;
struct swaps;

/*
 * Its pid is in swaps->holder, and these descriptors are its own as well, by the same numbers. pool may be NULL. 0 or
 * -errno. HOLDER_LOOK makes it look for devices in the list that are off, of which it closes what it has.
 */
int holder_start(struct pool *pool, struct swaps *swaps, const int *fds, int nr);

/* The same for one device that is added later: it ends with the device, or with the run's holder. */
struct swaps_device;
int holder_start_for_device(struct swaps *swaps, struct swaps_device *dev, const int *fds, int nr);

enum { HOLDER_LOOK = 10 /* SIGUSR1 */ };
