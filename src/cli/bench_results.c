// SPDX-License-Identifier: MIT
#include "cli/bench_results.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/os.h"
#include "base/print.h"
#include "cli/record.h"
#include "cli/undo.h"
#include "weir.h"

const char *const bench_row_names[NR_ROWS] = { "kernel", "weir --memory", "weir --resident" };

const double bench_goals[NR_PHASES] = {
	[PHASE_FILL] = 1.3,	  [PHASE_SEQ_READ] = 6,	    [PHASE_SEQ_WRITE] = 2,
	[PHASE_RAND_READ] = 2,	  [PHASE_RAND_WRITE] = 1.5, [PHASE_ZIPF_READ] = 1.2,
	[PHASE_ZIPF_WRITE] = 1.2, [PHASE_STRIDED] = 2,	    [PHASE_CHASE] = 1,
};

struct bench_run *results_run(const struct bench_results *results, u64 round, unsigned int count, enum bench_row row)
{
	return &results->runs[(round * results->nr_counts + count) * NR_ROWS + row];
}

bool results_has_phase(const struct bench_results *results, enum workload_phase phase)
{
	return results->phases & 1u << phase;
}

struct spread results_spread(const struct bench_results *results, unsigned int count, enum bench_row row,
			     enum workload_phase phase, figure_fn figure)
{
	double values[ROUNDS_MAX];

	for (u64 r = 0; r < results->rounds; r++)
		values[r] = figure(results_run(results, r, count, row), phase);
	return spread_of(values, results->rounds);
}

static double us_per_access(const struct bench_run *run, enum workload_phase phase)
{
	return workload_us(run->phase[phase].wall_ns, run->phase[phase].accesses);
}

static double cpu_per_access(const struct bench_run *run, enum workload_phase phase)
{
	return workload_us(run->phase[phase].cpu_ns, run->phase[phase].accesses);
}

struct spread results_ratio(const struct bench_results *results, unsigned int count, enum bench_row row,
			    enum workload_phase phase)
{
	double values[ROUNDS_MAX];

	for (u64 r = 0; r < results->rounds; r++) {
		double us = us_per_access(results_run(results, r, count, row), phase);
		double kernel_us = us_per_access(results_run(results, r, count, ROW_KERNEL), phase);

		values[r] = us > 0 ? kernel_us / us : 0;
	}
	return spread_of(values, results->rounds);
}

static bool has_ratios(const struct bench_results *results)
{
	return results->has_row[ROW_KERNEL] && results->has_row[ROW_MEMORY];
}

/* ---- text ---- */

/* Three digits. */
static const char *print_short(char *buf, size_t size, double value)
{
	snprintf(buf, size, "%.*f", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value);
	return buf;
}

/* A line of columns, without white space at its end. */
struct line {
	FILE *out;
	int pad; /* what the last column wants behind it */
};

static void print_column(struct line *line, int width, const char *text)
{
	int len = fprintf(line->out, "%*s%s", line->pad, "", text) - line->pad;

	line->pad = len < width ? width - len + 2 : 2;
}

static void end_line(struct line *line)
{
	fputc('\n', line->out);
	line->pad = 0;
}

enum { NAME_WIDTH = 12, SPREAD_WIDTH = 23, TIMES_WIDTH = 38 };

static void print_spread(struct line *line, struct spread s)
{
	char a[24], b[24], c[24], text[96];

	print_short(text, sizeof(text), s.median);
	if (s.min < s.max)
		snprintf(text, sizeof(text), "%s (%s to %s)", print_short(a, sizeof(a), s.median),
			 print_short(b, sizeof(b), s.min), print_short(c, sizeof(c), s.max));
	print_column(line, SPREAD_WIDTH, text);
}

static void print_row_names(const struct bench_results *results, struct line *line, const char *first, int width,
			    bool ratios)
{
	print_column(line, NAME_WIDTH, first);
	for (unsigned int row = 0; row < NR_ROWS; row++) {
		if (!results->has_row[row])
			continue;
		print_column(line, width, bench_row_names[row]);
		if (ratios && row != ROW_KERNEL)
			print_column(line, width, "ratio");
	}
	end_line(line);
}

