// SPDX-License-Identifier: MIT
#include "tree/swaps.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <limits.h>
#include <sys/mman.h>

#include "base/os.h"
#include "base/print.h"
#include "base/process.h"
#include "base/syscall.h"

enum { MAGIC = 0x73776170 };

/* ---- life ---- */

static size_t swaps_bytes(void)
{
	return ALIGN_UP(sizeof(struct swaps), PAGE_SIZE);
}

int swaps_create(struct swaps **swaps, int *fd)
{
	int err;

	*fd = os_shared_create("weir-swaps", swaps_bytes());
	if (*fd < 0)
		return *fd;
	*swaps = os_shared_map(*fd, swaps_bytes(), &err);
	if (err) {
		sys1(SYS_close, *fd);
		return err;
	}
	(*swaps)->nr_rows = SWAPS_ROWS_MAX;
	atomic32_set(&(*swaps)->seq, 1);
	(*swaps)->magic = MAGIC;
	return 0;
}

/* Sealed, so that nobody makes it shorter under us. */
int swaps_open(const char *path, struct swaps **swaps)
{
	long fd = sys4(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0), seals;
	int err = 0;

	if (fd < 0)
		return (int)fd;
	seals = sys2(SYS_fcntl, fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || sys3(SYS_lseek, fd, 0, SEEK_END) != (long)swaps_bytes())
		err = -EINVAL;
	if (!err)
		*swaps = os_shared_map((int)fd, swaps_bytes(), &err);
	sys1(SYS_close, fd);
	if (!err && ((*swaps)->magic != MAGIC || (*swaps)->nr_rows != SWAPS_ROWS_MAX)) {
		sys2(SYS_munmap, *swaps, swaps_bytes());
		err = -EINVAL;
	}
	return err;
}

/* ---- devices ---- */

struct swaps_device *swaps_add(struct swaps *swaps)
{
	u32 nr = atomic32_read(&swaps->nr_devices);
	struct swaps_device *dev = &swaps->device[nr];

	if (nr >= SWAPS_DEVICES_MAX)
		return NULL;
	*dev = (struct swaps_device){ .prio = -1 - (int)nr };
	for (int i = 0; i < SWAPS_KEPT_MAX; i++)
		dev->kept[i] = -1;
	atomic32_store_release(&swaps->nr_devices, nr + 1);
	return dev;
}

void swaps_set_state(struct swaps_device *dev, enum swaps_state state)
{
	atomic32_store_release(&dev->state, state);
}

enum swaps_state swaps_state(const struct swaps_device *dev)
{
	return (enum swaps_state)atomic32_load_acquire(&dev->state);
}

u32 swaps_bump(struct swaps *swaps)
{
	u32 seq;

	atomic_full_barrier(); /* the states first; then the look at the rows: meets swaps_enter */
	seq = atomic32_add_return(&swaps->seq, 1);
	atomic_full_barrier();
	sys3(SYS_futex, &swaps->seq.v, FUTEX_WAKE, INT_MAX);
	return seq;
}

bool swaps_recall(struct swaps *swaps)
{
	bool recalled = false;

	for (u32 i = 0; i < SWAPS_DEVICES_MAX; i++) {
		u32 leaving = SWAPS_LEAVING;

		recalled |= atomic32_cas_acquire(&swaps->device[i].state, &leaving, SWAPS_ON);
	}
	if (recalled)
		swaps_bump(swaps);
	return recalled;
}

/* ---- rows ---- */

/* The row of this process's earlier program, or a free one. */
static struct swaps_row *find_row(struct swaps *swaps, u64 id)
{
	u32 used = atomic32_load_acquire(&swaps->nr_used);

	for (u32 i = 0; i < used && i < SWAPS_ROWS_MAX; i++) {
		if (atomic64_read(&swaps->row[i].id) == id)
			return &swaps->row[i];
	}
	for (u32 i = 0; i < SWAPS_ROWS_MAX; i++) {
		u32 seen = atomic32_load_acquire(&swaps->nr_used);
		u64 none = 0;

		/* Before it is taken: who looks at the rows from then on looks at this one. */
		while (seen <= i && !atomic32_cas_acquire(&swaps->nr_used, &seen, i + 1))
			;
		if (atomic64_cas_acq_rel(&swaps->row[i].id, &none, id))
			return &swaps->row[i];
	}
	return NULL;
}

struct swaps_row *swaps_enter(struct swaps *swaps, u32 tid)
{
	struct swaps_row *row = find_row(swaps, process_own_id());

	if (!row)
		return NULL;
	atomic32_set(&row->done, atomic32_read(&swaps->seq) - 1);
	atomic32_set(&row->error, 0);
	for (u32 i = 0; i < SWAPS_DEVICES_MAX; i++)
		atomic32_set(&row->device[i].on, 0);
	atomic32_store_release(&row->tid, tid);
	atomic_full_barrier(); /* the row first, then the look at the states: meets swaps_bump */
	return row;
}

void swaps_wait(struct swaps *swaps, u32 seen)
{
	sys4(SYS_futex, &swaps->seq.v, FUTEX_WAIT, seen, NULL);
}

bool swaps_row_lives(struct swaps_row *row)
{
	u64 id = atomic64_read(&row->id);
	u32 tid = atomic32_load_acquire(&row->tid);
	char path[64];

	if (!id)
		return false;
	if (process_is_dead(id)) {
		(void)!atomic64_cas_acq_rel(&row->id, &id, 0);
		return false;
	}
	/* Entered just now, or the thread has gone with an execve. */
	if (!tid)
		return true;
	print_to(path, sizeof(path), "/proc/%u/task/%u", process_id_pid(id), tid);
	return sys4(SYS_faccessat, AT_FDCWD, path, 0, 0) != -ENOENT;
}

/* ---- the command ---- */

int swaps_command(struct swaps *swaps, u64 self, bool *was_dead)
{
	u64 other = 0;

	*was_dead = false;
	if (atomic64_cas_acq_rel(&swaps->commander, &other, self))
		return 0;
	if (!process_is_dead(other) || !atomic64_cas_acq_rel(&swaps->commander, &other, self))
		return -EBUSY;
	*was_dead = true;
	return 0;
}

void swaps_command_end(struct swaps *swaps, u64 self)
{
	(void)!atomic64_cas_acq_rel(&swaps->commander, &self, 0);
}
