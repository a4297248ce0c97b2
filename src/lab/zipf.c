// SPDX-License-Identifier: MIT
#include "lab/zipf.h"

#include <math.h>

/* A prime larger than half of any number of pages, so that multiples of it modulo that number are a permutation. */
#define SCATTER 2654435761u

void zipf_init(struct zipf *zipf, u32 nr_pages, double exponent)
{
	double total = 0, sum = 1;
	u32 rank = 0;

	zipf->nr_pages = nr_pages;
	for (u32 k = 1; k <= nr_pages; k++)
		total += pow(k, -exponent);
	for (u32 i = 0; i < ZIPF_STEPS; i++) {
		/* sum: of the ranks up to and including `rank` */
		while (rank < nr_pages - 1 && sum <= total * i / ZIPF_STEPS)
			sum += pow(++rank + 1, -exponent);
		zipf->quantile[i] = rank;
	}
	zipf->quantile[ZIPF_STEPS] = nr_pages;
}

u32 zipf_page(const struct zipf *zipf, u64 *random)
{
	u64 r = random_next(random);
	u32 lo = zipf->quantile[r % ZIPF_STEPS], hi = zipf->quantile[r % ZIPF_STEPS + 1];
	u64 rank = lo + (hi > lo ? random_next(random) % (hi - lo) : 0);

	return (u32)(rank * SCATTER % zipf->nr_pages);
}