static void print_speed(const struct bench_results *results, unsigned int count, FILE *out)
{
	bool ratios = has_ratios(results);
	struct line line = { .out = out };

	fprintf(out, "\n%llu thread%s: us per access, of all threads together%s\n",
		(unsigned long long)results->threads[count], results->threads[count] == 1 ? "" : "s",
		ratios ? "; ratio: kernel / weir, above 1 weir is faster" : "");
	print_row_names(results, &line, "phase", SPREAD_WIDTH, ratios);
	for (unsigned int p = 0; p < NR_PHASES; p++) {
		if (!results_has_phase(results, p))
			continue;
		print_column(&line, NAME_WIDTH, workload_phase_names[p]);
		for (unsigned int row = 0; row < NR_ROWS; row++) {
			if (!results->has_row[row])
				continue;
			print_spread(&line, results_spread(results, count, row, p, us_per_access));
			if (ratios && row != ROW_KERNEL)
				print_spread(&line, results_ratio(results, count, row, p));
		}
		end_line(&line);
	}
}

static double p50_us(const struct bench_run *run, enum workload_phase phase)
{
	return (double)run->phase[phase].p50_ns / 1e3;
}

static double p99_us(const struct bench_run *run, enum workload_phase phase)
{
	return (double)run->phase[phase].p99_ns / 1e3;
}

static double p999_us(const struct bench_run *run, enum workload_phase phase)
{
	return (double)run->phase[phase].p999_ns / 1e3;
}

static double max_us(const struct bench_run *run, enum workload_phase phase)
{
	return (double)run->phase[phase].max_ns / 1e3;
}

static double slow_percent(const struct bench_run *run, enum workload_phase phase)
{
	const struct workload_result *r = &run->phase[phase];

	return r->accesses ? 100.0 * (double)r->slow / (double)r->accesses : 0;
}

static void print_fault_times(const struct bench_results *results, unsigned int count, FILE *out)
{
	struct line line = { .out = out };

	fprintf(out, "\nfaults: accesses of 1 us or more, %% of all; their p50 / p99 / p99.9 / max, us\n");
	print_row_names(results, &line, "phase", TIMES_WIDTH, false);
	for (unsigned int p = 0; p < NR_PHASES; p++) {
		if (!results_has_phase(results, p))
			continue;
		print_column(&line, NAME_WIDTH, workload_phase_names[p]);
		for (unsigned int row = 0; row < NR_ROWS; row++) {
			char a[24], b[24], c[24], d[24], text[128];

			if (!results->has_row[row])
				continue;
			snprintf(text, sizeof(text), "%5.1f %%  %s / %s / %s / %s",
				 results_spread(results, count, row, p, slow_percent).median,
				 print_short(a, sizeof(a), results_spread(results, count, row, p, p50_us).median),
				 print_short(b, sizeof(b), results_spread(results, count, row, p, p99_us).median),
				 print_short(c, sizeof(c), results_spread(results, count, row, p, p999_us).median),
				 print_short(d, sizeof(d), results_spread(results, count, row, p, max_us).max));
			print_column(&line, TIMES_WIDTH, text);
		}
		end_line(&line);
	}
}

static void print_cpu(const struct bench_results *results, unsigned int count, FILE *out)
{
	struct line line = { .out = out };

	fprintf(out, "\nCPU time of all threads, us per access\n");
	print_row_names(results, &line, "phase", SPREAD_WIDTH, false);
	for (unsigned int p = 0; p < NR_PHASES; p++) {
		if (!results_has_phase(results, p))
			continue;
		print_column(&line, NAME_WIDTH, workload_phase_names[p]);
		for (unsigned int row = 0; row < NR_ROWS; row++) {
			if (results->has_row[row])
				print_spread(&line, results_spread(results, count, row, p, cpu_per_access));
		}
		end_line(&line);
	}
}

#define MIB(field)                                                                                                     \
	static double field##_mib(const struct bench_run *run, enum workload_phase phase)                              \
	{                                                                                                              \
		(void)phase;                                                                                           \
		return (double)run->field / (1 << 20);                                                                 \
	}
#define SECONDS(field)                                                                                                 \
	static double field##_seconds(const struct bench_run *run, enum workload_phase phase)                          \
	{                                                                                                              \
		(void)phase;                                                                                           \
		return (double)run->field / 1e9;                                                                       \
	}
