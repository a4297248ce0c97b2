// SPDX-License-Identifier: MIT
/*
 * The parts of the command line that need no process: options, the verdict on machines that we do not have, and the
 * summary of counters that nobody counted.
 */
#include <errno.h>

#include "cli/machine.h"
#include "cli/options.h"
#include "cli/record.h"
#include "cli/summary.h"
#include "test.h"
#include "vm/uffd_abi.h"

static struct {
	u64 size;
	const char *text;
	bool flag;
	int choice;
} values;

static const char *const choices[] = { "red", "green", NULL };

static const struct option_spec specs[] = {
	{ .name = "size", .kind = OPTION_SIZE, .argument = "SIZE", .min = 4096, .value = &values.size, .help = "" },
	{ .name = "text", .kind = OPTION_STRING, .argument = "TEXT", .value = &values.text, .help = "a text" },
	{ .name = "flag", .kind = OPTION_FLAG, .value = &values.flag, .help = "a flag" },
	{ .name = "choice", .kind = OPTION_CHOICE, .choices = choices, .bare = "green", .value = &values.choice },
	{ 0 },
};

/* Words separated by single spaces; the first is the verb. Returns the index of the first word after the options. */
static int parse(const char *line, struct options_parsed *parsed)
{
	static char copy[128];
	char *argv[16], *save = NULL;
	int argc = 0;

	snprintf(copy, sizeof(copy), "%s", line);
	memset(&values, 0, sizeof(values));
	for (char *word = strtok_r(copy, " ", &save); word && argc < 15; word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	argv[argc] = NULL;
	if (options_parse(specs, argc, argv, parsed) < 0)
		return -EINVAL;
	return parsed->first;
}

static void test_options(void)
{
	struct options_parsed parsed;

	expect_eq(parse("verb", &parsed), 1);
	expect_eq(parse("verb --size 1M --text=a=b --flag --choice rest", &parsed), 6);
	expect_eq(values.size, 1 << 20);
	expect(!strcmp(values.text, "a=b"));
	expect(values.flag);
	expect_eq(values.choice, 1);
	expect_eq(parse("verb --choice=green --choice=red", &parsed), 3);
	expect_eq(values.choice, 0);
	expect_eq(parse("verb --size=8K --size=64K -- --flag", &parsed), 4);
	expect_eq(values.size, 65536);
	expect(!values.flag);
	expect_eq(parse("verb --flag word --size 1", &parsed), 2);
	expect(!parsed.help);
	parse("verb --flag --help --nope", &parsed);
	expect(parsed.help);
}

static void test_option_errors(void)
{
	static const struct {
		const char *line, *error;
	} cases[] = {
		{ "verb --nope", "unknown option '--nope'; `weir verb --help` lists the options" },
		{ "verb --size", "--size needs a value" },
		{ "verb --size=", "--size: '' is not a size" },
		{ "verb --size 4095", "--size: 4095 is too small; the smallest size is 4K" },
		{ "verb --flag=1", "--flag takes no value" },
		{ "verb --choice=blue", "--choice: unknown value 'blue'; give one of red|green" },
		{ "verb -", "unknown option '-'" },
	};
	struct options_parsed parsed;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		expect_eq(parse(cases[i].line, &parsed), -EINVAL);
		expect(!strncmp(parsed.error, cases[i].error, strlen(cases[i].error)));
	}
}

/* Everything is there. */
static struct machine good_machine(void)
{
	struct machine machine = {
		.kernel = "6.8.0",
		.arch = "x86_64",
		.uffd.features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MOVE,
		.uffd_kernel_mode = true,
		.proc = true,
		.seccomp_available = true,
		.limit_as_bytes = UINT64_MAX,
		.limit_data_bytes = UINT64_MAX,
		.limit_nofile = 1024,
		.shim = "/lib/libweir-preload.so",
		.allocator = { "/lib/libjemalloc.so.2", "/lib/libmimalloc.so.2" },
	};

	return machine;
}

static void expect_finding(const struct machine *machine, bool fatal, const char *key, const char *what,
			   const char *fix)
{
	struct findings findings;

	machine_judge(machine, ALLOCATOR_JEMALLOC, &findings);
	expect_eq(findings.nr_findings, 1);
	expect_eq(findings_are_fatal(&findings), fatal);
	expect(!strcmp(findings.finding[0].key, key));
	expect(strstr(findings.finding[0].what, what));
	expect(strstr(findings.finding[0].fix, fix));
}

static void test_judge(void)
{
	struct machine machine = good_machine();
	struct findings findings;

	machine_judge(&machine, ALLOCATOR_JEMALLOC, &findings);
	expect_eq(findings.nr_findings, 0);
	expect(!findings_are_fatal(&findings));

	machine.uffd_kernel_mode = false;
	expect_finding(&machine, false, "userfaultfd_kernel_mode", "--faults thread needs", "_userfaultfd=1");
	machine.uffd_kernel_mode = true;
	machine.uffd.features &= ~(u64)UFFD_FEATURE_MOVE;
	expect_finding(&machine, false, "move", "no UFFDIO_MOVE", "6.8");
	machine.uffd.features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MOVE;
	expect_finding(&machine, true, "userfaultfd_features", "without write protection", "boot");
	machine.uffd = (struct machine_uffd){ .error = ENOSYS };
	expect_finding(&machine, true, "userfaultfd", "6.8.0) has no userfaultfd", "CONFIG_USERFAULTFD");
	machine.uffd.error = EPERM;
	expect_finding(&machine, true, "userfaultfd", "security module", "policy");
	machine.seccomp_active = true;
	expect_finding(&machine, true, "userfaultfd", "seccomp filter", "seccomp=unconfined");
	machine.uffd.error = EINVAL;
	expect_finding(&machine, true, "userfaultfd", "too old", "5.11");
}

