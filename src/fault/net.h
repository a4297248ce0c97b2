/* SPDX-License-Identifier: MIT */
/*
 * The net under system calls: the kernel cannot fault an absent page in, so a call that is handed one fails with
 * EFAULT. A seccomp filter traps the calls whose arguments may point into the window; the SIGSYS handler makes those
 * pages resident and holds them, performs the call from the gadget page, which the filter lets pass, and releases.
 *
 * What it does not catch: memory that the kernel reaches after a call has returned (io_uring, AIO and clone3 are
 * answered ENOSYS, SO_ZEROCOPY is refused, vmsplice copies), buffers of more than 64 KiB behind pointers inside the
 * structures of ioctls that net_calls.c does not know, and other processes.
 * Nor calls from text that is mapped after arming, or generated.
 * Locking: none; a record of holds belongs to its thread. A filter lives on in children, but across execve it counts
 * no more, unless addresses are not randomised and the next program's text lies where this one's does.
 */
#pragma once

#include "base/types.h"

/* The window's place is fixed, as an inherited filter must fit the shim of the next program. */
#define NET_WINDOW 0x200000000000ul
#define NET_WINDOW_BYTES_MAX (1ul << 40)

enum { NET_GUARDED = 2 };

struct net_ops {
	/*
	 * The kernel's own accesses are served: only what the core must know of is trapped (forks, mappings, signals
	 * and descriptors that are ours), and io_uring and AIO work.
	 */
	bool kernel_faults;
	/*
	 * Makes [addr, addr + len), which lies in the window, resident and keeps it so; on failure nothing is held.
	 * Returns 0, -EFAULT (not all mapped with these rights) or -ENOMEM (too much is held). Holds nest. release
	 * takes the range of one hold, or of several adjoining ones together. Called with the thread's own signal
	 * mask, and may take SIGBUS faults.
	 */
	int (*hold)(uintptr_t addr, size_t len, bool write);
	void (*release)(uintptr_t addr, size_t len);
	/* How many more bytes may be held just now: big transfers leave room for others. */
	size_t (*room)(void);
	/* Keeps pages where they are for so long, as far as that is possible: no run of reclaim begins. */
	void (*pause)(u64 ns);
	/* Exit of one thread, about to happen. May not return (the last thread takes the process along). */
	void (*exit_call)(int status);
	/* mmap munmap mremap mprotect madvise mlock msync mincore mbind shmat... of the window, and mlockall. */
	long (*mm_call)(long nr, const long args[6]);
	/*
	 * fork, and clone without CLONE_VM: args[1], the child's stack, is taken out. In the child the net forgets
	 * its records, so all hold counts start at zero there.
	 */
	long (*fork_call)(long nr, const long args[6]);
	/* rt_sigprocmask, rt_sigaction, sigaltstack, rt_sigsuspend. False: the net passes the call on. */
	bool (*signal_call)(long nr, const long args[6], void *ucontext, long *result);
	/* A SIGSYS that is not ours. False: nobody wants it, and it ends the process. */
	bool (*chain)(int sig, void *info, void *ucontext);
	/* Told of each trapped call that failed with EFAULT. Or NULL. */
	void (*efault)(long nr);
};

/*
 * Arms the net over the window for the whole process: gadget page, SIGSYS handler, no_new_privs, and the filter in
 * all threads. guarded_fd (or -1) and the next NET_GUARDED - 1 descriptors cannot be closed or replaced by the program
 * from now on.
 * Context: once, and no thread has SIGSYS blocked: not even a new one, which starts with all signals blocked.
 * Returns 0 or -errno; after an error no filter is in force.
 */
int must_check net_arm(uintptr_t window, size_t bytes, int guarded_fd, const struct net_ops *ops);

/*
 * One more descriptor that the program cannot close, from the next net_arm on. 0 or -ENOSPC: those that there are lie
 * too far apart. Context: as net_arm.
 */
int must_check net_guard(int fd);

/*
 * Is the filter of an earlier program in force for our text? Then mapping the window is trapped too, except through
 * base/syscall.h. Maps the gadget page and unblocks SIGSYS in this thread.
 */
bool net_inherited(void);

/* Under an inherited filter, which may not cover all of our text: adds our own. May be followed by net_arm. */
int must_check net_arm_inherited(uintptr_t window, size_t bytes, int guarded_fd, const struct net_ops *ops);

/* Drops what an ending thread still holds, after a handler has jumped out of a trapped call. */
void net_thread_exit(void);

/*
 * Copies between weir's own memory and the program's, checked by the kernel or, in the window, by a hold: -EFAULT
 * where the program passed a bad pointer, -ENOMEM. Context: signal_call, mm_call and fork_call.
 */
int must_check net_fetch(void *dst, uintptr_t src, size_t len);
int must_check net_store(uintptr_t dst, const void *src, size_t len);

struct net_counts {
	u64 traps;
	u64 efaults; /* trapped calls that failed with EFAULT: the program's own errors, or pointers we do not know */
};

void net_stats(struct net_counts *counts);
