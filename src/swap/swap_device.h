/* SPDX-License-Identifier: MIT */
/*
 * A swap device: an array of page-sized slots. What a driver implements and what the core promises.
 *
 * The core promises, per slot: at most one operation at a time (the slot's pin, mm/swap_table.h, is held around it),
 * so a driver needs no lock for a slot's own data. Operations on different slots run in parallel on any thread,
 * signal handlers among them: no malloc, no stdio, bounded stack (2 KiB besides callees'), errno untouched.
 * The core never reads a slot that it has not written since the last discard.
 *
 * A device below another one's slots (struct swap_device_config, `lower`) may get several reads of one slot at a time.
 */
#pragma once

#include <limits.h>

#include "base/types.h"

enum swap_device_flags {
	SWAP_SYNCHRONOUS_IO = 1 << 0, /* read completes in the caller, at memory speed: the swap cache may be skipped */
	SWAP_DISCARD = 1 << 1, /* discard frees something: the core calls it when the last user of a slot goes */
	SWAP_DEMOTES = 1 << 2, /* it has a lower device, and coldest, demote, is_below and hollow */
	SWAP_COMPACTS = 1 << 3, /* it has sparse and compact */
	SWAP_PATCHES = 1 << 4, /* it has patches */
};

/*
 * Memory that a device takes while the core tries to free some. charge() is called before `pages` new pages are
 * touched and may refuse with -ENOMEM, which the device reports as a failed write (-ENOSPC); uncharge() after they are
 * gone. Both are cheap and may be called under the device's locks. NULL functions mean that nobody counts.
 */
struct swap_memory {
	int (*charge)(void *ctx, u64 pages);
	void (*uncharge)(void *ctx, u64 pages);
	void *ctx;
};

enum { SWAP_BATCH_MAX = 64, SWAP_FDS_MAX = 8 };
enum { SWAP_TEXT_SIZE = 256 }; /* of a path, an address or a name in a specification, with its NUL */

/* After zram's mm_stat; bytes unless the name says otherwise. Lockless sums: exact when the device is idle. */
struct swap_device_stats {
	u64 orig_data_size; /* slots in use, uncompressed; same-filled ones included */
	u64 compr_data_size; /* what they compress to, without the store's losses */
	u64 mem_used_total; /* pages that store and tables hold */
	u64 mem_used_max;
	u64 same_pages; /* same-filled slots: they cost no store */
	u64 huge_pages; /* incompressible slots, kept raw */
	u64 failed_writes, failed_reads;
	u64 patched_writes; /* those that took no more than a patch (SWAP_PATCHES) */
	const struct swap_times *times; /* stats=on: swap/filter.h; else NULL */
};

struct swap_device;

/* One page of a batch. */
struct swap_io {
	u32 slot;
	void *page;
	int err; /* set by the device: 0 or -errno, as read and write return it */
	bool warm; /* of a write, for SWAP_DEMOTES: the page is wanted often, others are to go below first. A hint. */
};

/* Where a slot's data lies; what the driver does not fill in is as swap_device_place() says. */
struct swap_place {
	const char *device; /* static text: the driver's name */
	char target[SWAP_TEXT_SIZE]; /* "": it has none */
	u64 offset; /* bytes from the start of the target, or device */
};

