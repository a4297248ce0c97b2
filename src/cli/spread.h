/* SPDX-License-Identifier: MIT */
/* A figure over the rounds of a bench. */
#pragma once

#include "base/types.h"

struct spread {
	double median, min, max;
};

/* Sorts `values`, of which there is one at least. */
struct spread spread_of(double *values, u64 nr);
