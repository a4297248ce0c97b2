// SPDX-License-Identifier: MIT
#include "cli/summary.h"

#include <string.h>
#include <sys/wait.h>

#include "base/print.h"
#include "cli/record.h"
#include "swap/lower.h"

static u64 timeval_to_ns(struct timeval tv)
{
	return (u64)tv.tv_sec * 1000000000ull + (u64)tv.tv_usec * 1000;
}

static void record_processes(struct record *record, const struct run_outcome *outcome)
{
	struct record_row *row = record_number(record, RECORD_COUNT, "processes", "processes", outcome->processes);

	snprintf(row->note, sizeof(row->note), "at most %llu at once", (unsigned long long)outcome->processes_peak);
	record_number(record, RECORD_COUNT, "processes_peak", NULL, outcome->processes_peak);
	record_number(record, RECORD_COUNT, "processes_refused", "processes turned away", outcome->processes_refused)
		->quiet = true;
	record_number(record, RECORD_SIZE, "granted_peak_bytes", "peak granted to all", outcome->granted_peak);
}

static void record_outcome(struct record *record, const struct run_outcome *outcome)
{
	const struct weir_stats *stats = &outcome->stats;
	struct record_row *row;

	record_text(record, "command", NULL, outcome->command);
	if (WIFEXITED(outcome->status))
		record_number(record, RECORD_COUNT, "exit_status", NULL, (u64)WEXITSTATUS(outcome->status));
	else
		record_number(record, RECORD_COUNT, "signal", NULL, (u64)WTERMSIG(outcome->status));
	row = record_number(record, RECORD_NS, "wall_ns", "wall time", outcome->wall_ns);
	record_number(record, RECORD_NS, "user_ns", NULL, timeval_to_ns(outcome->usage.ru_utime));
	record_number(record, RECORD_NS, "system_ns", NULL, timeval_to_ns(outcome->usage.ru_stime));
	snprintf(row->note, sizeof(row->note), "user %.2f s, system %.2f s",
		 (double)timeval_to_ns(outcome->usage.ru_utime) / 1e9,
		 (double)timeval_to_ns(outcome->usage.ru_stime) / 1e9);
	record_number(record, RECORD_SIZE, "rss_peak_bytes", "peak RSS of the command",
		      (u64)outcome->usage.ru_maxrss << 10);
	record_number(record, RECORD_SIZE, "limit_memory_bytes", "limit of memory", stats->limit_memory)->quiet = true;
	record_number(record, RECORD_SIZE, "limit_resident_bytes", "limit of resident memory", stats->limit_resident)
		->quiet = true;
	record_number(record, RECORD_BOOL, "limit_shared", NULL, outcome->shared);
	if (outcome->shared)
		record_processes(record, outcome);
	record_number(record, RECORD_BOOL, "reported", NULL, outcome->reported);
	record_number(record, RECORD_BOOL, "adopted", NULL, stats->adopted);
}

static void record_memory(struct record *record, const struct weir_stats *stats)
{
	double ratio = stats->stored_peak ? (double)stats->swapped_at_peak / (double)stats->stored_peak : 0;
	struct record_row *row;
	char size[24];

	record_number(record, RECORD_SIZE, "total_peak_bytes", "peak managed total", stats->total_peak);
	record_number(record, RECORD_SIZE, "resident_peak_bytes", "peak resident", stats->resident_peak);
	row = record_number(record, RECORD_SIZE, "stored_peak_bytes", "peak compressed", stats->stored_peak);
	record_number(record, RECORD_SIZE, "swapped_at_peak_bytes", NULL, stats->swapped_at_peak);
	if (ratio > 0) {
		snprintf(row->note, sizeof(row->note), "holding %s, ratio %.2f",
			 print_size(size, sizeof(size), stats->swapped_at_peak), ratio);
		record_real(record, "ratio", NULL, ratio);
	}
}

static void record_pages(struct record *record, const struct weir_stats *stats)
{
	record_number(record, RECORD_COUNT, "pages_in", "pages in", stats->pages_in);
	record_number(record, RECORD_COUNT, "pages_ahead", "pages in by readahead", stats->pages_ahead);
	record_number(record, RECORD_COUNT, "pages_out", "pages out", stats->pages_out);
	record_number(record, RECORD_COUNT, "pages_out_clean", "pages left clean", stats->pages_out_clean);
	record_number(record, RECORD_COUNT, "faults_zero", "faults: first touch", stats->faults_zero);
	record_number(record, RECORD_COUNT, "faults_write", "faults: write to clean", stats->faults_write);
	record_number(record, RECORD_COUNT, "faults_direct", "faults: swap-in, direct", stats->faults_direct);
	record_number(record, RECORD_COUNT, "faults_cached", "faults: swap-in, cached", stats->faults_cached);
	record_number(record, RECORD_COUNT, "faults_spurious", "faults: served already", stats->faults_spurious);
	record_number(record, RECORD_COUNT, "pin_waits", "pin waits", stats->pin_waits);
	record_number(record, RECORD_COUNT, "reclaim_direct", "reclaim in faults", stats->reclaim_direct);
	record_number(record, RECORD_COUNT, "reclaim_background", "reclaim in background", stats->reclaim_background);
	record_number(record, RECORD_COUNT, "pages_compacted", "pages compacted", stats->pages_compacted)->quiet = true;
	record_number(record, RECORD_SIZE, "compact_freed_bytes", "freed by compaction", stats->compact_freed)
		->quiet = true;
	record_number(record, RECORD_COUNT, "read_errors", "read errors", stats->read_errors)->quiet = true;
	record_number(record, RECORD_COUNT, "write_errors", "write errors", stats->write_errors)->quiet = true;
	record_number(record, RECORD_COUNT, "pages_vanished", "pages that vanished", stats->pages_vanished)
		->quiet = true;
	record_number(record, RECORD_COUNT, "moves_unreported", "moves that the kernel did not tell of",
		      stats->moves_unreported)
		->quiet = true;
}

