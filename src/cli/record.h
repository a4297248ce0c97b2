/* SPDX-License-Identifier: MIT */
/*
 * A list of named values, filled once and printed either as an aligned block or as one JSON object.
 *
 * Strings are borrowed: they must live as long as the record.
 */
#pragma once

#include <stdio.h>

#include "base/types.h"

enum record_kind {
	RECORD_HEADING, /* text only */
	RECORD_BOOL,
	RECORD_COUNT,
	RECORD_SIZE, /* bytes */
	RECORD_NS, /* nanoseconds */
	RECORD_REAL,
	RECORD_TEXT,
};

enum { RECORD_ROWS = 64 };

struct record_row {
	enum record_kind kind;
	const char *key; /* in JSON; NULL leaves the row out there */
	const char *label; /* in text; NULL leaves the row out there */
	u64 number;
	double real;
	const char *text; /* NULL: null in JSON, "none" in text */
	bool quiet; /* text leaves the row out while it is 0 */
	char note[64]; /* follows the value in text */
};

struct record {
	struct record_row row[RECORD_ROWS];
	unsigned int nr_rows;
};

void record_heading(struct record *record, const char *label);
/* BOOL, COUNT, SIZE or NS. The row is returned for its note. */
struct record_row *record_number(struct record *record, enum record_kind kind, const char *key, const char *label,
				 u64 number);
struct record_row *record_real(struct record *record, const char *key, const char *label, double real);
struct record_row *record_text(struct record *record, const char *key, const char *label, const char *text);

void record_print_text(const struct record *record, FILE *out);

/* "key": value, ... without the braces. */
void record_print_json(const struct record *record, FILE *out);

void json_print_string(const char *text, FILE *out);
