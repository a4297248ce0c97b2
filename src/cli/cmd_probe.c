// SPDX-License-Identifier: MIT
/*
 * weir probe: what this machine offers, what weir will use of it, and what to do about the rest.
 */
#include <lz4.h>
#include <zstd.h>

#include "cli/cli.h"
#include "cli/machine.h"
#include "cli/record.h"
#include "vm/uffd_abi.h"

static bool as_json;

static const struct option_spec probe_options[] = {
	{ .name = "json", .kind = OPTION_FLAG, .help = "print one JSON object", .value = &as_json },
	{ 0 },
};

static const struct {
	const char *key, *label;
	u64 bit;
} uffd_features[] = {
	{ "uffd_sigbus", "signal faults (SIGBUS)", UFFD_FEATURE_SIGBUS },
	{ "uffd_wp", "write protection", UFFD_FEATURE_PAGEFAULT_FLAG_WP },
	{ "uffd_move", "UFFDIO_MOVE", UFFD_FEATURE_MOVE },
	{ "uffd_exact_address", "exact fault addresses", UFFD_FEATURE_EXACT_ADDRESS },
	{ "uffd_thread_id", "thread ids", UFFD_FEATURE_THREAD_ID },
	{ "uffd_wp_unpopulated", "protection of empty pages", UFFD_FEATURE_WP_UNPOPULATED },
	{ "uffd_wp_async", "asynchronous protection", UFFD_FEATURE_WP_ASYNC },
	{ "uffd_poison", "poisoning", UFFD_FEATURE_POISON },
	{ "uffd_event_fork", "fork events", UFFD_FEATURE_EVENT_FORK },
};

static const char *text_or_null(const char *text)
{
	return text[0] ? text : NULL;
}

static void record_uffd(struct record *record, const struct machine *machine)
{
	record_heading(record, "userfaultfd");
	record_number(record, RECORD_BOOL, "uffd_user_mode", "for ordinary users", machine->uffd.error == 0);
	for (size_t i = 0; i < ARRAY_SIZE(uffd_features); i++)
		record_number(record, RECORD_BOOL, uffd_features[i].key, uffd_features[i].label,
			      machine->uffd.features & uffd_features[i].bit ? 1 : 0);
	record_number(record, RECORD_BOOL, "uffd_kernel_mode", "for the kernel's own accesses",
		      machine->uffd_kernel_mode);
	record_number(record, RECORD_BOOL, "uffd_device", "  by /dev/userfaultfd", machine->uffd_device);
	record_number(record, RECORD_BOOL, "uffd_sysctl", "  by the sysctl", machine->uffd_sysctl == 1);
	record_number(record, RECORD_BOOL, "cap_sys_ptrace", "  by CAP_SYS_PTRACE", machine->cap_sys_ptrace);
}

static void record_machine(struct record *record, const struct machine *machine)
{
	record_heading(record, "machine");
	record_text(record, "kernel", "kernel", machine->kernel);
	record_text(record, "arch", "architecture", machine->arch);
	record_number(record, RECORD_COUNT, "cpus", "processors", machine->nr_cpus);
	record_number(record, RECORD_SIZE, "memory_bytes", "memory", machine->memory_bytes);
	record_number(record, RECORD_SIZE, "memory_available_bytes", "memory available",
		      machine->memory_available_bytes);
	record_number(record, RECORD_SIZE, "swap_bytes", "the kernel's swap", machine->swap_bytes);
	record_number(record, RECORD_BOOL, "swap_zram", "the kernel's zram in use", machine->swap_zram);
	record_text(record, "thp", "transparent huge pages", text_or_null(machine->thp));
	record_number(record, RECORD_COUNT, "overcommit_memory", "vm.overcommit_memory",
		      machine->overcommit < 0 ? 0 : (u64)machine->overcommit);

	record_uffd(record, machine);

	record_heading(record, "session");
	record_number(record, RECORD_BOOL, "seccomp_available", "seccomp filters", machine->seccomp_available);
	record_number(record, RECORD_BOOL, "seccomp_active", "under a seccomp filter", machine->seccomp_active);
	record_number(record, RECORD_BOOL, "proc", "/proc", machine->proc);
	record_number(record, RECORD_BOOL, "no_new_privs", "no_new_privs", machine->no_new_privs);
	record_number(record, RECORD_SIZE, "limit_as_bytes", "address space (ulimit -v)", machine->limit_as_bytes);
	record_number(record, RECORD_BOOL, "window", "room for the window", machine->window_error == 0);
	record_number(record, RECORD_COUNT, "limit_nofile", "open files (ulimit -n)", machine->limit_nofile);
}