struct swap_device_ops {
	/*
	 * Both 0 or -errno. From read: -EIO, the data is gone; -EBADMSG, it is not what was written. The buffer's
	 * contents are undefined then.
	 */
	int (*read)(struct swap_device *dev, u32 slot, void *page);
	int (*write)(struct swap_device *dev, u32 slot, const void *page);
	/*
	 * The same for up to SWAP_BATCH_MAX different slots at once, with as many in flight as the device likes; they
	 * return when all have ended, each with its own result. NULL: it would not be faster than one by one.
	 */
	void (*read_pages)(struct swap_device *dev, struct swap_io *io, u32 nr);
	void (*write_pages)(struct swap_device *dev, struct swap_io *io, u32 nr);
	/* Forgets the slot's data; called before the slot can be handed out again. Also for slots never written. */
	void (*discard)(struct swap_device *dev, u32 slot);
	void (*stats)(struct swap_device *dev, struct swap_device_stats *stats);
	/*
	 * SWAP_DEMOTES. coldest: up to `nr` slots that are to go to the lower device, roughly the oldest first: what
	 * does not compress, and what was not touched for idle_ns (0: any; UINT64_MAX: none); a hint, as nothing is
	 * pinned. demote: moves slots that the caller has pinned, at most SWAP_BATCH_MAX, and returns how many have
	 * moved; what could not be written below stays as it is; urgent: pages on their way out wait for it. One
	 * thread at a time calls the two. is_below: has it moved? A hint.
	 */
	u32 (*coldest)(struct swap_device *dev, u64 idle_ns, u32 *slots, u32 nr);
	u32 (*demote)(struct swap_device *dev, const u32 *slots, u32 nr, bool urgent);
	bool (*is_below)(struct swap_device *dev, u32 slot);
	/* SWAP_DEMOTES: of the pages it has charged, as many as would fit into places that hold nothing. A hint. */
	u64 (*hollow)(struct swap_device *dev);
	/*
	 * For messages: where the slot's data lies. Nothing is pinned, so a slot that is just being moved may be told
	 * at a place where it is not. NULL: at slot * PAGE_SIZE.
	 */
	void (*place)(struct swap_device *dev, u32 slot, struct swap_place *place);
	/*
	 * SWAP_COMPACTS. sparse: where much of the device's memory has nothing in it, up to `nr` slots whose data is to
	 * move, so that memory goes back; a hint. compact: moves data of slots that the caller has pinned, at most
	 * SWAP_BATCH_MAX; returns how many have moved, and in *nr_pages how many pages have become empty. One thread at
	 * a time calls the two, in the background: sparse may do other work of the device's first, some 50 ms once.
	 */
	u32 (*sparse)(struct swap_device *dev, u32 *slots, u32 nr);
	u32 (*compact)(struct swap_device *dev, const u32 *slots, u32 nr, u32 *nr_pages);
	/*
	 * SWAP_PATCHES. Where a slot that holds data is written again, it costs less if little has changed. Would that
	 * be so for this one, as far as the last such writes tell? A hint.
	 */
	bool (*patches)(struct swap_device *dev, u32 slot);
	/*
	 * Memory is about to be managed: nothing has been written, and from here on the program cannot close the
	 * descriptors that the device works with. It opens again what has been closed, and tells them all; `forked`:
	 * this may be a child that no fork_child was called in. Returns how many there are, up to SWAP_FDS_MAX, or
	 * -errno. NULL: it has none.
	 */
	int (*begin)(struct swap_device *dev, bool forked, int *fds);
	/*
	 * Around fork, with no operation running: for devices that processes share. After an error of fork_begin (0 or
	 * -errno) there is neither a fork nor a call of the others. `pid`: the child's, 0: not known, negative: there
	 * is none. fork_child: 0 or -errno, then the child cannot have what it has inherited. NULL: all is private
	 * memory.
	 */
	int (*fork_begin)(struct swap_device *dev);
	void (*fork_parent)(struct swap_device *dev, int pid);
	int (*fork_child)(struct swap_device *dev);
	/* No operation is running and none follows. Frees dev itself. */
	void (*close)(struct swap_device *dev);
};

struct swap_device {
	const struct swap_device_ops *ops;
	const char *name; /* "zram" */
	u32 flags; /* enum swap_device_flags */
	u32 nr_slots;
	int prio; /* among the devices of an mm: higher ones are used first, equal ones in turn; or SWAP_PRIO_DEFAULT */
	struct swap_memory memory; /* set by the core at swapon, before the first operation */
};

/* The optional ops; without one there is nothing to do. */
static inline int swap_device_begin(struct swap_device *dev, bool forked, int *fds)
{
	return dev->ops->begin ? dev->ops->begin(dev, forked, fds) : 0;
}

