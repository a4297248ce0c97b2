// SPDX-License-Identifier: MIT
#include "cli/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/os.h"
#include "vm/uffd_abi.h"

/* The window of 1 TiB and the tables beside it, with some room for the program itself. */
#define WINDOW_SPACE_BYTES ((1ull << 40) + (1ull << 40) / 10)

static void probe_kernel(struct machine *machine)
{
	struct utsname name;

	if (uname(&name) < 0)
		return;
	snprintf(machine->kernel, sizeof(machine->kernel), "%s", name.release);
	snprintf(machine->arch, sizeof(machine->arch), "%s", name.machine);
}

/* The number after "name:" at the start of a line, in the given base; 0 if there is none. */
static u64 field_number(const char *text, const char *name, int base)
{
	size_t len = strlen(name);

	for (; text; text = strchr(text, '\n')) {
		text += *text == '\n';
		if (!strncmp(text, name, len) && text[len] == ':')
			return strtoull(text + len + 1, NULL, base);
	}
	return 0;
}

static void probe_memory(struct machine *machine)
{
	char text[4096];

	machine->nr_cpus = os_nr_cpus();
	if (os_read_file("/proc/meminfo", text, sizeof(text)) < 0)
		return;
	machine->memory_bytes = field_number(text, "MemTotal", 10) << 10;
	machine->memory_available_bytes = field_number(text, "MemAvailable", 10) << 10;
	machine->swap_bytes = field_number(text, "SwapTotal", 10) << 10;
	if (os_read_file("/proc/swaps", text, sizeof(text)) > 0)
		machine->swap_zram = strstr(text, "/zram") != NULL;
}

static void probe_status(struct machine *machine)
{
	char text[4096];

	if (os_read_file("/proc/self/status", text, sizeof(text)) < 0)
		return;
	machine->seccomp_active = field_number(text, "Seccomp", 10) == SECCOMP_MODE_FILTER;
	machine->no_new_privs = field_number(text, "NoNewPrivs", 10) == 1;
	machine->cap_sys_ptrace = field_number(text, "CapEff", 16) & (1ull << CAP_SYS_PTRACE);
}

static void probe_uffd(struct machine_uffd *uffd)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = (int)syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0) {
		uffd->error = errno;
		return;
	}
	if (ioctl(fd, UFFDIO_API, &api) < 0)
		uffd->error = errno;
	uffd->features = api.features;
	close(fd);
}

static int read_sysctl(const char *path)
{
	char text[32];

	return os_read_file(path, text, sizeof(text)) > 0 ? atoi(text) : -1;
}

/* For --faults thread; with signals the shim keeps the kernel's own accesses out of unmapped pages. */
static void probe_uffd_kernel_mode(struct machine *machine)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0) {
		machine->uffd_kernel_mode = true;
		close(fd);
	}
	fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		machine->uffd_device = true;
		machine->uffd_kernel_mode = true;
		close(fd);
	}
	machine->uffd_sysctl = read_sysctl("/proc/sys/vm/unprivileged_userfaultfd");
}

/* A filter at address NULL is refused with EFAULT where filters are known at all. */
static void probe_seccomp(struct machine *machine)
{
	machine->seccomp_available = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL) < 0 && errno == EFAULT;
}

