/* SPDX-License-Identifier: MIT */
/*
 * Objects on their way to a lower device are compressed once more, harder, where that costs nobody anything: device
 * pages are saved, and writes.
 *
 * Is a processor idle? After each page this lets whoever waits for the processor run (sched_yield), which takes a
 * microsecond where nobody does. If the page and that took long, others want the processor: then it rests for a while.
 * No descriptor, no file in /proc; right in containers, too, as it is this thread's own processors that are asked for.
 *
 * recompress: one thread at a time. recompress_decode: any.
 */
#pragma once

#include "swap/swap_device.h"
#include "swap/zcomp.h"

struct recompress {
	struct zcomp *zcomp; /* NULL: off */
	bool always; /* whether or not others wait */
	u64 rests_until_ns;
	char *page; /* of the object at hand */
	char *result; /* ZCOMP_RESULT_MAX bytes */
};

/* SWITCH_DEFAULT: while processors are idle. Takes all memory that it will need. 0, -ENOMEM or -EIO, as zcomp_open. */
int must_check recompress_open(struct recompress *r, enum swap_switch mode);
void recompress_close(struct recompress *r);

/*
 * An object of `from`'s, compressed harder, in r->result: its length; or 0: it is to stay as it is. Context: as above,
 * and no lock held, as it may wait for others.
 */
u32 recompress(struct recompress *r, struct zcomp *from, const void *data, u32 size);

/* The page of what recompress() made. 0 or -EIO. */
int must_check recompress_decode(struct recompress *r, const void *data, u32 size, void *page);