static inline int swap_device_fork_begin(struct swap_device *dev)
{
	return dev->ops->fork_begin ? dev->ops->fork_begin(dev) : 0;
}

static inline void swap_device_fork_parent(struct swap_device *dev, int pid)
{
	if (dev->ops->fork_parent)
		dev->ops->fork_parent(dev, pid);
}

static inline int swap_device_fork_child(struct swap_device *dev)
{
	return dev->ops->fork_child ? dev->ops->fork_child(dev) : 0;
}

static inline void swap_device_place(struct swap_device *dev, u32 slot, struct swap_place *place)
{
	place->device = dev->name;
	place->target[0] = '\0';
	place->offset = pages_to_bytes(slot);
	if (dev->ops->place)
		dev->ops->place(dev, slot, place);
}

/* Below all devices that an mm has already: those that come first are used first. */
#define SWAP_PRIO_DEFAULT INT_MIN

/* By the ops' own batches, or one by one. */
static inline void swap_device_read_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	if (dev->ops->read_pages) {
		dev->ops->read_pages(dev, io, nr);
		return;
	}
	for (u32 i = 0; i < nr; i++)
		io[i].err = dev->ops->read(dev, io[i].slot, io[i].page);
}

static inline void swap_device_write_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	if (dev->ops->write_pages) {
		dev->ops->write_pages(dev, io, nr);
		return;
	}
	for (u32 i = 0; i < nr; i++)
		io[i].err = dev->ops->write(dev, io[i].slot, io[i].page);
}

/* Parsed form of a specification such as "zram:algo=zstd,level=3". */
enum zcomp_algo { ZCOMP_LZ4, ZCOMP_ZSTD, ZCOMP_ZSTD_DICT };

/* No size was given to a driver that has one of its own: all that there is. Never a size itself. */
#define SWAP_SIZE_ALL ((u64)4 << 40)
#define SWAP_SLOTS_MAX (1u << 28) /* of a device: what a swap entry has room for */
#define SWAP_BYTES_MAX ((u64)SWAP_SLOTS_MAX << PAGE_SHIFT)

/* Of what is on for some drivers and off for others. */
enum swap_switch { SWITCH_DEFAULT, SWITCH_ON, SWITCH_OFF };

struct swap_delay {
	u64 read_ns, write_ns; /* of each call; a batch is one */
	bool async; /* the device is no longer SWAP_SYNCHRONOUS_IO */
};

enum swap_error_kind { SWAP_ERROR_EIO, SWAP_ERROR_ENOSPC, SWAP_ERROR_CORRUPT /* no error, but one bit is wrong */ };

/* Which operations fail: each rule counts for itself those of its kind on its slots; all its conditions must hold. */
struct swap_error_rule {
	bool reads, writes;
	enum swap_error_kind kind;
	u32 first_slot, last_slot;
	u64 after; /* the first so many go well */
	u64 count; /* so many fail, then no more */
	u64 rate_part, rate_of; /* of the others this part fails, drawn from `seed` and the operation's number */
	u64 seed;
};

enum { SWAP_ERROR_RULES_MAX = 4 };

struct swap_errors {
	struct swap_error_rule rules[SWAP_ERROR_RULES_MAX];
	u32 nr;
};

struct swap_device_config {
	const char *driver; /* points to static text: "zram", "brd", "file" */
	u64 size; /* bytes; 0 lets the caller of swap_device_open choose */
	enum zcomp_algo algo; /* zram */
	int level; /* zram */
	u64 read_delay_ns; /* brd */
	char target[SWAP_TEXT_SIZE]; /* file: a path; nbd: the URI; rados: the pool */
	char space[SWAP_TEXT_SIZE]; /* file, nbd, rados: where the run's processes find its space; "": there is none */
	bool direct, prealloc, poll, force; /* file */
	int connections; /* nbd; 0: as many as suit the server */
	u64 timeout_ns; /* nbd */
	bool overwrite; /* nbd: what the export holds is nobody's */
	char conf[SWAP_TEXT_SIZE], name_space[SWAP_TEXT_SIZE], user[SWAP_TEXT_SIZE]; /* rados; "": its defaults */
	char ring[SWAP_TEXT_SIZE]; /* nbd, rados: where the run's processes find their engine's ring (swap/ring.h) */
	int prio; /* of any */
	struct swap_device *lower; /* zram: where cold pages go, zram's own if it opens. Not in a specification. */
	enum swap_switch recompress; /* zram: what goes to `lower`; default: when idle. Not in a specification. */
	struct lower_counts *lower_counts; /* what goes there; NULL: nobody counts. Not in a specification. */

