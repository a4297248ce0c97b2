/* SPDX-License-Identifier: MIT */
/*
 * weir: swap in user space, for a stock kernel and an ordinary user.
 *
 * A weir is a window of anonymous memory whose resident part is capped. Pages over the cap go to swap devices (first
 * of all compressed memory inside the process) and come back when they are touched. Faults are served by the
 * faulting thread itself, in a SIGBUS handler, or, with a privilege, by threads of weir's own.
 *
 * Conventions
 *   Functions return 0 or a count, or -errno. Sizes and lengths are in bytes and are rounded out to 4096-byte pages.
 *   "Thread-safe" means callable from several threads at once, also for the same range. No function may be called
 *   from a signal handler unless it says so.
 *
 * Caveats, the first three not with WEIR_FAULTS_THREAD
 *   - SIGBUS is taken. A handler installed before weir_init() is chained to for faults that are not weir's.
 *   - A thread that touches mapped memory must not have SIGBUS blocked: the kernel would end the process.
 *   - The kernel cannot fault pages in: a range passed to a system call must be held (weir_hold) for its duration,
 *     or the call fails with EFAULT.
 *   - A forked child must not touch mapped memory: it has no part in the userfaultfd. exec is fine.
 */
#ifndef WEIR_H
#define WEIR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_VERSION "0.1.0"

/* The smallest memory and resident limit that weir_init() accepts. */
#define WEIR_MEMORY_MIN (8ull << 20)

struct weir; /* one managed window */

enum weir_vm {
	WEIR_VM_AUTO, /* MOVE where the kernel has it (6.8), else COPY */
	WEIR_VM_MOVE, /* pages leave by UFFDIO_MOVE */
	WEIR_VM_COPY, /* pages leave by write-protect, UFFDIO_COPY and MADV_DONTNEED */
};

enum weir_faults {
	WEIR_FAULTS_SIGNAL, /* SIGBUS in the faulting thread; for any user */
	/*
	 * The faulting thread, or the system call it is in, sleeps while a thread of weir's serves the page. Needs
	 * Linux 6.8 and one of vm.unprivileged_userfaultfd=1, CAP_SYS_PTRACE, access to /dev/userfaultfd. A page that
	 * cannot be read back is SIGBUS at each access until it is unmapped or dropped, and EFAULT in system calls.
	 */
	WEIR_FAULTS_THREAD,
};

struct weir_options {
	/* Cap of resident pages + swap cache + compressed store + tables, bytes. 0: no such cap. */
	uint64_t memory;
	/* Cap of the uncompressed part alone. 0: no such cap. At least one of the two must be set. */
	uint64_t resident;
	/* Address space of the window, bytes; 0: 1 TiB, less where RLIMIT_AS says so. */
	uint64_t window;
	enum weir_vm vm;
	enum weir_faults faults;
	/*
	 * Called once, in the faulting thread's signal handler or in a thread that libc does not know, when no page
	 * can be freed: `why` is one line of text, and only async-signal-safe functions may be called. NULL prints it
	 * on stderr. The process is then ended by SIGKILL.
	 */
	void (*out_of_memory)(const char *why);
};

/*
 * Opens a window. Nothing is managed, and no fault is taken, before the memory handed out exceeds the limit.
 * Errors: -EINVAL (options, or a kernel too old for them), -EBUSY (the process already has one), -ENOSYS or -EPERM (no
 * userfaultfd here, or not one for WEIR_FAULTS_THREAD: see `weir probe`), -ENOMEM (address space). Not thread-safe
 * against itself.
 */
int weir_init(const struct weir_options *options, struct weir **weir);

/* Closes it: all mapped memory and swapped data are gone. No other thread may use the weir or its memory. */
void weir_destroy(struct weir *weir);

/*
 * Adds a swap device, e.g. "zram:algo=lz4" or "brd:size=1G". Devices are used in the order in which they were added.
 * -EINVAL for a bad specification, -ENOSPC when all device numbers are taken, -ENOMEM; -EOPNOTSUPP for crypt on a
 * processor without AES. Thread-safe.
 */
