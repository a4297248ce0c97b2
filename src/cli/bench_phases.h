/* SPDX-License-Identifier: MIT */
/* The lines of `weir bench phases`, for who prints and who reads them. */
#pragma once

#include <stdio.h>

#include "lab/workload.h"

void phase_line_print(enum workload_phase phase, const struct workload_result *result, FILE *out);

/* False: not the line of a phase. */
bool must_check phase_line_parse(const char *line, enum workload_phase *phase, struct workload_result *result);

/* "fill,chase" to a bit per phase; NULL: all. 0, or a status after an error line. */
int must_check phases_parse(const char *text, unsigned int *phases);