static void test_judge_session(void)
{
	struct machine machine = good_machine();

	machine.limit_as_bytes = 1ull << 40;
	expect_finding(&machine, true, "limit_as", "1048576 MiB", "ulimit -v unlimited");
	machine = good_machine();
	machine.window_error = ENOMEM;
	machine.limit_data_bytes = 1ull << 30;
	expect_finding(&machine, true, "limit_data", "1024 MiB", "ulimit -d unlimited");
	machine.limit_data_bytes = UINT64_MAX;
	machine.overcommit = 2;
	expect_finding(&machine, true, "window", "cannot be reserved", "vm.overcommit_memory=0");
	machine = good_machine();
	machine.proc = false;
	expect_finding(&machine, true, "proc", "/proc is missing", "mount -t proc");
	machine.proc = true;

	machine.seccomp_available = false;
	expect_finding(&machine, true, "seccomp", "seccomp filters", "CONFIG_SECCOMP_FILTER");
	machine = good_machine();
	machine.allocator[ALLOCATOR_JEMALLOC][0] = '\0';
	expect_finding(&machine, true, "jemalloc", "not found", "apt-get install libjemalloc2");
	machine = good_machine();
	machine.allocator[ALLOCATOR_MIMALLOC][0] = '\0';
	expect_finding(&machine, false, "mimalloc", "not found", "apt-get install libmimalloc2.0");
	machine = good_machine();
	machine.shim[0] = '\0';
	expect_finding(&machine, true, "shim", "not found", "make");
}

static char *summary_to_text(const struct run_outcome *outcome, bool json)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	expect(out);
	summary_print(outcome, json, out);
	fclose(out);
	return text;
}

static void expect_summary(const struct run_outcome *outcome, bool json, const char *part)
{
	char *text = summary_to_text(outcome, json);

	if (!strstr(text, part)) {
		fprintf(stderr, "'%s' is not in:\n%s", part, text);
		exit(1);
	}
	free(text);
}

static void test_summary(void)
{
	static struct swap_times times;
	char *text;
	struct run_outcome outcome = {
		.command = "a \"b\"\n",
		.status = 3 << 8,
		.wall_ns = 2000000000,
		.usage.ru_maxrss = 100 << 10,
		.reported = true,
		.stats = {
			.limit_memory = 64 << 20,
			.stored_peak = 10 << 20,
			.swapped_at_peak = 30 << 20,
			.pages_in = 12345,
			.fault_time_ns = 500000000,
			.fault_p50_ns = 9300,
		},
	};

	expect_summary(&outcome, false, "ended with status 3\n");
	expect_summary(&outcome, false, "stayed below the limit and was not touched\n");
	expect_summary(&outcome, true, "\"command\": \"a \\\"b\\\"\\u000a\"");
	outcome.stats.adopted = 1;
	expect_summary(&outcome, false, "  peak RSS of the command        100M\n");
	expect_summary(&outcome, false, "  peak compressed                10M  (holding 30M, ratio 3.00)\n");
	expect_summary(&outcome, false, "  pages in                       12345\n");
	expect_summary(&outcome, false, "  time in faults                 500.0 ms  (25.0 % of wall time,");
	expect_summary(&outcome, false, "  time per fault: p50            9.3 us\n");
	expect_summary(&outcome, true, "\"ratio\": 3.0000");
	expect_summary(&outcome, true, "\"limit_shared\": false, \"reported\"");
	outcome.times = &times;
	text = summary_to_text(&outcome, true);
	expect(!strstr(text, "device_"));
	free(text);
	atomic64_set(&times.read.calls[14], 3);
	atomic64_set(&times.read.pages, 40);
	atomic64_set(&times.read.ns_max, 20000);
	expect_summary(&outcome, false, "  device reads                   3  (40 pages, 0 failed)\n");
	expect_summary(&outcome, false, "  time per read: p50             16.4 us\n");
	expect_summary(&outcome, true, "\"device_read_max_ns\": 20000");
	outcome.shared = true;
	outcome.processes = 7;
	outcome.processes_peak = 3;
	outcome.granted_peak = 60 << 20;
	expect_summary(&outcome, false, "  processes                      7  (at most 3 at once)\n");
	expect_summary(&outcome, false, "  peak granted to all            60M\n");
	expect_summary(&outcome, true, "\"processes_refused\": 0");
	outcome.status = 9;
	expect_summary(&outcome, false, "was ended by signal 9 (Killed)\n");
	outcome.reported = false;
	expect_summary(&outcome, false, "no counters: weir was not loaded");
}

int main(void)
{
	run_test(test_options);
	run_test(test_option_errors);
	run_test(test_judge);
	run_test(test_judge_session);
	run_test(test_summary);
	return 0;
}