/* "always [madvise] never" */
static void probe_thp(struct machine *machine)
{
	char text[128], *begin, *end;

	if (os_read_file("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text)) < 0)
		return;
	begin = strchr(text, '[');
	end = begin ? strchr(begin, ']') : NULL;
	if (end)
		snprintf(machine->thp, sizeof(machine->thp), "%.*s", (int)(end - begin - 1), begin + 1);
}

static u64 soft_limit(__rlimit_resource_t resource)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return UINT64_MAX;
	return limit.rlim_cur;
}

static void probe_limits(struct machine *machine)
{
	void *window = mmap(NULL, WINDOW_SPACE_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (window == MAP_FAILED)
		machine->window_error = errno;
	else
		munmap(window, WINDOW_SPACE_BYTES);
	machine->limit_as_bytes = soft_limit(RLIMIT_AS);
	machine->limit_data_bytes = soft_limit(RLIMIT_DATA);
	machine->limit_nofile = soft_limit(RLIMIT_NOFILE);
	machine->overcommit = read_sysctl("/proc/sys/vm/overcommit_memory");
}

void machine_probe(struct machine *machine)
{
	*machine = (struct machine){ 0 };
	probe_kernel(machine);
	probe_memory(machine);
	probe_status(machine);
	machine->proc = access("/proc/self/pagemap", R_OK) == 0;
	probe_uffd(&machine->uffd);
	probe_uffd_kernel_mode(machine);
	probe_seccomp(machine);
	probe_thp(machine);
	probe_limits(machine);
	library_find_shim(machine->shim);
	for (enum allocator a = 0; a < ALLOCATOR_NONE; a++)
		library_find_allocator(a, machine->allocator[a]);
}

static struct finding *finding_add(struct findings *findings, const char *key, bool fatal)
{
	struct finding *finding = &findings->finding[findings->nr_findings++];

	finding->key = key;
	finding->fatal = fatal;
	return finding;
}

#define finding_say(finding, part, ...) snprintf((finding)->part, sizeof((finding)->part), __VA_ARGS__)

static void judge_uffd_error(const struct machine *machine, struct finding *finding)
{
	switch (machine->uffd.error) {
	case ENOSYS:
	case EPERM:
		if (machine->seccomp_active) {
			finding_say(finding, what,
				    "a seccomp filter, most likely the container's policy, %s userfaultfd",
				    machine->uffd.error == ENOSYS ? "hides" : "refuses");
			finding_say(finding, fix,
				    "start the container with --security-opt seccomp=unconfined or with "
				    "a profile that allows userfaultfd");
		} else if (machine->uffd.error == ENOSYS) {
			finding_say(finding, what, "the kernel (%s) has no userfaultfd", machine->kernel);
			finding_say(finding, fix, "boot Linux 5.11 or newer, built with CONFIG_USERFAULTFD=y");
		} else {
			finding_say(finding, what, "a security module refuses userfaultfd");
			finding_say(finding, fix,
				    "allow userfaultfd in the SELinux or AppArmor policy of this session");
		}
		break;
	case EINVAL:
		finding_say(finding, what, "the kernel (%s) is too old: it has no userfaultfd for ordinary users",
			    machine->kernel);
		finding_say(finding, fix, "boot Linux 5.11 or newer");
		break;
	default:
		finding_say(finding, what, "userfaultfd fails: %s", strerror(machine->uffd.error));
		finding_say(finding, fix, "check the limits of this session with `ulimit -a`");
	}
}

static void judge_uffd(const struct machine *machine, struct findings *findings)
{
	const u64 needed = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_PAGEFAULT_FLAG_WP;
	struct finding *finding;

	if (machine->uffd.error) {
		judge_uffd_error(machine, finding_add(findings, "userfaultfd", true));
	} else if ((machine->uffd.features & needed) != needed) {
		finding = finding_add(findings, "userfaultfd_features", true);
		finding_say(finding, what, "the kernel (%s, %s) has userfaultfd without %s", machine->kernel,
			    machine->arch,
			    machine->uffd.features & UFFD_FEATURE_SIGBUS ? "write protection" : "signals");
		finding_say(finding, fix,
			    "boot Linux 5.11 or newer, built with CONFIG_USERFAULTFD=y, on x86-64 or arm64");
	}
}

static void judge_proc(const struct machine *machine, struct findings *findings)
{
	struct finding *finding;

	if (machine->proc)
		return;
	finding = finding_add(findings, "proc", true);
	finding_say(finding, what, "/proc is missing, or does not show this process");
	finding_say(finding, fix, "run `mount -t proc proc /proc` as root");
}

static void judge_limits(const struct machine *machine, struct findings *findings)
{
	struct finding *finding;

	if (!machine->seccomp_available) {
		finding = finding_add(findings, "seccomp", true);
		finding_say(finding, what, "the kernel does not let this session install seccomp filters");
		finding_say(finding, fix,
			    "boot a kernel with CONFIG_SECCOMP_FILTER=y, or relax the container's policy");
	}
	if (machine->limit_as_bytes < WINDOW_SPACE_BYTES) {
		finding = finding_add(findings, "limit_as", true);
		finding_say(finding, what,
			    "the limit of address space (RLIMIT_AS) is %llu MiB, and weir needs 1.1 TiB of it",
			    (unsigned long long)(machine->limit_as_bytes >> 20));
		finding_say(finding, fix, "run `ulimit -v unlimited` first");
	} else if (machine->window_error && machine->limit_data_bytes < WINDOW_SPACE_BYTES) {
		finding = finding_add(findings, "limit_data", true);
		finding_say(finding, what,
			    "the limit of data (RLIMIT_DATA) is %llu MiB, and weir reserves more, to use little of it",
			    (unsigned long long)(machine->limit_data_bytes >> 20));
		finding_say(finding, fix, "run `ulimit -d unlimited` first");
	} else if (machine->window_error) {
		finding = finding_add(findings, "window", true);
		finding_say(finding, what, "1.1 TiB of address space cannot be reserved: %s",
			    strerror(machine->window_error));
		finding_say(finding, fix, "%s",
			    machine->overcommit == 2 ? "run `sysctl vm.overcommit_memory=0` as root"
						     : "check the limits of this session with `ulimit -a`");
	}
}

static void judge_libraries(const struct machine *machine, enum allocator allocator, struct findings *findings)
{
	struct finding *finding;

	if (!machine->shim[0]) {
		finding = finding_add(findings, "shim", true);
		finding_say(finding, what, "libweir-preload.so was not found beside this executable");
		finding_say(finding, fix, "run `make`, or install weir again");
	} else if (strpbrk(machine->shim, ": ")) {
		finding = finding_add(findings, "shim", true);
		finding_say(finding, what,
			    "the path of libweir-preload.so has a space or colon, which LD_PRELOAD cannot hold");
		finding_say(finding, fix, "move weir to a directory without them");
	}
	for (enum allocator a = 0; a < ALLOCATOR_NONE; a++) {
		if (machine->allocator[a][0])
			continue;
		finding = finding_add(findings, allocator_names[a], a == allocator);
		finding_say(finding, what, "the %s library was not found", allocator_names[a]);
		finding_say(finding, fix, "run `apt-get install %s`%s", library_package(a),
			    a == allocator ? ", or use --allocator none" : " for --allocator mimalloc");
	}
}

bool machine_judge_threads(const struct machine *machine, struct finding *finding)
{
	*finding = (struct finding){ .key = "userfaultfd_kernel_mode" };
	if (!(machine->uffd.features & UFFD_FEATURE_MOVE)) {
		finding_say(finding, what, "--faults thread needs UFFDIO_MOVE, which the kernel (%s) lacks",
			    machine->kernel);
		finding_say(finding, fix, "boot Linux 6.8 or newer");
	} else if (!machine->uffd_kernel_mode) {
		finding_say(finding, what,
			    "--faults thread needs a userfaultfd for the kernel's own accesses, which this user "
			    "may not have");
		finding_say(finding, fix,
			    "run `sysctl vm.unprivileged_userfaultfd=1` as root, or give access to /dev/userfaultfd");
	}
	return !finding->what[0];
}

static void judge_options(const struct machine *machine, struct findings *findings)
{
	struct finding *finding, threads;

	if (!machine->uffd.error && !(machine->uffd.features & UFFD_FEATURE_MOVE)) {
		finding = finding_add(findings, "move", false);
		finding_say(finding, what, "the kernel (%s) has no UFFDIO_MOVE, so pages leave by the slower COPY",
			    machine->kernel);
		finding_say(finding, fix, "boot Linux 6.8 or newer");
	}
	/* Without MOVE that has been said. */
	if (!machine->uffd_kernel_mode && !machine_judge_threads(machine, &threads))
		findings->finding[findings->nr_findings++] = threads;
}

void machine_judge(const struct machine *machine, enum allocator allocator, struct findings *findings)
{
	struct findings all = { 0 };

	judge_proc(machine, &all);
	judge_uffd(machine, &all);
	judge_limits(machine, &all);
	judge_libraries(machine, allocator, &all);
	judge_options(machine, &all);
	*findings = (struct findings){ 0 };
	for (int fatal = 1; fatal >= 0; fatal--) {
		for (unsigned int i = 0; i < all.nr_findings; i++) {
			if (all.finding[i].fatal == fatal)
				findings->finding[findings->nr_findings++] = all.finding[i];
		}
	}
}

bool findings_are_fatal(const struct findings *findings)
{
	return findings->nr_findings > 0 && findings->finding[0].fatal;
}