	/* Filters, from the core down (swap/filter.h). */
	bool stats;
	struct swap_times *times; /* stats: where to count; NULL: in memory of its own. Not in a specification. */
	enum swap_switch checksum; /* default: on for SWAP_DRIVER_EXTERNAL without crypt */
	enum swap_switch crypt; /* default: on for SWAP_DRIVER_EXTERNAL */
	struct swap_errors errors;
	struct swap_delay delay;
};

/*
 * Reads a specification "driver[:option=value,...]"; where the driver has a target, such as a path, that comes first:
 * "driver:target[,option=value,...]", and has no comma in it. On -EINVAL one line in `err` says what was found and what
 * was expected; it names neither weir nor the command. Never allocates.
 */
int must_check swap_device_parse(const char *spec, struct swap_device_config *cfg, char *err, size_t err_size);

/*
 * Of a good specification the options that every device has, each after a comma: what is added to the one that a
 * driver's share_spec writes. False: they do not fit.
 */
bool must_check swap_device_common_options(const char *spec, char *options, size_t size);

/* When cold pages go to a lower device: "off", or "idle=TIME,watermark=PERCENT,recompress=HOW" or a part of it. */
struct swap_writeback {
	bool off;
	u32 watermark; /* percent of what the store may have */
	u64 idle_ns; /* also without need, when not touched for so long; UINT64_MAX: not */
	enum swap_switch recompress; /* harder, on the way; default ("auto"): while processors are idle */
};

/* NULL: the defaults. 0 or -EINVAL. */
int must_check swap_writeback_parse(const char *text, struct swap_writeback *writeback);

/*
 * Opens the device with cfg->size / 4096 slots, and its filters. 0 or -errno: -ENOMEM; for crypt -EOPNOTSUPP
 * (a processor without AES), -ELIBBAD (libIPSec_MB fails its own tests). Not from a signal handler.
 */
int must_check swap_device_open(const struct swap_device_config *cfg, struct swap_device **out);

enum swap_driver_flags {
	SWAP_DRIVER_EXTERNAL = 1 << 0, /* pages leave the process's memory: encrypted unless the user says otherwise */
};

/* Drivers by name, one line of help each; NULL-ended. */
struct swap_driver {
	const char *name;
	u32 flags; /* enum swap_driver_flags */
	const char *help; /* "compressed memory: algo=lz4|zstd, level=N, size=SIZE" */
	const char *engine; /* the program that serves the device for all processes of a run; NULL: none is needed */
	const char *package; /* where its library is to be had */
	int (*open)(const struct swap_device_config *cfg, struct swap_device **out);
	/*
	 * For `weir run`, before the program starts: opens and claims what all processes of the run are to share, up
	 * to SWAP_FDS_MAX descriptors, which somebody then keeps open. Returns how many, or -errno and a line in `err`.
	 * NULL: nothing is shared, or the engine opens it. share_spec writes the specification by which they open it
	 * under /proc/<holder>/fd; what an engine has open is its ring and its space.
	 */
	int (*share)(struct swap_device_config *cfg, int *fds, char *err, size_t err_size);
	void (*share_spec)(const struct swap_device_config *cfg, u32 holder, const int *fds, char *spec, size_t size);
};

extern const struct swap_driver *const swap_drivers[];

/* The driver that a parsed specification names. */
const struct swap_driver *swap_driver_of(const struct swap_device_config *cfg);