int weir_swapon(struct weir *weir, const char *spec);

/*
 * Takes the device of that name out: its pages are brought back or go to other devices. -ENOENT: no such device;
 * -ENOMEM: they do not fit, and the device stays on, with all its data. Thread-safe.
 */
int weir_swapoff(struct weir *weir, const char *name);

/*
 * Maps `bytes` of zero-filled memory, or returns NULL with nothing changed when the window is full. Thread-safe.
 */
void *weir_map(struct weir *weir, size_t bytes);

/* Unmaps whole pages; their frames and slots are given back. -EINVAL outside the window. Thread-safe. */
int weir_unmap(struct weir *weir, void *addr, size_t bytes);

enum weir_advice {
	WEIR_WILLNEED, /* bring it in */
	WEIR_COLD, /* make it the next to go */
	WEIR_PAGEOUT, /* write it out now; returns the number of pages that left */
	WEIR_DONTNEED, /* drop the contents: the range reads as zero */
};

/*
 * Advice on a mapped range. Returns 0 or a count; -EINVAL (range or advice), -ENOMEM or -EIO (WILLNEED). Thread-safe;
 * a DONTNEED that races with accesses keeps or drops each page as a whole.
 */
long weir_advise(struct weir *weir, void *addr, size_t bytes, enum weir_advice advice);

/*
 * Makes a range resident and keeps it so until the matching weir_release(): for system calls and DMA. `write` also
 * makes it writable. Held pages count against the limit; -ENOMEM when half of the limit is held already,
 * -EFAULT if part of it is not mapped, -EIO if a page could not be read. Nothing is held on error. Thread-safe;
 * callable from a signal handler. Holds nest and are counted per page.
 */
int weir_hold(struct weir *weir, const void *addr, size_t bytes, int write);
void weir_release(struct weir *weir, const void *addr, size_t bytes);

/* Counters since weir_init(); times in nanoseconds, sizes in bytes. Sums of lockless counters. */
struct weir_stats {
	uint64_t limit_memory, limit_resident; /* 0: none */
	uint64_t resident, resident_peak; /* pages of the program and of the swap cache, in frames */
	uint64_t stored, stored_peak; /* compressed store and tables */
	uint64_t total_peak; /* of resident + stored */
	uint64_t swapped, swapped_at_peak; /* pages on devices, uncompressed; the same when stored was at its peak */
	uint64_t adopted; /* 1 once the memory is managed */
	uint64_t pages_in, pages_out; /* read from devices, written to devices */
	uint64_t pages_ahead; /* of those that came in, by readahead */
	uint64_t pages_out_clean; /* left without being written: the device still had them */
	uint64_t faults_zero; /* first touch */
	uint64_t faults_write; /* first write to a clean page */
	uint64_t faults_direct; /* swap-in without the swap cache */
	uint64_t faults_cached; /* swap-in through the swap cache, or found in it */
	uint64_t faults_spurious; /* another thread had served it */
	uint64_t pin_waits; /* times a faulter slept on another's pin */
	uint64_t reclaim_direct; /* reclaim runs made by faulting threads */
	uint64_t reclaim_background;
	uint64_t read_errors; /* pages that could not be read back, after repetitions */
	uint64_t write_errors; /* pages that a device failed to write: not those that it had no room for */
	/*
	 * Where the kernel's state was not what weir held it for. Vanished: it had no page where weir had one, so
	 * that the page reads as zero; the program must have dropped it in a way that weir does not see. Unreported:
	 * the kernel had moved a page and said that it had not, which Linux 6.18 does; nothing is lost.
	 */
	uint64_t pages_vanished, moves_unreported;
	uint64_t fault_time_ns, fault_p50_ns, fault_p99_ns, fault_max_ns;
	uint64_t pages_compacted; /* whose copies were moved together in the compressed store */
	uint64_t compact_freed; /* bytes of the store that this has emptied */
};

/* Thread-safe; callable from a signal handler. */
void weir_stats(const struct weir *weir, struct weir_stats *stats);

#ifdef __cplusplus
}
#endif

#endif /* WEIR_H */
