/* SPDX-License-Identifier: MIT */
/*
 * What this machine offers to weir, and what stands in the way.
 *
 * machine_probe() only looks, machine_judge() only thinks: it can be asked about a machine that does not exist.
 * `weir run` refuses to start on the first fatal finding; `weir probe` lists them all.
 */
#pragma once

#include <limits.h>

#include "base/types.h"
#include "cli/libraries.h"

struct machine_uffd {
	int error; /* errno of userfaultfd(2) with UFFD_USER_MODE_ONLY, or of UFFDIO_API; 0: works */
	u64 features; /* UFFD_FEATURE_* */
};

struct machine {
	char kernel[65], arch[65];
	unsigned int nr_cpus;
	u64 memory_bytes, memory_available_bytes;

	struct machine_uffd uffd;
	bool uffd_kernel_mode; /* a userfaultfd that also serves the kernel's own accesses can be had */
	bool uffd_device; /* /dev/userfaultfd may be opened */
	int uffd_sysctl; /* vm.unprivileged_userfaultfd; -1: not there */
	bool cap_sys_ptrace;

	bool seccomp_available; /* filters can be installed */
	bool seccomp_active; /* this process runs under one already */
	bool no_new_privs;
	bool proc; /* /proc is there, and this process in it */

	char thp[32]; /* always, madvise, never; empty: not there */
	int overcommit; /* vm.overcommit_memory; -1: unknown */
	u64 limit_as_bytes, limit_data_bytes, limit_nofile; /* soft limits; UINT64_MAX: none */
	int window_error; /* errno of reserving the address space that the window takes; 0: works */
	u64 swap_bytes; /* of the kernel */
	bool swap_zram;

	char shim[PATH_MAX], allocator[ALLOCATOR_NONE][PATH_MAX]; /* empty: missing */
};

void machine_probe(struct machine *machine);

enum { FINDINGS_MAX = 16 };

struct finding {
	const char *key;
	bool fatal; /* weir run cannot work */
	char what[256];
	char fix[256]; /* one command or one thing to do */
};

struct findings {
	struct finding finding[FINDINGS_MAX];
	unsigned int nr_findings;
};

/* `allocator` is the one that weir run would use. Fatal findings come first. */
void machine_judge(const struct machine *machine, enum allocator allocator, struct findings *findings);

/* Can faults be served by threads? If not, what to do about it is in `finding`. */
bool machine_judge_threads(const struct machine *machine, struct finding *finding);

bool findings_are_fatal(const struct findings *findings);