MIB(limit)
MIB(resident_peak)
MIB(stored_peak)
MIB(total_peak)
SECONDS(cpu_ns)
SECONDS(kswapd_ns)
SECONDS(wall_ns)

static const struct {
	const char *name;
	figure_fn figure;
} totals[] = {
	{ "limit, MiB", limit_mib },	    { "resident", resident_peak_mib }, { "compressed", stored_peak_mib },
	{ "together", total_peak_mib },	    { "wall, s", wall_ns_seconds },    { "CPU, s", cpu_ns_seconds },
	{ "kswapd, s", kswapd_ns_seconds },
};

static void print_totals(const struct bench_results *results, unsigned int count, FILE *out)
{
	struct line line = { .out = out };

	fprintf(out, "\nwhole runs: peaks of memory, and time\n");
	print_row_names(results, &line, "", SPREAD_WIDTH, false);
	for (size_t i = 0; i < ARRAY_SIZE(totals); i++) {
		print_column(&line, NAME_WIDTH, totals[i].name);
		for (unsigned int row = 0; row < NR_ROWS; row++) {
			if (results->has_row[row])
				print_spread(&line, results_spread(results, count, row, 0, totals[i].figure));
		}
		end_line(&line);
	}
}

static void print_oom_kills(const struct bench_results *results, FILE *out)
{
	u64 sum = 0;

	for (u64 round = 0; round < results->rounds; round++) {
		for (unsigned int count = 0; count < results->nr_counts; count++)
			sum += results_run(results, round, count, ROW_KERNEL)->oom_kills;
	}
	if (sum)
		fprintf(out,
			"\nthe kernel ended %llu more runs for want of memory, with swap to spare: they were "
			"repeated\n",
			(unsigned long long)sum);
}

static const char *cpu_model(char *buf, size_t size)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[256];

	snprintf(buf, size, "unknown CPU");
	while (f && fgets(line, sizeof(line), f)) {
		const char *value = strstr(line, ": ");

		if (!strncmp(line, "model name", 10) && value) {
			snprintf(buf, size, "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
			break;
		}
	}
	if (f)
		fclose(f);
	return buf;
}

void results_print_text(const struct bench_results *results, FILE *out)
{
	struct utsname uts;
	char model[128], size[24];

	uname(&uts);
	fprintf(out, "machine: %u x %s, Linux %s; weir %s\n", os_nr_cpus(), cpu_model(model, sizeof(model)),
		uts.release, WEIR_VERSION);
	fprintf(out, "command: %s\n", results->command);
	fprintf(out, "working set: %s, one page in ten zero, the rest of %s\n",
		print_size(size, sizeof(size), results->size), results->data);
	fprintf(out,
		"medians (least to most) of %llu round%s, in which the rows take turns; %s; each page was verified\n",
		(unsigned long long)results->rounds, results->rounds == 1 ? "" : "s", results->algo);
	for (unsigned int count = 0; count < results->nr_counts; count++) {
		print_speed(results, count, out);
		print_fault_times(results, count, out);
		print_cpu(results, count, out);
		print_totals(results, count, out);
	}
	print_oom_kills(results, out);
	fprintf(out, "\ntimes of accesses: time stamp counter, one reading an access, error below 4 %%\n"
		     "peaks: kernel, the cgroup's and zram's own; weir, as --stats has them\n"
		     "CPU: kernel, the cgroup's, and kswapd's beside it; weir, of all its processes and threads\n");
}

/* ---- JSON ---- */