static void record_times(struct record *record, const struct run_outcome *outcome)
{
	const struct weir_stats *stats = &outcome->stats;
	struct record_row *row = record_number(record, RECORD_NS, "fault_time_ns", "time in faults",
					       stats->fault_time_ns);

	if (outcome->wall_ns)
		snprintf(row->note, sizeof(row->note), "%.1f %% of wall time, all threads",
			 100.0 * (double)stats->fault_time_ns / (double)outcome->wall_ns);
	record_number(record, RECORD_NS, "fault_p50_ns", "time per fault: p50", stats->fault_p50_ns);
	record_number(record, RECORD_NS, "fault_p99_ns", "time per fault: p99", stats->fault_p99_ns);
	record_number(record, RECORD_NS, "fault_max_ns", "time per fault: max", stats->fault_max_ns);
}

static const struct call_names {
	const char *calls, *pages, *errors, *p50_ns, *p99_ns, *max_ns; /* in JSON */
	const char *label, *label_p50, *label_p99, *label_max;
} call_names[] = {
	{ "device_reads", "device_read_pages", "device_read_errors", "device_read_p50_ns", "device_read_p99_ns",
	  "device_read_max_ns", "device reads", "time per read: p50", "time per read: p99", "time per read: max" },
	{ "device_writes", "device_write_pages", "device_write_errors", "device_write_p50_ns", "device_write_p99_ns",
	  "device_write_max_ns", "device writes", "time per write: p50", "time per write: p99", "time per write: max" },
};

static void record_calls(struct record *record, const struct swap_op_times *t, const struct call_names *names)
{
	u64 calls = swap_times_calls(t), pages = atomic64_read(&t->pages), errors = atomic64_read(&t->errors);
	struct record_row *row;

	if (!calls)
		return;
	row = record_number(record, RECORD_COUNT, names->calls, names->label, calls);
	snprintf(row->note, sizeof(row->note), "%llu pages, %llu failed", (unsigned long long)pages,
		 (unsigned long long)errors);
	record_number(record, RECORD_COUNT, names->pages, NULL, pages);
	record_number(record, RECORD_COUNT, names->errors, NULL, errors);
	record_number(record, RECORD_NS, names->p50_ns, names->label_p50, swap_times_percentile(t, 50));
	record_number(record, RECORD_NS, names->p99_ns, names->label_p99, swap_times_percentile(t, 99));
	record_number(record, RECORD_NS, names->max_ns, names->label_max, atomic64_read(&t->ns_max));
}

/* What has gone from zram to the device below it, and come back. */
static void record_lower(struct record *record, const struct lower_counts *lower)
{
	u64 objects = atomic64_read(&lower->objects_down), pages = atomic64_read(&lower->pages_down);
	struct record_row *row;

	if (!objects && !pages)
		return;
	row = record_number(record, RECORD_COUNT, "lower_objects", "pages to the lower device", objects);
	snprintf(row->note, sizeof(row->note), "in %llu pages of it", (unsigned long long)pages);
	record_number(record, RECORD_SIZE, "lower_written_bytes", NULL, pages_to_bytes(pages));
	record_number(record, RECORD_COUNT, "lower_reads", "pages read from it", atomic64_read(&lower->pages_up));
	record_number(record, RECORD_COUNT, "recompressed", "pages recompressed on the way",
		      atomic64_read(&lower->recompressed));
	record_number(record, RECORD_SIZE, "recompress_saved_bytes", "saved by that",
		      atomic64_read(&lower->bytes_saved));
	record_number(record, RECORD_COUNT, "lower_errors", "writes to it that failed", atomic64_read(&lower->errors))
		->quiet = true;
}

static void print_heading(const struct run_outcome *outcome, FILE *out)
{
	if (WIFEXITED(outcome->status))
		fprintf(out, "weir: run: %s ended with status %d\n", outcome->command, WEXITSTATUS(outcome->status));
	else
		fprintf(out, "weir: run: %s was ended by signal %d (%s)\n", outcome->command, WTERMSIG(outcome->status),
			strsignal(WTERMSIG(outcome->status)));
}

void summary_print(const struct run_outcome *outcome, bool json, FILE *out)
{
	struct record record = { 0 };

	record_outcome(&record, outcome);
	if (json || outcome->stats.adopted) {
		record_memory(&record, &outcome->stats);
		record_pages(&record, &outcome->stats);
		record_times(&record, outcome);
		if (outcome->lower)
			record_lower(&record, outcome->lower);
		if (outcome->times) {
			record_calls(&record, &outcome->times->read, &call_names[0]);
			record_calls(&record, &outcome->times->write, &call_names[1]);
		}
	}
	if (json) {
		fputc('{', out);
		record_print_json(&record, out);
		fputs("}\n", out);
		return;
	}
	print_heading(outcome, out);
	record_print_text(&record, out);
	if (!outcome->reported)
		fputs("  no counters: weir was not loaded, or the program was replaced by another\n",
		      out);
	else if (!outcome->stats.adopted)
		fputs("  the program stayed below the limit and was not touched\n", out);
}