static void record_libraries(struct record *record, const struct machine *machine)
{
	record_heading(record, "libraries");
	record_text(record, "shim", "libweir-preload", text_or_null(machine->shim));
	record_text(record, "jemalloc", "jemalloc", text_or_null(machine->allocator[ALLOCATOR_JEMALLOC]));
	record_text(record, "mimalloc", "mimalloc", text_or_null(machine->allocator[ALLOCATOR_MIMALLOC]));
	record_text(record, "lz4", "lz4", LZ4_versionString());
	record_text(record, "zstd", "zstd", ZSTD_versionString());
}

static void record_use(struct record *record, const struct machine *machine, const struct findings *findings)
{
	bool works = !findings_are_fatal(findings);
	struct finding threads;

	record_heading(record, "weir will use");
	record_text(record, "faults", "faults", works ? "signals" : NULL);
	record_number(record, RECORD_BOOL, "faults_thread", "  threads (--faults thread)",
		      works && machine_judge_threads(machine, &threads));
	record_text(record, "vm", "pages leave by",
		    !works					 ? NULL
		    : machine->uffd.features & UFFD_FEATURE_MOVE ? "MOVE"
								 : "COPY");
	record_number(record, RECORD_BOOL, "works", NULL, works);
}

static void print_json(const struct record *record, const struct findings *findings)
{
	putchar('{');
	record_print_json(record, stdout);
	printf(", \"findings\": [");
	for (unsigned int i = 0; i < findings->nr_findings; i++) {
		const struct finding *finding = &findings->finding[i];

		printf("%s{\"key\": ", i ? ", " : "");
		json_print_string(finding->key, stdout);
		printf(", \"fatal\": %s, \"what\": ", finding->fatal ? "true" : "false");
		json_print_string(finding->what, stdout);
		printf(", \"fix\": ");
		json_print_string(finding->fix, stdout);
		putchar('}');
	}
	printf("]}\n");
}

static void print_text(const struct record *record, const struct findings *findings)
{
	record_print_text(record, stdout);
	for (unsigned int i = 0; i < findings->nr_findings; i++) {
		const struct finding *finding = &findings->finding[i];

		printf("%s: %s\n  to enable: %s\n", finding->fatal ? "missing" : "optional", finding->what,
		       finding->fix);
	}
	printf("weir run %s here\n", findings_are_fatal(findings) ? "cannot work" : "works");
}

static int cmd_probe(int argc, char **argv)
{
	static struct machine machine;
	static struct record record;
	struct findings findings;

	(void)argc;
	(void)argv;
	machine_probe(&machine);
	machine_judge(&machine, ALLOCATOR_JEMALLOC, &findings);
	record_machine(&record, &machine);
	record_libraries(&record, &machine);
	record_use(&record, &machine, &findings);
	if (as_json)
		print_json(&record, &findings);
	else
		print_text(&record, &findings);
	return cli_finish(findings_are_fatal(&findings) ? CLI_FAILED : CLI_OK, "probe");
}

const struct verb verb_probe = {
	.name = "probe",
	.help = "Show what this machine offers, and what weir will use of it",
	.synopsis = "[--json]",
	.details = "Exit status: 0 if weir run can work here, 1 if not, 2 for wrong usage.\n",
	.options = probe_options,
	.usage_status = CLI_USAGE,
	.function = cmd_probe,
};
