/* SPDX-License-Identifier: MIT */
/*
 * What the engines share: an engine is the process beside a run that serves its remote swap device.
 *
 * main() is engine_main() with the backend's table. It opens the device, reports to the starter, then hands submitted
 * requests of the ring (swap/ring.h) to the backend from one thread, the ring's, until the command and all processes
 * that have opened the device have ended, and closes the device. Another thread, the keeper, looks for that.
 *
 * Memory: cells, requests and buffers are allocated at the start; what the client library allocates for each request
 * is bounded by the number of cells. None of it is managed memory: the shim is never loaded here.
 */
#pragma once

#include "swap/ring.h"
#include "swap/space.h"

enum { ENGINE_ERROR = 256 };

struct engine {
	struct ring *ring;
	struct space space;
	int argc;
	char **argv;
	char error[ENGINE_ERROR]; /* why open failed: one line */
};

struct engine_backend {
	const char *name;
	/* *nr_pages: of the device. 0, or -1 and `error` is filled in. */
	int (*open)(struct engine *e, u64 *nr_pages);
	/* Starts requests: `nr` cells, RUNNING, sorted by operation and location. Ring's thread. */
	void (*submit)(struct engine *e, const u32 *cells, u32 nr);
	/* Called ten times a second, or less often. Keeper's thread. */
	void (*tick)(struct engine *e);
	/* Nothing is in flight any more that matters. Leaves nothing behind. */
	void (*close)(struct engine *e);
};

int engine_main(const struct engine_backend *backend, int argc, char **argv);

/* Serves a ring until *stop is not 0, for tests: without processes to look after. */
void engine_serve(struct engine *e, const struct engine_backend *backend, struct atomic32 *stop);

/* The value of "key=value" among the arguments, or "". */
const char *engine_option(const struct engine *e, const char *key);
u64 engine_option_number(const struct engine *e, const char *key);

/* Fills in `error` and returns -1. */
int engine_error(struct engine *e, const char *fmt, ...) printf_like(2, 3);

/* What is wrong at the moment, for the messages of the run's processes; "": nothing. Any thread. */
void engine_reason(struct engine *e, const char *fmt, ...) printf_like(2, 3);

/*
 * Names the machine and the pid namespace: where it is the same, a process_id says whether its process lives.
 */
enum { ENGINE_MACHINE = 72 };
void engine_machine(char machine[ENGINE_MACHINE]);

/* A request's end. Any thread. */
void engine_complete(struct engine *e, u32 cell, int err, u32 flags);

static inline struct ring_cell *engine_cell(struct engine *e, u32 cell)
{
	return &e->ring->cell[cell];
}
