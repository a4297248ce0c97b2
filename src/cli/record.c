// SPDX-License-Identifier: MIT
#include "cli/record.h"

#include "base/assert.h"
#include "base/print.h"

static struct record_row *row_add(struct record *record, enum record_kind kind, const char *key, const char *label)
{
	struct record_row *row;

	must(record->nr_rows < RECORD_ROWS);
	row = &record->row[record->nr_rows++];
	*row = (struct record_row){ .kind = kind, .key = key, .label = label };
	return row;
}

void record_heading(struct record *record, const char *label)
{
	row_add(record, RECORD_HEADING, NULL, label);
}

struct record_row *record_number(struct record *record, enum record_kind kind, const char *key, const char *label,
				 u64 number)
{
	struct record_row *row = row_add(record, kind, key, label);

	row->number = number;
	return row;
}

struct record_row *record_real(struct record *record, const char *key, const char *label, double real)
{
	struct record_row *row = row_add(record, RECORD_REAL, key, label);

	row->real = real;
	return row;
}

struct record_row *record_text(struct record *record, const char *key, const char *label, const char *text)
{
	struct record_row *row = row_add(record, RECORD_TEXT, key, label);

	row->text = text;
	return row;
}

static void print_ns(u64 ns, FILE *out)
{
	if (ns < 1000)
		fprintf(out, "%llu ns", (unsigned long long)ns);
	else if (ns < 1000000)
		fprintf(out, "%.1f us", (double)ns / 1e3);
	else if (ns < 1000000000)
		fprintf(out, "%.1f ms", (double)ns / 1e6);
	else
		fprintf(out, "%.2f s", (double)ns / 1e9);
}

static void print_value(const struct record_row *row, FILE *out)
{
	char size[24];

	switch (row->kind) {
	case RECORD_HEADING:
		break;
	case RECORD_BOOL:
		fputs(row->number ? "yes" : "no", out);
		break;
	case RECORD_COUNT:
		fprintf(out, "%llu", (unsigned long long)row->number);
		break;
	case RECORD_SIZE:
		fputs(row->number == UINT64_MAX ? "unlimited" : print_size(size, sizeof(size), row->number), out);
		break;
	case RECORD_NS:
		print_ns(row->number, out);
		break;
	case RECORD_REAL:
		fprintf(out, "%.2f", row->real);
		break;
	case RECORD_TEXT:
		fputs(row->text ? row->text : "none", out);
		break;
	}
}

void record_print_text(const struct record *record, FILE *out)
{
	for (unsigned int i = 0; i < record->nr_rows; i++) {
		const struct record_row *row = &record->row[i];

		if (!row->label || (row->quiet && !row->number))
			continue;
		if (row->kind == RECORD_HEADING) {
			fprintf(out, "%s\n", row->label);
			continue;
		}
		fprintf(out, "  %-30s ", row->label);
		print_value(row, out);
		if (row->note[0])
			fprintf(out, "  (%s)", row->note);
		fputc('\n', out);
	}
}

void json_print_string(const char *text, FILE *out)
{
	fputc('"', out);
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c == '"' || *c == '\\')
			fprintf(out, "\\%c", *c);
		else if (*c < 0x20)
			fprintf(out, "\\u%04x", *c);
		else
			fputc(*c, out);
	}
	fputc('"', out);
}

static void print_json_value(const struct record_row *row, FILE *out)
{
	if (row->kind == RECORD_BOOL)
		fputs(row->number ? "true" : "false", out);
	else if (row->kind == RECORD_REAL)
		fprintf(out, "%.4f", row->real);
	else if (row->kind == RECORD_TEXT && row->text)
		json_print_string(row->text, out);
	else if (row->kind == RECORD_TEXT || (row->kind == RECORD_SIZE && row->number == UINT64_MAX))
		fputs("null", out);
	else
		fprintf(out, "%llu", (unsigned long long)row->number);
}

void record_print_json(const struct record *record, FILE *out)
{
	const char *separator = "";

	for (unsigned int i = 0; i < record->nr_rows; i++) {
		const struct record_row *row = &record->row[i];

		if (!row->key)
			continue;
		fputs(separator, out);
		json_print_string(row->key, out);
		fputs(": ", out);
		print_json_value(row, out);
		separator = ", ";
	}
}