static void json_run(const struct bench_results *results, u64 round, unsigned int count, enum bench_row row, FILE *out)
{
	const struct bench_run *run = results_run(results, round, count, row);
	const char *separator = "";

	fprintf(out,
		"{\"row\": \"%s\", \"threads\": %llu, \"round\": %llu, \"limit_bytes\": %llu, "
		"\"resident_peak_bytes\": %llu, \"stored_peak_bytes\": %llu, \"total_peak_bytes\": %llu, "
		"\"wall_ns\": %llu, \"cpu_ns\": %llu, \"kswapd_ns\": %llu, \"oom_kills\": %llu, \"phases\": {",
		bench_row_names[row], (unsigned long long)results->threads[count], (unsigned long long)round + 1,
		(unsigned long long)run->limit, (unsigned long long)run->resident_peak,
		(unsigned long long)run->stored_peak, (unsigned long long)run->total_peak,
		(unsigned long long)run->wall_ns, (unsigned long long)run->cpu_ns, (unsigned long long)run->kswapd_ns,
		(unsigned long long)run->oom_kills);
	for (unsigned int p = 0; p < NR_PHASES; p++) {
		const struct workload_result *r = &run->phase[p];

		if (!results_has_phase(results, p))
			continue;
		fprintf(out,
			"%s\"%s\": {\"accesses\": %llu, \"wall_ns\": %llu, \"cpu_ns\": %llu, \"faults\": %llu, "
			"\"p50_ns\": %llu, \"p99_ns\": %llu, \"p999_ns\": %llu, \"max_ns\": %llu}",
			separator, workload_phase_names[p], (unsigned long long)r->accesses,
			(unsigned long long)r->wall_ns, (unsigned long long)r->cpu_ns, (unsigned long long)r->slow,
			(unsigned long long)r->p50_ns, (unsigned long long)r->p99_ns, (unsigned long long)r->p999_ns,
			(unsigned long long)r->max_ns);
		separator = ", ";
	}
	fputs("}}", out);
}

static void json_ratios(const struct bench_results *results, FILE *out)
{
	const char *separator = "";

	for (unsigned int count = 0; count < results->nr_counts && has_ratios(results); count++) {
		for (unsigned int row = ROW_MEMORY; row < NR_ROWS; row++) {
			for (unsigned int p = 0; p < NR_PHASES; p++) {
				struct spread s = results_ratio(results, count, row, p);

				if (!results_has_phase(results, p))
					continue;
				fprintf(out,
					"%s{\"row\": \"%s\", \"threads\": %llu, \"phase\": \"%s\", \"median\": %.4f, "
					"\"min\": %.4f, \"max\": %.4f}",
					separator, bench_row_names[row], (unsigned long long)results->threads[count],
					workload_phase_names[p], s.median, s.min, s.max);
				separator = ",\n ";
			}
		}
	}
}

static void json_string(const char *key, const char *value, FILE *out)
{
	fprintf(out, "\"%s\": ", key);
	json_print_string(value, out);
	fputs(", ", out);
}

static void json_machine(FILE *out)
{
	static const struct {
		const char *key, *path;
	} files[] = {
		{ "thp", "/sys/kernel/mm/transparent_hugepage/enabled" },
		{ "swappiness", "/proc/sys/vm/swappiness" },
		{ "page_cluster", "/proc/sys/vm/page-cluster" },
	};
	struct utsname uts;
	char text[256];

	uname(&uts);
	json_string("cpu", cpu_model(text, sizeof(text)), out);
	fprintf(out, "\"cpus\": %u, ", os_nr_cpus());
	json_string("kernel", uts.release, out);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		json_string(files[i].key, file_line(files[i].path, text, sizeof(text)), out);
	json_string("weir", WEIR_VERSION, out);
}

void results_print_json(const struct bench_results *results, FILE *out)
{
	const char *separator = "";

	fputc('{', out);
	json_machine(out);
	json_string("command", results->command, out);
	json_string("data", results->data, out);
	json_string("algo", results->algo, out);
	if (results->missing[0])
		json_string("missing", results->missing, out);
	fprintf(out, "\"size_bytes\": %llu, \"rounds\": %llu, \"timed_ns\": %llu, \"fault_ns_min\": %d,\n\"runs\": [",
		(unsigned long long)results->size, (unsigned long long)results->rounds,
		(unsigned long long)results->timed_ns, WORKLOAD_SLOW_NS);
	for (u64 round = 0; round < results->rounds; round++) {
		for (unsigned int count = 0; count < results->nr_counts; count++) {
			for (unsigned int row = 0; row < NR_ROWS; row++) {
				if (!results->has_row[row])
					continue;
				fputs(separator, out);
				json_run(results, round, count, row, out);
				separator = ",\n ";
			}
		}
	}
	fputs("],\n\"ratios\": [", out);
	json_ratios(results, out);
	fputs("]}\n", out);
}
