// SPDX-License-Identifier: MIT
/* OpenMP: a stencil, a sort and a reduction over arrays of N doubles. Prints sums, the same in every run. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	const long n = argc > 1 ? atol(argv[1]) : 0, parts = 8;
	double *a = malloc((size_t)n * sizeof(*a)), *b = malloc((size_t)n * sizeof(*b));
	uint64_t *keys = malloc((size_t)n * sizeof(*keys)), sum = 0, wrong = 0;

	if (n < 16 || !a || !b || !keys)
		return 2;
#pragma omp parallel for
	for (long i = 0; i < n; i++) {
		a[i] = (double)(i % 1024);
		keys[i] = (uint64_t)(i + 1) * 0x9e3779b97f4a7c15u;
	}
	for (int round = 0; round < 4; round++) {
		double *t = a;
#pragma omp parallel for
		for (long i = 0; i < n; i++)
			b[i] = (a[i ? i - 1 : 0] + a[i] + a[i + 1 < n ? i + 1 : i]) * 0.25;
		a = b;
		b = t;
	}
#pragma omp parallel for schedule(dynamic)
	for (long p = 0; p < parts; p++)
		qsort(keys + p * (n / parts), (size_t)(n / parts), sizeof(*keys), compare);
#pragma omp parallel for reduction(+ : sum, wrong)
	for (long i = 0; i < n; i++) {
		sum += (uint64_t)(a[i] * 256) + keys[i];
		wrong += i % (n / parts) && i < parts * (n / parts) && keys[i - 1] > keys[i];
	}
	printf("sum %llu wrong %llu\n", (unsigned long long)sum, (unsigned long long)wrong);
	free(a);
	free(b);
	free(keys);
	return wrong != 0;
}
