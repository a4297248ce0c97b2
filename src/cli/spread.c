// SPDX-License-Identifier: MIT
#include "cli/spread.h"

#include <stdlib.h>

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct spread spread_of(double *values, u64 nr)
{
	qsort(values, nr, sizeof(*values), compare_doubles);
	return (struct spread){
		.median = (values[(nr - 1) / 2] + values[nr / 2]) / 2,
		.min = values[0],
		.max = values[nr - 1],
	};
}
